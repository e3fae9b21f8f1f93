/* assign: deals the partitions of a group's topics to its members, as Java's range, roundrobin and
 * cooperative-sticky assignors do, so that any member of a mixed group may be the one that deals.
 *
 *   range               each topic by itself: neighbouring partitions, the first members get the
 *                       odd ones
 *   roundrobin          all partitions, topic by topic, one member after the other
 *   cooperative-sticky  as even as subscriptions allow, moving as little as that takes; a partition
 *                       that moves is dealt to nobody until its owner has given it up
 *
 * Static members come before others and are ordered by their instance ids, others by their member
 * ids. Pure: no state, no clock; any thread.
 */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

enum assignor { ASSIGN_RANGE, ASSIGN_ROUNDROBIN, ASSIGN_COOPERATIVE_STICKY, ASSIGN_COUNT };

const char *assignor_name(enum assignor a);
bool assignor_find(struct str name, enum assignor *ret_assignor);

struct assign_topic {
    struct str name; /* borrowed */
    int32_t count;   /* partitions */
};

struct assign_pair {
    int32_t topic; /* index among the topics */
    int32_t partition;
};

struct assign_member {
    struct str id;                   /* borrowed */
    struct str instance_id;          /* borrowed; null: not a static member */
    const int32_t *topics;           /* borrowed; indexes of what it subscribes to, ascending */
    int32_t topic_count;             /* of them */
    const struct assign_pair *owned; /* borrowed; what it says it has; pairs that exist */
    int32_t owned_count;             /* of them */
    int32_t generation;              /* that it says so of; -1: not known */
    struct assign_pair *dealt;       /* the result, in the arena, by topic and partition */
    int32_t dealt_count;             /* of them */
};

/* `topics` ascend by name. ERR_MEMORY. */
err assign_deal(enum assignor assignor, const struct assign_topic *topics, int32_t topic_count,
                struct assign_member *members, int32_t member_count, struct arena *a);

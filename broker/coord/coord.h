/* coord: runs the consumer groups of a shard.
 *
 * Between api/ and the pure state machine of group/: it finds or makes the group of a request,
 * hands it the event and the time, appends the records that it asks for to `__consumer_offsets`,
 * applies them when they are durable, wakes groups at their deadlines, and carries answers back to
 * who waits for them. It alone encodes and replays the records of that topic, which have Kafka's
 * own format and are kept in the partition that Kafka would choose.
 *
 * A group is the shard's that has its partition of that topic. The topic is made, by the first
 * shard, when something is appended for the first time; what has to be appended waits meanwhile,
 * nothing else does. Lives on the shard's loop thread, and so does every callback.
 */
#pragma once

#include "base/arena.h"
#include "base/clock.h"
#include "base/diag.h"
#include "base/timer.h"
#include "broker/group/group.h"

struct config;
struct coord;
struct meta;
struct shard;

#define COORD_TOPIC "__consumer_offsets"

struct coord_options {
    const struct config *config; /* borrowed snapshot; coord_set_config swaps it */
    struct meta *meta;           /* borrowed */
    struct shard *shard;         /* borrowed; its own */
    const struct clock *clock;   /* borrowed */
    struct timers *timers;       /* borrowed; the shard's */
    const struct diag *diag;     /* borrowed */
    uint64_t seed;               /* of hash tables and of the ids that members are given */
};

/* Start: create, then coord_load (blocking, after meta_open, before the loop runs and listeners
 * open). Stop: coord_stop, then wait until all requests are answered, then log_manager_stop, then
 * coord_destroy. */
struct coord *coord_create(const struct coord_options *options);
void coord_destroy(
    struct coord *c); /* nothing of it may be under way in a log any more; takes NULL */

/* Replays the shard's partitions of `__consumer_offsets`, if there is one. A partition that cannot
 * be read to its end is logged, and its groups are refused with GROUP_LOADING until a restart reads
 * it: none of them is half there. An error only when the batches' memory cannot be had. */
err coord_load(struct coord *c);

/* No more events (GROUP_WRONG_COORDINATOR); parked joins and syncs are answered so at once, what
 * waits for the disk when that is done. */
void coord_stop(struct coord *c);

void coord_set_config(struct coord *c, const struct config *config); /* a new snapshot */

/* The topic of this name is gone: so are the offsets that were committed for it. To be called when
 * its deletion is lasting; what a crash prevents is made up for by coord_load. */
void coord_topic_deleted(struct coord *c, struct str topic);

/* ---- requests */

/* One event on its way; memory of the caller, until it is answered or forgotten. */
struct coord_call {
    void (*done)(struct coord_call
                     *call); /* answered later; never from inside the coord_submit that took it */
    void *ctx;               /* the caller's */
    struct arena *arena;     /* borrowed; the answer is copied into it */
    struct group_answer answer; /* out */
    err error;                  /* out: OK, or the arena's: then there is no answer */
    uint64_t token;             /* coord's; 0 while it is not under way */
    enum group_event_kind kind; /* coord's: of the event */
    struct list link;           /* coord's */
};

/* Hands the event to the group (event->token is set here; a join's new_member_id too). True:
 * answered, call->answer and error are set, and done will not be called. False: done will come,
 * unless coord_forget takes it back. `event` and what it points to may go afterwards. */
bool coord_submit(struct coord *c, struct str group_id, struct group_event *event,
                  struct coord_call *call);

/* Nobody waits for the answer any more. Takes a call that is not under way (zeroed, or answered).
 */
void coord_forget(struct coord *c, struct coord_call *call);

/* ---- looking; what is found is valid until the next turn of the loop */

/* The index of the shard that a group is of, whoever is asked; from what never changes while the
 * process runs. */
int32_t coord_shard_of(const struct coord *c, struct str group_id);

/* GROUP_OK: events and look-ups of this id make sense here. Else GROUP_INVALID_ID, GROUP_LOADING,
 * GROUP_WRONG_COORDINATOR. */
enum group_error coord_check(const struct coord *c, struct str group_id);

const struct group *coord_find(const struct coord *c,
                               struct str group_id); /* NULL: there is none */

size_t coord_group_count(const struct coord *c);
size_t coord_weight(const struct coord *c); /* bytes that all groups take, about */
const struct group *coord_group_first(
    const struct coord *c); /* in the order they came to be; NULL at the end */
const struct group *coord_group_next(const struct coord *c, const struct group *g);

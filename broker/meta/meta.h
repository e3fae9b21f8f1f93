/* meta: topics, their settings, producer-id blocks, and the identity of the data directory; one
 * metadata log from which all of it is replayed. Owned by shard 0's loop thread.
 *
 * A change is compare-and-set on the topic's version, appended to the metadata log
 * (`__cluster_metadata-0`, Kafka's batch format, synced), and applied when it is durable, by the
 * code that replays the log at start; only then are a topic's logs made, and only when they are
 * there is the topic found by meta_find: a topic that a client sees can be produced to. Likewise
 * partition_count grows when the logs of the new partitions are there.
 *
 * Changes are the first shard's: it alone calls what submits one, and its logs have the metadata
 * log. What looks (meta_find and its kin, the settings in a topic) is asked by every shard: they
 * read the owner's memory, which they may while all of them are on one thread. With threads each
 * is to look into an immutable snapshot of its own, swapped whole; nothing else changes then.
 */
#pragma once

#include "base/diag.h"
#include "base/map.h"
#include "base/rand.h"
#include "broker/config.h"
#include "broker/log/manager.h"
#include "broker/shard.h"

struct meta;

struct topic {
    struct str name; /* owned; 1..249 characters, checked */
    struct uuid id;  /* random, never zero, never the reserved one; text never begins with '-' */
    int32_t partition_count; /* >= 1 */
    int32_t version;         /* raised by every change */
    bool internal;           /* __consumer_offsets and its kin */
    struct topic_config
        *config; /* owned: resolved settings with the source of each (broker/config.h) */
};

struct meta_options {
    struct store *store;         /* borrowed */
    struct shards *shards;       /* borrowed; each has its logs */
    const struct clock *clock;   /* borrowed */
    const struct diag *diag;     /* borrowed */
    const struct config *config; /* borrowed snapshot; meta_set_config swaps it */
    uint64_t seed;               /* of ids and hash tables */
    bool clean;                  /* the last stop was clean */
};

/* Synchronous, before the loop runs: reads the metadata log, opens every topic's logs (creating
 * what a crash left unmade), removes strays. */
err meta_open(const struct meta_options *options, struct meta **ret_meta);
void meta_destroy(struct meta *m); /* takes NULL */

int32_t topic_shard(const struct topic *t, int32_t partition, const struct shards *shards);

struct topic *meta_find(const struct meta *m, struct str name);   /* ready topics only; NULL */
struct topic *meta_find_id(const struct meta *m, struct uuid id); /* likewise */
int32_t meta_topic_count(const struct meta *m);
struct topic *meta_topic_at(const struct meta *m,
                            int32_t index); /* ready topics by name, 0 <= index < count */

err meta_check_name(struct str name); /* ERR_INVALID: not a legal topic name (KIP: 1..249 of
                                         [a-zA-Z0-9._-], not . or ..) */

int32_t meta_topic_index(
    const struct meta *m,
    struct str name); /* of the first ready topic whose name is not before `name` */

struct topic_spec {
    struct str name;                     /* borrowed during the call */
    int32_t partition_count;             /* -1: the broker's num.partitions */
    const struct config_pair *overrides; /* borrowed during the call: name, value */
    int32_t override_count;
    bool internal;
};

/* What a change ended with; called on the loop, never from inside the call that submitted it.
 * `topic` is NULL on failure and after a deletion. ERR_NOT_FOUND, ERR_STALE (the version moved),
 * ERR_UNSUPPORTED, ERR_NO_SPACE, ERR_IO, ERR_CLOSED. */
typedef void meta_done(void *ctx, err e, struct topic *topic);

/* What meta_create_topic would refuse, without doing it; `text` gets the reason, for people. */
err meta_check_topic(const struct meta *m, const struct topic_spec *spec, struct buf *text);

/* What meta_alter_topic would refuse of such settings. */
err meta_check_settings(const struct meta *m, const struct topic *t,
                        const struct config_pair *overrides, int32_t override_count,
                        struct buf *text);

/* Each submits. OK: `done` will come, later. Otherwise nothing was done and `text` got the reason,
 * for people: ERR_EXISTS (there, or being made), ERR_INVALID (name), ERR_RANGE (partitions),
 * ERR_UNSUPPORTED (a setting), ERR_LIMIT (topics or partitions), ERR_NOT_FOUND, ERR_STALE,
 * ERR_NO_SPACE, ERR_CLOSED. */
err meta_create_topic(struct meta *m, const struct topic_spec *spec, struct buf *text,
                      meta_done *done, void *ctx);
err meta_delete_topic(struct meta *m, struct uuid id, struct buf *text, meta_done *done, void *ctx);

/* Replaces the whole set of overrides, if the topic still has `version`; who computed the set from
 * the old one asks again on ERR_STALE. */
err meta_alter_topic(struct meta *m, struct uuid id, int32_t version,
                     const struct config_pair *overrides, int32_t override_count, struct buf *text,
                     meta_done *done, void *ctx);

/* Raises the number of partitions, if the topic still has `version`. What is not allowed is asked
 * for first: meta_check_partitions (ERR_RANGE: it is no more than there are; ERR_LIMIT). */
err meta_check_partitions(const struct meta *m, const struct topic *t, int32_t partition_count,
                          struct buf *text);
err meta_add_partitions(struct meta *m, struct uuid id, int32_t version, int32_t partition_count,
                        struct buf *text, meta_done *done, void *ctx);

/* A producer id that was never given before and never will be: blocks of 1000 are durable before
 * the first of them is given. OK: *ret_id is it. ERR_AGAIN: `done` will come, later. Otherwise
 * nothing was done. */
err meta_next_producer_id(struct meta *m, void (*done)(void *ctx, err e, int64_t producer_id),
                          void *ctx, int64_t *ret_id);

void meta_set_config(
    struct meta *m,
    const struct config *config); /* a new snapshot: every topic's settings are resolved again */

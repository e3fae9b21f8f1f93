/* state: what meta's files share: the state itself and its entries. Private to broker/meta/.
 *
 * Invariants
 * 1. What is applied is durable: memory follows the metadata log, in the replay at start or when an
 * append's `durable` came.
 * 2. A topic has at most one change under way (`changing`).
 *    A topic whose creation could be neither finished nor undone stays in by_name, unseen: its name
 * is taken until the next start.
 * 3. Every entry is in `by_name` and `folded`; in `by_id` too once its creation is durable; in
 * `sorted` while it is ready.
 */
#pragma once

#include "base/list.h"
#include "broker/meta/meta.h"
#include "broker/meta/write.h"

enum { META_NAME_SIZE = 249 };

struct entry {
    struct topic topic;
    char *name;    /* owned, terminated: topic.name points here */
    bool changing; /* invariant 2 */
    bool ready;    /* in `sorted`: its logs are there */
};

struct meta {
    struct meta_options options;
    struct rng rng;
    struct log *log;       /* the metadata log, borrowed from the log manager */
    struct map by_name;    /* entry */
    struct map by_id;      /* entry */
    struct map folded;     /* names with '.' as '_': entry */
    struct entry **sorted; /* owned array: ready topics by name */
    int32_t sorted_count;
    int32_t sorted_size;          /* slots */
    int64_t partition_count;      /* of all entries, and those that are being added */
    int64_t config_number;        /* raised by every new configuration */
    struct list waiting;          /* changes whose topic is changing */
    struct list started;          /* changes under way */
    struct list orders;           /* to shards, under way: struct log_order */
    int64_t next_producer_id;     /* to give */
    int64_t reserved_producer_id; /* durable: ids below it may be given */
    int64_t wanted_producer_id;   /* what the append under way reserves; 0 = none */
    struct meta_write id_write;   /* that append */
    struct list id_waits;         /* in order of arrival */
};

struct entry *entry_create(struct meta *m, struct str name, struct uuid id, int32_t partition_count,
                           bool internal, struct topic_config *config);
void entry_show(struct meta *m, struct entry *e);    /* ready: clients see it */
void entry_hide(struct meta *m, struct entry *e);    /* takes a hidden one */
void entry_destroy(struct meta *m, struct entry *e); /* out of every map, and freed */
struct entry *entry_find_twin(const struct meta *m,
                              struct str name); /* the same name, '.' and '_' counting as one */

struct shard *home_shard(const struct meta *m); /* meta's own */

/* What a shard is to do with a log of its own (logs.c). True: it is done, with no error. False:
 * `done` comes, later. */
typedef void log_order_done(void *ctx, err e);
bool log_order_create(struct meta *m, const struct topic *t, int32_t partition,
                      log_order_done *done, void *ctx);
bool log_order_destroy(struct meta *m, const struct topic *t, int32_t partition,
                       log_order_done *done, void *ctx);
void set_log_configs(struct meta *m, const struct topic *t); /* its settings, to all of its logs */
void log_orders_finish(struct meta *m);                      /* none may be on its way */
void changes_finish(struct meta *m); /* drops what is under way, without a word */
void ids_finish(struct meta *m);

/* broker_kit: a broker without a network: logs, metadata, groups and the APIs on the simulated
 * store, workers and clock, and connections that frames are put into and answers come out of. It
 * has one shard, or several, each with workers and timers of its own, that speak by messages: all
 * of them on the one thread of the test.
 *
 * One thread. A kit outlives restarts: broker_kit_stop or broker_kit_crash, then broker_kit_start.
 */
#pragma once

#include "base/budget.h"
#include "broker/api/session.h"
#include "broker/config.h"
#include "broker/coord/coord.h"
#include "broker/meta/meta.h"
#include "broker/metrics.h"
#include "broker/shard.h"
#include "tests/kit/log_kit.h"

enum { BROKER_KIT_SHARDS = 3, BROKER_KIT_WORKERS = 3 };

struct broker_kit;

struct broker_kit_conn {
    struct broker_kit *k;    /* borrowed */
    int32_t shard;           /* that it is of */
    struct session *session; /* NULL: the broker closed it, or it was never opened */
    struct buf out;          /* owned: everything that was answered on it */
    bool closed_by_broker;   /* the session's last end was the broker's doing */
    struct list link;        /* in the kit's, while there is a session */
};

struct broker_kit_shard {
    struct sim_worker own_workers[BROKER_KIT_WORKERS]; /* not the first shard's */
    struct timers own_timers;                          /* likewise */
    struct sim_worker
        *workers[BROKER_KIT_WORKERS]; /* borrowed: its own, the first shard's log_kit's
                                       */
    struct timers *timers;            /* likewise */
    struct log_manager *m;            /* owned; NULL: stopped */
    struct coord *coord;
    struct api_env env;
    struct metrics metrics;
    struct budget budget;
    struct batch_scratch scratch;
    struct sessions sessions;
};

struct broker_kit {
    struct log_kit logs;   /* store, clock; the first shard's workers, timers and log manager */
    struct config *config; /* owned: one reference */
    int32_t shard_count;   /* 1, unless it is set before the first start; then it stays */
    struct shards shards;
    struct broker_kit_shard shard[BROKER_KIT_SHARDS];
    struct meta *meta;           /* NULL: stopped */
    struct coord *coord;         /* borrowed: the first shard's */
    struct list conns;           /* struct broker_kit_conn: those that are open */
    struct broker_kit_conn conn; /* of those that need no more than one */
};

/* `sets`: "name=value" each, NULL ends them. */
void broker_kit_init(struct broker_kit *k, uint64_t seed, const char *const *sets);
void broker_kit_finish(struct broker_kit *k);

err broker_kit_start(struct broker_kit *k, bool clean); /* an error: nothing is open */
void broker_kit_stop(struct broker_kit *k);             /* gracefully */
void broker_kit_crash(struct broker_kit *k, enum sim_cut how);

/* A connection, of a shard; finish closes it. */
void broker_kit_open(struct broker_kit *k, struct broker_kit_conn *c, int32_t shard);
void broker_kit_put(struct broker_kit_conn *c, const void *frame, size_t size); /* and no more */
void broker_kit_close(struct broker_kit_conn *c); /* the client does; takes a closed one */
void broker_kit_conn_finish(struct broker_kit_conn *c);

/* The kit's own, of any shard. */
void broker_kit_connect(struct broker_kit *k);
void broker_kit_hang_up(struct broker_kit *k); /* takes none */

/* A frame without its size. What can happen without time passing does. */
void broker_kit_send(struct broker_kit *k, const void *frame, size_t size);
void broker_kit_settle(struct broker_kit *k);
void broker_kit_advance(struct broker_kit *k, int64_t ms); /* timers fire on the way */

/* One thing of all that can happen without time passing: a shard's turn, a message that arrives, a
 * worker's item that runs or completes. False: there is nothing. */
bool broker_kit_step(struct broker_kit *k);

void broker_kit_pass(struct broker_kit *k, int64_t ms); /* likewise: timers fire, and no more */

/* Whose shard it is. */
struct log *broker_kit_log(struct broker_kit *k, const struct topic *t, int32_t partition);
struct coord *broker_kit_coord(struct broker_kit *k, struct str group_id);

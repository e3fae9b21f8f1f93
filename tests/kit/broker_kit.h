/* broker_kit: a broker without a network: logs, metadata, groups and the APIs on the simulated
 * store, workers and clock, and one connection that frames are put into and answers come out of.
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
#include "tests/kit/log_kit.h"

struct broker_kit {
    struct log_kit logs;   /* store, workers, clock, timers, log manager */
    struct config *config; /* owned: one reference */
    struct meta *meta;     /* NULL: stopped */
    struct coord *coord;
    struct api_env env;
    struct metrics metrics;
    struct budget budget;
    struct batch_scratch scratch;
    struct sessions sessions;
    struct session *session; /* NULL: the broker closed it, or it was never opened */
    struct buf out;          /* owned: everything that was answered on it */
    bool closed_by_broker;   /* the session's last end was the broker's doing */
};

/* `sets`: "name=value" each, NULL ends them. */
void broker_kit_init(struct broker_kit *k, uint64_t seed, const char *const *sets);
void broker_kit_finish(struct broker_kit *k);

err broker_kit_start(struct broker_kit *k, bool clean); /* an error: nothing is open */
void broker_kit_stop(struct broker_kit *k);             /* gracefully */
void broker_kit_crash(struct broker_kit *k, enum sim_cut how);

void broker_kit_connect(struct broker_kit *k);
void broker_kit_hang_up(struct broker_kit *k); /* takes none */

/* A frame without its size. What can happen without time passing does. */
void broker_kit_send(struct broker_kit *k, const void *frame, size_t size);
void broker_kit_settle(struct broker_kit *k);
void broker_kit_advance(struct broker_kit *k, int64_t ms); /* timers fire on the way */

/* client: what everything of one rv_client hangs off, and its turn: events, timers, and then every
 * part is asked to do what can be done now ("pumped"). Callbacks of calls only note what came;
 * decisions are taken in the pumps. One thread. */
#pragma once

#include "base/clock.h"
#include "base/list.h"
#include "base/rand.h"
#include "base/timer.h"
#include "client/conn.h"
#include "client/error.h"
#include "client/meta.h"
#include "client/options.h"
#include "client/thread.h"

struct bootstrap {
    char host[HOST_LIMIT];
    int32_t port;
};

/* A producer or consumer as the client sees it. */
struct part {
    struct list link;                /* in client->parts */
    void (*pump)(struct part *part); /* does what can be done now, without blocking */
};

struct rv_client {
    struct settings settings;
    const struct clock *clock; /* borrowed */
    struct rng rng;            /* jitter, sticky partitions */
    int epoll_fd;
    struct timers timers;
    struct list conns;            /* struct conn, owned */
    struct list dirty;            /* conns with bytes to write */
    struct list failed;           /* calls to end in the next turn */
    struct bootstrap *bootstraps; /* owned */
    int bootstrap_count;
    int next_bootstrap; /* whose turn it is */
    struct meta meta;
    int64_t features_epoch;      /* the newest that a broker told; -1: none yet */
    int16_t transaction_version; /* the finalized one of that; 0: none */
    struct list parts;
    int32_t next_lane;
    bool in_turn;     /* callbacks of calls and pumps are running */
    bool in_callback; /* the user's callback is running */
    bool again;       /* a pump has more to do: do not sleep */
    void (*log)(void *ctx, enum rv_level level, const char *text);
    void *log_ctx;
    struct helper helper;
};

void client_log(struct rv_client *c, enum rv_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int32_t client_lane(struct rv_client *c); /* a new one */

/* One turn: waits for at most timeout_ms (0: not at all), then does all there is to do. */
void client_turn(struct rv_client *c, int timeout_ms);

/* When a blocking call that was given timeout_ms has to end (monotonic ms). */
int64_t client_deadline(const struct rv_client *c, int timeout_ms);
static inline int64_t client_now(const struct rv_client *c)
{
    return clock_mono_ms(c->clock);
}
/* A turn that does not wait longer than until `deadline_ms`. False: it has passed. */
bool client_turn_until(struct rv_client *c, int64_t deadline_ms);

/* Milliseconds before attempt `failures` + 1: from base, doubled each time up to most, +-20 %. */
int64_t client_backoff(struct rv_client *c, int64_t base_ms, int64_t most_ms, int failures);

/* What to wait before the second attempt after this code. */
int64_t error_backoff_ms(const struct rv_client *c, int code);

static inline int64_t setting(const struct rv_client *c, enum option_id id)
{
    return c->settings.numbers[id];
}

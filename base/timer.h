/* timer: deadlines of one thread, without an event loop.
 *
 * A `struct timers` is a heap of intrusive timers ordered by (deadline, order of arming); arming
 * needs no memory and cannot fail.
 * The server drives it from one uv_timer (timers_next_ms says when), simulations from their virtual
 * clock. A timer fires at most once for each arming; its callback may arm, disarm or free any
 * timer, itself too.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct timer {
    void (*fire)(struct timer *timer); /* called by timers_run; container_of gives the context */
    int64_t deadline_ms;               /* monotonic */
    uint64_t order;                    /* of arming: breaks ties, so that runs repeat */
    struct timer *child, *next, *prev; /* in the heap; prev is NULL when it is not armed */
};

struct timers {
    struct timer *root;  /* the earliest; borrowed, as all below it. NULL: none is armed */
    uint64_t next_order; /* of the next arming */
};

void timers_init(struct timers *t);
void timers_finish(struct timers *t); /* armed timers become unarmed; takes a zeroed one */

void timer_init(struct timer *timer, void (*fire)(struct timer *timer));
void timer_arm(struct timers *t, struct timer *timer,
               int64_t deadline_ms);                      /* moves it when armed already */
void timer_disarm(struct timers *t, struct timer *timer); /* takes an unarmed one */

static inline bool timer_armed(const struct timer *timer)
{
    return timer->prev != NULL;
}

int64_t timers_next_ms(
    const struct timers *t); /* earliest deadline; INT64_MAX when there is none */

/* Fires what is due at now_ms, in order; timers that callbacks arm for now or earlier wait for the
 * next call, so that one call ends. */
void timers_run(struct timers *t, int64_t now_ms);

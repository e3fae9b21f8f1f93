/* clock: the only place that asks the time. A shard and everything on it is handed one; tests hand
 * in a virtual one.
 *
 * Monotonic time is for timers and durations, wall time for records and retention. The struct is a
 * table of functions so that the virtual clock of the tests needs no hook in here.
 */
#pragma once

#include <stdint.h>

struct clock {
    int64_t (*mono_us)(void *ctx); /* microseconds since some start, never goes back */
    int64_t (*wall_ms)(void *ctx); /* milliseconds since 1970 UTC; may jump */
    void *ctx;                     /* for both */
};

extern const struct clock clock_real;

static inline int64_t clock_mono_us(const struct clock *c)
{
    return c->mono_us(c->ctx);
}

static inline int64_t clock_mono_ms(const struct clock *c)
{
    return c->mono_us(c->ctx) / 1000;
}

/* The monotonic time `delay_ms` (>= 0) from now; INT64_MAX, never, when there is no such time:
 * settings may be as large as that. */
static inline int64_t clock_after_ms(const struct clock *c, int64_t delay_ms)
{
    int64_t deadline_ms;
    return __builtin_add_overflow(clock_mono_ms(c), delay_ms, &deadline_ms) ? INT64_MAX
                                                                            : deadline_ms;
}

static inline int64_t clock_wall_ms(const struct clock *c)
{
    return c->wall_ms(c->ctx);
}

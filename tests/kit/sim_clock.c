#include "tests/kit/sim_clock.h"

static int64_t mono_us(void *ctx)
{
    return ((struct sim_clock *)ctx)->mono_us;
}

static int64_t wall_ms(void *ctx)
{
    return ((struct sim_clock *)ctx)->wall_ms;
}

void sim_clock_init(struct sim_clock *c, int64_t now_wall_ms)
{
    *c = (struct sim_clock){
        .clock = {.mono_us = mono_us, .wall_ms = wall_ms, .ctx = c},
        .mono_us = 1000000,
        .wall_ms = now_wall_ms,
    };
}

void sim_clock_advance_ms(struct sim_clock *c, int64_t ms)
{
    c->mono_us += ms * 1000;
    c->wall_ms += ms;
}

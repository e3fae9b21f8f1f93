/* sim_clock: time that stands still until the test moves it. */
#pragma once

#include "base/clock.h"

struct sim_clock {
    struct clock clock; /* to hand in; its ctx is this struct, which therefore must not move */
    int64_t mono_us;    /* now */
    int64_t wall_ms;    /* now; the test may set it back */
};

void sim_clock_init(struct sim_clock *c, int64_t wall_ms);  /* mono_us starts at one second */
void sim_clock_advance_ms(struct sim_clock *c, int64_t ms); /* both */

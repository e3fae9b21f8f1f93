/* seeds: runs of a simulation, each in a process of its own, as a broken check ends it. SEED=n runs
 * that seed alone; RUNS=n says how many are run, FIRST=n from which on. What fails says its seed.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* `run` gives how much it saw: all together more than `least` a run. */
void seeds_run(uint64_t (*run)(uint64_t seed), uint64_t count, uint64_t least);

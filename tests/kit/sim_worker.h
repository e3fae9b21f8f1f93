/* sim_worker: a worker without a thread. What is submitted waits until the test says that an item
 * runs, or that one that ran completes; several workers can be stepped in a seeded random
 * interleaving.
 *
 * As with the real one, each worker keeps its order; between workers there is none.
 */
#pragma once

#include "base/rand.h"
#include "broker/store/worker.h"

#include <stddef.h>

struct sim_worker {
    struct worker worker; /* to hand in; first */
    struct list queue;    /* of struct work: submitted, not run */
    struct list finished; /* of struct work: run, not completed */
    size_t run_count;     /* items run so far */
};

void sim_worker_init(struct sim_worker *w);
bool sim_worker_idle(const struct sim_worker *w); /* nothing submitted and not completed */
bool sim_worker_run(struct sim_worker *w);        /* runs the first of the queue; false: none */
bool sim_worker_complete(struct sim_worker *w);   /* calls the first `done`; false: none */

/* One step of one of `count` workers, chosen by `rng` among the steps that are possible. False: all
 * are idle. */
bool sim_workers_step(struct sim_worker *const *workers, size_t count, struct rng *rng);
void sim_workers_drain(struct sim_worker *const *workers, size_t count, struct rng *rng);

/* worker: makes the blocking store asynchronous. A queue of work items, run in order, one at a
 * time, off the loop; each one's completion comes back to the loop in the same order.
 *
 * Two drivers: a thread (store/worker.c), started at its first item, and the simulation's, which
 * runs an item when the test says so. worker_submit, worker_drain and every `done` are on the loop's
 * thread, `run` is not; an item belongs to the worker between the two.
 */
#pragma once

#include "base/list.h"

#include <stdbool.h>

struct work {
    void (*run)(struct work *work); /* on the worker: may block; touches only what the item owns */
    void (*done)(
        struct work *work); /* on the loop, after run; may free the item or submit it again */
    bool quiet;       /* its completion may wait for that of an item behind it, or for a poll */
    struct list link; /* the worker's, while it is submitted */
};

struct worker {
    void (*submit)(struct worker *worker, struct work *work); /* the driver */
    void (*drain)(struct worker *worker);                     /* likewise */
};

static inline void worker_submit(struct worker *worker, struct work *work)
{
    worker->submit(worker, work);
}

/* Waits until everything that was submitted has run, and completes it: for a start, which blocks. */
static inline void worker_drain(struct worker *worker)
{
    worker->drain(worker);
}

/* The thread driver. `wake` is called on the worker's thread when there is something to complete;
 * the loop then calls worker_thread_poll. Destroying waits until every submitted item has run, and
 * completes what is left. */
struct worker *worker_thread_create(const char *name, void (*wake)(void *ctx), void *ctx);
bool worker_thread_poll(
    struct worker *worker); /* on the loop: runs every `done` that is due; true: there was one */
bool worker_thread_idle(const struct worker *worker); /* nothing submitted and not completed */
void worker_thread_destroy(struct worker *worker);

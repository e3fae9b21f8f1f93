#include "tests/kit/sim_worker.h"

static void submit(struct worker *worker, struct work *work)
{
    struct sim_worker *w = list_entry(worker, struct sim_worker, worker);
    list_push(&w->queue, &work->link);
}

static void drain(struct worker *worker)
{
    struct sim_worker *w = list_entry(worker, struct sim_worker, worker);
    while (sim_worker_run(w) || sim_worker_complete(w)) {
    }
}

void sim_worker_init(struct sim_worker *w)
{
    *w = (struct sim_worker){
        .worker = {.submit = submit, .drain = drain}
    };
    list_init(&w->queue);
    list_init(&w->finished);
}

bool sim_worker_idle(const struct sim_worker *w)
{
    return list_empty(&w->queue) && list_empty(&w->finished);
}

bool sim_worker_run(struct sim_worker *w)
{
    struct list *first = list_pop(&w->queue);
    if (!first) {
        return false;
    }
    struct work *work = list_entry(first, struct work, link);
    w->run_count++;
    work->run(work);
    list_push(&w->finished, &work->link);
    return true;
}

bool sim_worker_complete(struct sim_worker *w)
{
    struct list *first = list_pop(&w->finished);
    if (!first) {
        return false;
    }
    struct work *work = list_entry(first, struct work, link);
    work->done(work); /* may free the item, or submit it again */
    return true;
}

bool sim_workers_step(struct sim_worker *const *workers, size_t count, struct rng *rng)
{
    size_t possible = 0;
    for (size_t i = 0; i < count; i++) {
        possible += !list_empty(&workers[i]->queue);
        possible += !list_empty(&workers[i]->finished);
    }
    if (possible == 0) {
        return false;
    }
    size_t chosen = rng_below(rng, possible);
    for (size_t i = 0; i < count; i++) {
        if (!list_empty(&workers[i]->queue) && chosen-- == 0) {
            return sim_worker_run(workers[i]);
        }
        if (!list_empty(&workers[i]->finished) && chosen-- == 0) {
            return sim_worker_complete(workers[i]);
        }
    }
    return false;
}

void sim_workers_drain(struct sim_worker *const *workers, size_t count, struct rng *rng)
{
    while (sim_workers_step(workers, count, rng)) {
    }
}

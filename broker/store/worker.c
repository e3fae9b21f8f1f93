/* The thread driver of a worker.
 *
 *     loop: submit -> [queue] -> thread: run -> [finished] -> wake -> loop: poll: done
 *
 * Invariants:
 *  1. Items run and complete in the order of their submission.
 *  2. `wake` is called when an item that is not quiet comes into [finished] and there was no call
 * since the last poll, so once a batch of completions: poll takes all.
 */
#include "broker/store/worker.h"

#include "base/check.h"
#include "base/mem.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>

enum { THREAD_NAME_SIZE = 16 }; /* of Linux, with its 0 */

struct worker_thread {
    struct worker worker;        /* what the user holds; first */
    void (*wake)(void *ctx);     /* on the thread */
    void *ctx;                   /* for wake */
    char name[THREAD_NAME_SIZE]; /* of the thread, cut */
    size_t outstanding;          /* submitted and not completed; the loop's alone */
    bool started;                /* there is a thread; the loop's alone */
    pthread_t thread;            /* when started */

    pthread_mutex_t mutex;  /* guards what follows */
    pthread_cond_t queued;  /* for the thread: queue or stop changed */
    pthread_cond_t drained; /* for drain: something was added to finished */
    struct list queue;      /* of struct work, to run */
    struct list finished;   /* of struct work, to complete */
    bool woken;             /* `wake` was called for what is in finished */
    bool stop;              /* the thread ends when the queue is empty */
};

static struct worker_thread *of(struct worker *worker)
{
    return list_entry(worker, struct worker_thread, worker);
}

static void *run_thread(void *arg)
{
    struct worker_thread *t = arg;
    pthread_mutex_lock(&t->mutex);
    for (;;) {
        while (list_empty(&t->queue) && !t->stop) {
            pthread_cond_wait(&t->queued, &t->mutex);
        }
        struct list *first = list_pop(&t->queue);
        if (!first) {
            break;
        }
        struct work *work = list_entry(first, struct work, link);
        pthread_mutex_unlock(&t->mutex);
        work->run(work);
        pthread_mutex_lock(&t->mutex);
        bool wake = !work->quiet && !t->woken; /* invariant 2 */
        t->woken = t->woken || wake;
        list_push(&t->finished, &work->link);
        pthread_cond_signal(&t->drained); /* costs nothing while nobody waits */
        if (wake) {
            pthread_mutex_unlock(&t->mutex);
            t->wake(t->ctx);
            pthread_mutex_lock(&t->mutex);
        }
    }
    pthread_mutex_unlock(&t->mutex);
    return NULL;
}

/* Signals are the loop's: the thread starts with all of them blocked. */
static void start(struct worker_thread *t)
{
    sigset_t all, before;
    sigfillset(&all);
    check(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    check(pthread_create(&t->thread, NULL, run_thread, t) == 0);
    check(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    (void)pthread_setname_np(t->thread, t->name); /* a name is for whoever looks, no more */
    t->started = true;
}

static void submit(struct worker *worker, struct work *work)
{
    struct worker_thread *t = of(worker);
    t->outstanding++;
    pthread_mutex_lock(&t->mutex);
    list_push(&t->queue, &work->link);
    pthread_mutex_unlock(&t->mutex);
    pthread_cond_signal(&t->queued); /* not before: it would wake up only to wait for the mutex */
    if (!t->started) {
        start(t);
    }
}

/* Completes what is in [finished]; waits until something is when asked to. */
static bool complete(struct worker_thread *t, bool wait)
{
    struct list due;
    list_init(&due);
    pthread_mutex_lock(&t->mutex);
    while (wait && list_empty(&t->finished)) {
        pthread_cond_wait(&t->drained, &t->mutex);
    }
    list_splice(&due, &t->finished);
    t->woken = false;
    pthread_mutex_unlock(&t->mutex);
    bool any = !list_empty(&due);
    for (struct list *first; (first = list_pop(&due));) {
        struct work *work = list_entry(first, struct work, link);
        t->outstanding--;
        work->done(work); /* may free the item, or submit it again */
    }
    return any;
}

static void drain(struct worker *worker)
{
    struct worker_thread *t = of(worker);
    while (t->outstanding > 0) { /* a completion may submit more */
        complete(t, true);
    }
}

struct worker *worker_thread_create(const char *name, void (*wake)(void *ctx), void *ctx)
{
    struct worker_thread *t = mem_need_zero(1, sizeof *t);
    t->worker.submit = submit;
    t->worker.drain = drain;
    t->wake = wake;
    t->ctx = ctx;
    snprintf(t->name, sizeof t->name, "%s", name);
    check(pthread_mutex_init(&t->mutex, NULL) == 0);
    check(pthread_cond_init(&t->queued, NULL) == 0);
    check(pthread_cond_init(&t->drained, NULL) == 0);
    list_init(&t->queue);
    list_init(&t->finished);
    return &t->worker;
}

bool worker_thread_poll(struct worker *worker)
{
    struct worker_thread *t = of(worker);
    return t->outstanding > 0 && complete(t, false);
}

bool worker_thread_idle(const struct worker *worker)
{
    return ((const struct worker_thread *)(const void *)worker)->outstanding == 0;
}

void worker_thread_destroy(struct worker *worker)
{
    if (!worker) {
        return;
    }
    struct worker_thread *t = of(worker);
    drain(worker);
    if (t->started) {
        pthread_mutex_lock(&t->mutex);
        t->stop = true;
        pthread_cond_signal(&t->queued);
        pthread_mutex_unlock(&t->mutex);
        check(pthread_join(t->thread, NULL) == 0);
    }
    pthread_cond_destroy(&t->drained);
    pthread_cond_destroy(&t->queued);
    pthread_mutex_destroy(&t->mutex);
    mem_free(t);
}

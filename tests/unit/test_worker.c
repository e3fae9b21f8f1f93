/* Workers: what is submitted runs off the loop, in order, and completes on the loop, in order;
 * destroying loses nothing. */
#include "tests/kit/sim_worker.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs the above */

enum { ITEMS = 2000 };

struct fixture {
    struct worker *worker;
    sem_t woken; /* posted by each wake */
    sem_t gate;  /* an item that has `waits` set takes one before it runs */
    sem_t ran;   /* and posts this one when it has run */
    size_t
        run[ITEMS]; /* ids in the order in which they ran; the worker's, until they are completed */
    size_t run_count;   /* of run */
    size_t done[ITEMS]; /* ids in the order in which they completed */
    size_t done_count;  /* of done */
    size_t again;       /* completions that submit their item once more */
    bool off_loop;      /* no item ran on the thread that submitted it */
    bool on_loop;       /* every completion was on that thread */
    pthread_t loop;     /* that thread */
};

struct item {
    struct work work;
    struct fixture *f;
    size_t id;
    bool waits; /* for the gate */
};

static void wait_on(sem_t *sem)
{
    while (sem_wait(sem)) {
    }
}

static void run_item(struct work *work)
{
    struct item *item = list_entry(work, struct item, work);
    struct fixture *f = item->f;
    if (item->waits) {
        wait_on(&f->gate);
    }
    f->off_loop = f->off_loop && !pthread_equal(pthread_self(), f->loop);
    f->run[f->run_count++] = item->id;
    if (item->waits) {
        sem_post(&f->ran);
    }
}

static void item_done(struct work *work)
{
    struct item *item = list_entry(work, struct item, work);
    struct fixture *f = item->f;
    f->on_loop = f->on_loop && pthread_equal(pthread_self(), f->loop);
    f->done[f->done_count++] = item->id;
    if (f->again > 0) {
        f->again--;
        item->id += 1000;
        worker_submit(f->worker, &item->work);
        return;
    }
    free(item);
}

static struct item *item_create(struct fixture *f, size_t id, bool waits)
{
    struct item *item = calloc(1, sizeof *item);
    assert_non_null(item);
    item->work.run = run_item;
    item->work.done = item_done;
    item->f = f;
    item->id = id;
    item->waits = waits;
    return item;
}

static void submit(struct fixture *f, size_t id, bool waits)
{
    worker_submit(f->worker, &item_create(f, id, waits)->work);
}

static void submit_quiet(struct fixture *f, size_t id)
{
    struct item *item = item_create(f, id, false);
    item->work.quiet = true;
    worker_submit(f->worker, &item->work);
}

static void wake(void *ctx)
{
    sem_post(&((struct fixture *)ctx)->woken);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    sem_init(&f->woken, 0, 0);
    sem_init(&f->gate, 0, 0);
    sem_init(&f->ran, 0, 0);
    f->loop = pthread_self();
    f->off_loop = f->on_loop = true;
    f->worker = worker_thread_create("a-name-longer-than-sixteen-bytes", wake, f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    worker_thread_destroy(f->worker);
    sem_destroy(&f->woken);
    sem_destroy(&f->gate);
    sem_destroy(&f->ran);
    free(f);
    return 0;
}

static void items_run_and_complete_in_the_order_of_submission(void **state)
{
    struct fixture *f = *state;
    assert_true(worker_thread_idle(f->worker));
    for (size_t i = 0; i < 1000; i++) {
        submit(f, i, false);
    }
    while (!worker_thread_idle(f->worker)) {
        wait_on(&f->woken);
        worker_thread_poll(f->worker);
    }
    assert_int_equal(f->done_count, 1000);
    assert_int_equal(f->run_count, 1000);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(f->run[i], i);
        assert_int_equal(f->done[i], i);
    }
    assert_true(f->off_loop);
    assert_true(f->on_loop);
}

static void a_batch_of_completions_wakes_once(void **state)
{
    struct fixture *f = *state;
    submit(f, 0, true);
    for (size_t i = 1; i < 10; i++) {
        submit(f, i, false);
    }
    submit(f, 10, true);
    sem_post(&f->gate);
    wait_on(&f->woken); /* for item 0 */
    sem_post(&f->gate);
    wait_on(&f->ran);
    wait_on(&f->ran); /* item 10 has run, so the nine before it are due, and nobody has polled */
    int wakes = -1;
    assert_int_equal(sem_getvalue(&f->woken, &wakes), 0);
    assert_int_equal(wakes, 0);
    worker_thread_destroy(f->worker);
    f->worker = NULL;
    assert_int_equal(f->done_count, 11);
}

static void a_poll_makes_the_next_completion_wake_again(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < 3; i++) {
        submit(f, i, false);
        wait_on(&f->woken);
        worker_thread_poll(f->worker);
        assert_int_equal(f->done_count, i + 1);
    }
}

static void destroying_waits_for_what_is_under_way_and_completes_it(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < 5; i++) {
        submit(f, i, i == 0);
    }
    assert_false(worker_thread_idle(f->worker));
    assert_int_equal(f->done_count, 0);
    sem_post(&f->gate);
    worker_thread_destroy(f->worker);
    f->worker = NULL;
    assert_int_equal(f->run_count, 5);
    assert_int_equal(f->done_count, 5);
    assert_true(f->on_loop);
}

static void what_a_completion_submits_is_not_lost_either(void **state)
{
    struct fixture *f = *state;
    f->again = 7;
    submit(f, 0, false);
    worker_thread_destroy(f->worker);
    f->worker = NULL;
    assert_int_equal(f->run_count, 8);
    assert_int_equal(f->done_count, 8);
    assert_int_equal(f->done[7], 7000);
}

static void a_worker_without_work_has_no_thread_and_goes_quietly(void **state)
{
    struct fixture *f = *state;
    worker_thread_poll(f->worker); /* nothing is due */
    assert_true(worker_thread_idle(f->worker));
    worker_thread_destroy(f->worker);
    f->worker = NULL;
    int wakes = -1;
    assert_int_equal(sem_getvalue(&f->woken, &wakes), 0);
    assert_int_equal(wakes, 0);
    worker_thread_destroy(NULL);
}

/* ---- the simulated one */

static void simulated_workers_keep_their_own_order_in_every_interleaving(void **state)
{
    (void)state;
    bool differed = false;
    size_t first_order[20] = {0};
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct sim_worker workers[2];
        struct sim_worker *all[2] = {&workers[0], &workers[1]};
        struct fixture f = {.loop = pthread_self()};
        for (size_t w = 0; w < 2; w++) {
            sim_worker_init(all[w]);
            f.worker = &all[w]->worker;
            for (size_t i = 0; i < 10; i++) {
                submit(&f, w * 100 + i, false);
            }
        }
        struct rng rng;
        rng_init(&rng, seed);
        sim_workers_drain(all, 2, &rng);
        assert_true(sim_worker_idle(all[0]) && sim_worker_idle(all[1]));
        assert_int_equal(f.run_count, 20);
        assert_int_equal(f.done_count, 20);
        size_t next[2] = {0, 100};
        for (size_t i = 0; i < 20; i++) {
            assert_int_equal(f.done[i], next[f.done[i] / 100]++);
        }
        if (seed == 0) {
            memcpy(first_order, f.done, sizeof first_order);
        }
        differed = differed || memcmp(first_order, f.done, sizeof first_order) != 0;
    }
    assert_true(differed);
}

static void a_simulated_worker_does_nothing_by_itself(void **state)
{
    (void)state;
    struct sim_worker w;
    sim_worker_init(&w);
    struct fixture f = {.loop = pthread_self(), .worker = &w.worker};
    submit(&f, 1, false);
    submit(&f, 2, false);
    assert_false(sim_worker_complete(&w)); /* not run yet */
    assert_int_equal(f.run_count, 0);
    assert_true(sim_worker_run(&w));
    assert_int_equal(f.run_count, 1);
    assert_int_equal(f.done_count, 0);
    assert_true(sim_worker_complete(&w));
    assert_int_equal(f.done_count, 1);
    assert_true(sim_worker_run(&w) && sim_worker_complete(&w));
    assert_false(sim_worker_run(&w));
    assert_true(sim_worker_idle(&w));
}

static void drain(struct worker *worker, struct fixture *f)
{
    f->again = 1;
    for (size_t i = 0; i < 10; i++) {
        submit(f, i, false);
    }
    worker_drain(worker);
    assert_int_equal(f->run_count, 11);
    assert_int_equal(f->done_count, 11);
    assert_int_equal(f->done[10], 1000); /* submitted by a completion */
}

static void a_drain_waits_for_what_was_submitted_and_completes_it(void **state)
{
    struct fixture *f = *state;
    worker_drain(f->worker); /* there is nothing */
    assert_int_equal(f->done_count, 0);
    drain(f->worker, f);
    assert_true(f->off_loop);
    assert_true(f->on_loop);
    assert_true(worker_thread_idle(f->worker));
}

static void a_drain_of_a_simulated_worker_does_the_same(void **state)
{
    (void)state;
    struct sim_worker w;
    sim_worker_init(&w);
    struct fixture f = {.loop = pthread_self(), .worker = &w.worker};
    drain(&w.worker, &f);
    assert_true(sim_worker_idle(&w));
}

static void a_quiet_completion_comes_with_the_one_behind_it(void **state)
{
    struct fixture *f = *state;
    submit_quiet(f, 0);
    submit(f, 1, true);
    sem_post(&f->gate);
    wait_on(&f->woken);
    assert_true(worker_thread_poll(f->worker));
    assert_int_equal(f->done_count, 2);
    assert_int_equal(f->done[0], 0);
    assert_int_equal(f->done[1], 1);
    assert_int_equal(sem_trywait(&f->woken), -1); /* once for both */
    assert_false(worker_thread_poll(f->worker));
}

static void a_quiet_completion_is_there_for_a_poll(void **state)
{
    struct fixture *f = *state;
    submit_quiet(f, 0);
    while (!worker_thread_poll(f->worker)) {
        sched_yield();
    }
    assert_int_equal(f->done_count, 1);
    assert_int_equal(sem_trywait(&f->woken), -1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(items_run_and_complete_in_the_order_of_submission),
        TEST(a_batch_of_completions_wakes_once),
        TEST(a_poll_makes_the_next_completion_wake_again),
        TEST(a_quiet_completion_comes_with_the_one_behind_it),
        TEST(a_quiet_completion_is_there_for_a_poll),
        TEST(destroying_waits_for_what_is_under_way_and_completes_it),
        TEST(what_a_completion_submits_is_not_lost_either),
        TEST(a_drain_waits_for_what_was_submitted_and_completes_it),
        TEST(a_worker_without_work_has_no_thread_and_goes_quietly),
        cmocka_unit_test(simulated_workers_keep_their_own_order_in_every_interleaving),
        cmocka_unit_test(a_simulated_worker_does_nothing_by_itself),
        cmocka_unit_test(a_drain_of_a_simulated_worker_does_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Logs that are opened together at a start: what one of them does is its own, and what it costs. */
#include "tests/kit/log_kit.h"
#include "tests/kit/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { LOGS = 7, BATCHES = 5, MANY = 400, VALUE_SIZE = 1000, FILES_AT_ONCE = 10, WORKERS = 3 };

static const int64_t T0 = 1700000000000;

static void append(struct log_kit *k, int log, int64_t timestamp)
{
    struct log_kit_append a;
    log_kit_batch(&a, 1, VALUE_SIZE, 1, timestamp, -1, 0, 0);
    assert_int_equal(log_kit_append(k, log, &a), OK);
    log_kit_drain(k);
    assert_int_equal(a.durable, 1);
    assert_int_equal(a.durable_result, OK);
    log_kit_append_finish(&a);
}

static void init(struct log_kit *k)
{
    log_kit_init(k, 7);
    k->config.segment_bytes = 1 << 30;
}

static void fill(struct log_kit *k)
{
    init(k);
    assert_int_equal(log_kit_start(k, LOGS, true), OK);
    for (int i = 0; i < LOGS; i++) {
        for (int b = 0; b < BATCHES + i; b++) {
            append(k, i, T0 + b);
        }
    }
}

static void assert_whole(struct log_kit *k)
{
    for (int i = 0; i < LOGS; i++) {
        struct buf out = {0};
        assert_int_equal(log_high_watermark(log_kit_log(k, i)), BATCHES + i);
        assert_int_equal(log_kit_read(k, i, 0, 1 << 20, &out), OK);
        assert_true(out.len > (size_t)(BATCHES + i) * VALUE_SIZE);
        buf_finish(&out);
    }
}

/* Whatever operation of a start fails, the start says so, or has all; and the next one has all. */
static void fail_each_operation(bool clean)
{
    struct log_kit k;
    int failed_starts = 0;
    bool failed = true;
    fill(&k);
    for (uint64_t at = 0; failed; at++) {
        if (clean) {
            log_kit_stop(&k);
        } else {
            log_kit_crash(&k, SIM_KILL);
        }
        sim_store_count_from_zero(k.sim);
        sim_store_fail_at(k.sim, at, ERR_IO);
        (void)log_kit_start(&k, LOGS, clean);
        failed = sim_store_fault_op(k.sim) != SIM_OP_COUNT;
        if (sim_store_is_down(k.sim)) { /* a sync: the process ends */
            log_kit_crash(&k, SIM_KILL);
        }
        sim_store_count_from_zero(k.sim);
        if (!k.m) {
            failed_starts++;
            assert_int_equal(log_kit_start(&k, LOGS, false), OK);
        }
        assert_whole(&k);
    }
    assert_true(failed_starts > LOGS);
    log_kit_stop(&k);
    log_kit_finish(&k);
}

static void an_operation_that_fails_after_a_clean_stop_harms_no_log(void **state)
{
    (void)state;
    fail_each_operation(true);
}

static void an_operation_that_fails_after_a_crash_harms_no_log(void **state)
{
    (void)state;
    fail_each_operation(false);
}

/* Descriptors belong to all logs, however many segments one of them has. */
static void a_start_holds_few_files_open(void **state)
{
    (void)state;
    struct log_kit k;
    init(&k);
    k.config.segment_bytes = 2 * VALUE_SIZE;
    assert_int_equal(log_kit_start(&k, 1, true), OK);
    for (int b = 0; b < MANY / 10; b++) {
        append(&k, 0, T0 + b);
    }
    for (int clean = 0; clean <= 1; clean++) {
        if (clean) {
            log_kit_stop(&k);
        } else {
            log_kit_crash(&k, SIM_KILL);
        }
        sim_store_set_max_open(k.sim, FILES_AT_ONCE);
        assert_int_equal(log_kit_start(&k, 1, clean), OK);
        sim_store_set_max_open(k.sim, -1);
        assert_int_equal(log_high_watermark(log_kit_log(&k, 0)), MANY / 10);
    }
    log_kit_stop(&k);
    log_kit_finish(&k);
}

static uint64_t operations_of_a_start(int64_t first_timestamp)
{
    struct log_kit k;
    init(&k);
    assert_int_equal(log_kit_start(&k, 1, true), OK);
    append(&k, 0, first_timestamp);
    for (int b = 1; b < MANY; b++) {
        append(&k, 0, T0 + b);
    }
    log_kit_stop(&k);
    sim_store_count_from_zero(k.sim);
    assert_int_equal(log_kit_start(&k, 1, true), OK);
    uint64_t operations = sim_store_operations(k.sim);
    int64_t offset = -1;
    int64_t timestamp = -1;
    assert_int_equal(log_kit_max_time(&k, 0, &offset, &timestamp), OK);
    assert_int_equal(timestamp, first_timestamp > T0 + MANY ? first_timestamp : T0 + MANY - 1);
    assert_int_equal(offset, first_timestamp > T0 + MANY ? 0 : MANY - 1);
    log_kit_stop(&k);
    log_kit_finish(&k);
    return operations;
}

static void a_timestamp_in_the_future_costs_a_clean_start_nothing(void **state)
{
    (void)state;
    assert_int_equal(operations_of_a_start(T0 + 86400000), operations_of_a_start(T0));
}

static void wake(void *ctx)
{
    (void)ctx; /* the start waits for the workers itself */
}

/* With threads, for the thread sanitizer to see; the first time, each makes its logs. */
static void logs_are_opened_on_threads(void **state)
{
    (void)state;
    char path[TEMP_DIR_SIZE];
    struct log_kit k;
    struct store store;
    struct worker *workers[WORKERS];
    temp_dir_make(path);
    assert_int_equal(store_open_posix(path, &store), OK);
    init(&k);
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = worker_thread_create("opener", wake, NULL);
    }
    for (int clean = 0; clean <= 1; clean++) {
        struct log_manager_options o = log_kit_options(&k);
        o.store = &store;
        o.clock = &clock_real;
        o.writer = workers[0];
        o.syncer = workers[1];
        o.reader = workers[2];
        struct log_manager *m = log_manager_create(&o);
        for (int i = 0; i < LOG_KIT_LOGS; i++) {
            log_manager_expect_log(m, STR("t"), k.ids[i], i, &k.config);
        }
        assert_int_equal(log_manager_open_expected(m, clean), OK);
        assert_int_equal(log_manager_opened(m), OK);
        for (int i = 0; i < LOG_KIT_LOGS; i++) {
            assert_non_null(log_manager_find(m, k.ids[i], i));
        }
        log_manager_destroy(m);
    }
    for (int i = 0; i < WORKERS; i++) {
        worker_thread_destroy(workers[i]);
    }
    store_close_posix(&store);
    temp_dir_remove(path);
    log_kit_finish(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_operation_that_fails_after_a_clean_stop_harms_no_log),
        cmocka_unit_test(an_operation_that_fails_after_a_crash_harms_no_log),
        cmocka_unit_test(a_start_holds_few_files_open),
        cmocka_unit_test(a_timestamp_in_the_future_costs_a_clean_start_nothing),
        cmocka_unit_test(logs_are_opened_on_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

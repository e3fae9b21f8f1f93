/* The log on the simulated store: what is promised of appends, reads, look-ups, rolls, retention
 * and restarts. */
#include "tests/kit/log_kit.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const int64_t T0 = 1700000000000;

static struct log_kit *fresh(int logs)
{
    struct log_kit *k = mem_need(sizeof *k);
    log_kit_init(k, 1);
    assert_int_equal(log_kit_start(k, logs, false), OK);
    return k;
}

static void done(struct log_kit *k)
{
    log_kit_finish(k);
    mem_free(k);
}

static void append_one(struct log_kit *k, int32_t count, size_t size, uint64_t tag,
                       int64_t timestamp)
{
    struct log_kit_append a;
    log_kit_batch(&a, count, size, tag, timestamp, -1, -1, -1);
    assert_int_equal(log_kit_append(k, 0, &a), OK);
    log_kit_drain(k);
    assert_int_equal(a.durable, 1);
    assert_int_equal(a.durable_result, OK);
    log_kit_append_finish(&a);
}

/* Every record from `offset` to the high watermark, by reads of `max` bytes: tags must be `tag`,
 * `tag` + 1, ... */
static void expect_records(struct log_kit *k, int64_t offset, uint64_t tag, size_t max)
{
    struct log *log = log_kit_log(k, 0);
    struct batch_scratch scratch = {0};
    int64_t next = offset;
    while (next < log_high_watermark(log)) {
        struct buf out = {0};
        assert_int_equal(log_kit_read(k, 0, next, max, &out), OK);
        assert_true(out.len > 0);
        size_t at = 0;
        int64_t before = next;
        struct batch_header h;
        while (at < out.len && !batch_header_read(out.ptr + at, out.len - at, &h) &&
               h.size <= out.len - at) {
            struct batch_iterator it;
            struct record r;
            assert_true(batch_crc_is_right(out.ptr + at, h.size));
            assert_int_equal(batch_iterator_init(&it, out.ptr + at, h.size, 1 << 20, &scratch), OK);
            while (!batch_iterator_next(&it, &r)) {
                if (r.offset >= next) {
                    uint64_t got;
                    assert_int_equal(r.offset, next);
                    memcpy(&got, r.value.ptr, 8);
                    assert_int_equal(__builtin_bswap64(got), tag + (uint64_t)(next - offset));
                    next++;
                }
            }
            at += h.size;
        }
        assert_true(next > before);
        buf_finish(&out);
    }
    batch_scratch_finish(&scratch);
}

static void an_append_is_readable_only_when_it_is_durable(void **state)
{
    (void)state;
    struct log_kit *k = fresh(1);
    struct log_kit_append a;
    log_kit_batch(&a, 3, 100, 10, T0, -1, -1, -1);
    assert_int_equal(log_kit_append(k, 0, &a), OK);
    assert_int_equal(a.a.base_offset, 0);
    assert_int_equal(log_end_offset(log_kit_log(k, 0)), 3);
    log_manager_submit(k->m);
    while (sim_worker_run(&k->writer)) {
    }
    while (sim_worker_complete(&k->writer)) {
    }
    assert_int_equal(a.written, 1);
    assert_int_equal(a.durable, 0);
    assert_int_equal(log_high_watermark(log_kit_log(k, 0)), 0);
    struct log_read r;
    assert_int_equal(log_read(log_kit_log(k, 0), 0, 1000, true, &r), OK);
    assert_int_equal(r.count, 0);
    assert_int_equal(log_read(log_kit_log(k, 0), 4, 1000, true, &r), ERR_RANGE);
    log_kit_drain(k);
    assert_int_equal(a.durable, 1);
    assert_int_equal(log_high_watermark(log_kit_log(k, 0)), 3);
    expect_records(k, 0, 10, 1000);
    log_kit_append_finish(&a);
    done(k);
}

static void many_batches_roll_segments_and_are_read_back_over_restarts(void **state)
{
    (void)state;
    struct log_kit *k = fresh(1);
    k->config.segment_bytes = 20000;
    log_set_config(log_kit_log(k, 0), &k->config);
    for (uint64_t i = 0; i < 300; i++) {
        append_one(k, 3, 200, i * 3, T0 + (int64_t)i * 10);
    }
    expect_records(k, 0, 0, 3000);
    for (int how = 0; how < 4; how++) {
        if (how == 0) {
            log_kit_stop(k);
        } else {
            log_kit_crash(k, how == 1 ? SIM_KILL : how == 2 ? SIM_CUT_LOSE : SIM_CUT_TEAR);
        }
        assert_int_equal(log_kit_start(k, 1, how == 0), OK);
        assert_int_equal(log_high_watermark(log_kit_log(k, 0)), 900 + how * 3);
        assert_int_equal(log_end_offset(log_kit_log(k, 0)), 900 + how * 3);
        sim_store_evict(k->sim);
        expect_records(k, 0, 0, 3000);
        expect_records(k, 500, 500, 100);
        append_one(k, 3, 200, 900 + (uint64_t)how * 3, T0 + 3000 + how * 10);
    }
    done(k);
}

static void a_full_disk_refuses_and_then_goes_on_with_the_same_offset(void **state)
{
    (void)state;
    struct log_kit *k = fresh(1);
    struct log_kit_append a[3];
    append_one(k, 1, 100, 0, T0);
    sim_store_set_limit(k->sim, sim_store_used(k->sim) + 150);
    for (int i = 0; i < 3; i++) {
        log_kit_batch(&a[i], 1, 100, 77, T0, 5, 0, i);
        assert_int_equal(log_kit_append(k, 0, &a[i]), OK);
    }
    log_kit_drain(k);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(a[i].written, 1);
        assert_int_equal(a[i].durable, 1);
        assert_int_equal(a[i].durable_result, ERR_NO_SPACE);
        log_kit_append_finish(&a[i]);
    }
    assert_int_equal(log_end_offset(log_kit_log(k, 0)), 1);
    sim_store_set_limit(k->sim, -1);
    /* What was refused first must come first. */
    log_kit_batch(&a[0], 1, 100, 1, T0, 5, 0, 1);
    assert_int_equal(log_kit_append(k, 0, &a[0]), ERR_ORDER);
    log_kit_append_finish(&a[0]);
    append_one(k, 1, 100, 1, T0);
    log_kit_crash(k, SIM_KILL);
    assert_int_equal(log_kit_start(k, 1, false), OK);
    assert_int_equal(log_high_watermark(log_kit_log(k, 0)), 2);
    expect_records(k, 0, 0, 3000);
    done(k);
}

/* The first append of a log, whose operation number `at` fails with `e`. */
static struct log_kit *append_with_fault(uint64_t at, err e, struct log_kit_append *a)
{
    struct log_kit *k = fresh(1);
    sim_store_count_from_zero(k->sim);
    sim_store_fail_at(k->sim, at, e);
    log_kit_batch(a, 1, 100, 7, T0, -1, -1, -1);
    assert_int_equal(log_kit_append(k, 0, a), OK);
    log_kit_drain(k);
    return k;
}

static enum sim_op operation_of_append(uint64_t at)
{
    struct log_kit_append a;
    struct log_kit *k = append_with_fault(at, ERR_IO, &a);
    enum sim_op op = sim_store_fault_op(k->sim);
    log_kit_crash(k, SIM_KILL);
    log_kit_append_finish(&a);
    done(k);
    return op;
}

/* Whichever operation that takes a descriptor finds none: the append is refused, or it becomes
 * durable when there are some again; it is never left waiting, and the next one goes on behind it.
 */
static void an_append_that_finds_no_descriptor_is_refused_or_waits_for_one(void **state)
{
    (void)state;
    int refused = 0;
    int waited = 0;
    enum sim_op op = SIM_OPEN;
    for (uint64_t at = 0; op != SIM_OP_COUNT; at++) {
        op = operation_of_append(at);
        if (op != SIM_OPEN && op != SIM_SYNC_DIR) {
            continue;
        }
        struct log_kit_append a;
        struct log_kit *k = append_with_fault(at, ERR_NO_FILES, &a);
        waited += !a.durable;
        sim_clock_advance_ms(&k->clock, 1000);
        timers_run(&k->timers, clock_mono_ms(&k->clock.clock));
        log_kit_drain(k);
        assert_int_equal(a.durable, 1);
        refused += a.durable_result != OK;
        append_one(k, 1, 100, 8, T0 + 1);
        expect_records(k, a.durable_result == OK, 8, 100);
        log_kit_crash(k, SIM_CUT_LOSE);
        assert_int_equal(log_kit_start(k, 1, false), OK);
        expect_records(k, a.durable_result == OK, 8, 100);
        log_kit_append_finish(&a);
        done(k);
    }
    assert_true(refused > 0 && waited > 0);
}

static void a_retry_gets_its_first_offset_also_after_restarts(void **state)
{
    (void)state;
    struct log_kit *k = fresh(1);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 7; i++) {
            struct log_kit_append a;
            log_kit_batch(&a, 2, 50, 0, T0, 9, 3, i * 2);
            if (round == 0) {
                assert_int_equal(log_kit_append(k, 0, &a), OK);
                assert_false(a.a.duplicate);
                log_kit_drain(k);
            } else if (i < 2) {
                assert_int_equal(log_kit_append(k, 0, &a), ERR_DUPLICATE);
            } else {
                assert_int_equal(log_kit_append(k, 0, &a), OK);
                assert_true(a.a.duplicate);
                assert_int_equal(a.durable, 0);
                log_kit_drain(k);
                assert_int_equal(a.durable, 1);
            }
            if (round == 0 || i >= 2) {
                assert_int_equal(a.a.base_offset, i * 2);
            }
            log_kit_append_finish(&a);
        }
        struct log_kit_append a;
        log_kit_batch(&a, 1, 50, 0, T0, 9, 2, 14);
        assert_int_equal(log_kit_append(k, 0, &a), ERR_FENCED);
        log_kit_append_finish(&a);
        log_kit_batch(&a, 1, 50, 0, T0, 9, 3, 15);
        assert_int_equal(log_kit_append(k, 0, &a), ERR_ORDER);
        log_kit_append_finish(&a);
        if (round == 0) {
            log_kit_stop(k);
        } else {
            log_kit_crash(k, SIM_CUT_LOSE);
        }
        assert_int_equal(log_kit_start(k, 1, round == 0), OK);
    }
    done(k);
}

static void a_crash_forgets_no_producer_whose_records_have_old_times(void **state)
{
    (void)state;
    struct log_kit *k = fresh(1);
    const int64_t years_ago = k->clock.wall_ms - INT64_C(5) * 365 * 86400000;
    for (int round = 0; round < 3; round++) {
        struct log_kit_append a;
        log_kit_batch(&a, 3, 50, 0, years_ago, 9, 0, 0);
        assert_int_equal(log_kit_append(k, 0, &a), OK);
        assert_int_equal(a.a.duplicate, round > 0);
        assert_int_equal(a.a.base_offset, 0);
        log_kit_drain(k);
        assert_int_equal(a.durable, 1);
        log_kit_append_finish(&a);
        log_kit_crash(k, SIM_CUT_LOSE);
        assert_int_equal(log_kit_start(k, 1, false), OK);
    }
    done(k);
}

static void look_ups_by_time_find_the_first_record_that_is_late_enough(void **state)
{
    (void)state;
    struct log_kit *k = fresh(1);
    int64_t offset;
    int64_t timestamp;
    k->config.segment_bytes = 20000;
    log_set_config(log_kit_log(k, 0), &k->config);
    assert_int_equal(log_kit_find_time(k, 0, T0, &offset, &timestamp), OK);
    assert_int_equal(offset, -1);
    for (uint64_t i = 0; i < 200; i++) { /* record n has time T0 + 10 n */
        struct log_kit_append a;
        log_kit_batch(&a, 1, 300, i, T0 + (int64_t)i * 10, -1, -1, -1);
        assert_int_equal(log_kit_append(k, 0, &a), OK);
        log_kit_drain(k);
        log_kit_append_finish(&a);
    }
    append_one(k, 1, 300, 200, T0 + 5); /* out of order: nothing changes for times before */
    for (int round = 0; round < 3; round++) {
        for (int64_t t = -5; t < 2000; t += 7) {
            int64_t expected = t <= 0 ? 0 : (t + 9) / 10;
            assert_int_equal(log_kit_find_time(k, 0, T0 + t, &offset, &timestamp), OK);
            assert_int_equal(offset, expected < 200 ? expected : -1);
            assert_int_equal(timestamp, expected < 200 ? T0 + expected * 10 : -1);
        }
        assert_int_equal(log_kit_max_time(k, 0, &offset, &timestamp), OK);
        assert_int_equal(offset, 199);
        assert_int_equal(timestamp, T0 + 1990);
        if (round == 0) {
            log_kit_stop(k);
        } else {
            log_kit_crash(k, SIM_CUT_LOSE);
        }
        assert_int_equal(log_kit_start(k, 1, round == 0), OK);
    }
    done(k);
}

static void retention_deletes_whole_old_segments_and_moves_the_start(void **state)
{
    (void)state;
    struct log_kit *k = fresh(1);
    k->config.segment_bytes = 20000;
    k->config.retention_bytes = 50000;
    log_set_config(log_kit_log(k, 0), &k->config);
    for (uint64_t i = 0; i < 200; i++) {
        append_one(k, 1, 900, i, T0 + (int64_t)i);
    }
    sim_clock_advance_ms(&k->clock, 1000);
    timers_run(&k->timers, clock_mono_ms(&k->clock.clock));
    log_kit_drain(k);
    int64_t start = log_start_offset(log_kit_log(k, 0));
    assert_true(start > 0);
    assert_true(log_size_bytes(log_kit_log(k, 0)) >= 50000);
    assert_true(log_size_bytes(log_kit_log(k, 0)) < 70000);
    struct log_read r;
    assert_int_equal(log_read(log_kit_log(k, 0), start - 1, 1000, true, &r), ERR_RANGE);
    expect_records(k, start, (uint64_t)start, 5000);
    int64_t used = sim_store_used(k->sim);
    sim_clock_advance_ms(&k->clock, 2000); /* file.delete.delay.ms */
    timers_run(&k->timers, clock_mono_ms(&k->clock.clock));
    log_kit_drain(k);
    assert_true(sim_store_used(k->sim) < used - 50000);
    log_kit_crash(k, SIM_CUT_LOSE);
    assert_int_equal(log_kit_start(k, 1, false), OK);
    assert_int_equal(log_start_offset(log_kit_log(k, 0)), start);
    expect_records(k, start, (uint64_t)start, 5000);
    done(k);
}

static void the_longest_delay_keeps_files_for_ever(void **state)
{
    (void)state;
    struct log_kit *k = fresh(1);
    k->config.segment_bytes = 20000;
    k->config.retention_bytes = 50000;
    k->config.file_delete_delay_ms = INT64_MAX;
    log_set_config(log_kit_log(k, 0), &k->config);
    for (uint64_t i = 0; i < 200; i++) {
        append_one(k, 1, 900, i, T0 + (int64_t)i);
    }
    int64_t used = sim_store_used(k->sim);
    for (int i = 0; i < 3; i++) {
        sim_clock_advance_ms(&k->clock, 1000000);
        timers_run(&k->timers, clock_mono_ms(&k->clock.clock));
        log_kit_drain(k);
    }
    assert_true(log_start_offset(log_kit_log(k, 0)) > 0);
    assert_true(sim_store_used(k->sim) >= used);
    done(k);
}

/* Retention removes several segments, and the files of one cannot be renamed: those behind it wait
 * for it, or a start would see a hole, and end the log there. */
static bool fails_in_retention(uint64_t at)
{
    struct log_kit *k = fresh(1);
    k->config.segment_bytes = 20000;
    k->config.retention_bytes = 50000;
    log_set_config(log_kit_log(k, 0), &k->config);
    for (uint64_t i = 0; i < 150; i++) {
        append_one(k, 1, 900, i, T0 + (int64_t)i);
    }
    sim_store_count_from_zero(k->sim);
    sim_store_fail_at(k->sim, at, ERR_IO);
    for (int i = 0; i < 2; i++) { /* the second look tries again */
        sim_clock_advance_ms(&k->clock, 1000);
        timers_run(&k->timers, clock_mono_ms(&k->clock.clock));
        log_kit_drain(k);
        if (i == 0 && at % 2) {
            break;
        }
    }
    bool happened = sim_store_fault_op(k->sim) != SIM_OP_COUNT;
    log_kit_crash(k, SIM_CUT_LOSE);
    assert_int_equal(log_kit_start(k, 1, false), OK);
    int64_t start = log_start_offset(log_kit_log(k, 0));
    assert_int_equal(log_end_offset(log_kit_log(k, 0)), 150);
    expect_records(k, start, (uint64_t)start, 5000);
    done(k);
    return happened;
}

static void a_segment_that_cannot_be_removed_costs_none_behind_it(void **state)
{
    (void)state;
    uint64_t at = 0;
    while (fails_in_retention(at)) {
        at++;
    }
    assert_true(at > 10);
}

static void how_often_retention_looks_can_change_while_it_waits(void **state)
{
    (void)state;
    struct log_kit *k = fresh(1);
    log_manager_set_retention_check(k->m, INT64_MAX);
    k->config.retention_ms = 5000;
    log_set_config(log_kit_log(k, 0), &k->config);
    append_one(k, 10, 100, 0, T0);
    sim_clock_advance_ms(&k->clock, 1000000);
    timers_run(&k->timers, clock_mono_ms(&k->clock.clock));
    log_kit_drain(k);
    assert_int_equal(log_start_offset(log_kit_log(k, 0)), 0);
    log_manager_set_retention_check(k->m, 10);
    for (int i = 0; i < 2; i++) { /* it rolls, then it removes */
        sim_clock_advance_ms(&k->clock, 10);
        timers_run(&k->timers, clock_mono_ms(&k->clock.clock));
        log_kit_drain(k);
    }
    assert_int_equal(log_start_offset(log_kit_log(k, 0)), 10);
    done(k);
}

static void retention_by_time_empties_a_log_whose_last_record_is_old(void **state)
{
    (void)state;
    struct log_kit *k = fresh(1);
    k->config.retention_ms = 5000;
    log_set_config(log_kit_log(k, 0), &k->config);
    append_one(k, 10, 100, 0, T0);
    for (int i = 0; i < 10; i++) {
        sim_clock_advance_ms(&k->clock, 1000);
        timers_run(&k->timers, clock_mono_ms(&k->clock.clock));
        log_kit_drain(k);
    }
    assert_int_equal(log_start_offset(log_kit_log(k, 0)), 10);
    assert_int_equal(log_size_bytes(log_kit_log(k, 0)), 0);
    append_one(k, 1, 100, 10, T0 + 9000);
    expect_records(k, 10, 10, 100);
    done(k);
}

static void rot_is_answered_where_it_is_and_nowhere_else(void **state)
{
    (void)state;
    struct log_kit *k = fresh(1);
    for (uint64_t i = 0; i < 50; i++) {
        append_one(k, 1, 100, i, T0 + (int64_t)i);
    }
    int64_t size = log_size_bytes(log_kit_log(k, 0));
    assert_int_equal(size % 50, 0);
    log_kit_stop(k);
    sim_store_flip(k->sim, "t0-0/00000000000000000000.log", size / 50 * 20 + 80, 1);
    assert_int_equal(log_kit_start(k, 1, true), OK);
    struct buf out = {0};
    assert_int_equal(log_kit_read(k, 0, 0, 1 << 20, &out), OK);
    assert_int_equal(out.len, size / 50 * 20);
    assert_int_equal(log_kit_read(k, 0, 20, 1 << 20, &out), ERR_CORRUPT);
    assert_int_equal(log_kit_read(k, 0, 20, 1 << 20, &out), ERR_CORRUPT);
    expect_records(k, 21, 21, 5000);
    append_one(k, 1, 100, 50, T0);
    expect_records(k, 21, 21, 5000);
    buf_finish(&out);
    done(k);
}

static void indexes_that_are_missing_or_wrong_are_made_again(void **state)
{
    (void)state;
    struct log_kit *k = fresh(1);
    for (uint64_t i = 0; i < 100; i++) {
        append_one(k, 1, 1000, i, T0 + (int64_t)i);
    }
    static const char *const names[] = {"t0-0/00000000000000000000.index",
                                        "t0-0/00000000000000000000.timeindex"};
    for (int i = 0; i < 4; i++) {
        struct store *store = sim_store_store(k->sim);
        log_kit_stop(k);
        if (i < 2) {
            assert_int_equal(store->ops->unlink(store->ctx, names[i]), OK);
        } else { /* a position or an offset that is far outside */
            sim_store_flip(k->sim, names[0], 8 * 3 + (i == 2 ? 4 : 0), 0x40);
        }
        assert_int_equal(log_kit_start(k, 1, true), OK);
        sim_store_evict(k->sim);
        for (int64_t at = 0; at < 100; at += 9) {
            expect_records(k, at, (uint64_t)at, 3000);
        }
        int64_t offset;
        int64_t timestamp;
        assert_int_equal(log_kit_find_time(k, 0, T0 + 55, &offset, &timestamp), OK);
        assert_int_equal(offset, 55);
    }
    done(k);
}

struct watch {
    struct log_watcher w;
    int moved;
    int closed;
};

static void on_moved(struct log_watcher *w, bool closed)
{
    struct watch *mine = (struct watch *)(void *)w;
    mine->moved++;
    mine->closed += closed;
}

static void ended(void *ctx, err e)
{
    *(err *)ctx = e;
}

static void a_deleted_log_refuses_appends_wakes_its_watchers_and_goes_from_the_disk(void **state)
{
    (void)state;
    struct log_kit *k = fresh(2);
    struct watch w = {.w.moved = on_moved};
    append_one(k, 1, 100, 0, T0);
    struct log *log = log_kit_log(k, 0);
    log_watch(log, &w.w);
    struct log_kit_append a;
    struct log_kit_append b;
    log_kit_batch(&a, 1, 100, 1, T0, -1, -1, -1);
    log_kit_batch(&b, 1, 100, 1, T0, -1, -1, -1);
    assert_int_equal(log_kit_append(k, 0, &a), OK);
    log_manager_submit(k->m); /* with the writer */
    assert_int_equal(log_kit_append(k, 0, &b), OK);
    err e = ERR_COUNT;
    log_manager_destroy_log(k->m, k->ids[0], 0, ended, &e);
    assert_int_equal(w.closed, 1);
    assert_int_equal(b.durable_result, ERR_CLOSED);
    assert_null(log_kit_log(k, 0));
    log_kit_drain(k);
    assert_int_equal(e, OK);
    assert_int_equal(a.durable, 1);
    log_kit_append_finish(&a);
    log_kit_append_finish(&b);
    sim_clock_advance_ms(&k->clock, 2000);
    timers_run(&k->timers, clock_mono_ms(&k->clock.clock));
    log_kit_drain(k);
    log_kit_crash(k, SIM_CUT_LOSE);
    assert_int_equal(log_kit_start(k, 1, false), OK);
    assert_int_equal(log_end_offset(log_kit_log(k, 0)), 0);
    done(k);
}

static void epochs_of_every_start_end_where_the_next_begins(void **state)
{
    (void)state;
    struct log_kit *k = fresh(1);
    for (int i = 0; i < 3; i++) {
        append_one(k, 5, 100, (uint64_t)i * 5, T0);
        if (i == 1) {
            log_kit_stop(k);
        } else {
            log_kit_crash(k, SIM_CUT_LOSE);
        }
        assert_int_equal(log_kit_start(k, 1, i == 1), OK);
    }
    int32_t epoch;
    int64_t end;
    for (int32_t i = 1; i <= 3; i++) {
        log_epoch_end(log_kit_log(k, 0), i, &epoch, &end);
        assert_int_equal(epoch, i);
        assert_int_equal(end, i * 5);
    }
    log_epoch_end(log_kit_log(k, 0), 0, &epoch, &end); /* older than all: it ended before them */
    assert_int_equal(epoch, 0);
    assert_int_equal(end, 0);
    const int32_t none[] = {-1, 99};
    for (int i = 0; i < 2; i++) {
        log_epoch_end(log_kit_log(k, 0), none[i], &epoch, &end);
        assert_int_equal(epoch, -1);
        assert_int_equal(end, -1);
    }
    assert_int_equal(log_epoch_at(log_kit_log(k, 0), 4), 1);
    assert_int_equal(log_epoch_at(log_kit_log(k, 0), 5), 2);
    done(k);
}

/* Found by test_broker_sim: a start after a clean stop took a batch for good that had been refused.
 */
static void a_refused_batch_is_gone_also_when_its_bytes_could_not_be_cut_at_once(void **state)
{
    (void)state;
    struct log_kit *k = fresh(1);
    struct log_kit_append a;
    struct log_kit_append b;
    append_one(k, 1, 100, 0, T0);
    log_kit_batch(&a, 1, 100, 1, T0, -1, -1, -1);
    log_kit_batch(&b, 1, 100, 2, T0, -1, -1, -1);
    sim_store_set_limit(k->sim, sim_store_used(k->sim) + (int64_t)a.bytes.len + 10);
    assert_int_equal(log_kit_append(k, 0, &a), OK);
    assert_int_equal(log_kit_append(k, 0, &b), OK);
    log_manager_submit(k->m);
    sim_store_count_from_zero(k->sim);
    assert_true(sim_worker_run(&k->writer)); /* cut short behind the first of the two */
    sim_store_fail_at(k->sim, sim_store_operations(k->sim), ERR_IO); /* of the truncation */
    log_kit_drain(k);
    assert_int_equal(sim_store_fault_op(k->sim), SIM_TRUNCATE);
    assert_int_equal(a.written_result, ERR_NO_SPACE);
    assert_int_equal(b.written_result, ERR_NO_SPACE);
    log_kit_append_finish(&a);
    log_kit_append_finish(&b);
    log_kit_stop(k);
    sim_store_set_limit(k->sim, -1);
    assert_int_equal(log_kit_start(k, 1, true), OK);
    assert_int_equal(log_end_offset(log_kit_log(k, 0)), 1);
    done(k);
}

static void log_made(void *ctx, err e)
{
    *(err *)ctx = e;
}

/* Found by test_broker_sim: its directory's entries had never been synced, and nobody knew after
 * the clean stop; the power cut took the directory with what had been acknowledged. */
static void a_log_that_was_empty_at_a_clean_stop_keeps_what_comes_then(void **state)
{
    (void)state;
    struct log_kit *k = fresh(0);
    err e = ERR_COUNT;
    log_manager_create_log(k->m, STR("t0"), k->ids[0], 0, &k->config, log_made, &e);
    log_kit_drain(k);
    assert_int_equal(e, OK);
    log_kit_stop(k);
    assert_int_equal(log_kit_start(k, 1, true), OK);
    append_one(k, 3, 100, 0, T0);
    log_kit_crash(k, SIM_CUT_LOSE);
    assert_int_equal(log_kit_start(k, 1, false), OK);
    assert_int_equal(log_high_watermark(log_kit_log(k, 0)), 3);
    expect_records(k, 0, 0, 5000);
    done(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_append_is_readable_only_when_it_is_durable),
        cmocka_unit_test(many_batches_roll_segments_and_are_read_back_over_restarts),
        cmocka_unit_test(a_full_disk_refuses_and_then_goes_on_with_the_same_offset),
        cmocka_unit_test(an_append_that_finds_no_descriptor_is_refused_or_waits_for_one),
        cmocka_unit_test(a_retry_gets_its_first_offset_also_after_restarts),
        cmocka_unit_test(a_crash_forgets_no_producer_whose_records_have_old_times),
        cmocka_unit_test(look_ups_by_time_find_the_first_record_that_is_late_enough),
        cmocka_unit_test(retention_deletes_whole_old_segments_and_moves_the_start),
        cmocka_unit_test(the_longest_delay_keeps_files_for_ever),
        cmocka_unit_test(a_segment_that_cannot_be_removed_costs_none_behind_it),
        cmocka_unit_test(how_often_retention_looks_can_change_while_it_waits),
        cmocka_unit_test(retention_by_time_empties_a_log_whose_last_record_is_old),
        cmocka_unit_test(rot_is_answered_where_it_is_and_nowhere_else),
        cmocka_unit_test(indexes_that_are_missing_or_wrong_are_made_again),
        cmocka_unit_test(a_deleted_log_refuses_appends_wakes_its_watchers_and_goes_from_the_disk),
        cmocka_unit_test(a_refused_batch_is_gone_also_when_its_bytes_could_not_be_cut_at_once),
        cmocka_unit_test(a_log_that_was_empty_at_a_clean_stop_keeps_what_comes_then),
        cmocka_unit_test(epochs_of_every_start_end_where_the_next_begins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* DeleteRecords in the log: the start that was answered is there after any restart, what is behind
 * it is whole, what is before it is gone; at every operation in turn the process is killed, the
 * power goes, or the operation fails. */
#include "tests/kit/log_kit.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { STEP_RECORDS = 3 };

static const int64_t T0 = 1700000000000;

struct life {
    struct log_kit k;
    int64_t end;   /* acknowledged */
    int64_t start; /* acknowledged */
    int64_t asked; /* the largest start that was asked for */
    enum sim_cut how;
};

static struct log *the_log(struct life *l)
{
    return log_kit_log(&l->k, 0);
}

/* Until nothing is under way; what waits for a while does so. */
static void drain(struct life *l)
{
    for (int i = 0; i < 3; i++) {
        log_kit_drain(&l->k);
        sim_clock_advance_ms(&l->k.clock, 100);
        timers_run(&l->k.timers, clock_mono_ms(&l->k.clock.clock));
    }
    log_kit_drain(&l->k);
}

/* False: the process has ended. */
static bool lives(struct life *l)
{
    if (l->k.m && sim_store_is_down(l->k.sim)) {
        log_kit_crash(&l->k, l->how);
    }
    return l->k.m != NULL;
}

/* Three records, one millisecond apart; their times and values are their offsets'. */
static bool append(struct life *l)
{
    struct log_kit_append a;
    int64_t offset = l->end;
    log_kit_batch(&a, STEP_RECORDS, 250, (uint64_t)offset, T0 + offset, -1, -1, -1);
    bool good = !log_kit_append(&l->k, 0, &a);
    drain(l);
    good = good && a.durable == 1 && !a.durable_result;
    bool alive = lives(l);
    if (good) {
        assert_int_equal(a.a.base_offset, offset);
        l->end = offset + STEP_RECORDS;
    }
    log_kit_append_finish(&a);
    return alive && good;
}

static int done_count;
static void on_done(struct log_deletion *d)
{
    (void)d;
    done_count++;
}

static bool delete_to(struct life *l, int64_t offset)
{
    struct log_deletion d = {.offset = offset, .done = on_done};
    if (log_start_offset(the_log(l)) >= offset) {
        assert_int_equal(log_delete_records(the_log(l), &d), ERR_EXISTS);
        return true;
    }
    l->asked = offset > l->asked ? offset : l->asked;
    done_count = 0;
    err e = log_delete_records(the_log(l), &d);
    assert_int_equal(done_count, 0); /* never from inside of the call */
    assert_int_equal(e, OK);
    drain(l);
    bool good = done_count == 1 && !d.result;
    if (good) {
        assert_int_equal(log_start_offset(the_log(l)), offset);
        l->start = offset;
    } else if (l->k.m) {
        assert_int_equal(log_start_offset(the_log(l)), l->start); /* it has not moved */
    }
    bool alive = lives(l);
    assert_int_equal(done_count, 1);
    return alive && good;
}

/* One deletion inside of a batch, one at a segment's beginning, one of everything, one behind it.
 * Goes on where it was. False: something was not answered with OK. */
static bool live(struct life *l)
{
    static const struct {
        int64_t end;
        int64_t start;
    } steps[] = {
        {18, 7 },
        {24, 12},
        {27, 27},
        {33, 28},
    };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        while (l->end < steps[i].end) {
            if (!append(l)) {
                return false;
            }
        }
        if (!delete_to(l, steps[i].start)) {
            return false;
        }
    }
    return true;
}

static void init(struct life *l)
{
    log_kit_init(&l->k, 1);
    l->k.config.segment_bytes = 2100; /* two steps a segment */
    l->k.config.index_interval_bytes = 500;
    assert_int_equal(log_kit_start(&l->k, 1, false), OK);
}

static void expect_records(struct life *l, int64_t start, int64_t end)
{
    struct batch_scratch scratch = {0};
    int64_t next = start;
    sim_store_evict(l->k.sim);
    while (next < end) {
        struct buf out = {0};
        struct batch_header h;
        assert_int_equal(log_kit_read(&l->k, 0, next, 1 << 20, &out), OK);
        for (size_t at = 0; at < out.len; at += h.size) {
            struct batch_iterator it;
            struct record r;
            assert_int_equal(batch_header_read(out.ptr + at, out.len - at, &h), OK);
            assert_int_equal(batch_iterator_init(&it, out.ptr + at, h.size, 1 << 20, &scratch), OK);
            while (!batch_iterator_next(&it, &r)) {
                uint64_t tag;
                memcpy(&tag, r.value.ptr, sizeof tag);
                assert_int_equal(__builtin_bswap64(tag), r.offset);
                assert_true(r.offset <= next);
                next += r.offset == next;
            }
        }
        buf_finish(&out);
    }
    assert_int_equal(next, end);
    batch_scratch_finish(&scratch);
}

/* Reads, and look-ups by time, know nothing below the start and everything from it on. */
static void expect_log(struct life *l)
{
    int64_t start = log_start_offset(the_log(l));
    int64_t end = log_end_offset(the_log(l));
    struct buf none = {0};
    int64_t offset;
    int64_t timestamp;
    assert_in_range(start, l->start, l->asked);
    assert_int_equal(end, log_high_watermark(the_log(l)));
    assert_in_range(end, l->end, l->end + STEP_RECORDS); /* what was not answered may be there */
    assert_int_equal(log_kit_read(&l->k, 0, start - 1, 1 << 20, &none), ERR_RANGE);
    buf_finish(&none);
    expect_records(l, start, end);
    assert_int_equal(log_kit_find_time(&l->k, 0, T0, &offset, &timestamp), OK);
    assert_int_equal(offset, start < end ? start : -1);
    assert_int_equal(timestamp, start < end ? T0 + start : -1);
    assert_int_equal(log_kit_max_time(&l->k, 0, &offset, &timestamp), OK);
    assert_int_equal(offset, start < end ? end - 1 : -1);
    l->start = start;
    l->end = end;
}

static void restart(struct life *l, enum sim_cut how)
{
    if (l->k.m) {
        log_kit_crash(&l->k, how);
    }
    assert_int_equal(log_kit_start(&l->k, 1, false), OK);
}

static void expect_ended(struct life *l)
{
    for (int i = 0; i < 3; i++) {
        assert_int_equal(l->start, 28);
        assert_int_equal(l->end, 33);
        restart(l, SIM_CUT_LOSE);
        expect_log(l);
    }
    log_kit_stop(&l->k);
    assert_int_equal(log_kit_start(&l->k, 1, true), OK);
    expect_log(l);
}

/* False: there are not so many operations. */
static bool crash_at(uint64_t at, enum sim_cut how)
{
    struct life *l = mem_need_zero(1, sizeof *l);
    l->how = how;
    init(l);
    sim_store_count_from_zero(l->k.sim);
    sim_store_cut_at(l->k.sim, at, how);
    bool finished = live(l);
    restart(l, how);
    expect_log(l);
    restart(l, SIM_CUT_LOSE); /* what the first start mended is lasting */
    expect_log(l);
    assert_true(live(l));
    expect_ended(l);
    log_kit_finish(&l->k);
    mem_free(l);
    return !finished;
}

static void sweep(enum sim_cut how)
{
    uint64_t at = 0;
    while (crash_at(at, how)) {
        at++;
    }
    assert_true(at > 50);
}

static void a_start_that_was_answered_outlives_a_kill_anywhere(void **state)
{
    (void)state;
    sweep(SIM_KILL);
}

static void a_start_that_was_answered_outlives_a_power_cut_anywhere(void **state)
{
    (void)state;
    sweep(SIM_CUT_LOSE);
}

static void a_start_that_was_answered_outlives_a_torn_power_cut_anywhere(void **state)
{
    (void)state;
    sweep(SIM_CUT_TEAR);
}

/* False: as crash_at. */
static bool fail_at(uint64_t at, err e)
{
    struct life *l = mem_need_zero(1, sizeof *l);
    l->how = SIM_CUT_LOSE;
    init(l);
    sim_store_count_from_zero(l->k.sim);
    sim_store_fail_at(l->k.sim, at, e);
    bool good = live(l);
    bool happened = sim_store_fault_op(l->k.sim) != SIM_OP_COUNT || !l->k.m;
    sim_store_count_from_zero(l->k.sim);
    if (!l->k.m) { /* a sync failed: the process ends */
        restart(l, SIM_CUT_LOSE);
    }
    expect_log(l);
    assert_true(good || happened);
    assert_true(live(l)); /* asked again, it is done */
    expect_ended(l);
    log_kit_finish(&l->k);
    mem_free(l);
    return happened;
}

static void a_start_that_could_not_be_written_has_not_moved_and_can_be_asked_for_again(void **state)
{
    (void)state;
    static const err errors[] = {ERR_IO, ERR_NO_SPACE, ERR_NO_FILES};
    for (int i = 0; i < 3; i++) {
        uint64_t at = 0;
        while (fail_at(at, errors[i])) {
            at++;
        }
        assert_true(at > 50);
    }
}

/* ---- without faults */

static int segment_files(struct life *l)
{
    int count = 0;
    struct store *store = sim_store_store(l->k.sim);
    for (int64_t base = 0; base <= l->end; base++) {
        char path[64];
        struct store_file *file;
        snprintf(path, sizeof path, "t0-0/%020lld.log", (long long)base);
        if (!store->ops->open(store->ctx, path, STORE_READ, &file)) {
            store->ops->close(store->ctx, file);
            count++;
        }
    }
    return count;
}

static void whole_segments_below_the_start_are_removed(void **state)
{
    (void)state;
    struct life *l = mem_need_zero(1, sizeof *l);
    init(l);
    for (int i = 0; i < 6; i++) {
        assert_true(append(l));
    }
    assert_int_equal(segment_files(l), 3);
    assert_true(delete_to(l, 5));
    assert_int_equal(segment_files(l), 3);
    assert_true(delete_to(l, 6));
    assert_int_equal(segment_files(l), 2);
    int64_t before = log_size_bytes(the_log(l));
    assert_true(before > 0);
    assert_true(delete_to(l, 18)); /* all of it: the last segment too */
    assert_int_equal(segment_files(l), 1);
    assert_int_equal(log_size_bytes(the_log(l)), 0);
    assert_int_equal(log_end_offset(the_log(l)), 18);
    assert_true(append(l));
    expect_log(l);
    restart(l, SIM_CUT_LOSE);
    expect_log(l);
    log_kit_finish(&l->k);
    mem_free(l);
}

static void a_start_outside_of_the_log_is_refused_and_one_behind_it_is_there_already(void **state)
{
    (void)state;
    struct life *l = mem_need_zero(1, sizeof *l);
    init(l);
    assert_true(append(l));
    struct log_deletion d = {.offset = 4, .done = on_done};
    assert_int_equal(log_delete_records(the_log(l), &d), ERR_RANGE);
    d.offset = -1;
    assert_int_equal(log_delete_records(the_log(l), &d), ERR_RANGE);
    d.offset = 0;
    assert_int_equal(log_delete_records(the_log(l), &d), ERR_EXISTS);
    assert_true(delete_to(l, 2));
    d.offset = 1;
    assert_int_equal(log_delete_records(the_log(l), &d), ERR_EXISTS);
    log_kit_finish(&l->k);
    mem_free(l);
}

/* Many at once share the writes of the file; each is answered, and the furthest counts. */
static void deletions_at_once_are_all_answered(void **state)
{
    (void)state;
    struct life *l = mem_need_zero(1, sizeof *l);
    init(l);
    struct log_deletion d[10];
    for (int i = 0; i < 4; i++) {
        assert_true(append(l));
    }
    done_count = 0;
    for (int i = 0; i < 10; i++) {
        d[i] = (struct log_deletion){.offset = 1 + (i * 7) % 10, .done = on_done};
        assert_int_equal(log_delete_records(the_log(l), &d[i]), OK);
    }
    sim_store_count_from_zero(l->k.sim);
    drain(l);
    assert_int_equal(done_count, 10);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(d[i].result, OK);
    }
    assert_true(sim_store_operations(l->k.sim) < 40);
    l->start = l->asked = 10;
    expect_log(l);
    restart(l, SIM_CUT_LOSE);
    expect_log(l);
    log_kit_finish(&l->k);
    mem_free(l);
}

/* What a stop leaves undone of a deletion, the first look of retention after the start does. */
static void segments_that_a_crash_left_below_the_start_go_after_it(void **state)
{
    (void)state;
    struct life *l = mem_need_zero(1, sizeof *l);
    struct store *store;
    init(l);
    for (int i = 0; i < 6; i++) {
        assert_true(append(l));
    }
    log_kit_stop(&l->k);
    store = sim_store_store(l->k.sim);
    const char text[] = "0\n1\nt0 0 13\n";
    assert_int_equal(
        store_replace_file(store, "log-start-offset-checkpoint", text, sizeof text - 1), OK);
    assert_int_equal(log_kit_start(&l->k, 1, true), OK);
    assert_int_equal(log_start_offset(the_log(l)), 13);
    assert_int_equal(segment_files(l), 3);
    sim_clock_advance_ms(&l->k.clock, 1000);
    timers_run(&l->k.timers, clock_mono_ms(&l->k.clock.clock));
    drain(l);
    assert_int_equal(segment_files(l), 1);
    l->start = l->asked = 13;
    expect_log(l);
    log_kit_finish(&l->k);
    mem_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_segments_below_the_start_are_removed),
        cmocka_unit_test(a_start_outside_of_the_log_is_refused_and_one_behind_it_is_there_already),
        cmocka_unit_test(deletions_at_once_are_all_answered),
        cmocka_unit_test(segments_that_a_crash_left_below_the_start_go_after_it),
        cmocka_unit_test(a_start_that_was_answered_outlives_a_kill_anywhere),
        cmocka_unit_test(a_start_that_was_answered_outlives_a_power_cut_anywhere),
        cmocka_unit_test(a_start_that_was_answered_outlives_a_torn_power_cut_anywhere),
        cmocka_unit_test(
            a_start_that_could_not_be_written_has_not_moved_and_can_be_asked_for_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

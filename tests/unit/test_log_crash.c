/* The log under crashes at every place: the process is killed, or the power goes, at each operation
 * in turn of a start and of the appends behind it; and then once more. */
#include "broker/log/internal.h"
#include "tests/kit/log_kit.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
    LOGS = 2,
    BEFORE = 6, /* steps before the clean stop */
    STEPS = 14,
    STEP_RECORDS = 3,
    PRODUCER = 5,
};

static const int64_t T0 = 1700000000000;

/* Step n appends STEP_RECORDS records to each log, by one producer, one millisecond apart. */
struct crash {
    struct log_kit k;
    bool acknowledged[STEPS][LOGS];
    uint64_t at; /* the operation of the cut */
    enum sim_cut how;
};

static int64_t offset_of(int step)
{
    return (int64_t)step * STEP_RECORDS;
}

static void batch_of(struct log_kit_append *a, int step)
{
    log_kit_batch(a, STEP_RECORDS, 250, (uint64_t)offset_of(step), T0 + offset_of(step), PRODUCER,
                  0, (int32_t)offset_of(step));
}

/* Until nothing is under way; what waits for a while does so. */
static void drain(struct crash *c)
{
    for (int i = 0; i < 3; i++) {
        log_kit_drain(&c->k);
        sim_clock_advance_ms(&c->k.clock, 100);
        timers_run(&c->k.timers, clock_mono_ms(&c->k.clock.clock));
    }
    log_kit_drain(&c->k);
}

static void append_step(struct crash *c, int step)
{
    struct log_kit_append a[LOGS];
    bool taken[LOGS];
    for (int i = 0; i < LOGS; i++) {
        batch_of(&a[i], step);
        taken[i] = !log_kit_append(&c->k, i, &a[i]);
    }
    drain(c);
    for (int i = 0; i < LOGS; i++) {
        assert_true(!taken[i] || a[i].durable == 1 || sim_store_is_down(c->k.sim));
        if (taken[i] && a[i].durable == 1 && !a[i].durable_result) {
            c->acknowledged[step][i] = true;
            assert_int_equal(a[i].a.base_offset, offset_of(step));
        }
    }
    /* What the store never answered is over with the manager: log_kit_crash. */
    if (sim_store_is_down(c->k.sim)) {
        log_kit_crash(&c->k, c->how);
    }
    for (int i = 0; i < LOGS; i++) {
        log_kit_append_finish(&a[i]);
    }
}

/* Records 0 .. the high watermark, as they were written; the high watermark. */
static int64_t read_all(struct crash *c, int log)
{
    struct batch_scratch scratch = {0};
    int64_t end = log_high_watermark(log_kit_log(&c->k, log));
    int64_t next = 0;
    sim_store_evict(c->k.sim);
    while (next < end) {
        struct buf out = {0};
        struct batch_header h;
        assert_int_equal(log_kit_read(&c->k, log, next, 1 << 20, &out), OK);
        for (size_t at = 0; at < out.len; at += h.size) {
            struct batch_iterator it;
            struct record r;
            assert_int_equal(batch_header_read(out.ptr + at, out.len - at, &h), OK);
            assert_true(batch_crc_is_right(out.ptr + at, h.size));
            assert_int_equal(batch_iterator_init(&it, out.ptr + at, h.size, 1 << 20, &scratch), OK);
            while (!batch_iterator_next(&it, &r)) {
                uint64_t tag;
                memcpy(&tag, r.value.ptr, sizeof tag);
                assert_int_equal(r.offset, next);
                assert_int_equal(__builtin_bswap64(tag), next);
                next++;
            }
        }
        buf_finish(&out);
    }
    batch_scratch_finish(&scratch);
    return end;
}

static void expect_acknowledged(struct crash *c)
{
    for (int i = 0; i < LOGS; i++) {
        int64_t end = read_all(c, i);
        assert_int_equal(end, log_end_offset(log_kit_log(&c->k, i)));
        assert_int_equal(end % STEP_RECORDS, 0);
        for (int step = 0; step < STEPS; step++) {
            assert_true(!c->acknowledged[step][i] || end >= offset_of(step + 1));
        }
    }
}

static void expect_everything(struct crash *c)
{
    for (int i = 0; i < LOGS; i++) {
        assert_int_equal(read_all(c, i), offset_of(STEPS));
        for (int64_t n = 0; n < offset_of(STEPS); n++) {
            int64_t offset;
            int64_t timestamp;
            assert_int_equal(log_kit_find_time(&c->k, i, T0 + n, &offset, &timestamp), OK);
            assert_int_equal(offset, n);
            assert_int_equal(timestamp, T0 + n);
        }
    }
}

/* Its producer never heard of it: it sends it again, and it is there once. */
static void retry_step(struct crash *c, int step)
{
    for (int i = 0; i < LOGS; i++) {
        struct log_kit_append a;
        if (c->acknowledged[step][i]) {
            continue;
        }
        batch_of(&a, step);
        assert_int_equal(log_kit_append(&c->k, i, &a), OK);
        drain(c);
        assert_int_equal(a.a.base_offset, offset_of(step));
        assert_int_equal(a.durable, 1);
        assert_int_equal(a.durable_result, OK);
        c->acknowledged[step][i] = true;
        log_kit_append_finish(&a);
    }
}

/* False: there are not so many operations. */
static bool crash_at(uint64_t at, enum sim_cut how, uint64_t seed)
{
    struct crash *c = mem_need_zero(1, sizeof *c);
    struct log_kit *k = &c->k;
    c->at = at;
    c->how = how;
    log_kit_init(k, seed);
    k->config.segment_bytes = 2100; /* two steps a segment: the stop is at the end of a full one */
    k->config.index_interval_bytes =
        1000; /* so that a segment's last time entry comes with its seal */
    assert_int_equal(log_kit_start(k, LOGS, false), OK);
    for (int step = 0; step < BEFORE; step++) {
        append_step(c, step);
        assert_true(c->acknowledged[step][0] && c->acknowledged[step][1]);
    }
    log_kit_stop(k);

    sim_store_count_from_zero(k->sim);
    sim_store_cut_at(k->sim, at, how);
    bool started = log_kit_start(k, LOGS, true) == OK;
    assert_true(started || sim_store_is_down(k->sim));
    for (int step = BEFORE; started && k->m && step < STEPS; step++) {
        append_step(c, step);
    }
    bool happened = !k->m || sim_store_is_down(k->sim);
    if (!started || k->m) {
        log_kit_crash(k, how);
    }
    assert_int_equal(log_kit_start(k, LOGS, false), OK);
    expect_acknowledged(c);
    for (int step = 0, left = 1; left > 0;
         step++) { /* the first that needs it, and the power goes */
        left -= step + 1 == STEPS || !c->acknowledged[step][0] || !c->acknowledged[step][1];
        retry_step(c, step);
    }
    log_kit_crash(k, SIM_CUT_LOSE);
    assert_int_equal(log_kit_start(k, LOGS, false), OK);
    expect_acknowledged(c);
    for (int step = 0; step < STEPS; step++) {
        retry_step(c, step);
    }
    log_kit_crash(k, SIM_CUT_LOSE);
    assert_int_equal(log_kit_start(k, LOGS, false), OK);
    expect_everything(c);
    log_kit_stop(k);
    assert_int_equal(log_kit_start(k, LOGS, true), OK);
    expect_everything(c);
    log_kit_finish(k);
    mem_free(c);
    return happened;
}

/* One operation fails, and the process lives (or ends, where it must). False: as crash_at. */
static bool fail_at(uint64_t at, err e)
{
    struct crash *c = mem_need_zero(1, sizeof *c);
    struct log_kit *k = &c->k;
    c->how = SIM_KILL;
    log_kit_init(k, 1);
    k->config.segment_bytes = 2100;
    k->config.index_interval_bytes = 1000;
    assert_int_equal(log_kit_start(k, LOGS, false), OK);
    append_step(c, 0);
    sim_store_count_from_zero(k->sim);
    sim_store_fail_at(k->sim, at, e);
    for (int step = 1; k->m && step < STEPS; step++) {
        append_step(c, step); /* refused, perhaps, but answered: then the same again is taken */
        if (k->m && !(c->acknowledged[step][0] && c->acknowledged[step][1])) {
            retry_step(c, step);
        }
    }
    bool happened = !k->m || sim_store_fault_op(k->sim) != SIM_OP_COUNT;
    sim_store_count_from_zero(k->sim);
    if (k->m) {
        expect_everything(c);
        log_kit_crash(k, SIM_CUT_LOSE);
    }
    assert_int_equal(log_kit_start(k, LOGS, false), OK);
    expect_acknowledged(c);
    for (int step = 0; step < STEPS; step++) {
        retry_step(c, step);
    }
    expect_everything(c);
    log_kit_finish(k);
    mem_free(c);
    return happened;
}

static void an_operation_that_fails_leaves_no_append_without_an_answer(void **state)
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

static void stopped(void *ctx)
{
    *(bool *)ctx = true;
}

/* False: as crash_at. */
static bool fail_stop_at(uint64_t at)
{
    struct crash *c = mem_need_zero(1, sizeof *c);
    struct log_kit *k = &c->k;
    bool done = false;
    c->how = SIM_KILL;
    log_kit_init(k, 1);
    k->config.segment_bytes = 2100;
    assert_int_equal(log_kit_start(k, LOGS, false), OK);
    for (int step = 0; step < STEPS; step++) {
        append_step(c, step);
        if (step == BEFORE) { /* so that there are older files of everything */
            log_kit_stop(k);
            assert_int_equal(log_kit_start(k, LOGS, true), OK);
        }
    }
    sim_store_count_from_zero(k->sim);
    sim_store_fail_at(k->sim, at, ERR_NO_SPACE);
    log_manager_stop(k->m, stopped, &done);
    log_kit_drain(k);
    assert_true(done);
    bool happened = sim_store_fault_op(k->sim) != SIM_OP_COUNT;
    bool clean = log_manager_stopped_clean(k->m);
    log_manager_destroy(k->m);
    k->m = NULL;
    assert_true(happened || clean);
    log_kit_crash(k, SIM_CUT_LOSE); /* the mark is durable, what it promises must be too */
    assert_int_equal(log_kit_start(k, LOGS, clean), OK);
    expect_everything(c);
    for (int i = 0; i < LOGS; i++) { /* and the producer is known */
        struct log_kit_append a;
        batch_of(&a, STEPS - 1);
        assert_int_equal(log_kit_append(k, i, &a), OK);
        assert_true(a.a.duplicate);
        log_kit_drain(k);
        log_kit_append_finish(&a);
    }
    log_kit_stop(k);
    assert_int_equal(log_kit_start(k, LOGS, true), OK);
    expect_everything(c);
    log_kit_finish(k);
    mem_free(c);
    return happened;
}

static void a_stop_that_could_not_write_everything_is_not_called_clean(void **state)
{
    (void)state;
    uint64_t at = 0;
    while (fail_stop_at(at)) {
        at++;
    }
    assert_true(at > 10);
}

static void sweep(enum sim_cut how, uint64_t seeds)
{
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        uint64_t at = 0;
        while (crash_at(at, how, seed)) {
            at++;
        }
        assert_true(at > 50);
    }
}

static void what_was_acknowledged_outlives_a_kill_anywhere_and_a_power_cut_after_it(void **state)
{
    (void)state;
    sweep(SIM_KILL, 1);
}

static void what_was_acknowledged_outlives_a_power_cut_anywhere(void **state)
{
    (void)state;
    sweep(SIM_CUT_LOSE, 1);
}

static void what_was_acknowledged_outlives_a_torn_power_cut_anywhere(void **state)
{
    (void)state;
    sweep(SIM_CUT_TEAR, 5);
}

static err append_one(struct log_kit *k, int64_t offset)
{
    struct log_kit_append a;
    log_kit_batch(&a, 1, 100, (uint64_t)offset, k->clock.wall_ms, -1, -1, -1);
    assert_int_equal(log_kit_append(k, 0, &a), OK);
    log_kit_drain(k);
    log_kit_append_finish(&a);
    return a.durable_result;
}

/* A batch is refused, what of it was written is cut off again, and the segment is full. Nobody
 * syncs the cut, so the power may bring back some of those bytes: they are behind the segment's
 * end, and nothing of the log. LATE: a checkpoint has gone by, and the next start does not look
 * there. KILLED: and who cut did not live to see that. */
enum when { AT_ONCE, LATE, KILLED };

/* A batch is refused, and the clean stop behind it has nothing else to sync. What the power brings
 * back of the batch lies behind an end that the next start does not look for. */
static void stop_then_cut_the_power(uint64_t seed)
{
    struct log_kit k;
    struct buf out = {0};
    log_kit_init(&k, seed);
    assert_int_equal(log_kit_start(&k, 1, false), OK);
    log_note_growth(log_kit_log(&k, 0), CHECKPOINT_BYTES);
    for (int64_t i = 0; i < 2; i++) {
        assert_int_equal(append_one(&k, i), OK);
    }
    timers_run(&k.timers, clock_mono_ms(&k.clock.clock));
    log_kit_drain(&k);
    assert_int_equal(log_kit_log(&k, 0)->recovery_point, 2); /* there was a checkpoint */
    sim_store_set_limit(k.sim, sim_store_used(k.sim) + 200); /* all of one, and not of two */
    struct log_kit_append a[2];
    for (int i = 0; i < 2; i++) {
        log_kit_batch(&a[i], 1, 100, (uint64_t)i, k.clock.wall_ms, -1, -1, -1);
        assert_int_equal(log_kit_append(&k, 0, &a[i]), OK);
    }
    log_kit_drain(&k);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(a[i].durable_result, ERR_NO_SPACE);
        log_kit_append_finish(&a[i]);
    }
    sim_store_set_limit(k.sim, -1);
    log_kit_stop(&k);
    assert_true(k.stopped_clean);
    log_kit_crash(&k, SIM_CUT_TEAR);
    assert_int_equal(log_kit_start(&k, 1, true), OK);
    assert_int_equal(log_high_watermark(log_kit_log(&k, 0)), 2);
    assert_int_equal(append_one(&k, 2), OK);
    for (int64_t i = 0; i < 3; i++) {
        assert_int_equal(log_kit_read(&k, 0, i, 1, &out), OK);
    }
    buf_finish(&out);
    log_kit_finish(&k);
}

static void a_clean_stop_syncs_what_was_cut(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 40; seed++) {
        stop_then_cut_the_power(seed);
    }
}

static void refuse_then_cut_the_power(uint64_t seed, enum when when)
{
    const int64_t before = when ? 2 : 3; /* the third one would be in the journal, and be synced */
    struct log_kit k;
    struct buf out = {0};
    int64_t offset, timestamp;
    log_kit_init(&k, seed);
    k.config.segment_ms = 1000;
    assert_int_equal(log_kit_start(&k, 1, false), OK);
    for (int64_t i = 0; i < before; i++) {
        assert_int_equal(append_one(&k, i), OK);
    }
    if (when == KILLED) {
        log_kit_stop(&k);
        assert_int_equal(log_kit_start(&k, 1, true), OK);
    }
    sim_store_set_limit(k.sim, sim_store_used(k.sim) + 70); /* of some 170 bytes */
    assert_int_equal(append_one(&k, before), ERR_NO_SPACE);
    sim_store_set_limit(k.sim, -1);
    if (when == KILLED) {
        log_kit_crash(&k, SIM_KILL);
        assert_int_equal(log_kit_start(&k, 1, false), OK);
    }
    sim_clock_advance_ms(&k.clock, 1001);
    assert_int_equal(append_one(&k, before), OK); /* in the next segment */
    if (when != AT_ONCE) {
        log_kit_stop(&k);
    }
    log_kit_crash(&k, SIM_CUT_TEAR);
    assert_int_equal(log_kit_start(&k, 1, false), OK);
    sim_clock_advance_ms(&k.clock, 1);
    assert_int_equal(append_one(&k, before + 1), OK); /* it is not fenced */
    for (int64_t i = 0; i < before + 2; i++) {
        assert_int_equal(log_kit_read(&k, 0, i, 1, &out), OK);
    }
    assert_int_equal(log_kit_max_time(&k, 0, &offset, &timestamp), OK);
    assert_int_equal(offset, before + 1);
    buf_finish(&out);
    log_kit_finish(&k);
}

static void bytes_of_a_refused_batch_that_come_back_are_nothing_of_the_log(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 40; seed++) {
        refuse_then_cut_the_power(seed, AT_ONCE);
        refuse_then_cut_the_power(seed, LATE);
        refuse_then_cut_the_power(seed, KILLED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_acknowledged_outlives_a_kill_anywhere_and_a_power_cut_after_it),
        cmocka_unit_test(what_was_acknowledged_outlives_a_power_cut_anywhere),
        cmocka_unit_test(what_was_acknowledged_outlives_a_torn_power_cut_anywhere),
        cmocka_unit_test(bytes_of_a_refused_batch_that_come_back_are_nothing_of_the_log),
        cmocka_unit_test(a_clean_stop_syncs_what_was_cut),
        cmocka_unit_test(an_operation_that_fails_leaves_no_append_without_an_answer),
        cmocka_unit_test(a_stop_that_could_not_write_everything_is_not_called_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

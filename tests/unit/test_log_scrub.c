/* The scrub: rot in sealed segments is found in the background, marked, and not given out as good
 * any more; at its rate, when its time has come, and never in anybody's way. */
#include "base/bytes.h"
#include "base/mem.h"
#include "broker/log/internal.h"
#include "tests/kit/log_kit.h"
#include "tests/kit/store_dsl.h"

#include <stdio.h>
#include <stdlib.h>

static const int64_t T0 = 1700000000000;

enum { BATCH = 2 /* records */, VALUE = 100 /* bytes */, HOUR = 3600000 };

/* The segments are small: `batches` of them hold what fits 64 KiB. */
static struct log_kit *kit(int64_t rate)
{
    struct log_kit *k = mem_need(sizeof *k);
    log_kit_init(k, 1);
    k->config.segment_bytes = 1000;
    k->scrub_bytes_per_s = rate;
    k->scrub_interval_ms = HOUR;
    k->keeps_lines = true;
    assert_int_equal(log_kit_start(k, 1, true), OK);
    return k;
}

static void done(struct log_kit *k)
{
    log_kit_finish(k);
    mem_free(k);
}

static size_t append(struct log_kit *k, int log, int32_t records, size_t value, int64_t tag)
{
    struct log_kit_append a;
    log_kit_batch(&a, records, value, (uint64_t)tag, T0 + tag, -1, -1, -1);
    size_t size = a.bytes.len;
    assert_int_equal(log_kit_append(k, log, &a), OK);
    log_kit_drain(k);
    assert_int_equal(a.durable_result, OK);
    log_kit_append_finish(&a);
    return size;
}

/* Batches of two records, three in a segment. The bytes of one. */
static size_t fill(struct log_kit *k, int batches)
{
    size_t size = 0;
    for (int i = 0; i < batches; i++) {
        size = append(k, 0, BATCH, VALUE, BATCH * i);
    }
    return size;
}

/* Fires what is due and drains, from one deadline to the next, for `ms`. Number of times that it
 * woke up. */
static int pass_time(struct log_kit *k, int64_t ms)
{
    int64_t end = clock_mono_ms(&k->clock.clock) + ms;
    int woken = 0;
    for (int64_t next; (next = timers_next_ms(&k->timers)) <= end; woken++) {
        int64_t now = clock_mono_ms(&k->clock.clock);
        sim_clock_advance_ms(&k->clock, next > now ? next - now : 0);
        timers_run(&k->timers, next > now ? next : now);
        log_kit_drain(k);
    }
    sim_clock_advance_ms(&k->clock, end - clock_mono_ms(&k->clock.clock));
    return woken;
}

static int64_t first_at(struct log_kit *k, int64_t offset)
{
    struct buf out = {0};
    struct batch_header h = {0};
    err e = log_kit_read(k, 0, offset, 100000, &out);
    if (!e) {
        assert_int_equal(batch_header_read(out.ptr, out.len, &h), OK);
        assert_true(batch_crc_is_right(out.ptr, h.size));
    }
    buf_finish(&out);
    return e ? -(int64_t)e : h.base_offset;
}

/* Everything but the `bad` batches of two records is served, and is right, to its last byte. */
static void expect_served(struct log_kit *k, int batches, const int64_t *bad, size_t bad_count)
{
    for (int64_t i = 0; i < batches; i++) {
        int64_t want = i * BATCH;
        for (size_t b = 0; b < bad_count; b++) {
            want = bad[b] == i * BATCH ? -ERR_CORRUPT : want;
        }
        assert_int_equal(first_at(k, i * BATCH), want);
    }
    for (int64_t at = 0; at < (int64_t)batches * BATCH;) { /* as a consumer reads on */
        struct buf out = {0};
        err e = log_kit_read(k, 0, at, 100000, &out);
        at += BATCH;
        if (!e) {
            struct batch_header h;
            size_t from = 0;
            while (from < out.len && !batch_header_read(out.ptr + from, out.len - from, &h)) {
                assert_true(batch_crc_is_right(out.ptr + from, h.size));
                from += h.size;
                at = h.base_offset + h.last_offset_delta + 1;
            }
            assert_int_equal(from, out.len);
        }
        buf_finish(&out);
    }
}

static int lines_with(struct log_kit *k, const char *what)
{
    int count = 0;
    for (const char *at = buf_text(&k->lines); (at = strstr(at, what)); at++) {
        count++;
    }
    return count;
}

static void flip(struct log_kit *k, int64_t base, int64_t position, uint8_t mask)
{
    char path[64];
    snprintf(path, sizeof path, "t0-0/%020lld.log", (long long)base);
    sim_store_flip(k->sim, path, position, mask);
}

/* ---- reads, whoever finds the rot */

/* Before, the first batch of the segment was taken for the bad one. */
static void a_header_that_rotted_takes_no_batch_before_it(void **state)
{
    (void)state;
    struct log_kit *k = kit(0);
    size_t size = fill(k, 9);
    log_kit_stop(k);
    flip(k, 0, (int64_t)size + 8, 0x40); /* the length of the second batch */
    assert_int_equal(log_kit_start(k, 1, true), OK);
    assert_int_equal(first_at(k, 4), -ERR_CORRUPT);
    assert_int_equal(first_at(k, 0), 0);
    assert_int_equal(first_at(k, 2), -ERR_CORRUPT);
    assert_int_equal(first_at(k, 4), -ERR_CORRUPT);
    assert_int_equal(first_at(k, 0), 0);
    assert_int_equal(first_at(k, 6), 6);
    assert_int_equal(lines_with(k, "event=batch_corrupt dir=t0-0 base=0"), 1);
    done(k);
}

/* Two readers, each at its bad batch, again and again. */
static void rot_at_two_places_of_a_segment_is_said_once_each(void **state)
{
    (void)state;
    struct log_kit *k = kit(0);
    size_t size = fill(k, 9);
    log_kit_stop(k);
    flip(k, 0, 70, 1);
    flip(k, 0, 2 * (int64_t)size + 70, 1);
    assert_int_equal(log_kit_start(k, 1, true), OK);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(first_at(k, 0), -ERR_CORRUPT);
        assert_int_equal(first_at(k, 4), -ERR_CORRUPT);
        assert_int_equal(first_at(k, 2), 2);
    }
    assert_int_equal(lines_with(k, "event=batch_corrupt"), 2);
    done(k);
}

/* ---- what it finds */

/* Every byte of a batch that its checksum, length or offset covers, in segments that this process
 * wrote and would give out unseen. */
static void rot_anywhere_in_a_batch_is_found_and_not_served_any_more(void **state)
{
    (void)state;
    static const int64_t bad[] = {8};
    for (int64_t position = 0;; position++) {
        if (position >= 1 && position < 8) {
            continue; /* a base offset that rotted into another one of the segment's: the next test
                       */
        }
        if (position >= 12 && position < 16) {
            continue; /* the leader epoch: nothing says what it was */
        }
        struct log_kit *k = kit(1 << 20);
        size_t size = fill(k, 12);
        if (position == (int64_t)size) {
            done(k);
            break;
        }
        expect_served(k, 12, NULL, 0);
        flip(k, 6, (int64_t)size + position, 0x80);
        bool header = position < 21 && first_at(k, 6) < 0; /* readers walk headers themselves */
        assert_false(header && lines_with(k, "scrubbed"));
        pass_time(k, HOUR + 10000);
        assert_int_equal(first_at(k, 8), -ERR_CORRUPT);
        assert_int_equal(first_at(k, 6), 6);
        bool lost = position < 17 && position > 7; /* the way to the next batch is gone */
        assert_int_equal(first_at(k, 10), lost ? -ERR_CORRUPT : 10);
        assert_int_equal(first_at(k, 12), 12);
        assert_int_equal(lines_with(k, "event=batch_corrupt dir=t0-0 base=6"), 1);
        assert_int_equal(lines_with(k, "corrupt=1 unread=0"), 1);
        pass_time(k, 3LL * HOUR); /* said once */
        assert_int_equal(lines_with(k, "event=batch_corrupt"), 1);
        if (!lost) {
            expect_served(k, 12, bad, 1);
        }
        done(k);
    }
}

static void several_rotten_batches_of_a_segment_are_all_found(void **state)
{
    (void)state;
    static const int64_t bad[] = {0, 4, 8, 10};
    struct log_kit *k = kit(1 << 20);
    size_t size = fill(k, 12);
    flip(k, 0, 100, 1);
    flip(k, 0, 2 * (int64_t)size + 100, 2);
    flip(k, 6, (int64_t)size + 100, 4);
    flip(k, 6, 2 * (int64_t)size + 100, 8);
    pass_time(k, HOUR + 10000);
    assert_int_equal(lines_with(k, "event=batch_corrupt"), 4);
    assert_int_equal(lines_with(k, "segments=3 bytes="), 1);
    assert_int_equal(lines_with(k, "corrupt=4 unread=0"), 1);
    expect_served(k, 12, bad, 4);
    expect_served(k, 12, bad, 4);
    assert_int_equal(lines_with(k, "event=batch_corrupt"), 4);
    done(k);
}

/* A batch is larger than what is read at once; rot in its first, middle and last bytes. */
static void batches_larger_than_a_piece_are_checked_whole(void **state)
{
    (void)state;
    for (int where = 0; where < 4; where++) {
        struct log_kit *k = kit(1 << 30);
        k->config.segment_bytes = 16 << 20;
        log_set_config(log_kit_log(k, 0), &k->config);
        int64_t size = 0;
        for (int i = 0; i < 4; i++) { /* 2.5 MB each; the pieces end anywhere in them */
            size = (int64_t)append(k, 0, 650, 4000, 650 * i);
        }
        k->config.segment_bytes = 1000;
        log_set_config(log_kit_log(k, 0), &k->config);
        append(k, 0, BATCH, VALUE, 2600);
        assert_true(size > 2 << 20);
        if (where) {
            flip(k, 0, size + (where == 1 ? 61 : where == 2 ? size / 2 : size - 1), 1);
        }
        pass_time(k, HOUR + 10000);
        assert_int_equal(lines_with(k, where ? "corrupt=1" : "corrupt=0"), 1);
        assert_int_equal(lines_with(k, "segments=1 "), 1);
        assert_int_equal(first_at(k, 0), 0);
        assert_int_equal(first_at(k, 650), where ? -ERR_CORRUPT : 650);
        assert_int_equal(first_at(k, 1300), 1300);
        done(k);
    }
}

static void a_file_that_was_cut_is_found(void **state)
{
    (void)state;
    for (int64_t cut = 1; cut < 400; cut += 30) {
        struct log_kit *k = kit(1 << 20);
        size_t size = fill(k, 9);
        struct store *s = sim_store_store(k->sim);
        struct store_file *file = open_file(s, "t0-0/00000000000000000000.log", STORE_WRITE);
        assert_int_equal(s->ops->truncate(s->ctx, file, 3 * (int64_t)size - cut), OK);
        close_file(s, file);
        pass_time(k, HOUR + 10000);
        assert_int_equal(lines_with(k, "event=batch_corrupt dir=t0-0 base=0"), 1);
        assert_int_equal(first_at(k, 0), 0);
        assert_true(first_at(k, 4) < 0);
        assert_int_equal(first_at(k, 6), 6);
        done(k);
    }
}

/* ---- when, and how fast */

static void between_passes_nothing_wakes_up(void **state)
{
    (void)state;
    struct log_kit *k = kit(1 << 20);
    fill(k, 9);
    pass_time(k, HOUR - 1); /* a clean start: nothing is due; a checkpoint may be */
    assert_int_equal(lines_with(k, "scrubbed"), 0);
    assert_int_equal(pass_time(k, 1000), 3); /* two segments, and the end */
    assert_int_equal(lines_with(k, "event=scrubbed segments=2"), 1);
    assert_int_equal(pass_time(k, HOUR - 1001), 0);
    assert_int_equal(pass_time(k, 1000), 3);
    assert_int_equal(lines_with(k, "event=scrubbed segments=2"), 2);
    done(k);
}

static void after_an_unclean_stop_it_begins_at_once(void **state)
{
    (void)state;
    struct log_kit *k = kit(1 << 20);
    fill(k, 9);
    log_kit_crash(k, SIM_KILL);
    assert_int_equal(log_kit_start(k, 1, false), OK);
    pass_time(k, 1000);
    assert_int_equal(lines_with(k, "event=scrubbed segments=2"), 1);
    assert_int_equal(pass_time(k, HOUR - 2000), 0);
    done(k);
}

static void without_a_rate_there_is_none(void **state)
{
    (void)state;
    struct log_kit *k = kit(0);
    fill(k, 9);
    log_kit_crash(k, SIM_KILL);
    assert_int_equal(log_kit_start(k, 1, false), OK);
    pass_time(k, 10LL * HOUR);
    assert_int_equal(lines_with(k, "scrub"), 0);
    done(k);
}

/* 10,000 bytes a second: of 20 segments of some 900 bytes each. */
static void it_keeps_to_its_rate(void **state)
{
    (void)state;
    struct log_kit *k = kit(10000);
    size_t size = fill(k, 63);
    int64_t bytes = 60 * (int64_t)size;
    pass_time(k, HOUR);
    pass_time(k, bytes * 1000 / 10000 - 50);
    assert_int_equal(lines_with(k, "scrubbed"), 0);
    pass_time(k, 100);
    assert_int_equal(lines_with(k, "event=scrubbed segments=20"), 1);
    done(k);
}

/* ---- over restarts */

static void restart(struct log_kit *k, int how) /* -1: clean; else a crash */
{
    if (how < 0) {
        log_kit_stop(k);
    } else {
        log_kit_crash(k, (enum sim_cut)how);
    }
    assert_int_equal(log_kit_start(k, 2, how < 0), OK);
}

/* Ten bytes a second: a segment takes a minute and a half, all of them an hour, and the broker is
 * started anew every five minutes. The last segment of the last log has rotted. */
static void it_gets_through_however_often_the_broker_starts(void **state)
{
    (void)state;
    enum { RUN_MS = 300000, RUNS_MOST = 20 };
    for (int how = -1; how <= SIM_CUT_TEAR; how++) {
        struct log_kit *k = kit(10);
        log_kit_stop(k);
        assert_int_equal(log_kit_start(k, 2, true), OK);
        fill(k, 63);
        for (int i = 0; i < 63; i++) {
            append(k, 1, BATCH, VALUE, BATCH * i);
        }
        restart(k, -1);
        struct log *last = log_kit_log(k, 1);
        char path[64];
        snprintf(path, sizeof path, "t1-0/%020lld.log",
                 (long long)last->segments[last->segment_count - 2]->base_offset);
        sim_store_flip(k->sim, path, 100, 1);
        int runs = 0;
        for (; !lines_with(k, "event=scrubbed"); runs++) {
            assert_int_equal(lines_with(k, "scrub_place_unreadable"), 0);
            assert_true(runs < RUNS_MOST);
            pass_time(k, RUN_MS);
            if (!lines_with(k, "event=scrubbed")) {
                restart(k, how);
            }
        }
        assert_true(runs > 10);
        assert_true(lines_with(k, "event=batch_corrupt dir=t1-0") >= 1); /* recovery says so, too */
        done(k);
    }
}

static void a_start_between_two_passes_does_not_put_the_next_one_off(void **state)
{
    (void)state;
    struct log_kit *k = kit(1 << 20);
    fill(k, 9);
    restart(k, -1); /* none was ever made: at once */
    pass_time(k, 1000);
    assert_int_equal(lines_with(k, "event=scrubbed segments=2"), 1);
    for (int i = 0; i < 4; i++) {
        pass_time(k, HOUR / 5);
        restart(k, -1);
    }
    pass_time(k, HOUR / 5 - 2000);
    assert_int_equal(lines_with(k, "event=scrubbed"), 1);
    pass_time(k, 2000);
    assert_int_equal(lines_with(k, "event=scrubbed segments=2"), 2);
    done(k);
}

static void a_place_that_cannot_be_read_or_is_no_more_costs_a_pass_at_most(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "rivulet.scrub 1",
        "rivulet.scrub 1 5 -1  00000000\n",
        "rivulet.scrub 1 5 7 t0-0 00000000\n",
        "rivulet.scrub 1 -5 7 t0-0 00000000\n",
        "rivulet.scrub 1 99999999999999999999 7 t0-0 \n",
        "garbage without a line's end",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct log_kit *k = kit(1 << 20);
        fill(k, 9);
        put_file(sim_store_store(k->sim), "rivulet.scrub", texts[i]);
        restart(k, -1);
        pass_time(k, 1000);
        assert_int_equal(lines_with(k, "event=scrub_place_unreadable"), 1);
        assert_int_equal(lines_with(k, "event=scrubbed segments=2"), 1);
        done(k);
    }
    static const struct scrub_place places[] = {
        {.began_ms = 1, .base = 4,         .dir = "a-0" }, /* a log that was deleted */
        {.began_ms = 1, .base = 3,         .dir = "t0-0"}, /* a segment that was */
        {.began_ms = 1, .base = INT64_MAX, .dir = "t0-0"},
        {.began_ms = 1, .base = 0,         .dir = "z-0" },
    };
    static const int left[] = {2, 1, 0, 0}; /* segments of two */
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct log_kit *k = kit(1 << 20);
        struct buf text = {0};
        fill(k, 9);
        scrub_place_text(&places[i], &text);
        assert_int_equal(scrub_place_write(sim_store_store(k->sim), &text), OK);
        restart(k, -1);
        k->lines.len = 0;
        pass_time(k, 3); /* the next one is due at once */
        char want[40];
        snprintf(want, sizeof want, "event=scrubbed segments=%d ", left[i]);
        pass_time(k, 1000);
        assert_true(lines_with(k, left[i] ? want : "event=scrubbed segments=2") >= 1);
        buf_finish(&text);
        done(k);
    }
}

/* ---- in nobody's way */

static void logs_and_segments_may_go_while_it_is_under_way(void **state)
{
    (void)state;
    for (int step = 0; step < 12; step++) {
        struct log_kit *k = kit(1000);
        fill(k, 24);
        pass_time(k, HOUR + 800LL * step);
        if (step % 2) {
            k->config.retention_bytes = 1500;
            log_set_config(log_kit_log(k, 0), &k->config);
            pass_time(k, 3000);
            assert_true(log_start_offset(log_kit_log(k, 0)) > 0);
            pass_time(k, 60000);
            assert_int_equal(lines_with(k, "event=scrubbed"), 1);
            assert_int_equal(lines_with(k, "unread=0"), 1);
            assert_int_equal(lines_with(k, "scrub_failed"), 0);
        } else {
            log_manager_destroy_log(k->m, k->ids[0], 0, NULL, NULL);
            log_kit_drain(k);
            pass_time(k, 60000);
        }
        assert_int_equal(lines_with(k, "batch_corrupt"), 0);
        done(k);
    }
}

static void a_stop_does_not_wait_for_it(void **state)
{
    (void)state;
    for (int step = 0; step < 6; step++) {
        struct log_kit *k = kit(1000);
        fill(k, 24);
        pass_time(k, HOUR + 700LL * step);
        log_kit_stop(k);
        assert_int_equal(log_kit_start(k, 1, true), OK);
        expect_served(k, 24, NULL, 0);
        done(k);
    }
}

/* Each of its operations fails: that says nothing about the records. */
static void what_cannot_be_read_is_counted_and_not_called_rot(void **state)
{
    (void)state;
    static const err errors[] = {ERR_IO, ERR_NO_FILES};
    int failures = 0;
    for (uint64_t op = 0; op < 8; op++) {
        for (int i = 0; i < 2; i++) {
            struct log_kit *k = kit(1 << 20);
            fill(k, 12);
            pass_time(k, HOUR - 1);
            sim_store_count_from_zero(k->sim);
            sim_store_fail_at(k->sim, op, errors[i]);
            pass_time(k, 10000);
            if (sim_store_fault_op(k->sim) != SIM_OP_COUNT) {
                bool place = lines_with(k, "event=scrub_place_failed");
                failures++;
                assert_int_equal(lines_with(k, "event=scrub_failed dir=t0-0"), !place);
                assert_int_equal(lines_with(k, place ? "corrupt=0 unread=0" : "corrupt=0 unread=1"),
                                 1);
            }
            assert_int_equal(lines_with(k, "event=scrubbed segments=3"), 1);
            assert_int_equal(lines_with(k, "batch_corrupt"), 0);
            sim_store_count_from_zero(k->sim);
            expect_served(k, 12, NULL, 0);
            done(k);
        }
    }
    assert_true(failures >= 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_that_rotted_takes_no_batch_before_it),
        cmocka_unit_test(rot_at_two_places_of_a_segment_is_said_once_each),
        cmocka_unit_test(rot_anywhere_in_a_batch_is_found_and_not_served_any_more),
        cmocka_unit_test(several_rotten_batches_of_a_segment_are_all_found),
        cmocka_unit_test(batches_larger_than_a_piece_are_checked_whole),
        cmocka_unit_test(a_file_that_was_cut_is_found),
        cmocka_unit_test(between_passes_nothing_wakes_up),
        cmocka_unit_test(after_an_unclean_stop_it_begins_at_once),
        cmocka_unit_test(it_gets_through_however_often_the_broker_starts),
        cmocka_unit_test(a_start_between_two_passes_does_not_put_the_next_one_off),
        cmocka_unit_test(a_place_that_cannot_be_read_or_is_no_more_costs_a_pass_at_most),
        cmocka_unit_test(without_a_rate_there_is_none),
        cmocka_unit_test(it_keeps_to_its_rate),
        cmocka_unit_test(logs_and_segments_may_go_while_it_is_under_way),
        cmocka_unit_test(a_stop_does_not_wait_for_it),
        cmocka_unit_test(what_cannot_be_read_is_counted_and_not_called_rot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

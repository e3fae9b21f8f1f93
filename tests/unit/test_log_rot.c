/* Files of a partition that are not what the log left: rot, gaps, indexes and small files that say
 * anything. What is served is right, or the answer says that it is not. */
#include "base/bytes.h"
#include "base/mem.h"
#include "broker/log/internal.h"
#include "tests/kit/log_kit.h"
#include "tests/kit/store_dsl.h"

static const int64_t T0 = 1700000000000;

enum { BATCH = 2 /* records */, VALUE = 100 /* bytes */ };

/* Segments as a list of base offsets of batches of two records; -1 begins the next one. */
static void put_log(struct log_kit *k, const int64_t *bases, size_t count, size_t *ret_batch_size)
{
    struct store *s = sim_store_store(k->sim);
    struct store_file *file = NULL;
    int64_t position = 0;
    assert_int_equal(s->ops->make_dir(s->ctx, "t0-0"), OK);
    for (size_t i = 0; i < count; i++) {
        struct log_kit_append a;
        if (bases[i] < 0) {
            close_file(s, file);
            file = NULL;
            continue;
        }
        if (!file) {
            char path[64];
            snprintf(path, sizeof path, "t0-0/%020lld.log", (long long)bases[i]);
            file = open_file(s, path, STORE_CREATE);
            position = 0;
        }
        log_kit_batch(&a, BATCH, VALUE, (uint64_t)bases[i], T0 + bases[i], -1, -1, -1);
        batch_set_offset(a.bytes.ptr, bases[i], 1);
        struct iovec v = {a.bytes.ptr, a.bytes.len};
        assert_int_equal(s->ops->write(s->ctx, file, &v, 1, position), OK);
        position += (int64_t)a.bytes.len;
        *ret_batch_size = a.bytes.len;
        log_kit_append_finish(&a);
    }
    close_file(s, file);
}

static struct log_kit *kit(void)
{
    struct log_kit *k = mem_need(sizeof *k);
    log_kit_init(k, 1);
    return k;
}

static void done(struct log_kit *k)
{
    log_kit_finish(k);
    mem_free(k);
}

/* The base offset of what a fetch at `offset` gets first, or -err. */
static int64_t first_at(struct log_kit *k, int64_t offset)
{
    struct buf out = {0};
    struct batch_header h = {0};
    err e = log_kit_read(k, 0, offset, 100, &out);
    if (!e) {
        assert_int_equal(batch_header_read(out.ptr, out.len, &h), OK);
    }
    buf_finish(&out);
    return e ? -(int64_t)e : h.base_offset;
}

static int64_t first_blocking(struct log_kit *k, int64_t offset)
{
    uint8_t bytes[4096];
    struct batch_header h = {0};
    size_t size = 0;
    err e = log_read_blocking(log_kit_log(k, 0), offset, bytes, sizeof bytes, &size);
    if (!e) {
        assert_int_equal(batch_header_read(bytes, size, &h), OK);
    }
    return e ? -(int64_t)e : h.base_offset;
}

static int64_t first_since(struct log_kit *k, int64_t time)
{
    int64_t offset = 0;
    int64_t found;
    err e = log_kit_find_time(k, 0, time, &offset, &found);
    return e ? -(int64_t)e : offset;
}

/* As compaction by Kafka leaves it. Found by fuzz_segment: the reader warmed the first segment for
 * ever, and a consumer there got nothing. */
static void a_gap_at_the_end_of_a_segment_leads_to_the_next_one(void **state)
{
    (void)state;
    static const int64_t bases[] = {0, -1, 4, 6, -1, 20};
    size_t size;
    for (int clean = 0; clean < 2; clean++) {
        struct log_kit *k = kit();
        put_log(k, bases, 6, &size);
        put_file(sim_store_store(k->sim), "recovery-point-offset-checkpoint", "0\n1\nt0 0 22\n");
        assert_int_equal(log_kit_start(k, 1, clean), OK);
        assert_int_equal(log_high_watermark(log_kit_log(k, 0)), 22);
        assert_int_equal(first_at(k, 0), 0);
        assert_int_equal(first_at(k, 2), 4);
        assert_int_equal(first_at(k, 8), 20);
        assert_int_equal(first_blocking(k, 3), 4);
        assert_int_equal(first_since(k, T0 + 2), 4);
        assert_int_equal(first_since(k, T0 + 9), 20);
        done(k);
    }
}

/* Found by fuzz_segment: a read behind the rot went on in the next segment, as if nothing were
 * missing. */
static void rot_that_ends_a_segment_is_answered_and_not_stepped_over(void **state)
{
    (void)state;
    static const int64_t bases[] = {0, 2, -1, 4};
    size_t size;
    struct log_kit *k = kit();
    put_log(k, bases, 4, &size);
    put_file(sim_store_store(k->sim), "recovery-point-offset-checkpoint", "0\n1\nt0 0 6\n");
    sim_store_flip(k->sim, "t0-0/00000000000000000000.log", (int64_t)size + 8, 0x40); /* length */
    assert_int_equal(log_kit_start(k, 1, false), OK);
    assert_int_equal(log_high_watermark(log_kit_log(k, 0)), 6);
    assert_int_equal(first_at(k, 0), 0);
    assert_int_equal(first_at(k, 2), -ERR_CORRUPT);
    assert_int_equal(first_at(k, 2), -ERR_CORRUPT);
    assert_int_equal(first_blocking(k, 2), -ERR_CORRUPT);
    assert_int_equal(first_at(k, 4), 4);
    done(k);
}

/* A batch's base offset is not under its checksum. */
static void an_offset_that_rotted_is_not_served(void **state)
{
    (void)state;
    static const int64_t bases[] = {0, 2, 4, 6};
    static const struct {
        int64_t position; /* in the second batch's base offset */
        uint8_t mask;
    } flips[] = {
        {0, 0x80}, /* negative */
        {0, 0x40}, /* beyond everything */
        {7, 0x02}, /* 0: where the first one is */
        {6, 0x01}, /* 258 */
    };
    size_t size;
    for (size_t i = 0; i < sizeof flips / sizeof *flips; i++) {
        struct log_kit *k = kit();
        put_log(k, bases, 4, &size);
        sim_store_flip(k->sim, "t0-0/00000000000000000000.log", (int64_t)size + flips[i].position,
                       flips[i].mask);
        put_file(sim_store_store(k->sim), "recovery-point-offset-checkpoint", "0\n1\nt0 0 8\n");
        assert_int_equal(log_kit_start(k, 1, false), OK);
        assert_int_equal(log_high_watermark(log_kit_log(k, 0)), 8);
        assert_int_equal(first_at(k, 0), 0);
        assert_int_equal(first_at(k, 2), -ERR_CORRUPT);
        assert_int_equal(first_blocking(k, 2), -ERR_CORRUPT);
        done(k);
    }
}

static void rot_above_the_recovery_point_is_a_torn_tail(void **state)
{
    (void)state;
    static const int64_t bases[] = {0, 2, -1, 4, 6};
    size_t size;
    for (int position = 8; position < 61; position++) {
        struct log_kit *k = kit();
        put_log(k, bases, 5, &size);
        sim_store_flip(k->sim, "t0-0/00000000000000000004.log", position, 0x80);
        put_file(sim_store_store(k->sim), "recovery-point-offset-checkpoint", "0\n1\nt0 0 4\n");
        assert_int_equal(log_kit_start(k, 1, false), OK);
        bool outside = position >= 12 && position < 16; /* the leader epoch: nobody can tell */
        assert_int_equal(log_high_watermark(log_kit_log(k, 0)), outside ? 8 : 4);
        assert_int_equal(first_at(k, 2), 2);
        done(k);
    }
}

static void put_index(struct log_kit *k, const char *path, const int32_t *numbers, size_t count)
{
    uint8_t bytes[256];
    struct store *s = sim_store_store(k->sim);
    struct store_file *file = open_file(s, path, STORE_CREATE);
    assert_true(count * 4 <= sizeof bytes);
    for (size_t i = 0; i < count; i++) {
        put_be32(bytes + 4 * i, (uint32_t)numbers[i]);
    }
    struct iovec v = {bytes, count * 4};
    assert_int_equal(s->ops->write(s->ctx, file, &v, 1, 0), OK);
    close_file(s, file);
}

/* Found by fuzz_segment: a negative position was read at. */
static void an_index_that_leads_nowhere_costs_time_and_no_answer(void **state)
{
    (void)state;
    static const int64_t bases[] = {0, 2, 4, 6, 8};
    size_t size;
    struct log_kit *probe = kit();
    put_log(probe, bases, 5, &size);
    done(probe);
    int32_t n = (int32_t)size;
    const int32_t indexes[][6] = {
        {3, -5,    5, -7,        9, 4 * n},
        {3, n + 1, 5, 2 * n - 3, 9, 4 * n},
        {3, n,     5, INT32_MAX, 9, 4 * n},
        {5, n,     3, 2 * n,     9, 4 * n}, /* not in order */
        {1, 4 * n, 2, 3 * n,     9, 4 * n},
    };
    for (size_t i = 0; i < sizeof indexes / sizeof *indexes; i++) {
        struct log_kit *k = kit();
        put_log(k, bases, 5, &size);
        put_index(k, "t0-0/00000000000000000000.index", indexes[i], 6);
        put_index(k, "t0-0/00000000000000000000.timeindex", NULL, 0);
        assert_int_equal(log_kit_start(k, 1, true), OK);
        for (int64_t at = 0; at < 10; at++) {
            assert_int_equal(first_at(k, at), at / 2 * 2);
            assert_int_equal(first_since(k, T0 + at), at);
        }
        int64_t offset;
        int64_t time;
        assert_int_equal(log_kit_max_time(k, 0, &offset, &time), OK);
        assert_int_equal(offset, 9);
        done(k);
    }
}

/* A broker of Kafka's that was killed leaves its preallocated indexes full of zeros. */
static void indexes_padded_with_zeros_are_read_up_to_them(void **state)
{
    (void)state;
    struct log_kit *k = kit();
    k->config.index_interval_bytes = 100;
    assert_int_equal(log_kit_start(k, 1, false), OK);
    for (uint64_t i = 0; i < 20; i++) {
        struct log_kit_append a;
        log_kit_batch(&a, 1, VALUE, i, T0 + (int64_t)i, -1, -1, -1);
        assert_int_equal(log_kit_append(k, 0, &a), OK);
        log_kit_drain(k);
        log_kit_append_finish(&a);
    }
    log_kit_stop(k);
    static const char *const names[] = {"t0-0/00000000000000000000.index",
                                        "t0-0/00000000000000000000.timeindex"};
    struct store *s = sim_store_store(k->sim);
    for (int i = 0; i < 2; i++) {
        static uint8_t zeros[5000];
        int64_t size;
        struct store_file *file = open_file(s, names[i], STORE_WRITE);
        struct iovec v = {zeros, sizeof zeros};
        assert_int_equal(s->ops->size(s->ctx, file, &size), OK);
        assert_true(size > 0);
        assert_int_equal(s->ops->write(s->ctx, file, &v, 1, size), OK);
        close_file(s, file);
    }
    for (int clean = 1; clean >= 0; clean--) {
        assert_int_equal(log_kit_start(k, 1, clean), OK);
        for (int64_t at = 0; at < 20; at++) {
            assert_int_equal(first_at(k, at), at);
            assert_int_equal(first_since(k, T0 + at), at);
        }
        struct log_kit_append a; /* the next entries go where the zeros begin */
        log_kit_batch(&a, 1, VALUE, 20, T0 + 20, -1, -1, -1);
        assert_int_equal(log_kit_append(k, 0, &a), OK);
        log_kit_drain(k);
        log_kit_append_finish(&a);
        assert_int_equal(first_since(k, T0 + 20), 20);
        log_kit_stop(k);
    }
    done(k);
}

/* Found by fuzz_journal: the file ends with a whole batch, below what a checkpoint recorded, as
 * after a power cut with a disk that lies about its flushes. The offsets up to there were given,
 * and the log gave them again. An empty log is another's of that name. */
static void a_log_that_ends_below_its_recovery_point_gives_no_offset_again(void **state)
{
    (void)state;
    static const int64_t bases[] = {0, 2, -1, 4, 6};
    size_t size;
    for (int clean = 0; clean < 2; clean++) {
        struct log_kit *k = kit();
        struct log_kit_append a;
        put_log(k, bases, 5, &size);
        if (clean) { /* with indexes that are as they should be */
            assert_int_equal(log_kit_start(k, 1, false), OK);
            log_kit_stop(k);
        }
        put_file(sim_store_store(k->sim), "recovery-point-offset-checkpoint",
                 "0\n2\nt0 0 12\nt1 0 12\n");
        for (int round = 0; round < 2; round++) { /* the second: as every later start */
            assert_int_equal(log_kit_start(k, 2, clean && !round), OK);
            assert_int_equal(log_end_offset(log_kit_log(k, 0)), 12);
            assert_int_equal(first_at(k, 7), 6);
            assert_int_equal(first_at(k, 8), -ERR_CORRUPT);
            log_kit_batch(&a, 1, VALUE, 8, T0, -1, -1, -1);
            assert_int_equal(log_kit_append(k, 0, &a), ERR_IO);
            assert_int_equal(log_end_offset(log_kit_log(k, 1)), round);
            assert_int_equal(log_kit_append(k, 1, &a), OK);
            log_kit_drain(k);
            log_kit_append_finish(&a);
            log_kit_crash(k, SIM_CUT_LOSE);
        }
        done(k);
    }
}

static void append_until(struct log_kit *k, int64_t end)
{
    for (int64_t i = log_end_offset(log_kit_log(k, 0)); i < end; i++) {
        struct log_kit_append a;
        log_kit_batch(&a, 1, VALUE, (uint64_t)i, T0 + i, -1, -1, -1);
        assert_int_equal(log_kit_append(k, 0, &a), OK);
        log_kit_drain(k);
        log_kit_append_finish(&a);
    }
}

static void read_whole(struct log_kit *k, const char *path, struct buf *out)
{
    assert_int_equal(store_read_file(sim_store_store(k->sim), path, 4096, out), OK);
    assert_true(out->len > 0);
}

/* A start costs what came since the checkpoint, and not what the segment holds: rot below, be it in
 * the last batch, is not met by it. What it does not read, it does not vouch for: who reads the rot is told. The indexes
 * are those of a log that was never opened again. */
static void an_unclean_start_reads_from_the_recovery_point_on(void **state)
{
    (void)state;
    static const char *const names[] = {"t0-0/00000000000000000000.index",
                                        "t0-0/00000000000000000000.timeindex"};
    static const enum sim_cut cuts[] = {SIM_KILL, SIM_CUT_LOSE, SIM_CUT_TEAR};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        struct log_kit *k = kit();
        struct log_kit *once = kit();
        k->keeps_lines = true;
        k->config.index_interval_bytes = once->config.index_interval_bytes = 100;
        assert_int_equal(log_kit_start(k, 1, false), OK);
        append_until(k, 20);
        log_kit_stop(k);
        assert_int_equal(log_kit_start(k, 1, true), OK);
        append_until(k, 30);
        int64_t size = log_size_bytes(log_kit_log(k, 0)) / 30;
        log_kit_crash(k, cuts[i]);
        sim_store_flip(k->sim, "t0-0/00000000000000000000.log", 5 * size - 1, 0x40);
        sim_store_flip(k->sim, "t0-0/00000000000000000000.log", 20 * size - 1, 0x40);
        assert_int_equal(log_kit_start(k, 1, false), OK);
        assert_null(strstr(buf_text(&k->lines), "batch_corrupt"));
        assert_int_equal(log_high_watermark(log_kit_log(k, 0)), 30);
        for (int64_t at = 0; at < 30; at++) {
            assert_int_equal(first_at(k, at), at == 4 || at == 19 ? -ERR_CORRUPT : at);
        }
        assert_int_equal(first_since(k, T0 + 29), 29);
        append_until(k, 40);

        assert_int_equal(log_kit_start(once, 1, false), OK);
        append_until(once, 40);
        for (int n = 0; n < 2; n++) {
            struct buf a = {0};
            struct buf b = {0};
            read_whole(k, names[n], &a);
            read_whole(once, names[n], &b);
            assert_int_equal(a.len, b.len);
            assert_memory_equal(a.ptr, b.ptr, b.len);
            buf_finish(&a);
            buf_finish(&b);
        }
        done(k);
        done(once);
    }
}

/* A crash soon after a start does not make the next one read all of it again. */
static void what_a_start_has_scanned_is_checkpointed_without_another_append(void **state)
{
    (void)state;
    struct log_kit *k = kit();
    struct log_kit_append a;
    struct store *store = sim_store_store(k->sim);
    assert_int_equal(log_kit_start(k, 1, false), OK);
    log_kit_batch(&a, 300, 4096, 0, T0, -1, -1, -1); /* more than a MiB */
    assert_int_equal(log_kit_append(k, 0, &a), OK);
    log_kit_drain(k);
    log_kit_append_finish(&a);
    log_kit_crash(k, SIM_KILL);
    assert_int_equal(log_kit_start(k, 1, false), OK);
    assert_int_equal(open_error(store, "recovery-point-offset-checkpoint", STORE_READ),
                     ERR_NOT_FOUND);
    sim_clock_advance_ms(&k->clock, 1000);
    timers_run(&k->timers, clock_mono_ms(&k->clock.clock));
    log_kit_drain(k);
    assert_file(store, "recovery-point-offset-checkpoint", "0\n1\nt0 0 300\n");
    done(k);
}

/* What a start would have to read is bounded, however fast it came. */
static void much_that_was_appended_is_checkpointed_before_the_interval(void **state)
{
    (void)state;
    struct log_kit *k = kit();
    struct store *store = sim_store_store(k->sim);
    assert_int_equal(log_kit_start(k, 1, false), OK);
    append_until(k, 1);
    timers_run(&k->timers, clock_mono_ms(&k->clock.clock));
    log_kit_drain(k);
    assert_int_equal(open_error(store, "recovery-point-offset-checkpoint", STORE_READ),
                     ERR_NOT_FOUND);
    log_note_growth(log_kit_log(k, 0), CHECKPOINT_BYTES);
    append_until(k, 2);
    timers_run(&k->timers, clock_mono_ms(&k->clock.clock));
    log_kit_drain(k);
    assert_file(store, "recovery-point-offset-checkpoint", "0\n1\nt0 0 2\n");
    done(k);
}

/* Each small file with each of these contents: the log opens, and all of it is there. When the
 * recovery point or the durable end says that there was more, that is believed, and
 * nothing is given its place. */
static void small_files_that_say_anything_lose_nothing(void **state)
{
    (void)state;
    static const char *const names[] = {
        "t0-0/leader-epoch-checkpoint",       "t0-0/partition.metadata",
        "recovery-point-offset-checkpoint",   "log-start-offset-checkpoint",
        "replication-offset-checkpoint",      "t0-0/00000000000000000008.snapshot",
        "t0-0/00000000000000000004.snapshot", "durable-offset-checkpoint"};
    static const char *const texts[] = {
        "",
        "\n",
        "0\n",
        "1\n1\n0 0\n",
        "0\n9999999999\n",
        "0\n2\n0 0\n",
        "0\n1\nt0 0 9223372036854775807\n",
        "0\n1\nt0 0 -1\n",
        "0\n1\nt0 0 99999999999999999999\n",
        "0\n1\nt0 0 100\n",
        "0\n2\n1 0\n1 4\n",
        "version: 0\ntopic_id: x\n",
        "garbage without a line's end",
    };
    static const int64_t bases[] = {0, 2, -1, 4, 6};
    size_t size;
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        for (size_t t = 0; t < sizeof texts / sizeof *texts; t++) {
            for (int clean = 0; clean < 2; clean++) {
                struct log_kit *k = kit();
                put_log(k, bases, 5, &size);
                put_file(sim_store_store(k->sim), names[n], texts[t]);
                assert_int_equal(log_kit_start(k, 1, clean), OK);
                bool believed = n == 2 || n == 7;
                int64_t end = believed && t == 9 ? 100 : 8;
                assert_int_equal(log_high_watermark(log_kit_log(k, 0)), end);
                assert_int_equal(log_start_offset(log_kit_log(k, 0)), 0);
                assert_int_equal(first_at(k, 0), 0);
                assert_int_equal(first_at(k, 7), 6);
                done(k);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gap_at_the_end_of_a_segment_leads_to_the_next_one),
        cmocka_unit_test(rot_that_ends_a_segment_is_answered_and_not_stepped_over),
        cmocka_unit_test(an_offset_that_rotted_is_not_served),
        cmocka_unit_test(rot_above_the_recovery_point_is_a_torn_tail),
        cmocka_unit_test(an_index_that_leads_nowhere_costs_time_and_no_answer),
        cmocka_unit_test(indexes_padded_with_zeros_are_read_up_to_them),
        cmocka_unit_test(a_log_that_ends_below_its_recovery_point_gives_no_offset_again),
        cmocka_unit_test(an_unclean_start_reads_from_the_recovery_point_on),
        cmocka_unit_test(what_a_start_has_scanned_is_checkpointed_without_another_append),
        cmocka_unit_test(much_that_was_appended_is_checkpointed_before_the_interval),
        cmocka_unit_test(small_files_that_say_anything_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

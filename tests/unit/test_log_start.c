/* What a start after a crash may cut, and what it may not: the word that tells a torn tail from rot
 * has rotted itself, a segment lies where none was made, rot lies before what the journal alone has.
 */
#include "base/bytes.h"
#include "base/mem.h"
#include "broker/log/internal.h"
#include "tests/kit/log_kit.h"
#include "tests/kit/store_dsl.h"

static const int64_t T0 = 1700000000000;
static const char *const FIRST = "t0-0/00000000000000000000.log";
static const char *const WORD = "durable-offset-checkpoint";

enum { LOGS = 12, BATCH = 2 /* records */, VALUE = 100 /* bytes */ };

static struct store *store_of(struct log_kit *k)
{
    return sim_store_store(k->sim);
}

static struct log_kit *kit(void)
{
    struct log_kit *k = mem_need(sizeof *k);
    log_kit_init(k, 1);
    k->keeps_lines = true;
    return k;
}

static void done(struct log_kit *k)
{
    log_kit_finish(k);
    mem_free(k);
}

static bool is_said(struct log_kit *k, const char *event)
{
    return strstr(buf_text(&k->lines), event) != NULL;
}

static void append_one(struct log_kit *k, int log)
{
    struct log_kit_append a;
    log_kit_batch(&a, 1, VALUE, (uint64_t)log_end_offset(log_kit_log(k, log)), T0, -1, -1, -1);
    assert_int_equal(log_kit_append_durable(k, log, &a), OK);
    log_kit_drain(k);
    assert_int_equal(a.durable, 1);
    assert_int_equal(a.durable_result, OK);
    log_kit_append_finish(&a);
}

static err try_append(struct log_kit *k, int log)
{
    struct log_kit_append a;
    log_kit_batch(&a, 1, VALUE, 1, T0, -1, -1, -1);
    err e = log_kit_append(k, log, &a);
    log_kit_drain(k);
    log_kit_append_finish(&a);
    return e;
}

/* The base offset of what a fetch at `offset` gets first, or -err. */
static int64_t first_at(struct log_kit *k, int log, int64_t offset)
{
    struct buf out = {0};
    struct batch_header h = {0};
    err e = log_kit_read(k, log, offset, 100, &out);
    if (!e) {
        assert_int_equal(batch_header_read(out.ptr, out.len, &h), OK);
        assert_true(batch_crc_is_right(out.ptr, h.size));
    }
    buf_finish(&out);
    return e ? -(int64_t)e : h.base_offset;
}

static int64_t size_of(struct log_kit *k, const char *path)
{
    struct store *s = store_of(k);
    struct store_file *file = open_file(s, path, STORE_READ);
    int64_t size;
    assert_int_equal(s->ops->size(s->ctx, file, &size), OK);
    close_file(s, file);
    return size;
}

/* Batches of two records at the offsets [from, to), as the file of a segment; the size of one. */
static int64_t put_batches(struct log_kit *k, int64_t base, int64_t from, int64_t to)
{
    struct store *s = store_of(k);
    char path[64];
    int64_t size = 0;
    int64_t position = 0;
    err e = s->ops->make_dir(s->ctx, "t0-0");
    assert_true(!e || e == ERR_EXISTS);
    snprintf(path, sizeof path, "t0-0/%020lld.log", (long long)base);
    struct store_file *file = open_file(s, path, STORE_CREATE);
    for (int64_t at = from; at < to; at += BATCH) {
        struct log_kit_append a;
        log_kit_batch(&a, BATCH, VALUE, (uint64_t)at, T0 + at, -1, -1, -1);
        batch_set_offset(a.bytes.ptr, at, 1);
        struct iovec v = {a.bytes.ptr, a.bytes.len};
        assert_int_equal(s->ops->write(s->ctx, file, &v, 1, position), OK);
        size = (int64_t)a.bytes.len;
        position += size;
        log_kit_append_finish(&a);
    }
    close_file(s, file);
    return size;
}

static void put_word(struct log_kit *k, int64_t offset)
{
    struct buf text = {0};
    buf_printf(&text, "1\n1\nt0 0 %lld\n", (long long)offset);
    offsets_text_seal(&text);
    put_file(store_of(k), WORD, buf_text(&text));
    buf_finish(&text);
}

/* ---- how far logs were durable */

/* Five records in log 0 that nothing but the file calls durable: the journal that did is cleared. */
static struct log_kit *kit_with_word(void)
{
    struct log_kit *k = kit();
    k->journal_files = 8; /* half of them have to be full */
    assert_int_equal(log_kit_start(k, LOGS, false), OK);
    for (int i = 0; i < LOGS; i++) {
        append_one(k, i);
    }
    for (int i = 0; i < 4; i++) {
        append_one(k, 0);
    }
    for (int n = 0; k->m->journal.files[0].use == 1; n++) {
        assert_true(n < 100);
        append_one(k, 1);
    }
    return k;
}

static void the_durable_ends_have_a_checksum(void **state)
{
    (void)state;
    struct log_kit *k = kit_with_word();
    struct buf text = {0};
    struct map ends;
    map_init(&ends, 1);
    assert_int_equal(durable_offsets_read(store_of(k), WORD, &ends), OK);
    assert_int_equal(checkpoint_value(&ends, "t0-0", -1), 5);
    assert_int_equal(store_read_file(store_of(k), WORD, 4096, &text), OK);
    for (int64_t at = 0; at < (int64_t)text.len; at++) {
        for (int bit = 0; bit < 8; bit++) {
            sim_store_flip(k->sim, WORD, at, (uint8_t)(1 << bit));
            assert_int_equal(durable_offsets_read(store_of(k), WORD, &ends), ERR_CORRUPT);
            sim_store_flip(k->sim, WORD, at, (uint8_t)(1 << bit));
        }
    }
    for (size_t size = 0; size < text.len; size++) { /* cut off */
        struct store *s = store_of(k);
        struct store_file *file = open_file(s, WORD, STORE_WRITE);
        struct iovec v = {text.ptr, text.len};
        assert_int_equal(s->ops->truncate(s->ctx, file, (int64_t)size), OK);
        assert_int_equal(durable_offsets_read(s, WORD, &ends), ERR_CORRUPT);
        assert_int_equal(s->ops->write(s->ctx, file, &v, 1, 0), OK);
        close_file(s, file);
    }
    assert_int_equal(durable_offsets_read(store_of(k), WORD, &ends), OK);
    map_finish(&ends);
    buf_finish(&text);
    done(k);
}

/* Each byte of the word rots, and the last record of log 0. What cannot be told from a torn tail is
 * kept, and its offset is not given again; logs that end with a batch go on; the word is there anew.
 */
static void with_rot_in_the_durable_ends_nothing_is_cut(void **state)
{
    (void)state;
    bool more = true;
    for (int64_t at = 0; more; at++) {
        struct log_kit *k = kit_with_word();
        int64_t size = log_size_bytes(log_kit_log(k, 0));
        int64_t end = log_end_offset(log_kit_log(k, 1));
        log_kit_crash(k, SIM_KILL);
        more = at + 1 < size_of(k, WORD);
        sim_store_flip(k->sim, WORD, at, 0x01);
        sim_store_flip(k->sim, FIRST, size - 20, 0x40);
        for (int round = 0; round < 3; round++) {
            k->lines.len = 0;
            assert_int_equal(log_kit_start(k, LOGS, false), OK);
            assert_int_equal(is_said(k, "event=durable_ends_rotten"), round == 0);
            assert_int_equal(size_of(k, FIRST), size);
            assert_int_equal(log_end_offset(log_kit_log(k, 0)), 5);
            assert_int_equal(first_at(k, 0, 3), 3);
            assert_int_equal(first_at(k, 0, 4), -ERR_CORRUPT);
            if (round == 0) {
                assert_true(log_kit_log(k, 0)->fenced);
                assert_int_equal(try_append(k, 0), ERR_IO);
            }
            assert_int_equal(log_end_offset(log_kit_log(k, 1)), end + round);
            append_one(k, 1);
            log_kit_crash(k, SIM_CUT_LOSE);
        }
        done(k);
    }
}

static void rot_in_the_durable_ends_alone_fences_nothing(void **state)
{
    (void)state;
    for (int clean = 0; clean < 2; clean++) {
        struct log_kit *k = kit_with_word();
        if (clean) {
            log_kit_stop(k);
        } else {
            log_kit_crash(k, SIM_CUT_LOSE);
        }
        sim_store_flip(k->sim, WORD, 5, 0x01);
        assert_int_equal(log_kit_start(k, LOGS, clean), OK);
        assert_true(is_said(k, "event=durable_ends_rotten"));
        for (int i = 0; i < LOGS; i++) {
            append_one(k, i);
        }
        assert_int_equal(log_end_offset(log_kit_log(k, 0)), 6);
        done(k);
    }
}

static void durable_ends_of_an_older_build_are_believed(void **state)
{
    (void)state;
    struct log_kit *k = kit();
    int64_t size = put_batches(k, 0, 0, 8);
    put_file(store_of(k), WORD, "0\n1\nt0 0 8\n");
    sim_store_flip(k->sim, FIRST, 4 * size - 1, 0x40);
    assert_int_equal(log_kit_start(k, 1, false), OK);
    assert_int_equal(log_end_offset(log_kit_log(k, 0)), 8);
    assert_int_equal(size_of(k, FIRST), 4 * size);
    assert_int_equal(first_at(k, 0, 6), -ERR_CORRUPT);
    done(k);
}

/* Found by review: a segment behind a gap was removed, whatever had rotted. */
static void a_segment_behind_a_gap_is_kept_while_it_is_not_known_what_was_durable(void **state)
{
    (void)state;
    struct log_kit *k = kit();
    (void)put_batches(k, 0, 0, 4);
    int64_t size = put_batches(k, 6, 6, 10);
    put_file(store_of(k), WORD, "rot");
    assert_int_equal(log_kit_start(k, 1, false), OK);
    assert_int_equal(size_of(k, "t0-0/00000000000000000006.log"), 2 * size);
    assert_int_equal(log_end_offset(log_kit_log(k, 0)), 10);
    assert_int_equal(first_at(k, 0, 8), 8);
    append_one(k, 0);
    assert_int_equal(first_at(k, 0, 10), 10);
    done(k);
}

/* Found by review: of a file of the journal whose header rots nothing is known, and if no other came
 * behind it, what it had was taken for never written: tails were cut. */
static void a_journal_whose_header_rots_cuts_nothing(void **state)
{
    (void)state;
    for (int64_t at = 0; at < (int64_t)sizeof(struct journal_header); at++) {
        struct log_kit *k = kit();
        assert_int_equal(log_kit_start(k, 2, false), OK);
        for (int i = 0; i < 5; i++) {
            append_one(k, 0);
        }
        int64_t size = log_size_bytes(log_kit_log(k, 0));
        log_kit_crash(k, SIM_KILL);
        sim_store_flip(k->sim, JOURNAL_NAME "0", at, 0x01);
        sim_store_flip(k->sim, FIRST, size - 20, 0x40);
        for (int round = 0; round < 3; round++) {
            k->lines.len = 0;
            assert_int_equal(log_kit_start(k, 2, false), OK);
            assert_int_equal(is_said(k, "event=journal_header_unreadable"), round == 0);
            assert_int_equal(size_of(k, FIRST), size);
            assert_int_equal(log_end_offset(log_kit_log(k, 0)), 5);
            assert_int_equal(first_at(k, 0, 3), 3);
            assert_int_equal(first_at(k, 0, 4), -ERR_CORRUPT);
            log_kit_crash(k, SIM_KILL);
        }
        done(k);
    }
}

/* ---- a segment that begins within another one */

enum stray { STRAY_EMPTY, STRAY_GARBAGE, STRAY_SHORT, STRAY_OTHER, STRAYS };

/* Somebody put it there. What the first one has behind its base is durable. */
static void a_segment_that_lies_within_another_one_cuts_nothing_that_was_durable(void **state)
{
    (void)state;
    static const char *const path = "t0-0/00000000000000000004.log";
    for (int by_word = 0; by_word < 2; by_word++) {
        for (int stray = 0; stray < STRAYS; stray++) {
            struct log_kit *k = kit();
            int64_t size = put_batches(k, 0, 0, 8);
            switch ((enum stray)stray) {
            case STRAY_EMPTY: put_file(store_of(k), path, ""); break;
            case STRAY_GARBAGE: put_file(store_of(k), path, "no batch"); break;
            case STRAY_SHORT: (void)put_batches(k, 4, 4, 6); break;
            case STRAY_OTHER: (void)put_batches(k, 4, 6, 8); break; /* not from its base on */
            case STRAYS: break;
            }
            if (by_word) {
                put_word(k, stray == STRAY_OTHER ? 10 : 8);
            } else {
                put_file(store_of(k), "recovery-point-offset-checkpoint",
                         stray == STRAY_OTHER ? "0\n1\nt0 0 10\n" : "0\n1\nt0 0 8\n");
            }
            for (int round = 0; round < 2; round++) {
                assert_int_equal(log_kit_start(k, 1, false), OK);
                assert_int_equal(size_of(k, FIRST), 4 * size);
                assert_true(log_end_offset(log_kit_log(k, 0)) >= 8);
                assert_int_equal(first_at(k, 0, 2), 2);
                assert_int_equal(try_append(k, 0), ERR_IO);
                log_kit_crash(k, SIM_KILL);
            }
            done(k);
        }
    }
}

/* As a refused batch leaves it that comes back: the next segment has what is durable. */
static void what_the_next_segment_has_is_cut_off_the_one_before(void **state)
{
    (void)state;
    for (int64_t durable = 0; durable <= 8; durable += BATCH) {
        struct log_kit *k = kit();
        int64_t size = put_batches(k, 0, 0, 8);
        (void)put_batches(k, 4, 4, 8);
        put_word(k, durable);
        assert_int_equal(log_kit_start(k, 1, false), OK);
        assert_int_equal(size_of(k, FIRST), 2 * size);
        assert_int_equal(log_end_offset(log_kit_log(k, 0)), 8);
        for (int64_t at = 0; at < 8; at += BATCH) {
            assert_int_equal(first_at(k, 0, at), at);
        }
        append_one(k, 0);
        assert_int_equal(first_at(k, 0, 8), 8);
        done(k);
    }
}

/* ---- rot before what the journal alone has */

/* Found by review: the log was fenced in the segment that rotted, those behind it got nothing back of
 * the journal, and then it was cleared. */
static void what_the_journal_has_goes_back_behind_a_segment_that_rotted(void **state)
{
    (void)state;
    struct log_kit *k = kit();
    k->config.segment_bytes = 700;
    k->journal_files = 8;
    assert_int_equal(log_kit_start(k, 2, false), OK);
    for (int i = 0; i < 12; i++) {
        append_one(k, 0);
    }
    struct log *log = log_kit_log(k, 0);
    assert_true(log->segment_count > 2);
    int64_t base = log->segments[1]->base_offset;
    int64_t next = log->segments[2]->base_offset;
    char path[64];
    snprintf(path, sizeof path, "t0-0/%020lld.log", (long long)base);
    log_kit_crash(k, SIM_CUT_LOSE);
    sim_store_flip(k->sim, path, 8,
                   0x40); /* the length of its first batch, which was synced there */
    for (int round = 0; round < 3; round++) {
        assert_int_equal(log_kit_start(k, 2, false), OK);
        assert_int_equal(log_end_offset(log_kit_log(k, 0)), 12 + round);
        for (int64_t at = 0; at < 12 + round; at++) {
            bool rotten = at >= base && at < next;
            assert_int_equal(first_at(k, 0, at), rotten ? -ERR_CORRUPT : at);
        }
        append_one(k, 0);
        log_kit_crash(k, SIM_CUT_LOSE);
    }
    assert_true(is_said(k, "event=segment_end_corrupt"));
    done(k);
}

/* ---- a cleaned segment that has not taken its sources' place yet */

/* Segments of four records each; the first one's cleaned copy waits. */
static struct log_kit *kit_with_swap(int64_t *ret_batch)
{
    struct log_kit *k = kit();
    struct store *s = store_of(k);
    for (int64_t base = 0; base < 16; base += 4) {
        *ret_batch = put_batches(k, base, base, base + 4);
    }
    (void)put_batches(k, 100, 0, 4);
    assert_int_equal(s->ops->rename(s->ctx, "t0-0/00000000000000000100.log",
                                    "t0-0/00000000000000000000.log.swap"),
                     OK);
    put_file(s, "recovery-point-offset-checkpoint", "0\n1\nt0 0 16\n");
    return k;
}

static void expect_segments(struct log_kit *k, int64_t batch)
{
    for (int64_t base = 0; base < 16; base += 4) {
        char path[64];
        snprintf(path, sizeof path, "t0-0/%020lld.log", (long long)base);
        assert_int_equal(size_of(k, path), 2 * batch);
    }
}

/* Found by review: the base offset of its last batch, which no checksum covers, said which segments
 * it stands for, and those were removed; so did the number of records in it. */
static void a_cleaned_segment_that_rotted_takes_nothing_away(void **state)
{
    (void)state;
    static const char *const swap = "t0-0/00000000000000000000.log.swap";
    int64_t batch;
    struct log_kit *k = kit_with_swap(&batch);
    assert_int_equal(log_kit_start(k, 1, false), OK);
    assert_true(is_said(k, "event=swap_ended"));
    assert_int_equal(log_end_offset(log_kit_log(k, 0)), 16);
    expect_segments(k, batch);
    done(k);
    for (int64_t position = 0; position < 2 * batch; position++) {
        if (position % batch >= 12 && position % batch < 16) {
            continue; /* the leader epoch: nobody can tell */
        }
        for (int bit = 0; bit < 8; bit += 2) {
            if (position == batch + 7 && bit == 2) {
                continue; /* four more: where the next segment ends. Nor here */
            }
            k = kit_with_swap(&batch);
            sim_store_flip(k->sim, swap, position, (uint8_t)(1 << bit));
            err e = log_kit_start(k, 1, false);
            assert_true(e == ERR_CORRUPT || e == ERR_TRUNCATED);
            assert_true(is_said(k, "event=swap_unreadable"));
            expect_segments(k, batch);
            done(k);
        }
    }
    for (int empty = 0; empty < 2; empty++) { /* nor does it where nothing says how far it may go */
        k = kit_with_swap(&batch);
        put_file(store_of(k), empty ? swap : "recovery-point-offset-checkpoint", "");
        assert_int_equal(log_kit_start(k, 1, false), ERR_CORRUPT);
        expect_segments(k, batch);
        done(k);
    }
}

/* ---- what a start says */

static void what_a_start_has_put_on_disk_the_journal_does_not_say_again(void **state)
{
    (void)state;
    struct log_kit *k = kit_with_word();
    log_kit_crash(k, SIM_CUT_LOSE);
    assert_int_equal(log_kit_start(k, LOGS, false), OK);
    assert_true(is_said(k, "event=journal_read"));
    assert_false(k->m->carry);
    log_kit_crash(k, SIM_CUT_LOSE); /* nothing was in the journal: what was scanned is said there */
    assert_int_equal(log_kit_start(k, LOGS, false), OK);
    assert_true(k->m->carry);
    append_one(k, 1); /* synced in its segment: nobody knows that its directory entry is */
    append_one(k, 1);
    assert_false(k->m->carry);
    sim_store_flip(k->sim, FIRST, log_size_bytes(log_kit_log(k, 0)) - 20, 0x40);
    assert_int_equal(store_of(k)->ops->unlink(store_of(k)->ctx, WORD), OK);
    log_kit_crash(k, SIM_KILL);
    assert_int_equal(log_kit_start(k, LOGS, false), OK);
    assert_int_equal(log_end_offset(log_kit_log(k, 0)), 5);
    assert_int_equal(first_at(k, 0, 4), -ERR_CORRUPT);
    done(k);
}

/* Of another log of its name, or all of this one is gone: who looks for it must be told. */
static void a_log_that_is_empty_though_a_checkpoint_knows_more_is_told_of(void **state)
{
    (void)state;
    for (int by_word = 0; by_word < 2; by_word++) {
        struct log_kit *k = kit();
        if (by_word) {
            put_word(k, 5);
        } else {
            put_file(store_of(k), "recovery-point-offset-checkpoint", "0\n1\nt0 0 5\n");
        }
        for (int round = 0; round < 2; round++) {
            k->lines.len = 0;
            assert_int_equal(log_kit_start(k, 1, false), OK);
            assert_int_equal(is_said(k, "event=checkpoint_beyond_end"), round == 0);
            assert_int_equal(log_end_offset(log_kit_log(k, 0)), 0);
            log_kit_crash(k, SIM_CUT_LOSE);
        }
        done(k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_durable_ends_have_a_checksum),
        cmocka_unit_test(with_rot_in_the_durable_ends_nothing_is_cut),
        cmocka_unit_test(rot_in_the_durable_ends_alone_fences_nothing),
        cmocka_unit_test(durable_ends_of_an_older_build_are_believed),
        cmocka_unit_test(a_segment_behind_a_gap_is_kept_while_it_is_not_known_what_was_durable),
        cmocka_unit_test(a_journal_whose_header_rots_cuts_nothing),
        cmocka_unit_test(a_segment_that_lies_within_another_one_cuts_nothing_that_was_durable),
        cmocka_unit_test(what_the_next_segment_has_is_cut_off_the_one_before),
        cmocka_unit_test(what_the_journal_has_goes_back_behind_a_segment_that_rotted),
        cmocka_unit_test(a_cleaned_segment_that_rotted_takes_nothing_away),
        cmocka_unit_test(what_a_start_has_put_on_disk_the_journal_does_not_say_again),
        cmocka_unit_test(a_log_that_is_empty_though_a_checkpoint_knows_more_is_told_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

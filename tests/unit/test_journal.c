/* The journal: its format, what may not be taken for a group of it, and that it goes round. */
#include "base/check.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "broker/log/internal.h"
#include "tests/kit/log_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
    FILE_BYTES = 32768,
    FILES = 3,
    MANY = 12, /* logs: more than files that are kept open */
    RUN = 20,  /* batches of a page, which are synced in their segment */
};
static const int64_t T0 = 1700000000000;
static const struct journal_id ID = {{{7}}, 3};

struct desk { /* a journal alone, on a simulated disk */
    struct sim_store *sim;
    struct sim_clock clock;
    struct diag diag;
    struct journal j;
};

static void nowhere(void *ctx, const char *line, size_t size)
{
    (void)ctx;
    (void)line;
    (void)size;
}

static void open_desk(struct desk *d, bool clean)
{
    journal_init(&d->j, sim_store_store(d->sim), &d->diag, 0, FILE_BYTES);
    assert_int_equal(journal_open(&d->j, clean), OK);
}

static void start(struct desk *d)
{
    memset(d, 0, sizeof *d);
    d->sim = sim_store_create(1);
    sim_clock_init(&d->clock, T0);
    d->diag = (struct diag){.level = DIAG_DEBUG, .clock = &d->clock.clock, .write = nowhere};
    open_desk(d, false);
    assert_null(d->j.replay);
    assert_int_equal(journal_recycle(&d->j, FILES), OK);
    for (int i = 0; i < FILES; i++) {
        assert_int_equal(journal_make_file(&d->j, &d->j.files[i]), OK);
        d->j.files[i].state = JOURNAL_FREE;
    }
}

static void reopen(struct desk *d, enum sim_cut how)
{
    journal_finish(&d->j);
    sim_store_restart(d->sim, how);
    open_desk(d, false);
}

static void end(struct desk *d)
{
    journal_finish(&d->j);
    sim_store_destroy(d->sim);
}

/* A batch of one record at `offset`, whose value begins with `tag`. */
static void batch_at(struct log_kit_append *a, int64_t offset, size_t size, uint64_t tag)
{
    log_kit_batch(a, 1, size, tag, T0, -1, -1, -1);
    batch_set_offset(a->a.batch, offset, 1);
}

static bool put(struct desk *d, int64_t offset, size_t size)
{
    struct log_kit_append a;
    struct buf records = {0};
    const struct buf *parts[1] = {&records};
    struct journal_place place;
    bool written;
    batch_at(&a, offset, size, (uint64_t)offset);
    journal_add_batch(&records, ID, a.a.batch, a.a.size);
    bool reserved = journal_reserve(&d->j, records.len, &place);
    if (reserved) {
        assert_int_equal(journal_write(&d->j, &place, parts, 1, &written), OK);
        assert_true(written);
    }
    log_kit_append_finish(&a);
    buf_finish(&records);
    return reserved;
}

/* Offsets [from, to), each once, as they were written. */
static void expect(struct desk *d, int64_t from, int64_t to)
{
    const struct journal_log *log = journal_find(&d->j, ID);
    assert_non_null(log);
    assert_int_equal(log->count, to - from);
    assert_int_equal(log->durable_end, to);
    for (int64_t i = from; i < to; i++) {
        const struct journal_batch *b = &log->batches[i - from];
        struct log_kit_append a;
        batch_at(&a, i, 100, (uint64_t)i);
        assert_int_equal(b->offset, i);
        assert_int_equal(b->end, i + 1);
        assert_int_equal(b->size, a.a.size);
        assert_memory_equal(b->p, a.a.batch, b->size);
        log_kit_append_finish(&a);
    }
}

static void read_bytes(struct desk *d, int number, int64_t at, void *p, size_t size)
{
    size_t got = 0;
    const struct store *store = sim_store_store(d->sim);
    assert_int_equal(store->ops->read(store->ctx, d->j.files[number].file, p, size, at, &got), OK);
    assert_int_equal(got, size);
}

static void its_bytes_are_as_the_format_says(void **state)
{
    (void)state;
    struct desk d;
    uint8_t head[48];
    uint8_t group[32 + 32];
    start(&d);
    assert_true(put(&d, 5, 100));
    read_bytes(&d, 0, 0, head, sizeof head);
    assert_memory_equal(head, "RVJOURNL\1\0\0\0", 12);
    assert_memory_equal(head + 16, "\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0", 16); /* use, sequence */
    read_bytes(&d, 0, JOURNAL_BLOCK, group, sizeof group);
    assert_memory_equal(group, "RJRG", 4);
    assert_memory_equal(group + 8, "\1\0\0\0\0\0\0\0", 8);           /* sequence */
    assert_memory_equal(group + 20, "\1\0\0\0\1\0\0\0\0\0\0\0", 12); /* blocks, count */
    assert_memory_equal(group + 32, "\7\0\0\0", 4);                  /* topic id */
    assert_memory_equal(group + 48, "\3\0\0\0", 4);                  /* partition */
    assert_memory_equal(group + 56, "\6\0\0\0\0\0\0\0", 8);          /* end */
    end(&d);
}

static void what_was_synced_is_found_after_a_power_cut(void **state)
{
    (void)state;
    struct desk d;
    start(&d);
    for (int64_t i = 0; i < 10; i++) { /* over the end of the first file */
        assert_true(put(&d, i, 100));
    }
    reopen(&d, SIM_CUT_LOSE);
    expect(&d, 0, 10);
    assert_false(d.j.replay->rotten);
    assert_int_equal(d.j.replay->torn.position, 0);
    assert_int_equal(d.j.sequence, 11);
    end(&d);
}

static void it_has_no_place_when_all_files_are_full_and_goes_round_when_they_are_cleared(
    void **state)
{
    (void)state;
    struct desk d;
    int64_t n = 0;
    start(&d);
    while (put(&d, n, 100)) {
        n++;
    }
    assert_int_equal(n, FILES * (FILE_BYTES / JOURNAL_BLOCK - 1));
    assert_false(journal_has_free(&d.j));
    for (int round = 0; round < 7; round++) {
        struct journal_file *f = journal_first(&d.j, JOURNAL_FULL);
        assert_int_equal(journal_clear_file(&d.j, f), OK);
        f->state = JOURNAL_FREE;
        for (int i = 0; i < FILE_BYTES / JOURNAL_BLOCK - 1; i++) {
            assert_true(put(&d, n++, 100));
        }
        assert_false(put(&d, n, 100));
        reopen(&d, SIM_CUT_LOSE); /* exactly what is in the three newest uses */
        expect(&d, n - FILES * (FILE_BYTES / JOURNAL_BLOCK - 1), n);
        assert_false(d.j.replay->rotten);
        d.j.file_count = FILES;
        d.j.active = -1;
        for (int i = 0; i < FILES; i++) {
            if (d.j.files[i].use == d.j.use) {
                d.j.active = i;
                d.j.files[i].state = JOURNAL_ACTIVE;
                d.j.position = FILE_BYTES;
            }
        }
    }
    end(&d);
}

static void a_group_larger_than_a_file_has_no_place(void **state)
{
    (void)state;
    struct desk d;
    struct journal_place place;
    start(&d);
    assert_false(journal_reserve(&d.j, FILE_BYTES - JOURNAL_BLOCK, &place));
    assert_true(
        journal_reserve(&d.j, FILE_BYTES - JOURNAL_BLOCK - sizeof(struct journal_group), &place));
    end(&d);
}

/* A value that is, at a block's begin, a group with the right number and a good checksum, but for
 * the salt, which nobody outside knows; and the real group behind it is torn. */
static void payload_that_looks_like_a_group_is_none(void **state)
{
    (void)state;
    struct desk d;
    struct log_kit_append crafted;
    static uint8_t value[2 * JOURNAL_BLOCK];
    struct buf inner = {0};
    start(&d);
    assert_true(put(&d, 0, 100));
    assert_true(put(&d, 1, 100));
    /* At the second group's place: the bytes of a client, over a group that rot or a torn write
     * took. */
    batch_at(&crafted, 1, 100, 99);
    journal_add_batch(&inner, ID, crafted.a.batch, crafted.a.size);
    struct journal_group g = {.magic = JOURNAL_GROUP_MAGIC,
                              .sequence = 2,
                              .size = (uint32_t)(sizeof g + inner.len),
                              .blocks = 1,
                              .count = 1};
    memcpy(value, &g, sizeof g);
    memcpy(value + sizeof g, inner.ptr, inner.len);
    static const uint8_t no_salt[JOURNAL_SALT];
    g.crc = journal_crc(no_salt, value, g.size);
    memcpy(value, &g, sizeof g);
    const struct iovec v = {value, JOURNAL_BLOCK};
    struct store *store = sim_store_store(d.sim);
    assert_int_equal(store->ops->write(store->ctx, d.j.files[0].file, &v, 1, 2 * JOURNAL_BLOCK),
                     OK);
    assert_int_equal(store->ops->sync(store->ctx, d.j.files[0].file), OK);
    reopen(&d, SIM_CUT_LOSE);
    expect(&d, 0, 1);
    end(&d);
    log_kit_append_finish(&crafted);
    buf_finish(&inner);
}

/* The same bytes, of an older use of the file: they are whole, and their number is right. */
static void a_former_uses_group_is_none(void **state)
{
    (void)state;
    struct desk d;
    uint8_t old[JOURNAL_BLOCK];
    start(&d);
    assert_true(put(&d, 0, 100));
    assert_true(put(&d, 1, 100));
    read_bytes(&d, 0, 2 * JOURNAL_BLOCK, old, sizeof old);
    d.j.files[0].state = JOURNAL_FREE; /* used again, and the numbers too, as after a loss */
    d.j.files[1].state = d.j.files[2].state = JOURNAL_FULL;
    d.j.active = -1;
    d.j.sequence = 1;
    assert_true(put(&d, 0, 100));
    uint8_t same[JOURNAL_BLOCK];
    read_bytes(&d, 0, 2 * JOURNAL_BLOCK, same, sizeof same);
    assert_memory_equal(old, same, sizeof old);
    reopen(&d, SIM_KILL);
    expect(&d, 0, 1);
    end(&d);
}

static void a_torn_group_is_the_end_and_a_valid_one_behind_a_bad_one_is_rot(void **state)
{
    (void)state;
    struct desk d;
    start(&d);
    for (int64_t i = 0; i < 10; i++) {
        assert_true(put(&d, i, 100));
    }
    sim_store_flip(d.sim, JOURNAL_NAME "1", 3 * JOURNAL_BLOCK + 100, 1); /* the last one */
    reopen(&d, SIM_CUT_LOSE);
    expect(&d, 0, 9);
    assert_false(d.j.replay->rotten);
    assert_int_equal(d.j.replay->rot.position, 0);
    assert_int_equal(d.j.replay->torn.file, 1);
    assert_int_equal(d.j.replay->torn.position, 3 * JOURNAL_BLOCK);
    sim_store_flip(d.sim, JOURNAL_NAME "0", 4 * JOURNAL_BLOCK + 100, 1);
    reopen(&d, SIM_CUT_LOSE);
    assert_true(d.j.replay->rotten);
    assert_int_equal(d.j.replay->rot.file, 0);
    assert_int_equal(d.j.replay->rot.position, 5 * JOURNAL_BLOCK);
    assert_int_equal(journal_find(&d.j, ID)->count, 8); /* the others count */
    assert_int_equal(journal_find(&d.j, ID)->durable_end, 9);
    end(&d);
}

/* ---- below a manager */

static void put_header(struct desk *d, int number, uint64_t use, uint64_t sequence)
{
    struct journal_header h = {
        .magic = journal_file_magic, .version = JOURNAL_VERSION, .use = use, .sequence = sequence};
    h.crc = crc32c(&h.use, sizeof h - offsetof(struct journal_header, use));
    struct iovec v = {&h, sizeof h};
    struct store *store = sim_store_store(d->sim);
    assert_int_equal(store->ops->write(store->ctx, d->j.files[number].file, &v, 1, 0), OK);
}

/* Found by fuzz_journal: the next use had number 0, and no start found what it held. */
static void a_header_with_a_number_that_no_use_can_have_is_none(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        struct desk d;
        start(&d);
        put_header(&d, 1, which == 0 ? UINT64_MAX : 1, which == 1 ? UINT64_MAX : 1);
        reopen(&d, SIM_KILL);
        assert_true(d.j.replay->rotten);
        assert_int_equal(journal_recycle(&d.j, FILES), OK);
        assert_true(put(&d, 0, 100));
        reopen(&d, SIM_CUT_LOSE);
        assert_false(d.j.replay->rotten);
        expect(&d, 0, 1);
        end(&d);
    }
}

/* The last numbers that count are followed by none that do not. */
static void numbers_begin_anew_when_no_file_has_any(void **state)
{
    (void)state;
    for (int clean = 0; clean < 2; clean++) {
        struct desk d;
        start(&d);
        d.j.use = JOURNAL_NUMBER_MAX - 1;
        d.j.sequence = JOURNAL_NUMBER_MAX;
        assert_true(put(&d, 0, 100));
        journal_finish(&d.j);
        sim_store_restart(d.sim, SIM_CUT_LOSE);
        open_desk(&d, clean);
        if (!clean) {
            assert_false(d.j.replay->rotten);
            expect(&d, 0, 1);
        }
        assert_int_equal(journal_recycle(&d.j, FILES), OK);
        for (int64_t i = 0; i < 10; i++) { /* over the end of a file */
            assert_true(put(&d, i, 100));
        }
        reopen(&d, SIM_CUT_LOSE);
        assert_false(d.j.replay->rotten);
        expect(&d, 0, 10);
        end(&d);
    }
}

static int64_t append_many(struct log_kit *k, int n, int64_t *told)
{
    for (int i = 0; i < n; i++) {
        struct log_kit_append a;
        log_kit_batch(&a, 1, 100, (uint64_t)*told, T0, -1, -1, -1);
        assert_int_equal(log_kit_append_durable(k, i % 2, &a), OK);
        log_kit_drain(k);
        assert_int_equal(a.durable, 1);
        assert_int_equal(a.durable_result, OK);
        log_kit_append_finish(&a);
        (*told)++;
    }
    return *told;
}

static void files_are_made_when_they_are_needed_filled_and_used_again(void **state)
{
    (void)state;
    struct log_kit k;
    int64_t told = 0;
    log_kit_init(&k, 1);
    assert_int_equal(log_kit_start(&k, 2, false), OK);
    assert_int_equal(journal_count(&k.m->journal, JOURNAL_NONE), FILES); /* none is there yet */
    append_many(&k, 200, &told);
    assert_true(journal_count(&k.m->journal, JOURNAL_NONE) < FILES - 1);
    assert_true(k.m->journal.use > 5); /* some were used again */
    log_kit_crash(&k, SIM_CUT_LOSE);
    assert_int_equal(log_kit_start(&k, 2, false), OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(log_high_watermark(log_kit_log(&k, i)), 100);
    }
    log_kit_finish(&k);
}

static void while_it_is_full_appends_go_on_in_the_segments(void **state)
{
    (void)state;
    struct log_kit k;
    int64_t told = 0;
    log_kit_init(&k, 1);
    assert_int_equal(log_kit_start(&k, 2, false), OK);
    append_many(&k, 10, &told);
    for (int i = 0; i < FILES; i++) { /* nobody frees them */
        k.m->journal.files[i].state = JOURNAL_CLEARING;
    }
    k.m->journal.active = -1;
    append_many(&k, 30, &told);
    log_kit_crash(&k, SIM_CUT_LOSE);
    assert_int_equal(log_kit_start(&k, 2, false), OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(log_high_watermark(log_kit_log(&k, i)), 20);
    }
    log_kit_finish(&k);
}

/* What the file holds where the journal has a batch does not matter; what it lost below the
 * recorded end, and the journal does not have either, is corruption and is not cut. */
static void the_journal_is_believed_and_not_the_file(void **state)
{
    (void)state;
    struct log_kit k;
    int64_t told = 0;
    log_kit_init(&k, 1);
    assert_int_equal(log_kit_start(&k, 2, false), OK);
    append_many(&k, 10, &told);
    sim_store_flip(k.sim, "t0-0/00000000000000000000.log", 600, 0x40);
    log_kit_crash(&k, SIM_KILL);
    assert_int_equal(log_kit_start(&k, 2, false), OK);
    struct buf out = {0};
    assert_int_equal(log_high_watermark(log_kit_log(&k, 0)), 5);
    assert_int_equal(log_kit_read(&k, 0, 0, 1 << 20, &out), OK);
    struct batch_header h;
    for (size_t at = 0; at < out.len; at += h.size) {
        assert_int_equal(batch_header_read(out.ptr + at, out.len - at, &h), OK);
        assert_true(batch_crc_is_right(out.ptr + at, h.size));
    }
    buf_finish(&out);
    log_kit_finish(&k);
}

/* 20 records, synced in their segment, so that the journal says how far, and does not have them. */
static void append_large(struct log_kit *k)
{
    struct log_kit_append large[20];
    for (int i = 0; i < 20; i++) {
        log_kit_batch(&large[i], 1, 4096, 1, T0, -1, -1, -1);
        assert_int_equal(log_kit_append(k, 0, &large[i]), OK);
    }
    log_kit_drain(k);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(large[i].durable_result, OK);
        log_kit_append_finish(&large[i]);
    }
    struct log_kit_append a;
    log_kit_batch(&a, 1, 100, 1, T0, -1, -1, -1);
    assert_int_equal(log_kit_append(k, 1, &a), OK); /* another's group says it */
    log_kit_drain(k);
    log_kit_append_finish(&a);
}

/* Synced in its segment, so that the journal says how far, and does not have it; then it is gone.
 */
static void what_is_gone_below_the_recorded_end_is_not_given_to_others(void **state)
{
    (void)state;
    struct log_kit k;
    int64_t told = 0;
    struct log_kit_append a;
    log_kit_init(&k, 1);
    assert_int_equal(log_kit_start(&k, 2, false), OK);
    append_many(&k, 10, &told);
    int64_t keep = log_size_bytes(log_kit_log(&k, 0));
    append_large(&k);
    log_kit_crash(&k, SIM_KILL);
    struct store *store = sim_store_store(k.sim);
    struct store_file *file;
    assert_int_equal(
        store->ops->open(store->ctx, "t0-0/00000000000000000000.log", STORE_WRITE, &file), OK);
    assert_int_equal(store->ops->truncate(store->ctx, file, keep), OK);
    store->ops->close(store->ctx, file);
    for (int round = 0; round < 2; round++) { /* the second without the journal's word */
        struct buf out = {0};
        assert_int_equal(log_kit_start(&k, 2, false), OK);
        assert_int_equal(log_kit_read(&k, 0, 0, 1 << 20, &out), OK);
        assert_int_equal(out.len, keep);
        assert_int_equal(log_end_offset(log_kit_log(&k, 0)), 25);
        log_kit_batch(&a, 1, 100, 1, T0, -1, -1, -1);
        assert_int_equal(log_kit_append(&k, 0, &a), ERR_IO);
        log_kit_append_finish(&a);
        buf_finish(&out);
        log_kit_crash(&k, SIM_CUT_LOSE);
    }
    log_kit_finish(&k);
}

/* Found by fuzz_journal: the journal said how far the log was durable, so that the rot was stepped
 * over; then it was cleared, and the next start took the rot for a torn tail and cut there. */
static void rot_that_the_journal_stepped_over_is_not_cut_at_a_later_start(void **state)
{
    (void)state;
    struct log_kit k;
    int64_t told = 0;
    log_kit_init(&k, 1);
    assert_int_equal(log_kit_start(&k, 2, false), OK);
    append_many(&k, 10, &told);
    int64_t at = log_size_bytes(log_kit_log(&k, 0));
    append_large(&k);
    int64_t size = log_size_bytes(log_kit_log(&k, 0));
    sim_store_flip(k.sim, "t0-0/00000000000000000000.log", at + (size - at) / 2 + 100, 0x40);
    for (int round = 0; round < 3; round++) {
        struct buf out = {0};
        log_kit_crash(&k, SIM_CUT_LOSE);
        assert_int_equal(log_kit_start(&k, 2, false), OK);
        assert_int_equal(log_high_watermark(log_kit_log(&k, 0)), 25);
        assert_int_equal(log_size_bytes(log_kit_log(&k, 0)), size);
        assert_int_equal(log_kit_read(&k, 0, 14, 300, &out), OK);
        assert_int_equal(log_kit_read(&k, 0, 15, 300, &out), ERR_CORRUPT);
        assert_int_equal(log_kit_read(&k, 0, 24, 300, &out), OK);
        buf_finish(&out);
    }
    log_kit_finish(&k);
}

/* Found by fuzz_journal: likewise with a segment's tail that is missing, and segments behind it. */
static void a_gap_that_the_journal_stepped_over_is_not_cut_at_a_later_start(void **state)
{
    (void)state;
    struct log_kit k;
    int64_t told = 0;
    log_kit_init(&k, 1);
    k.config.segment_bytes = 20000;
    assert_int_equal(log_kit_start(&k, 2, false), OK);
    append_many(&k, 10, &told);
    append_large(&k);
    assert_true(log_kit_log(&k, 0)->segment_count > 3);
    int64_t base = log_kit_log(&k, 0)->segments[1]->base_offset;
    char path[64];
    snprintf(path, sizeof path, "t0-0/%020lld.log", (long long)base);
    log_kit_crash(&k, SIM_KILL);
    struct store *store = sim_store_store(k.sim);
    struct store_file *file;
    assert_int_equal(store->ops->open(store->ctx, path, STORE_WRITE, &file), OK);
    assert_int_equal(store->ops->truncate(store->ctx, file, 0), OK);
    assert_int_equal(store->ops->sync(store->ctx, file), OK);
    store->ops->close(store->ctx, file);
    for (int round = 0; round < 3; round++) {
        struct buf out = {0};
        assert_int_equal(log_kit_start(&k, 2, false), OK);
        assert_int_equal(log_high_watermark(log_kit_log(&k, 0)), 25);
        assert_int_equal(log_kit_read(&k, 0, base - 1, 300, &out), OK);
        assert_int_equal(log_kit_read(&k, 0, 24, 300, &out), OK);
        buf_finish(&out);
        log_kit_crash(&k, SIM_CUT_LOSE);
    }
    log_kit_finish(&k);
}

static void a_failed_sync_a_restart_and_then_a_power_cut_lose_nothing(void **state)
{
    (void)state;
    bool happened = true;
    for (uint64_t at = 0; happened; at++) {
        struct log_kit k;
        int64_t told[2] = {0, 0};
        log_kit_init(&k, at + 1);
        assert_int_equal(log_kit_start(&k, 2, false), OK);
        sim_store_count_from_zero(k.sim);
        sim_store_fail_at(k.sim, at, ERR_IO);
        struct log_kit_append a[40];
        int n = 0;
        for (; n < 40 && !sim_store_is_down(k.sim); n++) {
            log_kit_batch(&a[n], 1, 300, 1, T0, -1, -1, -1);
            if (log_kit_append_durable(&k, n % 2, &a[n])) {
                log_kit_append_finish(&a[n]);
                break;
            }
            log_kit_drain(&k);
        }
        happened = sim_store_fault_op(k.sim) != SIM_OP_COUNT;
        for (int round = 0; round < 2; round++) { /* the cache lies in the first */
            log_kit_crash(&k, round ? SIM_CUT_LOSE : SIM_KILL);
            assert_int_equal(log_kit_start(&k, 2, false), OK);
            for (int i = 0; i < n && !round; i++) {
                told[i % 2] =
                    a[i].durable_result == OK && a[i].durable && a[i].a.end_offset > told[i % 2]
                        ? a[i].a.end_offset
                        : told[i % 2];
                log_kit_append_finish(&a[i]);
            }
            for (int i = 0; i < 2; i++) {
                int64_t end_offset = log_high_watermark(log_kit_log(&k, i));
                assert_true(end_offset >= told[i]);
                told[i] = end_offset; /* who read it must find it again */
            }
        }
        log_kit_finish(&k);
    }
}

/* After a kill that left nothing in the segments' files but lies, the recovery is cut at each of
 * its operations, by a kill or a cut, and done again. */
static bool cut_recovery_at(uint64_t at, enum sim_cut how)
{
    struct log_kit k;
    int64_t told = 0;
    log_kit_init(&k, at + 1);
    assert_int_equal(log_kit_start(&k, 2, false), OK);
    append_many(&k, 24, &told);
    log_kit_crash(&k, SIM_CUT_LOSE);
    sim_store_cut_at(k.sim, at, how);
    bool started = log_kit_start(&k, 2, false) == OK;
    bool happened = sim_store_is_down(k.sim);
    assert_true(started || happened);
    log_kit_crash(&k, how);
    assert_int_equal(log_kit_start(&k, 2, false), OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(log_high_watermark(log_kit_log(&k, i)), 12);
    }
    append_many(&k, 4, &told); /* and after it all is as ever */
    log_kit_crash(&k, SIM_CUT_LOSE);
    assert_int_equal(log_kit_start(&k, 2, false), OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(log_high_watermark(log_kit_log(&k, i)), 14);
    }
    log_kit_finish(&k);
    return happened;
}

static void a_recovery_that_is_cut_anywhere_is_done_again(void **state)
{
    (void)state;
    for (int how = SIM_KILL; how <= SIM_CUT_TEAR; how++) {
        uint64_t at = 0;
        while (cut_recovery_at(at, (enum sim_cut)how)) {
            at++;
        }
        assert_true(at > 40);
    }
}

/* ---- what nothing but a word on the disk tells from a torn tail */

static void append_one(struct log_kit *k, int log)
{
    struct log_kit_append a;
    log_kit_batch(&a, 1, 100, 1, T0, -1, -1, -1);
    assert_int_equal(log_kit_append_durable(k, log, &a), OK);
    log_kit_drain(k);
    assert_int_equal(a.durable, 1);
    assert_int_equal(a.durable_result, OK);
    log_kit_append_finish(&a);
}

/* The last batch of log 0 rots, and the process is killed: a start, and others that read what the
 * first one left, find the log as long as it was. */
static void rot_and_expect_end(struct log_kit *k, int64_t end, bool is_read)
{
    sim_store_flip(k->sim, "t0-0/00000000000000000000.log", log_size_bytes(log_kit_log(k, 0)) - 20,
                   0x40);
    for (int round = 0; round < 3; round++) {
        struct buf out = {0};
        log_kit_crash(k, SIM_KILL);
        assert_int_equal(log_kit_start(k, MANY, false), OK);
        assert_int_equal(log_high_watermark(log_kit_log(k, 0)), end);
        if (is_read) {
            assert_int_equal(log_kit_read(k, 0, end - 2, 300, &out), OK);
            assert_int_equal(log_kit_read(k, 0, end - 1, 300, &out), ERR_CORRUPT);
        }
        buf_finish(&out);
    }
}

/* Five records in log 0, none of them elsewhere in the journal than in its first file. */
static void start_many(struct log_kit *k)
{
    log_kit_init(k, 1);
    k->keeps_lines = true;
    k->journal_files = 8; /* half of them have to be full */
    assert_int_equal(log_kit_start(k, MANY, false), OK);
    for (int i = 0; i < MANY; i++) {
        append_one(k, i);
    }
    for (int i = 0; i < 4; i++) {
        append_one(k, 0);
    }
    assert_int_equal(k->m->journal.files[0].use, 1);
    assert_int_equal(k->m->journal.active, 0);
}

static void how_far_logs_are_durable_is_said_before_files_are_cleared(void **state)
{
    (void)state;
    struct log_kit k;
    start_many(&k);
    for (int n = 0; k.m->journal.files[0].use == 1; n++) {
        assert_true(n < 100);
        append_one(&k, 1);
    }
    rot_and_expect_end(&k, 5, true); /* no group came behind it */
    log_kit_finish(&k);
}

/* The same, with a kill or a full disk at any operation on the way there. */
static bool clear_and_fail_at(uint64_t at, bool is_kill)
{
    struct log_kit k;
    struct log_kit_append a[100]; /* one that failed waits until the stop */
    int n = 0;
    start_many(&k);
    sim_store_count_from_zero(k.sim);
    if (is_kill) {
        sim_store_cut_at(k.sim, at, SIM_KILL);
    } else {
        sim_store_fail_at(k.sim, at, ERR_NO_SPACE);
    }
    while (k.m->journal.files[0].use == 1) {
        assert_true(n < 100);
        log_kit_batch(&a[n], 1, 100, 1, T0, -1, -1, -1);
        if (!log_kit_append_durable(&k, 1, &a[n])) {
            log_kit_drain(&k);
        }
        n++;
        if (sim_store_fault_op(k.sim) != SIM_OP_COUNT) {
            break;
        }
    }
    bool happened = sim_store_fault_op(k.sim) != SIM_OP_COUNT;
    bool is_unsaid = strstr(buf_text(&k.lines), "what=clear") != NULL;
    if (is_unsaid) { /* it was not cleared, and may be later */
        assert_int_equal(journal_count(&k.m->journal, JOURNAL_CLEARING), 0);
    }
    rot_and_expect_end(&k, 5, false);
    log_kit_finish(&k);
    while (n > 0) {
        log_kit_append_finish(&a[--n]);
    }
    return happened;
}

static void a_clearing_that_fails_or_is_cut_anywhere_leaves_the_word_or_the_file(void **state)
{
    (void)state;
    for (int is_kill = 0; is_kill < 2; is_kill++) {
        uint64_t at = 0;
        while (clear_and_fail_at(at, is_kill)) {
            at++;
        }
        assert_true(at > 20);
    }
}

static void how_far_logs_are_durable_is_said_before_a_start_clears_the_files(void **state)
{
    (void)state;
    struct log_kit k;
    start_many(&k);
    log_kit_crash(&k, SIM_CUT_LOSE);
    assert_int_equal(log_kit_start(&k, MANY, false), OK);
    rot_and_expect_end(&k, 5, true); /* no group came behind it */
    log_kit_finish(&k);
}

static bool start_and_cut_at(uint64_t at)
{
    struct log_kit k;
    start_many(&k);
    int64_t size = log_size_bytes(log_kit_log(&k, 0));
    log_kit_crash(&k, SIM_KILL);
    sim_store_cut_at(k.sim, at, SIM_KILL);
    bool started = log_kit_start(&k, MANY, false) == OK;
    bool happened = sim_store_is_down(k.sim);
    assert_true(started || happened);
    log_kit_crash(&k, SIM_KILL);
    sim_store_flip(k.sim, "t0-0/00000000000000000000.log", size - 20, 0x40);
    assert_int_equal(log_kit_start(&k, MANY, false), OK);
    assert_int_equal(log_high_watermark(log_kit_log(&k, 0)), 5);
    log_kit_finish(&k);
    return happened;
}

static void a_start_that_is_cut_anywhere_leaves_the_word_or_the_files(void **state)
{
    (void)state;
    uint64_t at = 0;
    while (start_and_cut_at(at)) {
        at++;
    }
    assert_true(at > 100);
}

static int queue(struct log_kit *k, int log, size_t size, int count, struct log_kit_append *a)
{
    int taken = 0;
    for (int i = 0; i < count; i++) {
        log_kit_batch(&a[i], 1, size, 1, T0, -1, -1, -1);
        taken += log_kit_append(k, log, &a[i]) == OK;
    }
    return taken;
}

static void let_go(struct log_kit *k, struct log_kit_append *a, int count)
{
    log_kit_drain(k);
    for (int i = 0; i < 10 && log_kit_sync_again(k); i++) {
        log_kit_drain(k);
    }
    for (int i = 0; i < count; i++) {
        log_kit_append_finish(&a[i]);
    }
}

/* False: the fault was of something else. */
static bool fail_place_at(uint64_t seed, uint64_t at)
{
    struct log_kit k;
    struct log_kit_append a[RUN + 1];
    start_many(&k);
    append_one(&k, 1);
    assert_true(journal_has_free(&k.m->journal));
    sim_store_seed(k.sim, seed);
    sim_store_count_from_zero(k.sim);
    sim_store_fail_at(k.sim, at, ERR_NO_SPACE);
    assert_int_equal(queue(&k, 0, 4096, RUN, a), RUN);
    assert_int_equal(queue(&k, 1, 3600, 1, a + RUN), 1);
    let_go(&k, a, RUN + 1);
    assert_int_not_equal(sim_store_fault_op(k.sim), SIM_OP_COUNT);
    bool failed = strstr(buf_text(&k.lines), "journal_write_failed") != NULL;
    if (failed) {
        assert_int_equal(log_high_watermark(log_kit_log(&k, 0)), 5 + RUN);
        append_one(&k, 1);
        rot_and_expect_end(&k, 5 + RUN, true);
    }
    log_kit_finish(&k);
    return failed;
}

/* The group went into the segments, all of it, and how far is said with the next one. The seed says
 * how much of it the write that failed left in the journal: all of it perhaps. */
static void what_a_failed_place_was_to_say_is_said_with_the_next_group(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        uint64_t at = 0;
        while (!fail_place_at(seed, at)) {
            at++;
        }
    }
}

/* A group that wanted a descriptor and had none is formed again, without a place perhaps; and it
 * was to say what an earlier one had not. */
static void what_a_place_that_was_put_back_was_to_say_is_said_with_a_later_group(void **state)
{
    (void)state;
    int delayed = 0;
    bool happened = true;
    for (uint64_t at = 0; happened; at++) {
        struct log_kit k;
        struct log_kit_append a[RUN * MANY];
        int n = RUN;
        start_many(&k);
        assert_int_equal(queue(&k, 0, 4096, RUN, a), RUN);
        let_go(&k, a, n); /* nothing says so yet */
        sim_store_count_from_zero(k.sim);
        sim_store_fail_at(k.sim, at, ERR_NO_FILES);
        n = 0;
        for (int i = 1; i < MANY; i++) {
            bool is_small = i == MANY - 1;
            int count = is_small ? 1 : RUN;
            assert_int_equal(queue(&k, i, is_small ? 100 : 4096, count, a + n), count);
            n += count;
        }
        log_manager_submit(k.m);
        while ((sim_worker_run(&k.writer) && sim_worker_complete(&k.writer)) ||
               (sim_worker_run(&k.reader) && sim_worker_complete(&k.reader))) {
            /* the first group has two logs, and the next one all others */
        }
        let_go(&k, a, n);
        happened = sim_store_fault_op(k.sim) != SIM_OP_COUNT;
        if (strstr(buf_text(&k.lines), "sync_delayed") && !sim_store_is_down(k.sim)) {
            delayed++;
            append_one(&k, 1);
            rot_and_expect_end(&k, 5 + RUN, true);
        }
        log_kit_finish(&k);
    }
    assert_true(delayed > 0);
}

static void deleted(void *ctx, err e)
{
    *(err *)ctx = e;
}

/* A name that the file has is another log's from here on: what was said of the one before does not
 * count, or the new one would be fenced where the other ended (O1). */
static void delete_and_make(bool by_start, bool clean)
{
    struct log_kit k;
    err gone = ERR_COUNT;
    err made = ERR_COUNT;
    start_many(&k);
    for (int n = 0; k.m->journal.files[0].use == 1; n++) {
        assert_true(n < 100);
        append_one(&k, 1);
    }
    log_manager_destroy_log(k.m, k.ids[0], 0, deleted, &gone);
    log_kit_drain(&k);
    assert_int_equal(gone, OK);
    k.ids[0].b[1] = 1;
    if (by_start) {
        if (clean) {
            log_kit_stop(&k);
        } else {
            log_kit_crash(&k, SIM_CUT_LOSE);
        }
        assert_int_equal(log_kit_start(&k, MANY, clean), OK);
    } else {
        log_manager_create_log(k.m, STR("t0"), k.ids[0], 0, &k.config, deleted, &made);
        log_kit_drain(&k);
        assert_int_equal(made, OK);
    }
    append_one(&k, 0);
    for (int round = 0; round < 2; round++) {
        log_kit_crash(&k, SIM_CUT_LOSE);
        assert_int_equal(log_kit_start(&k, MANY, false), OK);
        append_one(&k, 0);
        assert_int_equal(log_high_watermark(log_kit_log(&k, 0)), 2 + round);
    }
    log_kit_finish(&k);
}

static void what_was_said_of_a_deleted_log_is_not_said_of_the_next_of_its_name(void **state)
{
    (void)state;
    delete_and_make(false, false);
    delete_and_make(true, false);
    delete_and_make(true, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_bytes_are_as_the_format_says),
        cmocka_unit_test(what_was_synced_is_found_after_a_power_cut),
        cmocka_unit_test(
            it_has_no_place_when_all_files_are_full_and_goes_round_when_they_are_cleared),
        cmocka_unit_test(a_group_larger_than_a_file_has_no_place),
        cmocka_unit_test(payload_that_looks_like_a_group_is_none),
        cmocka_unit_test(a_former_uses_group_is_none),
        cmocka_unit_test(a_torn_group_is_the_end_and_a_valid_one_behind_a_bad_one_is_rot),
        cmocka_unit_test(a_header_with_a_number_that_no_use_can_have_is_none),
        cmocka_unit_test(numbers_begin_anew_when_no_file_has_any),
        cmocka_unit_test(files_are_made_when_they_are_needed_filled_and_used_again),
        cmocka_unit_test(while_it_is_full_appends_go_on_in_the_segments),
        cmocka_unit_test(the_journal_is_believed_and_not_the_file),
        cmocka_unit_test(what_is_gone_below_the_recorded_end_is_not_given_to_others),
        cmocka_unit_test(a_recovery_that_is_cut_anywhere_is_done_again),
        cmocka_unit_test(rot_that_the_journal_stepped_over_is_not_cut_at_a_later_start),
        cmocka_unit_test(a_gap_that_the_journal_stepped_over_is_not_cut_at_a_later_start),
        cmocka_unit_test(a_failed_sync_a_restart_and_then_a_power_cut_lose_nothing),
        cmocka_unit_test(how_far_logs_are_durable_is_said_before_files_are_cleared),
        cmocka_unit_test(a_clearing_that_fails_or_is_cut_anywhere_leaves_the_word_or_the_file),
        cmocka_unit_test(how_far_logs_are_durable_is_said_before_a_start_clears_the_files),
        cmocka_unit_test(a_start_that_is_cut_anywhere_leaves_the_word_or_the_files),
        cmocka_unit_test(what_a_failed_place_was_to_say_is_said_with_the_next_group),
        cmocka_unit_test(what_a_place_that_was_put_back_was_to_say_is_said_with_a_later_group),
        cmocka_unit_test(what_was_said_of_a_deleted_log_is_not_said_of_the_next_of_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

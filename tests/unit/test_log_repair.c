/* Repair of a partition's files: it says what is wrong and what it would cut, cuts nothing else,
 * and what is left is served; wherever it is cut off. */
#include "base/bytes.h"
#include "base/mem.h"
#include "broker/log/internal.h"
#include "broker/log/repair.h"
#include "tests/kit/log_kit.h"
#include "tests/kit/store_dsl.h"

#include <stdio.h>
#include <stdlib.h>

static const int64_t T0 = 1700000000000;

enum { BATCHES = 12, RECORDS = 2, VALUE = 100, END = BATCHES * RECORDS };

static const char *const FIRST = "t0-0/00000000000000000000.log";
static const char *const SECOND = "t0-0/00000000000000000006.log";
static const char *const LAST = "t0-0/00000000000000000018.log";

/* Four segments of three batches of two records, stopped cleanly. */
static struct log_kit *stopped_kit(size_t *ret_batch)
{
    struct log_kit *k = mem_need(sizeof *k);
    log_kit_init(k, 1);
    k->config.segment_bytes = 1000;
    k->config.index_interval_bytes = 1;
    k->keeps_lines = true;
    assert_int_equal(log_kit_start(k, 1, false), OK);
    for (int i = 0; i < BATCHES; i++) {
        struct log_kit_append a;
        int64_t first = (int64_t)i * RECORDS;
        log_kit_batch(&a, RECORDS, VALUE, (uint64_t)first, T0 + first, -1, -1, -1);
        *ret_batch = a.bytes.len;
        assert_int_equal(log_kit_append(k, 0, &a), OK);
        log_kit_drain(k);
        log_kit_append_finish(&a);
    }
    log_kit_stop(k);
    return k;
}

static void done(struct log_kit *k)
{
    log_kit_finish(k);
    mem_free(k);
}

static struct store *store_of(struct log_kit *k)
{
    return sim_store_store(k->sim);
}

static void cut_file(struct log_kit *k, const char *path, int64_t size)
{
    struct store *s = store_of(k);
    struct store_file *file = open_file(s, path, STORE_WRITE);
    assert_int_equal(s->ops->truncate(s->ctx, file, size), OK);
    close_file(s, file);
}

static void add_bytes(struct log_kit *k, const char *path, const void *p, size_t size)
{
    struct store *s = store_of(k);
    struct store_file *file = open_file(s, path, STORE_CREATE);
    int64_t at;
    assert_int_equal(s->ops->size(s->ctx, file, &at), OK);
    struct iovec v = {(void *)(uintptr_t)p, size};
    assert_int_equal(s->ops->write(s->ctx, file, &v, 1, at), OK);
    close_file(s, file);
}

static void each_file(void *arg, const struct store_entry *entry)
{
    buf_add_str(arg, entry->name);
    buf_add(arg, "", 1);
}

/* Names and bytes of all files, as one text. */
static void everything(struct log_kit *k, struct buf *out)
{
    struct buf names = {0};
    assert_int_equal(store_of(k)->ops->list(store_of(k)->ctx, "t0-0", each_file, &names), OK);
    for (size_t at = 0; at < names.len; at += strlen(names.ptr + at) + 1) {
        char path[200];
        snprintf(path, sizeof path, "t0-0/%s", names.ptr + at);
        buf_add_str(out, str_of(path));
        assert_int_equal(store_read_file(store_of(k), path, 1 << 20, out), OK);
    }
    buf_finish(&names);
}

/* Plans, and expects that this alone changed nothing. */
static struct repair_plan plan(struct log_kit *k)
{
    struct repair_plan p;
    struct buf before = {0};
    struct buf after = {0};
    everything(k, &before);
    assert_int_equal(repair_plan(store_of(k), "t0-0", &p), OK);
    everything(k, &after);
    assert_int_equal(before.len, after.len);
    assert_memory_equal(before.ptr, after.ptr, after.len);
    buf_finish(&before);
    buf_finish(&after);
    return p;
}

static int count_of(const struct repair_plan *p, enum repair_kind kind)
{
    int n = 0;
    for (int i = 0; i < p->count; i++) {
        n += repair_step(p, i)->kind == kind;
    }
    return n;
}

static const struct repair_step *first_of(const struct repair_plan *p, enum repair_kind kind)
{
    for (int i = 0; i < p->count; i++) {
        if (repair_step(p, i)->kind == kind) {
            return repair_step(p, i);
        }
    }
    fail_msg("nothing of kind %d among %d steps", kind, p->count);
    return NULL;
}

static void expect_cut(const struct repair_plan *p, const char *path, int64_t position,
                       int64_t size, int64_t from, int64_t to)
{
    const struct repair_step *s = first_of(p, REPAIR_CUT);
    assert_int_equal(count_of(p, REPAIR_CUT), 1);
    assert_string_equal(s->path, path);
    assert_int_equal(s->position, position);
    assert_int_equal(s->size, size);
    assert_int_equal(s->offset, from);
    assert_int_equal(s->offset_to, to);
    assert_int_equal(p->bad_bytes, size);
}

static void expect_nothing_wrong(struct log_kit *k)
{
    struct repair_plan p = plan(k);
    for (int i = 0; i < p.count; i++) {
        fail_msg("%s: %s", repair_step(&p, i)->path, repair_step(&p, i)->why);
    }
    repair_plan_finish(&p);
}

static int64_t first_at(struct log_kit *k, int64_t offset)
{
    struct buf out = {0};
    struct batch_header h = {0};
    err e = log_kit_read(k, 0, offset, 100, &out);
    if (!e) {
        assert_int_equal(batch_header_read(out.ptr, out.len, &h), OK);
        assert_true(batch_crc_is_right(out.ptr, h.size));
    }
    buf_finish(&out);
    return e ? -(int64_t)e : h.base_offset;
}

/* Every batch but those in [from, to) is served, who reads in there gets the next one, and the log
 * goes on at its end. */
static void expect_served(struct log_kit *k, int64_t from, int64_t to, bool clean)
{
    assert_int_equal(log_kit_start(k, 1, clean), OK);
    struct log *log = log_kit_log(k, 0);
    assert_int_equal(log_high_watermark(log), END);
    for (int64_t at = 0; at < END; at++) {
        int64_t due = at / RECORDS * RECORDS;
        due = due >= from && due < to ? to : due;
        if (due < END) {
            assert_int_equal(first_at(k, at), due);
            int64_t offset;
            int64_t time;
            assert_int_equal(log_kit_find_time(k, 0, T0 + at, &offset, &time), OK);
            assert_int_equal(offset, at >= from && at < to ? to : at);
        }
    }
    struct log_kit_append a;
    log_kit_batch(&a, RECORDS, VALUE, END, T0 + END, -1, -1, -1);
    assert_int_equal(log_kit_append(k, 0, &a), OK);
    assert_int_equal(a.a.base_offset, END);
    log_kit_drain(k);
    assert_int_equal(a.durable_result, OK);
    log_kit_append_finish(&a);
    assert_int_equal(first_at(k, END), END);
    log_kit_stop(k);
}

/* Both ways of starting after it, from the same files. */
typedef void damage_fn(struct log_kit *k, size_t batch);
static void repair_and_serve(damage_fn *damage, int64_t from, int64_t to)
{
    for (int clean = 0; clean < 2; clean++) {
        size_t batch;
        struct log_kit *k = stopped_kit(&batch);
        damage(k, batch);
        struct repair_plan p = plan(k);
        assert_true(p.count > 0);
        assert_int_equal(p.end_offset, END);
        assert_int_equal(repair_apply(store_of(k), "t0-0", &p), OK);
        repair_plan_finish(&p);
        expect_nothing_wrong(k);
        expect_served(k, from, to, clean);
        assert_null(strstr(buf_text(&k->lines), "batch_corrupt"));
        assert_null(strstr(buf_text(&k->lines), "log_fenced"));
        assert_null(strstr(buf_text(&k->lines), "tail_cut"));
        done(k);
    }
}

/* ---- kinds of damage */

static void files_that_are_right_are_left_as_they_are(void **state)
{
    (void)state;
    size_t batch;
    struct log_kit *k = stopped_kit(&batch);
    expect_nothing_wrong(k);
    struct repair_plan p = plan(k);
    assert_int_equal(repair_apply(store_of(k), "t0-0", &p), OK);
    expect_nothing_wrong(k);
    repair_plan_finish(&p);
    expect_served(k, 0, 0, true);
    expect_nothing_wrong(k);
    done(k);
}

static void flip_payload(struct log_kit *k, size_t batch)
{
    sim_store_flip(k->sim, SECOND, (int64_t)batch + 100, 0x10);
}

static void a_batch_whose_payload_rotted_is_cut_and_nothing_else(void **state)
{
    (void)state;
    size_t batch;
    struct log_kit *k = stopped_kit(&batch);
    flip_payload(k, batch);
    struct repair_plan p = plan(k);
    expect_cut(&p, SECOND, (int64_t)batch, (int64_t)batch, 8, 10);
    assert_int_equal(count_of(&p, REPAIR_REMOVE), 2); /* both indexes are of the longer file */
    repair_plan_finish(&p);
    done(k);
    repair_and_serve(flip_payload, 8, 10);
}

static void flip_length(struct log_kit *k, size_t batch)
{
    sim_store_flip(k->sim, SECOND, (int64_t)batch + 9, 0x40);
}

static void flip_low_length(struct log_kit *k, size_t batch)
{
    sim_store_flip(k->sim, SECOND, (int64_t)batch + 11, 0x20);
}

static void flip_magic(struct log_kit *k, size_t batch)
{
    sim_store_flip(k->sim, SECOND, (int64_t)batch + 16, 0x01);
}

static void a_header_that_rotted_costs_its_batch_where_the_index_knows_the_next(void **state)
{
    (void)state;
    repair_and_serve(flip_length, 8, 10);
    repair_and_serve(flip_low_length, 8, 10);
    repair_and_serve(flip_magic, 8, 10);
}

static void flip_length_without_index(struct log_kit *k, size_t batch)
{
    struct store *s = store_of(k);
    flip_length(k, batch);
    assert_int_equal(s->ops->unlink(s->ctx, "t0-0/00000000000000000006.index"), OK);
}

/* What a client put into a value is not searched for batches. */
static void without_an_index_a_bad_header_costs_the_rest_of_its_segment(void **state)
{
    (void)state;
    repair_and_serve(flip_length_without_index, 8, 12);
}

static void flip_base_offset(struct log_kit *k, size_t batch)
{
    sim_store_flip(k->sim, SECOND, (int64_t)batch + 7, 0x03); /* 8 becomes 11 */
}

static void flip_base_offset_high(struct log_kit *k, size_t batch)
{
    (void)batch;
    sim_store_flip(k->sim, FIRST, 0, 0x80);
}

static void flip_base_offset_at_the_end(struct log_kit *k, size_t batch)
{
    sim_store_flip(k->sim, SECOND, 2 * (int64_t)batch + 6, 0x01);
}

static void a_base_offset_that_rotted_is_set_right_by_its_neighbours(void **state)
{
    (void)state;
    size_t batch;
    struct log_kit *k = stopped_kit(&batch);
    flip_base_offset(k, batch);
    struct repair_plan p = plan(k);
    assert_int_equal(count_of(&p, REPAIR_CUT), 0);
    assert_int_equal(count_of(&p, REPAIR_OFFSET), 1);
    assert_int_equal(first_of(&p, REPAIR_OFFSET)->offset, 8);
    assert_int_equal(first_of(&p, REPAIR_OFFSET)->offset_to, 11);
    repair_plan_finish(&p);
    done(k);
    repair_and_serve(flip_base_offset, 0, 0);
    repair_and_serve(flip_base_offset_high, 0, 0);
    repair_and_serve(flip_base_offset_at_the_end, 0, 0);
}

static void cut_last(struct log_kit *k, size_t batch)
{
    cut_file(k, LAST, 3 * (int64_t)batch - 20);
}

/* A crash came before a checkpoint: only the file that was written before the journal was cleared
 * says that they were read. */
static void a_torn_tail_below_the_durable_end_keeps_its_offsets(void **state)
{
    (void)state;
    size_t batch;
    struct log_kit *k = stopped_kit(&batch);
    struct store *s = store_of(k);
    char text[32];
    int size = snprintf(text, sizeof text, "0\n1\nt0 0 %d\n", (int)END);
    assert_int_equal(s->ops->unlink(s->ctx, "recovery-point-offset-checkpoint"), OK);
    assert_int_equal(store_replace_file(s, "durable-offset-checkpoint", text, (size_t)size), OK);
    cut_last(k, batch);
    struct repair_plan p = plan(k);
    assert_int_equal(first_of(&p, REPAIR_END)->offset, END);
    assert_int_equal(p.end_offset, END);
    repair_plan_finish(&p);
    done(k);
}

/* Its offsets were read: they are not given again. */
/* How far the log was good is not guessed. */
static void without_the_durable_ends_there_is_no_plan(void **state)
{
    (void)state;
    size_t batch;
    struct repair_plan p;
    struct log_kit *k = stopped_kit(&batch);
    put_file(store_of(k), "durable-offset-checkpoint", "1\n1\nt0 0 24\ncrc32c 00000000\n");
    assert_int_equal(repair_plan(store_of(k), "t0-0", &p), ERR_CORRUPT);
    assert_int_equal(log_kit_start(k, 1, true), OK);
    log_kit_stop(k);
    expect_nothing_wrong(k);
    done(k);
}

static void a_torn_tail_below_the_recovery_point_keeps_its_offsets(void **state)
{
    (void)state;
    size_t batch;
    struct log_kit *k = stopped_kit(&batch);
    cut_last(k, batch);
    struct repair_plan p = plan(k);
    expect_cut(&p, LAST, 2 * (int64_t)batch, (int64_t)batch - 20, 22, INT64_MAX);
    assert_int_equal(first_of(&p, REPAIR_END)->offset, END);
    repair_plan_finish(&p);
    done(k);
    repair_and_serve(cut_last, 22, END);
}

static void add_torn(struct log_kit *k, size_t batch)
{
    (void)batch;
    add_bytes(k, LAST, "\0\0\0\0\0\0\0\x18\0\0\1", 11);
}

static void a_torn_tail_behind_the_end_is_cut(void **state)
{
    (void)state;
    repair_and_serve(add_torn, 0, 0);
}

static void cut_middle(struct log_kit *k, size_t batch)
{
    cut_file(k, SECOND, (int64_t)batch + 70);
}

static void a_segment_in_the_middle_that_was_cut_loses_its_end_only(void **state)
{
    (void)state;
    repair_and_serve(cut_middle, 8, 12);
}

/* Before the first checkpoint, a start would take what is behind the cut for a torn tail. */
static void what_is_behind_a_cut_is_no_torn_tail_to_the_next_start(void **state)
{
    (void)state;
    size_t batch;
    struct log_kit *k = stopped_kit(&batch);
    struct store *s = store_of(k);
    assert_int_equal(s->ops->unlink(s->ctx, "recovery-point-offset-checkpoint"), OK);
    cut_middle(k, batch);
    struct repair_plan p = plan(k);
    assert_int_equal(repair_apply(s, "t0-0", &p), OK);
    repair_plan_finish(&p);
    expect_served(k, 8, 12, false);
    done(k);
}

static void zero_first(struct log_kit *k, size_t batch)
{
    static const uint8_t zeros[2000];
    struct store *s = store_of(k);
    struct store_file *file = open_file(s, FIRST, STORE_WRITE);
    struct iovec v = {(void *)(uintptr_t)zeros, 3 * batch};
    assert_int_equal(s->ops->write(s->ctx, file, &v, 1, 0), OK);
    close_file(s, file);
}

static void garbage_first(struct log_kit *k, size_t batch)
{
    for (size_t i = 0; i < 3 * batch; i++) {
        sim_store_flip(k->sim, FIRST, (int64_t)i, (uint8_t)(i * 131 + 77));
    }
}

static void a_segment_that_is_all_garbage_is_emptied(void **state)
{
    (void)state;
    repair_and_serve(zero_first, 0, 6);
    repair_and_serve(garbage_first, 0, 6);
}

static void remove_second(struct log_kit *k, size_t batch)
{
    (void)batch;
    struct store *s = store_of(k);
    assert_int_equal(s->ops->unlink(s->ctx, SECOND), OK);
}

static void a_segment_that_is_missing_is_a_gap_and_its_indexes_go(void **state)
{
    (void)state;
    repair_and_serve(remove_second, 6, 12);
}

static void wrong_index(struct log_kit *k, size_t batch)
{
    (void)batch;
    sim_store_flip(k->sim, "t0-0/00000000000000000006.index", 7, 0x04);
}

static void wrong_time_index(struct log_kit *k, size_t batch)
{
    (void)batch;
    sim_store_flip(k->sim, "t0-0/00000000000000000006.timeindex", 7, 0x08);
}

static void long_index(struct log_kit *k, size_t batch)
{
    (void)batch;
    add_bytes(k, "t0-0/00000000000000000000.index", "\0\0\0\x5\0\1\0\0", 8);
}

static void indexes_that_are_wrong_are_made_again(void **state)
{
    (void)state;
    damage_fn *const all[] = {wrong_index, wrong_time_index, long_index};
    for (int i = 0; i < 3; i++) {
        size_t batch;
        struct log_kit *k = stopped_kit(&batch);
        all[i](k, batch);
        struct repair_plan p = plan(k);
        assert_int_equal(p.count, 1);
        assert_int_equal(count_of(&p, REPAIR_REMOVE), 1);
        assert_int_equal(p.bad_bytes, 0);
        repair_plan_finish(&p);
        done(k);
        repair_and_serve(all[i], 0, 0);
    }
}

static void no_index(struct log_kit *k)
{
    struct store *s = store_of(k);
    assert_int_equal(s->ops->unlink(s->ctx, "t0-0/00000000000000000006.index"), OK);
    assert_int_equal(s->ops->unlink(s->ctx, "t0-0/00000000000000000006.timeindex"), OK);
}

static void indexes_that_are_missing_need_no_repair(void **state)
{
    (void)state;
    size_t batch;
    struct log_kit *k = stopped_kit(&batch);
    no_index(k);
    expect_nothing_wrong(k);
    expect_served(k, 0, 0, true);
    done(k);
}

static void small_files(struct log_kit *k, size_t batch)
{
    (void)batch;
    put_file(store_of(k), "t0-0/leader-epoch-checkpoint", "garbage");
    put_file(store_of(k), "t0-0/00000000000000000024.snapshot", "garbage");
}

static void small_files_that_say_nothing_go(void **state)
{
    (void)state;
    repair_and_serve(small_files, 0, 0);
}

static void files_of_others_are_named_and_left_alone(void **state)
{
    (void)state;
    size_t batch;
    struct log_kit *k = stopped_kit(&batch);
    put_file(store_of(k), "t0-0/notes.txt", "mine");
    put_file(store_of(k), "t0-0/12.log", "mine");
    struct repair_plan p = plan(k);
    assert_int_equal(p.count, 2);
    assert_int_equal(count_of(&p, REPAIR_LEFT_ALONE), 2);
    assert_int_equal(repair_apply(store_of(k), "t0-0", &p), OK);
    repair_plan_finish(&p);
    p = plan(k);
    assert_int_equal(count_of(&p, REPAIR_LEFT_ALONE), 2);
    repair_plan_finish(&p);
    done(k);
}

/* It could be the records of another place: nothing is cut for a name. */
static void a_segment_under_a_wrong_name_is_named_and_left_alone(void **state)
{
    (void)state;
    static const char *const names[] = {
        "t0-0/00000000000000000004.log", /* inside of the one before */
        "t0-0/00000000000000000008.log", /* inside of itself */
    };
    for (int i = 0; i < 2; i++) {
        size_t batch;
        struct log_kit *k = stopped_kit(&batch);
        struct store *s = store_of(k);
        no_index(k);
        assert_int_equal(s->ops->rename(s->ctx, SECOND, names[i]), OK);
        struct repair_plan p = plan(k);
        assert_int_equal(p.count, 1);
        assert_string_equal(first_of(&p, REPAIR_LEFT_ALONE)->path, names[i]);
        repair_plan_finish(&p);
        done(k);
    }
}

/* Any one byte, anywhere in a segment: no batch but the one that holds it is ever cut. */
static void any_byte_that_rots_costs_no_other_batch(void **state)
{
    (void)state;
    size_t batch;
    done(stopped_kit(&batch));
    for (size_t at = 0; at < 3 * batch; at += at % batch < 64 ? 1 : 37) {
        struct log_kit *k = stopped_kit(&batch);
        sim_store_flip(k->sim, SECOND, (int64_t)at, (uint8_t)(1U << at % 8));
        int64_t own = 6 + (int64_t)(at / batch) * RECORDS;
        struct repair_plan p = plan(k);
        for (int i = 0; i < p.count; i++) {
            const struct repair_step *s = repair_step(&p, i);
            if (s->kind == REPAIR_CUT) {
                assert_int_equal(s->position, at / batch * batch);
                assert_int_equal(s->size, batch);
                assert_int_equal(s->offset, own);
                assert_int_equal(s->offset_to, own + RECORDS);
            }
        }
        bool cut = count_of(&p, REPAIR_CUT) > 0;
        assert_int_equal(repair_apply(store_of(k), "t0-0", &p), OK);
        repair_plan_finish(&p);
        expect_nothing_wrong(k);
        expect_served(k, cut ? own : 0, cut ? own + RECORDS : 0, at % 2);
        done(k);
    }
}

/* ---- being cut off */

static void much_damage(struct log_kit *k, size_t batch)
{
    flip_payload(k, batch);
    flip_base_offset_high(k, batch);
    cut_last(k, batch);
    small_files(k, batch);
}

/* At each of its operations, in each way: what it cut then is in its plan, and a second repair has
 * the rest. */
static void a_repair_may_be_cut_off_anywhere_and_made_again(void **state)
{
    (void)state;
    static const enum sim_cut how[] = {SIM_KILL, SIM_CUT_LOSE, SIM_CUT_TEAR};
    int cuts = 0;
    for (int h = 0; h < 3; h++) {
        for (uint64_t op = 0;; op++) {
            size_t batch;
            struct log_kit *k = stopped_kit(&batch);
            much_damage(k, batch);
            log_kit_crash(k, SIM_KILL);
            struct repair_plan p = plan(k);
            sim_store_count_from_zero(k->sim);
            sim_store_cut_at(k->sim, op, how[h]);
            err e = repair_apply(store_of(k), "t0-0", &p);
            repair_plan_finish(&p);
            if (!e) {
                done(k);
                break;
            }
            cuts++;
            sim_store_restart(k->sim, how[h]);
            sim_store_count_from_zero(k->sim);
            p = plan(k);
            assert_int_equal(p.end_offset, END);
            for (int i = 0; i < p.count; i++) {
                const struct repair_step *s = repair_step(&p, i);
                assert_true(s->kind != REPAIR_CUT || s->size <= (int64_t)batch);
            }
            assert_int_equal(repair_apply(store_of(k), "t0-0", &p), OK);
            repair_plan_finish(&p);
            expect_nothing_wrong(k);
            assert_int_equal(log_kit_start(k, 1, op % 2), OK);
            for (int64_t at = 0; at < 22; at += RECORDS) {
                assert_int_equal(first_at(k, at), at == 8 ? 10 : at);
            }
            assert_int_equal(log_high_watermark(log_kit_log(k, 0)), END);
            log_kit_stop(k);
            done(k);
        }
    }
    print_message("%d cuts\n", cuts);
    assert_true(cuts > 60);
}

static void a_repair_that_fails_says_so_and_leaves_each_file_old_or_new(void **state)
{
    (void)state;
    static const err errors[] = {ERR_IO, ERR_NO_SPACE, ERR_NO_FILES};
    for (int i = 0; i < 3; i++) {
        for (uint64_t op = 0;; op++) {
            size_t batch;
            struct log_kit *k = stopped_kit(&batch);
            much_damage(k, batch);
            struct repair_plan p = plan(k);
            sim_store_count_from_zero(k->sim);
            sim_store_fail_at(k->sim, op, errors[i]);
            err e = repair_apply(store_of(k), "t0-0", &p);
            repair_plan_finish(&p);
            if (!e) {
                done(k);
                break;
            }
            if (sim_store_is_down(k->sim)) {
                sim_store_restart(k->sim, SIM_CUT_LOSE);
            }
            sim_store_count_from_zero(k->sim);
            p = plan(k);
            assert_int_equal(repair_apply(store_of(k), "t0-0", &p), OK);
            repair_plan_finish(&p);
            expect_nothing_wrong(k);
            done(k);
        }
    }
}

static void a_file_that_changed_since_the_plan_is_not_touched(void **state)
{
    (void)state;
    size_t batch;
    struct log_kit *k = stopped_kit(&batch);
    flip_payload(k, batch);
    struct repair_plan p = plan(k);
    add_bytes(k, SECOND, "x", 1);
    struct buf before = {0};
    struct buf after = {0};
    everything(k, &before);
    assert_int_equal(repair_apply(store_of(k), "t0-0", &p), ERR_STALE);
    everything(k, &after);
    assert_int_equal(before.len, after.len);
    assert_memory_equal(before.ptr, after.ptr, after.len);
    buf_finish(&before);
    buf_finish(&after);
    repair_plan_finish(&p);
    done(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_that_are_right_are_left_as_they_are),
        cmocka_unit_test(a_batch_whose_payload_rotted_is_cut_and_nothing_else),
        cmocka_unit_test(a_header_that_rotted_costs_its_batch_where_the_index_knows_the_next),
        cmocka_unit_test(without_an_index_a_bad_header_costs_the_rest_of_its_segment),
        cmocka_unit_test(a_base_offset_that_rotted_is_set_right_by_its_neighbours),
        cmocka_unit_test(without_the_durable_ends_there_is_no_plan),
        cmocka_unit_test(a_torn_tail_below_the_recovery_point_keeps_its_offsets),
        cmocka_unit_test(a_torn_tail_below_the_durable_end_keeps_its_offsets),
        cmocka_unit_test(a_torn_tail_behind_the_end_is_cut),
        cmocka_unit_test(a_segment_in_the_middle_that_was_cut_loses_its_end_only),
        cmocka_unit_test(what_is_behind_a_cut_is_no_torn_tail_to_the_next_start),
        cmocka_unit_test(a_segment_that_is_all_garbage_is_emptied),
        cmocka_unit_test(a_segment_that_is_missing_is_a_gap_and_its_indexes_go),
        cmocka_unit_test(indexes_that_are_wrong_are_made_again),
        cmocka_unit_test(indexes_that_are_missing_need_no_repair),
        cmocka_unit_test(small_files_that_say_nothing_go),
        cmocka_unit_test(files_of_others_are_named_and_left_alone),
        cmocka_unit_test(a_segment_under_a_wrong_name_is_named_and_left_alone),
        cmocka_unit_test(any_byte_that_rots_costs_no_other_batch),
        cmocka_unit_test(a_repair_may_be_cut_off_anywhere_and_made_again),
        cmocka_unit_test(a_repair_that_fails_says_so_and_leaves_each_file_old_or_new),
        cmocka_unit_test(a_file_that_changed_since_the_plan_is_not_touched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

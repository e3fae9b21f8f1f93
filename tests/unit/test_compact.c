/* The cleaner: of each key the last record stays where it was, whatever fails or crashes on the
 * way, and nothing that was gone comes back. A model knows every record that was ever appended. */
#include "broker/log/compact.h"
#include "tests/kit/log_kit.h"

#include "base/check.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { RECORDS_MAX = 4000, KEYS = 12, PRODUCERS = 3, BATCH_MAX = 6 };

static const int64_t T0 = 1700000000000;

struct entry {
    int8_t key;     /* -1: none */
    bool tombstone; /* else its value is its offset */
    int64_t time;
    bool sure; /* it is durable: it was acknowledged */
    bool control;
};

struct model {
    struct log_kit k;
    struct rng rng;
    struct entry *e; /* owned: RECORDS_MAX, by offset */
    int64_t end;     /* records appended and acknowledged, or refused and forgotten */
    int32_t sequence[PRODUCERS];
    int64_t last_of[PRODUCERS]; /* last offset of the producer's last batch; -1 */
    bool *seen_gone;            /* owned: a read has missed it once */
};

static void model_init(struct model *m, uint64_t seed)
{
    memset(m, 0, sizeof *m);
    log_kit_init(&m->k, seed);
    rng_init(&m->rng, seed ^ 77);
    m->e = mem_need_zero(RECORDS_MAX, sizeof *m->e);
    m->seen_gone = mem_need_zero(RECORDS_MAX, sizeof *m->seen_gone);
    for (int i = 0; i < PRODUCERS; i++) {
        m->last_of[i] = -1;
    }
    struct log_config *c = &m->k.config;
    c->delete_old = false;
    c->compact = true;
    c->compact_roll_bytes = 600;
    c->segment_bytes = 4000;
    c->index_interval_bytes = 300;
    c->min_cleanable_ratio = 0.3;
    c->delete_retention_ms = 0;
}

static void model_finish(struct model *m)
{
    log_kit_finish(&m->k);
    mem_free(m->e);
    mem_free(m->seen_gone);
}

static size_t key_text(int key, char text[40])
{
    return (size_t)snprintf(text, 40, "key-%d-%.*s", key, key % 5, "xxxxxxxx");
}

static size_t value_text(int64_t offset, char text[80])
{
    return (size_t)snprintf(text, 80, "value of %lld %.*s", (long long)offset, (int)(offset % 37),
                            "........................................");
}

/* One batch of up to BATCH_MAX records into log 0, and what the model is to make of it. */
struct step {
    struct log_kit_append a;
    struct entry e[BATCH_MAX];
    int32_t count;
    int producer; /* -1 */
};

static void step_make(struct model *m, struct step *s)
{
    struct batch_builder b;
    struct batch_seal seal = batch_seal_plain;
    enum batch_flaw flaw;
    struct batch_scratch scratch = {0};
    memset(s, 0, sizeof *s);
    s->count = 1 + (int32_t)rng_below(&m->rng, BATCH_MAX);
    s->producer = (int)rng_below(&m->rng, PRODUCERS + 1) - 1;
    batch_builder_init(&b);
    for (int32_t i = 0; i < s->count; i++) {
        struct entry *e = &s->e[i];
        char key[40];
        char value[80];
        e->key = (int8_t)((int)rng_below(&m->rng, KEYS * 8) / 8);
        e->tombstone = rng_below(&m->rng, 5) == 0;
        e->time = T0 + (int64_t)rng_below(&m->rng, 100000);
        e->key = rng_below(&m->rng, 60) == 0 ? -1 : e->key;
        e->tombstone = e->tombstone && e->key >= 0;
        size_t key_size = key_text(e->key, key);
        size_t value_size = value_text(m->end + i, value);
        struct bytes k = {(const uint8_t *)key, key_size};
        struct bytes v = {(const uint8_t *)value, value_size};
        struct record_header h = {.name = STR("h"), .value = v};
        check(!batch_builder_add(&b, e->time, e->key < 0 ? (struct bytes){0} : k,
                                 e->tombstone ? (struct bytes){0} : v, &h, i & 1));
    }
    seal.codec = (enum codec)rng_below(&m->rng, CODEC_COUNT);
    if (s->producer >= 0) {
        seal.producer_id = 100 + s->producer;
        seal.producer_epoch = 0;
        seal.base_sequence = m->sequence[s->producer];
    }
    check(!batch_builder_seal(&b, &seal, &s->a.bytes));
    batch_builder_finish(&b);
    s->a.a.batch = (uint8_t *)s->a.bytes.ptr;
    s->a.a.size = s->a.bytes.len;
    check(!batch_validate(s->a.bytes.ptr, s->a.bytes.len, 1 << 24, &scratch, &s->a.a.info, &flaw));
    batch_scratch_finish(&scratch);
}

static void step_take(struct model *m, const struct step *s)
{
    for (int32_t i = 0; i < s->count; i++) {
        m->e[m->end + i] = s->e[i];
    }
    m->end += s->count;
    if (s->producer >= 0) {
        m->sequence[s->producer] += s->count;
        m->last_of[s->producer] = m->end - 1;
    }
}

static void pass_time(struct model *m, int64_t ms)
{
    for (int i = 0; i < 6; i++) {
        log_kit_drain(&m->k);
        sim_clock_advance_ms(&m->k.clock, ms);
        timers_run(&m->k.timers, clock_mono_ms(&m->k.clock.clock));
    }
    log_kit_drain(&m->k);
}

/* True: it is durable. The store may be down after it. */
static bool append(struct model *m)
{
    struct step s;
    struct log *log = log_kit_log(&m->k, 0);
    assert_true(m->end + BATCH_MAX <= RECORDS_MAX);
    step_make(m, &s);
    bool durable = false;
    if (log_end_offset(log) == m->end && !log_kit_append(&m->k, 0, &s.a)) {
        for (int i = 0; i < 3; i++) {
            log_kit_drain(&m->k);
            if (!log_kit_sync_again(&m->k)) {
                break;
            }
        }
        log_kit_drain(&m->k);
        durable = s.a.durable == 1 && s.a.durable_result == OK;
        if (durable) {
            assert_int_equal(s.a.a.base_offset, m->end);
            step_take(m, &s);
        }
    }
    if (!durable && m->k.m && sim_store_is_down(m->k.sim)) {
        /* It may be there after the crash, or not: the model asks the log (model_after_crash). */
        log_kit_crash(&m->k, SIM_KILL);
    }
    log_kit_append_finish(&s.a);
    return durable;
}

static int64_t last_of_key(const struct model *m, int key, int64_t end)
{
    for (int64_t i = end - 1; i >= 0; i--) {
        if (m->e[i].key == key) {
            return i;
        }
    }
    return -1;
}

static void expect_record(const struct model *m, const struct record *r)
{
    char key[40];
    char value[80];
    const struct entry *e = &m->e[r->offset];
    assert_true(r->offset < m->end);
    assert_int_equal(r->timestamp, e->time);
    assert_true((e->key < 0) == !r->key.ptr);
    if (r->key.ptr) {
        size_t n = key_text(e->key, key);
        assert_true(n == r->key.len && memcmp(key, r->key.ptr, n) == 0);
    }
    assert_true(e->tombstone == !r->value.ptr);
    if (r->value.ptr) {
        size_t n = value_text(r->offset, value);
        assert_true(n == r->value.len && memcmp(value, r->value.ptr, n) == 0);
    }
    /* What a read has missed once is gone for ever. */
    assert_false(m->seen_gone[r->offset]);
}

/* Everything that can be read, against the model. there[] says which records are. */
static void look(struct model *m, bool *there)
{
    struct batch_scratch scratch = {0};
    struct log *log = log_kit_log(&m->k, 0);
    int64_t end = log_high_watermark(log);
    int64_t next = 0;
    int64_t before = -1;
    bool *found = mem_need_zero(RECORDS_MAX, 1);
    bool *batch_ends = mem_need_zero(RECORDS_MAX, 1);
    assert_int_equal(end, m->end);
    if (rng_below(&m->rng, 2)) {
        sim_store_evict(m->k.sim);
    }
    while (next < end) {
        struct buf out = {0};
        struct batch_header h;
        assert_int_equal(log_kit_read(&m->k, 0, next, 1 + rng_below(&m->rng, 3000), &out), OK);
        assert_true(out.len > 0);
        for (size_t at = 0; at < out.len; at += h.size) {
            struct batch_iterator it;
            struct record r;
            err e = batch_header_read(out.ptr + at, out.len - at, &h);
            if (e == ERR_TRUNCATED || h.size > out.len - at) {
                assert_true(at > 0);
                break;
            }
            assert_int_equal(e, OK);
            assert_true(batch_crc_is_right(out.ptr + at, h.size));
            assert_true(h.base_offset + h.last_offset_delta >= next);
            assert_int_equal(batch_iterator_init(&it, out.ptr + at, h.size, 1 << 20, &scratch), OK);
            int64_t latest = -1;
            while (!(e = batch_iterator_next(&it, &r))) {
                assert_true(r.offset > before);
                before = r.offset;
                expect_record(m, &r);
                found[r.offset] = true;
                latest = r.timestamp > latest ? r.timestamp : latest;
            }
            assert_int_equal(e, ERR_NOT_FOUND);
            assert_int_equal(h.max_timestamp, latest);
            next = h.base_offset + h.last_offset_delta + 1;
            batch_ends[next - 1] = true;
        }
        buf_finish(&out);
    }
    assert_int_equal(next, end);
    for (int32_t i = 1; i < log->segment_count; i++) { /* S1: no segment ends before the next one */
        int64_t base = log->segments[i]->base_offset;
        assert_true(base == 0 || base > end || batch_ends[base - 1]);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        assert_true(m->last_of[i] < 0 || batch_ends[m->last_of[i]]);
    }
    for (int key = -1; key < KEYS; key++) {
        int64_t last = last_of_key(m, key, end);
        assert_true(key < 0 || last < 0 || m->e[last].tombstone || found[last]);
    }
    for (int64_t i = 0; i < end; i++) {
        m->seen_gone[i] = !found[i];
        assert_true(found[i] || m->e[i].key >= 0);
        /* Below clean_end only last ones are left, or tombstones that are. */
        if (found[i] && i < log->clean_end && m->e[i].key >= 0) {
            assert_int_equal(i, last_of_key(m, m->e[i].key, log->clean_end));
        }
    }
    if (there) {
        memcpy(there, found, RECORDS_MAX);
    }
    batch_scratch_finish(&scratch);
    mem_free(found);
    mem_free(batch_ends);
}

static void look_up_times(struct model *m, const bool *there)
{
    for (int i = 0; i < 20; i++) {
        int64_t t = T0 + (int64_t)rng_below(&m->rng, 101000);
        int64_t first = -1;
        int64_t offset = -1;
        int64_t time = -1;
        for (int64_t o = 0; o < m->end && first < 0; o++) {
            first = there[o] && m->e[o].time >= t ? o : -1;
        }
        assert_int_equal(log_kit_find_time(&m->k, 0, t, &offset, &time), OK);
        assert_int_equal(offset, first);
    }
    int64_t latest = -1;
    int64_t offset = -1;
    int64_t time = -1;
    for (int64_t o = 0; o < m->end; o++) {
        latest = there[o] && m->e[o].time > latest ? m->e[o].time : latest;
    }
    assert_int_equal(log_kit_max_time(&m->k, 0, &offset, &time), OK);
    assert_int_equal(time, latest);
}

static void a_cleaned_log_has_the_last_record_of_each_key_where_it_was(void **state)
{
    (void)state;
    int64_t cleaned = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct model m;
        bool *there = mem_need_zero(RECORDS_MAX, 1);
        model_init(&m, seed);
        m.k.compact_memory_bytes = seed % 3 ? 1 << 20 : 24 * (int64_t)(seed % 7); /* passes */
        m.k.config.delete_retention_ms = seed % 2 ? 0 : 20000;
        m.k.config.min_cleanable_ratio = seed % 5 ? 0.3 : 0;
        assert_int_equal(log_kit_start(&m.k, 1, false), OK);
        for (int i = 0; i < 250; i++) {
            assert_true(append(&m));
            if (rng_below(&m.rng, 12) == 0) {
                pass_time(&m, 1000);
                look(&m, there);
                look_up_times(&m, there);
            }
            if (rng_below(&m.rng, 40) == 0) {
                bool clean = rng_below(&m.rng, 2);
                clean ? log_kit_stop(&m.k)
                      : log_kit_crash(&m.k, (enum sim_cut)rng_below(&m.rng, 3));
                assert_int_equal(log_kit_start(&m.k, 1, clean), OK);
                look(&m, there);
            }
        }
        struct log *log = log_kit_log(&m.k, 0);
        cleaned += log->clean_end;
        assert_true(log->segment_count < 12);
        model_finish(&m);
        mem_free(there);
    }
    assert_true(cleaned > 10000);
}

/* What the log says after a crash about the batch that was never answered. */
static void model_after_crash(struct model *m, const struct step *s)
{
    int64_t end = log_high_watermark(log_kit_log(&m->k, 0));
    assert_true(end == m->end || end == m->end + s->count);
    if (end > m->end) {
        step_take(m, s);
    }
}

enum { SWEEP_STEPS = 26 };

/* Appends until it is down; `unsure`: what had no answer. */
static void run_steps(struct model *m, int steps, struct step *unsure)
{
    unsure->count = 0;
    for (int i = 0; i < steps && !sim_store_is_down(m->k.sim); i++) {
        struct step s;
        step_make(m, &s);
        struct log *log = log_kit_log(&m->k, 0);
        if (log_end_offset(log) != m->end || log_kit_append(&m->k, 0, &s.a)) {
            log_kit_append_finish(&s.a);
            pass_time(m, 1000);
            continue;
        }
        pass_time(m, i % 3 ? 100 : 1000);
        bool sure = s.a.durable == 1 && s.a.durable_result == OK;
        if (sure) {
            step_take(m, &s);
        } else if (!s.a.durable || sim_store_is_down(m->k.sim)) {
            *unsure = s;
        }
        if (sim_store_is_down(m->k.sim)) {
            log_kit_crash(&m->k, SIM_KILL); /* before the batch's memory goes */
            log_kit_append_finish(&s.a);
            return;
        }
        log_kit_append_finish(&s.a);
    }
}

static void start_again(struct model *m)
{
    assert_int_equal(log_kit_start(&m->k, 1, false), OK);
}

/* A cut at the operation, and another one at `again` of the start behind it. False: there are not
 * so many operations. */
static bool cut_at(uint64_t at, enum sim_cut how, uint64_t again, uint64_t seed)
{
    struct model m;
    struct step unsure = {0};
    model_init(&m, seed);
    assert_int_equal(log_kit_start(&m.k, 1, false), OK);
    for (int i = 0; i < 12; i++) {
        assert_true(append(&m));
    }
    sim_store_count_from_zero(m.k.sim);
    sim_store_cut_at(m.k.sim, at, how);
    run_steps(&m, SWEEP_STEPS, &unsure);
    bool happened = !m.k.m;
    if (m.k.m) {
        log_kit_crash(&m.k, how);
    }
    sim_store_count_from_zero(m.k.sim);
    sim_store_cut_at(m.k.sim, again, how);
    if (log_kit_start(&m.k, 1, false)) {
        assert_true(sim_store_is_down(m.k.sim));
        sim_store_restart(m.k.sim, how);
        sim_store_count_from_zero(m.k.sim);
        start_again(&m);
    } else {
        sim_store_count_from_zero(m.k.sim);
    }
    model_after_crash(&m, &unsure);
    look(&m, NULL);
    run_steps(&m, 12, &unsure); /* and it goes on */
    look(&m, NULL);
    log_kit_crash(&m.k, SIM_CUT_LOSE);
    start_again(&m);
    look(&m, NULL);
    model_finish(&m);
    return happened;
}

static void a_crash_at_any_operation_of_a_cleaning_loses_nothing_and_brings_nothing_back(
    void **state)
{
    (void)state;
    uint64_t cuts = 0;
    for (int i = 0; i < 6; i++) { /* what a torn cut takes is chance: several times */
        enum sim_cut how = i < 2 ? (enum sim_cut)i : SIM_CUT_TEAR;
        uint64_t at = 0;
        while (cut_at(at, how, (at * 7 + (uint64_t)i) % 40, 1 + at % 5 + (uint64_t)i * 10)) {
            at++;
        }
        cuts += at;
    }
    print_message("%llu cuts\n", (unsigned long long)cuts);
    assert_true(cuts > 500);
}

static bool fail_at(uint64_t at, err e)
{
    struct model m;
    struct step unsure = {0};
    model_init(&m, 1);
    assert_int_equal(log_kit_start(&m.k, 1, false), OK);
    for (int i = 0; i < 12; i++) {
        assert_true(append(&m));
    }
    sim_store_count_from_zero(m.k.sim);
    sim_store_fail_at(m.k.sim, at, e);
    run_steps(&m, SWEEP_STEPS, &unsure);
    bool happened = !m.k.m || sim_store_fault_op(m.k.sim) != SIM_OP_COUNT;
    sim_store_count_from_zero(m.k.sim);
    if (m.k.m) {
        pass_time(&m, 1000);
        look(&m, NULL);
        int64_t before = log_kit_log(&m.k, 0)->clean_end;
        for (int i = 0; i < 15; i++) {
            assert_true(append(&m));
            pass_time(&m, 1000);
        }
        look(&m, NULL);
        assert_true(log_kit_log(&m.k, 0)->clean_end > before); /* it cleans again */
        log_kit_crash(&m.k, SIM_CUT_LOSE);
        start_again(&m);
    } else {
        start_again(&m);
        model_after_crash(&m, &unsure);
    }
    look(&m, NULL);
    model_finish(&m);
    return happened;
}

static void an_operation_that_fails_in_a_cleaning_costs_that_cleaning_at_most(void **state)
{
    (void)state;
    static const err errors[] = {ERR_IO, ERR_NO_SPACE, ERR_NO_FILES};
    uint64_t faults = 0;
    for (int i = 0; i < 3; i++) {
        uint64_t at = 0;
        while (fail_at(at, errors[i])) {
            at++;
        }
        faults += at;
    }
    print_message("%llu faults\n", (unsigned long long)faults);
    assert_true(faults > 500);
}

/* ---- with others at the same time */

/* Dirty enough, and the checkpoint that begins the cleaning is due: nothing of it has run. */
static void make_dirty(struct model *m)
{
    m->k.config.min_cleanable_ratio = 0.1;
    assert_int_equal(log_kit_start(&m->k, 1, false), OK);
    for (int i = 0; i < 60 || !timer_armed(&m->k.m->checkpoint); i++) {
        assert_true(append(m));
    }
    sim_clock_advance_ms(&m->k.clock, 1000);
    timers_run(&m->k.timers, clock_mono_ms(&m->k.clock.clock));
}

static bool worker_step(struct model *m)
{
    struct sim_worker *const all[] = {&m->k.writer, &m->k.syncer, &m->k.reader};
    return sim_workers_step(all, 3, &m->k.rng);
}

struct question {
    struct log_query q;
    int64_t time; /* -1: a warming */
    bool done;
};

static void answered(struct log_query *q)
{
    ((struct question *)(void *)q)->done = true;
}

/* What was given out before is whole; the number of extents. */
static uint64_t expect_whole(struct model *m, struct log_read *held, int64_t from)
{
    struct store *store = sim_store_store(m->k.sim);
    for (int i = 0; i < held->count; i++) {
        struct extent *x = &held->extents[i];
        uint8_t *p = mem_need(x->size);
        size_t got = 0;
        struct batch_header h;
        assert_int_equal(store->ops->read(store->ctx, x->file, p, x->size, x->position, &got), OK);
        assert_int_equal(batch_header_read(p, got, &h), OK);
        assert_true(h.base_offset + h.last_offset_delta >= from && h.size <= got);
        assert_true(batch_crc_is_right(p, h.size));
        extent_release(x);
        mem_free(p);
    }
    return (uint64_t)held->count;
}

static void readers_are_not_disturbed_by_a_cleaning(void **state)
{
    (void)state;
    enum { QUESTIONS = 400 };
    uint64_t held_over = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct model m;
        model_init(&m, seed);
        make_dirty(&m);
        struct log *log = log_kit_log(&m.k, 0);
        struct question *all = mem_need_zero(QUESTIONS, sizeof *all);
        bool *there = mem_need_zero(RECORDS_MAX, 1);
        int count = 0;
        struct log_read held = {.count = 0};
        int64_t held_from = 0;
        for (int32_t i = 0; i < log->segment_count; i++) { /* so that they are opened by name */
            segment_close_files(log->segments[i]);
        }
        do {
            if (count < QUESTIONS) {
                struct question *one = &all[count++];
                bool warm = rng_below(&m.rng, 2);
                one->time = warm ? -1 : T0 + (int64_t)rng_below(&m.rng, 100000);
                one->q = (struct log_query){.offset = (int64_t)rng_below(&m.rng, (uint64_t)m.end),
                                            .timestamp_ms = one->time,
                                            .max_bytes = 2000,
                                            .done = answered};
                warm ? log_warm(log, &one->q) : log_find_time(log, &one->q);
            }
            if (!held.count) {
                held_from = (int64_t)rng_below(&m.rng, (uint64_t)m.end / 2);
                err e = log_read(log, held_from, 3000, true, &held);
                assert_true(e == OK || e == ERR_AGAIN);
                held.count = e ? 0 : held.count;
            }
        } while (worker_step(&m));
        assert_true(log->clean_end > 0);
        log_kit_drain(&m.k);
        look(&m, there);
        for (int i = 0; i < count; i++) {
            int64_t t = all[i].time;
            int64_t got = all[i].q.offset;
            int64_t first = -1;
            int64_t kept = -1;
            for (int64_t o = 0; o < m.end && kept < 0; o++) {
                first = first < 0 && m.e[o].time >= t ? o : first;
                kept = there[o] && m.e[o].time >= t ? o : -1;
            }
            assert_true(all[i].done);
            assert_int_equal(all[i].q.result, OK);
            /* It saw the log as it was before, between two swaps, or behind the cleaning. */
            assert_true(t < 0 || (got < 0 ? kept < 0
                                          : got >= first && (kept < 0 || got <= kept) &&
                                                m.e[got].time >= t));
        }
        held_over += expect_whole(&m, &held, held_from);
        mem_free(all);
        mem_free(there);
        model_finish(&m);
    }
    assert_true(held_over > 30);
}

static void count_names(void *arg, const struct store_entry *entry)
{
    const char *const ends[] = {".cleaned", ".swap"};
    for (int i = 0; i < 2; i++) {
        size_t n = strlen(ends[i]);
        *(int *)arg +=
            entry->name.len > n && memcmp(entry->name.ptr + entry->name.len - n, ends[i], n) == 0;
    }
}

static void log_done(void *ctx, err e)
{
    *(err *)ctx = e;
}

static void a_cleaning_touches_nothing_of_a_new_topic_with_the_old_name(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 80; seed++) {
        struct model m;
        struct log_kit_append a;
        int left = 0;
        err gone = ERR_COUNT;
        err made = ERR_COUNT;
        struct store *store;
        model_init(&m, seed);
        store = sim_store_store(m.k.sim);
        make_dirty(&m);
        for (uint64_t n = rng_below(&m.rng, 30); n > 0 && worker_step(&m); n--) {
        }
        log_manager_destroy_log(m.k.m, m.k.ids[0], 0, log_done, &gone);
        while (gone == ERR_COUNT && worker_step(&m)) {
        }
        assert_int_equal(gone, OK);
        m.k.ids[0].b[5] = 9;
        log_manager_create_log(m.k.m, STR("t0"), m.k.ids[0], 0, &m.k.config, log_done, &made);
        pass_time(&m, 1000);
        assert_int_equal(made, OK);
        log_kit_batch(&a, 3, 50, 7, T0, -1, -1, -1);
        assert_int_equal(log_kit_append(&m.k, 0, &a), OK);
        pass_time(&m, 1000);
        assert_int_equal(a.durable_result, OK);
        log_kit_append_finish(&a);
        assert_int_equal(store->ops->list(store->ctx, "t0-0", count_names, &left), OK);
        assert_int_equal(left, 0);
        log_kit_crash(&m.k, SIM_CUT_LOSE);
        assert_int_equal(log_kit_start(&m.k, 1, false), OK);
        assert_int_equal(log_high_watermark(log_kit_log(&m.k, 0)), 3);
        model_finish(&m);
    }
}

static void retention_and_cleaning_of_one_log_get_along(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct model m;
        model_init(&m, seed);
        m.k.config.delete_old = true;
        m.k.config.retention_bytes = 5000;
        assert_int_equal(log_kit_start(&m.k, 1, false), OK);
        for (int i = 0; i < 200; i++) {
            assert_true(append(&m));
            if (i % 10 == 0) { /* the two look at the same time */
                sim_clock_advance_ms(&m.k.clock, 1000);
                timers_run(&m.k.timers, clock_mono_ms(&m.k.clock.clock));
                for (uint64_t n = rng_below(&m.rng, 30); n > 0 && worker_step(&m); n--) {
                }
            }
        }
        pass_time(&m, 1000);
        struct log *log = log_kit_log(&m.k, 0);
        int64_t start = log_start_offset(log);
        struct buf out = {0};
        assert_int_equal(log_kit_read(&m.k, 0, start, 100, &out), OK);
        buf_finish(&out);
        log_kit_crash(&m.k, SIM_KILL);
        assert_int_equal(log_kit_start(&m.k, 1, false), OK);
        assert_true(log_start_offset(log_kit_log(&m.k, 0)) <= start);
        assert_int_equal(log_high_watermark(log_kit_log(&m.k, 0)), m.end);
        model_finish(&m);
    }
}

/* ---- tombstones and control batches */

static void put(struct model *m, const char *key, const char *value, int16_t attributes)
{
    struct batch_builder b;
    struct log_kit_append a = {.written = 0};
    struct batch_seal seal = batch_seal_plain;
    seal.attributes = attributes;
    batch_builder_init(&b);
    check(!batch_builder_add(&b, T0, (struct bytes){(const uint8_t *)key, strlen(key)},
                             (struct bytes){(const uint8_t *)value, value ? strlen(value) : 0},
                             NULL, 0));
    check(!batch_builder_seal(&b, &seal, &a.bytes));
    batch_builder_finish(&b);
    a.a.batch = (uint8_t *)a.bytes.ptr;
    a.a.size = a.bytes.len;
    a.a.info = (struct batch_info){.count = 1,
                                   .attributes = attributes,
                                   .min_timestamp = T0,
                                   .max_timestamp = T0,
                                   .producer_id = -1,
                                   .producer_epoch = -1,
                                   .base_sequence = -1};
    assert_int_equal(log_kit_append(&m->k, 0, &a), OK);
    log_kit_drain(&m->k);
    assert_int_equal(a.durable_result, OK);
    log_kit_append_finish(&a);
}

/* Header of the batch at exactly this offset, if it has a record. */
static bool is_there(struct model *m, int64_t offset, struct batch_header *ret_header)
{
    struct buf out = {0};
    struct batch_header h;
    assert_int_equal(log_kit_read(&m->k, 0, offset, 1, &out), OK);
    assert_int_equal(batch_header_read(out.ptr, out.len, &h), OK);
    buf_finish(&out);
    *ret_header = h;
    return h.base_offset == offset && h.count > 0;
}

static void fill_and_clean(struct model *m)
{
    int64_t before = log_kit_log(&m->k, 0)->clean_end;
    for (int i = 0; i < 200 && log_kit_log(&m->k, 0)->clean_end == before; i++) {
        put(m, "filling", "some value", 0);
        if (i % 10 == 9) {
            pass_time(m, 1000);
        }
    }
    assert_true(log_kit_log(&m->k, 0)->clean_end > before);
}

static void a_tombstone_stays_as_long_as_its_topic_says(void **state)
{
    (void)state;
    for (int64_t retention_ms = 0; retention_ms <= 3600000; retention_ms += 3600000) {
        struct model m;
        struct batch_header h;
        model_init(&m, 1);
        m.k.config.delete_retention_ms = retention_ms;
        m.k.config.min_cleanable_ratio = 0;
        assert_int_equal(log_kit_start(&m.k, 1, false), OK);
        put(&m, "a", "1", 0);
        put(&m, "b", "1", 0);
        put(&m, "a", NULL, 0);
        fill_and_clean(&m);
        int64_t now = m.k.clock.wall_ms;
        assert_false(is_there(&m, 0, &h)); /* its value goes at once */
        assert_true(is_there(&m, 1, &h));
        assert_true(is_there(&m, 2, &h) == (retention_ms > 0));
        if (retention_ms > 0) {
            assert_true(h.attributes & BATCH_ATTRIBUTE_HORIZON);
            assert_true(h.base_timestamp <= now + retention_ms);
            assert_true(h.base_timestamp > now + retention_ms - 60000);
            assert_int_equal(h.max_timestamp, T0);
            fill_and_clean(&m);
            assert_true(is_there(&m, 2, &h));
            sim_clock_advance_ms(&m.k.clock, retention_ms);
            fill_and_clean(&m);
            assert_false(is_there(&m, 2, &h));
        }
        assert_true(is_there(&m, 1, &h));
        model_finish(&m);
    }
}

static void a_control_batch_stays(void **state)
{
    (void)state;
    struct model m;
    struct batch_header h;
    model_init(&m, 1);
    assert_int_equal(log_kit_start(&m.k, 1, false), OK);
    put(&m, "a", "1", 0);
    put(&m, "a", "2", BATCH_ATTRIBUTE_CONTROL);
    put(&m, "a", "3", 0);
    put(&m, "a", "4", BATCH_ATTRIBUTE_CONTROL);
    fill_and_clean(&m);
    assert_false(is_there(&m, 0, &h));
    assert_true(is_there(&m, 1, &h));
    assert_true(is_there(&m, 2, &h)); /* a marker's key is no key */
    assert_true(is_there(&m, 3, &h));
    model_finish(&m);
}

/* ---- the parts */

static bool keeps_none(void *ctx, const struct record *r)
{
    (void)ctx;
    (void)r;
    return false;
}

static void siphash_gives_what_its_authors_publish(void **state)
{
    (void)state;
    static const uint8_t key[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    static const uint8_t expected[3][16] = {
        {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02,
         0x93},
        {0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc,
         0x45},
        {0x81, 0x77, 0x22, 0x8d, 0xa4, 0xa4, 0x5d, 0xc7, 0xfc, 0xa3, 0x8b, 0xde, 0xf6, 0x0a, 0xff,
         0xe4},
    };
    for (size_t size = 0; size < 3; size++) {
        struct hash128 h = siphash128(key, size, key);
        assert_memory_equal(&h, expected[size], sizeof h);
    }
}

static void a_map_of_keys_takes_what_fits_into_its_memory(void **state)
{
    (void)state;
    static const uint8_t secret[16] = {1};
    static const int64_t sizes[] = {1, 24, 100, 2400, 100000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct offset_map map;
        int64_t taken = 0;
        offset_map_init(&map, 1 << 20, sizes[i], secret);
        for (int64_t key = 0; offset_map_put(&map, (struct bytes){(uint8_t *)&key, 8}, key);
             key++) {
            taken++;
        }
        assert_true(taken >= 1 && taken * 24 <= (sizes[i] > 24 ? sizes[i] : 24));
        for (int64_t key = 0; key <= taken; key++) {
            struct bytes k = {(uint8_t *)&key, 8};
            assert_int_equal(offset_map_get(&map, k), key < taken ? key : -1);
            assert_true(offset_map_put(&map, k, key + 100) == (key < taken)); /* known ones */
        }
        offset_map_finish(&map);
    }
}

static void a_batch_without_its_records_keeps_its_offsets_and_its_sequence(void **state)
{
    (void)state;
    for (int codec = 0; codec < CODEC_COUNT; codec++) {
        struct log_kit_append a;
        struct batch_scratch scratch = {0};
        struct buf packed = {0};
        struct buf out = {0};
        struct batch_header h;
        log_kit_batch(&a, 4, 50, 3, T0, 8, 2, 77);
        batch_set_offset(a.bytes.ptr, 1000, 5);
        assert_int_equal(batch_recompress(a.bytes.ptr, a.bytes.len, (enum codec)codec, 1 << 20,
                                          &scratch, &packed),
                         OK);
        struct batch_filter f = {.keep = keeps_none, .horizon_ms = -1};
        assert_int_equal(batch_filter(packed.ptr, packed.len, &f, 1 << 20, &scratch, &out), OK);
        assert_int_equal(out.len, 0);
        f.keep_empty = true;
        assert_int_equal(batch_filter(packed.ptr, packed.len, &f, 1 << 20, &scratch, &out), OK);
        assert_int_equal(batch_header_read(out.ptr, out.len, &h), OK);
        assert_true(h.size == BATCH_HEADER_SIZE && out.len == h.size);
        assert_true(batch_crc_is_right(out.ptr, h.size));
        assert_true(h.base_offset == 1000 && h.last_offset_delta == 3 && h.count == 0);
        assert_true(h.leader_epoch == 5 && h.producer_id == 8 && h.producer_epoch == 2);
        assert_true(h.base_sequence == 77 && h.max_timestamp == -1 && h.attributes == 0);
        batch_scratch_finish(&scratch);
        buf_finish(&packed);
        buf_finish(&out);
        log_kit_append_finish(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(siphash_gives_what_its_authors_publish),
        cmocka_unit_test(a_map_of_keys_takes_what_fits_into_its_memory),
        cmocka_unit_test(a_batch_without_its_records_keeps_its_offsets_and_its_sequence),
        cmocka_unit_test(a_tombstone_stays_as_long_as_its_topic_says),
        cmocka_unit_test(a_control_batch_stays),
        cmocka_unit_test(readers_are_not_disturbed_by_a_cleaning),
        cmocka_unit_test(a_cleaning_touches_nothing_of_a_new_topic_with_the_old_name),
        cmocka_unit_test(retention_and_cleaning_of_one_log_get_along),
        cmocka_unit_test(a_cleaned_log_has_the_last_record_of_each_key_where_it_was),
        cmocka_unit_test(an_operation_that_fails_in_a_cleaning_costs_that_cleaning_at_most),
        cmocka_unit_test(
            a_crash_at_any_operation_of_a_cleaning_loses_nothing_and_brings_nothing_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "tests/kit/log_kit.h"

#include "broker/log/internal.h"

#include "base/bytes.h"
#include "base/check.h"

#include <stdio.h>
#include <string.h>

static void write_line(void *ctx, const char *line, size_t size)
{
    struct log_kit *k = ctx;
    if (k->keeps_lines) {
        buf_add(&k->lines, line, size);
    }
    if (k->printed) {
        fwrite(line, 1, size, stderr);
    }
}

void log_kit_init(struct log_kit *k, uint64_t seed)
{
    memset(k, 0, sizeof *k);
    k->sim = sim_store_create(seed);
    sim_clock_init(&k->clock, 1700000000000);
    rng_init(&k->rng, seed);
    timers_init(&k->timers);
    sim_worker_init(&k->writer);
    sim_worker_init(&k->syncer);
    sim_worker_init(&k->reader);
    k->diag =
        (struct diag){.level = DIAG_DEBUG, .clock = &k->clock.clock, .write = write_line, .ctx = k};
    k->journal_file_bytes = 32768;
    k->journal_files = 3;
    k->config = (struct log_config){
        .segment_bytes = 1 << 20,
        .segment_ms = 7LL * 24 * 3600 * 1000,
        .retention_bytes = -1,
        .retention_ms = -1,
        .file_delete_delay_ms = 1000,
        .index_interval_bytes = 4096,
        .index_max_bytes = 10485760,
        .flush_messages = INT64_MAX,
        .flush_ms = INT64_MAX,
        .delete_old = true,
    };
    k->compact_memory_bytes = 1 << 20;
    for (int i = 0; i < LOG_KIT_LOGS; i++) {
        k->ids[i].b[0] = 1;
        k->ids[i].b[15] = (uint8_t)(i + 1);
    }
}

void log_kit_sabotage(struct log_kit *k)
{
    for (int i = 0; k->has_no_salt && k->m && i < JOURNAL_FILES_MAX; i++) {
        memset(k->m->journal.files[i].salt, 0, JOURNAL_SALT);
    }
}

void log_kit_work(struct log_kit *k)
{
    struct sim_worker *const all[] = {&k->writer, &k->syncer, &k->reader};
    do {
        log_kit_sabotage(k);
    } while (sim_workers_step(all, 3, &k->rng));
}

void log_kit_finish(struct log_kit *k)
{
    if (k->m) {
        log_kit_stop(k);
    }
    timers_finish(&k->timers);
    buf_finish(&k->lines);
    sim_store_destroy(k->sim);
}

static void clear_journal(struct journal *j)
{
    if (journal_open(j, false)) {
        return;
    }
    for (int i = 0; i < JOURNAL_FILES_MAX; i++) {
        if (j->files[i].state == JOURNAL_FULL) {
            (void)journal_clear_file(j, &j->files[i]); /* or the store is down */
        }
    }
}

struct log_manager_options log_kit_options(struct log_kit *k)
{
    return (struct log_manager_options){
        .store = sim_store_store(k->sim),
        .clock = &k->clock.clock,
        .diag = &k->diag,
        .timers = &k->timers,
        .writer = &k->writer.worker,
        .syncer = &k->syncer.worker,
        .reader = &k->reader.worker,
        .leader_epoch = k->epoch,
        .journal_file_bytes = k->journal_file_bytes,
        .journal_files = k->journal_files,
        .max_open_files = 6,
        .producer_id_expiration_ms = 86400000,
        .retention_check_interval_ms = 1000,
        .checkpoint_interval_ms = 1000,
        .scrub_bytes_per_s = k->scrub_bytes_per_s,
        .scrub_interval_ms = k->scrub_interval_ms,
        .compact_memory_bytes = k->compact_memory_bytes,
    };
}

void log_kit_create(struct log_kit *k, bool clean)
{
    k->epoch++;
    const struct log_manager_options o = log_kit_options(k);
    k->m = log_manager_create(&o);
    if (k->clears_journal && !clean) {
        clear_journal(&k->m->journal);
    }
}

err log_kit_start(struct log_kit *k, int logs, bool clean)
{
    log_kit_create(k, clean);
    for (int i = 0; i < logs; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", i);
        log_manager_expect_log(k->m, str_of(name), k->ids[i], 0, &k->config);
    }
    err e = log_manager_open_expected(k->m, clean);
    e = e ? e : log_manager_remove_strays(&k->m, 1);
    e = e ? e : log_manager_opened(k->m);
    if (e) {
        log_manager_destroy(k->m);
        k->m = NULL;
    } else {
        log_manager_start_scrub(k->m);
    }
    return e;
}

bool log_kit_sync_again(struct log_kit *k)
{
    if (!timer_armed(&k->m->sync_again)) {
        return false;
    }
    sim_clock_advance_ms(&k->clock, 100);
    timers_run(&k->timers, clock_mono_ms(&k->clock.clock));
    return true;
}

void log_kit_drain(struct log_kit *k)
{
    log_manager_submit(k->m);
    log_kit_work(k);
}

static void stopped(void *ctx)
{
    *(bool *)ctx = true;
}

void log_kit_stop(struct log_kit *k)
{
    bool done = false;
    log_manager_stop(k->m, stopped, &done);
    log_kit_work(k);
    for (int i = 0; i < 10 && log_kit_sync_again(k); i++) {
        log_kit_work(k);
    }
    check(done);
    k->stopped_clean = log_manager_stopped_clean(k->m);
    log_manager_destroy(k->m);
    k->m = NULL;
}

void log_kit_crash(struct log_kit *k, enum sim_cut how)
{
    /* What is under way ends on a store that is down, so that memory is given back. */
    if (!sim_store_is_down(k->sim)) {
        sim_store_count_from_zero(k->sim);
        sim_store_cut_at(k->sim, 0, how);
        (void)sim_store_store(k->sim)->ops->sync_dir(sim_store_store(k->sim)->ctx, "");
    }
    if (k->m) {
        log_kit_work(k);
        log_kit_stop(k);
    }
    sim_store_restart(k->sim, how);
    sim_store_count_from_zero(k->sim);
}

struct log *log_kit_log(struct log_kit *k, int log)
{
    return log_manager_find(k->m, k->ids[log], 0);
}

void log_kit_batch(struct log_kit_append *a, int32_t count, size_t value_size, uint64_t tag,
                   int64_t timestamp, int64_t producer_id, int16_t producer_epoch, int32_t sequence)
{
    static const char filler[4096];
    struct batch_builder b;
    struct batch_seal seal = batch_seal_plain;
    enum batch_flaw flaw;
    struct batch_scratch scratch = {0};
    memset(a, 0, sizeof *a);
    check(value_size >= 8 && value_size <= sizeof filler);
    batch_builder_init(&b);
    for (int32_t i = 0; i < count; i++) {
        uint8_t value[sizeof filler];
        memset(value, (int)(tag & 0x7f), value_size);
        put_be64(value, tag + (uint64_t)i);
        check(!batch_builder_add(&b, timestamp + i, (struct bytes){0},
                                 (struct bytes){value, value_size}, NULL, 0));
    }
    if (producer_id >= 0) {
        seal.producer_id = producer_id;
        seal.producer_epoch = producer_epoch;
        seal.base_sequence = sequence;
    }
    check(!batch_builder_seal(&b, &seal, &a->bytes));
    batch_builder_finish(&b);
    a->a.batch = (uint8_t *)a->bytes.ptr;
    a->a.size = a->bytes.len;
    check(!batch_validate(a->bytes.ptr, a->bytes.len, 1 << 24, &scratch, &a->a.info, &flaw));
    batch_scratch_finish(&scratch);
}

void log_kit_append_finish(struct log_kit_append *a)
{
    buf_finish(&a->bytes);
}

static void on_written(struct log_append *a, err e)
{
    struct log_kit_append *mine = (struct log_kit_append *)(void *)a;
    mine->written++;
    mine->written_result = e;
}

static void on_durable(struct log_append *a, err e)
{
    struct log_kit_append *mine = (struct log_kit_append *)(void *)a;
    mine->durable++;
    mine->durable_result = e;
}

err log_kit_append_to(struct log *log, struct log_kit_append *a)
{
    a->a.written = on_written;
    a->a.durable = on_durable;
    return log_append(log, &a->a);
}

err log_kit_append(struct log_kit *k, int log, struct log_kit_append *a)
{
    return log_kit_append_to(log_kit_log(k, log), a);
}

err log_kit_append_durable(struct log_kit *k, int log, struct log_kit_append *a)
{
    a->a.written = NULL;
    a->a.durable = on_durable;
    return log_append(log_kit_log(k, log), &a->a);
}

static void query_done(struct log_query *q)
{
    q->log = NULL;
}

err log_kit_read(struct log_kit *k, int log, int64_t offset, size_t max_bytes, struct buf *out)
{
    return log_kit_read_log(k, log_kit_log(k, log), offset, max_bytes, out);
}

err log_kit_read_log(struct log_kit *k, struct log *log, int64_t offset, size_t max_bytes,
                     struct buf *out)
{
    struct store *store = sim_store_store(k->sim);
    for (int tries = 0; tries < 3; tries++) {
        struct log_read r;
        err e = log_read(log, offset, max_bytes, true, &r);
        if (e == ERR_AGAIN) {
            struct log_query q = {.offset = offset, .max_bytes = max_bytes, .done = query_done};
            log_warm(log, &q);
            log_kit_work(k);
            if (q.result) {
                return q.result;
            }
            continue;
        }
        for (int i = 0; !e && i < r.count; i++) {
            struct extent *x = &r.extents[i];
            size_t got = 0;
            check(buf_reserve(out, x->size));
            e = store->ops->read(store->ctx, x->file, out->ptr + out->len, x->size, x->position,
                                 &got);
            out->len += e ? 0 : got;
            e = e ? e : got < x->size ? ERR_TRUNCATED : OK;
            extent_release(x);
        }
        return e;
    }
    return ERR_AGAIN;
}

static err look_up(struct log_kit *k, struct log_query *q, int64_t *ret_offset,
                   int64_t *ret_timestamp)
{
    log_kit_work(k);
    if (!q->result) {
        *ret_offset = q->offset;
        *ret_timestamp = q->timestamp_ms;
    }
    return q->result;
}

err log_kit_find_time(struct log_kit *k, int log, int64_t timestamp, int64_t *ret_offset,
                      int64_t *ret_timestamp)
{
    struct log_query q = {.timestamp_ms = timestamp, .done = query_done};
    log_find_time(log_kit_log(k, log), &q);
    return look_up(k, &q, ret_offset, ret_timestamp);
}

err log_kit_max_time(struct log_kit *k, int log, int64_t *ret_offset, int64_t *ret_timestamp)
{
    struct log_query q = {.done = query_done};
    log_max_time(log_kit_log(k, log), &q);
    return look_up(k, &q, ret_offset, ret_timestamp);
}

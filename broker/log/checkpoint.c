/* The checkpoint: what saves a start the scan of a log.
 *
 * It takes the logs that have grown since their last one, one after the other: indexes synced,
 * producers in a snapshot, epochs in their file; then the recovery points of all are written at
 * once (offset_files.c). (K1) A recovery point is never above what a checkpoint of that log made
 * durable. It runs on the reader, so that commits do not wait for it; the last one, at a stop,
 * takes every log. A file of the journal is free when a checkpoint has synced the segments that it
 * stands for; that one, more frequent, does nothing else. Each log is a work item of its own, so
 * that reads and other loads of the device come in between.
 */
#include "broker/log/compact.h"

#include "base/check.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the checkpoint */

struct checkpoint {
    struct work work;
    struct log_manager *m;
    void (*done)(struct log_manager *m);
    struct log **logs; /* owned, with a reference each: still to be done */
    size_t log_count;
    enum checkpoint_kind kind;
    bool changed; /* some recovery point has moved */
    bool failed;  /* something of it was not written */

    /* the one that is under way */
    struct log *log;
    struct file_use *uses; /* owned: files to sync */
    size_t use_count;
    struct buf snapshot;  /* owned; empty: none is needed */
    struct buf epochs;    /* owned; likewise */
    int64_t offset;       /* up to here everything is durable */
    int64_t old_snapshot; /* to remove: -1 none */
    int64_t bytes;
    int32_t epoch_count;

    struct offset_files_wait wait;
    err result;
};

static void snapshot_path(const char *dir, int64_t offset, char path[LOG_PATH_SIZE])
{
    snprintf(path, LOG_PATH_SIZE, "%s/%020" PRId64 ".snapshot", dir, offset);
}

static void log_run(struct work *work)
{
    struct checkpoint *c = list_entry(work, struct checkpoint, work);
    struct store *store = c->m->o.store;
    const char *dir = c->log->dir;
    char path[LOG_PATH_SIZE];
    err e = OK;
    for (size_t i = 0; !e && i < c->use_count; i++) {
        e = file_use_open(&c->uses[i], store);
        e = e ? e : store->ops->sync(store->ctx, c->uses[i].file);
        e = e == ERR_NOT_FOUND ? OK : e; /* retention took the segment meanwhile */
    }
    if (!e && c->use_count && c->kind != CHECKPOINT_JOURNAL) {
        e = store->ops->sync_dir(store->ctx, dir);
    }
    if (!e && c->snapshot.len) {
        snapshot_path(dir, c->offset, path);
        e = store_replace_file(store, path, c->snapshot.ptr, c->snapshot.len);
    }
    if (!e && c->epochs.len) {
        snprintf(path, sizeof path, "%s/leader-epoch-checkpoint", dir);
        e = store_replace_file(store, path, c->epochs.ptr, c->epochs.len);
    }
    if (!e && c->snapshot.len && c->old_snapshot >= 0 && c->old_snapshot != c->offset) {
        snapshot_path(dir, c->old_snapshot, path);
        e = store->ops->unlink(store->ctx, path);
        e = e == ERR_NOT_FOUND ? OK : e;
    }
    c->result = e;
}

static void next_log(struct checkpoint *c);

static void log_done(struct work *work)
{
    struct checkpoint *c = list_entry(work, struct checkpoint, work);
    struct log *log = c->log;
    struct log_manager *m = c->m;
    if (c->result) {
        if (!log->destroyed) {
            diag_log(m->o.diag, DIAG_WARN, "checkpoint_failed", "dir=%s error=\"%s\"", log->dir,
                     err_text(c->result));
            c->failed = true;
        }
        for (size_t i = 0; i < c->use_count; i++) {
            struct segment *s = c->uses[i].segment;
            bool is_index = c->uses[i].kind != FILE_LOG;
            s->index_dirty = s->index_dirty || is_index;
            s->journalled = s->journalled || !is_index;
            log->journalled = log->journalled || !is_index;
        }
    } else if (c->kind != CHECKPOINT_JOURNAL) {
        log->recovery_point = c->offset;
        log->checkpointed_bytes = c->bytes;
        log->snapshot_offset = c->snapshot.len ? c->offset : log->snapshot_offset;
        log->epochs_dirty = log->epochs_dirty && c->epoch_count != log->epoch_count;
        c->changed = true;
    }
    for (size_t i = 0; i < c->use_count; i++) {
        file_use_end(&c->uses[i]);
    }
    mem_free(c->uses);
    c->uses = NULL;
    c->use_count = 0;
    c->snapshot.len = 0;
    c->epochs.len = 0;
    c->log = NULL;
    log_unref(log);
    next_log(c);
    manager_work_done(m);
}

/* What the journal has is in the page cache, and not synced; nor is what was cut off. */
static void collect_segments(struct checkpoint *c, struct log *log)
{
    for (int32_t i = 0; i < log->segment_count; i++) {
        struct segment *s = log->segments[i];
        if (s->journalled || s->cut) {
            file_use_begin(&c->uses[c->use_count++], s, FILE_LOG, STORE_WRITE);
        }
        s->journalled = false;
        s->cut = false;
    }
    log->journalled = false;
}

static void collect(struct checkpoint *c, struct log *log)
{
    c->offset = log->durable.offset;
    c->bytes = log->appended_bytes;
    c->old_snapshot = log->snapshot_offset;
    c->epoch_count = log->epoch_count;
    c->uses = mem_need_zero((size_t)log->segment_count * FILE_KINDS, sizeof *c->uses);
    collect_segments(c, log); /* K1 */
    if (c->kind == CHECKPOINT_JOURNAL) {
        return;
    }
    for (int32_t i = 0; i < log->segment_count; i++) {
        struct segment *s = log->segments[i];
        if (s->index_dirty && s->index_written) {
            file_use_begin(&c->uses[c->use_count++], s, FILE_INDEX, STORE_WRITE);
        }
        if (s->index_dirty && s->time_written) {
            file_use_begin(&c->uses[c->use_count++], s, FILE_TIMEINDEX, STORE_WRITE);
        }
        s->index_dirty = false;
    }
    producer_state_expire(&log->producers,
                          clock_wall_ms(c->m->o.clock) - c->m->o.producer_id_expiration_ms);
    /* The state in memory may be ahead of what is durable: a snapshot is of the moment when it is
     * not. */
    if (log->next_offset == log->durable.offset) {
        producer_state_encode(&log->producers, &c->snapshot);
    } else {
        struct producer_state upto;
        struct buf all = {0};
        producer_state_init(&upto, 0);
        producer_state_encode(&log->producers, &all);
        check(!producer_state_decode(&upto, all.ptr, all.len));
        producer_state_rollback(&upto, log->durable.offset);
        producer_state_encode(&upto, &c->snapshot);
        producer_state_finish(&upto);
        buf_finish(&all);
    }
    if (log->epochs_dirty) {
        buf_printf(&c->epochs, "0\n%d\n", log->epoch_count);
        for (int32_t i = 0; i < log->epoch_count; i++) {
            buf_printf(&c->epochs, "%d %" PRId64 "\n", log->epochs[i].epoch,
                       log->epochs[i].start_offset);
        }
        check(!c->epochs.failed);
    }
}

/* ---- the end, when all logs are done */

static void finish(struct checkpoint *c)
{
    struct log_manager *m = c->m;
    void (*done)(struct log_manager *) = c->done;
    buf_finish(&c->snapshot);
    buf_finish(&c->epochs);
    m->final_failed = m->final_begun && c->failed;
    m->checkpoint_failed = c->failed;
    mem_free(c->logs);
    mem_free(c);
    m->checkpointing = NULL;
    done(m);
}

static void files_done(struct offset_files_wait *w, err e)
{
    struct checkpoint *c = list_entry(w, struct checkpoint, wait);
    if (e) {
        diag_log(c->m->o.diag, DIAG_WARN, "checkpoint_failed", "error=\"%s\"", err_text(e));
        c->failed = true;
    }
    compact_checkpointed(c->m, e == OK);
    finish(c);
}

static void next_log(struct checkpoint *c)
{
    while (c->log_count) {
        c->log = c->logs[--c->log_count];
        if (!c->log->destroyed) {
            collect(c, c->log);
            c->result = OK;
            c->work.run = log_run;
            c->work.done = log_done;
            manager_work(c->m, c->m->o.reader, &c->work);
            return;
        }
        log_unref(c->log);
        c->log = NULL;
    }
    if (c->changed) {
        c->wait = (struct offset_files_wait){.files = OFFSET_FILES_ALL, .done = files_done};
        offset_files_write(c->m, &c->wait);
    } else {
        finish(c);
    }
}

static bool has_dirty_index(const struct log *log)
{
    for (int32_t i = 0; i < log->segment_count; i++) {
        if (log->segments[i]->index_dirty) {
            return true;
        }
    }
    return false;
}

static bool is_due(const struct log *log, enum checkpoint_kind kind)
{
    if (kind == CHECKPOINT_JOURNAL) {
        return log->journalled;
    }
    if (kind == CHECKPOINT_PERIODIC) {
        return log->appended_bytes - log->checkpointed_bytes >= CHECKPOINT_GROWTH ||
               compact_wants_checkpoint(log);
    }
    return log->recovery_point < log->durable.offset || log->epochs_dirty || has_dirty_index(log) ||
           log->journalled || (log->snapshot_offset < 0 && log->durable.offset > 0);
}

void checkpoint_start(struct log_manager *m, enum checkpoint_kind kind,
                      void (*done)(struct log_manager *m))
{
    struct checkpoint *c = mem_need_zero(1, sizeof *c);
    c->m = m;
    c->kind = kind;
    c->done = done;
    c->logs = mem_need((map_count(&m->logs) + 1) * sizeof(struct log *));
    for (struct map_entry *e = map_first(&m->logs); e; e = map_next(e)) {
        struct log *log = map_value(e);
        if (is_due(log, kind)) {
            log_ref(log);
            c->logs[c->log_count++] = log;
        }
    }
    m->checkpointing = c;
    next_log(c);
}

static void periodic_done(struct log_manager *m)
{
    checkpoint_arm(m);
    journal_tend(m);
    manager_check_stopped(m);
}

void checkpoint_fire(struct timer *timer)
{
    struct log_manager *m = list_entry(timer, struct log_manager, checkpoint);
    if (!m->checkpointing && !m->stopping && !m->dead) {
        m->checkpoint_due = false;
        checkpoint_start(m, CHECKPOINT_PERIODIC, periodic_done);
    }
}

bool checkpoint_is_at(const struct log_manager *m, const char *dir)
{
    return m->checkpointing && m->checkpointing->log &&
           strcmp(m->checkpointing->log->dir, dir) == 0;
}

void checkpoint_arm(struct log_manager *m)
{
    if (m->checkpoint_due && !timer_armed(&m->checkpoint) && !m->checkpointing && !m->stopping) {
        timer_arm(m->o.timers, &m->checkpoint,
                  clock_mono_ms(m->o.clock) + m->o.checkpoint_interval_ms);
    }
}

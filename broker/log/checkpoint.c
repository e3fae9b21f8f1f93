/* The checkpoint: what saves a start the scan of a log.
 *
 * It takes the logs that have grown since their last one, a few at a time: indexes synced,
 * producers in a snapshot, epochs in their file; then the recovery points of all are written at
 * once (offset_files.c). (K1) A recovery point is never above what a checkpoint of that log made
 * durable. It runs on the reader, so that commits do not wait for it; the last one, at a stop,
 * takes every log. A file of the journal is free when a checkpoint has synced the segments that it
 * stands for; that one, more frequent, does nothing else. A few logs are a work item, so that reads
 * and other loads of the device come in between.
 */
#include "broker/log/compact.h"

#include "base/check.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the checkpoint */

enum { CHECKPOINT_LOGS = 16 }; /* of one work item */

/* What there is to do for a log. */
struct checkpoint_log {
    struct log *log;       /* one reference */
    struct file_use *uses; /* owned: files to sync */
    size_t use_count;
    struct buf snapshot;  /* owned; empty: none is needed */
    struct buf epochs;    /* owned; likewise */
    int64_t offset;       /* up to here everything is durable */
    int64_t old_snapshot; /* to remove: -1 none */
    int64_t bytes;
    int32_t epoch_count;
    err result; /* out */
};

struct checkpoint {
    struct work work;
    struct log_manager *m;
    void (*done)(struct log_manager *m);
    struct log **logs; /* owned, with a reference each: still to be done */
    size_t log_count;
    struct checkpoint_log at[CHECKPOINT_LOGS]; /* under way */
    int at_count;
    enum checkpoint_kind kind;
    bool changed; /* some recovery point has moved */
    bool failed;  /* something of it was not written */
    struct offset_files_wait wait;
};

static void snapshot_path(const char *dir, int64_t offset, char path[LOG_PATH_SIZE])
{
    snprintf(path, LOG_PATH_SIZE, "%s/%020" PRId64 ".snapshot", dir, offset);
}

static err start_syncs(struct checkpoint_log *l, struct store *store)
{
    err e = OK;
    for (size_t i = 0; !e && i < l->use_count; i++) {
        e = file_use_open(&l->uses[i], store);
        e = e == ERR_NOT_FOUND ? OK : e; /* retention took the segment meanwhile */
        if (l->uses[i].file) {
            store->ops->start_sync(store->ctx, l->uses[i].file);
        }
    }
    return e;
}

static err write_log(struct checkpoint_log *l, struct store *store, enum checkpoint_kind kind)
{
    const char *dir = l->log->dir;
    char path[LOG_PATH_SIZE];
    err e = OK;
    for (size_t i = 0; !e && i < l->use_count; i++) {
        e = l->uses[i].file ? store->ops->sync(store->ctx, l->uses[i].file) : OK;
    }
    if (!e && l->use_count && kind != CHECKPOINT_JOURNAL) {
        e = store->ops->sync_dir(store->ctx, dir);
    }
    if (!e && l->snapshot.len) {
        snapshot_path(dir, l->offset, path);
        e = store_replace_file(store, path, l->snapshot.ptr, l->snapshot.len);
    }
    if (!e && l->epochs.len) {
        snprintf(path, sizeof path, "%s/leader-epoch-checkpoint", dir);
        e = store_replace_file(store, path, l->epochs.ptr, l->epochs.len);
    }
    if (!e && l->snapshot.len && l->old_snapshot >= 0 && l->old_snapshot != l->offset) {
        snapshot_path(dir, l->old_snapshot, path);
        e = store->ops->unlink(store->ctx, path);
        e = e == ERR_NOT_FOUND ? OK : e;
    }
    return e;
}

/* The file system allocates what is written out together, and makes it durable together: with the
 * first sync, so that the others cost little. */
static void logs_run(struct work *work)
{
    struct checkpoint *c = list_entry(work, struct checkpoint, work);
    struct store *store = c->m->o.store;
    for (int i = 0; i < c->at_count; i++) {
        c->at[i].result = start_syncs(&c->at[i], store);
    }
    for (int i = 0; i < c->at_count; i++) {
        struct checkpoint_log *l = &c->at[i];
        l->result = l->result ? l->result : write_log(l, store, c->kind);
    }
}

static void next_logs(struct checkpoint *c);

static void log_done(struct checkpoint *c, struct checkpoint_log *l)
{
    struct log *log = l->log;
    if (l->result) {
        if (!log->destroyed) {
            diag_log(c->m->o.diag, DIAG_WARN, "checkpoint_failed", "dir=%s error=\"%s\"", log->dir,
                     err_text(l->result));
            c->failed = true;
        }
        for (size_t i = 0; i < l->use_count; i++) {
            struct segment *s = l->uses[i].segment;
            bool is_index = l->uses[i].kind != FILE_LOG;
            s->index_dirty = s->index_dirty || is_index;
            s->journalled = s->journalled || !is_index;
            log->journalled = log->journalled || !is_index;
        }
    } else if (c->kind != CHECKPOINT_JOURNAL) {
        log->recovery_point = l->offset;
        log->checkpointed_bytes = l->bytes;
        log->snapshot_offset = l->snapshot.len ? l->offset : log->snapshot_offset;
        log->epochs_dirty = log->epochs_dirty && l->epoch_count != log->epoch_count;
        c->changed = true;
    }
    for (size_t i = 0; i < l->use_count; i++) {
        file_use_end(&l->uses[i]);
    }
    mem_free(l->uses);
    buf_finish(&l->snapshot);
    buf_finish(&l->epochs);
    log_unref(log);
}

static void logs_done(struct work *work)
{
    struct checkpoint *c = list_entry(work, struct checkpoint, work);
    struct log_manager *m = c->m;
    for (int i = 0; i < c->at_count; i++) {
        log_done(c, &c->at[i]);
    }
    next_logs(c);
    manager_work_done(m);
}

/* What the journal has is in the page cache, and not synced; nor is what was cut off. */
static void collect_segments(struct checkpoint_log *l, struct log *log)
{
    for (int32_t i = 0; i < log->segment_count; i++) {
        struct segment *s = log->segments[i];
        if (s->journalled || s->cut) {
            file_use_begin(&l->uses[l->use_count++], s, FILE_LOG, STORE_WRITE);
        }
        s->journalled = false;
        s->cut = false;
    }
    log->journalled = false;
}

static void collect(struct checkpoint *c, struct log *log)
{
    struct checkpoint_log *l = &c->at[c->at_count++];
    *l = (struct checkpoint_log){.log = log};
    l->offset = log->durable.offset;
    l->bytes = log->appended_bytes;
    l->old_snapshot = log->snapshot_offset;
    l->epoch_count = log->epoch_count;
    l->uses = mem_need_zero((size_t)log->segment_count * FILE_KINDS, sizeof *l->uses);
    collect_segments(l, log); /* K1 */
    if (c->kind == CHECKPOINT_JOURNAL) {
        return;
    }
    for (int32_t i = 0; i < log->segment_count; i++) {
        struct segment *s = log->segments[i];
        if (s->index_dirty && s->index_written) {
            file_use_begin(&l->uses[l->use_count++], s, FILE_INDEX, STORE_WRITE);
        }
        if (s->index_dirty && s->time_written) {
            file_use_begin(&l->uses[l->use_count++], s, FILE_TIMEINDEX, STORE_WRITE);
        }
        s->index_dirty = false;
    }
    producer_state_expire(&log->producers,
                          clock_wall_ms(c->m->o.clock) - c->m->o.producer_id_expiration_ms);
    /* The state in memory may be ahead of what is durable: a snapshot is of the moment when it is
     * not. */
    if (log->next_offset == log->durable.offset) {
        producer_state_encode(&log->producers, &l->snapshot);
    } else {
        struct producer_state upto;
        struct buf all = {0};
        producer_state_init(&upto, 0);
        producer_state_encode(&log->producers, &all);
        check(!producer_state_decode(&upto, all.ptr, all.len));
        producer_state_rollback(&upto, log->durable.offset);
        producer_state_encode(&upto, &l->snapshot);
        producer_state_finish(&upto);
        buf_finish(&all);
    }
    if (log->epochs_dirty) {
        buf_printf(&l->epochs, "0\n%d\n", log->epoch_count);
        for (int32_t i = 0; i < log->epoch_count; i++) {
            buf_printf(&l->epochs, "%d %" PRId64 "\n", log->epochs[i].epoch,
                       log->epochs[i].start_offset);
        }
        check(!l->epochs.failed);
    }
}

/* ---- the end, when all logs are done */

static void finish(struct checkpoint *c)
{
    struct log_manager *m = c->m;
    void (*done)(struct log_manager *) = c->done;
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

static void next_logs(struct checkpoint *c)
{
    c->at_count = 0;
    while (c->log_count && c->at_count < CHECKPOINT_LOGS) {
        struct log *log = c->logs[--c->log_count];
        if (log->destroyed) {
            log_unref(log);
        } else {
            collect(c, log);
        }
    }
    if (c->at_count) {
        c->work.run = logs_run;
        c->work.done = logs_done;
        manager_work(c->m, c->m->o.reader, &c->work);
    } else if (c->changed) {
        c->wait = (struct offset_files_wait){.files = OFFSET_FILES_CHECKPOINT, .done = files_done};
        offset_files_write(c->m, &c->wait);
    } else {
        finish(c);
    }
}

/* An index was written, or something cut off, and that alone: a start after a clean stop would take
 * what comes back for the log's. */
static bool has_unsynced(const struct log *log)
{
    for (int32_t i = 0; i < log->segment_count; i++) {
        if (log->segments[i]->index_dirty || log->segments[i]->cut) {
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
    return log->recovery_point < log->durable.offset || log->epochs_dirty || has_unsynced(log) ||
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
    next_logs(c);
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
        m->grown_bytes = 0;
        checkpoint_start(m, CHECKPOINT_PERIODIC, periodic_done);
    }
}

void log_note_growth(struct log *log, int64_t bytes)
{
    log->appended_bytes += bytes;
    log->m->grown_bytes += bytes;
    if (log->appended_bytes - log->checkpointed_bytes >= CHECKPOINT_GROWTH) {
        log->m->checkpoint_due = true;
    }
}

bool checkpoint_is_at(const struct log_manager *m, const char *dir)
{
    const struct checkpoint *c = m->checkpointing;
    for (int i = 0; c && i < c->at_count; i++) {
        if (strcmp(c->at[i].log->dir, dir) == 0) {
            return true;
        }
    }
    return false;
}

void checkpoint_arm(struct log_manager *m)
{
    if (!m->checkpoint_due || m->checkpointing || m->stopping) {
        return;
    }
    const bool much = m->grown_bytes >= CHECKPOINT_BYTES;
    if (much || !timer_armed(&m->checkpoint)) {
        timer_arm(m->o.timers, &m->checkpoint,
                  clock_mono_ms(m->o.clock) + (much ? 0 : m->o.checkpoint_interval_ms));
    }
}

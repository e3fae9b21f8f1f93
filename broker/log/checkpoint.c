/* Small files beside the segments, in Kafka's text forms, and the checkpoint that writes them.
 *
 *   partition.metadata            version: 0 / topic_id: BASE64URL
 *   leader-epoch-checkpoint       0 / number of entries / EPOCH START_OFFSET, each
 *   *-offset-checkpoint           0 / number of entries / TOPIC PARTITION OFFSET, each; in the data
 * directory
 *
 * A checkpoint takes the logs that have grown since their last one, one after the other: indexes
 * synced, producers in a snapshot, epochs in their file; then the recovery points of all are
 * written at once. (K1) A recovery point is never above what a checkpoint of that log made durable.
 * It runs on the reader, so that commits do not wait for it; the last one, at a stop, takes every
 * log. A file of the journal is free when a checkpoint has synced the segments that it stands for;
 * that one, more frequent, does nothing else. Each log is a work item of its own, so that reads and
 * other loads of the device come in between.
 */
#include "broker/log/internal.h"

#include "base/check.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { SMALL_FILE_MAX = 64 * 1024 * 1024 };

/* ---- reading and writing them */

static bool next_line(struct str *text, struct str *ret_line)
{
    if (text->len == 0) {
        return false;
    }
    const char *end = memchr(text->ptr, '\n', text->len);
    size_t len = end ? (size_t)(end - text->ptr) : text->len;
    *ret_line = (struct str){text->ptr, len};
    size_t used = len + (end ? 1 : 0);
    *text = (struct str){text->ptr + used, text->len - used};
    return true;
}

static bool next_word(struct str *line, struct str *ret_word)
{
    size_t n = 0;
    while (n < line->len && line->ptr[n] != ' ') {
        n++;
    }
    *ret_word = (struct str){line->ptr, n};
    size_t used = n < line->len ? n + 1 : n;
    *line = (struct str){line->ptr + used, line->len - used};
    return n > 0;
}

static bool next_number(struct str *line, int64_t *ret_value)
{
    struct str word;
    return next_word(line, &word) && !str_to_int64(word, ret_value);
}

err metadata_read(struct store *store, const char *dir, struct uuid *ret_id)
{
    char path[LOG_PATH_SIZE];
    struct buf text = {0};
    struct str line;
    snprintf(path, sizeof path, "%s/partition.metadata", dir);
    err e = store_read_file(store, path, 4096, &text);
    struct str rest = {text.ptr, text.len};
    err found = e ? e : ERR_CORRUPT;
    while (!e && next_line(&rest, &line)) {
        struct str key;
        if (next_word(&line, &key) && str_eq(key, STR("topic_id:"))) {
            found = uuid_from_text(line, ret_id) ? ERR_CORRUPT : OK;
        }
    }
    buf_finish(&text);
    return found;
}

err metadata_write(struct store *store, const char *dir, struct uuid id)
{
    char path[LOG_PATH_SIZE];
    char text[UUID_TEXT_SIZE];
    char content[80];
    uuid_to_text(id, text);
    snprintf(path, sizeof path, "%s/partition.metadata", dir);
    int size = snprintf(content, sizeof content, "version: 0\ntopic_id: %s\n", text);
    /* Not synced: a start takes a directory without it for the log's of that name. */
    struct store_file *file = NULL;
    struct iovec v = {content, (size_t)size};
    err e = store->ops->open(store->ctx, path, STORE_CREATE, &file);
    if (!e) {
        e = store->ops->write(store->ctx, file, &v, 1, 0);
        e = e ? e : store->ops->truncate(store->ctx, file, size);
        store->ops->close(store->ctx, file);
    }
    return e;
}

err epochs_read(struct store *store, const char *dir, struct log_epoch **ret_epochs,
                int32_t *ret_count)
{
    char path[LOG_PATH_SIZE];
    struct buf text = {0};
    struct str line;
    int64_t version = -1;
    int64_t count = -1;
    struct log_epoch *epochs = NULL;
    int32_t n = 0;
    snprintf(path, sizeof path, "%s/leader-epoch-checkpoint", dir);
    err e = store_read_file(store, path, SMALL_FILE_MAX, &text);
    struct str rest = {text.ptr, text.len};
    if (!e && (!next_line(&rest, &line) || !next_number(&line, &version) || version != 0 ||
               !next_line(&rest, &line) || !next_number(&line, &count) || count < 0 ||
               (size_t)count > text.len)) {
        e = ERR_CORRUPT;
    }
    if (!e) {
        epochs = mem_need_zero((size_t)count + 1, sizeof *epochs);
    }
    while (!e && n < count) {
        int64_t epoch;
        int64_t start;
        if (!next_line(&rest, &line) || !next_number(&line, &epoch) ||
            !next_number(&line, &start) || epoch < 0 || epoch > INT32_MAX || start < 0 ||
            (n > 0 && epoch <= epochs[n - 1].epoch)) {
            e = ERR_CORRUPT;
        } else {
            epochs[n++] = (struct log_epoch){(int32_t)epoch, start};
        }
    }
    buf_finish(&text);
    if (e) {
        mem_free(epochs);
        return e;
    }
    *ret_epochs = epochs;
    *ret_count = n;
    return OK;
}

err offsets_file_read(struct store *store, const char *path, struct map *offsets)
{
    struct buf text = {0};
    struct str line;
    err e = store_read_file(store, path, SMALL_FILE_MAX, &text);
    struct str rest = {text.ptr, text.len};
    for (int n = 0; !e && next_line(&rest, &line); n++) {
        struct str topic;
        int64_t partition;
        int64_t offset;
        char key[LOG_PATH_SIZE];
        if (n < 2) {
            continue;
        }
        if (!next_word(&line, &topic) || topic.len > 249 || !next_number(&line, &partition) ||
            !next_number(&line, &offset) || offset < 0 || offset == INT64_MAX) {
            e = ERR_CORRUPT;
            break;
        }
        int size = snprintf(key, sizeof key, "%.*s-%" PRId64, STR_ARG(topic), partition);
        check(!map_put(offsets, key, (size_t)size, (void *)(uintptr_t)(offset + 1)));
    }
    buf_finish(&text);
    return e;
}

int64_t checkpoint_value(const struct map *offsets, const char *dir, int64_t otherwise)
{
    uintptr_t v = (uintptr_t)map_get_str(offsets, str_of(dir));
    return v ? (int64_t)v - 1 : otherwise;
}

void manager_read_checkpoints(struct log_manager *m)
{
    static const char *const names[] = {"recovery-point-offset-checkpoint",
                                        "log-start-offset-checkpoint"};
    struct map *const maps[] = {&m->recovery_points, &m->starts};
    if (m->checkpoints_read) {
        return;
    }
    m->checkpoints_read = true;
    for (int i = 0; i < 2; i++) {
        err e = offsets_file_read(m->o.store, names[i], maps[i]);
        if (e && e != ERR_NOT_FOUND) { /* they only save work: without them everything is scanned */
            diag_log(m->o.diag, DIAG_WARN, "checkpoint_unreadable", "file=%s error=\"%s\"",
                     names[i], err_text(e));
        }
    }
}

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

    struct buf files[3]; /* owned: the three offset checkpoints */
    err result;
};

static const char *const offset_files[3] = {"recovery-point-offset-checkpoint",
                                            "log-start-offset-checkpoint",
                                            "replication-offset-checkpoint"};

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

/* What the journal has is in the page cache, and not synced. */
static void collect_segments(struct checkpoint *c, struct log *log)
{
    for (int32_t i = 0; i < log->segment_count; i++) {
        struct segment *s = log->segments[i];
        if (s->journalled) {
            file_use_begin(&c->uses[c->use_count++], s, FILE_LOG, STORE_WRITE);
        }
        s->journalled = false;
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

/* ---- the offset checkpoints, when all logs are done */

static void files_run(struct work *work)
{
    struct checkpoint *c = list_entry(work, struct checkpoint, work);
    for (int i = 0; i < 3 && !c->result; i++) {
        c->result =
            store_replace_file(c->m->o.store, offset_files[i], c->files[i].ptr, c->files[i].len);
    }
}

static void finish(struct checkpoint *c)
{
    struct log_manager *m = c->m;
    void (*done)(struct log_manager *) = c->done;
    for (int i = 0; i < 3; i++) {
        buf_finish(&c->files[i]);
    }
    buf_finish(&c->snapshot);
    buf_finish(&c->epochs);
    m->final_failed = m->final_begun && c->failed;
    m->checkpoint_failed = c->failed;
    mem_free(c->logs);
    mem_free(c);
    m->checkpointing = NULL;
    done(m);
}

static void files_done(struct work *work)
{
    struct checkpoint *c = list_entry(work, struct checkpoint, work);
    struct log_manager *m = c->m;
    if (c->result) {
        diag_log(m->o.diag, DIAG_WARN, "checkpoint_failed", "error=\"%s\"", err_text(c->result));
        c->failed = true;
    }
    finish(c);
    manager_work_done(m);
}

static void encode_files(struct log_manager *m, struct buf files[3])
{
    struct buf lines[3] = {{0}};
    int counts[3] = {0};
    for (struct map_entry *e = map_first(&m->logs); e; e = map_next(e)) {
        const struct log *log = map_value(e);
        const int64_t values[3] = {log->recovery_point, log->start_offset, log->durable.offset};
        const bool wanted[3] = {true, log->start_offset > log->segments[0]->base_offset, true};
        for (int i = 0; i < 3; i++) {
            if (wanted[i]) {
                buf_printf(&lines[i], "%.*s %d %" PRId64 "\n", STR_ARG(log->topic), log->partition,
                           values[i]);
                counts[i]++;
            }
        }
    }
    for (int i = 0; i < 3; i++) {
        buf_printf(&files[i], "0\n%d\n", counts[i]);
        buf_add(&files[i], lines[i].ptr, lines[i].len);
        check(!files[i].failed && !lines[i].failed);
        buf_finish(&lines[i]);
    }
}

err checkpoint_write_recovery_points(struct log_manager *m)
{
    struct buf files[3] = {{0}};
    encode_files(m, files);
    err e = store_replace_file(m->o.store, offset_files[0], files[0].ptr, files[0].len);
    for (int i = 0; i < 3; i++) {
        buf_finish(&files[i]);
    }
    return e;
}

static void write_files(struct checkpoint *c)
{
    struct log_manager *m = c->m;
    encode_files(m, c->files);
    c->result = OK;
    c->work.run = files_run;
    c->work.done = files_done;
    manager_work(m, m->o.reader, &c->work);
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
        write_files(c);
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
        return log->appended_bytes - log->checkpointed_bytes >= CHECKPOINT_GROWTH;
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

void checkpoint_arm(struct log_manager *m)
{
    if (m->checkpoint_due && !timer_armed(&m->checkpoint) && !m->checkpointing && !m->stopping) {
        timer_arm(m->o.timers, &m->checkpoint,
                  clock_mono_ms(m->o.clock) + m->o.checkpoint_interval_ms);
    }
}

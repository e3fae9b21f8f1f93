/* All logs of a shard: finding, creating, deleting, stopping. The start is in open.c, the group commit
 * in commit.c. */
#include "broker/log/compact.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/mem.h"

#include <stdio.h>

enum { KEY_SIZE = 20 };

static void log_key(struct uuid id, int32_t partition, uint8_t key[KEY_SIZE])
{
    memcpy(key, id.b, sizeof id.b);
    put_be32(key + 16, (uint32_t)partition);
}

struct log_manager *log_manager_create(const struct log_manager_options *options)
{
    struct log_manager *m = mem_need_zero(1, sizeof *m);
    m->o = *options;
    map_init(&m->logs, (uint64_t)clock_mono_us(options->clock) ^ (uint64_t)(uintptr_t)m);
    offset_files_init(m);
    m->room_bytes = -1;
    list_init(&m->dirty);
    list_init(&m->written);
    list_init(&m->unsynced);
    list_init(&m->recorded);
    journal_init(&m->journal, options->store, options->diag, options->shard,
                 options->journal_file_bytes);
    list_init(&m->lru);
    list_init(&m->removals);
    list_init(&m->to_clean);
    timer_init(&m->retention, retention_fire);
    timer_init(&m->checkpoint, checkpoint_fire);
    timer_init(&m->sync_again, sync_again_fire);
    m->scrub = scrub_create(m);
    return m;
}

void manager_free_log(struct log *log)
{
    log_notify(log, true);
    list_remove(&log->dirty_link);
    log->destroyed = true;
    log_drop_segments_from(log, 0);
    log_unref(log);
}

void log_manager_destroy(struct log_manager *m)
{
    if (!m) {
        return;
    }
    check(m->works == 0);
    m->destroying = true;
    scrub_destroy(m->scrub);
    timer_disarm(m->o.timers, &m->retention);
    timer_disarm(m->o.timers, &m->checkpoint);
    timer_disarm(m->o.timers, &m->sync_again);
    removals_forget(m);
    compact_stop(m);
    commit_forget(m);
    expected_forget(m);
    for (struct map_entry *e = map_first(&m->logs); e; e = map_next(e)) {
        manager_free_log(map_value(e));
    }
    journal_finish(&m->journal);
    map_finish(&m->logs);
    offset_files_finish(m);
    mem_free(m);
}

struct log *log_manager_find(struct log_manager *m, struct uuid id, int32_t partition)
{
    uint8_t key[KEY_SIZE];
    log_key(id, partition, key);
    return map_get(&m->logs, key, sizeof key);
}

void manager_add_log(struct log_manager *m, struct log *log)
{
    uint8_t key[KEY_SIZE];
    log_key(log->id, log->partition, key);
    check(!map_get(&m->logs, key, sizeof key));
    check(!map_put(&m->logs, key, sizeof key, log));
    retention_arm(log);
}

/* ---- strays */

struct strays {
    struct map owned; /* directory -> something */
    struct buf names; /* each with its 0 */
};

/* What a partition's directory is called: something, '-', a number; or what a deletion left. */
static bool is_partition_dir(struct str name)
{
    size_t n = name.len;
    if (n > 7 && memcmp(name.ptr + n - 7, "-delete", 7) == 0) {
        return true;
    }
    while (n > 0 && name.ptr[n - 1] >= '0' && name.ptr[n - 1] <= '9') {
        n--;
    }
    return n > 1 && n < name.len && name.ptr[n - 1] == '-';
}

static void each_stray(void *arg, const struct store_entry *entry)
{
    struct strays *s = arg;
    if (entry->is_dir && is_partition_dir(entry->name) && !map_get_str(&s->owned, entry->name)) {
        buf_add_str(&s->names, entry->name);
        buf_add(&s->names, "", 1);
    }
}

static void note_owned(struct strays *s, const struct log_manager *m)
{
    for (struct map_entry *e = map_first(&m->logs); e; e = map_next(e)) {
        struct log *log = map_value(e);
        check(!map_put_str(&s->owned, str_of(log->dir), log));
    }
}

err log_manager_remove_strays(struct log_manager *const *all, int32_t count)
{
    struct store *store = all[0]->o.store;
    struct strays s = {0};
    bool unclean = false;
    map_init(&s.owned, all[0]->logs.seed);
    for (int32_t i = 0; i < count; i++) {
        note_owned(&s, all[i]);
        unclean = unclean || all[i]->unclean;
    }
    err e = store->ops->list(store->ctx, "", each_stray, &s);
    for (size_t at = 0; !e && at < s.names.len; at += strlen(s.names.ptr + at) + 1) {
        const char *name = s.names.ptr + at;
        diag_log(all[0]->o.diag, DIAG_INFO, "stray_removed", "dir=%s", name);
        e = remove_tree(store, name);
    }
    for (int32_t i = 0; i < count && !e; i++) {
        e = offset_files_mend(all[i]);
    }
    if (!e &&
        (unclean || s.names.len)) { /* entries that a crash left un-synced count from here on */
        e = store->ops->sync_dir(store->ctx, "");
    }
    map_finish(&s.owned);
    buf_finish(&s.names);
    return e;
}

/* ---- creating */

struct creation {
    struct work work;
    struct offset_files_wait wait; /* for an older log's name to go out of the checkpoints */
    struct log *log;               /* the manager's reference */
    void (*done)(void *ctx, err e);
    void *ctx;
    err result;
};

/* Makes the directory. One that has the name, and no log: a deletion could not rename it away, or a
 * creation did not come to its end. What is in it must not come back as the new log's. */
static err take_name(struct log *log)
{
    struct store *store = log->m->o.store;
    char gone[LOG_PATH_SIZE];
    err e = store->ops->make_dir(store->ctx, log->dir);
    if (e != ERR_EXISTS) {
        return e;
    }
    removal_name(log, gone);
    e = store->ops->rename(store->ctx, log->dir, gone);
    e = e ? e : store->ops->sync_dir(store->ctx, "");
    if (!e) {
        (void)remove_tree(store, gone); /* or the next start does */
    }
    return e ? e : store->ops->make_dir(store->ctx, log->dir);
}

static void create_run(struct work *work)
{
    struct creation *c = list_entry(work, struct creation, work);
    struct log *log = c->log;
    err e = take_name(log);
    c->result = e ? e : log_make_files(log->m->o.store, log->dir, log->id, 0);
}

static void creation_end(struct creation *c)
{
    struct log *log = c->log;
    struct log_manager *m = log->m;
    struct creation end = *c;
    mem_free(c);
    if (end.result) {
        diag_log(m->o.diag, DIAG_ERROR, "log_create_failed", "dir=%s error=\"%s\"", log->dir,
                 err_text(end.result));
        manager_free_log(log);
    } else {
        manager_add_log(m, log);
    }
    end.done(end.ctx, end.result);
}

static void create_done(struct work *work)
{
    struct creation *c = list_entry(work, struct creation, work);
    struct log_manager *m = c->log->m;
    creation_end(c);
    manager_work_done(m);
}

static void name_is_free(struct offset_files_wait *w, err e)
{
    struct creation *c = list_entry(w, struct creation, wait);
    c->result = e;
    if (e) {
        creation_end(c);
    } else {
        manager_work(c->log->m, c->log->m->o.writer, &c->work);
    }
}

void log_manager_create_log(struct log_manager *m, struct str topic, struct uuid id,
                            int32_t partition, const struct log_config *config,
                            void (*done)(void *ctx, err e), void *ctx)
{
    struct creation *c = mem_need_zero(1, sizeof *c);
    struct log *log = log_create(m, topic, id, partition, config);
    struct segment *s = segment_create(log, 0);
    s->fresh = true;
    log->fresh = true;
    log_add_segment(log, s);
    log_add_hint(log);
    c->log = log;
    c->done = done;
    c->ctx = ctx;
    c->work.run = create_run;
    c->work.done = create_done;
    unsigned files = offset_files_naming(m, log->dir);
    if (files) { /* of a topic that had this name before */
        c->wait = (struct offset_files_wait){.files = files, .done = name_is_free};
        offset_files_write(m, &c->wait);
    } else {
        manager_work(m, m->o.writer, &c->work);
    }
}

void log_manager_destroy_log(struct log_manager *m, struct uuid id, int32_t partition,
                             void (*done)(void *ctx, err e), void *ctx)
{
    uint8_t key[KEY_SIZE];
    log_key(id, partition, key);
    struct log *log = map_remove(&m->logs, key, sizeof key);
    check(log);
    log->destroyed = true;
    log->destroy_done = done;
    log->destroy_ctx = ctx;
    log_close(log);
    log_fail_pending(log, ERR_CLOSED);
    log_check_quiet(log);
    log_unref(log);
}

/* ---- stopping */

static void final_checkpoint_done(struct log_manager *m)
{
    m->final_done = true;
    for (struct map_entry *e = map_first(&m->logs); e; e = map_next(e)) {
        struct log *log = map_value(e);
        for (int32_t i = 0; i < log->segment_count; i++) {
            segment_close_files(log->segments[i]);
        }
    }
}

static struct log_append *first_waiting(struct log_manager *m)
{
    for (struct map_entry *e = map_first(&m->logs); e; e = map_next(e)) {
        const struct log *log = map_value(e);
        if (!list_empty(&log->waiting)) {
            return list_entry(log->waiting.next, struct log_append, link);
        }
    }
    return NULL;
}

/* After a failed sync (with the posix driver the process has ended) nothing more becomes durable:
 * who waits for it is told at the end, so that its memory is given back. */
static void fail_waiting(struct log_manager *m)
{
    for (struct log_append *a; (a = first_waiting(m));) {
        list_remove(&a->link);
        a->log = NULL;
        if (a->durable) {
            a->durable(a, ERR_IO);
        }
    }
}

void manager_check_stopped(struct log_manager *m)
{
    if (!m->stopping || m->checkpointing) {
        return;
    }
    if (!m->final_begun && (m->dead || commit_is_idle(m))) {
        m->final_begun = true;
        if (m->dead) {
            fail_waiting(m);
            final_checkpoint_done(m);
        } else {
            checkpoint_start(m, CHECKPOINT_FINAL, final_checkpoint_done);
        }
    }
    if (m->final_done && m->works == 0 && m->stop_done) {
        void (*done)(void *) = m->stop_done;
        m->stop_done = NULL;
        done(m->stop_ctx);
    }
}

static void stop_run(struct work *work)
{
    (void)work; /* only so that `done` is never called from inside of log_manager_stop */
}

static void stop_begun(struct work *work)
{
    struct log_manager *m = list_entry(work, struct log_manager, stop_work);
    manager_work_done(m);
}

/* What a failed write left behind, and could not be cut either, is cut now: a start would take
 * whole batches there for good ones, and they were refused. */
static void cut_tails(struct log_manager *m)
{
    for (struct map_entry *e = map_first(&m->logs); e; e = map_next(e)) {
        struct log *log = map_value(e);
        if (log->truncate && !list_linked(&log->dirty_link)) {
            list_push(&m->dirty, &log->dirty_link);
        }
    }
}

void log_manager_stop(struct log_manager *m, void (*done)(void *ctx), void *ctx)
{
    m->stopping = true;
    m->stop_done = done;
    m->stop_ctx = ctx;
    timer_disarm(m->o.timers, &m->retention);
    timer_disarm(m->o.timers, &m->checkpoint);
    timer_disarm(m->o.timers, &m->sync_again);
    scrub_stop(m->scrub);
    removals_forget(m);
    compact_stop(m);
    cut_tails(m);
    commit_submit(m);
    m->stop_work.run = stop_run;
    m->stop_work.done = stop_begun;
    manager_work(m, m->o.writer, &m->stop_work);
}

bool log_manager_stopped_clean(const struct log_manager *m)
{
    return m->final_done && !m->final_failed && !m->dead;
}

void log_manager_set_room(struct log_manager *m, int64_t bytes)
{
    m->room_bytes = bytes;
}

bool log_manager_is_tight(const struct log_manager *m)
{
    return m->room_bytes >= 0;
}

int32_t log_manager_leader_epoch(const struct log_manager *m)
{
    return m->o.leader_epoch;
}

int64_t log_manager_total_bytes(const struct log_manager *m)
{
    int64_t total = 0;
    for (struct map_entry *e = map_first(&m->logs); e; e = map_next(e)) {
        total += log_size_bytes(map_value(e));
    }
    return total;
}

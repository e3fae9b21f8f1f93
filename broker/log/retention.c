/* Retention, and the removal of what is not wanted any more.
 *
 * A log's start moves first, then the segment's files are renamed to *.deleted (oldest first, each
 * rename durable before the next, and one that fails holds up those behind it until it is tried
 * again: no hole is ever left, which a start would take for the end of the log), and after
 * file.delete.delay.ms they are unlinked. A deleted log's directory is renamed to NAME.ID-delete
 * likewise. A stop in between leaves names that the next start removes.
 */
#include "broker/log/internal.h"

#include "base/check.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>

enum { SUFFIXES = 4 };
static const char *const suffixes[SUFFIXES] = {"log", "index", "timeindex", "txnindex"};

struct removal {
    struct work work;
    struct timer timer;
    struct log_manager *m;
    struct log *log;          /* one reference, until the rename is done */
    char dir[LOG_PATH_SIZE];  /* of the log */
    char gone[LOG_PATH_SIZE]; /* of a whole log: its directory's new name */
    int64_t base_offset;      /* of a segment; -1: the whole log */
    int64_t delay_ms;
    struct list link; /* in the log's removals until a segment is renamed; then in the manager's,
                         while the timer is armed */
    struct offset_files_wait wait; /* for a checkpoint that is at the directory's old name */
    err result;
};

static void file_name(const struct removal *r, int i, const char *end, char path[LOG_PATH_SIZE])
{
    snprintf(path, LOG_PATH_SIZE, "%.255s/%020" PRId64 ".%s%s", r->dir, r->base_offset, suffixes[i],
             end);
}

static err rename_files(struct removal *r)
{
    struct store *store = r->m->o.store;
    char from[LOG_PATH_SIZE];
    char to[LOG_PATH_SIZE];
    /* The log file last: while it is there the segment is, and its indexes can be made again. */
    for (int i = SUFFIXES - 1; i >= 0; i--) {
        file_name(r, i, "", from);
        file_name(r, i, ".deleted", to);
        err e = store->ops->rename(store->ctx, from, to);
        if (e && e != ERR_NOT_FOUND) {
            return e;
        }
    }
    return store->ops->sync_dir(store->ctx, r->dir);
}

static void rename_run(struct work *work)
{
    struct removal *r = list_entry(work, struct removal, work);
    struct store *store = r->m->o.store;
    if (r->base_offset >= 0) {
        r->result = rename_files(r);
    } else {
        r->result = store->ops->rename(store->ctx, r->dir, r->gone);
        r->result = r->result ? r->result : store->ops->sync_dir(store->ctx, "");
    }
}

struct names {
    struct buf text; /* each with its 0 */
};

static void each_name(void *arg, const struct store_entry *entry)
{
    struct names *n = arg;
    if (!entry->is_dir) {
        buf_add_str(&n->text, entry->name);
        buf_add(&n->text, "", 1);
    }
}

err remove_tree(struct store *store, const char *path)
{
    struct names n = {0};
    char file[LOG_PATH_SIZE * 2];
    err e = store->ops->list(store->ctx, path, each_name, &n);
    for (size_t at = 0; !e && at < n.text.len; at += strlen(n.text.ptr + at) + 1) {
        snprintf(file, sizeof file, "%s/%s", path, n.text.ptr + at);
        e = store->ops->unlink(store->ctx, file);
    }
    buf_finish(&n.text);
    return e ? e : store->ops->remove_dir(store->ctx, path);
}

static void unlink_run(struct work *work)
{
    struct removal *r = list_entry(work, struct removal, work);
    struct store *store = r->m->o.store;
    char path[LOG_PATH_SIZE];
    if (r->base_offset < 0) {
        r->result = remove_tree(store, r->gone);
        return;
    }
    for (int i = 0; i < SUFFIXES && !r->result; i++) {
        file_name(r, i, ".deleted", path);
        err e = store->ops->unlink(store->ctx, path);
        r->result = e == ERR_NOT_FOUND ? OK : e; /* with its topic's directory */
    }
}

static void unlink_done(struct work *work)
{
    struct removal *r = list_entry(work, struct removal, work);
    struct log_manager *m = r->m;
    if (r->result) {
        diag_log(m->o.diag, DIAG_WARN, "removal_failed", "dir=%s error=\"%s\"", r->dir,
                 err_text(r->result));
    }
    mem_free(r);
    manager_work_done(m);
}

static void delay_over(struct timer *timer)
{
    struct removal *r = list_entry(timer, struct removal, timer);
    list_remove(&r->link);
    r->result = OK;
    r->work.run = unlink_run;
    r->work.done = unlink_done;
    manager_work(r->m, r->m->o.reader, &r->work);
}

static void removal_drop(struct removal *r)
{
    list_remove(&r->link);
    log_unref(r->log);
    mem_free(r);
}

/* Forgets the segments whose turn has not come. */
static void removals_drop(struct log *log)
{
    log_ref(log);
    list_each_safe(node, after, &log->removals)
    {
        if (!log->renaming || node != log->removals.next) {
            removal_drop(list_entry(node, struct removal, link));
        }
    }
    log_unref(log);
}

static void rename_next(struct log *log)
{
    if (log->renaming || list_empty(&log->removals)) {
        return;
    }
    log->renaming = true;
    manager_work(log->m, log->m->o.writer,
                 &list_entry(log->removals.next, struct removal, link)->work);
}

/* Of a segment. False: it is not over. */
static bool segment_renamed(struct removal *r)
{
    struct log *log = r->log;
    bool all_gone = log->destroyed || log->m->stopping; /* or found by the next start */
    log->renaming = false;
    if (r->result && !all_gone) {
        retention_arm(log); /* the next look tries again */
        return false;
    }
    list_remove(&r->link);
    if (all_gone) {
        removals_drop(log);
    } else {
        rename_next(log);
    }
    return true;
}

static void renamed(struct removal *r)
{
    struct log *log = r->log;
    struct log_manager *m = r->m;
    if (r->base_offset < 0 && log->destroy_done) {
        void (*done)(void *, err) = log->destroy_done;
        log->destroy_done = NULL;
        done(log->destroy_ctx, r->result);
    }
    log_unref(log);
    r->log = NULL;
    if (r->result || m->stopping) {
        mem_free(r);
    } else {
        list_push(&m->removals, &r->link);
        timer_arm(m->o.timers, &r->timer, clock_after_ms(m->o.clock, r->delay_ms));
    }
}

static void checkpoint_is_past(struct offset_files_wait *w, err e)
{
    (void)e; /* of no file */
    renamed(list_entry(w, struct removal, wait));
}

static void rename_done(struct work *work)
{
    struct removal *r = list_entry(work, struct removal, work);
    struct log_manager *m = r->m;
    if (r->result) {
        diag_log(m->o.diag, DIAG_WARN, "removal_failed", "dir=%s error=\"%s\"", r->dir,
                 err_text(r->result));
    }
    if (r->base_offset < 0 && checkpoint_is_at(m, r->dir)) {
        /* The name is free, for any shard, when that is over too: the reader keeps its order. */
        r->wait = (struct offset_files_wait){.done = checkpoint_is_past};
        offset_files_write(m, &r->wait);
    } else if (r->base_offset < 0 || segment_renamed(r)) {
        renamed(r);
    }
    manager_work_done(m);
}

void removal_name(const struct log *log, char name[LOG_PATH_SIZE])
{
    char id[UUID_TEXT_SIZE];
    uuid_to_text(log->id, id); /* two partitions of a topic with a long name must not share one */
    snprintf(name, LOG_PATH_SIZE, "%.200s.%s-%d-delete", log->dir, id, log->partition);
}

void removal_begin(struct log *log, struct segment *s)
{
    struct log_manager *m = log->m;
    struct removal *r = mem_need_zero(1, sizeof *r);
    r->m = m;
    r->log = log;
    log_ref(log);
    r->base_offset = s ? s->base_offset : -1;
    r->delay_ms = log->config.file_delete_delay_ms;
    snprintf(r->dir, sizeof r->dir, "%s", log->dir);
    timer_init(&r->timer, delay_over);
    list_init(&r->link);
    r->work.run = rename_run;
    r->work.done = rename_done;
    if (s) {
        list_push(&log->removals, &r->link);
        rename_next(log);
    } else {
        removal_name(log, r->gone);
        removals_drop(log);
        manager_work(m, m->o.writer, &r->work);
    }
}

void removals_forget(struct log_manager *m)
{
    for (struct map_entry *e = map_first(&m->logs); e; e = map_next(e)) {
        removals_drop(map_value(e));
    }
    for (struct list *node; (node = list_pop(&m->removals));) {
        struct removal *r = list_entry(node, struct removal, link);
        timer_disarm(m->o.timers, &r->timer);
        mem_free(r);
    }
}

void log_check_quiet(struct log *log)
{
    if (log->destroyed && log->under_way == 0 && !list_linked(&log->synced_link) &&
        list_empty(&log->pending) && log->segment_count > 0) {
        log_drop_segments_from(log, 0);
        removal_begin(log, NULL);
    }
}

/* ---- retention */

static bool has_bound(const struct log_config *c)
{
    return c->delete_old && (c->retention_ms >= 0 || c->retention_bytes >= 0);
}

static bool is_below_start(const struct log *log)
{
    return log->segment_count > 1 && log->segments[1]->base_offset <= log->start_offset;
}

void retention_arm(struct log *log)
{
    struct log_manager *m = log->m;
    bool wanted = has_bound(&log->config) || is_below_start(log) || !list_empty(&log->removals);
    if (wanted && !timer_armed(&m->retention) && !m->stopping) {
        timer_arm(m->o.timers, &m->retention,
                  clock_after_ms(m->o.clock, m->o.retention_check_interval_ms));
    }
}

void log_manager_set_retention_check(struct log_manager *m, int64_t interval_ms)
{
    m->o.retention_check_interval_ms = interval_ms;
    if (timer_armed(&m->retention)) {
        timer_arm(m->o.timers, &m->retention, clock_after_ms(m->o.clock, interval_ms));
    }
}

static bool is_expired(const struct log *log, const struct segment *s, int64_t now_ms)
{
    int64_t newest = s->tail.max_timestamp >= 0 ? s->tail.max_timestamp : s->created_ms;
    return log->config.retention_ms >= 0 && newest < now_ms - log->config.retention_ms;
}

static void remove_first(struct log *log, const char *event)
{
    struct segment *s = log->segments[0];
    diag_log(log->m->o.diag, DIAG_INFO, event, "dir=%s base=%lld bytes=%lld", log->dir,
             (long long)s->base_offset, (long long)s->tail.size);
    log->segment_count--;
    memmove(log->segments, log->segments + 1, sizeof *log->segments * (size_t)log->segment_count);
    s->removed = true;
    removal_begin(log, s);
    segment_close_files(s);
    segment_unref(s);
}

/* Begins a new segment, so that the only one can go. */
static void ask_roll(struct log *log)
{
    log->roll = true;
    if (!list_linked(&log->dirty_link)) {
        list_push(&log->m->dirty, &log->dirty_link);
    }
    manager_say_unsubmitted(log->m);
}

void log_drop_below_start(struct log *log)
{
    while (is_below_start(log) && !log->segments[0]->cleaning) { /* that one comes here again */
        remove_first(log, "segment_deleted");
    }
    const struct segment *active = log_active(log);
    if (active->tail.size > 0 && active->base_offset < log->start_offset &&
        log->start_offset == log->next_offset && !log->fenced && !log->m->stopping) {
        ask_roll(log); /* when that is done, it comes here again */
    }
}

static void retain(struct log *log, int64_t now_ms)
{
    int64_t total = log_size_bytes(log);
    int64_t start = log->start_offset;
    while (log->segment_count > 1 && !log->segments[0]->cleaning &&
           log->segments[1]->base_offset <= log->durable.offset) {
        struct segment *s = log->segments[0];
        bool too_large =
            log->config.retention_bytes >= 0 && total - s->tail.size >= log->config.retention_bytes;
        bool unreachable = log->segments[1]->base_offset <= log->start_offset;
        if (!too_large && !unreachable && !is_expired(log, s, now_ms)) {
            break;
        }
        total -= s->tail.size;
        if (log->start_offset < log->segments[1]->base_offset) {
            log->start_offset = log->segments[1]->base_offset;
        }
        remove_first(log, "segment_expired");
    }
    struct segment *active = log_active(log);
    if (log->segment_count == 1 && active->tail.size > 0 &&
        log->next_offset == log->durable.offset && is_expired(log, active, now_ms)) {
        ask_roll(log); /* the next look removes it */
    }
    if (log->start_offset != start) {
        log_notify(log, false);
    }
}

void retention_fire(struct timer *timer)
{
    struct log_manager *m = list_entry(timer, struct log_manager, retention);
    int64_t now_ms = clock_wall_ms(m->o.clock);
    if (m->stopping || m->dead) {
        return;
    }
    for (struct map_entry *e = map_first(&m->logs), *after; e; e = after) {
        struct log *log = map_value(e);
        after = map_next(e);
        if (log->fenced) {
            continue;
        }
        rename_next(log);          /* if one has failed */
        log_drop_below_start(log); /* what a stop or a crash left */
        if (has_bound(&log->config)) {
            retain(log, now_ms);
        }
        retention_arm(log);
    }
}

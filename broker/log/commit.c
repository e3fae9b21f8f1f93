/* Write groups and sync groups: how appends become readable and durable, for all logs of a shard
 * together.
 *
 * A write group is made of parts: consecutive batches of one log in one segment. Parts of one log
 * are run in order, and the first that fails takes those behind it along. A sync group is what
 * was written since the last one: records of it go into the journal, together, or its segment is
 * synced itself, where that is cheaper (a run of DIRECT_BYTES of one segment), where its directory
 * entry is not durable, and where the journal has no place. When all of that is done, every log's
 * high watermark moves to the written end that it had when the group was formed.
 *
 * A small write group that only `durable` waits for is written and synced by the syncer, one work
 * item behind the other, with one hand-over and one wake-up for both; while a sync is under way
 * such a group waits and grows. Groups with a `written`, large ones, new files and all that is odd
 * go the long way: the writer, the loop, the syncer.
 *
 * Invariants:
 *   C1  within a log, a segment is synced before the next one of the same group: what is
 *       durable is a prefix
 *   C2  a segment's directory entry is durable before anything in it counts: the first sync of a
 *       new one is never the journal's
 *   C3  records are made of a part only after all of it was written to its segment (J4)
 */
#include "broker/log/compact.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/mem.h"

#include <limits.h>

enum {
    PART_IOV = 1024,          /* batches of one part; IOV_MAX */
    CHAIN_BYTES = 64 * 1024,  /* a larger group is better written while another one is synced */
    DIRECT_BYTES = 64 * 1024, /* since the last sync group, of one segment: a sync of it is cheaper
                                 than to write them twice */
    RECORDED_BYTES = 1024 * 1024, /* of all records that wait for a sync group; beyond it segments
                                     are synced */
    UNSAID_GROUPS = 16,  /* of synced segments alone, before the journal says how far they go */
    SYNC_ITEMS = 16,     /* segments that are written out together */
    SYNC_AGAIN_MS = 100, /* after a sync that wanted a descriptor */
};

struct write_part {
    struct log *log;            /* one reference */
    struct segment_tail before; /* of the segment, to go back to */
    struct file_use use[FILE_KINDS];
    int64_t position;             /* where the batches go */
    struct iovec *parts;          /* in the group's arena */
    int count;                    /* of parts */
    int batches;                  /* appends of log->writing that this part stands for */
    struct buf index[FILE_KINDS]; /* owned: entries for the two indexes */
    int64_t index_position[FILE_KINDS];
    bool create;              /* the segment's first part */
    bool truncate;            /* cut the file to `position` first */
    bool created;             /* out: the file is there */
    bool index_failed;        /* out */
    err result;               /* out */
    err index_error;          /* out */
    struct mark end;          /* of the log behind this part */
    struct sync_log *covered; /* in the sync group that is chained behind it; NULL: none */
    struct buf *records;      /* out: records for the journal go there; NULL: none are wanted */
    struct buf own_records;   /* owned */
    struct list link;
};

struct write_group {
    struct work work;
    struct log_manager *m;
    struct arena arena;
    struct list parts; /* struct write_part */
    int part_count;    /* of parts */
};

struct sync_item {
    struct file_use use;
    struct buf records; /* owned: for the journal, instead of a sync */
    bool journalled;
    bool dir; /* its directory too */
};

struct sync_log {
    struct log *log; /* one reference */
    struct mark end;
};

struct sync_group {
    struct work work;
    struct log_manager *m;
    struct sync_item *items; /* owned */
    int item_count;
    struct sync_log *logs; /* owned */
    int log_count;
    struct buf ends; /* owned: records of logs whose segments are synced */
    bool has_place;  /* in the journal */
    struct journal_place place;
    bool place_failed; /* out: nothing is there, all segments were synced */
    bool root;         /* the data directory too: there are new directories in it */
    bool unopened;     /* out: with `result`: it was not a sync that failed, nothing is uncertain */
    err result;        /* out */
};

static void sync_run(struct work *work);
static void sync_done(struct work *work);

void manager_work(struct log_manager *m, struct worker *worker, struct work *work)
{
    m->works++;
    worker_submit(worker, work);
}

void manager_work_done(struct log_manager *m)
{
    check(m->works > 0);
    m->works--;
    manager_check_stopped(m);
}

void manager_say_unsubmitted(struct log_manager *m)
{
    if (!m->said_unsubmitted && !m->write) {
        m->said_unsubmitted = true;
        if (m->o.unsubmitted) {
            m->o.unsubmitted(m->o.ctx);
        }
    }
}

bool commit_is_idle(const struct log_manager *m)
{
    return !m->write && !m->sync && list_empty(&m->dirty) && list_empty(&m->unsynced) &&
           list_empty(&m->recorded) && list_empty(&m->written);
}

void commit_forget(struct log_manager *m)
{
    for (struct list *node; (node = list_pop(&m->unsynced));) {
        segment_unref(list_entry(node, struct segment, sync_link));
    }
    for (struct list *node; (node = list_pop(&m->recorded));) {
        segment_unref(list_entry(node, struct segment, record_link));
    }
    for (struct list *node; (node = list_pop(&m->written));) {
        log_unref(list_entry(node, struct log, synced_link));
    }
}

/* ---- placing */

static int list_count(const struct list *l)
{
    int n = 0;
    list_each(node, l)
    {
        n++;
    }
    return n;
}

static struct write_part *part_begin(struct write_group *g, struct segment *s)
{
    struct write_part *p = arena_zero(&g->arena, 1, sizeof *p);
    check(p);
    p->log = s->log;
    log_ref(s->log);
    s->log->under_way++;
    p->before = s->tail;
    p->position = s->tail.size;
    file_use_begin(&p->use[FILE_LOG], s, FILE_LOG, STORE_WRITE);
    p->index_position[FILE_INDEX] = (int64_t)s->tail.index_count * INDEX_ENTRY_SIZE;
    p->index_position[FILE_TIMEINDEX] = (int64_t)s->tail.time_count * TIME_ENTRY_SIZE;
    list_push(&g->parts, &p->link);
    g->part_count++;
    return p;
}

static void add_index_entry(struct write_part *p, struct segment *s, int64_t last_offset,
                            int64_t position)
{
    uint8_t entry[INDEX_ENTRY_SIZE];
    put_be32(entry, (uint32_t)(last_offset - s->base_offset));
    put_be32(entry + 4, (uint32_t)position);
    buf_add(&p->index[FILE_INDEX], entry, sizeof entry);
    s->tail.index_count++;
}

static void add_time_entry(struct write_part *p, struct segment *s)
{
    struct segment_tail *t = &s->tail;
    if (!s->times_known || t->max_timestamp <= t->last_time) {
        return; /* times strictly rise */
    }
    uint8_t entry[TIME_ENTRY_SIZE];
    put_be64(entry, (uint64_t)t->max_timestamp);
    put_be32(entry + 8, (uint32_t)(t->max_timestamp_offset - s->base_offset));
    buf_add(&p->index[FILE_TIMEINDEX], entry, sizeof entry);
    t->last_time = t->max_timestamp;
    t->time_count++;
}

static bool must_roll(const struct log *log, const struct segment *s, const struct log_append *a,
                      int64_t now_ms)
{
    const struct segment_tail *t = &s->tail;
    const struct log_config *c = &log->config;
    if (t->size == 0) {
        return false;
    }
    int64_t age_ms = t->first_timestamp >= 0 && a->info.max_timestamp >= 0
                         ? a->info.max_timestamp - t->first_timestamp
                         : now_ms - s->created_ms;
    return t->size > c->segment_bytes - (int64_t)a->size || age_ms > c->segment_ms ||
           ((int64_t)t->index_count + 1) * INDEX_ENTRY_SIZE > c->index_max_bytes ||
           ((int64_t)t->time_count + 1) * TIME_ENTRY_SIZE > c->index_max_bytes ||
           a->end_offset - 1 - s->base_offset > INT32_MAX || compact_wants_roll(log);
}

static void place_batch(struct write_part *p, struct segment *s, struct log_append *a)
{
    struct segment_tail *t = &s->tail;
    int64_t last_offset = a->end_offset - 1;
    if (t->size == 0) {
        t->first_timestamp = a->info.max_timestamp;
    }
    if (a->info.max_timestamp > t->max_timestamp) {
        t->max_timestamp = a->info.max_timestamp;
        t->max_timestamp_offset = last_offset;
    }
    if (t->bytes_since_index > s->log->config.index_interval_bytes) {
        add_index_entry(p, s, last_offset, t->size);
        add_time_entry(p, s);
        t->bytes_since_index = 0;
    }
    t->bytes_since_index += (int64_t)a->size;
    t->size += (int64_t)a->size;
    p->parts[p->count++] = (struct iovec){a->batch, a->size};
    log_note_growth(s->log, (int64_t)a->size);
}

/* Seals the active segment with a last time entry and begins a new one at `base_offset`. */
static struct write_part *roll(struct write_group *g, struct write_part *p, struct segment *s,
                               int64_t base_offset)
{
    if (s->times_known && s->tail.max_timestamp > s->tail.last_time) {
        if (!p) {
            p = part_begin(g, s);
            p->end = (struct mark){base_offset, s->base_offset, s->tail.size};
        }
        add_time_entry(p, s);
    }
    s->sealed = true;
    s->log->m->checkpoint_due = s->log->m->checkpoint_due || s->log->config.compact;
    struct segment *next = segment_create(s->log, base_offset);
    next->fresh = true;
    log_add_segment(s->log, next);
    struct write_part *fresh = part_begin(g, next);
    fresh->create = true;
    fresh->use[FILE_LOG].how = STORE_CREATE;
    file_use_begin(&fresh->use[FILE_INDEX], next, FILE_INDEX, STORE_CREATE);
    file_use_begin(&fresh->use[FILE_TIMEINDEX], next, FILE_TIMEINDEX, STORE_CREATE);
    fresh->truncate = true;
    fresh->end = (struct mark){base_offset, base_offset, 0};
    return fresh;
}

static void place_log(struct write_group *g, struct log *log, int64_t now_ms)
{
    struct write_part *p = NULL;
    struct segment *s = log_active(log);
    int left = list_count(&log->pending);
    if (log->truncate) {
        p = part_begin(g, s);
        p->truncate = true;
        p->end = (struct mark){log->written.offset, s->base_offset, s->tail.size};
        log->truncate = false;
    }
    if (log->roll && s->tail.size > 0) {
        p = roll(g, p, s, log->written.offset);
        s = log_active(log);
    }
    log->roll = false;
    for (; left > 0; left--) {
        struct log_append *a = list_entry(list_pop(&log->pending), struct log_append, link);
        list_push(&log->writing, &a->link);
        if (a->duplicate) {
            if (!p) {
                p = part_begin(g, s);
                p->end = (struct mark){log->written.offset, s->base_offset, s->tail.size};
            }
            p->batches++;
            continue;
        }
        if (must_roll(log, s, a, now_ms)) {
            p = roll(g, p, s, a->base_offset);
            s = log_active(log);
        } else if (p && p->count == PART_IOV) {
            p = NULL;
        }
        if (!p) {
            p = part_begin(g, s);
        }
        if (!p->parts) {
            size_t slots = left < PART_IOV ? (size_t)left : PART_IOV;
            p->parts = arena_alloc(&g->arena, sizeof *p->parts * slots);
            check(p->parts);
        }
        place_batch(p, s, a);
        p->batches++;
        p->end = (struct mark){a->end_offset, s->base_offset, s->tail.size};
        log_note_epoch(log, log->m->o.leader_epoch, a->base_offset);
    }
}

/* ---- on the writer */

static void write_indexes(struct write_part *p, struct store *store)
{
    for (enum file_kind k = FILE_INDEX; k <= FILE_TIMEINDEX; k++) {
        if (p->index[k].len == 0) {
            continue;
        }
        err e = file_use_open(&p->use[k], store);
        if (!e) {
            struct iovec v = {p->index[k].ptr, p->index[k].len};
            e = store->ops->write(store->ctx, p->use[k].file, &v, 1, p->index_position[k]);
        }
        if (e) {
            p->index_failed = true;
            p->index_error = e;
        }
    }
}

static void write_part(struct write_part *p, struct store *store)
{
    struct file_use *use = &p->use[FILE_LOG];
    if (!p->count && !p->truncate && !p->index[FILE_TIMEINDEX].len) {
        p->result = OK; /* duplicates alone */
        return;
    }
    p->result = file_use_open(use, store);
    if (p->result) {
        return;
    }
    p->created = true;
    if (p->truncate) {
        p->result = store->ops->truncate(store->ctx, use->file, p->position);
    }
    for (enum file_kind k = FILE_INDEX; p->create && k <= FILE_TIMEINDEX && !p->result; k++) {
        p->result = file_use_open(&p->use[k], store);
        p->result = p->result ? p->result : store->ops->truncate(store->ctx, p->use[k].file, 0);
    }
    if (!p->result && p->count) {
        p->result = store->ops->write(store->ctx, use->file, p->parts, p->count, p->position);
    }
    for (int i = 0; p->records && !p->result && i < p->count; i++) { /* C3 */
        journal_add_batch(p->records, log_journal_id(p->log), p->parts[i].iov_base,
                          p->parts[i].iov_len);
    }
    if (!p->result) {
        write_indexes(p, store);
    }
}

static void write_run(struct work *work)
{
    struct write_group *g = list_entry(work, struct write_group, work);
    const struct log *failed = NULL;
    list_each(node, &g->parts)
    {
        struct write_part *p = list_entry(node, struct write_part, link);
        if (p->log == failed) {
            p->result = ERR_CLOSED; /* never seen: the first one's result is what counts */
            continue;
        }
        write_part(p, g->m->o.store);
        if (p->result) {
            failed = p->log;
        }
    }
}

/* ---- back on the loop */

static void drop_records(struct segment *s)
{
    if (list_linked(&s->record_link)) {
        s->log->m->recorded_bytes -= s->records.len;
        buf_finish(&s->records);
        list_remove(&s->record_link);
        segment_unref(s);
    }
}

/* For the next sync group: records of what was written, or the segment. */
static void take_records(struct write_part *p, struct segment *s)
{
    struct log_manager *m = s->log->m;
    if (list_linked(&s->sync_link)) {
        return;
    }
    if (!p->own_records.len) {
        segment_ref(s);
        list_push(&m->unsynced, &s->sync_link);
        drop_records(s);
        return;
    }
    m->recorded_bytes += p->own_records.len;
    if (list_linked(&s->record_link)) {
        buf_add(&s->records, p->own_records.ptr, p->own_records.len);
        check(!s->records.failed);
        return;
    }
    s->records = p->own_records;
    p->own_records = (struct buf){0};
    segment_ref(s);
    list_push(&m->recorded, &s->record_link);
}

static void take_written(struct write_part *p)
{
    struct log *log = p->log;
    struct segment *s = p->use[FILE_LOG].segment;
    struct log_manager *m = log->m;
    s->written_size = p->end.base_offset == s->base_offset ? p->end.position : s->written_size;
    s->index_written += (int32_t)(p->index[FILE_INDEX].len / INDEX_ENTRY_SIZE);
    s->time_written += (int32_t)(p->index[FILE_TIMEINDEX].len / TIME_ENTRY_SIZE);
    if (p->index[FILE_INDEX].len || p->index[FILE_TIMEINDEX].len) {
        s->index_dirty = true;
    }
    if (p->index_failed) { /* sparse by design: reads start from an earlier entry, and the next ones
                              take the places */
        diag_log(m->o.diag, DIAG_WARN, "index_write_failed", "dir=%s base=%lld error=\"%s\"",
                 log->dir, (long long)s->base_offset, err_text(p->index_error));
        s->index_written -= (int32_t)(p->index[FILE_INDEX].len / INDEX_ENTRY_SIZE);
        s->time_written -= (int32_t)(p->index[FILE_TIMEINDEX].len / TIME_ENTRY_SIZE);
        s->tail.index_count = s->index_written;
        s->tail.time_count = s->time_written;
    }
    bool moved = p->end.offset > log->written.offset || p->create ||
                 p->end.base_offset > log->written.base_offset;
    log->written = moved ? p->end : log->written;
    if (moved && p->covered) {
        p->covered->end = log->written;
    } else if (moved) {
        if (!list_linked(&log->synced_link)) {
            log_ref(log);
            list_push(&m->written, &log->synced_link);
        }
        take_records(p, s);
    }
    for (int i = 0; i < p->batches; i++) {
        struct log_append *a = list_entry(list_pop(&log->writing), struct log_append, link);
        if (a->durable) {
            list_push(&log->waiting, &a->link);
        }
        if (a->written) { /* without `durable` its memory may go in here */
            a->written(a, OK);
        }
    }
}

/* On a full disk every produce fails: one line a minute counts them. */
static void say_write_failed(const struct log *log, int64_t base_offset, err e)
{
    struct log_manager *m = log->m;
    int64_t now_ms = clock_mono_ms(m->o.clock);
    m->no_space_writes += e == ERR_NO_SPACE;
    if (e == ERR_NO_SPACE && m->no_space_said_ms &&
        now_ms - m->no_space_said_ms < NO_SPACE_SAY_MS) {
        return;
    }
    diag_log(m->o.diag, DIAG_ERROR, "write_failed", "dir=%s base=%lld error=\"%s\" no_space=%lld",
             log->dir, (long long)base_offset, err_text(e), (long long)m->no_space_writes);
    m->no_space_said_ms = e == ERR_NO_SPACE ? now_ms : m->no_space_said_ms;
}

static void take_failed(struct write_part *p)
{
    struct log *log = p->log;
    struct segment *s = p->use[FILE_LOG].segment;
    say_write_failed(log, s->base_offset, p->result);
    int32_t keep = log->segment_count;
    while (keep > 1 && log->segments[keep - 1]->base_offset > s->base_offset) {
        keep--;
    }
    if (p->create && !p->created) {
        keep--;
    } else {
        s->tail = p->before;
        s->tail.index_count = s->index_written;
        s->tail.time_count = s->time_written;
    }
    log_drop_segments_from(log, keep);
    log_active(log)->sealed = false;
    log->truncate = true;
    if (p->create &&
        p->created) { /* empty, and there: its entry must be made durable with what comes next */
        log->written = (struct mark){log->written.offset, s->base_offset, 0};
    }
    log_fail(log, p->result);
    /* The tail goes now, not with the next append: a crash must not find whole batches there that
     * were refused. */
    if (!log->destroyed && !list_linked(&log->dirty_link)) {
        list_push(&log->m->dirty, &log->dirty_link);
    }
}

static void take_part(struct write_part *p)
{
    struct log *log = p->log;
    if (!p->result) {
        p->use[FILE_LOG].segment->cut |= p->truncate && !p->create;
        take_written(p);
        log_complete_durable(log);
    } else if (list_empty(&log->writing) && !p->create &&
               log_active(log) == p->use[FILE_LOG].segment) {
        log->truncate = true; /* nothing but a cut, still not done: with the next append then */
    } else {
        take_failed(p);
    }
}

static void write_done(struct work *work)
{
    struct write_group *g = list_entry(work, struct write_group, work);
    struct log_manager *m = g->m;
    const struct log *failed = NULL;
    m->write = NULL;
    for (struct list *node; (node = list_pop(&g->parts));) {
        struct write_part *p = list_entry(node, struct write_part, link);
        struct log *log = p->log;
        if (log != failed) {
            failed = p->result ? log : failed;
            take_part(p);
        }
        for (int k = 0; k < FILE_KINDS; k++) {
            buf_finish(&p->index[k]);
            file_use_end(&p->use[k]);
        }
        buf_finish(&p->own_records);
        log->under_way--;
        log_check_quiet(log);
        log_unref(log);
    }
    arena_finish(&g->arena);
    mem_free(g);
    commit_submit(m);
    manager_work_done(m);
}

static struct sync_group *sync_create(struct log_manager *m, int items, int logs)
{
    struct sync_group *g = mem_need_zero(1, sizeof *g);
    g->m = m;
    g->work.run = sync_run;
    g->work.done = sync_done;
    g->items = mem_need_zero((size_t)items + 1, sizeof *g->items);
    g->logs = mem_need_zero((size_t)logs + 1, sizeof *g->logs);
    return g;
}

/* Of what is pending: it is small, and only that it is durable is waited for. */
static bool is_short_way(const struct log_manager *m)
{
    return !m->pending_told && m->pending_bytes <= CHAIN_BYTES;
}

/* Nothing of it needs more than its file's fdatasync. */
static bool is_plain(const struct write_part *p)
{
    return p->count > 0 && !p->create && !p->truncate && !p->log->fresh &&
           !p->use[FILE_LOG].segment->fresh;
}

static size_t records_size(const struct write_part *p)
{
    size_t size = 0;
    for (int i = 0; i < p->count; i++) {
        size += journal_batch_size(p->parts[i].iov_len);
    }
    return size;
}

/* Of a part that goes the long way: is it for the journal, as far as can be told now? */
static bool wants_records(const struct log_manager *m, const struct write_part *p, size_t size)
{
    const struct segment *s = p->use[FILE_LOG].segment;
    return m->journal.file_count > 0 && is_plain(p) && !list_linked(&s->sync_link) &&
           s->records.len + size < DIRECT_BYTES && m->recorded_bytes < RECORDED_BYTES;
}

static void choose_records(struct log_manager *m, struct write_group *g)
{
    size_t all = 0;
    list_each(node, &g->parts)
    {
        struct write_part *p = list_entry(node, struct write_part, link);
        size_t size = records_size(p);
        if (wants_records(m, p, size) && m->recorded_bytes + all + size < RECORDED_BYTES) {
            p->records = &p->own_records;
            all += size;
        }
    }
}

static bool may_chain(const struct log_manager *m, const struct write_group *g)
{
    if (m->sync || !list_empty(&m->unsynced) || !list_empty(&m->recorded) ||
        !list_empty(&m->written)) {
        return false; /* the group would not be all that was written and is not synced */
    }
    list_each(node, &g->parts)
    {
        const struct write_part *p = list_entry(node, struct write_part, link);
        if (!is_plain(p) || !p->use[FILE_LOG].ref) {
            return false;
        }
    }
    return true;
}

/* A place for `size` bytes of records; and for how far logs are durable of which the journal is to
 * say it again, a part of a file at once. */
static void sync_reserve(struct sync_group *g, size_t size)
{
    struct log_manager *m = g->m;
    struct journal *j = &m->journal;
    if (j->file_count == 0) {
        return;
    }
    bool rest = false;
    for (struct map_entry *e = m->carry ? map_first(&m->logs) : NULL; e; e = map_next(e)) {
        struct log *log = map_value(e);
        if (log->carried && (int64_t)g->ends.len < j->file_bytes / 4) {
            journal_add_end(&g->ends, log_journal_id(log), log->durable.offset);
            log->carried = false;
        }
        rest = rest || log->carried;
    }
    m->carry = rest;
    g->has_place = journal_reserve(j, size + g->ends.len, &g->place);
    if (!g->has_place) {
        m->journal_wanted = true;
        journal_carry(m);
        buf_finish(&g->ends);
    }
}

static void chain(struct log_manager *m, struct write_group *g)
{
    struct sync_group *s = sync_create(m, g->part_count, g->part_count);
    size_t size = 0;
    list_each(node, &g->parts)
    {
        size += records_size(list_entry(node, struct write_part, link));
    }
    sync_reserve(s, size);
    list_each(node, &g->parts)
    {
        struct write_part *p = list_entry(node, struct write_part, link);
        if (!s->log_count || s->logs[s->log_count - 1].log != p->log) {
            file_use_begin(&s->items[s->item_count++].use, p->use[FILE_LOG].segment, FILE_LOG,
                           STORE_WRITE);
            log_ref(p->log);
            p->log->under_way++;
            s->logs[s->log_count++] = (struct sync_log){p->log, p->log->durable};
        }
        p->covered = &s->logs[s->log_count - 1]; /* its end is what gets written */
        if (s->has_place) {
            struct sync_item *item = &s->items[s->item_count - 1];
            item->journalled = true;
            p->records = &item->records;
        }
    }
    g->work.quiet = true;
    m->sync = s;
    manager_work(m, m->o.syncer, &g->work);
    manager_work(m, m->o.syncer, &s->work);
}

static void write_begin(struct log_manager *m)
{
    struct write_group *g = mem_need_zero(1, sizeof *g);
    int64_t now_ms = clock_wall_ms(m->o.clock);
    bool short_way = is_short_way(m);
    g->m = m;
    g->work.run = write_run;
    g->work.done = write_done;
    arena_init(&g->arena, SIZE_MAX);
    list_init(&g->parts);
    /* A part keeps its files open until the whole group is done. */
    int parts_max = 1 + m->o.max_open_files / FILE_KINDS / 2;
    for (struct list *node; g->part_count < parts_max && (node = list_pop(&m->dirty));) {
        place_log(g, list_entry(node, struct log, dirty_link), now_ms);
    }
    m->pending_bytes = 0;
    m->pending_told = !list_empty(&m->dirty); /* what is left goes the long way, at once */
    list_each(node, &g->parts)
    {
        struct write_part *p = list_entry(node, struct write_part, link);
        for (enum file_kind k = FILE_INDEX; k <= FILE_TIMEINDEX; k++) {
            if (p->index[k].len && !p->use[k].segment) {
                check(!p->index[k].failed);
                file_use_begin(&p->use[k], p->use[FILE_LOG].segment, k, STORE_CREATE);
            }
        }
    }
    if (list_empty(&g->parts)) {
        arena_finish(&g->arena);
        mem_free(g);
        return;
    }
    m->write = g;
    if (short_way && may_chain(m, g)) {
        chain(m, g);
    } else {
        choose_records(m, g);
        manager_work(m, m->o.writer, &g->work);
    }
}

/* ---- syncing */

static void sync_open(struct sync_group *g, struct sync_item *item)
{
    struct store *store = g->m->o.store;
    g->result = file_use_open(&item->use, store);
    g->unopened = g->result != OK;
    if (!g->result && g->item_count > 1) {
        store->ops->start_sync(store->ctx, item->use.file);
    }
}

static void sync_item(struct sync_group *g, struct sync_item *item)
{
    struct store *store = g->m->o.store;
    g->result = store->ops->sync(store->ctx, item->use.file);
    if (!g->result && item->dir) {
        g->result = store->ops->sync_dir(store->ctx, item->use.segment->log->dir);
    }
    if (!item->use.ref) { /* a group may be of any size */
        store->ops->close(store->ctx, item->use.file);
        item->use.file = NULL;
    }
}

/* Syncs those items that are for the journal, or those that are not: a few at a time, as what is
 * written out together costs the file system less. */
static void sync_items(struct sync_group *g, bool journalled)
{
    for (int from = 0; from < g->item_count && !g->result; from += SYNC_ITEMS) {
        int to = from + SYNC_ITEMS < g->item_count ? from + SYNC_ITEMS : g->item_count;
        for (int i = from; i < to && !g->result; i++) {
            if (g->items[i].journalled == journalled) {
                sync_open(g, &g->items[i]);
            }
        }
        for (int i = from; i < to && !g->result; i++) { /* C1 */
            if (g->items[i].journalled == journalled) {
                sync_item(g, &g->items[i]);
            }
        }
    }
}

static err write_journal(struct sync_group *g)
{
    const struct buf **parts = mem_need(sizeof(struct buf *) * ((size_t)g->item_count + 1));
    bool written = false;
    parts[0] = &g->ends;
    for (int i = 0; i < g->item_count; i++) {
        parts[i + 1] = &g->items[i].records;
    }
    err e = journal_write(&g->m->journal, &g->place, parts, g->item_count + 1, &written);
    mem_free(parts);
    g->place_failed = e && !written;
    return e;
}

static void sync_run(struct work *work)
{
    struct sync_group *g = list_entry(work, struct sync_group, work);
    struct store *store = g->m->o.store;
    sync_items(g, false);
    if (!g->result && g->root) {
        g->result = store->ops->sync_dir(store->ctx, "");
    }
    if (!g->result && g->has_place) {
        g->result = write_journal(g);
    }
    if (g->place_failed) { /* what was for it is in the segments, as everything */
        g->result = OK;
        sync_items(g, true);
    }
}

static void sync_take(struct sync_group *g)
{
    for (int i = 0; i < g->item_count; i++) {
        struct segment *s = g->items[i].use.segment;
        s->fresh = s->fresh && !g->items[i].dir;
        s->journalled = g->items[i].journalled && !g->place_failed;
        s->log->journalled = s->log->journalled || s->journalled;
    }
    for (int i = 0; i < g->log_count; i++) {
        struct log *log = g->logs[i].log;
        log->fresh = log->fresh && !g->root;
        bool moved = g->logs[i].end.offset > log->durable.offset;
        log->durable = g->logs[i].end;
        check(log->durable.offset <= log->written.offset); /* L1 */
        if (moved) {
            log_add_hint(log);
            log_complete_durable(log);
            log_notify(log, false);
        }
        if (!log->closed && log->segment_count > 1 &&
            log->segments[1]->base_offset <= log->start_offset) {
            log_drop_below_start(log); /* DeleteRecords asked for the segment that ended here */
        }
    }
}

/* A file could not be opened, for want of a descriptor mostly: whatever was synced of the group can
 * be synced again, and the rest is as it was. So it is tried again. */
static void sync_put_back(struct sync_group *g)
{
    struct log_manager *m = g->m;
    if (!m->sync_delayed) {
        m->sync_delayed = true;
        diag_log(m->o.diag, DIAG_ERROR, "sync_delayed", "error=\"%s\"", err_text(g->result));
    }
    for (int i = g->item_count - 1; i >= 0; i--) { /* to the head of the queue, in its order: C1 */
        struct segment *s = g->items[i].use.segment;
        if (!list_linked(&s->sync_link)) {
            segment_ref(s);
        }
        list_remove(&s->sync_link);
        list_push_front(&m->unsynced, &s->sync_link);
        drop_records(s);
    }
    if (g->has_place) { /* what was to be said there */
        journal_carry(m);
    }
    if (g->has_place && !g->place_failed) {
        journal_put_back(&m->journal, &g->place);
    }
    for (int i = 0; i < g->log_count; i++) {
        struct log *log = g->logs[i].log;
        if (!list_linked(&log->synced_link)) {
            log_ref(log);
            list_push(&m->written, &log->synced_link);
        }
    }
    timer_arm(m->o.timers, &m->sync_again, clock_mono_ms(m->o.clock) + SYNC_AGAIN_MS);
}

void sync_again_fire(struct timer *timer)
{
    commit_submit(list_entry(timer, struct log_manager, sync_again));
}

static void sync_done(struct work *work)
{
    struct sync_group *g = list_entry(work, struct sync_group, work);
    struct log_manager *m = g->m;
    m->sync = NULL;
    if (g->place_failed) {
        diag_log(m->o.diag, DIAG_WARN, "journal_write_failed", "file=%d", g->place.file->number);
        journal_abandon(&m->journal, &g->place);
    }
    bool lost_nothing = g->unopened || g->result == ERR_NO_FILES;
    if (g->result && lost_nothing && !m->stopping) {
        sync_put_back(g);
    } else if (g->result) {
        m->dead = true;
        diag_log(m->o.diag, DIAG_ERROR, "sync_failed", "error=\"%s\"", err_text(g->result));
    } else {
        m->sync_delayed = false;
        sync_take(g);
        if (g->place_failed) { /* the ends that were to be said there */
            journal_carry(m);
        }
        checkpoint_arm(m);
        journal_tend(m);
    }
    for (int i = 0; i < g->item_count; i++) {
        buf_finish(&g->items[i].records);
        file_use_end(&g->items[i].use);
    }
    buf_finish(&g->ends);
    for (int i = 0; i < g->log_count; i++) {
        g->logs[i].log->under_way--;
        log_check_quiet(g->logs[i].log);
        log_unref(g->logs[i].log);
    }
    mem_free(g->items);
    mem_free(g->logs);
    mem_free(g);
    commit_submit(m);
    manager_work_done(m);
}

/* Everything that was written since, for the journal if it has a place: those first, C1. */
static void add_recorded(struct sync_group *g)
{
    struct log_manager *m = g->m;
    for (struct list *node; (node = list_pop(&m->recorded));) {
        struct segment *s = list_entry(node, struct segment, record_link);
        struct sync_item *item = &g->items[g->item_count++];
        file_use_begin(&item->use, s, FILE_LOG, STORE_WRITE);
        if (g->has_place) {
            item->journalled = true;
            item->records = s->records;
        } else {
            buf_finish(&s->records);
        }
        s->records = (struct buf){0};
        segment_unref(s); /* the use holds it */
    }
    m->recorded_bytes = 0;
}

static void add_unsynced(struct sync_group *g)
{
    struct log_manager *m = g->m;
    for (struct list *node; (node = list_pop(&m->unsynced));) {
        struct segment *s = list_entry(node, struct segment, sync_link);
        struct sync_item *item = &g->items[g->item_count++];
        item->dir = s->fresh;
        g->root = g->root || s->log->fresh;
        file_use_begin(&item->use, s, FILE_LOG, STORE_WRITE);
        segment_unref(s); /* the use holds it */
    }
}

static void sync_begin(struct log_manager *m)
{
    int items = list_count(&m->unsynced) + list_count(&m->recorded);
    struct sync_group *g = sync_create(m, items, list_count(&m->written));
    /* A group of large runs costs no second sync: how far it goes is said with a later one. */
    if (!list_empty(&m->recorded) || ++m->unsaid_groups >= UNSAID_GROUPS) {
        sync_reserve(g, m->recorded_bytes + journal_end_size() * (size_t)items);
        m->unsaid_groups = 0;
    }
    list_each(node, &m->unsynced)
    {
        list_entry(node, struct segment, sync_link)->log->direct = true;
    }
    add_recorded(g);
    add_unsynced(g);
    for (struct list *node; (node = list_pop(&m->written));) {
        struct log *log = list_entry(node, struct log, synced_link);
        log->under_way++;
        g->logs[g->log_count++] = (struct sync_log){log, log->written};
        if (log->direct && g->has_place) {
            journal_add_end(&g->ends, log_journal_id(log), log->written.offset);
        } else if (log->direct) {
            log->carried = m->carry = true;
        }
        log->direct = false;
    }
    m->sync = g;
    manager_work(m, m->o.syncer, &g->work);
}

void commit_submit(struct log_manager *m)
{
    if (m->dead) {
        for (struct list *node; (node = list_pop(&m->dirty));) {
            log_fail_pending(list_entry(node, struct log, dirty_link), ERR_IO); /* the writer has
                                                                                   the others */
        }
        return;
    }
    if (!m->write && !list_empty(&m->dirty) && m->closing <= m->o.max_open_files / 2 &&
        !(m->sync && is_short_way(m))) {
        write_begin(m);
    }
    if (!m->sync && !timer_armed(&m->sync_again) &&
        !(list_empty(&m->unsynced) && list_empty(&m->written))) {
        sync_begin(m);
    }
}

void log_manager_submit(struct log_manager *m)
{
    m->said_unsubmitted = false;
    commit_submit(m);
}

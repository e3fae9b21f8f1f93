/* One partition. Invariants:
 *   L1  start <= durable.offset <= written.offset <= next_offset
 *   L2  pending and writing hold, in order, exactly the appends from written.offset to next_offset
 * (duplicates take no offsets) L3  an append that fails takes everything behind it along: no offset
 * is given twice to records that both count L4  `durable` is called in the order of log_append
 */
#include "broker/log/internal.h"

#include "base/check.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

struct log *log_create(struct log_manager *m, struct str topic, struct uuid id, int32_t partition,
                       const struct log_config *config)
{
    struct log *log = mem_need_zero(1, sizeof *log);
    log->m = m;
    log->topic = (struct str){mem_need_dup(topic.ptr, topic.len), topic.len};
    log->id = id;
    log->partition = partition;
    log->config = *config;
    size_t size = topic.len + 16;
    log->dir = mem_need(size);
    snprintf(log->dir, size, "%.*s-%d", STR_ARG(topic), partition);
    producer_state_init(&log->producers, m->logs.seed);
    list_init(&log->pending);
    list_init(&log->writing);
    list_init(&log->waiting);
    list_init(&log->watchers);
    list_init(&log->removals);
    list_init(&log->dirty_link);
    list_init(&log->synced_link);
    list_init(&log->clean_link);
    log->snapshot_offset = -1;
    log->refs = 1;
    return log;
}

struct journal_id log_journal_id(const struct log *log)
{
    return (struct journal_id){log->id, log->partition};
}

void log_ref(struct log *log)
{
    log->refs++;
}

void log_unref(struct log *log)
{
    check(log->refs > 0);
    if (--log->refs == 0) {
        check(log->segment_count == 0 && list_empty(&log->pending) && list_empty(&log->writing));
        producer_state_finish(&log->producers);
        mem_free((void *)(uintptr_t)log->topic.ptr);
        mem_free(log->dir);
        mem_free(log->segments);
        mem_free(log->epochs);
        mem_free(log->hints);
        mem_free(log);
    }
}

void log_add_segment(struct log *log, struct segment *s)
{
    if (log->segment_count == log->segment_slots) {
        log->segment_slots = log->segment_slots ? log->segment_slots * 2 : 2;
        log->segments =
            mem_need_resize(log->segments, sizeof(struct segment *) * (size_t)log->segment_slots);
    }
    log->segments[log->segment_count++] = s;
}

void log_drop_segments_from(struct log *log, int32_t index)
{
    while (log->segment_count > index) {
        struct segment *s = log->segments[--log->segment_count];
        segment_close_files(s);
        segment_unref(s);
    }
}

struct segment *log_active(const struct log *log)
{
    return log->segments[log->segment_count - 1];
}

void log_note_epoch(struct log *log, int32_t epoch, int64_t start_offset)
{
    if (log->epoch_count && log->epochs[log->epoch_count - 1].epoch >= epoch) {
        return;
    }
    log->epochs =
        mem_need_resize(log->epochs, sizeof *log->epochs * ((size_t)log->epoch_count + 1));
    log->epochs[log->epoch_count++] = (struct log_epoch){epoch, start_offset};
    log->epochs_dirty = true;
}

/* ---- appending */

static err check_producer(struct log *log, struct log_append *a)
{
    struct producer_batch original;
    if (a->info.producer_id < 0) {
        return OK;
    }
    err e = producer_state_check(&log->producers, &a->info, &original);
    if (e == ERR_EXISTS) {
        a->duplicate = true;
        a->base_offset = original.last_offset - original.offset_delta;
        a->end_offset = original.last_offset + 1;
        return OK;
    }
    return e;
}

static bool take_room(struct log *log, size_t size)
{
    struct log_manager *m = log->m;
    if (m->room_bytes < 0) {
        return true;
    }
    if (!log->config.uses_reserve || (int64_t)size > m->room_bytes) {
        return false;
    }
    m->room_bytes -= (int64_t)size;
    return true;
}

err log_append(struct log *log, struct log_append *a)
{
    struct log_manager *m = log->m;
    if (log->closed || m->stopping) {
        return ERR_CLOSED;
    }
    if (log->fenced || m->dead) {
        return ERR_IO;
    }
    a->duplicate = false;
    a->append_time_ms = -1;
    err e = check_producer(log, a);
    if (e) {
        return e;
    }
    int64_t now_ms = clock_wall_ms(m->o.clock);
    if (!a->duplicate && !take_room(log, a->size)) {
        return ERR_NO_SPACE;
    }
    if (!a->duplicate) {
        a->base_offset = log->next_offset;
        a->end_offset = log->next_offset + a->info.last_offset_delta + 1;
        a->append_time_ms =
            a->info.attributes & BATCH_ATTRIBUTE_APPEND_TIME ? a->info.max_timestamp : -1;
        batch_set_offset(a->batch, a->base_offset, m->o.leader_epoch);
        if (a->info.producer_id >= 0) {
            producer_state_append(&log->producers, &a->info, a->base_offset, now_ms);
        }
        log->next_offset = a->end_offset;
    }
    a->log = log;
    list_push(&log->pending, &a->link);
    m->pending_bytes += (int64_t)a->size;
    m->pending_told = m->pending_told || a->written || !a->durable;
    if (!list_linked(&log->dirty_link)) {
        list_push(&m->dirty, &log->dirty_link);
    }
    manager_say_unsubmitted(m);
    return OK;
}

static void append_failed(struct log_append *a, err e)
{
    /* The memory may go with the last callback: nothing is touched after it. */
    void (*written)(struct log_append *, err) = a->written;
    void (*durable)(struct log_append *, err) = a->durable;
    a->log = NULL;
    if (written) {
        written(a, e);
    }
    if (durable) {
        durable(a, e);
    }
}

static void fail_all(struct log *log, struct list *failed, int64_t next_offset, err e)
{
    list_remove(&log->dirty_link);
    log->next_offset = next_offset;
    producer_state_rollback(&log->producers, next_offset);
    for (struct list *node; (node = list_pop(failed));) {
        append_failed(list_entry(node, struct log_append, link), e);
    }
}

void log_fail(struct log *log, err e)
{
    struct list failed;
    list_init(&failed);
    list_splice(&failed, &log->writing);
    list_splice(&failed, &log->pending);
    fail_all(log, &failed, log->written.offset, e);
}

void log_fail_pending(struct log *log, err e)
{
    struct list failed;
    int64_t next_offset = log->written.offset;
    list_each(node, &log->writing)
    {
        const struct log_append *a = list_entry(node, struct log_append, link);
        next_offset = a->end_offset > next_offset ? a->end_offset : next_offset;
    }
    list_init(&failed);
    list_splice(&failed, &log->pending);
    fail_all(log, &failed, next_offset, e);
}

void log_complete_durable(struct log *log)
{
    while (!list_empty(&log->waiting)) {
        struct log_append *a = list_entry(log->waiting.next, struct log_append, link);
        if (a->end_offset > log->durable.offset) {
            return;
        }
        list_remove(&a->link);
        a->log = NULL;
        if (a->durable) {
            a->durable(a, OK);
        }
    }
}

/* ---- what it is now */

int32_t log_producer_count(const struct log *log)
{
    return (int32_t)producer_state_count(&log->producers);
}

void log_producers(const struct log *log, struct log_producer *ret)
{
    const struct map_entry *e = map_first(&log->producers.producers);
    for (; e; e = map_next(e), ret++) {
        const struct producer *p = map_value(e);
        *ret = (struct log_producer){.id = p->id,
                                     .epoch = p->epoch,
                                     .last_sequence =
                                         p->count > 0 ? p->batches[p->count - 1].last_sequence : -1,
                                     .used_ms = p->used_ms};
    }
}

int64_t log_start_offset(const struct log *log)
{
    return log->start_offset;
}

int64_t log_high_watermark(const struct log *log)
{
    return log->durable.offset;
}

int64_t log_end_offset(const struct log *log)
{
    return log->next_offset;
}

int64_t log_size_bytes(const struct log *log)
{
    int64_t size = 0;
    for (int32_t i = 0; i < log->segment_count; i++) {
        size += log->segments[i]->tail.size;
    }
    return size;
}

int32_t log_leader_epoch(const struct log *log)
{
    return log->m->o.leader_epoch;
}

/* The index of the last epoch that begins at or below `offset`; -1. */
static int32_t epoch_index(const struct log *log, int64_t offset)
{
    int32_t i = log->epoch_count - 1;
    while (i >= 0 && log->epochs[i].start_offset > offset) {
        i--;
    }
    return i;
}

int32_t log_epoch_at(const struct log *log, int64_t offset)
{
    int32_t i = epoch_index(log, offset);
    return i < 0 ? -1 : log->epochs[i].epoch;
}

void log_epoch_end(const struct log *log, int32_t epoch, int32_t *ret_epoch,
                   int64_t *ret_end_offset)
{
    *ret_epoch = -1;
    *ret_end_offset = -1;
    if (epoch < 0 || epoch > log->m->o.leader_epoch) {
        return;
    }
    *ret_epoch = epoch;
    *ret_end_offset = log->durable.offset;
    if (epoch == log->m->o.leader_epoch) { /* the current one, used or not yet */
        return;
    }
    int32_t i = log->epoch_count - 1;
    while (i >= 0 && log->epochs[i].epoch > epoch) {
        *ret_end_offset = log->epochs[i--].start_offset;
    }
    *ret_epoch = i < 0 ? epoch : log->epochs[i].epoch;
    *ret_end_offset = *ret_end_offset < log->start_offset ? log->start_offset : *ret_end_offset;
}

void log_set_config(struct log *log, const struct log_config *config)
{
    log->config = *config;
    retention_arm(log);
}

/* ---- watchers */

void log_watch(struct log *log, struct log_watcher *w)
{
    list_push(&log->watchers, &w->link);
}

void log_unwatch(struct log_watcher *w)
{
    list_remove(&w->link);
}

void log_notify(struct log *log, bool closed)
{
    /* Each one goes back to the log's list before it is called, so that it can unwatch itself or
     * any other. */
    struct list due;
    list_init(&due);
    list_splice(&due, &log->watchers);
    log_ref(log);
    for (struct list *node; (node = list_pop(&due));) {
        struct log_watcher *w = list_entry(node, struct log_watcher, link);
        if (!closed) {
            list_push(&log->watchers, &w->link);
        }
        w->moved(w, closed);
    }
    log_unref(log);
}

void log_close(struct log *log)
{
    if (!log->closed) {
        log->closed = true;
        log_notify(log, true);
    }
}

/* The cleaner: when a log is cleaned, and the loop's side of it.
 *
 *   recovery points are written -> worth it? -> [to_clean] -> MAP -> COPY -> SWAP -> COPY ... ->
 * worth it? \      \-> (swap failed) wait, SWAP again
 *                                                         \-> DROP (an error, or nothing to change)
 *
 * One log at a time, in steps on the reader, so that a cold read waits for one step at most. In
 * each, the worker touches the cleaning alone, and files.
 *
 * What is cleaned: sealed segments below the recovery point, from the first one on. Below it
 * nothing is ever written again (by a start neither), and the producers are in a snapshot. A first
 * pass over the dirty part, [clean_end, ...), puts keys into a map of bounded size; what does not
 * fit is left for another cleaning. Then all segments from the first one on are copied without what
 * the map says is old; neighbours go into one segment as long as it stays below segment.bytes.
 * compact_copy.c says what stays, compact_swap.c how files change places. Offsets never change,
 * times and codecs neither.
 *
 * When it is worth it: the dirty part is min.cleanable.dirty.ratio of all that can be cleaned.
 * Cleaning needs sealed segments, so the active one is rolled when it is worth it, too:
 * rivulet.compact.roll.bytes at least, as large as the dirty segments that wait (so their number
 * grows with the logarithm of what is appended), and with them the ratio. That is looked at when
 * something is appended, and a cleaning begins behind a checkpoint: there is
 * no timer, an idle log costs nothing. A log costs its keys twice and some rolls' worth at a start.
 *
 * clean_end is not kept over a restart: the first cleaning takes everything for dirty. A wrong one
 * could let a tombstone go before what it deleted; this cannot be wrong.
 *
 * Readers: extents and open files of the old segments stay good, their files are open. Whoever
 * would open one by its name is on the reader, as the swap is; what it did with a segment that was
 * replaced meanwhile is thrown away and done again (read.c, query.c).
 *
 * Invariants:
 *   N1  a segment with `cleaning` set stays in its log, with its neighbours: retention waits
 *   N2  during a step the log's directory keeps its name: under_way
 *   N3  behind the commit a swap is ended, by this process or by a start; before it, the sources
 * are whole and nothing is lost by giving up
 */
#include "broker/log/compact.h"

#include "base/check.h"
#include "base/mem.h"
#include "base/rand.h"

#include <stdlib.h>

enum { SWAP_AGAIN_MS = 1000 };

static void next_cleaning(struct log_manager *m);
static void cleaned(struct cleaning *c);

/* ---- when */

struct measure {
    int32_t count; /* segments that can be cleaned */
    int64_t bytes; /* of them */
    int64_t dirty; /* bytes of those that have records from clean_end on */
    int64_t end;   /* base of the segment behind them */
};

/* Sealed segments up to `limit` (an offset). */
static struct measure measure(const struct log *log, int64_t limit)
{
    struct measure a = {.end = log->segments[0]->base_offset};
    int64_t newest_ms = clock_wall_ms(log->m->o.clock) - log->config.min_compaction_lag_ms;
    for (; a.count + 1 < log->segment_count; a.count++) {
        const struct segment *s = log->segments[a.count];
        int64_t end = log->segments[a.count + 1]->base_offset;
        if (!s->sealed || end > limit || s->base_offset >= log->durable.base_offset ||
            list_linked(&s->sync_link) || s->bad_count > 0 ||
            (log->config.min_compaction_lag_ms > 0 && s->tail.max_timestamp > newest_ms)) {
            break;
        }
        a.bytes += s->tail.size;
        a.dirty += end > log->clean_end ? s->tail.size : 0;
        a.end = end;
    }
    return a;
}

static bool is_worth(const struct log *log, int64_t dirty, int64_t all)
{
    return dirty > 0 && (double)dirty >= log->config.min_cleanable_ratio * (double)all;
}

static bool may_clean(const struct log *log)
{
    return log->config.compact && !log->fenced && !log->closed && !log->uncleanable &&
           log->segment_count > 1;
}

/* Asked at each append: cheap while the active segment is small. */
bool compact_wants_roll(const struct log *log)
{
    int64_t size = log_active(log)->tail.size;
    if (!log->config.compact || size < log->config.compact_roll_bytes || log->uncleanable) {
        return false;
    }
    struct measure a = measure(log, INT64_MAX);
    return size >= a.dirty && is_worth(log, a.dirty + size, a.bytes + size);
}

/* There are sealed segments that only the recovery point keeps from being cleaned. */
bool compact_wants_checkpoint(const struct log *log)
{
    return may_clean(log) && log_active(log)->base_offset > log->saved_point &&
           log_active(log)->base_offset > log->clean_end;
}

static void consider(struct log *log)
{
    struct log_manager *m = log->m;
    if (!may_clean(log) || m->stopping || m->dead || list_linked(&log->clean_link) ||
        (m->cleaning && m->cleaning->log == log)) {
        return;
    }
    struct measure a = measure(log, log->saved_point);
    if (is_worth(log, a.dirty, a.bytes)) {
        log_ref(log);
        list_push(&m->to_clean, &log->clean_link);
        next_cleaning(m);
    }
}

void compact_checkpointed(struct log_manager *m, bool written)
{
    for (struct map_entry *e = map_first(&m->logs); e; e = map_next(e)) {
        struct log *log = map_value(e);
        if (log->config.compact) {
            log->saved_point = written ? log->recovery_point : log->saved_point;
            m->checkpoint_due = m->checkpoint_due || compact_wants_checkpoint(log);
            consider(log);
        }
    }
}

/* ---- steps */

static void step_done(struct work *work);

static void step_run(struct work *work)
{
    clean_run(list_entry(work, struct cleaning, work));
}

static void step(struct cleaning *c)
{
    c->log->under_way++; /* N2 */
    c->work.run = step_run;
    c->work.done = step_done;
    manager_work(c->m, c->m->o.reader, &c->work);
}

static void swap_again(struct timer *timer)
{
    struct cleaning *c = list_entry(timer, struct cleaning, again);
    if (c->log->destroyed) { /* its directory is another's, perhaps */
        cleaned(c);
    } else {
        step(c);
    }
}

static int compare_offsets(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* What the producers' last batches end with, of what is durable. */
static void collect_producers(struct cleaning *c)
{
    const struct producer_state *p = &c->log->producers;
    c->kept = mem_need((producer_state_count(p) + 1) * sizeof *c->kept);
    for (struct map_entry *e = map_first(&p->producers); e; e = map_next(e)) {
        const struct producer *known = map_value(e);
        int i = known->count - 1;
        while (i >= 0 && known->batches[i].last_offset >= c->log->durable.offset) {
            i--;
        }
        if (i >= 0) {
            c->kept[c->kept_count++] = known->batches[i].last_offset;
        }
    }
    qsort(c->kept, c->kept_count, sizeof *c->kept, compare_offsets);
}

static void begin(struct log_manager *m, struct log *log, const struct measure *a)
{
    struct cleaning *c = mem_need_zero(1, sizeof *c);
    uint8_t secret[16];
    rand_system(secret, sizeof secret);
    c->m = m;
    c->log = log;
    c->config = log->config;
    c->now_ms = clock_wall_ms(m->o.clock);
    c->from = log->clean_end;
    timer_init(&c->again, swap_again);
    c->sources = mem_need((size_t)a->count * sizeof *c->sources);
    c->source_count = a->count;
    for (int32_t i = 0; i < a->count; i++) {
        struct segment *s = log->segments[i];
        c->sources[i] = (struct clean_source){s, log->segments[i + 1]->base_offset};
        segment_ref(s);
        s->cleaning = true; /* N1 */
    }
    collect_producers(c);
    int64_t first = log->segments[0]->base_offset;
    offset_map_init(&c->map, a->end - (c->from > first ? c->from : first),
                    m->o.compact_memory_bytes, secret);
    m->cleaning = c;
    step(c);
}

static void next_cleaning(struct log_manager *m)
{
    while (!m->cleaning && !list_empty(&m->to_clean)) {
        struct log *log = list_entry(list_pop(&m->to_clean), struct log, clean_link);
        struct measure a = {0};
        bool may = may_clean(log) && !log->destroyed && !m->stopping && !m->dead;
        if (may) {
            a = measure(log, log->saved_point);
        }
        if (may && is_worth(log, a.dirty, a.bytes)) {
            begin(m, log, &a);
        } else {
            log_unref(log);
        }
    }
}

/* Its files are closed; nothing of it is under way. */
static void end(struct cleaning *c)
{
    struct log_manager *m = c->m;
    struct log *log = c->log;
    for (int32_t i = 0; i < c->source_count; i++) {
        c->sources[i].segment->cleaning = false;
        segment_unref(c->sources[i].segment);
    }
    for (int k = 0; k < FILE_KINDS; k++) {
        buf_finish(&c->out.bytes[k]);
    }
    offset_map_finish(&c->map);
    batch_scratch_finish(&c->scratch);
    buf_finish(&c->chunk);
    mem_free(c->out.bases);
    mem_free(c->sources);
    mem_free(c->kept);
    timer_disarm(m->o.timers, &c->again);
    mem_free(c);
    m->cleaning = NULL;
    log_unref(log);
}

/* ---- the new segment in the place of its sources */

static void forget_hints(struct log *log, int64_t from, int64_t end)
{
    for (int i = 0; log->hints && i < HINTS; i++) { /* their positions are of the old files */
        if (log->hints[i].base_offset >= from && log->hints[i].base_offset < end) {
            log->hints[i] = (struct mark){.offset = -1};
        }
    }
}

static void take(struct cleaning *c)
{
    struct log *log = c->log;
    const struct clean_output *out = &c->out;
    const struct clean_source *sources = &c->sources[out->first];
    int32_t at = log_segment_at(log, out->base_offset);
    struct segment *s = segment_create(log, out->base_offset);
    s->tail = out->tail;
    s->written_size = out->tail.size;
    s->index_written = out->tail.index_count;
    s->time_written = out->tail.time_count;
    s->created_ms = sources[0].segment->created_ms;
    s->sealed = true;
    for (int32_t i = 0; i < out->count; i++) {
        struct segment *old = sources[i].segment;
        check(log->segments[at + i] == old); /* N1 */
        old->removed = true;
        old->replaced = true;
        segment_close_files(old);
        segment_unref(old);
    }
    log->segments[at] = s;
    log->segment_count -= out->count - 1;
    memmove(log->segments + at + 1, log->segments + at + out->count,
            sizeof *log->segments * (size_t)(log->segment_count - at - 1));
    forget_hints(log, out->base_offset, sources[out->count - 1].end_offset);
}

/* ---- what comes after a step */

static void drop(struct cleaning *c)
{
    /* In a directory that is to go, or that is another log's by now, nothing is touched. */
    c->remove = c->out.open && !c->log->destroyed;
    c->phase = CLEAN_DROP;
    step(c);
}

static void give_up(struct cleaning *c, err e)
{
    struct log *log = c->log;
    c->failed = e;
    if (!log->destroyed && !c->m->stopping) {
        diag_log(c->m->o.diag, DIAG_WARN, "compaction_failed", "dir=%s error=\"%s\"", log->dir,
                 err_text(e));
        log->uncleanable = e == ERR_CORRUPT || e == ERR_UNSUPPORTED; /* it would be found again */
    }
    drop(c);
}

static void cleaned(struct cleaning *c)
{
    struct log *log = c->log;
    struct log_manager *m = c->m;
    bool failed = c->failed != OK;
    if (!failed && !log->destroyed) {
        diag_log(m->o.diag, DIAG_INFO, "log_cleaned",
                 "dir=%s upto=%lld keys=%zu bytes_before=%lld bytes_after=%lld segments=%d",
                 log->dir, (long long)c->map_end, c->map.used, (long long)c->bytes_before,
                 (long long)c->bytes_after, log->segment_count);
        log->clean_end = c->map_end;
    }
    log_ref(log);
    end(c);
    if (!log->destroyed && !m->stopping) {
        log_drop_below_start(log); /* it had to wait: N1 */
    }
    if (!failed) {
        consider(log);
    }
    log_unref(log);
    next_cleaning(m);
}

static void copied(struct cleaning *c)
{
    if (c->out.changed) {
        c->phase = CLEAN_SWAP;
        c->stage = SWAP_BEGIN;
        step(c);
    } else {
        drop(c);
    }
}

/* The next segment, or there is none. */
static void go_on(struct cleaning *c)
{
    if (c->failed || c->at == c->source_count) {
        cleaned(c);
    } else {
        c->phase = CLEAN_COPY;
        step(c);
    }
}

static void swap_failed(struct cleaning *c)
{
    struct log_manager *m = c->m;
    if (c->stage == SWAP_BEGIN) {
        give_up(c, c->result);
    } else if (m->stopping || m->dead || c->log->destroyed) {
        c->failed = c->result; /* N3: a start ends it */
        cleaned(c);
    } else {
        if (!c->failed) {
            diag_log(m->o.diag, DIAG_ERROR, "compaction_waits", "dir=%s error=\"%s\"", c->log->dir,
                     err_text(c->result));
        }
        c->failed = c->result;
        timer_arm(m->o.timers, &c->again, clock_after_ms(m->o.clock, SWAP_AGAIN_MS));
    }
}

static void after(struct cleaning *c)
{
    bool over = c->log->destroyed || c->m->stopping || c->m->dead;
    if (c->phase == CLEAN_SWAP) {
        if (c->result) {
            swap_failed(c);
            return;
        }
        c->failed = OK;
        c->out.open = false;
        if (!c->log->destroyed) {
            take(c);
        }
        if (over) {
            c->failed = ERR_CLOSED;
        }
        go_on(c);
    } else if (c->phase == CLEAN_DROP) {
        if (c->result && !over) { /* what is left, the next attempt or start removes */
            diag_log(c->m->o.diag, DIAG_WARN, "compaction_left_files", "dir=%s error=\"%s\"",
                     c->log->dir, err_text(c->result));
        }
        go_on(c);
    } else if (c->result || over) {
        give_up(c, c->result ? c->result : ERR_CLOSED);
    } else if (!c->phase_over) {
        step(c);
    } else if (c->phase == CLEAN_MAP) {
        c->phase = CLEAN_COPY;
        step(c);
    } else {
        copied(c);
    }
}

static void step_done(struct work *work)
{
    struct cleaning *c = list_entry(work, struct cleaning, work);
    struct log_manager *m = c->m;
    struct log *log = c->log;
    log_ref(log);
    log->under_way--;
    after(c);
    log_check_quiet(log);
    log_unref(log);
    manager_work_done(m);
}

void compact_stop(struct log_manager *m)
{
    for (struct list *node; (node = list_pop(&m->to_clean));) {
        log_unref(list_entry(node, struct log, clean_link));
    }
    if (m->cleaning && timer_armed(&m->cleaning->again)) {
        end(m->cleaning);
    }
}

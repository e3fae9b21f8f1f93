/* Reading without waiting. An offset becomes a position by a former high watermark (what a reader
 * that keeps up asks for), else by the index and a walk over headers, all from the page cache. What
 * is given out is a range of one segment file that is (R1) below the high watermark, (R2) verified
 * by this process: written by it, or checked by log_warm, (R3) in the page cache, as far as a probe
 * of its pages can tell.
 */
#include "broker/log/internal.h"

#include "base/check.h"
#include "base/mem.h"

#include <string.h>

enum { READ_WINDOW = 4096, PROBE_STEP = 131072, RECENT_BYTES = 4194304 };

int32_t log_segment_at(const struct log *log, int64_t offset)
{
    int32_t low = 0;
    int32_t high = log->segment_count - 1;
    while (low < high) {
        int32_t middle = low + (high - low + 1) / 2;
        if (log->segments[middle]->base_offset <= offset) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

int64_t segment_readable_end(const struct segment *s)
{
    const struct mark *end = &s->log->durable;
    if (s->base_offset == end->base_offset) {
        return end->position;
    }
    return s->base_offset < end->base_offset ? s->written_size : 0;
}

/* ---- hints */

void log_add_hint(struct log *log)
{
    if (!log->hints) {
        log->hints = mem_need(sizeof *log->hints * HINTS);
        for (int i = 0; i < HINTS; i++) {
            log->hints[i] = (struct mark){.offset = -1};
        }
    }
    log->hints[log->hint_next] = log->durable;
    log->hint_next = (log->hint_next + 1) % HINTS;
}

const struct mark *log_find_hint(const struct log *log, int64_t offset)
{
    for (int i = 0; log->hints && i < HINTS; i++) {
        if (log->hints[i].offset == offset) {
            return &log->hints[i];
        }
    }
    return NULL;
}

/* ---- verified ranges */

bool segment_is_verified(const struct segment *s, int64_t position, int64_t *ret_to)
{
    if (position >= s->own_from) {
        *ret_to = INT64_MAX;
        return true;
    }
    for (int i = 0; s->spans && i < SPANS; i++) {
        if (s->spans[i].from <= position && position < s->spans[i].to) {
            *ret_to = s->spans[i].to >= s->own_from ? INT64_MAX : s->spans[i].to;
            return true;
        }
    }
    return false;
}

void segment_add_verified(struct segment *s, int64_t from, int64_t to)
{
    if (from >= to) {
        return;
    }
    if (!s->spans) {
        s->spans = mem_need_zero(SPANS, sizeof *s->spans);
    }
    for (int i = 0; i < SPANS; i++) { /* takes in all that touch it */
        struct span *old = &s->spans[i];
        if (old->from < old->to && old->from <= to && from <= old->to) {
            from = old->from < from ? old->from : from;
            to = old->to > to ? old->to : to;
            *old = (struct span){0};
        }
    }
    struct span *least = s->spans;
    for (int i = 1; i < SPANS; i++) {
        if (s->spans[i].to - s->spans[i].from < least->to - least->from) {
            least = &s->spans[i];
        }
    }
    *least = (struct span){from, to};
    if (from == 0 && to >= s->own_from) {
        s->own_from = 0;
    }
}

/* ---- batches that fail their checksum */

bool segment_is_bad(const struct segment *s, int64_t position)
{
    for (int i = 0; i < s->bad_count && i < BAD_KNOWN; i++) {
        if (s->bad[i] == position) {
            return true;
        }
    }
    return false;
}

static int64_t first_bad_behind(const struct segment *s, int64_t position, int64_t to)
{
    for (int i = 0; i < s->bad_count && i < BAD_KNOWN; i++) {
        if (position < s->bad[i] && s->bad[i] < to) {
            to = s->bad[i];
        }
    }
    return to;
}

void segment_mark_bad(struct segment *s, int64_t position)
{
    if (!s->bad) {
        s->bad = mem_need(BAD_KNOWN * sizeof *s->bad);
    }
    s->bad[s->bad_count % BAD_KNOWN] = position;
    s->bad_count++;
}

/* Nothing from `from` on counts as verified any more. */
static void segment_distrust(struct segment *s, int64_t from)
{
    if (s->own_from < from) {
        int64_t own = s->own_from;
        s->own_from = INT64_MAX;
        segment_add_verified(s, own, from);
    }
    s->own_from = INT64_MAX;
    for (int i = 0; s->spans && i < SPANS; i++) {
        s->spans[i].to = s->spans[i].to > from ? from : s->spans[i].to;
        s->spans[i].from = s->spans[i].from > from ? from : s->spans[i].from;
    }
}

void segment_note_bad(struct segment *s, int64_t position, int64_t offset)
{
    const struct log *log = s->log;
    if (segment_is_bad(s, position)) {
        return;
    }
    segment_mark_bad(s, position);
    if (s->sealed) { /* what is being written is in the page cache as it came */
        segment_distrust(s, position);
    }
    diag_log(log->m->o.diag, DIAG_ERROR, "batch_corrupt",
             "dir=%s base=%lld position=%lld offset=%lld", log->dir, (long long)s->base_offset,
             (long long)position, (long long)offset);
}

/* ---- log_read */

/* Nothing from an offset to the end of a segment: the next one has it (a gap that compaction left),
 * unless rot ends this one. */
static err behind_last(const struct segment *s, int64_t end)
{
    return segment_is_bad(s, end) ? ERR_CORRUPT : ERR_RANGE;
}

static err find_position(struct log *log, struct segment *s, struct walk *w, int64_t offset,
                         int64_t *ret_position, struct batch_header *ret_header)
{
    const struct mark *hint = log_find_hint(log, offset);
    if (hint && hint->base_offset == s->base_offset) {
        err e = walk_header(w, hint->position, ret_header);
        if (e || ret_header->base_offset == offset) {
            *ret_position = hint->position;
            return e;
        }
    }
    struct store_file *index = NULL;
    if (s->index_written > 0) {
        struct seg_file *f = seg_file_cached(s, FILE_INDEX);
        if (!f) {
            return ERR_AGAIN;
        }
        index = f->file;
    }
    return scan_to_offset(w, index, s->index_written, s->base_offset, offset, ret_position,
                          ret_header);
}

/* Are its pages there? What was written a moment ago surely is. */
static bool is_resident(struct log *log, struct segment *s, struct store_file *file, int64_t from,
                        int64_t to)
{
    struct store *store = log->m->o.store;
    if (s == log_active(log) && from >= s->own_from && from >= s->written_size - RECENT_BYTES) {
        return true;
    }
    for (int64_t at = from; at < to; at += PROBE_STEP) {
        uint8_t byte;
        size_t got;
        if (store->ops->read_cached(store->ctx, file, &byte, 1, at, &got)) {
            return false;
        }
    }
    uint8_t byte;
    size_t got;
    return !store->ops->read_cached(store->ctx, file, &byte, 1, to - 1, &got);
}

static err read_segment(struct log *log, struct segment *s, int64_t offset, size_t max_bytes,
                        bool at_least_one, struct log_read *r)
{
    uint8_t window[READ_WINDOW];
    struct store *store = log->m->o.store;
    struct seg_file *f = seg_file_cached(s, FILE_LOG);
    if (!f) {
        return ERR_AGAIN;
    }
    int64_t end = segment_readable_end(s);
    struct walk w = {.store = store,
                     .read = store->ops->read_cached,
                     .file = f->file,
                     .end = end,
                     .window = window,
                     .window_size = sizeof window};
    int64_t position = 0;
    struct batch_header first;
    err e = find_position(log, s, &w, offset, &position, &first);
    if (e == ERR_NOT_FOUND) {
        return behind_last(s, end);
    }
    if (e) {
        /* What the worker, too, cannot read is its to say: it looks on the device. */
        return e == ERR_CORRUPT || e == ERR_TRUNCATED ? (s->bad_count > 0 ? ERR_CORRUPT : ERR_AGAIN)
                                                      : e;
    }
    int64_t verified_to;
    if (segment_is_bad(s, position)) {
        return ERR_CORRUPT;
    }
    if (!segment_is_verified(s, position, &verified_to)) {
        return ERR_AGAIN;
    }
    if (max_bytes < first.size) {
        if (!at_least_one) {
            return OK;
        }
        max_bytes = first.size;
    }
    int64_t to = position + (int64_t)max_bytes;
    to = to > end ? end : to;
    to = to > verified_to ? verified_to : to;
    to = first_bad_behind(s, position + (int64_t)first.size - 1, to);
    if (to < position + (int64_t)first.size || !is_resident(log, s, f->file, position, to)) {
        return ERR_AGAIN;
    }
    seg_file_ref(f);
    r->extents[0] = (struct extent){.store = store,
                                    .file = f->file,
                                    .owner = &f->owner,
                                    .position = position,
                                    .size = (size_t)(to - position)};
    r->count = 1;
    r->size = r->extents[0].size;
    return OK;
}

err log_read(struct log *log, int64_t offset, size_t max_bytes, bool at_least_one,
             struct log_read *ret_read)
{
    struct log_read r = {.count = 0};
    if (log->closed && !log->m->stopping) {
        return ERR_CLOSED;
    }
    if (offset < log->start_offset || offset > log->next_offset) {
        return ERR_RANGE;
    }
    if (offset < log->durable.offset) {
        err e = ERR_RANGE;
        for (int32_t i = log_segment_at(log, offset); e == ERR_RANGE && i < log->segment_count;
             i++) {
            e = read_segment(log, log->segments[i], offset, max_bytes, at_least_one, &r);
        }
        if (e) {
            return e == ERR_RANGE ? ERR_CORRUPT : e;
        }
    }
    *ret_read = r;
    return OK;
}

size_t log_bytes_available(const struct log *log, int64_t offset)
{
    if (offset >= log->durable.offset || log->segment_count == 0) {
        return 0;
    }
    if (offset < log->start_offset) {
        offset = log->start_offset;
    }
    int32_t at = log_segment_at(log, offset);
    const struct segment *s = log->segments[at];
    const struct mark *hint = log_find_hint(log, offset);
    int64_t bytes = segment_readable_end(s);
    if (hint && hint->base_offset == s->base_offset) {
        bytes -= hint->position;
    } else { /* as if all records were alike */
        int64_t next =
            at + 1 < log->segment_count ? log->segments[at + 1]->base_offset : log->durable.offset;
        next = next > log->durable.offset ? log->durable.offset : next;
        if (next > s->base_offset) {
            double part = (double)(next - offset) / (double)(next - s->base_offset);
            bytes = (int64_t)((double)bytes * part);
        }
        bytes = bytes < 1 ? 1 : bytes;
    }
    for (int32_t i = at + 1; i < log->segment_count; i++) {
        bytes += segment_readable_end(log->segments[i]);
    }
    return (size_t)bytes;
}

/* The offset that every readable one in the segment is below. */
static int64_t segment_end_offset(const struct log *log, int32_t at)
{
    int64_t end = log->durable.offset;
    return at + 1 < log->segment_count && log->segments[at + 1]->base_offset < end
               ? log->segments[at + 1]->base_offset
               : end;
}

/* ---- log_warm: a range brought into memory and checked, on the reader */

struct warm {
    struct work work;
    struct log_query *q;
    struct store *store; /* borrowed */
    struct file_use use;
    struct file_use index;
    int32_t index_count;
    int64_t end;        /* readable end, of when it was asked for */
    int64_t end_offset; /* of the segment, likewise */
    int64_t offset;
    size_t max_bytes;
    struct span verified; /* out */
    int64_t bad_position; /* out; -1 */
    int64_t bad_offset;   /* out */
    bool behind;          /* out: the segment ends before the offset */
    err result;           /* out */
};

static err warm_verify(struct warm *j, int64_t position, size_t first_size)
{
    int64_t to = position + (int64_t)(j->max_bytes > first_size ? j->max_bytes : first_size);
    to = to > j->end ? j->end : to;
    size_t size = (size_t)(to - position);
    size_t got = 0;
    uint8_t *p = mem_need(size + 1);
    err e = j->store->ops->read(j->store->ctx, j->use.file, p, size, position, &got);
    size_t at = 0;
    int64_t next = j->use.segment->base_offset;
    while (!e && at < got) {
        struct batch_header h;
        err he = batch_header_read(p + at, got - at, &h);
        if (he == ERR_TRUNCATED || (!he && h.size > got - at)) {
            break; /* cut by max_bytes: not ours to judge, unless it is the first one */
        }
        if (he || !batch_is_in_place(&h, next, j->end_offset) ||
            !batch_crc_is_right(p + at, h.size)) {
            j->bad_position = position + (int64_t)at;
            j->bad_offset = he == ERR_CORRUPT ? -1 : h.base_offset;
            break;
        }
        next = h.base_offset + h.last_offset_delta + 1;
        at += h.size;
    }
    mem_free(p);
    j->verified = (struct span){position, position + (int64_t)at};
    if (!e && at == 0) {
        j->bad_position = position;
        e = ERR_CORRUPT;
    }
    return e;
}

static void warm_run(struct work *work)
{
    struct warm *j = list_entry(work, struct warm, work);
    struct store_file *index = NULL;
    j->result = file_use_open(&j->use, j->store);
    if (j->result) {
        return;
    }
    if (j->index.segment && !file_use_open(&j->index, j->store)) {
        index = j->index.file;
    }
    uint8_t *window = mem_need(SCAN_CHUNK);
    struct walk w = {.store = j->store,
                     .read = j->store->ops->read,
                     .file = j->use.file,
                     .end = j->end,
                     .window = window,
                     .window_size = SCAN_CHUNK};
    int64_t position = 0;
    struct batch_header first;
    err e = scan_to_offset(&w, index, j->index_count, j->use.segment->base_offset, j->offset,
                           &position, &first);
    if (e == ERR_CORRUPT || e == ERR_TRUNCATED) {
        j->bad_position = w.asked; /* no way to the batch: the file is broken before it */
        e = ERR_CORRUPT;
    } else if (!e) {
        e = warm_verify(j, position, first.size);
    }
    mem_free(window);
    j->behind = e == ERR_NOT_FOUND;
    j->result = j->behind ? OK : e;
}

static void warm_begin(struct log *log, struct log_query *q, int32_t at);

static void warm_done(struct work *work)
{
    struct warm *j = list_entry(work, struct warm, work);
    struct log_query *q = j->q;
    struct segment *s = j->use.segment;
    struct log *log = s->log;
    struct log_manager *m = log->m;
    log_ref(log);
    if (s->replaced && !log->closed) { /* cleaned meanwhile: what was opened may be the new file */
        file_use_end(&j->use);
        file_use_end(&j->index);
        mem_free(j);
        warm_begin(log, q, log_segment_at(log, q->offset));
        log_unref(log);
        manager_work_done(m);
        return;
    }
    if (j->result == ERR_NOT_FOUND) { /* the file went away meanwhile */
        j->result = log->closed ? ERR_CLOSED : s->removed ? ERR_RANGE : ERR_IO;
    }
    segment_add_verified(s, j->verified.from, j->verified.to);
    if (j->bad_position >= 0) {
        segment_note_bad(s, j->bad_position, j->bad_offset);
    }
    int32_t next = log_segment_at(log, s->base_offset) + 1;
    bool goes_on = j->behind && !s->removed && behind_last(s, j->end) == ERR_RANGE &&
                   next < log->segment_count && !log->closed;
    q->result = j->result;
    file_use_end(&j->use);
    file_use_end(&j->index);
    mem_free(j);
    if (goes_on) { /* as log_read does */
        warm_begin(log, q, next);
    } else {
        q->log = NULL;
        q->done(q);
    }
    log_unref(log);
    manager_work_done(m);
}

static void warm_begin(struct log *log, struct log_query *q, int32_t at)
{
    struct warm *j = mem_need_zero(1, sizeof *j);
    struct segment *s = log->segments[at];
    j->work.run = warm_run;
    j->work.done = warm_done;
    j->q = q;
    j->store = log->m->o.store;
    j->end = segment_readable_end(s);
    j->end_offset = segment_end_offset(log, at);
    j->offset = q->offset;
    j->max_bytes = q->max_bytes > WARM_MAX ? WARM_MAX : q->max_bytes;
    j->bad_position = -1;
    j->bad_offset = -1;
    j->index_count = s->index_written;
    file_use_begin(&j->use, s, FILE_LOG, STORE_WRITE);
    if (s->index_written > 0) {
        file_use_begin(&j->index, s, FILE_INDEX, STORE_WRITE);
    }
    q->log = log;
    manager_work(log->m, log->m->o.reader, &j->work);
}

void log_warm(struct log *log, struct log_query *q)
{
    warm_begin(log, q, log_segment_at(log, q->offset));
}

err log_read_blocking(struct log *log, int64_t offset, void *p, size_t size, size_t *ret_size)
{
    struct store *store = log->m->o.store;
    if (offset < log->start_offset || offset > log->durable.offset) {
        return ERR_RANGE;
    }
    if (offset == log->durable.offset) {
        *ret_size = 0;
        return OK;
    }
    err e = ERR_RANGE;
    for (int32_t i = log_segment_at(log, offset); e == ERR_RANGE && i < log->segment_count; i++) {
        struct segment *s = log->segments[i];
        struct log_query q = {.offset = offset};
        struct warm j = {.q = &q, .store = store, .end = segment_readable_end(s), .offset = offset};
        struct batch_header first = {0};
        int64_t position = 0;
        size_t got = 0;
        uint8_t *window = mem_need(SCAN_CHUNK);
        file_use_begin(&j.use, s, FILE_LOG, STORE_WRITE);
        e = file_use_open(&j.use, store);
        if (!e && s->index_written > 0) {
            file_use_begin(&j.index, s, FILE_INDEX, STORE_WRITE);
            (void)file_use_open(&j.index, store); /* without it the walk is longer */
        }
        struct walk w = {.store = store,
                         .read = store->ops->read,
                         .file = j.use.file,
                         .end = j.end,
                         .window = window,
                         .window_size = SCAN_CHUNK};
        e = e ? e
              : scan_to_offset(&w, j.index.file, s->index_written, s->base_offset, offset,
                               &position, &first);
        if (!e && first.size > size) {
            e = ERR_LIMIT;
        }
        if (!e) {
            size_t want = (int64_t)size > j.end - position ? (size_t)(j.end - position) : size;
            e = store->ops->read(store->ctx, j.use.file, p, want, position, &got);
        }
        file_use_end(&j.use);
        file_use_end(&j.index);
        mem_free(window);
        size_t whole = 0;
        int64_t next = s->base_offset;
        struct batch_header h;
        while (!e && whole < got && !batch_header_read((uint8_t *)p + whole, got - whole, &h) &&
               h.size <= got - whole) {
            if (!batch_is_in_place(&h, next, segment_end_offset(log, i)) ||
                !batch_crc_is_right((uint8_t *)p + whole, h.size)) {
                break;
            }
            next = h.base_offset + h.last_offset_delta + 1;
            whole += h.size;
        }
        if (!e) {
            *ret_size = whole;
            e = whole ? OK : ERR_CORRUPT;
        }
        e = e == ERR_NOT_FOUND ? behind_last(s, j.end) : e == ERR_TRUNCATED ? ERR_CORRUPT : e;
    }
    return e;
}

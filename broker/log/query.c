/* Look-ups by time, on the reader: which segment, where in it by its time index, then a walk over
 * batches, and over records of the one batch whose largest timestamp is late enough. Timestamps
 * need not rise (the producers' clocks), so "the first" is by offset: nothing before it is late
 * enough.
 *
 *   time index entry (T, O): no record up to O is later than T. The last entry with T < t therefore
 * says where to begin.
 */
#include "broker/log/internal.h"

#include "base/check.h"
#include "base/mem.h"

struct part { /* one segment, as it was when the question came */
    struct file_use log;
    struct file_use index;
    struct file_use timeindex;
    int32_t index_count;
    int32_t time_count;
    int64_t end; /* readable */
    int64_t max_timestamp;
    bool times_known;
};

struct query {
    struct work work;
    struct log_query *q;
    struct log *log; /* one reference */
    struct store *store;
    struct part *parts; /* owned */
    int32_t part_count;
    int64_t start_offset;
    int64_t target;
    bool max; /* the latest record, not the first at or behind target */
    struct batch_scratch scratch;
    uint8_t *window;      /* SCAN_CHUNK */
    int64_t found_offset; /* out; -1 */
    int64_t found_timestamp;
    int32_t found_epoch;
    err result;
};

/* The records of the batch at `position`; *ret_bytes is to be freed in any case. */
static err open_batch(struct query *j, struct store_file *file, int64_t position,
                      const struct batch_header *h, struct batch_iterator *it, uint8_t **ret_bytes)
{
    struct store *store = j->store;
    size_t got = 0;
    uint8_t *p = mem_need(h->size);
    err e = store->ops->read(store->ctx, file, p, h->size, position, &got);
    if (!e && (got < h->size || !batch_crc_is_right(p, h->size))) {
        e = ERR_CORRUPT;
    }
    *ret_bytes = p;
    return e ? e : batch_iterator_init(it, p, h->size, (size_t)INT32_MAX, &j->scratch);
}

/* The largest timestamp of the batch's records from the log's start on; -1. */
static err max_in_batch(struct query *j, struct store_file *file, int64_t position,
                        const struct batch_header *h, int64_t *ret_max)
{
    struct batch_iterator it;
    struct record r;
    uint8_t *p;
    int64_t max = -1;
    err e = open_batch(j, file, position, h, &it, &p);
    while (!e && !(e = batch_iterator_next(&it, &r))) {
        max = r.offset >= j->start_offset && r.timestamp > max ? r.timestamp : max;
    }
    mem_free(p);
    *ret_max = max;
    return e == ERR_NOT_FOUND ? OK : e;
}

/* The first record of the batch at `position` that is at or behind `target`. ERR_NOT_FOUND: there
 * is none. */
static err find_in_batch(struct query *j, struct store_file *file, int64_t position,
                         const struct batch_header *h, int64_t target)
{
    struct batch_iterator it;
    struct record r;
    uint8_t *p;
    err e = open_batch(j, file, position, h, &it, &p);
    while (!e && !(e = batch_iterator_next(&it, &r))) {
        if (r.timestamp >= target && r.offset >= j->start_offset) {
            j->found_offset = r.offset;
            j->found_timestamp = r.timestamp;
            j->found_epoch = h->leader_epoch;
            break;
        }
    }
    mem_free(p);
    return e;
}

static err open_part(struct query *j, struct part *part)
{
    err e = file_use_open(&part->log, j->store);
    /* Without its indexes a segment is walked from its beginning. */
    if (!e && part->index.segment && file_use_open(&part->index, j->store)) {
        part->index_count = 0;
    }
    if (!e && part->timeindex.segment && file_use_open(&part->timeindex, j->store)) {
        part->time_count = 0;
    }
    return e;
}

/* Walks the batches from the place that the time index gives for `target`. each: 0 goes on. */
static err find_in_part(struct query *j, struct part *part, int64_t target)
{
    int64_t base = part->log.segment->base_offset;
    int64_t from = base;
    int64_t position = 0;
    struct batch_header h;
    err e = open_part(j, part);
    struct walk w = {.store = j->store,
                     .read = j->store->ops->read,
                     .file = part->log.file,
                     .end = part->end,
                     .window = j->window,
                     .window_size = SCAN_CHUNK};
    if (!e && part->time_count) {
        e = time_lookup(j->store, part->timeindex.file, part->time_count, base, target, &from);
    }
    from = from < j->start_offset ? j->start_offset : from;
    e = e ? e : scan_to_offset(&w, part->index.file, part->index_count, base, from, &position, &h);
    while (!e) {
        if (h.max_timestamp >= target) {
            e = find_in_batch(j, part->log.file, position, &h, target);
            if (e != ERR_NOT_FOUND) {
                return e;
            }
        }
        position += (int64_t)h.size;
        e = walk_header(&w, position, &h);
    }
    return e;
}

/* The largest timestamp of a segment's readable part, by walking what the time index does not tell.
 */
static err part_max(struct query *j, struct part *part, int64_t *ret_max)
{
    int64_t base = part->log.segment->base_offset;
    int64_t max = -1;
    int64_t delta = 0;
    int64_t position = 0;
    struct batch_header h;
    err e = open_part(j, part);
    struct walk w = {.store = j->store,
                     .read = j->store->ops->read,
                     .file = part->log.file,
                     .end = part->end,
                     .window = j->window,
                     .window_size = SCAN_CHUNK};
    /* Entries of what is not readable yet are the last ones. Where records are deleted, an entry
     * may tell of one of those: the rest is walked. */
    delta = base < j->start_offset ? j->start_offset - base : 0;
    for (int32_t n = delta ? 0 : part->time_count; !e && n > 0; n--) {
        e = time_last(j->store, part->timeindex.file, n, &max, &delta);
        if (!e && !scan_to_offset(&w, part->index.file, part->index_count, base, base + delta,
                                  &position, &h)) {
            break;
        }
        max = -1;
        delta = 0;
    }
    e = e ? e
          : scan_to_offset(&w, part->index.file, part->index_count, base, base + delta, &position,
                           &h);
    while (!e) {
        int64_t in_batch = h.max_timestamp;
        if (h.base_offset < j->start_offset) {
            e = max_in_batch(j, part->log.file, position, &h, &in_batch);
        }
        max = !e && in_batch > max ? in_batch : max;
        if (e) {
            break;
        }
        position += (int64_t)h.size;
        e = walk_header(&w, position, &h);
    }
    *ret_max = max;
    return e == ERR_NOT_FOUND ? OK : e;
}

static err find_first(struct query *j)
{
    err e = ERR_NOT_FOUND;
    for (int32_t i = 0; e == ERR_NOT_FOUND && i < j->part_count; i++) {
        struct part *part = &j->parts[i];
        if (part->times_known && part->max_timestamp < j->target) {
            continue;
        }
        int64_t last = -1;
        int64_t delta;
        if (!part->times_known && i + 1 < j->part_count && !open_part(j, part) &&
            part->time_count &&
            !time_last(j->store, part->timeindex.file, part->time_count, &last, &delta) &&
            last < j->target) {
            continue; /* sealed: its last entry is its largest time */
        }
        e = find_in_part(j, part, j->target);
    }
    return e;
}

static err find_latest(struct query *j)
{
    int64_t latest = -1;
    int32_t at = -1;
    for (int32_t i = 0; i < j->part_count; i++) {
        int64_t max = -1;
        err e = part_max(j, &j->parts[i], &max);
        if (e) {
            return e;
        }
        if (max > latest) {
            latest = max;
            at = i;
        }
    }
    return at < 0 ? ERR_NOT_FOUND : find_in_part(j, &j->parts[at], latest);
}

static void query_run(struct work *work)
{
    struct query *j = list_entry(work, struct query, work);
    j->window = mem_need(SCAN_CHUNK);
    j->result = j->max ? find_latest(j) : find_first(j);
    mem_free(j->window);
    batch_scratch_finish(&j->scratch);
}

static void query_done(struct work *work)
{
    struct query *j = list_entry(work, struct query, work);
    struct log_query *q = j->q;
    struct log *log = j->log;
    struct log_manager *m = log->m;
    bool gone = false;     /* retention took a segment away meanwhile */
    bool replaced = false; /* or it was cleaned: what was opened may be the new file */
    for (int32_t i = 0; i < j->part_count; i++) {
        gone = gone || j->parts[i].log.segment->removed;
        replaced = replaced || j->parts[i].log.segment->replaced;
        file_use_end(&j->parts[i].log);
        file_use_end(&j->parts[i].index);
        file_use_end(&j->parts[i].timeindex);
    }
    bool again = ((j->result != OK && gone) || replaced) && !log->closed;
    bool max = j->max;
    q->result = j->result == ERR_NOT_FOUND   ? OK
                : j->result == ERR_TRUNCATED ? ERR_CORRUPT
                                             : j->result;
    q->offset = j->found_offset;
    q->timestamp_ms = again ? j->target : j->found_timestamp;
    q->leader_epoch = j->found_epoch;
    q->log = NULL;
    mem_free(j->parts);
    mem_free(j);
    if (again) {
        (max ? log_max_time : log_find_time)(log, q);
    } else {
        q->done(q);
    }
    log_unref(log);
    manager_work_done(m);
}

static void begin(struct log *log, struct log_query *q, bool max)
{
    struct query *j = mem_need_zero(1, sizeof *j);
    j->work.run = query_run;
    j->work.done = query_done;
    j->q = q;
    j->log = log;
    j->store = log->m->o.store;
    j->start_offset = log->start_offset;
    j->target = q->timestamp_ms;
    j->max = max;
    j->found_offset = -1;
    j->found_timestamp = -1;
    j->found_epoch = -1;
    j->parts = mem_need_zero((size_t)log->segment_count + 1, sizeof *j->parts);
    for (int32_t i = 0; i < log->segment_count; i++) {
        struct segment *s = log->segments[i];
        struct part *part = &j->parts[j->part_count];
        part->end = segment_readable_end(s);
        if (part->end == 0) {
            continue;
        }
        j->part_count++;
        part->index_count = s->index_written;
        part->time_count = s->time_written;
        part->times_known = s->times_known;
        part->max_timestamp = s->tail.max_timestamp;
        file_use_begin(&part->log, s, FILE_LOG, STORE_WRITE);
        if (part->index_count) {
            file_use_begin(&part->index, s, FILE_INDEX, STORE_WRITE);
        }
        if (part->time_count) {
            file_use_begin(&part->timeindex, s, FILE_TIMEINDEX, STORE_WRITE);
        }
    }
    q->log = log;
    log_ref(log);
    manager_work(log->m, log->m->o.reader, &j->work);
}

void log_find_time(struct log *log, struct log_query *q)
{
    begin(log, q, false);
}

void log_max_time(struct log *log, struct log_query *q)
{
    begin(log, q, true);
}

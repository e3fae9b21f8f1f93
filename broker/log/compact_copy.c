/* The cleaner's work on the reader: keys into the map, then batches out of segments into cleaned
 * ones. One call is one step: some CLEAN_STEP bytes are read, then others have their turn.
 *
 * What stays of a batch (Kafka's rules):
 *   - a record that is the last of its key; one at or behind the map's end; one without a key,
 * which replaces nothing (Kafka's cleaner drops it)
 *   - a tombstone until the batch's delete horizon, which it is given when it is first cleaned:
 *     delete.retention.ms from then (KIP-534). With 0 it goes at once: what it deleted is in this
 *     segment or in one before it, and those have been cleaned, durably
 *   - a control batch, whole
 *   - of a batch without records the header: when it is its producer's last one (it keeps the
 *     sequence), or the last of a cleaned segment (S1)
 * A batch of which everything stays is copied byte for byte.
 */
#include "broker/log/compact.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/mem.h"

/* ---- reading batches */

static err read_more(struct cleaning *c, int64_t size, size_t want)
{
    struct store *store = c->m->o.store;
    size_t got = 0;
    c->chunk.len = 0;
    check(buf_reserve(&c->chunk, want));
    want = (int64_t)want > size - c->position ? (size_t)(size - c->position) : want;
    err e = store->ops->read(store->ctx, c->source, c->chunk.ptr, want, c->position, &got);
    c->chunk.len = e ? 0 : got;
    c->chunk_position = c->position;
    return e ? e : got < want ? ERR_TRUNCATED : OK;
}

/* The batch at c->position, whole and checked. ERR_NOT_FOUND: the end of the source. */
static err next_batch(struct cleaning *c, const uint8_t **ret_p, struct batch_header *ret_header)
{
    struct store *store = c->m->o.store;
    const struct clean_source *from = &c->sources[c->at];
    int64_t size = from->segment->written_size; /* sealed: it does not change */
    char path[LOG_PATH_SIZE];
    struct batch_header h = {0};
    err e = OK;
    if (c->position == size) {
        return ERR_NOT_FOUND;
    }
    if (!c->source) {
        segment_path(from->segment, FILE_LOG, path);
        e = store->ops->open(store->ctx, path, STORE_READ, &c->source);
        c->chunk.len = 0;
        c->chunk_position = c->position;
        check(buf_reserve(&c->chunk, CLEAN_CHUNK));
    }
    for (size_t want = CLEAN_CHUNK; !e;) {
        size_t at = (size_t)(c->position - c->chunk_position);
        size_t left = c->chunk.len - at;
        e = batch_header_read(c->chunk.ptr + at, left, &h);
        if (!e && h.size <= left) {
            *ret_p = (const uint8_t *)c->chunk.ptr + at;
            break;
        }
        if (!e && (int64_t)h.size > size - c->position) {
            return ERR_CORRUPT;
        }
        want = !e && h.size > want ? h.size : want;
        e = e && e != ERR_TRUNCATED ? e : OK;
        if (!e && at == 0 && left >= want) {
            return ERR_CORRUPT;
        }
        if (!e && at == 0 && (int64_t)left == size - c->position) {
            return ERR_CORRUPT; /* all that there is, and no batch */
        }
        e = e ? e : read_more(c, size, want);
    }
    if (e) {
        return e;
    }
    if (!batch_is_in_place(&h, from->segment->base_offset, from->end_offset) ||
        !batch_crc_is_right(*ret_p, h.size)) {
        return ERR_CORRUPT;
    }
    *ret_header = h;
    return OK;
}

static void close_source(struct cleaning *c)
{
    if (c->source) {
        c->m->o.store->ops->close(c->m->o.store->ctx, c->source);
        c->source = NULL;
    }
    c->chunk.len = 0;
    c->position = 0;
}

/* ---- the map */

/* False: it is full. */
static err map_batch(struct cleaning *c, const uint8_t *p, const struct batch_header *h,
                     bool *ret_full)
{
    struct batch_iterator it;
    struct record r;
    err e = batch_iterator_init(&it, p, h->size, (size_t)INT32_MAX, &c->scratch);
    while (!e && !(e = batch_iterator_next(&it, &r))) {
        if (r.offset >= c->from && r.key.ptr && !offset_map_put(&c->map, r.key, r.offset)) {
            c->map_end = r.offset;
            *ret_full = true;
            return OK;
        }
    }
    return e == ERR_NOT_FOUND ? OK : e;
}

static void map_step(struct cleaning *c)
{
    err e = OK;
    bool full = false;
    for (int64_t budget = CLEAN_STEP; budget > 0 && !e && !full;) {
        const uint8_t *p;
        struct batch_header h;
        if (c->at == c->source_count) {
            break;
        }
        if (c->sources[c->at].end_offset <= c->from) { /* clean already */
            c->at++;
            continue;
        }
        e = next_batch(c, &p, &h);
        if (e == ERR_NOT_FOUND) {
            close_source(c);
            c->at++;
            e = OK;
            continue;
        }
        if (!e && h.base_offset + h.last_offset_delta >= c->from &&
            !(h.attributes & BATCH_ATTRIBUTE_CONTROL)) {
            e = map_batch(c, p, &h, &full);
        }
        c->position += e ? 0 : (int64_t)h.size;
        budget -= e ? 0 : (int64_t)h.size;
    }
    c->result = e;
    c->phase_over = !e && (full || c->at == c->source_count);
    if (c->phase_over) { /* the next phase begins with the first source */
        close_source(c);
        c->map_end = full ? c->map_end : c->sources[c->source_count - 1].end_offset;
        c->at = 0;
    }
}

/* ---- what stays */

struct verdict {
    const struct cleaning *c;
    const struct batch_header *h;
    int32_t staying;
    bool tombstone; /* one of those has no horizon yet */
};

static bool keep(void *ctx, const struct record *r)
{
    struct verdict *v = ctx;
    const struct cleaning *c = v->c;
    bool marked = v->h->attributes & BATCH_ATTRIBUTE_HORIZON;
    if (r->key.ptr && offset_map_get(&c->map, r->key) > r->offset) {
        return false;
    }
    if (r->key.ptr && !r->value.ptr && r->offset < c->map_end) {
        if (c->config.delete_retention_ms == 0 || (marked && c->now_ms >= v->h->base_timestamp)) {
            return false;
        }
        v->tombstone = v->tombstone || !marked;
    }
    v->staying++;
    return true;
}

static bool is_last_of_producer(const struct cleaning *c, int64_t last_offset)
{
    size_t low = 0;
    size_t high = c->kept_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (c->kept[middle] < last_offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < c->kept_count && c->kept[low] == last_offset;
}

static err weigh(struct cleaning *c, const uint8_t *p, const struct batch_header *h,
                 struct verdict *ret_verdict)
{
    struct batch_iterator it;
    struct record r;
    struct verdict v = {.c = c, .h = h};
    err e = batch_iterator_init(&it, p, h->size, (size_t)INT32_MAX, &c->scratch);
    while (!e && !(e = batch_iterator_next(&it, &r))) {
        keep(&v, &r);
    }
    *ret_verdict = v;
    return e == ERR_NOT_FOUND ? OK : e;
}

static int64_t horizon(const struct cleaning *c)
{
    int64_t at;
    return __builtin_add_overflow(c->now_ms, c->config.delete_retention_ms, &at) ? INT64_MAX : at;
}

/* ---- writing */

static err output_open(struct cleaning *c)
{
    struct clean_output *out = &c->out;
    struct store *store = c->m->o.store;
    struct segment *s = c->sources[c->at].segment;
    err e = OK;
    out->open = true;
    out->base_offset = s->base_offset;
    out->first = c->at;
    out->count = 0;
    out->synced = 0;
    out->changed = out->last_is_gone = false;
    out->bases =
        mem_need_resize(out->bases, sizeof *out->bases * (size_t)(c->source_count - c->at));
    out->tail = (struct segment_tail){.max_timestamp = -1,
                                      .max_timestamp_offset = s->base_offset,
                                      .first_timestamp = -1,
                                      .last_time = -1};
    for (enum file_kind k = FILE_LOG; k < FILE_KINDS && !e; k++) {
        char path[LOG_PATH_SIZE];
        out->bytes[k].len = 0;
        out->written[k] = 0;
        swap_path(c->log->dir, out->base_offset, k, ".cleaned", path);
        e = store->ops->open(store->ctx, path, STORE_CREATE, &out->files[k]);
        e = e ? e : store->ops->truncate(store->ctx, out->files[k], 0);
    }
    return e;
}

static err flush(struct cleaning *c, enum file_kind k)
{
    struct clean_output *out = &c->out;
    struct store *store = c->m->o.store;
    struct buf *b = &out->bytes[k];
    struct iovec v = {b->ptr, b->len};
    check(!b->failed);
    err e = b->len ? store->ops->write(store->ctx, out->files[k], &v, 1, out->written[k]) : OK;
    if (!e) {
        out->written[k] += (int64_t)b->len;
        b->len = 0;
    }
    if (!e && k == FILE_LOG && out->written[k] - out->synced >= CLEAN_SYNC) {
        e = store->ops->sync(store->ctx, out->files[k]);
        out->synced = out->written[k];
    }
    return e;
}

static void add_time_entry(struct cleaning *c)
{
    struct segment_tail *t = &c->out.tail;
    uint8_t entry[TIME_ENTRY_SIZE];
    if (t->max_timestamp <= t->last_time ||
        ((int64_t)t->time_count + 1) * TIME_ENTRY_SIZE > c->config.index_max_bytes) {
        return;
    }
    put_be64(entry, (uint64_t)t->max_timestamp);
    put_be32(entry + 8, (uint32_t)(t->max_timestamp_offset - c->out.base_offset));
    buf_add(&c->out.bytes[FILE_TIMEINDEX], entry, sizeof entry);
    t->last_time = t->max_timestamp;
    t->time_count++;
}

/* As the log's own index entries are made: place_batch. */
static void note_batch(struct cleaning *c, const struct batch_header *h)
{
    struct segment_tail *t = &c->out.tail;
    int64_t last_offset = h->base_offset + h->last_offset_delta;
    uint8_t entry[INDEX_ENTRY_SIZE];
    if (t->size == 0) {
        t->first_timestamp = h->max_timestamp;
    }
    if (h->max_timestamp > t->max_timestamp) {
        t->max_timestamp = h->max_timestamp;
        t->max_timestamp_offset = last_offset;
    }
    if (t->bytes_since_index > c->config.index_interval_bytes &&
        ((int64_t)t->index_count + 1) * INDEX_ENTRY_SIZE <= c->config.index_max_bytes) {
        put_be32(entry, (uint32_t)(last_offset - c->out.base_offset));
        put_be32(entry + 4, (uint32_t)t->size);
        buf_add(&c->out.bytes[FILE_INDEX], entry, sizeof entry);
        t->index_count++;
        t->bytes_since_index = 0;
        add_time_entry(c);
    }
    t->bytes_since_index += (int64_t)h->size;
    t->size += (int64_t)h->size;
    c->out.last_is_gone = false;
}

static bool keep_none(void *ctx, const struct record *r)
{
    (void)ctx;
    (void)r;
    return false;
}

/* Appends the batch as `f` leaves it; nothing, perhaps. */
static err add_filtered(struct cleaning *c, const uint8_t *p, size_t size,
                        const struct batch_filter *f)
{
    struct buf *to = &c->out.bytes[FILE_LOG];
    struct batch_header h;
    size_t before = to->len;
    err e = batch_filter(p, size, f, (size_t)INT32_MAX, &c->scratch, to);
    if (!e && to->len > before) {
        check(!batch_header_read(to->ptr + before, to->len - before, &h));
        note_batch(c, &h);
    }
    c->out.changed = true;
    return e;
}

static err copy_batch(struct cleaning *c, const uint8_t *p, const struct batch_header *h)
{
    struct clean_output *out = &c->out;
    struct verdict v = {.c = c, .h = h};
    bool whole = h->attributes & BATCH_ATTRIBUTE_CONTROL;
    bool last_of_producer = is_last_of_producer(c, h->base_offset + h->last_offset_delta);
    err e = whole ? OK : weigh(c, p, h, &v);
    if (e) {
        return e;
    }
    if (whole || (v.staying == h->count && !v.tombstone && (h->count > 0 || last_of_producer))) {
        buf_add(&out->bytes[FILE_LOG], p, h->size);
        note_batch(c, h);
    } else if (v.staying == 0 && !last_of_producer) {
        memcpy(out->last, p, sizeof out->last);
        out->last_is_gone = true;
    } else {
        struct verdict again = {.c = c, .h = h};
        struct batch_filter f = {.keep = keep,
                                 .ctx = &again,
                                 .horizon_ms = v.tombstone ? horizon(c) : -1,
                                 .keep_empty = last_of_producer};
        e = add_filtered(c, p, h->size, &f);
    }
    return !e && out->bytes[FILE_LOG].len >= CLEAN_CHUNK ? flush(c, FILE_LOG) : e;
}

/* The source is read: is the next one to go into the same segment? */
static bool takes_next(const struct cleaning *c)
{
    const struct clean_output *out = &c->out;
    if (c->at == c->source_count) {
        return false;
    }
    const struct clean_source *next = &c->sources[c->at];
    return out->tail.size + BATCH_HEADER_SIZE + next->segment->written_size <=
               c->config.segment_bytes &&
           next->end_offset - 1 - out->base_offset <= INT32_MAX;
}

/* S1: what stood last in the last source leaves a header at least. */
static err end_output(struct cleaning *c)
{
    struct clean_output *out = &c->out;
    bool changed = out->changed || out->count > 1;
    int64_t sources_size = 0;
    err e = OK;
    if (out->last_is_gone) {
        const struct batch_filter f = {.keep = keep_none, .horizon_ms = -1, .keep_empty = true};
        put_be32(out->last + BATCH_PREFIX_SIZE - 4, BATCH_HEADER_SIZE - BATCH_PREFIX_SIZE);
        put_be32(out->last + BATCH_HEADER_SIZE - 4, 0); /* no records, and no bytes of any */
        e = add_filtered(c, out->last, BATCH_HEADER_SIZE, &f);
    }
    for (int32_t i = 0; i < out->count; i++) {
        sources_size += c->sources[out->first + i].segment->written_size;
    }
    out->changed = changed || sources_size != out->tail.size;
    c->bytes_before += sources_size;
    c->bytes_after += out->tail.size;
    return e;
}

static err source_ended(struct cleaning *c, bool *ret_group_over)
{
    struct clean_output *out = &c->out;
    close_source(c);
    out->bases[out->count++] = c->sources[c->at].segment->base_offset;
    c->at++;
    *ret_group_over = !takes_next(c);
    return *ret_group_over ? end_output(c) : OK;
}

static void copy_step(struct cleaning *c)
{
    err e = OK;
    bool over = false;
    for (int64_t budget = CLEAN_STEP; budget > 0 && !e && !over;) {
        const uint8_t *p;
        struct batch_header h;
        e = c->out.open ? OK : output_open(c);
        e = e ? e : next_batch(c, &p, &h);
        if (e == ERR_NOT_FOUND) {
            e = source_ended(c, &over);
            continue;
        }
        e = e ? e : copy_batch(c, p, &h);
        c->position += e ? 0 : (int64_t)h.size;
        budget -= e ? 0 : (int64_t)h.size;
    }
    c->result = e;
    c->phase_over = !e && over;
}

err clean_finish_output(struct cleaning *c)
{
    struct clean_output *out = &c->out;
    struct store *store = c->m->o.store;
    err e = OK;
    add_time_entry(c);
    for (enum file_kind k = FILE_LOG; k < FILE_KINDS && !e; k++) {
        e = flush(c, k);
        e = e ? e : store->ops->sync(store->ctx, out->files[k]);
        if (!e) {
            store->ops->close(store->ctx, out->files[k]);
            out->files[k] = NULL;
        }
    }
    return e;
}

/* ---- giving up, or having nothing to change */

static void drop_step(struct cleaning *c)
{
    struct clean_output *out = &c->out;
    struct store *store = c->m->o.store;
    char path[LOG_PATH_SIZE];
    err failed = OK;
    close_source(c);
    for (enum file_kind k = FILE_LOG; k < FILE_KINDS; k++) {
        if (out->files[k]) {
            store->ops->close(store->ctx, out->files[k]);
            out->files[k] = NULL;
        }
        for (int i = 0; c->remove && i < 2; i++) {
            swap_path(c->log->dir, out->base_offset, k, i ? ".swap" : ".cleaned", path);
            err e = store->ops->unlink(store->ctx, path);
            failed = e && e != ERR_NOT_FOUND ? e : failed;
        }
    }
    out->open = false;
    c->result = failed;
    c->phase_over = true;
}

void clean_run(struct cleaning *c)
{
    c->phase_over = false;
    switch (c->phase) {
    case CLEAN_MAP: map_step(c); break;
    case CLEAN_COPY: copy_step(c); break;
    case CLEAN_SWAP:
        c->result = swap_run(c);
        c->phase_over = !c->result;
        break;
    case CLEAN_DROP: drop_step(c); break;
    }
}

/* Chunks into records. Invariants:
 * 1. batch_open: the iterator stands in the batch at `next` of the first chunk;
 * 2. has_ahead: `ahead` is of that batch, lives in it or in the scratch, and was not given;
 * 3. what was given points into frames of chunks (in `chunks` or `spent`) or into poll_arena.
 */
#include "client/consumer.h"

#include "base/mem.h"

#include <string.h>

enum {
    RECORD_LIMIT = 1 << 30, /* bytes of one record */
    POLL_BYTES = 16 << 20,  /* bytes copied out of compressed batches, then a poll is full */
    POLL_ARENA_LIMIT = INT32_MAX,
    FIRST_RECORDS = 64,
    CONTROL_KEY_SIZE = 4, /* int16 version, int16 type */
    CONTROL_ABORT = 0,
};

/* ---- chunks come and go ---- */

void chunk_spend(struct rv_consumer *c, struct chunk *k)
{
    if (&k->link == c->chunks.next) {
        c->batch_open = false;
        c->has_ahead = false;
    }
    list_remove(&k->link);
    k->claim->chunks--;
    k->claim = NULL;
    list_push(&c->spent, &k->link);
    c->client->again = true; /* there is room for more */
}

void chunks_drop(struct rv_consumer *c, struct claim *claim)
{
    list_each_safe(link, after, &c->chunks)
    {
        struct chunk *k = list_entry(link, struct chunk, link);
        if (k->claim == claim) {
            chunk_spend(c, k);
        }
    }
}

void records_release(struct rv_consumer *c)
{
    struct list *node;
    while ((node = list_pop(&c->spent))) {
        struct chunk *k = list_entry(node, struct chunk, link);
        c->queued -= k->charged;
        frame_unref(k->frame);
        mem_free(k);
    }
    if (!c->poll_arena.limit_bytes) {
        arena_init(&c->poll_arena, POLL_ARENA_LIMIT);
    }
    arena_reset(&c->poll_arena);
    c->record_count = 0;
}

/* ---- batches ---- */

static void batch_skip(struct rv_consumer *c, struct chunk *k, const struct batch_header *h)
{
    int64_t behind;
    if (batch_behind(h, &behind) && behind > k->claim->position) {
        k->claim->position = behind;
        k->claim->position_epoch = h->leader_epoch;
    }
    k->next += h->size;
    c->batch_open = false;
}

/* A marker ends a transaction of its producer. */
static int control_take(struct rv_consumer *c, struct chunk *k, const struct batch_header *h)
{
    struct record r;
    struct batch_iterator it;
    err e = batch_iterator_init(&it, k->next, h->size, RECORD_LIMIT, &c->scratch);
    if (!e) {
        e = batch_iterator_next(&it, &r);
    }
    if (e == ERR_NOT_FOUND) { /* compacted away */
        return RV_OK;
    }
    if (e) {
        return error_of(e);
    }
    if (r.key.len < CONTROL_KEY_SIZE || (int16_t)get_be16(r.key.ptr + 2) != CONTROL_ABORT) {
        return RV_OK;
    }
    for (int32_t i = 0; i < k->aborted_count; i++) {
        struct aborted *a = &k->aborted[i];
        a->over |= a->producer_id == h->producer_id && a->first_offset <= h->base_offset;
    }
    return RV_OK;
}

static bool is_aborted(const struct chunk *k, const struct batch_header *h)
{
    for (int32_t i = 0; (h->attributes & BATCH_ATTRIBUTE_TRANSACTIONAL) && i < k->aborted_count;
         i++) {
        const struct aborted *a = &k->aborted[i];
        if (!a->over && a->producer_id == h->producer_id && a->first_offset <= h->base_offset) {
            return true;
        }
    }
    return false;
}

/* Opens the next batch that has something for us. *ret_end: there is none in this chunk. */
static int batch_find(struct rv_consumer *c, struct chunk *k, bool *ret_end)
{
    *ret_end = false;
    while (k->next < k->end) {
        struct batch_header h;
        err e = batch_header_read(k->next, (size_t)(k->end - k->next), &h);
        int64_t behind = 0;
        if (!e && (h.size > (size_t)(k->end - k->next) || !batch_behind(&h, &behind))) {
            e = ERR_CORRUPT; /* a broker sends the first batch whole */
        }
        if (e) {
            return e == ERR_UNSUPPORTED ? RV_E_CODEC : RV_E_CORRUPT;
        }
        if (behind <= k->claim->position) {
            k->next += h.size;
            continue;
        }
        if (option(c, OPT_CHECK_CRCS) && !batch_crc_is_right(k->next, h.size)) {
            return RV_E_CORRUPT;
        }
        bool is_control = (h.attributes & BATCH_ATTRIBUTE_CONTROL) != 0;
        int code = is_control ? control_take(c, k, &h) : RV_OK;
        if (code != RV_OK) {
            return code;
        }
        if (is_control || is_aborted(k, &h)) {
            batch_skip(c, k, &h);
            continue;
        }
        e = batch_iterator_init(&c->iterator, k->next, h.size, RECORD_LIMIT, &c->scratch);
        c->batch_open = e == OK;
        return e == OK ? RV_OK : e == ERR_UNSUPPORTED ? RV_E_CODEC : error_of(e);
    }
    *ret_end = true;
    return RV_OK;
}

/* The next record into c->ahead. */
static int record_find(struct rv_consumer *c, struct chunk *k, bool *ret_end)
{
    *ret_end = false;
    while (!c->has_ahead) {
        if (!c->batch_open) {
            int code = batch_find(c, k, ret_end);
            if (code != RV_OK || *ret_end) {
                return code;
            }
        }
        err e = batch_iterator_next(&c->iterator, &c->ahead);
        if (e == ERR_NOT_FOUND) {
            batch_skip(c, k, &c->iterator.header);
        } else if (e) {
            c->batch_open = false; /* after ERR_MEMORY it is opened again */
            return e == ERR_MEMORY ? RV_E_MEMORY : RV_E_CORRUPT;
        } else {
            c->has_ahead = c->ahead.offset >= k->claim->position;
        }
    }
    return RV_OK;
}

/* ---- records ---- */

static bool records_grow(struct rv_consumer *c)
{
    size_t size = c->record_size ? c->record_size * 2 : FIRST_RECORDS;
    struct rv_record *more = mem_resize(c->records, size * sizeof *more);
    if (more) {
        c->records = more;
        c->record_size = size;
    }
    return more != NULL;
}

/* Moves what `r` borrows from the scratch into the arena. */
static bool record_keep(struct rv_consumer *c, struct record *r)
{
    uint8_t *to = arena_alloc(&c->poll_arena, r->key.len + r->value.len + r->headers_size + 1);
    if (!to) {
        return false;
    }
    if (r->key.len) {
        memcpy(to, r->key.ptr, r->key.len);
    }
    r->key.ptr = r->key.ptr ? to : NULL;
    to += r->key.len;
    if (r->value.len) {
        memcpy(to, r->value.ptr, r->value.len);
    }
    r->value.ptr = r->value.ptr ? to : NULL;
    to += r->value.len;
    if (r->headers_size) {
        memcpy(to, r->headers, r->headers_size);
    }
    r->headers = to;
    return true;
}

static int headers_take(struct rv_consumer *c, const struct record *r,
                        const struct rv_header **ret_headers)
{
    if (r->header_count == 0) {
        *ret_headers = NULL;
        return RV_OK;
    }
    struct rv_header *headers =
        arena_zero(&c->poll_arena, (size_t)r->header_count, sizeof *headers);
    if (!headers) {
        return RV_E_MEMORY;
    }
    const uint8_t *p = r->headers;
    size_t size = r->headers_size;
    int32_t left = r->header_count;
    for (struct rv_header *h = headers; left > 0; h++) {
        struct record_header in;
        if (record_header_next(&p, &size, &left, &in) != OK) {
            return RV_E_CORRUPT;
        }
        h->name = (struct rv_bytes){in.name.ptr, in.name.len};
        h->value = (struct rv_bytes){in.value.ptr, in.value.len};
    }
    *ret_headers = headers;
    return RV_OK;
}

/* Gives c->ahead. */
static int record_give(struct rv_consumer *c, struct claim *claim)
{
    const struct batch_header *h = &c->iterator.header;
    struct record r = c->ahead;
    if (c->record_count == c->record_size && !records_grow(c)) {
        return RV_E_MEMORY;
    }
    if (batch_codec(h->attributes) && !record_keep(c, &r)) {
        return RV_E_MEMORY;
    }
    const struct rv_header *headers;
    int code = headers_take(c, &r, &headers);
    if (code != RV_OK) {
        return code;
    }
    c->records[c->record_count++] = (struct rv_record){
        .topic = claim->topic->name,
        .partition = claim->partition,
        .leader_epoch = h->leader_epoch,
        .offset = r.offset,
        .timestamp_ms = r.timestamp,
        .key = {r.key.ptr,   r.key.len  },
        .value = {r.value.ptr, r.value.len},
        .headers = headers,
        .header_count = (size_t)r.header_count
    };
    if (claim->given_from < 0) {
        claim->given_from = claim->position;
        claim->given_epoch = claim->position_epoch;
    }
    claim->position = r.offset + 1;
    claim->position_epoch = h->leader_epoch;
    c->has_ahead = false;
    return RV_OK;
}

int records_collect(struct rv_consumer *c, struct rv_error *ret_error)
{
    size_t most = (size_t)option(c, OPT_MAX_POLL_RECORDS);
    for (size_t i = 0; i < c->claims.count; i++) {
        c->claims.items[i]->given_from = -1;
    }
    while (c->record_count < most && c->poll_arena.used_bytes < POLL_BYTES &&
           !list_empty(&c->chunks)) {
        struct chunk *k = list_entry(c->chunks.next, struct chunk, link);
        struct claim *claim = k->claim;
        bool end;
        int code = record_find(c, k, &end);
        if (code == RV_OK && end) {
            chunk_spend(c, k);
            continue;
        }
        code = code == RV_OK ? record_give(c, claim) : code;
        if (code == RV_E_MEMORY) {
            return c->record_count ? RV_OK : error_memory(ret_error);
        }
        if (code != RV_OK) {
            claim_fail(c, claim, code);
        }
    }
    return RV_OK;
}

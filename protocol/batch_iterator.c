/* Records of a batch, one after the other. */
#include "protocol/batch.h"

#include "base/mem.h"
#include "protocol/record_parse.h"

enum { REFILL_SIZE = 16384 };

void batch_scratch_finish(struct batch_scratch *s)
{
    inflate_destroy(s->stream);
    buf_finish(&s->buf);
    *s = (struct batch_scratch){0};
}

err scratch_begin(struct batch_scratch *s, enum codec codec, const uint8_t *p, size_t size)
{
    if (!s->stream) {
        err e = inflate_create(&s->stream);
        if (e) {
            return e;
        }
    }
    s->buf.len = 0;
    s->buf.failed = false;
    if (!buf_reserve(&s->buf, REFILL_SIZE)) {
        return ERR_MEMORY;
    }
    return inflate_begin(s->stream, codec, p, size);
}

err scratch_need(struct batch_scratch *s, size_t *used, size_t size)
{
    while (s->buf.len - *used < size) {
        size_t got = 0;
        if (*used > 0) {
            memmove(s->buf.ptr, s->buf.ptr + *used, s->buf.len - *used);
            s->buf.len -= *used;
            *used = 0;
        }
        /* Grown as bytes come, never as announced. */
        size_t more = s->buf.len > REFILL_SIZE ? s->buf.len : REFILL_SIZE;
        s->buf.failed = false;
        if (!buf_reserve(&s->buf, more)) {
            return ERR_MEMORY;
        }
        err e = inflate_read(s->stream, s->buf.ptr + s->buf.len, more, &got);
        if (e) {
            return e;
        }
        if (got == 0) {
            return ERR_TRUNCATED;
        }
        s->buf.len += got;
    }
    return OK;
}

err batch_iterator_init(struct batch_iterator *it, const void *p, size_t size, size_t record_limit,
                        struct batch_scratch *scratch)
{
    struct batch_header h;
    err e = batch_header_read(p, size, &h);
    if (e) {
        return e;
    }
    if (h.size > size) {
        return ERR_TRUNCATED;
    }
    if (h.count < 0 || batch_codec(h.attributes) >= CODEC_COUNT) {
        return ERR_CORRUPT;
    }
    *it = (struct batch_iterator){.header = h, .scratch = scratch, .limit = record_limit};
    it->next = (const uint8_t *)p + BATCH_HEADER_SIZE;
    it->end = (const uint8_t *)p + h.size;
    return batch_codec(h.attributes) && h.count
               ? scratch_begin(scratch, batch_codec(h.attributes), it->next,
                               (size_t)(it->end - it->next))
               : OK;
}

static err next_plain(struct batch_iterator *it, const uint8_t **ret_p, size_t *ret_size)
{
    int64_t n;
    if (!varint_read(&it->next, it->end, &n) || n < 0 || n > it->end - it->next) {
        return ERR_CORRUPT;
    }
    if ((size_t)n > it->limit) {
        return ERR_LIMIT;
    }
    *ret_p = it->next;
    *ret_size = (size_t)n;
    it->next += n;
    return OK;
}

static err next_compressed(struct batch_iterator *it, const uint8_t **ret_p, size_t *ret_size)
{
    struct batch_scratch *s = it->scratch;
    int64_t n;
    err e = scratch_need(s, &it->used, VARINT_MAX);
    if (e && e != ERR_TRUNCATED) {
        return e;
    }
    const uint8_t *from = (uint8_t *)s->buf.ptr + it->used;
    const uint8_t *at = from;
    if (!varint_read(&at, (uint8_t *)s->buf.ptr + s->buf.len, &n) || n < 0) {
        return ERR_CORRUPT;
    }
    if ((uint64_t)n > it->limit) {
        return ERR_LIMIT;
    }
    it->used += (size_t)(at - from);
    e = scratch_need(s, &it->used, (size_t)n);
    if (e) {
        return e == ERR_TRUNCATED ? ERR_CORRUPT : e;
    }
    *ret_p = (uint8_t *)s->buf.ptr + it->used;
    *ret_size = (size_t)n;
    it->used += (size_t)n;
    return OK;
}

err batch_iterator_next(struct batch_iterator *it, struct record *ret_record)
{
    const uint8_t *p;
    size_t size;
    struct record r;
    if (it->given == it->header.count) {
        return ERR_NOT_FOUND;
    }
    err e = batch_codec(it->header.attributes) ? next_compressed(it, &p, &size)
                                               : next_plain(it, &p, &size);
    if (e) {
        return e;
    }
    if (!record_parse(p, p + size, &r) || r.offset < 0 || r.offset > it->header.last_offset_delta ||
        __builtin_add_overflow(it->header.base_offset, r.offset, &r.offset) ||
        __builtin_add_overflow(it->header.base_timestamp, r.timestamp, &r.timestamp)) {
        return ERR_CORRUPT;
    }
    if (it->header.attributes & BATCH_ATTRIBUTE_APPEND_TIME) {
        r.timestamp = it->header.max_timestamp;
    }
    it->given++;
    *ret_record = r;
    return OK;
}

err record_header_next(const uint8_t **p, size_t *size, int32_t *count,
                       struct record_header *ret_header)
{
    const uint8_t *at = *p;
    const uint8_t *end = at + *size;
    struct bytes name;
    struct bytes value;
    if (*count == 0) {
        return ERR_NOT_FOUND;
    }
    if (!sized_read(&at, end, false, &name) || !sized_read(&at, end, true, &value)) {
        return ERR_CORRUPT;
    }
    *size = (size_t)(end - at);
    *p = at;
    *count -= 1;
    ret_header->name = (struct str){(const char *)name.ptr, name.len};
    ret_header->value = value;
    return OK;
}

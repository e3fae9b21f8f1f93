/* record_parse: varints and the body of one record, for batch.c and batch_iterator.c alone. */
#pragma once

#include "protocol/batch.h"

enum { VARINT_MAX = 10 }; /* bytes of the longest */

/* A zigzag varint at *p, before end. False: it ends too early, or has more than 64 bits. */
static inline bool varint_read(const uint8_t **p, const uint8_t *end, int64_t *ret_value)
{
    const uint8_t *at = *p;
    uint64_t v = 0;
    if (at < end && *at < 0x80) { /* most are one byte */
        v = *at++;
    } else {
        int shift = 0;
        for (;; shift += 7) {
            if (at == end || shift > 63 || (shift == 63 && *at > 1)) {
                return false;
            }
            v |= (uint64_t)(*at & 0x7f) << shift;
            if (*at++ < 0x80) {
                break;
            }
        }
    }
    *p = at;
    *ret_value = (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
    return true;
}

/* A length and so many bytes; -1 is null, if it may be. */
static inline bool sized_read(const uint8_t **p, const uint8_t *end, bool nullable,
                              struct bytes *ret_bytes)
{
    int64_t n;
    if (!varint_read(p, end, &n) || n < (nullable ? -1 : 0) || n > end - *p) {
        return false;
    }
    *ret_bytes = (struct bytes){n < 0 ? NULL : *p, n < 0 ? 0 : (size_t)n};
    *p += n < 0 ? 0 : n;
    return true;
}

/* One record without its length, exactly from p to end. offset and timestamp are set to the deltas.
 * False: lengths that contradict each other. */
static inline bool record_parse(const uint8_t *p, const uint8_t *end, struct record *r)
{
    int64_t count;
    if (p == end) {
        return false;
    }
    p++; /* attributes: none are defined */
    if (!varint_read(&p, end, &r->timestamp) || !varint_read(&p, end, &r->offset) ||
        !sized_read(&p, end, true, &r->key) || !sized_read(&p, end, true, &r->value) ||
        !varint_read(&p, end, &count) || count < 0 || count > end - p) {
        return false;
    }
    r->headers = p;
    r->headers_size = (size_t)(end - p);
    r->header_count = (int32_t)count;
    for (; count > 0; count--) {
        struct bytes ignored;
        if (!sized_read(&p, end, false, &ignored) || !sized_read(&p, end, true, &ignored)) {
            return false;
        }
    }
    return p == end;
}

/* Makes `size` bytes of a compressed batch's records stand in the scratch's buffer from *used on;
 * what lies before it may be dropped, and *used be moved. ERR_TRUNCATED: there are not so many. */
err scratch_need(struct batch_scratch *s, size_t *used, size_t size);
err scratch_begin(struct batch_scratch *s, enum codec codec, const uint8_t *p, size_t size);

/* One batch with fewer records. What stays of it is encoded again: record lengths, deltas of time
 * when the batch gets a horizon, and the codec's bytes. */
#include "protocol/batch.h"

#include "protocol/batch_encode.h"
#include "protocol/record_parse.h"

static void add_record(struct buf *out, struct buf *body, const struct record *r,
                       int64_t base_timestamp, int64_t base_offset)
{
    body->len = 0;
    buf_add(body, "", 1);
    varint_add(body, (int64_t)((uint64_t)r->timestamp - (uint64_t)base_timestamp));
    varint_add(body, r->offset - base_offset);
    sized_add(body, r->key);
    sized_add(body, r->value);
    varint_add(body, r->header_count);
    buf_add(body, r->headers, r->headers_size);
    varint_add(out, (int64_t)body->len);
    buf_add(out, body->ptr, body->len);
}

err batch_filter(const void *p, size_t size, const struct batch_filter *f, size_t record_limit,
                 struct batch_scratch *scratch, struct buf *out)
{
    struct batch_iterator it;
    struct record r;
    struct buf records = {0};
    struct buf body = {0};
    int64_t latest = -1;
    int32_t count = 0;
    err e = batch_iterator_init(&it, p, size, record_limit, scratch);
    if (e) {
        return e;
    }
    struct batch_header h = it.header;
    bool append_time = h.attributes & BATCH_ATTRIBUTE_APPEND_TIME;
    if (f->horizon_ms >= 0) {
        h.attributes |= BATCH_ATTRIBUTE_HORIZON;
        h.base_timestamp = f->horizon_ms;
    }
    while (!(e = batch_iterator_next(&it, &r))) {
        if (f->keep(f->ctx, &r)) {
            add_record(&records, &body, &r, h.base_timestamp, h.base_offset);
            latest = r.timestamp > latest ? r.timestamp : latest;
            count++;
        }
    }
    e = e == ERR_NOT_FOUND ? OK : e;
    e = e ? e : records.failed || body.failed ? ERR_MEMORY : OK;
    if (!e && (count > 0 || f->keep_empty)) {
        /* Nothing has a time in an empty batch, and nothing to be compressed or to expire. */
        h.attributes &= (int16_t)(count ? -1 : ~(BATCH_ATTRIBUTE_CODEC | BATCH_ATTRIBUTE_HORIZON));
        h.count = count;
        h.base_timestamp = count ? h.base_timestamp : -1;
        h.max_timestamp = count && append_time ? h.max_timestamp : latest;
        e = batch_encode(&h, INT32_MIN, count ? records.ptr : "", records.len, out);
    }
    buf_finish(&records);
    buf_finish(&body);
    return e;
}

/* Making batches. Records are encoded as they come, with deltas from the first one, and sealed
 * behind a header. */
#include "protocol/batch.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "protocol/batch_encode.h"
#include "protocol/record_parse.h"

#include <limits.h>

const struct batch_seal batch_seal_plain = {
    .leader_epoch = -1,
    .level = INT32_MIN,
    .producer_id = -1,
    .producer_epoch = -1,
    .base_sequence = -1,
};

void batch_builder_init(struct batch_builder *b)
{
    *b = (struct batch_builder){.max_timestamp = -1};
}

void batch_builder_finish(struct batch_builder *b)
{
    buf_finish(&b->records);
    batch_builder_init(b);
}

void batch_builder_reset(struct batch_builder *b)
{
    struct buf records = b->records;
    records.len = 0;
    records.failed = false;
    batch_builder_init(b);
    b->records = records;
}

static uint64_t zigzag(int64_t v)
{
    return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}

static size_t varint_size(int64_t v)
{
    int bits = 64 - __builtin_clzll(zigzag(v) | 1);
    return (size_t)(bits + 6) / 7;
}

void varint_add(struct buf *out, int64_t v)
{
    uint8_t bytes[VARINT_MAX];
    size_t n = 0;
    uint64_t u = zigzag(v);
    for (; u >= 0x80; u >>= 7) {
        bytes[n++] = (uint8_t)(u | 0x80);
    }
    bytes[n++] = (uint8_t)u;
    buf_add(out, bytes, n);
}

void sized_add(struct buf *out, struct bytes b)
{
    varint_add(out, b.ptr ? (int64_t)b.len : -1);
    buf_add(out, b.ptr ? b.ptr : (const uint8_t *)"", b.ptr ? b.len : 0);
}

static size_t sized_size(struct bytes b)
{
    return b.ptr ? varint_size((int64_t)b.len) + b.len : 1;
}

static struct bytes name_bytes(struct str name)
{
    return (struct bytes){(const uint8_t *)(name.ptr ? name.ptr : ""), name.len};
}

/* Of the record behind its length. */
static size_t body_size(const struct batch_builder *b, int64_t timestamp, struct bytes key,
                        struct bytes value, const struct record_header *headers,
                        int32_t header_count)
{
    int64_t delta = b->count ? (int64_t)((uint64_t)timestamp - (uint64_t)b->base_timestamp) : 0;
    size_t size = 1 + varint_size(delta) + varint_size(b->count) + sized_size(key) +
                  sized_size(value) + varint_size(header_count);
    for (int32_t i = 0; i < header_count; i++) {
        size += sized_size(name_bytes(headers[i].name)) + sized_size(headers[i].value);
    }
    return size;
}

size_t batch_builder_record_size(const struct batch_builder *b, int64_t timestamp, struct bytes key,
                                 struct bytes value, const struct record_header *headers,
                                 int32_t header_count)
{
    size_t size = body_size(b, timestamp, key, value, headers, header_count);
    return varint_size((int64_t)size) + size;
}

size_t batch_builder_size(const struct batch_builder *b)
{
    return BATCH_HEADER_SIZE + b->records.len;
}

err batch_builder_add(struct batch_builder *b, int64_t timestamp, struct bytes key,
                      struct bytes value, const struct record_header *headers, int32_t header_count)
{
    size_t size = body_size(b, timestamp, key, value, headers, header_count);
    size_t whole = varint_size((int64_t)size) + size;
    struct buf *out = &b->records;
    if (whole > INT32_MAX - batch_builder_size(b) || b->count == INT32_MAX) {
        return ERR_LIMIT;
    }
    if (!buf_reserve(out, whole)) {
        out->failed = false; /* nothing was added: it may be tried again */
        return ERR_MEMORY;
    }
    if (b->count == 0) {
        b->base_timestamp = timestamp;
    }
    if (b->count == 0 || timestamp > b->max_timestamp) {
        b->max_timestamp = timestamp;
        b->last_timestamp_sequence = b->count;
    }
    varint_add(out, (int64_t)size);
    buf_add(out, "", 1);
    varint_add(out, (int64_t)((uint64_t)timestamp - (uint64_t)b->base_timestamp));
    varint_add(out, b->count);
    sized_add(out, key);
    sized_add(out, value);
    varint_add(out, header_count);
    for (int32_t i = 0; i < header_count; i++) {
        sized_add(out, name_bytes(headers[i].name));
        sized_add(out, headers[i].value);
    }
    b->count++;
    return OK;
}

static void put_header(uint8_t *p, const struct batch_header *h)
{
    put_be64(p, (uint64_t)h->base_offset);
    put_be32(p + 8, (uint32_t)(h->size - BATCH_PREFIX_SIZE));
    put_be32(p + 12, (uint32_t)h->leader_epoch);
    p[BATCH_MAGIC_POSITION] = BATCH_MAGIC;
    put_be16(p + 21, (uint16_t)h->attributes);
    put_be32(p + 23, (uint32_t)h->last_offset_delta);
    put_be64(p + 27, (uint64_t)h->base_timestamp);
    put_be64(p + 35, (uint64_t)h->max_timestamp);
    put_be64(p + 43, (uint64_t)h->producer_id);
    put_be16(p + 51, (uint16_t)h->producer_epoch);
    put_be32(p + 53, (uint32_t)h->base_sequence);
    put_be32(p + 57, (uint32_t)h->count);
    put_be32(p + 17, crc32c(p + BATCH_CRC_FROM, h->size - BATCH_CRC_FROM));
}

/* A header, then `records` compressed: what both ways of making a batch end with. h->size is set
 * here. */
err batch_encode(struct batch_header *h, int32_t level, const void *records, size_t size,
                 struct buf *out)
{
    static const uint8_t room[BATCH_HEADER_SIZE];
    size_t start = out->len;
    buf_add(out, room, sizeof room);
    err e = out->failed ? ERR_MEMORY
                        : compress_bytes(batch_codec(h->attributes), level, records, size, out);
    if (!e && out->len - start > INT32_MAX) {
        e = ERR_LIMIT;
    }
    if (e) {
        out->len = start;
        return e;
    }
    h->size = out->len - start;
    put_header((uint8_t *)out->ptr + start, h);
    return OK;
}

err batch_builder_seal(struct batch_builder *b, const struct batch_seal *seal, struct buf *out)
{
    if (b->count == 0) {
        return ERR_INVALID;
    }
    struct batch_header h = {
        .base_offset = seal->base_offset,
        .leader_epoch = seal->leader_epoch,
        .attributes = (int16_t)(seal->attributes | (int16_t)seal->codec),
        .last_offset_delta = b->count - 1,
        .base_timestamp = b->base_timestamp,
        .max_timestamp = b->max_timestamp,
        .producer_id = seal->producer_id,
        .producer_epoch = seal->producer_epoch,
        .base_sequence = seal->base_sequence,
        .count = b->count,
    };
    return batch_encode(&h, seal->level, b->records.ptr, b->records.len, out);
}

err batch_recompress(const void *p, size_t size, enum codec codec, size_t record_limit,
                     struct batch_scratch *scratch, struct buf *out)
{
    struct batch_header h;
    err e = batch_header_read(p, size, &h);
    if (e || h.size != size) {
        return e ? e : ERR_TRUNCATED;
    }
    const uint8_t *records = (const uint8_t *)p + BATCH_HEADER_SIZE;
    size_t records_size = size - BATCH_HEADER_SIZE;
    struct buf plain = {0};
    if (batch_codec(h.attributes)) {
        e = scratch_begin(scratch, batch_codec(h.attributes), records, records_size);
        for (size_t got = 1; !e && got > 0;) {
            if (!buf_reserve(&plain, 65536)) {
                e = ERR_MEMORY;
            } else {
                e = inflate_read(scratch->stream, plain.ptr + plain.len, 65536, &got);
                plain.len += e ? 0 : got;
            }
            if (!e && plain.len > record_limit) {
                e = ERR_LIMIT;
            }
        }
        records = (const uint8_t *)(plain.ptr ? plain.ptr : "");
        records_size = plain.len;
    }
    h.attributes = (int16_t)((h.attributes & ~BATCH_ATTRIBUTE_CODEC) | (int16_t)codec);
    e = e ? e : batch_encode(&h, INT32_MIN, records, records_size, out);
    buf_finish(&plain);
    return e;
}

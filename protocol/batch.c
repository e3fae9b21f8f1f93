#include "protocol/batch.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "protocol/record_parse.h"

enum {
    AT_LENGTH = 8,
    AT_EPOCH = 12,
    AT_CRC = 17,
    AT_ATTRIBUTES = 21,
    AT_LAST_DELTA = 23,
    AT_BASE_TIMESTAMP = 27,
    AT_MAX_TIMESTAMP = 35,
    AT_PRODUCER_ID = 43,
    AT_PRODUCER_EPOCH = 51,
    AT_SEQUENCE = 53,
    AT_COUNT = 57,
    ATTRIBUTES_OF_CLIENTS = BATCH_ATTRIBUTE_CODEC | BATCH_ATTRIBUTE_TRANSACTIONAL,
};

static const char *const flaw_texts[] = {
    [BATCH_FLAW_NONE] = "none",
    [BATCH_FLAW_SIZE] = "the batch is not as long as it says",
    [BATCH_FLAW_MAGIC] = "the batch is not of magic 2",
    [BATCH_FLAW_CRC] = "the checksum of the batch is wrong",
    [BATCH_FLAW_ATTRIBUTES] = "the batch has attributes that a client cannot set",
    [BATCH_FLAW_COUNT] = "the batch's record count and last offset delta contradict each other",
    [BATCH_FLAW_RECORD] = "the batch's records contradict their lengths, count or offset deltas",
    [BATCH_FLAW_TIMESTAMP] = "the batch's timestamps are no timestamps",
    [BATCH_FLAW_CODEC] = "the batch cannot be decompressed",
    [BATCH_FLAW_PRODUCER] = "the batch has a producer id without epoch or sequence",
    [BATCH_FLAW_TOO_LARGE] = "the batch is too large when it is decompressed",
};

const char *batch_flaw_text(enum batch_flaw flaw)
{
    return flaw_texts[flaw];
}

err batch_header_read(const void *p, size_t size, struct batch_header *ret_header)
{
    const uint8_t *b = p;
    if (size < BATCH_MAGIC_POSITION + 1) {
        return ERR_TRUNCATED;
    }
    int32_t length = (int32_t)get_be32(b + AT_LENGTH);
    if (length < BATCH_MAGIC_POSITION + 1 - BATCH_PREFIX_SIZE) {
        return ERR_CORRUPT;
    }
    ret_header->base_offset = (int64_t)get_be64(b);
    ret_header->size = (size_t)length + BATCH_PREFIX_SIZE;
    ret_header->magic = (int8_t)b[BATCH_MAGIC_POSITION];
    if (ret_header->magic != BATCH_MAGIC) {
        return ERR_UNSUPPORTED;
    }
    if (ret_header->size < BATCH_HEADER_SIZE) {
        return ERR_CORRUPT;
    }
    if (size < BATCH_HEADER_SIZE) {
        return ERR_TRUNCATED;
    }
    ret_header->leader_epoch = (int32_t)get_be32(b + AT_EPOCH);
    ret_header->crc = get_be32(b + AT_CRC);
    ret_header->attributes = (int16_t)get_be16(b + AT_ATTRIBUTES);
    ret_header->last_offset_delta = (int32_t)get_be32(b + AT_LAST_DELTA);
    ret_header->base_timestamp = (int64_t)get_be64(b + AT_BASE_TIMESTAMP);
    ret_header->max_timestamp = (int64_t)get_be64(b + AT_MAX_TIMESTAMP);
    ret_header->producer_id = (int64_t)get_be64(b + AT_PRODUCER_ID);
    ret_header->producer_epoch = (int16_t)get_be16(b + AT_PRODUCER_EPOCH);
    ret_header->base_sequence = (int32_t)get_be32(b + AT_SEQUENCE);
    ret_header->count = (int32_t)get_be32(b + AT_COUNT);
    return OK;
}

bool batch_crc_is_right(const void *p, size_t size)
{
    const uint8_t *b = p;
    return size >= BATCH_HEADER_SIZE &&
           crc32c(b + BATCH_CRC_FROM, size - BATCH_CRC_FROM) == get_be32(b + AT_CRC);
}

/* ---- changing one in place */

void batch_set_offset(void *p, int64_t base_offset, int32_t leader_epoch)
{
    uint8_t *b = p;
    put_be64(b, (uint64_t)base_offset);
    put_be32(b + AT_EPOCH, (uint32_t)leader_epoch);
}

static void set_crc(uint8_t *b, size_t size)
{
    put_be32(b + AT_CRC, crc32c(b + BATCH_CRC_FROM, size - BATCH_CRC_FROM));
}

void batch_set_append_time(void *p, size_t size, int64_t time_ms)
{
    uint8_t *b = p;
    put_be16(b + AT_ATTRIBUTES, get_be16(b + AT_ATTRIBUTES) | BATCH_ATTRIBUTE_APPEND_TIME);
    put_be64(b + AT_MAX_TIMESTAMP, (uint64_t)time_ms);
    set_crc(b, size);
}

void batch_set_max_timestamp(void *p, size_t size, int64_t time_ms)
{
    put_be64((uint8_t *)p + AT_MAX_TIMESTAMP, (uint64_t)time_ms);
    set_crc(p, size);
}

void batch_set_producer(void *p, size_t size, int64_t id, int16_t epoch, int32_t base_sequence)
{
    uint8_t *b = p;
    put_be64(b + AT_PRODUCER_ID, (uint64_t)id);
    put_be16(b + AT_PRODUCER_EPOCH, (uint16_t)epoch);
    put_be32(b + AT_SEQUENCE, (uint32_t)base_sequence);
    set_crc(p, size);
}

/* ---- checking */

struct checker {
    struct batch_info *info;
    int64_t base_timestamp;
    int32_t next; /* offset delta that must come */
};

static bool check_record(struct checker *c, const uint8_t *p, const uint8_t *end,
                         enum batch_flaw *ret_flaw)
{
    struct record r;
    int64_t timestamp;
    *ret_flaw = BATCH_FLAW_RECORD;
    if (!record_parse(p, end, &r) || r.offset != c->next) {
        return false;
    }
    if (__builtin_add_overflow(c->base_timestamp, r.timestamp, &timestamp) || timestamp < -1) {
        *ret_flaw = BATCH_FLAW_TIMESTAMP;
        return false;
    }
    c->next++;
    c->info->max_timestamp =
        timestamp > c->info->max_timestamp ? timestamp : c->info->max_timestamp;
    c->info->min_timestamp =
        timestamp < c->info->min_timestamp ? timestamp : c->info->min_timestamp;
    return true;
}

static err check_plain(struct checker *c, const uint8_t *p, const uint8_t *end,
                       enum batch_flaw *ret_flaw)
{
    for (int32_t i = 0; i < c->info->count; i++) {
        int64_t n;
        *ret_flaw = BATCH_FLAW_RECORD;
        if (!varint_read(&p, end, &n) || n < 0 || n > end - p) {
            return ERR_CORRUPT;
        }
        if (!check_record(c, p, p + n, ret_flaw)) {
            return ERR_CORRUPT;
        }
        p += n;
    }
    *ret_flaw = BATCH_FLAW_RECORD;
    return p == end ? OK : ERR_CORRUPT;
}

static enum batch_flaw flaw_of(err e)
{
    return e == ERR_LIMIT       ? BATCH_FLAW_TOO_LARGE
           : e == ERR_TRUNCATED ? BATCH_FLAW_RECORD
                                : BATCH_FLAW_CODEC;
}

static err check_compressed(struct checker *c, const uint8_t *p, const uint8_t *end, size_t limit,
                            struct batch_scratch *scratch, enum batch_flaw *ret_flaw)
{
    size_t used = 0;
    size_t total = 0;
    err e = scratch_begin(scratch, c->info->codec, p, (size_t)(end - p));
    for (int32_t i = 0; !e && i < c->info->count; i++) {
        int64_t n;
        e = scratch_need(scratch, &used, VARINT_MAX);
        if (e && e != ERR_TRUNCATED) {
            break;
        }
        const uint8_t *from = (uint8_t *)scratch->buf.ptr + used;
        const uint8_t *at = from;
        *ret_flaw = BATCH_FLAW_RECORD;
        if (!varint_read(&at, (uint8_t *)scratch->buf.ptr + scratch->buf.len, &n) || n < 0) {
            return ERR_CORRUPT;
        }
        size_t head = (size_t)(at - from);
        if ((uint64_t)n > limit || total + head > limit - (size_t)n) {
            *ret_flaw = BATCH_FLAW_TOO_LARGE;
            return ERR_LIMIT;
        }
        total += head + (size_t)n;
        used += head;
        e = scratch_need(scratch, &used, (size_t)n);
        if (e) {
            break;
        }
        at = (uint8_t *)scratch->buf.ptr + used;
        if (!check_record(c, at, at + n, ret_flaw)) {
            return ERR_CORRUPT;
        }
        used += (size_t)n;
    }
    if (!e) {
        e = scratch_need(scratch, &used, 1);
        *ret_flaw = BATCH_FLAW_RECORD;
        if (!e) {
            return ERR_CORRUPT; /* left over */
        }
        if (e == ERR_TRUNCATED) {
            return OK;
        }
    }
    *ret_flaw = flaw_of(e);
    return e == ERR_TRUNCATED ? ERR_CORRUPT : e;
}

static enum batch_flaw check_head(const struct batch_header *h)
{
    if (h->attributes & ~ATTRIBUTES_OF_CLIENTS) {
        return BATCH_FLAW_ATTRIBUTES;
    }
    if (batch_codec(h->attributes) >= CODEC_COUNT) {
        return BATCH_FLAW_CODEC;
    }
    if (h->count <= 0 || h->last_offset_delta != h->count - 1 ||
        h->base_offset > INT64_MAX - h->last_offset_delta) {
        return BATCH_FLAW_COUNT;
    }
    /* Without an id, epoch and sequence are not looked at: some clients leave zeros there. */
    if (h->producer_id < -1 ||
        (h->producer_id >= 0 && (h->producer_epoch < 0 || h->base_sequence < 0))) {
        return BATCH_FLAW_PRODUCER;
    }
    if (h->base_timestamp < -1 || h->max_timestamp < -1) {
        return BATCH_FLAW_TIMESTAMP;
    }
    return BATCH_FLAW_NONE;
}

static void info_of(const struct batch_header *h, struct batch_info *info)
{
    *info = (struct batch_info){
        .count = h->count,
        .last_offset_delta = h->last_offset_delta,
        .attributes = h->attributes,
        .codec = batch_codec(h->attributes),
        .min_timestamp = INT64_MAX,
        .max_timestamp = -1,
        .producer_id = h->producer_id,
        .producer_epoch = h->producer_epoch,
        .base_sequence = h->base_sequence,
        .transactional = h->attributes & BATCH_ATTRIBUTE_TRANSACTIONAL,
        .control = h->attributes & BATCH_ATTRIBUTE_CONTROL,
    };
}

err batch_validate(const void *p, size_t size, size_t inflated_limit, struct batch_scratch *scratch,
                   struct batch_info *ret_info, enum batch_flaw *ret_flaw)
{
    const uint8_t *b = p;
    struct batch_header h = {0};
    struct batch_info info;
    err e = batch_header_read(p, size, &h);
    if (e == ERR_UNSUPPORTED) {
        *ret_flaw = BATCH_FLAW_MAGIC;
        return e;
    }
    if (e || h.size != size) {
        *ret_flaw = BATCH_FLAW_SIZE;
        return ERR_CORRUPT;
    }
    if (!batch_crc_is_right(p, size)) {
        *ret_flaw = BATCH_FLAW_CRC;
        return ERR_CORRUPT;
    }
    *ret_flaw = check_head(&h);
    if (*ret_flaw) {
        return ERR_CORRUPT;
    }
    info_of(&h, &info);
    struct checker c = {.info = &info, .base_timestamp = h.base_timestamp};
    e = info.codec == CODEC_NONE ? check_plain(&c, b + BATCH_HEADER_SIZE, b + size, ret_flaw)
                                 : check_compressed(&c, b + BATCH_HEADER_SIZE, b + size,
                                                    inflated_limit, scratch, ret_flaw);
    if (e) {
        return e;
    }
    *ret_flaw = BATCH_FLAW_NONE;
    *ret_info = info;
    return OK;
}

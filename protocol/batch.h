/* batch: record batches of magic 2 (KIP-98), the unit that clients send, the log keeps, and readers
 * get.
 *
 *   int64 base offset · int32 length (of what follows) · int32 partition leader epoch · int8 magic
 * · uint32 crc32c (of what follows) · int16 attributes · int32 last offset delta · int64 base
 * timestamp · int64 max timestamp · int64 producer id · int16 producer epoch · int32 base sequence
 * · int32 record count · records, compressed as one if the attributes say so
 *
 *   record: varint length · int8 attributes · varlong timestamp delta · varint offset delta ·
 * varint key length · key · varint value length · value · varint header count · headers (varint
 * length, name, varint length, value)
 *
 * Base offset and leader epoch lie outside of the CRC: the broker sets them in place. No function
 * here keeps state; any thread.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "protocol/compress.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BATCH_HEADER_SIZE = 61, /* bytes up to the records */
    BATCH_PREFIX_SIZE = 12, /* base offset and length: what must be read to know the size */
    BATCH_MAGIC = 2,
    BATCH_MAGIC_POSITION = 16,
    BATCH_CRC_FROM = 21, /* the CRC covers from here on */

    BATCH_ATTRIBUTE_CODEC = 7,
    BATCH_ATTRIBUTE_APPEND_TIME = 8,
    BATCH_ATTRIBUTE_TRANSACTIONAL = 16,
    BATCH_ATTRIBUTE_CONTROL = 32,
    BATCH_ATTRIBUTE_HORIZON = 64, /* base timestamp is a delete horizon (compaction) */
};

struct batch_header {
    int64_t base_offset;
    size_t size; /* bytes of the whole batch: BATCH_PREFIX_SIZE + its length field */
    int32_t leader_epoch;
    int8_t magic;
    uint32_t crc;
    int16_t attributes;
    int32_t last_offset_delta; /* >= 0 */
    int64_t base_timestamp;    /* ms; -1 none */
    int64_t max_timestamp;     /* ms; -1 none */
    int64_t producer_id;       /* -1 none */
    int16_t producer_epoch;    /* -1 none */
    int32_t base_sequence;     /* -1 none */
    int32_t count;             /* records */
};

/* The header of the batch at p; `size` bytes are there (more than the batch, or fewer).
 * ERR_TRUNCATED: fewer than a header. ERR_CORRUPT: a length that cannot be. ERR_UNSUPPORTED: a
 * magic other than 2 (base_offset, size and magic are set all the same). The CRC is not looked at.
 */
err batch_header_read(const void *p, size_t size, struct batch_header *ret_header);

bool batch_crc_is_right(const void *p, size_t size); /* exactly one batch, of `size` bytes */

static inline enum codec batch_codec(int16_t attributes)
{
    return (enum codec)(attributes & BATCH_ATTRIBUTE_CODEC);
}

/* What a whole check of a batch found out. */
struct batch_info {
    int32_t count;             /* records, > 0 */
    int32_t last_offset_delta; /* count - 1 */
    int16_t attributes;
    enum codec codec;
    int64_t min_timestamp; /* smallest of the records, ms; the batch's own for LogAppendTime */
    int64_t max_timestamp; /* largest; -1 when no record has one */
    int64_t producer_id;   /* -1: not idempotent */
    int16_t producer_epoch;
    int32_t base_sequence; /* of the first record; -1 */
    bool transactional;
    bool control;
};

enum batch_flaw { /* what batch_validate found wrong, for the answer's error code and its text */
                  BATCH_FLAW_NONE,
                  BATCH_FLAW_SIZE,       /* shorter or longer than its length says */
                  BATCH_FLAW_MAGIC,      /* not 2 */
                  BATCH_FLAW_CRC,        /* CORRUPT_MESSAGE */
                  BATCH_FLAW_ATTRIBUTES, /* unknown bits or codec, control batch from a client */
                  BATCH_FLAW_COUNT,      /* record count, last offset delta, nothing in it */
                  BATCH_FLAW_RECORD,     /* lengths, deltas, bytes left over */
                  BATCH_FLAW_TIMESTAMP,  /* the header's max timestamp is not that of the records */
                  BATCH_FLAW_CODEC,      /* the compressed bytes are not */
                  BATCH_FLAW_PRODUCER,   /* id, epoch and sequence contradict each other */
                  BATCH_FLAW_TOO_LARGE,  /* decompressed, it is over the limit */
};
const char *batch_flaw_text(enum batch_flaw flaw);

/* Reusable memory of validating and iterating compressed batches; one a thread. Zeroed is a good
 * one. */
struct batch_scratch {
    struct inflate_stream *stream; /* owned; NULL until first needed */
    struct buf buf;                /* owned: the window that records are read in */
};
void batch_scratch_finish(struct batch_scratch *s); /* takes a zeroed one */

/* Checks one batch (exactly `size` bytes) so that whoever reads it later cannot fail on it: sizes,
 * magic, CRC, attributes, count, offset deltas 0..n-1, record and header lengths, nothing left
 * over, max timestamp; compressed ones by streaming, no more than inflated_limit bytes of records.
 * Control batches are refused: clients do not write them. ERR_CORRUPT, ERR_UNSUPPORTED (magic),
 * ERR_LIMIT, ERR_MEMORY, with *ret_flaw. A max timestamp in the header that differs from the
 * records' is a flaw only when it is smaller than 0 but for -1; otherwise info->max_timestamp is
 * the records', and the caller may set it (batch_set_max_timestamp). */
err batch_validate(const void *p, size_t size, size_t inflated_limit, struct batch_scratch *scratch,
                   struct batch_info *ret_info, enum batch_flaw *ret_flaw);

void batch_set_offset(void *p, int64_t base_offset, int32_t leader_epoch); /* outside of the CRC */
void batch_set_append_time(void *p, size_t size,
                           int64_t time_ms); /* LogAppendTime: attribute, max timestamp, CRC */
void batch_set_max_timestamp(void *p, size_t size, int64_t time_ms); /* and the CRC */
void batch_set_producer(void *p, size_t size, int64_t id, int16_t epoch,
                        int32_t base_sequence); /* and the CRC */

/* ---- records */

struct record_header {
    struct str name;    /* never null */
    struct bytes value; /* may be null */
};

struct record {
    int64_t offset;
    int64_t timestamp; /* ms; the batch's max timestamp for LogAppendTime */
    struct bytes key;
    struct bytes value;
    const uint8_t *headers; /* encoded: record_header_next */
    size_t headers_size;    /* bytes */
    int32_t header_count;   /* >= 0 */
};

/* Reads the records of one batch (CRC not checked here), in order. What it gives lives until the
 * next call; compressed batches are inflated piece by piece into the scratch. */
struct batch_iterator {
    struct batch_header header;
    const uint8_t *next; /* of uncompressed ones */
    const uint8_t *end;
    struct batch_scratch *scratch; /* borrowed */
    size_t used;                   /* bytes of the scratch's buffer that were handed out */
    size_t limit;                  /* bytes that a single record may have */
    int32_t given;                 /* records so far */
};
err batch_iterator_init(struct batch_iterator *it, const void *p, size_t size, size_t record_limit,
                        struct batch_scratch *scratch);
err batch_iterator_next(struct batch_iterator *it,
                        struct record *ret_record); /* ERR_NOT_FOUND: there are no more.
                                                       ERR_CORRUPT, ERR_LIMIT, ERR_MEMORY */

/* The next of `*count` headers at *p; moves all three on. ERR_NOT_FOUND at the end, ERR_CORRUPT. */
err record_header_next(const uint8_t **p, size_t *size, int32_t *count,
                       struct record_header *ret_header);

/* ---- building */

/* Records of one batch, collected uncompressed, then finished in one go. A zeroed struct is not
 * enough: batch_builder_init. */
struct batch_builder {
    struct buf records;     /* owned: encoded, uncompressed */
    int64_t base_timestamp; /* of the first record */
    int64_t max_timestamp;
    int64_t last_timestamp_sequence; /* index of the record with max_timestamp */
    int32_t count;
};
void batch_builder_init(struct batch_builder *b);
void batch_builder_finish(struct batch_builder *b); /* frees */
void batch_builder_reset(struct batch_builder *b);  /* empty again, memory kept */
err batch_builder_add(struct batch_builder *b, int64_t timestamp, struct bytes key,
                      struct bytes value, const struct record_header *headers,
                      int32_t header_count); /* ERR_MEMORY, ERR_LIMIT (2^31 bytes) */
size_t batch_builder_size(
    const struct batch_builder *b); /* of the batch if it were finished now, uncompressed; bytes */
size_t batch_builder_record_size(const struct batch_builder *b, int64_t timestamp, struct bytes key,
                                 struct bytes value, const struct record_header *headers,
                                 int32_t header_count); /* what adding it would cost, bytes */

struct batch_seal { /* what a finished batch says of itself */
    int64_t base_offset;
    int32_t leader_epoch;
    enum codec codec;
    int32_t level;       /* of the codec; INT32_MIN its default */
    int16_t attributes;  /* besides the codec */
    int64_t producer_id; /* -1 none, and so the next two */
    int16_t producer_epoch;
    int32_t base_sequence;
};
extern const struct batch_seal batch_seal_plain; /* offset 0, epoch -1, no codec, no producer */

/* Appends the finished batch to `out`. ERR_MEMORY, ERR_INVALID (no record in it). */
err batch_builder_seal(struct batch_builder *b, const struct batch_seal *seal, struct buf *out);

/* One batch again with another codec; everything else, the producer's fields too, stays as it was.
 * Appends to `out`. */
err batch_recompress(const void *p, size_t size, enum codec codec, size_t record_limit,
                     struct batch_scratch *scratch, struct buf *out);

/* One batch (CRC not checked here) with the records that `keep` wants: offsets, times of records,
 * codec, producer and sequence stay as they are, though the first or last record may be gone. */
struct batch_filter {
    bool (*keep)(void *ctx, const struct record *r); /* asked for each, in order */
    void *ctx;
    int64_t horizon_ms; /* becomes the batch's delete horizon (KIP-534); -1: none, or as it was */
    bool keep_empty;    /* without a record a header is left (count 0, no codec, no time) */
};
/* Appends to `out`; nothing when no record stays and keep_empty is not set. ERR_CORRUPT, ERR_LIMIT,
 * ERR_MEMORY. */
err batch_filter(const void *p, size_t size, const struct batch_filter *f, size_t record_limit,
                 struct batch_scratch *scratch, struct buf *out);

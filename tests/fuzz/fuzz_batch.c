/* Batches: what batch_validate lets in, every reader can read; and it judges the same records alike
 * whatever codec they are in.
 *
 *   uint8 how · batch          how & 1: length and checksum are set right first
 *                              how & 2: the records are plain, and compressed here with all codecs
 */
#include "base/crc32c.h"
#include "base/mem.h"
#include "protocol/batch.h"
#include "tests/fuzz/fuzz.h"

enum { SET_RIGHT = 1, COMPRESS = 2, INFLATED_MAX = 1 << 20, BATCH_MAX = 1 << 16 };

static void set_right(uint8_t *p, size_t size)
{
    put_be32(p + 8, (uint32_t)(size - BATCH_PREFIX_SIZE));
    p[BATCH_MAGIC_POSITION] = BATCH_MAGIC;
    put_be32(p + 17, crc32c(p + BATCH_CRC_FROM, size - BATCH_CRC_FROM));
}

static void read_headers(const struct record *r)
{
    struct record_header h;
    const uint8_t *p = r->headers;
    size_t left = r->headers_size;
    int32_t count = r->header_count;
    err e;
    while (!(e = record_header_next(&p, &left, &count, &h))) {
        check(h.name.ptr && left <= r->headers_size);
    }
    check(e == ERR_NOT_FOUND && left == 0); /* a record that parses has good headers */
}

/* Reads all records. `info`: of a batch that was let in, in which nothing may be wrong. */
static void read_records(const uint8_t *p, size_t size, const struct batch_info *info)
{
    struct batch_scratch scratch = {0};
    struct batch_iterator it;
    struct record r;
    int64_t max = -1;
    int64_t min = INT64_MAX;
    int32_t n = 0;
    err e = batch_iterator_init(&it, p, size, INFLATED_MAX, &scratch);
    while (!e && !(e = batch_iterator_next(&it, &r))) {
        read_headers(&r);
        max = r.timestamp > max ? r.timestamp : max;
        min = r.timestamp < min ? r.timestamp : min;
        check(!info || r.offset == it.header.base_offset + n);
        n++;
    }
    if (info) {
        check(e == ERR_NOT_FOUND && n == info->count);
        check(max == info->max_timestamp && min == info->min_timestamp);
    }
    batch_scratch_finish(&scratch);
}

/* The same batch with its records in another codec must be judged the same. */
static void compare_codecs(const uint8_t *p, size_t size, err e, const struct batch_info *info)
{
    struct batch_scratch scratch = {0};
    for (enum codec codec = CODEC_GZIP; codec < CODEC_COUNT; codec++) {
        struct buf out = {0};
        struct batch_info again;
        enum batch_flaw flaw;
        buf_add(&out, p, BATCH_HEADER_SIZE);
        check(compress_bytes(codec, INT32_MIN, p + BATCH_HEADER_SIZE, size - BATCH_HEADER_SIZE,
                             &out) == OK);
        out.ptr[22] = (char)(out.ptr[22] | (char)codec);
        set_right((uint8_t *)out.ptr, out.len);
        err f = batch_validate(out.ptr, out.len, INFLATED_MAX, &scratch, &again, &flaw);
        check(!e == !f || f == ERR_LIMIT);
        if (!f) {
            check(again.count == info->count && again.max_timestamp == info->max_timestamp);
            check(again.min_timestamp == info->min_timestamp && again.codec == codec);
            read_records((const uint8_t *)out.ptr, out.len, &again);
        }
        buf_finish(&out);
    }
    batch_scratch_finish(&scratch);
}

static void change(uint8_t *p, size_t size)
{
    struct batch_header h;
    struct batch_info info;
    enum batch_flaw flaw;
    struct batch_scratch scratch = {0};
    batch_set_offset(p, 7777, 3);
    check(batch_validate(p, size, INFLATED_MAX, &scratch, &info, &flaw) == OK);
    batch_set_max_timestamp(p, size, info.max_timestamp);
    check(batch_crc_is_right(p, size));
    batch_set_append_time(p, size, 1700000000000);
    check(batch_crc_is_right(p, size) && batch_header_read(p, size, &h) == OK);
    check(h.base_offset == 7777 && h.leader_epoch == 3 && h.max_timestamp == 1700000000000);
    batch_scratch_finish(&scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    struct input in = {p, p + size};
    uint8_t how = input_byte(&in);
    struct bytes rest = input_rest(&in);
    struct batch_scratch scratch = {0};
    struct batch_info info;
    enum batch_flaw flaw = BATCH_FLAW_NONE;
    if (rest.len > BATCH_MAX) {
        return 0;
    }
    uint8_t *batch = mem_need_dup(rest.ptr, rest.len); /* its own block: asan sees its end */
    bool whole = rest.len >= BATCH_HEADER_SIZE;
    bool compress = how & COMPRESS && whole;
    if (compress) {
        batch[22] &= (uint8_t)~BATCH_ATTRIBUTE_CODEC;
    }
    if ((how & SET_RIGHT || compress) && whole) {
        set_right(batch, rest.len);
    }
    err e = batch_validate(batch, rest.len, INFLATED_MAX, &scratch, &info, &flaw);
    check(!e == (flaw == BATCH_FLAW_NONE) || e == ERR_MEMORY);
    read_records(batch, rest.len, e ? NULL : &info);
    if (compress) {
        compare_codecs(batch, rest.len, e, &info);
    }
    if (!e) {
        change(batch, rest.len);
    }
    mem_free(batch);
    batch_scratch_finish(&scratch);
    return 0;
}

/* Record batches and the four codecs: golden bytes, what is patched in place, what is let in, and
 * bombs. */
#include "protocol/batch.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>
#include <lz4frame.h>
#include <snappy-c.h>
#include <zlib.h>

enum { LIMIT = 1 << 20 };

static struct bytes text(const char *t)
{
    return (struct bytes){(const uint8_t *)t, t ? strlen(t) : 0};
}

/* Three records: key and value, a null value with a header, an empty value with a null header. */
static void build(const struct batch_seal *seal, struct buf *out)
{
    struct batch_builder b;
    struct record_header h[2] = {
        {.name = STR("h"), .value = {(const uint8_t *)"v", 1}},
        {.name = STR(""),  .value = {0}                      },
    };
    batch_builder_init(&b);
    assert_int_equal(batch_builder_add(&b, 1000, text("k"), text("value"), NULL, 0), OK);
    assert_int_equal(batch_builder_add(&b, 1005, text(NULL), text(NULL), h, 1), OK);
    assert_int_equal(batch_builder_add(&b, 998, text("k"), text(""), h, 2), OK);
    assert_int_equal(batch_builder_seal(&b, seal, out), OK);
    batch_builder_finish(&b);
}

static err validate(const struct buf *b, struct batch_info *info, enum batch_flaw *flaw)
{
    struct batch_scratch scratch = {0};
    uint8_t *copy = mem_need_dup(b->ptr, b->len); /* its own block: asan sees its end */
    err e = batch_validate(copy, b->len, LIMIT, &scratch, info, flaw);
    batch_scratch_finish(&scratch);
    mem_free(copy);
    return e;
}

static void expect_good(const struct buf *b)
{
    struct batch_info info;
    enum batch_flaw flaw;
    assert_int_equal(validate(b, &info, &flaw), OK);
    assert_int_equal(flaw, BATCH_FLAW_NONE);
}

static void expect_flaw(const struct buf *b, enum batch_flaw wanted)
{
    struct batch_info info;
    enum batch_flaw flaw;
    assert_int_not_equal(validate(b, &info, &flaw), OK);
    assert_string_equal(batch_flaw_text(flaw), batch_flaw_text(wanted));
}

static void set_crc(struct buf *b)
{
    put_be32(b->ptr + 17, crc32c(b->ptr + BATCH_CRC_FROM, b->len - BATCH_CRC_FROM));
}

static void a_plain_batch_is_byte_for_byte_as_kafka_has_it(void **state)
{
    (void)state;
    static const uint8_t golden[] = {
        0,  0, 0,  0,  0, 0,   0,  7,                             /* base offset */
        0,  0, 0,  87,                                            /* length */
        0,  0, 0,  3,                                             /* leader epoch */
        2,                                                        /* magic */
        0,  0, 0,  0,                                             /* crc, below */
        0,  0,                                                    /* attributes */
        0,  0, 0,  2,                                             /* last offset delta */
        0,  0, 0,  0,  0, 0,   3,  232,                           /* base timestamp 1000 */
        0,  0, 0,  0,  0, 0,   3,  237,                           /* max timestamp 1005 */
        0,  0, 0,  0,  0, 0,   0,  9,                             /* producer id */
        0,  1,                                                    /* epoch */
        0,  0, 0,  5,                                             /* base sequence */
        0,  0, 0,  3,                                             /* count */
        24, 0, 0,  0,  2, 'k', 10, 'v', 'a', 'l', 'u', 'e', 0,    /* 12 bytes */
        20, 0, 10, 2,  1, 1,   2,  2,   'h', 2,   'v',            /* 10: nulls, one header */
        26, 0, 3,  4,  2, 'k', 0,  4,   2,   'h', 2,   'v', 0, 1, /* 13: delta -2, a null header */
    };
    struct buf b = {0};
    struct batch_seal seal = batch_seal_plain;
    seal.base_offset = 7;
    seal.leader_epoch = 3;
    seal.producer_id = 9;
    seal.producer_epoch = 1;
    seal.base_sequence = 5;
    build(&seal, &b);
    uint32_t crc = get_be32(b.ptr + 17);
    assert_true(batch_crc_is_right(b.ptr, b.len));
    memset(b.ptr + 17, 0, 4);
    assert_int_equal(b.len, sizeof golden);
    assert_memory_equal(b.ptr, golden, sizeof golden);
    assert_int_equal(crc, crc32c(golden + BATCH_CRC_FROM, sizeof golden - BATCH_CRC_FROM));
    buf_finish(&b);
}

static void records_come_back_from_every_codec(void **state)
{
    (void)state;
    for (enum codec codec = CODEC_NONE; codec < CODEC_COUNT; codec++) {
        struct buf b = {0};
        struct batch_scratch scratch = {0};
        struct batch_iterator it;
        struct record r;
        struct record_header h;
        struct batch_seal seal = batch_seal_plain;
        seal.codec = codec;
        seal.base_offset = 40;
        build(&seal, &b);
        expect_good(&b);
        assert_int_equal(batch_iterator_init(&it, b.ptr, b.len, LIMIT, &scratch), OK);
        assert_int_equal(batch_iterator_next(&it, &r), OK);
        assert_int_equal(r.offset, 40);
        assert_int_equal(r.timestamp, 1000);
        assert_memory_equal(r.key.ptr, "k", 1);
        assert_int_equal(r.value.len, 5);
        assert_int_equal(r.header_count, 0);
        assert_int_equal(batch_iterator_next(&it, &r), OK);
        assert_int_equal(r.timestamp, 1005);
        assert_null(r.key.ptr);
        assert_null(r.value.ptr);
        assert_int_equal(batch_iterator_next(&it, &r), OK);
        assert_int_equal(r.offset, 42);
        assert_int_equal(r.timestamp, 998);
        assert_non_null(r.value.ptr);
        assert_int_equal(r.value.len, 0);
        const uint8_t *p = r.headers;
        size_t left = r.headers_size;
        int32_t count = r.header_count;
        assert_int_equal(record_header_next(&p, &left, &count, &h), OK);
        assert_true(str_eq(h.name, STR("h")) && h.value.len == 1);
        assert_int_equal(record_header_next(&p, &left, &count, &h), OK);
        assert_true(h.name.ptr && h.name.len == 0 && !h.value.ptr);
        assert_int_equal(record_header_next(&p, &left, &count, &h), ERR_NOT_FOUND);
        assert_int_equal(batch_iterator_next(&it, &r), ERR_NOT_FOUND);
        batch_scratch_finish(&scratch);
        buf_finish(&b);
    }
}

static void offset_and_epoch_are_outside_of_the_checksum(void **state)
{
    (void)state;
    struct buf b = {0};
    struct batch_header h;
    build(&batch_seal_plain, &b);
    batch_set_offset(b.ptr, INT64_MAX - 10, 77);
    assert_true(batch_crc_is_right(b.ptr, b.len));
    assert_int_equal(batch_header_read(b.ptr, b.len, &h), OK);
    assert_true(h.base_offset == INT64_MAX - 10);
    assert_int_equal(h.leader_epoch, 77);
    expect_good(&b);
    buf_finish(&b);
}

static void append_time_is_every_records_time(void **state)
{
    (void)state;
    for (enum codec codec = CODEC_NONE; codec < CODEC_COUNT; codec++) {
        struct buf b = {0};
        struct batch_scratch scratch = {0};
        struct batch_iterator it;
        struct record r;
        struct batch_seal seal = batch_seal_plain;
        seal.codec = codec;
        build(&seal, &b);
        batch_set_append_time(b.ptr, b.len, 123456);
        assert_true(batch_crc_is_right(b.ptr, b.len));
        assert_int_equal(batch_iterator_init(&it, b.ptr, b.len, LIMIT, &scratch), OK);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(batch_iterator_next(&it, &r), OK);
            assert_int_equal(r.timestamp, 123456);
        }
        assert_int_equal(batch_codec(it.header.attributes), codec);
        batch_set_max_timestamp(b.ptr, b.len, 5);
        assert_true(batch_crc_is_right(b.ptr, b.len));
        batch_scratch_finish(&scratch);
        buf_finish(&b);
    }
}

static void what_is_wrong_with_a_batch_is_named(void **state)
{
    (void)state;
    static const struct {
        size_t position;
        uint8_t value;
        enum batch_flaw flaw;
    } cases[] = {
        {11, 88,   BATCH_FLAW_SIZE      }, /* one byte longer than it is */
        {11, 86,   BATCH_FLAW_SIZE      },
        {8,  0x80, BATCH_FLAW_SIZE      }, /* negative */
        {16, 1,    BATCH_FLAW_MAGIC     },
        {22, 5,    BATCH_FLAW_CODEC     }, /* no such codec */
        {22, 8,    BATCH_FLAW_ATTRIBUTES}, /* LogAppendTime is not the client's to say */
        {22, 32,   BATCH_FLAW_ATTRIBUTES}, /* control */
        {22, 128,  BATCH_FLAW_ATTRIBUTES},
        {22, 1,    BATCH_FLAW_CODEC     }, /* it is no gzip */
        {26, 1,    BATCH_FLAW_COUNT     }, /* last offset delta */
        {60, 2,    BATCH_FLAW_COUNT     },
        {60, 0,    BATCH_FLAW_COUNT     },
        {27, 0x80, BATCH_FLAW_TIMESTAMP }, /* base timestamp far below 0 */
        {35, 0x80, BATCH_FLAW_TIMESTAMP },
        {43, 0x80, BATCH_FLAW_PRODUCER  },
        {51, 0x80, BATCH_FLAW_PRODUCER  },
        {53, 0x80, BATCH_FLAW_PRODUCER  },
        {61, 26,   BATCH_FLAW_RECORD    }, /* the first record's length */
        {64, 2,    BATCH_FLAW_RECORD    }, /* its offset delta */
        {65, 40,   BATCH_FLAW_RECORD    }, /* its key's length */
        {65, 3,    BATCH_FLAW_RECORD    }, /* -2 */
        {73, 2,    BATCH_FLAW_RECORD    }, /* a header that is not there */
    };
    struct batch_seal seal = batch_seal_plain;
    seal.producer_id = 1;
    seal.producer_epoch = 0;
    seal.base_sequence = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b = {0};
        build(&seal, &b);
        b.ptr[cases[i].position] = (char)cases[i].value;
        set_crc(&b);
        expect_flaw(&b, cases[i].flaw);
        buf_finish(&b);
    }
    /* Found by fuzz_batch: what comes behind the last offset that there can be has none. */
    struct buf b = {0};
    build(&seal, &b);
    batch_set_offset((uint8_t *)b.ptr, INT64_MAX - 2, 0);
    struct batch_info info;
    enum batch_flaw flaw;
    assert_int_equal(validate(&b, &info, &flaw), OK);
    batch_set_offset((uint8_t *)b.ptr, INT64_MAX - 1, 0);
    expect_flaw(&b, BATCH_FLAW_COUNT);
    buf_finish(&b);
}

static void no_bit_of_a_batch_can_turn_unnoticed(void **state)
{
    (void)state;
    struct buf b = {0};
    build(&batch_seal_plain, &b);
    for (size_t bit = 8 * 8; bit < b.len * 8; bit++) {
        if (bit >= 12 * 8 && bit < 16 * 8) {
            continue; /* the leader epoch, which the broker sets */
        }
        struct batch_info info;
        enum batch_flaw flaw;
        b.ptr[bit / 8] = (char)(b.ptr[bit / 8] ^ (1 << bit % 8));
        assert_int_not_equal(validate(&b, &info, &flaw), OK);
        b.ptr[bit / 8] = (char)(b.ptr[bit / 8] ^ (1 << bit % 8));
    }
    for (size_t size = 0; size < b.len; size++) {
        struct buf cut = {.ptr = b.ptr, .len = size};
        expect_flaw(&cut, BATCH_FLAW_SIZE);
    }
    buf_finish(&b);
}

/* ---- codecs */

/* A batch around bytes that some codec made. */
static void wrap(enum codec codec, const void *p, size_t size, int32_t count, struct buf *out)
{
    struct buf plain = {0};
    build(&batch_seal_plain, &plain);
    buf_add(out, plain.ptr, BATCH_HEADER_SIZE);
    buf_add(out, p, size);
    put_be32(out->ptr + 8, (uint32_t)(out->len - BATCH_PREFIX_SIZE));
    out->ptr[22] = (char)codec;
    put_be32(out->ptr + 23, (uint32_t)count - 1);
    put_be32(out->ptr + 57, (uint32_t)count);
    set_crc(out);
    buf_finish(&plain);
}

/* The plain records of build(). */
static void records(struct buf *out)
{
    struct buf plain = {0};
    build(&batch_seal_plain, &plain);
    buf_add(out, plain.ptr + BATCH_HEADER_SIZE, plain.len - BATCH_HEADER_SIZE);
    buf_finish(&plain);
}

static void a_bomb_is_refused_before_it_has_gone_off(void **state)
{
    (void)state;
    enum { SIZE = 16 << 20 };
    uint8_t *zeros = mem_need_zero(1, SIZE);
    /* One record that says it is 16 MiB long: varint of its size behind the length. */
    static const uint8_t head[] = {0xfe, 0xff, 0xff, 0x0f};
    memcpy(zeros, head, sizeof head);
    for (enum codec codec = CODEC_GZIP; codec < CODEC_COUNT; codec++) {
        struct buf packed = {0};
        struct buf b = {0};
        assert_int_equal(compress_bytes(codec, INT32_MIN, zeros, SIZE, &packed), OK);
        wrap(codec, packed.ptr, packed.len, 1, &b);
        expect_flaw(&b, BATCH_FLAW_TOO_LARGE);
        buf_finish(&packed);
        buf_finish(&b);
    }
    mem_free(zeros);
}

static void many_small_records_are_a_bomb_too(void **state)
{
    (void)state;
    enum { COUNT = 400000 };
    struct buf plain = {0};
    struct batch_builder b;
    batch_builder_init(&b);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(batch_builder_add(&b, 1000, text(NULL), text(NULL), NULL, 0), OK);
    }
    struct batch_seal seal = batch_seal_plain;
    seal.codec = CODEC_ZSTD;
    assert_int_equal(batch_builder_seal(&b, &seal, &plain), OK);
    expect_flaw(&plain, BATCH_FLAW_TOO_LARGE); /* 3 MB of records */
    batch_builder_finish(&b);
    buf_finish(&plain);
}

static void bytes_behind_a_codecs_end_are_refused(void **state)
{
    (void)state;
    struct buf plain = {0};
    records(&plain);
    for (enum codec codec = CODEC_GZIP; codec < CODEC_COUNT; codec++) {
        struct buf packed = {0};
        assert_int_equal(compress_bytes(codec, INT32_MIN, plain.ptr, plain.len, &packed), OK);
        for (size_t cut = 1; cut <= packed.len; cut++) {
            struct buf b = {0};
            struct batch_info info;
            enum batch_flaw flaw;
            wrap(codec, packed.ptr, packed.len - cut, 3, &b);
            err e = validate(&b, &info, &flaw);
            assert_true(e == ERR_CORRUPT);
            buf_finish(&b);
        }
        buf_add_str(&packed, STR("left over"));
        struct buf b = {0};
        wrap(codec, packed.ptr, packed.len, 3, &b);
        struct batch_info info;
        enum batch_flaw flaw;
        assert_int_equal(validate(&b, &info, &flaw), ERR_CORRUPT);
        buf_finish(&b);
        buf_finish(&packed);
    }
    buf_finish(&plain);
}

/* java's GZIPInputStream reads members that follow each other as one; so do lz4 and zstd frames. */
static void several_members_are_read_as_one(void **state)
{
    (void)state;
    static const enum codec codecs[] = {CODEC_GZIP, CODEC_ZSTD}; /* lz4: see test_lz4_frames */
    struct buf plain = {0};
    records(&plain);
    for (size_t i = 0; i < sizeof codecs / sizeof codecs[0]; i++) {
        struct buf packed = {0};
        struct buf b = {0};
        for (size_t at = 0; at < plain.len; at += 10) {
            size_t n = plain.len - at < 10 ? plain.len - at : 10;
            assert_int_equal(compress_bytes(codecs[i], INT32_MIN, plain.ptr + at, n, &packed), OK);
        }
        wrap(codecs[i], packed.ptr, packed.len, 3, &b);
        expect_good(&b);
        buf_finish(&packed);
        buf_finish(&b);
    }
    buf_finish(&plain);
}

/* librdkafka and others write snappy without Java's framing; xerial's blocks are of any size. */
static void snappy_is_read_with_javas_framing_and_without(void **state)
{
    (void)state;
    struct buf plain = {0};
    struct buf packed = {0};
    struct buf b = {0};
    records(&plain);
    size_t size = snappy_max_compressed_length(plain.len);
    assert_true(buf_reserve(&packed, size));
    assert_int_equal(snappy_compress(plain.ptr, plain.len, packed.ptr, &size), SNAPPY_OK);
    wrap(CODEC_SNAPPY, packed.ptr, size, 3, &b);
    expect_good(&b);

    struct buf framed = {0};
    buf_add(&framed, "\x82SNAPPY\0\0\0\0\1\0\0\0\1", 16);
    for (size_t at = 0; at < plain.len; at += 7) {
        char block[64];
        uint8_t head[4];
        size_t n = plain.len - at < 7 ? plain.len - at : 7;
        size = sizeof block;
        assert_int_equal(snappy_compress(plain.ptr + at, n, block, &size), SNAPPY_OK);
        put_be32(head, (uint32_t)size);
        buf_add(&framed, head, 4);
        buf_add(&framed, block, size);
    }
    b.len = 0;
    wrap(CODEC_SNAPPY, framed.ptr, framed.len, 3, &b);
    expect_good(&b);
    buf_finish(&framed);
    buf_finish(&packed);
    buf_finish(&plain);
    buf_finish(&b);
}

/* What is written is what others' libraries read: xerial's head, a gzip member, an lz4 frame with
 * independent blocks of 64 KiB, a zstd frame. */
static void what_is_written_has_the_form_that_clients_expect(void **state)
{
    (void)state;
    static const uint8_t xerial[] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1};
    struct buf out = {0};
    assert_int_equal(compress_bytes(CODEC_SNAPPY, INT32_MIN, "abc", 3, &out), OK);
    assert_memory_equal(out.ptr, xerial, sizeof xerial);
    assert_int_equal(get_be32(out.ptr + 16), out.len - 20);
    out.len = 0;
    assert_int_equal(compress_bytes(CODEC_GZIP, INT32_MIN, "abc", 3, &out), OK);
    assert_memory_equal(out.ptr, "\x1f\x8b\x08", 3);
    out.len = 0;
    assert_int_equal(compress_bytes(CODEC_LZ4, INT32_MIN, "abc", 3, &out), OK);
    assert_memory_equal(out.ptr, "\x04\x22\x4d\x18\x60\x40", 6);
    out.len = 0;
    assert_int_equal(compress_bytes(CODEC_ZSTD, INT32_MIN, "abc", 3, &out), OK);
    assert_memory_equal(out.ptr, "\x28\xb5\x2f\xfd", 4);
    buf_finish(&out);
}

static void a_batch_in_another_codec_says_the_same(void **state)
{
    (void)state;
    for (enum codec from = CODEC_NONE; from < CODEC_COUNT; from++) {
        for (enum codec to = CODEC_NONE; to < CODEC_COUNT; to++) {
            struct buf a = {0};
            struct buf b = {0};
            struct buf back = {0};
            struct batch_scratch scratch = {0};
            struct batch_seal seal = batch_seal_plain;
            seal.codec = from;
            seal.producer_id = 4;
            seal.producer_epoch = 2;
            seal.base_sequence = 8;
            build(&seal, &a);
            assert_int_equal(batch_recompress(a.ptr, a.len, to, LIMIT, &scratch, &b), OK);
            expect_good(&b);
            assert_int_equal(batch_codec((int16_t)get_be16(b.ptr + 21)), to);
            assert_int_equal(batch_recompress(b.ptr, b.len, from, LIMIT, &scratch, &back), OK);
            assert_int_equal(back.len, a.len);
            assert_memory_equal(back.ptr, a.ptr, a.len);
            batch_scratch_finish(&scratch);
            buf_finish(&a);
            buf_finish(&b);
            buf_finish(&back);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_batch_is_byte_for_byte_as_kafka_has_it),
        cmocka_unit_test(records_come_back_from_every_codec),
        cmocka_unit_test(offset_and_epoch_are_outside_of_the_checksum),
        cmocka_unit_test(append_time_is_every_records_time),
        cmocka_unit_test(what_is_wrong_with_a_batch_is_named),
        cmocka_unit_test(no_bit_of_a_batch_can_turn_unnoticed),
        cmocka_unit_test(a_bomb_is_refused_before_it_has_gone_off),
        cmocka_unit_test(many_small_records_are_a_bomb_too),
        cmocka_unit_test(bytes_behind_a_codecs_end_are_refused),
        cmocka_unit_test(several_members_are_read_as_one),
        cmocka_unit_test(snappy_is_read_with_javas_framing_and_without),
        cmocka_unit_test(what_is_written_has_the_form_that_clients_expect),
        cmocka_unit_test(a_batch_in_another_codec_says_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

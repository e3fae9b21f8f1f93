/* The reader and the writer over every table, and by hand where the bytes matter. */
#include "base/mem.h"
#include "gen/api_versions.h"
#include "gen/apis.h"
#include "gen/describe_topic_partitions.h"
#include "gen/fetch.h"
#include "gen/metadata.h"
#include "gen/offset_fetch.h"
#include "gen/produce.h"
#include "protocol/frame.h"
#include "tests/kit/wire_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum {
    ARENA_LIMIT = 1 << 22,
    WRITER_LIMIT = 1 << 22,
    ROUNDS = 3, /* messages of every table and version */
};

typedef void on_table(const struct wire_struct *table, int16_t version, struct rng *rng);

static void for_all_tables(uint64_t seed, on_table *fn)
{
    struct rng rng;
    rng_init(&rng, seed);
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int32_t i = 0; i < wire_api_count; i++) {
        const struct wire_api *api = &wire_apis[i];
        for (int16_t v = api->min_version; v <= api->max_version; v++) {
            fn(api->request, v, &rng);
            fn(api->response, v, &rng);
        }
    }
    for (int32_t i = 0; i < wire_record_kind_count; i++) {
        const struct wire_struct *t = wire_record_kinds[i];
        for (int16_t v = t->min_version; v <= t->max_version; v++) {
            fn(t, v, &rng);
        }
    }
}

static void encode_random(const struct wire_struct *t, int16_t version, struct rng *rng,
                          struct arena *a, struct writer *w)
{
    void *in = arena_alloc(a, t->size);
    assert_non_null(in);
    wire_random(t, version, rng, a, in);
    err e = wire_encode(t, version, w, in);
    if (e != OK) {
        fail_msg("%s v%d: %s at %s", t->name, version, err_text(e), w->at ? w->at : "?");
    }
}

static void round_trip(const struct wire_struct *t, int16_t version, struct rng *rng)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct arena a;
        struct writer w, again;
        struct reader r;
        arena_init(&a, ARENA_LIMIT);
        writer_init(&w, WRITER_LIMIT);
        writer_init(&again, WRITER_LIMIT);
        encode_random(t, version, rng, &a, &w);
        void *out = arena_alloc(&a, t->size);
        reader_init(&r, w.ptr, w.len);
        err e = wire_decode(t, version, &r, &a, out);
        if (e != OK) {
            fail_msg("%s v%d: %s at %s", t->name, version, err_text(e), r.at ? r.at : "?");
        }
        assert_int_equal(reader_left(&r), 0);
        assert_int_equal(wire_encode(t, version, &again, out), OK);
        assert_int_equal(again.len, w.len);
        if (w.len) {
            assert_memory_equal(again.ptr, w.ptr, w.len);
        }
        writer_finish(&again);
        writer_finish(&w);
        arena_finish(&a);
    }
}

static void every_message_survives_a_round_trip(void **state)
{
    (void)state;
    for_all_tables(1, round_trip);
}

/* Every message, cut short at every byte: an error each time, and nothing read past the end (the
 * copy is exactly as long as the piece, so that asan sees it). */
static void cut_short(const struct wire_struct *t, int16_t version, struct rng *rng)
{
    struct arena a;
    struct writer w;
    arena_init(&a, ARENA_LIMIT);
    writer_init(&w, WRITER_LIMIT);
    encode_random(t, version, rng, &a, &w);
    for (size_t len = 0; len < w.len; len += 1 + len / 16) {
        uint8_t *piece = mem_dup(w.ptr, len);
        struct reader r;
        reader_init(&r, piece, len);
        void *out = arena_alloc(&a, t->size);
        assert_non_null(out);
        assert_int_not_equal(wire_decode(t, version, &r, &a, out), OK);
        mem_free(piece);
    }
    writer_finish(&w);
    arena_finish(&a);
}

static void a_message_cut_short_anywhere_is_an_error(void **state)
{
    (void)state;
    for_all_tables(2, cut_short);
}

/* Every message with bytes changed: anything may come out, but within the limits. */
static void garbled(const struct wire_struct *t, int16_t version, struct rng *rng)
{
    struct arena a;
    struct writer w;
    arena_init(&a, ARENA_LIMIT);
    writer_init(&w, WRITER_LIMIT);
    encode_random(t, version, rng, &a, &w);
    for (int round = 0; round < 8 && w.len; round++) {
        uint8_t *copy = mem_dup(w.ptr, w.len);
        for (int i = 0; i < 3; i++) {
            copy[rng_below(rng, w.len)] = (uint8_t)rng_next(rng);
        }
        struct arena small;
        struct reader r;
        arena_init(&small, 1 << 16);
        reader_init(&r, copy, w.len);
        void *out = arena_alloc(&a, t->size);
        assert_non_null(out);
        err e = wire_decode(t, version, &r, &small, out);
        assert_true(e == r.error);
        assert_true(small.used_bytes <= 1 << 16);
        arena_finish(&small);
        mem_free(copy);
    }
    writer_finish(&w);
    arena_finish(&a);
}

static void garbled_messages_stay_within_the_limits(void **state)
{
    (void)state;
    for_all_tables(3, garbled);
}

/* ---- by hand ---- */

struct bench {
    struct arena a;
    struct writer w;
};

static int setup(void **state)
{
    static struct bench b;
    arena_init(&b.a, ARENA_LIMIT);
    writer_init(&b.w, WRITER_LIMIT);
    *state = &b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;
    writer_finish(&b->w);
    arena_finish(&b->a);
    return 0;
}

/* Decodes bytes given as a literal. */
static err decode_bytes(struct bench *b, const struct wire_struct *t, int16_t version,
                        const char *bytes, size_t size, void *out)
{
    struct reader r;
    reader_init(&r, bytes, size);
    return wire_decode(t, version, &r, &b->a, out);
}

#define DECODE(b, table, version, literal, out)                                                    \
    decode_bytes(b, table, version, literal, sizeof(literal) - 1, out)

static void assert_written(const struct bench *b, const char *bytes, size_t size)
{
    assert_int_equal(b->w.error, OK);
    assert_int_equal(b->w.len, size);
    assert_memory_equal(b->w.ptr, bytes, size);
}

#define ASSERT_WRITTEN(b, literal) assert_written(b, literal, sizeof(literal) - 1)

static void defaults_are_set_where_the_version_lacks_the_field(void **state)
{
    struct bench *b = *state;
    struct metadata_request m;
    assert_int_equal(DECODE(b, &metadata_request_table, 1, "\xff\xff\xff\xff", &m), OK);
    assert_int_equal(m.topics_count, -1);
    assert_true(m.allow_auto_topic_creation);
    struct metadata_response_broker *brokers =
        wire_array(&b->a, &metadata_response_broker_table, 2);
    assert_non_null(brokers[1].host.ptr);
    assert_int_equal(brokers[1].host.len, 0);
    assert_null(brokers[1].rack.ptr);
}

static void null_and_empty_are_told_apart(void **state)
{
    struct bench *b = *state;
    struct offset_fetch_request m;
    assert_int_equal(DECODE(b, &offset_fetch_request_table, 7, "\x01\x00\x01\x00", &m), OK);
    assert_non_null(m.group_id.ptr);
    assert_int_equal(m.group_id.len, 0);
    assert_int_equal(m.topics_count, -1);
    assert_true(m.require_stable);
    assert_int_equal(DECODE(b, &offset_fetch_request_table, 7, "\x01\x01\x00\x00", &m), OK);
    assert_int_equal(m.topics_count, 0);
}

static void null_is_refused_where_it_must_not_be(void **state)
{
    struct bench *b = *state;
    struct offset_fetch_request m;
    assert_int_equal(DECODE(b, &offset_fetch_request_table, 7, "\x00\x01\x00\x00", &m),
                     ERR_INVALID);
    assert_int_equal(DECODE(b, &offset_fetch_request_table, 1, "\xff\xff\x00\x00\x00\x00", &m),
                     ERR_INVALID);
    assert_int_equal(DECODE(b, &offset_fetch_request_table, 1, "\x00\x00\xff\xff\xff\xff", &m),
                     ERR_INVALID);
    assert_int_equal(DECODE(b, &offset_fetch_request_table, 2, "\x00\x00\xff\xff\xff\xff", &m), OK);

    offset_fetch_request_init(&m);
    m.topics_count = -1;
    assert_int_equal(wire_encode(&offset_fetch_request_table, 1, &b->w, &m), ERR_INVALID);
    assert_string_equal(b->w.at, "topics");
    writer_reset(&b->w);
    m.group_id = (struct str){0};
    assert_int_equal(wire_encode(&offset_fetch_request_table, 2, &b->w, &m), ERR_INVALID);
    assert_string_equal(b->w.at, "group_id");
}

static void lengths_below_null_are_refused(void **state)
{
    struct bench *b = *state;
    struct metadata_request m;
    assert_int_equal(DECODE(b, &metadata_request_table, 1, "\xff\xff\xff\xfe", &m), ERR_INVALID);
    assert_int_equal(DECODE(b, &metadata_request_table, 1, "\x80\x00\x00\x00", &m), ERR_INVALID);
    assert_int_equal(DECODE(b, &metadata_request_table, 9, "\xff\xff\xff\xff\x0f\x00\x00\x00", &m),
                     ERR_INVALID);
}

static void a_count_beyond_the_bytes_is_refused_before_memory_is_taken(void **state)
{
    struct bench *b = *state;
    struct metadata_request m;
    assert_int_equal(DECODE(b, &metadata_request_table, 1, "\x7f\xff\xff\xff\x00\x00", &m),
                     ERR_TRUNCATED);
    assert_int_equal(
        DECODE(b, &metadata_request_table, 9, "\xff\xff\xff\xff\x07\x00\x00\x00\x00", &m),
        ERR_TRUNCATED);
    /* Three names cannot be in five bytes: each takes two at least. */
    assert_int_equal(
        DECODE(b, &metadata_request_table, 1, "\x00\x00\x00\x03\x00\x00\x00\x00\x00", &m),
        ERR_TRUNCATED);
    assert_int_equal(b->a.used_bytes, 0);
}

static void arrays_have_a_limit(void **state)
{
    struct bench *b = *state;
    struct metadata_request m;
    struct reader r;
    const char bytes[] = "\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00";
    reader_init(&r, bytes, sizeof bytes - 1);
    r.array_limit = 2;
    assert_int_equal(wire_decode(&metadata_request_table, 1, &r, &b->a, &m), ERR_LIMIT);
    assert_string_equal(r.at, "topics");
    reader_init(&r, bytes, sizeof bytes - 1);
    r.array_limit = 3;
    assert_int_equal(wire_decode(&metadata_request_table, 1, &r, &b->a, &m), OK);
}

static void the_arena_bounds_what_a_message_takes(void **state)
{
    (void)state;
    enum { SIZE = 100000 };
    struct arena small;
    struct reader r;
    struct metadata_request m;
    uint8_t *bytes = mem_zero(1, SIZE);
    put_be32(bytes, (SIZE - 4) / 2);
    arena_init(&small, 1 << 16);
    reader_init(&r, bytes, SIZE);
    assert_int_equal(wire_decode(&metadata_request_table, 1, &r, &small, &m), ERR_LIMIT);
    assert_true(small.used_bytes <= 1 << 16);
    arena_finish(&small);
    mem_free(bytes);
}

static void strings_must_be_utf8(void **state)
{
    struct bench *b = *state;
    struct metadata_request m;
    assert_int_equal(DECODE(b, &metadata_request_table, 1, "\x00\x00\x00\x01\x00\x02\xc3\xa9", &m),
                     OK);
    assert_int_equal(DECODE(b, &metadata_request_table, 1, "\x00\x00\x00\x01\x00\x02\xc3\x28", &m),
                     ERR_INVALID);
}

static void strings_have_kafkas_limit_in_compact_form_too(void **state)
{
    struct bench *b = *state;
    enum { LEN = WIRE_STRING_LIMIT + 1 };
    char *text = mem_alloc(LEN);
    memset(text, 'x', LEN);
    struct writer in;
    writer_init(&in, 1 << 20);
    for (size_t len = LEN - 1; len <= LEN; len++) {
        struct api_versions_request m;
        writer_reset(&in);
        writer_uvarint(&in, (uint32_t)len + 1);
        writer_add(&in, text, len);
        writer_add(&in, "\x01\x00", 2);
        struct reader r;
        reader_init(&r, in.ptr, in.len);
        assert_int_equal(wire_decode(&api_versions_request_table, 3, &r, &b->a, &m),
                         len < LEN ? OK : ERR_LIMIT);
        api_versions_request_init(&m);
        m.client_software_name = (struct str){.ptr = text, .len = len};
        writer_reset(&b->w);
        assert_int_equal(wire_encode(&api_versions_request_table, 3, &b->w, &m),
                         len < LEN ? OK : ERR_LIMIT);
    }
    writer_finish(&in);
    mem_free(text);
}

static void unknown_tagged_fields_are_skipped(void **state)
{
    struct bench *b = *state;
    struct api_versions_request m;
    const char bytes[] = "\x02n\x02v\x02\x05\x03xyz\xff\x01\x00";
    struct reader r;
    reader_init(&r, bytes, sizeof bytes - 1);
    assert_int_equal(wire_decode(&api_versions_request_table, 3, &r, &b->a, &m), OK);
    assert_int_equal(reader_left(&r), 0);
    assert_int_equal(wire_encode(&api_versions_request_table, 3, &b->w, &m), OK);
    ASSERT_WRITTEN(b, "\x02n\x02v\x00");
}

static void a_tagged_field_must_fill_its_size(void **state)
{
    struct bench *b = *state;
    struct api_versions_response m;
    /* zk_migration_ready (tag 3) in two bytes, in none, and as it should be */
    assert_int_equal(DECODE(b, &api_versions_response_table, 3,
                            "\x00\x00\x01\x00\x00\x00\x00\x01\x03\x02\x01\x01", &m),
                     ERR_INVALID);
    assert_int_equal(
        DECODE(b, &api_versions_response_table, 3, "\x00\x00\x01\x00\x00\x00\x00\x01\x03\x00", &m),
        ERR_TRUNCATED);
    assert_int_equal(DECODE(b, &api_versions_response_table, 3,
                            "\x00\x00\x01\x00\x00\x00\x00\x01\x03\x01\x01", &m),
                     OK);
    assert_true(m.zk_migration_ready);
}

static void a_tagged_field_cannot_reach_behind_the_message(void **state)
{
    struct bench *b = *state;
    struct api_versions_request m;
    assert_int_equal(DECODE(b, &api_versions_request_table, 3, "\x02n\x02v\x01\x05\x04xyz", &m),
                     ERR_TRUNCATED);
    assert_int_equal(
        DECODE(b, &api_versions_request_table, 3, "\x02n\x02v\xff\xff\xff\xff\x0f", &m), ERR_LIMIT);
}

static void a_large_tagged_field_gets_a_size_of_two_bytes(void **state)
{
    struct bench *b = *state;
    struct api_versions_response m, back;
    api_versions_response_init(&m);
    m.supported_features = wire_array(&b->a, &api_versions_response_supported_feature_table, 40);
    m.supported_features_count = 40;
    for (int i = 0; i < 40; i++) {
        m.supported_features[i].name = STR("feature");
        m.supported_features[i].max_version = (int16_t)i;
    }
    m.zk_migration_ready = true;
    assert_int_equal(wire_encode(&api_versions_response_table, 4, &b->w, &m), OK);
    struct reader r;
    reader_init(&r, b->w.ptr, b->w.len);
    assert_int_equal(wire_decode(&api_versions_response_table, 4, &r, &b->a, &back), OK);
    assert_int_equal(reader_left(&r), 0);
    assert_int_equal(back.supported_features_count, 40);
    assert_int_equal(back.supported_features[39].max_version, 39);
    assert_true(str_eq(back.supported_features[39].name, STR("feature")));
    assert_true(back.zk_migration_ready);
}

static void what_a_version_lacks_is_dropped_only_if_ignorable(void **state)
{
    struct bench *b = *state;
    struct metadata_response out;
    metadata_response_init(&out);
    out.throttle_time_ms = 5; /* ignorable, 3+ */
    assert_int_equal(wire_encode(&metadata_response_table, 0, &b->w, &out), OK);
    ASSERT_WRITTEN(b, "\x00\x00\x00\x00\x00\x00\x00\x00");
    writer_reset(&b->w);
    struct metadata_request in;
    metadata_request_init(&in);
    in.allow_auto_topic_creation = false; /* not ignorable, 4+ */
    assert_int_equal(wire_encode(&metadata_request_table, 3, &b->w, &in), ERR_INVALID);
    assert_string_equal(b->w.at, "allow_auto_topic_creation");
    assert_string_equal(b->w.at_table, "metadata_request");
}

static void a_nullable_struct_is_one_byte_when_it_is_null(void **state)
{
    struct bench *b = *state;
    struct describe_topic_partitions_request m;
    describe_topic_partitions_request_init(&m);
    assert_int_equal(m.response_partition_limit, 2000);
    assert_int_equal(wire_encode(&describe_topic_partitions_request_table, 0, &b->w, &m), OK);
    ASSERT_WRITTEN(b, "\x01\x00\x00\x07\xd0\xff\x00");
    assert_int_equal(DECODE(b, &describe_topic_partitions_request_table, 0,
                            "\x01\x00\x00\x07\xd0\x01\x02t\x00\x00\x00\x09\x00\x00", &m),
                     OK);
    assert_int_equal(m.cursor->partition_index, 9);
    assert_int_equal(DECODE(b, &describe_topic_partitions_request_table, 0,
                            "\x01\x00\x00\x07\xd0\x02\x02t\x00\x00\x00\x09\x00\x00", &m),
                     ERR_INVALID);
}

static void a_tagged_struct_of_defaults_is_left_out(void **state)
{
    struct bench *b = *state;
    struct produce_response_partition p;
    struct produce_response_current_leader leader;
    produce_response_partition_init(&p);
    assert_null(p.current_leader);
    produce_response_current_leader_init(&leader);
    p.current_leader = &leader;
    assert_int_equal(wire_encode(&produce_response_partition_table, 10, &b->w, &p), OK);
    assert_int_equal(b->w.ptr[b->w.len - 1], 0);
    writer_reset(&b->w);
    leader.leader_id = 4;
    assert_int_equal(wire_encode(&produce_response_partition_table, 10, &b->w, &p), OK);
    assert_memory_equal(b->w.ptr + b->w.len - 12,
                        "\x01\x00\x09\x00\x00\x00\x04\xff\xff\xff\xff\x00", 12);
}

static void unknown_versions_are_unsupported(void **state)
{
    struct bench *b = *state;
    struct fetch_request m;
    fetch_request_init(&m);
    assert_int_equal(DECODE(b, &fetch_request_table, 3, "", &m), ERR_UNSUPPORTED);
    assert_int_equal(DECODE(b, &fetch_request_table, 19, "", &m), ERR_UNSUPPORTED);
    assert_int_equal(wire_encode(&fetch_request_table, -1, &b->w, &m), ERR_UNSUPPORTED);
}

static void varints_are_bounded(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        uint64_t value;
        err e32, e64;
    } rows[] = {
        {"\x00",                                         1,  0,           OK,            OK           },
        {"\x7f",                                         1,  127,         OK,            OK           },
        {"\x80\x01",                                     2,  128,         OK,            OK           },
        {"\xff\xff\xff\xff\x0f",                         5,  UINT32_MAX,  OK,            OK           },
        {"\xff\xff\xff\xff\x1f",                         5,  0x1ffffffff, ERR_INVALID,   OK           },
        {"\x80\x80\x80\x80\x80\x01",                     6,  1ull << 35,  ERR_INVALID,   OK           },
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",     10, UINT64_MAX,  ERR_INVALID,   OK           },
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",     10, 0,           ERR_INVALID,   ERR_INVALID  },
        {"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 11, 0,           ERR_INVALID,   ERR_INVALID  },
        {"\x80",                                         1,  0,           ERR_TRUNCATED, ERR_TRUNCATED},
        {"",                                             0,  0,           ERR_TRUNCATED, ERR_TRUNCATED},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reader r;
        reader_init(&r, rows[i].bytes, rows[i].size);
        uint32_t v32 = reader_uvarint(&r);
        assert_int_equal(r.error, rows[i].e32);
        assert_int_equal(v32, rows[i].e32 == OK ? rows[i].value : 0);
        reader_init(&r, rows[i].bytes, rows[i].size);
        uint64_t v64 = reader_uvarlong(&r);
        assert_int_equal(r.error, rows[i].e64);
        assert_true(v64 == (rows[i].e64 == OK ? rows[i].value : 0));
    }
}

static void varints_come_back(void **state)
{
    struct bench *b = *state;
    for (int bit = 0; bit < 64; bit++) {
        for (int d = -1; d <= 1; d++) {
            uint64_t v = ((uint64_t)1 << bit) + (uint64_t)(int64_t)d;
            writer_reset(&b->w);
            writer_uvarlong(&b->w, v);
            assert_int_equal(b->w.len, uvarlong_size(v));
            writer_varlong(&b->w, (int64_t)v);
            writer_varint(&b->w, (int32_t)v);
            struct reader r;
            reader_init(&r, b->w.ptr, b->w.len);
            assert_true(reader_uvarlong(&r) == v);
            assert_true(reader_varlong(&r) == (int64_t)v);
            assert_int_equal(reader_varint(&r), (int32_t)v);
            assert_int_equal(r.error, OK);
            assert_int_equal(reader_left(&r), 0);
        }
    }
    writer_reset(&b->w);
    writer_varint(&b->w, -1);
    writer_varint(&b->w, 1);
    ASSERT_WRITTEN(b, "\x01\x02");
}

static void the_first_error_stays(void **state)
{
    (void)state;
    struct reader r;
    reader_init(&r, "\x80\x80\x80\x80\x80\x80\x01", 7);
    reader_uvarint(&r);
    assert_int_equal(r.error, ERR_INVALID);
    assert_int_equal(reader_int64(&r), 0);
    assert_int_equal(r.error, ERR_INVALID);
    assert_int_equal(reader_left(&r), 0);
}

/* ---- splices and the writer's limit ---- */

static void records_elsewhere_become_a_splice(void **state)
{
    struct bench *b = *state;
    int marks[2];
    struct fetch_response_partition p[3];
    for (int i = 0; i < 3; i++) {
        fetch_response_partition_init(&p[i]);
        p[i].partition_index = i;
    }
    p[0].records = (struct wire_records){.extents = &marks[0], .len = 1000};
    p[1].records = (struct wire_records){.ptr = (const uint8_t *)"abc", .len = 3};
    p[2].records = (struct wire_records){.extents = &marks[1], .len = 70};
    struct fetch_response_topic t;
    fetch_response_topic_init(&t);
    t.partitions = p;
    t.partitions_count = 3;
    struct fetch_response m;
    fetch_response_init(&m);
    m.topics = &t;
    m.topics_count = 1;
    const struct wire_api *api = wire_api_find(API_FETCH);
    for (int16_t v = 4; v <= 18; v++) {
        writer_reset(&b->w);
        frame_begin_response(&b->w, api, v, 1);
        assert_int_equal(wire_encode(api->response, v, &b->w, &m), OK);
        assert_int_equal(frame_end(&b->w), OK);
        assert_int_equal(b->w.splice_count, 2);
        assert_true(b->w.splices[0].extents == &marks[0] && b->w.splices[1].extents == &marks[1]);
        assert_int_equal(get_be32(b->w.ptr), b->w.len - 4 + 1070);

        /* Put together as net does, it decodes, and the records are in their places. */
        char *whole = mem_alloc(b->w.len + 1070);
        size_t at = 0;
        size_t from = 0;
        for (size_t i = 0; i < 2; i++) {
            const struct wire_splice *s = &b->w.splices[i];
            memcpy(whole + at, b->w.ptr + from, s->position - from);
            at += s->position - from;
            from = s->position;
            memset(whole + at, i ? 'z' : 'y', s->len);
            at += s->len;
        }
        memcpy(whole + at, b->w.ptr + from, b->w.len - from);
        struct reader r;
        reader_init(&r, whole + 4, b->w.len + 1070 - 4);
        int32_t id;
        struct fetch_response back;
        assert_int_equal(response_header_decode(&r, api, v, &id), OK);
        assert_int_equal(wire_decode(api->response, v, &r, &b->a, &back), OK);
        assert_int_equal(reader_left(&r), 0);
        const struct fetch_response_partition *q = back.topics[0].partitions;
        assert_true(q[0].records.len == 1000 && q[0].records.ptr[999] == 'y');
        assert_true(q[1].records.len == 3 && q[1].records.ptr[2] == 'c');
        assert_true(q[2].records.len == 70 && q[2].records.ptr[69] == 'z');
        mem_free(whole);
    }
}

static void the_writers_limit_counts_splices(void **state)
{
    (void)state;
    struct writer w;
    int mark;
    writer_init(&w, 1000);
    writer_int32(&w, 0);
    writer_splice(&w, &mark, 900);
    assert_non_null(writer_add_space(&w, 96));
    assert_int_equal(writer_total(&w), 1000);
    writer_int8(&w, 0);
    assert_int_equal(w.error, ERR_LIMIT);
    assert_int_equal(writer_total(&w), 1000);
    writer_finish(&w);

    writer_init(&w, 1000);
    assert_non_null(writer_add_space(&w, 200));
    writer_splice(&w, &mark, 801);
    assert_int_equal(w.error, ERR_LIMIT);
    assert_int_equal(w.splice_count, 0);
    writer_reset(&w);
    assert_null(writer_add_space(&w, 1001));
    assert_int_equal(w.error, ERR_LIMIT);
    writer_finish(&w);
}

static void what_was_taken_is_the_callers(void **state)
{
    (void)state;
    struct writer w;
    size_t len;
    writer_init(&w, 1000);
    writer_int32(&w, 7);
    uint8_t *p = writer_take(&w, &len);
    assert_int_equal(len, 4);
    writer_int32(&w, 8);
    assert_int_equal(get_be32(p), 7);
    mem_free(p);
    writer_finish(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_survives_a_round_trip),
        cmocka_unit_test(a_message_cut_short_anywhere_is_an_error),
        cmocka_unit_test(garbled_messages_stay_within_the_limits),
        cmocka_unit_test_setup_teardown(defaults_are_set_where_the_version_lacks_the_field, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(null_and_empty_are_told_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(null_is_refused_where_it_must_not_be, setup, teardown),
        cmocka_unit_test_setup_teardown(lengths_below_null_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_count_beyond_the_bytes_is_refused_before_memory_is_taken,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(arrays_have_a_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(the_arena_bounds_what_a_message_takes, setup, teardown),
        cmocka_unit_test_setup_teardown(strings_must_be_utf8, setup, teardown),
        cmocka_unit_test_setup_teardown(strings_have_kafkas_limit_in_compact_form_too, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(unknown_tagged_fields_are_skipped, setup, teardown),
        cmocka_unit_test_setup_teardown(a_tagged_field_must_fill_its_size, setup, teardown),
        cmocka_unit_test_setup_teardown(a_tagged_field_cannot_reach_behind_the_message, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_large_tagged_field_gets_a_size_of_two_bytes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_a_version_lacks_is_dropped_only_if_ignorable, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_nullable_struct_is_one_byte_when_it_is_null, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_tagged_struct_of_defaults_is_left_out, setup, teardown),
        cmocka_unit_test_setup_teardown(unknown_versions_are_unsupported, setup, teardown),
        cmocka_unit_test_setup_teardown(varints_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(varints_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(the_first_error_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(records_elsewhere_become_a_splice, setup, teardown),
        cmocka_unit_test_setup_teardown(the_writers_limit_counts_splices, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_taken_is_the_callers, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

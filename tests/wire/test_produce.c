/* Produce: which batches are taken, which are refused with which error, and what is answered. */
#include "base/clock.h"
#include "gen/delete_topics.h"
#include "gen/offset_commit.h"
#include "protocol/compress.h"
#include "tests/kit/wire_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum {
    AT_LENGTH = 8,
    AT_LEADER_EPOCH = 12,
    AT_MAGIC = 16,
    AT_CRC = 17,
    AT_ATTRIBUTES = 21,
    AT_LAST_DELTA = 23,
    AT_BASE_TIMESTAMP = 27,
    AT_MAX_TIMESTAMP = 35,
    AT_PRODUCER_ID = 43,
    AT_PRODUCER_EPOCH = 51,
    AT_SEQUENCE = 53,
    AT_COUNT = 57,
};

static int setup(void **state)
{
    return wire_fixture_create(
        state, (const char *const[]){"rivulet.batch.inflated.max.bytes=10000000", NULL});
}

static int64_t now_ms(void)
{
    return clock_wall_ms(&clock_real);
}

/* Nothing of a refused batch is said, but why. */
static void expect_refused(const struct produce_response_partition *p, int16_t code)
{
    assert_code(p->error_code, code);
    assert_int_equal(p->base_offset, -1);
    assert_int_equal(p->log_append_time_ms, -1);
    assert_int_equal(p->log_start_offset, -1);
}

static struct bytes resealed(struct bytes batch)
{
    wire_batch_reseal(batch);
    return batch;
}

/* ---- acks */

static void each_setting_of_acks_appends(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "acks", 1);
    each_version(v, API_PRODUCE)
    {
        if (v >= 13) {
            break;
        }
        for (int16_t acks = 1; acks >= -1; acks -= 2) { /* the last one is durable when answered */
            const struct produce_response_partition *p = wire_produce(
                c,
                (struct wire_produce){
                    .version = v, .acks = acks, .topic = "acks", .records = BATCH(c, .count = 3)});
            assert_code(p->error_code, KERR_NONE);
            assert_int_equal(p->base_offset % 3, 0);
        }
    }
    assert_int_equal(wire_end_offset(c, "acks", 0), 10 * 2 * 3);
}

static void acks_0_is_not_answered_with_as_much_as_an_empty_frame(void **state)
{
    struct wire_client *c = client_of(state);
    struct uuid id = TOPIC(c, "acks-0", 1);
    each_version(v, API_PRODUCE)
    {
        const struct wire_produce p = {
            .topic = "acks-0", .id = id, .records = BATCH(c, .count = 1)};
        wire_request(c, API_PRODUCE, v, wire_produce_request(c, &p));
        /* the next frame that comes is the next request's */
        assert_code(wire_topic_info(c, "acks-0")->error_code, KERR_NONE);
    }
    wire_put_good(c, "acks-0", BATCH(c, 0)); /* behind all of them, and durable */
    assert_int_equal(wire_end_offset(c, "acks-0", 0), 11 + 1);
}

static void an_error_with_acks_0_closes_the_connection(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "acks-0-bad", 1);
    struct bytes bad = BATCH(c, 0);
    wire_writable(bad)[bad.len - 1] ^= 1;
    const struct wire_produce cases[] = {
        {.topic = "acks-0-missing", .records = BATCH(c, 0)},
        {.topic = "acks-0-bad",                         .partition = 1,                       .records = BATCH(c, 0)},
        {.topic = "acks-0-bad",       .records = bad},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct wire_client *one = wire_connect(daemon_of(state));
        wire_request(one, API_PRODUCE, 9, wire_produce_request(one, &cases[i]));
        wire_expect_close(one);
        wire_close(one);
        daemon_await_log(daemon_of(state), "a produce with acks=0 failed");
    }
}

static void other_acks_are_refused_for_each_partition(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "acks-2", 1);
    static const int16_t acks[] = {2, -2, INT16_MAX, INT16_MIN};
    for (size_t i = 0; i < sizeof acks / sizeof *acks; i++) {
        expect_refused(wire_produce(c, (struct wire_produce){.acks = acks[i],
                                                             .topic = "acks-2",
                                                             .records = BATCH(c, 0)}),
                       KERR_INVALID_REQUIRED_ACKS);
    }
    expect_refused(
        wire_produce(
            c, (struct wire_produce){.acks = 2, .topic = "acks-2-missing", .records = BATCH(c, 0)}),
        KERR_UNKNOWN_TOPIC_OR_PARTITION);
    assert_int_equal(wire_end_offset(c, "acks-2", 0), 0);
}

/* ---- where it goes */

static void unknown_topics_partitions_and_ids_are_said_to_be_that(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "known", 2);
    struct bytes b = BATCH(c, 0);
    static const struct wire_produce cases[] = {
        {.acks = -1,        .topic = "missing"},
        { .acks = 1, .topic = "known",     .partition = 2},
        { .acks = 1, .topic = "known",    .partition = -1},
        { .acks = 1,      .topic = "",     .partition = 0},
        { .acks = 1,   .topic = "a/b",     .partition = 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct wire_produce p = cases[i];
        p.records = b;
        expect_refused(wire_produce(c, p), KERR_UNKNOWN_TOPIC_OR_PARTITION);
    }
    const struct wire_produce by_id = {.version = 13, .acks = -1, .id = {{1, 2, 3}}, .records = b};
    expect_refused(wire_produce(c, by_id), KERR_UNKNOWN_TOPIC_ID);
    const struct wire_produce by_no_id = {.version = 13, .acks = -1, .records = b};
    expect_refused(wire_produce(c, by_no_id), KERR_UNKNOWN_TOPIC_ID);
    assert_code(wire_topic_info(c, "missing")->error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
}

static void one_bad_partition_does_not_harm_the_others(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "mixed", 2);
    struct produce_request *q = NEW(c, produce_request);
    q->acks = -1;
    q->timeout_ms = 1000;
    q->topics = NEWS(c, produce_request_topic, 2);
    q->topics_count = 2;
    for (int32_t t = 0; t < 2; t++) {
        q->topics[t].name = t ? STR("mixed") : STR("not-there");
        q->topics[t].partitions = NEWS(c, produce_request_partition, 3);
        q->topics[t].partitions_count = 3;
        for (int32_t i = 0; i < 3; i++) {
            struct bytes b = BATCH(c, .count = 2);
            q->topics[t].partitions[i].index = i; /* 2 is not there */
            q->topics[t].partitions[i].records = (struct wire_records){b.ptr, b.len, NULL};
        }
    }
    wire_writable((struct bytes){q->topics[1].partitions[0].records.ptr, 1})[AT_CRC] ^= 1;
    const struct produce_response *a = wire_ask(c, API_PRODUCE, 9, q);
    assert_int_equal(a->topics_count, 2);
    assert_str(a->topics[0].name, "not-there");
    assert_str(a->topics[1].name, "mixed");
    for (int32_t i = 0; i < 3; i++) {
        assert_int_equal(a->topics[0].partitions[i].index, i);
        expect_refused(&a->topics[0].partitions[i], KERR_UNKNOWN_TOPIC_OR_PARTITION);
    }
    expect_refused(&a->topics[1].partitions[0], KERR_CORRUPT_MESSAGE);
    assert_code(a->topics[1].partitions[1].error_code, KERR_NONE);
    expect_refused(&a->topics[1].partitions[2], KERR_UNKNOWN_TOPIC_OR_PARTITION);
    assert_int_equal(wire_end_offset(c, "mixed", 0), 0);
    assert_int_equal(wire_end_offset(c, "mixed", 1), 2);
}

static void a_request_without_topics_is_answered(void **state)
{
    struct wire_client *c = client_of(state);
    each_version(v, API_PRODUCE)
    {
        struct produce_request *q = NEW(c, produce_request);
        q->acks = 1;
        const struct produce_response *a = wire_ask(c, API_PRODUCE, v, q);
        assert_int_equal(a->topics_count, 0);
    }
}

static void internal_topics_are_for_the_broker_and_its_admin_client(void **state)
{
    struct wire_client *c = client_of(state);
    struct offset_commit_request *q = NEW(c, offset_commit_request); /* which makes the topic */
    TOPIC(c, "committed", 1);
    q->group_id = STR("g");
    q->topics = NEW(c, offset_commit_request_topic);
    q->topics_count = 1;
    q->topics->name = STR("committed");
    q->topics->partitions = NEW(c, offset_commit_request_partition);
    q->topics->partitions_count = 1;
    const struct offset_commit_response *a = wire_ask(c, API_OFFSET_COMMIT, 9, q);
    assert_code(a->topics->partitions->error_code, KERR_NONE);
    const struct metadata_response_topic *t = wire_topic_info(c, "__consumer_offsets");
    assert_true(t->is_internal);
    const struct wire_produce p[] = {
        {.acks = -1, .topic = "__consumer_offsets", .partition = 7, .records = BATCH(c, 0)},
        { .version = 13, .acks = 1,             .id = t->topic_id, .partition = 7, .records = BATCH(c, 0)},
    };
    for (size_t i = 0; i < 2; i++) {
        expect_refused(wire_produce(c, p[i]), KERR_INVALID_TOPIC_EXCEPTION);
    }
    assert_int_equal(wire_end_offset(c, "__consumer_offsets", 7), 0);
    c->client_id = STR("__admin_client");
    assert_code(wire_produce(c, p[0])->error_code, KERR_NONE);
}

/* ---- what a batch must be */

static void a_partition_takes_exactly_one_batch(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "one-batch", 1);
    struct bytes b = BATCH(c, .count = 2);
    struct bytes two = {wire_room(c, b.len * 2, 1), b.len * 2};
    memcpy(wire_writable(two), b.ptr, b.len);
    memcpy(wire_writable(two) + b.len, b.ptr, b.len);
    each_version(v, API_PRODUCE)
    {
        if (v >= 13) {
            break;
        }
        struct wire_produce p = {.version = v, .acks = 1, .topic = "one-batch", .records = two};
        const struct produce_response_partition *a = wire_produce(c, p);
        expect_refused(a, KERR_INVALID_RECORD);
        assert_int_equal(a->error_message.ptr != NULL, v >= 8);
        p.records = (struct bytes){(const uint8_t *)"", 0};
        expect_refused(wire_produce(c, p), KERR_INVALID_RECORD);
        p.records = (struct bytes){0};
        expect_refused(wire_produce(c, p), KERR_INVALID_RECORD);
    }
    assert_int_equal(wire_end_offset(c, "one-batch", 0), 0);
}

/* One thing is wrong with each, and the checksum is right but where it is the thing. */
static void a_batch_that_would_stop_a_reader_is_refused(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "bad", 1);
    static const struct {
        const char *what;
        int at, size; /* what is overwritten, and with what */
        int64_t value;
        bool crc_stays;
        int16_t code;
    } cases[] = {
        {"magic 0",              AT_MAGIC,              1, 0,         true,  KERR_INVALID_RECORD              },
        {"magic 1",              AT_MAGIC,              1, 1,         true,  KERR_INVALID_RECORD              },
        {"magic 3",              AT_MAGIC,              1, 3,         true,  KERR_INVALID_RECORD              },
        {"checksum",             AT_CRC,                4, 12345,     true,  KERR_CORRUPT_MESSAGE             },
        {"a record more",        AT_COUNT,              4, 4,         false, KERR_INVALID_RECORD              },
        {"a record less",        AT_COUNT,              4, 2,         false, KERR_INVALID_RECORD              },
        {"no record",            AT_COUNT,              4, 0,         false, KERR_INVALID_RECORD              },
        {"-1 records",           AT_COUNT,              4, -1,        false, KERR_INVALID_RECORD              },
        {"2^31-1 records",       AT_COUNT,              4, INT32_MAX, false, KERR_INVALID_RECORD              },
        {"last delta too large", AT_LAST_DELTA,         4, 3,         false, KERR_INVALID_RECORD              },
        {"last delta too small", AT_LAST_DELTA,         4, 1,         false, KERR_INVALID_RECORD              },
        {"last delta negative",  AT_LAST_DELTA,         4, -1,        false, KERR_INVALID_RECORD              },
        {"control batch",        AT_ATTRIBUTES,         2, 0x20,      false, KERR_INVALID_RECORD              },
        {"codec 5",              AT_ATTRIBUTES,         2, 5,         false, KERR_UNSUPPORTED_COMPRESSION_TYPE},
        {"codec 7",              AT_ATTRIBUTES,         2, 7,         false, KERR_UNSUPPORTED_COMPRESSION_TYPE},
        {"not gzip",             AT_ATTRIBUTES,         2, 1,         false, KERR_CORRUPT_MESSAGE             },
        {"not snappy",           AT_ATTRIBUTES,         2, 2,         false, KERR_CORRUPT_MESSAGE             },
        {"not lz4",              AT_ATTRIBUTES,         2, 3,         false, KERR_CORRUPT_MESSAGE             },
        {"not zstd",             AT_ATTRIBUTES,         2, 4,         false, KERR_CORRUPT_MESSAGE             },
        {"first length",         BATCH_HEADER_SIZE,     1, 2,         false, KERR_INVALID_RECORD              },
        {"first length long",    BATCH_HEADER_SIZE,     1, 126,       false, KERR_INVALID_RECORD              },
        {"first offset delta",   BATCH_HEADER_SIZE + 3, 1, 2,         false, KERR_INVALID_RECORD              },
        {"key length",           BATCH_HEADER_SIZE + 4, 1, 126,       false, KERR_INVALID_RECORD              },
        {"transactional, no id", AT_ATTRIBUTES,         2, 0x10,      false, KERR_INVALID_TXN_STATE           },
        {"id without sequence",  AT_PRODUCER_ID,        8, 7,         false, KERR_INVALID_RECORD              },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bytes b = BATCH(c, .count = 3);
        uint8_t *p = wire_writable(b) + cases[i].at;
        for (int k = 0; k < cases[i].size; k++) {
            p[k] = (uint8_t)((uint64_t)cases[i].value >> (8 * (cases[i].size - 1 - k)));
        }
        if (!cases[i].crc_stays) {
            wire_batch_reseal(b);
        }
        print_message("%s\n", cases[i].what);
        expect_refused(wire_put(c, "bad", b), cases[i].code);
    }
    assert_int_equal(wire_end_offset(c, "bad", 0), 0);
    assert_int_equal(wire_put_good(c, "bad", BATCH(c, 0)), 0);
}

static void lengths_that_do_not_fit_the_bytes_are_corrupt(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "lengths", 1);
    struct bytes b = BATCH(c, .count = 2);
    static const int32_t lengths[] = {0, -1, INT32_MAX, INT32_MIN, 48, 49};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct bytes bad = {wire_room(c, b.len, 1), b.len};
        memcpy(wire_writable(bad), b.ptr, b.len);
        put_be32(wire_writable(bad) + AT_LENGTH, (uint32_t)lengths[i]);
        bool two = lengths[i] == 49; /* a header alone, and more behind it */
        expect_refused(wire_put(c, "lengths", bad), lengths[i] == INT32_MAX
                                                        ? KERR_MESSAGE_TOO_LARGE /* as it says */
                                                    : two ? KERR_INVALID_RECORD
                                                          : KERR_CORRUPT_MESSAGE);
    }
    for (size_t len = 1; len < b.len; len++) { /* and cut short at every byte */
        expect_refused(wire_put(c, "lengths", (struct bytes){b.ptr, len}), KERR_INVALID_RECORD);
    }
    assert_int_equal(wire_end_offset(c, "lengths", 0), 0);
}

/* A flipped bit anywhere is found, by the checksum or before it. */
static void no_flipped_bit_gets_in(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "bits", 1);
    struct bytes b = BATCH(c, .count = 1);
    for (size_t bit = AT_MAGIC * 8; bit < b.len * 8;
         bit++) { /* what stands before is the broker's */
        wire_writable(b)[bit / 8] ^= (uint8_t)(1 << bit % 8);
        const struct produce_response_partition *a = wire_put(c, "bits", b);
        assert_true(a->error_code == KERR_CORRUPT_MESSAGE || a->error_code == KERR_INVALID_RECORD);
        wire_writable(b)[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(wire_end_offset(c, "bits", 0), 0);
}

static void what_the_client_says_of_offset_and_epoch_does_not_count(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "patched", 1);
    struct bytes b = BATCH(c, .count = 2);
    put_be64(wire_writable(b), 123456);
    put_be32(wire_writable(b) + AT_LEADER_EPOCH, 99);
    assert_int_equal(wire_put_good(c, "patched", b), 0);
    const struct fetch_response_partition *p =
        wire_fetch(c, (struct wire_fetch){.topic = "patched"});
    assert_int_equal(get_be64(p->records.ptr), 0);
    assert_int_equal(get_be32(p->records.ptr + AT_LEADER_EPOCH),
                     wire_topic_info(c, "patched")->partitions->leader_epoch);
    assert_int_equal(p->records.len, b.len);
    assert_memory_equal(p->records.ptr + AT_MAGIC, b.ptr + AT_MAGIC, b.len - AT_MAGIC);
}

static void a_transactional_batch_is_refused_while_there_are_no_transactions(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "transactional", 1);
    struct bytes b = BATCH(c, .attributes = 0x10, .idempotent = true, .producer_id = 5);
    struct produce_request *q = (struct produce_request *)(uintptr_t)wire_produce_request(
        c, &(struct wire_produce){.acks = -1, .topic = "transactional", .records = b});
    for (int16_t v = 3; v <= 12; v++) {
        q->transactional_id = v % 2 ? STR("tx") : (struct str){0};
        const struct produce_response *a = wire_ask(c, API_PRODUCE, v, q);
        expect_refused(a->topics->partitions, KERR_INVALID_TXN_STATE);
    }
}

/* ---- sizes */

static void a_batch_larger_than_the_topic_allows_is_refused(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "small-batches", 1, "max.message.bytes=1000");
    struct bytes b = BATCH(c, .value_size = 1000 - 61 - 15);
    size_t over = b.len - 1000; /* the fixed part is not worth computing by hand */
    struct bytes fits = BATCH(c, .value_size = 1000 - 61 - 15 - over);
    assert_int_equal(fits.len, 1000);
    assert_int_equal(wire_put_good(c, "small-batches", fits), 0);
    struct bytes larger = BATCH(c, .value_size = 1000 - 61 - 15 - over + 1);
    assert_int_equal(larger.len, 1001);
    expect_refused(wire_put(c, "small-batches", larger), KERR_MESSAGE_TOO_LARGE);
    /* it is the size as it comes that counts */
    struct bytes packed = BATCH(c, .value_size = 100000, .codec = CODEC_GZIP);
    assert_true(packed.len < 1000);
    assert_int_equal(wire_put_good(c, "small-batches", packed), 1);
}

static void the_default_limit_is_that_of_kafka(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "default-limit", 1);
    struct bytes probe = BATCH(c, .value_size = 1000000);
    size_t fixed = probe.len - 1000000;
    struct bytes fits = BATCH(c, .value_size = 1048588 - fixed);
    struct bytes larger = BATCH(c, .value_size = 1048589 - fixed);
    assert_int_equal(fits.len, 1048588);
    assert_int_equal(wire_put_good(c, "default-limit", fits), 0);
    expect_refused(wire_put(c, "default-limit", larger), KERR_MESSAGE_TOO_LARGE);
}

/* ---- compression */

static void batches_of_every_codec_are_kept_as_they_come(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "codecs", 1);
    int64_t offset = 0;
    for (enum codec codec = CODEC_NONE; codec < CODEC_COUNT; codec++) {
        struct bytes b = BATCH(c, .count = 100, .codec = codec);
        assert_int_equal(wire_put_good(c, "codecs", b), offset);
        const struct fetch_response_partition *p =
            wire_fetch(c, (struct wire_fetch){.topic = "codecs", .offset = offset});
        assert_int_equal(p->records.len, b.len);
        assert_memory_equal(p->records.ptr + AT_MAGIC, b.ptr + AT_MAGIC, b.len - AT_MAGIC);
        struct wire_records_read r = wire_parse(c, p->records);
        assert_int_equal(r.count, 100);
        assert_memory_equal(r.records[99].value.ptr, "value-99", 8);
        offset += 100;
    }
}

/* librdkafka and Go's clients send bare snappy; Java sends xerial's framing, which is what the
 * builder writes. */
static void bare_snappy_is_taken_too(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "bare-snappy", 1);
    struct bytes plain = BATCH(c, .count = 2);
    size_t size = plain.len - BATCH_HEADER_SIZE;
    /* bare snappy of less than 60 bytes a piece: the length as a varint, then literals */
    struct bytes b = {wire_room(c, plain.len * 2, 1), 0};
    uint8_t *p = wire_writable(b);
    memcpy(p, plain.ptr, BATCH_HEADER_SIZE);
    size_t at = BATCH_HEADER_SIZE + uvarlong_put(p + BATCH_HEADER_SIZE, size);
    for (size_t done = 0; done < size;) {
        size_t part = size - done < 60 ? size - done : 60;
        p[at++] = (uint8_t)((part - 1) << 2);
        memcpy(p + at, plain.ptr + BATCH_HEADER_SIZE + done, part);
        at += part;
        done += part;
    }
    b.len = at;
    put_be32(p + AT_LENGTH, (uint32_t)(at - BATCH_PREFIX_SIZE));
    put_be16(p + AT_ATTRIBUTES, CODEC_SNAPPY);
    assert_int_equal(wire_put_good(c, "bare-snappy", resealed(b)), 0);
    struct wire_records_read r = wire_read(c, "bare-snappy", 0, 0);
    assert_int_equal(r.count, 2);
    assert_memory_equal(r.records[1].value.ptr, "value-1", 7);
}

static void zstd_needs_version_7(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "zstd", 1);
    for (int16_t v = 3; v <= 12; v++) {
        struct bytes b = BATCH(c, .count = 10, .codec = CODEC_ZSTD);
        const struct produce_response_partition *p = wire_produce(
            c, (struct wire_produce){.version = v, .acks = -1, .topic = "zstd", .records = b});
        if (v < 7) {
            expect_refused(p, KERR_UNSUPPORTED_COMPRESSION_TYPE);
        } else {
            assert_code(p->error_code, KERR_NONE);
        }
    }
}

/* The checksum is right: only who decompresses finds out. */
static void compressed_records_are_checked_as_plain_ones_are(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "packed-bad", 1);
    for (enum codec codec = CODEC_GZIP; codec < CODEC_COUNT; codec++) {
        struct bytes b = BATCH(c, .count = 50, .codec = codec);
        put_be32(wire_writable(b) + AT_COUNT, 49);
        put_be32(wire_writable(b) + AT_LAST_DELTA, 48);
        expect_refused(wire_put(c, "packed-bad", resealed(b)), KERR_INVALID_RECORD);
        b = BATCH(c, .count = 50, .codec = codec);
        put_be32(wire_writable(b) + AT_COUNT, 51);
        put_be32(wire_writable(b) + AT_LAST_DELTA, 50);
        expect_refused(wire_put(c, "packed-bad", resealed(b)), KERR_INVALID_RECORD);
        b = BATCH(c, .count = 50, .codec = codec);
        b.len -= 10; /* cut short */
        put_be32(wire_writable(b) + AT_LENGTH, (uint32_t)(b.len - BATCH_PREFIX_SIZE));
        const struct produce_response_partition *p = wire_put(c, "packed-bad", resealed(b));
        assert_true(p->error_code == KERR_CORRUPT_MESSAGE || p->error_code == KERR_INVALID_RECORD);
    }
    assert_int_equal(wire_end_offset(c, "packed-bad", 0), 0);
}

/* 200 MB of one letter in some 200 kB: refused by the limit of a request, not by lack of memory. */
static void a_batch_that_explodes_is_refused(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "bomb", 1);
    for (enum codec codec = CODEC_GZIP; codec < CODEC_COUNT; codec++) {
        struct bytes b = BATCH(c, .value_size = 12000000, .codec = codec);
        if (b.len < 1000000) { /* snappy packs too little for it to get in */
            expect_refused(wire_put(c, "bomb", b), KERR_MESSAGE_TOO_LARGE);
        }
    }
    assert_int_equal(wire_end_offset(c, "bomb", 0), 0);
}

static void a_topic_with_a_codec_of_its_own_keeps_everything_in_it(void **state)
{
    struct wire_client *c = client_of(state);
    static const char *const names[] = {"uncompressed", "gzip", "snappy", "lz4", "zstd"};
    for (enum codec kept = CODEC_NONE; kept < CODEC_COUNT; kept++) {
        struct str topic = wire_text(c, "in-%s", names[kept]);
        struct str setting = wire_text(c, "compression.type=%s", names[kept]);
        TOPIC(c, topic.ptr, 1, setting.ptr);
        for (enum codec sent = CODEC_NONE; sent < CODEC_COUNT; sent++) {
            int64_t offset =
                wire_put_good(c, topic.ptr,
                              BATCH(c, .count = 20, .codec = sent, .idempotent = true,
                                    .producer_id = 77, .sequence = 20 * (int32_t)sent));
            assert_int_equal(offset, 20 * (int)sent);
            const struct fetch_response_partition *p =
                wire_fetch(c, (struct wire_fetch){.topic = topic.ptr, .offset = offset});
            assert_int_equal(batch_codec((int16_t)get_be16(p->records.ptr + AT_ATTRIBUTES)), kept);
            assert_int_equal(get_be64(p->records.ptr + AT_PRODUCER_ID), 77);
            assert_int_equal(wire_parse(c, p->records).count, 20);
        }
    }
}

/* ---- times */

static void timestamps_too_far_from_now_are_refused(void **state)
{
    struct wire_client *c = client_of(state);
    enum { MINUTE = 60000 };
    TOPIC(c, "times", 1, "message.timestamp.before.max.ms=3600000");
    static const struct {
        int64_t from_now;
        int16_t code;
    } cases[] = {
        {0,            KERR_NONE             },
        {59 * MINUTE,  KERR_NONE             }, /* the default of after.max.ms is an hour */
        {61 * MINUTE,  KERR_INVALID_TIMESTAMP},
        {-59 * MINUTE, KERR_NONE             },
        {-61 * MINUTE, KERR_INVALID_TIMESTAMP},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (enum codec codec = CODEC_NONE; codec <= CODEC_GZIP; codec++) {
            const struct produce_response_partition *p = wire_put(
                c, "times",
                BATCH(c, .count = 2, .timestamp = now_ms() + cases[i].from_now, .codec = codec));
            if (cases[i].code) {
                expect_refused(p, cases[i].code);
            } else {
                assert_code(p->error_code, KERR_NONE);
                assert_int_equal(p->log_append_time_ms, -1); /* it is the client's time */
            }
        }
    }
    TOPIC(c, "old-times", 1); /* by default the past has no bound */
    wire_put_good(c, "old-times", BATCH(c, .timestamp = 1));
}

/* Kafka repairs it: a consumer's look-ups by time would be wrong. */
static void a_wrong_largest_timestamp_is_made_right(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "max-time", 1);
    int64_t first = now_ms() - 1000;
    for (enum codec codec = CODEC_NONE; codec < CODEC_COUNT; codec++) {
        struct bytes b = BATCH(c, .count = 5, .timestamp = first, .codec = codec);
        put_be64(wire_writable(b) + AT_MAX_TIMESTAMP, (uint64_t)first + 400);
        int64_t offset = wire_put_good(c, "max-time", resealed(b));
        const struct fetch_response_partition *p =
            wire_fetch(c, (struct wire_fetch){.topic = "max-time", .offset = offset});
        assert_int_equal(get_be64(p->records.ptr + AT_MAX_TIMESTAMP), first + 4);
        assert_int_equal(wire_parse(c, p->records).count, 5); /* which looks at the checksum */
    }
}

static void log_append_time_is_the_brokers(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "append-time", 1, "message.timestamp.type=LogAppendTime");
    for (enum codec codec = CODEC_NONE; codec < CODEC_COUNT; codec++) {
        int64_t before = now_ms();
        const struct produce_response_partition *a =
            wire_put(c, "append-time",
                     BATCH(c, .count = 3, .timestamp = 1000,
                           .codec = codec)); /* the client's is no matter */
        assert_code(a->error_code, KERR_NONE);
        assert_in_range(a->log_append_time_ms, before, now_ms());
        const struct fetch_response_partition *p =
            wire_fetch(c, (struct wire_fetch){.topic = "append-time", .offset = a->base_offset});
        assert_int_equal(get_be16(p->records.ptr + AT_ATTRIBUTES), codec | 8);
        assert_int_equal(get_be64(p->records.ptr + AT_BASE_TIMESTAMP), 1000);
        struct wire_records_read r = wire_parse(c, p->records);
        assert_int_equal(r.count, 3);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(r.records[i].timestamp, a->log_append_time_ms);
        }
    }
}

/* ---- what is answered */

static void offsets_follow_each_other_and_the_start_is_told(void **state)
{
    struct wire_client *c = client_of(state);
    struct uuid id = TOPIC(c, "answers", 1);
    int64_t next = 0;
    each_version(v, API_PRODUCE)
    {
        const struct produce_response_partition *p =
            wire_produce(c, (struct wire_produce){.version = v,
                                                  .acks = 1,
                                                  .topic = "answers",
                                                  .id = id,
                                                  .records = BATCH(c, .count = v)});
        assert_code(p->error_code, KERR_NONE);
        assert_int_equal(p->base_offset, next);
        assert_int_equal(p->log_start_offset, v >= 5 ? 0 : -1);
        assert_int_equal(p->record_errors_count, 0);
        assert_null(p->error_message.ptr);
        assert_null(p->current_leader);
        next += v;
    }
}

static void delete_topic(struct wire_client *c, const char *name)
{
    struct delete_topics_request *q = NEW(c, delete_topics_request);
    q->timeout_ms = 60000;
    q->topics = NEW(c, delete_topics_request_topic);
    q->topics_count = 1;
    q->topics->name = str_of(name);
    const struct delete_topics_response *a = wire_ask(c, API_DELETE_TOPICS, 6, q);
    assert_code(a->responses->error_code, KERR_NONE);
}

static void a_topic_that_was_made_again_does_not_take_what_was_meant_for_the_old_one(void **state)
{
    struct wire_client *c = client_of(state);
    struct uuid old = TOPIC(c, "again", 1);
    wire_put_good(c, "again", BATCH(c, .count = 5));
    delete_topic(c, "again");
    struct uuid fresh = TOPIC(c, "again", 1);
    assert_false(uuid_eq(old, fresh));
    struct wire_produce p = {.version = 13, .acks = -1, .id = old, .records = BATCH(c, 0)};
    expect_refused(wire_produce(c, p), KERR_UNKNOWN_TOPIC_ID);
    p.id = fresh;
    const struct produce_response_partition *a = wire_produce(c, p);
    assert_code(a->error_code, KERR_NONE);
    assert_int_equal(a->base_offset, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        wire_test(each_setting_of_acks_appends),
        wire_test(acks_0_is_not_answered_with_as_much_as_an_empty_frame),
        wire_test(an_error_with_acks_0_closes_the_connection),
        wire_test(other_acks_are_refused_for_each_partition),
        wire_test(unknown_topics_partitions_and_ids_are_said_to_be_that),
        wire_test(one_bad_partition_does_not_harm_the_others),
        wire_test(a_request_without_topics_is_answered),
        wire_test(internal_topics_are_for_the_broker_and_its_admin_client),
        wire_test(a_partition_takes_exactly_one_batch),
        wire_test(a_batch_that_would_stop_a_reader_is_refused),
        wire_test(lengths_that_do_not_fit_the_bytes_are_corrupt),
        wire_test(no_flipped_bit_gets_in),
        wire_test(what_the_client_says_of_offset_and_epoch_does_not_count),
        wire_test(a_transactional_batch_is_refused_while_there_are_no_transactions),
        wire_test(a_batch_larger_than_the_topic_allows_is_refused),
        wire_test(the_default_limit_is_that_of_kafka),
        wire_test(batches_of_every_codec_are_kept_as_they_come),
        wire_test(bare_snappy_is_taken_too),
        wire_test(zstd_needs_version_7),
        wire_test(compressed_records_are_checked_as_plain_ones_are),
        wire_test(a_batch_that_explodes_is_refused),
        wire_test(a_topic_with_a_codec_of_its_own_keeps_everything_in_it),
        wire_test(timestamps_too_far_from_now_are_refused),
        wire_test(a_wrong_largest_timestamp_is_made_right),
        wire_test(log_append_time_is_the_brokers),
        wire_test(offsets_follow_each_other_and_the_start_is_told),
        wire_test(a_topic_that_was_made_again_does_not_take_what_was_meant_for_the_old_one),
    };
    return cmocka_run_group_tests(tests, setup, wire_fixture_destroy);
}

/* Chunks into records, with chunks that no honest broker sends: damage, markers, aborted
 * transactions, gaps. Nothing is connected to. */
#include "base/mem.h"
#include "client/consumer.h"
#include "gen/fetch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct bench {
    struct rv_client *client;
    struct rv_consumer *consumer;
    struct claim *claims[2]; /* of topic t, partitions 0 and 1 */
    struct rv_error error;
};

static void bench_open(struct bench *b, const struct rv_option *options)
{
    const struct rv_partition both[] = {
        {.topic = "t", .partition = 0, .offset = 0},
        {.topic = "t", .partition = 1, .offset = 0},
    };
    assert_int_equal(
        rv_client_open(RV_OPTIONS({"bootstrap.servers", "127.0.0.1:1"}), &b->client, &b->error),
        RV_OK);
    assert_int_equal(rv_consumer_open(b->client, options, &b->consumer, &b->error), RV_OK);
    assert_int_equal(rv_assign(b->consumer, both, 2, &b->error), RV_OK);
    b->claims[0] = b->consumer->claims.items[0];
    b->claims[1] = b->consumer->claims.items[1];
}

static void bench_close(struct bench *b)
{
    assert_int_equal(rv_consumer_close(b->consumer, 0, &b->error), RV_OK);
    rv_client_close(b->client);
}

struct batch {
    int64_t offset;     /* of the first record */
    int count;          /* records; their values are "v" */
    int16_t attributes; /* besides the codec */
    enum codec codec;
    int64_t producer_id; /* -1: none */
    const char *key;     /* of all; NULL: null */
    size_t key_size;
};

static void batch_add(struct buf *out, const struct batch *in)
{
    struct batch_builder b;
    struct batch_seal seal = batch_seal_plain;
    batch_builder_init(&b);
    for (int i = 0; i < in->count; i++) {
        assert_int_equal(batch_builder_add(&b, 5,
                                           (struct bytes){(const uint8_t *)in->key, in->key_size},
                                           (struct bytes){(const uint8_t *)"v", 1}, NULL, 0),
                         OK);
    }
    seal.base_offset = in->offset;
    seal.leader_epoch = 3;
    seal.codec = in->codec;
    seal.attributes = in->attributes;
    seal.producer_id = in->producer_id;
    assert_int_equal(batch_builder_seal(&b, &seal, out), OK);
    batch_builder_finish(&b);
}

static void plain(struct buf *out, int64_t offset, int count)
{
    batch_add(out, &(struct batch){.offset = offset, .count = count, .producer_id = -1});
}

/* Queues the bytes as if they had come in an answer. */
static void chunk_put(struct bench *b, struct claim *claim, const struct buf *bytes,
                      const struct aborted *aborted, int32_t aborted_count)
{
    struct frame *f = mem_alloc(sizeof *f + bytes->len);
    struct chunk *k = mem_zero(1, sizeof *k + (size_t)aborted_count * sizeof *aborted);
    assert_true(f && k);
    *f = (struct frame){.refs = 1, .size = bytes->len};
    memcpy(f->data, bytes->ptr, bytes->len);
    k->claim = claim;
    k->frame = f;
    k->next = f->data;
    k->end = f->data + bytes->len;
    k->charged = bytes->len;
    k->aborted_count = aborted_count;
    if (aborted_count) {
        memcpy(k->aborted, aborted, (size_t)aborted_count * sizeof *aborted);
    }
    claim->chunks++;
    b->consumer->queued += k->charged;
    list_push(&b->consumer->chunks, &k->link);
}

static void put(struct bench *b, struct claim *claim, struct buf *bytes)
{
    chunk_put(b, claim, bytes, NULL, 0);
    buf_finish(bytes);
}

static size_t poll_count(struct bench *b, int code, const struct rv_record **ret_records)
{
    size_t count;
    assert_int_equal(rv_poll(b->consumer, 0, ret_records, &count, &b->error), code);
    return count;
}

static void damage_is_told_once_behind_the_good_records_and_the_others_go_on(void **state)
{
    (void)state;
    struct bench b;
    struct buf bytes = {0};
    const struct rv_record *r;
    bench_open(&b, NULL);
    plain(&bytes, 0, 3);
    size_t good = bytes.len;
    plain(&bytes, 3, 3);
    bytes.ptr[good + BATCH_HEADER_SIZE + 1] ^= 1;
    put(&b, b.claims[0], &bytes);
    bytes = (struct buf){0};
    plain(&bytes, 0, 2);
    put(&b, b.claims[1], &bytes);
    assert_int_equal(poll_count(&b, RV_OK, &r), 5);
    assert_int_equal(r[2].offset, 2);
    assert_int_equal(r[3].partition, 1);
    assert_int_equal(poll_count(&b, RV_E_CORRUPT, &r), 0);
    assert_non_null(strstr(b.error.text, "topic t partition 0 at offset 3"));
    assert_int_equal(poll_count(&b, RV_OK, &r), 0); /* once */
    assert_int_equal(b.claims[0]->state, CLAIM_FAILED);
    assert_int_equal(rv_seek(b.consumer, "t", 0, 6, &b.error), RV_OK);
    plain(&bytes, 6, 1);
    put(&b, b.claims[0], &bytes);
    assert_int_equal(poll_count(&b, RV_OK, &r), 1);
    assert_int_equal(r[0].offset, 6);
    bench_close(&b);
}

static void checksums_are_not_looked_at_when_nobody_wants_that(void **state)
{
    (void)state;
    struct bench b;
    struct buf bytes = {0};
    const struct rv_record *r;
    bench_open(&b, RV_OPTIONS({"check.crcs", "false"}));
    plain(&bytes, 0, 2);
    bytes.ptr[BATCH_MAGIC_POSITION + 1] ^= 1; /* of the checksum */
    put(&b, b.claims[0], &bytes);
    assert_int_equal(poll_count(&b, RV_OK, &r), 2);
    bench_close(&b);
}

/* What each byte of a batch may be: never a crash, and what is given is in order. */
static void any_damaged_byte_is_an_error_or_is_not_seen(void **state)
{
    (void)state;
    for (int codec = 0; codec < CODEC_COUNT; codec++) {
        struct buf whole = {0};
        batch_add(&whole,
                  &(struct batch){
                      .offset = 0, .count = 4, .codec = (enum codec)codec, .producer_id = -1});
        for (size_t i = 0; i < whole.len; i++) {
            struct bench b;
            struct buf bytes = {0};
            const struct rv_record *r;
            size_t count;
            bench_open(&b, RV_OPTIONS({"check.crcs", "false"}));
            buf_add(&bytes, whole.ptr, whole.len);
            bytes.ptr[i] = (char)(bytes.ptr[i] ^ 0xff);
            put(&b, b.claims[0], &bytes);
            int code = rv_poll(b.consumer, 0, &r, &count, &b.error);
            assert_true(code == RV_OK || code == RV_E_CORRUPT || code == RV_E_CODEC ||
                        code == RV_E_TOO_LARGE);
            for (size_t n = 1; n < count; n++) {
                assert_true(r[n].offset >= r[n - 1].offset);
            }
            bench_close(&b);
        }
        buf_finish(&whole);
    }
}

static void bytes_that_are_no_batch_are_damage(void **state)
{
    (void)state;
    struct bench b;
    struct buf bytes = {0};
    const struct rv_record *r;
    bench_open(&b, NULL);
    buf_printf(&bytes, "%070d", 0);
    put(&b, b.claims[0], &bytes);
    plain(&bytes, 0, 1);
    bytes.len -= 3; /* cut short */
    put(&b, b.claims[1], &bytes);
    assert_int_equal(poll_count(&b, RV_E_CODEC, &r), 0); /* magic '0' */
    assert_int_equal(poll_count(&b, RV_E_CORRUPT, &r), 0);
    bench_close(&b);
}

static void markers_are_passed_over(void **state)
{
    (void)state;
    struct bench b;
    struct buf bytes = {0};
    const struct rv_record *r;
    bench_open(&b, NULL);
    plain(&bytes, 0, 1);
    batch_add(&bytes,
              &(struct batch){.offset = 1,
                              .count = 1,
                              .attributes = BATCH_ATTRIBUTE_CONTROL | BATCH_ATTRIBUTE_TRANSACTIONAL,
                              .producer_id = 9,
                              .key = "\0\0\0\1",
                              .key_size = 4});
    put(&b, b.claims[0], &bytes);
    assert_int_equal(poll_count(&b, RV_OK, &r), 1);
    assert_int_equal(poll_count(&b, RV_OK, &r), 0);
    assert_int_equal(b.claims[0]->position, 2);
    bench_close(&b);
}

static void aborted_transactions_are_seen_or_not_as_the_isolation_says(void **state)
{
    (void)state;
    enum { TX = BATCH_ATTRIBUTE_TRANSACTIONAL, MARK = TX | BATCH_ATTRIBUTE_CONTROL };
    const struct batch log[] = {
        {.offset = 0,      .count = 2, .attributes = TX, .producer_id = 7}, /* aborted at 6 */
        {.offset = 2,      .count = 2, .attributes = TX, .producer_id = 8}, /* committed at 7 */
        {.offset = 4,      .count = 2, .attributes = 0,  .producer_id = 7}, /* outside of any */
        {.offset = 6,
         .count = 1,
         .attributes = MARK,
         .producer_id = 7,
         .key = "\0\0\0\0",
         .key_size = 4},
        {.offset = 7,
         .count = 1,
         .attributes = MARK,
         .producer_id = 8,
         .key = "\0\0\0\1",
         .key_size = 4},
        {.offset = 8, .count = 2,            .attributes = TX,                                  .producer_id = 7                                                 }, /* the next one */
    };
    for (int committed = 0; committed < 2; committed++) {
        struct bench b;
        struct buf bytes = {0};
        const struct rv_record *r;
        const struct aborted aborted = {.producer_id = 7, .first_offset = 0};
        bench_open(
            &b, RV_OPTIONS({"isolation.level", committed ? "read_committed" : "read_uncommitted"}));
        for (size_t i = 0; i < sizeof log / sizeof log[0]; i++) {
            batch_add(&bytes, &log[i]);
        }
        chunk_put(&b, b.claims[0], &bytes, &aborted, committed);
        buf_finish(&bytes);
        assert_int_equal(poll_count(&b, RV_OK, &r), committed ? 6 : 8);
        assert_int_equal(r[0].offset, committed ? 2 : 0);
        assert_int_equal(r[committed ? 5 : 7].offset, 9);
        assert_int_equal(b.claims[0]->position, 10);
        bench_close(&b);
    }
}

/* ---- whole answers to Fetch */

enum { TXN = BATCH_ATTRIBUTE_TRANSACTIONAL, MARKER = TXN | BATCH_ATTRIBUTE_CONTROL, FETCH_V = 11 };

/* A broker that leads both partitions, as far as the metadata go; nothing listens there. */
static void broker_known(struct bench *b)
{
    struct meta *m = &b->client->meta;
    struct topic *t = b->claims[0]->topic;
    m->brokers = mem_zero(1, sizeof *m->brokers);
    t->partitions = mem_zero(2, sizeof *t->partitions);
    assert_true(m->brokers && t->partitions);
    m->brokers[0] = (struct broker){.id = 1, .port = 1, .host = "127.0.0.1"};
    m->broker_count = 1;
    t->known = true;
    t->count = 2;
    t->partitions[0] = t->partitions[1] = (struct topic_partition){.leader = 1, .leader_epoch = -1};
}

/* The answer to the fetch that waits to be sent, about partition 0. */
static void fetch_answered(struct bench *b, const struct buf *records, int64_t stable, int64_t end,
                           struct fetch_response_aborted_transaction *aborted, int32_t count)
{
    struct frame *f = mem_alloc(sizeof *f + records->len);
    assert_non_null(f);
    *f = (struct frame){.refs = 1, .size = records->len};
    memcpy(f->data, records->ptr, records->len);
    struct fetch_response_partition p;
    fetch_response_partition_init(&p);
    p.high_watermark = end;
    p.last_stable_offset = stable;
    p.aborted_transactions = aborted;
    p.aborted_transactions_count = count;
    p.records.ptr = f->data;
    p.records.len = records->len;
    struct fetch_response_topic t = {.topic = STR("t"), .partitions = &p, .partitions_count = 1};
    const struct fetch_response r = {.topics = &t, .topics_count = 1};
    const struct answer answer = {.code = RV_OK, .body = &r, .frame = f};
    assert_int_equal(rv_process(b->client, &b->error), RV_OK); /* the pump asks */
    struct call *call = NULL;
    list_each(link, &b->consumer->fetchers)
    {
        struct fetcher *fetcher = list_entry(link, struct fetcher, link);
        call = call_busy(&fetcher->call) && fetcher->count ? &fetcher->call : call;
    }
    assert_non_null(call);
    call_cancel(call);
    call->version = FETCH_V;
    call->done(call, &answer);
    frame_unref(f);
}

static void marker_add(struct buf *out, int64_t offset, int64_t producer_id, bool commit)
{
    batch_add(out, &(struct batch){.offset = offset,
                                   .count = 1,
                                   .attributes = MARKER,
                                   .producer_id = producer_id,
                                   .key = commit ? "\0\0\0\1" : "\0\0\0\0",
                                   .key_size = 4});
}

static void data_add(struct buf *out, int64_t offset, int count, int64_t producer_id)
{
    batch_add(out, &(struct batch){.offset = offset,
                                   .count = count,
                                   .attributes = TXN,
                                   .producer_id = producer_id,
                                   .codec = offset % 2 ? CODEC_LZ4 : CODEC_NONE});
}

static void aborted_transactions_are_filtered_out_of_the_answers_to_fetch(void **state)
{
    (void)state;
    struct bench b;
    struct buf bytes = {0};
    const struct rv_record *r;
    bench_open(&b, RV_OPTIONS({"isolation.level", "read_committed"}));
    broker_known(&b);
    /* 7 is aborted in the next answer; 8 is committed in this one. */
    data_add(&bytes, 0, 2, 7);
    data_add(&bytes, 2, 2, 8);
    marker_add(&bytes, 4, 8, true);
    fetch_answered(&b, &bytes, 5, 9,
                   (struct fetch_response_aborted_transaction[]){
                       {.producer_id = 7, .first_offset = 0}
    },
                   1);
    buf_finish(&bytes);
    assert_int_equal(poll_count(&b, RV_OK, &r), 2);
    assert_int_equal(r[0].offset, 2);
    assert_int_equal(poll_count(&b, RV_OK, &r), 0);
    assert_int_equal(b.claims[0]->position, 5);      /* past the marker */
    assert_int_equal(rv_lag(b.consumer, "t", 0), 0); /* of what is stable; 9 is the end */
    /* The rest of it, from before this answer; and the next one of 7, which is committed. */
    data_add(&bytes, 5, 2, 7);
    marker_add(&bytes, 7, 7, false);
    data_add(&bytes, 8, 2, 7);
    marker_add(&bytes, 10, 7, true);
    fetch_answered(&b, &bytes, 11, 11,
                   (struct fetch_response_aborted_transaction[]){
                       {.producer_id = 7, .first_offset = 0}
    },
                   1);
    buf_finish(&bytes);
    assert_int_equal(poll_count(&b, RV_OK, &r), 2);
    assert_int_equal(r[0].offset, 8);
    assert_int_equal(poll_count(&b, RV_OK, &r), 0);
    assert_int_equal(b.claims[0]->position, 11);
    /* Two of the same producer, with a committed one between them; another's is not touched. */
    data_add(&bytes, 11, 2, 7);
    marker_add(&bytes, 13, 7, false);
    data_add(&bytes, 14, 1, 7);
    data_add(&bytes, 15, 1, 9);
    marker_add(&bytes, 16, 7, true);
    data_add(&bytes, 17, 2, 7);
    marker_add(&bytes, 19, 7, false);
    marker_add(&bytes, 20, 9, true);
    fetch_answered(
        &b, &bytes, 21, 21,
        (struct fetch_response_aborted_transaction[]){
            {.producer_id = 7, .first_offset = 11},
            {.producer_id = 7, .first_offset = 17}
    },
        2);
    buf_finish(&bytes);
    assert_int_equal(poll_count(&b, RV_OK, &r), 2);
    assert_int_equal(r[0].offset, 14);
    assert_int_equal(r[1].offset, 15);
    assert_int_equal(poll_count(&b, RV_OK, &r), 0);
    assert_int_equal(b.claims[0]->position, 21);
    bench_close(&b);
}

static void uncommitted_reading_sees_all_and_counts_to_the_end(void **state)
{
    (void)state;
    struct bench b;
    struct buf bytes = {0};
    const struct rv_record *r;
    bench_open(&b, NULL);
    broker_known(&b);
    data_add(&bytes, 0, 2, 7);
    marker_add(&bytes, 2, 7, false);
    fetch_answered(&b, &bytes, 3, 9, NULL, 0);
    buf_finish(&bytes);
    assert_int_equal(poll_count(&b, RV_OK, &r), 2);
    assert_int_equal(poll_count(&b, RV_OK, &r), 0);
    assert_int_equal(b.claims[0]->position, 3);
    assert_int_equal(rv_lag(b.consumer, "t", 0), 6);
    bench_close(&b);
}

static void what_lies_before_the_position_is_not_given(void **state)
{
    (void)state;
    struct bench b;
    struct buf bytes = {0};
    const struct rv_record *r;
    bench_open(&b, NULL);
    assert_int_equal(rv_seek(b.consumer, "t", 0, 4, &b.error), RV_OK);
    plain(&bytes, 0, 2);  /* wholly before */
    plain(&bytes, 2, 4);  /* in part */
    plain(&bytes, 20, 1); /* behind a gap that compaction left */
    put(&b, b.claims[0], &bytes);
    assert_int_equal(poll_count(&b, RV_OK, &r), 3);
    assert_int_equal(r[0].offset, 4);
    assert_int_equal(r[1].offset, 5);
    assert_int_equal(r[2].offset, 20);
    assert_int_equal(r[2].leader_epoch, 3);
    assert_int_equal(b.claims[0]->position, 21);
    bench_close(&b);
}

static void a_poll_gives_no_more_than_it_may_and_goes_on_in_mid_batch(void **state)
{
    (void)state;
    for (int codec = 0; codec < CODEC_COUNT; codec++) {
        struct bench b;
        struct buf bytes = {0};
        const struct rv_record *r;
        bench_open(&b, RV_OPTIONS({"max.poll.records", "3"}));
        batch_add(&bytes,
                  &(struct batch){
                      .offset = 0, .count = 8, .codec = (enum codec)codec, .producer_id = -1});
        put(&b, b.claims[0], &bytes);
        assert_int_equal(poll_count(&b, RV_OK, &r), 3);
        assert_int_equal(poll_count(&b, RV_OK, &r), 3);
        assert_int_equal(r[0].offset, 3);
        assert_int_equal(poll_count(&b, RV_OK, &r), 2);
        assert_int_equal(poll_count(&b, RV_OK, &r), 0);
        assert_int_equal(b.consumer->queued, 0); /* given back */
        bench_close(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damage_is_told_once_behind_the_good_records_and_the_others_go_on),
        cmocka_unit_test(checksums_are_not_looked_at_when_nobody_wants_that),
        cmocka_unit_test(any_damaged_byte_is_an_error_or_is_not_seen),
        cmocka_unit_test(bytes_that_are_no_batch_are_damage),
        cmocka_unit_test(markers_are_passed_over),
        cmocka_unit_test(aborted_transactions_are_seen_or_not_as_the_isolation_says),
        cmocka_unit_test(aborted_transactions_are_filtered_out_of_the_answers_to_fetch),
        cmocka_unit_test(uncommitted_reading_sees_all_and_counts_to_the_end),
        cmocka_unit_test(what_lies_before_the_position_is_not_given),
        cmocka_unit_test(a_poll_gives_no_more_than_it_may_and_goes_on_in_mid_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

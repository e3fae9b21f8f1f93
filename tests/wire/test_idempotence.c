/* Idempotent producers: ids, sequences, epochs, and what a retry is answered; over restarts. */
#include "gen/init_producer_id.h"
#include "tests/kit/wire_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int setup(void **state)
{
    return wire_fixture_create(state, NULL);
}

static const struct init_producer_id_response *init_id(struct wire_client *c, int16_t version,
                                                       const char *transactional_id)
{
    struct init_producer_id_request *q = NEW(c, init_producer_id_request);
    q->transactional_id = str_of(transactional_id);
    q->transaction_timeout_ms = 60000;
    return wire_ask(c, API_INIT_PRODUCER_ID, version, q);
}

static int64_t new_id(struct wire_client *c)
{
    const struct init_producer_id_response *a = init_id(c, 5, NULL);
    assert_code(a->error_code, KERR_NONE);
    assert_int_equal(a->producer_epoch, 0);
    return a->producer_id;
}

/* One producer that writes to one topic. */
struct producer {
    struct wire_client *c;
    const char *topic;
    int64_t id;
    int16_t epoch;
};

static const struct produce_response_partition *put(const struct producer *p, int32_t sequence,
                                                    int32_t count)
{
    return wire_put(p->c, p->topic,
                    BATCH(p->c, .count = count, .timestamp = 1000000,
                          /* 1970: old events */ .idempotent = true, .producer_id = p->id,
                          .epoch = p->epoch, .sequence = sequence));
}

static void expect_appended(const struct producer *p, int32_t sequence, int32_t count,
                            int64_t base_offset)
{
    const struct produce_response_partition *a = put(p, sequence, count);
    assert_code(a->error_code, KERR_NONE);
    assert_int_equal(a->base_offset, base_offset);
}

static void expect_refused(const struct producer *p, int32_t sequence, int32_t count, int16_t code)
{
    int64_t before = wire_end_offset(p->c, p->topic, 0);
    const struct produce_response_partition *a = put(p, sequence, count);
    assert_code(a->error_code, code);
    assert_int_equal(a->base_offset, -1);
    assert_int_equal(wire_end_offset(p->c, p->topic, 0), before);
}

static struct producer producer_of(struct wire_client *c, const char *topic)
{
    TOPIC(c, topic, 1);
    return (struct producer){.c = c, .topic = topic, .id = new_id(c)};
}

/* ---- ids */

static void ids_are_never_given_twice(void **state)
{
    struct daemon *d = daemon_of(state);
    enum { N = 1100, ROUNDS = 3 }; /* more than a block of 1000; a kill -9 and a clean stop */
    int64_t last = -1;
    for (int round = 0; round < ROUNDS; round++) {
        struct wire_client *c = wire_connect(d);
        for (int i = 0; i < N; i++) {
            const struct init_producer_id_response *a = init_id(c, (int16_t)(i % 6), NULL);
            assert_code(a->error_code, KERR_NONE);
            assert_true(a->producer_id > last);
            last = a->producer_id;
        }
        wire_close(c);
        if (round == 0) {
            daemon_kill(d);
            daemon_start(d);
        } else {
            daemon_restart(d);
        }
    }
}

/* Anything that can be retried would hang a client; see the point 2. */
static void a_transactional_id_is_refused_for_good(void **state)
{
    struct wire_client *c = client_of(state);
    each_version(v, API_INIT_PRODUCER_ID)
    {
        const struct init_producer_id_response *a = init_id(c, v, "tx");
        assert_code(a->error_code, KERR_INVALID_REQUEST);
        assert_int_equal(a->producer_id, -1);
        a = init_id(c, v, "");
        assert_code(a->error_code, KERR_INVALID_REQUEST);
    }
}

/* ---- sequences */

static void a_sequence_that_follows_is_taken_and_counts_records(void **state)
{
    struct producer p = producer_of(client_of(state), "follows");
    expect_appended(&p, 0, 3, 0);
    expect_appended(&p, 3, 1, 3);
    expect_appended(&p, 4, 10, 4);
    expect_refused(&p, 15, 1, KERR_OUT_OF_ORDER_SEQUENCE_NUMBER); /* 14 would be next */
    expect_appended(&p, 14, 1, 14);
}

static void the_last_five_batches_are_known_again_with_their_offsets(void **state)
{
    struct producer p = producer_of(client_of(state), "known-again");
    struct wire_client *c = p.c;
    struct producer other = {.c = c, .topic = p.topic, .id = new_id(c)};
    for (int32_t i = 0; i < 8; i++) {
        expect_appended(&p, 2 * i, 2, 3 * i);
        expect_appended(&other, i, 1, 3 * i + 2); /* offsets and sequences differ */
    }
    for (int32_t i = 3; i < 8; i++) {
        expect_appended(&p, 2 * i, 2, 3 * i);
        expect_appended(&other, i, 1, 3 * i + 2);
    }
    assert_int_equal(wire_end_offset(c, p.topic, 0), 24);
    /* Older: it was written, but where is forgotten. Clients take this for success. */
    expect_refused(&p, 4, 2, KERR_DUPLICATE_SEQUENCE_NUMBER);
    expect_refused(&p, 0, 2, KERR_DUPLICATE_SEQUENCE_NUMBER);
    /* The same place, but another batch. */
    const struct produce_response_partition *a = put(&p, 14, 3);
    assert_true(a->error_code == KERR_OUT_OF_ORDER_SEQUENCE_NUMBER ||
                a->error_code == KERR_DUPLICATE_SEQUENCE_NUMBER);
    assert_int_equal(wire_end_offset(c, p.topic, 0), 24);
    expect_appended(&p, 16, 1, 24);
}

static void a_retry_is_answered_whatever_its_version_and_acks(void **state)
{
    struct wire_client *c = client_of(state);
    struct uuid id = TOPIC(c, "retries", 1);
    struct bytes b = BATCH(c, .count = 4, .idempotent = true, .producer_id = new_id(c));
    assert_int_equal(wire_put_good(c, "retries", BATCH(c, .count = 7)), 0);
    each_version(v, API_PRODUCE)
    {
        for (int16_t acks = -1; acks <= 1; acks += 2) {
            struct bytes copy = {wire_room(c, b.len, 1), b.len};
            memcpy(wire_writable(copy), b.ptr, b.len);
            const struct produce_response_partition *a = wire_produce(
                c, (struct wire_produce){
                       .version = v, .acks = acks, .topic = "retries", .id = id, .records = copy});
            assert_code(a->error_code, KERR_NONE);
            assert_int_equal(a->base_offset, 7);
        }
    }
    assert_int_equal(wire_end_offset(c, "retries", 0), 11);
}

/* A retry that overtakes nothing: both are in the broker at once. */
static void a_retry_that_comes_while_the_first_is_under_way_is_not_written_twice(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "at-once", 1);
    int64_t id = new_id(c);
    int32_t ids[20];
    for (int i = 0; i < 20; i++) {
        const struct wire_produce p = {.acks = -1,
                                       .topic = "at-once",
                                       .records = BATCH(c, .count = 2, .timestamp = 5000,
                                                        .idempotent = true, .producer_id = id,
                                                        .sequence = i / 2 * 2)};
        ids[i] = wire_request(c, API_PRODUCE, 9, wire_produce_request(c, &p));
    }
    for (int i = 0; i < 20; i++) {
        const struct produce_response *a = wire_answer(c, API_PRODUCE, 9, ids[i]);
        assert_code(a->topics->partitions->error_code, KERR_NONE);
        assert_int_equal(a->topics->partitions->base_offset, i / 2 * 2);
    }
    assert_int_equal(wire_end_offset(c, "at-once", 0), 20);
}

static void sequences_wrap_to_zero(void **state)
{
    struct producer p = producer_of(client_of(state), "wraps");
    expect_appended(&p, INT32_MAX - 2, 2, 0); /* unknown so far: it may begin anywhere */
    expect_appended(&p, INT32_MAX, 3, 2);     /* INT32_MAX, 0, 1: inside of a batch */
    expect_appended(&p, 2, 1, 5);
    expect_appended(&p, INT32_MAX, 3, 2); /* known again */
    expect_refused(&p, 4, 1, KERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    struct producer q = producer_of(p.c, "wraps-between");
    expect_appended(&q, INT32_MAX - 1, 2, 0);
    expect_appended(&q, 0, 1, 2);
}

static void a_new_producer_may_begin_anywhere_and_each_partition_counts_alone(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "two-partitions", 2);
    int64_t id = new_id(c);
    for (int32_t partition = 0; partition < 2; partition++) {
        for (int32_t i = 0; i < 3; i++) {
            const struct produce_response_partition *a = wire_produce(
                c, (struct wire_produce){.acks = -1,
                                         .topic = "two-partitions",
                                         .partition = partition,
                                         .records = BATCH(c, .idempotent = true, .producer_id = id,
                                                          .sequence = 100 * partition + i)});
            assert_code(a->error_code, KERR_NONE);
            assert_int_equal(a->base_offset, i);
        }
    }
}

/* ---- epochs */

static void a_new_epoch_begins_at_zero_and_fences_the_old_one(void **state)
{
    struct producer p = producer_of(client_of(state), "epochs");
    struct producer newer = p;
    newer.epoch = 1;
    expect_appended(&p, 0, 2, 0);
    expect_refused(&newer, 2, 1, KERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    expect_appended(&newer, 0, 1, 2);
    expect_refused(&p, 2, 1, KERR_INVALID_PRODUCER_EPOCH);
    expect_refused(&p, 0, 2, KERR_INVALID_PRODUCER_EPOCH); /* also what was written once */
    expect_appended(&newer, 1, 1, 3);
    newer.epoch = INT16_MAX;
    expect_appended(&newer, 0, 1, 4);
}

static void refused_batches_change_nothing(void **state)
{
    struct producer p = producer_of(client_of(state), "unchanged");
    struct producer newer = p;
    newer.epoch = 5;
    expect_appended(&p, 0, 1, 0);
    for (int i = 0; i < 10; i++) {
        expect_refused(&p, 7, 1, KERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
        expect_refused(&newer, 7, 1, KERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    }
    expect_appended(&p, 1, 1, 1);
}

/* ---- restarts */

static void check_after_restart(struct daemon *d, struct producer *p, int64_t end)
{
    p->c = wire_connect(d);
    assert_int_equal(wire_end_offset(p->c, p->topic, 0), end);
    for (int32_t i = 3; i < 8; i++) {
        expect_appended(p, 2 * i, 2, 2 * i); /* known again */
    }
    expect_refused(p, 17, 1, KERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_int_equal(wire_end_offset(p->c, p->topic, 0), end);
    wire_close(p->c);
}

static void what_producers_did_is_known_after_kill_9_and_after_a_clean_stop(void **state)
{
    struct daemon *d = daemon_of(state);
    struct wire_client *c = client_of(state);
    struct producer p = producer_of(c, "restarts");
    struct producer fenced = producer_of(c, "restarts-fenced");
    struct producer newer = fenced;
    newer.epoch = 3;
    for (int32_t i = 0; i < 8; i++) {
        expect_appended(&p, 2 * i, 2, 2 * i);
    }
    expect_appended(&fenced, 0, 1, 0);
    expect_appended(&newer, 0, 1, 1);
    for (int round = 0; round < 4; round++) {
        if (round % 2) {
            daemon_restart(d);
        } else {
            daemon_kill(d);
            daemon_start(d);
        }
        check_after_restart(d, &p, 16);
        fenced.c = wire_connect(d);
        expect_refused(&fenced, 1, 1, KERR_INVALID_PRODUCER_EPOCH);
        wire_close(fenced.c);
    }
    p.c = wire_connect(d);
    expect_appended(&p, 16, 2, 16);
    wire_close(p.c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        wire_test(ids_are_never_given_twice),
        wire_test(a_transactional_id_is_refused_for_good),
        wire_test(a_sequence_that_follows_is_taken_and_counts_records),
        wire_test(the_last_five_batches_are_known_again_with_their_offsets),
        wire_test(a_retry_is_answered_whatever_its_version_and_acks),
        wire_test(a_retry_that_comes_while_the_first_is_under_way_is_not_written_twice),
        wire_test(sequences_wrap_to_zero),
        wire_test(a_new_producer_may_begin_anywhere_and_each_partition_counts_alone),
        wire_test(a_new_epoch_begins_at_zero_and_fences_the_old_one),
        wire_test(refused_batches_change_nothing),
        wire_test(what_producers_did_is_known_after_kill_9_and_after_a_clean_stop),
    };
    return cmocka_run_group_tests(tests, setup, wire_fixture_destroy);
}

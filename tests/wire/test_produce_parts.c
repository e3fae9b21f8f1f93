/* Large Produce requests, which the broker handles part by part while they arrive: nobody sees that
 * but by its memory. */
#include "base/mem.h"
#include "base/rand.h"
#include "gen/init_producer_id.h"
#include "tests/kit/logfmt.h"
#include "tests/kit/wire_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    MIB = 1 << 20,
    TOPICS = 3,
    EACH = 20, /* partitions of a topic */
    ALL = TOPICS * EACH,
    VALUE = 700000, /* bytes of a record: 40 MiB in all */
    STAMP = 8,      /* bytes at a value's end that tell the records apart */
};

static const char *const names[TOPICS] = {"a", "b", "c"};

struct world {
    struct daemon *d;
    struct wire_client *c;
    struct uuid ids[TOPICS];
    struct rng rng;
};

static struct world world_of(struct daemon *d)
{
    struct world w = {.d = d, .c = wire_connect(d)};
    rng_init(&w.rng, 20261126);
    for (int t = 0; t < TOPICS; t++) {
        w.ids[t] = TOPIC(w.c, names[t], EACH);
    }
    return w;
}

/* A number that the daemon told at its end. */
static long long told(struct daemon *d, const char *name)
{
    const char *line = strstr(daemon_log(d), "event=stopped clean=true");
    const char *at = line ? strstr(line, name) : NULL;
    if (!at) {
        fail_msg("the daemon did not say %s at its end", name);
    }
    return atoll(at + strlen(name));
}

/* At least so many parts came, and memory stayed within so much. */
static void world_ends(struct world *w, long long parts, long long most)
{
    wire_close(w->c);
    assert_int_equal(daemon_stop(w->d), 0);
    assert_logfmt(daemon_log(w->d));
    print_message("%lld parts, at most %lld KiB of memory, %lld KiB of it partial frames\n",
                  told(w->d, " produce_parts="), told(w->d, " memory_peak=") / 1024,
                  told(w->d, " partial_memory_peak=") / 1024);
    assert_true(told(w->d, " produce_parts=") >= parts);
    assert_true(told(w->d, " memory_peak=") < most);
    daemon_destroy(w->d);
}

static struct bytes stamped(struct bytes batch, int32_t partition, int round)
{
    char text[STAMP + 1];
    snprintf(text, sizeof text, "%04d%04d", partition, round);
    memcpy(wire_writable(batch) + batch.len - 1 - STAMP, text, STAMP); /* no headers: a 0 ends it */
    wire_batch_reseal(batch);
    return batch;
}

static struct wire_records records_of(struct bytes b)
{
    return (struct wire_records){b.ptr, b.len, NULL};
}

/* One record for each partition; `producer` -1: not idempotent. */
static struct produce_request *large(struct world *w, int16_t acks, int round, int64_t producer)
{
    struct produce_request *q = NEW(w->c, produce_request);
    q->acks = acks;
    q->timeout_ms = 30000;
    q->topics = NEWS(w->c, produce_request_topic, TOPICS);
    q->topics_count = TOPICS;
    for (int32_t t = 0; t < TOPICS; t++) {
        q->topics[t].name = str_of(names[t]);
        q->topics[t].topic_id = w->ids[t];
        q->topics[t].partitions = NEWS(w->c, produce_request_partition, EACH);
        q->topics[t].partitions_count = EACH;
        for (int32_t i = 0; i < EACH; i++) {
            struct bytes b = BATCH(w->c, .value_size = VALUE, .idempotent = producer >= 0,
                                   .producer_id = producer, .sequence = producer >= 0 ? round : -1);
            q->topics[t].partitions[i].index = i;
            q->topics[t].partitions[i].records = records_of(stamped(b, t * EACH + i, round));
        }
    }
    return q;
}

/* In pieces of any size, as far as `end`. */
static void send_pieces(struct world *w, struct bytes frame, size_t end)
{
    for (size_t done = 0; done < end;) {
        size_t size = 1 + rng_below(&w->rng, rng_below(&w->rng, 2) ? 300000 : 3000);
        size = size < end - done ? size : end - done;
        wire_send(w->c, frame.ptr + done, size);
        done += size;
    }
}

static const struct produce_response *ask(struct world *w, int16_t version,
                                          const struct produce_request *q)
{
    struct bytes frame = wire_frame(w->c, API_PRODUCE, version, q);
    send_pieces(w, frame, frame.len);
    return wire_answer(w->c, API_PRODUCE, version, w->c->correlation_id);
}

static void expect_shape(const struct world *w, int16_t version, const struct produce_response *a)
{
    assert_int_equal(a->topics_count, TOPICS);
    assert_int_equal(a->throttle_time_ms, 0);
    for (int32_t t = 0; t < TOPICS; t++) {
        if (version < 13) {
            assert_str(a->topics[t].name, names[t]);
        } else {
            assert_true(uuid_eq(a->topics[t].topic_id, w->ids[t]));
        }
        assert_int_equal(a->topics[t].partitions_count, EACH);
        for (int32_t i = 0; i < EACH; i++) {
            assert_int_equal(a->topics[t].partitions[i].index, i);
        }
    }
}

static const struct produce_response_partition *answer_of(const struct produce_response *a,
                                                          int32_t partition)
{
    return &a->topics[partition / EACH].partitions[partition % EACH];
}

static void expect_all(const struct produce_response *a, int64_t base_offset)
{
    for (int32_t i = 0; i < ALL; i++) {
        assert_code(answer_of(a, i)->error_code, KERR_NONE);
        assert_int_equal(answer_of(a, i)->base_offset, base_offset);
    }
}

static bool record_is(const struct wire_record *r, int32_t partition, int round)
{
    char text[STAMP + 1];
    snprintf(text, sizeof text, "%04d%04d", partition, round);
    return r->value.len == VALUE && memcmp(r->value.ptr + VALUE - STAMP, text, STAMP) == 0;
}

/* The records of rounds 0 to rounds - 1, in order and no others. */
static void expect_records(struct world *w, int32_t partition, int rounds)
{
    struct wire_records_read r = wire_read(w->c, names[partition / EACH], partition % EACH, 0);
    assert_int_equal(r.count, rounds);
    for (int i = 0; i < rounds; i++) {
        assert_true(record_is(&r.records[i], partition, i));
    }
    wire_forget(w->c);
}

/* ---- what a client sees */

static void a_large_produce_is_answered_once_and_whole(void **state)
{
    (void)state;
    static const struct {
        int16_t version, acks;
    } cases[] = {
        {12, 1 },
        {3,  1 },
        {8,  -1},
        {13, -1}  /* behind all of them, and durable */
    };
    enum { ROUNDS = sizeof cases / sizeof *cases };
    struct world w = world_of(DAEMON());
    for (int i = 0; i < ROUNDS; i++) {
        const struct produce_response *a =
            ask(&w, cases[i].version, large(&w, cases[i].acks, i, -1));
        expect_shape(&w, cases[i].version, a);
        expect_all(a, i);
        wire_forget(w.c);
    }
    for (int32_t i = 0; i < ALL; i++) {
        expect_records(&w, i, ROUNDS);
    }
    world_ends(&w, ROUNDS * 10, 20 * MIB);
}

static void a_large_produce_with_acks_0_is_not_answered(void **state)
{
    (void)state;
    struct world w = world_of(DAEMON());
    for (int16_t version = 8, round = 0; version <= 9; version++, round++) {
        struct bytes frame = wire_frame(w.c, API_PRODUCE, version, large(&w, 0, round, -1));
        send_pieces(&w, frame, frame.len);
        /* the next frame that comes is the next request's */
        assert_code(wire_topic_info(w.c, "a")->error_code, KERR_NONE);
        wire_forget(w.c);
    }
    TOPIC(w.c, "last", 1);
    wire_put_good(w.c, "last", BATCH(w.c, 0)); /* behind all of them, and durable */
    for (int32_t i = 0; i < ALL; i++) {
        expect_records(&w, i, 2);
    }
    world_ends(&w, 2 * 10, 20 * MIB);
}

static void a_bad_partition_of_a_large_produce_does_not_harm_the_others(void **state)
{
    (void)state;
    enum { CORRUPT = 31, UNKNOWN = 45 };
    struct world w = world_of(DAEMON());
    struct produce_request *q = large(&w, -1, 0, -1);
    struct produce_request_topic *t = &q->topics[CORRUPT / EACH];
    wire_writable((struct bytes){t->partitions[CORRUPT % EACH].records.ptr, 1})[17] ^= 1;
    q->topics[UNKNOWN / EACH].partitions[UNKNOWN % EACH].index = EACH;
    const struct produce_response *a = ask(&w, 12, q);
    for (int32_t i = 0; i < ALL; i++) {
        assert_code(answer_of(a, i)->error_code, i == CORRUPT   ? KERR_CORRUPT_MESSAGE
                                                 : i == UNKNOWN ? KERR_UNKNOWN_TOPIC_OR_PARTITION
                                                                : KERR_NONE);
        assert_int_equal(answer_of(a, i)->index, i == UNKNOWN ? EACH : i % EACH);
    }
    for (int32_t i = 0; i < ALL; i++) {
        expect_records(&w, i, i != CORRUPT && i != UNKNOWN);
    }
    world_ends(&w, 10, 20 * MIB);
}

static void an_error_in_a_large_produce_with_acks_0_closes_the_connection(void **state)
{
    (void)state;
    struct world w = world_of(DAEMON());
    struct produce_request *q = large(&w, 0, 0, -1);
    wire_writable((struct bytes){q->topics[0].partitions[9].records.ptr, 1})[17] ^= 1;
    struct bytes frame = wire_frame(w.c, API_PRODUCE, 12, q);
    (void)wire_try_send(w.c, frame.ptr, frame.len);
    wire_expect_close(w.c);
    daemon_await_log(w.d, "a produce with acks=0 failed");
    world_ends(&w, 1, 20 * MIB);
}

/* A batch that is too large, first, in the middle and last, and of a topic that there is not: it is
 * not collected, and the others of the request are stored. */
static void batches_that_nobody_takes_are_dropped_and_their_neighbours_are_stored(void **state)
{
    (void)state;
    enum { HUGE = 10 * MIB };
    static const int32_t places[] = {0, 30, ALL - 1};
    struct world w = world_of(DAEMON());
    for (int16_t version = 8, round = 0; version <= 12; version += 4, round++) {
        struct produce_request *q = large(&w, -1, round, -1);
        struct bytes huge = BATCH(w.c, .value_size = HUGE);
        for (int k = 0; k < 3; k++) {
            q->topics[places[k] / EACH].partitions[places[k] % EACH].records = records_of(huge);
        }
        struct produce_request_topic *missing = NEWS(w.c, produce_request_topic, TOPICS + 1);
        missing[0].name = STR("missing");
        missing[0].partitions = NEWS(w.c, produce_request_partition, 1);
        missing[0].partitions_count = 1;
        missing[0].partitions->records = records_of(huge);
        memcpy(missing + 1, q->topics, TOPICS * sizeof *missing);
        q->topics = missing;
        q->topics_count++;
        struct produce_response *a = (struct produce_response *)(uintptr_t)ask(&w, version, q);
        assert_int_equal(a->topics_count, TOPICS + 1);
        assert_str(a->topics[0].name, "missing");
        assert_code(a->topics[0].partitions->error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
        a->topics++;
        a->topics_count--;
        expect_shape(&w, version, a);
        for (int32_t i = 0; i < ALL; i++) {
            bool taken = i != places[0] && i != places[1] && i != places[2];
            assert_code(answer_of(a, i)->error_code, taken ? KERR_NONE : KERR_MESSAGE_TOO_LARGE);
            assert_int_equal(answer_of(a, i)->base_offset, taken ? round : -1);
        }
        wire_forget(w.c);
    }
    for (int32_t i = 0; i < ALL; i++) {
        expect_records(&w, i, i != places[0] && i != places[1] && i != places[2] ? 2 : 0);
    }
    world_ends(&w, 10, 20 * MIB);
}

/* What was dropped when its topic was not there is not there when the topic is: the client is to
 * send it again. */
static void a_topic_that_is_made_while_its_batch_is_dropped_gets_it_the_second_time(void **state)
{
    (void)state;
    enum { HUGE = 40 * MIB, FIRST = 30 * MIB }; /* more than sockets hold: it has been looked at */
    struct world w = world_of(DAEMON());
    const struct wire_produce p = {
        .acks = -1, .topic = "late", .records = BATCH(w.c, .value_size = HUGE)};
    struct bytes frame = wire_frame(w.c, API_PRODUCE, 12, wire_produce_request(w.c, &p));
    int32_t id = w.c->correlation_id;
    struct wire_client *other = wire_connect(w.d);
    wire_send(w.c, frame.ptr, FIRST);
    TOPIC(other, "late", 1, "max.message.bytes=50000000");
    wire_close(other);
    wire_send(w.c, frame.ptr + FIRST, frame.len - FIRST);
    const struct produce_response *a = wire_answer(w.c, API_PRODUCE, 12, id);
    assert_code(a->topics->partitions->error_code, KERR_NOT_LEADER_OR_FOLLOWER);
    assert_int_equal(wire_end_offset(w.c, "late", 0), 0);
    assert_code(wire_produce(w.c, p)->error_code, KERR_NONE);
    assert_int_equal(wire_end_offset(w.c, "late", 0), 1);
    world_ends(&w, 0, 128 * MIB);
}

/* A batch as large as its topic allows is collected. */
static void a_large_batch_that_its_topic_allows_is_stored(void **state)
{
    (void)state;
    enum { HUGE = 20 * MIB };
    struct world w = world_of(DAEMON());
    TOPIC(w.c, "wide", 2, "max.message.bytes=30000000");
    struct produce_request *q = large(&w, -1, 0, -1);
    q->topics[1].name = STR("wide");
    q->topics[1].partitions_count = 2;
    q->topics[1].partitions[1].records = records_of(BATCH(w.c, .value_size = HUGE));
    const struct produce_response *a = ask(&w, 12, q);
    assert_int_equal(a->topics_count, TOPICS);
    assert_code(a->topics[1].partitions[1].error_code, KERR_NONE);
    assert_code(a->topics[2].partitions[EACH - 1].error_code, KERR_NONE);
    assert_int_equal(wire_end_offset(w.c, "wide", 1), 1);
    expect_records(&w, 2 * EACH, 1);
    world_ends(&w, 5, 64 * MIB);
}

/* ---- other requests of the connection */

static void requests_before_and_behind_are_answered_in_order(void **state)
{
    (void)state;
    struct world w = world_of(DAEMON());
    struct metadata_request *m = NEW(w.c, metadata_request);
    const struct wire_produce small = {
        .acks = -1, .topic = "b", .partition = 7, .records = BATCH(w.c, .count = 1)};
    int32_t first = wire_request(w.c, API_METADATA, 12, m);
    wire_request(w.c, API_PRODUCE, 12, wire_produce_request(w.c, &small));
    struct bytes frame = wire_frame(w.c, API_PRODUCE, 12, large(&w, -1, 0, -1));
    send_pieces(&w, frame, frame.len);
    wire_request(w.c, API_PRODUCE, 12, wire_produce_request(w.c, &small));
    frame = wire_frame(w.c, API_PRODUCE, 9, large(&w, 1, 1, -1));
    send_pieces(&w, frame, frame.len);
    wire_request(w.c, API_METADATA, 12, m);
    (void)wire_answer(w.c, API_METADATA, 12, first);
    const struct produce_response *a = wire_answer(w.c, API_PRODUCE, 12, first + 1);
    assert_int_equal(a->topics->partitions->base_offset, 0);
    a = wire_answer(w.c, API_PRODUCE, 12, first + 2);
    expect_shape(&w, 12, a);
    assert_int_equal(answer_of(a, EACH + 7)->base_offset, 1);
    a = wire_answer(w.c, API_PRODUCE, 12, first + 3);
    assert_int_equal(a->topics->partitions->base_offset, 2);
    a = wire_answer(w.c, API_PRODUCE, 9, first + 4);
    expect_shape(&w, 9, a);
    assert_int_equal(answer_of(a, EACH + 7)->base_offset, 3);
    (void)wire_answer(w.c, API_METADATA, 12, first + 5);
    world_ends(&w, 20, 24 * MIB);
}

/* Each part counts as a request that is under way, and they must not wait for each other. */
static void one_request_at_a_time_is_enough_for_all_parts(void **state)
{
    (void)state;
    struct world w = world_of(DAEMON("rivulet.connection.requests.max=1"));
    for (int i = 0; i < 2; i++) {
        expect_all(ask(&w, 12, large(&w, -1, i, -1)), i);
        wire_forget(w.c);
    }
    world_ends(&w, 20, 20 * MIB);
}

/* Memory for the parts of one or two, and many that send at once: whoever is first goes on, and in
 * the end all are answered. */
static void large_produces_that_wait_for_memory_are_all_answered(void **state)
{
    (void)state;
    enum { COUNT = 8, LIMIT = 4 * MIB };
    struct world w = world_of(DAEMON("rivulet.memory.partial.max.bytes=4194304"));
    struct wire_client *c[COUNT];
    struct bytes frames[COUNT];
    size_t sent[COUNT] = {0};
    for (int i = 0; i < COUNT; i++) {
        struct produce_request *q = large(&w, -1, i, -1);
        q->topics_count = 1;
        c[i] = wire_connect(w.d);
        frames[i] = wire_frame(w.c, API_PRODUCE, 12, q);
    }
    int first = w.c->correlation_id - COUNT + 1;
    for (int left = COUNT; left > 0;) {
        left = 0;
        for (int i = 0; i < COUNT; i++) {
            ssize_t n = send(c[i]->fd, frames[i].ptr + sent[i], frames[i].len - sent[i],
                             MSG_NOSIGNAL | MSG_DONTWAIT);
            assert_true(n >= 0 || errno == EAGAIN);
            sent[i] += n > 0 ? (size_t)n : 0;
            left += sent[i] < frames[i].len;
        }
    }
    for (int i = 0; i < COUNT; i++) {
        const struct produce_response *a = wire_answer(c[i], API_PRODUCE, 12, first + i);
        assert_int_equal(a->topics_count, 1);
        assert_int_equal(a->topics->partitions_count, EACH);
        for (int32_t n = 0; n < EACH; n++) {
            assert_code(a->topics->partitions[n].error_code, KERR_NONE);
        }
        wire_close(c[i]);
    }
    for (int32_t i = 0; i < EACH; i++) {
        assert_int_equal(wire_read(w.c, "a", i, 0).count, COUNT);
    }
    daemon_await_log(w.d, "limit=rivulet.memory.partial.max.bytes");
    world_ends(&w, COUNT, LIMIT + 16 * MIB);
}

/* Of so many partitions of a topic, `size` bytes each, that there are not. */
static struct bytes of_nobody(struct wire_client *c, int32_t count, size_t size)
{
    struct produce_request *q = NEW(c, produce_request);
    const uint8_t *zeros = wire_room(c, size, 1);
    q->acks = -1;
    q->topics = NEWS(c, produce_request_topic, 1);
    q->topics_count = 1;
    q->topics->name = STR("a");
    q->topics->partitions = NEWS(c, produce_request_partition, count);
    q->topics->partitions_count = count;
    for (int32_t i = 0; i < count; i++) {
        q->topics->partitions[i].index = EACH + i;
        q->topics->partitions[i].records = (struct wire_records){zeros, size, NULL};
    }
    return wire_frame(c, API_PRODUCE, 12, q);
}

/* The answer grows with every part, and may take what the answer to a whole request may. */
static void an_answer_of_parts_that_takes_too_much_memory_closes_the_connection(void **state)
{
    (void)state;
    enum { SIZE = 10000, FEW = 600, MANY = 6000 };
    struct world w = world_of(DAEMON("rivulet.request.memory.max.bytes=400000"));
    struct bytes frame = of_nobody(w.c, FEW, SIZE);
    wire_send(w.c, frame.ptr, frame.len);
    const struct produce_response *a = wire_answer(w.c, API_PRODUCE, 12, w.c->correlation_id);
    assert_int_equal(a->topics_count, 1);
    assert_int_equal(a->topics->partitions_count, FEW);
    for (int32_t i = 0; i < FEW; i++) {
        assert_int_equal(a->topics->partitions[i].index, EACH + i);
        assert_code(a->topics->partitions[i].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    }
    frame = of_nobody(w.c, MANY, SIZE);
    (void)wire_try_send(w.c, frame.ptr, frame.len);
    wire_expect_close(w.c);
    daemon_await_log(w.d, "its answer takes too much memory (rivulet.request.memory.max.bytes)");
    world_ends(&w, 5, 20 * MIB);
}

/* Its first parts wait for a request before them, and it has what others wait for. */
static void parts_that_wait_while_memory_is_spent_close_the_connection(void **state)
{
    (void)state;
    struct world w =
        world_of(DAEMON("rivulet.memory.partial.max.bytes=2097152", "rivulet.frame.stall.ms=300"));
    struct wire_client *bad = wire_connect(w.d);
    const struct wire_fetch parked = {
        .topic = "a", .min_bytes = 1, .max_wait_ms = INT32_MAX, .max_bytes = MIB};
    wire_request(bad, API_FETCH, 12, wire_fetch_request(bad, &parked));
    struct bytes frame = wire_frame(w.c, API_PRODUCE, 12, large(&w, -1, 0, -1));
    (void)wire_try_send(bad, frame.ptr, frame.len);
    wire_expect_close(bad);
    daemon_await_log(w.d, "the frame waits for earlier requests while memory is spent");
    wire_close(bad);
    assert_int_equal(wire_put_good(w.c, "a", BATCH(w.c, .count = 1)), 0); /* nothing was started */
    world_ends(&w, 1, 20 * MIB);
}

/* ---- when it breaks */

static void a_connection_that_breaks_in_the_middle_leaves_nothing_but_what_was_in_front(
    void **state)
{
    (void)state;
    struct world w = world_of(DAEMON());
    for (size_t tenth = 1; tenth < 10; tenth += 2) {
        struct world one = w;
        one.c = wire_connect(w.d);
        struct bytes frame = wire_frame(one.c, API_PRODUCE, 12, large(&one, -1, 0, -1));
        send_pieces(&one, frame, frame.len / 10 * tenth);
        wire_close(one.c);
        assert_code(wire_topic_info(w.c, "a")->error_code, KERR_NONE);
    }
    wire_close(w.c);
    daemon_restart(w.d);
    w.c = wire_connect(w.d);
    int64_t last = 5;
    for (int32_t i = 0; i < ALL; i++) { /* of each there were the first so many partitions */
        int64_t end = wire_end_offset(w.c, names[i / EACH], i % EACH);
        assert_true(end <= last);
        last = end;
    }
    assert_true(wire_end_offset(w.c, names[0], 0) > 1);
    assert_int_equal(last, 0);
    world_ends(&w, 5, 24 * MIB);
}

static void a_large_produce_that_turns_out_broken_closes_the_connection(void **state)
{
    (void)state;
    struct world w = world_of(DAEMON());
    struct bytes frame = wire_frame(w.c, API_PRODUCE, 8, large(&w, -1, 0, -1));
    memset(wire_writable(frame) + frame.len - VALUE / 2, 0xff, VALUE / 2);
    /* the name of the last topic but its length: what was whole before it was handled */
    uint8_t *topic = memmem(frame.ptr, frame.len, "\0\1c\0\0\0\x14", 7);
    assert_non_null(topic);
    memset(topic, 0xff, 7);
    (void)wire_try_send(w.c, frame.ptr, frame.len);
    wire_expect_close(w.c);
    daemon_await_log(w.d, "does not decode");
    wire_close(w.c);
    w.c = wire_connect(w.d);
    expect_records(&w, 0, 1);
    world_ends(&w, 5, 20 * MIB);
}

/* ---- again */

static void a_large_produce_that_is_sent_again_is_known_again(void **state)
{
    (void)state;
    struct world w = world_of(DAEMON());
    struct init_producer_id_request *q = NEW(w.c, init_producer_id_request);
    q->transactional_id = (struct str){0};
    q->transaction_timeout_ms = 60000;
    const struct init_producer_id_response *id = wire_ask(w.c, API_INIT_PRODUCER_ID, 4, q);
    assert_code(id->error_code, KERR_NONE);
    int64_t producer = id->producer_id;
    struct world broken = w;
    broken.c = wire_connect(w.d);
    struct bytes frame = wire_frame(broken.c, API_PRODUCE, 12, large(&broken, -1, 0, producer));
    send_pieces(&broken, frame, frame.len / 2);
    wire_close(broken.c);
    for (int again = 0; again < 2; again++) {
        expect_all(ask(&w, 12, large(&w, -1, 0, producer)), 0);
        wire_forget(w.c);
    }
    for (int32_t i = 0; i < ALL; i++) {
        expect_records(&w, i, 1);
    }
    world_ends(&w, 25, 24 * MIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_large_produce_is_answered_once_and_whole),
        cmocka_unit_test(a_large_produce_with_acks_0_is_not_answered),
        cmocka_unit_test(a_bad_partition_of_a_large_produce_does_not_harm_the_others),
        cmocka_unit_test(an_error_in_a_large_produce_with_acks_0_closes_the_connection),
        cmocka_unit_test(batches_that_nobody_takes_are_dropped_and_their_neighbours_are_stored),
        cmocka_unit_test(a_topic_that_is_made_while_its_batch_is_dropped_gets_it_the_second_time),
        cmocka_unit_test(a_large_batch_that_its_topic_allows_is_stored),
        cmocka_unit_test(requests_before_and_behind_are_answered_in_order),
        cmocka_unit_test(one_request_at_a_time_is_enough_for_all_parts),
        cmocka_unit_test(an_answer_of_parts_that_takes_too_much_memory_closes_the_connection),
        cmocka_unit_test(parts_that_wait_while_memory_is_spent_close_the_connection),
        cmocka_unit_test(large_produces_that_wait_for_memory_are_all_answered),
        cmocka_unit_test(
            a_connection_that_breaks_in_the_middle_leaves_nothing_but_what_was_in_front),
        cmocka_unit_test(a_large_produce_that_turns_out_broken_closes_the_connection),
        cmocka_unit_test(a_large_produce_that_is_sent_again_is_known_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

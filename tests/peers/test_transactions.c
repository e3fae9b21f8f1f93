/* Transactions of the library against a broker that has them (outside.h), in the flow that it
 * finalizes. RV_TEST_TRANSACTIONS says which that is: 1, 2; 0: the broker has none. */
#include "base/clock.h"
#include "base/rand.h"
#include "client/producer.h"
#include "protocol/error.h"
#include "tests/kit/feed.h"
#include "tests/kit/local_home.h"
#include "tests/kit/outside.h"
#include "tests/kit/proxy.h"
#include "tests/kit/raw_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WAIT_MS = 30000, PARTITIONS = 3, NUMBERS_MAX = 20000 };

struct scene {
    struct local_home *home;
    struct rv_client *client;
    struct rv_error error;
    int numbers[NUMBERS_MAX]; /* of the last read_numbers */
};

static int flow(void)
{
    const char *text = getenv("RV_TEST_TRANSACTIONS");
    return text ? atoi(text) : 0;
}

static struct rv_client *client_to(const struct scene *s)
{
    struct rv_client *client;
    struct rv_error e;
    if (rv_client_open(RV_OPTIONS({"bootstrap.servers", local_home_address(s->home)},
                                  {"retry.backoff.ms", "5"}, {"retry.backoff.max.ms", "50"},
                                  {"reconnect.backoff.ms", "5"},
                                  {"reconnect.backoff.max.ms", "50"}),
                       &client, &e) != RV_OK) {
        fail_msg("%s", e.text);
    }
    return client;
}

static int scene_begin(void **state)
{
    struct scene *s = calloc(1, sizeof *s);
    s->home = local_home_start(NULL);
    s->client = client_to(s);
    *state = s;
    return 0;
}

static int scene_end(void **state)
{
    struct scene *s = *state;
    rv_client_close(s->client);
    local_home_destroy(s->home);
    free(s);
    return 0;
}

static void good(const struct scene *s, int code)
{
    if (code != RV_OK) {
        fail_msg("%s: %s", rv_error_name(code), s->error.text);
    }
}

static void topic_make(struct scene *s, const char *topic, const struct rv_option *configs)
{
    good(s, rv_topic_create(s->client, topic, PARTITIONS, configs, WAIT_MS, &s->error));
}

static struct rv_producer *producer_of(struct scene *s, const struct rv_option *options)
{
    struct rv_producer *p;
    good(s, rv_producer_open(s->client, options, &p, &s->error));
    good(s, rv_txn_init(p, WAIT_MS, &s->error));
    assert_int_equal(p->txn.v2, flow() == 2);
    return p;
}

static struct rv_producer *producer_named(struct scene *s, const char *id)
{
    return producer_of(s, RV_OPTIONS({"transactional.id", id}, {"linger.ms", "1"}));
}

static int send_number(struct scene *s, struct rv_producer *p, const char *topic, int32_t partition,
                       int number)
{
    char text[16];
    snprintf(text, sizeof text, "%d", number);
    const struct rv_message m = {
        .topic = topic, .value = rv_str(text), .to_partition = true, .partition = partition};
    return rv_send(p, &m, NULL, NULL, &s->error);
}

/* A transaction of these numbers in every partition, up to its end. */
static void fill(struct scene *s, struct rv_producer *p, const char *topic, int first, int count)
{
    good(s, rv_txn_begin(p, &s->error));
    for (int i = 0; i < count; i++) {
        for (int32_t k = 0; k < PARTITIONS; k++) {
            good(s, send_number(s, p, topic, k, first + i));
        }
    }
}

static void commit(struct scene *s, struct rv_producer *p)
{
    good(s, rv_txn_commit(p, WAIT_MS, &s->error));
}

static void abort_it(struct scene *s, struct rv_producer *p)
{
    good(s, rv_txn_abort(p, WAIT_MS, &s->error));
}

/* ---- reading ---- */

struct reader_of {
    struct rv_consumer *consumer;
    int caught_up;
};

static void on_event(void *ctx, const struct rv_event *event)
{
    struct reader_of *r = ctx;
    r->caught_up += event->kind == RV_CAUGHT_UP;
}

static void reader_open(struct scene *s, struct reader_of *r, const char *topic, int32_t partition,
                        const char *isolation)
{
    const struct rv_partition from = {.topic = topic, .partition = partition, .offset = RV_START};
    memset(r, 0, sizeof *r);
    good(s, rv_consumer_open(
                s->client, RV_OPTIONS({"isolation.level", isolation}, {"fetch.max.wait.ms", "20"}),
                &r->consumer, &s->error));
    rv_consumer_on_event(r->consumer, on_event, r);
    good(s, rv_assign(r->consumer, &from, 1, &s->error));
}

static int64_t position(struct reader_of *r)
{
    const struct rv_partition *p;
    assert_int_equal(rv_assignment(r->consumer, &p), 1);
    return p->offset;
}

static int take(struct scene *s, struct reader_of *r, int count)
{
    const struct rv_record *records;
    size_t n;
    good(s, rv_poll(r->consumer, 20, &records, &n, &s->error));
    for (size_t i = 0; i < n; i++) {
        assert_true(count < NUMBERS_MAX);
        char text[16];
        snprintf(text, sizeof text, "%.*s", (int)records[i].value.size,
                 (const char *)records[i].value.ptr);
        s->numbers[count++] = atoi(text);
    }
    return count;
}

/* All up to `end`, a position behind the last record or marker; or, with -1, up to what is there.
 */
static int read_numbers(struct scene *s, const char *topic, int32_t partition,
                        const char *isolation, int64_t end)
{
    struct reader_of r;
    int count = 0;
    int64_t until = clock_mono_ms(&clock_real) + WAIT_MS;
    reader_open(s, &r, topic, partition, isolation);
    while (end < 0 ? !r.caught_up : position(&r) < end) {
        count = take(s, &r, count);
        if (clock_mono_ms(&clock_real) > until) {
            fail_msg("%s-%d: %d records, position %lld of %lld", topic, (int)partition, count,
                     (long long)position(&r), (long long)end);
        }
    }
    if (end >= 0) {
        assert_int_equal(position(&r), end);
        while (!r.caught_up) {
            assert_int_equal(take(s, &r, count), count);
        }
        assert_int_equal(rv_lag(r.consumer, topic, partition), 0);
    }
    good(s, rv_consumer_close(r.consumer, WAIT_MS, &s->error));
    return count;
}

static void expect_range(struct scene *s, int at, int first, int count)
{
    for (int i = 0; i < count; i++) {
        assert_int_equal(s->numbers[at + i], first + i);
    }
}

/* ---- a broker without them ---- */

static void a_broker_without_transactions_says_so_at_once(void **state)
{
    struct scene *s = *state;
    struct rv_producer *p;
    good(s, rv_producer_open(s->client, RV_OPTIONS({"transactional.id", "none"}), &p, &s->error));
    assert_int_equal(rv_txn_init(p, WAIT_MS, &s->error), KERR_INVALID_REQUEST);
    assert_non_null(strstr(s->error.text, "transactions are not supported by this broker yet"));
    assert_false(s->error.flags & (RV_RETRIABLE | RV_UNSURE));
    assert_int_equal(send_number(s, p, "t", 0, 1), RV_E_STATE);
    rv_producer_close(p);
}

/* ---- what is seen ---- */

static void what_is_committed_is_seen_together_and_not_before(void **state)
{
    struct scene *s = *state;
    topic_make(s, "t", NULL);
    struct rv_producer *p = producer_named(s, "together");
    fill(s, p, "t", 0, 10);
    good(s, rv_flush(p, WAIT_MS, &s->error));
    for (int32_t k = 0; k < PARTITIONS; k++) {
        assert_int_equal(read_numbers(s, "t", k, "read_committed", -1), 0);
        assert_int_equal(read_numbers(s, "t", k, "read_uncommitted", -1), 10);
    }
    commit(s, p);
    for (int32_t k = 0; k < PARTITIONS; k++) {
        assert_int_equal(read_numbers(s, "t", k, "read_committed", 11), 10);
        expect_range(s, 0, 0, 10);
    }
    rv_producer_close(p);
}

static void what_is_aborted_is_never_seen_and_positions_go_past_it(void **state)
{
    struct scene *s = *state;
    topic_make(s, "t", NULL);
    struct rv_producer *p = producer_named(s, "aborted");
    fill(s, p, "t", 0, 10);
    good(s, rv_flush(p, WAIT_MS, &s->error));
    abort_it(s, p);
    fill(s, p, "t", 100, 5);
    commit(s, p);
    fill(s, p, "t", 200, 7);
    good(s, rv_flush(p, WAIT_MS, &s->error));
    abort_it(s, p);
    for (int32_t k = 0; k < PARTITIONS; k++) {
        assert_int_equal(read_numbers(s, "t", k, "read_committed", 25), 5);
        expect_range(s, 0, 100, 5);
        assert_int_equal(read_numbers(s, "t", k, "read_uncommitted", 25), 22);
        expect_range(s, 10, 100, 5);
    }
    rv_producer_close(p);
}

static void an_abort_drops_what_was_not_sent(void **state)
{
    struct scene *s = *state;
    topic_make(s, "t", NULL);
    struct rv_producer *p =
        producer_of(s, RV_OPTIONS({"transactional.id", "dropped"}, {"linger.ms", "3600000"}));
    fill(s, p, "t", 0, 10);
    assert_int_equal(rv_pending(p), 30);
    abort_it(s, p);
    assert_int_equal(rv_pending(p), 0);
    assert_int_equal(rv_flush(p, WAIT_MS, &s->error), RV_E_ABORTED);
    fill(s, p, "t", 50, 3);
    commit(s, p);
    assert_int_equal(read_numbers(s, "t", 1, "read_uncommitted", 4), 3);
    expect_range(s, 0, 50, 3);
    rv_producer_close(p);
}

static void transactions_of_many_kinds_follow_each_other(void **state)
{
    struct scene *s = *state;
    static const char *const codecs[] = {"none", "gzip", "snappy", "lz4", "zstd"};
    topic_make(s, "t", NULL);
    int want = 0;
    int64_t end = 0;
    for (int z = 0; z < 5; z++) {
        struct rv_producer *p =
            producer_of(s, RV_OPTIONS({"transactional.id", "many"}, {"compression.type", codecs[z]},
                                      {"batch.size", "500"}, {"linger.ms", "0"}));
        for (int i = 0; i < 12; i++) {
            int count = i % 4 == 3 ? 0 : 1 + 40 * (i % 3);
            bool is_kept = i % 2 == 0;
            fill(s, p, "t", is_kept ? want : 1000000, count);
            if (!is_kept) {
                good(s, rv_flush(p, WAIT_MS, &s->error));
                abort_it(s, p);
            } else {
                commit(s, p);
                want += count;
            }
            end += count ? count + 1 : 0;
        }
        rv_producer_close(p);
    }
    for (int32_t k = 0; k < PARTITIONS; k++) {
        assert_int_equal(read_numbers(s, "t", k, "read_committed", end), want);
        expect_range(s, 0, 0, want);
    }
}

static void a_large_transaction_is_pipelined_and_whole(void **state)
{
    struct scene *s = *state;
    topic_make(s, "t", NULL);
    struct rv_producer *p = producer_named(s, "large");
    fill(s, p, "t", 0, 10000);
    commit(s, p);
    for (int32_t k = 0; k < PARTITIONS; k++) {
        assert_int_equal(read_numbers(s, "t", k, "read_committed", 10001), 10000);
        expect_range(s, 0, 0, 10000);
    }
    rv_producer_close(p);
}

/* ---- what goes wrong ---- */

static void a_newer_producer_fences_the_older_one_for_good(void **state)
{
    struct scene *s = *state;
    topic_make(s, "t", NULL);
    struct rv_producer *old = producer_named(s, "fenced");
    fill(s, old, "t", 0, 5);
    good(s, rv_flush(old, WAIT_MS, &s->error));
    struct rv_producer *new = producer_named(s, "fenced"); /* aborts what is open */
    fill(s, new, "t", 100, 5);
    commit(s, new);
    int code = rv_txn_commit(old, WAIT_MS, &s->error);
    assert_true(code == KERR_PRODUCER_FENCED || code == KERR_INVALID_PRODUCER_EPOCH);
    assert_true(s->error.flags & RV_FATAL);
    assert_false(s->error.flags & (RV_ABORT | RV_RETRIABLE));
    assert_int_equal(rv_txn_abort(old, WAIT_MS, &s->error), code);
    assert_true(s->error.flags & RV_FATAL);
    assert_int_equal(send_number(s, old, "t", 0, 1), code);
    fill(s, new, "t", 105, 5);
    commit(s, new);
    for (int32_t k = 0; k < PARTITIONS; k++) {
        assert_int_equal(read_numbers(s, "t", k, "read_committed", 18), 10);
        expect_range(s, 0, 100, 10);
    }
    rv_producer_close(old);
    rv_producer_close(new);
}

static void a_fenced_producer_hears_it_from_its_records_too(void **state)
{
    struct scene *s = *state;
    topic_make(s, "t", NULL);
    struct rv_producer *old = producer_named(s, "fenced-records");
    fill(s, old, "t", 0, 5);
    good(s, rv_flush(old, WAIT_MS, &s->error));
    struct rv_producer *new = producer_named(s, "fenced-records");
    good(s, send_number(s, old, "t", 0, 5));
    assert_int_not_equal(rv_flush(old, WAIT_MS, &s->error), RV_OK); /* refused by the leader */
    assert_int_not_equal(rv_txn_commit(old, WAIT_MS, &s->error), RV_OK);
    int code = rv_txn_abort(old, WAIT_MS, &s->error); /* now the coordinator has its say */
    assert_true(code == KERR_PRODUCER_FENCED || code == KERR_INVALID_PRODUCER_EPOCH);
    assert_true(s->error.flags & RV_FATAL);
    rv_producer_close(old);
    rv_producer_close(new);
}

static void a_record_that_fails_takes_its_transaction_along_and_no_other(void **state)
{
    struct scene *s = *state;
    topic_make(s, "t", RV_OPTIONS({"max.message.bytes", "1000"}));
    struct rv_producer *p = producer_named(s, "failing");
    for (int round = 0; round < 5; round++) {
        fill(s, p, "t", round * 10, 10);
        char large[5001];
        memset(large, 'x', 5000);
        large[5000] = 0;
        const struct rv_message m = {
            .topic = "t", .value = rv_str(large), .to_partition = true, .partition = 1};
        good(s, rv_send(p, &m, NULL, NULL, &s->error));
        for (int i = 0; i < 20; i++) {
            send_number(s, p, "t", 1, 7777); /* behind it: of the same transaction */
        }
        assert_int_equal(rv_txn_commit(p, WAIT_MS, &s->error), KERR_MESSAGE_TOO_LARGE);
        assert_true(s->error.flags & RV_ABORT);
        assert_false(s->error.flags & RV_FATAL);
        assert_int_equal(send_number(s, p, "t", 0, 1), KERR_MESSAGE_TOO_LARGE);
        assert_int_equal(rv_txn_commit(p, WAIT_MS, &s->error), KERR_MESSAGE_TOO_LARGE);
        abort_it(s, p);
        (void)rv_flush(p, WAIT_MS, &s->error); /* forgets the failures */
        fill(s, p, "t", round * 10, 10);
        commit(s, p);
    }
    struct reader_of r;
    int count = 0;
    reader_open(s, &r, "t", 1, "read_committed");
    int64_t until = clock_mono_ms(&clock_real) + WAIT_MS;
    while (count < 50 && clock_mono_ms(&clock_real) < until) {
        count = take(s, &r, count);
    }
    assert_int_equal(count, 50);
    expect_range(s, 0, 0, 50);
    good(s, rv_consumer_close(r.consumer, WAIT_MS, &s->error));
    rv_producer_close(p);
}

static void a_transaction_that_timed_out_is_not_committed(void **state)
{
    struct scene *s = *state;
    topic_make(s, "t", NULL);
    struct rv_producer *p =
        producer_of(s, RV_OPTIONS({"transactional.id", "late"}, {"transaction.timeout.ms", "300"}));
    fill(s, p, "t", 0, 3);
    good(s, rv_flush(p, WAIT_MS, &s->error));
    assert_int_equal(read_numbers(s, "t", 0, "read_committed", 4), 0); /* its marker is there */
    assert_int_not_equal(rv_txn_commit(p, WAIT_MS, &s->error), RV_OK);
    assert_true(s->error.flags & (RV_ABORT | RV_FATAL));
    rv_producer_close(p);
    p = producer_named(s, "late");
    fill(s, p, "t", 10, 3);
    commit(s, p);
    assert_int_equal(read_numbers(s, "t", 0, "read_committed", 8), 3);
    expect_range(s, 0, 10, 3);
    rv_producer_close(p);
}

static void a_broker_that_restarts_in_a_transaction_is_ridden_out(void **state)
{
    struct scene *s = *state;
    topic_make(s, "t", NULL);
    struct rv_producer *p = producer_named(s, "restart");
    fill(s, p, "t", 0, 50);
    good(s, rv_flush(p, WAIT_MS, &s->error));
    local_home_restart(s->home);
    for (int32_t k = 0; k < PARTITIONS; k++) {
        good(s, send_number(s, p, "t", k, 50));
    }
    commit(s, p);
    fill(s, p, "t", 51, 9);
    commit(s, p);
    for (int32_t k = 0; k < PARTITIONS; k++) {
        assert_int_equal(read_numbers(s, "t", k, "read_committed", 62), 60);
        expect_range(s, 0, 0, 60);
    }
    rv_producer_close(p);
}

static void calls_out_of_turn_are_refused(void **state)
{
    struct scene *s = *state;
    struct rv_producer *p;
    good(s, rv_producer_open(s->client, NULL, &p, &s->error));
    assert_int_equal(rv_txn_init(p, WAIT_MS, &s->error), RV_E_STATE);
    rv_producer_close(p);
    good(s, rv_producer_open(s->client, RV_OPTIONS({"transactional.id", "turns"}), &p, &s->error));
    assert_int_equal(rv_txn_begin(p, &s->error), RV_E_STATE);
    assert_int_equal(rv_txn_commit(p, WAIT_MS, &s->error), RV_E_STATE);
    good(s, rv_txn_init(p, WAIT_MS, &s->error));
    assert_int_equal(rv_txn_init(p, WAIT_MS, &s->error), RV_E_STATE);
    assert_int_equal(rv_txn_commit(p, WAIT_MS, &s->error), RV_E_STATE);
    assert_int_equal(rv_txn_abort(p, WAIT_MS, &s->error), RV_E_STATE);
    assert_int_equal(send_number(s, p, "t", 0, 1), RV_E_STATE);
    good(s, rv_txn_begin(p, &s->error));
    assert_int_equal(rv_txn_begin(p, &s->error), RV_E_STATE);
    commit(s, p); /* of nothing */
    good(s, rv_txn_begin(p, &s->error));
    abort_it(s, p);
    rv_producer_close(p);
}

/* ---- offsets ---- */

struct loop {
    struct scene *scene;
    struct rv_client *client;
    struct rv_producer *producer;
    struct rv_consumer *consumer;
    int copied; /* records, in transactions that were committed */
};

static void loop_open(struct loop *l)
{
    struct scene *s = l->scene;
    static const char *const topics[] = {"in"};
    l->client = client_to(s);
    good(s, rv_producer_open(l->client, RV_OPTIONS({"transactional.id", "loop"}), &l->producer,
                             &s->error));
    good(s, rv_txn_init(l->producer, WAIT_MS, &s->error));
    good(s, rv_consumer_open(l->client,
                             RV_OPTIONS({"group.id", "loop"}, {"auto.offset.reset", "earliest"},
                                        {"isolation.level", "read_committed"},
                                        {"max.poll.records", "10"}, {"fetch.max.wait.ms", "20"}),
                             &l->consumer, &s->error));
    good(s, rv_subscribe(l->consumer, topics, 1, &s->error));
}

static void loop_close(struct loop *l)
{
    struct scene *s = l->scene;
    rv_producer_close(l->producer); /* perhaps in a transaction */
    good(s, rv_consumer_close(l->consumer, WAIT_MS, &s->error));
    rv_client_close(l->client);
}

static void loop_rewind(struct loop *l)
{
    struct scene *s = l->scene;
    const struct rv_partition *p;
    size_t count = rv_assignment(l->consumer, &p);
    for (size_t i = 0; i < count; i++) {
        good(s, rv_seek(l->consumer, p[i].topic, p[i].partition, RV_COMMITTED, &s->error));
    }
}

/* One round: what a poll gives, copied. */
static void loop_round(struct loop *l, struct rng *rng)
{
    struct scene *s = l->scene;
    const struct rv_record *records;
    size_t count;
    good(s, rv_poll(l->consumer, 100, &records, &count, &s->error));
    if (count == 0) {
        return;
    }
    good(s, rv_txn_begin(l->producer, &s->error));
    for (size_t i = 0; i < count; i++) {
        const struct rv_message m = {.topic = "out",
                                     .value = records[i].value,
                                     .to_partition = true,
                                     .partition = records[i].partition};
        good(s, rv_send(l->producer, &m, NULL, NULL, &s->error));
    }
    good(s, rv_txn_offsets(l->producer, l->consumer, NULL, 0, WAIT_MS, &s->error));
    uint64_t luck = rng_below(rng, 10);
    if (luck < 2) {
        abort_it(s, l->producer);
        loop_rewind(l);
    } else if (luck < 4) { /* dies, and another one takes over */
        loop_close(l);
        loop_open(l);
    } else {
        commit(s, l->producer);
        l->copied += (int)count;
    }
}

static void a_loop_that_reads_and_writes_does_each_record_once(void **state)
{
    enum { EACH = 200 };
    struct scene *s = *state;
    struct rng rng;
    rng_init(&rng, 20261126);
    topic_make(s, "in", NULL);
    topic_make(s, "out", NULL);
    for (int32_t k = 0; k < PARTITIONS; k++) {
        for (int i = 0; i < EACH; i += 20) {
            feed_numbers(s->client, "in", k, CODEC_NONE, i, 20);
        }
    }
    struct loop l = {.scene = s};
    loop_open(&l);
    int64_t until = clock_mono_ms(&clock_real) + 2 * WAIT_MS;
    while (l.copied < PARTITIONS * EACH && clock_mono_ms(&clock_real) < until) {
        loop_round(&l, &rng);
    }
    assert_int_equal(l.copied, PARTITIONS * EACH);
    struct rv_group *g;
    good(s, rv_group_describe(s->client, "loop", WAIT_MS, &g, &s->error));
    for (size_t i = 0; i < g->partition_count; i++) {
        assert_int_equal(g->partitions[i].committed_offset, EACH);
    }
    assert_int_equal(g->partition_count, PARTITIONS);
    rv_free(g);
    loop_close(&l);
    for (int32_t k = 0; k < PARTITIONS; k++) {
        struct reader_of r;
        int count = 0;
        reader_open(s, &r, "out", k, "read_committed");
        while (count < EACH && clock_mono_ms(&clock_real) < until + WAIT_MS) {
            count = take(s, &r, count);
        }
        while (!r.caught_up) {
            count = take(s, &r, count);
        }
        assert_int_equal(count, EACH);
        expect_range(s, 0, 0, EACH);
        good(s, rv_consumer_close(r.consumer, WAIT_MS, &s->error));
    }
}

static int64_t committed_of(struct scene *s, const char *group, int32_t partition)
{
    struct rv_group *g;
    int64_t offset = -1;
    good(s, rv_group_describe(s->client, group, WAIT_MS, &g, &s->error));
    for (size_t i = 0; i < g->partition_count; i++) {
        offset =
            g->partitions[i].partition == partition ? g->partitions[i].committed_offset : offset;
    }
    rv_free(g);
    return offset;
}

static struct rv_consumer *consumer_of(struct scene *s, struct rv_client *client, const char *group)
{
    struct rv_consumer *c;
    good(s,
         rv_consumer_open(client,
                          RV_OPTIONS({"group.id", group}, {"session.timeout.ms", "300"},
                                     {"heartbeat.interval.ms", "20"}, {"fetch.max.wait.ms", "20"}),
                          &c, &s->error));
    return c;
}

static void offsets_of_a_transaction_that_is_aborted_are_not_stored(void **state)
{
    struct scene *s = *state;
    topic_make(s, "t", NULL);
    struct rv_consumer *c = consumer_of(s, s->client, "simple");
    struct rv_producer *p = producer_named(s, "offsets");
    const struct rv_partition at = {.topic = "t", .partition = 1, .offset = 5, .metadata = "m"};
    good(s, rv_txn_begin(p, &s->error));
    good(s, rv_txn_offsets(p, c, &at, 1, WAIT_MS, &s->error));
    abort_it(s, p);
    assert_int_equal(committed_of(s, "simple", 1), -1);
    good(s, rv_txn_begin(p, &s->error));
    good(s, rv_txn_offsets(p, c, &at, 1, WAIT_MS, &s->error));
    /* Who asks for the offset meanwhile waits for the end, whatever its isolation. */
    const struct rv_partition from = {.topic = "t", .partition = 1, .offset = RV_COMMITTED};
    const struct rv_partition *now;
    const struct rv_record *records;
    size_t count;
    good(s, rv_assign(c, &from, 1, &s->error));
    for (int i = 0; i < 10; i++) {
        good(s, rv_poll(c, 10, &records, &count, &s->error));
        rv_assignment(c, &now);
        assert_int_equal(now->offset, -1);
    }
    commit(s, p);
    int64_t until = clock_mono_ms(&clock_real) + WAIT_MS;
    do {
        good(s, rv_poll(c, 10, &records, &count, &s->error));
        rv_assignment(c, &now);
    } while (now->offset < 0 && clock_mono_ms(&clock_real) < until);
    assert_int_equal(committed_of(s, "simple", 1), 5);
    good(s, rv_consumer_close(c, WAIT_MS, &s->error));
    rv_producer_close(p);
}

static void who_has_lost_its_partitions_cannot_commit_for_them(void **state)
{
    struct scene *s = *state;
    static const char *const topics[] = {"t"};
    topic_make(s, "t", NULL);
    struct rv_client *silent = client_to(s);
    struct rv_consumer *c = consumer_of(s, silent, "zombie");
    struct rv_producer *p = producer_named(s, "zombie");
    const struct rv_record *records;
    const struct rv_partition *mine;
    size_t count;
    good(s, rv_subscribe(c, topics, 1, &s->error));
    int64_t until = clock_mono_ms(&clock_real) + WAIT_MS;
    while (rv_assignment(c, &mine) < PARTITIONS && clock_mono_ms(&clock_real) < until) {
        good(s, rv_poll(c, 10, &records, &count, &s->error));
    }
    assert_int_equal(rv_assignment(c, &mine), PARTITIONS);
    struct rv_group *g;
    bool is_empty = false;
    while (!is_empty && clock_mono_ms(&clock_real) < until) { /* the broker gives it up */
        good(s, rv_group_describe(s->client, "zombie", WAIT_MS, &g, &s->error));
        is_empty = strcmp(g->state, "Empty") == 0;
        rv_free(g);
    }
    assert_true(is_empty);
    const struct rv_partition at = {.topic = "t", .partition = 0, .offset = 1};
    fill(s, p, "t", 0, 1);
    int code = rv_txn_offsets(p, c, &at, 1, WAIT_MS, &s->error);
    assert_true(code == KERR_UNKNOWN_MEMBER_ID || code == KERR_ILLEGAL_GENERATION);
    assert_true((s->error.flags & RV_ABORT) && (s->error.flags & RV_REJOIN));
    assert_int_equal(rv_txn_commit(p, WAIT_MS, &s->error), code);
    abort_it(s, p);
    assert_int_equal(committed_of(s, "zombie", 0), -1);
    fill(s, p, "t", 10, 1);
    commit(s, p);
    rv_producer_close(p);
    good(s, rv_consumer_close(c, WAIT_MS, &s->error));
    rv_client_close(silent);
}

/* ---- lost answers, and a coordinator that is not well ---- */

enum {
    API_PRODUCE = 0,
    API_FIND_COORDINATOR = 10,
    API_INIT_PRODUCER_ID = 22,
    API_ADD_PARTITIONS = 24,
    API_ADD_OFFSETS = 25,
    API_END_TXN = 26,
    API_TXN_OFFSET_COMMIT = 28,
};

/* The scene through a proxy: `s->client` speaks to that. */
struct fog {
    struct scene *scene;
    struct proxy proxy;
    struct rv_client *clear; /* not through it */
    struct rv_consumer *group;
};

static void fog_begin(struct fog *f, struct scene *s)
{
    char address[64];
    memset(f, 0, sizeof *f);
    f->scene = s;
    proxy_start(&f->proxy);
    proxy_mask(&f->proxy, -1);
    proxy_broker_set(&f->proxy, outside_port());
    snprintf(address, sizeof address, "127.0.0.1:%d", (int)f->proxy.port);
    f->clear = s->client;
    good(s, rv_client_open(RV_OPTIONS({"bootstrap.servers", address}, {"retry.backoff.ms", "5"},
                                      {"retry.backoff.max.ms", "20"}, {"reconnect.backoff.ms", "1"},
                                      {"reconnect.backoff.max.ms", "5"}),
                           &s->client, &s->error));
    good(s, rv_consumer_open(s->client, RV_OPTIONS({"group.id", "fog"}), &f->group, &s->error));
}

static void fog_end(struct fog *f)
{
    proxy_plan_set(&f->proxy, NULL, NULL);
    good(f->scene, rv_consumer_close(f->group, WAIT_MS, &f->scene->error));
    rv_client_close(f->scene->client);
    f->scene->client = f->clear;
    proxy_stop(&f->proxy);
}

struct strike {
    int16_t api;
    enum proxy_action action;
    int16_t code;
    int first, count; /* requests of this api: the first to strike, and how many */
    int struck;
};

static enum proxy_action strike(void *ctx, struct proxy_request *r)
{
    struct strike *k = ctx;
    if (r->api_key != k->api || r->number < k->first || r->number >= k->first + k->count) {
        return PROXY_PASS;
    }
    k->struck++;
    r->code = k->code;
    return k->action;
}

/* Two transactions with offsets, and the second is struck. Everything must come out right by
 * itself.
 */
static void strike_one(struct scene *s, const char *topic, struct strike k)
{
    struct fog f;
    struct rv_partition at = {.topic = topic, .partition = 0, .offset = 1};
    fog_begin(&f, s);
    topic_make(s, topic, NULL);
    proxy_plan_all(&f.proxy, strike, &k);
    struct rv_producer *p = producer_named(s, topic);
    for (int i = 0; i < 3; i++) {
        at.offset = i + 1;
        fill(s, p, topic, i * 10, 10);
        good(s, rv_txn_offsets(p, f.group, &at, 1, WAIT_MS, &s->error));
        commit(s, p);
    }
    assert_true(k.struck > 0);
    rv_producer_close(p);
    proxy_plan_set(&f.proxy, NULL, NULL);
    for (int32_t n = 0; n < PARTITIONS; n++) {
        assert_int_equal(read_numbers(s, topic, n, "read_committed", 33), 30);
        expect_range(s, 0, 0, 30);
    }
    int64_t until = clock_mono_ms(&clock_real) + WAIT_MS; /* markers may still be on their way */
    while (committed_of(s, "fog", 0) != 3 && clock_mono_ms(&clock_real) < until) {
    }
    assert_int_equal(committed_of(s, "fog", 0), 3);
    fog_end(&f);
}

static void a_lost_answer_is_asked_for_until_it_is_known(void **state)
{
    static const int16_t apis[] = {API_PRODUCE,     API_INIT_PRODUCER_ID,  API_ADD_PARTITIONS,
                                   API_ADD_OFFSETS, API_TXN_OFFSET_COMMIT, API_END_TXN};
    static const enum proxy_action actions[] = {PROXY_CUT_AFTER, PROXY_CUT_BEFORE};
    for (size_t i = 0; i < sizeof apis / sizeof apis[0]; i++) {
        bool is_of_v1 = apis[i] == API_ADD_PARTITIONS || apis[i] == API_ADD_OFFSETS;
        for (int n = 0; n < 2 && (!is_of_v1 || flow() == 1); n++) {
            char topic[32];
            snprintf(topic, sizeof topic, "lost-%d-%d", (int)apis[i], n);
            strike_one(*state, topic,
                       (struct strike){.api = apis[i],
                                       .action = actions[n],
                                       .first = apis[i] == API_INIT_PRODUCER_ID ? 0 : 1,
                                       .count = 2});
        }
    }
}

static void a_coordinator_that_is_busy_or_elsewhere_is_asked_again(void **state)
{
    static const int16_t apis[] = {API_INIT_PRODUCER_ID, API_ADD_PARTITIONS, API_ADD_OFFSETS,
                                   API_TXN_OFFSET_COMMIT, API_END_TXN};
    static const int16_t codes[] = {KERR_CONCURRENT_TRANSACTIONS, KERR_NOT_COORDINATOR,
                                    KERR_COORDINATOR_NOT_AVAILABLE,
                                    KERR_COORDINATOR_LOAD_IN_PROGRESS};
    for (size_t i = 0; i < sizeof apis / sizeof apis[0]; i++) {
        bool is_of_v1 = apis[i] == API_ADD_PARTITIONS || apis[i] == API_ADD_OFFSETS;
        for (int n = 0; n < 4 && (!is_of_v1 || flow() == 1); n++) {
            char topic[32];
            snprintf(topic, sizeof topic, "busy-%d-%d", (int)apis[i], n);
            strike_one(*state, topic,
                       (struct strike){.api = apis[i],
                                       .action = PROXY_REFUSE,
                                       .code = codes[n],
                                       .first = apis[i] == API_INIT_PRODUCER_ID ? 0 : 1,
                                       .count = 2});
        }
    }
}

struct storm {
    struct rng rng;
    int struck;
};

static enum proxy_action rage(void *ctx, struct proxy_request *r)
{
    static const int16_t codes[] = {KERR_NOT_COORDINATOR, KERR_CONCURRENT_TRANSACTIONS,
                                    KERR_COORDINATOR_LOAD_IN_PROGRESS};
    struct storm *s = ctx;
    uint64_t n = rng_below(&s->rng, 100);
    s->struck += n < 15;
    r->code = r->api_key == API_PRODUCE ? KERR_NOT_ENOUGH_REPLICAS : codes[n % 3];
    return n < 5                                          ? PROXY_CUT_AFTER
           : n < 10                                       ? PROXY_CUT_BEFORE
           : n < 15 && r->api_key != API_FIND_COORDINATOR ? PROXY_REFUSE
                                                          : PROXY_PASS;
}

/* Transactions that are committed and aborted while answers get lost everywhere: what is committed
 * is there once and in order, and nothing else is. */
static void a_storm_leaves_what_was_committed_and_nothing_else(void **state)
{
    enum { ROUNDS = 60 };
    struct scene *s = *state;
    struct fog f;
    struct storm storm = {.struck = 0};
    struct rng rng;
    int want = 0;
    rng_init(&storm.rng, 7);
    rng_init(&rng, 8);
    fog_begin(&f, s);
    topic_make(s, "storm", NULL);
    proxy_plan_all(&f.proxy, rage, &storm);
    struct rv_producer *p = producer_of(
        s, RV_OPTIONS({"transactional.id", "storm"}, {"linger.ms", "0"}, {"batch.size", "100"}));
    for (int i = 0; i < ROUNDS; i++) {
        int count = 1 + (int)rng_below(&rng, 30);
        bool is_kept = rng_below(&rng, 3) > 0;
        struct rv_partition at = {.topic = "storm", .partition = 0, .offset = want + count};
        fill(s, p, "storm", is_kept ? want : 1000000, count);
        if (rng_below(&rng, 2) == 0) {
            good(s, rv_flush(p, WAIT_MS, &s->error));
        }
        if (is_kept) {
            good(s, rv_txn_offsets(p, f.group, &at, 1, WAIT_MS, &s->error));
            commit(s, p);
            want += count;
        } else {
            abort_it(s, p);
            (void)rv_flush(p, WAIT_MS, &s->error); /* forgets RV_E_ABORTED */
        }
    }
    assert_true(storm.struck > 20);
    rv_producer_close(p);
    proxy_plan_set(&f.proxy, NULL, NULL);
    int64_t until = clock_mono_ms(&clock_real) + WAIT_MS;
    while (committed_of(s, "fog", 0) != want && clock_mono_ms(&clock_real) < until) {
    }
    assert_int_equal(committed_of(s, "fog", 0), want);
    for (int32_t k = 0; k < PARTITIONS; k++) {
        struct reader_of r;
        int count = 0;
        reader_open(s, &r, "storm", k, "read_committed");
        while (count < want && clock_mono_ms(&clock_real) < until + WAIT_MS) {
            count = take(s, &r, count);
        }
        assert_int_equal(count, want);
        expect_range(s, 0, 0, want);
        good(s, rv_consumer_close(r.consumer, WAIT_MS, &s->error));
    }
    fog_end(&f);
}

#define SCENE(test) cmocka_unit_test_setup_teardown(test, scene_begin, scene_end)

int main(void)
{
    const struct CMUnitTest without[] = {
        SCENE(a_broker_without_transactions_says_so_at_once),
    };
    const struct CMUnitTest with[] = {
        SCENE(what_is_committed_is_seen_together_and_not_before),
        SCENE(what_is_aborted_is_never_seen_and_positions_go_past_it),
        SCENE(an_abort_drops_what_was_not_sent),
        SCENE(transactions_of_many_kinds_follow_each_other),
        SCENE(a_large_transaction_is_pipelined_and_whole),
        SCENE(a_newer_producer_fences_the_older_one_for_good),
        SCENE(a_fenced_producer_hears_it_from_its_records_too),
        SCENE(a_record_that_fails_takes_its_transaction_along_and_no_other),
        SCENE(a_transaction_that_timed_out_is_not_committed),
        SCENE(a_broker_that_restarts_in_a_transaction_is_ridden_out),
        SCENE(calls_out_of_turn_are_refused),
        SCENE(a_loop_that_reads_and_writes_does_each_record_once),
        SCENE(offsets_of_a_transaction_that_is_aborted_are_not_stored),
        SCENE(who_has_lost_its_partitions_cannot_commit_for_them),
        SCENE(a_lost_answer_is_asked_for_until_it_is_known),
        SCENE(a_coordinator_that_is_busy_or_elsewhere_is_asked_again),
        SCENE(a_storm_leaves_what_was_committed_and_nothing_else),
    };
    return flow() == 0 ? cmocka_run_group_tests(without, NULL, NULL)
                       : cmocka_run_group_tests(with, NULL, NULL);
}

/* Sealed batches against a broker, with a proxy in between that loses answers: however often the
 * same batch is sent, after whatever, it is in the log once, or it is said that nobody knows.
 */
#include "client/sealed/sealed.h"
#include "gen/delete_records.h"
#include "protocol/batch.h"
#include "protocol/error.h"
#include "protocol/wire.h"
#include "tests/kit/local_broker.h"
#include "tests/kit/proxy.h"
#include "tests/kit/raw_log.h"
#include "tests/kit/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WAIT_MS = 60000, API_PRODUCE = 0, API_FETCH = 1, API_DELETE_RECORDS = 21, BATCHES_MAX = 8 };

struct world {
    char dir[TEMP_DIR_SIZE];
    struct local_broker broker;
    struct proxy proxy;
    char advertised[80];
    const char *sets[4];
    char address[64];
    struct rv_client *client;
    struct sealed *sealed;
    int64_t id;
    int16_t epoch;
    /* shared with the proxy's threads */
    _Atomic enum proxy_action action; /* for the next Produce, once */
    _Atomic int16_t code;             /* with PROXY_REFUSE */
    atomic_int produced;              /* Produce requests that came to the proxy */
    atomic_bool cuts_fetches;         /* each third one */
};

static enum proxy_action plan(void *ctx, struct proxy_request *r)
{
    struct world *w = ctx;
    if (r->api_key == API_FETCH && w->cuts_fetches && r->number % 3 == 2) {
        return PROXY_CUT_BEFORE;
    }
    if (r->api_key != API_PRODUCE) {
        return PROXY_PASS;
    }
    enum proxy_action action = w->action;
    w->action = PROXY_PASS;
    r->code = w->code;
    w->produced++;
    return action;
}

static void broker_begin(struct world *w)
{
    local_broker_start(&w->broker, w->dir, w->broker.port, w->sets);
    proxy_broker_set(&w->proxy, w->broker.port);
}

static void broker_restart(struct world *w)
{
    struct rv_partition p = {.topic = "t"};
    struct rv_error e = {0};
    local_broker_stop(&w->broker);
    broker_begin(w);
    assert_int_equal(rv_offsets(w->client, &p, 1, RV_END, WAIT_MS, &e), RV_OK); /* is connected */
}

static void topic_make(struct world *w, const char *topic, int partitions,
                       const struct rv_option *configs)
{
    struct rv_error e = {0};
    if (rv_topic_create(w->client, topic, partitions, configs, WAIT_MS, &e) != RV_OK) {
        fail_msg("%s", e.text);
    }
}

static struct world *begin(const char *set)
{
    struct world *w = calloc(1, sizeof *w);
    temp_dir_make(w->dir);
    proxy_start(&w->proxy);
    w->proxy.plan_key = API_FETCH;
    proxy_plan_set(&w->proxy, plan, w);
    snprintf(w->advertised, sizeof w->advertised, "advertised.listeners=PLAINTEXT://127.0.0.1:%d",
             (int)w->proxy.port);
    w->sets[0] = w->advertised;
    w->sets[1] = "auto.create.topics.enable=false";
    w->sets[2] = set;
    broker_begin(w);
    snprintf(w->address, sizeof w->address, "127.0.0.1:%d", (int)w->proxy.port);
    struct rv_error e = {0};
    if (rv_client_open(RV_OPTIONS({"bootstrap.servers", w->address}, {"retry.backoff.ms", "5"},
                                  {"retry.backoff.max.ms", "20"}, {"reconnect.backoff.ms", "5"},
                                  {"reconnect.backoff.max.ms", "20"}),
                       &w->client, &e) != RV_OK) {
        fail_msg("%s", e.text);
    }
    w->sealed = sealed_create(w->client);
    assert_non_null(w->sealed);
    if (sealed_identity(w->sealed, WAIT_MS, &w->id, &w->epoch, &e) != RV_OK) {
        fail_msg("%s", e.text);
    }
    topic_make(w, "t", 2, NULL);
    return w;
}

static void end(struct world *w)
{
    sealed_destroy(w->sealed);
    rv_client_close(w->client);
    proxy_stop(&w->proxy);
    local_broker_stop(&w->broker);
    temp_dir_remove(w->dir);
    free(w);
}

/* ---- batches ---- */

struct made {
    struct buf bytes;
    struct sealed_batch batch;
};

/* `count` records with values of `size` bytes. */
static struct made make(struct world *w, const char *topic, int32_t partition, int32_t sequence,
                        int32_t count, size_t size, enum codec codec)
{
    struct made m = {0};
    struct batch_builder b;
    batch_builder_init(&b);
    uint8_t *value = calloc(1, size ? size : 1);
    for (int32_t i = 0; i < count; i++) {
        value[0] = (uint8_t)i;
        assert_int_equal(batch_builder_add(&b, 1000 + i, (struct bytes){0},
                                           (struct bytes){value, size}, NULL, 0),
                         OK);
    }
    struct batch_seal seal = batch_seal_plain;
    seal.codec = codec;
    seal.producer_id = w->id;
    seal.producer_epoch = w->epoch;
    seal.base_sequence = sequence;
    assert_int_equal(batch_builder_seal(&b, &seal, &m.bytes), OK);
    batch_builder_finish(&b);
    free(value);
    struct rv_partition p = {.topic = topic, .partition = partition};
    struct rv_error e = {0};
    assert_int_equal(rv_offsets(w->client, &p, 1, RV_END, WAIT_MS, &e), RV_OK);
    m.batch = (struct sealed_batch){.topic = topic,
                                    .partition = partition,
                                    .producer_id = w->id,
                                    .producer_epoch = w->epoch,
                                    .base_sequence = sequence,
                                    .count = count,
                                    .end_offset = p.code == RV_OK ? p.offset : 0,
                                    .bytes = m.bytes.ptr,
                                    .size = m.bytes.len};
    return m;
}

static struct made some(struct world *w, int32_t sequence, int32_t count)
{
    return make(w, "t", 0, sequence, count, 10, CODEC_NONE);
}

static void drop(struct made *m)
{
    buf_finish(&m->bytes);
}

static enum sealed_fate send_one(struct world *w, struct made *m)
{
    struct rv_error e = {0};
    if (sealed_send(w->sealed, &m->batch, 1, WAIT_MS, &e) != RV_OK) {
        fail_msg("%s", e.text);
    }
    return m->batch.fate;
}

static void stored(struct world *w, struct made *m, int64_t offset)
{
    if (send_one(w, m) != SEALED_STORED) {
        fail_msg("fate %d: %s", m->batch.fate, m->batch.why);
    }
    assert_int_equal(m->batch.offset, offset);
    assert_false(m->batch.unsure);
}

/* Batches of our producer in a partition. */
static int in_log(struct world *w, const char *topic, int32_t partition)
{
    struct raw_log log;
    int n = 0;
    raw_log_read(&log, w->client, topic, partition, 0);
    for (int32_t i = 0; i < log.batch_count; i++) {
        n += log.batches[i].producer_id == w->id;
    }
    raw_log_finish(&log);
    return n;
}

/* Sends it, and the answer is lost. */
static void lose_answer(struct world *w, struct made *m, enum proxy_action how)
{
    w->action = how;
    assert_int_equal(send_one(w, m), SEALED_UNKNOWN);
    assert_true(m->batch.unsure);
}

static void records_delete(struct world *w, const char *topic, int64_t before)
{
    struct delete_records_request request;
    struct delete_records_request_topic t;
    struct delete_records_request_partition p;
    delete_records_request_init(&request);
    delete_records_request_topic_init(&t);
    delete_records_request_partition_init(&p);
    request.topics = &t;
    request.topics_count = 1;
    request.timeout_ms = WAIT_MS;
    t.name = str_of(topic);
    t.partitions = &p;
    t.partitions_count = 1;
    p.offset = before;
    struct writer out;
    writer_init(&out, 65536);
    assert_int_equal(wire_encode(&delete_records_request_table, 1, &out, &request), OK);
    struct rv_response *answer = NULL;
    struct rv_error e = {0};
    assert_int_equal(
        rv_request(w->client, -1, API_DELETE_RECORDS, 1, out.ptr, out.len, WAIT_MS, &answer, &e),
        RV_OK);
    writer_finish(&out);
    rv_free(answer);
    struct rv_partition start = {.topic = topic};
    assert_int_equal(rv_offsets(w->client, &start, 1, RV_START, WAIT_MS, &e), RV_OK);
    assert_int_equal(start.offset, before);
}

/* ---- tests ---- */

static void batches_of_several_partitions_go_in_one_request(void **state)
{
    (void)state;
    struct world *w = begin(NULL);
    topic_make(w, "u", 1, NULL);
    struct made m[3] = {make(w, "t", 0, 0, 3, 10, CODEC_NONE),
                        make(w, "u", 0, 0, 1, 10, CODEC_ZSTD),
                        make(w, "t", 1, 0, 2, 10, CODEC_NONE)};
    struct sealed_batch all[3] = {m[0].batch, m[1].batch, m[2].batch};
    struct rv_error e = {0};
    assert_int_equal(sealed_send(w->sealed, all, 3, WAIT_MS, &e), RV_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(all[i].fate, SEALED_STORED);
        assert_int_equal(all[i].offset, 0);
        drop(&m[i]);
    }
    assert_int_equal(w->produced, 1);
    assert_int_equal(in_log(w, "t", 0) + in_log(w, "t", 1) + in_log(w, "u", 0), 3);
    int32_t count = 0;
    assert_int_equal(sealed_partitions(w->sealed, "t", WAIT_MS, &count, &e), RV_OK);
    assert_int_equal(count, 2);
    end(w);
}

static void a_lost_answer_is_looked_for_and_not_sent_again(void **state)
{
    (void)state;
    struct world *w = begin(NULL);
    struct made first = some(w, 0, 5);
    stored(w, &first, 0);
    struct made m = some(w, 5, 3);
    lose_answer(w, &m, PROXY_CUT_AFTER);
    int before = w->produced;
    stored(w, &m, 5);
    assert_int_equal(w->produced, before);
    assert_int_equal(in_log(w, "t", 0), 2);
    drop(&first);
    drop(&m);
    end(w);
}

static void a_lost_request_is_looked_for_and_sent_again(void **state)
{
    (void)state;
    struct world *w = begin(NULL);
    struct made m = some(w, 0, 3);
    lose_answer(w, &m, PROXY_CUT_BEFORE);
    stored(w, &m, 0);
    assert_int_equal(w->produced, 2);
    assert_int_equal(in_log(w, "t", 0), 1);
    drop(&m);
    end(w);
}

/* What was not known to be unsure (the look came too early, say) the sequences settle. */
static void the_broker_knows_a_batch_that_comes_again(void **state)
{
    (void)state;
    struct world *w = begin(NULL);
    struct made m = some(w, 0, 3);
    lose_answer(w, &m, PROXY_CUT_AFTER);
    m.batch.unsure = false;
    stored(w, &m, 0);
    broker_restart(w);
    m.batch.unsure = false;
    stored(w, &m, 0);
    assert_int_equal(in_log(w, "t", 0), 1);
    drop(&m);
    end(w);
}

/* The broker has forgotten the producer, and would take its batch a second time. */
static void what_the_broker_has_forgotten_is_found_by_reading_back(void **state)
{
    (void)state;
    struct world *w = begin("producer.id.expiration.ms=1");
    struct made m = some(w, 0, 3), other = some(w, 3, 2);
    lose_answer(w, &m, PROXY_CUT_AFTER);
    broker_restart(w);
    stored(w, &m, 0);
    assert_int_equal(in_log(w, "t", 0), 1);
    stored(w, &other, 3); /* and its producer goes on */
    assert_int_equal(in_log(w, "t", 0), 2);

    struct made lost = some(w, 5, 2);
    lose_answer(w, &lost, PROXY_CUT_BEFORE);
    broker_restart(w);
    stored(w, &lost, 5);
    assert_int_equal(in_log(w, "t", 0), 3);

    broker_restart(w); /* that it was needed: */
    lost.batch.unsure = false;
    stored(w, &lost, 7);
    assert_int_equal(in_log(w, "t", 0), 4);
    drop(&m);
    drop(&other);
    drop(&lost);
    end(w);
}

static void sequences_wrap(void **state)
{
    (void)state;
    struct world *w = begin(NULL);
    struct made m = make(w, "t", 0, INT32_MAX - 1, 4, 10, CODEC_LZ4);
    lose_answer(w, &m, PROXY_CUT_AFTER);
    stored(w, &m, 0);
    int32_t next = sealed_next(m.batch.base_sequence, m.batch.count);
    assert_int_equal(next, 2);
    assert_int_equal(sealed_next(INT32_MAX, 1), 0);
    assert_int_equal(sealed_next(7, 3), 10);
    struct made after = some(w, next, 1);
    stored(w, &after, 4);
    m.batch.unsure = false;
    stored(w, &m, 0); /* the broker knows it across the wrap */
    assert_int_equal(in_log(w, "t", 0), 2);
    drop(&m);
    drop(&after);
    end(w);
}

/* Another's records, as many and as large as it takes to read more than once. */
static void others_write(struct world *w, int batches)
{
    int64_t id = w->id;
    struct rv_error e = {0};
    assert_int_equal(sealed_identity(w->sealed, WAIT_MS, &w->id, &w->epoch, &e), RV_OK);
    assert_int_not_equal(w->id, id);
    for (int i = 0; i < batches; i++) {
        struct made m = make(w, "t", 0, i, 1, 300000, CODEC_NONE);
        assert_int_equal(send_one(w, &m), SEALED_STORED);
        drop(&m);
    }
    w->id = id;
}

static void it_is_found_among_what_others_wrote(void **state)
{
    (void)state;
    struct world *w = begin(NULL);
    struct made m = make(w, "t", 0, 0, 50, 1000, CODEC_GZIP);
    others_write(w, 9);
    lose_answer(w, &m, PROXY_CUT_AFTER);
    others_write(w, 9);
    stored(w, &m, 9);
    struct made lost = some(w, 50, 1);
    lose_answer(w, &lost, PROXY_CUT_BEFORE);
    others_write(w, 9);
    struct rv_error e = {0};
    enum sealed_place place;
    int64_t offset;
    assert_int_equal(sealed_find(w->sealed, &lost.batch, WAIT_MS, &place, &offset, &e), RV_OK);
    assert_int_equal(place, SEALED_ABSENT);
    drop(&m);
    drop(&lost);
    end(w);
}

/* However far there is to read: what was read once is not read again. */
static void looking_goes_on_where_it_was_cut_short(void **state)
{
    (void)state;
    struct world *w = begin(NULL);
    struct made m = some(w, 0, 3);
    others_write(w, 13);
    lose_answer(w, &m, PROXY_CUT_AFTER);
    w->cuts_fetches = true;
    enum sealed_fate fate = SEALED_LATER;
    int tries = 0;
    for (; fate == SEALED_LATER && tries < 10; tries++) {
        fate = send_one(w, &m);
    }
    assert_int_equal(fate, SEALED_STORED);
    assert_int_equal(m.batch.offset, 13);
    assert_true(tries > 1);
    drop(&m);
    end(w);
}

/* And what is behind it on the way need not wait. */
static void what_is_to_be_looked_for_goes_last(void **state)
{
    (void)state;
    struct world *w = begin(NULL);
    struct made m[2] = {some(w, 0, 3), make(w, "t", 1, 0, 3, 10, CODEC_NONE)};
    lose_answer(w, &m[0], PROXY_CUT_BEFORE);
    struct sealed_batch both[2] = {m[0].batch, m[1].batch};
    struct rv_error e = {0};
    int before = w->produced;
    assert_int_equal(sealed_send(w->sealed, both, 2, WAIT_MS, &e), RV_OK);
    assert_int_equal(both[0].fate, SEALED_STORED);
    assert_int_equal(both[1].fate, SEALED_STORED);
    assert_int_equal(w->produced, before + 2);
    for (int i = 0; i < 2; i++) {
        drop(&m[i]);
    }
    end(w);
}

/* A broker closes the connection of a request that is larger than it takes: none of its batches
 * would ever be stored. */
static void many_large_batches_are_more_than_one_request(void **state)
{
    (void)state;
    struct world *w = begin("socket.request.max.bytes=10485760");
    struct made m[4];
    struct sealed_batch all[4];
    struct rv_error e = {0};
    topic_make(w, "wide", 4, RV_OPTIONS({"max.message.bytes", "4000000"}));
    for (int i = 0; i < 4; i++) {
        m[i] = make(w, "wide", i, 0, 1, 3000000, CODEC_NONE);
        all[i] = m[i].batch;
    }
    assert_int_equal(sealed_send(w->sealed, all, 4, WAIT_MS, &e), RV_OK);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(all[i].fate, SEALED_STORED);
        drop(&m[i]);
    }
    assert_int_equal(w->produced, 2);
    end(w);
}

static void a_log_that_begins_too_late_leaves_it_open(void **state)
{
    (void)state;
    struct world *w = begin(NULL);
    struct made m = some(w, 0, 3);
    lose_answer(w, &m, PROXY_CUT_BEFORE);
    others_write(w, 2);
    records_delete(w, "t", 1);
    int before = w->produced;
    assert_int_equal(send_one(w, &m), SEALED_UNKNOWABLE);
    assert_true(m.batch.unsure);
    assert_int_equal(w->produced, before);
    drop(&m);
    end(w);
}

static void one_that_is_there_is_found_though_the_log_begins_later(void **state)
{
    (void)state;
    struct world *w = begin(NULL);
    struct made m = some(w, 0, 3);
    others_write(w, 3);
    lose_answer(w, &m, PROXY_CUT_AFTER);
    records_delete(w, "t", 2);
    stored(w, &m, 3);
    drop(&m);
    end(w);
}

static void a_log_that_ends_too_early_leaves_it_open(void **state)
{
    (void)state;
    struct world *w = begin(NULL);
    struct made m = some(w, 0, 3);
    lose_answer(w, &m, PROXY_CUT_BEFORE);
    m.batch.end_offset = 10;
    assert_int_equal(send_one(w, &m), SEALED_UNKNOWABLE);
    drop(&m);
    end(w);
}

static void another_batch_of_the_same_identity_is_an_error(void **state)
{
    (void)state;
    struct world *w = begin(NULL);
    struct made m = some(w, 0, 3), shorter = some(w, 0, 2);
    stored(w, &m, 0);
    shorter.batch.unsure = true;
    assert_int_equal(send_one(w, &shorter), SEALED_LATER);
    assert_int_equal(shorter.batch.code, RV_E_CORRUPT);
    assert_true(shorter.batch.unsure);
    drop(&m);
    drop(&shorter);
    end(w);
}

static void a_sequence_that_does_not_fit_needs_a_new_identity(void **state)
{
    (void)state;
    struct world *w = begin(NULL);
    struct made m = some(w, 0, 3), gap = some(w, 7, 1);
    stored(w, &m, 0);
    assert_int_equal(send_one(w, &gap), SEALED_RENEW);
    assert_int_equal(gap.batch.code, KERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_false(gap.batch.unsure);
    struct rv_error e = {0};
    int64_t id = w->id;
    assert_int_equal(sealed_identity(w->sealed, WAIT_MS, &w->id, &w->epoch, &e), RV_OK);
    assert_int_not_equal(w->id, id);
    struct made renewed = some(w, 0, 1);
    stored(w, &renewed, 3);
    drop(&m);
    drop(&gap);
    drop(&renewed);
    end(w);
}

static void refusals_and_delays_are_told_apart(void **state)
{
    (void)state;
    struct world *w = begin(NULL);
    topic_make(w, "small", 1, RV_OPTIONS({"max.message.bytes", "200"}));
    struct made large = make(w, "small", 0, 0, 1, 500, CODEC_NONE);
    assert_int_equal(send_one(w, &large), SEALED_REFUSED);
    assert_int_equal(large.batch.code, KERR_MESSAGE_TOO_LARGE);
    assert_true(large.batch.why[0] != 0);
    struct made next = make(w, "small", 0, 0, 1, 5, CODEC_NONE);
    stored(w, &next, 0); /* what was refused has taken no sequence */

    struct made nowhere = some(w, 0, 1);
    nowhere.batch.topic = "nowhere";
    assert_int_equal(send_one(w, &nowhere), SEALED_LATER);
    assert_int_equal(nowhere.batch.code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    nowhere.batch.topic = "bad name";
    assert_int_equal(send_one(w, &nowhere), SEALED_REFUSED);
    nowhere.batch.topic = "t";
    nowhere.batch.partition = 2;
    assert_int_equal(send_one(w, &nowhere), SEALED_LATER);
    assert_int_equal(nowhere.batch.code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    assert_false(nowhere.batch.unsure);
    drop(&large);
    drop(&next);
    drop(&nowhere);
    end(w);
}

static void a_partition_that_comes_later_is_seen(void **state)
{
    (void)state;
    struct world *w = begin(NULL);
    struct made m = make(w, "t", 2, 0, 1, 10, CODEC_NONE);
    assert_int_equal(send_one(w, &m), SEALED_LATER);
    struct rv_error e = {0};
    assert_int_equal(rv_topic_grow(w->client, "t", 3, WAIT_MS, &e), RV_OK);
    stored(w, &m, 0);
    drop(&m);
    end(w);
}

static void each_code_has_its_fate(void **state)
{
    (void)state;
    static const struct {
        int16_t code;
        enum sealed_fate fate;
    } rows[] = {
        {KERR_DUPLICATE_SEQUENCE_NUMBER,        SEALED_STORED },
        {KERR_UNKNOWN_PRODUCER_ID,              SEALED_RENEW  },
        {KERR_INVALID_PRODUCER_EPOCH,           SEALED_RENEW  },
        {KERR_NOT_LEADER_OR_FOLLOWER,           SEALED_UNKNOWN},
        {KERR_REQUEST_TIMED_OUT,                SEALED_UNKNOWN},
        {KERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND, SEALED_UNKNOWN},
        {KERR_NOT_ENOUGH_REPLICAS,              SEALED_LATER  },
        {KERR_TOPIC_AUTHORIZATION_FAILED,       SEALED_REFUSED},
        {KERR_INVALID_RECORD,                   SEALED_REFUSED},
    };
    struct world *w = begin(NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct made m = some(w, 0, 1);
        w->action = PROXY_REFUSE;
        w->code = rows[i].code;
        assert_int_equal(send_one(w, &m), rows[i].fate);
        assert_int_equal(m.batch.code, rows[i].code);
        assert_int_equal(m.batch.unsure, rows[i].fate == SEALED_UNKNOWN);
        drop(&m);
    }
    end(w);
}

static void without_a_broker_it_is_later_and_not_unsure(void **state)
{
    (void)state;
    struct world *w = begin(NULL);
    struct made m = some(w, 0, 1), unsure = some(w, 0, 1);
    unsure.batch.unsure = true;
    local_broker_stop(&w->broker);
    proxy_stop(&w->proxy);
    struct rv_error e = {0};
    struct rv_client *dead = NULL;
    assert_int_equal(rv_client_open(RV_OPTIONS({"bootstrap.servers", w->address}), &dead, &e),
                     RV_OK);
    struct sealed *s = sealed_create(dead);
    assert_int_equal(sealed_send(s, &m.batch, 1, 200, &e), RV_OK);
    assert_int_equal(m.batch.fate, SEALED_LATER);
    assert_false(m.batch.unsure);
    assert_int_equal(sealed_send(s, &unsure.batch, 1, 200, &e), RV_OK);
    assert_int_equal(unsure.batch.fate, SEALED_LATER);
    assert_true(unsure.batch.unsure);
    sealed_destroy(s);
    rv_client_close(dead);
    sealed_destroy(w->sealed);
    rv_client_close(w->client);
    temp_dir_remove(w->dir);
    free(w);
    drop(&m);
    drop(&unsure);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_of_several_partitions_go_in_one_request),
        cmocka_unit_test(a_lost_answer_is_looked_for_and_not_sent_again),
        cmocka_unit_test(a_lost_request_is_looked_for_and_sent_again),
        cmocka_unit_test(the_broker_knows_a_batch_that_comes_again),
        cmocka_unit_test(what_the_broker_has_forgotten_is_found_by_reading_back),
        cmocka_unit_test(sequences_wrap),
        cmocka_unit_test(it_is_found_among_what_others_wrote),
        cmocka_unit_test(looking_goes_on_where_it_was_cut_short),
        cmocka_unit_test(what_is_to_be_looked_for_goes_last),
        cmocka_unit_test(many_large_batches_are_more_than_one_request),
        cmocka_unit_test(a_log_that_begins_too_late_leaves_it_open),
        cmocka_unit_test(one_that_is_there_is_found_though_the_log_begins_later),
        cmocka_unit_test(a_log_that_ends_too_early_leaves_it_open),
        cmocka_unit_test(another_batch_of_the_same_identity_is_an_error),
        cmocka_unit_test(a_sequence_that_does_not_fit_needs_a_new_identity),
        cmocka_unit_test(refusals_and_delays_are_told_apart),
        cmocka_unit_test(a_partition_that_comes_later_is_seen),
        cmocka_unit_test(each_code_has_its_fate),
        cmocka_unit_test(without_a_broker_it_is_later_and_not_unsure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The producer against a broker in this process: placement, batches, deliveries, bounds. */
#include "base/check.h"
#include "client/partitioner.h"
#include "client/producer.h"
#include "client/rivulet.h"
#include "protocol/error.h"
#include "tests/kit/local_home.h"
#include "tests/kit/outside.h"
#include "tests/kit/raw_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WAIT_MS = 30000 };

struct world {
    struct local_home *home;
    const char *address;
};

static int world_begin(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    w->home = local_home_start(NULL);
    w->address = local_home_address(w->home);
    *state = w;
    return 0;
}

static int world_end(void **state)
{
    struct world *w = *state;
    local_home_destroy(w->home);
    free(w);
    return 0;
}

static struct rv_client *client_open(const struct world *w)
{
    struct rv_client *c = NULL;
    struct rv_error e = {0};
    if (rv_client_open(RV_OPTIONS({"bootstrap.servers", w->address}), &c, &e) != RV_OK) {
        fail_msg("%s", e.text);
    }
    return c;
}

static struct rv_producer *producer_open(struct rv_client *c, const struct rv_option *options)
{
    struct rv_producer *p = NULL;
    struct rv_error e = {0};
    if (rv_producer_open(c, options, &p, &e) != RV_OK) {
        fail_msg("%s", e.text);
    }
    return p;
}

static void topic_create(struct rv_client *c, const char *topic, int32_t partitions,
                         const struct rv_option *configs)
{
    struct rv_error e = {0};
    if (rv_topic_create(c, topic, partitions, configs, WAIT_MS, &e) != RV_OK) {
        fail_msg("%s", e.text);
    }
}

/* Deliveries, as they came. */
struct log_of {
    int good, bad;
    int code; /* of the last bad one */
    unsigned flags;
    int32_t partitions[1000]; /* of the first ones */
    int64_t offsets[1000];
    int64_t timestamps[1000];
};

static void on_delivery(void *ctx, const struct rv_delivery *d)
{
    struct log_of *l = ctx;
    int n = l->good + l->bad;
    if (n < 1000) {
        l->partitions[n] = d->partition;
        l->offsets[n] = d->offset;
        l->timestamps[n] = d->timestamp_ms;
    }
    if (d->error) {
        l->bad++;
        l->code = d->error->code;
        l->flags = d->error->flags;
    } else {
        l->good++;
    }
}

static void send_text(struct rv_producer *p, const char *topic, const char *key, const char *value,
                      struct log_of *l)
{
    struct rv_error e = {0};
    const struct rv_message m = {.topic = topic, .key = rv_str(key), .value = rv_str(value)};
    if (rv_send(p, &m, l ? on_delivery : NULL, l, &e) != RV_OK) {
        fail_msg("%s", e.text);
    }
}

static void flush(struct rv_producer *p)
{
    struct rv_error e = {0};
    if (rv_flush(p, WAIT_MS, &e) != RV_OK) {
        fail_msg("%s", e.text);
    }
}

static bool is_text(struct bytes b, const char *text)
{
    return b.ptr && b.len == strlen(text) && memcmp(b.ptr, text, b.len) == 0;
}

/* ---- placement ---- */

static void keys_hash_as_in_java(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        int32_t hash;
    } known[] = {
        {"21",                                               -973932308 },
        {"foobar",                                           -790332482 },
        {"a-little-bit-long-string",                         -985981536 },
        {"a-little-bit-longer-string",                       -1486304829},
        {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971  },
        {"abc",                                              479470107  },
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        size_t size = strlen(known[i].key);
        assert_int_equal((int32_t)murmur2(known[i].key, size), known[i].hash);
        for (int32_t n = 1; n < 100; n++) {
            assert_int_equal(rv_partition_of_key(known[i].key, size, n),
                             (known[i].hash & 0x7fffffff) % n);
        }
    }
}

static void a_keyed_record_goes_to_the_partition_of_its_key(void **state)
{
    struct rv_client *c = client_open(*state);
    topic_create(c, "keyed", 7, NULL);
    struct rv_producer *p = producer_open(c, NULL);
    struct log_of l = {0};
    for (int i = 0; i < 50; i++) {
        char key[16];
        snprintf(key, sizeof key, "key-%d", i);
        send_text(p, "keyed", key, "v", &l);
        flush(p);
        assert_int_equal(l.partitions[i], rv_partition_of_key(key, strlen(key), 7));
    }
    send_text(p, "keyed", "", "an empty key is a key", &l);
    flush(p);
    assert_int_equal(l.partitions[50], rv_partition_of_key("", 0, 7));
    assert_int_equal(l.good, 51);
    rv_producer_close(p);
    rv_client_close(c);
}

static void records_without_a_key_fill_one_batch_at_a_time(void **state)
{
    struct rv_client *c = client_open(*state);
    topic_create(c, "unkeyed", 5, NULL);
    struct rv_producer *p = producer_open(c, RV_OPTIONS({"linger.ms", "3600000"}));
    struct log_of l = {0};
    bool seen[5] = {0};
    for (int round = 0; round < 60; round++) {
        l = (struct log_of){0};
        for (int i = 0; i < 20; i++) {
            send_text(p, "unkeyed", NULL, "v", &l);
        }
        flush(p);
        assert_int_equal(l.good, 20);
        for (int i = 0; i < 20; i++) {
            assert_int_equal(l.partitions[i], l.partitions[0]);
        }
        seen[l.partitions[0]] = true;
    }
    for (int i = 0; i < 5; i++) { /* 60 draws miss one of 5 with 0.8^60: one in half a million */
        assert_true(seen[i]);
    }
    rv_producer_close(p);
    rv_client_close(c);
}

static void an_explicit_partition_is_taken_and_one_that_is_not_there_refused(void **state)
{
    struct rv_client *c = client_open(*state);
    topic_create(c, "explicit", 3, NULL);
    struct rv_producer *p = producer_open(c, NULL);
    struct rv_error e = {0};
    struct log_of l = {0};
    struct rv_message m = {.topic = "explicit",
                           .key = rv_str("k"),
                           .value = rv_str("v"),
                           .to_partition = true,
                           .partition = 2};
    assert_int_equal(rv_send(p, &m, on_delivery, &l, &e), RV_OK);
    flush(p);
    assert_int_equal(l.partitions[0], 2);
    m.partition = 3;
    assert_int_equal(rv_send(p, &m, on_delivery, &l, &e), KERR_UNKNOWN_TOPIC_OR_PARTITION);
    assert_non_null(strstr(e.text, "explicit"));
    m.partition = -1;
    assert_int_equal(rv_send(p, &m, on_delivery, &l, &e), RV_E_ARGUMENT);
    assert_int_equal(rv_pending(p), 0);
    rv_producer_close(p);
    rv_client_close(c);
}

/* ---- batches ---- */

static void records_are_batched_until_linger_or_flush(void **state)
{
    struct rv_client *c = client_open(*state);
    topic_create(c, "batched", 1, NULL);
    struct rv_producer *p = producer_open(c, RV_OPTIONS({"linger.ms", "3600000"}));
    struct log_of l = {0};
    struct rv_error e = {0};
    for (int i = 0; i < 100; i++) {
        send_text(p, "batched", "k", "v", &l);
    }
    struct rv_cluster *cluster;
    for (int i = 0; i < 20; i++) { /* many turns; nothing leaves */
        assert_int_equal(rv_cluster(c, WAIT_MS, &cluster, &e), RV_OK);
        rv_free(cluster);
    }
    assert_int_equal(rv_pending(p), 100);
    flush(p);
    assert_int_equal(rv_pending(p), 0);
    assert_int_equal(l.good, 100);
    struct raw_log log;
    raw_log_read(&log, c, "batched", 0, 100);
    assert_int_equal(log.batch_count, 1);
    assert_int_equal(log.batches[0].count, 100);
    assert_int_equal(log.count, 100);
    raw_log_finish(&log);
    rv_producer_close(p);
    rv_client_close(c);
}

static void a_batch_leaves_by_itself_after_linger(void **state)
{
    struct rv_client *c = client_open(*state);
    topic_create(c, "linger", 1, NULL);
    struct rv_producer *p = producer_open(c, RV_OPTIONS({"linger.ms", "20"}));
    struct log_of l = {0};
    send_text(p, "linger", NULL, "v", &l);
    while (rv_pending(p)) {
        struct rv_error e = {0};
        assert_in_range(rv_timeout(c), 0, WAIT_MS); /* something is always due */
        assert_int_equal(rv_wait(c, WAIT_MS, &e), RV_OK);
    }
    assert_int_equal(l.good, 1);
    assert_int_equal(l.offsets[0], 0);
    rv_producer_close(p);
    rv_client_close(c);
}

static void a_full_batch_leaves_before_linger(void **state)
{
    struct rv_client *c = client_open(*state);
    topic_create(c, "full", 1, NULL);
    struct rv_producer *p =
        producer_open(c, RV_OPTIONS({"linger.ms", "3600000"}, {"batch.size", "1000"}));
    struct log_of l = {0};
    char value[101] = {0};
    memset(value, 'v', 100);
    for (int i = 0; i < 95; i++) {
        send_text(p, "full", "k", value, &l);
    }
    while (l.good < 80) { /* the last, open batch stays */
        struct rv_error e = {0};
        assert_int_equal(rv_wait(c, WAIT_MS, &e), RV_OK);
    }
    assert_true(rv_pending(p) > 0);
    flush(p);
    struct raw_log log;
    raw_log_read(&log, c, "full", 0, 95);
    assert_int_equal(log.count, 95);
    for (int32_t i = 0; i < log.batch_count; i++) {
        assert_true(log.batches[i].size <= 1000);
        assert_true(i == log.batch_count - 1 || log.batches[i].count == 8);
    }
    raw_log_finish(&log);
    rv_producer_close(p);
    rv_client_close(c);
}

static void every_codec_arrives(void **state)
{
    static const char *const codecs[] = {"none", "gzip", "snappy", "lz4", "zstd"};
    struct rv_client *c = client_open(*state);
    for (int z = 0; z < 5; z++) {
        char topic[32];
        snprintf(topic, sizeof topic, "codec-%s", codecs[z]);
        topic_create(c, topic, 1, NULL);
        struct rv_producer *p =
            producer_open(c, RV_OPTIONS({"compression.type", codecs[z]}, {"linger.ms", "3600000"}));
        for (int i = 0; i < 1000; i++) {
            char value[64];
            snprintf(value, sizeof value, "a value that repeats itself %d", i);
            send_text(p, topic, "k", value, NULL);
        }
        flush(p);
        struct raw_log log;
        raw_log_read(&log, c, topic, 0, 1000);
        assert_int_equal(log.count, 1000);
        for (int i = 0; i < 1000; i++) {
            char value[64];
            snprintf(value, sizeof value, "a value that repeats itself %d", i);
            assert_true(is_text(log.records[i].value, value));
            assert_true(is_text(log.records[i].key, "k"));
            assert_int_equal(log.batches[log.records[i].batch].attributes, z);
        }
        raw_log_finish(&log);
        rv_producer_close(p);
    }
    rv_client_close(c);
}

static void keys_values_headers_and_times_arrive_as_they_were(void **state)
{
    struct rv_client *c = client_open(*state);
    topic_create(c, "whole", 1, NULL);
    struct rv_producer *p = producer_open(c, NULL);
    struct rv_error e = {0};
    struct log_of l = {0};
    const struct rv_header headers[] = {
        {RV_STR("trace"), RV_STR("abc")},
        {RV_STR("null"),  {NULL, 0}    },
        {RV_STR("trace"), RV_STR("")   },
    };
    struct rv_message m = {.topic = "whole",
                           .key = rv_str("k"),
                           .value = rv_str("v"),
                           .headers = headers,
                           .header_count = 3,
                           .timestamp_ms = 1000000000123};
    assert_int_equal(rv_send(p, &m, on_delivery, &l, &e), RV_OK);
    m = (struct rv_message){.topic = "whole", .timestamp_ms = 5}; /* null and null */
    assert_int_equal(rv_send(p, &m, on_delivery, &l, &e), RV_OK);
    m.key = m.value = rv_str("");
    assert_int_equal(rv_send(p, &m, on_delivery, &l, &e), RV_OK);
    const struct rv_header nameless = {
        {NULL, 0},
        RV_STR("v")
    };
    m.headers = &nameless;
    m.header_count = 1;
    assert_int_equal(rv_send(p, &m, on_delivery, &l, &e), RV_E_ARGUMENT);
    m.header_count = 0;
    m.timestamp_ms = -5;
    assert_int_equal(rv_send(p, &m, on_delivery, &l, &e), RV_E_ARGUMENT);
    flush(p);
    assert_int_equal(l.good, 3);
    assert_int_equal(l.timestamps[0], 1000000000123);
    assert_int_equal(l.timestamps[1], 5);
    struct raw_log log;
    raw_log_read(&log, c, "whole", 0, 3);
    assert_int_equal(log.count, 3);
    const struct raw_record *r = log.records;
    assert_true(is_text(r[0].key, "k") && is_text(r[0].value, "v"));
    assert_int_equal(r[0].timestamp_ms, 1000000000123);
    assert_int_equal(r[0].header_count, 3);
    assert_true(str_eq(r[0].headers[0].name, STR("trace")) &&
                is_text(r[0].headers[0].value, "abc"));
    assert_true(str_eq(r[0].headers[1].name, STR("null")) && !r[0].headers[1].value.ptr);
    assert_true(is_text(r[0].headers[2].value, ""));
    assert_true(!r[1].key.ptr && !r[1].value.ptr && r[1].timestamp_ms == 5);
    assert_true(is_text(r[2].key, "") && is_text(r[2].value, ""));
    raw_log_finish(&log);
    rv_producer_close(p);
    rv_client_close(c);
}

/* ---- order and deliveries ---- */

static void records_of_a_partition_keep_their_order(void **state)
{
    enum { COUNT = 20000, PARTITIONS = 3 };
    struct rv_client *c = client_open(*state);
    topic_create(c, "order", PARTITIONS, NULL);
    struct rv_producer *p = producer_open(c, RV_OPTIONS({"batch.size", "2000"}));
    for (int i = 0; i < COUNT; i++) {
        char key[16], value[16];
        snprintf(key, sizeof key, "%d", i % 17);
        snprintf(value, sizeof value, "%d", i);
        send_text(p, "order", key, value, NULL);
    }
    flush(p);
    size_t total = 0;
    for (int32_t n = 0; n < PARTITIONS; n++) {
        struct raw_log log;
        int last = -1;
        raw_log_read(&log, c, "order", n, 0);
        for (size_t i = 0; i < log.count; i++) {
            char text[16];
            snprintf(text, sizeof text, "%.*s", (int)log.records[i].value.len,
                     (const char *)log.records[i].value.ptr);
            int value = atoi(text);
            assert_true(value > last);
            last = value;
        }
        int32_t sequence = 0;
        for (int32_t i = 0; i < log.batch_count; i++) { /* one producer, no gap */
            assert_int_equal(log.batches[i].producer_id, log.batches[0].producer_id);
            assert_int_equal(log.batches[i].producer_epoch, 0);
            assert_int_equal(log.batches[i].base_sequence, sequence);
            sequence += log.batches[i].count;
        }
        total += log.count;
        raw_log_finish(&log);
    }
    assert_int_equal(total, COUNT);
    rv_producer_close(p);
    rv_client_close(c);
}

static void deliveries_tell_offset_and_the_time_that_is_stored(void **state)
{
    struct rv_client *c = client_open(*state);
    topic_create(c, "times", 1, RV_OPTIONS({"message.timestamp.type", "LogAppendTime"}));
    struct rv_producer *p = producer_open(c, RV_OPTIONS({"linger.ms", "3600000"}));
    struct log_of l = {0};
    struct rv_error e = {0};
    const struct rv_message m = {.topic = "times", .value = rv_str("v"), .timestamp_ms = 77};
    for (int i = 0; i < 5; i++) {
        /* Only some ask: the others must not shift what they are told. */
        assert_int_equal(rv_send(p, &m, i % 2 == 0 ? on_delivery : NULL, &l, &e), RV_OK);
    }
    flush(p);
    struct raw_log log;
    raw_log_read(&log, c, "times", 0, 5);
    assert_int_equal(l.good, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(l.offsets[i], i * 2);
        assert_int_equal(l.timestamps[i], log.records[i * 2].timestamp_ms);
        assert_true(l.timestamps[i] > 77);
    }
    raw_log_finish(&log);
    rv_producer_close(p);
    rv_client_close(c);
}

static void weaker_acks_work_and_turn_idempotence_off(void **state)
{
    struct rv_client *c = client_open(*state);
    static const char *const acks[] = {"0", "1", "-1"};
    for (int i = 0; i < 3; i++) {
        char topic[32];
        snprintf(topic, sizeof topic, "acks%s", acks[i]);
        topic_create(c, topic, 1, NULL);
        struct rv_producer *p = producer_open(c, RV_OPTIONS({"acks", acks[i]}));
        struct log_of l = {0};
        for (int n = 0; n < 500; n++) {
            send_text(p, topic, "k", "v", &l);
        }
        flush(p);
        assert_int_equal(l.good, 500);
        assert_int_equal(l.offsets[7], i == 0 ? -1 : 7);
        struct raw_log log;
        raw_log_read(&log, c, topic, 0, 500);
        assert_int_equal(log.count, 500);
        assert_int_equal(log.batches[0].producer_id >= 0, i == 2);
        raw_log_finish(&log);
        rv_producer_close(p);
    }
    rv_client_close(c);
}

static void options_that_contradict_each_other_are_refused(void **state)
{
    struct rv_client *c = client_open(*state);
    struct rv_producer *p = NULL;
    struct rv_error e = {0};
    assert_int_equal(
        rv_producer_open(c, RV_OPTIONS({"acks", "1"}, {"enable.idempotence", "true"}), &p, &e),
        RV_E_OPTION);
    assert_int_equal(
        rv_producer_open(c, RV_OPTIONS({"max.in.flight.requests.per.connection", "6"}), &p, &e),
        RV_E_OPTION);
    assert_int_equal(rv_producer_open(c, RV_OPTIONS({"linger", "6"}), &p, &e), RV_E_OPTION);
    assert_null(p);
    rv_client_close(c);
}

static void sequence_numbers_go_round(void **state)
{
    struct rv_client *c = client_open(*state);
    topic_create(c, "round", 1, NULL);
    struct rv_producer *p =
        producer_open(c, RV_OPTIONS({"batch.size", "150"}, {"linger.ms", "3600000"}));
    struct log_of l = {0};
    send_text(p, "round", "k", "v", &l);
    /* A broker that knows nothing of us takes any first number. */
    struct out_partition *partition = out_partition_get(out_topic_get(p, "round"), 0);
    partition->next_sequence = INT32_MAX - 20;
    for (int i = 1; i < 60; i++) {
        send_text(p, "round", "k", "v", &l);
    }
    flush(p);
    assert_int_equal(l.good, 60);
    struct raw_log log;
    raw_log_read(&log, c, "round", 0, 60);
    uint32_t sequence = INT32_MAX - 20;
    bool is_across = false;
    for (int32_t i = 0; i < log.batch_count; i++) {
        assert_int_equal(log.batches[i].base_sequence, sequence & INT32_MAX);
        assert_int_equal(log.batches[i].producer_epoch, 0);
        is_across |= sequence <= INT32_MAX &&
                     sequence + (uint32_t)log.batches[i].count > (uint32_t)INT32_MAX + 1;
        sequence += (uint32_t)log.batches[i].count;
    }
    assert_true(is_across);
    raw_log_finish(&log);
    rv_producer_close(p);
    rv_client_close(c);
}

/* ---- bounds ---- */

static void memory_is_bounded_and_room_comes_back(void **state)
{
    struct rv_client *c = client_open(*state);
    topic_create(c, "bounded", 1, NULL);
    struct rv_producer *p =
        producer_open(c, RV_OPTIONS({"buffer.memory", "20000"}, {"linger.ms", "3600000"},
                                    {"max.block.ms", "0"}, {"batch.size", "100000"}));
    struct log_of l = {0};
    struct rv_error e = {0};
    char value[1001] = {0};
    memset(value, 'v', 1000);
    const struct rv_message m = {.topic = "bounded", .value = rv_str(value)};
    int taken = 0, full = 0;
    while (taken < 100) {
        int code = rv_send(p, &m, on_delivery, &l, &e);
        if (code == RV_OK) {
            taken++;
        } else {
            assert_int_equal(code, RV_E_FULL);
            assert_true(e.flags & RV_RETRIABLE);
            full += rv_pending(p) > 0; /* else the topic is not known yet */
            assert_true(rv_pending(p) <= 20);
            assert_int_equal(rv_wait(c, WAIT_MS, &e),
                             RV_OK); /* what lingers leaves when it is full */
        }
    }
    assert_true(full >= 4);
    flush(p);
    assert_int_equal(l.good, 100);
    rv_producer_close(p);
    /* The same, waiting inside of rv_send. */
    p = producer_open(c, RV_OPTIONS({"buffer.memory", "20000"}, {"linger.ms", "3600000"}));
    for (int i = 0; i < 100; i++) {
        assert_int_equal(rv_send(p, &m, on_delivery, &l, &e), RV_OK);
    }
    flush(p);
    assert_int_equal(l.good, 200);
    rv_producer_close(p);
    rv_client_close(c);
}

static void a_record_that_can_never_fit_is_refused_at_once(void **state)
{
    struct rv_client *c = client_open(*state);
    topic_create(c, "large", 1, NULL);
    struct rv_producer *p = producer_open(c, RV_OPTIONS({"max.request.size", "2000"}));
    struct rv_error e = {0};
    char value[2001] = {0};
    memset(value, 'v', 2000);
    struct rv_message m = {.topic = "large", .value = rv_str(value)};
    assert_int_equal(rv_send(p, &m, NULL, NULL, &e), RV_E_TOO_LARGE);
    assert_non_null(strstr(e.text, "max.request.size"));
    m.value.size = 1900;
    assert_int_equal(rv_send(p, &m, NULL, NULL, &e), RV_OK);
    flush(p);
    rv_producer_close(p);
    p = producer_open(c, RV_OPTIONS({"buffer.memory", "16384"}, {"max.request.size", "100000"}));
    char *big = calloc(1, 20000);
    m.value = (struct rv_bytes){big, 20000};
    assert_int_equal(rv_send(p, &m, NULL, NULL, &e), RV_E_TOO_LARGE);
    assert_non_null(strstr(e.text, "buffer.memory"));
    free(big);
    rv_producer_close(p);
    rv_client_close(c);
}

static void a_request_is_bounded_and_every_partition_has_its_turn(void **state)
{
    enum { PARTITIONS = 40, EACH = 20 };
    struct rv_client *c = client_open(*state);
    topic_create(c, "many", PARTITIONS, NULL);
    struct rv_producer *p = producer_open(
        c, RV_OPTIONS({"max.request.size", "5000"}, {"batch.size", "1200"}, {"linger.ms", "100"}));
    struct log_of l = {0};
    char value[1001] = {0};
    memset(value, 'v', 1000);
    for (int i = 0; i < PARTITIONS * EACH; i++) {
        struct rv_error e = {0};
        const struct rv_message m = {.topic = "many",
                                     .value = rv_str(value),
                                     .to_partition = true,
                                     .partition = i % PARTITIONS};
        assert_int_equal(rv_send(p, &m, on_delivery, &l, &e), RV_OK);
    }
    flush(p);
    assert_int_equal(l.good, PARTITIONS * EACH);
    for (int32_t n = 0; n < PARTITIONS; n += 13) {
        struct raw_log log;
        raw_log_read(&log, c, "many", n, EACH);
        assert_int_equal(log.count, EACH);
        raw_log_finish(&log);
    }
    rv_producer_close(p);
    rv_client_close(c);
}

static void a_topic_that_is_not_there_is_said_so(void **state)
{
    struct rv_client *c = client_open(*state);
    struct rv_producer *p = producer_open(c, NULL);
    struct rv_error e = {0};
    struct rv_message m = {.topic = "not a name", .value = rv_str("v")};
    assert_int_equal(rv_send(p, &m, NULL, NULL, &e), KERR_INVALID_TOPIC_EXCEPTION);
    m.topic = "";
    assert_int_equal(rv_send(p, &m, NULL, NULL, &e), RV_E_ARGUMENT);
    m.topic = "made-by-asking"; /* auto.create.topics.enable */
    assert_int_equal(rv_send(p, &m, NULL, NULL, &e), RV_OK);
    flush(p);
    rv_producer_close(p);
    rv_client_close(c);
}

/* Keeping up to date what a producer once wrote to must not make it again, with other settings. */
static void a_topic_that_was_deleted_is_made_again_by_a_send_alone(void **state)
{
    struct rv_client *c = client_open(*state);
    struct rv_producer *p = producer_open(c, NULL);
    struct rv_error e = {0};
    struct rv_topics *found;
    const struct rv_message m = {.topic = "deleted", .value = rv_str("v")};
    topic_create(c, "deleted", 3, NULL);
    assert_int_equal(rv_send(p, &m, NULL, NULL, &e), RV_OK);
    flush(p);
    assert_int_equal(rv_topic_delete(c, "deleted", WAIT_MS, &e), RV_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rv_client_connect(c, WAIT_MS, &e), RV_OK); /* looks at all that it knows */
        assert_int_equal(rv_topic_describe(c, "deleted", WAIT_MS, &found, &e),
                         KERR_UNKNOWN_TOPIC_OR_PARTITION);
    }
    assert_int_equal(rv_send(p, &m, NULL, NULL, &e), RV_OK); /* auto.create.topics.enable */
    flush(p);
    assert_int_equal(rv_topic_describe(c, "deleted", WAIT_MS, &found, &e), RV_OK);
    assert_int_equal(found->items[0].partition_count, 1);
    rv_free(found);
    rv_producer_close(p);
    rv_client_close(c);
}

static void a_topic_that_is_being_made_is_waited_for_whatever_the_partition(void **state)
{
    static const char *const settings[] = {"auto.create.topics.enable=false", NULL};
    struct world w = *(const struct world *)*state;
    bool is_made = outside_address() != NULL; /* some say at first that it is not there */
    if (!is_made) {
        w.home = local_home_start(settings);
        w.address = local_home_address(w.home);
    }
    struct rv_client *c = client_open(&w);
    struct rv_producer *p =
        producer_open(c, RV_OPTIONS({"max.block.ms", is_made ? "30000" : "500"}));
    struct rv_error e = {0};
    const struct rv_message m = {
        .topic = "made-for-a-partition", .value = rv_str("v"), .to_partition = true};
    int code = rv_send(p, &m, NULL, NULL, &e);
    assert_int_equal(code, is_made ? RV_OK : KERR_UNKNOWN_TOPIC_OR_PARTITION);
    assert_true(is_made || c->meta.answers > 1); /* the first one was not the last word */
    rv_producer_close(p);
    rv_client_close(c);
    if (!is_made) {
        local_home_destroy(w.home);
    }
}

/* ---- callbacks and the end ---- */

struct chain {
    struct rv_producer *producer;
    int left;
    int flush_code;
    int delivered;
    int send_failures;
};

static void send_next(void *ctx, const struct rv_delivery *d)
{
    struct chain *ch = ctx;
    struct rv_error e = {0};
    ch->delivered += d->error == NULL;
    ch->flush_code = rv_flush(ch->producer, 0, &e);
    if (ch->left-- > 0) {
        const struct rv_message m = {.topic = "chain", .value = rv_str("v")};
        ch->send_failures += rv_send(ch->producer, &m, send_next, ch, &e) != RV_OK;
    }
}

static void a_callback_may_send_and_nothing_else(void **state)
{
    struct rv_client *c = client_open(*state);
    topic_create(c, "chain", 1, NULL);
    struct rv_producer *p = producer_open(c, NULL);
    struct chain ch = {.producer = p, .left = 10};
    struct rv_error e = {0};
    const struct rv_message m = {.topic = "chain", .value = rv_str("v")};
    assert_int_equal(rv_send(p, &m, send_next, &ch, &e), RV_OK);
    assert_int_equal(ch.delivered, 0); /* never from inside of rv_send */
    while (rv_pending(p)) {
        flush(p); /* waits for what was there when it was called */
    }
    assert_int_equal(ch.delivered, 11);
    assert_int_equal(ch.send_failures, 0);
    assert_int_equal(ch.flush_code, RV_E_STATE);
    rv_producer_close(p);
    rv_client_close(c);
}

static void send_again(void *ctx, const struct rv_delivery *d)
{
    struct chain *ch = ctx;
    struct rv_error e = {0};
    const struct rv_message m = {.topic = "closing", .value = rv_str("v")};
    ch->delivered += d->error && d->error->code == RV_E_STATE;
    ch->send_failures += rv_send(ch->producer, &m, NULL, NULL, &e) == RV_E_STATE;
}

static void closing_tells_the_fate_of_every_record(void **state)
{
    struct rv_client *c = client_open(*state);
    topic_create(c, "closing", 4, NULL);
    struct rv_producer *p = producer_open(c, RV_OPTIONS({"linger.ms", "3600000"}));
    struct chain ch = {.producer = p};
    struct rv_error e = {0};
    for (int i = 0; i < 30; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        const struct rv_message m = {.topic = "closing", .key = rv_str(key), .value = rv_str("v")};
        assert_int_equal(rv_send(p, &m, send_again, &ch, &e), RV_OK);
    }
    rv_producer_close(p);
    assert_int_equal(ch.delivered, 30);
    assert_int_equal(ch.send_failures, 30);
    /* With requests on their way: each record is told once, one way or the other. */
    for (int turns = 0; turns < 12; turns++) {
        struct log_of l = {0};
        p = producer_open(c, RV_OPTIONS({"linger.ms", "0"}, {"batch.size", "200"}));
        for (int i = 0; i < 100; i++) {
            send_text(p, "closing", "k", "a value", &l);
        }
        for (int i = 0; i < turns; i++) {
            assert_int_equal(rv_process(c, &e), RV_OK);
        }
        rv_producer_close(p);
        assert_int_equal(l.good + l.bad, 100);
        assert_true(l.bad == 0 || l.code == RV_E_STATE);
    }
    rv_client_close(c);
}

static void flush_returns_the_first_failure_once(void **state)
{
    struct rv_client *c = client_open(*state);
    topic_create(c, "bad-times", 1, RV_OPTIONS({"message.timestamp.after.max.ms", "3600000"}));
    struct rv_producer *p = producer_open(c, NULL);
    struct rv_error e = {0};
    struct log_of l = {0};
    const struct rv_message m = {/* further in the future than the topic allows */
                                 .topic = "bad-times",
                                 .value = rv_str("v"),
                                 .timestamp_ms = INT64_C(40000000000000)};
    assert_int_equal(rv_send(p, &m, on_delivery, &l, &e), RV_OK);
    assert_int_equal(rv_flush(p, WAIT_MS, &e), KERR_INVALID_TIMESTAMP);
    assert_non_null(strstr(e.text, "bad-times"));
    assert_int_equal(l.bad, 1);
    assert_false(l.flags & RV_UNSURE);
    assert_int_equal(rv_flush(p, WAIT_MS, &e), RV_OK);
    send_text(p, "bad-times", NULL, "good", &l); /* the sequence goes on after the gap */
    flush(p);
    assert_int_equal(l.good, 1);
    rv_producer_close(p);
    rv_client_close(c);
}

static void a_batch_over_the_topics_limit_is_split_and_only_what_is_too_large_fails(void **state)
{
    static const char *const codecs[] = {"none", "lz4"};
    struct rv_client *c = client_open(*state);
    for (int z = 0; z < 2; z++) {
        char topic[32];
        snprintf(topic, sizeof topic, "split-%d", z);
        topic_create(c, topic, 1, RV_OPTIONS({"max.message.bytes", "700"}));
        struct rv_producer *p =
            producer_open(c, RV_OPTIONS({"linger.ms", "3600000"}, {"compression.type", codecs[z]}));
        struct log_of l = {0};
        const struct rv_header header = {RV_STR("h"), RV_STR("w")};
        unsigned noise = 1;
        for (int i = 0; i < 64; i++) {
            char value[1000];
            size_t size = i == 20 ? sizeof value : 40;
            for (size_t n = 0; n < size; n++) {
                noise = noise * 1103515245 + 12345;
                value[n] = (char)(noise >> 16);
            }
            value[0] = (char)i;
            struct rv_error e = {0};
            const struct rv_message m = {
                .topic = topic, .value = {value, size},
                     .headers = &header, .header_count = 1
            };
            assert_int_equal(rv_send(p, &m, on_delivery, &l, &e), RV_OK);
        }
        struct rv_error e = {0};
        assert_int_equal(rv_flush(p, WAIT_MS, &e), KERR_MESSAGE_TOO_LARGE);
        assert_int_equal(l.good, 63);
        assert_int_equal(l.bad, 1);
        assert_false(l.flags & RV_UNSURE);
        struct raw_log log;
        raw_log_read(&log, c, topic, 0, 63);
        assert_int_equal(log.count, 63);
        for (int i = 0; i < 63; i++) {
            assert_int_equal(log.records[i].value.ptr[0], i < 20 ? i : i + 1);
            assert_true(is_text(log.records[i].headers[0].value, "w"));
        }
        raw_log_finish(&log);
        rv_producer_close(p);
    }
    rv_client_close(c);
}

/* One client: the metadata of a topic is asked for by both. */
static void a_topic_that_a_reader_asked_for_first_is_made_for_the_producer(void **state)
{
    struct rv_client *c = client_open(*state);
    struct rv_producer *p = producer_open(c, RV_OPTIONS({"max.block.ms", "20000"}));
    struct rv_consumer *r = NULL;
    struct rv_error e = {0};
    const char *topic = "read-first";
    struct log_of l = {0};
    assert_int_equal(rv_consumer_open(c, RV_OPTIONS({"group.id", "g"}), &r, &e), RV_OK);
    assert_int_equal(rv_subscribe(r, &topic, 1, &e), RV_OK);
    send_text(p, topic, NULL, "v", &l);
    flush(p);
    assert_int_equal(l.good, 1);
    rv_consumer_close(r, WAIT_MS, NULL);
    rv_producer_close(p);
    rv_client_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_hash_as_in_java),
        cmocka_unit_test(a_keyed_record_goes_to_the_partition_of_its_key),
        cmocka_unit_test(records_without_a_key_fill_one_batch_at_a_time),
        cmocka_unit_test(an_explicit_partition_is_taken_and_one_that_is_not_there_refused),
        cmocka_unit_test(records_are_batched_until_linger_or_flush),
        cmocka_unit_test(a_batch_leaves_by_itself_after_linger),
        cmocka_unit_test(a_full_batch_leaves_before_linger),
        cmocka_unit_test(every_codec_arrives),
        cmocka_unit_test(keys_values_headers_and_times_arrive_as_they_were),
        cmocka_unit_test(records_of_a_partition_keep_their_order),
        cmocka_unit_test(deliveries_tell_offset_and_the_time_that_is_stored),
        cmocka_unit_test(weaker_acks_work_and_turn_idempotence_off),
        cmocka_unit_test(options_that_contradict_each_other_are_refused),
        cmocka_unit_test(sequence_numbers_go_round),
        cmocka_unit_test(memory_is_bounded_and_room_comes_back),
        cmocka_unit_test(a_record_that_can_never_fit_is_refused_at_once),
        cmocka_unit_test(a_request_is_bounded_and_every_partition_has_its_turn),
        cmocka_unit_test(a_topic_that_is_not_there_is_said_so),
        cmocka_unit_test(a_topic_that_was_deleted_is_made_again_by_a_send_alone),
        cmocka_unit_test(a_topic_that_is_being_made_is_waited_for_whatever_the_partition),
        cmocka_unit_test(a_callback_may_send_and_nothing_else),
        cmocka_unit_test(closing_tells_the_fate_of_every_record),
        cmocka_unit_test(flush_returns_the_first_failure_once),
        cmocka_unit_test(a_batch_over_the_topics_limit_is_split_and_only_what_is_too_large_fails),
        cmocka_unit_test(a_topic_that_a_reader_asked_for_first_is_made_for_the_producer),
    };
    return cmocka_run_group_tests(tests, world_begin, world_end);
}

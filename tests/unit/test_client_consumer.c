/* The consumer against a broker in this process: reading assigned partitions. */
#include "base/clock.h"
#include "tests/kit/feed.h"
#include "tests/kit/local_home.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PATIENCE_MS = 30000, TEXTS = 64 };

static const char *const codec_names[] = {"none", "gzip", "snappy", "lz4", "zstd"};

/* A broker, a client for feeding, and a client with a consumer. */
struct desk {
    struct local_home *broker;
    struct rv_client *feeder;
    struct rv_client *client;
    struct rv_consumer *consumer;
    int events[8];    /* how many of each kind */
    int64_t from, to; /* of the last RV_JUMPED */
    char text[300];   /* likewise */
    struct rv_error error;
};

static struct rv_client *client_to(struct local_home *b)
{
    struct rv_client *client;
    struct rv_error e;
    const struct rv_option *options =
        RV_OPTIONS({"bootstrap.servers", local_home_address(b)}, {"retry.backoff.ms", "5"},
                   {"retry.backoff.max.ms", "50"}, {"reconnect.backoff.ms", "5"},
                   {"reconnect.backoff.max.ms", "50"});
    assert_int_equal(rv_client_open(options, &client, &e), RV_OK);
    return client;
}

static void on_event(void *ctx, const struct rv_event *event)
{
    struct desk *d = ctx;
    d->events[event->kind]++;
    if (event->kind == RV_JUMPED) {
        snprintf(d->text, sizeof d->text, "%s", event->text);
        d->from = event->from;
        d->to = event->to;
    }
}

static void desk_open(struct desk *d, const struct rv_option *options)
{
    memset(d, 0, sizeof *d);
    d->broker = local_home_start(NULL);
    d->feeder = client_to(d->broker);
    d->client = client_to(d->broker);
    assert_int_equal(rv_consumer_open(d->client, options, &d->consumer, &d->error), RV_OK);
    rv_consumer_on_event(d->consumer, on_event, d);
}

static void desk_close(struct desk *d)
{
    assert_int_equal(rv_consumer_close(d->consumer, PATIENCE_MS, &d->error), RV_OK);
    rv_client_close(d->client);
    rv_client_close(d->feeder);
    local_home_destroy(d->broker);
}

static void topic_make(struct desk *d, const char *topic, int32_t partitions,
                       const struct rv_option *configs)
{
    if (rv_topic_create(d->feeder, topic, partitions, configs, PATIENCE_MS, &d->error) != RV_OK) {
        fail_msg("%s", d->error.text);
    }
}

static void read_from(struct desk *d, const char *topic, int32_t partition, int64_t offset)
{
    const struct rv_partition p = {.topic = topic, .partition = partition, .offset = offset};
    assert_int_equal(rv_assign(d->consumer, &p, 1, &d->error), RV_OK);
}

/* One record; what it points to lives until the next call. */
static const struct rv_record *next(struct desk *d)
{
    const struct rv_record *records;
    size_t count;
    int64_t until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    while (clock_mono_ms(&clock_real) < until) {
        if (rv_poll(d->consumer, 1000, &records, &count, &d->error) != RV_OK) {
            fail_msg("%s", d->error.text);
        }
        if (count) {
            assert_int_equal(count, 1); /* max.poll.records=1 */
            return records;
        }
    }
    fail_msg("no record came");
    return NULL;
}

static void assert_bytes(struct rv_bytes b, const char *text)
{
    if (!text) {
        assert_null(b.ptr);
        return;
    }
    assert_non_null(b.ptr);
    assert_int_equal(b.size, strlen(text));
    assert_memory_equal(b.ptr, text, b.size);
}

/* The numbers first .. last come next, in order. */
static void expect_numbers(struct desk *d, int first, int last)
{
    const struct rv_record *records;
    size_t count;
    int64_t until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    while (first <= last && clock_mono_ms(&clock_real) < until) {
        if (rv_poll(d->consumer, 1000, &records, &count, &d->error) != RV_OK) {
            fail_msg("%s", d->error.text);
        }
        for (size_t i = 0; i < count; i++, first++) {
            char text[16];
            snprintf(text, sizeof text, "k%d", first);
            assert_bytes(records[i].key, text);
            assert_bytes(records[i].value, text + 1);
            assert_int_equal(records[i].timestamp_ms, 1000000 + first);
        }
    }
    assert_int_equal(first, last + 1);
}

/* rv_poll until it fails. */
static int poll_error(struct desk *d)
{
    const struct rv_record *records;
    size_t count;
    int code = RV_OK;
    int64_t until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    while (code == RV_OK && clock_mono_ms(&clock_real) < until) {
        code = rv_poll(d->consumer, 1000, &records, &count, &d->error);
        assert_int_equal(count, 0);
    }
    return code;
}

static void poll_until(struct desk *d, enum rv_event_kind kind, int times)
{
    const struct rv_record *records;
    size_t count;
    int64_t until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    while (d->events[kind] < times && clock_mono_ms(&clock_real) < until) {
        assert_int_equal(rv_poll(d->consumer, 100, &records, &count, &d->error), RV_OK);
    }
    assert_int_equal(d->events[kind], times);
}

static int64_t position(struct desk *d)
{
    const struct rv_partition *p;
    assert_int_equal(rv_assignment(d->consumer, &p), 1);
    return p->offset;
}

/* ---- what is read ---- */

static void keys_values_headers_and_nulls_come_as_they_were_sent(void **state)
{
    (void)state;
    struct desk d;
    desk_open(&d, RV_OPTIONS({"max.poll.records", "1"}));
    const struct record_header headers[] = {
        {STR("a"), {(const uint8_t *)"1", 1}},
        {STR(""),  {NULL, 0}                },
        {STR("a"), {(const uint8_t *)"", 0} },
    };
    const struct feed_record records[] = {
        {.key = "k",         .value = "v", .timestamp_ms = 7, .headers = headers, .header_count = 3},
        {.key = NULL, .value = "only a value",             .timestamp_ms = 8                   },
        {.key = "tombstone", .value = NULL, .timestamp_ms = 9},
        {.key = "", .value = "",             .timestamp_ms = 10                                        },
    };
    for (int codec = 0; codec < CODEC_COUNT; codec++) {
        topic_make(&d, codec_names[codec], 1, NULL);
        feed(d.feeder, codec_names[codec], 0, (enum codec)codec, records, 4);
        read_from(&d, codec_names[codec], 0, RV_START);
        for (int i = 0; i < 4; i++) {
            const struct rv_record *r = next(&d);
            assert_string_equal(r->topic, codec_names[codec]);
            assert_int_equal(r->partition, 0);
            assert_int_equal(r->offset, i);
            assert_int_equal(r->timestamp_ms, 7 + i);
            assert_bytes(r->key, records[i].key);
            assert_bytes(r->value, records[i].value);
            assert_int_equal(r->header_count, i == 0 ? 3 : 0);
            if (i == 0) {
                assert_bytes(r->headers[0].name, "a");
                assert_bytes(r->headers[0].value, "1");
                assert_bytes(r->headers[1].name, "");
                assert_bytes(r->headers[1].value, NULL);
                assert_bytes(r->headers[2].name, "a");
                assert_bytes(r->headers[2].value, "");
            }
        }
    }
    desk_close(&d);
}

static void batches_of_every_codec_are_read_in_order(void **state)
{
    (void)state;
    struct desk d;
    desk_open(&d, RV_OPTIONS({"max.poll.records", "7"}));
    topic_make(&d, "t", 1, NULL);
    int n = 0;
    for (int round = 0; round < 3; round++) {
        for (int codec = 0; codec < CODEC_COUNT; codec++, n += 200) {
            feed_numbers(d.feeder, "t", 0, (enum codec)codec, n, 200);
        }
    }
    read_from(&d, "t", 0, RV_START);
    expect_numbers(&d, 0, n - 1);
    desk_close(&d);
}

static void small_fetches_lose_and_repeat_nothing(void **state)
{
    (void)state;
    struct desk d;
    desk_open(&d, RV_OPTIONS({"max.partition.fetch.bytes", "1"}, {"fetch.max.bytes", "1"},
                             {"queued.max.messages.kbytes", "1"}));
    topic_make(&d, "t", 1, NULL);
    for (int n = 0; n < 300; n += 10) {
        feed_numbers(d.feeder, "t", 0, n % 20 ? CODEC_NONE : CODEC_ZSTD, n, 10);
    }
    read_from(&d, "t", 0, RV_START);
    expect_numbers(&d, 0, 299);
    desk_close(&d);
}

static void all_partitions_are_read(void **state)
{
    (void)state;
    struct desk d;
    enum { PARTITIONS = 5, EACH = 40 };
    struct rv_partition all[PARTITIONS];
    int got[PARTITIONS] = {0};
    desk_open(&d, RV_OPTIONS({"max.partition.fetch.bytes", "500"}));
    topic_make(&d, "t", PARTITIONS, NULL);
    for (int p = 0; p < PARTITIONS; p++) {
        for (int n = 0; n < EACH; n += 10) {
            feed_numbers(d.feeder, "t", p, CODEC_LZ4, n, 10);
        }
        all[p] = (struct rv_partition){.topic = "t", .partition = p, .offset = RV_START};
    }
    assert_int_equal(rv_assign(d.consumer, all, PARTITIONS, &d.error), RV_OK);
    int64_t until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    for (int total = 0; total < PARTITIONS * EACH;) {
        const struct rv_record *records;
        size_t count;
        assert_true(clock_mono_ms(&clock_real) < until);
        assert_int_equal(rv_poll(d.consumer, 1000, &records, &count, &d.error), RV_OK);
        for (size_t i = 0; i < count; i++, total++) {
            assert_int_equal(records[i].offset, got[records[i].partition]++);
        }
    }
    desk_close(&d);
}

/* ---- where it is read ---- */

static void an_offset_inside_of_a_batch_is_where_reading_begins(void **state)
{
    (void)state;
    struct desk d;
    desk_open(&d, NULL);
    topic_make(&d, "t", 1, NULL);
    feed_numbers(d.feeder, "t", 0, CODEC_GZIP, 0, 100);
    feed_numbers(d.feeder, "t", 0, CODEC_NONE, 100, 100);
    read_from(&d, "t", 0, 63);
    expect_numbers(&d, 63, 199);
    read_from(&d, "t", 0, 199);
    expect_numbers(&d, 199, 199);
    desk_close(&d);
}

static void seeking_goes_anywhere_and_drops_what_was_fetched(void **state)
{
    (void)state;
    struct desk d;
    desk_open(&d, RV_OPTIONS({"max.poll.records", "5"}));
    topic_make(&d, "t", 1, NULL);
    for (int n = 0; n < 100; n += 10) {
        feed_numbers(d.feeder, "t", 0, CODEC_SNAPPY, n, 10);
    }
    read_from(&d, "t", 0, 50);
    expect_numbers(&d, 50, 54);
    assert_int_equal(rv_seek(d.consumer, "t", 0, 7, &d.error), RV_OK);
    assert_int_equal(position(&d), 7);
    expect_numbers(&d, 7, 11);
    assert_int_equal(rv_seek(d.consumer, "t", 0, RV_START, &d.error), RV_OK);
    expect_numbers(&d, 0, 4);
    assert_int_equal(rv_seek_time(d.consumer, "t", 0, 1000095, &d.error), RV_OK);
    expect_numbers(&d, 95, 99);
    assert_int_equal(rv_seek(d.consumer, "t", 0, 12, &d.error), RV_OK);
    assert_int_equal(rv_seek(d.consumer, "t", 0, RV_END, &d.error), RV_OK);
    poll_until(&d, RV_CAUGHT_UP, d.events[RV_CAUGHT_UP] + 1);
    assert_int_equal(position(&d), 100);
    feed_numbers(d.feeder, "t", 0, CODEC_NONE, 100, 1);
    expect_numbers(&d, 100, 100);
    assert_int_equal(rv_seek_time(d.consumer, "t", 0, 5000000, &d.error), RV_OK);
    feed_numbers(d.feeder, "t", 0, CODEC_NONE, 101, 1);
    desk_close(&d);
}

static void a_time_after_everything_is_the_end(void **state)
{
    (void)state;
    struct desk d;
    desk_open(&d, NULL);
    topic_make(&d, "t", 1, NULL);
    feed_numbers(d.feeder, "t", 0, CODEC_NONE, 0, 10);
    read_from(&d, "t", 0, RV_START);
    assert_int_equal(rv_seek_time(d.consumer, "t", 0, 5000000, &d.error), RV_OK);
    poll_until(&d, RV_CAUGHT_UP, 1);
    assert_int_equal(position(&d), 10);
    feed_numbers(d.feeder, "t", 0, CODEC_NONE, 10, 3);
    expect_numbers(&d, 10, 12);
    desk_close(&d);
}

static void what_is_not_assigned_or_makes_no_sense_is_refused(void **state)
{
    (void)state;
    struct desk d;
    desk_open(&d, RV_OPTIONS({"group.id", "g"}));
    topic_make(&d, "t", 1, NULL);
    const struct rv_partition below = {.topic = "t", .partition = -1};
    const struct rv_partition nowhere = {.topic = "t", .offset = -4};
    const char *topics[] = {"t"};
    assert_int_equal(rv_assign(d.consumer, &below, 1, &d.error), RV_E_ARGUMENT);
    assert_int_equal(rv_assign(d.consumer, &nowhere, 1, &d.error), RV_E_ARGUMENT);
    assert_int_equal(rv_seek(d.consumer, "t", 0, 0, &d.error), RV_E_ABSENT);
    assert_int_equal(rv_pause(d.consumer, "t", 0, true, &d.error), RV_E_ABSENT);
    read_from(&d, "t", 0, RV_START);
    assert_int_equal(rv_seek(d.consumer, "t", 0, -4, &d.error), RV_E_ARGUMENT);
    assert_int_equal(rv_seek_time(d.consumer, "t", 0, -1, &d.error), RV_E_ARGUMENT);
    assert_int_equal(rv_subscribe(d.consumer, topics, 1, &d.error), RV_E_STATE);
    assert_int_equal(rv_lag(d.consumer, "t", 1), -1);
    assert_int_equal(rv_lag(d.consumer, "other", 0), -1);
    struct rv_consumer *other;
    assert_int_equal(
        rv_consumer_open(d.client, RV_OPTIONS({"delivery", "at-least-once"}), &other, &d.error),
        RV_E_OPTION);
    assert_int_equal(rv_consumer_open(d.client,
                                      RV_OPTIONS({"partition.assignment.strategy", "sticky"}),
                                      &other, &d.error),
                     RV_E_OPTION);
    assert_int_equal(rv_consumer_open(d.client, RV_OPTIONS({"heartbeat.interval.ms", "45000"}),
                                      &other, &d.error),
                     RV_E_OPTION);
    desk_close(&d);
}

static void paused_partitions_are_kept_and_not_read(void **state)
{
    (void)state;
    struct desk d;
    desk_open(&d, RV_OPTIONS({"max.poll.records", "3"}));
    topic_make(&d, "t", 2, NULL);
    feed_numbers(d.feeder, "t", 0, CODEC_LZ4, 0, 20);
    feed_numbers(d.feeder, "t", 1, CODEC_LZ4, 100, 20);
    const struct rv_partition both[] = {
        {.topic = "t", .partition = 0, .offset = RV_START},
        {.topic = "t", .partition = 1, .offset = RV_START},
    };
    assert_int_equal(rv_assign(d.consumer, both, 2, &d.error), RV_OK);
    assert_int_equal(rv_pause(d.consumer, "t", 1, true, &d.error), RV_OK);
    expect_numbers(&d, 0, 2);
    assert_int_equal(rv_pause(d.consumer, "t", 0, true, &d.error), RV_OK); /* in mid batch */
    assert_int_equal(rv_pause(d.consumer, "t", 1, false, &d.error), RV_OK);
    expect_numbers(&d, 100, 119);
    assert_int_equal(rv_pause(d.consumer, "t", 0, false, &d.error), RV_OK);
    expect_numbers(&d, 3, 19);
    desk_close(&d);
}

/* ---- ends ---- */

static void an_empty_topic_is_caught_up_and_gives_what_comes(void **state)
{
    (void)state;
    struct desk d;
    desk_open(&d, NULL);
    topic_make(&d, "t", 1, NULL);
    read_from(&d, "t", 0, RV_START);
    poll_until(&d, RV_CAUGHT_UP, 1);
    assert_int_equal(rv_lag(d.consumer, "t", 0), 0);
    feed_numbers(d.feeder, "t", 0, CODEC_NONE, 0, 3);
    expect_numbers(&d, 0, 2);
    desk_close(&d);
}

static void lag_and_events_tell_how_far_behind_we_are(void **state)
{
    (void)state;
    struct desk d;
    desk_open(&d, RV_OPTIONS({"max.poll.records", "10"}, {"max.partition.fetch.bytes", "1"}));
    topic_make(&d, "t", 1, NULL);
    feed_numbers(d.feeder, "t", 0, CODEC_NONE, 0, 25);
    read_from(&d, "t", 0, RV_START);
    assert_int_equal(rv_lag(d.consumer, "t", 0), -1);
    expect_numbers(&d, 0, 9);
    assert_int_equal(rv_lag(d.consumer, "t", 0), 15);
    expect_numbers(&d, 10, 24);
    assert_int_equal(rv_lag(d.consumer, "t", 0), 0);
    assert_int_equal(d.events[RV_CAUGHT_UP], 0); /* the last records may be worked on still */
    poll_until(&d, RV_CAUGHT_UP, 1);
    feed_numbers(d.feeder, "t", 0, CODEC_NONE, 25, 5); /* one poll's worth: not worth telling */
    expect_numbers(&d, 25, 29);
    assert_int_equal(d.events[RV_FELL_BEHIND], 0);
    feed_numbers(d.feeder, "t", 0, CODEC_NONE, 30, 50);
    expect_numbers(&d, 30, 79);
    assert_int_equal(d.events[RV_FELL_BEHIND], 1);
    assert_int_equal(d.events[RV_CAUGHT_UP], 1);
    poll_until(&d, RV_CAUGHT_UP, 2);
    desk_close(&d);
}

static void an_offset_that_is_not_there_is_a_jump_that_is_told(void **state)
{
    (void)state;
    struct desk d;
    desk_open(&d, RV_OPTIONS({"auto.offset.reset", "earliest"}));
    topic_make(&d, "t", 1, NULL);
    feed_numbers(d.feeder, "t", 0, CODEC_NONE, 0, 10);
    read_from(&d, "t", 0, 5000);
    poll_until(&d, RV_JUMPED, 1);
    assert_int_equal(d.from, 5000);
    assert_int_equal(d.to, 0);
    assert_non_null(strstr(d.text, "topic t partition 0"));
    desk_close(&d);
}

static void a_jump_is_told_before_the_records_behind_it(void **state)
{
    (void)state;
    struct desk d;
    desk_open(&d, RV_OPTIONS({"auto.offset.reset", "earliest"}));
    topic_make(&d, "t", 1, NULL);
    feed_numbers(d.feeder, "t", 0, CODEC_NONE, 0, 10);
    read_from(&d, "t", 0, 5000);
    const struct rv_record *records;
    size_t count = 0;
    while (count == 0) {
        assert_int_equal(rv_poll(d.consumer, 1000, &records, &count, &d.error), RV_OK);
    }
    assert_int_equal(d.events[RV_JUMPED], 1);
    assert_int_equal(records[0].offset, 0);
    desk_close(&d);
}

/* The epoch that the broker gives to records now. 0 is as good as none in a struct rv_partition; a
 * broker that begins there raises it when it is started again. */
static int32_t epoch_now(struct desk *d)
{
    int32_t epoch = 0;
    for (int i = 0; i < 3 && epoch == 0; i++) {
        struct rv_topics *t;
        if (i > 0) {
            local_home_restart(d->broker);
        }
        assert_int_equal(rv_topic_describe(d->feeder, "t", PATIENCE_MS, &t, &d->error), RV_OK);
        epoch = t->items[0].partitions[0].leader_epoch;
        rv_free(t);
    }
    assert_true(epoch > 0);
    return epoch;
}

static void a_log_that_was_cut_off_is_read_on_from_its_end(void **state)
{
    (void)state;
    struct desk d;
    desk_open(&d, RV_OPTIONS({"auto.offset.reset", "earliest"}));
    topic_make(&d, "t", 1, NULL);
    feed_numbers(d.feeder, "t", 0, CODEC_NONE, 0, 10);
    /* As if records up to 50 had been read in this epoch, and those from 10 on were lost since. */
    struct rv_partition p = {
        .topic = "t", .partition = 0, .offset = 50, .leader_epoch = epoch_now(&d)};
    assert_int_equal(rv_assign(d.consumer, &p, 1, &d.error), RV_OK);
    poll_until(&d, RV_JUMPED, 1);
    assert_int_equal(d.from, 50);
    assert_int_equal(d.to, 10); /* not where auto.offset.reset says: nothing is read twice */
    assert_non_null(strstr(d.text, "cut off"));
    feed_numbers(d.feeder, "t", 0, CODEC_NONE, 10, 5);
    expect_numbers(&d, 10, 14);
    local_home_restart(d.broker); /* an older epoch that ended behind the position is fine */
    p.offset = 12;
    assert_int_equal(rv_assign(d.consumer, &p, 1, &d.error), RV_OK);
    expect_numbers(&d, 12, 14);
    assert_int_equal(d.events[RV_JUMPED], 1);
    desk_close(&d);
}

static void a_cut_log_is_an_error_where_jumps_are_not_wanted(void **state)
{
    (void)state;
    struct desk d;
    desk_open(&d, RV_OPTIONS({"auto.offset.reset", "none"}));
    topic_make(&d, "t", 1, NULL);
    feed_numbers(d.feeder, "t", 0, CODEC_NONE, 0, 10);
    const struct rv_partition p = {
        .topic = "t", .partition = 0, .offset = 50, .leader_epoch = epoch_now(&d)};
    assert_int_equal(rv_assign(d.consumer, &p, 1, &d.error), RV_OK);
    assert_int_equal(poll_error(&d), RV_E_NO_OFFSET);
    desk_close(&d);
}

static void the_epoch_that_was_committed_tells_of_a_log_that_was_cut_off(void **state)
{
    (void)state;
    struct desk d;
    desk_open(&d, RV_OPTIONS({"auto.offset.reset", "earliest"}, {"group.id", "g"}));
    topic_make(&d, "t", 1, NULL);
    feed_numbers(d.feeder, "t", 0, CODEC_NONE, 0, 10);
    struct rv_partition p = {
        .topic = "t", .partition = 0, .offset = 50, .leader_epoch = epoch_now(&d)};
    assert_int_equal(rv_commit(d.consumer, &p, 1, &d.error), RV_OK);
    read_from(&d, "t", 0, RV_COMMITTED);
    poll_until(&d, RV_JUMPED, 1);
    assert_int_equal(d.from, 50);
    assert_int_equal(d.to, 10);
    assert_non_null(strstr(d.text, "cut off"));
    /* Without an epoch nobody can tell more than that the offset is not there. */
    p.leader_epoch = -1;
    assert_int_equal(rv_commit(d.consumer, &p, 1, &d.error), RV_OK);
    read_from(&d, "t", 0, RV_COMMITTED);
    poll_until(&d, RV_JUMPED, 2);
    assert_int_equal(d.to, 0);
    desk_close(&d);
}

static void without_a_reset_a_missing_offset_is_an_error_once_and_a_seek_mends_it(void **state)
{
    (void)state;
    struct desk d;
    desk_open(&d, RV_OPTIONS({"auto.offset.reset", "none"}));
    topic_make(&d, "t", 2, NULL);
    feed_numbers(d.feeder, "t", 0, CODEC_NONE, 0, 10);
    feed_numbers(d.feeder, "t", 1, CODEC_NONE, 0, 10);
    const struct rv_partition both[] = {
        {.topic = "t", .partition = 0, .offset = 77    },
        {.topic = "t", .partition = 1, .offset = RV_END},
    };
    assert_int_equal(rv_assign(d.consumer, both, 2, &d.error), RV_OK);
    assert_int_equal(poll_error(&d), RV_E_NO_OFFSET);
    assert_non_null(strstr(d.error.text, "topic t partition 0 at offset 77"));
    feed_numbers(d.feeder, "t", 1, CODEC_NONE, 10, 5); /* the other one goes on */
    expect_numbers(&d, 10, 14);
    assert_int_equal(d.events[RV_JUMPED], 0);
    assert_int_equal(rv_seek(d.consumer, "t", 0, 3, &d.error), RV_OK);
    expect_numbers(&d, 3, 9);
    desk_close(&d);
}

static void a_topic_made_again_is_a_jump_not_a_mixture(void **state)
{
    (void)state;
    struct desk d;
    desk_open(&d, RV_OPTIONS({"auto.offset.reset", "earliest"}));
    topic_make(&d, "t", 1, NULL);
    feed_numbers(d.feeder, "t", 0, CODEC_NONE, 0, 10);
    read_from(&d, "t", 0, RV_START);
    expect_numbers(&d, 0, 9);
    assert_int_equal(rv_topic_delete(d.feeder, "t", PATIENCE_MS, &d.error), RV_OK);
    topic_make(&d, "t", 1, NULL);
    feed_numbers(d.feeder, "t", 0, CODEC_NONE, 500, 30);
    expect_numbers(&d, 500, 529);
    assert_int_equal(d.events[RV_JUMPED], 1);
    assert_int_equal(d.from, 10);
    assert_int_equal(d.to, 0);
    desk_close(&d);
}

static void a_partition_that_is_not_there_is_told_once_and_read_when_it_is(void **state)
{
    (void)state;
    struct desk d;
    desk_open(&d, RV_OPTIONS({"auto.offset.reset", "earliest"}));
    read_from(&d, "later", 0, RV_START);
    assert_int_equal(poll_error(&d), 3 /* UNKNOWN_TOPIC_OR_PARTITION */);
    assert_true(d.error.flags & RV_RETRIABLE);
    topic_make(&d, "later", 1, NULL);
    feed_numbers(d.feeder, "later", 0, CODEC_NONE, 0, 4);
    expect_numbers(&d, 0, 3);
    desk_close(&d);
}

/* ---- a broker that comes and goes ---- */

static void a_restarted_broker_is_read_on_from_the_same_place(void **state)
{
    (void)state;
    struct desk d;
    desk_open(&d, RV_OPTIONS({"max.poll.records", "10"}));
    topic_make(&d, "t", 1, NULL);
    feed_numbers(d.feeder, "t", 0, CODEC_ZSTD, 0, 100);
    read_from(&d, "t", 0, RV_START);
    expect_numbers(&d, 0, 29);
    for (int n = 100; n < 400; n += 100) {
        local_home_restart(d.broker);
        feed_numbers(d.feeder, "t", 0, CODEC_NONE, n, 100);
        expect_numbers(&d, n - 70, n + 29);
    }
    expect_numbers(&d, 330, 399);
    assert_int_equal(d.events[RV_JUMPED], 0);
    desk_close(&d);
}

static void polling_while_the_broker_is_away_is_no_error(void **state)
{
    (void)state;
    struct desk d;
    const struct rv_record *records;
    size_t count;
    desk_open(&d, NULL);
    topic_make(&d, "t", 1, NULL);
    feed_numbers(d.feeder, "t", 0, CODEC_NONE, 0, 5);
    read_from(&d, "t", 0, RV_START);
    expect_numbers(&d, 0, 4);
    local_home_stop(d.broker);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(rv_poll(d.consumer, 20, &records, &count, &d.error), RV_OK);
        assert_int_equal(count, 0);
    }
    local_home_restart(d.broker);
    feed_numbers(d.feeder, "t", 0, CODEC_NONE, 5, 5);
    expect_numbers(&d, 5, 9);
    desk_close(&d);
}

static void a_poll_that_may_not_wait_gives_what_is_there(void **state)
{
    (void)state;
    struct desk d;
    const struct rv_record *records;
    size_t count = 0;
    desk_open(&d, NULL);
    topic_make(&d, "t", 1, NULL);
    feed_numbers(d.feeder, "t", 0, CODEC_NONE, 0, 5);
    read_from(&d, "t", 0, RV_START);
    assert_int_equal(rv_poll(d.consumer, 0, &records, &count, &d.error), RV_OK);
    assert_int_equal(count, 0);
    int64_t until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    while (count == 0 && clock_mono_ms(&clock_real) < until) { /* one's own loop */
        assert_int_equal(rv_wait(d.client, 100, &d.error), RV_OK);
        assert_int_equal(rv_poll(d.consumer, 0, &records, &count, &d.error), RV_OK);
    }
    assert_int_equal(count, 5);
    desk_close(&d);
}

static void records_stay_good_until_the_next_poll(void **state)
{
    (void)state;
    struct desk d;
    desk_open(&d, RV_OPTIONS({"max.poll.records", "1000"}));
    topic_make(&d, "t", 1, NULL);
    for (int codec = 0; codec < CODEC_COUNT; codec++) {
        feed_numbers(d.feeder, "t", 0, (enum codec)codec, codec * 10, 10);
    }
    read_from(&d, "t", 0, RV_START);
    const struct rv_record *records;
    size_t count = 0;
    while (count == 0) {
        assert_int_equal(rv_poll(d.consumer, 1000, &records, &count, &d.error), RV_OK);
    }
    /* Their chunks are dropped, more is fetched, the assignment goes: they are still there. */
    assert_int_equal(rv_seek(d.consumer, "t", 0, 3, &d.error), RV_OK);
    assert_int_equal(rv_wait(d.client, 200, &d.error), RV_OK);
    assert_int_equal(rv_assign(d.consumer, NULL, 0, &d.error), RV_OK);
    for (size_t i = 0; i < count; i++) {
        char text[24];
        snprintf(text, sizeof text, "%zu", i);
        assert_bytes(records[i].value, text);
    }
    desk_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_values_headers_and_nulls_come_as_they_were_sent),
        cmocka_unit_test(batches_of_every_codec_are_read_in_order),
        cmocka_unit_test(small_fetches_lose_and_repeat_nothing),
        cmocka_unit_test(all_partitions_are_read),
        cmocka_unit_test(an_offset_inside_of_a_batch_is_where_reading_begins),
        cmocka_unit_test(seeking_goes_anywhere_and_drops_what_was_fetched),
        cmocka_unit_test(a_time_after_everything_is_the_end),
        cmocka_unit_test(what_is_not_assigned_or_makes_no_sense_is_refused),
        cmocka_unit_test(paused_partitions_are_kept_and_not_read),
        cmocka_unit_test(an_empty_topic_is_caught_up_and_gives_what_comes),
        cmocka_unit_test(lag_and_events_tell_how_far_behind_we_are),
        cmocka_unit_test(an_offset_that_is_not_there_is_a_jump_that_is_told),
        cmocka_unit_test(a_jump_is_told_before_the_records_behind_it),
        cmocka_unit_test(a_log_that_was_cut_off_is_read_on_from_its_end),
        cmocka_unit_test(a_cut_log_is_an_error_where_jumps_are_not_wanted),
        cmocka_unit_test(the_epoch_that_was_committed_tells_of_a_log_that_was_cut_off),
        cmocka_unit_test(without_a_reset_a_missing_offset_is_an_error_once_and_a_seek_mends_it),
        cmocka_unit_test(a_topic_made_again_is_a_jump_not_a_mixture),
        cmocka_unit_test(a_partition_that_is_not_there_is_told_once_and_read_when_it_is),
        cmocka_unit_test(a_restarted_broker_is_read_on_from_the_same_place),
        cmocka_unit_test(polling_while_the_broker_is_away_is_no_error),
        cmocka_unit_test(a_poll_that_may_not_wait_gives_what_is_there),
        cmocka_unit_test(records_stay_good_until_the_next_poll),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

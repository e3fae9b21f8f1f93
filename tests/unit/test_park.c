/* Retry and park against a broker in a process of its own, so that handlers can be forked and
 * killed. */
#include "base/clock.h"
#include "client/park/park.h"
#include "protocol/error.h"
#include "tests/kit/child_home.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATIENCE_MS = 30000, RECORDS = 24, PARTITIONS = 2 };

/* ---- every step of a handler: a message to the broker. At the one with this number it is killed.
 */

static int steps_left = -1; /* -1: never */

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
    if (steps_left >= 0 && steps_left-- == 0) {
        raise(SIGKILL);
    }
    return syscall(SYS_sendmsg, fd, m, flags);
}

ssize_t send(int fd, const void *p, size_t size, int flags)
{
    if (steps_left >= 0 && steps_left-- == 0) {
        raise(SIGKILL);
    }
    return syscall(SYS_sendto, fd, p, size, flags, NULL, 0);
}

/* ---- topics and clients ---- */

static void must(int code, const struct rv_error *e)
{
    if (code != RV_OK) {
        fail_msg("%s: %s", rv_error_name(code), e->text);
    }
}

static struct rv_client *client_open(const struct child_home *broker)
{
    struct rv_client *client;
    struct rv_error e;
    must(rv_client_open(RV_OPTIONS({"bootstrap.servers", broker->address},
                                   {"retry.backoff.ms", "5"}, {"retry.backoff.max.ms", "50"}),
                        &client, &e),
         &e);
    return client;
}

/* Deletes what tests before it left, and makes it. */
static void topic_make(struct rv_client *client, const char *topic)
{
    struct rv_error e;
    struct rv_topics *all;
    must(rv_topic_list(client, PATIENCE_MS, &all, &e), &e);
    for (size_t i = 0; i < all->count; i++) {
        if (strncmp(all->items[i].name, topic, strlen(topic)) == 0) {
            must(rv_topic_delete(client, all->items[i].name, PATIENCE_MS, &e), &e);
        }
    }
    rv_free(all);
    int code;
    do {
        code = rv_topic_create(client, topic, PARTITIONS, NULL, PATIENCE_MS, &e);
    } while (code == KERR_TOPIC_ALREADY_EXISTS);
    must(code, &e);
}

/* Record i: key "k" and i, value i, a header of its own; in partition i % PARTITIONS. */
static void feed(struct rv_client *client, const char *topic, int count)
{
    struct rv_error e;
    struct rv_producer *p;
    must(rv_producer_open(client, NULL, &p, &e), &e);
    for (int i = 0; i < count; i++) {
        char key[16], value[16];
        snprintf(key, sizeof key, "k%d", i);
        snprintf(value, sizeof value, "%d", i);
        const struct rv_header header = {RV_STR("own"), RV_STR("header")};
        const struct rv_message m = {.topic = topic,
                                     .key = RV_STR(key),
                                     .value = RV_STR(value),
                                     .headers = &header,
                                     .header_count = 1,
                                     .to_partition = true,
                                     .partition = i % PARTITIONS};
        must(rv_send(p, &m, NULL, NULL, &e), &e);
    }
    must(rv_flush(p, PATIENCE_MS, &e), &e);
    rv_producer_close(p);
}

static int64_t records_in(struct rv_client *client, const char *topic)
{
    struct rv_error e;
    struct rv_topics *t;
    int64_t count = 0;
    must(rv_topic_describe(client, topic, PATIENCE_MS, &t, &e), &e);
    for (size_t i = 0; i < t->items[0].partition_count; i++) {
        count += t->items[0].partitions[i].end_offset - t->items[0].partitions[i].start_offset;
    }
    rv_free(t);
    return count;
}

static struct rv_park *park_open(struct rv_client *client, const char *group, const char *topic,
                                 const char *delays)
{
    struct rv_park *p;
    struct rv_error e;
    must(rv_park_open(client, group, &topic, 1,
                      RV_OPTIONS({"park.delays", delays}, {"fetch.max.wait.ms", "20"},
                                 {"max.block.ms", "300"}, {"delivery.timeout.ms", "5000"},
                                 {"heartbeat.interval.ms", "50"}, {"session.timeout.ms", "6000"},
                                 {"linger.ms", "0"}),
                      PATIENCE_MS, &p, &e),
         &e);
    return p;
}

static int number_of(const struct rv_record *r)
{
    char text[16];
    snprintf(text, sizeof text, "%.*s", (int)r->value.size, (const char *)r->value.ptr);
    return atoi(text);
}

static void assert_header(const struct rv_record *r, const char *name, const char *value)
{
    for (size_t i = 0; i < r->header_count; i++) {
        const struct rv_header *h = &r->headers[i];
        if (h->name.size == strlen(name) && memcmp(h->name.ptr, name, h->name.size) == 0) {
            assert_int_equal(h->value.size, strlen(value));
            assert_memory_equal(h->value.ptr, value, strlen(value));
            return;
        }
    }
    fail_msg("there is no header %s", name);
}

/* All records of a topic are handed to `fn`. */
static void read_topic(struct rv_client *client, const char *topic,
                       void (*fn)(void *ctx, const struct rv_record *r), void *ctx)
{
    struct rv_error e;
    struct rv_consumer *c;
    struct rv_partition parts[PARTITIONS];
    for (int i = 0; i < PARTITIONS; i++) {
        parts[i] = (struct rv_partition){.topic = topic, .partition = i, .offset = RV_START};
    }
    must(rv_consumer_open(client, NULL, &c, &e), &e);
    must(rv_assign(c, parts, PARTITIONS, &e), &e);
    for (int64_t left = records_in(client, topic); left > 0;) {
        const struct rv_record *records;
        size_t count;
        must(rv_poll(c, 1000, &records, &count, &e), &e);
        for (size_t i = 0; i < count; i++) {
            fn(ctx, &records[i]);
        }
        left -= (int64_t)count;
    }
    must(rv_consumer_close(c, 0, &e), &e);
}

/* ---- names and delays ---- */

static void names_and_delays_are_what_they_say(void **state)
{
    char name[RV_PARK_NAME_SIZE], longest[RV_PARK_NAME_SIZE];
    int64_t ms[PARK_DELAYS_MAX];
    (void)state;
    assert_true(rv_park_topic("users", "billing", 2, name));
    assert_string_equal(name, "users.billing.retry.2");
    assert_true(rv_park_topic("users", "billing", 0, name));
    assert_string_equal(name, "users.billing.parked");
    assert_false(rv_park_topic("users", "", 0, name));
    assert_false(rv_park_topic("users", "a b", 0, name));
    memset(longest, 'x', sizeof longest - 1);
    longest[249 - strlen(".g.parked")] = 0;
    assert_true(rv_park_topic(longest, "g", 0, name));
    assert_int_equal(strlen(name), 249);
    assert_false(rv_park_topic(longest, "gg", 0, name));
    assert_int_equal(park_delays("5ms,1s,2m,3h,4d", ms), 5);
    assert_int_equal(ms[0], 5);
    assert_int_equal(ms[1], 1000);
    assert_int_equal(ms[2], 120000);
    assert_int_equal(ms[3], 10800000);
    assert_int_equal(ms[4], 345600000);
    const char *bad[] = {"",
                         ",",
                         "1",
                         "s",
                         "1s,",
                         "-1s",
                         "1s 2s",
                         "99999999999999999999s",
                         "9223372036854775807d",
                         "1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(park_delays(bad[i], ms), 0);
    }
}

/* ---- the way of a record ---- */

struct way {
    int given[RECORDS]; /* times */
    int tries[RECORDS]; /* of the last time */
    int handled[RECORDS];
    int order[RECORDS * 8], count; /* as they were given the first time */
};

/* Polls until `done` records were handled or failed for the last time; `fails(i, tries)`. */
static void work(struct rv_park *p, struct way *w, bool (*fails)(int i, int tries), int last_tries,
                 int done)
{
    struct rv_error e;
    int64_t until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    while (done > 0) {
        const struct rv_park_record *records;
        size_t count;
        must(rv_park_poll(p, 1000, &records, &count, &e), &e);
        for (size_t n = 0; n < count; n++) {
            const struct rv_park_record *r = &records[n];
            int i = number_of(&r->record);
            assert_in_range(i, 0, RECORDS - 1);
            assert_int_equal(r->tries, w->given[i]);
            assert_int_equal(r->origin_partition, i % PARTITIONS);
            assert_int_equal(r->origin_offset, i / PARTITIONS);
            w->given[i]++;
            w->tries[i] = r->tries;
            if (r->tries == 0) {
                w->order[w->count++] = i;
            }
            if (fails(i, r->tries)) {
                must(rv_park_failed(p, r, "it is bad", &e), &e);
                done -= r->tries == last_tries;
            } else {
                w->handled[i]++;
                done--;
            }
        }
        must(rv_park_commit(p, PATIENCE_MS, &e), &e);
        assert_true(clock_mono_ms(&clock_real) < until);
    }
}

static bool every_fourth(int i, int tries)
{
    (void)tries;
    return i % 4 == 1;
}

struct parked {
    int count;
    int64_t t0; /* wall time before it began */
};

static void parked_check(void *ctx, const struct rv_record *r)
{
    struct parked *x = ctx;
    char text[24];
    int i = number_of(r);
    assert_int_equal(i % 4, 1);
    assert_header(r, "own", "header");
    assert_header(r, "__dlq.errors.topic", "way");
    snprintf(text, sizeof text, "%d", i % PARTITIONS);
    assert_header(r, "__dlq.errors.partition", text);
    snprintf(text, sizeof text, "%d", i / PARTITIONS);
    assert_header(r, "__dlq.errors.offset", text);
    assert_header(r, "__dlq.errors.group", "way-g");
    assert_header(r, "__dlq.errors.delivery.count", "3");
    assert_header(r, "__dlq.errors.message", "it is bad");
    assert_int_equal(r->header_count, 1 + PARK_HEADERS);
    snprintf(text, sizeof text, "k%d", i);
    assert_int_equal(r->key.size, strlen(text));
    assert_memory_equal(r->key.ptr, text, strlen(text));
    assert_true(r->timestamp_ms >= x->t0 + 50 + 120); /* both delays were kept */
    x->count++;
}

static void what_fails_is_tried_again_and_then_parked(void **state)
{
    struct rv_error e;
    struct rv_park_stats stats;
    struct way w = {0};
    struct rv_client *client = client_open(*state);
    topic_make(client, "way");
    feed(client, "way", RECORDS);
    struct parked parked = {.t0 = clock_wall_ms(&clock_real)};
    struct rv_park *p = park_open(client, "way-g", "way", "50ms,120ms");
    work(p, &w, every_fourth, 2, RECORDS);
    for (int i = 0; i < RECORDS; i++) {
        assert_int_equal(w.given[i], i % 4 == 1 ? 3 : 1);
        assert_int_equal(w.handled[i], i % 4 != 1);
    }
    for (int part = 0; part < PARTITIONS; part++) { /* the partition went on, in its order */
        for (int n = 0, next = part; n < w.count; n++) {
            if (w.order[n] % PARTITIONS == part) {
                assert_int_equal(w.order[n], next);
                next += PARTITIONS;
            }
        }
    }
    rv_park_stats(p, &stats);
    assert_int_equal(stats.parked, RECORDS / 4);
    assert_int_equal(stats.retried, 2 * RECORDS / 4);
    assert_int_equal(stats.pending, 0);
    assert_int_equal(stats.foreign, 0);
    must(rv_park_close(p, PATIENCE_MS, &e), &e);
    read_topic(client, "way.way-g.parked", parked_check, &parked);
    assert_int_equal(parked.count, RECORDS / 4);
    rv_client_close(client);
}

static bool the_first_time(int i, int tries)
{
    return i % 2 == 0 && tries == 0;
}

static bool never(int i, int tries)
{
    (void)i;
    (void)tries;
    return false;
}

/* Another group of the topic sees each record once, and nothing of the first group's trouble. */
static void another_group_sees_nothing_of_it(void **state)
{
    struct rv_error e;
    struct way w = {0}, other = {0};
    struct rv_client *client = client_open(*state);
    topic_make(client, "two");
    feed(client, "two", RECORDS);
    struct rv_park *p = park_open(client, "g1", "two", "20ms");
    work(p, &w, the_first_time, 5, RECORDS);
    struct rv_park *q = park_open(client, "g2", "two", "20ms");
    work(q, &other, never, 5, RECORDS);
    const struct rv_park_record *records;
    size_t count;
    must(rv_park_poll(q, 200, &records, &count, &e), &e);
    assert_int_equal(count, 0);
    assert_int_equal(records_in(client, "two"), RECORDS);
    assert_int_equal(records_in(client, "two.g2.retry.1"), 0);
    assert_int_equal(records_in(client, "two.g1.retry.1"), RECORDS / 2);
    for (int i = 0; i < RECORDS; i++) {
        assert_int_equal(w.given[i], i % 2 == 0 ? 2 : 1);
        assert_int_equal(other.given[i], 1);
    }
    must(rv_park_close(p, PATIENCE_MS, &e), &e);
    must(rv_park_close(q, PATIENCE_MS, &e), &e);
    rv_client_close(client);
}

/* Records that another group or somebody else put into a retry topic are passed over. */
static void what_is_not_ours_is_passed_over(void **state)
{
    struct rv_error e;
    struct rv_park *p, *q;
    struct rv_park_stats stats;
    struct way w = {0};
    const char *topic = "mine";
    const struct rv_park_record *records;
    struct rv_client *client = client_open(*state);
    topic_make(client, topic);
    feed(client, topic, RECORDS);
    const struct rv_option *options = RV_OPTIONS({"park.delays", "20ms"}, {"park.name", "g"},
                                                 {"fetch.max.wait.ms", "20"}, {"linger.ms", "0"});
    must(rv_park_open(client, "h", &topic, 1, options, PATIENCE_MS, &q, &e), &e);
    for (size_t count = 0, total = 0; total < RECORDS; total += count) { /* all fail there */
        must(rv_park_poll(q, 1000, &records, &count, &e), &e);
        for (size_t n = 0; n < count; n++) {
            must(rv_park_failed(q, &records[n], "of another group", &e), &e);
        }
        must(rv_park_commit(q, PATIENCE_MS, &e), &e);
    }
    must(rv_park_close(q, PATIENCE_MS, &e), &e);
    feed(client, "mine.g.retry.1", 3); /* without headers */
    must(rv_park_open(client, "g", &topic, 1, options, PATIENCE_MS, &p, &e), &e);
    work(p, &w, the_first_time, 5, RECORDS);
    rv_park_stats(p, &stats);
    assert_int_equal(stats.foreign, RECORDS + 3);
    must(rv_park_close(p, PATIENCE_MS, &e), &e);
    rv_client_close(client);
}

/* ---- what cannot be stored ---- */

static int64_t committed(struct rv_client *client, const char *group, const char *topic,
                         int32_t partition)
{
    struct rv_error e;
    struct rv_group *g;
    int64_t offset = -1;
    must(rv_group_describe(client, group, PATIENCE_MS, &g, &e), &e);
    for (size_t i = 0; i < g->partition_count; i++) {
        if (strcmp(g->partitions[i].topic, topic) == 0 && g->partitions[i].partition == partition) {
            offset = g->partitions[i].committed_offset;
        }
    }
    rv_free(g);
    return offset;
}

/* The retry topic does not take the record: it is never committed past it, and it comes again. */
static void nothing_is_committed_past_what_was_not_stored(void **state)
{
    struct rv_error e;
    struct rv_park_stats stats;
    struct rv_client *client = client_open(*state);
    topic_make(client, "stuck");
    feed(client, "stuck", RECORDS);
    must(rv_topic_create(client, "stuck.g.retry.1", PARTITIONS,
                         RV_OPTIONS({"max.message.bytes", "100"}), PATIENCE_MS, &e),
         &e);
    struct rv_park *p = park_open(client, "g", "stuck", "20ms");
    int given = 0, refused = 0;
    int64_t until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    while (given < 3 || refused < 3) {
        const struct rv_park_record *records;
        size_t count;
        bool failed = false;
        must(rv_park_poll(p, 1000, &records, &count, &e), &e);
        for (size_t n = 0; n < count; n++) {
            if (number_of(&records[n].record) == 5) { /* offset 2 of partition 1 */
                must(rv_park_failed(p, &records[n], "too large there", &e), &e);
                given++;
                failed = true;
            }
        }
        int code = rv_park_commit(p, PATIENCE_MS, &e);
        if (failed) {
            assert_int_equal(code, KERR_MESSAGE_TOO_LARGE);
            assert_true(e.flags & RV_RETRIABLE);
            refused++;
        } else {
            must(code, &e);
        }
        assert_true(committed(client, "g", "stuck", 1) <= 2);
        assert_true(clock_mono_ms(&clock_real) < until);
    }
    assert_int_equal(committed(client, "g", "stuck", 1), 2);
    rv_park_stats(p, &stats);
    assert_true(stats.rewound >= 3);
    must(rv_config_set(client, RV_TOPIC, "stuck.g.retry.1",
                       RV_OPTIONS({"max.message.bytes", "9999"}), PATIENCE_MS, &e),
         &e);
    for (bool again = false; !again;) { /* now it does: with its origin */
        const struct rv_park_record *records;
        size_t count;
        must(rv_park_poll(p, 1000, &records, &count, &e), &e);
        for (size_t n = 0; n < count; n++) {
            bool it = number_of(&records[n].record) == 5;
            again |= it && records[n].tries == 1 && records[n].origin_offset == 2;
            if (it && records[n].tries == 0) {
                must(rv_park_failed(p, &records[n], "again", &e), &e);
            }
        }
        must(rv_park_commit(p, PATIENCE_MS, &e), &e);
        assert_true(clock_mono_ms(&clock_real) < until);
    }
    assert_int_equal(committed(client, "g", "stuck", 1), RECORDS / PARTITIONS);
    must(rv_park_close(p, PATIENCE_MS, &e), &e);
    rv_client_close(client);
}

/* The producer does not take it: the record, and all behind it, come again. */
static void a_refused_hand_over_comes_again(void **state)
{
    struct rv_error e;
    struct rv_client *client = client_open(*state);
    const char *topic = "large";
    char value[1000] = "1";
    topic_make(client, topic);
    feed(client, topic, 1);
    struct rv_producer *producer;
    const struct rv_message m = {
        .topic = topic, .value = {value, sizeof value},
             .to_partition = true, .partition = 1
    };
    must(rv_producer_open(client, NULL, &producer, &e), &e);
    must(rv_send(producer, &m, NULL, NULL, &e), &e);
    must(rv_flush(producer, PATIENCE_MS, &e), &e);
    rv_producer_close(producer);
    struct rv_park *p;
    must(rv_park_open(client, "g", &topic, 1, RV_OPTIONS({"max.request.size", "1100"}), PATIENCE_MS,
                      &p, &e),
         &e);
    int64_t until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    for (int given = 0; given < 3;) {
        const struct rv_park_record *records;
        size_t count;
        must(rv_park_poll(p, 1000, &records, &count, &e), &e);
        for (size_t n = 0; n < count; n++) {
            if (number_of(&records[n].record) == 1) {
                assert_int_equal(rv_park_failed(p, &records[n], NULL, &e), RV_E_TOO_LARGE);
                given++;
            }
        }
        must(rv_park_commit(p, PATIENCE_MS, &e), &e);
        assert_true(committed(client, "g", topic, 1) <= 0);
        assert_true(clock_mono_ms(&clock_real) < until);
    }
    must(rv_park_close(p, PATIENCE_MS, &e), &e);
    rv_client_close(client);
}

/* Closed without a commit: everything comes again. */
static void what_was_not_committed_comes_again(void **state)
{
    struct rv_error e;
    struct rv_client *client = client_open(*state);
    topic_make(client, "twice");
    feed(client, "twice", 4);
    for (int round = 0; round < 2; round++) {
        struct rv_park *p = park_open(client, "g", "twice", "20ms");
        const struct rv_park_record *records;
        for (size_t count = 0, total = 0; total < 4; total += count) {
            must(rv_park_poll(p, 1000, &records, &count, &e), &e);
        }
        must(rv_park_close(p, PATIENCE_MS, &e), &e);
    }
    rv_client_close(client);
}

static void options_that_make_no_sense_are_refused(void **state)
{
    struct rv_error e;
    struct rv_park *p;
    const char *topic = "way";
    struct rv_client *client = client_open(*state);
    assert_int_equal(
        rv_park_open(client, "g", &topic, 1, RV_OPTIONS({"park.delays", "soon"}), 1000, &p, &e),
        RV_E_OPTION);
    assert_int_equal(
        rv_park_open(client, "g", &topic, 1, RV_OPTIONS({"park.create", "maybe"}), 1000, &p, &e),
        RV_E_OPTION);
    assert_int_equal(
        rv_park_open(client, "g", &topic, 1, RV_OPTIONS({"park.what", "1"}), 1000, &p, &e),
        RV_E_OPTION);
    assert_int_equal(rv_park_open(client, "g h", &topic, 1, NULL, 1000, &p, &e), RV_E_ARGUMENT);
    assert_int_equal(rv_park_open(client, "g", &topic, 0, NULL, 1000, &p, &e), RV_E_ARGUMENT);
    topic = "nowhere";
    assert_int_equal(rv_park_open(client, "g", &topic, 1, NULL, 5000, &p, &e),
                     KERR_UNKNOWN_TOPIC_OR_PARTITION);
    rv_client_close(client);
}

/* ---- members come and go ---- */

static void a_partition_that_waits_may_move(void **state)
{
    struct rv_error e;
    struct rv_client *clients[2] = {client_open(*state), client_open(*state)};
    struct rv_park *parks[2] = {NULL, NULL};
    int handled[RECORDS] = {0}, left = RECORDS;
    topic_make(clients[0], "move");
    feed(clients[0], "move", RECORDS);
    parks[0] = park_open(clients[0], "g", "move", "300ms");
    int64_t until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    for (int turn = 0; left > 0; turn++) {
        for (int m = 0; m < 2; m++) {
            const struct rv_park_record *records;
            size_t count;
            if (!parks[m]) {
                continue;
            }
            must(rv_park_poll(parks[m], 20, &records, &count, &e), &e);
            for (size_t n = 0; n < count; n++) {
                int i = number_of(&records[n].record);
                if (records[n].tries == 0) {
                    must(rv_park_failed(parks[m], &records[n], "once", &e), &e);
                } else {
                    left -= handled[i]++ == 0;
                }
            }
            int code = rv_park_commit(parks[m], PATIENCE_MS, &e);
            assert_true(code == RV_OK || (e.flags & RV_REJOIN));
        }
        struct rv_park_stats stats;
        rv_park_stats(parks[0], &stats);
        if (!parks[1] && stats.held == PARTITIONS) {
            parks[1] = park_open(clients[1], "g", "move", "300ms");
        }
        assert_true(clock_mono_ms(&clock_real) < until);
    }
    assert_non_null(parks[1]);
    for (int m = 0; m < 2; m++) {
        must(rv_park_close(parks[m], PATIENCE_MS, &e), &e);
        rv_client_close(clients[m]);
    }
}

/* ---- kill -9 at every step ---- */

static bool is_bad(int i)
{
    return i % 6 == 1;
}

/* Handles what it can, tells of it through the pipe before it commits, until everything is done. */
static void handler_main(const struct child_home *broker, int tell, int kill_at)
{
    struct rv_error e;
    struct rv_client *client = client_open(broker);
    struct rv_park *p = park_open(client, "kill-g", "kill", "10ms,20ms");
    int idle = 0;
    steps_left = kill_at;
    while (idle < 12) {
        const struct rv_park_record *records;
        size_t count;
        if (rv_park_poll(p, 20, &records, &count, &e) != RV_OK) {
            fprintf(stderr, "handler: %s\n", e.text);
            _exit(1);
        }
        for (size_t n = 0; n < count; n++) {
            int i = number_of(&records[n].record);
            bool once = i % 6 == 2 && records[n].tries == 0;
            if (is_bad(i) || once) {
                if (rv_park_failed(p, &records[n], "bad", &e) != RV_OK) {
                    fprintf(stderr, "handler: %s\n", e.text);
                    _exit(1);
                }
            } else if (write(tell, &i, sizeof i) != sizeof i) {
                _exit(1);
            }
        }
        if (rv_park_commit(p, PATIENCE_MS, &e) != RV_OK && !(e.flags & RV_REJOIN)) {
            fprintf(stderr, "handler: %s\n", e.text);
            _exit(1);
        }
        const struct rv_partition *assigned;
        idle = count || rv_assignment(p->consumer, &assigned) == 0 ? 0 : idle + 1;
    }
    rv_park_close(p, PATIENCE_MS, &e);
    rv_client_close(client);
    _exit(0);
}

static void seen(void *ctx, const struct rv_record *r)
{
    ((int *)ctx)[number_of(r)]++;
}

/* The group's members that were killed are put out, or the next would wait for them. What one sent
 * in its last moment may arrive after the first question. */
static void members_remove(struct rv_client *client, const char *group)
{
    struct rv_error e;
    struct rv_group *g;
    for (size_t members = 1; members;) {
        must(rv_group_describe(client, group, PATIENCE_MS, &g, &e), &e);
        members = g->member_count;
        rv_free(g);
        if (members) {
            rv_group_remove_members(client, group, PATIENCE_MS, &e); /* some may be gone by then */
        }
    }
}

static void group_delete(struct rv_client *client, const char *group)
{
    struct rv_error e;
    int code;
    do {
        members_remove(client, group);
        code = rv_group_delete(client, group, PATIENCE_MS, &e);
    } while (code == KERR_NON_EMPTY_GROUP);
    if (code != KERR_GROUP_ID_NOT_FOUND) {
        must(code, &e);
    }
}

static void killed_at_any_step_no_record_is_lost(void **state)
{
    struct child_home *broker = *state;
    struct rv_client *client = client_open(broker);
    int kills = 0;
    for (int n = 0, ended = 0; !ended; n++) {
        int handled[RECORDS] = {0}, parked[RECORDS] = {0};
        topic_make(client, "kill");
        feed(client, "kill", RECORDS);
        for (int life = 0; life < 2; life++) { /* one that is killed, one that ends it */
            int fds[2], status, i;
            assert_int_equal(pipe(fds), 0);
            pid_t pid = fork();
            assert_true(pid >= 0);
            if (pid == 0) {
                close(fds[0]);
                handler_main(broker, fds[1], life == 0 ? n : -1);
            }
            close(fds[1]);
            while (read(fds[0], &i, sizeof i) == sizeof i) {
                handled[i]++;
            }
            close(fds[0]);
            assert_int_equal(waitpid(pid, &status, 0), pid);
            if (life == 0 && WIFEXITED(status)) {
                assert_int_equal(WEXITSTATUS(status), 0);
                ended = 1;
            } else if (life == 0) {
                assert_int_equal(WTERMSIG(status), SIGKILL);
                kills++;
            } else {
                assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
            }
            members_remove(client, "kill-g");
        }
        read_topic(client, "kill.kill-g.parked", seen, parked);
        for (int i = 0; i < RECORDS; i++) {
            if ((handled[i] > 0) == is_bad(i) || (parked[i] > 0) != is_bad(i)) {
                fail_msg("killed at step %d: record %d was handled %d times, parked %d times", n, i,
                         handled[i], parked[i]);
            }
        }
        group_delete(client, "kill-g");
    }
    printf("killed at each of %d steps\n", kills);
    assert_true(kills > 10);
    rv_client_close(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_delays_are_what_they_say),
        cmocka_unit_test(what_fails_is_tried_again_and_then_parked),
        cmocka_unit_test(another_group_sees_nothing_of_it),
        cmocka_unit_test(what_is_not_ours_is_passed_over),
        cmocka_unit_test(nothing_is_committed_past_what_was_not_stored),
        cmocka_unit_test(a_refused_hand_over_comes_again),
        cmocka_unit_test(what_was_not_committed_comes_again),
        cmocka_unit_test(options_that_make_no_sense_are_refused),
        cmocka_unit_test(a_partition_that_waits_may_move),
        cmocka_unit_test(killed_at_any_step_no_record_is_lost),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, child_home_start, child_home_stop);
}

/* The helper thread (rv_thread_start) and the lock, against a broker in this process behind a proxy
 * that counts requests. */
#include "base/clock.h"
#include "client/rivulet.h"
#include "tests/kit/local_broker.h"
#include "tests/kit/proxy.h"
#include "tests/kit/temp_dir.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { WAIT_MS = 60000, API_HEARTBEAT = 12, SENDERS = 4, RECORDS = 400 };

struct world {
    char dir[TEMP_DIR_SIZE];
    struct local_broker broker;
    struct proxy proxy;
    char advertised[80];
    const char *sets[4];
    char address[64];
    struct rv_client *client;
    struct rv_producer *producer;
    struct rv_consumer *consumer;
    pthread_mutex_t lock; /* of delivered and failed */
    pthread_cond_t changed;
    int delivered, failed;
};

static struct rv_client *client_open(const struct world *w)
{
    struct rv_client *c = NULL;
    struct rv_error e = {0};
    const struct rv_option *options =
        RV_OPTIONS({"bootstrap.servers", w->address}, {"retry.backoff.ms", "5"});
    if (rv_client_open(options, &c, &e) != RV_OK) {
        fail_msg("%s", e.text);
    }
    return c;
}

static int world_begin(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct rv_error e = {0};
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    temp_dir_make(w->dir);
    proxy_start(&w->proxy);
    snprintf(w->advertised, sizeof w->advertised, "advertised.listeners=PLAINTEXT://127.0.0.1:%d",
             (int)w->proxy.port);
    w->sets[0] = w->advertised;
    w->sets[1] = "group.min.session.timeout.ms=100";
    w->sets[2] = "group.initial.rebalance.delay.ms=0";
    local_broker_start(&w->broker, w->dir, 0, w->sets);
    proxy_broker_set(&w->proxy, w->broker.port);
    snprintf(w->address, sizeof w->address, "127.0.0.1:%d", (int)w->proxy.port);
    w->client = client_open(w);
    if (rv_topic_create(w->client, "t", 1, NULL, WAIT_MS, &e) != RV_OK ||
        rv_producer_open(w->client, RV_OPTIONS({"linger.ms", "1"}), &w->producer, &e) != RV_OK ||
        rv_consumer_open(w->client,
                         RV_OPTIONS({"group.id", "g"}, {"heartbeat.interval.ms", "20"},
                                    {"session.timeout.ms", "30000"},
                                    {"auto.offset.reset", "earliest"}),
                         &w->consumer, &e) != RV_OK) {
        fail_msg("%s", e.text);
    }
    *state = w;
    return 0;
}

static int world_end(void **state)
{
    struct world *w = *state;
    rv_thread_stop(w->client);
    rv_producer_close(w->producer);
    rv_consumer_close(w->consumer, WAIT_MS, NULL);
    rv_client_close(w->client);
    proxy_stop(&w->proxy);
    local_broker_stop(&w->broker);
    temp_dir_remove(w->dir);
    free(w);
    return 0;
}

static void thread_start(struct world *w)
{
    struct rv_error e = {0};
    if (rv_thread_start(w->client, &e) != RV_OK) {
        fail_msg("%s", e.text);
    }
}

static void on_delivery(void *ctx, const struct rv_delivery *d)
{
    struct world *w = ctx;
    pthread_mutex_lock(&w->lock);
    w->delivered += !d->error;
    w->failed += d->error != NULL;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

/* Without any call on the client. */
static bool wait_for_deliveries(struct world *w, int count)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_MS / 1000;
    int e = 0;
    pthread_mutex_lock(&w->lock);
    while (w->delivered + w->failed < count && e == 0) {
        e = pthread_cond_timedwait(&w->changed, &w->lock, &until);
    }
    bool all = w->delivered == count;
    pthread_mutex_unlock(&w->lock);
    return all;
}

static int send_one(struct world *w, const char *value)
{
    const struct rv_message m = {.topic = "t", .value = rv_str(value)};
    rv_lock(w->client);
    int code = rv_send(w->producer, &m, on_delivery, w, NULL);
    rv_unlock(w->client);
    return code;
}

static void records_are_delivered_without_further_calls(void **state)
{
    struct world *w = *state;
    thread_start(w);
    for (int i = 1; i <= 20; i++) { /* the helper sleeps before each */
        assert_int_equal(send_one(w, "v"), RV_OK);
        assert_true(wait_for_deliveries(w, i));
    }
}

/* Joins g; the caller holds the lock if it must be held. */
static void join(struct world *w)
{
    const char *topic = "t";
    const struct rv_record *records;
    const struct rv_partition *assigned;
    size_t count;
    struct rv_error e = {0};
    assert_int_equal(rv_subscribe(w->consumer, &topic, 1, &e), RV_OK);
    int64_t until_ms = clock_mono_ms(&clock_real) + WAIT_MS;
    do {
        if (rv_poll(w->consumer, 100, &records, &count, &e) != RV_OK) {
            fail_msg("%s", e.text);
        }
    } while (rv_assignment(w->consumer, &assigned) == 0 && clock_mono_ms(&clock_real) < until_ms);
    assert_int_equal(rv_assignment(w->consumer, &assigned), 1);
}

static void heartbeats_go_out_while_the_program_is_silent(void **state)
{
    struct world *w = *state;
    join(w);
    thread_start(w);
    int before = proxy_count(&w->proxy, API_HEARTBEAT);
    assert_true(proxy_wait(&w->proxy, API_HEARTBEAT, before + 5, WAIT_MS));
}

struct watcher {
    pthread_t id;
    struct world *world;
    int wanted;
    int got;
    int code;
};

static void *watcher_run(void *ctx)
{
    struct watcher *r = ctx;
    struct world *w = r->world;
    const struct rv_record *records;
    size_t count;
    rv_lock(w->client);
    int64_t until_ms = clock_mono_ms(&clock_real) + WAIT_MS;
    while (r->got < r->wanted && r->code == RV_OK && clock_mono_ms(&clock_real) < until_ms) {
        r->code = rv_poll(w->consumer, WAIT_MS, &records, &count, NULL);
        rv_unlock(w->client);
        for (size_t i = 0; i < count; i++) { /* lent until the next poll, without the lock */
            r->got += ((const char *)records[i].value.ptr)[0] == 'v';
        }
        rv_lock(w->client);
    }
    rv_unlock(w->client);
    return NULL;
}

static void *sender_run(void *ctx)
{
    struct world *w = ctx;
    intptr_t bad = 0;
    for (int i = 0; i < RECORDS; i++) {
        bad += send_one(w, "v") != RV_OK;
    }
    return (void *)bad;
}

static void watcher_begin(struct watcher *r, struct world *w, int wanted)
{
    const struct rv_partition all = {.topic = "t", .offset = RV_START};
    rv_lock(w->client);
    assert_int_equal(rv_assign(w->consumer, &all, 1, NULL), RV_OK);
    rv_unlock(w->client);
    *r = (struct watcher){.world = w, .wanted = wanted};
    assert_int_equal(pthread_create(&r->id, NULL, watcher_run, r), 0);
}

static void a_call_that_waits_lets_others_in(void **state)
{
    struct world *w = *state;
    struct watcher r;
    pthread_t senders[SENDERS];
    thread_start(w);
    watcher_begin(&r, w, SENDERS * RECORDS);
    for (int i = 0; i < SENDERS; i++) {
        assert_int_equal(pthread_create(&senders[i], NULL, sender_run, w), 0);
    }
    for (int i = 0; i < SENDERS; i++) {
        void *bad;
        assert_int_equal(pthread_join(senders[i], &bad), 0);
        assert_null(bad);
    }
    assert_true(wait_for_deliveries(w, SENDERS * RECORDS));
    pthread_join(r.id, NULL);
    assert_int_equal(r.code, RV_OK);
    assert_int_equal(r.got, SENDERS * RECORDS);
}

static void who_waits_goes_on_when_the_helper_ends(void **state)
{
    struct world *w = *state;
    struct watcher r;
    struct world other = *w;
    struct rv_error e = {0};
    thread_start(w);
    watcher_begin(&r, w, 1);
    rv_thread_stop(w->client);
    other.client = client_open(w);
    assert_int_equal(rv_producer_open(other.client, NULL, &other.producer, &e), RV_OK);
    const struct rv_message m = {.topic = "t", .value = RV_STR("v")};
    assert_int_equal(rv_send(other.producer, &m, NULL, NULL, &e), RV_OK);
    assert_int_equal(rv_flush(other.producer, WAIT_MS, &e), RV_OK);
    pthread_join(r.id, NULL);
    assert_int_equal(r.got, 1);
    rv_producer_close(other.producer);
    rv_client_close(other.client);
}

static void it_starts_once_and_stops_as_often_as_asked(void **state)
{
    struct world *w = *state;
    struct rv_error e = {0};
    rv_thread_stop(w->client);
    for (int i = 0; i < 20; i++) {
        thread_start(w);
        assert_int_equal(rv_thread_start(w->client, &e), RV_E_STATE);
        rv_lock(w->client);
        assert_int_equal(rv_wait(w->client, 0, &e), RV_OK);
        rv_unlock(w->client);
        rv_thread_stop(w->client);
        rv_thread_stop(w->client);
    }
    struct rv_client *c = client_open(w);
    assert_int_equal(rv_thread_start(c, &e), RV_OK);
    rv_client_close(c);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_begin, world_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(records_are_delivered_without_further_calls),
        TEST(heartbeats_go_out_while_the_program_is_silent),
        TEST(a_call_that_waits_lets_others_in),
        TEST(who_waits_goes_on_when_the_helper_ends),
        TEST(it_starts_once_and_stops_as_often_as_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

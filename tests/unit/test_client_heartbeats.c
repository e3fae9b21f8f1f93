/* A member lives on whatever it calls: every call that hands something over or asks for something
 * sends what is due, heartbeats too. Seen by what a heartbeat brings: that the group rebalances. */
#include "base/clock.h"
#include "client/consumer.h"
#include "tests/kit/local_home.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { PATIENCE_MS = 30000, PARTITIONS = 2 };

struct house {
    struct local_home *broker;
    struct rv_client *client, *guest_client;
    struct rv_consumer *consumer, *guest;
    struct rv_producer *producer;
    struct rv_error error;
};

static struct rv_client *client_to(struct house *h)
{
    struct rv_client *client;
    const struct rv_option *options =
        RV_OPTIONS({"bootstrap.servers", local_home_address(h->broker)}, {"retry.backoff.ms", "5"});
    assert_int_equal(rv_client_open(options, &client, &h->error), RV_OK);
    return client;
}

static struct rv_consumer *member_of(struct house *h, struct rv_client *client)
{
    const char *topic = "t";
    struct rv_consumer *c;
    const struct rv_option *options =
        RV_OPTIONS({"group.id", "g"}, {"heartbeat.interval.ms", "10"},
                   {"session.timeout.ms", "20000"}, {"auto.offset.reset", "earliest"});
    assert_int_equal(rv_consumer_open(client, options, &c, &h->error), RV_OK);
    assert_int_equal(rv_subscribe(c, &topic, 1, &h->error), RV_OK);
    return c;
}

static int setup(void **state)
{
    static const char *const settings[] = {"group.initial.rebalance.delay.ms=0", NULL};
    struct house *h = test_calloc(1, sizeof *h);
    h->broker = local_home_start(settings);
    h->client = client_to(h);
    assert_int_equal(rv_topic_create(h->client, "t", PARTITIONS, NULL, PATIENCE_MS, &h->error),
                     RV_OK);
    assert_int_equal(rv_topic_create(h->client, "sink", 1, NULL, PATIENCE_MS, &h->error), RV_OK);
    assert_int_equal(rv_producer_open(h->client, NULL, &h->producer, &h->error), RV_OK);
    h->consumer = member_of(h, h->client);
    *state = h;
    return 0;
}

static int teardown(void **state)
{
    struct house *h = *state;
    rv_producer_close(h->producer);
    assert_int_equal(rv_consumer_close(h->consumer, PATIENCE_MS, &h->error), RV_OK);
    rv_client_close(h->client);
    local_home_destroy(h->broker);
    test_free(h);
    return 0;
}

static void poll_until_has(struct house *h, size_t count)
{
    const struct rv_record *records;
    const struct rv_partition *p;
    size_t given;
    int64_t until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    while (rv_assignment(h->consumer, &p) != count ||
           (h->guest && rv_assignment(h->guest, &p) == 0)) {
        assert_true(clock_mono_ms(&clock_real) < until);
        assert_int_equal(rv_poll(h->consumer, 1, &records, &given, &h->error), RV_OK);
        if (h->guest) {
            assert_int_equal(rv_poll(h->guest, 1, &records, &given, &h->error), RV_OK);
        }
    }
}

/* While somebody else leaves, `call` is all that the member does. */
static void hears_of_a_rebalance_in(struct house *h, void (*call)(struct house *h))
{
    h->guest_client = client_to(h);
    h->guest = member_of(h, h->guest_client);
    poll_until_has(h, 1);
    assert_false(h->consumer->member.rejoin);
    assert_int_equal(rv_consumer_close(h->guest, PATIENCE_MS, &h->error), RV_OK);
    h->guest = NULL;
    rv_client_close(h->guest_client);
    int64_t until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    while (!h->consumer->member.rejoin) {
        assert_true(clock_mono_ms(&clock_real) < until);
        call(h);
    }
    poll_until_has(h, PARTITIONS);
}

static void call_process(struct house *h)
{
    assert_int_equal(rv_process(h->client, &h->error), RV_OK);
}

static void call_wait(struct house *h)
{
    assert_int_equal(rv_wait(h->client, 1, &h->error), RV_OK);
}

static void call_send(struct house *h)
{
    const struct rv_message m = {.topic = "sink", .value = RV_STR("x")};
    assert_int_equal(rv_send(h->producer, &m, NULL, NULL, &h->error), RV_OK);
}

static void call_flush(struct house *h)
{
    assert_int_equal(rv_flush(h->producer, PATIENCE_MS, &h->error), RV_OK);
}

static void call_commit(struct house *h)
{
    int code = rv_commit(h->consumer, NULL, 0, &h->error);
    assert_true(code == RV_OK || (h->error.flags & RV_REJOIN));
}

static void call_commit_async(struct house *h)
{
    assert_int_equal(rv_commit_async(h->consumer, NULL, 0, NULL, NULL, &h->error), RV_OK);
}

static void call_cluster(struct house *h)
{
    struct rv_cluster *cluster;
    assert_int_equal(rv_cluster(h->client, PATIENCE_MS, &cluster, &h->error), RV_OK);
    rv_free(cluster);
}

static void call_topic_list(struct house *h)
{
    struct rv_topics *topics;
    assert_int_equal(rv_topic_list(h->client, PATIENCE_MS, &topics, &h->error), RV_OK);
    rv_free(topics);
}

static void call_offsets(struct house *h)
{
    struct rv_partition p = {.topic = "t"};
    assert_int_equal(rv_offsets(h->client, &p, 1, RV_END, PATIENCE_MS, &h->error), RV_OK);
}

static void call_group_describe(struct house *h)
{
    struct rv_group *group;
    assert_int_equal(rv_group_describe(h->client, "g", PATIENCE_MS, &group, &h->error), RV_OK);
    rv_free(group);
}

static void call_config_get(struct house *h)
{
    struct rv_configs *configs;
    assert_int_equal(rv_config_get(h->client, RV_TOPIC, "t", PATIENCE_MS, &configs, &h->error),
                     RV_OK);
    rv_free(configs);
}

static void a_member_hears_of_its_group_in_every_call(void **state)
{
    static void (*const calls[])(struct house *) = {
        call_process, call_wait,           call_send,       call_flush,
        call_commit,  call_commit_async,   call_cluster,    call_topic_list,
        call_offsets, call_group_describe, call_config_get,
    };
    struct house *h = *state;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        print_message("call %zu\n", i);
        hears_of_a_rebalance_in(h, calls[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_member_hears_of_its_group_in_every_call, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

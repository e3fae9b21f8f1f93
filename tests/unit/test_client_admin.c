/* Admin calls: topics, offsets, configs, groups, the cluster, and a raw request. */
#include "base/clock.h"
#include "client/rivulet.h"
#include "protocol/error.h"
#include "tests/kit/feed.h"
#include "tests/kit/local_home.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WAIT_MS = 30000 };

struct office {
    struct local_home *home;
    struct rv_client *client;
    struct rv_error error;
};

static int office_begin(void **state)
{
    struct office *o = calloc(1, sizeof *o);
    o->home = local_home_start(NULL);
    assert_int_equal(
        rv_client_open(RV_OPTIONS({"bootstrap.servers", local_home_address(o->home)},
                                  {"retry.backoff.ms", "5"}, {"retry.backoff.max.ms", "50"}),
                       &o->client, &o->error),
        RV_OK);
    *state = o;
    return 0;
}

static int office_end(void **state)
{
    struct office *o = *state;
    rv_client_close(o->client);
    local_home_destroy(o->home);
    free(o);
    return 0;
}

static void good(const struct office *o, int code)
{
    if (code != RV_OK) {
        fail_msg("%s: %s", rv_error_name(code), o->error.text);
    }
}

static void topic_make(struct office *o, const char *topic, int32_t partitions,
                       const struct rv_option *configs)
{
    good(o, rv_topic_create(o->client, topic, partitions, configs, WAIT_MS, &o->error));
}

/* ---- topics ---- */

/* Its place among all topics; -1: it is not there. */
static int listed(struct office *o, const char *topic, size_t *ret_partitions)
{
    struct rv_topics *all;
    int place = -1;
    good(o, rv_topic_list(o->client, WAIT_MS, &all, &o->error));
    for (size_t i = 0; i < all->count; i++) {
        assert_true(i == 0 || strcmp(all->items[i - 1].name, all->items[i].name) < 0);
        if (strcmp(all->items[i].name, topic) == 0) {
            place = (int)i;
            *ret_partitions = all->items[i].partition_count;
        }
    }
    rv_free(all);
    return place;
}

static void topics_come_are_listed_and_go(void **state)
{
    struct office *o = *state;
    size_t partitions = 0;
    topic_make(o, "b", 3, NULL);
    topic_make(o, "a", 1, NULL);
    topic_make(o, "default", -1, NULL);
    assert_true(listed(o, "a", &partitions) >= 0);
    assert_int_equal(partitions, 1);
    assert_true(listed(o, "b", &partitions) > listed(o, "a", &partitions));
    assert_true(listed(o, "b", &partitions) >= 0);
    assert_int_equal(partitions, 3);
    assert_int_equal(rv_topic_create(o->client, "a", 1, NULL, WAIT_MS, &o->error),
                     KERR_TOPIC_ALREADY_EXISTS);
    assert_non_null(strstr(o->error.text, "a"));
    assert_int_equal(rv_topic_create(o->client, "not a name", 1, NULL, WAIT_MS, &o->error),
                     KERR_INVALID_TOPIC_EXCEPTION);
    assert_int_equal(rv_topic_create(o->client, "c", 0, NULL, WAIT_MS, &o->error),
                     KERR_INVALID_PARTITIONS);
    assert_int_equal(
        rv_topic_create(o->client, "c", 1, RV_OPTIONS({"no.such.config", "1"}), WAIT_MS, &o->error),
        KERR_INVALID_CONFIG);
    assert_int_equal(listed(o, "c", &partitions), -1);
    good(o, rv_topic_delete(o->client, "b", WAIT_MS, &o->error));
    int64_t until = clock_mono_ms(&clock_real) + WAIT_MS; /* a broker may hear of it later */
    while (listed(o, "b", &partitions) >= 0 && clock_mono_ms(&clock_real) < until) {
    }
    assert_int_equal(listed(o, "b", &partitions), -1);
    assert_int_equal(rv_topic_delete(o->client, "b", WAIT_MS, &o->error),
                     KERR_UNKNOWN_TOPIC_OR_PARTITION);
    struct rv_topics *t;
    assert_int_equal(rv_topic_describe(o->client, "b", WAIT_MS, &t, &o->error),
                     KERR_UNKNOWN_TOPIC_OR_PARTITION);
}

static void a_topic_is_described_with_offsets_and_sizes(void **state)
{
    struct office *o = *state;
    struct rv_topics *t;
    topic_make(o, "t", 2, NULL);
    feed_numbers(o->client, "t", 1, CODEC_NONE, 0, 10);
    good(o, rv_topic_describe(o->client, "t", WAIT_MS, &t, &o->error));
    assert_int_equal(t->count, 1);
    const struct rv_topic *topic = &t->items[0];
    assert_string_equal(topic->name, "t");
    assert_int_equal(strlen(topic->id), 22);
    assert_false(topic->internal);
    assert_int_equal(topic->partition_count, 2);
    for (int i = 0; i < 2; i++) {
        const struct rv_topic_partition *p = &topic->partitions[i];
        assert_int_equal(p->partition, i);
        assert_int_equal(p->code, RV_OK);
        assert_true(p->leader >= 0);
        assert_true(p->leader_epoch >= 0);
        assert_int_equal(p->start_offset, 0);
        assert_int_equal(p->end_offset, i * 10);
        assert_true(i == 0 ? p->size_bytes == 0 : p->size_bytes > 61);
    }
    rv_free(t);
}

static void offsets_are_found_by_place_and_time(void **state)
{
    struct office *o = *state;
    topic_make(o, "t", 2, NULL);
    feed_numbers(o->client, "t", 0, CODEC_NONE, 0, 10); /* times 1000000 + the number */
    struct rv_partition p[] = {
        {.topic = "t",    .partition = 0},
        {.topic = "t",    .partition = 1},
        {.topic = "t",    .partition = 9},
        {.topic = "none", .partition = 0},
    };
    good(o, rv_offsets(o->client, p, 4, RV_START, WAIT_MS, &o->error));
    assert_int_equal(p[0].offset, 0);
    good(o, rv_offsets(o->client, p, 4, RV_END, WAIT_MS, &o->error));
    assert_int_equal(p[0].offset, 10);
    assert_int_equal(p[1].offset, 0);
    assert_int_equal(p[0].code, RV_OK);
    assert_int_equal(p[2].code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    assert_int_equal(p[3].code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    assert_int_equal(p[3].offset, -1);
    good(o, rv_offsets(o->client, p, 2, 1000004, WAIT_MS, &o->error));
    assert_int_equal(p[0].offset, 4);
    assert_int_equal(p[1].offset, -1);
    good(o, rv_offsets(o->client, p, 1, 2000000, WAIT_MS, &o->error));
    assert_int_equal(p[0].offset, -1);
    p[0].partition = -1;
    assert_int_equal(rv_offsets(o->client, p, 1, RV_END, WAIT_MS, &o->error), RV_E_ARGUMENT);
}

/* ---- configs ---- */

/* The setting's value; "" and *ret_default false when it is not there. */
static void config_is(struct office *o, const char *name, const char *value, bool is_default)
{
    struct rv_configs *all;
    int64_t until = clock_mono_ms(&clock_real) + WAIT_MS; /* a broker may hear of it later */
    bool as_wanted = false;
    while (!as_wanted && clock_mono_ms(&clock_real) < until) {
        good(o, rv_config_get(o->client, RV_TOPIC, "t", WAIT_MS, &all, &o->error));
        for (size_t i = 0; i < all->count; i++) {
            assert_true(i == 0 || strcmp(all->items[i - 1].name, all->items[i].name) < 0);
            as_wanted |= strcmp(all->items[i].name, name) == 0 &&
                         strcmp(all->items[i].value, value) == 0 &&
                         all->items[i].is_default == is_default;
        }
        rv_free(all);
    }
    assert_true(as_wanted);
}

static void configs_are_set_read_and_taken_back(void **state)
{
    struct office *o = *state;
    topic_make(o, "t", 1, RV_OPTIONS({"retention.bytes", "12345"}));
    config_is(o, "retention.bytes", "12345", false);
    config_is(o, "max.message.bytes", "1048588", true);
    good(o, rv_config_set(o->client, RV_TOPIC, "t",
                          RV_OPTIONS({"max.message.bytes", "2000"}, {"retention.bytes", NULL}),
                          WAIT_MS, &o->error));
    config_is(o, "max.message.bytes", "2000", false);
    config_is(o, "retention.bytes", "-1", true);
    assert_int_equal(rv_config_set(o->client, RV_TOPIC, "t",
                                   RV_OPTIONS({"max.message.bytes", "many"}), WAIT_MS, &o->error),
                     KERR_INVALID_CONFIG);
    assert_int_equal(rv_config_set(o->client, RV_TOPIC, "t", RV_OPTIONS({"no.such.config", "1"}),
                                   WAIT_MS, &o->error),
                     KERR_INVALID_CONFIG);
    config_is(o, "max.message.bytes", "2000", false);
    struct rv_configs *none;
    assert_int_equal(rv_config_get(o->client, RV_TOPIC, "none", WAIT_MS, &none, &o->error),
                     KERR_UNKNOWN_TOPIC_OR_PARTITION);
}

static void a_broker_tells_its_settings(void **state)
{
    struct office *o = *state;
    struct rv_cluster *cluster;
    struct rv_configs *all;
    char id[16];
    good(o, rv_cluster(o->client, WAIT_MS, &cluster, &o->error));
    assert_true(strlen(cluster->id) > 0);
    assert_int_equal(cluster->broker_count, 1);
    assert_int_equal(cluster->controller_id, cluster->brokers[0].id);
    assert_string_equal(cluster->brokers[0].host, "127.0.0.1");
    snprintf(id, sizeof id, "%d", (int)cluster->brokers[0].id);
    rv_free(cluster);
    good(o, rv_config_get(o->client, RV_BROKER, id, WAIT_MS, &all, &o->error));
    int found = 0;
    for (size_t i = 0; i < all->count; i++) {
        if (strcmp(all->items[i].name, "log.dirs") == 0) {
            assert_true(all->items[i].read_only);
            assert_false(all->items[i].sensitive);
            found++;
        }
    }
    assert_int_equal(found, 1);
    rv_free(all);
}

/* ---- groups ---- */

static bool group_is_listed(struct office *o, const char *group)
{
    struct rv_groups *all;
    bool found = false;
    good(o, rv_group_list(o->client, WAIT_MS, &all, &o->error));
    for (size_t i = 0; i < all->count; i++) {
        found |= strcmp(all->items[i].group, group) == 0;
    }
    rv_free(all);
    return found;
}

static void offsets_of_a_group_are_set_described_and_deleted(void **state)
{
    struct office *o = *state;
    struct rv_group *g;
    topic_make(o, "t", 2, NULL);
    feed_numbers(o->client, "t", 0, CODEC_NONE, 0, 10);
    feed_numbers(o->client, "t", 1, CODEC_NONE, 0, 5);
    good(o, rv_group_describe(o->client, "g", WAIT_MS, &g, &o->error));
    assert_string_equal(g->state, "Dead");
    assert_int_equal(g->partition_count, 0);
    rv_free(g);
    struct rv_partition p[] = {
        {.topic = "t", .partition = 0, .offset = 4},
        {.topic = "t", .partition = 1, .offset = 5},
    };
    good(o, rv_group_set_offsets(o->client, "g", p, 2, WAIT_MS, &o->error));
    assert_int_equal(p[0].code, RV_OK);
    assert_int_equal(p[1].code, RV_OK);
    assert_true(group_is_listed(o, "g"));
    good(o, rv_group_describe(o->client, "g", WAIT_MS, &g, &o->error));
    assert_string_equal(g->state, "Empty");
    assert_int_equal(g->member_count, 0);
    assert_int_equal(g->partition_count, 2);
    assert_int_equal(g->partitions[0].committed_offset, 4);
    assert_int_equal(g->partitions[0].end_offset, 10);
    assert_int_equal(g->partitions[0].lag, 6);
    assert_int_equal(g->partitions[1].lag, 0);
    assert_null(g->partitions[0].member);
    rv_free(g);
    good(o, rv_group_delete(o->client, "g", WAIT_MS, &o->error));
    assert_false(group_is_listed(o, "g"));
    assert_int_equal(rv_group_delete(o->client, "g", WAIT_MS, &o->error), KERR_GROUP_ID_NOT_FOUND);
}

static void a_group_with_members_is_left_alone(void **state)
{
    struct office *o = *state;
    struct rv_consumer *c;
    static const char *const topics[] = {"t"};
    const struct rv_partition *mine;
    const struct rv_record *records;
    size_t count;
    topic_make(o, "t", 1, NULL);
    good(o, rv_consumer_open(o->client, RV_OPTIONS({"group.id", "g"}, {"fetch.max.wait.ms", "20"}),
                             &c, &o->error));
    good(o, rv_subscribe(c, topics, 1, &o->error));
    int64_t until = clock_mono_ms(&clock_real) + WAIT_MS;
    while (rv_assignment(c, &mine) == 0 && clock_mono_ms(&clock_real) < until) {
        good(o, rv_poll(c, 20, &records, &count, &o->error));
    }
    struct rv_partition p = {.topic = "t", .partition = 0, .offset = 0};
    (void)rv_group_set_offsets(o->client, "g", &p, 1, WAIT_MS, &o->error);
    assert_int_equal(p.code, KERR_UNKNOWN_MEMBER_ID);
    assert_int_equal(rv_group_delete(o->client, "g", WAIT_MS, &o->error), KERR_NON_EMPTY_GROUP);
    struct rv_group *g;
    good(o, rv_group_describe(o->client, "g", WAIT_MS, &g, &o->error));
    assert_string_equal(g->state, "Stable");
    assert_int_equal(g->member_count, 1);
    assert_string_equal(g->partitions[0].member, g->members[0].id);
    rv_free(g);
    good(o, rv_consumer_close(c, WAIT_MS, &o->error));
    good(o, rv_group_delete(o->client, "g", WAIT_MS, &o->error));
}

/* ---- raw ---- */

static void any_request_may_be_made_raw(void **state)
{
    struct office *o = *state;
    struct rv_response *r;
    good(o, rv_request(o->client, -1, 18, 0, "", 0, WAIT_MS, &r, &o->error)); /* ApiVersions */
    assert_true(r->size > 6);
    assert_memory_equal(r->body, "\0\0", 2); /* no error */
    rv_free(r);
}

#define OFFICE(test) cmocka_unit_test_setup_teardown(test, office_begin, office_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        OFFICE(topics_come_are_listed_and_go),
        OFFICE(a_topic_is_described_with_offsets_and_sizes),
        OFFICE(offsets_are_found_by_place_and_time),
        OFFICE(configs_are_set_read_and_taken_back),
        OFFICE(a_broker_tells_its_settings),
        OFFICE(offsets_of_a_group_are_set_described_and_deleted),
        OFFICE(a_group_with_members_is_left_alone),
        OFFICE(any_request_may_be_made_raw),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

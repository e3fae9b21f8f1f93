/* What UIs and admin clients ask for besides topics, settings and groups: elections and
 * reassignments, of which there are none, producers, and what has settings. */
#include "base/clock.h"
#include "gen/describe_producers.h"
#include "gen/elect_leaders.h"
#include "gen/init_producer_id.h"
#include "gen/list_config_resources.h"
#include "gen/list_partition_reassignments.h"
#include "tests/kit/wire_group.h"
#include "tests/kit/wire_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { TOPICS = 2, BROKERS = 4, BROKER_LOGGERS = 8, CLIENT_METRICS = 16, GROUPS = 32 };

static int setup(void **state)
{
    return wire_fixture_create(state, NULL);
}

/* ---- elections */

static struct elect_leaders_request *election(struct wire_client *c, const char *topic,
                                              int32_t count, const int32_t *partitions)
{
    struct elect_leaders_request *q = NEW(c, elect_leaders_request);
    q->topic_partitions = NEW(c, elect_leaders_request_topic_partition);
    q->topic_partitions_count = 1;
    q->topic_partitions->topic = str_of(topic);
    q->topic_partitions->partitions = wire_room(c, (size_t)count, sizeof *partitions);
    q->topic_partitions->partitions_count = count;
    memcpy(q->topic_partitions->partitions, partitions, (size_t)count * sizeof *partitions);
    return q;
}

static void no_partition_needs_an_election(void **state)
{
    struct wire_client *c = client_of(state);
    static const int32_t partitions[] = {0, 1, 2, -1, 0};
    static const int16_t codes[] = {KERR_ELECTION_NOT_NEEDED, KERR_ELECTION_NOT_NEEDED,
                                    KERR_UNKNOWN_TOPIC_OR_PARTITION,
                                    KERR_UNKNOWN_TOPIC_OR_PARTITION, KERR_ELECTION_NOT_NEEDED};
    TOPIC(c, "elected", 2);
    each_version(v, API_ELECT_LEADERS)
    {
        for (int type = 0; type <= (v > 0); type++) {
            struct elect_leaders_request *q = election(c, "elected", 5, partitions);
            q->election_type = (int8_t)type;
            const struct elect_leaders_response *a = wire_ask(c, API_ELECT_LEADERS, v, q);
            assert_code(a->error_code, KERR_NONE);
            assert_int_equal(a->replica_election_results_count, 1);
            assert_str(a->replica_election_results->topic, "elected");
            assert_int_equal(a->replica_election_results->partition_results_count, 5);
            for (int i = 0; i < 5; i++) {
                const struct elect_leaders_response_partition *p =
                    &a->replica_election_results->partition_results[i];
                assert_int_equal(p->partition_id, partitions[i]);
                assert_code(p->error_code, codes[i]);
                assert_true(p->error_message.len > 0);
            }
            q = election(c, "nobody-made-it", 1, partitions);
            a = wire_ask(c, API_ELECT_LEADERS, v, q);
            assert_code(a->replica_election_results->partition_results->error_code,
                        KERR_UNKNOWN_TOPIC_OR_PARTITION);
        }
    }
}

/* Kafka leaves out the partitions that needed none. */
static void of_all_topics_only_elections_that_happened_are_told(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "elected-all", 2);
    each_version(v, API_ELECT_LEADERS)
    {
        struct elect_leaders_request *q = NEW(c, elect_leaders_request);
        q->topic_partitions_count = -1;
        const struct elect_leaders_response *a = wire_ask(c, API_ELECT_LEADERS, v, q);
        bool there = false;
        assert_code(a->error_code, KERR_NONE);
        for (int32_t i = 0; i < a->replica_election_results_count; i++) {
            there = there || str_eq(a->replica_election_results[i].topic, STR("elected-all"));
            assert_int_equal(a->replica_election_results[i].partition_results_count, 0);
        }
        assert_true(there);
    }
}

static void an_unknown_kind_of_election_is_refused(void **state)
{
    struct wire_client *c = client_of(state);
    static const int32_t partition = 0;
    TOPIC(c, "elected-how", 1);
    for (int16_t v = 1; v <= version_max(API_ELECT_LEADERS); v++) {
        struct elect_leaders_request *q = election(c, "elected-how", 1, &partition);
        q->election_type = 2;
        const struct elect_leaders_response *a = wire_ask(c, API_ELECT_LEADERS, v, q);
        assert_code(a->error_code, KERR_INVALID_REQUEST);
        assert_int_equal(a->replica_election_results_count, 0);
    }
}

/* ---- reassignments */

static void no_partition_is_on_its_way(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "settled", 2);
    each_version(v, API_LIST_PARTITION_REASSIGNMENTS)
    {
        struct list_partition_reassignments_request *q =
            NEW(c, list_partition_reassignments_request);
        const struct list_partition_reassignments_response *a =
            wire_ask(c, API_LIST_PARTITION_REASSIGNMENTS, v, q);
        assert_code(a->error_code, KERR_NONE);
        assert_int_equal(a->topics_count, 0);
        q->topics = NEW(c, list_partition_reassignments_request_topic);
        q->topics_count = 1;
        q->topics->name = STR("settled");
        a = wire_ask(c, API_LIST_PARTITION_REASSIGNMENTS, v, q);
        assert_code(a->error_code, KERR_NONE);
        assert_null(a->error_message.ptr);
        assert_int_equal(a->topics_count, 0);
    }
}

/* ---- producers */

static const struct describe_producers_response_partition *describe(struct wire_client *c,
                                                                    const char *topic,
                                                                    int32_t partition)
{
    struct describe_producers_request *q = NEW(c, describe_producers_request);
    int32_t *indexes = wire_room(c, 1, sizeof *indexes);
    *indexes = partition;
    q->topics = NEW(c, describe_producers_request_topic);
    q->topics_count = 1;
    q->topics->name = str_of(topic);
    q->topics->partition_indexes = indexes;
    q->topics->partition_indexes_count = 1;
    const struct describe_producers_response *a = wire_ask(c, API_DESCRIBE_PRODUCERS, 0, q);
    assert_int_equal(a->topics_count, 1);
    assert_str(a->topics->name, topic);
    assert_int_equal(a->topics->partitions_count, 1);
    assert_int_equal(a->topics->partitions->partition_index, partition);
    return a->topics->partitions;
}

static int64_t new_producer(struct wire_client *c)
{
    struct init_producer_id_request *q = NEW(c, init_producer_id_request);
    q->transactional_id = (struct str){0};
    q->producer_id = -1;
    q->producer_epoch = -1;
    q->transaction_timeout_ms = 60000;
    const struct init_producer_id_response *a = wire_ask(c, API_INIT_PRODUCER_ID, 4, q);
    assert_code(a->error_code, KERR_NONE);
    return a->producer_id;
}

static int64_t expect_producer(const struct describe_producers_response_partition *p, int64_t id,
                               int32_t last_sequence)
{
    assert_code(p->error_code, KERR_NONE);
    for (int32_t i = 0; i < p->active_producers_count; i++) {
        const struct describe_producers_response_active_producer *a = &p->active_producers[i];
        if (a->producer_id == id) {
            assert_int_equal(a->producer_epoch, 0);
            assert_int_equal(a->last_sequence, last_sequence);
            assert_int_equal(a->coordinator_epoch, -1);
            assert_int_equal(a->current_txn_start_offset, -1);
            return a->last_timestamp;
        }
    }
    fail_msg("producer %lld is not told", (long long)id);
    return -1;
}

/* The time is the broker's, of their last batch, whatever the records say. */
static void idempotent_producers_are_told_over_a_restart(void **state)
{
    struct daemon *d = daemon_of(state);
    struct wire_client *c = client_of(state);
    TOPIC(c, "produced", 2);
    wire_put_good(c, "produced", BATCH(c, .count = 3)); /* has no id */
    assert_int_equal(describe(c, "produced", 0)->active_producers_count, 0);
    int64_t one = new_producer(c);
    int64_t two = new_producer(c);
    int64_t before = clock_wall_ms(&clock_real);
    wire_put_good(c, "produced",
                  BATCH(c, .count = 3, .timestamp = 5000, .idempotent = true, .producer_id = one));
    wire_put_good(c, "produced",
                  BATCH(c, .count = 2, .timestamp = 8000, .idempotent = true, .producer_id = one,
                        .sequence = 3));
    wire_put_good(c, "produced",
                  BATCH(c, .count = 1, .timestamp = 7000, .idempotent = true, .producer_id = two));
    int64_t behind = clock_wall_ms(&clock_real);
    int64_t used[2][2];
    for (int restarted = 0; restarted < 2; restarted++) {
        const struct describe_producers_response_partition *p = describe(c, "produced", 0);
        assert_int_equal(p->active_producers_count, 2);
        assert_null(p->error_message.ptr);
        used[restarted][0] = expect_producer(p, one, 4);
        used[restarted][1] = expect_producer(p, two, 0);
        assert_int_equal(describe(c, "produced", 1)->active_producers_count, 0);
        if (!restarted) {
            daemon_restart(d);
            c = wire_connect(d);
        }
    }
    assert_in_range(used[0][0], before, behind);
    assert_in_range(used[0][1], used[0][0], behind);
    assert_memory_equal(used[0], used[1], sizeof used[0]);
    wire_close(c);
}

static void producers_of_nothing_are_an_error_with_a_text(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "described", 1);
    assert_code(describe(c, "described", 1)->error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    assert_code(describe(c, "described", -1)->error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    const struct describe_producers_response_partition *p = describe(c, "nobody-made-it", 0);
    assert_code(p->error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    assert_true(p->error_message.len > 0);
    assert_int_equal(p->active_producers_count, 0);
}

/* ---- what has settings */

static const struct list_config_resources_response *list_types(struct wire_client *c,
                                                               int16_t version, int32_t count,
                                                               const int8_t *types)
{
    struct list_config_resources_request *q = NEW(c, list_config_resources_request);
    q->resource_types = wire_room(c, (size_t)count + 1, 1);
    q->resource_types_count = count;
    for (int32_t i = 0; i < count; i++) {
        q->resource_types[i] = types[i];
    }
    return wire_ask(c, API_LIST_CONFIG_RESOURCES, version, q);
}

/* How often it stands there: name NULL: anything of the type. */
static int count_of(const struct list_config_resources_response *a, int8_t type, const char *name)
{
    int count = 0;
    assert_code(a->error_code, KERR_NONE);
    for (int32_t i = 0; i < a->config_resources_count; i++) {
        const struct list_config_resources_response_config_resource *r = &a->config_resources[i];
        count += r->resource_type == type && (!name || str_eq(r->resource_name, str_of(name)));
    }
    return count;
}

static void what_has_settings_is_listed_by_type(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "listed", 1);
    const struct list_config_resources_response *a = list_types(c, 1, 0, NULL);
    assert_int_equal(count_of(a, TOPICS, "listed"), 1);
    assert_int_equal(count_of(a, BROKERS, "1"), 1);
    assert_int_equal(count_of(a, BROKER_LOGGERS, "1"), 1);
    assert_int_equal(count_of(a, CLIENT_METRICS, NULL), 0);
    assert_int_equal(count_of(a, GROUPS, NULL), 0);
    a = list_types(c, 1, 2, (const int8_t[]){BROKERS, GROUPS});
    assert_int_equal(a->config_resources_count, 1);
    assert_int_equal(count_of(a, BROKERS, "1"), 1);
    a = list_types(c, 1, 1, (const int8_t[]){TOPICS});
    assert_int_equal(count_of(a, TOPICS, NULL), a->config_resources_count);
    assert_int_equal(count_of(a, TOPICS, "listed"), 1);
}

/* Before there were types, the API listed client metrics alone. */
static void the_first_version_lists_client_metrics_of_which_there_are_none(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "listed-first", 1);
    const struct list_config_resources_response *a = list_types(c, 0, 0, NULL);
    assert_code(a->error_code, KERR_NONE);
    assert_int_equal(a->config_resources_count, 0);
}

static void an_unknown_type_is_refused(void **state)
{
    struct wire_client *c = client_of(state);
    static const int8_t types[] = {TOPICS, 3};
    const struct list_config_resources_response *a = list_types(c, 1, 2, types);
    assert_code(a->error_code, KERR_UNSUPPORTED_VERSION);
    assert_int_equal(a->config_resources_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        wire_test(no_partition_needs_an_election),
        wire_test(of_all_topics_only_elections_that_happened_are_told),
        wire_test(an_unknown_kind_of_election_is_refused),
        wire_test(no_partition_is_on_its_way),
        wire_test(producers_of_nothing_are_an_error_with_a_text),
        wire_test(what_has_settings_is_listed_by_type),
        wire_test(the_first_version_lists_client_metrics_of_which_there_are_none),
        wire_test(an_unknown_type_is_refused),
        wire_test(idempotent_producers_are_told_over_a_restart),
    };
    return cmocka_run_group_tests(tests, setup, wire_fixture_destroy);
}

/* Metadata, DescribeCluster, DescribeTopicPartitions, DescribeLogDirs, FindCoordinator: what
 * clients ask first, and what tools ask. */
#include "gen/describe_cluster.h"
#include "gen/describe_log_dirs.h"
#include "gen/describe_topic_partitions.h"
#include "gen/find_coordinator.h"
#include "gen/offset_commit.h"
#include "tests/kit/wire_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

enum {
    TOPIC_OPERATIONS = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11,
    CLUSTER_OPERATIONS = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12,
    NOT_ASKED = INT32_MIN,
};

static int setup(void **state)
{
    return wire_fixture_create(
        state, (const char *const[]){"num.partitions=3", "offsets.topic.num.partitions=5",
                                     "max.request.partition.size.limit=4", NULL});
}

static struct metadata_request *ask_for(struct wire_client *c, const char *name)
{
    struct metadata_request *q = NEW(c, metadata_request);
    q->topics = NEW(c, metadata_request_topic);
    q->topics_count = 1;
    q->topics->name = str_of(name);
    return q;
}

static const struct metadata_response_topic *find(const struct metadata_response *a,
                                                  const char *name)
{
    for (int32_t i = 0; i < a->topics_count; i++) {
        if (str_eq(a->topics[i].name, str_of(name))) {
            return &a->topics[i];
        }
    }
    return NULL;
}

static void commit_something(struct wire_client *c, const char *topic)
{
    struct offset_commit_request *q = NEW(c, offset_commit_request);
    q->group_id = STR("somebody");
    q->topics = NEW(c, offset_commit_request_topic);
    q->topics_count = 1;
    q->topics->name = str_of(topic);
    q->topics->partitions = NEW(c, offset_commit_request_partition);
    q->topics->partitions_count = 1;
    const struct offset_commit_response *a = wire_ask(c, API_OFFSET_COMMIT, 8, q);
    assert_code(a->topics->partitions->error_code, KERR_NONE);
}

/* ---- Metadata */

static void brokers_cluster_and_controller_are_the_same_in_every_version_and_after_a_restart(
    void **state)
{
    struct daemon *d = daemon_of(state);
    struct str cluster = {0};
    struct wire_client *first = wire_connect(d);
    for (int round = 0; round < 2; round++) {
        struct wire_client *c = round ? wire_connect(d) : first;
        each_version(v, API_METADATA)
        {
            struct metadata_request *q = NEW(c, metadata_request);
            q->topics_count = 0; /* none; in version 0: all */
            const struct metadata_response *a = wire_ask(c, API_METADATA, v, q);
            assert_code(a->error_code, KERR_NONE);
            assert_int_equal(a->throttle_time_ms, 0);
            assert_int_equal(a->brokers_count, 1);
            assert_int_equal(a->brokers->node_id, 1);
            assert_str(a->brokers->host, "127.0.0.1"); /* the address that we dialled */
            assert_int_equal(a->brokers->port, d->port);
            assert_null(a->brokers->rack.ptr);
            assert_int_equal(a->controller_id, v >= 1 ? 1 : -1);
            assert_int_equal(a->cluster_id.ptr != NULL, v >= 2);
            cluster = cluster.ptr ? cluster : a->cluster_id;
            assert_true(!a->cluster_id.ptr || str_eq(cluster, a->cluster_id));
        }
        if (round) {
            wire_close(c);
        } else {
            daemon_kill(d);
            daemon_start(d);
        }
    }
    wire_close(first);
}

static void all_topics_are_asked_for_by_null_and_in_version_0_by_nothing(void **state)
{
    struct wire_client *c = client_of(state);
    struct uuid id = TOPIC(c, "all-1", 2);
    TOPIC(c, "all-2", 1);
    each_version(v, API_METADATA)
    {
        struct metadata_request *q = NEW(c, metadata_request);
        q->topics_count = v ? -1 : 0;
        const struct metadata_response *a = wire_ask(c, API_METADATA, v, q);
        const struct metadata_response_topic *t = find(a, "all-1");
        assert_non_null(t);
        assert_non_null(find(a, "all-2"));
        assert_int_equal(t->partitions_count, 2);
        assert_false(t->is_internal);
        assert_true(uuid_eq(t->topic_id, v >= 10 ? id : (struct uuid){{0}}));
        for (int32_t i = 0; i < 2; i++) {
            const struct metadata_response_partition *p = &t->partitions[i];
            assert_code(p->error_code, KERR_NONE);
            assert_int_equal(p->partition_index, i);
            assert_int_equal(p->leader_id, 1);
            assert_int_equal(p->replica_nodes_count, 1);
            assert_int_equal(p->replica_nodes[0], 1);
            assert_int_equal(p->isr_nodes_count, 1);
            assert_int_equal(p->isr_nodes[0], 1);
            assert_int_equal(p->offline_replicas_count, 0);
            assert_int_equal(p->leader_epoch >= 0, v >= 7);
        }
        if (v) { /* and an empty list is none */
            q->topics_count = 0;
            a = wire_ask(c, API_METADATA, v, q);
            assert_int_equal(a->topics_count, 0);
        }
    }
}

static void a_missing_topic_is_made_when_the_request_and_the_settings_agree(void **state)
{
    struct wire_client *c = client_of(state);
    each_version(v, API_METADATA)
    {
        struct str name = wire_text(c, "auto-%d", v);
        struct metadata_request *q = ask_for(c, name.ptr);
        if (v >= 4) { /* before, asking is wanting */
            q->allow_auto_topic_creation = false;
            const struct metadata_response *a = wire_ask(c, API_METADATA, v, q);
            assert_code(a->topics->error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
            assert_true(str_eq(a->topics->name, name));
            assert_int_equal(a->topics->partitions_count, 0);
            q->allow_auto_topic_creation = true;
        }
        const struct metadata_response *a = wire_ask(c, API_METADATA, v, q);
        assert_code(a->topics->error_code, KERR_NONE);
        assert_int_equal(a->topics->partitions_count, 3); /* num.partitions */
        assert_code(a->topics->partitions[2].error_code, KERR_NONE);
        /* what is shown can be used at once */
        assert_int_equal(wire_put_good(c, name.ptr, BATCH(c, 0)), 0);
    }
}

static void nothing_is_made_where_the_settings_say_so(void **state)
{
    (void)state;
    struct daemon *d = DAEMON("auto.create.topics.enable=false");
    struct wire_client *c = wire_connect(d);
    each_version(v, API_METADATA)
    {
        const struct metadata_response *a = wire_ask(c, API_METADATA, v, ask_for(c, "never"));
        assert_code(a->topics->error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    }
    TOPIC(c, "asked-for", 1);
    wire_close(c);
    daemon_destroy(d);
}

static void names_that_cannot_be_are_said_to_be_invalid_one_by_one(void **state)
{
    struct wire_client *c = client_of(state);
    char long_name[251];
    memset(long_name, 'a', sizeof long_name);
    long_name[250] = 0;
    const char *const names[] = {"", ".", "..", "a b", "a/b", "\xc3\xa4", "a:b", long_name};
    enum { N = sizeof names / sizeof *names };
    each_version(v, API_METADATA)
    {
        struct metadata_request *q = NEW(c, metadata_request);
        q->topics = NEWS(c, metadata_request_topic, N + 1);
        q->topics_count = N + 1;
        for (int i = 0; i < N; i++) {
            q->topics[i].name = str_of(names[i]);
        }
        q->topics[N].name = STR("good-name");
        const struct metadata_response *a = wire_ask(c, API_METADATA, v, q);
        assert_int_equal(a->topics_count, N + 1);
        for (int i = 0; i < N; i++) {
            assert_code(find(a, names[i])->error_code, KERR_INVALID_TOPIC_EXCEPTION);
        }
        assert_code(find(a, "good-name")->error_code, KERR_NONE);
    }
    long_name[249] = 0; /* as long as can be */
    TOPIC(c, long_name, 1);
    assert_int_equal(wire_put_good(c, long_name, BATCH(c, 0)), 0);
}

static void topics_are_found_by_their_ids_from_version_12_on(void **state)
{
    struct wire_client *c = client_of(state);
    struct uuid id = TOPIC(c, "by-id", 2);
    const struct uuid unknown = {
        {7, 7}
    };
    for (int16_t v = 10; v <= version_max(API_METADATA); v++) {
        struct metadata_request *q = ask_for(c, NULL);
        q->topics->topic_id = id;
        const struct metadata_response *a = wire_ask(c, API_METADATA, v, q);
        assert_int_equal(a->topics_count, 1);
        if (v < 12) {
            assert_code(a->topics->error_code, KERR_INVALID_REQUEST);
            assert_str(a->topics->name, "");
            continue;
        }
        assert_code(a->topics->error_code, KERR_NONE);
        assert_str(a->topics->name, "by-id");
        assert_true(uuid_eq(a->topics->topic_id, id));
        assert_int_equal(a->topics->partitions_count, 2);
        q->topics->topic_id = unknown;
        a = wire_ask(c, API_METADATA, v, q);
        assert_code(a->topics->error_code, KERR_UNKNOWN_TOPIC_ID);
        assert_null(a->topics->name.ptr);
        assert_true(uuid_eq(a->topics->topic_id, unknown));
        assert_int_equal(a->topics->partitions_count, 0);
    }
}

static void internal_topics_are_marked(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "read-by-somebody", 1);
    commit_something(c, "read-by-somebody");
    for (int16_t v = 1; v <= version_max(API_METADATA); v++) {
        const struct metadata_response *a =
            wire_ask(c, API_METADATA, v, ask_for(c, "__consumer_offsets"));
        assert_code(a->topics->error_code, KERR_NONE);
        assert_true(a->topics->is_internal);
        assert_int_equal(a->topics->partitions_count, 5);
    }
}

static void authorized_operations_are_told_to_those_who_ask(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "operations", 1);
    each_version(v, API_METADATA)
    {
        struct metadata_request *q = ask_for(c, "operations");
        const struct metadata_response *a = wire_ask(c, API_METADATA, v, q);
        assert_int_equal(a->topics->topic_authorized_operations, NOT_ASKED);
        assert_int_equal(a->cluster_authorized_operations, NOT_ASKED);
        if (v >= 8) {
            q->include_topic_authorized_operations = true;
            q->include_cluster_authorized_operations = v <= 10;
            a = wire_ask(c, API_METADATA, v, q);
            assert_int_equal(a->topics->topic_authorized_operations, TOPIC_OPERATIONS);
            assert_int_equal(a->cluster_authorized_operations,
                             v <= 10 ? (int)CLUSTER_OPERATIONS : (int)NOT_ASKED);
        }
    }
}

static void the_leader_epoch_rises_with_every_start_and_ids_stay(void **state)
{
    struct daemon *d = daemon_of(state);
    struct wire_client *c = client_of(state);
    struct uuid id = TOPIC(c, "epoch", 1);
    int32_t epoch = wire_topic_info(c, "epoch")->partitions->leader_epoch;
    for (int round = 0; round < 3; round++) {
        if (round % 2) {
            daemon_restart(d);
        } else {
            daemon_kill(d);
            daemon_start(d);
        }
        struct wire_client *after = wire_connect(d);
        const struct metadata_response_topic *t = wire_topic_info(after, "epoch");
        assert_true(t->partitions->leader_epoch > epoch);
        assert_true(uuid_eq(t->topic_id, id));
        epoch = t->partitions->leader_epoch;
        wire_close(after);
    }
}

/* ---- DescribeCluster */

static void the_cluster_is_described_for_brokers_only(void **state)
{
    struct wire_client *c = client_of(state);
    struct metadata_request *m = NEW(c, metadata_request);
    const struct metadata_response *metadata = wire_ask(c, API_METADATA, 12, m);
    each_version(v, API_DESCRIBE_CLUSTER)
    {
        struct describe_cluster_request *q = NEW(c, describe_cluster_request);
        for (int with = 0; with < 2; with++) {
            q->include_cluster_authorized_operations = with;
            const struct describe_cluster_response *a = wire_ask(c, API_DESCRIBE_CLUSTER, v, q);
            assert_code(a->error_code, KERR_NONE);
            assert_true(str_eq(a->cluster_id, metadata->cluster_id));
            assert_int_equal(a->endpoint_type, 1);
            assert_int_equal(a->controller_id, 1);
            assert_int_equal(a->brokers_count, 1);
            assert_int_equal(a->brokers->broker_id, 1);
            assert_str(a->brokers->host, "127.0.0.1");
            assert_int_equal(a->brokers->port, daemon_of(state)->port);
            assert_false(a->brokers->is_fenced);
            assert_int_equal(a->cluster_authorized_operations,
                             with ? (int)CLUSTER_OPERATIONS : (int)NOT_ASKED);
        }
        if (v >= 1) {
            q->endpoint_type = 2;
            const struct describe_cluster_response *a = wire_ask(c, API_DESCRIBE_CLUSTER, v, q);
            assert_code(a->error_code, KERR_MISMATCHED_ENDPOINT_TYPE);
            q->endpoint_type = 3;
            a = wire_ask(c, API_DESCRIBE_CLUSTER, v, q);
            assert_code(a->error_code, KERR_UNSUPPORTED_ENDPOINT_TYPE);
        }
    }
}

/* ---- DescribeTopicPartitions (KIP-966) */

static struct describe_topic_partitions_request *pages(struct wire_client *c,
                                                       const char *const *names)
{
    struct describe_topic_partitions_request *q = NEW(c, describe_topic_partitions_request);
    while (names && names[q->topics_count]) {
        q->topics_count++;
    }
    q->topics = NEWS(c, describe_topic_partitions_request_topic, q->topics_count);
    for (int32_t i = 0; i < q->topics_count; i++) {
        q->topics[i].name = str_of(names[i]);
    }
    return q;
}

/* Asks page by page and writes "name:partition," of all that comes, each once. */
static int read_pages(struct wire_client *c, struct describe_topic_partitions_request *q,
                      int32_t most, struct buf *out)
{
    int count = 0;
    for (;;) {
        const struct describe_topic_partitions_response *a =
            wire_ask(c, API_DESCRIBE_TOPIC_PARTITIONS, 0, q);
        int32_t partitions = 0;
        count++;
        for (int32_t i = 0; i < a->topics_count; i++) {
            for (int32_t k = 0; k < a->topics[i].partitions_count; k++, partitions++) {
                buf_printf(out, "%.*s:%d,", STR_ARG(a->topics[i].name),
                           a->topics[i].partitions[k].partition_index);
            }
        }
        assert_in_range(partitions, 0, most);
        if (!a->next_cursor) {
            return count;
        }
        assert_true(partitions > 0); /* it goes on */
        q->cursor = NEW(c, describe_topic_partitions_request_cursor);
        q->cursor->topic_name = a->next_cursor->topic_name;
        q->cursor->partition_index = a->next_cursor->partition_index;
    }
}

static void pages_hold_every_partition_once_in_the_order_of_names(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "page-c", 3);
    TOPIC(c, "page-a", 5);
    TOPIC(c, "page-b", 1);
    static const char *const names[] = {"page-c", "page-a", "page-b", "page-a", NULL};
    for (int32_t limit = 1; limit <= 10; limit++) {
        struct buf out = {0};
        struct describe_topic_partitions_request *q = pages(c, names);
        q->response_partition_limit = limit;
        int32_t most = limit > 4 ? 4 : limit; /* max.request.partition.size.limit */
        int count = read_pages(c, q, most, &out);
        assert_string_equal(buf_text(&out), "page-a:0,page-a:1,page-a:2,page-a:3,page-a:4,"
                                            "page-b:0,page-c:0,page-c:1,page-c:2,");
        assert_in_range(count, (9 + most - 1) / most, 9 + 1);
        buf_finish(&out);
    }
}

static void without_names_all_topics_are_paged(void **state)
{
    struct wire_client *c = client_of(state);
    struct buf some = {0}, all = {0};
    TOPIC(c, "page-all", 6);
    struct describe_topic_partitions_request *q = pages(c, NULL);
    q->response_partition_limit = 2;
    read_pages(c, q, 2, &some);
    q = pages(c, NULL);
    read_pages(c, q, 4, &all);
    assert_string_equal(buf_text(&some), buf_text(&all));
    assert_non_null(strstr(buf_text(&all), "page-all:4,page-all:5,"));
    buf_finish(&some);
    buf_finish(&all);
}

static void a_described_topic_says_all_that_tools_show(void **state)
{
    struct wire_client *c = client_of(state);
    struct uuid id = TOPIC(c, "described", 1);
    static const char *const names[] = {"described", "not-there", "a b", NULL};
    const struct describe_topic_partitions_response *a =
        wire_ask(c, API_DESCRIBE_TOPIC_PARTITIONS, 0, pages(c, names));
    assert_int_equal(a->topics_count, 3);
    assert_str(a->topics[0].name, "a b");
    assert_code(a->topics[0].error_code, KERR_INVALID_TOPIC_EXCEPTION);
    const struct describe_topic_partitions_response_topic *t = &a->topics[1];
    assert_str(t->name, "described");
    assert_code(t->error_code, KERR_NONE);
    assert_true(uuid_eq(t->topic_id, id));
    assert_int_equal(t->topic_authorized_operations, TOPIC_OPERATIONS);
    assert_int_equal(t->partitions->leader_id, 1);
    assert_int_equal(t->partitions->replica_nodes[0], 1);
    assert_int_equal(t->partitions->isr_nodes[0], 1);
    assert_int_equal(t->partitions->eligible_leader_replicas_count, 0);
    assert_str(a->topics[2].name, "not-there");
    assert_code(a->topics[2].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    assert_null(a->next_cursor);
}

static void a_cursor_behind_everything_gives_an_empty_page(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "cursor", 2);
    static const char *const names[] = {"cursor", NULL};
    struct describe_topic_partitions_request *q = pages(c, names);
    q->cursor = NEW(c, describe_topic_partitions_request_cursor);
    q->cursor->topic_name = STR("zzz");
    const struct describe_topic_partitions_response *a =
        wire_ask(c, API_DESCRIBE_TOPIC_PARTITIONS, 0, q);
    assert_int_equal(a->topics_count, 0);
    assert_null(a->next_cursor);
    q->cursor->topic_name = STR("cursor");
    q->cursor->partition_index = 1;
    a = wire_ask(c, API_DESCRIBE_TOPIC_PARTITIONS, 0, q);
    assert_int_equal(a->topics_count, 1);
    assert_int_equal(a->topics->partitions_count, 1);
    assert_int_equal(a->topics->partitions->partition_index, 1);
}

/* ---- DescribeLogDirs */

static void the_data_directory_and_the_sizes_in_it_are_told(void **state)
{
    struct wire_client *c = client_of(state);
    struct bytes b = BATCH(c, .value_size = 5000);
    TOPIC(c, "sizes", 2);
    wire_produce(c,
                 (struct wire_produce){.acks = -1, .topic = "sizes", .partition = 1, .records = b});
    each_version(v, API_DESCRIBE_LOG_DIRS)
    {
        struct describe_log_dirs_request *q = NEW(c, describe_log_dirs_request);
        static const int32_t asked[] = {1, 0, 7};
        q->topics = NEWS(c, describe_log_dirs_request_topic, 2);
        q->topics_count = 2;
        q->topics[0].topic = STR("sizes");
        q->topics[0].partitions = (int32_t *)(uintptr_t)asked;
        q->topics[0].partitions_count = 3;
        q->topics[1].topic = STR("not-there");
        const struct describe_log_dirs_response *a = wire_ask(c, API_DESCRIBE_LOG_DIRS, v, q);
        assert_code(a->error_code, KERR_NONE);
        assert_int_equal(a->results_count, 1);
        assert_code(a->results->error_code, KERR_NONE);
        assert_int_equal(a->results->log_dir.ptr[0], '/');
        assert_int_equal(a->results->topics_count, 1); /* what is not there is left out */
        assert_int_equal(a->results->topics->partitions_count, 2);
        for (int32_t i = 0; i < 2; i++) {
            const struct describe_log_dirs_response_partition *p =
                &a->results->topics->partitions[i];
            assert_int_equal(p->partition_size, p->partition_index == 1 ? (int)b.len : 0);
            assert_int_equal(p->offset_lag, 0);
            assert_false(p->is_future_key);
        }
        if (v >= 4) {
            assert_in_range(a->results->usable_bytes, 1, a->results->total_bytes);
        }
        assert_false(a->results->is_cordoned);
        q->topics_count = -1; /* all */
        a = wire_ask(c, API_DESCRIBE_LOG_DIRS, v, q);
        bool there = false;
        for (int32_t i = 0; i < a->results->topics_count; i++) {
            there = there || str_eq(a->results->topics[i].name, STR("sizes"));
        }
        assert_true(there);
    }
}

/* ---- FindCoordinator */

static void this_broker_coordinates_every_group(void **state)
{
    struct wire_client *c = client_of(state);
    static const char *const keys[] = {"g", "", "a group with spaces"};
    each_version(v, API_FIND_COORDINATOR)
    {
        struct find_coordinator_request *q = NEW(c, find_coordinator_request);
        struct str batch[3];
        for (int i = 0; i < 3; i++) {
            batch[i] = str_of(keys[i]);
        }
        if (v >= 4) {
            q->coordinator_keys = batch;
            q->coordinator_keys_count = 3;
            const struct find_coordinator_response *a = wire_ask(c, API_FIND_COORDINATOR, v, q);
            assert_int_equal(a->coordinators_count, 3);
            for (int i = 0; i < 3; i++) {
                assert_str(a->coordinators[i].key, keys[i]);
                assert_code(a->coordinators[i].error_code, KERR_NONE);
                assert_int_equal(a->coordinators[i].node_id, 1);
                assert_str(a->coordinators[i].host, "127.0.0.1");
                assert_int_equal(a->coordinators[i].port, daemon_of(state)->port);
            }
            continue;
        }
        for (int i = 0; i < 3; i++) {
            q->key = batch[i];
            const struct find_coordinator_response *a = wire_ask(c, API_FIND_COORDINATOR, v, q);
            assert_code(a->error_code, KERR_NONE);
            assert_int_equal(a->node_id, 1);
            assert_str(a->host, "127.0.0.1");
            assert_int_equal(a->port, daemon_of(state)->port);
        }
    }
}

/* An error that clients do not retry, with a text: anything else hangs them. */
static void coordinators_of_transactions_and_share_groups_are_refused_for_good(void **state)
{
    struct wire_client *c = client_of(state);
    for (int16_t v = 1; v <= version_max(API_FIND_COORDINATOR); v++) {
        for (int8_t type = 1; type <= 3; type++) {
            struct find_coordinator_request *q = NEW(c, find_coordinator_request);
            struct str key = STR("tx");
            q->key_type = type;
            if (v >= 4) {
                q->coordinator_keys = &key;
                q->coordinator_keys_count = 1;
                const struct find_coordinator_response *a = wire_ask(c, API_FIND_COORDINATOR, v, q);
                assert_int_equal(a->coordinators_count, 1);
                assert_code(a->coordinators->error_code, KERR_INVALID_REQUEST);
                assert_true(a->coordinators->error_message.len > 0);
                assert_int_equal(a->coordinators->node_id, -1);
                assert_int_equal(a->coordinators->port, -1);
            } else {
                q->key = key;
                const struct find_coordinator_response *a = wire_ask(c, API_FIND_COORDINATOR, v, q);
                assert_code(a->error_code, KERR_INVALID_REQUEST);
                assert_true(a->error_message.len > 0);
                assert_int_equal(a->node_id, -1);
                assert_str(a->host, "");
                assert_int_equal(a->port, -1);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        wire_test(brokers_cluster_and_controller_are_the_same_in_every_version_and_after_a_restart),
        wire_test(all_topics_are_asked_for_by_null_and_in_version_0_by_nothing),
        wire_test(a_missing_topic_is_made_when_the_request_and_the_settings_agree),
        wire_test(nothing_is_made_where_the_settings_say_so),
        wire_test(names_that_cannot_be_are_said_to_be_invalid_one_by_one),
        wire_test(topics_are_found_by_their_ids_from_version_12_on),
        wire_test(internal_topics_are_marked),
        wire_test(authorized_operations_are_told_to_those_who_ask),
        wire_test(the_leader_epoch_rises_with_every_start_and_ids_stay),
        wire_test(the_cluster_is_described_for_brokers_only),
        wire_test(pages_hold_every_partition_once_in_the_order_of_names),
        wire_test(without_names_all_topics_are_paged),
        wire_test(a_described_topic_says_all_that_tools_show),
        wire_test(a_cursor_behind_everything_gives_an_empty_page),
        wire_test(the_data_directory_and_the_sizes_in_it_are_told),
        wire_test(this_broker_coordinates_every_group),
        wire_test(coordinators_of_transactions_and_share_groups_are_refused_for_good),
    };
    return cmocka_run_group_tests(tests, setup, wire_fixture_destroy);
}

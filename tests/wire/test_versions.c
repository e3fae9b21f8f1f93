/* What ApiVersions promises is kept: every API answers, well-formed and without an error, in every
 * version that is advertised. What the answers mean is the other files' business. */
#include "broker/api/dispatch.h"
#include "gen/alter_configs.h"
#include "gen/api_versions.h"
#include "gen/create_partitions.h"
#include "gen/delete_groups.h"
#include "gen/delete_records.h"
#include "gen/delete_topics.h"
#include "gen/describe_cluster.h"
#include "gen/describe_configs.h"
#include "gen/describe_groups.h"
#include "gen/describe_log_dirs.h"
#include "gen/describe_producers.h"
#include "gen/describe_topic_partitions.h"
#include "gen/elect_leaders.h"
#include "gen/find_coordinator.h"
#include "gen/heartbeat.h"
#include "gen/incremental_alter_configs.h"
#include "gen/init_producer_id.h"
#include "gen/join_group.h"
#include "gen/leave_group.h"
#include "gen/list_config_resources.h"
#include "gen/list_groups.h"
#include "gen/list_offsets.h"
#include "gen/list_partition_reassignments.h"
#include "gen/offset_commit.h"
#include "gen/offset_delete.h"
#include "gen/offset_fetch.h"
#include "gen/offset_for_leader_epoch.h"
#include "gen/sync_group.h"
#include "tests/kit/wire_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int setup(void **state)
{
    return wire_fixture_create(state, NULL);
}

/* One version of an API: the request that is sent, and where its answer's error code is. */
struct probe {
    struct wire_client *c;
    int16_t version;
    struct uuid id;   /* of the topic "probe", which has one record */
    struct str group; /* nobody else's */
    struct str topic; /* nobody else's name; not there */
};

static void produce(struct probe *p)
{
    const struct produce_response_partition *a =
        wire_produce(p->c, (struct wire_produce){.version = p->version,
                                                 .acks = -1,
                                                 .topic = "probe-produce",
                                                 .id = TOPIC(p->c, p->topic.ptr, 1),
                                                 .records = BATCH(p->c, .count = 2)});
    /* by name it goes into the common topic */
    assert_code(a->error_code, KERR_NONE);
    assert_int_equal(a->log_append_time_ms, -1);
    assert_int_equal(a->log_start_offset, p->version >= 5 ? 0 : -1);
}

static void fetch(struct probe *p)
{
    const struct fetch_response_partition *a =
        wire_fetch(p->c, (struct wire_fetch){.version = p->version, .topic = "probe", .id = p->id});
    assert_code(a->error_code, KERR_NONE);
    assert_int_equal(a->high_watermark, 1);
    assert_int_equal(a->last_stable_offset, 1);
    assert_int_equal(a->log_start_offset, p->version >= 5 ? 0 : -1);
    assert_int_equal(wire_parse(p->c, a->records).count, 1);
}

static void list_offsets(struct probe *p)
{
    struct list_offsets_request *q = NEW(p->c, list_offsets_request);
    q->replica_id = -1;
    q->topics = NEW(p->c, list_offsets_request_topic);
    q->topics_count = 1;
    q->topics->name = STR("probe");
    q->topics->partitions = NEW(p->c, list_offsets_request_partition);
    q->topics->partitions_count = 1;
    q->topics->partitions->timestamp = -1;
    const struct list_offsets_response *a = wire_ask(p->c, API_LIST_OFFSETS, p->version, q);
    assert_code(a->topics->partitions->error_code, KERR_NONE);
    assert_int_equal(a->topics->partitions->offset, 1);
    assert_int_equal(a->topics->partitions->timestamp, -1);
}

static void metadata(struct probe *p)
{
    struct metadata_request *q = NEW(p->c, metadata_request);
    q->topics = NEW(p->c, metadata_request_topic);
    q->topics_count = 1;
    q->topics->name = STR("probe");
    const struct metadata_response *a = wire_ask(p->c, API_METADATA, p->version, q);
    assert_int_equal(a->topics_count, 1);
    assert_code(a->topics->error_code, KERR_NONE);
    assert_str(a->topics->name, "probe");
    assert_int_equal(a->topics->partitions_count, 1);
    assert_int_equal(a->topics->partitions->leader_id, 1);
    assert_int_equal(a->brokers_count, 1);
    assert_str(a->brokers->host, "127.0.0.1");
}

static void offset_commit(struct probe *p)
{
    struct offset_commit_request *q = NEW(p->c, offset_commit_request);
    q->group_id = p->group;
    q->topics = NEW(p->c, offset_commit_request_topic);
    q->topics_count = 1;
    q->topics->name = STR("probe");
    q->topics->topic_id = p->id;
    q->topics->partitions = NEW(p->c, offset_commit_request_partition);
    q->topics->partitions_count = 1;
    q->topics->partitions->committed_offset = 1;
    const struct offset_commit_response *a = wire_ask(p->c, API_OFFSET_COMMIT, p->version, q);
    assert_int_equal(a->topics_count, 1);
    assert_code(a->topics->partitions->error_code, KERR_NONE);
}

static void offset_fetch(struct probe *p)
{
    struct offset_fetch_request *q = NEW(p->c, offset_fetch_request);
    int32_t *partition = wire_room(p->c, 1, sizeof *partition);
    if (p->version < 8) {
        q->group_id = p->group;
        q->topics = NEW(p->c, offset_fetch_request_topic);
        q->topics_count = 1;
        q->topics->name = STR("probe");
        q->topics->partition_indexes = partition;
        q->topics->partition_indexes_count = 1;
    } else {
        q->groups = NEW(p->c, offset_fetch_request_group);
        q->groups_count = 1;
        q->groups->group_id = p->group;
        q->groups->topics = NEW(p->c, offset_fetch_request_group_topic);
        q->groups->topics_count = 1;
        q->groups->topics->name = STR("probe");
        q->groups->topics->topic_id = p->id;
        q->groups->topics->partition_indexes = partition;
        q->groups->topics->partition_indexes_count = 1;
    }
    const struct offset_fetch_response *a = wire_ask(p->c, API_OFFSET_FETCH, p->version, q);
    assert_code(a->error_code, KERR_NONE);
    if (p->version < 8) {
        assert_code(a->topics->partitions->error_code, KERR_NONE);
        assert_int_equal(a->topics->partitions->committed_offset, -1);
    } else {
        assert_code(a->groups->error_code, KERR_NONE);
        assert_code(a->groups->topics->partitions->error_code, KERR_NONE);
        assert_int_equal(a->groups->topics->partitions->committed_offset, -1);
    }
}

static void find_coordinator(struct probe *p)
{
    struct find_coordinator_request *q = NEW(p->c, find_coordinator_request);
    if (p->version < 4) {
        q->key = p->group;
    } else {
        q->coordinator_keys = &p->group;
        q->coordinator_keys_count = 1;
    }
    const struct find_coordinator_response *a = wire_ask(p->c, API_FIND_COORDINATOR, p->version, q);
    if (p->version < 4) {
        assert_code(a->error_code, KERR_NONE);
        assert_int_equal(a->node_id, 1);
    } else {
        assert_int_equal(a->coordinators_count, 1);
        assert_code(a->coordinators->error_code, KERR_NONE);
        assert_int_equal(a->coordinators->node_id, 1);
    }
}

/* A group of one: joins, and returns the member's id. */
static const struct join_group_response *join(struct probe *p, int16_t version)
{
    struct join_group_request *q = NEW(p->c, join_group_request);
    q->group_id = p->group;
    q->session_timeout_ms = 60000;
    q->rebalance_timeout_ms = 60000;
    q->member_id = STR("");
    q->protocol_type = STR("consumer");
    q->protocols = NEW(p->c, join_group_request_protocol);
    q->protocols_count = 1;
    q->protocols->name = STR("range");
    q->protocols->metadata = (struct bytes){(const uint8_t *)"m", 1};
    const struct join_group_response *a = wire_ask(p->c, API_JOIN_GROUP, version, q);
    if (version >= 4) {
        assert_code(a->error_code, KERR_MEMBER_ID_REQUIRED);
        q->member_id = a->member_id;
        a = wire_ask(p->c, API_JOIN_GROUP, version, q);
    }
    assert_code(a->error_code, KERR_NONE);
    assert_int_equal(a->generation_id, 1);
    return a;
}

static void join_group(struct probe *p)
{
    const struct join_group_response *a = join(p, p->version);
    assert_true(str_eq(a->leader, a->member_id));
    assert_int_equal(a->members_count, 1);
    assert_str(a->protocol_name, "range");
}

static void sync_group(struct probe *p)
{
    const struct join_group_response *j = join(p, 9);
    struct sync_group_request *q = NEW(p->c, sync_group_request);
    q->group_id = p->group;
    q->generation_id = 1;
    q->member_id = j->member_id;
    if (p->version >= 5) {
        q->protocol_type = STR("consumer");
        q->protocol_name = STR("range");
    }
    q->assignments = NEW(p->c, sync_group_request_assignment);
    q->assignments_count = 1;
    q->assignments->member_id = j->member_id;
    q->assignments->assignment = (struct bytes){(const uint8_t *)"all", 3};
    const struct sync_group_response *a = wire_ask(p->c, API_SYNC_GROUP, p->version, q);
    assert_code(a->error_code, KERR_NONE);
    assert_int_equal(a->assignment.len, 3);
    assert_memory_equal(a->assignment.ptr, "all", 3);
    assert_str(a->protocol_name, p->version >= 5 ? "range" : NULL);
}

static void heartbeat(struct probe *p)
{
    const struct join_group_response *j = join(p, 9);
    struct heartbeat_request *q = NEW(p->c, heartbeat_request);
    q->group_id = p->group;
    q->generation_id = 1;
    q->member_id = j->member_id;
    const struct heartbeat_response *a = wire_ask(p->c, API_HEARTBEAT, p->version, q);
    assert_code(a->error_code, KERR_NONE);
}

static void leave_group(struct probe *p)
{
    const struct join_group_response *j = join(p, 9);
    struct leave_group_request *q = NEW(p->c, leave_group_request);
    q->group_id = p->group;
    if (p->version < 3) {
        q->member_id = j->member_id;
    } else {
        q->members = NEW(p->c, leave_group_request_member);
        q->members_count = 1;
        q->members->member_id = j->member_id;
    }
    const struct leave_group_response *a = wire_ask(p->c, API_LEAVE_GROUP, p->version, q);
    assert_code(a->error_code, KERR_NONE);
    assert_int_equal(a->members_count, p->version < 3 ? 0 : 1);
    if (p->version >= 3) {
        assert_code(a->members->error_code, KERR_NONE);
        assert_true(str_eq(a->members->member_id, j->member_id));
    }
}

static void describe_groups(struct probe *p)
{
    offset_commit(&(struct probe){.c = p->c, .version = 9, .id = p->id, .group = p->group});
    struct describe_groups_request *q = NEW(p->c, describe_groups_request);
    q->groups = &p->group;
    q->groups_count = 1;
    const struct describe_groups_response *a = wire_ask(p->c, API_DESCRIBE_GROUPS, p->version, q);
    assert_int_equal(a->groups_count, 1);
    assert_code(a->groups->error_code, KERR_NONE);
    assert_str(a->groups->group_state, "Empty");
}

static void list_groups(struct probe *p)
{
    offset_commit(&(struct probe){.c = p->c, .version = 9, .id = p->id, .group = p->group});
    const struct list_groups_response *a =
        wire_ask(p->c, API_LIST_GROUPS, p->version, NEW(p->c, list_groups_request));
    assert_code(a->error_code, KERR_NONE);
    bool there = false;
    for (int32_t i = 0; i < a->groups_count; i++) {
        there = there || str_eq(a->groups[i].group_id, p->group);
    }
    assert_true(there);
}

static void api_versions(struct probe *p)
{
    struct api_versions_request *q = NEW(p->c, api_versions_request);
    q->client_software_name = STR("test");
    q->client_software_version = STR("1");
    const struct api_versions_response *a = wire_ask(p->c, API_API_VERSIONS, p->version, q);
    assert_code(a->error_code, KERR_NONE);
    assert_int_equal(a->api_keys_count, api_row_count);
}

static void create_topics(struct probe *p)
{
    struct create_topics_request *q = NEW(p->c, create_topics_request);
    q->topics = NEW(p->c, create_topics_request_topic);
    q->topics_count = 1;
    q->topics->name = p->topic;
    q->topics->num_partitions = 3;
    q->topics->replication_factor = 1;
    const struct create_topics_response *a = wire_ask(p->c, API_CREATE_TOPICS, p->version, q);
    assert_int_equal(a->topics_count, 1);
    assert_code(a->topics->error_code, KERR_NONE);
    assert_int_equal(a->topics->num_partitions, p->version >= 5 ? 3 : -1);
    assert_int_equal(uuid_is_zero(a->topics->topic_id), p->version < 7);
}

static void delete_topics(struct probe *p)
{
    struct uuid id = TOPIC(p->c, p->topic.ptr, 1);
    struct delete_topics_request *q = NEW(p->c, delete_topics_request);
    q->timeout_ms = 60000;
    if (p->version < 6) {
        q->topic_names = &p->topic;
        q->topic_names_count = 1;
    } else {
        q->topics = NEW(p->c, delete_topics_request_topic);
        q->topics_count = 1;
        q->topics->topic_id = id;
    }
    const struct delete_topics_response *a = wire_ask(p->c, API_DELETE_TOPICS, p->version, q);
    assert_int_equal(a->responses_count, 1);
    assert_code(a->responses->error_code, KERR_NONE);
    assert_true(str_eq(a->responses->name, p->topic));
}

static void init_producer_id(struct probe *p)
{
    struct init_producer_id_request *q = NEW(p->c, init_producer_id_request);
    q->transactional_id = (struct str){0};
    const struct init_producer_id_response *a = wire_ask(p->c, API_INIT_PRODUCER_ID, p->version, q);
    assert_code(a->error_code, KERR_NONE);
    assert_true(a->producer_id >= 0);
    assert_int_equal(a->producer_epoch, 0);
}

static void offset_for_leader_epoch(struct probe *p)
{
    struct offset_for_leader_epoch_request *q = NEW(p->c, offset_for_leader_epoch_request);
    q->topics = NEW(p->c, offset_for_leader_epoch_request_topic);
    q->topics_count = 1;
    q->topics->topic = STR("probe");
    q->topics->partitions = NEW(p->c, offset_for_leader_epoch_request_partition);
    q->topics->partitions_count = 1;
    q->topics->partitions->leader_epoch = wire_topic_info(p->c, "probe")->partitions->leader_epoch;
    const struct offset_for_leader_epoch_response *a =
        wire_ask(p->c, API_OFFSET_FOR_LEADER_EPOCH, p->version, q);
    assert_code(a->topics->partitions->error_code, KERR_NONE);
    assert_int_equal(a->topics->partitions->leader_epoch, q->topics->partitions->leader_epoch);
    assert_int_equal(a->topics->partitions->end_offset, 1);
}

static void describe_configs(struct probe *p)
{
    struct describe_configs_request *q = NEW(p->c, describe_configs_request);
    q->resources = NEW(p->c, describe_configs_request_resource);
    q->resources_count = 1;
    q->resources->resource_type = 2;
    q->resources->resource_name = STR("probe");
    q->resources->configuration_keys_count = -1;
    const struct describe_configs_response *a = wire_ask(p->c, API_DESCRIBE_CONFIGS, p->version, q);
    assert_code(a->results->error_code, KERR_NONE);
    assert_true(a->results->configs_count > 20);
}

static void alter_configs(struct probe *p)
{
    TOPIC(p->c, p->topic.ptr, 1);
    struct alter_configs_request *q = NEW(p->c, alter_configs_request);
    q->resources = NEW(p->c, alter_configs_request_resource);
    q->resources_count = 1;
    q->resources->resource_type = 2;
    q->resources->resource_name = p->topic;
    const struct alter_configs_response *a = wire_ask(p->c, API_ALTER_CONFIGS, p->version, q);
    assert_code(a->responses->error_code, KERR_NONE);
    assert_true(str_eq(a->responses->resource_name, p->topic));
}

static void incremental_alter_configs(struct probe *p)
{
    TOPIC(p->c, p->topic.ptr, 1);
    struct incremental_alter_configs_request *q = NEW(p->c, incremental_alter_configs_request);
    q->resources = NEW(p->c, incremental_alter_configs_request_resource);
    q->resources_count = 1;
    q->resources->resource_type = 2;
    q->resources->resource_name = p->topic;
    const struct incremental_alter_configs_response *a =
        wire_ask(p->c, API_INCREMENTAL_ALTER_CONFIGS, p->version, q);
    assert_code(a->responses->error_code, KERR_NONE);
    assert_true(str_eq(a->responses->resource_name, p->topic));
}

static void describe_log_dirs(struct probe *p)
{
    struct describe_log_dirs_request *q = NEW(p->c, describe_log_dirs_request);
    q->topics_count = -1;
    const struct describe_log_dirs_response *a =
        wire_ask(p->c, API_DESCRIBE_LOG_DIRS, p->version, q);
    assert_code(a->error_code, KERR_NONE);
    assert_int_equal(a->results_count, 1);
    assert_true(a->results->topics_count > 0);
    assert_int_equal(a->results->total_bytes > 0, p->version >= 4);
}

static void delete_groups(struct probe *p)
{
    offset_commit(&(struct probe){.c = p->c, .version = 9, .id = p->id, .group = p->group});
    struct delete_groups_request *q = NEW(p->c, delete_groups_request);
    q->groups_names = &p->group;
    q->groups_names_count = 1;
    const struct delete_groups_response *a = wire_ask(p->c, API_DELETE_GROUPS, p->version, q);
    assert_int_equal(a->results_count, 1);
    assert_code(a->results->error_code, KERR_NONE);
}

static void offset_delete(struct probe *p)
{
    offset_commit(&(struct probe){.c = p->c, .version = 9, .id = p->id, .group = p->group});
    struct offset_delete_request *q = NEW(p->c, offset_delete_request);
    q->group_id = p->group;
    q->topics = NEW(p->c, offset_delete_request_topic);
    q->topics_count = 1;
    q->topics->name = STR("probe");
    q->topics->partitions = NEW(p->c, offset_delete_request_partition);
    q->topics->partitions_count = 1;
    const struct offset_delete_response *a = wire_ask(p->c, API_OFFSET_DELETE, p->version, q);
    assert_code(a->error_code, KERR_NONE);
    assert_code(a->topics->partitions->error_code, KERR_NONE);
}

static void describe_cluster(struct probe *p)
{
    const struct describe_cluster_response *a =
        wire_ask(p->c, API_DESCRIBE_CLUSTER, p->version, NEW(p->c, describe_cluster_request));
    assert_code(a->error_code, KERR_NONE);
    assert_int_equal(a->brokers_count, 1);
    assert_int_equal(a->cluster_id.len, 22);
    assert_int_equal(a->controller_id, 1);
}

static void describe_topic_partitions(struct probe *p)
{
    struct describe_topic_partitions_request *q = NEW(p->c, describe_topic_partitions_request);
    q->topics = NEW(p->c, describe_topic_partitions_request_topic);
    q->topics_count = 1;
    q->topics->name = STR("probe");
    const struct describe_topic_partitions_response *a =
        wire_ask(p->c, API_DESCRIBE_TOPIC_PARTITIONS, p->version, q);
    assert_int_equal(a->topics_count, 1);
    assert_code(a->topics->error_code, KERR_NONE);
    assert_int_equal(a->topics->partitions_count, 1);
}

static void create_partitions(struct probe *p)
{
    TOPIC(p->c, p->topic.ptr, 1);
    struct create_partitions_request *q = NEW(p->c, create_partitions_request);
    q->topics = NEW(p->c, create_partitions_request_topic);
    q->topics_count = 1;
    q->topics->name = p->topic;
    q->topics->count = 3;
    q->topics->assignments_count = -1;
    const struct create_partitions_response *a =
        wire_ask(p->c, API_CREATE_PARTITIONS, p->version, q);
    assert_int_equal(a->results_count, 1);
    assert_code(a->results->error_code, KERR_NONE);
    assert_int_equal(wire_topic_info(p->c, p->topic.ptr)->partitions_count, 3);
}

static void delete_records(struct probe *p)
{
    TOPIC(p->c, p->topic.ptr, 1);
    wire_put_good(p->c, p->topic.ptr, BATCH(p->c, .count = 3));
    struct delete_records_request *q = NEW(p->c, delete_records_request);
    q->topics = NEW(p->c, delete_records_request_topic);
    q->topics_count = 1;
    q->topics->name = p->topic;
    q->topics->partitions = NEW(p->c, delete_records_request_partition);
    q->topics->partitions_count = 1;
    q->topics->partitions->offset = 2;
    const struct delete_records_response *a = wire_ask(p->c, API_DELETE_RECORDS, p->version, q);
    assert_code(a->topics->partitions->error_code, KERR_NONE);
    assert_int_equal(a->topics->partitions->low_watermark, 2);
}

static void elect_leaders(struct probe *p)
{
    int32_t partition = 0;
    struct elect_leaders_request *q = NEW(p->c, elect_leaders_request);
    q->topic_partitions = NEW(p->c, elect_leaders_request_topic_partition);
    q->topic_partitions_count = 1;
    q->topic_partitions->topic = STR("probe");
    q->topic_partitions->partitions = &partition;
    q->topic_partitions->partitions_count = 1;
    const struct elect_leaders_response *a = wire_ask(p->c, API_ELECT_LEADERS, p->version, q);
    assert_code(a->error_code, KERR_NONE);
    assert_code(a->replica_election_results->partition_results->error_code,
                KERR_ELECTION_NOT_NEEDED);
}

static void list_partition_reassignments(struct probe *p)
{
    const struct list_partition_reassignments_response *a =
        wire_ask(p->c, API_LIST_PARTITION_REASSIGNMENTS, p->version,
                 NEW(p->c, list_partition_reassignments_request));
    assert_code(a->error_code, KERR_NONE);
    assert_int_equal(a->topics_count, 0);
}

static void describe_producers(struct probe *p)
{
    int32_t partition = 0;
    struct describe_producers_request *q = NEW(p->c, describe_producers_request);
    q->topics = NEW(p->c, describe_producers_request_topic);
    q->topics_count = 1;
    q->topics->name = STR("probe");
    q->topics->partition_indexes = &partition;
    q->topics->partition_indexes_count = 1;
    const struct describe_producers_response *a =
        wire_ask(p->c, API_DESCRIBE_PRODUCERS, p->version, q);
    assert_code(a->topics->partitions->error_code, KERR_NONE);
    assert_int_equal(a->topics->partitions->active_producers_count, 0);
}

static void list_config_resources(struct probe *p)
{
    const struct list_config_resources_response *a = wire_ask(
        p->c, API_LIST_CONFIG_RESOURCES, p->version, NEW(p->c, list_config_resources_request));
    assert_code(a->error_code, KERR_NONE);
    assert_true((p->version > 0) == (a->config_resources_count > 0));
}

static const struct {
    int16_t key;
    void (*ask)(struct probe *p);
} probes[] = {
    {API_PRODUCE,                      produce                     },
    {API_FETCH,                        fetch                       },
    {API_LIST_OFFSETS,                 list_offsets                },
    {API_METADATA,                     metadata                    },
    {API_OFFSET_COMMIT,                offset_commit               },
    {API_OFFSET_FETCH,                 offset_fetch                },
    {API_FIND_COORDINATOR,             find_coordinator            },
    {API_JOIN_GROUP,                   join_group                  },
    {API_HEARTBEAT,                    heartbeat                   },
    {API_LEAVE_GROUP,                  leave_group                 },
    {API_SYNC_GROUP,                   sync_group                  },
    {API_DESCRIBE_GROUPS,              describe_groups             },
    {API_LIST_GROUPS,                  list_groups                 },
    {API_API_VERSIONS,                 api_versions                },
    {API_CREATE_TOPICS,                create_topics               },
    {API_DELETE_TOPICS,                delete_topics               },
    {API_INIT_PRODUCER_ID,             init_producer_id            },
    {API_OFFSET_FOR_LEADER_EPOCH,      offset_for_leader_epoch     },
    {API_DESCRIBE_CONFIGS,             describe_configs            },
    {API_ALTER_CONFIGS,                alter_configs               },
    {API_DESCRIBE_LOG_DIRS,            describe_log_dirs           },
    {API_DELETE_GROUPS,                delete_groups               },
    {API_INCREMENTAL_ALTER_CONFIGS,    incremental_alter_configs   },
    {API_OFFSET_DELETE,                offset_delete               },
    {API_DESCRIBE_CLUSTER,             describe_cluster            },
    {API_DESCRIBE_TOPIC_PARTITIONS,    describe_topic_partitions   },
    {API_CREATE_PARTITIONS,            create_partitions           },
    {API_DELETE_RECORDS,               delete_records              },
    {API_ELECT_LEADERS,                elect_leaders               },
    {API_LIST_PARTITION_REASSIGNMENTS, list_partition_reassignments},
    {API_DESCRIBE_PRODUCERS,           describe_producers          },
    {API_LIST_CONFIG_RESOURCES,        list_config_resources       },
};

static void every_api_works_in_every_version_that_is_advertised(void **state)
{
    struct wire_client *c = client_of(state);
    const struct api_versions_response *a =
        wire_ask(c, API_API_VERSIONS, 0, NEW(c, api_versions_request));
    struct uuid id = TOPIC(c, "probe", 1);
    TOPIC(c, "probe-produce", 1);
    wire_put_good(c, "probe", BATCH(c, 0));
    int asked = 0;
    for (int32_t i = 0; i < a->api_keys_count; i++) {
        size_t k = 0;
        while (k < sizeof probes / sizeof *probes && probes[k].key != a->api_keys[i].api_key) {
            k++;
        }
        if (k == sizeof probes / sizeof *probes) {
            fail_msg("API key %d is advertised and not tried here", a->api_keys[i].api_key);
        }
        int16_t first = a->api_keys[i].min_version;
        first = a->api_keys[i].api_key == API_PRODUCE ? 3 : first; /* 0 to 2 are refused */
        for (int16_t v = first; v <= a->api_keys[i].max_version; v++, asked++) {
            struct probe p = {.c = c,
                              .version = v,
                              .id = id,
                              .group = wire_text(c, "group-%zu-%d", k, v),
                              .topic = wire_text(c, "topic-%zu-%d", k, v)};
            print_message("API key %d version %d\n", probes[k].key, v);
            probes[k].ask(&p);
        }
    }
    assert_int_equal(a->api_keys_count, sizeof probes / sizeof *probes);
    print_message("%d versions\n", asked);
}

/* What Kafka 4.3 serves of these APIs; a range that is narrower breaks somebody's client. */
static void the_ranges_are_those_of_kafka(void **state)
{
    struct wire_client *c = client_of(state);
    static const int16_t kafka[][3] = {
        {API_PRODUCE,                      0, 13},
        {API_FETCH,                        4, 18},
        {API_LIST_OFFSETS,                 1, 11},
        {API_METADATA,                     0, 13},
        {API_OFFSET_COMMIT,                2, 10},
        {API_OFFSET_FETCH,                 1, 10},
        {API_FIND_COORDINATOR,             0, 6 },
        {API_JOIN_GROUP,                   0, 9 },
        {API_HEARTBEAT,                    0, 4 },
        {API_LEAVE_GROUP,                  0, 5 },
        {API_SYNC_GROUP,                   0, 5 },
        {API_DESCRIBE_GROUPS,              0, 6 },
        {API_LIST_GROUPS,                  0, 5 },
        {API_API_VERSIONS,                 0, 4 },
        {API_CREATE_TOPICS,                2, 7 },
        {API_DELETE_TOPICS,                1, 6 },
        {API_DELETE_RECORDS,               0, 2 },
        {API_INIT_PRODUCER_ID,             0, 5 },
        {API_OFFSET_FOR_LEADER_EPOCH,      2, 4 },
        {API_DESCRIBE_CONFIGS,             1, 4 },
        {API_ALTER_CONFIGS,                0, 2 },
        {API_DESCRIBE_LOG_DIRS,            1, 5 },
        {API_CREATE_PARTITIONS,            0, 3 },
        {API_DELETE_GROUPS,                0, 2 },
        {API_ELECT_LEADERS,                0, 2 },
        {API_INCREMENTAL_ALTER_CONFIGS,    0, 1 },
        {API_LIST_PARTITION_REASSIGNMENTS, 0, 0 },
        {API_OFFSET_DELETE,                0, 0 },
        {API_DESCRIBE_CLUSTER,             0, 2 },
        {API_DESCRIBE_PRODUCERS,           0, 0 },
        {API_LIST_CONFIG_RESOURCES,        0, 1 },
        {API_DESCRIBE_TOPIC_PARTITIONS,    0, 0 },
    };
    struct api_versions_request *q = NEW(c, api_versions_request);
    q->client_software_name = STR("test");
    q->client_software_version = STR("1");
    each_version(v, API_API_VERSIONS)
    {
        const struct api_versions_response *a = wire_ask(c, API_API_VERSIONS, v, q);
        assert_int_equal(a->api_keys_count, sizeof kafka / sizeof *kafka);
        for (int32_t i = 0; i < a->api_keys_count; i++) {
            assert_int_equal(a->api_keys[i].api_key, kafka[i][0]);
            assert_int_equal(a->api_keys[i].min_version, kafka[i][1]);
            assert_int_equal(a->api_keys[i].max_version, kafka[i][2]);
        }
        /* No transactions: clients must not find the feature. */
        assert_int_equal(a->finalized_features_count, 0);
        assert_false(a->zk_migration_ready);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        wire_test(every_api_works_in_every_version_that_is_advertised),
        wire_test(the_ranges_are_those_of_kafka),
    };
    return cmocka_run_group_tests(tests, setup, wire_fixture_destroy);
}

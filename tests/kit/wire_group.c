#include "tests/kit/wire_group.h"

#include "base/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct bytes bytes_of(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}

struct member member_of(struct wire_client *c, const char *group)
{
    return (struct member){
        .c = c, .group = group, .id = STR(""), .generation = -1, .join_version = -1};
}

static int16_t join_version(const struct member *m)
{
    return m->join_version >= 0 ? m->join_version : version_max(API_JOIN_GROUP);
}

static void add_protocols(const struct member *m, struct join_group_request *q)
{
    const char *left = m->protocols ? m->protocols : "range";
    q->protocols = NEWS(m->c, join_group_request_protocol, 8);
    while (*left) {
        size_t len = strcspn(left, ",");
        check(q->protocols_count < 8);
        q->protocols[q->protocols_count].name = (struct str){left, len};
        q->protocols[q->protocols_count++].metadata = bytes_of(m->metadata ? m->metadata : "meta");
        left += len + (left[len] == ',');
    }
}

int32_t member_send_join(struct member *m)
{
    struct join_group_request *q = NEW(m->c, join_group_request);
    q->group_id = str_of(m->group);
    q->session_timeout_ms = m->session_ms ? m->session_ms : 60000;
    q->rebalance_timeout_ms = m->rebalance_ms ? m->rebalance_ms : 60000;
    q->member_id = m->id;
    q->group_instance_id = str_of(m->instance);
    q->protocol_type = str_of(m->type ? m->type : "consumer");
    add_protocols(m, q);
    return wire_request(m->c, API_JOIN_GROUP, join_version(m), q);
}

const struct join_group_response *member_joined(struct member *m, int32_t correlation_id)
{
    const struct join_group_response *a =
        wire_answer(m->c, API_JOIN_GROUP, join_version(m), correlation_id);
    if (!a->error_code) {
        m->id = a->member_id;
        m->generation = a->generation_id;
    }
    return a;
}

void member_get_id(struct member *m)
{
    const struct join_group_response *a = member_joined(m, member_send_join(m));
    assert_code(a->error_code, KERR_MEMBER_ID_REQUIRED);
    assert_true(a->member_id.len > 0);
    assert_int_equal(a->generation_id, -1);
    m->id = a->member_id;
}

const struct join_group_response *member_join(struct member *m)
{
    if (!m->instance && m->id.len == 0 && join_version(m) >= 4) {
        member_get_id(m);
    }
    return member_joined(m, member_send_join(m));
}

int32_t member_send_sync(struct member *m, const struct assignment *list)
{
    struct sync_group_request *q = NEW(m->c, sync_group_request);
    int32_t count = 0;
    while (list && list[count].id.ptr) {
        count++;
    }
    q->group_id = str_of(m->group);
    q->generation_id = m->generation;
    q->member_id = m->id;
    q->group_instance_id = str_of(m->instance);
    q->protocol_type = STR("consumer");
    q->protocol_name =
        m->protocols && !strchr(m->protocols, ',') ? str_of(m->protocols) : STR("range");
    q->assignments = NEWS(m->c, sync_group_request_assignment, count);
    q->assignments_count = count;
    for (int32_t i = 0; i < count; i++) {
        q->assignments[i].member_id = list[i].id;
        q->assignments[i].assignment = bytes_of(list[i].text);
    }
    return wire_request(m->c, API_SYNC_GROUP, 5, q);
}

const struct sync_group_response *member_synced(struct member *m, int32_t correlation_id)
{
    return wire_answer(m->c, API_SYNC_GROUP, 5, correlation_id);
}

const struct sync_group_response *member_sync(struct member *m, const struct assignment *list)
{
    return member_synced(m, member_send_sync(m, list));
}

int16_t member_heartbeat(struct member *m)
{
    struct heartbeat_request *q = NEW(m->c, heartbeat_request);
    q->group_id = str_of(m->group);
    q->generation_id = m->generation;
    q->member_id = m->id;
    q->group_instance_id = str_of(m->instance);
    const struct heartbeat_response *a = wire_ask(m->c, API_HEARTBEAT, 4, q);
    return a->error_code;
}

int16_t member_leaves(struct member *m)
{
    struct leave_group_request *q = NEW(m->c, leave_group_request);
    q->group_id = str_of(m->group);
    q->members = NEW(m->c, leave_group_request_member);
    q->members_count = 1;
    q->members->member_id = m->id;
    q->members->group_instance_id = str_of(m->instance);
    const struct leave_group_response *a = wire_ask(m->c, API_LEAVE_GROUP, 5, q);
    assert_code(a->error_code, KERR_NONE);
    assert_int_equal(a->members_count, 1);
    return a->members->error_code;
}

void member_become_stable(struct member *m)
{
    const struct join_group_response *j = member_join(m);
    assert_code(j->error_code, KERR_NONE);
    assert_true(str_eq(j->leader, m->id));
    const struct assignment all[] = {
        {m->id, "all"},
        {{0},   NULL }
    };
    const struct sync_group_response *s = member_sync(m, all);
    assert_code(s->error_code, KERR_NONE);
    assert_int_equal(s->assignment.len, 3);
}

/* ---- offsets */

int16_t wire_commit(struct wire_client *c, struct commit k)
{
    int16_t version = k.version ? k.version : 9;
    struct offset_commit_request *q = NEW(c, offset_commit_request);
    q->group_id = str_of(k.group);
    if (k.member) {
        q->generation_id_or_member_epoch = k.member->generation;
        q->member_id = k.member->id;
        q->group_instance_id = version >= 7 ? str_of(k.member->instance) : (struct str){0};
    }
    q->topics = NEW(c, offset_commit_request_topic);
    q->topics_count = 1;
    q->topics->name = k.topic ? str_of(k.topic) : STR("");
    q->topics->topic_id = k.topic_id;
    q->topics->partitions = NEW(c, offset_commit_request_partition);
    q->topics->partitions_count = 1;
    q->topics->partitions->partition_index = k.partition;
    q->topics->partitions->committed_offset = k.offset;
    q->topics->partitions->committed_leader_epoch = k.leader_epoch ? k.leader_epoch : -1;
    q->topics->partitions->committed_metadata = str_of(k.metadata);
    const struct offset_commit_response *a = wire_ask(c, API_OFFSET_COMMIT, version, q);
    assert_int_equal(a->topics_count, 1);
    assert_int_equal(a->topics->partitions_count, 1);
    assert_int_equal(a->topics->partitions->partition_index, k.partition);
    return a->topics->partitions->error_code;
}

const struct offset_fetch_response_group_topic_partition *wire_committed_whole(
    struct wire_client *c, const char *group, const char *topic, int32_t partition)
{
    struct offset_fetch_request *q = NEW(c, offset_fetch_request);
    q->groups = NEW(c, offset_fetch_request_group);
    q->groups_count = 1;
    q->groups->group_id = str_of(group);
    q->groups->topics = NEW(c, offset_fetch_request_group_topic);
    q->groups->topics_count = 1;
    q->groups->topics->name = str_of(topic);
    q->groups->topics->partition_indexes = &partition;
    q->groups->topics->partition_indexes_count = 1;
    const struct offset_fetch_response *a = wire_ask(c, API_OFFSET_FETCH, 9, q);
    assert_int_equal(a->groups_count, 1);
    assert_str(a->groups->group_id, group);
    assert_code(a->groups->error_code, KERR_NONE);
    assert_int_equal(a->groups->topics_count, 1);
    assert_str(a->groups->topics->name, topic);
    assert_int_equal(a->groups->topics->partitions_count, 1);
    assert_int_equal(a->groups->topics->partitions->partition_index, partition);
    return a->groups->topics->partitions;
}

int64_t wire_committed(struct wire_client *c, const char *group, const char *topic,
                       int32_t partition)
{
    const struct offset_fetch_response_group_topic_partition *p =
        wire_committed_whole(c, group, topic, partition);
    assert_code(p->error_code, KERR_NONE);
    return p->committed_offset;
}

const struct describe_groups_response_group *wire_describe_group(struct wire_client *c,
                                                                 int16_t version, const char *group)
{
    struct describe_groups_request *q = NEW(c, describe_groups_request);
    struct str id = str_of(group);
    q->groups = &id;
    q->groups_count = 1;
    const struct describe_groups_response *a = wire_ask(c, API_DESCRIBE_GROUPS, version, q);
    assert_int_equal(a->groups_count, 1);
    assert_str(a->groups->group_id, group);
    return a->groups;
}

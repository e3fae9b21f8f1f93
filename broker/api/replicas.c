/* ListPartitionReassignments and ElectLeaders: every partition has one replica, which leads it. So
 * none is on its way, and no election is needed. */
#include "broker/api/families.h"
#include "broker/meta/meta.h"
#include "gen/elect_leaders.h"
#include "gen/list_partition_reassignments.h"

enum { PREFERRED = 0, UNCLEAN = 1, TYPES_SINCE = 1 };

err api_list_partition_reassignments(struct request *req)
{
    struct list_partition_reassignments_response *out = request_reply(req);
    if (!authorize(req, ACL_DESCRIBE, ACL_CLUSTER, STR("kafka-cluster"))) {
        out->error_code = KERR_CLUSTER_AUTHORIZATION_FAILED;
    }
    reply(req, 0);
    return OK;
}

static int16_t elect(const struct topic *t, int32_t partition, int16_t refused)
{
    if (refused != KERR_NONE) {
        return refused;
    }
    bool there = t && partition >= 0 && partition < t->partition_count;
    return there ? KERR_ELECTION_NOT_NEEDED : KERR_UNKNOWN_TOPIC_OR_PARTITION;
}

/* Without names every topic is meant, and of partitions only those that had an election are told,
 * as in Kafka: none. */
static err elect_all(struct request *req, struct elect_leaders_response *out)
{
    int32_t count = meta_topic_count(req->env->meta);
    out->replica_election_results =
        wire_array(&req->arena, &elect_leaders_response_result_table, count);
    for (int32_t i = 0; out->replica_election_results && i < count; i++) {
        struct str name = request_copy(req, meta_topic_at(req->env->meta, i)->name);
        out->replica_election_results[i].topic = name;
        out->replica_election_results_count += name.ptr != NULL;
    }
    return out->replica_election_results_count == count ? OK : arena_error(&req->arena);
}

static err elect_named(struct request *req, int16_t refused, struct elect_leaders_response *out)
{
    const struct elect_leaders_request *in = request_body(req);
    int32_t count = in->topic_partitions_count;
    out->replica_election_results =
        wire_array(&req->arena, &elect_leaders_response_result_table, count);
    if (!out->replica_election_results) {
        return arena_error(&req->arena);
    }
    out->replica_election_results_count = count;
    for (int32_t i = 0; i < count; i++) {
        const struct elect_leaders_request_topic_partition *asked = &in->topic_partitions[i];
        struct elect_leaders_response_result *to = &out->replica_election_results[i];
        const struct topic *t = meta_find(req->env->meta, asked->topic);
        to->topic = asked->topic;
        to->partition_results = wire_array(&req->arena, &elect_leaders_response_partition_table,
                                           asked->partitions_count);
        if (!to->partition_results) {
            return arena_error(&req->arena);
        }
        to->partition_results_count = asked->partitions_count;
        for (int32_t k = 0; k < asked->partitions_count; k++) {
            struct elect_leaders_response_partition *p = &to->partition_results[k];
            p->partition_id = asked->partitions[k];
            p->error_code = elect(t, p->partition_id, refused);
            p->error_message = str_of(kafka_error_text(p->error_code));
        }
    }
    return OK;
}

err api_elect_leaders(struct request *req)
{
    const struct elect_leaders_request *in = request_body(req);
    struct elect_leaders_response *out = request_reply(req);
    int16_t refused = KERR_NONE;
    err e = OK;
    if (!authorize(req, ACL_ALTER, ACL_CLUSTER, STR("kafka-cluster"))) {
        refused = KERR_CLUSTER_AUTHORIZATION_FAILED;
    } else if (in->election_type != PREFERRED && in->election_type != UNCLEAN) {
        refused = KERR_INVALID_REQUEST;
    }
    /* The oldest version has no error of the whole: each partition gets it. */
    bool per_partition = req->header.api_version < TYPES_SINCE;
    if (refused != KERR_NONE && !per_partition) {
        out->error_code = refused;
    } else if (in->topic_partitions_count < 0) {
        e = refused == KERR_NONE ? elect_all(req, out) : OK;
    } else {
        e = elect_named(req, refused, out);
    }
    if (e == OK) {
        reply(req, 0);
    }
    return e;
}

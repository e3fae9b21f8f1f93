/* DescribeProducers: what partitions remember of idempotent producers. */
#include "gen/describe_producers.h"
#include "broker/api/families.h"
#include "broker/api/partition.h"

static err describe(struct request *req, const struct log *log,
                    struct describe_producers_response_partition *out)
{
    int32_t count = log_producer_count(log);
    struct log_producer *found = arena_zero(&req->arena, (size_t)count, sizeof *found);
    out->active_producers =
        wire_array(&req->arena, &describe_producers_response_active_producer_table, count);
    if (!found || !out->active_producers) {
        return arena_error(&req->arena);
    }
    log_producers(log, found);
    out->active_producers_count = count;
    for (int32_t i = 0; i < count; i++) {
        struct describe_producers_response_active_producer *p = &out->active_producers[i];
        p->producer_id = found[i].id;
        p->producer_epoch = found[i].epoch;
        p->last_sequence = found[i].last_sequence;
        p->last_timestamp = found[i].used_ms;
        p->coordinator_epoch = -1; /* no transaction has ended here, and none is open */
    }
    return OK;
}

/* Until its shard has told, a partition is said to be nobody's. */
static err begin_topic(struct request *req, const struct describe_producers_request_topic *in,
                       struct describe_producers_response_topic *out)
{
    int16_t topic_code = KERR_NONE;
    const struct topic *t = request_topic(req, in->name, NULL, ACL_READ, &topic_code);
    out->name = in->name;
    out->partitions = wire_array(&req->arena, &describe_producers_response_partition_table,
                                 in->partition_indexes_count);
    if (!out->partitions) {
        return arena_error(&req->arena);
    }
    out->partitions_count = in->partition_indexes_count;
    for (int32_t i = 0; i < in->partition_indexes_count; i++) {
        struct describe_producers_response_partition *p = &out->partitions[i];
        p->partition_index = in->partition_indexes[i];
        p->error_code = t ? check_partition(t, p->partition_index) : topic_code;
        p->error_code = p->error_code ? p->error_code : (int16_t)KERR_NOT_LEADER_OR_FOLLOWER;
        p->error_message = str_of(kafka_error_text(p->error_code));
    }
    return OK;
}

/* What is the shard's that the request is at. */
static err describe_own(struct request *req)
{
    struct describe_producers_response *out = request_reply(req);
    for (int32_t i = 0; i < out->topics_count; i++) {
        struct describe_producers_response_topic *topic = &out->topics[i];
        const struct topic *t = meta_find(req->env->meta, topic->name);
        for (int32_t k = 0; t && k < topic->partitions_count; k++) {
            struct describe_producers_response_partition *p = &topic->partitions[k];
            const struct log *log = p->error_code == KERR_NOT_LEADER_OR_FOLLOWER
                                        ? request_log(req, t, p->partition_index)
                                        : NULL;
            if (log) {
                p->error_code = KERR_NONE;
                p->error_message = (struct str){0};
                err e = describe(req, log, p);
                if (e != OK) {
                    return e;
                }
            }
        }
    }
    reply(req, 0);
    return OK;
}

err api_describe_producers(struct request *req)
{
    const struct describe_producers_request *in = request_body(req);
    struct describe_producers_response *out = request_reply(req);
    err e = OK;
    out->topics =
        wire_array(&req->arena, &describe_producers_response_topic_table, in->topics_count);
    if (!out->topics) {
        return arena_error(&req->arena);
    }
    out->topics_count = in->topics_count;
    for (int32_t i = 0; i < in->topics_count && e == OK; i++) {
        e = begin_topic(req, &in->topics[i], &out->topics[i]);
    }
    return e == OK ? request_visit(req, describe_own, NULL) : e;
}

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

static err describe_topic(struct request *req, const struct describe_producers_request_topic *in,
                          struct describe_producers_response_topic *out)
{
    int16_t topic_code = KERR_NONE;
    const struct topic *t = request_topic(req, in->name, NULL, ACL_READ, &topic_code);
    err e = OK;
    out->name = in->name;
    out->partitions = wire_array(&req->arena, &describe_producers_response_partition_table,
                                 in->partition_indexes_count);
    if (!out->partitions) {
        return arena_error(&req->arena);
    }
    out->partitions_count = in->partition_indexes_count;
    for (int32_t i = 0; i < in->partition_indexes_count && e == OK; i++) {
        struct describe_producers_response_partition *p = &out->partitions[i];
        p->partition_index = in->partition_indexes[i];
        p->error_code = topic_code;
        const struct log *log = t ? request_log(req, t, p->partition_index, &p->error_code) : NULL;
        if (log) {
            e = describe(req, log, p);
        } else {
            p->error_message = str_of(kafka_error_text(p->error_code));
        }
    }
    return e;
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
        e = describe_topic(req, &in->topics[i], &out->topics[i]);
    }
    if (e == OK) {
        reply(req, 0);
    }
    return e;
}

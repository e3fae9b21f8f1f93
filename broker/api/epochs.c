/* OffsetForLeaderEpoch (KIP-320): where a leader epoch, a start of this broker, ended. */
#include "broker/api/families.h"
#include "broker/api/partition.h"
#include "gen/offset_for_leader_epoch.h"

err api_offset_for_leader_epoch(struct request *req)
{
    const struct offset_for_leader_epoch_request *in = request_body(req);
    struct offset_for_leader_epoch_response *out = request_reply(req);
    out->topics =
        wire_array(&req->arena, &offset_for_leader_epoch_response_topic_table, in->topics_count);
    if (!out->topics) {
        return arena_error(&req->arena);
    }
    out->topics_count = in->topics_count;
    for (int32_t i = 0; i < in->topics_count; i++) {
        const struct offset_for_leader_epoch_request_topic *topic = &in->topics[i];
        struct offset_for_leader_epoch_response_topic *answer = &out->topics[i];
        int16_t topic_code = KERR_NONE;
        const struct topic *t = request_topic(req, topic->topic, NULL, ACL_DESCRIBE, &topic_code);
        answer->topic = topic->topic;
        answer->partitions_count = topic->partitions_count;
        answer->partitions =
            wire_array(&req->arena, &offset_for_leader_epoch_response_partition_table,
                       topic->partitions_count);
        if (!answer->partitions) {
            return arena_error(&req->arena);
        }
        for (int32_t k = 0; k < topic->partitions_count; k++) {
            const struct offset_for_leader_epoch_request_partition *asked = &topic->partitions[k];
            struct offset_for_leader_epoch_response_partition *p = &answer->partitions[k];
            int16_t code = topic_code;
            struct log *log = code ? NULL : request_log(req, t, asked->partition, &code);
            code = log ? check_leader_epoch(log, asked->current_leader_epoch) : code;
            p->partition = asked->partition;
            p->error_code = code;
            if (!code) {
                log_epoch_end(log, asked->leader_epoch, &p->leader_epoch, &p->end_offset);
            }
        }
    }
    reply(req, 0);
    return OK;
}

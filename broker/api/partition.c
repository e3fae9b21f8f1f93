#include "broker/api/partition.h"

#include "broker/log/manager.h"

struct topic *request_topic(const struct request *req, struct str name, const struct uuid *id,
                            enum acl_operation op, int16_t *ret_code)
{
    struct topic *t = id ? meta_find_id(req->env->meta, *id) : meta_find(req->env->meta, name);
    struct str shown = t ? t->name : name;
    /* Who may not see a topic is not told whether it is there. */
    if (!id || t) {
        if (!authorize(req, op, ACL_TOPIC, shown)) {
            *ret_code = KERR_TOPIC_AUTHORIZATION_FAILED;
            return NULL;
        }
    }
    if (!t) {
        *ret_code = id ? KERR_UNKNOWN_TOPIC_ID : KERR_UNKNOWN_TOPIC_OR_PARTITION;
    }
    return t;
}

int16_t check_partition(const struct topic *t, int32_t partition)
{
    return partition < 0 || partition >= t->partition_count ? KERR_UNKNOWN_TOPIC_OR_PARTITION
                                                            : KERR_NONE;
}

bool partition_call_send(struct request *req, const struct topic *t, int32_t partition,
                         struct partition_call *call)
{
    struct shard *here = req->env->shard;
    call->topic = t->id;
    call->partition = partition;
    request_hold(req);
    bool dealt_with =
        message_send(&call->message, here, &here->all->list[topic_shard(t, partition, here->all)]);
    if (dealt_with) {
        request_release(req);
    }
    return dealt_with;
}

struct log *partition_call_log(const struct partition_call *call)
{
    return log_manager_find(call->message.to->logs, call->topic, call->partition);
}

struct log *request_log(const struct request *req, const struct topic *t, int32_t partition)
{
    return log_manager_find(req->env->logs, t->id, partition);
}

int16_t check_leader_epoch(const struct log *log, int32_t epoch)
{
    int32_t ours = log_leader_epoch(log);
    if (epoch < 0 || epoch == ours) {
        return KERR_NONE;
    }
    return epoch < ours ? KERR_FENCED_LEADER_EPOCH : KERR_UNKNOWN_LEADER_EPOCH;
}

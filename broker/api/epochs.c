/* OffsetForLeaderEpoch (KIP-320): where a leader epoch, a start of this broker, ended. */
#include "broker/api/families.h"
#include "broker/api/partition.h"
#include "gen/offset_for_leader_epoch.h"

struct part {
    struct partition_call call;
    struct epochs *all;
    const struct offset_for_leader_epoch_request_partition *in;
    struct offset_for_leader_epoch_response_partition *out;
};

struct epochs {
    struct request *req;
    int32_t left; /* parts under way, and 1 while the handler runs */
};

static bool part_run(struct message *m) /* at the partition's shard */
{
    struct part *p = list_entry(m, struct part, call.message);
    const struct log *log = partition_call_log(&p->call);
    p->out->error_code = log ? check_leader_epoch(log, p->in->current_leader_epoch)
                             : (int16_t)KERR_NOT_LEADER_OR_FOLLOWER;
    if (!p->out->error_code) {
        log_epoch_end(log, p->in->leader_epoch, &p->out->leader_epoch, &p->out->end_offset);
    }
    return true;
}

static void finish_one(struct epochs *all)
{
    if (--all->left == 0) {
        reply(all->req, 0);
    }
}

static void part_done(struct message *m)
{
    struct part *p = list_entry(m, struct part, call.message);
    struct request *req = p->all->req;
    finish_one(p->all);
    request_release(req);
}

static void begin_one(struct part *p, const struct topic *t)
{
    p->out->error_code = check_partition(t, p->in->partition);
    if (p->out->error_code) {
        return;
    }
    p->call.message.run = part_run;
    p->call.message.done = part_done;
    p->all->left++;
    if (partition_call_send(p->all->req, t, p->in->partition, &p->call)) {
        p->all->left--;
    }
}

static err begin_topic(struct epochs *all, const struct offset_for_leader_epoch_request_topic *in,
                       struct offset_for_leader_epoch_response_topic *out)
{
    struct request *req = all->req;
    int16_t code = KERR_NONE;
    struct part *parts = arena_zero(&req->arena, (size_t)in->partitions_count, sizeof *parts);
    out->topic = in->topic;
    out->partitions = wire_array(&req->arena, &offset_for_leader_epoch_response_partition_table,
                                 in->partitions_count);
    if (!parts || !out->partitions) {
        return arena_error(&req->arena);
    }
    out->partitions_count = in->partitions_count;
    const struct topic *t = request_topic(req, in->topic, NULL, ACL_DESCRIBE, &code);
    for (int32_t i = 0; i < in->partitions_count; i++) {
        struct part *p = &parts[i];
        *p = (struct part){.all = all, .in = &in->partitions[i], .out = &out->partitions[i]};
        p->out->partition = p->in->partition;
        p->out->error_code = code;
        if (t) {
            begin_one(p, t);
        }
    }
    return OK;
}

err api_offset_for_leader_epoch(struct request *req)
{
    const struct offset_for_leader_epoch_request *in = request_body(req);
    struct offset_for_leader_epoch_response *out = request_reply(req);
    struct epochs *all = arena_zero(&req->arena, 1, sizeof *all);
    out->topics =
        wire_array(&req->arena, &offset_for_leader_epoch_response_topic_table, in->topics_count);
    if (!all || !out->topics) {
        return arena_error(&req->arena);
    }
    *all = (struct epochs){req, 1};
    out->topics_count = in->topics_count;
    err e = OK;
    for (int32_t i = 0; i < in->topics_count && e == OK; i++) {
        e = begin_topic(all, &in->topics[i], &out->topics[i]);
    }
    if (e == OK) { /* otherwise what is under way ends without an answer */
        finish_one(all);
    }
    return e;
}

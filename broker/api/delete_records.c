/* DeleteRecords: moves the start of partitions forward; the answer goes when the last of the new
 * starts is durable. */
#include "gen/delete_records.h"
#include "broker/api/codes.h"
#include "broker/api/families.h"
#include "broker/api/partition.h"

enum { TO_HIGH_WATERMARK = -1, NO_LOW_WATERMARK = -1 };

struct part {
    struct partition_call call;
    struct log_deletion deletion;
    struct delete_records *all;
    int64_t offset; /* as asked for */
    struct delete_records_response_partition *out;
};

struct delete_records {
    struct request *req;
    int32_t left; /* deletions under way, and 1 while the handler runs */
};

/* ---- at the partition's shard */

static void set_result(struct part *p, err e)
{
    if (e != OK && e != ERR_EXISTS) { /* EXISTS: a retry, or less than was deleted before */
        p->out->error_code = e == ERR_NO_SPACE ? KERR_KAFKA_STORAGE_ERROR : code_of_read(e);
        p->out->low_watermark = NO_LOW_WATERMARK;
    }
}

static void deletion_ended(struct log_deletion *deletion)
{
    struct part *p = list_entry(deletion, struct part, deletion);
    set_result(p, deletion->result);
    if (deletion->result == OK) {
        p->out->low_watermark = deletion->start_offset;
    }
    message_return(&p->call.message);
}

static bool part_run(struct message *m)
{
    struct part *p = list_entry(m, struct part, call.message);
    struct log *log = partition_call_log(&p->call);
    if (!log) {
        p->out->error_code = KERR_NOT_LEADER_OR_FOLLOWER;
        return true;
    }
    p->deletion = (struct log_deletion){
        .offset = p->offset == TO_HIGH_WATERMARK ? log_high_watermark(log) : p->offset,
        .done = deletion_ended};
    p->out->low_watermark = log_start_offset(log);
    err e = log_delete_records(log, &p->deletion);
    set_result(p, e);
    return e != OK;
}

/* ---- the request */

static void finish_one(struct delete_records *d)
{
    if (--d->left == 0 && !request_is_dropped(d->req)) {
        reply(d->req, 0);
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
    p->call.message.run = part_run;
    p->call.message.done = part_done;
    p->all->left++;
    if (partition_call_send(p->all->req, t, p->out->partition_index, &p->call)) {
        p->all->left--;
    }
}

/* Why nothing may be deleted from any partition of the topic, as Kafka says it. */
static int16_t check_topic(const struct topic *t)
{
    if (t->internal) {
        return KERR_INVALID_TOPIC_EXCEPTION;
    }
    return t->config->cleanup == CONFIG_CLEANUP_COMPACT ? KERR_POLICY_VIOLATION : KERR_NONE;
}

static err begin_topic(struct delete_records *d, const struct delete_records_request_topic *in,
                       struct delete_records_response_topic *out)
{
    struct request *req = d->req;
    int16_t topic_code = KERR_NONE;
    struct part *parts = arena_zero(&req->arena, (size_t)in->partitions_count, sizeof *parts);
    out->name = in->name;
    out->partitions =
        wire_array(&req->arena, &delete_records_response_partition_table, in->partitions_count);
    if (!parts || !out->partitions) {
        return arena_error(&req->arena);
    }
    out->partitions_count = in->partitions_count;
    const struct topic *t = request_topic(req, in->name, NULL, ACL_DELETE, &topic_code);
    topic_code = t ? check_topic(t) : topic_code;
    for (int32_t i = 0; i < in->partitions_count; i++) {
        struct part *p = &parts[i];
        p->all = d;
        p->out = &out->partitions[i];
        p->out->partition_index = in->partitions[i].partition_index;
        p->out->low_watermark = NO_LOW_WATERMARK;
        p->offset = in->partitions[i].offset;
        p->out->error_code = topic_code ? topic_code : check_partition(t, p->out->partition_index);
        if (!p->out->error_code) {
            begin_one(p, t);
        }
    }
    return OK;
}

err api_delete_records(struct request *req)
{
    const struct delete_records_request *in = request_body(req);
    struct delete_records_response *out = request_reply(req);
    struct delete_records *d = arena_zero(&req->arena, 1, sizeof *d);
    out->topics = wire_array(&req->arena, &delete_records_response_topic_table, in->topics_count);
    if (!d || !out->topics) {
        return arena_error(&req->arena);
    }
    *d = (struct delete_records){req, 1};
    out->topics_count = in->topics_count;
    err e = OK;
    for (int32_t i = 0; i < in->topics_count && e == OK; i++) {
        e = begin_topic(d, &in->topics[i], &out->topics[i]);
    }
    if (e == OK) { /* otherwise what is under way ends without an answer */
        finish_one(d);
    }
    return e;
}

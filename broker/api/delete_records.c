/* DeleteRecords: moves the start of partitions forward; the answer goes when the last of the new
 * starts is durable. */
#include "gen/delete_records.h"
#include "broker/api/codes.h"
#include "broker/api/families.h"
#include "broker/api/partition.h"

enum { TO_HIGH_WATERMARK = -1, NO_LOW_WATERMARK = -1 };

struct part {
    struct log_deletion deletion;
    struct delete_records *all;
    struct log *log;
    struct delete_records_response_partition *out;
};

struct delete_records {
    struct request *req;
    int32_t left; /* deletions under way, and 1 while the handler runs */
};

static void finish_one(struct delete_records *d)
{
    if (--d->left == 0 && !request_is_dropped(d->req)) {
        reply(d->req, 0);
    }
}

static void set_result(struct part *p, err e)
{
    if (e != OK && e != ERR_EXISTS) { /* EXISTS: a retry, or less than was deleted before */
        p->out->error_code = e == ERR_NO_SPACE ? KERR_KAFKA_STORAGE_ERROR : code_of_read(e);
        p->out->low_watermark = NO_LOW_WATERMARK;
    }
}

static void deletion_done(struct log_deletion *deletion)
{
    struct part *p = list_entry(deletion, struct part, deletion);
    struct request *req = p->all->req;
    set_result(p, deletion->result);
    if (deletion->result == OK) {
        p->out->low_watermark = deletion->start_offset;
    }
    finish_one(p->all);
    request_release(req);
}

static void delete_one(struct part *p, int64_t offset)
{
    struct request *req = p->all->req;
    p->deletion = (struct log_deletion){
        .offset = offset == TO_HIGH_WATERMARK ? log_high_watermark(p->log) : offset,
        .done = deletion_done};
    p->out->low_watermark = log_start_offset(p->log);
    p->all->left++;
    request_hold(req);
    err e = log_delete_records(p->log, &p->deletion);
    if (e != OK) {
        set_result(p, e);
        p->all->left--;
        request_release(req);
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
        int16_t code = topic_code;
        p->all = d;
        p->out = &out->partitions[i];
        p->out->partition_index = in->partitions[i].partition_index;
        p->out->low_watermark = NO_LOW_WATERMARK;
        p->log = code ? NULL : request_log(req, t, p->out->partition_index, &code);
        p->out->error_code = code;
        if (p->log) {
            delete_one(p, in->partitions[i].offset);
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

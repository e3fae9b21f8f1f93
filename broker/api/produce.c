/* Produce: each partition's batch is checked whole, then submitted; the answer goes when all parts
 * are where `acks` wants them.
 *
 *   acks=0    nothing is answered; an error closes the connection
 *   acks=1    when the batches are written
 *   acks=-1   when they are durable
 *
 * The batch memory is the request's frame: the request is held until the log needs it no more.
 */
#include "gen/produce.h"
#include "base/mem.h"
#include "broker/api/codes.h"
#include "broker/api/families.h"
#include "broker/api/partition.h"

enum {
    INFLATED_FREE = 1 << 20
}; /* bytes that no ratio forbids; rivulet.batch.inflated.ratio.max says so */
enum { ACKS_ALL = -1, SINCE_ZSTD = 7, SINCE_IDS = 13, ENDS_NAMES = 12 };

struct produce;

struct produce_part {
    struct partition_call call;
    struct log_append append;
    struct produce *produce;
    struct produce_response_partition *out;
    int16_t code; /* how it ended at its shard */
    struct buf
        recoded; /* owned: the batch in the topic's own codec; empty when it stayed as it came */
};

struct produce {
    struct request *req;
    struct produce_part *parts;
    int32_t left; /* appends under way, and 1 while the handler runs */
    int16_t acks;
    bool failed; /* some partition has an error */
};

static void finish_part(struct produce *p)
{
    struct request *req = p->req;
    if (--p->left > 0) {
        return;
    }
    if (p->acks != 0) {
        reply(req, 0);
    } else if (p->failed) {
        request_close(req, "a produce with acks=0 failed");
    } else {
        reply_nothing(req);
    }
}

static void refuse(struct produce *p, struct produce_response_partition *out, int16_t code,
                   const char *text)
{
    out->error_code = code;
    out->base_offset = -1;
    out->log_append_time_ms = -1;
    out->log_start_offset = -1;
    out->error_message = text ? str_of(text) : (struct str){0};
    p->failed = true;
}

static void part_done(struct message *m)
{
    struct produce_part *part = list_entry(m, struct produce_part, call.message);
    struct produce *p = part->produce;
    struct request *req = p->req;
    req->durable_us = clock_mono_us(req->env->clock);
    if (part->code) {
        refuse(p, part->out, part->code, NULL);
    }
    buf_finish(&part->recoded);
    finish_part(p);
    request_release(req);
}

/* ---- checking one batch */

static const int16_t flaw_codes[] = {
    [BATCH_FLAW_NONE] = KERR_NONE,
    [BATCH_FLAW_SIZE] = KERR_CORRUPT_MESSAGE,
    [BATCH_FLAW_MAGIC] = KERR_INVALID_RECORD,
    [BATCH_FLAW_CRC] = KERR_CORRUPT_MESSAGE,
    [BATCH_FLAW_ATTRIBUTES] = KERR_INVALID_RECORD,
    [BATCH_FLAW_COUNT] = KERR_INVALID_RECORD,
    [BATCH_FLAW_RECORD] = KERR_INVALID_RECORD,
    [BATCH_FLAW_TIMESTAMP] = KERR_INVALID_TIMESTAMP,
    [BATCH_FLAW_CODEC] = KERR_CORRUPT_MESSAGE,
    [BATCH_FLAW_PRODUCER] = KERR_INVALID_RECORD,
    [BATCH_FLAW_TOO_LARGE] = KERR_MESSAGE_TOO_LARGE,
};

static int16_t check_times(const struct topic_config *t, const struct batch_info *info,
                           int64_t now_ms)
{
    int64_t future_ms;
    if (__builtin_add_overflow(now_ms, t->timestamp_after_max_ms, &future_ms)) {
        future_ms = INT64_MAX;
    }
    bool too_late = info->max_timestamp > future_ms;
    bool too_early =
        info->min_timestamp >= 0 && now_ms - info->min_timestamp > t->timestamp_before_max_ms;
    return too_late || too_early ? KERR_INVALID_TIMESTAMP : KERR_NONE;
}

/* Bytes that the records of a batch may decompress to, by size and by ratio. */
static size_t inflated_limit(const struct config *config, size_t batch_size)
{
    int64_t limit = (int64_t)batch_size * config->inflated_ratio_max;
    limit = limit > INFLATED_FREE ? limit : INFLATED_FREE;
    return (size_t)(limit < config->inflated_max_bytes ? limit : config->inflated_max_bytes);
}

/* One batch, whole, that everybody can read. Sets append.batch, size and info. */
static int16_t check_batch(struct request *req, const struct topic_config *t,
                           const struct wire_records *records, struct produce_part *part,
                           const char **ret_text)
{
    struct log_append *a = &part->append;
    struct batch_header h = {0};
    enum batch_flaw flaw;
    if (records->len == 0) {
        *ret_text = "there is no record batch for the partition";
        return KERR_INVALID_RECORD;
    }
    err e = batch_header_read(records->ptr, records->len, &h);
    if (!e && (int64_t)h.size > t->max_message_bytes && h.size >= records->len) {
        /* most of it may be left out already: produce_parts.h */
        *ret_text = "the batch is larger than max.message.bytes";
        return KERR_MESSAGE_TOO_LARGE;
    }
    if (!e && req->shortened && records->len == BATCH_HEADER_SIZE && h.size > records->len) {
        *ret_text = "the topic was made, or its max.message.bytes raised, while the batch came";
        return KERR_NOT_LEADER_OR_FOLLOWER; /* clients send it again */
    }
    if (e == ERR_TRUNCATED || (!e && h.size > records->len)) {
        *ret_text = "the record batch is cut short";
        return KERR_INVALID_RECORD;
    }
    if (!e && h.size < records->len) {
        *ret_text = "there is more than one record batch for the partition";
        return KERR_INVALID_RECORD;
    }
    e = batch_validate(records->ptr, records->len, inflated_limit(req->env->config, records->len),
                       req->env->scratch, &a->info, &flaw);
    if (e) {
        *ret_text = batch_flaw_text(flaw);
        return flaw == BATCH_FLAW_CODEC && batch_codec(h.attributes) >= CODEC_COUNT
                   ? KERR_UNSUPPORTED_COMPRESSION_TYPE
                   : flaw_codes[flaw];
    }
    if (a->info.codec == CODEC_ZSTD && req->header.api_version < SINCE_ZSTD) {
        *ret_text = "zstd needs Produce 7 or later";
        return KERR_UNSUPPORTED_COMPRESSION_TYPE;
    }
    if (a->info.transactional) {
        *ret_text = "there are no transactions";
        return KERR_INVALID_TXN_STATE;
    }
    /* The frame is the broker's own memory, and nobody reads the batch again. */
    a->batch = (uint8_t *)(uintptr_t)records->ptr;
    a->size = records->len;
    if (h.max_timestamp != a->info.max_timestamp && !t->append_time) {
        batch_set_max_timestamp(a->batch, a->size, a->info.max_timestamp);
    }
    return KERR_NONE;
}

static int16_t prepare_batch(struct request *req, const struct topic_config *t,
                             struct produce_part *part, const char **ret_text)
{
    struct log_append *a = &part->append;
    int64_t now_ms = clock_wall_ms(req->env->clock);
    if (!t->append_time) {
        int16_t code = check_times(t, &a->info, now_ms);
        if (code) {
            *ret_text = "a timestamp is further from now than message.timestamp.before.max.ms or "
                        ".after.max.ms allows";
            return code;
        }
    }
    if (t->codec >= 0 && (enum codec)t->codec != a->info.codec) {
        if (batch_recompress(a->batch, a->size, (enum codec)t->codec,
                             (size_t)req->env->config->request_max_bytes, req->env->scratch,
                             &part->recoded)) {
            *ret_text = "the batch cannot be brought into the topic's compression.type";
            return KERR_UNKNOWN_SERVER_ERROR;
        }
        a->batch = (uint8_t *)part->recoded.ptr;
        a->size = part->recoded.len;
        if ((int64_t)a->size > t->max_message_bytes) {
            *ret_text =
                "in the topic's compression.type the batch is larger than max.message.bytes";
            return KERR_MESSAGE_TOO_LARGE;
        }
    }
    if (t->append_time) {
        batch_set_append_time(a->batch, a->size, now_ms);
        a->info.attributes |= BATCH_ATTRIBUTE_APPEND_TIME;
        a->info.max_timestamp = now_ms;
        a->info.min_timestamp = now_ms;
    }
    return KERR_NONE;
}

/* ---- one partition: what its shard does */

static void part_ended(struct log_append *a, err e)
{
    struct produce_part *part = list_entry(a, struct produce_part, append);
    part->code = e ? code_of_append(e) : (int16_t)KERR_NONE;
    message_return(&part->call.message);
}

static bool part_run(struct message *m)
{
    struct produce_part *part = list_entry(m, struct produce_part, call.message);
    struct log_append *a = &part->append;
    struct log *log = partition_call_log(&part->call);
    err e = log ? log_append(log, a) : ERR_CLOSED;
    if (e) {
        part->code = code_of_append(e);
        return true;
    }
    part->out->base_offset = a->base_offset;
    part->out->log_append_time_ms = a->append_time_ms;
    part->out->log_start_offset = log_start_offset(log);
    return false;
}

/* ---- one partition */

static int16_t submit(struct produce_part *part, const struct topic *t, int32_t partition)
{
    struct produce *p = part->produce;
    struct request *req = p->req;
    bool all = p->acks == ACKS_ALL;
    part->append.written = all ? NULL : part_ended;
    part->append.durable = all ? part_ended : NULL;
    part->call.message.run = part_run;
    part->call.message.done = part_done;
    p->left++;
    if (partition_call_send(req, t, partition, &part->call)) {
        p->left--;
        return part->code;
    }
    req->submitted_us = clock_mono_us(req->env->clock);
    return KERR_NONE;
}

static int16_t start_part(struct produce_part *part, const struct topic *t,
                          const struct produce_request_partition *in, const char **ret_text)
{
    struct request *req = part->produce->req;
    int16_t code = check_partition(t, in->index);
    code = code ? code : check_batch(req, t->config, &in->records, part, ret_text);
    code = code ? code : prepare_batch(req, t->config, part, ret_text);
    code = code ? code : submit(part, t, in->index);
    if (code) {
        buf_finish(&part->recoded);
    }
    return code;
}

static int16_t check_topic(const struct request *req, const struct topic *t, const char **ret_text)
{
    if (t->internal && !str_eq(req->header.client_id, STR("__admin_client"))) {
        *ret_text = "the topic is internal";
        return KERR_INVALID_TOPIC_EXCEPTION;
    }
    return KERR_NONE;
}

static void start_topic(struct produce *p, const struct produce_request_topic *in,
                        struct produce_response_topic *out, struct produce_part *parts)
{
    struct request *req = p->req;
    const char *text = NULL;
    int16_t topic_code = KERR_NONE;
    bool by_id = req->header.api_version >= SINCE_IDS;
    const struct topic *t =
        request_topic(req, in->name, by_id ? &in->topic_id : NULL, ACL_WRITE, &topic_code);
    if (t && (p->acks < ACKS_ALL || p->acks > 1)) {
        topic_code = KERR_INVALID_REQUIRED_ACKS;
    } else if (t) {
        topic_code = check_topic(req, t, &text);
    }
    out->name = in->name;
    out->topic_id = in->topic_id;
    for (int32_t i = 0; i < in->partitions_count; i++) {
        struct produce_part *part = &parts[i];
        const char *part_text = text;
        part->produce = p;
        part->out = &out->partitions[i];
        part->out->index = in->partitions[i].index;
        int16_t code =
            topic_code ? topic_code : start_part(part, t, &in->partitions[i], &part_text);
        if (code) {
            refuse(p, part->out, code, part_text);
        }
    }
}

err api_produce(struct request *req)
{
    const struct produce_request *in = request_body(req);
    struct produce_response *out = request_reply(req);
    size_t total = 0;
    for (int32_t i = 0; i < in->topics_count; i++) {
        total += (size_t)in->topics[i].partitions_count;
    }
    struct produce *p = arena_zero(&req->arena, 1, sizeof *p);
    struct produce_part *parts = arena_zero(&req->arena, total + 1, sizeof *parts);
    out->topics = wire_array(&req->arena, &produce_response_topic_table, in->topics_count);
    if (!p || !parts || !out->topics) {
        return arena_error(&req->arena);
    }
    out->topics_count = in->topics_count;
    for (int32_t i = 0; i < in->topics_count;
         i++) { /* all memory first: nothing fails once something is submitted */
        struct produce_response_topic *topic = &out->topics[i];
        topic->partitions_count = in->topics[i].partitions_count;
        topic->partitions =
            wire_array(&req->arena, &produce_response_partition_table, topic->partitions_count);
        if (!topic->partitions) {
            return arena_error(&req->arena);
        }
    }
    *p = (struct produce){.req = req, .parts = parts, .left = 1, .acks = in->acks};
    for (int32_t i = 0; i < in->topics_count; i++) {
        start_topic(p, &in->topics[i], &out->topics[i], parts);
        parts += in->topics[i].partitions_count;
    }
    finish_part(p);
    return OK;
}

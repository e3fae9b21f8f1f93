/* ListOffsets: named places at once, times by look-ups in the log. */
#include "gen/list_offsets.h"
#include "broker/api/codes.h"
#include "broker/api/families.h"
#include "broker/api/partition.h"

enum {
    SINCE_EPOCHS = 4,
    PLACE_LATEST = -1,
    PLACE_EARLIEST = -2,
    PLACE_MAX_TIMESTAMP = -3,    /* KIP-734 */
    PLACE_EARLIEST_LOCAL = -4,   /* KIP-405: everything is local */
    PLACE_LATEST_TIERED = -5,    /* KIP-1005: nothing is tiered */
    PLACE_EARLIEST_PENDING = -6, /* KIP-1023: likewise */
};

struct look_up {
    struct partition_call call;
    struct log_query query;
    struct list_offsets *all;
    const struct list_offsets_request_partition *in;
    struct list_offsets_response_partition *out;
};

struct list_offsets {
    struct request *req;
    int32_t left; /* look-ups under way, and 1 while the handler runs */
};

/* ---- at the partition's shard */

static void set_epoch(struct look_up *u, int32_t epoch)
{
    if (u->all->req->header.api_version >= SINCE_EPOCHS) {
        u->out->leader_epoch = epoch;
    }
}

static void look_up_ended(struct log_query *q)
{
    struct look_up *u = list_entry(q, struct look_up, query);
    if (q->result) {
        u->out->error_code = code_of_read(q->result);
    } else {
        u->out->offset = q->offset;
        u->out->timestamp = q->timestamp_ms;
        set_epoch(u, q->leader_epoch);
    }
    message_return(&u->call.message);
}

static void look_up(struct look_up *u, struct log *log, int64_t timestamp)
{
    u->query = (struct log_query){.timestamp_ms = timestamp, .done = look_up_ended};
    if (timestamp == PLACE_MAX_TIMESTAMP) {
        log_max_time(log, &u->query);
    } else {
        log_find_time(log, &u->query);
    }
}

/* True: answered. False: look_up_ended will be. */
static bool answer_place(struct look_up *u, struct log *log, int64_t timestamp)
{
    struct list_offsets_response_partition *out = u->out;
    switch (timestamp) {
    case PLACE_LATEST:
        out->offset = log_high_watermark(log);
        set_epoch(u, log_leader_epoch(log));
        return true;
    case PLACE_EARLIEST:
    case PLACE_EARLIEST_LOCAL:
        out->offset = log_start_offset(log);
        set_epoch(u, log_epoch_at(log, out->offset));
        return true;
    case PLACE_LATEST_TIERED:
    case PLACE_EARLIEST_PENDING: return true; /* -1: there is none */
    default:
        if (timestamp < PLACE_EARLIEST_PENDING) {
            out->error_code = KERR_INVALID_REQUEST;
            return true;
        }
        look_up(u, log, timestamp);
        return false;
    }
}

/* The oldest version in which a place has its meaning. */
static bool place_is_known(int64_t timestamp, int16_t version)
{
    static const int16_t since[] = {0, 0, 0, 7, 8, 9, 11};
    return timestamp >= 0 || (timestamp >= PLACE_EARLIEST_PENDING && version >= since[-timestamp]);
}

static bool look_up_run(struct message *m)
{
    struct look_up *u = list_entry(m, struct look_up, call.message);
    struct log *log = partition_call_log(&u->call);
    int16_t code = log ? check_leader_epoch(log, u->in->current_leader_epoch)
                       : (int16_t)KERR_NOT_LEADER_OR_FOLLOWER;
    if (!code && !place_is_known(u->in->timestamp, u->all->req->header.api_version)) {
        code = KERR_UNSUPPORTED_VERSION;
    }
    u->out->error_code = code;
    return code || answer_place(u, log, u->in->timestamp);
}

/* ---- the request */

static void finish_one(struct list_offsets *l)
{
    if (--l->left == 0) {
        reply(l->req, 0);
    }
}

static void look_up_done(struct message *m)
{
    struct look_up *u = list_entry(m, struct look_up, call.message);
    struct request *req = u->all->req;
    finish_one(u->all);
    request_release(req);
}

static void begin_one(struct list_offsets *l, struct look_up *u, const struct topic *t,
                      const struct list_offsets_request_partition *in,
                      struct list_offsets_response_partition *out)
{
    u->call.message.run = look_up_run;
    u->call.message.done = look_up_done;
    u->all = l;
    u->in = in;
    u->out = out;
    out->error_code = check_partition(t, in->partition_index);
    if (out->error_code) {
        return;
    }
    l->left++;
    if (partition_call_send(l->req, t, in->partition_index, &u->call)) {
        l->left--;
    }
}

err api_list_offsets(struct request *req)
{
    const struct list_offsets_request *in = request_body(req);
    struct list_offsets_response *out = request_reply(req);
    size_t total = 0;
    for (int32_t i = 0; i < in->topics_count; i++) {
        total += (size_t)in->topics[i].partitions_count;
    }
    struct list_offsets *l = arena_zero(&req->arena, 1, sizeof *l);
    struct look_up *u = arena_zero(&req->arena, total + 1, sizeof *u);
    out->topics = wire_array(&req->arena, &list_offsets_response_topic_table, in->topics_count);
    if (!l || !u || !out->topics) {
        return arena_error(&req->arena);
    }
    out->topics_count = in->topics_count;
    for (int32_t i = 0; i < in->topics_count; i++) {
        out->topics[i].name = in->topics[i].name;
        out->topics[i].partitions_count = in->topics[i].partitions_count;
        out->topics[i].partitions = wire_array(&req->arena, &list_offsets_response_partition_table,
                                               in->topics[i].partitions_count);
        if (!out->topics[i].partitions) {
            return arena_error(&req->arena);
        }
    }
    *l = (struct list_offsets){req, 1};
    for (int32_t i = 0; i < in->topics_count; i++) {
        int16_t topic_code = KERR_NONE;
        const struct topic *t =
            request_topic(req, in->topics[i].name, NULL, ACL_DESCRIBE, &topic_code);
        for (int32_t k = 0; k < in->topics[i].partitions_count; k++, u++) {
            const struct list_offsets_request_partition *asked = &in->topics[i].partitions[k];
            struct list_offsets_response_partition *answer = &out->topics[i].partitions[k];
            answer->partition_index = asked->partition_index;
            answer->error_code = topic_code;
            if (t) {
                begin_one(l, u, t, asked, answer);
            }
        }
    }
    finish_one(l);
    return OK;
}

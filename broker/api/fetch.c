/* Fetch. Full fetches only: every answer says session id 0, so that clients name all their
 * partitions each time.
 *
 *   checking   each partition is looked up; there is an error, enough bytes, or nothing to wait for
 * -> reading waiting    parked on its logs' watchers and one timer; costs nothing reading partition
 * by partition, in the order asked for, until max_bytes; what is not in memory is brought there
 * first (log_warm)
 *
 * Watchers stay until the answer, so that no log goes away unnoticed.
 */
#include "gen/fetch.h"
#include "base/list.h"
#include "broker/api/codes.h"
#include "broker/api/families.h"
#include "broker/api/partition.h"

enum {
    SINCE_LEADERS = 12,
    SINCE_IDS = 13,
    SINCE_ENDPOINTS = 16,
    SINCE_ZSTD = 10,
    WARM_TRIES = 3, /* what was brought into memory may have left it again */
};

struct fetch;

struct fetch_part {
    struct log_watcher watcher;
    struct fetch *fetch;
    struct log *log; /* borrowed; NULL: an error, or deleted meanwhile */
    const struct fetch_request_partition *in;
    struct fetch_response_partition *out;
    size_t available; /* bytes below the high watermark, as last looked */
    int tries;
};

struct fetch {
    struct request *req;
    struct fetch_part *parts; /* in the arena */
    int32_t count;
    int32_t next;     /* part that is read next */
    size_t available; /* of all parts */
    size_t min_bytes;
    size_t max_bytes;  /* left */
    bool answered_any; /* some part has bytes */
    bool failed;       /* some part has an error */
    bool reading;
    struct timer timer;
    struct log_query warm;
};

static void fail_part(struct fetch_part *part, int16_t code)
{
    struct fetch_response_partition *out = part->out;
    out->error_code = code;
    out->high_watermark = -1;
    out->last_stable_offset = -1;
    out->log_start_offset = -1;
    out->records = (struct wire_records){.ptr = (const uint8_t *)""};
    part->fetch->failed = true;
}

static void forget(struct fetch *f)
{
    timer_disarm(f->req->env->timers, &f->timer);
    for (int32_t i = 0; i < f->count; i++) {
        log_unwatch(&f->parts[i].watcher);
    }
}

/* ---- answering */

/* Who leads, for clients whose epoch is not ours (KIP-951). */
static err add_leaders(struct fetch *f)
{
    struct request *req = f->req;
    struct fetch_response *out = request_reply(req);
    bool any = false;
    for (int32_t i = 0; i < f->count && req->header.api_version >= SINCE_LEADERS; i++) {
        struct fetch_part *part = &f->parts[i];
        if (part->out->error_code == KERR_FENCED_LEADER_EPOCH && part->log) {
            struct fetch_response_current_leader *leader = arena_alloc(&req->arena, sizeof *leader);
            if (!leader) {
                return arena_error(&req->arena);
            }
            *leader = (struct fetch_response_current_leader){req->env->node_id,
                                                             log_leader_epoch(part->log)};
            part->out->current_leader = leader;
            any = true;
        }
    }
    if (any && req->header.api_version >= SINCE_ENDPOINTS) {
        struct endpoint here = request_endpoint(req);
        out->node_endpoints = wire_array(&req->arena, &fetch_response_node_endpoint_table, 1);
        if (!out->node_endpoints) {
            return arena_error(&req->arena);
        }
        out->node_endpoints_count = 1;
        out->node_endpoints[0].node_id = req->env->node_id;
        out->node_endpoints[0].host = here.host;
        out->node_endpoints[0].port = here.port;
    }
    return OK;
}

static void answer(struct fetch *f)
{
    forget(f);
    if (add_leaders(f)) {
        request_close(f->req, "the answer needs more memory than a request may have");
        return;
    }
    reply(f->req, 0);
}

/* ---- reading */

/* Versions before 10 cannot carry zstd. The first batch tells. */
static bool has_zstd(const struct log_read *r)
{
    uint8_t head[BATCH_HEADER_SIZE];
    struct batch_header h;
    size_t got = 0;
    const struct extent *x = &r->extents[0];
    return r->count &&
           !x->store->ops->read_cached(x->store->ctx, x->file, head, sizeof head, x->position,
                                       &got) &&
           !batch_header_read(head, got, &h) && batch_codec(h.attributes) == CODEC_ZSTD;
}

static void drop_read(struct log_read *r)
{
    for (int i = 0; i < r->count; i++) {
        extent_release(&r->extents[i]);
    }
    r->count = 0;
    r->size = 0;
}

/* True: this part is through. */
static bool take_read(struct fetch *f, struct fetch_part *part, err e, struct log_read *r)
{
    struct fetch_response_partition *out = part->out;
    if (e) {
        fail_part(part, code_of_read(e));
        return true;
    }
    if (f->req->header.api_version < SINCE_ZSTD && has_zstd(r)) {
        drop_read(r);
        fail_part(part, KERR_UNSUPPORTED_COMPRESSION_TYPE);
        return true;
    }
    const struct fetch_request *in = request_body(f->req);
    out->high_watermark = log_high_watermark(part->log);
    out->last_stable_offset = out->high_watermark;
    out->log_start_offset = log_start_offset(part->log);
    out->aborted_transactions_count = in->isolation_level ? 0 : -1;
    f->answered_any = f->answered_any || r->size > 0;
    f->max_bytes -= r->size < f->max_bytes ? r->size : f->max_bytes;
    out->records = request_records(f->req, r);
    return true;
}

static void read_parts(struct fetch *f);

static void warmed(struct log_query *q)
{
    struct fetch *f = list_entry(q, struct fetch, warm);
    struct request *req = f->req;
    struct fetch_part *part = &f->parts[f->next];
    if (!request_is_dropped(req)) {
        if (q->result && part->log) {
            fail_part(part, code_of_read(q->result));
            f->next++;
        }
        read_parts(f);
    }
    request_release(req);
}

/* False: parked until the part is in memory. */
static bool read_part(struct fetch *f, struct fetch_part *part)
{
    struct log_read r = {.count = 0};
    size_t max = part->in->partition_max_bytes > 0 ? (size_t)part->in->partition_max_bytes : 0;
    max = max < f->max_bytes ? max : f->max_bytes;
    bool first = !f->answered_any;
    err e = max > 0 || first ? log_read(part->log, part->in->fetch_offset, max, first, &r) : OK;
    if (e == ERR_AGAIN && part->tries++ < WARM_TRIES) {
        f->warm =
            (struct log_query){.offset = part->in->fetch_offset, .max_bytes = max, .done = warmed};
        request_hold(f->req);
        log_warm(part->log, &f->warm);
        return false;
    }
    return take_read(f, part, e == ERR_AGAIN ? OK : e,
                     &r); /* nothing this time: the client asks again */
}

static void read_parts(struct fetch *f)
{
    for (; f->next < f->count; f->next++) {
        struct fetch_part *part = &f->parts[f->next];
        if (!part->log || part->out->error_code) {
            continue;
        }
        if (!read_part(f, part)) {
            return;
        }
    }
    answer(f);
}

static void begin_reading(struct fetch *f)
{
    if (!f->reading) {
        f->reading = true;
        timer_disarm(f->req->env->timers, &f->timer);
        read_parts(f);
    }
}

/* ---- waiting */

static void log_moved(struct log_watcher *w, bool closed)
{
    struct fetch_part *part = list_entry(w, struct fetch_part, watcher);
    struct fetch *f = part->fetch;
    if (closed) {
        part->log = NULL;
        fail_part(part, KERR_NOT_LEADER_OR_FOLLOWER);
    } else {
        size_t now = log_bytes_available(part->log, part->in->fetch_offset);
        f->available += now - part->available;
        part->available = now;
    }
    bool out_of_range = part->log && part->in->fetch_offset < log_start_offset(part->log);
    if (!f->reading && (f->failed || out_of_range || f->available >= f->min_bytes)) {
        begin_reading(f);
    }
}

static void waited_enough(struct timer *timer)
{
    begin_reading(list_entry(timer, struct fetch, timer));
}

static void fetch_drop(struct request *req)
{
    forget(req->handler);
}

static void fetch_stop(struct request *req)
{
    begin_reading(req->handler);
}

/* ---- checking */

static void check_part(struct fetch_part *part, const struct topic *t, int16_t topic_code)
{
    struct fetch *f = part->fetch;
    int16_t code = topic_code;
    part->out->partition_index = part->in->partition;
    part->out->records = (struct wire_records){.ptr = (const uint8_t *)""};
    if (!code) {
        part->log = request_log(f->req, t, part->in->partition, &code);
    }
    if (part->log) {
        int64_t offset = part->in->fetch_offset;
        code = check_leader_epoch(part->log, part->in->current_leader_epoch);
        if (!code && (offset < log_start_offset(part->log) || offset > log_end_offset(part->log))) {
            code = KERR_OFFSET_OUT_OF_RANGE;
        }
        log_watch(part->log, &part->watcher);
    }
    if (code) {
        fail_part(part, code);
        return;
    }
    part->available = log_bytes_available(part->log, part->in->fetch_offset);
    f->available += part->available;
}

static void check_parts(struct fetch *f, const struct fetch_request *in, struct fetch_response *out)
{
    struct request *req = f->req;
    bool by_id = req->header.api_version >= SINCE_IDS;
    int32_t n = 0;
    for (int32_t i = 0; i < in->topics_count; i++) {
        int16_t code = KERR_NONE;
        const struct fetch_request_topic *topic = &in->topics[i];
        const struct topic *t =
            request_topic(req, topic->topic, by_id ? &topic->topic_id : NULL, ACL_READ, &code);
        out->topics[i].topic = topic->topic;
        out->topics[i].topic_id = topic->topic_id;
        for (int32_t k = 0; k < topic->partitions_count; k++) {
            struct fetch_part *part = &f->parts[n++];
            part->fetch = f;
            part->watcher.moved = log_moved;
            part->in = &topic->partitions[k];
            part->out = &out->topics[i].partitions[k];
            check_part(part, t, code);
        }
    }
}

static struct fetch *fetch_create(struct request *req, const struct fetch_request *in,
                                  struct fetch_response *out)
{
    struct fetch *f = arena_zero(&req->arena, 1, sizeof *f);
    out->topics = wire_array(&req->arena, &fetch_response_topic_table, in->topics_count);
    if (!f || !out->topics) {
        return NULL;
    }
    out->topics_count = in->topics_count;
    for (int32_t i = 0; i < in->topics_count; i++) {
        struct fetch_response_topic *topic = &out->topics[i];
        topic->partitions_count = in->topics[i].partitions_count;
        topic->partitions =
            wire_array(&req->arena, &fetch_response_partition_table, topic->partitions_count);
        if (!topic->partitions) {
            return NULL;
        }
        f->count += topic->partitions_count;
    }
    f->req = req;
    f->parts = arena_zero(&req->arena, (size_t)f->count + 1, sizeof *f->parts);
    return f->parts ? f : NULL;
}

err api_fetch(struct request *req)
{
    const struct fetch_request *in = request_body(req);
    struct fetch_response *out = request_reply(req);
    const struct config *config = req->env->config;
    if (in->session_epoch != 0 && in->session_epoch != -1) { /* of a session: we never gave one */
        out->error_code = KERR_FETCH_SESSION_ID_NOT_FOUND;
        reply(req, 0);
        return OK;
    }
    struct fetch *f = fetch_create(req, in, out);
    if (!f) {
        return arena_error(&req->arena);
    }
    f->min_bytes = in->min_bytes > 0 ? (size_t)in->min_bytes : 0;
    f->max_bytes = in->max_bytes > 0 ? (size_t)in->max_bytes : 0;
    if (f->max_bytes > (size_t)config->fetch_max_bytes) {
        f->max_bytes = (size_t)config->fetch_max_bytes;
    }
    if (f->min_bytes > f->max_bytes && f->max_bytes > 0) {
        f->min_bytes = f->max_bytes; /* more never comes */
    }
    timer_init(&f->timer, waited_enough);
    req->handler = f;
    req->on_drop = fetch_drop;
    req->on_stop = fetch_stop;
    check_parts(f, in, out);
    if (f->failed || f->count == 0 || in->max_wait_ms <= 0 || f->available >= f->min_bytes ||
        req->env->stopping) {
        begin_reading(f);
    } else {
        timer_arm(req->env->timers, &f->timer, clock_mono_ms(req->env->clock) + in->max_wait_ms);
    }
    return OK;
}

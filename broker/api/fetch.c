/* Fetch. Full fetches only: every answer says session id 0, so that clients name all their
 * partitions each time. The parts of one shard are a *branch*: what is done with them is done
 * there, each step a message there and back; a note from there says that something moved.
 *
 *   checking   each branch looks its parts up and watches them; there is an error, enough bytes, or
 * nothing to wait for -> reading
 *   waiting    parked on its logs' watchers and one timer; costs nothing
 *   reading    part by part, in the order asked for, until max_bytes; what is not in memory is
 * brought there first (log_warm)
 *   leaving    the branches unwatch; then the answer
 *
 * Watchers stay until then, so that no log goes away unnoticed.
 *
 * Invariants:
 *
 * 1. A branch has one step under way at most; parts, and what of a branch is its shard's, are
 * touched by the shard while one is, and by its watchers.
 * 2. A branch is left when its note is back: nothing at the shard points to the request then.
 */
#include "gen/fetch.h"
#include "base/list.h"
#include "broker/api/codes.h"
#include "broker/api/families.h"
#include "broker/api/partition.h"
#include "broker/log/manager.h"

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
    struct fetch_branch *branch; /* NULL: refused before it came to a shard */
    struct uuid topic;
    struct log *log; /* the shard's; NULL: not looked up, or deleted meanwhile */
    const struct fetch_request_partition *in;
    struct fetch_response_partition *out;
    size_t available; /* the shard's: bytes below the high watermark, as last looked */
    int16_t code;     /* of the check */
    int tries;
};

struct fetch_told {
    size_t available; /* bytes of a branch's parts */
    bool ready;       /* some part has an error, or is out of range: it is not to be waited for */
};

struct fetch_branch {
    struct fetch *fetch; /* NULL: no part is that shard's */
    struct message step; /* to the shard; its `run` says what is to be done */
    struct message note; /* from the shard */

    /* the shard's */
    struct fetch_told now;
    bool noted;            /* the note is on its way */
    bool moved;            /* since it left */
    bool leaving;          /* the step waits for the note */
    struct log_query warm; /* of the part that is being read */

    /* what the messages carry */
    struct fetch_told by_check;
    struct fetch_told by_note;
    struct fetch_part *part; /* to read: this one, */
    size_t max;              /* so many bytes, */
    bool first;              /* and at least one batch */
    struct log_read read;    /* what it came to */
    int16_t code;            /* likewise */

    struct fetch_told known; /* as last told */
};

enum fetch_state { FETCH_CHECKING, FETCH_WAITING, FETCH_READING, FETCH_LEAVING };

struct fetch {
    struct request *req;
    struct fetch_branch *branches; /* in the arena: one a shard */
    struct fetch_part *parts;      /* in the arena */
    int32_t count;                 /* of parts */
    int32_t next;                  /* part that is read next */
    int32_t steps;                 /* under way */
    enum fetch_state state;
    size_t min_bytes;
    size_t max_bytes;  /* left */
    bool answered_any; /* some part has bytes */
    bool failed;       /* some part has an error */
    struct timer timer;
};

static void fail_part(struct fetch *f, struct fetch_part *part, int16_t code)
{
    struct fetch_response_partition *out = part->out;
    out->error_code = code;
    out->high_watermark = -1;
    out->last_stable_offset = -1;
    out->log_start_offset = -1;
    out->records = (struct wire_records){.ptr = (const uint8_t *)""};
    f->failed = true;
}

static void drop_read(struct log_read *r)
{
    for (int i = 0; i < r->count; i++) {
        extent_release(&r->extents[i]);
    }
    r->count = 0;
    r->size = 0;
}

/* ---- steps */

static void step_back(struct message *m);

/* True: dealt with at once. */
static bool step(struct fetch_branch *b, bool (*run)(struct message *m))
{
    struct fetch *f = b->fetch;
    struct request *req = f->req;
    struct shard *here = req->env->shard;
    b->step.run = run;
    b->step.done = step_back;
    f->steps++;
    request_hold(req);
    if (!message_send(&b->step, here, &here->all->list[b - f->branches])) {
        return false;
    }
    f->steps--;
    request_release(req);
    return true;
}

static bool is_used(const struct fetch_branch *b)
{
    return b->fetch != NULL;
}

static int32_t branch_count(const struct fetch *f)
{
    return f->req->env->shard->all->count;
}

/* ---- at the shard: checking */

static void check_part(struct fetch_part *part, struct log_manager *logs)
{
    struct fetch_branch *b = part->branch;
    int64_t offset = part->in->fetch_offset;
    part->log = log_manager_find(logs, part->topic, part->in->partition);
    if (!part->log) {
        part->code = KERR_NOT_LEADER_OR_FOLLOWER;
        b->now.ready = true;
        return;
    }
    part->code = check_leader_epoch(part->log, part->in->current_leader_epoch);
    if (!part->code &&
        (offset < log_start_offset(part->log) || offset > log_end_offset(part->log))) {
        part->code = KERR_OFFSET_OUT_OF_RANGE;
    }
    log_watch(part->log, &part->watcher);
    if (part->code) {
        b->now.ready = true;
        return;
    }
    part->available = log_bytes_available(part->log, offset);
    b->now.available += part->available;
}

static bool check_run(struct message *m)
{
    struct fetch_branch *b = list_entry(m, struct fetch_branch, step);
    struct fetch *f = b->fetch;
    for (int32_t i = 0; i < f->count; i++) {
        if (f->parts[i].branch == b) {
            check_part(&f->parts[i], m->to->logs);
        }
    }
    b->by_check = b->now;
    return true;
}

/* ---- at the shard: watching */

static bool note_run(struct message *m);
static void note_back(struct message *m);

static void note(struct fetch_branch *b)
{
    if (b->noted) {
        b->moved = true;
        return;
    }
    b->moved = false;
    b->by_note = b->now;
    b->note.run = note_run;
    b->note.done = note_back;
    b->noted = true;
    b->noted = !message_send(&b->note, b->step.to, b->step.from);
}

static void note_back(struct message *m)
{
    struct fetch_branch *b = list_entry(m, struct fetch_branch, note);
    b->noted = false;
    if (b->leaving) {
        message_return(&b->step); /* 2 */
    } else if (b->moved) {
        note(b);
    }
}

static void log_moved(struct log_watcher *w, bool closed)
{
    struct fetch_part *part = list_entry(w, struct fetch_part, watcher);
    struct fetch_branch *b = part->branch;
    if (closed) {
        part->log = NULL;
        b->now.ready = true;
    } else {
        size_t now = log_bytes_available(part->log, part->in->fetch_offset);
        b->now.available += now - part->available;
        part->available = now;
        b->now.ready = b->now.ready || part->in->fetch_offset < log_start_offset(part->log);
    }
    note(b);
}

/* ---- at the shard: reading */

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

static void take_read(struct fetch_branch *b, err e)
{
    struct fetch_part *part = b->part;
    const struct request *req = b->fetch->req;
    const struct fetch_request *in = request_body(req);
    b->code = e ? code_of_read(e) : (int16_t)KERR_NONE;
    if (!e && req->header.api_version < SINCE_ZSTD && has_zstd(&b->read)) {
        drop_read(&b->read);
        b->code = KERR_UNSUPPORTED_COMPRESSION_TYPE;
    }
    if (!b->code) {
        struct fetch_response_partition *out = part->out;
        out->high_watermark = log_high_watermark(part->log);
        out->last_stable_offset = out->high_watermark;
        out->log_start_offset = log_start_offset(part->log);
        out->aborted_transactions_count = in->isolation_level ? 0 : -1;
    }
}

static void warmed(struct log_query *q);

/* False: until the part is in memory. */
static bool read_part(struct fetch_branch *b)
{
    struct fetch_part *part = b->part;
    if (!part->log) {
        b->code = KERR_NOT_LEADER_OR_FOLLOWER;
        return true;
    }
    int64_t offset = part->in->fetch_offset;
    err e = b->max > 0 || b->first ? log_read(part->log, offset, b->max, b->first, &b->read) : OK;
    if (e == ERR_AGAIN && part->tries++ < WARM_TRIES) {
        b->warm = (struct log_query){.offset = offset, .max_bytes = b->max, .done = warmed};
        log_warm(part->log, &b->warm);
        return false;
    }
    take_read(b, e == ERR_AGAIN ? OK : e); /* nothing this time: the client asks again */
    return true;
}

static void warmed(struct log_query *q)
{
    struct fetch_branch *b = list_entry(q, struct fetch_branch, warm);
    if (q->result && b->part->log) {
        b->code = code_of_read(q->result);
        message_return(&b->step);
    } else if (read_part(b)) {
        message_return(&b->step);
    }
}

static bool read_run(struct message *m)
{
    return read_part(list_entry(m, struct fetch_branch, step));
}

/* ---- at the shard: leaving */

static bool leave_run(struct message *m)
{
    struct fetch_branch *b = list_entry(m, struct fetch_branch, step);
    struct fetch *f = b->fetch;
    for (int32_t i = 0; i < f->count; i++) {
        if (f->parts[i].branch == b) {
            log_unwatch(&f->parts[i].watcher);
        }
    }
    b->leaving = b->noted && m->from != m->to; /* a note to ourselves is a call further up */
    return !b->leaving;
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
        if (part->out->error_code == KERR_FENCED_LEADER_EPOCH) {
            struct fetch_response_current_leader *leader = arena_alloc(&req->arena, sizeof *leader);
            if (!leader) {
                return arena_error(&req->arena);
            }
            *leader = (struct fetch_response_current_leader){
                req->env->node_id, log_manager_leader_epoch(req->env->logs)};
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
    if (request_is_dropped(f->req)) {
        return;
    }
    if (add_leaders(f)) {
        request_close(f->req, "the answer needs more memory than a request may have");
        return;
    }
    reply(f->req, 0);
}

static void leave(struct fetch *f)
{
    f->state = FETCH_LEAVING;
    timer_disarm(f->req->env->timers, &f->timer);
    for (int32_t i = 0; i < branch_count(f); i++) {
        if (is_used(&f->branches[i])) {
            step(&f->branches[i], leave_run);
        }
    }
    if (f->steps == 0) {
        answer(f);
    }
}

/* ---- reading */

static void part_read(struct fetch *f, struct fetch_branch *b)
{
    struct fetch_part *part = b->part;
    f->next++;
    if (b->code) {
        fail_part(f, part, b->code);
        return;
    }
    size_t size = b->read.size;
    f->answered_any = f->answered_any || size > 0;
    f->max_bytes -= size < f->max_bytes ? size : f->max_bytes;
    part->out->records = request_records(f->req, &b->read);
}

static void read_parts(struct fetch *f)
{
    while (f->next < f->count) {
        struct fetch_part *part = &f->parts[f->next];
        struct fetch_branch *b = part->branch;
        if (part->out->error_code) {
            f->next++;
            continue;
        }
        size_t max = part->in->partition_max_bytes > 0 ? (size_t)part->in->partition_max_bytes : 0;
        b->part = part;
        b->max = max < f->max_bytes ? max : f->max_bytes;
        b->first = !f->answered_any;
        b->code = KERR_NONE;
        b->read.count = 0;
        b->read.size = 0;
        if (!step(b, read_run)) {
            return;
        }
        part_read(f, b);
    }
    leave(f);
}

static void begin_reading(struct fetch *f)
{
    f->state = FETCH_READING;
    timer_disarm(f->req->env->timers, &f->timer);
    read_parts(f);
}

/* ---- waiting */

static bool is_enough(const struct fetch *f)
{
    size_t available = 0;
    bool ready = f->failed || f->count == 0;
    for (int32_t i = 0; i < branch_count(f); i++) {
        available += f->branches[i].known.available;
        ready = ready || f->branches[i].known.ready;
    }
    return ready || available >= f->min_bytes;
}

static bool note_run(struct message *m)
{
    struct fetch_branch *b = list_entry(m, struct fetch_branch, note);
    struct fetch *f = b->fetch;
    b->known = b->by_note;
    if (f->state == FETCH_WAITING && is_enough(f)) {
        begin_reading(f);
    }
    return true;
}

static void waited_enough(struct timer *timer)
{
    begin_reading(list_entry(timer, struct fetch, timer));
}

static void fetch_drop(struct request *req)
{
    struct fetch *f = req->handler;
    if (f->steps == 0) { /* else when they are back */
        leave(f);
    }
}

static void fetch_stop(struct request *req)
{
    struct fetch *f = req->handler;
    if (f->state == FETCH_WAITING) {
        begin_reading(f);
    }
}

/* ---- checking */

static void checked(struct fetch *f)
{
    const struct request *req = f->req;
    const struct fetch_request *in = request_body(req);
    for (int32_t i = 0; i < f->count; i++) {
        if (f->parts[i].code) {
            fail_part(f, &f->parts[i], f->parts[i].code);
        }
    }
    if (is_enough(f) || in->max_wait_ms <= 0 || req->env->stopping) {
        begin_reading(f);
        return;
    }
    f->state = FETCH_WAITING;
    timer_arm(req->env->timers, &f->timer, clock_mono_ms(req->env->clock) + in->max_wait_ms);
}

static void step_back(struct message *m)
{
    struct fetch_branch *b = list_entry(m, struct fetch_branch, step);
    struct fetch *f = b->fetch;
    struct request *req = f->req;
    f->steps--;
    if (f->state == FETCH_CHECKING) {
        b->known = b->by_check;
    }
    if (f->state == FETCH_READING && request_is_dropped(req)) {
        drop_read(&b->read);
    } else if (f->state == FETCH_READING) {
        part_read(f, b);
        read_parts(f);
    } else if (f->steps == 0 && f->state == FETCH_CHECKING && !request_is_dropped(req)) {
        checked(f);
    } else if (f->steps == 0 && f->state == FETCH_LEAVING) {
        answer(f);
    }
    if (f->steps == 0 && request_is_dropped(req) && f->state != FETCH_LEAVING) {
        leave(f);
    }
    request_release(req);
}

static void begin_part(struct fetch *f, struct fetch_part *part, const struct topic *t)
{
    part->code = check_partition(t, part->in->partition);
    if (part->code) {
        return;
    }
    int32_t shard = topic_shard(t, part->in->partition, f->req->env->shard->all);
    part->topic = t->id;
    part->branch = &f->branches[shard];
    part->branch->fetch = f;
}

static void begin_parts(struct fetch *f, const struct fetch_request *in, struct fetch_response *out)
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
            part->watcher.moved = log_moved;
            part->in = &topic->partitions[k];
            part->out = &out->topics[i].partitions[k];
            part->out->partition_index = part->in->partition;
            part->out->records = (struct wire_records){.ptr = (const uint8_t *)""};
            part->code = code;
            if (t) {
                begin_part(f, part, t);
            }
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
    f->branches = arena_zero(&req->arena, (size_t)branch_count(f), sizeof *f->branches);
    return f->parts && f->branches ? f : NULL;
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
    begin_parts(f, in, out);
    for (int32_t i = 0; i < branch_count(f); i++) {
        struct fetch_branch *b = &f->branches[i];
        if (is_used(b) && step(b, check_run)) {
            b->known = b->by_check;
        }
    }
    if (f->steps == 0) {
        checked(f);
    }
    return OK;
}

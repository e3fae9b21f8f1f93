/* The order of a connection's requests.
 *
 * Invariants:
 *
 * 1. The queue is some requests that have started, then some that have not; first_queued is the
 * first of these.
 * 2. Of several that have started and are not answered, all are of one API, and it is PIPELINED.
 * 3. Answers are written in the order of the queue, each whole. The parts of one produce follow
 * each other, and `held` has the results of those that are through.
 * 4. A session that is closing starts and writes nothing; it lives until session_closed.
 */
#include "base/check.h"
#include "base/mem.h"
#include "broker/api/internal.h"
#include "broker/api/produce_parts.h"

#include <stdio.h>

enum {
    OUT_KEPT_MAX = 1 << 20, /* bytes of the writer that are kept for the next answer */
    CLOSE_REASON_SIZE = 192,
    PART_BYTES_MAX = 4 << 20, /* of parts of one produce, in the queue */
};

void sessions_init(struct sessions *all, struct api_env *env, const struct session_ops *ops)
{
    *all = (struct sessions){.env = env, .ops = ops};
    list_init(&all->all);
    list_init(&all->ready);
    list_init(&all->starved);
    list_init(&all->spare);
    all->out = mem_need_zero(1, sizeof *all->out);
    writer_init(all->out, INT32_MAX);
}

void sessions_finish(struct sessions *all)
{
    if (!all->out) {
        return;
    }
    check(all->session_count == 0 && all->request_count == 0);
    struct list *spare;
    while ((spare = list_pop(&all->spare))) {
        struct request *req = list_entry(spare, struct request, link);
        arena_finish(&req->arena);
        mem_free(req);
    }
    writer_finish(all->out);
    mem_free(all->out);
    *all = (struct sessions){0};
}

static struct str copy_text(char **at, const char *before, const char *text)
{
    char *start = *at;
    *at += sprintf(start, "%s%s", before, text) + 1;
    return str_of(start);
}

struct session *session_create(struct sessions *all, const struct session_options *options)
{
    size_t size = strlen(options->peer) + strlen(options->peer_host) + strlen(options->host) +
                  strlen(options->listener) + sizeof "/" + 4;
    struct session *s = mem_need_zero(1, sizeof *s + size);
    s->all = all;
    s->conn = options->conn;
    list_init(&s->queue);
    list_push(&all->all, &s->link);
    char *at = s->text;
    s->peer = copy_text(&at, "", options->peer);
    s->peer_host = copy_text(&at, "/", options->peer_host);
    s->listener = copy_text(&at, "", options->listener);
    s->endpoint =
        (struct endpoint){.host = copy_text(&at, "", options->host), .port = options->port};
    all->session_count++;
    return s;
}

void session_mark_ready(struct session *s)
{
    struct sessions *all = s->all;
    if (!list_linked(&s->ready)) {
        bool first = list_empty(&all->ready);
        list_push(&all->ready, &s->ready);
        if (first && all->wake) {
            all->wake(all->ctx);
        }
    }
}

void session_close(struct session *s, const char *reason)
{
    if (!s->closing) {
        s->closing = true;
        s->all->ops->close(s->conn, reason);
    }
}

/* Its answer went past a spent budget, and has gone: the next one's turn. */
static void give_leave_back(struct session *s)
{
    if (s->all->over == s) {
        s->all->over = NULL;
        s->all->memory_freed = true;
    }
}

void session_closed(struct session *s)
{
    struct sessions *all = s->all;
    s->closing = true;
    s->first_queued = NULL;
    while (!list_empty(&s->queue)) {
        struct request *req = list_entry(s->queue.next, struct request, link);
        all->env->metrics->requests_dropped++;
        request_detach(req, true);
    }
    produce_held_destroy(s->held);
    list_remove(&s->ready);
    list_remove(&s->starved);
    list_remove(&s->link);
    give_leave_back(s);
    all->session_count--;
    mem_free(s);
}

void session_drained(struct session *s)
{
    give_leave_back(s);
    session_mark_ready(s);
}

static struct request *add(struct session *s, struct slab *slab, const uint8_t *bytes, size_t size,
                           int64_t arrived_us)
{
    struct request *req = request_create(s->all);
    req->session = s;
    req->peer = s->peer;
    req->peer_host = s->peer_host;
    req->listener = s->listener;
    req->slab = slab_ref(slab);
    req->bytes = bytes;
    req->size = size;
    req->arrived_us = arrived_us;
    req->joins = s->cut;
    req->shortened = s->shortened;
    if (dispatch_header(req) != OK) {
        req->api =
            NULL; /* closes the connection when its turn comes: answers before it still go out */
    }
    list_push(&s->queue, &req->link);
    s->queue_count++;
    s->first_queued = s->first_queued ? s->first_queued : req;
    s->all->ops->set_busy(s->conn, true);
    session_mark_ready(s);
    return req;
}

static void pause_if_full(struct session *s)
{
    if (!s->paused && (s->queue_count >= s->all->env->config->requests_in_flight_max ||
                       s->part_bytes >= PART_BYTES_MAX)) {
        s->paused = true;
        s->all->ops->pause(s->conn);
    }
}

void session_frame(struct session *s, struct slab *slab, const uint8_t *bytes, size_t size,
                   int64_t arrived_us)
{
    if (s->closing || session_refuses(s, bytes, size, size)) {
        return; /* 4 */
    }
    add(s, slab, bytes, size, arrived_us);
    s->cut = false;
    s->shortened = false;
    pause_if_full(s);
}

void session_add_part(struct session *s, struct slab *slab, size_t size, int64_t arrived_us)
{
    struct request *req = add(s, slab, slab->data, size, arrived_us);
    req->more = true;
    s->cut = true;
    s->part_bytes += size;
    s->all->env->metrics->produce_parts++;
    pause_if_full(s);
}

/* A small frame that may wait for long must not keep a large slab that others read into. */
static void copy_frame(struct request *req)
{
    if (!req->slab || req->size > req->slab->size / 2) {
        return;
    }
    void *copy = arena_dup(&req->arena, req->bytes, req->size);
    if (!copy) {
        req->arena.error = OK; /* then it keeps the slab */
        return;
    }
    req->bytes = copy;
    slab_unref(req->slab);
    req->slab = NULL;
    request_charge(req);
}

/* ---- starting */

/* A request waits for memory while its session has answers to send and little is left; and, when it
 * is spent, for its turn: something always goes on, and no more than one answer is past the limit.
 */
static bool is_starved(struct session *s, size_t output_bytes)
{
    struct sessions *all = s->all;
    struct budget *budget = all->env->budget;
    bool waits = output_bytes ? budget_tight(budget) : budget_spent(budget) && all->over;
    if (waits) {
        budget_wait(budget);
        list_push(&all->starved, &s->starved);
    }
    return waits;
}

static struct request *next_to_start(struct session *s)
{
    struct request *next = s->first_queued;
    size_t output_bytes = next ? s->all->ops->output_bytes(s->conn) : 0;
    if (!next || output_bytes > (size_t)s->all->env->config->reply_bytes_max) {
        return NULL;
    }
    struct request *head = list_entry(s->queue.next, struct request, link);
    bool may = next == head ||
               (next->api && next->api == head->api && (next->api->flags & API_PIPELINED)); /* 2 */
    return may && !is_starved(s, output_bytes) ? next : NULL;
}

static void close_for(struct session *s, struct request *req, const char *reason)
{
    char text[CLOSE_REASON_SIZE];
    if (req->api) {
        s->all->env->metrics->apis[api_row_index(req->api)].errors++;
    } else if (req->size < 8) {
        snprintf(text, sizeof text, "a frame of %zu bytes is no request", req->size);
        reason = text;
    } else {
        snprintf(text, sizeof text,
                 "a request with API key %d version %d, or with a header that does not decode: not "
                 "served",
                 req->header.api_key, req->header.api_version);
        reason = text;
    }
    session_close(s, reason);
}

static void start(struct session *s, struct request *req)
{
    struct api_env *env = s->all->env;
    struct list *after = req->link.next;
    s->first_queued = after == &s->queue ? NULL : list_entry(after, struct request, link); /* 1 */
    if (!req->api) {
        close_for(s, req, NULL);
        return;
    }
    if (!(req->api->flags & API_PIPELINED)) {
        copy_frame(req);
    }
    struct api_metrics *m = &env->metrics->apis[api_row_index(req->api)];
    req->state = REQUEST_STARTED;
    req->started_us = clock_mono_us(env->clock);
    m->requests += !req->joins;
    m->received_bytes += req->size + FRAME_SIZE_BYTES;
    histogram_record(&m->queue, req->started_us - req->arrived_us);
    const char *reason = "";
    err e = dispatch_run(req, &reason);
    histogram_record(&m->handler, clock_mono_us(env->clock) - req->started_us);
    if (e != OK) {
        req->on_drop = NULL; /* the handler has let go of it */
        req->on_stop = NULL;
        close_for(s, req, reason);
        return;
    }
    if (!req->trip) {
        request_charge(req);
    }
}

/* ---- answering */

static void write_answer(struct session *s, struct writer *w)
{
    const struct session_ops *ops = s->all->ops;
    size_t done = 0;
    for (size_t i = 0; i < w->splice_count; i++) {
        struct request_extents *x = w->splices[i].extents;
        ops->write(s->conn, w->ptr + done, w->splices[i].position - done);
        done = w->splices[i].position;
        for (int k = 0; k < x->count; k++) {
            ops->write_extent(s->conn, &x->extents[k]);
            x->extents[k] = (struct extent){0};
        }
    }
    ops->write(s->conn, w->ptr + done, w->len - done);
}

static void note_times(struct request *req, size_t sent)
{
    const struct api_env *env = req->sessions->env; /* it may be away still */
    struct api_metrics *m = &env->metrics->apis[api_row_index(req->api)];
    req->sent_us = clock_mono_us(env->clock);
    m->sent_bytes += sent;
    m->answers += sent != 0;
    m->errors += dispatch_error_code(req) != 0;
    histogram_record(&m->total, req->sent_us - req->arrived_us);
    if (req->durable_us) {
        histogram_record(&m->durable, req->durable_us - req->submitted_us);
    }
}

/* Encodes and writes the answer of the first request of the queue, and lets go of it. */
static void answer(struct session *s, struct request *req)
{
    const struct api_env *env = s->all->env;
    struct writer *w = s->all->out;
    err joined = s->held ? produce_join(&s->held, req) : OK;
    if (joined != OK) {
        close_for(s, req, dispatch_refusal(joined));
    } else if (!req->no_reply) {
        err e = dispatch_encode(req, w);
        if (e != OK) {
            diag_log(env->diag, DIAG_ERROR, "answer_failed",
                     "api=%s version=%d at=%s.%s error=\"%s\"", req->header.api->name,
                     req->header.api_version, w->at_table ? w->at_table : "", w->at ? w->at : "",
                     err_text(e));
            close_for(s, req, "its answer cannot be encoded");
        } else {
            write_answer(s, w); /* 3 */
            if (budget_spent(env->budget) && !s->all->over) {
                s->all->over = s; /* until it has drained, or is closed */
            }
        }
    }
    produce_held_destroy(s->held); /* which the answer borrowed from */
    s->held = NULL;
    note_times(req, writer_total(w));
    if (w->size > OUT_KEPT_MAX || w->error != OK) {
        writer_finish(w);
        writer_init(w, INT32_MAX);
    } else {
        writer_reset(w);
    }
    s->queue_count--;
    request_detach(req, false);
}

/* The first request of the queue is a part of one: its results wait. */
static void hold(struct session *s, struct request *req)
{
    err e = req->no_reply ? OK : produce_hold(&s->held, req);
    if (e != OK) {
        close_for(s, req, dispatch_refusal(e));
    }
    s->queue_count--;
    s->part_bytes -= req->size;
    request_detach(req, false);
}

/* What is left waits: it gives back what it need not have, and the connection learns how things
 * are. */
static void settle(struct session *s)
{
    const struct session_ops *ops = s->all->ops;
    int64_t most = s->all->env->config->requests_in_flight_max;
    for (struct request *req = s->first_queued; req && &req->link != &s->queue;
         req = list_entry(req->link.next, struct request, link)) {
        copy_frame(req);
    }
    if (s->paused && s->queue_count <= most / 2 && s->part_bytes <= PART_BYTES_MAX / 2) {
        s->paused = false;
        ops->resume(s->conn);
    }
    if (list_empty(&s->queue)) {
        ops->set_busy(s->conn, false);
        if (s->all->stopping) {
            s->closing = true;
            ops->finish(s->conn);
        }
    }
}

static void run_session(struct session *s)
{
    list_remove(&s->starved);
    while (!s->closing) { /* 4 */
        struct request *head =
            list_empty(&s->queue) ? NULL : list_entry(s->queue.next, struct request, link);
        if (head && head->state == REQUEST_ANSWERED) {
            (head->more ? hold : answer)(s, head);
            continue;
        }
        struct request *next = next_to_start(s);
        if (!next) {
            settle(s);
            return;
        }
        start(s, next);
    }
}

bool sessions_wait(const struct sessions *all)
{
    return !list_empty(&all->ready) || (all->memory_freed && !list_empty(&all->starved));
}

void sessions_memory_freed(struct sessions *all)
{
    all->memory_freed = true;
}

bool sessions_run(struct sessions *all)
{
    struct list *ready;
    bool worked = false;
    if (all->memory_freed) {
        all->memory_freed = false;
        struct list starved;
        list_init(&starved);
        list_splice(&starved, &all->starved);
        while ((ready = list_pop(&starved))) {
            session_mark_ready(list_entry(ready, struct session, starved));
        }
    }
    while ((ready = list_pop(&all->ready))) {
        run_session(list_entry(ready, struct session, ready));
        worked = true;
    }
    return worked;
}

/* ---- the end */

void sessions_stop(struct sessions *all)
{
    all->stopping = true;
    list_each(link, &all->all)
    {
        struct session *s = list_entry(link, struct session, link);
        list_each_safe(at, after, &s->queue)
        {
            struct request *req = list_entry(at, struct request, link);
            if (req->state == REQUEST_STARTED && req->on_stop) {
                req->on_stop(req);
            }
        }
        session_mark_ready(s);
    }
}

void sessions_close(struct sessions *all, const char *reason)
{
    list_each(link, &all->all)
    {
        struct session *s = list_entry(link, struct session, link);
        s->closing = true;
        all->ops->close(s->conn, reason);
    }
}

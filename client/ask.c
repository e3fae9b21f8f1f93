#include "client/ask.h"

#include "base/mem.h"
#include "gen/find_coordinator.h"
#include "protocol/error.h"

#include <stdio.h>
#include <string.h>

enum { RESULT_LIMIT = 1 << 30, ANSWER_LIMIT = 512 << 20 };

/* ---- results ---- */

struct result {
    struct arena arena;
    max_align_t memory[]; /* what the caller sees */
};

static struct result *result_of(void *memory)
{
    return (struct result *)(void *)((char *)memory - offsetof(struct result, memory));
}

void *result_create(size_t size)
{
    struct result *r = mem_zero(1, sizeof *r + size);
    if (!r) {
        return NULL;
    }
    arena_init(&r->arena, RESULT_LIMIT);
    return r->memory;
}

struct arena *result_arena(void *result)
{
    return &result_of(result)->arena;
}

const char *result_text(void *result, struct str s)
{
    char *text = arena_alloc(result_arena(result), s.len + 1);
    if (text) {
        memcpy(text, s.ptr ? s.ptr : "", s.len);
        text[s.len] = 0;
    }
    return text;
}

void rv_free(void *result)
{
    if (result) {
        arena_finish(&result_of(result)->arena);
        mem_free(result_of(result));
    }
}

/* ---- one attempt ---- */

static void ask_done(struct call *call, const struct answer *answer)
{
    struct ask *q = (struct ask *)(void *)((char *)call - offsetof(struct ask, call));
    q->done = true;
    q->code = answer->code;
    if (answer->code == RV_OK) {
        q->response = answer->body;
        q->frame = frame_ref(answer->frame);
        q->body_position = answer->body_position;
    }
}

static void answer_forget(struct ask *q)
{
    q->response = NULL;
    frame_unref(q->frame);
    q->frame = NULL;
    arena_finish(&q->arena);
    arena_init(&q->arena, ANSWER_LIMIT);
}

static int ask_once(struct ask *q, struct conn *k, struct rv_error *ret_error)
{
    struct rv_client *c = q->client;
    answer_forget(q);
    snprintf(q->where, sizeof q->where, "%s:%d", k->host, (int)k->port);
    q->done = false;
    q->call = (struct call){.api = wire_api_find(q->api_key),
                            .min_version = q->min_version,
                            .max_version = q->max_version,
                            .request = q->request,
                            .raw = q->raw,
                            .raw_size = q->raw_size,
                            .done = ask_done,
                            .arena = &q->arena};
    int64_t left = q->deadline_ms - client_now(c);
    int64_t most = setting(c, OPT_REQUEST_TIMEOUT_MS);
    call_submit(k, &q->call, left < most ? (left > 0 ? left : 1) : most);
    while (!q->done) {
        client_turn_until(c, INT64_MAX / 2); /* the call's own timer ends it */
    }
    if (q->code == RV_OK) {
        return RV_OK;
    }
    bool is_connection = q->code == RV_E_CONNECT || q->code == RV_E_LOST;
    return error_set(ret_error, q->code, "%s: broker %s: %s", q->what, q->where,
                     is_connection && k->why[0] ? k->why : error_about(q->code));
}

/* ---- where to ---- */

int brokers_wait(struct rv_client *c, int64_t deadline_ms, struct rv_error *ret_error)
{
    c->meta.brokers_wanted = true;
    uint64_t answers = c->meta.answers;
    meta_refresh(&c->meta);
    while (c->meta.answers == answers) {
        if (!client_turn_until(c, deadline_ms)) {
            return c->meta.call_failures
                       ? error_copy(ret_error, &c->meta.last)
                       : error_set(ret_error, RV_E_TIMED_OUT, "no metadata in time");
        }
    }
    return RV_OK;
}

int topic_wait(struct rv_client *c, const char *name, int64_t deadline_ms, struct topic **ret_topic,
               struct rv_error *ret_error)
{
    struct topic *t = meta_topic(&c->meta, name, false);
    if (!t) {
        return error_memory(ret_error);
    }
    if (t->code != RV_OK) {
        t->known = false;
        meta_refresh(&c->meta);
    }
    while (!t->known) {
        if (!client_turn_until(c, deadline_ms)) {
            return c->meta.call_failures ? error_copy(ret_error, &c->meta.last)
                                         : error_set(ret_error, RV_E_TIMED_OUT,
                                                     "topic %s: no metadata in time", name);
        }
    }
    if (t->code != RV_OK) {
        return error_set(ret_error, t->code, "topic %s: %s", name, error_about(t->code));
    }
    *ret_topic = t;
    return RV_OK;
}

static int find_code(const void *response)
{
    const struct find_coordinator_response *r = response;
    return r->error_code;
}

static int coordinator_find(struct ask *q, int32_t *ret_node, struct rv_error *ret_error)
{
    struct find_coordinator_request request;
    find_coordinator_request_init(&request);
    request.key = str_of(q->group);
    request.key_type = q->key_type;
    struct ask find = {.client = q->client,
                       .api_key = 10,
                       .max_version = 3,
                       .request = &request,
                       .target = ASK_ANY,
                       .deadline_ms = q->deadline_ms,
                       .code_of = find_code,
                       .what = q->what};
    int code = ask(&find, ret_error);
    if (code == RV_OK) {
        const struct find_coordinator_response *r = find.response;
        code =
            r->error_code ? ask_refused(&find, r->error_code, r->error_message, ret_error) : RV_OK;
        *ret_node = r->node_id;
    }
    ask_finish(&find);
    return code;
}

static void coordinator_is(struct ask *q, int32_t node)
{
    if (q->target == ASK_COORDINATOR && q->coordinator) {
        *q->coordinator = node;
    }
}

static int target_conn(struct ask *q, struct conn **ret_conn, struct rv_error *ret_error)
{
    struct rv_client *c = q->client;
    int32_t node = q->node;
    int code = RV_OK;
    if (q->target != ASK_ANY && c->meta.answers == 0) {
        code = brokers_wait(c, q->deadline_ms, ret_error);
    }
    if (code == RV_OK && q->target == ASK_COORDINATOR) {
        node = q->coordinator ? *q->coordinator : -1;
        code = node >= 0 ? RV_OK : coordinator_find(q, &node, ret_error);
    }
    if (code != RV_OK) {
        return code;
    }
    node = q->target == ASK_CONTROLLER ? c->meta.controller : node;
    struct conn *k = q->target == ASK_ANY || (q->target == ASK_CONTROLLER && node < 0)
                         ? conn_any(c, LANE_CONTROL)
                         : conn_get(c, node, LANE_CONTROL);
    coordinator_is(q, k ? node : -1);
    if (!k) {
        c->meta.brokers_wanted = true;
        meta_refresh(&c->meta);
        return error_set(ret_error, KERR_BROKER_NOT_AVAILABLE, "%s: broker %d is not known",
                         q->what, (int)node);
    }
    *ret_conn = k;
    return RV_OK;
}

/* ---- until it is answered ---- */

/* A raw request that may have been carried out is its sender's to send again, or not. */
static bool may_retry(const struct ask *q, int code)
{
    unsigned flags = error_flags(code);
    return client_now(q->client) < q->deadline_ms &&
           (flags & RV_RETRIABLE || code == KERR_BROKER_NOT_AVAILABLE) && code != RV_E_MEMORY &&
           !(q->raw && flags & RV_UNSURE);
}

static void ask_pause(struct ask *q, int code, int failures)
{
    struct rv_client *c = q->client;
    if (error_is_metadata(code) || code == KERR_NOT_CONTROLLER) {
        c->meta.brokers_wanted = true;
        meta_refresh(&c->meta);
    }
    int64_t until = client_now(c) + client_backoff(c, error_backoff_ms(c, code),
                                                   setting(c, OPT_RETRY_BACKOFF_MAX_MS), failures);
    until = until < q->deadline_ms ? until : q->deadline_ms;
    while (client_turn_until(c, until)) {
    }
}

int ask(struct ask *q, struct rv_error *ret_error)
{
    if (q->client->in_turn) {
        return error_set(ret_error, RV_E_STATE, "%s: not allowed in a callback", q->what);
    }
    for (int failures = 0;; failures++) {
        struct conn *k = NULL;
        int code = target_conn(q, &k, ret_error);
        bool answered = false;
        if (code == RV_OK) {
            code = ask_once(q, k, ret_error);
            answered = code == RV_OK;
        }
        int verdict = answered && q->code_of ? q->code_of(q->response) : code;
        if (verdict == RV_OK || !may_retry(q, verdict)) {
            return code;
        }
        q->unsure |= (error_flags(verdict) & RV_UNSURE) != 0;
        if (error_is_coordinator(verdict)) {
            coordinator_is(q, -1);
        }
        ask_pause(q, verdict, failures);
    }
}

void ask_finish(struct ask *q)
{
    if (q->client) {
        call_cancel(&q->call);
        frame_unref(q->frame);
        arena_finish(&q->arena);
    }
}

int ask_refused(const struct ask *q, int code, struct str message, struct rv_error *ret_error)
{
    const char *unsure =
        q->unsure ? " (an earlier attempt lost its connection; it may have worked)" : "";
    if (message.len) {
        return error_set(ret_error, code, "%s: %.*s%s", q->what, STR_ARG(message), unsure);
    }
    return error_set(ret_error, code, "%s: %s%s", q->what, error_about(code), unsure);
}

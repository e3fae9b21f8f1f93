/* outbox_room: a relay in the test's process and the tables behind it, on an outbox_world; what
 * people see of it, and what its topics hold. */
#pragma once

#include "tests/kit/outbox_model.h"
#include "tests/kit/proxy.h"

enum { API_PRODUCE = 0, SEEN_MAX = 8 };

/* A relay in this process, and the tables behind it. */
struct room {
    struct outbox_world *w;
    struct outbox_conn conns[2]; /* the relay's; the service's and people's */
    struct rv_client *client;
    struct rv_outbox *relay, *outbox;
};

static inline struct room room_begin(struct outbox_world *w, const struct rv_option *options)
{
    struct room r = {.w = w};
    outbox_world_empty(w);
    r.client = outbox_client(w->address);
    for (int i = 0; i < 2; i++) {
        r.conns[i] = outbox_connect(w);
    }
    r.relay = outbox_open(w, &r.conns[0], options ? options : relay_options());
    r.outbox = outbox_open(w, &r.conns[1], NULL);
    return r;
}

static inline void room_end(struct room *r)
{
    rv_outbox_close(r->relay);
    rv_outbox_close(r->outbox);
    rv_client_close(r->client);
    for (int i = 0; i < 2; i++) {
        outbox_disconnect(r->w, &r->conns[i]);
    }
}

static inline void topic_make(struct room *r, const char *name, const struct rv_option *configs,
                              char topic[64])
{
    struct rv_error e = {0};
    snprintf(topic, 64, "%s-%s", name, r->w->server ? "postgres" : "sqlite");
    outbox_must(rv_topic_create(r->client, topic, 1, configs, OUTBOX_WAIT_MS, &e), &e);
}

static inline void add(struct room *r, const char *topic, const char *key, struct rv_bytes value)
{
    struct rv_message m = {.topic = topic, .key = rv_str(key), .value = value};
    struct rv_error e = {0};
    outbox_must(rv_outbox_add(r->outbox, &m, &e), &e);
}

/* Until nothing that can go is left. */
static inline void relay(struct room *r)
{
    int64_t deadline_ms = clock_after_ms(&clock_real, OUTBOX_WAIT_MS);
    struct rv_error e = {0};
    int64_t count;
    do {
        int code = rv_outbox_relay(r->relay, r->client, 10, &count, &e);
        if (code != RV_OK && !(e.flags & RV_RETRIABLE)) {
            outbox_must(code, &e);
        }
        assert_true(clock_mono_ms(&clock_real) < deadline_ms);
    } while (backlog(&r->conns[1]) > 0);
}

struct seen {
    size_t count;
    struct rv_outbox_trouble of[SEEN_MAX]; /* pointers are not valid */
    char keys[SEEN_MAX][32];
    char reasons[SEEN_MAX][256];
};

static inline void see(void *ctx, const struct rv_outbox_trouble *t)
{
    struct seen *s = ctx;
    if (s->count < SEEN_MAX) {
        s->of[s->count] = *t;
        snprintf(s->keys[s->count], sizeof s->keys[0], "%.*s", (int)t->key.size,
                 t->key.ptr ? (const char *)t->key.ptr : "");
        snprintf(s->reasons[s->count], sizeof s->reasons[0], "%s", t->reason);
    }
    s->count++;
}

static inline struct seen troubles(struct room *r)
{
    struct seen s = {0};
    struct rv_error e = {0};
    outbox_must(rv_outbox_each(r->outbox, see, &s, &e), &e);
    return s;
}

/* What the topic (one partition) holds: values, with spaces between. */
static inline void assert_topic(struct room *r, const char *topic, const char *values)
{
    struct raw_log log;
    struct buf text = {0};
    raw_log_read(&log, r->client, topic, 0, 0);
    for (size_t i = 0; i < log.count; i++) {
        const struct bytes v = log.records[i].value;
        buf_printf(&text, "%s%.*s", i ? " " : "", v.len > 8 ? 5 : (int)v.len,
                   v.len > 8 ? "large" : (const char *)v.ptr);
    }
    assert_string_equal(buf_text(&text), values);
    buf_finish(&text);
    raw_log_finish(&log);
}

static inline int64_t retry(struct room *r, const char *topic)
{
    struct rv_error e = {0};
    int64_t rows = -1;
    outbox_must(rv_outbox_retry(r->outbox, topic, &rows, &e), &e);
    return rows;
}

/* Of a Produce request that is stored: the answer is lost. */
static inline enum proxy_action lose_answers(void *ctx, struct proxy_request *request)
{
    (void)ctx;
    return request->api_key == API_PRODUCE ? PROXY_CUT_AFTER : PROXY_PASS;
}

/* That never comes to the broker. */
static inline enum proxy_action lose_requests(void *ctx, struct proxy_request *request)
{
    (void)ctx;
    return request->api_key == API_PRODUCE ? PROXY_CUT_BEFORE : PROXY_PASS;
}

static inline struct proxy *proxy_to(struct room *r, proxy_plan *plan,
                                     char address[OUTBOX_ADDRESS_SIZE])
{
    struct proxy *p = mem_need_zero(1, sizeof *p);
    proxy_start(p);
    proxy_broker_set(p, r->w->broker ? r->w->broker->port : outside_port());
    proxy_mask(p, -1);
    proxy_plan_set(p, plan, NULL);
    snprintf(address, OUTBOX_ADDRESS_SIZE, "127.0.0.1:%d", (int)p->port);
    return p;
}

static inline void proxy_drop(struct proxy *p)
{
    proxy_stop(p);
    mem_free(p);
}

/* What there is gets sealed, and sent, and what becomes of it the plan says. */
static inline void relay_in_vain(struct room *r, proxy_plan *plan)
{
    struct rv_error e = {0};
    char address[OUTBOX_ADDRESS_SIZE];
    int64_t count;
    struct proxy *p = proxy_to(r, plan, address);
    struct rv_client *client = outbox_client(address);
    do {
        int code = rv_outbox_relay(r->relay, client, 0, &count, &e);
        assert_true(code == RV_OK ? count == 0 : (e.flags & RV_RETRIABLE) != 0);
    } while (proxy_count(p, API_PRODUCE) == 0);
    rv_client_close(client);
    proxy_drop(p);
}

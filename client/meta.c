#include "client/meta.h"

#include "base/mem.h"
#include "client/client.h"
#include "gen/metadata.h"
#include "protocol/error.h"

#include <stdio.h>
#include <string.h>

/* Metadata by name carries what we need from version 1 on; ids come with 10, epochs with 7. */
static int meta_fill(struct call *call, struct arena *a, void *request);
static void meta_done(struct call *call, const struct answer *answer);

static struct meta *meta_of_timer(struct timer *timer, size_t offset)
{
    return (struct meta *)(void *)((char *)timer - offset);
}

static void meta_on_age(struct timer *timer)
{
    meta_refresh(meta_of_timer(timer, offsetof(struct meta, age_timer)));
}

static void meta_on_retry(struct timer *timer)
{
    (void)timer; /* the pump does the rest */
}

void meta_init(struct meta *m, struct rv_client *client)
{
    *m = (struct meta){.client = client, .controller = -1};
    map_init(&m->topics, rng_next(&client->rng));
    timer_init(&m->age_timer, meta_on_age);
    timer_init(&m->retry_timer, meta_on_retry);
    m->call.api = wire_api_find(3);
    m->call.min_version = 1;
    m->call.fill = meta_fill;
    m->call.done = meta_done;
}

static void topic_destroy(struct topic *t)
{
    mem_free(t->name);
    mem_free(t->partitions);
    mem_free(t);
}

void meta_finish(struct meta *m)
{
    if (!m->client) {
        return;
    }
    call_cancel(&m->call);
    timer_disarm(&m->client->timers, &m->age_timer);
    timer_disarm(&m->client->timers, &m->retry_timer);
    for (struct map_entry *e = map_first(&m->topics); e; e = map_next(e)) {
        topic_destroy(map_value(e));
    }
    map_finish(&m->topics);
    mem_free(m->brokers);
    m->brokers = NULL;
    m->broker_count = 0;
}

struct topic *meta_topic(struct meta *m, const char *name, bool may_create)
{
    struct topic *t = map_get_str(&m->topics, str_of(name));
    if (!t) {
        t = mem_zero(1, sizeof *t);
        if (!t) {
            return NULL;
        }
        t->name = mem_dup(name, strlen(name) + 1);
        if (!t->name || map_put_str(&m->topics, str_of(name), t) != OK) {
            topic_destroy(t);
            return NULL;
        }
        t->may_create = may_create;
        m->not_before_ms = m->failures ? m->not_before_ms : 0;
        meta_refresh(m);
    } else if (may_create) {
        meta_topic_create(m, t);
    }
    return t;
}

void meta_topic_create(struct meta *m, struct topic *t)
{
    if (!t->may_create && (!t->known || t->code != RV_OK)) {
        t->may_create = true;
        meta_refresh(m);
    }
}

struct topic *meta_topic_by_id(const struct meta *m, struct uuid id)
{
    for (struct map_entry *e = map_first(&m->topics); e; e = map_next(e)) {
        struct topic *t = map_value(e);
        if (!uuid_is_zero(id) && uuid_eq(t->id, id)) {
            return t;
        }
    }
    return NULL;
}

const struct broker *meta_broker(const struct meta *m, int32_t id)
{
    for (int32_t i = 0; i < m->broker_count; i++) {
        if (m->brokers[i].id == id) {
            return &m->brokers[i];
        }
    }
    return NULL;
}

void meta_refresh(struct meta *m)
{
    for (struct map_entry *e = map_first(&m->topics); e; e = map_next(e)) {
        const struct topic *t = map_value(e);
        m->rounds |= t->may_create ? META_ROUND_CREATE : META_ROUND_READ;
    }
    if (m->brokers_wanted) {
        m->rounds |= META_ROUND_READ;
    }
    m->client->again = true;
}

/* ---- asking ---- */

static int meta_fill(struct call *call, struct arena *a, void *request)
{
    struct meta *m = (struct meta *)(void *)((char *)call - offsetof(struct meta, call));
    struct metadata_request *r = request;
    r->allow_auto_topic_creation = m->asking == META_ROUND_CREATE;
    r->topics = wire_array(a, &metadata_request_topic_table, (int32_t)map_count(&m->topics));
    r->topics_count = 0;
    if (!r->topics) {
        return RV_E_MEMORY;
    }
    for (struct map_entry *e = map_first(&m->topics); e; e = map_next(e)) {
        const struct topic *t = map_value(e);
        if (t->may_create == (m->asking == META_ROUND_CREATE)) {
            r->topics[r->topics_count++].name = str_of(t->name);
        }
    }
    return RV_OK;
}

void meta_pump(struct meta *m)
{
    struct rv_client *c = m->client;
    if (!m->rounds || call_busy(&m->call)) {
        return;
    }
    if (client_now(c) < m->not_before_ms) {
        if (!timer_armed(&m->retry_timer)) {
            timer_arm(&c->timers, &m->retry_timer, m->not_before_ms);
        }
        return;
    }
    struct conn *k = conn_any(c, LANE_CONTROL);
    if (!k) { /* no memory: tried again soon */
        timer_arm(&c->timers, &m->retry_timer, client_now(c) + setting(c, OPT_RETRY_BACKOFF_MS));
        return;
    }
    m->asking = m->rounds & META_ROUND_CREATE ? META_ROUND_CREATE : META_ROUND_READ;
    m->rounds &= ~m->asking;
    m->conn = k;
    call_submit(k, &m->call, setting(c, OPT_REQUEST_TIMEOUT_MS));
}

/* ---- the answer ---- */

static int brokers_take(struct meta *m, const struct metadata_response *r)
{
    if (r->brokers_count <= 0) {
        return RV_OK; /* a broker that is starting: keep what we know */
    }
    struct broker *brokers = mem_zero((size_t)r->brokers_count, sizeof *brokers);
    if (!brokers) {
        return RV_E_MEMORY;
    }
    for (int32_t i = 0; i < r->brokers_count; i++) {
        brokers[i].id = r->brokers[i].node_id;
        brokers[i].port = r->brokers[i].port;
        snprintf(brokers[i].host, sizeof brokers[i].host, "%.*s", STR_ARG(r->brokers[i].host));
    }
    mem_free(m->brokers);
    m->brokers = brokers;
    m->broker_count = r->brokers_count;
    m->controller = r->controller_id;
    snprintf(m->cluster_id, sizeof m->cluster_id, "%.*s", STR_ARG(r->cluster_id));
    return RV_OK;
}

static int partitions_take(struct topic *t, const struct metadata_response_topic *in)
{
    bool same = uuid_eq(t->id, in->topic_id);
    int32_t count = 0;
    for (int32_t i = 0; i < in->partitions_count; i++) {
        if (in->partitions[i].partition_index >= 0 &&
            in->partitions[i].partition_index < in->partitions_count) {
            count++;
        }
    }
    if (count != in->partitions_count) {
        return RV_E_PROTOCOL;
    }
    struct topic_partition *now = mem_zero((size_t)count, sizeof *now);
    if (!now) {
        return RV_E_MEMORY;
    }
    for (int32_t i = 0; i < count; i++) {
        const struct metadata_response_partition *p = &in->partitions[i];
        struct topic_partition *to = &now[p->partition_index];
        *to = (struct topic_partition){.leader = p->leader_id, .leader_epoch = p->leader_epoch};
        if (same && p->partition_index < t->count && p->leader_epoch >= 0 &&
            p->leader_epoch < t->partitions[p->partition_index].leader_epoch) {
            *to = t->partitions[p->partition_index]; /* an answer from before: never back */
        }
    }
    if (!same || count != t->count) {
        t->changes++;
    }
    mem_free(t->partitions);
    t->partitions = now;
    t->count = count;
    t->id = in->topic_id;
    t->internal = in->is_internal;
    return RV_OK;
}

/* True when the topic needs another question soon. */
static bool topic_take(struct meta *m, const struct metadata_response_topic *in)
{
    struct topic *t = map_get_str(&m->topics, in->name);
    if (!t) {
        return false;
    }
    t->known = true;
    if (t->code != in->error_code) {
        t->changes++;
    }
    t->code = in->error_code;
    if (t->code != KERR_NONE) {
        return error_is_retriable(t->code);
    }
    int code = partitions_take(t, in);
    if (code != RV_OK) {
        t->code = code;
        return true;
    }
    for (int32_t i = 0; i < t->count; i++) {
        if (t->partitions[i].leader < 0) {
            return true;
        }
    }
    t->may_create = false; /* it is there */
    return false;
}

static void meta_back_off(struct meta *m)
{
    struct rv_client *c = m->client;
    m->not_before_ms =
        client_now(c) + client_backoff(c, setting(c, OPT_RETRY_BACKOFF_MS),
                                       setting(c, OPT_RETRY_BACKOFF_MAX_MS), m->failures);
    m->failures++;
}

static void meta_failed(struct meta *m, const struct conn *k, int code)
{
    m->call_failures++;
    error_set(&m->last, code, "no metadata from %s:%d: %s", k->host, (int)k->port,
              code == RV_E_CONNECT || code == RV_E_LOST ? k->why : error_about(code));
    m->rounds |= m->asking;
    /* Other bootstrap servers are asked at once, then again with a pause. */
    if (m->call_failures % m->client->bootstrap_count == 0) {
        meta_back_off(m);
    }
    m->client->again = true;
}

static void meta_done(struct call *call, const struct answer *answer)
{
    struct meta *m = (struct meta *)(void *)((char *)call - offsetof(struct meta, call));
    struct rv_client *c = m->client;
    const struct metadata_response *r = answer->body;
    if (answer->code != RV_OK) {
        meta_failed(m, m->conn, answer->code);
        return;
    }
    int code = r->error_code != KERR_NONE ? r->error_code : brokers_take(m, r);
    if (code != RV_OK) {
        meta_failed(m, m->conn, code);
        return;
    }
    bool more = false;
    for (int32_t i = 0; i < r->topics_count; i++) {
        more |= topic_take(m, &r->topics[i]);
    }
    m->answers++;
    m->call_failures = 0;
    if (more) {
        m->rounds |= m->asking;
        meta_back_off(m);
    } else {
        m->failures = 0;
        m->not_before_ms = client_now(c) + setting(c, OPT_RETRY_BACKOFF_MS) / 4;
    }
    timer_arm(&c->timers, &m->age_timer, client_now(c) + setting(c, OPT_METADATA_MAX_AGE_MS));
}

/* Requests, producer ids, leaders. The invariants of the whole:
 *   D1  a batch that is `unsure` is not sent before it was looked for and not found (send.c)
 *   D2  `unsure` is set by every attempt that may have stored it, and cleared only by an answer
 *       that says what became of it, or by looking (send.c)
 *   D3  what is known of a topic's leaders is forgotten with every attempt that did not store, so
 *       that a leader which has moved costs one attempt
 * Versions of requests are such as Kafka from 2.4 to 4.3 and rivulet serve, by name of the topic.
 */
#include "client/sealed/internal.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rand.h"
#include "client/sealed/fail.h"
#include "gen/init_producer_id.h"
#include "gen/metadata.h"
#include "protocol/error.h"

enum {
    METADATA_KEY = 3,
    METADATA_VERSION = 8,
    INIT_PRODUCER_ID_KEY = 22,
    INIT_PRODUCER_ID_VERSION = 1,

    LEADERS_AGE_MS = 300000,   /* after which they are asked for again: a topic may have grown */
    REQUEST_LIMIT = 256 << 20, /* bytes of one request */
    ARENA_LIMIT = 64 << 20,    /* bytes of what is decoded */
};

struct leaders {      /* of one topic */
    int64_t asked_ms; /* monotonic */
    int32_t count;
    int32_t nodes[]; /* -1: none */
};

struct sealed *sealed_create(struct rv_client *client)
{
    struct sealed *s = mem_zero(1, sizeof *s);
    if (s) {
        uint64_t seed;
        rand_system(&seed, sizeof seed);
        map_init(&s->topics, seed);
        s->client = client;
    }
    return s;
}

void sealed_destroy(struct sealed *s)
{
    if (s) {
        for (struct map_entry *e = map_first(&s->topics); e; e = map_next(e)) {
            mem_free(map_value(e));
        }
        map_finish(&s->topics);
        mem_free(s);
    }
}

int64_t sealed_deadline(int timeout_ms)
{
    check(timeout_ms >= 0);
    return clock_after_ms(&clock_real, timeout_ms);
}

int sealed_time_left(int64_t deadline_ms)
{
    int64_t left = deadline_ms - clock_mono_ms(&clock_real);
    return left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

/* ---- one request ---- */

void sealed_talk_finish(struct sealed_talk *t)
{
    arena_finish(&t->arena);
    rv_free(t->raw);
    t->raw = NULL;
}

int sealed_talk(struct sealed *s, int32_t node, struct sealed_talk *t, int64_t deadline_ms,
                struct rv_error *ret_error)
{
    arena_init(&t->arena, ARENA_LIMIT);
    struct writer w;
    writer_init(&w, REQUEST_LIMIT);
    err e = wire_encode(t->request_table, t->version, &w, t->request);
    int code = RV_OK;
    if (e != OK) {
        code = e == ERR_MEMORY
                   ? fail_memory(ret_error)
                   : fail_set(ret_error, RV_E_TOO_LARGE, "request %d: %s", t->key, err_text(e));
    }
    if (code == RV_OK) {
        code = rv_request(s->client, node, t->key, t->version, w.ptr, w.len,
                          sealed_time_left(deadline_ms), &t->raw, ret_error);
    }
    writer_finish(&w);
    if (code != RV_OK) {
        return code;
    }
    struct reader r;
    reader_init(&r, t->raw->body, t->raw->size);
    e = wire_decode(t->response_table, t->version, &r, &t->arena, t->response);
    if (e != OK) {
        code = fail_set(ret_error, e == ERR_MEMORY ? RV_E_MEMORY : RV_E_PROTOCOL,
                        "the answer to request %d: %s", t->key, err_text(e));
    }
    return code;
}

int sealed_identity(struct sealed *s, int timeout_ms, int64_t *ret_id, int16_t *ret_epoch,
                    struct rv_error *ret_error)
{
    struct init_producer_id_request request;
    struct init_producer_id_response response;
    init_producer_id_request_init(&request);
    request.transactional_id = (struct str){0};
    request.transaction_timeout_ms = INT32_MAX;
    struct sealed_talk t = {.key = INIT_PRODUCER_ID_KEY,
                            .version = INIT_PRODUCER_ID_VERSION,
                            .request_table = &init_producer_id_request_table,
                            .request = &request,
                            .response_table = &init_producer_id_response_table,
                            .response = &response};
    int code = sealed_talk(s, -1, &t, sealed_deadline(timeout_ms), ret_error);
    if (code == RV_OK && response.error_code != KERR_NONE) {
        code = fail_set(ret_error, response.error_code, "no producer id: %s",
                        kafka_error_text(response.error_code));
    } else if (code == RV_OK && (response.producer_id < 0 || response.producer_epoch < 0)) {
        code = fail_set(ret_error, RV_E_PROTOCOL, "no producer id in the answer");
    } else if (code == RV_OK) {
        *ret_id = response.producer_id;
        *ret_epoch = response.producer_epoch;
    }
    sealed_talk_finish(&t);
    return code;
}

/* ---- leaders ---- */

void sealed_forget(struct sealed *s, const char *topic)
{
    mem_free(map_remove_str(&s->topics, str_of(topic)));
}

static int topic_take(struct sealed *s, const char *topic, const struct metadata_response *r,
                      struct rv_error *ret_error)
{
    if (r->topics_count != 1 || !str_eq(r->topics[0].name, str_of(topic))) {
        return fail_set(ret_error, RV_E_PROTOCOL, "topic %s: the answer is not about it", topic);
    }
    const struct metadata_response_topic *in = &r->topics[0];
    if (in->error_code != KERR_NONE) {
        return fail_set(ret_error, in->error_code, "topic %s: %s", topic,
                        kafka_error_text(in->error_code));
    }
    if (in->partitions_count < 1) {
        return fail_set(ret_error, RV_E_PROTOCOL, "topic %s: no partitions in the answer", topic);
    }
    struct leaders *l = mem_alloc(sizeof *l + (size_t)in->partitions_count * sizeof l->nodes[0]);
    if (!l) {
        return fail_memory(ret_error);
    }
    l->asked_ms = clock_mono_ms(&clock_real);
    l->count = in->partitions_count;
    for (int32_t i = 0; i < l->count; i++) {
        l->nodes[i] = -1;
    }
    for (int32_t i = 0; i < l->count; i++) {
        int32_t index = in->partitions[i].partition_index;
        if (index >= 0 && index < l->count) {
            l->nodes[index] = in->partitions[i].leader_id;
        }
    }
    if (map_put_str(&s->topics, str_of(topic), l) != OK) {
        mem_free(l);
        return fail_memory(ret_error);
    }
    return RV_OK;
}

static int topic_ask(struct sealed *s, const char *topic, int64_t deadline_ms,
                     struct rv_error *ret_error)
{
    struct metadata_request request;
    struct metadata_request_topic one;
    struct metadata_response response;
    metadata_request_init(&request);
    metadata_request_topic_init(&one);
    one.name = str_of(topic);
    request.topics = &one;
    request.topics_count = 1;
    struct sealed_talk t = {.key = METADATA_KEY,
                            .version = METADATA_VERSION,
                            .request_table = &metadata_request_table,
                            .request = &request,
                            .response_table = &metadata_response_table,
                            .response = &response};
    int code = sealed_talk(s, -1, &t, deadline_ms, ret_error);
    code = code == RV_OK ? topic_take(s, topic, &response, ret_error) : code;
    sealed_talk_finish(&t);
    return code;
}

static int topic_leaders(struct sealed *s, const char *topic, int64_t deadline_ms,
                         const struct leaders **ret_leaders, struct rv_error *ret_error)
{
    const struct leaders *known = map_get_str(&s->topics, str_of(topic));
    if (known && clock_mono_ms(&clock_real) - known->asked_ms >= LEADERS_AGE_MS) {
        sealed_forget(s, topic);
        known = NULL;
    }
    int code = RV_OK;
    if (!known) {
        code = topic_ask(s, topic, deadline_ms, ret_error);
    }
    if (code == RV_OK) {
        *ret_leaders = map_get_str(&s->topics, str_of(topic));
    }
    return code;
}

int sealed_partitions(struct sealed *s, const char *topic, int timeout_ms, int32_t *ret_count,
                      struct rv_error *ret_error)
{
    const struct leaders *l = NULL;
    int code = topic_leaders(s, topic, sealed_deadline(timeout_ms), &l, ret_error);
    if (code == RV_OK) {
        *ret_count = l->count;
    }
    return code;
}

int sealed_leader(struct sealed *s, const struct sealed_batch *b, int64_t deadline_ms,
                  int32_t *ret_node, struct rv_error *ret_error)
{
    const struct leaders *l = NULL;
    int code = topic_leaders(s, b->topic, deadline_ms, &l, ret_error);
    if (code != RV_OK) {
        return code;
    }
    bool is_there = b->partition >= 0 && b->partition < l->count;
    if (!is_there || l->nodes[b->partition] < 0) {
        sealed_forget(s, b->topic);
        code = is_there ? KERR_LEADER_NOT_AVAILABLE : KERR_UNKNOWN_TOPIC_OR_PARTITION;
        return fail_set(ret_error, code, "topic %s partition %d: %s", b->topic, (int)b->partition,
                        kafka_error_text((int16_t)code));
    }
    *ret_node = l->nodes[b->partition];
    return RV_OK;
}

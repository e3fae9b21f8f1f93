/* What the connections of a load send, and what the answers say.
 *
 * Versions are ones that every broker since Kafka 2.6 serves and that name topics by their names.
 */
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "base/rand.h"
#include "gen/api_versions.h"
#include "gen/fetch.h"
#include "gen/find_coordinator.h"
#include "gen/offset_commit.h"
#include "gen/produce.h"
#include "protocol/batch.h"
#include "protocol/error.h"
#include "protocol/frame.h"
#include "tools/bench.h"

#include <string.h>

enum {
    KEY_PRODUCE = 0,
    KEY_FETCH = 1,
    KEY_OFFSET_COMMIT = 8,
    KEY_FIND_COORDINATOR = 10,
    PRODUCE_VERSION = 9,
    FETCH_VERSION = 12,
    OFFSET_COMMIT_VERSION = 8,
    FIND_COORDINATOR_VERSION = 3,
    API_VERSIONS_VERSION = 0,
    TIMEOUT_MS = 30000,
    LONG_POLL_MS = 500,
    BATCH_CRC_POSITION = 17,
    RECORD_LETTERS = 16, /* different bytes in a value: compresses to about a half */
    GROUP_NAME_SIZE = 32,
};

static const struct str client_id = {.ptr = "rivulet-bench", .len = 13};

/* ---- frames */

/* The frame of a request in w, which was reset. False: the load has failed. */
static bool frame_encode(struct load *l, struct writer *w, int16_t key, int16_t version,
                         const void *body)
{
    const struct wire_api *api = wire_api_find(key);
    writer_reset(w);
    frame_begin_request(w, api, version, 0, client_id);
    err e = wire_encode(api->request, version, w, body);
    e = e ? e : frame_end(w);
    if (e) {
        l->failed = err_text(e);
    }
    return !e;
}

static bool send_own(struct load_conn *c, int16_t key, int16_t version, const void *body)
{
    if (!frame_encode(c->load, &c->writer, key, version, body)) {
        return false;
    }
    c->out[0] = (struct iovec){c->writer.ptr, c->writer.len};
    c->out_count = 1;
    return true;
}

/* The body of an answer, in the load's arena. NULL: it does not decode. */
static const void *answer_body(struct load *l, int16_t key, int16_t version, const uint8_t *p,
                               size_t size)
{
    const struct wire_api *api = wire_api_find(key);
    struct reader r;
    int32_t correlation_id = -1;
    reader_init(&r, p, size);
    arena_reset(&l->arena);
    void *body = arena_alloc(&l->arena, api->response->size);
    if (!body || response_header_decode(&r, api, version, &correlation_id) || correlation_id != 0 ||
        wire_decode(api->response, version, &r, &l->arena, body)) {
        return NULL;
    }
    return body;
}

static const char undecodable[] = "an answer that does not decode";

/* A topic or a coordinator that is new may need a moment before it serves; nothing is counted
 * then. */
static const char *judge(struct load_conn *c, int16_t code)
{
    const struct load *l = c->load;
    c->ready = c->ready || (code == KERR_NONE && (c->found || c->kind != &kind_commit));
    if (code == KERR_NONE || (!l->measuring && kafka_error_is_retriable(code))) {
        return NULL;
    }
    return kafka_error_name(code);
}

/* ---- produce */

static bool build_batch(struct load *l)
{
    struct batch_builder b;
    struct rng rng;
    batch_builder_init(&b);
    rng_init(&rng, 1);
    size_t size = (size_t)l->o.record_bytes;
    uint8_t *value = mem_alloc(size + 1);
    err e = value ? OK : ERR_MEMORY;
    int64_t now_ms = clock_wall_ms(&clock_real);
    for (int i = 0; !e && i < l->o.batch_records; i++) {
        for (size_t k = 0; k < size; k++) {
            value[k] = (uint8_t)('a' + rng_below(&rng, RECORD_LETTERS));
        }
        e = batch_builder_add(&b, now_ms, (struct bytes){0}, (struct bytes){value, size}, NULL, 0);
    }
    struct batch_seal seal = batch_seal_plain;
    seal.codec = l->o.codec;
    e = e ? e : batch_builder_seal(&b, &seal, &l->batch);
    batch_builder_finish(&b);
    mem_free(value);
    if (e) {
        l->failed = err_text(e);
        return false;
    }
    /* of one record, uncompressed: its value ends one byte (the count of headers) before the end */
    l->stamp_position = l->batch.len - 1 - size;
    return true;
}

bool produce_prepare(struct load *l)
{
    if (!build_batch(l)) {
        return false;
    }
    l->prefixes = mem_zero((size_t)l->o.partitions, sizeof *l->prefixes);
    if (!l->prefixes) {
        l->failed = "out of memory";
        return false;
    }
    for (int i = 0; i < l->o.partitions; i++) {
        struct produce_request_partition partition;
        struct produce_request_topic topic;
        struct produce_request body;
        produce_request_partition_init(&partition);
        produce_request_topic_init(&topic);
        produce_request_init(&body);
        partition.index = i;
        partition.records = (struct wire_records){.len = l->batch.len, .extents = &l->batch};
        topic.name = l->o.topic;
        topic.partitions = &partition;
        topic.partitions_count = 1;
        body.acks = (int16_t)l->o.acks;
        body.timeout_ms = TIMEOUT_MS;
        body.topics = &topic;
        body.topics_count = 1;
        writer_init(&l->prefixes[i], INT32_MAX);
        if (!frame_encode(l, &l->prefixes[i], KEY_PRODUCE, PRODUCE_VERSION, &body)) {
            return false;
        }
    }
    return true;
}

/* Every connection goes through all partitions, each from a place of its own: what comes in a short
 * time is spread over all of them. */
static void send_batch(struct load_conn *c, void *batch)
{
    const struct load *l = c->load;
    int64_t first = (int64_t)c->index * l->o.partitions / l->o.connections;
    const struct writer *w = &l->prefixes[(first + c->sent) % l->o.partitions];
    size_t before = w->splices[0].position;
    c->out[0] = (struct iovec){w->ptr, before};
    c->out[1] = (struct iovec){batch, l->batch.len};
    c->out[2] = (struct iovec){w->ptr + before, w->len - before};
    c->out_count = w->len > before ? FRAME_PARTS : FRAME_PARTS - 1;
}

static bool produce_next(struct load_conn *c)
{
    struct load *l = c->load;
    send_batch(c, l->batch.ptr);
    if (c->kind->unanswered && l->measuring) {
        l->records += l->o.batch_records;
        l->bytes += (int64_t)l->batch.len;
    }
    return true;
}

/* At the rate: by turns, each with the time when it is due in its value. */
static bool produce_stamped_next(struct load_conn *c)
{
    struct load *l = c->load;
    int64_t tick = c->sent * l->senders + c->index;
    if (tick >= l->ticks) {
        return false;
    }
    writer_reset(&c->writer);
    writer_add(&c->writer, l->batch.ptr, l->batch.len);
    uint8_t *batch = c->writer.ptr;
    if (c->writer.error) {
        l->failed = err_text(c->writer.error);
        return false;
    }
    int64_t due_us = l->ticks_from_us + (tick + 1) * 1000000 / l->o.rate;
    put_be64(batch + l->stamp_position, (uint64_t)due_us);
    put_be32(batch + BATCH_CRC_POSITION,
             crc32c(batch + BATCH_CRC_FROM, l->batch.len - BATCH_CRC_FROM));
    send_batch(c, batch);
    return true;
}

static const char *produce_answer(struct load_conn *c, const uint8_t *p, size_t size,
                                  int64_t now_us)
{
    struct load *l = c->load;
    (void)now_us;
    const struct produce_response *r = answer_body(l, KEY_PRODUCE, PRODUCE_VERSION, p, size);
    if (!r || r->topics_count != 1 || r->topics[0].partitions_count != 1) {
        return undecodable;
    }
    if (l->measuring) {
        l->records += l->o.batch_records;
        l->bytes += (int64_t)l->batch.len;
    }
    return judge(c, r->topics[0].partitions[0].error_code);
}

static const char *no_answer(struct load_conn *c, const uint8_t *p, size_t size, int64_t now_us)
{
    (void)c;
    (void)p;
    (void)size;
    (void)now_us;
    return "an answer to a request that wanted none";
}

const struct load_kind kind_produce = {.next = produce_next, .answer = produce_answer};
const struct load_kind kind_produce_unanswered = {
    .unanswered = true, .next = produce_next, .answer = no_answer};
const struct load_kind kind_produce_stamped = {
    .untimed = true, .next = produce_stamped_next, .answer = produce_answer};

/* ---- fetch */

static bool fetch_send(struct load_conn *c, int wait_ms)
{
    const struct load *l = c->load;
    struct fetch_request_partition partition;
    struct fetch_request_topic topic;
    struct fetch_request body;
    fetch_request_partition_init(&partition);
    fetch_request_topic_init(&topic);
    fetch_request_init(&body);
    partition.partition = c->index % l->o.partitions;
    partition.fetch_offset = c->offset;
    partition.partition_max_bytes = l->o.fetch_bytes;
    topic.topic = l->o.topic;
    topic.partitions = &partition;
    topic.partitions_count = 1;
    body.max_wait_ms = wait_ms;
    body.min_bytes = 1;
    body.max_bytes = l->o.fetch_bytes;
    body.topics = &topic;
    body.topics_count = 1;
    return send_own(c, KEY_FETCH, FETCH_VERSION, &body);
}

static bool fetch_next(struct load_conn *c)
{
    return fetch_send(c, 0);
}

static bool fetch_stamped_next(struct load_conn *c)
{
    return fetch_send(c, LONG_POLL_MS);
}

/* A record of a latency run: how old it is. */
static const char *take_stamp(struct load *l, const uint8_t *batch, size_t size, int64_t now_us)
{
    if (size != l->batch.len) {
        return "the topic holds other records than this run's: give it a new one";
    }
    int64_t due_us = (int64_t)get_be64(batch + l->stamp_position);
    if (l->measuring && due_us >= l->measured_from_us) {
        latency_record(&l->latency, now_us - due_us);
    }
    return NULL;
}

/* The whole batches of an answer; how many bytes they are. */
static const char *take_batches(struct load_conn *c, const struct wire_records *records,
                                int64_t now_us, size_t *ret_bytes)
{
    struct load *l = c->load;
    struct batch_header h;
    size_t at = 0;
    while (at < records->len && !batch_header_read(records->ptr + at, records->len - at, &h) &&
           h.size <= records->len - at) {
        const char *wrong =
            c->kind->stamped ? take_stamp(l, records->ptr + at, h.size, now_us) : NULL;
        if (wrong) {
            return wrong;
        }
        l->records += l->measuring && !c->kind->uncounted ? h.count : 0;
        c->offset = h.base_offset + h.last_offset_delta + 1;
        at += h.size;
    }
    *ret_bytes = at;
    return records->len && !at ? "an answer without a whole batch in it" : NULL;
}

static const char *fetch_answer(struct load_conn *c, const uint8_t *p, size_t size, int64_t now_us)
{
    struct load *l = c->load;
    const struct fetch_response *r = answer_body(l, KEY_FETCH, FETCH_VERSION, p, size);
    if (!r || r->error_code ||
        (r->topics_count && (r->topics_count != 1 || r->topics[0].partitions_count != 1))) {
        return undecodable;
    }
    const struct fetch_response_partition *part =
        r->topics_count ? &r->topics[0].partitions[0] : NULL;
    const char *refused = part ? judge(c, part->error_code) : NULL;
    if (refused || (part && part->error_code)) {
        return refused;
    }
    size_t bytes = 0;
    const char *wrong = part ? take_batches(c, &part->records, now_us, &bytes) : NULL;
    if (!bytes && !c->kind->stamped) {
        c->offset = 0; /* the end: from the beginning again */
    }
    l->bytes += l->measuring && !c->kind->uncounted ? (int64_t)bytes : 0;
    return wrong;
}

const struct load_kind kind_fetch = {.alone = true, .next = fetch_next, .answer = fetch_answer};
const struct load_kind kind_fetch_stamped = {.alone = true,
                                             .uncounted = true,
                                             .stamped = true,
                                             .next = fetch_stamped_next,
                                             .answer = fetch_answer};

/* ---- offsets: each connection is a group of its own */

static bool commit_next(struct load_conn *c)
{
    char name[GROUP_NAME_SIZE];
    snprintf(name, sizeof name, "rivulet-bench-%d", c->index);
    if (!c->found) {
        struct find_coordinator_request find;
        find_coordinator_request_init(&find);
        find.key = str_of(name);
        return c->sent == c->answered &&
               send_own(c, KEY_FIND_COORDINATOR, FIND_COORDINATOR_VERSION, &find);
    }
    struct offset_commit_request_partition partition;
    struct offset_commit_request_topic topic;
    struct offset_commit_request body;
    offset_commit_request_partition_init(&partition);
    offset_commit_request_topic_init(&topic);
    offset_commit_request_init(&body);
    partition.committed_offset = ++c->offset;
    topic.name = c->load->o.topic;
    topic.partitions = &partition;
    topic.partitions_count = 1;
    body.group_id = str_of(name);
    body.topics = &topic;
    body.topics_count = 1;
    return send_own(c, KEY_OFFSET_COMMIT, OFFSET_COMMIT_VERSION, &body);
}

static const char *commit_answer(struct load_conn *c, const uint8_t *p, size_t size, int64_t now_us)
{
    struct load *l = c->load;
    (void)now_us;
    if (!c->found) {
        const struct find_coordinator_response *found =
            answer_body(l, KEY_FIND_COORDINATOR, FIND_COORDINATOR_VERSION, p, size);
        if (!found) {
            return undecodable;
        }
        const char *wrong = judge(c, found->error_code);
        c->found = found->error_code == KERR_NONE;
        return wrong;
    }
    const struct offset_commit_response *r =
        answer_body(l, KEY_OFFSET_COMMIT, OFFSET_COMMIT_VERSION, p, size);
    if (!r || r->topics_count != 1 || r->topics[0].partitions_count != 1) {
        return undecodable;
    }
    return judge(c, r->topics[0].partitions[0].error_code);
}

const struct load_kind kind_commit = {.next = commit_next, .answer = commit_answer};

/* ---- a connection that says hello and then nothing */

static bool hello_next(struct load_conn *c)
{
    struct api_versions_request body;
    api_versions_request_init(&body);
    return c->sent == 0 && send_own(c, API_VERSIONS_KEY, API_VERSIONS_VERSION, &body);
}

static const char *hello_answer(struct load_conn *c, const uint8_t *p, size_t size, int64_t now_us)
{
    (void)now_us;
    const struct api_versions_response *r =
        answer_body(c->load, API_VERSIONS_KEY, API_VERSIONS_VERSION, p, size);
    return !r ? undecodable : r->error_code ? kafka_error_name(r->error_code) : NULL;
}

const struct load_kind kind_hello = {.next = hello_next, .answer = hello_answer};

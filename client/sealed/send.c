/* Attempts: what is unsure is looked for (D1), the rest goes out, a request a leader, and each
 * batch gets its fate. The invariants are at the head of sealed.c.
 */
#include "client/sealed/internal.h"

#include "base/check.h"
#include "base/mem.h"
#include "client/sealed/fail.h"
#include "gen/produce.h"
#include "protocol/error.h"

#include <stdio.h>
#include <string.h>

enum {
    PRODUCE_KEY = 0,
    PRODUCE_VERSION = 8, /* the first that says why a batch was refused */
    ACKS_ALL = -1,
    NODE_NONE = -1,
    PARCEL_BYTES = 8 << 20, /* of batches in one request, unless a single one is larger: a broker
                               takes socket.request.max.bytes */
};

/* ---- fates ---- */

static enum sealed_fate fate_of_answer(int code)
{
    switch (code) {
    case KERR_NONE:
    case KERR_DUPLICATE_SEQUENCE_NUMBER: return SEALED_STORED;
    case KERR_OUT_OF_ORDER_SEQUENCE_NUMBER:
    case KERR_UNKNOWN_PRODUCER_ID:
    case KERR_INVALID_PRODUCER_EPOCH: return SEALED_RENEW;
    case KERR_NOT_LEADER_OR_FOLLOWER: /* also of one that has appended it and steps down */
    case KERR_UNKNOWN_SERVER_ERROR:
    case KERR_REQUEST_TIMED_OUT:
    case KERR_NETWORK_EXCEPTION:
    case KERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND:
    case KERR_KAFKA_STORAGE_ERROR: return SEALED_UNKNOWN;
    default: return kafka_error_is_retriable((int16_t)code) ? SEALED_LATER : SEALED_REFUSED;
    }
}

/* Of a request without an answer: only what says that it never went out is not open. */
static enum sealed_fate fate_of_silence(int code)
{
    switch (code) {
    case RV_E_CONNECT:
    case RV_E_VERSION:
    case KERR_BROKER_NOT_AVAILABLE: return SEALED_LATER;
    default: return SEALED_UNKNOWN;
    }
}

static void batch_ends(struct sealed *s, struct sealed_batch *b, enum sealed_fate fate, int code,
                       const char *why)
{
    b->fate = fate;
    b->code = code;
    snprintf(b->why, sizeof b->why, "%s", why);
    b->unsure = fate == SEALED_UNKNOWN || (b->unsure && fate != SEALED_STORED); /* D2 */
    if (fate != SEALED_STORED) {
        sealed_forget(s, b->topic); /* D3 */
    }
}

/* ---- one leader's request ---- */

struct parcel { /* what goes to one leader at once */
    struct sealed_batch *batches;
    const int32_t *nodes; /* of each batch; NODE_NONE: it does not go */
    size_t first, count;  /* those from the first on, and before `count` */
    int32_t node;
};

/* From `first` on, as many as fit. */
static struct parcel parcel_of(struct sealed_batch *batches, const int32_t *nodes, size_t count,
                               size_t first)
{
    size_t end = first, bytes = 0;
    for (; end < count; end++) {
        size_t more = nodes[end] == nodes[first] ? batches[end].size : 0;
        if (end > first && more > 0 && bytes + more > PARCEL_BYTES) {
            break;
        }
        bytes += more;
    }
    return (struct parcel){
        .batches = batches, .nodes = nodes, .first = first, .count = end, .node = nodes[first]};
}

/* The next batch from `from` on that goes to the parcel's leader, of `topic` where that is given.
 */
static size_t parcel_next(const struct parcel *p, size_t from, const char *topic)
{
    while (from < p->count &&
           (p->nodes[from] != p->node || (topic && strcmp(p->batches[from].topic, topic) != 0))) {
        from++;
    }
    return from;
}

static bool parcel_has_topic_before(const struct parcel *p, size_t i)
{
    return parcel_next(p, p->first, p->batches[i].topic) < i;
}

static bool parcel_fill(const struct parcel *p, struct arena *a, struct produce_request *r)
{
    r->topics = wire_array(a, &produce_request_topic_table, (int32_t)(p->count - p->first));
    r->topics_count = 0;
    for (size_t i = p->first; r->topics && i < p->count; i = parcel_next(p, i + 1, NULL)) {
        if (parcel_has_topic_before(p, i)) {
            continue;
        }
        const char *name = p->batches[i].topic;
        struct produce_request_topic *t = &r->topics[r->topics_count++];
        t->name = str_of(name);
        t->partitions = wire_array(a, &produce_request_partition_table, (int32_t)(p->count - i));
        t->partitions_count = 0;
        if (!t->partitions) {
            return false;
        }
        for (size_t j = i; j < p->count; j = parcel_next(p, j + 1, name)) {
            t->partitions[t->partitions_count++] = (struct produce_request_partition){
                .index = p->batches[j].partition,
                .records = {.ptr = p->batches[j].bytes, .len = p->batches[j].size}
            };
        }
    }
    return r->topics != NULL;
}

static void answer_take(struct sealed *s, struct sealed_batch *b,
                        const struct produce_response_partition *in)
{
    char why[sizeof b->why] = "";
    if (in->error_code != KERR_NONE) {
        struct str text =
            in->error_message.len ? in->error_message : str_of(kafka_error_text(in->error_code));
        snprintf(why, sizeof why, "%s: %.*s", kafka_error_name(in->error_code),
                 (int)(text.len < sizeof why ? text.len : sizeof why), text.ptr);
    }
    b->offset = in->error_code == KERR_NONE ? in->base_offset : -1;
    batch_ends(s, b, fate_of_answer(in->error_code), in->error_code, why);
}

/* The entry of an answer that is about a batch; NULL: there is none. */
static const struct produce_response_partition *answer_about(const struct produce_response *r,
                                                             const struct sealed_batch *b)
{
    for (int32_t i = 0; i < r->topics_count; i++) {
        const struct produce_response_topic *t = &r->topics[i];
        for (int32_t j = 0; str_eq(t->name, str_of(b->topic)) && j < t->partitions_count; j++) {
            if (t->partitions[j].index == b->partition) {
                return &t->partitions[j];
            }
        }
    }
    return NULL;
}

static int parcel_send(struct sealed *s, const struct parcel *p, int64_t deadline_ms,
                       struct rv_error *ret_error)
{
    struct arena a;
    struct produce_request request;
    struct produce_response response;
    produce_request_init(&request);
    request.acks = ACKS_ALL;
    request.timeout_ms = sealed_time_left(deadline_ms);
    arena_init(&a, SIZE_MAX);
    if (!parcel_fill(p, &a, &request)) {
        arena_finish(&a);
        return fail_memory(ret_error);
    }
    struct sealed_talk t = {.key = PRODUCE_KEY,
                            .version = PRODUCE_VERSION,
                            .request_table = &produce_request_table,
                            .request = &request,
                            .response_table = &produce_response_table,
                            .response = &response};
    struct rv_error e = {0};
    int code = sealed_talk(s, p->node, &t, deadline_ms, &e);
    for (size_t i = p->first; i < p->count; i = parcel_next(p, i + 1, NULL)) {
        struct sealed_batch *b = &p->batches[i];
        const struct produce_response_partition *in =
            code == RV_OK ? answer_about(&response, b) : NULL;
        if (in) {
            answer_take(s, b, in);
        } else if (code != RV_OK) {
            batch_ends(s, b, fate_of_silence(code), code, e.text);
        } else {
            batch_ends(s, b, SEALED_UNKNOWN, RV_E_PROTOCOL, "the answer does not speak of it");
        }
    }
    sealed_talk_finish(&t);
    arena_finish(&a);
    return RV_OK;
}

/* ---- all of them ---- */

/* D1. True: it may be sent. */
static bool batch_look(struct sealed *s, struct sealed_batch *b, int64_t deadline_ms)
{
    struct rv_error e = {0};
    enum sealed_place place = SEALED_ABSENT;
    int64_t offset = -1;
    int code = sealed_find(s, b, sealed_time_left(deadline_ms), &place, &offset, &e);
    if (code != RV_OK) {
        batch_ends(s, b, SEALED_LATER, code, e.text);
        return false;
    }
    switch (place) {
    case SEALED_ABSENT:
        b->unsure = false;
        b->looked_offset = 0; /* the next attempt may get to wherever */
        b->looked_past_gap = false;
        return true;
    case SEALED_FOUND:
        b->offset = offset;
        batch_ends(s, b, SEALED_STORED, RV_OK, "");
        return false;
    case SEALED_GONE:
        batch_ends(s, b, SEALED_UNKNOWABLE, KERR_OFFSET_OUT_OF_RANGE,
                   "nobody knows whether it was stored: the log does not reach back to its end of "
                   "before the first attempt");
        return false;
    }
    return false;
}

/* Where it goes; NODE_NONE: nowhere, and it has a fate. */
static int32_t batch_route(struct sealed *s, struct sealed_batch *b, int64_t deadline_ms)
{
    struct rv_error e = {0};
    int32_t node = NODE_NONE;
    if (b->unsure && !batch_look(s, b, deadline_ms)) {
        return NODE_NONE;
    }
    int code = sealed_leader(s, b, deadline_ms, &node, &e);
    if (code != RV_OK) {
        bool is_for_good = code > 0 && !kafka_error_is_retriable((int16_t)code);
        batch_ends(s, b, is_for_good ? SEALED_REFUSED : SEALED_LATER, code, e.text);
        return NODE_NONE;
    }
    return node;
}

/* Those that are unsure, or those that are not. */
static int send_some(struct sealed *s, struct sealed_batch *batches, int32_t *nodes, size_t count,
                     bool unsure, int64_t deadline_ms, struct rv_error *ret_error)
{
    int code = RV_OK;
    for (size_t i = 0; i < count; i++) {
        bool is_now = batches[i].fate == SEALED_OPEN && batches[i].unsure == unsure;
        nodes[i] = is_now ? batch_route(s, &batches[i], deadline_ms) : NODE_NONE;
    }
    for (size_t i = 0; code == RV_OK && i < count; i++) {
        if (nodes[i] != NODE_NONE && batches[i].fate == SEALED_OPEN &&
            sealed_time_left(deadline_ms) > 0) {
            struct parcel p = parcel_of(batches, nodes, count, i);
            code = parcel_send(s, &p, deadline_ms, ret_error);
        }
    }
    return code;
}

int sealed_send(struct sealed *s, struct sealed_batch *batches, size_t count, int timeout_ms,
                struct rv_error *ret_error)
{
    int64_t deadline_ms = sealed_deadline(timeout_ms);
    int32_t *nodes = mem_alloc(count * sizeof *nodes);
    if (!nodes) {
        return fail_memory(ret_error);
    }
    for (size_t i = 0; i < count; i++) {
        struct sealed_batch *b = &batches[i];
        check(b->producer_id >= 0 && b->producer_epoch >= 0 && b->count > 0);
        b->fate = SEALED_OPEN;
        b->code = RV_OK;
        b->offset = -1;
        b->why[0] = 0;
    }
    int code = send_some(s, batches, nodes, count, false, deadline_ms, ret_error);
    if (code == RV_OK) { /* to look may take long, which the others need not wait for */
        code = send_some(s, batches, nodes, count, true, deadline_ms, ret_error);
    }
    mem_free(nodes);
    return code;
}

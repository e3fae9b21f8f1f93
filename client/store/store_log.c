/* Whether the log that is there is the one that was read up to the stored offset (KIP-320). An
 * offset alone does not say: a broker that was set back to an older copy of its data has a shorter
 * log, and gives the same offsets to other records; a topic that was made again begins anew. So the
 * row has the leader epoch of the last record read, and the topic's id, and three things tell:
 *
 *     the topic has another id         nothing of what was read is there
 *     its log does not know the epoch  likewise
 *     the epoch ended before the       what was read is there up to that end, and what follows was
 *     stored offset                    not read
 *
 * Asked for is what nobody has asked for since the partition was taken, or since its position was
 * found not to be there. What retention has removed is no other log: epochs stay known. */
#include "client/store/store.h"

#include "base/check.h"
#include "base/mem.h"
#include "client/sealed/fail.h"
#include "client/sealed/internal.h"
#include "gen/metadata.h"
#include "gen/offset_for_leader_epoch.h"
#include "protocol/error.h"

#include <stdio.h>
#include <string.h>

enum {
    METADATA_KEY = 3,
    METADATA_VERSION = 12,        /* with ids of topics */
    METADATA_VERSION_WITHOUT = 8, /* of Kafka before 2.8 */
    EPOCHS_KEY = 23,
    EPOCHS_VERSION = 3,
    CHECK_MS = 5000, /* for all of it; what is not answered then is asked again by the next poll */
    PAUSE_MS = 50,   /* between two questions */
    ARRAY_LIMIT = 64 << 20, /* bytes of the arrays of one request */
};

struct check {
    struct rv_store *store;
    struct sealed sealed; /* to ask with */
    int64_t deadline_ms;  /* monotonic */
    int32_t *leaders;     /* owned; of each held: a broker that is still to be asked, or -1 */
};

static bool is_open(const struct held *h)
{
    return h->owner_epoch && !h->checked;
}

/* Where the row says nothing of the log, or nothing of it was read, every log will do. */
static bool is_to_ask(const struct held *h)
{
    return is_open(h) && h->stored > 0 && h->stored_leader >= 0;
}

/* ---- what comes of it ---- */

static void follow(const struct rv_store *s, struct held *h, int64_t place, const char *why)
{
    char text[200];
    const struct rv_partition p = {.topic = h->topic, .partition = h->partition, .offset = place};
    snprintf(text, sizeof text, "topic %.80s partition %d is not the log that was read: %s",
             h->topic, (int)h->partition, why);
    const struct rv_event event = {.kind = RV_JUMPED,
                                   .partitions = &p,
                                   .count = 1,
                                   .from = h->stored,
                                   .to = place,
                                   .text = text};
    h->checked = true;
    h->placed = false;
    h->resume = place;
    if (s->on_event) {
        s->on_event(s->event_ctx, &event);
    }
}

/* What was read of it is there up to `place`; RV_START: nothing is. */
static int parted(struct rv_store *s, struct held *h, int64_t place, const char *why,
                  struct rv_error *ret_error)
{
    if (s->follows) {
        follow(s, h, place, why);
        return RV_OK;
    }
    return fail_set(ret_error, RV_STORE_REPLACED,
                    "store: topic %.60s partition %d is not the log that was read up to offset "
                    "%lld: %s; set its row in rivulet_offsets (next_offset, leader_epoch = -1), or "
                    "store.replaced=follow",
                    h->topic, (int)h->partition, (long long)h->stored, why);
}

static int refused(const struct held *h, int code, struct rv_error *ret_error)
{
    return fail_set(ret_error, code, "store: topic %.100s partition %d: %s", h->topic,
                    (int)h->partition, rv_error_name(code));
}

/* ---- ids and leaders ---- */

static int topics_ask(struct check *q, int16_t version, struct metadata_response *response,
                      struct sealed_talk *t, struct rv_error *ret_error)
{
    const struct rv_store *s = q->store;
    struct metadata_request request;
    metadata_request_init(&request);
    request.allow_auto_topic_creation = false;
    request.topics = mem_zero(s->count, sizeof *request.topics);
    request.topics_count = 0;
    if (!request.topics) {
        return fail_memory(ret_error);
    }
    const char *last = "";
    for (size_t i = 0; i < s->count; i++) {
        const struct held *h = &s->items[i];
        if (is_open(h) && strcmp(h->topic, last) != 0) {
            struct metadata_request_topic *one = &request.topics[request.topics_count++];
            metadata_request_topic_init(one);
            one->name = str_of(h->topic);
            last = h->topic;
        }
    }
    *t = (struct sealed_talk){.key = METADATA_KEY,
                              .version = version,
                              .request_table = &metadata_request_table,
                              .request = &request,
                              .response_table = &metadata_response_table,
                              .response = response};
    int code = sealed_talk(&q->sealed, -1, t, q->deadline_ms, ret_error);
    mem_free(request.topics);
    return code;
}

static int leader_take(struct check *q, size_t i, const struct metadata_response *r,
                       struct rv_error *ret_error)
{
    struct held *h = &q->store->items[i];
    const struct metadata_response_topic *t = NULL;
    for (int32_t n = 0; n < r->topics_count && !t; n++) {
        t = str_eq(r->topics[n].name, str_of(h->topic)) ? &r->topics[n] : NULL;
    }
    if (!t || t->error_code) {
        return refused(h, t ? t->error_code : RV_E_PROTOCOL, ret_error);
    }
    h->topic_id[0] = 0;
    if (!uuid_is_zero(t->topic_id)) {
        uuid_to_text(t->topic_id, h->topic_id);
    }
    bool is_other = h->stored_id[0] && h->topic_id[0] && strcmp(h->stored_id, h->topic_id) != 0;
    if (is_to_ask(h) && is_other) {
        return parted(q->store, h, RV_START, "the topic was deleted and made again", ret_error);
    }
    for (int32_t n = 0; is_to_ask(h) && n < t->partitions_count; n++) {
        const struct metadata_response_partition *p = &t->partitions[n];
        q->leaders[i] = p->partition_index == h->partition ? p->leader_id : q->leaders[i];
    }
    if (is_to_ask(h)) {
        return q->leaders[i] < 0 ? refused(h, KERR_LEADER_NOT_AVAILABLE, ret_error) : RV_OK;
    }
    h->checked = true;
    return RV_OK;
}

static int leaders_find(struct check *q, struct rv_error *ret_error)
{
    struct metadata_response response;
    struct sealed_talk t = {0};
    int code = topics_ask(q, METADATA_VERSION, &response, &t, ret_error);
    if (code == RV_E_VERSION) {
        sealed_talk_finish(&t);
        t = (struct sealed_talk){0};
        code = topics_ask(q, METADATA_VERSION_WITHOUT, &response, &t, ret_error);
    }
    for (size_t i = 0; code == RV_OK && i < q->store->count; i++) {
        if (is_open(&q->store->items[i])) {
            code = leader_take(q, i, &response, ret_error);
        }
    }
    sealed_talk_finish(&t);
    return code;
}

/* ---- epochs ---- */

/* Of those that `node` leads, sorted by topic as they are. */
static int epochs_fill(const struct check *q, int32_t node, struct arena *a,
                       struct offset_for_leader_epoch_request *r)
{
    const struct rv_store *s = q->store;
    const char *last = "";
    offset_for_leader_epoch_request_init(r);
    r->replica_id = -1; /* a consumer */
    r->topics = wire_array(a, &offset_for_leader_epoch_request_topic_table, (int32_t)s->count);
    r->topics_count = 0;
    for (size_t i = 0; r->topics && i < s->count; i++) {
        const struct held *h = &s->items[i];
        if (q->leaders[i] != node) {
            continue;
        }
        if (strcmp(h->topic, last) != 0) {
            struct offset_for_leader_epoch_request_topic *t = &r->topics[r->topics_count++];
            t->topic = str_of(h->topic);
            t->partitions = wire_array(a, &offset_for_leader_epoch_request_partition_table,
                                       (int32_t)(s->count - i));
            t->partitions_count = 0;
            if (!t->partitions) {
                return RV_E_MEMORY;
            }
            last = h->topic;
        }
        struct offset_for_leader_epoch_request_topic *t = &r->topics[r->topics_count - 1];
        struct offset_for_leader_epoch_request_partition *p = &t->partitions[t->partitions_count++];
        p->partition = h->partition;
        p->leader_epoch = h->stored_leader;
    }
    return r->topics ? RV_OK : RV_E_MEMORY;
}

static int epoch_take(struct check *q, struct held *h,
                      const struct offset_for_leader_epoch_response_partition *p,
                      struct rv_error *ret_error)
{
    char why[80];
    if (p->error_code) {
        return refused(h, p->error_code, ret_error);
    }
    if (p->leader_epoch < 0 || p->end_offset < 0) {
        snprintf(why, sizeof why, "it does not know leader epoch %d", (int)h->stored_leader);
        return parted(q->store, h, RV_START, why, ret_error);
    }
    if (p->end_offset < h->stored) {
        snprintf(why, sizeof why, "leader epoch %d ends at offset %lld", (int)h->stored_leader,
                 (long long)p->end_offset);
        return parted(q->store, h, p->end_offset, why, ret_error);
    }
    h->checked = true;
    return RV_OK;
}

static int epochs_take(struct check *q, int32_t node,
                       const struct offset_for_leader_epoch_response *r, struct rv_error *ret_error)
{
    int code = RV_OK;
    for (int32_t i = 0; i < r->topics_count && code == RV_OK; i++) {
        char topic[256];
        snprintf(topic, sizeof topic, "%.*s", STR_ARG(r->topics[i].topic));
        for (int32_t j = 0; j < r->topics[i].partitions_count && code == RV_OK; j++) {
            const struct offset_for_leader_epoch_response_partition *p =
                &r->topics[i].partitions[j];
            struct held *h = held_find(q->store, topic, p->partition);
            if (h && is_to_ask(h) && q->leaders[h - q->store->items] == node) {
                code = epoch_take(q, h, p, ret_error);
            }
        }
    }
    for (size_t i = 0; i < q->store->count && code == RV_OK; i++) {
        if (q->leaders[i] == node) {
            q->leaders[i] = -1;
            code = is_open(&q->store->items[i])
                       ? refused(&q->store->items[i], RV_E_PROTOCOL, ret_error)
                       : RV_OK;
        }
    }
    return code;
}

static int epochs_ask(struct check *q, int32_t node, struct rv_error *ret_error)
{
    struct offset_for_leader_epoch_request request;
    struct offset_for_leader_epoch_response response;
    struct sealed_talk t = {.key = EPOCHS_KEY,
                            .version = EPOCHS_VERSION,
                            .request_table = &offset_for_leader_epoch_request_table,
                            .request = &request,
                            .response_table = &offset_for_leader_epoch_response_table,
                            .response = &response};
    struct arena a;
    arena_init(&a, ARRAY_LIMIT);
    int code = epochs_fill(q, node, &a, &request) == RV_OK
                   ? sealed_talk(&q->sealed, node, &t, q->deadline_ms, ret_error)
                   : fail_memory(ret_error);
    code = code == RV_OK ? epochs_take(q, node, &response, ret_error) : code;
    sealed_talk_finish(&t);
    arena_finish(&a);
    return code;
}

/* Once round all brokers that lead some of it. */
static int logs_ask(struct check *q, struct rv_error *ret_error)
{
    size_t count = q->store->count;
    for (size_t i = 0; i < count; i++) {
        q->leaders[i] = -1;
    }
    int code = leaders_find(q, ret_error);
    for (size_t i = 0; code == RV_OK && i < count; i++) {
        if (q->leaders[i] >= 0) {
            code = epochs_ask(q, q->leaders[i], ret_error);
        }
    }
    return code;
}

/* A question changes nothing: one whose answer was lost is asked again, too. */
static bool is_passing(const struct rv_error *e)
{
    return e->code == RV_E_LOST || ((e->flags & RV_RETRIABLE) && e->code != RV_E_MEMORY);
}

int logs_check(struct rv_store *s, struct rv_error *ret_error)
{
    size_t open = 0;
    for (size_t i = 0; i < s->count; i++) {
        open += is_open(&s->items[i]);
    }
    if (!open) {
        return RV_OK;
    }
    struct rv_error e = {0};
    struct check q = {.store = s,
                      .sealed = {.client = s->client},
                      .deadline_ms = sealed_deadline(CHECK_MS),
                      .leaders = mem_alloc(s->count * sizeof *q.leaders)};
    if (!q.leaders) {
        return fail_memory(ret_error);
    }
    int code = logs_ask(&q, &e);
    while (code != RV_OK && is_passing(&e) && sealed_time_left(q.deadline_ms) > 0) {
        rv_wait(s->client, PAUSE_MS, NULL); /* what it says is of others */
        code = logs_ask(&q, &e);
    }
    mem_free(q.leaders);
    if (code != RV_OK && ret_error) {
        *ret_error = e;
    }
    return code;
}

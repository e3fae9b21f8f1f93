/* Where partitions are read from: three questions, each one at a time.
 *
 *   COMMITTED --OffsetFetch-->  an offset: CHECK or READY
 *                               none: PLACE, as auto.offset.reset says
 *   PLACE     --ListOffsets-->  READY
 *   READY     the leader has a new epoch --> CHECK
 *   CHECK     --OffsetForLeaderEpoch-->  READY; or the log was cut: RV_JUMPED to where it ends
 */
#include "client/consumer.h"

#include "base/mem.h"
#include "client/offsets.h"
#include "gen/offset_fetch.h"
#include "gen/offset_for_leader_epoch.h"
#include "protocol/error.h"

#include <string.h>

enum { OFFSET_FETCH_MAX = 7 /* one group, topics by name */, STABLE_SINCE = 7 };

bool items_reserve(struct fetch_item **items, int32_t *size, int32_t count)
{
    if (count <= *size) {
        return true;
    }
    struct fetch_item *more = mem_resize(*items, (size_t)count * sizeof *more);
    if (more) {
        *items = more;
        *size = count;
    }
    return more != NULL;
}

/* ---- committed offsets ---- */

static int committed_fill(struct call *call, struct arena *a, void *request)
{
    struct rv_consumer *c = list_entry(call, struct rv_consumer, committed_call);
    struct offset_fetch_request *r = request;
    r->group_id = str_of(c->settings.texts[OPT_GROUP_ID]);
    r->require_stable =
        call->version >= STABLE_SINCE; /* or a transaction that ends would take it on */
    r->topics = wire_array(a, &offset_fetch_request_topic_table, c->committed_count);
    if (!r->topics) {
        return RV_E_MEMORY;
    }
    r->topics_count = 0;
    for (int32_t i = 0; i < c->committed_count; i++) {
        const struct fetch_item *item = &c->committed_items[i];
        if (i == 0 || item->topic != c->committed_items[i - 1].topic) {
            struct offset_fetch_request_topic *t = &r->topics[r->topics_count++];
            t->name = str_of(item->topic->name);
            t->partition_indexes =
                arena_alloc(a, (size_t)(c->committed_count - i) * sizeof *t->partition_indexes);
            if (!t->partition_indexes) {
                return RV_E_MEMORY;
            }
        }
        struct offset_fetch_request_topic *t = &r->topics[r->topics_count - 1];
        t->partition_indexes[t->partition_indexes_count++] = item->partition;
    }
    return RV_OK;
}

/* What an answer leaves out is not asked for again at once. */
static void items_pause(struct rv_consumer *c, const struct fetch_item *items, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        struct claim *claim = claim_of_item(c, &items[i]);
        if (claim) {
            claim->not_before_ms = consumer_backoff(c, 0);
        }
    }
}

static void none_committed(struct rv_consumer *c, struct claim *claim)
{
    claim->not_before_ms = 0;
    int64_t reset = option(c, OPT_AUTO_OFFSET_RESET);
    if (reset == RESET_NONE) {
        claim_fail(c, claim, RV_E_NO_OFFSET);
    } else {
        claim->state = CLAIM_PLACE;
        claim->place = reset == RESET_EARLIEST ? RV_START : RV_END;
    }
}

static void committed_take(struct rv_consumer *c, struct claim *claim,
                           const struct offset_fetch_response_partition *in)
{
    if (in->error_code) {
        if (error_is_retriable(in->error_code)) {
            claim_retry(c, claim);
        } else {
            claim_fail(c, claim, in->error_code);
        }
    } else if (in->committed_offset < 0) {
        none_committed(c, claim);
    } else {
        claim->committed = in->committed_offset;
        claim_at(c, claim, in->committed_offset, in->committed_leader_epoch);
        claim->checked_epoch = -1; /* the record before it may have been cut off since */
    }
}

static void committed_failed(struct rv_consumer *c, int code)
{
    if (error_is_coordinator(code)) {
        coord_lost(c);
    } else if (!error_is_retriable(code) && !(error_flags(code) & RV_REJOIN)) {
        for (int32_t i = 0; i < c->committed_count; i++) {
            struct claim *claim = claim_of_item(c, &c->committed_items[i]);
            if (claim) {
                claim_fail(c, claim, code);
            }
        }
    }
    c->committed_not_before_ms = consumer_backoff(c, c->committed_failures++);
}

static void committed_done(struct call *call, const struct answer *answer)
{
    struct rv_consumer *c = list_entry(call, struct rv_consumer, committed_call);
    const struct offset_fetch_response *r = answer->body;
    int code = answer->code != RV_OK ? answer->code : r->error_code;
    if (code != RV_OK) {
        committed_failed(c, code);
        return;
    }
    c->committed_failures = 0;
    items_pause(c, c->committed_items, c->committed_count);
    for (int32_t i = 0; i < r->topics_count; i++) {
        for (int32_t j = 0; j < r->topics[i].partitions_count; j++) {
            const struct offset_fetch_response_partition *in = &r->topics[i].partitions[j];
            for (int32_t n = 0; n < c->committed_count; n++) {
                const struct fetch_item *item = &c->committed_items[n];
                if (item->partition != in->partition_index ||
                    !str_eq(str_of(item->topic->name), r->topics[i].name)) {
                    continue;
                }
                struct claim *claim = claim_of_item(c, item);
                if (claim && claim->state == CLAIM_COMMITTED) {
                    committed_take(c, claim, in);
                }
                break;
            }
        }
    }
}

static void committed_pump(struct rv_consumer *c)
{
    int64_t now = client_now(c->client);
    if (call_busy(&c->committed_call)) {
        return;
    }
    if (!items_reserve(&c->committed_items, &c->committed_size, (int32_t)c->claims.count)) {
        consumer_wake(c, consumer_backoff(c, 0));
        return;
    }
    c->committed_count = 0;
    for (size_t i = 0; i < c->claims.count; i++) {
        struct claim *claim = c->claims.items[i];
        if (claim->state != CLAIM_COMMITTED) {
            continue;
        }
        if (!c->has_group) {
            none_committed(c, claim);
        } else if (c->coord.code != RV_OK) { /* the group cannot be used */
            claim_fail(c, claim, c->coord.code);
        } else if (claim->not_before_ms > now) {
            consumer_wake(c, claim->not_before_ms);
        } else {
            c->committed_items[c->committed_count++] = (struct fetch_item){
                .topic = claim->topic, .partition = claim->partition, .stamp = claim->stamp};
        }
    }
    if (c->committed_count == 0) {
        return;
    }
    if (now < c->committed_not_before_ms) {
        consumer_wake(c, c->committed_not_before_ms);
        return;
    }
    struct conn *k = coord_conn(c, LANE_CONTROL);
    if (k) {
        call_submit(k, &c->committed_call, setting(c->client, OPT_REQUEST_TIMEOUT_MS));
    }
}

/* ---- places: ListOffsets ---- */

static int places_fill(struct call *call, struct arena *a, void *request)
{
    struct locate *l = list_entry(call, struct locate, call);
    struct list_offsets_request *r = request;
    r->replica_id = -1;
    r->isolation_level = call->version >= 2 ? (int8_t)option(l->consumer, OPT_ISOLATION_LEVEL) : 0;
    r->timeout_ms = (int32_t)setting(l->consumer->client, OPT_REQUEST_TIMEOUT_MS);
    r->topics = wire_array(a, &list_offsets_request_topic_table, l->count);
    r->topics_count = 0;
    if (!r->topics) {
        return RV_E_MEMORY;
    }
    for (int32_t i = 0; i < l->count; i++) {
        const struct fetch_item *item = &l->items[i];
        int code = offsets_add(r, a, str_of(item->topic->name), l->count - i, item->partition,
                               item->leader_epoch, item->offset);
        if (code != RV_OK) {
            return code;
        }
    }
    return RV_OK;
}

static void locate_refused(struct rv_consumer *c, struct claim *claim, int code)
{
    if (error_is_metadata(code)) {
        meta_refresh(&c->client->meta);
    }
    if (error_is_metadata(code) || error_is_retriable(code)) {
        claim_retry(c, claim);
    } else {
        claim_fail(c, claim, code);
    }
}

static void place_take(struct rv_consumer *c, struct claim *claim,
                       const struct list_offsets_response_partition *in)
{
    if (in->error_code) {
        locate_refused(c, claim, in->error_code);
    } else if (in->offset < 0 && claim->place >= 0) {
        claim->place = RV_END; /* nothing is as young as that */
        claim->not_before_ms = 0;
    } else if (in->offset < 0) {
        claim_fail(c, claim, RV_E_PROTOCOL);
    } else {
        claim_at(c, claim, in->offset, in->leader_epoch);
    }
}

static struct claim *locate_claim(struct locate *l, struct str topic, int32_t partition)
{
    for (int32_t i = 0; i < l->count; i++) {
        const struct fetch_item *item = &l->items[i];
        if (item->partition == partition && str_eq(str_of(item->topic->name), topic)) {
            struct claim *claim = claim_of_item(l->consumer, item);
            return claim && claim->state == l->of ? claim : NULL;
        }
    }
    return NULL;
}

/* No answer: all that was asked for waits a little. */
static void locate_failed(struct locate *l, int code)
{
    struct rv_consumer *c = l->consumer;
    if (error_is_metadata(code)) {
        meta_refresh(&c->client->meta);
    }
    for (int32_t i = 0; i < l->count; i++) {
        struct claim *claim = claim_of_item(c, &l->items[i]);
        if (!claim || claim->state != l->of) {
            continue;
        }
        if (code == RV_E_VERSION && l->of == CLAIM_CHECK) { /* an old broker: nothing to check by */
            claim->state = CLAIM_READY;
            claim->checked_epoch = claim_leader_epoch(claim);
        } else if (code == RV_E_VERSION) {
            claim_fail(c, claim, code);
        } else {
            claim_retry(c, claim);
        }
    }
}

static void places_done(struct call *call, const struct answer *answer)
{
    struct locate *l = list_entry(call, struct locate, call);
    const struct list_offsets_response *r = answer->body;
    if (answer->code != RV_OK) {
        locate_failed(l, answer->code);
        return;
    }
    items_pause(l->consumer, l->items, l->count);
    for (int32_t i = 0; i < r->topics_count; i++) {
        for (int32_t j = 0; j < r->topics[i].partitions_count; j++) {
            const struct list_offsets_response_partition *in = &r->topics[i].partitions[j];
            struct claim *claim = locate_claim(l, r->topics[i].name, in->partition_index);
            if (claim) {
                place_take(l->consumer, claim, in);
            }
        }
    }
}

/* ---- checks: OffsetForLeaderEpoch ---- */

static int checks_fill(struct call *call, struct arena *a, void *request)
{
    struct locate *l = list_entry(call, struct locate, call);
    struct offset_for_leader_epoch_request *r = request;
    r->replica_id = -1;
    r->topics = wire_array(a, &offset_for_leader_epoch_request_topic_table, l->count);
    r->topics_count = 0;
    if (!r->topics) {
        return RV_E_MEMORY;
    }
    for (int32_t i = 0; i < l->count; i++) {
        const struct fetch_item *item = &l->items[i];
        if (i == 0 || item->topic != l->items[i - 1].topic) {
            struct offset_for_leader_epoch_request_topic *t = &r->topics[r->topics_count++];
            t->topic = str_of(item->topic->name);
            t->partitions =
                wire_array(a, &offset_for_leader_epoch_request_partition_table, l->count - i);
            t->partitions_count = 0;
            if (!t->partitions) {
                return RV_E_MEMORY;
            }
        }
        struct offset_for_leader_epoch_request_topic *t = &r->topics[r->topics_count - 1];
        struct offset_for_leader_epoch_request_partition *p = &t->partitions[t->partitions_count++];
        p->partition = item->partition;
        p->current_leader_epoch = item->leader_epoch;
        p->leader_epoch = item->position_epoch;
    }
    return RV_OK;
}

static void check_take(struct rv_consumer *c, struct claim *claim,
                       const struct offset_for_leader_epoch_response_partition *in,
                       int32_t leader_epoch)
{
    if (in->error_code) {
        locate_refused(c, claim, in->error_code);
    } else if (in->leader_epoch < 0 || in->end_offset < 0) {
        claim_jump(c, claim, "the broker does not know the leader epoch of the last record read");
    } else if (in->end_offset < claim->position) {
        if (option(c, OPT_AUTO_OFFSET_RESET) == RESET_NONE) {
            claim_fail(c, claim, RV_E_NO_OFFSET);
            return;
        }
        claim->jump_from = claim->position;
        claim->jump_why = "the log was cut off behind it: records that were read are gone";
        claim_at(c, claim, in->end_offset, in->leader_epoch);
    } else {
        claim->state = CLAIM_READY;
        claim->failures = 0;
        claim->not_before_ms = 0;
        claim->checked_epoch = leader_epoch;
    }
}

static void checks_done(struct call *call, const struct answer *answer)
{
    struct locate *l = list_entry(call, struct locate, call);
    const struct offset_for_leader_epoch_response *r = answer->body;
    if (answer->code != RV_OK) {
        locate_failed(l, answer->code);
        return;
    }
    items_pause(l->consumer, l->items, l->count);
    for (int32_t i = 0; i < r->topics_count; i++) {
        for (int32_t j = 0; j < r->topics[i].partitions_count; j++) {
            const struct offset_for_leader_epoch_response_partition *in =
                &r->topics[i].partitions[j];
            struct claim *claim = locate_claim(l, r->topics[i].topic, in->partition);
            if (claim) {
                check_take(l->consumer, claim, in, claim_leader_epoch(claim));
            }
        }
    }
}

/* ---- the pump ---- */

/* Asks one broker about all of its partitions in the state. False: it has none. */
static bool locate_ask(struct locate *l, int32_t node)
{
    struct rv_consumer *c = l->consumer;
    int64_t now = client_now(c->client);
    l->count = 0;
    for (size_t i = 0; i < c->claims.count; i++) {
        struct claim *claim = c->claims.items[i];
        if (claim->state != l->of || claim_leader(claim) != node) {
            continue;
        }
        if (claim->not_before_ms > now) {
            consumer_wake(c, claim->not_before_ms);
            continue;
        }
        l->items[l->count++] = (struct fetch_item){.topic = claim->topic,
                                                   .partition = claim->partition,
                                                   .stamp = claim->stamp,
                                                   .offset = claim->place,
                                                   .leader_epoch = claim_leader_epoch(claim),
                                                   .position_epoch = claim->position_epoch};
    }
    struct conn *k = l->count ? conn_get(c->client, node, LANE_CONTROL) : NULL;
    if (k) {
        call_submit(k, &l->call, setting(c->client, OPT_REQUEST_TIMEOUT_MS));
    } else if (l->count) {
        locate_failed(l, RV_E_MEMORY);
    }
    return l->count > 0;
}

static void locate_pump(struct locate *l)
{
    struct rv_consumer *c = l->consumer;
    if (call_busy(&l->call)) {
        return;
    }
    if (!items_reserve(&l->items, &l->size, (int32_t)c->claims.count)) {
        consumer_wake(c, consumer_backoff(c, 0));
        return;
    }
    int32_t brokers = c->client->meta.broker_count;
    for (int32_t i = 0; i < brokers; i++) {
        l->next_broker = (l->next_broker + 1) % brokers;
        if (locate_ask(l, c->client->meta.brokers[l->next_broker].id)) {
            return;
        }
    }
}

/* What the metadata says about each claim. */
static void claims_compare(struct rv_consumer *c)
{
    for (size_t i = 0; i < c->claims.count; i++) {
        struct claim *claim = c->claims.items[i];
        if (claim->state != CLAIM_READY) {
            continue;
        }
        int32_t epoch = claim_leader_epoch(claim);
        if (claim->topic->code == RV_OK && !uuid_is_zero(claim->topic_id) &&
            !uuid_eq(claim->topic_id, claim->topic->id)) {
            claim_jump(c, claim, "the topic was deleted and made again");
        } else if (epoch > claim->checked_epoch && claim->chunks == 0) {
            if (claim->position_epoch >= 0) {
                claim->state = CLAIM_CHECK;
            } else {
                claim->checked_epoch = epoch;
            }
        }
    }
}

void places_init(struct rv_consumer *c)
{
    c->committed_call.api = wire_api_find(9);
    c->committed_call.max_version = OFFSET_FETCH_MAX;
    c->committed_call.min_version = 1;
    c->committed_call.fill = committed_fill;
    c->committed_call.done = committed_done;
    c->places = (struct locate){.consumer = c, .of = CLAIM_PLACE};
    c->places.call.api = wire_api_find(2);
    c->places.call.fill = places_fill;
    c->places.call.done = places_done;
    c->checks = (struct locate){.consumer = c, .of = CLAIM_CHECK};
    c->checks.call.api = wire_api_find(23);
    c->checks.call.fill = checks_fill;
    c->checks.call.done = checks_done;
}

void places_finish(struct rv_consumer *c)
{
    call_cancel(&c->committed_call);
    call_cancel(&c->places.call);
    call_cancel(&c->checks.call);
    mem_free(c->committed_items);
    mem_free(c->places.items);
    mem_free(c->checks.items);
}

void places_pump(struct rv_consumer *c)
{
    if (c->claims.count == 0) {
        return;
    }
    claims_look(c);
    claims_compare(c);
    committed_pump(c);
    locate_pump(&c->places);
    locate_pump(&c->checks);
}

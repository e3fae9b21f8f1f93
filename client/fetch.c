/* Fetches: to each broker on FETCH_LANES connections, for all partitions that it leads, that want
 * more, and that no fetch on its way asks for already.
 *
 * A partition wants more while it has fewer than CHUNKS_A_CLAIM chunks: one that is read and one
 * that waits. A fetch waits at the broker until there is something for one of its partitions; what
 * wants to be fetched meanwhile (a seek, a partition that was full) goes by the other connection.
 * All wait while `queued.max.messages.kbytes` is in use.
 */
#include "client/consumer.h"

#include "base/mem.h"
#include "gen/fetch.h"
#include "protocol/error.h"

#include <string.h>

enum { CHUNKS_A_CLAIM = 2, FETCH_BY_NAME_MAX = 12 };

/* ---- asking ---- */

static bool fetcher_reserve(struct fetcher *f, size_t count)
{
    return count <= INT32_MAX && items_reserve(&f->items, &f->size, (int32_t)count);
}

/* Collects what wants to be fetched from the broker. */
static void fetcher_collect(struct fetcher *f)
{
    struct rv_consumer *c = f->consumer;
    int64_t now = client_now(c->client);
    f->count = 0;
    f->by_id = true;
    f->at_once = false;
    for (size_t i = 0; i < c->claims.count; i++) {
        struct claim *claim = c->claims.items[(c->first_claim + i) % c->claims.count];
        if (claim->state != CLAIM_READY || claim->paused || claim->asked == claim->stamp ||
            claim->chunks >= CHUNKS_A_CLAIM || claim_leader(claim) != f->node) {
            continue;
        }
        if (claim->not_before_ms > now) {
            consumer_wake(c, claim->not_before_ms);
            continue;
        }
        f->items[f->count++] = (struct fetch_item){.topic = claim->topic,
                                                   .partition = claim->partition,
                                                   .stamp = claim->stamp,
                                                   .offset = claim->fetch_offset,
                                                   .leader_epoch = claim_leader_epoch(claim)};
        f->by_id &= !uuid_is_zero(claim->topic->id);
        f->at_once |= claim->end < 0;
    }
}

/* Its answer is here, or will never be. */
static void fetcher_end(struct fetcher *f)
{
    for (int32_t i = 0; i < f->count; i++) {
        struct claim *claim = claim_of_item(f->consumer, &f->items[i]);
        if (claim) {
            claim->asked = 0;
        }
    }
}

static int fetch_fill(struct call *call, struct arena *a, void *request)
{
    struct fetcher *f = list_entry(call, struct fetcher, call);
    struct rv_consumer *c = f->consumer;
    struct fetch_request *r = request;
    r->max_wait_ms = f->at_once ? 0 : (int32_t)option(c, OPT_FETCH_MAX_WAIT_MS);
    r->min_bytes = (int32_t)option(c, OPT_FETCH_MIN_BYTES);
    r->max_bytes = (int32_t)option(c, OPT_FETCH_MAX_BYTES);
    r->isolation_level = (int8_t)option(c, OPT_ISOLATION_LEVEL);
    r->topics = wire_array(a, &fetch_request_topic_table, f->count);
    if (!r->topics) {
        return RV_E_MEMORY;
    }
    for (int32_t i = 0; i < f->count; i++) {
        const struct fetch_item *item = &f->items[i];
        struct fetch_request_topic *t = r->topics_count ? &r->topics[r->topics_count - 1] : NULL;
        if (!t || item->topic != f->items[i - 1].topic) {
            t = &r->topics[r->topics_count++];
            t->topic = str_of(item->topic->name);
            t->topic_id = item->topic->id;
            t->partitions = wire_array(a, &fetch_request_partition_table, f->count - i);
            if (!t->partitions) {
                return RV_E_MEMORY;
            }
        }
        struct fetch_request_partition *p = &t->partitions[t->partitions_count++];
        p->partition = item->partition;
        p->current_leader_epoch = item->leader_epoch;
        p->fetch_offset = item->offset;
        p->partition_max_bytes = (int32_t)option(c, OPT_MAX_PARTITION_FETCH_BYTES);
    }
    return RV_OK;
}

/* ---- what came ---- */

/* The end of the last whole batch, and the offset behind it. False: not even one is whole. */
static bool batches_walk(const uint8_t *p, size_t size, const uint8_t **ret_end,
                         int64_t *ret_offset)
{
    const uint8_t *from = p;
    const uint8_t *end = p + size;
    struct batch_header h;
    int64_t behind;
    while (batch_header_read(p, (size_t)(end - p), &h) == OK && h.size <= (size_t)(end - p) &&
           batch_behind(&h, &behind)) {
        *ret_offset = behind;
        p += h.size;
    }
    *ret_end = p;
    return p != from;
}

/* Queues what came for a claim. Without memory nothing happens: it is fetched again. */
static void chunk_add(struct rv_consumer *c, struct claim *claim, struct frame *frame,
                      const struct fetch_response_partition *in)
{
    int64_t next_offset = claim->fetch_offset;
    const uint8_t *end = in->records.ptr;
    bool any = batches_walk(in->records.ptr, in->records.len, &end, &next_offset);
    if (any && next_offset <= claim->fetch_offset) {
        claim_fail(c, claim, RV_E_PROTOCOL); /* not what was asked for; for ever */
        return;
    }
    int32_t aborted = option(c, OPT_ISOLATION_LEVEL) && in->aborted_transactions_count > 0
                          ? in->aborted_transactions_count
                          : 0;
    struct chunk *k = mem_zero(1, sizeof *k + (size_t)aborted * sizeof k->aborted[0]);
    if (!k) {
        claim_retry(c, claim);
        return;
    }
    for (int32_t i = 0; i < aborted; i++) {
        k->aborted[i] = (struct aborted){.producer_id = in->aborted_transactions[i].producer_id,
                                         .first_offset = in->aborted_transactions[i].first_offset};
    }
    k->aborted_count = aborted;
    k->claim = claim;
    k->frame = frame_ref(frame);
    k->next = in->records.ptr;
    /* What cannot be walked is read, too: records_collect says what is wrong with it. */
    k->end = any ? end : in->records.ptr + in->records.len;
    k->charged = in->records.len;
    c->queued += k->charged;
    claim->chunks++;
    claim->fetch_offset = next_offset;
    list_push(&c->chunks, &k->link);
}

static void partition_failed(struct rv_consumer *c, struct claim *claim, int code)
{
    if (code == KERR_OFFSET_OUT_OF_RANGE) {
        if (claim->chunks == 0) {
            claim_jump(c, claim, "there is no such offset (any more)");
        } else {
            claim_retry(c, claim); /* after what came before it */
        }
        return;
    }
    if (error_is_metadata(code)) {
        meta_refresh(&c->client->meta);
    }
    if (code == KERR_CORRUPT_MESSAGE) {
        claim_fail(c, claim, RV_E_CORRUPT);
    } else if (error_is_metadata(code) || error_is_retriable(code)) {
        client_log(c->client, RV_INFO, "fetch %s-%d: %s", claim->topic->name, (int)claim->partition,
                   rv_error_name(code));
        claim_retry(c, claim);
    } else {
        claim_fail(c, claim, code);
    }
}

static void partition_take(struct rv_consumer *c, const struct fetch_item *item,
                           struct frame *frame, const struct fetch_response_partition *in)
{
    struct claim *claim = claim_of_item(c, item);
    if (!claim || claim->state != CLAIM_READY || claim->paused ||
        claim->fetch_offset != item->offset) {
        return;
    }
    if (in->error_code) {
        partition_failed(c, claim, in->error_code);
        return;
    }
    bool committed_only = option(c, OPT_ISOLATION_LEVEL) && in->last_stable_offset >= 0;
    claim->end = committed_only ? in->last_stable_offset : in->high_watermark;
    claim->failures = 0;
    claim->unknown_since_ms = 0;
    claim->told = false;
    if (in->records.len > 0) {
        chunk_add(c, claim, frame, in);
    }
}

static const struct fetch_item *item_find(const struct fetcher *f,
                                          const struct fetch_response_topic *t, bool by_id,
                                          int32_t partition, int32_t guess)
{
    for (int32_t n = 0; n < f->count; n++) { /* answers come in the order of the questions */
        const struct fetch_item *item = &f->items[(guess + n) % f->count];
        if (item->partition == partition && (by_id ? uuid_eq(item->topic->id, t->topic_id)
                                                   : str_eq(str_of(item->topic->name), t->topic))) {
            return item;
        }
    }
    return NULL;
}

static void fetch_retry(struct fetcher *f, int code)
{
    struct rv_client *client = f->consumer->client;
    if (code == RV_E_VERSION) {
        client_log(client, RV_WARN, "broker %d: no version of Fetch in common", (int)f->node);
    }
    if (error_is_metadata(code)) {
        meta_refresh(&client->meta);
    }
    f->not_before_ms = consumer_backoff(f->consumer, f->failures++);
}

static void fetch_done(struct call *call, const struct answer *answer)
{
    struct fetcher *f = list_entry(call, struct fetcher, call);
    const struct fetch_response *r = answer->body;
    int code = answer->code != RV_OK ? answer->code : r->error_code;
    fetcher_end(f);
    if (code != RV_OK) {
        fetch_retry(f, code);
        return;
    }
    f->failures = 0;
    int32_t guess = 0;
    bool by_id = call->version > FETCH_BY_NAME_MAX;
    for (int32_t i = 0; i < r->topics_count; i++) {
        const struct fetch_response_topic *t = &r->topics[i];
        for (int32_t j = 0; j < t->partitions_count; j++) {
            const struct fetch_item *item =
                item_find(f, t, by_id, t->partitions[j].partition_index, guess);
            if (item) {
                guess = (int32_t)(item - f->items) + 1;
                partition_take(f->consumer, item, answer->frame, &t->partitions[j]);
            }
        }
    }
}

/* ---- the pump ---- */

static struct fetcher *fetcher_of(struct rv_consumer *c, int32_t node, int lane)
{
    list_each(link, &c->fetchers)
    {
        struct fetcher *f = list_entry(link, struct fetcher, link);
        if (f->node == node && f->lane == lane) {
            return f;
        }
    }
    struct fetcher *f = mem_zero(1, sizeof *f);
    if (f) {
        f->consumer = c;
        f->node = node;
        f->lane = lane;
        f->call.api = wire_api_find(1);
        f->call.fill = fetch_fill;
        f->call.done = fetch_done;
        list_push(&c->fetchers, &f->link);
    }
    return f;
}

static void fetcher_pump(struct rv_consumer *c, int32_t node, int lane)
{
    struct fetcher *f = fetcher_of(c, node, lane);
    int64_t now = client_now(c->client);
    if (f && call_busy(&f->call)) {
        return;
    }
    if (!f || !fetcher_reserve(f, c->claims.count)) {
        consumer_wake(c, consumer_backoff(c, 0)); /* no memory: later */
        return;
    }
    if (now < f->not_before_ms) {
        consumer_wake(c, f->not_before_ms);
        return;
    }
    fetcher_collect(f);
    if (f->count == 0) {
        return;
    }
    struct conn *k = conn_get(c->client, node, c->fetch_lanes[lane]);
    if (!k) {
        f->not_before_ms = consumer_backoff(c, f->failures++);
        consumer_wake(c, f->not_before_ms);
        return;
    }
    for (int32_t i = 0; i < f->count; i++) {
        claim_of_item(c, &f->items[i])->asked = f->items[i].stamp;
    }
    f->call.max_version = f->by_id ? 0 : FETCH_BY_NAME_MAX;
    c->first_claim = (c->first_claim + 1) % c->claims.count;
    call_submit(k, &f->call,
                option(c, OPT_FETCH_MAX_WAIT_MS) + setting(c->client, OPT_REQUEST_TIMEOUT_MS));
}

void fetch_pump(struct rv_consumer *c)
{
    if (c->claims.count == 0 || c->queued >= (size_t)option(c, OPT_QUEUED_MAX_KBYTES) * 1024) {
        return;
    }
    for (int32_t i = 0; i < c->client->meta.broker_count; i++) {
        for (int lane = 0; lane < FETCH_LANES; lane++) {
            fetcher_pump(c, c->client->meta.brokers[i].id, lane);
        }
    }
}

void fetch_finish(struct rv_consumer *c)
{
    struct list *node;
    while ((node = list_pop(&c->fetchers))) {
        struct fetcher *f = list_entry(node, struct fetcher, link);
        call_cancel(&f->call);
        mem_free(f->items);
        mem_free(f);
    }
}

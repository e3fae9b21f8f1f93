/* Sending: which batches may go now, put together into one request a broker, and the answers.
 *
 *   pump: answers -> what is overdue -> producer ids -> transaction -> requests -> receipts ->
 * timer
 *
 * Invariants:
 *   S1  the batches of a partition that are in flight are in flight to one broker, on one
 * connection S2  a batch that is sent again goes alone, so that nothing overtakes it S3  done of a
 * call only notes: it may run inside of conn_get, while lists are walked over
 */
#include "base/check.h"
#include "base/mem.h"
#include "client/producer.h"
#include "gen/produce.h"
#include "protocol/error.h"

#include <limits.h>
#include <stdio.h>

enum {
    PRODUCE_KEY = 0,
    LAST_BY_NAME = 12,  /* Produce names topics up to here, and goes by their ids after */
    FIRST_TO_JOIN = 12, /* adds its partitions to the transaction (V2 flow) */
    FIRST_WITH_ZSTD = 7,
};

/* ---- one request ---- */

static int request_fill(struct call *call, struct arena *a, void *request)
{
    struct out_request *q = list_entry(call, struct out_request, call);
    struct rv_producer *pr = q->producer;
    struct produce_request *r = request;
    r->transactional_id = pr->txn.id ? str_of(pr->txn.id) : (struct str){0};
    r->acks = pr->acks;
    r->timeout_ms = (int32_t)setting(pr->client, OPT_REQUEST_TIMEOUT_MS);
    r->topics = wire_array(a, &produce_request_topic_table, q->batch_count);
    if (!r->topics) {
        return RV_E_MEMORY;
    }
    struct produce_request_topic *t = NULL;
    const struct out_topic *last = NULL;
    int32_t left = q->batch_count;
    list_each(link, &q->batches)
    {
        const struct out_batch *b = list_entry(link, struct out_batch, in_request);
        const struct out_partition *p = b->partition;
        if (p->topic != last) {
            last = p->topic;
            t = &r->topics[r->topics_count++];
            t->name = str_of(last->meta->name);
            t->topic_id = p->topic_id;
            t->partitions = wire_array(a, &produce_request_partition_table, left);
            if (!t->partitions) {
                return RV_E_MEMORY;
            }
        }
        t->partitions[t->partitions_count++] = (struct produce_request_partition){
            .index = p->index,
            .records = {.ptr = (const uint8_t *)b->sealed.ptr, .len = b->sealed.len}
        };
        left--;
    }
    return RV_OK;
}

/* The batch of the request that an entry of the answer is about; `*cursor` is where the one before
 * was found: answers come in the order of the request. */
static struct out_batch *batch_of(const struct out_request *q,
                                  const struct produce_response_topic *t, int32_t index,
                                  struct list **cursor)
{
    struct list *node = *cursor;
    for (int32_t i = 0; i <= q->batch_count; i++) {
        node = node->next;
        if (node == &q->batches) {
            continue;
        }
        struct out_batch *b = list_entry(node, struct out_batch, in_request);
        const struct out_partition *p = b->partition;
        bool is_topic = t->name.len ? str_eq(t->name, str_of(p->topic->meta->name))
                                    : uuid_eq(t->topic_id, p->topic_id);
        if (is_topic && p->index == index) {
            *cursor = node;
            return b;
        }
    }
    return NULL;
}

static void batch_answered(struct out_batch *b, const struct out_request *q,
                           const struct produce_response_partition *in)
{
    b->code = in->error_code;
    b->offset = in->base_offset;
    b->append_time_ms = in->log_append_time_ms;
    struct str text = in->error_message;
    if (in->record_errors_count > 0 && in->record_errors[0].batch_index_error_message.len) {
        text = in->record_errors[0].batch_index_error_message;
    }
    if (in->error_code != KERR_NONE) {
        snprintf(b->why, sizeof b->why, "broker %.80s:%d: %s: %.*s", q->conn->host,
                 (int)q->conn->port, rv_error_name(b->code),
                 text.len ? (int)text.len : (int)strlen(error_about(b->code)),
                 text.len ? text.ptr : error_about(b->code));
    }
}

static void answer_take(struct out_request *q, const struct produce_response *r)
{
    struct list *cursor = &q->batches;
    for (int32_t i = 0; i < r->topics_count; i++) {
        for (int32_t j = 0; j < r->topics[i].partitions_count; j++) {
            const struct produce_response_partition *in = &r->topics[i].partitions[j];
            struct out_batch *b = batch_of(q, &r->topics[i], in->index, &cursor);
            if (b) {
                batch_answered(b, q, in);
            }
        }
    }
    q->throttle_ms = r->throttle_time_ms;
}

/* S3 */
static void request_done(struct call *call, const struct answer *answer)
{
    struct out_request *q = list_entry(call, struct out_request, call);
    struct rv_producer *pr = q->producer;
    q->code = answer->code;
    const char *why = error_about(q->code);
    if ((q->code == RV_E_LOST || q->code == RV_E_CONNECT) && q->conn->why[0]) {
        why = q->conn->why;
    }
    snprintf(q->why, sizeof q->why, "broker %.60s:%d: %.70s", q->conn->host, (int)q->conn->port,
             why);
    list_each(link, &q->batches)
    {
        struct out_batch *b = list_entry(link, struct out_batch, in_request);
        bool is_told = answer->code != RV_OK || pr->acks == ACKS_NONE;
        b->code = is_told ? answer->code : RV_E_PROTOCOL; /* unless the answer speaks of it */
        b->offset = b->append_time_ms = -1;
    }
    if (answer->body) {
        answer_take(q, answer->body);
    }
    list_remove(&q->link);
    list_push(&pr->answered, &q->link);
}

static struct out_request *request_create(struct rv_producer *pr, struct conn *k, int32_t node)
{
    struct out_request *q = mem_zero(1, sizeof *q);
    if (!q) {
        return NULL;
    }
    q->producer = pr;
    q->conn = k;
    q->node = node;
    list_init(&q->batches);
    q->call.api = wire_api_find(PRODUCE_KEY);
    q->call.min_version = pr->codec == CODEC_ZSTD ? FIRST_WITH_ZSTD : 0;
    if (pr->txn.id && pr->txn.v2) {
        q->call.min_version = FIRST_TO_JOIN;
    } else if (pr->txn.id) {
        q->call.max_version = FIRST_TO_JOIN - 1;
    }
    q->call.no_answer = pr->acks == ACKS_NONE;
    q->call.fill = request_fill;
    q->call.done = request_done;
    return q;
}

/* Batches of one topic stand together. */
static void request_add(struct out_request *q, struct out_batch *b)
{
    struct list *at = &q->batches;
    list_each(link, &q->batches)
    {
        if (list_entry(link, struct out_batch, in_request)->partition->topic ==
            b->partition->topic) {
            at = link;
        }
    }
    list_add_before(&b->in_request, at == &q->batches ? at : at->next);
    q->batch_count++;
    q->size += b->size;
    if (uuid_is_zero(b->partition->topic_id) && !q->call.max_version) {
        q->call.max_version = LAST_BY_NAME;
    }
    b->request = q;
    b->attempts++;
    b->partition->in_flight++;
    b->partition->node = q->node;
}

/* Takes the batches out of a request that is not on its way any more. */
static void request_release(struct out_batch *b)
{
    list_remove(&b->in_request);
    b->request = NULL;
    b->partition->in_flight--;
}

static struct outlet *outlet_of(struct rv_producer *pr, int32_t node)
{
    for (int32_t i = 0; i < pr->outlet_count; i++) {
        if (pr->outlets[i].node == node) {
            return &pr->outlets[i];
        }
    }
    struct outlet *more =
        mem_resize(pr->outlets, (size_t)(pr->outlet_count + 1) * sizeof *pr->outlets);
    if (!more) {
        return NULL;
    }
    pr->outlets = more;
    pr->outlets[pr->outlet_count] = (struct outlet){.node = node};
    return &pr->outlets[pr->outlet_count++];
}

/* ---- answers ---- */

static void answered_take(struct rv_producer *pr)
{
    struct list *node;
    bool is_stale = false;
    while ((node = list_pop(&pr->answered))) {
        struct out_request *q = list_entry(node, struct out_request, link);
        struct outlet *o = outlet_of(pr, q->node); /* there: nothing is allocated */
        o->in_flight--;
        if (q->throttle_ms > 0) {
            o->throttled_until_ms = client_now(pr->client) + q->throttle_ms;
        }
        struct list *link;
        while ((link = list_first(&q->batches))) {
            struct out_batch *b = list_entry(link, struct out_batch, in_request);
            request_release(b);
            if (b->code == q->code && q->code != RV_OK) {
                memcpy(b->why, q->why, sizeof b->why);
            }
            if (error_is_metadata(b->code)) {
                is_stale = true;
                meta_topic_create(&pr->client->meta, b->partition->topic->meta);
            }
            fate_take(pr, b);
        }
        mem_free(q);
    }
    if (is_stale) {
        meta_refresh(&pr->client->meta);
    }
}

/* Batches of a call that was never sent go back to where they were. */
static void request_withdraw(struct rv_producer *pr, struct out_request *q)
{
    check(!q->call.sent);
    call_cancel(&q->call);
    outlet_of(pr, q->node)->in_flight--;
    struct list *link;
    while ((link = list_first(&q->batches))) {
        struct out_batch *b = list_entry(link, struct out_batch, in_request);
        request_release(b);
        b->attempts--;
        snprintf(b->why, sizeof b->why, "broker %.80s:%d: %.40s", q->conn->host, (int)q->conn->port,
                 q->conn->why[0] ? q->conn->why : "no connection");
    }
    list_remove(&q->link);
    mem_free(q);
}

/* ---- what is overdue ---- */

static void partition_expire(struct rv_producer *pr, struct out_partition *p)
{
    list_each_safe(link, after, &p->batches)
    {
        struct out_batch *b = list_entry(link, struct out_batch, link);
        if (b->ended) {
            continue;
        }
        if (pr->now_ms < out_batch_deadline_ms(pr, b)) {
            return; /* those behind it are younger */
        }
        if (b->request && !b->request->call.sent) {
            request_withdraw(pr, b->request);
        }
        b->unsure |= b->request != NULL;
        p->broken |= b->sequence != SEQUENCE_NONE && !b->request;
        if (!b->why[0] && pr->client->meta.call_failures) {
            snprintf(b->why, sizeof b->why, "%.150s", pr->client->meta.last.text);
        }
        queue_end(pr, b, RV_E_TIMED_OUT);
    }
}

static void expire(struct rv_producer *pr)
{
    list_each(link, &pr->active)
    {
        partition_expire(pr, list_entry(link, struct out_partition, link));
    }
}

/* The producer has failed for good. */
static void fail_all(struct rv_producer *pr)
{
    list_each(link, &pr->active)
    {
        struct out_partition *p = list_entry(link, struct out_partition, link);
        list_each_safe(node, after, &p->batches)
        {
            struct out_batch *b = list_entry(node, struct out_batch, link);
            if (!b->request) {
                snprintf(b->why, sizeof b->why, "%.150s", pr->fatal.text);
                queue_end(pr, b, pr->fatal.code);
            }
        }
    }
}

/* ---- what may be sent ---- */

/* The next batch of the partition, if one may go to `*ret_node` now. */
static struct out_batch *partition_next(struct rv_producer *pr, struct out_partition *p,
                                        int32_t *ret_node)
{
    const struct topic *t = p->topic->meta;
    int32_t leader = p->index < t->count ? t->partitions[p->index].leader : -1;
    if (leader < 0 || pr->now_ms < p->not_before_ms ||
        (p->in_flight && p->node != leader)) { /* S1 */
        return NULL;
    }
    struct out_batch *next = NULL;
    list_each(link, &p->batches)
    {
        struct out_batch *b = list_entry(link, struct out_batch, link);
        if (!b->request) {
            next = b;
            break;
        }
    }
    if (!next || !out_batch_is_ready(pr, next) ||
        (next->attempts > 0 && p->in_flight > 0)) { /* S2 */
        return NULL;
    }
    struct out_batch *first;
    if (!identity_ready(pr, p, &first)) {
        return NULL;
    }
    *ret_node = leader;
    return first ? first : next;
}

static void partition_pause(struct rv_producer *pr, struct out_partition *p)
{
    p->not_before_ms = client_now(pr->client) + setting(pr->client, OPT_RETRY_BACKOFF_MS);
}

/* Where the batch can be put. NULL: nowhere now. */
static struct out_request *outlet_request(struct rv_producer *pr, struct out_partition *p,
                                          int32_t node)
{
    struct rv_client *c = pr->client;
    struct outlet *o = outlet_of(pr, node);
    if (!o) {
        partition_pause(pr, p);
        return NULL;
    }
    if (o->request) {
        return o->request;
    }
    if (o->in_flight >= pr->settings.numbers[OPT_MAX_IN_FLIGHT] ||
        pr->now_ms < o->throttled_until_ms) {
        return NULL;
    }
    struct conn *k = conn_get(c, node, pr->lane);
    if (!k) {
        c->meta.brokers_wanted = true;
        meta_refresh(&c->meta);
        partition_pause(pr, p);
        return NULL;
    }
    /* Without answers, the socket says when it is enough. */
    size_t unwritten = k->out.len - k->out_position;
    if (pr->acks == ACKS_NONE && unwritten > (size_t)pr->settings.numbers[OPT_MAX_REQUEST_SIZE]) {
        return NULL;
    }
    o->request = request_create(pr, k, node);
    o->conn = k;
    if (!o->request) {
        partition_pause(pr, p);
    }
    return o->request;
}

/* True: something was put into a request. */
static bool partition_send(struct rv_producer *pr, struct out_partition *p)
{
    int32_t node = -1;
    struct out_batch *b = partition_next(pr, p, &node);
    struct out_request *q = b ? outlet_request(pr, p, node) : NULL;
    if (!q) {
        return false;
    }
    if (!b->sealed.len) {
        out_batch_close(b);
        int code = out_batch_seal(pr, b);
        if (code == RV_E_MEMORY) {
            partition_pause(pr, p);
            return false;
        }
        if (code != RV_OK) {
            queue_end(pr, b, code);
            return false;
        }
    }
    if (q->batch_count && q->size + b->size > (size_t)pr->settings.numbers[OPT_MAX_REQUEST_SIZE]) {
        return false; /* into the next one */
    }
    request_add(q, b);
    return true;
}

static void outlets_submit(struct rv_producer *pr)
{
    for (int32_t i = 0; i < pr->outlet_count; i++) {
        struct outlet *o = &pr->outlets[i];
        struct out_request *q = o->request;
        o->request = NULL;
        if (q && q->batch_count == 0) { /* its only batch could not be sealed */
            mem_free(q);
        } else if (q) {
            o->in_flight++;
            txn_sending(pr);
            list_push(&pr->requests, &q->link);
            call_submit(o->conn, &q->call, setting(pr->client, OPT_REQUEST_TIMEOUT_MS));
        }
    }
}

/* Passes over the partitions until nothing more can go: one batch of each in a request. Those that
 * have been served stand at the end for the next pass. */
static void requests_make(struct rv_producer *pr)
{
    bool more = true;
    while (more) {
        struct list all, served;
        list_init(&all);
        list_init(&served);
        list_splice(&all, &pr->active);
        more = false;
        struct list *node;
        while ((node = list_pop(&all))) {
            struct out_partition *p = list_entry(node, struct out_partition, link);
            if (list_empty(&p->batches)) {
                continue;
            }
            bool is_served = partition_send(pr, p);
            list_push(is_served ? &served : &pr->active, &p->link);
            more |= is_served;
        }
        list_splice(&pr->active, &served);
        outlets_submit(pr);
    }
}

/* ---- the pump ---- */

void producer_arm(struct rv_producer *pr, int64_t due_ms)
{
    if (due_ms != INT64_MAX && (!timer_armed(&pr->timer) || due_ms < pr->timer.deadline_ms)) {
        timer_arm(&pr->client->timers, &pr->timer, due_ms);
    }
}

static void timer_again(struct rv_producer *pr)
{
    int64_t due = INT64_MAX;
    list_each(link, &pr->active)
    {
        int64_t at = out_partition_due_ms(pr, list_entry(link, struct out_partition, link));
        due = at < due ? at : due;
    }
    for (int32_t i = 0; i < pr->outlet_count; i++) {
        int64_t at = pr->outlets[i].throttled_until_ms;
        due = at > pr->now_ms && at < due ? at : due;
    }
    producer_arm(pr, due);
}

void producer_pump(struct part *part)
{
    struct rv_producer *pr = list_entry(part, struct rv_producer, part);
    pr->now_ms = client_now(pr->client);
    timer_disarm(&pr->client->timers, &pr->timer);
    answered_take(pr);
    expire(pr);
    ids_pump(pr);
    txn_pump(pr);
    if (pr->fatal.code == RV_OK) {
        requests_make(pr);
    } else {
        fail_all(pr);
    }
    queue_deliver(pr);
    pr->turn_due = false;
    timer_again(pr);
}

void requests_give_up(struct rv_producer *pr)
{
    call_cancel(&pr->id_call);
    txn_give_up(pr);
    list_each_safe(link, after, &pr->requests)
    {
        struct out_request *q = list_entry(link, struct out_request, link);
        if (!q->call.sent) {
            request_withdraw(pr, q);
        }
    }
    conn_close_lane(pr->client, pr->lane); /* ends the others */
    check(list_empty(&pr->requests));
    answered_take(pr);
}

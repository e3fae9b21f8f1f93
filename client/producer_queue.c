/* Records on this side: which partition they go to, the batches that they are collected in, and the
 * memory that these may take.
 *
 * Invariants:
 *   Q1  of a partition's batches only the last may be open
 *   Q2  used is the sum of what the batches that have not ended are charged
 *   Q3  a partition with batches is in active
 *   Q4  callbacks run in queue_deliver only, when nobody walks over a list
 */
#include "base/check.h"
#include "base/mem.h"
#include "client/producer.h"
#include "protocol/error.h"

#include <stdio.h>

enum { RECEIPTS_FIRST = 16 };

/* ---- topics and partitions ---- */

struct out_topic *out_topic_get(struct rv_producer *pr, const char *name)
{
    if (pr->last && strcmp(pr->last->meta->name, name) == 0) {
        return pr->last;
    }
    struct out_topic *t = map_get_str(&pr->topics, str_of(name));
    if (!t) {
        t = mem_zero(1, sizeof *t);
        if (!t) {
            return NULL;
        }
        t->sticky = -1;
        t->meta = meta_topic(&pr->client->meta, name, true);
        if (!t->meta || map_put_str(&pr->topics, str_of(name), t) != OK) {
            mem_free(t);
            return NULL;
        }
    }
    pr->last = t;
    return t;
}

void out_topics_finish(struct rv_producer *pr)
{
    for (struct map_entry *e = map_first(&pr->topics); e; e = map_next(e)) {
        struct out_topic *t = map_value(e);
        for (int32_t i = 0; i < t->partition_size; i++) {
            struct out_partition *p = t->partitions[i];
            if (p) {
                check(list_empty(&p->batches));
                list_remove(&p->link);
                mem_free(p);
            }
        }
        mem_free(t->partitions);
        mem_free(t);
    }
    map_finish(&pr->topics);
    pr->last = NULL;
}

struct out_partition *out_partition_get(struct out_topic *t, int32_t index)
{
    if (index >= t->partition_size) {
        int32_t size = t->meta->count > index ? t->meta->count : index + 1;
        struct out_partition **more =
            mem_resize(t->partitions, (size_t)size * sizeof *t->partitions);
        if (!more) {
            return NULL;
        }
        memset(more + t->partition_size, 0, (size_t)(size - t->partition_size) * sizeof *more);
        t->partitions = more;
        t->partition_size = size;
    }
    struct out_partition *p = t->partitions[index];
    if (!p) {
        p = mem_zero(1, sizeof *p);
        if (!p) {
            return NULL;
        }
        p->topic = t;
        p->index = index;
        p->producer_id = -1;
        list_init(&p->batches);
        t->partitions[index] = p;
    }
    return p;
}

/* The partition that records without a key go to until its batch is closed: any one that has a
 * leader. */
static int32_t topic_sticky(struct rv_producer *pr, struct out_topic *t)
{
    const struct topic *meta = t->meta;
    if (t->sticky >= 0 && t->sticky < meta->count) {
        return t->sticky;
    }
    int32_t led = 0;
    for (int32_t i = 0; i < meta->count; i++) {
        led += meta->partitions[i].leader >= 0;
    }
    int32_t nth = (int32_t)rng_below(&pr->client->rng, (uint64_t)(led > 0 ? led : meta->count));
    for (int32_t i = 0; i < meta->count; i++) {
        if ((led == 0 || meta->partitions[i].leader >= 0) && nth-- == 0) {
            t->sticky = i;
        }
    }
    return t->sticky;
}

/* ---- batches ---- */

struct out_batch *out_batch_create(struct rv_producer *pr, struct out_partition *p)
{
    struct out_batch *b = mem_zero(1, sizeof *b);
    if (!b) {
        return NULL;
    }
    batch_builder_init(&b->builder);
    b->partition = p;
    b->number = pr->next_number++;
    b->born_ms = client_now(pr->client);
    b->producer_id = -1;
    b->producer_epoch = -1;
    b->sequence = SEQUENCE_NONE;
    b->offset = -1;
    b->append_time_ms = -1;
    return b;
}

void out_batch_destroy(struct out_batch *b)
{
    check(!b->request && !list_linked(&b->link) && !list_linked(&b->in_request) &&
          !list_linked(&b->in_ended));
    batch_builder_finish(&b->builder);
    buf_finish(&b->sealed);
    mem_free(b->receipts);
    mem_free(b);
}

void out_batch_close(struct out_batch *b)
{
    struct out_topic *t = b->partition->topic;
    if (!b->closed && t->sticky == b->partition->index) {
        t->sticky = -1;
    }
    b->closed = true;
}

void queue_close_all(struct rv_producer *pr)
{
    list_each(link, &pr->active)
    {
        struct out_partition *p = list_entry(link, struct out_partition, link);
        if (!list_empty(&p->batches)) {
            out_batch_close(list_entry(p->batches.prev, struct out_batch, link));
        }
    }
    pr->client->again = true;
}

bool out_batch_is_ready(const struct rv_producer *pr, const struct out_batch *b)
{
    return b->closed || pr->starved ||
           pr->now_ms - b->born_ms >= pr->settings.numbers[OPT_LINGER_MS];
}

int64_t out_partition_due_ms(const struct rv_producer *pr, const struct out_partition *p)
{
    int64_t due = INT64_MAX;
    list_each(link, &p->batches)
    {
        const struct out_batch *b = list_entry(link, struct out_batch, link);
        if (!b->ended) {
            int64_t deadline = out_batch_deadline_ms(pr, b);
            due = deadline < due ? deadline : due;
        }
        if (!b->request) { /* the first that may be sent; those behind it are younger */
            int64_t linger = b->closed ? 0 : b->born_ms + pr->settings.numbers[OPT_LINGER_MS];
            int64_t send = linger > p->not_before_ms ? linger : p->not_before_ms;
            /* If this pump might have sent it, it waits for something that wakes us by itself. */
            return send > pr->now_ms && send < due ? send : due;
        }
    }
    return due;
}

/* ---- adding a record ---- */

bool headers_reserve(struct rv_producer *pr, size_t count)
{
    if (count > pr->header_size) {
        struct record_header *more = mem_resize(pr->headers, count * sizeof *more);
        if (!more) {
            return false;
        }
        pr->headers = more;
        pr->header_size = count;
    }
    return true;
}

static bool receipt_reserve(struct out_batch *b)
{
    if (b->receipt_count == b->receipt_size) {
        int32_t size = b->receipt_size ? b->receipt_size * 2 : RECEIPTS_FIRST;
        struct receipt *more = mem_resize(b->receipts, (size_t)size * sizeof *more);
        if (!more) {
            return false;
        }
        b->receipts = more;
        b->receipt_size = size;
    }
    return true;
}

struct adding {
    int64_t timestamp_ms;
    struct bytes key;
    struct bytes value;
    int32_t header_count; /* in pr->headers */
    size_t size;          /* bytes that the record takes */
    size_t cost;          /* bytes of buffer.memory */
};

static struct bytes bytes_of(struct rv_bytes b)
{
    return (struct bytes){b.ptr, b.ptr ? b.size : 0};
}

static bool adding_init(struct rv_producer *pr, const struct rv_message *m, struct adding *a)
{
    if (!headers_reserve(pr, m->header_count)) {
        return false;
    }
    for (size_t i = 0; i < m->header_count; i++) {
        pr->headers[i].name =
            (struct str){.ptr = m->headers[i].name.ptr, .len = m->headers[i].name.size};
        pr->headers[i].value = bytes_of(m->headers[i].value);
    }
    *a = (struct adding){.timestamp_ms =
                             m->timestamp_ms ? m->timestamp_ms : clock_wall_ms(pr->client->clock),
                         .key = bytes_of(m->key),
                         .value = bytes_of(m->value),
                         .header_count = (int32_t)m->header_count};
    return true;
}

/* The open batch of the partition, if the record still fits in there; a->size is set. */
static struct out_batch *batch_with_room(struct rv_producer *pr, struct out_partition *p,
                                         struct adding *a, bool *ret_closed)
{
    struct batch_builder empty;
    batch_builder_init(&empty);
    struct out_batch *b =
        list_empty(&p->batches) ? NULL : list_entry(p->batches.prev, struct out_batch, link);
    b = b && !b->closed ? b : NULL;
    const struct batch_builder *builder = b ? &b->builder : &empty;
    a->size = batch_builder_record_size(builder, a->timestamp_ms, a->key, a->value, pr->headers,
                                        a->header_count);
    *ret_closed = false;
    if (b && batch_builder_size(&b->builder) + a->size > pr->batch_limit) {
        out_batch_close(b);
        pr->turn_due = true;
        pr->client->again = true;
        *ret_closed = true;
        a->size = batch_builder_record_size(&empty, a->timestamp_ms, a->key, a->value, pr->headers,
                                            a->header_count);
        return NULL;
    }
    return b;
}

static int add_to(struct rv_producer *pr, struct out_partition *p, struct out_batch *b,
                  const struct adding *a, rv_delivery_fn *fn, void *ctx, struct rv_error *ret_error)
{
    bool is_new = b == NULL;
    b = b ? b : out_batch_create(pr, p);
    if (!b) {
        return error_memory(ret_error);
    }
    if ((fn && !receipt_reserve(b)) ||
        batch_builder_add(&b->builder, a->timestamp_ms, a->key, a->value, pr->headers,
                          a->header_count) != OK) {
        if (is_new) {
            out_batch_destroy(b);
        }
        return error_memory(ret_error);
    }
    if (fn) {
        b->receipts[b->receipt_count++] = (struct receipt){
            .fn = fn, .ctx = ctx, .timestamp_ms = a->timestamp_ms, .index = b->count};
    }
    b->count++;
    b->charged += a->cost;
    pr->used += a->cost;
    pr->pending++;
    if (is_new) {
        list_push(&p->batches, &b->link);
        if (!list_linked(&p->link)) {
            list_push(&pr->active, &p->link);
        }
        producer_arm(pr, b->born_ms + pr->settings.numbers[OPT_LINGER_MS]);
    }
    if (batch_builder_size(&b->builder) >= pr->batch_limit) {
        out_batch_close(b);
        pr->turn_due = true;
        pr->client->again = true;
    }
    return RV_OK;
}

int queue_add(struct rv_producer *pr, struct out_topic *t, const struct rv_message *m,
              rv_delivery_fn *fn, void *ctx, struct rv_error *ret_error)
{
    struct adding a;
    if (!adding_init(pr, m, &a)) {
        return error_memory(ret_error);
    }
    struct out_partition *p;
    struct out_batch *b;
    bool is_sticky = !m->to_partition && !m->key.ptr;
    bool closed = false;
    do { /* at most twice: a sticky batch that is full makes us choose another partition */
        int32_t index = m->to_partition ? m->partition
                        : is_sticky     ? topic_sticky(pr, t)
                                    : rv_partition_of_key(m->key.ptr, m->key.size, t->meta->count);
        if (index >= t->meta->count) {
            return error_set(ret_error, KERR_UNKNOWN_TOPIC_OR_PARTITION,
                             "topic %s has no partition %d: it has %d", t->meta->name, (int)index,
                             (int)t->meta->count);
        }
        p = out_partition_get(t, index);
        if (!p) {
            return error_memory(ret_error);
        }
        b = batch_with_room(pr, p, &a, &closed);
    } while (closed && is_sticky);
    int64_t limit = pr->settings.numbers[OPT_MAX_REQUEST_SIZE];
    if (BATCH_HEADER_SIZE + a.size > (size_t)limit) {
        return error_set(ret_error, RV_E_TOO_LARGE,
                         "topic %s: a record of %zu bytes is over max.request.size, which is %lld",
                         t->meta->name, BATCH_HEADER_SIZE + a.size, (long long)limit);
    }
    limit = pr->settings.numbers[OPT_BUFFER_MEMORY];
    a.cost = a.size + (fn ? sizeof(struct receipt) : 0) + (b ? 0 : BATCH_COST);
    if (a.cost > (size_t)limit) {
        return error_set(ret_error, RV_E_TOO_LARGE,
                         "topic %s: a record of %zu bytes is over buffer.memory, which is %lld",
                         t->meta->name, a.cost, (long long)limit);
    }
    if (pr->used + a.cost > (size_t)limit) {
        if (!pr->starved) { /* what is there is sent now; then only an answer makes room */
            pr->starved = true;
            pr->client->again = true;
        }
        return error_set(
            ret_error, RV_E_FULL,
            "buffer.memory (%lld bytes) is in use: %zu records wait for their delivery",
            (long long)limit, pr->pending);
    }
    int code = add_to(pr, p, b, &a, fn, ctx, ret_error);
    pr->starved = pr->starved && code != RV_OK;
    return code;
}

/* ---- the end of a batch ---- */

void queue_end(struct rv_producer *pr, struct out_batch *b, int code)
{
    check(!b->ended);
    b->ended = true;
    b->closed = true;
    b->code = code;
    pr->used -= b->charged;
    b->charged = 0;
    if (!b->request) {
        list_remove(&b->link);
    }
    list_push(&pr->ended, &b->in_ended);
}

static void batch_error(const struct rv_producer *pr, const struct out_batch *b, struct rv_error *e)
{
    const struct out_partition *p = b->partition;
    const char *topic = p->topic->meta->name;
    const char *why = b->why[0] ? b->why : NULL;
    if (b->code == RV_E_TIMED_OUT) {
        error_set(e, b->code,
                  "topic %.100s partition %d: not delivered within delivery.timeout.ms%s%s", topic,
                  (int)p->index, why ? "; the last attempt: " : "", why ? why : "");
    } else {
        error_set(e, b->code, "topic %.100s partition %d: %s", topic, (int)p->index,
                  why ? why : error_about(b->code));
    }
    e->flags &= ~(unsigned)RV_UNSURE;
    e->flags |= b->unsure ? (unsigned)RV_UNSURE : 0;
    e->flags |= pr->fatal.code == b->code ? (unsigned)RV_FATAL : 0;
}

static void batch_deliver(struct rv_producer *pr, struct out_batch *b)
{
    struct rv_error e = {0};
    bool is_good = b->code == RV_OK;
    if (!is_good) {
        batch_error(pr, b, &e);
        txn_record_failed(pr, b, &e);
        if (pr->first.code == RV_OK) {
            pr->first = e;
        }
    }
    pr->pending -= (size_t)b->count;
    if (b->number < pr->flush_number) {
        pr->flush_left -= (size_t)b->count;
    }
    struct rv_delivery d = {.topic = b->partition->topic->meta->name,
                            .partition = b->partition->index,
                            .error = is_good ? NULL : &e};
    bool was = pr->client->in_callback;
    pr->client->in_callback = true;
    for (int32_t i = 0; i < b->receipt_count; i++) {
        const struct receipt *r = &b->receipts[i];
        d.offset = is_good && b->offset >= 0 ? b->offset + r->index : -1;
        d.timestamp_ms = is_good && b->append_time_ms >= 0 ? b->append_time_ms : r->timestamp_ms;
        r->fn(r->ctx, &d);
    }
    pr->client->in_callback = was;
}

void queue_deliver(struct rv_producer *pr)
{
    struct list now; /* what callbacks add is for the next time */
    list_init(&now);
    list_splice(&now, &pr->ended);
    struct list *node;
    while ((node = list_pop(&now))) {
        struct out_batch *b = list_entry(node, struct out_batch, in_ended);
        batch_deliver(pr, b);
        if (!b->request) {
            out_batch_destroy(b);
            continue;
        }
        mem_free(b->receipts); /* the rest is needed until its request has ended */
        b->receipts = NULL;
        b->receipt_count = b->receipt_size = 0;
    }
}

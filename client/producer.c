/* The producer's calls of rivulet.h. */
#include "client/producer.h"

#include "base/check.h"
#include "base/mem.h"
#include "protocol/error.h"

#include <limits.h>

enum { IN_FLIGHT_IDEMPOTENT = 5 /* batches of a producer that brokers remember */ };

/* ---- open and close ---- */

static bool option_is_given(const struct rv_option *options, const char *name)
{
    for (const struct rv_option *o = options; o && o->name; o++) {
        if (strcmp(o->name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* What the options mean together. */
static int options_take(struct rv_producer *pr, const struct rv_option *options,
                        struct rv_error *ret_error)
{
    const int64_t *numbers = pr->settings.numbers;
    int64_t acks = numbers[OPT_ACKS];
    pr->acks = acks == ACKS_NONE ? 0 : acks == ACKS_LEADER ? 1 : -1;
    pr->codec = (enum codec)numbers[OPT_COMPRESSION_TYPE];
    pr->idempotent = numbers[OPT_ENABLE_IDEMPOTENCE];
    if (pr->settings.texts[OPT_TRANSACTIONAL_ID][0]) {
        if (!pr->idempotent || pr->acks != -1) {
            return error_set(ret_error, RV_E_OPTION,
                             "option transactional.id needs acks=all and enable.idempotence=true");
        }
        pr->txn.id = pr->settings.texts[OPT_TRANSACTIONAL_ID];
    }
    if (pr->idempotent && pr->acks != -1) {
        if (option_is_given(options, "enable.idempotence")) {
            return error_set(ret_error, RV_E_OPTION,
                             "option enable.idempotence needs acks=all: leave one of them out");
        }
        pr->idempotent = false; /* who asks for less, gets less */
    }
    if (pr->idempotent && numbers[OPT_MAX_IN_FLIGHT] > IN_FLIGHT_IDEMPOTENT) {
        return error_set(
            ret_error, RV_E_OPTION,
            "option max.in.flight.requests.per.connection: %lld is over %d, and brokers "
            "remember no more; enable.idempotence=false allows it",
            (long long)numbers[OPT_MAX_IN_FLIGHT], IN_FLIGHT_IDEMPOTENT);
    }
    int64_t limit = numbers[OPT_BATCH_SIZE];
    limit = limit < numbers[OPT_MAX_REQUEST_SIZE] ? limit : numbers[OPT_MAX_REQUEST_SIZE];
    pr->batch_limit = (size_t)limit;
    return RV_OK;
}

static void on_timer(struct timer *timer)
{
    (void)timer; /* the pump does the rest */
}

int rv_producer_open(struct rv_client *client, const struct rv_option *options,
                     struct rv_producer **ret_producer, struct rv_error *ret_error)
{
    struct rv_producer *pr = mem_zero(1, sizeof *pr);
    if (!pr) {
        return error_memory(ret_error);
    }
    int code = settings_init(&pr->settings, options, ret_error);
    code = code == RV_OK ? options_take(pr, options, ret_error) : code;
    if (code != RV_OK) {
        settings_finish(&pr->settings);
        mem_free(pr);
        return code;
    }
    pr->client = client;
    pr->lane = client_lane(client);
    pr->part.pump = producer_pump;
    map_init(&pr->topics, rng_next(&client->rng));
    list_init(&pr->active);
    list_init(&pr->requests);
    list_init(&pr->answered);
    list_init(&pr->ended);
    timer_init(&pr->timer, on_timer);
    ids_init(pr);
    txn_init(pr);
    list_push(&client->parts, &pr->part.link);
    *ret_producer = pr;
    return RV_OK;
}

void rv_producer_close(struct rv_producer *producer)
{
    struct rv_producer *pr = producer;
    if (!pr) {
        return;
    }
    check(!pr->client->in_turn); /* rivulet.h: not from a callback */
    pr->closing = true;
    requests_give_up(pr);
    list_each(link, &pr->active)
    {
        struct out_partition *p = list_entry(link, struct out_partition, link);
        list_each_safe(node, after, &p->batches)
        {
            struct out_batch *b = list_entry(node, struct out_batch, link);
            memcpy(b->why, "the producer was closed", sizeof "the producer was closed");
            queue_end(pr, b, RV_E_STATE);
        }
    }
    pr->client->in_turn = true; /* nothing may be done in these callbacks */
    queue_deliver(pr);
    pr->client->in_turn = false;
    list_remove(&pr->part.link);
    timer_disarm(&pr->client->timers, &pr->timer);
    out_topics_finish(pr);
    batch_scratch_finish(&pr->scratch);
    mem_free(pr->headers);
    mem_free(pr->outlets);
    settings_finish(&pr->settings);
    mem_free(pr);
}

/* ---- sending ---- */

static int message_check(const struct rv_producer *pr, const struct rv_message *m,
                         struct rv_error *ret_error)
{
    if (pr->closing || (pr->client->in_turn && !pr->client->in_callback)) {
        return error_set(ret_error, RV_E_STATE, "rv_send: %s",
                         pr->closing ? "the producer is being closed" : "not allowed in here");
    }
    if (pr->fatal.code != RV_OK) {
        return error_copy(ret_error, &pr->fatal);
    }
    if (!m->topic || !m->topic[0]) {
        return error_set(ret_error, RV_E_ARGUMENT, "rv_send: there is no topic");
    }
    if (m->timestamp_ms < 0) {
        return error_set(ret_error, RV_E_ARGUMENT, "rv_send: a timestamp of %lld is before 1970",
                         (long long)m->timestamp_ms);
    }
    if (m->to_partition && m->partition < 0) {
        return error_set(ret_error, RV_E_ARGUMENT, "rv_send: there is no partition %d",
                         (int)m->partition);
    }
    if (m->header_count > INT32_MAX || (m->header_count && !m->headers)) {
        return error_set(ret_error, RV_E_ARGUMENT, "rv_send: headers are missing");
    }
    for (size_t i = 0; i < m->header_count; i++) {
        const struct rv_bytes name = m->headers[i].name;
        if (!name.ptr || !str_is_utf8((struct str){.ptr = name.ptr, .len = name.size})) {
            return error_set(ret_error, RV_E_ARGUMENT, "rv_send: the name of header %zu is %s", i,
                             name.ptr ? "not UTF-8" : "null");
        }
    }
    return RV_OK;
}

/* RV_E_FULL: not now. Nothing was done unless RV_OK. */
static int send_now(struct rv_producer *pr, const struct rv_message *m, rv_delivery_fn *fn,
                    void *ctx, struct rv_error *ret_error)
{
    struct out_topic *t = out_topic_get(pr, m->topic);
    if (!t) {
        return error_memory(ret_error);
    }
    if (!t->meta->known || t->meta->code == RV_E_MEMORY) { /* that passes: it is asked again */
        return error_set(ret_error, RV_E_FULL, "topic %s: nothing is known about it yet", m->topic);
    }
    if (t->meta->code != RV_OK) {
        int code = t->meta->code;
        meta_topic_create(&pr->client->meta, t->meta);
        if (!error_is_retriable(code)) {
            t->meta->known = false; /* asked for again when somebody tries again */
            meta_refresh(&pr->client->meta);
        }
        return error_set(ret_error, code, "topic %s: %s", m->topic, error_about(code));
    }
    return queue_add(pr, t, m, fn, ctx, ret_error);
}

static int send_or_wait(struct rv_producer *pr, const struct rv_message *m, rv_delivery_fn *fn,
                        void *ctx, struct rv_error *ret_error)
{
    struct rv_client *c = pr->client;
    struct rv_error e;
    int64_t most_ms = pr->settings.numbers[OPT_MAX_BLOCK_MS];
    bool may_wait = !c->in_callback && most_ms > 0;
    int64_t deadline_ms = -1; /* from the first wait on: most records need none */
    uint64_t answers = c->meta.answers;
    for (;;) {
        int stop = txn_send_check(pr, ret_error);
        if (stop != RV_OK) {
            return stop;
        }
        int code = send_now(pr, m, fn, ctx, &e);
        bool is_absent = code == KERR_UNKNOWN_TOPIC_OR_PARTITION && pr->last &&
                         pr->last->meta->code == RV_OK &&
                         c->meta.answers != answers; /* a fresh answer, and still no partition */
        if (code == RV_OK || code == RV_E_MEMORY || !error_is_retriable(code) || is_absent ||
            !may_wait) {
            return code == RV_OK ? RV_OK : error_copy(ret_error, &e);
        }
        if (code == KERR_UNKNOWN_TOPIC_OR_PARTITION && c->meta.answers == answers) {
            meta_refresh(&c->meta);
        }
        deadline_ms = deadline_ms < 0 ? client_now(c) + most_ms : deadline_ms;
        if (!client_turn_until(c, deadline_ms)) {
            bool is_unknown = code == RV_E_FULL && pr->used == 0 && c->meta.call_failures;
            return is_unknown ? error_copy(ret_error, &c->meta.last)
                   : code == RV_E_FULL
                       ? error_set(ret_error, RV_E_TIMED_OUT, "%s, for all of max.block.ms", e.text)
                       : error_copy(ret_error, &e);
        }
        if (pr->fatal.code != RV_OK) {
            return error_copy(ret_error, &pr->fatal);
        }
    }
}

int rv_send(struct rv_producer *producer, const struct rv_message *message, rv_delivery_fn *fn,
            void *ctx, struct rv_error *ret_error)
{
    struct rv_producer *pr = producer;
    struct rv_client *c = pr->client;
    int code = message_check(pr, message, ret_error);
    if (code != RV_OK) {
        return code;
    }
    if (!c->in_callback) {
        /* A turn for each batch, and one a millisecond, so that a program that does nothing but
         * send is moved on too. */
        int64_t now_ms = client_now(c);
        if (pr->turn_due || now_ms != pr->turned_ms) {
            client_turn(c, 0);
            pr->turned_ms = now_ms;
            if (pr->fatal.code != RV_OK) {
                return error_copy(ret_error, &pr->fatal);
            }
        }
    }
    return send_or_wait(pr, message, fn, ctx, ret_error);
}

/* ---- waiting ---- */

int rv_flush(struct rv_producer *producer, int timeout_ms, struct rv_error *ret_error)
{
    struct rv_producer *pr = producer;
    struct rv_client *c = pr->client;
    if (c->in_turn || c->in_callback) {
        return error_set(ret_error, RV_E_STATE, "rv_flush: not allowed in a callback");
    }
    int64_t deadline_ms = client_deadline(c, timeout_ms);
    if (pr->pending == 0) {
        client_turn(c,
                    0); /* nothing to wait for; the rest of the client is moved on all the same */
    }
    queue_close_all(pr);
    pr->flush_number = pr->next_number;
    pr->flush_left = pr->pending;
    while (pr->flush_left > 0) {
        if (!client_turn_until(c, deadline_ms) && pr->flush_left > 0) {
            return error_set(ret_error, RV_E_TIMED_OUT, "%zu records still wait for their delivery",
                             pr->flush_left);
        }
    }
    struct rv_error first = pr->first;
    pr->first = (struct rv_error){0};
    return first.code == RV_OK ? RV_OK : error_copy(ret_error, &first);
}

size_t rv_pending(const struct rv_producer *producer)
{
    return producer->pending;
}

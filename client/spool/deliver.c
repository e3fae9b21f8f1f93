/* One attempt for the open batches of the plan, and what follows from their fates:
 *
 *   stored       its events are done
 *   refused      too large, or a record in it is bad: its events are planned anew in smaller
 *                batches, until the one that it is about is alone; else they are set aside
 *   renew        its events are planned anew, with another producer id
 *   unknowable   its events are set aside, unsure
 *   later, unknown, open: the same batch is tried again; a topic that stays missing ends it
 */
#include "base/check.h"
#include "base/mem.h"
#include "client/sealed/fail.h"
#include "client/spool/internal.h"
#include "protocol/error.h"

#include <stdio.h>
#include <string.h>

struct delivery {
    struct sender *sender;
    struct sealed_batch batches[PLAN_BATCHES];
    size_t of[PLAN_BATCHES];        /* of each: its index in the plan */
    struct buf bytes[PLAN_BATCHES]; /* owned */
    size_t count;
    struct record_header *headers; /* owned: of one record */
    size_t header_room;
    bool got_on; /* a batch is settled */
};

/* ---- building ---- */

static err record_add(struct delivery *d, struct batch_builder *b, const struct event *e)
{
    size_t count = (size_t)e->header_count;
    if (count > d->header_room) {
        struct record_header *more = mem_resize(d->headers, count * sizeof *more);
        if (!more) {
            return ERR_MEMORY;
        }
        d->headers = more;
        d->header_room = count;
    }
    const uint8_t *at = e->headers;
    size_t left = e->headers_size;
    int32_t more = e->header_count;
    for (size_t i = 0; i < count; i++) {
        check(record_header_next(&at, &left, &more, &d->headers[i]) == OK); /* event_decode */
    }
    return batch_builder_add(b, e->timestamp_ms, e->key, e->value, d->headers, e->header_count);
}

/* The same events in the same order give the same batch: what the broker, and sealed_find, know it
 * by is in the plan. */
static int batch_build(struct delivery *d, size_t j)
{
    struct rv_spool *s = d->sender->spool;
    const struct plan *p = &s->plan;
    const struct plan_batch *b = &p->batches[j];
    struct batch_builder builder;
    struct batch_seal seal = batch_seal_plain;
    err e = OK;
    batch_builder_init(&builder);
    for (size_t i = 0; i < p->event_count && e == OK; i++) {
        if (p->of[i] == PLAN_IN + j) {
            e = record_add(d, &builder, &s->window.events[i]);
        }
    }
    seal.codec = s->settings.codec;
    seal.producer_id = b->producer_id;
    seal.producer_epoch = b->producer_epoch;
    seal.base_sequence = b->base_sequence;
    e = e == OK ? batch_builder_seal(&builder, &seal, &d->bytes[d->count]) : e;
    batch_builder_finish(&builder);
    if (e != OK) {
        return fail_set(&d->sender->error, e == ERR_MEMORY ? RV_E_MEMORY : RV_E_TOO_LARGE,
                        "topic %s partition %d: building a batch: %s", b->topic, (int)b->partition,
                        err_text(e));
    }
    d->batches[d->count] = (struct sealed_batch){.topic = b->topic,
                                                 .partition = b->partition,
                                                 .producer_id = b->producer_id,
                                                 .producer_epoch = b->producer_epoch,
                                                 .base_sequence = b->base_sequence,
                                                 .count = b->count,
                                                 .end_offset = b->end_offset,
                                                 .bytes = d->bytes[d->count].ptr,
                                                 .size = d->bytes[d->count].len,
                                                 .unsure = b->unsure};
    d->of[d->count++] = j;
    return RV_OK;
}

/* ---- fates ---- */

/* One record may be to blame for the whole batch. */
static bool is_divisible(int code)
{
    switch (code) {
    case KERR_MESSAGE_TOO_LARGE:
    case KERR_RECORD_LIST_TOO_LARGE:
    case KERR_INVALID_RECORD:
    case KERR_INVALID_TIMESTAMP:
    case RV_E_TOO_LARGE: return true;
    default: return false;
    }
}

static int batch_aside(struct delivery *d, size_t j, const struct sealed_batch *b, bool is_unsure)
{
    const struct plan *p = &d->sender->spool->plan;
    uint16_t which[PLAN_EVENTS];
    size_t count = 0;
    for (size_t i = 0; i < p->event_count; i++) {
        if (p->of[i] == PLAN_IN + j) {
            which[count++] = (uint16_t)i;
        }
    }
    const struct refusal why = {.code = b->code, .is_unsure = is_unsure, .why = str_of(b->why)};
    return aside(d->sender, which, count, &why);
}

static void batch_settled(struct delivery *d, size_t j, uint8_t state)
{
    plan_settle(&d->sender->spool->plan, j, state);
    d->got_on = true;
}

/* The sequences of a batch that is not in the log are free again. */
static void sequence_back(struct rv_spool *s, const struct plan_batch *b)
{
    if (b->producer_id == s->producer_id) {
        sequence_set(s, b->topic, b->partition, b->base_sequence);
    }
}

static int fate_refused(struct delivery *d, size_t j, const struct sealed_batch *b)
{
    struct rv_spool *s = d->sender->spool;
    struct plan_batch *planned = &s->plan.batches[j];
    if (planned->count > 1 && is_divisible(b->code)) {
        s->batch_most = (size_t)planned->count / 2;
        sequence_back(s, planned);
        batch_settled(d, j, PLAN_WAIT);
        return RV_OK;
    }
    int code = batch_aside(d, j, b, false);
    if (code == RV_OK) {
        sequence_back(s, planned);
        batch_settled(d, j, PLAN_DONE);
    }
    return code;
}

static int fate_unknowable(struct delivery *d, size_t j, const struct sealed_batch *b)
{
    int code = batch_aside(d, j, b, true);
    if (code == RV_OK) {
        identity_drop(d->sender->spool); /* nobody knows what its next sequence is */
        batch_settled(d, j, PLAN_DONE);
    }
    return code;
}

static int fate_open(struct delivery *d, size_t j, const struct sealed_batch *b)
{
    struct rv_spool *s = d->sender->spool;
    bool no_memory = false;
    fail_set(&d->sender->error, b->code ? b->code : RV_E_TIMED_OUT, "topic %s partition %d: %.180s",
             b->topic, (int)b->partition, b->fate == SEALED_OPEN ? "no time was left" : b->why);
    missing_unasked(d->sender, b->code);
    if (b->code != KERR_UNKNOWN_TOPIC_OR_PARTITION || !missing_note(s, b->topic, &no_memory)) {
        return no_memory ? fail_memory(&d->sender->error) : RV_OK;
    }
    return b->unsure ? fate_unknowable(d, j, b) : fate_refused(d, j, b);
}

static int fate_take(struct delivery *d, const struct sealed_batch *b, size_t j)
{
    struct rv_spool *s = d->sender->spool;
    s->plan.batches[j].unsure = b->unsure;
    switch (b->fate) {
    case SEALED_STORED:
        s->batch_most = s->batch_most * 2 < PLAN_EVENTS ? s->batch_most * 2 : PLAN_EVENTS;
        missing_forget(s, b->topic);
        batch_settled(d, j, PLAN_DONE);
        return RV_OK;
    case SEALED_REFUSED: return fate_refused(d, j, b);
    case SEALED_UNKNOWABLE: return fate_unknowable(d, j, b);
    case SEALED_RENEW:
        fail_set(&d->sender->error, b->code, "topic %s partition %d: %.180s", b->topic,
                 (int)b->partition, b->why);
        identity_drop(s);
        plan_settle(&s->plan, j, PLAN_WAIT);
        return RV_OK;
    case SEALED_OPEN:
    case SEALED_LATER:
    case SEALED_UNKNOWN: break;
    }
    return fate_open(d, j, b);
}

enum step deliver(struct sender *q)
{
    struct rv_spool *s = q->spool;
    struct delivery *d = mem_zero(1, sizeof *d);
    if (!d) {
        fail_memory(&q->error);
        return STEP_FAILED;
    }
    d->sender = q;
    int code = RV_OK;
    for (size_t j = 0; j < s->plan.batch_count && code == RV_OK; j++) {
        if (!s->plan.batches[j].is_settled) {
            code = batch_build(d, j);
        }
    }
    bool is_sent = code == RV_OK;
    if (is_sent) {
        code =
            q->carrier->send(q->carrier->ctx, d->batches, d->count, sender_time_left(q), &q->error);
    }
    for (size_t n = 0; n < d->count && is_sent; n++) { /* each, whatever became of the others */
        int taken = fate_take(d, &d->batches[n], d->of[n]);
        code = code == RV_OK ? taken : code;
    }
    bool got_on = d->got_on;
    for (size_t n = 0; n < PLAN_BATCHES; n++) {
        buf_finish(&d->bytes[n]);
    }
    mem_free(d->headers);
    mem_free(d);
    if (code != RV_OK) {
        return STEP_FAILED;
    }
    return got_on ? STEP_ON : STEP_LATER;
}

/* The format; numbers are big-endian:
 *
 *   first number (8) · events (4) · batches (4) · each batch: size of the topic's name (2), name,
 *   partition (4), producer id (8), epoch (2), base sequence (4), events (4), end offset (8) · each
 *   event: a byte as in struct plan
 */
#include "client/spool/plan.h"

#include "protocol/wire.h"

_Static_assert(PLAN_IN + PLAN_BATCHES <= UINT8_MAX, "an event's state is a byte");

void plan_encode(const struct plan *p, struct buf *out)
{
    put_number(out, p->first, 8);
    put_number(out, p->event_count, 4);
    put_number(out, p->batch_count, 4);
    for (size_t i = 0; i < p->batch_count; i++) {
        const struct plan_batch *b = &p->batches[i];
        put_number(out, strlen(b->topic), 2);
        buf_add(out, b->topic, strlen(b->topic));
        put_number(out, (uint32_t)b->partition, 4);
        put_number(out, (uint64_t)b->producer_id, 8);
        put_number(out, (uint16_t)b->producer_epoch, 2);
        put_number(out, (uint32_t)b->base_sequence, 4);
        put_number(out, (uint32_t)b->count, 4);
        put_number(out, (uint64_t)b->end_offset, 8);
    }
    buf_add(out, p->of, p->event_count);
}

static bool batch_take(struct reader *r, struct plan_batch *b)
{
    int16_t size = reader_int16(r);
    const uint8_t *name = size > 0 && size < PLAN_TOPIC_SIZE ? reader_take(r, (size_t)size) : NULL;
    if (!name) {
        return false;
    }
    memcpy(b->topic, name, (size_t)size);
    b->topic[size] = 0;
    b->partition = reader_int32(r);
    b->producer_id = reader_int64(r);
    b->producer_epoch = reader_int16(r);
    b->base_sequence = reader_int32(r);
    b->count = reader_int32(r);
    b->end_offset = reader_int64(r);
    b->is_settled = false;
    b->unsure = true;
    return r->error == OK && strlen(b->topic) == (size_t)size && b->partition >= 0 &&
           b->producer_id >= 0 && b->producer_epoch >= 0 && b->base_sequence >= 0 && b->count > 0 &&
           b->end_offset >= 0;
}

/* Each batch has the events that it says, and no two are of one partition. */
static bool is_consistent(const struct plan *p)
{
    int32_t counts[PLAN_BATCHES] = {0};
    for (size_t i = 0; i < p->event_count; i++) {
        if (p->of[i] >= PLAN_IN + p->batch_count) {
            return false;
        }
        if (p->of[i] >= PLAN_IN) {
            counts[p->of[i] - PLAN_IN]++;
        }
    }
    for (size_t i = 0; i < p->batch_count; i++) {
        if (counts[i] != p->batches[i].count) {
            return false;
        }
        for (size_t j = 0; j < i; j++) {
            if (p->batches[i].partition == p->batches[j].partition &&
                strcmp(p->batches[i].topic, p->batches[j].topic) == 0) {
                return false;
            }
        }
    }
    return true;
}

err plan_decode(struct bytes body, struct plan *ret_plan)
{
    struct reader r;
    struct plan *p = ret_plan;
    reader_init(&r, body.ptr, body.len);
    *p = (struct plan){.first = (uint64_t)reader_int64(&r)};
    int32_t events = reader_int32(&r);
    int32_t batches = reader_int32(&r);
    bool is_good = r.error == OK && events > 0 && events <= PLAN_EVENTS && batches > 0 &&
                   batches <= PLAN_BATCHES && p->first > 0 && p->first <= INT64_MAX;
    for (int32_t i = 0; is_good && i < batches; i++) {
        is_good = batch_take(&r, &p->batches[i]);
    }
    const uint8_t *of = is_good ? reader_take(&r, (size_t)events) : NULL;
    if (of) {
        memcpy(p->of, of, (size_t)events);
        p->event_count = (size_t)events;
        p->batch_count = (size_t)batches;
    }
    if (!of || reader_left(&r) > 0 || !is_consistent(p)) {
        p->event_count = 0;
        return ERR_CORRUPT;
    }
    return OK;
}

bool plan_has_open(const struct plan *p)
{
    for (size_t i = 0; i < p->batch_count; i++) {
        if (!p->batches[i].is_settled) {
            return true;
        }
    }
    return false;
}

bool plan_has_waiting(const struct plan *p)
{
    return memchr(p->of, PLAN_WAIT, p->event_count) != NULL;
}

void plan_settle(struct plan *p, size_t batch, uint8_t state)
{
    p->batches[batch].is_settled = true;
    for (size_t i = 0; i < p->event_count; i++) {
        if (p->of[i] == PLAN_IN + batch) {
            p->of[i] = state;
        }
    }
}

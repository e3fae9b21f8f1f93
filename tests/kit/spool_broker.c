#include "tests/kit/spool_broker.h"

#include "base/check.h"
#include "base/mem.h"
#include "client/sealed/fail.h"
#include "protocol/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INFLATED_LIMIT = 64 << 20 };

void spool_broker_init(struct spool_broker *b, struct sim_clock *clock, uint64_t seed)
{
    *b = (struct spool_broker){.clock = clock, .next_id = 100};
    rng_init(&b->rng, seed);
}

void spool_broker_finish(struct spool_broker *b)
{
    for (size_t i = 0; i < b->place_count; i++) {
        mem_free(b->places[i].numbers);
        mem_free(b->places[i].batches);
    }
}

void spool_broker_topic(struct spool_broker *b, const char *topic, int32_t partitions)
{
    for (int32_t i = 0; i < partitions; i++) {
        check(b->place_count < SPOOL_BROKER_PLACES);
        struct spool_broker_place *p = &b->places[b->place_count++];
        *p = (struct spool_broker_place){.partition = i};
        snprintf(p->topic, sizeof p->topic, "%s", topic);
    }
}

static struct spool_broker_place *place_of(struct spool_broker *b, const char *topic,
                                           int32_t partition)
{
    for (size_t i = 0; i < b->place_count; i++) {
        if (strcmp(b->places[i].topic, topic) == 0 && b->places[i].partition == partition) {
            return &b->places[i];
        }
    }
    return NULL;
}

void spool_broker_forget(struct spool_broker *b)
{
    for (size_t i = 0; i < b->place_count; i++) {
        b->places[i].known_from = b->places[i].batch_count;
    }
}

void spool_broker_expire(struct spool_broker *b, const char *topic, int32_t partition)
{
    struct spool_broker_place *p = place_of(b, topic, partition);
    check(p);
    p->start = (int64_t)p->count;
}

int spool_broker_count(const struct spool_broker *b, uint64_t number)
{
    int n = 0;
    for (size_t i = 0; i < b->place_count; i++) {
        for (size_t j = 0; j < b->places[i].count; j++) {
            n += b->places[i].numbers[j] == number;
        }
    }
    return n;
}

size_t spool_broker_total(const struct spool_broker *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->place_count; i++) {
        n += b->places[i].count;
    }
    return n;
}

/* ---- what is asked ---- */

static bool happens(struct spool_broker *b, int in_100)
{
    return rng_below(&b->rng, 100) < (uint64_t)in_100;
}

static int away(struct rv_error *ret_error)
{
    return fail_set(ret_error, RV_E_CONNECT, "the model is away");
}

static int model_identity(void *ctx, int timeout_ms, int64_t *ret_id, int16_t *ret_epoch,
                          struct rv_error *ret_error)
{
    struct spool_broker *b = ctx;
    (void)timeout_ms;
    if (b->is_away) {
        return away(ret_error);
    }
    *ret_id = b->next_id++;
    *ret_epoch = 0;
    return RV_OK;
}

static int model_partitions(void *ctx, const char *topic, int timeout_ms, int32_t *ret_count,
                            struct rv_error *ret_error)
{
    struct spool_broker *b = ctx;
    (void)timeout_ms;
    if (b->is_away) {
        return away(ret_error);
    }
    int32_t count = 0;
    while (place_of(b, topic, count)) {
        count++;
    }
    *ret_count = count;
    return count ? RV_OK
                 : fail_set(ret_error, KERR_UNKNOWN_TOPIC_OR_PARTITION, "no topic %s", topic);
}

static int model_ends(void *ctx, struct rv_partition *partitions, size_t count, int timeout_ms,
                      struct rv_error *ret_error)
{
    struct spool_broker *b = ctx;
    (void)timeout_ms;
    if (b->is_away) {
        return away(ret_error);
    }
    for (size_t i = 0; i < count; i++) {
        const struct spool_broker_place *p =
            place_of(b, partitions[i].topic, partitions[i].partition);
        partitions[i].code = p ? RV_OK : KERR_UNKNOWN_TOPIC_OR_PARTITION;
        partitions[i].offset = p ? (int64_t)p->count : -1;
    }
    return RV_OK;
}

static void model_pause(void *ctx, int ms)
{
    struct spool_broker *b = ctx;
    sim_clock_advance_ms(b->clock, ms);
    if (b->on_pause) {
        b->on_pause(b->ctx);
    }
}

/* ---- batches ---- */

static bool is_same(const struct spool_broker_batch *x, const struct sealed_batch *in)
{
    return x->producer_id == in->producer_id && x->epoch == in->producer_epoch &&
           x->base_sequence == in->base_sequence;
}

static uint64_t number_of(struct bytes value)
{
    char text[24];
    check(value.len > 0 && value.len < sizeof text);
    memcpy(text, value.ptr, value.len);
    text[value.len] = 0;
    return strtoull(text, NULL, 10);
}

/* The numbers of a batch, which must be what its sender says it is. */
static size_t numbers_read(const struct sealed_batch *in, uint64_t *numbers)
{
    struct batch_scratch scratch = {0};
    struct batch_iterator it;
    struct batch_info info;
    enum batch_flaw flaw;
    check(batch_validate(in->bytes, in->size, INFLATED_LIMIT, &scratch, &info, &flaw) == OK);
    check(info.count == in->count && info.producer_id == in->producer_id &&
          info.producer_epoch == in->producer_epoch && info.base_sequence == in->base_sequence);
    check(batch_iterator_init(&it, in->bytes, in->size, INFLATED_LIMIT, &scratch) == OK);
    struct record r;
    size_t n = 0;
    while (batch_iterator_next(&it, &r) == OK) {
        check(n < PLAN_EVENTS);
        numbers[n++] = number_of(r.value);
    }
    batch_scratch_finish(&scratch);
    check(n == (size_t)in->count);
    return n;
}

static void store(struct spool_broker_place *p, const struct sealed_batch *in,
                  const uint64_t *numbers, size_t n)
{
    if (p->count + n > p->room) {
        p->room = (p->count + n) * 2;
        p->numbers = mem_need_resize(p->numbers, p->room * sizeof *p->numbers);
    }
    if (p->batch_count == p->batch_room) {
        p->batch_room = p->batch_room ? p->batch_room * 2 : 64;
        p->batches = mem_need_resize(p->batches, p->batch_room * sizeof *p->batches);
    }
    p->batches[p->batch_count++] = (struct spool_broker_batch){.producer_id = in->producer_id,
                                                               .epoch = in->producer_epoch,
                                                               .base_sequence = in->base_sequence,
                                                               .count = in->count,
                                                               .offset = (int64_t)p->count};
    memcpy(p->numbers + p->count, numbers, n * sizeof *numbers);
    p->count += n;
}

/* The newest batch of the producer that the broker remembers. */
static const struct spool_broker_batch *remembered(const struct spool_broker_place *p, int64_t id)
{
    for (size_t i = p->batch_count; i > p->known_from; i--) {
        if (p->batches[i - 1].producer_id == id) {
            return &p->batches[i - 1];
        }
    }
    return NULL;
}

/* What the broker does with a batch: its answer's code. */
static int16_t produce(struct spool_broker *b, const struct sealed_batch *in, int64_t *ret_offset)
{
    static uint64_t numbers[PLAN_EVENTS];
    struct spool_broker_place *p = place_of(b, in->topic, in->partition);
    size_t n = numbers_read(in, numbers);
    b->sent++;
    if (b->code) {
        return b->code;
    }
    if (!p) {
        return KERR_UNKNOWN_TOPIC_OR_PARTITION;
    }
    const struct spool_broker_batch *known = remembered(p, in->producer_id);
    if (known && is_same(known, in)) {
        check(known->count == in->count);
        *ret_offset = known->offset;
        return KERR_NONE;
    }
    if (known && in->base_sequence != sealed_next(known->base_sequence, known->count)) {
        return KERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    }
    if (b->most && n > b->most) {
        return KERR_MESSAGE_TOO_LARGE;
    }
    for (size_t i = 0; i < n; i++) {
        if (b->bad_code && numbers[i] % 10 == 7) {
            return b->bad_code;
        }
    }
    *ret_offset = (int64_t)p->count;
    store(p, in, numbers, n);
    return KERR_NONE;
}

/* As sealed_find. */
static enum sealed_place look(struct spool_broker *b, const struct sealed_batch *in,
                              int64_t *ret_offset)
{
    const struct spool_broker_place *p = place_of(b, in->topic, in->partition);
    check(p && in->end_offset >= 0 && in->end_offset <= (int64_t)p->count);
    for (size_t i = 0; i < p->batch_count; i++) {
        const struct spool_broker_batch *x = &p->batches[i];
        if (x->offset >= in->end_offset && x->offset >= p->start && is_same(x, in)) {
            check(x->count == in->count);
            *ret_offset = x->offset;
            return SEALED_FOUND;
        }
    }
    return in->end_offset < p->start ? SEALED_GONE : SEALED_ABSENT;
}

static void fate_set(struct sealed_batch *in, enum sealed_fate fate, int code, const char *why)
{
    in->fate = fate;
    in->code = code;
    snprintf(in->why, sizeof in->why, "%s", why);
    in->unsure = fate == SEALED_UNKNOWN || (in->unsure && fate != SEALED_STORED);
}

static void fate_of(struct sealed_batch *in, int16_t code)
{
    switch (code) {
    case KERR_NONE: fate_set(in, SEALED_STORED, 0, ""); break;
    case KERR_OUT_OF_ORDER_SEQUENCE_NUMBER: fate_set(in, SEALED_RENEW, code, "a gap"); break;
    default:
        fate_set(in, kafka_error_is_retriable(code) ? SEALED_LATER : SEALED_REFUSED, code,
                 kafka_error_text(code));
    }
}

static void send_one(struct spool_broker *b, struct sealed_batch *in)
{
    int64_t offset = -1;
    if (b->is_away) {
        fate_set(in, SEALED_LATER, RV_E_CONNECT, "the model is away");
        return;
    }
    if (in->unsure && place_of(b, in->topic, in->partition)) {
        switch (look(b, in, &offset)) {
        case SEALED_FOUND:
            b->found++;
            in->offset = offset;
            fate_set(in, SEALED_STORED, 0, "");
            return;
        case SEALED_GONE: fate_set(in, SEALED_UNKNOWABLE, RV_E_NO_OFFSET, "gone"); return;
        case SEALED_ABSENT: in->unsure = false; break;
        }
    } else if (in->unsure) {
        fate_set(in, SEALED_LATER, KERR_UNKNOWN_TOPIC_OR_PARTITION, "no topic");
        return;
    }
    if (happens(b, b->lose_request)) {
        fate_set(in, SEALED_UNKNOWN, RV_E_LOST, "the request was lost");
        return;
    }
    int16_t code = produce(b, in, &offset);
    if (happens(b, b->lose_answer)) {
        fate_set(in, SEALED_UNKNOWN, RV_E_LOST, "the answer was lost");
        return;
    }
    in->offset = offset;
    fate_of(in, code);
}

static int model_send(void *ctx, struct sealed_batch *batches, size_t count, int timeout_ms,
                      struct rv_error *ret_error)
{
    struct spool_broker *b = ctx;
    (void)timeout_ms;
    (void)ret_error;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            check(batches[i].partition != batches[j].partition ||
                  strcmp(batches[i].topic, batches[j].topic) != 0);
        }
        batches[i].offset = -1;
        send_one(b, &batches[i]);
    }
    return RV_OK;
}

struct carrier spool_broker_carrier(struct spool_broker *b)
{
    return (struct carrier){.identity = model_identity,
                            .partitions = model_partitions,
                            .ends = model_ends,
                            .send = model_send,
                            .pause = model_pause,
                            .ctx = b};
}

/* Idempotent producers. One with acks=1 begins anew when the power took what it had been told. */
#include "base/bytes.h"
#include "base/check.h"
#include "gen/apis.h"
#include "gen/init_producer_id.h"
#include "gen/produce.h"
#include "protocol/batch.h"
#include "protocol/error.h"
#include "tests/kit/sim_actors.h"

#include <stdio.h>
#include <string.h>

enum { RECORDS_MAX = 3 }; /* of a batch */

void sim_producer_forget(struct sim_actor *a)
{
    a->producer = -1;
    memset(a->lanes, 0, sizeof a->lanes);
}

static struct wire_records records_of(struct sim_world *w, const struct sim_actor *a, int partition,
                                      const struct sim_batch *b)
{
    static const char filler[300];
    struct batch_builder builder;
    struct batch_seal seal = batch_seal_plain;
    struct buf out = {0};
    batch_builder_init(&builder);
    for (int32_t i = 0; i < b->count; i++) {
        uint8_t value[12 + sizeof filler] = {0};
        size_t size = 12 + (size_t)(b->sequence + i) * 37 % sizeof filler;
        put_be64(value, model_record_of(a->producer, b->sequence + i));
        put_be32(value + 8, (uint32_t)partition);
        check(!batch_builder_add(&builder, w->k.logs.clock.wall_ms, (struct bytes){0},
                                 (struct bytes){value, size}, NULL, 0));
    }
    seal.producer_id = a->producer;
    seal.producer_epoch = 0;
    seal.base_sequence = b->sequence;
    seal.codec = b->sequence % 3 == 0 ? CODEC_LZ4 : CODEC_NONE; /* a retry has the same bytes */
    check(!batch_builder_seal(&builder, &seal, &out));
    batch_builder_finish(&builder);
    struct wire_records r = {.ptr = arena_dup(&w->arena, out.ptr, out.len), .len = out.len};
    check(r.ptr);
    buf_finish(&out);
    return r;
}

/* The batch to send to a partition now: the oldest that is not under way, a new one, or, at times,
 * one that is sent twice. NULL: none. */
static struct sim_batch *batch_to_send(struct sim_world *w, struct sim_lane *l)
{
    for (int i = 0; i < l->count; i++) {
        if (!l->batches[i].sent || sim_chance(w, 5)) {
            return &l->batches[i];
        }
    }
    if (l->count == SIM_IN_FLIGHT || sim_chance(w, 30)) {
        return NULL;
    }
    struct sim_batch *b = &l->batches[l->count++];
    *b = (struct sim_batch){.sequence = l->next_sequence, .count = 1 + sim_below(w, RECORDS_MAX)};
    l->next_sequence += b->count;
    return b;
}

static void produce(struct sim_world *w, struct sim_actor *a)
{
    struct produce_request r;
    struct sim_batch sent[SIM_PARTITIONS] = {0};
    bool any = false;
    produce_request_init(&r);
    r.acks = a->acks;
    r.timeout_ms = 1000;
    r.topics = SIM_NEWS(w, produce_request_topic, SIM_TOPICS);
    r.topics_count = SIM_TOPICS;
    for (int t = 0; t < SIM_TOPICS; t++) {
        struct produce_request_topic *topic = &r.topics[t];
        topic->name = sim_topic(t);
        topic->partitions = SIM_NEWS(w, produce_request_partition, sim_topic_count(t));
        for (int32_t i = 0; i < sim_topic_count(t); i++) {
            int p = sim_topic_first(t) + i;
            struct sim_batch *b = sim_chance(w, 50) ? batch_to_send(w, &a->lanes[p]) : NULL;
            if (b) {
                b->sent = true;
                sent[p] = *b;
                topic->partitions[topic->partitions_count++] = (struct produce_request_partition){
                    .index = i, .records = records_of(w, a, p, b)};
                any = true;
            }
        }
    }
    if (any) {
        struct sim_question *q = sim_ask(w, a, ASKED_PRODUCE, API_PRODUCE, 3, 12, &r);
        memcpy(q->batches, sent, sizeof sent);
    }
}

void sim_producer_act(struct sim_world *w, struct sim_actor *a)
{
    if (a->producer >= 0) {
        produce(w, a);
    } else if (sim_client_waiting(&a->c) == 0) {
        struct init_producer_id_request r;
        init_producer_id_request_init(&r);
        r.transactional_id = (struct str){0};
        sim_ask(w, a, ASKED_ID, API_INIT_PRODUCER_ID, 0, 4, &r);
    }
}

static void take_id(struct sim_world *w, struct sim_actor *a,
                    const struct init_producer_id_response *r)
{
    if (!r->error_code) {
        model_given(&w->m, r->producer_id);
        sim_producer_forget(a);
        a->producer = r->producer_id;
    }
}

/* What is behind a batch that was refused was refused with it, or will be. */
static void send_again_from(struct sim_lane *l, int from)
{
    for (int i = from; i < l->count; i++) {
        l->batches[i].sent = false;
    }
}

static void take_acked(struct sim_world *w, struct sim_actor *a, int partition,
                       const struct sim_batch *b, int64_t base_offset, int at)
{
    struct sim_lane *l = &a->lanes[partition];
    for (int32_t i = 0; i < b->count; i++) {
        model_acked(&w->m, partition, base_offset + i,
                    model_record_of(a->producer, b->sequence + i), a->acks != 1);
    }
    if (at < l->count) {
        l->count--;
        memmove(&l->batches[at], &l->batches[at + 1],
                (size_t)(l->count - at) * sizeof l->batches[0]);
    }
}

/* False: the producer begins anew. */
static bool take_batch(struct sim_world *w, struct sim_actor *a, int partition,
                       const struct sim_batch *b, const struct produce_response_partition *r)
{
    struct sim_lane *l = &a->lanes[partition];
    int at = 0;
    while (at < l->count && l->batches[at].sequence != b->sequence) {
        at++;
    }
    bool waits = at < l->count;
    switch (r->error_code) {
    case KERR_NONE: take_acked(w, a, partition, b, r->base_offset, at); return true;
    case KERR_KAFKA_STORAGE_ERROR:
    case KERR_NOT_LEADER_OR_FOLLOWER: send_again_from(l, at); return true;
    case KERR_OUT_OF_ORDER_SEQUENCE_NUMBER:
        if (waits && at == 0) {
            check(a->acks == 1); /* else all before it is lasting */
            return false;
        }
        send_again_from(l, at);
        return true;
    default:
        fprintf(stderr, "produce: error %d\n", r->error_code);
        check(!"an answer that a producer may be given");
    }
    return true;
}

static void take_produce(struct sim_world *w, struct sim_actor *a, const struct sim_question *q,
                         const struct produce_response *r)
{
    bool goes_on = true;
    for (int32_t t = 0; t < r->topics_count; t++) {
        for (int32_t i = 0; i < r->topics[t].partitions_count && goes_on; i++) {
            const struct produce_response_partition *out = &r->topics[t].partitions[i];
            int p = sim_partition_of(r->topics[t].name, out->index);
            check(q->batches[p].count > 0);
            goes_on = take_batch(w, a, p, &q->batches[p], out);
        }
    }
    if (!goes_on) {
        sim_client_close(&a->c);
        sim_producer_forget(a);
    }
}

void sim_producer_take(struct sim_world *w, struct sim_actor *a, const struct sim_question *q,
                       const void *answer)
{
    if (q->kind == ASKED_ID) {
        take_id(w, a, answer);
    } else {
        take_produce(w, a, q, answer);
    }
}

void sim_producer_lost(struct sim_actor *a)
{
    for (int p = 0; p < SIM_PARTITIONS; p++) {
        send_again_from(&a->lanes[p], 0);
    }
}

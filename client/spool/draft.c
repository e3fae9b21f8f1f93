/* Plans: which events of the window go into which batch. Of a partition a plan has one batch at
 * most, with its next events in order: whatever does not fit waits, and all behind it. */
#include "base/check.h"
#include "client/sealed/fail.h"
#include "client/spool/internal.h"
#include "protocol/error.h"

#include <stdio.h>
#include <string.h>

/* ---- identities ---- */

/* In the map one more, so that it is never NULL. */
int32_t sequence_get(const struct rv_spool *s, const char *topic, int32_t partition)
{
    char key[PLACE_KEY_SIZE];
    place_key(key, topic, partition);
    uintptr_t more = (uintptr_t)map_get_str(&s->sequences, str_of(key));
    return more ? (int32_t)(more - 1) : 0;
}

void sequence_set(struct rv_spool *s, const char *topic, int32_t partition, int32_t sequence)
{
    char key[PLACE_KEY_SIZE];
    if (s->producer_id < 0) {
        return;
    }
    place_key(key, topic, partition);
    if (map_put_str(&s->sequences, str_of(key), (void *)((uintptr_t)sequence + 1)) != OK) {
        identity_drop(s); /* no memory to remember it: another one begins at 0 everywhere */
    }
}

void identity_drop(struct rv_spool *s)
{
    uint64_t seed = s->sequences.seed;
    map_finish(&s->sequences);
    map_init(&s->sequences, seed);
    s->producer_id = -1;
}

/* ---- where events go ---- */

struct lookup { /* of one topic, while one plan is made */
    struct str topic;
    int32_t count; /* partitions; 0: not to be had now */
    int code;      /* why */
    bool is_over;  /* its events are to be set aside */
};

struct draft {
    struct sender *sender;
    struct lookup lookups[PLAN_BATCHES];
    size_t lookup_count;
    uint16_t refused[PLAN_EVENTS]; /* events to set aside, of one code */
    size_t refused_count;
    struct rv_error why; /* the last thing that keeps events waiting */
};

static bool is_transport(int code) /* nothing is said of the topic */
{
    return code < 0 || code == KERR_BROKER_NOT_AVAILABLE;
}

/* False: the plan cannot be made now, q->error says why. */
static bool lookup_fill(struct draft *d, struct lookup *l)
{
    struct sender *q = d->sender;
    struct rv_spool *s = q->spool;
    char name[PLAN_TOPIC_SIZE];
    struct rv_error e = {0};
    snprintf(name, sizeof name, "%.*s", STR_ARG(l->topic));
    l->code = q->carrier->partitions(q->carrier->ctx, name, sender_time_left(q), &l->count, &e);
    if (l->code == RV_OK) {
        missing_forget(s, name);
        return true;
    }
    l->count = 0;
    d->why = e;
    if (is_transport(l->code)) {
        missing_unasked(q, l->code);
        q->error = e;
        return false;
    }
    bool no_memory = false;
    l->is_over = l->code == KERR_UNKNOWN_TOPIC_OR_PARTITION
                     ? missing_note(s, name, &no_memory)
                     : !kafka_error_is_retriable((int16_t)l->code);
    if (no_memory) {
        fail_memory(&q->error);
    }
    return !no_memory;
}

/* NULL: no room in the table (q->error.code RV_OK), or the plan cannot be made now. */
static struct lookup *lookup_of(struct draft *d, struct str topic)
{
    for (size_t i = 0; i < d->lookup_count; i++) {
        if (str_eq(d->lookups[i].topic, topic)) {
            return &d->lookups[i];
        }
    }
    if (d->lookup_count == PLAN_BATCHES) {
        return NULL;
    }
    struct lookup *l = &d->lookups[d->lookup_count];
    *l = (struct lookup){.topic = topic};
    if (!lookup_fill(d, l)) {
        return NULL;
    }
    d->lookup_count++;
    return l;
}

/* The partition of an event; -1: none now, *ret_over: none ever. */
static int32_t partition_of(struct draft *d, const struct event *e, const struct lookup *l,
                            bool *ret_over, int *ret_code)
{
    struct rv_spool *s = d->sender->spool;
    *ret_over = l->is_over;
    *ret_code = l->code;
    if (l->count == 0) {
        return -1;
    }
    if (e->partition < 0) {
        return e->key.ptr ? rv_partition_of_key(e->key.ptr, e->key.len, l->count)
                          : (int32_t)(s->plan.first % (uint64_t)l->count);
    }
    char key[PLACE_KEY_SIZE], name[PLAN_TOPIC_SIZE];
    snprintf(name, sizeof name, "%.*s", STR_ARG(e->topic));
    place_key(key, name, e->partition);
    if (e->partition < l->count) {
        missing_forget(s, key);
        return e->partition;
    }
    bool no_memory = false;
    *ret_over = missing_note(s, key, &no_memory);
    *ret_code = KERR_UNKNOWN_TOPIC_OR_PARTITION;
    fail_set(&d->why, *ret_code, "topic %s has no partition %d", name, (int)e->partition);
    if (no_memory) {
        fail_memory(&d->sender->error);
    }
    return -1;
}

/* Puts event `i` into the batch of its partition, if it has room. */
static void batch_add(struct rv_spool *s, size_t i, int32_t partition)
{
    struct plan *p = &s->plan;
    const struct event *e = &s->window.events[i];
    size_t size = e->key.len + e->value.len + e->headers_size;
    size_t j = 0;
    while (j < p->batch_count && (p->batches[j].partition != partition ||
                                  !str_eq(str_of(p->batches[j].topic), e->topic))) {
        j++;
    }
    if (j == PLAN_BATCHES) {
        return;
    }
    struct plan_batch *b = &p->batches[j];
    if (j == p->batch_count) {
        *b = (struct plan_batch){.partition = partition};
        memcpy(b->topic, e->topic.ptr, e->topic.len); /* is_legal: it fits */
        p->batch_count++;
    }
    b->is_full |=
        b->count > 0 && (b->bytes + size > BATCH_BYTES || (size_t)b->count >= s->batch_most);
    if (!b->is_full) {
        b->count++;
        b->bytes += size;
        p->of[i] = (uint8_t)(PLAN_IN + j);
    }
}

/* All that is to be set aside with one code, at once. */
static int draft_refuse(struct draft *d, int code)
{
    struct sender *q = d->sender;
    struct plan *p = &q->spool->plan;
    char why[160];
    snprintf(why, sizeof why, "%s: %s", kafka_error_name((int16_t)code),
             kafka_error_text((int16_t)code));
    const struct refusal r = {.code = code, .why = str_of(why)};
    int result = aside(q, d->refused, d->refused_count, &r);
    for (size_t n = 0; n < d->refused_count; n++) {
        if (q->spool->is_aside[d->refused[n]]) {
            p->of[d->refused[n]] = PLAN_DONE;
        }
    }
    d->refused_count = 0;
    return result;
}

/* q->error.code says whether it went well. */
static void draft_route(struct draft *d)
{
    struct sender *q = d->sender;
    struct rv_spool *s = q->spool;
    int refused_code = RV_OK;
    for (size_t i = 0; i < s->plan.event_count && q->error.code == RV_OK; i++) {
        const struct event *e = &s->window.events[i];
        if (s->plan.of[i] != PLAN_WAIT) {
            continue;
        }
        const struct lookup *l = lookup_of(d, e->topic);
        if (!l) {
            continue;
        }
        bool is_over = false;
        int code = RV_OK;
        int32_t partition = partition_of(d, e, l, &is_over, &code);
        if (partition >= 0) {
            batch_add(s, i, partition);
        } else if (is_over) {
            if (d->refused_count && code != refused_code) {
                draft_refuse(d, refused_code);
            }
            refused_code = code;
            d->refused[d->refused_count++] = (uint16_t)i;
        }
    }
    if (d->refused_count && q->error.code == RV_OK) {
        draft_refuse(d, refused_code);
    }
}

/* ---- making it last ---- */

/* Nothing of the draft was sent: its events wait again. */
static void draft_drop(struct plan *p)
{
    for (size_t j = 0; j < p->batch_count; j++) {
        plan_settle(p, j, PLAN_WAIT);
    }
    p->batch_count = 0;
}

static int draft_identity(struct sender *q)
{
    struct rv_spool *s = q->spool;
    const struct carrier *c = q->carrier;
    struct rv_partition ends[PLAN_BATCHES];
    struct plan *p = &s->plan;
    int code = RV_OK;
    if (s->producer_id < 0) {
        code = c->identity(c->ctx, sender_time_left(q), &s->producer_id, &s->producer_epoch,
                           &q->error);
    }
    for (size_t j = 0; j < p->batch_count; j++) {
        ends[j] = (struct rv_partition){.topic = p->batches[j].topic,
                                        .partition = p->batches[j].partition};
    }
    code = code == RV_OK ? c->ends(c->ctx, ends, p->batch_count, sender_time_left(q), &q->error)
                         : code;
    for (size_t j = 0; j < p->batch_count && code == RV_OK; j++) {
        struct plan_batch *b = &p->batches[j];
        if (ends[j].code != RV_OK || ends[j].offset < 0) {
            code = fail_set(&q->error, ends[j].code ? ends[j].code : RV_E_PROTOCOL,
                            "topic %s partition %d: where it ends: %s", b->topic, (int)b->partition,
                            rv_error_name(ends[j].code));
        }
        b->producer_id = s->producer_id;
        b->producer_epoch = s->producer_epoch;
        b->base_sequence = sequence_get(s, b->topic, b->partition);
        b->end_offset = ends[j].offset;
    }
    return code;
}

enum step draft_make(struct sender *q)
{
    struct rv_spool *s = q->spool;
    struct plan *p = &s->plan;
    struct draft d = {.sender = q};
    check(!plan_has_open(p));
    p->batch_count = 0;
    draft_route(&d);
    if (q->error.code != RV_OK) {
        draft_drop(p);
        return q->error.code == RV_E_MEMORY || q->error.code == RV_E_IO ? STEP_FAILED : STEP_LATER;
    }
    if (p->batch_count == 0) {
        q->error = d.why;
        return plan_has_waiting(p) ? STEP_LATER : STEP_ON;
    }
    if (draft_identity(q) != RV_OK) {
        draft_drop(p);
        return q->error.code == RV_E_MEMORY ? STEP_FAILED : STEP_LATER;
    }
    pthread_mutex_lock(&s->lock);
    int code = sending_plan(&s->sending, p, &q->error);
    pthread_mutex_unlock(&s->lock);
    if (code != RV_OK) {
        draft_drop(p);
        return STEP_FAILED;
    }
    for (size_t j = 0; j < p->batch_count; j++) {
        const struct plan_batch *b = &p->batches[j];
        sequence_set(s, b->topic, b->partition, sealed_next(b->base_sequence, b->count));
    }
    return STEP_ON;
}

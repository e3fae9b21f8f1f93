/* plan: what becomes of a window of events: which batches they go in, each with its identity, and
 * which are done with or have to wait for another plan. It is on disk before the first of its
 * batches is sent (client/spool/sending.h). The format is at the head of plan.c.
 */
#pragma once

#include "base/str.h"
#include "client/spool/event.h"

enum {
    PLAN_EVENTS = 1000, /* of one window */
    PLAN_BATCHES = 100, /* of one plan */
    PLAN_TOPIC_SIZE = EVENT_TOPIC_LIMIT + 1,

    PLAN_DONE = 0, /* the event is delivered, or set aside */
    PLAN_WAIT = 1, /* it is in none of these batches */
    PLAN_IN = 2,   /* and what is above: in the batch of this number less PLAN_IN */
};

struct plan_batch {
    char topic[PLAN_TOPIC_SIZE]; /* 0-terminated */
    int32_t partition;
    int64_t producer_id;
    int16_t producer_epoch;
    int32_t base_sequence;
    int32_t count;      /* events */
    int64_t end_offset; /* of the partition before it was first sent */

    /* not on disk */
    bool is_settled; /* nothing is to be sent any more */
    bool unsure;     /* as in sealed.h; after a restart every batch is */
    size_t bytes;    /* of its events */
    bool is_full;    /* takes no more events of this plan */
};

struct plan {
    uint64_t first;          /* number of the window's first event */
    size_t event_count;      /* of the window; 0: there is no plan */
    uint8_t of[PLAN_EVENTS]; /* of each event: PLAN_DONE, PLAN_WAIT, PLAN_IN + batch */
    struct plan_batch batches[PLAN_BATCHES];
    size_t batch_count;
};

void plan_encode(const struct plan *p, struct buf *out);
err plan_decode(struct bytes body, struct plan *ret_plan); /* ERR_CORRUPT: *ret_plan is none */

static inline uint64_t plan_last(const struct plan *p) /* the window's last number */
{
    return p->first + p->event_count - 1;
}

bool plan_has_open(const struct plan *p);    /* a batch that is not settled */
bool plan_has_waiting(const struct plan *p); /* an event that is in no batch and not done */

/* Its events become `state`; the batch is settled. */
void plan_settle(struct plan *p, size_t batch, uint8_t state);

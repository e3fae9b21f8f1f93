/* The sender, a window of events at a time:
 *
 *   load the window -> plan what waits -> send the open batches -> (waiting ones left: plan again)
 *                                                                -> all done: the next window
 *
 * Invariants:
 *   R1  a batch is sent only with a plan that is on the medium, which has its identity (draft.c)
 *   R2  a plan is made only when no batch is open: whatever was sent has a fate that is known
 *   R3  events are read for sending only when they are on the medium (S3)
 */
#include "base/check.h"
#include "base/mem.h"
#include "base/rand.h"
#include "client/sealed/fail.h"
#include "client/spool/internal.h"

#include <string.h>

enum {
    PAUSE_MS = 50,
    PAUSE_MAX_MS = 1000,
    QUESTION_MS = 10000, /* for one question: what keeps it from being answered is to be seen */
};

void sender_init(struct rv_spool *s)
{
    uint64_t seed;
    rand_system(&seed, sizeof seed);
    map_init(&s->sequences, seed);
    map_init(&s->missing, seed);
    s->producer_id = -1;
    s->batch_most = PLAN_EVENTS;
}

void sender_finish(struct rv_spool *s)
{
    for (struct map_entry *e = map_first(&s->missing); e; e = map_next(e)) {
        mem_free(map_value(e));
    }
    map_finish(&s->missing);
    map_finish(&s->sequences);
    buf_finish(&s->window.bytes);
    mem_free(s->window.events);
    sealed_destroy(s->sealed);
}

int sender_time_left(const struct sender *q)
{
    int64_t left = q->deadline_ms - clock_mono_ms(q->spool->clock);
    return left < 0 ? 0 : left > QUESTION_MS ? QUESTION_MS : (int)left;
}

/* ---- windows ---- */

static enum step window_begin(struct sender *q)
{
    struct rv_spool *s = q->spool;
    struct plan *p = &s->plan;
    uint64_t first = s->sending.delivered + 1;
    bool is_planned = p->event_count > 0;       /* before a restart */
    int code = spool_sync_locked(s, &q->error); /* R3 */
    if (code == RV_OK) {
        code =
            window_load(s, first, is_planned ? p->event_count : PLAN_EVENTS, is_planned, &q->error);
    }
    if (code != RV_OK) {
        return STEP_FAILED;
    }
    if (s->window.count == 0) {
        return STEP_IDLE;
    }
    s->oldest_ms = s->window.events[0].appended_ms;
    if (!is_planned) {
        p->first = first;
        p->event_count = s->window.count;
        p->batch_count = 0;
        for (size_t i = 0; i < p->event_count; i++) {
            p->of[i] = s->is_aside[i] ? PLAN_DONE : PLAN_WAIT;
        }
    }
    check(s->window.count == p->event_count);
    return STEP_ON;
}

static enum step window_end(struct sender *q)
{
    struct rv_spool *s = q->spool;
    uint64_t last = plan_last(&s->plan);
    int code = spool_done_locked(s, last, &q->error);
    if (s->sending.delivered == last) {
        s->from_first = s->window.after_first;
        s->from_position = s->window.after_position;
        if (s->from_first < s->segments[0].first) { /* it was removed */
            s->from_first = s->segments[0].first;
            s->from_position = CHAIN_FILE_HEAD_SIZE;
        }
        s->plan.event_count = s->plan.batch_count = 0;
        s->window.count = 0;
        memset(s->is_aside, 0, sizeof s->is_aside);
        s->oldest_ms = last + 1 == spool_next(s) ? -1 : s->oldest_ms;
    }
    return code == RV_OK ? STEP_ON : STEP_FAILED;
}

static enum step step(struct sender *q)
{
    struct rv_spool *s = q->spool;
    struct plan *p = &s->plan;
    q->error = (struct rv_error){0};
    enum step result = STEP_ON;
    pthread_mutex_lock(&s->lock);
    if (s->window.count == 0) {
        result = window_begin(q);
    } else if (!plan_has_open(p) && !plan_has_waiting(p)) {
        result = window_end(q);
    }
    bool is_at_network = result == STEP_ON && s->window.count > 0;
    pthread_mutex_unlock(&s->lock);
    if (!is_at_network) {
        return result;
    }
    if (plan_has_open(p)) {
        return deliver(q);
    }
    return plan_has_waiting(p) ? draft_make(q) : STEP_ON; /* R2 */
}

/* ---- until it is done, or time is up ---- */

static void note(struct rv_spool *s, const struct rv_error *error) /* RV_OK: it gets on */
{
    pthread_mutex_lock(&s->lock);
    s->last_error = *error;
    if (error->code == RV_OK) {
        s->failing_ms = -1;
    } else if (s->failing_ms < 0) {
        s->failing_ms = clock_wall_ms(s->clock);
    }
    pthread_mutex_unlock(&s->lock);
}

static void pause(struct sender *q, int failures)
{
    int ms = PAUSE_MS << (failures < 5 ? failures : 5);
    ms = ms < PAUSE_MAX_MS ? ms : PAUSE_MAX_MS;
    int left = sender_time_left(q);
    q->carrier->pause(q->carrier->ctx, ms < left ? ms : left);
}

static bool has_work(struct rv_spool *s)
{
    pthread_mutex_lock(&s->lock);
    bool is_there = spool_next(s) > s->sending.delivered + 1;
    pthread_mutex_unlock(&s->lock);
    return is_there;
}

static int send_all(struct sender *q, struct rv_error *ret_error)
{
    static const struct rv_error none = {0};
    struct rv_error last = {0};
    for (int failures = 0;;) {
        enum step r = step(q);
        /* What is short of room may find some: files go, or somebody makes it. */
        if (r == STEP_FAILED && q->error.code == RV_E_FULL) {
            r = STEP_LATER;
        }
        switch (r) {
        case STEP_IDLE: note(q->spool, &none); return RV_OK;
        case STEP_ON:
            note(q->spool, &none);
            failures = 0;
            break;
        case STEP_LATER:
            last = q->error;
            note(q->spool, &last);
            pause(q, failures++);
            break;
        case STEP_FAILED:
            note(q->spool, &q->error);
            if (ret_error) {
                *ret_error = q->error;
            }
            return q->error.code;
        }
        if (sender_time_left(q) == 0 && has_work(q->spool)) {
            return fail_set(ret_error, RV_E_TIMED_OUT, "spool %s: not everything is sent%s%s",
                            q->spool->settings.dir, last.code ? ": " : "", last.text);
        }
    }
}

static int sender_take(struct rv_spool *s, struct rv_error *ret_error)
{
    pthread_mutex_lock(&s->lock);
    bool is_busy = s->is_sending;
    s->is_sending = true;
    pthread_mutex_unlock(&s->lock);
    return is_busy ? fail_set(ret_error, RV_E_STATE, "spool %s: another call is sending",
                              s->settings.dir)
                   : RV_OK;
}

static void sender_release(struct rv_spool *s)
{
    pthread_mutex_lock(&s->lock);
    s->is_sending = false;
    pthread_mutex_unlock(&s->lock);
}

static int send_for(struct rv_spool *s, const struct carrier *carrier, int timeout_ms,
                    struct rv_error *ret_error)
{
    struct sender q = {.spool = s,
                       .carrier = carrier,
                       .deadline_ms =
                           timeout_ms < 0 ? INT64_MAX : clock_after_ms(s->clock, timeout_ms)};
    return send_all(&q, ret_error);
}

int spool_send_by(struct rv_spool *s, const struct carrier *carrier, int timeout_ms,
                  struct rv_error *ret_error)
{
    int code = sender_take(s, ret_error);
    if (code == RV_OK) {
        code = send_for(s, carrier, timeout_ms, ret_error);
        sender_release(s);
    }
    return code;
}

int rv_spool_send(struct rv_spool *spool, struct rv_client *client, int timeout_ms,
                  struct rv_error *ret_error)
{
    struct carrier carrier;
    int code = sender_take(spool, ret_error);
    if (code == RV_OK) {
        code = carrier_attach(spool, client, &carrier, ret_error);
        code = code == RV_OK ? send_for(spool, &carrier, timeout_ms, ret_error) : code;
        sender_release(spool);
    }
    return code;
}

/* The changes of one request: counted, answered together, or at the client's deadline. */
#include "broker/api/topics.h"

#include "base/check.h"

void topics_item_answer(struct topics_item *item, int16_t error, struct str text)
{
    *item->error = error;
    *item->text = text;
}

static void timed_out(struct timer *timer)
{
    struct topics_work *work =
        (struct topics_work *)(void *)((char *)timer - offsetof(struct topics_work, timer));
    for (int32_t i = 0; i < work->item_count; i++) {
        if (work->items[i].pending) {
            topics_item_answer(&work->items[i], KERR_REQUEST_TIMED_OUT,
                               STR("not done within the request's timeout; it goes on"));
        }
    }
    work->answered = true;
    reply(work->req, 0);
}

static void dropped(struct request *req)
{
    struct topics_work *work = req->handler;
    timer_disarm(req->env->timers, &work->timer);
}

err topics_work_init(struct request *req, int32_t count)
{
    struct topics_work *work = req->handler = arena_zero(&req->arena, 1, sizeof *work);
    if (work) {
        work->items = arena_zero(&req->arena, (size_t)count, sizeof *work->items);
    }
    if (!work || !work->items) {
        return arena_error(&req->arena);
    }
    work->req = req;
    work->submitting = true;
    timer_init(&work->timer, timed_out);
    req->on_drop = dropped;
    return OK;
}

void topics_work_go_on(struct request *req)
{
    struct topics_work *work = req->handler;
    if (work->outstanding == 0 && !work->submitting && !work->answered) {
        timer_disarm(req->env->timers, &work->timer);
        if (!request_is_dropped(req)) {
            reply(req, 0);
        }
    }
}

void topics_work_submitted(struct request *req, int32_t timeout_ms)
{
    struct topics_work *work = req->handler;
    work->submitting = false;
    if (work->outstanding > 0 && timeout_ms > 0) {
        timer_arm(req->env->timers, &work->timer, clock_mono_ms(req->env->clock) + timeout_ms);
    }
    topics_work_go_on(req);
}

void topics_item_begin(struct topics_item *item)
{
    struct topics_work *work = item->req->handler;
    request_hold(item->req);
    item->pending = true;
    work->outstanding++;
}

void topics_item_begun(struct topics_item *item, err e)
{
    struct topics_work *work = item->req->handler;
    if (e != OK) {
        item->pending = false;
        work->outstanding--;
        request_release(item->req);
    }
}

bool topics_item_done(struct topics_item *item)
{
    struct topics_work *work = item->req->handler;
    item->pending = false;
    work->outstanding--;
    return !work->answered && !request_is_dropped(item->req);
}

/* ---- repeated names: the count, and in the lowest bit whether one was asked for */

err name_count(struct map *counts, struct str name)
{
    uintptr_t seen = (uintptr_t)map_get_str(counts, name);
    return map_put_str(counts, name, (void *)(seen + 2));
}

bool name_is_repeated(struct map *counts, struct str name, bool *ret_first)
{
    uintptr_t seen = (uintptr_t)map_get_str(counts, name);
    *ret_first = (seen & 1) == 0;
    check(map_put_str(counts, name, (void *)(seen | 1)) ==
          OK); /* it is there: no memory is taken */
    return seen >> 1 > 1;
}

#include "broker/server/room.h"

#include "broker/server/reserve.h"

static void look(struct timer *timer);

void room_init(struct room *r)
{
    r->size_bytes = r->config->reserve_bytes;
    timer_init(&r->timer, look);
}

err room_begin(struct room *r)
{
    bool there;
    err e = reserve_release(r->store, r->size_bytes, &there);
    if (e) {
        diag_log(r->diag, DIAG_ERROR, "start_failed", "what=reserve error=\"%s\"", err_text(e));
    }
    return e;
}

/* While there is none, half of what is left goes to what the broker itself writes (offsets,
 * topics), and the other half to the next start, however often that is. */
static void take_state(struct room *r)
{
    bool was_tight = log_manager_is_tight(r->logs);
    if (r->there || r->size_bytes == 0) {
        log_manager_set_room(r->logs, -1);
        if (was_tight) {
            diag_log(r->diag, DIAG_INFO, "reserve_made", "bytes=%lld", (long long)r->size_bytes);
        }
        return;
    }
    if (!was_tight) {
        log_manager_set_room(r->logs, r->free_bytes / 2);
        diag_log(r->diag, DIAG_WARN, "disk_full",
                 "free=%lld reason=\"there is no room for the reserve (rivulet.reserve.bytes): "
                 "produces and new topics are refused\"",
                 (long long)r->free_bytes);
    }
    timer_arm(r->timers, &r->timer, clock_after_ms(r->clock, r->config->reserve_check_ms));
}

err room_open(struct room *r, struct log_manager *logs)
{
    r->logs = logs;
    err e = reserve_make(r->store, r->size_bytes, &r->there, &r->free_bytes);
    if (e) {
        diag_log(r->diag, DIAG_ERROR, "start_failed", "what=reserve error=\"%s\"", err_text(e));
        return e;
    }
    take_state(r);
    return OK;
}

/* ---- while it is missing */

static void make_run(struct work *work)
{
    struct room *r = list_entry(work, struct room, make);
    r->result = reserve_make(r->store, r->size_bytes, &r->there, &r->free_bytes);
}

static void make_done(struct work *work)
{
    struct room *r = list_entry(work, struct room, make);
    if (r->stopping) {
        return;
    }
    if (r->result) {
        diag_log(r->diag, DIAG_WARN, "reserve_failed", "error=\"%s\"", err_text(r->result));
    }
    take_state(r);
}

static void look(struct timer *timer)
{
    struct room *r = list_entry(timer, struct room, timer);
    r->make = (struct work){.run = make_run, .done = make_done};
    worker_submit(r->reader, &r->make);
}

/* ---- the end */

static void release_run(struct work *work)
{
    struct room *r = list_entry(work, struct room, release);
    r->result = reserve_release(r->store, r->size_bytes, &r->there);
}

static void release_done(struct work *work)
{
    struct room *r = list_entry(work, struct room, release);
    if (r->result) { /* whoever misses the room will say so */
        diag_log(r->diag, DIAG_WARN, "reserve_failed", "error=\"%s\"", err_text(r->result));
    }
    r->stopped(r->ctx);
}

void room_drop(struct room *r)
{
    r->stopping = true;
    if (r->timers) {
        timer_disarm(r->timers, &r->timer);
    }
}

void room_stop(struct room *r, void (*done)(void *ctx), void *ctx)
{
    room_drop(r); /* the reader keeps its order: a look that is under way ends before */
    r->stopped = done;
    r->ctx = ctx;
    r->release = (struct work){.run = release_run, .done = release_done};
    worker_submit(r->reader, &r->release);
}

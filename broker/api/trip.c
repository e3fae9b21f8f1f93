/* A request away from home, at one shard, or round all of them.
 *
 *     home    request_go ----go---->  run ... reply, last hold released  ----go---->  answered
 *                                     reply, and still held  --early-->  answered (go comes later)
 *             dropped    ---drop--->  on_drop
 *
 * Invariants:
 *
 * 1. `go` goes back once: when the request has ended there (answered, refused, dropped) and nothing
 * holds it.
 * 2. A request comes to an end at home when every message is back that has to be. Messages keep
 * their order: `early` is there before `go`, and `drop` comes behind `go`, which may have left
 * then.
 */
#include "base/check.h"
#include "broker/api/internal.h"

static bool keep(struct request *req, struct str *s)
{
    *s = request_copy(req, *s);
    return s->ptr != NULL;
}

/* ---- there */

/* True: `go` goes back, and what it points to is not this shard's any more. */
static bool leaves(struct trip *t)
{
    bool over = t->there && t->ended && t->req->holds == 0; /* 1 */
    t->there = t->there && !over;
    return over;
}

static void end(struct trip *t)
{
    t->ended = true;
    t->req->on_drop = NULL;
}

static void go_back(struct trip *t)
{
    if (leaves(t)) {
        message_return(&t->go);
    }
}

static bool early_run(struct message *m) /* at home */
{
    struct trip *t = list_entry(m, struct trip, early);
    t->told = true;
    if (t->req->session) {
        request_answered(t->req);
    }
    return true;
}

static bool go_run(struct message *m)
{
    struct trip *t = list_entry(m, struct trip, go);
    struct request *req = t->req;
    t->there = true;
    req->env = m->to->env;
    request_hold(req); /* what ends inside of the handler leaves when that has returned */
    err e = t->run(req);
    if (e) {
        t->refusal = dispatch_refusal(e);
        end(t);
    }
    req->holds--;
    return leaves(t);
}

void trip_replied(struct request *req)
{
    struct trip *t = req->trip;
    if (t->ended) {
        check(req->state == REQUEST_DROPPED);
        return;
    }
    end(t);
    if (req->holds > 0 && !req->visit) {
        t->early.run = early_run;
        message_send(&t->early, t->go.to, t->go.from);
    }
    go_back(t);
}

void trip_refuse(struct request *req, const char *reason)
{
    struct trip *t = req->trip;
    if (!t->ended) {
        t->refusal = reason;
        end(t);
        go_back(t);
    }
}

void trip_released(struct request *req)
{
    go_back(req->trip);
}

static bool drop_run(struct message *m)
{
    struct trip *t = list_entry(m, struct trip, drop);
    struct request *req = t->req;
    if (t->there && !t->ended) {
        void (*on_drop)(struct request *) = req->on_drop;
        req->state = REQUEST_DROPPED;
        end(t);
        if (on_drop) {
            request_hold(req); /* on_drop may release the last of the handler's */
            on_drop(req);
            req->holds--;
        }
        go_back(t);
    }
    return true;
}

/* ---- home */

static void come_home(struct trip *t)
{
    struct request *req = t->req;
    if (--t->out > 0) {
        return; /* 2 */
    }
    req->trip = NULL;
    if (!req->session) {
        request_free(req);
        return;
    }
    request_charge(req);
    if (t->refusal) {
        request_close(req, t->refusal);
    } else if (!t->told) {
        request_answered(req);
    }
}

static void go_done(struct message *m)
{
    struct trip *t = list_entry(m, struct trip, go);
    t->req->env = t->req->sessions->env;
    come_home(t);
}

static void drop_done(struct message *m)
{
    come_home(list_entry(m, struct trip, drop));
}

void trip_dropped(struct request *req)
{
    struct trip *t = req->trip;
    if (!t->told) {
        t->out++;
        t->drop.run = drop_run;
        t->drop.done = drop_done;
        message_send(&t->drop, t->go.from, t->go.to);
    }
}

err request_go(struct request *req, int32_t shard, err (*run)(struct request *req))
{
    struct shard *here = req->env->shard;
    if (shard == here->index) {
        return run(req);
    }
    check(!req->trip && req->holds == 0 && !req->on_stop);
    struct trip *t = arena_zero(&req->arena, 1, sizeof *t);
    if (!t) {
        return arena_error(&req->arena);
    }
    *t = (struct trip){
        .req = req,
        .go = {.run = go_run, .done = go_done},
        .run = run,
        .endpoint = request_endpoint(req),
        .out = 1
    };
    if (!keep(req, &req->peer) || !keep(req, &req->peer_host) || !keep(req, &req->listener) ||
        !keep(req, &t->endpoint.host)) {
        return arena_error(&req->arena);
    }
    req->trip = t;
    message_send(&t->go, here, &here->all->list[shard]);
    return OK;
}

/* ---- round all shards */

bool visit_goes_on(struct request *req)
{
    if (!req->visit) {
        return false;
    }
    const struct shard *home = req->env->shard;
    req->visit_next += req->visit_next == home->index;
    err e;
    if (req->visit_next < home->all->count) {
        e = request_go(req, req->visit_next++, req->visit);
    } else {
        req->visit = NULL;
        if (!req->visited) {
            return false;
        }
        e = req->visited(req);
    }
    if (e) {
        request_close(req, dispatch_refusal(e));
    }
    return true;
}

err request_visit(struct request *req, err (*visit)(struct request *req),
                  err (*then)(struct request *req))
{
    req->visit = visit;
    req->visited = then;
    req->visit_next = 0;
    return visit(req);
}

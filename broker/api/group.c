#include "broker/api/group.h"

#include "base/check.h"

struct group_work {
    struct coord_call call;
    struct request *req;
    group_finish *finish;
};

int16_t group_code(enum group_error error)
{
    static const int16_t codes[GROUP_ERROR_COUNT] = {
        [GROUP_OK] = KERR_NONE,
        [GROUP_UNKNOWN_MEMBER] = KERR_UNKNOWN_MEMBER_ID,
        [GROUP_ILLEGAL_GENERATION] = KERR_ILLEGAL_GENERATION,
        [GROUP_REBALANCING] = KERR_REBALANCE_IN_PROGRESS,
        [GROUP_INCONSISTENT_PROTOCOL] = KERR_INCONSISTENT_GROUP_PROTOCOL,
        [GROUP_FENCED_INSTANCE] = KERR_FENCED_INSTANCE_ID,
        [GROUP_MEMBER_ID_REQUIRED] = KERR_MEMBER_ID_REQUIRED,
        [GROUP_FULL] = KERR_GROUP_MAX_SIZE_REACHED,
        [GROUP_BAD_SESSION_TIMEOUT] = KERR_INVALID_SESSION_TIMEOUT,
        [GROUP_NOT_EMPTY] = KERR_NON_EMPTY_GROUP,
        [GROUP_NOT_AVAILABLE] = KERR_COORDINATOR_NOT_AVAILABLE,
        [GROUP_TOO_LARGE] = KERR_UNKNOWN_SERVER_ERROR, /* as Kafka; a log line names the limit */
        [GROUP_NOT_FOUND] = KERR_GROUP_ID_NOT_FOUND,
        [GROUP_LOADING] = KERR_COORDINATOR_LOAD_IN_PROGRESS,
        [GROUP_INVALID_ID] = KERR_INVALID_GROUP_ID,
        [GROUP_WRONG_COORDINATOR] = KERR_NOT_COORDINATOR,
    };
    check(error < GROUP_ERROR_COUNT);
    return codes[error];
}

int16_t group_gate(const struct request *req, enum acl_operation op, struct str group_id)
{
    if (!authorize(req, op, ACL_GROUP, group_id)) {
        return KERR_GROUP_AUTHORIZATION_FAILED;
    }
    return owns_group(req, group_id) ? KERR_NONE : KERR_NOT_COORDINATOR;
}

static void answered_later(struct coord_call *call)
{
    struct group_work *work = call->ctx;
    struct request *req = work->req;
    req->on_drop = NULL;
    if (call->error || work->finish(req, &call->answer)) {
        request_close(req, "answer larger than the memory of a request");
    } else {
        reply(req, 0);
    }
}

static void dropped(struct request *req)
{
    struct group_work *work = req->handler;
    coord_forget(req->env->coord, &work->call);
}

err group_submit(struct request *req, struct str group_id, struct group_event *event,
                 group_finish *finish)
{
    struct group_work *work = arena_zero(&req->arena, 1, sizeof *work);
    if (!work) {
        return arena_error(&req->arena);
    }
    *work = (struct group_work){
        .call = {.done = answered_later, .ctx = work, .arena = &req->arena},
        .req = req,
        .finish = finish,
    };
    if (!coord_submit(req->env->coord, group_id, event, &work->call)) {
        req->handler = work;
        req->on_drop = dropped;
        return OK;
    }
    err e = work->call.error ? work->call.error : finish(req, &work->call.answer);
    if (!e) {
        reply(req, 0);
    }
    return e;
}

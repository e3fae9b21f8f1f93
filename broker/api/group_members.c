/* JoinGroup, SyncGroup, Heartbeat, LeaveGroup: what members say. */
#include "broker/api/families.h"
#include "broker/api/group.h"
#include "gen/heartbeat.h"
#include "gen/join_group.h"
#include "gen/leave_group.h"
#include "gen/sync_group.h"

/* KERR_NONE: the group may be asked. The empty id is good for offsets only. */
static int16_t gate(const struct request *req, struct str group_id)
{
    int16_t code = group_gate(req, ACL_READ, group_id);
    return code == KERR_NONE && group_id.len == 0 ? KERR_INVALID_GROUP_ID : code;
}

static struct bytes not_null(struct bytes b)
{
    return b.ptr ? b : (struct bytes){.ptr = (const uint8_t *)"", .len = 0};
}

/* ---- JoinGroup */

enum {
    JOIN_TWO_STEPS = 4,       /* from here on an unknown dynamic member is given its id first */
    JOIN_NULL_PROTOCOL = 7,   /* from here on "no protocol" is null */
    JOIN_SKIP_ASSIGNMENT = 9, /* from here on a leader understands that it must not assign */
};

static err finish_join(struct request *req, const struct group_answer *a)
{
    struct join_group_response *out = request_reply(req);
    bool null_protocol = req->header.api_version >= JOIN_NULL_PROTOCOL;
    out->error_code = group_code(a->error);
    out->generation_id = a->generation;
    out->protocol_type = a->protocol_type;
    out->protocol_name = a->protocol.ptr || null_protocol ? a->protocol : STR("");
    out->leader = a->leader.ptr ? a->leader : STR("");
    out->skip_assignment = a->skip_assignment;
    out->member_id = a->member_id;
    out->members =
        wire_array(&req->arena, &join_group_response_member_table, (int32_t)a->member_count);
    if (!out->members) {
        return arena_error(&req->arena);
    }
    out->members_count = (int32_t)a->member_count;
    for (size_t i = 0; i < a->member_count; i++) {
        out->members[i] = (struct join_group_response_member){
            .member_id = a->members[i].member_id,
            .group_instance_id = a->members[i].instance_id,
            .metadata = not_null(a->members[i].metadata),
        };
    }
    if (a->error == GROUP_TOO_LARGE) {
        const struct join_group_request *in = request_body(req);
        char id[DIAG_ESCAPED_SIZE];
        diag_log(req->env->diag, DIAG_WARN, "join_refused",
                 "peer=%.*s group=%s limit=rivulet.group.member.max.bytes", STR_ARG(req->peer),
                 diag_escape(in->group_id, id));
    }
    return OK;
}

static err refuse_join(struct request *req, int16_t code)
{
    struct join_group_response *out = request_reply(req);
    const struct join_group_request *in = request_body(req);
    err e = finish_join(req, &(struct group_answer){.generation = -1, .member_id = in->member_id});
    out->error_code = code;
    if (!e) {
        reply(req, 0);
    }
    return e;
}

err api_join_group(struct request *req)
{
    const struct join_group_request *in = request_body(req);
    int16_t code = gate(req, in->group_id);
    if (code) {
        return refuse_join(req, code);
    }
    struct group_protocol *protocols =
        arena_zero(&req->arena, (size_t)in->protocols_count + 1, sizeof *protocols);
    if (!protocols) {
        return arena_error(&req->arena);
    }
    for (int32_t i = 0; i < in->protocols_count; i++) {
        protocols[i] = (struct group_protocol){.name = in->protocols[i].name,
                                               .metadata = in->protocols[i].metadata};
    }
    int16_t version = req->header.api_version;
    struct group_event event = {
        .kind = GROUP_EVENT_JOIN,
        .join = {.member_id = in->member_id,
                 .instance_id = in->group_instance_id,
                 .client_id = req->header.client_id.ptr ? req->header.client_id : STR(""),
                 .client_host = req->peer_host,
                 .protocol_type = in->protocol_type,
                 .protocols = protocols,
                 .protocol_count = (size_t)in->protocols_count,
                 .session_timeout_ms = in->session_timeout_ms,
                 .rebalance_timeout_ms = in->rebalance_timeout_ms,
                 .requires_known_member_id = version >= JOIN_TWO_STEPS,
                 .can_skip_assignment = version >= JOIN_SKIP_ASSIGNMENT},
    };
    return group_submit(req, in->group_id, &event, finish_join);
}

/* ---- SyncGroup */

enum {
    SYNC_PROTOCOLS = 5
}; /* from here on a member has to say what it believes the protocol to be */

static err finish_sync(struct request *req, const struct group_answer *a)
{
    struct sync_group_response *out = request_reply(req);
    out->error_code = group_code(a->error);
    out->protocol_type = a->protocol_type;
    out->protocol_name = a->protocol;
    out->assignment = not_null(a->assignment);
    return OK;
}

err api_sync_group(struct request *req)
{
    const struct sync_group_request *in = request_body(req);
    int16_t code = gate(req, in->group_id);
    if (!code && req->header.api_version >= SYNC_PROTOCOLS &&
        (!in->protocol_type.ptr || !in->protocol_name.ptr)) {
        code = KERR_INCONSISTENT_GROUP_PROTOCOL;
    }
    if (code) {
        ((struct sync_group_response *)request_reply(req))->error_code = code;
        reply(req, 0);
        return OK;
    }
    struct group_assignment *assignments =
        arena_zero(&req->arena, (size_t)in->assignments_count + 1, sizeof *assignments);
    if (!assignments) {
        return arena_error(&req->arena);
    }
    for (int32_t i = 0; i < in->assignments_count; i++) {
        assignments[i] = (struct group_assignment){.member_id = in->assignments[i].member_id,
                                                   .assignment = in->assignments[i].assignment};
    }
    struct group_event event = {
        .kind = GROUP_EVENT_SYNC,
        .sync = {.member_id = in->member_id,
                 .instance_id = in->group_instance_id,
                 .generation = in->generation_id,
                 .protocol_type = in->protocol_type,
                 .protocol = in->protocol_name,
                 .assignments = assignments,
                 .assignment_count = (size_t)in->assignments_count},
    };
    return group_submit(req, in->group_id, &event, finish_sync);
}

/* ---- Heartbeat */

static err finish_heartbeat(struct request *req, const struct group_answer *a)
{
    struct heartbeat_response *out = request_reply(req);
    out->error_code = group_code(a->error);
    return OK;
}

err api_heartbeat(struct request *req)
{
    const struct heartbeat_request *in = request_body(req);
    int16_t code = gate(req, in->group_id);
    if (code) {
        ((struct heartbeat_response *)request_reply(req))->error_code = code;
        reply(req, 0);
        return OK;
    }
    struct group_event event = {
        .kind = GROUP_EVENT_HEARTBEAT,
        .heartbeat = {.member_id = in->member_id,
                      .instance_id = in->group_instance_id,
                      .generation = in->generation_id},
    };
    return group_submit(req, in->group_id, &event, finish_heartbeat);
}

/* ---- LeaveGroup */

enum { LEAVE_MEMBERS = 3 }; /* from here on several may leave, each with an error of its own */

static int32_t leaver_count(const struct request *req)
{
    const struct leave_group_request *in = request_body(req);
    return req->header.api_version >= LEAVE_MEMBERS ? in->members_count : 1;
}

static bool concerns_group(enum group_error error) /* and not one of the members */
{
    return error == GROUP_LOADING || error == GROUP_WRONG_COORDINATOR ||
           error == GROUP_NOT_AVAILABLE || error == GROUP_INVALID_ID;
}

static err finish_leave(struct request *req, const struct group_answer *a)
{
    const struct leave_group_request *in = request_body(req);
    struct leave_group_response *out = request_reply(req);
    if (concerns_group(a->error)) {
        out->error_code = group_code(a->error);
        return OK;
    }
    if (req->header.api_version < LEAVE_MEMBERS) {
        out->error_code = group_code(a->leave_errors ? a->leave_errors[0] : a->error);
        return OK;
    }
    out->members = wire_array(&req->arena, &leave_group_response_member_table, in->members_count);
    if (!out->members) {
        return arena_error(&req->arena);
    }
    out->members_count = in->members_count;
    for (int32_t i = 0; i < in->members_count; i++) {
        out->members[i] = (struct leave_group_response_member){
            .member_id = in->members[i].member_id,
            .group_instance_id = in->members[i].group_instance_id,
            .error_code = group_code(a->leave_errors ? a->leave_errors[i] : a->error),
        };
    }
    return OK;
}

err api_leave_group(struct request *req)
{
    const struct leave_group_request *in = request_body(req);
    int16_t code = gate(req, in->group_id);
    if (code) {
        ((struct leave_group_response *)request_reply(req))->error_code = code;
        reply(req, 0);
        return OK;
    }
    int32_t count = leaver_count(req);
    struct group_leaver *leavers = arena_zero(&req->arena, (size_t)count + 1, sizeof *leavers);
    if (!leavers) {
        return arena_error(&req->arena);
    }
    if (req->header.api_version < LEAVE_MEMBERS) {
        leavers[0].member_id = in->member_id;
    }
    for (int32_t i = 0; i < in->members_count; i++) {
        leavers[i] = (struct group_leaver){.member_id = in->members[i].member_id,
                                           .instance_id = in->members[i].group_instance_id};
    }
    struct group_event event = {
        .kind = GROUP_EVENT_LEAVE,
        .leave = {.leavers = leavers, .leaver_count = (size_t)count},
    };
    return group_submit(req, in->group_id, &event, finish_leave);
}

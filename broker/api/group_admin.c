/* ListGroups, DescribeGroups, DeleteGroups: what tools ask. */
#include "broker/api/families.h"
#include "broker/api/group.h"
#include "gen/delete_groups.h"
#include "gen/describe_groups.h"
#include "gen/list_groups.h"

/* ---- ListGroups */

static const struct str group_type = {.ptr = "classic", .len = 7};

/* No filter lets everything through. */
static bool passes(const struct str *filter, int32_t count, struct str value)
{
    for (int32_t i = 0; i < count; i++) {
        if (str_eq_ignore_case(filter[i], value)) {
            return true;
        }
    }
    return count <= 0;
}

/* Those of the shard that the request is at, behind those of the shards before. Groups of a
 * partition that could not be read at the start are not among them; the log has said so then. */
static err list_own(struct request *req)
{
    const struct list_groups_request *in = request_body(req);
    struct list_groups_response *out = request_reply(req);
    struct coord *c = req->env->coord;
    int32_t before = out->groups_count;
    struct list_groups_response_group *groups = wire_array(
        &req->arena, &list_groups_response_group_table, before + (int32_t)coord_group_count(c));
    if (!groups) {
        return arena_error(&req->arena);
    }
    if (before > 0) {
        memcpy(groups, out->groups, (size_t)before * sizeof *groups);
    }
    out->groups = groups;
    for (const struct group *g = coord_group_first(c); g; g = coord_group_next(c, g)) {
        struct str state = str_of(group_state_name(g->state));
        if (!passes(in->states_filter, in->states_filter_count, state) ||
            !passes(in->types_filter, in->types_filter_count, group_type) ||
            !authorize(req, ACL_DESCRIBE, ACL_GROUP, g->id)) {
            continue;
        }
        struct list_groups_response_group *to = &out->groups[out->groups_count++];
        to->group_id = request_copy(req, g->id);
        to->protocol_type = g->protocol_type.ptr ? request_copy(req, g->protocol_type) : STR("");
        to->group_state = state;
        to->group_type = group_type;
        if (!to->group_id.ptr || !to->protocol_type.ptr) {
            return arena_error(&req->arena);
        }
    }
    reply(req, 0);
    return OK;
}

err api_list_groups(struct request *req)
{
    struct list_groups_response *out = request_reply(req);
    if (req->env->stopping) {
        out->error_code = KERR_COORDINATOR_NOT_AVAILABLE;
        reply(req, 0);
        return OK;
    }
    return request_visit(req, list_own, NULL);
}

/* ---- DescribeGroups */

enum { DESCRIBE_NOT_FOUND = 6 }; /* from here on an unknown group is an error */

static struct bytes bytes_or_empty(struct bytes b)
{
    return b.ptr ? b : (struct bytes){.ptr = (const uint8_t *)"", .len = 0};
}

/* Subscriptions and assignments are told of a stable group only: before that they are not what
 * holds. The snapshot borrows from the group, and the reply may be encoded later. */
static err describe_members(struct request *req, const struct group *g,
                            struct describe_groups_response_group *to)
{
    struct arena *a = &req->arena;
    int32_t count = (int32_t)map_count(&g->members);
    bool stable = g->state == GROUP_STABLE;
    to->members = wire_array(a, &describe_groups_response_member_table, count);
    if (!to->members) {
        return arena_error(a);
    }
    for (struct map_entry *e = map_first(&g->members); e; e = map_next(e)) {
        const struct group_member *from = map_value(e);
        struct describe_groups_response_member *m = &to->members[to->members_count++];
        m->member_id = request_copy(req, from->id);
        m->group_instance_id = request_copy(req, from->instance_id);
        m->client_id = request_copy(req, from->client_id);
        m->client_host = request_copy(req, from->client_host);
        struct bytes metadata = {0}, assignment = {0};
        for (size_t i = 0; stable && i < from->protocol_count; i++) {
            if (str_eq(from->protocols[i].name, g->protocol)) {
                metadata = from->protocols[i].metadata;
            }
        }
        if (stable) {
            assignment = from->assignment;
        }
        m->member_metadata = bytes_or_empty(metadata);
        m->member_assignment = bytes_or_empty(assignment);
        m->member_metadata.ptr = arena_dup(a, m->member_metadata.ptr, m->member_metadata.len);
        m->member_assignment.ptr = arena_dup(a, m->member_assignment.ptr, m->member_assignment.len);
    }
    return a->error; /* a copy above that got no memory */
}

static err describe(struct request *req, struct str id, struct describe_groups_response_group *to)
{
    const struct describe_groups_request *in = request_body(req);
    to->group_id = id;
    to->error_code = group_gate(req, ACL_DESCRIBE, id);
    if (!to->error_code) {
        to->error_code = group_code(coord_check(req->env->coord, id));
    }
    if (to->error_code) {
        return OK;
    }
    if (in->include_authorized_operations) {
        to->authorized_operations = authorized_operations(req, ACL_GROUP, id);
    }
    const struct group *g = coord_find(req->env->coord, id);
    if (!g) {
        to->group_state = STR("Dead");
        if (req->header.api_version >= DESCRIBE_NOT_FOUND) {
            to->error_code = KERR_GROUP_ID_NOT_FOUND;
            const char *text = arena_printf(&req->arena, "Group %.*s not found.", STR_ARG(id));
            to->error_message = str_of(text);
        }
        return req->arena.error;
    }
    to->group_state = str_of(group_state_name(g->state));
    to->protocol_type = g->protocol_type.ptr ? request_copy(req, g->protocol_type) : STR("");
    to->protocol_data = g->state == GROUP_STABLE ? request_copy(req, g->protocol) : STR("");
    return describe_members(req, g, to);
}

static err describe_own(struct request *req)
{
    const struct describe_groups_request *in = request_body(req);
    struct describe_groups_response *out = request_reply(req);
    for (int32_t i = 0; i < in->groups_count; i++) {
        err e = owns_group(req, in->groups[i]) ? describe(req, in->groups[i], &out->groups[i]) : OK;
        if (e) {
            return e;
        }
    }
    reply(req, 0);
    return OK;
}

err api_describe_groups(struct request *req)
{
    const struct describe_groups_request *in = request_body(req);
    struct describe_groups_response *out = request_reply(req);
    out->groups = wire_array(&req->arena, &describe_groups_response_group_table, in->groups_count);
    if (!out->groups) {
        return arena_error(&req->arena);
    }
    out->groups_count = in->groups_count;
    return request_visit(req, describe_own, NULL);
}

/* ---- DeleteGroups */

struct delete_work {
    struct coord_call *calls; /* in the arena, one for each group */
    int32_t count;            /* of calls */
    int32_t waiting;          /* calls not answered yet */
};

static void deleted(struct coord_call *call)
{
    struct request *req = call->ctx;
    struct delete_work *work = req->handler;
    struct delete_groups_response *out = request_reply(req);
    out->results[call - work->calls].error_code = group_code(call->answer.error);
    if (--work->waiting == 0) {
        req->on_drop = NULL;
        reply(req, 0);
    }
}

static void delete_dropped(struct request *req)
{
    struct delete_work *work = req->handler;
    for (int32_t i = 0; i < work->count; i++) {
        coord_forget(req->env->coord, &work->calls[i]);
    }
}

/* True: the answer is there already. */
static bool delete_one(struct request *req, struct str id, struct coord_call *call,
                       struct delete_groups_response_result *to)
{
    to->group_id = id;
    to->error_code = group_gate(req, ACL_DELETE, id);
    if (to->error_code) {
        return true;
    }
    *call = (struct coord_call){.done = deleted, .ctx = req, .arena = &req->arena};
    struct group_event event = {.kind = GROUP_EVENT_DELETE};
    bool answered = coord_submit(req->env->coord, id, &event, call);
    if (answered) {
        to->error_code = group_code(call->answer.error);
    }
    return answered;
}

static err delete_own(struct request *req)
{
    const struct delete_groups_request *in = request_body(req);
    struct delete_groups_response *out = request_reply(req);
    int32_t count = in->groups_names_count;
    struct delete_work *work = arena_zero(&req->arena, 1, sizeof *work);
    struct coord_call *calls = arena_zero(&req->arena, (size_t)count + 1, sizeof *calls);
    if (!work || !calls) {
        return arena_error(&req->arena);
    }
    *work = (struct delete_work){.calls = calls, .count = count, .waiting = 1};
    req->handler = work;
    req->on_drop = delete_dropped;
    for (int32_t i = 0; i < count; i++) {
        if (!owns_group(req, in->groups_names[i])) {
            continue;
        }
        work->waiting++; /* before: another one's answer may come inside of the submit */
        if (delete_one(req, in->groups_names[i], &calls[i], &out->results[i])) {
            work->waiting--;
        }
    }
    if (--work->waiting == 0) {
        req->on_drop = NULL;
        reply(req, 0);
    }
    return OK;
}

err api_delete_groups(struct request *req)
{
    const struct delete_groups_request *in = request_body(req);
    struct delete_groups_response *out = request_reply(req);
    out->results =
        wire_array(&req->arena, &delete_groups_response_result_table, in->groups_names_count);
    if (!out->results) {
        return arena_error(&req->arena);
    }
    out->results_count = in->groups_names_count;
    return request_visit(req, delete_own, NULL);
}

#include "client/ask.h"
#include "gen/consumer_protocol_assignment.h"
#include "gen/delete_groups.h"
#include "gen/describe_groups.h"
#include "gen/leave_group.h"
#include "gen/list_groups.h"
#include "gen/offset_commit.h"
#include "gen/offset_fetch.h"
#include "protocol/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WHAT_SIZE = 300, GROUP_ARENA_LIMIT = 256 << 20, ASSIGNMENT_VERSION_MAX = 3 };

/* ---- list ---- */

static int list_code(const void *response)
{
    const struct list_groups_response *r = response;
    return r->error_code;
}

static int by_group(const void *a, const void *b)
{
    return strcmp(((const struct rv_group_listing *)a)->group,
                  ((const struct rv_group_listing *)b)->group);
}

static int groups_take(struct rv_groups *out, const struct list_groups_response *r,
                       struct rv_error *ret_error)
{
    struct rv_group_listing *items = arena_zero(
        result_arena(out), out->count + (size_t)(r->groups_count > 0 ? r->groups_count : 0) + 1,
        sizeof *items);
    if (!items) {
        return error_memory(ret_error);
    }
    if (out->count) {
        memcpy(items, out->items, out->count * sizeof *items);
    }
    for (int32_t i = 0; i < r->groups_count; i++) {
        struct rv_group_listing *to = &items[out->count++];
        to->group = result_text(out, r->groups[i].group_id);
        to->state = result_text(out, r->groups[i].group_state);
        to->protocol_type = result_text(out, r->groups[i].protocol_type);
        if (!to->group || !to->state || !to->protocol_type) {
            return error_memory(ret_error);
        }
    }
    qsort(items, out->count, sizeof *items, by_group);
    out->items = items;
    return RV_OK;
}

int rv_group_list(struct rv_client *client, int timeout_ms, struct rv_groups **ret_groups,
                  struct rv_error *ret_error)
{
    if (client->in_turn) {
        return error_set(ret_error, RV_E_STATE, "list groups: not allowed in a callback");
    }
    int64_t deadline = client_deadline(client, timeout_ms);
    int code = brokers_wait(client, deadline, ret_error);
    if (code != RV_OK) {
        return code;
    }
    struct rv_groups *out = result_create(sizeof *out);
    if (!out) {
        return error_memory(ret_error);
    }
    struct list_groups_request request;
    list_groups_request_init(&request);
    for (int32_t b = 0; code == RV_OK && b < client->meta.broker_count; b++) {
        struct ask q = {.client = client,
                        .api_key = 16,
                        .request = &request,
                        .target = ASK_NODE,
                        .node = client->meta.brokers[b].id,
                        .deadline_ms = deadline,
                        .code_of = list_code,
                        .what = "list groups"};
        code = ask(&q, ret_error);
        if (code == RV_OK) {
            const struct list_groups_response *r = q.response;
            code = r->error_code ? ask_refused(&q, r->error_code, (struct str){0}, ret_error)
                                 : groups_take(out, r, ret_error);
        }
        ask_finish(&q);
    }
    if (code != RV_OK) {
        rv_free(out);
        return code;
    }
    *ret_groups = out;
    return RV_OK;
}

/* ---- describe ---- */

struct group_job {
    struct rv_client *client;
    const char *what;
    int64_t deadline_ms;
    struct rv_group *out;                  /* the result */
    struct rv_group_partition *partitions; /* of it */
    size_t count, size;                    /* used and there, of partitions */
};

static struct rv_group_partition *job_partition(struct group_job *job, struct str topic,
                                                int32_t partition)
{
    for (size_t i = 0; i < job->count; i++) {
        struct rv_group_partition *p = &job->partitions[i];
        if (p->partition == partition && str_eq(str_of(p->topic), topic)) {
            return p;
        }
    }
    if (job->count == job->size) {
        size_t size = job->size ? job->size * 2 : 16;
        struct rv_group_partition *more = arena_zero(result_arena(job->out), size, sizeof *more);
        if (!more) {
            return NULL;
        }
        if (job->count) {
            memcpy(more, job->partitions, job->count * sizeof *more);
        }
        job->partitions = more;
        job->size = size;
    }
    const char *name = result_text(job->out, topic);
    if (!name) {
        return NULL;
    }
    struct rv_group_partition *p = &job->partitions[job->count++];
    *p = (struct rv_group_partition){
        .topic = name, .partition = partition, .committed_offset = -1, .end_offset = -1, .lag = -1};
    return p;
}

/* The partitions that a member has. What is not the consumer protocol's is skipped: another type of
 * group. */
static bool member_assignment(struct group_job *job, const char *member, struct bytes assignment)
{
    struct reader r;
    reader_init(&r, assignment.ptr, assignment.len);
    int16_t version = reader_int16(&r);
    if (assignment.len == 0 || r.error != OK || version < 0) {
        return true;
    }
    struct arena a;
    arena_init(&a, GROUP_ARENA_LIMIT);
    struct consumer_protocol_assignment in;
    err e = wire_decode(&consumer_protocol_assignment_table,
                        version < ASSIGNMENT_VERSION_MAX ? version : ASSIGNMENT_VERSION_MAX, &r, &a,
                        &in);
    bool ok = e != ERR_MEMORY;
    for (int32_t i = 0; ok && e == OK && i < in.assigned_partitions_count; i++) {
        const struct consumer_protocol_assignment_assigned_partition *t =
            &in.assigned_partitions[i];
        for (int32_t j = 0; ok && j < t->partitions_count; j++) {
            struct rv_group_partition *p = job_partition(job, t->topic, t->partitions[j]);
            ok = p != NULL;
            if (p) {
                p->member = member;
            }
        }
    }
    arena_finish(&a);
    return ok;
}

static bool members_take(struct group_job *job, const struct describe_groups_response_group *g)
{
    struct rv_group *out = job->out;
    struct rv_group_member *members =
        arena_zero(result_arena(out), (size_t)(g->members_count > 0 ? g->members_count : 0) + 1,
                   sizeof *members);
    if (!members) {
        return false;
    }
    for (int32_t i = 0; i < g->members_count; i++) {
        const struct describe_groups_response_member *in = &g->members[i];
        members[i].id = result_text(out, in->member_id);
        members[i].instance_id =
            in->group_instance_id.ptr ? result_text(out, in->group_instance_id) : NULL;
        members[i].client_id = result_text(out, in->client_id);
        members[i].host = result_text(out, in->client_host);
        if (!members[i].id || !members[i].client_id || !members[i].host ||
            (in->group_instance_id.ptr && !members[i].instance_id) ||
            !member_assignment(job, members[i].id, in->member_assignment)) {
            return false;
        }
    }
    out->members = members;
    out->member_count = (size_t)(g->members_count > 0 ? g->members_count : 0);
    out->state = result_text(out, g->group_state);
    out->protocol = result_text(out, g->protocol_data);
    return out->state && out->protocol;
}

static int describe_code(const void *response)
{
    const struct describe_groups_response *r = response;
    return r->groups_count > 0 ? r->groups[0].error_code : RV_OK;
}

static int group_members(struct group_job *job, struct rv_error *ret_error)
{
    struct describe_groups_request request;
    describe_groups_request_init(&request);
    struct str name = str_of(job->out->group);
    request.groups = &name;
    request.groups_count = 1;
    struct ask q = {.client = job->client,
                    .api_key = 15,
                    .request = &request,
                    .target = ASK_COORDINATOR,
                    .group = job->out->group,
                    .deadline_ms = job->deadline_ms,
                    .code_of = describe_code,
                    .what = job->what};
    int code = ask(&q, ret_error);
    if (code == RV_OK) {
        const struct describe_groups_response *r = q.response;
        if (r->groups_count != 1) {
            code =
                error_set(ret_error, RV_E_PROTOCOL, "%s: not one group in the answer", job->what);
        } else if (r->groups[0].error_code && r->groups[0].error_code != KERR_GROUP_ID_NOT_FOUND) {
            code = ask_refused(&q, r->groups[0].error_code, r->groups[0].error_message, ret_error);
        } else if (!members_take(job, &r->groups[0])) {
            code = error_memory(ret_error);
        }
    }
    ask_finish(&q);
    return code;
}

static int fetch_code(const void *response)
{
    const struct offset_fetch_response *r = response;
    return r->error_code;
}

static int group_offsets(struct group_job *job, struct rv_error *ret_error)
{
    struct offset_fetch_request request;
    offset_fetch_request_init(&request);
    request.group_id = str_of(job->out->group);
    request.topics = NULL;
    request.topics_count = -1;
    struct ask q = {.client = job->client,
                    .api_key = 9,
                    .min_version = 2,
                    .max_version = 7, /* one group, topics by name */
                    .request = &request,
                    .target = ASK_COORDINATOR,
                    .group = job->out->group,
                    .deadline_ms = job->deadline_ms,
                    .code_of = fetch_code,
                    .what = job->what};
    int code = ask(&q, ret_error);
    const struct offset_fetch_response *r = q.response;
    if (code == RV_OK && r->error_code) {
        code = ask_refused(&q, r->error_code, (struct str){0}, ret_error);
    }
    for (int32_t i = 0; code == RV_OK && i < r->topics_count; i++) {
        for (int32_t j = 0; code == RV_OK && j < r->topics[i].partitions_count; j++) {
            const struct offset_fetch_response_partition *in = &r->topics[i].partitions[j];
            if (in->error_code || in->committed_offset < 0) {
                continue;
            }
            struct rv_group_partition *p =
                job_partition(job, r->topics[i].name, in->partition_index);
            code = p ? RV_OK : error_memory(ret_error);
            if (p) {
                p->committed_offset = in->committed_offset;
            }
        }
    }
    ask_finish(&q);
    return code;
}

static int by_partition(const void *a, const void *b)
{
    const struct rv_group_partition *x = a, *y = b;
    int topic = strcmp(x->topic, y->topic);
    return topic ? topic : (x->partition > y->partition) - (x->partition < y->partition);
}

static int group_ends(struct group_job *job, struct rv_error *ret_error)
{
    if (job->count) {
        qsort(job->partitions, job->count, sizeof *job->partitions, by_partition);
    }
    struct rv_partition *ends = arena_zero(result_arena(job->out), job->count + 1, sizeof *ends);
    if (!ends) {
        return error_memory(ret_error);
    }
    for (size_t i = 0; i < job->count; i++) {
        ends[i] = (struct rv_partition){.topic = job->partitions[i].topic,
                                        .partition = job->partitions[i].partition};
    }
    int64_t left = job->deadline_ms - client_now(job->client);
    int code =
        rv_offsets(job->client, ends, job->count, RV_END, left < 0 ? 0 : (int)left, ret_error);
    for (size_t i = 0; code == RV_OK && i < job->count; i++) {
        struct rv_group_partition *p = &job->partitions[i];
        p->code = ends[i].code;
        p->end_offset = ends[i].offset;
        if (p->end_offset >= 0 && p->committed_offset >= 0) {
            p->lag = p->end_offset > p->committed_offset ? p->end_offset - p->committed_offset : 0;
        }
    }
    return code;
}

int rv_group_describe(struct rv_client *client, const char *group, int timeout_ms,
                      struct rv_group **ret_group, struct rv_error *ret_error)
{
    char what[WHAT_SIZE];
    snprintf(what, sizeof what, "describe group %.200s", group);
    struct rv_group *out = result_create(sizeof *out);
    if (!out) {
        return error_memory(ret_error);
    }
    struct group_job job = {.client = client,
                            .what = what,
                            .deadline_ms = client_deadline(client, timeout_ms),
                            .out = out};
    out->group = result_text(out, str_of(group));
    int code = out->group ? group_members(&job, ret_error) : error_memory(ret_error);
    code = code == RV_OK ? group_offsets(&job, ret_error) : code;
    code = code == RV_OK ? group_ends(&job, ret_error) : code;
    if (code != RV_OK) {
        rv_free(out);
        return code;
    }
    out->partitions = job.partitions;
    out->partition_count = job.count;
    *ret_group = out;
    return RV_OK;
}

/* ---- set offsets, delete ---- */

static int commit_code(const void *response)
{
    const struct offset_commit_response *r = response;
    for (int32_t i = 0; i < r->topics_count; i++) {
        for (int32_t j = 0; j < r->topics[i].partitions_count; j++) {
            int code = r->topics[i].partitions[j].error_code;
            if (code && code != KERR_UNKNOWN_TOPIC_OR_PARTITION) {
                return code;
            }
        }
    }
    return RV_OK;
}

/* One topic entry for each partition: brokers take that, and it keeps this short. */
static int commit_fill(struct offset_commit_request *r, struct arena *a, const char *group,
                       const struct rv_partition *partitions, size_t count)
{
    offset_commit_request_init(r);
    r->group_id = str_of(group);
    r->topics = wire_array(a, &offset_commit_request_topic_table, (int32_t)count);
    r->topics_count = (int32_t)count;
    if (!r->topics) {
        return RV_E_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        struct offset_commit_request_partition *p =
            wire_array(a, &offset_commit_request_partition_table, 1);
        if (!p) {
            return RV_E_MEMORY;
        }
        p->partition_index = partitions[i].partition;
        p->committed_offset = partitions[i].offset;
        p->committed_leader_epoch = -1;
        p->committed_metadata = partitions[i].metadata ? str_of(partitions[i].metadata) : STR("");
        r->topics[i].name = str_of(partitions[i].topic);
        r->topics[i].partitions = p;
        r->topics[i].partitions_count = 1;
    }
    return RV_OK;
}

static void commit_take(const struct offset_commit_response *r, struct rv_partition *partitions,
                        size_t count)
{
    for (int32_t i = 0; i < r->topics_count; i++) {
        for (int32_t j = 0; j < r->topics[i].partitions_count; j++) {
            for (size_t k = 0; k < count; k++) {
                if (partitions[k].partition == r->topics[i].partitions[j].partition_index &&
                    str_eq(str_of(partitions[k].topic), r->topics[i].name)) {
                    partitions[k].code = r->topics[i].partitions[j].error_code;
                }
            }
        }
    }
}

int rv_group_set_offsets(struct rv_client *client, const char *group,
                         struct rv_partition *partitions, size_t count, int timeout_ms,
                         struct rv_error *ret_error)
{
    char what[WHAT_SIZE];
    snprintf(what, sizeof what, "set offsets of group %.200s", group);
    struct arena a;
    arena_init(&a, GROUP_ARENA_LIMIT);
    struct offset_commit_request request;
    struct ask q = {.client = client,
                    .api_key = 8,
                    .min_version = 2,
                    .max_version = 9, /* topics by name */
                    .request = &request,
                    .target = ASK_COORDINATOR,
                    .group = group,
                    .deadline_ms = client_deadline(client, timeout_ms),
                    .code_of = commit_code,
                    .what = what};
    int code = commit_fill(&request, &a, group, partitions, count) == RV_OK
                   ? ask(&q, ret_error)
                   : error_memory(ret_error);
    if (code == RV_OK) {
        const struct offset_commit_response *r = q.response;
        commit_take(r, partitions, count);
        int refused = commit_code(r);
        code = refused ? ask_refused(&q, refused, (struct str){0}, ret_error) : RV_OK;
    }
    ask_finish(&q);
    arena_finish(&a);
    return code;
}

static int delete_code(const void *response)
{
    const struct delete_groups_response *r = response;
    return r->results_count > 0 ? r->results[0].error_code : RV_OK;
}

int rv_group_delete(struct rv_client *client, const char *group, int timeout_ms,
                    struct rv_error *ret_error)
{
    char what[WHAT_SIZE];
    snprintf(what, sizeof what, "delete group %.200s", group);
    struct delete_groups_request request;
    delete_groups_request_init(&request);
    struct str name = str_of(group);
    request.groups_names = &name;
    request.groups_names_count = 1;
    struct ask q = {.client = client,
                    .api_key = 42,
                    .request = &request,
                    .target = ASK_COORDINATOR,
                    .group = group,
                    .deadline_ms = client_deadline(client, timeout_ms),
                    .code_of = delete_code,
                    .what = what};
    int code = ask(&q, ret_error);
    if (code == RV_OK && delete_code(q.response)) {
        code = ask_refused(&q, delete_code(q.response), (struct str){0}, ret_error);
    }
    ask_finish(&q);
    return code;
}

/* ---- remove members ---- */

static int leave_code(const void *response)
{
    const struct leave_group_response *r = response;
    int code = r->error_code;
    for (int32_t i = 0; code == RV_OK && i < r->members_count; i++) {
        if (r->members[i].error_code != KERR_UNKNOWN_MEMBER_ID) { /* gone is gone */
            code = r->members[i].error_code;
        }
    }
    return code;
}

static int members_leave(struct rv_client *client, const struct rv_group *g, int64_t deadline_ms,
                         struct rv_error *ret_error)
{
    char what[WHAT_SIZE];
    snprintf(what, sizeof what, "remove the members of group %.200s", g->group);
    struct arena a;
    arena_init(&a, GROUP_ARENA_LIMIT);
    struct leave_group_request request;
    leave_group_request_init(&request);
    request.group_id = str_of(g->group);
    request.members_count = (int32_t)g->member_count;
    request.members = wire_array(&a, &leave_group_request_member_table, request.members_count);
    int code = request.members ? RV_OK : error_memory(ret_error);
    for (int32_t i = 0; code == RV_OK && i < request.members_count; i++) {
        request.members[i].member_id = str_of(g->members[i].id);
        request.members[i].group_instance_id = str_of(g->members[i].instance_id);
        request.members[i].reason = STR("removed by an administrator");
    }
    struct ask q = {.client = client,
                    .api_key = 13,
                    .min_version = 3, /* several members */
                    .request = &request,
                    .target = ASK_COORDINATOR,
                    .group = g->group,
                    .deadline_ms = deadline_ms,
                    .code_of = leave_code,
                    .what = what};
    code = code == RV_OK ? ask(&q, ret_error) : code;
    if (code == RV_OK && leave_code(q.response)) {
        code = ask_refused(&q, leave_code(q.response), (struct str){0}, ret_error);
    }
    ask_finish(&q);
    arena_finish(&a);
    return code;
}

int rv_group_remove_members(struct rv_client *client, const char *group, int timeout_ms,
                            struct rv_error *ret_error)
{
    int64_t deadline_ms = client_deadline(client, timeout_ms);
    struct rv_group *g;
    int code = rv_group_describe(client, group, timeout_ms, &g, ret_error);
    if (code == RV_OK) {
        code = g->member_count ? members_leave(client, g, deadline_ms, ret_error) : RV_OK;
        rv_free(g);
    }
    return code;
}

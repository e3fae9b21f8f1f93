/* OffsetCommit, OffsetFetch, OffsetDelete: how far groups got. */
#include "broker/api/families.h"
#include "broker/api/group.h"
#include "broker/config.h"
#include "broker/meta/meta.h"
#include "gen/offset_commit.h"
#include "gen/offset_delete.h"
#include "gen/offset_fetch.h"

enum {
    COMMIT_NOT_FOUND = 9, /* from here on an unknown group is said to be that */
    COMMIT_TOPIC_IDS = 10,
    FETCH_ALL_TOPICS = 2, /* and from here on an error of the group stands beside the topics */
    FETCH_BATCHED = 8,
    FETCH_TOPIC_IDS = 10,
};

/* ---- OffsetCommit */

/* KERR_NONE: it may be asked of the group. */
static int16_t check_commit(const struct request *req, const struct topic *topic,
                            const struct offset_commit_request_partition *p)
{
    if (p->partition_index < 0 || p->partition_index >= topic->partition_count) {
        return KERR_UNKNOWN_TOPIC_OR_PARTITION;
    }
    size_t limit = (size_t)req->env->config->offset_metadata_max_bytes;
    return p->committed_metadata.len > limit ? KERR_OFFSET_METADATA_TOO_LARGE : KERR_NONE;
}

static const struct topic *find_topic(const struct request *req, bool by_id, struct str name,
                                      struct uuid id, int16_t *ret_error)
{
    struct meta *meta = req->env->meta;
    const struct topic *topic = by_id ? meta_find_id(meta, id) : meta_find(meta, name);
    if (!topic) {
        *ret_error = by_id ? KERR_UNKNOWN_TOPIC_ID : KERR_UNKNOWN_TOPIC_OR_PARTITION;
        return NULL;
    }
    if (!authorize(req, ACL_READ, ACL_TOPIC, topic->name)) {
        *ret_error = by_id ? KERR_UNKNOWN_TOPIC_ID : KERR_TOPIC_AUTHORIZATION_FAILED;
        return NULL;
    }
    *ret_error = KERR_NONE;
    return topic;
}

/* Fills in what is refused, and gives what is left to be committed; offsets has room for all. */
static err commit_topic(struct request *req, const struct offset_commit_request_topic *in,
                        struct offset_commit_response_topic *out,
                        struct group_commit_offset *offsets, size_t *count)
{
    int16_t topic_error;
    bool by_id = req->header.api_version >= COMMIT_TOPIC_IDS;
    const struct topic *topic = find_topic(req, by_id, in->name, in->topic_id, &topic_error);
    *out = (struct offset_commit_response_topic){
        .name = in->name,
        .topic_id = in->topic_id,
        .partitions =
            wire_array(&req->arena, &offset_commit_response_partition_table, in->partitions_count),
        .partitions_count = in->partitions_count,
    };
    if (!out->partitions) {
        return arena_error(&req->arena);
    }
    for (int32_t i = 0; i < in->partitions_count; i++) {
        const struct offset_commit_request_partition *p = &in->partitions[i];
        out->partitions[i].partition_index = p->partition_index;
        out->partitions[i].error_code = topic ? check_commit(req, topic, p) : topic_error;
        if (out->partitions[i].error_code) {
            continue;
        }
        offsets[(*count)++] = (struct group_commit_offset){
            .topic = topic->name,
            .topic_id = topic->id,
            .partition = p->partition_index,
            .offset = p->committed_offset,
            .leader_epoch = p->committed_leader_epoch,
            .metadata = p->committed_metadata,
        };
    }
    return OK;
}

/* Everything that was not refused before gets the group's answer. */
static void commit_all(struct request *req, int16_t code)
{
    struct offset_commit_response *out = request_reply(req);
    for (int32_t i = 0; i < out->topics_count; i++) {
        for (int32_t k = 0; k < out->topics[i].partitions_count; k++) {
            int16_t *error = &out->topics[i].partitions[k].error_code;
            *error = *error ? *error : code;
        }
    }
}

static err finish_commit(struct request *req, const struct group_answer *a)
{
    int16_t code = a->error == GROUP_TOO_LARGE ? (int16_t)KERR_INVALID_COMMIT_OFFSET_SIZE
                                               : group_code(a->error);
    commit_all(req, code);
    return OK;
}

static err prepare_commit(struct request *req, struct group_commit_offset **ret_offsets,
                          size_t *ret_count)
{
    const struct offset_commit_request *in = request_body(req);
    struct offset_commit_response *out = request_reply(req);
    size_t room = 1;
    for (int32_t i = 0; i < in->topics_count; i++) {
        room += (size_t)in->topics[i].partitions_count;
    }
    struct group_commit_offset *offsets = arena_zero(&req->arena, room, sizeof *offsets);
    out->topics = wire_array(&req->arena, &offset_commit_response_topic_table, in->topics_count);
    if (!offsets || !out->topics) {
        return arena_error(&req->arena);
    }
    out->topics_count = in->topics_count;
    size_t count = 0;
    for (int32_t i = 0; i < in->topics_count; i++) {
        err e = commit_topic(req, &in->topics[i], &out->topics[i], offsets, &count);
        if (e) {
            return e;
        }
    }
    *ret_offsets = offsets;
    *ret_count = count;
    return OK;
}

err api_offset_commit(struct request *req)
{
    const struct offset_commit_request *in = request_body(req);
    struct group_commit_offset *offsets = NULL;
    size_t count = 0;
    err e = prepare_commit(req, &offsets, &count);
    if (e) {
        return e;
    }
    int16_t code = group_gate(req, ACL_READ, in->group_id);
    if (!code && in->generation_id_or_member_epoch >= 0 &&
        req->header.api_version >= COMMIT_NOT_FOUND &&
        coord_check(req->env->coord, in->group_id) == GROUP_OK &&
        !coord_find(req->env->coord, in->group_id)) {
        code = KERR_GROUP_ID_NOT_FOUND;
    }
    if (code || count == 0) {
        commit_all(req, code);
        reply(req, 0);
        return OK;
    }
    struct group_event event = {
        .kind = GROUP_EVENT_COMMIT,
        .commit = {.member_id = in->member_id,
                   .instance_id = in->group_instance_id,
                   .generation = in->generation_id_or_member_epoch,
                   .retention_ms = in->retention_time_ms,
                   .offsets = offsets,
                   .offset_count = count},
    };
    return group_submit(req, in->group_id, &event, finish_commit);
}

/* ---- OffsetFetch */

/* The answers of all versions are made in the shape of the newest; v1-7 are copied from it. */
#define PARTITION_TABLE offset_fetch_response_group_topic_partition_table
#define TOPIC_TABLE     offset_fetch_response_group_topic_table

/* Never committed: offset -1 without an error. So is an offset of a deleted topic that had the same
 * name. */
static err fill_offset(struct request *req, const struct group *g, const struct topic *topic,
                       int32_t partition, struct offset_fetch_response_group_topic_partition *to)
{
    to->partition_index = partition;
    to->committed_offset = -1;
    to->committed_leader_epoch = -1;
    to->metadata = STR("");
    const struct group_offset *o = g && topic ? group_offset_find(g, topic->name, partition) : NULL;
    if (!o || (!uuid_is_zero(o->topic_id) && !uuid_eq(o->topic_id, topic->id))) {
        return OK;
    }
    to->committed_offset = o->offset;
    to->committed_leader_epoch = o->leader_epoch;
    to->metadata = request_copy(req, o->metadata);
    return to->metadata.ptr ? OK : arena_error(&req->arena);
}

static err fetch_topic(struct request *req, const struct group *g,
                       const struct offset_fetch_request_group_topic *in,
                       struct offset_fetch_response_group_topic *out)
{
    bool by_id = req->header.api_version >= FETCH_TOPIC_IDS;
    int16_t error;
    const struct topic *topic = find_topic(req, by_id, in->name, in->topic_id, &error);
    if (error == KERR_UNKNOWN_TOPIC_OR_PARTITION) {
        error = KERR_NONE; /* nothing is committed for it; only an unknown id is an error */
    }
    out->name = in->name;
    out->topic_id = in->topic_id;
    out->partitions = wire_array(&req->arena, &PARTITION_TABLE, in->partition_indexes_count);
    if (!out->partitions) {
        return arena_error(&req->arena);
    }
    out->partitions_count = in->partition_indexes_count;
    for (int32_t i = 0; i < in->partition_indexes_count; i++) {
        err e = fill_offset(req, g, topic, in->partition_indexes[i], &out->partitions[i]);
        if (e) {
            return e;
        }
        out->partitions[i].error_code = error;
    }
    return OK;
}

/* All that is stored of one topic, if it is there still. */
static err fetch_stored(struct request *req, const struct group *g, const struct group_topic *t,
                        struct offset_fetch_response_group *out)
{
    int16_t error;
    const struct topic *topic = find_topic(req, false, t->name, (struct uuid){{0}}, &error);
    if (!topic) {
        return OK;
    }
    struct offset_fetch_response_group_topic *to = &out->topics[out->topics_count];
    to->name = request_copy(req, t->name);
    to->topic_id = topic->id;
    to->partitions = wire_array(&req->arena, &PARTITION_TABLE, (int32_t)t->count);
    if (!to->name.ptr || !to->partitions) {
        return arena_error(&req->arena);
    }
    for (size_t i = 0; i < t->count; i++) {
        err e = fill_offset(req, g, topic, t->offsets[i]->partition,
                            &to->partitions[to->partitions_count]);
        if (e) {
            return e;
        }
        to->partitions_count += t->offsets[i]->stored; /* else its first commit is under way */
    }
    out->topics_count += to->partitions_count > 0;
    return OK;
}

/* topics_count < 0: all of them. */
static err fetch_group(struct request *req, const struct offset_fetch_request_group *in,
                       struct offset_fetch_response_group *out)
{
    struct coord *c = req->env->coord;
    out->group_id = in->group_id;
    out->topics = wire_array(&req->arena, &TOPIC_TABLE, 0);
    out->error_code = group_gate(req, ACL_DESCRIBE, in->group_id);
    if (!out->error_code) {
        out->error_code = group_code(coord_check(c, in->group_id));
    }
    if (out->error_code) {
        return OK;
    }
    const struct group *g = coord_find(c, in->group_id);
    bool all = in->topics_count < 0;
    int32_t count = !all ? in->topics_count : g ? (int32_t)map_count(&g->topics) : 0;
    out->topics = wire_array(&req->arena, &TOPIC_TABLE, count);
    if (!out->topics) {
        return arena_error(&req->arena);
    }
    if (!all) {
        out->topics_count = count;
        for (int32_t i = 0; i < count; i++) {
            err e = fetch_topic(req, g, &in->topics[i], &out->topics[i]);
            if (e) {
                return e;
            }
        }
        return OK;
    }
    for (struct map_entry *e = g ? map_first(&g->topics) : NULL; e; e = map_next(e)) {
        err failed = fetch_stored(req, g, map_value(e), out);
        if (failed) {
            return failed;
        }
    }
    return OK;
}

/* What the versions before the batched ones ask, as if it were one group of a batch. */
static err read_single(struct request *req, struct offset_fetch_request_group *ret_group)
{
    const struct offset_fetch_request *in = request_body(req);
    struct offset_fetch_request_group group = {.group_id = in->group_id,
                                               .topics_count = in->topics_count};
    if (in->topics_count > 0) {
        group.topics =
            wire_array(&req->arena, &offset_fetch_request_group_topic_table, in->topics_count);
        if (!group.topics) {
            return arena_error(&req->arena);
        }
    }
    for (int32_t i = 0; i < in->topics_count; i++) {
        group.topics[i].name = in->topics[i].name;
        group.topics[i].partition_indexes = in->topics[i].partition_indexes;
        group.topics[i].partition_indexes_count = in->topics[i].partition_indexes_count;
    }
    *ret_group = group;
    return OK;
}

static err write_single_topic(struct request *req,
                              const struct offset_fetch_response_group_topic *from,
                              struct offset_fetch_response_topic *to)
{
    to->name = from->name;
    to->partitions =
        wire_array(&req->arena, &offset_fetch_response_partition_table, from->partitions_count);
    if (!to->partitions) {
        return arena_error(&req->arena);
    }
    to->partitions_count = from->partitions_count;
    for (int32_t i = 0; i < from->partitions_count; i++) {
        to->partitions[i] = (struct offset_fetch_response_partition){
            .partition_index = from->partitions[i].partition_index,
            .committed_offset = from->partitions[i].committed_offset,
            .committed_leader_epoch = from->partitions[i].committed_leader_epoch,
            .metadata = from->partitions[i].metadata,
            .error_code = from->partitions[i].error_code,
        };
    }
    return OK;
}

/* Before there was a place for it, an error of the group stood at every partition. */
static err write_error_v1(struct request *req, const struct offset_fetch_request_group *asked,
                          struct offset_fetch_response_group *group)
{
    int16_t code = group->error_code;
    group->topics = wire_array(&req->arena, &TOPIC_TABLE, asked->topics_count);
    if (!group->topics) {
        return arena_error(&req->arena);
    }
    group->topics_count = asked->topics_count;
    for (int32_t i = 0; i < asked->topics_count; i++) {
        err e = fetch_topic(req, NULL, &asked->topics[i], &group->topics[i]);
        if (e) {
            return e;
        }
        for (int32_t k = 0; k < group->topics[i].partitions_count; k++) {
            group->topics[i].partitions[k].error_code = code;
        }
    }
    return OK;
}

static err fetch_single(struct request *req)
{
    struct offset_fetch_response *out = request_reply(req);
    struct offset_fetch_request_group asked;
    struct offset_fetch_response_group group;
    offset_fetch_response_group_init(&group);
    err e = read_single(req, &asked);
    if (!e) {
        e = fetch_group(req, &asked, &group);
    }
    if (!e && group.error_code && req->header.api_version < FETCH_ALL_TOPICS) {
        e = write_error_v1(req, &asked, &group);
    } else {
        out->error_code = group.error_code;
    }
    if (e) {
        return e;
    }
    out->topics = wire_array(&req->arena, &offset_fetch_response_topic_table, group.topics_count);
    if (!out->topics) {
        return arena_error(&req->arena);
    }
    out->topics_count = group.topics_count;
    for (int32_t i = 0; i < group.topics_count && !e; i++) {
        e = write_single_topic(req, &group.topics[i], &out->topics[i]);
    }
    return e;
}

static err answer_single(struct request *req)
{
    err e = fetch_single(req);
    if (!e) {
        reply(req, 0);
    }
    return e;
}

static err fetch_own(struct request *req)
{
    const struct offset_fetch_request *in = request_body(req);
    struct offset_fetch_response *out = request_reply(req);
    for (int32_t i = 0; i < in->groups_count; i++) {
        err e = owns_group(req, in->groups[i].group_id)
                    ? fetch_group(req, &in->groups[i], &out->groups[i])
                    : OK;
        if (e) {
            return e;
        }
    }
    reply(req, 0);
    return OK;
}

err api_offset_fetch(struct request *req)
{
    const struct offset_fetch_request *in = request_body(req);
    struct offset_fetch_response *out = request_reply(req);
    if (req->header.api_version < FETCH_BATCHED) {
        return request_go(req, coord_shard_of(req->env->coord, in->group_id), answer_single);
    }
    out->groups = wire_array(&req->arena, &offset_fetch_response_group_table, in->groups_count);
    if (!out->groups) {
        return arena_error(&req->arena);
    }
    out->groups_count = in->groups_count;
    return request_visit(req, fetch_own, NULL);
}

/* ---- OffsetDelete */

static int16_t delete_refusal(const struct request *req, const struct group *g, struct str name,
                              int32_t partition)
{
    if (!authorize(req, ACL_READ, ACL_TOPIC, name)) {
        return KERR_TOPIC_AUTHORIZATION_FAILED;
    }
    const struct topic *topic = meta_find(req->env->meta, name);
    if (!topic || partition < 0 || partition >= topic->partition_count) {
        return KERR_UNKNOWN_TOPIC_OR_PARTITION;
    }
    return group_is_subscribed(g, name) ? KERR_GROUP_SUBSCRIBED_TO_TOPIC : KERR_NONE;
}

static err finish_delete(struct request *req, const struct group_answer *a)
{
    struct offset_delete_response *out = request_reply(req);
    out->error_code = group_code(a->error);
    if (a->error) {
        out->topics_count = 0;
    }
    return OK;
}

static err prepare_delete(struct request *req, const struct group *g,
                          struct group_commit_offset **ret_offsets, size_t *ret_count)
{
    const struct offset_delete_request *in = request_body(req);
    struct offset_delete_response *out = request_reply(req);
    size_t room = 1, n = 0;
    for (int32_t i = 0; i < in->topics_count; i++) {
        room += (size_t)in->topics[i].partitions_count;
    }
    struct group_commit_offset *offsets = arena_zero(&req->arena, room, sizeof *offsets);
    out->topics = wire_array(&req->arena, &offset_delete_response_topic_table, in->topics_count);
    if (!offsets || !out->topics) {
        return arena_error(&req->arena);
    }
    out->topics_count = in->topics_count;
    for (int32_t i = 0; i < in->topics_count; i++) {
        const struct offset_delete_request_topic *from = &in->topics[i];
        struct offset_delete_response_topic *to = &out->topics[i];
        to->name = from->name;
        to->partitions = wire_array(&req->arena, &offset_delete_response_partition_table,
                                    from->partitions_count);
        if (!to->partitions) {
            return arena_error(&req->arena);
        }
        to->partitions_count = from->partitions_count;
        for (int32_t k = 0; k < from->partitions_count; k++) {
            int32_t partition = from->partitions[k].partition_index;
            to->partitions[k].partition_index = partition;
            to->partitions[k].error_code = delete_refusal(req, g, from->name, partition);
            if (!to->partitions[k].error_code) {
                offsets[n++] =
                    (struct group_commit_offset){.topic = from->name, .partition = partition};
            }
        }
    }
    *ret_offsets = offsets;
    *ret_count = n;
    return OK;
}

err api_offset_delete(struct request *req)
{
    const struct offset_delete_request *in = request_body(req);
    struct offset_delete_response *out = request_reply(req);
    struct coord *c = req->env->coord;
    out->error_code = group_gate(req, ACL_DELETE, in->group_id);
    if (!out->error_code) {
        out->error_code = group_code(coord_check(c, in->group_id));
    }
    const struct group *g = out->error_code ? NULL : coord_find(c, in->group_id);
    if (!out->error_code) {
        out->error_code = group_code(g ? group_may_delete_offsets(g) : GROUP_NOT_FOUND);
    }
    if (out->error_code) {
        reply(req, 0);
        return OK;
    }
    struct group_commit_offset *offsets = NULL;
    size_t count = 0;
    err e = prepare_delete(req, g, &offsets, &count);
    if (e) {
        return e;
    }
    if (count == 0) {
        reply(req, 0);
        return OK;
    }
    struct group_event event = {
        .kind = GROUP_EVENT_DELETE_OFFSETS,
        .delete_offsets = {.offsets = offsets, .offset_count = count},
    };
    return group_submit(req, in->group_id, &event, finish_delete);
}

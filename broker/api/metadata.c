/* Metadata, DescribeCluster, DescribeTopicPartitions: where things are. One broker leads every
 * partition. */
#include "gen/metadata.h"
#include "base/check.h"
#include "base/map.h"
#include "broker/api/families.h"
#include "broker/api/request.h"
#include "broker/api/topics.h"
#include "broker/config.h"
#include "broker/log/manager.h"
#include "broker/meta/meta.h"
#include "gen/describe_cluster.h"
#include "gen/describe_topic_partitions.h"

#include <stdlib.h>

enum { ENDPOINT_BROKERS = 1, ENDPOINT_CONTROLLERS = 2 };

static const struct str cluster_resource = {.ptr = "kafka-cluster", .len = 13};

/* ---- Metadata */

/* What one asked topic came to; in the arena, one for each asked topic. */
struct asked {
    struct str name;     /* null when it was asked by id */
    struct uuid id;      /* zero when it was asked by name */
    int16_t error;       /* KERR_NONE: it is there when the answer is written */
    bool repeated;       /* asked before in the same request: not answered again */
    struct request *req; /* of a creation under way */
};

struct metadata_work {
    struct asked *asked;
    int32_t asked_count; /* -1: all topics */
    int32_t creating;    /* creations under way */
    int32_t *self;       /* array of one: this broker's id; every list of replicas is this */
};

static int32_t *one_int(struct request *req, int32_t value)
{
    int32_t *p = arena_alloc(&req->arena, sizeof *p);
    if (p) {
        *p = value;
    }
    return p;
}

/* A topic that is found has its logs, each at its shard; an epoch is the whole directory's. */
static void fill_partition(struct request *req, int32_t index, int32_t *self,
                           struct metadata_response_partition *out)
{
    out->error_code = KERR_NONE;
    out->partition_index = index;
    out->leader_id = req->env->node_id;
    out->leader_epoch = log_manager_leader_epoch(req->env->logs);
    out->replica_nodes = out->isr_nodes = self;
    out->replica_nodes_count = out->isr_nodes_count = 1;
}

static bool fill_topic(struct request *req, const struct topic *t, int32_t *self,
                       struct metadata_response_topic *out)
{
    const struct metadata_request *in = request_body(req);
    out->name = request_copy(req, t->name);
    out->topic_id = t->id;
    out->is_internal = t->internal;
    out->partitions =
        wire_array(&req->arena, &metadata_response_partition_table, t->partition_count);
    if (!out->name.ptr || !out->partitions) {
        return false;
    }
    out->partitions_count = t->partition_count;
    for (int32_t i = 0; i < t->partition_count; i++) {
        fill_partition(req, i, self, &out->partitions[i]);
    }
    if (in->include_topic_authorized_operations) {
        out->topic_authorized_operations = authorized_operations(req, ACL_TOPIC, t->name);
    }
    return true;
}

static err fill_all(struct request *req, struct metadata_work *work)
{
    struct metadata_response *out = request_reply(req);
    int32_t count = meta_topic_count(req->env->meta);
    out->topics = wire_array(&req->arena, &metadata_response_topic_table, count);
    if (!out->topics) {
        return arena_error(&req->arena);
    }
    for (int32_t i = 0; i < count; i++) {
        struct topic *t = meta_topic_at(req->env->meta, i);
        if (!authorize(req, ACL_DESCRIBE, ACL_TOPIC, t->name)) {
            continue; /* not said to be there */
        }
        if (!fill_topic(req, t, work->self, &out->topics[out->topics_count++])) {
            return arena_error(&req->arena);
        }
    }
    return OK;
}

static err fill_asked(struct request *req, struct metadata_work *work)
{
    struct metadata_response *out = request_reply(req);
    out->topics = wire_array(&req->arena, &metadata_response_topic_table, work->asked_count);
    if (!out->topics) {
        return arena_error(&req->arena);
    }
    for (int32_t i = 0; i < work->asked_count; i++) {
        struct asked *a = &work->asked[i];
        if (a->repeated) {
            continue;
        }
        bool by_id = !a->name.ptr;
        struct topic *t =
            by_id ? meta_find_id(req->env->meta, a->id) : meta_find(req->env->meta, a->name);
        struct metadata_response_topic *to = &out->topics[out->topics_count++];
        if (t && a->error == KERR_NONE) {
            if (!fill_topic(req, t, work->self, to)) {
                return arena_error(&req->arena);
            }
            continue;
        }
        to->error_code = a->error != KERR_NONE ? a->error
                         : by_id               ? (int16_t)KERR_UNKNOWN_TOPIC_ID
                                               : (int16_t)KERR_UNKNOWN_TOPIC_OR_PARTITION;
        to->name = a->name;
        to->topic_id = a->id;
    }
    return OK;
}

static err metadata_answer(struct request *req)
{
    struct metadata_work *work = req->handler;
    const struct metadata_request *in = request_body(req);
    struct metadata_response *out = request_reply(req);
    struct endpoint endpoint = request_endpoint(req);
    out->brokers = wire_array(&req->arena, &metadata_response_broker_table, 1);
    if (!out->brokers) {
        return arena_error(&req->arena);
    }
    out->brokers_count = 1;
    out->brokers[0].node_id = req->env->node_id;
    out->brokers[0].host = endpoint.host;
    out->brokers[0].port = endpoint.port;
    out->cluster_id = req->env->cluster_id;
    out->controller_id = req->env->node_id;
    if (in->include_cluster_authorized_operations) {
        out->cluster_authorized_operations =
            authorized_operations(req, ACL_CLUSTER, cluster_resource);
    }
    err e = work->asked_count < 0 ? fill_all(req, work) : fill_asked(req, work);
    if (e == OK) {
        reply(req, 0);
    }
    return e;
}

static void topic_made(void *ctx, err e, struct topic *topic)
{
    struct asked *a = ctx;
    struct request *req = a->req;
    struct metadata_work *work = req->handler;
    (void)topic;
    a->error = e == OK ? (int16_t)KERR_NONE : topic_error(e);
    work->creating--;
    if (work->creating == 0 && !request_is_dropped(req) && metadata_answer(req) != OK) {
        request_close(req, "answer_too_large");
    }
    request_release(req);
}

/* Asks for a missing topic to be made, where the client and the settings agree on that. */
static void make_topic(struct request *req, struct asked *a)
{
    struct metadata_work *work = req->handler;
    struct topic_spec spec = {.name = a->name, .partition_count = -1};
    struct buf why = {0};
    if (!authorize(req, ACL_CREATE, ACL_TOPIC, a->name)) {
        a->error = KERR_TOPIC_AUTHORIZATION_FAILED;
        return;
    }
    if (topic_name_is_reserved(a->name)) {
        return; /* made by the broker when it is needed */
    }
    a->req = req;
    request_hold(req);
    err e = meta_create_topic(req->env->meta, &spec, &why, topic_made, a);
    if (e == OK) {
        work->creating++;
    } else {
        /* Somebody else is making it: the client asks again. */
        a->error = e == ERR_EXISTS ? (int16_t)KERR_UNKNOWN_TOPIC_OR_PARTITION : topic_error(e);
        request_release(req);
    }
    buf_finish(&why);
}

static err note_asked(struct request *req, const struct metadata_request *in,
                      struct metadata_work *work)
{
    struct map seen;
    err e = OK;
    work->asked = arena_zero(&req->arena, (size_t)in->topics_count, sizeof *work->asked);
    if (!work->asked) {
        return arena_error(&req->arena);
    }
    work->asked_count = in->topics_count;
    map_init(&seen, rng_next(req->env->rng));
    for (int32_t i = 0; i < in->topics_count && e == OK; i++) {
        const struct metadata_request_topic *topic = &in->topics[i];
        struct asked *a = &work->asked[i];
        /* An id is asked for whether the name beside it is null or, as Java sends it, empty. */
        bool by_id = !topic->name.ptr || !uuid_is_zero(topic->topic_id);
        const void *key = by_id ? (const void *)topic->topic_id.b : topic->name.ptr;
        size_t key_size = by_id ? sizeof topic->topic_id.b : topic->name.len;
        a->name = by_id ? (struct str){0} : topic->name;
        a->id = by_id ? topic->topic_id : (struct uuid){{0}};
        a->repeated = map_get(&seen, key, key_size) != NULL;
        e = map_put(&seen, key, key_size, a);
        if (by_id && req->header.api_version < 12) {
            a->name = STR(""); /* ids alone are for later versions */
            a->error = KERR_INVALID_REQUEST;
        } else if (!by_id && meta_check_name(topic->name) != OK) {
            a->error = KERR_INVALID_TOPIC_EXCEPTION;
        } else if (!by_id && !authorize(req, ACL_DESCRIBE, ACL_TOPIC, topic->name)) {
            a->error = KERR_TOPIC_AUTHORIZATION_FAILED;
        }
    }
    map_finish(&seen);
    return e;
}

err api_metadata(struct request *req)
{
    const struct metadata_request *in = request_body(req);
    struct metadata_work *work = arena_zero(&req->arena, 1, sizeof *work);
    if (!work || !(work->self = one_int(req, req->env->node_id))) {
        return arena_error(&req->arena);
    }
    req->handler = work;
    bool all = in->topics_count < 0 || (req->header.api_version == 0 && in->topics_count == 0);
    work->asked_count = -1;
    err e = all ? OK : note_asked(req, in, work);
    if (e != OK) {
        return e;
    }
    bool make = req->env->config->auto_create_topics && in->allow_auto_topic_creation;
    for (int32_t i = 0; make && i < work->asked_count; i++) {
        struct asked *a = &work->asked[i];
        if (a->name.ptr && a->error == KERR_NONE && !a->repeated &&
            !meta_find(req->env->meta, a->name)) {
            make_topic(req, a);
        }
    }
    return work->creating ? OK : metadata_answer(req);
}

/* ---- DescribeCluster */

err api_describe_cluster(struct request *req)
{
    const struct describe_cluster_request *in = request_body(req);
    struct describe_cluster_response *out = request_reply(req);
    struct endpoint endpoint = request_endpoint(req);
    out->endpoint_type = in->endpoint_type;
    out->cluster_id = req->env->cluster_id;
    if (in->endpoint_type != ENDPOINT_BROKERS) {
        bool controllers = in->endpoint_type == ENDPOINT_CONTROLLERS;
        out->error_code =
            controllers ? KERR_MISMATCHED_ENDPOINT_TYPE : KERR_UNSUPPORTED_ENDPOINT_TYPE;
        out->error_message =
            controllers ? STR("this address is a broker's") : STR("unknown endpoint type");
        reply(req, 0);
        return OK;
    }
    out->brokers = wire_array(&req->arena, &describe_cluster_response_broker_table, 1);
    if (!out->brokers) {
        return arena_error(&req->arena);
    }
    out->brokers_count = 1;
    out->brokers[0].broker_id = req->env->node_id;
    out->brokers[0].host = endpoint.host;
    out->brokers[0].port = endpoint.port;
    out->controller_id = req->env->node_id;
    if (in->include_cluster_authorized_operations) {
        out->cluster_authorized_operations =
            authorized_operations(req, ACL_CLUSTER, cluster_resource);
    }
    reply(req, 0);
    return OK;
}

/* ---- DescribeTopicPartitions (KIP-966) */

struct page {
    struct request *req;
    struct describe_topic_partitions_response *out;
    int32_t *self;
    int32_t left;          /* partitions that still fit */
    struct str from_topic; /* the cursor; null: from the beginning */
    int32_t from_partition;
};

static err page_end(struct page *p, struct str topic, int32_t partition)
{
    struct describe_topic_partitions_response_next_cursor *next =
        wire_array(&p->req->arena, &describe_topic_partitions_response_next_cursor_table, 1);
    if (!next) {
        return arena_error(&p->req->arena);
    }
    next->topic_name = topic;
    next->partition_index = partition;
    p->out->next_cursor = next;
    return OK;
}

static err page_add(struct page *p, struct str name, const struct topic *t)
{
    struct request *req = p->req;
    struct describe_topic_partitions_response_topic *to = &p->out->topics[p->out->topics_count++];
    to->name = request_copy(req, name);
    if (!to->name.ptr) {
        return arena_error(&req->arena);
    }
    if (!t) {
        to->error_code = meta_check_name(name) == OK ? KERR_UNKNOWN_TOPIC_OR_PARTITION
                                                     : KERR_INVALID_TOPIC_EXCEPTION;
        return OK;
    }
    int32_t first = p->from_topic.ptr && str_eq(p->from_topic, name) ? p->from_partition : 0;
    first = first < 0 ? 0 : first > t->partition_count ? t->partition_count : first;
    int32_t count = t->partition_count - first < p->left ? t->partition_count - first : p->left;
    to->topic_id = t->id;
    to->is_internal = t->internal;
    to->topic_authorized_operations = authorized_operations(req, ACL_TOPIC, name);
    to->partitions =
        wire_array(&req->arena, &describe_topic_partitions_response_partition_table, count);
    if (!to->partitions) {
        return arena_error(&req->arena);
    }
    to->partitions_count = count;
    for (int32_t i = 0; i < count; i++) {
        struct metadata_response_partition one = {0};
        struct describe_topic_partitions_response_partition *part = &to->partitions[i];
        fill_partition(req, first + i, p->self, &one);
        part->error_code = one.error_code;
        part->partition_index = one.partition_index;
        part->leader_id = one.leader_id;
        part->leader_epoch = one.leader_epoch;
        part->replica_nodes = part->isr_nodes = p->self;
        part->replica_nodes_count = part->isr_nodes_count = 1;
        part->eligible_leader_replicas_count = 0;
        part->last_known_elr_count = 0;
    }
    p->left -= count;
    return first + count < t->partition_count ? page_end(p, to->name, first + count) : OK;
}

static int compare_asked(const void *a, const void *b)
{
    const struct describe_topic_partitions_request_topic *x = a;
    const struct describe_topic_partitions_request_topic *y = b;
    return str_cmp(x->name, y->name);
}

static err page_all(struct page *p)
{
    struct meta *meta = p->req->env->meta;
    int32_t count = meta_topic_count(meta);
    int32_t at = p->from_topic.ptr ? meta_topic_index(meta, p->from_topic) : 0;
    p->out->topics =
        wire_array(&p->req->arena, &describe_topic_partitions_response_topic_table, count - at);
    if (!p->out->topics) {
        return arena_error(&p->req->arena);
    }
    for (; at < count && !p->out->next_cursor; at++) {
        struct topic *t = meta_topic_at(meta, at);
        if (!authorize(p->req, ACL_DESCRIBE, ACL_TOPIC, t->name)) {
            continue;
        }
        err e = p->left ? page_add(p, t->name, t) : page_end(p, request_copy(p->req, t->name), 0);
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

static err page_asked(struct page *p, const struct describe_topic_partitions_request *in)
{
    size_t size = (size_t)in->topics_count * sizeof *in->topics;
    struct describe_topic_partitions_request_topic *sorted =
        arena_dup(&p->req->arena, in->topics, size);
    p->out->topics = wire_array(&p->req->arena, &describe_topic_partitions_response_topic_table,
                                in->topics_count);
    if (!sorted || !p->out->topics) {
        return arena_error(&p->req->arena);
    }
    qsort(sorted, (size_t)in->topics_count, sizeof *sorted, compare_asked);
    for (int32_t i = 0; i < in->topics_count && !p->out->next_cursor; i++) {
        struct str name = sorted[i].name;
        bool passed = p->from_topic.ptr && str_cmp(name, p->from_topic) < 0;
        if (passed || (i && str_eq(name, sorted[i - 1].name))) {
            continue;
        }
        bool allowed = authorize(p->req, ACL_DESCRIBE, ACL_TOPIC, name);
        struct topic *t = allowed ? meta_find(p->req->env->meta, name) : NULL;
        err e = p->left ? page_add(p, name, t) : page_end(p, name, 0);
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

err api_describe_topic_partitions(struct request *req)
{
    const struct describe_topic_partitions_request *in = request_body(req);
    int64_t limit = req->env->config->describe_partitions_max;
    struct page p = {.req = req,
                     .out = request_reply(req),
                     .self = one_int(req, req->env->node_id),
                     .left = (int32_t)limit};
    if (!p.self) {
        return arena_error(&req->arena);
    }
    if (in->response_partition_limit < limit) {
        p.left = in->response_partition_limit < 1 ? 1 : in->response_partition_limit;
    }
    if (in->cursor) {
        p.from_topic = in->cursor->topic_name;
        p.from_partition = in->cursor->partition_index;
    }
    err e = in->topics_count > 0 ? page_asked(&p, in) : page_all(&p);
    if (e == OK) {
        reply(req, 0);
    }
    return e;
}

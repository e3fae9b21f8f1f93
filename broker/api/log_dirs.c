/* DescribeLogDirs: the one data directory, the size of every partition in it, and what the disk has
 * left. */
#include "broker/api/families.h"
#include "broker/api/partition.h"
#include "broker/store/store.h"
#include "broker/store/worker.h"
#include "gen/describe_log_dirs.h"

enum { SPACE_SINCE = 4 }; /* version that has the disk's sizes */

/* The question to the disk, in the request's arena, which its hold keeps. */
struct space_work {
    struct work work;
    struct request *req;
    struct store *store;
    int64_t free_bytes;
    int64_t total_bytes;
    err result;
};

enum { NOT_THERE = -1 }; /* no shard has told the partition's size */

/* `asked` NULL: all partitions. */
static err add_topic(struct request *req, const struct topic *t,
                     const struct describe_log_dirs_request_topic *asked,
                     struct describe_log_dirs_response_result *dir)
{
    int32_t count = asked ? asked->partitions_count : t->partition_count;
    struct describe_log_dirs_response_topic *out = &dir->topics[dir->topics_count++];
    out->name = request_copy(req, t->name);
    out->partitions = wire_array(&req->arena, &describe_log_dirs_response_partition_table, count);
    if (!out->name.ptr || !out->partitions) {
        return arena_error(&req->arena);
    }
    for (int32_t i = 0; i < count; i++) {
        int32_t index = asked ? asked->partitions[i] : i;
        if (index >= 0 && index < t->partition_count) {
            struct describe_log_dirs_response_partition *p =
                &out->partitions[out->partitions_count++];
            p->partition_index = index;
            p->partition_size = NOT_THERE;
        }
    }
    return OK;
}

static err add_topics(struct request *req, struct describe_log_dirs_response_result *dir)
{
    const struct describe_log_dirs_request *in = request_body(req);
    struct meta *meta = req->env->meta;
    bool all = in->topics_count < 0;
    int32_t count = all ? meta_topic_count(meta) : in->topics_count;
    dir->topics = wire_array(&req->arena, &describe_log_dirs_response_topic_table, count);
    if (!dir->topics) {
        return arena_error(&req->arena);
    }
    for (int32_t i = 0; i < count; i++) {
        struct topic *t = all ? meta_topic_at(meta, i) : meta_find(meta, in->topics[i].topic);
        err e = t ? add_topic(req, t, all ? NULL : &in->topics[i], dir) : OK;
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

/* Of what is the shard's that the request is at. */
static err add_sizes(struct request *req)
{
    struct describe_log_dirs_response *out = request_reply(req);
    struct describe_log_dirs_response_result *dir = &out->results[0];
    for (int32_t i = 0; i < dir->topics_count; i++) {
        const struct topic *t = meta_find(req->env->meta, dir->topics[i].name);
        for (int32_t k = 0; t && k < dir->topics[i].partitions_count; k++) {
            struct describe_log_dirs_response_partition *p = &dir->topics[i].partitions[k];
            const struct log *log = request_log(req, t, p->partition_index);
            p->partition_size = log ? log_size_bytes(log) : p->partition_size;
        }
    }
    reply(req, 0);
    return OK;
}

/* What is not there is left out, as in Kafka. */
static void leave_out(struct describe_log_dirs_response_result *dir)
{
    int32_t topics = 0;
    for (int32_t i = 0; i < dir->topics_count; i++) {
        struct describe_log_dirs_response_topic t = dir->topics[i];
        int32_t n = 0;
        for (int32_t k = 0; k < t.partitions_count; k++) {
            if (t.partitions[k].partition_size != NOT_THERE) {
                t.partitions[n++] = t.partitions[k];
            }
        }
        t.partitions_count = n;
        if (n > 0) {
            dir->topics[topics++] = t;
        }
    }
    dir->topics_count = topics;
}

static void space_run(struct work *work)
{
    struct space_work *w =
        (struct space_work *)(void *)((char *)work - offsetof(struct space_work, work));
    w->result = w->store->ops->space(w->store->ctx, &w->free_bytes, &w->total_bytes);
}

static void space_done(struct work *work)
{
    struct space_work *w =
        (struct space_work *)(void *)((char *)work - offsetof(struct space_work, work));
    struct request *req = w->req;
    struct describe_log_dirs_response *out = request_reply(req);
    if (w->result == OK) { /* otherwise the answer says -1: unknown */
        out->results[0].total_bytes = w->total_bytes;
        out->results[0].usable_bytes = w->free_bytes;
    } else {
        diag_log(req->env->diag, DIAG_WARN, "disk_space_unknown", "error=\"%s\"",
                 err_text(w->result));
    }
    if (!request_is_dropped(req)) {
        reply(req, 0);
    }
    request_release(req);
}

static err add_space(struct request *req)
{
    struct describe_log_dirs_response *out = request_reply(req);
    leave_out(&out->results[0]);
    if (req->header.api_version < SPACE_SINCE) {
        reply(req, 0);
        return OK;
    }
    struct space_work *w = arena_zero(&req->arena, 1, sizeof *w);
    if (!w) {
        return arena_error(&req->arena);
    }
    *w = (struct space_work){
        .work = {.run = space_run, .done = space_done},
          .req = req, .store = req->env->store
    };
    request_hold(req);
    worker_submit(req->env->reader, &w->work);
    return OK;
}

err api_describe_log_dirs(struct request *req)
{
    struct describe_log_dirs_response *out = request_reply(req);
    if (!authorize(req, ACL_DESCRIBE, ACL_CLUSTER, STR("kafka-cluster"))) {
        out->error_code = KERR_CLUSTER_AUTHORIZATION_FAILED;
        reply(req, 0);
        return OK;
    }
    out->results = wire_array(&req->arena, &describe_log_dirs_response_result_table, 1);
    if (!out->results) {
        return arena_error(&req->arena);
    }
    out->results_count = 1;
    out->results[0].log_dir = req->env->data_path;
    err e = add_topics(req, &out->results[0]);
    return e == OK ? request_visit(req, add_sizes, add_space) : e;
}

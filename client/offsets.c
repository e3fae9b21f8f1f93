#include "client/offsets.h"

#include "client/ask.h"
#include "protocol/error.h"

#include <string.h>

int offsets_add(struct list_offsets_request *r, struct arena *a, struct str topic, int32_t room,
                int32_t partition, int32_t leader_epoch, int64_t timestamp)
{
    struct list_offsets_request_topic *t = r->topics_count ? &r->topics[r->topics_count - 1] : NULL;
    if (!t || !str_eq(t->name, topic)) {
        t = &r->topics[r->topics_count];
        t->name = topic;
        t->partitions = wire_array(a, &list_offsets_request_partition_table, room);
        t->partitions_count = 0;
        if (!t->partitions) {
            return RV_E_MEMORY;
        }
        r->topics_count++;
    }
    struct list_offsets_request_partition *p = &t->partitions[t->partitions_count++];
    p->partition_index = partition;
    p->current_leader_epoch = leader_epoch;
    p->timestamp = timestamp;
    return RV_OK;
}

/* ---- the admin call ---- */

enum { OPEN_CODE = INT32_MIN, OFFSETS_ARENA_LIMIT = 256 << 20 };

struct offsets_job {
    struct rv_client *client;
    struct rv_partition *partitions; /* code OPEN_CODE: not answered yet */
    size_t count;
    int64_t at;
    int64_t deadline_ms;
};

/* The first one from `from` on; NULL: none. A partition may be in the list more than once. */
static struct rv_partition *job_find(const struct offsets_job *job, size_t from, struct str topic,
                                     int32_t partition)
{
    for (size_t i = from; i < job->count; i++) {
        struct rv_partition *p = &job->partitions[i];
        if (p->partition == partition && str_eq(str_of(p->topic), topic)) {
            return p;
        }
    }
    return NULL;
}

static void job_take(struct offsets_job *job, const struct list_offsets_response *r)
{
    for (int32_t i = 0; i < r->topics_count; i++) {
        const struct list_offsets_response_topic *t = &r->topics[i];
        for (int32_t j = 0; j < t->partitions_count; j++) {
            const struct list_offsets_response_partition *in = &t->partitions[j];
            if (in->error_code && error_is_retriable(in->error_code)) {
                meta_refresh(&job->client->meta);
                continue; /* stays open */
            }
            struct rv_partition *p = job_find(job, 0, t->name, in->partition_index);
            while (p) {
                p->code = in->error_code;
                p->offset = in->error_code ? -1 : in->offset;
                p->leader_epoch = in->leader_epoch;
                p = job_find(job, (size_t)(p - job->partitions) + 1, t->name, in->partition_index);
            }
        }
    }
}

/* Whether the same partition is open further to the front, and so asked for already. */
static bool job_open_before(const struct offsets_job *job, const struct rv_partition *p)
{
    const struct rv_partition *q = job->partitions;
    while ((q = job_find(job, (size_t)(q - job->partitions), str_of(p->topic), p->partition)) !=
               p &&
           q->code != OPEN_CODE) {
        q++;
    }
    return q != p;
}

/* Fills a request with the open partitions that `node` leads. Returns how many, or RV_E_MEMORY. */
static int job_fill(struct offsets_job *job, int32_t node, struct arena *a,
                    struct list_offsets_request *r)
{
    int32_t most = (int32_t)job->count;
    list_offsets_request_init(r);
    r->replica_id = -1;
    r->timeout_ms = (int32_t)setting(job->client, OPT_REQUEST_TIMEOUT_MS);
    r->topics = wire_array(a, &list_offsets_request_topic_table, most);
    r->topics_count = 0;
    if (!r->topics) {
        return RV_E_MEMORY;
    }
    int n = 0;
    for (size_t i = 0; i < job->count; i++) {
        struct rv_partition *p = &job->partitions[i];
        const struct topic *t = meta_topic(&job->client->meta, p->topic, false);
        if (p->code != OPEN_CODE || !t || p->partition >= t->count || t->code != RV_OK ||
            t->partitions[p->partition].leader != node || job_open_before(job, p)) {
            continue;
        }
        if (offsets_add(r, a, str_of(p->topic), most, p->partition, -1, job->at) != RV_OK) {
            return RV_E_MEMORY;
        }
        n++;
    }
    return n;
}

static int job_ask_node(struct offsets_job *job, int32_t node, struct rv_error *ret_error)
{
    struct arena a;
    arena_init(&a, OFFSETS_ARENA_LIMIT);
    struct list_offsets_request request;
    int n = job_fill(job, node, &a, &request);
    int code = RV_OK;
    if (n < 0) {
        code = error_memory(ret_error);
    } else if (n > 0) {
        struct ask q = {.client = job->client,
                        .api_key = 2,
                        .min_version = 1,
                        .request = &request,
                        .target = ASK_NODE,
                        .node = node,
                        .deadline_ms = job->deadline_ms,
                        .what = "list offsets"};
        code = ask(&q, ret_error);
        if (code == RV_OK) {
            job_take(job, q.response);
        }
        ask_finish(&q);
    }
    arena_finish(&a);
    return code;
}

/* One pass over the brokers. Returns whether something is still open. */
static int job_round(struct offsets_job *job, bool *ret_open, struct rv_error *ret_error)
{
    struct rv_client *c = job->client;
    for (size_t i = 0; i < job->count; i++) {
        struct rv_partition *p = &job->partitions[i];
        struct topic *t = NULL;
        if (p->code != OPEN_CODE) {
            continue;
        }
        int code = topic_wait(c, p->topic, job->deadline_ms, &t, NULL);
        if (code == RV_E_MEMORY) {
            return error_memory(ret_error);
        }
        if (code != RV_OK || p->partition < 0 || p->partition >= t->count) {
            p->code = code != RV_OK ? code : KERR_UNKNOWN_TOPIC_OR_PARTITION;
        }
    }
    for (int32_t b = 0; b < c->meta.broker_count; b++) {
        int code = job_ask_node(job, c->meta.brokers[b].id, ret_error);
        if (code != RV_OK) {
            return code;
        }
    }
    *ret_open = false;
    for (size_t i = 0; i < job->count; i++) {
        *ret_open |= job->partitions[i].code == OPEN_CODE;
    }
    return RV_OK;
}

int rv_offsets(struct rv_client *client, struct rv_partition *partitions, size_t count, int64_t at,
               int timeout_ms, struct rv_error *ret_error)
{
    if (client->in_turn) {
        return error_set(ret_error, RV_E_STATE, "list offsets: not allowed in a callback");
    }
    for (size_t i = 0; i < count; i++) {
        if (partitions[i].partition < 0) {
            return error_set(ret_error, RV_E_ARGUMENT, "list offsets: topic %s partition %d",
                             partitions[i].topic, (int)partitions[i].partition);
        }
    }
    struct offsets_job job = {.client = client,
                              .partitions = partitions,
                              .count = count,
                              .at = at,
                              .deadline_ms = client_deadline(client, timeout_ms)};
    for (size_t i = 0; i < count; i++) {
        partitions[i].offset = -1;
        partitions[i].leader_epoch = -1;
        partitions[i].code = OPEN_CODE;
    }
    bool open = count > 0;
    int code = RV_OK;
    while (open && code == RV_OK) {
        code = job_round(&job, &open, ret_error);
        int64_t until = client_now(client) + setting(client, OPT_RETRY_BACKOFF_MS);
        if (open && code == RV_OK && client_now(client) >= job.deadline_ms) {
            code = error_set(ret_error, RV_E_TIMED_OUT, "list offsets: not all answered in time");
        }
        while (open && code == RV_OK && client_turn_until(client, until)) {
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (partitions[i].code == OPEN_CODE) {
            partitions[i].code = code;
        }
    }
    return code;
}

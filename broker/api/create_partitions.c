/* CreatePartitions: raises the number of partitions of topics. */
#include "gen/create_partitions.h"
#include "broker/api/families.h"
#include "broker/api/topics.h"
#include "broker/meta/meta.h"

/* Null: the broker places them. Otherwise one assignment for each new partition. */
static int16_t check_assignments(const struct request *req,
                                 const struct create_partitions_request_topic *in,
                                 const struct topic *t, struct buf *text)
{
    int32_t more = in->count - t->partition_count;
    if (in->assignments_count < 0) {
        return KERR_NONE;
    }
    if (in->assignments_count != more) { /* Kafka's words */
        buf_printf(text,
                   "Attempted to add %d additional partition(s), but only %d assignment(s) were "
                   "specified.",
                   more, in->assignments_count);
        return KERR_INVALID_REPLICA_ASSIGNMENT;
    }
    for (int32_t i = 0; i < more; i++) {
        const struct create_partitions_request_assignment *a = &in->assignments[i];
        int16_t code =
            check_assigned(req, a->broker_ids, a->broker_ids_count, t->partition_count + i, text);
        if (code != KERR_NONE) {
            return code;
        }
    }
    return KERR_NONE;
}

/* What is refused of the topic as it is now; *ret_topic NULL then. */
static int16_t check_topic(const struct request *req,
                           const struct create_partitions_request_topic *in, struct buf *text,
                           struct topic **ret_topic)
{
    *ret_topic = NULL;
    if (!authorize(req, ACL_ALTER, ACL_TOPIC, in->name)) {
        return KERR_TOPIC_AUTHORIZATION_FAILED;
    }
    struct topic *t = meta_find(req->env->meta, in->name);
    if (!t) {
        return KERR_UNKNOWN_TOPIC_OR_PARTITION;
    }
    if (t->internal) { /* its keys are placed by the number of partitions */
        buf_printf(text, "the partitions of internal topics are the broker's");
        return KERR_INVALID_TOPIC_EXCEPTION;
    }
    int16_t code = topic_error(meta_check_partitions(req->env->meta, t, in->count, text));
    code = code == KERR_NONE ? check_assignments(req, in, t, text) : code;
    *ret_topic = code == KERR_NONE ? t : NULL;
    return code;
}

static void add(struct topics_item *item);

static void added(void *ctx, err e, struct topic *topic)
{
    struct topics_item *item = ctx;
    struct request *req = item->req;
    (void)topic;
    bool writable = topics_item_done(item);
    if (e == ERR_STALE && writable) {
        add(item); /* another change was first: once more, on what the topic is now */
    } else if (writable) {
        topics_item_answer(item, topic_error(e), e == OK ? (struct str){0} : str_of(err_text(e)));
    }
    topics_work_go_on(req);
    request_release(req);
}

/* Submits the change, or says why not. */
static void add(struct topics_item *item)
{
    struct request *req = item->req;
    const struct create_partitions_request *body = request_body(req);
    const struct create_partitions_request_topic *in = item->in;
    struct buf text = {0};
    struct topic *t;
    *item->error = check_topic(req, in, &text, &t);
    if (t && !body->validate_only) {
        topics_item_begin(item);
        err e =
            meta_add_partitions(req->env->meta, t->id, t->version, in->count, &text, added, item);
        *item->error = topic_error(e);
        topics_item_begun(item, e);
    }
    *item->text = keep_text(req, &text);
    buf_finish(&text);
}

err api_create_partitions(struct request *req)
{
    const struct create_partitions_request *in = request_body(req);
    struct create_partitions_response *out = request_reply(req);
    struct map counts;
    err e = topics_work_init(req, in->topics_count);
    if (e != OK) {
        return e;
    }
    struct topics_work *work = req->handler;
    out->results =
        wire_array(&req->arena, &create_partitions_response_result_table, in->topics_count);
    if (!out->results) {
        return arena_error(&req->arena);
    }
    map_init(&counts, rng_next(req->env->rng));
    for (int32_t i = 0; i < in->topics_count && e == OK; i++) {
        e = name_count(&counts, in->topics[i].name);
    }
    request_hold(req);
    for (int32_t i = 0; i < in->topics_count && e == OK; i++) {
        struct str name = in->topics[i].name;
        bool first;
        bool repeated = name_is_repeated(&counts, name, &first);
        if (repeated && !first) {
            continue;
        }
        struct create_partitions_response_result *to = &out->results[out->results_count++];
        to->name = name;
        if (repeated) {
            to->error_code = KERR_INVALID_REQUEST;
            to->error_message = STR("Duplicate topic name.");
            continue;
        }
        struct topics_item *item = &work->items[work->item_count++];
        *item = (struct topics_item){
            .req = req, .in = &in->topics[i], .error = &to->error_code, .text = &to->error_message};
        add(item);
    }
    map_finish(&counts);
    if (e == OK) {
        topics_work_submitted(req, in->timeout_ms);
    }
    request_release(req);
    return e;
}

/* CreateTopics and DeleteTopics. Each topic of a request is a change of its own; the answer goes
 * when the last one is done. */
#include "broker/api/topics.h"

#include "base/map.h"
#include "base/timer.h"
#include "broker/api/families.h"
#include "broker/api/request.h"
#include "broker/config.h"
#include "broker/coord/coord.h"
#include "broker/meta/meta.h"
#include "gen/create_topics.h"
#include "gen/delete_topics.h"

int16_t topic_error(err e)
{
    switch (e) {
    case OK: return KERR_NONE;
    case ERR_EXISTS: return KERR_TOPIC_ALREADY_EXISTS;
    case ERR_INVALID: return KERR_INVALID_TOPIC_EXCEPTION;
    case ERR_RANGE: return KERR_INVALID_PARTITIONS;
    case ERR_UNSUPPORTED: return KERR_INVALID_CONFIG;
    case ERR_LIMIT: return KERR_POLICY_VIOLATION;
    case ERR_NOT_FOUND: return KERR_UNKNOWN_TOPIC_OR_PARTITION;
    case ERR_NO_SPACE:
    case ERR_NO_FILES:
    case ERR_IO: return KERR_KAFKA_STORAGE_ERROR;
    case ERR_CLOSED: return KERR_NOT_CONTROLLER; /* stopping: the client asks again */
    default: return KERR_UNKNOWN_SERVER_ERROR;
    }
}

bool topic_name_is_reserved(struct str name)
{
    static const char *const reserved[] = {"__consumer_offsets", "__transaction_state",
                                           "__share_group_state", "__cluster_metadata"};
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++) {
        size_t k = 0;
        while (k < name.len && reserved[i][k] &&
               (name.ptr[k] == '.' ? '_' : name.ptr[k]) == reserved[i][k]) {
            k++;
        }
        if (k == name.len && !reserved[i][k]) {
            return true;
        }
    }
    return false;
}

int8_t topic_config_source(const struct config *config, const struct topic_config *t, int row)
{
    if (t->own[row]) {
        return CONFIG_SOURCE_TOPIC;
    }
    return config->origins[row].source == CONFIG_DEFAULT ? CONFIG_SOURCE_DEFAULT
                                                         : CONFIG_SOURCE_BROKER;
}

struct str keep_text(struct request *req, struct buf *text)
{
    return request_copy(req, (struct str){.ptr = text->len ? text->ptr : NULL, .len = text->len});
}

struct str keep_value(struct request *req, struct buf *text)
{
    const char *p = buf_text(text);
    return request_copy(req, (struct str){.ptr = p, .len = text->len});
}

/* The changes of one request, in its arena. Each that is under way holds the request. */
struct topics_work {
    struct request *req;
    struct topics_item *items; /* array: one a topic of the request */
    int32_t item_count;
    int32_t outstanding; /* changes under way */
    bool submitting;     /* the handler has not come to its end */
    bool answered;       /* by the deadline: nothing may write to the answer any more */
    struct timer timer;  /* the client's timeout */
};

/* One of them. */
struct topics_item {
    struct request *req;
    struct create_topics_response_topic *created; /* or */
    struct delete_topics_response_response *deleted;
    bool by_id;   /* to be deleted; the client named the id */
    bool pending; /* its change is under way */
};

static void item_answer(struct topics_item *item, int16_t error, struct str text)
{
    if (item->created) {
        item->created->error_code = error;
        item->created->error_message = text;
    } else {
        item->deleted->error_code = error;
        item->deleted->error_message = text;
    }
}

static void work_timed_out(struct timer *timer)
{
    struct topics_work *work =
        (struct topics_work *)(void *)((char *)timer - offsetof(struct topics_work, timer));
    for (int32_t i = 0; i < work->item_count; i++) {
        if (work->items[i].pending) {
            item_answer(&work->items[i], KERR_REQUEST_TIMED_OUT,
                        STR("not done within the request's timeout; it goes on"));
        }
    }
    work->answered = true;
    reply(work->req, 0);
}

static void work_dropped(struct request *req)
{
    struct topics_work *work = req->handler;
    timer_disarm(req->env->timers, &work->timer);
}

static err work_init(struct request *req, int32_t count)
{
    struct topics_work *work = req->handler = arena_zero(&req->arena, 1, sizeof *work);
    if (work) {
        work->items = arena_zero(&req->arena, (size_t)count, sizeof *work->items);
    }
    if (!work || !work->items) {
        return arena_error(&req->arena);
    }
    work->req = req;
    work->submitting = true;
    timer_init(&work->timer, work_timed_out);
    req->on_drop = work_dropped;
    return OK;
}

/* Answers when the last change is done. */
static void work_go_on(struct request *req)
{
    struct topics_work *work = req->handler;
    if (work->outstanding == 0 && !work->submitting && !work->answered) {
        timer_disarm(req->env->timers, &work->timer);
        if (!request_is_dropped(req)) {
            reply(req, 0);
        }
    }
}

/* The handler has submitted everything. A timeout of 0 or less is none: an answer comes in any
 * case. */
static void work_submitted(struct request *req, int32_t timeout_ms)
{
    struct topics_work *work = req->handler;
    work->submitting = false;
    if (work->outstanding > 0 && timeout_ms > 0) {
        timer_arm(req->env->timers, &work->timer, clock_mono_ms(req->env->clock) + timeout_ms);
    }
    work_go_on(req);
}

/* A change has come back. True when its answer may still be written. */
static bool item_done(struct topics_item *item)
{
    struct topics_work *work = item->req->handler;
    item->pending = false;
    work->outstanding--;
    return !work->answered && !request_is_dropped(item->req);
}

/* ---- CreateTopics */

static void describe_created(struct request *req, const struct topic *t,
                             const struct topic_config *config, int32_t partitions,
                             struct create_topics_response_topic *out)
{
    int32_t count = 0;
    out->topic_id = t ? t->id : out->topic_id;
    out->num_partitions = partitions;
    out->replication_factor = 1;
    for (int i = 0; i < CONFIG_ROW_COUNT; i++) {
        count += config_rows[i].topic_name != NULL;
    }
    out->configs = wire_array(&req->arena, &create_topics_response_config_table, count);
    out->configs_count = out->configs ? 0 : -1; /* without memory the settings are left out: null */
    for (int i = 0; out->configs && i < CONFIG_ROW_COUNT; i++) {
        if (!config_rows[i].topic_name) {
            continue;
        }
        struct create_topics_response_config *c = &out->configs[out->configs_count];
        struct buf value = {0};
        topic_config_value_text(config, (enum config_row_id)i, &value);
        c->name = str_of(config_rows[i].topic_name);
        c->value = keep_value(req, &value);
        c->config_source = topic_config_source(req->env->config, config, i);
        buf_finish(&value);
        if (!c->value.ptr) {
            out->configs_count = -1;
            return;
        }
        out->configs_count++;
    }
}

static void topic_created(void *ctx, err e, struct topic *topic)
{
    struct topics_item *item = ctx;
    struct request *req = item->req;
    if (item_done(item)) {
        item_answer(item, topic_error(e), e == OK ? (struct str){0} : str_of(err_text(e)));
        if (e == OK) {
            describe_created(req, topic, topic->config, topic->partition_count, item->created);
        }
    }
    work_go_on(req);
    request_release(req);
}

/* Manual assignments must be what one broker can do: partitions 0..n-1, each on this broker. */
static int16_t check_assignments(struct request *req, const struct create_topics_request_topic *in,
                                 int32_t *partitions, struct buf *text)
{
    if (in->num_partitions != -1 || in->replication_factor != -1) {
        buf_printf(text, "with assignments, partitions and replication factor must be -1");
        return KERR_INVALID_REQUEST;
    }
    uint8_t *seen = arena_zero(&req->arena, (size_t)in->assignments_count, 1);
    for (int32_t i = 0; seen && i < in->assignments_count; i++) {
        const struct create_topics_request_assignment *a = &in->assignments[i];
        bool in_range = a->partition_index >= 0 && a->partition_index < in->assignments_count;
        if (!in_range || seen[a->partition_index]++) {
            buf_printf(text, "assignments must name partitions 0 to %d once each",
                       in->assignments_count - 1);
            return KERR_INVALID_REPLICA_ASSIGNMENT;
        }
        if (a->broker_ids_count != 1 || a->broker_ids[0] != req->env->node_id) {
            buf_printf(text, "partition %d must be assigned to broker %d alone", a->partition_index,
                       req->env->node_id);
            return KERR_INVALID_REPLICA_ASSIGNMENT;
        }
    }
    *partitions = in->assignments_count;
    return seen ? KERR_NONE : KERR_UNKNOWN_SERVER_ERROR;
}

/* What can be refused without asking meta/. */
static int16_t check_created(struct request *req, const struct create_topics_request_topic *in,
                             struct topic_spec *spec, struct buf *text)
{
    if (topic_name_is_reserved(in->name)) {
        buf_printf(text, "internal topics are made by the broker");
        return KERR_INVALID_TOPIC_EXCEPTION;
    }
    if (!authorize(req, ACL_CREATE, ACL_TOPIC, in->name)) {
        return KERR_TOPIC_AUTHORIZATION_FAILED;
    }
    if (in->assignments_count > 0) {
        return check_assignments(req, in, &spec->partition_count, text);
    }
    if (in->replication_factor != -1 && in->replication_factor != 1) {
        buf_printf(text, "replication factor %d: there is 1 broker", in->replication_factor);
        return KERR_INVALID_REPLICATION_FACTOR;
    }
    return KERR_NONE;
}

static err create_one(struct request *req, const struct create_topics_request_topic *in,
                      struct create_topics_response_topic *out)
{
    const struct create_topics_request *body = request_body(req);
    struct topics_work *work = req->handler;
    struct buf text = {0};
    struct config_pair *pairs = arena_zero(&req->arena, (size_t)in->configs_count, sizeof *pairs);
    struct topics_item *item = &work->items[work->item_count++];
    if (!pairs) {
        return arena_error(&req->arena);
    }
    for (int32_t i = 0; i < in->configs_count; i++) {
        pairs[i] = (struct config_pair){.name = in->configs[i].name, .value = in->configs[i].value};
    }
    struct topic_spec spec = {.name = in->name,
                              .partition_count = in->num_partitions,
                              .overrides = pairs,
                              .override_count = in->configs_count};
    *item = (struct topics_item){.req = req, .created = out};
    out->error_code = check_created(req, in, &spec, &text);
    if (out->error_code == KERR_NONE && body->validate_only) {
        out->error_code = topic_error(meta_check_topic(req->env->meta, &spec, &text));
        struct topic_config *config;
        if (out->error_code == KERR_NONE &&
            topic_config_create(req->env->config, pairs, in->configs_count, &text, &config) == OK) {
            int32_t partitions = spec.partition_count == -1
                                     ? (int32_t)req->env->config->num_partitions
                                     : spec.partition_count;
            describe_created(req, NULL, config, partitions, out);
            topic_config_destroy(config);
        }
    } else if (out->error_code == KERR_NONE) {
        request_hold(req);
        err e = meta_create_topic(req->env->meta, &spec, &text, topic_created, item);
        out->error_code = topic_error(e);
        item->pending = e == OK;
        work->outstanding += e == OK;
        if (e != OK) {
            request_release(req);
        }
    }
    out->error_message = keep_text(req, &text);
    buf_finish(&text);
    return OK;
}

/* Which names stand more than once: those are refused, with one answer each. */
static bool is_repeated(const struct map *counts, struct str name, bool *first)
{
    uintptr_t seen = (uintptr_t)map_get_str(counts, name);
    *first = (seen & 1) == 0;
    return seen >> 1 > 1;
}

static err count_name(struct map *counts, struct str name)
{
    uintptr_t seen = (uintptr_t)map_get_str(counts, name);
    return map_put_str(counts, name, (void *)(seen + 2));
}

err api_create_topics(struct request *req)
{
    const struct create_topics_request *in = request_body(req);
    struct create_topics_response *out = request_reply(req);
    struct map counts;
    err e = work_init(req, in->topics_count);
    if (e != OK) {
        return e;
    }
    out->topics = wire_array(&req->arena, &create_topics_response_topic_table, in->topics_count);
    if (!out->topics) {
        return arena_error(&req->arena);
    }
    map_init(&counts, rng_next(req->env->rng));
    for (int32_t i = 0; i < in->topics_count && e == OK; i++) {
        e = count_name(&counts, in->topics[i].name);
    }
    request_hold(req);
    for (int32_t i = 0; i < in->topics_count && e == OK; i++) {
        struct str name = in->topics[i].name;
        bool first;
        bool repeated = is_repeated(&counts, name, &first);
        if (repeated && !first) {
            continue;
        }
        struct create_topics_response_topic *to = &out->topics[out->topics_count++];
        to->name = name;
        if (repeated) {
            to->error_code = KERR_INVALID_REQUEST;
            to->error_message = STR("the topic stands more than once in the request");
            e = map_put_str(&counts, name, (void *)((uintptr_t)map_get_str(&counts, name) | 1));
        } else {
            e = create_one(req, &in->topics[i], to);
        }
    }
    map_finish(&counts);
    if (e == OK) {
        work_submitted(req, in->timeout_ms);
    }
    request_release(req);
    return e;
}

/* ---- DeleteTopics */

static int16_t deletion_error(const struct topics_item *item, err e)
{
    return item->by_id && e == ERR_NOT_FOUND ? (int16_t)KERR_UNKNOWN_TOPIC_ID : topic_error(e);
}

static void topic_deleted(void *ctx, err e, struct topic *topic)
{
    struct topics_item *item = ctx;
    struct request *req = item->req;
    (void)topic;
    if (item_done(item)) {
        item_answer(item, deletion_error(item, e), e == OK ? (struct str){0} : str_of(err_text(e)));
    }
    work_go_on(req);
    request_release(req);
}

enum { DELETION_DISABLED_SINCE = 3 }; /* version that has an error code for it */

static int16_t check_deleted(struct request *req, const struct topic *t, struct str *text)
{
    if (!authorize(req, ACL_DELETE, ACL_TOPIC, t->name)) {
        return KERR_TOPIC_AUTHORIZATION_FAILED;
    }
    if (!req->env->config->delete_topics) {
        *text = STR("delete.topic.enable is false");
        return req->header.api_version < DELETION_DISABLED_SINCE ? KERR_INVALID_REQUEST
                                                                 : KERR_TOPIC_DELETION_DISABLED;
    }
    if (t->internal) {
        *text = STR("internal topics are not deleted");
        return KERR_INVALID_REQUEST;
    }
    return KERR_NONE;
}

/* What the i-th topic of the request is called: by its name (id zero) or by its id (name null). */
static void asked_topic(const struct request *req, int32_t i, struct str *ret_name,
                        struct uuid *ret_id)
{
    const struct delete_topics_request *in = request_body(req);
    bool by_topic = req->header.api_version >= 6;
    *ret_name = by_topic ? in->topics[i].name : in->topic_names[i];
    *ret_id = by_topic ? in->topics[i].topic_id : (struct uuid){{0}};
}

static struct topic *find_asked(const struct request *req, struct str name, struct uuid id)
{
    return name.ptr ? meta_find(req->env->meta, name) : meta_find_id(req->env->meta, id);
}

/* How often each topic is asked to be deleted, by whichever name: id -> count. */
static err count_topics(struct request *req, int32_t count, struct map *counts)
{
    err e = OK;
    map_init(counts, rng_next(req->env->rng));
    for (int32_t i = 0; i < count && e == OK; i++) {
        struct str name;
        struct uuid id;
        asked_topic(req, i, &name, &id);
        const struct topic *t = find_asked(req, name, id);
        if (t) {
            uintptr_t seen = (uintptr_t)map_get(counts, t->id.b, sizeof t->id.b);
            e = map_put(counts, t->id.b, sizeof t->id.b, (void *)(seen + 1));
        }
    }
    return e;
}

static int16_t delete_one(struct request *req, struct str name, struct uuid id,
                          const struct map *counts, struct delete_topics_response_response *out)
{
    struct topics_work *work = req->handler;
    struct topics_item *item = &work->items[work->item_count++];
    bool by_id = !uuid_is_zero(id);
    if (by_id == (name.ptr != NULL)) {
        out->error_message = STR("a topic is named by its name or by its id");
        return KERR_INVALID_REQUEST;
    }
    struct topic *t = find_asked(req, name, id);
    if (!t) {
        return by_id ? KERR_UNKNOWN_TOPIC_ID : KERR_UNKNOWN_TOPIC_OR_PARTITION;
    }
    if ((uintptr_t)map_get(counts, t->id.b, sizeof t->id.b) > 1) {
        out->error_message = STR("the topic stands more than once in the request");
        return KERR_INVALID_REQUEST;
    }
    out->topic_id = t->id;
    out->name = request_copy(req, t->name);
    int16_t error = check_deleted(req, t, &out->error_message);
    if (error != KERR_NONE) {
        return error;
    }
    *item = (struct topics_item){.req = req, .deleted = out, .by_id = by_id};
    struct buf text = {0};
    request_hold(req);
    err e = meta_delete_topic(req->env->meta, t->id, &text, topic_deleted, item);
    item->pending = e == OK;
    work->outstanding += e == OK;
    if (e != OK) {
        out->error_message = keep_text(req, &text);
        request_release(req);
    }
    buf_finish(&text);
    return deletion_error(item, e);
}

err api_delete_topics(struct request *req)
{
    const struct delete_topics_request *in = request_body(req);
    struct delete_topics_response *out = request_reply(req);
    int32_t count = req->header.api_version >= 6 ? in->topics_count : in->topic_names_count;
    struct map counts;
    err e = work_init(req, count);
    if (e != OK) {
        return e;
    }
    out->responses = wire_array(&req->arena, &delete_topics_response_response_table, count);
    if (!out->responses) {
        return arena_error(&req->arena);
    }
    out->responses_count = count;
    e = count_topics(req, count, &counts);
    request_hold(req);
    for (int32_t i = 0; i < count && e == OK; i++) {
        struct delete_topics_response_response *to = &out->responses[i];
        asked_topic(req, i, &to->name, &to->topic_id);
        int16_t error = delete_one(req, to->name, to->topic_id, &counts, to);
        to->error_code = error;
    }
    map_finish(&counts);
    if (e == OK) {
        work_submitted(req, in->timeout_ms);
    }
    request_release(req);
    return e;
}

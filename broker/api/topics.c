/* CreateTopics and DeleteTopics. Each topic of a request is a change of its own; the answer goes when the last one is done. */
#include "broker/api/topics.h"

#include "base/map.h"
#include "broker/api/families.h"
#include "broker/api/request.h"
#include "broker/config.h"
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
    return config->origins[row].source == CONFIG_DEFAULT ? CONFIG_SOURCE_DEFAULT : CONFIG_SOURCE_BROKER;
}

struct str keep_text(struct request *req, struct buf *text)
{
    return request_copy(req, (struct str){.ptr = text->len ? text->ptr : NULL, .len = text->len});
}

/* Changes of one request under way; in its arena. */
struct topics_work {
    int32_t outstanding;
    bool submitting; /* the handler has not come to its end */
};

/* One of them. */
struct topics_item {
    struct request *req;
    struct create_topics_response_topic *created;  /* or */
    struct delete_topics_response_response *deleted;
};

static void work_go_on(struct request *req)
{
    struct topics_work *work = req->handler;
    if (work->outstanding == 0 && !work->submitting && !request_is_dropped(req)) {
        reply(req, 0);
    }
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
        buf_text(&value);
        c->name = str_of(config_rows[i].topic_name);
        c->value = request_copy(req, (struct str){.ptr = value.ptr, .len = value.len});
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
    struct topics_work *work = req->handler;
    item->created->error_code = topic_error(e);
    if (e == OK) {
        describe_created(req, topic, topic->config, topic->partition_count, item->created);
    } else {
        item->created->error_message = str_of(err_text(e));
    }
    work->outstanding--;
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
    struct topics_item *item = arena_zero(&req->arena, 1, sizeof *item);
    if (!pairs || !item) {
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
            int32_t partitions = spec.partition_count == -1 ? (int32_t)req->env->config->num_partitions
                                                            : spec.partition_count;
            describe_created(req, NULL, config, partitions, out);
            topic_config_destroy(config);
        }
    } else if (out->error_code == KERR_NONE) {
        request_hold(req);
        err e = meta_create_topic(req->env->meta, &spec, &text, topic_created, item);
        out->error_code = topic_error(e);
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
    struct topics_work *work = req->handler = arena_zero(&req->arena, 1, sizeof *work);
    struct map counts;
    out->topics = wire_array(&req->arena, &create_topics_response_topic_table, in->topics_count);
    if (!work || !out->topics) {
        return arena_error(&req->arena);
    }
    err e = OK;
    work->submitting = true;
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
    work->submitting = false;
    if (e == OK) {
        work_go_on(req);
    }
    request_release(req);
    return e;
}

/* ---- DeleteTopics */

static void topic_deleted(void *ctx, err e, struct topic *topic)
{
    struct topics_item *item = ctx;
    struct request *req = item->req;
    struct topics_work *work = req->handler;
    (void)topic;
    item->deleted->error_code = topic_error(e);
    if (e != OK) {
        item->deleted->error_message = str_of(err_text(e));
    }
    work->outstanding--;
    work_go_on(req);
    request_release(req);
}

static int16_t delete_one(struct request *req, struct str name, struct uuid id,
                          struct delete_topics_response_response *out)
{
    struct topics_work *work = req->handler;
    bool by_id = !uuid_is_zero(id);
    if (by_id == (name.ptr != NULL)) {
        out->error_message = STR("a topic is named by its name or by its id");
        return KERR_INVALID_REQUEST;
    }
    struct topic *t = by_id ? meta_find_id(req->env->meta, id) : meta_find(req->env->meta, name);
    if (!t) {
        return by_id ? KERR_UNKNOWN_TOPIC_ID : KERR_UNKNOWN_TOPIC_OR_PARTITION;
    }
    out->topic_id = t->id;
    out->name = request_copy(req, t->name);
    if (!authorize(req, ACL_DELETE, ACL_TOPIC, t->name)) {
        return KERR_TOPIC_AUTHORIZATION_FAILED;
    }
    if (!req->env->config->delete_topics) {
        out->error_message = STR("delete.topic.enable is false");
        return KERR_TOPIC_DELETION_DISABLED;
    }
    if (t->internal) {
        out->error_message = STR("internal topics are not deleted");
        return KERR_INVALID_REQUEST;
    }
    struct topics_item *item = arena_zero(&req->arena, 1, sizeof *item);
    if (!item) {
        return KERR_UNKNOWN_SERVER_ERROR;
    }
    *item = (struct topics_item){.req = req, .deleted = out};
    struct buf text = {0};
    request_hold(req);
    err e = meta_delete_topic(req->env->meta, t->id, &text, topic_deleted, item);
    if (e == OK) {
        work->outstanding++;
    } else {
        out->error_message = keep_text(req, &text);
        request_release(req);
    }
    buf_finish(&text);
    return topic_error(e);
}

err api_delete_topics(struct request *req)
{
    const struct delete_topics_request *in = request_body(req);
    struct delete_topics_response *out = request_reply(req);
    struct topics_work *work = req->handler = arena_zero(&req->arena, 1, sizeof *work);
    bool by_topic = req->header.api_version >= 6;
    int32_t count = by_topic ? in->topics_count : in->topic_names_count;
    out->responses = wire_array(&req->arena, &delete_topics_response_response_table, count);
    if (!work || !out->responses) {
        return arena_error(&req->arena);
    }
    out->responses_count = count;
    work->submitting = true;
    request_hold(req);
    for (int32_t i = 0; i < count; i++) {
        struct str name = by_topic ? in->topics[i].name : in->topic_names[i];
        struct uuid id = by_topic ? in->topics[i].topic_id : (struct uuid){{0}};
        out->responses[i].name = name;
        out->responses[i].topic_id = id;
        int16_t error = delete_one(req, name, id, &out->responses[i]);
        out->responses[i].error_code = error;
    }
    work->submitting = false;
    work_go_on(req);
    request_release(req);
    return OK;
}

/* CreateTopics and DeleteTopics. Each topic of a request is a change of its own; the answer goes
 * when the last one is done. */
#include "broker/api/topics.h"

#include "base/map.h"
#include "base/mem.h"
#include "broker/api/families.h"
#include "broker/api/request.h"
#include "broker/config.h"
#include "broker/coord/coord.h"
#include "broker/meta/meta.h"
#include "broker/shard.h"
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
    if (topics_item_done(item)) {
        topics_item_answer(item, topic_error(e), e == OK ? (struct str){0} : str_of(err_text(e)));
        if (e == OK) {
            describe_created(req, topic, topic->config, topic->partition_count, item->out);
        }
    }
    topics_work_go_on(req);
    request_release(req);
}

int16_t check_assigned(const struct request *req, const int32_t *brokers, int32_t count,
                       int32_t partition, struct buf *text)
{
    if (count != 1 || brokers[0] != req->env->node_id) {
        buf_printf(text, "partition %d must be assigned to broker %d alone", partition,
                   req->env->node_id);
        return KERR_INVALID_REPLICA_ASSIGNMENT;
    }
    return KERR_NONE;
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
        int16_t code =
            check_assigned(req, a->broker_ids, a->broker_ids_count, a->partition_index, text);
        if (code != KERR_NONE) {
            return code;
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
    *item = (struct topics_item){
        .req = req, .out = out, .error = &out->error_code, .text = &out->error_message};
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
        topics_item_begin(item);
        err e = meta_create_topic(req->env->meta, &spec, &text, topic_created, item);
        out->error_code = topic_error(e);
        topics_item_begun(item, e);
    }
    out->error_message = keep_text(req, &text);
    buf_finish(&text);
    return OK;
}

err api_create_topics(struct request *req)
{
    const struct create_topics_request *in = request_body(req);
    struct create_topics_response *out = request_reply(req);
    struct map counts;
    err e = topics_work_init(req, in->topics_count);
    if (e != OK) {
        return e;
    }
    out->topics = wire_array(&req->arena, &create_topics_response_topic_table, in->topics_count);
    if (!out->topics) {
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
        struct create_topics_response_topic *to = &out->topics[out->topics_count++];
        to->name = name;
        if (repeated) {
            to->error_code = KERR_INVALID_REQUEST;
            to->error_message = STR("the topic stands more than once in the request");
        } else {
            e = create_one(req, &in->topics[i], to);
        }
    }
    map_finish(&counts);
    if (e == OK) {
        topics_work_submitted(req, in->timeout_ms);
    }
    request_release(req);
    return e;
}

/* ---- DeleteTopics */

static int16_t deletion_error(const struct topics_item *item, err e)
{
    return item->by_id && e == ERR_NOT_FOUND ? (int16_t)KERR_UNKNOWN_TOPIC_ID : topic_error(e);
}

struct forgetting { /* on its way to a shard, whose it is then */
    struct message message;
    struct str topic; /* the bytes are behind it */
};

static bool forget_run(struct message *m)
{
    struct forgetting *f = list_entry(m, struct forgetting, message);
    coord_topic_deleted(m->to->coord, f->topic);
    mem_free(f);
    return true;
}

/* The groups of every shard forget what they have committed for it. */
static void forget_offsets(struct request *req, struct str topic)
{
    struct shard *here = req->env->shard;
    for (int32_t i = 0; i < here->all->count; i++) {
        struct forgetting *f = mem_need(sizeof *f + topic.len);
        char *name = (char *)(f + 1);
        memcpy(name, topic.ptr, topic.len);
        *f = (struct forgetting){
            .message = {.run = forget_run},
              .topic = { name,        topic.len}
        };
        message_send(&f->message, here, &here->all->list[i]);
    }
}

static void topic_deleted(void *ctx, err e, struct topic *topic)
{
    struct topics_item *item = ctx;
    struct request *req = item->req;
    (void)topic;
    if (e == OK) {
        forget_offsets(req, item->name);
    }
    if (topics_item_done(item)) {
        topics_item_answer(item, deletion_error(item, e),
                           e == OK ? (struct str){0} : str_of(err_text(e)));
    }
    topics_work_go_on(req);
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
    if (!out->name.ptr) {
        return KERR_UNKNOWN_SERVER_ERROR;
    }
    int16_t error = check_deleted(req, t, &out->error_message);
    if (error != KERR_NONE) {
        return error;
    }
    *item = (struct topics_item){.req = req,
                                 .error = &out->error_code,
                                 .text = &out->error_message,
                                 .name = out->name,
                                 .by_id = by_id};
    struct buf text = {0};
    topics_item_begin(item);
    err e = meta_delete_topic(req->env->meta, t->id, &text, topic_deleted, item);
    if (e != OK) {
        out->error_message = keep_text(req, &text);
    }
    topics_item_begun(item, e);
    buf_finish(&text);
    return deletion_error(item, e);
}

err api_delete_topics(struct request *req)
{
    const struct delete_topics_request *in = request_body(req);
    struct delete_topics_response *out = request_reply(req);
    int32_t count = req->header.api_version >= 6 ? in->topics_count : in->topic_names_count;
    struct map counts;
    err e = topics_work_init(req, count);
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
        topics_work_submitted(req, in->timeout_ms);
    }
    request_release(req);
    return e;
}

#include "client/ask.h"
#include "gen/create_partitions.h"
#include "gen/create_topics.h"
#include "gen/delete_topics.h"
#include "gen/describe_configs.h"
#include "gen/describe_log_dirs.h"
#include "gen/incremental_alter_configs.h"
#include "gen/metadata.h"
#include "protocol/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WHAT_SIZE = 300,
    ADMIN_ARENA_LIMIT = 64 << 20,
    SOURCE_DEFAULT = 5, /* of DescribeConfigs: nobody has set it */
    SOURCE_STATIC = 4,  /* the broker's own file */
    OPERATION_SET = 0,
    OPERATION_DELETE = 1,
};

static int32_t option_count(const struct rv_option *options)
{
    int32_t n = 0;
    for (; options && options[n].name; n++) {
    }
    return n;
}

/* Milliseconds to the deadline, for the broker. */
static int32_t time_left(const struct ask *q)
{
    int64_t left = q->deadline_ms - client_now(q->client);
    return left < 1 ? 1 : left > INT32_MAX ? INT32_MAX : (int32_t)left;
}

/* ---- cluster ---- */

int rv_cluster(struct rv_client *client, int timeout_ms, struct rv_cluster **ret_cluster,
               struct rv_error *ret_error)
{
    if (client->in_turn) {
        return error_set(ret_error, RV_E_STATE, "cluster: not allowed in a callback");
    }
    int code = brokers_wait(client, client_deadline(client, timeout_ms), ret_error);
    if (code != RV_OK) {
        return code;
    }
    const struct meta *m = &client->meta;
    struct rv_cluster *out = result_create(sizeof *out);
    struct rv_broker *brokers =
        out ? arena_zero(result_arena(out), (size_t)m->broker_count + 1, sizeof *brokers) : NULL;
    bool ok = brokers != NULL;
    for (int32_t i = 0; ok && i < m->broker_count; i++) {
        brokers[i] = (struct rv_broker){.id = m->brokers[i].id,
                                        .host = result_text(out, str_of(m->brokers[i].host)),
                                        .port = m->brokers[i].port};
        ok = brokers[i].host != NULL;
    }
    const char *id = ok ? result_text(out, str_of(m->cluster_id)) : NULL;
    if (!id) {
        rv_free(out);
        return error_memory(ret_error);
    }
    *out = (struct rv_cluster){.id = id,
                               .controller_id = m->controller,
                               .brokers = brokers,
                               .broker_count = (size_t)m->broker_count};
    *ret_cluster = out;
    return RV_OK;
}

/* ---- create and delete ---- */

static int create_code(const void *response)
{
    const struct create_topics_response *r = response;
    return r->topics_count > 0 ? r->topics[0].error_code : RV_OK;
}

/* The brokers hear of a topic a little later than the controller. Whoever has made one wants to use
 * it: waits until it is shown, or time is up; it is there in any case. */
static void topic_shown(struct rv_client *c, const char *name, int64_t deadline_ms)
{
    struct topic *t = NULL;
    for (int failures = 0;
         client_now(c) < deadline_ms &&
         topic_wait(c, name, deadline_ms, &t, NULL) == KERR_UNKNOWN_TOPIC_OR_PARTITION;
         failures++) {
        int64_t until =
            client_now(c) + client_backoff(c, setting(c, OPT_RETRY_BACKOFF_MS),
                                           setting(c, OPT_RETRY_BACKOFF_MAX_MS), failures);
        while (client_turn_until(c, until < deadline_ms ? until : deadline_ms)) {
        }
    }
}

int rv_topic_create(struct rv_client *client, const char *topic, int32_t partitions,
                    const struct rv_option *configs, int timeout_ms, struct rv_error *ret_error)
{
    char what[WHAT_SIZE];
    snprintf(what, sizeof what, "create topic %.200s", topic);
    struct create_topics_request request;
    create_topics_request_init(&request);
    struct create_topics_request_topic t;
    create_topics_request_topic_init(&t);
    t.name = str_of(topic);
    t.num_partitions = partitions;
    t.replication_factor = -1;
    t.configs_count = option_count(configs);
    struct arena a;
    arena_init(&a, ADMIN_ARENA_LIMIT);
    t.configs = wire_array(&a, &create_topics_request_config_table, t.configs_count);
    struct ask q = {.client = client,
                    .api_key = 19,
                    .min_version = 4, /* -1 for the broker's defaults */
                    .request = &request,
                    .target = ASK_CONTROLLER,
                    .deadline_ms = client_deadline(client, timeout_ms),
                    .code_of = create_code,
                    .what = what};
    request.topics = &t;
    request.topics_count = 1;
    request.timeout_ms = time_left(&q);
    int code = t.configs ? RV_OK : error_memory(ret_error);
    for (int32_t i = 0; code == RV_OK && i < t.configs_count; i++) {
        t.configs[i].name = str_of(configs[i].name);
        t.configs[i].value = str_of(configs[i].value);
    }
    code = code == RV_OK ? ask(&q, ret_error) : code;
    if (code == RV_OK) {
        const struct create_topics_response *r = q.response;
        if (r->topics_count != 1) {
            code = error_set(ret_error, RV_E_PROTOCOL, "%s: the answer is about %d topics", what,
                             (int)r->topics_count);
        } else if (r->topics[0].error_code) {
            code = ask_refused(&q, r->topics[0].error_code, r->topics[0].error_message, ret_error);
        }
    }
    ask_finish(&q);
    arena_finish(&a);
    if (code == RV_OK) {
        topic_shown(client, topic, q.deadline_ms);
    }
    return code;
}

static int grow_code(const void *response)
{
    const struct create_partitions_response *r = response;
    int code = r->results_count > 0 ? r->results[0].error_code : RV_OK;
    return code == KERR_UNKNOWN_TOPIC_OR_PARTITION ? RV_OK : code; /* that is an answer */
}

int rv_topic_grow(struct rv_client *client, const char *topic, int32_t partitions, int timeout_ms,
                  struct rv_error *ret_error)
{
    char what[WHAT_SIZE];
    snprintf(what, sizeof what, "grow topic %.200s", topic);
    struct create_partitions_request request;
    create_partitions_request_init(&request);
    struct create_partitions_request_topic t;
    create_partitions_request_topic_init(&t);
    t.name = str_of(topic);
    t.count = partitions;
    t.assignments = NULL;
    t.assignments_count = -1;
    struct ask q = {.client = client,
                    .api_key = 37,
                    .request = &request,
                    .target = ASK_CONTROLLER,
                    .deadline_ms = client_deadline(client, timeout_ms),
                    .code_of = grow_code,
                    .what = what};
    request.topics = &t;
    request.topics_count = 1;
    request.timeout_ms = time_left(&q);
    int code = ask(&q, ret_error);
    if (code == RV_OK) {
        const struct create_partitions_response *r = q.response;
        if (r->results_count != 1) {
            code = error_set(ret_error, RV_E_PROTOCOL, "%s: the answer is about %d topics", what,
                             (int)r->results_count);
        } else if (r->results[0].error_code) {
            code =
                ask_refused(&q, r->results[0].error_code, r->results[0].error_message, ret_error);
        }
    }
    ask_finish(&q);
    return code;
}

static int delete_code(const void *response)
{
    const struct delete_topics_response *r = response;
    int code = r->responses_count > 0 ? r->responses[0].error_code : RV_OK;
    return code == KERR_UNKNOWN_TOPIC_OR_PARTITION ? RV_OK : code; /* that is an answer */
}

int rv_topic_delete(struct rv_client *client, const char *topic, int timeout_ms,
                    struct rv_error *ret_error)
{
    char what[WHAT_SIZE];
    snprintf(what, sizeof what, "delete topic %.200s", topic);
    struct delete_topics_request request;
    delete_topics_request_init(&request);
    struct str name = str_of(topic);
    struct ask q = {.client = client,
                    .api_key = 20,
                    .max_version = 5, /* by name */
                    .request = &request,
                    .target = ASK_CONTROLLER,
                    .deadline_ms = client_deadline(client, timeout_ms),
                    .code_of = delete_code,
                    .what = what};
    request.topic_names = &name;
    request.topic_names_count = 1;
    request.timeout_ms = time_left(&q);
    int code = ask(&q, ret_error);
    if (code == RV_OK) {
        const struct delete_topics_response *r = q.response;
        if (r->responses_count != 1) {
            code = error_set(ret_error, RV_E_PROTOCOL, "%s: the answer is about %d topics", what,
                             (int)r->responses_count);
        } else if (r->responses[0].error_code) {
            code = ask_refused(&q, r->responses[0].error_code, r->responses[0].error_message,
                               ret_error);
        }
    }
    ask_finish(&q);
    return code;
}

/* ---- list and describe ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct rv_topic *)a)->name, ((const struct rv_topic *)b)->name);
}

static bool topic_out(void *result, const struct metadata_response_topic *in, struct rv_topic *out)
{
    char id[UUID_TEXT_SIZE] = "";
    if (!uuid_is_zero(in->topic_id)) {
        uuid_to_text(in->topic_id, id);
    }
    out->name = result_text(result, in->name);
    out->id = result_text(result, str_of(id));
    out->internal = in->is_internal;
    struct rv_topic_partition *p =
        arena_zero(result_arena(result),
                   (size_t)(in->partitions_count > 0 ? in->partitions_count : 1), sizeof *p);
    if (!out->name || !out->id || !p) {
        return false;
    }
    for (int32_t i = 0; i < in->partitions_count; i++) {
        int32_t to = in->partitions[i].partition_index;
        if (to < 0 || to >= in->partitions_count) {
            continue;
        }
        p[to] = (struct rv_topic_partition){.partition = to,
                                            .leader = in->partitions[i].leader_id,
                                            .leader_epoch = in->partitions[i].leader_epoch,
                                            .start_offset = -1,
                                            .end_offset = -1,
                                            .size_bytes = -1};
    }
    out->partitions = p;
    out->partition_count = (size_t)(in->partitions_count > 0 ? in->partitions_count : 0);
    return true;
}

/* Topics as Metadata shows them; topic NULL: all. */
static int topics_ask(struct rv_client *client, const char *topic, const char *what,
                      int64_t deadline_ms, struct rv_topics **ret_topics,
                      struct rv_error *ret_error)
{
    struct metadata_request request;
    metadata_request_init(&request);
    struct metadata_request_topic one;
    metadata_request_topic_init(&one);
    one.name = str_of(topic);
    request.allow_auto_topic_creation = false;
    request.topics = topic ? &one : NULL;
    request.topics_count = topic ? 1 : -1;
    struct ask q = {.client = client,
                    .api_key = 3,
                    .min_version = 4, /* the flag that says: do not create */
                    .request = &request,
                    .target = ASK_ANY,
                    .deadline_ms = deadline_ms,
                    .what = what};
    int code = ask(&q, ret_error);
    const struct metadata_response *r = q.response;
    struct rv_topics *out = NULL;
    struct rv_topic *items = NULL;
    if (code == RV_OK) {
        out = result_create(sizeof *out);
        items =
            out ? arena_zero(result_arena(out), (size_t)r->topics_count + 1, sizeof *items) : NULL;
        code = items ? RV_OK : error_memory(ret_error);
    }
    for (int32_t i = 0; code == RV_OK && i < r->topics_count; i++) {
        if (r->topics[i].error_code && topic) {
            code = ask_refused(&q, r->topics[i].error_code, (struct str){0}, ret_error);
        } else if (!r->topics[i].error_code &&
                   !topic_out(out, &r->topics[i], &items[out->count++])) {
            code = error_memory(ret_error);
        }
    }
    ask_finish(&q);
    if (code != RV_OK) {
        rv_free(out);
        return code;
    }
    qsort(items, out->count, sizeof *items, by_name);
    out->items = items;
    *ret_topics = out;
    return RV_OK;
}

int rv_topic_list(struct rv_client *client, int timeout_ms, struct rv_topics **ret_topics,
                  struct rv_error *ret_error)
{
    return topics_ask(client, NULL, "list topics", client_deadline(client, timeout_ms), ret_topics,
                      ret_error);
}

/* Fills start and end of every partition. */
static int topic_offsets(struct rv_client *client, struct rv_topic *t, struct arena *a,
                         int64_t deadline_ms, struct rv_error *ret_error)
{
    struct rv_topic_partition *to =
        (struct rv_topic_partition *)t->partitions; /* the result is ours */
    struct rv_partition *p = arena_zero(a, t->partition_count + 1, sizeof *p);
    if (!p) {
        return error_memory(ret_error);
    }
    for (size_t i = 0; i < t->partition_count; i++) {
        p[i] = (struct rv_partition){.topic = t->name, .partition = (int32_t)i};
    }
    static const int64_t places[] = {RV_START, RV_END};
    for (int which = 0; which < 2; which++) {
        int64_t left = deadline_ms - client_now(client);
        int code = rv_offsets(client, p, t->partition_count, places[which],
                              left < 0 ? 0 : (int)left, ret_error);
        if (code != RV_OK) {
            return code;
        }
        for (size_t i = 0; i < t->partition_count; i++) {
            *(which == 0 ? &to[i].start_offset : &to[i].end_offset) = p[i].offset;
            to[i].code = p[i].code;
        }
    }
    return RV_OK;
}

static void sizes_take(struct rv_topic *t, int32_t node, const struct describe_log_dirs_response *r)
{
    struct rv_topic_partition *to = (struct rv_topic_partition *)t->partitions;
    for (int32_t d = 0; d < r->results_count; d++) {
        for (int32_t i = 0; i < r->results[d].topics_count; i++) {
            const struct describe_log_dirs_response_topic *in = &r->results[d].topics[i];
            for (int32_t j = 0; str_eq(in->name, str_of(t->name)) && j < in->partitions_count;
                 j++) {
                const struct describe_log_dirs_response_partition *p = &in->partitions[j];
                if (p->partition_index >= 0 && (size_t)p->partition_index < t->partition_count &&
                    !p->is_future_key && to[p->partition_index].leader == node) {
                    to[p->partition_index].size_bytes = p->partition_size;
                }
            }
        }
    }
}

/* Sizes are told where they can be: a broker that does not say leaves -1. */
static void topic_sizes(struct rv_client *client, struct rv_topic *t, struct arena *a,
                        int64_t deadline_ms)
{
    struct describe_log_dirs_request request;
    describe_log_dirs_request_init(&request);
    struct describe_log_dirs_request_topic one;
    describe_log_dirs_request_topic_init(&one);
    one.topic = str_of(t->name);
    one.partitions = arena_zero(a, t->partition_count + 1, sizeof *one.partitions);
    one.partitions_count = (int32_t)t->partition_count;
    if (!one.partitions) {
        return;
    }
    for (int32_t i = 0; i < one.partitions_count; i++) {
        one.partitions[i] = i;
    }
    request.topics = &one;
    request.topics_count = 1;
    for (int32_t b = 0; b < client->meta.broker_count; b++) {
        struct ask q = {.client = client,
                        .api_key = 35,
                        .request = &request,
                        .target = ASK_NODE,
                        .node = client->meta.brokers[b].id,
                        .deadline_ms = deadline_ms,
                        .what = "describe log directories"};
        struct rv_error e;
        if (ask(&q, &e) == RV_OK) {
            sizes_take(t, q.node, q.response);
        } else {
            client_log(client, RV_INFO, "%s", e.text);
        }
        ask_finish(&q);
    }
}

int rv_topic_describe(struct rv_client *client, const char *topic, int timeout_ms,
                      struct rv_topics **ret_topic, struct rv_error *ret_error)
{
    char what[WHAT_SIZE];
    snprintf(what, sizeof what, "describe topic %.200s", topic);
    int64_t deadline = client_deadline(client, timeout_ms);
    struct rv_topics *out = NULL;
    int code = topics_ask(client, topic, what, deadline, &out, ret_error);
    if (code != RV_OK) {
        return code;
    }
    if (out->count != 1) {
        rv_free(out);
        return error_set(ret_error, RV_E_PROTOCOL, "%s: not one topic in the answer", what);
    }
    struct arena a;
    arena_init(&a, ADMIN_ARENA_LIMIT);
    struct rv_topic *t = (struct rv_topic *)out->items; /* the result is ours */
    code = topic_offsets(client, t, &a, deadline, ret_error);
    if (code == RV_OK) {
        topic_sizes(client, t, &a, deadline);
    }
    arena_finish(&a);
    if (code != RV_OK) {
        rv_free(out);
        return code;
    }
    *ret_topic = out;
    return RV_OK;
}

/* ---- configs ---- */

static int config_by_name(const void *a, const void *b)
{
    return strcmp(((const struct rv_config *)a)->name, ((const struct rv_config *)b)->name);
}

static struct rv_configs *configs_out(const struct describe_configs_response_result *in)
{
    struct rv_configs *out = result_create(sizeof *out);
    struct rv_config *items =
        out ? arena_zero(result_arena(out), (size_t)in->configs_count + 1, sizeof *items) : NULL;
    bool ok = items != NULL;
    for (int32_t i = 0; ok && i < in->configs_count; i++) {
        const struct describe_configs_response_config *c = &in->configs[i];
        items[i] = (struct rv_config){.name = result_text(out, c->name),
                                      .value = c->value.ptr ? result_text(out, c->value) : NULL,
                                      .is_default = c->config_source == SOURCE_DEFAULT ||
                                                    c->config_source == SOURCE_STATIC,
                                      .read_only = c->read_only,
                                      .sensitive = c->is_sensitive};
        ok = items[i].name && (!c->value.ptr || items[i].value);
    }
    if (!ok) {
        rv_free(out);
        return NULL;
    }
    out->count = (size_t)in->configs_count;
    out->items = items;
    qsort(items, out->count, sizeof *items, config_by_name);
    return out;
}

/* A broker answers for itself; everything else any broker does. */
static void config_target(struct ask *q, enum rv_resource type, const char *name)
{
    int64_t node = -1;
    if (type == RV_BROKER && str_to_int64(str_of(name), &node) == OK) {
        q->target = ASK_NODE;
        q->node = (int32_t)node;
    }
}

static int describe_code(const void *response)
{
    const struct describe_configs_response *r = response;
    int code = r->results_count > 0 ? r->results[0].error_code : RV_OK;
    return code == KERR_UNKNOWN_TOPIC_OR_PARTITION ? RV_OK : code;
}

int rv_config_get(struct rv_client *client, enum rv_resource type, const char *name, int timeout_ms,
                  struct rv_configs **ret_configs, struct rv_error *ret_error)
{
    char what[WHAT_SIZE];
    snprintf(what, sizeof what, "configs of %.200s", name);
    struct describe_configs_request request;
    describe_configs_request_init(&request);
    struct describe_configs_request_resource one;
    describe_configs_request_resource_init(&one);
    one.resource_type = (int8_t)type;
    one.resource_name = str_of(name);
    one.configuration_keys = NULL;
    one.configuration_keys_count = -1;
    request.resources = &one;
    request.resources_count = 1;
    struct ask q = {.client = client,
                    .api_key = 32,
                    .request = &request,
                    .deadline_ms = client_deadline(client, timeout_ms),
                    .code_of = describe_code,
                    .what = what};
    config_target(&q, type, name);
    int code = ask(&q, ret_error);
    if (code == RV_OK) {
        const struct describe_configs_response *r = q.response;
        if (r->results_count != 1) {
            code = error_set(ret_error, RV_E_PROTOCOL, "%s: not one result in the answer", what);
        } else if (r->results[0].error_code) {
            code =
                ask_refused(&q, r->results[0].error_code, r->results[0].error_message, ret_error);
        } else {
            struct rv_configs *out = configs_out(&r->results[0]);
            code = out ? RV_OK : error_memory(ret_error);
            *(out ? ret_configs : &out) = out;
        }
    }
    ask_finish(&q);
    return code;
}

static int alter_code(const void *response)
{
    const struct incremental_alter_configs_response *r = response;
    int code = r->responses_count > 0 ? r->responses[0].error_code : RV_OK;
    return code == KERR_UNKNOWN_TOPIC_OR_PARTITION ? RV_OK : code;
}

int rv_config_set(struct rv_client *client, enum rv_resource type, const char *name,
                  const struct rv_option *configs, int timeout_ms, struct rv_error *ret_error)
{
    char what[WHAT_SIZE];
    snprintf(what, sizeof what, "configure %.200s", name);
    struct incremental_alter_configs_request request;
    incremental_alter_configs_request_init(&request);
    struct incremental_alter_configs_request_resource one;
    incremental_alter_configs_request_resource_init(&one);
    one.resource_type = (int8_t)type;
    one.resource_name = str_of(name);
    one.configs_count = option_count(configs);
    struct arena a;
    arena_init(&a, ADMIN_ARENA_LIMIT);
    one.configs =
        wire_array(&a, &incremental_alter_configs_request_config_table, one.configs_count);
    int code = one.configs ? RV_OK : error_memory(ret_error);
    for (int32_t i = 0; code == RV_OK && i < one.configs_count; i++) {
        one.configs[i].name = str_of(configs[i].name);
        one.configs[i].value = str_of(configs[i].value);
        one.configs[i].config_operation = configs[i].value ? OPERATION_SET : OPERATION_DELETE;
    }
    request.resources = &one;
    request.resources_count = 1;
    struct ask q = {.client = client,
                    .api_key = 44,
                    .request = &request,
                    .target = ASK_CONTROLLER,
                    .deadline_ms = client_deadline(client, timeout_ms),
                    .code_of = alter_code,
                    .what = what};
    config_target(&q, type, name);
    code = code == RV_OK ? ask(&q, ret_error) : code;
    if (code == RV_OK) {
        const struct incremental_alter_configs_response *r = q.response;
        if (r->responses_count != 1) {
            code = error_set(ret_error, RV_E_PROTOCOL, "%s: not one result in the answer", what);
        } else if (r->responses[0].error_code) {
            code = ask_refused(&q, r->responses[0].error_code, r->responses[0].error_message,
                               ret_error);
        }
    }
    ask_finish(&q);
    arena_finish(&a);
    return code;
}

/* ---- any request ---- */

int rv_request(struct rv_client *client, int32_t node, int16_t api_key, int16_t version,
               const void *body, size_t size, int timeout_ms, struct rv_response **ret_response,
               struct rv_error *ret_error)
{
    char what[WHAT_SIZE];
    const struct wire_api *api = wire_api_find(api_key);
    if (!api) {
        return error_set(ret_error, RV_E_VERSION, "request %d: not an API that is known here",
                         (int)api_key);
    }
    snprintf(what, sizeof what, "%s version %d", api->name, (int)version);
    struct ask q = {.client = client,
                    .api_key = api_key,
                    .max_version = version,
                    .raw = body ? body : "",
                    .raw_size = size,
                    .target = node < 0 ? ASK_ANY : ASK_NODE,
                    .node = node,
                    .deadline_ms = client_deadline(client, timeout_ms),
                    .what = what};
    int code = ask(&q, ret_error);
    if (code == RV_OK) {
        struct rv_response *out = result_create(sizeof *out);
        size_t left = q.frame->size - q.body_position;
        const void *copy =
            out ? arena_dup(result_arena(out), q.frame->data + q.body_position, left) : NULL;
        if (!copy) {
            rv_free(out);
            code = error_memory(ret_error);
        } else {
            *out = (struct rv_response){.body = copy, .size = left};
            *ret_response = out;
        }
    }
    ask_finish(&q);
    return code;
}

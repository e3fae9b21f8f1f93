/* ListConfigResources: the names of what has settings. */
#include "gen/list_config_resources.h"
#include "broker/api/families.h"
#include "broker/api/topics.h"
#include "broker/meta/meta.h"

enum { TYPES_SINCE = 1 }; /* before, client metrics alone were meant */

/* Groups and client metrics are known, and have no settings here. */
static bool is_known(int8_t type)
{
    return type == RESOURCE_TOPIC || type == RESOURCE_BROKER || type == RESOURCE_BROKER_LOGGER ||
           type == RESOURCE_CLIENT_METRICS || type == RESOURCE_GROUP;
}

static bool is_wanted(const struct request *req, int8_t type)
{
    const struct list_config_resources_request *in = request_body(req);
    if (req->header.api_version < TYPES_SINCE) {
        return type == RESOURCE_CLIENT_METRICS;
    }
    for (int32_t i = 0; i < in->resource_types_count; i++) {
        if (in->resource_types[i] == type) {
            return true;
        }
    }
    return in->resource_types_count == 0;
}

static bool all_known(const struct request *req)
{
    const struct list_config_resources_request *in = request_body(req);
    for (int32_t i = 0; i < in->resource_types_count; i++) {
        if (!is_known(in->resource_types[i])) {
            return false;
        }
    }
    return true;
}

/* False: no memory. */
static bool add(struct list_config_resources_response *out, int8_t type, struct str name)
{
    struct list_config_resources_response_config_resource *r =
        &out->config_resources[out->config_resources_count];
    r->resource_name = name;
    r->resource_type = type;
    out->config_resources_count += name.ptr != NULL;
    return name.ptr != NULL;
}

static err list(struct request *req, struct list_config_resources_response *out)
{
    struct meta *meta = req->env->meta;
    int32_t topics = is_wanted(req, RESOURCE_TOPIC) ? meta_topic_count(meta) : 0;
    const char *broker = arena_printf(&req->arena, "%d", req->env->node_id);
    out->config_resources =
        wire_array(&req->arena, &list_config_resources_response_config_resource_table, topics + 2);
    if (!out->config_resources || !broker) {
        return arena_error(&req->arena);
    }
    for (int32_t i = 0; i < topics; i++) {
        if (!add(out, RESOURCE_TOPIC, request_copy(req, meta_topic_at(meta, i)->name))) {
            return arena_error(&req->arena);
        }
    }
    static const int8_t of_broker[] = {RESOURCE_BROKER, RESOURCE_BROKER_LOGGER};
    for (int i = 0; i < 2; i++) {
        if (is_wanted(req, of_broker[i])) {
            add(out, of_broker[i], str_of(broker));
        }
    }
    return OK;
}

err api_list_config_resources(struct request *req)
{
    struct list_config_resources_response *out = request_reply(req);
    err e = OK;
    if (!authorize(req, ACL_DESCRIBE_CONFIGS, ACL_CLUSTER, STR("kafka-cluster"))) {
        out->error_code = KERR_CLUSTER_AUTHORIZATION_FAILED;
    } else if (!all_known(req)) {
        out->error_code = KERR_UNSUPPORTED_VERSION; /* Kafka's answer to a type it does not know */
    } else {
        e = list(req, out);
    }
    if (e == OK) {
        reply(req, 0);
    }
    return e;
}

/* DescribeConfigs: the settings of topics and of the broker, each with where its value comes from.
 */
#include "broker/api/families.h"
#include "broker/api/topics.h"
#include "broker/meta/meta.h"
#include "gen/describe_configs.h"

enum { SYNONYMS_MAX = 3 };

/* Kafka's numbers for types, by enum config_type. */
static const int8_t type_codes[] = {
    [CONFIG_BOOL] = 1, [CONFIG_INT] = 3,  [CONFIG_LONG] = 5, [CONFIG_REAL] = 6,
    [CONFIG_WORD] = 2, [CONFIG_LIST] = 7, [CONFIG_TEXT] = 2,
};

/* One resource of the request; `topic` is NULL for the broker. */
struct described {
    struct request *req;
    const struct describe_configs_request_resource *in;
    struct describe_configs_response_result *out;
    const struct topic *topic;
};

static struct str value_of(const struct described *d, int row, bool of_broker)
{
    struct buf text = {0};
    if (of_broker) {
        config_value_text(d->req->env->config, (enum config_row_id)row, &text);
    } else {
        topic_config_value_text(d->topic->config, (enum config_row_id)row, &text);
    }
    struct str value = keep_value(d->req, &text);
    buf_finish(&text);
    return value;
}

static struct str default_of(const struct described *d, int row)
{
    struct buf text = {0};
    config_default_text((enum config_row_id)row, &text);
    struct str value = keep_value(d->req, &text);
    buf_finish(&text);
    return value;
}

/* Everywhere that the setting has a value, the one that counts first. */
static bool add_synonyms(const struct described *d, int row,
                         struct describe_configs_response_config *out)
{
    const struct config_row *r = &config_rows[row];
    struct describe_configs_response_synonym *s =
        wire_array(&d->req->arena, &describe_configs_response_synonym_table, SYNONYMS_MAX);
    int32_t n = 0;
    if (!s) {
        return false;
    }
    if (d->topic && d->topic->config->own[row]) {
        s[n].name = str_of(r->topic_name);
        s[n].value = value_of(d, row, false);
        s[n++].source = CONFIG_SOURCE_TOPIC;
    }
    if (d->req->env->config->origins[row].source != CONFIG_DEFAULT) {
        s[n].name = str_of(r->name);
        s[n].value = value_of(d, row, true);
        s[n++].source = CONFIG_SOURCE_BROKER;
    }
    s[n].name = str_of(r->name);
    s[n].value = default_of(d, row);
    s[n++].source = CONFIG_SOURCE_DEFAULT;
    for (int32_t i = 0; i < n; i++) {
        if (!s[i].value.ptr) {
            return false;
        }
    }
    out->synonyms = s;
    out->synonyms_count = n;
    return true;
}

static bool add_row(const struct described *d, int row)
{
    const struct describe_configs_request *in = request_body(d->req);
    const struct config_row *r = &config_rows[row];
    const struct config *config = d->req->env->config;
    struct describe_configs_response_config *out = &d->out->configs[d->out->configs_count++];
    out->name = str_of(d->topic ? r->topic_name : r->name);
    out->value = value_of(d, row, !d->topic);
    out->read_only = !d->topic; /* the broker's are changed where they were given */
    out->config_type = type_codes[r->type];
    if (d->topic) {
        out->config_source = topic_config_source(config, d->topic->config, row);
    } else {
        bool is_default = config->origins[row].source == CONFIG_DEFAULT;
        out->config_source = is_default ? CONFIG_SOURCE_DEFAULT : CONFIG_SOURCE_BROKER;
    }
    out->documentation = str_of(in->include_documentation ? r->doc : NULL);
    return out->value.ptr && (!in->include_synonyms || add_synonyms(d, row, out));
}

/* No keys, or an empty list of them, asks for all. */
static bool is_asked(const struct describe_configs_request_resource *in, const char *name)
{
    for (int32_t i = 0; i < in->configuration_keys_count; i++) {
        if (str_eq(in->configuration_keys[i], str_of(name))) {
            return true;
        }
    }
    return in->configuration_keys_count <= 0;
}

static err add_rows(const struct described *d)
{
    struct request *req = d->req;
    int row_of[CONFIG_ROW_COUNT];
    int32_t count = 0;
    for (int i = 0; i < CONFIG_ROW_COUNT; i++) {
        const char *name = d->topic ? config_rows[i].topic_name : config_rows[i].name;
        if (name && is_asked(d->in, name)) {
            row_of[count++] = i;
        }
    }
    d->out->configs = wire_array(&req->arena, &describe_configs_response_config_table, count);
    if (!d->out->configs) {
        return arena_error(&req->arena);
    }
    for (int32_t i = 0; i < count; i++) {
        if (!add_row(d, row_of[i])) {
            return arena_error(&req->arena);
        }
    }
    return OK;
}

static err refuse(const struct described *d, int16_t error, struct str text)
{
    d->out->error_code = error;
    d->out->error_message = text;
    return OK;
}

static err describe_topic(struct described *d)
{
    struct request *req = d->req;
    struct str name = d->in->resource_name;
    if (meta_check_name(name) != OK) {
        return refuse(d, KERR_INVALID_TOPIC_EXCEPTION, STR("not a topic's name"));
    }
    if (!authorize(req, ACL_DESCRIBE_CONFIGS, ACL_TOPIC, name)) {
        return refuse(d, KERR_TOPIC_AUTHORIZATION_FAILED, (struct str){0});
    }
    d->topic = meta_find(req->env->meta, name);
    if (!d->topic) {
        return refuse(d, KERR_UNKNOWN_TOPIC_OR_PARTITION, STR("there is no such topic"));
    }
    return add_rows(d);
}

/* "" is the default of all brokers, of which nothing can be set: an empty list. */
static err describe_broker(struct described *d)
{
    struct request *req = d->req;
    struct str name = d->in->resource_name;
    bool loggers = d->in->resource_type == RESOURCE_BROKER_LOGGER;
    int64_t id;
    if (!authorize(req, ACL_DESCRIBE_CONFIGS, ACL_CLUSTER, STR("kafka-cluster"))) {
        return refuse(d, KERR_CLUSTER_AUTHORIZATION_FAILED, (struct str){0});
    }
    if (name.len == 0 && !loggers) {
        return OK;
    }
    if (str_to_int64(name, &id) != OK || id != req->env->node_id) {
        char *text = arena_printf(&req->arena, "this is broker %d", req->env->node_id);
        return text ? refuse(d, KERR_INVALID_REQUEST, str_of(text)) : arena_error(&req->arena);
    }
    return loggers ? OK : add_rows(d);
}

static err describe_one(struct described *d)
{
    switch (d->in->resource_type) {
    case RESOURCE_TOPIC: return describe_topic(d);
    case RESOURCE_BROKER:
    case RESOURCE_BROKER_LOGGER: return describe_broker(d);
    case RESOURCE_CLIENT_METRICS:
    case RESOURCE_GROUP: return OK; /* nothing of theirs can be set */
    default: return refuse(d, KERR_INVALID_REQUEST, STR("unknown type of resource"));
    }
}

err api_describe_configs(struct request *req)
{
    const struct describe_configs_request *in = request_body(req);
    struct describe_configs_response *out = request_reply(req);
    out->results =
        wire_array(&req->arena, &describe_configs_response_result_table, in->resources_count);
    if (!out->results) {
        return arena_error(&req->arena);
    }
    out->results_count = in->resources_count;
    for (int32_t i = 0; i < in->resources_count; i++) {
        struct described d = {.req = req, .in = &in->resources[i], .out = &out->results[i]};
        d.out->resource_type = d.in->resource_type;
        d.out->resource_name = d.in->resource_name;
        d.out->error_message = (struct str){0};
        err e = describe_one(&d);
        if (e != OK) {
            return e;
        }
    }
    reply(req, 0);
    return OK;
}

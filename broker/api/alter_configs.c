/* AlterConfigs, which replaces all settings of a topic, and IncrementalAlterConfigs, which changes
 * single ones.
 *
 * Both compute the topic's whole new set from what it is now and hand it to meta/ with the version
 * that they saw; when another change came first, they look again.
 */
#include "gen/alter_configs.h"
#include "base/map.h"
#include "broker/api/families.h"
#include "broker/api/topics.h"
#include "broker/meta/meta.h"
#include "gen/incremental_alter_configs.h"

enum alteration_op { OP_SET = 0, OP_DELETE = 1, OP_APPEND = 2, OP_SUBTRACT = 3 };

struct alteration_entry {
    struct str name;
    struct str value; /* null for a deletion */
    int8_t op;        /* enum alteration_op, as sent */
};

/* One resource of a request, in its arena. The answer's fields are the same in both APIs, and so
 * are written through pointers. */
struct alteration {
    struct request *req;
    struct alteration_entry *entries;
    int32_t entry_count;
    struct str name; /* of the resource */
    int8_t type;
    bool replace; /* AlterConfigs: what is not named goes */
    bool validate_only;
    bool repeated; /* more than once in the request: all of them are refused */
    int16_t *error_code;
    struct str *error_message;
};

struct alter_work {
    struct alteration *items; /* array: one a resource */
    int32_t count;
    int32_t outstanding; /* changes under way */
    bool submitting;     /* the handler has not come to its end */
};

static void work_go_on(struct request *req)
{
    struct alter_work *work = req->handler;
    if (work->outstanding == 0 && !work->submitting && !request_is_dropped(req)) {
        reply(req, 0);
    }
}

/* ---- the new set */

static bool next_word(struct str *left, struct str *ret_word)
{
    if (!left->len) {
        return false;
    }
    const char *comma = memchr(left->ptr, ',', left->len);
    *ret_word =
        (struct str){.ptr = left->ptr, .len = comma ? (size_t)(comma - left->ptr) : left->len};
    left->ptr += ret_word->len + (comma != NULL);
    left->len -= ret_word->len + (comma != NULL);
    while (ret_word->len && ret_word->ptr[0] == ' ') {
        ret_word->ptr++;
        ret_word->len--;
    }
    while (ret_word->len && ret_word->ptr[ret_word->len - 1] == ' ') {
        ret_word->len--;
    }
    return true;
}

static bool has_word(struct str list, struct str word)
{
    struct str other;
    while (next_word(&list, &other)) {
        if (str_eq(other, word)) {
            return true;
        }
    }
    return false;
}

static void add_word(char *out, size_t *n, struct str word)
{
    if (word.len) {
        out[*n] = ',';
        *n += *n > 0;
        memcpy(out + *n, word.ptr, word.len);
        *n += word.len;
    }
}

/* `list` with those of `words` that it lacks, or without any of them. Null: no memory. */
static struct str combine(struct request *req, struct str list, struct str words, bool take_out)
{
    char *out = arena_alloc(&req->arena, list.len + words.len + 2);
    size_t n = 0;
    struct str left = list, word;
    if (!out) {
        return (struct str){0};
    }
    while (next_word(&left, &word)) {
        if (!take_out || !has_word(words, word)) {
            add_word(out, &n, word);
        }
    }
    left = take_out ? STR("") : words;
    while (next_word(&left, &word)) {
        if (!has_word((struct str){.ptr = out, .len = n}, word)) {
            add_word(out, &n, word);
        }
    }
    return (struct str){.ptr = out, .len = n};
}

/* A set of overrides that is being computed; the array has room for all that may come. */
struct pair_set {
    struct config_pair *pairs;
    int32_t count;
};

static struct config_pair *find_pair(const struct pair_set *set, struct str name)
{
    for (int32_t i = 0; i < set->count; i++) {
        if (str_eq(set->pairs[i].name, name)) {
            return &set->pairs[i];
        }
    }
    return NULL;
}

static void put_pair(struct pair_set *set, struct str name, struct str value)
{
    struct config_pair *old = find_pair(set, name);
    struct config_pair *to = old ? old : &set->pairs[set->count++];
    *to = (struct config_pair){.name = name, .value = value};
}

static void remove_pair(struct pair_set *set, struct str name)
{
    struct config_pair *old = find_pair(set, name);
    if (old) {
        *old = set->pairs[--set->count];
    }
}

/* Why an entry makes no sense, whatever the topic is; KERR_NONE when it does. Names are looked up
 * first, so that there are never more good entries to compare with than there are settings. */
static int16_t check_entry(const struct alteration *a, int32_t index, struct buf *text)
{
    const struct alteration_entry *entry = &a->entries[index];
    char name[DIAG_ESCAPED_SIZE];
    int row = config_find_topic(entry->name);
    diag_escape(entry->name, name);
    if (row < 0) {
        const char *near = config_nearest(entry->name, true);
        buf_printf(text, "unknown topic setting %s%s%s%s", name, near ? "; did you mean " : "",
                   near ? near : "", near ? "?" : "");
        return KERR_INVALID_CONFIG;
    }
    for (int32_t i = 0; i < index; i++) {
        if (str_eq(a->entries[i].name, entry->name)) {
            buf_printf(text, "setting %s stands more than once in the request", name);
            return KERR_INVALID_REQUEST;
        }
    }
    if (entry->op < OP_SET || entry->op > OP_SUBTRACT) {
        buf_printf(text, "setting %s: unknown operation %d", name, entry->op);
        return KERR_INVALID_REQUEST;
    }
    if (entry->op != OP_DELETE && !entry->value.ptr) {
        buf_printf(text, "setting %s has no value", name);
        return KERR_INVALID_REQUEST;
    }
    if (entry->op >= OP_APPEND && config_rows[row].type != CONFIG_LIST) {
        buf_printf(text, "setting %s is not a list", name);
        return KERR_INVALID_CONFIG;
    }
    return KERR_NONE;
}

/* A list's value is changed from what counts now, be it the topic's own or not. */
static err change_list(const struct alteration *a, const struct topic *t,
                       const struct alteration_entry *entry, struct pair_set *set)
{
    struct buf now = {0};
    topic_config_value_text(t->config, (enum config_row_id)config_find_topic(entry->name), &now);
    struct str list = {.ptr = buf_text(&now), .len = now.len};
    struct str value = combine(a->req, list, entry->value, entry->op == OP_SUBTRACT);
    buf_finish(&now);
    if (!value.ptr) {
        return arena_error(&a->req->arena);
    }
    put_pair(set, entry->name, value);
    return OK;
}

static err compute_set(const struct alteration *a, const struct topic *t, struct pair_set *ret_set)
{
    int32_t old_count;
    const struct config_pair *old = topic_config_overrides(t->config, &old_count);
    struct pair_set set = {0};
    err e = OK;
    set.pairs =
        arena_zero(&a->req->arena, (size_t)old_count + (size_t)a->entry_count, sizeof *set.pairs);
    if (!set.pairs) {
        return arena_error(&a->req->arena);
    }
    for (int32_t i = 0; i < old_count && !a->replace; i++) {
        set.pairs[set.count++] = old[i];
    }
    for (int32_t i = 0; i < a->entry_count && e == OK; i++) {
        const struct alteration_entry *entry = &a->entries[i];
        switch (entry->op) {
        case OP_SET: put_pair(&set, entry->name, entry->value); break;
        case OP_DELETE: remove_pair(&set, entry->name); break;
        default: e = change_list(a, t, entry, &set); break;
        }
    }
    *ret_set = set;
    return e;
}

/* ---- doing it */

static void alteration_refuse(const struct alteration *a, int16_t error, struct str text)
{
    *a->error_code = error;
    *a->error_message = text;
}

static err alter_topic(struct alteration *a);

static void altered(void *ctx, err e, struct topic *topic)
{
    struct alteration *a = ctx;
    struct request *req = a->req;
    struct alter_work *work = req->handler;
    (void)topic;
    work->outstanding--;
    if (e == ERR_STALE && !request_is_dropped(req)) {
        e = alter_topic(a); /* somebody was first: once more, on what it is now */
        if (e != OK) {
            work->submitting = true; /* there is no answer any more */
            request_close(req, "request_too_large");
        }
    } else if (e != OK) {
        alteration_refuse(a, topic_error(e), str_of(err_text(e)));
    }
    work_go_on(req);
    request_release(req);
}

/* Submits the change, or fills in why not. */
static err alter_topic(struct alteration *a)
{
    struct request *req = a->req;
    struct alter_work *work = req->handler;
    struct meta *meta = req->env->meta;
    struct topic *t = meta_find(meta, a->name);
    struct pair_set set = {0};
    struct buf text = {0};
    if (!t) {
        alteration_refuse(a, KERR_UNKNOWN_TOPIC_OR_PARTITION, STR("there is no such topic"));
        return OK;
    }
    err e = compute_set(a, t, &set);
    if (e != OK) {
        return e;
    }
    if (a->validate_only) {
        e = meta_check_settings(meta, t, set.pairs, set.count, &text);
    } else {
        request_hold(req);
        e = meta_alter_topic(meta, t->id, t->version, set.pairs, set.count, &text, altered, a);
        work->outstanding += e == OK;
        if (e != OK) {
            request_release(req);
        }
    }
    if (e != OK) {
        alteration_refuse(a, topic_error(e), keep_text(req, &text));
    }
    buf_finish(&text);
    return OK;
}

static err alter_one(struct alteration *a)
{
    struct request *req = a->req;
    struct buf text = {0};
    int16_t error = KERR_NONE;
    if (a->repeated) {
        alteration_refuse(a, KERR_INVALID_REQUEST,
                          STR("the resource stands more than once in the request"));
        return OK;
    }
    if (a->type == RESOURCE_BROKER || a->type == RESOURCE_BROKER_LOGGER) {
        alteration_refuse(a, KERR_INVALID_REQUEST,
                          STR("the broker's settings are changed in its file, then SIGHUP"));
        return OK;
    }
    if (a->type != RESOURCE_TOPIC) {
        alteration_refuse(a, KERR_INVALID_REQUEST,
                          STR("only topics have settings that can be changed"));
        return OK;
    }
    if (meta_check_name(a->name) != OK) {
        alteration_refuse(a, KERR_INVALID_TOPIC_EXCEPTION, STR("not a topic's name"));
        return OK;
    }
    if (!authorize(req, ACL_ALTER_CONFIGS, ACL_TOPIC, a->name)) {
        alteration_refuse(a, KERR_TOPIC_AUTHORIZATION_FAILED, (struct str){0});
        return OK;
    }
    for (int32_t i = 0; i < a->entry_count && error == KERR_NONE; i++) {
        error = check_entry(a, i, &text);
    }
    if (error != KERR_NONE) {
        alteration_refuse(a, error, keep_text(req, &text));
    }
    buf_finish(&text);
    return error == KERR_NONE ? alter_topic(a) : OK;
}

static err work_init(struct request *req, int32_t count)
{
    struct alter_work *work = req->handler = arena_zero(&req->arena, 1, sizeof *work);
    if (!work || !(work->items = arena_zero(&req->arena, (size_t)count, sizeof *work->items))) {
        return arena_error(&req->arena);
    }
    work->count = count;
    work->submitting = true;
    return OK;
}

static err note_repeated(struct request *req)
{
    struct alter_work *work = req->handler;
    struct map seen;
    err e = OK;
    map_init(&seen, rng_next(req->env->rng));
    for (int32_t i = 0; i < work->count && e == OK; i++) {
        struct alteration *a = &work->items[i];
        struct alteration *other = a->type == RESOURCE_TOPIC ? map_get_str(&seen, a->name) : NULL;
        if (other) {
            a->repeated = other->repeated = true;
        } else if (a->type == RESOURCE_TOPIC) {
            e = map_put_str(&seen, a->name, a);
        }
    }
    map_finish(&seen);
    return e;
}

static err work_run(struct request *req)
{
    struct alter_work *work = req->handler;
    err e = note_repeated(req);
    request_hold(req);
    for (int32_t i = 0; i < work->count && e == OK; i++) {
        e = alter_one(&work->items[i]);
    }
    if (e == OK) {
        work->submitting = false;
        work_go_on(req);
    }
    request_release(req);
    return e;
}

static struct alteration_entry *entries_create(struct request *req, int32_t count)
{
    return arena_zero(&req->arena, (size_t)count, sizeof(struct alteration_entry));
}

err api_alter_configs(struct request *req)
{
    const struct alter_configs_request *in = request_body(req);
    struct alter_configs_response *out = request_reply(req);
    err e = work_init(req, in->resources_count);
    if (e != OK) {
        return e;
    }
    struct alter_work *work = req->handler;
    out->responses =
        wire_array(&req->arena, &alter_configs_response_response_table, in->resources_count);
    for (int32_t i = 0; out->responses && i < in->resources_count; i++) {
        const struct alter_configs_request_resource *from = &in->resources[i];
        struct alter_configs_response_response *to = &out->responses[i];
        to->resource_type = from->resource_type;
        to->resource_name = from->resource_name;
        to->error_message = (struct str){0};
        struct alteration_entry *entries = entries_create(req, from->configs_count);
        if (!entries) {
            return arena_error(&req->arena);
        }
        for (int32_t k = 0; k < from->configs_count; k++) {
            entries[k].name = from->configs[k].name;
            entries[k].value = from->configs[k].value;
        }
        work->items[i] = (struct alteration){.req = req,
                                             .entries = entries,
                                             .entry_count = from->configs_count,
                                             .name = from->resource_name,
                                             .type = from->resource_type,
                                             .replace = true,
                                             .validate_only = in->validate_only,
                                             .error_code = &to->error_code,
                                             .error_message = &to->error_message};
    }
    out->responses_count = in->resources_count;
    return out->responses ? work_run(req) : arena_error(&req->arena);
}

err api_incremental_alter_configs(struct request *req)
{
    const struct incremental_alter_configs_request *in = request_body(req);
    struct incremental_alter_configs_response *out = request_reply(req);
    err e = work_init(req, in->resources_count);
    if (e != OK) {
        return e;
    }
    struct alter_work *work = req->handler;
    out->responses = wire_array(&req->arena, &incremental_alter_configs_response_response_table,
                                in->resources_count);
    for (int32_t i = 0; out->responses && i < in->resources_count; i++) {
        const struct incremental_alter_configs_request_resource *from = &in->resources[i];
        struct incremental_alter_configs_response_response *to = &out->responses[i];
        to->resource_type = from->resource_type;
        to->resource_name = from->resource_name;
        to->error_message = (struct str){0};
        struct alteration_entry *entries = entries_create(req, from->configs_count);
        if (!entries) {
            return arena_error(&req->arena);
        }
        for (int32_t k = 0; k < from->configs_count; k++) {
            entries[k].name = from->configs[k].name;
            entries[k].value = from->configs[k].value;
            entries[k].op = from->configs[k].config_operation;
        }
        work->items[i] = (struct alteration){.req = req,
                                             .entries = entries,
                                             .entry_count = from->configs_count,
                                             .name = from->resource_name,
                                             .type = from->resource_type,
                                             .validate_only = in->validate_only,
                                             .error_code = &to->error_code,
                                             .error_message = &to->error_message};
    }
    out->responses_count = in->resources_count;
    return out->responses ? work_run(req) : arena_error(&req->arena);
}

/* rivulet config: the settings of a topic, or of a broker (--broker ID). */
#include "tools/verbs.h"

#include "base/mem.h"

#include <string.h>

struct target {
    enum rv_resource type;
    const char *name;        /* borrowed */
    const char *const *rest; /* the arguments behind the topic */
    int rest_count;
};

/* Whose settings; at least `least` arguments must follow. False: said what is missing. */
static bool target_of(const struct tool *t, int least, struct target *ret_target)
{
    bool broker = tool_has(t, 'O');
    int skip = broker ? 0 : 1;
    if (t->arg_count < skip + least) {
        tool_usage(t, "rivulet %s takes: %s", t->verb->name, t->verb->args);
        return false;
    }
    *ret_target = (struct target){.type = broker ? RV_BROKER : RV_TOPIC,
                                  .name = broker ? tool_value(t, 'O') : t->args[0],
                                  .rest = t->args + skip,
                                  .rest_count = t->arg_count - skip};
    return true;
}

static json_t *config_json(const struct target *of, const struct rv_config *c)
{
    return json_pack("{s:o,s:o,s:o,s:b,s:b}", of->type == RV_TOPIC ? "topic" : "broker",
                     json_text(of->name), "name", json_text(c->name), "value", json_text(c->value),
                     "default", c->is_default, "read_only", c->read_only);
}

const char *config_text(const struct rv_config *c)
{
    return c->value ? c->value : c->sensitive ? "(secret)" : "-";
}

static const struct rv_config *config_find(const struct rv_configs *configs, const char *name)
{
    for (size_t i = 0; i < configs->count; i++) {
        if (strcmp(configs->items[i].name, name) == 0) {
            return &configs->items[i];
        }
    }
    return NULL;
}

int verb_config_list(struct tool *t)
{
    static const char *const heads[] = {"NAME", "VALUE", "FROM"};
    struct rv_error e;
    struct target of;
    struct rv_configs *configs;
    struct table table;
    if (!target_of(t, 0, &of)) {
        return EXIT_USAGE;
    }
    if (rv_config_get(t->client, of.type, of.name, t->timeout_ms, &configs, &e) != RV_OK) {
        return tool_failed(t, &e);
    }
    int code = EXIT_DONE;
    table_init(&table, heads, 3);
    for (size_t i = 0; i < configs->count && code == EXIT_DONE; i++) {
        const struct rv_config *c = &configs->items[i];
        if (t->json) {
            code = json_line(stdout, config_json(&of, c)) ? EXIT_DONE : EXIT_FAILED;
        } else {
            table_add(&table, "%s", c->name);
            table_add(&table, "%s", config_text(c));
            table_add(&table, "%s", c->is_default ? "default" : "set");
        }
    }
    code = t->json ? code : table_print(&table, stdout);
    rv_free(configs);
    return code;
}

int verb_config_get(struct tool *t)
{
    struct rv_error e;
    struct target of;
    struct rv_configs *configs;
    if (!target_of(t, 1, &of)) {
        return EXIT_USAGE;
    }
    if (rv_config_get(t->client, of.type, of.name, t->timeout_ms, &configs, &e) != RV_OK) {
        return tool_failed(t, &e);
    }
    int code = EXIT_DONE;
    for (int i = 0; i < of.rest_count; i++) {
        const struct rv_config *c = config_find(configs, of.rest[i]);
        if (!c) {
            tool_say("there is no setting '%s'\n`rivulet config list` names them", of.rest[i]);
            code = EXIT_FAILED;
        } else if (!t->json) {
            puts(config_text(c));
        } else if (!json_line(stdout, config_json(&of, c))) {
            code = EXIT_FAILED;
        }
    }
    rv_free(configs);
    return code;
}

static json_t *preview_json(enum rv_resource type, const char *of, const struct rv_config *before,
                            const struct rv_option *change)
{
    return json_pack("{s:o,s:o,s:o,s:o,s:b}", type == RV_TOPIC ? "topic" : "broker", json_text(of),
                     "name", json_text(change->name), "before", json_text(before->value), "value",
                     json_text(change->value), "done", 0);
}

/* What would change; nothing is known of a value that would be refused. */
static int preview(struct tool *t, enum rv_resource type, const char *name,
                   const struct rv_option *changes)
{
    static const char *const heads[] = {"NAME", "BEFORE", "AFTER"};
    struct rv_error e;
    struct rv_configs *configs;
    struct table table;
    int code = EXIT_DONE;
    if (rv_config_get(t->client, type, name, t->timeout_ms, &configs, &e) != RV_OK) {
        return tool_failed(t, &e);
    }
    table_init(&table, heads, 3);
    for (const struct rv_option *o = changes; o->name; o++) {
        const struct rv_config *c = config_find(configs, o->name);
        if (!c) {
            tool_say("there is no setting '%s'\n`rivulet config list` names them", o->name);
            code = EXIT_FAILED;
        } else if (t->json) {
            code = json_line(stdout, preview_json(type, name, c, o)) ? code : EXIT_FAILED;
        } else {
            table_add(&table, "%s", o->name);
            table_add(&table, "%s", config_text(c));
            table_add(&table, "%s", o->value ? o->value : "(default)");
        }
    }
    int printed = table.count ? table_print(&table, stdout) : EXIT_DONE;
    rv_free(configs);
    return code == EXIT_DONE ? printed : code;
}

int config_apply(struct tool *t, enum rv_resource type, const char *name,
                 const struct rv_option *changes)
{
    struct rv_error e;
    if (tool_has(t, 'D')) {
        return preview(t, type, name, changes);
    }
    return rv_config_set(t->client, type, name, changes, t->timeout_ms, &e) == RV_OK
               ? EXIT_DONE
               : tool_failed(t, &e);
}

/* NAME=VALUE sets; NAME alone, of `config unset`, goes back to the default. */
static int changes_read(const struct tool *t, const struct target *of, bool set,
                        struct rv_option *changes, char **names)
{
    for (int i = 0; i < of->rest_count; i++) {
        const char *text = of->rest[i];
        const char *equals = set ? strchr(text, '=') : text + strlen(text);
        if (!equals || equals == text) {
            return tool_usage(t, "'%s' is not %s", text, set ? "NAME=VALUE" : "NAME");
        }
        names[i] = tool_copy(text, (size_t)(equals - text));
        if (!names[i]) {
            return tool_no_memory();
        }
        changes[i] = (struct rv_option){names[i], set ? equals + 1 : NULL};
    }
    return EXIT_DONE;
}

static int changes_say(const struct tool *t, const struct target *of,
                       const struct rv_option *changes)
{
    for (const struct rv_option *o = changes; o->name; o++) {
        if (t->json &&
            !json_line(stdout, json_pack("{s:o,s:o,s:o}", of->type == RV_TOPIC ? "topic" : "broker",
                                         json_text(of->name), "name", json_text(o->name), "value",
                                         json_text(o->value)))) {
            return EXIT_FAILED;
        }
    }
    return EXIT_DONE;
}

static int config_change(struct tool *t, bool set)
{
    struct target of;
    struct rv_option changes[TOOL_ARGS_LIMIT + 1] = {
        {NULL, NULL}
    };
    char *names[TOOL_ARGS_LIMIT] = {NULL};
    if (!target_of(t, 1, &of)) {
        return EXIT_USAGE;
    }
    int code = changes_read(t, &of, set, changes, names);
    code = code == EXIT_DONE ? config_apply(t, of.type, of.name, changes) : code;
    code = code == EXIT_DONE && !tool_has(t, 'D') ? changes_say(t, &of, changes) : code;
    for (int i = 0; i < TOOL_ARGS_LIMIT; i++) {
        mem_free(names[i]);
    }
    return code;
}

int verb_config_set(struct tool *t)
{
    return config_change(t, true);
}

int verb_config_unset(struct tool *t)
{
    return config_change(t, false);
}

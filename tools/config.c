/* rivulet config: the settings of a topic, or of a broker (--broker ID). */
#include "tools/tool.h"

#include "base/mem.h"

#include <string.h>

struct target {
    enum rv_resource type;
    const char *name;       /* borrowed */
    const char *const *rest; /* the arguments behind the topic */
    int rest_count;
};

/* Whose settings; at least `least` arguments must follow. False: said what is missing. */
static bool target_of(const struct tool *t, int least, struct target *ret_target)
{
    bool broker = tool_has(t, 'R');
    int skip = broker ? 0 : 1;
    if (t->arg_count < skip + least) {
        tool_usage(t, "rivulet %s takes: %s", t->verb->name, t->verb->args);
        return false;
    }
    *ret_target = (struct target){.type = broker ? RV_BROKER : RV_TOPIC,
                                  .name = broker ? tool_value(t, 'R') : t->args[0],
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
            table_add(&table, "%s", c->value ? c->value : "(secret)");
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
            fprintf(stderr, "rivulet: there is no setting '%s'\n  `rivulet config list` names them\n",
                    of.rest[i]);
            code = EXIT_FAILED;
        } else if (!t->json) {
            puts(c->value ? c->value : "(secret)");
        } else if (!json_line(stdout, config_json(&of, c))) {
            code = EXIT_FAILED;
        }
    }
    rv_free(configs);
    return code;
}

/* NAME=VALUE sets; NAME alone, of `config unset`, goes back to the default. */
static int config_change(struct tool *t, bool set)
{
    struct rv_error e;
    struct target of;
    struct rv_option changes[TOOL_ARGS_LIMIT + 1] = {
        {NULL, NULL}
    };
    char *names[TOOL_ARGS_LIMIT];
    int count = 0;
    int code = EXIT_DONE;
    if (!target_of(t, 1, &of)) {
        return EXIT_USAGE;
    }
    for (; count < of.rest_count && code == EXIT_DONE; count++) {
        const char *text = of.rest[count];
        const char *equals = set ? strchr(text, '=') : text + strlen(text);
        names[count] = NULL;
        if (!equals) {
            code = tool_usage(t, "'%s' is not NAME=VALUE", text);
        } else if (!(names[count] = tool_copy(text, (size_t)(equals - text)))) {
            fprintf(stderr, "rivulet: out of memory\n");
            code = EXIT_FAILED;
        } else {
            changes[count] = (struct rv_option){names[count], set ? equals + 1 : NULL};
        }
    }
    if (code == EXIT_DONE &&
        rv_config_set(t->client, of.type, of.name, changes, t->timeout_ms, &e) != RV_OK) {
        code = tool_failed(t, &e);
    }
    for (int i = 0; i < count; i++) {
        if (code == EXIT_DONE && t->json &&
            !json_line(stdout, json_pack("{s:o,s:o,s:o}", of.type == RV_TOPIC ? "topic" : "broker",
                                         json_text(of.name), "name", json_text(changes[i].name),
                                         "value", json_text(changes[i].value)))) {
            code = EXIT_FAILED;
        }
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

#include "tools/tool.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

int verb_topic_create(struct tool *t)
{
    struct rv_error e;
    int64_t partitions = -1;
    if (tool_has(t, 'p') && !tool_number(t, "-p", tool_value(t, 'p'), 1, 1000000, &partitions)) {
        return EXIT_USAGE;
    }
    struct rv_option configs[TOOL_MANY_LIMIT + 1] = {
        {NULL, NULL}
    };
    char *names[TOOL_MANY_LIMIT];
    int count = 0;
    for (int i = 0; i < t->many_count; i++) {
        if (t->many_letters[i] == 'c') {
            const char *equals = strchr(t->many[i], '=');
            names[count] = tool_copy(t->many[i], (size_t)(equals - t->many[i]));
            configs[count] = (struct rv_option){names[count], equals + 1};
            count++;
        }
    }
    int code = EXIT_DONE;
    if (rv_topic_create(t->client, t->args[0], (int32_t)partitions, configs, t->timeout_ms, &e) !=
        RV_OK) {
        code = tool_failed(t, &e);
    } else if (t->json) {
        code = json_line(stdout, json_pack("{s:s}", "topic", t->args[0])) ? EXIT_DONE : EXIT_FAILED;
    }
    for (int i = 0; i < count; i++) {
        mem_free(names[i]);
    }
    return code;
}

int verb_topic_delete(struct tool *t)
{
    struct rv_error e;
    int worst = EXIT_DONE;
    for (int i = 0; i < t->arg_count; i++) {
        if (rv_topic_delete(t->client, t->args[i], t->timeout_ms, &e) != RV_OK) {
            worst = tool_failed(t, &e);
        } else if (t->json && !json_line(stdout, json_pack("{s:s}", "topic", t->args[i]))) {
            return EXIT_FAILED;
        }
    }
    return worst;
}

int verb_topic_list(struct tool *t)
{
    struct rv_error e;
    struct rv_topics *topics;
    if (rv_topic_list(t->client, t->timeout_ms, &topics, &e) != RV_OK) {
        return tool_failed(t, &e);
    }
    static const char *const heads[] = {"TOPIC", ">PARTITIONS"};
    struct table table;
    table_init(&table, heads, 2);
    int code = EXIT_DONE;
    for (size_t i = 0; i < topics->count && code == EXIT_DONE; i++) {
        const struct rv_topic *topic = &topics->items[i];
        if (t->json) {
            json_t *o = json_pack("{s:o,s:I,s:b}", "topic", json_text(topic->name), "partitions",
                                  (json_int_t)topic->partition_count, "internal", topic->internal);
            code = json_line(stdout, o) ? EXIT_DONE : EXIT_FAILED;
        } else if (!topic->internal) {
            table_add(&table, "%s", topic->name);
            table_add(&table, "%zu", topic->partition_count);
        }
    }
    if (!t->json) {
        code = table_print(&table, stdout);
    }
    rv_free(topics);
    return code;
}

static json_t *partition_json(const struct rv_topic *topic, const struct rv_topic_partition *p)
{
    return json_pack("{s:o,s:i,s:i,s:o,s:o,s:o}", "topic", json_text(topic->name), "partition",
                     (int)p->partition, "leader", (int)p->leader, "start_offset",
                     json_offset(p->start_offset), "end_offset", json_offset(p->end_offset),
                     "size_bytes", json_offset(p->size_bytes));
}

static void topic_settings(const struct tool *t, const char *topic)
{
    struct rv_error e;
    struct rv_configs *configs;
    if (rv_config_get(t->client, RV_TOPIC, topic, t->timeout_ms, &configs, &e) != RV_OK) {
        fprintf(stderr, "rivulet: %s\n", e.text);
        return;
    }
    for (size_t i = 0; i < configs->count; i++) {
        if (!configs->items[i].is_default) {
            printf("  %s=%s\n", configs->items[i].name,
                   configs->items[i].value ? configs->items[i].value : "(secret)");
        }
    }
    rv_free(configs);
}

static int topic_describe(struct tool *t, const struct rv_topic *topic)
{
    static const char *const heads[] = {">PARTITION", ">LEADER", ">START", ">END", ">BYTES"};
    struct table table;
    table_init(&table, heads, 5);
    for (size_t i = 0; i < topic->partition_count; i++) {
        const struct rv_topic_partition *p = &topic->partitions[i];
        if (t->json) {
            if (!json_line(stdout, partition_json(topic, p))) {
                return EXIT_FAILED;
            }
            continue;
        }
        table_add(&table, "%d", (int)p->partition);
        table_add(&table, "%d", (int)p->leader);
        table_add(&table, "%lld", (long long)p->start_offset);
        table_add(&table, "%lld", (long long)p->end_offset);
        table_add(&table, "%lld", (long long)p->size_bytes);
    }
    if (t->json) {
        return EXIT_DONE;
    }
    printf("topic %s%s%s\n", topic->name, topic->id[0] ? "  id " : "", topic->id);
    topic_settings(t, topic->name);
    return table_print(&table, stdout);
}

int verb_topic_describe(struct tool *t)
{
    struct rv_error e;
    int worst = EXIT_DONE;
    for (int i = 0; i < t->arg_count; i++) {
        struct rv_topics *topics;
        if (rv_topic_describe(t->client, t->args[i], t->timeout_ms, &topics, &e) != RV_OK) {
            worst = tool_failed(t, &e);
            continue;
        }
        int code = topic_describe(t, &topics->items[0]);
        worst = code != EXIT_DONE ? code : worst;
        rv_free(topics);
    }
    return worst;
}

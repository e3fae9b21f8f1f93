#include "tools/tool.h"

#include "base/mem.h"
#include "tools/terminal.h"

#include <stdlib.h>
#include <string.h>

enum { PARTITIONS_MAX = 1000000, SIZE_TEXT = 24 };

int verb_topic_create(struct tool *t)
{
    struct rv_error e;
    int64_t partitions = -1;
    size_t count;
    if (tool_has(t, 'p') &&
        !tool_number(t, "-p", tool_value(t, 'p'), 1, PARTITIONS_MAX, &partitions)) {
        return EXIT_USAGE;
    }
    struct rv_option *configs = tool_pairs(t, 'c', &count);
    if (!configs) {
        return EXIT_FAILED;
    }
    int code = EXIT_DONE;
    if (rv_topic_create(t->client, t->args[0], (int32_t)partitions, configs, t->timeout_ms, &e) !=
        RV_OK) {
        code = tool_failed(t, &e);
    } else if (t->json) {
        code = json_line(stdout, json_pack("{s:o}", "topic", json_text(t->args[0]))) ? EXIT_DONE
                                                                                     : EXIT_FAILED;
    } else {
        tool_print("created topic %s", t->args[0]);
    }
    mem_free(configs);
    return code;
}

/* ---- alter ---- */

static int grow_preview(const struct tool *t, int64_t partitions)
{
    struct rv_error e;
    struct rv_topics *topics;
    if (rv_topic_describe(t->client, t->args[0], t->timeout_ms, &topics, &e) != RV_OK) {
        return tool_failed(t, &e);
    }
    if (!t->json) {
        tool_print("would make %zu partitions %lld", topics->items[0].partition_count,
                   (long long)partitions);
    }
    rv_free(topics);
    return EXIT_DONE;
}

int verb_topic_alter(struct tool *t)
{
    struct rv_error e;
    int64_t partitions = 0;
    size_t count;
    const char *topic = t->args[0];
    bool dry = tool_has(t, 'D');
    if (!tool_has(t, 'p') && !tool_has(t, 'c')) {
        return tool_usage(t, "nothing to change: -c NAME=VALUE, or -p N");
    }
    if (tool_has(t, 'p') &&
        !tool_number(t, "-p", tool_value(t, 'p'), 1, PARTITIONS_MAX, &partitions)) {
        return EXIT_USAGE;
    }
    struct rv_option *configs = tool_pairs(t, 'c', &count);
    if (!configs) {
        return EXIT_FAILED;
    }
    for (size_t i = 0; i < count; i++) {
        configs[i].value = configs[i].value[0] ? configs[i].value : NULL; /* the default */
    }
    int code = count ? config_apply(t, RV_TOPIC, topic, configs) : EXIT_DONE;
    if (code == EXIT_DONE && partitions && dry) {
        code = grow_preview(t, partitions);
    } else if (code == EXIT_DONE && partitions &&
               rv_topic_grow(t->client, topic, (int32_t)partitions, t->timeout_ms, &e) != RV_OK) {
        code = tool_failed(t, &e);
    }
    if (code == EXIT_DONE && t->json && !dry) {
        code = json_line(stdout, json_pack("{s:o}", "topic", json_text(topic))) ? EXIT_DONE
                                                                                : EXIT_FAILED;
    } else if (code == EXIT_DONE && !t->json && !dry) {
        tool_print("changed topic %s", topic);
    }
    mem_free(configs);
    return code;
}

/* ---- delete ---- */

/* "12.3 MB" */
static void size_text(int64_t bytes, char text[SIZE_TEXT])
{
    static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB", "PB", "EB"};
    double n = (double)bytes;
    size_t unit = 0;
    while (n >= 1000 && unit + 1 < sizeof units / sizeof units[0]) {
        n /= 1000;
        unit++;
    }
    snprintf(text, SIZE_TEXT, unit ? "%.1f %s" : "%.0f %s", n, units[unit]);
}

/* What is in it: "3 partitions, 12 records, 4.5 kB". */
static int topic_sum(const struct tool *t, const char *name, struct buf *text)
{
    struct rv_error e;
    struct rv_topics *topics;
    if (rv_topic_describe(t->client, name, t->timeout_ms, &topics, &e) != RV_OK) {
        return tool_failed(t, &e);
    }
    const struct rv_topic *topic = &topics->items[0];
    char size[SIZE_TEXT];
    int64_t offsets = 0, bytes = 0;
    for (size_t i = 0; i < topic->partition_count; i++) {
        const struct rv_topic_partition *p = &topic->partitions[i];
        offsets += p->code == RV_OK ? p->end_offset - p->start_offset : 0;
        bytes += p->size_bytes > 0 ? p->size_bytes : 0;
    }
    size_text(bytes, size);
    buf_printf(text, "%zu partition%s, %lld offset%s, %s", topic->partition_count,
               topic->partition_count == 1 ? "" : "s", (long long)offsets, offsets == 1 ? "" : "s",
               size);
    rv_free(topics);
    return text->failed ? tool_no_memory() : EXIT_DONE;
}

static int topic_remove(struct tool *t, const char *name)
{
    struct rv_error e;
    struct buf sum = {0};
    bool dry = tool_has(t, 'D');
    int code = topic_sum(t, name, &sum);
    if (code == EXIT_DONE && !dry) {
        code = tool_confirm(t, "delete topic %s (%s)", name, buf_text(&sum));
    }
    if (code == EXIT_DONE && !dry && rv_topic_delete(t->client, name, t->timeout_ms, &e) != RV_OK) {
        code = tool_failed(t, &e);
    }
    if (code == EXIT_DONE && t->json) {
        json_t *o = json_pack("{s:o,s:b}", "topic", json_text(name), "deleted", (int)!dry);
        code = json_line(stdout, o) ? EXIT_DONE : EXIT_FAILED;
    } else if (code == EXIT_DONE) {
        tool_print("%s topic %s (%s)", dry ? "would delete" : "deleted", name, buf_text(&sum));
    }
    buf_finish(&sum);
    return code;
}

int verb_topic_delete(struct tool *t)
{
    int worst = EXIT_DONE;
    for (int i = 0; i < t->arg_count; i++) {
        int code = topic_remove(t, t->args[i]);
        worst = code != EXIT_DONE ? code : worst;
        if (code == EXIT_USAGE) {
            break; /* nobody is there to ask */
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
        tool_say("%s", e.text);
        return;
    }
    for (size_t i = 0; i < configs->count; i++) {
        if (!configs->items[i].is_default) {
            printf("  %s=%s\n", configs->items[i].name, config_text(&configs->items[i]));
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
        table_add_offset(&table, p->start_offset);
        table_add_offset(&table, p->end_offset);
        table_add_offset(&table, p->size_bytes);
    }
    if (t->json) {
        return EXIT_DONE;
    }
    char head[512];
    snprintf(head, sizeof head, "topic\t%s%s%s", topic->name, topic->id[0] ? "  id\t" : "",
             topic->id);
    text_fold(stdout, head, 0, 2, 0);
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

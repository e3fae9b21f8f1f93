#include "tools/tool.h"

#include <string.h>

int verb_group_list(struct tool *t)
{
    struct rv_error e;
    struct rv_groups *groups;
    if (rv_group_list(t->client, t->timeout_ms, &groups, &e) != RV_OK) {
        return tool_failed(t, &e);
    }
    static const char *const heads[] = {"GROUP", "STATE"};
    struct table table;
    table_init(&table, heads, 2);
    int code = EXIT_DONE;
    for (size_t i = 0; i < groups->count && code == EXIT_DONE; i++) {
        const struct rv_group_listing *g = &groups->items[i];
        if (t->json) {
            json_t *o =
                json_pack("{s:o,s:o,s:o}", "group", json_text(g->group), "state",
                          json_text(g->state), "protocol_type", json_text(g->protocol_type));
            code = json_line(stdout, o) ? EXIT_DONE : EXIT_FAILED;
        } else {
            table_add(&table, "%s", g->group);
            table_add(&table, "%s", g->state[0] ? g->state : "-");
        }
    }
    if (!t->json) {
        code = table_print(&table, stdout);
    }
    rv_free(groups);
    return code;
}

static int group_json(const struct rv_group *g)
{
    for (size_t i = 0; i < g->partition_count; i++) {
        const struct rv_group_partition *p = &g->partitions[i];
        json_t *o =
            json_pack("{s:o,s:o,s:i,s:o,s:o,s:o,s:o}", "group", json_text(g->group), "topic",
                      json_text(p->topic), "partition", (int)p->partition, "committed_offset",
                      json_offset(p->committed_offset), "end_offset", json_offset(p->end_offset),
                      "lag", json_offset(p->lag), "member", json_text(p->member));
        if (!json_line(stdout, o)) {
            return EXIT_FAILED;
        }
    }
    return EXIT_DONE;
}

static void cell_offset(struct table *table, int64_t offset)
{
    if (offset < 0) {
        table_add(table, "-");
    } else {
        table_add(table, "%lld", (long long)offset);
    }
}

static int group_table(const struct rv_group *g)
{
    static const char *const heads[] = {"TOPIC", ">PARTITION", ">COMMITTED",
                                        ">END",  ">LAG",       "MEMBER"};
    struct table table;
    table_init(&table, heads, 6);
    int64_t lag = 0;
    for (size_t i = 0; i < g->partition_count; i++) {
        const struct rv_group_partition *p = &g->partitions[i];
        table_add(&table, "%s", p->topic);
        table_add(&table, "%d", (int)p->partition);
        cell_offset(&table, p->committed_offset);
        cell_offset(&table, p->end_offset);
        cell_offset(&table, p->lag);
        table_add(&table, "%s", p->member ? p->member : "-");
        lag += p->lag > 0 ? p->lag : 0;
    }
    printf("group %s  state %s%s%s  members %zu  lag %lld\n", g->group, g->state,
           g->protocol[0] ? "  assignor " : "", g->protocol, g->member_count, (long long)lag);
    return table_print(&table, stdout);
}

int verb_group_describe(struct tool *t)
{
    struct rv_error e;
    struct rv_group *g;
    if (rv_group_describe(t->client, t->args[0], t->timeout_ms, &g, &e) != RV_OK) {
        return tool_failed(t, &e);
    }
    int code;
    if (strcmp(g->state, "Dead") == 0 && g->partition_count == 0) {
        fprintf(stderr, "rivulet: there is no group %s\n  `rivulet group list` names the groups\n",
                g->group);
        code = EXIT_FAILED;
    } else {
        code = t->json ? group_json(g) : group_table(g);
    }
    rv_free(g);
    return code;
}

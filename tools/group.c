/* rivulet group list, rivulet group describe. */
#include "tools/group.h"

#include "base/mem.h"
#include "tools/terminal.h"

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

/* For people: one line about the group, then its partitions. */
static int group_print(const struct tool *t, const struct rv_group *g)
{
    static const char *const heads[] = {"TOPIC", ">PARTITION",     ">COMMITTED", ">END",
                                        ">LAG",  ">OLDEST UNREAD", "MEMBER"};
    struct table table;
    struct buf line = {0};
    int64_t lag = 0;
    int64_t *ages_ms = group_ages(t, g);
    if (!ages_ms) {
        return EXIT_FAILED;
    }
    table_init(&table, heads, 7);
    for (size_t i = 0; i < g->partition_count; i++) {
        const struct rv_group_partition *p = &g->partitions[i];
        char age[AGE_TEXT];
        table_add(&table, "%s", p->topic);
        table_add(&table, "%d", (int)p->partition);
        table_add_offset(&table, p->committed_offset);
        table_add_offset(&table, p->end_offset);
        table_add_offset(&table, p->lag);
        age_text(ages_ms[i], age);
        table_add(&table, "%s", age);
        table_add(&table, "%s", p->member ? p->member : "-");
        lag += p->lag > 0 ? p->lag : 0;
    }
    mem_free(ages_ms);
    buf_printf(&line, "group\t%s  state\t%s%s%s  members\t%zu  lag\t%lld", g->group, g->state,
               g->protocol[0] ? "  assignor\t" : "", g->protocol, g->member_count, (long long)lag);
    text_fold(stdout, buf_text(&line), 0, 2, 0);
    buf_finish(&line);
    return table_print(&table, stdout);
}

static int members_print(const struct rv_group *g)
{
    static const char *const heads[] = {"MEMBER", "INSTANCE", "CLIENT", "HOST", ">PARTITIONS"};
    struct table table;
    if (g->member_count == 0) {
        return EXIT_DONE;
    }
    table_init(&table, heads, 5);
    for (size_t i = 0; i < g->member_count; i++) {
        const struct rv_group_member *m = &g->members[i];
        size_t has = 0;
        for (size_t k = 0; k < g->partition_count; k++) {
            has += g->partitions[k].member && strcmp(g->partitions[k].member, m->id) == 0;
        }
        table_add(&table, "%s", m->id);
        table_add(&table, "%s", m->instance_id ? m->instance_id : "-");
        table_add(&table, "%s", m->client_id);
        table_add(&table, "%s", m->host);
        table_add(&table, "%zu", has);
    }
    putchar('\n');
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
        tool_say("there is no group %s\n`rivulet group list` names the groups", g->group);
        code = EXIT_FAILED;
    } else if (t->json) {
        code = group_json(g);
    } else {
        code = group_print(t, g);
        code = code == EXIT_DONE ? members_print(g) : code;
    }
    rv_free(g);
    return code;
}

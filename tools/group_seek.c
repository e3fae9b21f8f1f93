/* rivulet group seek, rivulet group delete: moves or drops what a group has committed. */
#include "tools/tool.h"

#include "base/clock.h"
#include "base/mem.h"

#include <string.h>
#include <unistd.h>

enum seek_kind { SEEK_START, SEEK_ENDS, SEEK_TIME, SEEK_OFFSET, SEEK_BY };

struct seek_to {
    enum seek_kind kind;
    int64_t value; /* time: epoch ms; offset: itself; by: records, forwards or backwards */
};

/* One partition of the before/after table. */
struct move {
    const char *topic; /* borrowed */
    int32_t partition;
    int64_t before;     /* committed; -1: nothing */
    int64_t start, end; /* what there is */
    int64_t after;
    const char *note; /* why it is not what was asked for; "" */
};

struct seek {
    struct tool *t;
    const char *group;
    struct seek_to to;
    struct move *moves; /* owned */
    size_t count;
    size_t slots;
};

static bool parse_to(const struct tool *t, struct seek_to *to)
{
    const char *text = tool_value(t, 'G');
    if (!text) {
        tool_usage(t, "where to? --to start|end|@TIME|N|+N|-N");
        return false;
    }
    if (strcmp(text, "start") == 0 || strcmp(text, "end") == 0) {
        to->kind = text[0] == 's' ? SEEK_START : SEEK_ENDS;
        return true;
    }
    if (text[0] == '@') {
        to->kind = SEEK_TIME;
        if (time_parse(str_of(text + 1), clock_wall_ms(&clock_real), &to->value)) {
            return true;
        }
    } else if (str_to_int64(str_of(text), &to->value) == OK) {
        to->kind = text[0] == '+' || text[0] == '-' ? SEEK_BY : SEEK_OFFSET;
        return true;
    }
    tool_usage(t,
               "--to: '%s' is none of: start, end, an offset, +N, -N, @TIME (RFC 3339, epoch "
               "milliseconds, -2h)",
               text);
    return false;
}

/* ---- which partitions */

static bool add_move(struct seek *s, const char *topic, int32_t partition, int64_t before)
{
    for (size_t i = 0; i < s->count; i++) {
        if (s->moves[i].partition == partition && strcmp(s->moves[i].topic, topic) == 0) {
            return true;
        }
    }
    if (s->count == s->slots) {
        size_t slots = s->slots ? s->slots * 2 : 16;
        struct move *more = mem_resize(s->moves, slots * sizeof *more);
        if (!more) {
            tool_no_memory();
            return false;
        }
        s->moves = more;
        s->slots = slots;
    }
    s->moves[s->count++] =
        (struct move){.topic = topic, .partition = partition, .before = before, .note = ""};
    return true;
}

static bool is_wanted(const struct tool *t, const char *topic, int64_t only, int32_t partition)
{
    const char *name = tool_value(t, 'T');
    return (!name || strcmp(name, topic) == 0) && (only < 0 || only == partition);
}

/* Those that the group has committed; and with --topic all of the topic, committed or not. */
static int collect(struct seek *s, const struct rv_group *g, const struct rv_topics *topics)
{
    int64_t only = -1;
    if (tool_has(s->t, 'P') &&
        !tool_number(s->t, "--partition", tool_value(s->t, 'P'), 0, INT32_MAX, &only)) {
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < g->partition_count; i++) {
        const struct rv_group_partition *p = &g->partitions[i];
        if (is_wanted(s->t, p->topic, only, p->partition) &&
            !add_move(s, p->topic, p->partition, p->committed_offset)) {
            return EXIT_FAILED;
        }
    }
    const struct rv_topic *topic = topics ? &topics->items[0] : NULL;
    for (size_t i = 0; topic && i < topic->partition_count; i++) {
        int32_t partition = topic->partitions[i].partition;
        if (is_wanted(s->t, topic->name, only, partition) &&
            !add_move(s, topic->name, partition, -1)) {
            return EXIT_FAILED;
        }
    }
    if (s->count == 0 && topic) {
        tool_say("topic %s has no partition %lld\nit has 0 to %zu", topic->name, (long long)only,
                 topic->partition_count - 1);
        return EXIT_FAILED;
    }
    if (s->count == 0) {
        tool_say("group %s has committed nothing\n--topic TOPIC names a topic to begin with",
                 s->group);
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}

/* ---- where to */

static int ask_offsets(struct seek *s, int64_t at, struct rv_partition *places)
{
    struct rv_error e;
    for (size_t i = 0; i < s->count; i++) {
        places[i] =
            (struct rv_partition){.topic = s->moves[i].topic, .partition = s->moves[i].partition};
    }
    if (rv_offsets(s->t->client, places, s->count, at, s->t->timeout_ms, &e) != RV_OK) {
        return tool_failed(s->t, &e);
    }
    for (size_t i = 0; i < s->count; i++) {
        if (places[i].code != RV_OK) {
            tool_say("topic %s partition %d: %s", places[i].topic, (int)places[i].partition,
                     rv_error_name(places[i].code));
            return EXIT_FAILED;
        }
    }
    return EXIT_DONE;
}

static void decide(const struct seek *s, struct move *m, int64_t at_time)
{
    int64_t from = m->before < 0 ? m->start : m->before;
    int64_t wanted = 0;
    switch (s->to.kind) {
    case SEEK_START: wanted = m->start; break;
    case SEEK_ENDS: wanted = m->end; break;
    case SEEK_TIME: wanted = at_time < 0 ? m->end : at_time; break;
    case SEEK_OFFSET: wanted = s->to.value; break;
    case SEEK_BY:
        if (__builtin_add_overflow(from, s->to.value, &wanted)) {
            wanted = s->to.value < 0 ? 0 : INT64_MAX;
        }
        break;
    }
    m->after = wanted < m->start ? m->start : wanted > m->end ? m->end : wanted;
    m->note = wanted < m->start                        ? "before the start"
              : wanted > m->end                        ? "behind the end"
              : s->to.kind == SEEK_TIME && at_time < 0 ? "nothing so new"
              : s->to.kind == SEEK_BY && m->before < 0 ? "nothing committed"
                                                       : "";
}

static int find_places(struct seek *s)
{
    struct rv_partition *places = mem_zero(s->count, sizeof *places);
    if (!places) {
        return tool_no_memory();
    }
    int code = ask_offsets(s, RV_START, places);
    for (size_t i = 0; code == EXIT_DONE && i < s->count; i++) {
        s->moves[i].start = places[i].offset;
    }
    code = code == EXIT_DONE ? ask_offsets(s, RV_END, places) : code;
    for (size_t i = 0; code == EXIT_DONE && i < s->count; i++) {
        s->moves[i].end = places[i].offset;
    }
    if (code == EXIT_DONE && s->to.kind == SEEK_TIME) {
        code = ask_offsets(s, s->to.value, places);
    }
    for (size_t i = 0; code == EXIT_DONE && i < s->count; i++) {
        decide(s, &s->moves[i], places[i].offset);
    }
    mem_free(places);
    return code;
}

/* ---- showing and doing */

static int show(const struct seek *s, bool done)
{
    static const char *const heads[] = {"TOPIC", ">PARTITION", ">BEFORE", ">AFTER", ">LAG", "NOTE"};
    struct table table;
    table_init(&table, heads, 6);
    for (size_t i = 0; i < s->count; i++) {
        const struct move *m = &s->moves[i];
        if (s->t->json) {
            json_t *o =
                json_pack("{s:o,s:o,s:i,s:o,s:o,s:b}", "group", json_text(s->group), "topic",
                          json_text(m->topic), "partition", (int)m->partition, "before",
                          json_offset(m->before), "after", json_offset(m->after), "done", done);
            if (!json_line(stdout, o)) {
                return EXIT_FAILED;
            }
            continue;
        }
        table_add(&table, "%s", m->topic);
        table_add(&table, "%d", (int)m->partition);
        table_add_offset(&table, m->before);
        table_add_offset(&table, m->after);
        table_add_offset(&table, m->end - m->after);
        table_add(&table, "%s", m->note);
    }
    return s->t->json ? EXIT_DONE : table_print(&table, stdout);
}

static int commit(struct seek *s)
{
    struct rv_error e;
    struct rv_partition *places = mem_zero(s->count, sizeof *places);
    if (!places) {
        return tool_no_memory();
    }
    for (size_t i = 0; i < s->count; i++) {
        places[i] = (struct rv_partition){.topic = s->moves[i].topic,
                                          .partition = s->moves[i].partition,
                                          .offset = s->moves[i].after,
                                          .leader_epoch = -1};
    }
    int code = EXIT_DONE;
    if (rv_group_set_offsets(s->t->client, s->group, places, s->count, s->t->timeout_ms, &e) !=
        RV_OK) {
        code = tool_failed(s->t, &e);
    }
    mem_free(places);
    return code;
}

static int refuse_members(const struct seek *s, size_t members)
{
    tool_say("group %s has %zu active member%s, who would go on from where they are\n"
             "stop them first, or --force removes them from the group",
             s->group, members, members == 1 ? "" : "s");
    return EXIT_FAILED;
}

static int seek_group(struct seek *s, const struct rv_group *g)
{
    struct rv_error e;
    struct rv_topics *topics = NULL;
    if (g->member_count && !tool_has(s->t, 'x') && !tool_has(s->t, 'D')) {
        return refuse_members(s, g->member_count);
    }
    if (tool_has(s->t, 'T') && rv_topic_describe(s->t->client, tool_value(s->t, 'T'),
                                                 s->t->timeout_ms, &topics, &e) != RV_OK) {
        return tool_failed(s->t, &e);
    }
    int code = collect(s, g, topics);
    code = code == EXIT_DONE ? find_places(s) : code;
    bool dry = tool_has(s->t, 'D');
    if (code == EXIT_DONE && !s->t->json) {
        code = show(s, false);
    }
    code = code == EXIT_DONE && !dry ? tool_confirm(s->t, "move the offsets of group %s", s->group)
                                     : code;
    if (code == EXIT_DONE && !dry && g->member_count &&
        rv_group_remove_members(s->t->client, s->group, s->t->timeout_ms, &e) != RV_OK) {
        code = tool_failed(s->t, &e);
    }
    code = code == EXIT_DONE && !dry ? commit(s) : code;
    if (code == EXIT_DONE && s->t->json) {
        code = show(s, !dry);
    }
    rv_free(topics);
    return code;
}

int verb_group_seek(struct tool *t)
{
    struct rv_error e;
    struct rv_group *g;
    struct seek s = {.t = t, .group = t->args[0]};
    if (!parse_to(t, &s.to)) {
        return EXIT_USAGE;
    }
    if (tool_has(t, 'P') && !tool_has(t, 'T')) {
        return tool_usage(t, "--partition goes with --topic");
    }
    if (rv_group_describe(t->client, s.group, t->timeout_ms, &g, &e) != RV_OK) {
        return tool_failed(t, &e);
    }
    int code = seek_group(&s, g);
    mem_free(s.moves);
    rv_free(g);
    return code;
}

static int group_remove(struct tool *t, const char *group)
{
    struct rv_error e;
    struct rv_group *g;
    bool dry = tool_has(t, 'D');
    if (rv_group_describe(t->client, group, t->timeout_ms, &g, &e) != RV_OK) {
        return tool_failed(t, &e);
    }
    size_t members = g->member_count;
    size_t partitions = g->partition_count;
    bool there = strcmp(g->state, "Dead") != 0 || partitions > 0;
    rv_free(g);
    if (!there) {
        tool_say("there is no group %s\n`rivulet group list` names the groups", group);
        return EXIT_FAILED;
    }
    if (members) {
        tool_say("group %s has %zu active member%s\nstop them first; `rivulet group describe %s` "
                 "names them",
                 group, members, members == 1 ? "" : "s", group);
        return EXIT_FAILED;
    }
    int code = dry ? EXIT_DONE
                   : tool_confirm(t, "delete group %s and its offsets in %zu partition%s", group,
                                  partitions, partitions == 1 ? "" : "s");
    if (code == EXIT_DONE && !dry &&
        rv_group_delete(t->client, group, t->timeout_ms, &e) != RV_OK) {
        code = tool_failed(t, &e);
    }
    if (code == EXIT_DONE && t->json) {
        json_t *o = json_pack("{s:o,s:b}", "group", json_text(group), "deleted", (int)!dry);
        code = json_line(stdout, o) ? EXIT_DONE : EXIT_FAILED;
    } else if (code == EXIT_DONE) {
        tool_print("%s group %s and its offsets in %zu partition%s",
                   dry ? "would delete" : "deleted", group, partitions, partitions == 1 ? "" : "s");
    }
    return code;
}

int verb_group_delete(struct tool *t)
{
    int worst = EXIT_DONE;
    for (int i = 0; i < t->arg_count; i++) {
        int code = group_remove(t, t->args[i]);
        worst = code != EXIT_DONE ? code : worst;
        if (code == EXIT_USAGE) {
            break; /* nobody is there to ask */
        }
    }
    return worst;
}

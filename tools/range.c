#include "tools/range.h"

#include "base/clock.h"
#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

bool place_parse(const char *text, struct place *ret_place)
{
    int64_t n;
    *ret_place = (struct place){0};
    if (strcmp(text, "start") == 0) {
        ret_place->at = RV_START;
    } else if (strcmp(text, "end") == 0) {
        ret_place->at = RV_END;
    } else if (text[0] == '@') {
        ret_place->by_time = true;
        return time_parse(str_of(text + 1), clock_wall_ms(&clock_real), &ret_place->at) &&
               ret_place->at >= 0;
    } else if (str_to_int64(str_of(text), &n) == OK && n >= 0) {
        ret_place->at = n;
    } else {
        return false;
    }
    return true;
}

static bool place_take(const struct tool *t, char letter, const char *name, struct place *p)
{
    if (place_parse(tool_value(t, letter), p)) {
        return true;
    }
    tool_usage(t,
               "%s: '%s' is not start, end, an offset, or @TIME (@2026-11-24T14:00:00Z, "
               "@1795528800000, @-2h)",
               name, tool_value(t, letter));
    return false;
}

int range_init(struct range *r, const struct tool *t, const char *topic)
{
    *r = (struct range){.tool = t, .topic = topic, .only = -1, .left = -1, .from.at = RV_START};
    r->has_until = tool_has(t, 'u');
    if (tool_has(t, 'n') && !tool_number(t, "-n", tool_value(t, 'n'), 0, INT64_MAX, &r->left)) {
        return EXIT_USAGE;
    }
    if (tool_has(t, 'P') &&
        !tool_number(t, "--partition", tool_value(t, 'P'), 0, INT32_MAX, &r->only)) {
        return EXIT_USAGE;
    }
    if ((tool_has(t, 'o') && !place_take(t, 'o', "-o", &r->from)) ||
        (r->has_until && !place_take(t, 'u', "--until", &r->until))) {
        return EXIT_USAGE;
    }
    return EXIT_DONE;
}

struct range_part *range_part(struct range *r, int32_t partition)
{
    if (partition >= r->count) {
        struct range_part *more = mem_resize(r->parts, ((size_t)partition + 1) * sizeof *more);
        if (!more) {
            return NULL;
        }
        r->parts = more;
        while (r->count <= partition) {
            r->parts[r->count++] = (struct range_part){
                .until = r->has_until ? 0 : INT64_MAX, .reached = -1, .due = -1};
        }
    }
    return &r->parts[partition];
}

/* ---- where it is ---- */

/* The offset of a place in a partition that has start to end. */
static int64_t place_offset(const struct place *p, const struct rv_topic_partition *of,
                            int64_t at_time)
{
    if (p->by_time) {
        return at_time < 0 ? of->end_offset : at_time;
    }
    return p->at == RV_START ? of->start_offset : p->at == RV_END ? of->end_offset : p->at;
}

static int64_t within(const struct rv_topic_partition *p, int64_t offset)
{
    if (offset >= p->start_offset && offset <= p->end_offset) {
        return offset;
    }
    int64_t to = offset < p->start_offset ? p->start_offset : p->end_offset;
    tool_say("partition %d has offsets %" PRId64 " to %" PRId64 ": reading begins at %" PRId64,
             (int)p->partition, p->start_offset, p->end_offset, to);
    return to;
}

static int times_find(const struct range *r, const struct rv_topic *topic, const struct place *p,
                      struct rv_partition *ret_places)
{
    struct rv_error e;
    for (size_t i = 0; i < topic->partition_count; i++) {
        ret_places[i] = (struct rv_partition){
            .topic = r->topic, .partition = topic->partitions[i].partition, .offset = -1};
    }
    if (p->by_time && rv_offsets(r->tool->client, ret_places, topic->partition_count, p->at,
                                 r->tool->timeout_ms, &e) != RV_OK) {
        return tool_failed(r->tool, &e);
    }
    for (size_t i = 0; i < topic->partition_count; i++) {
        if (ret_places[i].code != RV_OK) {
            tool_say("topic %s partition %d: where a time is, is not known: %s", r->topic,
                     (int)ret_places[i].partition, rv_error_name(ret_places[i].code));
            return EXIT_FAILED;
        }
    }
    return EXIT_DONE;
}

static int parts_find(struct range *r, const struct rv_topic *topic,
                      const struct rv_partition *from, const struct rv_partition *until)
{
    for (size_t i = 0; i < topic->partition_count; i++) {
        const struct rv_topic_partition *p = &topic->partitions[i];
        struct range_part *part = range_part(r, p->partition);
        if (!part) {
            return tool_no_memory();
        }
        if (r->only >= 0 && r->only != p->partition) {
            part->until = 0;
            continue;
        }
        if (p->code != RV_OK) {
            tool_say("topic %s partition %d: its offsets are not known: %s", r->topic,
                     (int)p->partition, rv_error_name(p->code));
            return EXIT_FAILED;
        }
        part->wanted = true;
        part->from = within(p, place_offset(&r->from, p, from[i].offset));
        if (r->has_until) {
            part->until = place_offset(&r->until, p, until[i].offset);
        }
    }
    return EXIT_DONE;
}

int range_find(struct range *r)
{
    struct rv_error e;
    struct rv_topics *topics;
    const struct tool *t = r->tool;
    if (rv_topic_describe(t->client, r->topic, t->timeout_ms, &topics, &e) != RV_OK) {
        return tool_failed(t, &e);
    }
    const struct rv_topic *topic = &topics->items[0];
    struct rv_partition *places = mem_zero(topic->partition_count * 2 + 1, sizeof *places);
    int code = places ? EXIT_DONE : tool_no_memory();
    if (r->only >= (int64_t)topic->partition_count) {
        code = tool_usage(t, "--partition: topic %s has partitions 0 to %zu", r->topic,
                          topic->partition_count - 1);
    }
    struct rv_partition *until = places + topic->partition_count;
    code = code == EXIT_DONE ? times_find(r, topic, &r->from, places) : code;
    code = code == EXIT_DONE ? times_find(r, topic, &r->until, until) : code;
    code = code == EXIT_DONE ? parts_find(r, topic, places, until) : code;
    mem_free(places);
    rv_free(topics);
    return code;
}

void range_finish(struct range *r)
{
    mem_free(r->parts);
}

/* ---- reading it ---- */

int range_assign(const struct range *r, struct rv_consumer *consumer)
{
    struct rv_error e;
    struct rv_partition *list = mem_alloc(((size_t)r->count + 1) * sizeof *list);
    size_t count = 0;
    if (!list) {
        return tool_no_memory();
    }
    for (int32_t i = 0; i < r->count; i++) {
        if (r->parts[i].wanted) {
            list[count++] = (struct rv_partition){
                .topic = r->topic, .partition = i, .offset = r->parts[i].from, .leader_epoch = -1};
        }
    }
    int code = rv_assign(consumer, list, count, &e);
    mem_free(list);
    return code == RV_OK ? EXIT_DONE : tool_failed(r->tool, &e);
}

/* Everything that is ours has been read to where it ends. */
bool range_is_over(const struct range *r, struct rv_consumer *consumer)
{
    const struct rv_partition *mine;
    if (r->left == 0) {
        return true;
    }
    size_t count = r->has_until ? rv_assignment(consumer, &mine) : 0;
    for (size_t i = 0; i < count; i++) {
        int64_t until = mine[i].partition < r->count ? r->parts[mine[i].partition].until : 0;
        if (until > 0 && (mine[i].offset < 0 || mine[i].offset < until)) {
            return false;
        }
    }
    return count > 0;
}

int64_t range_total(const struct range *r)
{
    int64_t total = 0;
    for (int32_t i = 0; i < r->count && r->has_until; i++) {
        const struct range_part *p = &r->parts[i];
        total += p->wanted && p->until > p->from ? p->until - p->from : 0;
    }
    return r->left >= 0 && (!r->has_until || r->left < total) ? r->left : total;
}

void range_say(const struct range *r, const char *what)
{
    struct buf text = {0};
    for (int32_t i = 0; i < r->count; i++) {
        if (r->parts[i].reached >= 0) {
            buf_printf(&text, "%s partition\t%d\toffset\t%" PRId64,
                       text.len        ? ","
                       : r->taken == 1 ? "; next is"
                                       : "; next are",
                       (int)i, r->parts[i].reached);
        }
    }
    tool_say("%s %" PRId64 " record%s%s", what, r->taken, r->taken == 1 ? "" : "s",
             buf_text(&text));
    buf_finish(&text);
}

/* rivulet view: the latest value of every key of a topic, sorted by key. */
#include "tools/tool.h"

#include "base/clock.h"
#include "base/mem.h"
#include "client/view/rivulet_view.h"
#include "tools/record.h"
#include "tools/terminal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WAIT_MS = 100 /* Ctrl-C is looked for so often */ };

struct view {
    struct tool *tool;
    const char *topic;
    struct rv_view *view;
    struct record_out out;
    struct stop stop;
    struct rv_view_entry *entries; /* owned; what they point to is the view's */
    size_t count;
};

static int by_key(const void *a, const void *b)
{
    const struct rv_bytes *x = &((const struct rv_view_entry *)a)->key;
    const struct rv_bytes *y = &((const struct rv_view_entry *)b)->key;
    return str_cmp((struct str){x->ptr, x->size}, (struct str){y->ptr, y->size});
}

static int view_open(struct view *v)
{
    struct rv_error e;
    struct tool *t = v->tool;
    int64_t at;
    char at_text[24];
    if (tool_has(t, 'A')) {
        if (!time_parse(str_of(tool_value(t, 'A')), clock_wall_ms(&clock_real), &at)) {
            return tool_usage(t, "--at: '%s' is no time: RFC 3339, epoch milliseconds, -2h",
                              tool_value(t, 'A'));
        }
        snprintf(at_text, sizeof at_text, "%lld", (long long)(at < 1 ? 1 : at));
    }
    if ((tool_has(t, 'A') && !tool_set(t, "view.at.ms", at_text)) ||
        (tool_has(t, 'K') && !tool_set(t, "view.key", tool_value(t, 'K')))) {
        return tool_no_memory();
    }
    if (rv_view_open(t->client, v->topic, t->options, NULL, t->timeout_ms, &v->view, &e) != RV_OK) {
        return tool_failed(t, &e);
    }
    return EXIT_DONE;
}

/* Until it is complete. */
static int fill(struct view *v)
{
    struct rv_error e;
    struct rv_view_stats stats;
    struct progress progress;
    int code = EXIT_DONE;
    if (rv_view_stats(v->view, &stats, &e) != RV_OK) {
        return tool_failed(v->tool, &e);
    }
    progress_begin(&progress, "read", stats.behind, true);
    int64_t total = stats.behind;
    while (code == EXIT_DONE && !rv_view_is_complete(v->view)) {
        if (rv_view_poll(v->view, WAIT_MS, &e) != RV_OK ||
            rv_view_stats(v->view, &stats, &e) != RV_OK) {
            code = tool_failed(v->tool, &e);
        }
        progress_show(&progress, total - stats.behind, "records");
        stop_take(&v->stop);
        if (code == EXIT_DONE && v->stop.at_ms) {
            progress_end(&progress);
            tool_say("stopped: %lld records were still to be read", (long long)stats.behind);
            return EXIT_FAILED;
        }
    }
    progress_end(&progress);
    return code;
}

static int collect(struct view *v)
{
    struct rv_error e;
    struct rv_view_stats stats;
    struct rv_view_entry entry;
    if (rv_view_stats(v->view, &stats, &e) != RV_OK) {
        return tool_failed(v->tool, &e);
    }
    v->entries = mem_alloc(((size_t)stats.count + 1) * sizeof *v->entries);
    if (!v->entries) {
        return tool_no_memory();
    }
    int64_t cursor = 0;
    while (v->count < (size_t)stats.count && rv_view_next(v->view, &cursor, &entry, &e) == RV_OK) {
        v->entries[v->count++] = entry;
    }
    qsort(v->entries, v->count, sizeof *v->entries, by_key);
    if (stats.without_key) {
        tool_say("%lld record%s without a key %s passed over", (long long)stats.without_key,
                 stats.without_key == 1 ? "" : "s", stats.without_key == 1 ? "was" : "were");
    }
    return EXIT_DONE;
}

static bool entry_write(const struct view *v, const struct rv_view_entry *entry)
{
    if (v->tool->json) {
        return json_line(stdout,
                         json_pack("{s:o,s:i,s:I,s:o,s:o,s:o}", "topic", json_text(v->topic),
                                   "partition", (int)entry->partition, "offset",
                                   (json_int_t)entry->offset, "timestamp_ms",
                                   json_offset(entry->timestamp_ms), "key", json_bytes(entry->key),
                                   "value", json_bytes(entry->value)));
    }
    const struct rv_record r = {.topic = v->topic,
                                .partition = entry->partition,
                                .offset = entry->offset,
                                .timestamp_ms = entry->timestamp_ms,
                                .key = entry->key,
                                .value = entry->value};
    return record_write(&v->out, stdout, &r);
}

static int print(const struct view *v)
{
    for (size_t i = 0; i < v->count; i++) {
        if (!entry_write(v, &v->entries[i])) {
            if (errno == EPIPE) { /* `| head` */
                return EXIT_DONE;
            }
            tool_say("cannot write the output: %s", strerror(errno));
            return EXIT_FAILED;
        }
    }
    if (tool_has(v->tool, 'K') && v->count == 0) {
        tool_say("topic %s has no key %s%s", v->topic, tool_value(v->tool, 'K'),
                 tool_has(v->tool, 'A') ? " at that time" : "");
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}

int verb_view(struct tool *t)
{
    struct view v = {.tool = t, .topic = t->args[0], .stop.fd = -1};
    if (!record_out_init(t, &v.out)) {
        return EXIT_USAGE;
    }
    if (!v.out.separator && !v.out.format.count) {
        v.out.separator = "\t";
    }
    int code = view_open(&v);
    if (v.view) {
        stop_catch(&v.stop);
        code = fill(&v);
        code = code == EXIT_DONE ? collect(&v) : code;
        code = code == EXIT_DONE ? print(&v) : code;
        stop_finish(&v.stop);
    }
    mem_free(v.entries);
    rv_view_close(v.view);
    record_out_finish(&v.out);
    return code;
}

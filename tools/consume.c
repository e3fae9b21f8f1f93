/* rivulet consume: records to standard output, as a group or by itself.
 *
 * Whatever is committed has been written out before: printed, flushed, then committed; when a
 * partition goes to another member, and at the end, too. */
#include "tools/tool.h"

#include "base/clock.h"
#include "base/mem.h"
#include "tools/range.h"
#include "tools/record.h"

#include <errno.h>
#include <poll.h>
#include <stdio_ext.h>
#include <string.h>
#include <unistd.h>

enum {
    COMMIT_INTERVAL_MS = 1000,
    CLOSE_MS = 5000, /* to say good-bye to the group */
    OPTIONS_MAX = TOOL_OPTIONS_LIMIT + 4,
};

struct consume {
    struct tool *tool;
    struct rv_consumer *consumer;
    const char *group; /* NULL: by itself */
    struct range range;
    struct record_out out;
    struct stop stop;
    struct progress progress;
    int64_t committed_at_ms;      /* monotonic */
    struct rv_error commit_error; /* of the last commit */
    bool committing;              /* the last commit is on its way */
    bool output_failed;           /* or its reader is gone */
};

/* ---- the command line ---- */

static int arguments(struct consume *c)
{
    const struct tool *t = c->tool;
    c->group = tool_value(t, 'g');
    int code = range_init(&c->range, t, t->args[0]);
    if (code == EXIT_DONE && !record_out_init(t, &c->out)) {
        code = EXIT_USAGE;
    }
    if (code != EXIT_DONE || !c->group) {
        return code;
    }
    if (!c->group[0]) {
        return tool_usage(t, "-g: the name of the group is empty");
    }
    if (c->range.from.by_time || c->range.from.at >= 0) {
        return tool_usage(
            t, "-o with -g is where to begin when the group has no stored offset: start or "
               "end; `rivulet group seek` moves a group");
    }
    if (tool_has(t, 'P')) {
        return tool_usage(t, "-g and --partition: the group deals the partitions");
    }
    return EXIT_DONE;
}

/* ---- output ---- */

/* Nothing more is printed, and what was not written out is not committed. A reader that has gone
 * (`| head`) is no failure. */
static int output_lost(struct consume *c, int error)
{
    c->output_failed = true;
    __fpurge(stdout);
    clearerr(stdout);
    if (error == EPIPE) {
        return EXIT_DONE;
    }
    tool_say("cannot write the output: %s", strerror(error));
    return EXIT_FAILED;
}

/* Prints them and writes them out. False: that failed. */
static bool records_print(struct consume *c, const struct rv_record *records, size_t count)
{
    struct range *r = &c->range;
    for (size_t i = 0; i < count && r->left != 0; i++) {
        struct range_part *part = range_part(r, records[i].partition);
        if (!part) {
            errno = ENOMEM;
            return false;
        }
        if (records[i].offset >= part->until) {
            continue;
        }
        if (!record_write(&c->out, stdout, &records[i])) {
            return false;
        }
        part->reached = part->due = records[i].offset + 1;
        r->left -= r->left > 0;
        r->taken++;
    }
    progress_show(&c->progress, r->taken, "records");
    return fflush(stdout) == 0;
}

/* ---- commits ---- */

static void warn(const struct rv_error *e)
{
    tool_say("%s", e->text);
}

static void committed(void *ctx, const struct rv_error *error)
{
    struct consume *c = ctx;
    c->committing = false;
    c->commit_error = error ? *error : (struct rv_error){.code = RV_OK};
}

/* Begins to commit what was printed and written out. */
static int commit_begin(struct consume *c, struct rv_error *ret_error)
{
    struct range *r = &c->range;
    struct rv_partition *list = mem_alloc(((size_t)r->count + 1) * sizeof *list);
    size_t count = 0;
    c->committed_at_ms = clock_mono_ms(&clock_real);
    c->commit_error.code = RV_OK;
    if (!list) {
        *ret_error = (struct rv_error){.code = RV_E_MEMORY, .text = "out of memory"};
        return RV_E_MEMORY;
    }
    for (int32_t p = 0; p < r->count; p++) {
        if (r->parts[p].due >= 0) {
            list[count++] = (struct rv_partition){
                .topic = r->topic, .partition = p, .offset = r->parts[p].due, .leader_epoch = -1};
            r->parts[p].due = -1;
        }
    }
    int code = RV_OK;
    if (count && c->group && !c->output_failed) {
        code = rv_commit_async(c->consumer, list, count, committed, c, ret_error);
        c->committing = code == RV_OK;
    }
    mem_free(list);
    return code;
}

static void wait_some(struct consume *c);

/* Until it is known how the commit ended, or nobody wants to wait for that. */
static int commit_end(struct consume *c, struct rv_error *ret_error)
{
    while (c->committing && !c->stop.hurried) {
        if (rv_process(c->tool->client, ret_error) != RV_OK) {
            return ret_error->code;
        }
        if (c->committing) {
            wait_some(c);
        }
    }
    if (c->commit_error.code != RV_OK) {
        *ret_error = c->commit_error;
    }
    return c->commit_error.code;
}

static int commit(struct consume *c, struct rv_error *ret_error)
{
    if (commit_end(c, ret_error) != RV_OK) { /* the one before */
        warn(ret_error);
    }
    int code = commit_begin(c, ret_error);
    return code == RV_OK ? commit_end(c, ret_error) : code;
}

/* Not ours any more: others read it again, which is what at least once means. */
static bool is_rebalance(const struct rv_error *e)
{
    return (e->flags & RV_REJOIN) != 0;
}

static void on_event(void *ctx, const struct rv_event *event)
{
    struct consume *c = ctx;
    struct rv_error e;
    switch (event->kind) {
    case RV_REVOKED:
        if (commit(c, &e) != RV_OK) {
            warn(&e);
        }
        break;
    case RV_LOST:
        for (int32_t p = 0; p < c->range.count; p++) {
            c->range.parts[p].due = -1;
        }
        tool_say("%s", event->text);
        break;
    case RV_JUMPED: tool_say("%s", event->text); break;
    default: break;
    }
}

/* ---- begin ---- */

static int consumer_open(struct consume *c)
{
    struct rv_error e;
    struct rv_option options[OPTIONS_MAX];
    int n = 0;
    options[n++] = (struct rv_option){
        "auto.offset.reset", c->group && c->range.from.at == RV_END ? "latest" : "earliest"};
    for (int i = 0; i < c->tool->option_count; i++) {
        options[n++] = c->tool->options[i];
    }
    if (c->group) {
        options[n++] = (struct rv_option){"group.id", c->group};
    }
    options[n++] = (struct rv_option){"delivery", "manual"}; /* what is printed is committed */
    options[n] = (struct rv_option){NULL, NULL};
    if (rv_consumer_open(c->tool->client, options, &c->consumer, &e) != RV_OK) {
        return tool_failed(c->tool, &e);
    }
    rv_consumer_on_event(c->consumer, on_event, c);
    return EXIT_DONE;
}

static int begin(struct consume *c)
{
    struct rv_error e;
    int code = range_find(&c->range);
    code = code == EXIT_DONE ? consumer_open(c) : code;
    if (code != EXIT_DONE || !c->group) {
        return code == EXIT_DONE ? range_assign(&c->range, c->consumer) : code;
    }
    return rv_subscribe(c->consumer, &c->range.topic, 1, &e) == RV_OK ? EXIT_DONE
                                                                      : tool_failed(c->tool, &e);
}

/* ---- the loop ---- */

/* Waits for the brokers, Ctrl-C, or the end of the reader of our output. */
static void wait_some(struct consume *c)
{
    struct pollfd fds[] = {
        {.fd = rv_fd(c->tool->client), .events = POLLIN},
        {.fd = c->stop.fd,             .events = POLLIN},
        {.fd = STDOUT_FILENO,          .events = 0     },
    };
    if (poll(fds, sizeof fds / sizeof fds[0], rv_timeout(c->tool->client)) < 0) {
        return; /* EINTR: round again */
    }
    stop_take(&c->stop);
    c->output_failed |= (fds[2].revents & (POLLERR | POLLHUP)) != 0;
}

static bool is_over(struct consume *c)
{
    return c->stop.at_ms || c->output_failed || range_is_over(&c->range, c->consumer);
}

static int run(struct consume *c)
{
    struct rv_error e;
    while (!is_over(c)) {
        const struct rv_record *records;
        size_t count;
        if (rv_poll(c->consumer, 0, &records, &count, &e) != RV_OK) {
            return tool_failed(c->tool, &e);
        }
        if (count && !records_print(c, records, count)) {
            return output_lost(c, errno);
        }
        bool due = clock_mono_ms(&clock_real) - c->committed_at_ms >= COMMIT_INTERVAL_MS;
        bool failed = !c->committing && c->commit_error.code != RV_OK;
        e = c->commit_error;
        if (failed || (due && !c->committing && commit_begin(c, &e) != RV_OK)) {
            c->commit_error.code = RV_OK;
            warn(&e);
            if (!is_rebalance(&e) && !(e.flags & RV_RETRIABLE)) {
                return EXIT_FAILED;
            }
        }
        if (count == 0) {
            wait_some(c);
        } else {
            stop_take(&c->stop);
        }
    }
    return EXIT_DONE;
}

/* Commits and leaves, also after an error. */
static int end(struct consume *c, int code)
{
    struct rv_error e;
    if (commit(c, &e) != RV_OK) {
        warn(&e);
        code = code == EXIT_DONE && !is_rebalance(&e) ? EXIT_FAILED : code;
    }
    c->commit_error.code = RV_OK;
    if (rv_consumer_close(c->consumer, c->stop.hurried ? 0 : CLOSE_MS, &e) != RV_OK) {
        warn(&e);
        code = code == EXIT_DONE ? EXIT_FAILED : code;
    }
    if (c->commit_error.code != RV_OK) { /* nobody wanted to wait for it */
        tool_say("what was printed last is not committed: it will come again");
        code = code == EXIT_DONE ? EXIT_FAILED : code;
    }
    return code;
}

/* Ctrl-C is the end of a reading that has none; otherwise it was not all. */
static int stopped(const struct consume *c, int code)
{
    bool all = !c->range.has_until && c->range.left < 0;
    range_say(&c->range, c->group ? "stopped, and left the group: printed" : "stopped: printed");
    return code == EXIT_DONE && !all ? EXIT_FAILED : code;
}

int verb_consume(struct tool *t)
{
    struct consume c = {.tool = t, .stop.fd = -1};
    int code = arguments(&c);
    if (code == EXIT_DONE) {
        code = begin(&c);
    }
    if (c.consumer) {
        stop_catch(&c.stop);
        progress_begin(&c.progress, "printed", range_total(&c.range),
                       range_total(&c.range) > 0 && !isatty(STDOUT_FILENO));
        code = code == EXIT_DONE ? run(&c) : code;
        progress_end(&c.progress);
        code = end(&c, code);
        code = c.stop.at_ms ? stopped(&c, code) : code;
        stop_finish(&c.stop);
    }
    record_out_finish(&c.out);
    range_finish(&c.range);
    return code;
}

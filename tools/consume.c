/* rivulet consume: records to standard output, as a group or by itself.
 *
 * Whatever is committed has been written out before: printed, flushed, then committed; when a
 * partition goes to another member, and at the end, too. */
#include "tools/tool.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio_ext.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
    COMMIT_INTERVAL_MS = 1000,
    CLOSE_MS = 5000,        /* to say good-bye to the group */
    SECOND_SIGNAL_MS = 300, /* a signal that comes twice at once is one */
    OPTIONS_MAX = TOOL_MANY_LIMIT + 12,
};

struct part {
    int64_t end;     /* when it began; of --until end */
    int64_t printed; /* offset behind the last printed record that is not committed; -1: none */
};

struct consume {
    struct tool *tool;
    struct rv_consumer *consumer;
    const char *topic;
    const char *group;     /* NULL: by itself */
    const char *separator; /* of key and value; NULL: values only */
    bool until_end;
    int64_t left;       /* records to print; -1: no limit */
    int64_t place;      /* RV_START, RV_END, an offset, or a time */
    bool by_time;       /* `place` is one */
    struct part *parts; /* owned; by partition */
    int32_t part_count;
    int64_t committed_at_ms;      /* monotonic */
    int signals;                  /* signalfd; -1 */
    int64_t stopped_at_ms;        /* monotonic; of the first Ctrl-C; 0: none */
    bool hurried;                 /* Ctrl-C again, while it ends */
    struct rv_error commit_error; /* of the last commit */
    bool committing;              /* the last commit is on its way */
    bool output_failed;           /* or its reader is gone */
};

/* ---- the command line ---- */

static bool place_parse(struct consume *c, const char *text)
{
    int64_t n;
    if (!text || strcmp(text, "start") == 0) {
        c->place = RV_START;
    } else if (strcmp(text, "end") == 0) {
        c->place = RV_END;
    } else if (text[0] == '@') {
        c->by_time = time_parse(str_of(text + 1), clock_wall_ms(&clock_real), &c->place);
        return c->by_time && c->place >= 0;
    } else if (str_to_int64(str_of(text), &n) == OK && n >= 0) {
        c->place = n;
    } else {
        return false;
    }
    return true;
}

static int arguments(struct consume *c)
{
    const struct tool *t = c->tool;
    c->topic = t->args[0];
    c->group = tool_value(t, 'g');
    c->separator = tool_value(t, 'k');
    c->until_end = tool_has(t, 'u');
    c->left = -1;
    if (c->until_end && strcmp(tool_value(t, 'u'), "end") != 0) {
        return tool_usage(t, "--until: '%s' is not 'end'", tool_value(t, 'u'));
    }
    if (tool_has(t, 'n') && !tool_number(t, "-n", tool_value(t, 'n'), 0, INT64_MAX, &c->left)) {
        return EXIT_USAGE;
    }
    if (!place_parse(c, tool_value(t, 'o'))) {
        return tool_usage(t,
                          "-o: '%s' is not start, end, an offset, or @TIME (@2026-11-24T14:00:00Z, "
                          "@1795528800000, @-2h)",
                          tool_value(t, 'o'));
    }
    if (c->group && !c->group[0]) {
        return tool_usage(t, "-g: the name of the group is empty");
    }
    if (c->group && (c->by_time || c->place >= 0)) {
        return tool_usage(t, "-o with -g is where to begin when the group has no stored offset: "
                             "start or end");
    }
    if (c->group && tool_has(t, 'P')) {
        return tool_usage(t, "-g and --partition: the group deals the partitions");
    }
    return EXIT_DONE;
}

/* ---- output ---- */

static json_t *record_json(const struct rv_record *r)
{
    json_t *headers = json_array();
    for (size_t i = 0; headers && i < r->header_count; i++) {
        json_t *pair =
            json_pack("[o,o]", json_bytes(r->headers[i].name), json_bytes(r->headers[i].value));
        if (json_array_append_new(headers, pair) != 0) {
            json_decref(headers);
            headers = NULL;
        }
    }
    return json_pack("{s:o,s:i,s:I,s:o,s:o,s:o,s:o}", "topic", json_text(r->topic), "partition",
                     (int)r->partition, "offset", (json_int_t)r->offset, "timestamp_ms",
                     json_offset(r->timestamp_ms), "key", json_bytes(r->key), "value",
                     json_bytes(r->value), "headers", headers);
}

static bool bytes_write(struct rv_bytes b)
{
    return b.size == 0 || fwrite(b.ptr, 1, b.size, stdout) == b.size;
}

static bool record_print(const struct consume *c, const struct rv_record *r)
{
    if (c->tool->json) {
        return json_line(stdout, record_json(r));
    }
    if (c->separator && (!bytes_write(r->key) || fputs(c->separator, stdout) == EOF)) {
        return false;
    }
    return bytes_write(r->value) && putc('\n', stdout) != EOF;
}

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
    fprintf(stderr, "rivulet: cannot write the output: %s\n", strerror(error));
    return EXIT_FAILED;
}

/* A topic may get more partitions while it is read. */
static struct part *part_of(struct consume *c, int32_t partition)
{
    if (partition >= c->part_count) {
        struct part *more = mem_resize(c->parts, ((size_t)partition + 1) * sizeof *more);
        if (!more) {
            return NULL;
        }
        c->parts = more;
        while (c->part_count <= partition) {
            c->parts[c->part_count++] = (struct part){.end = 0, .printed = -1};
        }
    }
    return &c->parts[partition];
}

/* Prints them and writes them out. False: that failed. */
static bool records_print(struct consume *c, const struct rv_record *records, size_t count)
{
    for (size_t i = 0; i < count && c->left != 0; i++) {
        struct part *part = part_of(c, records[i].partition);
        if (!part) {
            errno = ENOMEM;
            return false;
        }
        if (c->until_end && records[i].offset >= part->end) {
            continue;
        }
        if (!record_print(c, &records[i])) {
            return false;
        }
        part->printed = records[i].offset + 1;
        c->left -= c->left > 0;
    }
    return fflush(stdout) == 0;
}

/* ---- commits ---- */

static void warn(const struct rv_error *e)
{
    fprintf(stderr, "rivulet: %s\n", e->text);
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
    struct rv_partition *list = mem_alloc((size_t)c->part_count * sizeof *list);
    size_t count = 0;
    c->committed_at_ms = clock_mono_ms(&clock_real);
    c->commit_error.code = RV_OK;
    if (!list) {
        *ret_error = (struct rv_error){.code = RV_E_MEMORY, .text = "out of memory"};
        return RV_E_MEMORY;
    }
    for (int32_t p = 0; p < c->part_count; p++) {
        if (c->parts[p].printed >= 0) {
            list[count++] = (struct rv_partition){.topic = c->topic,
                                                  .partition = p,
                                                  .offset = c->parts[p].printed,
                                                  .leader_epoch = -1};
            c->parts[p].printed = -1;
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
    while (c->committing && !c->hurried) {
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
        for (int32_t p = 0; p < c->part_count; p++) {
            c->parts[p].printed = -1;
        }
        fprintf(stderr, "rivulet: %s\n", event->text);
        break;
    case RV_JUMPED: fprintf(stderr, "rivulet: %s\n", event->text); break;
    default: break;
    }
}

/* ---- begin ---- */

static int64_t place_in(const struct consume *c, const struct rv_topic_partition *p)
{
    if (c->by_time) {
        return RV_START; /* rv_seek_time follows */
    }
    if (c->place >= 0 && (c->place < p->start_offset || c->place > p->end_offset)) {
        int64_t to = c->place < p->start_offset ? p->start_offset : p->end_offset;
        fprintf(stderr, "rivulet: partition %d has offsets %lld to %lld: reading begins at %lld\n",
                (int)p->partition, (long long)p->start_offset, (long long)p->end_offset,
                (long long)to);
        return to;
    }
    return c->place;
}

static int assign(struct consume *c, const struct rv_topic *topic)
{
    struct rv_error e;
    int64_t only = -1;
    const struct tool *t = c->tool;
    if (tool_has(t, 'P') && !tool_number(t, "--partition", tool_value(t, 'P'), 0,
                                         (int64_t)topic->partition_count - 1, &only)) {
        return EXIT_USAGE;
    }
    struct rv_partition *list = mem_alloc(topic->partition_count * sizeof *list);
    size_t count = 0;
    for (size_t i = 0; list && i < topic->partition_count; i++) {
        if (only < 0 || only == topic->partitions[i].partition) {
            list[count++] = (struct rv_partition){.topic = c->topic,
                                                  .partition = topic->partitions[i].partition,
                                                  .offset = place_in(c, &topic->partitions[i]),
                                                  .leader_epoch = -1};
        } else {
            c->parts[topic->partitions[i].partition].end = 0;
        }
    }
    int code = list ? rv_assign(c->consumer, list, count, &e) : RV_E_MEMORY;
    for (size_t i = 0; code == RV_OK && c->by_time && i < count; i++) {
        code = rv_seek_time(c->consumer, c->topic, list[i].partition, c->place, &e);
    }
    if (!list) {
        fprintf(stderr, "rivulet: out of memory\n");
        return EXIT_FAILED;
    }
    mem_free(list);
    return code == RV_OK ? EXIT_DONE : tool_failed(t, &e);
}

static int consumer_open(struct consume *c)
{
    struct rv_error e;
    struct rv_option options[OPTIONS_MAX];
    int n = 0;
    options[n++] = (struct rv_option){"auto.offset.reset",
                                      c->group && c->place == RV_END ? "latest" : "earliest"};
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
    struct rv_topics *topics;
    struct tool *t = c->tool;
    if (rv_topic_describe(t->client, c->topic, t->timeout_ms, &topics, &e) != RV_OK) {
        return tool_failed(t, &e);
    }
    const struct rv_topic *topic = &topics->items[0];
    int code = EXIT_DONE;
    for (size_t i = 0; code == EXIT_DONE && i < topic->partition_count; i++) {
        const struct rv_topic_partition *p = &topic->partitions[i];
        struct part *part = part_of(c, p->partition);
        if (!part) {
            fprintf(stderr, "rivulet: out of memory\n");
            code = EXIT_FAILED;
        } else if (c->until_end && p->code != RV_OK) {
            fprintf(stderr, "rivulet: topic %s partition %d: its end is not known: %s\n", c->topic,
                    (int)p->partition, rv_error_name(p->code));
            code = EXIT_FAILED;
        } else {
            part->end = p->end_offset;
        }
    }
    code = code == EXIT_DONE ? consumer_open(c) : code;
    if (code == EXIT_DONE && c->group) {
        code =
            rv_subscribe(c->consumer, &c->topic, 1, &e) == RV_OK ? EXIT_DONE : tool_failed(t, &e);
    } else if (code == EXIT_DONE) {
        code = assign(c, topic);
    }
    rv_free(topics);
    return code;
}

/* ---- the loop ---- */

/* Everything that is ours has been read to where it ended when we began. */
static bool at_ends(struct consume *c)
{
    const struct rv_partition *mine;
    size_t count = rv_assignment(c->consumer, &mine);
    for (size_t i = 0; i < count; i++) {
        int64_t end = mine[i].partition < c->part_count ? c->parts[mine[i].partition].end : 0;
        if (mine[i].offset < 0 || mine[i].offset < end) {
            return false;
        }
    }
    return count > 0;
}

static void signals_take(struct consume *c)
{
    struct signalfd_siginfo info;
    int64_t now = clock_mono_ms(&clock_real);
    while (read(c->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (!c->stopped_at_ms) {
            c->stopped_at_ms = now;
        }
        c->hurried |= now - c->stopped_at_ms >= SECOND_SIGNAL_MS;
    }
}

/* Waits for the brokers, Ctrl-C, or the end of the reader of our output. */
static void wait_some(struct consume *c)
{
    struct pollfd fds[] = {
        {.fd = rv_fd(c->tool->client), .events = POLLIN},
        {.fd = c->signals,             .events = POLLIN},
        {.fd = STDOUT_FILENO,          .events = 0     },
    };
    if (poll(fds, sizeof fds / sizeof fds[0], rv_timeout(c->tool->client)) < 0) {
        return; /* EINTR: round again */
    }
    if (fds[1].revents) {
        signals_take(c);
    }
    c->output_failed |= (fds[2].revents & (POLLERR | POLLHUP)) != 0;
}

/* The first Ctrl-C ends it cleanly; another one, a while later, does not wait for the broker. */
static void signals_catch(struct consume *c)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    c->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (c->signals >= 0) { /* else they end it as they end any program */
        sigprocmask(SIG_BLOCK, &set, NULL);
    }
}

static bool is_over(struct consume *c)
{
    return c->stopped_at_ms || c->output_failed || c->left == 0 || (c->until_end && at_ends(c));
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
    if (rv_consumer_close(c->consumer, c->hurried ? 0 : CLOSE_MS, &e) != RV_OK) {
        warn(&e);
        code = code == EXIT_DONE ? EXIT_FAILED : code;
    }
    if (c->commit_error.code != RV_OK) { /* nobody wanted to wait for it */
        fprintf(stderr, "rivulet: what was printed last is not committed: it will come again\n");
        code = code == EXIT_DONE ? EXIT_FAILED : code;
    }
    return code;
}

int verb_consume(struct tool *t)
{
    struct consume c = {.tool = t, .signals = -1};
    int code = arguments(&c);
    if (code == EXIT_DONE) {
        code = begin(&c);
    }
    if (c.consumer) {
        signals_catch(&c);
        code = end(&c, code == EXIT_DONE ? run(&c) : code);
    }
    if (c.signals >= 0) {
        close(c.signals);
    }
    mem_free(c.parts);
    return code;
}

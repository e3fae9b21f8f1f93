/* rivulet copy: records from a topic or a file to a topic or a file, order and all.
 *
 * A file holds JSON lines as `consume --json` prints them. */
#include "protocol/error.h"
#include "tools/files.h"
#include "tools/range.h"
#include "tools/record.h"
#include "tools/sender.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum { WHERE_SIZE = 80 };

struct copy {
    struct tool *tool;
    const char *source, *target;           /* as they were given */
    const char *source_file, *target_file; /* NULL: a topic */
    struct rv_client *to;         /* the target's; owned when it is another than the tool's */
    struct sender sender;         /* to a topic */
    struct record_out out;        /* to a file */
    FILE *file;                   /* owned */
    struct rv_consumer *consumer; /* of a topic */
    struct range range;
    struct stop stop;
    struct progress progress; /* to a file */
    int write_error;          /* errno; 0: none */
    bool reader_gone;         /* of standard output */
    bool complete;
};

/* The path when it is a file; NULL: it is a topic. */
static const char *file_of(const char *name)
{
    static const char prefix[] = "file:";
    size_t n = sizeof prefix - 1;
    return strncmp(name, prefix, n) == 0 ? name + n : strchr(name, '/') ? name : NULL;
}

static int arguments(struct copy *c)
{
    struct tool *t = c->tool;
    c->source = t->args[0];
    c->target = t->args[1];
    c->source_file = file_of(c->source);
    c->target_file = file_of(c->target);
    if (c->source_file && c->target_file) {
        return tool_usage(t,
                          "both are files: one of them has to be a topic, whose name has no slash");
    }
    if (c->source_file &&
        (tool_has(t, 'o') || tool_has(t, 'u') || tool_has(t, 'P') || tool_has(t, 'n'))) {
        return tool_usage(t,
                          "-o, --until, --partition and -n are for topics: a file is copied whole");
    }
    if (c->target_file && (tool_has(t, 'L') || tool_has(t, 'w') || tool_has(t, 'z'))) {
        return tool_usage(t, "--to-brokers, --by-key and -z are for a target that is a topic");
    }
    if (!c->source_file && !c->target_file && strcmp(c->source, c->target) == 0 &&
        !tool_has(t, 'L')) {
        return tool_usage(t, "topic %s onto itself: name another topic, or --to-brokers",
                          c->source);
    }
    int code = range_init(&c->range, t, c->source);
    if (code == EXIT_DONE && !c->range.has_until) { /* or it would never end */
        c->range.has_until = true;
        c->range.until = (struct place){.at = RV_END};
    }
    return code;
}

/* ---- the target ---- */

/* A record keeps its partition's number: the target must have it. */
static int target_check(struct copy *c)
{
    struct rv_error e;
    struct rv_topics *topics;
    struct tool *t = c->tool;
    int32_t needs = 0;
    for (int32_t i = 0; i < c->range.count; i++) {
        needs = c->range.parts[i].wanted ? i + 1 : needs;
    }
    if (rv_topic_describe(c->to, c->target, t->timeout_ms, &topics, &e) != RV_OK) {
        int code = tool_failed(t, &e);
        if (e.code == KERR_UNKNOWN_TOPIC_OR_PARTITION) {
            fprintf(stderr, "  rivulet topic create %s -p %d%s%s\n", c->target,
                    needs > 0 ? needs : 1, tool_has(t, 'L') ? " -b " : "",
                    tool_has(t, 'L') ? tool_value(t, 'L') : "");
        }
        return code;
    }
    size_t has = topics->items[0].partition_count;
    rv_free(topics);
    if (!tool_has(t, 'w') && (size_t)needs > has) {
        tool_say("topic %s has %zu partition%s, and records of partition %d are to be copied\n"
                 "--by-key deals them anew; `rivulet topic alter %s -p %d` adds partitions",
                 c->target, has, has == 1 ? "" : "s", (int)needs - 1, c->target, (int)needs);
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}

static int file_begin(struct copy *c)
{
    c->file = file_create(c->target_file, false);
    if (!c->file && errno == EEXIST) {
        int code = tool_confirm(c->tool, "overwrite %s", c->target_file);
        if (code != EXIT_DONE) {
            return code;
        }
        c->file = file_create(c->target_file, true);
    }
    if (!c->file) {
        tool_say("cannot write %s: %s", c->target_file, strerror(errno));
        return EXIT_FAILED;
    }
    c->out.json = true;
    return EXIT_DONE;
}

/* A reader of our output that has gone (`| head`) is no failure. */
static int file_end(struct copy *c, int code)
{
    bool is_output = c->file == stdout;
    if (!c->file || (file_close(c->file) && !c->write_error)) {
        return code;
    }
    int error = c->write_error ? c->write_error : errno;
    if (!is_output || error != EPIPE) {
        tool_say("cannot write %s: %s", c->target_file, strerror(error));
        return EXIT_FAILED;
    }
    c->reader_gone = true;
    return EXIT_DONE;
}

/* ---- from a topic ---- */

static int consumer_begin(struct copy *c)
{
    struct rv_error e;
    struct tool *t = c->tool;
    struct rv_option options[TOOL_OPTIONS_LIMIT + 3];
    int n = 0;
    options[n++] = (struct rv_option){"auto.offset.reset", "earliest"};
    options[n++] = (struct rv_option){"isolation.level", "read_committed"};
    for (int i = 0; i < t->option_count; i++) {
        options[n++] = t->options[i];
    }
    options[n] = (struct rv_option){NULL, NULL};
    if (rv_consumer_open(t->client, options, &c->consumer, &e) != RV_OK) {
        return tool_failed(t, &e);
    }
    return range_assign(&c->range, c->consumer);
}

static int record_copy(struct copy *c, const struct rv_record *r)
{
    char where[WHERE_SIZE];
    if (c->target_file) {
        if (!record_write(&c->out, c->file, r)) {
            c->write_error = errno;
            return EXIT_FAILED; /* file_end says why */
        }
        return EXIT_DONE;
    }
    struct rv_message m = {.key = r->key,
                           .value = r->value,
                           .headers = r->headers,
                           .header_count = r->header_count,
                           .timestamp_ms = r->timestamp_ms < 0 ? 0 : r->timestamp_ms,
                           .to_partition = !tool_has(c->tool, 'w'),
                           .partition = r->partition};
    snprintf(where, sizeof where, "partition %d offset %lld", (int)r->partition,
             (long long)r->offset);
    return sender_send(&c->sender, &m, where);
}

static int records_copy(struct copy *c, const struct rv_record *records, size_t count)
{
    struct range *r = &c->range;
    int code = EXIT_DONE;
    for (size_t i = 0; i < count && r->left != 0 && code == EXIT_DONE && !c->stop.at_ms; i++) {
        struct range_part *part = range_part(r, records[i].partition);
        if (!part) {
            return tool_no_memory();
        }
        if (records[i].offset >= part->until) {
            continue;
        }
        code = record_copy(c, &records[i]);
        if (code == EXIT_DONE && !c->stop.at_ms) {
            part->reached = records[i].offset + 1;
            r->left -= r->left > 0;
            r->taken++;
        }
    }
    progress_show(&c->progress, r->taken, "records");
    return code;
}

/* Waits for either cluster, or Ctrl-C. */
static int wait_some(struct copy *c)
{
    struct rv_error e;
    struct rv_client *from = c->tool->client;
    struct rv_client *to = c->to ? c->to : from;
    int a = rv_timeout(from);
    int b = rv_timeout(to);
    struct pollfd fds[] = {
        {.fd = rv_fd(from), .events = POLLIN},
        {.fd = rv_fd(to),   .events = POLLIN},
        {.fd = c->stop.fd,  .events = POLLIN},
    };
    if (poll(fds, 3, a < 0 || (b >= 0 && b < a) ? b : a) < 0 && errno != EINTR) {
        tool_say("cannot wait: %s", strerror(errno));
        return EXIT_FAILED;
    }
    if (to != from && rv_process(to, &e) != RV_OK) {
        return tool_failed(c->tool, &e);
    }
    return EXIT_DONE;
}

static int copy_topic(struct copy *c)
{
    struct rv_error e;
    int code = consumer_begin(c);
    while (code == EXIT_DONE && !c->stop.at_ms && !c->sender.failed &&
           !range_is_over(&c->range, c->consumer)) {
        const struct rv_record *records;
        size_t count;
        if (rv_poll(c->consumer, 0, &records, &count, &e) != RV_OK) {
            progress_end(&c->progress);
            code = tool_failed(c->tool, &e);
        } else if (count) {
            code = records_copy(c, records, count);
        } else {
            code = wait_some(c);
        }
        stop_take(&c->stop);
    }
    return code;
}

/* ---- from a file ---- */

static int copy_file(struct copy *c)
{
    struct record_in in;
    int fd = file_open(c->source_file);
    if (fd < 0) {
        tool_say("cannot read %s: %s", c->source_file, strerror(errno));
        return EXIT_FAILED;
    }
    record_in_init_json(&in);
    in.ignores_partition = tool_has(c->tool, 'w');
    int code = sender_send_input(&c->sender, fd, &in);
    record_in_finish(&in);
    close(fd);
    return code;
}

/* ---- the verb ---- */

static int prepare(struct copy *c)
{
    struct tool *t = c->tool;
    int code = c->source_file ? EXIT_DONE : range_find(&c->range);
    if (c->target_file || code != EXIT_DONE) {
        return code;
    }
    c->to = t->client;
    if (tool_has(t, 'L')) {
        c->to = NULL;
        code = tool_connect(t, tool_value(t, 'L'), &c->to);
    }
    return code == EXIT_DONE ? target_check(c) : code;
}

static int dry_run(const struct copy *c)
{
    const struct range *r = &c->range;
    static const char *const heads[] = {">PARTITION", ">FROM", ">UNTIL", ">OFFSETS"};
    struct table table;
    table_init(&table, heads, 4);
    for (int32_t i = 0; i < r->count; i++) {
        const struct range_part *p = &r->parts[i];
        if (p->wanted) {
            table_add(&table, "%d", (int)i);
            table_add(&table, "%lld", (long long)p->from);
            table_add(&table, "%lld", (long long)p->until);
            table_add(&table, "%lld", (long long)(p->until > p->from ? p->until - p->from : 0));
        }
    }
    tool_print("would copy %s to %s", c->source, c->target);
    return c->source_file ? EXIT_DONE : table_print(&table, stdout);
}

static int run(struct copy *c)
{
    struct tool *t = c->tool;
    int code = c->target_file ? file_begin(c) : sender_open(&c->sender, t, c->to, c->target);
    if (code == EXIT_DONE) {
        progress_begin(c->target_file ? &c->progress : &c->sender.progress, "copied",
                       c->source_file ? 0 : range_total(&c->range), c->file != stdout);
        code = c->source_file ? copy_file(c) : copy_topic(c);
        c->complete = code == EXIT_DONE && !c->stop.at_ms && !c->sender.failed;
    }
    if (c->sender.producer) {
        code = sender_end(&c->sender, code);
    }
    progress_end(&c->progress);
    return file_end(c, code);
}

static int report(const struct copy *c, int code)
{
    uint64_t count = c->target_file ? (uint64_t)c->range.taken : c->sender.delivered;
    bool quiet = c->target_file && strcmp(c->target_file, "-") == 0;
    if (c->tool->json && !quiet) {
        json_t *o = json_pack("{s:o,s:o,s:I,s:b}", "source", json_text(c->source), "target",
                              json_text(c->target), "records", (json_int_t)count, "complete",
                              (int)(c->complete && code == EXIT_DONE));
        code = json_line(stdout, o) ? code : EXIT_FAILED;
    } else if (c->complete && code == EXIT_DONE && !quiet) {
        tool_print("copied %llu record%s", (unsigned long long)count, count == 1 ? "" : "s");
    }
    if (c->complete || c->reader_gone || (!c->stop.at_ms && count == 0)) {
        return code;
    }
    if (c->source_file || c->sender.failed) { /* what failed may be anywhere in what was read */
        tool_say("stopped: copied %llu record%s", (unsigned long long)count, count == 1 ? "" : "s");
    } else {
        range_say(&c->range, "stopped: copied");
    }
    return code == EXIT_DONE ? EXIT_FAILED : code;
}

int verb_copy(struct tool *t)
{
    struct copy c = {.tool = t, .sender.tool = t, .stop.fd = -1};
    c.sender.stop = &c.stop;
    int code = arguments(&c);
    code = code == EXIT_DONE ? prepare(&c) : code;
    if (code == EXIT_DONE && tool_has(t, 'D')) {
        code = dry_run(&c);
    } else if (code == EXIT_DONE) {
        stop_catch(&c.stop);
        code = run(&c);
        code = c.file || c.sender.producer ? report(&c, code) : code;
    }
    sender_close(&c.sender);
    struct rv_error e;
    if (c.consumer && rv_consumer_close(c.consumer, 0, &e) != RV_OK && code == EXIT_DONE) {
        code = tool_failed(t, &e);
    }
    if (c.to != t->client) {
        rv_client_close(c.to);
    }
    stop_finish(&c.stop);
    range_finish(&c.range);
    return code;
}

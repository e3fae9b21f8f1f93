/* rivulet produce: the lines of standard input as records. */
#include "tools/tool.h"

#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum {
    READ_SIZE = 65536,
    FAILURES_SHOWN = 5, /* then they are counted only */
    SHORT_BLOCK_MS = 5000,
};

struct produce {
    struct tool *tool;
    struct rv_producer *producer;
    const char *topic;
    struct str separator;  /* of key and value; null: there are no keys */
    int64_t partition;     /* -1: the partitioner chooses */
    size_t line_limit;     /* bytes */
    struct buf input;      /* what was read and is not sent yet */
    uint64_t line;         /* number of the line at hand */
    uint64_t sent;         /* records handed over */
    uint64_t failed;       /* of those */
    bool output_failed;    /* a line of JSON could not be written */
    struct rv_error first; /* failure */
};

static void delivered(void *ctx, const struct rv_delivery *d)
{
    struct produce *p = ctx;
    if (d->error) {
        p->first = p->failed++ ? p->first : *d->error;
        if (p->failed <= FAILURES_SHOWN) {
            fprintf(stderr, "rivulet: %s%s\n", d->error->text,
                    d->error->flags & RV_UNSURE ? " (it may be stored all the same)" : "");
        }
        return;
    }
    if (p->tool->json) {
        json_t *o = json_pack("{s:o,s:i,s:o,s:I}", "topic", json_text(d->topic), "partition",
                              (int)d->partition, "offset", json_offset(d->offset), "timestamp_ms",
                              (json_int_t)d->timestamp_ms);
        p->output_failed |= !json_line(stdout, o);
    }
}

/* ---- one line ---- */

static bool line_split(struct produce *p, struct str line, struct rv_message *m)
{
    m->value = (struct rv_bytes){line.ptr, line.len};
    if (!p->separator.ptr) {
        return true;
    }
    const char *at = memmem(line.ptr, line.len, p->separator.ptr, p->separator.len);
    if (!at) {
        fprintf(stderr,
                "rivulet: line %llu: the key separator '%s' is not in it\n"
                "  lines are KEY%sVALUE; without -k the whole line is the value\n",
                (unsigned long long)p->line, p->separator.ptr, p->separator.ptr);
        return false;
    }
    size_t key_size = (size_t)(at - line.ptr);
    m->key = (struct rv_bytes){line.ptr, key_size};
    m->value.ptr = at + p->separator.len;
    m->value.size = line.len - key_size - p->separator.len;
    return true;
}

/* Hands a line over, waiting for room as long as it takes: what cannot be delivered ends by its own
 * time-out. */
static int line_send(struct produce *p, struct str line)
{
    struct rv_message m = {
        .topic = p->topic, .to_partition = p->partition >= 0, .partition = (int32_t)p->partition};
    p->line++;
    if (!line_split(p, line, &m)) {
        return EXIT_FAILED;
    }
    for (;;) {
        struct rv_error e;
        int code = rv_send(p->producer, &m, delivered, p, &e);
        if (code == RV_OK) {
            p->sent++;
            return EXIT_DONE;
        }
        bool is_full = code == RV_E_TIMED_OUT && rv_pending(p->producer) > 0;
        if (!is_full) {
            struct rv_error told = e;
            snprintf(told.text, sizeof told.text, "line %llu: %.200s", (unsigned long long)p->line,
                     e.text);
            return tool_failed(p->tool, &told);
        }
    }
}

static int line_too_long(const struct produce *p)
{
    fprintf(stderr,
            "rivulet: line %llu: longer than max.request.size, which is %zu bytes\n"
            "  -X max.request.size=BYTES raises it; the topic's max.message.bytes is the broker's "
            "limit\n",
            (unsigned long long)p->line + 1, p->line_limit);
    return EXIT_FAILED;
}

/* ---- input ---- */

/* Sends the whole lines that have been read, at the end of the input also the rest. */
static int input_take(struct produce *p, bool is_end)
{
    size_t at = 0;
    int code = EXIT_DONE;
    while (code == EXIT_DONE && at < p->input.len) {
        const char *line = p->input.ptr + at;
        const char *end = memchr(line, '\n', p->input.len - at);
        if (!end && !is_end) {
            break;
        }
        size_t size = end ? (size_t)(end - line) : p->input.len - at;
        if (size > p->line_limit) {
            break;
        }
        code = line_send(p, (struct str){.ptr = line, .len = size});
        at += size + (end != NULL);
    }
    p->input.len -= at;
    if (at) {
        memmove(p->input.ptr, p->input.ptr + at, p->input.len);
    }
    return code == EXIT_DONE && p->input.len > p->line_limit ? line_too_long(p) : code;
}

/* Waits for input while the client goes on with what it has. */
static int input_wait(struct produce *p)
{
    for (;;) {
        struct pollfd fds[] = {
            {.fd = STDIN_FILENO,           .events = POLLIN},
            {.fd = rv_fd(p->tool->client), .events = POLLIN},
        };
        int n = poll(fds, 2, rv_timeout(p->tool->client));
        if (n < 0 && errno != EINTR) {
            fprintf(stderr, "rivulet: cannot wait for input: %s\n", strerror(errno));
            return EXIT_FAILED;
        }
        if (n > 0 && fds[0].revents) {
            return EXIT_DONE;
        }
        struct rv_error e;
        if (rv_process(p->tool->client, &e) != RV_OK) {
            return tool_failed(p->tool, &e);
        }
        if (p->tool->json && fflush(stdout) != 0) { /* somebody may be waiting for it */
            p->output_failed = true;
        }
    }
}

static int input_send(struct produce *p)
{
    for (;;) {
        int code = input_wait(p);
        if (code != EXIT_DONE) {
            return code;
        }
        if (!buf_reserve(&p->input, READ_SIZE)) {
            fprintf(stderr, "rivulet: out of memory\n");
            return EXIT_FAILED;
        }
        ssize_t n = read(STDIN_FILENO, p->input.ptr + p->input.len, READ_SIZE);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
            continue;
        }
        if (n < 0) {
            fprintf(stderr, "rivulet: cannot read standard input: %s\n", strerror(errno));
            return EXIT_FAILED;
        }
        p->input.len += (size_t)n;
        code = input_take(p, n == 0);
        if (code != EXIT_DONE || n == 0 || p->output_failed) {
            return code;
        }
    }
}

/* ---- the verb ---- */

static const char *option_value(const struct rv_option *options, const char *name)
{
    const char *value = NULL;
    for (const struct rv_option *o = options; o->name; o++) {
        value = strcmp(o->name, name) == 0 ? o->value : value;
    }
    for (const struct rv_option_info *i = rv_options(); !value && i->name; i++) {
        value = strcmp(i->name, name) == 0 ? i->fallback : NULL;
    }
    return value;
}

/* Opens the producer: -z over -X over what suits a command line. */
static int producer_open(struct produce *p)
{
    struct tool *t = p->tool;
    char timeout[24], block[24];
    struct rv_option options[TOOL_MANY_LIMIT + 8];
    int count = 0;
    snprintf(timeout, sizeof timeout, "%d", t->timeout_ms);
    snprintf(block, sizeof block, "%d",
             t->timeout_ms < SHORT_BLOCK_MS ? t->timeout_ms : SHORT_BLOCK_MS);
    options[count++] = (struct rv_option){"delivery.timeout.ms", timeout};
    options[count++] = (struct rv_option){"max.block.ms", block};
    for (int i = 0; i < t->option_count; i++) {
        options[count++] = t->options[i];
    }
    if (tool_has(t, 'z')) {
        options[count++] = (struct rv_option){"compression.type", tool_value(t, 'z')};
    }
    options[count] = (struct rv_option){NULL, NULL};
    struct rv_error e;
    if (rv_producer_open(t->client, options, &p->producer, &e) != RV_OK) {
        return tool_failed(t, &e);
    }
    int64_t limit;
    if (!tool_number(t, "max.request.size", option_value(options, "max.request.size"), 0, INT64_MAX,
                     &limit)) {
        return EXIT_USAGE;
    }
    p->line_limit = (size_t)limit;
    return EXIT_DONE;
}

/* Waits for all deliveries, and tells how many records failed. */
static int produce_end(struct produce *p, int code)
{
    struct rv_error e;
    while (rv_pending(p->producer)) { /* delivery.timeout.ms ends it */
        if (rv_flush(p->producer, -1, &e) != RV_OK && e.code != RV_E_TIMED_OUT) {
            break;
        }
    }
    if (p->failed) {
        fprintf(stderr, "rivulet: %llu of %llu records were not delivered\n",
                (unsigned long long)p->failed, (unsigned long long)p->sent);
        struct rv_error first = p->first;
        snprintf(first.text, sizeof first.text, "the first of them: %.200s", p->first.text);
        tool_failed(p->tool, &first);
        return EXIT_FAILED;
    }
    return code != EXIT_DONE ? code : p->output_failed ? EXIT_FAILED : EXIT_DONE;
}

int verb_produce(struct tool *t)
{
    struct produce p = {.tool = t, .topic = t->args[0], .partition = -1};
    if (tool_has(t, 'P') &&
        !tool_number(t, "--partition", tool_value(t, 'P'), 0, INT32_MAX, &p.partition)) {
        return EXIT_USAGE;
    }
    if (tool_has(t, 'k')) {
        p.separator = str_of(tool_value(t, 'k'));
        if (p.separator.len == 0) {
            return tool_usage(t, "-k: the separator is empty");
        }
    }
    int code = producer_open(&p);
    if (code == EXIT_DONE) {
        code = produce_end(&p, input_send(&p));
    }
    rv_producer_close(p.producer);
    buf_finish(&p.input);
    return code;
}

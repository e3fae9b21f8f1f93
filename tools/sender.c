#include "tools/sender.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum {
    READ_SIZE = 65536,
    FAILURES_SHOWN = 5, /* then they are counted only */
    SHORT_BLOCK_MS = 1000,
    FLUSH_STEP_MS = 200,
    WHERE_SIZE = 40,
    CODED_LIMIT_TIMES = 4, /* a record written as JSON or digits may be so much longer than it is */
};

static void delivered(void *ctx, const struct rv_delivery *d)
{
    struct sender *s = ctx;
    if (d->error) {
        s->first = s->failed++ ? s->first : *d->error;
        if (s->failed <= FAILURES_SHOWN) {
            progress_end(&s->progress);
            tool_say("%s%s", d->error->text,
                     d->error->flags & RV_UNSURE ? " (it may be stored all the same)" : "");
        }
        return;
    }
    s->delivered++;
    if (s->tells) {
        json_t *o = json_pack("{s:o,s:i,s:o,s:I}", "topic", json_text(d->topic), "partition",
                              (int)d->partition, "offset", json_offset(d->offset), "timestamp_ms",
                              (json_int_t)d->timestamp_ms);
        s->output_failed |= !json_line(stdout, o);
    }
}

int sender_open(struct sender *s, struct tool *t, struct rv_client *client, const char *topic)
{
    char timeout[24], block[24];
    struct rv_option options[TOOL_OPTIONS_LIMIT + 4];
    int count = 0;
    s->tool = t;
    s->client = client;
    s->topic = topic;
    s->partition = -1;
    int block_ms = t->timeout_ms < SHORT_BLOCK_MS ? t->timeout_ms : SHORT_BLOCK_MS;
    snprintf(timeout, sizeof timeout, "%d", t->timeout_ms);
    snprintf(block, sizeof block, "%d", block_ms);
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
    if (rv_producer_open(client, options, &s->producer, &e) != RV_OK) {
        return tool_failed(t, &e);
    }
    int64_t limit;
    if (!tool_number(t, "max.request.size", tool_option_value(t, "max.request.size"), 0, INT64_MAX,
                     &limit)) {
        return EXIT_USAGE;
    }
    s->record_limit = (size_t)limit;
    return EXIT_DONE;
}

int sender_send(struct sender *s, struct rv_message *m, const char *where)
{
    m->topic = s->topic;
    if (s->partition >= 0) {
        m->to_partition = true;
        m->partition = (int32_t)s->partition;
    }
    for (;;) {
        struct rv_error e;
        int code = rv_send(s->producer, m, delivered, s, &e);
        if (code == RV_OK) {
            s->sent++;
            progress_show(&s->progress, (int64_t)s->delivered, "records");
            return EXIT_DONE;
        }
        stop_take(s->stop);
        bool is_full = code == RV_E_TIMED_OUT && rv_pending(s->producer) > 0;
        if (!is_full) {
            struct rv_error told = e;
            snprintf(told.text, sizeof told.text, "%s: %.200s", where, e.text);
            progress_end(&s->progress);
            return tool_failed(s->tool, &told);
        }
        if (s->stop->at_ms) {
            return EXIT_DONE;
        }
    }
}

/* ---- input ---- */

struct input {
    int fd;
    struct buf text;  /* read and not sent yet */
    uint64_t records; /* taken */
};

/* Waits for input while the client goes on with what it has. *ret_over: Ctrl-C. */
static int input_wait(struct sender *s, int fd, bool *ret_over)
{
    for (;;) {
        struct pollfd fds[] = {
            {.fd = fd,               .events = POLLIN},
            {.fd = rv_fd(s->client), .events = POLLIN},
            {.fd = s->stop->fd,      .events = POLLIN},
        };
        int n = poll(fds, 3, rv_timeout(s->client));
        if (n < 0 && errno != EINTR) {
            tool_say("cannot wait for input: %s", strerror(errno));
            return EXIT_FAILED;
        }
        stop_take(s->stop);
        *ret_over = s->stop->at_ms != 0;
        if (*ret_over || (n > 0 && fds[0].revents)) {
            return EXIT_DONE;
        }
        struct rv_error e;
        if (rv_process(s->client, &e) != RV_OK) {
            return tool_failed(s->tool, &e);
        }
        if (s->tells && fflush(stdout) != 0) { /* somebody may be waiting for it */
            s->output_failed = true;
        }
    }
}

static int input_too_long(const struct sender *s, const char *where)
{
    tool_say("%s: longer than max.request.size, which is %zu bytes\n-X max.request.size=BYTES "
             "raises it; "
             "the topic's max.message.bytes is the broker's limit",
             where, s->record_limit);
    return EXIT_FAILED;
}

/* Sends the whole records that have been read, at the end of the input also the rest. */
static int input_take(struct sender *s, struct input *input, struct record_in *in, bool is_end)
{
    bool is_coded = in->json || in->hex || in->format.count;
    size_t limit = is_coded ? s->record_limit * CODED_LIMIT_TIMES + READ_SIZE : s->record_limit;
    size_t at = 0;
    int code = EXIT_DONE;
    while (code == EXIT_DONE && at < input->text.len && !s->stop->at_ms) {
        char where[WHERE_SIZE];
        struct rv_message m;
        size_t used = 0;
        struct str rest = {input->text.ptr + at, input->text.len - at};
        snprintf(where, sizeof where, "%s %llu", in->format.count ? "record" : "line",
                 (unsigned long long)input->records + 1);
        enum take took = record_take(in, rest, is_end, &used, &m);
        if (took == TAKE_MORE && rest.len <= limit) {
            break;
        }
        if (took == TAKE_BAD) {
            progress_end(&s->progress);
            tool_say("%s: %s", where, in->why);
            code = EXIT_FAILED;
        } else if (took == TAKE_MORE || used > limit + 1) {
            code = input_too_long(s, where);
        } else {
            code = sender_send(s, &m, where);
            input->records++;
            at += used;
        }
    }
    input->text.len -= at;
    if (at) {
        memmove(input->text.ptr, input->text.ptr + at, input->text.len);
    }
    return code;
}

int sender_send_input(struct sender *s, int fd, struct record_in *in)
{
    struct input input = {.fd = fd};
    int code = EXIT_DONE;
    bool over = false;
    while (code == EXIT_DONE && !over && !s->output_failed) {
        code = input_wait(s, fd, &over);
        if (code != EXIT_DONE || over) {
            break;
        }
        if (!buf_reserve(&input.text, READ_SIZE)) {
            code = tool_no_memory();
            break;
        }
        ssize_t n = read(fd, input.text.ptr + input.text.len, READ_SIZE);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
            continue;
        }
        if (n < 0) {
            tool_say("cannot read the input: %s", strerror(errno));
            code = EXIT_FAILED;
            break;
        }
        input.text.len += (size_t)n;
        code = input_take(s, &input, in, n == 0);
        over = n == 0 || s->stop->at_ms;
    }
    buf_finish(&input.text);
    return code;
}

/* ---- the end ---- */

int sender_end(struct sender *s, int code)
{
    struct rv_error e;
    while (rv_pending(s->producer) && !s->stop->hurried) { /* delivery.timeout.ms ends it */
        if (rv_flush(s->producer, FLUSH_STEP_MS, &e) != RV_OK && e.code != RV_E_TIMED_OUT &&
            !s->failed) {
            break;
        }
        stop_take(s->stop);
        progress_show(&s->progress, (int64_t)s->delivered, "records");
    }
    progress_end(&s->progress);
    if (rv_pending(s->producer)) {
        tool_say("%zu records were not waited for: they may be stored or not",
                 rv_pending(s->producer));
        return EXIT_FAILED;
    }
    if (s->failed) {
        tool_say("%llu of %llu records were not delivered", (unsigned long long)s->failed,
                 (unsigned long long)s->sent);
        struct rv_error first = s->first;
        snprintf(first.text, sizeof first.text, "the first of them: %.200s", s->first.text);
        tool_failed(s->tool, &first);
        return EXIT_FAILED;
    }
    return code != EXIT_DONE ? code : s->output_failed ? EXIT_FAILED : EXIT_DONE;
}

void sender_close(struct sender *s)
{
    rv_producer_close(s->producer);
    s->producer = NULL;
}

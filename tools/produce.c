/* rivulet produce: records from standard input, or files as records. */
#include "tools/sender.h"

#include "tools/files.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Each file is the value of a record. */
static int files_send(struct sender *s, const struct record_in *in)
{
    const struct tool *t = s->tool;
    int code = EXIT_DONE;
    for (int i = 0; i < t->many_count && code == EXIT_DONE && !s->stop->at_ms; i++) {
        struct buf text = {0};
        struct rv_message m;
        if (t->many_letters[i] != 'I') {
            continue;
        }
        if (!buf_reserve(&text, 1)) { /* an empty file is an empty value, not null */
            code = tool_no_memory();
        } else if (!file_read(t->many[i], s->record_limit, &text)) {
            tool_say(errno == EFBIG
                         ? "%s: longer than max.request.size\n-X max.request.size=BYTES "
                           "raises it; the topic's max.message.bytes is the broker's limit"
                         : "cannot read %s: %s",
                     t->many[i], strerror(errno));
            code = EXIT_FAILED;
        } else {
            record_of_value(in, (struct str){text.ptr, text.len}, &m);
            code = sender_send(s, &m, t->many[i]);
        }
        buf_finish(&text);
        stop_take(s->stop);
    }
    return code;
}

static int produce(struct sender *s, struct record_in *in)
{
    struct tool *t = s->tool;
    int code = sender_open(s, t, t->client, t->args[0]);
    if (code == EXIT_DONE && tool_has(t, 'P') &&
        !tool_number(t, "--partition", tool_value(t, 'P'), 0, INT32_MAX, &s->partition)) {
        code = EXIT_USAGE;
    }
    if (code == EXIT_DONE) {
        progress_begin(&s->progress, "delivered", 0,
                       !isatty(STDIN_FILENO) && !(t->json && isatty(STDOUT_FILENO)));
        code = tool_has(t, 'I') ? files_send(s, in) : sender_send_input(s, STDIN_FILENO, in);
        code = sender_end(s, code);
        if (s->stop->at_ms) {
            tool_say("stopped: delivered %llu record%s", (unsigned long long)s->delivered,
                     s->delivered == 1 ? "" : "s");
        }
    }
    sender_close(s);
    return code;
}

int verb_produce(struct tool *t)
{
    struct stop stop;
    struct sender s = {.tool = t, .stop = &stop, .tells = t->json};
    struct record_in in = {0};
    if (tool_has(t, 'P') && tool_has(t, 'w')) {
        return tool_usage(t, "--partition does not go with --by-key");
    }
    stop_catch(&stop);
    int code = record_in_init(t, &in) ? produce(&s, &in) : EXIT_USAGE;
    record_in_finish(&in);
    stop_finish(&stop);
    return code;
}

/* What all verbs share: errors with what to do next, questions, the options of the client library.
 */
#include "tools/tool.h"

#include "base/mem.h"
#include "tools/terminal.h"
#include "tools/verbs.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { INDENT = 2, TEXT_SIZE = 1024, ANSWER_SIZE = 32 };

/* ---- errors ---- */

static void say(const char *text)
{
    fflush(stdout); /* what was printed before stands before it */
    fprintf(stderr, "%srivulet:%s ", color_begin(stderr, COLOR_RED), color_end(stderr));
    text_fold(stderr, text, (int)strlen("rivulet: "), INDENT, 0);
}

static void say_next(const char *text) /* what to do */
{
    fprintf(stderr, "%*s", INDENT, "");
    text_fold(stderr, text, INDENT, INDENT, 0);
}

void tool_say(const char *format, ...)
{
    char text[TEXT_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    char *next = strchr(text, '\n');
    if (next) {
        *next++ = 0;
    }
    say(text);
    if (next) {
        say_next(next);
    }
}

void tool_print(const char *format, ...)
{
    char text[TEXT_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    text_fold(stdout, text, 0, INDENT, 0);
}

int tool_no_memory(void)
{
    tool_say("out of memory");
    return EXIT_FAILED;
}

int tool_usage(const struct tool *t, const char *format, ...)
{
    char text[TEXT_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    say(text);
    if (t && t->verb) {
        snprintf(text, sizeof text, "`rivulet %s --help` tells how it goes", t->verb->name);
    } else {
        snprintf(text, sizeof text, "`rivulet --help` lists what there is");
    }
    say_next(text);
    return EXIT_USAGE;
}

struct hint {
    const char *name; /* of the code, as rv_error_name gives it */
    const char *text;
};

/* clang-format off */
static const struct hint hints[] = {
    {"UNKNOWN_TOPIC_OR_PARTITION",
     "`rivulet topic list` names the topics; `rivulet topic create` makes one"},
    {"RV_E_ABSENT",                "`rivulet topic list` and `rivulet group list` name what there is"},
    {"TOPIC_ALREADY_EXISTS",
     "`rivulet topic describe` shows it; choose another name or delete it first"},
    {"INVALID_TOPIC_EXCEPTION",    "a name has 1 to 249 of: letters, digits, '.', '_', '-'"},
    {"INVALID_CONFIG",
     "settings are named as Kafka names them, e.g. retention.ms=86400000; `rivulet config list TOPIC` "
     "shows them"},
    {"INVALID_PARTITIONS",
     "`rivulet topic describe` tells how many there are; there can only be more"},
    {"MESSAGE_TOO_LARGE",
     "the topic's max.message.bytes is the limit: `rivulet topic alter TOPIC -c max.message.bytes=BYTES`"},
    {"RV_E_TOO_LARGE",             "-X max.request.size=BYTES raises the limit of this side"},
    {"RV_E_OPTION",
     "options are named as Kafka's clients name them; docs/CLI.md and rivulet(1) list them"},
    {"RV_E_VERSION",
     "the broker does not offer what this needs: it is older, or does not have it"},
    {"RV_E_TIMED_OUT",             "--timeout SECONDS waits longer"},
    {"GROUP_ID_NOT_FOUND",         "`rivulet group list` names the groups"},
    {"NON_EMPTY_GROUP",
     "it has active members: stop them first; `rivulet group describe` names them"},
    {"UNKNOWN_MEMBER_ID",
     "the group has active members: stop them first; `rivulet group describe` names them"},
};
/* clang-format on */

int tool_failed(const struct tool *t, const struct rv_error *e)
{
    bool unreachable = e->code == RV_E_CONNECT;
    say(e->text);
    if (unreachable) {
        char text[TEXT_SIZE];
        snprintf(
            text, sizeof text,
            "is a broker running at %.500s? start one with `rivuletd`, or name another with -b "
            "HOST:PORT",
            t->brokers);
        say_next(text);
    }
    for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++) {
        if (strcmp(hints[i].name, rv_error_name(e->code)) == 0) {
            say_next(hints[i].text);
        }
    }
    return unreachable ? EXIT_UNREACHABLE : e->code == RV_E_OPTION ? EXIT_USAGE : EXIT_FAILED;
}

bool tool_number(const struct tool *t, const char *what, const char *text, int64_t least,
                 int64_t most, int64_t *ret_value)
{
    int64_t n;
    if (str_to_int64(str_of(text), &n) != OK || n < least || n > most) {
        tool_usage(t, "%s: '%s' is not a whole number from %lld to %lld", what, text,
                   (long long)least, (long long)most);
        return false;
    }
    *ret_value = n;
    return true;
}

/* ---- questions ---- */

int tool_confirm(const struct tool *t, const char *format, ...)
{
    char text[TEXT_SIZE];
    char answer[ANSWER_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (tool_has(t, 'y')) {
        return EXIT_DONE;
    }
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
        tool_say(
            "%s? nobody is there to ask, and nothing was done\n--yes does it, --dry-run shows what "
            "it would do",
            text);
        return EXIT_USAGE;
    }
    fflush(stdout);
    fprintf(stderr, "%s%s?%s [y/N] ", color_begin(stderr, COLOR_YELLOW), text, color_end(stderr));
    fflush(stderr);
    bool got = fgets(answer, sizeof answer, stdin) != NULL;
    if (got && (strcmp(answer, "y\n") == 0 || strcmp(answer, "yes\n") == 0)) {
        return EXIT_DONE;
    }
    fputs(got ? "" : "\n", stderr);
    tool_say("nothing was done");
    return EXIT_FAILED;
}

/* ---- options of the client library ---- */

bool tool_set(struct tool *t, const char *name, const char *value)
{
    if (t->option_count == TOOL_OPTIONS_LIMIT) {
        tool_say("more than %d options", TOOL_OPTIONS_LIMIT);
        return false;
    }
    t->options[t->option_count++] = (struct rv_option){name, value};
    return true;
}

struct rv_option *tool_pairs(const struct tool *t, char letter, size_t *ret_count)
{
    size_t count = 0;
    size_t size = 0;
    for (int i = 0; i < t->many_count; i++) {
        count += t->many_letters[i] == letter;
        size += t->many_letters[i] == letter ? strlen(t->many[i]) + 1 : 0;
    }
    struct rv_option *pairs = mem_alloc((count + 1) * sizeof *pairs + size);
    if (!pairs) {
        tool_no_memory();
        return NULL;
    }
    char *text = (char *)&pairs[count + 1];
    count = 0;
    for (int i = 0; i < t->many_count; i++) {
        if (t->many_letters[i] == letter) {
            size = strlen(t->many[i]) + 1;
            memcpy(text, t->many[i], size);
            char *equals = strchr(text, '=');
            *equals = 0;
            pairs[count++] = (struct rv_option){text, equals + 1};
            text += size;
        }
    }
    pairs[count] = (struct rv_option){NULL, NULL};
    *ret_count = count;
    return pairs;
}

const char *tool_option_value(const struct tool *t, const char *name)
{
    const char *value = NULL;
    for (int i = 0; i < t->option_count; i++) {
        value = strcmp(t->options[i].name, name) == 0 ? t->options[i].value : value;
    }
    for (const struct rv_option_info *i = rv_options(); !value && i->name; i++) {
        value = strcmp(i->name, name) == 0 ? i->fallback : NULL;
    }
    return value;
}

static int brokers_of_environment(struct tool *t)
{
    const char *brokers = getenv("RIVULET_BROKERS");
    return !brokers || !brokers[0] || tool_set(t, "bootstrap.servers", brokers) ? EXIT_DONE
                                                                                : EXIT_FAILED;
}

/* What is nearer to this command line comes later, and counts: a profile that is named by it is
 * nearer than the environment, the default profile is not. */
int tool_options(struct tool *t)
{
    const char *profile = getenv("RIVULET_PROFILE");
    int code = tool_set(t, "bootstrap.servers", "127.0.0.1:9092") &&
                       tool_set(t, "client.id", "rivulet-cli")
                   ? EXIT_DONE
                   : EXIT_FAILED;
    if (code == EXIT_DONE && tool_has(t, 'Q')) {
        code = brokers_of_environment(t);
        code = code == EXIT_DONE ? profile_read(t, tool_value(t, 'Q'), true) : code;
    } else if (code == EXIT_DONE) {
        bool named = profile && profile[0];
        code = profile_read(t, named ? profile : "default", named);
        code = code == EXIT_DONE ? brokers_of_environment(t) : code;
    }
    if (code == EXIT_DONE && tool_has(t, 'b') &&
        !tool_set(t, "bootstrap.servers", tool_value(t, 'b'))) {
        code = EXIT_FAILED;
    }
    size_t count;
    struct rv_option *pairs = code == EXIT_DONE ? tool_pairs(t, 'X', &count) : NULL;
    for (size_t i = 0; pairs && code == EXIT_DONE && i < count; i++) {
        code = tool_set(t, pairs[i].name, pairs[i].value) ? EXIT_DONE : EXIT_FAILED;
    }
    if (pairs) {
        t->texts[t->text_count++] = (char *)pairs;
    }
    t->brokers = tool_option_value(t, "bootstrap.servers");
    return code == EXIT_DONE && !pairs ? EXIT_FAILED : code;
}

static void on_log(void *ctx, enum rv_level level, const char *text)
{
    (void)ctx;
    (void)level;
    fprintf(stderr, "rivulet: %s\n", text);
}

int tool_connect(struct tool *t, const char *brokers, struct rv_client **ret_client)
{
    struct rv_error e;
    if (brokers && brokers != t->brokers && !tool_set(t, "bootstrap.servers", brokers)) {
        return EXIT_FAILED;
    }
    int code = rv_client_open(t->options, ret_client, &e);
    if (brokers && brokers != t->brokers) {
        t->options[--t->option_count] = (struct rv_option){NULL, NULL};
    }
    if (code != RV_OK) {
        return tool_failed(t, &e);
    }
    if (tool_has(t, 'v')) {
        rv_client_on_log(*ret_client, on_log, NULL);
    }
    if (!verb_is_patient(t->verb) && rv_client_connect(*ret_client, t->timeout_ms, &e) != RV_OK) {
        struct tool other = *t;
        other.brokers = brokers ? brokers : t->brokers;
        code = tool_failed(&other, &e);
        return e.code == RV_E_TIMED_OUT ? EXIT_UNREACHABLE : code;
    }
    return EXIT_DONE;
}

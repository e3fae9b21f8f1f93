/* rivulet: the command line. verbs[] and options[] are all there is to know about it: parsing and
 * --help come from them. */
#include "tools/tool.h"

#include "base/mem.h"

#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
static const struct tool_option options[] = {
    {'b', true, false, "brokers", "HOST:PORT[,...]", "where to connect (or $RIVULET_BROKERS; else 127.0.0.1:9092)"},
    {'j', false, false, "json", NULL, "for programs: one JSON object a line"},
    {'t', false, false, "timeout", "SECONDS", "give up after this long (30)"},
    {'X', true, true, "set", "NAME=VALUE", "an option of the client library, named as Kafka's clients name it"},
    {'v', true, false, "verbose", NULL, "say on standard error what the connections do"},
    {'h', true, false, "help", NULL, "this text"},
    {'p', true, false, "partitions", "N", "how many partitions (the broker's default)"},
    {'P', false, false, "partition", "N", "only this partition"},
    {'c', true, true, "config", "NAME=VALUE", "a setting of the topic"},
    {'k', true, false, "key", "SEPARATOR", "lines are KEY SEPARATOR VALUE"},
    {'z', true, false, "compression", "CODEC", "none, gzip, snappy, lz4 or zstd"},
    {'g', true, false, "group", "GROUP", "as a member of a group: go on where it left off, and commit"},
    {'o', true, false, "offset", "WHERE", "start (default), end, an offset, or @TIME: RFC 3339, epoch milliseconds, -2h"},
    {'n', true, false, "count", "COUNT", "end after so many records"},
    {'u', false, false, "until", "end", "stop at what is the end now"},
    {'C', false, false, "connections", "N", "connections"},
    {'s', true, false, "size", "BYTES", "bytes of a record's value"},
    {'B', false, false, "batch", "RECORDS", "records in a batch"},
    {'a', true, false, "acks", "0|1|all", "acknowledgements (all)"},
    {'F', false, false, "in-flight", "N", "requests on their way, a connection"},
    {'d', true, false, "seconds", "N", "how long (5)"},
    {'m', false, false, "pid", "PID", "the broker's process: tell its CPU and memory"},
    {'r', true, false, "records", NULL, "keys, values and headers too"},
    {'T', false, false, "topic", "TOPIC", "the topic to use; made when it is not there (rivulet-bench)"},
    {'W', false, false, "warm-up", "SECONDS", "before it counts (1)"},
    {'R', false, false, "rate", "N", "requests a second (1000)"},
    {'M', false, false, "max-bytes", "BYTES", "of records in one answer (1048576)"},
};

static const struct tool_verb verbs[] = {
    {"topic create", "TOPIC", 1, 1, "pc", false, "make a topic", verb_topic_create},
    {"topic list", "", 0, 0, "", false, "name the topics", verb_topic_list},
    {"topic describe", "TOPIC...", 1, TOOL_ARGS_LIMIT, "", false,
     "show partitions, offsets, size and settings", verb_topic_describe},
    {"topic delete", "TOPIC...", 1, TOOL_ARGS_LIMIT, "", false, "remove topics and all that is in them",
     verb_topic_delete},
    {"produce", "TOPIC", 1, 1, "kzP", false,
     "send the lines of standard input; --json tells where each one went: topic, partition, offset, timestamp_ms",
     verb_produce},
    {"consume", "TOPIC", 1, 1, "gonukP", false,
     "print records; --json: topic, partition, offset, timestamp_ms, key, value, headers", verb_consume},
    {"group list", "", 0, 0, "", false, "name the groups", verb_group_list},
    {"log dump", "FILE|DIR...", 1, TOOL_ARGS_LIMIT, "r", true,
     "show segments, indexes and snapshots without a broker, and what is wrong with them", verb_log_dump},
    {"bench produce", "", 0, 0, "TpcCFsBazdWm", false, "measure: batches as fast as they are taken",
     verb_bench_produce},
    {"bench fetch", "", 0, 0, "TpCMdWm", false, "measure: a topic read over and over", verb_bench_fetch},
    {"bench latency", "", 0, 0, "TpcCFRsadWm", false, "measure: from when a record is due until it is read",
     verb_bench_latency},
    {"bench commit", "", 0, 0, "TpcCFdWm", false, "measure: offsets, each connection a group of its own",
     verb_bench_commit},
    {"bench connections", "", 0, 0, "Cdm", false, "measure: connections that only say hello", verb_bench_connections},
    {"group describe", "GROUP", 1, 1, "", false, "show members, offsets and lag", verb_group_describe},
};

/* clang-format on */

static const char common_options[] = "bjtXvh";

enum {
    VERB_COUNT = sizeof verbs / sizeof verbs[0],
    OPTION_COUNT = sizeof options / sizeof options[0]
};

static const struct tool_option *option_of(char letter)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (options[i].letter == letter) {
            return &options[i];
        }
    }
    return NULL;
}

static bool verb_takes(const struct tool_verb *v, char letter)
{
    return strchr(common_options, letter) || strchr(v->options, letter);
}

/* ---- help ---- */

static void help_options(FILE *to, const char *letters)
{
    for (const char *p = letters; *p; p++) {
        const struct tool_option *o = option_of(*p);
        char left[80];
        snprintf(left, sizeof left, "%s%c%s--%s%s%s", o->is_short ? "-" : " ",
                 o->is_short ? o->letter : ' ', o->is_short ? ", " : "  ", o->name,
                 o->value ? " " : "", o->value ? o->value : "");
        fprintf(to, "  %-32s %s\n", left, o->about);
    }
}

static void help_verb(FILE *to, const struct tool_verb *v)
{
    fprintf(to, "rivulet %s %s\n\n%c%s.\n\n", v->name, v->args, v->about[0] - 'a' + 'A',
            v->about + 1);
    help_options(to, v->options);
    help_options(to, v->offline ? "h" : common_options);
}

static void help_all(FILE *to)
{
    fprintf(to, "rivulet: talk to a rivulet or Apache Kafka broker\n\n");
    for (size_t i = 0; i < VERB_COUNT; i++) {
        char left[80];
        snprintf(left, sizeof left, "rivulet %s %s", verbs[i].name, verbs[i].args);
        fprintf(to, "  %-46s %s\n", left, verbs[i].about);
    }
    fprintf(to, "\nEvery verb takes:\n");
    help_options(to, common_options);
    fprintf(to, "\nrivulet VERB --help tells what else a verb takes.\n"
                "Exit codes: 0 done, 1 failed, 2 usage, 3 cannot reach the broker.\n");
}

/* ---- errors ---- */

int tool_usage(const struct tool *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "rivulet: ");
    vfprintf(stderr, format, args);
    va_end(args);
    if (t && t->verb) {
        fprintf(stderr, "\n  rivulet %s --help tells how it goes\n", t->verb->name);
    } else {
        fprintf(stderr, "\n  rivulet --help lists what there is\n");
    }
    return EXIT_USAGE;
}

struct hint {
    const char *name; /* of the code, as rv_error_name gives it */
    const char *text;
};

static const struct hint hints[] = {
    {"UNKNOWN_TOPIC_OR_PARTITION",
     "`rivulet topic list` names the topics; `rivulet topic create` makes one"                            },
    {"TOPIC_ALREADY_EXISTS",
     "`rivulet topic describe` shows it; choose another name or delete it first"                          },
    {"INVALID_TOPIC_EXCEPTION",    "a name has 1 to 249 of: letters, digits, '.', '_', '-'"               },
    {"INVALID_CONFIG",             "settings are named as Kafka names them, e.g. -c retention.ms=86400000"},
    {"MESSAGE_TOO_LARGE",          "the topic's max.message.bytes is the limit"                           },
    {"RV_E_TOO_LARGE",             "-X max.request.size=BYTES raises the limit of this side"              },
    {"RV_E_OPTION",                "options are named as Kafka's clients name them"                       },
    {"RV_E_VERSION",               "the broker is older or newer than this program knows"                 },
    {"GROUP_ID_NOT_FOUND",         "`rivulet group list` names the groups"                                },
};

int tool_failed(const struct tool *t, const struct rv_error *e)
{
    bool unreachable = e->code == RV_E_CONNECT;
    fprintf(stderr, "rivulet: %s\n", e->text);
    if (unreachable) {
        fprintf(stderr,
                "  is a broker running at %s? start one with `rivuletd`, or name another with -b "
                "HOST:PORT\n",
                t->brokers);
    }
    for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++) {
        if (strcmp(hints[i].name, rv_error_name(e->code)) == 0) {
            fprintf(stderr, "  %s\n", hints[i].text);
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

void tool_set(struct tool *t, const char *name, const char *value)
{
    if (t->option_count < TOOL_MANY_LIMIT + 3) {
        t->options[t->option_count++] = (struct rv_option){name, value};
    }
}

/* ---- the command line ---- */

/* The verb of one or two words; *ret_words says how many. */
static const struct tool_verb *verb_find(int count, char **words, int *ret_words)
{
    for (size_t i = 0; i < VERB_COUNT; i++) {
        const char *space = strchr(verbs[i].name, ' ');
        size_t first = space ? (size_t)(space - verbs[i].name) : strlen(verbs[i].name);
        if (count < 1 || strlen(words[0]) != first || memcmp(words[0], verbs[i].name, first) != 0) {
            continue;
        }
        if (!space || (count > 1 && strcmp(words[1], space + 1) == 0)) {
            *ret_words = space ? 2 : 1;
            return &verbs[i];
        }
    }
    return NULL;
}

static int verb_unknown(int count, char **words)
{
    if (count < 1) {
        help_all(stderr);
        return EXIT_USAGE;
    }
    bool is_group = false;
    for (size_t i = 0; i < VERB_COUNT; i++) {
        size_t n = strlen(words[0]);
        is_group |= strncmp(verbs[i].name, words[0], n) == 0 && verbs[i].name[n] == ' ';
    }
    if (!is_group) {
        return tool_usage(NULL, "there is no verb '%s'", words[0]);
    }
    fprintf(stderr, "rivulet: %s what?\n", words[0]);
    for (size_t i = 0; i < VERB_COUNT; i++) {
        size_t n = strlen(words[0]);
        if (strncmp(verbs[i].name, words[0], n) == 0 && verbs[i].name[n] == ' ') {
            fprintf(stderr, "  rivulet %s %s\n", verbs[i].name, verbs[i].args);
        }
    }
    return EXIT_USAGE;
}

struct getopt_tables {
    char letters[OPTION_COUNT * 2 + 4];
    struct option longs[OPTION_COUNT + 1];
};

static void getopt_tables_init(struct getopt_tables *g)
{
    *g = (struct getopt_tables){.letters = ":"};
    char *p = g->letters + 1;
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct tool_option *o = &options[i];
        g->longs[i] =
            (struct option){o->name, o->value ? required_argument : no_argument, NULL, o->letter};
        if (o->is_short) {
            *p++ = o->letter;
            if (o->value) {
                *p++ = ':';
            }
        }
    }
}

static int option_take(struct tool *t, char letter, const char *value)
{
    const struct tool_option *o = option_of(letter);
    if (!o->is_many) {
        t->values[(unsigned char)letter] = value ? value : "";
        return EXIT_DONE;
    }
    if (t->many_count == TOOL_MANY_LIMIT) {
        return tool_usage(t, "more than %d of --%s", TOOL_MANY_LIMIT, o->name);
    }
    if (!strchr(value, '=')) {
        return tool_usage(t, "--%s: '%s' is not NAME=VALUE", o->name, value);
    }
    t->many_letters[t->many_count] = letter;
    t->many[t->many_count++] = value;
    return EXIT_DONE;
}

/* Options into t->values and t->many, the rest of argv in order behind optind. */
static int options_parse(struct tool *t, int argc, char **argv, char *ret_letters, int *ret_count)
{
    struct getopt_tables g;
    getopt_tables_init(&g);
    int c;
    opterr = 0;
    while ((c = getopt_long(argc, argv, g.letters, g.longs, NULL)) != -1) {
        if (c == '?') {
            return tool_usage(NULL, "there is no option '%s'", argv[optind - 1]);
        }
        if (c == ':') {
            return tool_usage(NULL, "'%s' needs a value", argv[optind - 1]);
        }
        int code = option_take(t, (char)c, optarg);
        if (code != EXIT_DONE) {
            return code;
        }
        if (*ret_count < TOOL_ARGS_LIMIT) {
            ret_letters[(*ret_count)++] = (char)c;
        }
    }
    return EXIT_DONE;
}

static int arguments_take(struct tool *t, int count, char **words)
{
    if (count < t->verb->least || count > t->verb->most) {
        return tool_usage(t, "rivulet %s takes: %s", t->verb->name,
                          t->verb->args[0] ? t->verb->args : "no argument");
    }
    for (int i = 0; i < count; i++) {
        t->args[t->arg_count++] = words[i];
    }
    return EXIT_DONE;
}

/* ---- the client ---- */

static void on_log(void *ctx, enum rv_level level, const char *text)
{
    (void)ctx;
    (void)level;
    fprintf(stderr, "rivulet: %s\n", text);
}

/* -X options: their names are cut at the '=', and given back by names_free. */
static bool set_options(struct tool *t)
{
    for (int i = 0; i < t->many_count; i++) {
        if (t->many_letters[i] == 'X') {
            const char *equals = strchr(t->many[i], '=');
            char *name = tool_copy(t->many[i], (size_t)(equals - t->many[i]));
            if (!name) {
                return false;
            }
            t->names[t->name_count++] = name;
            tool_set(t, name, equals + 1);
        }
    }
    return true;
}

static void names_free(struct tool *t)
{
    for (int i = 0; i < t->name_count; i++) {
        mem_free(t->names[i]);
    }
}

static int tool_connect(struct tool *t)
{
    struct rv_error e;
    const char *brokers = tool_value(t, 'b');
    brokers = brokers ? brokers : getenv("RIVULET_BROKERS");
    t->brokers = brokers && brokers[0] ? brokers : "127.0.0.1:9092";
    tool_set(t, "bootstrap.servers", t->brokers);
    tool_set(t, "client.id", "rivulet-cli");
    if (!set_options(t)) {
        fprintf(stderr, "rivulet: out of memory\n");
        return EXIT_FAILED;
    }
    if (rv_client_open(t->options, &t->client, &e) != RV_OK) {
        return tool_failed(t, &e);
    }
    if (tool_has(t, 'v')) {
        rv_client_on_log(t->client, on_log, NULL);
    }
    if (rv_client_connect(t->client, t->timeout_ms, &e) != RV_OK) {
        int code = tool_failed(t, &e);
        return e.code == RV_E_TIMED_OUT ? EXIT_UNREACHABLE : code;
    }
    return EXIT_DONE;
}

static int tool_run(struct tool *t)
{
    int64_t seconds = 30;
    if (tool_has(t, 't') && !tool_number(t, "--timeout", tool_value(t, 't'), 1, 86400, &seconds)) {
        return EXIT_USAGE;
    }
    t->timeout_ms = (int)seconds * 1000;
    t->json = tool_has(t, 'j');
    int code = t->verb->offline ? EXIT_DONE : tool_connect(t);
    if (code == EXIT_DONE) {
        code = t->verb->run(t);
    }
    rv_client_close(t->client);
    names_free(t);
    return output_end(code);
}

int main(int argc, char **argv)
{
    struct tool t = {0};
    char letters[TOOL_ARGS_LIMIT];
    int letter_count = 0, words = 0;
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of writing, and ends quietly */
    int code = options_parse(&t, argc, argv, letters, &letter_count);
    if (code != EXIT_DONE) {
        return code;
    }
    t.verb = verb_find(argc - optind, argv + optind, &words);
    if (tool_has(&t, 'h') || (!t.verb && argc > optind && strcmp(argv[optind], "help") == 0)) {
        if (t.verb) {
            help_verb(stdout, t.verb);
        } else {
            help_all(stdout);
        }
        return output_end(EXIT_DONE);
    }
    if (!t.verb) {
        return verb_unknown(argc - optind, argv + optind);
    }
    for (int i = 0; i < letter_count; i++) {
        if (!verb_takes(t.verb, letters[i])) {
            return tool_usage(&t, "rivulet %s does not take --%s", t.verb->name,
                              option_of(letters[i])->name);
        }
    }
    code = arguments_take(&t, argc - optind - words, argv + optind + words);
    return code == EXIT_DONE ? tool_run(&t) : code;
}

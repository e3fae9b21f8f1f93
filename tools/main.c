/* rivulet: the command line. tools/verbs.c is all there is to know about it. */
#include "tools/tool.h"

#include "base/mem.h"
#include "tools/verbs.h"

#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { OPTION_ROWS_MAX = 96, TIMEOUT_S = 30, TIMEOUT_MAX_S = 86400 };

/* ---- the command line ---- */

static bool is_noun(const char *word) /* "topic", as in "topic list" */
{
    size_t n = strlen(word);
    for (const struct tool_verb *v = verbs; v->name; v++) {
        if (strncmp(v->name, word, n) == 0 && v->name[n] == ' ') {
            return true;
        }
    }
    return false;
}

static int verb_unknown(int count, char **words)
{
    if (count < 1) {
        help_all(stderr);
        return EXIT_USAGE;
    }
    if (!is_noun(words[0])) {
        return tool_usage(NULL, "there is no verb '%s'", words[0]);
    }
    if (count > 1) {
        tool_say("there is no verb '%s %s'. There are", words[0], words[1]);
    } else {
        tool_say("%s what? There are", words[0]);
    }
    help_noun(stderr, words[0]);
    return EXIT_USAGE;
}

struct getopt_tables {
    char letters[OPTION_ROWS_MAX * 2 + 4];
    struct option longs[OPTION_ROWS_MAX + 1];
};

static void getopt_tables_init(struct getopt_tables *g)
{
    *g = (struct getopt_tables){.letters = ":"};
    char *p = g->letters + 1;
    int n = 0;
    for (const struct tool_option *o = options; o->name && n < OPTION_ROWS_MAX; o++) {
        if (o->of) {
            continue; /* its general row says the same here */
        }
        g->longs[n++] = (struct option){
            o->name, o->form == OPTION_FLAG ? no_argument : required_argument, NULL, o->letter};
        if (o->is_short) {
            *p++ = o->letter;
            if (o->form != OPTION_FLAG) {
                *p++ = ':';
            }
        }
    }
}

static int option_take(struct tool *t, char letter, const char *value)
{
    const struct tool_option *o = option_of(NULL, letter);
    if (o->form == OPTION_FLAG || o->form == OPTION_ONCE) {
        t->values[(unsigned char)letter] = value ? value : "";
        return EXIT_DONE;
    }
    if (t->many_count == TOOL_MANY_LIMIT) {
        return tool_usage(t, "more than %d of --%s", TOOL_MANY_LIMIT, o->name);
    }
    if (o->form == OPTION_PAIRS && (!strchr(value, '=') || value[0] == '=')) {
        return tool_usage(t, "--%s: '%s' is not NAME=VALUE", o->name, value);
    }
    t->values[(unsigned char)letter] = value;
    t->many_letters[t->many_count] = letter;
    t->many[t->many_count++] = value;
    return EXIT_DONE;
}

/* Options into t->values and t->many, the rest of argv in order behind optind. */
static int options_parse(struct tool *t, int argc, char **argv)
{
    struct getopt_tables g;
    getopt_tables_init(&g);
    int c;
    opterr = 0;
    while ((c = getopt_long(argc, argv, g.letters, g.longs, NULL)) != -1) {
        if (c == '?') {
            return optopt && strncmp(argv[optind - 1], "--", 2) != 0
                       ? tool_usage(NULL, "there is no option '-%c'", optopt)
                       : tool_usage(NULL, "there is no option '%s'", argv[optind - 1]);
        }
        if (c == ':') {
            return tool_usage(NULL, "'%s' needs a value", argv[optind - 1]);
        }
        int code = option_take(t, (char)c, optarg);
        if (code != EXIT_DONE) {
            return code;
        }
    }
    return EXIT_DONE;
}

static int arguments_take(struct tool *t, int count, char **words)
{
    for (int c = 0; c < OPTION_LETTERS; c++) {
        if (t->values[c] && !verb_takes(t->verb, (char)c)) {
            return tool_usage(t, "rivulet %s does not take --%s", t->verb->name,
                              option_of(t->verb, (char)c)->name);
        }
    }
    if (count < t->verb->least || count > t->verb->most) {
        return tool_usage(t, "rivulet %s takes: %s", t->verb->name,
                          t->verb->args[0] ? t->verb->args : "no argument");
    }
    for (int i = 0; i < count; i++) {
        t->args[t->arg_count++] = words[i];
    }
    return EXIT_DONE;
}

/* ---- running ---- */

static int tool_run(struct tool *t)
{
    int64_t seconds = TIMEOUT_S;
    if (tool_has(t, 't') &&
        !tool_number(t, "--timeout", tool_value(t, 't'), 1, TIMEOUT_MAX_S, &seconds)) {
        return EXIT_USAGE;
    }
    t->timeout_ms = (int)seconds * 1000;
    t->json = tool_has(t, 'j');
    int code = EXIT_DONE;
    if (!t->verb->offline) {
        code = tool_options(t);
        code = code == EXIT_DONE ? tool_connect(t, NULL, &t->client) : code;
    }
    if (code == EXIT_DONE) {
        code = t->verb->run(t);
    }
    rv_client_close(t->client);
    for (int i = 0; i < t->text_count; i++) {
        mem_free(t->texts[i]);
    }
    return output_end(code);
}

/* What is for makefiles and shells, and stands before all options. *ret_code when it was one of
 * them. */
static bool run_hidden(struct tool *t, int argc, char **argv, int *ret_code)
{
    const char *first = argc > 1 ? argv[1] : "";
    *ret_code = EXIT_DONE;
    if (strcmp(first, "--version") == 0) {
        puts("rivulet " RIVULET_VERSION);
    } else if (strcmp(first, "--complete") == 0) {
        *ret_code = complete(t, argc - 2, argv + 2);
    } else if (strcmp(first, "--man") == 0 && argc == 2) {
        man_list(stdout);
    } else if (strcmp(first, "--man") == 0) {
        *ret_code = man_page(stdout, argv[2]) ? EXIT_DONE : EXIT_FAILED;
    } else if (strcmp(first, "--markdown") == 0) {
        man_markdown(stdout);
    } else {
        return false;
    }
    *ret_code = output_end(*ret_code);
    return true;
}

int main(int argc, char **argv)
{
    struct tool t = {0};
    int words = 0;
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of writing, and ends quietly */
    int code;
    if (run_hidden(&t, argc, argv, &code)) {
        return code;
    }
    code = options_parse(&t, argc, argv);
    if (code != EXIT_DONE) {
        return code;
    }
    bool help = tool_has(&t, 'h');
    if (argc > optind && strcmp(argv[optind], "help") == 0) {
        help = true;
        optind++;
    }
    t.verb = verb_find(argc - optind, argv + optind, &words);
    if (help) {
        if (t.verb) {
            help_verb(stdout, t.verb);
        } else if (argc > optind && is_noun(argv[optind])) {
            help_noun(stdout, argv[optind]);
        } else {
            help_all(stdout);
        }
        return output_end(EXIT_DONE);
    }
    if (!t.verb) {
        return verb_unknown(argc - optind, argv + optind);
    }
    code = arguments_take(&t, argc - optind - words, argv + optind + words);
    return code == EXIT_DONE ? tool_run(&t) : code;
}

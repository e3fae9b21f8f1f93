/* What is printed of the table of verbs: --help for people at a terminal, manual pages as scdoc
 * reads them (scdoc(5)), and docs/CLI.md. */
#include "tools/verbs.h"

#include "tools/terminal.h"

#include <ctype.h>
#include <string.h>

enum {
    LEFT_WIDTH = 34,   /* of what stands left of a text, with its gap */
    USUAL_WIDTH = 110, /* of help that goes elsewhere than to a terminal */
    NARROW = 70,       /* columns: below it texts stand under what they tell about */
};

/* A part of the manual that belongs to several verbs. */
struct topic {
    const char *name;
    char letter; /* verbs that take this option show it in their help; 0: none does */
    const char *text;
};

/* clang-format off */
static const struct topic topics[] = {
    {"FORMATS", 'f',
     "%k key, %v or %s value, %o offset, %p partition, %t topic, %T time in milliseconds, %h headers as NAME=VALUE,..., %K bytes of the key and %S of "
     "the value (-1 for null), %% a percent sign; \\n \\r \\t \\\\ \\xHH. Everything else is itself.\n\n"
     "produce reads the same: what stands behind a field ends it, or %K and %S before it say how long it is, and then any byte may be in it. "
     "%o and %t are read and passed over; %p and %T say where the record goes and what its time is. The last record may lack the end of the format's text."},
    {"TIMES", 'o',
     "A time is RFC 3339 (2026-11-24T14:00:00Z, 2026-11-24T15:00:00+01:00, or only the day, in UTC), milliseconds since 1970, or so long ago: -2h "
     "(d, h, m, s, ms). Where an offset could stand too, @ comes before it."},
    {"PROFILES", 0,
     "A profile is a file NAME.properties in $XDG_CONFIG_HOME/rivulet, or ~/.config/rivulet: lines of NAME=VALUE, # before a comment, the names "
     "being those of Kafka's clients, e.g. bootstrap.servers=one.example.org:9092 or compression.type=zstd. The profile `default` is read when there is "
     "no other. What counts, from the first to the last: -X, -b, --profile, $RIVULET_BROKERS, $RIVULET_PROFILE or `default`, 127.0.0.1:9092."},
    {"ENVIRONMENT", 0,
     "RIVULET_BROKERS: where to connect. RIVULET_PROFILE: the profile to use. NO_COLOR: when it is not empty, no colours."},
    {"EXIT STATUS", 0,
     "0 done; 1 failed; 2 the command line makes no sense, or something would have to be asked and nobody is there; 3 the broker cannot be reached."},
    {0},
};
/* clang-format on */

/* ---- --help ---- */

static void option_left(const struct tool_option *o, char *text, size_t size)
{
    char letter[] = {'-', o->letter, ',', ' ', 0};
    snprintf(text, size, "%s--%s%s%s", o->is_short ? letter : "    ", o->name, o->value ? " " : "",
             o->value ? o->value : "");
}

static void help_line(FILE *to, const char *left, const char *text)
{
    int columns = window_columns(to);
    int width = (int)text_width(left) + 2;
    fputs("  ", to);
    if (columns && columns < NARROW) { /* the text below */
        text_fold(to, left, 2, 2, 0);
        fputs("      ", to);
        text_fold(to, text, 6, 6, 0);
        return;
    }
    fprintf(to, "%s%s%s", color_begin(to, COLOR_BOLD), left, color_end(to));
    if (width >= LEFT_WIDTH) {
        fprintf(to, "\n%*s", LEFT_WIDTH, "");
    } else {
        fprintf(to, "%*s", LEFT_WIDTH - width, "");
    }
    text_fold(to, text, LEFT_WIDTH, LEFT_WIDTH, USUAL_WIDTH);
}

static void help_options(FILE *to, const struct tool_verb *v, const char *letters)
{
    for (const char *p = letters; *p; p++) {
        const struct tool_option *o = option_of(v, *p);
        char left[128];
        option_left(o, left, sizeof left);
        help_line(to, left, o->about);
    }
}

static void help_lines(FILE *to, const char *lines, const char *before)
{
    for (const char *p = lines; *p;) {
        size_t n = strcspn(p, "\n");
        fprintf(to, "%s%.*s\n", before, (int)n, p);
        p += n + (p[n] == '\n');
    }
}

static void help_heading(FILE *to, const char *text)
{
    fprintf(to, "\n%s%s%s\n", color_begin(to, COLOR_BOLD), text, color_end(to));
}

void help_verb(FILE *to, const struct tool_verb *v)
{
    fprintf(to, "rivulet %s%s%s\n\n%c", v->name, v->args[0] ? " " : "", v->args,
            toupper((unsigned char)v->about[0]));
    text_fold(to, v->about + 1, 1, 0, USUAL_WIDTH);
    if (v->more) {
        putc('\n', to);
        text_fold(to, v->more, 0, 0, USUAL_WIDTH);
    }
    if (v->options[0]) {
        help_heading(to, "Options");
        help_options(to, v, v->options);
    }
    help_heading(to, "Options of every verb");
    help_options(to, v, verb_common_options(v));
    for (const struct topic *topic = topics; topic->name; topic++) {
        if (topic->letter && strchr(v->options, topic->letter)) {
            help_heading(to, topic->name);
            text_fold(to, topic->text, 0, 0, USUAL_WIDTH);
        }
    }
    if (v->json) {
        help_heading(to, "--json prints");
        text_fold(to, v->json, 0, 0, USUAL_WIDTH);
    }
    if (v->examples) {
        help_heading(to, "Examples");
        help_lines(to, v->examples, "  ");
    }
}

void help_noun(FILE *to, const char *noun)
{
    size_t n = strlen(noun);
    for (const struct tool_verb *v = verbs; v->name; v++) {
        if (strncmp(v->name, noun, n) == 0 && v->name[n] == ' ') {
            char left[80];
            snprintf(left, sizeof left, "%s%s%s", v->name, v->args[0] ? " " : "", v->args);
            help_line(to, left, v->about);
        }
    }
}

void help_all(FILE *to)
{
    text_fold(to, "rivulet: talk to a rivulet or Apache Kafka broker", 0, 0, 0);
    putc('\n', to);
    for (const struct tool_verb *v = verbs; v->name; v++) {
        char left[80];
        snprintf(left, sizeof left, "%s%s%s", v->name, v->args[0] ? " " : "", v->args);
        help_line(to, left, v->about);
    }
    help_heading(to, "Every verb takes");
    help_options(to, NULL, verb_common_options(NULL));
    putc('\n', to);
    text_fold(to,
              "`rivulet VERB --help` tells what else a verb takes. `rivulet --version` prints the "
              "version.\n"
              "Exit codes: 0 done, 1 failed, 2 usage, 3 cannot reach the broker.",
              0, 0, USUAL_WIDTH);
}

/* ---- manual pages ---- */

static void scdoc_text(FILE *to, const char *text)
{
    for (const char *p = text; *p; p++) {
        if (strchr("\\*_#~[]|.", *p)) {
            putc('\\', to);
        }
        putc(*p, to);
    }
}

static void scdoc_strong(FILE *to, const char *text)
{
    putc('*', to);
    scdoc_text(to, text);
    putc('*', to);
}

static void man_options(FILE *to, const struct tool_verb *v, const char *letters)
{
    for (const char *p = letters; *p; p++) {
        const struct tool_option *o = option_of(v, *p);
        if (o->is_short) {
            fprintf(to, "*-%c*, ", o->letter);
        }
        fprintf(to, "*--%s*", o->name);
        if (o->value) {
            putc(' ', to);
            scdoc_text(to, o->value);
        }
        fputs("\n\t", to);
        scdoc_text(to, o->about);
        fputs("\n\n", to);
    }
}

static void man_verb(FILE *to, const struct tool_verb *v)
{
    fprintf(to, "## rivulet %s%s%s\n\n", v->name, v->args[0] ? " " : "", v->args);
    putc(toupper((unsigned char)v->about[0]), to);
    scdoc_text(to, v->about + 1);
    fputs(".\n\n", to);
    if (v->more) {
        scdoc_text(to, v->more);
        fputs("\n\n", to);
    }
    man_options(to, v, v->options);
    if (v->json) {
        fputs("With *--json* it prints ", to);
        scdoc_text(to, v->json);
        fputs(".\n\n", to);
    }
    if (v->examples) {
        fputs("```\n", to);
        for (const char *p = v->examples; *p; p++) {
            fputs(*p == '\\' ? "\\" : "",
                  to); /* a literal block takes them as escapes, and nothing else */
            putc(*p, to);
        }
        fputs("\n```\n\n", to);
    }
}

static size_t noun_size(const struct tool_verb *v)
{
    return strcspn(v->name, " ");
}

/* The first of the verbs with that noun. */
static bool is_first(const struct tool_verb *v)
{
    return v == verbs || noun_size(v) != noun_size(v - 1) ||
           strncmp(v->name, v[-1].name, noun_size(v)) != 0;
}

static void man_topics(FILE *to, const struct tool_verb *v, size_t n)
{
    for (const struct topic *topic = topics; topic->name; topic++) {
        bool wanted = !v;
        for (const struct tool_verb *w = v; w && w->name && strncmp(w->name, v->name, n) == 0;
             w++) {
            wanted |= topic->letter && strchr(w->options, topic->letter);
        }
        if (wanted || strcmp(topic->name, "EXIT STATUS") == 0) {
            fprintf(to, "# %s\n\n", topic->name);
            scdoc_text(to, topic->text);
            fputs("\n\n", to);
        }
    }
}

static void man_see_also(FILE *to)
{
    fputs("# SEE ALSO\n\n*rivulet*(1)", to);
    for (const struct tool_verb *v = verbs; v->name; v++) {
        if (is_first(v)) {
            fprintf(to, ", *rivulet-%.*s*(1)", (int)noun_size(v), v->name);
        }
    }
    fputs(", *rivuletd*(8)\n", to);
}

static void man_all(FILE *to)
{
    fputs("rivulet(1) \"\" \"rivulet manual\"\n\n# NAME\n\nrivulet - talk to a rivulet or Apache "
          "Kafka "
          "broker\n\n# SYNOPSIS\n\n*rivulet* _VERB_ [_OPTION_...] [_ARGUMENT_...]\n\n# "
          "DESCRIPTION\n\n"
          "Tables are for people; *--json* prints one object a line, and its names stay as they "
          "are.\n\n# VERBS\n\n",
          to);
    for (const struct tool_verb *v = verbs; v->name; v++) {
        char text[80];
        snprintf(text, sizeof text, "%s%s%s", v->name, v->args[0] ? " " : "", v->args);
        scdoc_strong(to, text);
        fputs("\n\t", to);
        scdoc_text(to, v->about);
        fputs("\n\n", to);
    }
    fputs("# OPTIONS\n\n", to);
    man_options(to, NULL, verb_common_options(NULL));
    man_topics(to, NULL, 0);
    fputs("# OPTIONS OF THE CLIENT LIBRARY\n\nFor *-X* and profiles.\n\n", to);
    for (const struct rv_option_info *i = rv_options(); i->name; i++) {
        scdoc_strong(to, i->name);
        if (i->fallback[0]) {
            fputs(" (", to);
            scdoc_text(to, i->fallback);
            putc(')', to);
        }
        fprintf(to, "\n\t%s: ", i->of);
        scdoc_text(to, i->about);
        fputs("\n\n", to);
    }
    man_see_also(to);
}

bool man_page(FILE *to, const char *page)
{
    if (strcmp(page, "rivulet") == 0) {
        man_all(to);
        return true;
    }
    size_t n = strlen("rivulet-");
    if (strncmp(page, "rivulet-", n) != 0) {
        return false;
    }
    const char *noun = page + n;
    n = strlen(noun);
    const struct tool_verb *v = verbs;
    while (v->name && (noun_size(v) != n || strncmp(v->name, noun, n) != 0)) {
        v++;
    }
    if (!v->name) {
        return false;
    }
    fprintf(to, "%s(1) \"\" \"rivulet manual\"\n\n# NAME\n\n%s - ", page, page);
    const struct tool_verb *last = v;
    for (; last[1].name && !is_first(last + 1); last++) {
    }
    for (const struct tool_verb *w = v; w <= last; w++) {
        scdoc_text(to, w->about);
        fputs(w < last ? "; " : "\n\n# SYNOPSIS\n\n", to);
    }
    for (const struct tool_verb *w = v; w <= last; w++) {
        fprintf(to, "*rivulet %s* [_OPTION_...] ", w->name);
        scdoc_text(to, w->args);
        fputs(w < last ? "++\n" : "\n\n# VERBS\n\n", to);
    }
    for (const struct tool_verb *w = v; w <= last; w++) {
        man_verb(to, w);
    }
    const struct tool_verb *fullest = v; /* one that asks a broker takes more */
    for (const struct tool_verb *w = v; w <= last; w++) {
        fullest = w->offline ? fullest : w;
    }
    fputs("# OPTIONS OF EVERY VERB\n\n", to);
    man_options(to, fullest, verb_common_options(fullest));
    man_topics(to, v, n);
    man_see_also(to);
    return true;
}

void man_list(FILE *to)
{
    fputs("rivulet\n", to);
    for (const struct tool_verb *v = verbs; v->name; v++) {
        if (is_first(v)) {
            fprintf(to, "rivulet-%.*s\n", (int)noun_size(v), v->name);
        }
    }
}

/* ---- docs/CLI.md ---- */

static void markdown_text(FILE *to, const char *text)
{
    for (const char *p = text; *p; p++) {
        if (strchr("*_<>[]\\|", *p)) {
            putc('\\', to);
        }
        putc(*p, to);
    }
}

static void markdown_options(FILE *to, const struct tool_verb *v, const char *letters)
{
    for (const char *p = letters; *p; p++) {
        const struct tool_option *o = option_of(v, *p);
        char left[128];
        option_left(o, left, sizeof left);
        fprintf(to, "- `%s`: ", left + strspn(left, " "));
        markdown_text(to, o->about);
        putc('\n', to);
    }
    putc('\n', to);
}

void man_markdown(FILE *to)
{
    fputs("# The command line\n\nMade from tools/verbs.c: `make docs`. `rivulet VERB --help` and "
          "the manual pages say "
          "the same.\n\n## Options of every verb\n\n",
          to);
    markdown_options(to, NULL, verb_common_options(NULL));
    for (const struct tool_verb *v = verbs; v->name; v++) {
        fprintf(to, "## rivulet %s%s%s\n\n%c", v->name, v->args[0] ? " " : "", v->args,
                toupper((unsigned char)v->about[0]));
        markdown_text(to, v->about + 1);
        fputs(".\n\n", to);
        if (v->more) {
            markdown_text(to, v->more);
            fputs("\n\n", to);
        }
        if (v->options[0]) {
            markdown_options(to, v, v->options);
        }
        if (v->json) {
            fputs("`--json` prints ", to);
            markdown_text(to, v->json);
            fputs(".\n\n", to);
        }
        if (v->examples) {
            help_lines(to, v->examples, "    ");
            putc('\n', to);
        }
    }
    for (const struct topic *topic = topics; topic->name; topic++) {
        fprintf(to, "## %c", topic->name[0]);
        for (const char *p = topic->name + 1; *p; p++) {
            putc(tolower((unsigned char)*p), to);
        }
        fputs("\n\n", to);
        markdown_text(to, topic->text);
        fputs(topic[1].name ? "\n\n" : "\n", to);
    }
}

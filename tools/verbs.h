/* verbs: the table of all verbs and options. The parser, --help, the manual pages, docs/CLI.md and
 * the completion of shells are made from it, and nothing else says what the command line is. */
#pragma once

#include "tools/tool.h"

enum option_form {
    OPTION_FLAG,  /* no value */
    OPTION_ONCE,  /* a value; the last one counts */
    OPTION_MANY,  /* values */
    OPTION_PAIRS, /* NAME=VALUE, as many as are given */
};

/* An option: one row, whatever verbs take it. A row with `of` says what it means to those verbs. */
struct tool_option {
    char letter;   /* its id; also its short form when is_short */
    bool is_short; /* -x may be written */
    enum option_form form;
    const char *name; /* long form, without -- */
    const char
        *value; /* what follows, for --help; its words in small letters are what may follow */
    const char *about; /* for --help */
    const char *of;    /* beginning of verbs' names; NULL: all others */
};

/* A verb: one row. */
struct tool_verb {
    const char *name;     /* "topic create" */
    const char *args;     /* for --help: "TOPIC"; for the completion too */
    int least, most;      /* arguments */
    const char *options;  /* letters of those it takes beside the ones that all take */
    bool offline;         /* needs no broker */
    const char *about;    /* one line, begins small, no full stop */
    const char *json;     /* what --json prints; NULL: there is none */
    const char *more;     /* paragraphs with an empty line between; NULL */
    const char *examples; /* lines; NULL */
    int (*run)(struct tool *t);
};

extern const struct tool_verb verbs[]; /* ends with a NULL name */

/* It goes on when the broker goes away, and so begins without one: a service manager may start both
 * at once. */
bool verb_is_patient(const struct tool_verb *v);
extern const struct tool_option
    options[]; /* likewise; rows with `of` stand before their general row */

/* NULL: there is none. The verb (NULL: any) decides about the text. */
const struct tool_option *option_of(const struct tool_verb *v, char letter);
const char *verb_common_options(
    const struct tool_verb *v); /* letters that it takes like all verbs */
bool verb_takes(const struct tool_verb *v, char letter);

/* The verb that one or two words name; *ret_words says how many. NULL: none. */
const struct tool_verb *verb_find(int count, char *const *words, int *ret_words);

/* ---- help.c: what is printed of the table ---- */

void help_verb(FILE *to, const struct tool_verb *v);
void help_all(FILE *to);
void help_noun(FILE *to, const char *noun); /* its verbs: "topic" */
/* One manual page as scdoc reads it: "rivulet", "rivulet-topic", ... False: there is no such page.
 */
bool man_page(FILE *to, const char *page);
void man_list(FILE *to);     /* the names of all pages */
void man_markdown(FILE *to); /* docs/CLI.md */

/* ---- complete.c ---- */

/* What may stand for the last of the words that follow `rivulet`: lines of WORD, a tab, what it is.
 */
int complete(struct tool *t, int count, char **words);

/* tool: what the verbs of the command line `rivulet` share: the parsed command line, the
 * connection, output for people and for programs, exit codes. One process, one thread; handed to
 * each verb. */
#pragma once

#include "base/str.h"
#include "client/rivulet.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

enum exit_code {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,      /* said why on standard error */
    EXIT_USAGE = 2,       /* the command line makes no sense */
    EXIT_UNREACHABLE = 3, /* no broker could be reached */
};

enum { TOOL_MANY_LIMIT = 64, TOOL_ARGS_LIMIT = 64, OPTION_LETTERS = 128 };

struct tool;

/* An option: one row, whatever verbs take it. */
struct tool_option {
    char letter;       /* its id; also its short form when is_short */
    bool is_short;     /* -x may be written */
    bool is_many;      /* may be given more than once */
    const char *name;  /* long form, without -- */
    const char *value; /* what follows, for --help; NULL: nothing */
    const char *about; /* for --help */
};

/* A verb: one row. */
struct tool_verb {
    const char *name;    /* "topic create" */
    const char *args;    /* for --help: "TOPIC" */
    int least, most;     /* arguments */
    const char *options; /* letters of those it takes beside the ones that all take */
    bool offline;        /* needs no broker */
    const char *about;   /* for --help: one line */
    int (*run)(struct tool *t);
};

struct tool {
    const struct tool_verb *verb;
    const char *args[TOOL_ARGS_LIMIT]; /* borrowed from the command line */
    int arg_count;
    const char *values[OPTION_LETTERS]; /* by letter; "" for one without a value; NULL: not given */
    const char *many[TOOL_MANY_LIMIT];  /* values of options that may be given often ... */
    char many_letters[TOOL_MANY_LIMIT]; /* ... and their letters */
    int many_count;
    const char *brokers; /* HOST:PORT,... */
    int timeout_ms;
    bool json;
    struct rv_option options[TOOL_MANY_LIMIT + 4]; /* for rv_*_open; ends with a NULL name */
    int option_count;
    char *names[TOOL_MANY_LIMIT]; /* owned; of the options that came with -X */
    int name_count;
    struct rv_client *client; /* NULL for verbs that need no broker */
};

static inline bool tool_has(const struct tool *t, char letter)
{
    return t->values[(unsigned char)letter] != NULL;
}

static inline const char *tool_value(const struct tool *t, char letter)
{
    return t->values[(unsigned char)letter];
}

/* Adds an option for rv_*_open. */
void tool_set(struct tool *t, const char *name, const char *value);

/* Says what failed, and what to do next where that is known. Returns the exit code. */
int tool_failed(const struct tool *t, const struct rv_error *e);
int tool_usage(const struct tool *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A whole number from an option's value. False: said so. */
bool tool_number(const struct tool *t, const char *what, const char *text, int64_t least,
                 int64_t most, int64_t *ret_value);

/* "2026-11-24T14:00:00Z" with offset or fraction, epoch milliseconds, "-2h" (d h m s ms before
 * now_ms). */
bool time_parse(struct str text, int64_t now_ms, int64_t *ret_ms);
enum { TIME_TEXT_SIZE = 32 };
void time_text(int64_t ms, char text[TIME_TEXT_SIZE]); /* RFC 3339, UTC, milliseconds */

/* ---- output ---- */

/* One object, one line; steals `object`. False: it could not be made or written. */
bool json_line(FILE *to, json_t *object);
/* A string; {"base64":"..."} when not UTF-8; null. */
json_t *json_bytes(struct rv_bytes b);
json_t *json_text(const char *text); /* NULL is null */
json_t *json_offset(int64_t offset); /* negative (not known) is null */

/* A table for people: columns as wide as what is in them. Numbers stand right. */
struct table {
    const char *const *heads; /* column_count of them; one that begins with '>' stands right */
    int column_count;
    char **cells; /* owned; row by row */
    size_t count; /* cells */
    size_t size;
};
void table_init(struct table *t, const char *const *heads, int column_count);
void table_add(struct table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
int table_print(struct table *t, FILE *to); /* and frees it; EXIT_DONE or EXIT_FAILED */

/* Ends standard output: EXIT_DONE, also when its reader has gone; EXIT_FAILED when it could not be
 * written. */
int output_end(int code);

/* ---- verbs ---- */

int verb_topic_create(struct tool *t);
int verb_topic_list(struct tool *t);
int verb_topic_describe(struct tool *t);
int verb_topic_delete(struct tool *t);
int verb_produce(struct tool *t);
int verb_consume(struct tool *t);
int verb_group_list(struct tool *t);
int verb_group_describe(struct tool *t);
int verb_bench_produce(struct tool *t);
int verb_bench_fetch(struct tool *t);
int verb_bench_latency(struct tool *t);
int verb_bench_commit(struct tool *t);
int verb_bench_connections(struct tool *t);
int verb_log_dump(struct tool *t);

/* The first `size` characters, 0-terminated; for mem_free. NULL: out of memory. */
char *tool_copy(const char *text, size_t size);

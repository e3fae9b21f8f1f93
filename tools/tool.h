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

enum {
    TOOL_MANY_LIMIT = 256,    /* -X, -c, -H, --file of one command line together */
    TOOL_ARGS_LIMIT = 64,     /* arguments of a verb */
    TOOL_OPTIONS_LIMIT = 512, /* of the client library */
    OPTION_LETTERS = 128,
};

struct tool_verb;

struct tool {
    const struct tool_verb *verb;
    const char *args[TOOL_ARGS_LIMIT]; /* borrowed from the command line */
    int arg_count;
    const char *values[OPTION_LETTERS]; /* by letter; "" for one without a value; NULL: not given */
    const char *many[TOOL_MANY_LIMIT];  /* values of options that may be given often ... */
    char many_letters[TOOL_MANY_LIMIT]; /* ... and their letters */
    int many_count;
    const char *brokers; /* HOST:PORT,...; one of options[] */
    int timeout_ms;
    bool json;
    struct rv_option options[TOOL_OPTIONS_LIMIT + 1]; /* for rv_*_open; ends with a NULL name */
    int option_count;
    char *texts[TOOL_OPTIONS_LIMIT]; /* owned; names and values that options[] borrows */
    int text_count;
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

/* Adds an option for rv_*_open, behind those that are there: the last one of a name counts. False:
 * there are too many. */
bool tool_set(struct tool *t, const char *name, const char *value);
/* The options that came with `letter`, a copy, ended by a NULL name: for mem_free, with the names
 * in it. NULL: out of memory, and said so. */
struct rv_option *tool_pairs(const struct tool *t, char letter, size_t *ret_count);
/* What an option of the library is here: given, or its default. */
const char *tool_option_value(const struct tool *t, const char *name);

/* Finds out the options of the client library: profile, environment, command line. */
int tool_options(struct tool *t);
/* A client with them; `brokers` (NULL: t->brokers) are asked once around whether they are there,
 * unless the verb is one that waits for them. */
int tool_connect(struct tool *t, const char *brokers, struct rv_client **ret_client);
/* profile.c: NAME.properties into t->options. `must` : it has to be there. */
int profile_read(struct tool *t, const char *name, bool must);

/* Says what failed, and what to do next where that is known. Returns the exit code. */
int tool_failed(const struct tool *t, const struct rv_error *e);
int tool_usage(const struct tool *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* One line on standard error, "rivulet: ..."; what stands behind a \n in it is what to do next. */
void tool_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* One line on standard output, folded at the window. */
void tool_print(const char *format, ...) __attribute__((format(printf, 1, 2)));
int tool_no_memory(void); /* says so */
/* EXIT_DONE with --yes, or when somebody at the terminal says yes to "`format`?". Else it has been
 * said that nothing was done, or that --yes is needed. */
int tool_confirm(const struct tool *t, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

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
/* What json_bytes makes, read back: borrowed of `v`, or in `scratch` (base64), which must have room
 * for it so that nothing moves. False: it is nothing of that. */
bool json_to_bytes(const json_t *v, struct buf *scratch, struct rv_bytes *ret_bytes);

/* A table for people: columns as wide as what is in them. Numbers stand right. On a terminal, texts
 * are cut to make it fit, and when that does not do, each row goes down the page. */
struct table {
    const char *const *heads; /* column_count of them; one that begins with '>' stands right */
    int column_count;
    char **cells; /* owned; row by row */
    size_t count; /* cells */
    size_t size;
    bool failed; /* no memory: table_print says so */
};
void table_init(struct table *t, const char *const *heads, int column_count);
void table_add(struct table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void table_add_offset(struct table *t, int64_t offset); /* negative (not known) is - */
int table_print(struct table *t, FILE *to);             /* and frees it; EXIT_DONE or EXIT_FAILED */

/* config.c: sets options of a topic or broker (a NULL value: the default); with --dry-run shows
 * before and after instead. */
int config_apply(struct tool *t, enum rv_resource type, const char *name,
                 const struct rv_option *changes);
const char *config_text(const struct rv_config *c); /* its value for people */

/* Ends standard output: EXIT_DONE, also when its reader has gone; EXIT_FAILED when it could not be
 * written. */
int output_end(int code);

/* ---- verbs ---- */

int verb_topic_create(struct tool *t);
int verb_topic_alter(struct tool *t);
int verb_topic_list(struct tool *t);
int verb_topic_describe(struct tool *t);
int verb_topic_delete(struct tool *t);
int verb_produce(struct tool *t);
int verb_consume(struct tool *t);
int verb_view(struct tool *t);
int verb_parked_list(struct tool *t);
int verb_parked_show(struct tool *t);
int verb_parked_send(struct tool *t);
int verb_group_list(struct tool *t);
int verb_group_describe(struct tool *t);
int verb_bench_produce(struct tool *t);
int verb_bench_fetch(struct tool *t);
int verb_bench_latency(struct tool *t);
int verb_bench_commit(struct tool *t);
int verb_bench_connections(struct tool *t);
int verb_group_seek(struct tool *t);
int verb_group_delete(struct tool *t);
int verb_config_list(struct tool *t);
int verb_config_get(struct tool *t);
int verb_config_set(struct tool *t);
int verb_config_unset(struct tool *t);
int verb_cluster_info(struct tool *t);
int verb_health(struct tool *t);
int verb_copy(struct tool *t);
int verb_completion(struct tool *t);
int verb_log_dump(struct tool *t);
int verb_log_check(struct tool *t);
int verb_log_repair(struct tool *t);
int verb_spool_show(struct tool *t);
int verb_spool_send(struct tool *t);
int verb_spool_retry(struct tool *t);

/* A program that is built without a database has no outbox. */
#if defined(RIVULET_SQLITE) || defined(RIVULET_POSTGRES)
#define TOOL_HAS_OUTBOX
int verb_outbox_init(struct tool *t);
int verb_outbox_show(struct tool *t);
int verb_outbox_run(struct tool *t);
int verb_outbox_retry(struct tool *t);
int verb_outbox_settle(struct tool *t);
#endif

/* The first `size` characters, 0-terminated; for mem_free. NULL: out of memory. */
char *tool_copy(const char *text, size_t size);

/* config: settings, as one table (config.def) and immutable snapshots of it.
 *
 * Merged over the defaults in this order: file (Kafka's server.properties form), RIVULET_* of the
 * environment, --set. A snapshot never changes after config_load; a reload makes another. `struct
 * topic_config` is a topic's settings, resolved: its own over the broker's. Plain values; any
 * thread may read a snapshot.
 */
#pragma once

#include "base/diag.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

struct config_pair {
    struct str name;  /* borrowed */
    struct str value; /* borrowed */
};

enum config_type {
    CONFIG_BOOL,
    CONFIG_INT,
    CONFIG_LONG,
    CONFIG_REAL,
    CONFIG_WORD,
    CONFIG_LIST,
    CONFIG_TEXT
};

/* Where a value came from; a later one wins. */
enum config_source { CONFIG_DEFAULT, CONFIG_FILE, CONFIG_ENVIRONMENT, CONFIG_FLAG, CONFIG_TOPIC };

enum config_row_id {
#define BROKER_INT(field, name, def, min, max, dynamic, unit, doc)   CONFIG_ROW_##field,
#define BROKER_BOOL(field, name, def, dynamic, doc)                  CONFIG_ROW_##field,
#define BROKER_TEXT(field, name, def, rule, doc)                     CONFIG_ROW_##field,
#define TOPIC_INT(field, name, topic_name, def, min, max, unit, doc) CONFIG_ROW_##field,
#define TOPIC_BOOL(field, name, topic_name, def, doc)                CONFIG_ROW_##field,
#define TOPIC_REAL(field, name, topic_name, def, min, max, doc)      CONFIG_ROW_##field,
#define TOPIC_WORD(field, name, topic_name, def, words, doc)         CONFIG_ROW_##field,
#define TOPIC_LIST(field, name, topic_name, def, words, doc)         CONFIG_ROW_##field,
#define ALIAS(name, target, factor, doc)
#define IGNORED(name)
#include "broker/config.def"
#include "broker/config_undef.h"
    CONFIG_ROW_COUNT
};

struct config_row {
    const char *name;       /* the broker's */
    const char *topic_name; /* NULL: not a topic's setting */
    enum config_type type;
    const char *def_text; /* the default of words, lists and texts */
    int64_t def_number;   /* the default of numbers and booleans */
    double def_real;      /* the default of reals */
    int64_t min;          /* of numbers */
    int64_t max;
    bool dynamic;      /* SIGHUP changes it */
    const char *unit;  /* "" where it is plain */
    const char *words; /* of words and lists: "a|b|c" */
    const char *doc;
    bool (*rule)(struct str value, struct buf *why); /* of texts; NULL: anything */
    size_t offset; /* of the field in struct config; the same name is in struct topic_config */
    size_t topic_offset; /* of the field in struct topic_config */
};

extern const struct config_row config_rows[CONFIG_ROW_COUNT];

struct config_origin {
    enum config_source source;
    char *where;    /* owned: "FILE:LINE", the variable's or the flag's name; NULL for defaults */
    int64_t coarse; /* the alias factor it was given in; the finer one wins within a source */
};

struct config {
    int refs; /* config_ref, config_unref: the loop's thread */
#define BROKER_INT(field, name, def, min, max, dynamic, unit, doc)   int64_t field;
#define BROKER_BOOL(field, name, def, dynamic, doc)                  bool field;
#define BROKER_TEXT(field, name, def, rule, doc)                     char *field; /* owned */
#define TOPIC_INT(field, name, topic_name, def, min, max, unit, doc) int64_t field;
#define TOPIC_BOOL(field, name, topic_name, def, doc)                bool field;
#define TOPIC_REAL(field, name, topic_name, def, min, max, doc)      double field;
#define TOPIC_WORD(field, name, topic_name, def, words, doc)         char *field; /* owned */
#define TOPIC_LIST(field, name, topic_name, def, words, doc)         char *field; /* owned */
#define ALIAS(name, target, factor, doc)
#define IGNORED(name)
#include "broker/config.def"
#include "broker/config_undef.h"
    struct config_origin origins[CONFIG_ROW_COUNT];
    struct buf ignored; /* names of Kafka's settings that were given and mean nothing here, ", "
                           between them */
};

struct config_input {
    const char *file;               /* NULL: none */
    const char *const *environment; /* "NAME=value" strings, NULL ends them; NULL: none */
    const char *const *sets;        /* "key=value" of --set, in order */
    int set_count;
};

/* ERR_INVALID: `why` says where (FILE:LINE, variable, --set), what, and the nearest known name.
 * Also ERR_NOT_FOUND / ERR_IO for the file. The caller owns one reference. Files are read by
 * `read_file` (the daemon's reads a path; tests hand in texts). */
err config_load(const struct config_input *input,
                err (*read_file)(const char *path, struct buf *out), struct buf *why,
                struct config **ret_config);
struct config *config_ref(struct config *c);
void config_unref(struct config *c); /* takes NULL */

/* Settings that differ between two snapshots and are not dynamic keep the old value: their names go
 * to `kept`. */
void config_keep_static(struct config *fresh, const struct config *old, struct buf *kept);

void config_value_text(const struct config *c, enum config_row_id row, struct buf *out);
void config_default_text(enum config_row_id row, struct buf *out);
void config_print(const struct config *c,
                  struct buf *out);      /* --print-config: name=value  # source */
void config_print_docs(struct buf *out); /* docs/CONFIG.md */
int config_find(struct str name);        /* row of a broker's setting; -1 */
int config_find_topic(struct str name);  /* row of a topic's setting; -1 */
const char *config_nearest(struct str name,
                           bool topic); /* the known name most like it; NULL when none is near */
const char *config_source_name(enum config_source source);

/* Addresses of `listeners` and `advertised.listeners`: [NAME://]HOST:PORT, with commas between
 * them. The listener CONTROLLER of Kafka's stock file is left out. */
struct config_endpoint {
    char host[256]; /* without brackets; "" = all addresses */
    uint16_t port;
};
enum { CONFIG_ENDPOINTS_MAX = 16 };
err config_parse_endpoints(struct str text, struct config_endpoint endpoints[CONFIG_ENDPOINTS_MAX],
                           int *ret_count, struct buf *why);

/* ---- a topic's settings */

enum config_cleanup { CONFIG_CLEANUP_DELETE = 1, CONFIG_CLEANUP_COMPACT = 2 };

struct topic_config {
#define BROKER_INT(field, name, def, min, max, dynamic, unit, doc)
#define BROKER_BOOL(field, name, def, dynamic, doc)
#define BROKER_TEXT(field, name, def, rule, doc)
#define TOPIC_INT(field, name, topic_name, def, min, max, unit, doc) int64_t field;
#define TOPIC_BOOL(field, name, topic_name, def, doc)                bool field;
#define TOPIC_REAL(field, name, topic_name, def, min, max, doc)      double field;
#define TOPIC_WORD(field, name, topic_name, def, words, doc)         char *field; /* owned */
#define TOPIC_LIST(field, name, topic_name, def, words, doc)         char *field; /* owned */
#define ALIAS(name, target, factor, doc)
#define IGNORED(name)
#include "broker/config.def"
#include "broker/config_undef.h"
    unsigned cleanup; /* enum config_cleanup bits of cleanup_policy */
    bool append_time; /* timestamp_type is LogAppendTime */
    int codec; /* of compression_type: -1 as it comes, else the number in a batch's attributes */
    struct config_pair *pairs; /* owned, bytes in the same block: the topic's own settings */
    int32_t pair_count;
    bool own[CONFIG_ROW_COUNT]; /* which rows are the topic's own */
};

/* ERR_INVALID with `why`: an unknown name, a bad value, or a name given twice. The broker aborts
 * when memory is out. */
err topic_config_create(const struct config *c, const struct config_pair *pairs, int32_t count,
                        struct buf *why, struct topic_config **ret_config);

/* As create, for what was accepted once: what this build refuses is logged and left out. Never
 * fails. */
struct topic_config *topic_config_restore(const struct config *c, const struct config_pair *pairs,
                                          int32_t count, const struct diag *diag);
struct config_pair *config_pairs_copy(const struct config_pair *pairs,
                                      int32_t count); /* one block, for mem_free */
void topic_config_destroy(struct topic_config *t);    /* takes NULL */
const struct config_pair *topic_config_overrides(const struct topic_config *t, int32_t *ret_count);
void topic_config_value_text(const struct topic_config *t, enum config_row_id row, struct buf *out);
err topic_config_check(int row, struct str value, struct buf *why); /* one value alone */

/* The table, and how values get into a snapshot: defaults < file < environment < --set. The form of
 * a file: config_file.c.
 */
#include "broker/config.h"

#include "base/check.h"
#include "base/mem.h"
#include "broker/config_value.h"

#include <stdlib.h>

const struct config_row config_rows[CONFIG_ROW_COUNT] = {
#define BROKER_INT(field, name, def, min, max, dynamic, unit, doc)                                 \
    {name,                                                                                         \
     NULL,                                                                                         \
     (max) > INT32_MAX ? CONFIG_LONG : CONFIG_INT,                                                 \
     NULL,                                                                                         \
     def,                                                                                          \
     0,                                                                                            \
     min,                                                                                          \
     max,                                                                                          \
     dynamic,                                                                                      \
     unit,                                                                                         \
     NULL,                                                                                         \
     doc,                                                                                          \
     NULL,                                                                                         \
     offsetof(struct config, field),                                                               \
     0},
#define BROKER_BOOL(field, name, def, dynamic, doc)                                                \
    {name, NULL,    CONFIG_BOOL, NULL, def, 0,    0,                                               \
     1,    dynamic, "",          NULL, doc, NULL, offsetof(struct config, field),                  \
     0},
#define BROKER_TEXT(field, name, def, rule, doc)                                                   \
    {name,                                                                                         \
     NULL,                                                                                         \
     CONFIG_TEXT,                                                                                  \
     def,                                                                                          \
     0,                                                                                            \
     0,                                                                                            \
     0,                                                                                            \
     0,                                                                                            \
     false,                                                                                        \
     "",                                                                                           \
     NULL,                                                                                         \
     doc,                                                                                          \
     config_##rule,                                                                                \
     offsetof(struct config, field),                                                               \
     0},
#define TOPIC_INT(field, name, topic_name, def, min, max, unit, doc)                               \
    {name,                                                                                         \
     topic_name,                                                                                   \
     (max) > INT32_MAX ? CONFIG_LONG : CONFIG_INT,                                                 \
     NULL,                                                                                         \
     def,                                                                                          \
     0,                                                                                            \
     min,                                                                                          \
     max,                                                                                          \
     true,                                                                                         \
     unit,                                                                                         \
     NULL,                                                                                         \
     doc,                                                                                          \
     NULL,                                                                                         \
     offsetof(struct config, field),                                                               \
     offsetof(struct topic_config, field)},
#define TOPIC_BOOL(field, name, topic_name, def, doc)                                              \
    {name,                                                                                         \
     topic_name,                                                                                   \
     CONFIG_BOOL,                                                                                  \
     NULL,                                                                                         \
     def,                                                                                          \
     0,                                                                                            \
     0,                                                                                            \
     1,                                                                                            \
     true,                                                                                         \
     "",                                                                                           \
     NULL,                                                                                         \
     doc,                                                                                          \
     NULL,                                                                                         \
     offsetof(struct config, field),                                                               \
     offsetof(struct topic_config, field)},
#define TOPIC_REAL(field, name, topic_name, def, min, max, doc)                                    \
    {name,                                                                                         \
     topic_name,                                                                                   \
     CONFIG_REAL,                                                                                  \
     NULL,                                                                                         \
     0,                                                                                            \
     def,                                                                                          \
     min,                                                                                          \
     max,                                                                                          \
     true,                                                                                         \
     "",                                                                                           \
     NULL,                                                                                         \
     doc,                                                                                          \
     NULL,                                                                                         \
     offsetof(struct config, field),                                                               \
     offsetof(struct topic_config, field)},
#define TOPIC_WORD(field, name, topic_name, def, words, doc)                                       \
    {name,                                                                                         \
     topic_name,                                                                                   \
     CONFIG_WORD,                                                                                  \
     def,                                                                                          \
     0,                                                                                            \
     0,                                                                                            \
     0,                                                                                            \
     0,                                                                                            \
     true,                                                                                         \
     "",                                                                                           \
     words,                                                                                        \
     doc,                                                                                          \
     NULL,                                                                                         \
     offsetof(struct config, field),                                                               \
     offsetof(struct topic_config, field)},
#define TOPIC_LIST(field, name, topic_name, def, words, doc)                                       \
    {name,                                                                                         \
     topic_name,                                                                                   \
     CONFIG_LIST,                                                                                  \
     def,                                                                                          \
     0,                                                                                            \
     0,                                                                                            \
     0,                                                                                            \
     0,                                                                                            \
     true,                                                                                         \
     "",                                                                                           \
     words,                                                                                        \
     doc,                                                                                          \
     NULL,                                                                                         \
     offsetof(struct config, field),                                                               \
     offsetof(struct topic_config, field)},
#define ALIAS(name, target, factor, doc)
#define IGNORED(name)
#include "broker/config.def"
#include "broker/config_undef.h"
};

struct alias {
    const char *name;
    const char *target;
    int64_t factor;
};

static const struct alias aliases[] = {
#define BROKER_INT(field, name, def, min, max, dynamic, unit, doc)
#define BROKER_BOOL(field, name, def, dynamic, doc)
#define BROKER_TEXT(field, name, def, rule, doc)
#define TOPIC_INT(field, name, topic_name, def, min, max, unit, doc)
#define TOPIC_BOOL(field, name, topic_name, def, doc)
#define TOPIC_REAL(field, name, topic_name, def, min, max, doc)
#define TOPIC_WORD(field, name, topic_name, def, words, doc)
#define TOPIC_LIST(field, name, topic_name, def, words, doc)
#define ALIAS(name, target, factor, doc) {name, target, factor},
#define IGNORED(name)
#include "broker/config.def"
#include "broker/config_undef.h"
};

static const char *const ignored[] = {
#define BROKER_INT(field, name, def, min, max, dynamic, unit, doc)
#define BROKER_BOOL(field, name, def, dynamic, doc)
#define BROKER_TEXT(field, name, def, rule, doc)
#define TOPIC_INT(field, name, topic_name, def, min, max, unit, doc)
#define TOPIC_BOOL(field, name, topic_name, def, doc)
#define TOPIC_REAL(field, name, topic_name, def, min, max, doc)
#define TOPIC_WORD(field, name, topic_name, def, words, doc)
#define TOPIC_LIST(field, name, topic_name, def, words, doc)
#define ALIAS(name, target, factor, doc)
#define IGNORED(name) name,
#include "broker/config.def"
#include "broker/config_undef.h"
};

enum {
    ALIAS_COUNT = sizeof aliases / sizeof *aliases,
    IGNORED_COUNT = sizeof ignored / sizeof *ignored,
    NAME_SIZE = 96, /* longer than any known name */
};

int config_find(struct str name)
{
    for (int i = 0; i < CONFIG_ROW_COUNT; i++) {
        if (str_eq(name, str_of(config_rows[i].name))) {
            return i;
        }
    }
    return -1;
}

int config_find_topic(struct str name)
{
    for (int i = 0; i < CONFIG_ROW_COUNT; i++) {
        if (config_rows[i].topic_name && str_eq(name, str_of(config_rows[i].topic_name))) {
            return i;
        }
    }
    return -1;
}

/* Edits (insert, remove, change) that make a of b; names are short. */
static size_t edit_distance(struct str a, struct str b)
{
    size_t row[NAME_SIZE + 1];
    if (a.len > NAME_SIZE || b.len > NAME_SIZE) {
        return SIZE_MAX;
    }
    for (size_t j = 0; j <= b.len; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a.len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t change = diagonal + (a.ptr[i - 1] != b.ptr[j - 1]);
            diagonal = row[j];
            size_t least = row[j] < row[j - 1] ? row[j] : row[j - 1];
            row[j] = change < least + 1 ? change : least + 1;
        }
    }
    return row[b.len];
}

struct nearest {
    struct str name;
    const char *best;
    size_t best_distance;
};

static void consider(struct nearest *n, const char *known)
{
    size_t distance = known ? edit_distance(n->name, str_of(known)) : SIZE_MAX;
    if (distance < n->best_distance) {
        n->best = known;
        n->best_distance = distance;
    }
}

const char *config_nearest(struct str name, bool topic)
{
    struct nearest n = {.name = name, .best_distance = name.len / 3 + 2};
    for (int i = 0; i < CONFIG_ROW_COUNT; i++) {
        const char *own = config_rows[i].name;
        if (topic) {
            consider(&n, config_rows[i].topic_name);
        } else if (strncmp(own, "rivulet.", 8) == 0 && str_eq(name, str_of(own + 8))) {
            return own;
        } else {
            consider(&n, own);
        }
    }
    for (int i = 0; !topic && i < ALIAS_COUNT; i++) {
        consider(&n, aliases[i].name);
    }
    return n.best;
}

const char *config_source_name(enum config_source source)
{
    static const char *const names[] = {"default", "file", "environment", "flag", "topic"};
    return names[source];
}

/* ---- loading */

struct loader {
    struct config *config;
    struct buf *why;
    enum config_source source;
};

/* Once, however often it was given. */
static void set_ignored(struct config *c, struct str name)
{
    for (const char *at = buf_text(&c->ignored); *at;) {
        size_t len = strcspn(at, ",");
        if (str_eq(name, (struct str){.ptr = at, .len = len})) {
            return;
        }
        at += len;
        at += *at ? 2 : 0;
    }
    if (c->ignored.len) {
        buf_add_str(&c->ignored, STR(", "));
    }
    buf_add_str(&c->ignored, name);
}

/* A number in a coarser unit, in the setting's own. */
static err scale(struct str value, int64_t factor, char text[24], struct str *ret_value)
{
    int64_t number;
    err e = str_to_int64(value, &number);
    if (e != OK) {
        return e;
    }
    if (number > 0 && __builtin_mul_overflow(number, factor, &number)) {
        return ERR_RANGE;
    }
    struct buf b = {0};
    buf_printf(&b, "%lld", (long long)number);
    memcpy(text, buf_text(&b), b.len + 1);
    *ret_value = (struct str){.ptr = text, .len = b.len};
    buf_finish(&b);
    return OK;
}

static err unknown(struct loader *l, struct str name, const char *where)
{
    char escaped[DIAG_ESCAPED_SIZE];
    const char *near = config_nearest(name, false);
    int topic = config_find_topic(name);
    if (topic >= 0) {
        near =
            config_rows[topic].name; /* a topic's name for it: the broker's default has another */
    }
    buf_printf(l->why, "%s: unknown setting %s", where, diag_escape(name, escaped));
    if (near) {
        buf_printf(l->why, "; did you mean %s?", near);
    }
    return ERR_INVALID;
}

/* The row of a setting or of another name for it; -1. */
static int find_row(struct str name, int64_t *ret_factor)
{
    int row = config_find(name);
    *ret_factor = 1;
    for (int i = 0; row < 0 && i < ALIAS_COUNT; i++) {
        if (str_eq(name, str_of(aliases[i].name))) {
            row = config_find(str_of(aliases[i].target));
            *ret_factor = aliases[i].factor;
            check(row >= 0);
        }
    }
    return row;
}

static bool is_ignored(struct str name)
{
    for (int i = 0; i < IGNORED_COUNT; i++) {
        if (str_eq(name, str_of(ignored[i]))) {
            return true;
        }
    }
    return false;
}

/* `hidden`: it was given in a finer unit already, which counts; but it must be good all the same.
 */
static err set_row(struct config *c, int row, struct str value, int64_t factor, bool hidden,
                   struct buf *why)
{
    char number[24];
    if (factor != 1 && scale(value, factor, number, &value) != OK) {
        buf_printf(why, "not a number in range");
        return ERR_INVALID;
    }
    return hidden ? topic_config_check(row, value, why)
                  : config_value_set(&config_rows[row], (char *)c + config_rows[row].offset, value,
                                     why);
}

static err set(void *ctx, struct str name, struct str value, const char *where)
{
    struct loader *l = ctx;
    int64_t factor;
    int row = find_row(name, &factor);
    if (row < 0 && is_ignored(name)) {
        set_ignored(l->config, name);
        return OK;
    }
    if (row < 0) {
        return unknown(l, name, where);
    }
    struct config_origin *origin = &l->config->origins[row];
    bool hidden = origin->source == l->source && factor > origin->coarse;
    struct buf why = {0};
    err e = set_row(l->config, row, value, factor, hidden, &why);
    if (e != OK) {
        char escaped[DIAG_ESCAPED_SIZE];
        buf_printf(l->why, "%s: %.*s=%s: %s", where, STR_ARG(name), diag_escape(value, escaped),
                   buf_text(&why));
    } else if (!hidden) {
        mem_free(origin->where);
        *origin = (struct config_origin){
            .source = l->source, .where = mem_need_dup(where, strlen(where) + 1), .coarse = factor};
    }
    buf_finish(&why);
    return e;
}

/* RIVULET_LOG_RETENTION_MS is log.retention.ms. Names with an own prefix keep it:
 * RIVULET_RIVULET_TOPICS_MAX, or RIVULET_TOPICS_MAX. */
static bool environment_name_matches(const char *variable, size_t len, const char *known)
{
    size_t i = 0;
    for (; i < len && known[i]; i++) {
        char c = known[i] == '.' ? '_' : known[i];
        if (c >= 'a' && c <= 'z') {
            c = (char)(c - 'a' + 'A');
        }
        if (variable[i] != c) {
            return false;
        }
    }
    return i == len && !known[i];
}

static const char *environment_name(const char *variable, size_t len)
{
    for (int i = 0; i < CONFIG_ROW_COUNT; i++) {
        const char *name = config_rows[i].name;
        if (environment_name_matches(variable, len, name)) {
            return name;
        }
        if (strncmp(name, "rivulet.", 8) == 0 &&
            environment_name_matches(variable, len, name + 8)) {
            return name;
        }
    }
    for (int i = 0; i < ALIAS_COUNT; i++) {
        if (environment_name_matches(variable, len, aliases[i].name)) {
            return aliases[i].name;
        }
    }
    for (int i = 0; i < IGNORED_COUNT; i++) {
        if (environment_name_matches(variable, len, ignored[i])) {
            return ignored[i];
        }
    }
    return NULL;
}

static err load_environment(struct loader *l, const char *const *environment)
{
    static const char prefix[] = "RIVULET_";
    for (; *environment; environment++) {
        const char *entry = *environment;
        const char *equals = strchr(entry, '=');
        if (!equals || strncmp(entry, prefix, sizeof prefix - 1) != 0) {
            continue;
        }
        const char *variable = entry + sizeof prefix - 1;
        size_t len = (size_t)(equals - variable);
        if (len == 7 && memcmp(variable, "BROKERS", 7) == 0) {
            continue; /* the command line's, not the daemon's */
        }
        const char *name = environment_name(variable, len);
        struct buf where = {0};
        buf_printf(&where, "environment variable %.*s", (int)(equals - entry), entry);
        err e;
        if (name) {
            e = set(l, str_of(name), str_of(equals + 1), buf_text(&where));
        } else {
            struct buf guess = {0};
            for (size_t i = 0; i < len; i++) {
                char c = variable[i] == '_' ? '.' : variable[i];
                buf_printf(&guess, "%c", c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
            }
            e = unknown(l, str_of(buf_text(&guess)), buf_text(&where));
            buf_finish(&guess);
        }
        buf_finish(&where);
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

static err load_sets(struct loader *l, const char *const *sets, int count)
{
    for (int i = 0; i < count; i++) {
        const char *equals = strchr(sets[i], '=');
        if (!equals) {
            char escaped[DIAG_ESCAPED_SIZE];
            buf_printf(l->why, "--set %s: no '='; it takes key=value",
                       diag_escape(str_of(sets[i]), escaped));
            return ERR_INVALID;
        }
        struct str name =
            config_trim((struct str){.ptr = sets[i], .len = (size_t)(equals - sets[i])});
        err e = set(l, name, config_trim(str_of(equals + 1)), "--set");
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

static err check_together(const struct config *c, struct buf *why)
{
    if (c->group_min_session_timeout_ms > c->group_max_session_timeout_ms) {
        buf_printf(
            why, "group.min.session.timeout.ms=%lld is above group.max.session.timeout.ms=%lld",
            (long long)c->group_min_session_timeout_ms, (long long)c->group_max_session_timeout_ms);
        return ERR_INVALID;
    }
    if (strstr(c->cleanup_policy, "compact")) {
        buf_printf(why,
                   "log.cleanup.policy=%s: there is no compaction yet; use delete, or leave "
                   "it empty",
                   c->cleanup_policy);
        return ERR_INVALID;
    }
    if (c->request_max_bytes > c->memory_max_bytes) {
        buf_printf(why, "socket.request.max.bytes=%lld is above rivulet.memory.max.bytes=%lld",
                   (long long)c->request_max_bytes, (long long)c->memory_max_bytes);
        return ERR_INVALID;
    }
    return OK;
}

err config_load(const struct config_input *input,
                err (*read_file)(const char *path, struct buf *out), struct buf *why,
                struct config **ret_config)
{
    struct config *c = mem_need_zero(1, sizeof *c);
    struct loader l = {.config = c, .why = why, .source = CONFIG_FILE};
    struct buf text = {0};
    err e = OK;
    c->refs = 1;
    for (int i = 0; i < CONFIG_ROW_COUNT; i++) {
        config_value_default(&config_rows[i], (char *)c + config_rows[i].offset);
    }
    if (input->file) {
        e = read_file(input->file, &text);
        if (e != OK) {
            buf_printf(why, "%s: cannot be read: %s", input->file, err_text(e));
        } else {
            struct str whole = {.ptr = buf_text(&text), .len = text.len};
            e = config_read_properties(input->file, whole, set, &l, why);
        }
        buf_finish(&text);
    }
    if (e == OK && input->environment) {
        l.source = CONFIG_ENVIRONMENT;
        e = load_environment(&l, input->environment);
    }
    if (e == OK) {
        l.source = CONFIG_FLAG;
        e = load_sets(&l, input->sets, input->set_count);
    }
    e = e == OK ? check_together(c, why) : e;
    if (e != OK) {
        config_unref(c);
        return e;
    }
    *ret_config = c;
    return OK;
}

struct config *config_ref(struct config *c)
{
    c->refs++;
    return c;
}

void config_unref(struct config *c)
{
    if (!c || --c->refs > 0) {
        return;
    }
    for (int i = 0; i < CONFIG_ROW_COUNT; i++) {
        config_value_free(&config_rows[i], (char *)c + config_rows[i].offset);
        mem_free(c->origins[i].where);
    }
    buf_finish(&c->ignored);
    mem_free(c);
}

void config_keep_static(struct config *fresh, const struct config *old, struct buf *kept)
{
    for (int i = 0; i < CONFIG_ROW_COUNT; i++) {
        const struct config_row *row = &config_rows[i];
        struct buf was = {0}, is = {0};
        if (row->dynamic) {
            continue;
        }
        config_value_text(old, (enum config_row_id)i, &was);
        config_value_text(fresh, (enum config_row_id)i, &is);
        if (strcmp(buf_text(&was), buf_text(&is)) != 0) {
            struct buf why = {0};
            err e =
                config_value_set(row, (char *)fresh + row->offset, str_of(buf_text(&was)), &why);
            check(e == OK); /* it was accepted before */
            buf_finish(&why);
            const struct config_origin *from = &old->origins[i];
            mem_free(fresh->origins[i].where);
            fresh->origins[i] = *from;
            fresh->origins[i].where =
                from->where ? mem_need_dup(from->where, strlen(from->where) + 1) : NULL;
            buf_printf(kept, "%s%s", kept->len ? ", " : "", row->name);
        }
        buf_finish(&was);
        buf_finish(&is);
    }
}

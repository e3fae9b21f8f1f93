/* A topic's settings: the broker's, with the topic's own over them. */
#include "base/check.h"
#include "base/mem.h"
#include "broker/config_value.h"

static void derive(struct topic_config *t)
{
    static const char *const codecs[] = {"uncompressed", "gzip", "snappy", "lz4", "zstd"};
    t->cleanup = (strstr(t->cleanup_policy, "delete") ? CONFIG_CLEANUP_DELETE : 0u) |
                 (strstr(t->cleanup_policy, "compact") ? CONFIG_CLEANUP_COMPACT : 0u);
    t->append_time = strcmp(t->timestamp_type, "LogAppendTime") == 0;
    t->codec = -1;
    for (int i = 0; i < (int)(sizeof codecs / sizeof *codecs); i++) {
        if (strcmp(t->compression_type, codecs[i]) == 0) {
            t->codec = i;
        }
    }
}

/* One block: the pairs, and behind them the bytes of their names and values. */
struct config_pair *config_pairs_copy(const struct config_pair *pairs, int32_t count)
{
    size_t size = (size_t)count * sizeof *pairs;
    for (int32_t i = 0; i < count; i++) {
        size += pairs[i].name.len + pairs[i].value.len;
    }
    struct config_pair *copy = mem_need(size);
    char *to = (char *)(copy + count);
    for (int32_t i = 0; i < count; i++) {
        const struct str *from[] = {&pairs[i].name, &pairs[i].value};
        struct str *into[] = {&copy[i].name, &copy[i].value};
        for (int k = 0; k < 2; k++) {
            *into[k] = (struct str){.ptr = to, .len = from[k]->len};
            if (from[k]->len) {
                memcpy(to, from[k]->ptr, from[k]->len);
            }
            to += from[k]->len;
        }
    }
    return copy;
}

static err set_own(struct topic_config *t, struct config_pair pair, struct buf *why)
{
    char escaped[DIAG_ESCAPED_SIZE];
    int row = config_find_topic(pair.name);
    if (row < 0) {
        const char *near = config_nearest(pair.name, true);
        buf_printf(why, "unknown topic setting %s", diag_escape(pair.name, escaped));
        if (near) {
            buf_printf(why, "; did you mean %s?", near);
        }
        return ERR_INVALID;
    }
    if (t->own[row]) {
        buf_printf(why, "%s is given twice", config_rows[row].topic_name);
        return ERR_INVALID;
    }
    struct buf reason = {0};
    err e = !pair.value.ptr
                ? ERR_INVALID
                : config_value_set(&config_rows[row], (char *)t + config_rows[row].topic_offset,
                                   pair.value, &reason);
    if (e != OK) {
        buf_printf(why, "%s=%s: %s", config_rows[row].topic_name, diag_escape(pair.value, escaped),
                   pair.value.ptr ? buf_text(&reason) : "no value");
    }
    buf_finish(&reason);
    t->own[row] = e == OK;
    return e;
}

static struct topic_config *from_broker(const struct config *c)
{
    struct topic_config *t = mem_need_zero(1, sizeof *t);
    for (int i = 0; i < CONFIG_ROW_COUNT; i++) {
        const struct config_row *row = &config_rows[i];
        if (row->topic_name) {
            config_value_copy(row, (char *)t + row->topic_offset, (const char *)c + row->offset);
        }
    }
    return t;
}

err topic_config_create(const struct config *c, const struct config_pair *pairs, int32_t count,
                        struct buf *why, struct topic_config **ret_config)
{
    struct topic_config *t = from_broker(c);
    for (int32_t i = 0; i < count; i++) {
        err e = set_own(t, pairs[i], why);
        if (e != OK) {
            topic_config_destroy(t);
            return e;
        }
    }
    t->pairs = config_pairs_copy(pairs, count);
    t->pair_count = count;
    derive(t);
    *ret_config = t;
    return OK;
}

struct topic_config *topic_config_restore(const struct config *c, const struct config_pair *pairs,
                                          int32_t count, const struct diag *diag)
{
    struct topic_config *t = from_broker(c);
    t->pairs = config_pairs_copy(pairs, count);
    for (int32_t i = 0; i < count; i++) {
        struct buf why = {0};
        if (set_own(t, t->pairs[i], &why) == OK) {
            t->pairs[t->pair_count++] = t->pairs[i];
        } else {
            char text[DIAG_QUOTED_SIZE];
            diag_log(diag, DIAG_WARN, "topic_setting_dropped", "why=%s",
                     diag_quote(buf_text(&why), text));
        }
        buf_finish(&why);
    }
    derive(t);
    return t;
}

void topic_config_destroy(struct topic_config *t)
{
    if (!t) {
        return;
    }
    for (int i = 0; i < CONFIG_ROW_COUNT; i++) {
        if (config_rows[i].topic_name) {
            config_value_free(&config_rows[i], (char *)t + config_rows[i].topic_offset);
        }
    }
    mem_free(t->pairs);
    mem_free(t);
}

const struct config_pair *topic_config_overrides(const struct topic_config *t, int32_t *ret_count)
{
    *ret_count = t->pair_count;
    return t->pairs;
}

void topic_config_value_text(const struct topic_config *t, enum config_row_id row, struct buf *out)
{
    check(config_rows[row].topic_name);
    config_value_print(&config_rows[row], (const char *)t + config_rows[row].topic_offset, out);
}

err topic_config_check(int row, struct str value, struct buf *why)
{
    union {
        bool b;
        int64_t i;
        double r;
        char *t;
    } scratch = {.t = NULL};
    err e = config_value_set(&config_rows[row], &scratch, value, why);
    if (e == OK) {
        config_value_free(&config_rows[row], &scratch);
    }
    return e;
}

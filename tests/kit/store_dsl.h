/* Shorthand of the store's tests: operations that must succeed, by path, asserting on the way. */
#pragma once

#include "broker/store/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h> /* needs the above */

static inline struct store_file *open_file(struct store *s, const char *path, enum store_open how)
{
    struct store_file *file = NULL;
    assert_int_equal(s->ops->open(s->ctx, path, how, &file), OK);
    return file;
}

static inline err open_error(struct store *s, const char *path, enum store_open how)
{
    struct store_file *file = NULL;
    err e = s->ops->open(s->ctx, path, how, &file);
    if (!e) {
        s->ops->close(s->ctx, file);
    }
    return e;
}

static inline void close_file(struct store *s, struct store_file *file)
{
    s->ops->close(s->ctx, file);
}

static inline err write_at(struct store *s, struct store_file *file, int64_t position,
                           const char *text)
{
    char copy[512];
    size_t size = strlen(text);
    assert_true(size <= sizeof copy);
    memcpy(copy, text, size);
    const struct iovec part = {.iov_base = copy, .iov_len = size};
    return s->ops->write(s->ctx, file, &part, 1, position);
}

static inline void put_file(struct store *s, const char *path, const char *text) /* not synced */
{
    struct store_file *file = open_file(s, path, STORE_CREATE);
    assert_int_equal(s->ops->truncate(s->ctx, file, 0), OK);
    assert_int_equal(write_at(s, file, 0, text), OK);
    close_file(s, file);
}

static inline void assert_file(struct store *s, const char *path, const char *text)
{
    struct buf b = {0};
    assert_int_equal(store_read_file(s, path, 1 << 20, &b), OK);
    assert_int_equal(b.len, strlen(text));
    assert_string_equal(buf_text(&b), text);
    buf_finish(&b);
}

static inline void append_name(void *arg, const struct store_entry *entry)
{
    buf_printf(arg, "%.*s%s ", STR_ARG(entry->name), entry->is_dir ? "/" : "");
}

static inline void assert_list(struct store *s, const char *path, const char *names) /* "a b/ " */
{
    struct buf b = {0};
    assert_int_equal(s->ops->list(s->ctx, path, append_name, &b), OK);
    assert_string_equal(buf_text(&b), names);
    buf_finish(&b);
}

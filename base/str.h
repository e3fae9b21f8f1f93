/* str: borrowed slices of text and bytes, and one growable buffer.
 *
 * `struct str` and `struct bytes` own nothing. ptr NULL is "null" as on Kafka's wire; an empty one
 * has a pointer and size 0.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
    const char *ptr; /* borrowed, not terminated; NULL is null */
    size_t len;      /* bytes */
};

struct bytes {
    const uint8_t *ptr; /* borrowed; NULL is null */
    size_t len;         /* bytes */
};

struct uuid {
    uint8_t b[16]; /* big-endian, as on the wire; all zero is none */
};

#define STR(literal) ((struct str){.ptr = "" literal, .len = sizeof(literal) - 1})
#define STR_ARG(s)   (int)(s).len, (s).ptr ? (s).ptr : "" /* for "%.*s" */

static inline struct str str_of(const char *terminated)
{
    return (struct str){.ptr = terminated, .len = terminated ? strlen(terminated) : 0};
}

static inline bool str_eq(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool uuid_eq(struct uuid a, struct uuid b)
{
    return memcmp(a.b, b.b, sizeof a.b) == 0;
}

static inline bool uuid_is_zero(struct uuid u)
{
    return uuid_eq(u, (struct uuid){{0}});
}

int str_cmp(struct str a, struct str b); /* like memcmp, shorter first when one begins the other */
bool str_eq_ignore_case(struct str a, struct str b); /* ASCII only */
bool str_is_utf8(struct str s); /* well-formed, no surrogates, no overlong forms */
err str_to_int64(struct str s,
                 int64_t *ret_value); /* decimal with optional sign; ERR_INVALID, ERR_RANGE */
int32_t str_java_hash(
    struct str s); /* String.hashCode of well-formed UTF-8 (over its UTF-16 units) */

enum { UUID_TEXT_SIZE = 23 }; /* 22 characters of base64url without padding, and a 0 */
void uuid_to_text(struct uuid u, char text[UUID_TEXT_SIZE]);
err uuid_from_text(struct str text, struct uuid *ret_uuid);

/* A growable buffer: owns `ptr`. A failed growth sets `failed`, after which nothing is added
 * (sticky). */
struct buf {
    char *ptr;   /* owned; NULL while empty */
    size_t len;  /* bytes used */
    size_t size; /* bytes there */
    bool failed; /* an allocation failed; contents are incomplete */
};

void buf_finish(struct buf *b);               /* frees; takes a zeroed one */
bool buf_reserve(struct buf *b, size_t more); /* room for `more` bytes after len */
void buf_add(struct buf *b, const void *p, size_t size);
void buf_add_str(struct buf *b, struct str s);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *buf_text(struct buf *b); /* 0-terminated view; "" when empty or failed */

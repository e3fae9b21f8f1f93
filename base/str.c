#include "base/str.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>

int str_cmp(struct str a, struct str b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n ? memcmp(a.ptr, b.ptr, n) : 0;
    if (c) {
        return c;
    }
    return (a.len > b.len) - (a.len < b.len);
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool str_eq_ignore_case(struct str a, struct str b)
{
    if (a.len != b.len) {
        return false;
    }
    for (size_t i = 0; i < a.len; i++) {
        if (lower(a.ptr[i]) != lower(b.ptr[i])) {
            return false;
        }
    }
    return true;
}

/* Decodes one code point at s[*i], moves *i behind it; -1 when the bytes are not well-formed UTF-8.
 */
static int32_t utf8_next(struct str s, size_t *i)
{
    static const uint32_t least[4] = {0, 0x80, 0x800, 0x10000};
    const uint8_t *p = (const uint8_t *)s.ptr + *i;
    size_t left = s.len - *i;
    uint32_t c = p[0];
    size_t more = c < 0x80 ? 0 : c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
    if ((c >= 0x80 && c < 0xC2) || c > 0xF4 || more >= left) {
        return -1; /* no first byte of anything, or cut short */
    }
    if (more) {
        c &= 0x3Fu >> more;
    }
    for (size_t k = 1; k <= more; k++) {
        if ((p[k] & 0xC0) != 0x80) {
            return -1;
        }
        c = (c << 6) | (p[k] & 0x3Fu);
    }
    if (c < least[more] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) {
        return -1;
    }
    *i += more + 1;
    return (int32_t)c;
}

bool str_is_utf8(struct str s)
{
    size_t i = 0;
    while (i < s.len) {
        if ((uint8_t)s.ptr[i] < 0x80) {
            i++;
        } else if (utf8_next(s, &i) < 0) {
            return false;
        }
    }
    return true;
}

int32_t str_java_hash(struct str s)
{
    uint32_t h = 0;
    size_t i = 0;
    while (i < s.len) {
        int32_t c = utf8_next(s, &i);
        if (c < 0) {
            c = 0xFFFD; /* what Java's decoder puts there */
            i++;
        }
        if (c >= 0x10000) {
            uint32_t v = (uint32_t)c - 0x10000;
            h = h * 31 + (0xD800 + (v >> 10));
            h = h * 31 + (0xDC00 + (v & 0x3FF));
        } else {
            h = h * 31 + (uint32_t)c;
        }
    }
    return (int32_t)h;
}

err str_to_int64(struct str s, int64_t *ret_value)
{
    size_t i = 0;
    bool negative = false;
    if (s.len && (s.ptr[0] == '-' || s.ptr[0] == '+')) {
        negative = s.ptr[0] == '-';
        i = 1;
    }
    if (i == s.len) {
        return ERR_INVALID;
    }
    int64_t value = 0;
    for (; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9') {
            return ERR_INVALID;
        }
        int64_t digit = s.ptr[i] - '0';
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, negative ? -digit : digit, &value)) {
            return ERR_RANGE;
        }
    }
    *ret_value = value;
    return OK;
}

static const char base64url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void uuid_to_text(struct uuid u, char text[UUID_TEXT_SIZE])
{
    uint32_t bits = 0;
    int have = 0;
    size_t n = 0;
    for (size_t i = 0; i < sizeof u.b; i++) {
        bits = (bits << 8) | u.b[i];
        have += 8;
        while (have >= 6) {
            have -= 6;
            text[n++] = base64url[(bits >> have) & 63];
        }
    }
    text[n++] = base64url[(bits << (6 - have)) & 63];
    text[n] = 0;
}

err uuid_from_text(struct str text, struct uuid *ret_uuid)
{
    if (text.len != UUID_TEXT_SIZE - 1) {
        return ERR_INVALID;
    }
    struct uuid u;
    uint32_t bits = 0;
    int have = 0;
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        const char *at = text.ptr[i] ? strchr(base64url, text.ptr[i]) : NULL;
        if (!at) {
            return ERR_INVALID;
        }
        bits = (bits << 6) | (uint32_t)(at - base64url);
        have += 6;
        if (have >= 8 && n < sizeof u.b) {
            have -= 8;
            u.b[n++] = (uint8_t)(bits >> have);
        }
    }
    if (bits & ((1u << have) - 1)) {
        return ERR_INVALID; /* bits behind the 128th */
    }
    *ret_uuid = u;
    return OK;
}

void buf_finish(struct buf *b)
{
    mem_free(b->ptr);
    *b = (struct buf){0};
}

bool buf_reserve(struct buf *b, size_t more)
{
    if (b->failed) {
        return false;
    }
    if (b->size - b->len >= more) {
        return true;
    }
    size_t size = b->size ? b->size : 64;
    size_t need;
    if (__builtin_add_overflow(b->len, more, &need) || need > SIZE_MAX / 2) {
        b->failed = true;
        return false;
    }
    while (size < need) {
        size *= 2;
    }
    char *p = mem_resize(b->ptr, size);
    if (!p) {
        b->failed = true;
        return false;
    }
    b->ptr = p;
    b->size = size;
    return true;
}

void buf_add(struct buf *b, const void *p, size_t size)
{
    if (size && buf_reserve(b, size)) {
        memcpy(b->ptr + b->len, p, size);
        b->len += size;
    }
}

void buf_add_str(struct buf *b, struct str s)
{
    buf_add(b, s.ptr, s.len);
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) {
        b->failed = true;
    } else if (buf_reserve(b, (size_t)n + 1)) {
        vsnprintf(b->ptr + b->len, (size_t)n + 1, format, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

const char *buf_text(struct buf *b)
{
    if (!buf_reserve(b, 1)) {
        return "";
    }
    b->ptr[b->len] = 0;
    return b->ptr;
}

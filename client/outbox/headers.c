#include "client/outbox/headers.h"

static const char base64_letters[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* ---- writing ---- */

static void string_write(struct bytes s, struct buf *out)
{
    buf_add_str(out, STR("\""));
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        if (c == '"' || c == '\\') {
            buf_printf(out, "\\%c", c);
        } else if (c < ' ') {
            buf_printf(out, "\\u%04x", c);
        } else {
            buf_add(out, &c, 1);
        }
    }
    buf_add_str(out, STR("\""));
}

static void base64_write(struct bytes b, struct buf *out)
{
    buf_add_str(out, STR("{\"base64\":\""));
    for (size_t i = 0; i < b.len; i += 3) {
        size_t left = b.len - i;
        unsigned v = (unsigned)b.ptr[i] << 16 | (left > 1 ? (unsigned)b.ptr[i + 1] << 8 : 0) |
                     (left > 2 ? b.ptr[i + 2] : 0);
        const char four[4] = {base64_letters[v >> 18], base64_letters[v >> 12 & 63],
                              left > 1 ? base64_letters[v >> 6 & 63] : '=',
                              left > 2 ? base64_letters[v & 63] : '='};
        buf_add(out, four, sizeof four);
    }
    buf_add_str(out, STR("\"}"));
}

static bool is_text(struct bytes b) /* a 0 is none to PostgreSQL */
{
    return str_is_utf8((struct str){(const char *)b.ptr, b.len}) && !memchr(b.ptr, 0, b.len);
}

err headers_write(const struct rv_header *headers, size_t count, struct buf *out)
{
    buf_add_str(out, STR("["));
    for (size_t i = 0; i < count; i++) {
        struct bytes name = {headers[i].name.ptr, headers[i].name.size};
        struct bytes value = {headers[i].value.ptr, headers[i].value.size};
        if (!name.ptr || !is_text(name)) {
            return ERR_INVALID;
        }
        buf_add_str(out, i > 0 ? STR(",[") : STR("["));
        string_write(name, out);
        buf_add_str(out, STR(","));
        if (!value.ptr) {
            buf_add_str(out, STR("null"));
        } else if (is_text(value)) {
            string_write(value, out);
        } else {
            base64_write(value, out);
        }
        buf_add_str(out, STR("]"));
    }
    buf_add_str(out, STR("]"));
    return OK;
}

/* ---- reading ---- */

struct parse {
    const char *at;
    const char *end;
    struct arena *arena;
    err e; /* the first that went wrong */
};

static bool fail(struct parse *p, err e)
{
    p->e = p->e == OK ? e : p->e;
    return false;
}

static void space(struct parse *p)
{
    while (p->at < p->end && strchr(" \t\r\n", *p->at) && *p->at) {
        p->at++;
    }
}

static bool is_next(struct parse *p, struct str word) /* and goes past it */
{
    space(p);
    if ((size_t)(p->end - p->at) < word.len || memcmp(p->at, word.ptr, word.len) != 0) {
        return false;
    }
    p->at += word.len;
    return true;
}

static bool expect(struct parse *p, struct str word)
{
    return is_next(p, word) || fail(p, ERR_INVALID);
}

static bool hex_read(struct parse *p, unsigned *ret_unit)
{
    unsigned unit = 0;
    if (p->end - p->at < 4) {
        return fail(p, ERR_INVALID);
    }
    for (int i = 0; i < 4; i++) {
        char c = *p->at++;
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                                : 16;
        if (digit > 15) {
            return fail(p, ERR_INVALID);
        }
        unit = unit << 4 | digit;
    }
    *ret_unit = unit;
    return true;
}

/* Behind \u: one character, of two units where it is above U+FFFF; as UTF-8. */
static bool unicode_read(struct parse *p, char **to)
{
    unsigned c, low;
    if (!hex_read(p, &c)) {
        return false;
    }
    if (c >= 0xd800 && c < 0xdc00) {
        if (p->end - p->at < 2 || p->at[0] != '\\' || p->at[1] != 'u') {
            return fail(p, ERR_INVALID);
        }
        p->at += 2;
        if (!hex_read(p, &low) || low < 0xdc00 || low > 0xdfff) {
            return fail(p, ERR_INVALID);
        }
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    } else if (c >= 0xdc00 && c <= 0xdfff) {
        return fail(p, ERR_INVALID);
    }
    if (c < 0x80) {
        *(*to)++ = (char)c;
    } else if (c < 0x800) {
        *(*to)++ = (char)(0xc0 | c >> 6);
        *(*to)++ = (char)(0x80 | (c & 63));
    } else if (c < 0x10000) {
        *(*to)++ = (char)(0xe0 | c >> 12);
        *(*to)++ = (char)(0x80 | (c >> 6 & 63));
        *(*to)++ = (char)(0x80 | (c & 63));
    } else {
        *(*to)++ = (char)(0xf0 | c >> 18);
        *(*to)++ = (char)(0x80 | (c >> 12 & 63));
        *(*to)++ = (char)(0x80 | (c >> 6 & 63));
        *(*to)++ = (char)(0x80 | (c & 63));
    }
    return true;
}

static bool escape_read(struct parse *p, char **to)
{
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    if (p->at == p->end) {
        return fail(p, ERR_INVALID);
    }
    char c = *p->at++;
    if (c == 'u') {
        return unicode_read(p, to);
    }
    const char *at = c ? strchr(from, c) : NULL;
    if (!at) {
        return fail(p, ERR_INVALID);
    }
    *(*to)++ = into[at - from];
    return true;
}

/* Behind the opening quote; never longer than it is written. */
static bool string_rest(struct parse *p, struct bytes *ret_string)
{
    const char *close = p->at;
    while (close < p->end && *close != '"') {
        close += *close == '\\' && close + 1 < p->end ? 2 : 1;
    }
    char *to = arena_alloc(p->arena, (size_t)(close - p->at) + 1);
    char *from = to;
    if (!to) {
        return fail(p, arena_error(p->arena));
    }
    while (p->at < p->end && *p->at != '"') {
        if (*p->at != '\\') {
            *to++ = *p->at++;
        } else {
            p->at++;
            if (!escape_read(p, &to)) {
                return false;
            }
        }
    }
    *ret_string = (struct bytes){(const uint8_t *)from, (size_t)(to - from)};
    return expect(p, STR("\""));
}

static int digit_of(char c)
{
    const char *at = c ? strchr(base64_letters, c) : NULL;
    return at ? (int)(at - base64_letters) : -1;
}

/* In place: three bytes of four letters. */
static bool base64_read(struct parse *p, struct bytes *s)
{
    uint8_t *to = (uint8_t *)s->ptr, *out = to; /* it is in the arena */
    if (s->len % 4 != 0) {
        return fail(p, ERR_INVALID);
    }
    for (size_t i = 0; i < s->len; i += 4) {
        unsigned v = 0;
        size_t filling = i + 4 < s->len ? 0 : (size_t)(to[i + 3] == '=') + (to[i + 2] == '=');
        for (size_t k = 0; k < 4; k++) {
            int digit = k < 4 - filling ? digit_of((char)to[i + k]) : 0;
            if (digit < 0) {
                return fail(p, ERR_INVALID);
            }
            v = v << 6 | (unsigned)digit;
        }
        for (size_t k = 0; k < 3 - filling; k++) {
            *out++ = (uint8_t)(v >> (16 - 8 * k));
        }
    }
    s->len = (size_t)(out - to);
    return true;
}

static bool value_read(struct parse *p, struct bytes *ret_value)
{
    if (is_next(p, STR("null"))) {
        *ret_value = (struct bytes){0};
        return true;
    }
    if (is_next(p, STR("{"))) {
        return expect(p, STR("\"base64\"")) && expect(p, STR(":")) && expect(p, STR("\"")) &&
               string_rest(p, ret_value) && base64_read(p, ret_value) && expect(p, STR("}"));
    }
    return expect(p, STR("\"")) && string_rest(p, ret_value);
}

/* As many pairs as could be there: a pair has a '[' of its own. */
static size_t pairs_at_most(struct str text)
{
    size_t count = 0;
    for (size_t i = 0; i < text.len; i++) {
        count += text.ptr[i] == '[';
    }
    return count;
}

err headers_read(struct str text, struct arena *a, struct record_header **ret_headers,
                 int32_t *ret_count)
{
    struct parse p = {.at = text.ptr, .end = text.ptr + text.len, .arena = a};
    struct record_header *headers = arena_zero(a, pairs_at_most(text) + 1, sizeof *headers);
    int32_t count = 0;
    if (!headers) {
        return arena_error(a);
    }
    if (!str_is_utf8(text)) {
        return ERR_INVALID;
    }
    bool ok = expect(&p, STR("["));
    bool more = ok && !is_next(&p, STR("]"));
    while (more) {
        struct bytes name = {0}, value = {0};
        ok = expect(&p, STR("[")) && expect(&p, STR("\"")) && string_rest(&p, &name) &&
             expect(&p, STR(",")) && value_read(&p, &value) && expect(&p, STR("]"));
        if (!ok) {
            break;
        }
        headers[count++] = (struct record_header){
            .name = {(const char *)name.ptr, name.len},
              .value = value
        };
        more = is_next(&p, STR(","));
        ok = more || expect(&p, STR("]"));
    }
    space(&p);
    if (!ok || p.at != p.end) {
        return p.e == OK ? ERR_INVALID : p.e;
    }
    *ret_headers = headers;
    *ret_count = count;
    return OK;
}

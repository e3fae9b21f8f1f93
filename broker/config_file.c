/* The form of a configuration file, which is that of Java's properties.
 *
 * Lines of `name=value`, `name: value` or `name value`; blank lines; comments that begin with # or
 * !. A line that ends in an odd number of backslashes goes on in the next one, whose leading blanks
 * do not count. A backslash takes away the meaning of the character behind it, but for \t \n \r \f
 * and \uXXXX. Blanks around names and values do not count, as Kafka has it.
 */
#include "broker/config_value.h"

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\f' || c == '\r';
}

static struct str trim_left(struct str s)
{
    while (s.len && is_space(s.ptr[0])) {
        s.ptr++;
        s.len--;
    }
    return s;
}

struct str config_trim(struct str s)
{
    s = trim_left(s);
    while (s.len && is_space(s.ptr[s.len - 1])) {
        s.len--;
    }
    return s;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The four digits of \uXXXX as UTF-8. A 0 would end the text early, and half of a surrogate pair is
 * no character. */
static bool add_unicode(struct str digits, struct buf *out)
{
    unsigned code = 0;
    for (size_t i = 0; i < 4; i++) {
        int digit = i < digits.len ? hex_digit(digits.ptr[i]) : -1;
        if (digit < 0) {
            return false;
        }
        code = code << 4 | (unsigned)digit;
    }
    if (code == 0 || (code >= 0xD800 && code <= 0xDFFF)) {
        return false;
    }
    char utf8[3];
    size_t size = 1;
    if (code < 0x80) {
        utf8[0] = (char)code;
    } else if (code < 0x800) {
        utf8[0] = (char)(0xC0 | code >> 6);
        utf8[1] = (char)(0x80 | (code & 0x3F));
        size = 2;
    } else {
        utf8[0] = (char)(0xE0 | code >> 12);
        utf8[1] = (char)(0x80 | (code >> 6 & 0x3F));
        utf8[2] = (char)(0x80 | (code & 0x3F));
        size = 3;
    }
    buf_add(out, utf8, size);
    return true;
}

static bool unescape(struct str raw, struct buf *out)
{
    static const char letters[] = "tnrf";
    static const char meant[] = "\t\n\r\f";
    for (size_t i = 0; i < raw.len; i++) {
        if (raw.ptr[i] != '\\') {
            buf_add(out, raw.ptr + i, 1);
            continue;
        }
        if (++i == raw.len) {
            break; /* of an escaped blank at the end, which does not count */
        }
        const char *letter = memchr(letters, raw.ptr[i], sizeof letters - 1);
        if (raw.ptr[i] == 'u') {
            if (!add_unicode((struct str){.ptr = raw.ptr + i + 1, .len = raw.len - i - 1}, out)) {
                return false;
            }
            i += 4;
        } else if (letter) {
            buf_add(out, meant + (letter - letters), 1);
        } else {
            buf_add(out, raw.ptr + i, 1);
        }
    }
    return true;
}

/* Where the name of a logical line ends: at the first separator that is not escaped. */
static size_t name_end(struct str line)
{
    size_t end = 0;
    while (end < line.len && line.ptr[end] != '=' && line.ptr[end] != ':' &&
           !is_space(line.ptr[end])) {
        end += line.ptr[end] == '\\' && end + 1 < line.len ? 2 : 1;
    }
    return end;
}

static err take_line(struct str line, const char *where, config_setter *set, void *ctx,
                     struct buf *why)
{
    struct buf name = {0};
    struct buf value = {0};
    size_t end = name_end(line);
    struct str rest = config_trim((struct str){.ptr = line.ptr + end, .len = line.len - end});
    err e = OK;
    if (rest.len && (rest.ptr[0] == '=' || rest.ptr[0] == ':')) {
        rest = config_trim((struct str){.ptr = rest.ptr + 1, .len = rest.len - 1});
    } else if (!rest.len) {
        char escaped[DIAG_ESCAPED_SIZE];
        buf_printf(why, "%s: no '=' in %s", where, diag_escape(config_trim(line), escaped));
        e = ERR_INVALID;
    }
    if (!e &&
        (memchr(line.ptr, 0, line.len) ||
         !unescape((struct str){.ptr = line.ptr, .len = end}, &name) || !unescape(rest, &value))) {
        buf_printf(why, "%s: a byte 0, or an escape \\uXXXX that is no character", where);
        e = ERR_INVALID;
    }
    e = e ? e : set(ctx, str_of(buf_text(&name)), config_trim(str_of(buf_text(&value))), where);
    buf_finish(&name);
    buf_finish(&value);
    return e;
}

static bool goes_on(struct str line)
{
    size_t slashes = 0;
    while (slashes < line.len && line.ptr[line.len - 1 - slashes] == '\\') {
        slashes++;
    }
    return slashes % 2 == 1;
}

err config_read_properties(const char *file, struct str text, config_setter *set, void *ctx,
                           struct buf *why)
{
    struct buf joined = {0};
    struct buf where = {0};
    bool going_on = false;
    int number = 0;
    int first = 0;
    err e = OK;
    for (size_t at = 0; at < text.len && e == OK;) {
        const char *end = memchr(text.ptr + at, '\n', text.len - at);
        size_t len = end ? (size_t)(end - text.ptr) - at : text.len - at;
        struct str line = trim_left((struct str){.ptr = text.ptr + at, .len = len});
        at += len + 1;
        number++;
        if (line.len && line.ptr[line.len - 1] == '\r') {
            line.len--;
        }
        if (!going_on) {
            first = number;
            if (!line.len || line.ptr[0] == '#' || line.ptr[0] == '!') {
                continue;
            }
        }
        bool slash = goes_on(line);
        going_on = slash && at < text.len;
        buf_add(&joined, line.ptr, slash ? line.len - 1 : line.len);
        if (going_on) {
            continue;
        }
        where.len = 0;
        buf_printf(&where, "%s:%d", file, first);
        struct str whole = {.ptr = buf_text(&joined), .len = joined.len};
        e = whole.len ? take_line(whole, buf_text(&where), set, ctx, why) : OK;
        joined.len = 0;
    }
    buf_finish(&joined);
    buf_finish(&where);
    return e;
}

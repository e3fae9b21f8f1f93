#include "tools/tool.h"

#include "base/mem.h"
#include "base/str.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- JSON ---- */

static const char base64_letters[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static json_t *json_base64(struct rv_bytes b)
{
    const unsigned char *p = b.ptr;
    size_t size = (b.size + 2) / 3 * 4;
    char *text = mem_alloc(size + 1);
    if (!text) {
        return NULL;
    }
    char *to = text;
    for (size_t i = 0; i < b.size; i += 3) {
        size_t left = b.size - i;
        unsigned v = (unsigned)p[i] << 16 | (left > 1 ? (unsigned)p[i + 1] << 8 : 0) |
                     (left > 2 ? p[i + 2] : 0);
        *to++ = base64_letters[v >> 18];
        *to++ = base64_letters[v >> 12 & 63];
        *to++ = left > 1 ? base64_letters[v >> 6 & 63] : '=';
        *to++ = left > 2 ? base64_letters[v & 63] : '=';
    }
    json_t *object = json_pack("{s:s#}", "base64", text, (int)size);
    mem_free(text);
    return object;
}

json_t *json_bytes(struct rv_bytes b)
{
    if (!b.ptr) {
        return json_null();
    }
    if (!str_is_utf8((struct str){.ptr = b.ptr, .len = b.size})) {
        return json_base64(b);
    }
    return json_stringn_nocheck(b.ptr, b.size);
}

json_t *json_text(const char *text)
{
    return text ? json_bytes((struct rv_bytes){text, strlen(text)}) : json_null();
}

json_t *json_offset(int64_t offset)
{
    return offset < 0 ? json_null() : json_integer(offset);
}

bool json_line(FILE *to, json_t *object)
{
    bool ok = object && json_dumpf(object, to, JSON_COMPACT) == 0 && putc('\n', to) != EOF;
    if (!object) {
        errno = ENOMEM;
    }
    json_decref(object);
    return ok;
}

/* ---- tables ---- */

void table_init(struct table *t, const char *const *heads, int column_count)
{
    *t = (struct table){.heads = heads, .column_count = column_count};
}

void table_add(struct table *t, const char *format, ...)
{
    if (t->count == t->size) {
        size_t size = t->size ? t->size * 2 : 64;
        char **more = mem_resize(t->cells, size * sizeof *more);
        if (!more) {
            return; /* table_print finds the row incomplete */
        }
        t->cells = more;
        t->size = size;
    }
    struct buf text = {0};
    va_list args;
    va_start(args, format);
    int size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (size < 0 || !buf_reserve(&text, (size_t)size + 1)) {
        return; /* likewise */
    }
    va_start(args, format);
    vsnprintf(text.ptr, (size_t)size + 1, format, args);
    va_end(args);
    t->cells[t->count++] = text.ptr;
}

static void cell_print(FILE *to, const char *text, int width, bool is_right, bool is_last)
{
    if (is_right) {
        fprintf(to, "%*s", width, text);
    } else if (is_last) {
        fputs(text, to);
    } else {
        fprintf(to, "%-*s", width, text);
    }
    fputs(is_last ? "\n" : "  ", to);
}

int table_print(struct table *t, FILE *to)
{
    int columns = t->column_count;
    int code = t->count % (size_t)columns == 0 ? EXIT_DONE : EXIT_FAILED;
    for (size_t row = 0; code == EXIT_DONE && row <= t->count / (size_t)columns; row++) {
        for (int c = 0; c < columns; c++) {
            bool is_right = t->heads[c][0] == '>';
            const char *head = t->heads[c] + is_right;
            size_t width = strlen(head);
            for (size_t i = (size_t)c; i < t->count; i += (size_t)columns) {
                size_t n = strlen(t->cells[i]);
                width = n > width ? n : width;
            }
            cell_print(to, row == 0 ? head : t->cells[(row - 1) * (size_t)columns + (size_t)c],
                       (int)width, is_right, c == columns - 1);
        }
    }
    for (size_t i = 0; i < t->count; i++) {
        mem_free(t->cells[i]);
    }
    mem_free(t->cells);
    if (code != EXIT_DONE) {
        fprintf(stderr, "rivulet: out of memory\n");
    }
    return code;
}

int output_end(int code)
{
    bool failed = fflush(stdout) != 0 || ferror(stdout);
    if (failed && errno == EPIPE) {
        return code;
    }
    if (failed) {
        fprintf(stderr, "rivulet: cannot write the output: %s\n", strerror(errno));
        return code == EXIT_DONE ? EXIT_FAILED : code;
    }
    return code;
}

/* ---- time ---- */

struct unit {
    const char *name;
    int64_t ms;
};

static const struct unit units[] = {
    {"ms", 1       },
    {"s",  1000    },
    {"m",  60000   },
    {"h",  3600000 },
    {"d",  86400000}
};

static bool ago_parse(const char *text, int64_t now_ms, int64_t *ret_ms)
{
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (errno == 0 && end != text && strcmp(end, units[i].name) == 0 &&
            n <= INT64_MAX / units[i].ms) {
            *ret_ms = now_ms - n * units[i].ms;
            return true;
        }
    }
    return false;
}

/* What follows the seconds: [.fraction] and Z or +HH:MM. */
static bool zone_parse(const char *p, int64_t *ret_add_ms)
{
    int64_t add = 0, scale = 100;
    if (*p == '.') {
        for (p++; *p >= '0' && *p <= '9'; p++, scale /= 10) {
            add += (*p - '0') * scale;
        }
    }
    if (*p == 'Z' || *p == 'z') {
        *ret_add_ms = add;
        return p[1] == 0;
    }
    int hours, minutes, used = 0;
    char sign = *p;
    if ((sign != '+' && sign != '-') || sscanf(p + 1, "%2d:%2d%n", &hours, &minutes, &used) != 2 ||
        p[1 + used] != 0 || hours > 23 || minutes > 59) {
        return false;
    }
    int64_t zone = (hours * 60 + minutes) * INT64_C(60000);
    *ret_add_ms = add - (sign == '+' ? zone : -zone);
    return true;
}

bool time_parse(struct str text, int64_t now_ms, int64_t *ret_ms)
{
    char copy[64];
    if (text.len == 0 || text.len >= sizeof copy) {
        return false;
    }
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = 0;
    if (copy[0] == '-') {
        return ago_parse(copy + 1, now_ms, ret_ms);
    }
    if (str_to_int64(text, ret_ms) == OK) {
        return true;
    }
    struct tm tm = {0};
    char *rest = strptime(copy, "%Y-%m-%d", &tm);
    if (!rest) {
        return false;
    }
    int64_t add = 0;
    if (*rest) {
        rest = *rest == 'T' || *rest == 't' || *rest == ' ' ? strptime(rest + 1, "%H:%M:%S", &tm)
                                                            : NULL;
        if (!rest || !zone_parse(rest, &add)) {
            return false;
        }
    }
    *ret_ms = (int64_t)timegm(&tm) * 1000 + add;
    return true;
}

void time_text(int64_t ms, char text[TIME_TEXT_SIZE])
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    char date[24];
    gmtime_r(&seconds, &tm);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text, TIME_TEXT_SIZE, "%s.%03dZ", date, (int)(ms % 1000));
}

char *tool_copy(const char *text, size_t size)
{
    char *copy = mem_alloc(size + 1);
    if (copy) {
        memcpy(copy, text, size);
        copy[size] = 0;
    }
    return copy;
}

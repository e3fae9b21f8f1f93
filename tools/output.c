#include "tools/tool.h"

#include "base/mem.h"
#include "base/str.h"
#include "tools/terminal.h"

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

static int base64_digit(char c)
{
    const char *at = c ? strchr(base64_letters, c) : NULL;
    return at ? (int)(at - base64_letters) : -1;
}

static bool base64_read(const char *text, size_t size, struct buf *to)
{
    size_t from = to->len;
    if (size % 4 != 0) {
        return false;
    }
    for (size_t i = 0; i < size; i += 4) {
        int filling =
            (i + 4 == size) ? (text[i + 3] == '=') + (text[i + 2] == '=' && text[i + 3] == '=') : 0;
        unsigned v = 0;
        for (size_t k = 0; k < 4; k++) {
            int digit = k >= 4 - (size_t)filling ? 0 : base64_digit(text[i + k]);
            if (digit < 0) {
                to->len = from;
                return false;
            }
            v = v << 6 | (unsigned)digit;
        }
        const unsigned char bytes[3] = {(unsigned char)(v >> 16), (unsigned char)(v >> 8),
                                        (unsigned char)v};
        buf_add(to, bytes, 3 - (size_t)filling);
    }
    return !to->failed;
}

bool json_to_bytes(const json_t *v, struct buf *scratch, struct rv_bytes *ret_bytes)
{
    if (json_is_null(v)) {
        *ret_bytes = (struct rv_bytes){NULL, 0};
        return true;
    }
    if (json_is_string(v)) {
        *ret_bytes = (struct rv_bytes){json_string_value(v), json_string_length(v)};
        return true;
    }
    const json_t *text = json_object_get(v, "base64");
    if (!json_is_string(text) || json_object_size(v) != 1) {
        return false;
    }
    /* One piece that never moves: what was handed out before stays where it is. */
    size_t size = json_string_length(text);
    if (!buf_reserve(scratch, size / 4 * 3 + 1)) {
        return false;
    }
    size_t from = scratch->len;
    if (!base64_read(json_string_value(text), size, scratch)) {
        return false;
    }
    *ret_bytes = (struct rv_bytes){scratch->ptr + from, scratch->len - from};
    return true;
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
    if (t->failed) {
        return;
    }
    if (t->count == t->size) {
        size_t size = t->size ? t->size * 2 : 64;
        char **more = mem_resize(t->cells, size * sizeof *more);
        if (!more) {
            t->failed = true;
            return;
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
        t->failed = true;
        return;
    }
    va_start(args, format);
    vsnprintf(text.ptr, (size_t)size + 1, format, args);
    va_end(args);
    t->cells[t->count++] = text.ptr;
}

void table_add_offset(struct table *t, int64_t offset)
{
    if (offset < 0) {
        table_add(t, "-");
    } else {
        table_add(t, "%lld", (long long)offset);
    }
}

enum { COLUMNS_MAX = 16, CELL_LEAST = 12 };

static const char *cell_text(const struct table *t, size_t row, int c) /* row 0: the heads */
{
    return row == 0 ? t->heads[c] + (t->heads[c][0] == '>')
                    : t->cells[(row - 1) * (size_t)t->column_count + (size_t)c];
}

/* Widths of the columns, the widest texts cut until all of it fits. False: that is too little. */
static bool table_widths(const struct table *t, size_t rows, size_t room, size_t *widths)
{
    size_t total = 2 * ((size_t)t->column_count - 1);
    for (int c = 0; c < t->column_count; c++) {
        widths[c] = 0;
        for (size_t row = 0; row <= rows; row++) {
            size_t n = text_width(cell_text(t, row, c));
            widths[c] = n > widths[c] ? n : widths[c];
        }
        total += widths[c];
    }
    while (room && total > room) {
        int widest = -1;
        for (int c = 0; c < t->column_count; c++) {
            if (t->heads[c][0] != '>' && (widest < 0 || widths[c] > widths[widest])) {
                widest = c;
            }
        }
        if (widest < 0 || widths[widest] <= CELL_LEAST) {
            return false;
        }
        size_t cut = widths[widest] - CELL_LEAST;
        cut = cut < total - room ? cut : total - room;
        widths[widest] -= cut;
        total -= cut;
    }
    return true;
}

/* Blanks wait for what comes behind them, so that no line ends with some. */
static void row_print(const struct table *t, FILE *to, size_t row, const size_t *widths)
{
    int blanks = 0;
    for (int c = 0; c < t->column_count; c++) {
        const char *text = cell_text(t, row, c);
        size_t shown = text_width(text);
        int rest = (int)(widths[c] - (shown < widths[c] ? shown : widths[c]));
        bool is_right = t->heads[c][0] == '>';
        blanks += is_right ? rest : 0;
        if (text[0]) {
            fprintf(to, "%*s", blanks, "");
            text_put(to, text, widths[c]);
            blanks = 0;
        }
        blanks += (is_right ? 0 : rest) + 2;
    }
    putc('\n', to);
}

/* For a window that is too narrow: a line a cell, an empty line between the rows. */
static void row_print_down(const struct table *t, FILE *to, size_t row, size_t room)
{
    size_t width = 0;
    for (int c = 0; c < t->column_count; c++) {
        size_t n = text_width(cell_text(t, 0, c));
        width = n > width ? n : width;
    }
    fputs(row > 1 ? "\n" : "", to);
    for (int c = 0; c < t->column_count; c++) {
        const char *head = cell_text(t, 0, c);
        fprintf(to, "%s%s%s%*s", color_begin(to, COLOR_BOLD), head, color_end(to),
                (int)(width - text_width(head)) + 2, "");
        text_put(to, cell_text(t, row, c), room > width + 2 ? room - width - 2 : 1);
        putc('\n', to);
    }
}

int table_print(struct table *t, FILE *to)
{
    size_t widths[COLUMNS_MAX];
    size_t rows = t->count / (size_t)t->column_count;
    int code = t->failed ? EXIT_FAILED : EXIT_DONE;
    size_t room = (size_t)window_columns(to);
    if (code != EXIT_DONE) {
        tool_no_memory();
    } else if (table_widths(t, rows, room, widths)) {
        fputs(color_begin(to, COLOR_BOLD), to);
        row_print(t, to, 0, widths);
        fputs(color_end(to), to);
        for (size_t row = 1; row <= rows; row++) {
            row_print(t, to, row, widths);
        }
    } else {
        for (size_t row = 1; row <= rows; row++) {
            row_print_down(t, to, row, room);
        }
    }
    for (size_t i = 0; i < t->count; i++) {
        mem_free(t->cells[i]);
    }
    mem_free(t->cells);
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
    int day = tm.tm_mday;
    *ret_ms = (int64_t)timegm(&tm) * 1000 + add;
    return tm.tm_mday == day; /* else the month has no such day */
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

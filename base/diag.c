#include "base/diag.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

enum { ESCAPE_BYTES = 64 };

static const char *const levels[] = {"debug", "info", "warn", "error"};

/* Days since 1970 to a date (Howard Hinnant's civil_from_days, proleptic Gregorian). */
static size_t write_time(char *to, size_t size, int64_t wall_ms)
{
    int64_t days = wall_ms / 86400000;
    int64_t ms = wall_ms % 86400000;
    if (ms < 0) {
        ms += 86400000;
        days--;
    }
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    int day = (int)(doy - (153 * mp + 2) / 5 + 1);
    int month = (int)(mp < 10 ? mp + 3 : mp - 9);
    int64_t year = yoe + era * 400 + (month <= 2);
    int n = snprintf(to, size, "ts=%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", (int)year, month, day,
                     (int)(ms / 3600000), (int)(ms / 60000 % 60), (int)(ms / 1000 % 60),
                     (int)(ms % 1000));
    return n < 0 ? 0 : (size_t)n;
}

void diag_log(const struct diag *d, enum diag_level level, const char *event, const char *format,
              ...)
{
    if (level < d->level) {
        return;
    }
    char line[DIAG_LINE_SIZE];
    size_t room = sizeof line - 1; /* one byte is kept for the '\n' */
    size_t n = write_time(line, room, clock_wall_ms(d->clock));
    int more = snprintf(line + n, room - n, " level=%s event=%s", levels[level], event);
    n += more > 0 ? (size_t)more : 0;
    if (format && format[0] && n + 1 < room) {
        line[n++] = ' ';
        va_list args;
        va_start(args, format);
        more = vsnprintf(line + n, room - n, format, args);
        va_end(args);
        n += more > 0 ? (size_t)more : 0;
    }
    if (n >= room) {
        n = room - 1;
    }
    line[n++] = '\n';
    d->write(d->ctx, line, n);
}

/* One byte, escaped: at most four of output. */
static size_t escape_byte(unsigned char c, char *to)
{
    static const char hex[] = "0123456789abcdef";
    if (c == '"' || c == '\\') {
        to[0] = '\\';
        to[1] = (char)c;
        return 2;
    }
    if (c == '\n') {
        to[0] = '\\';
        to[1] = 'n';
        return 2;
    }
    if (c < 0x20 || c >= 0x7F) {
        to[0] = '\\';
        to[1] = 'x';
        to[2] = hex[c >> 4];
        to[3] = hex[c & 15];
        return 4;
    }
    to[0] = (char)c;
    return 1;
}

/* `most` bytes at most, of which each may become four, in `size` bytes of text. */
static const char *quote(struct str s, size_t most, char *text, size_t size)
{
    size_t n = 0;
    text[n++] = '"';
    for (size_t i = 0; i < s.len; i++) {
        if (i == most || n + 4 + sizeof "...\"" > size) {
            memcpy(text + n, "...", 3);
            n += 3;
            break;
        }
        n += escape_byte((unsigned char)s.ptr[i], text + n);
    }
    text[n++] = '"';
    text[n] = 0;
    return text;
}

const char *diag_escape(struct str s, char text[DIAG_ESCAPED_SIZE])
{
    return s.ptr ? quote(s, ESCAPE_BYTES, text, DIAG_ESCAPED_SIZE) : "null";
}

const char *diag_quote(const char *terminated, char text[DIAG_QUOTED_SIZE])
{
    return quote(str_of(terminated), SIZE_MAX, text, DIAG_QUOTED_SIZE);
}

void diag_write_stderr(void *ctx, const char *line, size_t size)
{
    (void)ctx;
    while (size) {
        ssize_t n = write(STDERR_FILENO, line, size);
        if (n <= 0) {
            return; /* a full or closed standard error must not stop the broker */
        }
        line += n;
        size -= (size_t)n;
    }
}

err diag_level_parse(struct str name, enum diag_level *ret_level)
{
    for (int i = 0; i < (int)(sizeof levels / sizeof *levels); i++) {
        if (str_eq_ignore_case(name, str_of(levels[i]))) {
            *ret_level = (enum diag_level)i;
            return OK;
        }
    }
    return ERR_INVALID;
}

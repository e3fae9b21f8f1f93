#include "tests/kit/logfmt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static bool is_key(char c)
{
    return (c >= 'a' && c <= 'z') || c == '_';
}

static bool is_printable(char c)
{
    return c >= 0x20 && c < 0x7F;
}

/* Behind one value; NULL when it is none. */
static const char *skip_value(const char *p)
{
    if (*p != '"') {
        while (is_printable(*p) && *p != ' ' && *p != '"') {
            p++;
        }
        return p;
    }
    for (p++; is_printable(*p) && *p != '"'; p++) {
        if (*p == '\\' && is_printable(p[1])) {
            p++;
        }
    }
    return *p == '"' ? p + 1 : NULL;
}

/* Behind the line's end; NULL when it is not as it must be. */
static const char *skip_line(const char *p)
{
    static const char *const first[] = {"ts", "level", "event"};
    for (size_t i = 0;; i++) {
        const char *key = p;
        while (is_key(*p)) {
            p++;
        }
        size_t size = (size_t)(p - key);
        if (size == 0 || *p != '=' ||
            (i < 3 && (size != strlen(first[i]) || memcmp(key, first[i], size) != 0))) {
            return NULL;
        }
        p = skip_value(p + 1);
        if (!p || (*p != ' ' && *p != '\n')) {
            return NULL;
        }
        if (*p == '\n') {
            return i >= 2 ? p + 1 : NULL;
        }
        p++;
    }
}

void assert_logfmt_at(const char *text, const char *file, int line)
{
    while (*text) {
        const char *next = skip_line(text);
        if (!next) {
            print_error("no log line: %.*s\n", (int)strcspn(text, "\n"), text);
            _fail(file, line);
        }
        text = next;
    }
}

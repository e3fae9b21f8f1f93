/* diag: log lines in logfmt, one event a line, on a sink that the owner chooses (standard error in
 * the daemon).
 *
 *     diag_log(d, DIAG_WARN, "listener_failed", "addr=%s error=\"%s\"", addr, text);
 *     -> ts=2026-11-24T14:00:00.123Z level=warn event=listener_failed addr=... error="..."
 *
 * Data from outside never goes into a format argument as it is: diag_escape makes it printable and
 * bounded first. Any thread may log; a line goes out with one call of `write`.
 */
#pragma once

#include "base/clock.h"
#include "base/str.h"

enum diag_level { DIAG_DEBUG, DIAG_INFO, DIAG_WARN, DIAG_ERROR };

struct diag {
    enum diag_level level;     /* lines below it are not written */
    const struct clock *clock; /* borrowed; for ts= */
    void (*write)(void *ctx, const char *line,
                  size_t size); /* gets one whole line, '\n' included */
    void *ctx;                  /* for write */
};

enum { DIAG_LINE_SIZE = 2048, DIAG_ESCAPED_SIZE = 300, DIAG_QUOTED_SIZE = DIAG_LINE_SIZE };

void diag_log(const struct diag *d, enum diag_level level, const char *event, const char *format,
              ...) __attribute__((format(printf, 4, 5)));

/* Quoted and escaped for a log line: "..." with \n, \", \\ and \xNN; cut after some 64 bytes with
 * "..."; null is `null`. */
const char *diag_escape(struct str s, char text[DIAG_ESCAPED_SIZE]);

/* The same for a text of ours with pieces from outside in it (a reason, a path): cut only where a
 * line would end anyway. */
const char *diag_quote(const char *terminated, char text[DIAG_QUOTED_SIZE]);

void diag_write_stderr(void *ctx, const char *line, size_t size);  /* a `write` for daemons */
err diag_level_parse(struct str name, enum diag_level *ret_level); /* debug info warn error */

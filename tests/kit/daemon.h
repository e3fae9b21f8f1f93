/* daemon: the real rivuletd of the same MODE as the test program, on 127.0.0.1 and a free port,
 * with a data directory of its own under TMPDIR. For cmocka tests, on the test's thread; it never
 * outlives the test program (PR_SET_PDEATHSIG). A thread of its own collects its standard error.
 *
 * What fails here fails the test, and prints what the daemon wrote; DAEMON_LOG=1 prints it in any
 * case.
 */
#pragma once

#include "base/str.h"
#include "tests/kit/temp_dir.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    DAEMON_DATA_SIZE = TEMP_DIR_SIZE + 8,
    DAEMON_ARGUMENTS_MAX = 64,
    DAEMON_LIMIT_S = 60, /* for everything that is waited for: a failure, never a measure */
};

struct daemon_errors; /* what the daemon wrote to standard error, and the thread that reads it */

struct daemon {
    char dir[TEMP_DIR_SIZE];          /* everything of it; removed by daemon_destroy */
    char data[DAEMON_DATA_SIZE];      /* its data directory, below dir */
    char *argv[DAEMON_ARGUMENTS_MAX]; /* owned, NULL-terminated: behind --data and --listen */
    int argc;                         /* of argv */
    struct daemon_errors *errors;     /* owned */
    pid_t pid;                        /* 0: it is not running */
    uint16_t port;                    /* the same over restarts */
    size_t log_seen;                  /* bytes of its log that daemon_await_log went past */
    struct buf log;                   /* owned: the copy that daemon_log gave last */
};

/* Starts it and returns when it listens. Both lists are NULL-terminated and may be NULL: settings
 * ("key=value"), and arguments as they are. Restarts use them again. */
struct daemon *daemon_create(const char *const *settings, const char *const *arguments);

/* daemon_create with settings in the call: DAEMON("num.partitions=3", "..."), or DAEMON(). */
#define DAEMON(...) daemon_create((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL}, NULL)

/* Stops it as daemon_stop does, if it runs, expects exit code 0, and removes its directory. Takes
 * NULL. */
void daemon_destroy(struct daemon *d);

void daemon_kill(struct daemon *d); /* kill -9, and waits for its end */
int daemon_stop(struct daemon *d);  /* SIGTERM; see daemon_wait */
void daemon_signal(struct daemon *d, int signal);
int daemon_wait(struct daemon *d);        /* its exit code, or 128 + the signal that ended it */
void daemon_start(struct daemon *d);      /* again, when it ended: same data, same port */
void daemon_restart(struct daemon *d);    /* a clean stop and a start */
bool daemon_is_running(struct daemon *d); /* false after it ended by itself; it is reaped then */

/* Everything that it (and those before it, after restarts) wrote so far; lives until the next
 * call. */
const char *daemon_log(struct daemon *d);

/* Waits until a line of its log holds `text`, looking on from behind the line of the last call. */
void daemon_await_log(struct daemon *d, const char *text);

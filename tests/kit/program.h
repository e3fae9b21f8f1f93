/* program: one of our programs (rivuletd, rivulet) of the same MODE as the test, run with the
 * arguments, the environment and the descriptors that the test chooses, until it ends or is ended.
 * For cmocka tests, on the test's thread. What is waited for has a deadline; what fails here fails
 * the test, and prints what the program wrote.
 */
#pragma once

#include "base/str.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { PROGRAM_LIMIT_S = 60 };

struct program_options {
    const char *name;             /* "rivuletd" */
    const char *const *arguments; /* NULL-terminated; may be NULL */
    const char *const
        *environment;           /* "NAME=value", besides PATH and what sanitizers need; likewise */
    void (*prepare)(void *ctx); /* in the child, before exec: async-signal-safe calls only; NULL */
    void *ctx;                  /* for prepare */
};

struct program {
    pid_t pid;      /* 0: it has ended */
    int code;       /* its exit code, or 128 + the signal that ended it */
    int fds[2];     /* what it writes to standard output and error; -1: closed */
    struct buf out; /* owned: what it wrote so far */
    struct buf errors;
};

/* The path of a program of the same MODE as this test. */
void program_path(const char *name, char path[PATH_MAX]);

/* At the beginning of main: whatever is mounted from then on goes with this process, however it
 * ends. The test begins once more for it, so that /proc/self/exe is a path within the mounts that
 * it has then (in a chroot it would not be). Without the right to, nothing happens. */
void program_own_mounts(void);

struct program *program_start(const struct program_options *options);

/* Reads until its standard error holds `text` in a whole line; gives what follows it. */
const char *program_await(struct program *p, const char *text);

/* The port of its line `listening addr=HOST:PORT`. */
uint16_t program_port(struct program *p, const char *host);

int program_wait(struct program *p);     /* until it ends: `code`; out and errors are complete */
void program_destroy(struct program *p); /* kills it if it runs; takes NULL */

/* rivuletd with these arguments, to its end. */
struct program *program_run(const char *const *arguments);

/* program_run with the arguments in the call. */
#define PROGRAM(...) program_run((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

/* check: promises that we make to ourselves, kept on in release builds.
 *
 * `check(cond)` is never for bytes from outside. A broken one says where and ends the process with
 * EXIT_INVARIANT; a storage device that failed a sync ends it with EXIT_STORAGE (see
 * storage_fatal). Nothing is written or synced after that.
 */
#pragma once

enum {
    EXIT_INVARIANT = 70, /* a broken invariant: a bug of ours */
    EXIT_STORAGE = 74,   /* a failed fsync, fdatasync or close: the outcome of a write is unknown */
    EXIT_MEMORY = 71,    /* an allocation below every limit failed */
};

_Noreturn void check_failed(const char *expression, const char *file, int line);

/* Says `what` failed on `path` with the system's error number, and ends the process with
 * EXIT_STORAGE. */
_Noreturn void storage_fatal(const char *what, const char *path, int error_number);

#ifdef RIVULET_CLIENT_ONLY /* a small library: file and line say which */
#define check(cond) ((cond) ? (void)0 : check_failed("", __FILE__, __LINE__))
#else
#define check(cond) ((cond) ? (void)0 : check_failed(#cond, __FILE__, __LINE__))
#endif

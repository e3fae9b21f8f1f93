/* store: the only door to files. A small table of synchronous functions with two drivers: posix
 * (store/posix.c) and the simulated one of the tests (tests/kit/sim_store.c: knows what is
 * un-synced, fails the k-th operation, cuts the power).
 *
 * The functions block: after the start, a loop thread calls none of them but store_read_cached, and
 * hands the rest to a worker (store/worker.h). Paths are relative to the data directory, which the
 * store opened. Any thread may call; one file is written by one thread at a time.
 *
 * Errors: ERR_NO_SPACE, ERR_NO_FILES, ERR_NOT_FOUND, ERR_EXISTS (also: a directory is not empty),
 * ERR_INVALID (a directory where a file is needed, or a link), ERR_BUSY (lock), ERR_DENIED, ERR_IO
 * for the rest. A failed sync or close of a written file has an unknown outcome: the posix driver
 * ends the process (storage_fatal), it never returns it for a retry.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct store_file; /* a driver's own; opened by it, closed by it */

enum store_open {
    STORE_READ = 0,       /* must exist */
    STORE_WRITE = 1,      /* read and write, must exist */
    STORE_CREATE = 2,     /* read and write, created when missing, 0600 */
    STORE_CREATE_NEW = 3, /* read and write; ERR_EXISTS when there already */
};

struct store_entry {
    struct str name; /* of the entry, without its directory; owned by the callback's caller */
    bool is_dir;
};

struct store {
    const struct store_ops *ops; /* the driver */
    void *ctx;                   /* the driver's state, owned by whoever made the store */
};

struct store_ops {
    err (*open)(void *ctx, const char *path, enum store_open how, struct store_file **ret_file);
    void (*close)(void *ctx, struct store_file *file);
    err (*read)(void *ctx, struct store_file *file, void *p, size_t size, int64_t position,
                size_t *ret_read); /* fewer than size only at the end of the file */
    err (*read_cached)(void *ctx, struct store_file *file, void *p, size_t size, int64_t position,
                       size_t *ret_read); /* never waits for the device: ERR_AGAIN when it would */
    err (*write)(
        void *ctx, struct store_file *file, const struct iovec *parts, int count,
        int64_t position); /* all of it, or an error with the tail past `position` undefined */
    err (*allocate)(void *ctx, struct store_file *file,
                    int64_t size); /* blocks for so many bytes from the beginning; what was not
                                      there before is zeros. An error leaves some of it */
    void (*start_sync)(void *ctx, struct store_file *file); /* begins to write out what a sync
                                                               would, and promises nothing */
    err (*sync)(void *ctx, struct store_file *file);        /* fdatasync */
    err (*truncate)(void *ctx, struct store_file *file, int64_t size);
    err (*size)(void *ctx, struct store_file *file, int64_t *ret_size);
    int (*fd)(struct store_file *file); /* for sendfile; -1 when the driver has none */
    err (*rename)(void *ctx, const char *from, const char *to); /* replaces; files or directories */
    err (*unlink)(void *ctx, const char *path);
    err (*make_dir)(void *ctx, const char *path);   /* 0700; ERR_EXISTS */
    err (*remove_dir)(void *ctx, const char *path); /* an empty one */
    err (*sync_dir)(void *ctx, const char *path);   /* "" is the data directory itself */
    err (*list)(void *ctx, const char *path,
                void (*each)(void *arg, const struct store_entry *entry),
                void *arg);                   /* in the order of names */
    err (*lock)(void *ctx, const char *path); /* held till the store is closed; ERR_BUSY */
    err (*space)(void *ctx, int64_t *ret_free_bytes, int64_t *ret_total_bytes);
};

/* The posix driver on `path`, which is made (0700) when it is missing. ERR_EXISTS: it is not a
 * directory; ERR_INVALID when another user owns it, or when its group or others may write into it.
 * The process ignores SIGXFSZ, so that RLIMIT_FSIZE is an error too. */
err store_open_posix(const char *path, struct store *ret_store);
void store_close_posix(struct store *store);

/* Whole small files: read into `out` (bounded by limit_bytes, ERR_LIMIT), and write crash-safe:
 * temporary file, sync, rename, sync of the directory. */
err store_read_file(struct store *store, const char *path, size_t limit_bytes, struct buf *out);
err store_replace_file(struct store *store, const char *path, const void *p, size_t size);

/* disk: the files of one directory, behind a table of functions, so that tests can fail each
 * operation and cut the power at each. disk.c has the driver for real files.
 *
 * Names are those of files in the directory. All calls wait. ERR_NO_SPACE, ERR_NOT_FOUND,
 * ERR_EXISTS, ERR_BUSY (lock), ERR_DENIED, ERR_NO_FILES, ERR_MEMORY, ERR_IO. After a sync that
 * failed nobody knows what is on the medium: the file is not to be used any more.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct disk_file; /* a driver's own */

enum disk_open {
    DISK_READ,   /* must exist */
    DISK_WRITE,  /* read and write, must exist */
    DISK_CREATE, /* read and write; ERR_EXISTS when it is there */
};

struct disk_ops {
    err (*open)(void *ctx, const char *name, enum disk_open how, struct disk_file **ret_file);
    err (*close)(void *ctx, struct disk_file *file); /* it is closed in any case */
    err (*read)(void *ctx, struct disk_file *file, void *p, size_t size, int64_t position,
                size_t *ret_read); /* fewer than size only at the end of the file */
    err (*write)(void *ctx, struct disk_file *file, const void *p, size_t size,
                 int64_t position); /* an error leaves some of it */
    err (*sync)(void *ctx, struct disk_file *file);
    err (*truncate)(void *ctx, struct disk_file *file, int64_t size);
    err (*size)(void *ctx, struct disk_file *file, int64_t *ret_size);
    err (*unlink)(void *ctx, const char *name);
    err (*sync_names)(void *ctx); /* what was created and unlinked is so for good */
    err (*list)(void *ctx, void (*each)(void *arg, const char *name), void *arg); /* any order */
    err (*lock)(void *ctx, const char *name); /* held until the disk is closed; made when missing */
    void (*finish)(void *ctx);                /* closes the disk; its files are closed before */
};

struct disk {
    const struct disk_ops *ops;
    void *ctx; /* the driver's */
};

/* Real files. `create`: the directory is made (0700) when it is missing. */
err disk_open_posix(const char *path, bool create, struct disk *ret_disk);

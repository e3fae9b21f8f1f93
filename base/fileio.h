/* fileio: the loops around the system's calls on files, once, for the rooms that touch files
 * (broker/store, client/spool, client/view). Nothing here keeps state or decides about failures.
 *
 * Descriptors are the caller's. Every call is begun again when a signal interrupts it. Where a call
 * returns a number, it is 0 or an errno, for those who name it; fileio_error makes an err of it.
 */
#pragma once

#include "base/err.h"

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* ERR_NOT_FOUND, ERR_EXISTS, ERR_NO_SPACE, ERR_DENIED, ERR_NO_FILES, ERR_MEMORY, ERR_INVALID (a
 * directory, a link, a name too long); else ERR_IO. Never OK. */
err fileio_error(int number);

/* Below `dir`, closed on exec, and not over a link at the end; a new one is its owner's (0600). */
err fileio_open(int dir, const char *path, int flags, int *ret_fd);
/* The same; what is no regular file is ERR_INVALID. */
err fileio_open_regular(int dir, const char *path, int flags, int *ret_fd);
/* The descriptor is gone in any case. EINTR is none: Linux has closed it then, too. */
int fileio_close(int fd);

err fileio_read(int fd, void *p, size_t size, int64_t position,
                size_t *ret_read); /* fewer than size only at the end */
/* An error leaves some of it. ERR_IO also from a device that takes nothing and gives no reason. */
err fileio_write(int fd, const struct iovec *parts, int count, int64_t position);
err fileio_size(int fd, int64_t *ret_size);
err fileio_truncate(int fd, int64_t size);
int fileio_sync_data(int fd); /* fdatasync */
int fileio_sync(int fd);      /* fsync: of a directory, its names */

/* Each name in a directory, in no order; `fd` is the directory's. */
err fileio_list(int dir, const char *path, void (*each)(void *arg, int fd, const struct dirent *d),
                void *arg);

/* Makes the file when it is missing, and locks the open file description: that keeps out other
 * processes and other opens of this one, and goes with the descriptor, however the process ends.
 * ERR_BUSY: somebody else has it. */
err fileio_lock(int dir, const char *path, int *ret_fd);

/* The name of a file or directory is durable when the directory that it is in is synced. */
err fileio_sync_parent(const char *path);

/* Makes the directory (0700) when it is missing, and its name durable: also of one that is there,
 * whose maker may have died in between. */
err fileio_make_dir(const char *path);

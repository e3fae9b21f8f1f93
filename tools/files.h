/* files: the files that verbs read and write for their user. (`rivulet log` has its own.) */
#pragma once

#include "base/str.h"

#include <stdbool.h>
#include <stdio.h>

/* The whole of a file, added to `to`. False: errno says why; EFBIG when it is longer than `limit`.
 */
bool file_read(const char *path, size_t limit, struct buf *to);

/* A descriptor for reading; "-" is standard input. -1: errno says why. */
int file_open(const char *path);

/* A stream for writing; "-" is standard output. With `over` a file that is there is replaced, else
 * EEXIST; what is no file (a pipe, /dev/null) is written to. NULL: errno says why. */
FILE *file_create(const char *path, bool over);

/* Written out, for a file also to the device, and closed (standard output is not). False: errno
 * says why. */
bool file_close(FILE *file);

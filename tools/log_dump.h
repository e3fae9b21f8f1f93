/* log_dump: what the files of `rivulet log dump` and `rivulet log check` share. One process, one
 * thread.
 *
 * Files are read with stdio, not through the store: a store makes its directory and refuses one
 * that belongs to somebody else, while a dump looks at whatever it is shown and changes nothing.
 */
#pragma once

#include "protocol/batch.h"
#include "tools/tool.h"

enum { DUMP_RECORD_LIMIT = 1 << 30 }; /* bytes of one record, decompressed */

struct dump {
    const struct tool *t; /* borrowed: output form */
    bool records;         /* keys and values too */
    bool quiet;           /* only what is wrong */
    int64_t files;        /* looked at, so far; and of them ... */
    int64_t segment_count;
    int64_t batch_count;
    int64_t record_count;
    int64_t bytes;       /* of segments */
    int64_t next_offset; /* behind the last segment of the directory at hand; -1: none yet */
    bool failed;         /* output could not be written: nothing more is tried */
    int64_t problems;    /* found so far */
    struct batch_scratch scratch; /* owned */
    struct buf batch;             /* owned: the batch that is looked at */
};

/* Says what is wrong with `path`, and counts it. */
void dump_problem(struct dump *d, const char *path, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void dump_json(struct dump *d, json_t *object); /* one line; steals it; not when quiet */
/* Text for people; not when quiet or --json. */
void dump_print(const struct dump *d, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Begins a file. */
void dump_file(struct dump *d, const char *path);
void dump_bytes(struct bytes b); /* "..." escaped, or null, on standard output */

/* A .log with the .index and .timeindex beside it, if they are there. */
void dump_segment(struct dump *d, const char *path);
void dump_epochs(struct dump *d, const char *path);    /* leader-epoch-checkpoint */
void dump_producers(struct dump *d, const char *path); /* a .snapshot */
void dump_offsets(struct dump *d,
                  const char *path); /* recovery-point-offset-checkpoint and its kin */

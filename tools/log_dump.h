/* log_dump: what the files of `rivulet log dump` share. One process, one thread.
 *
 * Files are read with stdio, not through the store: a store makes its directory and refuses one
 * that belongs to somebody else, while a dump looks at whatever it is shown and changes nothing.
 */
#pragma once

#include "protocol/batch.h"
#include "tools/tool.h"

enum { DUMP_RECORD_LIMIT = 1 << 30 }; /* bytes of one record, decompressed */

struct dump {
    const struct tool *t;         /* borrowed: output form */
    bool records;                 /* keys and values too */
    bool failed;                  /* output could not be written: nothing more is tried */
    int64_t problems;             /* found so far */
    struct batch_scratch scratch; /* owned */
    struct buf batch;             /* owned: the batch that is looked at */
};

/* Says what is wrong with `path`, and counts it. */
void dump_problem(struct dump *d, const char *path, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void dump_json(struct dump *d, json_t *object); /* one line; steals it */
void dump_bytes(struct bytes b);                /* "..." escaped, or null, on standard output */

/* A .log with the .index and .timeindex beside it, if they are there. */
void dump_segment(struct dump *d, const char *path);
void dump_epochs(struct dump *d, const char *path);    /* leader-epoch-checkpoint */
void dump_producers(struct dump *d, const char *path); /* a .snapshot */

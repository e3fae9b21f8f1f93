/* log_dump: what the files of `rivulet log dump` and `rivulet log check` share. One process, one
 * thread.
 *
 * Files are read with stdio, not through the store: a store makes its directory and refuses one
 * that belongs to somebody else, while a dump looks at whatever it is shown and changes nothing.
 */
#pragma once

#include "broker/log/journal.h"
#include "protocol/batch.h"
#include "tools/tool.h"

enum { DUMP_RECORD_LIMIT = 1 << 30 }; /* bytes of one record, decompressed */

/* The journal of the data directory that is looked at, or that a partition is in (log_journal.c).
 * After a crash it has what segments may lack; after a clean stop nobody asks for it. */
struct dump_journal {
    struct buf dir;     /* owned: the data directory's path */
    struct store store; /* of its files; reads only */
    struct diag diag;   /* what the broker's log would have of it: nobody is told here */
    struct journal journal;
    struct map points;             /* owned: recovery points */
    bool there;                    /* it holds something, and was not stopped in order */
    const struct journal_log *log; /* of the partition at hand; NULL: nothing of it */
    size_t next;                   /* of its batches: the first that may still be due */
    int64_t recovery_point;        /* of the partition at hand: below it the segments count */
};

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
    bool journal_only;   /* tell of the journal, and of what is there alone */
    struct dump_journal journal;  /* owned */
    int64_t problems;             /* found so far */
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

/* ---- log_journal.c */

/* Of a data directory, or what is in one. False: it must not be dumped, and why was said. */
bool dump_journal_open(struct dump *d, const char *path);
void dump_journal_close(struct dump *d);
void dump_journal_enter(struct dump *d, const char *path); /* a partition's directory */
void dump_journal_leave(struct dump *d, const char *path); /* all of its segments are dumped */
/* What the journal has at an offset; NULL: nothing. Offsets rise from call to call. */
const struct journal_batch *dump_journal_at(struct dump *d, int64_t offset);
/* `path` has to be given the offsets [from, to) by the next start. */
void dump_journal_lacks(struct dump *d, const char *path, int64_t from, int64_t to);
/* Tells of the journal and what it has alone, and nothing else. */
void dump_journal_report(const struct tool *t, const char *path);

/* A .log with the .index and .timeindex beside it, if they are there. */
void dump_segment(struct dump *d, const char *path);
void dump_epochs(struct dump *d, const char *path);    /* leader-epoch-checkpoint */
void dump_producers(struct dump *d, const char *path); /* a .snapshot */
void dump_offsets(struct dump *d,
                  const char *path); /* recovery-point-offset-checkpoint and its kin */

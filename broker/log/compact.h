/* The cleaner: a log with `compact` keeps the last record of each key. compact.c says what it does
 * and when; this is what its files share, and what the rest of log/ calls. Loop thread, but for
 * what says "worker".
 */
#pragma once

#include "broker/log/internal.h"
#include "broker/log/offset_map.h"

enum {
    CLEAN_STEP = 1 << 20,    /* bytes read in one step on the reader; cold reads come in between */
    CLEAN_CHUNK = 256 << 10, /* read, and written, at once */
    CLEAN_SYNC = 8 << 20,    /* bytes written between two syncs, so that the last one is short */
};

struct clean_source {
    struct segment *segment; /* one reference */
    int64_t end_offset;      /* base of the segment behind it */
};

/* A cleaned segment that is being made out of neighbours. */
struct clean_output {
    struct store_file *files[FILE_KINDS]; /* owned; NULL: closed */
    int64_t base_offset;                  /* of its first source */
    int64_t *bases;                       /* owned: base offsets of its sources, rising */
    int32_t first;                        /* of them, in the cleaning's sources */
    int32_t count;                        /* of them, read to their end */
    struct segment_tail tail;             /* as of a segment; its size with what is in bytes */
    struct buf bytes[FILE_KINDS];         /* owned: to be written */
    int64_t written[FILE_KINDS];          /* bytes in the files */
    int64_t synced;                       /* of the log file */
    uint8_t last[BATCH_HEADER_SIZE];      /* header of the last batch, when nothing of it stayed */
    bool last_is_gone;                    /* `last` is to be left as an empty batch */
    bool changed;                         /* it differs from its sources */
    bool open;                            /* there may be files */
};

enum clean_phase {
    CLEAN_MAP,  /* keys of the dirty part are collected */
    CLEAN_COPY, /* what stays is written to *.cleaned */
    CLEAN_SWAP, /* they take the place of their sources */
    CLEAN_DROP, /* files are closed, what is not wanted is removed */
};

/* How far the files of a cleaned segment are on their way to the place of its sources. */
enum swap_stage {
    SWAP_BEGIN,     /* *.cleaned, not synced */
    SWAP_RENAMED,   /* .log.swap is there: it may be durable; there is no way back */
    SWAP_COMMITTED, /* it is durable */
    SWAP_DONE,
};

struct cleaning {
    struct work work;
    struct timer again;    /* armed: a swap that failed behind its commit waits */
    struct log_manager *m; /* borrowed */
    struct log *log;       /* one reference */
    struct log_config config;
    int64_t now_ms;               /* wall time of its begin */
    int64_t from;                 /* below it no key has two records */
    struct clean_source *sources; /* owned; from the log's first segment on */
    int32_t source_count;
    int64_t *kept; /* owned: last offsets of the producers' last batches, rising */
    size_t kept_count;
    struct offset_map map;
    int64_t map_end; /* all records in [from, map_end) are in the map */

    enum clean_phase phase;
    bool phase_over;           /* out */
    bool remove;               /* CLEAN_DROP: the files too */
    err result;                /* out: of the step */
    err failed;                /* why it is given up */
    int32_t at;                /* the source that is read */
    int64_t position;          /* in it */
    struct store_file *source; /* owned; NULL: not open */
    struct buf chunk;          /* owned: bytes of it, from chunk_position on */
    int64_t chunk_position;
    struct batch_scratch scratch;
    struct clean_output out;
    enum swap_stage stage;
    int64_t bytes_before; /* of the sources that were read */
    int64_t bytes_after;  /* of what they have become */
};

/* ---- compact.c */

/* The recovery points have been written, or could not be. */
void compact_checkpointed(struct log_manager *m, bool written);
bool compact_wants_roll(const struct log *log);
bool compact_wants_checkpoint(const struct log *log);
void compact_stop(struct log_manager *m); /* no more cleanings; what is under way ends soon */

/* ---- compact_copy.c; worker */

void clean_run(struct cleaning *c); /* one step of the phase */
err clean_finish_output(struct cleaning *c);

/* ---- compact_swap.c; worker, and recovery */

err swap_run(struct cleaning *c);
void swap_path(const char *dir, int64_t base_offset, enum file_kind kind, const char *end,
               char path[LOG_PATH_SIZE]);
/* Start, blocking: ends a swap that a crash cut short. `bases`: of all *.log there. */
err swap_recover(struct log *log, int64_t base_offset, const int64_t *bases, int32_t count);

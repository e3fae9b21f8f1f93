/* repair: what is wrong with the files of a partition that no broker has open, and what would make
 * them right. A plan is made first, and shown; then it is carried out, and nothing else.
 *
 * Blocking, one thread; through the store, whose lock the caller holds.
 */
#pragma once

#include "base/str.h"
#include "broker/store/store.h"

enum repair_kind {
    REPAIR_CUT,       /* bytes of a segment go: no batch that could be served */
    REPAIR_OFFSET,    /* a batch's base offset, which no checksum covers, is set right */
    REPAIR_REMOVE,    /* a file goes that the next start makes again, or does without */
    REPAIR_END,       /* an empty segment, so that no offset of what is lost is given again */
    REPAIR_LEFT_ALONE /* wrong, and not ours to mend */
};

enum { REPAIR_PATH_SIZE = 600, REPAIR_WHY_SIZE = 96 };

struct repair_step {
    enum repair_kind kind;
    char path[REPAIR_PATH_SIZE]; /* of the file, in the data directory */
    char why[REPAIR_WHY_SIZE];
    int64_t position;  /* CUT, OFFSET: in the file */
    int64_t size;      /* CUT: bytes */
    int64_t file_size; /* of the file, as it was */
    int64_t offset;    /* CUT: first offset that may be lost; OFFSET: what it will be; END: where */
    int64_t offset_to; /* CUT: behind the last one that may be lost; OFFSET: what it was */
};

struct repair_plan {
    struct buf steps;   /* of struct repair_step, owned; those of a file together, by position */
    int count;          /* of them */
    int64_t end_offset; /* of the partition, when it is done */
    int64_t bad_bytes;  /* to be cut */
};

/* Plans for the partition in `dir`. Errors are of reading, or of the durable ends (ERR_CORRUPT): then
 * there is no plan. */
err repair_plan(struct store *store, const char *dir, struct repair_plan *ret_plan);
const struct repair_step *repair_step(const struct repair_plan *plan, int index);
void repair_plan_finish(struct repair_plan *plan); /* takes a zeroed one */

/* Carries it out. Each file is replaced by a repaired copy, or is as it was, wherever this is cut
 * off; the same plan, made again, then has what is left. ERR_STALE: a file is not as it was when
 * the plan was made, and nothing more was done. */
err repair_apply(struct store *store, const char *dir, const struct repair_plan *plan);

/* sending: the record of how far sending has got: up to which event everything is done, and the
 * plan of the window behind it. Two files of fixed size take turns, so that neither a full disk nor
 * a crash in between leaves it without one. The format is at the head of sending.c.
 */
#pragma once

#include "client/spool/chain.h"
#include "client/spool/plan.h"

struct sending {
    struct chain files[2];
    int active;         /* of files: the one that is written */
    uint64_t delivered; /* events up to this number are done */
    uint64_t vouched;   /* events below this number have been safe at some time */
};

/* Makes both files, and their names durable: nothing is done. They may be there, cut short. */
int sending_create(const struct disk *disk, struct sending *ret_sending,
                   struct rv_error *ret_error);

/* Reads what is there; *ret_plan is the plan that is not done yet, its batches unsure.
 * RV_E_ABSENT: there is nothing. RV_E_CORRUPT. With DISK_WRITE it may be written then, after
 * sending_renew. */
int sending_open(const struct disk *disk, enum disk_open how, struct sending *ret_sending,
                 struct plan *ret_plan, struct rv_error *ret_error);

/* Goes on in the other file: nothing is written behind what a crash may have torn. `plan` (NULL:
 * none) is the one that is not done. */
int sending_renew(struct sending *s, const struct plan *plan, struct rv_error *ret_error);

/* A plan, durable when it returns. It takes the place of the one before. RV_E_IO: nobody knows. */
int sending_plan(struct sending *s, const struct plan *plan, struct rv_error *ret_error);

/* All up to `number` is done, and so is the plan. Durable with what is synced next. */
int sending_done(struct sending *s, uint64_t number, struct rv_error *ret_error);

/* A clean end: everything below `next` is safe. */
int sending_end(struct sending *s, uint64_t next, struct rv_error *ret_error);

int sending_sync(struct sending *s, struct rv_error *ret_error);
void sending_close(struct sending *s); /* takes a zeroed one */

enum { SENDING_FILE_SIZE = 128 << 10 }; /* bytes of each of the two */

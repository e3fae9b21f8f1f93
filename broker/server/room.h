/* room: what a shard does about a full disk. While there is a reserve (reserve.h), nothing. While
 * there is none, because a start or a stop gave it up, the logs are told that the disk is tight,
 * and the reader looks from time to time whether there is room for it again.
 *
 * The server owns it; on the loop's thread, before the loop runs where it says so.
 */
#pragma once

#include "base/diag.h"
#include "base/timer.h"
#include "broker/config.h"
#include "broker/log/manager.h"
#include "broker/store/store.h"
#include "broker/store/worker.h"

struct room {
    struct store *store;         /* borrowed */
    struct worker *reader;       /* borrowed */
    struct timers *timers;       /* borrowed */
    const struct clock *clock;   /* borrowed */
    const struct diag *diag;     /* borrowed */
    const struct config *config; /* borrowed; the owner swaps it */
    struct log_manager *logs;    /* borrowed; of room_open */
    struct timer timer;          /* armed: there is no reserve, and nobody looks */
    struct work make;
    struct work release;
    int64_t size_bytes; /* of the reserve; 0: none is wanted */
    bool stopping;

    /* the works' */
    bool there;
    int64_t free_bytes;
    err result;
    void (*stopped)(void *ctx);
    void *ctx;
};

void room_init(struct room *r); /* what is borrowed is set */

/* Start, blocking, with the directory locked: before anything is written to it, and when everything
 * is open. */
err room_begin(struct room *r);
err room_open(struct room *r, struct log_manager *logs);

void room_drop(struct room *r); /* nothing is looked for any more; takes a zeroed one */

/* Nothing of it is under way when `done` is called, on the loop, later, and there is as much room
 * for the last files of a clean stop as can be had. */
void room_stop(struct room *r, void (*done)(void *ctx), void *ctx);

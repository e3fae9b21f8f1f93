/* store: what an rv_store is made of.
 *
 *   store.c        the calls, events, and the settling of what memory, rows and positions say
 *   store_rows.c   the table: every statement that is made on it
 *   store_log.c    whether the log that is there is the one that was read
 *   store_held.c   the list of what is assigned
 *
 * One thread at a time, the consumer's.
 */
#pragma once

#include "client/sql/sql.h"
#include "client/store/rivulet_store.h"

#define HELD_NOWHERE (INT64_MIN)

struct held {
    char *topic; /* owned */
    int32_t partition;
    bool assigned;         /* of held_match */
    bool due;              /* of settling: its row is */
    bool fenced;           /* another has taken it from us: prove before taking it back */
    bool placed;           /* the consumer's position was set by what the row says */
    bool checked;          /* the row is of the log that is there, or `resume` says what is */
    int64_t owner_epoch;   /* ours; 0: not taken */
    int64_t stored;        /* the row's next_offset, as we know it; -1: nothing stored yet */
    int32_t stored_leader; /* and its leader_epoch */
    char stored_id[UUID_TEXT_SIZE]; /* and its topic_id */
    char topic_id[UUID_TEXT_SIZE];  /* of the topic that is there; "": not known */
    int64_t resume;                 /* where the log that is there parts from the one that was read:
                              an offset or RV_START; HELD_NOWHERE: it does not */
    int64_t seen;                   /* the position after the last rv_store_poll; -1: not known */
    int32_t seen_leader;
    int64_t first; /* where reading began, while nothing is stored; -1: not known */
    int64_t told;  /* to the broker; -1: nothing yet */
};

/* Commits on their way to the broker, which may outlive the store. */
struct telling {
    int count;   /* on their way */
    bool failed; /* one did: all is told again */
    bool closed; /* the last one frees it */
};

struct rv_store {
    struct sql sql;
    struct rv_client *client;     /* borrowed */
    struct rv_consumer *consumer; /* borrowed */
    char *group, *owner;          /* owned */
    struct held *items;           /* owned; sorted by topic and partition */
    size_t count, size;
    bool given;              /* see above */
    bool torn;               /* a partition of what was given has gone since */
    bool begun;              /* by rv_store_begin */
    bool follows;            /* `store.replaced` is follow */
    struct telling *telling; /* owned together with the commits on their way */
    struct rv_error trouble; /* why some partition is not taken */
    rv_event_fn *on_event;
    void *event_ctx;
};

/* ---- store_held.c ---- */

struct held *held_find(const struct rv_store *s, const char *topic, int32_t partition);
void held_remove(struct rv_store *s, struct held *h);
int held_match(struct rv_store *s); /* what is held is what is assigned. RV_E_MEMORY */

/* ---- store_rows.c ---- */

struct row {
    bool there;
    int64_t owner_epoch, next_offset;
    int32_t leader_epoch;
    char topic_id[UUID_TEXT_SIZE]; /* "": not known */
};

/* Makes it where it is not there. A code, told in *ret_error. */
int table_make(struct rv_store *s, struct rv_error *ret_error);
err row_take(struct rv_store *s, const struct held *h, struct row *ret_row);
/* Waits for whoever has it locked. Where no row is there: epoch 0, offset -1. */
err row_look(struct rv_store *s, const struct held *h, struct row *ret_row);
/* From `stored` to `seen`, or ERR_FENCED, sql.text says why; then the transaction is doomed. */
err row_move(struct rv_store *s, const struct held *h);
/* The transaction that is open cannot be committed after this. Keeps what sql.text says. */
void rows_doom(struct rv_store *s);

/* ---- store_log.c ---- */

/* Asks the brokers about what is taken and not `checked`. With a log that was replaced:
 * RV_STORE_REPLACED, or, where it is followed, `resume` is set and `placed` is not. */
int logs_check(struct rv_store *s, struct rv_error *ret_error);

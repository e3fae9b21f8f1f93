/* txn: the transaction of a producer with a `transactional.id`. Part of the producer, on its
 * thread; the states are drawn in txn.c. */
#pragma once

#include "client/conn.h"

struct rv_producer;
struct out_partition;
struct out_batch;

enum txn_state {
    TXN_NONE,       /* rv_txn_init has not come to its end */
    TXN_READY,      /* between transactions */
    TXN_OPEN,       /* rv_txn_begin: records and offsets are taken */
    TXN_BROKEN,     /* something of it has failed (`why`): it can only be aborted */
    TXN_COMMITTING, /* rv_txn_commit has begun */
    TXN_ABORTING,   /* rv_txn_abort has begun */
};

struct txn {
    const char *id; /* transactional.id, borrowed of the settings; NULL: not transactional */
    enum txn_state state;
    bool busy;           /* a call waits: no other one may be made, by whatever thread */
    bool v2;             /* the flow of KIP-890; for whole transactions */
    bool started;        /* the coordinator knows of it, or will: it has to be ended there */
    bool add_unsure;     /* the coordinator may know of it */
    bool end_sent;       /* EndTxn has been asked for */
    bool end_unsure;     /* ... and may have been carried out, though we have no answer */
    bool ended;          /* ... and was answered: only `bump` is left */
    bool bump;           /* V1: sequence numbers are missing: a new epoch before the next one */
    uint64_t number;     /* of the transaction at hand, from 1 */
    int32_t coordinator; /* broker id; -1: not known */
    struct rv_error why; /* of TXN_BROKEN */

    struct call find; /* V1: FindCoordinator, for the next ... */
    struct call add;  /* V1: AddPartitionsToTxn */
    int found_code;   /* what find ended with */
    int add_code;     /* what add ended with: the worst of its partitions' */
    char add_why[160];
    bool found, added;     /* they have ended: look at the codes */
    int failures;          /* of both, in a row */
    int64_t not_before_ms; /* back-off */
};

/* What an error of the coordinator's means for the transaction. */
enum txn_verdict { TXN_PASSES, TXN_BREAKS, TXN_ENDS_ALL /* the producer has failed for good */ };
enum txn_verdict txn_verdict(int code);

void txn_init(struct rv_producer *pr);
void txn_pump(struct rv_producer *pr);
void txn_give_up(struct rv_producer *pr); /* closing: no call is on its way after */

int txn_send_check(const struct rv_producer *pr, struct rv_error *ret_error); /* for rv_send */
int16_t txn_attributes(const struct rv_producer *pr);                         /* of a batch */
/* The identity for the next batch of the partition. False: not now. */
bool txn_partition_ready(struct rv_producer *pr, struct out_partition *p);
void txn_sending(struct rv_producer *pr); /* a Produce request goes out */
/* The record's failure is being told: the transaction fails with it. */
void txn_record_failed(struct rv_producer *pr, const struct out_batch *b, struct rv_error *e);

/* Not to be committed any more; says so in why's flags. */
void txn_break(struct rv_producer *pr, struct rv_error *why);
/* Takes what a call ended with (not RV_OK): breaks the transaction, fails the producer, or leaves
 * all as it is. Returns e->code. */
int txn_failed(struct rv_producer *pr, struct rv_error *e);
/* The call may be made in one of these states (bits 1 << enum txn_state). */
int txn_call_check(const struct rv_producer *pr, const char *call, unsigned states,
                   struct rv_error *ret_error);

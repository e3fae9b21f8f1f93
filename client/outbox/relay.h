/* relay: what a relay has in memory. All of it is in the tables as well, or of no consequence:
 * after any error of the database it is forgotten, and the next turn begins with what is committed.
 */
#pragma once

#include "base/arena.h"
#include "base/map.h"
#include "client/outbox/outbox.h"
#include "client/sealed/sealed.h"
#include "protocol/batch.h"

enum lane_state {
    LANE_FREE,
    LANE_FILLING, /* rows were chosen for a batch: in memory only */
    LANE_OPEN,    /* a sealed batch, whose fate is not known */
    LANE_STUCK,   /* a sealed batch, whose fate nobody knows: a person's to settle */
};

/* A partition of a topic that records went to. At most one batch of it is sealed. */
struct lane {
    char *topic; /* owned */
    int32_t partition;
    enum lane_state state;
    int64_t producer_id;    /* for the next batch; -1: it needs one */
    int32_t producer_epoch; /* likewise */
    int32_t next_sequence;  /* likewise */
    int64_t end_offset;     /* the partition's end is not before it; -1: not known */
    int64_t end_ms;         /* mono: when that was known to be the end */
    int64_t records_max; /* in the next batch; halves when one is refused, so that the record which
                            the broker does not want is found */
    bool is_full;        /* filling: no more rows in this turn, or the order would be lost */
    struct batch_builder builder; /* filling */
    struct buf ids;               /* owned; filling: of its rows, with commas */
    int64_t first_id;             /* filling or open: its first row */
    int64_t batch;                /* open: row of @_batch */
    struct buf bytes;             /* owned; open: the record batch */
    struct sealed_batch sealed;   /* open */
};

/* What is known of a topic in this turn. */
struct topic_now {
    int64_t turn;       /* that asked */
    int code;           /* RV_OK, or why it cannot be written to */
    int32_t partitions; /* when RV_OK */
    char why[120];      /* for people, when not */
};

/* A row that cannot be sent, found out before it was. */
struct refusal {
    int64_t id;        /* of the row */
    const char *scope; /* "topic", or "key", also where there is none: wait_write */
    int code;
    const char *why;  /* lives as long as the turn */
    struct str topic; /* likewise */
    struct bytes key; /* likewise */
};

enum { REFUSALS_MAX = 64 }; /* in one turn; the next one finds the rest */

struct relay {
    struct rv_client *client; /* borrowed */
    struct sealed *sealed;    /* owned */
    int64_t sealed_ms;   /* mono: since when; it is made anew to notice that topics have grown */
    int64_t epoch;       /* of our lease; -1: we have none */
    int64_t leased_ms;   /* mono: before it was last renewed */
    int64_t purge_ms;    /* mono: when kept rows are looked at next; 0: now */
    int64_t looked_ms;   /* mono: when topics that wait were last asked for */
    struct map lanes;    /* topic \n partition -> struct lane (owned) */
    struct map topics;   /* name -> struct topic_now (owned) */
    int64_t turn;        /* counts */
    uint32_t spread;     /* where records without a key go: a partition a turn */
    int64_t producer_id; /* for lanes that need one; -1: not asked for yet */
    int16_t producer_epoch;
    int64_t version; /* SQLite: of the file, as last seen; -1 */
    bool listens;    /* PostgreSQL: LISTEN is in force */

    /* of the turn */
    struct arena arena; /* what was read */
    struct refusal refusals[REFUSALS_MAX];
    int refusal_count;
    struct buf waiting;      /* owned: ids of rows that wait now, with commas */
    int64_t sealing;         /* lanes that are filling */
    int64_t stored;          /* records */
    bool moved;              /* something has become of something */
    struct rv_error trouble; /* the broker's, which passes; code RV_OK: none */
};

/* ---- lease.c */

/* Where it is free, and not ours already; r->epoch stays -1 where somebody else has it. */
err lease_take(struct rv_outbox *o);
/* In a transaction, first: that the lease is still ours, and is renewed. ERR_STALE: it is not. */
err relay_hold(struct rv_outbox *o);

/* ---- relay.c */

/* In a transaction that holds the lease: published rows whose time is over go, now and then. */
err relay_purge(struct rv_outbox *o);

/* A code that says of a topic, and not of a record, that it cannot be written to. */
bool relay_is_refusal_of_topic(int code);
/* One that says nothing of either. */
bool relay_is_refusal_of_all(int code);

err lane_get(struct rv_outbox *o, struct str topic, int32_t partition, struct lane **ret_lane);
err lane_write(struct rv_outbox *o, const struct lane *lane); /* its row of @_partition */
/* Empties what a batch left in it. */
void lane_clear(struct lane *lane, enum lane_state state);

/* seal.c: reads the rows that are new, and seals batches of them: committed when it is back. What
 * passes (the broker does not answer) goes to r->trouble and is OK. */
err seal_new(struct rv_outbox *o);
/* Takes over the batches that were sealed before us, and may have been sent. */
err seal_take_over(struct rv_outbox *o);

/* settle.c */

/* In a transaction that holds the lease: a row of @_wait. Scope "key" is "row" where it has none.
 */
err wait_write(struct rv_outbox *o, int64_t id, const char *scope, int code, const char *why);
/* In a transaction of its own: nobody knows what became of the lane's batch. */
err lane_stick(struct rv_outbox *o, struct lane *lane, const char *why);

/* Sends what is open, and writes down what became of it. */
err settle_open(struct rv_outbox *o);
/* Topics that were not there: rows of those that are there now are new again. */
err settle_topics(struct rv_outbox *o);

/* news.c: waits up to timeout_ms for rows that may be new. */
err news_wait(struct rv_outbox *o, int timeout_ms);

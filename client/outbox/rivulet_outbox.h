/* rivulet_outbox.h: events that leave with the transaction. This header is the manual;
 * docs/PARTS.md has the tables, for other languages and for people. Link with librivulet-outbox.
 *
 * A service that changes its state and then tells about it can die in between: changed and not
 * told, or told and not changed. With an outbox it does neither: the event is a row, written in the
 * same local transaction as the state (SQLite or PostgreSQL). A *relay* publishes the rows that are
 * committed: each exactly once, and those with the same topic and key in the order in which their
 * transactions committed. Nothing of a transaction that was rolled back is ever seen.
 *
 *     BEGIN;                                             the service, in its own words, on its own
 *     UPDATE users SET email = ... WHERE id = ...;       connection
 *     rv_outbox_add(outbox, &message, &e);               or INSERT INTO rivulet_outbox
 *     COMMIT;                                                (topic, key, value) VALUES (...)
 *
 *     for (;;) {                                         the relay: another thread or process, on a
 *         rv_outbox_relay(outbox, client, 1000, ...);    connection of its own
 *     }                                                  (or `rivulet outbox run`)
 *
 * Records without a key have no order among each other. The key's partition is that of Java's
 * partitioner; when a topic gets more partitions, keys go to others from then on (noticed within a
 * minute).
 *
 * EXACTLY ONCE. Before a batch is first sent, which rows are in it, its producer id, epoch and
 * sequences are committed in the database, so that the same batch is sent again whatever died: the
 * broker knows it. An answer that never came and that the broker may have forgotten is settled by
 * reading the partition back, never by guessing; where that cannot tell (retention has removed the
 * place) the partition stops, rv_outbox_each says so, and a person decides (rv_outbox_settle).
 *
 * SEVERAL RELAYS may run on one outbox. A lease in the database lets one work; the others take over
 * when it ends, or at once when its holder is surely gone (killed: its session of PostgreSQL, or
 * its process on this system). What a relay writes is written only while its lease is the newest,
 * so one that was stopped for an hour and wakes up cannot do harm.
 *
 * WHAT CANNOT BE SENT is not dropped and not overtaken. A record that the broker refuses (too
 * large) waits, and with it everything later of its key; a topic that is not there (or not ours to
 * write) waits as a whole; all else goes on. A topic that appears is noticed; for the rest somebody
 * mends the cause, or deletes the row, and says rv_outbox_retry.
 *
 * ERRORS. As rivulet.h has them. What the database says comes as RV_OUTBOX_DATABASE, with its
 * words: RV_RETRIABLE when it was busy; RV_UNSURE when its connection broke: open another one, and
 * an outbox on it. After any error of the database the next rv_outbox_relay begins anew from what
 * is committed there.
 *
 * An outbox belongs to one thread at a time, as the connection does on which it was opened.
 */
#ifndef RIVULET_OUTBOX_H
#define RIVULET_OUTBOX_H

#include <rivulet.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What there is beside rivulet.h's codes. */
enum rv_outbox_code {
    RV_OUTBOX_DATABASE = -201, /* the database said no */
};

struct sqlite3; /* of <sqlite3.h> */
struct pg_conn; /* PGconn of <libpq-fe.h> */
struct rv_outbox;

/* On a connection of the caller's, which stays the caller's and must outlive the outbox. A relay
 * needs one of its own, and sets there what durable commits need (synchronous, synchronous_commit)
 * and what ends it should it be stopped in a transaction (idle_in_transaction_session_timeout: the
 * lease, unless it is shorter already).
 * Options: rv_outbox_options. RV_E_OPTION; RV_E_VERSION: built, or linked, without that database;
 * RV_E_ARGUMENT: no connection. */
RV_API int rv_outbox_open_sqlite(struct sqlite3 *db, const struct rv_option *options,
                                 struct rv_outbox **ret_outbox, struct rv_error *ret_error);
RV_API int rv_outbox_open_postgresql(struct pg_conn *db, const struct rv_option *options,
                                     struct rv_outbox **ret_outbox, struct rv_error *ret_error);

/* Gives the lease back, where it is ours. Takes NULL. */
RV_API void rv_outbox_close(struct rv_outbox *outbox);

/* Names, defaults and meanings of the options; `of` is "outbox". */
RV_API const struct rv_option_info *rv_outbox_options(void);

/* Makes the tables, in a transaction of its own; those that are there stay. */
RV_API int rv_outbox_init(struct rv_outbox *outbox, struct rv_error *ret_error);

/* Adds a record within the transaction that is under way on the connection; without one it is a
 * transaction of its own. to_partition is not allowed. RV_E_ARGUMENT. */
RV_API int rv_outbox_add(struct rv_outbox *outbox, const struct rv_message *message,
                         struct rv_error *ret_error);

/* Publishes what is there; when there is nothing (or another relay has the lease), waits up to
 * timeout_ms (>= 0) for something. ret_count: records that were stored by this call, also when it
 * failed. When nothing could be stored because of the broker, says so (RV_RETRIABLE, as a rule):
 * the rows stay where they are, and the next call tries again. */
RV_API int rv_outbox_relay(struct rv_outbox *outbox, struct rv_client *client, int timeout_ms,
                           int64_t *ret_count, struct rv_error *ret_error);

struct rv_outbox_status {
    int64_t rows;          /* that are not published: the backlog */
    int64_t sealed;        /* of those: in a batch that may be on its way */
    int64_t waiting;       /* of those: behind something that cannot be sent */
    int64_t oldest_ms;     /* age of the oldest of them; 0 when there is none */
    int64_t sent;          /* published, and still kept (outbox.keep.ms) */
    int64_t epoch;         /* of the lease: how often it changed hands */
    int64_t lease_left_ms; /* of the relay that works; <= 0: there is none */
    char relay[64];        /* who that is; "" */
};
RV_API int rv_outbox_status(struct rv_outbox *outbox, struct rv_outbox_status *ret_status,
                            struct rv_error *ret_error);

enum rv_outbox_trouble_kind {
    RV_OUTBOX_TOPIC, /* the topic waits: rv_outbox_retry */
    RV_OUTBOX_KEY,   /* the row `id` is refused, and the later ones of its key wait */
    RV_OUTBOX_ROW,   /* the row `id`, without a key, is refused */
    RV_OUTBOX_BATCH, /* nobody can say whether the batch `id` was stored: rv_outbox_settle */
};
struct rv_outbox_trouble {
    enum rv_outbox_trouble_kind kind;
    int64_t id;          /* of the row or batch; of kind topic: the first row that found out */
    const char *topic;   /* 0-terminated, borrowed for the call, like key and reason */
    int32_t partition;   /* of kind batch; else -1 */
    struct rv_bytes key; /* of kind key */
    int64_t rows;        /* of kind batch: in it; else that wait, this one too */
    int64_t age_ms;      /* since when */
    const char *reason;  /* for people */
};
/* Everything that somebody should look at, oldest first. */
RV_API int rv_outbox_each(struct rv_outbox *outbox,
                          void (*fn)(void *ctx, const struct rv_outbox_trouble *trouble), void *ctx,
                          struct rv_error *ret_error);

/* What waits is tried again, of one topic or (NULL) of all. ret_rows: how many rows. */
RV_API int rv_outbox_retry(struct rv_outbox *outbox, const char *topic, int64_t *ret_rows,
                           struct rv_error *ret_error);

/* A person's word about a batch of kind RV_OUTBOX_BATCH: that it was not stored (`resend`: its rows
 * are published again), or that it was (they count as sent). RV_E_ABSENT: there is no such batch.
 */
RV_API int rv_outbox_settle(struct rv_outbox *outbox, int64_t batch, bool resend, int64_t *ret_rows,
                            struct rv_error *ret_error);

#ifdef __cplusplus
}
#endif
#endif

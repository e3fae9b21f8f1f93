/* sealed: record batches whose identity is fixed, and on the caller's disk, before they are first
 * sent: topic, partition, producer id, epoch, base sequence, and the records in order. So the same
 * batch can be sent again after a crash. For the parts that keep events before the broker has them
 * (spool, outbox); on top of rivulet.h, hidden in each of them.
 *
 * What makes it exactly once is two things together:
 *   - The broker remembers the sequences of a producer's last batches in a partition, and knows
 *     one of them when it comes again. But not for ever: `producer.id.expiration.ms` after the last
 *     batch (Kafka counts from its newest record's timestamp) everything is forgotten, and from a
 *     producer that it does not know a broker takes any sequence, without a word.
 *   - So a batch whose answer never came, in this process or in one before it (`unsure`), is looked
 *     for first: the partition is read from the end that was noted before the first attempt. It is
 *     sent again only when it is not there. Should an attempt still be under way at that moment,
 *     the broker has not forgotten, and the sequences settle it.
 * What is left: an attempt that the network holds up for longer than the broker remembers.
 *
 * The rule for the caller: one producer id has one owner at a time; of a partition at most one
 * batch is open (sent, and its fate not known); sequences go on where the batch before ended
 * (sealed_next) and begin at 0; the whole identity and `end_offset` are durable before the first
 * sealed_send of a batch; after a restart, what is on disk and not settled is `unsure`.
 *
 * A struct sealed and its client belong to one thread at a time, as in rivulet.h: calls wait.
 */
#pragma once

#include "client/rivulet.h"

#include <stdbool.h>
#include <stdint.h>

struct sealed;

enum sealed_fate {
    SEALED_OPEN,      /* not tried: time was up */
    SEALED_STORED,    /* in the log, once; `offset`, -1 where the broker has forgotten which */
    SEALED_REFUSED,   /* not in the log, and the same batch never will be: `code` */
    SEALED_LATER,     /* not in the log by this attempt; the same one may work later: `code` */
    SEALED_UNKNOWN,   /* no answer, or one that leaves it open: `unsure` is set; send it again */
    SEALED_RENEW,     /* not in the log, and its sequence does not fit what the broker remembers:
                         it needs a new identity, durable before it is sent (sealed_identity) */
    SEALED_UNKNOWABLE /* unsure, and the log does not begin early enough any more, or ends before
                         where it was: nobody can say whether it was stored. The caller's to tell */
};

struct sealed_batch {
    /* the caller's: what it is */
    const char *topic;      /* 0-terminated, borrowed */
    int32_t partition;      /* >= 0 */
    int64_t producer_id;    /* >= 0 */
    int16_t producer_epoch; /* >= 0 */
    int32_t base_sequence;  /* of its first record */
    int32_t count;          /* records */
    int64_t end_offset;     /* the partition's end before the first attempt (rv_offsets, RV_END) */
    const void *bytes;      /* the record batch, which says all this too; borrowed */
    size_t size;            /* bytes */
    bool unsure;            /* in and out: an attempt may have stored it */
    int64_t looked_offset; /* in and out: it is not before that, as far as that was there; 0: nobody
                               has looked. Where a look is cut short, the next one goes on there */
    bool looked_past_gap;  /* in and out: some of it was not there */

    /* what became of it, by sealed_send */
    enum sealed_fate fate;
    int code;       /* Kafka's or ours; RV_OK: none */
    int64_t offset; /* of its first record when it is stored; -1: not known */
    char why[250];  /* for people: broker and reason; "" when stored */
};

/* The client is borrowed. NULL: no memory. */
struct sealed *sealed_create(struct rv_client *client);
void sealed_destroy(struct sealed *s); /* takes NULL */

/* A producer id and epoch of one's own. */
int sealed_identity(struct sealed *s, int timeout_ms, int64_t *ret_id, int16_t *ret_epoch,
                    struct rv_error *ret_error);

/* How many partitions a topic has. Asks for it to be created where the broker does that.
 * UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE, ... */
int sealed_partitions(struct sealed *s, const char *topic, int timeout_ms, int32_t *ret_count,
                      struct rv_error *ret_error);

/* One attempt for each batch, those of a leader in one request as far as a broker takes it,
 * acks=all; those that are `unsure` go last, and are looked for before. No two batches of one partition. Does not pause: whoever finds LATER or
 * UNKNOWN waits a little. RV_E_MEMORY: those that it did not get to are OPEN. */
int sealed_send(struct sealed *s, struct sealed_batch *batches, size_t count, int timeout_ms,
                struct rv_error *ret_error);

enum sealed_place {
    SEALED_FOUND,  /* in the log, at *ret_offset */
    SEALED_ABSENT, /* not between end_offset and the end of now */
    SEALED_GONE,   /* not found, and part of where it could be is not there any more */
};

/* Reads the partition from end_offset on and looks for the batch: headers only, compressed or not.
 * Other than RV_OK: could not be read to its end, try again. */
int sealed_find(struct sealed *s, struct sealed_batch *batch, int timeout_ms,
                enum sealed_place *ret_place, int64_t *ret_offset, struct rv_error *ret_error);

/* The sequence after `count` records from `sequence` on: INT32_MAX is followed by 0. */
static inline int32_t sealed_next(int32_t sequence, int32_t count)
{
    return (int32_t)(((int64_t)sequence + count) & INT32_MAX);
}

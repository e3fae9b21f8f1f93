/* producer_state: the last five batches of every idempotent producer of one partition (KIP-98,
 * KIP-185): what makes a retry a duplicate and a hole an error. Derived from the log, and kept in
 * snapshots in Kafka's file format. Lives with its log.
 */
#pragma once

#include "base/err.h"
#include "base/map.h"
#include "base/str.h"
#include "protocol/batch.h"

#include <stdint.h>

enum { PRODUCER_BATCHES = 5 }; /* as many as a client may have in flight */

struct producer_batch {
    int32_t first_sequence;
    int32_t last_sequence;
    int64_t last_offset;
    int32_t offset_delta; /* last offset - first offset */
    int64_t timestamp;    /* max timestamp of the batch, ms */
};

struct producer {
    int64_t id;
    int16_t epoch;
    int8_t count;          /* of batches */
    int32_t next_sequence; /* what must come next; -1: anything */
    int64_t used_ms;       /* wall time of its last batch, as the snapshot has it */
    struct producer_batch batches[PRODUCER_BATCHES]; /* oldest first */
};

struct producer_state {
    struct map producers; /* id -> struct producer (owned) */
};

void producer_state_init(struct producer_state *p, uint64_t seed);
void producer_state_finish(struct producer_state *p);

/* OK; ERR_EXISTS: a retry, *ret_original is what was stored; ERR_ORDER, ERR_FENCED, ERR_DUPLICATE
 * as log_append. */
err producer_state_check(const struct producer_state *p, const struct batch_info *info,
                         struct producer_batch *ret_original);
void producer_state_append(struct producer_state *p, const struct batch_info *info,
                           int64_t base_offset, int64_t wall_ms);

/* Of a batch that is in the log: replay. When it came is not in there (its timestamps are the
 * client's and may be of any year), so its producer's term begins anew with wall_ms. */
void producer_state_replay(struct producer_state *p, const struct batch_header *h, int64_t wall_ms);

/* Forgets all batches at or above `offset`: they never got into the log. What must come next is
 * what was forgotten first. */
void producer_state_rollback(struct producer_state *p, int64_t offset);
void producer_state_expire(struct producer_state *p, int64_t before_ms);
size_t producer_state_count(const struct producer_state *p);

/* Kafka's snapshot file: int16 1 · uint32 crc32c of what follows · int32 count · entries, up to
 * five a producer, oldest first. */
void producer_state_encode(const struct producer_state *p, struct buf *out);
err producer_state_decode(struct producer_state *p, const void *bytes,
                          size_t size); /* ERR_CORRUPT: nothing was taken */

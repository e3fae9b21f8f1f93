/* broker_model: what clients of a broker were told, and what must be so from then on, whatever
 * happens: the promises of docs/ARCHITECTURE.md, "Durability". A broken one ends the process.
 *
 * A record is what its producer, the partition and its sequence make it: each is sent as often as
 * it takes, and stands once.
 */
#pragma once

#include "base/map.h"

#include <stdbool.h>
#include <stdint.h>

enum { MODEL_PARTITIONS = 6, MODEL_OFFSETS = 8192, MODEL_PRODUCERS = 1 << 16, MODEL_GROUPS = 4 };

struct broker_model {
    /* What somebody read, or was told to be durable. */
    uint64_t held[MODEL_PARTITIONS][MODEL_OFFSETS];
    /* What was acknowledged as written: the power may take it. */
    uint64_t written[MODEL_PARTITIONS][MODEL_OFFSETS];
    int64_t high[MODEL_PARTITIONS];      /* watermark, the highest that somebody saw */
    struct map places[MODEL_PARTITIONS]; /* record -> its offset + 1 */
    bool given[MODEL_PRODUCERS];         /* producer ids */
    bool
        holed[MODEL_PRODUCERS]; /* the power took what was acknowledged to it as written: a producer
                                   that nobody knows any more may go on with any sequence */
    int64_t committed[MODEL_GROUPS][MODEL_PARTITIONS]; /* acknowledged; -1: nothing */
    int64_t sent[MODEL_GROUPS][MODEL_PARTITIONS];      /* asked for */
    uint64_t reads;                                    /* records that were looked at */
    uint64_t acks;                                     /* records that were acknowledged */
};

static inline uint64_t model_record_of(int64_t producer, int32_t sequence)
{
    return ((uint64_t)producer + 1) << 32 | (uint32_t)sequence;
}

void broker_model_init(struct broker_model *m);
void broker_model_finish(struct broker_model *m);

void model_given(struct broker_model *m, int64_t producer); /* to nobody before */
void model_acked(struct broker_model *m, int partition, int64_t offset, uint64_t record,
                 bool durable);
/* By a reader who was told this high watermark with it. */
void model_read(struct broker_model *m, int partition, int64_t offset, uint64_t record,
                int64_t high);
/* `before`: what m->high was when the question was sent. */
void model_high(struct broker_model *m, int partition, int64_t high, int64_t before);
/* Likewise: what was acknowledged then. */
void model_committed(const struct broker_model *m, int group, int partition, int64_t offset,
                     int64_t before);

void model_power_cut(struct broker_model *m); /* what was only written may be gone */

/* All of a partition, read from its start to the high watermark: nothing is missing, a producer's
 * sequences rise without a gap. */
void model_whole(const struct broker_model *m, int partition, const uint64_t *records,
                 int64_t count);

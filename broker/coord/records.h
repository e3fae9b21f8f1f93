/* records: the records of `__consumer_offsets`, in Kafka's own format.
 *
 *     key    int16 1, offset_commit_key (0 is read too)      int16 2, group_metadata_key
 *     value  int16 version, offset_commit_value              int16 version, group_metadata_value;
 * null is a tombstone
 *
 * Versions that are written are Kafka 4.3's: offsets 4 (with the topic's id), 3 (id unknown) or 1
 * (with a time to be forgotten at, which the others cannot carry; it has no leader epoch),
 * metadata 3. Every version is read. No state; any thread.
 */
#pragma once

#include "base/arena.h"
#include "broker/group/group.h"
#include "protocol/batch.h"

struct writer;

/* Adds one record to a batch. `scratch` is emptied and used. ERR_LIMIT: something in it is longer
 * than the format can say. */
err coord_record_add(struct batch_builder *b, struct writer *scratch, struct str group_id,
                     const struct group_record *record, int64_t time_ms);

/* What a record says; borrows from the record and the arena. ERR_UNSUPPORTED: a kind of record or a
 * version that is not known here (newer kinds of groups). ERR_CORRUPT: the bytes contradict
 * themselves, or no group could be what they say. */
err coord_record_read(const struct record *in, struct arena *arena, struct str *ret_group_id,
                      struct group_record *ret_record);

/* The partition of a group, where Kafka has it. */
int32_t coord_partition_of(struct str group_id, int32_t partition_count);

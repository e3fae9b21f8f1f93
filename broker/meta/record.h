/* record: the keyed records of the metadata log, to bytes and back. Pure; no I/O.
 *
 * The last record of a key counts, an empty (null) value removes what the key names, so the log can
 * be compacted like any other:
 *
 *     key "topic:" + 22 characters of the id   value int16 version 1, string name, int32
 * partitions, int32 version, int8 internal, int32 count, count x (string name, string value) key
 * "producer_ids"                       value int16 version 1, int64 first id that is not reserved
 * yet (string: int16 length, bytes; numbers big-endian)
 */
#pragma once

#include "base/str.h"
#include "broker/config.h"

enum meta_record_kind { META_RECORD_TOPIC, META_RECORD_PRODUCER_IDS };

struct meta_record {
    enum meta_record_kind kind;
    bool removed;            /* the value is null */
    struct uuid topic_id;    /* topic: from the key */
    struct str name;         /* topic; borrowed from the bytes */
    int32_t partition_count; /* topic */
    int32_t version;         /* topic */
    bool internal;           /* topic */
    const struct config_pair
        *overrides; /* topic; owned by the arena or the caller; slices borrowed from the bytes */
    int32_t override_count;   /* topic */
    int64_t next_producer_id; /* producer ids */
};

enum { META_KEY_SIZE = 32, META_OVERRIDES_MAX = 256 };

/* Writes the key into `key`, the value to the end of `value` (nothing when removed). */
void meta_record_encode(const struct meta_record *r, char key[META_KEY_SIZE], size_t *ret_key_size,
                        struct buf *value);

/* ERR_UNSUPPORTED: a newer version, or a kind that this build does not know. ERR_CORRUPT: bytes
 * that contradict themselves. `pairs` gets up to META_OVERRIDES_MAX overrides. */
err meta_record_decode(struct bytes key, struct bytes value, struct config_pair *pairs,
                       struct meta_record *ret_record);

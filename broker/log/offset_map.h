/* offset_map: key -> offset of its last record, for the cleaner, in memory of a fixed size.
 *
 * It keeps 24 bytes a key, whatever the key's size: a hash of 128 bits in the place of the key, as
 * Kafka has it. Exact keys would make the bound depend on the clients' keys, and comparing with the
 * keys in the log would be a random read for each record. A collision would delete another key's
 * record, so the hash is SipHash with a secret of this map alone: nobody can prepare two keys for
 * it, and by chance a million keys meet with a probability of 1e-27 for each cleaning. A map that
 * is full says so, and the cleaning takes the rest in another pass. One thread.
 */
#pragma once

#include "base/siphash.h"
#include "base/str.h"

#include <stdbool.h>

struct offset_slot;

struct offset_map {
    struct offset_slot *slots; /* owned */
    size_t slot_count;         /* a power of two */
    size_t used;               /* keys in it */
    size_t limit;              /* keys that it takes */
    uint8_t secret[16];        /* of the hash */
};

/* Room for `keys` keys, or for as many as fit into memory_bytes if that is less (one at least). */
void offset_map_init(struct offset_map *m, int64_t keys, int64_t memory_bytes,
                     const uint8_t secret[16]);
void offset_map_finish(struct offset_map *m); /* takes a zeroed one */

/* Offsets come rising. False: it is full, nothing was done. */
bool offset_map_put(struct offset_map *m, struct bytes key, int64_t offset);
int64_t offset_map_get(const struct offset_map *m, struct bytes key); /* -1: it is not there */

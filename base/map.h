/* map: a hash table from byte-string keys to pointers, behind which uthash lives.
 *
 * Keys are hashed with a seed that the owner gives, so that clients cannot choose collisions;
 * iteration is in insertion order, so that what is replayed or printed does not depend on the seed.
 * Keys are copied into the entry. One thread.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map_entry;

struct map {
    struct map_entry *head; /* owned; NULL when empty */
    uint64_t seed;          /* of the hash */
};

void map_init(struct map *m, uint64_t seed);
void map_finish(struct map *m); /* frees the entries, not the values; takes a zeroed one */

void *map_get(const struct map *m, const void *key, size_t key_size); /* NULL when there is none */
err map_put(struct map *m, const void *key, size_t key_size,
            void *value); /* replaces; ERR_MEMORY */
void *map_remove(struct map *m, const void *key,
                 size_t key_size); /* the value that was there, or NULL */
size_t map_count(const struct map *m);

/* Iteration in insertion order; the entry that is visited may be removed, no other:
 *     for (struct map_entry *e = map_first(m), *after; e; e = after) { after = map_next(e); ... }
 */
struct map_entry *map_first(const struct map *m);
struct map_entry *map_next(const struct map_entry *e);
void *map_value(const struct map_entry *e);
struct bytes map_key(const struct map_entry *e);

static inline void *map_get_str(const struct map *m, struct str key)
{
    return map_get(m, key.ptr, key.len);
}

static inline err map_put_str(struct map *m, struct str key, void *value)
{
    return map_put(m, key.ptr, key.len, value);
}

static inline void *map_remove_str(struct map *m, struct str key)
{
    return map_remove(m, key.ptr, key.len);
}

uint64_t hash_bytes(const void *p, size_t size,
                    uint64_t seed); /* wyhash-like mixing; not cryptographic, seeded */

/* keys: keys to entries, in memory: where a view is kept that has no other storage.
 *
 * An index of 8 bytes a slot, open addressing, and the entries one behind the other in chunks.
 * What is replaced leaves a gap; chunks that are half gaps are emptied into a new one, so that all
 * chunks together are twice the entries at most, and a few chunks more. One thread. */
#pragma once

#include "base/str.h"
#include "client/view/rivulet_view.h"

#define KEYS_NULL UINT32_MAX

/* An entry as it lies in a chunk, at a multiple of 8 bytes. */
struct block {
    uint32_t hash;          /* of the key */
    uint32_t key_size : 30; /* bytes */
    uint32_t is_gap : 1;    /* nobody's any more */
    uint32_t is_odd : 1;    /* the lowest bit of its generation */
    uint32_t value_size;    /* bytes; KEYS_NULL: null */
    int32_t partition;
    int64_t offset;
    int64_t timestamp_ms;
    uint8_t bytes[]; /* key, value */
};

struct chunk {
    uint8_t *data;  /* owned; NULL: the number is free */
    uint32_t size;  /* bytes there */
    uint32_t used;  /* bytes, of blocks and gaps */
    uint32_t gaps;  /* bytes of those */
    int32_t unused; /* keeps the struct a multiple of 8 */
};

struct keys {
    uint64_t *slots;      /* owned; 0: empty; else a tag of the hash and the place of a block + 1 */
    uint64_t mask;        /* slots - 1; slots are a power of two; 0 while there are none */
    uint64_t used;        /* slots that are not empty */
    uint64_t nulls;       /* of those: with null values */
    struct chunk *chunks; /* owned */
    uint32_t chunk_count; /* there and free numbers */
    uint32_t chunk_slots; /* room in `chunks` */
    uint32_t tail;        /* the chunk that is filled; UINT32_MAX: none */
    uint64_t seed;        /* of the hash */
    uint64_t bytes;       /* of chunks and slots */
    uint64_t limit_bytes; /* of `bytes`; UINT64_MAX: none */
    int64_t generation;   /* entries are of this one, or of the one before */
};

void keys_init(struct keys *t, uint64_t seed, uint64_t limit_bytes);
void keys_finish(struct keys *t); /* takes a zeroed one */

/* Lives until the next call of keys_put or keys_remove. NULL: there is none. */
const struct block *keys_find(const struct keys *t, struct rv_bytes key);
/* Of the table's generation or, with `is_old`, the one before. ERR_MEMORY, ERR_LIMIT: it is as
 * it was. */
err keys_put(struct keys *t, const struct rv_view_entry *entry, bool is_old);
void keys_remove(struct keys *t, struct rv_bytes key); /* takes one that is not there */

/* The block behind the cursor (0: the first), which moves on; NULL: no more. The block that is
 * visited may be removed: then *cursor is to be set back by one, and a block may come twice. */
const struct block *keys_next(const struct keys *t, uint64_t *cursor);

/* A new generation begins: what is there is of the one before. */
void keys_begin(struct keys *t, int64_t generation);
bool block_is_old(const struct keys *t, const struct block *b);

struct rv_view_entry block_entry(const struct block *b);

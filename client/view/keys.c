/* The table of view/keys.h.
 *
 *   slot    63 ........ 40 39 ................ 15 14 ....... 0
 *           tag: high bits  number of the chunk   position / 8     + 1, so that 0 is empty
 *           of the hash
 *
 * A slot is looked for from `hash & mask` on. Removing moves what stands behind it up, so that
 * there are no marks of what was. The tag spares looking at blocks that are others'.
 *
 *   T1  every block that is not a gap has exactly one slot
 *   T2  bytes = the slots' and all chunks' sizes
 */
#include "client/view/keys.h"

#include "base/check.h"
#include "base/map.h"
#include "base/mem.h"

#include <string.h>

enum {
    CHUNK_SIZE = 256 * 1024,
    BIG_SIZE = CHUNK_SIZE / 8, /* a block above it has a chunk of its own */
    UNIT = 8,                  /* bytes; positions are multiples of it */
    UNIT_BITS = 15,            /* CHUNK_SIZE / UNIT */
    TAG_SHIFT = 40,
    SLOTS_LEAST = 64,
    CHUNKS_LEAST = 16,
    KEY_LIMIT = 1 << 30, /* bytes; of a value too */
};

#define NO_CHUNK UINT32_MAX

static const uint64_t place_mask = ((uint64_t)1 << TAG_SHIFT) - 1;

_Static_assert(CHUNK_SIZE / UNIT == 1 << UNIT_BITS, "a place in a chunk has 15 bits");
_Static_assert(sizeof(struct block) == 32, "entries are what memory is for");

void keys_init(struct keys *t, uint64_t seed, uint64_t limit_bytes)
{
    *t = (struct keys){.seed = seed, .limit_bytes = limit_bytes, .generation = 1, .tail = NO_CHUNK};
}

void keys_finish(struct keys *t)
{
    for (uint32_t i = 0; i < t->chunk_count; i++) {
        mem_free(t->chunks[i].data);
    }
    mem_free(t->chunks);
    mem_free(t->slots);
    *t = (struct keys){0};
}

/* ---- blocks and slots ---- */

static size_t block_size(size_t key_size, uint32_t value_size)
{
    size_t size = sizeof(struct block) + key_size + (value_size == KEYS_NULL ? 0 : value_size);
    return (size + UNIT - 1) & ~(size_t)(UNIT - 1);
}

static size_t size_of(const struct block *b)
{
    return block_size(b->key_size, b->value_size);
}

static struct block *block_at(const struct keys *t, uint64_t place)
{
    const struct chunk *c = &t->chunks[place >> UNIT_BITS];
    return (struct block *)(c->data + (place & ((1 << UNIT_BITS) - 1)) * UNIT);
}

static struct block *block_of(const struct keys *t, uint64_t slot)
{
    return block_at(t, (slot & place_mask) - 1);
}

static uint64_t slot_make(uint32_t hash, uint64_t place)
{
    return (uint64_t)(hash >> 8) << TAG_SHIFT | (place + 1);
}

/* The slot of the key, or the empty one where it belongs. */
static uint64_t slot_find(const struct keys *t, uint32_t hash, struct rv_bytes key)
{
    uint64_t i = hash & t->mask;
    for (; t->slots[i]; i = (i + 1) & t->mask) {
        if (t->slots[i] >> TAG_SHIFT != hash >> 8) {
            continue;
        }
        const struct block *b = block_of(t, t->slots[i]);
        if (b->hash == hash && b->key_size == key.size &&
            (key.size == 0 || memcmp(b->bytes, key.ptr, key.size) == 0)) {
            break;
        }
    }
    return i;
}

static uint32_t hash_of(const struct keys *t, struct rv_bytes key)
{
    return (uint32_t)hash_bytes(key.size ? key.ptr : "", key.size, t->seed);
}

const struct block *keys_find(const struct keys *t, struct rv_bytes key)
{
    if (!t->slots) {
        return NULL;
    }
    uint64_t slot = t->slots[slot_find(t, hash_of(t, key), key)];
    return slot ? block_of(t, slot) : NULL;
}

/* ---- room ---- */

static err bytes_take(struct keys *t, uint64_t size)
{
    if (size > t->limit_bytes || t->bytes > t->limit_bytes - size) {
        return ERR_LIMIT;
    }
    t->bytes += size;
    return OK;
}

/* A slot more will be used: room for it, an eighth staying empty. */
static err slots_reserve(struct keys *t)
{
    uint64_t count = t->slots ? t->mask + 1 : 0;
    if (t->used < count - count / 8) {
        return OK;
    }
    uint64_t more = count ? count * 2 : SLOTS_LEAST;
    err e = bytes_take(t, (more - count) * sizeof *t->slots);
    uint64_t *slots = e ? NULL : mem_zero(more, sizeof *slots);
    if (!slots) {
        t->bytes -= e ? 0 : (more - count) * sizeof *t->slots;
        return e ? e : ERR_MEMORY;
    }
    for (uint64_t i = 0; i < count; i++) {
        if (t->slots[i]) {
            uint64_t to = block_of(t, t->slots[i])->hash & (more - 1);
            while (slots[to]) {
                to = (to + 1) & (more - 1);
            }
            slots[to] = t->slots[i];
        }
    }
    mem_free(t->slots);
    t->slots = slots;
    t->mask = more - 1;
    return OK;
}

/* A new chunk; its number. */
static err chunk_add(struct keys *t, size_t size, uint32_t *ret_number)
{
    uint32_t n = 0;
    while (n < t->chunk_count && t->chunks[n].data) {
        n++;
    }
    if (n == t->chunk_slots) {
        uint32_t slots = t->chunk_slots ? t->chunk_slots * 2 : CHUNKS_LEAST;
        struct chunk *chunks = mem_resize(t->chunks, slots * sizeof *chunks);
        if (!chunks) {
            return ERR_MEMORY;
        }
        t->chunks = chunks;
        t->chunk_slots = slots;
    }
    err e = bytes_take(t, size);
    uint8_t *data = e ? NULL : mem_alloc(size);
    if (!data) {
        t->bytes -= e ? 0 : size;
        return e ? e : ERR_MEMORY;
    }
    t->chunks[n] = (struct chunk){.data = data, .size = (uint32_t)size};
    t->chunk_count += n == t->chunk_count;
    *ret_number = n;
    return OK;
}

static void chunk_drop(struct keys *t, uint32_t n)
{
    t->bytes -= t->chunks[n].size;
    mem_free(t->chunks[n].data);
    t->chunks[n] = (struct chunk){0};
}

/* Room for a block in the chunk, which has it; its place. */
static uint64_t chunk_take(struct keys *t, uint32_t n, size_t size)
{
    struct chunk *c = &t->chunks[n];
    uint64_t place = (uint64_t)n << UNIT_BITS | c->used / UNIT;
    c->used += (uint32_t)size;
    return place;
}

/* All blocks of chunk `from` to the tail, which has room for them. */
static void chunk_empty(struct keys *t, uint32_t from)
{
    const struct chunk *c = &t->chunks[from];
    for (uint32_t at = 0; at < c->used;) {
        const struct block *b = (const struct block *)(c->data + at);
        size_t size = size_of(b);
        if (!b->is_gap) {
            uint64_t old = (uint64_t)from << UNIT_BITS | at / UNIT;
            uint64_t i = b->hash & t->mask;
            while ((t->slots[i] & place_mask) != old + 1) { /* T1: it ends */
                i = (i + 1) & t->mask;
            }
            uint64_t place = chunk_take(t, t->tail, size);
            memcpy(block_at(t, place), b, size);
            t->slots[i] = slot_make(b->hash, place);
        }
        at += (uint32_t)size;
    }
    chunk_drop(t, from);
}

/* The tail becomes a new chunk, and what is half gaps goes into it while that leaves it half
 * empty: each 128 KiB moved free as much at least. */
static err tail_renew(struct keys *t)
{
    uint32_t n;
    err e = chunk_add(t, CHUNK_SIZE, &n);
    if (e) {
        return e;
    }
    t->tail = n;
    for (uint32_t i = 0; i < t->chunk_count; i++) {
        const struct chunk *c = &t->chunks[i];
        if (i != t->tail && c->size == CHUNK_SIZE && c->gaps >= CHUNK_SIZE / 2 &&
            c->used - c->gaps + t->chunks[t->tail].used <= CHUNK_SIZE / 2) {
            chunk_empty(t, i);
        }
    }
    return OK;
}

static err block_reserve(struct keys *t, size_t size, uint64_t *ret_place)
{
    if (size > BIG_SIZE) {
        uint32_t n;
        err e = chunk_add(t, size, &n);
        if (!e) {
            *ret_place = chunk_take(t, n, size);
        }
        return e;
    }
    if (t->tail == NO_CHUNK || t->chunks[t->tail].used + size > CHUNK_SIZE) {
        err e = tail_renew(t);
        if (e) {
            return e;
        }
    }
    *ret_place = chunk_take(t, t->tail, size);
    return OK;
}

/* The block is nobody's any more. A chunk without any goes at once, but for the tail. */
static void block_free(struct keys *t, uint64_t place)
{
    uint32_t n = (uint32_t)(place >> UNIT_BITS);
    struct chunk *c = &t->chunks[n];
    struct block *b = block_at(t, place);
    t->nulls -= b->value_size == KEYS_NULL;
    b->is_gap = 1;
    c->gaps += (uint32_t)size_of(b);
    if (c->gaps == c->used && n != t->tail) {
        chunk_drop(t, n);
    }
}

/* ---- put and remove ---- */

static void block_fill(struct keys *t, struct block *b, uint32_t hash,
                       const struct rv_view_entry *e, bool is_old)
{
    bool has_value = e->value.ptr != NULL;
    *b = (struct block){.hash = hash,
                        .key_size = (uint32_t)e->key.size & (KEY_LIMIT - 1),
                        .is_odd = (uint32_t)((t->generation - is_old) & 1),
                        .value_size = has_value ? (uint32_t)e->value.size : KEYS_NULL,
                        .partition = e->partition,
                        .offset = e->offset,
                        .timestamp_ms = e->timestamp_ms};
    if (e->key.size) {
        memcpy(b->bytes, e->key.ptr, e->key.size);
    }
    if (has_value && e->value.size) {
        memcpy(b->bytes + e->key.size, e->value.ptr, e->value.size);
    }
    t->nulls += !has_value;
}

err keys_put(struct keys *t, const struct rv_view_entry *entry, bool is_old)
{
    if (entry->key.size >= KEY_LIMIT || entry->value.size >= KEY_LIMIT) {
        return ERR_LIMIT;
    }
    uint32_t hash = hash_of(t, entry->key);
    size_t size =
        block_size(entry->key.size, entry->value.ptr ? (uint32_t)entry->value.size : KEYS_NULL);
    err e = slots_reserve(t);
    if (e) {
        return e;
    }
    uint64_t i = slot_find(t, hash, entry->key);
    struct block *old = t->slots[i] ? block_of(t, t->slots[i]) : NULL;
    if (old && size_of(old) == size) {
        t->nulls -= old->value_size == KEYS_NULL;
        block_fill(t, old, hash, entry, is_old);
        return OK;
    }
    uint64_t place;
    e = block_reserve(t, size, &place); /* blocks may move, slots do not */
    if (e) {
        return e;
    }
    block_fill(t, block_at(t, place), hash, entry, is_old);
    uint64_t before = t->slots[i];
    t->slots[i] = slot_make(hash, place);
    t->used += before == 0;
    if (before) {
        block_free(t, (before & place_mask) - 1);
    }
    return OK;
}

void keys_remove(struct keys *t, struct rv_bytes key)
{
    if (!t->slots) {
        return;
    }
    uint64_t hole = slot_find(t, hash_of(t, key), key);
    uint64_t slot = t->slots[hole];
    if (!slot) {
        return;
    }
    for (uint64_t i = hole;;) { /* what may stand in the hole moves there, and leaves one */
        i = (i + 1) & t->mask;
        if (!t->slots[i]) {
            break;
        }
        uint64_t home = block_of(t, t->slots[i])->hash & t->mask;
        if (((i - home) & t->mask) >= ((i - hole) & t->mask)) {
            t->slots[hole] = t->slots[i];
            hole = i;
        }
    }
    t->slots[hole] = 0;
    t->used--;
    block_free(t, (slot & place_mask) - 1);
}

/* ---- all of it ---- */

const struct block *keys_next(const struct keys *t, uint64_t *cursor)
{
    uint64_t count = t->slots ? t->mask + 1 : 0;
    for (uint64_t i = *cursor; i < count; i++) {
        if (t->slots[i]) {
            *cursor = i + 1;
            return block_of(t, t->slots[i]);
        }
    }
    *cursor = count;
    return NULL;
}

void keys_begin(struct keys *t, int64_t generation)
{
    t->generation = generation;
    uint64_t cursor = 0;
    for (const struct block *b; (b = keys_next(t, &cursor));) {
        ((struct block *)b)->is_odd = (uint32_t)(~generation & 1); /* it is ours */
    }
}

bool block_is_old(const struct keys *t, const struct block *b)
{
    return b->is_odd != (uint32_t)(t->generation & 1);
}

struct rv_view_entry block_entry(const struct block *b)
{
    bool has_value = b->value_size != KEYS_NULL;
    return (struct rv_view_entry){
        .key = {b->bytes,                                  b->key_size                  },
        .value = {has_value ? b->bytes + b->key_size : NULL, has_value ? b->value_size : 0},
        .partition = b->partition,
        .offset = b->offset,
        .timestamp_ms = b->timestamp_ms,
    };
}

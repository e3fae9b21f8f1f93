#include "base/map.h"

#include "base/check.h"
#include "base/mem.h"

/* uthash would exit() on a failed allocation: with HASH_NONFATAL_OOM the element is told instead.
 */
#define HASH_NONFATAL_OOM      1
#define uthash_malloc(size)    mem_alloc(size)
#define uthash_free(p, size)   mem_free(p)
#define uthash_nonfatal_oom(e) ((e)->lost = true)
#define HASH_FUNCTION(key, size, hash)                                                             \
    ((hash) = 0) /* never used: every call passes its hash value */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include <uthash.h>

struct map_entry {
    UT_hash_handle hh;
    void *value;     /* the owner's */
    size_t key_size; /* bytes */
    bool lost;       /* uthash found no memory for it */
    uint8_t key[];
};

static uint64_t mix(uint64_t a, uint64_t b)
{
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t hash_bytes(const void *p, size_t size, uint64_t seed)
{
    const uint8_t *at = p;
    uint64_t h = seed ^ mix(seed ^ 0xA0761D6478BD642Fu, size ^ 0xE7037ED1A0B428DBu);
    while (size >= 16) {
        uint64_t a, b;
        memcpy(&a, at, 8);
        memcpy(&b, at + 8, 8);
        h = mix(a ^ 0x8EBC6AF09C88C6E3u, b ^ h);
        at += 16;
        size -= 16;
    }
    uint64_t last[2] = {0, 0};
    if (size) {
        memcpy(last, at, size);
    }
    h = mix(last[0] ^ 0x589965CC75374CC3u, last[1] ^ h);
    return mix(h ^ 0xA0761D6478BD642Fu, 0x1D8E4E27C47D124Fu);
}

static unsigned hash_of(const struct map *m, const void *key, size_t key_size)
{
    return (unsigned)hash_bytes(key, key_size, m->seed);
}

void map_init(struct map *m, uint64_t seed)
{
    *m = (struct map){.seed = seed};
}

void map_finish(struct map *m)
{
    struct map_entry *e = m->head;
    while (e) {
        struct map_entry *after = e->hh.next;
        HASH_DEL(m->head, e);
        mem_free(e);
        e = after;
    }
    m->head = NULL;
}

static struct map_entry *find(const struct map *m, const void *key, size_t key_size)
{
    struct map_entry *e = NULL;
    if (!m->head) {
        return NULL;
    }
    static const char none[1];
    HASH_FIND_BYHASHVALUE(hh, m->head, key_size ? key : none, key_size, hash_of(m, key, key_size),
                          e);
    return e;
}

void *map_get(const struct map *m, const void *key, size_t key_size)
{
    struct map_entry *e = find(m, key, key_size);
    return e ? e->value : NULL;
}

err map_put(struct map *m, const void *key, size_t key_size, void *value)
{
    check(value != NULL); /* NULL is how map_get says "none" */
    struct map_entry *e = find(m, key, key_size);
    if (e) {
        e->value = value;
        return OK;
    }
    e = mem_zero(1, sizeof *e + key_size + 1);
    if (!e) {
        return ERR_MEMORY;
    }
    e->value = value;
    e->key_size = key_size;
    if (key_size) {
        memcpy(e->key, key, key_size);
    }
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, m->head, e->key, key_size, hash_of(m, key, key_size), e);
    if (e->lost) {
        mem_free(e);
        return ERR_MEMORY;
    }
    return OK;
}

void *map_remove(struct map *m, const void *key, size_t key_size)
{
    struct map_entry *e = find(m, key, key_size);
    if (!e) {
        return NULL;
    }
    void *value = e->value;
    HASH_DEL(m->head, e);
    mem_free(e);
    return value;
}

size_t map_count(const struct map *m)
{
    return m->head ? HASH_COUNT(m->head) : 0;
}

struct map_entry *map_first(const struct map *m)
{
    return m->head;
}

struct map_entry *map_next(const struct map_entry *e)
{
    return e->hh.next;
}

void *map_value(const struct map_entry *e)
{
    return e->value;
}

struct bytes map_key(const struct map_entry *e)
{
    return (struct bytes){.ptr = e->key, .len = e->key_size};
}
#pragma GCC diagnostic pop

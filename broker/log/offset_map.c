/* Open addressing with linear probing; three quarters are used at most. */
#include "broker/log/offset_map.h"

#include "base/mem.h"

struct offset_slot {
    struct hash128 hash;
    int64_t end; /* the offset + 1; 0: free */
};

enum { SLOTS_MIN = 4 };

static size_t keys_of(size_t slots)
{
    return slots / 4 * 3;
}

void offset_map_init(struct offset_map *m, int64_t keys, int64_t memory_bytes,
                     const uint8_t secret[16])
{
    size_t slots = SLOTS_MIN;
    while ((int64_t)keys_of(slots) < keys &&
           (int64_t)(slots * 2 * sizeof(struct offset_slot)) <= memory_bytes) {
        slots *= 2;
    }
    int64_t fits = memory_bytes / (int64_t)sizeof(struct offset_slot);
    *m = (struct offset_map){.slot_count = slots, .limit = keys_of(slots)};
    if (fits < (int64_t)m->limit) {
        m->limit = fits < 1 ? 1 : (size_t)fits;
    }
    m->slots = mem_need_zero(slots, sizeof *m->slots);
    memcpy(m->secret, secret, sizeof m->secret);
}

void offset_map_finish(struct offset_map *m)
{
    mem_free(m->slots);
    *m = (struct offset_map){0};
}

static struct offset_slot *find(const struct offset_map *m, struct bytes key,
                                struct hash128 *ret_hash)
{
    struct hash128 h = siphash128(key.len ? (const void *)key.ptr : "", key.len, m->secret);
    size_t at = (size_t)h.a & (m->slot_count - 1);
    while (m->slots[at].end && (m->slots[at].hash.a != h.a || m->slots[at].hash.b != h.b)) {
        at = (at + 1) & (m->slot_count - 1);
    }
    *ret_hash = h;
    return &m->slots[at];
}

bool offset_map_put(struct offset_map *m, struct bytes key, int64_t offset)
{
    struct hash128 h;
    struct offset_slot *s = find(m, key, &h);
    if (!s->end) {
        if (m->used == m->limit) {
            return false;
        }
        m->used++;
        s->hash = h;
    }
    s->end = offset + 1;
    return true;
}

int64_t offset_map_get(const struct offset_map *m, struct bytes key)
{
    struct hash128 h;
    return find(m, key, &h)->end - 1;
}

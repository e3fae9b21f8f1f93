/* Invariants:
 *   P1  batches of one producer are of its epoch, oldest first, and their sequences follow each
 * other P2  next_sequence is what follows the newest batch, or what was rolled back first, or -1
 * (nothing known)
 */
#include "broker/log/producer_state.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/mem.h"

#include <string.h>

enum { SNAPSHOT_VERSION = 1, SNAPSHOT_HEAD = 10, SNAPSHOT_ENTRY = 46 };

void producer_state_init(struct producer_state *p, uint64_t seed)
{
    map_init(&p->producers, seed);
}

static void drop_all(struct producer_state *p)
{
    for (struct map_entry *e = map_first(&p->producers); e; e = map_next(e)) {
        mem_free(map_value(e));
    }
}

void producer_state_finish(struct producer_state *p)
{
    drop_all(p);
    map_finish(&p->producers);
}

size_t producer_state_count(const struct producer_state *p)
{
    return map_count(&p->producers);
}

static int32_t sequence_add(int32_t sequence, int32_t n) /* wraps from INT32_MAX to 0 */
{
    return (int32_t)(((int64_t)sequence + n) & INT32_MAX);
}

static struct producer *find(const struct producer_state *p, int64_t id)
{
    return map_get(&p->producers, &id, sizeof id);
}

err producer_state_check(const struct producer_state *p, const struct batch_info *info,
                         struct producer_batch *ret_original)
{
    const struct producer *known = find(p, info->producer_id);
    if (!known) {
        return OK; /* forgotten or new: whatever it begins with (KIP-360) */
    }
    if (info->producer_epoch < known->epoch) {
        return ERR_FENCED;
    }
    if (info->producer_epoch > known->epoch) {
        return info->base_sequence == 0 ? OK : ERR_ORDER;
    }
    int32_t last = sequence_add(info->base_sequence, info->last_offset_delta);
    for (int i = 0; i < known->count; i++) {
        if (known->batches[i].first_sequence == info->base_sequence &&
            known->batches[i].last_sequence == last) {
            *ret_original = known->batches[i];
            return ERR_EXISTS;
        }
    }
    if (known->next_sequence < 0 || info->base_sequence == known->next_sequence) {
        return OK;
    }
    /* Behind what comes next by less than half of the numbers there are: it was there once. */
    uint32_t behind = ((uint32_t)known->next_sequence - (uint32_t)info->base_sequence) & INT32_MAX;
    return behind < 1u << 30 && known->count == PRODUCER_BATCHES ? ERR_DUPLICATE : ERR_ORDER;
}

static void add_batch(struct producer *known, const struct producer_batch *b)
{
    if (known->count == PRODUCER_BATCHES) {
        memmove(known->batches, known->batches + 1,
                sizeof known->batches[0] * (PRODUCER_BATCHES - 1));
        known->count--;
    }
    known->batches[known->count++] = *b;
    known->next_sequence = sequence_add(b->last_sequence, 1);
}

static void take(struct producer_state *p, int64_t id, int16_t epoch,
                 const struct producer_batch *b, int64_t used_ms)
{
    struct producer *known = find(p, id);
    if (!known) {
        known = mem_need_zero(1, sizeof *known);
        known->id = id;
        known->epoch = epoch;
        known->next_sequence = -1;
        check(map_put(&p->producers, &id, sizeof id, known) == OK);
    }
    if (epoch != known->epoch) {
        known->epoch = epoch;
        known->count = 0;
    }
    known->used_ms = used_ms;
    add_batch(known, b);
}

void producer_state_append(struct producer_state *p, const struct batch_info *info,
                           int64_t base_offset, int64_t wall_ms)
{
    struct producer_batch b = {
        .first_sequence = info->base_sequence,
        .last_sequence = sequence_add(info->base_sequence, info->last_offset_delta),
        .last_offset = base_offset + info->last_offset_delta,
        .offset_delta = info->last_offset_delta,
        .timestamp = info->max_timestamp,
    };
    take(p, info->producer_id, info->producer_epoch, &b, wall_ms);
}

void producer_state_replay(struct producer_state *p, const struct batch_header *h, int64_t wall_ms)
{
    if (h->producer_id < 0 || h->base_sequence < 0 || h->attributes & BATCH_ATTRIBUTE_CONTROL) {
        return;
    }
    const struct producer *known = find(p, h->producer_id);
    if (known && h->producer_epoch < known->epoch) {
        return; /* cannot be in a log that we wrote; the newer epoch stands */
    }
    struct producer_batch b = {
        .first_sequence = h->base_sequence,
        .last_sequence = sequence_add(h->base_sequence, h->last_offset_delta),
        .last_offset = h->base_offset + h->last_offset_delta,
        .offset_delta = h->last_offset_delta,
        .timestamp = h->max_timestamp,
    };
    take(p, h->producer_id, h->producer_epoch, &b, wall_ms);
}

void producer_state_rollback(struct producer_state *p, int64_t offset)
{
    for (struct map_entry *e = map_first(&p->producers); e; e = map_next(e)) {
        struct producer *known = map_value(e);
        while (known->count > 0 && known->batches[known->count - 1].last_offset >= offset) {
            known->count--;
            known->next_sequence = known->batches[known->count].first_sequence;
        }
    }
}

void producer_state_expire(struct producer_state *p, int64_t before_ms)
{
    for (struct map_entry *e = map_first(&p->producers), *after; e; e = after) {
        after = map_next(e);
        struct producer *known = map_value(e);
        if (known->used_ms < before_ms) {
            int64_t id = known->id;
            map_remove(&p->producers, &id, sizeof id);
            mem_free(known);
        }
    }
}

static void encode_entry(const struct producer *known, const struct producer_batch *b, uint8_t *at)
{
    put_be64(at, (uint64_t)known->id);
    put_be16(at + 8, (uint16_t)known->epoch);
    put_be32(at + 10, (uint32_t)b->last_sequence);
    put_be64(at + 14, (uint64_t)b->last_offset);
    put_be32(at + 22, (uint32_t)b->offset_delta);
    put_be64(at + 26, (uint64_t)known->used_ms);
    put_be32(at + 34, (uint32_t)-1); /* coordinator epoch */
    put_be64(at + 38, (uint64_t)-1); /* first offset of a transaction */
}

void producer_state_encode(const struct producer_state *p, struct buf *out)
{
    size_t start = out->len;
    uint32_t count = 0;
    uint8_t entry[SNAPSHOT_ENTRY] = {0};
    buf_add(out, entry, SNAPSHOT_HEAD);
    for (struct map_entry *e = map_first(&p->producers); e; e = map_next(e)) {
        const struct producer *known = map_value(e);
        for (int i = 0; i < known->count; i++) {
            encode_entry(known, &known->batches[i], entry);
            buf_add(out, entry, sizeof entry);
            count++;
        }
    }
    check(!out->failed);
    uint8_t *head = (uint8_t *)out->ptr + start;
    put_be16(head, SNAPSHOT_VERSION);
    put_be32(head + 6, count);
    put_be32(head + 2, crc32c(head + 6, out->len - start - 6));
}

err producer_state_decode(struct producer_state *p, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    if (size < SNAPSHOT_HEAD || get_be16(at) != SNAPSHOT_VERSION ||
        get_be32(at + 2) != crc32c(at + 6, size - 6)) {
        return ERR_CORRUPT;
    }
    uint32_t count = get_be32(at + 6);
    if (count > (size - SNAPSHOT_HEAD) / SNAPSHOT_ENTRY ||
        SNAPSHOT_HEAD + (size_t)count * SNAPSHOT_ENTRY != size) {
        return ERR_CORRUPT;
    }
    at += SNAPSHOT_HEAD;
    for (uint32_t i = 0; i < count; i++, at += SNAPSHOT_ENTRY) {
        struct producer_batch b = {
            .last_sequence = (int32_t)get_be32(at + 10),
            .last_offset = (int64_t)get_be64(at + 14),
            .offset_delta = (int32_t)get_be32(at + 22),
            .timestamp = (int64_t)get_be64(at + 26),
        };
        if (b.last_sequence < 0 || b.offset_delta < 0) {
            continue; /* a producer of which only the epoch is known */
        }
        b.first_sequence = sequence_add(b.last_sequence, -b.offset_delta);
        take(p, (int64_t)get_be64(at), (int16_t)get_be16(at + 8), &b, b.timestamp);
    }
    return OK;
}

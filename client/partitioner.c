#include "client/partitioner.h"

#include "client/rivulet.h"

enum { MIX_SHIFT = 24 };

static const uint32_t seed = 0x9747b28c;
static const uint32_t mix = 0x5bd1e995;

uint32_t murmur2(const void *p, size_t size)
{
    const uint8_t *at = p;
    const uint8_t *end = at + (size & ~(size_t)3);
    uint32_t h = seed ^ (uint32_t)size;
    for (; at != end; at += 4) {
        uint32_t k =
            (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
        k *= mix;
        k ^= k >> MIX_SHIFT;
        k *= mix;
        h *= mix;
        h ^= k;
    }
    size_t rest = size & 3;
    if (rest) {
        for (size_t i = rest; i-- > 0;) {
            h ^= (uint32_t)at[i] << (8 * i);
        }
        h *= mix;
    }
    h ^= h >> 13;
    h *= mix;
    h ^= h >> 15;
    return h;
}

int32_t rv_partition_of_key(const void *key, size_t size, int32_t count)
{
    return count > 0 ? (int32_t)(murmur2(key ? key : "", key ? size : 0) & INT32_MAX) % count : -1;
}

#include "base/siphash.h"

#include <string.h>

struct state {
    uint64_t v0, v1, v2, v3;
};

static uint64_t turn(uint64_t x, int bits)
{
    return (x << bits) | (x >> (64 - bits));
}

static void rounds(struct state *s, int count)
{
    for (; count > 0; count--) {
        s->v0 += s->v1;
        s->v1 = turn(s->v1, 13) ^ s->v0;
        s->v0 = turn(s->v0, 32);
        s->v2 += s->v3;
        s->v3 = turn(s->v3, 16) ^ s->v2;
        s->v0 += s->v3;
        s->v3 = turn(s->v3, 21) ^ s->v0;
        s->v2 += s->v1;
        s->v1 = turn(s->v1, 17) ^ s->v2;
        s->v2 = turn(s->v2, 32);
    }
}

static void absorb(struct state *s, uint64_t word)
{
    s->v3 ^= word;
    rounds(s, 2);
    s->v0 ^= word;
}

struct hash128 siphash128(const void *p, size_t size, const uint8_t key[16])
{
    uint64_t k[2], word;
    const uint8_t *at = p;
    size_t left = size;
    memcpy(k, key, sizeof k); /* little-endian, as base/bytes.h checks */
    struct state s = {k[0] ^ 0x736f6d6570736575u, k[1] ^ 0x646f72616e646f6du ^ 0xee,
                      k[0] ^ 0x6c7967656e657261u, k[1] ^ 0x7465646279746573u};
    for (; left >= 8; at += 8, left -= 8) {
        memcpy(&word, at, 8);
        absorb(&s, word);
    }
    word = 0;
    if (left) {
        memcpy(&word, at, left);
    }
    absorb(&s, word | (uint64_t)size << 56);
    struct hash128 h;
    s.v2 ^= 0xee;
    rounds(&s, 4);
    h.a = s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
    s.v1 ^= 0xdd;
    rounds(&s, 4);
    h.b = s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
    return h;
}

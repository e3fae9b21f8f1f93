#include "base/rand.h"

#include "base/check.h"

#include <string.h>
#include <sys/random.h>

static uint64_t rotate(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

void rng_init(struct rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) { /* splitmix64, as its authors advise for seeding */
        seed += 0x9E3779B97F4A7C15u;
        uint64_t z = seed;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        r->s[i] = z ^ (z >> 31);
    }
}

uint64_t rng_next(struct rng *r)
{
    uint64_t *s = r->s;
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

uint64_t rng_below(struct rng *r, uint64_t limit)
{
    check(limit > 0);
    uint64_t least = (0 - limit) % limit; /* values below it would favour small results */
    uint64_t x;
    do {
        x = rng_next(r);
    } while (x < least);
    return x % limit;
}

void rng_bytes(struct rng *r, void *p, size_t size)
{
    char *to = p;
    while (size) {
        uint64_t x = rng_next(r);
        size_t n = size < sizeof x ? size : sizeof x;
        memcpy(to, &x, n);
        to += n;
        size -= n;
    }
}

void rand_system(void *p, size_t size)
{
    char *to = p;
    while (size) {
        ssize_t n = getrandom(to, size, 0);
        check(n > 0);
        to += n;
        size -= (size_t)n;
    }
}

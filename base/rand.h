/* rand: numbers that need not be secret (seeded, repeatable: xoshiro256**), and the system's random
 * bytes for ids and seeds. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t s[4]; /* state; never all zero */
};

void rng_init(struct rng *r,
              uint64_t seed); /* the same seed gives the same numbers, on every machine */
uint64_t rng_next(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t limit); /* 0 <= x < limit, unbiased; limit > 0 */
void rng_bytes(struct rng *r, void *p, size_t size);

void rand_system(void *p,
                 size_t size); /* from getrandom(2); the process ends if the system has none */

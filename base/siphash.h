/* siphash: SipHash-2-4 with 128 bits, a keyed hash that nobody who does not know the key can make
 * collide (Aumasson, Bernstein). For where a collision would cost data, not only time.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct hash128 {
    uint64_t a; /* the first 8 bytes of the output, little-endian */
    uint64_t b; /* the other 8 */
};

struct hash128 siphash128(const void *p, size_t size, const uint8_t key[16]);

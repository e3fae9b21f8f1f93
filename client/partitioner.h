/* partitioner: which partition a key belongs to, as Java's default partitioner has it. No state;
 * any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The 32-bit hash of Kafka's clients: MurmurHash2 with their seed. */
uint32_t murmur2(const void *p, size_t size);

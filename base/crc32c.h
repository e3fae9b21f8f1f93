/* crc32c: CRC-32C (Castagnoli), as in record batches: by the instructions of the CPU where it has
 * them; else by tables. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(const void *p, size_t size);
uint32_t crc32c_more(uint32_t crc, const void *p, size_t size); /* goes on from a former result */

/* How it is done. The two above take the last that this CPU can; tests try each. */
enum crc32c_way {
    CRC32C_TABLES, /* everywhere */
    CRC32C_CPU,    /* its CRC instruction; on x86-64 three lanes, joined by PCLMULQDQ */
};
bool crc32c_can(enum crc32c_way way);
uint32_t crc32c_by(enum crc32c_way way, uint32_t crc, const void *p, size_t size); /* can */

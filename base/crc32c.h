/* crc32c: CRC-32C (Castagnoli), as in record batches; by ISA-L, three lanes where the CPU has them.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(const void *p, size_t size);
uint32_t crc32c_more(uint32_t crc, const void *p, size_t size); /* goes on from a former result */

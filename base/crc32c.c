#include "base/crc32c.h"

#include <isa-l/crc.h>

enum { STEP = 1 << 30 }; /* ISA-L takes an int */

uint32_t crc32c_more(uint32_t crc, const void *p, size_t size)
{
    const unsigned char *at = p;
    crc = ~crc;
    while (size) {
        size_t n = size < STEP ? size : STEP;
        crc = crc32_iscsi((unsigned char *)(uintptr_t)at, (int)n, crc);
        at += n;
        size -= n;
    }
    return ~crc;
}

uint32_t crc32c(const void *p, size_t size)
{
    return crc32c_more(0, p, size);
}

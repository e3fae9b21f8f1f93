/* A CRC is the remainder of a polynomial over GF(2), here with its bits reflected: bit 31 is x^0.
 * What the three lanes of a stretch give is joined by multiplying the earlier ones by x to the
 * number of bits that follow them, modulo the polynomial: a carry-less multiplication by a
 * constant, after which the CRC instruction itself divides. */
#include "base/crc32c.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#endif

static inline uint64_t get_word(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

/* ---- by tables: eight bytes a step. tables[k][b] is the CRC of the byte b and k zero bytes behind
 * it. It is linear in the bits of b, so eight values (x^(8k + 39) down to x^(8k + 32)) make a
 * table. */

#define BIT(i, k, c) ((i) >> (k)&1 ? (c) : 0)
#define T1(i, c0, c1, c2, c3, c4, c5, c6, c7)                                                      \
    (BIT(i, 0, c0) ^ BIT(i, 1, c1) ^ BIT(i, 2, c2) ^ BIT(i, 3, c3) ^ BIT(i, 4, c4) ^               \
     BIT(i, 5, c5) ^ BIT(i, 6, c6) ^ BIT(i, 7, c7))
#define T4(i, ...)                                                                                 \
    T1(i, __VA_ARGS__), T1((i) + 1, __VA_ARGS__), T1((i) + 2, __VA_ARGS__), T1((i) + 3, __VA_ARGS__)
#define T16(i, ...)                                                                                \
    T4(i, __VA_ARGS__), T4((i) + 4, __VA_ARGS__), T4((i) + 8, __VA_ARGS__),                        \
        T4((i) + 12, __VA_ARGS__)
#define T64(i, ...)                                                                                \
    T16(i, __VA_ARGS__), T16((i) + 16, __VA_ARGS__), T16((i) + 32, __VA_ARGS__),                   \
        T16((i) + 48, __VA_ARGS__)
#define T256(...)                                                                                  \
    {                                                                                              \
        T64(0, __VA_ARGS__), T64(64, __VA_ARGS__), T64(128, __VA_ARGS__), T64(192, __VA_ARGS__)    \
    }

/* clang-format off */
static const uint32_t tables[8][256] = {
    T256(0xF26B8303u, 0xE13B70F7u, 0xC79A971Fu, 0x8AD958CFu, 0x105EC76Fu, 0x20BD8EDEu, 0x417B1DBCu, 0x82F63B78u),
    T256(0x13A29877u, 0x274530EEu, 0x4E8A61DCu, 0x9D14C3B8u, 0x3FC5F181u, 0x7F8BE302u, 0xFF17C604u, 0xFBC3FAF9u),
    T256(0xA541927Eu, 0x4F6F520Du, 0x9EDEA41Au, 0x38513EC5u, 0x70A27D8Au, 0xE144FB14u, 0xC76580D9u, 0x8B277743u),
    T256(0xDD45AAB8u, 0xBF672381u, 0x7B2231F3u, 0xF64463E6u, 0xE964B13Du, 0xD725148Bu, 0xABA65FE7u, 0x52A0C93Fu),
    T256(0x38116FACu, 0x7022DF58u, 0xE045BEB0u, 0xC5670B91u, 0x8F2261D3u, 0x1BA8B557u, 0x37516AAEu, 0x6EA2D55Cu),
    T256(0xEF306B19u, 0xDB8CA0C3u, 0xB2F53777u, 0x6006181Fu, 0xC00C303Eu, 0x85F4168Du, 0x0E045BEBu, 0x1C08B7D6u),
    T256(0x68032CC8u, 0xD0065990u, 0xA5E0C5D1u, 0x4E2DFD53u, 0x9C5BFAA6u, 0x3D5B83BDu, 0x7AB7077Au, 0xF56E0EF4u),
    T256(0x493C7D27u, 0x9278FA4Eu, 0x211D826Du, 0x423B04DAu, 0x847609B4u, 0x0D006599u, 0x1A00CB32u, 0x34019664u),
};
/* clang-format on */

static uint32_t by_tables(uint32_t crc, const uint8_t *p, size_t size)
{
    for (; size >= 8; p += 8, size -= 8) {
        crc ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        crc = tables[7][crc & 255] ^ tables[6][crc >> 8 & 255] ^ tables[5][crc >> 16 & 255] ^
              tables[4][crc >> 24] ^ tables[3][p[4]] ^ tables[2][p[5]] ^ tables[1][p[6]] ^
              tables[0][p[7]];
    }
    for (; size; p++, size--) {
        crc = crc >> 8 ^ tables[0][(crc ^ *p) & 255];
    }
    return crc;
}

/* ---- by the CPU */

#if defined(__x86_64__)

#define WITH_CRC __attribute__((target("sse4.2,pclmul")))

static bool has_crc(void)
{
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
}

/* crc times x^33 times `power`, before the division. */
WITH_CRC static inline uint64_t times(uint64_t crc, uint32_t power)
{
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)crc),
                                           _mm_cvtsi64_si128((long long)power), 0);
    return (uint64_t)_mm_cvtsi128_si64(product);
}

/* Three neighbours of `lane` bytes at once, as the instruction takes three cycles and one can begin
 * in each. The powers are x^(8 * lane - 33) and x^(16 * lane - 33). */
WITH_CRC static inline uint64_t three_lanes(uint64_t crc, const uint8_t *p, size_t lane,
                                            uint32_t power_1, uint32_t power_2)
{
    uint64_t second = 0;
    uint64_t third = 0;
    for (const uint8_t *end = p + lane; p < end; p += 8) {
        crc = _mm_crc32_u64(crc, get_word(p));
        second = _mm_crc32_u64(second, get_word(p + lane));
        third = _mm_crc32_u64(third, get_word(p + 2 * lane));
    }
    return _mm_crc32_u64(0, times(crc, power_2) ^ times(second, power_1)) ^ third;
}

WITH_CRC static uint32_t by_cpu(uint32_t start, const uint8_t *p, size_t size)
{
    enum { LONG = 2048, MIDDLE = 512, SHORT = 128 };
    uint64_t crc = start;
    for (; size >= (size_t)3 * LONG; p += 3 * LONG, size -= (size_t)3 * LONG) {
        crc = three_lanes(crc, p, LONG, 0xA51B6135, 0x82F89C77);
    }
    for (; size >= (size_t)3 * MIDDLE; p += 3 * MIDDLE, size -= (size_t)3 * MIDDLE) {
        crc = three_lanes(crc, p, MIDDLE, 0xDD7E3B0C, 0x170076FA);
    }
    for (; size >= (size_t)3 * SHORT; p += 3 * SHORT, size -= (size_t)3 * SHORT) {
        crc = three_lanes(crc, p, SHORT, 0x0D3B6092, 0xB9E02B86);
    }
    for (; size >= 8; p += 8, size -= 8) {
        crc = _mm_crc32_u64(crc, get_word(p));
    }
    for (; size; p++, size--) {
        crc = _mm_crc32_u8((uint32_t)crc, *p);
    }
    return (uint32_t)crc;
}

/* Folding: 128 bits of message that are D bits before other 128 are replaced by what is congruent
 * to them there: their halves times x^(D + 31) and x^(D - 33), a product being one place off (x^33
 * for 64 by 32 bits). Sixteen pairs of halves are under way at once. */

#define WIDE __attribute__((target("avx512f,vpclmulqdq,sse4.2,pclmul")))

static bool has_wide(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("vpclmulqdq");
}

WIDE static inline __m512i fold(__m512i from, __m512i powers, __m512i onto)
{
    __m512i first = _mm512_clmulepi64_epi128(from, powers, 0x00);
    __m512i second = _mm512_clmulepi64_epi128(from, powers, 0x11);
    return _mm512_ternarylogic_epi64(first, second, onto, 0x96); /* xor of three */
}

WIDE static inline __m512i powers_of(long long low, long long high)
{
    return _mm512_set_epi64(high, low, high, low, high, low, high, low);
}

WIDE static uint32_t by_folding(uint32_t crc, const uint8_t *at, size_t size)
{
    if (size < 256) {
        return by_cpu(crc, at, size);
    }
    __m512i a = _mm512_loadu_si512(at);
    __m512i b = _mm512_loadu_si512(at + 64);
    __m512i c = _mm512_loadu_si512(at + 128);
    __m512i d = _mm512_loadu_si512(at + 192);
    a = _mm512_xor_si512(a, _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)crc)));
    const __m512i by_2048 = powers_of(0xDCB17AA4, 0xB9E02B86);
    for (at += 256, size -= 256; size >= 256; at += 256, size -= 256) {
        a = fold(a, by_2048, _mm512_loadu_si512(at));
        b = fold(b, by_2048, _mm512_loadu_si512(at + 64));
        c = fold(c, by_2048, _mm512_loadu_si512(at + 128));
        d = fold(d, by_2048, _mm512_loadu_si512(at + 192));
    }
    const __m512i by_512 = powers_of(0x740EEF02, 0x9E4ADDF8);
    __m512i sum = fold(fold(fold(a, by_512, b), by_512, c), by_512, d);
    for (; size >= 64; at += 64, size -= 64) {
        sum = fold(sum, by_512, _mm512_loadu_si512(at));
    }
    /* The last of the four pairs is not folded (powers of 0), the others onto its place. */
    const __m512i to_last = _mm512_set_epi64(0, 0, 0x493C7D27, 0xF20C0DFE, 0xBA4FC28E, 0x3DA6D0CB,
                                             0xDDC0152B, 0x1C291D04);
    __m128i last = _mm512_extracti32x4_epi32(sum, 3);
    __m512i folded = fold(sum, to_last, _mm512_setzero_si512());
    for (int i = 0; i < 3; i++, folded = _mm512_shuffle_i64x2(folded, folded, 0x39)) {
        last = _mm_xor_si128(last, _mm512_castsi512_si128(folded));
    }
    uint64_t result = _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(last));
    result = _mm_crc32_u64(result, (uint64_t)_mm_extract_epi64(last, 1));
    return by_cpu((uint32_t)result, at, size);
}

#elif defined(__aarch64__) && defined(__linux__)

enum { CAPABLE_OF_CRC32 = 1 << 7 }; /* HWCAP_CRC32 */

static bool has_crc(void)
{
    return (getauxval(AT_HWCAP) & CAPABLE_OF_CRC32) != 0;
}

static bool has_wide(void)
{
    return false;
}

__attribute__((target("+crc"))) static uint32_t by_cpu(uint32_t crc, const uint8_t *p, size_t size)
{
    for (; size >= 8; p += 8, size -= 8) {
        crc = __crc32cd(crc, get_word(p));
    }
    for (; size; p++, size--) {
        crc = __crc32cb(crc, *p);
    }
    return crc;
}

#define by_folding by_cpu

#else

static bool has_crc(void)
{
    return false;
}

static bool has_wide(void)
{
    return false;
}

#define by_cpu     by_tables
#define by_folding by_tables

#endif

bool crc32c_can(enum crc32c_way way)
{
    return way == CRC32C_TABLES || (way == CRC32C_CPU ? has_crc() : has_crc() && has_wide());
}

uint32_t crc32c_by(enum crc32c_way way, uint32_t crc, const void *p, size_t size)
{
    switch (way) {
    case CRC32C_WIDE: return ~by_folding(~crc, p, size);
    case CRC32C_CPU: return ~by_cpu(~crc, p, size);
    case CRC32C_TABLES: break;
    }
    return ~by_tables(~crc, p, size);
}

uint32_t crc32c_more(uint32_t crc, const void *p, size_t size)
{
    return crc32c_by(crc32c_can(CRC32C_WIDE)  ? CRC32C_WIDE
                     : crc32c_can(CRC32C_CPU) ? CRC32C_CPU
                                              : CRC32C_TABLES,
                     crc, p, size);
}

uint32_t crc32c(const void *p, size_t size)
{
    return crc32c_more(0, p, size);
}

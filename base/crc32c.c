/* A CRC is the remainder of a polynomial over GF(2), here with its bits reflected: bit 31 is x^0.
 * What the three lanes of a stretch give is joined by multiplying the earlier ones by x to the
 * number of bits that follow them, modulo the polynomial: a carry-less multiplication by a
 * constant, after which the CRC instruction itself divides. */
#include "base/crc32c.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
/* glibc 2.33: what it knows is asked, else libgcc brings 4 KB */
#if __has_include(<sys/platform/x86.h>)
#include <sys/platform/x86.h>
#define HAS(glibc_name, gcc_name) CPU_FEATURE_ACTIVE(glibc_name)
#else
#define HAS(glibc_name, gcc_name) __builtin_cpu_supports(gcc_name)
#endif
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

/* ---- by tables: eight bytes a step. The CRC is linear, so that of a byte and k zero bytes behind
 * it is the sum of those of its halves: tables[k][0] is for the low four bits, tables[k][1] for the
 * high ones. Small, as it is for the CPUs that have no better way. */

static const uint32_t tables[8][2][16] = {
    {{0x00000000, 0xF26B8303, 0xE13B70F7, 0x1350F3F4, 0xC79A971F, 0x35F1141C, 0x26A1E7E8,
      0xD4CA64EB, 0x8AD958CF, 0x78B2DBCC, 0x6BE22838, 0x9989AB3B, 0x4D43CFD0, 0xBF284CD3,
      0xAC78BF27, 0x5E133C24},
     {0x00000000, 0x105EC76F, 0x20BD8EDE, 0x30E349B1, 0x417B1DBC, 0x5125DAD3, 0x61C69362,
      0x7198540D, 0x82F63B78, 0x92A8FC17, 0xA24BB5A6, 0xB21572C9, 0xC38D26C4, 0xD3D3E1AB,
      0xE330A81A, 0xF36E6F75}},
    {{0x00000000, 0x13A29877, 0x274530EE, 0x34E7A899, 0x4E8A61DC, 0x5D28F9AB, 0x69CF5132,
      0x7A6DC945, 0x9D14C3B8, 0x8EB65BCF, 0xBA51F356, 0xA9F36B21, 0xD39EA264, 0xC03C3A13,
      0xF4DB928A, 0xE7790AFD},
     {0x00000000, 0x3FC5F181, 0x7F8BE302, 0x404E1283, 0xFF17C604, 0xC0D23785, 0x809C2506,
      0xBF59D487, 0xFBC3FAF9, 0xC4060B78, 0x844819FB, 0xBB8DE87A, 0x04D43CFD, 0x3B11CD7C,
      0x7B5FDFFF, 0x449A2E7E}},
    {{0x00000000, 0xA541927E, 0x4F6F520D, 0xEA2EC073, 0x9EDEA41A, 0x3B9F3664, 0xD1B1F617,
      0x74F06469, 0x38513EC5, 0x9D10ACBB, 0x773E6CC8, 0xD27FFEB6, 0xA68F9ADF, 0x03CE08A1,
      0xE9E0C8D2, 0x4CA15AAC},
     {0x00000000, 0x70A27D8A, 0xE144FB14, 0x91E6869E, 0xC76580D9, 0xB7C7FD53, 0x26217BCD,
      0x56830647, 0x8B277743, 0xFB850AC9, 0x6A638C57, 0x1AC1F1DD, 0x4C42F79A, 0x3CE08A10,
      0xAD060C8E, 0xDDA47104}},
    {{0x00000000, 0xDD45AAB8, 0xBF672381, 0x62228939, 0x7B2231F3, 0xA6679B4B, 0xC4451272,
      0x1900B8CA, 0xF64463E6, 0x2B01C95E, 0x49234067, 0x9466EADF, 0x8D665215, 0x5023F8AD,
      0x32017194, 0xEF44DB2C},
     {0x00000000, 0xE964B13D, 0xD725148B, 0x3E41A5B6, 0xABA65FE7, 0x42C2EEDA, 0x7C834B6C,
      0x95E7FA51, 0x52A0C93F, 0xBBC47802, 0x8585DDB4, 0x6CE16C89, 0xF90696D8, 0x106227E5,
      0x2E238253, 0xC747336E}},
    {{0x00000000, 0x38116FAC, 0x7022DF58, 0x4833B0F4, 0xE045BEB0, 0xD854D11C, 0x906761E8,
      0xA8760E44, 0xC5670B91, 0xFD76643D, 0xB545D4C9, 0x8D54BB65, 0x2522B521, 0x1D33DA8D,
      0x55006A79, 0x6D1105D5},
     {0x00000000, 0x8F2261D3, 0x1BA8B557, 0x948AD484, 0x37516AAE, 0xB8730B7D, 0x2CF9DFF9,
      0xA3DBBE2A, 0x6EA2D55C, 0xE180B48F, 0x750A600B, 0xFA2801D8, 0x59F3BFF2, 0xD6D1DE21,
      0x425B0AA5, 0xCD796B76}},
    {{0x00000000, 0xEF306B19, 0xDB8CA0C3, 0x34BCCBDA, 0xB2F53777, 0x5DC55C6E, 0x697997B4,
      0x8649FCAD, 0x6006181F, 0x8F367306, 0xBB8AB8DC, 0x54BAD3C5, 0xD2F32F68, 0x3DC34471,
      0x097F8FAB, 0xE64FE4B2},
     {0x00000000, 0xC00C303E, 0x85F4168D, 0x45F826B3, 0x0E045BEB, 0xCE086BD5, 0x8BF04D66,
      0x4BFC7D58, 0x1C08B7D6, 0xDC0487E8, 0x99FCA15B, 0x59F09165, 0x120CEC3D, 0xD200DC03,
      0x97F8FAB0, 0x57F4CA8E}},
    {{0x00000000, 0x68032CC8, 0xD0065990, 0xB8057558, 0xA5E0C5D1, 0xCDE3E919, 0x75E69C41,
      0x1DE5B089, 0x4E2DFD53, 0x262ED19B, 0x9E2BA4C3, 0xF628880B, 0xEBCD3882, 0x83CE144A,
      0x3BCB6112, 0x53C84DDA},
     {0x00000000, 0x9C5BFAA6, 0x3D5B83BD, 0xA100791B, 0x7AB7077A, 0xE6ECFDDC, 0x47EC84C7,
      0xDBB77E61, 0xF56E0EF4, 0x6935F452, 0xC8358D49, 0x546E77EF, 0x8FD9098E, 0x1382F328,
      0xB2828A33, 0x2ED97095}},
    {{0x00000000, 0x493C7D27, 0x9278FA4E, 0xDB448769, 0x211D826D, 0x6821FF4A, 0xB3657823,
      0xFA590504, 0x423B04DA, 0x0B0779FD, 0xD043FE94, 0x997F83B3, 0x632686B7, 0x2A1AFB90,
      0xF15E7CF9, 0xB86201DE},
     {0x00000000, 0x847609B4, 0x0D006599, 0x89766C2D, 0x1A00CB32, 0x9E76C286, 0x1700AEAB,
      0x9376A71F, 0x34019664, 0xB0779FD0, 0x3901F3FD, 0xBD77FA49, 0x2E015D56, 0xAA7754E2,
      0x230138CF, 0xA777317B}},
};

static inline uint32_t after(uint32_t byte, int k)
{
    return tables[k][0][byte & 15] ^ tables[k][1][byte >> 4];
}

static uint32_t by_tables(uint32_t crc, const uint8_t *p, size_t size)
{
    for (; size >= 8; p += 8, size -= 8) {
        crc = after((crc ^ p[0]) & 255, 7) ^ after((crc >> 8 ^ p[1]) & 255, 6) ^
              after((crc >> 16 ^ p[2]) & 255, 5) ^ after(crc >> 24 ^ p[3], 4) ^ after(p[4], 3) ^
              after(p[5], 2) ^ after(p[6], 1) ^ after(p[7], 0);
    }
    for (; size; p++, size--) {
        crc = crc >> 8 ^ after((crc ^ *p) & 255, 0);
    }
    return crc;
}

/* ---- by the CPU */

#if defined(__x86_64__)

#define WITH_CRC __attribute__((target("sse4.2,pclmul")))

static bool has_crc(void)
{
    return HAS(SSE4_2, "sse4.2") && HAS(PCLMULQDQ, "pclmul");
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

#elif defined(__aarch64__) && defined(__linux__)

enum { CAPABLE_OF_CRC32 = 1 << 7 }; /* HWCAP_CRC32 */

static bool has_crc(void)
{
    return (getauxval(AT_HWCAP) & CAPABLE_OF_CRC32) != 0;
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

#else

static bool has_crc(void)
{
    return false;
}

#define by_cpu by_tables

#endif

bool crc32c_can(enum crc32c_way way)
{
    return way == CRC32C_TABLES || has_crc();
}

uint32_t crc32c_by(enum crc32c_way way, uint32_t crc, const void *p, size_t size)
{
    return way == CRC32C_CPU ? ~by_cpu(~crc, p, size) : ~by_tables(~crc, p, size);
}

uint32_t crc32c_more(uint32_t crc, const void *p, size_t size)
{
    return crc32c_by(has_crc() ? CRC32C_CPU : CRC32C_TABLES, crc, p, size);
}

uint32_t crc32c(const void *p, size_t size)
{
    return crc32c_more(0, p, size);
}

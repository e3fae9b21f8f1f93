/* histogram: how often a duration came, in buckets that grow by about a fifth: 4 for each power of
 * two of microseconds, up to two minutes. One thread writes; a reader on another thread may see it
 * slightly torn. */
#pragma once

#include <stdint.h>

enum { HISTOGRAM_OCTAVES = 27, HISTOGRAM_BUCKETS = 4 * HISTOGRAM_OCTAVES };

struct histogram {
    uint64_t count;                      /* of all */
    uint64_t sum_us;                     /* of all */
    uint32_t buckets[HISTOGRAM_BUCKETS]; /* the last one holds everything longer */
};

void histogram_record(struct histogram *h, int64_t duration_us); /* below 0 counts as 0 */

/* The upper bound of the bucket in which the given share lies (0.5, 0.99); 0 when empty. */
int64_t histogram_quantile_us(const struct histogram *h, double share);

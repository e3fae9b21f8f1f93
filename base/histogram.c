/* Bucket of v: 0..3 for v = 0..3; from 4 on, the position of the highest bit and the two bits after
 * it. */
#include "base/histogram.h"

static int bucket_of(uint64_t v)
{
    if (v < 4) {
        return (int)v;
    }
    int high = 63 - __builtin_clzll(v);
    int bucket = (high - 1) * 4 + (int)((v >> (high - 2)) & 3);
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

static int64_t upper_bound(int bucket)
{
    if (bucket < 4) {
        return bucket;
    }
    int high = bucket / 4 + 1;
    return ((int64_t)1 << high) + ((int64_t)(bucket % 4 + 1) << (high - 2)) - 1;
}

void histogram_record(struct histogram *h, int64_t duration_us)
{
    uint64_t v = duration_us < 0 ? 0 : (uint64_t)duration_us;
    h->count++;
    h->sum_us += v;
    h->buckets[bucket_of(v)]++;
}

int64_t histogram_quantile_us(const struct histogram *h, double share)
{
    uint64_t wanted = (uint64_t)((double)h->count * share);
    if (wanted >= h->count) {
        wanted = h->count ? h->count - 1 : 0;
    }
    uint64_t seen = 0;
    for (int i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen > wanted) {
            return upper_bound(i);
        }
    }
    return 0;
}

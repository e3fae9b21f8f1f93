/* metrics: counters and histograms of one shard, of every API from the first request on.
 *
 * Owned by the shard, written on its thread alone. Nothing here allocates or logs; who exports them
 * reads the structs.
 */
#pragma once

#include "base/histogram.h"

#include <stddef.h>

enum {
    METRICS_APIS = 64
}; /* rows of broker/api/apis.def that have room here; static_assert there */

struct api_metrics {
    uint64_t requests; /* started */
    uint64_t answers;  /* sent */
    uint64_t
        errors; /* answers whose own error code is set, and requests that closed their connection */
    uint64_t received_bytes;  /* of requests, with their size fields */
    uint64_t sent_bytes;      /* of answers, likewise */
    struct histogram queue;   /* arrived -> started */
    struct histogram handler; /* time in the handler, until it answered or parked */
    struct histogram durable; /* last append submitted -> durable; where the handler noted both */
    struct histogram total;   /* arrived -> handed to the connection, or done without an answer */
};

struct metrics {
#define X(name, text) uint64_t name;
#include "broker/metrics.def"
#undef X
    struct api_metrics apis[METRICS_APIS]; /* by row of apis.def */
};

struct metric_info {
    const char *name;
    const char *text; /* a sentence, for people */
    size_t offset;    /* of its uint64_t in struct metrics */
};

extern const struct metric_info metric_infos[];
extern const int metric_info_count;

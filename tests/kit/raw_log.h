/* raw_log: all that a partition holds, read with bare Fetch requests: what the broker has, not what
 * a client makes of it. */
#pragma once

#include "base/arena.h"
#include "client/rivulet.h"
#include "protocol/batch.h"

struct raw_record {
    int64_t offset;
    int64_t timestamp_ms;
    struct bytes key, value;
    const struct record_header *headers;
    int32_t header_count;
    int32_t batch; /* index in batches */
};

struct raw_log {
    struct arena arena;         /* owns all */
    struct raw_record *records; /* by offset */
    size_t count;
    struct batch_header *batches; /* by offset */
    int32_t batch_count;
};

/* Reads the partition, waiting until it holds `least` records. The process ends when it cannot, or
 * when a checksum is wrong. */
void raw_log_read(struct raw_log *l, struct rv_client *client, const char *topic, int32_t partition,
                  size_t least);
void raw_log_finish(struct raw_log *l);

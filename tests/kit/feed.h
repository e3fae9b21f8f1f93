/* feed: records for tests of consumers, produced with bare requests, batch by batch. */
#pragma once

#include "client/rivulet.h"
#include "protocol/batch.h"

struct feed_record {
    const char *key;   /* NULL: null */
    const char *value; /* NULL: null */
    int64_t timestamp_ms;
    const struct record_header *headers; /* header_count of them */
    int32_t header_count;
};

/* One batch. Returns its first offset. A refusal ends the process. */
int64_t feed(struct rv_client *client, const char *topic, int32_t partition, enum codec codec,
             const struct feed_record *records, size_t count);

/* One batch of `count` records: values "first", "first + 1", ..., keys "k" and the same, timestamps
 * 1000000 + the number. */
int64_t feed_numbers(struct rv_client *client, const char *topic, int32_t partition,
                     enum codec codec, int first, int count);

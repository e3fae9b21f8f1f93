#include "tests/kit/feed.h"

#include "base/check.h"
#include "client/ask.h"
#include "gen/produce.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FEED_TIMEOUT_MS = 20000, ACKS_ALL = -1 };

static struct bytes bytes_of(const char *text)
{
    return (struct bytes){(const uint8_t *)text, text ? strlen(text) : 0};
}

static int feed_code(const void *response)
{
    const struct produce_response *r = response;
    return r->topics[0].partitions[0].error_code;
}

int64_t feed(struct rv_client *client, const char *topic, int32_t partition, enum codec codec,
             const struct feed_record *records, size_t count)
{
    struct batch_builder b;
    struct buf out = {0};
    batch_builder_init(&b);
    for (size_t i = 0; i < count; i++) {
        check(batch_builder_add(&b, records[i].timestamp_ms, bytes_of(records[i].key),
                                bytes_of(records[i].value), records[i].headers,
                                records[i].header_count) == OK);
    }
    struct batch_seal seal = batch_seal_plain;
    seal.codec = codec;
    check(batch_builder_seal(&b, &seal, &out) == OK);
    struct produce_request_partition p;
    struct produce_request_topic t;
    struct produce_request r;
    produce_request_partition_init(&p);
    produce_request_topic_init(&t);
    produce_request_init(&r);
    p.index = partition;
    p.records = (struct wire_records){.ptr = (const uint8_t *)out.ptr, .len = out.len};
    t.name = str_of(topic);
    t.partitions = &p;
    t.partitions_count = 1;
    r.acks = ACKS_ALL;
    r.timeout_ms = FEED_TIMEOUT_MS;
    r.topics = &t;
    r.topics_count = 1;
    struct ask q = {.client = client,
                    .api_key = 0,
                    .max_version = 9,
                    .request = &r,
                    .target = ASK_ANY,
                    .deadline_ms = client_deadline(client, FEED_TIMEOUT_MS),
                    .code_of = feed_code,
                    .what = "feed"};
    struct rv_error e = {0};
    if (ask(&q, &e) != RV_OK || feed_code(q.response) != RV_OK) {
        fprintf(stderr, "feed: %s, code %d\n", e.text, q.response ? feed_code(q.response) : 0);
        abort();
    }
    const struct produce_response *answer = q.response;
    int64_t offset = answer->topics[0].partitions[0].base_offset;
    ask_finish(&q);
    batch_builder_finish(&b);
    buf_finish(&out);
    return offset;
}

int64_t feed_numbers(struct rv_client *client, const char *topic, int32_t partition,
                     enum codec codec, int first, int count)
{
    struct feed_record *records = calloc((size_t)count, sizeof *records);
    char(*texts)[16] = calloc((size_t)count, sizeof *texts);
    check(records && texts);
    for (int i = 0; i < count; i++) {
        snprintf(texts[i], sizeof texts[i], "k%d", first + i);
        records[i] = (struct feed_record){
            .key = texts[i], .value = texts[i] + 1, .timestamp_ms = 1000000 + first + i};
    }
    int64_t offset = feed(client, topic, partition, codec, records, (size_t)count);
    free(records);
    free(texts);
    return offset;
}

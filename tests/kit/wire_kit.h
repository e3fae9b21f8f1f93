/* wire_kit: the requests that most tests on the wire need, in one line each. For cmocka tests; see
 * wire_client.h. Whatever is asked here must be answered; error codes are for the test to judge
 * unless the comment says otherwise.
 */
#pragma once

#include "gen/create_topics.h"
#include "gen/fetch.h"
#include "gen/metadata.h"
#include "gen/produce.h"
#include "protocol/batch.h"
#include "protocol/error.h"
#include "tests/kit/wire_client.h"

/* A request or a part of one, with its defaults; `n` of them. They live as answers do. */
#define NEW(c, type)     ((struct type *)wire_structs((c), &type##_table, 1))
#define NEWS(c, type, n) ((struct type *)wire_structs((c), &type##_table, (n)))
void *wire_structs(struct wire_client *c, const struct wire_struct *table, int32_t count);

/* The versions that the broker serves, by its own table (which test_versions compares with what
 * ApiVersions says). */
int16_t version_min(int16_t key);
int16_t version_max(int16_t key);
#define each_version(v, key)                                                                       \
    for (int16_t v = version_min(key), v##_end_ = version_max(key); v <= v##_end_; v++)

/* An answer that must have come whole; what names the API and version in a failure. */
#define assert_code(code, expected) wire_assert_code((code), (expected), __FILE__, __LINE__)
void wire_assert_code(int code, int expected, const char *file, int line);
#define assert_str(s, expected) wire_assert_str((s), (expected), __FILE__, __LINE__)
void wire_assert_str(struct str s, const char *expected, const char *file, int line);

/* ---- a daemon for all tests of a file, a connection for each of them */

struct wire_fixture {
    struct daemon *d;
    struct wire_client *c; /* of the test that runs */
};
int wire_fixture_create(void **state, const char *const *settings);
int wire_fixture_destroy(void **state);
int wire_test_setup(void **state);
int wire_test_teardown(void **state);
#define wire_test(function)                                                                        \
    cmocka_unit_test_setup_teardown(function, wire_test_setup, wire_test_teardown)

static inline struct wire_client *client_of(void **state)
{
    return ((struct wire_fixture *)*state)->c;
}

static inline struct daemon *daemon_of(void **state)
{
    return ((struct wire_fixture *)*state)->d;
}

/* ---- topics */

/* Makes it and expects success. Settings: "name=value" each, ended by NULL; NULL: none. */
struct uuid wire_topic(struct wire_client *c, const char *name, int32_t partitions,
                       const char *const *settings);
#define TOPIC(c, name, partitions, ...)                                                            \
    wire_topic((c), (name), (partitions), (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

/* What Metadata (v12, without creation) says of one topic. */
const struct metadata_response_topic *wire_topic_info(struct wire_client *c, const char *name);

/* The offset behind the last record that readers see, and the first one's (ListOffsets). */
int64_t wire_end_offset(struct wire_client *c, const char *topic, int32_t partition);

/* ---- batches */

struct wire_batch {
    int32_t count;     /* records; 0 stands for 1 */
    const char *value; /* of each record; NULL: "value-N" */
    size_t value_size; /* if not 0: a value of so many bytes, and `value` is not looked at */
    int64_t timestamp; /* of the first record; each later one is 1 ms later; 0: now */
    enum codec codec;
    int16_t attributes; /* besides the codec */
    bool idempotent;    /* the next three count */
    int64_t producer_id;
    int16_t epoch;
    int32_t sequence;
};
struct bytes wire_batch(struct wire_client *c, struct wire_batch spec);
#define BATCH(c, ...) wire_batch((c), (struct wire_batch){__VA_ARGS__})

/* Makes the CRC right after bytes were changed on purpose. */
void wire_batch_reseal(struct bytes batch);

/* A writable view of what wire_batch gave. */
static inline uint8_t *wire_writable(struct bytes b)
{
    return (uint8_t *)(uintptr_t)b.ptr;
}

/* ---- produce */

struct wire_produce {
    int16_t version;   /* 0: 12 */
    int16_t acks;      /* as it is */
    const char *topic; /* before 13 */
    struct uuid id;    /* from 13 on */
    int32_t partition;
    struct bytes records; /* NULL is null */
};
const struct produce_request *wire_produce_request(struct wire_client *c,
                                                   const struct wire_produce *p);
const struct produce_response_partition *wire_produce(struct wire_client *c, struct wire_produce p);

/* acks=all, version 12, partition 0. */
const struct produce_response_partition *wire_put(struct wire_client *c, const char *topic,
                                                  struct bytes batch);

/* wire_put that must succeed; the base offset. */
int64_t wire_put_good(struct wire_client *c, const char *topic, struct bytes batch);

/* ---- fetch */

struct wire_fetch {
    int16_t version;   /* 0: 12 */
    const char *topic; /* before 13 */
    struct uuid id;    /* from 13 on */
    int32_t partition;
    int64_t offset;
    int32_t max_wait_ms;
    int32_t min_bytes;
    int32_t max_bytes;           /* 0: 50 MiB */
    int32_t partition_max_bytes; /* 0: 1 MiB */
    int8_t isolation_level;
    bool with_epoch; /* leader_epoch counts */
    int32_t leader_epoch;
};
const struct fetch_request *wire_fetch_request(struct wire_client *c, const struct wire_fetch *f);
const struct fetch_response_partition *wire_fetch(struct wire_client *c, struct wire_fetch f);

/* Everything from `offset` to the end of the partition, asking again until there is no more:
 * records in order with what was in them, checked batch by batch. */
struct wire_record {
    int64_t offset;
    int64_t timestamp;
    struct bytes key; /* in the arena */
    struct bytes value;
};
struct wire_records_read {
    struct wire_record *records;
    int32_t count;
};
struct wire_records_read wire_read(struct wire_client *c, const char *topic, int32_t partition,
                                   int64_t offset);

/* The records of what one Fetch gave: of whole batches; max_bytes may have cut the last one. */
struct wire_records_read wire_parse(struct wire_client *c, struct wire_records records);

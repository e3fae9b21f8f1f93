/* view_kit: topics for tests of views, fed record by record, and a model of what a view of them
 * holds at any position. One thread; what fails here fails the test. */
#pragma once

#include "client/view/rivulet_view.h"

enum { FEED_KEYS = 64, FEED_RECORDS = 4096, FEED_PARTITIONS = 8, FEED_VALUE = 40, FEED_MS = 30000 };

struct fed {
    int key; /* -1: none */
    int32_t partition;
    int64_t offset;
    char value[FEED_VALUE]; /* "": null */
};

struct feeding {
    struct rv_client *client; /* of the feeding */
    struct rv_producer *producer;
    const char *topic;
    int32_t partitions;
    struct fed records[FEED_RECORDS]; /* in the order of feeding */
    int count;
    int64_t next[FEED_PARTITIONS]; /* offsets */
};

/* A topic of that name and nothing in it; one that is there is deleted before. */
void feeding_open(struct feeding *f, const char *address, const char *topic, int32_t partitions,
                  const struct rv_option *configs);
void feeding_close(struct feeding *f);
void feeding_renew(struct feeding *f, int32_t partitions); /* deletes and makes it again */

/* value NULL: null. Keys stay in the partition key % partitions that the topic had at first. */
void feed_key(struct feeding *f, int key, const char *value);
void feed_at(struct feeding *f, int32_t partition, int key, const char *value,
             int64_t timestamp_ms);
void feed_random(struct feeding *f, uint64_t *seed, int count); /* puts, tombstones, no keys */
void feed_flush(struct feeding *f);
void feed_cut(struct feeding *f, int32_t partition, int64_t before); /* DeleteRecords */

/* What a view must be that has read up to these positions; `positions` NULL: everything. */
void assert_view(const struct feeding *f, struct rv_view *v, const int64_t *positions);
int64_t fed_count(const struct feeding *f); /* keys */

struct rv_client *view_client(const char *address);
struct rv_view *view_open(struct rv_client *client, const char *topic,
                          const struct rv_option *options, const struct rv_view_storage *storage);
void view_complete(struct rv_view *v); /* polls until it is */
void view_follow(const struct feeding *f,
                 struct rv_view *v); /* until everything fed has been read */

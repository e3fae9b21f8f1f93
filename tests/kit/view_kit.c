#include "tests/kit/view_kit.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "protocol/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { DELETE_RECORDS_KEY = 21 };

static void must(int code, const struct rv_error *e)
{
    if (code != RV_OK) {
        fail_msg("%s: %s", rv_error_name(code), e->text);
    }
}

struct rv_client *view_client(const char *address)
{
    struct rv_client *client;
    struct rv_error e;
    must(rv_client_open(RV_OPTIONS({"bootstrap.servers", address}, {"retry.backoff.ms", "5"},
                                   {"retry.backoff.max.ms", "50"}, {"reconnect.backoff.ms", "5"},
                                   {"reconnect.backoff.max.ms", "50"}),
                        &client, &e),
         &e);
    return client;
}

/* ---- topics ---- */

static void topic_delete(struct feeding *f)
{
    struct rv_error e;
    int code = rv_topic_delete(f->client, f->topic, FEED_MS, &e);
    if (code != KERR_UNKNOWN_TOPIC_OR_PARTITION) {
        must(code, &e);
    }
}

static void topic_make(struct feeding *f, const struct rv_option *configs)
{
    struct rv_error e;
    int code;
    int64_t until = clock_mono_ms(&clock_real) + FEED_MS;
    do { /* Kafka still deletes it for a while */
        code = rv_topic_create(f->client, f->topic, f->partitions, configs, FEED_MS, &e);
    } while (code == KERR_TOPIC_ALREADY_EXISTS && clock_mono_ms(&clock_real) < until);
    must(code, &e);
    must(rv_producer_open(f->client, RV_OPTIONS({"linger.ms", "0"}), &f->producer, &e), &e);
}

void feeding_open(struct feeding *f, const char *address, const char *topic, int32_t partitions,
                  const struct rv_option *configs)
{
    memset(f, 0, sizeof *f);
    f->client = view_client(address);
    f->topic = topic;
    f->partitions = partitions;
    topic_delete(f);
    topic_make(f, configs);
}

void feeding_renew(struct feeding *f, int32_t partitions)
{
    rv_producer_close(f->producer);
    topic_delete(f);
    f->partitions = partitions;
    f->count = 0;
    memset(f->next, 0, sizeof f->next);
    topic_make(f, NULL);
}

void feeding_close(struct feeding *f)
{
    rv_producer_close(f->producer);
    topic_delete(f);
    rv_client_close(f->client);
}

void feed_cut(struct feeding *f, int32_t partition, int64_t before)
{
    struct rv_error e;
    struct rv_response *response;
    uint8_t body[128], *p = body;
    size_t size = strlen(f->topic);
    put_be32(p, 1);
    put_be16(p + 4, (uint16_t)size);
    memcpy(p + 6, f->topic, size);
    p += 6 + size;
    put_be32(p, 1);
    put_be32(p + 4, (uint32_t)partition);
    put_be64(p + 8, (uint64_t)before);
    put_be32(p + 16, FEED_MS);
    must(rv_request(f->client, -1, DELETE_RECORDS_KEY, 0, body, (size_t)(p + 20 - body), FEED_MS,
                    &response, &e),
         &e);
    assert_int_equal(get_be16((const uint8_t *)response->body + response->size - 2), 0);
    rv_free(response);
}

/* ---- records ---- */

void feed_at(struct feeding *f, int32_t partition, int key, const char *value, int64_t timestamp_ms)
{
    struct rv_error e;
    char name[16];
    assert_true(f->count < FEED_RECORDS);
    struct fed *r = &f->records[f->count++];
    *r = (struct fed){.key = key, .partition = partition, .offset = f->next[partition]++};
    snprintf(r->value, sizeof r->value, "%s", value ? value : "");
    snprintf(name, sizeof name, "key-%d", key);
    const struct rv_message m = {.topic = f->topic,
                                 .key = key < 0 ? RV_STR(NULL) : RV_STR(name),
                                 .value = RV_STR(value),
                                 .timestamp_ms = timestamp_ms,
                                 .to_partition = true,
                                 .partition = partition};
    must(rv_send(f->producer, &m, NULL, NULL, &e), &e);
}

void feed_key(struct feeding *f, int key, const char *value)
{
    feed_at(f, key < 0 ? 0 : key % f->partitions, key, value, 0);
}

void feed_random(struct feeding *f, uint64_t *seed, int count)
{
    for (int i = 0; i < count; i++) {
        char value[FEED_VALUE];
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        unsigned r = (unsigned)(*seed >> 33);
        snprintf(value, sizeof value, "%u-%.*s", r % 1000, (int)(r % 29),
                 "abcdefghijklmnopqrstuvwxyzabc");
        feed_key(f, r % 23 == 0 ? -1 : (int)(r / 23 % FEED_KEYS), r % 5 == 0 ? NULL : value);
    }
    feed_flush(f);
}

void feed_flush(struct feeding *f)
{
    struct rv_error e;
    must(rv_flush(f->producer, FEED_MS, &e), &e);
}

/* ---- the model ---- */

/* The record that counts for each key; NULL: there is none. */
static void model(const struct feeding *f, const int64_t *positions,
                  const struct fed *latest[FEED_KEYS])
{
    memset(latest, 0, FEED_KEYS * sizeof *latest);
    for (int i = 0; i < f->count; i++) {
        const struct fed *r = &f->records[i];
        if (r->key >= 0 && (!positions || r->offset < positions[r->partition])) {
            latest[r->key] = r->value[0] ? r : NULL;
        }
    }
}

int64_t fed_count(const struct feeding *f)
{
    const struct fed *latest[FEED_KEYS];
    int64_t count = 0;
    model(f, NULL, latest);
    for (int k = 0; k < FEED_KEYS; k++) {
        count += latest[k] != NULL;
    }
    return count;
}

static void assert_entry(const struct rv_view_entry *entry, int key, const struct fed *r)
{
    char name[16];
    snprintf(name, sizeof name, "key-%d", key);
    assert_int_equal(entry->key.size, strlen(name));
    assert_memory_equal(entry->key.ptr, name, strlen(name));
    assert_int_equal(entry->offset, r->offset);
    assert_int_equal(entry->partition, r->partition);
    assert_int_equal(entry->value.size, strlen(r->value));
    assert_memory_equal(entry->value.ptr, r->value, strlen(r->value));
}

void assert_view(const struct feeding *f, struct rv_view *v, const int64_t *positions)
{
    const struct fed *latest[FEED_KEYS];
    struct rv_view_entry entry;
    struct rv_view_stats stats;
    struct rv_error e;
    int64_t count = 0, walked = 0;
    model(f, positions, latest);
    for (int k = 0; k < FEED_KEYS; k++) {
        char name[16];
        snprintf(name, sizeof name, "key-%d", k);
        int code = rv_view_get(v, RV_STR(name), &entry, &e);
        assert_int_equal(code, latest[k] ? RV_OK : RV_E_ABSENT);
        if (latest[k]) {
            assert_entry(&entry, k, latest[k]);
            count++;
        }
    }
    must(rv_view_stats(v, &stats, &e), &e);
    assert_int_equal(stats.count, count);
    for (int64_t cursor = 0; rv_view_next(v, &cursor, &entry, &e) == RV_OK; walked++) {
        char name[16];
        int key;
        snprintf(name, sizeof name, "%.*s", (int)entry.key.size, (const char *)entry.key.ptr);
        assert_int_equal(sscanf(name, "key-%d", &key), 1);
        assert_entry(&entry, key, latest[key]);
    }
    assert_int_equal(e.code, RV_E_ABSENT);
    assert_int_equal(walked, count);
}

/* ---- views ---- */

struct rv_view *view_open(struct rv_client *client, const char *topic,
                          const struct rv_option *options, const struct rv_view_storage *storage)
{
    struct rv_view *v = NULL;
    struct rv_error e;
    must(rv_view_open(client, topic, options, storage, FEED_MS, &v, &e), &e);
    return v;
}

void view_complete(struct rv_view *v)
{
    struct rv_error e;
    int64_t until = clock_mono_ms(&clock_real) + FEED_MS;
    while (!rv_view_is_complete(v)) {
        must(rv_view_poll(v, 100, &e), &e);
        if (clock_mono_ms(&clock_real) > until) {
            fail_msg("it is not complete: %s", rv_view_why(v));
        }
    }
}

/* Until the last record of every partition has been read: its key is what it says, or is gone. */
void view_follow(const struct feeding *f, struct rv_view *v)
{
    struct rv_error e;
    int64_t until = clock_mono_ms(&clock_real) + FEED_MS;
    struct rv_view_stats stats;
    do {
        must(rv_view_poll(v, 100, &e), &e);
        must(rv_view_stats(v, &stats, &e), &e);
        if (clock_mono_ms(&clock_real) > until) {
            fail_msg("%lld of %d records came", (long long)stats.records, f->count);
        }
    } while (stats.records < f->count || !rv_view_is_complete(v));
}

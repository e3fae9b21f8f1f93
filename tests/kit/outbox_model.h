/* outbox_model: what is committed to an outbox by the tests, and whether the topic has just that:
 * each row once, rows of a key in the order of commits. A row's value is KEY:N, N counting the
 * committed rows of the key from 1; rows of transactions that are rolled back have an N of -1.
 */
#pragma once

#include "base/clock.h"
#include "tests/kit/outbox_world.h"

enum { KEYS = 5, PARTITIONS = 2 };

struct model {
    char topic[64];
    int64_t committed[KEYS];
};

static inline void insert(struct outbox_conn *c, const struct model *m, int key, int64_t n)
{
    char text[256];
    snprintf(text, sizeof text,
             "INSERT INTO rivulet_outbox (topic, key, value) VALUES ('%s', 'k%d', 'k%d:%lld')",
             m->topic, key, key, (long long)n);
    outbox_run(c, text);
}

/* Transactions of up to three rows; one in three is rolled back. */
static inline void write_some(struct outbox_world *w, struct model *m, int transactions,
                              unsigned *seed)
{
    struct outbox_conn c = outbox_connect(w);
    for (int i = 0; i < transactions; i++) {
        struct model now = *m;
        bool commit = rand_r(seed) % 3 != 0;
        outbox_run(&c, "BEGIN");
        for (int row = rand_r(seed) % 3; row >= 0; row--) {
            int key = rand_r(seed) % KEYS;
            insert(&c, m, key, commit ? ++now.committed[key] : -1);
        }
        outbox_run(&c, commit ? "COMMIT" : "ROLLBACK");
        *m = commit ? now : *m;
    }
    outbox_disconnect(w, &c);
}

static inline struct model model_begin(struct outbox_world *w, const char *name)
{
    struct model m = {0};
    struct rv_error e = {0};
    struct rv_client *client = outbox_client(w->address);
    outbox_world_empty(w);
    snprintf(m.topic, sizeof m.topic, "%s-%s", name, w->server ? "postgres" : "sqlite");
    outbox_must(rv_topic_create(client, m.topic, PARTITIONS, NULL, OUTBOX_WAIT_MS, &e), &e);
    rv_client_close(client);
    return m;
}

static inline void record_check(const struct model *m, const struct raw_record *r,
                                int32_t partition, int64_t *seen)
{
    int key = -1, named = -1;
    long long n = -1;
    char text[64];
    snprintf(text, sizeof text, "%.*s %.*s", (int)r->key.len, (const char *)r->key.ptr,
             (int)r->value.len, (const char *)r->value.ptr);
    if (sscanf(text, "k%d k%d:%lld", &key, &named, &n) != 3 || key != named || key < 0 ||
        key >= KEYS) {
        fail_msg("%s: what is '%s'?", m->topic, text);
    }
    if (n != seen[key] + 1) {
        fail_msg("%s: key %d: %lld follows %lld", m->topic, key, n, (long long)seen[key]);
    }
    seen[key] = n;
    assert_int_equal(partition, rv_partition_of_key(r->key.ptr, r->key.len, PARTITIONS));
}

static inline size_t records_of(const struct model *m, int32_t partition)
{
    size_t count = 0;
    for (int key = 0; key < KEYS; key++) {
        char name[16];
        int size = snprintf(name, sizeof name, "k%d", key);
        if (rv_partition_of_key(name, (size_t)size, PARTITIONS) == partition) {
            count += (size_t)m->committed[key];
        }
    }
    return count;
}

static inline void topic_check(struct outbox_world *w, const struct model *m)
{
    int64_t seen[KEYS] = {0};
    struct rv_client *client = outbox_client(w->address);
    for (int32_t partition = 0; partition < PARTITIONS; partition++) {
        struct raw_log log;
        raw_log_read(&log, client, m->topic, partition, records_of(m, partition));
        for (size_t i = 0; i < log.count; i++) {
            record_check(m, &log.records[i], partition, seen);
        }
        raw_log_finish(&log);
    }
    rv_client_close(client);
    for (int key = 0; key < KEYS; key++) {
        assert_int_equal(seen[key], m->committed[key]);
    }
}

/* ---- relays ---- */

static inline const struct rv_option *relay_options(void)
{
    static const struct rv_option options[] = {
        {"outbox.lease.ms",      "100"},
        {"outbox.batch.records", "3"  },
        {"outbox.poll.ms",       "1"  },
        {"outbox.retry.ms",      "5"  },
        {NULL,                   NULL }
    };
    return options;
}

static inline int64_t backlog(
    struct outbox_conn *c) /* that can go: nobody has to do anything for it */
{
    return outbox_number(c, "SELECT count(*) FROM rivulet_outbox r WHERE state IN ('new', "
                            "'sealed') AND NOT EXISTS (SELECT 1 FROM rivulet_outbox_batch b "
                            "WHERE b.id = r.batch AND b.stuck IS NOT NULL)");
}

/* Until nothing is left. In a child, too. */
static inline void relay_all(struct outbox_world *w, const char *address)
{
    struct outbox_conn c = outbox_connect(w);
    struct rv_client *client = outbox_client(address);
    struct rv_outbox *o = outbox_open(w, &c, relay_options());
    int64_t deadline_ms = clock_after_ms(&clock_real, OUTBOX_WAIT_MS);
    struct rv_error e = {0};
    while (backlog(&c) > 0) {
        int64_t count;
        int code = rv_outbox_relay(o, client, 20, &count, &e);
        if (code != RV_OK && !(e.flags & RV_RETRIABLE)) {
            outbox_must(code, &e);
        }
        if (clock_mono_ms(&clock_real) > deadline_ms) {
            fprintf(stderr, "the backlog stays: %s\n", e.text);
            abort();
        }
    }
    rv_outbox_close(o);
    rv_client_close(client);
    outbox_disconnect(w, &c);
}

/* Every allocation fails in turn while a service writes to an outbox on SQLite and a relay
 * publishes, the library's and then SQLite's own: what says that there is no memory works when it
 * is made again, each row is in its topic once and in its order, and nothing leaks. The broker is
 * in a process of its own, where nothing fails. */
#include <stdio.h>

#ifndef RIVULET_SQLITE

int main(void)
{
    printf("built without SQLite\n");
    return 0;
}

#else

#include "base/clock.h"
#include "base/rand.h"
#include "client/outbox/rivulet_outbox.h"
#include "tests/kit/child_home.h"
#include "tests/kit/database.h"
#include "tests/kit/failing_mem.h"
#include "tests/kit/raw_log.h"

#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sqlite3.h>

enum { PATIENCE_MS = 30000, ROWS = 4, LEAST = 60, SQLITE_RUNS = 60 };

static int64_t until;

/* ---- SQLite's memory ---- */

static struct {
    sqlite3_mem_methods real;
    bool armed; /* off in the statements of the test's own */
    long at;    /* that one fails; below 0: none */
    long asked;
} sqlite_mem;

static bool sqlite_fails(void)
{
    return sqlite_mem.armed && sqlite_mem.asked++ == sqlite_mem.at;
}

static void *sqlite_alloc(int size)
{
    return sqlite_fails() ? NULL : sqlite_mem.real.xMalloc(size);
}

static void *sqlite_resize(void *p, int size)
{
    return sqlite_fails() ? NULL : sqlite_mem.real.xRealloc(p, size);
}

static void sqlite_mem_begin(void)
{
    assert_int_equal(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &sqlite_mem.real), SQLITE_OK);
    sqlite3_mem_methods ours = sqlite_mem.real;
    ours.xMalloc = sqlite_alloc;
    ours.xRealloc = sqlite_resize;
    sqlite_mem.at = -1;
    assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &ours), SQLITE_OK);
    assert_int_equal(sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0), SQLITE_OK);
}

/* ---- the calls ---- */

/* True: there was no memory, so again. (An answer that there was no memory for ends its connection.)
 */
static bool again(int code, const struct rv_error *e)
{
    if (code == RV_OK) {
        return false;
    }
    if (code != RV_E_MEMORY && !strstr(e->text, "out of memory")) {
        fail_msg("%d: %s", code, e->text);
    }
    if (clock_mono_ms(&clock_real) > until) {
        fail_msg("out of memory for ever");
    }
    return true;
}

struct service {
    struct db db;
    struct rv_client *client;
    struct rv_outbox *outbox;
};

static void service_open(struct service *s, const char *address)
{
    struct rv_error e;
    const struct rv_option *options = RV_OPTIONS(
        {"bootstrap.servers", address}, {"retry.backoff.ms", "1"}, {"retry.backoff.max.ms", "4"},
        {"reconnect.backoff.ms", "1"}, {"reconnect.backoff.max.ms", "4"});
    *s = (struct service){0};
    sqlite_mem.armed = false;
    db_open(&s->db, "sqlite::memory:", 0);
    sqlite_mem.armed = true;
    while (again(rv_client_open(options, &s->client, &e), &e)) {
        assert_null(s->client);
    }
    while (
        again(rv_outbox_open_sqlite(s->db.sql.connection,
                                    RV_OPTIONS({"outbox.batch.records", "2"},
                                               {"outbox.poll.ms", "1"}, {"outbox.retry.ms", "1"}),
                                    &s->outbox, &e),
              &e)) {
        assert_null(s->outbox);
    }
    while (again(rv_outbox_init(s->outbox, &e), &e)) {
    }
}

static void rows_add(struct service *s, const char *topic)
{
    const struct rv_header headers[] = {
        {{"h", 1}, {"\0v", 2}},
        {{"n", 1}, {NULL, 0} }
    };
    struct rv_error e;
    char value[8];
    for (int i = 0; i < ROWS; i++) {
        snprintf(value, sizeof value, "%d", i);
        const struct rv_message m = {.topic = topic,
                                     .key = rv_str("k"),
                                     .value = rv_str(value),
                                     .headers = headers,
                                     .header_count = 2};
        while (again(rv_outbox_add(s->outbox, &m, &e), &e)) {
        }
    }
    sqlite_mem.armed = false;
    db_must(&s->db, "INSERT INTO rivulet_outbox (topic) VALUES ('no name')", NULL, 0);
    sqlite_mem.armed = true;
}

static void look(void *ctx, const struct rv_outbox_trouble *trouble)
{
    (void)trouble;
    ++*(int *)ctx;
}

static void relay_all(struct service *s)
{
    struct rv_error e = {0};
    struct rv_outbox_status status = {0};
    int64_t published = 0, count, rows;
    do {
        again(rv_outbox_relay(s->outbox, s->client, 20, &count, &e), &e);
        published += count;
        while (again(rv_outbox_status(s->outbox, &status, &e), &e)) {
        }
    } while (status.rows > status.waiting);
    assert_int_equal(published, ROWS);
    int troubles = 0;
    while (again(rv_outbox_each(s->outbox, look, &troubles, &e), &e)) {
        troubles = 0;
    }
    assert_int_equal(troubles, 1);
    while (again(rv_outbox_retry(s->outbox, NULL, &rows, &e), &e)) {
    }
    assert_int_equal(rows, 1);
}

static void service_close(struct service *s)
{
    rv_outbox_close(s->outbox);
    rv_client_close(s->client);
    db_close(&s->db);
}

static void assert_topic(struct rv_client *client, const char *topic)
{
    struct raw_log log;
    raw_log_read(&log, client, topic, 0, ROWS);
    assert_int_equal(log.count, ROWS);
    for (int i = 0; i < ROWS; i++) {
        assert_int_equal(log.records[i].value.ptr[0], '0' + i);
        assert_int_equal(log.records[i].header_count, 2);
    }
    raw_log_finish(&log);
}

/* False: there are not so many allocations. */
static bool run(const struct child_home *broker, struct rv_client *reader, const char *topic,
                bool of_sqlite, long k)
{
    struct service s;
    struct rv_error e;
    assert_int_equal(rv_topic_create(reader, topic, 1, NULL, PATIENCE_MS, &e), RV_OK);
    until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    long alive = mem_alive();
    int64_t sqlite_bytes = sqlite3_memory_used();
    sqlite_mem.at = of_sqlite ? k : -1;
    sqlite_mem.asked = 0;
    mem_fail_at(of_sqlite ? -1 : k);
    service_open(&s, broker->address);
    rows_add(&s, topic);
    relay_all(&s);
    service_close(&s);
    bool was_hit = (of_sqlite ? sqlite_mem.asked : mem_asked()) > k;
    mem_fail_at(-1);
    if (mem_alive() != alive || sqlite3_memory_used() != sqlite_bytes) {
        fail_msg("allocation %ld failed: %ld blocks and %lld bytes of SQLite leaked", k,
                 mem_alive() - alive, (long long)(sqlite3_memory_used() - sqlite_bytes));
    }
    assert_topic(reader, topic);
    return was_hit;
}

static struct rv_client *reader_open(const struct child_home *broker)
{
    struct rv_client *reader = NULL;
    struct rv_error e;
    assert_int_equal(
        rv_client_open(RV_OPTIONS({"bootstrap.servers", broker->address}), &reader, &e), RV_OK);
    return reader;
}

static void each_row_is_published_once_whichever_allocation_fails(void **state)
{
    struct rv_client *reader = reader_open(*state);
    char topic[32];
    long k = -1;
    do {
        k++;
        snprintf(topic, sizeof topic, "t%ld", k);
    } while (run(*state, reader, topic, false, k));
    printf("%ld allocations\n", k);
    assert_true(k > LEAST);
    rv_client_close(reader);
}

/* There are thousands: some of them, each time others. ALL=1: all. */
static void each_row_is_published_once_whichever_allocation_of_sqlite_fails(void **state)
{
    struct rv_client *reader = reader_open(*state);
    uint64_t seed;
    char topic[32];
    assert_false(run(*state, reader, "all", true, LONG_MAX));
    long count = sqlite_mem.asked, step = getenv("ALL") ? 1 : count / SQLITE_RUNS;
    assert_true(count > SQLITE_RUNS);
    rand_system(&seed, sizeof seed);
    long first = (long)(seed % (uint64_t)step);
    printf("%ld allocations, each %ldth from the %ldth on\n", count, step, first);
    for (long k = first; k < count; k += step) {
        snprintf(topic, sizeof topic, "s%ld", k);
        run(*state, reader, topic, true, k);
    }
    rv_client_close(reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_row_is_published_once_whichever_allocation_fails),
        cmocka_unit_test(each_row_is_published_once_whichever_allocation_of_sqlite_fails),
    };
    signal(SIGPIPE, SIG_IGN);
    sqlite_mem_begin();
    return cmocka_run_group_tests(tests, child_home_start, child_home_stop);
}

#endif

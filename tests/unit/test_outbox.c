/* The outbox without a broker, the same tests on SQLite and on a PostgreSQL server of their own:
 * what services and people do with it, and that `seq` is the order of commits. */
#include "client/outbox/headers.h"
#include "tests/kit/outbox_world.h"

#include <pthread.h>
#include <stdatomic.h>

enum { OPTION_BAD = RV_E_OPTION };

static void each_test_begins(struct outbox_world *w)
{
    outbox_world_empty(w);
}

static struct rv_message message(const char *topic, const char *key, const char *value)
{
    return (struct rv_message){.topic = topic, .key = rv_str(key), .value = rv_str(value)};
}

static void add(struct rv_outbox *o, const char *topic, const char *key, const char *value)
{
    struct rv_message m = message(topic, key, value);
    struct rv_error e = {0};
    outbox_must(rv_outbox_add(o, &m, &e), &e);
}

static struct rv_outbox_status status(struct rv_outbox *o)
{
    struct rv_outbox_status s;
    struct rv_error e = {0};
    outbox_must(rv_outbox_status(o, &s, &e), &e);
    return s;
}

static void test_rows_come_with_the_transaction_or_not_at_all(void **state)
{
    struct outbox_world *w = *state;
    each_test_begins(w);
    struct outbox_conn c = outbox_connect(w);
    struct rv_outbox *o = outbox_open(w, &c, NULL);
    outbox_run(&c, "BEGIN");
    add(o, "users", "ada", "1");
    outbox_run(&c, "ROLLBACK");
    assert_int_equal(status(o).rows, 0);
    outbox_run(&c, "BEGIN");
    add(o, "users", "ada", "1");
    add(o, "users", "ada", NULL);
    outbox_run(&c, "COMMIT");
    outbox_run(&c, "INSERT INTO rivulet_outbox (topic, key, value) VALUES ('users', 'bob', 'x')");
    struct rv_outbox_status s = status(o);
    assert_int_equal(s.rows, 3);
    assert_int_equal(s.sealed + s.waiting + s.sent, 0);
    assert_true(s.oldest_ms >= 0 && s.oldest_ms < OUTBOX_WAIT_MS);
    assert_true(s.lease_left_ms <= 0);
    assert_int_equal(outbox_number(&c, "SELECT count(*) FROM rivulet_outbox WHERE value IS NULL"),
                     1);
    rv_outbox_close(o);
    outbox_disconnect(w, &c);
}

static void test_the_tables_are_made_once_and_stay(void **state)
{
    struct outbox_world *w = *state;
    each_test_begins(w);
    struct outbox_conn c = outbox_connect(w);
    struct rv_outbox *o = outbox_open(w, &c, NULL);
    struct rv_error e = {0};
    add(o, "users", "ada", "1");
    outbox_must(rv_outbox_init(o, &e), &e);
    assert_int_equal(status(o).rows, 1);
    rv_outbox_close(o);
    o = outbox_open(w, &c, RV_OPTIONS({"outbox.table", "other_events"}));
    struct rv_outbox_status s;
    assert_int_equal(rv_outbox_status(o, &s, &e), RV_OUTBOX_DATABASE);
    assert_non_null(strstr(e.text, "other_events"));
    outbox_must(rv_outbox_init(o, &e), &e);
    add(o, "users", "ada", "1");
    add(o, "users", "ada", "2");
    assert_int_equal(status(o).rows, 2);
    outbox_run(&c, "DELETE FROM other_events");
    rv_outbox_close(o);
    outbox_disconnect(w, &c);
}

static void test_what_makes_no_sense_is_refused(void **state)
{
    struct outbox_world *w = *state;
    each_test_begins(w);
    static const struct rv_option bad[][2] = {
        {{"outbox.table", "a-b"},                                       {NULL, NULL}},
        {{"outbox.table", "1a"},                                        {NULL, NULL}},
        {{"outbox.table", ""},                                          {NULL, NULL}},
        {{"outbox.table", "a2345678901234567890123456789012345678901"}, {NULL, NULL}},
        {{"outbox.lease.ms", "99"},                                     {NULL, NULL}},
        {{"outbox.batch.records", "0"},                                 {NULL, NULL}},
        {{"outbox.batch.records", "x"},                                 {NULL, NULL}},
        {{"outbox.nonsense", "1"},                                      {NULL, NULL}},
    };
    struct outbox_conn c = outbox_connect(w);
    struct rv_outbox *o = NULL;
    struct rv_error e = {0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int code = w->server ? rv_outbox_open_postgresql(c.handle, bad[i], &o, &e)
                             : rv_outbox_open_sqlite(c.handle, bad[i], &o, &e);
        assert_int_equal(code, OPTION_BAD);
        assert_null(o);
    }
    o = outbox_open(w, &c, NULL);
    struct rv_message m = message("", "k", "v");
    assert_int_equal(rv_outbox_add(o, &m, &e), RV_E_ARGUMENT);
    m.topic = "a b";
    assert_int_equal(rv_outbox_add(o, &m, &e), RV_E_ARGUMENT);
    m.topic = "..";
    assert_int_equal(rv_outbox_add(o, &m, &e), RV_E_ARGUMENT);
    m = message("a", "k", "v");
    m.to_partition = true;
    assert_int_equal(rv_outbox_add(o, &m, &e), RV_E_ARGUMENT);
    m = message("a", "k", "v");
    m.timestamp_ms = -1;
    assert_int_equal(rv_outbox_add(o, &m, &e), RV_E_ARGUMENT);
    m = message("a", "k", "v");
    m.headers = (const struct rv_header[]){
        {{"\xff", 1}, {"v", 1}}
    };
    m.header_count = 1;
    assert_int_equal(rv_outbox_add(o, &m, &e), RV_E_ARGUMENT);
    assert_int_equal(status(o).rows, 0);
    int64_t rows = -1;
    assert_int_equal(rv_outbox_settle(o, 12345, true, &rows, &e), RV_E_ABSENT);
    rv_outbox_close(o);
    outbox_disconnect(w, &c);
}

static void test_tables_of_another_format_are_refused(void **state)
{
    struct outbox_world *w = *state;
    each_test_begins(w);
    struct outbox_conn c = outbox_connect(w);
    struct rv_outbox *o = outbox_open(w, &c, NULL);
    struct rv_client *client = outbox_client("127.0.0.1:1");
    struct rv_error e = {0};
    int64_t count = -1;
    outbox_run(&c, "UPDATE rivulet_outbox_relay SET format = 2");
    assert_int_equal(rv_outbox_relay(o, client, 0, &count, &e), RV_OUTBOX_DATABASE);
    assert_non_null(strstr(e.text, "format 2"));
    outbox_run(&c, "UPDATE rivulet_outbox_relay SET format = 1");
    outbox_must(rv_outbox_relay(o, client, 0, &count, &e), &e);
    assert_int_equal(count, 0);
    rv_outbox_close(o);
    rv_client_close(client);
    outbox_disconnect(w, &c);
}

/* ---- the order of commits ---- */

#define ORDER_OK                                                                                   \
    "SELECT count(*) FROM rivulet_outbox a JOIN rivulet_outbox b ON a.key = b.key AND a.seq < "    \
    "b.seq WHERE CAST(a.headers AS BIGINT) >= CAST(b.headers AS BIGINT)"

/* Two transactions insert the same key, and commit the other way round: the one that inserted first
 * has the smaller id, and must have the larger seq. (SQLite has one writer: there the second one
 * cannot even begin to write.) */
static void test_seq_is_the_order_of_commits_not_of_inserts(void **state)
{
    struct outbox_world *w = *state;
    each_test_begins(w);
    struct outbox_conn a = outbox_connect(w), b = outbox_connect(w);
    outbox_run(&a, "BEGIN");
    outbox_run(&a, "INSERT INTO rivulet_outbox (topic, key, headers) VALUES ('t', 'k', '2')");
    outbox_run(&b, "BEGIN");
    outbox_run(&b, "INSERT INTO rivulet_outbox (topic, key, headers) VALUES ('t', 'k', '1')");
    outbox_run(&b, "COMMIT");
    outbox_run(&a, "INSERT INTO rivulet_outbox (topic, key, headers) VALUES ('t', 'k', '3')");
    outbox_run(&a, "COMMIT");
    assert_int_equal(outbox_number(&a, "SELECT count(*) FROM rivulet_outbox WHERE seq IS NULL"), 0);
    assert_int_equal(outbox_number(&a, "SELECT count(*) FROM rivulet_outbox WHERE headers = '1' "
                                       "AND id = (SELECT min(id) FROM rivulet_outbox)"),
                     0);
    assert_int_equal(outbox_number(&a, ORDER_OK), 0);
    outbox_disconnect(w, &a);
    outbox_disconnect(w, &b);
}

/* Savepoints, and rows that their own transaction deletes. */
static void test_rows_of_one_transaction_keep_their_order(void **state)
{
    struct outbox_world *w = *state;
    each_test_begins(w);
    struct outbox_conn c = outbox_connect(w);
    outbox_run(&c, "BEGIN");
    outbox_run(&c, "INSERT INTO rivulet_outbox (topic, key, headers) VALUES ('t', 'k', '1')");
    outbox_run(&c, "SAVEPOINT s");
    outbox_run(&c, "INSERT INTO rivulet_outbox (topic, key, headers) VALUES ('t', 'k', '9')");
    outbox_run(&c, "ROLLBACK TO s");
    outbox_run(&c, "INSERT INTO rivulet_outbox (topic, key, headers) VALUES ('t', 'x', '8')");
    outbox_run(&c, "INSERT INTO rivulet_outbox (topic, key, headers) VALUES ('t', 'k', '2')");
    outbox_run(&c, "DELETE FROM rivulet_outbox WHERE headers = '8'");
    outbox_run(&c, "INSERT INTO rivulet_outbox (topic, headers) VALUES ('t', '3')");
    outbox_run(&c, "COMMIT");
    assert_int_equal(outbox_number(&c, "SELECT count(*) FROM rivulet_outbox WHERE seq IS NOT NULL"),
                     3);
    assert_int_equal(outbox_number(&c, ORDER_OK), 0);
    outbox_disconnect(w, &c);
}

/* Two keys, inserted in the opposite order by two transactions that are open at once: with locks
 * from the insert on, one of them would have to be a deadlock's victim. */
static void *commit_other(void *ctx)
{
    outbox_run(ctx, "COMMIT");
    return NULL;
}
static void test_keys_in_any_order_do_not_deadlock(void **state)
{
    struct outbox_world *w = *state;
    each_test_begins(w);
    struct outbox_conn a = outbox_connect(w), b = outbox_connect(w);
    outbox_run(&a, "SET deadlock_timeout = '1ms'");
    outbox_run(&b, "SET deadlock_timeout = '1ms'");
    for (int round = 0; round < 20; round++) {
        pthread_t thread;
        outbox_run(&a, "BEGIN");
        outbox_run(&b, "BEGIN");
        for (int i = 0; i < 20; i++) {
            char text[128];
            snprintf(text, sizeof text,
                     "INSERT INTO rivulet_outbox (topic, key) VALUES ('t', 'k%d')", i);
            outbox_run(&a, text);
            snprintf(text, sizeof text,
                     "INSERT INTO rivulet_outbox (topic, key) VALUES ('t', 'k%d')", 19 - i);
            outbox_run(&b, text);
        }
        assert_int_equal(pthread_create(&thread, NULL, commit_other, &b), 0);
        outbox_run(&a, "COMMIT");
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
    assert_int_equal(outbox_number(&a, "SELECT count(*) FROM rivulet_outbox WHERE seq IS NOT NULL"),
                     800);
    outbox_disconnect(w, &a);
    outbox_disconnect(w, &b);
}

/* A commit takes its time after its rows got their seq: a trigger of the test's, deferred as well,
 * waits for a lock that the test has. Another commit of the same key has to wait for it, or its row
 * would be seen (and published) while the one before it is not. One of another key has not. */
struct commit_thread {
    struct outbox_conn conn;
    pthread_t thread;
    atomic_bool done;
};

static void *commit_run(void *ctx)
{
    struct commit_thread *t = ctx;
    outbox_run(&t->conn, "COMMIT");
    t->done = true;
    return NULL;
}

static void commit_start(struct outbox_world *w, struct commit_thread *t, const char *statement)
{
    *t = (struct commit_thread){.conn = outbox_connect(w)};
    outbox_run(&t->conn, "BEGIN");
    outbox_run(&t->conn, "INSERT INTO rivulet_outbox (topic, key, headers) VALUES ('t', 'k', '1')");
    outbox_run(&t->conn, statement);
    assert_int_equal(pthread_create(&t->thread, NULL, commit_run, t), 0);
}

static void test_a_commit_waits_for_one_of_its_key_that_is_under_way(void **state)
{
    struct outbox_world *w = *state;
    each_test_begins(w);
    struct commit_thread a, b;
    struct outbox_conn c = outbox_connect(w);
    outbox_run(&c, "CREATE TABLE slow (n BIGINT)");
    outbox_run(&c, "CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS "
                   "$$ BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END $$");
    outbox_run(&c, "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON slow DEFERRABLE INITIALLY "
                   "DEFERRED FOR EACH ROW EXECUTE FUNCTION be_slow()");
    outbox_run(&c, "SELECT pg_advisory_lock(4711)");
    const char *waiting =
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    commit_start(w, &a, "INSERT INTO slow VALUES (1)");
    while (outbox_number(&c, waiting) < 1) {
    }
    commit_start(w, &b, "SELECT 1");
    while (outbox_number(&c, waiting) < 2 && !b.done) {
    }
    assert_false(b.done);
    outbox_run(&c, "INSERT INTO rivulet_outbox (topic, key, headers) VALUES ('t', 'other', '1')");
    assert_int_equal(outbox_number(&c, "SELECT count(*) FROM rivulet_outbox"), 1);
    outbox_run(&c, "SELECT pg_advisory_unlock(4711)");
    assert_int_equal(pthread_join(a.thread, NULL), 0);
    assert_int_equal(pthread_join(b.thread, NULL), 0);
    assert_int_equal(outbox_number(&c, "SELECT count(*) FROM rivulet_outbox"), 3);
    outbox_disconnect(w, &a.conn);
    outbox_disconnect(w, &b.conn);
    outbox_disconnect(w, &c);
}

/* Many at once. The row of `counter` is locked from the update to the commit, so its numbers are
 * the order of commits; the event is inserted before, when that order is open still. */
struct writer_thread {
    struct outbox_world *w;
    pthread_t thread;
    unsigned seed;
    int committed;
};
enum { WRITERS = 6, KEYS = 3, TRANSACTIONS = 150 };

static void transaction_run(struct writer_thread *t, struct outbox_conn *c)
{
    char text[256];
    int key = rand_r(&t->seed) % KEYS;
    outbox_run(c, t->w->server ? "BEGIN" : "BEGIN IMMEDIATE");
    snprintf(
        text, sizeof text,
        "INSERT INTO rivulet_outbox (topic, key, headers) VALUES ('t', 'k%d', '0') RETURNING id",
        key);
    int64_t id = outbox_number(c, text);
    snprintf(text, sizeof text, "UPDATE counter SET n = n + 1 WHERE key = %d RETURNING n", key);
    int64_t n = outbox_number(c, text);
    snprintf(text, sizeof text, "UPDATE rivulet_outbox SET headers = '%lld' WHERE id = %lld",
             (long long)n, (long long)id);
    outbox_run(c, text);
    bool commit = rand_r(&t->seed) % 4 != 0;
    outbox_run(c, commit ? "COMMIT" : "ROLLBACK");
    t->committed += commit;
}

static void *writer_run(void *ctx)
{
    struct writer_thread *t = ctx;
    struct outbox_conn c = outbox_connect(t->w);
    for (int i = 0; i < TRANSACTIONS; i++) {
        transaction_run(t, &c);
    }
    outbox_disconnect(t->w, &c);
    return NULL;
}

static void test_seq_is_the_order_of_commits_under_load(void **state)
{
    struct outbox_world *w = *state;
    each_test_begins(w);
    struct writer_thread writers[WRITERS] = {0};
    struct outbox_conn c = outbox_connect(w);
    int committed = 0;
    outbox_run(&c, "CREATE TABLE counter (key BIGINT PRIMARY KEY, n BIGINT)");
    outbox_run(&c, "INSERT INTO counter VALUES (0, 0), (1, 0), (2, 0)");
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer_thread){.w = w, .seed = i};
        assert_int_equal(pthread_create(&writers[i].thread, NULL, writer_run, &writers[i]), 0);
    }
    for (int i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
        committed += writers[i].committed;
    }
    assert_int_equal(outbox_number(&c, "SELECT count(*) FROM rivulet_outbox WHERE seq IS NOT NULL"),
                     committed);
    assert_int_equal(outbox_number(&c, ORDER_OK), 0);
    outbox_run(&c, "DROP TABLE counter");
    outbox_disconnect(w, &c);
}

/* ---- headers ---- */

static void test_headers_come_back_as_they_were(void **state)
{
    (void)state;
    static const struct rv_header in[] = {
        {{"trace", 5},           {"7f", 2}              },
        {{"", 0},                {NULL, 0}              },
        {{"quote\"\\\n\x01", 9}, {"", 0}                },
        {{"raw", 3},             {"\0\xff\x80", 3}      },
        {{"raw", 3},             {"\xff\xfe", 2}        },
        {{"raw", 3},             {"\xff", 1}            },
        {{"\xc3\xa4", 2},        {"\xf0\x9f\x98\x80", 4}}
    };
    enum { COUNT = sizeof in / sizeof in[0] };
    struct buf text = {0};
    struct arena a;
    struct record_header *out;
    int32_t count;
    arena_init(&a, 1 << 20);
    assert_int_equal(headers_write(in, COUNT, &text), OK);
    assert_int_equal(headers_read((struct str){text.ptr, text.len}, &a, &out, &count), OK);
    assert_int_equal(count, COUNT);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(out[i].name.len, in[i].name.size);
        assert_memory_equal(out[i].name.ptr, in[i].name.ptr, in[i].name.size);
        assert_int_equal(out[i].value.ptr == NULL, in[i].value.ptr == NULL);
        assert_int_equal(out[i].value.len, in[i].value.size);
        if (in[i].value.ptr) {
            assert_memory_equal(out[i].value.ptr, in[i].value.ptr, in[i].value.size);
        }
    }
    buf_finish(&text);
    arena_finish(&a);
}

static err read_headers(const char *text, int32_t *ret_count)
{
    struct arena a;
    struct record_header *out;
    arena_init(&a, 1 << 20);
    *ret_count = -1;
    err e = headers_read(str_of(text), &a, &out, ret_count);
    arena_finish(&a);
    return e;
}

static void test_headers_are_read_strictly(void **state)
{
    (void)state;
    static const char *const good[] = {"[]", " [ ] ", "[[\"a\",\"b\"]]",
                                       "[ [ \"a\" , null ] , [\"\\u00e4\\ud83d\\ude00\",\"\"] ]",
                                       "[[\"a\",{ \"base64\" : \"AA==\" }]]"};
    static const int counts[] = {0, 0, 1, 2, 1};
    static const char *const bad[] = {"",
                                      "[",
                                      "]",
                                      "null",
                                      "{}",
                                      "[[]]",
                                      "[[\"a\"]]",
                                      "[[\"a\",1]]",
                                      "[[null,\"a\"]]",
                                      "[[\"a\",\"b\"],]",
                                      "[[\"a\",\"b\"]] x",
                                      "[[\"a\",\"b\",\"c\"]]",
                                      "[[\"a\",\"b]]",
                                      "[[\"a\\x\",\"b\"]]",
                                      "[[\"\\ud83d\",\"b\"]]",
                                      "[[\"\\ude00\",\"b\"]]",
                                      "[[\"\\u12\",\"b\"]]",
                                      "[[\"a\",{\"base64\":\"A\"}]]",
                                      "[[\"a\",{\"base64\":\"A===\"}]]",
                                      "[[\"a\",{\"base64\":\"AA=A\"}]]",
                                      "[[\"a\",{\"base64\":\"AA==\",\"b\":1}]]",
                                      "[[\"a\",{\"base64\":\"AA==AA==\"}]]",
                                      "[[\"\xff\",\"b\"]]",
                                      "[\"a\",\"b\"]",
                                      "[[\"a\\"};
    int32_t count;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(read_headers(good[i], &count), OK);
        assert_int_equal(count, counts[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (read_headers(bad[i], &count) != ERR_INVALID) {
            fail_msg("%s was taken", bad[i]);
        }
    }
}

/* ---- both databases ---- */

static int begin_sqlite(void **state)
{
    *state = outbox_world_begin(false);
    return 0;
}

static int begin_postgres(void **state)
{
    *state = outbox_world_begin(true);
    return 0;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_come_with_the_transaction_or_not_at_all),
        cmocka_unit_test(test_the_tables_are_made_once_and_stay),
        cmocka_unit_test(test_what_makes_no_sense_is_refused),
        cmocka_unit_test(test_tables_of_another_format_are_refused),
        cmocka_unit_test(test_rows_of_one_transaction_keep_their_order),
        cmocka_unit_test(test_seq_is_the_order_of_commits_under_load),
    };
    static const struct CMUnitTest many_writers[] = {
        cmocka_unit_test(test_seq_is_the_order_of_commits_not_of_inserts),
        cmocka_unit_test(test_keys_in_any_order_do_not_deadlock),
        cmocka_unit_test(test_a_commit_waits_for_one_of_its_key_that_is_under_way),
    };
    static const struct CMUnitTest headers[] = {
        cmocka_unit_test(test_headers_come_back_as_they_were),
        cmocka_unit_test(test_headers_are_read_strictly),
    };
    int failures = cmocka_run_group_tests_name("headers", headers, NULL, NULL);
#ifdef RIVULET_SQLITE
    failures += OUTBOX_WORLD_RUN("sqlite", tests, begin_sqlite);
#else
    (void)begin_sqlite;
#endif
#ifdef RIVULET_POSTGRES
    failures += OUTBOX_WORLD_RUN("postgres", tests, begin_postgres);
    failures += OUTBOX_WORLD_RUN("postgres", many_writers, begin_postgres);
#else
    (void)begin_postgres;
    (void)many_writers;
#endif
    return failures;
}

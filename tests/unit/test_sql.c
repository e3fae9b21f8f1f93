/* client/sql, the same tests on SQLite and on a PostgreSQL server of their own. */
#include "client/sql/sql.h"

#include "tests/kit/postgres.h"
#include "tests/kit/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#ifdef RIVULET_SQLITE
#include <sqlite3.h>
#endif
#ifdef RIVULET_POSTGRES
#include <libpq-fe.h>
#endif

/* Two connections to one database. */
struct room {
    struct sql sql[2];
    char dir[TEMP_DIR_SIZE];
    struct postgres *server;
};

static void must(struct sql *s, err e)
{
    if (e != OK) {
        fail_msg("%s: %s", err_text(e), s->text);
    }
}

static void tables_make(struct room *r)
{
    struct sql *s = &r->sql[0];
    char text[256];
    snprintf(text, sizeof text, "CREATE TABLE kinds (id BIGINT, number BIGINT, words TEXT, raw %s)",
             sql_bytes_type(s));
    must(s, sql_exec(s, text, NULL, 0, NULL));
    snprintf(text, sizeof text,
             "CREATE TABLE fenced (id BIGINT PRIMARY KEY, epoch BIGINT %s, place BIGINT %s)",
             sql_fence(s), sql_fence(s));
    must(s, sql_exec(s, text, NULL, 0, NULL));
    must(s, sql_exec(s, "INSERT INTO fenced VALUES (1, 7, 100), (2, 1, 0)", NULL, 0, NULL));
}

#ifdef RIVULET_SQLITE
static int sqlite_open(void **state)
{
    static struct room r;
    memset(&r, 0, sizeof r);
    temp_dir_make(r.dir);
    for (int i = 0; i < 2; i++) {
        char path[TEMP_DIR_SIZE + 8];
        sqlite3 *db;
        snprintf(path, sizeof path, "%s/db", r.dir);
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sql_init_sqlite(&r.sql[i], db), OK);
        assert_false(sql_is_postgres(&r.sql[i]));
    }
    tables_make(&r);
    *state = &r;
    return 0;
}

static int sqlite_close_both(void **state)
{
    struct room *r = *state;
    for (int i = 0; i < 2; i++) { /* refused where a statement of ours is left */
        assert_int_equal(sqlite3_close(r->sql[i].connection), SQLITE_OK);
    }
    temp_dir_remove(r->dir);
    return 0;
}
#endif

#ifdef RIVULET_POSTGRES
static int server_start(void **state)
{
    *state = postgres_create();
    return 0;
}

static int server_stop(void **state)
{
    postgres_destroy(*state);
    return 0;
}

static int postgres_open(void **state)
{
    static struct room r;
    memset(&r, 0, sizeof r);
    r.server = *state;
    for (int i = 0; i < 2; i++) {
        PGconn *conn = PQconnectdb(r.server->conninfo);
        if (PQstatus(conn) != CONNECTION_OK) {
            fail_msg("%s", PQerrorMessage(conn));
        }
        assert_int_equal(sql_init_postgres(&r.sql[i], conn), OK);
        assert_true(sql_is_postgres(&r.sql[i]));
    }
    tables_make(&r);
    *state = &r;
    return 0;
}

static int postgres_close_both(void **state)
{
    struct room *r = *state;
    PQreset(r->sql[0].connection); /* some test ended it */
    must(&r->sql[0], sql_exec(&r->sql[0], "DROP TABLE kinds, fenced", NULL, 0, NULL));
    PQfinish(r->sql[0].connection);
    PQfinish(r->sql[1].connection);
    *state = r->server;
    return 0;
}
#endif

/* ---- rows ---- */

struct seen {
    int rows;
    int stop_at; /* row, from 1 */
    int64_t numbers[8];
    char words[32];
    char raw[8];
    size_t raw_size;
    enum sql_type types[4];
};

static err see(void *ctx, const struct sql_value *row, size_t count)
{
    struct seen *seen = ctx;
    seen->numbers[seen->rows++] = row[0].number;
    for (size_t i = 0; i < count && i < 4; i++) {
        seen->types[i] = row[i].type;
    }
    if (count == 3) {
        snprintf(seen->words, sizeof seen->words, "<%.*s>", STR_ARG(sql_str(&row[1])));
        seen->raw_size = row[2].bytes.len;
        memcpy(seen->raw, row[2].type == SQL_BYTES ? (const void *)row[2].bytes.ptr : "",
               row[2].type == SQL_BYTES ? row[2].bytes.len : 0);
    }
    return seen->rows == seen->stop_at ? ERR_RANGE : OK;
}

static int64_t one_number(struct sql *s, const char *text)
{
    struct seen seen = {0};
    must(s, sql_query(s, text, NULL, 0, see, &seen));
    assert_int_equal(seen.rows, 1);
    return seen.numbers[0];
}

static void values_come_back_as_they_went(void **state)
{
    struct sql *s = &((struct room *)*state)->sql[0];
    const char *insert = "INSERT INTO kinds (id, words, raw, number) VALUES ($4, $2, $3, $1)";
    const struct sql_value rows[][4] = {
        {sql_number(INT64_MIN), sql_text(STR("h\xc3\xa9")),
         sql_bytes((struct bytes){(const uint8_t *)"a\0b", 3}),                                             sql_number(1)},
        {sql_number(INT64_MAX), sql_text(STR("")),          sql_bytes((struct bytes){(const void *)"", 0}),
         sql_number(2)                                                                                                   },
        {{.type = SQL_NULL},
         sql_text((struct str){0}),
         sql_bytes((struct bytes){0}),
         sql_number(3)                                                                                                   },
    };
    for (int i = 0; i < 3; i++) {
        int64_t changed = -1;
        must(s, sql_exec(s, insert, rows[i], 4, &changed));
        assert_int_equal(changed, 1);
    }
    const char *select = "SELECT number, words, raw FROM kinds WHERE id = $1 AND $1 > 0";
    struct seen seen[3] = {0};
    for (int i = 0; i < 3; i++) {
        const struct sql_value id = sql_number(i + 1);
        must(s, sql_query(s, select, &id, 1, see, &seen[i]));
        assert_int_equal(seen[i].rows, 1);
    }
    assert_true(seen[0].numbers[0] == INT64_MIN);
    assert_string_equal(seen[0].words, "<h\xc3\xa9>");
    assert_int_equal(seen[0].raw_size, 3);
    assert_memory_equal(seen[0].raw, "a\0b", 3);
    assert_true(seen[1].numbers[0] == INT64_MAX);
    assert_int_equal(seen[1].types[1], SQL_TEXT);
    assert_int_equal(seen[1].types[2], SQL_BYTES);
    assert_int_equal(seen[1].raw_size, 0);
    assert_string_equal(seen[1].words, "<>");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(seen[2].types[i], SQL_NULL);
    }
    assert_int_equal(one_number(s, "SELECT count(*) FROM kinds"), 3);
    assert_int_equal(one_number(s, "SELECT 1 WHERE 1 = 1"), 1);
}

static void rows_come_in_order_until_one_is_refused(void **state)
{
    struct sql *s = &((struct room *)*state)->sql[0];
    const struct sql_value number = sql_number(5);
    int64_t changed = 0;
    for (int i = 0; i < 3; i++) {
        const struct sql_value id = sql_number(i);
        must(s, sql_exec(s, "INSERT INTO kinds (id) VALUES ($1)", &id, 1, NULL));
    }
    must(s, sql_exec(s, "UPDATE kinds SET number = $1", &number, 1, &changed));
    assert_int_equal(changed, 3);
    must(s, sql_exec(s, "UPDATE kinds SET number = 1 WHERE id > $1", &number, 1, &changed));
    assert_int_equal(changed, 0);
    struct seen seen = {0};
    must(s, sql_query(s, "SELECT id FROM kinds ORDER BY id DESC", NULL, 0, see, &seen));
    assert_int_equal(seen.rows, 3);
    assert_int_equal(seen.numbers[0], 2);
    assert_int_equal(seen.numbers[2], 0);
    seen = (struct seen){.stop_at = 2};
    assert_int_equal(sql_query(s, "SELECT id FROM kinds", NULL, 0, see, &seen), ERR_RANGE);
    assert_int_equal(seen.rows, 2);
    seen = (struct seen){0};
    must(s, sql_query(s, "UPDATE kinds SET id = id + 10 WHERE id = 2 RETURNING id", NULL, 0, see,
                      &seen));
    assert_int_equal(seen.numbers[0], 12);
}

/* ---- transactions ---- */

static void a_transaction_is_whole_or_nothing(void **state)
{
    struct room *r = *state;
    struct sql *s = &r->sql[0];
    const char *insert = "INSERT INTO kinds (id) VALUES (1)";
    assert_false(sql_in_transaction(s));
    must(s, sql_begin(s));
    assert_true(sql_in_transaction(s));
    must(s, sql_exec(s, insert, NULL, 0, NULL));
    assert_int_equal(sql_begin(s), ERR_INVALID);
    assert_int_equal(sql_begin_ours(s), ERR_INVALID);
    assert_true(sql_in_transaction(s));
    must(s, sql_rollback(s));
    assert_false(sql_in_transaction(s));
    must(s, sql_rollback(s)); /* of nothing */
    assert_int_equal(one_number(s, "SELECT count(*) FROM kinds"), 0);
    must(s, sql_begin_ours(s));
    must(s, sql_exec(s, insert, NULL, 0, NULL));
    must(s, sql_commit(s));
    assert_false(sql_in_transaction(s));
    assert_int_equal(one_number(&r->sql[1], "SELECT count(*) FROM kinds"), 1);
    assert_int_not_equal(sql_commit(s), OK); /* there is none */
}

/* What fencing rests on: raising, and no way to commit what was done before. */
static void a_fence_raises_and_nothing_of_the_transaction_stays(void **state)
{
    struct sql *s = &((struct room *)*state)->sql[0];
    static const char move[] = "UPDATE fenced SET epoch = CASE WHEN epoch = $1 THEN epoch END, "
                               "place = CASE WHEN place = $2 THEN $3 END WHERE id = 1";
    static const struct {
        int64_t epoch, place;
        const char *column; /* NULL: it may */
    } cases[] = {
        {6, 100, "epoch"},
        {7, 99,  "place"},
        {6, 99,  "epoch"},
        {7, 100, NULL   }
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct sql_value params[] = {sql_number(cases[i].epoch), sql_number(cases[i].place),
                                           sql_number(200)};
        must(s, sql_begin(s));
        must(s, sql_exec(s, "INSERT INTO kinds (id) VALUES (1)", NULL, 0, NULL));
        err e = sql_exec(s, move, params, 3, NULL);
        if (!cases[i].column) {
            must(s, e);
            must(s, sql_commit(s));
            break;
        }
        assert_int_equal(e, ERR_FENCED);
        assert_string_equal(s->column, cases[i].column);
        assert_true(s->text[0]);
        assert_int_not_equal(sql_commit(s), OK);
        must(s, sql_rollback(s));
        assert_int_equal(one_number(s, "SELECT count(*) FROM kinds"), 0);
        assert_int_equal(one_number(s, "SELECT place FROM fenced WHERE id = 1"), 100);
    }
    assert_int_equal(one_number(s, "SELECT count(*) FROM kinds"), 1);
    assert_int_equal(one_number(s, "SELECT place FROM fenced WHERE id = 1"), 200);
    assert_string_equal(s->column, "");
}

static void errors_are_told_apart(void **state)
{
    struct room *r = *state;
    struct sql *s = &r->sql[0];
    struct rv_error e;
    const struct sql_value unused[] = {sql_number(1), sql_number(2)};
    assert_int_equal(sql_exec(s, "INSERT INTO fenced VALUES (1, 1, 1)", NULL, 0, NULL), ERR_EXISTS);
    assert_int_equal(sql_error(s, ERR_EXISTS, "insert", &e), SQL_CODE_DATABASE);
    assert_int_equal(e.flags, 0);
    assert_memory_equal(e.text, "insert: ", 8);
    assert_int_equal(sql_exec(s, "SELEKT 1", NULL, 0, NULL), ERR_INVALID);
    assert_int_not_equal(sql_exec(s, "SELECT * FROM nowhere", NULL, 0, NULL), OK);
    assert_true(s->text[0]);
    if (!sql_is_postgres(s)) {
        assert_int_equal(sql_exec(s, "SELECT $1", unused, 2, NULL), ERR_INVALID);
    }
    assert_int_equal(sql_exec(s, "SELECT 1", unused, SQL_PARAMS_MAX + 1, NULL), ERR_LIMIT);
    struct seen seen = {0};
    assert_int_equal(sql_query(s, "SELECT 1.5e0", NULL, 0, see, &seen), ERR_UNSUPPORTED);
    assert_int_equal(sql_error(s, ERR_BUSY, "x", &e), SQL_CODE_DATABASE);
    assert_int_equal(e.flags, RV_RETRIABLE);
    assert_int_equal(sql_error(s, ERR_CLOSED, "x", &e), SQL_CODE_DATABASE);
    assert_int_equal(e.flags, RV_UNSURE);
    assert_int_equal(sql_error(s, ERR_FENCED, "x", &e), SQL_CODE_FENCED);
    assert_int_equal(sql_error(s, ERR_MEMORY, "x", NULL), RV_E_MEMORY);
}

static void who_waits_for_a_lock_too_long_is_busy(void **state)
{
    struct room *r = *state;
    struct sql *one = &r->sql[0], *two = &r->sql[1];
    const char *update = "UPDATE fenced SET place = place + 1 WHERE id = 1";
    must(one, sql_begin(one));
    must(one, sql_exec(one, update, NULL, 0, NULL));
    err e;
    if (sql_is_postgres(two)) {
        must(two, sql_exec(two, "SET lock_timeout = '20ms'", NULL, 0, NULL));
        must(two, sql_begin(two));
        e = sql_exec(two, update, NULL, 0, NULL);
    } else {
        e = sql_begin(two);
    }
    assert_int_equal(e, ERR_BUSY);
    must(two, sql_rollback(two));
    must(one, sql_commit(one));
    must(two, sql_begin(two));
    must(two, sql_exec(two, update, NULL, 0, NULL));
    must(two, sql_commit(two));
    assert_int_equal(one_number(one, "SELECT place FROM fenced WHERE id = 1"), 102);
}

static void no_connection_is_refused(void **state)
{
    struct sql s;
    (void)state;
    err e = sql_init_sqlite(&s, NULL);
    assert_true(e == ERR_INVALID || e == ERR_UNSUPPORTED);
    e = sql_init_postgres(&s, NULL);
    assert_true(e == ERR_INVALID || e == ERR_UNSUPPORTED);
}

#ifdef RIVULET_POSTGRES

static void a_transaction_of_ours_waits_for_no_lock_for_ever(void **state)
{
    struct room *r = *state;
    struct sql *s = &r->sql[0];
    struct seen seen = {0};
    must(s, sql_exec(s, "SET default_transaction_isolation = 'serializable'", NULL, 0, NULL));
    must(s, sql_begin_ours(s));
    must(s, sql_query(s,
                      "SELECT 1 FROM pg_settings WHERE (name, setting) IN "
                      "(('lock_timeout', '2000'), ('transaction_isolation', 'read committed'))",
                      NULL, 0, see, &seen));
    must(s, sql_rollback(s));
    assert_int_equal(seen.rows, 2);
    assert_int_equal(one_number(s, "SELECT setting::int8 FROM pg_settings WHERE name = "
                                   "'lock_timeout'"),
                     0);
}

static void a_serialization_failure_is_busy(void **state)
{
    struct room *r = *state;
    struct sql *one = &r->sql[0], *two = &r->sql[1];
    const char *update = "UPDATE fenced SET place = place + 1 WHERE id = 1";
    must(one,
         sql_exec(one, "SET default_transaction_isolation = 'repeatable read'", NULL, 0, NULL));
    must(one, sql_begin(one));
    assert_int_equal(one_number(one, "SELECT place FROM fenced WHERE id = 1"), 100);
    must(two, sql_exec(two, update, NULL, 0, NULL));
    assert_int_equal(sql_exec(one, update, NULL, 0, NULL), ERR_BUSY);
    assert_int_equal(sql_commit(one), ERR_INVALID);
}

static void a_lost_connection_is_told(void **state)
{
    struct room *r = *state;
    struct sql *one = &r->sql[0], *two = &r->sql[1];
    must(one, sql_begin(one));
    const struct sql_value pid = sql_number(PQbackendPID(one->connection));
    must(two, sql_exec(two, "SELECT pg_terminate_backend($1::int4)", &pid, 1, NULL));
    assert_int_equal(sql_exec(one, "SELECT 1", NULL, 0, NULL), ERR_CLOSED);
    assert_false(sql_in_transaction(one));
    must(one, sql_rollback(one)); /* nothing is left to roll back */
    assert_int_equal(sql_begin(one), ERR_CLOSED);
    assert_int_equal(sql_commit(one), ERR_CLOSED);
    assert_int_equal(sql_begin_ours(one), ERR_CLOSED);
    assert_true(one->text[0]);
}

static void a_server_that_stopped_is_told_and_used_again(void **state)
{
    struct room *r = *state;
    struct sql *s = &r->sql[0];
    must(s, sql_exec(s, "INSERT INTO kinds (id) VALUES (1)", NULL, 0, NULL));
    postgres_crash(r->server);
    assert_int_equal(sql_exec(s, "SELECT 1", NULL, 0, NULL), ERR_CLOSED);
    postgres_start(r->server);
    PQreset(s->connection);
    assert_int_equal(one_number(s, "SELECT count(*) FROM kinds"), 1);
}

#endif

#define ON(database, test)                                                                         \
    {                                                                                              \
        .name = #database "." #test, .test_func = (test), .setup_func = database##_open,           \
        .teardown_func = database##_close_both                                                     \
    }
#define ON_ANY(database)                                                                           \
    ON(database, values_come_back_as_they_went),                                                   \
        ON(database, rows_come_in_order_until_one_is_refused),                                     \
        ON(database, a_transaction_is_whole_or_nothing),                                           \
        ON(database, a_fence_raises_and_nothing_of_the_transaction_stays),                         \
        ON(database, errors_are_told_apart), ON(database, who_waits_for_a_lock_too_long_is_busy)

int main(void)
{
    int failed = 0;
    const struct CMUnitTest neither[] = {cmocka_unit_test(no_connection_is_refused)};
    failed += cmocka_run_group_tests_name("any", neither, NULL, NULL);
#ifdef RIVULET_SQLITE
    const struct CMUnitTest on_sqlite[] = {ON_ANY(sqlite)};
    failed += cmocka_run_group_tests_name("sqlite", on_sqlite, NULL, NULL);
#endif
#ifdef RIVULET_POSTGRES
    const struct CMUnitTest on_postgres[] = {
        ON_ANY(postgres),
        ON(postgres, a_transaction_of_ours_waits_for_no_lock_for_ever),
        ON(postgres, a_serialization_failure_is_busy),
        ON(postgres, a_lost_connection_is_told),
        ON(postgres, a_server_that_stopped_is_told_and_used_again),
    };
    failed += cmocka_run_group_tests_name("postgres", on_postgres, server_start, server_stop);
#endif
    return failed;
}

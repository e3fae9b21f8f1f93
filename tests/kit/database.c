#include "tests/kit/database.h"

#include "base/check.h"
#include "base/mem.h"

#ifdef RIVULET_POSTGRES
#include <libpq-fe.h>
#endif
#ifdef RIVULET_SQLITE
#include <sqlite3.h>
#endif
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LIMIT_S = 60, POLL_MS = 10 };

#ifdef RIVULET_SQLITE
bool database_has_sqlite(void)
{
    return true;
}

static void open_sqlite(struct db *s, const char *path, int busy_ms)
{
    sqlite3 *db;
    check(sqlite3_open(path, &db) == SQLITE_OK);
    sqlite3_busy_timeout(db, busy_ms);
    check(sql_init_sqlite(&s->sql, db) == OK);
}

static void close_sqlite(struct db *s)
{
    check(sqlite3_close(s->sql.connection) == SQLITE_OK); /* no statement is left on it */
}
#else
bool database_has_sqlite(void)
{
    return false;
}

static void open_sqlite(struct db *s, const char *path, int busy_ms)
{
    (void)s, (void)path, (void)busy_ms;
    check(false && "built without SQLite");
}

static void close_sqlite(struct db *s)
{
    (void)s;
}
#endif

#ifdef RIVULET_POSTGRES
bool database_has_postgres(void)
{
    return true;
}

static void quiet(void *ctx, const char *text)
{
    (void)ctx, (void)text;
}

static void open_postgres(struct db *s, const char *conninfo)
{
    PGconn *conn = PQconnectdb(conninfo);
    PQsetNoticeProcessor(conn, quiet, NULL);
    check(sql_init_postgres(&s->sql, conn) == OK);
    db_reconnect(s);
}

void db_reconnect(struct db *s)
{
    PGconn *conn = s->sql.connection;
    for (int waited_ms = 0; PQstatus(conn) != CONNECTION_OK; waited_ms += POLL_MS) {
        check(waited_ms < LIMIT_S * 1000);
        nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL);
        PQreset(conn);
    }
}

static void close_postgres(struct db *s)
{
    PQfinish(s->sql.connection);
}
#else
bool database_has_postgres(void)
{
    return false;
}

static void open_postgres(struct db *s, const char *conninfo)
{
    (void)s, (void)conninfo;
    check(false && "built without PostgreSQL");
}

void db_reconnect(struct db *s)
{
    (void)s;
}

static void close_postgres(struct db *s)
{
    (void)s;
}
#endif

struct database *database_create(bool postgres)
{
    struct database *d = mem_need_zero(1, sizeof *d);
    if (postgres) {
        d->server = postgres_create();
        snprintf(d->where, sizeof d->where, "postgres:%s", d->server->conninfo);
    } else {
        temp_dir_make(d->dir);
        snprintf(d->where, sizeof d->where, "sqlite:%s/db", d->dir);
    }
    return d;
}

void database_destroy(struct database *d)
{
    if (d && d->server) {
        postgres_destroy(d->server);
    } else if (d) {
        temp_dir_remove(d->dir);
    }
    mem_free(d);
}

void db_open(struct db *s, const char *where, int busy_ms)
{
    const char *colon = strchr(where, ':');
    check(colon);
    if (where[0] == 's') {
        open_sqlite(s, colon + 1, busy_ms);
    } else {
        open_postgres(s, colon + 1);
    }
}

void db_close(struct db *s)
{
    if (sql_is_postgres(&s->sql)) {
        close_postgres(s);
    } else {
        close_sqlite(s);
    }
}

static void must(const struct db *s, err e, const char *text)
{
    if (e != OK) {
        fprintf(stderr, "%s: %s: %s\n", text, err_text(e), s->sql.text);
    }
    check(e == OK);
}

void db_must(struct db *s, const char *text, const struct sql_value *params, size_t count)
{
    must(s, sql_exec(&s->sql, text, params, count, NULL), text);
}

static err number_read(void *ctx, const struct sql_value *row, size_t count)
{
    *(int64_t *)ctx = row[0].number;
    return count == 1 && row[0].type == SQL_NUMBER ? OK : ERR_INVALID;
}

int64_t db_number(struct db *s, const char *text)
{
    int64_t number = INT64_MIN;
    must(s, sql_query(&s->sql, text, NULL, 0, number_read, &number), text);
    check(number != INT64_MIN);
    return number;
}

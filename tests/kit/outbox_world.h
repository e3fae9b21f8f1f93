/* outbox_world: what the tests of the outbox share: a database of either kind with the tables in
 * it, connections to it, and a broker. For cmocka tests; included by them, since only programs that
 * are built with the databases may have it. */
#pragma once

#include "base/check.h"
#include "base/mem.h"
#include "client/outbox/rivulet_outbox.h"
#include "client/sql/sql.h"
#include "tests/kit/daemon.h"
#include "tests/kit/outside.h"
#include "tests/kit/postgres.h"
#include "tests/kit/raw_log.h"
#include "tests/kit/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#ifdef RIVULET_POSTGRES
#include <libpq-fe.h>
#endif
#ifdef RIVULET_SQLITE
#include <sqlite3.h>
#endif

enum { OUTBOX_WAIT_MS = 60000, OUTBOX_BUSY_MS = 20000, OUTBOX_ADDRESS_SIZE = 64 };

struct outbox_world {
    struct postgres *server;           /* NULL: SQLite */
    char dir[TEMP_DIR_SIZE];           /* SQLite: the file is in it */
    struct daemon *broker;             /* NULL: somebody else's (outside.h), or none */
    char address[OUTBOX_ADDRESS_SIZE]; /* of the broker */
};

struct outbox_conn {
    void *handle; /* owned: PGconn * or sqlite3 * */
    struct sql sql;
};

static inline void outbox_must(int code, const struct rv_error *e)
{
    if (code != RV_OK) {
        fprintf(stderr, "%s: %s\n", rv_error_name(code), e->text);
    }
    check(code == RV_OK);
}

#ifdef RIVULET_POSTGRES
static inline void outbox_keep_quiet(void *ctx, const char *text)
{
    (void)ctx;
    (void)text;
}
#endif

/* Also in a child, where cmocka has no say. False: the server does not answer now. */
static inline bool outbox_try_connect(const struct outbox_world *w, struct outbox_conn *ret_conn)
{
#ifdef RIVULET_POSTGRES
    if (w->server) {
        PGconn *conn = PQconnectdb(w->server->conninfo);
        if (PQstatus(conn) != CONNECTION_OK) {
            PQfinish(conn);
            return false;
        }
        PQsetNoticeProcessor(conn, outbox_keep_quiet, NULL); /* of a server that is being stopped */
        ret_conn->handle = conn;
        check(sql_init_postgres(&ret_conn->sql, conn) == OK);
        return true;
    }
#endif
#ifdef RIVULET_SQLITE
    char path[TEMP_DIR_SIZE + 8];
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/db", w->dir);
    check(sqlite3_open(path, &db) == SQLITE_OK);
    check(sqlite3_busy_timeout(db, OUTBOX_BUSY_MS) == SQLITE_OK);
    ret_conn->handle = db;
    check(sql_init_sqlite(&ret_conn->sql, db) == OK);
    return true;
#else
    (void)ret_conn;
    return false;
#endif
}

static inline struct outbox_conn outbox_connect(const struct outbox_world *w)
{
    struct outbox_conn c = {0};
    check(outbox_try_connect(w, &c));
    return c;
}

static inline void outbox_disconnect(const struct outbox_world *w, struct outbox_conn *c)
{
#ifdef RIVULET_POSTGRES
    if (w->server) {
        PQfinish(c->handle);
    }
#endif
#ifdef RIVULET_SQLITE
    if (!w->server) {
        check(sqlite3_close(c->handle) == SQLITE_OK); /* nothing of ours was left open */
    }
#endif
    c->handle = NULL;
}

static inline struct rv_outbox *outbox_open(const struct outbox_world *w, struct outbox_conn *c,
                                            const struct rv_option *options)
{
    struct rv_outbox *o = NULL;
    struct rv_error e = {0};
    outbox_must(w->server ? rv_outbox_open_postgresql(c->handle, options, &o, &e)
                          : rv_outbox_open_sqlite(c->handle, options, &o, &e),
                &e);
    return o;
}

static inline void outbox_run(struct outbox_conn *c, const char *text)
{
    err e = sql_exec(&c->sql, text, NULL, 0, NULL);
    if (e != OK) {
        fprintf(stderr, "%s: %s\n", text, c->sql.text);
    }
    check(e == OK);
}

static inline err outbox_number_take(void *ctx, const struct sql_value *row, size_t count)
{
    (void)count;
    *(int64_t *)ctx = row[0].type == SQL_NUMBER ? row[0].number : -1;
    return OK;
}

static inline int64_t outbox_number(struct outbox_conn *c, const char *text)
{
    int64_t number = -1;
    err e = sql_query(&c->sql, text, NULL, 0, outbox_number_take, &number);
    if (e != OK) {
        fprintf(stderr, "%s: %s\n", text, c->sql.text);
    }
    check(e == OK);
    return number;
}

static inline struct rv_client *outbox_client(const char *address)
{
    struct rv_client *client = NULL;
    struct rv_error e = {0};
    outbox_must(
        rv_client_open(RV_OPTIONS({"bootstrap.servers", address}, {"retry.backoff.ms", "5"},
                                  {"retry.backoff.max.ms", "50"}, {"reconnect.backoff.ms", "5"},
                                  {"reconnect.backoff.max.ms", "50"}),
                       &client, &e),
        &e);
    return client;
}

/* ---- worlds: fixtures of a group */

static inline struct outbox_world *outbox_world_begin(bool postgres)
{
    struct outbox_world *w = mem_need_zero(1, sizeof *w);
    if (postgres) {
        w->server = postgres_create();
    } else {
        temp_dir_make(w->dir);
    }
    struct outbox_conn c = outbox_connect(w);
    struct rv_outbox *o = outbox_open(w, &c, NULL);
    struct rv_error e = {0};
    outbox_must(rv_outbox_init(o, &e), &e);
    rv_outbox_close(o);
    outbox_disconnect(w, &c);
    return w;
}

/* Settings as daemon_create takes them; they are their starter's business where the broker is. */
static inline void outbox_world_broker(struct outbox_world *w, const char *const *settings)
{
    if (outside_address()) {
        outside_clean();
        snprintf(w->address, sizeof w->address, "%s", outside_address());
        return;
    }
    w->broker = daemon_create(settings, NULL);
    snprintf(w->address, sizeof w->address, "127.0.0.1:%d", (int)w->broker->port);
}

/* A world with a broker, for a group's tests. */
static inline int outbox_world_setup(void **state, bool postgres, const char *const *settings)
{
    struct outbox_world *w = outbox_world_begin(postgres);
    outbox_world_broker(w, settings);
    *state = w;
    return 0;
}

static inline int outbox_world_end(void **state)
{
    struct outbox_world *w = *state;
    daemon_destroy(w->broker);
    if (w->server) {
        postgres_destroy(w->server);
    } else {
        temp_dir_remove(w->dir);
    }
    mem_free(w);
    return 0;
}

/* The tests as a group, on a world that `begin` makes; their names say which database it is. */
static inline int outbox_world_run(const char *database, const struct CMUnitTest *tests,
                                   size_t count, CMFixtureFunction begin)
{
    enum { NAME_SIZE = 128 };
    struct CMUnitTest *named = mem_need_zero(count, sizeof *named);
    char *names = mem_need_zero(count, NAME_SIZE);
    for (size_t i = 0; i < count; i++) {
        named[i] = tests[i];
        named[i].name = names + i * NAME_SIZE;
        snprintf(names + i * NAME_SIZE, NAME_SIZE, "%s_on_%s", tests[i].name, database);
    }
    int failures = _cmocka_run_group_tests(database, named, count, begin, outbox_world_end);
    mem_free(named);
    mem_free(names);
    return failures;
}
#define OUTBOX_WORLD_RUN(database, tests, begin)                                                   \
    outbox_world_run(database, tests, sizeof(tests) / sizeof((tests)[0]), begin)

static inline void outbox_world_empty(struct outbox_world *w) /* all tables, the lease too */
{
    struct outbox_conn c = outbox_connect(w);
    outbox_run(&c, "DELETE FROM rivulet_outbox");
    outbox_run(&c, "DELETE FROM rivulet_outbox_batch");
    outbox_run(&c, "DELETE FROM rivulet_outbox_partition");
    outbox_run(&c, "DELETE FROM rivulet_outbox_wait");
    outbox_run(&c, "UPDATE rivulet_outbox_relay SET owner = '', until_ms = 0");
    outbox_disconnect(w, &c);
}

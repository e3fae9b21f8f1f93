/* SQLite.
 *
 * "$1" is a *name* to SQLite: parameters are numbered in the order in which they first appear, so
 * each is looked up by its name. A statement that fails undoes itself alone, and leaves its
 * transaction open, unless the constraint says ON CONFLICT ROLLBACK.
 */
#include "client/sql/backend.h"

#ifndef RIVULET_SQLITE

const struct sql_backend *sql_backend_sqlite(void)
{
    return NULL;
}

#else

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "client/sql/weak_sqlite.h"

static err err_of(int code)
{
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_INTERRUPT:
    case SQLITE_PROTOCOL: return ERR_BUSY;
    case SQLITE_NOMEM: return ERR_MEMORY;
    case SQLITE_FULL: return ERR_NO_SPACE;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return ERR_CORRUPT;
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_READONLY: return ERR_DENIED;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN: return ERR_IO;
    case SQLITE_CONSTRAINT:
        if (code == SQLITE_CONSTRAINT_NOTNULL) {
            return ERR_FENCED;
        }
        return code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY
                   ? ERR_EXISTS
                   : ERR_INVALID;
    default: return ERR_INVALID;
    }
}

static err failed(struct sql *s)
{
    sqlite3 *db = s->connection;
    err e = err_of(sqlite3_extended_errcode(db));
    sql_say(s, sqlite3_errmsg(db));
    if (e == ERR_FENCED) { /* NOT NULL constraint failed: table.column */
        const char *dot = strrchr(s->text, '.');
        snprintf(s->column, sizeof s->column, "%s", dot ? dot + 1 : "");
    }
    return e;
}

static int bind(sqlite3_stmt *statement, int at, const struct sql_value *v)
{
    if (v->type == SQL_NUMBER) {
        return sqlite3_bind_int64(statement, at, v->number);
    }
    if (v->type == SQL_NULL || !v->bytes.ptr) {
        return sqlite3_bind_null(statement, at);
    }
    return v->type == SQL_TEXT
               ? sqlite3_bind_text64(statement, at, (const char *)v->bytes.ptr, v->bytes.len,
                                     SQLITE_STATIC, SQLITE_UTF8)
               : sqlite3_bind_blob64(statement, at, v->bytes.ptr, v->bytes.len, SQLITE_STATIC);
}

static err bind_all(struct sql *s, sqlite3_stmt *statement, const struct sql_value *params,
                    size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char name[16];
        snprintf(name, sizeof name, "$%d", (int)i + 1);
        int at = sqlite3_bind_parameter_index(statement, name);
        if (at == 0) {
            sql_say(s, "a parameter that the statement does not use");
            return ERR_INVALID;
        }
        if (bind(statement, at, &params[i]) != SQLITE_OK) {
            return failed(s);
        }
    }
    return OK;
}

static err row_tell(struct sql *s, sqlite3_stmt *statement, sql_row_fn *fn, void *ctx)
{
    struct sql_value row[SQL_COLUMNS_MAX];
    int count = sqlite3_column_count(statement);
    if (count > SQL_COLUMNS_MAX) {
        sql_say(s, "too many columns");
        return ERR_LIMIT;
    }
    for (int i = 0; i < count; i++) {
        struct sql_value *v = &row[i];
        *v = (struct sql_value){.type = SQL_NULL};
        switch (sqlite3_column_type(statement, i)) {
        case SQLITE_NULL: continue;
        case SQLITE_INTEGER: *v = sql_number(sqlite3_column_int64(statement, i)); continue;
        case SQLITE_TEXT: v->type = SQL_TEXT; break;
        case SQLITE_BLOB: v->type = SQL_BYTES; break;
        default: sql_say(s, "a result that is no number, text or bytes"); return ERR_UNSUPPORTED;
        }
        /* The pointer first: it may change what the size is of. */
        const void *ptr = v->type == SQL_TEXT ? (const void *)sqlite3_column_text(statement, i)
                                              : sqlite3_column_blob(statement, i);
        size_t size = (size_t)sqlite3_column_bytes(statement, i);
        if (!ptr && sqlite3_errcode(s->connection) == SQLITE_NOMEM) {
            return failed(s);
        }
        v->bytes = (struct bytes){ptr ? ptr : (const void *)"", ptr ? size : 0};
    }
    return fn(ctx, row, (size_t)count);
}

static err run(struct sql *s, const char *text, const struct sql_value *params, size_t count,
               sql_row_fn *fn, void *ctx, int64_t *ret_changed)
{
    sqlite3 *db = s->connection;
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(db, text, -1, &statement, NULL) != SQLITE_OK) {
        return failed(s);
    }
    err e = bind_all(s, statement, params, count);
    int code = SQLITE_DONE;
    while (e == OK && (code = sqlite3_step(statement)) == SQLITE_ROW) {
        e = fn ? row_tell(s, statement, fn, ctx) : OK;
    }
    if (e == OK && code != SQLITE_DONE) {
        e = failed(s);
    }
    *ret_changed = sqlite3_changes(db);
    sqlite3_finalize(statement); /* its code is that of the step again */
    return e;
}

static err commit(struct sql *s)
{
    int64_t changed;
    if (sqlite3_get_autocommit(s->connection)) {
        sql_say(s, "no transaction is open");
        return ERR_INVALID;
    }
    return run(s, "COMMIT", NULL, 0, NULL, NULL, &changed);
}

static bool in_transaction(const struct sql *s)
{
    return !sqlite3_get_autocommit(s->connection);
}

static const char *const begin_ours[] = {"BEGIN IMMEDIATE", NULL};
static const struct sql_backend backend = {.bytes_type = "BLOB",
                                           .fence = "NOT NULL ON CONFLICT ROLLBACK",
                                           .begin = "BEGIN IMMEDIATE",
                                           .begin_ours = begin_ours,
                                           .run = run,
                                           .commit = commit,
                                           .in_transaction = in_transaction};

const struct sql_backend *sql_backend_sqlite(void)
{
    return sqlite3_prepare_v2 ? &backend : NULL;
}

#endif

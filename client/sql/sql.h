/* sql: the little of SQL that store, outbox and view need, on a connection of the service's own, so
 * that each of them is written once for SQLite and for PostgreSQL. Hidden in each of them.
 *
 * The connection is borrowed: it stays the service's, with its settings; nothing of ours stays on
 * it between calls (no prepared statement, no open result). One thread at a time, the connection's.
 *
 * One text for both databases:
 *   - parameters are $1, $2, ... $n, in any order and as often as wanted; SQLite refuses one that
 *     is not used. Numbers are 64 bits: columns are BIGINT, texts TEXT, bytes sql_bytes_type().
 *   - INSERT ... ON CONFLICT (...) DO UPDATE, and RETURNING, are the same on both (SQLite 3.35).
 *   - a statement that must be *fenced* sets a NOT NULL column to a CASE without ELSE: who is not
 *     entitled sets it to NULL, the database raises, ERR_FENCED comes back with the column's name,
 *     and the transaction cannot be committed any more: PostgreSQL does so by itself, SQLite where
 *     the column is declared sql_fence(), which is NOT NULL ON CONFLICT ROLLBACK there.
 *
 * What comes back (err; in words in `text`, which lasts until the next call):
 *   ERR_FENCED       a NOT NULL column got NULL: see above; `column` names it
 *   ERR_BUSY         locked, deadlock, serialization failure, time-out: the whole transaction again
 *   ERR_CLOSED       the connection is lost (or libpq itself failed). When that was the answer to a
 *                    commit, it may be done
 *   ERR_EXISTS       a unique key is there already
 *   ERR_UNSUPPORTED  a result that is neither number, text nor bytes; a database not built in
 *   ERR_NO_SPACE ERR_IO ERR_CORRUPT ERR_DENIED ERR_MEMORY   as their names say
 *   ERR_INVALID      everything else: the statement, a constraint, a transaction that has failed
 * A function of rows may return an err of its own; that comes back, and the rest is not read.
 */
#pragma once

#include "base/str.h"
#include "client/rivulet.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sqlite3; /* sqlite3.h: sqlite3 */
struct pg_conn; /* libpq-fe.h: PGconn */

enum {
    SQL_PARAMS_MAX = 32,
    SQL_COLUMNS_MAX = 32,
    SQL_TEXT_SIZE = 200,      /* of an error, with its 0 */
    SQL_COLUMN_SIZE = 64,     /* of a column's name, with its 0 */
    SQL_LOCK_TIMEOUT_S = 2,   /* that a transaction of ours waits for a lock; see sql_begin_ours */
    SQL_CODE_DATABASE = -201, /* codes of the parts, the same in the headers of all: the database
                                 said no; RV_RETRIABLE: again; RV_UNSURE: the connection is lost */
    SQL_CODE_FENCED = -202,   /* somebody else has taken over */
};

enum sql_type { SQL_NULL, SQL_NUMBER, SQL_TEXT, SQL_BYTES };

struct sql_value {
    enum sql_type type;
    int64_t number;     /* of SQL_NUMBER */
    struct bytes bytes; /* borrowed; of SQL_TEXT (UTF-8 without a 0) and SQL_BYTES; a ptr of NULL in
                           a parameter is null */
};

struct sql {
    const struct sql_backend *backend; /* static */
    void *connection;                  /* borrowed: sqlite3 * or PGconn * */
    char text[SQL_TEXT_SIZE];          /* of the last error, in the database's words */
    char column[SQL_COLUMN_SIZE];      /* of the last ERR_FENCED; else "" */
};

/* Called for each row; the values are borrowed for the call. No call on the connection in here. */
typedef err sql_row_fn(void *ctx, const struct sql_value *row, size_t count);

/* ERR_UNSUPPORTED: built without that database; ERR_INVALID: no connection. */
err sql_init_sqlite(struct sql *s, struct sqlite3 *connection);
err sql_init_postgres(struct sql *s, struct pg_conn *connection);
bool sql_is_postgres(const struct sql *s);

/* One statement. ret_changed (may be NULL): rows that an INSERT, UPDATE or DELETE changed. `fn` may
 * be NULL: rows are dropped. What is read is in memory whole on PostgreSQL: use LIMIT. */
err sql_exec(struct sql *s, const char *text, const struct sql_value *params, size_t count,
             int64_t *ret_changed);
err sql_query(struct sql *s, const char *text, const struct sql_value *params, size_t count,
              sql_row_fn *fn, void *ctx);

/* A transaction as the service's own settings want it; on SQLite one that may write at once (BEGIN
 * IMMEDIATE), so that ERR_BUSY comes here and not in the middle. */
err sql_begin(struct sql *s);
/* A transaction of the library's own, which may come at any time: READ COMMITTED, and no lock is
 * waited for longer than SQL_LOCK_TIMEOUT_S (SQLite: than its busy_timeout). */
err sql_begin_ours(struct sql *s);
/* Anything but OK: nothing is done, but for ERR_CLOSED and ERR_IO, after which it may be; then
 * sql_rollback. A transaction that had failed before is ERR_INVALID. */
err sql_commit(struct sql *s);
/* Also when nothing is open any more. The result matters only where the connection is used on. */
err sql_rollback(struct sql *s);
/* One is open on the connection, whoever began it; also one that has failed. */
bool sql_in_transaction(const struct sql *s);

const char *sql_bytes_type(const struct sql *s); /* "BYTEA" or "BLOB" */
const char *sql_fence(const struct sql *s);      /* the words behind a column's type, see above */

/* Tells of `e` in *ret_error (may be NULL) as a part does, and returns the code: SQL_CODE_FENCED,
 * SQL_CODE_DATABASE, RV_E_MEMORY. `what` was tried. */
int sql_error(const struct sql *s, err e, const char *what, struct rv_error *ret_error);

static inline struct sql_value sql_number(int64_t number)
{
    return (struct sql_value){.type = SQL_NUMBER, .number = number};
}

static inline struct sql_value sql_bytes(struct bytes bytes)
{
    return (struct sql_value){.type = SQL_BYTES, .bytes = bytes};
}

static inline struct sql_value sql_text(struct str text)
{
    return (struct sql_value){
        .type = SQL_TEXT, .bytes = {(const uint8_t *)text.ptr, text.len}
    };
}

static inline struct str sql_str(const struct sql_value *v)
{
    return (struct str){(const char *)v->bytes.ptr, v->bytes.len};
}

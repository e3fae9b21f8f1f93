/* PostgreSQL, by libpq.
 *
 * Parameters and results are binary: numbers as int8 in network order, text and bytea as they are.
 * A null has no type of its own and takes what the statement wants. A statement that fails leaves
 * the transaction failed: whatever comes next is refused, and COMMIT rolls back, with the command
 * tag ROLLBACK and without an error, which is why that tag is looked at.
 */
#include "client/sql/backend.h"

#ifndef RIVULET_POSTGRES

const struct sql_backend *sql_backend_postgres(void)
{
    return NULL;
}

#else

#include "base/bytes.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

#include "client/sql/weak_pg.h"

/* pg_type.dat: these never change. */
enum {
    TYPE_BOOL = 16,
    TYPE_BYTEA = 17,
    TYPE_NAME = 19,
    TYPE_INT8 = 20,
    TYPE_INT2 = 21,
    TYPE_INT4 = 23,
    TYPE_TEXT = 25,
    TYPE_VARCHAR = 1043,
};
enum { BINARY = 1 };

/* By SQLSTATE, the longest that fits first. */
static const struct {
    const char *state;
    err e;
} states[] =
    {
        {"23502", ERR_FENCED   }, /* not_null_violation */
        {"23505", ERR_EXISTS   }, /* unique_violation */
        {"42P07", ERR_EXISTS   }, /* duplicate_table */
        {"42P01", ERR_NOT_FOUND},
        {"42501", ERR_DENIED   },
        {"25006", ERR_DENIED   }, /* read_only_sql_transaction
  */
        {"40",    ERR_BUSY     }, /* serialization failure, deadlock */
        {"55P03", ERR_BUSY     }, /* lock_not_available: lock_timeout */
        {"57014", ERR_BUSY     }, /* query_canceled: statement_timeout */
        {"53100", ERR_NO_SPACE },
        {"53200", ERR_MEMORY   },
        {"53",    ERR_LIMIT    },
        {"08",    ERR_CLOSED   },
        {"57P",   ERR_CLOSED   }, /* shutting down, crashed, starting up, idle for too long */
        {"25P03", ERR_CLOSED   }, /* idle_in_transaction_session_timeout */
        {"58",    ERR_IO       },
        {"XX001", ERR_CORRUPT  },
        {"XX002", ERR_CORRUPT  },
};

static err failed(struct sql *s, const PGresult *result)
{
    const PGconn *conn = s->connection;
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *column = PQresultErrorField(result, PG_DIAG_COLUMN_NAME);
    err e = state ? ERR_INVALID : ERR_CLOSED; /* without a state it is libpq that failed */
    sql_say(s, text ? text : PQerrorMessage(conn));
    for (size_t i = 0; state && i < sizeof states / sizeof states[0]; i++) {
        if (strncmp(state, states[i].state, strlen(states[i].state)) == 0) {
            e = states[i].e;
            break;
        }
    }
    if (PQstatus(conn) != CONNECTION_OK) {
        e = ERR_CLOSED;
    }
    if (e == ERR_FENCED) {
        snprintf(s->column, sizeof s->column, "%s", column ? column : "");
    }
    return e;
}

struct params {
    Oid types[SQL_PARAMS_MAX];
    const char *values[SQL_PARAMS_MAX];
    int sizes[SQL_PARAMS_MAX];
    int formats[SQL_PARAMS_MAX];
    char numbers[SQL_PARAMS_MAX][8];
};

static err params_fill(struct sql *s, struct params *p, const struct sql_value *params,
                       size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct sql_value *v = &params[i];
        p->formats[i] = BINARY;
        p->values[i] = (const char *)v->bytes.ptr;
        p->sizes[i] = (int)v->bytes.len;
        switch (v->type) {
        case SQL_NULL:
            p->types[i] = 0;
            p->values[i] = NULL;
            break;
        case SQL_NUMBER:
            put_be64(p->numbers[i], (uint64_t)v->number);
            p->types[i] = TYPE_INT8;
            p->values[i] = p->numbers[i];
            p->sizes[i] = 8;
            break;
        case SQL_TEXT: p->types[i] = TYPE_TEXT; break;
        case SQL_BYTES: p->types[i] = TYPE_BYTEA; break;
        }
        if (v->bytes.len > INT32_MAX) {
            sql_say(s, "a parameter of 2 GiB or more");
            return ERR_LIMIT;
        }
    }
    return OK;
}

static err value_take(struct sql *s, const PGresult *result, int row, int column,
                      struct sql_value *ret_value)
{
    const char *in = PQgetvalue(result, row, column);
    size_t size = (size_t)PQgetlength(result, row, column);
    struct sql_value *v = ret_value;
    *v = (struct sql_value){.type = SQL_NULL};
    if (PQgetisnull(result, row, column)) {
        return OK;
    }
    switch (PQftype(result, column)) {
    case TYPE_BOOL: *v = sql_number(in[0]); return OK;
    case TYPE_INT2: *v = sql_number((int16_t)get_be16(in)); return OK;
    case TYPE_INT4: *v = sql_number((int32_t)get_be32(in)); return OK;
    case TYPE_INT8: *v = sql_number((int64_t)get_be64(in)); return OK;
    case TYPE_TEXT:
    case TYPE_NAME:
    case TYPE_VARCHAR: *v = sql_text((struct str){in, size}); return OK;
    case TYPE_BYTEA: *v = sql_bytes((struct bytes){(const uint8_t *)in, size}); return OK;
    default: sql_say(s, "a result that is no number, text or bytes"); return ERR_UNSUPPORTED;
    }
}

static err rows_tell(struct sql *s, const PGresult *result, sql_row_fn *fn, void *ctx)
{
    struct sql_value row[SQL_COLUMNS_MAX];
    int columns = PQnfields(result), rows = PQntuples(result);
    if (columns > SQL_COLUMNS_MAX) {
        sql_say(s, "too many columns");
        return ERR_LIMIT;
    }
    err e = OK;
    for (int i = 0; e == OK && i < rows; i++) {
        for (int j = 0; e == OK && j < columns; j++) {
            e = value_take(s, result, i, j, &row[j]);
        }
        e = e == OK ? fn(ctx, row, (size_t)columns) : e;
    }
    return e;
}

/* "3", "", of INSERT, UPDATE, DELETE and SELECT. */
static int64_t changed_of(PGresult *result)
{
    int64_t changed = 0;
    const char *text = PQcmdTuples(result);
    return text[0] && str_to_int64(str_of(text), &changed) == OK ? changed : 0;
}

static err run(struct sql *s, const char *text, const struct sql_value *params, size_t count,
               sql_row_fn *fn, void *ctx, int64_t *ret_changed)
{
    struct params p;
    err e = params_fill(s, &p, params, count);
    if (e != OK) {
        return e;
    }
    PGresult *result = PQexecParams(s->connection, text, (int)count, p.types, p.values, p.sizes,
                                    p.formats, BINARY);
    switch (PQresultStatus(result)) {
    case PGRES_TUPLES_OK: e = fn ? rows_tell(s, result, fn, ctx) : OK; break;
    case PGRES_COMMAND_OK: break;
    default: e = failed(s, result); break;
    }
    if (e == OK) {
        *ret_changed = changed_of(result);
    }
    PQclear(result);
    return e;
}

static err commit(struct sql *s)
{
    if (PQtransactionStatus(s->connection) == PQTRANS_IDLE) { /* which COMMIT only warns of */
        sql_say(s, "no transaction is open");
        return ERR_INVALID;
    }
    PGresult *result = PQexec(s->connection, "COMMIT");
    err e = OK;
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        e = failed(s, result);
    } else if (strcmp(PQcmdStatus(result), "COMMIT") != 0) {
        sql_say(s, "a statement of the transaction had failed: it was rolled back");
        e = ERR_INVALID;
    }
    PQclear(result);
    return e;
}

static bool in_transaction(const struct sql *s)
{
    PGTransactionStatusType status = PQtransactionStatus(s->connection);
    return status != PQTRANS_IDLE && status != PQTRANS_UNKNOWN;
}

static const char *const begin_ours[] = {"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
                                         "SET LOCAL lock_timeout = '2s'", NULL};
_Static_assert(SQL_LOCK_TIMEOUT_S == 2, "as it says above");
static const struct sql_backend backend = {.bytes_type = "BYTEA",
                                           .fence = "NOT NULL",
                                           .begin = "BEGIN",
                                           .begin_ours = begin_ours,
                                           .run = run,
                                           .commit = commit,
                                           .in_transaction = in_transaction};

const struct sql_backend *sql_backend_postgres(void)
{
    return PQexecParams ? &backend : NULL;
}

#endif

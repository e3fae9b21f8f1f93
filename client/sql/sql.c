#include "client/sql/sql.h"

#include "client/sql/backend.h"

#include <stdio.h>
#include <string.h>

static err init(struct sql *s, const struct sql_backend *backend, void *connection)
{
    if (!backend) {
        return ERR_UNSUPPORTED;
    }
    if (!connection) {
        return ERR_INVALID;
    }
    *s = (struct sql){.backend = backend, .connection = connection};
    return OK;
}

err sql_init_sqlite(struct sql *s, struct sqlite3 *connection)
{
    return init(s, sql_backend_sqlite(), connection);
}

err sql_init_postgres(struct sql *s, struct pg_conn *connection)
{
    return init(s, sql_backend_postgres(), connection);
}

bool sql_is_postgres(const struct sql *s)
{
    return s->backend == sql_backend_postgres();
}

void sql_say(struct sql *s, const char *text)
{
    size_t size = strcspn(text, "\n"); /* what follows is for a terminal */
    snprintf(s->text, sizeof s->text, "%.*s", (int)(size < sizeof s->text ? size : sizeof s->text),
             text);
}

static err run(struct sql *s, const char *text, const struct sql_value *params, size_t count,
               sql_row_fn *fn, void *ctx, int64_t *ret_changed)
{
    int64_t changed = 0;
    s->text[0] = 0;
    s->column[0] = 0;
    if (count > SQL_PARAMS_MAX) {
        sql_say(s, "too many parameters");
        return ERR_LIMIT;
    }
    err e = s->backend->run(s, text, params, count, fn, ctx, &changed);
    if (e == OK && ret_changed) {
        *ret_changed = changed;
    }
    return e;
}

err sql_exec(struct sql *s, const char *text, const struct sql_value *params, size_t count,
             int64_t *ret_changed)
{
    return run(s, text, params, count, NULL, NULL, ret_changed);
}

err sql_query(struct sql *s, const char *text, const struct sql_value *params, size_t count,
              sql_row_fn *fn, void *ctx)
{
    return run(s, text, params, count, fn, ctx, NULL);
}

/* Nobody's transaction is taken for ours. */
static err refuse_open(struct sql *s)
{
    if (sql_in_transaction(s)) {
        sql_say(s, "a transaction is open on the connection already");
        return ERR_INVALID;
    }
    return OK;
}

err sql_begin(struct sql *s)
{
    err e = refuse_open(s);
    return e == OK ? sql_exec(s, s->backend->begin, NULL, 0, NULL) : e;
}

err sql_begin_ours(struct sql *s)
{
    err e = refuse_open(s);
    if (e != OK) {
        return e;
    }
    for (const char *const *text = s->backend->begin_ours; e == OK && *text; text++) {
        e = sql_exec(s, *text, NULL, 0, NULL);
    }
    if (e != OK && sql_in_transaction(s)) { /* begun, and not as it should be */
        struct sql failed = *s;
        sql_rollback(s);
        memcpy(s->text, failed.text, sizeof s->text);
    }
    return e;
}

err sql_commit(struct sql *s)
{
    s->text[0] = 0;
    s->column[0] = 0;
    return s->backend->commit(s);
}

err sql_rollback(struct sql *s)
{
    return sql_in_transaction(s) ? sql_exec(s, "ROLLBACK", NULL, 0, NULL) : OK;
}

bool sql_in_transaction(const struct sql *s)
{
    return s->backend->in_transaction(s);
}

const char *sql_bytes_type(const struct sql *s)
{
    return s->backend->bytes_type;
}

const char *sql_fence(const struct sql *s)
{
    return s->backend->fence;
}

int sql_error(const struct sql *s, err e, const char *what, struct rv_error *ret_error)
{
    int code = e == ERR_MEMORY   ? RV_E_MEMORY
               : e == ERR_FENCED ? SQL_CODE_FENCED
                                 : SQL_CODE_DATABASE;
    unsigned flags = e == ERR_BUSY || e == ERR_MEMORY ? RV_RETRIABLE : 0;
    if (ret_error) {
        struct rv_error told = {.code = code, .flags = flags | (e == ERR_CLOSED ? RV_UNSURE : 0)};
        snprintf(told.text, sizeof told.text, "%s: %s", what, s->text[0] ? s->text : err_text(e));
        *ret_error = told;
    }
    return code;
}

/* backend: what sql.c asks of a database. One file each: sql_sqlite.c, sql_pg.c. */
#pragma once

#include "client/sql/sql.h"

struct sql_backend {
    const char *bytes_type;
    const char *fence;
    const char *begin;             /* see sql_begin, sql_begin_ours */
    const char *const *begin_ours; /* statements; NULL ends them */
    /* As sql_query and sql_exec together; ret_changed is never NULL. Sets text and column. */
    err (*run)(struct sql *s, const char *text, const struct sql_value *params, size_t count,
               sql_row_fn *fn, void *ctx, int64_t *ret_changed);
    err (*commit)(struct sql *s);
    bool (*in_transaction)(const struct sql *s);
};

/* NULL: not built in. */
const struct sql_backend *sql_backend_sqlite(void);
const struct sql_backend *sql_backend_postgres(void);

void sql_say(struct sql *s, const char *text); /* one line of it, into s->text */

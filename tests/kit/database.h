/* database: a database of the test's own, SQLite in a file or a PostgreSQL server, and connections
 * to it, through client/sql. Wherever the library for one of them is there, it is tested: a server
 * that cannot be started ends the test. */
#pragma once

#include "client/sql/sql.h"
#include "tests/kit/postgres.h"
#include "tests/kit/temp_dir.h"

enum { DATABASE_WHERE_SIZE = POSTGRES_CONNINFO_SIZE + 16 };

struct database {
    char dir[TEMP_DIR_SIZE];         /* of SQLite; "" */
    struct postgres *server;         /* NULL: it is SQLite */
    char where[DATABASE_WHERE_SIZE]; /* "sqlite:PATH" or "postgres:CONNINFO" */
};

bool database_has_sqlite(void);
bool database_has_postgres(void);
struct database *database_create(bool postgres);
void database_destroy(struct database *d); /* takes NULL */

/* One connection. `sql` has it as rv_..._open_sqlite or _postgres want it. */
struct db {
    struct sql sql;
};

/* The process ends when it cannot be opened; SQLite waits for locks for as long as is said. */
void db_open(struct db *s, const char *where, int busy_ms);
void db_reconnect(struct db *s); /* of a lost one; waits until the server is there */
void db_close(struct db *s);

/* Ends the process with the database's words when it fails. */
void db_must(struct db *s, const char *text, const struct sql_value *params, size_t count);
int64_t db_number(struct db *s, const char *text); /* of one row with one number */

/* What the examples with SQLite share: opening a database, and one statement with its parameters.
 */
#include <rivulet.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>

/* Runs one statement with text parameters, ?1 and so on. *ret_number (may be NULL) is the first
 * column of its first row, and stays as it is when there is none. */
static inline bool sql_run(sqlite3 *db, const char *sql, const struct rv_bytes *values,
                           size_t count, long long *ret_number)
{
    sqlite3_stmt *stmt = NULL;
    int code = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
    for (size_t i = 0; code == SQLITE_OK && i < count; i++) {
        code = sqlite3_bind_text(stmt, (int)i + 1, values[i].ptr, (int)values[i].size,
                                 SQLITE_STATIC); /* a ptr of NULL is NULL */
    }
    while (code == SQLITE_OK || code == SQLITE_ROW) {
        code = sqlite3_step(stmt);
        if (code == SQLITE_ROW && ret_number) {
            *ret_number = sqlite3_column_int64(stmt, 0);
            ret_number = NULL;
        }
    }
    if (code != SQLITE_DONE) {
        fprintf(stderr, "%s: %s\n", sql, sqlite3_errmsg(db));
    }
    sqlite3_finalize(stmt);
    return code == SQLITE_DONE;
}
#define SQL_VALUES(...)                                                                            \
    (const struct rv_bytes[])                                                                      \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define SQL(db, sql, ...)                                                                          \
    sql_run(db, sql, SQL_VALUES(__VA_ARGS__),                                                      \
            sizeof SQL_VALUES(__VA_ARGS__) / sizeof(struct rv_bytes), NULL)

/* BEGIN, COMMIT and the like. */
static inline bool sql_do(sqlite3 *db, const char *sql)
{
    return sql_run(db, sql, NULL, 0, NULL);
}

/* A database that waits for other writers, and whose commits survive a power cut. */
static inline bool sql_open(const char *path, const char *tables, sqlite3 **ret_db)
{
    if (sqlite3_open(path, ret_db) || sqlite3_busy_timeout(*ret_db, 10000) ||
        sqlite3_exec(*ret_db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;", NULL, NULL,
                     NULL) ||
        sqlite3_exec(*ret_db, tables, NULL, NULL, NULL)) {
        fprintf(stderr, "%s: %s\n", path, sqlite3_errmsg(*ret_db));
        sqlite3_close(*ret_db);
        return false;
    }
    return true;
}

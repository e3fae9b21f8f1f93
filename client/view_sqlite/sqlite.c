/* A view's storage in SQLite. Rows that are given out are copied, and no statement stays open
 * between calls: an open one would hold a snapshot of the service's database. */
#include "base/mem.h"
#include "base/str.h"
#include "client/view_sqlite/rivulet_view_sqlite.h"

#include <ctype.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { NAME_LIMIT = 64, SQL_SIZE = 600 };

enum statement {
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_GET,
    SQL_PUT,
    SQL_REMOVE,
    SQL_OLD,
    SQL_SWEEP,
    SQL_NEXT,
    SQL_COUNT,
    SQL_ANY,
    SQL_LOAD,
    SQL_LOAD_POSITIONS,
    SQL_SAVE,
    SQL_SAVE_POSITION,
    SQL_DROP_POSITIONS,
    SQL_STATEMENTS,
};

/* %s is the view's table. */
static const char *const texts[SQL_STATEMENTS] = {
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_GET] =
        "SELECT key, value, partition, offset, timestamp_ms, generation FROM \"%s\" WHERE key = ?1",
    [SQL_PUT] = "INSERT INTO \"%s\" (key, value, partition, offset, timestamp_ms, generation) "
                "VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (key) DO UPDATE SET value = ?2, "
                "partition = ?3, offset = ?4, timestamp_ms = ?5, generation = ?6",
    [SQL_REMOVE] = "DELETE FROM \"%s\" WHERE key = ?1",
    [SQL_OLD] = "SELECT key, value, partition, offset, timestamp_ms, generation FROM \"%s\" "
                "WHERE generation <> ?1 AND value IS NOT NULL",
    [SQL_SWEEP] = "DELETE FROM \"%s\" WHERE generation <> ?1 OR value IS NULL",
    [SQL_NEXT] = "SELECT key, value, partition, offset, timestamp_ms, rowid FROM \"%s\" "
                 "WHERE rowid > ?1 AND value IS NOT NULL ORDER BY rowid LIMIT 1",
    [SQL_COUNT] = "SELECT count(*) FROM \"%s\" WHERE value IS NOT NULL",
    [SQL_ANY] = "SELECT count(*) FROM (SELECT 1 FROM \"%s\" LIMIT 1)",
    [SQL_LOAD] = "SELECT topic, topic_id, generation, fresh_ms, without_key, rebuilds, is_complete "
                 "FROM rivulet_view WHERE view = '%s'",
    [SQL_LOAD_POSITIONS] = "SELECT partition, offset, leader_epoch FROM rivulet_view_position "
                           "WHERE view = '%s' ORDER BY partition",
    [SQL_SAVE] =
        "INSERT OR REPLACE INTO rivulet_view (view, topic, topic_id, generation, fresh_ms, "
        "without_key, rebuilds, is_complete) VALUES ('%s', ?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    [SQL_SAVE_POSITION] = "INSERT OR REPLACE INTO rivulet_view_position (view, partition, offset, "
                          "leader_epoch) VALUES ('%s', ?1, ?2, ?3)",
    [SQL_DROP_POSITIONS] =
        "DELETE FROM rivulet_view_position WHERE view = '%s' AND partition >= ?1",
};

static const char *const tables[] = {
    "CREATE TABLE IF NOT EXISTS \"%s\" (key BLOB PRIMARY KEY NOT NULL, value BLOB, partition "
    "INTEGER "
    "NOT NULL, offset INTEGER NOT NULL, timestamp_ms INTEGER NOT NULL, generation INTEGER NOT "
    "NULL)",
    "CREATE TABLE IF NOT EXISTS rivulet_view (view TEXT PRIMARY KEY, topic TEXT NOT NULL, topic_id "
    "TEXT NOT NULL, generation INTEGER NOT NULL, fresh_ms INTEGER NOT NULL, without_key INTEGER "
    "NOT "
    "NULL, rebuilds INTEGER NOT NULL, is_complete INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS rivulet_view_position (view TEXT NOT NULL, partition INTEGER NOT "
    "NULL, "
    "offset INTEGER NOT NULL, leader_epoch INTEGER NOT NULL, PRIMARY KEY (view, partition))",
};

struct view_sqlite {
    sqlite3 *db; /* borrowed */
    char table[NAME_LIMIT + 1];
    sqlite3_stmt *statements[SQL_STATEMENTS]; /* owned; prepared when they are needed first */
    struct rv_view_position *loaded;          /* owned; what load gave out */
    struct rv_view_position *saved;           /* owned; what is in the database for sure ... */
    size_t saved_count;                       /* ... of so many partitions */
    struct buf row;                           /* owned; key and value of the row given out last */
};

/* ---- errors ---- */

static int sql_fail(struct rv_error *ret_error, int code, unsigned flags, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int sql_fail(struct rv_error *ret_error, int code, unsigned flags, const char *format, ...)
{
    va_list args;
    struct rv_error e = {.code = code, .flags = flags};
    va_start(args, format);
    vsnprintf(e.text, sizeof e.text, format, args);
    va_end(args);
    if (ret_error) {
        *ret_error = e;
    }
    return code;
}

static int no_memory(struct rv_error *e)
{
    return sql_fail(e, RV_E_MEMORY, RV_RETRIABLE, "out of memory");
}

/* What the database said last. */
static int said(const struct view_sqlite *s, struct rv_error *e)
{
    int result = sqlite3_errcode(s->db) & 0xff;
    bool busy = result == SQLITE_BUSY || result == SQLITE_LOCKED;
    return result == SQLITE_NOMEM ? no_memory(e)
                                  : sql_fail(e, RV_VIEW_E_DATABASE, busy ? RV_RETRIABLE : 0,
                                             "view %s: %s", s->table, sqlite3_errmsg(s->db));
}

/* ---- statements ---- */

/* For binding; NULL: the database says why. */
static sqlite3_stmt *statement(struct view_sqlite *s, enum statement which)
{
    if (!s->statements[which]) {
        char text[SQL_SIZE];
        snprintf(text, sizeof text, texts[which], s->table);
        sqlite3_prepare_v3(s->db, text, -1, SQLITE_PREPARE_PERSISTENT, &s->statements[which], NULL);
    }
    return s->statements[which];
}

static void statement_end(sqlite3_stmt *q)
{
    sqlite3_reset(q);
    sqlite3_clear_bindings(q); /* what was bound is borrowed */
}

/* One that gives no rows, with its bindings. */
static int run(const struct view_sqlite *s, sqlite3_stmt *q, bool is_bound, struct rv_error *e)
{
    int result = is_bound ? sqlite3_step(q) : SQLITE_ERROR;
    int code = result == SQLITE_DONE || result == SQLITE_ROW ? RV_OK : said(s, e);
    if (q) {
        statement_end(q);
    }
    return code;
}

static bool bind_bytes(sqlite3_stmt *q, int at, struct rv_bytes b)
{
    const char *p = b.size ? b.ptr : "";
    return (b.ptr ? sqlite3_bind_blob64(q, at, p, b.size, SQLITE_STATIC)
                  : sqlite3_bind_null(q, at)) == SQLITE_OK;
}

static bool bind_number(sqlite3_stmt *q, int at, int64_t n)
{
    return sqlite3_bind_int64(q, at, n) == SQLITE_OK;
}

static struct rv_bytes column_bytes(sqlite3_stmt *q, int at)
{
    bool is_null = sqlite3_column_type(q, at) == SQLITE_NULL;
    const void *p = sqlite3_column_blob(q, at);
    return (struct rv_bytes){is_null ? NULL : p ? p : "", (size_t)sqlite3_column_bytes(q, at)};
}

/* The row as it lies in the statement. */
static struct rv_view_entry row_entry(sqlite3_stmt *q)
{
    return (struct rv_view_entry){.key = column_bytes(q, 0),
                                  .value = column_bytes(q, 1),
                                  .partition = sqlite3_column_int(q, 2),
                                  .offset = sqlite3_column_int64(q, 3),
                                  .timestamp_ms = sqlite3_column_int64(q, 4)};
}

/* The one row of a bound statement, copied; *ret_number is its last column, 0 without a row. */
static int row_take(struct view_sqlite *s, sqlite3_stmt *q, struct rv_view_entry *ret_entry,
                    int64_t *ret_number, struct rv_error *e)
{
    int result = sqlite3_step(q);
    int code = RV_OK;
    *ret_number = 0;
    *ret_entry = (struct rv_view_entry){0};
    if (result == SQLITE_ROW) {
        struct rv_view_entry entry = row_entry(q);
        s->row.len = 0;
        if (buf_reserve(&s->row, entry.key.size + entry.value.size + 1)) {
            buf_add(&s->row, entry.key.ptr, entry.key.size);
            buf_add(&s->row, entry.value.ptr ? entry.value.ptr : "", entry.value.size);
            entry.key.ptr = s->row.ptr;
            entry.value.ptr = entry.value.ptr ? s->row.ptr + entry.key.size : NULL;
            *ret_number = sqlite3_column_int64(q, 5);
            *ret_entry = entry;
        } else {
            s->row.failed = false;
            code = no_memory(e);
        }
    } else if (result != SQLITE_DONE) {
        code = said(s, e);
    }
    statement_end(q);
    return code;
}

/* ---- as a storage ---- */

static int view_begin(void *ctx, struct rv_error *e)
{
    struct view_sqlite *s = ctx;
    sqlite3_stmt *q = statement(s, SQL_BEGIN);
    return run(s, q, q != NULL, e);
}

static int view_commit(void *ctx, struct rv_error *e)
{
    struct view_sqlite *s = ctx;
    sqlite3_stmt *q = statement(s, SQL_COMMIT);
    return run(s, q, q != NULL, e);
}

static void view_rollback(void *ctx)
{
    struct view_sqlite *s = ctx;
    s->saved_count = 0; /* what was saved last may not be there */
    if (!sqlite3_get_autocommit(s->db)) {
        sqlite3_stmt *q = statement(s, SQL_ROLLBACK);
        run(s, q, q != NULL, NULL); /* when it cannot be, the next BEGIN says so */
    }
}

static int view_get(void *ctx, struct rv_bytes key, struct rv_view_entry *ret_entry,
                    int64_t *ret_generation, struct rv_error *e)
{
    struct view_sqlite *s = ctx;
    sqlite3_stmt *q = statement(s, SQL_GET);
    return q && bind_bytes(q, 1, key) ? row_take(s, q, ret_entry, ret_generation, e) : said(s, e);
}

static int view_put(void *ctx, const struct rv_view_entry *entry, int64_t generation,
                    struct rv_error *e)
{
    struct view_sqlite *s = ctx;
    sqlite3_stmt *q = statement(s, SQL_PUT);
    bool bound = q && bind_bytes(q, 1, entry->key) && bind_bytes(q, 2, entry->value) &&
                 bind_number(q, 3, entry->partition) && bind_number(q, 4, entry->offset) &&
                 bind_number(q, 5, entry->timestamp_ms) && bind_number(q, 6, generation);
    return run(s, q, bound, e);
}

static int view_remove(void *ctx, struct rv_bytes key, struct rv_error *e)
{
    struct view_sqlite *s = ctx;
    sqlite3_stmt *q = statement(s, SQL_REMOVE);
    return run(s, q, q && bind_bytes(q, 1, key), e);
}

static int view_sweep(void *ctx, int64_t generation,
                      void (*gone)(void *gone_ctx, const struct rv_view_entry *entry),
                      void *gone_ctx, struct rv_error *e)
{
    struct view_sqlite *s = ctx;
    sqlite3_stmt *q = statement(s, SQL_OLD);
    int result = q && bind_number(q, 1, generation) ? SQLITE_ROW : SQLITE_ERROR;
    while (result == SQLITE_ROW && (result = sqlite3_step(q)) == SQLITE_ROW) {
        struct rv_view_entry entry = row_entry(q);
        gone(gone_ctx, &entry);
    }
    int code = result == SQLITE_DONE ? RV_OK : said(s, e);
    if (q) {
        statement_end(q);
    }
    if (code != RV_OK) {
        return code;
    }
    q = statement(s, SQL_SWEEP);
    return run(s, q, q && bind_number(q, 1, generation), e);
}

static int view_next(void *ctx, int64_t *cursor, struct rv_view_entry *ret_entry,
                     struct rv_error *e)
{
    struct view_sqlite *s = ctx;
    int64_t rowid;
    sqlite3_stmt *q = statement(s, SQL_NEXT);
    int code = q && bind_number(q, 1, *cursor) ? row_take(s, q, ret_entry, &rowid, e) : said(s, e);
    *cursor = code == RV_OK && rowid ? rowid : *cursor;
    return code;
}

static int count_take(struct view_sqlite *s, enum statement which, int64_t *ret_count,
                      struct rv_error *e)
{
    sqlite3_stmt *q = statement(s, which);
    int code = q && sqlite3_step(q) == SQLITE_ROW ? RV_OK : said(s, e);
    if (code == RV_OK) {
        *ret_count = sqlite3_column_int64(q, 0);
    }
    if (q) {
        statement_end(q);
    }
    return code;
}

static int view_count(void *ctx, int64_t *ret_count, struct rv_error *e)
{
    return count_take(ctx, SQL_COUNT, ret_count, e);
}

static void view_close(void *ctx)
{
    struct view_sqlite *s = ctx;
    for (int i = 0; i < SQL_STATEMENTS; i++) {
        sqlite3_finalize(s->statements[i]);
    }
    buf_finish(&s->row);
    mem_free(s->loaded);
    mem_free(s->saved);
    mem_free(s);
}

/* ---- the state ---- */

static int positions_load(struct view_sqlite *s, struct rv_view_state *state, struct rv_error *e)
{
    sqlite3_stmt *q = statement(s, SQL_LOAD_POSITIONS);
    int result = q ? SQLITE_ROW : SQLITE_ERROR;
    size_t count = 0, slots = 0;
    int code = RV_OK;
    while (code == RV_OK && result == SQLITE_ROW && (result = sqlite3_step(q)) == SQLITE_ROW) {
        if (count == slots) {
            slots = slots ? slots * 2 : 16;
            struct rv_view_position *more = mem_resize(s->loaded, slots * sizeof *more);
            if (!more) {
                code = no_memory(e);
                break;
            }
            s->loaded = more;
        }
        struct rv_view_position *p = &s->loaded[count];
        *p = (struct rv_view_position){.partition = sqlite3_column_int(q, 0),
                                       .offset = sqlite3_column_int64(q, 1),
                                       .leader_epoch = sqlite3_column_int(q, 2)};
        if (p->partition != (int32_t)count++ || p->offset < RV_START || p->offset == RV_END) {
            code = sql_fail(e, RV_VIEW_E_DATABASE, 0,
                            "view %s: its positions are not what was stored", s->table);
        }
    }
    code = code == RV_OK && result != SQLITE_DONE ? said(s, e) : code;
    if (q) {
        statement_end(q);
    }
    state->positions = s->loaded;
    state->partition_count = count;
    return code;
}

static int view_load(void *ctx, const char *topic, struct rv_view_state *ret_state,
                     struct rv_error *e)
{
    struct view_sqlite *s = ctx;
    struct rv_view_state state = {0};
    sqlite3_stmt *q = statement(s, SQL_LOAD);
    int result = q ? sqlite3_step(q) : SQLITE_ERROR;
    int code = result == SQLITE_DONE || result == SQLITE_ROW ? RV_OK : said(s, e);
    if (result == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(q, 0);
        const char *id = (const char *)sqlite3_column_text(q, 1);
        if (!name || !id) {
            code = no_memory(e);
        } else if (strcmp(name, topic) != 0) {
            code =
                sql_fail(e, RV_E_ARGUMENT, 0, "table %s is a view of topic %.100s, not of %.100s",
                         s->table, name, topic);
        } else {
            snprintf(state.topic_id, sizeof state.topic_id, "%s", id);
        }
        state.generation = sqlite3_column_int64(q, 2);
        state.fresh_ms = sqlite3_column_int64(q, 3);
        state.without_key = sqlite3_column_int64(q, 4);
        state.rebuilds = sqlite3_column_int64(q, 5);
        state.is_complete = sqlite3_column_int(q, 6) != 0;
    }
    if (q) {
        statement_end(q);
    }
    int64_t rows = 0;
    if (code == RV_OK) {
        code =
            result == SQLITE_ROW ? positions_load(s, &state, e) : count_take(s, SQL_ANY, &rows, e);
    }
    if (code == RV_OK && rows) {
        code = sql_fail(e, RV_E_ARGUMENT, 0, "table %s has rows, and is no view's", s->table);
    }
    if (code == RV_OK) {
        *ret_state = state;
    }
    return code;
}

static int position_save(struct view_sqlite *s, const struct rv_view_position *p,
                         struct rv_error *e)
{
    sqlite3_stmt *q = statement(s, SQL_SAVE_POSITION);
    bool bound = q && bind_number(q, 1, p->partition) && bind_number(q, 2, p->offset) &&
                 bind_number(q, 3, p->leader_epoch);
    return run(s, q, bound, e);
}

/* Positions that are there already are not written again. */
static int positions_save(struct view_sqlite *s, const struct rv_view_state *state,
                          struct rv_error *e)
{
    size_t count = state->partition_count;
    struct rv_view_position *saved = mem_resize(s->saved, count * sizeof *saved);
    if (!saved) {
        return no_memory(e);
    }
    s->saved = saved;
    if (count != s->saved_count) {
        sqlite3_stmt *q = statement(s, SQL_DROP_POSITIONS);
        int code = run(s, q, q && bind_number(q, 1, (int64_t)count), e);
        if (code != RV_OK) {
            return code;
        }
    }
    for (size_t i = 0; i < count; i++) {
        const struct rv_view_position *p = &state->positions[i];
        if (i < s->saved_count && saved[i].offset == p->offset &&
            saved[i].leader_epoch == p->leader_epoch) {
            continue;
        }
        int code = position_save(s, p, e);
        if (code != RV_OK) {
            return code;
        }
        saved[i] = *p;
    }
    s->saved_count = count;
    return RV_OK;
}

static int view_save(void *ctx, const char *topic, const struct rv_view_state *state,
                     struct rv_error *e)
{
    struct view_sqlite *s = ctx;
    sqlite3_stmt *q = statement(s, SQL_SAVE);
    bool bound = q && sqlite3_bind_text(q, 1, topic, -1, SQLITE_STATIC) == SQLITE_OK &&
                 sqlite3_bind_text(q, 2, state->topic_id, -1, SQLITE_STATIC) == SQLITE_OK &&
                 bind_number(q, 3, state->generation) && bind_number(q, 4, state->fresh_ms) &&
                 bind_number(q, 5, state->without_key) && bind_number(q, 6, state->rebuilds) &&
                 bind_number(q, 7, state->is_complete);
    int code = run(s, q, bound, e);
    return code == RV_OK ? positions_save(s, state, e) : code;
}

/* ---- open ---- */

static bool name_is_good(const char *name)
{
    size_t n = 0;
    for (; name[n]; n++) {
        if (n == NAME_LIMIT || !(isalnum((unsigned char)name[n]) || name[n] == '_')) {
            return false;
        }
    }
    return n > 0;
}

int rv_view_sqlite_open(struct sqlite3 *db, const char *table, struct rv_view_storage *ret_storage,
                        struct rv_error *ret_error)
{
    if (!name_is_good(table)) {
        return sql_fail(ret_error, RV_E_ARGUMENT, 0,
                        "table '%.100s': a name is of letters, digits and _, 64 at most", table);
    }
    struct view_sqlite *s = mem_zero(1, sizeof *s);
    if (!s) {
        return no_memory(ret_error);
    }
    s->db = db;
    snprintf(s->table, sizeof s->table, "%s", table);
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        char text[SQL_SIZE];
        snprintf(text, sizeof text, tables[i], table);
        if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK) {
            int code = said(s, ret_error);
            view_close(s);
            return code;
        }
    }
    *ret_storage = (struct rv_view_storage){.ctx = s,
                                            .load = view_load,
                                            .begin = view_begin,
                                            .commit = view_commit,
                                            .rollback = view_rollback,
                                            .get = view_get,
                                            .put = view_put,
                                            .remove = view_remove,
                                            .sweep = view_sweep,
                                            .save = view_save,
                                            .next = view_next,
                                            .count = view_count,
                                            .close = view_close};
    return RV_OK;
}

/* rivulet outbox: the tables of a transactional outbox, its relay, and what people may do to it. */
#include "tools/tool.h"

#ifdef TOOL_HAS_OUTBOX

#include "base/mem.h"
#include "client/outbox/rivulet_outbox.h"
#include "tools/group.h"
#include "tools/terminal.h"

#include <poll.h>
#include <string.h>
#ifdef RIVULET_SQLITE
#include <sqlite3.h>
#endif
#ifdef RIVULET_POSTGRES
#include <libpq-fe.h>
#endif

enum {
    DB_OPTIONS_MAX = TOOL_MANY_LIMIT + 2,
    BUSY_MS = 10000,  /* that SQLite waits for another writer */
    SLICE_MS = 200,   /* of the relay's work, between two looks for Ctrl-C */
    REOPEN_MS = 1000, /* between two attempts at a database */
    WHY_SIZE = 512,
};

/* A connection and the outbox on it; one of the two handles is there. */
struct db {
    void *sqlite;   /* owned: sqlite3 *; NULL */
    void *postgres; /* owned: PGconn *; NULL */
    struct rv_outbox *outbox;
};

static void db_close(struct db *db)
{
    rv_outbox_close(db->outbox);
#ifdef RIVULET_SQLITE
    sqlite3_close(db->sqlite); /* takes NULL */
#endif
#ifdef RIVULET_POSTGRES
    if (db->postgres) {
        PQfinish(db->postgres);
    }
#endif
    *db = (struct db){0};
}

static bool sqlite_open(const char *path, bool create, struct db *db, char why[WHY_SIZE])
{
#ifdef RIVULET_SQLITE
    sqlite3 *handle = NULL;
    int flags = SQLITE_OPEN_READWRITE | (create ? SQLITE_OPEN_CREATE : 0);
    int code = sqlite3_open_v2(path, &handle, flags, NULL);
    db->sqlite = handle;
    code = code == SQLITE_OK ? sqlite3_busy_timeout(handle, BUSY_MS) : code;
    if (code != SQLITE_OK) {
        snprintf(why, WHY_SIZE, "%s: %s", path,
                 handle ? sqlite3_errmsg(handle) : sqlite3_errstr(code));
    }
    return code == SQLITE_OK;
#else
    (void)create;
    (void)db;
    snprintf(why, WHY_SIZE, "%s: this program was built without SQLite", path);
    return false;
#endif
}

static bool postgres_open(const char *url, struct db *db, char why[WHY_SIZE])
{
#ifdef RIVULET_POSTGRES
    PGconn *handle = PQconnectdb(url);
    db->postgres = handle;
    if (PQstatus(handle) != CONNECTION_OK) {
        const char *text = PQerrorMessage(handle);
        snprintf(why, WHY_SIZE, "%.*s", (int)strcspn(text, "\n"), text);
        return false;
    }
    return true;
#else
    (void)db;
    snprintf(why, WHY_SIZE, "%s: this program was built without PostgreSQL", url);
    return false;
#endif
}

static int outbox_failed(const struct tool *t, const struct rv_error *e)
{
    if (e->code == RV_OUTBOX_DATABASE &&
        (strstr(e->text, "no such table") || strstr(e->text, "does not exist"))) {
        tool_say("%s\n`rivulet outbox init %s` makes the tables", e->text, t->args[0]);
        return EXIT_FAILED;
    }
    if (e->code == RV_E_ABSENT) {
        tool_say("%s\n`rivulet outbox show %s` names what there is", e->text, t->args[0]);
        return EXIT_FAILED;
    }
    return tool_failed(t, e);
}

static int outbox_open(struct tool *t, struct db *db)
{
    struct rv_error e;
    struct rv_option given[DB_OPTIONS_MAX] = {{0}};
    size_t count = 0;
    struct rv_option *pairs = tool_pairs(t, 'c', &count);
    if (!pairs) {
        return EXIT_FAILED;
    }
    memcpy(given, pairs, count * sizeof *pairs);
    if (tool_has(t, '7')) {
        given[count++] = (struct rv_option){"outbox.table", tool_value(t, '7')};
    }
    int code = db->sqlite ? rv_outbox_open_sqlite(db->sqlite, given, &db->outbox, &e)
                          : rv_outbox_open_postgresql(db->postgres, given, &db->outbox, &e);
    mem_free(pairs);
    return code == RV_OK ? EXIT_DONE : tool_failed(t, &e);
}

/* Anything but EXIT_DONE: there is nothing to close, and why is in `why`, or was said and that is
 * "".
 */
static int db_try(struct tool *t, bool create, struct db *ret_db, char why[WHY_SIZE])
{
    const char *name = t->args[0];
    struct db db = {0};
    bool there;
    why[0] = 0;
    if (strncmp(name, "sqlite:", 7) == 0 && name[7]) {
        there = sqlite_open(name + 7, create, &db, why);
    } else if (strncmp(name, "postgresql://", 13) == 0 || strncmp(name, "postgres://", 11) == 0) {
        there = postgres_open(name, &db, why);
    } else {
        return tool_usage(t, "'%s' is neither sqlite:PATH nor postgresql://...", name);
    }
    int code = there ? outbox_open(t, &db) : EXIT_FAILED;
    if (code != EXIT_DONE) {
        db_close(&db);
        return code;
    }
    *ret_db = db;
    return EXIT_DONE;
}

/* Anything but EXIT_DONE: it was said why, and there is nothing to close. */
static int db_open(struct tool *t, bool create, struct db *ret_db)
{
    char why[WHY_SIZE];
    int code = db_try(t, create, ret_db, why);
    if (why[0]) {
        tool_say("%s", why);
    }
    return code;
}

/* ---- init ---- */

int verb_outbox_init(struct tool *t)
{
    struct rv_error e;
    struct db db;
    const char *table = tool_has(t, '7') ? tool_value(t, '7') : "rivulet_outbox";
    int code = db_open(t, true, &db);
    if (code != EXIT_DONE) {
        return code;
    }
    if (rv_outbox_init(db.outbox, &e) != RV_OK) {
        code = tool_failed(t, &e);
    } else if (t->json) {
        code = json_line(stdout, json_pack("{s:o}", "table", json_text(table))) ? EXIT_DONE
                                                                                : EXIT_FAILED;
    } else {
        tool_print("the outbox is in table %s", table);
    }
    db_close(&db);
    return code;
}

/* ---- show ---- */

static const char *const kinds[] = {[RV_OUTBOX_TOPIC] = "topic",
                                    [RV_OUTBOX_KEY] = "key",
                                    [RV_OUTBOX_ROW] = "row",
                                    [RV_OUTBOX_BATCH] = "batch"};

struct showing {
    struct tool *t;
    struct table table;
    size_t count;
    bool failed; /* the output */
};

static void trouble_json(struct showing *s, const struct rv_outbox_trouble *trouble)
{
    json_t *o = json_pack("{s:s,s:I,s:o,s:o,s:o,s:I,s:I,s:o}", "kind", kinds[trouble->kind], "id",
                          (json_int_t)trouble->id, "topic", json_text(trouble->topic), "partition",
                          json_offset(trouble->partition), "key", json_bytes(trouble->key), "rows",
                          (json_int_t)trouble->rows, "age_ms", (json_int_t)trouble->age_ms,
                          "reason", json_text(trouble->reason));
    s->failed = !json_line(stdout, o) || s->failed;
}

static void trouble_show(void *ctx, const struct rv_outbox_trouble *trouble)
{
    struct showing *s = ctx;
    char age[AGE_TEXT];
    s->count++;
    if (s->t->json) {
        trouble_json(s, trouble);
        return;
    }
    age_text(trouble->age_ms, age);
    table_add(&s->table, "%s", kinds[trouble->kind]);
    table_add(&s->table, "%lld", (long long)trouble->id);
    table_add(&s->table, "%s", trouble->topic);
    if (trouble->key.ptr) {
        table_add(&s->table, "%.*s", (int)trouble->key.size, (const char *)trouble->key.ptr);
    } else {
        table_add(&s->table, "-");
    }
    table_add(&s->table, "%lld", (long long)trouble->rows);
    table_add(&s->table, "%s", age);
    table_add(&s->table, "%s", trouble->reason);
}

static int status_show(const struct tool *t, const struct rv_outbox_status *status)
{
    bool works = status->lease_left_ms > 0;
    char age[AGE_TEXT];
    if (t->json) {
        json_t *o =
            json_pack("{s:I,s:I,s:I,s:I,s:I,s:o,s:I}", "rows", (json_int_t)status->rows, "sealed",
                      (json_int_t)status->sealed, "waiting", (json_int_t)status->waiting, "sent",
                      (json_int_t)status->sent, "oldest_ms", (json_int_t)status->oldest_ms, "relay",
                      json_text(works ? status->relay : NULL), "lease_left_ms",
                      (json_int_t)(works ? status->lease_left_ms : 0));
        return json_line(stdout, o) ? EXIT_DONE : EXIT_FAILED;
    }
    age_text(status->oldest_ms, age);
    tool_print("backlog\t%lld  oldest\t%s  sealed\t%lld  waiting\t%lld  kept\t%lld  relay\t%s",
               (long long)status->rows, status->rows ? age : "-", (long long)status->sealed,
               (long long)status->waiting, (long long)status->sent, works ? status->relay : "none");
    return EXIT_DONE;
}

static int outbox_show(struct tool *t, struct rv_outbox *outbox)
{
    static const char *const heads[] = {"WAITS", ">ID",    "TOPIC", "KEY",
                                        ">ROWS", ">SINCE", "REASON"};
    struct showing s = {.t = t};
    struct rv_error e;
    struct rv_outbox_status status;
    if (rv_outbox_status(outbox, &status, &e) != RV_OK) {
        return outbox_failed(t, &e);
    }
    int code = status_show(t, &status);
    table_init(&s.table, heads, 7);
    if (code == EXIT_DONE && rv_outbox_each(outbox, trouble_show, &s, &e) != RV_OK) {
        code = outbox_failed(t, &e);
    }
    if (!t->json && s.count > 0) {
        putchar('\n');
        int printed = table_print(&s.table, stdout);
        code = code == EXIT_DONE ? printed : code;
    }
    return code == EXIT_DONE && (s.count > 0 || s.failed) ? EXIT_FAILED : code;
}

int verb_outbox_show(struct tool *t)
{
    struct db db;
    int code = db_open(t, false, &db);
    if (code == EXIT_DONE) {
        code = outbox_show(t, db.outbox);
        db_close(&db);
    }
    return code;
}

/* ---- run ---- */

struct running {
    struct tool *t;
    struct db db; /* outbox NULL: to be opened */
    struct stop stop;
    int64_t published;
    char said[WHY_SIZE]; /* the last trouble: it is said once */
};

static void wait_a_little(struct running *r)
{
    struct pollfd fd = {.fd = r->stop.fd, .events = POLLIN};
    poll(&fd, 1, REOPEN_MS); /* less is no harm */
}

static void say_once(struct running *r, const char *text)
{
    if (strcmp(r->said, text) != 0) {
        snprintf(r->said, sizeof r->said, "%s", text);
        tool_say("%s", text);
    }
}

/* A slice of the relay's work. EXIT_DONE also when something passes by itself. */
static int run_slice(struct running *r)
{
    struct rv_error e;
    int64_t count = 0;
    int code = rv_outbox_relay(r->db.outbox, r->t->client, SLICE_MS, &count, &e);
    r->published += count;
    if (code == RV_OK) {
        r->said[0] = 0;
        return EXIT_DONE;
    }
    if (code == RV_OUTBOX_DATABASE && (e.flags & RV_UNSURE)) {
        say_once(r, e.text);
        db_close(&r->db); /* the connection is lost */
        return EXIT_DONE;
    }
    if (e.flags & RV_RETRIABLE) {
        say_once(r, e.text);
        return EXIT_DONE;
    }
    return outbox_failed(r->t, &e);
}

static void reopen(struct running *r)
{
    char why[WHY_SIZE];
    if (db_try(r->t, false, &r->db, why) != EXIT_DONE) {
        say_once(r, why);
        wait_a_little(r);
    }
}

static int run(struct running *r)
{
    int code = db_open(r->t, false, &r->db); /* the first time it must be there */
    while (code == EXIT_DONE && !r->stop.at_ms) {
        if (r->db.outbox) {
            code = run_slice(r);
        } else {
            reopen(r);
        }
        stop_take(&r->stop);
    }
    db_close(&r->db);
    return code;
}

int verb_outbox_run(struct tool *t)
{
    struct running r = {.t = t};
    stop_catch(&r.stop);
    int code = run(&r);
    stop_finish(&r.stop);
    if (t->json) {
        json_t *o = json_pack("{s:I}", "published", (json_int_t)r.published);
        return json_line(stdout, o) ? code : EXIT_FAILED;
    }
    if (code == EXIT_DONE) {
        tool_print("stopped: published %lld record%s", (long long)r.published,
                   r.published == 1 ? "" : "s");
    }
    return code;
}

/* ---- retry and settle ---- */

int verb_outbox_retry(struct tool *t)
{
    struct rv_error e;
    struct db db;
    int64_t rows;
    int code = db_open(t, false, &db);
    if (code != EXIT_DONE) {
        return code;
    }
    if (rv_outbox_retry(db.outbox, t->arg_count > 1 ? t->args[1] : NULL, &rows, &e) != RV_OK) {
        code = outbox_failed(t, &e);
    } else if (t->json) {
        code = json_line(stdout, json_pack("{s:I}", "rows", (json_int_t)rows)) ? EXIT_DONE
                                                                               : EXIT_FAILED;
    } else {
        tool_print("%lld row%s will be tried again", (long long)rows, rows == 1 ? "" : "s");
    }
    db_close(&db);
    return code;
}

static int outbox_settle(struct tool *t, struct rv_outbox *outbox, int64_t batch)
{
    struct rv_error e;
    int64_t rows;
    bool resend = tool_has(t, '8');
    if (rv_outbox_settle(outbox, batch, resend, &rows, &e) != RV_OK) {
        return outbox_failed(t, &e);
    }
    if (t->json) {
        json_t *o = json_pack("{s:I,s:I}", "batch", (json_int_t)batch, "rows", (json_int_t)rows);
        return json_line(stdout, o) ? EXIT_DONE : EXIT_FAILED;
    }
    tool_print("batch %lld: %lld row%s %s", (long long)batch, (long long)rows, rows == 1 ? "" : "s",
               resend ? "will be published again" : "count as published");
    return EXIT_DONE;
}

int verb_outbox_settle(struct tool *t)
{
    struct db db;
    int64_t batch;
    if (tool_has(t, '8') == tool_has(t, '9')) {
        return tool_usage(t, "was it stored? --resend (no) or --skip (yes)");
    }
    if (!tool_number(t, "BATCH", t->args[1], 1, INT64_MAX, &batch)) {
        return EXIT_USAGE;
    }
    int code = db_open(t, false, &db);
    if (code == EXIT_DONE) {
        code = outbox_settle(t, db.outbox, batch);
        db_close(&db);
    }
    return code;
}

#endif

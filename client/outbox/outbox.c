/* The outbox for services and for people; relay.c is what publishes. */
#include "client/outbox/outbox.h"

#include "base/check.h"
#include "base/mem.h"
#include "client/outbox/headers.h"
#include "client/sealed/fail.h"

#include <stdio.h>

/* ---- options ---- */

static const struct rv_option_info about[] = {
    {"outbox.table",         "outbox", "rivulet_outbox",
     "name of the table, with which those of the others begin: letters, digits and _"     },
    {"outbox.lease.ms",      "outbox", "20000",
     "milliseconds after which another relay takes over from one that says nothing and may still "
     "be "
     "there; half of it is how long one attempt to send may take"                         },
    {"outbox.batch.records", "outbox", "1000",           "records in a batch at most"     },
    {"outbox.batch.bytes",   "outbox", "900000",
     "bytes of a batch at most, unless a single record is larger"                         },
    {"outbox.keep.ms",       "outbox", "0",
     "milliseconds that published rows are kept in the table; 0: they are deleted at once"},
    {"outbox.poll.ms",       "outbox", "1000",
     "milliseconds between two looks at the table when nothing tells of new rows"         },
    {"outbox.retry.ms",      "outbox", "5000",
     "milliseconds between two looks whether a topic that waits is there now"             },
    {NULL,                   NULL,     NULL,             NULL                             }
};
static const struct {
    int64_t least, most;
} bounds[OUTBOX_NUMBERS] = {
    {100, 86400000     }, /* lease */
    {1,   100000       }, /* records */
    {1,   32 << 20     }, /* bytes */
    {0,   INT64_MAX / 2},
    {1,   86400000     },
    {1,   86400000     },
};
_Static_assert((int)RV_OUTBOX_DATABASE == (int)SQL_CODE_DATABASE, "sql_error's code is ours");
enum { NAME_ROWS_MAX = 1 + OUTBOX_NUMBERS };
_Static_assert(sizeof about / sizeof about[0] == NAME_ROWS_MAX + 1, "the table and the numbers");

const struct rv_option_info *rv_outbox_options(void)
{
    return about;
}

static bool is_table_name(const char *name)
{
    size_t size = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    return size > 0 && size < TABLE_SIZE && !name[size] && !(name[0] >= '0' && name[0] <= '9');
}

static int option_take(struct rv_outbox *o, size_t row, const char *value,
                       struct rv_error *ret_error)
{
    const char *name = about[row].name;
    if (row == 0) {
        if (!is_table_name(value)) {
            return fail_set(ret_error, RV_E_OPTION,
                            "%s: '%s' is not a name of up to %d letters, "
                            "digits and _",
                            name, value, TABLE_SIZE - 1);
        }
        snprintf(o->table, sizeof o->table, "%s", value);
        return RV_OK;
    }
    int64_t number;
    if (str_to_int64(str_of(value), &number) != OK || number < bounds[row - 1].least ||
        number > bounds[row - 1].most) {
        return fail_set(ret_error, RV_E_OPTION, "%s: '%s' is not a number from %lld to %lld", name,
                        value, (long long)bounds[row - 1].least, (long long)bounds[row - 1].most);
    }
    o->numbers[row - 1] = number;
    return RV_OK;
}

static int options_take(struct rv_outbox *o, const struct rv_option *options,
                        struct rv_error *ret_error)
{
    int code = RV_OK;
    for (size_t row = 0; code == RV_OK && about[row].name; row++) {
        code = option_take(o, row, about[row].fallback, ret_error);
    }
    for (; code == RV_OK && options && options->name; options++) {
        size_t row = 0;
        while (about[row].name && strcmp(about[row].name, options->name) != 0) {
            row++;
        }
        code = about[row].name
                   ? option_take(o, row, options->value ? options->value : "", ret_error)
                   : fail_set(ret_error, RV_E_OPTION, "there is no option %s", options->name);
    }
    return code;
}

/* ---- opening ---- */

static int open(const struct sql *sql, err e, const struct rv_option *options,
                struct rv_outbox **ret_outbox, struct rv_error *ret_error)
{
    if (e != OK) {
        return e == ERR_UNSUPPORTED ? fail_set(ret_error, RV_E_VERSION,
                                               "outbox: built, or linked, without this database")
                                    : fail_set(ret_error, RV_E_ARGUMENT, "outbox: no connection");
    }
    struct rv_outbox *o = mem_zero(1, sizeof *o);
    if (!o) {
        return fail_memory(ret_error);
    }
    o->sql = *sql;
    int code = options_take(o, options, ret_error);
    if (code != RV_OK) {
        mem_free(o);
        return code;
    }
    owner_init(o->owner);
    o->locked = -1;
    *ret_outbox = o;
    return RV_OK;
}

int rv_outbox_open_sqlite(struct sqlite3 *db, const struct rv_option *options,
                          struct rv_outbox **ret_outbox, struct rv_error *ret_error)
{
    struct sql sql = {0};
    err e = sql_init_sqlite(&sql, db);
    return open(&sql, e, options, ret_outbox, ret_error);
}

int rv_outbox_open_postgresql(struct pg_conn *db, const struct rv_option *options,
                              struct rv_outbox **ret_outbox, struct rv_error *ret_error)
{
    struct sql sql = {0};
    err e = sql_init_postgres(&sql, db);
    return open(&sql, e, options, ret_outbox, ret_error);
}

void rv_outbox_close(struct rv_outbox *o)
{
    if (o) {
        outbox_relay_release(o);
        outbox_relay_forget(o);
        mem_free(o);
    }
}

err outbox_transaction(struct rv_outbox *o, err (*body)(struct rv_outbox *o, void *ctx), void *ctx)
{
    err e = sql_begin_ours(&o->sql);
    if (e != OK) {
        return e;
    }
    e = body(o, ctx);
    e = e == OK ? sql_commit(&o->sql) : e;
    if (e != OK) {
        char text[SQL_TEXT_SIZE];
        memcpy(text, o->sql.text, sizeof text);
        sql_rollback(&o->sql); /* why it was needed is what is told */
        memcpy(o->sql.text, text, sizeof text);
    }
    return e;
}

err outbox_rows_done(struct rv_outbox *o, int64_t batch, int64_t *ret_rows)
{
    return OUTBOX_EXEC(
        o,
        o->numbers[OUTBOX_KEEP_MS] > 0
            ? "UPDATE @ SET state = 'sent', batch = NULL, done_ms = ~ WHERE batch = $1"
            : "DELETE FROM @ WHERE batch = $1",
        ret_rows, sql_number(batch));
}

/* ---- the tables ---- */

static err schema_make(struct rv_outbox *o, void *ctx)
{
    (void)ctx;
    err e = OK;
    for (const char *const *text = outbox_schema(o); e == OK && *text; text++) {
        e = outbox_exec(o, *text, NULL, 0, NULL);
    }
    return e;
}

int rv_outbox_init(struct rv_outbox *o, struct rv_error *ret_error)
{
    err e = outbox_transaction(o, schema_make, NULL);
    return e == OK ? RV_OK : sql_error(&o->sql, e, "making the outbox", ret_error);
}

/* ---- adding ---- */

bool outbox_is_topic_name(struct str name)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    bool good =
        name.len > 0 && name.len < 250 && !str_eq(name, STR(".")) && !str_eq(name, STR(".."));
    for (size_t i = 0; good && i < name.len; i++) {
        good = memchr(letters, name.ptr[i], sizeof letters - 1) != NULL;
    }
    return good;
}

static struct bytes bytes_of(struct rv_bytes b)
{
    return (struct bytes){b.ptr, b.size};
}

int rv_outbox_add(struct rv_outbox *o, const struct rv_message *m, struct rv_error *ret_error)
{
    struct buf headers = {0};
    if (!m->topic || !outbox_is_topic_name(str_of(m->topic))) {
        return fail_set(ret_error, RV_E_ARGUMENT, "outbox: '%s' is not a topic's name",
                        m->topic ? m->topic : "");
    }
    if (m->to_partition || m->timestamp_ms < 0) {
        return fail_set(ret_error, RV_E_ARGUMENT, "outbox: %s",
                        m->to_partition ? "the key chooses the partition" : "a time before 1970");
    }
    if (m->header_count > 0 && headers_write(m->headers, m->header_count, &headers) != OK) {
        buf_finish(&headers);
        return fail_set(ret_error, RV_E_ARGUMENT, "outbox: a header's name is not UTF-8");
    }
    if (headers.failed) {
        buf_finish(&headers);
        return fail_memory(ret_error);
    }
    struct sql_value time =
        m->timestamp_ms > 0 ? sql_number(m->timestamp_ms) : (struct sql_value){.type = SQL_NULL};
    err e = OUTBOX_EXEC(o,
                        "INSERT INTO @ (topic, key, value, headers, timestamp_ms) "
                        "VALUES ($1, $2, $3, $4, COALESCE($5, ~))",
                        NULL, sql_text(str_of(m->topic)), sql_bytes(bytes_of(m->key)),
                        sql_bytes(bytes_of(m->value)),
                        sql_text((struct str){headers.ptr, headers.len}), time);
    buf_finish(&headers);
    return e == OK ? RV_OK : sql_error(&o->sql, e, "adding to the outbox", ret_error);
}

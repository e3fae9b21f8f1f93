/* What people see of an outbox, and what they may do to it. Whoever changes something takes the
 * lease away first: a relay that works finds itself fenced, forgets all that it has in memory, and
 * begins anew from the tables. */
#include "client/outbox/outbox.h"

#include "base/mem.h"
#include "client/sealed/fail.h"

#include <stdio.h>

enum { NAME_SIZE = 256, REASON_SIZE = 256 };

/* ---- seeing ---- */

static err status_take(void *ctx, const struct sql_value *row, size_t count)
{
    struct rv_outbox_status *s = ctx;
    (void)count;
    s->rows = row[0].number;
    s->sealed = row[1].number;
    s->waiting = row[2].number;
    s->sent = row[3].number;
    s->oldest_ms = row[4].number > 0 ? row[4].number : 0; /* NULL is 0; clocks differ */
    return OK;
}

static void text_take(const struct sql_value *v, char *to, size_t size)
{
    snprintf(to, size, "%.*s", STR_ARG(sql_str(v)));
}

static err lease_take_in(void *ctx, const struct sql_value *row, size_t count)
{
    struct rv_outbox_status *s = ctx;
    (void)count;
    text_take(&row[0], s->relay, sizeof s->relay);
    s->epoch = row[1].number;
    s->lease_left_ms = row[2].number;
    return OK;
}

int rv_outbox_status(struct rv_outbox *o, struct rv_outbox_status *ret_status,
                     struct rv_error *ret_error)
{
    struct rv_outbox_status status = {0};
    err e = outbox_query(o,
                         "SELECT count(CASE WHEN state <> 'sent' THEN 1 END), "
                         "count(CASE WHEN state = 'sealed' THEN 1 END), "
                         "count(CASE WHEN state = 'waits' THEN 1 END), "
                         "count(CASE WHEN state = 'sent' THEN 1 END), "
                         "~ - min(CASE WHEN state <> 'sent' THEN timestamp_ms END) FROM @",
                         NULL, 0, status_take, &status);
    e = e == OK ? outbox_query(o, "SELECT owner, epoch, until_ms - ~ FROM @_relay", NULL, 0,
                               lease_take_in, &status)
                : e;
    if (e != OK) {
        return sql_error(&o->sql, e, "the outbox", ret_error);
    }
    *ret_status = status;
    return RV_OK;
}

struct telling {
    void (*fn)(void *ctx, const struct rv_outbox_trouble *trouble);
    void *ctx;
};

/* kind · id · topic · partition · key · rows · age · reason */
static err trouble_tell(void *ctx, const struct sql_value *row, size_t count)
{
    const struct telling *t = ctx;
    char topic[NAME_SIZE], reason[REASON_SIZE];
    (void)count;
    text_take(&row[2], topic, sizeof topic);
    text_take(&row[7], reason, sizeof reason);
    struct rv_outbox_trouble trouble = {
        .kind = (enum rv_outbox_trouble_kind)row[0].number,
        .id = row[1].number,
        .topic = topic,
        .partition = (int32_t)row[3].number,
        .key = {row[4].bytes.ptr, row[4].bytes.len},
        .rows = row[5].number,
        .age_ms = row[6].number > 0 ? row[6].number : 0,
        .reason = reason,
    };
    t->fn(t->ctx, &trouble);
    return OK;
}

_Static_assert(RV_OUTBOX_TOPIC == 0 && RV_OUTBOX_KEY == 1 && RV_OUTBOX_ROW == 2 &&
                   RV_OUTBOX_BATCH == 3,
               "as the statements have them");

int rv_outbox_each(struct rv_outbox *o,
                   void (*fn)(void *ctx, const struct rv_outbox_trouble *trouble), void *ctx,
                   struct rv_error *ret_error)
{
    struct telling t = {fn, ctx};
    err e = outbox_query(
        o,
        "SELECT 3, id, topic, partition, CAST(NULL AS #), records, ~ - stuck_ms, stuck "
        "FROM @_batch WHERE stuck IS NOT NULL ORDER BY id",
        NULL, 0, trouble_tell, &t);
    e = e == OK ? outbox_query(
                      o,
                      "SELECT CASE scope WHEN 'topic' THEN 0 WHEN 'key' THEN 1 ELSE 2 END, row_id, "
                      "topic, -1, key, (SELECT count(*) FROM @ r WHERE r.state = 'waits' AND "
                      "r.topic = w.topic AND (w.scope = 'topic' OR r.id = w.row_id OR (w.scope = "
                      "'key' AND CAST(r.key AS #) = w.key))), ~ - since_ms, reason "
                      "FROM @_wait w ORDER BY id",
                      NULL, 0, trouble_tell, &t)
                : e;
    return e == OK ? RV_OK : sql_error(&o->sql, e, "the outbox", ret_error);
}

/* ---- doing ---- */

static err lease_take_away(struct rv_outbox *o)
{
    return outbox_exec(
        o, "UPDATE @_relay SET epoch = epoch + 1, owner = '', until_ms = 0 WHERE id = 1", NULL, 0,
        NULL);
}

struct again {
    const char *topic; /* NULL: all */
    int64_t rows;
};

static err again_body(struct rv_outbox *o, void *ctx)
{
    struct again *a = ctx;
    err e = lease_take_away(o);
    if (e != OK) {
        return e;
    }
    if (!a->topic) {
        e = outbox_exec(o, "DELETE FROM @_wait", NULL, 0, NULL);
        return e == OK ? outbox_exec(o, "UPDATE @ SET state = 'new' WHERE state = 'waits'", NULL, 0,
                                     &a->rows)
                       : e;
    }
    struct sql_value topic = sql_text(str_of(a->topic));
    e = OUTBOX_EXEC(o, "DELETE FROM @_wait WHERE topic = $1", NULL, topic);
    return e == OK
               ? OUTBOX_EXEC(o, "UPDATE @ SET state = 'new' WHERE state = 'waits' AND topic = $1",
                             &a->rows, topic)
               : e;
}

int rv_outbox_retry(struct rv_outbox *o, const char *topic, int64_t *ret_rows,
                    struct rv_error *ret_error)
{
    struct again a = {.topic = topic};
    err e = outbox_transaction(o, again_body, &a);
    if (e != OK) {
        return sql_error(&o->sql, e, "trying again", ret_error);
    }
    *ret_rows = a.rows;
    return RV_OK;
}

struct settling {
    int64_t batch;
    bool resend;
    int64_t rows;
};

/* What was sent under its identity may be anywhere, so the partition gets another one. The rows
 * that waited behind it are looked at again: those of a key that waits will wait again. */
static err settle_body(struct rv_outbox *o, void *ctx)
{
    struct settling *s = ctx;
    int64_t known = 0;
    struct sql_value batch = sql_number(s->batch);
    err e = lease_take_away(o);
    e = e == OK
            ? outbox_query(o, "SELECT count(*) FROM @_batch WHERE id = $1 AND stuck IS NOT NULL",
                           &batch, 1, outbox_take_number, &known)
            : e;
    if (e == OK && known == 0) {
        return ERR_NOT_FOUND;
    }
    e = e == OK ? OUTBOX_EXEC(o,
                              "UPDATE @ SET state = 'new' WHERE state = 'waits' AND topic = "
                              "(SELECT topic FROM @_batch WHERE id = $1)",
                              NULL, batch)
                : e;
    e = e == OK ? OUTBOX_EXEC(o,
                              "DELETE FROM @_partition WHERE (topic, partition) IN "
                              "(SELECT topic, partition FROM @_batch WHERE id = $1)",
                              NULL, batch)
                : e;
    e = e == OK ? OUTBOX_EXEC(o, "DELETE FROM @_batch WHERE id = $1", NULL, batch) : e;
    if (e == OK && s->resend) {
        return OUTBOX_EXEC(o, "UPDATE @ SET state = 'new', batch = NULL WHERE batch = $1", &s->rows,
                           batch);
    }
    return e == OK ? outbox_rows_done(o, s->batch, &s->rows) : e;
}

int rv_outbox_settle(struct rv_outbox *o, int64_t batch, bool resend, int64_t *ret_rows,
                     struct rv_error *ret_error)
{
    struct settling s = {.batch = batch, .resend = resend};
    err e = outbox_transaction(o, settle_body, &s);
    if (e == ERR_NOT_FOUND && !o->sql.text[0]) {
        return fail_set(ret_error, RV_E_ABSENT, "outbox: there is no batch %lld to settle",
                        (long long)batch);
    }
    if (e != OK) {
        return sql_error(&o->sql, e, "settling", ret_error);
    }
    *ret_rows = s.rows;
    return RV_OK;
}

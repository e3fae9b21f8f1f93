#include "base/mem.h"
#include "client/store/store.h"

#include <stdio.h>
#include <string.h>

#define COLUMNS   "group_id, topic, partition_id, owner_epoch, next_offset, leader_epoch, owner"
#define TOPIC_ID  "topic_id TEXT NOT NULL DEFAULT ''"
#define OF_KEY    " WHERE group_id = $1 AND topic = $2 AND partition_id = $3"
#define RETURNING " RETURNING owner_epoch, next_offset, leader_epoch, topic_id"

static const char sql_take[] =
    "INSERT INTO rivulet_offsets (" COLUMNS ") VALUES ($1, $2, $3, 1, -1, -1, $4)"
    " ON CONFLICT (group_id, topic, partition_id)"
    " DO UPDATE SET owner_epoch = rivulet_offsets.owner_epoch + 1, owner = "
    "excluded.owner" RETURNING;
/* An update, so that it waits for whoever has the row locked. */
static const char sql_look[] = "UPDATE rivulet_offsets SET owner = owner" OF_KEY RETURNING;
static const char sql_move[] =
    "UPDATE rivulet_offsets SET owner_epoch = CASE WHEN owner_epoch = $4 THEN owner_epoch END,"
    " next_offset = CASE WHEN next_offset = $5 THEN $6 END, leader_epoch = $7,"
    " topic_id = $8" OF_KEY;
static const char sql_probe[] = "SELECT topic_id FROM rivulet_offsets LIMIT 0";
static const char sql_doom[] =
    "INSERT INTO rivulet_offsets (" COLUMNS ") VALUES ($1, '', -1, NULL, NULL, -1, '')";

int table_make(struct rv_store *s, struct rv_error *ret_error)
{
    struct buf text = {0};
    err e = sql_exec(&s->sql, sql_probe, NULL, 0, NULL);
    if (e == OK || e == ERR_CLOSED || e == ERR_BUSY) { /* it is there; or nothing can be said */
        return e == OK ? RV_OK : sql_error(&s->sql, e, "store: rivulet_offsets", ret_error);
    }
    if (sql_exec(&s->sql, "SELECT 1 FROM rivulet_offsets LIMIT 0", NULL, 0, NULL) == OK) {
        buf_printf(&text, "ALTER TABLE rivulet_offsets ADD COLUMN " TOPIC_ID); /* an older one */
    } else {
        buf_printf(&text,
                   "CREATE TABLE rivulet_offsets (group_id TEXT NOT NULL, topic TEXT NOT NULL,"
                   " partition_id BIGINT NOT NULL, owner_epoch BIGINT %s, next_offset BIGINT %s,"
                   " leader_epoch BIGINT NOT NULL, owner TEXT NOT NULL, " TOPIC_ID ","
                   " PRIMARY KEY (group_id, topic, partition_id))",
                   sql_fence(&s->sql), sql_fence(&s->sql));
    }
    e = text.failed ? ERR_MEMORY : sql_exec(&s->sql, buf_text(&text), NULL, 0, NULL);
    buf_finish(&text);
    if (e != OK) { /* somebody else may have made it just now */
        struct sql failed = s->sql;
        if (sql_exec(&s->sql, sql_probe, NULL, 0, NULL) == OK) {
            return RV_OK;
        }
        return sql_error(&failed, e, "store: making rivulet_offsets", ret_error);
    }
    return RV_OK;
}

static err row_read(void *ctx, const struct sql_value *in, size_t count)
{
    struct row *row = ctx;
    (void)count;
    *row = (struct row){.there = true,
                        .owner_epoch = in[0].number,
                        .next_offset = in[1].number,
                        .leader_epoch = (int32_t)in[2].number};
    snprintf(row->topic_id, sizeof row->topic_id, "%.*s", STR_ARG(sql_str(&in[3])));
    return OK;
}

err row_take(struct rv_store *s, const struct held *h, struct row *ret_row)
{
    const struct sql_value params[] = {sql_text(str_of(s->group)), sql_text(str_of(h->topic)),
                                       sql_number(h->partition), sql_text(str_of(s->owner))};
    *ret_row = (struct row){0};
    err e = sql_query(&s->sql, sql_take, params, 4, row_read, ret_row);
    return e == OK && !ret_row->there ? ERR_INVALID : e;
}

err row_look(struct rv_store *s, const struct held *h, struct row *ret_row)
{
    const struct sql_value params[] = {sql_text(str_of(s->group)), sql_text(str_of(h->topic)),
                                       sql_number(h->partition)};
    *ret_row = (struct row){.next_offset = -1, .leader_epoch = -1};
    return sql_query(&s->sql, sql_look, params, 3, row_read, ret_row);
}

void rows_doom(struct rv_store *s)
{
    const struct sql_value group = sql_text(str_of(s->group));
    struct sql before = s->sql; /* what is told of is the first error */
    if (sql_in_transaction(&s->sql)) {
        sql_exec(&s->sql, sql_doom, &group, 1, NULL);
    }
    s->sql = before;
}

err row_move(struct rv_store *s, const struct held *h)
{
    const struct sql_value params[] = {sql_text(str_of(s->group)), sql_text(str_of(h->topic)),
                                       sql_number(h->partition),   sql_number(h->owner_epoch),
                                       sql_number(h->stored),      sql_number(h->seen),
                                       sql_number(h->seen_leader), sql_text(str_of(h->topic_id))};
    int64_t changed = 0;
    err e = sql_exec(&s->sql, sql_move, params, 8, &changed);
    if (e == OK && changed == 1) {
        return OK;
    }
    if (e == OK) {
        snprintf(s->sql.text, sizeof s->sql.text, "its row is gone");
        rows_doom(s);
        return ERR_FENCED;
    }
    if (e == ERR_FENCED) {
        snprintf(s->sql.text, sizeof s->sql.text, "%s",
                 strcmp(s->sql.column, "owner_epoch") == 0
                     ? "another consumer has taken it over"
                     : "the stored offset is not the one that this consumer went on from");
    }
    return e;
}

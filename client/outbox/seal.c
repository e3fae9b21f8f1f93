/* From rows to sealed batches.
 *
 * A turn reads pages of the new rows, in the order of `seq`, until there is something to send or no
 * row is left; what cannot go now is passed over, and read again in the next turn. Everything that
 * is asked of the broker is asked before the transaction that seals (O4); nobody else touches rows
 * meanwhile but a service that deletes one, and then fewer rows change than were chosen: ERR_STALE,
 * and the next turn reads again. */
#include "client/outbox/relay.h"

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "client/outbox/headers.h"
#include "client/sealed/fail.h"
#include "protocol/error.h"

#include <stdio.h>

enum {
    PAGE_ROWS = 1000,
    PAGE_BYTES = 8 << 20,     /* of rows in a page, unless a single one is larger */
    ROW_BYTES_MAX = 32 << 20, /* a larger row is not read at all */
    ASK_TIMEOUT_MS = 10000,   /* for topics, ids and offsets */
    END_AGE_MS = 60000,       /* after which a partition's end is asked for again: what is before it
                                 need not be read, and may not be there any more */
};

struct row {
    int64_t id, seq, timestamp_ms;
    struct str topic, headers; /* headers: a ptr of NULL where there are none */
    struct bytes key, value;
    bool is_huge; /* the value was not read */
    bool waits;   /* behind something in @_wait */
};

struct page {
    struct arena *arena;
    struct row rows[PAGE_ROWS];
    size_t count;
};

/* ---- reading ---- */

static struct bytes bytes_keep(struct arena *a, const struct sql_value *v)
{
    if (v->type == SQL_NULL) {
        return (struct bytes){0};
    }
    return (struct bytes){arena_dup(a, v->bytes.ptr, v->bytes.len), v->bytes.len};
}

/* id · topic · key · value · headers · timestamp · seq · is huge · waits */
static err row_take(void *ctx, const struct sql_value *row, size_t count)
{
    struct page *p = ctx;
    (void)count;
    struct bytes topic = bytes_keep(p->arena, &row[1]), headers = bytes_keep(p->arena, &row[4]);
    p->rows[p->count] = (struct row){
        .id = row[0].number,
        .topic = {(const char *)topic.ptr,   topic.len  },
        .key = bytes_keep(p->arena, &row[2]),
        .value = bytes_keep(p->arena, &row[3]),
        .headers = {(const char *)headers.ptr, headers.len},
        .timestamp_ms = row[5].number,
        .seq = row[6].number,
        .is_huge = row[7].number != 0,
        .waits = row[8].number != 0,
    };
    p->count++;
    return p->arena->error; /* of any of the copies */
}

#define ROW_SIZE                                                                                   \
    "(100 + coalesce(length(key), 0) + coalesce(length(value), 0) + coalesce(length(headers), 0))"

static err page_read(struct rv_outbox *o, int64_t after_seq, struct page *p)
{
    const struct sql_value params[] = {sql_number(after_seq), sql_number(PAGE_ROWS),
                                       sql_number(ROW_BYTES_MAX), sql_number(PAGE_BYTES)};
    p->count = 0;
    return outbox_query(
        o,
        "SELECT r.id, CAST(r.topic AS TEXT), CAST(CASE WHEN length(r.key) <= $3 THEN r.key END AS "
        "#), "
        "CAST(CASE WHEN p.size <= $3 THEN r.value END AS #), CAST(CASE WHEN p.size <= $3 THEN "
        "r.headers END AS TEXT), CAST(r.timestamp_ms AS BIGINT), r.seq, CASE WHEN p.size > $3 THEN "
        "1 ELSE 0 END, CASE WHEN EXISTS "
        "(SELECT 1 FROM @_wait w WHERE w.topic = r.topic AND (w.scope = 'topic' OR (w.scope = "
        "'key' AND w.key = CAST(r.key AS #)))) THEN 1 ELSE 0 END FROM (SELECT id, size, "
        "CAST(sum(size) OVER (ORDER BY seq) AS BIGINT) - size AS before FROM (SELECT id, seq, "
        "CAST(" ROW_SIZE " AS BIGINT) AS size FROM @ WHERE state = 'new' AND seq > $1 "
        "ORDER BY seq LIMIT $2) AS q) AS p JOIN @ AS r ON r.id = p.id WHERE p.before < $4 "
        "ORDER BY r.seq",
        params, 4, row_take, p);
}

/* ---- what cannot be sent ---- */

static err row_waits(struct relay *r, int64_t id)
{
    buf_printf(&r->waiting, "%s%lld", r->waiting.len > 0 ? "," : "", (long long)id);
    return r->waiting.failed ? ERR_MEMORY : OK;
}

/* The row waits, and what is behind it. ERR_AGAIN: there is no room for it in this turn, which must
 * end here. */
static err refuse(struct relay *r, const struct row *row, const char *scope, int code,
                  const char *why)
{
    if (r->refusal_count == REFUSALS_MAX) {
        return ERR_AGAIN;
    }
    r->refusals[r->refusal_count++] = (struct refusal){.id = row->id,
                                                       .scope = scope,
                                                       .code = code,
                                                       .why = why,
                                                       .topic = row->topic,
                                                       .key = row->key};
    return row_waits(r, row->id);
}

static bool is_refused(const struct relay *r, const struct row *row)
{
    for (int i = 0; i < r->refusal_count; i++) {
        const struct refusal *f = &r->refusals[i];
        if (str_eq(f->topic, row->topic) &&
            (f->scope[0] == 't' || (f->key.ptr && row->key.ptr && f->key.len == row->key.len &&
                                    memcmp(f->key.ptr, row->key.ptr, row->key.len) == 0))) {
            return true;
        }
    }
    return false;
}

/* ---- what the broker is asked ---- */

static err topic_get(struct relay *r, struct str name, struct topic_now **ret_topic)
{
    struct topic_now *t = map_get_str(&r->topics, name);
    if (!t) {
        t = mem_zero(1, sizeof *t);
        if (!t || map_put_str(&r->topics, name, t) != OK) {
            mem_free(t);
            return ERR_MEMORY;
        }
    }
    if (t->turn != r->turn) {
        struct rv_error error = {0};
        const char *terminated = arena_printf(&r->arena, "%.*s", STR_ARG(name));
        if (!terminated) {
            return arena_error(&r->arena);
        }
        t->turn = r->turn;
        t->code = sealed_partitions(r->sealed, terminated, ASK_TIMEOUT_MS, &t->partitions, &error);
        snprintf(t->why, sizeof t->why, "%.*s", (int)sizeof t->why - 1, error.text);
    }
    *ret_topic = t;
    return OK;
}

/* ---- dealing rows to lanes ---- */

static size_t record_add(struct rv_outbox *o, struct lane *lane, const struct row *row,
                         const struct record_header *headers, int32_t header_count, err *ret_err)
{
    struct batch_builder *b = &lane->builder;
    size_t size = batch_builder_record_size(b, row->timestamp_ms, row->key, row->value, headers,
                                            header_count);
    bool fits =
        b->count == 0 || (b->count < lane->records_max &&
                          batch_builder_size(b) + size <= (size_t)o->numbers[OUTBOX_BATCH_BYTES]);
    if (!fits) {
        return 0;
    }
    *ret_err = batch_builder_add(b, row->timestamp_ms, row->key, row->value, headers, header_count);
    return size;
}

static err row_add(struct rv_outbox *o, struct lane *lane, const struct row *row)
{
    struct relay *r = o->relay;
    struct record_header *headers = NULL;
    int32_t header_count = 0;
    err e = OK;
    if (row->headers.ptr) {
        e = headers_read(row->headers, &r->arena, &headers, &header_count);
    }
    if (e == ERR_INVALID) {
        return refuse(r, row, "key", RV_E_ARGUMENT,
                      "its headers are not [[\"name\",\"value\"],...]");
    }
    if (e != OK || record_add(o, lane, row, headers, header_count, &e) == 0) {
        lane->is_full = true;
        return e;
    }
    if (e != OK) {
        return e;
    }
    if (lane->state == LANE_FREE) {
        lane->state = LANE_FILLING;
        lane->first_id = row->id;
        r->sealing++;
    }
    buf_printf(&lane->ids, "%s%lld", lane->ids.len > 0 ? "," : "", (long long)row->id);
    return lane->ids.failed ? ERR_MEMORY : OK;
}

/* Where a row goes: to wait, to a lane, or nowhere in this turn. ERR_AGAIN: neither this nor what
 * is behind it can go anywhere. */
static err row_deal(struct rv_outbox *o, const struct row *row)
{
    struct relay *r = o->relay;
    struct topic_now *topic;
    struct lane *lane;
    if (row->waits || is_refused(r, row)) {
        return row_waits(r, row->id);
    }
    if (!outbox_is_topic_name(row->topic)) {
        return refuse(r, row, "topic", KERR_INVALID_TOPIC_EXCEPTION, "not a topic's name");
    }
    if (row->is_huge) {
        return refuse(r, row, "key", RV_E_TOO_LARGE, "larger than 32 MiB");
    }
    if (row->timestamp_ms < 0) {
        return refuse(r, row, "key", KERR_INVALID_TIMESTAMP, "a time before 1970");
    }
    err e = topic_get(r, row->topic, &topic);
    if (e != OK) {
        return e;
    }
    if (topic->code != RV_OK) {
        if (relay_is_refusal_of_topic(topic->code)) {
            return refuse(r, row, "topic", topic->code, topic->why);
        }
        fail_set(&r->trouble, topic->code, "%s", topic->why);
        return topic->code < 0 ? ERR_AGAIN : OK;
    }
    int32_t partition = row->key.ptr
                            ? rv_partition_of_key(row->key.ptr, row->key.len, topic->partitions)
                            : (int32_t)(r->spread % (uint32_t)topic->partitions);
    e = lane_get(o, row->topic, partition, &lane);
    if (e != OK) {
        return e;
    }
    if (lane->state == LANE_STUCK) {
        return row_waits(r, row->id);
    }
    return lane->state == LANE_OPEN || lane->is_full ? OK : row_add(o, lane, row);
}

/* ---- identities and ends ---- */

static int lane_identify(struct relay *r, struct lane *lane, struct rv_error *ret_error)
{
    if (lane->producer_id >= 0) {
        return RV_OK;
    }
    if (r->producer_id < 0) {
        int code = sealed_identity(r->sealed, ASK_TIMEOUT_MS, &r->producer_id, &r->producer_epoch,
                                   ret_error);
        if (code != RV_OK) {
            return code;
        }
    }
    lane->producer_id = r->producer_id;
    lane->producer_epoch = r->producer_epoch;
    lane->next_sequence = 0;
    return RV_OK;
}

/* Lanes that are filling get what they lack; those that cannot are free again. */
static err lanes_prepare(struct relay *r)
{
    struct rv_partition *asked = arena_zero(&r->arena, (size_t)r->sealing + 1, sizeof *asked);
    struct lane **lanes = arena_zero(&r->arena, (size_t)r->sealing + 1, sizeof *lanes);
    size_t count = 0;
    int64_t began_ms = clock_mono_ms(&clock_real);
    if (!asked || !lanes) {
        return arena_error(&r->arena);
    }
    for (struct map_entry *e = map_first(&r->lanes); e; e = map_next(e)) {
        struct lane *lane = map_value(e);
        if (lane->state != LANE_FILLING) {
            continue;
        }
        if (lane_identify(r, lane, &r->trouble) != RV_OK) {
            lane_clear(lane, LANE_FREE);
        } else if (lane->end_offset < 0 || began_ms - lane->end_ms >= END_AGE_MS) {
            lanes[count] = lane;
            asked[count++] =
                (struct rv_partition){.topic = lane->topic, .partition = lane->partition};
        }
    }
    int code = count > 0 ? rv_offsets(r->client, asked, count, RV_END, ASK_TIMEOUT_MS, &r->trouble)
                         : RV_OK;
    for (size_t i = 0; i < count; i++) {
        if (code == RV_OK && asked[i].code == RV_OK && asked[i].offset >= 0) {
            lanes[i]->end_offset = asked[i].offset;
            lanes[i]->end_ms = began_ms;
            continue;
        }
        lane_clear(lanes[i], LANE_FREE);
        if (code == RV_OK) {
            fail_set(&r->trouble, asked[i].code, "topic %s partition %d: no end offset: %s",
                     lanes[i]->topic, (int)lanes[i]->partition, rv_error_name(asked[i].code));
        }
    }
    return OK;
}

/* ---- sealing ---- */

static void sealed_fill(struct lane *lane, int32_t count)
{
    lane->sealed = (struct sealed_batch){
        .topic = lane->topic,
        .partition = lane->partition,
        .producer_id = lane->producer_id,
        .producer_epoch = (int16_t)lane->producer_epoch,
        .base_sequence = lane->next_sequence,
        .count = count,
        .end_offset = lane->end_offset,
        .bytes = lane->bytes.ptr,
        .size = lane->bytes.len,
    };
}

static err lane_build(struct lane *lane)
{
    struct batch_seal seal = batch_seal_plain;
    seal.producer_id = lane->producer_id;
    seal.producer_epoch = (int16_t)lane->producer_epoch;
    seal.base_sequence = lane->next_sequence;
    int32_t count = lane->builder.count;
    err e = batch_builder_seal(&lane->builder, &seal, &lane->bytes);
    if (e == OK) {
        sealed_fill(lane, count);
    }
    return e;
}

static uint32_t checksum_of(const struct lane *lane)
{
    return crc32c(lane->bytes.ptr, lane->bytes.len);
}

static err lane_seal(struct rv_outbox *o, struct lane *lane)
{
    int64_t changed = 0;
    const struct sealed_batch *b = &lane->sealed;
    err e = lane_build(lane);
    if (e != OK) {
        return e;
    }
    const struct sql_value params[] = {
        sql_text(str_of(lane->topic)), sql_number(lane->partition),  sql_number(b->producer_id),
        sql_number(b->producer_epoch), sql_number(b->base_sequence), sql_number(b->count),
        sql_number(checksum_of(lane)), sql_number(b->end_offset),
    };
    e = outbox_query(o,
                     "INSERT INTO @_batch (topic, partition, producer_id, producer_epoch, "
                     "base_sequence, records, checksum, end_offset, sealed_ms) "
                     "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, ~) RETURNING id",
                     params, sizeof params / sizeof params[0], outbox_take_number, &lane->batch);
    e = e == OK ? OUTBOX_EXEC(o,
                              "UPDATE @ SET state = 'sealed', batch = $2 "
                              "WHERE id ^ AND state = 'new'",
                              &changed, sql_text((struct str){lane->ids.ptr, lane->ids.len}),
                              sql_number(lane->batch))
                : e;
    if (e == OK && changed != b->count) {
        return ERR_STALE;
    }
    lane->next_sequence = sealed_next(b->base_sequence, b->count);
    return e == OK ? lane_write(o, lane) : e;
}

static err refusals_write(struct rv_outbox *o)
{
    struct relay *r = o->relay;
    err e = OK;
    for (int i = 0; e == OK && i < r->refusal_count; i++) {
        const struct refusal *f = &r->refusals[i];
        e = wait_write(o, f->id, f->scope, f->code, f->why);
    }
    if (e == OK && r->waiting.len > 0) {
        e = OUTBOX_EXEC(o, "UPDATE @ SET state = 'waits' WHERE id ^ AND state = 'new'", NULL,
                        sql_text((struct str){r->waiting.ptr, r->waiting.len}));
    }
    return e;
}

static err seal_body(struct rv_outbox *o, void *ctx)
{
    (void)ctx;
    err e = relay_hold(o);
    e = e == OK ? refusals_write(o) : e;
    for (struct map_entry *m = map_first(&o->relay->lanes); e == OK && m; m = map_next(m)) {
        struct lane *lane = map_value(m);
        if (lane->state == LANE_FILLING) {
            e = lane_seal(o, lane);
        }
    }
    return e;
}

/* Rows until something can be sent. */
static err pages_deal(struct rv_outbox *o)
{
    struct relay *r = o->relay;
    struct page *p = mem_alloc(sizeof *p);
    int64_t after_seq = -1;
    err e = OK;
    if (!p) {
        return ERR_MEMORY;
    }
    *p = (struct page){.arena = &r->arena};
    do {
        e = page_read(o, after_seq, p);
        for (size_t i = 0; e == OK && i < p->count; i++) {
            e = row_deal(o, &p->rows[i]);
            after_seq = p->rows[i].seq;
        }
        if (r->refusal_count == 0 && r->sealing == 0) {
            arena_reset(&r->arena);
        }
    } while (e == OK && p->count > 0 && r->sealing == 0 && r->waiting.len == 0);
    mem_free(p);
    return e == ERR_AGAIN ? OK : e;
}

err seal_new(struct rv_outbox *o)
{
    struct relay *r = o->relay;
    r->sealing = 0;
    for (struct map_entry *m = map_first(&r->lanes); m; m = map_next(m)) {
        ((struct lane *)map_value(m))->is_full = false;
    }
    err e = pages_deal(o);
    e = e == OK && r->sealing > 0 ? lanes_prepare(r) : e;
    r->sealing = 0;
    for (struct map_entry *m = map_first(&r->lanes); m; m = map_next(m)) {
        r->sealing += ((struct lane *)map_value(m))->state == LANE_FILLING;
    }
    if (e != OK || (r->sealing == 0 && r->waiting.len == 0)) {
        return e;
    }
    e = outbox_transaction(o, seal_body, NULL);
    for (struct map_entry *m = map_first(&r->lanes); e == OK && m; m = map_next(m)) {
        struct lane *lane = map_value(m);
        if (lane->state == LANE_FILLING) {
            lane->state = LANE_OPEN;
            batch_builder_reset(&lane->builder);
        }
    }
    r->moved = true;
    return e;
}

/* ---- taking over ---- */

struct taken {
    struct arena *arena;
    struct taken_batch {
        struct taken_batch *next;
        int64_t id, producer_id, checksum, end_offset;
        int32_t partition, producer_epoch, base_sequence, count;
        struct str topic;
        bool is_stuck;
    } * first;
};

static err batch_take(void *ctx, const struct sql_value *row, size_t count)
{
    struct taken *t = ctx;
    (void)count;
    struct taken_batch *b = arena_zero(t->arena, 1, sizeof *b);
    struct bytes topic = bytes_keep(t->arena, &row[1]);
    if (!b || !topic.ptr) {
        return arena_error(t->arena);
    }
    *b = (struct taken_batch){
        .next = t->first,
        .id = row[0].number,
        .topic = {(const char *)topic.ptr, topic.len},
        .partition = (int32_t)row[2].number,
        .producer_id = row[3].number,
        .producer_epoch = (int32_t)row[4].number,
        .base_sequence = (int32_t)row[5].number,
        .count = (int32_t)row[6].number,
        .checksum = row[7].number,
        .end_offset = row[8].number,
        .is_stuck = row[9].number != 0,
    };
    t->first = b;
    return OK;
}

struct rebuilding {
    struct lane *lane;
    struct arena *arena;
};

/* id · key · value · headers · timestamp. Headers that are wrong now were changed: the checksum
 * will say so. */
static err sealed_row_take(void *ctx, const struct sql_value *row, size_t count)
{
    struct rebuilding *b = ctx;
    struct record_header *headers = NULL;
    int32_t header_count = 0;
    (void)count;
    if (row[3].type != SQL_NULL) {
        err e = headers_read(sql_str(&row[3]), b->arena, &headers, &header_count);
        if (e != OK && e != ERR_INVALID) {
            return e;
        }
    }
    if (b->lane->builder.count == 0) {
        b->lane->first_id = row[0].number;
    }
    return batch_builder_add(&b->lane->builder, row[4].number, row[1].bytes, row[2].bytes, headers,
                             header_count);
}

/* The same bytes again, of the rows. Where they are not the same, nobody may send them. */
static err lane_rebuild(struct rv_outbox *o, struct lane *lane, const struct taken_batch *b)
{
    struct rebuilding rebuilding = {lane, &o->relay->arena};
    const struct sql_value id = sql_number(b->id);
    err e = outbox_query(o,
                         "SELECT id, CAST(key AS #), CAST(value AS #), CAST(headers AS TEXT), "
                         "CAST(timestamp_ms AS BIGINT) FROM @ WHERE batch = $1 ORDER BY seq",
                         &id, 1, sealed_row_take, &rebuilding);
    if (e != OK) {
        return e;
    }
    struct lane now = *lane; /* its identity for the next batch */
    lane->producer_id = b->producer_id;
    lane->producer_epoch = b->producer_epoch;
    lane->next_sequence = b->base_sequence;
    lane->end_offset = b->end_offset;
    bool is_same = lane->builder.count == b->count;
    e = is_same ? lane_build(lane) : OK;
    lane->producer_id = now.producer_id;
    lane->producer_epoch = now.producer_epoch;
    lane->next_sequence = now.next_sequence;
    lane->end_offset = now.end_offset;
    batch_builder_reset(&lane->builder);
    is_same = is_same && checksum_of(lane) == b->checksum;
    lane->state = LANE_OPEN;
    lane->batch = b->id;
    lane->sealed.unsure = true;
    if (e == OK && !is_same) {
        e = lane_stick(o, lane, "its rows were changed after they were sealed");
    }
    return e;
}

err seal_take_over(struct rv_outbox *o)
{
    struct taken taken = {.arena = &o->relay->arena};
    err e = outbox_query(o,
                         "SELECT id, topic, partition, producer_id, producer_epoch, base_sequence, "
                         "records, checksum, end_offset, CASE WHEN stuck IS NULL THEN 0 ELSE 1 END "
                         "FROM @_batch ORDER BY id",
                         NULL, 0, batch_take, &taken);
    for (const struct taken_batch *b = taken.first; e == OK && b; b = b->next) {
        struct lane *lane;
        e = lane_get(o, b->topic, b->partition, &lane);
        if (e == OK && b->is_stuck) {
            lane_clear(lane, LANE_STUCK);
        } else if (e == OK) {
            e = lane_rebuild(o, lane, b);
        }
    }
    return e;
}

/* What becomes of sealed batches.
 *
 *   stored       the rows are done, the batch goes, the next one goes on where it ended
 *   refused      several records: unsealed, and the next batch is half as large, until the record
 *                that is not wanted is alone; then its key waits. A topic: it waits as a whole.
 *   renew        unsealed: the broker has another memory of the sequences than we have
 *   unknowable   stays sealed, and stuck, until a person has a word
 *   anything else: stays as it is, for the next turn
 *
 * Unsealed rows are `new` again. What was sealed may still come to the broker by a relay that was
 * stopped; so its identity is never used for other records: the next batch of the lane has the next
 * epoch, with which the broker fences the one before. (One that is fenced by a higher epoch already,
 * of which these tables know nothing, is followed by an identity of another id.) */
#include "client/outbox/relay.h"

#include "base/clock.h"
#include "base/mem.h"
#include "client/sealed/fail.h"
#include "protocol/error.h"

#include <stdio.h>

enum { ASK_TIMEOUT_MS = 5000 };

err wait_write(struct rv_outbox *o, int64_t id, const char *scope, int code, const char *why)
{
    return OUTBOX_EXEC(
        o,
        "INSERT INTO @_wait (scope, topic, key, row_id, code, reason, since_ms) "
        "SELECT CASE WHEN $2 = 'key' AND key IS NULL THEN 'row' ELSE $2 END, topic, "
        "CASE WHEN $2 = 'key' THEN CAST(key AS #) END, id, $3, $4, ~ FROM @ WHERE id = $1",
        NULL, sql_number(id), sql_text(str_of(scope)), sql_number(code), sql_text(str_of(why)));
}

/* ---- in the transaction ---- */

static err batch_drop(struct rv_outbox *o, const struct lane *lane)
{
    return OUTBOX_EXEC(o, "DELETE FROM @_batch WHERE id = $1", NULL, sql_number(lane->batch));
}

static err batch_stick(struct rv_outbox *o, const struct lane *lane, const char *why)
{
    return OUTBOX_EXEC(o, "UPDATE @_batch SET stuck = $2, stuck_ms = ~ WHERE id = $1", NULL,
                       sql_number(lane->batch), sql_text(str_of(why)));
}

static err lane_unseal(struct rv_outbox *o, struct lane *lane, const char *state)
{
    err e = OUTBOX_EXEC(o, "UPDATE @ SET state = $2, batch = NULL WHERE batch = $1", NULL,
                        sql_number(lane->batch), sql_text(str_of(state)));
    const struct sealed_batch *b = &lane->sealed;
    bool is_fenced = b->code == KERR_INVALID_PRODUCER_EPOCH;
    lane->producer_id = is_fenced || b->producer_epoch == INT16_MAX ? -1 : b->producer_id;
    lane->producer_epoch = b->producer_epoch + 1;
    lane->next_sequence = 0;
    e = e == OK ? batch_drop(o, lane) : e;
    return e == OK ? lane_write(o, lane) : e;
}

static err lane_refused(struct rv_outbox *o, struct lane *lane)
{
    const struct sealed_batch *b = &lane->sealed;
    if (relay_is_refusal_of_topic(b->code)) {
        err e = wait_write(o, lane->first_id, "topic", b->code, b->why);
        return e == OK ? lane_unseal(o, lane, "new") : e;
    }
    if (b->count > 1) {
        lane->records_max = b->count / 2;
        return lane_unseal(o, lane, "new");
    }
    err e = wait_write(o, lane->first_id, "key", b->code, b->why);
    return e == OK ? lane_unseal(o, lane, "waits") : e;
}

static err lane_stored(struct rv_outbox *o, struct lane *lane)
{
    const struct sealed_batch *b = &lane->sealed;
    int64_t most = o->numbers[OUTBOX_BATCH_RECORDS];
    err e = outbox_rows_done(o, lane->batch, NULL);
    if (b->offset >= 0) {
        lane->end_offset = b->offset + b->count;
        lane->end_ms = clock_mono_ms(&clock_real);
    }
    lane->records_max = lane->records_max * 2 < most ? lane->records_max * 2 : most;
    e = e == OK ? batch_drop(o, lane) : e;
    return e == OK ? lane_write(o, lane) : e;
}

/* A topic that is not there any more has none of its records either, so it waits; but where a
 * former attempt may have stored the batch, that has to be looked up when the topic is there again.
 */
static bool is_decided(const struct sealed_batch *b)
{
    switch (b->fate) {
    case SEALED_STORED:
    case SEALED_RENEW:
    case SEALED_UNKNOWABLE: return true;
    case SEALED_REFUSED: return !relay_is_refusal_of_all(b->code);
    case SEALED_LATER: return !b->unsure && b->code == KERR_UNKNOWN_TOPIC_OR_PARTITION;
    default: return false;
    }
}

static err lane_settle(struct rv_outbox *o, struct lane *lane)
{
    switch (lane->sealed.fate) {
    case SEALED_STORED: return lane_stored(o, lane);
    case SEALED_RENEW: return lane_unseal(o, lane, "new");
    case SEALED_UNKNOWABLE: return batch_stick(o, lane, lane->sealed.why);
    default: return lane_refused(o, lane);
    }
}

/* ---- sending ---- */

static err settle_body(struct rv_outbox *o, void *ctx)
{
    (void)ctx;
    err e = relay_hold(o);
    for (struct map_entry *m = map_first(&o->relay->lanes); e == OK && m; m = map_next(m)) {
        struct lane *lane = map_value(m);
        if (lane->state == LANE_OPEN && is_decided(&lane->sealed)) {
            e = lane_settle(o, lane);
        }
    }
    return e == OK ? relay_purge(o) : e;
}

static err hold_body(struct rv_outbox *o, void *ctx)
{
    (void)ctx;
    return relay_hold(o);
}

/* One attempt for each batch that is open, while the lease is surely ours. RV_OK also when none was
 * stored: each has its fate. */
static err send_open(struct rv_outbox *o, struct lane **lanes, struct sealed_batch *batches,
                     size_t count)
{
    struct relay *r = o->relay;
    int64_t attempt_ms = o->numbers[OUTBOX_LEASE_MS] / 2;
    err e = OK;
    if (clock_mono_ms(&clock_real) - r->leased_ms > attempt_ms) {
        e = outbox_transaction(o, hold_body, NULL);
    }
    if (e != OK) {
        return e;
    }
    int code = sealed_send(r->sealed, batches, count, (int)attempt_ms, &r->trouble);
    for (size_t i = 0; i < count; i++) {
        lanes[i]->sealed = batches[i];
        if (!is_decided(&batches[i])) {
            fail_set(&r->trouble, batches[i].code != RV_OK ? batches[i].code : RV_E_TIMED_OUT, "%s",
                     batches[i].why);
        }
    }
    return code == RV_E_MEMORY ? ERR_MEMORY : OK;
}

static void lane_settled(struct relay *r, struct lane *lane)
{
    if (lane->state != LANE_OPEN || !is_decided(&lane->sealed)) {
        return;
    }
    r->moved = true;
    if (lane->sealed.fate == SEALED_STORED) {
        r->stored += lane->sealed.count;
    }
    lane_clear(lane, lane->sealed.fate == SEALED_UNKNOWABLE ? LANE_STUCK : LANE_FREE);
}

err settle_open(struct rv_outbox *o)
{
    struct relay *r = o->relay;
    size_t count = 0, most = map_count(&r->lanes);
    struct lane **lanes = arena_zero(&r->arena, most + 1, sizeof *lanes);
    struct sealed_batch *batches = arena_zero(&r->arena, most + 1, sizeof *batches);
    if (!lanes || !batches) {
        return arena_error(&r->arena);
    }
    for (struct map_entry *m = map_first(&r->lanes); m; m = map_next(m)) {
        struct lane *lane = map_value(m);
        if (lane->state == LANE_OPEN) {
            lanes[count] = lane;
            batches[count++] = lane->sealed;
        }
    }
    if (count == 0) {
        return OK;
    }
    err e = send_open(o, lanes, batches, count);
    bool decided = false;
    for (size_t i = 0; i < count; i++) {
        decided = decided || is_decided(&lanes[i]->sealed);
    }
    if (e != OK || !decided) {
        return e;
    }
    e = outbox_transaction(o, settle_body, NULL);
    for (size_t i = 0; e == OK && i < count; i++) {
        lane_settled(r, lanes[i]);
    }
    return e;
}

struct sticking {
    struct lane *lane;
    const char *why;
};

static err stick_body(struct rv_outbox *o, void *ctx)
{
    const struct sticking *s = ctx;
    err e = relay_hold(o);
    return e == OK ? batch_stick(o, s->lane, s->why) : e;
}

err lane_stick(struct rv_outbox *o, struct lane *lane, const char *why)
{
    struct sticking s = {lane, why};
    err e = outbox_transaction(o, stick_body, &s);
    if (e == OK) {
        lane_clear(lane, LANE_STUCK);
    }
    return e;
}

/* ---- topics that wait ---- */

struct waiting_topic {
    struct waiting_topic *next;
    char name[]; /* 0-terminated */
};
struct waiting_topics {
    struct arena *arena;
    struct waiting_topic *first;
};

static err topic_take(void *ctx, const struct sql_value *row, size_t count)
{
    struct waiting_topics *topics = ctx;
    struct str name = sql_str(&row[0]);
    (void)count;
    struct waiting_topic *t = arena_alloc(topics->arena, sizeof *t + name.len + 1);
    if (!t) {
        return arena_error(topics->arena);
    }
    t->next = topics->first;
    memcpy(t->name, name.ptr, name.len);
    t->name[name.len] = 0;
    topics->first = t;
    return OK;
}

static err topic_release(struct rv_outbox *o, void *ctx)
{
    const struct sql_value topic = sql_text(str_of(ctx));
    err e = relay_hold(o);
    e = e == OK
            ? OUTBOX_EXEC(o, "DELETE FROM @_wait WHERE scope = 'topic' AND topic = $1", NULL, topic)
            : e;
    return e == OK
               ? OUTBOX_EXEC(o, "UPDATE @ SET state = 'new' WHERE state = 'waits' AND topic = $1",
                             NULL, topic)
               : e;
}

err settle_topics(struct rv_outbox *o)
{
    struct waiting_topics topics = {.arena = &o->relay->arena};
    const struct sql_value code = sql_number(KERR_UNKNOWN_TOPIC_OR_PARTITION);
    err e = outbox_query(o, "SELECT DISTINCT topic FROM @_wait WHERE scope = 'topic' AND code = $1",
                         &code, 1, topic_take, &topics);
    for (struct waiting_topic *t = topics.first; e == OK && t; t = t->next) {
        struct rv_error error;
        int32_t partitions;
        if (sealed_partitions(o->relay->sealed, t->name, ASK_TIMEOUT_MS, &partitions, &error) ==
            RV_OK) {
            e = outbox_transaction(o, topic_release, t->name);
            o->relay->moved = true;
        } else if (error.code < 0) {
            break; /* the broker does not answer */
        }
    }
    return e;
}

/* The relay: the lease, and what it does turn by turn.
 *
 *   rows `new` -> read, dealt to lanes (a partition each)          seal.c, in no transaction
 *              -> SEAL: batch, producer id, epoch, sequence,       seal.c, one transaction
 *                 rows `sealed`
 *              -> sent, or looked for                              client/sealed
 *              -> SETTLE: rows deleted, or what else became        settle.c, one transaction
 *
 * What holds, whoever dies when:
 *   O1  A batch is sent only after its SEAL is committed, durably (commits_make_durable), and again
 *       only under the same identity, unless the broker said, or was seen, not to have it. So it is
 *       stored once (client/sealed/sealed.h says why, and what that leaves).
 *   O2  Every transaction of ours begins by renewing the lease under its epoch, which locks its row
 *       (relay_hold): who is not the newest holder writes nothing. What a fenced relay still sends
 *       is a batch that the newer one has sealed as well: a duplicate. A batch that was unsealed is
 *       followed by one of a higher epoch, which fences the older one at the broker.
 *   O3  Of a partition at most one batch is sealed. Rows of a key go to one partition, in the order
 *       of `seq`. When one of them cannot go in this turn, none behind it does: the lane is full or
 *       open, or the key (the topic) waits.
 *   O4  No request to the broker is made inside of a transaction: the service's writes would wait
 *       for it.
 *   O5  What is in memory follows what is committed: after an error it is forgotten.
 *
 * The lease is one row: who, epoch, until when by the database's clock (lease.c). Taking it raises
 * the epoch, also for one who had it. People who change something take it away (people.c).
 *
 * What is left: a relay that is stopped between its last look at the clock (send_open) and its
 * write to the socket, whose batch the next relay sees refused and unseals, and whose own attempt
 * is then accepted, because in between somebody raised the limit that it was refused for.
 */
#include "client/outbox/relay.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/rand.h"
#include "protocol/error.h"

#include <stdio.h>

enum {
    SEALED_AGE_MS = 60000,      /* after which partitions are counted anew */
    TURN_BYTES_MAX = 128 << 20, /* of memory for what one turn reads */
    PAUSE_MS = 50,              /* after a turn in which the broker had trouble; doubles, up to */
    PAUSE_MAX_MS = 1000,
    PURGE_MS = 10000,   /* between two looks for rows whose time is over */
    PURGE_ROWS = 10000, /* that go in one transaction */
};

/* ---- memory ---- */

void lane_clear(struct lane *lane, enum lane_state state)
{
    lane->state = state;
    lane->ids.len = 0;
    buf_finish(&lane->bytes);
    lane->bytes = (struct buf){0};
    batch_builder_reset(&lane->builder);
    lane->batch = 0;
}

static void lane_destroy(struct lane *lane)
{
    if (lane) {
        mem_free(lane->topic);
        buf_finish(&lane->ids);
        buf_finish(&lane->bytes);
        batch_builder_finish(&lane->builder);
        mem_free(lane);
    }
}

void outbox_relay_forget(struct rv_outbox *o)
{
    struct relay *r = o->relay;
    if (!r) {
        return;
    }
    o->relay = NULL;
    for (struct map_entry *e = map_first(&r->lanes); e; e = map_next(e)) {
        lane_destroy(map_value(e));
    }
    for (struct map_entry *e = map_first(&r->topics); e; e = map_next(e)) {
        mem_free(map_value(e));
    }
    map_finish(&r->lanes);
    map_finish(&r->topics);
    arena_finish(&r->arena);
    buf_finish(&r->waiting);
    sealed_destroy(r->sealed);
    mem_free(r);
}

static err relay_create(struct rv_outbox *o, struct rv_client *client)
{
    struct relay *r = mem_zero(1, sizeof *r);
    uint64_t seed;
    if (!r) {
        return ERR_MEMORY;
    }
    rand_system(&seed, sizeof seed);
    map_init(&r->lanes, seed);
    map_init(&r->topics, seed);
    arena_init(&r->arena, TURN_BYTES_MAX);
    r->client = client;
    r->epoch = r->producer_id = r->version = -1;
    r->looked_ms = clock_mono_ms(&clock_real);
    r->spread = (uint32_t)seed;
    o->relay = r;
    return OK;
}

static err sealed_renew(struct relay *r)
{
    int64_t now_ms = clock_mono_ms(&clock_real);
    if (!r->sealed || now_ms - r->sealed_ms > SEALED_AGE_MS) {
        sealed_destroy(r->sealed);
        r->sealed = sealed_create(r->client);
        r->sealed_ms = now_ms;
    }
    return r->sealed ? OK : ERR_MEMORY;
}

bool relay_is_refusal_of_topic(int code)
{
    return code == KERR_UNKNOWN_TOPIC_OR_PARTITION || code == KERR_INVALID_TOPIC_EXCEPTION ||
           code == KERR_TOPIC_AUTHORIZATION_FAILED;
}

bool relay_is_refusal_of_all(int code)
{
    return code == KERR_CLUSTER_AUTHORIZATION_FAILED || code == KERR_UNSUPPORTED_VERSION;
}

/* ---- lanes ---- */

enum { LANE_KEY_SIZE = 280 };

static struct str lane_key(struct str topic, int32_t partition, char text[LANE_KEY_SIZE])
{
    int size = snprintf(text, LANE_KEY_SIZE, "%.*s\n%d", STR_ARG(topic), (int)partition);
    return (struct str){text, (size_t)size < LANE_KEY_SIZE ? (size_t)size : LANE_KEY_SIZE - 1};
}

/* Of an identity that a relay before us has used nothing is taken over: what is committed may be
 * older than what was sent (a restored backup, a replica that lacks the last commits), and then the
 * broker would take new records for old ones. One that is there to fence a batch (settle.c) goes on,
 * an epoch higher. */
static err lane_take(void *ctx, const struct sql_value *row, size_t count)
{
    struct lane *lane = ctx;
    (void)count;
    if (row[2].number == 0 && row[1].number < INT16_MAX) {
        lane->producer_id = row[0].number;
        lane->producer_epoch = (int32_t)row[1].number + 1;
    }
    return OK;
}

err lane_get(struct rv_outbox *o, struct str topic, int32_t partition, struct lane **ret_lane)
{
    struct relay *r = o->relay;
    char text[LANE_KEY_SIZE];
    struct lane *lane = map_get_str(&r->lanes, lane_key(topic, partition, text));
    if (lane) {
        *ret_lane = lane;
        return OK;
    }
    lane = mem_zero(1, sizeof *lane);
    char *name = mem_alloc(topic.len + 1);
    if (!lane || !name) {
        mem_free(lane);
        mem_free(name);
        return ERR_MEMORY;
    }
    memcpy(name, topic.ptr, topic.len);
    name[topic.len] = 0;
    lane->topic = name;
    lane->partition = partition;
    lane->producer_id = lane->end_offset = -1;
    lane->records_max = o->numbers[OUTBOX_BATCH_RECORDS];
    batch_builder_init(&lane->builder);
    const struct sql_value params[] = {sql_text(topic), sql_number(partition)};
    err e = outbox_query(o,
                         "SELECT producer_id, producer_epoch, next_sequence "
                         "FROM @_partition WHERE topic = $1 AND partition = $2",
                         params, 2, lane_take, lane);
    e = e == OK ? map_put_str(&r->lanes, lane_key(topic, partition, text), lane) : e;
    if (e != OK) {
        lane_destroy(lane);
        return e;
    }
    *ret_lane = lane;
    return OK;
}

err lane_write(struct rv_outbox *o, const struct lane *lane)
{
    return OUTBOX_EXEC(
        o,
        "INSERT INTO @_partition (topic, partition, producer_id, producer_epoch, next_sequence, "
        "end_offset) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (topic, partition) DO UPDATE SET "
        "producer_id = $3, producer_epoch = $4, next_sequence = $5, end_offset = $6",
        NULL, sql_text(str_of(lane->topic)), sql_number(lane->partition),
        sql_number(lane->producer_id), sql_number(lane->producer_epoch),
        sql_number(lane->next_sequence), sql_number(lane->end_offset));
}

/* ---- what is kept ---- */

/* In a transaction: published rows whose time is over, some of them. With none kept there may be
 * some of a relay that did. */
static err purge(struct rv_outbox *o)
{
    struct relay *r = o->relay;
    int64_t deleted = 0, keep_ms = o->numbers[OUTBOX_KEEP_MS];
    err e = OUTBOX_EXEC(o,
                        "DELETE FROM @ WHERE id IN (SELECT id FROM @ WHERE state = 'sent' AND "
                        "done_ms <= ~ - $1 ORDER BY done_ms LIMIT $2)",
                        &deleted, sql_number(keep_ms), sql_number(PURGE_ROWS));
    r->purge_ms = 0;
    if (deleted < PURGE_ROWS) {
        r->purge_ms = clock_after_ms(&clock_real, keep_ms < PURGE_MS ? keep_ms : PURGE_MS);
    } else {
        r->moved = true; /* there are more */
    }
    return e;
}

err relay_purge(struct rv_outbox *o)
{
    return clock_mono_ms(&clock_real) >= o->relay->purge_ms ? purge(o) : OK;
}

static err renew_body(struct rv_outbox *o, void *ctx)
{
    (void)ctx;
    err e = relay_hold(o);
    return e == OK ? relay_purge(o) : e;
}

/* ---- turns ---- */

static err turn(struct rv_outbox *o)
{
    struct relay *r = o->relay;
    int64_t now_ms = clock_mono_ms(&clock_real);
    err e = sealed_renew(r);
    if (e == OK && r->epoch < 0) {
        e = lease_take(o);
        if (e != OK || r->epoch < 0) {
            return e;
        }
        e = seal_take_over(o);
    } else if (e == OK &&
               (r->purge_ms == 0 || now_ms - r->leased_ms >= o->numbers[OUTBOX_LEASE_MS] / 2)) {
        e = outbox_transaction(o, renew_body, NULL);
    }
    if (e == OK && now_ms - r->looked_ms >= o->numbers[OUTBOX_RETRY_MS]) {
        r->looked_ms = now_ms;
        e = settle_topics(o);
    }
    e = e == OK ? seal_new(o) : e;
    return e == OK ? settle_open(o) : e;
}

static void turn_begin(struct relay *r)
{
    r->turn++;
    r->spread++;
    r->refusal_count = 0;
    r->waiting.len = 0;
    r->stored = 0;
    r->moved = false;
    r->trouble = (struct rv_error){0};
    arena_reset(&r->arena);
}

static int time_left(int64_t deadline_ms)
{
    int64_t left = deadline_ms - clock_mono_ms(&clock_real);
    return left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

/* Until there may be something to do. */
static err rest(struct rv_outbox *o, int timeout_ms, int *pause_ms)
{
    struct relay *r = o->relay;
    if (r->trouble.code != RV_OK) {
        rv_wait(r->client, *pause_ms < timeout_ms ? *pause_ms : timeout_ms, NULL);
        *pause_ms = *pause_ms * 2 < PAUSE_MAX_MS ? *pause_ms * 2 : PAUSE_MAX_MS;
        return OK;
    }
    *pause_ms = PAUSE_MS;
    int64_t longest_ms = o->numbers[OUTBOX_LEASE_MS] / 4;
    int64_t poll_ms = o->numbers[OUTBOX_POLL_MS];
    longest_ms = longest_ms < poll_ms ? longest_ms : poll_ms;
    return news_wait(o, longest_ms < timeout_ms ? (int)longest_ms : timeout_ms);
}

/* Fenced is no error: somebody else works, or a person has changed something. */
static int relay_failed(struct rv_outbox *o, err e, struct rv_error *ret_error)
{
    outbox_relay_forget(o);
    if (e == ERR_STALE) {
        return RV_OK;
    }
    return sql_error(&o->sql, e, "the outbox's relay", ret_error);
}

static int trouble_tell(const struct relay *r, struct rv_error *ret_error)
{
    if (ret_error) {
        *ret_error = r->trouble;
    }
    return r->trouble.code;
}

int rv_outbox_relay(struct rv_outbox *o, struct rv_client *client, int timeout_ms,
                    int64_t *ret_count, struct rv_error *ret_error)
{
    int64_t deadline_ms = clock_after_ms(&clock_real, timeout_ms);
    int pause_ms = PAUSE_MS;
    *ret_count = 0;
    for (;;) {
        err e = OK;
        if (o->relay && o->relay->client != client) {
            outbox_relay_forget(o);
        }
        e = o->relay ? OK : relay_create(o, client);
        if (e == OK) {
            turn_begin(o->relay);
            e = turn(o);
            *ret_count += o->relay->stored;
        }
        if (e != OK) {
            int code = relay_failed(o, e, ret_error);
            if (code != RV_OK || time_left(deadline_ms) == 0) {
                return code;
            }
            continue;
        }
        int left_ms = time_left(deadline_ms);
        if (!o->relay->moved && *ret_count > 0) {
            return RV_OK;
        }
        if (left_ms == 0) {
            return *ret_count > 0 || o->relay->trouble.code == RV_OK
                       ? RV_OK
                       : trouble_tell(o->relay, ret_error);
        }
        e = o->relay->moved ? OK : rest(o, left_ms, &pause_ms);
        if (e != OK) {
            return relay_failed(o, e, ret_error);
        }
    }
}

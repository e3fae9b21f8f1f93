/* The database decides, memory only remembers what it said.
 *
 * Of each assigned partition there is a struct held. It is *taken* when its row has our owner
 * epoch (owner_epoch > 0), and each way out of that leads through the row again:
 *
 *     assigned ----> not taken ---- take: epoch + 1 ----> taken ---- store: row moves ----> taken
 *                       ^                                    |
 *                       +---- look: the row has another's ---+
 *
 * Invariants:
 * 1. Records are handed out only while every assigned partition is taken, and each is read from
 *    what its row says (`stored`), or from `first` where the row says nothing.
 * 2. A row moves only by row_move: from the offset that we know to the position of the last
 *    rv_store_poll (`seen`), under our epoch, in the transaction of the effects.
 * 3. `given`: records were handed out and it is not known that they are stored. rv_store_poll looks
 *    at the rows then, before it reads on. What it finds is the truth: a transaction of ours that
 *    may still be at work (its connection was lost in COMMIT) holds the rows locked until it ends.
 *
 * Why the fence holds under READ COMMITTED. Take and store update the same row, so PostgreSQL has
 * one of them wait for the other's end. Store first: the new owner's take waits, then sees the row
 * as the store left it, and reads from there; effects and offset are both there. Take first: the
 * store waits, and when the take has committed it evaluates its CASE on the new row: the epoch is
 * not its own, NULL, error, and the effects before it go with it. Under REPEATABLE READ and above
 * the second one fails with a serialization failure, which is a failure too. A transaction of the
 * new owner begins after its take has committed, so it sees all effects of the owner before.
 * SQLite has one writer at a time.
 * Locks of rows are taken in the order of topic and partition by all: no deadlock among them.
 *
 * One who lost a partition does not take it back: a take happens when the group deals (RV_ASSIGNED)
 * or when the broker says that we still are the member that has it (prove), as when the one who
 * fenced us was itself a zombie that woke up between being dealt a partition and taking it.
 */
#include "client/store/store.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

_Static_assert((int)RV_STORE_DATABASE == (int)SQL_CODE_DATABASE, "one number for all parts");
_Static_assert((int)RV_STORE_FENCED == (int)SQL_CODE_FENCED, "one number for all parts");

/* ---- errors ---- */

static int fail(struct rv_error *ret_error, int code, const char *text)
{
    if (ret_error) {
        *ret_error = (struct rv_error){.code = code};
        snprintf(ret_error->text, sizeof ret_error->text, "%s", text);
    }
    return code;
}

static int fail_memory(struct rv_error *ret_error)
{
    fail(ret_error, RV_E_MEMORY, "store: out of memory");
    if (ret_error) {
        ret_error->flags = RV_RETRIABLE;
    }
    return RV_E_MEMORY;
}

/* `what` failed for a partition. */
static int fail_sql(const struct rv_store *s, err e, const char *what, const struct held *h,
                    struct rv_error *ret_error)
{
    char text[200];
    snprintf(text, sizeof text, "store: %s topic %.100s partition %d", what, h->topic,
             (int)h->partition);
    return sql_error(&s->sql, e, text, ret_error);
}

/* ---- the broker is told ---- */

static void told(void *ctx, const struct rv_error *error)
{
    struct telling *t = ctx;
    t->failed |= error != NULL;
    if (--t->count == 0 && t->closed) {
        mem_free(t);
    }
}

static bool is_to_tell(const struct rv_store *s, const struct held *h)
{
    return h->stored >= 0 && (h->told != h->stored || s->telling->failed);
}

/* One commit at a time, but for the `last`. It is for tools that look at the group: a failure is
 * told again later, and librivulet has logged it. */
static void broker_tell(struct rv_store *s, bool last)
{
    size_t count = 0;
    for (size_t i = 0; i < s->count; i++) {
        count += is_to_tell(s, &s->items[i]);
    }
    if (count == 0 || (s->telling->count && !last)) {
        return;
    }
    struct rv_partition *list = mem_zero(count, sizeof *list);
    count = 0;
    for (size_t i = 0; list && i < s->count; i++) {
        const struct held *h = &s->items[i];
        if (is_to_tell(s, h)) {
            list[count++] = (struct rv_partition){.topic = h->topic,
                                                  .partition = h->partition,
                                                  .offset = h->stored,
                                                  .leader_epoch = h->stored_leader};
        }
    }
    if (count && rv_commit_async(s->consumer, list, count, told, s->telling, NULL) == RV_OK) {
        s->telling->count++;
        s->telling->failed = false;
        for (size_t i = 0; i < s->count; i++) {
            s->items[i].told = s->items[i].stored;
        }
    }
    mem_free(list);
}

/* ---- settling ---- */

/* Further than what is stored, or back: rv_seek, or another log, whose offsets may be the same. */
static bool has_moved(const struct held *h)
{
    return h->seen >= 0 &&
           (h->seen != h->stored || (h->resume != HELD_NOWHERE && h->seen != h->resume));
}

static bool is_free(const struct held *h)
{
    return !h->owner_epoch && !h->fenced;
}

/* What a row said, when all of the transaction is committed. */
static void held_take(struct held *h, const struct row *row)
{
    bool is_as_it_was = row->next_offset == h->stored && row->leader_epoch == h->stored_leader &&
                        strcmp(row->topic_id, h->stored_id) == 0;
    bool is_ours = row->next_offset == h->seen && row->leader_epoch == h->seen_leader &&
                   strcmp(row->topic_id, h->topic_id) == 0;
    h->checked &= !is_free(h) && row->owner_epoch == h->owner_epoch && (is_as_it_was || is_ours);
    h->resume = h->checked && is_as_it_was ? h->resume : HELD_NOWHERE;
    h->fenced = !is_free(h) && row->owner_epoch != h->owner_epoch;
    h->owner_epoch = h->fenced ? 0 : row->owner_epoch;
    h->stored = row->next_offset;
    h->stored_leader = row->leader_epoch;
    memcpy(h->stored_id, row->topic_id, sizeof h->stored_id);
    h->first = h->stored >= 0 ? -1 : h->first;
    h->placed = false;
}

static size_t count_due(const struct rv_store *s)
{
    size_t count = 0;
    for (size_t i = 0; i < s->count; i++) {
        count += s->items[i].due;
    }
    return count;
}

/* Of those that are `due`: the free ones are taken, the others' rows are looked at. */
static int rows_settle(struct rv_store *s, struct rv_error *ret_error)
{
    if (count_due(s) == 0) {
        return RV_OK;
    }
    struct row *rows = mem_zero(s->count, sizeof *rows);
    if (!rows) {
        return fail_memory(ret_error);
    }
    int code = RV_OK;
    err e = sql_begin_ours(&s->sql);
    if (e != OK) {
        code = sql_error(&s->sql, e, "store: taking partitions over", ret_error);
    }
    for (size_t i = 0; code == RV_OK && i < s->count; i++) {
        const struct held *h = &s->items[i];
        if (h->due) {
            e = is_free(h) ? row_take(s, h, &rows[i]) : row_look(s, h, &rows[i]);
            code = e == OK ? RV_OK : fail_sql(s, e, "taking over", h, ret_error);
        }
    }
    if (code == RV_OK && (e = sql_commit(&s->sql)) != OK) {
        code = sql_error(&s->sql, e, "store: taking partitions over", ret_error);
    }
    if (code != RV_OK) {
        sql_rollback(&s->sql); /* what failed is told already */
    }
    for (size_t i = 0; code == RV_OK && i < s->count; i++) {
        if (s->items[i].due) {
            held_take(&s->items[i], &rows[i]);
        }
    }
    mem_free(rows);
    return code;
}

/* Those that were settled are read from where their rows say. */
static int positions_settle(struct rv_store *s, struct rv_error *ret_error)
{
    const struct rv_partition *assigned;
    size_t count = rv_assignment(s->consumer, &assigned);
    int code = RV_OK;
    for (size_t i = 0; code == RV_OK && i < count; i++) {
        struct held *h = held_find(s, assigned[i].topic, assigned[i].partition);
        if (!h || h->placed) {
            continue;
        }
        int64_t now = assigned[i].offset;
        int64_t place = h->resume != HELD_NOWHERE ? h->resume
                        : h->stored >= 0          ? h->stored
                        : h->first >= 0           ? h->first
                                                  : RV_COMMITTED;
        bool is_by_itself = place == RV_COMMITTED && now < 0; /* it begins there */
        if (now != place && !is_by_itself) {
            code = rv_seek(s->consumer, h->topic, h->partition, place, ret_error);
        }
        h->placed = code == RV_OK;
    }
    return code;
}

/* The broker takes a commit only from the member that has the partition now; one of what is stored
 * changes nothing. Where nothing is stored there is nothing to commit, and nothing to lose. */
static int prove(struct rv_store *s, const struct held *h)
{
    const struct rv_partition p = {.topic = h->topic,
                                   .partition = h->partition,
                                   .offset = h->stored,
                                   .leader_epoch = h->stored_leader};
    struct rv_error e;
    if (h->stored < 0 || rv_commit(s->consumer, &p, 1, &e) == RV_OK) {
        return RV_OK;
    }
    snprintf(s->sql.text, sizeof s->sql.text, "another consumer has taken it over (%.100s)",
             e.text);
    return fail_sql(s, ERR_FENCED, "taking over", h, &s->trouble);
}

/* Brings memory, rows and positions together. RV_OK also with some that are not taken, because they
 * are fenced: `trouble` says more. */
static int settle(struct rv_store *s, struct rv_error *ret_error)
{
    if (held_match(s) != RV_OK) {
        return fail_memory(ret_error);
    }
    const struct rv_partition *assigned;
    size_t count = rv_assignment(s->consumer, &assigned);
    for (size_t i = 0; i < count; i++) {
        struct held *h = held_find(s, assigned[i].topic, assigned[i].partition);
        h->seen = assigned[i].offset;
        h->due = !h->owner_epoch || has_moved(h);
    }
    int code = rows_settle(s, ret_error);
    for (size_t i = 0; code == RV_OK && i < s->count; i++) {
        struct held *h = &s->items[i];
        h->due = h->fenced && prove(s, h) == RV_OK;
        h->fenced &= !h->due;
    }
    code = code == RV_OK ? rows_settle(s, ret_error) : code;
    code = code == RV_OK ? logs_check(s, ret_error) : code;
    return code == RV_OK ? positions_settle(s, ret_error) : code;
}

static bool all_taken(const struct rv_store *s)
{
    for (size_t i = 0; i < s->count; i++) {
        const struct held *h = &s->items[i];
        if (!h->owner_epoch || !h->placed || !h->checked) {
            return false;
        }
    }
    return true;
}

/* ---- events ---- */

static void on_assigned(struct rv_store *s)
{
    int code = held_match(s) == RV_OK ? RV_OK : fail_memory(&s->trouble);
    for (size_t i = 0; i < s->count; i++) {
        s->items[i].due = is_free(&s->items[i]);
    }
    code = code == RV_OK ? rows_settle(s, &s->trouble) : code;
    if (code == RV_OK) {
        positions_settle(s, &s->trouble); /* what is not placed is not read */
    }
}

static void on_gone(struct rv_store *s, const struct rv_event *event)
{
    for (size_t i = 0; i < event->count; i++) {
        struct held *h = held_find(s, event->partitions[i].topic, event->partitions[i].partition);
        if (h) {
            s->torn |= s->given && h->seen != h->stored;
            held_remove(s, h);
        }
    }
}

/* What was read may not be there any more. */
static void on_jumped(struct rv_store *s, const struct rv_event *event)
{
    for (size_t i = 0; i < event->count; i++) {
        struct held *h = held_find(s, event->partitions[i].topic, event->partitions[i].partition);
        if (h) {
            h->checked = false;
        }
    }
}

static void on_event(void *ctx, const struct rv_event *event)
{
    struct rv_store *s = ctx;
    if (event->kind == RV_ASSIGNED) {
        on_assigned(s);
    } else if (event->kind == RV_REVOKED) {
        broker_tell(s, true);
    } else if (event->kind == RV_JUMPED) {
        on_jumped(s, event);
    }
    if (s->on_event) {
        s->on_event(s->event_ctx, event);
    }
    if (event->kind == RV_REVOKED || event->kind == RV_LOST) {
        on_gone(s, event);
    }
}

void rv_store_on_event(struct rv_store *store, rv_event_fn *fn, void *ctx)
{
    store->on_event = fn;
    store->event_ctx = ctx;
}

/* ---- polling ---- */

/* Where reading stands, and where it began. */
static void polled(struct rv_store *s, const struct rv_record *records, size_t count)
{
    const struct rv_partition *assigned;
    size_t assigned_count = rv_assignment(s->consumer, &assigned);
    bool fresh = false;
    for (size_t i = 0; i < s->count; i++) {
        s->items[i].seen = -1;
        fresh |= s->items[i].stored < 0 && s->items[i].first < 0;
    }
    for (size_t i = 0; fresh && i < count; i++) {
        struct held *h = held_find(s, records[i].topic, records[i].partition);
        if (h && h->stored < 0 && h->first < 0) {
            h->first = records[i].offset;
        }
    }
    for (size_t i = 0; i < assigned_count; i++) {
        struct held *h = held_find(s, assigned[i].topic, assigned[i].partition);
        if (h) {
            h->seen = assigned[i].offset;
            h->seen_leader = assigned[i].leader_epoch;
            h->first = h->stored < 0 && h->first < 0 ? h->seen : h->first;
        }
    }
}

/* Nothing is open, and what was given is settled. */
static int poll_prepare(struct rv_store *s, int timeout_ms, struct rv_error *ret_error)
{
    if (s->begun) {
        sql_rollback(&s->sql); /* the rows will say */
        s->begun = false;
    }
    if (sql_in_transaction(&s->sql)) {
        return fail(ret_error, RV_E_STATE, "store: poll: a transaction is open on the connection");
    }
    fail(&s->trouble, RV_STORE_FENCED, "store: a partition is not taken over yet");
    if (s->given || held_match(s) != RV_OK || !all_taken(s)) {
        int code = settle(s, ret_error);
        if (code != RV_OK) {
            rv_wait(s->client, timeout_ms, NULL); /* the member stays in its group meanwhile */
            return code;
        }
    }
    s->given = false;
    s->torn = false;
    return RV_OK;
}

int rv_store_poll(struct rv_store *store, int timeout_ms, const struct rv_record **ret_records,
                  size_t *ret_count, struct rv_error *ret_error)
{
    struct rv_store *s = store;
    *ret_records = NULL;
    *ret_count = 0;
    int code = poll_prepare(s, timeout_ms, ret_error);
    if (code != RV_OK) {
        return code;
    }
    broker_tell(s, false);
    const struct rv_record *records;
    size_t count;
    code = rv_poll(s->consumer, timeout_ms, &records, &count, ret_error);
    polled(s, records, code == RV_OK ? count : 0);
    s->given = true;
    if (code != RV_OK) {
        return code;
    }
    if (held_match(s) != RV_OK) {
        return fail_memory(ret_error);
    }
    code = logs_check(s, ret_error); /* of what was assigned meanwhile, too */
    bool is_elsewhere = !all_taken(s);
    code = code == RV_OK && is_elsewhere ? positions_settle(s, ret_error) : code;
    if (code != RV_OK) {
        return code;
    }
    if (!all_taken(s)) {
        if (ret_error) {
            *ret_error = s->trouble;
        }
        return s->trouble.code;
    }
    if (is_elsewhere) {
        return RV_OK; /* what came is not what is to be read; the next one settles the others */
    }
    s->given = count > 0;
    *ret_records = records;
    *ret_count = count;
    return RV_OK;
}

/* ---- storing ---- */

/* The log has grown, and its leader epochs have not gone back. */
static bool is_same_log(const struct held *h)
{
    return h->seen <= h->stored || h->seen_leader < 0 || h->seen_leader >= h->stored_leader ||
           h->resume != HELD_NOWHERE;
}

static int may_store(const struct rv_store *s, struct rv_error *ret_error)
{
    const struct rv_partition *assigned;
    size_t count = rv_assignment(s->consumer, &assigned);
    if (!sql_in_transaction(&s->sql)) {
        return fail(ret_error, RV_E_STATE, "store: no transaction is open on the connection");
    }
    if (s->torn) {
        return fail(ret_error, RV_STORE_FENCED,
                    "store: a partition of the transaction's records has gone");
    }
    bool same = count == s->count;
    for (size_t i = 0; same && i < count; i++) {
        const struct held *h = held_find(s, assigned[i].topic, assigned[i].partition);
        bool found = h && h->seen < 0 && s->given; /* out, meanwhile, where its records begin */
        same = h && (assigned[i].offset == h->seen || found);
        if (same && !is_same_log(h)) {
            char text[250];
            snprintf(text, sizeof text,
                     "store: topic %.100s partition %d is not the log that was read: leader epoch "
                     "%d at offset %lld, %d before",
                     h->topic, (int)h->partition, (int)h->seen_leader, (long long)h->seen,
                     (int)h->stored_leader);
            return fail(ret_error, RV_STORE_REPLACED, text);
        }
    }
    return same ? RV_OK
                : fail(ret_error, RV_E_STATE,
                       "store: the positions are not those that rv_store_poll left");
}

int rv_store_offsets(struct rv_store *store, struct rv_error *ret_error)
{
    struct rv_store *s = store;
    int code = may_store(s, ret_error);
    for (size_t i = 0; code == RV_OK && i < s->count; i++) {
        const struct held *h = &s->items[i];
        err e = has_moved(h) ? row_move(s, h) : OK;
        code = e == OK ? RV_OK : fail_sql(s, e, "storing the offset of", h, ret_error);
    }
    if (code != RV_OK) {
        rows_doom(s);
        s->given = true; /* whatever it was: the next rv_store_poll looks at the rows */
    }
    return code;
}

int rv_store_begin(struct rv_store *store, struct rv_error *ret_error)
{
    struct rv_store *s = store;
    err e = sql_begin(&s->sql);
    if (e != OK) {
        return sql_error(&s->sql, e, "store: begin", ret_error);
    }
    s->begun = true;
    return RV_OK;
}

int rv_store_commit(struct rv_store *store, struct rv_error *ret_error)
{
    struct rv_store *s = store;
    if (!s->begun) {
        return fail(ret_error, RV_E_STATE, "store: commit without begin");
    }
    int code = rv_store_offsets(s, ret_error);
    err e = code == RV_OK ? sql_commit(&s->sql) : OK;
    if (e != OK) {
        code = sql_error(&s->sql, e, "store: commit", ret_error);
    }
    s->begun = false;
    if (code != RV_OK) {
        sql_rollback(&s->sql); /* the next rv_store_poll looks at what is left of it */
        s->given = true;
        return code;
    }
    for (size_t i = 0; i < s->count; i++) {
        struct held *h = &s->items[i];
        if (has_moved(h)) {
            h->stored = h->seen;
            h->stored_leader = h->seen_leader;
            memcpy(h->stored_id, h->topic_id, sizeof h->stored_id);
            h->first = -1;
            h->resume = HELD_NOWHERE;
        }
    }
    s->given = false;
    return RV_OK;
}

/* ---- open, close ---- */

/* The last one that is named; NULL: none is. */
static const char *option_value(const struct rv_option *options, const char *name)
{
    const char *value = NULL;
    for (; options && options->name; options++) {
        value = strcmp(options->name, name) == 0 ? options->value : value;
    }
    return value;
}

static int options_take(struct rv_store *s, const struct rv_option *options,
                        struct rv_error *ret_error)
{
    const char *group = option_value(options, "group.id");
    const char *owner = option_value(options, "client.id");
    const char *delivery = option_value(options, "delivery");
    const char *replaced = option_value(options, "store.replaced");
    if (!group || !group[0]) {
        return fail(ret_error, RV_E_OPTION, "store: the option group.id is not set");
    }
    if (delivery && strcmp(delivery, "manual") != 0) {
        return fail(ret_error, RV_E_OPTION, "store: the option delivery has to be manual");
    }
    s->follows = replaced && strcmp(replaced, "follow") == 0;
    if (replaced && !s->follows && strcmp(replaced, "stop") != 0) {
        return fail(ret_error, RV_E_OPTION,
                    "store: the option store.replaced has to be stop or follow");
    }
    owner = owner ? owner : "rivulet";
    s->group = mem_dup(group, strlen(group) + 1);
    s->owner = mem_dup(owner, strlen(owner) + 1);
    s->telling = mem_zero(1, sizeof *s->telling);
    return s->group && s->owner && s->telling ? RV_OK : fail_memory(ret_error);
}

static void store_free(struct rv_store *s)
{
    for (size_t i = 0; i < s->count; i++) {
        mem_free(s->items[i].topic);
    }
    if (s->telling && s->telling->count) {
        s->telling->closed = true;
    } else {
        mem_free(s->telling);
    }
    mem_free(s->items);
    mem_free(s->group);
    mem_free(s->owner);
    mem_free(s);
}

/* `e`: of sql_init, into *sql. */
static int store_open(struct rv_client *client, struct rv_consumer *consumer, err e,
                      const struct sql *sql, const struct rv_option *options,
                      struct rv_store **ret_store, struct rv_error *ret_error)
{
    if (e != OK) {
        return e == ERR_UNSUPPORTED
                   ? fail(ret_error, RV_E_VERSION, "store: built, or linked, without this database")
                   : fail(ret_error, RV_E_ARGUMENT, "store: no connection");
    }
    struct rv_store *s = mem_zero(1, sizeof *s);
    if (!s) {
        return fail_memory(ret_error);
    }
    s->sql = *sql;
    s->client = client;
    s->consumer = consumer;
    int code = options_take(s, options, ret_error);
    code = code == RV_OK ? table_make(s, ret_error) : code;
    if (code != RV_OK) {
        store_free(s);
        return code;
    }
    rv_consumer_on_event(consumer, on_event, s);
    *ret_store = s;
    return RV_OK;
}

int rv_store_open_sqlite(struct rv_client *client, struct rv_consumer *consumer, struct sqlite3 *db,
                         const struct rv_option *options, struct rv_store **ret_store,
                         struct rv_error *ret_error)
{
    struct sql sql;
    err e = sql_init_sqlite(&sql, db);
    return store_open(client, consumer, e, &sql, options, ret_store, ret_error);
}

int rv_store_open_postgres(struct rv_client *client, struct rv_consumer *consumer,
                           struct pg_conn *db, const struct rv_option *options,
                           struct rv_store **ret_store, struct rv_error *ret_error)
{
    struct sql sql;
    err e = sql_init_postgres(&sql, db);
    return store_open(client, consumer, e, &sql, options, ret_store, ret_error);
}

void rv_store_close(struct rv_store *store)
{
    struct rv_store *s = store;
    if (!s) {
        return;
    }
    if (s->begun) {
        sql_rollback(&s->sql); /* a connection that is lost has rolled it back */
    }
    broker_tell(s, true);
    rv_consumer_on_event(s->consumer, s->on_event, s->event_ctx);
    store_free(s);
}

#include "tests/kit/store_room.h"

static const char *const room_settings[] = {"group.min.session.timeout.ms=100",
                                            "group.initial.rebalance.delay.ms=0", NULL};

/* ---- the room ---- */

int postgres_start_one(void **state)
{
    *state = database_create(true);
    return 0;
}

int sqlite_start(void **state)
{
    *state = database_create(false);
    return 0;
}

int database_end(void **state)
{
    database_destroy(*state);
    return 0;
}

static struct rv_client *client_to(const struct local_home *b)
{
    struct rv_client *client;
    struct rv_error e;
    const struct rv_option *options =
        RV_OPTIONS({"bootstrap.servers", local_home_address(b)}, {"retry.backoff.ms", "5"},
                   {"retry.backoff.max.ms", "50"}, {"reconnect.backoff.ms", "5"},
                   {"reconnect.backoff.max.ms", "50"});
    assert_int_equal(rv_client_open(options, &client, &e), RV_OK);
    return client;
}

int store_room_open(void **state)
{
    static struct room r;
    memset(&r, 0, sizeof r);
    r.database = *state;
    r.broker = local_home_start(room_settings);
    r.feeder = client_to(r.broker);
    db_open(&r.db, r.database->where, BUSY_MS);
    db_must(&r.db, "CREATE TABLE effects (part BIGINT, place BIGINT, value TEXT)", NULL, 0);
    *state = &r;
    return 0;
}

void topic_make(struct room *r, int32_t partitions)
{
    if (rv_topic_create(r->feeder, "t", partitions, NULL, PATIENCE_MS, &r->error) != RV_OK) {
        fail_msg("%s", r->error.text);
    }
}

void stand_up(struct seat *s)
{
    rv_store_close(s->store);
    assert_int_equal(rv_consumer_close(s->consumer, -1, &s->error), RV_OK);
    rv_client_close(s->client);
    db_close(&s->db);
    memset(s, 0, sizeof *s);
}

int store_room_close(void **state)
{
    struct room *r = *state;
    for (int i = 0; i < MEMBERS; i++) {
        if (r->seats[i].client) {
            stand_up(&r->seats[i]);
        }
    }
    rv_client_close(r->feeder);
    local_home_destroy(r->broker);
    db_must(&r->db, "DROP TABLE effects", NULL, 0);
    db_must(&r->db, "DROP TABLE IF EXISTS rivulet_offsets", NULL, 0);
    db_close(&r->db);
    *state = r->database;
    return 0;
}

static void on_event(void *ctx, const struct rv_event *event)
{
    struct seat *s = ctx;
    s->assigned += event->kind == RV_ASSIGNED ? (int)event->count : 0;
    s->gone += event->kind == RV_REVOKED || event->kind == RV_LOST ? (int)event->count : 0;
    s->jumped += event->kind == RV_JUMPED ? (int)event->count : 0;
}

int store_open(struct seat *s, const struct rv_option *options)
{
    return sql_is_postgres(&s->db.sql)
               ? rv_store_open_postgres(s->client, s->consumer, s->db.sql.connection, options,
                                        &s->store, &s->error)
               : rv_store_open_sqlite(s->client, s->consumer, s->db.sql.connection, options,
                                      &s->store, &s->error);
}

/* A member of group g; `more`: options that come before what all have; may be NULL. */
struct seat *sit(struct room *r, int i, const struct rv_option *more)
{
    struct seat *s = &r->seats[i];
    struct rv_option options[OPTIONS_MAX] = {
        {"group.id",              "g"       },
        {"client.id",             "me"      },
        {"auto.offset.reset",     "earliest"},
        {"heartbeat.interval.ms", "20"      },
        {"session.timeout.ms",    "20000"   },
        {"fetch.max.wait.ms",     "20"      },
    };
    int n = 6;
    const char *replaced = NULL; /* the store's alone */
    for (; more && more->name; more++) {
        if (strcmp(more->name, "store.replaced") == 0) {
            replaced = more->value;
        } else {
            options[n++] = *more;
        }
    }
    s->client = client_to(r->broker);
    db_open(&s->db, r->database->where, BUSY_MS);
    if (rv_consumer_open(s->client, options, &s->consumer, &s->error) != RV_OK ||
        store_open(s, replaced ? RV_OPTIONS({"group.id", "g"}, {"store.replaced", replaced})
                               : options) != RV_OK ||
        rv_subscribe(s->consumer, (const char *[]){"t"}, 1, &s->error) != RV_OK) {
        fail_msg("%s", s->error.text);
    }
    rv_store_on_event(s->store, on_event, s);
    return s;
}

/* ---- batches ---- */

int poll_turn(struct seat *s, const struct rv_record **ret_records, size_t *ret_count)
{
    return rv_store_poll(s->store, TURN_MS, ret_records, ret_count, &s->error);
}

/* The next records; fails when none come. */
size_t poll_records(struct seat *s, const struct rv_record **ret_records)
{
    int64_t deadline_ms = clock_mono_ms(&clock_real) + PATIENCE_MS;
    size_t count = 0;
    while (count == 0) {
        if (poll_turn(s, ret_records, &count) != RV_OK ||
            clock_mono_ms(&clock_real) > deadline_ms) {
            fail_msg("no records: %s", s->error.text);
        }
    }
    return count;
}

void apply(struct seat *s, const struct rv_record *records, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct sql_value params[] = {
            sql_number(records[i].partition), sql_number(records[i].offset),
            sql_text((struct str){records[i].value.ptr, records[i].value.size})};
        db_must(&s->db, "INSERT INTO effects VALUES ($1, $2, $3)", params, 3);
    }
}

int batch_end(struct seat *s, enum how how)
{
    switch (how) {
    case GOOD: return rv_store_commit(s->store, &s->error);
    case OWN: {
        int code = rv_store_offsets(s->store, &s->error);
        return code == RV_OK && sql_commit(&s->db.sql) != OK ? RV_STORE_DATABASE : code;
    }
    case FAILED:
        assert_int_not_equal(sql_exec(&s->db.sql, "NONSENSE", NULL, 0, NULL), OK);
        if (!sql_is_postgres(&s->db.sql)) { /* where it does not doom the transaction */
            assert_int_equal(sql_rollback(&s->db.sql), OK);
        }
        return rv_store_commit(s->store, &s->error);
    case OWN_ROLLBACK:
        assert_int_equal(rv_store_offsets(s->store, &s->error), RV_OK);
        assert_int_equal(sql_rollback(&s->db.sql), OK);
        return RV_STORE_DATABASE;
    default: return RV_STORE_DATABASE;
    }
}

/* Records that were polled, done this way. */
int batch_do(struct seat *s, enum how how, const struct rv_record *records, size_t count)
{
    if (how == UNTOUCHED) {
        return s->code = RV_STORE_DATABASE;
    }
    if (how == OWN || how == OWN_ROLLBACK) {
        db_must(&s->db, "BEGIN", NULL, 0);
    } else if (rv_store_begin(s->store, &s->error) != RV_OK) {
        fail_msg("%s", s->error.text);
    }
    apply(s, records, count);
    return s->code = batch_end(s, how);
}

/* Waits for records, does them; how many there were. s->code: how it ended. */
size_t batch(struct seat *s, enum how how)
{
    const struct rv_record *records;
    size_t count = poll_records(s, &records);
    batch_do(s, how, records, count);
    return count;
}

/* Good batches until so many records have had their effect. */
void batches_until(struct room *r, struct seat *s, int64_t effects)
{
    while (db_number(&r->db, "SELECT count(*) FROM effects") < effects) {
        batch(s, GOOD);
        if (s->code != RV_OK) {
            fail_msg("%s", s->error.text);
        }
    }
}

/* ---- what is in the database ---- */

/* So many records had their effect, each once, and those of a partition are all below its row's
 * offset. */
void assert_effects(struct room *r, int64_t count)
{
    assert_int_equal(db_number(&r->db, "SELECT count(*) FROM effects"), count);
    assert_int_equal(db_number(&r->db, "SELECT count(*) FROM (SELECT DISTINCT part, place "
                                       "FROM effects) AS each_once"),
                     count);
    assert_int_equal(db_number(&r->db, "SELECT count(*) FROM effects JOIN rivulet_offsets ON "
                                       "partition_id = part WHERE place >= next_offset"),
                     0);
}

int64_t row(struct room *r, const char *column)
{
    char text[128];
    snprintf(text, sizeof text,
             "SELECT %s FROM rivulet_offsets WHERE group_id = 'g' AND partition_id = 0", column);
    return db_number(&r->db, text);
}

void assert_error(const struct seat *s, int code, const char *words)
{
    assert_int_equal(s->code, code);
    if (!strstr(s->error.text, words)) {
        fail_msg("%s", s->error.text);
    }
}

void group_set(struct room *r, int64_t offset)
{
    struct rv_partition p = {.topic = "t", .offset = offset, .leader_epoch = -1};
    int64_t deadline_ms = clock_mono_ms(&clock_real) + PATIENCE_MS;
    int code;
    do { /* the member that left may be there for a moment yet */
        code = rv_group_set_offsets(r->feeder, "g", &p, 1, PATIENCE_MS, &r->error);
    } while (code != RV_OK && clock_mono_ms(&clock_real) < deadline_ms);
    assert_int_equal(code, RV_OK);
}

/* Errors until one of this code; no records meanwhile. */
void poll_until_error(struct seat *s, int code, const char *words)
{
    int64_t deadline_ms = clock_mono_ms(&clock_real) + PATIENCE_MS;
    do {
        const struct rv_record *records;
        size_t count = 0;
        s->code = poll_turn(s, &records, &count);
        assert_int_equal(count, 0);
        if (clock_mono_ms(&clock_real) > deadline_ms) {
            fail_msg("no error: %s", s->error.text);
        }
    } while (s->code != code);
    assert_error(s, code, words);
}

/* client/store: the same tests on SQLite and on PostgreSQL, with a broker in this process (or the
 * one that tests/kit/outside.h names). Members are driven by turns on one thread. */
#include "client/store/rivulet_store.h"

#include "base/clock.h"
#include "tests/kit/database.h"
#include "tests/kit/feed.h"
#include "tests/kit/local_home.h"
#include "tests/kit/view_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { PATIENCE_MS = 30000, TURN_MS = 20, MEMBERS = 2, OPTIONS_MAX = 20, BUSY_MS = 50 };

struct seat {
    struct rv_client *client;
    struct rv_consumer *consumer;
    struct rv_store *store;
    struct db db;
    int assigned, gone, jumped; /* partitions that events told of */
    struct rv_error error;
    int code; /* of the last batch */
};

struct room {
    struct database *database;
    struct local_home *broker;
    struct rv_client *feeder;
    struct db db; /* not a member's */
    struct seat seats[MEMBERS];
    struct rv_error error;
};

static const char *const room_settings[] = {"group.min.session.timeout.ms=100",
                                            "group.initial.rebalance.delay.ms=0", NULL};

/* ---- the room ---- */

static int postgres_start_one(void **state)
{
    *state = database_create(true);
    return 0;
}

static int sqlite_start(void **state)
{
    *state = database_create(false);
    return 0;
}

static int database_end(void **state)
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

static int room_open(void **state)
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

static void topic_make(struct room *r, int32_t partitions)
{
    if (rv_topic_create(r->feeder, "t", partitions, NULL, PATIENCE_MS, &r->error) != RV_OK) {
        fail_msg("%s", r->error.text);
    }
}

static void stand_up(struct seat *s)
{
    rv_store_close(s->store);
    assert_int_equal(rv_consumer_close(s->consumer, -1, &s->error), RV_OK);
    rv_client_close(s->client);
    db_close(&s->db);
    memset(s, 0, sizeof *s);
}

static int room_close(void **state)
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

static int store_open(struct seat *s, const struct rv_option *options)
{
    return sql_is_postgres(&s->db.sql)
               ? rv_store_open_postgres(s->client, s->consumer, s->db.sql.connection, options,
                                        &s->store, &s->error)
               : rv_store_open_sqlite(s->client, s->consumer, s->db.sql.connection, options,
                                      &s->store, &s->error);
}

/* A member of group g; `more`: options that come before what all have; may be NULL. */
static struct seat *sit(struct room *r, int i, const struct rv_option *more)
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

static int poll_turn(struct seat *s, const struct rv_record **ret_records, size_t *ret_count)
{
    return rv_store_poll(s->store, TURN_MS, ret_records, ret_count, &s->error);
}

/* The next records; fails when none come. */
static size_t poll_records(struct seat *s, const struct rv_record **ret_records)
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

static void apply(struct seat *s, const struct rv_record *records, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct sql_value params[] = {
            sql_number(records[i].partition), sql_number(records[i].offset),
            sql_text((struct str){records[i].value.ptr, records[i].value.size})};
        db_must(&s->db, "INSERT INTO effects VALUES ($1, $2, $3)", params, 3);
    }
}

enum how {
    GOOD,         /* rv_store_begin ... rv_store_commit */
    OWN,          /* a transaction of our own, with rv_store_offsets */
    FORGOTTEN,    /* begun and left so */
    FAILED,       /* a statement fails, and rv_store_commit is called all the same */
    OWN_ROLLBACK, /* rolled back after rv_store_offsets */
    UNTOUCHED,    /* polled and nothing done */
};

static int batch_end(struct seat *s, enum how how)
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
static int batch_do(struct seat *s, enum how how, const struct rv_record *records, size_t count)
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
static size_t batch(struct seat *s, enum how how)
{
    const struct rv_record *records;
    size_t count = poll_records(s, &records);
    batch_do(s, how, records, count);
    return count;
}

/* Good batches until so many records have had their effect. */
static void batches_until(struct room *r, struct seat *s, int64_t effects)
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
static void assert_effects(struct room *r, int64_t count)
{
    assert_int_equal(db_number(&r->db, "SELECT count(*) FROM effects"), count);
    assert_int_equal(db_number(&r->db, "SELECT count(*) FROM (SELECT DISTINCT part, place "
                                       "FROM effects) AS each_once"),
                     count);
    assert_int_equal(db_number(&r->db, "SELECT count(*) FROM effects JOIN rivulet_offsets ON "
                                       "partition_id = part WHERE place >= next_offset"),
                     0);
}

static int64_t row(struct room *r, const char *column)
{
    char text[128];
    snprintf(text, sizeof text,
             "SELECT %s FROM rivulet_offsets WHERE group_id = 'g' AND partition_id = 0", column);
    return db_number(&r->db, text);
}

static void assert_error(const struct seat *s, int code, const char *words)
{
    assert_int_equal(s->code, code);
    if (!strstr(s->error.text, words)) {
        fail_msg("%s", s->error.text);
    }
}

static void group_set(struct room *r, int64_t offset)
{
    struct rv_partition p = {.topic = "t", .offset = offset, .leader_epoch = -1};
    int64_t deadline_ms = clock_mono_ms(&clock_real) + PATIENCE_MS;
    int code;
    do { /* the member that left may be there for a moment yet */
        code = rv_group_set_offsets(r->feeder, "g", &p, 1, PATIENCE_MS, &r->error);
    } while (code != RV_OK && clock_mono_ms(&clock_real) < deadline_ms);
    assert_int_equal(code, RV_OK);
}

/* ---- tests ---- */

static void a_new_store_begins_where_the_group_had_got(void **state)
{
    struct room *r = *state;
    topic_make(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 10);
    group_set(r, 4);
    struct seat *s = sit(r, 0, NULL);
    batches_until(r, s, 6);
    assert_effects(r, 6);
    assert_int_equal(db_number(&r->db, "SELECT min(place) FROM effects"), 4);
    assert_int_equal(row(r, "next_offset"), 10);
    assert_int_equal(row(r, "owner_epoch"), 1);
}

static void it_goes_on_from_the_table_whatever_the_broker_has(void **state)
{
    struct room *r = *state;
    topic_make(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 10);
    struct seat *s = sit(r, 0, NULL);
    batches_until(r, s, 10);
    stand_up(s);
    group_set(r, 2);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 10, 5);
    s = sit(r, 0, NULL);
    batches_until(r, s, 15);
    assert_effects(r, 15);
    assert_int_equal(row(r, "next_offset"), 15);
    assert_int_equal(row(r, "owner_epoch"), 2);
}

static void what_was_not_committed_comes_again(void **state)
{
    struct room *r = *state;
    topic_make(r, 2);
    struct seat *s = sit(r, 0, RV_OPTIONS({"max.poll.records", "3"}));
    int fed = 0;
    for (int round = 0; round < 2; round++) { /* with nothing stored, and with something */
        for (enum how how = FORGOTTEN; how <= UNTOUCHED; how++) {
            feed_numbers(r->feeder, "t", 0, CODEC_NONE, fed, 5);
            feed_numbers(r->feeder, "t", 1, CODEC_NONE, fed, 5);
            int64_t before = db_number(&r->db, "SELECT count(*) FROM effects");
            batch(s, how);
            assert_int_not_equal(s->code, RV_OK);
            if (how != FORGOTTEN || sql_is_postgres(&s->db.sql)) { /* SQLite: locked by it */
                assert_int_equal(db_number(&r->db, "SELECT count(*) FROM effects"), before);
            }
            fed += 5;
            if (round > 0 || how == UNTOUCHED) {
                batches_until(r, s, 2 * fed);
                assert_effects(r, 2 * fed);
            }
        }
    }
}

static void what_was_not_committed_comes_again_with_latest(void **state)
{
    struct room *r = *state;
    const struct rv_record *records;
    size_t count;
    topic_make(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 5);
    struct seat *s = sit(r, 0, RV_OPTIONS({"auto.offset.reset", "latest"}));
    const struct rv_partition *assigned;
    int64_t deadline_ms = clock_mono_ms(&clock_real) + PATIENCE_MS;
    while (rv_assignment(s->consumer, &assigned) == 0 || assigned[0].offset < 0) {
        assert_int_equal(poll_turn(s, &records, &count), RV_OK);
        assert_true(clock_mono_ms(&clock_real) < deadline_ms);
    }
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 5, 5);
    batch(s, UNTOUCHED);
    batch(s, FORGOTTEN);
    batches_until(r, s, 5);
    assert_effects(r, 5);
    assert_int_equal(db_number(&r->db, "SELECT min(place) FROM effects"), 5);
}

static void a_transaction_of_the_service_is_read_back(void **state)
{
    struct room *r = *state;
    topic_make(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 9);
    struct seat *s = sit(r, 0, RV_OPTIONS({"max.poll.records", "3"}));
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(batch(s, OWN), 3);
        assert_int_equal(s->code, RV_OK);
        assert_int_equal(row(r, "next_offset"), 3 * i);
        assert_effects(r, 3 * i);
    }
}

/* One who ignores what he is told: what is in the open transaction must not get in. */
static void commit_anyhow(struct seat *s)
{
    sql_exec(&s->db.sql, "COMMIT", NULL, 0, NULL);
}

static void who_was_fenced_cannot_commit(void **state)
{
    struct room *r = *state;
    topic_make(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 5);
    struct seat *s = sit(r, 0, NULL);
    const struct rv_record *records;
    for (int i = 0; i < 2; i++) { /* with nothing stored, and with something */
        size_t count = poll_records(s, &records);
        db_must(&r->db, "UPDATE rivulet_offsets SET owner_epoch = owner_epoch + 1", NULL, 0);
        enum how how = i == 0 ? GOOD : OWN;
        batch_do(s, how, records, count);
        assert_error(s, RV_STORE_FENCED, "another consumer has taken it over");
        commit_anyhow(s);
        assert_int_equal(db_number(&r->db, "SELECT count(*) FROM effects"), 5 * i);
        /* The broker says that we are the member after all: back, with a new epoch. */
        batches_until(r, s, 5 * (i + 1));
        assert_effects(r, 5 * (i + 1));
        assert_int_equal(row(r, "owner_epoch"), 3 + 2 * i);
        feed_numbers(r->feeder, "t", 0, CODEC_NONE, 5, 5);
    }
}

static void an_offset_that_was_moved_is_found_out(void **state)
{
    struct room *r = *state;
    topic_make(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 5);
    struct seat *s = sit(r, 0, NULL);
    batches_until(r, s, 5);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 5, 5);
    db_must(&r->db, "UPDATE rivulet_offsets SET next_offset = 7", NULL, 0);
    batch(s, GOOD);
    assert_error(s, RV_STORE_FENCED, "not the one that this consumer went on from");
    batches_until(r, s, 8);
    assert_effects(r, 8);
    assert_int_equal(db_number(&r->db, "SELECT count(*) FROM effects WHERE place < 7"), 5);
}

static void a_row_that_has_gone_is_found_out(void **state)
{
    struct room *r = *state;
    topic_make(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 5);
    struct seat *s = sit(r, 0, NULL);
    const struct rv_record *records;
    size_t count = poll_records(s, &records);
    db_must(&r->db, "DELETE FROM rivulet_offsets", NULL, 0);
    batch_do(s, OWN, records, count);
    assert_error(s, RV_STORE_FENCED, "its row is gone");
    commit_anyhow(s);
    assert_int_equal(db_number(&r->db, "SELECT count(*) FROM effects"), 0);
    batches_until(r, s, 5);
    assert_effects(r, 5);
}

static void a_group_is_made_to_read_again_while_it_runs(void **state)
{
    struct room *r = *state;
    topic_make(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 5);
    struct seat *s = sit(r, 0, NULL);
    batches_until(r, s, 5);
    db_must(&r->db, "DELETE FROM effects", NULL, 0);
    db_must(&r->db, "UPDATE rivulet_offsets SET next_offset = 1, owner_epoch = owner_epoch + 1",
            NULL, 0);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 5, 1);
    batch(s, GOOD);
    assert_int_equal(s->code, RV_STORE_FENCED);
    batches_until(r, s, 5);
    assert_effects(r, 5);
    assert_int_equal(db_number(&r->db, "SELECT min(place) FROM effects"), 1);
}

static void records_of_a_bare_poll_are_not_taken_for_stored(void **state)
{
    struct room *r = *state;
    topic_make(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 6);
    struct seat *s = sit(r, 0, RV_OPTIONS({"max.poll.records", "3"}));
    for (int i = 0; i < 2; i++) { /* with nothing stored, and with something */
        const struct rv_record *records;
        size_t count;
        assert_int_equal(rv_poll(s->consumer, PATIENCE_MS, &records, &count, &s->error), RV_OK);
        assert_int_equal(count, 3);
        batch_do(s, OWN, records, count);
        assert_error(s, RV_E_STATE, "positions");
        commit_anyhow(s);
        batches_until(r, s, 3 * (i + 1));
        assert_effects(r, 3 * (i + 1));
    }
}

/* Errors until one of this code; no records meanwhile. */
static void poll_until_error(struct seat *s, int code, const char *words)
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

static void a_log_that_was_replaced_is_not_read_as_the_old_one(void **state)
{
    struct room *r = *state;
    topic_make(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 5);
    struct seat *s = sit(r, 0, NULL);
    batches_until(r, s, 5);
    assert_true(row(r, "leader_epoch") >= 0);
    stand_up(s);
    db_must(&r->db, "UPDATE rivulet_offsets SET leader_epoch = 1000000", NULL, 0);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 5, 5);
    s = sit(r, 0, NULL);
    for (int i = 0; i < 2; i++) { /* and it stays so */
        poll_until_error(s, RV_STORE_REPLACED, "does not know leader epoch 1000000");
        assert_effects(r, 5);
    }
}

/* ---- logs that were replaced ---- */

/* A topic of two partitions with 10 records each, all read; partition 0 got the second half after
 * the backup. */
static struct seat *read_past_the_backup(struct room *r, const struct rv_option *options)
{
    topic_make(r, 2);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 5);
    feed_numbers(r->feeder, "t", 1, CODEC_NONE, 0, 10);
    if (!local_home_keep(r->broker)) {
        skip(); /* of another broker's data nobody here knows */
    }
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 5, 5);
    struct seat *s = sit(r, 0, options);
    batches_until(r, s, 20);
    return s;
}

/* A person says where to go on. */
static void go_on_at(struct room *r, int64_t offset)
{
    char text[160];
    snprintf(text, sizeof text,
             "UPDATE rivulet_offsets SET next_offset = %lld, leader_epoch = -1, owner_epoch = "
             "owner_epoch + 1 WHERE partition_id = 0",
             (long long)offset);
    db_must(&r->db, text, NULL, 0);
}

static void a_log_that_was_set_back_is_told_of(void **state)
{
    struct room *r = *state;
    struct seat *s = read_past_the_backup(r, NULL);
    stand_up(s);
    local_home_set_back(r->broker);
    s = sit(r, 0, NULL);
    poll_until_error(s, RV_STORE_REPLACED, "topic t partition 0 is not the log that was read");
    assert_error(s, RV_STORE_REPLACED, "ends at offset 5");
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 100, 3);
    poll_until_error(s, RV_STORE_REPLACED, "store.replaced=follow"); /* and it stays so */
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 103, 3);
    assert_effects(r, 20);
    go_on_at(r, 5);
    batches_until(r, s, 26);
    assert_int_equal(db_number(&r->db, "SELECT count(*) FROM effects WHERE length(value) = 3"), 6);
    assert_int_equal(row(r, "next_offset"), 11);
}

/* A longer log, so that the stored offset is one of it. */
static void offsets_that_were_written_again_are_told_of(void **state)
{
    struct room *r = *state;
    struct seat *s = read_past_the_backup(r, NULL);
    stand_up(s);
    local_home_set_back(r->broker);
    local_home_restart(r->broker); /* or it would count its epochs as before */
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 100, 20);
    s = sit(r, 0, NULL);
    poll_until_error(s, RV_STORE_REPLACED, "ends at offset 5");
    assert_effects(r, 20);
}

static void a_log_that_is_set_back_while_it_is_read_is_told_of(void **state)
{
    struct room *r = *state;
    struct seat *s = read_past_the_backup(r, NULL);
    local_home_set_back(r->broker);
    poll_until_error(s, RV_STORE_REPLACED, "ends at offset 5");
    assert_effects(r, 20);
}

static void a_log_that_was_set_back_is_followed_where_it_parts(void **state)
{
    struct room *r = *state;
    const struct rv_option *options =
        RV_OPTIONS({"store.replaced", "follow"}, {"max.poll.records", "5"});
    struct seat *s = read_past_the_backup(r, options);
    stand_up(s);
    local_home_set_back(r->broker);
    local_home_restart(r->broker);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 100, 5); /* up to the stored offset again */
    s = sit(r, 0, options);
    assert_int_equal(batch(s, UNTOUCHED), 5);
    assert_int_equal(batch(s, GOOD), 5);
    assert_int_equal(s->code, RV_OK);
    assert_true(s->jumped > 0);
    assert_int_equal(db_number(&r->db, "SELECT count(*) FROM effects"), 25);
    assert_int_equal(db_number(&r->db, "SELECT count(*) FROM effects WHERE length(value) = 3"), 5);
    stand_up(s);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 105, 5);
    s = sit(r, 0, NULL); /* and that is what is stored now */
    batches_until(r, s, 30);
    assert_int_equal(row(r, "next_offset"), 15);
}

static void topic_make_again(struct room *r, int32_t partitions)
{
    if (rv_topic_delete(r->feeder, "t", PATIENCE_MS, &r->error) != RV_OK) {
        fail_msg("%s", r->error.text);
    }
    int64_t deadline_ms = clock_mono_ms(&clock_real) + PATIENCE_MS;
    while (rv_topic_create(r->feeder, "t", partitions, NULL, PATIENCE_MS, &r->error) != RV_OK) {
        assert_true(clock_mono_ms(&clock_real) < deadline_ms); /* Kafka takes its time */
    }
}

static void a_topic_that_was_made_again_is_told_of(void **state)
{
    struct room *r = *state;
    topic_make(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 5);
    struct seat *s = sit(r, 0, NULL);
    batches_until(r, s, 5);
    stand_up(s);
    topic_make_again(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 100, 8);
    s = sit(r, 0, NULL);
    for (int i = 0; i < 2; i++) {
        poll_until_error(s, RV_STORE_REPLACED, "the topic was deleted and made again");
    }
    assert_effects(r, 5);
    go_on_at(r, 0);
    batches_until(r, s, 13);
}

static void a_topic_that_was_made_again_is_followed_from_its_start(void **state)
{
    struct room *r = *state;
    const struct rv_option *options = RV_OPTIONS({"store.replaced", "follow"});
    topic_make(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 5);
    struct seat *s = sit(r, 0, options);
    batches_until(r, s, 5);
    stand_up(s);
    topic_make_again(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 100, 8);
    s = sit(r, 0, options);
    batches_until(r, s, 13);
    assert_int_equal(s->jumped, 1);
    assert_int_equal(db_number(&r->db, "SELECT count(*) FROM effects WHERE length(value) = 3"), 8);
    topic_make_again(r, 1); /* while it is read */
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 200, 3);
    batches_until(r, s, 16);
    assert_int_equal(row(r, "next_offset"), 3);
}

static void log_start_move(struct room *r, int64_t to)
{
    static struct feeding f;
    f.client = r->feeder;
    f.topic = "t";
    feed_cut(&f, 0, to);
}

/* What retention has removed is no other log. */
static void a_log_that_starts_behind_what_was_read_is_the_same(void **state)
{
    struct room *r = *state;
    topic_make(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 10);
    struct seat *s = sit(r, 0, RV_OPTIONS({"max.poll.records", "5"}));
    assert_int_equal(batch(s, GOOD), 5);
    stand_up(s);
    local_home_restart(r->broker);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 10, 10);
    log_start_move(r, 15);
    s = sit(r, 0, NULL);
    batches_until(r, s, 10);
    assert_int_equal(s->jumped, 1);
    stand_up(s);
    log_start_move(r, 20); /* nothing is left */
    local_home_restart(r->broker);
    s = sit(r, 0, NULL);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 20, 5);
    batches_until(r, s, 15);
    assert_int_equal(s->jumped, 0);
}

static void a_table_of_before_gets_its_column(void **state)
{
    struct room *r = *state;
    topic_make(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 5);
    struct seat *s = sit(r, 0, NULL);
    batches_until(r, s, 5);
    stand_up(s);
    db_must(&r->db, "ALTER TABLE rivulet_offsets DROP COLUMN topic_id", NULL, 0);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 5, 5);
    s = sit(r, 0, NULL);
    batches_until(r, s, 10);
    assert_effects(r, 10);
    assert_int_equal(
        db_number(&r->db, "SELECT count(*) FROM rivulet_offsets WHERE length(topic_id) = 22"), 1);
}

/* The zombie: a member that does nothing for longer than its session, and then goes on. */
static void a_zombie_cannot_commit_and_does_not_take_back(void **state)
{
    struct room *r = *state;
    const struct rv_record *records, *others;
    size_t count, other_count;
    topic_make(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 5);
    struct seat *zombie = sit(r, 0, RV_OPTIONS({"session.timeout.ms", "300"}));
    batches_until(r, zombie, 5);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 5, 5);
    count = poll_records(zombie, &records);
    struct seat *heir = sit(r, 1, NULL);
    batches_until(r, heir, 10);
    assert_effects(r, 10);
    int64_t epoch = row(r, "owner_epoch");
    batch_do(zombie, OWN, records, count);
    assert_error(zombie, RV_STORE_FENCED, "another consumer has taken it over");
    commit_anyhow(zombie);
    assert_effects(r, 10);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 10, 5);
    other_count = poll_records(heir, &others);
    int64_t deadline_ms = clock_mono_ms(&clock_real) + PATIENCE_MS;
    while (zombie->gone == 0) { /* it does not know yet, then it is told */
        assert_int_equal(row(r, "owner_epoch"), epoch);
        poll_turn(zombie, &records, &count);
        assert_int_equal(count, 0);
        assert_true(clock_mono_ms(&clock_real) < deadline_ms);
    }
    assert_int_equal(row(r, "owner_epoch"), epoch);
    batch_do(heir, GOOD, others, other_count);
    assert_int_equal(heir->code, RV_OK);
    assert_effects(r, 15);
}

/* One turn of each that is there. */
static void turn_all(struct room *r)
{
    for (int i = 0; i < MEMBERS; i++) {
        struct seat *s = &r->seats[i];
        const struct rv_record *records;
        size_t count = 0;
        if (s->client && poll_turn(s, &records, &count) == RV_OK && count) {
            batch_do(s, i ? OWN : GOOD, records, count);
        }
    }
}

/* A second member comes and goes while records come. */
static void partitions_change_hands_without_loss_or_repeat(void **state)
{
    enum { PARTITIONS = 4, FED_TURNS = 12, COMES = 3, GOES = 2 };
    struct room *r = *state;
    static const char *const assignors[] = {"range", "cooperative-sticky"};
    int fed = 0;
    topic_make(r, PARTITIONS);
    for (int i = 0; i < 2; i++) {
        const struct rv_option *options =
            RV_OPTIONS({"partition.assignment.strategy", assignors[i]}, {"max.poll.records", "4"});
        int64_t deadline_ms = clock_mono_ms(&clock_real) + PATIENCE_MS;
        sit(r, 0, options);
        for (int turn = 0; turn < FED_TURNS || db_number(&r->db, "SELECT count(*) FROM effects") <
                                                   (int64_t)PARTITIONS * fed;
             turn++) {
            for (int32_t p = 0; turn < FED_TURNS && p < PARTITIONS; p++) {
                feed_numbers(r->feeder, "t", p, CODEC_NONE, fed, 3);
            }
            fed += turn < FED_TURNS ? 3 : 0;
            if (turn == COMES) {
                sit(r, 1, options);
            } else if (turn == FED_TURNS + GOES) {
                stand_up(&r->seats[1]);
            }
            turn_all(r);
            assert_true(clock_mono_ms(&clock_real) < deadline_ms);
        }
        assert_effects(r, PARTITIONS * fed);
        stand_up(&r->seats[0]);
        if (r->seats[1].client) {
            stand_up(&r->seats[1]);
        }
    }
}

static int64_t group_offset(struct room *r)
{
    struct rv_group *g;
    assert_int_equal(rv_group_describe(r->feeder, "g", PATIENCE_MS, &g, &r->error), RV_OK);
    int64_t offset = g->partition_count ? g->partitions[0].committed_offset : -1;
    rv_free(g);
    return offset;
}

static void the_broker_is_told_what_was_stored(void **state)
{
    struct room *r = *state;
    const struct rv_record *records;
    size_t count;
    topic_make(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 6);
    struct seat *s = sit(r, 0, RV_OPTIONS({"max.poll.records", "3"}));
    batch(s, GOOD);
    int64_t deadline_ms = clock_mono_ms(&clock_real) + PATIENCE_MS;
    do { /* what was polled and not stored is not told */
        assert_int_equal(poll_turn(s, &records, &count), RV_OK);
        assert_true(clock_mono_ms(&clock_real) < deadline_ms);
    } while (group_offset(r) != 3);
    batches_until(r, s, 6);
    stand_up(s); /* the last one, too */
    assert_int_equal(group_offset(r), 6);
}

static void events_are_passed_on(void **state)
{
    struct room *r = *state;
    topic_make(r, 2);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 5);
    struct seat *s = sit(r, 0, NULL);
    batches_until(r, s, 5);
    assert_int_equal(s->assigned, 2);
    stand_up(s);
    /* A place that is not there: the jump is told, and what is stored goes along. */
    db_must(&r->db,
            "UPDATE rivulet_offsets SET next_offset = 500, leader_epoch = -1 WHERE partition_id = "
            "0",
            NULL, 0);
    s = sit(r, 0, NULL);
    db_must(&r->db, "DELETE FROM effects", NULL, 0);
    batches_until(r, s, 5);
    assert_int_equal(s->jumped, 1);
    assert_int_equal(row(r, "next_offset"), 5);
}

static void a_locked_row_is_waited_for_and_taken_later(void **state)
{
    struct room *r = *state;
    const struct rv_record *records;
    size_t count = 0;
    topic_make(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 5);
    struct seat *s = sit(r, 0, NULL);
    batches_until(r, s, 5);
    stand_up(s);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 5, 5);
    s = sit(r, 0, NULL);
    /* A transaction of the owner before that has stored and not ended. */
    db_must(&r->db, "BEGIN", NULL, 0);
    db_must(&r->db, "UPDATE rivulet_offsets SET next_offset = 7", NULL, 0);
    int64_t deadline_ms = clock_mono_ms(&clock_real) + PATIENCE_MS;
    while (poll_turn(s, &records, &count) == RV_OK) {
        assert_int_equal(count, 0);
        assert_true(clock_mono_ms(&clock_real) < deadline_ms);
    }
    assert_int_equal(s->error.code, RV_STORE_DATABASE);
    assert_int_equal(s->error.flags, RV_RETRIABLE);
    db_must(&r->db, "COMMIT", NULL, 0);
    while (poll_turn(s, &records, &count) != RV_OK || count == 0) {
        assert_true(clock_mono_ms(&clock_real) < deadline_ms);
    }
    assert_int_equal(records[0].offset, 7);
    assert_int_equal(batch_do(s, GOOD, records, count), RV_OK);
    assert_effects(r, 8);
}

static void misuse_is_refused(void **state)
{
    struct room *r = *state;
    const struct rv_record *records;
    size_t count;
    topic_make(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 5);
    struct seat *s = sit(r, 0, NULL);
    struct rv_store *store = s->store;
    assert_int_equal(store_open(s, RV_OPTIONS({"client.id", "x"})), RV_E_OPTION);
    assert_int_equal(store_open(s, RV_OPTIONS({"group.id", "g"}, {"delivery", "at-least-once"})),
                     RV_E_OPTION);
    assert_int_equal(store_open(s, RV_OPTIONS({"group.id", "g"}, {"store.replaced", "x"})),
                     RV_E_OPTION);
    assert_true(s->store == store);
    assert_int_equal(rv_store_open_sqlite(s->client, s->consumer, NULL,
                                          RV_OPTIONS({"group.id", "g"}), &s->store, &s->error),
                     database_has_sqlite() ? RV_E_ARGUMENT : RV_E_VERSION);
    assert_int_equal(rv_store_offsets(s->store, &s->error), RV_E_STATE);
    assert_int_equal(rv_store_commit(s->store, &s->error), RV_E_STATE);
    db_must(&s->db, "BEGIN", NULL, 0);
    assert_int_equal(rv_store_begin(s->store, &s->error), RV_STORE_DATABASE);
    assert_int_equal(poll_turn(s, &records, &count), RV_E_STATE);
    db_must(&s->db, "COMMIT", NULL, 0);
    /* Offsets with nothing to store are no error, and nothing. */
    db_must(&s->db, "BEGIN", NULL, 0);
    assert_int_equal(rv_store_offsets(s->store, &s->error), RV_OK);
    db_must(&s->db, "COMMIT", NULL, 0);
    batches_until(r, s, 5);
    assert_effects(r, 5);
    rv_store_close(NULL);
}

/* A partition goes while its records are in a transaction. */
static void what_left_in_the_middle_is_not_stored(void **state)
{
    struct room *r = *state;
    const struct rv_record *records;
    topic_make(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 5);
    struct seat *s = sit(r, 0, NULL);
    size_t count = poll_records(s, &records);
    db_must(&s->db, "BEGIN", NULL, 0);
    apply(s, records, count);
    assert_int_equal(rv_subscribe(s->consumer, NULL, 0, &s->error), RV_OK);
    s->code = rv_store_offsets(s->store, &s->error);
    assert_error(s, RV_STORE_FENCED, "has gone");
    commit_anyhow(s);
    assert_int_equal(db_number(&r->db, "SELECT count(*) FROM effects"), 0);
    assert_int_equal(rv_subscribe(s->consumer, (const char *[]){"t"}, 1, &s->error), RV_OK);
    batches_until(r, s, 5);
    assert_effects(r, 5);
}

/* ---- PostgreSQL only ---- */

/* Ends every connection but this one. */
static void backends_end(struct room *r)
{
    db_must(&r->db,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> "
            "pg_backend_pid() AND backend_type = 'client backend'",
            NULL, 0);
}

static void a_lost_connection_costs_nothing(void **state)
{
    struct room *r = *state;
    const struct rv_record *records;
    size_t count;
    topic_make(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 9);
    struct seat *s = sit(r, 0, RV_OPTIONS({"max.poll.records", "3"}));
    batch(s, GOOD);
    count = poll_records(s, &records);
    assert_int_equal(rv_store_begin(s->store, &s->error), RV_OK);
    apply(s, records, count);
    backends_end(r);
    s->code = rv_store_commit(s->store, &s->error);
    assert_int_equal(s->code, RV_STORE_DATABASE);
    assert_int_equal(s->error.flags, RV_UNSURE);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(poll_turn(s, &records, &count), RV_STORE_DATABASE);
        assert_int_equal(count, 0);
    }
    db_reconnect(&s->db);
    batches_until(r, s, 9);
    assert_effects(r, 9);
}

/* Committed, and the answer lost: it must not be done again. */
static void a_commit_that_was_done_and_not_heard_of_is_found(void **state)
{
    struct room *r = *state;
    topic_make(r, 1);
    feed_numbers(r->feeder, "t", 0, CODEC_NONE, 0, 6);
    struct seat *s = sit(r, 0, RV_OPTIONS({"max.poll.records", "3"}));
    const struct rv_record *records;
    size_t count = poll_records(s, &records);
    assert_int_equal(rv_store_begin(s->store, &s->error), RV_OK);
    apply(s, records, count);
    assert_int_equal(rv_store_offsets(s->store, &s->error), RV_OK);
    db_must(&s->db, "COMMIT", NULL, 0);
    backends_end(r);
    assert_int_not_equal(rv_store_commit(s->store, &s->error), RV_OK);
    assert_int_equal(poll_turn(s, &records, &count), RV_STORE_DATABASE);
    db_reconnect(&s->db);
    batches_until(r, s, 6);
    assert_effects(r, 6);
}

#define ON(database, test)                                                                         \
    {                                                                                              \
        .name = #database "." #test, .test_func = (test), .setup_func = room_open,                 \
        .teardown_func = room_close                                                                \
    }
#define ON_ANY(database)                                                                           \
    ON(database, a_new_store_begins_where_the_group_had_got),                                      \
        ON(database, it_goes_on_from_the_table_whatever_the_broker_has),                           \
        ON(database, what_was_not_committed_comes_again),                                          \
        ON(database, what_was_not_committed_comes_again_with_latest),                              \
        ON(database, a_transaction_of_the_service_is_read_back),                                   \
        ON(database, who_was_fenced_cannot_commit),                                                \
        ON(database, an_offset_that_was_moved_is_found_out),                                       \
        ON(database, a_row_that_has_gone_is_found_out),                                            \
        ON(database, a_group_is_made_to_read_again_while_it_runs),                                 \
        ON(database, records_of_a_bare_poll_are_not_taken_for_stored),                             \
        ON(database, a_log_that_was_replaced_is_not_read_as_the_old_one),                          \
        ON(database, a_log_that_was_set_back_is_told_of),                                          \
        ON(database, offsets_that_were_written_again_are_told_of),                                 \
        ON(database, a_log_that_is_set_back_while_it_is_read_is_told_of),                          \
        ON(database, a_log_that_was_set_back_is_followed_where_it_parts),                          \
        ON(database, a_topic_that_was_made_again_is_told_of),                                      \
        ON(database, a_topic_that_was_made_again_is_followed_from_its_start),                      \
        ON(database, a_log_that_starts_behind_what_was_read_is_the_same),                          \
        ON(database, a_table_of_before_gets_its_column),                                           \
        ON(database, a_zombie_cannot_commit_and_does_not_take_back),                               \
        ON(database, partitions_change_hands_without_loss_or_repeat),                              \
        ON(database, the_broker_is_told_what_was_stored), ON(database, events_are_passed_on),      \
        ON(database, a_locked_row_is_waited_for_and_taken_later), ON(database, misuse_is_refused), \
        ON(database, what_left_in_the_middle_is_not_stored)

int main(void)
{
    int failed = 0;
    const struct CMUnitTest on_sqlite[] = {ON_ANY(sqlite)};
    const struct CMUnitTest on_postgres[] = {
        ON_ANY(postgres), ON(postgres, a_lost_connection_costs_nothing),
        ON(postgres, a_commit_that_was_done_and_not_heard_of_is_found)};
    if (database_has_sqlite()) {
        failed += cmocka_run_group_tests_name("sqlite", on_sqlite, sqlite_start, database_end);
    }
    if (database_has_postgres()) {
        failed +=
            cmocka_run_group_tests_name("postgres", on_postgres, postgres_start_one, database_end);
    }
    return failed;
}

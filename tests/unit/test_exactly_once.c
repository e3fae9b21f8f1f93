/* client/store: the same tests on SQLite and on PostgreSQL, with a broker in this process (or the
 * one that tests/kit/outside.h names). Members are driven by turns on one thread. */
#include "tests/kit/store_room.h"

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

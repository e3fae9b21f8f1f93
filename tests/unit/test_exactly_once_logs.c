/* client/store and logs that were replaced: a broker that was set back to an older copy of its data,
 * a topic that was made again; and logs that only begin later. On SQLite and on PostgreSQL. */
#include "tests/kit/store_room.h"
#include "tests/kit/view_kit.h"

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

#define ON_ANY(database)                                                                           \
    ON(database, a_log_that_was_replaced_is_not_read_as_the_old_one),                              \
        ON(database, a_log_that_was_set_back_is_told_of),                                          \
        ON(database, offsets_that_were_written_again_are_told_of),                                 \
        ON(database, a_log_that_is_set_back_while_it_is_read_is_told_of),                          \
        ON(database, a_log_that_was_set_back_is_followed_where_it_parts),                          \
        ON(database, a_topic_that_was_made_again_is_told_of),                                      \
        ON(database, a_topic_that_was_made_again_is_followed_from_its_start),                      \
        ON(database, a_log_that_starts_behind_what_was_read_is_the_same),                          \
        ON(database, a_table_of_before_gets_its_column)

int main(void)
{
    int failed = 0;
    const struct CMUnitTest on_sqlite[] = {ON_ANY(sqlite)};
    const struct CMUnitTest on_postgres[] = {ON_ANY(postgres)};
    if (database_has_sqlite()) {
        failed += cmocka_run_group_tests_name("sqlite", on_sqlite, sqlite_start, database_end);
    }
    if (database_has_postgres()) {
        failed +=
            cmocka_run_group_tests_name("postgres", on_postgres, postgres_start_one, database_end);
    }
    return failed;
}

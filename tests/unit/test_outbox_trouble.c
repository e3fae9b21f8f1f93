/* The outbox where something cannot be sent, and what else a relay promises: nothing is dropped,
 * nothing of a key is overtaken, the rest goes on, and people see it and can mend it. */
#include "client/outbox/rivulet_outbox.h"
#include "protocol/error.h"
#include "tests/kit/outbox_room.h"

#include <pthread.h>

enum { LARGE = 3000 };

static void test_a_refused_record_holds_up_its_key_and_nothing_else(void **state)
{
    struct room r = room_begin(*state, RV_OPTIONS({"outbox.poll.ms", "1"}));
    char topic[64];
    static char large[LARGE];
    struct rv_error e = {0};
    memset(large, 'x', sizeof large);
    topic_make(&r, "large", RV_OPTIONS({"max.message.bytes", "1000"}), topic);
    add(&r, topic, "a", rv_str("a1"));
    add(&r, topic, "b", rv_str("b1"));
    add(&r, topic, "a", (struct rv_bytes){large, sizeof large});
    add(&r, topic, "b", rv_str("b2"));
    add(&r, topic, "a", rv_str("a3"));
    relay(&r);
    add(&r, topic, "a", rv_str("a4"));
    add(&r, topic, "b", rv_str("b3"));
    relay(&r);
    assert_topic(&r, topic, "a1 b1 b2 b3");
    struct seen s = troubles(&r);
    assert_int_equal(s.count, 1);
    assert_int_equal(s.of[0].kind, RV_OUTBOX_KEY);
    assert_int_equal(s.of[0].rows, 3);
    assert_string_equal(s.keys[0], "a");
    assert_non_null(strstr(s.reasons[0], "MESSAGE_TOO_LARGE"));
    struct rv_outbox_status status;
    outbox_must(rv_outbox_status(r.outbox, &status, &e), &e);
    assert_int_equal(status.rows, 3);
    assert_int_equal(status.waiting, 3);
    assert_true(status.lease_left_ms > 0);
    assert_true(status.relay[0]);
    outbox_must(rv_config_set(r.client, RV_TOPIC, topic,
                              RV_OPTIONS({"max.message.bytes", "100000"}), OUTBOX_WAIT_MS, &e),
                &e);
    assert_int_equal(retry(&r, "another"), 0);
    assert_int_equal(troubles(&r).count, 1);
    assert_int_equal(retry(&r, topic), 3);
    relay(&r);
    assert_topic(&r, topic, "a1 b1 b2 b3 large a3 a4");
    assert_int_equal(troubles(&r).count, 0);
    room_end(&r);
}

/* Without a key there is nothing behind it. */
static void test_refused_records_without_a_key_hold_up_nothing(void **state)
{
    struct room r = room_begin(*state, NULL);
    char topic[64];
    static char large[LARGE];
    memset(large, 'x', sizeof large);
    topic_make(&r, "keyless", RV_OPTIONS({"max.message.bytes", "1000"}), topic);
    add(&r, topic, NULL, rv_str("1"));
    add(&r, topic, NULL, (struct rv_bytes){large, sizeof large});
    add(&r, topic, NULL, rv_str("2"));
    char text[256];
    snprintf(text, sizeof text,
             "INSERT INTO rivulet_outbox (topic, value, headers) VALUES ('%s', 'x', "
             "'{\"not\":\"pairs\"}')",
             topic);
    outbox_run(&r.conns[1], text);
    relay(&r);
    add(&r, topic, NULL, rv_str("3"));
    relay(&r);
    assert_topic(&r, topic, "1 2 3");
    struct seen s = troubles(&r);
    assert_int_equal(s.count, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(s.of[i].kind, RV_OUTBOX_ROW);
        assert_int_equal(s.of[i].rows, 1);
    }
    room_end(&r);
}

static void test_a_topic_that_is_not_there_waits_and_goes_when_it_is(void **state)
{
    struct room r = room_begin(*state, NULL);
    char topic[64], missing[64];
    struct rv_error e = {0};
    topic_make(&r, "there", NULL, topic);
    snprintf(missing, sizeof missing, "missing-%s", r.w->server ? "postgres" : "sqlite");
    add(&r, missing, "a", rv_str("m1"));
    add(&r, missing, "b", rv_str("m2"));
    add(&r, topic, "a", rv_str("t1"));
    relay(&r);
    add(&r, missing, "a", rv_str("m3"));
    add(&r, topic, "a", rv_str("t2"));
    relay(&r);
    assert_topic(&r, topic, "t1 t2");
    struct seen s = troubles(&r);
    assert_int_equal(s.count, 1);
    assert_int_equal(s.of[0].kind, RV_OUTBOX_TOPIC);
    assert_int_equal(s.of[0].rows, 3);
    outbox_must(rv_topic_create(r.client, missing, 1, NULL, OUTBOX_WAIT_MS, &e), &e);
    while (troubles(&r).count > 0) { /* nobody has to say anything */
        relay(&r);
    }
    relay(&r);
    assert_topic(&r, missing, "m1 m2 m3");
    /* And one that goes away after it was there. */
    outbox_must(rv_topic_delete(r.client, missing, OUTBOX_WAIT_MS, &e), &e);
    add(&r, missing, "a", rv_str("m4"));
    add(&r, topic, "a", rv_str("t3"));
    relay(&r);
    assert_topic(&r, topic, "t1 t2 t3");
    s = troubles(&r);
    assert_int_equal(s.count, 1);
    assert_int_equal(s.of[0].kind, RV_OUTBOX_TOPIC);
    outbox_must(rv_topic_create(r.client, missing, 1, NULL, OUTBOX_WAIT_MS, &e), &e);
    assert_int_equal(retry(&r, NULL), 1);
    relay(&r);
    assert_topic(&r, missing, "m4");
    room_end(&r);
}

/* ---- what nobody can know */

/* A batch of `topic` of which nobody can know whether it was stored: its place in the log is gone.
 */
static void make_unknowable(struct room *r, const char *topic)
{
    struct rv_error e = {0};
    relay_in_vain(r, lose_answers);
    outbox_must(rv_topic_delete(r->client, topic, OUTBOX_WAIT_MS, &e), &e);
    outbox_must(rv_topic_create(r->client, topic, 1, NULL, OUTBOX_WAIT_MS, &e), &e);
}

static void test_what_nobody_can_know_is_a_persons_to_settle(void **state)
{
    struct room r = room_begin(*state, NULL);
    struct rv_error e = {0};
    char topic[64], other[64];
    int64_t rows;
    topic_make(&r, "unknowable", NULL, topic);
    topic_make(&r, "goes-on", NULL, other);
    for (int round = 0; round < 2; round++) {
        bool resend = round == 1;
        add(&r, topic, "a", rv_str("1"));
        relay(&r);
        add(&r, topic, "a", rv_str("2"));
        add(&r, topic, "b", rv_str("3"));
        make_unknowable(&r, topic);
        add(&r, topic, "a", rv_str("4"));
        add(&r, other, "a", rv_str("o"));
        while (troubles(&r).count == 0) {
            relay(&r);
        }
        relay(&r);
        assert_topic(&r, topic, "");
        struct seen s = troubles(&r);
        assert_int_equal(s.count, 1);
        assert_int_equal(s.of[0].kind, RV_OUTBOX_BATCH);
        assert_int_equal(s.of[0].rows, 2);
        assert_int_equal(s.of[0].partition, 0);
        assert_int_equal(rv_outbox_settle(r.outbox, s.of[0].id + 1, resend, &rows, &e),
                         RV_E_ABSENT);
        assert_int_equal(retry(&r, NULL), 1); /* is no way around it */
        relay(&r);
        assert_topic(&r, topic, "");
        outbox_must(rv_outbox_settle(r.outbox, s.of[0].id, resend, &rows, &e), &e);
        assert_int_equal(rows, 2);
        relay(&r);
        assert_topic(&r, topic, resend ? "2 3 4" : "4");
        assert_int_equal(troubles(&r).count, 0);
    }
    assert_topic(&r, other, "o o");
    room_end(&r);
}

/* Sealed rows are not to be changed; one that was is not sent as something else. */
static void test_sealed_rows_that_were_changed_are_not_sent(void **state)
{
    struct room r = room_begin(*state, NULL);
    char topic[64];
    struct rv_error e = {0};
    int64_t rows;
    topic_make(&r, "changed", NULL, topic);
    add(&r, topic, "a", rv_str("1"));
    relay(&r);
    add(&r, topic, "a", rv_str("2"));
    relay_in_vain(&r, lose_answers);
    outbox_run(&r.conns[1], "UPDATE rivulet_outbox SET value = '9' WHERE state = 'sealed'");
    relay(&r);
    struct seen s = troubles(&r);
    assert_int_equal(s.count, 1);
    assert_int_equal(s.of[0].kind, RV_OUTBOX_BATCH);
    assert_non_null(strstr(s.reasons[0], "changed"));
    outbox_must(rv_outbox_settle(r.outbox, s.of[0].id, false, &rows, &e), &e);
    relay(&r);
    assert_topic(&r, topic, "1 2");
    room_end(&r);
}

/* ---- the rest */

static void test_records_arrive_as_they_were_added(void **state)
{
    struct room r = room_begin(*state, NULL);
    char topic[64];
    struct rv_error e = {0};
    static const struct rv_header headers[] = {
        {{"trace", 5}, {"7f", 2}    },
        {{"raw", 3},   {"\0\xff", 2}},
        {{"none", 4},  {NULL, 0}    }
    };
    topic_make(&r, "as-added", NULL, topic);
    struct rv_message m = {
        .topic = topic,
        .key = {"\0k", 2},
        .value = {"",    0},
        .headers = headers,
        .header_count = 3,
        .timestamp_ms = 1234567890123,
    };
    outbox_must(rv_outbox_add(r.outbox, &m, &e), &e);
    m = (struct rv_message){
        .topic = topic, .key = {"", 0}
    };
    outbox_must(rv_outbox_add(r.outbox, &m, &e), &e);
    relay(&r);
    struct raw_log log;
    raw_log_read(&log, r.client, topic, 0, 2);
    assert_int_equal(log.count, 2);
    const struct raw_record *one = &log.records[0], *two = &log.records[1];
    assert_int_equal(one->timestamp_ms, 1234567890123);
    assert_int_equal(one->key.len, 2);
    assert_memory_equal(one->key.ptr, "\0k", 2);
    assert_non_null(one->value.ptr);
    assert_int_equal(one->value.len, 0);
    assert_int_equal(one->header_count, 3);
    assert_memory_equal(one->headers[1].value.ptr, "\0\xff", 2);
    assert_null(one->headers[2].value.ptr);
    assert_non_null(two->key.ptr);
    assert_int_equal(two->key.len, 0);
    assert_null(two->value.ptr);
    int64_t age_ms = clock_wall_ms(&clock_real) - two->timestamp_ms;
    assert_true(age_ms >= 0 && age_ms < OUTBOX_WAIT_MS);
    raw_log_finish(&log);
    room_end(&r);
}

/* What is larger than a relay reads holds up its key like any other that is refused. */
static void test_a_record_larger_than_is_read_holds_up_its_key(void **state)
{
    struct room r = room_begin(*state, NULL);
    char topic[64], text[256];
    topic_make(&r, "huge", NULL, topic);
    add(&r, topic, "a", rv_str("a1"));
    snprintf(text, sizeof text,
             "INSERT INTO rivulet_outbox (topic, key, value) VALUES ('%s', 'a', %s)", topic,
             r.w->server ? "convert_to(repeat('x', 33554432), 'UTF8')" : "zeroblob(33554432)");
    outbox_run(&r.conns[1], text);
    add(&r, topic, "a", rv_str("a3"));
    add(&r, topic, "b", rv_str("b1"));
    relay(&r);
    assert_topic(&r, topic, "a1 b1");
    struct seen s = troubles(&r);
    assert_int_equal(s.count, 1);
    assert_int_equal(s.of[0].kind, RV_OUTBOX_KEY);
    assert_int_equal(s.of[0].rows, 2);
    snprintf(text, sizeof text, "DELETE FROM rivulet_outbox WHERE length(value) > 1000");
    outbox_run(&r.conns[1], text);
    assert_int_equal(retry(&r, NULL), 1);
    relay(&r);
    assert_topic(&r, topic, "a1 b1 a3");
    room_end(&r);
}

/* What SQL may write and no record can be. Each is found out, and stops nobody else. */
static void test_rows_that_are_no_records_wait_alone(void **state)
{
    struct room r = room_begin(*state, NULL);
    char topic[64], text[512];
    int count = 3;
    topic_make(&r, "no-records", NULL, topic);
    outbox_run(&r.conns[1], "INSERT INTO rivulet_outbox (topic) VALUES ('not a name')");
    outbox_run(&r.conns[1], r.w->server ? "INSERT INTO rivulet_outbox (topic) VALUES (repeat('x', "
                                          "40000))"
                                        : "INSERT INTO rivulet_outbox (topic) VALUES "
                                          "(hex(zeroblob(20000)))");
    snprintf(text, sizeof text,
             "INSERT INTO rivulet_outbox (topic, timestamp_ms) VALUES ('%s', -62135596800000)",
             topic);
    outbox_run(&r.conns[1], text);
    if (!r.w->server) { /* its columns take everything */
        snprintf(text, sizeof text,
                 "INSERT INTO rivulet_outbox (topic, value) VALUES ('%s' || char(0) || 'x', 'no')",
                 topic);
        outbox_run(&r.conns[1], text);
        snprintf(text, sizeof text,
                 "INSERT INTO rivulet_outbox (topic, headers) VALUES ('%s', 1.5)", topic);
        outbox_run(&r.conns[1], text);
        snprintf(text, sizeof text,
                 "INSERT INTO rivulet_outbox (topic, value, timestamp_ms) VALUES ('%s', 'half', "
                 "1700000000000.5)",
                 topic);
        outbox_run(&r.conns[1], text);
        count += 2;
    }
    add(&r, topic, NULL, rv_str("1"));
    relay(&r);
    assert_topic(&r, topic, r.w->server ? "1" : "half 1");
    assert_int_equal(troubles(&r).count, count);
    room_end(&r);
}

/* A record that finds no room in a batch is not overtaken by a smaller one that would. */
static void test_a_large_record_is_not_overtaken_by_a_small_one(void **state)
{
    struct room r = room_begin(*state, RV_OPTIONS({"outbox.batch.bytes", "500"}));
    char topic[64];
    static char large[LARGE];
    memset(large, 'x', sizeof large);
    topic_make(&r, "sizes", NULL, topic);
    add(&r, topic, "a", rv_str("1"));
    add(&r, topic, "a", (struct rv_bytes){large, sizeof large});
    add(&r, topic, "a", rv_str("3"));
    relay(&r);
    assert_topic(&r, topic, "1 large 3");
    room_end(&r);
}

static void test_published_rows_are_kept_as_long_as_is_asked(void **state)
{
    struct room r =
        room_begin(*state, RV_OPTIONS({"outbox.keep.ms", "3600000"}, {"outbox.lease.ms", "100"}));
    char topic[64];
    struct rv_error e = {0};
    struct rv_outbox_status status;
    topic_make(&r, "kept", NULL, topic);
    add(&r, topic, "a", rv_str("1"));
    relay(&r);
    outbox_must(rv_outbox_status(r.outbox, &status, &e), &e);
    assert_int_equal(status.rows, 0);
    assert_int_equal(status.sent, 1);
    assert_int_equal(status.oldest_ms, 0);
    outbox_run(&r.conns[1], "UPDATE rivulet_outbox SET done_ms = done_ms - 3600001");
    while (status.sent > 0) {
        relay(&r);
        outbox_must(rv_outbox_status(r.outbox, &status, &e), &e);
    }
    assert_topic(&r, topic, "1");
    room_end(&r);
}

/* More rows than a page, of a lane that is stuck, do not hide those of another one. */
static void test_many_rows_that_wait_do_not_hide_the_others(void **state)
{
    struct room r = room_begin(*state, NULL);
    char topic[64], text[256];
    topic_make(&r, "not-hidden", NULL, topic);
    outbox_run(&r.conns[1], "BEGIN");
    for (int i = 0; i < 2500; i++) {
        snprintf(text, sizeof text,
                 "INSERT INTO rivulet_outbox (topic, key) VALUES ('no-such-topic', 'k%d')", i);
        outbox_run(&r.conns[1], text);
    }
    outbox_run(&r.conns[1], "COMMIT");
    add(&r, topic, "a", rv_str("1"));
    relay(&r);
    assert_topic(&r, topic, "1");
    struct seen s = troubles(&r);
    assert_int_equal(s.count, 1);
    assert_int_equal(s.of[0].rows, 2500);
    room_end(&r);
}

/* A commit of another connection's is noticed by what tells of it: nobody looks by himself here. */
struct later {
    struct room *room;
    char topic[64];
};

static void *add_later(void *ctx)
{
    struct later *l = ctx;
    add(l->room, l->topic, "a", rv_str("1"));
    return NULL;
}

static void test_a_relay_that_waits_is_told_of_a_commit(void **state)
{
    struct room r = room_begin(
        *state, RV_OPTIONS({"outbox.lease.ms", "80000000"}, {"outbox.poll.ms", "80000000"}));
    struct rv_error e = {0};
    struct later later = {.room = &r};
    topic_make(&r, "noticed", NULL, later.topic);
    for (int i = 0; i < 50; i++) {
        pthread_t thread;
        int64_t count = 0;
        assert_int_equal(pthread_create(&thread, NULL, add_later, &later), 0);
        outbox_must(rv_outbox_relay(r.relay, r.client, OUTBOX_WAIT_MS, &count, &e), &e);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(count, 1);
    }
    room_end(&r);
}

/* ---- both databases ---- */

static const char *const settings[] = {"auto.create.topics.enable=false", NULL};

static int begin_sqlite(void **state)
{
    return outbox_world_setup(state, false, settings);
}

static int begin_postgres(void **state)
{
    return outbox_world_setup(state, true, settings);
}

int main(int argc, char **argv)
{
    if (argc > 1) { /* only the tests whose names match */
        cmocka_set_test_filter(argv[1]);
    }
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_refused_record_holds_up_its_key_and_nothing_else),
        cmocka_unit_test(test_refused_records_without_a_key_hold_up_nothing),
        cmocka_unit_test(test_a_topic_that_is_not_there_waits_and_goes_when_it_is),
        cmocka_unit_test(test_what_nobody_can_know_is_a_persons_to_settle),
        cmocka_unit_test(test_sealed_rows_that_were_changed_are_not_sent),
        cmocka_unit_test(test_records_arrive_as_they_were_added),
        cmocka_unit_test(test_a_record_larger_than_is_read_holds_up_its_key),
        cmocka_unit_test(test_rows_that_are_no_records_wait_alone),
        cmocka_unit_test(test_a_large_record_is_not_overtaken_by_a_small_one),
        cmocka_unit_test(test_published_rows_are_kept_as_long_as_is_asked),
        cmocka_unit_test(test_many_rows_that_wait_do_not_hide_the_others),
        cmocka_unit_test(test_a_relay_that_waits_is_told_of_a_commit),
    };
    int failures = 0;
#ifdef RIVULET_SQLITE
    failures += OUTBOX_WORLD_RUN("sqlite", tests, begin_sqlite);
#else
    (void)begin_sqlite;
#endif
#ifdef RIVULET_POSTGRES
    failures += OUTBOX_WORLD_RUN("postgres", tests, begin_postgres);
#else
    (void)begin_postgres;
#endif
    return failures;
}

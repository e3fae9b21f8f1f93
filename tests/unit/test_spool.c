/* A spool on a simulated disk and against a model of a broker: what it promises, its bounds, what
 * it sets aside, and what it says of damage. Crashes at every operation: test_spool_crash.c.
 */
#include "protocol/error.h"
#include "tests/kit/spool_disk.h"
#include "tests/kit/spool_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SEND_MS = 600000, SHORT_MS = 2000 };

static struct spool_rig *begin(void)
{
    struct spool_rig *r = spool_rig_create(1);
    if (spool_rig_open(r) != RV_OK) {
        fail_msg("%s", r->error.text);
    }
    return r;
}

static struct spool_rig *begin_with(const char *name, const char *value)
{
    struct spool_rig *r = spool_rig_create(1);
    spool_rig_option(r, name, value);
    if (spool_rig_open(r) != RV_OK) {
        fail_msg("%s", r->error.text);
    }
    return r;
}

static void append_some(struct spool_rig *r, int count)
{
    for (int i = 0; i < count; i++) {
        if (spool_rig_append(r) != RV_OK) {
            fail_msg("%s", r->error.text);
        }
    }
}

static void reopen(struct spool_rig *r)
{
    if (spool_rig_open(r) != RV_OK) {
        fail_msg("%s", r->error.text);
    }
}

static void send_all(struct spool_rig *r)
{
    if (spool_rig_send(r, SEND_MS) != RV_OK) {
        fail_msg("%s", r->error.text);
    }
    assert_int_equal(spool_rig_status(r).events, 0);
    assert_int_equal(spool_rig_status(r).oldest_ms, -1);
    assert_int_equal(spool_rig_status(r).failing_ms, -1);
}

/* ---- delivery ---- */

static void what_is_appended_arrives_once_and_in_order(void **state)
{
    (void)state;
    struct spool_rig *r = begin_with("compression.type", "zstd");
    append_some(r, 2500);
    assert_int_equal(spool_rig_status(r).events, 2500);
    assert_int_equal(spool_rig_status(r).next_number, 2501);
    send_all(r);
    append_some(r, 10);
    send_all(r);
    spool_rig_check(r, NULL, NULL);
    assert_int_equal(spool_broker_total(&r->broker), 2510);
    for (size_t i = 0; i < r->broker.place_count; i++) { /* keys go all over */
        assert_true(r->broker.places[i].count > 100);
    }
    spool_rig_destroy(r);
}

static void lost_requests_and_answers_change_nothing(void **state)
{
    (void)state;
    struct spool_rig *r = begin();
    r->broker.lose_answer = r->broker.lose_request = 30;
    for (int i = 0; i < 40; i++) {
        append_some(r, 40);
        send_all(r);
        if (i % 5 == 0) {
            spool_broker_forget(&r->broker);
        }
    }
    assert_true(r->broker.found > 20);
    spool_rig_check(r, NULL, NULL);
    spool_rig_destroy(r);
}

/* The second does not fit beside the first; the third would, but may not overtake it. */
static void what_does_not_fit_is_not_overtaken(void **state)
{
    (void)state;
    struct spool_rig *r = begin();
    assert_int_equal(spool_rig_append_to(r, "b", 500000), RV_OK);
    assert_int_equal(spool_rig_append_to(r, "b", 500000), RV_OK);
    assert_int_equal(spool_rig_append_to(r, "b", 0), RV_OK);
    send_all(r);
    spool_rig_check(r, NULL, NULL);
    assert_int_equal(r->broker.sent, 2);
    spool_rig_destroy(r);
}

static void while_the_broker_is_away_it_says_since_when(void **state)
{
    (void)state;
    struct spool_rig *r = begin();
    append_some(r, 3);
    int64_t began_ms = r->clock.wall_ms;
    r->broker.is_away = true;
    assert_int_equal(spool_rig_send(r, SHORT_MS), RV_E_TIMED_OUT);
    assert_non_null(strstr(r->error.text, "the model is away"));
    struct rv_spool_status st = spool_rig_status(r);
    assert_int_equal(st.failing_ms, began_ms);
    assert_int_equal(st.last.code, RV_E_CONNECT);
    assert_int_equal(st.oldest_ms, began_ms);
    assert_true(r->clock.wall_ms - began_ms >= SHORT_MS);
    r->broker.is_away = false;
    send_all(r);
    assert_int_equal(spool_rig_status(r).last.code, RV_OK);
    assert_int_equal(spool_rig_send(r, 0), RV_OK); /* nothing is left */
    spool_rig_check(r, NULL, NULL);
    spool_rig_destroy(r);
}

static void a_new_identity_when_the_sequence_does_not_fit(void **state)
{
    (void)state;
    struct spool_rig *r = begin();
    append_some(r, 30);
    send_all(r);
    append_some(r, 30);
    r->broker.code = KERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    assert_int_equal(spool_rig_send(r, SHORT_MS), RV_E_TIMED_OUT);
    r->broker.code = 0;
    int64_t id = r->spool->producer_id;
    send_all(r);
    assert_true(r->spool->producer_id > 100);
    assert_true(id < 0 || r->spool->producer_id >= id);
    spool_rig_check(r, NULL, NULL);
    spool_rig_destroy(r);
}

/* ---- what is on the medium ---- */

static void an_event_is_on_the_medium_when_append_returns(void **state)
{
    (void)state;
    struct spool_rig *r = begin();
    append_some(r, 7);
    spool_rig_crash(r, SIM_CUT_LOSE);
    reopen(r);
    assert_int_equal(spool_rig_status(r).events, 7);
    send_all(r);
    spool_rig_check(r, NULL, NULL);
    spool_rig_destroy(r);
}

static void with_sync_ms_it_is_a_little_later(void **state)
{
    (void)state;
    struct spool_rig *r = begin_with("spool.sync.ms", "100");
    append_some(r, 1);
    sim_clock_advance_ms(&r->clock, 100);
    append_some(r, 1); /* syncs */
    sim_clock_advance_ms(&r->clock, 99);
    append_some(r, 1);
    assert_int_equal(rv_spool_wait(r->spool, 0, &r->error), RV_OK);
    spool_rig_crash(r, SIM_CUT_LOSE);
    reopen(r);
    assert_int_equal(spool_rig_status(r).events, 2);
    append_some(r, 2);
    assert_int_equal(rv_spool_sync(r->spool, &r->error), RV_OK);
    append_some(r, 1);
    spool_rig_crash(r, SIM_KILL); /* the process alone: nothing is lost */
    reopen(r);
    assert_int_equal(spool_rig_status(r).events, 5);
    spool_rig_destroy(r);
}

static void waiting_syncs_what_is_due(void **state)
{
    (void)state;
    struct spool_rig *r = begin_with("spool.sync.ms", "100");
    append_some(r, 1);
    send_all(r);
    append_some(r, 1);
    sim_clock_advance_ms(&r->clock, 100);
    uint64_t before = r->spool->last.durable;
    assert_int_equal(rv_spool_wait(r->spool, 0, &r->error), RV_OK);
    assert_int_equal(r->spool->last.durable, before); /* there is something to send: that syncs */
    send_all(r);
    assert_int_equal(r->spool->last.durable, 3);
    spool_rig_destroy(r);
}

static void a_clean_end_keeps_everything(void **state)
{
    (void)state;
    struct spool_rig *r = begin_with("spool.sync.ms", "-1");
    append_some(r, 20);
    spool_rig_close(r);
    sim_store_restart(r->store, SIM_CUT_LOSE);
    reopen(r);
    assert_int_equal(spool_rig_status(r).events, 20);
    send_all(r);
    spool_rig_check(r, NULL, NULL);
    spool_rig_destroy(r);
}

/* ---- bounds ---- */

static void a_full_spool_says_so_and_has_room_again(void **state)
{
    (void)state;
    struct spool_rig *r = begin_with("spool.max.bytes", "65536");
    int64_t most = 0;
    for (int round = 0; round < 3; round++) {
        while (spool_rig_append_to(r, "a", 500) == RV_OK) {
        }
        assert_int_equal(r->error.code, RV_E_FULL);
        assert_non_null(strstr(r->error.text, "spool.max.bytes=65536"));
        struct rv_spool_status st = spool_rig_status(r);
        assert_true(st.events > 80);
        most = st.bytes > most ? st.bytes : most;
        assert_true(st.bytes <= 65536 + 2 * SENDING_FILE_SIZE);
        assert_true(sim_store_used(r->store) <= st.bytes);
        send_all(r);
    }
    assert_true(spool_rig_status(r).bytes <= most - 65536 / 2);
    spool_rig_check(r, NULL, NULL);
    spool_rig_destroy(r);
}

static void files_go_when_their_events_are_delivered(void **state)
{
    (void)state;
    struct spool_rig *r = begin_with("spool.segment.bytes", "4096");
    append_some(r, 3000);
    size_t files = r->spool->segment_count;
    assert_true(files > 30);
    send_all(r);
    assert_true(r->spool->segment_count <= 1);
    assert_true(sim_store_used(r->store) < 2 * SENDING_FILE_SIZE + 8192);
    append_some(r, 1);
    spool_rig_close(r);
    reopen(r);
    send_all(r);
    spool_rig_check(r, NULL, NULL);
    spool_rig_destroy(r);
}

static void a_full_disk_keeps_nobody_from_sending(void **state)
{
    (void)state;
    struct spool_rig *r = begin_with("spool.segment.bytes", "8192");
    sim_store_set_limit(r->store, 2 * SENDING_FILE_SIZE + 60000);
    while (spool_rig_append_to(r, "a", 300) == RV_OK) {
    }
    assert_int_equal(r->error.code, RV_E_FULL);
    assert_false(r->error.flags & RV_FATAL);
    sim_store_set_limit(r->store, sim_store_used(r->store));
    spool_rig_close(r);
    reopen(r);
    send_all(r);
    if (spool_rig_append_to(r, "a", 300) != RV_OK) {
        fail_msg("%s", r->error.text);
    }
    send_all(r);
    spool_rig_check(r, NULL, NULL);
    spool_rig_destroy(r);
}

/* ---- set aside ---- */

struct told {
    int count;
    uint64_t numbers[1000];
    int code;
    int unsure; /* of them */
    char why[250];
    struct rv_spool *append_to; /* NULL: none */
};

static void on_refused(void *ctx, const struct rv_spool_event *e)
{
    struct told *t = ctx;
    t->numbers[t->count++] = e->number;
    t->code = e->code;
    t->unsure += e->unsure;
    snprintf(t->why, sizeof t->why, "%s", e->why);
    if (t->append_to) {
        struct rv_error error;
        struct rv_spool_status st;
        assert_int_equal(rv_spool_append(t->append_to, &e->message, NULL, &error), RV_OK);
        rv_spool_status(t->append_to, &st);
        assert_int_equal(st.next_number, 10);
        t->append_to = NULL;
    }
}

static bool ends_with_7(void *ctx, uint64_t number)
{
    (void)ctx;
    return number % 10 == 7;
}

static void a_bad_record_is_set_aside_and_the_rest_goes_on(void **state)
{
    (void)state;
    struct spool_rig *r = begin();
    struct told told = {0};
    rv_spool_on_refused(r->spool, on_refused, &told);
    r->broker.bad_code = KERR_INVALID_RECORD;
    append_some(r, 200);
    send_all(r);
    spool_rig_check(r, ends_with_7, NULL);
    assert_int_equal(spool_rig_status(r).refused, 20);
    assert_int_equal(told.count, 20);
    assert_int_equal(told.code, KERR_INVALID_RECORD);
    assert_int_equal(told.unsure, 0);
    assert_true(told.why[0] != 0);
    for (int i = 0; i < told.count; i++) {
        assert_int_equal(told.numbers[i] % 10, 7);
    }
    r->broker.bad_code = 0;
    append_some(r, 20);
    send_all(r);
    assert_int_equal(spool_broker_total(&r->broker), 200);
    spool_rig_destroy(r);
}

static void batches_that_are_too_large_are_split(void **state)
{
    (void)state;
    struct spool_rig *r = begin();
    r->broker.most = 11;
    append_some(r, 600);
    send_all(r);
    spool_rig_check(r, NULL, NULL);
    assert_int_equal(spool_rig_status(r).refused, 0);
    assert_true(r->broker.sent < 300); /* 600 / 11, and what it costs to find out */
    spool_rig_destroy(r);
}

static bool is_all(void *ctx, uint64_t number)
{
    (void)ctx;
    (void)number;
    return true;
}

static void what_is_not_allowed_is_set_aside_whole(void **state)
{
    (void)state;
    struct spool_rig *r = begin();
    append_some(r, 50);
    r->broker.code = KERR_TOPIC_AUTHORIZATION_FAILED;
    send_all(r);
    spool_rig_check(r, is_all, NULL);
    assert_int_equal(spool_rig_status(r).refused, 50);
    assert_int_equal(r->broker.sent, 4); /* one a partition */
    spool_rig_destroy(r);
}

static bool is_nowhere(void *ctx, uint64_t number)
{
    (void)ctx;
    return number > 30 && number <= 33;
}

static void a_missing_topic_holds_up_only_itself_and_not_for_ever(void **state)
{
    (void)state;
    struct spool_rig *r = begin_with("spool.topic.wait.ms", "5000");
    struct told told = {0};
    rv_spool_on_refused(r->spool, on_refused, &told);
    append_some(r, 30);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(spool_rig_append_to(r, "nowhere", 0), RV_OK);
    }
    append_some(r, 30);
    assert_int_equal(spool_rig_send(r, 3000), RV_E_TIMED_OUT);
    assert_non_null(strstr(r->error.text, "nowhere"));
    assert_int_equal(spool_broker_total(&r->broker), 60);
    assert_int_equal(told.count, 0);
    send_all(r);
    assert_int_equal(told.count, 3);
    assert_int_equal(told.code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    spool_rig_check(r, is_nowhere, NULL);
    spool_rig_append_to(r, "nowhere", 0); /* from now on, at once */
    int64_t now_ms = r->clock.wall_ms;
    send_all(r);
    assert_int_equal(told.count, 4);
    assert_int_equal(r->clock.wall_ms, now_ms);
    spool_broker_topic(&r->broker, "nowhere", 1);
    spool_rig_append_to(r, "nowhere", 0);
    send_all(r);
    assert_int_equal(spool_broker_total(&r->broker), 61);
    spool_rig_destroy(r);
}

/* While nobody could be asked it was not missing: a broker that comes back may not know its topics
 * at once. */
static void the_time_without_a_broker_does_not_count(void **state)
{
    (void)state;
    struct spool_rig *r = begin_with("spool.topic.wait.ms", "5000");
    assert_int_equal(spool_rig_append_to(r, "nowhere", 0), RV_OK);
    assert_int_equal(spool_rig_send(r, 1000), RV_E_TIMED_OUT);
    r->broker.is_away = true;
    assert_int_equal(spool_rig_send(r, 3600000), RV_E_TIMED_OUT);
    r->broker.is_away = false;
    assert_int_equal(spool_rig_send(r, 2000), RV_E_TIMED_OUT);
    assert_int_equal(spool_rig_status(r).refused, 0);
    spool_broker_topic(&r->broker, "nowhere", 1);
    send_all(r);
    spool_rig_check(r, NULL, NULL);
    spool_rig_destroy(r);
}

static void a_partition_that_is_not_there_is_like_a_missing_topic(void **state)
{
    (void)state;
    struct spool_rig *r = begin_with("spool.topic.wait.ms", "5000");
    const struct rv_message m = {
        .topic = "a", .value = rv_str("1"), .to_partition = true, .partition = 3};
    r->next = 2;
    assert_int_equal(rv_spool_append(r->spool, &m, NULL, &r->error), RV_OK);
    append_some(r, 5);
    send_all(r);
    assert_int_equal(spool_rig_status(r).refused, 1);
    spool_rig_check(r, NULL, NULL);
    spool_rig_destroy(r);
}

struct shown {
    int waiting, aside;
    uint64_t last;
    char topic[32];
    size_t headers;
    char why[250];
};

static void show_one(void *ctx, const struct rv_spool_event *e)
{
    struct shown *s = ctx;
    if (e->code == RV_OK) {
        assert_true(e->number > s->last);
        s->last = e->number;
        s->waiting++;
        s->headers += e->message.header_count;
        snprintf(s->topic, sizeof s->topic, "%s", e->message.topic);
    } else {
        s->aside++;
        snprintf(s->why, sizeof s->why, "%s", e->why);
    }
}

/* ---- again ---- */

static void retry(struct spool_rig *r, const char *topic, bool with_unsure, uint64_t expected)
{
    uint64_t count = 99;
    if (rv_spool_retry(r->spool, topic, with_unsure, &count, &r->error) != RV_OK) {
        fail_msg("%s", r->error.text);
    }
    assert_int_equal(count, expected);
}

static void what_nobody_can_know_is_set_aside_unsure(void **state)
{
    (void)state;
    struct spool_rig *r = begin();
    struct told told = {0};
    rv_spool_on_refused(r->spool, on_refused, &told);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(spool_rig_append_to(r, "b", 0), RV_OK);
        r->promised[r->next - 1] = 0; /* of these nobody knows */
        r->unsure[r->next - 1] = 1;
    }
    r->broker.lose_request = 100;
    assert_int_equal(spool_rig_send(r, 10), RV_E_TIMED_OUT);
    r->broker.lose_request = 0;
    r->broker.places[3].start = INT64_MAX; /* retention took it all */
    assert_string_equal(r->broker.places[3].topic, "b");
    send_all(r);
    assert_int_equal(told.count, 5);
    assert_int_equal(told.unsure, 5);
    r->broker.places[3].start = 0;
    append_some(r, 12);
    send_all(r);
    spool_rig_check(r, NULL, NULL);
    retry(r, NULL, false, 0); /* they may be there */
    retry(r, NULL, true, 5);
    assert_int_equal(spool_rig_status(r).events, 5);
    spool_rig_destroy(r);
}

static void what_was_set_aside_is_sent_again_once(void **state)
{
    (void)state;
    struct spool_rig *r = begin();
    struct disk disk = spool_disk(r->store);
    struct disk_file *file;
    r->broker.bad_code = KERR_INVALID_RECORD;
    retry(r, NULL, true, 0);
    append_some(r, 40);
    send_all(r);
    assert_int_equal(spool_rig_status(r).refused, 4);
    append_some(r, 5); /* they wait, and are sent before */
    retry(r, NULL, false, 4);
    assert_int_equal(spool_rig_status(r).refused, 0);
    assert_int_equal(spool_rig_status(r).events, 9);
    assert_int_equal(disk.ops->open(disk.ctx, "refused", DISK_READ, &file), ERR_NOT_FOUND);
    send_all(r); /* the cause is still there */
    assert_int_equal(spool_rig_status(r).refused, 4);
    r->broker.bad_code = 0;
    for (int i = 0; i < 2; i++) {
        retry(r, NULL, false, i == 0 ? 4 : 0);
        send_all(r);
        spool_rig_close(r);
        reopen(r);
    }
    for (uint64_t n = 1; n < r->next; n++) {
        assert_int_equal(spool_broker_count(&r->broker, n), 1);
    }
    assert_int_equal(spool_broker_total(&r->broker), 45);
    spool_rig_destroy(r);
}

/* The rest stays set aside, and is still known after a restart. */
static void one_topic_is_sent_again_alone(void **state)
{
    (void)state;
    struct spool_rig *r = begin_with("spool.topic.wait.ms", "0");
    for (int i = 0; i < 6; i++) {
        assert_int_equal(spool_rig_append_to(r, i % 2 ? "x" : "y", 0), RV_OK);
    }
    send_all(r);
    assert_int_equal(spool_rig_status(r).refused, 6);
    spool_broker_topic(&r->broker, "x", 1);
    retry(r, "x", false, 3);
    retry(r, "x", false, 0);
    retry(r, "nothing", false, 0);
    for (int i = 0; i < 2; i++) {
        struct shown shown = {0};
        struct rv_spool_status st;
        assert_int_equal(spool_rig_status(r).refused, 3);
        assert_int_equal(spool_show_on(spool_disk(r->store), show_one, &shown, &st, &r->error),
                         RV_OK);
        assert_int_equal(shown.aside, 3);
        assert_int_equal(st.refused, 3);
        assert_int_equal(st.bytes, spool_rig_status(r).bytes);
        spool_rig_close(r);
        reopen(r);
    }
    send_all(r);
    for (uint64_t n = 1; n <= 6; n++) {
        assert_int_equal(spool_broker_count(&r->broker, n), n % 2 == 0);
    }
    spool_broker_topic(&r->broker, "y", 1);
    retry(r, NULL, false, 3);
    send_all(r);
    assert_int_equal(spool_broker_total(&r->broker), 6);
    assert_int_equal(spool_rig_status(r).refused, 0);
    spool_rig_destroy(r);
}

/* The disk is full at an operation: false when that was not with one of three in the spool. What is
 * missing comes before anything else. */
static bool room_is_missing_at(uint64_t operation)
{
    struct spool_rig *r = begin_with("spool.topic.wait.ms", "0");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(spool_rig_append_to(r, "x", 0), RV_OK);
    }
    send_all(r);
    spool_broker_topic(&r->broker, "x", 1);
    sim_store_count_from_zero(r->store);
    sim_store_fail_at(r->store, operation, ERR_NO_SPACE);
    int code = rv_spool_retry(r->spool, NULL, false, NULL, &r->error);
    bool is_one = code == RV_E_FULL && spool_rig_status(r).events == 1;
    if (is_one) {
        assert_int_equal(spool_rig_append_to(r, "x", 0), RV_OK);
        assert_int_equal(spool_rig_status(r).events, 4);
        send_all(r);
        for (uint64_t n = 1; n <= 4; n++) {
            assert_int_equal(r->broker.places[4].numbers[n - 1], n);
        }
        assert_int_equal(spool_broker_total(&r->broker), 4);
    } else {
        spool_rig_crash(r, SIM_KILL); /* what failed may not be closed well */
    }
    spool_rig_destroy(r);
    return is_one;
}

static void what_found_no_room_comes_first_when_there_is_some(void **state)
{
    (void)state;
    int times = 0;
    for (uint64_t operation = 0; operation < 60; operation++) {
        times += room_is_missing_at(operation);
    }
    assert_true(times > 0);
}

static void the_callback_may_append(void **state)
{
    (void)state;
    struct spool_rig *r = begin();
    struct told told = {.append_to = r->spool};
    rv_spool_on_refused(r->spool, on_refused, &told);
    append_some(r, 8);
    r->broker.bad_code = KERR_INVALID_RECORD;
    send_all(r);
    assert_int_equal(told.count, 2);
    assert_int_equal(told.numbers[0], 7);
    assert_int_equal(told.numbers[1], 9); /* the same once more */
    spool_rig_destroy(r);
}

/* ---- what is shown ---- */

static void it_can_be_looked_at_while_it_is_open(void **state)
{
    (void)state;
    struct spool_rig *r = begin_with("spool.segment.bytes", "4096");
    r->broker.bad_code = KERR_INVALID_RECORD;
    append_some(r, 100);
    send_all(r);
    append_some(r, 200);
    struct shown shown = {0};
    struct rv_spool_status st = {0}, own = spool_rig_status(r);
    assert_int_equal(spool_show_on(spool_disk(r->store), show_one, &shown, &st, &r->error), RV_OK);
    assert_int_equal(shown.waiting, 200);
    assert_int_equal(shown.last, 300);
    assert_string_equal(shown.topic, "b");
    assert_true(shown.headers > 200);
    assert_int_equal(shown.aside, 10);
    assert_true(shown.why[0] != 0);
    assert_int_equal(st.events, own.events);
    assert_int_equal(st.next_number, own.next_number);
    assert_int_equal(st.delivered, own.delivered);
    assert_int_equal(st.refused, own.refused);
    assert_int_equal(st.bytes, own.bytes);
    assert_int_equal(st.oldest_ms, own.oldest_ms);
    send_all(r);
    spool_rig_destroy(r);
    struct sim_store *empty = sim_store_create(1);
    assert_int_equal(spool_show_on(spool_disk(empty), NULL, NULL, &st, &(struct rv_error){0}),
                     RV_E_ABSENT);
    sim_store_destroy(empty);
}

/* ---- damage ---- */

/* Flips a byte of a file of a closed spool: it is noticed, or it changes nothing. */
static bool flip_is_noticed(const char *file, int64_t position, bool *ret_end)
{
    struct spool_rig *r = spool_rig_create(1);
    assert_int_equal(spool_rig_open(r), RV_OK);
    r->broker.bad_code = KERR_INVALID_RECORD;
    append_some(r, 9);
    r->broker.lose_answer = 100;
    assert_int_equal(spool_rig_send(r, 10), RV_E_TIMED_OUT);
    r->broker.lose_answer = 0;
    spool_rig_close(r);
    struct disk disk = spool_disk(r->store);
    struct disk_file *f = NULL;
    int64_t size = 0;
    assert_int_equal(disk.ops->open(disk.ctx, file, DISK_READ, &f), OK);
    assert_int_equal(disk.ops->size(disk.ctx, f, &size), OK);
    disk.ops->close(disk.ctx, f);
    *ret_end = position >= size || position > 1500;
    bool is_noticed = false;
    if (!*ret_end) {
        sim_store_flip(r->store, file, position, 0x10);
        int code = spool_rig_open(r);
        code = code == RV_OK ? spool_rig_send(r, SEND_MS) : code;
        is_noticed = code != RV_OK;
        if (is_noticed) {
            assert_int_equal(code, RV_E_CORRUPT);
            assert_non_null(strstr(r->error.text, "file "));
        } else {
            spool_rig_check(r, ends_with_7, NULL);
        }
    }
    spool_rig_destroy(r);
    return is_noticed;
}

static int flips_noticed(const char *file)
{
    int noticed = 0;
    bool is_end = false;
    for (int64_t at = 0; !is_end; at++) {
        noticed += flip_is_noticed(file, at, &is_end);
    }
    return noticed;
}

static void every_flipped_byte_is_noticed_or_harmless(void **state)
{
    (void)state;
    assert_true(flips_noticed("00000000000000000001.events") > 500);
    int newer = flips_noticed("sending.1"), older = flips_noticed("sending.0");
    assert_true(newer + older > 200);
}

static void a_file_that_is_missing_is_noticed(void **state)
{
    (void)state;
    static const char *const files[] = {"sending.0", "sending.1", "00000000000000000001.events"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct spool_rig *r = begin();
        append_some(r, 5);
        spool_rig_close(r);
        struct disk disk = spool_disk(r->store);
        assert_int_equal(disk.ops->unlink(disk.ctx, files[i]), OK);
        assert_int_equal(spool_rig_open(r), RV_E_CORRUPT);
        spool_rig_destroy(r);
    }
}

/* ---- the rest ---- */

static void one_process_at_a_time(void **state)
{
    (void)state;
    struct spool_rig *r = begin();
    struct rv_spool *other = NULL;
    assert_int_equal(
        spool_open_on(spool_disk(r->store), &r->clock.clock, r->options, &other, &r->error),
        RV_E_STATE);
    assert_null(other);
    spool_rig_destroy(r);
}

static void options_and_messages_are_checked(void **state)
{
    (void)state;
    static const struct rv_option bad[] = {
        {"spool.max.bytes",  "1"  },
        {"spool.sync.ms",    "x"  },
        {"spool.dir",        ""   },
        {"compression.type", "rar"},
        {"spool.nonsense",   "1"  },
        {"spool.sync.ms",    NULL },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct spool_rig *r = spool_rig_create(1);
        spool_rig_option(r, bad[i].name, bad[i].value);
        assert_int_equal(spool_rig_open(r), RV_E_OPTION);
        spool_rig_destroy(r);
    }
    struct spool_rig *r = begin_with("linger.ms", "5"); /* another's option */
    struct rv_message m = {.topic = "bad name"};
    assert_int_equal(rv_spool_append(r->spool, &m, NULL, &r->error), KERR_INVALID_TOPIC_EXCEPTION);
    m = (struct rv_message){.topic = "a", .to_partition = true, .partition = -1};
    assert_int_equal(rv_spool_append(r->spool, &m, NULL, &r->error), RV_E_ARGUMENT);
    m = (struct rv_message){.topic = "a", .timestamp_ms = -5}; /* found by fuzz_spool */
    assert_int_equal(rv_spool_append(r->spool, &m, NULL, &r->error), RV_E_ARGUMENT);
    const struct rv_header nameless = {
        {NULL, 0},
        {NULL, 0}
    };
    m = (struct rv_message){.topic = "a", .headers = &nameless, .header_count = 1};
    assert_int_equal(rv_spool_append(r->spool, &m, NULL, &r->error), RV_E_ARGUMENT);
    char *large = calloc(1, CHAIN_BODY_LIMIT);
    m = (struct rv_message){
        .topic = "a", .value = {large, CHAIN_BODY_LIMIT}
    };
    assert_int_equal(rv_spool_append(r->spool, &m, NULL, &r->error), RV_E_TOO_LARGE);
    free(large);
    assert_int_equal(spool_rig_status(r).next_number, 1);
    spool_rig_destroy(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_appended_arrives_once_and_in_order),
        cmocka_unit_test(lost_requests_and_answers_change_nothing),
        cmocka_unit_test(what_does_not_fit_is_not_overtaken),
        cmocka_unit_test(while_the_broker_is_away_it_says_since_when),
        cmocka_unit_test(a_new_identity_when_the_sequence_does_not_fit),
        cmocka_unit_test(an_event_is_on_the_medium_when_append_returns),
        cmocka_unit_test(with_sync_ms_it_is_a_little_later),
        cmocka_unit_test(waiting_syncs_what_is_due),
        cmocka_unit_test(a_clean_end_keeps_everything),
        cmocka_unit_test(a_full_spool_says_so_and_has_room_again),
        cmocka_unit_test(files_go_when_their_events_are_delivered),
        cmocka_unit_test(a_full_disk_keeps_nobody_from_sending),
        cmocka_unit_test(a_bad_record_is_set_aside_and_the_rest_goes_on),
        cmocka_unit_test(batches_that_are_too_large_are_split),
        cmocka_unit_test(what_is_not_allowed_is_set_aside_whole),
        cmocka_unit_test(a_missing_topic_holds_up_only_itself_and_not_for_ever),
        cmocka_unit_test(the_time_without_a_broker_does_not_count),
        cmocka_unit_test(a_partition_that_is_not_there_is_like_a_missing_topic),
        cmocka_unit_test(what_nobody_can_know_is_set_aside_unsure),
        cmocka_unit_test(what_was_set_aside_is_sent_again_once),
        cmocka_unit_test(one_topic_is_sent_again_alone),
        cmocka_unit_test(what_found_no_room_comes_first_when_there_is_some),
        cmocka_unit_test(the_callback_may_append),
        cmocka_unit_test(it_can_be_looked_at_while_it_is_open),
        cmocka_unit_test(every_flipped_byte_is_noticed_or_harmless),
        cmocka_unit_test(a_file_that_is_missing_is_noticed),
        cmocka_unit_test(one_process_at_a_time),
        cmocka_unit_test(options_and_messages_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

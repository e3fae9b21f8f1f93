/* The outbox over time: relays that follow one another after whatever end, a database that went
 * back, what is kept and for how long, and a broker that says no to everything. */
#include "protocol/error.h"
#include "tests/kit/outbox_room.h"
#include "tests/kit/steps.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define FOR_EVER "80000000" /* ms: nothing of a test waits for that */

static const struct rv_option long_lease[] = {
    {"outbox.lease.ms",      FOR_EVER},
    {"outbox.poll.ms",       "1"     },
    {"outbox.batch.records", "1"     },
    {NULL,                   NULL    }
};

static void reopen(struct room *r, const struct rv_option *options)
{
    rv_outbox_close(r->relay);
    r->relay = outbox_open(r->w, &r->conns[0], options);
}

static struct rv_outbox_status status(struct room *r)
{
    struct rv_outbox_status s;
    struct rv_error e = {0};
    outbox_must(rv_outbox_status(r->outbox, &s, &e), &e);
    return s;
}

/* ---- relays that follow one another */

static void relay_for_ever(struct outbox_world *w)
{
    struct outbox_conn c = outbox_connect(w);
    struct rv_client *client = outbox_client(w->address);
    struct rv_outbox *o = outbox_open(w, &c, long_lease);
    for (;;) {
        int64_t count;
        struct rv_error e = {0};
        int code = rv_outbox_relay(o, client, 50, &count, &e);
        check(code == RV_OK || (e.flags & RV_RETRIABLE));
    }
}

/* In a process of its own: for ever, or (`steps`) until it is stopped. */
static pid_t relay_fork(struct outbox_world *w, const struct steps *steps)
{
    pid_t parent = getpid();
    fflush(NULL);
    pid_t pid = fork();
    check(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) {
            _exit(1);
        }
        if (!steps) {
            relay_for_ever(w);
        }
        steps_begin(*steps);
        relay_all(w, w->address);
        _exit(0);
    }
    return pid;
}

static void end(pid_t pid)
{
    int code;
    check(kill(pid, SIGKILL) == 0);
    check(waitpid(pid, &code, 0) == pid);
}

/* Can anybody commit? In SQLite a process that is stopped while it reads keeps all from it. */
static bool can_commit(struct room *r)
{
    if (r->w->server) {
        return true;
    }
#ifdef RIVULET_SQLITE
    sqlite3 *db = r->conns[1].handle;
    check(sqlite3_busy_timeout(db, 0) == SQLITE_OK);
    err e = sql_exec(&r->conns[1].sql, "UPDATE rivulet_outbox_relay SET id = id", NULL, 0, NULL);
    check(sqlite3_busy_timeout(db, OUTBOX_BUSY_MS) == SQLITE_OK);
    return e == OK;
#else
    return true;
#endif
}

/* Stops it where it holds nobody up. */
static void stop(struct room *r, pid_t pid)
{
    int64_t deadline_ms = clock_after_ms(&clock_real, OUTBOX_WAIT_MS);
    for (int went_on = 0;; went_on++) {
        check(kill(pid, SIGSTOP) == 0);
        check(waitpid(pid, NULL, WUNTRACED) == pid);
        if (can_commit(r)) {
            return;
        }
        check(clock_mono_ms(&clock_real) < deadline_ms);
        check(kill(pid, SIGCONT) == 0);
        poll(NULL, 0, 1 + went_on % 7); /* it gets somewhere else */
    }
}

/* Its lease would last for a day. A relay that lives has it for as long as it lives. */
static void test_the_work_of_a_killed_relay_is_taken_over_at_once(void **state)
{
    struct room r = room_begin(*state, long_lease);
    char topic[64];
    topic_make(&r, "taken-over", NULL, topic);
    add(&r, topic, "a", rv_str("1"));
    pid_t pid = relay_fork(r.w, NULL);
    int64_t deadline_ms = clock_after_ms(&clock_real, OUTBOX_WAIT_MS);
    while (backlog(&r.conns[1]) > 0) {
        assert_true(clock_mono_ms(&clock_real) < deadline_ms);
    }
    int64_t epoch = status(&r).epoch;
    stop(&r, pid);
    add(&r, topic, "a", rv_str("2"));
    for (int i = 0; i < 5; i++) {
        int64_t count = -1;
        struct rv_error e = {0};
        outbox_must(rv_outbox_relay(r.relay, r.client, 20, &count, &e), &e);
        assert_int_equal(count, 0);
    }
    assert_int_equal(status(&r).epoch, epoch);
    end(pid);
    relay(&r);
    assert_topic(&r, topic, "1 2");
    assert_int_equal(status(&r).epoch, epoch + 1);
    room_end(&r);
}

/* It holds the lock of the lease's row then. The server ends its session. */
static void test_a_relay_stopped_in_a_transaction_does_not_stop_the_next_one(void **state)
{
    struct room r = room_begin(*state, NULL);
    struct rv_outbox_status before = status(&r);
    char topic[64];
    topic_make(&r, "stopped-within", NULL, topic);
    add(&r, topic, "a", rv_str("1"));
    pid_t pid = 0;
    for (int at = 1; pid == 0; at++) {
        int code;
        pid =
            relay_fork(r.w, &(struct steps){.at = at, .signal = SIGSTOP, .in_transactions = true});
        check(waitpid(pid, &code, WUNTRACED) == pid);
        assert_true(WIFSTOPPED(code));
        if (outbox_number(&r.conns[1], "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle "
                                       "in transaction' AND xact_start IS NOT NULL AND query LIKE "
                                       "'UPDATE rivulet_outbox_relay%'") == 0) {
            end(pid);
            pid = 0;
        }
    }
    relay(&r);
    assert_topic(&r, topic, "1");
    assert_true(status(&r).epoch > before.epoch);
    end(pid);
    room_end(&r);
}

/* ---- a database that went back */

/* A backup that is restored, or a server's replica that lacks the last commits. The broker knows
 * sequences that the tables do not: what is new may not be taken for what was sent then. */
static void test_what_comes_after_a_database_went_back_is_published(void **state)
{
    struct room r = room_begin(*state, long_lease);
    char topic[64];
    topic_make(&r, "went-back", NULL, topic);
    add(&r, topic, "a", rv_str("1"));
    relay(&r);
    outbox_run(&r.conns[1], "CREATE TABLE saved AS SELECT * FROM rivulet_outbox_partition");
    reopen(&r, long_lease);
    add(&r, topic, "a", rv_str("gone"));
    relay(&r);
    rv_outbox_close(r.relay);
    outbox_run(&r.conns[1], "DELETE FROM rivulet_outbox_partition");
    outbox_run(&r.conns[1], "INSERT INTO rivulet_outbox_partition SELECT * FROM saved");
    outbox_run(&r.conns[1], "DROP TABLE saved");
    r.relay = outbox_open(r.w, &r.conns[0], long_lease);
    add(&r, topic, "a", rv_str("3"));
    add(&r, topic, "a", rv_str("4"));
    relay(&r);
    assert_topic(&r, topic, "1 gone 3 4");
    room_end(&r);
}

/* Where a partition ended long ago says nothing of a batch of now. */
static void test_a_batch_is_looked_for_from_where_the_partition_ended_before_it(void **state)
{
    struct room r = room_begin(*state, NULL);
    char topic[64];
    struct rv_error e = {0};
    topic_make(&r, "ends", NULL, topic);
    add(&r, topic, "a", rv_str("1"));
    relay(&r);
    reopen(&r, relay_options());
    outbox_must(rv_topic_delete(r.client, topic, OUTBOX_WAIT_MS, &e), &e);
    outbox_must(rv_topic_create(r.client, topic, 1, NULL, OUTBOX_WAIT_MS, &e), &e);
    add(&r, topic, "a", rv_str("2"));
    relay_in_vain(&r, lose_requests);
    relay(&r);
    assert_topic(&r, topic, "2");
    assert_int_equal(troubles(&r).count, 0);
    room_end(&r);
}

/* ---- published rows */

/* Also while there is always something to do. */
static void test_published_rows_go_also_under_load(void **state)
{
    struct room r =
        room_begin(*state, RV_OPTIONS({"outbox.keep.ms", "1"}, {"outbox.lease.ms", FOR_EVER},
                                      {"outbox.poll.ms", "1"}));
    char topic[64];
    int64_t added = 0, deadline_ms = clock_after_ms(&clock_real, OUTBOX_WAIT_MS);
    topic_make(&r, "under-load", NULL, topic);
    do {
        add(&r, topic, "a", rv_str("1"));
        relay(&r);
        added++;
        assert_true(clock_mono_ms(&clock_real) < deadline_ms);
    } while (status(&r).sent == added);
    room_end(&r);
}

/* ---- a broker that says no */

static enum proxy_action refuse(void *ctx, struct proxy_request *request)
{
    (void)ctx;
    request->code = KERR_CLUSTER_AUTHORIZATION_FAILED;
    return request->api_key == API_PRODUCE ? PROXY_REFUSE : PROXY_PASS;
}

/* That is nobody's record's fault: none of them waits for it. */
static void test_a_refusal_that_is_not_about_records_holds_up_none(void **state)
{
    struct room r = room_begin(*state, RV_OPTIONS({"outbox.poll.ms", "1"}));
    char topic[64], address[OUTBOX_ADDRESS_SIZE];
    int64_t count;
    struct rv_error e = {0};
    topic_make(&r, "denied", NULL, topic);
    add(&r, topic, "a", rv_str("1"));
    add(&r, topic, "b", rv_str("2"));
    add(&r, topic, "a", rv_str("3"));
    struct proxy *p = proxy_to(&r, refuse, address);
    struct rv_client *client = outbox_client(address);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rv_outbox_relay(r.relay, client, 0, &count, &e),
                         KERR_CLUSTER_AUTHORIZATION_FAILED);
        assert_int_equal(count, 0);
    }
    assert_int_equal(troubles(&r).count, 0);
    rv_client_close(client);
    proxy_drop(p);
    relay(&r);
    assert_topic(&r, topic, "1 2 3");
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
        cmocka_unit_test(test_the_work_of_a_killed_relay_is_taken_over_at_once),
        cmocka_unit_test(test_what_comes_after_a_database_went_back_is_published),
        cmocka_unit_test(test_a_batch_is_looked_for_from_where_the_partition_ended_before_it),
        cmocka_unit_test(test_published_rows_go_also_under_load),
        cmocka_unit_test(test_a_refusal_that_is_not_about_records_holds_up_none),
    };
    static const struct CMUnitTest servers[] = {
        cmocka_unit_test(test_a_relay_stopped_in_a_transaction_does_not_stop_the_next_one),
    };
    int failures = 0;
#ifdef RIVULET_SQLITE
    failures += OUTBOX_WORLD_RUN("sqlite", tests, begin_sqlite);
#else
    (void)begin_sqlite;
#endif
#ifdef RIVULET_POSTGRES
    failures += OUTBOX_WORLD_RUN("postgres", tests, begin_postgres);
    failures += OUTBOX_WORLD_RUN("postgres", servers, begin_postgres);
#else
    (void)begin_postgres;
    (void)servers;
#endif
    return failures;
}

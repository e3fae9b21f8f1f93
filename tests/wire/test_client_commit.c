/* Commits of librivulet that a rebalance overtakes, against the real daemon: it is stopped while
 * requests are on their way, so that they arrive in the order that a test wants. */
#include "client/rivulet.h"
#include "tests/kit/wire_group.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { PARTITIONS = 2, ADDRESS_SIZE = 32, TURNS_MAX = 60000, TURN_MS = 1 };

struct told {
    int joins, joined;  /* by the log */
    int assigned, lost; /* partitions, by events */
    int ended;
    struct rv_error error; /* of the commit */
};

static void on_log(void *ctx, enum rv_level level, const char *text)
{
    struct told *t = ctx;
    (void)level;
    t->joins += strcmp(text, "group g: joins") == 0;
    t->joined += strstr(text, " of generation ") != NULL;
}

static void on_event(void *ctx, const struct rv_event *event)
{
    struct told *t = ctx;
    t->assigned += event->kind == RV_ASSIGNED ? (int)event->count : 0;
    t->lost += event->kind == RV_LOST ? (int)event->count : 0;
}

static void on_commit(void *ctx, const struct rv_error *error)
{
    struct told *t = ctx;
    t->ended++;
    t->error = error ? *error : (struct rv_error){0};
}

static void poll_once(struct rv_consumer *c)
{
    const struct rv_record *records;
    size_t count;
    struct rv_error e = {0};
    if (rv_poll(c, TURN_MS, &records, &count, &e) != RV_OK) {
        fail_msg("%s", e.text);
    }
}

static void poll_until(struct rv_consumer *c, const int *counter, int least)
{
    for (int i = 0; *counter < least; i++) {
        assert_true(i < TURNS_MAX);
        poll_once(c);
    }
}

/* In a group that rests, a commit is taken. */
static void poll_until_at_rest(struct rv_consumer *c)
{
    struct rv_error e = {0};
    for (int i = 0; rv_commit(c, NULL, 0, &e) != RV_OK; i++) {
        assert_int_equal(e.code, KERR_REBALANCE_IN_PROGRESS);
        assert_true(i < TURNS_MAX);
        poll_once(c);
    }
}

/* A raw member, which reads nothing, joins the consumer's group and is in. */
static void sit_down(struct member *m, struct rv_consumer *c, const struct told *t)
{
    m->protocols = "cooperative-sticky";
    member_get_id(m);
    int32_t join = member_send_join(m);
    poll_until(c, &t->joined, t->joined + 1);
    assert_code(member_joined(m, join)->error_code, KERR_NONE);
    int32_t sync = member_send_sync(m, NULL);
    poll_until_at_rest(c);
    assert_code(member_synced(m, sync)->error_code, KERR_NONE);
}

static void stop(struct daemon *d)
{
    int status;
    daemon_signal(d, SIGSTOP);
    assert_int_equal(waitpid(d->pid, &status, WUNTRACED), d->pid);
    assert_true(WIFSTOPPED(status));
}

static void a_commit_that_a_rebalance_overtakes_is_no_loss(void **state)
{
    (void)state;
    struct daemon *d = DAEMON("group.initial.rebalance.delay.ms=0");
    struct wire_client *wires[3] = {wire_connect(d), wire_connect(d), wire_connect(d)};
    struct told told = {0};
    struct rv_client *client;
    struct rv_consumer *c;
    struct rv_error e = {0};
    const char *topic = "t";
    char address[ADDRESS_SIZE];
    TOPIC(wires[0], topic, PARTITIONS);
    snprintf(address, sizeof address, "127.0.0.1:%d", d->port);
    const struct rv_option *options = RV_OPTIONS(
        {"bootstrap.servers", address}, {"group.id", "g"}, {"auto.offset.reset", "earliest"},
        {"partition.assignment.strategy", "cooperative-sticky"}, {"heartbeat.interval.ms", "20"});
    assert_int_equal(rv_client_open(options, &client, &e), RV_OK);
    assert_int_equal(rv_consumer_open(client, options, &c, &e), RV_OK);
    rv_client_on_log(client, on_log, &told);
    rv_consumer_on_event(c, on_event, &told);
    assert_int_equal(rv_subscribe(c, &topic, 1, &e), RV_OK);
    poll_until(c, &told.assigned, PARTITIONS);

    struct member slow = member_of(wires[1], "g");
    struct member late = member_of(wires[2], "g");
    sit_down(&slow, c, &told);
    late.protocols = "cooperative-sticky";
    member_get_id(&late);
    member_send_join(&late);
    poll_until(c, &told.joins, told.joins + 1); /* and it waits for the slow one */
    int joined = told.joined;
    stop(d);
    member_send_join(&slow); /* this begins the new generation, */
    assert_int_equal(rv_commit_async(c, NULL, 0, on_commit, &told, &e), RV_OK);
    assert_int_equal(rv_process(client, &e), RV_OK); /* and this is of the old one */
    assert_int_equal(told.joined, joined);
    daemon_signal(d, SIGCONT);
    for (int i = 0; !told.ended; i++) {
        assert_true(i < TURNS_MAX);
        assert_int_equal(rv_wait(client, TURN_MS, &e), RV_OK);
    }
    assert_int_equal(told.error.code, KERR_REBALANCE_IN_PROGRESS);
    assert_true(told.error.flags & RV_REJOIN);
    poll_until_at_rest(c);
    assert_int_equal(told.joined, joined + 1);
    assert_int_equal(told.lost, 0);
    assert_int_equal(told.assigned, PARTITIONS);

    assert_int_equal(rv_consumer_close(c, -1, &e), RV_OK);
    rv_client_close(client);
    for (int i = 0; i < 3; i++) {
        wire_close(wires[i]);
    }
    daemon_destroy(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_commit_that_a_rebalance_overtakes_is_no_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

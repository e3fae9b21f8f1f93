/* The outbox's relay with a real broker and both databases: every committed row is in its topic
 * once, rows of a key in the order of commits, whoever dies wherever. Relays are processes of their
 * own here: one is killed, or stopped, at its n-th step (tests/kit/steps.h), for every n. */
#include "base/clock.h"
#include "tests/kit/outbox_model.h"
#include "tests/kit/proxy.h"
#include "tests/kit/steps.h"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { API_PRODUCE = 0, STEPS_LEAST = 40, IDLE_STEPS_LEAST = 15 };

/* ---- relays in processes of their own ---- */

/* A relay in a process of its own, which acts at its n-th step. */
static pid_t relay_fork(struct outbox_world *w, int at, int signal)
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
        steps_begin((struct steps){.at = at, .signal = signal, .has_sends = true});
        relay_all(w, w->address);
        _exit(0);
    }
    return pid;
}

/* True: it was killed; false: it came to its end before. */
static bool relay_killed(struct outbox_world *w, int at)
{
    int status;
    pid_t pid = relay_fork(w, at, SIGKILL);
    check(waitpid(pid, &status, 0) == pid);
    check(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGKILL);
    struct outbox_conn c = outbox_connect(w); /* its lease need not be waited for */
    outbox_run(&c, "UPDATE rivulet_outbox_relay SET until_ms = 0");
    outbox_disconnect(w, &c);
    return WIFSIGNALED(status);
}

static void test_a_relay_killed_at_any_step_loses_and_doubles_nothing(void **state)
{
    struct outbox_world *w = *state;
    struct model m = model_begin(w, "killed");
    int at = 1;
    for (bool killed = true; killed; at++) {
        unsigned seed = 1; /* the same rows every time, so that it is the same steps */
        write_some(w, &m, 6, &seed);
        killed = relay_killed(w, at);
        if (killed && at % 2) { /* and its successor, too */
            relay_killed(w, 1 + at / 2);
        }
        relay_all(w, w->address);
        if (at % 8 == 0 || !killed) {
            topic_check(w, &m);
        }
    }
    print_message("%d steps\n", at - 1);
    assert_true(at > STEPS_LEAST);
}

/* Stopped beyond its lease, while another one finishes its work and goes on, then continued. */
static void test_a_relay_stopped_at_any_step_does_no_harm_later(void **state)
{
    struct outbox_world *w = *state;
    struct model m = model_begin(w, "stopped");
    int at = 1;
    for (bool stopped = true; stopped; at++) {
        int status;
        unsigned seed = 1;
        write_some(w, &m, 6, &seed);
        pid_t pid = relay_fork(w, at, SIGSTOP);
        check(waitpid(pid, &status, WUNTRACED) == pid);
        stopped = WIFSTOPPED(status);
        if (stopped) {
            relay_all(w, w->address);
            write_some(w, &m, 2, &seed);
            relay_all(w, w->address);
            write_some(w, &m, 2, &seed);
            check(kill(pid, SIGCONT) == 0);
            check(waitpid(pid, &status, 0) == pid);
        }
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        relay_all(w, w->address); /* it may have been at its end when it was stopped */
        if (at % 8 == 0 || !stopped) {
            topic_check(w, &m);
        }
    }
    print_message("%d steps\n", at - 1);
    assert_true(at > IDLE_STEPS_LEAST);
}

/* ---- both at once ---- */

struct relay_thread {
    struct outbox_world *w;
    pthread_t thread;
};

static void *relay_run(void *ctx)
{
    relay_all(((struct relay_thread *)ctx)->w, ((struct relay_thread *)ctx)->w->address);
    return NULL;
}

static void test_several_relays_share_the_work_by_turns(void **state)
{
    struct outbox_world *w = *state;
    struct model m = model_begin(w, "several");
    struct relay_thread relays[3];
    unsigned seed = 3;
    for (int round = 0; round < 5; round++) {
        write_some(w, &m, 30, &seed);
        for (int i = 0; i < 3; i++) {
            relays[i].w = w;
            check(pthread_create(&relays[i].thread, NULL, relay_run, &relays[i]) == 0);
        }
        write_some(w, &m, 10, &seed);
        for (int i = 0; i < 3; i++) {
            check(pthread_join(relays[i].thread, NULL) == 0);
        }
    }
    relay_all(w, w->address);
    topic_check(w, &m);
    struct outbox_conn c = outbox_connect(w);
    assert_int_equal(outbox_number(&c, "SELECT count(*) FROM rivulet_outbox_batch"), 0);
    outbox_disconnect(w, &c);
}

/* ---- answers that are lost ---- */

static enum proxy_action lose_some(void *ctx, struct proxy_request *r)
{
    (void)ctx;
    if (r->api_key != API_PRODUCE) {
        return PROXY_PASS;
    }
    return r->number % 3 == 0   ? PROXY_CUT_AFTER
           : r->number % 3 == 1 ? PROXY_CUT_BEFORE
                                : PROXY_PASS;
}

static enum proxy_action lose_all(void *ctx, struct proxy_request *r)
{
    (void)ctx;
    return r->api_key == API_PRODUCE ? PROXY_CUT_AFTER : PROXY_PASS;
}

static uint16_t broker_port(const struct outbox_world *w)
{
    return w->broker ? w->broker->port : outside_port();
}

static struct proxy *proxy_create(struct outbox_world *w, proxy_plan *plan,
                                  char address[OUTBOX_ADDRESS_SIZE])
{
    struct proxy *p = mem_need_zero(1, sizeof *p);
    proxy_start(p);
    proxy_broker_set(p, broker_port(w));
    proxy_mask(p, -1);
    proxy_plan_set(p, plan, NULL);
    snprintf(address, OUTBOX_ADDRESS_SIZE, "127.0.0.1:%d", (int)p->port);
    return p;
}

static void proxy_destroy(struct proxy *p)
{
    proxy_stop(p);
    mem_free(p);
}

static void test_lost_answers_lose_and_double_nothing(void **state)
{
    struct outbox_world *w = *state;
    struct model m = model_begin(w, "lost");
    char address[OUTBOX_ADDRESS_SIZE];
    struct proxy *p = proxy_create(w, lose_some, address);
    unsigned seed = 4;
    for (int round = 0; round < 4; round++) {
        write_some(w, &m, 12, &seed);
        relay_all(w, address);
    }
    assert_true(proxy_count(p, API_PRODUCE) > 20);
    proxy_destroy(p);
    topic_check(w, &m);
}

static void broker_restart(struct outbox_world *w, bool killed)
{
    if (!w->broker) {
        outside_control("stop");
        outside_control("start");
    } else if (killed) {
        daemon_kill(w->broker);
        daemon_start(w->broker);
    } else {
        daemon_restart(w->broker);
    }
}

/* Relays for a while, with answers lost: what there is gets sealed, and stored, and nobody knows.
 */
static void relay_in_vain(struct outbox_world *w)
{
    char address[OUTBOX_ADDRESS_SIZE];
    struct proxy *p = proxy_create(w, lose_all, address);
    struct outbox_conn c = outbox_connect(w);
    struct rv_client *client = outbox_client(address);
    struct rv_outbox *o = outbox_open(w, &c, relay_options());
    struct rv_error e = {0};
    int64_t count;
    do { /* a broker that has just begun may take its time, and may not know the topic before */
        int code = rv_outbox_relay(o, client, 0, &count, &e);
        assert_true(code == RV_OK ? count == 0 : (e.flags & RV_RETRIABLE) != 0);
    } while (proxy_count(p, API_PRODUCE) == 0);
    assert_true(outbox_number(&c, "SELECT count(*) FROM rivulet_outbox_batch") > 0);
    rv_outbox_close(o);
    rv_client_close(client);
    outbox_disconnect(w, &c);
    proxy_destroy(p);
}

/* The broker forgets its producers (producer.id.expiration.ms=1, at its stop), so that a batch
 * which is sent again would be stored again. */
static void test_an_answer_that_the_broker_forgot_is_read_back(void **state)
{
    struct outbox_world *w = *state;
    struct model m = model_begin(w, "forgotten");
    unsigned seed = 5;
    for (int round = 0; round < 3; round++) {
        write_some(w, &m, 6, &seed);
        relay_in_vain(w);
        broker_restart(w, false);
        relay_all(w, w->address);
        topic_check(w, &m);
    }
}

static void test_a_killed_broker_loses_and_doubles_nothing(void **state)
{
    struct outbox_world *w = *state;
    struct model m = model_begin(w, "broker");
    unsigned seed = 6;
    for (int round = 0; round < 3; round++) {
        write_some(w, &m, 6, &seed);
        relay_in_vain(w);
        broker_restart(w, true);
        relay_all(w, w->address);
    }
    topic_check(w, &m);
}

static void test_a_database_that_stops_at_once_loses_and_doubles_nothing(void **state)
{
    struct outbox_world *w = *state;
    struct model m = model_begin(w, "database");
    unsigned seed = 7;
    struct outbox_conn c = outbox_connect(w); /* a relay's commits are durable in spite of that */
    outbox_run(&c, "ALTER ROLE rivulet SET synchronous_commit = off");
    outbox_run(&c, "ALTER SYSTEM SET wal_writer_delay = '10s'");
    outbox_run(&c, "SELECT pg_reload_conf()");
    outbox_disconnect(w, &c);
    for (int round = 0; round < 3; round++) {
        write_some(w, &m, 6, &seed);
        relay_in_vain(w); /* the seals are committed, and must be there afterwards */
        postgres_crash(w->server);
        postgres_start(w->server);
        relay_all(w, w->address);
    }
    topic_check(w, &m);
}

/* Of two transactions the one that inserted first commits last. Another one with a smaller id than
 * all, of another key, commits when the rest is published already. */
static void test_records_come_in_the_order_of_commits(void **state)
{
    struct outbox_world *w = *state;
    struct model m = model_begin(w, "commits");
    struct outbox_conn c[3] = {outbox_connect(w), outbox_connect(w), outbox_connect(w)};
    for (int64_t round = 0; round < 3; round++) {
        for (int i = 0; i < 3; i++) {
            outbox_run(&c[i], "BEGIN");
        }
        insert(&c[2], &m, 2, round + 1);
        insert(&c[1], &m, 1, 2 * round + 2);
        insert(&c[0], &m, 1, 2 * round + 1);
        outbox_run(&c[0], "COMMIT");
        outbox_run(&c[1], "COMMIT");
        m.committed[1] += 2;
        relay_all(w, w->address);
        topic_check(w, &m);
        outbox_run(&c[2], "COMMIT");
        m.committed[2]++;
        relay_all(w, w->address);
        topic_check(w, &m);
    }
    for (int i = 0; i < 3; i++) {
        outbox_disconnect(w, &c[i]);
    }
}

/* ---- both databases ---- */

static const char *const settings[] = {"producer.id.expiration.ms=1", NULL};

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
        cmocka_unit_test(test_a_relay_killed_at_any_step_loses_and_doubles_nothing),
        cmocka_unit_test(test_a_relay_stopped_at_any_step_does_no_harm_later),
        cmocka_unit_test(test_several_relays_share_the_work_by_turns),
        cmocka_unit_test(test_lost_answers_lose_and_double_nothing),
        cmocka_unit_test(test_an_answer_that_the_broker_forgot_is_read_back),
        cmocka_unit_test(test_a_killed_broker_loses_and_doubles_nothing),
    };
    static const struct CMUnitTest servers[] = {
        cmocka_unit_test(test_records_come_in_the_order_of_commits),
        cmocka_unit_test(test_a_database_that_stops_at_once_loses_and_doubles_nothing),
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

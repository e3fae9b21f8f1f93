/* client/store with everything in processes of its own, and all of them killed: the consumer at
 * every statement, everything at random, and a zombie that is stopped and goes on.
 *
 * The records of a key are numbered 1, 2, 3, ... What they do: `last` of the key goes from n - 1 to
 * n, and n is added to `total`. So a lost, doubled or misplaced effect leaves its mark at once, and
 * one that was committed ends the test. KILLS=n: how many random kills there are on each database
 * (tests/killloop/run_store). RV_TEST_BROKERS (tests/kit/outside.h): that broker is used, and
 * stopped and started in the place of kills.
 */
#include "base/check.h"
#include "base/clock.h"
#include "base/rand.h"
#include "client/rivulet.h"
#include "client/store/rivulet_store.h"
#include "tests/kit/daemon.h"
#include "tests/kit/database.h"
#include "tests/kit/outside.h"
#include "tests/kit/steps.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    PATIENCE_MS = 120000,
    PARTITIONS = 3,
    KEYS = 6,
    CONSUMERS = 2,
    KILLS = 6,       /* on each database; see above */
    AT_EACH_KEY = 2, /* records that are sent before each kill at a step */
    AT_RANDOM = 40,  /* and before each random one */
    TURN_MS = 20,
    BUSY_MS = 100,
    EXIT_FENCED = 42,    /* the zombie's commit was refused */
    EXIT_COMMITTED = 43, /* it was not */
    EXIT_VIOLATION = 99, /* an effect that must not be was committed */
    ZOMBIE_SESSION_MS = 400,
};

/* ---- the consumer, a process of its own ---- */

struct consumer {
    const char *where, *address, *instance; /* "": no static member */
    int64_t kill_at, target; /* `target`: ends when so many records had their effect; 0: never */
    char stop_at;            /* 'p' after a poll, 'e' after the effects, 'o' after the offsets */
    struct db db;
    struct rv_client *client;
    struct rv_consumer *consumer;
    struct rv_store *store;
    struct rv_error error;
};

static void must(int code, const struct rv_error *e)
{
    if (code != RV_OK) {
        fprintf(stderr, "%s\n", e->text);
    }
    check(code == RV_OK);
}

static void consumer_open(struct consumer *c)
{
    const struct rv_option *options = RV_OPTIONS(
        {"bootstrap.servers", c->address}, {"group.id", "g"}, {"auto.offset.reset", "earliest"},
        {"group.instance.id", c->instance},
        {"session.timeout.ms", c->instance[0] ? "30000" : "400"}, {"heartbeat.interval.ms", "50"},
        {"max.poll.records", "5"}, {"fetch.max.wait.ms", "20"}, {"retry.backoff.ms", "5"},
        {"retry.backoff.max.ms", "50"}, {"reconnect.backoff.ms", "5"},
        {"reconnect.backoff.max.ms", "50"});
    struct rv_error *e = &c->error;
    int code;
    db_open(&c->db, c->where, BUSY_MS);
    if (sql_is_postgres(&c->db.sql) && c->stop_at) { /* what is locked is let go then */
        db_must(&c->db, "SET idle_in_transaction_session_timeout = '200ms'", NULL, 0);
    }
    steps_begin((struct steps){.at = c->kill_at, .signal = SIGKILL});
    must(rv_client_open(options, &c->client, e), e);
    must(rv_consumer_open(c->client, options, &c->consumer, e), e);
    do { /* the database may be away */
        db_reconnect(&c->db);
        code = sql_is_postgres(&c->db.sql)
                   ? rv_store_open_postgres(c->client, c->consumer, c->db.sql.connection, options,
                                            &c->store, e)
                   : rv_store_open_sqlite(c->client, c->consumer, c->db.sql.connection, options,
                                          &c->store, e);
    } while (code == RV_STORE_DATABASE);
    must(code, e);
    must(rv_subscribe(c->consumer, (const char *[]){"t"}, 1, e), e);
}

/* A record is "KEY:NUMBER". ret_odd: it does not go where the key has got. */
static err apply(struct consumer *c, const struct rv_record *record, bool *ret_odd)
{
    char text[32];
    int64_t key, number, changed = 0;
    snprintf(text, sizeof text, "%.*s", (int)record->value.size, (const char *)record->value.ptr);
    check(sscanf(text, "%ld:%ld", &key, &number) == 2);
    const struct sql_value params[] = {sql_number(key), sql_number(number)};
    err e = sql_exec(&c->db.sql,
                     "UPDATE totals SET last = last + 1, total = total + $2 WHERE name = $1 AND "
                     "last = $2 - 1",
                     params, 2, &changed);
    *ret_odd |= e == OK && changed != 1;
    return e;
}

static void stop_if(const struct consumer *c, char place)
{
    if (c->stop_at == place) {
        raise(SIGSTOP);
    }
}

/* What a zombie does that looks at nothing. */
static _Noreturn void zombie_end(struct consumer *c, int code)
{
    if (code != RV_OK) {
        sql_exec(&c->db.sql, "COMMIT", NULL, 0, NULL);
    }
    fprintf(stderr, "zombie: %s\n", code == RV_OK ? "committed" : c->error.text);
    _exit(code == RV_OK ? EXIT_COMMITTED : EXIT_FENCED);
}

static void batch(struct consumer *c, const struct rv_record *records, size_t count)
{
    bool odd = false;
    steps_point();
    stop_if(c, 'p');
    int code = rv_store_begin(c->store, &c->error);
    err e = code == RV_OK ? OK : ERR_CLOSED;
    for (size_t i = 0; e == OK && i < count; i++) {
        e = apply(c, &records[i], &odd);
    }
    if (e == OK) {
        stop_if(c, 'e');
        if (c->stop_at == 'o') {
            code = rv_store_offsets(c->store, &c->error);
            stop_if(c, 'o');
            e = code == RV_OK ? sql_commit(&c->db.sql) : OK;
            code = e == OK ? code : sql_error(&c->db.sql, e, "commit", &c->error);
        } else {
            code = rv_store_commit(c->store, &c->error);
        }
        steps_point();
        if (c->stop_at) {
            zombie_end(c, code);
        }
        if (odd && code == RV_OK) {
            _exit(EXIT_VIOLATION);
        }
    }
}

static bool is_done(struct consumer *c)
{
    return c->target &&
           db_number(&c->db, "SELECT CAST(sum(last) AS BIGINT) FROM totals") >= c->target;
}

static int consumer_main(char **argv)
{
    struct consumer c = {.where = argv[0],
                         .address = argv[1],
                         .instance = argv[2],
                         .kill_at = atoll(argv[3]),
                         .target = atoll(argv[4]),
                         .stop_at = argv[5][0]};
    const struct rv_record *records;
    size_t count;
    consumer_open(&c);
    for (;;) {
        int code = rv_store_poll(c.store, TURN_MS, &records, &count, &c.error);
        if (code == RV_STORE_DATABASE) {
            db_reconnect(&c.db);
        }
        if (count) {
            batch(&c, records, count);
        } else if (code == RV_OK && is_done(&c)) {
            break;
        }
    }
    rv_store_close(c.store);
    rv_consumer_close(c.consumer, 1000, NULL); /* the broker may be away */
    rv_client_close(c.client);
    db_close(&c.db);
    return 0;
}

/* ---- the room ---- */

struct room {
    struct database *database;
    struct daemon *broker; /* NULL: it is outside */
    char address[64];
    struct rv_client *client;
    struct rv_producer *producer;
    struct db db;
    int64_t sent[KEYS];
    pid_t pids[CONSUMERS];
    struct rng rng;
    struct rv_error error;
};

static pid_t consumer_start(const struct room *r, const char *instance, int64_t kill_at,
                            int64_t target, const char *stop_at)
{
    char kill_text[24], target_text[24];
    snprintf(kill_text, sizeof kill_text, "%lld", (long long)kill_at);
    snprintf(target_text, sizeof target_text, "%lld", (long long)target);
    char *argv[] = {"consumer",         (char *)r->database->where,
                    (char *)r->address, (char *)instance,
                    kill_text,          target_text,
                    (char *)stop_at,    NULL};
    pid_t parent = getpid();
    pid_t pid = fork();
    check(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent) {
            execv("/proc/self/exe", argv);
        }
        _exit(127);
    }
    return pid;
}

static int64_t all_sent(const struct room *r)
{
    int64_t all = 0;
    for (int i = 0; i < KEYS; i++) {
        all += r->sent[i];
    }
    return all;
}

static void send_some(struct room *r, int at_each_key)
{
    for (int i = 0; i < at_each_key * KEYS; i++) {
        char value[32];
        int key = i % KEYS;
        snprintf(value, sizeof value, "%d:%lld", key, (long long)++r->sent[key]);
        const struct rv_message m = {.topic = "t",
                                     .value = RV_STR(value),
                                     .to_partition = true,
                                     .partition = key % PARTITIONS};
        must(rv_send(r->producer, &m, NULL, NULL, &r->error), &r->error);
    }
}

static void flush(struct room *r)
{
    must(rv_flush(r->producer, PATIENCE_MS, &r->error), &r->error);
}

/* Every effect of what was sent is there, once. */
static void assert_totals(struct room *r)
{
    for (int i = 0; i < KEYS; i++) {
        char text[96];
        snprintf(text, sizeof text, "SELECT last FROM totals WHERE name = %d", i);
        assert_int_equal(db_number(&r->db, text), r->sent[i]);
        snprintf(text, sizeof text, "SELECT total FROM totals WHERE name = %d", i);
        assert_int_equal(db_number(&r->db, text), r->sent[i] * (r->sent[i] + 1) / 2);
    }
}

/* How a process ended: its exit code, or 128 + the signal. */
static int ended(pid_t pid)
{
    int status;
    check(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int database_start(void **state, bool postgres)
{
    *state = database_create(postgres);
    return 0;
}

static int sqlite_start(void **state)
{
    return database_start(state, false);
}

static int postgres_start_one(void **state)
{
    return database_start(state, true);
}

static int database_end(void **state)
{
    database_destroy(*state);
    return 0;
}

static int room_open(void **state)
{
    static struct room r;
    memset(&r, 0, sizeof r);
    r.database = *state;
    if (outside_address()) {
        outside_clean();
        snprintf(r.address, sizeof r.address, "%s", outside_address());
    } else {
        r.broker = DAEMON("group.min.session.timeout.ms=100", "group.initial.rebalance.delay.ms=0");
        snprintf(r.address, sizeof r.address, "127.0.0.1:%d", (int)r.broker->port);
    }
    const struct rv_option *options =
        RV_OPTIONS({"bootstrap.servers", r.address}, {"reconnect.backoff.ms", "5"},
                   {"reconnect.backoff.max.ms", "50"}, {"linger.ms", "0"});
    must(rv_client_open(options, &r.client, &r.error), &r.error);
    must(rv_topic_create(r.client, "t", PARTITIONS, NULL, PATIENCE_MS, &r.error), &r.error);
    must(rv_producer_open(r.client, options, &r.producer, &r.error), &r.error);
    db_open(&r.db, r.database->where, PATIENCE_MS);
    db_must(&r.db, "DROP TABLE IF EXISTS totals", NULL, 0);
    db_must(&r.db, "DROP TABLE IF EXISTS rivulet_offsets", NULL, 0);
    db_must(&r.db, "CREATE TABLE totals (name BIGINT PRIMARY KEY, last BIGINT, total BIGINT)", NULL,
            0);
    for (int i = 0; i < KEYS; i++) {
        const struct sql_value key = sql_number(i);
        db_must(&r.db, "INSERT INTO totals VALUES ($1, 0, 0)", &key, 1);
    }
    *state = &r;
    return 0;
}

static int room_close(void **state)
{
    struct room *r = *state;
    for (int i = 0; i < CONSUMERS; i++) {
        if (r->pids[i]) {
            kill(r->pids[i], SIGKILL);
            ended(r->pids[i]);
        }
    }
    rv_producer_close(r->producer);
    rv_client_close(r->client);
    db_close(&r->db);
    daemon_destroy(r->broker);
    *state = r->database;
    return 0;
}

/* ---- killed at every step ---- */

static void killed_at_every_statement_it_does_everything_once(void **state)
{
    struct room *r = *state;
    int64_t step = 0;
    for (int code = 128 + SIGKILL; code == 128 + SIGKILL;) {
        send_some(r, AT_EACH_KEY);
        flush(r);
        code = ended(consumer_start(r, "one", ++step, all_sent(r), ""));
        if (code == 128 + SIGKILL) {
            assert_int_equal(ended(consumer_start(r, "one", 0, all_sent(r), "")), 0);
        } else {
            assert_int_equal(code, 0);
        }
        assert_totals(r);
    }
    assert_true(step > 40);
    printf("killed at each of %lld steps, %lld records\n", (long long)step - 1,
           (long long)all_sent(r));
}

/* ---- killed at random ---- */

static void broker_crash(struct room *r)
{
    if (r->broker) {
        daemon_kill(r->broker);
        daemon_start(r->broker);
    } else {
        outside_control("stop");
        outside_control("start");
    }
}

static void server_crash(struct room *r)
{
    postgres_crash(r->database->server);
    postgres_start(r->database->server);
    db_close(&r->db);
    db_open(&r->db, r->database->where, PATIENCE_MS);
}

/* Stopped past its session, then it goes on. */
static void consumer_freeze(struct room *r, int i)
{
    check(kill(r->pids[i], SIGSTOP) == 0);
    rv_wait(r->client, 2 * ZOMBIE_SESSION_MS, NULL);
    check(kill(r->pids[i], SIGCONT) == 0);
}

static void consumer_crash(struct room *r, int i)
{
    check(kill(r->pids[i], SIGKILL) == 0);
    assert_int_equal(ended(r->pids[i]), 128 + SIGKILL);
    r->pids[i] = consumer_start(r, "", 0, 0, "");
}

static void await_all(struct room *r)
{
    int64_t deadline_ms = clock_after_ms(&clock_real, PATIENCE_MS);
    while (db_number(&r->db, "SELECT CAST(sum(last) AS BIGINT) FROM totals") < all_sent(r)) {
        for (int i = 0; i < CONSUMERS; i++) {
            assert_int_equal(waitpid(r->pids[i], NULL, WNOHANG), 0);
        }
        assert_true(clock_mono_ms(&clock_real) < deadline_ms);
        rv_wait(r->client, TURN_MS, NULL);
    }
}

static void killed_at_random_everything_happens_once(void **state)
{
    struct room *r = *state;
    const char *wanted = getenv("KILLS"), *seeded = getenv("SEED");
    int kills = wanted ? atoi(wanted) : KILLS;
    uint64_t seed = seeded ? strtoull(seeded, NULL, 0) : (uint64_t)clock_mono_us(&clock_real);
    int counts[4] = {0};
    rng_init(&r->rng, seed);
    printf("seed %llu, %d kills\n", (unsigned long long)seed, kills);
    for (int i = 0; i < CONSUMERS; i++) {
        r->pids[i] = consumer_start(r, "", 0, 0, "");
    }
    for (int i = 0; i < kills; i++) {
        uint64_t what = rng_below(&r->rng, r->database->server ? 6 : 5);
        int who = (int)rng_below(&r->rng, CONSUMERS);
        send_some(r, AT_RANDOM);
        rv_wait(r->client, (int)rng_below(&r->rng, 150), NULL);
        if (what < 3) {
            consumer_crash(r, who);
            counts[0]++;
        } else if (what == 3) {
            broker_crash(r);
            counts[1]++;
        } else if (what == 4) {
            consumer_freeze(r, who);
            counts[2]++;
        } else {
            server_crash(r);
            counts[3]++;
        }
        flush(r);
        if (rng_below(&r->rng, 3) == 0) {
            await_all(r);
        }
    }
    await_all(r);
    assert_totals(r);
    printf(
        "killed: consumer %d, broker %d, stopped and continued %d, PostgreSQL %d; %lld records\n",
        counts[0], counts[1], counts[2], counts[3], (long long)all_sent(r));
}

/* ---- the zombie ---- */

/* A consumer that stops itself in the middle of its first batch, until it has stopped. */
static pid_t zombie_start(struct room *r, const char *stop_at)
{
    int status;
    send_some(r, AT_EACH_KEY);
    flush(r);
    pid_t pid = consumer_start(r, "", 0, 0, stop_at);
    check(waitpid(pid, &status, WUNTRACED) == pid);
    assert_true(WIFSTOPPED(status));
    return pid;
}

/* Its session passes, another does its work, it goes on: its commit is refused. */
static void zombie_is_refused(struct room *r, const char *stop_at)
{
    pid_t zombie = zombie_start(r, stop_at);
    assert_int_equal(ended(consumer_start(r, "", 0, all_sent(r), "")), 0);
    assert_totals(r);
    check(kill(zombie, SIGCONT) == 0);
    assert_int_equal(ended(zombie), EXIT_FENCED);
    assert_totals(r);
}

static void a_zombie_stopped_before_its_transaction_cannot_commit(void **state)
{
    zombie_is_refused(*state, "p");
}

static void a_zombie_stopped_after_its_effects_is_ended_by_the_server(void **state)
{
    zombie_is_refused(*state, "e");
}

static void a_zombie_stopped_before_commit_is_ended_by_the_server(void **state)
{
    zombie_is_refused(*state, "o");
}

static size_t members(struct room *r, char ret_first[128])
{
    struct rv_group *g;
    must(rv_group_describe(r->client, "g", PATIENCE_MS, &g, &r->error), &r->error);
    size_t count = g->member_count;
    snprintf(ret_first, 128, "%s", count ? g->members[0].id : "");
    rv_free(g);
    return count;
}

/* SQLite: it has the only writer's lock, so it is waited for; what it commits then, counts. */
static void a_zombie_that_holds_the_lock_is_waited_for(void **state)
{
    struct room *r = *state;
    char zombie_id[128], id[128] = "";
    pid_t zombie = zombie_start(r, "e");
    assert_int_equal(members(r, zombie_id), 1);
    pid_t heir = consumer_start(r, "", 0, all_sent(r), "");
    int64_t deadline_ms = clock_after_ms(&clock_real, PATIENCE_MS);
    while (members(r, id) != 1 || strcmp(id, zombie_id) == 0) {
        assert_true(clock_mono_ms(&clock_real) < deadline_ms);
        rv_wait(r->client, TURN_MS, NULL);
    }
    check(kill(zombie, SIGCONT) == 0);
    assert_int_equal(ended(zombie), EXIT_COMMITTED);
    assert_int_equal(ended(heir), 0);
    assert_totals(r);
}

#define ON(database, test)                                                                         \
    {                                                                                              \
        .name = #database "." #test, .test_func = (test), .setup_func = room_open,                 \
        .teardown_func = room_close                                                                \
    }

int main(int argc, char **argv)
{
    if (argc == 7) {
        return consumer_main(argv + 1);
    }
    int failed = 0;
    const struct CMUnitTest on_sqlite[] = {
        ON(sqlite, killed_at_every_statement_it_does_everything_once),
        ON(sqlite, killed_at_random_everything_happens_once),
        ON(sqlite, a_zombie_stopped_before_its_transaction_cannot_commit),
        ON(sqlite, a_zombie_that_holds_the_lock_is_waited_for),
    };
    const struct CMUnitTest on_postgres[] = {
        ON(postgres, killed_at_every_statement_it_does_everything_once),
        ON(postgres, killed_at_random_everything_happens_once),
        ON(postgres, a_zombie_stopped_before_its_transaction_cannot_commit),
        ON(postgres, a_zombie_stopped_after_its_effects_is_ended_by_the_server),
        ON(postgres, a_zombie_stopped_before_commit_is_ended_by_the_server),
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (database_has_sqlite()) {
        failed += cmocka_run_group_tests_name("sqlite", on_sqlite, sqlite_start, database_end);
    }
    if (database_has_postgres()) {
        failed +=
            cmocka_run_group_tests_name("postgres", on_postgres, postgres_start_one, database_end);
    }
    return failed;
}

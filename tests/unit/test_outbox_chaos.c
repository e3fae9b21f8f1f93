/* A service, two relays, a broker and a database, one of which is killed at random, over and over
 * (ROUNDS=N; SEED=N): what the service committed is in the topic, each once, in the order of
 * commits. The service's own table is the model: its row of a key counts the commits, in the same
 * transaction as the event. */
#include "base/rand.h"
#include "tests/kit/outbox_model.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 6, TRANSACTIONS_MAX = 60, STEP_MAX = 25, RELAYS = 2, POLL_MS = 3 };

enum who { SERVICE, RELAY, OTHER_RELAY, BROKER, DATABASE, WHO_COUNT };

struct chaos {
    struct outbox_world *w;
    struct model m;
    pid_t pids[RELAYS + 1]; /* of the service and the relays; 0: it has ended */
    int kills[WHO_COUNT];
};

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL);
}

/* ---- in the children: whatever fails is begun anew, with another connection */

static bool service_transaction(struct outbox_conn *c, struct rv_outbox *o, const char *topic,
                                struct rng *rng)
{
    char text[128], key[16], value[32];
    int64_t n = 0;
    struct rv_error e;
    int number = (int)rng_below(rng, KEYS);
    snprintf(text, sizeof text, "UPDATE counter SET n = n + 1 WHERE key = %d RETURNING n", number);
    snprintf(key, sizeof key, "k%d", number);
    if (sql_begin(&c->sql) != OK ||
        sql_query(&c->sql, text, NULL, 0, outbox_number_take, &n) != OK) {
        sql_rollback(&c->sql);
        return false;
    }
    snprintf(value, sizeof value, "k%d:%lld", number, (long long)n);
    struct rv_message m = {.topic = topic, .key = rv_str(key), .value = rv_str(value)};
    if (rv_outbox_add(o, &m, &e) != RV_OK) {
        sql_rollback(&c->sql);
        return false;
    }
    err done = rng_below(rng, 4) == 0 ? sql_rollback(&c->sql) : sql_commit(&c->sql);
    if (done != OK) {
        sql_rollback(&c->sql);
    }
    return done == OK;
}

static void serve(struct outbox_world *w, const char *topic, uint64_t seed)
{
    struct rng rng;
    struct outbox_conn c;
    rng_init(&rng, seed);
    for (int done = 0; done < TRANSACTIONS_MAX;) {
        if (!outbox_try_connect(w, &c)) {
            nap();
            continue;
        }
        struct rv_outbox *o = outbox_open(w, &c, NULL);
        while (done < TRANSACTIONS_MAX && service_transaction(&c, o, topic, &rng)) {
            done++;
        }
        rv_outbox_close(o);
        outbox_disconnect(w, &c);
    }
}

static void relay_for_ever(struct outbox_world *w)
{
    struct rv_client *client = outbox_client(w->address);
    struct outbox_conn c;
    for (;;) {
        if (!outbox_try_connect(w, &c)) {
            nap();
            continue;
        }
        struct rv_outbox *o = outbox_open(w, &c, relay_options());
        struct rv_error e = {0};
        int code = RV_OK;
        int64_t count;
        while (code == RV_OK || (e.flags & RV_RETRIABLE)) {
            code = rv_outbox_relay(o, client, 50, &count, &e);
        }
        rv_outbox_close(o);
        outbox_disconnect(w, &c);
    }
}

static void child_start(struct chaos *c, enum who who, uint64_t seed)
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
        if (who == SERVICE) {
            serve(c->w, c->m.topic, seed);
        } else {
            relay_for_ever(c->w);
        }
        _exit(0);
    }
    c->pids[who] = pid;
}

static void child_kill(struct chaos *c, enum who who)
{
    int status;
    if (c->pids[who] > 0) {
        check(kill(c->pids[who], SIGKILL) == 0);
        check(waitpid(c->pids[who], &status, 0) == c->pids[who]);
        c->pids[who] = 0;
    }
}

/* Those that ended (the service, by itself; nobody else may) begin anew. */
static void children_start(struct chaos *c, struct rng *rng)
{
    for (int who = SERVICE; who <= OTHER_RELAY; who++) {
        int status;
        if (c->pids[who] > 0 && waitpid(c->pids[who], &status, WNOHANG) == c->pids[who]) {
            assert_int_equal(who, SERVICE);
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
            c->pids[who] = 0;
        }
        if (c->pids[who] == 0) {
            child_start(c, (enum who)who, rng_next(rng));
        }
    }
}

/* ---- the parent */

static int64_t commits(struct outbox_world *w, int key)
{
    char text[96];
    snprintf(text, sizeof text,
             "SELECT CAST(sum(n) AS BIGINT) FROM counter WHERE key = %d OR -1 = %d", key, key);
    struct outbox_conn c = outbox_connect(w);
    int64_t n = outbox_number(&c, text);
    outbox_disconnect(w, &c);
    return n;
}

static void strike(struct chaos *c, enum who who)
{
    c->kills[who]++;
    switch (who) {
    case BROKER:
        if (c->w->broker) {
            daemon_kill(c->w->broker);
            daemon_start(c->w->broker);
        } else {
            outside_control("stop");
            outside_control("start");
        }
        break;
    case DATABASE:
        postgres_crash(c->w->server);
        postgres_start(c->w->server);
        break;
    default: child_kill(c, who);
    }
}

static int64_t number_of(const char *name, int64_t otherwise)
{
    const char *text = getenv(name);
    return text && text[0] ? atoll(text) : otherwise;
}

static void test_whoever_is_killed_each_commit_is_published_once(void **state)
{
    struct chaos c = {.w = *state};
    struct rng rng;
    int64_t rounds = number_of("ROUNDS", ROUNDS);
    int64_t seed = number_of("SEED", (int64_t)time(NULL));
    print_message("SEED=%lld\n", (long long)seed);
    rng_init(&rng, (uint64_t)seed);
    c.m = model_begin(c.w, "chaos");
    struct outbox_conn conn = outbox_connect(c.w);
    outbox_run(&conn, "CREATE TABLE counter (key BIGINT PRIMARY KEY, n BIGINT NOT NULL)");
    outbox_run(&conn, "INSERT INTO counter VALUES (0, 0), (1, 0), (2, 0), (3, 0), (4, 0)");
    outbox_disconnect(c.w, &conn);
    for (int64_t round = 0; round < rounds; round++) {
        int64_t until = commits(c.w, -1) + 1 + (int64_t)rng_below(&rng, STEP_MAX);
        int64_t deadline_ms = clock_after_ms(&clock_real, OUTBOX_WAIT_MS);
        do {
            children_start(&c, &rng);
            nap();
            assert_true(clock_mono_ms(&clock_real) < deadline_ms);
        } while (commits(c.w, -1) < until);
        strike(&c, (enum who)rng_below(&rng, c.w->server ? WHO_COUNT : DATABASE));
    }
    for (int who = SERVICE; who <= OTHER_RELAY; who++) {
        child_kill(&c, (enum who)who);
    }
    relay_all(c.w, c.w->address);
    for (int key = 0; key < KEYS; key++) {
        c.m.committed[key] = commits(c.w, key);
    }
    topic_check(c.w, &c.m);
    print_message("%lld commits; killed: service %d, relays %d, broker %d, database %d\n",
                  (long long)commits(c.w, -1), c.kills[SERVICE],
                  c.kills[RELAY] + c.kills[OTHER_RELAY], c.kills[BROKER], c.kills[DATABASE]);
}

static int begin_sqlite(void **state)
{
    return outbox_world_setup(state, false, NULL);
}

static int begin_postgres(void **state)
{
    return outbox_world_setup(state, true, NULL);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whoever_is_killed_each_commit_is_published_once),
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

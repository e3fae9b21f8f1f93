/* Every allocation of a transactional producer fails in turn, in both flows: the call says
 * RV_E_MEMORY and can be made again, or the library tries again by itself; what was committed is,
 * and nothing else; nothing leaks. Broker, proxy and the played coordinator are a process of their
 * own: its allocations are not ours. */
#include "base/check.h"
#include "client/rivulet.h"
#include "tests/kit/failing_mem.h"
#include "tests/kit/local_home.h"
#include "tests/kit/txn_model.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { WAIT_MS = 30000, RECORDS = 6 };

/* What the other process says at its end. */
struct verdict {
    int commits;
    int64_t offset;
    char broken[200];
};

struct world {
    pid_t pid;
    int end;    /* closing it ends the other process */
    int report; /* its verdict comes here */
    char address[64];
};

static void stage_main(int level, int report, int end)
{
    struct local_home *home = local_home_start(NULL);
    struct txn_model model = {.level = level, .offset = -1, .pending = -1};
    struct proxy proxy;
    struct rv_client *c;
    struct rv_cluster *cluster;
    struct rv_error e;
    char byte;
    const char *address = local_home_address(home);
    check(rv_client_open(RV_OPTIONS({"bootstrap.servers", address}), &c, &e) == RV_OK);
    check(rv_topic_create(c, "t", TXN_MODEL_PARTITIONS, NULL, WAIT_MS, &e) == RV_OK);
    check(rv_cluster(c, WAIT_MS, &cluster, &e) == RV_OK);
    model.node = cluster->brokers[0].id;
    rv_free(cluster);
    rv_client_close(c);
    proxy_start(&proxy);
    proxy_broker_set(&proxy, (uint16_t)atoi(strrchr(address, ':') + 1));
    proxy_mask(&proxy, level);
    proxy_plan_all(&proxy, txn_model_play, &model);
    check(write(report, &proxy.port, sizeof proxy.port) == sizeof proxy.port);
    while (read(end, &byte, 1) > 0) {
    }
    proxy_stop(&proxy);
    struct verdict v = {.commits = model.commits, .offset = model.offset};
    memcpy(v.broken, model.broken, sizeof v.broken);
    check(write(report, &v, sizeof v) == sizeof v);
    local_home_destroy(home);
}

static void world_begin(struct world *w, int level)
{
    int report[2], end[2];
    uint16_t port;
    check(pipe(report) == 0 && pipe(end) == 0);
    w->pid = fork();
    check(w->pid >= 0);
    if (w->pid == 0) {
        close(end[1]);
        close(report[0]);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        stage_main(level, report[1], end[0]);
        _exit(0);
    }
    close(report[1]);
    close(end[0]);
    check(read(report[0], &port, sizeof port) == sizeof port);
    w->report = report[0];
    w->end = end[1];
    snprintf(w->address, sizeof w->address, "127.0.0.1:%d", (int)port);
}

static struct verdict world_end(struct world *w)
{
    struct verdict v;
    int status = -1;
    close(w->end);
    check(read(w->report, &v, sizeof v) == sizeof v);
    check(waitpid(w->pid, &status, 0) == w->pid && status == 0);
    close(w->report);
    return v;
}

/* Once more after a failed allocation, and it works. */
#define AGAIN(code, call)                                                                          \
    do {                                                                                           \
        (code) = (call);                                                                           \
        if ((code) == RV_E_MEMORY) {                                                               \
            (code) = (call);                                                                       \
        }                                                                                          \
    } while (0)

static int send_all(struct rv_producer *p, struct rv_error *e)
{
    int code = RV_OK;
    for (int i = 0; i < RECORDS && code == RV_OK; i++) {
        const struct rv_message m = {.topic = "t",
                                     .value = rv_str("a value"),
                                     .to_partition = true,
                                     .partition = i % TXN_MODEL_PARTITIONS};
        AGAIN(code, rv_send(p, &m, NULL, NULL, e));
    }
    return code;
}

/* One transaction that is committed, with offsets, and one that is aborted. */
static int transactions(struct rv_producer *p, struct rv_consumer *c, int64_t offset,
                        struct rv_error *e)
{
    const struct rv_partition at = {.topic = "t", .partition = 0, .offset = offset};
    int code;
    AGAIN(code, rv_txn_init(p, WAIT_MS, e));
    code = code == RV_OK ? rv_txn_begin(p, e) : code;
    code = code == RV_OK ? send_all(p, e) : code;
    if (code == RV_OK) {
        AGAIN(code, rv_txn_offsets(p, c, &at, 1, WAIT_MS, e));
    }
    if (code == RV_OK) {
        AGAIN(code, rv_txn_commit(p, WAIT_MS, e));
    }
    code = code == RV_OK ? rv_txn_begin(p, e) : code;
    code = code == RV_OK ? send_all(p, e) : code;
    if (code == RV_OK) {
        AGAIN(code, rv_txn_abort(p, WAIT_MS, e));
    }
    return code;
}

/* False when an open call failed for want of memory. */
static bool run_once(const struct world *w, int64_t offset)
{
    struct rv_client *c = NULL;
    struct rv_producer *p = NULL;
    struct rv_consumer *g = NULL;
    struct rv_error e = {0};
    const struct rv_option *options = RV_OPTIONS(
        {"bootstrap.servers", w->address}, {"retry.backoff.ms", "1"}, {"retry.backoff.max.ms", "2"},
        {"reconnect.backoff.ms", "1"}, {"reconnect.backoff.max.ms", "2"}, {"linger.ms", "0"},
        {"transactional.id", "x"}, {"group.id", "g"});
    int code = rv_client_open(options, &c, &e);
    code = code == RV_OK ? rv_producer_open(c, options, &p, &e) : code;
    code = code == RV_OK ? rv_consumer_open(c, options, &g, &e) : code;
    bool opened = code == RV_OK;
    assert_true(opened || code == RV_E_MEMORY);
    code = opened ? transactions(p, g, offset, &e) : RV_OK;
    if (code != RV_OK) {
        mem_fail_at(-1);
        fail_msg("%s: %s", rv_error_name(code), e.text);
    }
    rv_producer_close(p);
    if (g) {
        assert_int_equal(rv_consumer_close(g, WAIT_MS, &e), RV_OK);
    }
    rv_client_close(c);
    return opened;
}

static void every_allocation_of_a_transaction_may_fail(void **state)
{
    (void)state;
    for (int level = 1; level <= 2; level++) {
        struct world w;
        int runs = 0;
        long failed = 0;
        world_begin(&w, level);
        long before = mem_alive();
        for (long k = 0;; k++) {
            mem_fail_at(k);
            runs += run_once(&w, k);
            bool was_hit = mem_asked() > k;
            mem_fail_at(-1);
            assert_int_equal(mem_alive(), before);
            if (!was_hit) {
                break;
            }
            failed = k + 1;
        }
        struct verdict v = world_end(&w);
        print_message("V%d: %ld allocations failed\n", level, failed);
        assert_string_equal(v.broken, "");
        assert_int_equal(v.commits, runs);
        assert_int_equal(v.offset, failed); /* of the last run */
        assert_true(failed > 60);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_of_a_transaction_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

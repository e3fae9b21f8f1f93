/* Every allocation of opening, sending, flushing and closing a producer fails in turn. Each time
 * the call says RV_E_MEMORY and can be made again, or the library tries again by itself; every
 * record is told about once and stored once, and nothing leaks. The broker is a process of its own:
 * its allocations are not ours. */
#include "base/check.h"
#include "client/rivulet.h"
#include "protocol/error.h"
#include "tests/kit/failing_mem.h"
#include "tests/kit/local_broker.h"
#include "tests/kit/raw_log.h"
#include "tests/kit/temp_dir.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { WAIT_MS = 30000, RECORDS = 12 };

struct world {
    char dir[TEMP_DIR_SIZE];
    pid_t pid;
    int end; /* closing it ends the broker */
    char address[64];
};

static int world_begin(void **state)
{
    static struct world world; /* of both processes */
    struct world *w = &world;
    int port[2], end[2];
    check(pipe(port) == 0 && pipe(end) == 0);
    temp_dir_make(w->dir);
    w->pid = fork();
    check(w->pid >= 0);
    if (w->pid == 0) {
        struct local_broker b;
        char byte;
        close(end[1]);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        local_broker_start(&b, w->dir, 0, NULL);
        check(write(port[1], &b.port, sizeof b.port) == sizeof b.port);
        while (read(end[0], &byte, 1) > 0) {
        }
        local_broker_stop(&b);
        _exit(0);
    }
    uint16_t number;
    close(port[1]);
    close(end[0]);
    check(read(port[0], &number, sizeof number) == sizeof number);
    close(port[0]);
    w->end = end[1];
    snprintf(w->address, sizeof w->address, "127.0.0.1:%d", (int)number);
    *state = w;
    return 0;
}

static int world_end(void **state)
{
    struct world *w = *state;
    int status = -1;
    close(w->end);
    check(waitpid(w->pid, &status, 0) == w->pid && status == 0);
    temp_dir_remove(w->dir);
    return 0;
}

struct run {
    int told[RECORDS];
    int good, bad;
};

struct record_of {
    struct run *run;
    int number;
};

static void on_delivery(void *ctx, const struct rv_delivery *d)
{
    struct record_of *r = ctx;
    r->run->told[r->number]++;
    r->run->good += d->error == NULL;
    r->run->bad += d->error != NULL;
}

/* A large batch that must be split, so that this is swept too, and small ones of another topic. */
static int send_all(struct rv_producer *p, struct record_of *records, struct rv_error *e)
{
    static const char text[300] = "zeros: too large in a batch, unless it is compressed";
    const struct rv_header headers[] = {
        {RV_STR("h"), RV_STR("v")},
        {RV_STR("n"), {NULL, 0}  }
    };
    for (int i = 0; i < RECORDS; i++) {
        const struct rv_message m = {
            .topic = i % 3 ? "narrow" : "wide",
            .key = rv_str("k"),
            .value = {text, i % 3 ? 200 : 20},
            .headers = headers,
            .header_count = i % 3 ? 2 : 0
        };
        int code;
        int tries = 0;
        do { /* a failed allocation leaves nothing half-done: once more, and it works */
            code = rv_send(p, &m, on_delivery, &records[i], e);
        } while (code == RV_E_MEMORY && tries++ < 1);
        if (code != RV_OK) {
            return code;
        }
    }
    return RV_OK;
}

/* One run; false when an open call failed for want of memory. */
static bool run_once(const struct world *w, const char *codec, struct run *run)
{
    struct rv_client *c = NULL;
    struct rv_producer *p = NULL;
    struct rv_error e = {0};
    struct record_of records[RECORDS];
    const struct rv_option *options = RV_OPTIONS(
        {"bootstrap.servers", w->address}, {"retry.backoff.ms", "1"}, {"retry.backoff.max.ms", "2"},
        {"reconnect.backoff.ms", "1"}, {"reconnect.backoff.max.ms", "2"}, {"linger.ms", "3600000"},
        {"compression.type", codec});
    *run = (struct run){0};
    for (int i = 0; i < RECORDS; i++) {
        records[i] = (struct record_of){run, i};
    }
    int code = rv_client_open(options, &c, &e);
    code = code == RV_OK ? rv_producer_open(c, options, &p, &e) : code;
    if (code == RV_OK) {
        code = send_all(p, records, &e);
        code = code == RV_OK ? rv_flush(p, WAIT_MS, &e) : code;
        if (code != RV_OK) {
            mem_fail_at(-1);
            fail_msg("%s: %s", rv_error_name(code), e.text);
        }
    }
    rv_producer_close(p);
    rv_client_close(c);
    assert_true(code == RV_OK || code == RV_E_MEMORY);
    return code == RV_OK;
}

static void make_topics(const struct world *w)
{
    struct rv_client *c = NULL;
    struct rv_error e = {0};
    assert_int_equal(rv_client_open(RV_OPTIONS({"bootstrap.servers", w->address}), &c, &e), RV_OK);
    assert_int_equal(rv_topic_create(c, "wide", 1, NULL, WAIT_MS, &e), RV_OK);
    assert_int_equal(
        rv_topic_create(c, "narrow", 1, RV_OPTIONS({"max.message.bytes", "700"}), WAIT_MS, &e),
        RV_OK);
    rv_client_close(c);
}

static size_t count_stored(const struct world *w, const char *topic, size_t least)
{
    struct rv_client *c = NULL;
    struct rv_error e = {0};
    struct raw_log log;
    assert_int_equal(rv_client_open(RV_OPTIONS({"bootstrap.servers", w->address}), &c, &e), RV_OK);
    raw_log_read(&log, c, topic, 0, least);
    size_t count = log.count;
    raw_log_finish(&log);
    rv_client_close(c);
    return count;
}

static void every_allocation_may_fail(void **state)
{
    const struct world *w = *state;
    static const char *const codecs[] = {"none", "gzip", "lz4"};
    size_t runs = 0;
    make_topics(w);
    long before = mem_alive();
    for (int z = 0; z < 3; z++) {
        long failed = 0;
        for (long k = 0;; k++) {
            struct run run;
            mem_fail_at(k);
            bool opened = run_once(w, codecs[z], &run);
            bool was_hit = mem_asked() > k;
            mem_fail_at(-1);
            assert_int_equal(mem_alive(), before);
            runs += opened;
            for (int i = 0; i < RECORDS && opened; i++) {
                assert_int_equal(run.told[i], 1);
            }
            assert_int_equal(run.good, opened ? RECORDS : 0);
            failed += was_hit;
            if (!was_hit) {
                break;
            }
        }
        print_message("%s: %ld allocations failed\n", codecs[z], failed);
        assert_true(failed > 60);
    }
    assert_int_equal(count_stored(w, "wide", runs * RECORDS / 3), runs * RECORDS / 3);
    assert_int_equal(count_stored(w, "narrow", runs * RECORDS * 2 / 3), runs * RECORDS * 2 / 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, world_begin, world_end);
}

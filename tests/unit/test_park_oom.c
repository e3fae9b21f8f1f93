/* Every allocation of a handler with a park fails in turn: no record is lost, and nothing leaks.
 * The broker is in a process of its own, where nothing fails. */
#include "base/clock.h"
#include "client/park/park.h"
#include "tests/kit/child_home.h"
#include "tests/kit/failing_mem.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { PATIENCE_MS = 30000, RECORDS = 6 };

static int64_t until;

/* What cannot be now for want of memory is tried again, also when a hand-over says so later. */
static bool again(int code, const struct rv_error *e)
{
    if (code == RV_OK) {
        return false;
    }
    if (code != RV_E_MEMORY) {
        fail_msg("%s: %s", rv_error_name(code), e->text);
    }
    if (clock_mono_ms(&clock_real) > until) {
        fail_msg("out of memory for ever");
    }
    return true;
}

static struct rv_client *client_open(const char *address)
{
    struct rv_error e;
    struct rv_client *client = NULL;
    while (
        again(rv_client_open(RV_OPTIONS({"bootstrap.servers", address}, {"retry.backoff.ms", "1"},
                                        {"retry.backoff.max.ms", "4"}),
                             &client, &e),
              &e)) {
    }
    return client;
}

static void feed(const char *address)
{
    struct rv_error e;
    struct rv_client *client = client_open(address);
    struct rv_producer *p;
    assert_int_equal(rv_topic_create(client, "t", 1, NULL, PATIENCE_MS, &e), RV_OK);
    assert_int_equal(rv_producer_open(client, NULL, &p, &e), RV_OK);
    for (int i = 0; i < RECORDS; i++) {
        char value[2] = {(char)('0' + i), 0};
        const struct rv_message m = {.topic = "t", .key = RV_STR("k"), .value = RV_STR(value)};
        assert_int_equal(rv_send(p, &m, NULL, NULL, &e), RV_OK);
    }
    assert_int_equal(rv_flush(p, PATIENCE_MS, &e), RV_OK);
    rv_producer_close(p);
    rv_client_close(client);
}

static struct rv_park *park_open(struct rv_client *client, const char *group)
{
    struct rv_error e;
    struct rv_park *p = NULL;
    const char *topic = "t";
    while (again(rv_park_open(client, group, &topic, 1,
                              RV_OPTIONS({"park.delays", "1ms"}, {"park.name", "n"},
                                         {"fetch.max.wait.ms", "10"}, {"linger.ms", "0"}),
                              PATIENCE_MS, &p, &e),
                 &e)) {
        assert_null(p);
    }
    return p;
}

static void park_close(struct rv_park *p)
{
    struct rv_error e;
    int code = rv_park_close(p, PATIENCE_MS, &e);
    assert_true(code == RV_OK || code == RV_E_MEMORY); /* it is closed all the same */
}

/* Each even record fails once, and is handled when it comes again. Whenever memory is short, the
 * handler commits and is replaced by another one: it has to get what was not handled. */
static void handle(const char *address, long k)
{
    struct rv_error e;
    char group[24];
    bool handled[RECORDS] = {false};
    snprintf(group, sizeof group, "g%ld", k);
    struct rv_client *client = client_open(address);
    struct rv_park *p = park_open(client, group);
    for (int left = RECORDS; left > 0;) {
        const struct rv_park_record *records;
        size_t count;
        bool short_of_memory = again(rv_park_poll(p, 50, &records, &count, &e), &e);
        for (size_t n = 0; n < count; n++) {
            int i = *(const char *)records[n].record.value.ptr - '0';
            if (i % 2 == 0 && records[n].tries == 0) {
                short_of_memory |= again(rv_park_failed(p, &records[n], "why", &e), &e);
            } else {
                assert_int_equal(records[n].origin_offset, i);
                left -= !handled[i];
                handled[i] = true;
            }
        }
        short_of_memory |= again(rv_park_commit(p, PATIENCE_MS, &e), &e);
        if (short_of_memory) {
            again(rv_park_commit(p, PATIENCE_MS, &e), &e);
            park_close(p);
            p = park_open(client, group);
        }
        assert_true(clock_mono_ms(&clock_real) < until);
    }
    park_close(p);
    rv_client_close(client);
}

static void no_record_is_lost_whichever_allocation_fails(void **state)
{
    const struct child_home *broker = *state;
    feed(broker->address);
    until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    handle(broker->address, -1); /* makes the topics */
    long alive = mem_alive();
    for (long k = 0;; k++) {
        until = clock_mono_ms(&clock_real) + PATIENCE_MS;
        mem_fail_at(k);
        handle(broker->address, k);
        bool was_hit = mem_asked() > k;
        mem_fail_at(-1);
        if (mem_alive() != alive) {
            fail_msg("allocation %ld failed: %ld blocks leaked", k, mem_alive() - alive);
        }
        if (!was_hit) {
            printf("%ld allocations\n", k);
            break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_record_is_lost_whichever_allocation_fails),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, child_home_start, child_home_stop);
}

/* A park when the clock is set back: what waits does not wait for the time that it was before. Wall
 * time is the test's; the broker is in a process of its own, where time is as it is. */
#include "base/clock.h"
#include "client/park/rivulet_park.h"
#include "tests/kit/child_home.h"
#include "tests/kit/feed.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

enum { PATIENCE_MS = 30000, HOUR_MS = 3600000 };

/* ---- time, in the place of base/clock.c ---- */

static int64_t wall_ahead_ms;

static int64_t now_us(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int64_t mono_us(void *ctx)
{
    (void)ctx;
    return now_us(CLOCK_MONOTONIC);
}

static int64_t wall_ms(void *ctx)
{
    (void)ctx;
    return now_us(CLOCK_REALTIME) / 1000 + wall_ahead_ms;
}

const struct clock clock_real = {mono_us, wall_ms, NULL};

/* ---- the test ---- */

static void must(int code, const struct rv_error *e)
{
    if (code != RV_OK) {
        fail_msg("%s", e->text);
    }
}

static void a_clock_that_was_set_back_holds_nothing_up(void **state)
{
    const struct child_home *broker = *state;
    const char *topic = "clocked";
    struct rv_client *client;
    struct rv_park *park;
    struct rv_error e;
    const struct rv_park_record *records;
    size_t count = 0;
    const struct rv_option *options = RV_OPTIONS({"bootstrap.servers", broker->address});
    must(rv_client_open(options, &client, &e), &e);
    must(rv_topic_create(client, topic, 1, NULL, PATIENCE_MS, &e), &e);
    feed_numbers(client, topic, 0, CODEC_NONE, 0, 1);
    must(rv_park_open(
             client, "g", &topic, 1,
             RV_OPTIONS({"park.delays", "1h"}, {"fetch.max.wait.ms", "20"}, {"linger.ms", "0"}),
             PATIENCE_MS, &park, &e),
         &e);
    int64_t until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    while (count == 0) {
        must(rv_park_poll(park, 50, &records, &count, &e), &e);
        assert_true(clock_mono_ms(&clock_real) < until);
    }
    must(rv_park_failed(park, &records[0], "not now", &e), &e);
    must(rv_park_commit(park, PATIENCE_MS, &e), &e);
    while (rv_park_timeout(park) < 0) { /* until it is held */
        must(rv_park_poll(park, 50, &records, &count, &e), &e);
        assert_int_equal(count, 0);
        assert_true(clock_mono_ms(&clock_real) < until);
    }
    assert_in_range(rv_park_timeout(park), HOUR_MS / 2, HOUR_MS);
    wall_ahead_ms = -10 * HOUR_MS;
    assert_int_equal(rv_park_timeout(park), 0);
    do { /* it waits for its delay once more, and no longer */
        must(rv_park_poll(park, 50, &records, &count, &e), &e);
        assert_int_equal(count, 0);
        assert_true(clock_mono_ms(&clock_real) < until);
    } while (rv_park_timeout(park) < HOUR_MS / 2);
    assert_in_range(rv_park_timeout(park), HOUR_MS / 2, HOUR_MS);
    wall_ahead_ms = -9 * HOUR_MS + 1000;
    while (count == 0) {
        must(rv_park_poll(park, 50, &records, &count, &e), &e);
        assert_true(clock_mono_ms(&clock_real) < until);
    }
    assert_int_equal(records[0].tries, 1);
    must(rv_park_close(park, PATIENCE_MS, &e), &e);
    rv_client_close(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clock_that_was_set_back_holds_nothing_up),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, child_home_start, child_home_stop);
}

/* A view of a topic that forgets removals (compacted, delete.retention.ms): what it does after it
 * was away for longer than that, closed or open. Time is the test's, and so is what the topic's
 * settings say, as rivulet has no such topics. The broker is in a process of its own, where time is
 * as it is. */
#include "base/clock.h"
#include "client/view/view.h"

#include "tests/kit/child_home.h"
#include "tests/kit/temp_dir.h"
#include "tests/kit/view_kit.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

/* ---- time, in the place of base/clock.c ---- */

static int64_t wall_ahead_ms, mono_ahead_ms;

static int64_t now_us(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int64_t mono_us(void *ctx)
{
    (void)ctx;
    return now_us(CLOCK_MONOTONIC) + mono_ahead_ms * 1000;
}

static int64_t wall_ms(void *ctx)
{
    (void)ctx;
    return now_us(CLOCK_REALTIME) / 1000 + wall_ahead_ms;
}

const struct clock clock_real = {mono_us, wall_ms, NULL};

/* ---- the topic's settings, in the place of client/view/retention.c ---- */

static int64_t retention_ms; /* -1: not compacted */
static int failures;         /* of the questions to come */
static int asked;

int view_retention(struct rv_view *v, int timeout_ms, int64_t *ret_ms, struct rv_error *e)
{
    (void)v, (void)timeout_ms;
    asked++;
    if (failures > 0) {
        failures--;
        return view_fail(e, RV_E_TIMED_OUT, "no answer");
    }
    *ret_ms = retention_ms;
    return RV_OK;
}

/* ---- the tests ---- */

enum { HOUR_MS = 3600000 };

struct desk {
    struct feeding feeding;
    struct rv_client *client;
    struct rv_view *view;
    char dir[TEMP_DIR_SIZE];
    char file[TEMP_DIR_SIZE + 8];
};

static struct desk desk; /* large */

static void desk_view(struct desk *d)
{
    d->view = view_open(
        d->client, d->feeding.topic,
        RV_OPTIONS({"view.check.ms", "1000"}, {"fetch.max.wait.ms", "20"}, {"view.file", d->file}),
        NULL);
    view_complete(d->view);
}

static struct desk *desk_open(void **state)
{
    const struct child_home *broker = *state;
    struct desk *d = &desk;
    wall_ahead_ms = mono_ahead_ms = 0;
    retention_ms = HOUR_MS;
    failures = asked = 0;
    temp_dir_make(d->dir);
    int n = snprintf(d->file, sizeof d->file, "%s/view", d->dir);
    assert_in_range(n, 1, sizeof d->file - 1);
    feeding_open(&d->feeding, broker->address, "away", 1, NULL);
    d->client = view_client(broker->address);
    feed_key(&d->feeding, 1, "a");
    feed_flush(&d->feeding);
    desk_view(d);
    return d;
}

static void desk_close(struct desk *d)
{
    rv_view_close(d->view);
    rv_client_close(d->client);
    feeding_close(&d->feeding);
    temp_dir_remove(d->dir);
}

static int64_t rebuilds(struct desk *d)
{
    struct rv_view_stats s;
    struct rv_error e;
    assert_int_equal(rv_view_stats(d->view, &s, &e), RV_OK);
    return s.rebuilds;
}

/* Polls until what is fed now has come, and the looks that were due. */
static void follow(struct desk *d)
{
    feed_at(&d->feeding, 0, 2, "b", now_us(CLOCK_REALTIME) / 1000);
    feed_flush(&d->feeding);
    view_follow(&d->feeding, d->view);
}

static void assert_rebuilt(struct desk *d, const char *why)
{
    follow(d);
    assert_int_equal(rebuilds(d), 1);
    if (!strstr(rv_view_why(d->view), why)) {
        fail_msg("why: %s", rv_view_why(d->view));
    }
    assert_view(&d->feeding, d->view, NULL);
}

static void one_that_stays_open_begins_anew_after_too_long(void **state)
{
    struct desk *d = desk_open(state);
    follow(d);
    mono_ahead_ms = wall_ahead_ms = HOUR_MS + 1000;
    assert_rebuilt(d, "delete.retention.ms");
    desk_close(d);
}

/* A suspended machine: monotonic time stands still. */
static void wall_time_counts_too(void **state)
{
    struct desk *d = desk_open(state);
    wall_ahead_ms = HOUR_MS + 1000;
    mono_ahead_ms = 3000; /* a look is due */
    assert_rebuilt(d, "delete.retention.ms");
    desk_close(d);
}

/* The question for the settings fails at first. */
static void a_question_that_fails_is_asked_again(void **state)
{
    struct desk *d = desk_open(state);
    mono_ahead_ms = wall_ahead_ms = HOUR_MS + 1000;
    failures = 2;
    int64_t until = clock_mono_ms(&clock_real) + FEED_MS;
    while (rebuilds(d) == 0) {
        struct rv_error e;
        assert_int_equal(rv_view_poll(d->view, 50, &e), RV_OK);
        assert_true(clock_mono_ms(&clock_real) < until);
    }
    view_complete(d->view);
    assert_rebuilt(d, "delete.retention.ms");
    desk_close(d);
}

static void within_the_time_it_goes_on(void **state)
{
    struct desk *d = desk_open(state);
    mono_ahead_ms = wall_ahead_ms = HOUR_MS / 2;
    follow(d);
    assert_int_equal(rebuilds(d), 0);
    assert_true(asked > 0);
    mono_ahead_ms = wall_ahead_ms = HOUR_MS + HOUR_MS / 4; /* counted from there */
    follow(d);
    assert_int_equal(rebuilds(d), 0);
    retention_ms = -1; /* removals are records like others */
    mono_ahead_ms = wall_ahead_ms = 10 * HOUR_MS;
    follow(d);
    assert_int_equal(rebuilds(d), 0);
    desk_close(d);
}

static void again_after(struct desk *d, int64_t ms)
{
    struct rv_error e;
    assert_int_equal(rv_view_save(d->view, &e), RV_OK);
    rv_view_close(d->view);
    mono_ahead_ms = ms > 0 ? ms : 0;
    wall_ahead_ms = ms;
    desk_view(d);
}

static void one_that_was_closed_begins_anew_after_too_long(void **state)
{
    struct desk *d = desk_open(state);
    again_after(d, HOUR_MS / 2);
    assert_int_equal(rebuilds(d), 0);
    again_after(d, 2 * HOUR_MS);
    assert_rebuilt(d, "delete.retention.ms");
    desk_close(d);
}

/* Then nobody knows how long it was. */
static void a_clock_that_was_set_back_is_not_trusted(void **state)
{
    struct desk *d = desk_open(state);
    again_after(d, -2000);
    assert_int_equal(rebuilds(d), 0);
    again_after(d, -HOUR_MS);
    assert_rebuilt(d, "the clock was set back");
    desk_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_stays_open_begins_anew_after_too_long),
        cmocka_unit_test(wall_time_counts_too),
        cmocka_unit_test(a_question_that_fails_is_asked_again),
        cmocka_unit_test(within_the_time_it_goes_on),
        cmocka_unit_test(one_that_was_closed_begins_anew_after_too_long),
        cmocka_unit_test(a_clock_that_was_set_back_is_not_trusted),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, child_home_start, child_home_stop);
}

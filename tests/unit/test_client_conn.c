/* Calls on connections, below the producer and the consumer. */
#include "client/client.h"
#include "gen/heartbeat.h"
#include "gen/metadata.h"
#include "tests/kit/local_home.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { WAIT_MS = 30000, METADATA_KEY = 3, HEARTBEAT_KEY = 12, NOBODYS_VERSION = 1000 };

struct question {
    struct call call;
    struct call *cancels; /* when it is done */
    int32_t closes;       /* the lane that is closed when it is done; 0: none */
    struct rv_client *client;
    int done, code;
};

static void on_done(struct call *call, const struct answer *answer)
{
    struct question *q = (struct question *)(void *)call;
    q->done++;
    q->code = answer->code;
    if (q->cancels) {
        call_cancel(q->cancels);
    }
    if (q->closes) {
        conn_close_lane(q->client, q->closes);
    }
}

static int nothing_to_fill(struct call *call, struct arena *a, void *request)
{
    (void)call, (void)a, (void)request;
    return RV_OK;
}

static int world_begin(void **state)
{
    *state = local_home_start(NULL);
    return 0;
}

static int world_end(void **state)
{
    local_home_destroy(*state);
    return 0;
}

static struct rv_client *client_to(const struct local_home *h)
{
    struct rv_client *c = NULL;
    struct rv_error e;
    assert_int_equal(
        rv_client_open(RV_OPTIONS({"bootstrap.servers", local_home_address(h)}), &c, &e), RV_OK);
    assert_int_equal(rv_client_connect(c, WAIT_MS, &e), RV_OK);
    return c;
}

static void ask_it(struct question *q, struct rv_client *c, struct conn *k, int16_t key,
                   int16_t min_version)
{
    *q = (struct question){
        .client = c,
        .call = {.api = wire_api_find(key),
                 .min_version = min_version,
                 .fill = nothing_to_fill,
                 .done = on_done}
    };
    call_submit(k, &q->call, WAIT_MS);
}

/* A connection that is up, on a lane of its own. */
static struct conn *conn_up(struct rv_client *c, int32_t lane)
{
    struct question q;
    struct conn *k = conn_get(c, c->meta.brokers[0].id, lane);
    assert_non_null(k);
    ask_it(&q, c, k, METADATA_KEY, 0);
    int64_t until_ms = client_deadline(c, WAIT_MS);
    while (!q.done && client_turn_until(c, until_ms)) {
    }
    assert_int_equal(q.done, 1);
    assert_int_equal(q.code, RV_OK);
    assert_int_equal(k->state, CONN_UP);
    return k;
}

static void a_call_that_failed_ends_with_its_connection(void **state)
{
    struct rv_client *c = client_to(*state);
    int32_t lane = client_lane(c);
    struct conn *k = conn_up(c, lane);
    struct question q;
    ask_it(&q, c, k, HEARTBEAT_KEY, NOBODYS_VERSION); /* is to end in the next turn */
    assert_int_equal(q.done, 0);
    assert_true(call_busy(&q.call));
    conn_close_lane(c, lane);
    assert_int_equal(q.done, 1);
    assert_int_equal(q.code, RV_E_VERSION);
    assert_false(call_busy(&q.call));
    client_turn(c, 0);
    assert_int_equal(q.done, 1);
    rv_client_close(c);
}

static void a_call_that_failed_may_close_the_lane_of_others(void **state)
{
    struct rv_client *c = client_to(*state);
    int32_t lane = client_lane(c);
    struct conn *k = conn_up(c, lane);
    struct question q[3];
    for (int i = 0; i < 3; i++) {
        ask_it(&q[i], c, k, HEARTBEAT_KEY, NOBODYS_VERSION);
    }
    q[0].cancels = &q[1].call;
    q[0].closes = lane;
    client_turn(c, 0);
    assert_int_equal(q[0].done, 1);
    assert_int_equal(q[1].done, 0);
    assert_int_equal(q[2].done, 1);
    client_turn(c, 0);
    assert_int_equal(q[2].done, 1);
    rv_client_close(c);
}

static void a_call_that_failed_ends_with_its_client(void **state)
{
    struct rv_client *c = client_to(*state);
    struct conn *k = conn_up(c, client_lane(c));
    struct question q;
    ask_it(&q, c, k, HEARTBEAT_KEY, NOBODYS_VERSION);
    rv_client_close(c);
    assert_int_equal(q.done, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_that_failed_ends_with_its_connection),
        cmocka_unit_test(a_call_that_failed_may_close_the_lane_of_others),
        cmocka_unit_test(a_call_that_failed_ends_with_its_client),
    };
    return cmocka_run_group_tests(tests, world_begin, world_end);
}

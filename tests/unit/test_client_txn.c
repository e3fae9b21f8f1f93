/* The transactional producer against a coordinator that is played here (tests of the real thing:
 * tests/peers/test_transactions.c): rivulet serves the metadata, everything transactional is
 * answered by a model, which notes what breaks the protocol's rules. */
#include "client/producer.h"
#include "protocol/error.h"
#include "tests/kit/local_home.h"
#include "tests/kit/txn_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WAIT_MS = 30000, PARTITIONS = TXN_MODEL_PARTITIONS };

/* ---- the stage ---- */

struct stage {
    struct local_home *home;
    struct proxy proxy;
    struct txn_model model; /* under the proxy's lock while it plays */
    struct rv_client *client;
    struct rv_producer *producer;
    struct rv_consumer *consumer;
    struct rv_error error;
};

static void good(const struct stage *s, int code)
{
    if (code != RV_OK) {
        fail_msg("%s: %s", rv_error_name(code), s->error.text);
    }
}

static struct rv_client *client_to(struct stage *s, int port)
{
    char address[64];
    struct rv_client *c;
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    good(s, rv_client_open(RV_OPTIONS({"bootstrap.servers", address}, {"retry.backoff.ms", "2"},
                                      {"retry.backoff.max.ms", "10"}, {"reconnect.backoff.ms", "1"},
                                      {"reconnect.backoff.max.ms", "2"}),
                           &c, &s->error));
    return c;
}

static struct stage *stage_open_with(int level, const char *delivery_timeout_ms)
{
    struct stage *s = calloc(1, sizeof *s);
    struct rv_cluster *cluster;
    s->home = local_home_start(NULL);
    const char *address = local_home_address(s->home);
    int port = atoi(strrchr(address, ':') + 1);
    struct rv_client *direct = client_to(s, port);
    good(s, rv_topic_create(direct, "t", PARTITIONS, NULL, WAIT_MS, &s->error));
    good(s, rv_cluster(direct, WAIT_MS, &cluster, &s->error));
    s->model = (struct txn_model){
        .level = level, .node = cluster->brokers[0].id, .offset = -1, .pending = -1};
    rv_free(cluster);
    rv_client_close(direct);
    proxy_start(&s->proxy);
    proxy_broker_set(&s->proxy, (uint16_t)port);
    proxy_mask(&s->proxy, level);
    proxy_plan_all(&s->proxy, txn_model_play, &s->model);
    s->client = client_to(s, s->proxy.port);
    good(s, rv_producer_open(s->client,
                             RV_OPTIONS({"transactional.id", "x"}, {"linger.ms", "0"},
                                        {"batch.size", "40"},
                                        {"delivery.timeout.ms", delivery_timeout_ms}),
                             &s->producer, &s->error));
    good(s, rv_consumer_open(s->client, RV_OPTIONS({"group.id", "g"}), &s->consumer, &s->error));
    return s;
}

static struct stage *stage_open(int level)
{
    return stage_open_with(level, "120000");
}

static void stage_close(struct stage *s)
{
    char broken[200];
    pthread_mutex_lock(&s->proxy.lock);
    memcpy(broken, s->model.broken, sizeof broken);
    pthread_mutex_unlock(&s->proxy.lock);
    assert_string_equal(broken, "");
    rv_producer_close(s->producer);
    good(s, rv_consumer_close(s->consumer, WAIT_MS, &s->error));
    rv_client_close(s->client);
    proxy_stop(&s->proxy);
    local_home_destroy(s->home);
    free(s);
}

static struct txn_model look(struct stage *s)
{
    pthread_mutex_lock(&s->proxy.lock);
    struct txn_model m = s->model;
    pthread_mutex_unlock(&s->proxy.lock);
    return m;
}

static void strike_with(struct stage *s, struct txn_strike k)
{
    pthread_mutex_lock(&s->proxy.lock);
    memset(s->proxy.numbers, 0, sizeof s->proxy.numbers);
    s->model.strike = k;
    pthread_mutex_unlock(&s->proxy.lock);
}

static int send_one(struct stage *s, int32_t partition)
{
    const struct rv_message m = {
        .topic = "t", .value = rv_str("a value"), .to_partition = true, .partition = partition};
    return rv_send(s->producer, &m, NULL, NULL, &s->error);
}

static void fill(struct stage *s, int count)
{
    good(s, rv_txn_begin(s->producer, &s->error));
    for (int i = 0; i < count; i++) {
        good(s, send_one(s, i % PARTITIONS));
    }
}

static int offsets(struct stage *s, int64_t offset)
{
    const struct rv_partition at = {.topic = "t", .partition = 0, .offset = offset};
    return rv_txn_offsets(s->producer, s->consumer, &at, 1, WAIT_MS, &s->error);
}

static void init(struct stage *s)
{
    good(s, rv_txn_init(s->producer, WAIT_MS, &s->error));
}

static void commit(struct stage *s)
{
    good(s, rv_txn_commit(s->producer, WAIT_MS, &s->error));
}

static void abort_it(struct stage *s)
{
    good(s, rv_txn_abort(s->producer, WAIT_MS, &s->error));
}

/* ---- the flows ---- */

static void epochs_and_sequences_follow_the_flow(void **state)
{
    (void)state;
    for (int level = 1; level <= 2; level++) {
        struct stage *s = stage_open(level);
        init(s);
        for (int i = 0; i < 5; i++) {
            fill(s, 50);
            good(s, offsets(s, i + 1));
            commit(s);
        }
        struct txn_model m = look(s);
        assert_int_equal(m.commits, 5);
        assert_int_equal(m.aborts, 0);
        assert_int_equal(m.offset, 5);
        assert_int_equal(m.seen[TXN_MODEL_INIT], 1);
        assert_int_equal(m.seen[TXN_MODEL_FIND], 1); /* remembered */
        assert_int_equal(m.seen[TXN_MODEL_END], 5);
        assert_int_equal(m.seen[TXN_MODEL_TXN_OFFSETS], 5);
        assert_int_equal(m.seen[TXN_MODEL_ADD_OFFSETS], level == 1 ? 5 : 0);
        assert_in_range(m.seen[TXN_MODEL_ADD_PARTITIONS], level == 1 ? 5 : 0, level == 1 ? 15 : 0);
        assert_int_equal(m.epoch, level == 1 ? 1 : 6);
        assert_int_equal(m.next[0] + m.next[1] + m.next[2], level == 1 ? 250 : 0);
        stage_close(s);
    }
}

static void nothing_is_ended_where_nothing_was_begun(void **state)
{
    (void)state;
    for (int level = 1; level <= 2; level++) {
        struct stage *s = stage_open(level);
        init(s);
        fill(s, 0);
        commit(s);
        fill(s, 0);
        abort_it(s);
        assert_int_equal(look(s).seen[TXN_MODEL_END], 0);
        fill(s, 3);
        commit(s);
        assert_int_equal(look(s).commits, 1);
        stage_close(s);
    }
}

static void a_clean_abort_keeps_the_epoch_of_v1(void **state)
{
    (void)state;
    struct stage *s = stage_open(1);
    init(s);
    for (int i = 0; i < 3; i++) {
        fill(s, 30);
        good(s, rv_flush(s->producer, WAIT_MS, &s->error));
        abort_it(s);
    }
    assert_int_equal(look(s).seen[TXN_MODEL_INIT], 1);
    assert_int_equal(look(s).aborts, 3);
    stage_close(s);
}

static void an_abort_that_leaves_sequences_out_takes_a_new_epoch(void **state)
{
    (void)state;
    for (int level = 1; level <= 2; level++) {
        struct stage *s = stage_open(level);
        init(s);
        fill(s, 3);
        good(s, rv_flush(s->producer, WAIT_MS, &s->error));
        strike_with(s, (struct txn_strike){.api = TXN_MODEL_PRODUCE,
                                           .action = PROXY_REFUSE,
                                           .code = KERR_INVALID_RECORD,
                                           .count = 1});
        good(s, send_one(s, 0));
        good(s, send_one(s, 0));
        assert_int_equal(rv_txn_commit(s->producer, WAIT_MS, &s->error), KERR_INVALID_RECORD);
        assert_true(s->error.flags & RV_ABORT);
        assert_int_equal(send_one(s, 0), KERR_INVALID_RECORD);
        abort_it(s);
        assert_int_equal(look(s).seen[TXN_MODEL_INIT], level == 1 ? 2 : 1);
        fill(s, 30);
        commit(s);
        assert_int_equal(look(s).commits, 1);
        assert_int_equal(look(s).aborts, 1);
        stage_close(s);
    }
}

static void the_flow_changes_between_transactions(void **state)
{
    (void)state;
    struct stage *s = stage_open(1);
    init(s);
    fill(s, 10);
    good(s, rv_flush(s->producer, WAIT_MS, &s->error));
    assert_false(s->producer->txn.v2);
    proxy_mask(&s->proxy, 2);
    s->client->transaction_version = 2; /* as a new connection tells */
    commit(s); /* the one that is open ends as it began; the model plays V1 up to here */
    assert_int_equal(look(s).commits, 1);
    assert_int_equal(look(s).seen[TXN_MODEL_INIT], 2);
    int adds = look(s).seen[TXN_MODEL_ADD_PARTITIONS];
    assert_in_range(adds, 1, PARTITIONS);
    pthread_mutex_lock(&s->proxy.lock);
    s->model.level = 2;
    pthread_mutex_unlock(&s->proxy.lock);
    fill(s, 10);
    commit(s);
    assert_int_equal(look(s).commits, 2);
    assert_int_equal(look(s).seen[TXN_MODEL_ADD_PARTITIONS], adds);
    assert_int_equal(look(s).seen[TXN_MODEL_INIT], 2);
    stage_close(s);
}

/* ---- errors ---- */

/* A transaction with records and offsets; what the first failing call of it gives. */
static int run_one(struct stage *s)
{
    int code = rv_txn_begin(s->producer, &s->error);
    code = code == RV_OK ? send_one(s, 0) : code;
    code = code == RV_OK ? offsets(s, 1) : code;
    return code == RV_OK ? rv_txn_commit(s->producer, WAIT_MS, &s->error) : code;
}

static void codes_that_end_everything_are_fatal(void **state)
{
    static const struct {
        int16_t api, code;
        int level;
    } rows[] = {
        {TXN_MODEL_ADD_PARTITIONS, KERR_PRODUCER_FENCED,                       1},
        {TXN_MODEL_ADD_PARTITIONS, KERR_INVALID_PRODUCER_EPOCH,                1},
        {TXN_MODEL_ADD_PARTITIONS, KERR_INVALID_TXN_STATE,                     1},
        {TXN_MODEL_ADD_PARTITIONS, KERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED, 1},
        {TXN_MODEL_ADD_OFFSETS,    KERR_INVALID_PRODUCER_ID_MAPPING,           1},
        {TXN_MODEL_ADD_OFFSETS,    KERR_PRODUCER_FENCED,                       1},
        {TXN_MODEL_TXN_OFFSETS,    KERR_PRODUCER_FENCED,                       2},
        {TXN_MODEL_TXN_OFFSETS,    KERR_INVALID_PRODUCER_EPOCH,                1},
        {TXN_MODEL_PRODUCE,        KERR_PRODUCER_FENCED,                       2},
        {TXN_MODEL_PRODUCE,        KERR_INVALID_PRODUCER_ID_MAPPING,           2},
        {TXN_MODEL_END,            KERR_PRODUCER_FENCED,                       2},
        {TXN_MODEL_END,            KERR_INVALID_PRODUCER_EPOCH,                1},
        {TXN_MODEL_END,            KERR_INVALID_TXN_STATE,                     2},
        {TXN_MODEL_END,            KERR_INVALID_PRODUCER_ID_MAPPING,           1},
        {TXN_MODEL_END,            KERR_UNKNOWN_SERVER_ERROR,                  2},
        {TXN_MODEL_FIND,           KERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED, 2},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct stage *s = stage_open(rows[i].level);
        init(s);
        if (rows[i].api == TXN_MODEL_FIND) {
            s->producer->txn.coordinator = -1; /* it has moved */
        }
        strike_with(s, (struct txn_strike){.api = rows[i].api,
                                           .action = PROXY_REFUSE,
                                           .code = rows[i].code,
                                           .count = 1000});
        int code = run_one(s);
        assert_int_equal(code, rows[i].code);
        assert_true(s->error.flags & RV_FATAL);
        assert_false(s->error.flags & (RV_ABORT | RV_RETRIABLE));
        strike_with(s, (struct txn_strike){.count = 0});
        assert_int_equal(rv_txn_abort(s->producer, WAIT_MS, &s->error), code);
        assert_int_equal(rv_txn_begin(s->producer, &s->error), code);
        assert_int_equal(send_one(s, 0), code);
        assert_true(s->error.flags & RV_FATAL);
        assert_int_equal(look(s).commits, 0);
        stage_close(s);
    }
}

static void codes_that_end_a_transaction_leave_the_producer_usable(void **state)
{
    static const struct {
        int16_t api, code;
        int level;
    } rows[] = {
        {TXN_MODEL_ADD_PARTITIONS, KERR_TOPIC_AUTHORIZATION_FAILED,   1},
        {TXN_MODEL_ADD_PARTITIONS, KERR_TRANSACTION_ABORTABLE,        1},
        {TXN_MODEL_ADD_OFFSETS,    KERR_GROUP_AUTHORIZATION_FAILED,   1},
        {TXN_MODEL_ADD_OFFSETS,    KERR_TRANSACTION_ABORTABLE,        1},
        {TXN_MODEL_TXN_OFFSETS,    KERR_ILLEGAL_GENERATION,           2},
        {TXN_MODEL_TXN_OFFSETS,    KERR_UNKNOWN_MEMBER_ID,            1},
        {TXN_MODEL_TXN_OFFSETS,    KERR_FENCED_INSTANCE_ID,           2},
        {TXN_MODEL_TXN_OFFSETS,    KERR_GROUP_AUTHORIZATION_FAILED,   1},
        {TXN_MODEL_TXN_OFFSETS,    KERR_TRANSACTION_ABORTABLE,        2},
        {TXN_MODEL_PRODUCE,        KERR_TRANSACTION_ABORTABLE,        2},
        {TXN_MODEL_PRODUCE,        KERR_INVALID_PRODUCER_EPOCH,       2},
        {TXN_MODEL_PRODUCE,        KERR_INVALID_TXN_STATE,            1},
        {TXN_MODEL_PRODUCE,        KERR_MESSAGE_TOO_LARGE,            1},
        {TXN_MODEL_PRODUCE,        KERR_TOPIC_AUTHORIZATION_FAILED,   2},
        {TXN_MODEL_PRODUCE,        KERR_OUT_OF_ORDER_SEQUENCE_NUMBER, 1},
        {TXN_MODEL_PRODUCE,        KERR_OUT_OF_ORDER_SEQUENCE_NUMBER, 2},
        {TXN_MODEL_PRODUCE,        KERR_UNKNOWN_PRODUCER_ID,          1},
        {TXN_MODEL_PRODUCE,        KERR_DUPLICATE_SEQUENCE_NUMBER,    1},
        {TXN_MODEL_END,            KERR_TRANSACTION_ABORTABLE,        2},
        {TXN_MODEL_END,            KERR_UNKNOWN_PRODUCER_ID,          1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct stage *s = stage_open(rows[i].level);
        init(s);
        strike_with(s, (struct txn_strike){.api = rows[i].api,
                                           .action = PROXY_REFUSE,
                                           .code = rows[i].code,
                                           .count = 1000});
        int code = run_one(s);
        assert_int_equal(code, rows[i].code);
        assert_true(s->error.flags & RV_ABORT);
        assert_false(s->error.flags & (RV_FATAL | RV_RETRIABLE));
        assert_int_equal(rv_txn_commit(s->producer, WAIT_MS, &s->error), code);
        assert_int_equal(rv_txn_begin(s->producer, &s->error), code);
        strike_with(s, (struct txn_strike){.count = 0});
        abort_it(s);
        for (int n = 0; n < 2; n++) {
            good(s, run_one(s));
        }
        assert_int_equal(look(s).commits, 2);
        stage_close(s);
    }
}

static void a_coordinator_that_moves_is_looked_for(void **state)
{
    (void)state;
    static const int16_t apis[] = {TXN_MODEL_INIT, TXN_MODEL_ADD_PARTITIONS, TXN_MODEL_ADD_OFFSETS,
                                   TXN_MODEL_TXN_OFFSETS, TXN_MODEL_END};
    for (size_t i = 0; i < sizeof apis / sizeof apis[0]; i++) {
        struct stage *s = stage_open(1);
        strike_with(s, (struct txn_strike){.api = apis[i],
                                           .action = PROXY_REFUSE,
                                           .code = KERR_NOT_COORDINATOR,
                                           .count = 2});
        init(s);
        good(s, run_one(s));
        assert_int_equal(look(s).commits, 1);
        assert_int_equal(look(s).seen[TXN_MODEL_FIND], apis[i] == TXN_MODEL_TXN_OFFSETS ? 1 : 3);
        stage_close(s);
    }
}

static void an_init_that_is_refused_is_said_and_may_be_tried_again(void **state)
{
    (void)state;
    struct stage *s = stage_open(2);
    strike_with(s, (struct txn_strike){.api = TXN_MODEL_INIT,
                                       .action = PROXY_REFUSE,
                                       .code = KERR_INVALID_TRANSACTION_TIMEOUT,
                                       .count = 1});
    assert_int_equal(rv_txn_init(s->producer, WAIT_MS, &s->error),
                     KERR_INVALID_TRANSACTION_TIMEOUT);
    assert_int_equal(look(s).seen[TXN_MODEL_INIT], 0); /* once */
    assert_int_equal(rv_txn_begin(s->producer, &s->error), RV_E_STATE);
    init(s);
    good(s, run_one(s));
    stage_close(s);
}

/* ---- outcomes that nobody knows ---- */

static void a_commit_without_an_answer_is_a_commit_for_ever(void **state)
{
    (void)state;
    for (int level = 1; level <= 2; level++) {
        struct stage *s = stage_open(level);
        init(s);
        fill(s, 5);
        strike_with(
            s, (struct txn_strike){.api = TXN_MODEL_END, .action = PROXY_CUT_AFTER, .count = 1000});
        int code = rv_txn_commit(s->producer, 100, &s->error);
        assert_int_not_equal(code, RV_OK);
        assert_true(s->error.flags & RV_UNSURE);
        assert_false(s->error.flags & (RV_ABORT | RV_FATAL));
        assert_int_equal(rv_txn_abort(s->producer, WAIT_MS, &s->error), RV_E_STATE);
        assert_int_equal(rv_txn_begin(s->producer, &s->error), RV_E_STATE);
        assert_int_equal(send_one(s, 0), RV_E_STATE);
        strike_with(s, (struct txn_strike){.count = 0});
        commit(s);
        assert_int_equal(look(s).commits, 1);
        assert_int_equal(look(s).aborts, 0);
        good(s, run_one(s));
        stage_close(s);
    }
}

static void a_commit_that_was_not_asked_for_yet_may_become_an_abort(void **state)
{
    (void)state;
    for (int level = 1; level <= 2; level++) {
        struct stage *s = stage_open(level);
        init(s);
        fill(s, 1);
        strike_with(s, (struct txn_strike){.api = TXN_MODEL_PRODUCE,
                                           .action = PROXY_REFUSE,
                                           .code = KERR_NOT_ENOUGH_REPLICAS,
                                           .count = 100000});
        assert_int_equal(rv_txn_commit(s->producer, 50, &s->error), RV_E_TIMED_OUT);
        assert_int_equal(look(s).seen[TXN_MODEL_END], 0);
        abort_it(s);
        strike_with(s, (struct txn_strike){.count = 0});
        good(s, run_one(s));
        assert_int_equal(look(s).commits, 1);
        stage_close(s);
    }
}

static bool is_held(struct stage *s)
{
    pthread_mutex_lock(&s->proxy.lock);
    bool held = s->proxy.held > 0;
    pthread_mutex_unlock(&s->proxy.lock);
    return held;
}

/* A transaction with a record whose Produce request stays at the proxy. */
static void fill_held(struct stage *s)
{
    strike_with(s, (struct txn_strike){.api = TXN_MODEL_PRODUCE, .action = PROXY_HOLD, .count = 1});
    fill(s, 1);
    while (!is_held(s)) {
        good(s, rv_wait(s->client, 5, &s->error));
    }
}

static void an_abort_waits_for_requests_whose_records_timed_out(void **state)
{
    (void)state;
    for (int level = 1; level <= 2; level++) {
        struct stage *s = stage_open_with(level, "300");
        init(s);
        fill_held(s);
        while (rv_pending(s->producer)) { /* told that time is up; the request is still there */
            good(s, rv_wait(s->client, WAIT_MS, &s->error));
        }
        assert_int_equal(rv_txn_commit(s->producer, 20, &s->error), RV_E_TIMED_OUT);
        assert_true((s->error.flags & RV_ABORT) && (s->error.flags & RV_UNSURE));
        assert_int_equal(rv_txn_abort(s->producer, 20, &s->error), RV_E_TIMED_OUT);
        assert_int_equal(look(s).seen[TXN_MODEL_END], 0); /* T1 */
        proxy_release(&s->proxy);
        abort_it(s);
        assert_int_equal(look(s).seen[TXN_MODEL_INIT], level == 1 ? 2 : 1);
        stage_close(s);
    }
}

static void a_partition_that_may_have_been_added_is_ended(void **state)
{
    (void)state;
    static const enum proxy_action actions[] = {PROXY_CUT_AFTER, PROXY_CUT_BEFORE};
    for (int n = 0; n < 2; n++) {
        struct stage *s = stage_open(1);
        init(s);
        strike_with(s, (struct txn_strike){
                           .api = TXN_MODEL_ADD_PARTITIONS, .action = actions[n], .count = 100000});
        fill(s, 1);
        while (!s->producer->txn.add_unsure) {
            good(s, rv_wait(s->client, 5, &s->error));
        }
        strike_with(s, (struct txn_strike){.count = 0});
        abort_it(s); /* also where there is nothing: INVALID_TXN_STATE is no trouble then */
        struct txn_model m = look(s);
        assert_int_equal(m.seen[TXN_MODEL_END], 1);
        assert_int_equal(m.aborts, actions[n] == PROXY_CUT_AFTER);
        good(s, run_one(s));
        stage_close(s);
    }
}

static void offsets_that_nobody_knows_of_are_aborted(void **state)
{
    (void)state;
    static const int16_t apis[] = {TXN_MODEL_ADD_OFFSETS, TXN_MODEL_TXN_OFFSETS};
    for (int n = 0; n < 4; n++) {
        int level = 1 + n / 2;
        struct stage *s = stage_open(level);
        init(s);
        fill(s, 3);
        strike_with(s, (struct txn_strike){.api = level == 2 ? TXN_MODEL_TXN_OFFSETS : apis[n % 2],
                                           .action = n % 2 ? PROXY_CUT_AFTER : PROXY_REFUSE,
                                           .code = KERR_CONCURRENT_TRANSACTIONS,
                                           .count = 100000});
        const struct rv_partition at = {.topic = "t", .partition = 0, .offset = 9};
        int code = rv_txn_offsets(s->producer, s->consumer, &at, 1, 100, &s->error);
        assert_int_not_equal(code, RV_OK);
        assert_true(s->error.flags & RV_ABORT);
        assert_false(s->error.flags & (RV_FATAL | RV_RETRIABLE));
        assert_int_equal(rv_txn_commit(s->producer, WAIT_MS, &s->error), code);
        strike_with(s, (struct txn_strike){.count = 0});
        abort_it(s);
        assert_int_equal(look(s).offset, -1);
        good(s, run_one(s));
        stage_close(s);
    }
}

static void an_abort_waits_for_what_is_on_its_way(void **state)
{
    (void)state;
    for (int level = 1; level <= 2; level++) {
        struct stage *s = stage_open(level);
        init(s);
        fill_held(s);
        assert_int_equal(rv_txn_abort(s->producer, 20, &s->error), RV_E_TIMED_OUT);
        assert_int_equal(look(s).seen[TXN_MODEL_END], 0); /* T1 */
        assert_int_equal(rv_txn_commit(s->producer, 20, &s->error), RV_E_STATE);
        proxy_release(&s->proxy);
        abort_it(s);
        good(s, run_one(s));
        assert_int_equal(look(s).commits, 1);
        stage_close(s);
    }
}

struct other {
    struct stage *stage;
    int abort_code, offsets_code;
};

/* While rv_txn_commit waits on the test's thread. */
static void *call_meanwhile(void *ctx)
{
    struct other *o = ctx;
    struct stage *s = o->stage;
    struct rv_error e;
    const struct rv_partition at = {.topic = "t", .partition = 0, .offset = 1};
    while (look(s).strike.count) { /* until the record is held */
        pthread_mutex_lock(&s->proxy.lock);
        if (s->proxy.held > 0) {
            s->model.strike.count = 0;
        }
        pthread_mutex_unlock(&s->proxy.lock);
    }
    rv_lock(s->client);
    o->abort_code = rv_txn_abort(s->producer, 0, &e);
    o->offsets_code = rv_txn_offsets(s->producer, s->consumer, &at, 1, 0, &e);
    rv_unlock(s->client);
    proxy_release(&s->proxy);
    return NULL;
}

static void a_call_that_waits_keeps_other_threads_out(void **state)
{
    (void)state;
    struct stage *s = stage_open(2);
    struct other o = {.stage = s};
    pthread_t thread;
    good(s, rv_thread_start(s->client, &s->error));
    rv_lock(s->client);
    init(s);
    strike_with(s, (struct txn_strike){.api = TXN_MODEL_PRODUCE, .action = PROXY_HOLD, .count = 1});
    fill(s, 1);
    assert_int_equal(pthread_create(&thread, NULL, call_meanwhile, &o), 0);
    commit(s); /* what is held is cut, and asked for again */
    rv_unlock(s->client);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(o.abort_code, RV_E_STATE);
    assert_int_equal(o.offsets_code, RV_E_STATE);
    assert_int_equal(look(s).commits, 1);
    rv_thread_stop(s->client);
    stage_close(s);
}

static void a_storm_breaks_no_rule(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct stage *s = stage_open(1 + (int)(seed & 1));
        struct rng rng;
        int commits = 0;
        rng_init(&rng, seed);
        pthread_mutex_lock(&s->proxy.lock);
        rng_init(&s->model.rng, seed * 1000);
        s->model.storm = true;
        pthread_mutex_unlock(&s->proxy.lock);
        print_message("seed %d\n", (int)seed);
        init(s);
        for (int i = 0; i < 25; i++) {
            bool is_kept = rng_below(&rng, 3) > 0;
            fill(s, 1 + (int)rng_below(&rng, 30));
            if (rng_below(&rng, 2)) {
                good(s, offsets(s, i + 1));
            }
            if (is_kept) {
                commit(s);
                commits++;
            } else {
                abort_it(s);
            }
        }
        assert_int_equal(look(s).commits, commits);
        stage_close(s);
    }
}

/* ---- options, and the broker itself ---- */

static void weak_options_do_not_go_with_transactions(void **state)
{
    (void)state;
    struct rv_client *c;
    struct rv_producer *p;
    struct rv_error e;
    assert_int_equal(rv_client_open(RV_OPTIONS({"bootstrap.servers", "127.0.0.1:1"}), &c, &e),
                     RV_OK);
    assert_int_equal(
        rv_producer_open(c, RV_OPTIONS({"transactional.id", "x"}, {"acks", "1"}), &p, &e),
        RV_E_OPTION);
    assert_int_equal(
        rv_producer_open(c, RV_OPTIONS({"transactional.id", "x"}, {"enable.idempotence", "false"}),
                         &p, &e),
        RV_E_OPTION);
    rv_client_close(c);
}

static void rivulet_says_at_once_that_it_has_no_transactions(void **state)
{
    (void)state;
    struct stage *s = stage_open(0);
    proxy_plan_all(&s->proxy, NULL, NULL);
    assert_int_equal(rv_txn_init(s->producer, WAIT_MS, &s->error), KERR_INVALID_REQUEST);
    assert_non_null(strstr(s->error.text, "transactions are not supported by this broker yet"));
    assert_false(s->error.flags & (RV_RETRIABLE | RV_UNSURE));
    assert_int_equal(send_one(s, 0), RV_E_STATE);
    stage_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(epochs_and_sequences_follow_the_flow),
        cmocka_unit_test(nothing_is_ended_where_nothing_was_begun),
        cmocka_unit_test(a_clean_abort_keeps_the_epoch_of_v1),
        cmocka_unit_test(an_abort_that_leaves_sequences_out_takes_a_new_epoch),
        cmocka_unit_test(the_flow_changes_between_transactions),
        cmocka_unit_test(codes_that_end_everything_are_fatal),
        cmocka_unit_test(codes_that_end_a_transaction_leave_the_producer_usable),
        cmocka_unit_test(a_coordinator_that_moves_is_looked_for),
        cmocka_unit_test(an_init_that_is_refused_is_said_and_may_be_tried_again),
        cmocka_unit_test(a_commit_without_an_answer_is_a_commit_for_ever),
        cmocka_unit_test(a_commit_that_was_not_asked_for_yet_may_become_an_abort),
        cmocka_unit_test(an_abort_waits_for_what_is_on_its_way),
        cmocka_unit_test(an_abort_waits_for_requests_whose_records_timed_out),
        cmocka_unit_test(a_partition_that_may_have_been_added_is_ended),
        cmocka_unit_test(offsets_that_nobody_knows_of_are_aborted),
        cmocka_unit_test(a_call_that_waits_keeps_other_threads_out),
        cmocka_unit_test(a_storm_breaks_no_rule),
        cmocka_unit_test(weak_options_do_not_go_with_transactions),
        cmocka_unit_test(rivulet_says_at_once_that_it_has_no_transactions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

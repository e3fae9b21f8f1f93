/* The producer when things go wrong: every record is stored once and in order, or is said to have
 * failed. A proxy loses answers and puts others in their place; what counts is what the log holds.
 */
#include "base/rand.h"
#include "client/producer.h"
#include "protocol/error.h"
#include "tests/kit/local_broker.h"
#include "tests/kit/proxy.h"
#include "tests/kit/raw_log.h"
#include "tests/kit/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WAIT_MS = 60000, RECORDS_MAX = 5000, API_INIT_PRODUCER_ID = 22 };

struct world {
    char dir[TEMP_DIR_SIZE];
    struct local_broker broker;
    struct proxy proxy;
    char advertised[80];
    const char *sets[2];
    char address[64];
    struct rv_client *client;
};

static void broker_begin(struct world *w)
{
    local_broker_start(&w->broker, w->dir, w->broker.port, w->sets); /* after a restart the same */
    proxy_broker_set(&w->proxy, w->broker.port);
}

static int world_begin(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    temp_dir_make(w->dir);
    proxy_start(&w->proxy);
    snprintf(w->advertised, sizeof w->advertised, "advertised.listeners=PLAINTEXT://127.0.0.1:%d",
             (int)w->proxy.port);
    w->sets[0] = w->advertised;
    broker_begin(w);
    snprintf(w->address, sizeof w->address, "127.0.0.1:%d", (int)w->proxy.port);
    struct rv_error e = {0};
    if (rv_client_open(RV_OPTIONS({"bootstrap.servers", w->address}, {"retry.backoff.ms", "5"},
                                  {"retry.backoff.max.ms", "20"}, {"reconnect.backoff.ms", "5"},
                                  {"reconnect.backoff.max.ms", "20"}),
                       &w->client, &e) != RV_OK) {
        fail_msg("%s", e.text);
    }
    *state = w;
    return 0;
}

static int world_end(void **state)
{
    struct world *w = *state;
    rv_client_close(w->client);
    proxy_stop(&w->proxy);
    local_broker_stop(&w->broker);
    temp_dir_remove(w->dir);
    free(w);
    return 0;
}

/* ---- records and their fates ---- */

struct fates;

struct fate {
    struct fates *fates;
    int number; /* the record's, and its value */
    int told;   /* times the callback ran */
    int code;
    unsigned flags;
    int64_t offset;
};

struct fates {
    struct world *world;
    struct rv_producer *producer;
    const char *topic;
    struct fate of[RECORDS_MAX];
    int sent;
    int told;
    int last;      /* number told last with success */
    int reordered; /* deliveries that came before an older one */
};

static void on_delivery(void *ctx, const struct rv_delivery *d)
{
    struct fate *f = ctx;
    f->told++;
    f->fates->told++;
    f->offset = d->offset;
    f->code = d->error ? d->error->code : RV_OK;
    f->flags = d->error ? d->error->flags : 0;
    if (!d->error) {
        f->fates->reordered += f->number < f->fates->last;
        f->fates->last = f->number;
    }
}

/* A producer on a topic of its own. */
static struct fates *fates_begin(struct world *w, const char *topic,
                                 const struct rv_option *options)
{
    struct fates *f = calloc(1, sizeof *f);
    struct rv_error e = {0};
    proxy_plan_set(&w->proxy, NULL, NULL);
    if (rv_topic_create(w->client, topic, 1, NULL, WAIT_MS, &e) != RV_OK ||
        rv_producer_open(w->client, options, &f->producer, &e) != RV_OK) {
        fail_msg("%s", e.text);
    }
    f->world = w;
    f->topic = topic;
    return f;
}

/* Sends `count` records whose values are their numbers. */
static void send_some(struct fates *f, int count)
{
    for (int i = 0; i < count; i++) {
        int n = f->sent++;
        char value[16];
        struct rv_error e = {0};
        snprintf(value, sizeof value, "%d", n);
        f->of[n] = (struct fate){.fates = f, .number = n};
        const struct rv_message m = {
            .topic = f->topic, .value = rv_str(value), .to_partition = true, .partition = 0};
        if (rv_send(f->producer, &m, on_delivery, &f->of[n], &e) != RV_OK) {
            fail_msg("record %d: %s", n, e.text);
        }
    }
}

/* Waits until `count` fates are known. */
static void wait_told(struct fates *f, int count)
{
    struct rv_error e = {0};
    while (f->told < count) {
        assert_int_equal(rv_wait(f->world->client, WAIT_MS, &e), RV_OK);
    }
}

static void settle(struct fates *f)
{
    struct rv_error e = {0};
    int code = rv_flush(f->producer, WAIT_MS, &e);
    if (code == RV_E_TIMED_OUT && rv_pending(f->producer)) {
        fail_msg("%s", e.text);
    }
    assert_int_equal(rv_pending(f->producer), 0);
}

/* The log holds every delivered record once, at the offset that was told, in order; none that
 * failed, unless it was said to be unsure, and those once at most. Numbers below `first` were in
 * another log. Returns how many unsure ones are there. */
static int check_log(struct fates *f, int first)
{
    struct raw_log log;
    int least = 0, unsure = 0, last = -1;
    for (int n = first; n < f->sent; n++) {
        assert_int_equal(f->of[n].told, 1);
        least += f->of[n].code == RV_OK;
    }
    raw_log_read(&log, f->world->client, f->topic, 0, (size_t)least);
    for (size_t i = 0; i < log.count; i++) {
        char text[16];
        snprintf(text, sizeof text, "%.*s", (int)log.records[i].value.len,
                 (const char *)log.records[i].value.ptr);
        int n = atoi(text);
        const struct fate *fate = &f->of[n];
        assert_true(n >= first && n < f->sent);
        assert_true(n > last); /* in order, and so once */
        last = n;
        if (fate->code == RV_OK) {
            least--;
            assert_true(fate->offset == -1 || fate->offset == log.records[i].offset);
        } else {
            assert_true(fate->flags & RV_UNSURE);
            unsure++;
        }
    }
    assert_int_equal(least, 0);
    assert_int_equal(f->reordered, 0);
    raw_log_finish(&log);
    return unsure;
}

static int count_code(const struct fates *f, int code)
{
    int count = 0;
    for (int n = 0; n < f->sent; n++) {
        count += f->of[n].code == code;
    }
    return count;
}

/* The epoch and id of the batch that holds the last record. */
static struct batch_header last_batch(struct fates *f)
{
    struct raw_log log;
    raw_log_read(&log, f->world->client, f->topic, 0, 1);
    struct batch_header h = log.batches[log.batch_count - 1];
    raw_log_finish(&log);
    return h;
}

static void fates_end(struct fates *f)
{
    rv_producer_close(f->producer);
    proxy_plan_set(&f->world->proxy, NULL, NULL);
    free(f);
}

/* ---- plans ---- */

struct step {
    enum proxy_action action;
    int16_t code;
};

struct script {
    struct step steps[8]; /* for the first Produce requests; the others pass */
    struct step id;       /* for the first InitProducerId request */
    int ids;              /* how many of those came */
};

static enum proxy_action play(void *ctx, struct proxy_request *r)
{
    struct script *s = ctx;
    struct step step = {PROXY_PASS, 0};
    if (r->api_key == API_INIT_PRODUCER_ID) {
        step = s->ids++ == 0 ? s->id : step;
    } else if (r->number < 8) {
        step = s->steps[r->number];
    }
    r->code = step.code;
    return step.action;
}

/* Each record a batch, so that several are on their way when the script strikes. */
#define SINGLE_BATCHES                                                                             \
    {"batch.size", "1"},                                                                           \
    {                                                                                              \
        "linger.ms", "0"                                                                           \
    }

/* 40 records under a script. */
static struct fates *run_script(struct world *w, const char *topic, struct script *s)
{
    struct fates *f = fates_begin(w, topic, RV_OPTIONS(SINGLE_BATCHES));
    proxy_plan_set(&w->proxy, play, s);
    send_some(f, 40);
    settle(f);
    return f;
}

/* ---- answers that pass by themselves ---- */

static void a_passing_error_is_retried_without_overtaking(void **state)
{
    static const int16_t codes[] = {KERR_NOT_LEADER_OR_FOLLOWER,
                                    KERR_LEADER_NOT_AVAILABLE,
                                    KERR_REQUEST_TIMED_OUT,
                                    KERR_KAFKA_STORAGE_ERROR,
                                    KERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
                                    KERR_UNKNOWN_TOPIC_ID};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        for (int at = 0; at < 3; at++) {
            char topic[32];
            snprintf(topic, sizeof topic, "passing-%zu-%d", i, at);
            struct script s = {0};
            s.steps[at] = (struct step){PROXY_REFUSE, codes[i]};
            struct fates *f = run_script(*state, topic, &s);
            assert_int_equal(count_code(f, RV_OK), 40);
            assert_int_equal(check_log(f, 0), 0);
            assert_int_equal(last_batch(f).producer_epoch, 0);
            fates_end(f);
        }
    }
}

static void a_lost_answer_makes_no_duplicate(void **state)
{
    for (int at = 0; at < 5; at++) {
        char topic[32];
        snprintf(topic, sizeof topic, "lost-%d", at);
        struct script s = {0};
        s.steps[at] = (struct step){at % 2 ? PROXY_CUT_AFTER : PROXY_CUT_BEFORE, 0};
        s.steps[at + 1] = (struct step){PROXY_CUT_AFTER, 0};
        s.steps[at + 2] = (struct step){PROXY_CUT_AFTER, 0};
        struct fates *f = run_script(*state, topic, &s);
        assert_int_equal(count_code(f, RV_OK), 40);
        assert_int_equal(check_log(f, 0), 0);
        assert_int_equal(last_batch(f).producer_epoch, 0);
        fates_end(f);
    }
}

struct storm {
    struct rng rng;
    int struck;
};

static enum proxy_action rage(void *ctx, struct proxy_request *r)
{
    static const int16_t codes[] = {KERR_NOT_LEADER_OR_FOLLOWER, KERR_KAFKA_STORAGE_ERROR,
                                    KERR_NOT_ENOUGH_REPLICAS};
    struct storm *s = ctx;
    uint64_t n = rng_below(&s->rng, 100);
    s->struck += n < 30;
    if (r->api_key == API_INIT_PRODUCER_ID) {
        r->code = KERR_COORDINATOR_LOAD_IN_PROGRESS;
        return n < 30 ? PROXY_REFUSE : PROXY_PASS;
    }
    r->code = codes[n % 3];
    return n < 15   ? PROXY_CUT_AFTER
           : n < 20 ? PROXY_CUT_BEFORE
           : n < 30 ? PROXY_REFUSE
                    : PROXY_PASS;
}

static void a_storm_of_faults_loses_doubles_and_reorders_nothing(void **state)
{
    struct world *w = *state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        char topic[32];
        snprintf(topic, sizeof topic, "storm-%d", (int)seed);
        struct fates *f = fates_begin(w, topic,
                                      RV_OPTIONS({"batch.size", "110"}, {"linger.ms", "0"},
                                                 {"compression.type", seed % 2 ? "none" : "lz4"}));
        struct storm s = {0};
        rng_init(&s.rng, seed);
        proxy_plan_set(&w->proxy, rage, &s);
        send_some(f, 300);
        settle(f);
        print_message("seed %d: %d requests were struck\n", (int)seed, s.struck);
        assert_true(s.struck > 10);
        assert_int_equal(count_code(f, RV_OK), 300);
        assert_int_equal(check_log(f, 0), 0);
        fates_end(f);
    }
}

static void a_restarting_broker_is_ridden_out(void **state)
{
    struct world *w = *state;
    struct fates *f = fates_begin(w, "restart", RV_OPTIONS({"batch.size", "200"}));
    for (int round = 0; round < 3; round++) {
        send_some(f, 300);
        local_broker_stop(&w->broker);
        send_some(f, 50); /* while it is away */
        broker_begin(w);
        send_some(f, 300);
    }
    settle(f);
    assert_int_equal(count_code(f, RV_OK), 3 * 650);
    assert_int_equal(check_log(f, 0), 0);
    assert_int_equal(last_batch(f).producer_epoch, 0);
    fates_end(f);
}

static void without_idempotence_every_record_is_there_at_least_once(void **state)
{
    struct world *w = *state;
    struct fates *f = fates_begin(w, "acks1", RV_OPTIONS(SINGLE_BATCHES, {"acks", "1"}));
    struct script s = {0};
    s.steps[1] = s.steps[3] = (struct step){PROXY_CUT_AFTER, 0};
    proxy_plan_set(&w->proxy, play, &s);
    send_some(f, 40);
    settle(f);
    assert_int_equal(count_code(f, RV_OK), 40);
    struct raw_log log;
    raw_log_read(&log, w->client, f->topic, 0, 42);
    int there[40] = {0};
    for (size_t i = 0; i < log.count; i++) {
        char text[16];
        snprintf(text, sizeof text, "%.*s", (int)log.records[i].value.len,
                 (const char *)log.records[i].value.ptr);
        there[atoi(text)]++;
    }
    for (int i = 0; i < 40; i++) {
        assert_true(there[i] >= 1);
    }
    raw_log_finish(&log);
    assert_int_equal(s.ids, 0); /* it asked for no id */
    fates_end(f);
}

/* ---- gaps ---- */

static void a_record_that_is_refused_leaves_the_others_in_order(void **state)
{
    static const int16_t codes[] = {KERR_INVALID_TIMESTAMP, KERR_INVALID_RECORD,
                                    KERR_TOPIC_AUTHORIZATION_FAILED};
    for (size_t i = 0; i < 3; i++) {
        for (int at = 0; at < 3; at++) {
            char topic[32];
            snprintf(topic, sizeof topic, "refused-%zu-%d", i, at);
            struct script s = {0};
            s.steps[at] = (struct step){PROXY_REFUSE, codes[i]};
            struct fates *f = run_script(*state, topic, &s);
            assert_int_equal(count_code(f, RV_OK), 39);
            assert_int_equal(f->of[at].code, codes[i]);
            assert_false(f->of[at].flags & RV_UNSURE);
            assert_int_equal(check_log(f, 0), 0);
            assert_int_equal(last_batch(f).producer_epoch, 1); /* the gap is in no epoch */
            fates_end(f);
        }
    }
}

static void an_outcome_that_nobody_knows_is_told_as_unsure(void **state)
{
    struct script s = {0};
    s.steps[1] = (struct step){PROXY_REFUSE, KERR_UNKNOWN_SERVER_ERROR};
    struct fates *f = run_script(*state, "unknown", &s);
    assert_int_equal(f->of[1].code, KERR_UNKNOWN_SERVER_ERROR);
    assert_true(f->of[1].flags & RV_UNSURE);
    assert_int_equal(count_code(f, RV_OK), 39);
    check_log(f, 0);
    fates_end(f);
}

static void a_broker_that_forgot_us_gets_the_records_again_in_a_new_epoch(void **state)
{
    static const int16_t codes[] = {KERR_OUT_OF_ORDER_SEQUENCE_NUMBER, KERR_UNKNOWN_PRODUCER_ID,
                                    KERR_DUPLICATE_SEQUENCE_NUMBER};
    for (size_t i = 0; i < 3; i++) {
        for (int at = 0; at < 3; at++) {
            char topic[32];
            snprintf(topic, sizeof topic, "forgot-%zu-%d", i, at);
            struct script s = {0};
            s.steps[at] = (struct step){PROXY_REFUSE, codes[i]};
            struct fates *f = run_script(*state, topic, &s);
            assert_int_equal(count_code(f, RV_OK), 40);
            assert_int_equal(check_log(f, 0), 0);
            assert_int_equal(last_batch(f).producer_epoch, 1);
            assert_int_equal(s.ids, 1);
            fates_end(f);
        }
    }
}

static void a_spent_id_is_replaced(void **state)
{
    struct script s = {0};
    s.steps[1] = (struct step){PROXY_REFUSE, KERR_INVALID_PRODUCER_EPOCH};
    struct fates *f = run_script(*state, "spent", &s);
    assert_int_equal(count_code(f, RV_OK), 40);
    assert_int_equal(check_log(f, 0), 0);
    assert_int_equal(last_batch(f).producer_epoch, 0);
    assert_int_equal(s.ids, 2);
    fates_end(f);
}

static void an_epoch_that_is_used_up_takes_a_new_id(void **state)
{
    struct world *w = *state;
    struct fates *f = fates_begin(w, "used-up", RV_OPTIONS(SINGLE_BATCHES));
    struct script s = {0};
    s.steps[1] = (struct step){PROXY_REFUSE, KERR_INVALID_TIMESTAMP};
    proxy_plan_set(&w->proxy, play, &s);
    send_some(f, 1);
    settle(f);
    struct out_partition *p = out_partition_get(out_topic_get(f->producer, "used-up"), 0);
    p->producer_epoch = INT16_MAX - 1;
    p->broken = true; /* the next one is the last epoch */
    send_some(f, 30);
    settle(f);
    assert_int_equal(f->of[1].code, KERR_INVALID_TIMESTAMP);
    assert_int_equal(count_code(f, RV_OK), 30);
    assert_int_equal(check_log(f, 0), 0);
    assert_int_equal(last_batch(f).producer_epoch, 0);
    assert_int_equal(s.ids, 2);
    fates_end(f);
}

static void a_record_that_may_be_stored_is_never_sent_under_another_identity(void **state)
{
    static const int16_t codes[] = {KERR_OUT_OF_ORDER_SEQUENCE_NUMBER, KERR_UNKNOWN_PRODUCER_ID,
                                    KERR_INVALID_PRODUCER_EPOCH, KERR_MESSAGE_TOO_LARGE,
                                    KERR_INVALID_RECORD};
    for (size_t i = 0; i < 5; i++) {
        char topic[32];
        snprintf(topic, sizeof topic, "identity-%zu", i);
        struct script s = {0};
        s.steps[1] = (struct step){PROXY_CUT_AFTER, 0}; /* it is stored */
        s.steps[2] = (struct step){PROXY_REFUSE, codes[i]};
        struct fates *f = run_script(*state, topic, &s);
        assert_int_equal(f->of[1].code, codes[i]);
        assert_true(f->of[1].flags & RV_UNSURE);
        assert_int_equal(count_code(f, RV_OK), 39);
        assert_int_equal(check_log(f, 0), 1); /* once */
        fates_end(f);
    }
}

static void a_duplicate_after_a_lost_answer_is_delivered_nobody_knows_where(void **state)
{
    struct script s = {0};
    s.steps[1] = (struct step){PROXY_CUT_AFTER, 0};
    s.steps[2] = (struct step){PROXY_REFUSE, KERR_DUPLICATE_SEQUENCE_NUMBER};
    struct fates *f = run_script(*state, "duplicate", &s);
    assert_int_equal(count_code(f, RV_OK), 40);
    assert_int_equal(f->of[1].offset, -1);
    assert_int_equal(f->of[2].offset, 2);
    assert_int_equal(check_log(f, 0), 0);
    fates_end(f);
}

/* ---- time ---- */

static enum proxy_action hold_from_1(void *ctx, struct proxy_request *r)
{
    (void)ctx;
    return r->produce && r->number == 1 ? PROXY_HOLD : PROXY_PASS;
}

static void a_record_without_an_answer_times_out_unsure_and_the_next_go_on(void **state)
{
    struct world *w = *state;
    struct fates *f =
        fates_begin(w, "held", RV_OPTIONS(SINGLE_BATCHES, {"delivery.timeout.ms", "400"}));
    send_some(f, 1);
    settle(f);
    proxy_plan_set(&w->proxy, NULL, NULL);
    proxy_plan_set(&w->proxy, hold_from_1, NULL);
    send_some(f, 1); /* request 0 passes */
    wait_told(f, 2);
    send_some(f, 3); /* 1 is held, and those behind it wait in the same pipe */
    wait_told(f, 5);
    for (int n = 2; n < 5; n++) {
        assert_int_equal(f->of[n].code, RV_E_TIMED_OUT);
        assert_true(f->of[n].flags & RV_UNSURE);
    }
    proxy_release(&w->proxy);
    int tries = 0;
    do { /* the connection comes back within some attempts */
        send_some(f, 1);
        settle(f);
    } while (f->of[f->sent - 1].code != RV_OK && tries++ < 50);
    send_some(f, 20);
    settle(f);
    assert_int_equal(f->of[f->sent - 1].code, RV_OK);
    assert_int_equal(check_log(f, 0), 0); /* what was held never reached the broker */
    assert_int_equal(last_batch(f).producer_epoch, 1);
    fates_end(f);
}

static enum proxy_action hold_all(void *ctx, struct proxy_request *r)
{
    (void)ctx;
    return r->produce ? PROXY_HOLD : PROXY_PASS;
}

static void a_producer_whose_memory_is_full_sleeps_until_an_answer(void **state)
{
    struct world *w = *state;
    struct rv_producer *p = NULL;
    struct rv_error e = {0};
    char value[1000] = "";
    const struct rv_message m = {
        .topic = "full", .value = {value, sizeof value}
    };
    assert_int_equal(rv_topic_create(w->client, "full", 1, NULL, WAIT_MS, &e), RV_OK);
    assert_int_equal(rv_producer_open(w->client,
                                      RV_OPTIONS({"buffer.memory", "65536"}, {"max.block.ms", "0"},
                                                 {"linger.ms", "0"}),
                                      &p, &e),
                     RV_OK);
    proxy_plan_set(&w->proxy, NULL, NULL);
    proxy_plan_set(&w->proxy, hold_all, NULL);
    bool sleeps = false;
    int full = 0;
    while (!sleeps &&
           full < 1000) { /* until the first request is held, turns have something to do */
        int code = rv_send(p, &m, NULL, NULL, &e);
        assert_true(code == RV_OK || code == RV_E_FULL);
        full += code == RV_E_FULL;
        pthread_mutex_lock(&w->proxy.lock);
        bool held = w->proxy.held > 0;
        pthread_mutex_unlock(&w->proxy.lock);
        sleeps = held && code == RV_E_FULL && rv_timeout(w->client) != 0;
        if (!held || code == RV_E_FULL) {
            rv_wait(w->client, 1, &e);
        }
    }
    assert_true(sleeps);
    for (int i = 0; i < 10; i++) { /* asking again does not wake it */
        assert_int_equal(rv_send(p, &m, NULL, NULL, &e), RV_E_FULL);
        rv_process(w->client, &e);
    }
    assert_int_equal(rv_send(p, &m, NULL, NULL, &e), RV_E_FULL);
    assert_int_not_equal(rv_timeout(w->client), 0);
    proxy_plan_set(&w->proxy, NULL, NULL);
    proxy_release(&w->proxy);
    assert_int_equal(rv_flush(p, WAIT_MS, &e), RV_OK);
    rv_producer_close(p);
}

static void a_record_that_never_left_times_out_and_is_surely_not_stored(void **state)
{
    struct world *w = *state;
    struct fates *f =
        fates_begin(w, "away", RV_OPTIONS(SINGLE_BATCHES, {"delivery.timeout.ms", "400"}));
    send_some(f, 1);
    settle(f);
    local_broker_stop(&w->broker);
    send_some(f, 1); /* it finds out that the connection is dead, and cannot know more */
    wait_told(f, 2);
    assert_int_equal(f->of[1].code, RV_E_TIMED_OUT);
    send_some(f, 2); /* there is none any more */
    wait_told(f, 4);
    for (int n = 2; n < 4; n++) {
        assert_int_equal(f->of[n].code, RV_E_TIMED_OUT);
        assert_false(f->of[n].flags & RV_UNSURE);
    }
    broker_begin(w);
    int tries = 0;
    do {
        send_some(f, 1);
        settle(f);
    } while (f->of[f->sent - 1].code != RV_OK && tries++ < 50);
    assert_int_equal(f->of[f->sent - 1].code, RV_OK);
    int unsure = 0; /* of those that a slow machine had no answer for in time */
    for (int n = 4; n < f->sent; n++) {
        unsure += (f->of[n].flags & RV_UNSURE) != 0;
    }
    assert_in_range(check_log(f, 0), 0, unsure); /* the first ones are not there */
    fates_end(f);
}

static void closing_with_requests_on_their_way_says_unsure(void **state)
{
    struct world *w = *state;
    struct fates *f = fates_begin(w, "closed", RV_OPTIONS(SINGLE_BATCHES));
    proxy_plan_set(&w->proxy, hold_from_1, NULL);
    send_some(f, 4);
    wait_told(f, 1);
    struct rv_error e = {0};
    for (bool is_held = false; !is_held;) {
        assert_int_equal(rv_wait(w->client, 10, &e), RV_OK);
        pthread_mutex_lock(&w->proxy.lock);
        is_held = w->proxy.held > 0;
        pthread_mutex_unlock(&w->proxy.lock);
    }
    rv_producer_close(f->producer);
    f->producer = NULL;
    assert_int_equal(f->told, 4);
    for (int n = 1; n < 4; n++) {
        assert_int_equal(f->of[n].code, RV_E_STATE);
        assert_true(f->of[n].flags & RV_UNSURE);
    }
    proxy_release(&w->proxy);
    check_log(f, 0);
    fates_end(f);
}

/* ---- topics and ids ---- */

static void a_topic_that_is_made_again_is_another_log(void **state)
{
    struct world *w = *state;
    struct fates *f = fates_begin(w, "again", RV_OPTIONS(SINGLE_BATCHES));
    struct rv_error e = {0};
    send_some(f, 10);
    settle(f);
    assert_int_equal(check_log(f, 0), 0);
    assert_int_equal(rv_topic_delete(w->client, "again", WAIT_MS, &e), RV_OK);
    assert_int_equal(rv_topic_create(w->client, "again", 1, NULL, WAIT_MS, &e), RV_OK);
    send_some(f, 20);
    settle(f);
    assert_int_equal(count_code(f, RV_OK), 30);
    assert_int_equal(f->of[10].offset, 0);
    assert_int_equal(check_log(f, 10), 0);
    struct raw_log log;
    raw_log_read(&log, w->client, "again", 0, 20);
    assert_int_equal(log.batches[0].base_sequence, 0);
    assert_int_equal(log.batches[0].producer_epoch, 1);
    raw_log_finish(&log);
    fates_end(f);
}

static void an_id_that_is_refused_for_good_fails_the_producer(void **state)
{
    struct world *w = *state;
    struct fates *f = fates_begin(w, "fatal", NULL);
    struct script s = {
        .id = {PROXY_REFUSE, KERR_CLUSTER_AUTHORIZATION_FAILED}
    };
    proxy_plan_set(&w->proxy, play, &s);
    send_some(f, 3);
    wait_told(f, 3);
    for (int n = 0; n < 3; n++) {
        assert_int_equal(f->of[n].code, KERR_CLUSTER_AUTHORIZATION_FAILED);
        assert_true(f->of[n].flags & RV_FATAL);
        assert_false(f->of[n].flags & RV_UNSURE);
    }
    struct rv_error e = {0};
    const struct rv_message m = {.topic = "fatal", .value = rv_str("v")};
    assert_int_equal(rv_send(f->producer, &m, NULL, NULL, &e), KERR_CLUSTER_AUTHORIZATION_FAILED);
    assert_true(e.flags & RV_FATAL);
    fates_end(f);
}

static void an_id_that_is_refused_for_now_is_asked_for_again(void **state)
{
    struct world *w = *state;
    struct fates *f = fates_begin(w, "id-later", NULL);
    struct script s = {
        .id = {PROXY_REFUSE, KERR_COORDINATOR_LOAD_IN_PROGRESS}
    };
    proxy_plan_set(&w->proxy, play, &s);
    send_some(f, 3);
    settle(f);
    assert_int_equal(count_code(f, RV_OK), 3);
    assert_int_equal(s.ids, 2);
    assert_int_equal(check_log(f, 0), 0);
    fates_end(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_passing_error_is_retried_without_overtaking),
        cmocka_unit_test(a_lost_answer_makes_no_duplicate),
        cmocka_unit_test(a_storm_of_faults_loses_doubles_and_reorders_nothing),
        cmocka_unit_test(a_restarting_broker_is_ridden_out),
        cmocka_unit_test(without_idempotence_every_record_is_there_at_least_once),
        cmocka_unit_test(a_record_that_is_refused_leaves_the_others_in_order),
        cmocka_unit_test(an_outcome_that_nobody_knows_is_told_as_unsure),
        cmocka_unit_test(a_broker_that_forgot_us_gets_the_records_again_in_a_new_epoch),
        cmocka_unit_test(a_spent_id_is_replaced),
        cmocka_unit_test(an_epoch_that_is_used_up_takes_a_new_id),
        cmocka_unit_test(a_record_that_may_be_stored_is_never_sent_under_another_identity),
        cmocka_unit_test(a_duplicate_after_a_lost_answer_is_delivered_nobody_knows_where),
        cmocka_unit_test(a_record_without_an_answer_times_out_unsure_and_the_next_go_on),
        cmocka_unit_test(a_record_that_never_left_times_out_and_is_surely_not_stored),
        cmocka_unit_test(a_producer_whose_memory_is_full_sleeps_until_an_answer),
        cmocka_unit_test(closing_with_requests_on_their_way_says_unsure),
        cmocka_unit_test(a_topic_that_is_made_again_is_another_log),
        cmocka_unit_test(an_id_that_is_refused_for_good_fails_the_producer),
        cmocka_unit_test(an_id_that_is_refused_for_now_is_asked_for_again),
    };
    return cmocka_run_group_tests(tests, world_begin, world_end);
}

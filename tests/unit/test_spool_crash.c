/* A spool whose disk fails, whose power goes, or whose process is killed, at every operation of a
 * scenario in turn: what rv_spool_append promised arrives once and in order, and nothing else does.
 * The broker loses requests and answers, and forgets its producers, meanwhile.
 */
#include "protocol/error.h"
#include "tests/kit/spool_disk.h"
#include "tests/kit/spool_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SEND_MS = 600000, ROUNDS = 6, EVENTS_A_ROUND = 7, ATTEMPTS = 20 };

enum fault { FAULT_NONE, FAULT_IO, FAULT_FULL, FAULT_KILL, FAULT_LOSE, FAULT_TEAR, FAULT_COUNT };

static const char *const fault_names[] = {"none", "io", "full", "kill", "lose", "tear"};

struct aside {
    uint8_t times[RIG_EVENTS_MAX]; /* by number of the test's event: entries of the refused file */
};

static bool is_aside(void *ctx, uint64_t number)
{
    return ((struct aside *)ctx)->times[number] > 0;
}

static void aside_one(void *ctx, const struct rv_spool_event *e)
{
    struct aside *a = ctx;
    if (e->code != RV_OK) {
        char text[24];
        snprintf(text, sizeof text, "%.*s", (int)e->message.value.size,
                 (const char *)e->message.value.ptr);
        a->times[strtoull(text, NULL, 10)]++;
    }
}

/* After an error of the disk: as a program does, which opens the spool anew. */
static void again(struct spool_rig *r)
{
    if (sim_store_is_down(r->store)) {
        spool_rig_crash(r, SIM_KILL); /* the cut that happened decides how */
    } else if (r->spool) {
        struct rv_error e;
        (void)rv_spool_close(r->spool, &e);
        r->spool = NULL;
        sim_store_restart(r->store, SIM_KILL);
    } else {
        sim_store_restart(r->store, SIM_KILL);
    }
}

static bool is_open(struct spool_rig *r)
{
    for (int i = 0; !r->spool && i < ATTEMPTS; i++) {
        if (spool_rig_open(r) != RV_OK) {
            if (r->error.code == RV_E_CORRUPT) {
                return false;
            }
            again(r);
        }
    }
    return r->spool != NULL;
}

static void scenario(struct spool_rig *r)
{
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < EVENTS_A_ROUND; i++) {
            if (!is_open(r)) {
                fail_msg("open: %s", r->error.text);
            }
            if (spool_rig_append_to(r, r->next % 3 ? "a" : "b", 50 + r->next % 5 * 70) != RV_OK &&
                r->error.code != RV_E_FULL) {
                again(r);
            }
        }
        if (!is_open(r)) {
            fail_msg("open: %s", r->error.text);
        }
        int code = spool_rig_send(r, 60);
        if (code != RV_OK && code != RV_E_TIMED_OUT) {
            if (code == RV_E_CORRUPT) {
                fail_msg("send: %s", r->error.text);
            }
            again(r);
        }
        if (round % 3 == 2) {
            spool_broker_forget(&r->broker);
        }
        if (round == 3 && r->spool) {
            struct rv_error e;
            (void)rv_spool_close(r->spool, &e); /* a clean end, if the disk lets it */
            r->spool = NULL;
            again(r);
        }
    }
}

static void fault_at(struct spool_rig *r, enum fault fault, uint64_t operation)
{
    switch (fault) {
    case FAULT_IO: sim_store_fail_at(r->store, operation, ERR_IO); break;
    case FAULT_FULL: sim_store_fail_at(r->store, operation, ERR_NO_SPACE); break;
    case FAULT_KILL: sim_store_cut_at(r->store, operation, SIM_KILL); break;
    case FAULT_LOSE: sim_store_cut_at(r->store, operation, SIM_CUT_LOSE); break;
    case FAULT_TEAR: sim_store_cut_at(r->store, operation, SIM_CUT_TEAR); break;
    case FAULT_NONE:
    case FAULT_COUNT: break;
    }
}

/* False: the fault did not come to pass, the scenario has fewer operations. */
static bool run(uint64_t seed, enum fault fault, uint64_t operation, enum sim_cut end)
{
    struct spool_rig *r = spool_rig_create(seed);
    struct aside *aside = calloc(1, sizeof *aside);
    spool_rig_option(r, "spool.segment.bytes", "4096");
    r->broker.lose_answer = r->broker.lose_request = 25;
    r->broker.bad_code = KERR_INVALID_RECORD;
    r->broker.most = seed % 3 ? 0 : 2;
    fault_at(r, fault, operation);
    scenario(r);
    bool happened = sim_store_fault_op(r->store) != SIM_OP_COUNT;
    spool_rig_crash(r, end);
    sim_store_count_from_zero(r->store);
    r->broker.lose_answer = r->broker.lose_request = 0;
    r->broker.bad_code = 0; /* what was set aside stays there all the same */
    if (!is_open(r) || spool_rig_send(r, SEND_MS) != RV_OK) {
        fail_msg("at the end: %s", r->error.text);
    }
    struct rv_spool_status st;
    assert_int_equal(spool_show_on(spool_disk(r->store), aside_one, aside, &st, &r->error), RV_OK);
    for (uint64_t n = 1; n < r->next; n++) {
        assert_true(aside->times[n] <= 1);
        assert_true(!aside->times[n] || n % 10 == 7);
    }
    spool_rig_check(r, is_aside, aside);
    spool_rig_destroy(r);
    free(aside);
    return happened;
}

/* For messages of a failing assertion. */
static void at(uint64_t seed, enum fault fault, uint64_t operation)
{
    if (getenv("SPOOL_TRACE")) {
        fprintf(stderr, "seed %llu %s at operation %llu\n", (unsigned long long)seed,
                fault_names[fault], (unsigned long long)operation);
    }
}

static void sweep(uint64_t seed, enum fault fault, int *ret_runs)
{
    static const enum sim_cut ends[] = {SIM_KILL, SIM_CUT_LOSE, SIM_CUT_TEAR};
    for (uint64_t operation = 0;; operation++) {
        at(seed, fault, operation);
        for (int i = 0; i < 3; i++) {
            ++*ret_runs;
            if (!run(seed, fault, operation, ends[i])) {
                return;
            }
        }
    }
}

static void one_fault(enum fault fault)
{
    int runs = 0;
    const char *more = getenv("SPOOL_SEEDS");
    uint64_t seeds = more ? strtoull(more, NULL, 10) : 2;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        sweep(seed, fault, &runs);
    }
    printf("%s: %d runs\n", fault_names[fault], runs);
    assert_true(runs > 300);
}

/* A few events, large and small, so that a new file begins, with a fault at an operation; then a
 * crash right behind one more event. False: the fault did not come to pass. */
static bool roll(uint64_t seed, enum fault fault, uint64_t operation)
{
    struct spool_rig *r = spool_rig_create(seed);
    spool_rig_option(r, "spool.segment.bytes", "4096");
    assert_int_equal(spool_rig_open(r), RV_OK);
    sim_store_count_from_zero(r->store);
    if (fault == FAULT_KILL) {
        sim_store_cut_at(r->store, operation, SIM_KILL);
    } else {
        sim_store_fail_at(r->store, operation, ERR_NO_SPACE);
    }
    for (int i = 0; i < 12; i++) {
        int code = spool_rig_append_to(r, "b", i % 9 == 8 ? 0 : 480);
        if (code != RV_OK && code != RV_E_FULL) {
            again(r);
            assert_true(is_open(r));
        }
    }
    bool happened = sim_store_fault_op(r->store) != SIM_OP_COUNT;
    spool_rig_crash(r, fault == FAULT_KILL ? SIM_CUT_LOSE : SIM_KILL);
    if (!is_open(r) || spool_rig_send(r, SEND_MS) != RV_OK) {
        fail_msg("%s at operation %llu: %s", fault_names[fault], (unsigned long long)operation,
                 r->error.text);
    }
    spool_rig_check(r, NULL, NULL);
    spool_rig_destroy(r);
    return happened;
}

static void a_new_file_is_there_by_name_before_it_is_used(void **state)
{
    (void)state;
    uint64_t operation = 0;
    while (roll(1, FAULT_KILL, operation)) {
        operation++;
    }
    assert_true(operation > 20);
}

/* With many seeds: what a write that fails leaves may be all of a file's head. */
static void a_file_that_could_not_be_begun_is_begun_later(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        uint64_t operation = 0;
        while (roll(seed, FAULT_FULL, operation)) {
            operation++;
        }
        assert_true(operation > 20);
    }
}

/* A bad record and a missing topic are set aside, and the process ends at an operation; then the
 * broker has no objections any more. False: it did not end. */
static bool set_aside(uint64_t operation, enum sim_cut how)
{
    struct spool_rig *r = spool_rig_create(1);
    struct aside *aside = calloc(1, sizeof *aside);
    struct rv_spool_status st;
    spool_rig_option(r, "spool.topic.wait.ms", "0");
    assert_int_equal(spool_rig_open(r), RV_OK);
    r->next = 5;
    for (int i = 0; i < 6; i++) {
        assert_int_equal(spool_rig_append_to(r, i == 3 ? "nowhere" : "b", 0), RV_OK);
    }
    r->broker.bad_code = KERR_INVALID_RECORD; /* of number 7 */
    sim_store_count_from_zero(r->store);
    sim_store_cut_at(r->store, operation, how);
    (void)spool_rig_send(r, SEND_MS);
    bool happened = sim_store_fault_op(r->store) != SIM_OP_COUNT;
    spool_rig_crash(r, how);
    sim_store_count_from_zero(r->store);
    r->broker.bad_code = 0;
    spool_broker_topic(&r->broker, "nowhere", 1);
    if (!is_open(r) || spool_rig_send(r, SEND_MS) != RV_OK) {
        fail_msg("operation %llu: %s", (unsigned long long)operation, r->error.text);
    }
    assert_int_equal(spool_show_on(spool_disk(r->store), aside_one, aside, &st, &r->error), RV_OK);
    spool_rig_check(r, is_aside, aside);
    spool_rig_destroy(r);
    free(aside);
    return happened;
}

static void what_was_set_aside_stays_there(void **state)
{
    (void)state;
    static const enum sim_cut hows[] = {SIM_KILL, SIM_CUT_LOSE, SIM_CUT_TEAR};
    for (int i = 0; i < 3; i++) {
        uint64_t operation = 0;
        while (set_aside(operation, hows[i])) {
            operation++;
        }
        assert_true(operation > 15);
    }
}

/* Three events are set aside, and go into the spool again, with a fault at an operation of that; the
 * program goes on, and ends. Whatever was done when: each event is stored once, or is set aside.
 * False: the fault did not come to pass. */
static bool send_again(uint64_t seed, enum fault fault, uint64_t operation, enum sim_cut end)
{
    struct spool_rig *r = spool_rig_create(seed);
    struct aside *aside = calloc(1, sizeof *aside);
    struct rv_spool_status st;
    spool_rig_option(r, "spool.segment.bytes", "4096");
    spool_rig_option(r, "spool.topic.wait.ms", "0");
    assert_int_equal(spool_rig_open(r), RV_OK);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(spool_rig_append_to(r, i % 3 ? "nowhere" : "b", 900), RV_OK);
    }
    assert_int_equal(spool_rig_send(r, SEND_MS), RV_OK);
    spool_broker_topic(&r->broker, "nowhere", 1);
    sim_store_count_from_zero(r->store);
    fault_at(r, fault, operation);
    for (int i = 0; i < 2; i++) {
        if (is_open(r)) {
            int code = rv_spool_retry(r->spool, NULL, false, NULL, &r->error);
            assert_int_not_equal(code, RV_E_CORRUPT);
            code = code == RV_OK || code == RV_E_FULL
                       ? spool_rig_append_to(r, i ? "b" : "nowhere", 900)
                       : code;
            if (code != RV_OK && code != RV_E_FULL) {
                again(r);
            }
        }
    }
    bool happened = sim_store_fault_op(r->store) != SIM_OP_COUNT;
    spool_rig_crash(r, end);
    sim_store_count_from_zero(r->store);
    if (!is_open(r) || spool_rig_send(r, SEND_MS) != RV_OK) {
        fail_msg("at the end: %s", r->error.text);
    }
    assert_int_equal(spool_show_on(spool_disk(r->store), aside_one, aside, &st, &r->error), RV_OK);
    for (uint64_t n = 1; n < r->next; n++) {
        int times = spool_broker_count(&r->broker, n) + aside->times[n];
        if (times > 1 || (times == 0 && r->promised[n])) {
            fail_msg("event %llu: stored %d times, set aside %d times", (unsigned long long)n,
                     spool_broker_count(&r->broker, n), (int)aside->times[n]);
        }
    }
    spool_rig_destroy(r);
    free(aside);
    return happened;
}

static void what_goes_again_is_never_twice_and_never_lost(void **state)
{
    (void)state;
    static const enum sim_cut ends[] = {SIM_KILL, SIM_CUT_LOSE, SIM_CUT_TEAR};
    for (enum fault fault = FAULT_IO; fault < FAULT_COUNT; fault++) {
        for (uint64_t seed = 1; seed <= 3; seed++) {
            uint64_t operation = 0;
            for (bool happened = true; happened; operation++) {
                at(seed, fault, operation);
                happened = false;
                for (int i = 0; i < 3; i++) {
                    happened |= send_again(seed, fault, operation, ends[i]);
                }
            }
            assert_true(operation > 15);
        }
    }
}

static void without_a_fault_it_works(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        assert_false(run(seed, FAULT_NONE, 0, SIM_CUT_TEAR));
    }
}

static void every_operation_may_fail(void **state)
{
    (void)state;
    one_fault(FAULT_IO);
}

static void every_operation_may_find_the_disk_full(void **state)
{
    (void)state;
    one_fault(FAULT_FULL);
}

static void the_process_may_be_killed_at_every_operation(void **state)
{
    (void)state;
    one_fault(FAULT_KILL);
}

static void the_power_may_go_at_every_operation(void **state)
{
    (void)state;
    one_fault(FAULT_LOSE);
}

static void the_power_may_tear_every_operation(void **state)
{
    (void)state;
    one_fault(FAULT_TEAR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_file_is_there_by_name_before_it_is_used),
        cmocka_unit_test(a_file_that_could_not_be_begun_is_begun_later),
        cmocka_unit_test(what_was_set_aside_stays_there),
        cmocka_unit_test(what_goes_again_is_never_twice_and_never_lost),
        cmocka_unit_test(without_a_fault_it_works),
        cmocka_unit_test(every_operation_may_fail),
        cmocka_unit_test(every_operation_may_find_the_disk_full),
        cmocka_unit_test(the_process_may_be_killed_at_every_operation),
        cmocka_unit_test(the_power_may_go_at_every_operation),
        cmocka_unit_test(the_power_may_tear_every_operation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

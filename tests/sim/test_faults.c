/* Every operation of a broker's life on its files fails in turn, with each error that there is; a
 * write leaves some of its bytes. Whatever it was, it is answered, nothing that was promised is
 * lost, and asked again it is done: at once, or, where a sync failed and the process ends, after
 * the next start. (What system calls do below the store, being interrupted and doing half of it, is
 * in tests/wire/test_interrupted.c.)
 *
 * SEED=n runs that fault alone, RUNS=n so many of all, evenly, FIRST=n from which on; a failure
 * prints its number. Each runs in a process of its own.
 */
#include "base/check.h"
#include "base/mem.h"
#include "tests/kit/life.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { STRIDE = 7919, TRIES = 4 };

static const struct {
    const char *name;
    err e;
} errors[] = {
    {"EIO",    ERR_IO      },
    {"ENOSPC", ERR_NO_SPACE},
    {"EMFILE", ERR_NO_FILES},
};
enum { ERRORS = sizeof errors / sizeof *errors };

struct fault {
    uint64_t operation;
    err e;
};

struct outcome { /* of one fault */
    enum sim_op op;
    bool ended;        /* the process, as it must after a failed sync */
    uint32_t starts;   /* that were refused */
    uint32_t restarts; /* that it took until a step was done */
    uint64_t refused;  /* steps */
    uint64_t stuck;    /* steps that were refused again and again */
    char first_loss[LIFE_TEXT];
};

/* The whole script, whatever happens on the way. */
static void live(struct life *l, struct outcome *o)
{
    for (int tries = 0, step = 0; l->step < life_steps(); tries++) {
        life_run(l, life_steps());
        tries = l->step == step ? tries : 0;
        step = l->step;
        if (tries == TRIES) {
            o->stuck++;
            return;
        }
        if (tries == TRIES / 2 && l->runs) { /* what a start could not read needs another one */
            o->restarts++;
            life_must_start(l, life_stop(l));
            continue;
        }
        if (sim_store_is_down(l->k.logs.sim)) {
            o->ended = true;
            o->op = sim_store_fault_op(l->k.logs.sim);
            life_crash(l, SIM_CUT_LOSE);
            life_must_start(l, false);
        } else if (!l->runs) {
            o->starts++;
            life_must_start(l, false);
        } else if (l->step < life_steps()) { /* refused; what waits for a while does so */
            (void)life_wait(l);              /* the next round sees it */
        }
        life_look(l);
    }
}

static void run(const void *arg, void *out)
{
    const struct fault *f = arg;
    struct outcome *o = out;
    struct life *l = mem_need(sizeof *l);
    struct sim_store *sim;
    life_init(l, 1);
    sim = l->k.logs.sim;
    sim_store_seed(sim, f->operation);
    sim_store_fail_at(sim, f->operation, f->e);
    life_start(l, false);
    live(l, o);
    o->op = o->ended ? o->op : sim_store_fault_op(sim);
    for (int again = 0; again < 2 && l->runs; again++) {
        life_crash(l, SIM_CUT_LOSE);
        life_must_start(l, false);
        life_look(l);
    }
    if (l->runs) {
        life_must_start(l, life_stop(l));
        life_look(l);
    }
    o->refused = l->refused;
    memcpy(o->first_loss, l->first_loss, sizeof o->first_loss);
    if (l->runs) {
        (void)life_stop(l);
    }
    life_finish(l);
    mem_free(l);
}

static uint64_t operations_of_a_life(void)
{
    struct life *l = mem_need(sizeof *l);
    life_init(l, 1);
    life_start(l, false);
    life_run(l, life_steps());
    check(l->runs && l->step == life_steps());
    uint64_t operations = sim_store_operations(l->k.logs.sim);
    assert_true(operations < STRIDE);
    (void)life_stop(l);
    life_finish(l);
    mem_free(l);
    return operations;
}

struct tally {
    uint64_t ops[SIM_OP_COUNT][ERRORS];
    uint64_t ended, starts, restarts, refused, without; /* without: nobody noticed */
};

static void count(struct tally *t, const struct outcome *o, int error)
{
    t->ops[o->op][error]++;
    t->ended += o->ended;
    t->starts += o->starts;
    t->restarts += o->restarts;
    t->refused += o->refused;
    t->without += !o->ended && !o->starts && !o->refused;
}

static void print(const struct tally *t, uint64_t runs, uint64_t operations)
{
    print_message(
        "%llu faults at %llu operations, all handled: %llu times the process ends after a "
        "failed sync, %llu starts are refused, %llu requests (%llu until another "
        "start), %llu are done without\n",
        (unsigned long long)runs, (unsigned long long)operations, (unsigned long long)t->ended,
        (unsigned long long)t->starts, (unsigned long long)t->refused,
        (unsigned long long)t->restarts, (unsigned long long)t->without);
    for (int op = 0; op < SIM_OP_COUNT; op++) {
        print_message("  %-12s", sim_op_name((enum sim_op)op));
        for (int e = 0; e < ERRORS; e++) {
            print_message(" %s %6llu", errors[e].name, (unsigned long long)t->ops[op][e]);
        }
        print_message("%s\n", op == SIM_WRITE ? "  each after a part of its bytes" : "");
    }
}

static void every_operation_may_fail_in_every_way(void **state)
{
    (void)state;
    uint64_t operations = operations_of_a_life();
    uint64_t all = operations * ERRORS;
    uint64_t first = life_number("SEED", life_number("FIRST", 0)) % all;
    uint64_t runs = getenv("SEED") ? 1 : life_number("RUNS", all);
    runs = runs < all ? runs : all;
    struct tally tally = {0};
    for (uint64_t i = first; i < first + runs; i++) {
        int error = (int)(i % ERRORS);
        struct fault f = {i % all / ERRORS * STRIDE % operations, errors[error].e};
        struct outcome o;
        if (!life_apart(run, &f, &o, sizeof o)) {
            fail_msg("SEED=%llu: the process ended", (unsigned long long)i);
        }
        if (o.first_loss[0] || o.stuck || o.op == SIM_OP_COUNT) {
            fail_msg("SEED=%llu: %s at a %s: %s", (unsigned long long)i, errors[error].name,
                     sim_op_name(o.op), o.stuck ? "a step is refused for ever" : o.first_loss);
        }
        count(&tally, &o, error);
    }
    print(&tally, runs, runs < all ? (runs + ERRORS - 1) / ERRORS : operations);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_may_fail_in_every_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

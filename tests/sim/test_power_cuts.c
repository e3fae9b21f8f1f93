/* The power goes at every operation of a broker's life, again with other subsets of what was not
 * synced and other torn sectors, and once more in the start behind it: nothing that was
 * acknowledged is lost, nothing that was read is gone. And the same harness tells when one of the
 * things that this rests on is taken away.
 *
 * A cut has a number: its operation follows from it, all of a life's once before those of another
 * life, whose threads take other turns, and so does what the cut leaves. RUNS=n sets how many there
 * are, FIRST=n from which on, SEED=n runs that one alone; a failure prints its number. Each runs in
 * a process of its own.
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

enum {
    RUNS = 2500,
    SABOTAGED_RUNS = 400,
    STRIDE = 7919,    /* a prime, and more than the operations */
    START_CUTS = 250, /* the start behind a cut is cut in its first so many operations */
    ROT_EVERY = 5,    /* of so many cuts one is done again, with rot behind it */
    STEPS_AFTER = 3,  /* that are done after the cut, before the power goes again */
};

struct sabotage {
    const char *what;
    bool no_sync;
    bool no_salt;
    bool turned_round;
};

struct cut {
    const struct sabotage *sabotage;
    uint64_t number;
    uint64_t life; /* seed of how its threads take turns */
    uint64_t operation;
};

struct outcome {         /* of one number; what its process tells */
    enum life_step step; /* at which the power went */
    enum sim_op op;
    uint32_t start_cuts; /* cuts in starts */
    uint64_t refused;    /* steps, though nothing failed; with rot: a start */
    bool rotten;         /* the durable ends were there, and are rotten */
    bool fenced;         /* some log was, by the start behind that */
    uint64_t losses[LIFE_LOSSES];
    char first_loss[LIFE_TEXT];
};

static struct life *create_life(const struct sabotage *s, uint64_t seed)
{
    struct life *l = mem_need(sizeof *l);
    life_init(l, seed);
    l->k.logs.has_no_salt = s->no_salt;
    l->k.logs.clears_journal = s->turned_round;
    if (s->no_sync) {
        sim_store_ignore_syncs(l->k.logs.sim);
    }
    return l;
}

static void destroy_life(struct life *l)
{
    life_finish(l);
    mem_free(l);
}

/* What a life without a cut is, and that all of it happens in it. */
static uint64_t operations_of(uint64_t seed)
{
    static const struct sabotage none;
    struct life *l = create_life(&none, seed);
    l->k.logs.keeps_lines = true;
    life_start(l, false);
    life_run(l, life_steps());
    check(l->runs && l->step == life_steps() && l->refused == 0);
    uint64_t operations = sim_store_operations(l->k.logs.sim);
    life_look(l);
    if (life_loss_count(l)) {
        fail_msg("without a cut: %s", l->first_loss);
    }
    static const char *const events[] = {"event=log_cleaned", "event=segment_deleted",
                                         "event=segment_expired"};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        if (!strstr(buf_text(&l->k.logs.lines), events[i])) {
            fail_msg("%s is in no life", events[i]);
        }
    }
    assert_true(l->journal_uses > (uint64_t)l->k.logs.journal_files); /* they went round */
    assert_true(operations < STRIDE);
    destroy_life(l);
    return operations;
}

static void cut_in_start(struct life *l, struct rng *rng, struct outcome *o)
{
    struct sim_store *sim = l->k.logs.sim;
    sim_store_cut_at(sim, rng_below(rng, START_CUTS),
                     rng_below(rng, 4) ? SIM_CUT_TEAR : SIM_CUT_LOSE);
    life_start(l, false);
    if (sim_store_is_down(sim)) {
        o->start_cuts++;
        life_crash(l, SIM_CUT_LOSE);
        return;
    }
    sim_store_count_from_zero(sim);
    life_look(l);
    life_crash(l, SIM_CUT_LOSE);
}

/* A life up to the power cut; `ret_rng` is for what follows. */
static struct life *life_until_cut(const struct cut *c, enum sim_cut how, struct rng *ret_rng)
{
    struct life *l = create_life(c->sabotage, c->life);
    struct sim_store *sim = l->k.logs.sim;
    rng_init(ret_rng, c->number);
    sim_store_seed(sim, c->number);
    sim_store_cut_at(sim, c->operation, how);
    life_start(l, false);
    life_run(l, life_steps());
    check(sim_store_is_down(sim));
    return l;
}

static void run(const void *arg, void *out)
{
    const struct cut *c = arg;
    struct outcome *o = out;
    struct rng rng;
    struct life *l = life_until_cut(c, c->life == 1 ? SIM_CUT_LOSE : SIM_CUT_TEAR, &rng);
    struct sim_store *sim = l->k.logs.sim;
    o->step = l->starts ? life_step_at(l->step) : LIFE_CREATE;
    o->op = sim_store_fault_op(sim);
    life_crash(l, SIM_CUT_LOSE);
    cut_in_start(l, &rng, o);
    int until = l->step + STEPS_AFTER < life_steps() ? l->step + STEPS_AFTER : life_steps();
    for (int again = 0; again < 2; again++) { /* what the first start mended is lasting */
        life_must_start(l, false);
        life_look(l);
        if (l->runs) {
            life_run(l, until);
        }
        life_crash(l, SIM_CUT_LOSE);
    }
    life_must_start(l, false);
    if (l->runs && life_stop(l)) { /* and so is what a clean stop left */
        sim_store_restart(sim, SIM_CUT_LOSE);
        life_must_start(l, true);
    }
    life_look(l);
    o->refused = l->refused;
    memcpy(o->losses, l->losses, sizeof o->losses);
    memcpy(o->first_loss, l->first_loss, sizeof o->first_loss);
    if (l->runs) {
        (void)life_stop(l);
    }
    destroy_life(l);
}

/* All operations of a life once, in another order than they come; then of another life. */
static struct cut cut_of(const struct sabotage *s, uint64_t number)
{
    static uint64_t first, last_life, last; /* operations: of the first life, and the last one */
    first = first ? first : operations_of(1);
    uint64_t life = 1 + number / first;
    last = last_life == life ? last : operations_of(life);
    last_life = life;
    return (struct cut){s, number, life, number % first * STRIDE % first % last};
}

static void nothing_promised_is_lost_wherever_the_power_goes(void **state)
{
    (void)state;
    static const struct sabotage none;
    uint64_t operations = operations_of(1);
    uint64_t first = life_number("SEED", life_number("FIRST", 0));
    uint64_t runs = getenv("SEED") ? 1 : life_number("RUNS", RUNS);
    uint64_t in_starts = 0;
    uint64_t steps[LIFE_STEP_KINDS] = {0};
    uint64_t ops[SIM_OP_COUNT] = {0};
    for (uint64_t i = first; i < first + runs; i++) {
        struct cut c = cut_of(&none, i);
        struct outcome o;
        if (!life_apart(run, &c, &o, sizeof o)) {
            fail_msg("SEED=%llu: the process ended", (unsigned long long)i);
        }
        if (o.first_loss[0]) {
            fail_msg("SEED=%llu: %s", (unsigned long long)i, o.first_loss);
        }
        if (o.refused) {
            fail_msg("SEED=%llu: a step was refused", (unsigned long long)i);
        }
        in_starts += o.start_cuts;
        steps[o.step]++;
        ops[o.op]++;
    }
    print_message("%llu power cuts, no two alike, at %llu operations; and %llu in the starts "
                  "behind them: lost 0, gone 0\n",
                  (unsigned long long)runs,
                  (unsigned long long)(runs < operations ? runs : operations),
                  (unsigned long long)in_starts);
    for (int i = 0; i < LIFE_STEP_KINDS; i++) {
        print_message("  %-32s %8llu\n", life_step_name((enum life_step)i),
                      (unsigned long long)steps[i]);
    }
    for (int i = 0; i < SIM_OP_COUNT; i++) {
        print_message("  %-32s %8llu\n", sim_op_name((enum sim_op)i), (unsigned long long)ops[i]);
    }
    assert_true(in_starts > runs / 3 || runs < 100);
}

/* ---- and with the word of how far logs were durable rotten */

static const char *const WORD = "durable-offset-checkpoint";

/* False: it is not there. */
static bool rot_word(struct sim_store *sim, struct rng *rng)
{
    const struct store *store = sim_store_store(sim);
    struct store_file *file;
    int64_t size = 0;
    sim_store_pause(sim, true);
    err e = store->ops->open(store->ctx, WORD, STORE_READ, &file);
    if (!e) {
        check(store->ops->size(store->ctx, file, &size) == OK);
        store->ops->close(store->ctx, file);
        sim_store_flip(sim, WORD, (int64_t)rng_below(rng, (uint64_t)size),
                       (uint8_t)(1 << rng_below(rng, 8)));
    }
    sim_store_pause(sim, false);
    return !e;
}

/* A torn tail may be fenced then; of the metadata log, without which there is no start, until
 * somebody who knows better takes the file away. */
static void run_with_rot(const void *arg, void *out)
{
    const struct cut *c = arg;
    struct outcome *o = out;
    struct rng rng;
    struct life *l = life_until_cut(c, c->number & 1 ? SIM_CUT_LOSE : SIM_CUT_TEAR, &rng);
    struct sim_store *sim = l->k.logs.sim;
    life_crash(l, SIM_CUT_LOSE);
    o->rotten = rot_word(sim, &rng);
    l->k.logs.keeps_lines = true;
    life_start(l, false);
    if (!l->runs && o->rotten) {
        check(strstr(buf_text(&l->k.logs.lines), "event=log_fenced dir=__cluster_metadata-0"));
        o->refused++;
        (void)sim_store_store(sim)->ops->unlink(sim_store_store(sim)->ctx, WORD);
        life_must_start(l, false);
    }
    bool said = strstr(buf_text(&l->k.logs.lines), "event=durable_ends_rotten") != NULL;
    check(said == o->rotten);
    o->fenced = strstr(buf_text(&l->k.logs.lines), "event=log_fenced") != NULL;
    life_look(l);
    for (int again = 0; again < 2; again++) { /* what that start wrote is believed by the next */
        life_crash(l, SIM_CUT_LOSE);
        l->k.logs.lines.len = 0;
        life_must_start(l, false);
        check(!strstr(buf_text(&l->k.logs.lines), "event=durable_ends_rotten"));
        life_look(l);
    }
    memcpy(o->first_loss, l->first_loss, sizeof o->first_loss);
    if (l->runs) {
        (void)life_stop(l);
    }
    destroy_life(l);
}

static void with_rot_in_the_durable_ends_nothing_promised_is_lost(void **state)
{
    (void)state;
    static const struct sabotage none;
    uint64_t first = life_number("SEED", life_number("FIRST", 0));
    uint64_t runs = getenv("SEED") ? 1 : (life_number("RUNS", RUNS) + ROT_EVERY - 1) / ROT_EVERY;
    uint64_t rotten = 0, fenced = 0, refused = 0;
    for (uint64_t i = first; i < first + runs; i++) {
        struct cut c = cut_of(&none, i);
        struct outcome o;
        if (!life_apart(run_with_rot, &c, &o, sizeof o)) {
            fail_msg("SEED=%llu: the process ended", (unsigned long long)i);
        }
        if (o.first_loss[0]) {
            fail_msg("SEED=%llu: %s", (unsigned long long)i, o.first_loss);
        }
        rotten += o.rotten;
        fenced += o.fenced;
        refused += o.refused;
    }
    print_message("%llu power cuts, %llu with rot in the durable ends behind them: lost 0, gone 0; "
                  "%llu fence a log, %llu until the file is taken away\n",
                  (unsigned long long)runs, (unsigned long long)rotten, (unsigned long long)fenced,
                  (unsigned long long)refused);
    assert_true(rotten > runs / 4 || runs < 100);
}

/* ---- what the harness would say */

/* Losses are reported, or the harness shows nothing. */
static void expect_losses(const struct sabotage *s)
{
    if (getenv("FIRST") || getenv("SEED")) {
        skip(); /* shown once is shown */
    }
    uint64_t operations = operations_of(1);
    uint64_t runs = life_number("RUNS", SABOTAGED_RUNS);
    runs = runs < SABOTAGED_RUNS ? runs : SABOTAGED_RUNS;
    uint64_t with_loss = 0;
    uint64_t ended = 0;
    uint64_t losses[LIFE_LOSSES] = {0};
    char example[LIFE_TEXT] = "";
    for (uint64_t i = 0; i < runs; i++) {
        struct cut c = cut_of(s, operations + i);
        struct outcome o;
        ended += !life_apart(run, &c, &o, sizeof o);
        with_loss += o.first_loss[0] != 0;
        for (int n = 0; n < LIFE_LOSSES; n++) {
            losses[n] += o.losses[n];
        }
        if (!example[0]) {
            memcpy(example, o.first_loss, sizeof example);
        }
    }
    print_message("%s: %llu of %llu cuts lose something, %llu end the process:", s->what,
                  (unsigned long long)with_loss, (unsigned long long)runs,
                  (unsigned long long)ended);
    for (int n = 0; n < LIFE_LOSSES; n++) {
        print_message(" %s %llu", life_loss_name((enum life_loss)n), (unsigned long long)losses[n]);
    }
    print_message("\n  as %s\n", example);
    assert_true(losses[LIFE_LOST] + losses[LIFE_GONE] > 0);
}

static void without_the_fsync_losses_are_reported(void **state)
{
    (void)state;
    static const struct sabotage s = {.what = "fsync removed", .no_sync = true};
    expect_losses(&s);
}

static void without_the_salt_losses_are_reported(void **state)
{
    (void)state;
    static const struct sabotage s = {.what = "salt removed", .no_salt = true};
    expect_losses(&s);
}

/* The journal is cleared, and only then goes into the logs what it had. */
static void with_recoverys_order_turned_round_losses_are_reported(void **state)
{
    (void)state;
    static const struct sabotage s = {.what = "recovery turned round", .turned_round = true};
    expect_losses(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_promised_is_lost_wherever_the_power_goes),
        cmocka_unit_test(with_rot_in_the_durable_ends_nothing_promised_is_lost),
        cmocka_unit_test(without_the_fsync_losses_are_reported),
        cmocka_unit_test(without_the_salt_losses_are_reported),
        cmocka_unit_test(with_recoverys_order_turned_round_losses_are_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

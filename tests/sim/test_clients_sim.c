/* A broker below the sockets, of one to three shards on one thread, and clients as they are:
 * idempotent producers with several batches in flight, which send again what they had no answer to,
 * or send twice; consumers; groups that commit; one who asks around. Between any two steps (a
 * shard's turn, a message between shards that arrives, a worker's item that runs or completes)
 * connections end, time passes, operations fail, the process is killed, the power goes. All of it
 * follows from one seed.
 *
 * What must hold is in tests/kit/broker_model.h; besides, an acks=all producer is never told that
 * its oldest batch is out of order, nobody that an offset is out of range that he was given, and
 * every shard's groups and partitions are listed, once.
 *
 * SEED=n runs that seed alone; RUNS=n sets how many are run, FIRST=n from which on. SHARDS=n says
 * how many there are, else the seed does. PRINT=1 shows the broker's log, STATS=1 how much there
 * was. A failure prints its seed.
 */
#include "base/check.h"
#include "base/mem.h"
#include "tests/kit/seeds.h"
#include "tests/kit/sim_actors.h"

#include <stdio.h>
#include <stdlib.h>

enum { STEPS = 1500 };

struct world {
    struct sim_world w; /* the broker, and its clients */
    enum sim_cut cut;   /* how the one ends that an operation brings; SIM_KILL: none does */
    uint64_t crashes;   /* so far */
};

/* ---- what happens to the broker */

static void start(struct world *w, bool clean)
{
    sim_store_count_from_zero(w->w.k.logs.sim);
    sim_store_set_limit(w->w.k.logs.sim, -1);
    w->cut = SIM_KILL;
    check(broker_kit_start(&w->w.k, clean) == OK);
    sim_actors_look(&w->w);
}

static void all_hang_up(struct world *w)
{
    for (int i = 0; i < SIM_ACTORS; i++) {
        if (sim_chance(&w->w, 50)) {
            sim_actor_take(&w->w, &w->w.actors[i]); /* what came before the end */
        }
        sim_actor_hang_up(&w->w.actors[i]);
        w->w.actors[i].unsure = false;
    }
}

static void crash(struct world *w)
{
    enum sim_cut how = (enum sim_cut)sim_below(&w->w, 3);
    bool power = how != SIM_KILL || (sim_store_is_down(w->w.k.logs.sim) && w->cut != SIM_KILL);
    w->crashes++;
    all_hang_up(w);
    broker_kit_crash(&w->w.k, how);
    if (power) {
        model_power_cut(&w->w.m);
    }
    start(w, false);
}

static void restart(struct world *w)
{
    sim_store_count_from_zero(w->w.k.logs.sim); /* nothing fails in a clean stop */
    sim_store_set_limit(w->w.k.logs.sim, -1);
    all_hang_up(w);
    broker_kit_stop(&w->w.k);
    check(!sim_store_is_down(w->w.k.logs.sim));
    start(w, true);
}

static void quiet(struct world *w)
{
    broker_kit_settle(&w->w.k);
    for (int i = 0; i < SIM_ACTORS; i++) {
        w->w.actors[i].unsure = false;
    }
}

static void fault(struct world *w)
{
    struct sim_store *sim = w->w.k.logs.sim;
    uint64_t at = sim_store_operations(sim) + (uint64_t)sim_below(&w->w, 60);
    if (sim_chance(&w->w, 40)) { /* no room: below, as no read fails for that */
        sim_store_fail_at(sim, at, sim_chance(&w->w, 50) ? ERR_IO : ERR_NO_FILES);
    } else if (sim_chance(&w->w, 60)) {
        w->cut = (enum sim_cut)sim_below(&w->w, 3);
        sim_store_cut_at(sim, at, w->cut);
    } else {
        sim_store_set_limit(
            sim, sim_chance(&w->w, 50) ? -1 : sim_store_used(sim) + sim_below(&w->w, 3000));
    }
}

static void step(struct world *w)
{
    int32_t r = sim_below(&w->w, 1000);
    if (r < 600) {
        broker_kit_step(&w->w.k);
    } else if (r < 920) {
        sim_actor_act(&w->w, &w->w.actors[sim_below(&w->w, SIM_ACTORS)]);
    } else if (r < 950) {
        broker_kit_pass(&w->w.k, sim_below(&w->w, sim_chance(&w->w, 80) ? 50 : 3000));
    } else if (r < 962) {
        quiet(w);
    } else if (r < 976) {
        sim_actor_hang_up(&w->w.actors[sim_below(&w->w, SIM_ACTORS)]);
    } else if (r < 983) {
        crash(w);
    } else if (r < 986) {
        restart(w);
    } else if (r < 995) {
        fault(w);
    } else {
        sim_store_evict(w->w.k.logs.sim);
    }
    if (sim_store_is_down(w->w.k.logs.sim)) {
        crash(w);
    }
}

/* ---- a run */

static uint64_t run(uint64_t seed)
{
    static const char *const sets[] = {"offsets.topic.num.partitions=5",
                                       "log.segment.bytes=1048576",
                                       "log.retention.ms=-1",
                                       "log.roll.ms=1500",
                                       "rivulet.log.compact.roll.bytes=500",
                                       "log.cleaner.min.cleanable.ratio=0.2",
                                       NULL};
    const char *shards = getenv("SHARDS");
    struct world *w = mem_need_zero(1, sizeof *w);
    rng_init(&w->w.rng, seed);
    arena_init(&w->w.arena, SIZE_MAX);
    broker_model_init(&w->w.m);
    broker_kit_init(&w->w.k, seed, sets);
    w->w.k.shard_count = shards ? atoi(shards) : (int32_t)(seed % BROKER_KIT_SHARDS) + 1;
    w->w.k.logs.printed = getenv("PRINT") != NULL;
    check(broker_kit_start(&w->w.k, false) == OK);
    sim_actors_make_topics(&w->w);
    sim_actors_init(&w->w);
    for (int i = 0; i < STEPS; i++) {
        step(w);
    }
    restart(w);
    uint64_t seen = w->w.m.reads;
    if (getenv("STATS")) {
        printf("shards=%d acks=%llu reads=%llu crashes=%llu\n", w->w.k.shard_count,
               (unsigned long long)w->w.m.acks, (unsigned long long)w->w.m.reads,
               (unsigned long long)w->crashes);
    }
    sim_actors_finish(&w->w);
    broker_kit_finish(&w->w.k);
    broker_model_finish(&w->w.m);
    arena_finish(&w->w.arena);
    mem_free(w);
    return seen;
}

static void a_broker_keeps_its_word_to_clients_that_try_again(void **state)
{
    (void)state;
    seeds_run(run, 200, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_broker_keeps_its_word_to_clients_that_try_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* A whole broker without a network, and what comes over the years: requests, plausible and not,
 * time, full disks, restarts, power cuts.
 *
 *   uint8 step, then what it needs:
 *     0..159    a plausible request: uint8 row of apis.def, uint16 seed
 *     160..191  a frame as it is: uint16 size, bytes
 *     192..207  uint8: so many 100 ms pass
 *     208..219  the client hangs up
 *     220..231  a graceful stop and a start
 *     232..243  a crash (uint8: how) and a start
 *     244..255  uint8: the operation of the store so far ahead fails (uint8: how)
 */
#include "base/mem.h"
#include "tests/fuzz/fuzz.h"
#include "tests/kit/broker_client.h"

enum { STEPS_MAX = 64 };

static void verify_groups(struct broker_kit *k)
{
    for (const struct group *g = coord_group_first(k->coord); g;
         g = coord_group_next(k->coord, g)) {
        group_verify(g);
    }
}

static void start(struct broker_kit *k, bool clean)
{
    sim_store_count_from_zero(k->logs.sim);
    check(broker_kit_start(k, clean) == OK);
}

static void crash(struct broker_kit *k, uint8_t how)
{
    broker_kit_crash(k, (enum sim_cut)(how % 3));
    start(k, false);
}

static void fail(struct broker_kit *k, uint8_t ahead, uint8_t how)
{
    static const err errors[] = {ERR_NO_SPACE, ERR_IO, ERR_NO_FILES};
    sim_store_fail_at(k->logs.sim, sim_store_operations(k->logs.sim) + ahead, errors[how % 3]);
}

static void step(struct broker_client *c, struct input *in)
{
    struct broker_kit *k = c->k;
    uint8_t what = input_byte(in);
    if (what < 160) {
        const struct api_row *row = &api_rows[input_byte(in) % api_row_count];
        rng_init(&c->rng, input_short(in));
        broker_client_ask(c, row);
    } else if (what < 192) {
        struct bytes frame = input_bytes(in, input_short(in));
        broker_client_send(c, frame.ptr, frame.len);
    } else if (what < 208) {
        broker_kit_advance(k, 100 * (int64_t)input_byte(in));
        broker_client_look(c);
    } else if (what < 220) {
        broker_kit_hang_up(k);
    } else if (what < 232) {
        bool down = sim_store_is_down(k->logs.sim);
        broker_kit_stop(k);
        if (down || sim_store_is_down(k->logs.sim)) {
            sim_store_restart(k->logs.sim, SIM_KILL);
            down = true;
        }
        start(k, !down);
    } else if (what < 244) {
        crash(k, input_byte(in));
    } else {
        uint8_t ahead = input_byte(in);
        fail(k, ahead, input_byte(in));
    }
    if (sim_store_is_down(k->logs.sim)) {
        crash(k, SIM_CUT_LOSE); /* a failed sync ends the process; test_broker_sim says why so */
    }
    verify_groups(k);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    static const char *const sets[] = {"offsets.topic.num.partitions=2", "num.partitions=2",
                                       "rivulet.partitions.max=12", NULL};
    struct broker_kit *k = mem_need(sizeof *k);
    struct broker_client c;
    struct input in = {p, p + size};
    broker_kit_init(k, 1, sets);
    broker_client_init(&c, k, 1);
    start(k, false);
    for (int i = 0; i < STEPS_MAX && input_left(&in) > 0; i++) {
        step(&c, &in);
    }
    broker_client_finish(&c);
    broker_kit_finish(k);
    mem_free(k);
    return 0;
}

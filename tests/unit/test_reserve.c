/* The reserve: given up when room is short, made only where as much again is left, and never taken
 * for one when it is not whole. */
#include "broker/server/reserve.h"

#include "tests/kit/sim_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { SIZE = 100000 };

static bool make(struct sim_store *sim)
{
    bool there;
    int64_t free_bytes;
    assert_int_equal(reserve_make(sim_store_store(sim), SIZE, &there, &free_bytes), OK);
    return there;
}

static bool release(struct sim_store *sim, int64_t size)
{
    bool there;
    assert_int_equal(reserve_release(sim_store_store(sim), size, &there), OK);
    return there;
}

static void it_takes_its_room_and_gives_it_back(void **state)
{
    (void)state;
    struct sim_store *sim = sim_store_create(1);
    sim_store_set_limit(sim, SIZE * 2);
    assert_true(make(sim));
    assert_int_equal(sim_store_used(sim), SIZE);
    assert_true(make(sim)); /* it is there */
    assert_int_equal(sim_store_used(sim), SIZE);
    assert_true(release(sim, SIZE)); /* there is as much besides */
    sim_store_set_limit(sim, SIZE * 2 - 1);
    assert_false(release(sim, SIZE));
    assert_int_equal(sim_store_used(sim), 0);
    assert_false(make(sim)); /* that would leave less than as much again */
    assert_int_equal(sim_store_used(sim), 0);
    assert_false(release(sim, SIZE)); /* nothing to give */
    sim_store_destroy(sim);
}

static void a_size_of_0_is_none(void **state)
{
    (void)state;
    struct sim_store *sim = sim_store_create(1);
    bool there;
    int64_t free_bytes;
    assert_true(make(sim));
    assert_false(release(sim, 0)); /* the one of an older configuration goes */
    assert_int_equal(sim_store_used(sim), 0);
    assert_int_equal(reserve_make(sim_store_store(sim), 0, &there, &free_bytes), OK);
    assert_false(there);
    assert_int_equal(sim_store_used(sim), 0);
    sim_store_destroy(sim);
}

static void one_of_another_size_is_made_anew(void **state)
{
    (void)state;
    static const int64_t sizes[] = {SIZE / 2, SIZE * 2};
    for (int i = 0; i < 2; i++) {
        struct sim_store *sim = sim_store_create(1);
        bool there;
        int64_t free_bytes;
        assert_int_equal(reserve_make(sim_store_store(sim), sizes[i], &there, &free_bytes), OK);
        assert_true(there);
        assert_true(make(sim));
        assert_int_equal(sim_store_used(sim), SIZE);
        sim_store_destroy(sim);
    }
}

/* Where the power goes, or an operation fails, there is one, whole, or there is none. */
static void a_half_made_one_is_none(void **state)
{
    (void)state;
    for (int how = SIM_KILL; how <= SIM_CUT_TEAR; how++) {
        bool there = false;
        for (uint64_t at = 0; !there; at++) {
            struct sim_store *sim = sim_store_create(at);
            int64_t free_bytes;
            sim_store_cut_at(sim, at, (enum sim_cut)how);
            (void)reserve_make(sim_store_store(sim), SIZE, &there, &free_bytes);
            there = there && !sim_store_is_down(sim);
            sim_store_restart(sim, (enum sim_cut)how);
            sim_store_count_from_zero(sim);
            assert_true(!there || release(sim, SIZE)); /* what was said to be there is */
            assert_true(make(sim));
            assert_int_equal(sim_store_used(sim), SIZE);
            assert_true(release(sim, SIZE));
            sim_store_destroy(sim);
        }
    }
}

static void what_did_not_fit_after_all_leaves_nothing_behind(void **state)
{
    (void)state;
    bool there = false;
    for (uint64_t at = 0; !there; at++) {
        struct sim_store *sim = sim_store_create(at);
        int64_t free_bytes;
        sim_store_fail_at(sim, at, ERR_NO_SPACE);
        (void)reserve_make(sim_store_store(sim), SIZE, &there, &free_bytes);
        if (!there && !sim_store_is_down(sim)) {
            assert_int_equal(sim_store_used(sim), 0);
        }
        sim_store_destroy(sim);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_takes_its_room_and_gives_it_back),
        cmocka_unit_test(a_size_of_0_is_none),
        cmocka_unit_test(one_of_another_size_is_made_anew),
        cmocka_unit_test(a_half_made_one_is_none),
        cmocka_unit_test(what_did_not_fit_after_all_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Static members: coming back without a rebalance, fencing, staying away. */
#include "tests/kit/group_dsl.h"

static void stable_static_pair(struct group_kit *k) /* s1 (leader, i1) and s2 (i2), generation 2 */
{
    join(k, instance("i1", "s1"));
    assign(k, "s1", 1, "s1", NULL);
    join(k, instance("i2", "s2"));
    struct group_join j = instance("i1", "");
    j.member_id = STR("s1");
    join(k, j);
    sync_as(k, "s2", 2);
    assign(k, "s1", 2, "s1", "s2");
    assert_int_equal(k->g->state, GROUP_STABLE);
}

static void a_returning_static_member_disturbs_nobody_and_fences_its_former_id(void **state)
{
    struct group_kit *k = *state;
    stable_static_pair(k);
    const struct group_answer *back = answer_of(k, join(k, instance("i2", "s2b")));
    assert_int_equal(back->error, GROUP_OK);
    assert_int_equal(back->generation, 2);
    assert_str(back->member_id, "s2b");
    assert_int_equal(back->member_count, 0);
    assert_int_equal(k->g->state, GROUP_STABLE);
    assert_int_equal(heartbeat(k, "s1", 2), GROUP_OK);
    assert_str(answer_of(k, sync_as(k, "s2b", 2))->assignment, "s2");
    assert_int_equal(heartbeat(k, "s2", 2), GROUP_UNKNOWN_MEMBER);
    struct group_event e = {
        .kind = GROUP_EVENT_HEARTBEAT,
        .heartbeat = {.member_id = STR("s2"), .instance_id = STR("i2"), .generation = 2}
    };
    assert_int_equal(answer_of(k, kit_step(k, e))->error, GROUP_FENCED_INSTANCE);
    kit_restart(k, 0);
    assert_int_equal(heartbeat(k, "s2b", 2), GROUP_OK);
}

static void a_returning_static_leader_must_not_assign(void **state)
{
    struct group_kit *k = *state;
    stable_static_pair(k);
    const struct group_answer *back = answer_of(k, join(k, instance("i1", "s1b")));
    assert_true(back->skip_assignment);
    assert_str(back->leader, "s1b");
    assert_int_equal(back->member_count, 2);
    struct group_join old =
        instance("i1", "s1c"); /* before v9: it is led to believe that it follows */
    old.can_skip_assignment = false;
    back = answer_of(k, join(k, old));
    assert_false(back->skip_assignment);
    assert_str(back->leader, "s1b");
    assert_str(back->member_id, "s1c");
    assert_int_equal(back->member_count, 0);
}

static void a_static_member_that_returns_with_other_topics_asks_for_a_rebalance(void **state)
{
    struct group_kit *k = *state;
    struct group_protocol p = {.name = STR("range"), .metadata = kit_subscription(k, "t,u")};
    struct group_join j = instance("i1", "s1");
    j.protocols = &p;
    join(k, j);
    assign(k, "s1", 1, "s1", NULL);
    p.metadata = kit_subscription(k, "u,t"); /* the same topics, other bytes */
    j.new_member_id = STR("s1b");
    assert_int_equal(answer_of(k, join(k, j))->generation, 1);
    p.metadata = kit_subscription(k, "u,v");
    j.new_member_id = STR("s1c");
    assert_int_equal(answer_of(k, join(k, j))->generation, 2);
    assert_true(group_is_subscribed(k->g, STR("v")));
    assert_false(group_is_subscribed(k->g, STR("t")));
}

static void a_refused_return_leaves_the_former_self_in_place(void **state)
{
    struct group_kit *k = *state;
    stable_static_pair(k);
    k->at_once = false;
    uint64_t t = join(k, instance("i2", "s2b"));
    assert_int_equal(heartbeat(k, "s2", 2), GROUP_OK); /* nothing has changed yet */
    kit_settle(k, GROUP_NOT_AVAILABLE);
    assert_int_equal(answer_of(k, t)->error, GROUP_NOT_AVAILABLE);
    assert_int_equal(heartbeat(k, "s2", 2), GROUP_OK);
}

static void two_that_return_at_once_are_both_lasting(void **state)
{
    struct group_kit *k = *state;
    stable_static_pair(k);
    k->at_once = false;
    uint64_t one = join(k, instance("i1", "s1b"));
    uint64_t two = join(k, instance("i2", "s2b"));
    assert_int_equal(k->append_count,
                     1); /* two records made from one state would undo each other */
    kit_settle(k, GROUP_OK);
    assert_int_equal(answer_of(k, one)->error, GROUP_OK);
    kit_settle(k, GROUP_OK);
    assert_int_equal(answer_of(k, two)->error, GROUP_OK);
    kit_restart(k, 0);
    assert_int_equal(heartbeat(k, "s1b", 2), GROUP_OK);
    assert_int_equal(heartbeat(k, "s2b", 2), GROUP_OK);
}

static void a_return_that_a_rebalance_overtook_takes_part_in_it(void **state)
{
    struct group_kit *k = *state;
    stable_static_pair(k);
    k->at_once = false;
    uint64_t back = join(k, instance("i2", "s2b"));
    struct group_join j = instance("i1", "");
    j.member_id = STR("s1");
    uint64_t leader = join(k, j); /* a rebalance begins */
    kit_settle(k, GROUP_OK);
    assert_int_equal(answer_of(k, leader)->generation, 3);
    assert_int_equal(answer_of(k, back)->generation, 3);
    assert_str(answer_of(k, back)->member_id, "s2b");
    assert_int_equal(heartbeat(k, "s2", 3), GROUP_UNKNOWN_MEMBER);
}

static void a_return_during_a_rebalance_fences_the_parked_former_self(void **state)
{
    struct group_kit *k = *state;
    stable_static_pair(k);
    join(k, dynamic("", "d"));
    struct group_join j = instance("i2", "");
    j.member_id = STR("s2");
    uint64_t before = join(k, j);
    uint64_t after = join(k, instance("i2", "s2b"));
    assert_int_equal(answer_of(k, before)->error, GROUP_FENCED_INSTANCE);
    assert_null(kit_answer(k, after));
    j = instance("i1", "");
    j.member_id = STR("s1");
    join(k, j);
    assert_int_equal(answer_of(k, after)->generation, 3);
}

static void a_static_member_that_is_away_keeps_its_place_until_its_session_ends(void **state)
{
    struct group_kit *k = *state;
    stable_static_pair(k);
    uint64_t d = join(k, dynamic("", "d"));
    struct group_join j = instance("i1", "");
    j.member_id = STR("s1");
    j.rebalance_timeout_ms = 60000;
    join(k, j);
    kit_advance(k, 9999);
    assert_null(kit_answer(k, d));
    assert_int_equal(map_count(&k->g->members), 3);
    kit_advance(k, 1); /* s2's session */
    assert_int_equal(answer_of(k, d)->generation, 3);
    assert_int_equal(map_count(&k->g->members), 2);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_returning_static_member_disturbs_nobody_and_fences_its_former_id),
        T(a_returning_static_leader_must_not_assign),
        T(a_static_member_that_returns_with_other_topics_asks_for_a_rebalance),
        T(a_refused_return_leaves_the_former_self_in_place),
        T(two_that_return_at_once_are_both_lasting),
        T(a_return_during_a_rebalance_fences_the_parked_former_self),
        T(a_return_that_a_rebalance_overtook_takes_part_in_it),
        T(a_static_member_that_is_away_keeps_its_place_until_its_session_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

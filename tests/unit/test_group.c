/* The rules of joining, syncing, staying and leaving, one test each. */
#include "tests/kit/group_dsl.h"

/* ---- join ---- */

static void new_members_from_v4_on_join_in_two_steps(void **state)
{
    struct group_kit *k = *state;
    struct group_join j = dynamic("", "a");
    j.requires_known_member_id = true;
    const struct group_answer *first = answer_of(k, join(k, j));
    assert_int_equal(first->error, GROUP_MEMBER_ID_REQUIRED);
    assert_int_equal(first->generation, -1);
    assert_str(first->member_id, "a");
    assert_int_equal(k->g->state, GROUP_EMPTY);
    j.member_id = STR("a");
    const struct group_answer *second = answer_of(k, join(k, j));
    assert_int_equal(second->error, GROUP_OK);
    assert_int_equal(second->generation, 1);
    assert_str(second->leader, "a");
    assert_str(second->protocol, "range");
    assert_int_equal(second->member_count, 1);
}

static void old_and_static_members_join_in_one_step(void **state)
{
    struct group_kit *k = *state;
    assert_int_equal(answer_of(k, join(k, dynamic("", "a")))->generation, 1);
    uint64_t s = join(k, instance("i1", "s"));
    assert_int_equal(map_count(&k->g->pending), 0);
    join(k, dynamic("a", ""));
    assert_str(answer_of(k, s)->member_id, "s");
}

static void a_pending_id_is_forgotten_after_the_session_timeout(void **state)
{
    struct group_kit *k = *state;
    struct group_join j = dynamic("", "a");
    j.requires_known_member_id = true;
    join(k, j);
    kit_advance(k, 9999);
    assert_false(group_is_forgettable(k->g));
    kit_advance(k, 1);
    assert_true(group_is_forgettable(k->g));
    j.member_id = STR("a");
    assert_int_equal(answer_of(k, join(k, j))->error, GROUP_UNKNOWN_MEMBER);
}

static void a_pending_id_holds_up_a_rebalance_until_it_is_forgotten(void **state)
{
    struct group_kit *k = *state;
    two_members(k);
    struct group_join j = dynamic("", "c");
    j.requires_known_member_id = true;
    join(k, j);
    uint64_t a = join(k, dynamic("a", "")); /* the leader: a rebalance */
    uint64_t b = join(k, dynamic("b", ""));
    assert_null(kit_answer(k, b));
    kit_advance(k, 10000);
    assert_int_equal(answer_of(k, a)->generation, 3);
    assert_int_equal(answer_of(k, b)->generation, 3);
}

static void joins_that_make_no_sense_are_refused(void **state)
{
    struct group_kit *k = *state;
    struct group_join j = dynamic("", "a");
    j.session_timeout_ms = 5999;
    assert_int_equal(answer_of(k, join(k, j))->error, GROUP_BAD_SESSION_TIMEOUT);
    j.session_timeout_ms = 1800001;
    assert_int_equal(answer_of(k, join(k, j))->error, GROUP_BAD_SESSION_TIMEOUT);
    j = dynamic("", "a");
    j.protocol_count = 0;
    assert_int_equal(answer_of(k, join(k, j))->error, GROUP_INCONSISTENT_PROTOCOL);
    j = dynamic("", "a");
    j.protocol_type = STR("");
    assert_int_equal(answer_of(k, join(k, j))->error, GROUP_INCONSISTENT_PROTOCOL);
    assert_int_equal(answer_of(k, join(k, dynamic("ghost", "")))->error, GROUP_UNKNOWN_MEMBER);
    k->config.member_max_bytes = 8;
    assert_int_equal(answer_of(k, join(k, dynamic("", "a")))->error, GROUP_TOO_LARGE);
    k->config.member_max_bytes = 9;
    assert_int_equal(answer_of(k, join(k, dynamic("", "a")))->error, GROUP_OK);
    j = dynamic("", "b");
    j.protocol_type = STR("connect");
    assert_int_equal(answer_of(k, join(k, j))->error, GROUP_INCONSISTENT_PROTOCOL);
    struct group_protocol other = {.name = STR("sticky"), .metadata = kit_bytes("")};
    j = dynamic("", "b");
    j.protocols = &other;
    assert_int_equal(answer_of(k, join(k, j))->error, GROUP_INCONSISTENT_PROTOCOL);
}

static void a_full_group_takes_nobody_but_those_it_knows(void **state)
{
    struct group_kit *k = *state;
    k->config.max_size = 2;
    two_members(k);
    struct group_join j = dynamic("", "c");
    assert_int_equal(answer_of(k, join(k, j))->error, GROUP_FULL);
    j.requires_known_member_id = true;
    assert_int_equal(answer_of(k, join(k, j))->error, GROUP_FULL);
    assert_int_equal(answer_of(k, join(k, dynamic("b", "")))->error, GROUP_OK);
    uint64_t a = join(k, dynamic("a", ""));
    uint64_t b = join(k, dynamic("b", ""));
    assert_int_equal(answer_of(k, a)->generation, 3);
    assert_int_equal(answer_of(k, b)->generation, 3);
}

static void the_first_rebalance_waits_longer_while_members_come(void **state)
{
    struct group_kit *k = *state;
    k->config.initial_rebalance_delay_ms = 3000;
    uint64_t a = join(k, dynamic("", "a"));
    kit_advance(k, 2900);
    uint64_t b = join(k, dynamic("", "b"));
    kit_advance(k, 2900); /* past the first delay, within the second */
    assert_null(kit_answer(k, a));
    kit_advance(k, 200);
    assert_int_equal(answer_of(k, a)->generation, 1);
    assert_int_equal(answer_of(k, b)->generation, 1);
    assert_int_equal(answer_of(k, a)->member_count, 2);
}

static void the_initial_delay_ends_with_the_rebalance_timeout_however_many_come(void **state)
{
    struct group_kit *k = *state;
    static const char *const ids[] = {"m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7"};
    k->config.initial_rebalance_delay_ms = 3000;
    struct group_join j = dynamic("", "a");
    j.rebalance_timeout_ms = 10000;
    uint64_t a = join(k, j);
    for (size_t i = 0; i < 8 && !kit_answer(k, a); i++) {
        kit_advance(k, 2000);
        if (!kit_answer(k, a)) {
            j.new_member_id = str_of(ids[i]);
            join(k, j);
        }
    }
    assert_int_equal(k->env.now_ms, 1000 + 10000);
}

static void a_rebalance_waits_for_all_and_drops_who_does_not_come(void **state)
{
    struct group_kit *k = *state;
    two_members(k);
    struct group_join slow = dynamic("", "c");
    slow.rebalance_timeout_ms = 20000; /* the longest of all counts: 60000 */
    uint64_t c = join(k, slow);
    for (int i = 0; i < 12; i++) {
        assert_null(kit_answer(k, c));
        assert_int_equal(heartbeat(k, "a", 2), GROUP_REBALANCING);
        assert_int_equal(heartbeat(k, "b", 2), GROUP_REBALANCING); /* alive, but never joins */
        if (i == 0) {
            join(k, dynamic("a", ""));
        }
        kit_advance(k, 5000);
    }
    assert_int_equal(answer_of(k, c)->generation, 3);
    assert_int_equal(heartbeat(k, "b", 2), GROUP_UNKNOWN_MEMBER);
    assert_int_equal(map_count(&k->g->members), 2);
}

static void without_a_rebalance_timeout_the_session_timeout_stands_in(void **state)
{
    struct group_kit *k = *state;
    struct group_join j = dynamic("", "a");
    j.rebalance_timeout_ms = -1; /* v0 */
    join(k, j);
    const struct group_member *m = map_get_str(&k->g->members, STR("a"));
    assert_int_equal(m->rebalance_timeout_ms, 10000);
}

static void a_leader_that_stays_away_is_followed_by_one_that_came(void **state)
{
    struct group_kit *k = *state;
    two_members(k);
    uint64_t c = join(k, dynamic("", "c"));
    uint64_t b = join(k, dynamic("b", ""));
    kit_advance(k, 60000);
    assert_str(answer_of(k, b)->leader, "b");
    assert_int_equal(answer_of(k, b)->member_count, 2);
    assert_int_equal(answer_of(k, c)->member_count, 0); /* only the leader sees the members */
    assert_str(answer_of(k, c)->leader, "b");
}

static void the_protocol_with_most_first_votes_among_those_all_know_wins(void **state)
{
    struct group_kit *k = *state;
    static const struct group_protocol pa[] = {
        {.name = {"x", 1}, .metadata = {(const uint8_t *)"ax", 2}},
        {.name = {"y", 1}, .metadata = {(const uint8_t *)"ay", 2}},
        {.name = {"z", 1}, .metadata = {(const uint8_t *)"az", 2}}
    };
    static const struct group_protocol pb[] = {
        {.name = {"only-b", 6}, .metadata = {(const uint8_t *)"", 0}  },
        {.name = {"z", 1},      .metadata = {(const uint8_t *)"bz", 2}},
        {.name = {"x", 1},      .metadata = {(const uint8_t *)"bx", 2}}
    };
    k->config.initial_rebalance_delay_ms = 10;
    struct group_join j = dynamic("", "a");
    j.protocols = pa;
    j.protocol_count = 3;
    uint64_t a = join(k, j);
    j.protocols = pb;
    j.new_member_id = STR("b");
    join(k, j);
    j.new_member_id = STR("c");
    join(k, j);
    kit_advance(k, 100);
    assert_str(answer_of(k, a)->protocol, "z"); /* b and c want z: only-b is not everybody's */
    assert_int_equal(answer_of(k, a)->member_count, 3);
    assert_str(answer_of(k, a)->members[0].metadata, "az");
    assert_str(answer_of(k, a)->members[1].metadata, "bz");
}

static void a_follower_that_lost_its_answer_gets_the_same_generation_again(void **state)
{
    struct group_kit *k = *state;
    two_members(k);
    const struct group_answer *again = answer_of(k, join(k, dynamic("b", "")));
    assert_int_equal(again->generation, 2);
    assert_int_equal(again->member_count, 0);
    assert_int_equal(k->g->state, GROUP_STABLE);
}

static void a_leader_that_joins_again_asks_for_a_rebalance(void **state)
{
    struct group_kit *k = *state;
    two_members(k);
    uint64_t a = join(k, dynamic("a", ""));
    assert_null(kit_answer(k, a));
    assert_int_equal(k->g->state, GROUP_PREPARING);
}

static void changed_metadata_ask_for_a_rebalance(void **state)
{
    struct group_kit *k = *state;
    two_members(k);
    struct group_join j = dynamic("b", "");
    struct group_protocol p = {.name = STR("range"), .metadata = kit_bytes("other")};
    j.protocols = &p;
    uint64_t b = join(k, j);
    assert_null(kit_answer(k, b));
    uint64_t a = join(k, dynamic("a", ""));
    assert_str(answer_of(k, a)->members[1].metadata, "other");
}

static void in_completing_a_repeated_join_gets_its_generation_again(void **state)
{
    struct group_kit *k = *state;
    join(k, dynamic("", "a"));
    const struct group_answer *again = answer_of(k, join(k, dynamic("a", "")));
    assert_int_equal(again->generation, 1);
    assert_int_equal(again->member_count, 1);
    assert_int_equal(k->g->state, GROUP_COMPLETING);
}

static void a_join_that_is_sent_again_answers_the_one_before(void **state)
{
    struct group_kit *k = *state;
    two_members(k);
    uint64_t first = join(k, dynamic("a", ""));
    uint64_t second = join(k, dynamic("a", ""));
    assert_int_equal(answer_of(k, first)->error, GROUP_REBALANCING);
    assert_null(kit_answer(k, second));
    assert_int_equal(k->g->joining_count, 1);
}

static void a_parked_join_never_expires_but_a_first_one_does(void **state)
{
    struct group_kit *k = *state;
    k->config.new_member_join_timeout_ms = 20000;
    two_members(k);
    uint64_t a = join(k, dynamic("a", ""));
    uint64_t c = join(k, dynamic("", "c"));
    for (int i = 0; i < 6; i++) {
        assert_int_equal(heartbeat(k, "b", 2), GROUP_REBALANCING);
        kit_advance(k, 5000);
    }
    assert_null(kit_answer(k, a));
    assert_int_equal(answer_of(k, c)->error, GROUP_UNKNOWN_MEMBER);
    assert_non_null(map_get_str(&k->g->members, STR("a")));
}

/* ---- sync ---- */

static void sync_errors_tell_what_is_wrong(void **state)
{
    struct group_kit *k = *state;
    two_members(k);
    assert_int_equal(answer_of(k, sync_as(k, "ghost", 2))->error, GROUP_UNKNOWN_MEMBER);
    assert_int_equal(answer_of(k, sync_as(k, "b", 1))->error, GROUP_ILLEGAL_GENERATION);
    struct group_event e = {
        .kind = GROUP_EVENT_SYNC,
        .sync = {.member_id = STR("b"), .generation = 2, .protocol_type = STR("connect")}
    };
    assert_int_equal(answer_of(k, kit_step(k, e))->error, GROUP_INCONSISTENT_PROTOCOL);
    e.sync.protocol_type = STR("consumer");
    e.sync.protocol = STR("sticky");
    assert_int_equal(answer_of(k, kit_step(k, e))->error, GROUP_INCONSISTENT_PROTOCOL);
    e.sync.protocol = STR("range");
    assert_str(answer_of(k, kit_step(k, e))->assignment, "b"); /* stable: the stored one */
    join(k, dynamic("a", ""));
    assert_int_equal(answer_of(k, sync_as(k, "b", 2))->error, GROUP_REBALANCING);
}

static void members_without_an_assignment_get_empty_bytes(void **state)
{
    struct group_kit *k = *state;
    two_members(k);
    uint64_t a = join(k, dynamic("a", ""));
    join(k, dynamic("b", ""));
    uint64_t b = sync_as(k, "b", 3);
    assign(k, "a", 3, "a", "stranger");
    assert_int_equal(answer_of(k, a)->generation, 3);
    assert_int_equal(answer_of(k, b)->error, GROUP_OK);
    assert_int_equal(answer_of(k, b)->assignment.len, 0);
}

static void assignments_are_told_only_when_they_are_lasting(void **state)
{
    struct group_kit *k = *state;
    k->at_once = false;
    join(k, dynamic("", "a"));
    uint64_t t = assign(k, "a", 1, "a", NULL);
    assert_null(kit_answer(k, t));
    assert_null(k->g->metadata);
    assert_int_equal(k->g->state, GROUP_COMPLETING);
    kit_settle(k, GROUP_OK);
    assert_str(answer_of(k, t)->assignment, "a");
    assert_int_equal(k->g->metadata->generation, 1);
}

static void refused_assignments_change_nothing_and_begin_a_rebalance(void **state)
{
    struct group_kit *k = *state;
    two_members(k);
    k->at_once = false;
    join(k, dynamic("a", ""));
    join(k, dynamic("b", ""));
    uint64_t b = sync_as(k, "b", 3);
    uint64_t a = assign(k, "a", 3, "b", "a");
    kit_settle(k, GROUP_NOT_AVAILABLE);
    assert_int_equal(answer_of(k, a)->error, GROUP_NOT_AVAILABLE);
    assert_int_equal(answer_of(k, b)->error, GROUP_NOT_AVAILABLE);
    assert_int_equal(k->g->state, GROUP_PREPARING);
    assert_int_equal(k->g->metadata->generation, 2);
}

static void a_leader_that_syncs_twice_decides_once(void **state)
{
    struct group_kit *k = *state;
    k->at_once = false;
    join(k, dynamic("", "a"));
    uint64_t first = assign(k, "a", 1, "a", NULL);
    uint64_t second = assign(k, "a", 1, "b", NULL);
    assert_int_equal(k->append_count, 1);
    assert_int_equal(answer_of(k, first)->error, GROUP_REBALANCING);
    kit_settle(k, GROUP_OK);
    assert_str(answer_of(k, second)->assignment, "a");
}

static void assignments_that_a_rebalance_overtook_are_not_told(void **state)
{
    struct group_kit *k = *state;
    k->at_once = false;
    join(k, dynamic("", "a"));
    uint64_t t = assign(k, "a", 1, "a", NULL);
    join(k, dynamic("", "b"));
    assert_int_equal(answer_of(k, t)->error, GROUP_REBALANCING);
    kit_settle(k, GROUP_OK);
    assert_int_equal(k->g->state, GROUP_PREPARING);
    const struct group_member *m = map_get_str(&k->g->members, STR("a"));
    assert_int_equal(m->assignment.len, 0);
}

static void members_that_never_sync_are_expelled(void **state)
{
    struct group_kit *k = *state;
    struct group_join j = dynamic("", "a");
    j.rebalance_timeout_ms = 20000;
    join(k, j);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(heartbeat(k, "a", 1), GROUP_OK); /* alive */
        kit_advance(k, 5000);
    }
    assert_int_equal(heartbeat(k, "a", 1), GROUP_UNKNOWN_MEMBER);
    assert_int_equal(k->g->state, GROUP_EMPTY);
}

/* ---- heartbeats and time ---- */

static void heartbeats_tell_of_rebalances_and_strangers(void **state)
{
    struct group_kit *k = *state;
    join(k, dynamic("", "a"));
    assert_int_equal(heartbeat(k, "a", 1), GROUP_OK); /* completing */
    assign(k, "a", 1, "a", NULL);
    assert_int_equal(heartbeat(k, "a", 1), GROUP_OK);
    assert_int_equal(heartbeat(k, "a", 0), GROUP_ILLEGAL_GENERATION);
    assert_int_equal(heartbeat(k, "b", 1), GROUP_UNKNOWN_MEMBER);
    join(k, dynamic("", "b"));
    assert_int_equal(heartbeat(k, "a", 1), GROUP_REBALANCING);
}

static void a_silent_member_is_expelled_and_its_partitions_given_away(void **state)
{
    struct group_kit *k = *state;
    two_members(k);
    for (int i = 0; i < 2; i++) {
        kit_advance(k, 5000);
        assert_int_equal(heartbeat(k, "a", 2), i == 0 ? GROUP_OK : GROUP_REBALANCING);
    }
    assert_int_equal(heartbeat(k, "b", 2), GROUP_UNKNOWN_MEMBER);
    assert_int_equal(answer_of(k, join(k, dynamic("a", "")))->generation, 3);
}

static void commits_and_syncs_are_signs_of_life_too(void **state)
{
    struct group_kit *k = *state;
    two_members(k);
    kit_advance(k, 9000);
    commit_to(k, "a", 2, "t", 1);
    sync_as(k, "b", 2);
    kit_advance(k, 9000);
    assert_int_equal(map_count(&k->g->members), 2);
    kit_advance(k, 1000);
    assert_int_equal(map_count(&k->g->members), 0);
}

/* ---- leave ---- */

static void a_leave_begins_a_rebalance_and_the_last_one_empties_the_group(void **state)
{
    struct group_kit *k = *state;
    two_members(k);
    assert_int_equal(leave(k, "ghost", NULL), GROUP_UNKNOWN_MEMBER);
    assert_int_equal(k->g->state, GROUP_STABLE);
    assert_int_equal(leave(k, "b", NULL), GROUP_OK);
    assert_int_equal(k->g->state, GROUP_PREPARING);
    assert_int_equal(leave(k, "a", NULL), GROUP_OK);
    assert_int_equal(k->g->state, GROUP_EMPTY);
    assert_int_equal(k->g->metadata->generation, 3);
    assert_int_equal(k->g->metadata->member_count, 0);
    assert_null(k->g->metadata->protocol.ptr);
    assert_int_equal(answer_of(k, join(k, dynamic("", "c")))->generation, 4);
}

static void who_leaves_while_waiting_is_told_so(void **state)
{
    struct group_kit *k = *state;
    two_members(k);
    uint64_t a = join(k, dynamic("a", ""));
    assert_int_equal(leave(k, "a", NULL), GROUP_OK);
    assert_int_equal(answer_of(k, a)->error, GROUP_UNKNOWN_MEMBER);
}

static void several_leave_at_once_each_with_its_own_result(void **state)
{
    struct group_kit *k = *state;
    two_members(k);
    uint64_t s = join(k, instance("i1", "s"));
    join(k, dynamic("a", ""));
    join(k, dynamic("b", ""));
    assert_int_equal(answer_of(k, s)->generation, 3);
    struct group_leaver all[] = {
        {.member_id = STR("b")},
        {                    .member_id = STR("b")                    },
        { .member_id = STR(""),                     .instance_id = STR("i1")},
        {                     .member_id = STR(""),                     .instance_id = STR("i2")},
        {                    .member_id = STR("a"),                     .instance_id = STR("i2")},
    };
    uint64_t t =
        kit_step(k, (struct group_event){
                        .kind = GROUP_EVENT_LEAVE, .leave = {.leavers = all, .leaver_count = 5}
    });
    const enum group_error *e = answer_of(k, t)->leave_errors;
    assert_int_equal(e[0], GROUP_OK);
    assert_int_equal(e[1], GROUP_UNKNOWN_MEMBER);
    assert_int_equal(e[2], GROUP_OK);
    assert_int_equal(e[3], GROUP_UNKNOWN_MEMBER);
    assert_int_equal(e[4], GROUP_UNKNOWN_MEMBER);
    assert_int_equal(map_count(&k->g->members), 1);
}

/* ---- restart ---- */

static void a_restart_keeps_a_stable_group_and_forgets_a_running_rebalance(void **state)
{
    struct group_kit *k = *state;
    two_members(k);
    commit_to(k, "a", 2, "t", 7);
    join(k, dynamic("", "c"));
    kit_restart(k, 0);
    assert_int_equal(k->g->state, GROUP_STABLE);
    assert_int_equal(heartbeat(k, "a", 2), GROUP_OK);
    assert_str(answer_of(k, sync_as(k, "b", 2))->assignment, "b");
    assert_int_equal(answer_of(k, sync_as(k, "c", 3))->error, GROUP_UNKNOWN_MEMBER);
    assert_int_equal(offset_of(k, "t"), 7);
    kit_advance(k, 10000); /* sessions began anew at the restart */
    assert_int_equal(map_count(&k->g->members), 0);
    assert_int_equal(k->g->generation, 3);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(new_members_from_v4_on_join_in_two_steps),
        T(old_and_static_members_join_in_one_step),
        T(a_pending_id_is_forgotten_after_the_session_timeout),
        T(a_pending_id_holds_up_a_rebalance_until_it_is_forgotten),
        T(joins_that_make_no_sense_are_refused),
        T(a_full_group_takes_nobody_but_those_it_knows),
        T(the_initial_delay_ends_with_the_rebalance_timeout_however_many_come),
        T(the_first_rebalance_waits_longer_while_members_come),
        T(a_rebalance_waits_for_all_and_drops_who_does_not_come),
        T(without_a_rebalance_timeout_the_session_timeout_stands_in),
        T(a_leader_that_stays_away_is_followed_by_one_that_came),
        T(the_protocol_with_most_first_votes_among_those_all_know_wins),
        T(a_follower_that_lost_its_answer_gets_the_same_generation_again),
        T(a_leader_that_joins_again_asks_for_a_rebalance),
        T(changed_metadata_ask_for_a_rebalance),
        T(in_completing_a_repeated_join_gets_its_generation_again),
        T(a_join_that_is_sent_again_answers_the_one_before),
        T(a_parked_join_never_expires_but_a_first_one_does),
        T(sync_errors_tell_what_is_wrong),
        T(members_without_an_assignment_get_empty_bytes),
        T(assignments_are_told_only_when_they_are_lasting),
        T(refused_assignments_change_nothing_and_begin_a_rebalance),
        T(a_leader_that_syncs_twice_decides_once),
        T(assignments_that_a_rebalance_overtook_are_not_told),
        T(members_that_never_sync_are_expelled),
        T(heartbeats_tell_of_rebalances_and_strangers),
        T(a_silent_member_is_expelled_and_its_partitions_given_away),
        T(commits_and_syncs_are_signs_of_life_too),
        T(a_leave_begins_a_rebalance_and_the_last_one_empties_the_group),
        T(who_leaves_while_waiting_is_told_so),
        T(several_leave_at_once_each_with_its_own_result),
        T(a_restart_keeps_a_stable_group_and_forgets_a_running_rebalance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

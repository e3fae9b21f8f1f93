/* Committed offsets: who may commit, deletion, expiry. */
#include "tests/kit/group_dsl.h"

/* ---- commits ---- */

static void a_commit_is_answered_and_seen_only_when_it_is_lasting(void **state)
{
    struct group_kit *k = *state;
    k->at_once = false;
    uint64_t t = commit_to(k, "", -1, "t", 41);
    assert_null(kit_answer(k, t));
    assert_int_equal(offset_of(k, "t"), -1);
    kit_settle(k, GROUP_OK);
    assert_int_equal(answer_of(k, t)->error, GROUP_OK);
    const struct group_offset *o = group_offset_find(k->g, STR("t"), 3);
    assert_int_equal(o->offset, 41);
    assert_int_equal(o->leader_epoch, 5);
    assert_str(o->metadata, "note");
    assert_int_equal(o->commit_ms, k->env.wall_ms);
    assert_int_equal(o->expire_ms, -1);
}

static void a_refused_commit_leaves_nothing_behind(void **state)
{
    struct group_kit *k = *state;
    k->at_once = false;
    uint64_t t = commit_to(k, "", -1, "t", 41);
    kit_settle(k, GROUP_NOT_AVAILABLE);
    assert_int_equal(answer_of(k, t)->error, GROUP_NOT_AVAILABLE);
    assert_true(group_is_forgettable(k->g));
    assert_int_equal(map_count(&k->g->topics), 0);
    commit_to(k, "", -1, "t", 42);
    kit_settle(k, GROUP_OK);
    commit_to(k, "", -1, "t", 43);
    kit_settle(k, GROUP_TOO_LARGE);
    assert_int_equal(offset_of(k, "t"), 42);
}

static void only_members_of_the_current_generation_commit(void **state)
{
    struct group_kit *k = *state;
    two_members(k);
    assert_int_equal(answer_of(k, commit_to(k, "a", 2, "t", 1))->error, GROUP_OK);
    assert_int_equal(answer_of(k, commit_to(k, "a", 1, "t", 2))->error, GROUP_ILLEGAL_GENERATION);
    assert_int_equal(answer_of(k, commit_to(k, "a", 3, "t", 2))->error, GROUP_ILLEGAL_GENERATION);
    assert_int_equal(answer_of(k, commit_to(k, "a", -1, "t", 2))->error, GROUP_ILLEGAL_GENERATION);
    assert_int_equal(answer_of(k, commit_to(k, "ghost", 2, "t", 2))->error, GROUP_UNKNOWN_MEMBER);
    assert_int_equal(answer_of(k, commit_to(k, "", -1, "t", 2))->error, GROUP_UNKNOWN_MEMBER);
    assert_int_equal(offset_of(k, "t"), 1);
}

static void members_commit_before_they_join_again_but_not_before_they_sync(void **state)
{
    struct group_kit *k = *state;
    two_members(k);
    join(k, dynamic("a", ""));
    assert_int_equal(answer_of(k, commit_to(k, "b", 2, "t", 1))->error, GROUP_OK); /* preparing */
    join(k, dynamic("b", ""));
    assert_int_equal(answer_of(k, commit_to(k, "b", 3, "t", 2))->error,
                     GROUP_REBALANCING); /* completing */
    assert_int_equal(answer_of(k, commit_to(k, "b", 2, "t", 2))->error, GROUP_ILLEGAL_GENERATION);
}

/* ---- deletion and expiry ---- */

static uint64_t delete_group(struct group_kit *k)
{
    return kit_step(k, (struct group_event){.kind = GROUP_EVENT_DELETE});
}

static void only_empty_groups_are_deleted_and_nothing_of_them_is_left(void **state)
{
    struct group_kit *k = *state;
    two_members(k);
    commit_to(k, "a", 2, "t", 1);
    assert_int_equal(answer_of(k, delete_group(k))->error, GROUP_NOT_EMPTY);
    leave(k, "a", NULL);
    leave(k, "b", NULL);
    assert_int_equal(answer_of(k, delete_group(k))->error, GROUP_OK);
    assert_true(group_is_forgettable(k->g));
    kit_restart(k, 0);
    assert_true(group_is_forgettable(k->g));
}

static void a_deletion_takes_along_what_is_on_its_way(void **state)
{
    struct group_kit *k = *state;
    two_members(k);
    k->at_once = false;
    leave(k, "a", NULL);
    uint64_t last = ask_leave(k, "b", NULL); /* the record of the empty group is under way */
    commit_to(k, "", -1, "t", 1);
    uint64_t t = delete_group(k);
    while (k->append_count) {
        kit_settle(k, GROUP_OK);
    }
    assert_int_equal(answer_of(k, t)->error, GROUP_OK);
    assert_int_equal(answer_of(k, last)->leave_errors[0], GROUP_OK);
    assert_true(group_is_forgettable(k->g));
}

static uint64_t delete_offset(struct group_kit *k, const char *topic)
{
    struct group_commit_offset o = {.topic = str_of(topic), .partition = 3};
    return kit_step(k, (struct group_event){
                           .kind = GROUP_EVENT_DELETE_OFFSETS,
                           .delete_offsets = {.offsets = &o, .offset_count = 1}
    });
}

static void offsets_are_deleted_one_by_one(void **state)
{
    struct group_kit *k = *state;
    commit_to(k, "", -1, "t", 1);
    commit_to(k, "", -1, "u", 2);
    assert_int_equal(answer_of(k, delete_offset(k, "t"))->error, GROUP_OK);
    assert_int_equal(answer_of(k, delete_offset(k, "never"))->error, GROUP_OK);
    assert_int_equal(offset_of(k, "t"), -1);
    assert_int_equal(offset_of(k, "u"), 2);
}

static void topics_that_members_subscribe_to_are_known(void **state)
{
    struct group_kit *k = *state;
    assert_false(group_is_subscribed(k->g, STR("t")));
    struct group_protocol p = {.name = STR("range"), .metadata = kit_subscription(k, "t,u")};
    struct group_join j = dynamic("", "a");
    j.protocols = &p;
    join(k, j);
    assign(k, "a", 1, "a", NULL);
    assert_true(group_is_subscribed(k->g, STR("t")));
    assert_false(group_is_subscribed(k->g, STR("v")));
    assert_int_equal(group_may_delete_offsets(k->g), GROUP_OK);
    p.metadata = kit_bytes("\0\1\0\0\0\xff garbage");
    j.member_id = STR("a");
    join(k, j);
    assert_true(group_is_subscribed(k->g, STR("v"))); /* who knows */
    leave(k, "a", NULL);
    assert_false(group_is_subscribed(k->g, STR("v")));
}

static void unreadable_subscriptions_are_unknown_never_a_crash(void **state)
{
    struct group_kit *k = *state;
    struct bytes good = kit_subscription(k, "topic,other");
    for (size_t n = 0; n < good.len; n++) {
        uint8_t *cut =
            test_malloc(n ? n : 1); /* its own block: a read past its end is seen by asan */
        memcpy(cut, good.ptr, n);
        struct group_protocol p = {
            .name = STR("range"), .metadata = {.ptr = cut, .len = n}
        };
        struct group_join j = dynamic("", "a");
        j.protocols = &p;
        join(k, j);
        assert_int_equal(k->g->subscribed_known, n >= good.len - 4); /* user data are not ours */
        leave(k, "a", NULL);
        test_free(cut);
    }
}

static void expire(struct group_kit *k)
{
    kit_step(k, (struct group_event){.kind = GROUP_EVENT_EXPIRE});
}

static void offsets_are_kept_for_ever_by_default(void **state)
{
    struct group_kit *k = *state;
    commit_to(k, "", -1, "t", 1);
    kit_advance(k, (int64_t)100 * 365 * 86400 * 1000);
    expire(k);
    assert_int_equal(offset_of(k, "t"), 1);
}

static void offsets_of_simple_consumers_expire_after_their_commit(void **state)
{
    struct group_kit *k = *state;
    k->config.offsets_retention_ms = 1000;
    commit_to(k, "", -1, "t", 1);
    kit_advance(k, 500);
    commit_to(k, "", -1, "u", 2);
    kit_advance(k, 500);
    expire(k);
    assert_int_equal(offset_of(k, "t"), -1);
    assert_int_equal(offset_of(k, "u"), 2);
    kit_advance(k, 500);
    expire(k);
    assert_true(group_is_forgettable(k->g));
}

static void offsets_of_a_group_expire_after_it_became_empty(void **state)
{
    struct group_kit *k = *state;
    k->config.offsets_retention_ms = 100000;
    two_members(k);
    commit_to(k, "a", 2, "t", 1);
    for (int i = 0; i < 20; i++) {
        kit_advance(k, 9000);
        heartbeat(k, "a", 2);
        heartbeat(k, "b", 2);
        expire(k);
    }
    assert_int_equal(offset_of(k, "t"), 1); /* unreadable subscriptions: all are kept */
    leave(k, "a", NULL);
    leave(k, "b", NULL);
    kit_advance(k, 99999);
    kit_restart(k, 0); /* the time it became empty is lasting */
    expire(k);
    assert_int_equal(offset_of(k, "t"), 1);
    kit_advance(k, 1);
    expire(k);
    assert_int_equal(offset_of(k, "t"), -1);
    assert_true(group_is_forgettable(k->g));
}

static void in_a_stable_group_only_offsets_of_topics_nobody_reads_expire(void **state)
{
    struct group_kit *k = *state;
    k->config.offsets_retention_ms = 5000;
    struct group_protocol p = {.name = STR("range"), .metadata = kit_subscription(k, "t")};
    struct group_join j = dynamic("", "a");
    j.protocols = &p;
    join(k, j);
    assign(k, "a", 1, "a", NULL);
    commit_to(k, "a", 1, "t", 1);
    commit_to(k, "a", 1, "u", 2);
    kit_advance(k, 5000);
    expire(k);
    assert_int_equal(offset_of(k, "t"), 1);
    assert_int_equal(offset_of(k, "u"), -1);
}

static void a_retention_that_the_client_asked_for_counts(void **state)
{
    struct group_kit *k = *state;
    struct group_commit_offset o = {.topic = STR("t"), .partition = 3, .offset = 1};
    kit_step(k, (struct group_event){
                    .kind = GROUP_EVENT_COMMIT,
                    .commit = {.member_id = STR(""),
                               .generation = -1,
                               .retention_ms = 700,
                               .offsets = &o,
                               .offset_count = 1}
    });
    kit_advance(k, 699);
    expire(k);
    assert_int_equal(offset_of(k, "t"), 1);
    kit_advance(k, 1);
    expire(k);
    assert_int_equal(offset_of(k, "t"), -1);
}

static void a_retention_longer_than_time_keeps_the_offset_for_ever(void **state)
{
    struct group_kit *k = *state;
    struct group_commit_offset o = {.topic = STR("t"), .partition = 3, .offset = 1};
    kit_step(k, (struct group_event){
                    .kind = GROUP_EVENT_COMMIT,
                    .commit = {.member_id = STR(""),
                               .generation = -1,
                               .retention_ms = INT64_MAX,
                               .offsets = &o,
                               .offset_count = 1}
    });
    kit_advance(k, INT64_C(1) << 40);
    expire(k);
    assert_int_equal(offset_of(k, "t"), 1);
}

static void a_commit_on_its_way_is_not_undone_by_expiry(void **state)
{
    struct group_kit *k = *state;
    k->config.offsets_retention_ms = 1000;
    commit_to(k, "", -1, "t", 1);
    kit_advance(k, 5000);
    k->at_once = false;
    commit_to(k, "", -1, "t", 2);
    expire(k);
    while (k->append_count) {
        kit_settle(k, GROUP_OK);
    }
    assert_int_equal(offset_of(k, "t"), 2);
}

static void an_empty_group_without_offsets_leaves_the_log(void **state)
{
    struct group_kit *k = *state;
    two_members(k);
    leave(k, "a", NULL);
    leave(k, "b", NULL);
    assert_false(group_is_forgettable(k->g));
    expire(k);
    assert_true(group_is_forgettable(k->g));
    kit_restart(k, 0);
    assert_true(group_is_forgettable(k->g));
}

static void an_unsaved_departure_is_saved_later(void **state)
{
    struct group_kit *k = *state;
    two_members(k);
    commit_to(k, "a", 2, "t", 1);
    k->at_once = false;
    leave(k, "a", NULL);
    uint64_t t = ask_leave(k, "b", NULL);
    assert_null(kit_answer(k, t));
    kit_settle(k, GROUP_NOT_AVAILABLE);
    assert_int_equal(answer_of(k, t)->error, GROUP_NOT_AVAILABLE);
    assert_int_equal(k->g->metadata->member_count, 2);
    k->at_once = true;
    expire(k);
    assert_int_equal(k->g->metadata->member_count, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_commit_is_answered_and_seen_only_when_it_is_lasting),
        T(a_refused_commit_leaves_nothing_behind),
        T(only_members_of_the_current_generation_commit),
        T(members_commit_before_they_join_again_but_not_before_they_sync),
        T(only_empty_groups_are_deleted_and_nothing_of_them_is_left),
        T(a_deletion_takes_along_what_is_on_its_way),
        T(offsets_are_deleted_one_by_one),
        T(topics_that_members_subscribe_to_are_known),
        T(unreadable_subscriptions_are_unknown_never_a_crash),
        T(offsets_are_kept_for_ever_by_default),
        T(offsets_of_simple_consumers_expire_after_their_commit),
        T(offsets_of_a_group_expire_after_it_became_empty),
        T(in_a_stable_group_only_offsets_of_topics_nobody_reads_expire),
        T(a_retention_that_the_client_asked_for_counts),
        T(a_retention_longer_than_time_keeps_the_offset_for_ever),
        T(a_commit_on_its_way_is_not_undone_by_expiry),
        T(an_empty_group_without_offsets_leaves_the_log),
        T(an_unsaved_departure_is_saved_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

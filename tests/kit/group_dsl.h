/* Shorthands of the group tests: what members do, in one line each. For files with a main of
 * cmocka's. */
#pragma once

#include "tests/kit/group_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct group_protocol range_only[] = {
    {.name = {"range", 5}, .metadata = {(const uint8_t *)"meta", 4}}
};

static inline struct group_join dynamic(const char *member_id, const char *new_id)
{
    return (struct group_join){
        .member_id = str_of(member_id),
        .client_id = STR("client"),
        .client_host = STR("/127.0.0.1"),
        .protocol_type = STR("consumer"),
        .protocols = range_only,
        .protocol_count = 1,
        .session_timeout_ms = 10000,
        .rebalance_timeout_ms = 60000,
        .new_member_id = str_of(new_id),
    };
}

static inline struct group_join instance(const char *instance_id, const char *new_id)
{
    struct group_join j = dynamic("", new_id);
    j.instance_id = str_of(instance_id);
    j.requires_known_member_id = true;
    j.can_skip_assignment = true;
    return j;
}

static inline uint64_t join(struct group_kit *k, struct group_join j)
{
    return kit_step(k, (struct group_event){.kind = GROUP_EVENT_JOIN, .join = j});
}

static inline uint64_t sync_as(struct group_kit *k, const char *id, int32_t generation)
{
    return kit_step(k, (struct group_event){
                           .kind = GROUP_EVENT_SYNC,
                           .sync = {.member_id = str_of(id), .generation = generation}
    });
}

/* The leader gives each of the two ids its own name as the assignment. */
static inline uint64_t assign(struct group_kit *k, const char *leader, int32_t generation,
                              const char *a, const char *b)
{
    struct group_assignment given[2] = {
        {.member_id = str_of(a), .assignment = kit_bytes(a)}
    };
    if (b) {
        given[1] = (struct group_assignment){.member_id = str_of(b), .assignment = kit_bytes(b)};
    }
    return kit_step(k, (struct group_event){
                           .kind = GROUP_EVENT_SYNC,
                           .sync = {.member_id = str_of(leader),
                                    .generation = generation,
                                    .assignments = given,
                                    .assignment_count = b ? 2 : 1}
    });
}

static inline enum group_error heartbeat(struct group_kit *k, const char *id, int32_t generation)
{
    uint64_t t = kit_step(k, (struct group_event){
                                 .kind = GROUP_EVENT_HEARTBEAT,
                                 .heartbeat = {.member_id = str_of(id), .generation = generation}
    });
    return kit_answer(k, t)->error;
}

static inline uint64_t commit_to(struct group_kit *k, const char *id, int32_t generation,
                                 const char *topic, int64_t offset)
{
    struct group_commit_offset o = {.topic = str_of(topic),
                                    .partition = 3,
                                    .offset = offset,
                                    .leader_epoch = 5,
                                    .metadata = STR("note")};
    return kit_step(k, (struct group_event){
                           .kind = GROUP_EVENT_COMMIT,
                           .commit = {.member_id = str_of(id),
                                      .generation = generation,
                                      .retention_ms = -1,
                                      .offsets = &o,
                                      .offset_count = 1}
    });
}

static inline uint64_t ask_leave(struct group_kit *k, const char *id, const char *instance_id)
{
    struct group_leaver l = {.member_id = str_of(id), .instance_id = str_of(instance_id)};
    return kit_step(k, (struct group_event){
                           .kind = GROUP_EVENT_LEAVE, .leave = {.leavers = &l, .leaver_count = 1}
    });
}

static inline enum group_error leave(struct group_kit *k, const char *id, const char *instance_id)
{
    const struct group_answer *a = kit_answer(k, ask_leave(k, id, instance_id));
    assert_non_null(a);
    assert_int_equal(a->error, GROUP_OK);
    return a->leave_errors[0];
}

static inline int64_t offset_of(const struct group_kit *k, const char *topic)
{
    const struct group_offset *o = group_offset_find(k->g, str_of(topic), 3);
    return o ? o->offset : -1;
}

static inline const struct group_answer *answer_of(const struct group_kit *k, uint64_t token)
{
    const struct group_answer *a = kit_answer(k, token);
    assert_non_null(a);
    return a;
}

#define assert_str(s, text)                                                                        \
    do {                                                                                           \
        assert_int_equal((s).len, strlen(text));                                                   \
        assert_memory_equal((s).ptr, text, strlen(text));                                          \
    } while (0)

/* Members a (leader) and b, generation 2, stable; a was alone in generation 1. */
static inline void two_members(struct group_kit *k)
{
    join(k, dynamic("", "a"));
    assign(k, "a", 1, "a", NULL);
    uint64_t b = join(k, dynamic("", "b"));
    assert_null(kit_answer(k, b));
    assert_int_equal(heartbeat(k, "a", 1), GROUP_REBALANCING);
    uint64_t a = join(k, dynamic("a", ""));
    assert_int_equal(answer_of(k, a)->generation, 2);
    assert_int_equal(answer_of(k, b)->generation, 2);
    uint64_t waits = sync_as(k, "b", 2);
    assert_null(kit_answer(k, waits));
    assign(k, "a", 2, "a", "b");
    assert_str(answer_of(k, waits)->assignment, "b");
    assert_int_equal(k->g->state, GROUP_STABLE);
}

static inline int setup(void **state)
{
    struct group_kit *k = test_calloc(1, sizeof *k);
    kit_init(k, true);
    *state = k;
    return 0;
}

static inline int teardown(void **state)
{
    struct group_kit *k = *state;
    bool twice = k->answered_twice != 0, agrees = k->append_count > 0 || kit_replay_agrees(k);
    kit_finish(k);
    test_free(k);
    return twice || !agrees; /* what every test must also leave behind */
}

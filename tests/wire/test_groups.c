/* The classic group protocol: joining in two steps, generations, assignments, leaving, static
 * members, what tools see, and that all of it survives the broker. */
#include "gen/delete_groups.h"
#include "gen/list_groups.h"
#include "tests/kit/wire_group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int setup(void **state)
{
    return wire_fixture_create(
        state, (const char *const[]){"offsets.topic.num.partitions=3", "group.max.size=3",
                                     "group.min.session.timeout.ms=50", NULL});
}

static void expect_join_refused(const struct join_group_response *a, int16_t code)
{
    assert_code(a->error_code, code);
    assert_int_equal(a->generation_id, -1);
    assert_int_equal(a->protocol_name.len, 0);
    assert_str(a->leader, "");
    assert_int_equal(a->members_count, 0);
}

static void expect_state(struct wire_client *c, const char *group, const char *state_name)
{
    assert_str(wire_describe_group(c, 5, group)->group_state, state_name);
}

/* Two members of a stable group; a leads. */
static void become_stable(struct member *a, struct member *b)
{
    member_become_stable(a);
    member_get_id(b);
    int32_t waits = member_send_join(b);
    while (member_heartbeat(a) != KERR_REBALANCE_IN_PROGRESS) {
    }
    a->rebalance_ms = b->rebalance_ms;
    int32_t again = member_send_join(a);
    const struct join_group_response *of_a = member_joined(a, again);
    const struct join_group_response *of_b = member_joined(b, waits);
    assert_code(of_a->error_code, KERR_NONE);
    assert_code(of_b->error_code, KERR_NONE);
    assert_int_equal(of_a->generation_id, of_b->generation_id);
    assert_true(str_eq(of_a->leader, a->id));
    assert_int_equal(of_a->members_count, 2);
    assert_int_equal(of_b->members_count, 0); /* only the leader is told who is there */
    int32_t sync_b = member_send_sync(b, NULL);
    const struct assignment both[] = {
        {a->id, "for a"},
        {b->id, "for b"},
        {{0},   NULL   }
    };
    const struct sync_group_response *s = member_sync(a, both);
    assert_code(s->error_code, KERR_NONE);
    assert_memory_equal(s->assignment.ptr, "for a", 5);
    s = member_synced(b, sync_b);
    assert_code(s->error_code, KERR_NONE);
    assert_memory_equal(s->assignment.ptr, "for b", 5);
}

/* ---- joining */

static void a_new_member_is_given_its_id_first_from_version_4_on(void **state)
{
    struct wire_client *c = client_of(state);
    c->client_id = STR("my-client");
    each_version(v, API_JOIN_GROUP)
    {
        struct member m = member_of(c, wire_text(c, "two-steps-%d", v).ptr);
        m.join_version = v;
        if (v >= 4) {
            const struct join_group_response *a = member_joined(&m, member_send_join(&m));
            expect_join_refused(a, KERR_MEMBER_ID_REQUIRED);
            assert_memory_equal(a->member_id.ptr, "my-client-", 10); /* as Kafka's look */
            assert_int_equal(a->member_id.len, 10 + 36);
            m.id = a->member_id;
        }
        const struct join_group_response *a = member_joined(&m, member_send_join(&m));
        assert_code(a->error_code, KERR_NONE);
        assert_int_equal(a->generation_id, 1);
        assert_str(a->protocol_name, "range");
        assert_str(a->protocol_type, v >= 7 ? "consumer" : NULL);
        assert_true(str_eq(a->leader, a->member_id));
        assert_memory_equal(a->member_id.ptr, "my-client-", 10);
        assert_int_equal(a->members_count, 1);
        assert_true(str_eq(a->members->member_id, a->member_id));
        assert_memory_equal(a->members->metadata.ptr, "meta", 4);
        assert_false(a->skip_assignment);
    }
}

static void joining_is_refused_where_it_makes_no_sense(void **state)
{
    struct wire_client *c = client_of(state);
    struct member there = member_of(c, "refusing");
    member_become_stable(&there);
    each_version(v, API_JOIN_GROUP)
    {
        struct member m = member_of(c, "");
        m.join_version = v;
        m.id = STR("x");
        const struct join_group_response *a = member_joined(&m, member_send_join(&m));
        expect_join_refused(a, KERR_INVALID_GROUP_ID);
        assert_str(a->member_id, "x");
        assert_int_equal(a->protocol_name.ptr == NULL, v >= 7); /* null is for them only */
        m.group = "refusing";
        a = member_joined(&m, member_send_join(&m));
        expect_join_refused(a, KERR_UNKNOWN_MEMBER_ID);
        m.id = STR("");
        m.session_ms = 49; /* group.min.session.timeout.ms is 50 here */
        expect_join_refused(member_joined(&m, member_send_join(&m)), KERR_INVALID_SESSION_TIMEOUT);
        m.session_ms = 1800001;
        expect_join_refused(member_joined(&m, member_send_join(&m)), KERR_INVALID_SESSION_TIMEOUT);
        m.session_ms = 0;
        m.protocols = "sticky";
        expect_join_refused(member_joined(&m, member_send_join(&m)),
                            KERR_INCONSISTENT_GROUP_PROTOCOL);
        m.protocols = "";
        expect_join_refused(member_joined(&m, member_send_join(&m)),
                            KERR_INCONSISTENT_GROUP_PROTOCOL);
        m.protocols = NULL;
        m.type = "connect";
        expect_join_refused(member_joined(&m, member_send_join(&m)),
                            KERR_INCONSISTENT_GROUP_PROTOCOL);
        m.group = "not-there-yet"; /* with an id that nobody gave */
        m.type = NULL;
        m.id = STR("made-up");
        expect_join_refused(member_joined(&m, member_send_join(&m)), KERR_UNKNOWN_MEMBER_ID);
    }
    assert_code(member_heartbeat(&there), KERR_NONE); /* none of it was a rebalance */
}

static void a_group_takes_no_more_than_group_max_size(void **state)
{
    struct wire_client *all[4];
    struct member m[4];
    int32_t waits[4] = {0};
    for (int i = 0; i < 4; i++) {
        all[i] = wire_connect(daemon_of(state));
        m[i] = member_of(all[i], "full");
    }
    member_become_stable(&m[0]);
    for (int i = 1; i < 3; i++) {
        member_get_id(&m[i]);
        waits[i] = member_send_join(&m[i]);
    }
    while (wire_describe_group(all[3], 5, "full")->members_count < 3) {
    }
    assert_code(member_joined(&m[0], member_send_join(&m[0]))->error_code, KERR_NONE);
    for (int i = 1; i < 3; i++) {
        assert_code(member_joined(&m[i], waits[i])->error_code, KERR_NONE);
    }
    each_version(v, API_JOIN_GROUP)
    {
        m[3] = member_of(all[3], "full");
        m[3].join_version = v;
        const struct join_group_response *a = member_joined(&m[3], member_send_join(&m[3]));
        if (a->error_code == KERR_MEMBER_ID_REQUIRED) {
            m[3].id = a->member_id;
            a = member_joined(&m[3], member_send_join(&m[3]));
        }
        expect_join_refused(a, KERR_GROUP_MAX_SIZE_REACHED);
    }
    assert_code(member_heartbeat(&m[0]), KERR_NONE); /* those who are in stay in */
    for (int i = 0; i < 4; i++) {
        wire_close(all[i]);
    }
}

static void the_protocol_is_what_all_support_and_most_prefer(void **state)
{
    struct wire_client *all[3];
    struct member m[3];
    int32_t waits[3];
    static const char *const protocols[] = {"a,b,c", "c,b,x", "b,c"};
    for (int i = 0; i < 3; i++) {
        all[i] = wire_connect(daemon_of(state));
        m[i] = member_of(all[i], "votes");
        m[i].protocols = protocols[i];
    }
    assert_code(member_join(&m[0])->error_code, KERR_NONE); /* waits for its own assignment */
    for (int i = 1; i < 3; i++) {
        member_get_id(&m[i]);
        waits[i] = member_send_join(&m[i]);
    }
    while (wire_describe_group(client_of(state), 5, "votes")->members_count < 3) {
    }
    const struct join_group_response *a = member_joined(&m[0], member_send_join(&m[0]));
    assert_code(a->error_code, KERR_NONE);
    assert_str(a->protocol_name, "b"); /* of b and c: two of three name b first */
    for (int i = 1; i < 3; i++) {
        a = member_joined(&m[i], waits[i]);
        assert_code(a->error_code, KERR_NONE);
        assert_str(a->protocol_name, "b");
    }
    for (int i = 0; i < 3; i++) {
        wire_close(all[i]);
    }
}

/* ---- generations */

static void members_share_a_group_and_rebalance_when_one_comes_or_goes(void **state)
{
    struct wire_client *ca = client_of(state), *cb = wire_connect(daemon_of(state));
    struct member a = member_of(ca, "shared"), b = member_of(cb, "shared");
    become_stable(&a, &b);
    assert_int_equal(a.generation, 2);
    assert_code(member_heartbeat(&a), KERR_NONE);
    assert_code(member_heartbeat(&b), KERR_NONE);
    expect_state(ca, "shared", "Stable");
    assert_code(member_leaves(&b), KERR_NONE);
    assert_code(member_heartbeat(&a), KERR_REBALANCE_IN_PROGRESS);
    assert_code(member_heartbeat(&b), KERR_UNKNOWN_MEMBER_ID);
    const struct join_group_response *j = member_join(&a);
    assert_code(j->error_code, KERR_NONE);
    assert_int_equal(j->generation_id, 3);
    assert_int_equal(j->members_count, 1);
    expect_state(ca, "shared", "CompletingRebalance");
    assert_code(member_heartbeat(&a), KERR_NONE); /* also before it is assigned */
    wire_close(cb);
}

static void an_old_generation_is_refused(void **state)
{
    struct member m = member_of(client_of(state), "generations");
    member_become_stable(&m);
    for (int32_t wrong = -1; wrong <= 3; wrong++) {
        struct member old = m;
        old.generation = wrong;
        bool right = wrong == m.generation;
        assert_code(member_heartbeat(&old), right ? KERR_NONE : KERR_ILLEGAL_GENERATION);
        assert_code(member_sync(&old, NULL)->error_code,
                    right ? KERR_NONE : KERR_ILLEGAL_GENERATION);
    }
    struct member unknown = m;
    unknown.id = STR("nobody");
    assert_code(member_heartbeat(&unknown), KERR_UNKNOWN_MEMBER_ID);
    assert_code(member_sync(&unknown, NULL)->error_code, KERR_UNKNOWN_MEMBER_ID);
    unknown.group = "no-such-group";
    assert_code(member_heartbeat(&unknown), KERR_UNKNOWN_MEMBER_ID);
    assert_code(member_sync(&unknown, NULL)->error_code, KERR_UNKNOWN_MEMBER_ID);
    unknown.group = "";
    assert_code(member_heartbeat(&unknown), KERR_INVALID_GROUP_ID);
    assert_code(member_sync(&unknown, NULL)->error_code, KERR_INVALID_GROUP_ID);
}

static void a_follower_that_joins_again_unchanged_gets_its_generation_back(void **state)
{
    struct wire_client *ca = client_of(state), *cb = wire_connect(daemon_of(state));
    struct member a = member_of(ca, "unchanged"), b = member_of(cb, "unchanged");
    become_stable(&a, &b);
    const struct join_group_response *j = member_joined(&b, member_send_join(&b));
    assert_code(j->error_code, KERR_NONE);
    assert_int_equal(j->generation_id, 2);
    assert_true(str_eq(j->leader, a.id));
    assert_code(member_heartbeat(&a), KERR_NONE); /* nobody noticed */
    /* with other metadata it is a rebalance */
    b.metadata = "other";
    int32_t waits = member_send_join(&b);
    while (member_heartbeat(&a) == KERR_NONE) {
    }
    assert_code(member_heartbeat(&a), KERR_REBALANCE_IN_PROGRESS);
    j = member_joined(&a, member_send_join(&a));
    assert_int_equal(j->generation_id, 3);
    assert_int_equal(member_joined(&b, waits)->generation_id, 3);
    wire_close(cb);
}

static void a_leader_that_joins_again_rebalances(void **state)
{
    struct wire_client *ca = client_of(state), *cb = wire_connect(daemon_of(state));
    struct member a = member_of(ca, "leader-again"), b = member_of(cb, "leader-again");
    become_stable(&a, &b);
    int32_t waits = member_send_join(&a);
    while (member_heartbeat(&b) == KERR_NONE) {
    }
    assert_int_equal(member_joined(&b, member_send_join(&b))->generation_id, 3);
    assert_int_equal(member_joined(&a, waits)->generation_id, 3);
    wire_close(cb);
}

static void assignments_wait_for_the_leader_and_are_given_again(void **state)
{
    struct wire_client *ca = client_of(state), *cb = wire_connect(daemon_of(state));
    struct member a = member_of(ca, "assigned"), b = member_of(cb, "assigned");
    become_stable(&a, &b);
    for (int i = 0; i < 2; i++) { /* who asks again is told again */
        const struct sync_group_response *s = member_sync(&b, NULL);
        assert_code(s->error_code, KERR_NONE);
        assert_str(s->protocol_name, "range");
        assert_str(s->protocol_type, "consumer");
        assert_memory_equal(s->assignment.ptr, "for b", 5);
    }
    int32_t waits = member_send_join(&a);
    while (member_heartbeat(&b) == KERR_NONE) {
    }
    assert_code(member_sync(&b, NULL)->error_code, KERR_REBALANCE_IN_PROGRESS);
    member_joined(&b, member_send_join(&b));
    member_joined(&a, waits);
    int32_t sync_b = member_send_sync(&b, NULL);
    const struct assignment only_a[] = {
        {a.id, "all"},
        {{0},  NULL }
    };
    assert_code(member_sync(&a, only_a)->error_code, KERR_NONE);
    const struct sync_group_response *s = member_synced(&b, sync_b);
    assert_code(s->error_code, KERR_NONE);
    assert_int_equal(s->assignment.len, 0); /* forgotten by the leader: empty, not missing */
    wire_close(cb);
}

static void sync_checks_the_protocol_from_version_5_on(void **state)
{
    struct member m = member_of(client_of(state), "sync-protocol");
    member_become_stable(&m);
    each_version(v, API_SYNC_GROUP)
    {
        static const struct {
            const char *type, *name;
            int16_t code;
        } cases[] = {
            {"consumer", "range",  KERR_NONE                       },
            {"connect",  "range",  KERR_INCONSISTENT_GROUP_PROTOCOL},
            {"consumer", "sticky", KERR_INCONSISTENT_GROUP_PROTOCOL},
            {NULL,       NULL,     KERR_INCONSISTENT_GROUP_PROTOCOL},
        };
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            struct sync_group_request *q = NEW(m.c, sync_group_request);
            q->group_id = str_of(m.group);
            q->generation_id = m.generation;
            q->member_id = m.id;
            q->protocol_type = str_of(cases[i].type);
            q->protocol_name = str_of(cases[i].name);
            const struct sync_group_response *a = wire_ask(m.c, API_SYNC_GROUP, v, q);
            assert_code(a->error_code, v >= 5 ? cases[i].code : KERR_NONE);
        }
    }
}

/* ---- time runs out: short timeouts, and the broker's own clock */

static void a_member_that_is_silent_is_expelled(void **state)
{
    struct member m = member_of(client_of(state), "silent");
    member_become_stable(&m);
    m.session_ms = 60; /* from the next join on, after which it says nothing */
    assert_code(member_join(&m)->error_code, KERR_NONE);
    struct wire_client *c = wire_connect(daemon_of(state));
    while (wire_describe_group(c, 5, "silent")->members_count > 0) {
        wire_forget(c);
    }
    expect_state(c, "silent", "Empty");
    assert_code(member_heartbeat(&m), KERR_UNKNOWN_MEMBER_ID);
    wire_close(c);
}

static void a_member_that_misses_a_rebalance_is_left_out(void **state)
{
    struct wire_client *ca = client_of(state), *cb = wire_connect(daemon_of(state));
    struct member a = member_of(ca, "missed"), b = member_of(cb, "missed");
    b.rebalance_ms = 50;
    become_stable(&a, &b); /* a takes b's for its second join: no hurry before both are in */
    const struct join_group_response *j = member_join(&a); /* b does not come */
    assert_code(j->error_code, KERR_NONE);
    assert_int_equal(j->generation_id, 3);
    assert_int_equal(j->members_count, 1);
    assert_code(member_heartbeat(&b), KERR_UNKNOWN_MEMBER_ID);
    wire_close(cb);
}

static void an_id_that_nobody_joins_with_does_not_hold_up_the_group(void **state)
{
    struct wire_client *ca = client_of(state), *cb = wire_connect(daemon_of(state));
    struct member a = member_of(ca, "pending"), b = member_of(cb, "pending");
    member_become_stable(&a);
    b.session_ms = 60;
    member_get_id(&b); /* and never again */
    const struct join_group_response *j = member_join(&a);
    assert_code(j->error_code, KERR_NONE);
    assert_int_equal(j->members_count, 1);
    wire_close(cb);
}

/* ---- leaving */

static void several_members_can_be_removed_each_with_an_answer_of_its_own(void **state)
{
    struct wire_client *ca = client_of(state), *cb = wire_connect(daemon_of(state));
    struct member a = member_of(ca, "removed"), b = member_of(cb, "removed");
    become_stable(&a, &b);
    for (int16_t v = 3; v <= version_max(API_LEAVE_GROUP); v++) {
        struct leave_group_request *q = NEW(ca, leave_group_request);
        q->group_id = STR("removed");
        q->members = NEWS(ca, leave_group_request_member, 2);
        q->members_count = 2;
        q->members[0].member_id = STR("nobody");
        q->members[1].member_id = v == 5 ? a.id : STR("");
        q->members[1].group_instance_id = v == 5 ? (struct str){0} : STR("no-instance");
        q->members[0].reason = v == 5 ? STR("because") : (struct str){0};
        const struct leave_group_response *r = wire_ask(ca, API_LEAVE_GROUP, v, q);
        assert_code(r->error_code, KERR_NONE);
        assert_int_equal(r->members_count, 2);
        assert_str(r->members[0].member_id, "nobody");
        assert_code(r->members[0].error_code, KERR_UNKNOWN_MEMBER_ID);
        assert_code(r->members[1].error_code, v == 5 ? KERR_NONE : KERR_UNKNOWN_MEMBER_ID);
    }
    assert_code(member_heartbeat(&b), KERR_REBALANCE_IN_PROGRESS);
    struct leave_group_request *q = NEW(ca, leave_group_request);
    q->group_id = STR("no-such-group");
    q->member_id = STR("x");
    const struct leave_group_response *r = wire_ask(ca, API_LEAVE_GROUP, 2, q);
    assert_code(r->error_code, KERR_UNKNOWN_MEMBER_ID);
    q->group_id = STR("");
    r = wire_ask(ca, API_LEAVE_GROUP, 2, q);
    assert_code(r->error_code, KERR_INVALID_GROUP_ID);
    wire_close(cb);
}

/* ---- static members (KIP-345) */

static void a_static_member_comes_back_without_a_rebalance_and_fences_its_former_self(void **state)
{
    struct wire_client *ca = client_of(state), *cb = wire_connect(daemon_of(state));
    for (int16_t v = 5; v <= version_max(API_JOIN_GROUP); v++) {
        struct member a = member_of(ca, wire_text(ca, "static-%d", v).ptr);
        a.instance = "one";
        a.join_version = v;
        const struct join_group_response *j = member_join(&a); /* in one step */
        assert_code(j->error_code, KERR_NONE);
        assert_str(j->members->group_instance_id, "one");
        const struct assignment all[] = {
            {a.id, "all"},
            {{0},  NULL }
        };
        assert_code(member_sync(&a, all)->error_code, KERR_NONE);
        struct member back = member_of(cb, a.group);
        back.instance = "one";
        back.join_version = v;
        j = member_join(&back);
        assert_code(j->error_code, KERR_NONE);
        assert_false(str_eq(back.id, a.id));
        assert_int_equal(j->generation_id, 1); /* no rebalance */
        const struct sync_group_response *s = member_sync(&back, NULL);
        assert_code(s->error_code, KERR_NONE);
        assert_memory_equal(s->assignment.ptr, "all", 3);
        assert_code(member_heartbeat(&back), KERR_NONE);
        assert_code(member_heartbeat(&a), KERR_FENCED_INSTANCE_ID);
        assert_code(member_sync(&a, NULL)->error_code, KERR_FENCED_INSTANCE_ID);
        expect_join_refused(member_joined(&a, member_send_join(&a)), KERR_FENCED_INSTANCE_ID);
        if (v >= 9) { /* it is the leader, and must not assign again (KIP-814) */
            assert_true(j->skip_assignment);
            assert_true(str_eq(j->leader, back.id));
        }
    }
    wire_close(cb);
}

static void a_static_member_is_removed_by_its_instance_id(void **state)
{
    struct wire_client *c = client_of(state);
    struct member m = member_of(c, "static-removed");
    m.instance = "two";
    member_become_stable(&m);
    struct member by_instance = m;
    by_instance.id = STR("");
    assert_code(member_leaves(&by_instance), KERR_NONE);
    assert_code(member_heartbeat(&m), KERR_UNKNOWN_MEMBER_ID);
    expect_state(c, "static-removed", "Empty");
}

/* ---- what tools see */

static void a_described_group_tells_its_members_when_it_is_stable(void **state)
{
    struct wire_client *c = client_of(state), *tool = wire_connect(daemon_of(state));
    c->client_id = STR("the-client");
    struct member m = member_of(c, "described");
    m.instance = "inst";
    assert_code(member_join(&m)->error_code, KERR_NONE);
    each_version(v, API_DESCRIBE_GROUPS)
    {
        const struct describe_groups_response_group *g = wire_describe_group(tool, v, "described");
        assert_code(g->error_code, KERR_NONE);
        assert_str(g->group_state, "CompletingRebalance");
        assert_str(g->protocol_type, "consumer");
        assert_int_equal(g->protocol_data.len, 0);
        assert_int_equal(g->members_count, 1);
        assert_int_equal(g->members->member_metadata.len, 0);
    }
    const struct assignment all[] = {
        {m.id, "all"},
        {{0},  NULL }
    };
    assert_code(member_sync(&m, all)->error_code, KERR_NONE);
    each_version(v, API_DESCRIBE_GROUPS)
    {
        const struct describe_groups_response_group *g = wire_describe_group(tool, v, "described");
        assert_str(g->group_state, "Stable");
        assert_str(g->protocol_data, "range");
        assert_int_equal(g->members_count, 1);
        assert_true(str_eq(g->members->member_id, m.id));
        assert_str(g->members->group_instance_id, v >= 4 ? "inst" : NULL);
        assert_str(g->members->client_id, "the-client");
        assert_str(g->members->client_host, "/127.0.0.1");
        assert_int_equal(g->members->member_metadata.len, 4);
        assert_memory_equal(g->members->member_assignment.ptr, "all", 3);
        assert_int_equal(g->authorized_operations, INT32_MIN);
    }
    wire_close(tool);
}

static void a_group_that_is_not_there_is_dead_and_from_version_6_on_not_found(void **state)
{
    struct wire_client *c = client_of(state);
    each_version(v, API_DESCRIBE_GROUPS)
    {
        const struct describe_groups_response_group *g = wire_describe_group(c, v, "not-there");
        assert_str(g->group_state, "Dead");
        assert_code(g->error_code, v >= 6 ? KERR_GROUP_ID_NOT_FOUND : KERR_NONE);
        assert_int_equal(g->error_message.len > 0, v >= 6);
        assert_int_equal(g->members_count, 0);
    }
    struct describe_groups_request *q = NEW(c, describe_groups_request);
    struct str ids[] = {STR("operations")};
    struct member m = member_of(c, "operations");
    member_become_stable(&m);
    q->groups = ids;
    q->groups_count = 1;
    q->include_authorized_operations = true;
    for (int16_t v = 3; v <= version_max(API_DESCRIBE_GROUPS); v++) {
        const struct describe_groups_response *a = wire_ask(c, API_DESCRIBE_GROUPS, v, q);
        int32_t bits = a->groups->authorized_operations;
        assert_true(bits & 1 << 3 && bits & 1 << 6 && bits & 1 << 8); /* read, delete, describe */
    }
}

static bool is_listed(struct wire_client *c, int16_t version, const char *group,
                      const char *state_filter, const char *type_filter,
                      struct list_groups_response_group *ret_group)
{
    struct list_groups_request *q = NEW(c, list_groups_request);
    struct str states[] = {str_of(state_filter)}, types[] = {str_of(type_filter)};
    if (state_filter) {
        q->states_filter = states;
        q->states_filter_count = 1;
    }
    if (type_filter) {
        q->types_filter = types;
        q->types_filter_count = 1;
    }
    const struct list_groups_response *a = wire_ask(c, API_LIST_GROUPS, version, q);
    assert_code(a->error_code, KERR_NONE);
    for (int32_t i = 0; i < a->groups_count; i++) {
        if (str_eq(a->groups[i].group_id, str_of(group))) {
            *ret_group = a->groups[i];
            return true;
        }
    }
    return false;
}

static void groups_are_listed_by_state_and_type(void **state)
{
    struct wire_client *c = client_of(state);
    struct member m = member_of(c, "listed");
    struct list_groups_response_group g = {0};
    member_become_stable(&m);
    each_version(v, API_LIST_GROUPS)
    {
        assert_true(is_listed(c, v, "listed", NULL, NULL, &g));
        assert_str(g.protocol_type, "consumer");
        assert_int_equal(g.group_state.len > 0, v >= 4);
        if (v >= 4) {
            assert_str(g.group_state, "Stable");
            assert_true(is_listed(c, v, "listed", "Stable", NULL, &g));
            assert_true(is_listed(c, v, "listed", "stable", NULL, &g));
            assert_false(is_listed(c, v, "listed", "Empty", NULL, &g));
            assert_false(is_listed(c, v, "listed", "Nonsense", NULL, &g));
        }
        if (v >= 5) {
            assert_true(is_listed(c, v, "listed", NULL, "classic", &g));
            assert_str(g.group_type, "classic");
            assert_true(is_listed(c, v, "listed", "STABLE", "Classic", &g));
            assert_false(is_listed(c, v, "listed", NULL, "consumer", &g));
            assert_false(is_listed(c, v, "listed", NULL, "share", &g));
        }
    }
}

static void only_empty_groups_are_deleted(void **state)
{
    struct wire_client *c = client_of(state);
    struct list_groups_response_group g;
    TOPIC(c, "of-groups", 1);
    each_version(v, API_DELETE_GROUPS)
    {
        struct str busy = wire_text(c, "busy-%d", v), idle = wire_text(c, "idle-%d", v);
        struct member m = member_of(c, busy.ptr);
        member_become_stable(&m);
        assert_code(
            wire_commit(c, (struct commit){.group = idle.ptr, .topic = "of-groups", .offset = 5}),
            KERR_NONE);
        struct str names[] = {busy, idle, STR("not-there"), STR("")};
        struct delete_groups_request *q = NEW(c, delete_groups_request);
        q->groups_names = names;
        q->groups_names_count = 4;
        const struct delete_groups_response *a = wire_ask(c, API_DELETE_GROUPS, v, q);
        assert_int_equal(a->results_count, 4);
        assert_code(a->results[0].error_code, KERR_NON_EMPTY_GROUP);
        assert_code(a->results[1].error_code, KERR_NONE);
        assert_code(a->results[2].error_code, KERR_GROUP_ID_NOT_FOUND);
        assert_true(a->results[3].error_code == KERR_GROUP_ID_NOT_FOUND ||
                    a->results[3].error_code == KERR_INVALID_GROUP_ID);
        assert_false(is_listed(c, 5, idle.ptr, NULL, NULL, &g));
        assert_int_equal(wire_committed(c, idle.ptr, "of-groups", 0), -1); /* and its offsets */
        assert_code(member_leaves(&m), KERR_NONE);
        q->groups_names_count = 1;
        a = wire_ask(c, API_DELETE_GROUPS, v, q);
        assert_code(a->results->error_code, KERR_NONE);
    }
}

/* ---- the broker goes and comes back */

static void a_stable_group_is_still_there_after_kill_9_and_a_clean_stop(void **state)
{
    struct daemon *d = daemon_of(state);
    struct wire_client *ca = client_of(state), *cb = wire_connect(d);
    struct member a = member_of(ca, "survives"), b = member_of(cb, "survives");
    become_stable(&a, &b);
    for (int round = 0; round < 4; round++) {
        if (round % 2) {
            daemon_restart(d);
        } else {
            daemon_kill(d);
            daemon_start(d);
        }
        a.c = wire_connect(d);
        b.c = wire_connect(d);
        assert_code(member_heartbeat(&a), KERR_NONE);
        assert_code(member_heartbeat(&b), KERR_NONE);
        const struct sync_group_response *s = member_sync(&b, NULL);
        assert_code(s->error_code, KERR_NONE);
        assert_memory_equal(s->assignment.ptr, "for b", 5);
        const struct describe_groups_response_group *g = wire_describe_group(a.c, 5, "survives");
        assert_str(g->group_state, "Stable");
        assert_int_equal(g->members_count, 2);
        assert_str(g->members->client_host, "/127.0.0.1");
        if (round < 3) {
            wire_close(a.c);
            wire_close(b.c);
        }
    }
    /* and it goes on: one leaves, the other has the next generation */
    assert_code(member_leaves(&b), KERR_NONE);
    assert_int_equal(member_join(&a)->generation_id, 3);
    wire_close(a.c);
    wire_close(b.c);
    wire_close(cb);
}

static void a_generation_never_comes_twice(void **state)
{
    struct daemon *d = daemon_of(state);
    struct wire_client *first = client_of(state); /* keeps the member's id */
    struct member m = member_of(first, "generation");
    member_become_stable(&m);
    for (int round = 0; round < 4; round++) {
        int32_t last = m.generation;
        struct str id = m.id;
        daemon_kill(d); /* straight after the answer to its SyncGroup */
        daemon_start(d);
        m.c = wire_connect(d);
        assert_code(member_join(&m)->error_code, KERR_NONE); /* it leads: a rebalance */
        assert_true(m.generation > last);
        const struct assignment all[] = {
            {id,  "all"},
            {{0}, NULL }
        };
        assert_code(member_sync(&m, all)->error_code, KERR_NONE);
        m.id = id;
        wire_close(m.c);
    }
}

/* A leave that was answered is lasting: else the next member would wait for the departed one until
 * its session is over. */
static void the_last_member_that_left_is_gone_after_kill_9(void **state)
{
    struct daemon *d = daemon_of(state);
    struct wire_client *c = client_of(state);
    struct member m = member_of(c, "departed");
    m.session_ms = 300000;
    m.rebalance_ms = 300000; /* longer than the client's patience with an answer */
    member_become_stable(&m);
    assert_code(member_leaves(&m), KERR_NONE);
    daemon_kill(d);
    daemon_start(d);
    struct member next = member_of(wire_connect(d), "departed");
    assert_code(member_join(&next)->error_code, KERR_NONE);
    assert_int_equal(next.generation, 3); /* the empty group was the second */
    wire_close(next.c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        wire_test(a_new_member_is_given_its_id_first_from_version_4_on),
        wire_test(joining_is_refused_where_it_makes_no_sense),
        wire_test(a_group_takes_no_more_than_group_max_size),
        wire_test(the_protocol_is_what_all_support_and_most_prefer),
        wire_test(members_share_a_group_and_rebalance_when_one_comes_or_goes),
        wire_test(an_old_generation_is_refused),
        wire_test(a_follower_that_joins_again_unchanged_gets_its_generation_back),
        wire_test(a_leader_that_joins_again_rebalances),
        wire_test(assignments_wait_for_the_leader_and_are_given_again),
        wire_test(sync_checks_the_protocol_from_version_5_on),
        wire_test(a_member_that_is_silent_is_expelled),
        wire_test(a_member_that_misses_a_rebalance_is_left_out),
        wire_test(an_id_that_nobody_joins_with_does_not_hold_up_the_group),
        wire_test(several_members_can_be_removed_each_with_an_answer_of_its_own),
        wire_test(a_static_member_comes_back_without_a_rebalance_and_fences_its_former_self),
        wire_test(a_static_member_is_removed_by_its_instance_id),
        wire_test(a_described_group_tells_its_members_when_it_is_stable),
        wire_test(a_group_that_is_not_there_is_dead_and_from_version_6_on_not_found),
        wire_test(groups_are_listed_by_state_and_type),
        wire_test(only_empty_groups_are_deleted),
        wire_test(a_stable_group_is_still_there_after_kill_9_and_a_clean_stop),
        wire_test(the_last_member_that_left_is_gone_after_kill_9),
        wire_test(a_generation_never_comes_twice),
    };
    return cmocka_run_group_tests(tests, setup, wire_fixture_destroy);
}

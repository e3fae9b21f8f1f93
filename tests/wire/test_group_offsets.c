/* OffsetCommit, OffsetFetch and OffsetDelete: how far groups got, who may say so, and that it is
 * never forgotten. */
#include "gen/delete_topics.h"
#include "gen/offset_delete.h"
#include "tests/kit/wire_group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int setup(void **state)
{
    int code =
        wire_fixture_create(state, (const char *const[]){"offsets.topic.num.partitions=3", NULL});
    struct wire_client *c = wire_connect(daemon_of(state));
    TOPIC(c, "t", 4);
    TOPIC(c, "u", 2);
    wire_close(c);
    return code;
}

/* ---- simple consumers: offsets without members */

static void an_offset_is_kept_with_all_that_came_with_it_in_every_version(void **state)
{
    struct wire_client *c = client_of(state);
    struct uuid id = wire_topic_info(c, "t")->topic_id;
    each_version(v, API_OFFSET_COMMIT)
    {
        struct str group = wire_text(c, "simple-%d", v);
        assert_code(wire_commit(c, (struct commit){.version = v,
                                                   .group = group.ptr,
                                                   .topic = "t",
                                                   .topic_id = id,
                                                   .partition = 1,
                                                   .offset = 100 + v,
                                                   .leader_epoch = 7,
                                                   .metadata = "some text"}),
                    KERR_NONE);
        const struct offset_fetch_response_group_topic_partition *p =
            wire_committed_whole(c, group.ptr, "t", 1);
        assert_code(p->error_code, KERR_NONE);
        assert_int_equal(p->committed_offset, 100 + v);
        assert_int_equal(p->committed_leader_epoch, v >= 6 ? 7 : -1);
        assert_str(p->metadata, "some text");
    }
}

static void metadata_may_be_null_or_empty_and_no_longer_than_the_limit(void **state)
{
    struct wire_client *c = client_of(state);
    char text[4098];
    memset(text, 'm', sizeof text);
    text[4097] = 0;
    struct commit k = {.group = "metadata", .topic = "t", .offset = 1, .metadata = text};
    each_version(v, API_OFFSET_COMMIT)
    {
        k.version = v;
        k.topic_id = wire_topic_info(c, "t")->topic_id;
        text[4096] = 'm';
        assert_code(wire_commit(c, k), KERR_OFFSET_METADATA_TOO_LARGE);
        text[4096] = 0;
        assert_code(wire_commit(c, k), KERR_NONE);
        assert_int_equal(wire_committed_whole(c, "metadata", "t", 0)->metadata.len, 4096);
    }
    k.metadata = NULL;
    assert_code(wire_commit(c, k), KERR_NONE);
    assert_str(wire_committed_whole(c, "metadata", "t", 0)->metadata, "");
}

static void what_was_never_committed_is_minus_one_without_an_error(void **state)
{
    struct wire_client *c = client_of(state);
    assert_code(wire_commit(c, (struct commit){.group = "some", .topic = "t", .offset = 5}),
                KERR_NONE);
    static const struct {
        const char *group, *topic;
        int32_t partition;
    } cases[] = {
        {"some",     "t",         1 },
        {"some",     "u",         0 },
        {"some",     "t",         99},
        {"some",     "not-there", 0 },
        {"no-group", "t",         0 },
        {"",         "t",         0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct offset_fetch_response_group_topic_partition *p =
            wire_committed_whole(c, cases[i].group, cases[i].topic, cases[i].partition);
        assert_code(p->error_code, KERR_NONE);
        assert_int_equal(p->committed_offset, -1);
        assert_int_equal(p->committed_leader_epoch, -1);
        assert_str(p->metadata, "");
    }
    for (int16_t v = 1; v <= 7; v++) {
        struct offset_fetch_request *q = NEW(c, offset_fetch_request);
        int32_t partitions[] = {1, 0};
        q->group_id = STR("some");
        q->topics = NEW(c, offset_fetch_request_topic);
        q->topics_count = 1;
        q->topics->name = STR("t");
        q->topics->partition_indexes = partitions;
        q->topics->partition_indexes_count = 2;
        const struct offset_fetch_response *a = wire_ask(c, API_OFFSET_FETCH, v, q);
        assert_code(a->error_code, KERR_NONE);
        assert_int_equal(a->topics_count, 1);
        assert_int_equal(a->topics->partitions_count, 2);
        assert_int_equal(a->topics->partitions[0].partition_index, 1);
        assert_int_equal(a->topics->partitions[0].committed_offset, -1);
        assert_str(a->topics->partitions[0].metadata, "");
        assert_int_equal(a->topics->partitions[1].committed_offset, 5);
    }
}

static void all_that_is_stored_is_asked_for_by_null(void **state)
{
    struct wire_client *c = client_of(state);
    struct uuid t = wire_topic_info(c, "t")->topic_id, u = wire_topic_info(c, "u")->topic_id;
    for (int32_t i = 0; i < 3; i++) {
        assert_code(wire_commit(c, (struct commit){.group = "all",
                                                   .topic = i < 2 ? "t" : "u",
                                                   .partition = i,
                                                   .offset = 10 + i}),
                    i == 2 ? KERR_UNKNOWN_TOPIC_OR_PARTITION : KERR_NONE);
    }
    assert_code(
        wire_commit(c, (struct commit){.group = "all", .topic = "u", .partition = 1, .offset = 12}),
        KERR_NONE);
    for (int16_t v = 2; v <= 7; v++) {
        struct offset_fetch_request *q = NEW(c, offset_fetch_request);
        q->group_id = STR("all");
        q->topics_count = -1;
        q->require_stable = v >= 7;
        const struct offset_fetch_response *a = wire_ask(c, API_OFFSET_FETCH, v, q);
        assert_code(a->error_code, KERR_NONE);
        assert_int_equal(a->topics_count, 2);
        int64_t sum = 0;
        for (int i = 0; i < 2; i++) {
            for (int32_t k = 0; k < a->topics[i].partitions_count; k++) {
                assert_int_equal(a->topics[i].partitions[k].committed_leader_epoch, -1);
                sum += a->topics[i].partitions[k].committed_offset;
            }
        }
        assert_int_equal(sum, 10 + 11 + 12);
        q->group_id = STR("nobody-knows-it"); /* no error: it may commit one day */
        a = wire_ask(c, API_OFFSET_FETCH, v, q);
        assert_code(a->error_code, KERR_NONE);
        assert_int_equal(a->topics_count, 0);
    }
    for (int16_t v = 8; v <= version_max(API_OFFSET_FETCH); v++) { /* several groups at once */
        struct offset_fetch_request *q = NEW(c, offset_fetch_request);
        q->groups = NEWS(c, offset_fetch_request_group, 2);
        q->groups_count = 2;
        q->groups[0].group_id = STR("nobody-knows-it");
        q->groups[0].topics_count = -1;
        q->groups[1].group_id = STR("all");
        q->groups[1].topics_count = -1;
        q->require_stable = true;
        const struct offset_fetch_response *a = wire_ask(c, API_OFFSET_FETCH, v, q);
        assert_int_equal(a->groups_count, 2);
        assert_int_equal(a->groups[0].topics_count, 0);
        assert_code(a->groups[0].error_code, KERR_NONE);
        const struct offset_fetch_response_group *g = &a->groups[1];
        assert_str(g->group_id, "all");
        assert_code(g->error_code, KERR_NONE);
        assert_int_equal(g->topics_count, 2);
        for (int i = 0; i < 2; i++) {
            if (v >= 10) {
                assert_true(uuid_eq(g->topics[i].topic_id, t) || uuid_eq(g->topics[i].topic_id, u));
            } else {
                assert_true(str_eq(g->topics[i].name, STR("t")) ||
                            str_eq(g->topics[i].name, STR("u")));
            }
        }
    }
}

static void version_10_speaks_in_topic_ids(void **state)
{
    struct wire_client *c = client_of(state);
    struct uuid id = wire_topic_info(c, "t")->topic_id;
    const struct uuid unknown = {
        {4, 2}
    };
    assert_code(
        wire_commit(c,
                    (struct commit){.version = 10, .group = "ids", .topic_id = id, .offset = 33}),
        KERR_NONE);
    assert_code(
        wire_commit(
            c, (struct commit){.version = 10, .group = "ids", .topic_id = unknown, .offset = 33}),
        KERR_UNKNOWN_TOPIC_ID);
    struct offset_fetch_request *q = NEW(c, offset_fetch_request);
    int32_t partition = 0;
    q->groups = NEW(c, offset_fetch_request_group);
    q->groups_count = 1;
    q->groups->group_id = STR("ids");
    q->groups->topics = NEWS(c, offset_fetch_request_group_topic, 2);
    q->groups->topics_count = 2;
    for (int i = 0; i < 2; i++) {
        q->groups->topics[i].topic_id = i ? unknown : id;
        q->groups->topics[i].partition_indexes = &partition;
        q->groups->topics[i].partition_indexes_count = 1;
    }
    const struct offset_fetch_response *a = wire_ask(c, API_OFFSET_FETCH, 10, q);
    assert_code(a->groups->error_code, KERR_NONE);
    assert_int_equal(a->groups->topics_count, 2);
    for (int i = 0; i < 2; i++) {
        const struct offset_fetch_response_group_topic *t = &a->groups->topics[i];
        bool good = uuid_eq(t->topic_id, id);
        assert_true(good || uuid_eq(t->topic_id, unknown));
        assert_code(t->partitions->error_code, good ? KERR_NONE : KERR_UNKNOWN_TOPIC_ID);
        assert_int_equal(t->partitions->committed_offset, good ? 33 : -1);
    }
}

static void commits_for_what_is_not_there_are_refused_one_by_one(void **state)
{
    struct wire_client *c = client_of(state);
    for (int16_t v = 2; v <= 9; v++) {
        struct commit k = {.version = v, .group = "refused", .topic = "t", .offset = 1};
        k.partition = 4;
        assert_code(wire_commit(c, k), KERR_UNKNOWN_TOPIC_OR_PARTITION);
        k.partition = -1;
        assert_code(wire_commit(c, k), KERR_UNKNOWN_TOPIC_OR_PARTITION);
        k.partition = 0;
        k.topic = "not-there";
        assert_code(wire_commit(c, k), KERR_UNKNOWN_TOPIC_OR_PARTITION);
    }
    /* a good one beside them is done */
    struct offset_commit_request *q = NEW(c, offset_commit_request);
    q->group_id = STR("refused");
    q->topics = NEWS(c, offset_commit_request_topic, 2);
    q->topics_count = 2;
    for (int i = 0; i < 2; i++) {
        q->topics[i].name = i ? STR("t") : STR("not-there");
        q->topics[i].partitions = NEWS(c, offset_commit_request_partition, 2);
        q->topics[i].partitions_count = 2;
        q->topics[i].partitions[0].partition_index = 77;
        q->topics[i].partitions[1].partition_index = 3;
        q->topics[i].partitions[1].committed_offset = 9;
    }
    const struct offset_commit_response *a = wire_ask(c, API_OFFSET_COMMIT, 9, q);
    assert_int_equal(a->topics_count, 2);
    assert_code(a->topics[0].partitions[0].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    assert_code(a->topics[0].partitions[1].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    assert_code(a->topics[1].partitions[0].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    assert_code(a->topics[1].partitions[1].error_code, KERR_NONE);
    assert_int_equal(wire_committed(c, "refused", "t", 3), 9);
}

/* ---- members */

static void only_members_of_this_generation_commit_to_a_group_that_has_any(void **state)
{
    struct wire_client *c = client_of(state);
    struct member m = member_of(c, "members");
    struct uuid id = wire_topic_info(c, "t")->topic_id;
    member_become_stable(&m);
    each_version(v, API_OFFSET_COMMIT)
    {
        struct member who = m;
        struct commit k = {.version = v, .group = "members", .topic = "t", .offset = 50 + v};
        k.topic_id = id;
        assert_code(wire_commit(c, k), KERR_UNKNOWN_MEMBER_ID); /* a simple consumer */
        k.member = &who;
        assert_code(wire_commit(c, k), KERR_NONE);
        assert_int_equal(wire_committed(c, "members", "t", 0), 50 + v);
        k.offset = 1;
        who.generation = m.generation - 1;
        assert_code(wire_commit(c, k), KERR_ILLEGAL_GENERATION);
        who.generation = m.generation + 1;
        assert_code(wire_commit(c, k), KERR_ILLEGAL_GENERATION);
        who = m;
        who.id = STR("nobody");
        assert_code(wire_commit(c, k), KERR_UNKNOWN_MEMBER_ID);
        assert_int_equal(wire_committed(c, "members", "t", 0), 50 + v);
    }
    assert_code(member_leaves(&m), KERR_NONE);
    assert_code(wire_commit(c, (struct commit){.group = "members", .topic = "t", .offset = 2}),
                KERR_NONE); /* it is empty now */
}

static void an_unknown_group_is_not_found_from_version_9_on(void **state)
{
    struct wire_client *c = client_of(state);
    struct member m = member_of(c, "unknown-group");
    m.id = STR("x");
    m.generation = 3;
    each_version(v, API_OFFSET_COMMIT)
    {
        assert_code(wire_commit(c, (struct commit){.version = v,
                                                   .group = m.group,
                                                   .topic = "t",
                                                   .topic_id = wire_topic_info(c, "t")->topic_id,
                                                   .offset = 1,
                                                   .member = &m}),
                    v >= 9 ? KERR_GROUP_ID_NOT_FOUND : KERR_ILLEGAL_GENERATION);
    }
}

static void commits_are_taken_before_a_rejoin_and_refused_before_the_assignment(void **state)
{
    struct wire_client *c = client_of(state), *other = wire_connect(daemon_of(state));
    struct member m = member_of(c, "rebalancing"), b = member_of(other, "rebalancing");
    struct commit k = {.group = "rebalancing", .topic = "t", .offset = 5, .member = &m};
    member_become_stable(&m);
    member_get_id(&b);
    int32_t waits = member_send_join(&b);
    while (member_heartbeat(&m) == KERR_NONE) {
    }
    assert_code(wire_commit(c, k), KERR_NONE); /* PreparingRebalance: consumers do so */
    assert_code(member_join(&m)->error_code, KERR_NONE);
    assert_code(member_joined(&b, waits)->error_code, KERR_NONE);
    assert_code(wire_commit(c, k), KERR_REBALANCE_IN_PROGRESS); /* CompletingRebalance */
    wire_close(other);
}

static void a_fenced_static_member_commits_no_more(void **state)
{
    struct wire_client *c = client_of(state);
    struct member m = member_of(c, "fenced");
    m.instance = "i";
    member_become_stable(&m);
    struct member again = member_of(c, "fenced");
    again.instance = "i";
    assert_code(member_join(&again)->error_code, KERR_NONE);
    for (int16_t v = 7; v <= 9; v++) {
        struct commit k = {.version = v, .group = "fenced", .topic = "t", .offset = 5};
        k.member = &m;
        assert_code(wire_commit(c, k), KERR_FENCED_INSTANCE_ID);
        k.member = &again;
        assert_code(wire_commit(c, k), KERR_NONE);
    }
}

/* ---- deleting */

static const struct offset_delete_response *delete_offsets(struct wire_client *c, const char *group,
                                                           const char *topic)
{
    struct offset_delete_request *q = NEW(c, offset_delete_request);
    q->group_id = str_of(group);
    q->topics = NEW(c, offset_delete_request_topic);
    q->topics_count = 1;
    q->topics->name = str_of(topic);
    q->topics->partitions = NEWS(c, offset_delete_request_partition, 2);
    q->topics->partitions_count = 2;
    q->topics->partitions[1].partition_index = 99;
    return wire_ask(c, API_OFFSET_DELETE, 0, q);
}

static void offsets_are_deleted_of_groups_that_do_not_read_the_topic(void **state)
{
    struct wire_client *c = client_of(state);
    assert_code(delete_offsets(c, "no-such-group", "t")->error_code, KERR_GROUP_ID_NOT_FOUND);
    assert_code(wire_commit(c, (struct commit){.group = "deleting", .topic = "t", .offset = 5}),
                KERR_NONE);
    assert_code(
        wire_commit(
            c, (struct commit){.group = "deleting", .topic = "t", .partition = 1, .offset = 6}),
        KERR_NONE);
    const struct offset_delete_response *a = delete_offsets(c, "deleting", "t");
    assert_code(a->error_code, KERR_NONE);
    assert_int_equal(a->topics->partitions_count, 2);
    assert_code(a->topics->partitions[0].error_code, KERR_NONE);
    assert_code(a->topics->partitions[1].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    assert_int_equal(wire_committed(c, "deleting", "t", 0), -1);
    assert_int_equal(wire_committed(c, "deleting", "t", 1), 6);
    /* members that are subscribed: version 0, the topics, no user data */
    static const char subscription[] = "\0\0\0\0\0\1\0\1t\xff\xff\xff\xff";
    struct member m = member_of(c, "deleting-busy");
    struct join_group_request *q = NEW(c, join_group_request);
    member_get_id(&m);
    q->group_id = str_of(m.group);
    q->session_timeout_ms = q->rebalance_timeout_ms = 60000;
    q->member_id = m.id;
    q->protocol_type = STR("consumer");
    q->protocols = NEW(c, join_group_request_protocol);
    q->protocols_count = 1;
    q->protocols->name = STR("range");
    q->protocols->metadata = (struct bytes){(const uint8_t *)subscription, sizeof subscription - 1};
    const struct join_group_response *j = wire_ask(c, API_JOIN_GROUP, 9, q);
    assert_code(j->error_code, KERR_NONE);
    m.generation = j->generation_id;
    const struct assignment all[] = {
        {m.id, "all"},
        {{0},  NULL }
    };
    assert_code(member_sync(&m, all)->error_code, KERR_NONE);
    struct commit k = {.group = m.group, .topic = "t", .offset = 5, .member = &m};
    assert_code(wire_commit(c, k), KERR_NONE);
    k.topic = "u";
    assert_code(wire_commit(c, k), KERR_NONE);
    a = delete_offsets(c, m.group, "t");
    assert_code(a->error_code, KERR_NONE);
    assert_code(a->topics->partitions[0].error_code, KERR_GROUP_SUBSCRIBED_TO_TOPIC);
    a = delete_offsets(c, m.group, "u");
    assert_code(a->topics->partitions[0].error_code, KERR_NONE);
    assert_int_equal(wire_committed(c, m.group, "t", 0), 5);
    assert_int_equal(wire_committed(c, m.group, "u", 0), -1);
}

/* Topics that the answer has; the removal is under way when the deletion is answered. */
static int32_t stored_topics(struct wire_client *c, struct offset_fetch_request *q)
{
    const struct offset_fetch_response *a = wire_ask(c, API_OFFSET_FETCH, 7, q);
    for (int i = 0; i < 1000 && a->topics_count > 0; i++) {
        a = wire_ask(c, API_OFFSET_FETCH, 7, q);
    }
    assert_code(a->error_code, KERR_NONE);
    return a->topics_count;
}

static void a_topic_that_is_made_again_has_no_offsets_of_the_old_one(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "made-again", 1);
    assert_code(
        wire_commit(c, (struct commit){.group = "old", .topic = "made-again", .offset = 500}),
        KERR_NONE);
    struct delete_topics_request *q = NEW(c, delete_topics_request);
    q->topics = NEW(c, delete_topics_request_topic);
    q->topics_count = 1;
    q->topics->name = STR("made-again");
    const struct delete_topics_response *a = wire_ask(c, API_DELETE_TOPICS, 6, q);
    assert_code(a->responses->error_code, KERR_NONE);
    struct offset_fetch_request *all = NEW(c, offset_fetch_request);
    all->group_id = STR("old");
    all->topics_count = -1;
    assert_int_equal(stored_topics(c, all), 0); /* they are gone, and not only not shown */
    TOPIC(c, "made-again", 1);
    assert_int_equal(wire_committed(c, "old", "made-again", 0), -1);
}

/* ---- the broker goes and comes back */

static void a_committed_offset_is_never_forgotten_and_never_goes_back(void **state)
{
    struct daemon *d = daemon_of(state);
    for (int round = 0; round < 6; round++) {
        struct wire_client *c = wire_connect(d);
        for (int32_t i = 0; i < 5; i++) {
            struct str group = wire_text(c, "durable-%d", i);
            if (round) {
                const struct offset_fetch_response_group_topic_partition *p =
                    wire_committed_whole(c, group.ptr, "t", i % 4);
                assert_int_equal(p->committed_offset, 10 * (round - 1) + i);
                assert_int_equal(p->committed_leader_epoch, 3);
                assert_str(p->metadata, "text");
            }
            assert_code(wire_commit(c, (struct commit){.group = group.ptr,
                                                       .topic = "t",
                                                       .partition = i % 4,
                                                       .offset = 10 * round + i,
                                                       .leader_epoch = 3,
                                                       .metadata = "text"}),
                        KERR_NONE);
        }
        wire_close(c);
        if (round % 2) {
            daemon_restart(d);
        } else {
            daemon_kill(d); /* straight after the answer */
            daemon_start(d);
        }
    }
}

static void deletions_survive_too(void **state)
{
    struct daemon *d = daemon_of(state);
    struct wire_client *c = client_of(state);
    assert_code(wire_commit(c, (struct commit){.group = "deleted", .topic = "t", .offset = 5}),
                KERR_NONE);
    assert_code(delete_offsets(c, "deleted", "t")->error_code, KERR_NONE);
    daemon_kill(d);
    daemon_start(d);
    c = wire_connect(d);
    assert_int_equal(wire_committed(c, "deleted", "t", 0), -1);
    wire_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        wire_test(an_offset_is_kept_with_all_that_came_with_it_in_every_version),
        wire_test(metadata_may_be_null_or_empty_and_no_longer_than_the_limit),
        wire_test(what_was_never_committed_is_minus_one_without_an_error),
        wire_test(all_that_is_stored_is_asked_for_by_null),
        wire_test(version_10_speaks_in_topic_ids),
        wire_test(commits_for_what_is_not_there_are_refused_one_by_one),
        wire_test(only_members_of_this_generation_commit_to_a_group_that_has_any),
        wire_test(an_unknown_group_is_not_found_from_version_9_on),
        wire_test(commits_are_taken_before_a_rejoin_and_refused_before_the_assignment),
        wire_test(a_fenced_static_member_commits_no_more),
        wire_test(offsets_are_deleted_of_groups_that_do_not_read_the_topic),
        wire_test(a_topic_that_is_made_again_has_no_offsets_of_the_old_one),
        wire_test(a_committed_offset_is_never_forgotten_and_never_goes_back),
        wire_test(deletions_survive_too),
    };
    return cmocka_run_group_tests(tests, setup, wire_fixture_destroy);
}

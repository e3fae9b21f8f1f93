/* CreatePartitions: what is made, what is refused, and that it is there when that is answered. */
#include "gen/create_partitions.h"
#include "tests/kit/wire_group.h"
#include "tests/kit/wire_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int setup(void **state)
{
    return wire_fixture_create(state, (const char *const[]){"rivulet.partitions.max=2000", NULL});
}

static struct create_partitions_request *addition(struct wire_client *c, const char *name,
                                                  int32_t count)
{
    struct create_partitions_request *q = NEW(c, create_partitions_request);
    q->timeout_ms = 60000;
    q->topics = NEW(c, create_partitions_request_topic);
    q->topics_count = 1;
    q->topics->name = str_of(name);
    q->topics->count = count;
    q->topics->assignments_count = -1;
    return q;
}

static const struct create_partitions_response_result *add(
    struct wire_client *c, int16_t version, const struct create_partitions_request *q)
{
    const struct create_partitions_response *a = wire_ask(c, API_CREATE_PARTITIONS, version, q);
    assert_int_equal(a->results_count, 1);
    assert_true(str_eq(a->results->name, q->topics->name));
    return a->results;
}

static int32_t count_of(struct wire_client *c, const char *name)
{
    const struct metadata_response_topic *t = wire_topic_info(c, name);
    assert_code(t->error_code, KERR_NONE);
    return t->partitions_count;
}

/* Refused in every version, with these words, and nothing has changed. */
static void expect_refused(struct wire_client *c, const struct create_partitions_request *q,
                           int16_t code, const char *text)
{
    each_version(v, API_CREATE_PARTITIONS)
    {
        const struct create_partitions_response_result *r = add(c, v, q);
        assert_code(r->error_code, code);
        if (text) {
            assert_str(r->error_message, text);
        }
    }
}

static void partitions_that_were_added_can_be_used_at_once(void **state)
{
    struct wire_client *c = client_of(state);
    each_version(v, API_CREATE_PARTITIONS)
    {
        struct str name = wire_text(c, "more-%d", v);
        struct uuid id = TOPIC(c, name.ptr, 2, "retention.ms=12345");
        wire_put_good(c, name.ptr, BATCH(c, .count = 3));
        const struct create_partitions_response_result *r = add(c, v, addition(c, name.ptr, 5));
        assert_code(r->error_code, KERR_NONE);
        assert_null(r->error_message.ptr);
        const struct metadata_response_topic *m = wire_topic_info(c, name.ptr);
        assert_int_equal(m->partitions_count, 5);
        assert_true(uuid_eq(m->topic_id, id));
        for (int32_t p = 0; p < 5; p++) {
            assert_int_equal(m->partitions[p].partition_index, p);
            assert_int_equal(m->partitions[p].leader_id, 1);
            const struct produce_response_partition *a = wire_produce(
                c, (struct wire_produce){
                       .acks = -1, .topic = name.ptr, .partition = p, .records = BATCH(c, 0)});
            assert_code(a->error_code, KERR_NONE);
            assert_int_equal(a->base_offset, p == 0 ? 3 : 0);
        }
    }
}

static void validate_only_adds_nothing(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "validated", 2);
    each_version(v, API_CREATE_PARTITIONS)
    {
        struct create_partitions_request *q = addition(c, "validated", 4);
        q->validate_only = true;
        assert_code(add(c, v, q)->error_code, KERR_NONE);
        assert_int_equal(count_of(c, "validated"), 2);
        q->topics->count = 2;
        assert_code(add(c, v, q)->error_code, KERR_INVALID_PARTITIONS);
    }
}

static void a_count_that_is_no_increase_is_refused_in_kafkas_words(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "grown", 3);
    expect_refused(c, addition(c, "grown", 3), KERR_INVALID_PARTITIONS,
                   "Topic already has 3 partition(s).");
    expect_refused(c, addition(c, "grown", 2), KERR_INVALID_PARTITIONS,
                   "The topic grown currently has 3 partition(s); 2 would not be an increase.");
    expect_refused(c, addition(c, "grown", 0), KERR_INVALID_PARTITIONS, NULL);
    expect_refused(c, addition(c, "grown", -1), KERR_INVALID_PARTITIONS,
                   "The topic grown currently has 3 partition(s); -1 would not be an increase.");
    expect_refused(c, addition(c, "grown", 2001), KERR_POLICY_VIOLATION,
                   "rivulet.partitions.max=2000 would be passed");
    expect_refused(c, addition(c, "grown", INT32_MAX), KERR_POLICY_VIOLATION, NULL);
    assert_int_equal(count_of(c, "grown"), 3);
}

static void unknown_and_internal_topics_are_refused(void **state)
{
    struct wire_client *c = client_of(state);
    expect_refused(c, addition(c, "nobody-made-it", 3), KERR_UNKNOWN_TOPIC_OR_PARTITION, NULL);
    TOPIC(c, "committed", 1);
    assert_code(wire_commit(c, (struct commit){.group = "g", .topic = "committed", .offset = 0}),
                KERR_NONE); /* which makes __consumer_offsets */
    int32_t before = count_of(c, "__consumer_offsets");
    expect_refused(c, addition(c, "__consumer_offsets", before + 1), KERR_INVALID_TOPIC_EXCEPTION,
                   "the partitions of internal topics are the broker's");
    assert_int_equal(count_of(c, "__consumer_offsets"), before);
}

static void assign(struct wire_client *c, struct create_partitions_request *q, int32_t partitions,
                   int32_t brokers, int32_t broker)
{
    q->topics->assignments = NEWS(c, create_partitions_request_assignment, partitions);
    q->topics->assignments_count = partitions;
    for (int32_t i = 0; i < partitions; i++) {
        q->topics->assignments[i].broker_ids = wire_room(c, (size_t)brokers, sizeof broker);
        q->topics->assignments[i].broker_ids_count = brokers;
        for (int32_t k = 0; k < brokers; k++) {
            q->topics->assignments[i].broker_ids[k] = broker;
        }
    }
}

static void assignments_must_be_what_one_broker_can_do(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "assigned", 1);
    struct create_partitions_request *q = addition(c, "assigned", 3);
    assign(c, q, 1, 1, 1);
    expect_refused(c, q, KERR_INVALID_REPLICA_ASSIGNMENT,
                   "Attempted to add 2 additional partition(s), but only 1 assignment(s) were "
                   "specified.");
    assign(c, q, 3, 1, 1);
    expect_refused(c, q, KERR_INVALID_REPLICA_ASSIGNMENT, NULL);
    assign(c, q, 0, 1, 1); /* empty is not null */
    expect_refused(c, q, KERR_INVALID_REPLICA_ASSIGNMENT, NULL);
    assign(c, q, 2, 1, 2);
    expect_refused(c, q, KERR_INVALID_REPLICA_ASSIGNMENT,
                   "partition 1 must be assigned to broker 1 alone");
    assign(c, q, 2, 2, 1);
    expect_refused(c, q, KERR_INVALID_REPLICA_ASSIGNMENT, NULL);
    assign(c, q, 2, 0, 1);
    expect_refused(c, q, KERR_INVALID_REPLICA_ASSIGNMENT, NULL);
    assert_int_equal(count_of(c, "assigned"), 1);
    assign(c, q, 2, 1, 1);
    assert_code(add(c, 3, q)->error_code, KERR_NONE);
    assert_int_equal(count_of(c, "assigned"), 3);
}

static void each_topic_of_a_request_has_its_own_result_and_repeated_ones_are_refused(void **state)
{
    struct wire_client *c = client_of(state);
    static const char *const names[] = {"many-a", "many-b", "many-a", "many-none", "many-a"};
    TOPIC(c, "many-a", 1);
    TOPIC(c, "many-b", 1);
    struct create_partitions_request *q = addition(c, "", 2);
    q->topics = NEWS(c, create_partitions_request_topic, 5);
    q->topics_count = 5;
    for (int i = 0; i < 5; i++) {
        q->topics[i].name = str_of(names[i]);
        q->topics[i].count = 2 + i;
        q->topics[i].assignments_count = -1;
    }
    const struct create_partitions_response *a = wire_ask(c, API_CREATE_PARTITIONS, 3, q);
    assert_int_equal(a->results_count, 3);
    assert_str(a->results[0].name, "many-a");
    assert_code(a->results[0].error_code, KERR_INVALID_REQUEST);
    assert_str(a->results[0].error_message, "Duplicate topic name.");
    assert_str(a->results[1].name, "many-b");
    assert_code(a->results[1].error_code, KERR_NONE);
    assert_str(a->results[2].name, "many-none");
    assert_code(a->results[2].error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    assert_int_equal(count_of(c, "many-a"), 1);
    assert_int_equal(count_of(c, "many-b"), 3);
    q->topics_count = 0;
    assert_int_equal(
        ((const struct create_partitions_response *)wire_ask(c, API_CREATE_PARTITIONS, 3, q))
            ->results_count,
        0);
}

/* Two at once, and a deletion behind them: each is answered by what the one before left. */
static void requests_at_once_are_answered_one_after_the_other(void **state)
{
    struct wire_client *c = client_of(state);
    struct wire_client *d = wire_connect(daemon_of(state));
    for (int round = 0; round < 5; round++) {
        struct str name = wire_text(c, "race-%d", round);
        TOPIC(c, name.ptr, 1);
        int32_t one = wire_request(c, API_CREATE_PARTITIONS, 3, addition(c, name.ptr, 9));
        int32_t two = wire_request(d, API_CREATE_PARTITIONS, 3, addition(d, name.ptr, 7));
        const struct create_partitions_response *a = wire_answer(c, API_CREATE_PARTITIONS, 3, one);
        const struct create_partitions_response *b = wire_answer(d, API_CREATE_PARTITIONS, 3, two);
        assert_code(a->results->error_code, KERR_NONE); /* 9 is more than either */
        assert_true(b->results->error_code == KERR_NONE ||
                    b->results->error_code == KERR_INVALID_PARTITIONS);
        assert_int_equal(count_of(c, name.ptr), 9);
    }
    wire_close(d);
}

/* A fetch that waits on an old partition goes on waiting, and is woken by the next record. */
static void a_parked_fetch_does_not_notice(void **state)
{
    struct wire_client *c = client_of(state);
    struct wire_client *reader = wire_connect(daemon_of(state));
    TOPIC(c, "parked", 1);
    const struct wire_fetch f = {
        .topic = "parked", .min_bytes = 1, .max_wait_ms = 60000, .version = 12};
    int32_t id = wire_request(reader, API_FETCH, 12, wire_fetch_request(reader, &f));
    assert_code(add(c, 3, addition(c, "parked", 4))->error_code, KERR_NONE);
    wire_put_good(c, "parked", BATCH(c, .count = 2));
    const struct fetch_response *a = wire_answer(reader, API_FETCH, 12, id);
    assert_code(a->topics->partitions->error_code, KERR_NONE);
    assert_int_equal(wire_parse(reader, a->topics->partitions->records).count, 2);
    wire_close(reader);
}

static void added_partitions_outlive_a_kill(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "killed", 1);
    assert_code(add(c, 3, addition(c, "killed", 7))->error_code, KERR_NONE);
    const struct produce_response_partition *p = wire_produce(
        c, (struct wire_produce){
               .acks = -1, .topic = "killed", .partition = 6, .records = BATCH(c, .count = 2)});
    assert_code(p->error_code, KERR_NONE);
    daemon_kill(daemon_of(state));
    daemon_start(daemon_of(state));
    struct wire_client *again = wire_connect(daemon_of(state));
    assert_int_equal(count_of(again, "killed"), 7);
    assert_int_equal(wire_end_offset(again, "killed", 6), 2);
    assert_int_equal(wire_end_offset(again, "killed", 5), 0);
    wire_close(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        wire_test(partitions_that_were_added_can_be_used_at_once),
        wire_test(validate_only_adds_nothing),
        wire_test(a_count_that_is_no_increase_is_refused_in_kafkas_words),
        wire_test(unknown_and_internal_topics_are_refused),
        wire_test(assignments_must_be_what_one_broker_can_do),
        wire_test(each_topic_of_a_request_has_its_own_result_and_repeated_ones_are_refused),
        wire_test(requests_at_once_are_answered_one_after_the_other),
        wire_test(a_parked_fetch_does_not_notice),
        wire_test(added_partitions_outlive_a_kill),
    };
    return cmocka_run_group_tests(tests, setup, wire_fixture_destroy);
}

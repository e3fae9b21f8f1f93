/* CreateTopics and DeleteTopics: what is made, what is refused, and that it is there, or gone, when
 * that is answered. */
#include "gen/create_topics.h"
#include "gen/delete_topics.h"
#include "tests/kit/wire_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int setup(void **state)
{
    return wire_fixture_create(
        state, (const char *const[]){"num.partitions=4", "rivulet.partitions.max=600", NULL});
}

static struct create_topics_request *creation(struct wire_client *c, const char *name,
                                              int32_t partitions)
{
    struct create_topics_request *q = NEW(c, create_topics_request);
    q->topics = NEW(c, create_topics_request_topic);
    q->topics_count = 1;
    q->topics->name = str_of(name);
    q->topics->num_partitions = partitions;
    q->topics->replication_factor = 1;
    return q;
}

static const struct create_topics_response_topic *create(struct wire_client *c, int16_t version,
                                                         const struct create_topics_request *q)
{
    const struct create_topics_response *a = wire_ask(c, API_CREATE_TOPICS, version, q);
    assert_int_equal(a->topics_count, 1);
    assert_true(str_eq(a->topics->name, q->topics->name));
    return a->topics;
}

/* Refused, with a text, and nothing is there afterwards. */
static void expect_refused(struct wire_client *c, const struct create_topics_request *q,
                           int16_t code)
{
    each_version(v, API_CREATE_TOPICS)
    {
        const struct create_topics_response_topic *t = create(c, v, q);
        assert_code(t->error_code, code);
        assert_true(t->error_message.len > 0);
        assert_true(uuid_is_zero(t->topic_id));
    }
}

static void set_config(struct wire_client *c, struct create_topics_request *q, const char *name,
                       const char *value)
{
    q->topics->configs = NEW(c, create_topics_request_config);
    q->topics->configs_count = 1;
    q->topics->configs->name = str_of(name);
    q->topics->configs->value = str_of(value);
}

static const struct delete_topics_response_response *delete_one(struct wire_client *c,
                                                                int16_t version, const char *name,
                                                                struct uuid id)
{
    struct delete_topics_request *q = NEW(c, delete_topics_request);
    struct str names[] = {str_of(name)};
    q->timeout_ms = 60000;
    if (version < 6) {
        q->topic_names = names;
        q->topic_names_count = 1;
    } else {
        q->topics = NEW(c, delete_topics_request_topic);
        q->topics_count = 1;
        q->topics->name = str_of(name);
        q->topics->topic_id = id;
    }
    const struct delete_topics_response *a = wire_ask(c, API_DELETE_TOPICS, version, q);
    assert_int_equal(a->responses_count, 1);
    return a->responses;
}

/* ---- making */

static void a_topic_that_was_made_can_be_used_at_once(void **state)
{
    struct wire_client *c = client_of(state);
    each_version(v, API_CREATE_TOPICS)
    {
        struct str name = wire_text(c, "made-%d", v);
        const struct create_topics_response_topic *t = create(c, v, creation(c, name.ptr, 2));
        assert_code(t->error_code, KERR_NONE);
        assert_null(t->error_message.ptr);
        const struct metadata_response_topic *m = wire_topic_info(c, name.ptr);
        assert_code(m->error_code, KERR_NONE);
        assert_int_equal(m->partitions_count, 2);
        assert_false(uuid_is_zero(m->topic_id));
        for (int32_t p = 0; p < 2; p++) {
            const struct produce_response_partition *a = wire_produce(
                c, (struct wire_produce){
                       .acks = -1, .topic = name.ptr, .partition = p, .records = BATCH(c, 0)});
            assert_code(a->error_code, KERR_NONE);
            assert_int_equal(a->base_offset, 0);
        }
        if (v >= 7) {
            assert_true(uuid_eq(t->topic_id, m->topic_id));
            char text[UUID_TEXT_SIZE];
            uuid_to_text(t->topic_id, text);
            assert_int_not_equal(text[0], '-'); /* as Kafka's: tools take it for an option */
        }
    }
}

static void minus_one_is_the_brokers_default(void **state)
{
    struct wire_client *c = client_of(state);
    for (int16_t v = 4; v <= version_max(API_CREATE_TOPICS); v++) {
        struct str name = wire_text(c, "defaults-%d", v);
        struct create_topics_request *q = creation(c, name.ptr, -1);
        q->topics->replication_factor = -1;
        const struct create_topics_response_topic *t = create(c, v, q);
        assert_code(t->error_code, KERR_NONE);
        assert_int_equal(wire_topic_info(c, name.ptr)->partitions_count, 4);
        if (v >= 5) {
            assert_int_equal(t->num_partitions, 4);
            assert_int_equal(t->replication_factor, 1);
        }
    }
}

static const struct create_topics_response_config *config_of(
    const struct create_topics_response_topic *t, const char *name)
{
    for (int32_t i = 0; i < t->configs_count; i++) {
        if (str_eq(t->configs[i].name, str_of(name))) {
            return &t->configs[i];
        }
    }
    fail_msg("there is no setting %s in the answer", name);
    return NULL;
}

static void the_answer_tells_the_settings_that_count_and_whose_they_are(void **state)
{
    struct wire_client *c = client_of(state);
    for (int16_t v = 5; v <= version_max(API_CREATE_TOPICS); v++) {
        for (int only = 0; only < 2; only++) {
            struct str name = wire_text(c, "settings-%d", v);
            struct create_topics_request *q = creation(c, name.ptr, 1);
            set_config(c, q, "retention.ms", "12345");
            q->validate_only = only == 0;
            const struct create_topics_response_topic *t = create(c, v, q);
            assert_code(t->error_code, KERR_NONE);
            assert_code(t->topic_config_error_code, KERR_NONE);
            assert_true(t->configs_count > 20);
            const struct create_topics_response_config *own = config_of(t, "retention.ms");
            assert_str(own->value, "12345");
            assert_int_equal(own->config_source, 1); /* the topic's */
            assert_false(own->read_only);
            const struct create_topics_response_config *other = config_of(t, "cleanup.policy");
            assert_str(other->value, "delete");
            assert_int_equal(other->config_source, 5); /* the default */
        }
    }
}

static void validate_only_makes_nothing(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "validated-there", 1);
    each_version(v, API_CREATE_TOPICS)
    {
        struct create_topics_request *q = creation(c, "validated", 2);
        q->validate_only = true;
        assert_code(create(c, v, q)->error_code, KERR_NONE);
        assert_code(wire_topic_info(c, "validated")->error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
        q->topics->name = STR("validated-there");
        assert_code(create(c, v, q)->error_code, KERR_TOPIC_ALREADY_EXISTS);
        q->topics->name = STR("validated");
        q->topics->replication_factor = 2;
        assert_code(create(c, v, q)->error_code, KERR_INVALID_REPLICATION_FACTOR);
    }
}

static void names_are_checked(void **state)
{
    struct wire_client *c = client_of(state);
    char long_name[251];
    memset(long_name, 'n', sizeof long_name);
    long_name[250] = 0;
    const char *const names[] = {"",     ".",    "..",       "a b",    "a/b",
                                 "../a", "a\nb", "\xc3\xa4", long_name};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        expect_refused(c, creation(c, names[i], 1), KERR_INVALID_TOPIC_EXCEPTION);
    }
    TOPIC(c, "under_score.dot", 1);
    expect_refused(c, creation(c, "under.score_dot", 1), KERR_INVALID_TOPIC_EXCEPTION);
    expect_refused(c, creation(c, "under_score_dot", 1), KERR_INVALID_TOPIC_EXCEPTION);
    expect_refused(c, creation(c, "under_score.dot", 1), KERR_TOPIC_ALREADY_EXISTS);
    assert_code(create(c, 7, creation(c, "...", 1))->error_code, KERR_NONE);
    assert_code(create(c, 7, creation(c, "-a_Z.9", 1))->error_code, KERR_NONE);
}

static void counts_and_factors_are_checked(void **state)
{
    struct wire_client *c = client_of(state);
    static const int32_t partitions[] = {0, -2, INT32_MIN};
    static const int16_t factors[] = {0, 2, -2, INT16_MAX};
    for (size_t i = 0; i < sizeof partitions / sizeof *partitions; i++) {
        expect_refused(c, creation(c, "counts", partitions[i]), KERR_INVALID_PARTITIONS);
    }
    for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
        struct create_topics_request *q = creation(c, "counts", 1);
        q->topics->replication_factor = factors[i];
        expect_refused(c, q, KERR_INVALID_REPLICATION_FACTOR);
    }
    /* a limit of ours: refused before anything is made */
    expect_refused(c, creation(c, "counts", 601), KERR_POLICY_VIOLATION);
    expect_refused(c, creation(c, "counts", INT32_MAX), KERR_POLICY_VIOLATION);
    assert_code(wire_topic_info(c, "counts")->error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
}

static void settings_are_checked(void **state)
{
    struct wire_client *c = client_of(state);
    static const char *const bad[][2] = {
        {"no.such.setting",        "1"          },
        {"retention.ms",           "-2"         },
        {"retention.ms",           "soon"       },
        {"retention.ms",           ""           },
        {"segment.bytes",          "1024"       }, /* Kafka 4: one MiB at least */
        {"cleanup.policy",         "burn"       },
        {"compression.type",       "rar"        },
        {"message.timestamp.type", "create"     },
        {"preallocate",            "maybe"      },
        {"max.message.bytes",      "99999999999"},
        {"retention.ms",           NULL         },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct create_topics_request *q = creation(c, "bad-settings", 1);
        set_config(c, q, bad[i][0], bad[i][1]);
        print_message("%s=%s\n", bad[i][0], bad[i][1]);
        expect_refused(c, q, KERR_INVALID_CONFIG);
    }
    assert_code(wire_topic_info(c, "bad-settings")->error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    static const char *const good[][2] = {
        {"retention.ms",           "-1"           },
        {"retention.bytes",        "-1"           },
        {"segment.bytes",          "1048576"      },
        {"message.timestamp.type", "LogAppendTime"},
        {"compression.type",       "zstd"         },
        {"min.insync.replicas",    "2"            },
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct create_topics_request *q = creation(c, wire_text(c, "good-settings-%zu", i).ptr, 1);
        set_config(c, q, good[i][0], good[i][1]);
        const struct create_topics_response_topic *t = create(c, 7, q);
        assert_code(t->error_code, KERR_NONE);
        assert_str(config_of(t, good[i][0])->value, good[i][1]);
    }
}

static void assignments_must_be_what_one_broker_can_do(void **state)
{
    struct wire_client *c = client_of(state);
    static const struct {
        const char *what;
        int32_t count;
        int32_t index[3], broker[3];
        int32_t partitions;
        int16_t factor, code;
    } cases[] = {
        {"good",            3, {0, 1, 2}, {1, 1, 1}, -1, -1, KERR_NONE                      },
        {"any order",       3, {2, 0, 1}, {1, 1, 1}, -1, -1, KERR_NONE                      },
        {"with partitions", 2, {0, 1},    {1, 1},    2,  -1, KERR_INVALID_REQUEST           },
        {"with factor",     2, {0, 1},    {1, 1},    -1, 1,  KERR_INVALID_REQUEST           },
        {"a gap",           2, {0, 2},    {1, 1},    -1, -1, KERR_INVALID_REPLICA_ASSIGNMENT},
        {"twice",           2, {0, 0},    {1, 1},    -1, -1, KERR_INVALID_REPLICA_ASSIGNMENT},
        {"negative",        1, {-1},      {1},       -1, -1, KERR_INVALID_REPLICA_ASSIGNMENT},
        {"unknown broker",  1, {0},       {2},       -1, -1, KERR_INVALID_REPLICA_ASSIGNMENT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct create_topics_request *q =
            creation(c, wire_text(c, "assigned-%zu", i).ptr, cases[i].partitions);
        q->topics->replication_factor = cases[i].factor;
        q->topics->assignments = NEWS(c, create_topics_request_assignment, cases[i].count);
        q->topics->assignments_count = cases[i].count;
        for (int32_t k = 0; k < cases[i].count; k++) {
            q->topics->assignments[k].partition_index = cases[i].index[k];
            q->topics->assignments[k].broker_ids = (int32_t *)(uintptr_t)&cases[i].broker[k];
            q->topics->assignments[k].broker_ids_count = 1;
        }
        print_message("%s\n", cases[i].what);
        assert_code(create(c, 7, q)->error_code, cases[i].code);
        if (!cases[i].code) {
            assert_int_equal(
                wire_topic_info(c, wire_text(c, "assigned-%zu", i).ptr)->partitions_count, 3);
        }
    }
    struct create_topics_request *q = creation(c, "assigned-none", -1);
    q->topics->replication_factor = -1;
    q->topics->assignments = NEW(c, create_topics_request_assignment);
    q->topics->assignments_count = 1; /* of no broker */
    assert_code(create(c, 7, q)->error_code, KERR_INVALID_REPLICA_ASSIGNMENT);
}

static void a_topic_twice_in_one_request_is_refused_once_and_others_are_made(void **state)
{
    struct wire_client *c = client_of(state);
    each_version(v, API_CREATE_TOPICS)
    {
        struct create_topics_request *q = NEW(c, create_topics_request);
        struct str single = wire_text(c, "single-%d", v);
        q->topics = NEWS(c, create_topics_request_topic, 4);
        q->topics_count = 4;
        for (int i = 0; i < 4; i++) {
            q->topics[i].name = i == 1 ? single : STR("double");
            q->topics[i].num_partitions = 1;
            q->topics[i].replication_factor = 1;
        }
        const struct create_topics_response *a = wire_ask(c, API_CREATE_TOPICS, v, q);
        assert_int_equal(a->topics_count, 2);
        for (int i = 0; i < 2; i++) {
            bool twice = str_eq(a->topics[i].name, STR("double"));
            assert_code(a->topics[i].error_code, twice ? KERR_INVALID_REQUEST : KERR_NONE);
        }
        assert_code(wire_topic_info(c, "double")->error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
        assert_code(wire_topic_info(c, single.ptr)->error_code, KERR_NONE);
    }
}

/* ---- deleting */

static void a_deleted_topic_is_gone_when_that_is_answered(void **state)
{
    struct daemon *d = daemon_of(state);
    struct wire_client *c = client_of(state);
    each_version(v, API_DELETE_TOPICS)
    {
        struct str name = wire_text(c, "deleted-%d", v);
        struct uuid id = TOPIC(c, name.ptr, 2);
        wire_put_good(c, name.ptr, BATCH(c, 0));
        const struct delete_topics_response_response *r =
            delete_one(c, v, name.ptr, (struct uuid){{0}});
        assert_code(r->error_code, KERR_NONE);
        assert_true(str_eq(r->name, name));
        assert_true(uuid_eq(r->topic_id, v >= 6 ? id : (struct uuid){{0}}));
        assert_code(wire_topic_info(c, name.ptr)->error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
        r = delete_one(c, v, name.ptr, (struct uuid){{0}});
        assert_code(r->error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    }
    daemon_kill(d);
    daemon_start(d);
    c = wire_connect(d);
    assert_code(wire_topic_info(c, "deleted-6")->error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    wire_close(c);
}

static void topics_are_deleted_by_id_too(void **state)
{
    struct wire_client *c = client_of(state);
    struct uuid id = TOPIC(c, "by-id", 1);
    const struct delete_topics_response_response *r = delete_one(c, 6, NULL, (struct uuid){{3}});
    assert_code(r->error_code, KERR_UNKNOWN_TOPIC_ID);
    assert_null(r->name.ptr);
    r = delete_one(c, 6, "by-id", id); /* which of them? */
    assert_code(r->error_code, KERR_INVALID_REQUEST);
    r = delete_one(c, 6, NULL, (struct uuid){{0}}); /* neither */
    assert_code(r->error_code, KERR_INVALID_REQUEST);
    assert_code(wire_topic_info(c, "by-id")->error_code, KERR_NONE);
    r = delete_one(c, 6, NULL, id);
    assert_code(r->error_code, KERR_NONE);
    assert_str(r->name, "by-id");
    assert_true(uuid_eq(r->topic_id, id));
    assert_code(wire_topic_info(c, "by-id")->error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
}

static void a_topic_may_be_made_again_at_once_and_is_another_one(void **state)
{
    struct daemon *d = daemon_of(state);
    struct wire_client *c = client_of(state);
    struct uuid last = {{0}};
    for (int i = 0; i < 20; i++) {
        struct uuid id = TOPIC(c, "again", 1 + i % 3);
        assert_false(uuid_eq(id, last));
        assert_int_equal(wire_topic_info(c, "again")->partitions_count, 1 + i % 3);
        assert_int_equal(wire_put_good(c, "again", BATCH(c, .count = 3)), 0); /* it is empty */
        assert_int_equal(wire_read(c, "again", 0, 0).count, 3);
        assert_code(delete_one(c, 6, "again", (struct uuid){{0}})->error_code, KERR_NONE);
        last = id;
    }
    last = TOPIC(c, "again", 2);
    wire_put_good(c, "again", BATCH(c, .count = 7));
    daemon_kill(d);
    daemon_start(d);
    c = wire_connect(d);
    assert_true(uuid_eq(wire_topic_info(c, "again")->topic_id, last));
    assert_int_equal(wire_read(c, "again", 0, 0).count, 7);
    wire_close(c);
}

static void a_topic_twice_in_one_deletion_is_refused_and_stays(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "twice", 1);
    each_version(v, API_DELETE_TOPICS)
    {
        struct delete_topics_request *q = NEW(c, delete_topics_request);
        struct str names[] = {STR("twice"), STR("twice")};
        q->timeout_ms = 60000;
        if (v < 6) {
            q->topic_names = names;
            q->topic_names_count = 2;
        } else {
            q->topics = NEWS(c, delete_topics_request_topic, 2);
            q->topics_count = 2;
            q->topics[0].name = q->topics[1].name = names[0];
        }
        const struct delete_topics_response *a = wire_ask(c, API_DELETE_TOPICS, v, q);
        assert_true(a->responses_count >= 1);
        for (int32_t i = 0; i < a->responses_count; i++) {
            assert_code(a->responses[i].error_code, KERR_INVALID_REQUEST);
        }
        assert_code(wire_topic_info(c, "twice")->error_code, KERR_NONE);
    }
}

static void deletion_can_be_switched_off(void **state)
{
    (void)state;
    struct daemon *d = DAEMON("delete.topic.enable=false");
    struct wire_client *c = wire_connect(d);
    TOPIC(c, "kept", 1);
    each_version(v, API_DELETE_TOPICS)
    {
        assert_code(delete_one(c, v, "kept", (struct uuid){{0}})->error_code,
                    v < 3 ? KERR_INVALID_REQUEST : KERR_TOPIC_DELETION_DISABLED);
    }
    assert_code(wire_topic_info(c, "kept")->error_code, KERR_NONE);
    wire_close(c);
    daemon_destroy(d);
}

/* ---- over restarts */

static void topics_settings_and_ids_survive_kill_9(void **state)
{
    struct daemon *d = daemon_of(state);
    struct wire_client *c = client_of(state);
    struct uuid id = TOPIC(c, "kept-settings", 3, "max.message.bytes=500");
    for (int round = 0; round < 2; round++) {
        if (round) {
            daemon_restart(d);
        } else {
            daemon_kill(d);
            daemon_start(d);
        }
        struct wire_client *after = wire_connect(d);
        const struct metadata_response_topic *t = wire_topic_info(after, "kept-settings");
        assert_int_equal(t->partitions_count, 3);
        assert_true(uuid_eq(t->topic_id, id));
        assert_code(wire_put(after, "kept-settings", BATCH(after, .value_size = 600))->error_code,
                    KERR_MESSAGE_TOO_LARGE);
        wire_close(after);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        wire_test(a_topic_that_was_made_can_be_used_at_once),
        wire_test(minus_one_is_the_brokers_default),
        wire_test(the_answer_tells_the_settings_that_count_and_whose_they_are),
        wire_test(validate_only_makes_nothing),
        wire_test(names_are_checked),
        wire_test(counts_and_factors_are_checked),
        wire_test(settings_are_checked),
        wire_test(assignments_must_be_what_one_broker_can_do),
        wire_test(a_topic_twice_in_one_request_is_refused_once_and_others_are_made),
        wire_test(a_deleted_topic_is_gone_when_that_is_answered),
        wire_test(topics_are_deleted_by_id_too),
        wire_test(a_topic_may_be_made_again_at_once_and_is_another_one),
        wire_test(a_topic_twice_in_one_deletion_is_refused_and_stays),
        wire_test(deletion_can_be_switched_off),
        wire_test(topics_settings_and_ids_survive_kill_9),
    };
    return cmocka_run_group_tests(tests, setup, wire_fixture_destroy);
}

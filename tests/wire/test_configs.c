/* DescribeConfigs, IncrementalAlterConfigs and AlterConfigs: settings, whose they are, and how they
 * change. */
#include "gen/alter_configs.h"
#include "gen/describe_configs.h"
#include "gen/incremental_alter_configs.h"
#include "tests/kit/wire_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum {
    RESOURCE_TOPIC = 2,
    RESOURCE_BROKER = 4,
    RESOURCE_LOGGER = 8,
    RESOURCE_METRICS = 16,
    RESOURCE_GROUP = 32,
    SOURCE_TOPIC = 1,
    SOURCE_BROKER = 4,
    SOURCE_DEFAULT = 5,
    SET = 0,
    DELETE = 1,
    APPEND = 2,
    SUBTRACT = 3,
};

static int setup(void **state)
{
    return wire_fixture_create(state, (const char *const[]){"log.retention.bytes=1000000", NULL});
}

/* ---- asking */

static struct describe_configs_request *question(struct wire_client *c, int8_t type,
                                                 const char *name)
{
    struct describe_configs_request *q = NEW(c, describe_configs_request);
    q->resources = NEW(c, describe_configs_request_resource);
    q->resources_count = 1;
    q->resources->resource_type = type;
    q->resources->resource_name = str_of(name);
    q->resources->configuration_keys_count = -1;
    return q;
}

static const struct describe_configs_response_result *describe(
    struct wire_client *c, int16_t version, const struct describe_configs_request *q)
{
    const struct describe_configs_response *a = wire_ask(c, API_DESCRIBE_CONFIGS, version, q);
    assert_int_equal(a->results_count, 1);
    assert_int_equal(a->results->resource_type, q->resources->resource_type);
    assert_true(str_eq(a->results->resource_name, q->resources->resource_name));
    return a->results;
}

static const struct describe_configs_response_config *config_of(
    const struct describe_configs_response_result *r, const char *name)
{
    for (int32_t i = 0; i < r->configs_count; i++) {
        if (str_eq(r->configs[i].name, str_of(name))) {
            return &r->configs[i];
        }
    }
    fail_msg("there is no setting %s in the answer", name);
    return NULL;
}

static void expect_setting(struct wire_client *c, const char *topic, const char *name,
                           const char *value, int8_t source)
{
    const struct describe_configs_response_result *r =
        describe(c, 4, question(c, RESOURCE_TOPIC, topic));
    assert_code(r->error_code, KERR_NONE);
    assert_str(config_of(r, name)->value, value);
    assert_int_equal(config_of(r, name)->config_source, source);
}

static void a_topics_settings_are_told_with_their_source_and_type(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "described", 1, "retention.ms=1000", "cleanup.policy=delete");
    static const struct {
        const char *name, *value;
        int8_t source, type;
    } expected[] = {
        {"retention.ms",                   "1000",       SOURCE_TOPIC,   5},
        {"cleanup.policy",                 "delete",     SOURCE_TOPIC,   7},
        {"retention.bytes",                "1000000",    SOURCE_BROKER,  5},
        {"segment.bytes",                  "1073741824", SOURCE_DEFAULT, 3},
        {"compression.type",               "producer",   SOURCE_DEFAULT, 2},
        {"preallocate",                    "false",      SOURCE_DEFAULT, 1},
        {"min.cleanable.dirty.ratio",      "0.5",        SOURCE_DEFAULT, 6},
        {"message.timestamp.after.max.ms", "3600000",    SOURCE_DEFAULT, 5},
        {"max.message.bytes",              "1048588",    SOURCE_DEFAULT, 3},
    };
    each_version(v, API_DESCRIBE_CONFIGS)
    {
        const struct describe_configs_response_result *r =
            describe(c, v, question(c, RESOURCE_TOPIC, "described"));
        assert_code(r->error_code, KERR_NONE);
        assert_null(r->error_message.ptr);
        for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
            const struct describe_configs_response_config *one = config_of(r, expected[i].name);
            assert_str(one->value, expected[i].value);
            assert_int_equal(one->config_source, expected[i].source);
            assert_int_equal(one->config_type, v >= 3 ? expected[i].type : 0);
            assert_false(one->read_only);
            assert_false(one->is_sensitive);
            assert_int_equal(one->synonyms_count, 0); /* not asked for */
            assert_int_equal(one->documentation.len, 0);
        }
    }
}

static void synonyms_and_documentation_come_when_asked_for(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "synonyms", 1, "retention.bytes=5");
    each_version(v, API_DESCRIBE_CONFIGS)
    {
        struct describe_configs_request *q = question(c, RESOURCE_TOPIC, "synonyms");
        q->include_synonyms = true;
        q->include_documentation = v >= 3;
        const struct describe_configs_response_config *one =
            config_of(describe(c, v, q), "retention.bytes");
        static const struct {
            const char *name, *value;
            int8_t source;
        } expected[] = {
            {"retention.bytes",     "5",       SOURCE_TOPIC  },
            {"log.retention.bytes", "1000000", SOURCE_BROKER },
            {"log.retention.bytes", "-1",      SOURCE_DEFAULT},
        };
        assert_int_equal(one->synonyms_count, 3);
        for (int i = 0; i < 3; i++) {
            assert_str(one->synonyms[i].name, expected[i].name);
            assert_str(one->synonyms[i].value, expected[i].value);
            assert_int_equal(one->synonyms[i].source, expected[i].source);
        }
        assert_int_equal(one->documentation.len > 0, v >= 3);
    }
}

static void single_settings_can_be_asked_for(void **state)
{
    struct wire_client *c = client_of(state);
    struct str keys[] = {STR("segment.bytes"), STR("no.such.setting"), STR("retention.ms")};
    TOPIC(c, "single", 1);
    each_version(v, API_DESCRIBE_CONFIGS)
    {
        struct describe_configs_request *q = question(c, RESOURCE_TOPIC, "single");
        q->resources->configuration_keys = keys;
        q->resources->configuration_keys_count = 3;
        const struct describe_configs_response_result *r = describe(c, v, q);
        assert_code(r->error_code, KERR_NONE);
        assert_int_equal(r->configs_count, 2);
        config_of(r, "segment.bytes");
        config_of(r, "retention.ms");
    }
}

static void the_brokers_settings_are_told_under_its_id(void **state)
{
    struct wire_client *c = client_of(state);
    each_version(v, API_DESCRIBE_CONFIGS)
    {
        const struct describe_configs_response_result *r =
            describe(c, v, question(c, RESOURCE_BROKER, "1"));
        assert_code(r->error_code, KERR_NONE);
        const struct describe_configs_response_config *given = config_of(r, "log.retention.bytes");
        assert_str(given->value, "1000000");
        assert_int_equal(given->config_source, SOURCE_BROKER);
        assert_true(given->read_only);
        assert_str(config_of(r, "num.partitions")->value, "1");
        assert_int_equal(config_of(r, "num.partitions")->config_source, SOURCE_DEFAULT);
        r = describe(c, v, question(c, RESOURCE_BROKER, "")); /* the cluster's: nothing is set */
        assert_code(r->error_code, KERR_NONE);
        assert_int_equal(r->configs_count, 0);
        r = describe(c, v, question(c, RESOURCE_BROKER, "2"));
        assert_code(r->error_code, KERR_INVALID_REQUEST);
        assert_true(r->error_message.len > 0);
        r = describe(c, v, question(c, RESOURCE_BROKER, "one"));
        assert_code(r->error_code, KERR_INVALID_REQUEST);
    }
}

static void what_is_not_there_is_refused_one_by_one(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "among-others", 1);
    static const struct {
        int8_t type;
        const char *name;
        int16_t code;
    } cases[] = {
        {RESOURCE_TOPIC,   "not-there",    KERR_UNKNOWN_TOPIC_OR_PARTITION},
        {RESOURCE_TOPIC,   "a b",          KERR_INVALID_TOPIC_EXCEPTION   },
        {RESOURCE_TOPIC,   "among-others", KERR_NONE                      },
        {RESOURCE_LOGGER,  "1",            KERR_NONE                      },
        {RESOURCE_METRICS, "m",            KERR_NONE                      },
        {RESOURCE_GROUP,   "g",            KERR_NONE                      },
        {0,                "x",            KERR_INVALID_REQUEST           },
        {99,               "x",            KERR_INVALID_REQUEST           },
    };
    enum { N = sizeof cases / sizeof *cases };
    each_version(v, API_DESCRIBE_CONFIGS)
    {
        struct describe_configs_request *q = NEW(c, describe_configs_request);
        q->resources = NEWS(c, describe_configs_request_resource, N);
        q->resources_count = N;
        for (int i = 0; i < N; i++) {
            q->resources[i].resource_type = cases[i].type;
            q->resources[i].resource_name = str_of(cases[i].name);
            q->resources[i].configuration_keys_count = -1;
        }
        const struct describe_configs_response *a = wire_ask(c, API_DESCRIBE_CONFIGS, v, q);
        assert_int_equal(a->results_count, N);
        for (int i = 0; i < N; i++) {
            assert_code(a->results[i].error_code, cases[i].code);
            assert_str(a->results[i].resource_name, cases[i].name);
        }
    }
}

/* ---- changing */

struct change {
    const char *name;
    const char *value;
    int8_t operation;
};

static struct incremental_alter_configs_request *changes(struct wire_client *c, const char *topic,
                                                         const struct change *list, int32_t count)
{
    struct incremental_alter_configs_request *q = NEW(c, incremental_alter_configs_request);
    q->resources = NEW(c, incremental_alter_configs_request_resource);
    q->resources_count = 1;
    q->resources->resource_type = RESOURCE_TOPIC;
    q->resources->resource_name = str_of(topic);
    q->resources->configs = NEWS(c, incremental_alter_configs_request_config, count);
    q->resources->configs_count = count;
    for (int32_t i = 0; i < count; i++) {
        q->resources->configs[i].name = str_of(list[i].name);
        q->resources->configs[i].value = str_of(list[i].value);
        q->resources->configs[i].config_operation = list[i].operation;
    }
    return q;
}

static int16_t alter(struct wire_client *c, int16_t version, const char *topic,
                     const struct change *list, int32_t count)
{
    const struct incremental_alter_configs_response *a =
        wire_ask(c, API_INCREMENTAL_ALTER_CONFIGS, version, changes(c, topic, list, count));
    assert_int_equal(a->responses_count, 1);
    assert_str(a->responses->resource_name, topic);
    assert_int_equal(a->responses->resource_type, RESOURCE_TOPIC);
    assert_int_equal(a->responses->error_message.ptr != NULL, a->responses->error_code != 0);
    return a->responses->error_code;
}

static int16_t alter_one(struct wire_client *c, int16_t version, const char *topic,
                         const char *name, const char *value, int8_t operation)
{
    return alter(c, version, topic, &(struct change){name, value, operation}, 1);
}

static void single_settings_are_set_and_deleted(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "single-changes", 1, "retention.ms=1000", "segment.ms=77");
    each_version(v, API_INCREMENTAL_ALTER_CONFIGS)
    {
        static const struct change two[] = {
            {"max.message.bytes", "5000", SET   },
            {"retention.ms",      NULL,   DELETE},
        };
        assert_code(alter(c, v, "single-changes", two, 2), KERR_NONE);
        expect_setting(c, "single-changes", "max.message.bytes", "5000", SOURCE_TOPIC);
        expect_setting(c, "single-changes", "retention.ms", "-1", SOURCE_DEFAULT);
        expect_setting(c, "single-changes", "segment.ms", "77", SOURCE_TOPIC); /* stays */
        assert_code(alter_one(c, v, "single-changes", "max.message.bytes", NULL, DELETE),
                    KERR_NONE);
        assert_code(alter_one(c, v, "single-changes", "max.message.bytes", "", DELETE), KERR_NONE);
        expect_setting(c, "single-changes", "max.message.bytes", "1048588", SOURCE_DEFAULT);
        assert_code(alter_one(c, v, "single-changes", "retention.ms", "1000", SET), KERR_NONE);
    }
}

static void a_change_counts_from_the_next_batch_on(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "counts", 1);
    wire_put_good(c, "counts", BATCH(c, .value_size = 2000));
    assert_code(alter_one(c, 1, "counts", "max.message.bytes", "1000", SET), KERR_NONE);
    assert_code(wire_put(c, "counts", BATCH(c, .value_size = 2000))->error_code,
                KERR_MESSAGE_TOO_LARGE);
    assert_code(alter_one(c, 1, "counts", "message.timestamp.type", "LogAppendTime", SET),
                KERR_NONE);
    assert_true(wire_put(c, "counts", BATCH(c, 0))->log_append_time_ms > 0);
    assert_int_equal(wire_read(c, "counts", 0, 0).count, 2); /* what was there stays */
}

static void lists_are_appended_to_and_subtracted_from(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "lists", 1);
    each_version(v, API_INCREMENTAL_ALTER_CONFIGS)
    {
        /* what is not there cannot be taken out, what is there is not put in twice */
        assert_code(alter_one(c, v, "lists", "cleanup.policy", "delete", APPEND), KERR_NONE);
        expect_setting(c, "lists", "cleanup.policy", "delete", SOURCE_TOPIC);
        assert_code(alter_one(c, v, "lists", "cleanup.policy", "compact", SUBTRACT), KERR_NONE);
        expect_setting(c, "lists", "cleanup.policy", "delete", SOURCE_TOPIC);
        assert_code(alter_one(c, v, "lists", "cleanup.policy", "delete", SUBTRACT), KERR_NONE);
        expect_setting(c, "lists", "cleanup.policy", "", SOURCE_TOPIC);
        assert_code(alter_one(c, v, "lists", "retention.ms", "5", APPEND), KERR_INVALID_CONFIG);
        assert_code(alter_one(c, v, "lists", "retention.ms", "5", SUBTRACT), KERR_INVALID_CONFIG);
    }
}

static void bad_changes_change_nothing(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "unchanged", 1, "retention.ms=1000");
    static const struct {
        struct change two[2];
        int16_t code;
    } cases[] = {
        {{{"retention.ms", "7", SET}, {"no.such", "1", SET}},       KERR_INVALID_CONFIG },
        {{{"retention.ms", "7", SET}, {"segment.bytes", "1", SET}}, KERR_INVALID_CONFIG },
        {{{"retention.ms", "7", SET}, {"segment.bytes", "x", SET}}, KERR_INVALID_CONFIG },
        {{{"retention.ms", "7", SET}, {"retention.ms", "8", SET}},  KERR_INVALID_REQUEST},
        {{{"retention.ms", "7", SET}, {"segment.ms", "8", 4}},      KERR_INVALID_REQUEST},
        {{{"retention.ms", "7", SET}, {"segment.ms", "8", -1}},     KERR_INVALID_REQUEST},
        {{{"retention.ms", "7", SET}, {"segment.ms", NULL, SET}},   KERR_INVALID_REQUEST},
        {{{"retention.ms", "7", SET}, {"no.such", NULL, DELETE}},   KERR_INVALID_CONFIG },
    };
    each_version(v, API_INCREMENTAL_ALTER_CONFIGS)
    {
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            assert_code(alter(c, v, "unchanged", cases[i].two, 2), cases[i].code);
        }
        assert_code(alter_one(c, v, "not-there", "retention.ms", "1", SET),
                    KERR_UNKNOWN_TOPIC_OR_PARTITION);
        assert_code(alter_one(c, v, "a b", "retention.ms", "1", SET), KERR_INVALID_TOPIC_EXCEPTION);
        struct incremental_alter_configs_request *q =
            changes(c, "unchanged", &(struct change){"retention.ms", "9", SET}, 1);
        q->validate_only = true;
        const struct incremental_alter_configs_response *a =
            wire_ask(c, API_INCREMENTAL_ALTER_CONFIGS, v, q);
        assert_code(a->responses->error_code, KERR_NONE);
        q->resources->configs->value = STR("-9");
        a = wire_ask(c, API_INCREMENTAL_ALTER_CONFIGS, v, q);
        assert_code(a->responses->error_code, KERR_INVALID_CONFIG);
        q->resources->resource_type = RESOURCE_BROKER; /* changed in its file */
        q->resources->resource_name = STR("1");
        a = wire_ask(c, API_INCREMENTAL_ALTER_CONFIGS, v, q);
        assert_code(a->responses->error_code, KERR_INVALID_REQUEST);
        assert_true(a->responses->error_message.len > 0);
    }
    expect_setting(c, "unchanged", "retention.ms", "1000", SOURCE_TOPIC);
}

static const struct alter_configs_response *replace(struct wire_client *c, int16_t version,
                                                    const char *topic, const char *name,
                                                    const char *value, bool validate_only)
{
    struct alter_configs_request *q = NEW(c, alter_configs_request);
    q->validate_only = validate_only;
    q->resources = NEW(c, alter_configs_request_resource);
    q->resources_count = 1;
    q->resources->resource_type = RESOURCE_TOPIC;
    q->resources->resource_name = str_of(topic);
    if (name) {
        q->resources->configs = NEW(c, alter_configs_request_config);
        q->resources->configs_count = 1;
        q->resources->configs->name = str_of(name);
        q->resources->configs->value = str_of(value);
    }
    const struct alter_configs_response *a = wire_ask(c, API_ALTER_CONFIGS, version, q);
    assert_int_equal(a->responses_count, 1);
    assert_str(a->responses->resource_name, topic);
    return a;
}

static void the_older_api_replaces_the_whole_set(void **state)
{
    struct wire_client *c = client_of(state);
    each_version(v, API_ALTER_CONFIGS)
    {
        struct str topic = wire_text(c, "replaced-%d", v);
        TOPIC(c, topic.ptr, 1, "retention.ms=1000", "segment.ms=77");
        assert_code(
            replace(c, v, topic.ptr, "max.message.bytes", "99", true)->responses->error_code,
            KERR_NONE); /* to validate only */
        assert_code(
            replace(c, v, topic.ptr, "max.message.bytes", "-5", false)->responses->error_code,
            KERR_INVALID_CONFIG);
        assert_code(replace(c, v, topic.ptr, "no.such", "1", false)->responses->error_code,
                    KERR_INVALID_CONFIG);
        expect_setting(c, topic.ptr, "retention.ms", "1000", SOURCE_TOPIC);
        assert_code(replace(c, v, topic.ptr, "segment.ms", "5", false)->responses->error_code,
                    KERR_NONE);
        expect_setting(c, topic.ptr, "segment.ms", "5", SOURCE_TOPIC);
        expect_setting(c, topic.ptr, "retention.ms", "-1", SOURCE_DEFAULT);
        assert_code(replace(c, v, topic.ptr, NULL, NULL, false)->responses->error_code, KERR_NONE);
        expect_setting(c, topic.ptr, "segment.ms", "604800000", SOURCE_DEFAULT);
        assert_code(replace(c, v, "not-there", NULL, NULL, false)->responses->error_code,
                    KERR_UNKNOWN_TOPIC_OR_PARTITION);
    }
}

static void a_resource_twice_in_one_request_is_refused(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "twice", 1);
    struct incremental_alter_configs_request *q =
        changes(c, "twice", &(struct change){"retention.ms", "9", SET}, 1);
    struct incremental_alter_configs_request_resource *two =
        NEWS(c, incremental_alter_configs_request_resource, 2);
    two[0] = two[1] = *q->resources;
    q->resources = two;
    q->resources_count = 2;
    const struct incremental_alter_configs_response *a =
        wire_ask(c, API_INCREMENTAL_ALTER_CONFIGS, 1, q);
    for (int32_t i = 0; i < a->responses_count; i++) {
        assert_code(a->responses[i].error_code, KERR_INVALID_REQUEST);
    }
    assert_true(a->responses_count > 0);
    expect_setting(c, "twice", "retention.ms", "-1", SOURCE_DEFAULT);
}

/* Both change the whole set; neither loses the other's. */
static void changes_at_the_same_time_are_all_done(void **state)
{
    struct wire_client *all[8];
    int32_t ids[8];
    static const char *const names[] = {
        "retention.ms", "segment.ms",          "max.message.bytes", "file.delete.delay.ms",
        "flush.ms",     "delete.retention.ms", "retention.bytes",   "index.interval.bytes"};
    TOPIC(client_of(state), "together", 1);
    for (int i = 0; i < 8; i++) {
        all[i] = wire_connect(daemon_of(state));
        ids[i] =
            wire_request(all[i], API_INCREMENTAL_ALTER_CONFIGS, 1,
                         changes(all[i], "together", &(struct change){names[i], "12345", SET}, 1));
    }
    for (int i = 0; i < 8; i++) {
        const struct incremental_alter_configs_response *a =
            wire_answer(all[i], API_INCREMENTAL_ALTER_CONFIGS, 1, ids[i]);
        assert_code(a->responses->error_code, KERR_NONE);
        wire_close(all[i]);
    }
    for (int i = 0; i < 8; i++) {
        expect_setting(client_of(state), "together", names[i], "12345", SOURCE_TOPIC);
    }
}

static void changes_survive_kill_9(void **state)
{
    struct daemon *d = daemon_of(state);
    struct wire_client *c = client_of(state);
    TOPIC(c, "survives", 1, "segment.ms=77");
    assert_code(alter_one(c, 1, "survives", "retention.ms", "4242", SET), KERR_NONE);
    assert_code(alter_one(c, 1, "survives", "segment.ms", NULL, DELETE), KERR_NONE);
    for (int round = 0; round < 2; round++) {
        if (round) {
            daemon_restart(d);
        } else {
            daemon_kill(d);
            daemon_start(d);
        }
        c = wire_connect(d);
        expect_setting(c, "survives", "retention.ms", "4242", SOURCE_TOPIC);
        expect_setting(c, "survives", "segment.ms", "604800000", SOURCE_DEFAULT);
        wire_close(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        wire_test(a_topics_settings_are_told_with_their_source_and_type),
        wire_test(synonyms_and_documentation_come_when_asked_for),
        wire_test(single_settings_can_be_asked_for),
        wire_test(the_brokers_settings_are_told_under_its_id),
        wire_test(what_is_not_there_is_refused_one_by_one),
        wire_test(single_settings_are_set_and_deleted),
        wire_test(a_change_counts_from_the_next_batch_on),
        wire_test(lists_are_appended_to_and_subtracted_from),
        wire_test(bad_changes_change_nothing),
        wire_test(the_older_api_replaces_the_whole_set),
        wire_test(a_resource_twice_in_one_request_is_refused),
        wire_test(changes_at_the_same_time_are_all_done),
        wire_test(changes_survive_kill_9),
    };
    return cmocka_run_group_tests(tests, setup, wire_fixture_destroy);
}

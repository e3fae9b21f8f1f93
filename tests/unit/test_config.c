/* The settings' table: what every kind of value takes, where values come from and which one counts,
 * and what a person is told who got one wrong. */
#include "base/mem.h"
#include "broker/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- loading */

/* A "path" is the text itself: what is read is what was asked for. */
static err read_text(const char *path, struct buf *out)
{
    if (strcmp(path, "missing") == 0) {
        return ERR_NOT_FOUND;
    }
    buf_add_str(out, str_of(path));
    return OK;
}

static err load(const char *file, const char *const *environment, const char *const *sets,
                struct buf *why, struct config **ret_config)
{
    int count = 0;
    while (sets && sets[count]) {
        count++;
    }
    const struct config_input input = {
        .file = file, .environment = environment, .sets = sets, .set_count = count};
    return config_load(&input, read_text, why, ret_config);
}

static struct config *load_good(const char *file, const char *const *environment,
                                const char *const *sets)
{
    struct buf why = {0};
    struct config *c = NULL;
    if (load(file, environment, sets, &why, &c) != OK) {
        fail_msg("refused: %s", buf_text(&why));
    }
    assert_int_equal(why.len, 0);
    return c;
}

#define SETS(...) ((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

/* It is refused, and `part` is in what the person reads. */
static void assert_refused(const char *file, const char *const *environment,
                           const char *const *sets, const char *part)
{
    struct buf why = {0};
    struct config *c = NULL;
    err e = load(file, environment, sets, &why, &c);
    if (e != ERR_INVALID || !strstr(buf_text(&why), part)) {
        fail_msg("error %d \"%s\", which lacks \"%s\"", (int)e, buf_text(&why), part);
    }
    assert_null(c);
    buf_finish(&why);
}

static void assert_value(const struct config *c, const char *name, const char *value)
{
    struct buf text = {0};
    int row = config_find(str_of(name));
    assert_true(row >= 0);
    config_value_text(c, (enum config_row_id)row, &text);
    if (strcmp(buf_text(&text), value) != 0) {
        fail_msg("%s is %s, not %s", name, buf_text(&text), value);
    }
    buf_finish(&text);
}

/* ---- values */

static bool takes(int row, const char *value)
{
    struct buf why = {0};
    err e = topic_config_check(row, str_of(value), &why);
    assert_int_equal(e == OK, why.len == 0); /* who is refused is told why */
    buf_finish(&why);
    return e == OK;
}

static void every_default_is_a_value_that_is_taken(void **state)
{
    (void)state;
    for (int i = 0; i < CONFIG_ROW_COUNT; i++) {
        struct buf text = {0};
        config_default_text((enum config_row_id)i, &text);
        if (!takes(i, buf_text(&text))) {
            fail_msg("%s does not take its default %s", config_rows[i].name, buf_text(&text));
        }
        buf_finish(&text);
    }
}

static void every_number_takes_its_bounds_and_nothing_past_them(void **state)
{
    (void)state;
    int seen = 0;
    for (int i = 0; i < CONFIG_ROW_COUNT; i++) {
        const struct config_row *row = &config_rows[i];
        char inside[2][32];
        char outside[2][32];
        if (row->type != CONFIG_INT && row->type != CONFIG_LONG) {
            continue;
        }
        seen++;
        snprintf(inside[0], sizeof inside[0], "%lld", (long long)row->min);
        snprintf(inside[1], sizeof inside[1], "%lld", (long long)row->max);
        snprintf(outside[0], sizeof outside[0], "%lld", (long long)row->min - 1);
        snprintf(outside[1], sizeof outside[1], "%llu", (unsigned long long)row->max + 1);
        for (int k = 0; k < 2; k++) {
            if (!takes(i, inside[k]) || takes(i, outside[k])) {
                fail_msg("%s: %s and %s", row->name, inside[k], outside[k]);
            }
        }
        assert_false(takes(i, ""));
        assert_false(takes(i, "1x"));
        assert_false(takes(i, "1.5"));
        assert_false(takes(i, "99999999999999999999"));
    }
    assert_true(seen > 40);
}

static void other_kinds_take_what_they_say(void **state)
{
    (void)state;
    const struct {
        const char *name;
        const char *value;
        bool good;
    } cases[] = {
        {"delete.topic.enable",             "true",                            true },
        {"delete.topic.enable",             "FALSE",                           true },
        {"delete.topic.enable",             "yes",                             false},
        {"delete.topic.enable",             "",                                false},
        {"log.cleaner.min.cleanable.ratio", "0",                               true },
        {"log.cleaner.min.cleanable.ratio", "1",                               true },
        {"log.cleaner.min.cleanable.ratio", "0.25",                            true },
        {"log.cleaner.min.cleanable.ratio", "1.0001",                          false},
        {"log.cleaner.min.cleanable.ratio", "-0.0001",                         false},
        {"log.cleaner.min.cleanable.ratio", "nan",                             false},
        {"log.cleaner.min.cleanable.ratio", "half",                            false},
        {"log.cleaner.min.cleanable.ratio", "",                                false},
        {"compression.type",                "zstd",                            true },
        {"compression.type",                "Zstd",                            false},
        {"compression.type",                "zst",                             false},
        {"compression.type",                "",                                false},
        {"log.cleanup.policy",              "delete",                          true },
        {"log.cleanup.policy",              "compact , delete",                true },
        {"log.cleanup.policy",              "",                                true },
        {"log.cleanup.policy",              "delete,",                         false},
        {"log.cleanup.policy",              ",",                               false},
        {"log.cleanup.policy",              "remove",                          false},
        {"log.dirs",                        "/var/lib/rivulet",                true },
        {"log.dirs",                        "/a,/b",                           false},
        {"log.dirs",                        "",                                false},
        {"rivulet.log.level",               "debug",                           true },
        {"rivulet.log.level",               "loud",                            false},
        {"listeners",                       "PLAINTEXT://[::1]:0",             true },
        {"listeners",                       "SSL://:9092",                     false},
        {"advertised.listeners",            "PLAINTEXT://log.example.org:443", true },
        {"advertised.listeners",            "PLAINTEXT://:9092",               false},
        {"advertised.listeners",            "PLAINTEXT://0.0.0.0:9092",        false},
        {"advertised.listeners",            "PLAINTEXT://[::]:9092",           false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int row = config_find(str_of(cases[i].name));
        assert_true(row >= 0);
        if (takes(row, cases[i].value) != cases[i].good) {
            fail_msg("%s=%s", cases[i].name, cases[i].value);
        }
    }
}

static void a_value_of_any_kind_has_a_longest_size(void **state)
{
    (void)state;
    char text[4096 + 2];
    memset(text, 'x', sizeof text);
    text[4096] = 0;
    assert_true(takes(CONFIG_ROW_log_dirs, text));
    text[4096] = 'x';
    text[4097] = 0;
    assert_false(takes(CONFIG_ROW_log_dirs, text));
}

/* ---- what a person is told */

static void an_unknown_setting_names_its_place_and_the_nearest_known_one(void **state)
{
    (void)state;
    const char *file = "# one\nnum.partitions=3\n\nlog.retention.mss=5\n";
    assert_refused(file, NULL, NULL,
                   ":4: unknown setting \"log.retention.mss\"; did you mean "
                   "log.retention.ms?");
    assert_refused(NULL, SETS("RIVULET_NUM_PARTITION=2"), NULL,
                   "environment variable RIVULET_NUM_PARTITION: unknown setting "
                   "\"num.partition\"; did you mean num.partitions?");
    assert_refused(NULL, NULL, SETS("log.retention.hour=2"),
                   "--set: unknown setting \"log.retention.hour\"; did you mean "
                   "log.retention.hours?");
    assert_refused(NULL, NULL, SETS("topics.max=2"), "did you mean rivulet.topics.max?");
    assert_refused(NULL, NULL, SETS("retention.ms=2"), "did you mean log.retention.ms?");
}

static void nothing_is_near_to_a_strange_name(void **state)
{
    (void)state;
    struct buf why = {0};
    struct config *c = NULL;
    assert_int_equal(load(NULL, NULL, SETS("zzzzzzzzzzzz=1"), &why, &c), ERR_INVALID);
    assert_string_equal(buf_text(&why), "--set: unknown setting \"zzzzzzzzzzzz\"");
    buf_finish(&why);
}

static void a_bad_value_names_its_place_what_was_given_and_why(void **state)
{
    (void)state;
    assert_refused("\nnum.partitions=0\n", NULL, NULL,
                   ":2: num.partitions=\"0\": not within 1 and 100000");
    assert_refused(NULL, SETS("RIVULET_NUM_PARTITIONS=many"), NULL,
                   "environment variable RIVULET_NUM_PARTITIONS: num.partitions=\"many\": not a "
                   "whole number");
    assert_refused(NULL, NULL, SETS("num.partitions"), "--set \"num.partitions\": no '='");
    /* as it was given, not as it was understood */
    assert_refused(NULL, NULL, SETS("log.roll.hours=0"), "log.roll.hours=\"0\"");
    assert_refused(NULL, NULL, SETS("log.retention.hours=9223372036854775807"),
                   "log.retention.hours=\"9223372036854775807\": not a number in range");
}

static void data_in_a_message_is_escaped(void **state)
{
    (void)state;
    assert_refused(NULL, NULL, SETS("num.partitions=\x1b[2J\n\""),
                   "num.partitions=\"\\x1b[2J\\n\\\"\": not a whole number");
}

static void a_file_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    struct buf why = {0};
    struct config *c = NULL;
    assert_int_equal(load("missing", NULL, NULL, &why, &c), ERR_NOT_FOUND);
    assert_string_equal(buf_text(&why), "missing: cannot be read: not found");
    buf_finish(&why);
}

static void settings_that_contradict_each_other_are_refused(void **state)
{
    (void)state;
    assert_refused(NULL, NULL, SETS("group.min.session.timeout.ms=1800001"),
                   "group.min.session.timeout.ms=1800001 is above group.max.session.timeout.ms");
    assert_refused(NULL, NULL,
                   SETS("rivulet.memory.max.bytes=1048576", "socket.request.max.bytes=1048577"),
                   "is above rivulet.memory.max.bytes=1048576");
    assert_refused(NULL, NULL, SETS("log.cleanup.policy=delete,compact"),
                   "there is no compaction yet");
}

/* ---- which one counts */

static void flags_go_over_the_environment_over_the_file_over_the_defaults(void **state)
{
    (void)state;
    const char *file = "num.partitions=2\nmax.connections=20\ngroup.max.size=200\n";
    const char *const environment[] = {"PATH=/bin", "RIVULET_MAX_CONNECTIONS=30",
                                       "RIVULET_GROUP_MAX_SIZE=300", "RIVULET_BROKERS=x:1", NULL};
    struct config *c =
        load_good(file, environment, SETS("group.max.size=400", "group.max.size = 500"));
    assert_value(c, "num.partitions", "2");
    assert_value(c, "max.connections", "30");
    assert_value(c, "group.max.size", "500"); /* of two flags, the later one */
    assert_value(c, "node.id", "1");
    config_unref(c);
}

static void the_environment_has_a_name_for_every_setting(void **state)
{
    (void)state;
    struct config *c = load_good(NULL,
                                 SETS("RIVULET_LOG_RETENTION_HOURS=2", "RIVULET_TOPICS_MAX=7",
                                      "RIVULET_RIVULET_PARTITIONS_MAX=8",
                                      "RIVULET_PROCESS_ROLES=broker", "RIVULETX=1"),
                                 NULL);
    assert_value(c, "log.retention.ms", "7200000");
    assert_value(c, "rivulet.topics.max", "7");
    assert_value(c, "rivulet.partitions.max", "8");
    assert_string_equal(buf_text(&c->ignored), "process.roles");
    config_unref(c);
}

static void other_units_and_names_stand_for_the_same_setting(void **state)
{
    (void)state;
    const struct {
        const char *given;
        const char *name;
        const char *value;
    } cases[] = {
        {"log.retention.minutes=3",               "log.retention.ms",   "180000"             },
        {"log.retention.hours=168",               "log.retention.ms",   "604800000"          },
        {"log.retention.hours=-1",                "log.retention.ms",   "-1"                 },
        {"log.roll.hours=1",                      "log.roll.ms",        "3600000"            },
        {"log.roll.jitter.hours=1",               "log.roll.jitter.ms", "3600000"            },
        {"broker.id=5",                           "node.id",            "5"                  },
        {"log.dir=/d",                            "log.dirs",           "/d"                 },
        {"log.retention.minutes=153722867280912", "log.retention.ms",   "9223372036854720000"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config *c = load_good(NULL, NULL, SETS(cases[i].given));
        assert_value(c, cases[i].name, cases[i].value);
        config_unref(c);
    }
}

static void of_several_units_in_one_source_the_finest_counts(void **state)
{
    (void)state;
    struct config *c = load_good("log.retention.minutes=3\nlog.retention.hours=9\n", NULL, NULL);
    assert_value(c, "log.retention.ms", "180000");
    config_unref(c);
    c = load_good("log.retention.hours=9\nlog.retention.ms=77\nlog.retention.minutes=3\n", NULL,
                  NULL);
    assert_value(c, "log.retention.ms", "77");
    config_unref(c);
    /* a later source counts in any unit */
    c = load_good("log.retention.ms=77\n", NULL, SETS("log.retention.hours=1"));
    assert_value(c, "log.retention.ms", "3600000");
    config_unref(c);
    /* what does not count must be good all the same */
    assert_refused("log.retention.ms=77\nlog.retention.hours=soon\n", NULL, NULL,
                   ":2: log.retention.hours=\"soon\"");
    assert_refused("log.roll.ms=77\nlog.roll.hours=0\n", NULL, NULL, ":2: log.roll.hours=\"0\"");
}

/* ---- files */

static void files_have_the_form_of_properties(void **state)
{
    (void)state;
    const struct {
        const char *text;
        const char *value; /* of log.dirs */
    } cases[] = {
        {"log.dirs=/d",                                                            "/d"                        },
        {"log.dirs = /d \r\n",                                                     "/d"                        },
        {"\t log.dirs:/d\n",                                                       "/d"                        },
        {"log.dirs : /d\n",                                                        "/d"                        },
        {"log.dirs /d\n",                                                          "/d"                        },
        {"log.dirs\t=\f/d\n",                                                      "/d"                        },
        {"log.dirs==/d\n",                                                         "=/d"                       },
        {"# log.dirs=/x\n ! log.dirs=/y\n\n \r\nlog.dirs=/d # this is no comment",
         "/d # this is no comment"                                                                             },
        {"#goes not on \\\nlog.dirs=/d\n",                                         "/d"                        },
        {"log.dirs=/a\\\n   /b\\\r\n\t/c\n",                                       "/a/b/c"                    },
        {"log.\\\n dirs=/d\n",                                                     "/d"                        },
        {"log.dirs=/a\\\n#b\n",                                                    "/a#b"                      },
        {"log.dirs=/a\\\\\nnum.partitions=1\n",                                    "/a\\"                      },
        {"log.dirs=/a\\",                                                          "/a"                        },
        {"log.dirs=/a\\ \nnum.partitions=1\n",                                     "/a"                        },
        {"\\\nlog.dirs=/d\n",                                                      "/d"                        },
        {"log\\.dirs=/a\\ b\\:c\\=\\#\\!\\z\n",                                    "/a b:c=#!z"                },
        {"log.dirs=/a\\tb\\u0041\\u00e9\\u20AC\n",                                 "/a\tbA\xc3\xa9\xe2\x82\xac"},
        {"log.dirs=/x\nlog.dirs=/d\n",                                             "/d"                        },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config *c = load_good(cases[i].text, NULL, NULL);
        if (strcmp(c->log_dirs, cases[i].value) != 0) {
            fail_msg("case %zu: \"%s\", not \"%s\"", i, c->log_dirs, cases[i].value);
        }
        config_unref(c);
    }
}

static void what_is_no_property_names_its_line(void **state)
{
    (void)state;
    assert_refused("\n\nnum.partitions\n", NULL, NULL, ":3: no '=' in \"num.partitions\"");
    assert_refused("=x\n", NULL, NULL, ":1: unknown setting \"\"");
    assert_refused("log.dirs=/\\u00zz\n", NULL, NULL, ":1: a byte 0, or an escape");
    assert_refused("log.dirs=/\\u00\n", NULL, NULL, ":1: a byte 0, or an escape");
    assert_refused("log.dirs=/\\u0000\n", NULL, NULL, ":1: a byte 0, or an escape");
    assert_refused("log.dirs=/\\ud83d\\ude00\n", NULL, NULL, ":1: a byte 0, or an escape");
    /* a line that goes on is named by its first */
    assert_refused("\nnum.\\\npartitions=\\\n0\n", NULL, NULL, ":2: num.partitions=\"0\"");
}

static void kafkas_stock_settings_load_and_what_means_nothing_is_listed_once(void **state)
{
    (void)state;
    struct config *c = load_good("process.roles=broker,controller\n"
                                 "node.id=1\n"
                                 "controller.quorum.bootstrap.servers=localhost:9093\n"
                                 "listeners=PLAINTEXT://:9092,CONTROLLER://:9093\n"
                                 "inter.broker.listener.name=PLAINTEXT\n"
                                 "advertised.listeners=PLAINTEXT://localhost:9092,"
                                 "CONTROLLER://localhost:9093\n"
                                 "controller.listener.names=CONTROLLER\n"
                                 "listener.security.protocol.map=CONTROLLER:PLAINTEXT,SSL:SSL\n"
                                 "num.network.threads=3\n"
                                 "num.io.threads=8\n"
                                 "socket.send.buffer.bytes=102400\n"
                                 "socket.receive.buffer.bytes=102400\n"
                                 "socket.request.max.bytes=104857600\n"
                                 "log.dirs=/tmp/kraft-combined-logs\n"
                                 "num.partitions=1\n"
                                 "num.recovery.threads.per.data.dir=1\n"
                                 "offsets.topic.replication.factor=1\n"
                                 "share.coordinator.state.topic.replication.factor=1\n"
                                 "share.coordinator.state.topic.min.isr=1\n"
                                 "transaction.state.log.replication.factor=1\n"
                                 "transaction.state.log.min.isr=1\n"
                                 "log.retention.hours=168\n"
                                 "log.segment.bytes=1073741824\n"
                                 "log.retention.check.interval.ms=300000\n",
                                 SETS("RIVULET_NUM_IO_THREADS=1"), SETS("num.io.threads=2"));
    assert_value(c, "log.retention.ms", "604800000");
    const char *first = strstr(buf_text(&c->ignored), "num.io.threads");
    assert_non_null(first);
    assert_null(strstr(first + 1, "num.io.threads"));
    struct config_endpoint endpoints[CONFIG_ENDPOINTS_MAX];
    struct buf why = {0};
    int count = 0;
    assert_int_equal(config_parse_endpoints(str_of(c->listeners), endpoints, &count, &why), OK);
    assert_int_equal(count, 1);
    assert_string_equal(endpoints[0].host, "");
    assert_int_equal(endpoints[0].port, 9092);
    config_unref(c);
}

/* ---- addresses */

static void addresses_are_hosts_and_ports(void **state)
{
    (void)state;
    const struct {
        const char *text;
        int count; /* -1: refused */
        const char *host;
        int port;
    } cases[] = {
        {"",                                 0,  "",          0    },
        {"127.0.0.1:9092",                   1,  "127.0.0.1", 9092 },
        {"PLAINTEXT://127.0.0.1:0",          1,  "127.0.0.1", 0    },
        {"plaintext://[::1]:65535",          1,  "::1",       65535},
        {"PLAINTEXT://:9092",                1,  "",          9092 },
        {"a:1 , b:2,\tc:3",                  3,  "a",         1    },
        {"CONTROLLER://x:1,PLAINTEXT://y:2", 1,  "y",         2    },
        {"SASL_SSL://x:1",                   -1, "",          0    },
        {"x",                                -1, "",          0    },
        {"x:",                               -1, "",          0    },
        {"x:65536",                          -1, "",          0    },
        {"x:-1",                             -1, "",          0    },
        {"::1:9092",                         -1, "",          0    },
        {"a b:1",                            -1, "",          0    },
        {"x:1,",                             1,  "x",         1    },
        {"x:1,,y:2",                         -1, "",          0    },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config_endpoint endpoints[CONFIG_ENDPOINTS_MAX];
        struct buf why = {0};
        int count = -1;
        err e = config_parse_endpoints(str_of(cases[i].text), endpoints, &count, &why);
        if (count != cases[i].count || (e == OK) != (count >= 0) || (e == OK) != !why.len) {
            fail_msg("%s: %d addresses, \"%s\"", cases[i].text, count, buf_text(&why));
        }
        if (count > 0) {
            assert_string_equal(endpoints[0].host, cases[i].host);
            assert_int_equal(endpoints[0].port, cases[i].port);
        }
        buf_finish(&why);
    }
}

static void there_is_a_most_of_addresses_and_a_longest_host(void **state)
{
    (void)state;
    struct config_endpoint endpoints[CONFIG_ENDPOINTS_MAX];
    struct buf text = {0};
    struct buf why = {0};
    int count = 0;
    for (int i = 0; i < CONFIG_ENDPOINTS_MAX; i++) {
        buf_printf(&text, "%sx:%d", i ? "," : "", i + 1);
    }
    assert_int_equal(config_parse_endpoints(str_of(buf_text(&text)), endpoints, &count, &why), OK);
    assert_int_equal(count, CONFIG_ENDPOINTS_MAX);
    buf_printf(&text, ",x:1");
    assert_int_equal(config_parse_endpoints(str_of(buf_text(&text)), endpoints, &count, &why),
                     ERR_LIMIT);
    char host[256 + 3];
    memset(host, 'h', sizeof host);
    strcpy(host + 255, ":1");
    assert_int_equal(config_parse_endpoints(str_of(host), endpoints, &count, &why), OK);
    host[255] = 'h';
    strcpy(host + 256, ":1");
    assert_int_equal(config_parse_endpoints(str_of(host), endpoints, &count, &why), ERR_INVALID);
    buf_finish(&text);
    buf_finish(&why);
}

/* ---- what is printed */

static void each_setting_is_printed_with_where_it_came_from(void **state)
{
    (void)state;
    struct buf text = {0};
    struct config *c =
        load_good("\nnum.partitions=4\n", SETS("RIVULET_MAX_CONNECTIONS=5"), SETS("node.id=6"));
    config_print(c, &text);
    assert_non_null(strstr(buf_text(&text), "num.partitions=4  # \nnum.partitions=4\n:2\n"));
    assert_non_null(strstr(buf_text(&text),
                           "max.connections=5  # environment variable RIVULET_MAX_CONNECTIONS\n"));
    assert_non_null(strstr(buf_text(&text), "node.id=6  # --set\n"));
    assert_non_null(strstr(buf_text(&text), "group.max.size=2147483647  # default\n"));
    for (int i = 0; i < CONFIG_ROW_COUNT; i++) {
        char line[128];
        snprintf(line, sizeof line, "%s=", config_rows[i].name);
        const char *at = strstr(buf_text(&text), line);
        assert_true(at && (at == buf_text(&text) || at[-1] == '\n'));
    }
    buf_finish(&text);
    config_unref(c);
}

static void the_page_of_settings_has_them_all(void **state)
{
    (void)state;
    struct buf text = {0};
    config_print_docs(&text);
    for (int i = 0; i < CONFIG_ROW_COUNT; i++) {
        char cell[128];
        snprintf(cell, sizeof cell, "| `%s`", config_rows[i].name);
        assert_non_null(strstr(buf_text(&text), cell));
        assert_true(strlen(config_rows[i].doc) > 0);
    }
    assert_non_null(strstr(buf_text(&text), "| `log.retention.hours` | `log.retention.ms` |"));
    assert_non_null(strstr(buf_text(&text), "\n- `process.roles`"));
    buf_finish(&text);
}

static void no_name_is_there_twice(void **state)
{
    (void)state;
    for (int i = 0; i < CONFIG_ROW_COUNT; i++) {
        assert_int_equal(config_find(str_of(config_rows[i].name)), i);
        if (config_rows[i].topic_name) {
            assert_int_equal(config_find_topic(str_of(config_rows[i].topic_name)), i);
        }
    }
}

/* ---- reloading */

static void a_reload_keeps_what_cannot_change_while_the_broker_runs(void **state)
{
    (void)state;
    struct buf kept = {0};
    struct config *old = load_good(NULL, NULL, SETS("node.id=3", "num.partitions=2"));
    struct config *fresh =
        load_good(NULL, NULL, SETS("node.id=4", "num.partitions=9", "log.dirs=/b"));
    config_keep_static(fresh, old, &kept);
    assert_string_equal(buf_text(&kept), "node.id, log.dirs");
    assert_value(fresh, "node.id", "3");
    assert_value(fresh, "log.dirs", "./data");
    assert_int_equal(fresh->origins[CONFIG_ROW_node_id].source, CONFIG_FLAG);
    assert_string_equal(fresh->origins[CONFIG_ROW_node_id].where, "--set");
    assert_int_equal(fresh->origins[CONFIG_ROW_log_dirs].source, CONFIG_DEFAULT);
    assert_null(fresh->origins[CONFIG_ROW_log_dirs].where);
    assert_value(fresh, "num.partitions", "9");
    buf_finish(&kept);
    config_unref(old);
    config_unref(fresh);
}

/* ---- topics */

static struct config_pair pair(const char *name, const char *value)
{
    return (struct config_pair){.name = str_of(name), .value = str_of(value)};
}

static void a_topics_own_settings_go_over_the_brokers(void **state)
{
    (void)state;
    struct config *c = load_good(
        NULL, NULL, SETS("log.retention.ms=5", "message.max.bytes=7", "compression.type=lz4"));
    const struct config_pair pairs[] = {
        pair("retention.ms", "9"), pair("message.timestamp.type", "LogAppendTime"),
        pair("cleanup.policy", "compact, delete"), pair("compression.type", "zstd")};
    struct topic_config *t = NULL;
    struct buf why = {0};
    int32_t count = 0;
    assert_int_equal(topic_config_create(c, pairs, 4, &why, &t), OK);
    assert_int_equal(t->retention_ms, 9);
    assert_int_equal(t->max_message_bytes, 7);
    assert_true(t->append_time);
    assert_int_equal(t->cleanup, CONFIG_CLEANUP_DELETE | CONFIG_CLEANUP_COMPACT);
    assert_string_equal(t->cleanup_policy, "compact,delete");
    assert_int_equal(t->codec, 4);
    assert_true(t->own[CONFIG_ROW_retention_ms]);
    assert_false(t->own[CONFIG_ROW_max_message_bytes]);
    assert_true(topic_config_overrides(t, &count)[0].name.ptr != pairs[0].name.ptr);
    assert_int_equal(count, 4);
    topic_config_destroy(t);
    config_unref(c);
}

static void what_a_topic_cannot_have_is_refused_with_a_reason(void **state)
{
    (void)state;
    const struct {
        struct config_pair pairs[2];
        int32_t count;
        const char *why;
    } cases[] = {
        {{pair("retention.mss", "1")},
         1,                                                         "unknown topic setting \"retention.mss\"; did you mean retention.ms?"},
        {{pair("log.retention.ms", "1")},                        1, "unknown topic setting"                                              },
        {{pair("num.partitions", "1")},                          1, "unknown topic setting"                                              },
        {{pair("retention.ms", "-2")},                           1, "retention.ms=\"-2\": not within -1"                                 },
        {{pair("retention.ms", NULL)},                           1, "retention.ms=null: no value"                                        },
        {{pair("retention.ms", "1"), pair("retention.ms", "1")}, 2, "retention.ms is given twice"                                        },
    };
    struct config *c = load_good(NULL, NULL, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct topic_config *t = NULL;
        struct buf why = {0};
        assert_int_equal(topic_config_create(c, cases[i].pairs, cases[i].count, &why, &t),
                         ERR_INVALID);
        assert_null(t);
        if (!strstr(buf_text(&why), cases[i].why)) {
            fail_msg("\"%s\" lacks \"%s\"", buf_text(&why), cases[i].why);
        }
        buf_finish(&why);
    }
    config_unref(c);
}

static void keep_line(void *ctx, const char *line, size_t size)
{
    buf_add(ctx, line, size);
}

static void what_was_accepted_once_is_left_out_with_a_log_line_when_it_is_refused_now(void **state)
{
    (void)state;
    struct buf log = {0};
    const struct diag diag = {.clock = &clock_real, .write = keep_line, .ctx = &log};
    const struct config_pair pairs[] = {pair("retention.ms", "-7"), pair("segment.ms", "8"),
                                        pair("old.setting", "\"x\"")};
    struct config *c = load_good(NULL, NULL, NULL);
    struct topic_config *t = topic_config_restore(c, pairs, 3, &diag);
    int32_t count = 0;
    assert_int_equal(t->retention_ms, -1);
    assert_int_equal(t->segment_ms, 8);
    topic_config_overrides(t, &count);
    assert_int_equal(count, 1);
    assert_non_null(
        strstr(buf_text(&log), "event=topic_setting_dropped why=\"retention.ms=\\\"-7"));
    assert_non_null(strstr(buf_text(&log), "unknown topic setting \\\"old.setting\\\"\"\n"));
    topic_config_destroy(t);
    config_unref(c);
    buf_finish(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_default_is_a_value_that_is_taken),
        cmocka_unit_test(every_number_takes_its_bounds_and_nothing_past_them),
        cmocka_unit_test(other_kinds_take_what_they_say),
        cmocka_unit_test(a_value_of_any_kind_has_a_longest_size),
        cmocka_unit_test(an_unknown_setting_names_its_place_and_the_nearest_known_one),
        cmocka_unit_test(nothing_is_near_to_a_strange_name),
        cmocka_unit_test(a_bad_value_names_its_place_what_was_given_and_why),
        cmocka_unit_test(data_in_a_message_is_escaped),
        cmocka_unit_test(a_file_that_is_not_there_is_an_error),
        cmocka_unit_test(settings_that_contradict_each_other_are_refused),
        cmocka_unit_test(flags_go_over_the_environment_over_the_file_over_the_defaults),
        cmocka_unit_test(the_environment_has_a_name_for_every_setting),
        cmocka_unit_test(other_units_and_names_stand_for_the_same_setting),
        cmocka_unit_test(of_several_units_in_one_source_the_finest_counts),
        cmocka_unit_test(files_have_the_form_of_properties),
        cmocka_unit_test(what_is_no_property_names_its_line),
        cmocka_unit_test(kafkas_stock_settings_load_and_what_means_nothing_is_listed_once),
        cmocka_unit_test(addresses_are_hosts_and_ports),
        cmocka_unit_test(there_is_a_most_of_addresses_and_a_longest_host),
        cmocka_unit_test(each_setting_is_printed_with_where_it_came_from),
        cmocka_unit_test(the_page_of_settings_has_them_all),
        cmocka_unit_test(no_name_is_there_twice),
        cmocka_unit_test(a_reload_keeps_what_cannot_change_while_the_broker_runs),
        cmocka_unit_test(a_topics_own_settings_go_over_the_brokers),
        cmocka_unit_test(what_a_topic_cannot_have_is_refused_with_a_reason),
        cmocka_unit_test(what_was_accepted_once_is_left_out_with_a_log_line_when_it_is_refused_now),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

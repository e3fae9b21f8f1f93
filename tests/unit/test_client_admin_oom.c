/* Every allocation of every admin call fails in turn: the call says RV_E_MEMORY or gets by without,
 * gives nothing half made, works when it is made again, and nothing leaks. The helper thread's
 * start and stop are among them. The broker is in a process of its own, where nothing fails. */
#include "client/rivulet.h"
#include "protocol/error.h"
#include "tests/kit/child_home.h"
#include "tests/kit/failing_mem.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { PATIENCE_MS = 30000, TRIES = 2 };

/* ---- the calls: each gives its code, and gives back what it was given ---- */

static int cluster(struct rv_client *c, struct rv_error *e)
{
    struct rv_cluster *r = NULL;
    int code = rv_cluster(c, PATIENCE_MS, &r, e);
    assert_int_equal(r != NULL, code == RV_OK);
    assert_true(!r || (r->broker_count == 1 && r->brokers[0].host[0]));
    rv_free(r);
    return code;
}

static int topics(struct rv_client *c, struct rv_error *e)
{
    struct rv_topics *r = NULL;
    int code = rv_topic_list(c, PATIENCE_MS, &r, e);
    assert_int_equal(r != NULL, code == RV_OK);
    assert_true(!r || r->count >= 1);
    rv_free(r);
    return code;
}

static int topic(struct rv_client *c, struct rv_error *e)
{
    struct rv_topics *r = NULL;
    int code = rv_topic_describe(c, "t", PATIENCE_MS, &r, e);
    assert_int_equal(r != NULL, code == RV_OK);
    assert_true(!r || (r->count == 1 && r->items[0].partition_count == 3));
    rv_free(r);
    return code;
}

/* What was done although the answer found no memory is there when it is asked for again. */
static int create_and_delete(struct rv_client *c, struct rv_error *e)
{
    int code = rv_topic_create(c, "fresh", 1, NULL, PATIENCE_MS, e);
    if (code == RV_OK || code == KERR_TOPIC_ALREADY_EXISTS) {
        code = rv_topic_delete(c, "fresh", PATIENCE_MS, e);
    }
    return code == KERR_UNKNOWN_TOPIC_OR_PARTITION ? RV_OK : code;
}

static int offsets(struct rv_client *c, struct rv_error *e)
{
    struct rv_partition p[3] = {
        {.topic = "t"},
        {.topic = "t", .partition = 1},
        {.topic = "t"           }
    };
    int code = rv_offsets(c, p, 3, RV_END, PATIENCE_MS, e);
    assert_true(code != RV_OK || (p[0].offset == 0 && p[1].offset == 0 && p[2].offset == 0));
    return code;
}

static int configs(struct rv_client *c, struct rv_error *e)
{
    struct rv_configs *r = NULL;
    int code = rv_config_get(c, RV_TOPIC, "t", PATIENCE_MS, &r, e);
    assert_int_equal(r != NULL, code == RV_OK);
    assert_true(!r || r->count > 5);
    rv_free(r);
    return code;
}

static int config_set(struct rv_client *c, struct rv_error *e)
{
    return rv_config_set(c, RV_TOPIC, "t", RV_OPTIONS({"retention.ms", "100000000"}), PATIENCE_MS,
                         e);
}

static int group_offsets(struct rv_client *c, struct rv_error *e)
{
    struct rv_partition p = {.topic = "t", .offset = 0};
    return rv_group_set_offsets(c, "g", &p, 1, PATIENCE_MS, e);
}

static int groups(struct rv_client *c, struct rv_error *e)
{
    struct rv_groups *r = NULL;
    int code = rv_group_list(c, PATIENCE_MS, &r, e);
    assert_int_equal(r != NULL, code == RV_OK);
    rv_free(r);
    return code;
}

static int group(struct rv_client *c, struct rv_error *e)
{
    struct rv_group *r = NULL;
    int code = rv_group_describe(c, "g", PATIENCE_MS, &r, e);
    assert_int_equal(r != NULL, code == RV_OK);
    assert_true(!r || (r->partition_count == 1 && r->partitions[0].end_offset == 0));
    rv_free(r);
    return code;
}

/* One whose answer there was no memory for is not sent again by the library: it may have been
 * carried out. This one may be. */
static int any_request(struct rv_client *c, struct rv_error *e)
{
    struct rv_response *r = NULL;
    static const uint8_t body[] = {0, 0}; /* ListGroups, version 2: nothing */
    int code = rv_request(c, -1, 16, 2, body, 0, PATIENCE_MS, &r, e);
    if (code != RV_OK && e->flags & RV_UNSURE) {
        assert_null(r);
        code = rv_request(c, -1, 16, 2, body, 0, PATIENCE_MS, &r, e);
    }
    assert_int_equal(r != NULL, code == RV_OK);
    assert_true(!r || r->size > 6);
    rv_free(r);
    return code;
}

static int helper(struct rv_client *c, struct rv_error *e)
{
    int code = rv_thread_start(c, e);
    rv_thread_stop(c);
    return code;
}

static const struct {
    const char *name;
    int (*call)(struct rv_client *c, struct rv_error *e);
} rows[] = {
    {"cluster",       cluster          },
    {"topic_list",    topics           },
    {"topic",         topic            },
    {"create_delete", create_and_delete},
    {"offsets",       offsets          },
    {"config_get",    configs          },
    {"config_set",    config_set       },
    {"set_offsets",   group_offsets    },
    {"group_list",    groups           },
    {"group",         group            },
    {"request",       any_request      },
    {"helper",        helper           },
};

/* ---- the sweep ---- */

/* With allocation k failing; true: there was such an allocation. */
static bool one(const struct child_home *broker, int row, long k)
{
    struct rv_error e;
    struct rv_client *c = NULL;
    const struct rv_option *options =
        RV_OPTIONS({"bootstrap.servers", broker->address}, {"retry.backoff.ms", "1"},
                   {"reconnect.backoff.ms", "1"}, {"reconnect.backoff.max.ms", "4"});
    mem_fail_at(k);
    int code = rv_client_open(options, &c, &e);
    if (code == RV_E_MEMORY) {
        assert_null(c);
        code = rv_client_open(options, &c, &e);
    }
    assert_int_equal(code, RV_OK);
    for (int i = 0; i < TRIES; i++) {
        code = rows[row].call(c, &e);
        if (code == RV_E_MEMORY) {
            assert_true(e.code == RV_E_MEMORY && e.text[0] && (e.flags & RV_RETRIABLE));
            code = rows[row].call(c, &e); /* the same client goes on */
        }
        if (code != RV_OK) {
            fail_msg("%s, allocation %ld: %s: %s", rows[row].name, k, rv_error_name(code), e.text);
        }
    }
    rv_client_close(c);
    bool was_hit = mem_asked() > k;
    mem_fail_at(-1);
    return was_hit;
}

static void every_admin_call_survives(void **state)
{
    const struct child_home *broker = *state;
    struct rv_error e;
    struct rv_client *c = NULL;
    assert_int_equal(rv_client_open(RV_OPTIONS({"bootstrap.servers", broker->address}), &c, &e),
                     RV_OK);
    assert_int_equal(rv_topic_create(c, "t", 3, NULL, PATIENCE_MS, &e), RV_OK);
    assert_int_equal(group_offsets(c, &e), RV_OK);
    rv_client_close(c);
    long alive = mem_alive();
    for (int row = 0; row < (int)(sizeof rows / sizeof rows[0]); row++) {
        long k = 0;
        while (one(broker, row, k)) {
            if (mem_alive() != alive) {
                fail_msg("%s, allocation %ld: %ld blocks leaked", rows[row].name, k,
                         mem_alive() - alive);
            }
            k++;
        }
        assert_true(k > 5);
        printf("%s: %ld allocations\n", rows[row].name, k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_admin_call_survives),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, child_home_start, child_home_stop);
}

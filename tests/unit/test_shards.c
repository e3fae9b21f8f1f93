/* Messages between shards, and requests that are away while their connection goes. */
#include "base/check.h"
#include "broker/shard.h"
#include "gen/apis.h"
#include "gen/create_topics.h"
#include "gen/fetch.h"
#include "gen/join_group.h"
#include "protocol/error.h"
#include "tests/kit/sim_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- messages */

struct note {
    struct message message;
    int number;
};

static int ran[8];
static int ran_count;
static int back[8];
static int back_count;

static bool run_at_once(struct message *m)
{
    ran[ran_count++] = list_entry(m, struct note, message)->number;
    return true;
}

static bool run_later(struct message *m)
{
    ran[ran_count++] = list_entry(m, struct note, message)->number;
    return false;
}

static void is_back(struct message *m)
{
    back[back_count++] = list_entry(m, struct note, message)->number;
}

static void set_up(struct shards *all, int32_t count)
{
    ran_count = back_count = 0;
    shards_init(all, count);
}

static void a_message_to_oneself_is_a_call(void **state)
{
    (void)state;
    struct shards all;
    set_up(&all, 1);
    struct note now = {
        .message = {.run = run_at_once, .done = is_back},
          .number = 1
    };
    struct note later = {
        .message = {.run = run_later, .done = is_back},
          .number = 2
    };
    assert_true(message_send(&now.message, &all.list[0], &all.list[0]));
    assert_int_equal(ran_count, 1);
    assert_int_equal(back_count, 0);
    assert_false(message_send(&later.message, &all.list[0], &all.list[0]));
    assert_int_equal(back_count, 0);
    message_return(&later.message);
    assert_int_equal(back_count, 1);
    assert_int_equal(back[0], 2);
    assert_false(shard_deliver(&all.list[0], 0)); /* nothing was queued */
    shards_finish(&all);
}

static void messages_keep_their_order_there_and_back(void **state)
{
    (void)state;
    struct shards all;
    struct note notes[4];
    set_up(&all, 3);
    for (int i = 0; i < 4; i++) { /* one of them does not come back */
        notes[i] = (struct note){
            .message = {.run = run_at_once, .done = i == 2 ? NULL : is_back},
              .number = i
        };
        assert_false(message_send(&notes[i].message, &all.list[0], &all.list[2]));
    }
    assert_false(shard_deliver(&all.list[2], 1)); /* nothing from that one */
    assert_false(shard_deliver(&all.list[1], 0));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(ran_count, i);
        assert_true(shard_deliver(&all.list[2], 0));
        assert_int_equal(ran[i], i);
    }
    assert_int_equal(back_count, 0);
    while (shard_deliver(&all.list[0], 2)) {
    }
    assert_int_equal(back_count, 3);
    assert_int_equal(back[0], 0);
    assert_int_equal(back[1], 1);
    assert_int_equal(back[2], 3);
    shards_finish(&all);
}

static void count_wakes(void *ctx)
{
    (*(int *)ctx)++;
}

static void whoever_gets_a_message_is_woken(void **state)
{
    (void)state;
    struct shards all;
    int wakes[2] = {0};
    set_up(&all, 2);
    for (int i = 0; i < 2; i++) {
        all.list[i].wake = count_wakes;
        all.list[i].ctx = &wakes[i];
    }
    struct note n = {
        .message = {.run = run_at_once, .done = is_back}
    };
    message_send(&n.message, &all.list[0], &all.list[1]);
    assert_int_equal(wakes[1], 1);
    assert_true(shard_deliver(&all.list[1], 0));
    assert_int_equal(wakes[0], 1);
    assert_true(shard_deliver(&all.list[0], 1));
    assert_int_equal(wakes[0] + wakes[1], 2);
    shards_finish(&all);
}

static void every_partition_has_a_shard_and_every_shard_partitions(void **state)
{
    (void)state;
    struct shards all;
    int count[3] = {0};
    struct uuid id = {{7}};
    set_up(&all, 3);
    for (int32_t p = 0; p < 300; p++) {
        int32_t shard = shard_of_partition(&all, id, p);
        assert_in_range(shard, 0, 2);
        assert_int_equal(shard, shard_of_partition(&all, id, p));
        count[shard]++;
        assert_int_equal(shard_of_internal(&all, p), p % 3);
    }
    for (int i = 0; i < 3; i++) {
        assert_in_range(count[i], 50, 150);
    }
    shards_finish(&all);
}

/* ---- requests */

static struct broker_kit *fresh(int32_t shards)
{
    static const char *const sets[] = {"offsets.topic.num.partitions=4",
                                       "group.initial.rebalance.delay.ms=3000", NULL};
    struct broker_kit *k = calloc(1, sizeof *k);
    broker_kit_init(k, 1, sets);
    k->shard_count = shards;
    assert_int_equal(broker_kit_start(k, false), OK);
    return k;
}

static void done(struct broker_kit *k)
{
    broker_kit_finish(k);
    free(k);
}

/* Sends it, and lets the connection's shard start it. */
static void create(struct broker_kit *k, struct sim_client *c, const char *name, int32_t timeout_ms)
{
    struct create_topics_request r;
    struct create_topics_request_topic t;
    create_topics_request_init(&r);
    create_topics_request_topic_init(&t);
    t.name = str_of(name);
    t.num_partitions = 8;
    t.replication_factor = 1;
    r.topics = &t;
    r.topics_count = 1;
    r.timeout_ms = timeout_ms;
    sim_client_ask(c, API_CREATE_TOPICS, 5, &r);
    sessions_run(&k->shard[c->conn.shard].sessions);
}

/* A change of topics goes to the first shard; its client's patience ends before it does. The answer
 * comes home ahead of the request, which stays whole until the change is over. */
static void an_answer_at_the_deadline_comes_ahead_of_its_request(void **state)
{
    (void)state;
    struct broker_kit *k = fresh(2);
    struct sim_client c;
    uint32_t id;
    sim_client_init(&c, k);
    sim_client_open(&c, 1);
    create(k, &c, "t", 100);
    assert_true(shard_deliver(&k->shards.list[0], 1));
    broker_kit_pass(k, 200); /* the disk does nothing meanwhile */
    assert_true(shard_deliver(&k->shards.list[1], 0));
    sessions_run(&k->shard[1].sessions);
    const struct create_topics_response *r = sim_client_take(&c, &id);
    assert_non_null(r);
    assert_int_equal(r->topics[0].error_code, KERR_REQUEST_TIMED_OUT);
    assert_int_equal(k->shard[1].sessions.request_count, 1);
    broker_kit_settle(k);
    assert_int_equal(k->shard[1].sessions.request_count, 0);
    const struct topic *t = meta_find(k->meta, STR("t"));
    assert_non_null(t);
    for (int32_t p = 0; p < 8; p++) { /* each where it belongs */
        assert_non_null(broker_kit_log(k, t, p));
    }
    sim_client_finish(&c);
    done(k);
}

/* Whatever of the way there and back it is on. */
static void a_request_that_is_away_outlives_its_connection(void **state)
{
    (void)state;
    for (int steps = 0; steps < 30; steps++) {
        struct broker_kit *k = fresh(3);
        struct sim_client c;
        sim_client_init(&c, k);
        sim_client_open(&c, 2);
        create(k, &c, "t", 30000);
        for (int i = 0; i < steps; i++) {
            broker_kit_step(k);
        }
        sim_client_close(&c);
        broker_kit_settle(k);
        assert_int_equal(k->shard[2].sessions.request_count, 0);
        assert_non_null(meta_find(k->meta, STR("t")));
        sim_client_finish(&c);
        done(k);
    }
}

/* A member waits for a rebalance at its group's shard: when its connection goes, the group's shard
 * is told, and lets go of it. */
static void who_waits_at_another_shard_is_let_go(void **state)
{
    (void)state;
    struct broker_kit *k = fresh(3);
    struct join_group_request r;
    struct join_group_request_protocol protocol;
    struct sim_client c;
    join_group_request_init(&r);
    join_group_request_protocol_init(&protocol);
    protocol.name = STR("range");
    r.group_id = STR("g");
    r.member_id = STR("");
    r.protocol_type = STR("consumer");
    r.session_timeout_ms = 10000;
    r.rebalance_timeout_ms = 60000;
    r.protocols = &protocol;
    r.protocols_count = 1;
    int32_t shard = coord_shard_of(k->coord, STR("g"));
    sim_client_init(&c, k);
    sim_client_open(&c, (shard + 1) % 3);
    sim_client_ask(&c, API_JOIN_GROUP, 3, &r); /* parked for the first rebalance's delay */
    broker_kit_settle(k);
    assert_non_null(coord_find(k->shard[shard].coord, STR("g")));
    assert_null(coord_find(k->shard[(shard + 1) % 3].coord, STR("g")));
    assert_int_equal(k->shard[c.conn.shard].sessions.request_count, 1);
    int32_t at = c.conn.shard;
    sim_client_close(&c);
    broker_kit_settle(k);
    assert_int_equal(k->shard[at].sessions.request_count, 0);
    sim_client_finish(&c);
    done(k);
}

static void run_disk(struct broker_kit *k, int32_t shard)
{
    log_manager_submit(k->shard[shard].m);
    sim_workers_drain(k->shard[shard].workers, BROKER_KIT_WORKERS, &k->logs.rng);
}

static void append(struct broker_kit *k, struct log *log, int32_t shard)
{
    struct log_kit_append a;
    log_kit_batch(&a, 1, 100, 1, k->logs.clock.wall_ms, -1, -1, -1);
    assert_int_equal(log_kit_append_to(log, &a), OK);
    run_disk(k, shard);
    log_kit_append_finish(&a);
}

/* What moves while the note about something earlier is on its way is told too: else the fetch would
 * sleep over it. */
static void a_fetch_of_another_shard_sleeps_over_nothing(void **state)
{
    (void)state;
    struct broker_kit *k = fresh(2);
    struct fetch_request r;
    struct fetch_request_topic topic;
    struct fetch_request_partition partition;
    struct sim_client c;
    uint32_t id;
    sim_client_init(&c, k);
    sim_client_open(&c, 0);
    create(k, &c, "t", 30000);
    broker_kit_settle(k);
    assert_non_null(sim_client_take(&c, &id));
    const struct topic *t = meta_find(k->meta, STR("t"));
    fetch_request_init(&r);
    fetch_request_topic_init(&topic);
    fetch_request_partition_init(&partition);
    while (topic_shard(t, partition.partition, &k->shards) != 1) {
        partition.partition++;
    }
    struct log *log = broker_kit_log(k, t, partition.partition);
    partition.partition_max_bytes = 1 << 20;
    topic.topic = STR("t");
    topic.partitions = &partition;
    topic.partitions_count = 1;
    r.topics = &topic;
    r.topics_count = 1;
    r.max_wait_ms = 100000;
    r.min_bytes = 400; /* three batches */
    sim_client_ask(&c, API_FETCH, 11, &r);
    broker_kit_settle(k);
    append(k, log, 1);
    assert_false(list_empty(&k->shards.list[0].inbox[1])); /* the note */
    append(k, log, 1);
    append(k, log, 1);
    assert_null(sim_client_take(&c, &id));
    broker_kit_settle(k);
    const struct fetch_response *a = sim_client_take(&c, &id);
    assert_non_null(a);
    assert_int_equal(a->topics[0].partitions[0].high_watermark, 3);
    assert_true(a->topics[0].partitions[0].records.len >= 400);
    sim_client_finish(&c);
    done(k);
}

/* ---- files */

struct names {
    char text[4096];
};

static void each_name(void *arg, const struct store_entry *entry)
{
    struct names *n = arg;
    size_t len = strlen(n->text);
    snprintf(n->text + len, sizeof n->text - len, "%.*s\n", STR_ARG(entry->name));
}

static struct names names_of(struct broker_kit *k)
{
    struct names n = {"\n"};
    struct store *store = sim_store_store(k->logs.sim);
    assert_int_equal(store->ops->list(store->ctx, "", each_name, &n), OK);
    return n;
}

static void each_shard_has_files_of_its_own_and_the_first_ones_have_no_number(void **state)
{
    (void)state;
    for (int32_t shards = 1; shards <= 2; shards++) {
        struct broker_kit *k = fresh(shards);
        struct sim_client c;
        sim_client_init(&c, k);
        sim_client_open(&c, 0);
        create(k, &c, "t", 30000);
        broker_kit_settle(k);
        for (int i = 0; i < 8; i++) {
            struct log_kit_append a;
            struct log *log = broker_kit_log(k, meta_find(k->meta, STR("t")), i);
            for (int n = 0; n < 2; n++) { /* what comes first is synced in its segment */
                log_kit_batch(&a, 1, 50, 1, k->logs.clock.wall_ms, -1, -1, -1);
                assert_int_equal(log_kit_append_to(log, &a), OK);
                broker_kit_settle(k);
                log_kit_append_finish(&a);
            }
        }
        sim_client_finish(&c);
        broker_kit_stop(k);
        struct names n = names_of(k);
        assert_non_null(strstr(n.text, "\nrivulet.journal.0\n"));
        assert_non_null(strstr(n.text, "\nrecovery-point-offset-checkpoint\n"));
        assert_int_equal(strstr(n.text, "\nrivulet.journal.1.0\n") != NULL, shards == 2);
        assert_int_equal(strstr(n.text, "\nrecovery-point-offset-checkpoint.1\n") != NULL,
                         shards == 2);
        assert_int_equal(broker_kit_start(k, true), OK);
        for (int i = 0; i < 8; i++) {
            struct log *log = broker_kit_log(k, meta_find(k->meta, STR("t")), i);
            assert_int_equal(log_high_watermark(log), 2);
        }
        done(k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_to_oneself_is_a_call),
        cmocka_unit_test(messages_keep_their_order_there_and_back),
        cmocka_unit_test(whoever_gets_a_message_is_woken),
        cmocka_unit_test(every_partition_has_a_shard_and_every_shard_partitions),
        cmocka_unit_test(an_answer_at_the_deadline_comes_ahead_of_its_request),
        cmocka_unit_test(a_request_that_is_away_outlives_its_connection),
        cmocka_unit_test(who_waits_at_another_shard_is_let_go),
        cmocka_unit_test(a_fetch_of_another_shard_sleeps_over_nothing),
        cmocka_unit_test(each_shard_has_files_of_its_own_and_the_first_ones_have_no_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

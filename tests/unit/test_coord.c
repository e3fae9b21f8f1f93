/* Groups on a shard: what was answered is lasting, what was refused changed nothing, and replaying
 * `__consumer_offsets` gives what was there. And the bytes of its records, which are Kafka's. */
#include "tests/kit/broker_kit.h"

#include "base/mem.h"
#include "broker/coord/records.h"
#include "broker/group/group.h"
#include "broker/log/internal.h"
#include "protocol/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct call {
    struct coord_call call;
    struct arena arena;
    int done;
};

static void on_done(struct coord_call *call)
{
    ((struct call *)(void *)call)->done++;
}

static struct broker_kit *fresh_with(const char *const *sets)
{
    struct broker_kit *k = mem_need(sizeof *k);
    broker_kit_init(k, 1, sets);
    assert_int_equal(broker_kit_start(k, false), OK);
    return k;
}

static struct broker_kit *fresh(void)
{
    static const char *const sets[] = {"offsets.topic.num.partitions=3", NULL};
    return fresh_with(sets);
}

static void done(struct broker_kit *k)
{
    broker_kit_finish(k);
    mem_free(k);
}

static void restart(struct broker_kit *k, int how) /* -1: clean; else a crash */
{
    if (how < 0) {
        broker_kit_stop(k);
    } else {
        broker_kit_crash(k, (enum sim_cut)how);
    }
    assert_int_equal(broker_kit_start(k, how < 0), OK);
}

static void submit(struct broker_kit *k, struct call *c, const char *group, struct group_event e)
{
    memset(c, 0, sizeof *c);
    arena_init(&c->arena, 1 << 20);
    c->call.done = on_done;
    c->call.arena = &c->arena;
    c->done = coord_submit(k->coord, str_of(group), &e, &c->call);
}

static enum group_error end(struct broker_kit *k, struct call *c)
{
    coord_forget(k->coord, &c->call);
    enum group_error e = c->done ? c->call.answer.error : GROUP_ERROR_COUNT;
    arena_finish(&c->arena);
    return e;
}

/* Commits without a member; GROUP_ERROR_COUNT: no answer came. */
static enum group_error commit(struct broker_kit *k, const char *group, const char *topic,
                               int64_t offset)
{
    struct call c;
    struct group_commit_offset o = {.topic = str_of(topic),
                                    .partition = 1,
                                    .offset = offset,
                                    .leader_epoch = -1,
                                    .metadata = STR("note")};
    submit(k, &c, group,
           (struct group_event){
               .kind = GROUP_EVENT_COMMIT,
               .commit = {.member_id = STR(""),
                          .generation = -1,
                          .retention_ms = -1,
                          .offsets = &o,
                          .offset_count = 1}
    });
    broker_kit_settle(k);
    assert_true(c.done <= 1);
    return end(k, &c);
}

static int64_t offset_of(struct broker_kit *k, const char *group, const char *topic)
{
    const struct group *g = coord_find(k->coord, str_of(group));
    const struct group_offset *o = g ? group_offset_find(g, str_of(topic), 1) : NULL;
    return o ? o->offset : -1;
}

static void topic_done(void *ctx, err e, struct topic *topic)
{
    (void)topic;
    *(err *)ctx = e;
}

static void create_topic(struct broker_kit *k, const char *name)
{
    static err result;
    struct buf text = {0};
    struct topic_spec spec = {.name = str_of(name), .partition_count = 2};
    result = ERR_COUNT;
    assert_int_equal(meta_create_topic(k->meta, &spec, &text, topic_done, &result), OK);
    broker_kit_settle(k);
    assert_int_equal(result, OK);
    buf_finish(&text);
}

static void delete_topic(struct broker_kit *k, const char *name)
{
    static err result;
    struct buf text = {0};
    struct uuid id = meta_find(k->meta, str_of(name))->id;
    result = ERR_COUNT;
    assert_int_equal(meta_delete_topic(k->meta, id, &text, topic_done, &result), OK);
    broker_kit_settle(k);
    assert_int_equal(result, OK);
    coord_topic_deleted(k->coord, str_of(name));
    broker_kit_settle(k);
    buf_finish(&text);
}

/* One member joins and assigns itself; its id is copied into `id`. */
static void join_alone(struct broker_kit *k, const char *group, char id[128], bool is_static)
{
    struct call c;
    struct group_protocol p = {
        .name = STR("range"), .metadata = {(const uint8_t *)"\0\1\0\0\0\0\377\377\377\377", 10}
    };
    struct group_event join = {
        .kind = GROUP_EVENT_JOIN,
        .join = {.member_id = STR(""),
                 .instance_id = is_static ? STR("i") : (struct str){0},
                 .client_id = STR("c"),
                 .client_host = STR("/h"),
                 .protocol_type = STR("consumer"),
                 .protocols = &p,
                 .protocol_count = 1,
                 .session_timeout_ms = 10000,
                 .rebalance_timeout_ms = 60000}
    };
    submit(k, &c, group, join);
    broker_kit_settle(k);
    assert_true(c.done);
    struct str got = c.call.answer.member_id;
    int32_t generation = c.call.answer.generation;
    assert_true(got.len < 128);
    snprintf(id, 128, "%.*s", STR_ARG(got));
    assert_int_equal(end(k, &c), GROUP_OK);
    struct group_assignment a = {
        .member_id = str_of(id), .assignment = {(const uint8_t *)"as", 2}
    };
    submit(k, &c, group,
           (struct group_event){
               .kind = GROUP_EVENT_SYNC,
               .sync = {.member_id = str_of(id),
                        .generation = generation,
                        .assignments = &a,
                        .assignment_count = 1}
    });
    broker_kit_settle(k);
    assert_int_equal(end(k, &c), GROUP_OK);
}

static enum group_error heartbeat(struct broker_kit *k, const char *group, const char *id)
{
    struct call c;
    submit(k, &c, group,
           (struct group_event){
               .kind = GROUP_EVENT_HEARTBEAT,
               .heartbeat = {.member_id = str_of(id),
                             .generation = coord_find(k->coord, str_of(group)) ? 1 : 0}
    });
    broker_kit_settle(k);
    return end(k, &c);
}

/* ---- */

static void a_commit_is_answered_when_it_is_durable(void **state)
{
    (void)state;
    struct broker_kit *k = fresh();
    create_topic(k, "t");
    assert_int_equal(commit(k, "g", "t", 3), GROUP_OK);
    struct call c;
    struct group_commit_offset o = {
        .topic = STR("t"), .partition = 1, .offset = 9, .leader_epoch = -1, .metadata = STR("")};
    submit(k, &c, "g",
           (struct group_event){
               .kind = GROUP_EVENT_COMMIT,
               .commit = {.member_id = STR(""),
                          .generation = -1,
                          .retention_ms = -1,
                          .offsets = &o,
                          .offset_count = 1}
    });
    assert_false(c.done);
    log_manager_submit(k->logs.m);
    while (sim_worker_run(&k->logs.writer) || sim_worker_complete(&k->logs.writer)) {
    }
    assert_false(c.done); /* written, not synced */
    assert_int_equal(offset_of(k, "g", "t"), 3);
    broker_kit_settle(k);
    assert_int_equal(c.done, 1);
    assert_int_equal(end(k, &c), GROUP_OK);
    assert_int_equal(offset_of(k, "g", "t"), 9);
    done(k);
}

static void offsets_and_members_are_there_after_every_restart(void **state)
{
    (void)state;
    struct broker_kit *k = fresh();
    char id[128];
    create_topic(k, "t");
    for (int i = 0; i < 20; i++) { /* in all partitions of the offsets topic */
        char group[32];
        snprintf(group, sizeof group, "g%d", i);
        assert_int_equal(commit(k, group, "t", i), GROUP_OK);
    }
    join_alone(k, "members", id, false);
    for (int how = -1; how <= SIM_CUT_TEAR; how++) {
        restart(k, how);
        assert_int_equal(coord_group_count(k->coord), 21);
        for (int i = 0; i < 20; i++) {
            char group[32];
            snprintf(group, sizeof group, "g%d", i);
            assert_int_equal(offset_of(k, group, "t"), i);
        }
        assert_int_equal(heartbeat(k, "members", id), GROUP_OK);
    }
    done(k);
}

static void a_member_that_is_silent_is_expelled_also_after_a_restart(void **state)
{
    (void)state;
    struct broker_kit *k = fresh();
    char id[128];
    join_alone(k, "g", id, false);
    broker_kit_advance(k, 9000);
    assert_int_equal(heartbeat(k, "g", id), GROUP_OK);
    broker_kit_advance(k, 9000);
    assert_int_equal(heartbeat(k, "g", id), GROUP_OK);
    restart(k, SIM_KILL);
    assert_int_equal(heartbeat(k, "g", id), GROUP_OK);
    broker_kit_advance(k, 10001);
    assert_int_equal(heartbeat(k, "g", id), GROUP_UNKNOWN_MEMBER);
    done(k);
}

static void a_refused_append_changes_nothing(void **state)
{
    (void)state;
    struct broker_kit *k = fresh();
    create_topic(k, "t");
    assert_int_equal(commit(k, "g", "t", 3), GROUP_OK);
    sim_store_set_limit(k->logs.sim, sim_store_used(k->logs.sim));
    assert_int_equal(commit(k, "g", "t", 4), GROUP_NOT_AVAILABLE);
    assert_int_equal(offset_of(k, "g", "t"), 3);
    assert_int_equal(commit(k, "new", "t", 4), GROUP_NOT_AVAILABLE);
    assert_null(coord_find(k->coord, STR("new"))); /* and nothing is kept of it */
    sim_store_set_limit(k->logs.sim, -1);
    broker_kit_advance(k, 10000);
    assert_int_equal(commit(k, "g", "t", 5), GROUP_OK);
    restart(k, SIM_CUT_LOSE);
    assert_int_equal(offset_of(k, "g", "t"), 5);
    assert_null(coord_find(k->coord, STR("new")));
    done(k);
}

static void an_offsets_topic_that_cannot_be_made_refuses_and_is_tried_again(void **state)
{
    (void)state;
    struct broker_kit *k = fresh();
    create_topic(k, "t");
    sim_store_set_limit(k->logs.sim, sim_store_used(k->logs.sim));
    assert_int_equal(commit(k, "g", "t", 3), GROUP_NOT_AVAILABLE);
    assert_int_equal(coord_group_count(k->coord), 0);
    sim_store_set_limit(k->logs.sim, -1);
    broker_kit_advance(k, 10000);
    assert_int_equal(commit(k, "g", "t", 3), GROUP_OK);
    restart(k, SIM_CUT_LOSE);
    assert_int_equal(offset_of(k, "g", "t"), 3);
    done(k);
}

static void a_commit_larger_than_a_batch_may_be_is_too_large(void **state)
{
    (void)state;
    static const char *const sets[] = {"offsets.topic.num.partitions=1", "message.max.bytes=200",
                                       NULL};
    struct broker_kit *k = fresh_with(sets);
    create_topic(k, "t");
    struct call c;
    struct group_commit_offset o[8];
    for (int i = 0; i < 8; i++) {
        o[i] = (struct group_commit_offset){.topic = STR("t"),
                                            .partition = i,
                                            .offset = 9,
                                            .leader_epoch = -1,
                                            .metadata = STR("")};
    }
    struct group_event e = {
        .kind = GROUP_EVENT_COMMIT,
        .commit = {.member_id = STR(""),
                   .generation = -1,
                   .retention_ms = -1,
                   .offsets = o,
                   .offset_count = 8}
    };
    submit(k, &c, "g", e);
    broker_kit_settle(k);
    assert_int_equal(end(k, &c), GROUP_TOO_LARGE);
    e.commit.offset_count = 1;
    submit(k, &c, "g", e);
    broker_kit_settle(k);
    assert_int_equal(end(k, &c), GROUP_OK);
    done(k);
}

/* ---- memory */

static enum group_error commit_nth(struct broker_kit *k, int n)
{
    char topic[16];
    snprintf(topic, sizeof topic, "t%03d", n);
    return commit(k, n % 2 ? "g" : "h", topic, n);
}

static enum group_error join_first(struct broker_kit *k, const char *group, size_t metadata_size)
{
    static const uint8_t metadata[1000];
    struct group_protocol protocol = {
        STR("range"), {metadata, metadata_size}
    };
    struct call c;
    submit(k, &c, group,
           (struct group_event){
               .kind = GROUP_EVENT_JOIN,
               .join = {.member_id = STR(""),
                        .client_id = STR("c"),
                        .client_host = STR("/h"),
                        .protocol_type = STR("consumer"),
                        .protocols = &protocol,
                        .protocol_count = 1,
                        .session_timeout_ms = 10000}
    });
    broker_kit_settle(k);
    return end(k, &c);
}

static void groups_take_the_memory_that_they_may_and_no_byte_more(void **state)
{
    (void)state;
    enum { COUNT = 40 };
    struct broker_kit *k = fresh();
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(commit_nth(k, i), GROUP_OK);
    }
    int64_t weight = (int64_t)coord_weight(k->coord);
    assert_true(weight > 4096);
    done(k);
    for (int less = 0; less < 2; less++) {
        k = fresh();
        k->config->groups_memory_max_bytes = weight - less;
        for (int i = 0; i < COUNT - less; i++) {
            assert_int_equal(commit_nth(k, i), GROUP_OK);
        }
        assert_int_equal(commit_nth(k, COUNT - less), GROUP_NOT_AVAILABLE);
        assert_int_equal(offset_of(k, "g", "t039"), less ? -1 : 39);
        assert_int_equal(join_first(k, "g", 0), GROUP_FULL);
        assert_int_equal(join_first(k, "other", 0), GROUP_FULL);
        assert_int_equal(commit(k, "other", "t", 1), GROUP_NOT_AVAILABLE);
        assert_null(coord_find(k->coord, STR("other")));
        assert_int_equal(commit(k, "g", "t001", 77), GROUP_OK); /* what is there moves on */
        done(k);
    }
}

static void what_is_stored_is_loaded_however_much_memory_it_takes(void **state)
{
    (void)state;
    struct broker_kit *k = fresh();
    char id[128];
    join_alone(k, "member", id, false);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(commit_nth(k, i), GROUP_OK);
    }
    size_t weight = coord_weight(k->coord);
    k->config->groups_memory_max_bytes = 4096;
    restart(k, SIM_CUT_LOSE);
    for (int i = 0; i < 40; i++) {
        char topic[16];
        snprintf(topic, sizeof topic, "t%03d", i);
        assert_int_equal(offset_of(k, i % 2 ? "g" : "h", topic), i);
    }
    assert_int_equal(map_count(&coord_find(k->coord, STR("member"))->members), 1);
    assert_int_equal(coord_weight(k->coord), weight);
    assert_int_equal(commit_nth(k, 1), GROUP_OK);
    assert_int_equal(commit_nth(k, 41), GROUP_NOT_AVAILABLE);
    k->config->groups_memory_max_bytes = (int64_t)weight + 1000;
    assert_int_equal(commit_nth(k, 41), GROUP_OK);
    done(k);
}

static void assignments_count_twice_and_one_byte_more_is_refused(void **state)
{
    (void)state;
    static const uint8_t bytes[2000];
    struct broker_kit *k = fresh();
    char id[128];
    assert_int_equal(join_first(k, "g", 100), GROUP_OK);
    const struct group *g = coord_find(k->coord, STR("g"));
    snprintf(id, sizeof id, "%.*s", STR_ARG(g->leader));
    for (int more = 1; more >= 0; more--) { /* the member's, and the lasting one */
        struct call c;
        struct group_assignment a = {
            str_of(id), {bytes, sizeof bytes}
        };
        k->config->groups_memory_max_bytes =
            (int64_t)(coord_weight(k->coord) + 2 * sizeof bytes) - more;
        assert_int_equal(g->state, GROUP_COMPLETING);
        submit(k, &c, "g",
               (struct group_event){
                   .kind = GROUP_EVENT_SYNC,
                   .sync = {.member_id = str_of(id),
                            .generation = g->generation,
                            .assignments = &a,
                            .assignment_count = 1}
        });
        broker_kit_settle(k);
        assert_int_equal(end(k, &c), more ? GROUP_NOT_AVAILABLE : GROUP_OK);
    }
    assert_int_equal(g->state, GROUP_STABLE);
    done(k);
}

static void offsets_of_a_deleted_topic_go_with_it(void **state)
{
    (void)state;
    struct broker_kit *k = fresh();
    create_topic(k, "t");
    create_topic(k, "u");
    assert_int_equal(commit(k, "g", "t", 3), GROUP_OK);
    assert_int_equal(commit(k, "g", "u", 4), GROUP_OK);
    assert_int_equal(commit(k, "only", "t", 5), GROUP_OK);
    delete_topic(k, "t");
    create_topic(k, "t");
    assert_int_equal(offset_of(k, "g", "t"), -1);
    assert_int_equal(offset_of(k, "g", "u"), 4);
    assert_null(coord_find(k->coord, STR("only")));
    restart(k, SIM_CUT_LOSE);
    assert_int_equal(offset_of(k, "g", "t"), -1);
    assert_int_equal(offset_of(k, "g", "u"), 4);
    assert_null(coord_find(k->coord, STR("only")));
    done(k);
}

/* The disk was full when the topic went. */
static void offsets_of_a_deleted_topic_go_later_when_they_could_not_go_at_once(void **state)
{
    (void)state;
    struct broker_kit *k = fresh();
    create_topic(k, "t");
    assert_int_equal(commit(k, "g", "t", 3), GROUP_OK);
    struct buf text = {0};
    static err result;
    assert_int_equal(
        meta_delete_topic(k->meta, meta_find(k->meta, STR("t"))->id, &text, topic_done, &result),
        OK);
    broker_kit_settle(k);
    buf_finish(&text);
    sim_store_set_limit(k->logs.sim, sim_store_used(k->logs.sim));
    coord_topic_deleted(k->coord, STR("t"));
    broker_kit_settle(k);
    assert_int_equal(offset_of(k, "g", "t"), 3);
    sim_store_set_limit(k->logs.sim, -1);
    broker_kit_advance(k, 20 * 60 * 1000);
    assert_int_equal(offset_of(k, "g", "t"), -1);
    done(k);
}

static void offsets_expire_when_their_time_is_over_and_the_group_is_empty(void **state)
{
    (void)state;
    static const char *const sets[] = {"offsets.topic.num.partitions=1",
                                       "offsets.retention.minutes=60", NULL};
    struct broker_kit *k = fresh_with(sets);
    create_topic(k, "t");
    assert_int_equal(commit(k, "g", "t", 3), GROUP_OK);
    broker_kit_advance(k, 59 * 60000);
    assert_int_equal(offset_of(k, "g", "t"), 3);
    restart(k, -1);
    assert_int_equal(offset_of(k, "g", "t"), 3);
    broker_kit_advance(k, 30 * 60000);
    assert_null(coord_find(k->coord, STR("g")));
    restart(k, SIM_CUT_LOSE);
    assert_null(coord_find(k->coord, STR("g")));
    done(k);
}

static void an_idle_coordinator_arms_no_timer(void **state)
{
    (void)state;
    struct broker_kit *k = fresh();
    create_topic(k, "t");
    assert_int_equal(commit(k, "g", "t", 3), GROUP_OK); /* kept for ever */
    broker_kit_advance(k, 3600000);
    assert_true(timers_next_ms(&k->logs.timers) == INT64_MAX);
    done(k);
}

static void a_stopping_coordinator_answers_who_waits(void **state)
{
    (void)state;
    struct broker_kit *k = fresh();
    char id[128];
    join_alone(k, "g", id, false);
    struct call c;
    struct group_protocol p = {
        .name = STR("range"), .metadata = {(const uint8_t *)"", 0}
    };
    submit(k, &c, "g",
           (struct group_event){
               .kind = GROUP_EVENT_JOIN,
               .join = {.member_id = STR(""),
                        .client_id = STR("c"),
                        .client_host = STR("/h"),
                        .protocol_type = STR("consumer"),
                        .protocols = &p,
                        .protocol_count = 1,
                        .session_timeout_ms = 10000,
                        .rebalance_timeout_ms = 60000}
    });
    broker_kit_settle(k);
    assert_false(c.done); /* the other member is waited for */
    coord_stop(k->coord);
    assert_int_equal(c.done, 1);
    assert_int_equal(end(k, &c), GROUP_WRONG_COORDINATOR);
    assert_int_equal(commit(k, "h", "t", 1), GROUP_WRONG_COORDINATOR);
    done(k);
}

static void a_partition_that_cannot_be_read_refuses_its_groups_and_no_others(void **state)
{
    (void)state;
    struct broker_kit *k = fresh();
    create_topic(k, "t");
    char path[64];
    int32_t bad = coord_partition_of(STR("g0"), 3);
    for (int i = 0; i < 9; i++) {
        char group[32];
        snprintf(group, sizeof group, "g%d", i);
        assert_int_equal(commit(k, group, "t", i), GROUP_OK);
    }
    broker_kit_stop(k);
    snprintf(path, sizeof path, COORD_TOPIC "-%d/00000000000000000000.log", bad);
    sim_store_flip(k->logs.sim, path, 70, 1);
    assert_int_equal(broker_kit_start(k, true), OK);
    for (int i = 0; i < 9; i++) {
        char group[32];
        snprintf(group, sizeof group, "g%d", i);
        bool refused = coord_partition_of(str_of(group), 3) == bad;
        assert_int_equal(coord_check(k->coord, str_of(group)), refused ? GROUP_LOADING : GROUP_OK);
        assert_int_equal(offset_of(k, group, "t"), refused ? -1 : i);
        assert_int_equal(commit(k, group, "t", 100), refused ? GROUP_LOADING : GROUP_OK);
    }
    done(k);
}

/* A power cut at every operation of a few commits: each that was answered is there, and the offset
 * never goes back. */
static void a_power_cut_at_any_operation_keeps_every_answered_commit(void **state)
{
    (void)state;
    for (int how = SIM_KILL; how <= SIM_CUT_TEAR; how++) {
        for (uint64_t at = 0;; at++) {
            struct broker_kit *k = fresh();
            create_topic(k, "t");
            int64_t answered = -1;
            int64_t asked = -1;
            sim_store_count_from_zero(k->logs.sim);
            sim_store_cut_at(k->logs.sim, at, (enum sim_cut)how);
            for (int64_t offset = 0; offset < 4 && !sim_store_is_down(k->logs.sim); offset++) {
                asked = offset;
                if (commit(k, "g", "t", offset) == GROUP_OK) {
                    answered = offset;
                }
            }
            bool finished = !sim_store_is_down(k->logs.sim);
            restart(k, how);
            int64_t found = offset_of(k, "g", "t");
            assert_true(found >= answered && found <= asked);
            restart(k, SIM_CUT_LOSE);
            assert_int_equal(offset_of(k, "g", "t"), found);
            done(k);
            if (finished) {
                assert_int_equal(answered, 3);
                break;
            }
        }
    }
}

/* ---- bytes */

static void expect_record(const struct group_record *r, const char *key, size_t key_size,
                          const char *value, size_t value_size)
{
    struct batch_builder b;
    struct writer w;
    struct buf bytes = {0};
    struct batch_scratch scratch = {0};
    struct batch_iterator it;
    struct record record;
    batch_builder_init(&b);
    writer_init(&w, SIZE_MAX);
    assert_int_equal(coord_record_add(&b, &w, STR("gr"), r, 1), OK);
    assert_int_equal(batch_builder_seal(&b, &batch_seal_plain, &bytes), OK);
    assert_int_equal(batch_iterator_init(&it, bytes.ptr, bytes.len, SIZE_MAX, &scratch), OK);
    assert_int_equal(batch_iterator_next(&it, &record), OK);
    assert_int_equal(record.key.len, key_size);
    assert_memory_equal(record.key.ptr, key, key_size);
    assert_true(!record.value.ptr == !value);
    if (value) {
        assert_int_equal(record.value.len, value_size);
        assert_memory_equal(record.value.ptr, value, value_size);
    }
    batch_scratch_finish(&scratch);
    buf_finish(&bytes);
    batch_builder_finish(&b);
    writer_finish(&w);
}

#define EXPECT(r, key, value) expect_record(r, key, sizeof(key) - 1, value, sizeof(value) - 1)

static void offset_records_are_byte_for_byte_as_kafka_writes_them(void **state)
{
    (void)state;
    /* int16 1, group, topic, int32 partition */
    static const char offset_key[] = "\0\1"
                                     "\0\2gr"
                                     "\0\1t"
                                     "\0\0\0\7";
    struct group_record r = {.kind = GROUP_RECORD_OFFSET,
                             .topic = STR("t"),
                             .partition = 7,
                             .offset = 258,
                             .leader_epoch = 5,
                             .offset_metadata = STR("no"),
                             .commit_ms = 3,
                             .expire_ms = -1};
    /* version 3: int64 offset, int32 leader epoch, metadata, int64 commit time */
    EXPECT(&r, offset_key,
           "\0\3"
           "\0\0\0\0\0\0\1\2"
           "\0\0\0\5"
           "\0\2no"
           "\0\0\0\0\0\0\0\3");
    /* version 1: int64 offset, metadata, int64 commit time, int64 expire time */
    r.expire_ms = 4;
    EXPECT(&r, offset_key,
           "\0\1"
           "\0\0\0\0\0\0\1\2"
           "\0\2no"
           "\0\0\0\0\0\0\0\3"
           "\0\0\0\0\0\0\0\4");
    /* version 4 is flexible: compact string, and the topic's id in tagged field 0 */
    r.expire_ms = -1;
    r.topic_id = (struct uuid){
        {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
    };
    EXPECT(&r, offset_key,
           "\0\4"
           "\0\0\0\0\0\0\1\2"
           "\0\0\0\5"
           "\3no"
           "\0\0\0\0\0\0\0\3"
           "\1"
           "\0\x10"
           "\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17\20");
    r.kind = GROUP_RECORD_OFFSET_TOMBSTONE;
    expect_record(&r, offset_key, sizeof offset_key - 1, NULL, 0);
}

static void group_records_are_byte_for_byte_as_kafka_writes_them(void **state)
{
    (void)state;
    struct group_member_record member = {
        .id = STR("m"),
        .instance_id = STR("i"),
        .client_id = STR("c"),
        .client_host = STR("/h"),
        .rebalance_timeout_ms = 6,
        .session_timeout_ms = 7,
        .subscription = {(const uint8_t *)"sub", 3},
        .assignment = {(const uint8_t *)"as",  2}
    };
    struct group_metadata m = {.protocol_type = STR("consumer"),
                               .generation = 2,
                               .protocol = STR("range"),
                               .leader = STR("m"),
                               .state_ms = 9,
                               .members = &member,
                               .member_count = 1};
    struct group_record g = {.kind = GROUP_RECORD_METADATA, .metadata = &m};
    static const char group_key[] = "\0\2"
                                    "\0\2gr";
    /* version 3: type, generation, protocol, leader, state time, members with id, instance, client,
     * host, rebalance and session timeout, subscription, assignment */
    EXPECT(&g, group_key,
           "\0\3"
           "\0\10consumer"
           "\0\0\0\2"
           "\0\5range"
           "\0\1m"
           "\0\0\0\0\0\0\0\11"
           "\0\0\0\1"
           "\0\1m"
           "\0\1i"
           "\0\1c"
           "\0\2/h"
           "\0\0\0\6"
           "\0\0\0\7"
           "\0\0\0\3sub"
           "\0\0\0\2as");
    g.kind = GROUP_RECORD_METADATA_TOMBSTONE;
    expect_record(&g, group_key, sizeof group_key - 1, NULL, 0);
}

static void groups_are_in_the_partition_that_kafka_chooses(void **state)
{
    (void)state;
    assert_int_equal(coord_partition_of(STR("hello"), 50), 99162322 % 50);
    assert_int_equal(coord_partition_of(STR(""), 50), 0);
    assert_int_equal(coord_partition_of(STR("polygenelubricants"), 50), 0); /* INT32_MIN */
    for (int i = 0; i < 1000; i++) {
        char text[32];
        snprintf(text, sizeof text, "group-%d", i);
        int32_t p = coord_partition_of(str_of(text), 50);
        assert_true(p >= 0 && p < 50);
    }
}

/* ---- what a start reads ---- */

struct said {
    long long records; /* that the last start replayed */
    long long ms;
    long long cleanings;
};

static void listen_to(void *ctx, const char *line, size_t size)
{
    struct said *s = ctx;
    char text[400];
    snprintf(text, sizeof text, "%.*s", (int)size, line);
    const char *at = strstr(text, "groups_loaded");
    if (at && (at = strstr(at, "records="))) {
        s->records = strtoll(at + 8, NULL, 10);
        at = strstr(at, "ms=");
        s->ms = at ? strtoll(at + 3, NULL, 10) : -1;
    }
    s->cleanings += strstr(text, "log_cleaned") != NULL;
}

static void a_start_reads_what_the_commits_have_left_and_not_their_history(void **state)
{
    (void)state;
    enum { COMMITS = 100000, GROUPS = 200 };
    struct broker_kit *k = fresh_with(NULL);
    struct said said = {.records = -1};
    k->logs.diag.write = listen_to;
    k->logs.diag.ctx = &said;
    for (int i = 0; i < COMMITS; i++) {
        char group[32];
        snprintf(group, sizeof group, "group-%d", i % GROUPS);
        assert_int_equal(commit(k, group, "orders", i), GROUP_OK);
        if (i % 1000 == 999) {
            broker_kit_advance(k, 1000);
        }
    }
    broker_kit_advance(k, 5000);
    int64_t bytes = 0;
    int32_t segments = 0;
    for (int32_t p = 0; p < 50; p++) {
        struct uuid id = meta_find(k->meta, STR(COORD_TOPIC))->id;
        struct log *log = log_manager_find(k->logs.m, id, p);
        segments += log->segment_count;
        bytes += log_size_bytes(log);
    }
    for (int how = -1; how <= SIM_CUT_TEAR; how++) {
        restart(k, how);
        for (int i = COMMITS - GROUPS; i < COMMITS; i++) {
            char group[32];
            snprintf(group, sizeof group, "group-%d", i % GROUPS);
            assert_int_equal(offset_of(k, group, "orders"), i);
        }
    }
    print_message("%d commits in %d groups: %d segments, %lld bytes, %lld records replayed in %lld "
                  "ms, %lld cleanings\n",
                  COMMITS, GROUPS, segments, (long long)bytes, said.records, said.ms,
                  said.cleanings);
    assert_true(said.cleanings > 0);
    assert_true(segments <= 50 * 4);
    assert_true(said.records < COMMITS / 3);
    assert_true(bytes < 50 * 2 * 65536);
    done(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_commit_is_answered_when_it_is_durable),
        cmocka_unit_test(offsets_and_members_are_there_after_every_restart),
        cmocka_unit_test(a_member_that_is_silent_is_expelled_also_after_a_restart),
        cmocka_unit_test(a_refused_append_changes_nothing),
        cmocka_unit_test(an_offsets_topic_that_cannot_be_made_refuses_and_is_tried_again),
        cmocka_unit_test(a_commit_larger_than_a_batch_may_be_is_too_large),
        cmocka_unit_test(groups_take_the_memory_that_they_may_and_no_byte_more),
        cmocka_unit_test(what_is_stored_is_loaded_however_much_memory_it_takes),
        cmocka_unit_test(assignments_count_twice_and_one_byte_more_is_refused),
        cmocka_unit_test(offsets_of_a_deleted_topic_go_with_it),
        cmocka_unit_test(offsets_of_a_deleted_topic_go_later_when_they_could_not_go_at_once),
        cmocka_unit_test(offsets_expire_when_their_time_is_over_and_the_group_is_empty),
        cmocka_unit_test(an_idle_coordinator_arms_no_timer),
        cmocka_unit_test(a_stopping_coordinator_answers_who_waits),
        cmocka_unit_test(a_partition_that_cannot_be_read_refuses_its_groups_and_no_others),
        cmocka_unit_test(a_power_cut_at_any_operation_keeps_every_answered_commit),
        cmocka_unit_test(a_start_reads_what_the_commits_have_left_and_not_their_history),
        cmocka_unit_test(offset_records_are_byte_for_byte_as_kafka_writes_them),
        cmocka_unit_test(group_records_are_byte_for_byte_as_kafka_writes_them),
        cmocka_unit_test(groups_are_in_the_partition_that_kafka_chooses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

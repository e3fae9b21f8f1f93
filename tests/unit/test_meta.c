/* Topics, their settings and producer-id blocks on the simulated store: what was answered is there
 * after any restart, what was refused never is. */
#include "tests/kit/broker_kit.h"

#include "base/mem.h"
#include "broker/log/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct answer {
    int count;
    err e;
    struct topic *topic;
};

static void on_done(void *ctx, err e, struct topic *topic)
{
    struct answer *a = ctx;
    a->count++;
    a->e = e;
    a->topic = topic;
}

static struct broker_kit *kit(void)
{
    static const char *const sets[] = {"num.partitions=2", "rivulet.partitions.max=20",
                                       "rivulet.topics.max=6", NULL};
    struct broker_kit *k = mem_need(sizeof *k);
    broker_kit_init(k, 1, sets);
    return k;
}

static struct broker_kit *fresh(void)
{
    struct broker_kit *k = kit();
    assert_int_equal(broker_kit_start(k, false), OK);
    return k;
}

static void done(struct broker_kit *k)
{
    broker_kit_finish(k);
    mem_free(k);
}

/* What came of it, after all that can happen has. A process that has ended answers nobody. */
static struct answer last; /* outlives the call: an answer may come with the end of the kit */

static err outcome(struct broker_kit *k, err submitted, struct buf *text)
{
    assert_int_equal(last.count, 0); /* never from inside of the call */
    buf_finish(text);
    if (submitted) {
        return submitted;
    }
    broker_kit_settle(k);
    if (sim_store_is_down(k->logs.sim) && last.count == 0) {
        return ERR_IO;
    }
    assert_int_equal(last.count, 1);
    return last.e;
}

static err create(struct broker_kit *k, const char *name, int32_t partitions,
                  const struct config_pair *pairs, int32_t count)
{
    struct buf text = {0};
    struct topic_spec spec = {.name = str_of(name),
                              .partition_count = partitions,
                              .overrides = pairs,
                              .override_count = count};
    last = (struct answer){0};
    err e = meta_create_topic(k->meta, &spec, &text, on_done, &last);
    assert_true(!e || text.len > 0); /* a refusal says why */
    e = outcome(k, e, &text);
    assert_true(!e == (last.topic != NULL));
    return e;
}

static err drop(struct broker_kit *k, const char *name)
{
    struct buf text = {0};
    const struct topic *t = meta_find(k->meta, str_of(name));
    assert_non_null(t);
    last = (struct answer){0};
    return outcome(k, meta_delete_topic(k->meta, t->id, &text, on_done, &last), &text);
}

static err alter(struct broker_kit *k, const char *name, int32_t version, const char *setting,
                 const char *value)
{
    struct buf text = {0};
    struct config_pair pair = {str_of(setting), str_of(value)};
    const struct topic *t = meta_find(k->meta, str_of(name));
    assert_non_null(t);
    last = (struct answer){0};
    err e = meta_alter_topic(k->meta, t->id, version ? version : t->version, &pair, 1, &text,
                             on_done, &last);
    return outcome(k, e, &text);
}

static err add(struct broker_kit *k, const char *name, int32_t version, int32_t count)
{
    struct buf text = {0};
    const struct topic *t = meta_find(k->meta, str_of(name));
    assert_non_null(t);
    last = (struct answer){0};
    err e = meta_add_partitions(k->meta, t->id, version ? version : t->version, count, &text,
                                on_done, &last);
    assert_true(!e || text.len > 0); /* a refusal says why */
    return outcome(k, e, &text);
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

static struct log *log_of(struct broker_kit *k, const char *name, int32_t partition)
{
    const struct topic *t = meta_find(k->meta, str_of(name));
    return t ? log_manager_find(k->logs.m, t->id, partition) : NULL;
}

static void a_topic_is_there_with_its_logs_over_every_restart(void **state)
{
    (void)state;
    struct broker_kit *k = fresh();
    assert_int_equal(create(k, "t", 3, NULL, 0), OK);
    struct uuid id = meta_find(k->meta, STR("t"))->id;
    for (int how = -1; how <= SIM_CUT_TEAR; how++) {
        restart(k, how);
        const struct topic *t = meta_find(k->meta, STR("t"));
        assert_non_null(t);
        assert_true(uuid_eq(t->id, id));
        assert_ptr_equal(meta_find_id(k->meta, id), t);
        assert_int_equal(t->partition_count, 3);
        for (int32_t p = 0; p < 3; p++) {
            assert_non_null(log_of(k, "t", p));
        }
        assert_null(log_of(k, "t", 3));
    }
    done(k);
}

static void names_are_checked_and_collide_as_in_kafka(void **state)
{
    (void)state;
    struct broker_kit *k = fresh();
    char longest[251];
    memset(longest, 'a', sizeof longest);
    longest[250] = 0;
    assert_int_equal(create(k, longest, 1, NULL, 0), ERR_INVALID);
    longest[249] = 0;
    assert_int_equal(create(k, longest, 1, NULL, 0), OK);
    static const char *const bad[] = {"", ".", "..", "a b", "a/b", "\xC3\xA9", "a:b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(create(k, bad[i], 1, NULL, 0), ERR_INVALID);
    }
    assert_int_equal(create(k, "a.b", 1, NULL, 0), OK);
    assert_int_equal(create(k, "a.b", 1, NULL, 0), ERR_EXISTS);
    assert_int_equal(create(k, "a_b", 1, NULL, 0), ERR_INVALID);
    assert_int_equal(drop(k, "a.b"), OK);
    assert_int_equal(create(k, "a_b", 1, NULL, 0), OK);
    done(k);
}

static void limits_are_named_and_given_back_by_deletions(void **state)
{
    (void)state;
    struct broker_kit *k = fresh();
    assert_int_equal(create(k, "t0", 0, NULL, 0), ERR_RANGE);
    assert_int_equal(create(k, "t0", -2, NULL, 0), ERR_RANGE);
    assert_int_equal(create(k, "t0", 21, NULL, 0), ERR_LIMIT);
    assert_int_equal(create(k, "t0", 20, NULL, 0), OK);
    assert_int_equal(create(k, "t1", 1, NULL, 0), ERR_LIMIT);
    assert_int_equal(drop(k, "t0"), OK);
    for (int i = 0; i < 6; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", i);
        assert_int_equal(create(k, name, -1, NULL, 0), OK);
        assert_int_equal(meta_find(k->meta, str_of(name))->partition_count, 2);
    }
    assert_int_equal(create(k, "t6", 1, NULL, 0), ERR_LIMIT);
    restart(k, -1);
    assert_int_equal(create(k, "t6", 1, NULL, 0), ERR_LIMIT);
    assert_int_equal(meta_topic_count(k->meta), 6);
    for (int32_t i = 1; i < 6; i++) {
        assert_true(str_cmp(meta_topic_at(k->meta, i - 1)->name, meta_topic_at(k->meta, i)->name) <
                    0);
    }
    done(k);
}

static void append_to(struct broker_kit *k, const char *name)
{
    struct log_kit_append a;
    log_kit_batch(&a, 1, 10, 1, k->logs.clock.wall_ms, -1, -1, -1);
    assert_int_equal(log_append(log_of(k, name, 0), &a.a), OK);
    broker_kit_settle(k);
    log_kit_append_finish(&a);
}

static void a_topic_made_again_is_another_one_and_empty(void **state)
{
    (void)state;
    for (int how = -2; how <= SIM_CUT_TEAR; how++) { /* -2: without a restart between */
        struct broker_kit *k = fresh();
        assert_int_equal(create(k, "t", 1, NULL, 0), OK);
        struct uuid id = meta_find(k->meta, STR("t"))->id;
        append_to(k, "t");
        assert_int_equal(drop(k, "t"), OK);
        assert_null(meta_find(k->meta, STR("t")));
        assert_null(meta_find_id(k->meta, id));
        if (how >= -1) {
            restart(k, how);
        }
        assert_null(meta_find(k->meta, STR("t")));
        assert_int_equal(create(k, "t", 1, NULL, 0), OK);
        assert_false(uuid_eq(meta_find(k->meta, STR("t"))->id, id));
        assert_int_equal(log_end_offset(log_of(k, "t", 0)), 0);
        restart(k, SIM_CUT_LOSE);
        assert_int_equal(log_end_offset(log_of(k, "t", 0)), 0);
        done(k);
    }
}

static void on_deleted(struct log_deletion *d)
{
    d->result = OK;
    d->offset = -1;
}

/* What the checkpoints of the data directory say of a name (recovery point, start) is of the topic
 * that had it when they were written, not of one that is made under it later. */
static void a_topic_made_again_inherits_nothing(void **state)
{
    (void)state;
    for (int how = -2; how <= SIM_CUT_TEAR; how++) { /* -2: without a restart between */
        struct broker_kit *k = fresh();
        struct log_deletion d = {.offset = 7, .done = on_deleted};
        assert_int_equal(create(k, "t", 1, NULL, 0), OK);
        for (int i = 0; i < 20; i++) {
            append_to(k, "t");
        }
        assert_int_equal(log_delete_records(log_of(k, "t", 0), &d), OK);
        broker_kit_settle(k);
        assert_int_equal(d.offset, -1);
        restart(k, -1); /* a checkpoint of everything */
        assert_int_equal(log_start_offset(log_of(k, "t", 0)), 7);
        assert_int_equal(drop(k, "t"), OK);
        if (how >= -1) {
            restart(k, how);
        }
        assert_int_equal(create(k, "t", 1, NULL, 0), OK);
        for (int i = 0; i < 10; i++) { /* behind the old start and before the old end */
            append_to(k, "t");
        }
        for (int cut = SIM_KILL; cut <= SIM_CUT_TEAR; cut++) {
            restart(k, cut);
            struct log *log = log_of(k, "t", 0);
            assert_int_equal(log_start_offset(log), 0);
            assert_int_equal(log_end_offset(log), 10 + cut);
            append_to(k, "t");
        }
        done(k);
    }
}

/* Found by test_faults: the old directory could not be renamed away, and after a crash its records
 * were the new topic's. */
static void a_topic_made_again_does_not_get_what_could_not_be_renamed_away(void **state)
{
    (void)state;
    enum sim_op failed = SIM_OPEN;
    bool renames = false;
    for (uint64_t at = 0; failed != SIM_OP_COUNT; at++) {
        struct broker_kit *k = fresh();
        assert_int_equal(create(k, "t", 1, NULL, 0), OK);
        for (int i = 0; i < 5; i++) {
            append_to(k, "t");
        }
        sim_store_count_from_zero(k->logs.sim);
        sim_store_fail_at(k->logs.sim, at, ERR_IO);
        (void)drop(k, "t");
        failed = sim_store_fault_op(k->logs.sim);
        renames = renames || failed == SIM_RENAME;
        sim_store_count_from_zero(k->logs.sim);
        if (sim_store_is_down(k->logs.sim)) {
            restart(k, SIM_CUT_LOSE);
        }
        if (meta_find(k->meta, STR("t"))) {
            assert_int_equal(drop(k, "t"), OK);
        }
        assert_int_equal(create(k, "t", 1, NULL, 0), OK);
        for (int cut = SIM_KILL; cut <= SIM_CUT_TEAR; cut++) {
            append_to(k, "t");
            restart(k, cut);
            assert_int_equal(log_end_offset(log_of(k, "t", 0)), cut + 1);
        }
        done(k);
    }
    assert_true(renames);
}

/* A checkpoint of a log is on its way to the disk while its topic is deleted: what it writes must
 * not land in the directory of one that is made again, so the name is not free before. */
static void a_checkpoint_that_is_late_leaves_nothing_in_a_topic_made_again(void **state)
{
    (void)state;
    struct broker_kit *k = fresh();
    struct sim_worker *const busy[] = {&k->logs.writer, &k->logs.syncer}; /* the reader is not */
    struct buf text = {0};
    struct topic_spec spec = {.name = STR("t"), .partition_count = 1};
    struct answer deleted = {0};
    assert_int_equal(create(k, "t", 1, NULL, 0), OK);
    for (int i = 0; i < 3; i++) { /* so much that it is due */
        struct log_kit_append a;
        log_kit_batch(&a, 100, 4000, 1, k->logs.clock.wall_ms, -1, -1, -1);
        assert_int_equal(log_append(log_of(k, "t", 0), &a.a), OK);
        broker_kit_settle(k);
        log_kit_append_finish(&a);
    }
    sim_clock_advance_ms(&k->logs.clock, 1000);
    timers_run(&k->logs.timers, clock_mono_ms(&k->logs.clock.clock));
    assert_false(sim_worker_idle(&k->logs.reader));
    const struct topic *t = meta_find(k->meta, STR("t"));
    assert_int_equal(meta_delete_topic(k->meta, t->id, &text, on_done, &deleted), OK);
    log_manager_submit(k->logs.m);
    sim_workers_drain(busy, 2, &k->logs.rng);
    assert_int_equal(deleted.count, 0);
    assert_int_equal(meta_create_topic(k->meta, &spec, &text, on_done, &last), ERR_EXISTS);
    broker_kit_settle(k);
    assert_int_equal(deleted.count, 1);
    assert_int_equal(deleted.e, OK);
    last = (struct answer){0};
    text.len = 0;
    assert_int_equal(meta_create_topic(k->meta, &spec, &text, on_done, &last), OK);
    broker_kit_settle(k);
    assert_int_equal(last.e, OK);
    struct store *store = sim_store_store(k->logs.sim);
    struct store_file *file;
    assert_int_equal(
        store->ops->open(store->ctx, "t-0/00000000000000000300.snapshot", STORE_READ, &file),
        ERR_NOT_FOUND);
    buf_finish(&text);
    done(k);
}

/* A topic whose creation failed may leave a directory, and in it whose it is. When the name is used
 * again, and the power goes, that must not come back: the start would put the new one's records
 * away with it. */
static void a_topic_made_again_after_a_failure_is_not_taken_for_the_first(void **state)
{
    (void)state;
    uint64_t failed = 0;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct broker_kit *k = mem_need_zero(1, sizeof *k);
        struct log_kit_append a;
        broker_kit_init(k, seed, NULL);
        assert_int_equal(broker_kit_start(k, false), OK);
        sim_store_fail_at(k->logs.sim, sim_store_operations(k->logs.sim) + seed % 20, ERR_IO);
        bool again = create(k, "t", 2, NULL, 0) != OK;
        failed += again;
        if (!again || sim_store_is_down(k->logs.sim) ||
            create(k, "t", 2, NULL, 0) != OK) { /* not this time: what failed was another thing */
            done(k);
            continue;
        }
        log_kit_batch(&a, 3, 50, 1, k->logs.clock.wall_ms, -1, -1, -1);
        assert_int_equal(log_append(log_of(k, "t", 1), &a.a), OK);
        broker_kit_settle(k);
        int64_t high = log_high_watermark(log_of(k, "t", 1));
        log_kit_append_finish(&a);
        broker_kit_crash(k, SIM_CUT_TEAR);
        assert_int_equal(broker_kit_start(k, false), OK);
        assert_int_equal(log_high_watermark(log_of(k, "t", 1)), high);
        done(k);
    }
    assert_true(failed > 50);
}

static void settings_are_compared_and_set_and_lasting(void **state)
{
    (void)state;
    struct broker_kit *k = fresh();
    struct config_pair bad = {STR("retention.ms"), STR("soon")};
    struct config_pair unknown = {STR("no.such"), STR("1")};
    struct config_pair compact = {STR("cleanup.policy"), STR("compact")};
    struct config_pair good = {STR("retention.ms"), STR("1000")};
    assert_int_equal(create(k, "t", 1, &bad, 1), ERR_UNSUPPORTED);
    assert_int_equal(create(k, "t", 1, &unknown, 1), ERR_UNSUPPORTED);
    assert_int_equal(create(k, "t", 1, &compact, 1), ERR_UNSUPPORTED);
    assert_int_equal(create(k, "t", 1, &good, 1), OK);
    assert_int_equal(meta_find(k->meta, STR("t"))->config->retention_ms, 1000);
    restart(k, SIM_CUT_LOSE);
    const struct topic *t = meta_find(k->meta, STR("t"));
    assert_int_equal(t->config->retention_ms, 1000);
    int32_t version = t->version;
    assert_int_equal(alter(k, "t", 0, "segment.bytes", "2000000"), OK);
    assert_int_equal(alter(k, "t", version, "segment.bytes", "3000000"), ERR_STALE);
    assert_int_equal(alter(k, "t", 0, "segment.bytes", "1"), ERR_UNSUPPORTED);
    for (int how = -1; how <= SIM_CUT_TEAR; how++) {
        t = meta_find(k->meta, STR("t"));
        assert_int_equal(t->version, version + 1);
        assert_int_equal(t->config->segment_bytes, 2000000);
        assert_int_equal(t->config->retention_ms, -1); /* the whole set was replaced */
        restart(k, how);
    }
    done(k);
}

static void changes_of_one_topic_wait_for_each_other(void **state)
{
    (void)state;
    struct broker_kit *k = fresh();
    assert_int_equal(create(k, "t", 2, NULL, 0), OK);
    const struct topic *t = meta_find(k->meta, STR("t"));
    struct uuid id = t->id;
    int32_t version = t->version;
    struct config_pair pair = {STR("retention.ms"), STR("7")};
    struct answer a = {0}, stale = {0}, deleted = {0}, again = {0}, late = {0};
    struct buf text = {0};
    assert_int_equal(meta_alter_topic(k->meta, id, version, &pair, 1, &text, on_done, &a), OK);
    assert_int_equal(meta_alter_topic(k->meta, id, version, &pair, 1, &text, on_done, &stale), OK);
    assert_int_equal(meta_delete_topic(k->meta, id, &text, on_done, &deleted), OK);
    assert_int_equal(meta_delete_topic(k->meta, id, &text, on_done, &again), OK);
    assert_int_equal(meta_alter_topic(k->meta, id, version, &pair, 1, &text, on_done, &late), OK);
    broker_kit_settle(k);
    assert_int_equal(a.count + stale.count + deleted.count + again.count + late.count, 5);
    assert_int_equal(a.e, OK);
    assert_int_equal(stale.e, ERR_STALE);
    assert_int_equal(deleted.e, OK);
    assert_int_equal(again.e, ERR_NOT_FOUND);
    assert_int_equal(late.e, ERR_NOT_FOUND);
    assert_null(meta_find(k->meta, STR("t")));
    buf_finish(&text);
    done(k);
}

/* ---- more partitions */

static void append_to_partition(struct broker_kit *k, const char *name, int32_t partition)
{
    struct log_kit_append a;
    log_kit_batch(&a, 1, 10, 1, k->logs.clock.wall_ms, -1, -1, -1);
    assert_int_equal(log_kit_append_to(log_of(k, name, partition), &a), OK);
    broker_kit_settle(k);
    assert_int_equal(a.durable, 1);
    log_kit_append_finish(&a);
}

static void partitions_that_were_added_are_there_with_their_logs_over_every_restart(void **state)
{
    (void)state;
    struct broker_kit *k = fresh();
    struct config_pair good = {STR("retention.ms"), STR("1000")};
    assert_int_equal(create(k, "t", 2, &good, 1), OK);
    append_to(k, "t");
    const struct topic *t = meta_find(k->meta, STR("t"));
    struct uuid id = t->id;
    int32_t version = t->version;
    assert_int_equal(add(k, "t", 0, 5), OK);
    assert_ptr_equal(last.topic, t);
    append_to_partition(k, "t", 4);
    for (int how = -1; how <= SIM_CUT_TEAR; how++) {
        t = meta_find(k->meta, STR("t"));
        assert_true(uuid_eq(t->id, id));
        assert_int_equal(t->partition_count, 5);
        assert_int_equal(t->version, version + 1);
        assert_int_equal(t->config->retention_ms, 1000);
        assert_int_equal(log_end_offset(log_of(k, "t", 0)), 1);
        assert_int_equal(log_end_offset(log_of(k, "t", 4)), 1);
        assert_int_equal(log_end_offset(log_of(k, "t", 3)), 0);
        assert_null(log_of(k, "t", 5));
        restart(k, how);
    }
    done(k);
}

static void partitions_only_grow_and_never_past_the_limit(void **state)
{
    (void)state;
    struct broker_kit *k = fresh();
    static const int32_t refused[] = {4, 3, 1, 0, -1, INT32_MIN};
    assert_int_equal(create(k, "t", 4, NULL, 0), OK);
    assert_int_equal(create(k, "u", 10, NULL, 0), OK);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        assert_int_equal(add(k, "t", 0, refused[i]), ERR_RANGE);
    }
    assert_int_equal(add(k, "t", 0, 11), ERR_LIMIT); /* of 20 */
    assert_int_equal(add(k, "t", 0, INT32_MAX), ERR_LIMIT);
    assert_int_equal(meta_find(k->meta, STR("t"))->partition_count, 4);
    assert_int_equal(add(k, "t", 0, 10), OK);
    assert_int_equal(add(k, "t", 0, 11), ERR_LIMIT);
    assert_int_equal(drop(k, "u"), OK);
    restart(k, SIM_CUT_LOSE);
    assert_int_equal(add(k, "t", 0, 20), OK);
    assert_int_equal(add(k, "t", 0, 21), ERR_LIMIT);
    assert_int_equal(drop(k, "t"), OK);
    assert_int_equal(create(k, "t", 20, NULL, 0), OK); /* all were given back */
    done(k);
}

static void adding_waits_for_other_changes_and_is_compared_with_what_they_left(void **state)
{
    (void)state;
    struct broker_kit *k = fresh();
    assert_int_equal(create(k, "t", 2, NULL, 0), OK);
    const struct topic *t = meta_find(k->meta, STR("t"));
    int32_t version = t->version;
    struct config_pair pair = {STR("retention.ms"), STR("7")};
    struct answer first = {0}, stale = {0}, set = {0};
    struct buf text = {0};
    assert_int_equal(meta_add_partitions(k->meta, t->id, version, 4, &text, on_done, &first), OK);
    assert_int_equal(meta_add_partitions(k->meta, t->id, version, 3, &text, on_done, &stale), OK);
    assert_int_equal(meta_alter_topic(k->meta, t->id, version + 1, &pair, 1, &text, on_done, &set),
                     ERR_STALE);             /* a version that is yet to come */
    assert_int_equal(t->partition_count, 2); /* as long as it is under way */
    broker_kit_settle(k);
    assert_int_equal(first.e, OK);
    assert_int_equal(stale.e, ERR_STALE);
    assert_int_equal(t->partition_count, 4);
    assert_int_equal(add(k, "t", version, 9), ERR_STALE);
    assert_int_equal(alter(k, "t", 0, "retention.ms", "7"), OK); /* and it keeps what was added */
    restart(k, SIM_CUT_LOSE);
    assert_int_equal(meta_find(k->meta, STR("t"))->partition_count, 4);
    buf_finish(&text);
    done(k);
}

/* The broker's settings change after n steps of adding: the logs have the new ones in the end. */
static bool settings_change_after(int n)
{
    static const char *const sets[] = {"log.segment.bytes=1048577", NULL};
    struct config_input input = {.sets = sets, .set_count = 1};
    struct broker_kit *k = fresh();
    struct sim_worker *const workers[] = {&k->logs.writer, &k->logs.syncer, &k->logs.reader};
    struct config *config;
    struct buf text = {0};
    assert_int_equal(create(k, "t", 1, NULL, 0), OK);
    assert_int_equal(config_load(&input, NULL, &text, &config), OK);
    const struct topic *t = meta_find(k->meta, STR("t"));
    last = (struct answer){0};
    assert_int_equal(meta_add_partitions(k->meta, t->id, t->version, 3, &text, on_done, &last), OK);
    log_manager_submit(k->logs.m);
    int steps = 0;
    while (steps < n && sim_workers_step(workers, 3, &k->logs.rng)) {
        steps++;
    }
    meta_set_config(k->meta, config);
    broker_kit_settle(k);
    assert_int_equal(last.e, OK);
    for (int32_t p = 0; p < 3; p++) {
        assert_int_equal(log_of(k, "t", p)->config.segment_bytes, 1048577);
    }
    meta_set_config(k->meta, k->config);
    config_unref(config);
    buf_finish(&text);
    done(k);
    return steps == n;
}

static void added_logs_take_settings_that_come_while_they_are_made(void **state)
{
    (void)state;
    int n = 0;
    while (settings_change_after(n)) {
        n++;
    }
    assert_true(n > 5);
}

/* ---- producer ids */

struct ids {
    int64_t last;
    int count;
    err e;
};

static void on_id(void *ctx, err e, int64_t id)
{
    struct ids *i = ctx;
    i->e = e;
    if (!e) {
        assert_true(id > i->last);
        i->last = id;
        i->count++;
    }
}

static void take_id(struct broker_kit *k, struct ids *i)
{
    int64_t id;
    err e = meta_next_producer_id(k->meta, on_id, i, &id);
    if (!e) {
        on_id(i, OK, id);
    } else if (e != ERR_AGAIN) {
        i->e = e;
    }
}

static void producer_ids_never_repeat_over_restarts_and_crashes(void **state)
{
    (void)state;
    struct broker_kit *k = fresh();
    struct ids i = {.last = -1};
    for (int how = -1; how <= SIM_CUT_TEAR; how++) {
        for (int n = 0; n < 1500; n++) { /* over the end of a block */
            take_id(k, &i);
            if (n % 100 == 0) {
                broker_kit_settle(k);
            }
        }
        broker_kit_settle(k);
        restart(k, how);
    }
    assert_int_equal(i.count, 6000);
    done(k);
}

static void a_block_that_could_not_be_reserved_is_given_to_nobody(void **state)
{
    (void)state;
    struct broker_kit *k = fresh();
    struct ids i = {.last = -1};
    sim_store_set_limit(k->logs.sim, sim_store_used(k->logs.sim));
    take_id(k, &i);
    take_id(k, &i);
    broker_kit_settle(k);
    assert_int_equal(i.count, 0);
    assert_int_equal(i.e, ERR_NO_SPACE);
    sim_store_set_limit(k->logs.sim, -1);
    broker_kit_advance(k, 10000);
    take_id(k, &i);
    broker_kit_settle(k);
    assert_int_equal(i.count, 1);
    done(k);
}

/* ---- faults at every operation */

enum { STEPS = 8 };

/* A life of changes; what was answered OK is noted in `ok`. Stops at the first that was not. */
static int life(struct broker_kit *k, struct ids *ids)
{
    struct config_pair good = {STR("retention.ms"), STR("1000")};
    if (create(k, "t", 2, &good, 1)) {
        return 0;
    }
    if (create(k, "u", 1, NULL, 0)) {
        return 1;
    }
    if (alter(k, "t", 0, "retention.ms", "2000")) {
        return 2;
    }
    take_id(k, ids);
    broker_kit_settle(k);
    if (ids->count == 0) {
        return 3;
    }
    if (drop(k, "u")) {
        return 4;
    }
    if (create(k, "u", 3, NULL, 0)) {
        return 5;
    }
    if (add(k, "u", 0, 5)) {
        return 6;
    }
    if (alter(k, "u", 0, "retention.ms", "3000")) {
        return 7;
    }
    return STEPS;
}

/* `done_steps` were answered with OK; the next one may have happened or not, wholly. */
static void expect_life(struct broker_kit *k, int done_steps)
{
    const struct topic *t = meta_find(k->meta, STR("t"));
    const struct topic *u = meta_find(k->meta, STR("u"));
    assert_true(t || done_steps < 1);
    if (t) {
        assert_int_equal(t->partition_count, 2);
        assert_non_null(log_of(k, "t", 1));
        assert_true(t->config->retention_ms == 2000 ||
                    (t->config->retention_ms == 1000 && done_steps < 3));
    }
    assert_true(u || done_steps < 2 || done_steps == 4 || done_steps == 5);
    if (u) {
        int32_t count = u->partition_count;
        assert_true(count == 1   ? done_steps < 5
                    : count == 3 ? done_steps >= 5 && done_steps < 7
                                 : count == 5 && done_steps >= 6);
        assert_null(log_of(k, "u", count));
        assert_non_null(log_of(k, "u", u->partition_count - 1));
    }
}

static void a_power_cut_at_any_operation_leaves_every_answered_change(void **state)
{
    (void)state;
    for (int how = SIM_KILL; how <= SIM_CUT_TEAR; how++) {
        for (uint64_t at = 0;; at++) {
            struct broker_kit *k = fresh();
            struct ids ids = {.last = -1};
            sim_store_count_from_zero(k->logs.sim);
            sim_store_cut_at(k->logs.sim, at, (enum sim_cut)how);
            int steps = life(k, &ids);
            bool finished = !sim_store_is_down(k->logs.sim);
            restart(k, how);
            expect_life(k, steps);
            struct ids later = {.last = ids.last};
            take_id(k, &later); /* on_id asserts that it is above */
            broker_kit_settle(k);
            assert_int_equal(later.count, 1);
            restart(k, SIM_CUT_LOSE); /* what the first start mended is lasting */
            expect_life(k, steps);
            done(k);
            if (finished) {
                assert_int_equal(steps, STEPS);
                assert_true(at > 20);
                break;
            }
        }
    }
}

/* Found by fuzz_broker: undoing a creation destroyed logs that had not been made, and the process
 * ended. */
static void a_failure_at_any_operation_is_answered_and_does_not_stick(void **state)
{
    (void)state;
    static const err errors[] = {ERR_NO_SPACE, ERR_IO, ERR_NO_FILES};
    for (int n = 0; n < 3; n++) {
        for (uint64_t at = 0;; at++) {
            struct broker_kit *k = fresh();
            struct ids ids = {.last = -1};
            sim_store_count_from_zero(k->logs.sim);
            sim_store_fail_at(k->logs.sim, at, errors[n]);
            int steps = life(k, &ids);
            bool happened = sim_store_fault_op(k->logs.sim) != SIM_OP_COUNT;
            sim_store_count_from_zero(
                k->logs.sim);                     /* one that is still to come is not the stop's */
            if (sim_store_is_down(k->logs.sim)) { /* a sync failed: the process ends */
                restart(k, SIM_CUT_LOSE);
            }
            expect_life(k, steps);
            restart(k, -1);
            expect_life(k, steps);
            if (!meta_find(k->meta, STR("u"))) { /* its name is free again */
                assert_int_equal(create(k, "u", 3, NULL, 0), OK);
            }
            done(k);
            if (!happened) {
                assert_int_equal(steps, STEPS);
                break;
            }
        }
    }
}

static void a_start_fails_at_no_operation_without_saying_so(void **state)
{
    (void)state;
    for (uint64_t at = 0;; at++) {
        struct broker_kit *k = fresh();
        struct ids ids = {.last = -1};
        assert_int_equal(life(k, &ids), STEPS);
        broker_kit_crash(k, SIM_CUT_TEAR);
        sim_store_fail_at(k->logs.sim, at, ERR_IO);
        err e = broker_kit_start(k, false);
        bool happened = sim_store_fault_op(k->logs.sim) != SIM_OP_COUNT;
        if (!e) { /* it did without */
            expect_life(k, sim_store_is_down(k->logs.sim) ? 0 : STEPS);
            broker_kit_crash(k, SIM_CUT_LOSE);
        } else {
            sim_store_restart(k->logs.sim, SIM_CUT_LOSE);
            sim_store_count_from_zero(k->logs.sim);
        }
        assert_int_equal(broker_kit_start(k, false), OK);
        expect_life(k, STEPS);
        done(k);
        if (!happened) {
            assert_int_equal(e, OK);
            break;
        }
    }
}

/* ---- the metadata log is cleaned as any other */

static int compare_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Topics with id, partitions and version, in the order of their names. */
static void tell_topics(struct broker_kit *k, char lines[8][160])
{
    memset(lines, 0, 8 * sizeof lines[0]);
    assert_true(meta_topic_count(k->meta) < 8);
    for (int32_t i = 0; i < meta_topic_count(k->meta); i++) {
        const struct topic *t = meta_topic_at(k->meta, i);
        char id[UUID_TEXT_SIZE];
        uuid_to_text(t->id, id);
        snprintf(lines[i], sizeof lines[i], "%.*s %s %d v%d %lld", STR_ARG(t->name), id,
                 t->partition_count, t->version, (long long)t->config->retention_ms);
    }
    qsort(lines, 8, sizeof lines[0], compare_text);
}

static void a_cleaned_metadata_log_says_what_the_whole_one_said(void **state)
{
    (void)state;
    static const char *const sets[] = {"rivulet.log.compact.roll.bytes=500",
                                       "log.cleaner.min.cleanable.ratio=0.2", NULL};
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct broker_kit *k = mem_need(sizeof *k);
        char before[8][160];
        char after[8][160];
        broker_kit_init(k, seed, sets);
        assert_int_equal(broker_kit_start(k, false), OK);
        for (int i = 0; i < 120; i++) {
            char name[8];
            snprintf(name, sizeof name, "t%d", (int)rng_below(&k->logs.rng, 4));
            if (meta_find(k->meta, str_of(name))) {
                assert_int_equal(drop(k, name), OK);
            } else {
                struct config_pair pair = {STR("retention.ms"), STR("100000")};
                assert_int_equal(create(k, name, 1, &pair, i & 1), OK);
            }
            if (i % 8 == 7) {
                broker_kit_advance(k, 1000);
            }
        }
        broker_kit_advance(k, 1000);
        struct uuid id = {.b[15] = 1};
        const struct log *log = log_manager_find(k->logs.m, id, 0);
        assert_true(log_high_watermark(log) >= 120);
        assert_true(log_size_bytes(log) < 3000); /* of some 15,000 */
        tell_topics(k, before);
        for (int how = -1; how <= SIM_CUT_TEAR; how++) {
            if (how < 0) {
                broker_kit_stop(k);
            } else {
                broker_kit_crash(k, (enum sim_cut)how);
            }
            assert_int_equal(broker_kit_start(k, how < 0), OK);
            tell_topics(k, after);
            assert_memory_equal(before, after, sizeof before);
        }
        done(k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cleaned_metadata_log_says_what_the_whole_one_said),
        cmocka_unit_test(a_topic_is_there_with_its_logs_over_every_restart),
        cmocka_unit_test(names_are_checked_and_collide_as_in_kafka),
        cmocka_unit_test(limits_are_named_and_given_back_by_deletions),
        cmocka_unit_test(a_topic_made_again_is_another_one_and_empty),
        cmocka_unit_test(a_topic_made_again_inherits_nothing),
        cmocka_unit_test(a_topic_made_again_does_not_get_what_could_not_be_renamed_away),
        cmocka_unit_test(a_checkpoint_that_is_late_leaves_nothing_in_a_topic_made_again),
        cmocka_unit_test(a_topic_made_again_after_a_failure_is_not_taken_for_the_first),
        cmocka_unit_test(settings_are_compared_and_set_and_lasting),
        cmocka_unit_test(changes_of_one_topic_wait_for_each_other),
        cmocka_unit_test(partitions_that_were_added_are_there_with_their_logs_over_every_restart),
        cmocka_unit_test(partitions_only_grow_and_never_past_the_limit),
        cmocka_unit_test(adding_waits_for_other_changes_and_is_compared_with_what_they_left),
        cmocka_unit_test(added_logs_take_settings_that_come_while_they_are_made),
        cmocka_unit_test(producer_ids_never_repeat_over_restarts_and_crashes),
        cmocka_unit_test(a_block_that_could_not_be_reserved_is_given_to_nobody),
        cmocka_unit_test(a_power_cut_at_any_operation_leaves_every_answered_change),
        cmocka_unit_test(a_failure_at_any_operation_is_answered_and_does_not_stick),
        cmocka_unit_test(a_start_fails_at_no_operation_without_saying_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The group commit: which way appends go to the disk, in how many hand-overs, and that the short
 * way keeps what the long one promises. */
#include "tests/kit/log_kit.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const int64_t T0 = 1700000000000;

/* Logs with one durable record each: their files are there, open, and synced. */
static struct log_kit *fresh(int logs)
{
    struct log_kit *k = mem_need(sizeof *k);
    log_kit_init(k, 1);
    assert_int_equal(log_kit_start(k, logs, false), OK);
    for (int i = 0; i < logs; i++) {
        struct log_kit_append a;
        log_kit_batch(&a, 1, 100, 0, T0, -1, -1, -1);
        assert_int_equal(log_kit_append(k, i, &a), OK);
        log_kit_drain(k);
        assert_int_equal(a.durable, 1);
        log_kit_append_finish(&a);
    }
    return k;
}

static void done(struct log_kit *k)
{
    log_kit_finish(k);
    mem_free(k);
}

static int queued(const struct sim_worker *w)
{
    int n = 0;
    list_each(node, &w->queue)
    {
        n++;
    }
    return n;
}

static void append(struct log_kit *k, int log, struct log_kit_append *a, size_t size)
{
    log_kit_batch(a, 1, size, 1, T0, -1, -1, -1);
    assert_int_equal(log_kit_append_durable(k, log, a), OK);
}

static void what_only_its_durability_is_waited_for_takes_one_hand_over(void **state)
{
    (void)state;
    struct log_kit *k = fresh(2);
    struct log_kit_append a[3];
    append(k, 0, &a[0], 100);
    append(k, 0, &a[1], 100);
    append(k, 1, &a[2], 100);
    log_manager_submit(k->m);
    assert_int_equal(queued(&k->writer), 0);
    assert_int_equal(queued(&k->syncer), 2);
    assert_true(sim_worker_run(&k->syncer)); /* written, and not durable */
    assert_true(sim_worker_complete(&k->syncer));
    assert_int_equal(log_high_watermark(log_kit_log(k, 0)), 1);
    assert_int_equal(a[0].durable + a[1].durable + a[2].durable, 0);
    assert_true(sim_worker_run(&k->syncer) && sim_worker_complete(&k->syncer));
    assert_int_equal(log_high_watermark(log_kit_log(k, 0)), 3);
    assert_int_equal(log_high_watermark(log_kit_log(k, 1)), 2);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(a[i].durable, 1);
        assert_int_equal(a[i].durable_result, OK);
        log_kit_append_finish(&a[i]);
    }
    assert_true(sim_worker_idle(&k->writer) && sim_worker_idle(&k->syncer));
    done(k);
}

static void small_ones_wait_for_the_sync_under_way_and_go_together(void **state)
{
    (void)state;
    struct log_kit *k = fresh(1);
    struct log_kit_append a[4];
    for (int i = 0; i < 4; i++) {
        append(k, 0, &a[i], 100);
        log_manager_submit(k->m);
    }
    assert_int_equal(queued(&k->syncer), 2); /* of the first */
    while (sim_worker_run(&k->syncer)) {
    }
    while (sim_worker_complete(&k->syncer)) {
    }
    assert_int_equal(a[0].durable, 1);
    assert_int_equal(a[1].durable, 0);
    assert_int_equal(queued(&k->writer), 0);
    assert_int_equal(queued(&k->syncer), 2); /* of the three others */
    log_kit_drain(k);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(a[i].durable, 1);
        log_kit_append_finish(&a[i]);
    }
    done(k);
}

static void who_waits_for_the_write_does_not_wait_for_a_sync(void **state)
{
    (void)state;
    struct log_kit *k = fresh(1);
    struct log_kit_append durable;
    struct log_kit_append written;
    append(k, 0, &durable, 100);
    log_manager_submit(k->m);
    assert_true(sim_worker_run(&k->syncer) && sim_worker_complete(&k->syncer));
    log_kit_batch(&written, 1, 100, 1, T0, -1, -1, -1);
    assert_int_equal(log_kit_append(k, 0, &written), OK);
    log_manager_submit(k->m);
    assert_true(sim_worker_run(&k->writer) && sim_worker_complete(&k->writer));
    assert_int_equal(written.written, 1);
    assert_int_equal(written.durable, 0);
    assert_int_equal(durable.durable, 0);
    /* The sync that was under way does not stand for what was written behind it. */
    assert_true(sim_worker_run(&k->syncer) && sim_worker_complete(&k->syncer));
    assert_int_equal(durable.durable, 1);
    assert_int_equal(written.durable, 0);
    assert_int_equal(log_high_watermark(log_kit_log(k, 0)), 2);
    log_kit_drain(k);
    assert_int_equal(written.durable, 1);
    log_kit_append_finish(&durable);
    log_kit_append_finish(&written);
    done(k);
}

static void large_ones_are_written_while_another_is_synced(void **state)
{
    (void)state;
    struct log_kit *k = fresh(1);
    struct log_kit_append small;
    struct log_kit_append large[20];
    append(k, 0, &small, 100);
    log_manager_submit(k->m);
    assert_true(sim_worker_run(&k->syncer) && sim_worker_complete(&k->syncer));
    for (int i = 0; i < 20; i++) { /* 80 KB */
        append(k, 0, &large[i], 4096);
    }
    log_manager_submit(k->m);
    assert_int_equal(queued(&k->writer), 1);
    log_kit_drain(k);
    assert_int_equal(small.durable, 1);
    log_kit_append_finish(&small);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(large[i].durable, 1);
        log_kit_append_finish(&large[i]);
    }
    done(k);
}

static void a_refused_write_is_told_and_what_else_was_written_is_durable(void **state)
{
    (void)state;
    struct log_kit *k = fresh(2);
    struct log_kit_append a[2];
    sim_store_count_from_zero(k->sim);
    sim_store_fail_at(k->sim, 0, ERR_NO_SPACE); /* the first log's write */
    append(k, 0, &a[0], 100);
    append(k, 1, &a[1], 100);
    log_manager_submit(k->m);
    assert_int_equal(queued(&k->syncer), 2);
    log_kit_drain(k);
    assert_int_equal(a[0].durable, 1);
    assert_int_equal(a[0].durable_result, ERR_NO_SPACE);
    assert_int_equal(a[1].durable, 1);
    assert_int_equal(a[1].durable_result, OK);
    assert_int_equal(log_high_watermark(log_kit_log(k, 0)), 1);
    assert_int_equal(log_end_offset(log_kit_log(k, 0)), 1);
    assert_int_equal(log_high_watermark(log_kit_log(k, 1)), 2);
    log_kit_append_finish(&a[0]);
    append(k, 0, &a[0], 100); /* the same offset again */
    assert_int_equal(a[0].a.base_offset, 1);
    log_kit_drain(k);
    assert_int_equal(a[0].durable_result, OK);
    log_kit_crash(k, SIM_CUT_LOSE);
    assert_int_equal(log_kit_start(k, 2, false), OK);
    assert_int_equal(log_high_watermark(log_kit_log(k, 0)), 2);
    assert_int_equal(log_high_watermark(log_kit_log(k, 1)), 2);
    log_kit_append_finish(&a[0]);
    log_kit_append_finish(&a[1]);
    done(k);
}

/* The power goes at every operation in turn, in every order of the workers that the seed gives. */
static void what_was_told_durable_survives_a_power_cut_at_any_operation(void **state)
{
    (void)state;
    enum { APPENDS = 12 };
    static const enum sim_cut cuts[] = {SIM_KILL, SIM_CUT_LOSE, SIM_CUT_TEAR};
    bool cut = true;
    for (uint64_t at = 0; cut; at++) {
        for (size_t how = 0; how < sizeof cuts / sizeof *cuts; how++) {
            struct log_kit *k = fresh(2);
            struct log_kit_append a[APPENDS];
            int64_t told[2] = {1, 1};
            int submitted = 0;
            rng_init(&k->rng, at);
            sim_store_count_from_zero(k->sim);
            sim_store_cut_at(k->sim, at, cuts[how]);
            for (; submitted < APPENDS && !sim_store_is_down(k->sim); submitted++) {
                struct log_kit_append *mine = &a[submitted];
                log_kit_batch(mine, 1, 100, 1, T0, -1, -1, -1);
                err e = submitted % 5 == 4 ? log_kit_append(k, submitted % 2, mine)
                                           : log_kit_append_durable(k, submitted % 2, mine);
                if (e) { /* the log is closed to appends: what is under way failed */
                    log_kit_append_finish(mine);
                    break;
                }
                log_manager_submit(k->m);
                if (submitted % 3 == 2) {
                    log_kit_drain(k);
                }
            }
            log_kit_drain(k);
            cut = sim_store_is_down(k->sim);
            for (int i = 0; i < submitted; i++) {
                if (a[i].durable && a[i].durable_result == OK && a[i].a.end_offset > told[i % 2]) {
                    told[i % 2] = a[i].a.end_offset;
                }
            }
            log_kit_crash(k, cuts[how]);
            for (int i = 0; i < submitted; i++) {
                log_kit_append_finish(&a[i]);
            }
            assert_int_equal(log_kit_start(k, 2, false), OK);
            for (int i = 0; i < 2; i++) {
                assert_true(log_high_watermark(log_kit_log(k, i)) >= told[i]);
            }
            done(k);
        }
    }
}

/* More segments than are written out together: in the first group, which syncs them, and in the
 * checkpoints, behind which the journal forgets what it had. */
static void many_segments_are_all_synced(void **state)
{
    (void)state;
    enum { ROUNDS = 60 };
    struct log_kit *k = mem_need(sizeof *k);
    struct log_kit_append *a = mem_need(LOG_KIT_LOGS * sizeof *a);
    log_kit_init(k, 1);
    assert_int_equal(log_kit_start(k, LOG_KIT_LOGS, false), OK);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < LOG_KIT_LOGS; i++) {
            log_kit_batch(&a[i], 1, 100, (uint64_t)round, T0, -1, -1, -1);
            assert_int_equal(log_kit_append(k, i, &a[i]), OK);
        }
        struct sim_worker *const others[] = {&k->writer, &k->reader};
        log_manager_submit(k->m);
        sim_workers_drain(others, 2, &k->rng); /* behind the first sync, the rest is one group */
        log_kit_drain(k);
        for (int i = 0; i < LOG_KIT_LOGS; i++) {
            assert_int_equal(a[i].durable, 1);
            assert_int_equal(a[i].durable_result, OK);
            log_kit_append_finish(&a[i]);
        }
        if (round % 7 == 0) {
            log_kit_crash(k, SIM_CUT_LOSE);
            assert_int_equal(log_kit_start(k, LOG_KIT_LOGS, false), OK);
            for (int i = 0; i < LOG_KIT_LOGS; i++) {
                assert_int_equal(log_high_watermark(log_kit_log(k, i)), round + 1);
            }
        }
    }
    mem_free(a);
    done(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_only_its_durability_is_waited_for_takes_one_hand_over),
        cmocka_unit_test(small_ones_wait_for_the_sync_under_way_and_go_together),
        cmocka_unit_test(who_waits_for_the_write_does_not_wait_for_a_sync),
        cmocka_unit_test(large_ones_are_written_while_another_is_synced),
        cmocka_unit_test(a_refused_write_is_told_and_what_else_was_written_is_durable),
        cmocka_unit_test(what_was_told_durable_survives_a_power_cut_at_any_operation),
        cmocka_unit_test(many_segments_are_all_synced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

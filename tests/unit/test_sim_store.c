/* The simulated store takes away what a power cut may take away, and nothing else: or the tests
 * that stand on it prove nothing. */
#include "tests/kit/sim_store.h"
#include "tests/kit/store_dsl.h"

#include <stdlib.h>

enum { TRIES = 300 }; /* seeds for what is random; enough that each outcome is met */

static struct sim_store *sim; /* of the running test */

static int setup(void **state)
{
    (void)state;
    sim = sim_store_create(7);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sim_store_destroy(sim);
    return 0;
}

static struct store *fresh(uint64_t seed)
{
    sim_store_destroy(sim);
    sim = sim_store_create(seed);
    return sim_store_store(sim);
}

static void sync_path(struct store *s, const char *path)
{
    struct store_file *file = open_file(s, path, STORE_WRITE);
    assert_int_equal(s->ops->sync(s->ctx, file), OK);
    close_file(s, file);
}

static void put_synced(struct store *s, const char *path, const char *text) /* at the top */
{
    put_file(s, path, text);
    sync_path(s, path);
    assert_int_equal(s->ops->sync_dir(s->ctx, ""), OK);
}

static bool is_there(struct store *s, const char *path)
{
    return open_error(s, path, STORE_READ) == OK;
}

/* ---- power cuts that take everything */

static void a_cut_takes_unsynced_bytes_and_keeps_synced_ones(void **state)
{
    (void)state;
    struct store *s = fresh(1);
    put_synced(s, "a", "kept");
    struct store_file *file = open_file(s, "a", STORE_WRITE);
    assert_int_equal(write_at(s, file, 0, "lost and longer"), OK);
    assert_file(s, "a", "lost and longer");
    sim_store_restart(sim, SIM_CUT_LOSE);
    close_file(s, file); /* one that was open over it */
    assert_file(s, "a", "kept");
}

static void a_cut_takes_a_name_that_its_directory_was_not_synced_with(void **state)
{
    (void)state;
    struct store *s = fresh(1);
    put_file(s, "a", "x");
    sync_path(s, "a"); /* the bytes, not the name */
    sim_store_restart(sim, SIM_CUT_LOSE);
    assert_list(s, "", "");
}

static void a_cut_brings_back_what_was_removed_and_undoes_renames(void **state)
{
    (void)state;
    struct store *s = fresh(1);
    put_synced(s, "a", "one");
    put_synced(s, "b", "two");
    put_synced(s, "c", "three");
    assert_int_equal(s->ops->unlink(s->ctx, "a"), OK);
    assert_int_equal(s->ops->rename(s->ctx, "b", "c"), OK);
    sim_store_restart(sim, SIM_CUT_LOSE);
    assert_file(s, "a", "one");
    assert_file(s, "b", "two");
    assert_file(s, "c", "three");
}

static void a_synced_file_in_an_unsynced_directory_goes_with_it(void **state)
{
    (void)state;
    struct store *s = fresh(1);
    assert_int_equal(s->ops->make_dir(s->ctx, "d"), OK);
    put_file(s, "d/a", "x");
    sync_path(s, "d/a");
    assert_int_equal(s->ops->sync_dir(s->ctx, "d"), OK);
    sim_store_restart(sim, SIM_CUT_LOSE);
    assert_list(s, "", "");
}

static void a_rename_between_directories_is_durable_with_either(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        struct store *s = fresh(1);
        assert_int_equal(s->ops->make_dir(s->ctx, "d"), OK);
        put_synced(s, "a", "x");
        assert_int_equal(s->ops->rename(s->ctx, "a", "d/a"), OK);
        assert_int_equal(s->ops->sync_dir(s->ctx, which ? "d" : ""), OK);
        sim_store_restart(sim, SIM_CUT_LOSE);
        assert_false(is_there(s, "a"));
        assert_file(s, "d/a", "x");
    }
}

static void a_replaced_file_survives_every_cut_as_one_or_the_other(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        for (uint64_t k = 0;; k++) {
            struct store *s = fresh(seed);
            assert_int_equal(store_replace_file(s, "a", "the first", 9), OK);
            sim_store_count_from_zero(sim);
            sim_store_cut_at(sim, k, seed % 2 ? SIM_CUT_TEAR : SIM_CUT_LOSE);
            err e = store_replace_file(s, "a", "and the second", 14);
            bool was_cut = sim_store_is_down(sim);
            sim_store_restart(sim, SIM_CUT_LOSE);
            struct buf b = {0};
            assert_int_equal(store_read_file(s, "a", 100, &b), OK);
            bool is_first = strcmp(buf_text(&b), "the first") == 0;
            bool is_second = strcmp(buf_text(&b), "and the second") == 0;
            buf_finish(&b);
            assert_true(is_second || (is_first && e));
            if (!was_cut) {
                assert_int_equal(e, OK);
                assert_true(k >= 6); /* open truncate write sync rename sync_dir */
                break;
            }
            assert_int_equal(e, ERR_IO);
        }
    }
}

/* ---- power cuts that tear */

/* Three writes over two sectors: each sector may be as after any of them, independently, and so may
 * the size. */
static void a_torn_file_mixes_the_moments_of_its_sectors(void **state)
{
    (void)state;
    int mixed = 0, short_ones = 0, whole = 0, nothing = 0;
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        struct store *s = fresh(seed);
        struct store_file *file = open_file(s, "a", STORE_CREATE_NEW);
        assert_int_equal(s->ops->sync_dir(s->ctx, ""), OK);
        char bytes[1024];
        const struct iovec part = {.iov_base = bytes, .iov_len = sizeof bytes};
        for (int version = '1'; version <= '3'; version++) {
            memset(bytes, version, sizeof bytes);
            assert_int_equal(s->ops->write(s->ctx, file, &part, 1, 0), OK);
        }
        close_file(s, file);
        sim_store_restart(sim, SIM_CUT_TEAR);
        file = open_file(s, "a", STORE_READ);
        size_t n = 0;
        assert_int_equal(s->ops->read(s->ctx, file, bytes, sizeof bytes, 0, &n), OK);
        close_file(s, file);
        assert_true(n == 0 || n == 1024);
        nothing += n == 0;
        if (n == 0) {
            continue;
        }
        for (size_t i = 1; i < 512; i++) {
            assert_int_equal(bytes[i], bytes[0]);
            assert_int_equal(bytes[512 + i], bytes[512]);
        }
        assert_true(bytes[0] == 0 || (bytes[0] >= '1' && bytes[0] <= '3'));
        mixed += bytes[0] != bytes[512];
        short_ones += bytes[0] == 0 || bytes[512] == 0; /* a size without its bytes */
        whole += bytes[0] == '3' && bytes[512] == '3';
    }
    assert_true(mixed > 10);
    assert_true(short_ones > 10);
    assert_true(whole > 10);
    assert_true(nothing > 10);
}

static void a_tear_leaves_what_was_synced_and_not_written_since(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        struct store *s = fresh(seed);
        char text[513];
        memset(text, 'k', 512);
        text[512] = 0;
        put_synced(s, "a", text);
        struct store_file *file = open_file(s, "a", STORE_WRITE);
        assert_int_equal(write_at(s, file, 512, "more"), OK); /* another sector */
        close_file(s, file);
        sim_store_restart(sim, SIM_CUT_TEAR);
        char back[512];
        size_t n;
        file = open_file(s, "a", STORE_READ);
        assert_int_equal(s->ops->read(s->ctx, file, back, 512, 0, &n), OK);
        assert_int_equal(n, 512);
        assert_memory_equal(back, text, 512);
        close_file(s, file);
    }
}

static void an_unsynced_truncation_may_or_may_not_have_happened(void **state)
{
    (void)state;
    int shorter = 0, longer = 0;
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        struct store *s = fresh(seed);
        put_synced(s, "a", "abcdef");
        struct store_file *file = open_file(s, "a", STORE_WRITE);
        assert_int_equal(s->ops->truncate(s->ctx, file, 2), OK);
        close_file(s, file);
        sim_store_restart(sim, SIM_CUT_TEAR);
        int64_t size;
        file = open_file(s, "a", STORE_READ);
        assert_int_equal(s->ops->size(s->ctx, file, &size), OK);
        close_file(s, file);
        assert_true(size == 2 || size == 6);
        shorter += size == 2;
        longer += size == 6;
    }
    assert_true(shorter > 10 && longer > 10);
}

static void directory_operations_survive_each_on_its_own(void **state)
{
    (void)state;
    int seen[4] = {0};
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        struct store *s = fresh(seed);
        put_file(s, "a", "");
        put_file(s, "b", "");
        sim_store_restart(sim, SIM_CUT_TEAR);
        seen[is_there(s, "a") + 2 * is_there(s, "b")]++;
    }
    for (int i = 0; i < 4; i++) {
        assert_true(seen[i] > 10); /* b without a, too: there is no order */
    }
}

static void a_rename_is_never_half_done(void **state)
{
    (void)state;
    int moved = 0, stayed = 0;
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        struct store *s = fresh(seed);
        put_synced(s, "a", "x");
        assert_int_equal(s->ops->rename(s->ctx, "a", "b"), OK);
        assert_int_equal(s->ops->rename(s->ctx, "b", "c"), OK);
        sim_store_restart(sim, SIM_CUT_TEAR);
        assert_int_equal(is_there(s, "a") + is_there(s, "b") + is_there(s, "c"), 1);
        moved += is_there(s, "c");
        stayed += is_there(s, "a");
    }
    assert_true(moved > 10 && stayed > 10);
}

static void the_same_seed_tears_alike(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        char bytes[2][2048];
        size_t n[2] = {0};
        for (int run = 0; run < 2; run++) {
            memset(bytes[run], 0, sizeof bytes[run]);
            struct store *s = fresh(seed);
            put_synced(s, "a", "");
            struct store_file *file = open_file(s, "a", STORE_WRITE);
            for (int i = 0; i < 8; i++) {
                assert_int_equal(write_at(s, file, 256 * i, "some text that is written"), OK);
            }
            close_file(s, file);
            sim_store_restart(sim, SIM_CUT_TEAR);
            file = open_file(s, "a", STORE_READ);
            assert_int_equal(s->ops->read(s->ctx, file, bytes[run], 2048, 0, &n[run]), OK);
            close_file(s, file);
        }
        assert_int_equal(n[0], n[1]);
        assert_memory_equal(bytes[0], bytes[1], 2048);
    }
}

/* ---- kills */

static void a_kill_keeps_the_cache_and_a_later_cut_still_takes_it(void **state)
{
    (void)state;
    struct store *s = fresh(1);
    put_synced(s, "a", "old");
    put_file(s, "a", "new");
    put_file(s, "b", "x");
    assert_int_equal(s->ops->lock(s->ctx, "a"), OK);
    sim_store_restart(sim, SIM_KILL);
    assert_int_equal(s->ops->lock(s->ctx, "a"), OK); /* free again */
    assert_file(s, "a", "new");
    assert_file(s, "b", "x");
    sync_path(s, "a"); /* what the killed process wrote becomes durable now */
    sim_store_restart(sim, SIM_CUT_LOSE);
    assert_file(s, "a", "new");
    assert_false(is_there(s, "b"));
}

/* ---- faults */

static void the_chosen_operation_fails_and_only_that_one(void **state)
{
    (void)state;
    struct store *s = fresh(1);
    put_file(s, "a", "x");
    uint64_t before = sim_store_operations(sim);
    sim_store_fail_at(sim, before + 1, ERR_NO_SPACE);
    assert_int_equal(s->ops->make_dir(s->ctx, "d"), OK);
    assert_int_equal(s->ops->rename(s->ctx, "a", "d/a"), ERR_NO_SPACE);
    assert_int_equal(sim_store_fault_op(sim), SIM_RENAME);
    assert_false(sim_store_is_down(sim));
    assert_list(s, "d", "");
    assert_int_equal(s->ops->rename(s->ctx, "a", "d/a"), OK);
}

static void a_failed_write_leaves_some_of_its_bytes(void **state)
{
    (void)state;
    int some = 0;
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        struct store *s = fresh(seed);
        struct store_file *file = open_file(s, "a", STORE_CREATE_NEW);
        sim_store_fail_at(sim, sim_store_operations(sim), ERR_NO_SPACE);
        assert_int_equal(write_at(s, file, 0, "0123456789"), ERR_NO_SPACE);
        int64_t size;
        assert_int_equal(s->ops->size(s->ctx, file, &size), OK);
        assert_true(size >= 0 && size <= 10);
        some += size > 0 && size < 10;
        close_file(s, file);
    }
    assert_true(some > 10);
}

/* As Linux does: the pages are clean afterwards, so that the next sync succeeds and saves nothing.
 */
static void a_failed_sync_stops_the_process_and_makes_the_cache_lie(void **state)
{
    (void)state;
    int lost = 0;
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        struct store *s = fresh(seed);
        put_synced(s, "a", "old");
        struct store_file *file = open_file(s, "a", STORE_WRITE);
        assert_int_equal(write_at(s, file, 0, "new"), OK);
        sim_store_fail_at(sim, sim_store_operations(sim), ERR_IO);
        assert_int_equal(s->ops->sync(s->ctx, file), ERR_IO);
        assert_true(sim_store_is_down(sim));
        close_file(s, file);
        sim_store_restart(sim, SIM_KILL);
        assert_file(s, "a", "new"); /* it lies */
        sync_path(s, "a");
        sim_store_restart(sim, SIM_CUT_LOSE);
        struct buf b = {0};
        assert_int_equal(store_read_file(s, "a", 100, &b), OK);
        lost += strcmp(buf_text(&b), "old") == 0;
        buf_finish(&b);
    }
    assert_true(lost > 10 && lost < TRIES);
}

static void nothing_works_between_a_cut_and_the_restart(void **state)
{
    (void)state;
    struct store *s = fresh(1);
    put_synced(s, "a", "x");
    struct store_file *file = open_file(s, "a", STORE_WRITE);
    sim_store_cut_at(sim, sim_store_operations(sim), SIM_CUT_LOSE);
    assert_int_equal(s->ops->make_dir(s->ctx, "d"), ERR_IO);
    assert_int_equal(sim_store_fault_op(sim), SIM_MAKE_DIR);
    char c;
    size_t n;
    int64_t size;
    assert_int_equal(s->ops->read(s->ctx, file, &c, 1, 0, &n), ERR_IO);
    assert_int_equal(write_at(s, file, 0, "y"), ERR_IO);
    assert_int_equal(s->ops->sync(s->ctx, file), ERR_IO);
    assert_int_equal(s->ops->size(s->ctx, file, &size), ERR_IO);
    assert_int_equal(open_error(s, "a", STORE_READ), ERR_IO);
    assert_int_equal(s->ops->sync_dir(s->ctx, ""), ERR_IO);
    sim_store_restart(sim, SIM_CUT_TEAR);
    assert_int_equal(s->ops->read(s->ctx, file, &c, 1, 0, &n), ERR_IO); /* of the former life */
    close_file(s, file);
    assert_file(s, "a", "x");
    assert_int_equal(sim_store_open_files(sim), 0);
}

static void a_look_at_the_disk_is_not_counted(void **state)
{
    (void)state;
    struct store *s = fresh(1);
    put_file(s, "a", "x");
    uint64_t before = sim_store_operations(sim);
    sim_store_fail_at(sim, before, ERR_IO);
    sim_store_pause(sim, true);
    assert_file(s, "a", "x");
    sim_store_pause(sim, false);
    assert_int_equal(sim_store_operations(sim), before);
    assert_int_equal(open_error(s, "a", STORE_READ), ERR_IO);
}

/* ---- the device */

static void a_full_disk_cuts_a_write_short_and_takes_more_when_there_is_room(void **state)
{
    (void)state;
    struct store *s = fresh(1);
    put_file(s, "a", "0123456789");
    put_file(s, "b", "0123456789");
    sim_store_set_limit(sim, 25);
    struct store_file *file = open_file(s, "a", STORE_WRITE);
    assert_int_equal(write_at(s, file, 0, "abcdefghij"), OK); /* grows nothing */
    assert_int_equal(write_at(s, file, 10, "0123456789"), ERR_NO_SPACE);
    assert_int_equal(sim_store_used(sim), 25);
    int64_t free_bytes, total_bytes;
    assert_int_equal(s->ops->space(s->ctx, &free_bytes, &total_bytes), OK);
    assert_int_equal(free_bytes, 0);
    assert_int_equal(total_bytes, 25);
    assert_int_equal(s->ops->unlink(s->ctx, "b"), OK);
    assert_int_equal(write_at(s, file, 10, "0123456789"), OK);
    close_file(s, file);
    assert_file(s, "a", "abcdefghij0123456789");
}

static void what_is_evicted_would_block_until_it_is_read(void **state)
{
    (void)state;
    struct store *s = fresh(1);
    struct store_file *file = open_file(s, "a", STORE_CREATE_NEW);
    assert_int_equal(write_at(s, file, 0, "x"), OK);
    assert_int_equal(write_at(s, file, 9000, "y"), OK); /* the third page */
    sim_store_evict(sim);
    char c;
    size_t n;
    assert_int_equal(s->ops->read_cached(s->ctx, file, &c, 1, 0, &n), ERR_AGAIN);
    assert_int_equal(s->ops->read(s->ctx, file, &c, 1, 0, &n), OK);
    assert_int_equal(s->ops->read_cached(s->ctx, file, &c, 1, 0, &n), OK);
    assert_int_equal(c, 'x');
    assert_int_equal(s->ops->read_cached(s->ctx, file, &c, 1, 9000, &n), ERR_AGAIN);
    close_file(s, file);
}

static void rot_is_read_and_survives(void **state)
{
    (void)state;
    struct store *s = fresh(1);
    put_synced(s, "a", "abc");
    sim_store_flip(sim, "a", 1, 0x20);
    assert_file(s, "a", "aBc");
    sim_store_restart(sim, SIM_CUT_LOSE);
    assert_file(s, "a", "aBc");
}

static void open_files_are_limited_and_counted(void **state)
{
    (void)state;
    struct store *s = fresh(1);
    sim_store_set_max_open(sim, 1);
    struct store_file *file = open_file(s, "a", STORE_CREATE);
    assert_int_equal(open_error(s, "b", STORE_CREATE), ERR_NO_FILES);
    assert_int_equal(sim_store_open_files(sim), 1);
    close_file(s, file);
    assert_int_equal(open_error(s, "b", STORE_CREATE), OK);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_cut_takes_unsynced_bytes_and_keeps_synced_ones),
        TEST(a_cut_takes_a_name_that_its_directory_was_not_synced_with),
        TEST(a_cut_brings_back_what_was_removed_and_undoes_renames),
        TEST(a_synced_file_in_an_unsynced_directory_goes_with_it),
        TEST(a_rename_between_directories_is_durable_with_either),
        TEST(a_replaced_file_survives_every_cut_as_one_or_the_other),
        TEST(a_torn_file_mixes_the_moments_of_its_sectors),
        TEST(a_tear_leaves_what_was_synced_and_not_written_since),
        TEST(an_unsynced_truncation_may_or_may_not_have_happened),
        TEST(directory_operations_survive_each_on_its_own),
        TEST(a_rename_is_never_half_done),
        TEST(the_same_seed_tears_alike),
        TEST(a_kill_keeps_the_cache_and_a_later_cut_still_takes_it),
        TEST(the_chosen_operation_fails_and_only_that_one),
        TEST(a_failed_write_leaves_some_of_its_bytes),
        TEST(a_failed_sync_stops_the_process_and_makes_the_cache_lie),
        TEST(nothing_works_between_a_cut_and_the_restart),
        TEST(a_look_at_the_disk_is_not_counted),
        TEST(a_full_disk_cuts_a_write_short_and_takes_more_when_there_is_room),
        TEST(what_is_evicted_would_block_until_it_is_read),
        TEST(rot_is_read_and_survives),
        TEST(open_files_are_limited_and_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The table that a view in memory is kept in, against a model, and its file: every byte of it
 * flipped, every cut. */
#include "base/mem.h"
#include "base/rand.h"
#include "client/view/memory.h"
#include "tests/kit/temp_dir.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { KEYS = 3000, BIG = 70000 };

/* ---- against a model ---- */

struct model {
    int64_t offset; /* -1: not there */
    size_t size;    /* of the value */
    bool is_null;
    bool is_old;
};

static uint8_t pattern[BIG + 256];

static struct rv_bytes key_of(int k, char text[16])
{
    int n = snprintf(text, 16, k % 3 ? "k%d" : "key-%08d", k);
    return (struct rv_bytes){text, k == 0 ? 0 : (size_t)n}; /* one is empty */
}

static void put(struct keys *t, struct model *m, int k, int64_t offset, size_t size, bool is_null)
{
    char text[16];
    const struct rv_view_entry e = {
        .key = key_of(k, text),
        .value = {is_null ? NULL : pattern + offset % 256, size},
        .partition = k % 7,
        .offset = offset,
        .timestamp_ms = offset * 2
    };
    assert_int_equal(keys_put(t, &e, false), OK);
    m[k] = (struct model){.offset = offset, .size = size, .is_null = is_null};
}

static void assert_block(const struct keys *t, const struct block *b, int k, const struct model *m)
{
    struct rv_view_entry e = block_entry(b);
    assert_int_equal(e.offset, m->offset);
    assert_int_equal(e.timestamp_ms, m->offset * 2);
    assert_int_equal(e.partition, k % 7);
    assert_int_equal(e.value.ptr == NULL, m->is_null);
    assert_int_equal(block_is_old(t, b), m->is_old);
    if (!m->is_null) {
        assert_int_equal(e.value.size, m->size);
        assert_memory_equal(e.value.ptr, pattern + m->offset % 256, m->size);
    }
}

static void assert_keys(const struct keys *t, const struct model *m)
{
    uint64_t cursor = 0, there = 0, nulls = 0, walked = 0;
    char text[16];
    for (int k = 0; k < KEYS; k++) {
        const struct block *b = keys_find(t, key_of(k, text));
        assert_int_equal(b != NULL, m[k].offset >= 0);
        if (b) {
            assert_block(t, b, k, &m[k]);
            there++;
            nulls += m[k].is_null;
        }
    }
    assert_int_equal(t->used, there);
    assert_int_equal(t->nulls, nulls);
    while (keys_next(t, &cursor)) {
        walked++;
    }
    assert_int_equal(walked, there);
}

static void a_table_is_what_was_put_into_it(void **state)
{
    static struct model m[KEYS];
    (void)state;
    for (size_t i = 0; i < sizeof pattern; i++) {
        pattern[i] = (uint8_t)(i * 7);
    }
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct keys t;
        struct rng r;
        rng_init(&r, seed);
        keys_init(&t, seed, UINT64_MAX);
        memset(m, 0xff, sizeof m);
        uint64_t live_most = 0;
        for (int64_t i = 0; i < 60000; i++) {
            char text[16];
            int k = (int)rng_below(&r, KEYS);
            uint64_t what = rng_below(&r, 100);
            size_t size = what < 90 ? rng_below(&r, 60) : what < 97 ? rng_below(&r, 3000) : BIG;
            if (what % 10 == 0) {
                keys_remove(&t, key_of(k, text));
                m[k].offset = -1;
            } else {
                put(&t, m, k, i, what == 99 ? 0 : size, what == 99);
            }
            uint64_t live = 0;
            for (int j = 0; i % 5000 == 0 && j < KEYS; j++) {
                live += m[j].offset >= 0 ? m[j].size + 64 : 0;
            }
            live_most = live > live_most ? live : live_most;
        }
        assert_keys(&t, m);
        /* twice what is there, the index, and a few chunks */
        assert_true(t.bytes < 2 * live_most + (t.mask + 1) * 8 + 4 * 256 * 1024);
        for (int k = 0; k < KEYS; k++) {
            char text[16];
            keys_remove(&t, key_of(k, text));
        }
        assert_int_equal(t.used, 0);
        assert_true(t.bytes <= (t.mask + 1) * 8 + 256 * 1024); /* the one that is filled */
        keys_finish(&t);
    }
}

/* Entries that are replaced over and over by others of other sizes: twice what is there at most. */
static void gaps_are_used_again(void **state)
{
    static struct model m[KEYS];
    struct keys t;
    struct rng r;
    uint64_t live = 0, most = 0;
    (void)state;
    rng_init(&r, 1);
    keys_init(&t, 1, UINT64_MAX);
    memset(m, 0xff, sizeof m);
    for (int64_t i = 0; i < 60000; i++) {
        int k = (int)rng_below(&r, KEYS);
        live -= m[k].offset >= 0 ? m[k].size : 0;
        put(&t, m, k, i, 500 + rng_below(&r, 1000), false);
        live += m[k].size;
        most = t.bytes > most ? t.bytes : most;
    }
    assert_keys(&t, m);
    assert_true(most < 2 * (live + KEYS * 48) + (t.mask + 1) * 8 + 4 * 256 * 1024);
    keys_finish(&t);
}

/* Three generations: only the last two are told apart, and that is what is asked for. */
static void generations_are_told_apart(void **state)
{
    static struct model m[KEYS];
    struct keys t;
    (void)state;
    keys_init(&t, 1, UINT64_MAX);
    memset(m, 0xff, sizeof m);
    for (int64_t generation = 1; generation <= 4; generation++) {
        if (generation > 1) {
            keys_begin(&t, generation);
        }
        for (int k = 0; k < KEYS; k++) {
            m[k].is_old = true;
            if (k % 4 < 5 - generation) {
                put(&t, m, k, generation, 20, false);
            }
        }
        assert_keys(&t, m);
    }
    keys_finish(&t);
}

static void the_limit_is_kept_and_nothing_is_lost(void **state)
{
    static struct model m[KEYS];
    struct keys t;
    char text[16];
    (void)state;
    enum { LIMIT = 600000 };
    keys_init(&t, 1, LIMIT);
    memset(m, 0xff, sizeof m);
    err e = OK;
    int k = 0;
    for (; e == OK && k < KEYS; k++) {
        const struct rv_view_entry entry = {
            .key = key_of(k, text), .value = {pattern, 1000},
                  .partition = k % 7
        };
        e = keys_put(&t, &entry, false);
        m[k] = e == OK ? (struct model){.size = 1000} : (struct model){.offset = -1};
        assert_true(t.bytes <= LIMIT);
    }
    assert_int_equal(e, ERR_LIMIT);
    assert_true(k > 400);
    assert_keys(&t, m);
    put(&t, m, 1, 0, 1000, false); /* in its place */
    keys_finish(&t);
}

/* ---- the file ---- */

static struct view_memory *memory(const char *path)
{
    struct view_memory *m;
    struct rv_error e;
    assert_int_equal(memory_create("topic", path, UINT64_MAX, &m, &e), RV_OK);
    return m;
}

static void fill(struct view_memory *m)
{
    struct rv_view_storage s = memory_storage(m);
    struct rv_error e;
    struct rv_view_position positions[] = {
        {0, 3,  77      },
        {1, -1, RV_START}
    };
    struct rv_view_state state = {.topic_id = "abc",
                                  .generation = 3,
                                  .fresh_ms = 99,
                                  .without_key = 5,
                                  .rebuilds = 2,
                                  .partition_count = 2,
                                  .positions = positions};
    m->table.generation = 2;
    for (int i = 0; i < 4; i++) {
        char text[16];
        const struct rv_view_entry entry = {
            .key = key_of(i + 1, text),
            .value = {i == 2 ? NULL : "value", i == 2 ? 0 : 5},
            .partition = i % 2,
            .offset = i,
            .timestamp_ms = 1000 + i
        };
        if (i == 1) {
            assert_int_equal(s.save(m, "topic", &state, &e), RV_OK); /* what was is old now */
        }
        assert_int_equal(s.put(m, &entry, m->table.generation, &e), RV_OK);
    }
}

static void assert_filled(struct view_memory *m)
{
    char text[16];
    assert_string_equal(m->state.topic_id, "abc");
    assert_int_equal(m->state.generation, 3);
    assert_int_equal(m->state.fresh_ms, 99);
    assert_int_equal(m->state.without_key, 5);
    assert_int_equal(m->state.rebuilds, 2);
    assert_int_equal(m->state.partition_count, 2);
    assert_int_equal(m->state.positions[0].offset, 77);
    assert_int_equal(m->state.positions[0].leader_epoch, 3);
    assert_int_equal(m->state.positions[1].offset, RV_START);
    assert_int_equal(m->table.used, 4);
    for (int i = 0; i < 4; i++) {
        const struct block *b = keys_find(&m->table, key_of(i + 1, text));
        assert_non_null(b);
        assert_int_equal(block_is_old(&m->table, b), i == 0);
        struct rv_view_entry e = block_entry(b);
        assert_int_equal(e.offset, i);
        assert_int_equal(e.value.ptr == NULL, i == 2);
    }
}

static void assert_empty(struct view_memory *m)
{
    assert_int_equal(m->table.used, 0);
    assert_int_equal(m->state.partition_count, 0);
    assert_null(m->state.positions);
}

static void release(struct view_memory *m)
{
    memory_storage(m).close(m);
}

static uint8_t *file_bytes(const char *path, size_t *ret_size)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    uint8_t *bytes = malloc(65536);
    *ret_size = fread(bytes, 1, 65536, f);
    fclose(f);
    return bytes;
}

static void file_write(const char *path, const uint8_t *bytes, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
}

static void what_is_saved_is_loaded(void **state)
{
    char dir[TEMP_DIR_SIZE], path[TEMP_DIR_SIZE + 8];
    struct rv_error e;
    (void)state;
    temp_dir_make(dir);
    snprintf(path, sizeof path, "%s/v", dir);
    struct view_memory *m = memory(path);
    assert_int_equal(snapshot_load(m, &e), RV_E_ABSENT);
    fill(m);
    assert_int_equal(snapshot_save(m, &e), RV_OK);
    assert_int_equal(snapshot_save(m, &e), RV_OK); /* over the other */
    release(m);
    m = memory(path);
    assert_int_equal(snapshot_load(m, &e), RV_OK);
    assert_filled(m);
    release(m);
    assert_int_equal(memory_create("other", path, UINT64_MAX, &m, &e), RV_OK);
    assert_int_equal(snapshot_load(m, &e), RV_E_CORRUPT);
    assert_non_null(strstr(e.text, "another topic"));
    release(m);
    temp_dir_remove(dir);
}

static void every_flipped_byte_and_every_cut_is_noticed(void **state)
{
    char dir[TEMP_DIR_SIZE], path[TEMP_DIR_SIZE + 8];
    struct rv_error e;
    size_t size;
    (void)state;
    temp_dir_make(dir);
    snprintf(path, sizeof path, "%s/v", dir);
    struct view_memory *m = memory(path);
    fill(m);
    assert_int_equal(snapshot_save(m, &e), RV_OK);
    release(m);
    uint8_t *bytes = file_bytes(path, &size);
    int tried = 0;
    for (size_t i = 0; i < size; i++) {
        for (int way = 0; way < 3; way++, tried++) { /* a bit, a byte, a cut */
            uint8_t was = bytes[i];
            bytes[i] ^= way == 0 ? 1 : way == 1 ? 0xff : 0;
            file_write(path, bytes, way == 2 ? i : size);
            bytes[i] = was;
            m = memory(path);
            assert_int_equal(snapshot_load(m, &e), RV_E_CORRUPT);
            assert_empty(m);
            release(m);
        }
    }
    file_write(path, bytes, size + 1); /* and one byte more */
    m = memory(path);
    assert_int_equal(snapshot_load(m, &e), RV_E_CORRUPT);
    release(m);
    printf("%d files refused\n", tried + 1);
    free(bytes);
    temp_dir_remove(dir);
}

/* Many entries, some larger than what is read at once. */
static void large_files_come_back(void **state)
{
    static struct model models[KEYS];
    char dir[TEMP_DIR_SIZE], path[TEMP_DIR_SIZE + 8];
    struct rv_error e;
    (void)state;
    temp_dir_make(dir);
    snprintf(path, sizeof path, "%s/v", dir);
    struct view_memory *m = memory(path);
    fill(m);
    keys_finish(&m->table);
    keys_init(&m->table, 1, UINT64_MAX);
    m->table.generation = 3;
    memset(models, 0xff, sizeof models);
    for (int k = 0; k < KEYS; k++) {
        put(&m->table, models, k, k, k % 100 == 0 ? BIG : (size_t)(k % 900), false);
    }
    assert_int_equal(snapshot_save(m, &e), RV_OK);
    release(m);
    m = memory(path);
    assert_int_equal(snapshot_load(m, &e), RV_OK);
    assert_keys(&m->table, models);
    release(m);
    assert_int_equal(memory_create("topic", path, 100000, &m, &e), RV_OK);
    assert_int_equal(snapshot_load(m, &e), RV_E_FULL); /* not damaged: too large for this one */
    assert_empty(m);
    release(m);
    temp_dir_remove(dir);
}

static void a_file_that_cannot_be_written_leaves_the_old_one(void **state)
{
    char dir[TEMP_DIR_SIZE], path[TEMP_DIR_SIZE + 8], beside[TEMP_DIR_SIZE + 16];
    struct rv_error e;
    (void)state;
    temp_dir_make(dir);
    snprintf(path, sizeof path, "%s/v", dir);
    snprintf(beside, sizeof beside, "%s/v.tmp", dir);
    struct view_memory *m = memory(path);
    fill(m);
    assert_int_equal(snapshot_save(m, &e), RV_OK);
    assert_int_equal(mkdir(beside, 0700), 0);
    assert_int_equal(snapshot_save(m, &e), RV_E_IO);
    assert_non_null(strstr(e.text, "v.tmp"));
    release(m);
    m = memory(path);
    assert_int_equal(snapshot_load(m, &e), RV_OK);
    assert_filled(m);
    release(m);
    temp_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_is_what_was_put_into_it),
        cmocka_unit_test(gaps_are_used_again),
        cmocka_unit_test(generations_are_told_apart),
        cmocka_unit_test(the_limit_is_kept_and_nothing_is_lost),
        cmocka_unit_test(what_is_saved_is_loaded),
        cmocka_unit_test(every_flipped_byte_and_every_cut_is_noticed),
        cmocka_unit_test(large_files_come_back),
        cmocka_unit_test(a_file_that_cannot_be_written_leaves_the_old_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

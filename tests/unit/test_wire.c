/* The reader and the writer over every table, and by hand where the bytes matter. */
#include "base/mem.h"
#include "gen/api_versions.h"
#include "gen/apis.h"
#include "gen/describe_topic_partitions.h"
#include "gen/fetch.h"
#include "gen/metadata.h"
#include "gen/offset_fetch.h"
#include "gen/produce.h"
#include "protocol/frame.h"
#include "tests/kit/wire_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum {
    ARENA_LIMIT = 1 << 22,
    WRITER_LIMIT = 1 << 22,
    ROUNDS = 3, /* messages of every table and version */
};

typedef void on_table(const struct wire_struct *table, int16_t version, struct rng *rng);

static void for_all_tables(uint64_t seed, on_table *fn)
{
    struct rng rng;
    rng_init(&rng, seed);
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int32_t i = 0; i < wire_api_count; i++) {
        const struct wire_api *api = &wire_apis[i];
        for (int16_t v = api->min_version; v <= api->max_version; v++) {
            fn(api->request, v, &rng);
            fn(api->response, v, &rng);
        }
    }
    for (int32_t i = 0; i < wire_record_kind_count; i++) {
        const struct wire_struct *t = wire_record_kinds[i];
        for (int16_t v = t->min_version; v <= t->max_version; v++) {
            fn(t, v, &rng);
        }
    }
}

static void encode_random(const struct wire_struct *t, int16_t version, struct rng *rng,
                          struct arena *a, struct writer *w)
{
    void *in = arena_alloc(a, t->size);
    assert_non_null(in);
    wire_random(t, version, rng, a, in);
    err e = wire_encode(t, version, w, in);
    if (e != OK) {
        fail_msg("%s v%d: %s at %s", t->name, version, err_text(e), w->at ? w->at : "?");
    }
}

static void round_trip(const struct wire_struct *t, int16_t version, struct rng *rng)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct arena a;
        struct writer w, again;
        struct reader r;
        arena_init(&a, ARENA_LIMIT);
        writer_init(&w, WRITER_LIMIT);
        writer_init(&again, WRITER_LIMIT);
        encode_random(t, version, rng, &a, &w);
        void *out = arena_alloc(&a, t->size);
        reader_init(&r, w.ptr, w.len);
        err e = wire_decode(t, version, &r, &a, out);
        if (e != OK) {
            fail_msg("%s v%d: %s at %s", t->name, version, err_text(e), r.at ? r.at : "?");
        }
        assert_int_equal(reader_left(&r), 0);
        assert_int_equal(wire_encode(t, version, &again, out), OK);
        assert_int_equal(again.len, w.len);
        if (w.len) {
            assert_memory_equal(again.ptr, w.ptr, w.len);
        }
        writer_finish(&again);
        writer_finish(&w);
        arena_finish(&a);
    }
}

static void every_message_survives_a_round_trip(void **state)
{
    (void)state;
    for_all_tables(1, round_trip);
}

/* Every message, cut short at every byte: an error each time, and nothing read past the end (the
 * copy is exactly as long as the piece, so that asan sees it). */
static void cut_short(const struct wire_struct *t, int16_t version, struct rng *rng)
{
    struct arena a;
    struct writer w;
    arena_init(&a, ARENA_LIMIT);
    writer_init(&w, WRITER_LIMIT);
    encode_random(t, version, rng, &a, &w);
    for (size_t len = 0; len < w.len; len += 1 + len / 16) {
        uint8_t *piece = mem_dup(w.ptr, len);
        struct reader r;
        reader_init(&r, piece, len);
        void *out = arena_alloc(&a, t->size);
        assert_non_null(out);
        assert_int_not_equal(wire_decode(t, version, &r, &a, out), OK);
        mem_free(piece);
    }
    writer_finish(&w);
    arena_finish(&a);
}

static void a_message_cut_short_anywhere_is_an_error(void **state)
{
    (void)state;
    for_all_tables(2, cut_short);
}

/* Every message with bytes changed: anything may come out, but within the limits. */
static void garbled(const struct wire_struct *t, int16_t version, struct rng *rng)
{
    struct arena a;
    struct writer w;
    arena_init(&a, ARENA_LIMIT);
    writer_init(&w, WRITER_LIMIT);
    encode_random(t, version, rng, &a, &w);
    for (int round = 0; round < 8 && w.len; round++) {
        uint8_t *copy = mem_dup(w.ptr, w.len);
        for (int i = 0; i < 3; i++) {
            copy[rng_below(rng, w.len)] = (uint8_t)rng_next(rng);
        }
        struct arena small;
        struct reader r;
        arena_init(&small, 1 << 16);
        reader_init(&r, copy, w.len);
        void *out = arena_alloc(&a, t->size);
        assert_non_null(out);
        err e = wire_decode(t, version, &r, &small, out);
        assert_true(e == r.error);
        assert_true(small.used_bytes <= 1 << 16);
        arena_finish(&small);
        mem_free(copy);
    }
    writer_finish(&w);
    arena_finish(&a);
}

static void garbled_messages_stay_within_the_limits(void **state)
{
    (void)state;
    for_all_tables(3, garbled);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_survives_a_round_trip),
        cmocka_unit_test(a_message_cut_short_anywhere_is_an_error),
        cmocka_unit_test(garbled_messages_stay_within_the_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

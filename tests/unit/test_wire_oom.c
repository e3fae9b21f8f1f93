/* Every allocation of the reader and the writer fails in turn: ERR_MEMORY each time, and nothing
 * leaks. */
#include "protocol/frame.h"
#include "tests/kit/failing_mem.h"
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
};

/* Fails allocation after allocation of the encoding, until one run succeeds. */
static long sweep_encode(const struct wire_struct *t, int16_t version, const void *in)
{
    for (long k = 0;; k++) {
        struct writer w;
        writer_init(&w, WRITER_LIMIT);
        mem_fail_at(k);
        err e = wire_encode(t, version, &w, in);
        bool was_hit = mem_asked() > k;
        mem_fail_at(-1);
        assert_int_equal(e, was_hit ? ERR_MEMORY : OK);
        writer_finish(&w);
        if (!was_hit) {
            return k;
        }
    }
}

static long sweep_decode(const struct wire_struct *t, int16_t version, const struct writer *bytes)
{
    for (long k = 0;; k++) {
        struct arena a;
        struct reader r;
        _Alignas(16) char out[512];
        assert_true(t->size <= sizeof out);
        arena_init(&a, ARENA_LIMIT);
        reader_init(&r, bytes->ptr, bytes->len);
        mem_fail_at(k);
        err e = wire_decode(t, version, &r, &a, out);
        bool was_hit = mem_asked() > k;
        mem_fail_at(-1);
        assert_int_equal(e, was_hit ? ERR_MEMORY : OK);
        arena_finish(&a);
        if (!was_hit) {
            return k;
        }
    }
}

static long sweep(const struct wire_struct *t, int16_t version, struct rng *rng)
{
    struct arena a;
    struct writer w;
    arena_init(&a, ARENA_LIMIT);
    writer_init(&w, WRITER_LIMIT);
    void *in = arena_alloc(&a, t->size);
    assert_non_null(in);
    wire_random(t, version, rng, &a, in);
    assert_int_equal(wire_encode(t, version, &w, in), OK);
    long failures = sweep_encode(t, version, in) + sweep_decode(t, version, &w);
    writer_finish(&w);
    arena_finish(&a);
    return failures;
}

static void every_failed_allocation_is_an_error_and_nothing_leaks(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 4);
    long before = mem_alive();
    long failures = 0;
    for (int32_t i = 0; i < wire_api_count; i++) {
        const struct wire_api *api = &wire_apis[i];
        for (int16_t v = api->min_version; v <= api->max_version; v++) {
            failures += sweep(api->request, v, &rng) + sweep(api->response, v, &rng);
        }
    }
    print_message("seed 4: %ld allocations failed\n", failures);
    assert_true(failures > wire_api_count);
    assert_int_equal(mem_alive(), before);
}

static void a_failed_splice_is_an_error_and_nothing_leaks(void **state)
{
    (void)state;
    long before = mem_alive();
    long failures = 0;
    for (long k = 0;; k++) {
        struct writer w;
        writer_init(&w, WRITER_LIMIT);
        mem_fail_at(k);
        frame_begin_response(&w, wire_api_find(1), 12, 7);
        for (int i = 0; i < 100; i++) {
            writer_int32(&w, i);
            writer_splice(&w, &failures, 10);
        }
        err e = frame_end(&w);
        bool was_hit = mem_asked() > k;
        mem_fail_at(-1);
        assert_int_equal(e, was_hit ? ERR_MEMORY : OK);
        writer_finish(&w);
        if (!was_hit) {
            break;
        }
        failures++;
    }
    assert_true(failures >= 5);
    assert_int_equal(mem_alive(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_failed_allocation_is_an_error_and_nothing_leaks),
        cmocka_unit_test(a_failed_splice_is_an_error_and_nothing_leaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

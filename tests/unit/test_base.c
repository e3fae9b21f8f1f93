/* The small things of base/: arenas, maps, lists, timers, histograms, budgets, slabs, log lines,
 * checksums, random numbers. */
#include "base/arena.h"
#include "base/budget.h"
#include "base/crc32c.h"
#include "base/diag.h"
#include "base/histogram.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/rand.h"
#include "base/slab.h"
#include "base/timer.h"
#include "tests/kit/sim_clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- arena */

static void an_arena_gives_aligned_memory_up_to_its_limit(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 100000);
    for (size_t size = 0; size < 200; size++) {
        uint8_t *p = arena_alloc(&a, size);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
        memset(p, 0xAA, size);
    }
    assert_true(a.used_bytes <= 100000);
    assert_null(arena_alloc(&a, 100000));
    assert_int_equal(arena_error(&a), ERR_LIMIT);
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_zero(&a, SIZE_MAX / 2, 4));
    assert_non_null(arena_alloc(&a, 10)); /* what was too much spoils nothing */
    arena_finish(&a);
    assert_int_equal(a.used_bytes, 0);
}

static void an_arena_that_was_reset_takes_no_new_memory(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 1 << 20);
    void *first = arena_alloc(&a, 100);
    for (int i = 0; i < 100; i++) {
        assert_non_null(arena_alloc(&a, 1000));
    }
    arena_reset(&a);
    size_t kept = a.used_bytes;
    assert_ptr_equal(arena_alloc(&a, 100), first);
    assert_int_equal(a.used_bytes, kept);
    assert_string_equal(arena_printf(&a, "%d-%s", 7, "x"), "7-x");
    assert_memory_equal(arena_dup(&a, "abc", 3), "abc", 3);
    const uint8_t *zeros = arena_zero(&a, 10, 10);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(zeros[i], 0);
    }
    arena_finish(&a);
}

/* ---- map */

static void a_map_finds_replaces_and_forgets(void **state)
{
    (void)state;
    struct map m;
    char keys[1000][8];
    map_init(&m, 5);
    for (int i = 0; i < 1000; i++) {
        snprintf(keys[i], sizeof keys[i], "k%d", i % 1000);
        assert_int_equal(map_put_str(&m, str_of(keys[i]), keys[i]), OK);
    }
    assert_int_equal(map_count(&m), 1000);
    for (int i = 0; i < 1000; i += 2) {
        assert_ptr_equal(map_remove_str(&m, str_of(keys[i])), keys[i]);
        assert_null(map_remove_str(&m, str_of(keys[i])));
    }
    for (int i = 0; i < 1000; i++) {
        assert_ptr_equal(map_get_str(&m, str_of(keys[i])), i % 2 ? keys[i] : NULL);
    }
    assert_int_equal(map_put_str(&m, STR("k1"), keys[0]), OK);
    assert_ptr_equal(map_get_str(&m, STR("k1")), keys[0]);
    assert_int_equal(map_count(&m), 500);
    assert_int_equal(map_put_str(&m, STR(""), keys[2]), OK); /* an empty key is one */
    assert_ptr_equal(map_get(&m, "", 0), keys[2]);
    map_finish(&m);
}

static void a_map_is_walked_in_the_order_of_insertion_whatever_its_seed(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct map m;
        map_init(&m, seed);
        for (uintptr_t i = 1; i <= 100; i++) {
            assert_int_equal(map_put(&m, &i, sizeof i, (void *)i), OK);
        }
        uintptr_t expected = 1;
        for (struct map_entry *e = map_first(&m), *after; e; e = after) {
            after = map_next(e);
            uintptr_t key;
            assert_int_equal(map_key(e).len, sizeof key);
            memcpy(&key, map_key(e).ptr, sizeof key);
            assert_int_equal((uintptr_t)map_value(e), expected);
            assert_int_equal(key, expected);
            expected++;
            map_remove(&m, &key, sizeof key); /* the one that is visited may go */
        }
        assert_int_equal(map_count(&m), 0);
        map_finish(&m);
    }
    assert_true(hash_bytes("abc", 3, 1) != hash_bytes("abc", 3, 2));
    assert_true(hash_bytes("abc", 3, 1) == hash_bytes("abc", 3, 1));
}

/* ---- list */

struct item {
    int n;
    struct list link;
};

static void lists_keep_their_order(void **state)
{
    (void)state;
    struct list a;
    struct list b;
    struct item items[6];
    list_init(&a);
    list_init(&b);
    assert_null(list_pop(&a));
    for (int i = 0; i < 6; i++) {
        items[i] = (struct item){.n = i};
        list_push(i < 3 ? &a : &b, &items[i].link);
    }
    list_splice(&a, &b);
    assert_true(list_empty(&b));
    list_splice(&a, &b); /* nothing */
    list_remove(&items[2].link);
    list_remove(&items[2].link); /* one that is in no list */
    assert_false(list_linked(&items[2].link));
    list_push_front(&a, &items[2].link);
    static const int expected[] = {2, 0, 1, 3, 4, 5};
    int n = 0;
    list_each(node, &a)
    {
        assert_int_equal(list_entry(node, struct item, link)->n, expected[n++]);
    }
    assert_int_equal(n, 6);
    list_each_safe(node, after, &a)
    {
        list_remove(node);
    }
    assert_true(list_empty(&a));
}

/* ---- timers */

struct alarm {
    struct timer timer;
    struct timers *timers;
    int number;
    int rearm_ms; /* > 0: arms itself again */
    int *log;
    int *count;
};

static void on_alarm(struct timer *t)
{
    struct alarm *a = (struct alarm *)(void *)t;
    a->log[(*a->count)++] = a->number;
    if (a->rearm_ms) {
        timer_arm(a->timers, t, t->deadline_ms + a->rearm_ms);
    }
}

static void timers_fire_by_deadline_and_then_by_order_of_arming(void **state)
{
    (void)state;
    enum { COUNT = 200 };
    struct timers t;
    struct alarm alarms[COUNT];
    struct rng rng;
    int log[COUNT + 10];
    int count = 0;
    rng_init(&rng, 3);
    timers_init(&t);
    assert_true(timers_next_ms(&t) == INT64_MAX);
    for (int i = 0; i < COUNT; i++) {
        alarms[i] = (struct alarm){.timers = &t, .number = i, .log = log, .count = &count};
        timer_init(&alarms[i].timer, on_alarm);
        timer_arm(&t, &alarms[i].timer, 1000);
    }
    for (int i = 0; i < COUNT; i++) { /* moved */
        timer_arm(&t, &alarms[i].timer, (int64_t)rng_below(&rng, 10));
    }
    for (int i = 0; i < COUNT; i += 3) {
        timer_disarm(&t, &alarms[i].timer);
        timer_disarm(&t, &alarms[i].timer);
        assert_false(timer_armed(&alarms[i].timer));
    }
    int64_t last = -1;
    for (int64_t now = 0; now < 10; now++) {
        int from = count;
        timers_run(&t, now);
        for (int i = from; i < count; i++) {
            const struct alarm *a = &alarms[log[i]];
            assert_int_equal(a->timer.deadline_ms, now);
            assert_true(i == from || log[i] > log[i - 1]);
            last = now;
        }
        assert_true(timers_next_ms(&t) > now);
    }
    assert_true(last > 5);
    assert_int_equal(count, COUNT - (COUNT + 2) / 3);
    timers_finish(&t);
}

enum { MANY_TIMERS = 300, STEPS = 20000 };

static int fired_number;

static void on_numbered(struct timer *t)
{
    fired_number = ((struct alarm *)(void *)t)->number;
}

/* Against a list that is searched through. */
static void timers_armed_moved_and_disarmed_at_random_fire_in_order(void **state)
{
    (void)state;
    static struct alarm alarms[MANY_TIMERS];
    int64_t deadlines[MANY_TIMERS]; /* -1: not armed */
    uint64_t orders[MANY_TIMERS];
    struct timers t;
    struct rng rng;
    rng_init(&rng, 4);
    timers_init(&t);
    for (int i = 0; i < MANY_TIMERS; i++) {
        alarms[i].number = i;
        deadlines[i] = -1;
        timer_init(&alarms[i].timer, on_numbered);
    }
    for (int step = 0; step < STEPS; step++) {
        int i = (int)rng_below(&rng, MANY_TIMERS);
        if (rng_below(&rng, 3) > 0) {
            deadlines[i] = (int64_t)rng_below(&rng, 50);
            orders[i] = (uint64_t)step;
            timer_arm(&t, &alarms[i].timer, deadlines[i]);
        } else if (rng_below(&rng, 2)) {
            deadlines[i] = -1;
            timer_disarm(&t, &alarms[i].timer);
        }
        int first = -1;
        for (int k = 0; k < MANY_TIMERS; k++) {
            assert_int_equal(timer_armed(&alarms[k].timer), deadlines[k] >= 0);
            bool earlier = first < 0 || deadlines[k] < deadlines[first] ||
                           (deadlines[k] == deadlines[first] && orders[k] < orders[first]);
            first = deadlines[k] >= 0 && earlier ? k : first;
        }
        assert_true(timers_next_ms(&t) == (first < 0 ? INT64_MAX : deadlines[first]));
        if (first >= 0 && step % 4 == 0) {
            struct timer *due = t.root;
            timer_disarm(&t, due);
            due->fire(due);
            assert_int_equal(fired_number, first);
            deadlines[first] = -1;
        }
    }
    timers_finish(&t);
    for (int i = 0; i < MANY_TIMERS; i++) {
        assert_false(timer_armed(&alarms[i].timer));
    }
}

static void a_timer_that_arms_itself_for_now_waits_for_the_next_call(void **state)
{
    (void)state;
    struct timers t;
    int log[16];
    int count = 0;
    struct alarm a = {.timers = &t, .rearm_ms = 1, .log = log, .count = &count};
    timers_init(&t);
    timer_init(&a.timer, on_alarm);
    timer_arm(&t, &a.timer, 1);
    timers_run(&t, 100);
    assert_int_equal(count, 1);
    timers_run(&t, 100);
    assert_int_equal(count, 2);
    timers_finish(&t);
    assert_false(timer_armed(&a.timer));
}

/* ---- histogram */

static void quantiles_are_within_a_fifth(void **state)
{
    (void)state;
    struct histogram h = {0};
    assert_int_equal(histogram_quantile_us(&h, 0.5), 0);
    for (int64_t v = 1; v <= 10000; v++) {
        histogram_record(&h, v);
    }
    static const double shares[] = {0.01, 0.25, 0.5, 0.9, 0.99, 1.0};
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        double exact = 10000 * shares[i];
        double told = (double)histogram_quantile_us(&h, shares[i]);
        assert_true(told >= exact && told <= exact * 1.26 + 1);
    }
    assert_int_equal(h.count, 10000);
    assert_int_equal(h.sum_us, 50005000);
    histogram_record(&h, -5);
    histogram_record(&h, INT64_MAX);
    assert_int_equal(h.buckets[0], 1);
    assert_int_equal(h.buckets[HISTOGRAM_BUCKETS - 1], 1);
}

/* ---- budget and slab */

static void count_call(void *ctx)
{
    (*(int *)ctx)++;
}

static void a_budget_tells_once_when_there_is_room_again(void **state)
{
    (void)state;
    int calls = 0;
    struct budget b = {.limit_bytes = 800, .freed = count_call, .ctx = &calls};
    budget_charge(&b, 800);
    assert_true(budget_spent(&b));
    budget_wait(&b);
    budget_return(&b, 50);
    assert_false(budget_spent(&b));
    assert_true(budget_tight(&b));
    assert_int_equal(calls, 0); /* above seven eighths still */
    budget_return(&b, 51);
    assert_int_equal(calls, 1);
    budget_return(&b, 600);
    assert_int_equal(calls, 1); /* nobody waits */
    assert_int_equal(b.peak_bytes, 800);
}

static void a_part_of_a_budget_counts_in_the_whole(void **state)
{
    (void)state;
    int calls = 0;
    int part_calls = 0;
    struct budget whole = {.limit_bytes = 800, .freed = count_call, .ctx = &calls};
    struct budget part = {
        .limit_bytes = 80, .freed = count_call, .ctx = &part_calls, .whole = &whole};
    budget_charge(&whole, 100);
    budget_charge(&part, 80);
    assert_true(budget_spent(&part));
    assert_false(budget_spent(&whole));
    assert_int_equal(whole.used_bytes, 180);
    budget_set_aside(&part, 30); /* of both */
    assert_false(budget_spent(&part));
    assert_true(budget_tight_with(&part, 20));
    assert_int_equal(whole.aside_bytes, 30);
    budget_set_aside(&part, 0);
    budget_wait(&part); /* of the part alone */
    budget_return(&whole, 50);
    assert_int_equal(calls + part_calls, 0);
    budget_return(&part, 20);
    assert_int_equal(part_calls, 1);
    assert_int_equal(calls, 0);
    assert_int_equal(whole.used_bytes, 110);
    struct slab *s = slab_create(&part, 10);
    assert_int_equal(part.used_bytes, 70);
    assert_int_equal(whole.used_bytes, 120);
    slab_hand_up(s);
    assert_int_equal(part.used_bytes, 60);
    assert_int_equal(whole.used_bytes, 120);
    slab_unref(s);
    assert_int_equal(part.used_bytes, 60);
    assert_int_equal(whole.used_bytes, 110);
    assert_int_equal(part.peak_bytes, 80);
    assert_int_equal(whole.peak_bytes, 180);
}

static void a_slab_lives_as_long_as_its_last_reference(void **state)
{
    (void)state;
    struct budget b = {.limit_bytes = 1 << 20};
    struct slab *s = slab_create(&b, 1000);
    memset(s->data, 7, s->size);
    size_t one = b.used_bytes;
    assert_true(one >= 1000);
    s = slab_resize(s, 5000);
    assert_int_equal(s->data[999], 7);
    assert_int_equal(b.used_bytes, one + 4000);
    slab_ref(s);
    slab_unref(s);
    assert_int_equal(b.used_bytes, one + 4000);
    slab_unref(s);
    assert_int_equal(b.used_bytes, 0);
    slab_unref(NULL);
}

/* ---- log lines */

static void keep_line(void *ctx, const char *line, size_t size)
{
    buf_add(ctx, line, size);
}

static void a_log_line_is_one_line_whatever_is_in_it(void **state)
{
    (void)state;
    struct sim_clock clock;
    struct buf out = {0};
    char long_text[5000];
    sim_clock_init(&clock, 1700000000123);
    struct diag d = {.level = DIAG_INFO, .clock = &clock.clock, .write = keep_line, .ctx = &out};
    diag_log(&d, DIAG_DEBUG, "quiet", "x=%d", 1);
    assert_int_equal(out.len, 0);
    diag_log(&d, DIAG_WARN, "event", "x=%d", 1);
    assert_string_equal(buf_text(&out), "ts=2023-11-14T22:13:20.123Z level=warn event=event x=1\n");
    out.len = 0;
    memset(long_text, 'a', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = 0;
    diag_log(&d, DIAG_ERROR, "long", "text=%s", long_text);
    assert_true(out.len <= DIAG_LINE_SIZE);
    assert_int_equal(out.ptr[out.len - 1], '\n');
    buf_finish(&out);
}

static void data_from_outside_is_escaped_and_bounded(void **state)
{
    (void)state;
    char text[DIAG_ESCAPED_SIZE];
    char all[256];
    assert_string_equal(diag_escape(STR("plain"), text), "\"plain\"");
    assert_string_equal(diag_escape((struct str){0}, text), "null");
    assert_string_equal(diag_escape(STR(""), text), "\"\"");
    assert_string_equal(diag_escape(STR("a\nb\"c\\d\x01\x7f\xff"), text),
                        "\"a\\nb\\\"c\\\\d\\x01\\x7f\\xff\"");
    for (int i = 0; i < 256; i++) {
        all[i] = (char)i;
    }
    for (size_t from = 0; from < 256; from++) {
        const char *told = diag_escape((struct str){all + from, 256 - from}, text);
        assert_true(strlen(told) < DIAG_ESCAPED_SIZE);
        for (const char *c = told; *c; c++) {
            assert_true(*c >= 0x20 && *c < 0x7f);
        }
    }
}

/* ---- checksums and random numbers */

static uint32_t slow_crc32c(const uint8_t *p, size_t size)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < size; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++) {
            crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
        }
    }
    return ~crc;
}

static void crc32c_is_that_of_rfc_3720(void **state)
{
    (void)state;
    uint8_t bytes[1024];
    assert_int_equal(crc32c("", 0), 0);
    assert_int_equal(crc32c("123456789", 9), 0xE3069283);
    memset(bytes, 0, 32);
    assert_int_equal(crc32c(bytes, 32), 0x8A9136AA);
    memset(bytes, 0xFF, 32);
    assert_int_equal(crc32c(bytes, 32), 0x62A8AB43);
    for (int i = 0; i < 32; i++) {
        bytes[i] = (uint8_t)i;
    }
    assert_int_equal(crc32c(bytes, 32), 0x46DD794E);
    struct rng rng;
    rng_init(&rng, 9);
    rng_bytes(&rng, bytes, sizeof bytes);
    for (size_t from = 0; from < 16; from++) { /* every alignment, and the lengths of its lanes */
        for (size_t size = 0; size < 1000; size += 37) {
            uint32_t expected = slow_crc32c(bytes + from, size);
            assert_int_equal(crc32c(bytes + from, size), expected);
            size_t part = size / 3;
            uint32_t crc = crc32c(bytes + from, part);
            assert_int_equal(crc32c_more(crc, bytes + from + part, size - part), expected);
        }
    }
}

static void crc32c_is_the_same_by_every_way(void **state)
{
    (void)state;
    static uint8_t bytes[40000];
    struct rng rng;
    rng_init(&rng, 10);
    rng_bytes(&rng, bytes, sizeof bytes);
    assert_true(crc32c_can(CRC32C_TABLES));
    for (size_t size = 0; size + 16 < sizeof bytes; size += size < 600 ? 1 : size / 37) {
        const uint8_t *from = bytes + size % 16;
        uint32_t expected = slow_crc32c(from, size);
        size_t part = rng_below(&rng, size + 1);
        for (int way = CRC32C_TABLES; way <= CRC32C_CPU; way++) {
            if (crc32c_can(way)) {
                assert_int_equal(crc32c_by(way, 0, from, size), expected);
                uint32_t crc = crc32c_by(way, 0, from, part);
                assert_int_equal(crc32c_by(way, crc, from + part, size - part), expected);
            }
        }
    }
}

static void seeded_numbers_repeat_and_are_unbiased(void **state)
{
    (void)state;
    struct rng a;
    struct rng b;
    struct rng c;
    rng_init(&a, 1);
    rng_init(&b, 1);
    rng_init(&c, 2);
    assert_true(rng_next(&a) == rng_next(&b));
    assert_true(rng_next(&a) != rng_next(&c));
    int counts[6] = {0};
    for (int i = 0; i < 60000; i++) {
        counts[rng_below(&a, 6)]++;
    }
    for (int i = 0; i < 6; i++) {
        assert_in_range(counts[i], 9500, 10500);
    }
    assert_int_equal(rng_below(&a, 1), 0);
    rng_init(&a, 0); /* no seed makes a state of zeros */
    assert_true(rng_next(&a) != 0 || rng_next(&a) != 0);
    uint8_t x[16] = {0};
    uint8_t y[16] = {0};
    rand_system(x, sizeof x);
    rand_system(y, sizeof y);
    assert_memory_not_equal(x, y, sizeof x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_arena_gives_aligned_memory_up_to_its_limit),
        cmocka_unit_test(an_arena_that_was_reset_takes_no_new_memory),
        cmocka_unit_test(a_map_finds_replaces_and_forgets),
        cmocka_unit_test(a_map_is_walked_in_the_order_of_insertion_whatever_its_seed),
        cmocka_unit_test(lists_keep_their_order),
        cmocka_unit_test(timers_fire_by_deadline_and_then_by_order_of_arming),
        cmocka_unit_test(timers_armed_moved_and_disarmed_at_random_fire_in_order),
        cmocka_unit_test(a_timer_that_arms_itself_for_now_waits_for_the_next_call),
        cmocka_unit_test(quantiles_are_within_a_fifth),
        cmocka_unit_test(a_budget_tells_once_when_there_is_room_again),
        cmocka_unit_test(a_part_of_a_budget_counts_in_the_whole),
        cmocka_unit_test(a_slab_lives_as_long_as_its_last_reference),
        cmocka_unit_test(a_log_line_is_one_line_whatever_is_in_it),
        cmocka_unit_test(data_from_outside_is_escaped_and_bounded),
        cmocka_unit_test(crc32c_is_that_of_rfc_3720),
        cmocka_unit_test(crc32c_is_the_same_by_every_way),
        cmocka_unit_test(seeded_numbers_repeat_and_are_unbiased),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

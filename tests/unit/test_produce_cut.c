/* Produce frames that are cut while they arrive: in every version, at every byte. */
#include "broker/api/produce_cut.h"

#include "base/mem.h"
#include "base/rand.h"
#include "gen/apis.h"
#include "gen/produce.h"
#include "protocol/frame.h"
#include "tests/kit/cut_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

enum { FIRST = 3, LAST = 13, FLEXIBLE = 9, BY_ID = 13, SIZE_MAX_OF_TEST = 1 << 20 };

struct shape {
    const char *what;
    int topics;
    int partitions[4];
    int records; /* bytes of each, about; 0: null, empty and one byte by turns */
    const char *transactional_id;
    const char *client_id;
};

static const struct shape shapes[] = {
    {"one partition",          1, {1},          20, NULL, "client"},
    {"a topic of five",        1, {5},          7,  NULL, NULL    },
    {"three topics",           3, {2, 1, 3},    10, "tx", "client"},
    {"no partitions anywhere", 2, {0, 0},       0,  NULL, ""      },
    {"some without",           4, {0, 2, 0, 1}, 5,  "",   "c"     },
    {"null and empty records", 2, {4, 5},       0,  NULL, "c"     },
    {"counts of two bytes",    2, {130, 128},   0,  NULL, "c"     },
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static struct buf frame_of(const struct shape *s, int version)
{
    static uint8_t bytes[64];
    struct arena a;
    struct writer w;
    struct produce_request q;
    struct buf out = {0};
    arena_init(&a, SIZE_MAX_OF_TEST);
    produce_request_init(&q);
    q.acks = -1;
    q.timeout_ms = 1234;
    q.transactional_id = str_of(s->transactional_id);
    q.topics = wire_array(&a, &produce_request_topic_table, s->topics);
    q.topics_count = s->topics;
    for (int t = 0; t < s->topics; t++) {
        struct produce_request_topic *topic = &q.topics[t];
        topic->name = str_of(arena_printf(&a, "topic-%d", t));
        topic->topic_id.b[3] = (uint8_t)(t + 1);
        topic->partitions = wire_array(&a, &produce_request_partition_table, s->partitions[t]);
        topic->partitions_count = s->partitions[t];
        for (int i = 0; i < s->partitions[t]; i++) {
            topic->partitions[i].index = 1000 * t + i;
            memset(bytes, t * 16 + i, sizeof bytes);
            size_t size = s->records ? (size_t)(s->records + i) : (size_t)(i % 3 == 2);
            const uint8_t *p = s->records || i % 3 ? arena_dup(&a, bytes, sizeof bytes) : NULL;
            topic->partitions[i].records = (struct wire_records){.ptr = p, .len = p ? size : 0};
        }
    }
    writer_init(&w, SIZE_MAX_OF_TEST);
    frame_begin_request(&w, wire_api_find(API_PRODUCE), (int16_t)version, 77, str_of(s->client_id));
    assert_int_equal(wire_encode(&produce_request_table, (int16_t)version, &w, &q), OK);
    assert_int_equal(frame_end(&w), OK);
    buf_add(&out, w.ptr + FRAME_SIZE_BYTES, w.len - FRAME_SIZE_BYTES);
    writer_finish(&w);
    arena_finish(&a);
    return out;
}

static const uint8_t *bytes_of(const struct buf *b)
{
    return (const uint8_t *)b->ptr;
}

static void parts_say_what_the_whole_says_wherever_it_is_cut(void **state)
{
    (void)state;
    for (int version = FIRST; version <= LAST; version++) {
        for (int i = 0; i < SHAPES; i++) {
            struct buf frame = frame_of(&shapes[i], version);
            int most = 0;
            size_t stride = frame.len > 500 ? 31 : 1; /* of the longest: it is cut often */
            for (size_t have = 0; have < frame.len; have += stride) {
                for (size_t step = 0; step < 40; step = step * 3 + 1) {
                    int count = cut_check(bytes_of(&frame), frame.len, have, step);
                    most = count > most ? count : most;
                }
            }
            int partitions = 0;
            for (int t = 0; t < shapes[i].topics; t++) {
                partitions += shapes[i].partitions[t];
            }
            assert_true(partitions > 1 ? most >= 1 : most == 0); /* behind the last is the end */
            assert_true(partitions < 5 || most >= 2);
            buf_finish(&frame);
        }
    }
}

/* Behind the last byte of a partition, and, where tagged fields follow, of two more: what was whole
 * before is found as soon as it is. */
static void a_partition_is_cut_off_as_soon_as_it_is_whole(void **state)
{
    (void)state;
    for (int version = FIRST; version <= LAST; version++) {
        struct buf frame = frame_of(&shapes[1], version);
        struct produce_cut cut;
        size_t behind = version >= FLEXIBLE ? 2 : 0;
        size_t last = 0;
        int found = 0;
        for (size_t have = 0; have < frame.len; have++) {
            assert_true(produce_cut_find(bytes_of(&frame), have, frame.len, 100, &cut));
            if (cut.end != last) {
                assert_int_equal(have, cut.end + behind);
                assert_int_equal(cut.topics_done, 1);
                assert_int_equal(cut.topics_left, 1);
                assert_int_equal(cut.partitions_done, found + 1);
                assert_int_equal(cut.partitions_left, 5 - found - 1);
                last = cut.end;
                found++;
            }
        }
        assert_int_equal(found, 4);
        buf_finish(&frame);
    }
}

static void records_that_are_not_all_here_are_named(void **state)
{
    (void)state;
    for (int version = FIRST; version <= LAST; version++) {
        struct buf frame = frame_of(&shapes[2], version);
        struct produce_cut cut;
        int open = 0;
        for (size_t have = 0; have < frame.len; have++) {
            assert_true(produce_cut_find(bytes_of(&frame), have, frame.len, 100, &cut));
            if (!cut.open) {
                continue;
            }
            int t = cut.index / 1000;
            assert_int_equal(cut.records_size, 10 + cut.index % 1000);
            assert_true(have >= cut.records && have < cut.records + cut.records_size);
            assert_int_equal(bytes_of(&frame)[cut.records], t * 16 + cut.index % 1000);
            if (version >= BY_ID) {
                assert_null(cut.name.ptr);
                assert_int_equal(cut.id.b[3], t + 1);
            } else {
                char name[16];
                snprintf(name, sizeof name, "topic-%d", t);
                assert_true(str_eq(cut.name, str_of(name)));
            }
            open++;
        }
        assert_int_equal(open, 10 + 11 + 10 + 10 + 11 + 12);
        buf_finish(&frame);
    }
}

/* As session_partial does it: the first bytes stay, the rest of the batch is never seen. */
static void records_that_are_shortened_leave_a_frame_that_decodes(void **state)
{
    (void)state;
    enum { KEPT = 4 };
    for (int version = FIRST; version <= LAST; version++) {
        struct buf frame = frame_of(&shapes[2], version);
        for (size_t have = 0; have < frame.len; have++) {
            struct produce_cut cut;
            struct buf short_one = {0};
            struct buf text = {0};
            assert_true(produce_cut_find(bytes_of(&frame), have, frame.len, 100, &cut));
            if (!cut.open || have < cut.records + KEPT) {
                continue;
            }
            size_t behind = cut.records + cut.records_size;
            buf_add(&short_one, frame.ptr, cut.records + KEPT);
            produce_cut_shorten(&cut, (uint8_t *)short_one.ptr, KEPT);
            buf_add(&short_one, frame.ptr + behind, frame.len - behind);
            assert_true(cut_describe(bytes_of(&short_one), short_one.len, false, &text));
            char wanted[40];
            snprintf(wanted, sizeof wanted, " partition %d of %d ", cut.index, KEPT);
            assert_non_null(memmem(text.ptr, text.len, wanted, strlen(wanted)));
            buf_finish(&short_one);
            buf_finish(&text);
        }
        buf_finish(&frame);
    }
}

static void what_does_not_decode_is_not_cut(void **state)
{
    (void)state;
    static const uint8_t other[] = {0, 3, 0, 12, 0, 0, 0, 1, 0, 1, 'c', 0, 0, 0};
    static const uint8_t zeros[64];
    struct produce_cut cut;
    assert_false(produce_cut_find(other, sizeof other, 1000, 100, &cut));
    assert_false(produce_cut_find(zeros, sizeof zeros, 1000, 100, &cut)); /* version 0 */
    for (int version = FIRST; version <= LAST; version++) {
        struct buf frame = frame_of(&shapes[1], version);
        assert_true(produce_cut_find(bytes_of(&frame), frame.len - 1, frame.len, 5, &cut));
        assert_false(produce_cut_find(bytes_of(&frame), frame.len - 1, frame.len, 4, &cut));
        struct buf bad = {0}; /* the count of partitions */
        buf_add(&bad, frame.ptr, frame.len);
        assert_true(produce_cut_find(bytes_of(&frame), frame.len - 1, frame.len, 5, &cut));
        memset(bad.ptr + cut.partitions.position, version < FLEXIBLE ? 0xff : 0,
               cut.partitions.size);
        assert_false(produce_cut_find(bytes_of(&bad), bad.len - 1, bad.len, 100, &cut));
        /* more bytes of records than the frame has */
        assert_false(produce_cut_find(bytes_of(&frame), 60, 60, 100, &cut));
        buf_finish(&bad);
        buf_finish(&frame);
    }
}

static void changed_bytes_change_nothing_in_what_holds(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 20261126);
    int cuts = 0;
    for (int i = 0; i < 20000; i++) {
        int version = FIRST + i % (LAST - FIRST + 1);
        struct buf frame = frame_of(&shapes[rng_below(&rng, SHAPES - 1)], version);
        for (uint64_t n = rng_below(&rng, 3); n; n--) {
            frame.ptr[4 + rng_below(&rng, frame.len - 4)] = (char)rng_below(&rng, 256);
        }
        cuts +=
            cut_check(bytes_of(&frame), frame.len, rng_below(&rng, frame.len), rng_below(&rng, 30));
        buf_finish(&frame);
    }
    assert_true(cuts > 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_say_what_the_whole_says_wherever_it_is_cut),
        cmocka_unit_test(a_partition_is_cut_off_as_soon_as_it_is_whole),
        cmocka_unit_test(records_that_are_not_all_here_are_named),
        cmocka_unit_test(records_that_are_shortened_leave_a_frame_that_decodes),
        cmocka_unit_test(what_does_not_decode_is_not_cut),
        cmocka_unit_test(changed_bytes_change_nothing_in_what_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

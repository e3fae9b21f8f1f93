/* The assignors: placement as Java's documented examples have it, and what makes cooperative-sticky
 * what it is: even, sticky, two steps. */
#include "base/rand.h"
#include "client/assign.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { MEMBERS_MAX = 12, TOPICS_MAX = 6, PAIRS_MAX = 200, ARENA_LIMIT = 1 << 24 };

/* A group in words: members "a b c", their topics by index. */
struct table {
    struct arena arena;
    struct assign_topic topics[TOPICS_MAX];
    int32_t topic_count;
    char names[MEMBERS_MAX][8];
    int32_t subscribed[MEMBERS_MAX][TOPICS_MAX];
    struct assign_pair owned[MEMBERS_MAX][PAIRS_MAX];
    struct assign_member members[MEMBERS_MAX];
    int32_t count;
};

static void table_begin(struct table *t)
{
    memset(t, 0, sizeof *t);
    arena_init(&t->arena, ARENA_LIMIT);
}

static void add_topic(struct table *t, const char *name, int32_t partitions)
{
    t->topics[t->topic_count++] = (struct assign_topic){str_of(name), partitions};
}

/* topics: "012", indexes. */
static struct assign_member *add_member(struct table *t, const char *id, const char *topics)
{
    int32_t i = t->count++;
    struct assign_member *m = &t->members[i];
    snprintf(t->names[i], sizeof t->names[i], "%s", id);
    m->id = str_of(t->names[i]);
    for (const char *p = topics; *p; p++) {
        t->subscribed[i][m->topic_count++] = *p - '0';
    }
    m->topics = t->subscribed[i];
    m->owned = t->owned[i];
    m->generation = -1;
    return m;
}

static void deal(struct table *t, enum assignor a)
{
    assert_int_equal(assign_deal(a, t->topics, t->topic_count, t->members, t->count, &t->arena),
                     OK);
}

/* "t0-0 t1-2" */
static void assert_dealt(const struct table *t, int32_t member, const char *expected)
{
    char text[1000] = "";
    size_t n = 0;
    const struct assign_member *m = &t->members[member];
    for (int32_t i = 0; i < m->dealt_count; i++) {
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%.*s-%d", i ? " " : "",
                              STR_ARG(t->topics[m->dealt[i].topic].name),
                              (int)m->dealt[i].partition);
    }
    assert_string_equal(text, expected);
}

static void table_end(struct table *t)
{
    arena_finish(&t->arena);
}

/* What was dealt is what they own now. */
static void next_generation(struct table *t, int32_t generation)
{
    for (int32_t i = 0; i < t->count; i++) {
        struct assign_member *m = &t->members[i];
        assert_true(m->dealt_count <= PAIRS_MAX);
        memcpy(t->owned[i], m->dealt, (size_t)m->dealt_count * sizeof *m->dealt);
        m->owned_count = m->dealt_count;
        m->generation = generation;
    }
}

/* ---- range, from the documentation of Java's RangeAssignor ---- */

static void range_deals_neighbours_topic_by_topic(void **state)
{
    (void)state;
    struct table t;
    table_begin(&t);
    add_topic(&t, "t0", 3);
    add_topic(&t, "t1", 3);
    add_member(&t, "C1", "01");
    add_member(&t, "C0", "01");
    deal(&t, ASSIGN_RANGE);
    assert_dealt(&t, 1, "t0-0 t0-1 t1-0 t1-1");
    assert_dealt(&t, 0, "t0-2 t1-2");
    table_end(&t);
}

static void range_gives_the_odd_ones_to_the_first_and_nothing_to_the_rest(void **state)
{
    (void)state;
    struct table t;
    table_begin(&t);
    add_topic(&t, "t0", 2);
    add_topic(&t, "t1", 7);
    add_member(&t, "a", "01");
    add_member(&t, "b", "0");
    add_member(&t, "c", "01");
    deal(&t, ASSIGN_RANGE);
    assert_dealt(&t, 0, "t0-0 t1-0 t1-1 t1-2 t1-3");
    assert_dealt(&t, 1, "t0-1");
    assert_dealt(&t, 2, "t1-4 t1-5 t1-6");
    table_end(&t);
}

static void static_members_come_first_by_their_instance_ids(void **state)
{
    (void)state;
    struct table t;
    table_begin(&t);
    add_topic(&t, "t0", 4);
    add_member(&t, "a", "0");
    add_member(&t, "b", "0")->instance_id = STR("z");
    add_member(&t, "c", "0")->instance_id = STR("y");
    deal(&t, ASSIGN_RANGE);
    assert_dealt(&t, 2, "t0-0 t0-1");
    assert_dealt(&t, 1, "t0-2");
    assert_dealt(&t, 0, "t0-3");
    table_end(&t);
}

/* ---- roundrobin, from the documentation of Java's RoundRobinAssignor ---- */

static void roundrobin_deals_all_partitions_in_turn(void **state)
{
    (void)state;
    struct table t;
    table_begin(&t);
    add_topic(&t, "t0", 3);
    add_topic(&t, "t1", 3);
    add_member(&t, "C0", "01");
    add_member(&t, "C1", "01");
    deal(&t, ASSIGN_ROUNDROBIN);
    assert_dealt(&t, 0, "t0-0 t0-2 t1-1");
    assert_dealt(&t, 1, "t0-1 t1-0 t1-2");
    table_end(&t);
}

static void roundrobin_passes_over_who_does_not_subscribe(void **state)
{
    (void)state;
    struct table t;
    table_begin(&t);
    add_topic(&t, "t0", 1);
    add_topic(&t, "t1", 2);
    add_topic(&t, "t2", 3);
    add_member(&t, "C0", "0");
    add_member(&t, "C1", "01");
    add_member(&t, "C2", "012");
    deal(&t, ASSIGN_ROUNDROBIN);
    assert_dealt(&t, 0, "t0-0");
    assert_dealt(&t, 1, "t1-0");
    assert_dealt(&t, 2, "t1-1 t2-0 t2-1 t2-2");
    table_end(&t);
}

static void topics_that_nobody_reads_are_dealt_to_nobody(void **state)
{
    (void)state;
    for (int a = 0; a < ASSIGN_COUNT; a++) {
        struct table t;
        table_begin(&t);
        add_topic(&t, "t0", 2);
        add_topic(&t, "t1", 0);
        add_topic(&t, "t2", 2);
        add_member(&t, "a", "1");
        add_member(&t, "b", "2");
        deal(&t, (enum assignor)a);
        assert_dealt(&t, 0, "");
        assert_dealt(&t, 1, "t2-0 t2-1");
        table_end(&t);
    }
}

static void nobody_and_nothing_is_dealt_too(void **state)
{
    (void)state;
    for (int a = 0; a < ASSIGN_COUNT; a++) {
        struct table t;
        table_begin(&t);
        deal(&t, (enum assignor)a);
        add_member(&t, "a", "");
        deal(&t, (enum assignor)a);
        assert_dealt(&t, 0, "");
        table_end(&t);
    }
}

/* ---- cooperative-sticky ---- */

/* The example of Java's StickyAssignor: three members, four topics of two; C1 goes. */
static void sticky_keeps_what_the_others_have_when_a_member_goes(void **state)
{
    (void)state;
    struct table t;
    table_begin(&t);
    for (int i = 0; i < 4; i++) {
        static const char *const names[] = {"t0", "t1", "t2", "t3"};
        add_topic(&t, names[i], 2);
    }
    add_member(&t, "C0", "0123");
    add_member(&t, "C1", "0123");
    add_member(&t, "C2", "0123");
    deal(&t, ASSIGN_COOPERATIVE_STICKY);
    assert_dealt(&t, 0, "t0-0 t1-1 t3-0");
    assert_dealt(&t, 1, "t0-1 t2-0 t3-1");
    assert_dealt(&t, 2, "t1-0 t2-1");
    next_generation(&t, 1);
    t.members[1] = t.members[2];
    t.count = 2;
    deal(&t, ASSIGN_COOPERATIVE_STICKY);
    assert_dealt(&t, 0, "t0-0 t1-1 t2-0 t3-0");
    assert_dealt(&t, 1, "t0-1 t1-0 t2-1 t3-1");
    table_end(&t);
}

static void a_partition_that_moves_is_given_up_before_it_is_dealt(void **state)
{
    (void)state;
    struct table t;
    table_begin(&t);
    add_topic(&t, "t", 4);
    add_member(&t, "a", "0");
    deal(&t, ASSIGN_COOPERATIVE_STICKY);
    assert_dealt(&t, 0, "t-0 t-1 t-2 t-3");
    next_generation(&t, 1);
    add_member(&t, "b", "0");
    deal(&t, ASSIGN_COOPERATIVE_STICKY);
    assert_int_equal(t.members[0].dealt_count, 2);
    assert_int_equal(t.members[1].dealt_count, 0);
    next_generation(&t, 2);
    deal(&t, ASSIGN_COOPERATIVE_STICKY);
    assert_int_equal(t.members[0].dealt_count, 2);
    assert_int_equal(t.members[1].dealt_count, 2);
    table_end(&t);
}

static void the_later_generation_is_believed_and_two_of_the_same_are_not(void **state)
{
    (void)state;
    struct table t;
    table_begin(&t);
    add_topic(&t, "t", 2);
    struct assign_member *a = add_member(&t, "a", "0");
    struct assign_member *b = add_member(&t, "b", "0");
    t.owned[0][0] = (struct assign_pair){0, 0};
    t.owned[0][1] = (struct assign_pair){0, 1};
    t.owned[1][0] = (struct assign_pair){0, 1};
    a->owned_count = 2;
    b->owned_count = 1;
    a->generation = 4;
    b->generation = 5;
    deal(&t, ASSIGN_COOPERATIVE_STICKY);
    assert_dealt(&t, 0, "t-0");
    assert_dealt(&t, 1, "t-1");
    a->generation = 5; /* now both say so: whoever gets it, it is dealt once */
    deal(&t, ASSIGN_COOPERATIVE_STICKY);
    assert_int_equal(a->dealt_count + b->dealt_count, 2);
    table_end(&t);
}

static void evenness_goes_through_others_where_it_must(void **state)
{
    (void)state;
    struct table t;
    table_begin(&t);
    add_topic(&t, "t0", 3);
    add_topic(&t, "t1", 1);
    struct assign_member *a = add_member(&t, "a", "0");
    struct assign_member *b = add_member(&t, "b", "01");
    add_member(&t, "c", "1");
    for (int p = 0; p < 3; p++) {
        t.owned[0][p] = (struct assign_pair){0, p};
    }
    t.owned[1][0] = (struct assign_pair){1, 0};
    a->owned_count = 3;
    b->owned_count = 1;
    a->generation = b->generation = 1;
    /* a can give nothing to c, but b can when a gives to b: a 2, b 1 (moved), c 1 (moved). Both
     * are owned still, so this round only takes them away. */
    deal(&t, ASSIGN_COOPERATIVE_STICKY);
    assert_int_equal(a->dealt_count, 2);
    assert_int_equal(b->dealt_count, 0);
    next_generation(&t, 2);
    deal(&t, ASSIGN_COOPERATIVE_STICKY);
    assert_int_equal(t.members[0].dealt_count, 2);
    assert_int_equal(t.members[1].dealt_count, 1);
    assert_int_equal(t.members[2].dealt_count, 1);
    table_end(&t);
}

static bool owns(const struct assign_member *m, struct assign_pair pair)
{
    for (int32_t i = 0; i < m->owned_count; i++) {
        if (m->owned[i].topic == pair.topic && m->owned[i].partition == pair.partition) {
            return true;
        }
    }
    return false;
}

static void check_rules(struct table *t, uint64_t seed, bool settled)
{
    int owners[TOPICS_MAX][40] = {{0}};
    for (int32_t i = 0; i < t->count; i++) {
        const struct assign_member *m = &t->members[i];
        for (int32_t k = 0; k < m->dealt_count; k++) {
            bool subscribed = false;
            for (int32_t n = 0; n < m->topic_count; n++) {
                subscribed |= m->topics[n] == m->dealt[k].topic;
            }
            if (!subscribed || owners[m->dealt[k].topic][m->dealt[k].partition]++) {
                fail_msg("seed %llu: dealt twice, or not subscribed", (unsigned long long)seed);
            }
            for (int32_t j = 0; j < t->count; j++) {
                if (j != i && owns(&t->members[j], m->dealt[k]) && !owns(m, m->dealt[k])) {
                    fail_msg("seed %llu: dealt while another has it", (unsigned long long)seed);
                }
            }
        }
    }
    if (!settled) {
        return;
    }
    for (int32_t topic = 0; topic < t->topic_count; topic++) {
        for (int32_t p = 0; p < t->topics[topic].count; p++) {
            bool read = false;
            for (int32_t i = 0; i < t->count; i++) {
                for (int32_t n = 0; n < t->members[i].topic_count; n++) {
                    read |= t->members[i].topics[n] == topic;
                }
            }
            if (read != (owners[topic][p] == 1)) {
                fail_msg("seed %llu: topic %d partition %d has %d owners", (unsigned long long)seed,
                         (int)topic, (int)p, owners[topic][p]);
            }
        }
    }
}

/* A random group changes and settles; in each step the rules hold, and once settled nothing moves
 * any more, and with equal subscriptions nobody has two more than another. */
static void random_groups_settle_evenly_and_stay(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct table t;
        struct rng rng;
        rng_init(&rng, seed);
        table_begin(&t);
        bool equal = rng_below(&rng, 2);
        int32_t topics = 1 + (int32_t)rng_below(&rng, TOPICS_MAX - 1);
        static const char *const names[] = {"t0", "t1", "t2", "t3", "t4", "t5"};
        for (int32_t i = 0; i < topics; i++) {
            add_topic(&t, names[i], (int32_t)rng_below(&rng, 30));
        }
        int32_t generation = 1;
        for (int change = 0; change < 4; change++) {
            if (t.count > 1 && rng_below(&rng, 3) == 0) { /* the last one goes */
                t.count--;
                memset(&t.members[t.count], 0, sizeof t.members[0]);
            } else {
                char id[8], list[TOPICS_MAX + 1] = "";
                snprintf(id, sizeof id, "m%d", (int)rng_below(&rng, 100) * 10 + change);
                for (int32_t i = 0, n = 0; i < topics; i++) {
                    if (equal || rng_below(&rng, 2)) {
                        list[n++] = (char)('0' + i);
                    }
                }
                memset(&t.members[t.count], 0, sizeof t.members[0]);
                add_member(&t, id, list);
            }
            for (int round = 0; round < 3; round++) {
                deal(&t, ASSIGN_COOPERATIVE_STICKY);
                check_rules(&t, seed, round > 0);
                if (round == 2) { /* settled: nothing moved */
                    for (int32_t i = 0; i < t.count; i++) {
                        assert_int_equal(t.members[i].dealt_count, t.members[i].owned_count);
                    }
                }
                next_generation(&t, generation++);
            }
            int32_t least = INT32_MAX, most = 0;
            for (int32_t i = 0; i < t.count; i++) {
                int32_t n = t.members[i].dealt_count;
                least = n < least ? n : least;
                most = n > most ? n : most;
            }
            if (equal && most - least > 1) {
                fail_msg("seed %llu: %d and %d", (unsigned long long)seed, (int)most, (int)least);
            }
        }
        table_end(&t);
    }
}

/* Equal subscriptions: no more moves than the loads demand. */
static void no_more_moves_than_needed(void **state)
{
    (void)state;
    struct table t;
    table_begin(&t);
    add_topic(&t, "t", 8);
    struct assign_member *a = add_member(&t, "a", "0");
    struct assign_member *b = add_member(&t, "b", "0");
    add_member(&t, "c", "0");
    for (int p = 0; p < 4; p++) {
        t.owned[0][p] = (struct assign_pair){0, p};
        t.owned[1][p] = (struct assign_pair){0, p + 4};
    }
    a->owned_count = b->owned_count = 4;
    a->generation = b->generation = 1;
    deal(&t, ASSIGN_COOPERATIVE_STICKY);
    assert_int_equal(a->dealt_count, 3);
    assert_int_equal(b->dealt_count, 3);
    for (int32_t i = 0; i < 3; i++) {
        assert_true(owns(a, a->dealt[i]));
        assert_true(owns(b, b->dealt[i]));
    }
    table_end(&t);
}

static void names_are_those_of_java_and_librdkafka(void **state)
{
    (void)state;
    enum assignor a;
    assert_string_equal(assignor_name(ASSIGN_RANGE), "range");
    assert_string_equal(assignor_name(ASSIGN_ROUNDROBIN), "roundrobin");
    assert_string_equal(assignor_name(ASSIGN_COOPERATIVE_STICKY), "cooperative-sticky");
    assert_true(assignor_find(STR("roundrobin"), &a));
    assert_int_equal(a, ASSIGN_ROUNDROBIN);
    assert_false(assignor_find(STR("sticky"), &a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(range_deals_neighbours_topic_by_topic),
        cmocka_unit_test(range_gives_the_odd_ones_to_the_first_and_nothing_to_the_rest),
        cmocka_unit_test(static_members_come_first_by_their_instance_ids),
        cmocka_unit_test(roundrobin_deals_all_partitions_in_turn),
        cmocka_unit_test(roundrobin_passes_over_who_does_not_subscribe),
        cmocka_unit_test(topics_that_nobody_reads_are_dealt_to_nobody),
        cmocka_unit_test(nobody_and_nothing_is_dealt_too),
        cmocka_unit_test(sticky_keeps_what_the_others_have_when_a_member_goes),
        cmocka_unit_test(a_partition_that_moves_is_given_up_before_it_is_dealt),
        cmocka_unit_test(the_later_generation_is_believed_and_two_of_the_same_are_not),
        cmocka_unit_test(evenness_goes_through_others_where_it_must),
        cmocka_unit_test(random_groups_settle_evenly_and_stay),
        cmocka_unit_test(no_more_moves_than_needed),
        cmocka_unit_test(names_are_those_of_java_and_librdkafka),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

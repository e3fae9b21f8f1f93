/* A broker without a network, of one to three shards, and a client that asks for anything, while
 * disks fill, operations fail, the process is killed and the power goes. All of it follows from one
 * seed.
 *
 * What must hold:
 *   - every answer is one of its API and version, whole, and for a question that was asked
 *   - what is served has a good checksum, and what was acknowledged with acks=all is there,
 * whatever happened since
 *   - a start on a disk with room never fails, and after a clean stop topics, groups and offsets
 * are as they were (a topic whose creation could be neither finished nor undone may come to be)
 *
 * And: a broker of several shards answers what one of a single shard does, byte for byte.
 *
 * SHARDS=n says how many there are, else the seed does. SEED=n runs that seed alone; RUNS=n sets
 * how many are run, FIRST=n from which on. A failure prints its seed.
 */
#include "base/check.h"
#include "base/mem.h"
#include "gen/apis.h"
#include "tests/kit/broker_client.h"
#include "tests/kit/seeds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 150, PROMISES = 8 };

struct promise { /* an append of our own that was durable */
    struct uuid topic;
    int64_t end; /* the high watermark is at least here */
};

struct world {
    struct broker_kit k;
    struct broker_client c;
    struct rng rng;
    struct promise promises[PROMISES];
    int promise_count;
    uint64_t restarts, crashes, faults, appends;
};

static bool chance(struct world *w, uint64_t percent)
{
    return rng_below(&w->rng, 100) < percent;
}

static void start(struct world *w, bool clean)
{
    sim_store_count_from_zero(w->k.logs.sim);
    sim_store_set_limit(w->k.logs.sim, -1); /* on a full disk a start may be refused */
    check(broker_kit_start(&w->k, clean) == OK);
}

static void look_at_promises(struct world *w)
{
    for (int i = 0; i < w->promise_count; i++) {
        const struct topic *t = meta_find_id(w->k.meta, w->promises[i].topic);
        struct log *log = t ? broker_kit_log(&w->k, t, 0) : NULL;
        check(!log || log_high_watermark(log) >= w->promises[i].end); /* or it was deleted */
    }
}

static void crash(struct world *w)
{
    w->crashes++;
    /* After a failed sync too, which leaves pages that are in the cache and not on the disk, and
     * nobody can tell: a restart without the machine's, and what it takes for durable must be. */
    broker_kit_crash(&w->k, (enum sim_cut)rng_below(&w->rng, 3));
    start(w, false);
    look_at_promises(w);
}

/* Of all shards, one after the other. */
static const struct group *next_group(struct world *w, const struct group *g)
{
    int32_t shard = g ? coord_shard_of(w->k.coord, g->id) : 0;
    g = g ? coord_group_next(w->k.shard[shard].coord, g)
          : coord_group_first(w->k.shard[shard].coord);
    while (!g && ++shard < w->k.shard_count) {
        g = coord_group_first(w->k.shard[shard].coord);
    }
    return g;
}

static const struct group *first_group(struct world *w)
{
    return next_group(w, NULL);
}

/* What is lasting, as text: a clean stop and a start must not change it. */
static void describe(struct world *w, struct buf *out)
{
    for (int32_t i = 0; i < meta_topic_count(w->k.meta); i++) {
        const struct topic *t = meta_topic_at(w->k.meta, i);
        buf_printf(out, "topic %.*s v%d", STR_ARG(t->name), t->version);
        for (int32_t p = 0; p < t->partition_count; p++) {
            struct log *log = broker_kit_log(&w->k, t, p);
            check(log);
            buf_printf(out, " %lld..%lld", (long long)log_start_offset(log),
                       (long long)log_high_watermark(log));
        }
        buf_printf(out, "\n");
    }
    for (const struct group *g = first_group(w); g; g = next_group(w, g)) {
        if ((!g->metadata && g->offset_count == 0) ||
            meta_find(w->k.meta, STR(COORD_TOPIC))->version > 1) {
            continue; /* nothing of it is lasting; somebody gave the offsets topic a retention */
        }
        buf_printf(out, "group %.*s members=%zu offsets=%zu\n", STR_ARG(g->id),
                   g->metadata ? g->metadata->member_count : 0, g->offset_count);
    }
}

/* Groups in the order of their names: they come to be in another order when they are replayed. */
static int compare_lines(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort_lines(struct buf *text)
{
    char *lines[256];
    size_t n = 0;
    struct buf out = {0};
    char *rest = NULL;
    check(buf_reserve(text, 1));
    text->ptr[text->len] = 0;
    for (char *at = strtok_r(text->ptr, "\n", &rest); at; at = strtok_r(NULL, "\n", &rest)) {
        check(n < sizeof lines / sizeof *lines);
        lines[n++] = at;
    }
    qsort(lines, n, sizeof *lines, compare_lines);
    for (size_t i = 0; i < n; i++) {
        buf_printf(&out, "%s\n", lines[i]);
    }
    buf_finish(text);
    *text = out;
}

/* Every line of `before` is one of `after`, where nothing but empty topics is new. */
static bool is_kept(struct buf *before, struct buf *after)
{
    char *rest = NULL;
    check(buf_reserve(before, 1) && buf_reserve(after, 1));
    before->ptr[before->len] = 0;
    after->ptr[after->len] = 0;
    const char *old = before->ptr;
    for (char *line = strtok_r(after->ptr, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        size_t n = strlen(line);
        if (strncmp(old, line, n) == 0 && old[n] == '\n') {
            old += n + 1;
        } else if (strncmp(line, "topic ", 6) != 0 || !strstr(line, " v1 0..0")) {
            return false;
        }
    }
    return *old == 0;
}

static void restart(struct world *w)
{
    struct buf before = {0};
    struct buf after = {0};
    w->restarts++;
    sim_store_count_from_zero(w->k.logs.sim); /* nothing fails in a clean stop */
    sim_store_set_limit(w->k.logs.sim, -1);
    broker_kit_hang_up(&w->k);
    broker_kit_settle(&w->k);
    describe(w, &before);
    broker_kit_stop(&w->k);
    check(!sim_store_is_down(w->k.logs.sim));
    start(w, true);
    describe(w, &after);
    sort_lines(&before);
    sort_lines(&after);
    struct buf shown = {0};
    buf_printf(&shown, "before:\n%safter:\n%s", buf_text(&before), buf_text(&after));
    if (!is_kept(&before, &after)) {
        fputs(buf_text(&shown), stderr);
        check(!"a clean stop changes nothing");
    }
    buf_finish(&shown);
    buf_finish(&before);
    buf_finish(&after);
    look_at_promises(w);
}

/* Written past the API, so that it is known whose it is. */
static void append(struct world *w)
{
    const struct topic *t = meta_find(w->k.meta, STR("t"));
    struct log *log = t ? broker_kit_log(&w->k, t, 0) : NULL;
    struct log_kit_append a;
    if (!log || w->promise_count == PROMISES) {
        return;
    }
    struct uuid id = t->id;
    log_kit_batch(&a, 3, 50, 1, w->k.logs.clock.wall_ms, -1, -1, -1);
    err e = log_kit_append_to(log, &a);
    broker_kit_settle(&w->k);
    if (!e && a.durable == 1 && a.durable_result == OK) {
        w->promises[w->promise_count++] = (struct promise){.topic = id, .end = a.a.base_offset + 3};
        w->appends++;
    }
    if (sim_store_is_down(w->k.logs.sim)) {
        crash(w); /* before the memory goes that it borrows */
    }
    log_kit_append_finish(&a);
}

static void fault(struct world *w)
{
    static const err errors[] = {ERR_NO_SPACE, ERR_IO, ERR_NO_FILES};
    struct sim_store *sim = w->k.logs.sim;
    uint64_t at = sim_store_operations(sim) + rng_below(&w->rng, 40);
    w->faults++;
    if (chance(w, 50)) {
        sim_store_fail_at(sim, at, errors[rng_below(&w->rng, 3)]);
    } else if (chance(w, 50)) {
        sim_store_cut_at(sim, at, (enum sim_cut)rng_below(&w->rng, 3));
    } else {
        sim_store_set_limit(sim, chance(w, 50) ? -1 : sim_store_used(sim) + 1000);
    }
}

static void step(struct world *w)
{
    if (chance(w, 70)) {
        uint64_t row = rng_below(&w->rng, (uint64_t)api_row_count);
        broker_client_ask(&w->c, &api_rows[row]);
    } else if (chance(w, 30)) {
        broker_kit_advance(&w->k, (int64_t)rng_below(&w->rng, 20000));
        broker_client_look(&w->c);
    } else if (chance(w, 30)) {
        append(w);
    } else if (chance(w, 20)) {
        broker_kit_hang_up(&w->k);
    } else if (chance(w, 30)) {
        restart(w);
    } else if (chance(w, 30)) {
        crash(w);
    } else if (chance(w, 20)) {
        sim_store_evict(w->k.logs.sim);
    } else {
        fault(w);
    }
    if (sim_store_is_down(w->k.logs.sim)) {
        crash(w);
    }
    for (const struct group *g = first_group(w); g; g = next_group(w, g)) {
        group_verify(g);
        check(coord_find(broker_kit_coord(&w->k, g->id), g->id) == g);
    }
}

static uint64_t run(uint64_t seed)
{
    /* Cleaning is made frequent, in maps that hold one key, a few, or all. */
    static const char *const rolls[] = {"rivulet.log.compact.roll.bytes=1",
                                        "rivulet.log.compact.roll.bytes=500",
                                        "rivulet.log.compact.roll.bytes=4000"};
    static const char *const maps[] = {"log.cleaner.dedupe.buffer.size=1",
                                       "log.cleaner.dedupe.buffer.size=200",
                                       "log.cleaner.dedupe.buffer.size=100000"};
    const char *const sets[] = {
        "offsets.topic.num.partitions=2",
        "num.partitions=2",
        "rivulet.partitions.max=12",
        rolls[seed % 3],
        maps[seed / 3 % 3],
        seed % 2 ? "log.cleaner.delete.retention.ms=0" : "log.cleaner.delete.retention.ms=30000",
        seed % 4 ? "log.cleaner.min.cleanable.ratio=0.2" : "log.cleaner.min.cleanable.ratio=0",
        NULL};
    const char *shards = getenv("SHARDS");
    struct world *w = mem_need_zero(1, sizeof *w);
    rng_init(&w->rng, seed);
    broker_kit_init(&w->k, seed, sets);
    w->k.shard_count = shards ? atoi(shards) : (int32_t)(seed % BROKER_KIT_SHARDS) + 1;
    broker_client_init(&w->c, &w->k, seed + 1);
    w->k.logs.printed = getenv("PRINT") != NULL;
    start(w, false);
    for (int i = 0; i < STEPS; i++) {
        step(w);
    }
    restart(w);
    uint64_t answers = w->c.answers;
    broker_client_finish(&w->c);
    broker_kit_finish(&w->k);
    mem_free(w);
    return answers;
}

static void a_broker_keeps_its_word_whatever_happens(void **state)
{
    (void)state;
    seeds_run(run, 300, 20);
}

/* ---- several shards, and one */

struct twin {
    struct broker_kit k;
    struct broker_client c;
};

static void twin_start(struct twin *t, uint64_t seed, int32_t shards)
{
    static const char *const sets[] = {"offsets.topic.num.partitions=5", "num.partitions=3",
                                       "rivulet.partitions.max=40", NULL};
    broker_kit_init(&t->k, seed, sets);
    broker_client_init(&t->c, &t->k, seed + 1);
    t->k.shard_count = shards;
    check(broker_kit_start(&t->k, false) == OK);
}

static void twin_end(struct twin *t)
{
    broker_client_finish(&t->c);
    broker_kit_finish(&t->k);
}

/* Members' ids are random, and would be asked with from then on. */
static bool is_asked(const struct api_row *row)
{
    return row->key != API_JOIN_GROUP;
}

/* Groups are listed shard by shard, each shard's journal takes of the disk's room, and of two
 * deletions in the same partition the second may be told of the first. */
static bool is_compared(const struct api_row *row)
{
    return row->key != API_LIST_GROUPS && row->key != API_DESCRIBE_LOG_DIRS &&
           row->key != API_DELETE_RECORDS;
}

static uint64_t compare(uint64_t seed)
{
    struct twin *one = mem_need_zero(1, sizeof *one);
    struct twin *some = mem_need_zero(1, sizeof *some);
    struct rng rng;
    rng_init(&rng, seed);
    twin_start(one, seed, 1);
    twin_start(some, seed, 2 + (int32_t)(seed % 2));
    for (int i = 0; i < STEPS; i++) {
        const struct api_row *row = &api_rows[rng_below(&rng, (uint64_t)api_row_count)];
        if (!is_asked(row)) {
            continue;
        }
        size_t from = one->k.conn.session ? one->k.conn.out.len : 0;
        broker_client_ask(&one->c, row);
        broker_client_ask(&some->c, row);
        broker_kit_advance(&one->k, 400); /* what waits for something has its answer */
        broker_kit_advance(&some->k, 400);
        broker_client_look(&one->c);
        broker_client_look(&some->c);
        const struct buf *a = &one->k.conn.out;
        const struct buf *b = &some->k.conn.out;
        if (!is_compared(row)) {
            check((a->len > from) == (b->len > from));
        } else if (a->len != b->len ||
                   (a->len > from && memcmp(a->ptr + from, b->ptr + from, a->len - from) != 0)) {
            fprintf(stderr, "API %d after %d requests: other answers\n", row->key, i);
            check(!"shards answer as one does");
        }
        check(one->k.conn.closed_by_broker == some->k.conn.closed_by_broker);
        if (rng_below(&rng, 100) < 5) { /* and of another shard */
            broker_kit_hang_up(&one->k);
            broker_kit_hang_up(&some->k);
        }
    }
    uint64_t answers = some->c.answers;
    twin_end(one);
    twin_end(some);
    mem_free(one);
    mem_free(some);
    return answers;
}

static void several_shards_answer_as_one_does(void **state)
{
    (void)state;
    seeds_run(compare, 100, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_shards_answer_as_one_does),
        cmocka_unit_test(a_broker_keeps_its_word_whatever_happens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

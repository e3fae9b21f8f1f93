/* kill -9 of the real daemon under load, again and again, on the wire: the short form of
 * tests/killloop, which needs no client but ours.
 *
 * Producers keep a window of batches without an answer; after each kill they send again, with the
 * same sequence numbers, what was not answered. At the end every record is there once, in order,
 * where its producer was told, and what was read in between is what was read then. Commits are one
 * rising number a partition: what is found lies between what was answered and what was tried.
 *
 *     SEED=N CYCLES=N build/release/tests/wire/test_killloop
 */
#include "base/mem.h"
#include "base/rand.h"
#include "gen/init_producer_id.h"
#include "gen/offset_commit.h"
#include "gen/offset_fetch.h"
#include "tests/kit/wire_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    PRODUCERS = 3,
    PARTITIONS = 3,
    WINDOW = 5, /* a broker remembers so many batches of a producer */
    BATCHES_MAX = 20000,
    RECORDS_MAX = 200000,
    VALUE_MAX = 12000,
};

struct sent {
    int32_t partition;
    int32_t sequence; /* of its first record */
    int32_t count;    /* records */
    int64_t offset;   /* as answered; -1: not yet */
    struct buf batch; /* owned, until it is answered */
    int32_t correlation_id;
};

struct producer {
    struct wire_client *c; /* owned; NULL while the daemon is down */
    int64_t id;
    int16_t epoch;
    int32_t next_sequence[PARTITIONS];
    struct sent *sent; /* owned: BATCHES_MAX */
    int count;         /* of sent */
    int asked;         /* on this connection */
    int answered;
};

struct seen { /* a record, as somebody read it */
    int32_t producer;
    int32_t sequence; /* of its batch's first record */
};

struct loop {
    struct daemon *d; /* owned */
    struct rng rng;
    struct producer producers[PRODUCERS];
    struct seen *seen[PARTITIONS]; /* owned: RECORDS_MAX, by offset */
    int32_t seen_count[PARTITIONS];
    int64_t committed[PARTITIONS]; /* answered; -1: nothing yet */
    int64_t tried[PARTITIONS];
    int kills;
    int resent;
};

static const char TOPIC_NAME[] = "killed";
static const char GROUP[] = "readers";

static int below(struct loop *l, int n)
{
    return (int)rng_below(&l->rng, (uint64_t)n);
}

/* ---- producers */

static void ask(struct producer *p)
{
    struct sent *s = &p->sent[p->asked++];
    struct wire_produce produce = {
        .acks = -1,
        .topic = TOPIC_NAME,
        .partition = s->partition,
        .records = {(const uint8_t *)s->batch.ptr, s->batch.len}
    };
    s->correlation_id = wire_request(p->c, API_PRODUCE, 12, wire_produce_request(p->c, &produce));
}

static void take_answer(struct producer *p)
{
    struct sent *s = &p->sent[p->answered++];
    const struct produce_response *a = wire_answer(p->c, API_PRODUCE, 12, s->correlation_id);
    assert_int_equal(a->topics_count, 1);
    assert_int_equal(a->topics->partitions_count, 1);
    assert_code(a->topics->partitions->error_code, KERR_NONE);
    s->offset = a->topics->partitions->base_offset;
    assert_true(s->offset >= 0);
    buf_finish(&s->batch);
}

/* "PRODUCER SEQUENCE " and something that no codec makes small. */
static const char *value_of(struct loop *l, struct wire_client *c, int index, int32_t sequence)
{
    int size = below(l, 8) ? below(l, 200) : below(l, VALUE_MAX);
    char *text = wire_room(c, (size_t)size + 32, 1);
    int n = snprintf(text, 32, "%d %d ", index, sequence);
    for (int i = 0; i < size; i++) {
        text[n + i] = (char)(33 + below(l, 90));
    }
    return text;
}

static void produce(struct loop *l, int index)
{
    struct producer *p = &l->producers[index];
    struct sent *s = &p->sent[p->count++];
    static const enum codec codecs[] = {CODEC_NONE, CODEC_GZIP, CODEC_SNAPPY, CODEC_LZ4,
                                        CODEC_ZSTD};
    assert_true(p->count <= BATCHES_MAX);
    *s = (struct sent){.partition = below(l, PARTITIONS), .count = 1 + below(l, 8), .offset = -1};
    s->sequence = p->next_sequence[s->partition];
    p->next_sequence[s->partition] += s->count;
    struct bytes b = BATCH(p->c, .count = s->count, .value = value_of(l, p->c, index, s->sequence),
                           .idempotent = true, .producer_id = p->id, .epoch = p->epoch,
                           .sequence = s->sequence, .codec = codecs[below(l, 5)]);
    buf_add(&s->batch, b.ptr, b.len);
    assert_false(s->batch.failed);
    ask(p);
}

static void open_producer(struct loop *l, struct producer *p)
{
    struct init_producer_id_request q;
    p->c = wire_connect(l->d);
    p->sent = mem_need_zero(BATCHES_MAX, sizeof *p->sent);
    init_producer_id_request_init(&q);
    q.transactional_id = (struct str){0};
    const struct init_producer_id_response *a = wire_ask(p->c, API_INIT_PRODUCER_ID, 4, &q);
    assert_code(a->error_code, KERR_NONE);
    p->id = a->producer_id;
    p->epoch = a->producer_epoch;
}

/* ---- readers */

static struct seen identity(const struct wire_record *r)
{
    char text[64] = {0};
    struct seen s = {-1, -1};
    memcpy(text, r->value.ptr, r->value.len < sizeof text ? r->value.len : sizeof text - 1);
    assert_int_equal(sscanf(text, "%d %d ", &s.producer, &s.sequence), 2);
    assert_in_range(s.producer, 0, PRODUCERS - 1);
    return s;
}

/* Everything from `from` on; what was seen before must be the same. */
static void read_on(struct loop *l, struct wire_client *c, int32_t partition, int32_t from)
{
    struct wire_records_read r = wire_read(c, TOPIC_NAME, partition, from);
    struct seen *seen = l->seen[partition];
    assert_true(from + r.count <= RECORDS_MAX);
    assert_true(from + r.count >= l->seen_count[partition]); /* nothing is taken back */
    for (int32_t i = 0; i < r.count; i++) {
        struct seen now = identity(&r.records[i]);
        assert_int_equal(r.records[i].offset, from + i);
        if (from + i < l->seen_count[partition]) {
            assert_int_equal(now.producer, seen[from + i].producer);
            assert_int_equal(now.sequence, seen[from + i].sequence);
        }
        seen[from + i] = now;
    }
    l->seen_count[partition] = from + r.count;
}

/* Every record of every producer once, in order, where it was told. */
static void judge(struct loop *l)
{
    for (int32_t partition = 0; partition < PARTITIONS; partition++) {
        int at[PRODUCERS] = {0}; /* of sent: all before are found, or are another partition's */
        for (int32_t offset = 0; offset < l->seen_count[partition];) {
            struct seen *now = &l->seen[partition][offset];
            struct producer *p = &l->producers[now->producer];
            int *next = &at[now->producer];
            while (*next < p->count && p->sent[*next].partition != partition) {
                ++*next;
            }
            assert_true(*next < p->count);
            struct sent *s = &p->sent[(*next)++];
            assert_int_equal(now->sequence, s->sequence); /* else lost, twice, or out of order */
            assert_int_equal(offset, s->offset);
            for (int32_t i = 0; i < s->count; i++, offset++) {
                assert_true(offset < l->seen_count[partition]);
                assert_int_equal(l->seen[partition][offset].producer, now->producer);
                assert_int_equal(l->seen[partition][offset].sequence, now->sequence);
            }
        }
        for (int i = 0; i < PRODUCERS; i++) {
            for (int n = at[i]; n < l->producers[i].count; n++) {
                assert_int_not_equal(l->producers[i].sent[n].partition, partition); /* lost */
            }
        }
    }
}

/* ---- commits */

static const struct offset_commit_request *commit_request(struct loop *l, struct wire_client *c,
                                                          int32_t partition)
{
    struct offset_commit_request *q = NEW(c, offset_commit_request);
    q->group_id = str_of(GROUP);
    q->member_id = STR("");
    q->topics = NEW(c, offset_commit_request_topic);
    q->topics_count = 1;
    q->topics->name = str_of(TOPIC_NAME);
    q->topics->partitions = NEW(c, offset_commit_request_partition);
    q->topics->partitions_count = 1;
    q->topics->partitions->partition_index = partition;
    q->topics->partitions->committed_offset = ++l->tried[partition];
    q->topics->partitions->committed_metadata = STR("");
    return q;
}

static void commit(struct loop *l, struct wire_client *c)
{
    int32_t partition = below(l, PARTITIONS);
    const struct offset_commit_response *a =
        wire_ask(c, API_OFFSET_COMMIT, 8, commit_request(l, c, partition));
    assert_int_equal(a->topics_count, 1);
    assert_code(a->topics->partitions->error_code, KERR_NONE);
    l->committed[partition] = l->tried[partition];
}

static void check_commits(struct loop *l, struct wire_client *c)
{
    struct offset_fetch_request *q = NEW(c, offset_fetch_request);
    int32_t partitions[PARTITIONS] = {0, 1, 2};
    q->group_id = str_of(GROUP);
    q->topics = NEW(c, offset_fetch_request_topic);
    q->topics_count = 1;
    q->topics->name = str_of(TOPIC_NAME);
    q->topics->partition_indexes = partitions;
    q->topics->partition_indexes_count = PARTITIONS;
    const struct offset_fetch_response *a = wire_ask(c, API_OFFSET_FETCH, 7, q);
    assert_code(a->error_code, KERR_NONE);
    assert_int_equal(a->topics_count, 1);
    assert_int_equal(a->topics->partitions_count, PARTITIONS);
    for (int32_t i = 0; i < PARTITIONS; i++) {
        const struct offset_fetch_response_partition *p = &a->topics->partitions[i];
        assert_int_equal(p->partition_index, i);
        assert_code(p->error_code, KERR_NONE);
        assert_true(p->committed_offset >= l->committed[i]); /* never back */
        assert_true(p->committed_offset <= l->tried[i]);
        l->committed[i] = p->committed_offset;
    }
}

/* ---- the loop */

/* Everybody is back: what had no answer is sent again, as it was. */
static void resume(struct loop *l)
{
    for (int i = 0; i < PRODUCERS; i++) {
        struct producer *p = &l->producers[i];
        p->c = wire_connect(l->d);
        l->resent += p->count - p->answered;
        for (p->asked = p->answered; p->asked < p->count;) {
            ask(p);
        }
    }
}

static void load(struct loop *l, struct wire_client *c)
{
    for (int left = 20 + below(l, 60); left > 0; left--) {
        int i = below(l, PRODUCERS);
        struct producer *p = &l->producers[i];
        while (p->asked - p->answered >= WINDOW - below(l, 2)) {
            take_answer(p);
        }
        produce(l, i);
        if (below(l, 8) == 0) {
            commit(l, c);
        }
        if (below(l, 20) == 0) {
            int32_t partition = below(l, PARTITIONS);
            read_on(l, c, partition, l->seen_count[partition]);
        }
    }
    wire_request(c, API_OFFSET_COMMIT, 8, commit_request(l, c, below(l, PARTITIONS)));
}

static void end_and_start(struct loop *l)
{
    int how = below(l, 10);
    if (how == 0) {
        assert_int_equal(daemon_stop(l->d), 0);
    } else {
        daemon_kill(l->d);
        l->kills++;
    }
    for (int i = 0; i < PRODUCERS; i++) {
        wire_close(l->producers[i].c);
        l->producers[i].c = NULL;
    }
    daemon_start(l->d);
    if (how > 7) { /* what recovery did must be good enough for the next one */
        daemon_kill(l->d);
        daemon_start(l->d);
        l->kills++;
    }
}

static long from_environment(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : otherwise;
}

static void nothing_acknowledged_is_lost_twice_or_out_of_order_when_the_broker_is_killed(
    void **state)
{
    (void)state;
    struct loop *l = mem_need_zero(1, sizeof *l);
    long seed = from_environment("SEED", 1);
    print_message("SEED=%ld\n", seed);
    rng_init(&l->rng, (uint64_t)seed);
    l->d = DAEMON("log.flush.offset.checkpoint.interval.ms=50", "offsets.topic.num.partitions=2");
    struct wire_client *c = wire_connect(l->d);
    TOPIC(c, TOPIC_NAME, PARTITIONS, "segment.bytes=1048576", "index.interval.bytes=1000");
    for (int32_t i = 0; i < PARTITIONS; i++) {
        l->seen[i] = mem_need(sizeof **l->seen * RECORDS_MAX);
        l->committed[i] = -1;
    }
    for (int i = 0; i < PRODUCERS; i++) {
        open_producer(l, &l->producers[i]);
    }
    for (long cycles = from_environment("CYCLES", 20); cycles > 0; cycles--) {
        load(l, c);
        end_and_start(l);
        wire_close(c);
        c = wire_connect(l->d);
        resume(l);
        check_commits(l, c);
        read_on(l, c, (int32_t)(cycles % PARTITIONS), 0);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        while (l->producers[i].answered < l->producers[i].count) {
            take_answer(&l->producers[i]);
        }
    }
    for (int32_t i = 0; i < PARTITIONS; i++) {
        read_on(l, c, i, 0);
    }
    judge(l);
    assert_true(l->kills > 0 && l->resent > 0);
    print_message("%d kills, %d batches sent again, %d + %d + %d records\n", l->kills, l->resent,
                  l->seen_count[0], l->seen_count[1], l->seen_count[2]);
    wire_close(c);
    for (int i = 0; i < PRODUCERS; i++) {
        wire_close(l->producers[i].c);
        mem_free(l->producers[i].sent);
    }
    for (int32_t i = 0; i < PARTITIONS; i++) {
        mem_free(l->seen[i]);
    }
    daemon_destroy(l->d);
    mem_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            nothing_acknowledged_is_lost_twice_or_out_of_order_when_the_broker_is_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

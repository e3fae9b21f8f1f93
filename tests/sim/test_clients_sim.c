/* A broker below the sockets, of one to three shards on one thread, and clients as they are:
 * idempotent producers with several batches in flight, which send again what they had no answer to,
 * or send twice; consumers; groups that commit; one who asks around. Between any two steps (a
 * shard's turn, a message between shards that arrives, a worker's item that runs or completes)
 * connections end, time passes, operations fail, the process is killed, the power goes. All of it
 * follows from one seed.
 *
 * What must hold is in tests/kit/broker_model.h; besides, an acks=all producer is never told that
 * its oldest batch is out of order, nobody that an offset is out of range that he was given, and
 * every shard's groups and partitions are listed, once.
 *
 * SEED=n runs that seed alone; RUNS=n sets how many are run, FIRST=n from which on. SHARDS=n says
 * how many there are, else the seed does. A failure prints its seed.
 */
#include "base/bytes.h"
#include "base/check.h"
#include "base/mem.h"
#include "gen/apis.h"
#include "gen/create_topics.h"
#include "gen/describe_log_dirs.h"
#include "gen/fetch.h"
#include "gen/init_producer_id.h"
#include "gen/list_groups.h"
#include "gen/list_offsets.h"
#include "gen/offset_commit.h"
#include "gen/offset_fetch.h"
#include "gen/produce.h"
#include "protocol/batch.h"
#include "protocol/error.h"
#include "tests/kit/broker_model.h"
#include "tests/kit/seeds.h"
#include "tests/kit/sim_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    STEPS = 1500,
    TOPICS = 2,
    PARTITIONS = MODEL_PARTITIONS,
    FIRST_OF_B = 4, /* partitions 0..3 are of topic "a", the others of "b" */
    PRODUCERS = 3,
    CONSUMERS = 2,
    COMMITTERS = MODEL_GROUPS,
    WATCHERS = 1,
    ACTORS = PRODUCERS + CONSUMERS + COMMITTERS + WATCHERS,
    IN_FLIGHT = 5,  /* batches of a producer and partition */
    RECORDS_MAX = 3 /* of a batch */
};

enum asked {
    ASKED_ID,
    ASKED_PRODUCE,
    ASKED_FETCH,
    ASKED_OFFSETS,
    ASKED_COMMIT,
    ASKED_COMMITTED,
    ASKED_GROUPS,
    ASKED_DIRS
};

struct batch {
    int32_t sequence;
    int32_t count;
    bool sent; /* on the connection that there is, and not refused since */
};

struct question {
    enum asked kind;
    struct batch batches[PARTITIONS]; /* produce; count 0: none */
    int64_t offsets[PARTITIONS];      /* fetch: from where; -1: not asked. commit: what */
    int64_t high[PARTITIONS];         /* the model's, when it was sent */
    int64_t committed[MODEL_GROUPS][PARTITIONS]; /* likewise */
};

struct lane {                        /* a producer's way to a partition */
    struct batch batches[IN_FLIGHT]; /* without an answer, in order */
    int count;
    int32_t next_sequence;
};

struct actor {
    int index;
    struct sim_client c;
    struct question asked[SIM_CLIENT_ASKED];

    int64_t producer; /* producers: the id; -1: none */
    int16_t acks;
    struct lane lanes[PARTITIONS];

    int64_t position[PARTITIONS]; /* consumers */

    int64_t value[PARTITIONS]; /* committers: the last one sent */
    bool unsure;               /* a commit without an answer may be under way still */
};

struct world {
    struct broker_kit k;
    struct broker_model m;
    struct rng rng;
    struct actor actors[ACTORS];
    struct arena arena; /* of the request that is being made */
    enum sim_cut cut;   /* how the one ends that an operation brings; SIM_KILL: none does */
    uint64_t crashes;
};

static bool chance(struct world *w, uint64_t percent)
{
    return rng_below(&w->rng, 100) < percent;
}

static int32_t below(struct world *w, int32_t n)
{
    return (int32_t)rng_below(&w->rng, (uint64_t)n);
}

static struct str topic_name(int topic)
{
    return topic == 0 ? STR("a") : STR("b");
}

static int topic_first(int topic)
{
    return topic == 0 ? 0 : FIRST_OF_B;
}

static int topic_count(int topic)
{
    return topic == 0 ? FIRST_OF_B : PARTITIONS - FIRST_OF_B;
}

/* The partition of the model; a topic that nobody made is a broken promise. */
static int partition_of(struct str topic, int32_t index)
{
    int t = str_eq(topic, STR("a")) ? 0 : 1;
    check(str_eq(topic, topic_name(t)) && index >= 0 && index < topic_count(t));
    return topic_first(t) + index;
}

static struct str group_name(int group)
{
    static const char *const names[MODEL_GROUPS] = {"k0", "k1", "k2", "k3"};
    return str_of(names[group]);
}

#define NEWS(w, type, n) ((struct type *)news((w), &type##_table, (n)))

static void *news(struct world *w, const struct wire_struct *table, int32_t count)
{
    void *p = wire_array(&w->arena, table, count);
    check(p);
    return p;
}

/* Its place in `asked`, for what it is to be compared with. */
static struct question *ask(struct world *w, struct actor *a, enum asked kind, int16_t key,
                            int16_t min, int16_t max, const void *request)
{
    int16_t version = (int16_t)(min + below(w, max - min + 1));
    uint32_t id = sim_client_ask(&a->c, key, version, request);
    struct question *q = &a->asked[id % SIM_CLIENT_ASKED];
    *q = (struct question){.kind = kind};
    memcpy(q->high, w->m.high, sizeof q->high);
    memcpy(q->committed, w->m.committed, sizeof q->committed);
    arena_reset(&w->arena);
    return q;
}

/* ---- producers */

static void forget_producer(struct actor *a)
{
    a->producer = -1;
    memset(a->lanes, 0, sizeof a->lanes);
}

static struct wire_records records_of(struct world *w, const struct actor *a, int partition,
                                      const struct batch *b)
{
    static const char filler[300];
    struct batch_builder builder;
    struct batch_seal seal = batch_seal_plain;
    struct buf out = {0};
    batch_builder_init(&builder);
    for (int32_t i = 0; i < b->count; i++) {
        uint8_t value[12 + sizeof filler] = {0};
        size_t size = 12 + (size_t)(b->sequence + i) * 37 % sizeof filler;
        put_be64(value, model_record_of(a->producer, b->sequence + i));
        put_be32(value + 8, (uint32_t)partition);
        check(!batch_builder_add(&builder, w->k.logs.clock.wall_ms, (struct bytes){0},
                                 (struct bytes){value, size}, NULL, 0));
    }
    seal.producer_id = a->producer;
    seal.producer_epoch = 0;
    seal.base_sequence = b->sequence;
    seal.codec = b->sequence % 3 == 0 ? CODEC_LZ4 : CODEC_NONE; /* a retry has the same bytes */
    check(!batch_builder_seal(&builder, &seal, &out));
    batch_builder_finish(&builder);
    struct wire_records r = {.ptr = arena_dup(&w->arena, out.ptr, out.len), .len = out.len};
    check(r.ptr);
    buf_finish(&out);
    return r;
}

/* The batch to send to a partition now: the oldest that is not under way, a new one, or, at times,
 * one that is sent twice. NULL: none. */
static struct batch *batch_to_send(struct world *w, struct lane *l)
{
    for (int i = 0; i < l->count; i++) {
        if (!l->batches[i].sent || chance(w, 5)) {
            return &l->batches[i];
        }
    }
    if (l->count == IN_FLIGHT || chance(w, 30)) {
        return NULL;
    }
    struct batch *b = &l->batches[l->count++];
    *b = (struct batch){.sequence = l->next_sequence, .count = 1 + below(w, RECORDS_MAX)};
    l->next_sequence += b->count;
    return b;
}

static void produce(struct world *w, struct actor *a)
{
    struct produce_request r;
    struct batch sent[PARTITIONS] = {0};
    bool any = false;
    produce_request_init(&r);
    r.acks = a->acks;
    r.timeout_ms = 1000;
    r.topics = NEWS(w, produce_request_topic, TOPICS);
    r.topics_count = TOPICS;
    for (int t = 0; t < TOPICS; t++) {
        struct produce_request_topic *topic = &r.topics[t];
        topic->name = topic_name(t);
        topic->partitions = NEWS(w, produce_request_partition, topic_count(t));
        for (int32_t i = 0; i < topic_count(t); i++) {
            int p = topic_first(t) + i;
            struct batch *b = chance(w, 50) ? batch_to_send(w, &a->lanes[p]) : NULL;
            if (b) {
                b->sent = true;
                sent[p] = *b;
                topic->partitions[topic->partitions_count++] = (struct produce_request_partition){
                    .index = i, .records = records_of(w, a, p, b)};
                any = true;
            }
        }
    }
    if (any) {
        struct question *q = ask(w, a, ASKED_PRODUCE, API_PRODUCE, 3, 12, &r);
        memcpy(q->batches, sent, sizeof sent);
    }
}

static void act_producer(struct world *w, struct actor *a)
{
    if (a->producer >= 0) {
        produce(w, a);
    } else if (sim_client_waiting(&a->c) == 0) {
        struct init_producer_id_request r;
        init_producer_id_request_init(&r);
        r.transactional_id = (struct str){0};
        ask(w, a, ASKED_ID, API_INIT_PRODUCER_ID, 0, 4, &r);
    }
}

static void take_id(struct world *w, struct actor *a, const struct init_producer_id_response *r)
{
    if (!r->error_code) {
        model_given(&w->m, r->producer_id);
        forget_producer(a);
        a->producer = r->producer_id;
    }
}

/* What is behind a batch that was refused was refused with it, or will be. */
static void send_again_from(struct lane *l, int from)
{
    for (int i = from; i < l->count; i++) {
        l->batches[i].sent = false;
    }
}

static void take_acked(struct world *w, struct actor *a, int partition, const struct batch *b,
                       int64_t base_offset, int at)
{
    struct lane *l = &a->lanes[partition];
    for (int32_t i = 0; i < b->count; i++) {
        model_acked(&w->m, partition, base_offset + i,
                    model_record_of(a->producer, b->sequence + i), a->acks != 1);
    }
    if (at < l->count) {
        l->count--;
        memmove(&l->batches[at], &l->batches[at + 1],
                (size_t)(l->count - at) * sizeof l->batches[0]);
    }
}

/* False: the producer begins anew. */
static bool take_batch(struct world *w, struct actor *a, int partition, const struct batch *b,
                       const struct produce_response_partition *r)
{
    struct lane *l = &a->lanes[partition];
    int at = 0;
    while (at < l->count && l->batches[at].sequence != b->sequence) {
        at++;
    }
    bool waits = at < l->count;
    switch (r->error_code) {
    case KERR_NONE: take_acked(w, a, partition, b, r->base_offset, at); return true;
    case KERR_KAFKA_STORAGE_ERROR:
    case KERR_NOT_LEADER_OR_FOLLOWER: send_again_from(l, at); return true;
    case KERR_OUT_OF_ORDER_SEQUENCE_NUMBER:
        if (waits && at == 0) {
            check(a->acks == 1); /* else all before it is lasting */
            return false;
        }
        send_again_from(l, at);
        return true;
    default:
        fprintf(stderr, "produce: error %d\n", r->error_code);
        check(!"an answer that a producer may be given");
    }
    return true;
}

static void take_produce(struct world *w, struct actor *a, const struct question *q,
                         const struct produce_response *r)
{
    bool goes_on = true;
    for (int32_t t = 0; t < r->topics_count; t++) {
        for (int32_t i = 0; i < r->topics[t].partitions_count && goes_on; i++) {
            const struct produce_response_partition *out = &r->topics[t].partitions[i];
            int p = partition_of(r->topics[t].name, out->index);
            check(q->batches[p].count > 0);
            goes_on = take_batch(w, a, p, &q->batches[p], out);
        }
    }
    if (!goes_on) {
        sim_client_close(&a->c);
        forget_producer(a);
    }
}

/* ---- consumers */

static void fetch(struct world *w, struct actor *a, const int64_t *from, bool waits, bool little)
{
    static const int32_t sizes[] = {1, 400, 2000, 1 << 20};
    struct fetch_request r;
    fetch_request_init(&r);
    r.max_wait_ms = waits ? below(w, 300) : 0;
    r.min_bytes = waits ? below(w, 3) * 500 : 0;
    r.max_bytes = little ? sizes[below(w, 4)] : 1 << 20;
    r.topics = NEWS(w, fetch_request_topic, TOPICS);
    r.topics_count = TOPICS;
    for (int t = 0; t < TOPICS; t++) {
        r.topics[t].topic = topic_name(t);
        r.topics[t].partitions = NEWS(w, fetch_request_partition, topic_count(t));
        for (int32_t i = 0; i < topic_count(t); i++) {
            int64_t offset = from[topic_first(t) + i];
            if (offset >= 0) {
                struct fetch_request_partition *p =
                    &r.topics[t].partitions[r.topics[t].partitions_count++];
                p->partition = i;
                p->fetch_offset = offset;
                p->partition_max_bytes = little ? sizes[below(w, 4)] : 1 << 20;
            }
        }
    }
    struct question *q = ask(w, a, ASKED_FETCH, API_FETCH, 4, 12, &r);
    memcpy(q->offsets, from, sizeof q->offsets);
}

static void act_consumer(struct world *w, struct actor *a)
{
    int64_t from[PARTITIONS];
    if (sim_client_waiting(&a->c) > 2) {
        return;
    }
    for (int p = 0; p < PARTITIONS; p++) {
        int64_t at = a->position[p];
        from[p] = chance(w, 30) ? -1 : chance(w, 80) ? at : below(w, (int32_t)at + 1);
    }
    fetch(w, a, from, chance(w, 60), true);
}

/* One batch; the offset behind it. `out`: where the records go, by offset; may be NULL. */
static int64_t take_read_batch(struct world *w, int partition, const uint8_t *bytes, size_t size,
                               int64_t high, uint64_t *out)
{
    struct batch_scratch scratch = {0};
    struct batch_iterator it;
    struct record record;
    check(batch_crc_is_right(bytes, size));
    check(!batch_iterator_init(&it, bytes, size, SIZE_MAX, &scratch));
    int32_t n = 0;
    while (batch_iterator_next(&it, &record) == OK) {
        check(record.value.len >= 12 && get_be32(record.value.ptr + 8) == (uint32_t)partition);
        uint64_t id = get_be64(record.value.ptr);
        check(id == model_record_of(it.header.producer_id, it.header.base_sequence + n));
        check(record.offset == it.header.base_offset + n);
        model_read(&w->m, partition, record.offset, id, high);
        if (out) {
            out[record.offset] = id;
        }
        n++;
    }
    check(n == it.header.count && n == it.header.last_offset_delta + 1);
    batch_scratch_finish(&scratch);
    return it.header.base_offset + n;
}

/* The offset behind what was read: whole batches without a gap, the last one may be cut. */
static int64_t take_records(struct world *w, int partition, int64_t offset,
                            const struct fetch_response_partition *r, uint64_t *out)
{
    const uint8_t *p = r->records.ptr;
    size_t left = r->records.len;
    struct batch_header h;
    while (left > 0 && batch_header_read(p, left, &h) == OK && h.size <= left) {
        check(h.base_offset <= offset);
        int64_t next = take_read_batch(w, partition, p, h.size, r->high_watermark, out);
        check(next > offset);
        offset = next;
        p += h.size;
        left -= h.size;
    }
    return offset;
}

static void take_fetch(struct world *w, struct actor *a, const struct question *q,
                       const struct fetch_response *r)
{
    check(!r->error_code);
    for (int32_t t = 0; t < r->topics_count; t++) {
        for (int32_t i = 0; i < r->topics[t].partitions_count; i++) {
            const struct fetch_response_partition *out = &r->topics[t].partitions[i];
            int p = partition_of(r->topics[t].topic, out->partition_index);
            check(q->offsets[p] >= 0);
            if (out->error_code) {
                check(out->error_code == KERR_NOT_LEADER_OR_FOLLOWER ||
                      out->error_code == KERR_KAFKA_STORAGE_ERROR);
                continue;
            }
            model_high(&w->m, p, out->high_watermark, q->high[p]);
            int64_t end = take_records(w, p, q->offsets[p], out, NULL);
            a->position[p] = end > a->position[p] ? end : a->position[p];
        }
    }
}

/* ---- groups */

static void act_committer(struct world *w, struct actor *a)
{
    struct offset_commit_request r;
    int group = a->index - PRODUCERS - CONSUMERS;
    if (sim_client_waiting(&a->c) > 0 || a->unsure) {
        return;
    }
    offset_commit_request_init(&r);
    r.group_id = group_name(group);
    r.topics = NEWS(w, offset_commit_request_topic, TOPICS);
    r.topics_count = TOPICS;
    for (int t = 0; t < TOPICS; t++) {
        r.topics[t].name = topic_name(t);
        r.topics[t].partitions = NEWS(w, offset_commit_request_partition, topic_count(t));
        r.topics[t].partitions_count = topic_count(t);
        for (int32_t i = 0; i < topic_count(t); i++) {
            int64_t value = ++a->value[topic_first(t) + i];
            r.topics[t].partitions[i].partition_index = i;
            r.topics[t].partitions[i].committed_offset = value;
            r.topics[t].partitions[i].committed_metadata = STR("");
            w->m.sent[group][topic_first(t) + i] = value;
        }
    }
    struct question *q = ask(w, a, ASKED_COMMIT, API_OFFSET_COMMIT, 2, 9, &r);
    memcpy(q->offsets, a->value, sizeof q->offsets);
}

static bool may_fail(int16_t code) /* of a group */
{
    return code == KERR_COORDINATOR_NOT_AVAILABLE || code == KERR_NOT_COORDINATOR;
}

static void take_commit(struct world *w, struct actor *a, const struct question *q,
                        const struct offset_commit_response *r)
{
    int group = a->index - PRODUCERS - CONSUMERS;
    for (int32_t t = 0; t < r->topics_count; t++) {
        for (int32_t i = 0; i < r->topics[t].partitions_count; i++) {
            const struct offset_commit_response_partition *out = &r->topics[t].partitions[i];
            int p = partition_of(r->topics[t].name, out->partition_index);
            check(!out->error_code || may_fail(out->error_code));
            if (!out->error_code) {
                w->m.committed[group][p] = q->offsets[p];
            }
        }
    }
}

/* ---- one who asks around */

static void ask_offsets(struct world *w, struct actor *a)
{
    struct list_offsets_request r;
    list_offsets_request_init(&r);
    r.replica_id = -1;
    r.topics = NEWS(w, list_offsets_request_topic, TOPICS);
    r.topics_count = TOPICS;
    for (int t = 0; t < TOPICS; t++) {
        r.topics[t].name = topic_name(t);
        r.topics[t].partitions = NEWS(w, list_offsets_request_partition, topic_count(t));
        r.topics[t].partitions_count = topic_count(t);
        for (int32_t i = 0; i < topic_count(t); i++) {
            r.topics[t].partitions[i].partition_index = i;
            r.topics[t].partitions[i].timestamp = chance(w, 80) ? -1 : -3;
        }
    }
    struct question *q = ask(w, a, ASKED_OFFSETS, API_LIST_OFFSETS, 7, 10, &r);
    (void)q;
}

static void ask_committed(struct world *w, struct actor *a)
{
    struct offset_fetch_request r;
    offset_fetch_request_init(&r);
    if (chance(w, 30)) { /* of one group, all that it has */
        r.group_id = group_name(below(w, MODEL_GROUPS));
        r.topics_count = -1;
        struct question *q = NULL;
        int group = r.group_id.ptr[1] - '0';
        q = ask(w, a, ASKED_COMMITTED, API_OFFSET_FETCH, 2, 7, &r);
        q->offsets[0] = group;
        return;
    }
    r.groups = NEWS(w, offset_fetch_request_group, MODEL_GROUPS);
    r.groups_count = MODEL_GROUPS;
    for (int g = 0; g < MODEL_GROUPS; g++) {
        r.groups[g].group_id = group_name(g);
        r.groups[g].topics_count = -1;
        r.groups[g].topics = NULL;
    }
    ask(w, a, ASKED_COMMITTED, API_OFFSET_FETCH, 8, 9, &r)->offsets[0] = -1;
}

static void act_watcher(struct world *w, struct actor *a)
{
    struct list_groups_request groups;
    struct describe_log_dirs_request dirs;
    if (sim_client_waiting(&a->c) > 3) {
        return;
    }
    switch (below(w, 5)) {
    case 0:
    case 1: ask_offsets(w, a); return;
    case 2: ask_committed(w, a); return;
    case 3:
        list_groups_request_init(&groups);
        ask(w, a, ASKED_GROUPS, API_LIST_GROUPS, 0, 5, &groups);
        return;
    default:
        describe_log_dirs_request_init(&dirs);
        dirs.topics = NULL;
        dirs.topics_count = -1;
        ask(w, a, ASKED_DIRS, API_DESCRIBE_LOG_DIRS, 1, 4, &dirs);
    }
}

static void take_offsets(struct world *w, const struct question *q,
                         const struct list_offsets_response *r)
{
    for (int32_t t = 0; t < r->topics_count; t++) {
        for (int32_t i = 0; i < r->topics[t].partitions_count; i++) {
            const struct list_offsets_response_partition *out = &r->topics[t].partitions[i];
            int p = partition_of(r->topics[t].name, out->partition_index);
            check(!out->error_code || out->error_code == KERR_KAFKA_STORAGE_ERROR ||
                  out->error_code == KERR_NOT_LEADER_OR_FOLLOWER);
            if (!out->error_code && out->timestamp == -1 && out->offset >= 0) {
                model_high(&w->m, p, out->offset, q->high[p]);
            }
        }
    }
}

static void take_committed_of(struct world *w, const struct question *q, int group,
                              struct str topic, int32_t partition, int64_t offset)
{
    int p = partition_of(topic, partition);
    model_committed(&w->m, group, p, offset, q->committed[group][p]);
}

static void take_committed(struct world *w, const struct question *q,
                           const struct offset_fetch_response *r)
{
    check(!r->error_code || may_fail(r->error_code));
    for (int32_t t = 0; t < r->topics_count; t++) {
        for (int32_t i = 0; i < r->topics[t].partitions_count; i++) {
            take_committed_of(w, q, (int)q->offsets[0], r->topics[t].name,
                              r->topics[t].partitions[i].partition_index,
                              r->topics[t].partitions[i].committed_offset);
        }
    }
    for (int32_t g = 0; g < r->groups_count; g++) {
        const struct offset_fetch_response_group *group = &r->groups[g];
        check(str_eq(group->group_id, group_name(g)));
        check(!group->error_code || may_fail(group->error_code));
        bool any = q->committed[g][0] >= 0;
        check(group->error_code || !any || group->topics_count == TOPICS);
        for (int32_t t = 0; t < group->topics_count; t++) {
            for (int32_t i = 0; i < group->topics[t].partitions_count; i++) {
                take_committed_of(w, q, g, group->topics[t].name,
                                  group->topics[t].partitions[i].partition_index,
                                  group->topics[t].partitions[i].committed_offset);
            }
        }
    }
}

static void take_groups(const struct question *q, const struct list_groups_response *r)
{
    for (int g = 0; g < MODEL_GROUPS && !r->error_code; g++) {
        int seen = 0;
        for (int32_t i = 0; i < r->groups_count; i++) {
            seen += str_eq(r->groups[i].group_id, group_name(g));
        }
        check(seen <= 1 && (seen == 1 || q->committed[g][0] < 0));
    }
}

static void take_dirs(const struct describe_log_dirs_response *r)
{
    int seen[PARTITIONS] = {0};
    check(r->results_count == 1);
    for (int32_t t = 0; t < r->results[0].topics_count; t++) {
        const struct describe_log_dirs_response_topic *topic = &r->results[0].topics[t];
        bool ours = str_eq(topic->name, STR("a")) || str_eq(topic->name, STR("b"));
        for (int32_t i = 0; ours && i < topic->partitions_count; i++) {
            check(topic->partitions[i].partition_size >= 0);
            seen[partition_of(topic->name, topic->partitions[i].partition_index)]++;
        }
    }
    for (int p = 0; p < PARTITIONS; p++) {
        check(seen[p] == 1);
    }
}

/* ---- all of them */

static void take(struct world *w, struct actor *a, const struct question *q, const void *answer)
{
    switch (q->kind) {
    case ASKED_ID: take_id(w, a, answer); return;
    case ASKED_PRODUCE: take_produce(w, a, q, answer); return;
    case ASKED_FETCH: take_fetch(w, a, q, answer); return;
    case ASKED_OFFSETS: take_offsets(w, q, answer); return;
    case ASKED_COMMIT: take_commit(w, a, q, answer); return;
    case ASKED_COMMITTED: take_committed(w, q, answer); return;
    case ASKED_GROUPS: take_groups(q, answer); return;
    case ASKED_DIRS: take_dirs(answer); return;
    }
}

static void take_all(struct world *w, struct actor *a)
{
    const void *answer;
    uint32_t id;
    while (sim_client_is_open(&a->c) && (answer = sim_client_take(&a->c, &id))) {
        struct question q = a->asked[id % SIM_CLIENT_ASKED];
        take(w, a, &q, answer);
    }
}

/* The connection is gone, with what was under way on it. */
static void hang_up(struct actor *a)
{
    bool commits = a->index >= PRODUCERS + CONSUMERS && sim_client_waiting(&a->c) > 0;
    a->unsure = a->unsure || commits;
    sim_client_close(&a->c);
    for (int p = 0; p < PARTITIONS; p++) {
        send_again_from(&a->lanes[p], 0);
    }
}

static void act(struct world *w, struct actor *a)
{
    if (!sim_client_is_open(&a->c)) {
        hang_up(a); /* or the broker did */
        sim_client_open(&a->c, below(w, w->k.shard_count));
    }
    if (chance(w, 70)) {
        take_all(w, a);
    }
    if (!sim_client_is_open(&a->c) || sim_client_waiting(&a->c) >= SIM_CLIENT_ASKED) {
        return;
    }
    if (a->index < PRODUCERS) {
        act_producer(w, a);
    } else if (a->index < PRODUCERS + CONSUMERS) {
        act_consumer(w, a);
    } else if (a->index < PRODUCERS + CONSUMERS + COMMITTERS) {
        act_committer(w, a);
    } else {
        act_watcher(w, a);
    }
}

/* ---- looking at everything */

/* Every partition, from its start to its end, by a client of some shard. */
static void look(struct world *w)
{
    struct actor *a = mem_need_zero(1, sizeof *a);
    uint64_t *found = mem_need(MODEL_OFFSETS * sizeof *found);
    sim_client_init(&a->c, &w->k);
    sim_client_open(&a->c, below(w, w->k.shard_count));
    for (int p = 0; p < PARTITIONS; p++) {
        int64_t at = 0;
        int64_t high = 1;
        while (at < high) {
            int64_t from[PARTITIONS];
            uint32_t id;
            memset(from, 0xff, sizeof from);
            from[p] = at;
            fetch(w, a, from, false, false);
            broker_kit_settle(&w->k);
            const struct fetch_response *r = sim_client_take(&a->c, &id);
            check(r && r->topics_count == TOPICS);
            const struct fetch_response_topic *topic = &r->topics[p < FIRST_OF_B ? 0 : 1];
            check(topic->partitions_count == 1 && !topic->partitions[0].error_code);
            high = topic->partitions[0].high_watermark;
            model_high(&w->m, p, high, w->m.high[p]);
            at = take_records(w, p, at, &topic->partitions[0], found);
        }
        model_whole(&w->m, p, found, high);
    }
    sim_client_finish(&a->c);
    mem_free(found);
    mem_free(a);
}

/* ---- what happens to the broker */

static void start(struct world *w, bool clean)
{
    sim_store_count_from_zero(w->k.logs.sim);
    sim_store_set_limit(w->k.logs.sim, -1);
    w->cut = SIM_KILL;
    check(broker_kit_start(&w->k, clean) == OK);
    look(w);
}

static void all_hang_up(struct world *w)
{
    for (int i = 0; i < ACTORS; i++) {
        if (chance(w, 50)) {
            take_all(w, &w->actors[i]); /* what came before the end */
        }
        hang_up(&w->actors[i]);
        w->actors[i].unsure = false;
    }
}

static void crash(struct world *w)
{
    enum sim_cut how = (enum sim_cut)below(w, 3);
    bool power = how != SIM_KILL || (sim_store_is_down(w->k.logs.sim) && w->cut != SIM_KILL);
    w->crashes++;
    all_hang_up(w);
    broker_kit_crash(&w->k, how);
    if (power) {
        model_power_cut(&w->m);
    }
    start(w, false);
}

static void restart(struct world *w)
{
    sim_store_count_from_zero(w->k.logs.sim); /* nothing fails in a clean stop */
    sim_store_set_limit(w->k.logs.sim, -1);
    all_hang_up(w);
    broker_kit_stop(&w->k);
    check(!sim_store_is_down(w->k.logs.sim));
    start(w, true);
}

static void quiet(struct world *w)
{
    broker_kit_settle(&w->k);
    for (int i = 0; i < ACTORS; i++) {
        w->actors[i].unsure = false;
    }
}

static void fault(struct world *w)
{
    struct sim_store *sim = w->k.logs.sim;
    uint64_t at = sim_store_operations(sim) + (uint64_t)below(w, 60);
    if (chance(w, 40)) { /* no room: below, as no read fails for that */
        sim_store_fail_at(sim, at, chance(w, 50) ? ERR_IO : ERR_NO_FILES);
    } else if (chance(w, 60)) {
        w->cut = (enum sim_cut)below(w, 3);
        sim_store_cut_at(sim, at, w->cut);
    } else {
        sim_store_set_limit(sim, chance(w, 50) ? -1 : sim_store_used(sim) + below(w, 3000));
    }
}

static void step(struct world *w)
{
    int32_t r = below(w, 1000);
    if (r < 600) {
        broker_kit_step(&w->k);
    } else if (r < 920) {
        act(w, &w->actors[below(w, ACTORS)]);
    } else if (r < 950) {
        broker_kit_pass(&w->k, below(w, chance(w, 80) ? 50 : 3000));
    } else if (r < 962) {
        quiet(w);
    } else if (r < 976) {
        hang_up(&w->actors[below(w, ACTORS)]);
    } else if (r < 983) {
        crash(w);
    } else if (r < 986) {
        restart(w);
    } else if (r < 995) {
        fault(w);
    } else {
        sim_store_evict(w->k.logs.sim);
    }
    if (sim_store_is_down(w->k.logs.sim)) {
        crash(w);
    }
}

/* ---- a run */

static void make_topics(struct world *w)
{
    struct create_topics_request r;
    struct sim_client c;
    uint32_t id;
    sim_client_init(&c, &w->k);
    sim_client_open(&c, below(w, w->k.shard_count));
    create_topics_request_init(&r);
    r.topics = NEWS(w, create_topics_request_topic, TOPICS);
    r.topics_count = TOPICS;
    for (int t = 0; t < TOPICS; t++) {
        r.topics[t].name = topic_name(t);
        r.topics[t].num_partitions = topic_count(t);
        r.topics[t].replication_factor = 1;
    }
    sim_client_ask(&c, API_CREATE_TOPICS, 5, &r);
    arena_reset(&w->arena);
    broker_kit_settle(&w->k);
    const struct create_topics_response *made = sim_client_take(&c, &id);
    check(made && !made->topics[0].error_code && !made->topics[1].error_code);
    sim_client_finish(&c);
}

static uint64_t run(uint64_t seed)
{
    static const char *const sets[] = {"offsets.topic.num.partitions=5",
                                       "log.segment.bytes=1048576",
                                       "log.retention.ms=-1",
                                       "log.roll.ms=1500",
                                       "rivulet.log.compact.roll.bytes=500",
                                       "log.cleaner.min.cleanable.ratio=0.2",
                                       NULL};
    const char *shards = getenv("SHARDS");
    struct world *w = mem_need_zero(1, sizeof *w);
    rng_init(&w->rng, seed);
    arena_init(&w->arena, SIZE_MAX);
    broker_model_init(&w->m);
    broker_kit_init(&w->k, seed, sets);
    w->k.shard_count = shards ? atoi(shards) : (int32_t)(seed % BROKER_KIT_SHARDS) + 1;
    w->k.logs.printed = getenv("PRINT") != NULL;
    check(broker_kit_start(&w->k, false) == OK);
    make_topics(w);
    for (int i = 0; i < ACTORS; i++) {
        struct actor *a = &w->actors[i];
        a->index = i;
        a->acks = i == 0 ? 1 : -1;
        sim_client_init(&a->c, &w->k);
        forget_producer(a);
    }
    for (int i = 0; i < STEPS; i++) {
        step(w);
    }
    restart(w);
    uint64_t seen = w->m.reads;
    if (getenv("STATS")) {
        printf("shards=%d acks=%llu reads=%llu crashes=%llu\n", w->k.shard_count,
               (unsigned long long)w->m.acks, (unsigned long long)w->m.reads,
               (unsigned long long)w->crashes);
    }
    for (int i = 0; i < ACTORS; i++) {
        sim_client_finish(&w->actors[i].c);
    }
    broker_kit_finish(&w->k);
    broker_model_finish(&w->m);
    arena_finish(&w->arena);
    mem_free(w);
    return seen;
}

static void a_broker_keeps_its_word_to_clients_that_try_again(void **state)
{
    (void)state;
    seeds_run(run, 200, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_broker_keeps_its_word_to_clients_that_try_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

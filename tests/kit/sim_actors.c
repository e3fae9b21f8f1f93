#include "tests/kit/sim_actors.h"

#include "base/check.h"
#include "gen/apis.h"
#include "gen/create_topics.h"

#include <string.h>

bool sim_chance(struct sim_world *w, uint64_t percent)
{
    return rng_below(&w->rng, 100) < percent;
}

int32_t sim_below(struct sim_world *w, int32_t n)
{
    return (int32_t)rng_below(&w->rng, (uint64_t)n);
}

struct str sim_topic(int topic)
{
    return topic == 0 ? STR("a") : STR("b");
}

int sim_topic_first(int topic)
{
    return topic == 0 ? 0 : SIM_FIRST_OF_B;
}

int sim_topic_count(int topic)
{
    return topic == 0 ? SIM_FIRST_OF_B : SIM_PARTITIONS - SIM_FIRST_OF_B;
}

/* The partition of the model; a topic that nobody made is a broken promise. */
int sim_partition_of(struct str topic, int32_t index)
{
    int t = str_eq(topic, STR("a")) ? 0 : 1;
    check(str_eq(topic, sim_topic(t)) && index >= 0 && index < sim_topic_count(t));
    return sim_topic_first(t) + index;
}

void *sim_news(struct sim_world *w, const struct wire_struct *table, int32_t count)
{
    void *p = wire_array(&w->arena, table, count);
    check(p);
    return p;
}

/* Its place in `asked`, for what it is to be compared with. */
struct sim_question *sim_ask(struct sim_world *w, struct sim_actor *a, enum sim_asked kind,
                             int16_t key, int16_t min, int16_t max, const void *request)
{
    int16_t version = (int16_t)(min + sim_below(w, max - min + 1));
    uint32_t id = sim_client_ask(&a->c, key, version, request);
    struct sim_question *q = &a->asked[id % SIM_CLIENT_ASKED];
    *q = (struct sim_question){.kind = kind};
    memcpy(q->high, w->m.high, sizeof q->high);
    memcpy(q->committed, w->m.committed, sizeof q->committed);
    arena_reset(&w->arena);
    return q;
}

/* ---- all of them */

static bool is_producer(const struct sim_actor *a)
{
    return a->index < SIM_PRODUCERS;
}

static bool is_consumer(const struct sim_actor *a)
{
    return !is_producer(a) && a->index < SIM_PRODUCERS + SIM_CONSUMERS;
}

static bool is_committer(const struct sim_actor *a)
{
    return a->index >= SIM_PRODUCERS + SIM_CONSUMERS && a->index < SIM_ACTORS - SIM_WATCHERS;
}

static void take(struct sim_world *w, struct sim_actor *a, const struct sim_question *q,
                 const void *answer)
{
    if (is_producer(a)) {
        sim_producer_take(w, a, q, answer);
    } else if (is_consumer(a)) {
        sim_consumer_take(w, a, q, answer);
    } else if (is_committer(a)) {
        sim_committer_take(w, a, q, answer);
    } else {
        sim_watcher_take(w, q, answer);
    }
}

void sim_actor_take(struct sim_world *w, struct sim_actor *a)
{
    const void *answer;
    uint32_t id;
    while (sim_client_is_open(&a->c) && (answer = sim_client_take(&a->c, &id))) {
        struct sim_question q = a->asked[id % SIM_CLIENT_ASKED];
        take(w, a, &q, answer);
    }
}

void sim_actor_hang_up(struct sim_actor *a)
{
    a->unsure = a->unsure || (is_committer(a) && sim_client_waiting(&a->c) > 0);
    sim_client_close(&a->c);
    sim_producer_lost(a);
}

void sim_actor_act(struct sim_world *w, struct sim_actor *a)
{
    if (!sim_client_is_open(&a->c)) {
        sim_actor_hang_up(a); /* or the broker did */
        sim_client_open(&a->c, sim_below(w, w->k.shard_count));
    }
    if (sim_chance(w, 70)) {
        sim_actor_take(w, a);
    }
    if (!sim_client_is_open(&a->c) || sim_client_waiting(&a->c) >= SIM_CLIENT_ASKED) {
        return;
    }
    if (is_producer(a)) {
        sim_producer_act(w, a);
    } else if (is_consumer(a)) {
        sim_consumer_act(w, a);
    } else if (is_committer(a)) {
        sim_committer_act(w, a);
    } else {
        sim_watcher_act(w, a);
    }
}

void sim_actors_make_topics(struct sim_world *w)
{
    struct create_topics_request r;
    struct sim_client c;
    uint32_t id;
    sim_client_init(&c, &w->k);
    sim_client_open(&c, sim_below(w, w->k.shard_count));
    create_topics_request_init(&r);
    r.topics = SIM_NEWS(w, create_topics_request_topic, SIM_TOPICS);
    r.topics_count = SIM_TOPICS;
    for (int t = 0; t < SIM_TOPICS; t++) {
        r.topics[t].name = sim_topic(t);
        r.topics[t].num_partitions = sim_topic_count(t);
        r.topics[t].replication_factor = 1;
    }
    sim_client_ask(&c, API_CREATE_TOPICS, 5, &r);
    arena_reset(&w->arena);
    broker_kit_settle(&w->k);
    const struct create_topics_response *made = sim_client_take(&c, &id);
    check(made && !made->topics[0].error_code && !made->topics[1].error_code);
    sim_client_finish(&c);
}

void sim_actors_init(struct sim_world *w)
{
    for (int i = 0; i < SIM_ACTORS; i++) {
        struct sim_actor *a = &w->actors[i];
        a->index = i;
        a->acks = i == 0 ? 1 : -1;
        sim_client_init(&a->c, &w->k);
        sim_producer_forget(a);
    }
}

void sim_actors_finish(struct sim_world *w)
{
    for (int i = 0; i < SIM_ACTORS; i++) {
        sim_client_finish(&w->actors[i].c);
    }
}

/* sim_actors: clients as they are, on a broker of broker_kit: idempotent producers with several
 * batches in flight, which send again what they had no answer to, or send twice; consumers; groups
 * that commit; one who asks around. What they are told goes into a broker_model, which says what
 * must be so from then on. All that they do follows from the world's seed. One thread.
 */
#pragma once

#include "base/rand.h"
#include "tests/kit/broker_model.h"
#include "tests/kit/sim_client.h"

enum {
    SIM_TOPICS = 2,
    SIM_PARTITIONS = MODEL_PARTITIONS,
    SIM_FIRST_OF_B = 4, /* partitions 0..3 are of topic "a", the others of "b" */
    SIM_PRODUCERS = 3,
    SIM_CONSUMERS = 2,
    SIM_COMMITTERS = MODEL_GROUPS,
    SIM_WATCHERS = 1,
    SIM_ACTORS = SIM_PRODUCERS + SIM_CONSUMERS + SIM_COMMITTERS + SIM_WATCHERS,
    SIM_IN_FLIGHT = 5, /* batches of a producer and partition */
};

enum sim_asked {
    ASKED_ID,
    ASKED_PRODUCE,
    ASKED_FETCH,
    ASKED_OFFSETS,
    ASKED_COMMIT,
    ASKED_COMMITTED,
    ASKED_GROUPS,
    ASKED_DIRS
};

struct sim_batch {
    int32_t sequence; /* of its first record */
    int32_t count;    /* of records */
    bool sent;        /* on the connection that there is, and not refused since */
};

struct sim_question {
    enum sim_asked kind;
    struct sim_batch batches[SIM_PARTITIONS]; /* produce; count 0: none */
    int64_t offsets[SIM_PARTITIONS];          /* fetch: from where; -1: not asked. commit: what */
    int64_t high[SIM_PARTITIONS];             /* the model's, when it was sent */
    int64_t committed[MODEL_GROUPS][SIM_PARTITIONS]; /* likewise */
    int group;                                       /* committed: whose, where it is one's */
};

struct sim_lane {                            /* a producer's way to a partition */
    struct sim_batch batches[SIM_IN_FLIGHT]; /* without an answer, in order */
    int count;                               /* of batches */
    int32_t next_sequence;                   /* of a new one */
};

struct sim_actor {
    int index;                                   /* in the world's */
    struct sim_client c;                         /* its connection */
    struct sim_question asked[SIM_CLIENT_ASKED]; /* by id modulo */

    int64_t producer;                      /* producers: the id; -1: none */
    int16_t acks;                          /* producers */
    struct sim_lane lanes[SIM_PARTITIONS]; /* producers */

    int64_t position[SIM_PARTITIONS]; /* consumers: next to read */

    int64_t value[SIM_PARTITIONS]; /* committers: the last one sent */
    bool unsure;                   /* a commit without an answer may be under way still */
};

struct sim_world {
    struct broker_kit k;
    struct broker_model m;
    struct rng rng;
    struct arena arena; /* of the request that is being made */
    struct sim_actor actors[SIM_ACTORS];
};

void sim_actors_init(struct sim_world *w); /* behind the kit's and the model's */
void sim_actors_finish(struct sim_world *w);
void sim_actors_make_topics(struct sim_world *w);

void sim_actor_act(struct sim_world *w, struct sim_actor *a);  /* connects, takes answers, asks */
void sim_actor_take(struct sim_world *w, struct sim_actor *a); /* all answers that have come */
/* The connection is gone, with what was under way on it. */
void sim_actor_hang_up(struct sim_actor *a);

/* Reads every partition, from its start to its end, as a client of some shard: nothing is missing.
 */
void sim_actors_look(struct sim_world *w);

/* ---- what the files of the actors share */

bool sim_chance(struct sim_world *w, uint64_t percent);
int32_t sim_below(struct sim_world *w, int32_t n);
struct str sim_topic(int topic);
int sim_topic_first(int topic);
int sim_topic_count(int topic);
int sim_partition_of(struct str topic,
                     int32_t index); /* of the model; one that nobody made fails */

#define SIM_NEWS(w, type, n) ((struct type *)sim_news((w), &type##_table, (n)))
void *sim_news(struct sim_world *w, const struct wire_struct *table, int32_t count);

/* Sends it, in some version; its question, for what it is to be compared with. */
struct sim_question *sim_ask(struct sim_world *w, struct sim_actor *a, enum sim_asked kind,
                             int16_t key, int16_t min, int16_t max, const void *request);

/* sim_producer.c */
void sim_producer_act(struct sim_world *w, struct sim_actor *a);
void sim_producer_take(struct sim_world *w, struct sim_actor *a, const struct sim_question *q,
                       const void *answer);
void sim_producer_forget(struct sim_actor *a); /* begins anew */
void sim_producer_lost(struct sim_actor *a);   /* what was under way is to be sent again */

/* sim_consumer.c */
void sim_consumer_act(struct sim_world *w, struct sim_actor *a);
void sim_consumer_take(struct sim_world *w, struct sim_actor *a, const struct sim_question *q,
                       const void *answer);

/* sim_watcher.c */
void sim_committer_act(struct sim_world *w, struct sim_actor *a);
void sim_committer_take(struct sim_world *w, struct sim_actor *a, const struct sim_question *q,
                        const void *answer);
void sim_watcher_act(struct sim_world *w, struct sim_actor *a);
void sim_watcher_take(struct sim_world *w, const struct sim_question *q, const void *answer);

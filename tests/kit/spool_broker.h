/* spool_broker: a model of a broker, and of the network to it, for the sender of a spool: it loses
 * requests and answers, is away, forgets producers, and refuses records. It keeps what it stored as
 * numbers. One thread; virtual time.
 *
 * A record's value is a number in decimal. The model keeps to what sealed.h promises and to what a
 * broker does: a batch of a producer that it knows is taken when its sequence follows, and is a
 * duplicate when it is the last one again; of a producer that it does not know anything is taken.
 */
#pragma once

#include "base/rand.h"
#include "client/spool/internal.h"
#include "tests/kit/sim_clock.h"

enum { SPOOL_BROKER_PLACES = 16, SPOOL_BROKER_TOPIC_SIZE = 32 };

struct spool_broker_batch {
    int64_t producer_id;
    int16_t epoch;
    int32_t base_sequence;
    int32_t count;
    int64_t offset;
};

struct spool_broker_place { /* a partition */
    char topic[SPOOL_BROKER_TOPIC_SIZE];
    int32_t partition;
    uint64_t *numbers; /* owned: by offset */
    size_t count;
    size_t room;
    struct spool_broker_batch *batches; /* owned: by offset */
    size_t batch_count;
    size_t batch_room;
    size_t known_from; /* the broker remembers the producers of batches from this one on */
    int64_t start;     /* of the log: what is below is gone */
};

struct spool_broker {
    struct sim_clock *clock; /* borrowed: pauses move it */
    struct rng rng;
    struct spool_broker_place places[SPOOL_BROKER_PLACES];
    size_t place_count;
    int64_t next_id;
    bool is_away;
    int lose_request; /* in 100 */
    int lose_answer;  /* in 100 */
    int16_t code;     /* of every batch that comes; 0: as it should be */
    int16_t bad_code; /* of batches with a record whose number ends with 7; 0: they are good */
    size_t most;      /* records of a batch: more is too large; 0: any */
    void (*on_pause)(void *ctx); /* after each pause; NULL */
    void *ctx;
    int sent;  /* batches that came */
    int found; /* batches that were looked for and there */
};

void spool_broker_init(struct spool_broker *b, struct sim_clock *clock, uint64_t seed);
void spool_broker_finish(struct spool_broker *b);
void spool_broker_topic(struct spool_broker *b, const char *topic, int32_t partitions);
struct carrier spool_broker_carrier(struct spool_broker *b);
void spool_broker_forget(struct spool_broker *b); /* all producers */
/* The partition's records up to now are removed. */
void spool_broker_expire(struct spool_broker *b, const char *topic, int32_t partition);

/* How often a number is stored, in all partitions. */
int spool_broker_count(const struct spool_broker *b, uint64_t number);
size_t spool_broker_total(const struct spool_broker *b);

/* meta: what is known about the cluster: brokers, and the partitions of the topics that somebody on
 * this client is interested in. Asked for when something unknown is needed or proved wrong, and
 * every metadata.max.age.ms; one question at a time. One thread. */
#pragma once

#include "base/map.h"
#include "client/conn.h"

struct broker {
    int32_t id;
    int32_t port;
    char host[HOST_LIMIT];
};

struct topic_partition {
    int32_t leader;       /* broker id; -1: none at the moment */
    int32_t leader_epoch; /* -1: not known */
};

/* A topic somebody is interested in; lives as long as the client, so that pointers to it stay good.
 */
struct topic {
    char *name;      /* owned */
    struct uuid id;  /* zero: none, or not known */
    int code;        /* of the last answer: RV_OK, UNKNOWN_TOPIC_OR_PARTITION, ... */
    bool known;      /* there was an answer, of whatever code */
    bool may_create; /* asking may create it: it was not there when somebody wanted to write */
    bool internal;   /* the broker's own */
    struct topic_partition *partitions; /* owned; by partition number */
    int32_t count;    /* partitions; 0 while code is not RV_OK for the first time */
    uint64_t changes; /* raised when it is another topic of the same name, or has another count */
};

enum { META_ROUND_READ = 1, META_ROUND_CREATE = 2 }; /* topics that must not, or may be created */

struct meta {
    struct rv_client *client; /* borrowed */
    struct broker *brokers;   /* owned */
    int32_t broker_count;
    int32_t controller;       /* broker id; -1: not known */
    char cluster_id[64];      /* "": not known */
    struct map topics;        /* name -> struct topic, owned */
    struct call call;         /* the question */
    struct conn *conn;        /* borrowed; where it was asked last */
    unsigned rounds;          /* META_ROUND_*: still to be asked */
    unsigned asking;          /* the round that is on its way */
    bool brokers_wanted;      /* ask even when no topic is wanted */
    int failures;             /* in a row */
    int64_t not_before_ms;    /* back-off */
    struct timer age_timer;   /* metadata.max.age.ms */
    struct timer retry_timer; /* the back-off is over */
    uint64_t answers;         /* how many have come */
    int call_failures;        /* questions that failed, since rv_client_connect began */
    struct rv_error last;     /* why the last one did not come */
};

void meta_init(struct meta *m, struct rv_client *client);
void meta_finish(struct meta *m);

/* The topic of that name, which is then kept up to date. NULL: no memory. Only who asks for it with
 * may_create has it created, and only while it is not there: keeping it up to date would bring a
 * topic back that was deleted. */
struct topic *meta_topic(struct meta *m, const char *name, bool may_create);
void meta_topic_create(struct meta *m, struct topic *t); /* somebody wants to write, and waits */
struct topic *meta_topic_by_id(const struct meta *m, struct uuid id); /* NULL: not known */
void meta_refresh(struct meta *m); /* something proved wrong: ask again soon */
const struct broker *meta_broker(const struct meta *m, int32_t id); /* NULL: not known */

void meta_pump(struct meta *m);

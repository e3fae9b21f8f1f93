/* topics: what the handlers of topics, their partitions and their settings share. */
#pragma once

#include "base/err.h"
#include "base/map.h"
#include "base/str.h"
#include "base/timer.h"
#include "broker/api/request.h"
#include "broker/config.h"

/* Kafka's error code for what meta/ refused or failed. */
int16_t topic_error(err e);

/* Topics that only the broker itself makes, writes and removes; a name that collides with one ('.'
 * and '_' count as one) is no better. */
bool topic_name_is_reserved(struct str name);

/* ---- changes to topics: each topic of a request is a change of its own, and the answer goes when
 * the last one is done, or the client's timeout is over. In the request's arena. */

/* One of them. */
struct topics_item {
    struct request *req;
    void *out;      /* its place in the answer, for the handler */
    int16_t *error; /* in it */
    struct str *text;
    const void *in;  /* its place in the request, for the handler */
    struct str name; /* to be deleted: the topic's */
    bool by_id;      /* to be deleted; the client named the id */
    bool pending;    /* its change is under way, and holds the request */
};

struct topics_work {
    struct request *req;
    struct topics_item *items; /* array: one a topic of the request */
    int32_t item_count;        /* the handler's: so many are filled in */
    int32_t outstanding;       /* changes under way */
    bool submitting;           /* the handler has not come to its end */
    bool answered;             /* by the deadline: nothing may write to the answer any more */
    struct timer timer;        /* the client's timeout */
};

err topics_work_init(struct request *req, int32_t count); /* becomes req->handler */
void topics_item_begin(struct topics_item *item);         /* before the change is submitted */
void topics_item_begun(struct topics_item *item, err e);  /* behind it: OK: `done` will come */
/* In `done`. True when the answer may still be written. Then topics_work_go_on, request_release. */
bool topics_item_done(struct topics_item *item);
void topics_item_answer(struct topics_item *item, int16_t error, struct str text);
void topics_work_go_on(struct request *req); /* answers when the last change is done */
/* The handler has submitted everything. A timeout of 0 or less is none: an answer comes in any
 * case. */
void topics_work_submitted(struct request *req, int32_t timeout_ms);

/* Which names stand more than once: those are refused, with one answer each. First all are counted;
 * *ret_first: it is the first time that one is asked for. */
err name_count(struct map *counts, struct str name);
bool name_is_repeated(struct map *counts, struct str name, bool *ret_first);

/* May a partition be assigned to these brokers? To this one alone. KERR_*, with text. */
int16_t check_assigned(const struct request *req, const int32_t *brokers, int32_t count,
                       int32_t partition, struct buf *text);

/* Kafka's numbers for what has settings. */
enum {
    RESOURCE_TOPIC = 2,
    RESOURCE_BROKER = 4,
    RESOURCE_BROKER_LOGGER = 8,
    RESOURCE_CLIENT_METRICS = 16,
    RESOURCE_GROUP = 32,
};

/* Kafka's numbers for where a setting's value comes from. */
enum {
    CONFIG_SOURCE_TOPIC = 1,
    CONFIG_SOURCE_BROKER = 4, /* static: file, environment, command line */
    CONFIG_SOURCE_DEFAULT = 5,
};
int8_t topic_config_source(const struct config *config, const struct topic_config *t, int row);

/* The text of a refusal, copied to where the answer can borrow it: the arena. Null when there is
 * none. */
struct str keep_text(struct request *req, struct buf *text);
struct str keep_value(
    struct request *req,
    struct buf *text); /* likewise, but empty when there is none; null: no memory */

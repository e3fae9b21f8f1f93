/* proxy: stands between a client and a broker and does to Produce and InitProducerId requests, and
 * to those of transactions when a test says so, what the test wants. It takes one request of a
 * connection after the other; a thread each.
 *
 * The broker must advertise the proxy's port, or the proxy must change its metadata (proxy_mask),
 * or clients go past it. */
#pragma once

#include "protocol/wire.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct produce_request;

enum { PROXY_CODES = 8 };

enum proxy_action {
    PROXY_PASS,       /* to the broker, and its answer back */
    PROXY_CUT_AFTER,  /* to the broker; when that has answered, the connection is cut instead */
    PROXY_CUT_BEFORE, /* the connection is cut; the broker never sees it */
    PROXY_REFUSE,     /* not to the broker: `code` is the answer for every partition; 0: as if it
                         were done */
    PROXY_HOLD,       /* nothing, until proxy_release; then it is cut, the broker never sees it */
};

struct proxy_request {
    int16_t api_key;
    const struct produce_request *produce; /* NULL when it is none */
    const void *body;                      /* the request's struct */
    int16_t version;
    int number; /* how many of this api came before it */

    /* of PROXY_REFUSE: set by the plan */
    int16_t code;
    int16_t codes[PROXY_CODES]; /* Produce: where code is 0, by partition */
    int64_t producer_id;        /* InitProducerId, EndTxn */
    int16_t producer_epoch;
    int32_t node; /* FindCoordinator */
};

/* Called on the proxy's threads, one at a time, under its lock. */
typedef enum proxy_action proxy_plan(void *ctx, struct proxy_request *r);

enum { PROXY_CONNS_MAX = 4096, PROXY_API_KEYS = 128 };

struct proxy {
    pthread_mutex_t lock; /* of everything below that changes */
    pthread_cond_t changed;
    pthread_t acceptor;
    pthread_t threads[PROXY_CONNS_MAX];
    int fds[PROXY_CONNS_MAX]; /* of clients; -1: closed */
    int count;
    int listener;
    uint16_t port;        /* ours */
    uint16_t broker_port; /* proxy_broker_set; connections go there that come after */
    bool masks;           /* proxy_mask */
    int transaction_version;
    proxy_plan *plan; /* NULL: everything passes */
    void *ctx;        /* for plan */
    bool plans_all;   /* also requests of transactions */
    int16_t plan_key; /* and of this api, without a body: to pass or to cut; set before there are
                         connections; 0: none */
    int numbers[PROXY_API_KEYS];
    int held;      /* requests that wait for proxy_release */
    bool released; /* nothing is held any more */
    bool closing;
};

void proxy_start(struct proxy *p); /* listens on 127.0.0.1 */
void proxy_broker_set(struct proxy *p, uint16_t port);
void proxy_plan_set(struct proxy *p, proxy_plan *plan, void *ctx);
void proxy_plan_all(struct proxy *p, proxy_plan *plan, void *ctx); /* transactions, too */
/* Metadata names the proxy for every broker; ApiVersions serves transactions of this version (-1:
 * as the broker has it). */
void proxy_mask(struct proxy *p, int transaction_version);
void proxy_release(struct proxy *p);
/* Waits until `count` requests of an api have come. False: they have not in `timeout_ms`. */
bool proxy_wait(struct proxy *p, int16_t api_key, int count, int timeout_ms);
int proxy_count(struct proxy *p, int16_t api_key); /* that have come */
void proxy_stop(struct proxy *p);

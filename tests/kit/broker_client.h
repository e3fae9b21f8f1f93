/* broker_client: a client of broker_kit that asks for anything, plausibly: random requests of every
 * API and version that is served, in which most names, ids, members, offsets and batches are ones
 * that mean something to the broker. Every answer must be one of its API and version, for a request
 * that was sent, once, and whole.
 */
#pragma once

#include "broker/api/dispatch.h"
#include "tests/kit/broker_kit.h"

struct broker_question {
    const struct wire_api *api;
    int16_t version; /* of the answer */
    bool open;       /* not answered */
};

struct broker_client {
    struct broker_kit *k; /* borrowed */
    struct rng rng;
    struct broker_question *asked; /* owned; by correlation id */
    size_t asked_count;
    size_t asked_size;
    size_t read;    /* bytes of the kit's conn.out that were looked at */
    size_t answers; /* looked at */
};

void broker_client_init(struct broker_client *c, struct broker_kit *k, uint64_t seed);
void broker_client_finish(struct broker_client *c);

/* Connects when there is no connection, sends one request of this row, and looks at the answers. */
void broker_client_ask(struct broker_client *c, const struct api_row *row);

/* Bytes as they are; what is answered to them is not looked into. */
void broker_client_send(struct broker_client *c, const void *frame, size_t size);

void broker_client_look(struct broker_client *c); /* check()s what has been answered */

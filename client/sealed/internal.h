/* What the files of client/sealed share: one request and its answer, and who leads a partition. */
#pragma once

#include "base/arena.h"
#include "base/map.h"
#include "client/sealed/sealed.h"
#include "protocol/wire.h"

struct sealed {
    struct rv_client *client; /* borrowed */
    struct map topics;        /* name -> struct leaders (owned), of sealed.c */
};

int64_t sealed_deadline(int timeout_ms); /* of now, monotonic ms; timeout_ms >= 0 */
int sealed_time_left(int64_t deadline_ms);

struct sealed_talk {
    int16_t key;
    int16_t version;
    const struct wire_struct *request_table;
    const void *request; /* borrowed */
    const struct wire_struct *response_table;
    void *response; /* the caller's struct; what it points to is valid until sealed_talk_finish */
    struct arena arena;
    struct rv_response *raw; /* owned */
};

/* Asks `node` (-1: any) once. What is not set in *t is its own. */
int sealed_talk(struct sealed *s, int32_t node, struct sealed_talk *t, int64_t deadline_ms,
                struct rv_error *ret_error);
void sealed_talk_finish(struct sealed_talk *t);

/* The broker that leads the batch's partition, asked for where it is not known. */
int sealed_leader(struct sealed *s, const struct sealed_batch *b, int64_t deadline_ms,
                  int32_t *ret_node, struct rv_error *ret_error);
void sealed_forget(struct sealed *s, const char *topic); /* it is asked for anew */

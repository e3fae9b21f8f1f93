/* ask: one question and its answer as a blocking call, with retries of what passes by itself; and
 * the memory of what admin calls return. One thread. */
#pragma once

#include "client/client.h"

/* Memory of a result: `size` zeroed bytes for the caller and an arena that lives as long. Given
 * back by rv_free. */
void *result_create(size_t size);         /* NULL: no memory */
struct arena *result_arena(void *result); /* for what the result points to */
const char *result_text(void *result,
                        struct str s); /* a 0-terminated copy; "" for null. NULL: no memory */

enum { COORDINATOR_OF_GROUP = 0, COORDINATOR_OF_TRANSACTION = 1 };

enum ask_target { ASK_ANY, ASK_CONTROLLER, ASK_NODE, ASK_COORDINATOR };

struct ask {
    /* set by the asker */
    struct rv_client *client;
    int16_t api_key;
    int16_t min_version, max_version; /* 0: what the schema has */
    const void *request;              /* borrowed */
    const void *raw;                  /* instead: an encoded body in max_version; borrowed */
    size_t raw_size;                  /* bytes */
    enum ask_target target;
    int32_t node;                         /* of ASK_NODE */
    const char *group;                    /* of ASK_COORDINATOR: the group or transactional id */
    int8_t key_type;                      /* of ASK_COORDINATOR: COORDINATOR_OF_* */
    int32_t *coordinator;                 /* of ASK_COORDINATOR: broker id that is remembered, -1:
                                             none; borrowed; NULL: it is found anew */
    int64_t deadline_ms;                  /* monotonic */
    int (*code_of)(const void *response); /* the code that decides on a retry; NULL: never one */
    const char *what;                     /* for texts: "create topic t" */

    /* the answer */
    const void *response; /* decoded; lives until ask_finish */
    bool unsure;          /* an attempt before the last may have been carried out */

    /* its own */
    struct call call;
    struct arena arena;
    struct frame *frame;
    size_t body_position; /* of a raw answer in the frame */
    bool done;
    int code;
    char where[HOST_LIMIT + 16]; /* HOST:PORT */
};

/* Asks until there is an answer, of whatever code that is not retriable. Not RV_OK: no answer, and
 * ret_error says why. */
int ask(struct ask *q, struct rv_error *ret_error);
void ask_finish(struct ask *q); /* takes a zeroed one */

/* An error inside an answer, with its text. */
int ask_refused(const struct ask *q, int code, struct str message, struct rv_error *ret_error);

/* Waits until the topic's partitions are known. */
int topic_wait(struct rv_client *c, const char *name, int64_t deadline_ms, struct topic **ret_topic,
               struct rv_error *ret_error);
int brokers_wait(struct rv_client *c, int64_t deadline_ms, struct rv_error *ret_error);

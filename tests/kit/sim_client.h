/* sim_client: a client of broker_kit that speaks in structs of the schemas, with several requests
 * in flight. Every answer must be the one of the next request, whole. What it has not taken is lost
 * when the connection ends, as on a real network. One thread.
 */
#pragma once

#include "base/arena.h"
#include "tests/kit/broker_kit.h"

enum { SIM_CLIENT_ASKED = 32 };

struct sim_client {
    struct broker_kit *k;        /* borrowed */
    struct broker_kit_conn conn; /* open while conn.session is set */
    struct arena arena;          /* of the answer that was taken last */
    size_t read;                 /* bytes of conn.out that were looked at */
    uint32_t first;              /* id of the oldest request without an answer */
    uint32_t next;               /* id of the next one */
    struct {
        int16_t key;
        int16_t version;
    } asked[SIM_CLIENT_ASKED]; /* by id modulo */
};

void sim_client_init(struct sim_client *c, struct broker_kit *k);
void sim_client_finish(struct sim_client *c);
void sim_client_open(struct sim_client *c, int32_t shard);
void sim_client_close(struct sim_client *c); /* takes one that is not open */

static inline bool sim_client_is_open(const struct sim_client *c)
{
    return c->conn.session != NULL;
}

static inline uint32_t sim_client_waiting(
    const struct sim_client *c) /* < SIM_CLIENT_ASKED to ask */
{
    return c->next - c->first;
}

/* Its id. */
uint32_t sim_client_ask(struct sim_client *c, int16_t key, int16_t version, const void *request);

/* The next answer that has come, until the next call; NULL: none has. */
const void *sim_client_take(struct sim_client *c, uint32_t *ret_id);

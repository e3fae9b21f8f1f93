#include "tests/kit/sim_client.h"

#include "base/bytes.h"
#include "base/check.h"
#include "gen/apis.h"
#include "protocol/frame.h"

void sim_client_init(struct sim_client *c, struct broker_kit *k)
{
    *c = (struct sim_client){.k = k};
    arena_init(&c->arena, SIZE_MAX);
}

void sim_client_finish(struct sim_client *c)
{
    broker_kit_conn_finish(&c->conn);
    arena_finish(&c->arena);
}

void sim_client_open(struct sim_client *c, int32_t shard)
{
    c->conn.out.len = 0;
    c->read = 0;
    c->first = c->next;
    broker_kit_open(c->k, &c->conn, shard);
}

void sim_client_close(struct sim_client *c)
{
    broker_kit_close(&c->conn);
    c->first = c->next;
}

uint32_t sim_client_ask(struct sim_client *c, int16_t key, int16_t version, const void *request)
{
    const struct wire_api *api = wire_api_find(key);
    struct writer w;
    check(sim_client_waiting(c) < SIM_CLIENT_ASKED);
    writer_init(&w, INT32_MAX);
    frame_begin_request(&w, api, version, (int32_t)c->next, STR("client"));
    check(wire_encode(api->request, version, &w, request) == OK);
    check(frame_end(&w) == OK);
    c->asked[c->next % SIM_CLIENT_ASKED].key = key;
    c->asked[c->next % SIM_CLIENT_ASKED].version = version;
    broker_kit_put(&c->conn, w.ptr + FRAME_SIZE_BYTES, w.len - FRAME_SIZE_BYTES);
    writer_finish(&w);
    return c->next++;
}

const void *sim_client_take(struct sim_client *c, uint32_t *ret_id)
{
    const struct buf *out = &c->conn.out;
    if (out->len == c->read) {
        return NULL;
    }
    const uint8_t *p = (const uint8_t *)out->ptr + c->read;
    check(out->len - c->read >= FRAME_SIZE_BYTES); /* answers are written whole */
    size_t size = get_be32(p);
    check(size <= out->len - c->read - FRAME_SIZE_BYTES && c->first != c->next);
    int16_t version = c->asked[c->first % SIM_CLIENT_ASKED].version;
    const struct wire_api *api = wire_api_find(c->asked[c->first % SIM_CLIENT_ASKED].key);
    struct reader r;
    int32_t id;
    arena_reset(&c->arena);
    reader_init(&r, p + FRAME_SIZE_BYTES, size);
    check(response_header_decode(&r, api, version, &id) == OK);
    check((uint32_t)id == c->first); /* in order */
    void *body = arena_alloc(&c->arena, api->response->size);
    check(wire_decode(api->response, version, &r, &c->arena, body) == OK && reader_left(&r) == 0);
    c->read += FRAME_SIZE_BYTES + size;
    *ret_id = c->first++;
    return body;
}

/* FindCoordinator: who runs a group. This broker does, for all of them. */
#include "broker/api/families.h"
#include "broker/api/group.h"
#include "gen/find_coordinator.h"

enum { KEY_GROUP = 0, KEY_TRANSACTION = 1, KEY_SHARE = 2, FIND_BATCHED = 4 };

struct found {
    int16_t error;
    struct str message; /* null when there is nothing to say */
    int32_t node_id;
    struct endpoint endpoint;
};

/* Retrying does not help where the answer is INVALID_REQUEST, and clients know that;
 * COORDINATOR_NOT_AVAILABLE would hang them. */
static struct found find(const struct request *req, int8_t type, struct str key)
{
    struct found f = {
        .node_id = -1, .endpoint = {.host = STR(""), .port = -1}
    };
    if (type != KEY_GROUP) {
        f.error = KERR_INVALID_REQUEST;
        f.message = type == KEY_TRANSACTION
                        ? STR("transactions are not supported by this broker yet")
                    : type == KEY_SHARE ? STR("share groups are not supported by this broker yet")
                                        : STR("unknown key type");
        return f;
    }
    if (!authorize(req, ACL_DESCRIBE, ACL_GROUP, key)) {
        f.error = KERR_GROUP_AUTHORIZATION_FAILED;
        return f;
    }
    if (req->env->stopping) {
        f.error = KERR_COORDINATOR_NOT_AVAILABLE;
        return f;
    }
    f.node_id = req->env->node_id;
    f.endpoint = request_endpoint(req);
    return f;
}

err api_find_coordinator(struct request *req)
{
    const struct find_coordinator_request *in = request_body(req);
    struct find_coordinator_response *out = request_reply(req);
    if (req->header.api_version < FIND_BATCHED) {
        struct found f = find(req, in->key_type, in->key);
        out->error_code = f.error;
        out->error_message = f.message;
        out->node_id = f.node_id;
        out->host = f.endpoint.host;
        out->port = f.endpoint.port;
        reply(req, 0);
        return OK;
    }
    int32_t count = in->coordinator_keys_count;
    out->coordinators =
        wire_array(&req->arena, &find_coordinator_response_coordinator_table, count);
    if (!out->coordinators) {
        return arena_error(&req->arena);
    }
    out->coordinators_count = count;
    for (int32_t i = 0; i < count; i++) {
        struct found f = find(req, in->key_type, in->coordinator_keys[i]);
        out->coordinators[i] = (struct find_coordinator_response_coordinator){
            .key = in->coordinator_keys[i],
            .node_id = f.node_id,
            .host = f.endpoint.host,
            .port = f.endpoint.port,
            .error_code = f.error,
            .error_message = f.message,
        };
    }
    reply(req, 0);
    return OK;
}

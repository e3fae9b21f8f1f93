/* InitProducerId: ids for idempotent producers. Until there are transactions a transactional id is
 * refused at once: every other answer would make clients try for ever. */
#include "gen/init_producer_id.h"
#include "broker/api/families.h"
#include "broker/meta/meta.h"

static void give(struct request *req, err e, int64_t id)
{
    struct init_producer_id_response *out = request_reply(req);
    if (e) {
        out->error_code =
            e == ERR_CLOSED ? KERR_COORDINATOR_NOT_AVAILABLE : KERR_KAFKA_STORAGE_ERROR;
        out->producer_id = -1;
        out->producer_epoch = -1;
    } else {
        out->producer_id = id;
        out->producer_epoch = 0;
    }
    reply(req, 0);
}

static void given(void *ctx, err e, int64_t id)
{
    struct request *req = ctx;
    if (!request_is_dropped(req)) {
        give(req, e, id);
    }
    request_release(req);
}

err api_init_producer_id(struct request *req)
{
    const struct init_producer_id_request *in = request_body(req);
    struct init_producer_id_response *out = request_reply(req);
    int64_t id = -1;
    int16_t code = KERR_NONE;
    if (in->transactional_id.ptr) {
        code = KERR_INVALID_REQUEST;
    } else if (!authorize(req, ACL_IDEMPOTENT_WRITE, ACL_CLUSTER, STR("kafka-cluster"))) {
        code = KERR_CLUSTER_AUTHORIZATION_FAILED;
    }
    if (code) {
        out->error_code = code;
        out->producer_id = -1;
        out->producer_epoch = -1;
        reply(req, 0);
        return OK;
    }
    request_hold(req);
    err e = meta_next_producer_id(req->env->meta, given, req, &id);
    if (e != ERR_AGAIN) {
        give(req, e, id);
        request_release(req);
    }
    return OK;
}

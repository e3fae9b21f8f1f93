/* Where the group's coordinator is: FindCoordinator until there is an answer. */
#include "client/consumer.h"

#include "gen/find_coordinator.h"
#include "protocol/error.h"

enum { FIND_ONE_MAX = 3 /* one group; later versions take many */ };

static int find_fill(struct call *call, struct arena *a, void *request)
{
    struct rv_consumer *c = list_entry(call, struct rv_consumer, coord.find);
    struct find_coordinator_request *r = request;
    (void)a;
    r->key = str_of(c->settings.texts[OPT_GROUP_ID]);
    return RV_OK;
}

static void find_done(struct call *call, const struct answer *answer)
{
    struct rv_consumer *c = list_entry(call, struct rv_consumer, coord.find);
    struct coord *coord = &c->coord;
    const struct find_coordinator_response *r = answer->body;
    int code = answer->code != RV_OK ? answer->code : r->error_code;
    if (code == RV_OK) {
        coord->node = r->node_id;
        coord->failures = 0;
        coord->not_before_ms = 0;
        client_log(c->client, RV_DEBUG, "group %s: the coordinator is broker %d",
                   c->settings.texts[OPT_GROUP_ID], (int)coord->node);
        return;
    }
    if (code != RV_E_MEMORY && !error_is_retriable(code)) {
        coord->code = code; /* not allowed, or not a name of a group */
    }
    client_log(c->client, RV_INFO, "group %s: no coordinator: %s", c->settings.texts[OPT_GROUP_ID],
               error_about(code));
    coord->not_before_ms = consumer_backoff(c, coord->failures++);
}

void coord_init(struct rv_consumer *c)
{
    c->coord.node = -1;
    c->coord.find.api = wire_api_find(10);
    c->coord.find.max_version = FIND_ONE_MAX;
    c->coord.find.fill = find_fill;
    c->coord.find.done = find_done;
}

void coord_finish(struct rv_consumer *c)
{
    call_cancel(&c->coord.find);
}

void coord_lost(struct rv_consumer *c)
{
    c->coord.node = -1;
}

struct conn *coord_conn(struct rv_consumer *c, int32_t lane)
{
    struct coord *coord = &c->coord;
    int64_t now = client_now(c->client);
    if (coord->code != RV_OK || call_busy(&coord->find)) {
        return NULL;
    }
    if (now < coord->not_before_ms) {
        consumer_wake(c, coord->not_before_ms);
        return NULL;
    }
    if (coord->node >= 0) {
        struct conn *k = conn_get(c->client, coord->node, lane);
        if (k) {
            return k;
        }
        /* A broker that the metadata does not name (yet). */
        c->client->meta.brokers_wanted = true;
        meta_refresh(&c->client->meta);
        coord->not_before_ms = consumer_backoff(c, coord->failures++);
        consumer_wake(c, coord->not_before_ms);
        coord->node = -1;
        return NULL;
    }
    struct conn *any = conn_any(c->client, LANE_CONTROL);
    if (any) {
        call_submit(any, &coord->find, setting(c->client, OPT_REQUEST_TIMEOUT_MS));
    } else {
        consumer_wake(c, consumer_backoff(c, 0));
    }
    return NULL;
}

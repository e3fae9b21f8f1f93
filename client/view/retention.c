#include "client/view/view.h"

#include <string.h>

int view_retention(struct rv_view *v, int timeout_ms, int64_t *ret_ms, struct rv_error *e)
{
    struct rv_configs *configs;
    *ret_ms = -1;
    int code = rv_config_get(v->client, RV_TOPIC, v->topic, timeout_ms, &configs, e);
    if (code != RV_OK) {
        return view_is_passing(e) || code == RV_E_MEMORY ? code : RV_OK; /* may not be allowed */
    }
    bool compacts = false;
    int64_t ms = -1;
    for (size_t i = 0; i < configs->count; i++) {
        const struct rv_config *c = &configs->items[i];
        if (c->value && strcmp(c->name, "cleanup.policy") == 0) {
            compacts = strstr(c->value, "compact") != NULL;
        } else if (c->value && strcmp(c->name, "delete.retention.ms") == 0 &&
                   str_to_int64(str_of(c->value), &ms) != OK) {
            ms = -1;
        }
    }
    rv_free(configs);
    *ret_ms = compacts ? ms : -1;
    return RV_OK;
}

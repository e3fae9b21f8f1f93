/* dispatch: from a frame to its handler. Owns no state but what hangs off the session and the env.
 */
#pragma once

#include "broker/api/request.h"

enum {
    API_PIPELINED = 1,
    API_AT_TOPICS = 2, /* its handler runs at the shard that owns the topics */
    API_AT_GROUP = 4,  /* ... at the shard of the group that its field `group_id` names */
};

struct api_row {
    int16_t key;
    int16_t min_version; /* what is served */
    int16_t max_version;
    int16_t advertised_min; /* what ApiVersions says; <= min_version */
    err (*handler)(struct request *req);
    unsigned flags; /* API_* */
};

extern const struct api_row api_rows[]; /* by key, ascending */
extern const int32_t api_row_count;

const struct api_row *api_row_find(int16_t key); /* NULL: not served */
int32_t api_row_index(const struct api_row *row);

/* Decodes the header alone and finds the row: what must be known before the request may start. OK;
 * or ERR_UNSUPPORTED / ERR_TRUNCATED / ERR_INVALID: the connection is to be closed. An ApiVersions
 * request of an unknown version is OK, and its handler answers it. */
err dispatch_header(struct request *req);

/* Decodes the body, makes room for the reply and calls the handler. An error closes the connection;
 * `reason` says why, for the log. */
err dispatch_run(struct request *req, const char **ret_reason);

const char *dispatch_refusal(err e); /* why a handler's error closes the connection */

/* Encodes the answer of a request behind what `w` holds. ERR_INVALID: a handler's bug; ERR_LIMIT:
 * too large. */
err dispatch_encode(const struct request *req, struct writer *w);

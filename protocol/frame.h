/* frame: an int32 size, then a header, then a body.
 *
 * Which form the header has follows from the API's key and version alone:
 *
 *   request   v1: int16 key, int16 version, int32 correlation id, nullable string client id
 *             v2: the same, then tagged fields (flexible versions); the client id stays an int16
 * string response  v0: int32 correlation id v1: the same, then tagged fields (flexible versions,
 * but never ApiVersions)
 */
#pragma once

#include "protocol/wire.h"

enum {
    FRAME_SIZE_BYTES = 4, /* the size in front, which does not count itself */
    API_VERSIONS_KEY = 18,
};

struct request_header {
    int16_t api_key;            /* as sent; may be unknown */
    int16_t api_version;        /* as sent; may be unsupported */
    int32_t correlation_id;     /* comes back in the response */
    struct str client_id;       /* borrowed; may be null */
    const struct wire_api *api; /* NULL: the key is not known */
};

/* Reads the int32 in front of a frame. ERR_INVALID below 0, ERR_LIMIT above `limit`. */
err frame_size(const uint8_t bytes[FRAME_SIZE_BYTES], int32_t limit, int32_t *ret_size);

/* Decodes the header of a request; r stands at the body after it. With an unknown key or a version
 * outside of the schema: ERR_UNSUPPORTED, with key, version and correlation id filled in (an
 * ApiVersions request of a version that is too high is answered all the same, as
 * KIP-511 has it: its client id is read too). */
err request_header_decode(struct reader *r, struct request_header *ret_header);

/* Is the body of this version flexible? */
bool api_is_flexible(const struct wire_api *api, int16_t version);

/* Begins a frame: room for the size, and the header. Then encode the body and end the frame. */
void frame_begin_request(struct writer *w, const struct wire_api *api, int16_t version,
                         int32_t correlation_id, struct str client_id);
void frame_begin_response(struct writer *w, const struct wire_api *api, int16_t version,
                          int32_t correlation_id);

/* Patches the size of the one frame in the writer, splices included. Returns w->error; ERR_LIMIT
 * if it does not fit an int32. */
err frame_end(struct writer *w);

/* Decodes the header of a response to a request of this API and version. */
err response_header_decode(struct reader *r, const struct wire_api *api, int16_t version,
                           int32_t *ret_correlation_id);

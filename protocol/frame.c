#include "protocol/frame.h"

err frame_size(const uint8_t bytes[FRAME_SIZE_BYTES], int32_t limit, int32_t *ret_size)
{
    int32_t size = (int32_t)get_be32(bytes);
    if (size < 0) {
        return ERR_INVALID;
    }
    if (size > limit) {
        return ERR_LIMIT;
    }
    *ret_size = size;
    return OK;
}

bool api_is_flexible(const struct wire_api *api, int16_t version)
{
    return version >= api->flexible_from;
}

err request_header_decode(struct reader *r, struct request_header *ret_header)
{
    struct request_header h = {0};
    h.api_key = reader_int16(r);
    h.api_version = reader_int16(r);
    h.correlation_id = reader_int32(r);
    if (r->error != OK) {
        return r->error;
    }
    h.api = wire_api_find(h.api_key);
    bool known =
        h.api && h.api_version >= h.api->min_version && h.api_version <= h.api->max_version;
    if (!known && !(h.api && h.api_key == API_VERSIONS_KEY && h.api_version > 0)) {
        *ret_header = h;
        reader_fail(r, ERR_UNSUPPORTED);
        return ERR_UNSUPPORTED;
    }
    h.client_id = reader_string(r, false, true);
    if (api_is_flexible(h.api, h.api_version)) {
        reader_skip_tags(r);
    }
    if (r->error != OK) {
        return r->error;
    }
    *ret_header = h;
    return known ? OK : ERR_UNSUPPORTED;
}

void frame_begin_request(struct writer *w, const struct wire_api *api, int16_t version,
                         int32_t correlation_id, struct str client_id)
{
    writer_int32(w, 0);
    writer_int16(w, api->key);
    writer_int16(w, version);
    writer_int32(w, correlation_id);
    writer_string(w, false, client_id);
    if (api_is_flexible(api, version)) {
        writer_uvarint(w, 0);
    }
}

static bool response_has_tags(const struct wire_api *api, int16_t version)
{
    return api->key != API_VERSIONS_KEY && api_is_flexible(api, version);
}

void frame_begin_response(struct writer *w, const struct wire_api *api, int16_t version,
                          int32_t correlation_id)
{
    writer_int32(w, 0);
    writer_int32(w, correlation_id);
    if (response_has_tags(api, version)) {
        writer_uvarint(w, 0);
    }
}

err frame_end(struct writer *w)
{
    if (w->error == OK && writer_total(w) - FRAME_SIZE_BYTES > (size_t)INT32_MAX) {
        writer_fail(w, ERR_LIMIT);
    }
    writer_patch_int32(w, 0, (int32_t)(writer_total(w) - FRAME_SIZE_BYTES));
    return w->error;
}

err response_header_decode(struct reader *r, const struct wire_api *api, int16_t version,
                           int32_t *ret_correlation_id)
{
    int32_t correlation_id = reader_int32(r);
    if (response_has_tags(api, version)) {
        reader_skip_tags(r);
    }
    if (r->error == OK) {
        *ret_correlation_id = correlation_id;
    }
    return r->error;
}

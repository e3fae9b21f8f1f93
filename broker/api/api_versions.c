/* ApiVersions: what is served, from apis.def. It is answered in any version: one that is too high
 * gets a body of version 0 with UNSUPPORTED_VERSION and the range of ApiVersions itself, and the
 * client asks again (KIP-511). */
#include "gen/api_versions.h"
#include "broker/api/dispatch.h"
#include "broker/api/families.h"

/* A letter or digit at both ends, letters, digits, '-' and '.' between them. */
static bool is_software_word(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!plain && (i == 0 || i + 1 == s.len || (c != '-' && c != '.'))) {
            return false;
        }
    }
    return s.len > 0;
}

static err list_apis(struct api_versions_response *out, struct arena *a, const struct api_row *rows,
                     int32_t count)
{
    out->api_keys = wire_array(a, &api_versions_response_api_key_table, count);
    if (!out->api_keys) {
        return arena_error(a);
    }
    out->api_keys_count = count;
    for (int32_t i = 0; i < count; i++) {
        out->api_keys[i].api_key = rows[i].key;
        out->api_keys[i].min_version = rows[i].advertised_min;
        out->api_keys[i].max_version = rows[i].max_version;
    }
    return OK;
}

err api_api_versions(struct request *req)
{
    const struct api_versions_request *in = request_body(req);
    struct api_versions_response *out = request_reply(req);
    err e = OK;
    if (!in) {
        out->error_code = KERR_UNSUPPORTED_VERSION;
        e = list_apis(out, &req->arena, req->api, 1);
    } else if (req->header.api_version >= 3 && (!is_software_word(in->client_software_name) ||
                                                !is_software_word(in->client_software_version))) {
        out->error_code = KERR_INVALID_REQUEST;
    } else {
        e = list_apis(out, &req->arena, api_rows, api_row_count);
    }
    if (e == OK) {
        reply(req, 0);
    }
    return e;
}

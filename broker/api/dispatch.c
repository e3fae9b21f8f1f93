#include "broker/api/internal.h"

#include "broker/api/families.h"
#include "broker/coord/coord.h"
#include "gen/apis.h"

enum {
#define X(name, min, max, advertised_min, handler, flags) ROW_##name,
#include "broker/api/apis.def"
#undef X
    ROW_COUNT
};
_Static_assert((int)ROW_COUNT <= (int)METRICS_APIS, "struct metrics has room for every row");

enum { PIPELINED = API_PIPELINED }; /* as apis.def calls it */

const struct api_row api_rows[] = {
#define X(name, min, max, advertised, function, bits)                                              \
    {.key = API_##name,                                                                            \
     .min_version = (min),                                                                         \
     .max_version = (max),                                                                         \
     .advertised_min = (advertised),                                                               \
     .handler = (function),                                                                        \
     .flags = (bits)},
#include "broker/api/apis.def"
#undef X
};

const int32_t api_row_count = ROW_COUNT;

const struct api_row *api_row_find(int16_t key)
{
    int32_t low = 0, high = ROW_COUNT;
    while (low < high) {
        int32_t middle = (low + high) / 2;
        if (api_rows[middle].key < key) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < ROW_COUNT && api_rows[low].key == key ? &api_rows[low] : NULL;
}

int32_t api_row_index(const struct api_row *row)
{
    return (int32_t)(row - api_rows);
}

static bool is_served(const struct api_row *row, int16_t version)
{
    return version >= row->min_version && version <= row->max_version;
}

/* The version of the answer: an ApiVersions request of a version that we do not know is answered in
 * version 0 (KIP-511). */
static int16_t answer_version(const struct request *req)
{
    return is_served(req->api, req->header.api_version) ? req->header.api_version : 0;
}

static err decode_header(struct request *req, struct reader *r)
{
    reader_init(r, req->bytes, req->size);
    err e = request_header_decode(r, &req->header);
    const struct api_row *row =
        e == OK || e == ERR_UNSUPPORTED ? api_row_find(req->header.api_key) : NULL;
    if (!row) {
        return e == OK ? ERR_UNSUPPORTED : e;
    }
    if (!is_served(row, req->header.api_version) &&
        (row->key != API_API_VERSIONS || req->header.api_version < 0)) {
        return ERR_UNSUPPORTED;
    }
    req->api = row;
    return OK;
}

err dispatch_header(struct request *req)
{
    struct reader r;
    return decode_header(req, &r);
}

static const char *decode_reason(struct request *req, const struct reader *r, err e)
{
    const char *limit = "";
    if (e == ERR_LIMIT) {
        limit = arena_error(&req->arena) == ERR_LIMIT ? " (rivulet.request.memory.max.bytes)"
                                                      : " (rivulet.request.array.max)";
    }
    const char *reason = arena_printf(&req->arena, "%s v%d does not decode: %s at %s.%s%s",
                                      req->header.api->name, req->header.api_version, err_text(e),
                                      r->at_table ? r->at_table : "", r->at ? r->at : "", limit);
    return reason ? reason
                  : "a request that takes too much memory (rivulet.request.memory.max.bytes)";
}

const char *dispatch_refusal(err e)
{
    return e == ERR_LIMIT ? "its answer takes too much memory (rivulet.request.memory.max.bytes)"
                          : err_text(e);
}

static struct str group_id(const struct request *req)
{
    const struct wire_struct *table = req->header.api->request;
    struct str id = {0};
    for (uint16_t i = 0; i < table->field_count; i++) {
        if (strcmp(wire_field_name(table, &table->fields[i]), "group_id") == 0) {
            memcpy(&id, (const char *)req->body + table->fields[i].offset, sizeof id);
        }
    }
    return id;
}

/* Where the handler runs. */
static int32_t shard_of(const struct request *req)
{
    const struct shard *here = req->env->shard;
    if (here->all->count == 1 || !(req->api->flags & (API_AT_TOPICS | API_AT_GROUP))) {
        return here->index;
    }
    return req->api->flags & API_AT_TOPICS ? 0 : coord_shard_of(req->env->coord, group_id(req));
}

err dispatch_run(struct request *req, const char **ret_reason)
{
    struct reader r;
    err e = decode_header(req, &r); /* again: the frame may have moved since */
    if (e != OK) {
        *ret_reason = "its header does not decode";
        return e;
    }
    const struct wire_api *api = req->header.api;
    if (is_served(req->api, req->header.api_version)) {
        r.array_limit = (int32_t)req->env->config->array_max;
        req->body = arena_alloc(&req->arena, api->request->size);
        e = req->body
                ? wire_decode(api->request, req->header.api_version, &r, &req->arena, req->body)
                : arena_error(&req->arena);
        if (e != OK) {
            *ret_reason = decode_reason(req, &r, e);
            return e;
        }
    }
    req->reply = arena_alloc(&req->arena, api->response->size);
    if (req->reply) {
        wire_defaults(api->response, req->reply);
        e = request_go(req, shard_of(req), req->api->handler);
    } else {
        e = arena_error(&req->arena);
    }
    if (e != OK) {
        *ret_reason = dispatch_refusal(e);
    }
    return e;
}

err dispatch_encode(const struct request *req, struct writer *w)
{
    const struct wire_api *api = req->header.api;
    int16_t version = answer_version(req);
    frame_begin_response(w, api, version, req->header.correlation_id);
    err e = wire_encode(api->response, version, w, req->reply);
    return e == OK ? frame_end(w) : e;
}

int16_t dispatch_error_code(const struct request *req)
{
    const struct wire_struct *table = req->header.api->response;
    for (uint16_t i = 0; i < table->field_count; i++) {
        const struct wire_field *field = &table->fields[i];
        if (field->kind == WIRE_INT16 && !(field->flags & WIRE_ARRAY) &&
            strcmp(wire_field_name(table, field), "error_code") == 0) {
            int16_t code;
            memcpy(&code, (const char *)req->reply + field->offset, sizeof code);
            return code;
        }
    }
    return 0;
}

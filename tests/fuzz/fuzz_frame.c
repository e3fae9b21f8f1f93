/* The way in of every request: its size, its header, its body; and the client's way in, the header
 * of an answer.
 *
 *   int32 size · frame
 */
#include "protocol/frame.h"
#include "tests/fuzz/fuzz.h"

enum { FRAME_LIMIT = 1 << 20, ARENA_LIMIT = 1 << 22 };

static void read_answer(const struct wire_api *api, int16_t version, const uint8_t *p, size_t size)
{
    struct reader r;
    int32_t correlation_id;
    reader_init(&r, p, size);
    if (!response_header_decode(&r, api, version, &correlation_id)) {
        check(r.next <= r.end);
    }
}

static void read_body(const struct request_header *h, struct reader *r)
{
    struct arena a;
    arena_init(&a, ARENA_LIMIT);
    void *body = arena_alloc(&a, h->api->request->size);
    (void)wire_decode(h->api->request, h->api_version, r, &a, body);
    check(r->next <= r->end && a.used_bytes <= ARENA_LIMIT);
    arena_finish(&a);
}

/* The header written again is read as the same. */
static void write_header(const struct request_header *h)
{
    struct writer w;
    struct reader r;
    struct request_header back;
    writer_init(&w, SIZE_MAX);
    frame_begin_request(&w, h->api, h->api_version, h->correlation_id, h->client_id);
    check(frame_end(&w) == OK);
    reader_init(&r, w.ptr + FRAME_SIZE_BYTES, w.len - FRAME_SIZE_BYTES);
    check(request_header_decode(&r, &back) == OK && reader_left(&r) == 0);
    check(back.api == h->api && back.api_version == h->api_version);
    check(back.correlation_id == h->correlation_id && str_eq(back.client_id, h->client_id));
    writer_finish(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    int32_t told;
    struct request_header h;
    struct reader r;
    if (size < FRAME_SIZE_BYTES || frame_size(p, FRAME_LIMIT, &told)) {
        return 0;
    }
    check(told >= 0 && told <= FRAME_LIMIT);
    p += FRAME_SIZE_BYTES;
    size -= FRAME_SIZE_BYTES;
    reader_init(&r, p, size);
    err e = request_header_decode(&r, &h);
    check(r.next <= r.end);
    if (!e) {
        write_header(&h);
        read_body(&h, &r);
        read_answer(h.api, h.api_version, p, size);
    }
    return 0;
}

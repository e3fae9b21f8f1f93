/* What real clients sent decodes, and encodes to the same bytes. */
#include "protocol/frame.h"
#include "tests/kit/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { LIMIT = 1 << 24 };

/* librdkafka 2.16 leaves the rest of an int32 count behind a Metadata request for all topics.
 * Kafka, and so the broker, steps over what is behind a body. */
static size_t bytes_behind(const char *client, const struct golden_frame *g)
{
    return strcmp(client, "confluent") == 0 && g->key == 3 && g->bytes.len == 29 ? 3 : 0;
}

static void check_frame(const char *client, const struct golden_frame *g)
{
    size_t behind = bytes_behind(client, g);
    struct arena a;
    struct reader r;
    struct writer w;
    struct request_header h;
    int32_t size = 0;
    arena_init(&a, LIMIT);
    writer_init(&w, LIMIT);
    assert_int_equal(frame_size(g->bytes.ptr, LIMIT, &size), OK);
    assert_int_equal(size, g->bytes.len - FRAME_SIZE_BYTES);
    reader_init(&r, g->bytes.ptr + FRAME_SIZE_BYTES, (size_t)size);
    assert_int_equal(request_header_decode(&r, &h), OK);
    assert_int_equal(h.api_key, g->key);
    assert_int_equal(h.api_version, g->version);
    void *body = arena_alloc(&a, h.api->request->size);
    assert_non_null(body);
    err e = wire_decode(h.api->request, h.api_version, &r, &a, body);
    if (e || reader_left(&r) != behind) {
        fail_msg("%s v%d: decode: %s at %s, %zu bytes left", h.api->name, h.api_version,
                 err_text(e), r.at ? r.at : "-", reader_left(&r));
    }
    frame_begin_request(&w, h.api, h.api_version, h.correlation_id, h.client_id);
    assert_int_equal(wire_encode(h.api->request, h.api_version, &w, body), OK);
    assert_int_equal(frame_end(&w), OK);
    if (w.len != g->bytes.len - behind ||
        memcmp(w.ptr + FRAME_SIZE_BYTES, g->bytes.ptr + FRAME_SIZE_BYTES,
               w.len - FRAME_SIZE_BYTES) != 0) {
        fail_msg("%s v%d is not encoded to the same bytes", h.api->name, h.api_version);
    }
    writer_finish(&w);
    arena_finish(&a);
}

static void requests_of_real_clients_come_back_the_same(void **state)
{
    (void)state;
    for (int i = 0; golden_clients[i]; i++) {
        struct arena a;
        arena_init(&a, LIMIT);
        struct golden g = golden_read(&a, golden_clients[i]);
        for (int32_t k = 0; k < g.count; k++) {
            check_frame(golden_clients[i], &g.frames[k]);
        }
        print_message("%s: %d requests\n", golden_clients[i], g.count);
        arena_finish(&a);
    }
}

/* The client's own way through: each byte that is missing is noticed, none makes us read on. */
static void a_request_that_is_cut_short_does_not_decode(void **state)
{
    (void)state;
    for (int i = 0; golden_clients[i]; i++) {
        struct arena all;
        arena_init(&all, LIMIT);
        struct golden g = golden_read(&all, golden_clients[i]);
        for (int32_t k = 0; k < g.count; k++) {
            size_t whole = g.frames[k].bytes.len - bytes_behind(golden_clients[i], &g.frames[k]);
            for (size_t len = 0; len + FRAME_SIZE_BYTES < whole; len++) {
                struct arena a;
                struct reader r;
                struct request_header h;
                arena_init(&a, LIMIT);
                reader_init(&r, g.frames[k].bytes.ptr + FRAME_SIZE_BYTES, len);
                err e = request_header_decode(&r, &h);
                if (!e) {
                    void *body = arena_alloc(&a, h.api->request->size);
                    assert_non_null(body);
                    e = wire_decode(h.api->request, h.api_version, &r, &a, body);
                }
                assert_int_not_equal(e, OK);
                arena_finish(&a);
            }
        }
        arena_finish(&all);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_of_real_clients_come_back_the_same),
        cmocka_unit_test(a_request_that_is_cut_short_does_not_decode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

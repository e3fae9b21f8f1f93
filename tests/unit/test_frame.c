/* Frames and their headers, and the error codes. */
#include "gen/apis.h"
#include "protocol/error.h"
#include "protocol/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { WRITER_LIMIT = 1 << 16 };

static err decode_header(const char *bytes, size_t size, struct request_header *h, size_t *ret_left)
{
    struct reader r;
    reader_init(&r, bytes, size);
    err e = request_header_decode(&r, h);
    *ret_left = reader_left(&r);
    return e;
}

static void sizes_of_frames_are_checked(void **state)
{
    (void)state;
    int32_t size = 77;
    assert_int_equal(frame_size((const uint8_t *)"\x00\x00\x01\x00", 256, &size), OK);
    assert_int_equal(size, 256);
    assert_int_equal(frame_size((const uint8_t *)"\x00\x00\x01\x01", 256, &size), ERR_LIMIT);
    assert_int_equal(frame_size((const uint8_t *)"\xff\xff\xff\xff", 256, &size), ERR_INVALID);
    assert_int_equal(size, 256);
}

static void the_form_of_a_request_header_follows_from_key_and_version(void **state)
{
    (void)state;
    struct request_header h;
    size_t left;
    /* Metadata 8 is not flexible, 9 is: tagged fields follow, the client id stays an int16 string.
     */
    static const char plain[] = "\x00\x03\x00\x08\x00\x00\x00\x07\x00\x02me"
                                "body";
    static const char flexible[] = "\x00\x03\x00\x09\x00\x00\x00\x07\x00\x02me\x01\x05\x02xx"
                                   "body";
    assert_int_equal(decode_header(plain, sizeof plain - 1, &h, &left), OK);
    assert_int_equal(left, 4);
    assert_int_equal(h.correlation_id, 7);
    assert_true(str_eq(h.client_id, STR("me")));
    assert_string_equal(h.api->name, "Metadata");
    assert_int_equal(decode_header(flexible, sizeof flexible - 1, &h, &left), OK);
    assert_int_equal(left, 4);
    assert_true(str_eq(h.client_id, STR("me")));
}

static void a_client_id_may_be_null(void **state)
{
    (void)state;
    struct request_header h;
    size_t left;
    assert_int_equal(decode_header("\x00\x12\x00\x03\x00\x00\x00\x01\xff\xff\x00", 11, &h, &left),
                     OK);
    assert_null(h.client_id.ptr);
    assert_int_equal(left, 0);
}

static void an_unsupported_request_still_says_what_it_is(void **state)
{
    (void)state;
    struct request_header h;
    size_t left;
    assert_int_equal(decode_header("\x03\xe7\x00\x01\x00\x00\x00\x09\x00\x00", 10, &h, &left),
                     ERR_UNSUPPORTED);
    assert_int_equal(h.api_key, 999);
    assert_null(h.api);
    assert_int_equal(decode_header("\x00\x03\x00\x63\x00\x00\x00\x09\x00\x00\x00", 11, &h, &left),
                     ERR_UNSUPPORTED);
    assert_int_equal(h.api_version, 99);
    assert_int_equal(h.correlation_id, 9);
    /* ApiVersions of a coming version: answered all the same, so its client id is read. */
    assert_int_equal(
        decode_header("\x00\x12\x00\x63\x00\x00\x00\x09\x00\x02me\x00!", 14, &h, &left),
        ERR_UNSUPPORTED);
    assert_int_equal(h.correlation_id, 9);
    assert_true(str_eq(h.client_id, STR("me")));
}

static void a_header_cut_short_is_truncated(void **state)
{
    (void)state;
    struct request_header h;
    size_t left;
    static const char bytes[] = "\x00\x03\x00\x09\x00\x00\x00\x07\x00\x02me";
    for (size_t len = 0; len < sizeof bytes; len++) {
        assert_int_equal(decode_header(bytes, len, &h, &left), ERR_TRUNCATED);
    }
}

static void headers_come_back_in_every_version(void **state)
{
    (void)state;
    struct writer w;
    struct reader r;
    struct request_header h;
    writer_init(&w, WRITER_LIMIT);
    for (int32_t i = 0; i < wire_api_count; i++) {
        const struct wire_api *api = &wire_apis[i];
        for (int16_t v = api->min_version; v <= api->max_version; v++) {
            writer_reset(&w);
            frame_begin_request(&w, api, v, 42, STR("id"));
            writer_int8(&w, 9);
            assert_int_equal(frame_end(&w), OK);
            assert_int_equal(get_be32(w.ptr), w.len - 4);
            reader_init(&r, w.ptr + 4, w.len - 4);
            assert_int_equal(request_header_decode(&r, &h), OK);
            assert_true(h.api == api && h.api_version == v && h.correlation_id == 42);
            assert_int_equal(reader_left(&r), 1);

            writer_reset(&w);
            frame_begin_response(&w, api, v, 43);
            writer_int8(&w, 9);
            assert_int_equal(frame_end(&w), OK);
            int32_t id = 0;
            reader_init(&r, w.ptr + 4, w.len - 4);
            assert_int_equal(response_header_decode(&r, api, v, &id), OK);
            assert_int_equal(id, 43);
            assert_int_equal(reader_left(&r), 1);
        }
    }
    writer_finish(&w);
}

static void api_versions_never_has_a_flexible_response_header(void **state)
{
    (void)state;
    struct writer w;
    writer_init(&w, WRITER_LIMIT);
    frame_begin_response(&w, wire_api_find(API_API_VERSIONS), 4, 1);
    assert_int_equal(w.len, 8);
    writer_reset(&w);
    frame_begin_response(&w, wire_api_find(API_METADATA), 9, 1);
    assert_int_equal(w.len, 9);
    writer_finish(&w);
}

static void every_api_is_found_by_its_key(void **state)
{
    (void)state;
    for (int32_t i = 0; i < wire_api_count; i++) {
        assert_true(wire_api_find(wire_apis[i].key) == &wire_apis[i]);
    }
    assert_null(wire_api_find(-1));
    assert_null(wire_api_find(7));
    assert_null(wire_api_find(INT16_MAX));
}

static void error_codes_are_a_table_without_gaps(void **state)
{
    (void)state;
    for (int code = -1; code <= KERR_GROUP_DELETION_FAILED; code++) {
        struct kafka_error_info info;
        assert_true(kafka_error_find((int16_t)code, &info));
        assert_int_equal(info.code, code);
        assert_true(strlen(info.name) > 3 && strlen(info.text) > 7);
    }
    struct kafka_error_info none;
    assert_false(kafka_error_find(-2, &none));
    assert_false(kafka_error_find(KERR_GROUP_DELETION_FAILED + 1, &none));
    assert_string_equal(kafka_error_name(3), "UNKNOWN_TOPIC_OR_PARTITION");
    assert_string_equal(kafka_error_text(3), "There is no such topic or partition here.");
    assert_string_equal(kafka_error_name(KERR_GROUP_DELETION_FAILED), "GROUP_DELETION_FAILED");
    assert_string_equal(kafka_error_name(999), "UNKNOWN");
    assert_true(kafka_error_is_retriable(KERR_NOT_LEADER_OR_FOLLOWER));
    assert_false(kafka_error_is_retriable(KERR_MESSAGE_TOO_LARGE));
    assert_false(kafka_error_is_retriable(999));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_of_frames_are_checked),
        cmocka_unit_test(the_form_of_a_request_header_follows_from_key_and_version),
        cmocka_unit_test(a_client_id_may_be_null),
        cmocka_unit_test(an_unsupported_request_still_says_what_it_is),
        cmocka_unit_test(a_header_cut_short_is_truncated),
        cmocka_unit_test(headers_come_back_in_every_version),
        cmocka_unit_test(api_versions_never_has_a_flexible_response_header),
        cmocka_unit_test(every_api_is_found_by_its_key),
        cmocka_unit_test(error_codes_are_a_table_without_gaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

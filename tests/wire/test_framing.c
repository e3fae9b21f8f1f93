/* Frames, headers, the order of answers and the end of connections. */
#include "gen/api_versions.h"
#include "gen/find_coordinator.h"
#include "gen/heartbeat.h"
#include "gen/list_groups.h"
#include "tests/kit/wire_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int setup(void **state)
{
    return wire_fixture_create(state,
                               (const char *const[]){"socket.request.max.bytes=1000000", NULL});
}

/* An ApiVersions request, whole, as bytes; the smallest that every test can rely on. */
static struct bytes small_request(struct wire_client *c)
{
    return wire_frame(c, API_API_VERSIONS, 0, NEW(c, api_versions_request));
}

static void expect_small_answer(struct wire_client *c, int32_t id)
{
    const struct api_versions_response *a = wire_answer(c, API_API_VERSIONS, 0, id);
    assert_code(a->error_code, KERR_NONE);
}

/* Somebody else is served as before. */
static void expect_service(void **state)
{
    struct wire_client *other = wire_connect(daemon_of(state));
    struct bytes q = small_request(other);
    wire_send(other, q.ptr, q.len);
    expect_small_answer(other, other->correlation_id);
    wire_close(other);
}

/* ---- bytes that arrive in any pieces */

static void a_request_may_come_byte_by_byte(void **state)
{
    struct wire_client *c = client_of(state);
    struct bytes q = small_request(c);
    for (size_t i = 0; i < q.len; i++) {
        wire_send(c, q.ptr + i, 1);
    }
    expect_small_answer(c, c->correlation_id);
}

static void many_requests_in_one_write_are_answered_in_order(void **state)
{
    struct wire_client *c = client_of(state);
    struct buf all = {0};
    for (int i = 0; i < 300; i++) { /* more than a connection may have under way */
        struct bytes q = small_request(c);
        buf_add(&all, q.ptr, q.len);
    }
    wire_send(c, all.ptr, all.len);
    buf_finish(&all);
    for (int32_t id = c->correlation_id - 299; id <= c->correlation_id; id++) {
        expect_small_answer(c, id);
    }
}

static void a_write_may_end_inside_of_any_request(void **state)
{
    struct wire_client *c = client_of(state);
    struct bytes one = small_request(c);
    struct bytes two = small_request(c);
    struct buf both = {0};
    buf_add(&both, one.ptr, one.len);
    buf_add(&both, two.ptr, two.len);
    for (size_t cut = 1; cut < both.len; cut++) {
        wire_send(c, both.ptr, cut);
        wire_send(c, both.ptr + cut, both.len - cut);
        expect_small_answer(c, c->correlation_id - 1);
        expect_small_answer(c, c->correlation_id);
    }
    buf_finish(&both);
}

/* ---- order */

/* The first waits in the broker, the others could be answered at once: they are not, before it is.
 */
static void an_answer_never_overtakes_an_earlier_one(void **state)
{
    struct wire_client *c = client_of(state);
    struct wire_client *other = wire_connect(daemon_of(state));
    TOPIC(c, "order", 1);
    int32_t waits = wire_request(
        c, API_FETCH, 12,
        wire_fetch_request(
            c, &(struct wire_fetch){.topic = "order", .max_wait_ms = 60000, .min_bytes = 1}));
    int32_t behind = wire_request(c, API_API_VERSIONS, 0, NEW(c, api_versions_request));
    int32_t last = wire_request(c, API_LIST_GROUPS, 4, NEW(c, list_groups_request));
    wire_put_good(other, "order", BATCH(other, 0));
    const struct fetch_response *a = wire_answer(c, API_FETCH, 12, waits);
    assert_true(a->topics->partitions->records.len > 0);
    expect_small_answer(c, behind);
    wire_answer(c, API_LIST_GROUPS, 4, last);
    wire_close(other);
}

static void produce_requests_may_overlap_and_are_done_and_answered_in_order(void **state)
{
    struct wire_client *c = client_of(state);
    enum { N = 50 };
    int32_t ids[N];
    TOPIC(c, "overlap", 1);
    for (int i = 0; i < N; i++) {
        const struct wire_produce p = {
            .acks = i % 3 ? -1 : 1, .topic = "overlap", .records = BATCH(c, .count = 2)};
        ids[i] = wire_request(c, API_PRODUCE, 9, wire_produce_request(c, &p));
    }
    for (int i = 0; i < N; i++) {
        const struct produce_response *a = wire_answer(c, API_PRODUCE, 9, ids[i]);
        assert_code(a->topics->partitions->error_code, KERR_NONE);
        assert_int_equal(a->topics->partitions->base_offset, 2 * i);
    }
}

static void correlation_ids_come_back_whatever_they_are(void **state)
{
    struct wire_client *c = client_of(state);
    static const int32_t ids[] = {0, -1, INT32_MAX, INT32_MIN, 7, 7};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        struct bytes q = small_request(c);
        put_be32(wire_writable(q) + 8, (uint32_t)ids[i]);
        wire_send(c, q.ptr, q.len);
        expect_small_answer(c, ids[i]);
    }
}

static void a_client_id_may_be_null_or_empty_and_stays_a_short_string_in_flexible_headers(
    void **state)
{
    struct wire_client *c = client_of(state);
    static const int16_t versions[] = {0, 3};
    struct str names[] = {{0}, STR(""), STR("a client"), wire_text(c, "%0500d", 0)};
    for (size_t v = 0; v < 2; v++) {
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            struct find_coordinator_request *q = NEW(c, find_coordinator_request);
            q->key = STR("group");
            c->client_id = names[i];
            const struct find_coordinator_response *a =
                wire_ask(c, API_FIND_COORDINATOR, versions[v], q);
            assert_code(a->error_code, KERR_NONE);
            assert_int_equal(a->node_id, 1);
        }
    }
}

static void unknown_tagged_fields_of_header_and_body_are_skipped(void **state)
{
    struct wire_client *c = client_of(state);
    static const uint8_t frame[] = {
        0, 0,   0, 36,                                 /* size */
        0, 18,  0, 3,   0,    0,    0,  9, 0xff, 0xff, /* ApiVersions v3, id 9, no client id */
        2, 5,   3, 'a', 'b',  'c',  90, 0,             /* tags 5 and 90 of the header */
        2, 'x', 2, '1',                                /* software name and version */
        2, 0,   1, 0,   0x80, 0x10, 7,  1, 2,    3,    4, 5, 6, 7, /* tags 0 and 2048 of the body */
    };
    wire_send(c, frame, sizeof frame);
    const struct api_versions_response *a = wire_answer(c, API_API_VERSIONS, 3, 9);
    assert_code(a->error_code, KERR_NONE);
    assert_true(a->api_keys_count > 20);
}

/* ---- ApiVersions, which must always be understood */

static void an_api_versions_request_that_is_too_new_is_answered_in_version_0(void **state)
{
    struct wire_client *c = client_of(state);
    static const int16_t versions[] = {5, 6, 99, INT16_MAX};
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        struct bytes q = wire_frame(c, API_API_VERSIONS, 4, NEW(c, api_versions_request));
        put_be16(wire_writable(q) + 6, (uint16_t)versions[i]);
        wire_send(c, q.ptr, q.len);
        struct bytes a = wire_receive(c);
        static const uint8_t body[] = {0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4};
        assert_int_equal(a.len, 4 + sizeof body);
        assert_int_equal(get_be32(a.ptr), c->correlation_id);
        assert_memory_equal(a.ptr + 4, body, sizeof body);
    }
    expect_small_answer(c, wire_request(c, API_API_VERSIONS, 0, NEW(c, api_versions_request)));
}

static void software_names_of_api_versions_are_checked(void **state)
{
    struct wire_client *c = client_of(state);
    static const struct {
        const char *name, *version;
        int16_t code;
    } cases[] = {
        {"apache-kafka-java", "4.3.1",      KERR_NONE           },
        {"a",                 "1",          KERR_NONE           },
        {"rd.kafka-x",        "2.12.0-RC1", KERR_NONE           },
        {"",                  "1",          KERR_INVALID_REQUEST},
        {"a",                 "",           KERR_INVALID_REQUEST},
        {"-a",                "1",          KERR_INVALID_REQUEST},
        {"a-",                "1",          KERR_INVALID_REQUEST},
        {"a b",               "1",          KERR_INVALID_REQUEST},
        {"a",                 "1.0.",       KERR_INVALID_REQUEST},
        {"\xc3\xa4",          "1",          KERR_INVALID_REQUEST},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct api_versions_request *q = NEW(c, api_versions_request);
        q->client_software_name = str_of(cases[i].name);
        q->client_software_version = str_of(cases[i].version);
        for (int16_t v = 3; v <= 4; v++) {
            const struct api_versions_response *a = wire_ask(c, API_API_VERSIONS, v, q);
            assert_code(a->error_code, cases[i].code);
        }
        const struct api_versions_response *old = wire_ask(c, API_API_VERSIONS, 2, q);
        assert_code(old->error_code, KERR_NONE); /* there is no such field yet */
    }
}

/* ---- what closes a connection: with a line in the log, and nobody else's */

static void expect_refusal(void **state, const void *p, size_t size, const char *reason)
{
    struct wire_client *c = wire_connect(daemon_of(state));
    if (wire_try_send(c, p, size)) {
        wire_expect_close(c);
    }
    daemon_await_log(daemon_of(state), reason);
    wire_close(c);
    expect_service(state);
}

static void unknown_keys_and_versions_close_the_connection(void **state)
{
    struct wire_client *c = client_of(state);
    static const struct {
        int16_t key, version;
    } cases[] = {
        {API_PRODUCE,        0        }, /* advertised, and refused: see NOTES of Produce */
        {API_PRODUCE,        2        },
        {API_PRODUCE,        14       },
        {API_FETCH,          3        },
        {API_FETCH,          19       },
        {API_METADATA,       14       },
        {API_METADATA,       -1       },
        {API_OFFSET_DELETE,  1        },
        {API_SASL_HANDSHAKE, 1        },
        {API_END_TXN,        1        },
        {4,                  0        }, /* LeaderAndIsr: gone */
        {68,                 0        }, /* ConsumerGroupHeartbeat: not here yet */
        {1000,               0        },
        {-1,                 0        },
        {INT16_MAX,          INT16_MAX},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bytes q = small_request(c);
        put_be16(wire_writable(q) + 4, (uint16_t)cases[i].key);
        put_be16(wire_writable(q) + 6, (uint16_t)cases[i].version);
        struct str reason = wire_text(c, "API key %d version %d", cases[i].key, cases[i].version);
        expect_refusal(state, q.ptr, q.len, reason.ptr);
    }
}

static void sizes_that_cannot_be_close_the_connection(void **state)
{
    static const uint8_t negative[] = {0xff, 0xff, 0xff, 0xff};
    static const uint8_t lowest[] = {0x80, 0, 0, 0};
    static const uint8_t huge[] = {0x7f, 0xff, 0xff, 0xff};
    static const uint8_t over[] = {0, 0x0f, 0x42, 0x41}; /* 1,000,001 */
    static const uint8_t http[] = "GET / HTTP/1.1\r\n\r\n";
    expect_refusal(state, negative, sizeof negative, "event=connection_closed");
    expect_refusal(state, lowest, sizeof lowest, "event=connection_closed");
    expect_refusal(state, huge, sizeof huge, "socket.request.max.bytes");
    expect_refusal(state, over, sizeof over, "socket.request.max.bytes");
    expect_refusal(state, http, sizeof http - 1, "socket.request.max.bytes");
}

static void frames_too_short_for_a_header_close_the_connection(void **state)
{
    for (uint8_t size = 0; size < 10; size++) {
        uint8_t frame[4 + 10] = {0, 0, 0, size, 0, 18, 0, 0, 0, 0, 0, 1, 0, 0};
        expect_refusal(state, frame, 4u + size, "event=connection_closed");
    }
}

/* Every prefix of a good request is a bad one, whatever it is cut at. */
static void bodies_that_do_not_decode_close_the_connection(void **state)
{
    struct wire_client *c = client_of(state);
    struct heartbeat_request *q = NEW(c, heartbeat_request);
    q->group_id = STR("g");
    q->member_id = STR("m");
    q->group_instance_id = STR("i");
    for (int16_t v = 0; v <= 4; v++) {
        q->group_instance_id = v < 3 ? (struct str){0} : STR("i");
        struct bytes whole = wire_frame(c, API_HEARTBEAT, v, q);
        size_t header = 4 + 10 + c->client_id.len + (v == 4);
        for (size_t len = header; len < whole.len; len++) {
            struct wire_client *one = wire_connect(daemon_of(state));
            uint8_t *cut = wire_room(c, len, 1);
            memcpy(cut, whole.ptr, len);
            put_be32(cut, (uint32_t)(len - 4));
            wire_send(one, cut, len);
            wire_expect_close(one);
            wire_close(one);
        }
        struct str reason = wire_text(c, "Heartbeat v%d does not decode", v);
        daemon_await_log(daemon_of(state), reason.ptr);
    }
    expect_service(state);
}

static void counts_that_the_frame_cannot_hold_close_the_connection(void **state)
{
    static const uint8_t huge[] = {
        0,    0,    0,    14,   0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, /* Metadata v1 */
        0x7f, 0xff, 0xff, 0xff,                                     /* 2^31 - 1 topics */
    };
    static const uint8_t negative[] = {
        0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, /* -2 topics */
    };
    expect_refusal(state, huge, sizeof huge, "Metadata v1 does not decode");
    expect_refusal(state, negative, sizeof negative, "Metadata v1 does not decode");
}

static void text_that_is_no_utf8_closes_the_connection(void **state)
{
    static const uint8_t frame[] = {0, 0,    0,    18, 0, 10,  0,    0,    0,    0,    0,
                                    1, 0xff, 0xff, 0,  6, 'a', 0xff, 0xfe, 0xc3, 0x28, 'b'};
    expect_refusal(state, frame, sizeof frame, "FindCoordinator v0 does not decode");
}

/* What was asked before the bad request is answered first. */
static void answers_before_a_bad_request_still_come(void **state)
{
    struct wire_client *c = client_of(state);
    int32_t good = wire_request(c, API_API_VERSIONS, 0, NEW(c, api_versions_request));
    struct bytes bad = small_request(c);
    put_be16(wire_writable(bad) + 4, 999);
    struct bytes behind = small_request(c);
    wire_send(c, bad.ptr, bad.len);
    wire_try_send(c, behind.ptr, behind.len);
    expect_small_answer(c, good);
    wire_expect_close(c); /* and what is behind it is not answered */
}

static void a_client_that_hangs_up_in_the_middle_of_everything_harms_nobody(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "hang-up", 1);
    struct bytes q = small_request(c);
    for (size_t cut = 0; cut <= q.len; cut++) { /* inside of a frame, and with an answer to come */
        struct wire_client *one = wire_connect(daemon_of(state));
        wire_send(one, q.ptr, cut);
        wire_close(one);
    }
    struct wire_client *parked = wire_connect(daemon_of(state));
    wire_request(parked, API_FETCH, 12,
                 wire_fetch_request(parked, &(struct wire_fetch){.topic = "hang-up",
                                                                 .max_wait_ms = 60000,
                                                                 .min_bytes = 1}));
    wire_close(parked);
    wire_put_good(c, "hang-up", BATCH(c, 0)); /* would wake the fetch that nobody waits for */
    expect_service(state);
}

/* acks=0 and gone: nobody waits for anything, and everything is there. */
static void what_a_client_sent_before_it_hung_up_is_done(void **state)
{
    struct wire_client *c = client_of(state);
    struct wire_client *gone = wire_connect(daemon_of(state));
    enum { N = 200 };
    struct buf all = {0};
    TOPIC(c, "fire-and-forget", 1);
    struct bytes batch = BATCH(c, .count = 1);
    for (int i = 0; i < N; i++) {
        const struct wire_produce p = {.topic = "fire-and-forget", .records = batch};
        struct bytes q = wire_frame(gone, API_PRODUCE, 9, wire_produce_request(gone, &p));
        buf_add(&all, q.ptr, q.len);
    }
    wire_send(gone, all.ptr, all.len);
    wire_close(gone);
    buf_finish(&all);
    const struct fetch_response_partition *p =
        wire_fetch(c, (struct wire_fetch){.topic = "fire-and-forget",
                                          .max_wait_ms = 60000,
                                          .min_bytes = (int32_t)(N * batch.len)});
    assert_int_equal(wire_parse(c, p->records).count, N);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        wire_test(a_request_may_come_byte_by_byte),
        wire_test(many_requests_in_one_write_are_answered_in_order),
        wire_test(a_write_may_end_inside_of_any_request),
        wire_test(an_answer_never_overtakes_an_earlier_one),
        wire_test(produce_requests_may_overlap_and_are_done_and_answered_in_order),
        wire_test(correlation_ids_come_back_whatever_they_are),
        wire_test(a_client_id_may_be_null_or_empty_and_stays_a_short_string_in_flexible_headers),
        wire_test(unknown_tagged_fields_of_header_and_body_are_skipped),
        wire_test(an_api_versions_request_that_is_too_new_is_answered_in_version_0),
        wire_test(software_names_of_api_versions_are_checked),
        wire_test(unknown_keys_and_versions_close_the_connection),
        wire_test(sizes_that_cannot_be_close_the_connection),
        wire_test(frames_too_short_for_a_header_close_the_connection),
        wire_test(bodies_that_do_not_decode_close_the_connection),
        wire_test(counts_that_the_frame_cannot_hold_close_the_connection),
        wire_test(text_that_is_no_utf8_closes_the_connection),
        wire_test(answers_before_a_bad_request_still_come),
        wire_test(a_client_that_hangs_up_in_the_middle_of_everything_harms_nobody),
        wire_test(what_a_client_sent_before_it_hung_up_is_done),
    };
    return cmocka_run_group_tests(tests, setup, wire_fixture_destroy);
}

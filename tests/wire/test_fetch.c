/* Fetch: what is given, how much of it, when it waits, and what is answered where there is nothing.
 */
#include "gen/delete_topics.h"
#include "tests/kit/wire_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int setup(void **state)
{
    return wire_fixture_create(state, (const char *const[]){"fetch.max.bytes=100000", NULL});
}

static void expect_empty(const struct fetch_response_partition *p, int64_t end)
{
    assert_code(p->error_code, KERR_NONE);
    assert_int_equal(p->high_watermark, end);
    assert_int_equal(p->last_stable_offset, end);
    assert_non_null(p->records.ptr);
    assert_int_equal(p->records.len, 0);
}

static void expect_error(const struct fetch_response_partition *p, int16_t code)
{
    assert_code(p->error_code, code);
    assert_int_equal(p->high_watermark, -1);
    assert_int_equal(p->last_stable_offset, -1);
    assert_int_equal(p->log_start_offset, -1);
    assert_int_equal(p->records.len, 0);
}

/* ---- what comes */

static void every_version_gives_the_records_and_the_marks(void **state)
{
    struct wire_client *c = client_of(state);
    struct uuid id = TOPIC(c, "marks", 1);
    wire_put_good(c, "marks", BATCH(c, .count = 3));
    wire_put_good(c, "marks", BATCH(c, .count = 2));
    each_version(v, API_FETCH)
    {
        for (int8_t isolation = 0; isolation <= 1; isolation++) {
            const struct fetch_response_partition *p = wire_fetch(
                c, (struct wire_fetch){
                       .version = v, .topic = "marks", .id = id, .isolation_level = isolation});
            assert_code(p->error_code, KERR_NONE);
            assert_int_equal(p->high_watermark, 5);
            assert_int_equal(p->last_stable_offset, 5); /* -1 breaks clients */
            assert_int_equal(p->log_start_offset, v >= 5 ? 0 : -1);
            assert_int_equal(p->preferred_read_replica, -1);
            assert_int_equal(p->aborted_transactions_count, isolation ? 0 : -1);
            assert_null(p->diverging_epoch);
            assert_null(p->current_leader);
            struct wire_records_read r = wire_parse(c, p->records);
            assert_int_equal(r.count, 5);
            for (int32_t i = 0; i < 5; i++) {
                assert_int_equal(r.records[i].offset, i);
            }
        }
    }
}

static void a_batch_that_holds_the_offset_comes_whole(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "inside", 1);
    for (int i = 0; i < 10; i++) {
        wire_put_good(c, "inside", BATCH(c, .count = 10));
    }
    for (int64_t offset = 0; offset < 100; offset++) {
        const struct fetch_response_partition *p =
            wire_fetch(c, (struct wire_fetch){.topic = "inside", .offset = offset});
        struct wire_records_read r = wire_parse(c, p->records);
        assert_int_equal(r.records[0].offset, offset / 10 * 10);
        assert_int_equal(r.records[r.count - 1].offset, 99);
    }
}

static void an_empty_log_and_the_end_of_one_are_no_errors(void **state)
{
    struct wire_client *c = client_of(state);
    struct uuid id = TOPIC(c, "ends", 1);
    each_version(v, API_FETCH)
    {
        expect_empty(wire_fetch(c, (struct wire_fetch){.version = v, .topic = "ends", .id = id}),
                     0);
    }
    wire_put_good(c, "ends", BATCH(c, .count = 4));
    each_version(v, API_FETCH)
    {
        expect_empty(
            wire_fetch(c,
                       (struct wire_fetch){.version = v, .topic = "ends", .id = id, .offset = 4}),
            4);
    }
}

static void offsets_outside_of_the_log_are_out_of_range(void **state)
{
    struct wire_client *c = client_of(state);
    struct uuid id = TOPIC(c, "outside", 1);
    wire_put_good(c, "outside", BATCH(c, .count = 4));
    static const int64_t offsets[] = {5, 1000, INT64_MAX, -1, -2, INT64_MIN};
    each_version(v, API_FETCH)
    {
        for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
            /* at once, however long it would wait */
            expect_error(wire_fetch(c, (struct wire_fetch){.version = v,
                                                           .topic = "outside",
                                                           .id = id,
                                                           .offset = offsets[i],
                                                           .max_wait_ms = INT32_MAX,
                                                           .min_bytes = INT32_MAX}),
                         KERR_OFFSET_OUT_OF_RANGE);
        }
    }
}

static void what_is_not_there_is_said_to_be_unknown(void **state)
{
    struct wire_client *c = client_of(state);
    struct uuid id = TOPIC(c, "there", 1);
    const struct uuid other = {
        {9, 9, 9}
    };
    each_version(v, API_FETCH)
    {
        struct wire_fetch f = {
            .version = v, .topic = "not-there", .id = other, .max_wait_ms = INT32_MAX};
        f.min_bytes = 1;
        expect_error(wire_fetch(c, f),
                     v >= 13 ? KERR_UNKNOWN_TOPIC_ID : KERR_UNKNOWN_TOPIC_OR_PARTITION);
        f.topic = "there";
        f.id = id;
        f.partition = 1;
        expect_error(wire_fetch(c, f), KERR_UNKNOWN_TOPIC_OR_PARTITION);
        f.partition = -1;
        expect_error(wire_fetch(c, f), KERR_UNKNOWN_TOPIC_OR_PARTITION);
    }
    assert_code(wire_topic_info(c, "not-there")->error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
}

static void the_id_of_a_deleted_topic_is_unknown_also_when_it_is_made_again(void **state)
{
    struct wire_client *c = client_of(state);
    struct uuid old = TOPIC(c, "anew", 1);
    wire_put_good(c, "anew", BATCH(c, 0));
    struct delete_topics_request *q = NEW(c, delete_topics_request);
    q->topics = NEW(c, delete_topics_request_topic);
    q->topics_count = 1;
    q->topics->topic_id = old;
    const struct delete_topics_response *a = wire_ask(c, API_DELETE_TOPICS, 6, q);
    assert_code(a->responses->error_code, KERR_NONE);
    struct uuid fresh = TOPIC(c, "anew", 1);
    expect_error(wire_fetch(c, (struct wire_fetch){.version = 17, .id = old}),
                 KERR_UNKNOWN_TOPIC_ID);
    expect_empty(wire_fetch(c, (struct wire_fetch){.version = 17, .id = fresh}), 0);
}

/* ---- leader epochs */

static void another_leader_epoch_is_fenced_or_unknown(void **state)
{
    struct wire_client *c = client_of(state);
    struct uuid id = TOPIC(c, "epochs", 1);
    wire_put_good(c, "epochs", BATCH(c, 0));
    int32_t ours = wire_topic_info(c, "epochs")->partitions->leader_epoch;
    assert_true(ours >= 0);
    for (int16_t v = 9; v <= version_max(API_FETCH); v++) {
        struct wire_fetch f = {.version = v, .topic = "epochs", .id = id, .with_epoch = true};
        f.leader_epoch = ours;
        assert_code(wire_fetch(c, f)->error_code, KERR_NONE);
        f.leader_epoch = -1; /* no check */
        assert_code(wire_fetch(c, f)->error_code, KERR_NONE);
        f.leader_epoch = ours + 1;
        expect_error(wire_fetch(c, f), KERR_UNKNOWN_LEADER_EPOCH);
        if (ours > 0) {
            f.leader_epoch = ours - 1;
            const struct fetch_response *a = wire_ask(c, API_FETCH, v, wire_fetch_request(c, &f));
            expect_error(a->topics->partitions, KERR_FENCED_LEADER_EPOCH);
            if (v >= 12) { /* and who leads (KIP-951) */
                assert_non_null(a->topics->partitions->current_leader);
                assert_int_equal(a->topics->partitions->current_leader->leader_id, 1);
                assert_int_equal(a->topics->partitions->current_leader->leader_epoch, ours);
            }
            assert_int_equal(a->node_endpoints_count, v >= 16 ? 1 : 0);
            if (v >= 16) {
                assert_str(a->node_endpoints->host, "127.0.0.1");
                assert_int_equal(a->node_endpoints->port, daemon_of(state)->port);
            }
        }
    }
}

/* ---- how much */

static void at_least_one_batch_comes_however_small_the_limits(void **state)
{
    struct wire_client *c = client_of(state);
    struct uuid id = TOPIC(c, "limits", 1);
    struct bytes large = BATCH(c, .value_size = 50000);
    for (int i = 0; i < 3; i++) {
        wire_put_good(c, "limits", large);
    }
    each_version(v, API_FETCH)
    {
        struct wire_fetch f = {.version = v, .topic = "limits", .id = id, .max_bytes = 1};
        const struct fetch_response_partition *p = wire_fetch(c, f);
        assert_int_equal(p->records.len, large.len);
        f.max_bytes = 1 << 20;
        f.partition_max_bytes = 1;
        assert_int_equal(wire_fetch(c, f)->records.len, large.len);
        f.partition_max_bytes = (int32_t)(2 * large.len - 1);
        assert_int_equal(wire_parse(c, wire_fetch(c, f)->records).count,
                         1);             /* a second may be cut */
        f.partition_max_bytes = 1 << 20; /* fetch.max.bytes is 100000 here */
        p = wire_fetch(c, f);
        assert_int_equal(p->records.len, 100000);
        assert_int_equal(wire_parse(c, p->records).count, 1);
        wire_forget(c);
        large = BATCH(c, .value_size = 50000);
    }
}

static struct fetch_request *fetch_all(struct wire_client *c, const char *topic,
                                       const int32_t *order, int32_t count)
{
    struct fetch_request *q = NEW(c, fetch_request);
    q->topics = NEW(c, fetch_request_topic);
    q->topics_count = 1;
    q->topics->topic = str_of(topic);
    q->topics->partitions = NEWS(c, fetch_request_partition, count);
    q->topics->partitions_count = count;
    for (int32_t i = 0; i < count; i++) {
        q->topics->partitions[i].partition = order[i];
        q->topics->partitions[i].partition_max_bytes = 1 << 20;
    }
    return q;
}

static void partitions_are_served_in_the_order_asked_until_the_limit_and_come_empty_after_it(
    void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "order", 4);
    struct bytes b = BATCH(c, .value_size = 1000);
    for (int32_t i = 1; i < 4; i++) { /* 0 stays empty */
        wire_produce(
            c, (struct wire_produce){.acks = -1, .topic = "order", .partition = i, .records = b});
    }
    static const int32_t order[] = {2, 0, 3, 1};
    struct fetch_request *q = fetch_all(c, "order", order, 4);
    q->max_bytes = (int32_t)b.len; /* one batch, then nothing */
    const struct fetch_response *a = wire_ask(c, API_FETCH, 12, q);
    assert_int_equal(a->topics->partitions_count, 4);
    for (int i = 0; i < 4; i++) {
        const struct fetch_response_partition *p = &a->topics->partitions[i];
        assert_int_equal(p->partition_index, order[i]);
        assert_code(p->error_code, KERR_NONE);
        assert_int_equal(p->high_watermark, order[i] ? 1 : 0);
        assert_int_equal(p->records.len, order[i] == 2 ? b.len : 0);
    }
    /* A beginning without a whole batch is no use: Java's consumer gives up at one. */
    for (int32_t more = 1; more < (int32_t)b.len; more += 100) {
        q->max_bytes = (int32_t)b.len + more;
        a = wire_ask(c, API_FETCH, 12, q);
        assert_int_equal(a->topics->partitions[0].records.len, b.len);
        assert_int_equal(a->topics->partitions[2].records.len, 0);
        assert_int_equal(a->topics->partitions[3].records.len, 0);
    }
    q->max_bytes = 1; /* the first that is not empty, though it is larger */
    q->topics->partitions[0].partition = 0;
    q->topics->partitions[1].partition = 3;
    q->topics->partitions[2].partition = 2;
    a = wire_ask(c, API_FETCH, 12, q);
    assert_int_equal(a->topics->partitions[0].records.len, 0);
    assert_int_equal(a->topics->partitions[1].records.len, b.len);
    assert_int_equal(a->topics->partitions[2].records.len, 0);
    assert_int_equal(a->topics->partitions[3].records.len, 0);
}

static void one_bad_partition_does_not_harm_the_others_and_nothing_waits_for_it(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "some-bad", 2);
    static const int32_t order[] = {0, 7, 1};
    struct fetch_request *q = fetch_all(c, "some-bad", order, 3);
    q->max_wait_ms = INT32_MAX;
    q->min_bytes = INT32_MAX;
    const struct fetch_response *a = wire_ask(c, API_FETCH, 12, q);
    expect_empty(&a->topics->partitions[0], 0);
    expect_error(&a->topics->partitions[1], KERR_UNKNOWN_TOPIC_OR_PARTITION);
    expect_empty(&a->topics->partitions[2], 0);
}

/* ---- waiting */

static void a_fetch_waits_until_there_are_min_bytes(void **state)
{
    struct wire_client *c = client_of(state);
    struct wire_client *producer = wire_connect(daemon_of(state));
    struct uuid id = TOPIC(c, "waits", 1);
    struct bytes b = BATCH(producer, .count = 2);
    int64_t end = 0;
    each_version(v, API_FETCH)
    {
        struct wire_fetch f = {.version = v,
                               .topic = "waits",
                               .id = id,
                               .offset = end,
                               .max_wait_ms = INT32_MAX,
                               .min_bytes = (int32_t)(2 * b.len)};
        int32_t waits = wire_request(c, API_FETCH, v, wire_fetch_request(c, &f));
        wire_put_good(producer, "waits", b); /* not enough yet */
        wire_put_good(producer, "waits", b);
        const struct fetch_response *a = wire_answer(c, API_FETCH, v, waits);
        assert_int_equal(a->topics->partitions->records.len, 2 * b.len);
        assert_int_equal(a->topics->partitions->high_watermark, end + 4);
        end += 4;
    }
    wire_close(producer);
}

static void a_fetch_that_waited_long_enough_gives_what_there_is(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "time-out", 1);
    struct bytes b = BATCH(c, 0);
    wire_put_good(c, "time-out", b);
    struct wire_fetch f = {.topic = "time-out", .max_wait_ms = 20, .min_bytes = INT32_MAX};
    assert_int_equal(wire_fetch(c, f)->records.len, b.len);
    f.offset = 1;
    expect_empty(wire_fetch(c, f), 1);
}

static void nothing_to_wait_for_is_answered_at_once(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "at-once", 1);
    struct wire_fetch f = {.topic = "at-once", .max_wait_ms = INT32_MAX};
    expect_empty(wire_fetch(c, f), 0); /* min_bytes 0 */
    f.max_wait_ms = 0;
    f.min_bytes = 1;
    expect_empty(wire_fetch(c, f), 0);
    f.max_wait_ms = -1;
    expect_empty(wire_fetch(c, f), 0);
    each_version(v, API_FETCH)
    {
        struct fetch_request *q = NEW(c, fetch_request);
        q->max_wait_ms = INT32_MAX;
        q->min_bytes = 1;
        const struct fetch_response *a = wire_ask(c, API_FETCH, v, q);
        assert_code(a->error_code, KERR_NONE);
        assert_int_equal(a->topics_count, 0);
    }
}

static void a_waiting_fetch_is_answered_when_its_topic_is_deleted(void **state)
{
    struct wire_client *c = client_of(state);
    struct wire_client *other = wire_connect(daemon_of(state));
    struct uuid id = TOPIC(c, "goes-away", 1);
    struct wire_fetch f = {.version = 17, .id = id, .max_wait_ms = INT32_MAX, .min_bytes = 1};
    int32_t waits = wire_request(c, API_FETCH, 17, wire_fetch_request(c, &f));
    struct delete_topics_request *q = NEW(other, delete_topics_request);
    q->topics = NEW(other, delete_topics_request_topic);
    q->topics_count = 1;
    q->topics->topic_id = id;
    /* the fetch may be read after the deletion: both are answers that clients understand */
    const struct delete_topics_response *d = wire_ask(other, API_DELETE_TOPICS, 6, q);
    assert_code(d->responses->error_code, KERR_NONE);
    const struct fetch_response *a = wire_answer(c, API_FETCH, 17, waits);
    int16_t code = a->topics->partitions->error_code;
    assert_true(code == KERR_NOT_LEADER_OR_FOLLOWER || code == KERR_UNKNOWN_TOPIC_ID);
    wire_close(other);
}

/* Two of them, of several partitions each, over one log. */
static void every_waiting_fetch_of_a_log_wakes(void **state)
{
    struct wire_client *all[8];
    int32_t ids[8];
    struct wire_client *c = client_of(state);
    TOPIC(c, "many", 3);
    static const int32_t order[] = {0, 1, 2};
    for (int i = 0; i < 8; i++) {
        all[i] = wire_connect(daemon_of(state));
        struct fetch_request *q = fetch_all(all[i], "many", order, 3);
        q->max_wait_ms = INT32_MAX;
        q->min_bytes = 1;
        ids[i] = wire_request(all[i], API_FETCH, 11, q);
    }
    wire_produce(c, (struct wire_produce){
                        .acks = 1, .topic = "many", .partition = 2, .records = BATCH(c, 0)});
    for (int i = 0; i < 8; i++) {
        const struct fetch_response *a = wire_answer(all[i], API_FETCH, 11, ids[i]);
        assert_int_equal(a->topics->partitions[0].records.len, 0);
        assert_true(a->topics->partitions[2].records.len > 0);
        wire_close(all[i]);
    }
}

/* ---- sessions (KIP-227): none is given, and every client copes with that */

static void a_session_is_never_given_and_those_asked_for_are_not_found(void **state)
{
    struct wire_client *c = client_of(state);
    struct uuid id = TOPIC(c, "sessions", 1);
    static const struct {
        int32_t id, epoch;
        int16_t code;
    } cases[] = {
        {0,   -1,        KERR_NONE                      }, /* without a session */
        {0,   0,         KERR_NONE                      }, /* a new one, please */
        {123, 0,         KERR_NONE                      }, /* that one ends, a new one, please */
        {123, -1,        KERR_NONE                      }, /* that one ends */
        {123, 1,         KERR_FETCH_SESSION_ID_NOT_FOUND},
        {123, INT32_MAX, KERR_FETCH_SESSION_ID_NOT_FOUND},
        {0,   1,         KERR_FETCH_SESSION_ID_NOT_FOUND},
    };
    for (int16_t v = 7; v <= version_max(API_FETCH); v++) {
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            struct wire_fetch f = {.topic = "sessions", .id = id};
            struct fetch_request *q = (struct fetch_request *)(uintptr_t)wire_fetch_request(c, &f);
            q->session_id = cases[i].id;
            q->session_epoch = cases[i].epoch;
            q->forgotten_topics_data = NEW(c, fetch_request_forgotten_topics_data);
            q->forgotten_topics_data_count = 1;
            q->forgotten_topics_data->topic = STR("sessions");
            q->forgotten_topics_data->topic_id = id;
            q->forgotten_topics_data->partitions = wire_room(c, 1, sizeof(int32_t));
            q->forgotten_topics_data->partitions_count = 1;
            const struct fetch_response *a = wire_ask(c, API_FETCH, v, q);
            assert_code(a->error_code, cases[i].code);
            assert_int_equal(a->session_id, 0);
            assert_int_equal(a->topics_count, cases[i].code ? 0 : 1);
        }
    }
}

/* ---- codecs */

static void zstd_is_not_sent_to_versions_that_cannot_know_it(void **state)
{
    struct wire_client *c = client_of(state);
    struct uuid id = TOPIC(c, "zstd", 1);
    wire_put_good(c, "zstd", BATCH(c, .count = 10, .codec = CODEC_ZSTD));
    each_version(v, API_FETCH)
    {
        const struct fetch_response_partition *p =
            wire_fetch(c, (struct wire_fetch){.version = v, .topic = "zstd", .id = id});
        if (v < 10) {
            expect_error(p, KERR_UNSUPPORTED_COMPRESSION_TYPE);
        } else {
            assert_code(p->error_code, KERR_NONE);
            assert_int_equal(wire_parse(c, p->records).count, 10);
        }
    }
}

/* ---- what a consumer may see */

/* acks=1 is answered before the batch is durable; it is only ever seen when it is. */
static void what_was_answered_is_read_in_order_and_whole(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "whole", 1, "segment.bytes=1048576"); /* over several segments */
    enum { N = 300, EACH = 5 };
    for (int i = 0; i < N; i++) {
        const struct wire_produce p = {.acks = (int16_t)(i % 2 ? 1 : -1),
                                       .topic = "whole",
                                       .records = BATCH(c, .count = EACH, .value_size = 2000)};
        const struct produce_response *a = wire_ask(c, API_PRODUCE, 9, wire_produce_request(c, &p));
        assert_code(a->topics->partitions->error_code, KERR_NONE);
        wire_forget(c);
    }
    wire_put_good(c, "whole", BATCH(c, 0)); /* durable, and so is all before it */
    struct wire_records_read r = wire_read(c, "whole", 0, 0);
    assert_int_equal(r.count, N * EACH + 1);
    for (int32_t i = 0; i < r.count; i++) {
        assert_int_equal(r.records[i].offset, i);
    }
}

static void a_killed_broker_serves_what_it_served_before(void **state)
{
    struct daemon *d = daemon_of(state);
    struct wire_client *c = client_of(state);
    TOPIC(c, "killed", 1);
    for (int i = 0; i < 20; i++) {
        wire_put_good(c, "killed", BATCH(c, .count = 3, .codec = (enum codec)(i % CODEC_COUNT)));
    }
    struct wire_records_read before = wire_read(c, "killed", 0, 0);
    for (int round = 0; round < 2; round++) {
        if (round) {
            daemon_restart(d);
        } else {
            daemon_kill(d);
            daemon_start(d);
        }
        struct wire_client *after = wire_connect(d);
        struct wire_records_read r = wire_read(after, "killed", 0, 0);
        assert_int_equal(r.count, before.count);
        for (int32_t i = 0; i < r.count; i++) {
            assert_int_equal(r.records[i].timestamp, before.records[i].timestamp);
            assert_int_equal(r.records[i].value.len, before.records[i].value.len);
            assert_memory_equal(r.records[i].value.ptr, before.records[i].value.ptr,
                                r.records[i].value.len);
        }
        wire_close(after);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        wire_test(a_killed_broker_serves_what_it_served_before), /* first: raises the epoch */
        wire_test(every_version_gives_the_records_and_the_marks),
        wire_test(a_batch_that_holds_the_offset_comes_whole),
        wire_test(an_empty_log_and_the_end_of_one_are_no_errors),
        wire_test(offsets_outside_of_the_log_are_out_of_range),
        wire_test(what_is_not_there_is_said_to_be_unknown),
        wire_test(the_id_of_a_deleted_topic_is_unknown_also_when_it_is_made_again),
        wire_test(another_leader_epoch_is_fenced_or_unknown),
        wire_test(at_least_one_batch_comes_however_small_the_limits),
        wire_test(partitions_are_served_in_the_order_asked_until_the_limit_and_come_empty_after_it),
        wire_test(one_bad_partition_does_not_harm_the_others_and_nothing_waits_for_it),
        wire_test(a_fetch_waits_until_there_are_min_bytes),
        wire_test(a_fetch_that_waited_long_enough_gives_what_there_is),
        wire_test(nothing_to_wait_for_is_answered_at_once),
        wire_test(a_waiting_fetch_is_answered_when_its_topic_is_deleted),
        wire_test(every_waiting_fetch_of_a_log_wakes),
        wire_test(a_session_is_never_given_and_those_asked_for_are_not_found),
        wire_test(zstd_is_not_sent_to_versions_that_cannot_know_it),
        wire_test(what_was_answered_is_read_in_order_and_whole),
    };
    return cmocka_run_group_tests(tests, setup, wire_fixture_destroy);
}

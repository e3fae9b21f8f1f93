/* ListOffsets and OffsetForLeaderEpoch: places, times and epochs of a log. */
#include "base/clock.h"
#include "gen/list_offsets.h"
#include "gen/offset_for_leader_epoch.h"
#include "tests/kit/wire_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { LATEST = -1, EARLIEST = -2, MAX_TIMESTAMP = -3, LOCAL = -4, TIERED = -5, PENDING = -6 };

static int setup(void **state)
{
    return wire_fixture_create(state, NULL);
}

static const struct list_offsets_response_partition *list(struct wire_client *c, int16_t version,
                                                          const char *topic, int64_t timestamp,
                                                          int32_t epoch)
{
    struct list_offsets_request *q = NEW(c, list_offsets_request);
    q->replica_id = -1;
    q->isolation_level = (int8_t)(version >= 2 ? version % 2 : 0);
    q->topics = NEW(c, list_offsets_request_topic);
    q->topics_count = 1;
    q->topics->name = str_of(topic);
    q->topics->partitions = NEW(c, list_offsets_request_partition);
    q->topics->partitions_count = 1;
    q->topics->partitions->timestamp = timestamp;
    q->topics->partitions->current_leader_epoch = epoch;
    const struct list_offsets_response *a = wire_ask(c, API_LIST_OFFSETS, version, q);
    assert_int_equal(a->topics_count, 1);
    assert_str(a->topics->name, topic);
    assert_int_equal(a->topics->partitions_count, 1);
    assert_int_equal(a->topics->partitions->partition_index, 0);
    return a->topics->partitions;
}

static void expect_list(struct wire_client *c, int16_t version, const char *topic, int64_t asked,
                        int64_t offset, int64_t timestamp)
{
    const struct list_offsets_response_partition *p = list(c, version, topic, asked, -1);
    assert_code(p->error_code, KERR_NONE);
    assert_int_equal(p->offset, offset);
    assert_int_equal(p->timestamp, timestamp);
    int32_t ours = wire_topic_info(c, topic)->partitions->leader_epoch;
    assert_in_range(p->leader_epoch + 1, 0, version >= 4 && offset >= 0 ? ours + 1 : 0);
}

static void expect_error(struct wire_client *c, int16_t version, const char *topic, int64_t asked,
                         int32_t epoch, int16_t code)
{
    const struct list_offsets_response_partition *p = list(c, version, topic, asked, epoch);
    assert_code(p->error_code, code);
    assert_int_equal(p->offset, -1);
    assert_int_equal(p->timestamp, -1);
    assert_int_equal(p->leader_epoch, -1);
}

/* ---- places */

static void places_are_found_in_every_version(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "places", 1);
    wire_put_good(c, "places", BATCH(c, .count = 5, .timestamp = 1000));
    wire_put_good(c, "places", BATCH(c, .count = 3, .timestamp = 500)); /* older, and later */
    each_version(v, API_LIST_OFFSETS)
    {
        expect_list(c, v, "places", LATEST, 8, -1);
        expect_list(c, v, "places", EARLIEST, 0, -1);
    }
}

static void newer_places_are_unsupported_before_their_version(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "newer-places", 1);
    wire_put_good(c, "newer-places", BATCH(c, .count = 5, .timestamp = 1000));
    wire_put_good(c, "newer-places", BATCH(c, .count = 3, .timestamp = 500));
    static const struct {
        int64_t place;
        int16_t since;
        int64_t offset, timestamp;
    } cases[] = {
        {MAX_TIMESTAMP, 7,         4,  1004},
        {LOCAL,         8,         0,  -1  },
        {TIERED,        9,         -1, -1  },
        {PENDING,       11,        -1, -1  },
        {-7,            INT16_MAX, -1, -1  },
        {INT64_MIN,     INT16_MAX, -1, -1  },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        each_version(v, API_LIST_OFFSETS)
        {
            if (v < cases[i].since) {
                expect_error(c, v, "newer-places", cases[i].place, -1, KERR_UNSUPPORTED_VERSION);
            } else {
                expect_list(c, v, "newer-places", cases[i].place, cases[i].offset,
                            cases[i].timestamp);
            }
        }
    }
}

static void an_empty_log_begins_and_ends_at_zero_and_has_no_times(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "empty", 1);
    each_version(v, API_LIST_OFFSETS)
    {
        expect_list(c, v, "empty", LATEST, 0, -1);
        expect_list(c, v, "empty", EARLIEST, 0, -1);
        expect_list(c, v, "empty", 0, -1, -1);
        expect_list(c, v, "empty", INT64_MAX, -1, -1);
        if (v >= 7) {
            expect_list(c, v, "empty", MAX_TIMESTAMP, -1, -1);
        }
    }
}

/* ---- times */

/* The first record whose timestamp is not below the asked one, exactly, whatever the codec. */
static void a_time_is_found_inside_of_batches_of_every_codec(void **state)
{
    struct wire_client *c = client_of(state);
    for (enum codec codec = CODEC_NONE; codec < CODEC_COUNT; codec++) {
        struct str topic = wire_text(c, "times-%d", codec);
        TOPIC(c, topic.ptr, 1);
        for (int64_t i = 0; i < 10; i++) { /* batches at 1000, 1100, ... of 10 records, 1 ms each */
            wire_put_good(c, topic.ptr,
                          BATCH(c, .count = 10, .timestamp = 1000 + 100 * i, .codec = codec));
        }
        for (int64_t i = 0; i < 10; i++) {
            for (int64_t k = 0; k < 10; k++) {
                expect_list(c, (int16_t)(1 + k), topic.ptr, 1000 + 100 * i + k, 10 * i + k,
                            1000 + 100 * i + k);
            }
            if (i < 9) { /* between two batches */
                expect_list(c, 7, topic.ptr, 1000 + 100 * i + 10, 10 * i + 10,
                            1000 + 100 * (i + 1));
            }
        }
        expect_list(c, 7, topic.ptr, 0, 0, 1000);
        expect_list(c, 7, topic.ptr, 1909, 99, 1909);
        expect_list(c, 7, topic.ptr, 1910, -1, -1);
        expect_list(c, 11, topic.ptr, INT64_MAX, -1, -1);
        expect_list(c, 7, topic.ptr, MAX_TIMESTAMP, 99, 1909);
    }
}

static void times_need_not_rise(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "unordered", 1);
    static const int64_t times[] = {500, 100, 900, 300, 700};
    for (size_t i = 0; i < 5; i++) {
        wire_put_good(c, "unordered", BATCH(c, .timestamp = times[i]));
    }
    expect_list(c, 7, "unordered", 50, 0, 500);
    expect_list(c, 7, "unordered", 500, 0, 500);
    expect_list(c, 7, "unordered", 501, 2, 900);
    expect_list(c, 7, "unordered", 900, 2, 900);
    expect_list(c, 7, "unordered", 901, -1, -1);
    expect_list(c, 7, "unordered", MAX_TIMESTAMP, 2, 900);
}

static void the_first_of_several_largest_timestamps_is_given(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "largest", 1);
    wire_put_good(c, "largest", BATCH(c, .timestamp = 100));
    wire_put_good(c, "largest", BATCH(c, .timestamp = 900));
    wire_put_good(c, "largest", BATCH(c, .timestamp = 900));
    expect_list(c, 7, "largest", MAX_TIMESTAMP, 1, 900);
}

static void broker_times_are_found_too(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "append-time", 1, "message.timestamp.type=LogAppendTime");
    const struct produce_response_partition *p =
        wire_put(c, "append-time", BATCH(c, .count = 3, .timestamp = 10));
    assert_code(p->error_code, KERR_NONE);
    expect_list(c, 7, "append-time", 10, 0, p->log_append_time_ms);
    expect_list(c, 7, "append-time", p->log_append_time_ms, 0, p->log_append_time_ms);
    expect_list(c, 7, "append-time", p->log_append_time_ms + 1, -1, -1);
}

static void times_are_found_over_many_segments_and_after_kill_9(void **state)
{
    struct daemon *d = daemon_of(state);
    struct wire_client *c = client_of(state);
    enum { N = 60 };
    TOPIC(c, "segments", 1, "segment.bytes=1048576", "index.interval.bytes=4096");
    for (int i = 0; i < N; i++) {
        wire_put_good(c, "segments",
                      BATCH(c, .count = 10, .value_size = 9000, .timestamp = 1000 + 1000 * i));
    }
    for (int round = 0; round < 3; round++) {
        struct wire_client *one = wire_connect(d);
        for (int i = 0; i < N; i += 3) {
            expect_list(one, 7, "segments", 1005 + 1000 * i, 10 * i + 5, 1005 + 1000 * i);
            if (i + 1 < N) {
                expect_list(one, 7, "segments", 1500 + 1000 * i, 10 * i + 10, 2000 + 1000 * i);
            }
        }
        expect_list(one, 7, "segments", MAX_TIMESTAMP, 10 * N - 1, 1009 + 1000 * (N - 1));
        wire_close(one);
        if (round == 0) {
            daemon_kill(d);
            daemon_start(d);
        } else {
            daemon_restart(d);
        }
    }
}

/* ---- what is refused */

static void what_is_not_there_is_unknown_and_other_epochs_are_refused(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "refused", 1);
    int32_t ours = wire_topic_info(c, "refused")->partitions->leader_epoch;
    each_version(v, API_LIST_OFFSETS)
    {
        expect_error(c, v, "not-there", LATEST, -1, KERR_UNKNOWN_TOPIC_OR_PARTITION);
        if (v >= 4) {
            assert_code(list(c, v, "refused", LATEST, ours)->error_code, KERR_NONE);
            expect_error(c, v, "refused", LATEST, ours + 1, KERR_UNKNOWN_LEADER_EPOCH);
            if (ours > 0) {
                expect_error(c, v, "refused", LATEST, ours - 1, KERR_FENCED_LEADER_EPOCH);
            }
        }
    }
}

/* ---- OffsetForLeaderEpoch */

static const struct offset_for_leader_epoch_response_partition *epoch_end(
    struct wire_client *c, int16_t version, const char *topic, int32_t partition, int32_t epoch,
    int32_t current)
{
    struct offset_for_leader_epoch_request *q = NEW(c, offset_for_leader_epoch_request);
    q->replica_id = version >= 3 ? -1 : -2;
    q->topics = NEW(c, offset_for_leader_epoch_request_topic);
    q->topics_count = 1;
    q->topics->topic = str_of(topic);
    q->topics->partitions = NEW(c, offset_for_leader_epoch_request_partition);
    q->topics->partitions_count = 1;
    q->topics->partitions->partition = partition;
    q->topics->partitions->leader_epoch = epoch;
    q->topics->partitions->current_leader_epoch = current;
    const struct offset_for_leader_epoch_response *a =
        wire_ask(c, API_OFFSET_FOR_LEADER_EPOCH, version, q);
    assert_int_equal(a->topics_count, 1);
    assert_str(a->topics->topic, topic);
    assert_int_equal(a->topics->partitions->partition, partition);
    return a->topics->partitions;
}

static void expect_epoch(struct wire_client *c, const char *topic, int32_t asked, int32_t epoch,
                         int64_t end)
{
    each_version(v, API_OFFSET_FOR_LEADER_EPOCH)
    {
        const struct offset_for_leader_epoch_response_partition *p =
            epoch_end(c, v, topic, 0, asked, -1);
        assert_code(p->error_code, KERR_NONE);
        assert_int_equal(p->leader_epoch, epoch);
        assert_int_equal(p->end_offset, end);
    }
}

/* Every start of the broker is an epoch; one in which nothing was written leaves no trace. */
static void epochs_end_where_the_next_one_began(void **state)
{
    struct daemon *d = daemon_of(state);
    struct wire_client *c = client_of(state);
    TOPIC(c, "epochs", 1);
    int32_t first = wire_topic_info(c, "epochs")->partitions->leader_epoch;
    wire_put_good(c, "epochs", BATCH(c, .count = 5));
    daemon_kill(d);
    daemon_start(d);
    daemon_restart(d); /* nothing is written in this one */
    c = wire_connect(d);
    int32_t third = wire_topic_info(c, "epochs")->partitions->leader_epoch;
    assert_int_equal(third, first + 2);
    wire_put_good(c, "epochs", BATCH(c, .count = 3));
    for (int round = 0; round < 2; round++) {
        expect_epoch(c, "epochs", -1, -1, -1);
        if (first > 0) { /* nothing is known of it, so all of it was deleted */
            expect_epoch(c, "epochs", first - 1, first - 1, 0);
        }
        expect_epoch(c, "epochs", first, first, 5);
        expect_epoch(c, "epochs", first + 1, first, 5); /* the largest that is not larger */
        expect_epoch(c, "epochs", third, third, 8);
        const struct fetch_response_partition *p =
            wire_fetch(c, (struct wire_fetch){.topic = "epochs", .offset = 5});
        assert_int_equal(get_be32(p->records.ptr + BATCH_PREFIX_SIZE), third);
        const struct list_offsets_response_partition *o = list(c, 7, "epochs", EARLIEST, -1);
        assert_int_equal(o->leader_epoch, first);
        wire_close(c);
        daemon_restart(d);
        c = wire_connect(d);
    }
    wire_close(c);
}

static void epochs_that_nobody_had_yet_and_unknown_partitions_have_no_end(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "no-end", 1);
    int32_t ours = wire_topic_info(c, "no-end")->partitions->leader_epoch;
    wire_put_good(c, "no-end", BATCH(c, .count = 2));
    each_version(v, API_OFFSET_FOR_LEADER_EPOCH)
    {
        const struct offset_for_leader_epoch_response_partition *p =
            epoch_end(c, v, "no-end", 0, ours + 1, -1);
        assert_code(p->error_code, KERR_NONE);
        assert_int_equal(p->leader_epoch, -1);
        assert_int_equal(p->end_offset, -1);
        p = epoch_end(c, v, "no-end", 1, ours, -1);
        assert_code(p->error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
        assert_int_equal(p->end_offset, -1);
        p = epoch_end(c, v, "not-there", 0, ours, -1);
        assert_code(p->error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
        p = epoch_end(c, v, "no-end", 0, ours, ours + 1);
        assert_code(p->error_code, KERR_UNKNOWN_LEADER_EPOCH);
        p = epoch_end(c, v, "no-end", 0, ours, ours);
        assert_code(p->error_code, KERR_NONE);
        if (ours > 0) {
            p = epoch_end(c, v, "no-end", 0, ours, ours - 1);
            assert_code(p->error_code, KERR_FENCED_LEADER_EPOCH);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        wire_test(epochs_end_where_the_next_one_began), /* first: raises the epoch */
        wire_test(places_are_found_in_every_version),
        wire_test(newer_places_are_unsupported_before_their_version),
        wire_test(an_empty_log_begins_and_ends_at_zero_and_has_no_times),
        wire_test(a_time_is_found_inside_of_batches_of_every_codec),
        wire_test(times_need_not_rise),
        wire_test(the_first_of_several_largest_timestamps_is_given),
        wire_test(broker_times_are_found_too),
        wire_test(times_are_found_over_many_segments_and_after_kill_9),
        wire_test(what_is_not_there_is_unknown_and_other_epochs_are_refused),
        wire_test(epochs_that_nobody_had_yet_and_unknown_partitions_have_no_end),
    };
    return cmocka_run_group_tests(tests, setup, wire_fixture_destroy);
}

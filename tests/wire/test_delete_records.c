/* DeleteRecords: what is deleted is gone for everybody, and stays gone. */
#include "gen/delete_records.h"
#include "gen/list_offsets.h"
#include "tests/kit/wire_group.h"
#include "tests/kit/wire_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <unistd.h>

static int setup(void **state)
{
    return wire_fixture_create(state, NULL);
}

static struct delete_records_request *deletion(struct wire_client *c, const char *topic,
                                               int32_t partition, int64_t offset)
{
    struct delete_records_request *q = NEW(c, delete_records_request);
    q->timeout_ms = 60000;
    q->topics = NEW(c, delete_records_request_topic);
    q->topics_count = 1;
    q->topics->name = str_of(topic);
    q->topics->partitions = NEW(c, delete_records_request_partition);
    q->topics->partitions_count = 1;
    q->topics->partitions->partition_index = partition;
    q->topics->partitions->offset = offset;
    return q;
}

static const struct delete_records_response_partition *delete_to(struct wire_client *c,
                                                                 int16_t version, const char *topic,
                                                                 int32_t partition, int64_t offset)
{
    const struct delete_records_response *a =
        wire_ask(c, API_DELETE_RECORDS, version, deletion(c, topic, partition, offset));
    assert_int_equal(a->topics_count, 1);
    assert_str(a->topics->name, topic);
    assert_int_equal(a->topics->partitions_count, 1);
    assert_int_equal(a->topics->partitions->partition_index, partition);
    return a->topics->partitions;
}

static void expect_deleted(struct wire_client *c, int16_t version, const char *topic,
                           int64_t offset, int64_t low_watermark)
{
    const struct delete_records_response_partition *p = delete_to(c, version, topic, 0, offset);
    assert_code(p->error_code, KERR_NONE);
    assert_int_equal(p->low_watermark, low_watermark);
}

static void expect_refused(struct wire_client *c, const char *topic, int32_t partition,
                           int64_t offset, int16_t code)
{
    each_version(v, API_DELETE_RECORDS)
    {
        const struct delete_records_response_partition *p =
            delete_to(c, v, topic, partition, offset);
        assert_code(p->error_code, code);
        assert_int_equal(p->low_watermark, -1);
    }
}

static int64_t place(struct wire_client *c, const char *topic, int64_t timestamp)
{
    struct list_offsets_request *q = NEW(c, list_offsets_request);
    q->replica_id = -1;
    q->topics = NEW(c, list_offsets_request_topic);
    q->topics_count = 1;
    q->topics->name = str_of(topic);
    q->topics->partitions = NEW(c, list_offsets_request_partition);
    q->topics->partitions_count = 1;
    q->topics->partitions->timestamp = timestamp;
    const struct list_offsets_response *a = wire_ask(c, API_LIST_OFFSETS, 7, q);
    assert_code(a->topics->partitions->error_code, KERR_NONE);
    return a->topics->partitions->offset;
}

static int16_t fetch_code(struct wire_client *c, const char *topic, int64_t offset)
{
    const struct fetch_response_partition *f =
        wire_fetch(c, (struct wire_fetch){.topic = topic, .offset = offset});
    return f->error_code;
}

static void everything_follows_the_new_start(void **state)
{
    struct wire_client *c = client_of(state);
    each_version(v, API_DELETE_RECORDS)
    {
        const char *name = wire_text(c, "follows-%d", v).ptr;
        TOPIC(c, name, 1);
        wire_put_good(c, name, BATCH(c, .count = 5, .timestamp = 9000)); /* the newest times */
        wire_put_good(c, name, BATCH(c, .count = 5, .timestamp = 1000));
        expect_deleted(c, v, name, 7, 7); /* inside of a batch */
        assert_int_equal(place(c, name, -2), 7);
        assert_int_equal(place(c, name, -1), 10);
        assert_int_equal(place(c, name, 0), 7);     /* the first record of any time */
        assert_int_equal(place(c, name, 9000), -1); /* those are gone */
        assert_int_equal(place(c, name, -3), 9);    /* so the newest is another */
        assert_code(fetch_code(c, name, 6), KERR_OFFSET_OUT_OF_RANGE);
        assert_code(fetch_code(c, name, 0), KERR_OFFSET_OUT_OF_RANGE);
        const struct fetch_response_partition *f =
            wire_fetch(c, (struct wire_fetch){.topic = name, .offset = 7});
        assert_code(f->error_code, KERR_NONE);
        assert_int_equal(f->log_start_offset, 7);
        assert_int_equal(wire_put_good(c, name, BATCH(c, .count = 1)), 10);
    }
}

static void minus_one_deletes_up_to_the_high_watermark(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "all", 1);
    expect_deleted(c, 2, "all", -1, 0); /* of nothing */
    wire_put_good(c, "all", BATCH(c, .count = 5));
    expect_deleted(c, 2, "all", -1, 5);
    assert_int_equal(place(c, "all", -2), 5);
    assert_int_equal(place(c, "all", -3), -1);
    assert_code(fetch_code(c, "all", 5), KERR_NONE);
    assert_code(fetch_code(c, "all", 4), KERR_OFFSET_OUT_OF_RANGE);
    assert_int_equal(wire_put_good(c, "all", BATCH(c, .count = 1)), 5);
    assert_int_equal(wire_read(c, "all", 0, 5).count, 1);
}

static void a_retry_or_less_than_before_answers_where_the_start_is(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "again", 1);
    wire_put_good(c, "again", BATCH(c, .count = 10));
    each_version(v, API_DELETE_RECORDS)
    {
        expect_deleted(c, v, "again", 6, 6);
        expect_deleted(c, v, "again", 6, 6);
        expect_deleted(c, v, "again", 2, 6);
        expect_deleted(c, v, "again", 0, 6);
    }
}

static void what_cannot_be_deleted_is_refused(void **state)
{
    struct wire_client *c = client_of(state);
    TOPIC(c, "kept", 2);
    wire_put_good(c, "kept", BATCH(c, .count = 3));
    expect_refused(c, "kept", 0, 4, KERR_OFFSET_OUT_OF_RANGE);
    expect_refused(c, "kept", 0, INT64_MAX, KERR_OFFSET_OUT_OF_RANGE);
    expect_refused(c, "kept", 0, -2, KERR_OFFSET_OUT_OF_RANGE);
    expect_refused(c, "kept", 2, 0, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    expect_refused(c, "kept", -1, 0, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    expect_refused(c, "nobody-made-it", 0, 0, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    assert_code(wire_commit(c, (struct commit){.group = "g", .topic = "kept", .offset = 1}),
                KERR_NONE); /* which makes __consumer_offsets */
    expect_refused(c, "__consumer_offsets", 0, -1, KERR_INVALID_TOPIC_EXCEPTION);
    assert_int_equal(place(c, "kept", -2), 0);
}

static void each_partition_of_a_request_has_its_own_result(void **state)
{
    struct wire_client *c = client_of(state);
    static const int32_t partitions[] = {0, 1, 9, 1};
    static const int64_t offsets[] = {2, 3, 1, 99};
    static const int16_t codes[] = {KERR_NONE, KERR_NONE, KERR_UNKNOWN_TOPIC_OR_PARTITION,
                                    KERR_OFFSET_OUT_OF_RANGE};
    TOPIC(c, "many", 2);
    for (int32_t p = 0; p < 2; p++) {
        wire_produce(
            c, (struct wire_produce){
                   .acks = -1, .topic = "many", .partition = p, .records = BATCH(c, .count = 5)});
    }
    struct delete_records_request *q = deletion(c, "many", 0, 0);
    q->topics->partitions = NEWS(c, delete_records_request_partition, 4);
    q->topics->partitions_count = 4;
    for (int i = 0; i < 4; i++) {
        q->topics->partitions[i].partition_index = partitions[i];
        q->topics->partitions[i].offset = offsets[i];
    }
    const struct delete_records_response *a = wire_ask(c, API_DELETE_RECORDS, 2, q);
    assert_int_equal(a->topics->partitions_count, 4);
    for (int i = 0; i < 4; i++) {
        assert_code(a->topics->partitions[i].error_code, codes[i]);
        assert_int_equal(a->topics->partitions[i].low_watermark,
                         codes[i] == KERR_NONE ? offsets[i] : -1);
    }
    q->topics_count = 0;
    a = wire_ask(c, API_DELETE_RECORDS, 2, q);
    assert_int_equal(a->topics_count, 0);
}

/* One that waits for records at the end waits on; one that is overtaken is told. */
static void a_parked_fetch_is_told_when_its_place_is_deleted(void **state)
{
    struct wire_client *c = client_of(state);
    struct wire_client *reader = wire_connect(daemon_of(state));
    TOPIC(c, "parked", 1);
    wire_put_good(c, "parked", BATCH(c, .count = 3));
    const struct wire_fetch f = {
        .topic = "parked", .offset = 2, .min_bytes = 1 << 20, .max_wait_ms = 60000, .version = 12};
    int32_t id = wire_request(reader, API_FETCH, 12, wire_fetch_request(reader, &f));
    expect_deleted(c, 2, "parked", 3, 3);
    const struct fetch_response *a = wire_answer(reader, API_FETCH, 12, id);
    assert_code(a->topics->partitions->error_code, KERR_OFFSET_OUT_OF_RANGE);
    wire_close(reader);
}

static int segments_of(struct daemon *d, const char *dir, int64_t end)
{
    int count = 0;
    for (int64_t base = 0; base <= end; base++) {
        char path[DAEMON_DATA_SIZE + 300];
        snprintf(path, sizeof path, "%s/%s/%020lld.log", d->data, dir, (long long)base);
        count += access(path, F_OK) == 0;
    }
    return count;
}

static void segments_below_are_removed_and_the_start_outlives_a_kill(void **state)
{
    struct daemon *d = daemon_of(state);
    struct wire_client *c = client_of(state);
    TOPIC(c, "files", 1, "segment.bytes=1048576");
    for (int i = 0; i < 8; i++) {
        wire_put_good(c, "files", BATCH(c, .value_size = 500000));
    }
    assert_int_equal(segments_of(d, "files-0", 8), 4);
    expect_deleted(c, 2, "files", 5, 5);
    daemon_kill(d); /* the answer was durable; the files go now, or after a start */
    daemon_start(d);
    struct wire_client *again = wire_connect(d);
    assert_int_equal(place(again, "files", -2), 5);
    assert_int_equal(place(again, "files", -1), 8);
    assert_int_equal(wire_read(again, "files", 0, 5).count, 3);
    expect_deleted(again, 2, "files", -1, 8);
    for (int asked = 0; segments_of(d, "files-0", 8) > 1; asked++) { /* behind the answer */
        assert_true(asked < 1000000);
        assert_int_equal(place(again, "files", -2), 8);
        wire_forget(again);
    }
    assert_int_equal(daemon_stop(d), 0);
    assert_int_equal(segments_of(d, "files-0", 8), 1);
    daemon_start(d);
    wire_close(again);
    again = wire_connect(d);
    assert_int_equal(place(again, "files", -2), 8);
    assert_int_equal(wire_put_good(again, "files", BATCH(again, .count = 1)), 8);
    wire_close(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        wire_test(everything_follows_the_new_start),
        wire_test(minus_one_deletes_up_to_the_high_watermark),
        wire_test(a_retry_or_less_than_before_answers_where_the_start_is),
        wire_test(what_cannot_be_deleted_is_refused),
        wire_test(each_partition_of_a_request_has_its_own_result),
        wire_test(a_parked_fetch_is_told_when_its_place_is_deleted),
        wire_test(segments_below_are_removed_and_the_start_outlives_a_kill),
    };
    return cmocka_run_group_tests(tests, setup, wire_fixture_destroy);
}

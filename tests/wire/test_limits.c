/* Limits that are rows of broker/config.def, each at its value and one past it, as a client sees
 * them. (Connections, memory, stalls: test_hostile.c. Frames: test_framing.c. Batches as they come:
 * test_produce.c. Group size and session timeouts: test_groups.c. Open files: test_daemon.c.) */
#include "gen/describe_topic_partitions.h"
#include "gen/offset_fetch.h"
#include "tests/kit/logfmt.h"
#include "tests/kit/wire_group.h"
#include "tests/kit/wire_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* `size` letters, for as long as answers live. */
static char *letters(struct wire_client *c, size_t size)
{
    char *p = (char *)(uintptr_t)wire_text(c, "%*s", (int)size, "").ptr;
    memset(p, 'm', size);
    return p;
}

static void end(struct wire_client *c, struct daemon *d)
{
    wire_close(c);
    assert_logfmt(daemon_log(d));
    daemon_destroy(d);
}

static int16_t create(struct wire_client *c, const char *name, int32_t partitions)
{
    struct create_topics_request *q = NEW(c, create_topics_request);
    q->topics = NEWS(c, create_topics_request_topic, 1);
    q->topics_count = 1;
    q->timeout_ms = 60000;
    q->topics[0].name = str_of(name);
    q->topics[0].num_partitions = partitions;
    q->topics[0].replication_factor = -1;
    const struct create_topics_response *a = wire_ask(c, API_CREATE_TOPICS, 7, q);
    return a->topics[0].error_code;
}

/* ---- topics */

static void one_topic_more_is_refused(void **state)
{
    (void)state;
    struct daemon *d = DAEMON("rivulet.topics.max=3");
    struct wire_client *c = wire_connect(d);
    assert_code(create(c, "a", 1), KERR_NONE);
    assert_code(create(c, "b", 1), KERR_NONE);
    assert_code(create(c, "c", 1), KERR_NONE);
    assert_code(create(c, "d", 1), KERR_POLICY_VIOLATION);
    assert_code(wire_topic_info(c, "d")->error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    assert_int_equal(wire_put_good(c, "c", BATCH(c, .count = 1)), 0);
    end(c, d);
}

static void one_partition_more_is_refused(void **state)
{
    (void)state;
    struct daemon *d = DAEMON("rivulet.partitions.max=10");
    struct wire_client *c = wire_connect(d);
    assert_code(create(c, "a", 4), KERR_NONE);
    assert_code(create(c, "b", 7), KERR_POLICY_VIOLATION);
    assert_code(create(c, "b", 6), KERR_NONE);
    assert_code(create(c, "c", 1), KERR_POLICY_VIOLATION);
    end(c, d);
}

static void a_topic_name_may_have_249_bytes(void **state)
{
    (void)state;
    struct daemon *d = DAEMON();
    struct wire_client *c = wire_connect(d);
    char name[251];
    memset(name, 'n', 250);
    name[250] = 0;
    assert_code(create(c, name, 1), KERR_INVALID_TOPIC_EXCEPTION);
    name[249] = 0;
    assert_code(create(c, name, 1), KERR_NONE);
    assert_int_equal(wire_put_good(c, name, BATCH(c, .count = 1)), 0);
    assert_int_equal(wire_read(c, name, 0, 0).count, 1);
    end(c, d);
}

/* ---- requests */

/* Metadata of `count` topics that there are not. */
static struct bytes many_names(struct wire_client *c, int32_t count)
{
    struct metadata_request *q = NEW(c, metadata_request);
    q->topics = NEWS(c, metadata_request_topic, count);
    q->topics_count = count;
    for (int32_t i = 0; i < count; i++) {
        q->topics[i].name = wire_text(c, "t%d", i);
    }
    return wire_frame(c, API_METADATA, 12, q);
}

static void one_element_more_in_an_array_closes_the_connection(void **state)
{
    (void)state;
    struct daemon *d = DAEMON("rivulet.request.array.max=50", "auto.create.topics.enable=false");
    struct wire_client *c = wire_connect(d);
    struct bytes frame = many_names(c, 50);
    wire_send(c, frame.ptr, frame.len);
    const struct metadata_response *a = wire_answer(c, API_METADATA, 12, c->correlation_id);
    assert_int_equal(a->topics_count, 50);
    struct wire_client *bad = wire_connect(d);
    frame = many_names(bad, 51);
    wire_send(bad, frame.ptr, frame.len);
    wire_expect_close(bad);
    daemon_await_log(d, "(rivulet.request.array.max)");
    wire_close(bad);
    assert_code(create(c, "still", 1), KERR_NONE);
    end(c, d);
}

/* Metadata of one topic with a long name; `size` bytes without the frame's own size. */
static struct bytes frame_of_name(struct wire_client *c, size_t size)
{
    struct metadata_request *q = NEW(c, metadata_request);
    q->topics = NEW(c, metadata_request_topic);
    q->topics_count = 1;
    q->topics->name = STR("");
    size_t len = size + 4 - wire_frame(c, API_METADATA, 8, q).len;
    char *name = wire_room(c, len, 1);
    memset(name, 'n', len);
    q->topics->name = (struct str){name, len};
    return wire_frame(c, API_METADATA, 8, q);
}

static void one_byte_more_of_a_request_that_is_no_produce_closes_the_connection(void **state)
{
    (void)state;
    enum { LIMIT = 20000 };
    struct daemon *d =
        DAEMON("rivulet.request.other.max.bytes=20000", "auto.create.topics.enable=false");
    struct wire_client *c = wire_connect(d);
    struct bytes frame = frame_of_name(c, LIMIT);
    assert_int_equal(frame.len, LIMIT + 4);
    wire_send(c, frame.ptr, frame.len);
    const struct metadata_response *a = wire_answer(c, API_METADATA, 8, c->correlation_id);
    assert_int_equal(a->topics_count, 1);
    struct wire_client *bad = wire_connect(d);
    frame = frame_of_name(bad, LIMIT + 1);
    wire_send(bad, frame.ptr, frame.len);
    wire_expect_close(bad);
    daemon_await_log(d, "(rivulet.request.other.max.bytes)");
    wire_close(bad);
    TOPIC(c, "t", 1);
    assert_int_equal(wire_put_good(c, "t", BATCH(c, .value_size = 2 * LIMIT)), 0);
    end(c, d);
}

/* The least that the row allows is 64 KiB: some hundred topics are within, thousands are not. */
static void a_request_that_takes_more_memory_closes_its_connection(void **state)
{
    (void)state;
    struct daemon *d =
        DAEMON("rivulet.request.memory.max.bytes=65536", "auto.create.topics.enable=false");
    struct wire_client *c = wire_connect(d);
    struct bytes frame = many_names(c, 100);
    wire_send(c, frame.ptr, frame.len);
    const struct metadata_response *a = wire_answer(c, API_METADATA, 12, c->correlation_id);
    assert_int_equal(a->topics_count, 100);
    struct wire_client *bad = wire_connect(d);
    wire_room(bad, 20000, 64);
    frame = many_names(bad, 10000);
    wire_send(bad, frame.ptr, frame.len);
    wire_expect_close(bad);
    daemon_await_log(d, "(rivulet.request.memory.max.bytes)");
    wire_close(bad);
    assert_code(create(c, "still", 1), KERR_NONE);
    end(c, d);
}

static int32_t described(struct wire_client *c, int32_t limit)
{
    struct describe_topic_partitions_request *q = NEW(c, describe_topic_partitions_request);
    q->topics = NEWS(c, describe_topic_partitions_request_topic, 1);
    q->topics_count = 1;
    q->topics[0].name = STR("t");
    q->response_partition_limit = limit;
    const struct describe_topic_partitions_response *a =
        wire_ask(c, API_DESCRIBE_TOPIC_PARTITIONS, 0, q);
    return a->topics[0].partitions_count;
}

static void an_answer_describes_no_more_partitions_than_it_may(void **state)
{
    (void)state;
    struct daemon *d = DAEMON("max.request.partition.size.limit=5");
    struct wire_client *c = wire_connect(d);
    assert_code(create(c, "t", 8), KERR_NONE);
    assert_int_equal(described(c, 4), 4);
    assert_int_equal(described(c, 5), 5);
    assert_int_equal(described(c, 6), 5);
    end(c, d);
}

/* ---- batches that decompress to more */

static size_t inflated_size(struct wire_client *c, size_t value_size)
{
    return BATCH(c, .value_size = value_size).len - BATCH_HEADER_SIZE;
}

static struct daemon *daemon_with(struct wire_client *c, const char *setting, size_t value)
{
    return DAEMON(wire_text(c, "%s=%zu", setting, value).ptr);
}

static void expect_put(struct daemon *d, struct bytes batch, int16_t code)
{
    struct wire_client *c = wire_connect(d);
    TOPIC(c, "t", 1);
    assert_code(wire_put(c, "t", batch)->error_code, code);
    assert_int_equal(wire_end_offset(c, "t", 0), code ? 0 : 1);
    end(c, d);
}

static void one_inflated_byte_more_is_refused(void **state)
{
    (void)state;
    struct daemon *any = DAEMON();
    struct wire_client *c = wire_connect(any);
    for (enum codec codec = CODEC_GZIP; codec < CODEC_COUNT; codec++) {
        struct bytes b = BATCH(c, .value_size = 20000, .codec = codec);
        size_t size = inflated_size(c, 20000);
        expect_put(daemon_with(c, "rivulet.batch.inflated.max.bytes", size), b, KERR_NONE);
        expect_put(daemon_with(c, "rivulet.batch.inflated.max.bytes", size - 1), b,
                   KERR_MESSAGE_TOO_LARGE);
    }
    end(c, any);
}

/* Two MiB of one letter; what every batch may have is one. */
static void a_batch_that_inflates_too_many_times_is_refused(void **state)
{
    (void)state;
    struct daemon *any = DAEMON();
    struct wire_client *c = wire_connect(any);
    struct bytes b = BATCH(c, .value_size = 2 << 20, .codec = CODEC_GZIP);
    size_t ratio = (inflated_size(c, 2 << 20) + b.len - 1) / b.len;
    assert_true(ratio > 100);
    expect_put(daemon_with(c, "rivulet.batch.inflated.ratio.max", ratio), b, KERR_NONE);
    expect_put(daemon_with(c, "rivulet.batch.inflated.ratio.max", ratio - 1), b,
               KERR_MESSAGE_TOO_LARGE);
    struct bytes small = BATCH(c, .value_size = 1000000, .codec = CODEC_GZIP);
    expect_put(daemon_with(c, "rivulet.batch.inflated.ratio.max", 1), small, KERR_NONE);
    end(c, any);
}

/* ---- groups */

static int16_t commit(struct wire_client *c, const char *group, size_t metadata_size)
{
    char *metadata = letters(c, metadata_size);
    return wire_commit(
        c, (struct commit){.group = group, .topic = "t", .offset = 1, .metadata = metadata});
}

static void one_group_more_is_refused_and_those_that_are_there_go_on(void **state)
{
    (void)state;
    struct daemon *d = DAEMON("rivulet.groups.max=2");
    struct wire_client *c = wire_connect(d);
    TOPIC(c, "t", 1);
    assert_code(commit(c, "a", 0), KERR_NONE);
    struct member m = member_of(c, "b");
    member_become_stable(&m);
    assert_code(commit(c, "c", 0), KERR_COORDINATOR_NOT_AVAILABLE);
    struct member more = member_of(c, "d");
    more.join_version = 3; /* in one step */
    assert_code(member_join(&more)->error_code, KERR_COORDINATOR_NOT_AVAILABLE);
    assert_code(commit(c, "a", 0), KERR_NONE);
    assert_code(member_heartbeat(&m), KERR_NONE);
    end(c, d);
}

/* What clients are told; the bytes themselves are counted in test_coord.c. */
static void groups_that_take_all_their_memory_go_on_and_no_more_comes(void **state)
{
    (void)state;
    enum { MANY = 100 };
    struct daemon *d = DAEMON("rivulet.groups.memory.max.bytes=8192");
    struct wire_client *c = wire_connect(d);
    TOPIC(c, "t", 1);
    struct member m = member_of(c, "b");
    member_become_stable(&m);
    assert_code(commit(c, "a", 100), KERR_NONE);
    int full = 0;
    while (commit(c, wire_text(c, "group-%d", full).ptr, 100) == KERR_NONE) {
        full++;
        assert_true(full < MANY);
    }
    assert_true(full > 1);
    assert_code(commit(c, "one-more", 100), KERR_COORDINATOR_NOT_AVAILABLE);
    struct member more = member_of(c, "b");
    more.metadata = letters(c, 1000);
    more.join_version = 3; /* in one step */
    assert_code(member_join(&more)->error_code, KERR_GROUP_MAX_SIZE_REACHED);
    daemon_await_log(d, "limit=rivulet.groups.memory.max.bytes");
    assert_code(commit(c, "a", 100), KERR_NONE);
    assert_code(member_heartbeat(&m), KERR_NONE);
    end(c, d);
}

static void one_byte_more_with_an_offset_is_refused(void **state)
{
    (void)state;
    struct daemon *d = DAEMON("offset.metadata.max.bytes=100");
    struct wire_client *c = wire_connect(d);
    TOPIC(c, "t", 1);
    assert_code(commit(c, "g", 100), KERR_NONE);
    assert_code(commit(c, "g", 101), KERR_OFFSET_METADATA_TOO_LARGE);
    assert_int_equal(wire_committed_whole(c, "g", "t", 0)->metadata.len, 100);
    end(c, d);
}

/* "range" and its metadata. */
static void one_byte_more_of_a_member_is_refused(void **state)
{
    (void)state;
    struct daemon *d = DAEMON("rivulet.group.member.max.bytes=105");
    struct wire_client *c = wire_connect(d);
    struct member m = member_of(c, "g");
    m.metadata = letters(c, 101);
    m.join_version = 3;
    assert_code(member_join(&m)->error_code, KERR_UNKNOWN_SERVER_ERROR);
    daemon_await_log(d, "limit=rivulet.group.member.max.bytes");
    m.metadata = letters(c, 100);
    assert_code(member_join(&m)->error_code, KERR_NONE);
    end(c, d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_topic_more_is_refused),
        cmocka_unit_test(one_partition_more_is_refused),
        cmocka_unit_test(a_topic_name_may_have_249_bytes),
        cmocka_unit_test(one_element_more_in_an_array_closes_the_connection),
        cmocka_unit_test(one_byte_more_of_a_request_that_is_no_produce_closes_the_connection),
        cmocka_unit_test(a_request_that_takes_more_memory_closes_its_connection),
        cmocka_unit_test(an_answer_describes_no_more_partitions_than_it_may),
        cmocka_unit_test(one_inflated_byte_more_is_refused),
        cmocka_unit_test(a_batch_that_inflates_too_many_times_is_refused),
        cmocka_unit_test(one_group_more_is_refused_and_those_that_are_there_go_on),
        cmocka_unit_test(groups_that_take_all_their_memory_go_on_and_no_more_comes),
        cmocka_unit_test(one_byte_more_with_an_offset_is_refused),
        cmocka_unit_test(one_byte_more_of_a_member_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Every allocation of the client fails in turn while it reads: each call that says RV_E_MEMORY
 * works when it is made again, no record is lost or comes twice, and nothing leaks. The broker is
 * in a process of its own, where nothing fails. */
#include "base/clock.h"
#include "tests/kit/child_home.h"
#include "tests/kit/failing_mem.h"
#include "tests/kit/feed.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { PATIENCE_MS = 30000, PARTITIONS = 2, BATCHES = 5, EACH = 4 };

/* ---- calls that are made again ---- */

static int64_t until;

static bool again(int code, const struct rv_error *e)
{
    if (code == RV_OK) {
        return false;
    }
    if (code != RV_E_MEMORY) {
        fail_msg("%s: %s", rv_error_name(code), e->text);
    }
    if (clock_mono_ms(&clock_real) > until) {
        fail_msg("out of memory for ever");
    }
    return true;
}

static struct rv_client *client_open(const struct child_home *broker)
{
    struct rv_error e;
    struct rv_client *client = NULL;
    const struct rv_option *options =
        RV_OPTIONS({"bootstrap.servers", broker->address}, {"retry.backoff.ms", "1"},
                   {"retry.backoff.max.ms", "4"}, {"reconnect.backoff.ms", "1"},
                   {"reconnect.backoff.max.ms", "4"});
    while (again(rv_client_open(options, &client, &e), &e)) {
        assert_null(client);
    }
    return client;
}

static struct rv_consumer *consumer_open(struct rv_client *client, const char *group)
{
    struct rv_error e;
    struct rv_consumer *c = NULL;
    const struct rv_option *options = RV_OPTIONS(
        {"group.id", group}, {"auto.offset.reset", "earliest"}, {"max.poll.records", "7"},
        {"partition.assignment.strategy", "cooperative-sticky"}, {"fetch.max.wait.ms", "10"},
        {"delivery", group[0] ? "at-least-once" : "manual"});
    while (again(rv_consumer_open(client, options, &c, &e), &e)) {
        assert_null(c);
    }
    return c;
}

/* All of both partitions, each once and in order. */
static void read_all(struct rv_consumer *c)
{
    struct rv_error e;
    int next[PARTITIONS] = {0};
    for (int total = 0; total < PARTITIONS * BATCHES * EACH;) {
        const struct rv_record *records;
        size_t count = 0;
        again(rv_poll(c, 100, &records, &count, &e), &e);
        for (size_t i = 0; i < count; i++, total++) {
            char text[16];
            const struct rv_record *r = &records[i];
            assert_int_equal(r->offset, next[r->partition]++);
            snprintf(text, sizeof text, "%d", (int)r->offset);
            assert_int_equal(r->value.size, strlen(text));
            assert_memory_equal(r->value.ptr, text, r->value.size);
            assert_int_equal(r->header_count, 1);
            assert_memory_equal(r->headers[0].value.ptr, "v", 1);
        }
        if (count == 0 && clock_mono_ms(&clock_real) > until) {
            fail_msg("%d of the records came", total);
        }
    }
}

static void feed_topic(const struct child_home *broker)
{
    struct rv_error e;
    struct rv_client *client = client_open(broker);
    const struct record_header header = {
        STR("h"), {(const uint8_t *)"v", 1}
    };
    assert_int_equal(rv_topic_create(client, "t", PARTITIONS, NULL, PATIENCE_MS, &e), RV_OK);
    for (int p = 0; p < PARTITIONS; p++) {
        for (int b = 0; b < BATCHES; b++) {
            struct feed_record records[EACH];
            char texts[EACH][16];
            for (int i = 0; i < EACH; i++) {
                snprintf(texts[i], sizeof texts[i], "%d", b * EACH + i);
                records[i] = (struct feed_record){
                    .value = texts[i], .timestamp_ms = 1, .headers = &header, .header_count = 1};
            }
            feed(client, "t", p, (enum codec)b, records, EACH);
        }
    }
    rv_client_close(client);
}

/* ---- what is swept ---- */

static void assigned(const struct child_home *broker, long k)
{
    struct rv_error e;
    const struct rv_partition both[PARTITIONS] = {
        {.topic = "t", .partition = 0, .offset = RV_START},
        {.topic = "t", .partition = 1, .offset = RV_START},
    };
    (void)k;
    struct rv_client *client = client_open(broker);
    struct rv_consumer *c = consumer_open(client, "");
    while (again(rv_assign(c, both, PARTITIONS, &e), &e)) {
    }
    read_all(c);
    while (again(rv_consumer_close(c, PATIENCE_MS, &e), &e)) {
    }
    rv_client_close(client);
}

static void as_a_member(const struct child_home *broker, long k)
{
    struct rv_error e;
    char group[32];
    const char *topic = "t";
    snprintf(group, sizeof group, "g%ld", k);
    struct rv_client *client = client_open(broker);
    struct rv_consumer *c = consumer_open(client, group);
    while (again(rv_subscribe(c, &topic, 1, &e), &e)) {
    }
    read_all(c);
    while (again(rv_commit(c, NULL, 0, &e), &e)) {
    }
    int code = rv_consumer_close(c, PATIENCE_MS, &e);
    assert_true(code == RV_OK || code == RV_E_MEMORY); /* it is closed all the same */
    rv_client_close(client);
}

static void sweep(const struct child_home *broker,
                  void (*scenario)(const struct child_home *, long))
{
    long alive = mem_alive();
    for (long k = 0;; k++) {
        until = clock_mono_ms(&clock_real) + PATIENCE_MS;
        mem_fail_at(k);
        scenario(broker, k);
        bool was_hit = mem_asked() > k;
        mem_fail_at(-1);
        if (mem_alive() != alive) {
            fail_msg("allocation %ld failed: %ld blocks leaked", k, mem_alive() - alive);
        }
        if (!was_hit) {
            printf("%ld allocations\n", k);
            return;
        }
    }
}

static void assigned_partitions_are_read_whichever_allocation_fails(void **state)
{
    feed_topic(*state);
    sweep(*state, assigned);
}

static void a_member_reads_whichever_allocation_fails(void **state)
{
    sweep(*state, as_a_member);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(assigned_partitions_are_read_whichever_allocation_fails),
        cmocka_unit_test(a_member_reads_whichever_allocation_fails),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, child_home_start, child_home_stop);
}

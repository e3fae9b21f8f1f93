/* Every allocation fails in turn while sealed batches are sent: what says that there is no memory
 * works when it is made again, a batch that was not sent is not said to be, each is in the log
 * once, and nothing leaks. The broker is in a process of its own, where nothing fails. */
#include "base/clock.h"
#include "client/sealed/sealed.h"
#include "protocol/batch.h"
#include "tests/kit/child_home.h"
#include "tests/kit/failing_mem.h"
#include "tests/kit/raw_log.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { PATIENCE_MS = 30000, PARTITIONS = 3, LEAST = 30 };

static int64_t until;

/* True: there was no memory, so again. (An answer that there was no memory for ends its connection.)
 */
static bool again(int code, const struct rv_error *e)
{
    if (code == RV_OK) {
        return false;
    }
    if (code != RV_E_MEMORY && !strstr(e->text, "out of memory")) {
        fail_msg("%d: %s", code, e->text);
    }
    if (clock_mono_ms(&clock_real) > until) {
        fail_msg("out of memory for ever");
    }
    return true;
}

/* The test's own memory: two records. */
static struct buf batch_bytes(int64_t id, int16_t epoch)
{
    struct batch_builder b;
    struct batch_seal seal = batch_seal_plain;
    struct buf bytes = {0};
    const struct bytes value = {(const uint8_t *)"v", 1};
    batch_builder_init(&b);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(batch_builder_add(&b, 1000, (struct bytes){0}, value, NULL, 0), OK);
    }
    seal.producer_id = id;
    seal.producer_epoch = epoch;
    seal.base_sequence = 0;
    assert_int_equal(batch_builder_seal(&b, &seal, &bytes), OK);
    batch_builder_finish(&b);
    return bytes;
}

/* One of them is looked for before. Whatever became of it, it is sent again as it was left. */
static void send_all(struct sealed *s, const char *topic, int64_t id, int16_t epoch,
                     const struct buf *bytes)
{
    struct sealed_batch batches[PARTITIONS];
    struct rv_error e = {0};
    int stored = 0;
    for (int32_t i = 0; i < PARTITIONS; i++) {
        batches[i] = (struct sealed_batch){.topic = topic,
                                           .partition = i,
                                           .producer_id = id,
                                           .producer_epoch = epoch,
                                           .count = 2,
                                           .bytes = bytes->ptr,
                                           .size = bytes->len,
                                           .unsure = i == 1};
    }
    while (stored < PARTITIONS) {
        struct sealed_batch left[PARTITIONS];
        int places[PARTITIONS], count = 0;
        for (int i = 0; i < PARTITIONS; i++) {
            if (batches[i].fate != SEALED_STORED) {
                places[count] = i;
                left[count++] = batches[i];
            }
        }
        again(sealed_send(s, left, (size_t)count, PATIENCE_MS, &e), &e);
        for (int i = 0; i < count; i++) {
            batches[places[i]] = left[i];
            stored += left[i].fate == SEALED_STORED;
            if (left[i].fate != SEALED_STORED && left[i].fate != SEALED_OPEN &&
                left[i].code != RV_E_MEMORY && !strstr(left[i].why, "out of memory")) {
                fail_msg("fate %d: %s", (int)left[i].fate, left[i].why);
            }
        }
    }
}

static bool run(const struct child_home *broker, struct rv_client *reader, const char *topic,
                long k)
{
    struct rv_error e;
    struct rv_client *client = NULL;
    struct sealed *s = NULL;
    int64_t id = -1;
    int16_t epoch = -1;
    int32_t partitions = -1;
    assert_int_equal(rv_topic_create(reader, topic, PARTITIONS, NULL, PATIENCE_MS, &e), RV_OK);
    until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    const struct rv_option *options =
        RV_OPTIONS({"bootstrap.servers", broker->address}, {"retry.backoff.ms", "1"},
                   {"reconnect.backoff.ms", "1"});
    long alive = mem_alive();
    mem_fail_at(k);
    while (again(rv_client_open(options, &client, &e), &e)) {
    }
    while (!(s = sealed_create(client))) {
    }
    while (again(sealed_identity(s, PATIENCE_MS, &id, &epoch, &e), &e)) {
        assert_int_equal(id, -1);
    }
    while (again(sealed_partitions(s, topic, PATIENCE_MS, &partitions, &e), &e)) {
        assert_int_equal(partitions, -1);
    }
    assert_int_equal(partitions, PARTITIONS);
    bool was_hit = mem_asked() > k;
    long asked = mem_asked();
    mem_fail_at(-1);
    struct buf bytes = batch_bytes(id, epoch);
    mem_fail_at(was_hit ? -1 : k - asked);
    send_all(s, topic, id, epoch, &bytes);
    was_hit = was_hit || mem_asked() > k - asked;
    mem_fail_at(-1);
    buf_finish(&bytes);
    sealed_destroy(s);
    rv_client_close(client);
    if (mem_alive() != alive) {
        fail_msg("allocation %ld failed: %ld blocks leaked", k, mem_alive() - alive);
    }
    for (int32_t i = 0; i < PARTITIONS; i++) {
        struct raw_log log;
        raw_log_read(&log, reader, topic, i, 2);
        assert_int_equal(log.count, 2);
        raw_log_finish(&log);
    }
    return was_hit;
}

static void each_batch_is_stored_once_whichever_allocation_fails(void **state)
{
    const struct child_home *broker = *state;
    struct rv_client *reader;
    struct rv_error e;
    char topic[32];
    long k = -1;
    assert_int_equal(
        rv_client_open(RV_OPTIONS({"bootstrap.servers", broker->address}), &reader, &e), RV_OK);
    do {
        k++;
        snprintf(topic, sizeof topic, "t%ld", k);
    } while (run(broker, reader, topic, k));
    printf("%ld allocations\n", k);
    assert_true(k > LEAST);
    rv_client_close(reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_batch_is_stored_once_whichever_allocation_fails),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, child_home_start, child_home_stop);
}

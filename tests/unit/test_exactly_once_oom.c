/* Every allocation fails in turn while a member reads into SQLite: what says RV_E_MEMORY works when
 * it is made again, each record has its effect once, and nothing leaks. The broker is in a process
 * of its own, where nothing fails. */
#include "base/clock.h"
#include "client/store/rivulet_store.h"
#include "tests/kit/child_home.h"
#include "tests/kit/database.h"
#include "tests/kit/failing_mem.h"
#include "tests/kit/feed.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

enum { PATIENCE_MS = 30000, PARTITIONS = 2, EACH = 6 };

static int64_t until;

static bool again(int code, const struct rv_error *e)
{
    if (code == RV_OK) {
        return false;
    }
    if (code != RV_E_MEMORY) {
        fail_msg("%d: %s", code, e->text);
    }
    if (clock_mono_ms(&clock_real) > until) {
        fail_msg("out of memory for ever");
    }
    return true;
}

struct member {
    struct db db;
    struct rv_client *client;
    struct rv_consumer *consumer;
    struct rv_store *store;
};

static void member_join(struct member *m, const char *address, const char *group)
{
    struct rv_error e;
    const char *topic = "t";
    const struct rv_option *options = RV_OPTIONS(
        {"bootstrap.servers", address}, {"group.id", group}, {"auto.offset.reset", "earliest"},
        {"max.poll.records", "4"}, {"fetch.max.wait.ms", "10"}, {"retry.backoff.ms", "1"},
        {"retry.backoff.max.ms", "4"}, {"reconnect.backoff.ms", "1"},
        {"reconnect.backoff.max.ms", "4"});
    while (again(rv_client_open(options, &m->client, &e), &e)) {
    }
    while (again(rv_consumer_open(m->client, options, &m->consumer, &e), &e)) {
    }
    while (again(
        rv_store_open_sqlite(m->client, m->consumer, m->db.sql.connection, options, &m->store, &e),
        &e)) {
        assert_null(m->store);
    }
    while (again(rv_subscribe(m->consumer, &topic, 1, &e), &e)) {
    }
}

static void member_open(struct member *m, const char *address, const char *group)
{
    *m = (struct member){0};
    db_open(&m->db, "sqlite::memory:", 0);
    db_must(&m->db, "CREATE TABLE effects (part BIGINT, place BIGINT)", NULL, 0);
    member_join(m, address, group);
}

static void member_leave(struct member *m)
{
    struct rv_error e;
    rv_store_close(m->store);
    int code = rv_consumer_close(m->consumer, PATIENCE_MS, &e);
    assert_true(code == RV_OK || code == RV_E_MEMORY); /* it is closed all the same */
    rv_client_close(m->client);
    m->store = NULL;
}

static void read_all(struct member *m)
{
    struct rv_error e;
    while (db_number(&m->db, "SELECT count(*) FROM effects") < PARTITIONS * EACH) {
        const struct rv_record *records;
        size_t count = 0;
        if (again(rv_store_poll(m->store, 100, &records, &count, &e), &e) || count == 0) {
            assert_int_equal(count, 0);
            assert_true(clock_mono_ms(&clock_real) < until);
            continue;
        }
        if (again(rv_store_begin(m->store, &e), &e)) {
            continue;
        }
        for (size_t i = 0; i < count; i++) {
            const struct sql_value params[] = {sql_number(records[i].partition),
                                               sql_number(records[i].offset)};
            db_must(&m->db, "INSERT INTO effects VALUES ($1, $2)", params, 2);
        }
        again(rv_store_commit(m->store, &e), &e);
    }
    assert_int_equal(db_number(&m->db, "SELECT count(*) FROM (SELECT DISTINCT part, place FROM "
                                       "effects)"),
                     PARTITIONS * EACH);
    assert_int_equal(db_number(&m->db, "SELECT count(*) FROM effects"), PARTITIONS * EACH);
}

static void each_record_has_its_effect_once_whichever_allocation_fails(void **state)
{
    const struct child_home *broker = *state;
    struct rv_client *feeder;
    struct rv_error e;
    assert_int_equal(
        rv_client_open(RV_OPTIONS({"bootstrap.servers", broker->address}), &feeder, &e), RV_OK);
    assert_int_equal(rv_topic_create(feeder, "t", PARTITIONS, NULL, PATIENCE_MS, &e), RV_OK);
    for (int32_t p = 0; p < PARTITIONS; p++) {
        feed_numbers(feeder, "t", p, CODEC_NONE, 0, EACH);
    }
    long alive = mem_alive();
    bool was_hit = true;
    for (long k = 0; was_hit; k++) {
        struct member m;
        char group[32];
        snprintf(group, sizeof group, "g%ld", k);
        until = clock_mono_ms(&clock_real) + PATIENCE_MS;
        mem_fail_at(k);
        member_open(&m, broker->address, group);
        read_all(&m);
        member_leave(&m);
        /* Again, behind what is stored: the brokers are asked whether it is the same log. By another
         * name: where it could not leave the group, it is there for a while. */
        db_must(&m.db,
                "UPDATE rivulet_offsets SET next_offset = next_offset - 1, group_id = 'h' || "
                "group_id",
                NULL, 0);
        db_must(&m.db, "DELETE FROM effects WHERE place = 5", NULL, 0);
        snprintf(group, sizeof group, "hg%ld", k);
        member_join(&m, broker->address, group);
        read_all(&m);
        member_leave(&m);
        db_close(&m.db);
        was_hit = mem_asked() > k;
        mem_fail_at(-1);
        if (mem_alive() != alive) {
            fail_msg("allocation %ld failed: %ld blocks leaked", k, mem_alive() - alive);
        }
        if (!was_hit) {
            printf("%ld allocations\n", k);
        }
    }
    rv_client_close(feeder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_record_has_its_effect_once_whichever_allocation_fails),
    };
    signal(SIGPIPE, SIG_IGN);
    if (!database_has_sqlite()) {
        printf("built without SQLite\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, child_home_start, child_home_stop);
}

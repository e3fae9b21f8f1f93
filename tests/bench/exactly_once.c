/* What exactly once into a database costs, beside at least once with the same batches: the same
 * records into the same table, with the offsets in its transaction (rivulet_store.h), or committed
 * to the broker behind it. A broker and a PostgreSQL server are started; both databases sync each
 * transaction. CPU is this process's: on SQLite that is all of the database, on PostgreSQL none of
 * it.
 *
 * The modes take turns; the figures are the medians of the rounds.
 *
 * usage: exactly_once [RECORDS]
 */
#include "base/check.h"
#include "base/clock.h"
#include "client/rivulet.h"
#include "client/store/rivulet_store.h"
#include "tests/kit/daemon.h"
#include "tests/kit/database.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { RECORDS = 50000, ROUNDS = 5, PARTITIONS = 4, VALUE_SIZE = 100, TIMEOUT_MS = 60000 };

enum mode { AT_LEAST_ONCE, AT_LEAST_ONCE_ASYNC, EXACTLY_ONCE, MODES };
static const char *const mode_names[MODES] = {"at least once", "at least once, async commits",
                                              "exactly once"};

/* Of the rounds of one mode. */
struct figures {
    int64_t batches;
    int64_t rate[ROUNDS];   /* events a second */
    int64_t cpu_ns[ROUNDS]; /* of an event */
};

struct bench {
    struct daemon *broker;
    char address[32];
    int records, runs;
};

struct run {
    struct db db;
    struct rv_client *client;
    struct rv_consumer *consumer;
    struct rv_store *store; /* NULL: at least once */
    enum mode mode;
};

static void must(int code, const struct rv_error *e)
{
    if (code != RV_OK) {
        fprintf(stderr, "%s\n", e->text);
    }
    check(code == RV_OK);
}

static int64_t cpu_us(void)
{
    struct rusage u;
    check(getrusage(RUSAGE_SELF, &u) == 0);
    return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 + u.ru_utime.tv_usec +
           u.ru_stime.tv_usec;
}

static void fill(const struct bench *b)
{
    struct rv_client *client;
    struct rv_producer *producer;
    struct rv_error e;
    char value[VALUE_SIZE];
    const struct rv_option *options = RV_OPTIONS({"bootstrap.servers", b->address});
    memset(value, 'v', sizeof value);
    must(rv_client_open(options, &client, &e), &e);
    must(rv_topic_create(client, "t", PARTITIONS, NULL, TIMEOUT_MS, &e), &e);
    must(rv_producer_open(client, options, &producer, &e), &e);
    for (int i = 0; i < b->records; i++) {
        const struct rv_message m = {
            .topic = "t",
            .value = {value, sizeof value},
            .to_partition = true,
            .partition = i % PARTITIONS
        };
        must(rv_send(producer, &m, NULL, NULL, &e), &e);
    }
    must(rv_flush(producer, TIMEOUT_MS, &e), &e);
    rv_producer_close(producer);
    rv_client_close(client);
}

static void run_open(const struct bench *b, struct run *r, const struct database *d, int batch)
{
    char size[16], group[16];
    struct rv_error e;
    snprintf(size, sizeof size, "%d", batch);
    snprintf(group, sizeof group, "g%d", b->runs);
    const struct rv_option *options =
        RV_OPTIONS({"bootstrap.servers", b->address}, {"group.id", group},
                   {"auto.offset.reset", "earliest"}, {"max.poll.records", size});
    db_open(&r->db, d->where, TIMEOUT_MS);
    if (!d->server) {
        db_must(&r->db, "PRAGMA journal_mode = WAL", NULL, 0);
        db_must(&r->db, "PRAGMA synchronous = FULL", NULL, 0);
    }
    db_must(&r->db, "DROP TABLE IF EXISTS effects", NULL, 0);
    db_must(&r->db, "CREATE TABLE effects (part BIGINT, place BIGINT, value TEXT)", NULL, 0);
    must(rv_client_open(options, &r->client, &e), &e);
    must(rv_consumer_open(r->client, options, &r->consumer, &e), &e);
    if (r->mode == EXACTLY_ONCE) {
        must(d->server ? rv_store_open_postgres(r->client, r->consumer, r->db.sql.connection,
                                                options, &r->store, &e)
                       : rv_store_open_sqlite(r->client, r->consumer, r->db.sql.connection, options,
                                              &r->store, &e),
             &e);
    }
    must(rv_subscribe(r->consumer, (const char *[]){"t"}, 1, &e), &e);
}

static void run_close(struct run *r)
{
    rv_store_close(r->store);
    rv_consumer_close(r->consumer, TIMEOUT_MS, NULL);
    rv_client_close(r->client);
    db_close(&r->db);
}

static size_t run_poll(struct run *r, const struct rv_record **ret_records)
{
    struct rv_error e;
    size_t count;
    must(r->store ? rv_store_poll(r->store, TIMEOUT_MS, ret_records, &count, &e)
                  : rv_poll(r->consumer, TIMEOUT_MS, ret_records, &count, &e),
         &e);
    return count;
}

static void run_batch(struct run *r, const struct rv_record *records, size_t count)
{
    struct rv_error e;
    if (r->store) {
        must(rv_store_begin(r->store, &e), &e);
    } else {
        check(sql_begin(&r->db.sql) == OK);
    }
    for (size_t i = 0; i < count; i++) {
        const struct sql_value params[] = {
            sql_number(records[i].partition), sql_number(records[i].offset),
            sql_text((struct str){records[i].value.ptr, records[i].value.size})};
        db_must(&r->db, "INSERT INTO effects VALUES ($1, $2, $3)", params, 3);
    }
    if (r->store) {
        must(rv_store_commit(r->store, &e), &e);
        return;
    }
    check(sql_commit(&r->db.sql) == OK);
    must(r->mode == AT_LEAST_ONCE ? rv_commit(r->consumer, NULL, 0, &e)
                                  : rv_commit_async(r->consumer, NULL, 0, NULL, NULL, &e),
         &e);
}

static void measure(struct bench *b, const struct database *d, enum mode mode, int batch,
                    struct figures *f, int round)
{
    struct run r = {.mode = mode};
    const struct rv_record *records;
    b->runs++;
    run_open(b, &r, d, batch);
    size_t count = 0;
    while (count == 0) { /* the group forms and the first answer comes before the clock runs */
        count = run_poll(&r, &records);
    }
    int64_t began_us = clock_mono_us(&clock_real), cpu_began_us = cpu_us(), done = 0, batches = 0;
    for (;; count = run_poll(&r, &records)) {
        if (count) {
            run_batch(&r, records, count);
            batches++;
        }
        done += (int64_t)count;
        if (done >= b->records) {
            break;
        }
    }
    int64_t wall_us = clock_mono_us(&clock_real) - began_us, cpu = cpu_us() - cpu_began_us;
    f->batches = batches;
    f->rate[round] = done * 1000000 / wall_us;
    f->cpu_ns[round] = cpu * 1000 / done;
    check(db_number(&r.db, "SELECT count(*) FROM effects") == b->records);
    run_close(&r);
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int64_t median(int64_t *figures)
{
    qsort(figures, ROUNDS, sizeof *figures, by_size);
    return figures[ROUNDS / 2];
}

static void measure_all(struct bench *b, const struct database *d, int batch)
{
    struct figures figures[MODES] = {0};
    for (int round = 0; round < ROUNDS; round++) {
        for (enum mode mode = 0; mode < MODES; mode++) {
            measure(b, d, mode, batch, &figures[mode], round);
        }
    }
    for (enum mode mode = 0; mode < MODES; mode++) {
        struct figures *f = &figures[mode];
        printf("%-11s %-29s %6d %8lld %10lld %10.1f\n", d->server ? "PostgreSQL" : "SQLite",
               mode_names[mode], batch, (long long)f->batches, (long long)median(f->rate),
               (double)median(f->cpu_ns) / 1000);
    }
}

int main(int argc, char **argv)
{
    static const int batches[] = {500, 50};
    struct bench b = {.records = argc > 1 ? atoi(argv[1]) : RECORDS};
    setvbuf(stdout, NULL, _IOLBF, 0);
    check(b.records > 0);
    b.broker = DAEMON("group.initial.rebalance.delay.ms=0");
    snprintf(b.address, sizeof b.address, "127.0.0.1:%d", (int)b.broker->port);
    fill(&b);
    printf("%d records of %d bytes in %d partitions, one INSERT each\n", b.records, VALUE_SIZE,
           PARTITIONS);
    printf("%-11s %-29s %6s %8s %10s %10s\n", "database", "mode", "poll", "batches", "events/s",
           "CPU us/ev");
    for (int postgres = 0; postgres < 2; postgres++) {
        if (!(postgres ? database_has_postgres() : database_has_sqlite())) {
            continue;
        }
        struct database *d = database_create(postgres);
        for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
            measure_all(&b, d, batches[i]);
        }
        database_destroy(d);
    }
    daemon_destroy(b.broker);
    return 0;
}

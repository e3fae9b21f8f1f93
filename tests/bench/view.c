/* What a view costs: fills one of KEYS keys (default 1,000,000; 16 bytes of key, 100 of value) in
 * memory, saves and loads its file, and fills one in SQLite, against a broker in this process or
 * the one that RV_TEST_BROKERS names. One line each. */
#include "base/check.h"
#include "base/clock.h"
#include "client/view_sqlite/rivulet_view_sqlite.h"
#include "tests/kit/local_home.h"
#include "tests/kit/temp_dir.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum { VALUE_SIZE = 100, WAIT_MS = 120000 };

static void must(int code, const struct rv_error *e)
{
    if (code != RV_OK) {
        fprintf(stderr, "%s: %s\n", rv_error_name(code), e->text);
        exit(1);
    }
}

struct span {
    int64_t began_us, cpu_us;
};

static int64_t cpu_us(void)
{
    struct rusage u; /* of this thread: without the broker's */
    check(getrusage(RUSAGE_THREAD, &u) == 0);
    return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000LL + u.ru_utime.tv_usec +
           u.ru_stime.tv_usec;
}

static struct span span_begin(void)
{
    return (struct span){clock_mono_us(&clock_real), cpu_us()};
}

static void span_end(const struct span *s, const char *what, long keys)
{
    double took = (double)(clock_mono_us(&clock_real) - s->began_us) / 1e6;
    double cpu = (double)(cpu_us() - s->cpu_us) / 1e6;
    printf("%-22s %8.2f s  %8.2f s cpu  %9.0f keys/s", what, took, cpu, (double)keys / took);
}

static void produce(struct rv_client *client, long keys)
{
    struct rv_error e;
    struct rv_producer *p;
    char value[VALUE_SIZE];
    memset(value, 'v', sizeof value);
    must(
        rv_producer_open(client, RV_OPTIONS({"batch.size", "262144"}, {"linger.ms", "20"}), &p, &e),
        &e);
    for (long i = 0; i < keys; i++) {
        char key[24];
        snprintf(key, sizeof key, "%016ld", i);
        const struct rv_message m = {
            .topic = "bench-view", .key = {key,   16          },
                 .value = {value, sizeof value}
        };
        must(rv_send(p, &m, NULL, NULL, &e), &e);
    }
    must(rv_flush(p, WAIT_MS, &e), &e);
    rv_producer_close(p);
}

static struct rv_view *fill(struct rv_client *client, const char *file,
                            const struct rv_view_storage *storage)
{
    struct rv_error e;
    struct rv_view *v;
    const struct rv_option *options =
        RV_OPTIONS({"max.poll.records", "5000"}, {file ? "view.file" : NULL, file});
    must(rv_view_open(client, "bench-view", options, storage, WAIT_MS, &v, &e), &e);
    while (!rv_view_is_complete(v)) {
        must(rv_view_poll(v, 1000, &e), &e);
    }
    return v;
}

static void in_memory(struct rv_client *client, const char *path, long keys)
{
    struct rv_error e;
    struct rv_view_stats stats;
    struct stat file;
    struct span s = span_begin();
    struct rv_view *v = fill(client, path, NULL);
    must(rv_view_stats(v, &stats, &e), &e);
    check(stats.count == keys);
    span_end(&s, "fill, memory", keys);
    printf("  %.1f bytes a key beside its %d\n",
           (double)stats.bytes / (double)keys - 16 - VALUE_SIZE, 16 + VALUE_SIZE);
    s = span_begin();
    must(rv_view_save(v, &e), &e);
    check(stat(path, &file) == 0);
    span_end(&s, "save its file", keys);
    printf("  %.1f MB\n", (double)file.st_size / 1e6);
    rv_view_close(v);
    s = span_begin();
    v = fill(client, path, NULL);
    span_end(&s, "open from its file", keys);
    printf("\n");
    rv_view_close(v);
}

static void in_sqlite(struct rv_client *client, const char *path, long keys)
{
    struct rv_error e;
    struct rv_view_storage storage;
    sqlite3 *db;
    check(sqlite3_open(path, &db) == SQLITE_OK);
    check(sqlite3_exec(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL", NULL, NULL,
                       NULL) == SQLITE_OK);
    must(rv_view_sqlite_open(db, "v", &storage, &e), &e);
    struct span s = span_begin();
    struct rv_view *v = fill(client, NULL, &storage);
    span_end(&s, "fill, SQLite (WAL)", keys);
    printf("\n");
    rv_view_close(v);
    sqlite3_close(db);
}

int main(int argc, char **argv)
{
    struct rv_error e;
    struct rv_client *client;
    char dir[TEMP_DIR_SIZE], path[TEMP_DIR_SIZE + 8];
    long keys = argc > 1 ? atol(argv[1]) : 1000000;
    struct local_home *home = local_home_start(NULL);
    temp_dir_make(dir);
    must(rv_client_open(RV_OPTIONS({"bootstrap.servers", local_home_address(home)}), &client, &e),
         &e);
    must(rv_topic_create(client, "bench-view", 4, NULL, WAIT_MS, &e), &e);
    produce(client, keys);
    snprintf(path, sizeof path, "%s/file", dir);
    in_memory(client, path, keys);
    snprintf(path, sizeof path, "%s/db", dir);
    in_sqlite(client, path, keys);
    rv_client_close(client);
    local_home_destroy(home);
    temp_dir_remove(dir);
    return 0;
}

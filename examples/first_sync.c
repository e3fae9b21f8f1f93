/* first_sync: a new service gets its first copy of what another one owns, from a topic with all of
 * history, and keeps it right afterwards.
 *
 * The latest value of every key of `users` is kept in a table of its own database (a view), where
 * its queries can join it. It says when the copy is complete, and follows. A restart goes on where
 * it was.
 *
 *     first_sync shop.db 127.0.0.1:9092
 *     sqlite3 shop.db 'SELECT CAST(key AS TEXT), CAST(value AS TEXT) FROM users
 *                      WHERE value IS NOT NULL'
 *
 * cc first_sync.c -o first_sync \
 *     $(pkg-config --cflags --libs rivulet-view_sqlite rivulet-view rivulet sqlite3)
 */
#include "sql.h"

#include <rivulet_view.h>
#include <rivulet_view_sqlite.h>
#include <signal.h>
#include <time.h>

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    stop = number;
}

/* What it would have to go on from is gone, or the topic was made anew: everything is read again.
 * The old copy stays readable until the new one is complete. */
static void on_rebuild(void *ctx, const char *why)
{
    (void)ctx;
    fprintf(stderr, "from the start again: %s\n", why);
}

static bool follow(struct rv_view *view, struct rv_error *ret_error)
{
    struct rv_view_stats stats;
    bool was_complete = rv_view_is_complete(view);
    if (rv_view_poll(view, 500, ret_error)) {
        return false;
    }
    if (was_complete || !rv_view_is_complete(view)) {
        return true;
    }
    if (rv_view_stats(view, &stats, ret_error)) {
        return false;
    }
    printf("complete: %lld users\n", (long long)stats.count);
    fflush(stdout);
    return true;
}

int main(int argc, char **argv)
{
    const char *brokers = argc > 2 ? argv[2] : "127.0.0.1:9092";
    sqlite3 *db = NULL;
    struct rv_client *client = NULL;
    struct rv_view *view = NULL;
    struct rv_view_storage table;
    struct rv_error error;
    if (argc < 2) {
        fprintf(stderr, "first_sync DATABASE [BROKERS]\n");
        return 2;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    if (!sql_open(argv[1], "", &db)) {
        return 1;
    }
    bool good = !rv_client_open(RV_OPTIONS({"bootstrap.servers", brokers}), &client, &error) &&
                !rv_view_sqlite_open(db, "users", &table, &error) &&
                !rv_view_open(client, "users", NULL, &table, -1, &view, &error);
    if (good) {
        rv_view_on_rebuild(view, on_rebuild, NULL);
    } else {
        fprintf(stderr, "%s\n", error.text);
    }
    while (good && !stop) {
        if (!follow(view, &error)) { /* the next call goes on where this one failed */
            fprintf(stderr, "%s\n", error.text);
            nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        }
    }
    rv_view_close(view);
    rv_client_close(client);
    sqlite3_close(db);
    return !good;
}

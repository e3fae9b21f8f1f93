/* first_sync: a new service gets its first copy of what others own from a topic with all of history, and keeps it right afterwards.
 *
 * The latest value of every key of `users` is kept in a table of the service's own database, where its queries can join it. It says when the copy
 * is complete; a restart goes on where it was.
 *
 *     first_sync shop.db 127.0.0.1:9092        then: sqlite3 shop.db 'SELECT key, value FROM users WHERE value IS NOT NULL'
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

/* The records that it would have to go on from are gone, or the topic is another one now: it reads everything again, and says why. */
static void on_rebuild(void *ctx, const char *why)
{
    (void)ctx;
    fprintf(stderr, "from the start again: %s\n", why);
}

int main(int argc, char **argv)
{
    const char *brokers = argc == 3 ? argv[2] : "127.0.0.1:9092";
    sqlite3 *db = NULL;
    struct rv_client *client = NULL;
    struct rv_view *view = NULL;
    struct rv_view_storage table;
    struct rv_view_stats stats;
    struct rv_error error;
    bool told = false;
    if (argc < 2) {
        fprintf(stderr, "first_sync DATABASE [BROKERS]\n");
        return 2;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    if (!sql_open(argv[1], "", &db)) {
        return 1;
    }
    int failed = rv_client_open(RV_OPTIONS({"bootstrap.servers", brokers}), &client, &error) ||
                 rv_view_sqlite_open(db, "users", &table, &error) || rv_view_open(client, "users", NULL, &table, 30000, &view, &error);
    if (failed) {
        fprintf(stderr, "%s\n", error.text);
    } else {
        rv_view_on_rebuild(view, on_rebuild, NULL);
    }
    while (!failed && !stop) {
        if (rv_view_poll(view, 500, &error)) {
            fprintf(stderr, "%s\n", error.text);
            nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        } else if (rv_view_is_complete(view) && !told && rv_view_stats(view, &stats, &error) == RV_OK) {
            printf("complete: %lld users\n", (long long)stats.count);
            fflush(stdout);
            told = true;
        }
    }
    rv_view_close(view);
    rv_client_close(client);
    sqlite3_close(db);
    return failed;
}

/* billing: keeps its own copy of every user's e-mail address, and a line of history for every
 * change that it was told of: each exactly once.
 *
 * How far it has read is kept in its own database, in the transaction that does the work (a store).
 * Whoever is killed when, a change has had its effect and is read, or neither. Down for an hour? It
 * goes on where its database says.
 *
 *     billing billing.db 127.0.0.1:9092 [INSTANCE]
 *
 * Several may share the database and the work, each with a name of its own (INSTANCE): one that
 * comes back within its session takes its place again, and nobody else's partitions move.
 *
 * cc billing.c -o billing $(pkg-config --cflags --libs rivulet-store rivulet sqlite3)
 */
#include "sql.h"

#include <rivulet_store.h>
#include <signal.h>
#include <time.h>

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    stop = number;
}

static const char tables[] =
    "CREATE TABLE IF NOT EXISTS address (user TEXT PRIMARY KEY, email TEXT NOT NULL);"
    "CREATE TABLE IF NOT EXISTS history (id INTEGER PRIMARY KEY, user TEXT NOT NULL, email TEXT)";
static const char set[] = "INSERT INTO address VALUES (?1, ?2)"
                          " ON CONFLICT (user) DO UPDATE SET email = excluded.email";

static bool apply(sqlite3 *db, const struct rv_record *record)
{
    struct rv_bytes user = record->key, email = record->value;
    bool good = email.ptr ? SQL(db, set, user, email)
                          : SQL(db, "DELETE FROM address WHERE user = ?1", user);
    return good && SQL(db, "INSERT INTO history (user, email) VALUES (?1, ?2)", user, email);
}

/* The records of one rv_store_poll are one transaction. Whatever does not end with a good
 * rv_store_commit is found out by the next rv_store_poll, which gives again what had no effect. */
static bool work(struct rv_store *store, sqlite3 *db, struct rv_error *ret_error)
{
    const struct rv_record *records;
    size_t count;
    if (rv_store_poll(store, 500, &records, &count, ret_error)) {
        return false;
    }
    if (count == 0) {
        return true;
    }
    if (rv_store_begin(store, ret_error)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!apply(db, &records[i])) {
            snprintf(ret_error->text, sizeof ret_error->text, "%s", sqlite3_errmsg(db));
            return false;
        }
    }
    return rv_store_commit(store, ret_error) == RV_OK;
}

int main(int argc, char **argv)
{
    const char *brokers = argc > 2 ? argv[2] : "127.0.0.1:9092", *topic = "users";
    const struct rv_option *options = RV_OPTIONS(
        {"bootstrap.servers", brokers}, {"group.id", "billing"}, {"auto.offset.reset", "earliest"},
        {"group.instance.id", argc > 3 ? argv[3] : "billing-1"});
    sqlite3 *db = NULL;
    struct rv_client *client = NULL;
    struct rv_consumer *consumer = NULL;
    struct rv_store *store = NULL;
    struct rv_error error;
    if (argc < 2) {
        fprintf(stderr, "billing DATABASE [BROKERS [INSTANCE]]\n");
        return 2;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    if (!sql_open(argv[1], tables, &db)) {
        return 1;
    }
    bool good = !rv_client_open(options, &client, &error) &&
                !rv_consumer_open(client, options, &consumer, &error) &&
                !rv_store_open_sqlite(client, consumer, db, options, &store, &error) &&
                !rv_subscribe(consumer, &topic, 1, &error);
    if (!good) {
        fprintf(stderr, "%s\n", error.text);
    }
    while (good && !stop) {
        if (!work(store, db, &error)) {
            fprintf(stderr, "%s\n", error.text);
            nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        }
    }
    rv_store_close(store);
    if (rv_consumer_close(consumer, 5000, &error)) {
        fprintf(stderr, "%s\n", error.text);
    }
    rv_client_close(client);
    sqlite3_close(db);
    return !good;
}

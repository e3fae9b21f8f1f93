/* billing: keeps its own copy of every user's e-mail address, and a row for every change that it was told of, each exactly once.
 *
 * How far it has read is kept in billing's own database, in the transaction that does the work: whoever is killed when, a change has had its
 * effect and is read, or neither. Down for an hour? It goes on where its database says.
 *
 *     billing billing.db 127.0.0.1:9092
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

static const char tables[] = "CREATE TABLE IF NOT EXISTS address (user TEXT PRIMARY KEY, email TEXT NOT NULL);"
                             "CREATE TABLE IF NOT EXISTS change (number INTEGER PRIMARY KEY, user TEXT NOT NULL, email TEXT)";

static bool apply(sqlite3 *db, const struct rv_record *record)
{
    struct rv_bytes user = record->key, email = record->value;
    bool kept = email.ptr ? SQL(db, "INSERT INTO address VALUES ($1, $2) ON CONFLICT (user) DO UPDATE SET email = excluded.email", user, email)
                          : SQL(db, "DELETE FROM address WHERE user = $1", user);
    return kept && SQL(db, "INSERT INTO change (user, email) VALUES ($1, $2)", user, email);
}

/* The records of one rv_store_poll are one transaction. What does not end in a good rv_store_commit is found out by the next rv_store_poll, which
 * gives the records again that have had no effect. */
static void work(struct rv_store *store, sqlite3 *db)
{
    const struct rv_record *records;
    struct rv_error error;
    size_t count;
    if (rv_store_poll(store, 500, &records, &count, &error)) {
        fprintf(stderr, "%s\n", error.text);
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    } else if (count && rv_store_begin(store, &error)) {
        fprintf(stderr, "%s\n", error.text);
    } else if (count) {
        bool good = true;
        for (size_t i = 0; good && i < count; i++) {
            good = apply(db, &records[i]);
        }
        if (good && rv_store_commit(store, &error)) {
            fprintf(stderr, "%s\n", error.text);
        }
    }
}

int main(int argc, char **argv)
{
    const char *brokers = argc == 3 ? argv[2] : "127.0.0.1:9092", *topic = "users";
    const struct rv_option *options =
        RV_OPTIONS({"bootstrap.servers", brokers}, {"group.id", "billing"}, {"auto.offset.reset", "earliest"}, {"session.timeout.ms", "6000"});
    sqlite3 *db = NULL;
    struct rv_client *client = NULL;
    struct rv_consumer *consumer = NULL;
    struct rv_store *store = NULL;
    struct rv_error error;
    if (argc < 2) {
        fprintf(stderr, "billing DATABASE [BROKERS]\n");
        return 2;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    if (!sql_open(argv[1], tables, &db)) {
        return 1;
    }
    bool good = !rv_client_open(options, &client, &error) && !rv_consumer_open(client, options, &consumer, &error) &&
                !rv_store_open_sqlite(client, consumer, db, options, &store, &error) && !rv_subscribe(consumer, &topic, 1, &error);
    if (!good) {
        fprintf(stderr, "%s\n", error.text);
    }
    while (good && !stop) {
        work(store, db);
    }
    rv_store_close(store);
    (void)rv_consumer_close(consumer, 5000, NULL); /* leaves the group; when nobody answers it is left all the same */
    rv_client_close(client);
    sqlite3_close(db);
    return good ? 0 : 1;
}

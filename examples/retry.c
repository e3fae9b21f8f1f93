/* retry: books deposits on accounts. A deposit for an account that is not there yet is tried again
 * later, with growing delays, and in the end parked, for people. The ones behind it go on.
 *
 * Handing over and committing is at least once, so the booking remembers where the deposit is from:
 * the same one a second time is nothing.
 *
 *     retry ledger.db 127.0.0.1:9092 [DELAYS]        the topic is `deposits`: ada:30
 *     sqlite3 ledger.db "INSERT INTO account VALUES ('ada', 0)"
 *     rivulet parked list                            what is parked, and why
 *     rivulet parked send deposits ledger            once more, when the cause is mended
 *
 * cc retry.c -o retry $(pkg-config --cflags --libs rivulet-park rivulet sqlite3)
 */
#include "sql.h"

#include <rivulet_park.h>
#include <signal.h>
#include <time.h>

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    stop = number;
}

static const char tables[] =
    "CREATE TABLE IF NOT EXISTS account (user TEXT PRIMARY KEY, balance INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS booking (topic TEXT, part INTEGER, offset INTEGER,"
    " user TEXT NOT NULL, amount INTEGER NOT NULL, PRIMARY KEY (topic, part, offset))";

/* NULL, or why the deposit cannot be booked now. */
static const char *book(sqlite3 *db, const struct rv_park_record *r)
{
    struct rv_bytes user = r->record.key, amount = r->record.value;
    char part[20], offset[30];
    const char *why = NULL;
    snprintf(part, sizeof part, "%d", r->origin_partition);
    snprintf(offset, sizeof offset, "%lld", (long long)r->origin_offset);
    if (!sql_do(db, "BEGIN IMMEDIATE") ||
        !SQL(db, "INSERT INTO booking VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
             RV_STR(r->origin_topic), RV_STR(part), RV_STR(offset), user, amount)) {
        why = "the ledger is closed";
    } else if (sqlite3_changes(db) > 0) { /* else it was booked before */
        if (!SQL(db, "UPDATE account SET balance = balance + ?2 WHERE user = ?1", user, amount)) {
            why = "the ledger is closed";
        } else if (sqlite3_changes(db) == 0) {
            why = "there is no such account";
        }
    }
    if (!why && !sql_do(db, "COMMIT")) {
        why = "the ledger is closed";
    }
    if (why && !sqlite3_get_autocommit(db)) {
        sql_do(db, "ROLLBACK");
    }
    return why;
}

/* Committed is what was booked, or is stored in a topic for retries, or parked: nothing else. */
static bool work(struct rv_park *park, sqlite3 *db, struct rv_error *ret_error)
{
    const struct rv_park_record *records;
    size_t count;
    if (rv_park_poll(park, 500, &records, &count, ret_error)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const char *why = book(db, &records[i]);
        if (why && rv_park_failed(park, &records[i], why, ret_error)) {
            fprintf(stderr, "it will come again: %s\n", ret_error->text);
        }
    }
    return count == 0 || rv_park_commit(park, 30000, ret_error) == RV_OK;
}

int main(int argc, char **argv)
{
    const char *brokers = argc > 2 ? argv[2] : "127.0.0.1:9092", *topic = "deposits";
    const struct rv_option *options =
        RV_OPTIONS({"auto.offset.reset", "earliest"}, {"group.instance.id", "ledger-1"},
                   {"park.delays", argc > 3 ? argv[3] : "1s,10s,1m"});
    sqlite3 *db = NULL;
    struct rv_client *client = NULL;
    struct rv_park *park = NULL;
    struct rv_error error;
    if (argc < 2) {
        fprintf(stderr, "retry DATABASE [BROKERS [DELAYS]]\n");
        return 2;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    if (!sql_open(argv[1], tables, &db)) {
        return 1;
    }
    bool good = !rv_client_open(RV_OPTIONS({"bootstrap.servers", brokers}), &client, &error) &&
                !rv_park_open(client, "ledger", &topic, 1, options, -1, &park, &error);
    if (!good) {
        fprintf(stderr, "%s\n", error.text);
    }
    while (good && !stop) {
        if (!work(park, db, &error)) { /* what was not committed comes again */
            fprintf(stderr, "%s\n", error.text);
            nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        }
    }
    if (rv_park_close(park, 5000, &error)) {
        fprintf(stderr, "%s\n", error.text);
    }
    rv_client_close(client);
    sqlite3_close(db);
    return !good;
}

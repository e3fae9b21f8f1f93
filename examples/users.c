/* users: changes a user's e-mail address and tells about it: both or neither.
 *
 * The event is a row, written in the transaction that changes the address (an outbox). A relay,
 * another process, publishes committed rows: each exactly once, those of a user in the order of
 * their commits. The broker may be away meanwhile: the rows wait.
 *
 *     users users.db                         reads changes, a line each: "ada ada@example.org",
 *                                            or "ada" alone when she leaves
 *     users users.db relay 127.0.0.1:9092    publishes them (so does `rivulet outbox run`)
 *
 * cc users.c -o users $(pkg-config --cflags --libs rivulet-outbox rivulet sqlite3)
 */
#include "sql.h"

#include <rivulet_outbox.h>
#include <signal.h>
#include <string.h>
#include <time.h>

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    stop = number;
}

static const char tables[] =
    "CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, email TEXT NOT NULL)";
static const char set[] = "INSERT INTO users VALUES (?1, ?2)"
                          " ON CONFLICT (name) DO UPDATE SET email = excluded.email";

/* Without an address the user leaves, and the event is a tombstone: a key and no value. */
static bool change(sqlite3 *db, struct rv_outbox *outbox, const char *name, const char *email)
{
    struct rv_error error;
    struct rv_bytes user = RV_STR(name), address = RV_STR(email);
    const struct rv_message event = {.topic = "users", .key = user, .value = address};
    if (!sql_do(db, "BEGIN IMMEDIATE")) {
        return false;
    }
    bool good =
        email ? SQL(db, set, user, address) : SQL(db, "DELETE FROM users WHERE name = ?1", user);
    if (good && rv_outbox_add(outbox, &event, &error)) {
        fprintf(stderr, "%s\n", error.text);
        good = false;
    }
    if (good && sql_do(db, "COMMIT")) {
        return true;
    }
    if (!sqlite3_get_autocommit(db)) { /* some errors have rolled back already */
        sql_do(db, "ROLLBACK");
    }
    return false;
}

/* "changed" is said when the change and its event survive whatever happens next. */
static bool serve(sqlite3 *db, struct rv_outbox *outbox)
{
    char line[1000], name[500], email[500];
    while (!stop && fgets(line, sizeof line, stdin)) {
        int words = sscanf(line, "%499s %499s", name, email);
        if (words > 0) {
            bool good = change(db, outbox, name, words == 2 ? email : NULL);
            printf("%s %s\n", good ? "changed" : "kept", name);
            fflush(stdout);
        }
    }
    return !ferror(stdin);
}

static bool relay(struct rv_outbox *outbox, struct rv_client *client)
{
    struct rv_error error;
    int64_t count;
    while (!stop) {
        if (rv_outbox_relay(outbox, client, 500, &count, &error)) { /* no broker: the rows wait */
            fprintf(stderr, "%s\n", error.text);
            nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    const char *brokers = argc == 4 && strcmp(argv[2], "relay") == 0 ? argv[3] : NULL;
    const struct rv_option *options = /* a relay that was killed is replaced after a second */
        RV_OPTIONS({"outbox.lease.ms", "1000"});
    sqlite3 *db = NULL;
    struct rv_outbox *outbox = NULL;
    struct rv_client *client = NULL;
    struct rv_error error;
    if (argc != 2 && !brokers) {
        fprintf(stderr, "users DATABASE [relay BROKERS]\n");
        return 2;
    }
    sigaction(SIGINT, &(struct sigaction){.sa_handler = on_signal}, NULL); /* ends fgets, too */
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_signal}, NULL);
    if (!sql_open(argv[1], tables, &db)) {
        return 1;
    }
    bool good =
        !rv_outbox_open_sqlite(db, options, &outbox, &error) && !rv_outbox_init(outbox, &error) &&
        !(brokers && rv_client_open(RV_OPTIONS({"bootstrap.servers", brokers}), &client, &error));
    if (!good) {
        fprintf(stderr, "%s\n", error.text);
    } else {
        good = brokers ? relay(outbox, client) : serve(db, outbox);
    }
    rv_outbox_close(outbox); /* gives the lease back */
    rv_client_close(client);
    sqlite3_close(db);
    return !good;
}

/* users: changes a user's e-mail address and tells about it, both or neither.
 *
 * The event is a row that is written in the transaction that changes the address (an outbox); a relay publishes committed rows, each exactly once,
 * those of a user in the order in which they were committed. The broker may be away: the rows wait.
 *
 *     users users.db <changes                  "ada ada@example.org" a line; "ada" alone: she left. Says "changed ada" when it is lasting
 *     users users.db relay 127.0.0.1:9092      the relay: another process (or `rivulet outbox run --db sqlite:users.db`)
 */
#include "sql.h"
#include <rivulet_outbox.h>
#include <signal.h>
#include <string.h>

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    stop = number;
}

static const char tables[] = "CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, email TEXT NOT NULL)";

/* An address of NULL: the user has left, and the event is a tombstone. */
static bool change(sqlite3 *db, struct rv_outbox *outbox, const char *name, const char *email)
{
    struct rv_error error = {0};
    struct rv_bytes user = RV_STR(name), address = RV_STR(email);
    const struct rv_message event = {.topic = "users", .key = user, .value = address};
    bool good = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK;
    good = good && (email ? SQL(db, "INSERT INTO users VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET email = excluded.email", user, address)
                          : SQL(db, "DELETE FROM users WHERE name = $1", user));
    if (good && rv_outbox_add(outbox, &event, &error)) {
        fprintf(stderr, "%s\n", error.text);
        good = false;
    }
    if (good && sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK) {
        return true;
    }
    fprintf(stderr, "%s is not changed: %s\n", name, sqlite3_errmsg(db));
    sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return false;
}

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
    return true;
}

static bool relay(struct rv_outbox *outbox, const char *brokers)
{
    struct rv_client *client;
    struct rv_error error;
    int64_t count;
    if (rv_client_open(RV_OPTIONS({"bootstrap.servers", brokers}), &client, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return false;
    }
    while (!stop) { /* an error is the broker's absence, or a busy database: the rows wait, and it is tried again */
        if (rv_outbox_relay(outbox, client, 500, &count, &error)) {
            fprintf(stderr, "%s\n", error.text);
        }
    }
    rv_client_close(client);
    return true;
}

int main(int argc, char **argv)
{
    sqlite3 *db = NULL;
    struct rv_outbox *outbox = NULL;
    struct rv_error error;
    bool relays = argc == 4 && strcmp(argv[2], "relay") == 0;
    if (argc != 2 && !relays) {
        fprintf(stderr, "users DATABASE [relay BROKERS]\n");
        return 2;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    if (!sql_open(argv[1], tables, &db)) {
        return 1;
    }
    if (rv_outbox_open_sqlite(db, NULL, &outbox, &error) || rv_outbox_init(outbox, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    bool good = relays ? relay(outbox, argv[3]) : serve(db, outbox);
    rv_outbox_close(outbox);
    sqlite3_close(db);
    return good ? 0 : 1;
}

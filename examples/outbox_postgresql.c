/* outbox_postgresql: users.c with PostgreSQL, whose server may go away and come back.
 *
 * The state and the event are rows of one transaction. When the connection breaks during COMMIT,
 * nobody knows whether it happened: this program says so ("unsure ada") instead of guessing. Saying
 * the same change again is right here in any case: the last address of a user counts.
 *
 *     outbox_postgresql postgresql:///users                        changes: "ada ada@example.org"
 *     outbox_postgresql postgresql:///users relay 127.0.0.1:9092   publishes them
 *
 * cc outbox_postgresql.c -o outbox_postgresql \
 *     $(pkg-config --cflags --libs rivulet-outbox rivulet libpq)
 */
#include <libpq-fe.h>
#include <rivulet_outbox.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    stop = number;
}

static bool run(PGconn *db, const char *sql, const char *const *values, int count)
{
    PGresult *result = PQexecParams(db, sql, count, NULL, values, NULL, NULL, 0);
    bool good = PQresultStatus(result) == PGRES_COMMAND_OK;
    if (!good) {
        fprintf(stderr, "%s: %s", sql, PQerrorMessage(db));
    }
    PQclear(result);
    return good;
}

/* Connects, until it can, and makes what is not there yet. */
static PGconn *database_open(const char *where, struct rv_outbox **ret_outbox)
{
    const struct rv_option *options = RV_OPTIONS({"outbox.lease.ms", "1000"});
    struct rv_error error;
    while (!stop) {
        PGconn *db = PQconnectdb(where);
        if (PQstatus(db) == CONNECTION_OK &&
            run(db, "SET client_min_messages = warning", NULL, 0) &&
            run(db, "CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, email TEXT NOT NULL)",
                NULL, 0)) {
            if (rv_outbox_open_postgresql(db, options, ret_outbox, &error) == RV_OK) {
                if (rv_outbox_init(*ret_outbox, &error) == RV_OK) {
                    return db;
                }
                rv_outbox_close(*ret_outbox);
            }
            fprintf(stderr, "%s\n", error.text);
        } else {
            fprintf(stderr, "%s", PQerrorMessage(db));
        }
        PQfinish(db);
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    return NULL;
}

static const char *change(PGconn *db, struct rv_outbox *outbox, const char *name, const char *email)
{
    const struct rv_message event = {.topic = "users", .key = RV_STR(name), .value = RV_STR(email)};
    const char *answer = "kept";
    struct rv_error error;
    if (run(db, "BEGIN", NULL, 0) && run(db,
                                         "INSERT INTO users VALUES ($1, $2)"
                                         " ON CONFLICT (name) DO UPDATE SET email = excluded.email",
                                         (const char *const[]){name, email}, 2)) {
        if (rv_outbox_add(outbox, &event, &error)) {
            fprintf(stderr, "%s\n", error.text);
        } else if (run(db, "COMMIT", NULL, 0)) {
            return "changed";
        } else {
            answer = "unsure";
        }
    }
    /* A server that still answers has said no to the COMMIT; from one that is gone, nobody knows. */
    return run(db, "ROLLBACK", NULL, 0) ? "kept" : answer;
}

/* Until the connection is lost, or there is nothing more to do. */
static bool serve(PGconn *db, struct rv_outbox *outbox)
{
    char line[1000], name[500], email[500];
    while (!stop && PQstatus(db) == CONNECTION_OK) {
        if (!fgets(line, sizeof line, stdin)) {
            return false;
        }
        if (sscanf(line, "%499s %499s", name, email) == 2) {
            printf("%s %s\n", change(db, outbox, name, email), name);
            fflush(stdout);
        }
    }
    return !stop;
}

static bool relay(PGconn *db, struct rv_outbox *outbox, struct rv_client *client)
{
    struct rv_error error;
    int64_t count;
    while (!stop && PQstatus(db) == CONNECTION_OK) {
        if (rv_outbox_relay(outbox, client, 500, &count, &error)) { /* no broker: the rows wait */
            fprintf(stderr, "%s\n", error.text);
            nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        }
    }
    return !stop;
}

int main(int argc, char **argv)
{
    const char *brokers = argc == 4 && strcmp(argv[2], "relay") == 0 ? argv[3] : NULL;
    struct rv_client *client = NULL;
    struct rv_error error;
    if (argc != 2 && !brokers) {
        fprintf(stderr, "outbox_postgresql DATABASE [relay BROKERS]\n");
        return 2;
    }
    sigaction(SIGINT, &(struct sigaction){.sa_handler = on_signal}, NULL); /* ends fgets, too */
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_signal}, NULL);
    if (brokers && rv_client_open(RV_OPTIONS({"bootstrap.servers", brokers}), &client, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    for (bool again = true; again;) {
        struct rv_outbox *outbox;
        PGconn *db = database_open(argv[1], &outbox);
        if (!db) {
            break;
        }
        again = brokers ? relay(db, outbox, client) : serve(db, outbox);
        rv_outbox_close(outbox);
        PQfinish(db);
    }
    rv_client_close(client);
    return 0;
}

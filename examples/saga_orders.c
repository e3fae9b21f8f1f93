/* saga_orders: the first of three services that sell something together, without a transaction over
 * all of them: orders takes orders, payments takes the money, stock the goods.
 *
 *     orders "placed" -> payments "paid" -> stock "reserved"            the order is done
 *                        payments "refused"                             cancelled
 *                                           stock "short"
 *                        payments "refunded" <-                         cancelled, money back
 *
 * Each service does its part in a local transaction, together with what it read and what it tells;
 * what one cannot do, the one before undoes by a transaction of its own (compensation). An order
 * that is pending for too long means that somebody is away: it is shown, not hidden.
 *
 *     saga_orders orders.db place                      takes orders, a line each: "o17 ada 30
 *                                                      book 2"; says "placed o17"; twice is once
 *     saga_orders orders.db 127.0.0.1:9092 [SECONDS]   the service; shows what is pending longer
 *
 * cc saga_orders.c -o saga_orders \
 *     $(pkg-config --cflags --libs rivulet-store rivulet-outbox rivulet sqlite3)
 */
#include "saga.h"

#include <string.h>

static const char tables[] =
    "CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, customer TEXT NOT NULL,"
    " amount INTEGER NOT NULL, article TEXT NOT NULL, count INTEGER NOT NULL,"
    " state TEXT NOT NULL DEFAULT 'pending', placed_s INTEGER NOT NULL DEFAULT (unixepoch()))";

/* The order and the event that says so. */
static bool place(struct saga *s, const char *const *word)
{
    bool good =
        sql_do(s->db, "BEGIN IMMEDIATE") &&
        SQL(s->db,
            "INSERT INTO orders (id, customer, amount, article, count)"
            " VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
            RV_STR(word[0]), RV_STR(word[1]), RV_STR(word[2]), RV_STR(word[3]), RV_STR(word[4]));
    if (good && sqlite3_changes(s->db) > 0) {
        good = saga_tell(s, word[0], "placed %s %s %s %s", word[1], word[2], word[3], word[4]);
    }
    good = good && sql_do(s->db, "COMMIT");
    if (!good && !sqlite3_get_autocommit(s->db)) {
        sql_do(s->db, "ROLLBACK");
    }
    return good;
}

static bool place_lines(struct saga *s)
{
    char line[500], w[5][100];
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "%99s %99s %99[0-9] %99s %99[0-9]", w[0], w[1], w[2], w[3], w[4]) != 5) {
            fprintf(stderr, "not ORDER CUSTOMER AMOUNT ARTICLE COUNT: %s", line);
            return false;
        }
        bool good = place(s, (const char *[]){w[0], w[1], w[2], w[3], w[4]});
        printf("%s %s\n", good ? "placed" : "not placed", w[0]);
        fflush(stdout);
    }
    return !ferror(stdin);
}

/* What others tell ends an order one way or the other; in between there is nothing to do here. */
static bool step(struct saga *s, const char *order, const char *event)
{
    const char *state = strcmp(event, "reserved") == 0   ? "done"
                        : strcmp(event, "refused") == 0  ? "cancelled"
                        : strcmp(event, "refunded") == 0 ? "cancelled"
                                                         : NULL;
    return !state || SQL(s->db, "UPDATE orders SET state = ?2 WHERE id = ?1 AND state = 'pending'",
                         RV_STR(order), RV_STR(state));
}

static bool show_stuck(struct saga *s, const char *seconds)
{
    long long count = 0;
    bool good = sql_run(s->db,
                        "SELECT count(*) FROM orders"
                        " WHERE state = 'pending' AND placed_s < unixepoch() - ?1",
                        (const struct rv_bytes[]){RV_STR(seconds)}, 1, &count);
    if (count > 0) {
        printf("stuck: %lld orders are pending for longer than %s s\n", count, seconds);
        fflush(stdout);
    }
    return good;
}

int main(int argc, char **argv)
{
    static const char *const topics[] = {"payments", "stock"};
    const char *seconds = argc > 3 ? argv[3] : "60";
    struct saga s = {.name = "orders"};
    if (argc < 3) {
        fprintf(stderr, "saga_orders DATABASE place|BROKERS [SECONDS]\n");
        return 2;
    }
    bool good = saga_open_db(&s, argv[1], tables);
    if (good && strcmp(argv[2], "place") == 0) {
        good = place_lines(&s);
    } else if (good) {
        time_t looked = time(NULL);
        good = saga_open(&s, argv[1], argv[2], topics, 2);
        while (good && !saga_stop) {
            if (saga_read(&s, step)) {
                saga_publish(&s);
            }
            if (time(NULL) != looked) {
                looked = time(NULL);
                good = show_stuck(&s, seconds);
            }
        }
    }
    saga_close(&s);
    return !good;
}

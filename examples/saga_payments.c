/* saga_payments: takes the money for an order, or gives it back when the goods are not there (see
 * saga_orders.c). Customers have accounts; whoever has none is refused.
 *
 *     saga_payments payments.db 127.0.0.1:9092
 *     sqlite3 payments.db "INSERT INTO account VALUES ('ada', 100)"
 *
 * cc saga_payments.c -o saga_payments \
 *     $(pkg-config --cflags --libs rivulet-store rivulet-outbox rivulet sqlite3)
 */
#include "saga.h"

#include <string.h>

static const char tables[] =
    "CREATE TABLE IF NOT EXISTS account (customer TEXT PRIMARY KEY,"
    " balance INTEGER NOT NULL CHECK (balance >= 0));"
    "CREATE TABLE IF NOT EXISTS payment (order_id TEXT PRIMARY KEY, customer TEXT NOT NULL,"
    " amount INTEGER NOT NULL, state TEXT NOT NULL)";

/* An order has one payment, whatever becomes of it: that is what makes the step idempotent. */
static bool pay(struct saga *s, const char *order, const char *customer, const char *amount,
                const char *goods)
{
    if (!SQL(s->db, "INSERT INTO payment VALUES (?1, ?2, ?3, 'refused') ON CONFLICT DO NOTHING",
             RV_STR(order), RV_STR(customer), RV_STR(amount))) {
        return false;
    }
    if (sqlite3_changes(s->db) == 0) {
        return true; /* was done before */
    }
    if (!SQL(s->db,
             "UPDATE account SET balance = balance - ?2 WHERE customer = ?1 AND balance >= ?2",
             RV_STR(customer), RV_STR(amount))) {
        return false;
    }
    if (sqlite3_changes(s->db) == 0) {
        return saga_tell(s, order, "refused");
    }
    return SQL(s->db, "UPDATE payment SET state = 'paid' WHERE order_id = ?1", RV_STR(order)) &&
           saga_tell(s, order, "paid %s", goods);
}

static bool refund(struct saga *s, const char *order)
{
    if (!SQL(s->db, "UPDATE payment SET state = 'refunded' WHERE order_id = ?1 AND state = 'paid'",
             RV_STR(order))) {
        return false;
    }
    return sqlite3_changes(s->db) == 0 || /* was done before */
           (SQL(s->db,
                "UPDATE account SET balance = balance + p.amount FROM payment AS p"
                " WHERE p.order_id = ?1 AND account.customer = p.customer",
                RV_STR(order)) &&
            saga_tell(s, order, "refunded"));
}

static bool step(struct saga *s, const char *order, const char *event)
{
    char customer[100], amount[100], goods[200];
    if (sscanf(event, "placed %99s %99s %199[^\n]", customer, amount, goods) == 3) {
        return pay(s, order, customer, amount, goods);
    }
    return strcmp(event, "short") == 0 ? refund(s, order) : true;
}

int main(int argc, char **argv)
{
    static const char *const topics[] = {"orders", "stock"};
    struct saga s = {.name = "payments"};
    if (argc != 3) {
        fprintf(stderr, "saga_payments DATABASE BROKERS\n");
        return 2;
    }
    bool good = saga_open_db(&s, argv[1], tables) && saga_open(&s, argv[1], argv[2], topics, 2);
    while (good && !saga_stop) {
        if (saga_read(&s, step)) {
            saga_publish(&s);
        }
    }
    saga_close(&s);
    return !good;
}

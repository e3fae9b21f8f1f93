/* saga_stock: sets the goods aside for an order that is paid, or says that it has too few of them;
 * then payments gives the money back (see saga_orders.c).
 *
 *     saga_stock stock.db 127.0.0.1:9092
 *     sqlite3 stock.db "INSERT INTO article VALUES ('book', 10)"
 *
 * cc saga_stock.c -o saga_stock \
 *     $(pkg-config --cflags --libs rivulet-store rivulet-outbox rivulet sqlite3)
 */
#include "saga.h"

static const char tables[] =
    "CREATE TABLE IF NOT EXISTS article (name TEXT PRIMARY KEY,"
    " count INTEGER NOT NULL CHECK (count >= 0));"
    "CREATE TABLE IF NOT EXISTS reservation (order_id TEXT PRIMARY KEY, article TEXT NOT NULL,"
    " count INTEGER NOT NULL, state TEXT NOT NULL)";

/* An order has one reservation, whatever becomes of it: that is what makes the step idempotent. */
static bool reserve(struct saga *s, const char *order, const char *article, const char *count)
{
    if (!SQL(s->db, "INSERT INTO reservation VALUES (?1, ?2, ?3, 'short') ON CONFLICT DO NOTHING",
             RV_STR(order), RV_STR(article), RV_STR(count))) {
        return false;
    }
    if (sqlite3_changes(s->db) == 0) {
        return true; /* was done before */
    }
    if (!SQL(s->db, "UPDATE article SET count = count - ?2 WHERE name = ?1 AND count >= ?2",
             RV_STR(article), RV_STR(count))) {
        return false;
    }
    if (sqlite3_changes(s->db) == 0) {
        return saga_tell(s, order, "short");
    }
    return SQL(s->db, "UPDATE reservation SET state = 'reserved' WHERE order_id = ?1",
               RV_STR(order)) &&
           saga_tell(s, order, "reserved");
}

static bool step(struct saga *s, const char *order, const char *event)
{
    char article[100], count[100];
    return sscanf(event, "paid %99s %99s", article, count) != 2 ||
           reserve(s, order, article, count);
}

int main(int argc, char **argv)
{
    static const char *const topics[] = {"payments"};
    struct saga s = {.name = "stock"};
    if (argc != 3) {
        fprintf(stderr, "saga_stock DATABASE BROKERS\n");
        return 2;
    }
    bool good = saga_open_db(&s, argv[1], tables) && saga_open(&s, argv[1], argv[2], topics, 1);
    while (good && !saga_stop) {
        if (saga_read(&s, step)) {
            saga_publish(&s);
        }
    }
    saga_close(&s);
    return !good;
}

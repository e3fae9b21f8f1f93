/* saga.h: what the three services of the order saga share. Each has a database of its own, with a
 * store and an outbox on one connection: what it reads, what it does about it and what it tells are
 * one local transaction. A relay on a second connection publishes what was told.
 */
#include "sql.h"

#include <rivulet_outbox.h>
#include <rivulet_store.h>
#include <signal.h>
#include <stdarg.h>
#include <time.h>

struct saga {
    const char *name; /* of the service, of its group, and of the topic that it tells in */
    sqlite3 *db, *relay_db;
    struct rv_client *client;
    struct rv_consumer *consumer;
    struct rv_store *store;
    struct rv_outbox *outbox, *relay;
};

/* One event about an order, in the open transaction. What it does a second time is nothing. False:
 * the database said no, and the event comes again. */
typedef bool saga_step(struct saga *s, const char *order, const char *event);

static volatile sig_atomic_t saga_stop;

static inline void saga_on_signal(int number)
{
    saga_stop = number;
}

/* Tells something about an order, with the transaction that is open. */
__attribute__((format(printf, 3, 4))) static inline bool saga_tell(struct saga *s,
                                                                   const char *order,
                                                                   const char *format, ...)
{
    char text[500];
    struct rv_error error;
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    const struct rv_message event = {.topic = s->name, .key = RV_STR(order), .value = RV_STR(text)};
    if (rv_outbox_add(s->outbox, &event, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return false;
    }
    return true;
}

static inline bool saga_handle(struct saga *s, saga_step *step, const struct rv_record *record)
{
    char order[200], event[500];
    snprintf(order, sizeof order, "%.*s", (int)record->key.size, (const char *)record->key.ptr);
    snprintf(event, sizeof event, "%.*s", (int)record->value.size, (const char *)record->value.ptr);
    return step(s, order, event);
}

/* Reads what others have told, and takes a step for each, all in one transaction. One that fails
 * is rolled back by the next rv_store_poll, which gives the same events again. */
static inline bool saga_read(struct saga *s, saga_step *step)
{
    const struct rv_record *records;
    struct rv_error error = {.text = "the step was not taken"};
    size_t count = 0;
    bool good = rv_store_poll(s->store, 100, &records, &count, &error) == RV_OK;
    if (good && count > 0) {
        good = rv_store_begin(s->store, &error) == RV_OK;
        for (size_t i = 0; good && i < count; i++) {
            good = saga_handle(s, step, &records[i]);
        }
        good = good && rv_store_commit(s->store, &error) == RV_OK;
    }
    if (!good) {
        fprintf(stderr, "%s: %s\n", s->name, error.text);
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    return good;
}

/* Publishes what was told: what cannot be published now waits in the database. */
static inline void saga_publish(struct saga *s)
{
    struct rv_error error;
    int64_t count;
    if (rv_outbox_relay(s->relay, s->client, 0, &count, &error)) {
        fprintf(stderr, "%s: %s\n", s->name, error.text);
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
}

static inline bool saga_open_db(struct saga *s, const char *path, const char *tables)
{
    struct rv_error error;
    if (!sql_open(path, tables, &s->db)) {
        return false;
    }
    if (rv_outbox_open_sqlite(s->db, NULL, &s->outbox, &error) ||
        rv_outbox_init(s->outbox, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return false;
    }
    return true;
}

static inline bool saga_open(struct saga *s, const char *path, const char *brokers,
                             const char *const *topics, size_t topic_count)
{
    const struct rv_option *options =
        RV_OPTIONS({"bootstrap.servers", brokers}, {"group.id", s->name},
                   {"group.instance.id", s->name}, {"auto.offset.reset", "earliest"});
    const struct rv_option *lease = RV_OPTIONS({"outbox.lease.ms", "1000"});
    struct rv_error error;
    if (!sql_open(path, "", &s->relay_db)) {
        return false;
    }
    if (rv_client_open(options, &s->client, &error) ||
        rv_consumer_open(s->client, options, &s->consumer, &error) ||
        rv_store_open_sqlite(s->client, s->consumer, s->db, options, &s->store, &error) ||
        rv_outbox_open_sqlite(s->relay_db, lease, &s->relay, &error) ||
        rv_subscribe(s->consumer, topics, topic_count, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return false;
    }
    signal(SIGINT, saga_on_signal);
    signal(SIGTERM, saga_on_signal);
    return true;
}

static inline void saga_close(struct saga *s)
{
    struct rv_error error;
    rv_outbox_close(s->relay);
    rv_outbox_close(s->outbox);
    rv_store_close(s->store);
    if (rv_consumer_close(s->consumer, 5000, &error)) {
        fprintf(stderr, "%s: %s\n", s->name, error.text);
    }
    rv_client_close(s->client);
    sqlite3_close(s->relay_db);
    sqlite3_close(s->db);
}

/* rivulet_store.h: exactly once into the service's own database. This header is the manual.
 *
 * A consumer that does its work in a database keeps its offsets there as well, in the same
 * transaction: then a batch of records has had its effect and is read, or neither, whoever is
 * killed when. The database is the service's own, on a connection of the service's own: SQLite or
 * PostgreSQL. It works with rivulet and with Apache Kafka.
 *
 *     #include <libpq-fe.h>
 *     #include <rivulet_store.h>
 *
 *     const struct rv_option *options = RV_OPTIONS({"bootstrap.servers", "localhost:9092"},
 *         {"group.id", "billing"}, {"auto.offset.reset", "earliest"});
 *     struct rv_client *client;
 *     struct rv_consumer *consumer;
 *     struct rv_store *store;
 *     struct rv_error e;
 *     if (rv_client_open(options, &client, &e) ||
 *         rv_consumer_open(client, options, &consumer, &e) ||
 *         rv_store_open_postgres(client, consumer, db, options, &store, &e) ||
 *         rv_subscribe(consumer, (const char *[]){"users"}, 1, &e)) {
 *         return fail(&e);
 *     }
 *     while (running) {
 *         const struct rv_record *records;
 *         size_t count;
 *         if (rv_store_poll(store, 1000, &records, &count, &e)) {
 *             log_line(e.text); // says what; the next rv_store_poll tries again
 *             reconnect_if_lost(db); // PQstatus, PQreset: the connection is yours
 *         } else if (count && rv_store_begin(store, &e) == RV_OK) {
 *             bool good = true;
 *             for (size_t i = 0; good && i < count; i++) {
 *                 good = apply(db, &records[i]); // INSERT, UPDATE, ... on this connection
 *             }
 *             if (good && rv_store_commit(store, &e)) {
 *                 log_line(e.text);
 *             }
 *         }
 *     }
 *     rv_store_close(store);
 *     rv_consumer_close(consumer, -1, NULL);
 *     rv_client_close(client);
 *
 * THE RULE. Records come from rv_store_poll, all of one poll are done in one transaction
 * (`max.poll.records` is its size), and nothing else than that transaction counts: whatever ends
 * without RV_OK from rv_store_commit, because you saw an error, because the connection broke in the
 * middle of COMMIT or because you simply went on, is found out by the next rv_store_poll, which
 * rolls back what is open, reads in the database how far it really got, and gives the records
 * behind that, again or not. There is nothing to clean up by hand. What a transaction does outside
 * of the database (a mail, a call) is done as often as it is tried.
 *
 * FENCED. Who is dealt a partition takes it over in the database first: from then on nobody before
 * can store there. A consumer that was stopped past its session timeout and goes on with its batch
 * gets RV_STORE_FENCED, and the database itself refuses to commit that transaction, even where the
 * result of the call is not looked at: PostgreSQL answers every further statement with an error and
 * COMMIT with ROLLBACK, SQLite has rolled back already. A transaction that has stored its offsets
 * and not committed yet when the partition is taken over keeps the new owner waiting until it ends,
 * and its result is what the new owner sees. So that a stopped process cannot hold up the others
 * for as long as it is stopped, let PostgreSQL end it (`SET idle_in_transaction_session_timeout`,
 * a little above what a batch takes); SQLite has no such thing: a process that is stopped within
 * its transaction locks all writers of that file out.
 *
 * WHERE IT BEGINS. At what the table says; where it says nothing yet, at the offset that the group
 * has committed on the broker, so an existing group moves over without a gap; and where that says
 * nothing either, at `auto.offset.reset`, which should be earliest: `latest` forgets what came in
 * between when the program ends before its first transaction. The broker is told of every offset
 * that was stored, later and at leisure (rv_commit_async), for tools that show lag; if that fails,
 * nothing is lost (rv_client_on_log has a line), and what somebody sets there is not looked at. To
 * make a group read again: UPDATE rivulet_offsets SET next_offset = ..., owner_epoch =
 * owner_epoch + 1 WHERE ...; it may run meanwhile.
 *
 * ANOTHER LOG. An offset alone does not say of which log it is. A broker that was set back to an
 * older copy of its data has a shorter one, and gives the offsets that were read to other records;
 * a topic that was deleted and made again begins anew. So a row has the topic's id and the leader
 * epoch of the last record read, and before records of a partition are given out, the brokers are
 * asked once whether they fit the log that is there (KIP-320; Metadata, and OffsetForLeaderEpoch to
 * each broker that leads): when it is assigned, and when its position was found not to be there.
 * Where they do not, rv_store_poll returns RV_STORE_REPLACED, with a text that says which topic and
 * partition, what was found, and up to which offset the log is still the one that was read; nothing
 * is given out until somebody decides: UPDATE rivulet_offsets SET next_offset = ..., leader_epoch =
 * -1, owner_epoch = owner_epoch + 1 WHERE ... (where to go on, in the log that is there). The
 * effects of records that are gone stay in the database: they are the service's to undo or to keep.
 * With the option `store.replaced`=follow nobody is asked: reading goes on where the two logs part
 * (a topic that was made again: at its start), and RV_JUMPED tells of it, `from` the stored offset.
 * What retention or DeleteRecords took away is no other log: there `auto.offset.reset` decides, as
 * ever. Not noticed: a log that was set back and has grown past the stored offset under the same
 * leader epoch, as when the broker's count of epochs was set back with it; and what brokers before
 * Kafka 2.3, or without ids of topics (before 2.8), cannot tell.
 *
 * THE TABLE is made when it is not there, with rights to do so. On a PostgreSQL connection
 * search_path says where. Groups, and programs in other languages, may share it:
 *
 *     CREATE TABLE rivulet_offsets (
 *         group_id     TEXT   NOT NULL,
 *         topic        TEXT   NOT NULL,
 *         partition_id BIGINT NOT NULL,
 *         owner_epoch  BIGINT NOT NULL,    -- raised by each owner when it takes the partition
 *         next_offset  BIGINT NOT NULL,    -- of the next record to read; -1: nothing is stored yet
 *         leader_epoch BIGINT NOT NULL,    -- of the record before it; -1: not known
 *         owner        TEXT   NOT NULL,    -- `client.id`, for people
 *         topic_id     TEXT   NOT NULL DEFAULT '', -- of the topic that was read; '': not known
 *         PRIMARY KEY (group_id, topic, partition_id))
 *
 * (SQLite: owner_epoch and next_offset are NOT NULL ON CONFLICT ROLLBACK; a table without topic_id
 * gets it), and this is all that is
 * done to it, partitions in the order of topic and number:
 *   - take, when partitions are assigned, in a transaction of its own: insert the row with
 *     owner_epoch 1 and next_offset -1, or raise its owner_epoch by one; read both. Then seek to
 *     next_offset.
 *   - store, in the transaction with the effects: UPDATE ... SET owner_epoch = CASE WHEN
 *     owner_epoch = mine THEN owner_epoch END, next_offset = CASE WHEN next_offset = the one before
 *     THEN the new one END, leader_epoch = ..., topic_id = ...: one who is not the owner, or missed
 *     something, sets NULL, and the database raises. (No row: it is raised by inserting NULL.)
 * docs/PARTS.md has the statements.
 *
 * THREADS, ERRORS, OWNERSHIP: as in rivulet.h. Client, consumer and connection are borrowed, are
 * used by the thread that calls, and must outlive the store. Calls that wait for the database do
 * not give the client's lock away. rv_error_name does not know the codes below.
 */
#ifndef RIVULET_STORE_H
#define RIVULET_STORE_H

#include <rivulet.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sqlite3; /* sqlite3 of sqlite3.h */
struct pg_conn; /* PGconn of libpq-fe.h */
struct rv_store;

enum rv_store_code {
    RV_STORE_DATABASE = -201, /* the database said no; text: its words. RV_RETRIABLE: it was busy,
                                 or chose this transaction to give way; RV_UNSURE: the connection is
                                 lost. rv_store_poll in either case */
    RV_STORE_FENCED = -202, /* the partition was taken over: the transaction cannot be committed */
    RV_STORE_REPLACED = -203, /* the log is not the one that was read (above, ANOTHER LOG). Stays
                                 until somebody says where to go on */
};

/* Before the first rv_poll, on a consumer with `delivery` manual. Of `options`, which may be those
 * of client and consumer, it takes `group.id` (needed; the consumer's) and `client.id`; and
 * `store.replaced`, stop (the default) or follow (above, ANOTHER LOG), which those two do not know:
 * it needs an array of its own. Makes the table. It sets rv_consumer_on_event: use
 * rv_store_on_event instead. No transaction may be open on the connection. RV_E_OPTION,
 * RV_E_ARGUMENT (no connection), RV_E_VERSION (built without that database), RV_STORE_DATABASE. */
RV_API int rv_store_open_sqlite(struct rv_client *client, struct rv_consumer *consumer,
                                struct sqlite3 *db, const struct rv_option *options,
                                struct rv_store **ret_store, struct rv_error *ret_error);
RV_API int rv_store_open_postgres(struct rv_client *client, struct rv_consumer *consumer,
                                  struct pg_conn *db, const struct rv_option *options,
                                  struct rv_store **ret_store, struct rv_error *ret_error);

/* Before the consumer and the connection are closed. Rolls back what rv_store_begin began. Takes
 * NULL. */
RV_API void rv_store_close(struct rv_store *store);

/* rv_poll, in its place: rv_poll called directly is found out by the next transaction, which fails.
 * First settles the last batch (above, THE RULE). After an error there are no records; call it
 * again. While the database cannot be reached it waits up to timeout_ms, the member stays in its
 * group for `max.poll.interval.ms`. RV_E_STATE: a transaction of yours is open, or in a callback.
 * RV_STORE_DATABASE, RV_STORE_FENCED (until rv_poll knows what became of the partition),
 * RV_STORE_REPLACED, and what rv_poll returns; the same codes when the brokers could not be asked
 * about a log within 5 seconds, and then the next one asks again. To read from elsewhere: rv_seek,
 * between rv_store_commit and rv_store_poll. */
RV_API int rv_store_poll(struct rv_store *store, int timeout_ms,
                         const struct rv_record **ret_records, size_t *ret_count,
                         struct rv_error *ret_error);

/* BEGIN (SQLite: BEGIN IMMEDIATE), and the offsets with COMMIT. What rv_store_commit does not
 * return RV_OK for is rolled back, or (RV_UNSURE) nobody knows; rv_store_poll finds out. */
RV_API int rv_store_begin(struct rv_store *store, struct rv_error *ret_error);
RV_API int rv_store_commit(struct rv_store *store, struct rv_error *ret_error);

/* For a transaction that you begin and commit yourself: stores the offsets of the last
 * rv_store_poll in it; its last statement. Any error: the transaction cannot be committed any more,
 * roll back. The next rv_store_poll reads back whether it was committed. RV_E_STATE: no transaction
 * is open, or the positions are not those of the last rv_store_poll. */
RV_API int rv_store_offsets(struct rv_store *store, struct rv_error *ret_error);

/* Your own function for the consumer's events, RV_JUMPED and all; called when the store has done
 * its part: taken over what was assigned. */
RV_API void rv_store_on_event(struct rv_store *store, rv_event_fn *fn, void *ctx);

#ifdef __cplusplus
}
#endif
#endif

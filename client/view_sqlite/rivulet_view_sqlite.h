/* rivulet_view_sqlite.h: keeps a view (rivulet_view.h) in a table of the service's own SQLite
 * database, where its queries can join it. Link librivulet-view_sqlite, librivulet-view, sqlite3.
 *
 *     rv_view_sqlite_open(db, "users", &storage, &e);
 *     rv_view_open(client, "users", NULL, &storage, 30000, &view, &e);
 *
 * The table is made when it is not there; other languages may share it:
 *
 *     CREATE TABLE users (
 *         key          BLOB PRIMARY KEY NOT NULL,
 *         value        BLOB,              -- NULL: removed, the row goes when the view is complete
 *         partition    INTEGER NOT NULL,  -- of the record that it is from
 *         offset       INTEGER NOT NULL,
 *         timestamp_ms INTEGER NOT NULL,
 *         generation   INTEGER NOT NULL)  -- those of older ones go when the view is complete
 *
 * and so are these two, which hold a row a view, and a row a partition:
 *
 *     rivulet_view (view TEXT PRIMARY KEY, topic TEXT, topic_id TEXT, generation, fresh_ms,
 *                   without_key, rebuilds, is_complete)
 *     rivulet_view_position (view TEXT, partition, offset, leader_epoch,
 *                            PRIMARY KEY (view, partition))
 *
 * `view` is the table's name, the rest is what struct rv_view_state says. Read only rows with
 * `value IS NOT NULL`. While `is_complete` is 0 the table is behind; it is what the process that
 * keeps the view knew last.
 *
 * Rows and positions are written in one transaction (BEGIN IMMEDIATE) a call of rv_view_poll, on
 * your connection: it must not be in a transaction then, and may be used for anything else in
 * between. What a change callback writes with it is in the same transaction. How durable a
 * commit is, is the connection's business (PRAGMA synchronous): positions never are where the rows
 * are not. After an error the same call later goes on. */
#ifndef RIVULET_VIEW_SQLITE_H
#define RIVULET_VIEW_SQLITE_H

#include <rivulet_view.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sqlite3;

/* The database said no, in its own words in the text; RV_RETRIABLE: it was busy. The same number in
 * all parts. */
enum { RV_VIEW_E_DATABASE = -201 };

/* `table`: letters, digits and _, 64 at most. The database is borrowed until rv_view_close.
 * RV_E_ARGUMENT: a name that it cannot be; and, from rv_view_open, a table that is another
 * topic's view, or that has rows and is none's. */
RV_API int rv_view_sqlite_open(struct sqlite3 *db, const char *table,
                               struct rv_view_storage *ret_storage, struct rv_error *ret_error);

#ifdef __cplusplus
}
#endif
#endif

/* store_room: what the tests of client/store are played in: a database (SQLite, or PostgreSQL), a
 * broker in this process (or the one that tests/kit/outside.h names), and members, driven by turns
 * on the test's thread. For cmocka; what fails here fails the test. */
#pragma once

#include "base/clock.h"
#include "client/store/rivulet_store.h"
#include "tests/kit/database.h"
#include "tests/kit/feed.h"
#include "tests/kit/local_home.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h> /* needs the above */

enum { PATIENCE_MS = 30000, TURN_MS = 20, MEMBERS = 2, OPTIONS_MAX = 20, BUSY_MS = 50 };

struct seat {
    struct rv_client *client;
    struct rv_consumer *consumer;
    struct rv_store *store;
    struct db db;
    int assigned, gone, jumped; /* partitions that events told of */
    struct rv_error error;
    int code; /* of the last batch */
};

struct room {
    struct database *database;
    struct local_home *broker;
    struct rv_client *feeder;
    struct db db; /* not a member's */
    struct seat seats[MEMBERS];
    struct rv_error error;
};

enum how {
    GOOD,         /* rv_store_begin ... rv_store_commit */
    OWN,          /* a transaction of our own, with rv_store_offsets */
    FORGOTTEN,    /* begun and left so */
    FAILED,       /* a statement fails, and rv_store_commit is called all the same */
    OWN_ROLLBACK, /* rolled back after rv_store_offsets */
    UNTOUCHED,    /* polled and nothing done */
};

int postgres_start_one(void **state);
int sqlite_start(void **state);
int database_end(void **state);
int store_room_open(void **state);
void topic_make(struct room *r, int32_t partitions);
void stand_up(struct seat *s);
int store_room_close(void **state);
int store_open(struct seat *s, const struct rv_option *options);
struct seat *sit(struct room *r, int i, const struct rv_option *more);
int poll_turn(struct seat *s, const struct rv_record **ret_records, size_t *ret_count);
size_t poll_records(struct seat *s, const struct rv_record **ret_records);
void apply(struct seat *s, const struct rv_record *records, size_t count);
int batch_end(struct seat *s, enum how how);
int batch_do(struct seat *s, enum how how, const struct rv_record *records, size_t count);
size_t batch(struct seat *s, enum how how);
void batches_until(struct room *r, struct seat *s, int64_t effects);
void assert_effects(struct room *r, int64_t count);
int64_t row(struct room *r, const char *column);
void assert_error(const struct seat *s, int code, const char *words);
void group_set(struct room *r, int64_t offset);

void poll_until_error(struct seat *s, int code, const char *words);

#define ON(database, test)                                                                         \
    {                                                                                              \
        .name = #database "." #test, .test_func = (test), .setup_func = store_room_open,           \
        .teardown_func = store_room_close                                                          \
    }

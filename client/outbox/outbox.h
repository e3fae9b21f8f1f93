/* outbox: what the files of this part share. The head of relay.c says how it works. */
#pragma once

#include "base/str.h"
#include "client/outbox/rivulet_outbox.h"
#include "client/sql/sql.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    TABLE_SIZE = 41,        /* of a table's name, with its 0 */
    OWNER_SIZE = 64,        /* of a relay's name, with its 0 */
    OUTBOX_FORMAT = 1,      /* of the tables */
    OUTBOX_TEXT_MAX = 4096, /* bytes of one statement, expanded */
};

enum outbox_option {
    OUTBOX_LEASE_MS,
    OUTBOX_BATCH_RECORDS,
    OUTBOX_BATCH_BYTES,
    OUTBOX_KEEP_MS,
    OUTBOX_POLL_MS,
    OUTBOX_RETRY_MS,
    OUTBOX_NUMBERS
};

struct relay;

struct rv_outbox {
    struct sql sql;                  /* the caller's connection */
    char table[TABLE_SIZE];          /* letters, digits and _ */
    int64_t numbers[OUTBOX_NUMBERS]; /* of the options */
    char owner[OWNER_SIZE];          /* how the lease names us */
    int64_t locked;                  /* PostgreSQL: epoch whose lock the session has; -1 */
    struct relay *relay;             /* owned; NULL: has not relayed yet, or begins anew */
};

/* ---- schema.c: statements, written once for both databases. In their text stands
 *   @  for the table's name          ~  for the database's clock, ms since 1970
 *   #  for the type of bytes         !  for that of a number that the database gives
 *   ^  for "is one of $1", a list of numbers with commas ---- */

/* err as sql.h has it. */
err outbox_exec(struct rv_outbox *o, const char *text, const struct sql_value *params, size_t count,
                int64_t *ret_changed);
err outbox_query(struct rv_outbox *o, const char *text, const struct sql_value *params,
                 size_t count, sql_row_fn *fn, void *ctx);
/* The statements that make the tables, in order; a NULL ends them. */
const char *const *outbox_schema(const struct rv_outbox *o);

#define OUTBOX_EXEC(o, text, ret_changed, ...)                                                     \
    outbox_exec(o, text, (const struct sql_value[]){__VA_ARGS__},                                  \
                sizeof((const struct sql_value[]){__VA_ARGS__}) / sizeof(struct sql_value),        \
                ret_changed)

/* A row function for one number: ctx is an int64_t, which a null leaves as it is. */
err outbox_take_number(void *ctx, const struct sql_value *row, size_t count);

/* ---- outbox.c ---- */

/* A transaction of ours around `body`; what `body` says comes back, and OK is a commit. */
err outbox_transaction(struct rv_outbox *o, err (*body)(struct rv_outbox *o, void *ctx), void *ctx);

/* What Kafka takes for a topic's name. */
bool outbox_is_topic_name(struct str name);

/* In a transaction: the rows of a batch are published. */
err outbox_rows_done(struct rv_outbox *o, int64_t batch, int64_t *ret_rows);

/* ---- relay.c ---- */

void outbox_relay_forget(struct rv_outbox *o); /* frees what a relay has in memory */

/* ---- lease.c ---- */

void owner_init(char owner[OWNER_SIZE]);
bool owner_is_gone(const char *mine, struct str other);
void outbox_relay_release(struct rv_outbox *o); /* gives the lease back, as far as that goes */

/* The tables, and what is different between the databases. docs/PARTS.md is their manual.
 *
 *   @            the rows. `id` is the order of inserts, `seq` the order of commits among rows of
 *                one topic and key; state new -> sealed (in `batch`) -> gone or sent; waits: behind
 *                something in @_wait, or behind a batch that nobody can settle
 *   @_batch      batches that are sealed: their identity, before they are first sent
 *   @_partition  the producer id, epoch and next sequence of each partition
 *   @_wait       what was refused: a row with the later ones of its key, or a whole topic
 *   @_relay      one row: the lease
 *
 * THE ORDER OF COMMITS. A relay that publishes by `id` is wrong on PostgreSQL, and so is one that
 * goes by pg_current_xact_id(): both are given before the commit, and two transactions may commit
 * the other way round. Three things were looked at:
 *   - A lock on the key, taken by the insert: right, but held from the insert to the commit. Two
 *     transactions that insert two keys in different orders deadlock, and one that inserts 10,000
 *     keys takes 10,000 locks of a table that holds 6,400.
 *   - Rows whose transaction is below pg_snapshot_xmin(), by (xid, id): nothing is skipped, but a
 *     transaction that wrote something else first has the smaller xid and may commit later: the
 *     order per key is wrong, and one long transaction anywhere holds everything up.
 *   - `seq`, given by a deferred trigger while the transaction commits: what is done. It is given
 *     under a lock on the key that is held to the end of the commit, and a lock is given up after
 *     the transaction is visible: so among rows of one key it is the order of commits, and whoever
 *     sees a row sees those before it. All keys of a transaction are locked at once, by 128 slots
 *     that they are hashed to, in the order of these, and behind every lock that its statements
 *     took: two commits cannot wait for each other (but for deferred triggers of the service's own
 *     that lock something). The price: each row is written twice.
 * The trigger finds the rows of its transaction by `seq IS NULL`: what is committed has one. Nobody
 * goes by "seq > last": a row is published because it is new, so that none is skipped.
 *
 * SQLite has one writer at a time, and AUTOINCREMENT never gives a number twice: id is the order of
 * commits, and `seq` another name of it.
 */
#include "client/outbox/outbox.h"

#include <stdio.h>

#define COLUMNS                                                                                    \
    "id !, topic TEXT NOT NULL, key #, value #, headers TEXT, timestamp_ms BIGINT NOT NULL "       \
    "DEFAULT (~), state TEXT NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'sealed', 'waits', "   \
    "'sent')), batch BIGINT, done_ms BIGINT, seq BIGINT"

#define REST                                                                                       \
    "CREATE INDEX IF NOT EXISTS @_new ON @ (seq) WHERE state = 'new'",                             \
        "CREATE INDEX IF NOT EXISTS @_waiting ON @ (topic) WHERE state = 'waits'",                 \
        "CREATE INDEX IF NOT EXISTS @_sealed ON @ (batch) WHERE batch IS NOT NULL",                \
        "CREATE INDEX IF NOT EXISTS @_sent ON @ (done_ms) WHERE state = 'sent'",                   \
        "CREATE TABLE IF NOT EXISTS @_batch (id !, topic TEXT NOT NULL, partition BIGINT NOT "     \
        "NULL, producer_id BIGINT NOT NULL, producer_epoch BIGINT NOT NULL, base_sequence BIGINT " \
        "NOT NULL, records BIGINT NOT NULL, checksum BIGINT NOT NULL, end_offset BIGINT NOT "      \
        "NULL, sealed_ms BIGINT NOT NULL, stuck TEXT, stuck_ms BIGINT, UNIQUE (topic, "            \
        "partition))",                                                                             \
        "CREATE TABLE IF NOT EXISTS @_partition (topic TEXT NOT NULL, partition BIGINT NOT NULL, " \
        "producer_id BIGINT NOT NULL, producer_epoch BIGINT NOT NULL, next_sequence BIGINT NOT "   \
        "NULL, end_offset BIGINT NOT NULL, PRIMARY KEY (topic, partition))",                       \
        "CREATE TABLE IF NOT EXISTS @_wait (id !, scope TEXT NOT NULL CHECK (scope IN ('topic', "  \
        "'key', 'row')), topic TEXT NOT NULL, key #, row_id BIGINT NOT NULL, code BIGINT NOT "     \
        "NULL, reason TEXT NOT NULL, since_ms BIGINT NOT NULL)",                                   \
        "CREATE INDEX IF NOT EXISTS @_wait_topic ON @_wait (topic)",                               \
        "CREATE TABLE IF NOT EXISTS @_relay (id BIGINT PRIMARY KEY CHECK (id = 1), format BIGINT " \
        "NOT NULL, owner TEXT NOT NULL, epoch BIGINT NOT NULL, until_ms BIGINT NOT NULL)",         \
        "INSERT INTO @_relay (id, format, owner, epoch, until_ms) VALUES (1, 1, '', 0, 0) ON "     \
        "CONFLICT (id) DO NOTHING"

_Static_assert(OUTBOX_FORMAT == 1, "as it says above");

static const char *const schema_sqlite[] = {
    "CREATE TABLE IF NOT EXISTS @ (" COLUMNS " GENERATED ALWAYS AS (id) VIRTUAL)", REST, NULL};

/* The trigger's plans must not depend on how many rows there were when they were made: a plan that
 * is kept from when the table was empty would read all of it. */
static const char *const schema_postgres[] = {
    "SET LOCAL client_min_messages = warning",     /* what is there already is no news */
    "SELECT pg_advisory_xact_lock(hashtext('@'))", /* two that make it at once */
    "CREATE SEQUENCE IF NOT EXISTS @_seq",
    "CREATE TABLE IF NOT EXISTS @ (" COLUMNS ")",
    "CREATE INDEX IF NOT EXISTS @_unordered ON @ (id) WHERE seq IS NULL",
    "CREATE OR REPLACE FUNCTION @_order() RETURNS trigger LANGUAGE plpgsql "
    "SET search_path FROM CURRENT SET enable_seqscan = off AS $$ "
    "DECLARE slot BIGINT; "
    "BEGIN "
    "  IF EXISTS (SELECT FROM @ WHERE id = NEW.id AND seq IS NULL) THEN "
    "    FOR slot IN SELECT DISTINCT hashtext(topic || ' ' || encode(key, 'hex')) & 127 "
    "        FROM @ WHERE seq IS NULL AND key IS NOT NULL ORDER BY 1 LOOP "
    "      PERFORM pg_advisory_xact_lock(TG_RELID::BIGINT * 128 + slot); "
    "    END LOOP; "
    "    UPDATE @ SET seq = mine.seq FROM (SELECT id, nextval('@_seq') AS seq FROM "
    "        (SELECT id FROM @ WHERE seq IS NULL ORDER BY id) AS o) AS mine WHERE @.id = mine.id; "
    "  END IF; "
    "  RETURN NULL; "
    "END $$",
    "DROP TRIGGER IF EXISTS @_order ON @",
    "CREATE CONSTRAINT TRIGGER @_order AFTER INSERT ON @ DEFERRABLE INITIALLY DEFERRED "
    "FOR EACH ROW EXECUTE FUNCTION @_order()",
    "CREATE OR REPLACE FUNCTION @_notify() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN NOTIFY @; RETURN NULL; END $$",
    "DROP TRIGGER IF EXISTS @_notify ON @",
    "CREATE TRIGGER @_notify AFTER INSERT ON @ FOR EACH STATEMENT EXECUTE FUNCTION @_notify()",
    REST,
    NULL};

const char *const *outbox_schema(const struct rv_outbox *o)
{
    return sql_is_postgres(&o->sql) ? schema_postgres : schema_sqlite;
}

/* What stands for a sign; NULL: it is a letter like any other. */
static const char *meaning_of(const struct rv_outbox *o, char sign)
{
    bool postgres = sql_is_postgres(&o->sql);
    switch (sign) {
    case '@': return o->table;
    case '#': return sql_bytes_type(&o->sql);
    case '~':
        return postgres ? "(extract(epoch FROM clock_timestamp()) * 1000)::BIGINT"
                        : "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)";
    case '!':
        return postgres ? "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
                        : "INTEGER PRIMARY KEY AUTOINCREMENT";
    case '^':
        return postgres ? "= ANY (string_to_array($1, ',')::BIGINT[])"
                        : "IN (SELECT value FROM json_each('[' || $1 || ']'))";
    default: return NULL;
    }
}

static err expand(struct rv_outbox *o, const char *text, char to[OUTBOX_TEXT_MAX])
{
    size_t size = 0;
    for (; *text; text++) {
        char letter[2] = {*text, 0};
        const char *meaning = meaning_of(o, *text);
        meaning = meaning ? meaning : letter;
        size_t more = strlen(meaning);
        if (size + more >= OUTBOX_TEXT_MAX) {
            return ERR_LIMIT;
        }
        memcpy(to + size, meaning, more);
        size += more;
    }
    to[size] = 0;
    return OK;
}

err outbox_exec(struct rv_outbox *o, const char *text, const struct sql_value *params, size_t count,
                int64_t *ret_changed)
{
    char expanded[OUTBOX_TEXT_MAX];
    err e = expand(o, text, expanded);
    return e == OK ? sql_exec(&o->sql, expanded, params, count, ret_changed) : e;
}

err outbox_query(struct rv_outbox *o, const char *text, const struct sql_value *params,
                 size_t count, sql_row_fn *fn, void *ctx)
{
    char expanded[OUTBOX_TEXT_MAX];
    err e = expand(o, text, expanded);
    return e == OK ? sql_query(&o->sql, expanded, params, count, fn, ctx) : e;
}

err outbox_take_number(void *ctx, const struct sql_value *row, size_t count)
{
    (void)count;
    if (row[0].type == SQL_NUMBER) {
        *(int64_t *)ctx = row[0].number;
    }
    return OK;
}

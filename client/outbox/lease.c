/* The lease: one row that says which relay works. It saves work and keeps the order; that nothing
 * is stored twice does not rest on it (relay.c, O1).
 *
 * It is free when its time is over, by the database's clock. And before that when its holder is
 * surely not there any more:
 *   PostgreSQL  a relay holds an advisory lock of its session, named by its epoch, from before the
 *               lease is seen as its own. The server lets it go with the connection, which a killed
 *               process's system closes. (One that is not closed, because the host is gone: the
 *               lease ends by its time.) A pooler that hands out sessions by the transaction keeps
 *               the lock for as long as it keeps the session: then it is the time again.
 *   SQLite      the holder's name says host, namespace of processes and process: no such process.
 *               Where the namespace is another one, or the number was given to somebody else, it
 *               is the time again.
 * A mistake in this costs a change of hands, like a lease that is too short. */
#include "client/outbox/relay.h"

#include "base/clock.h"
#include "base/rand.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

/* ---- who a relay is: HOST/NAMESPACE/PROCESS/NUMBER; a host or namespace that is not known whole
 * is "", and nobody can be compared with it */

enum {
    HOST_SIZE = 31,
    SPACE_SIZE = 12,
    IDLE_LEAST_MS = 5000, /* that a relay may take between two statements */
};

void owner_init(char owner[OWNER_SIZE])
{
    char host[HOST_NAME_MAX + 1] = "", link[32] = "";
    char space[SPACE_SIZE] = "";
    uint32_t number;
    rand_system(&number, sizeof number);
    gethostname(host, sizeof host - 1);
    if (strlen(host) < HOST_SIZE && readlink("/proc/self/ns/pid", link, sizeof link - 1) > 0) {
        sscanf(link, "pid:[%11[0-9]", space); /* whatever else it is */
    }
    snprintf(owner, OWNER_SIZE, "%.30s/%.11s/%d/%08x", host, space, (int)getpid(),
             (unsigned)number);
}

/* True: `other` was a process of this system, and there is none of its number. */
bool owner_is_gone(const char *mine, struct str other)
{
    char host[2][HOST_SIZE] = {"", ""}, space[2][SPACE_SIZE] = {"", ""}, text[OWNER_SIZE];
    int pid[2] = {0, 0};
    snprintf(text, sizeof text, "%.*s", STR_ARG(other));
    if (sscanf(mine, "%30[^/]/%11[0-9]/%d/", host[0], space[0], &pid[0]) != 3 ||
        sscanf(text, "%30[^/]/%11[0-9]/%d/", host[1], space[1], &pid[1]) != 3) {
        return false;
    }
    return strcmp(host[0], host[1]) == 0 && strcmp(space[0], space[1]) == 0 && pid[1] > 0 &&
           kill(pid[1], 0) < 0 && errno == ESRCH;
}

/* ---- the connection ---- */

/* Commits of a relay must survive a power cut, whatever the connection is set to; and a relay that
 * is stopped in a transaction may not keep the row of the lease for longer than its lease. */
static err connection_prepare(struct rv_outbox *o)
{
    int64_t synchronous = 2, idle_ms = o->numbers[OUTBOX_LEASE_MS];
    char text[24];
    if (sql_is_postgres(&o->sql)) {
        err e = outbox_exec(o,
                            "SELECT set_config('synchronous_commit', 'on', false) "
                            "WHERE current_setting('synchronous_commit') = 'off'",
                            NULL, 0, NULL);
        idle_ms = idle_ms < IDLE_LEAST_MS ? IDLE_LEAST_MS : idle_ms;
        snprintf(text, sizeof text, "%lld", (long long)idle_ms);
        return e == OK ? OUTBOX_EXEC(o,
                                     "SELECT set_config(name, $1, false) FROM pg_settings WHERE "
                                     "name = 'idle_in_transaction_session_timeout' AND "
                                     "(setting = '0' OR setting::BIGINT > $2)",
                                     NULL, sql_text(str_of(text)), sql_number(idle_ms))
                       : e;
    }
    err e = outbox_query(o, "PRAGMA synchronous", NULL, 0, outbox_take_number, &synchronous);
    return e == OK && synchronous < 2 ? outbox_exec(o, "PRAGMA synchronous = FULL", NULL, 0, NULL)
                                      : e;
}

/* ---- PostgreSQL: the lock of a session. Two numbers of 32 bits: the table and the epoch. */

#define LOCK_KEY "'@_relay'::regclass::oid::INT, ($1 & 2147483647)::INT"

static err lock_take(struct rv_outbox *o, int64_t epoch) /* not having it is no harm */
{
    return OUTBOX_EXEC(o, "SELECT pg_try_advisory_lock(" LOCK_KEY ")", NULL, sql_number(epoch));
}

static err lock_drop(struct rv_outbox *o) /* of the last time that the lease was ours */
{
    int64_t epoch = o->locked;
    o->locked = -1;
    return epoch >= 0
               ? OUTBOX_EXEC(o, "SELECT pg_advisory_unlock(" LOCK_KEY ")", NULL, sql_number(epoch))
               : OK;
}

static err lock_look(struct rv_outbox *o, int64_t epoch, bool *ret_is_held)
{
    int64_t count = 1;
    const struct sql_value number = sql_number(epoch);
    err e = outbox_query(o,
                         "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted "
                         "AND database = (SELECT oid FROM pg_database WHERE datname = "
                         "current_database()) AND classid = '@_relay'::regclass AND "
                         "objid::BIGINT = ($1 & 2147483647) AND objsubid = 2",
                         &number, 1, outbox_take_number, &count);
    *ret_is_held = count > 0;
    return e;
}

/* ---- taking ---- */

struct lease_now {
    int64_t format;
    int64_t epoch;
    bool is_free; /* or ours */
    bool is_gone; /* the holder, though its time is not over */
    const char *mine;
};

static err lease_look(void *ctx, const struct sql_value *row, size_t count)
{
    struct lease_now *now = ctx;
    (void)count;
    now->format = row[0].number;
    now->epoch = row[1].number;
    now->is_free = row[2].number == 1;
    now->is_gone = owner_is_gone(now->mine, sql_str(&row[3]));
    return OK;
}

/* $3: the epoch whose holder is gone; -1. Somebody else may have been faster. */
static err take_body(struct rv_outbox *o, void *ctx)
{
    const struct lease_now *now = ctx;
    int64_t epoch = -1;
    const struct sql_value params[] = {sql_text(str_of(o->owner)),
                                       sql_number(o->numbers[OUTBOX_LEASE_MS]),
                                       sql_number(now->is_gone ? now->epoch : -1)};
    err e = outbox_query(o,
                         "UPDATE @_relay SET owner = $1, epoch = epoch + 1, until_ms = ~ + $2 "
                         "WHERE id = 1 AND (owner = $1 OR until_ms < ~ OR epoch = $3) "
                         "RETURNING epoch",
                         params, 3, outbox_take_number, &epoch);
    if (e == OK && epoch >= 0 && sql_is_postgres(&o->sql)) {
        e = lock_take(o, epoch);
        e = e == OK ? lock_drop(o) : e;
        o->locked = e == OK ? epoch : o->locked;
    }
    o->relay->epoch = epoch;
    return e;
}

/* It is read first: one that waits writes nothing. */
err lease_take(struct rv_outbox *o)
{
    struct lease_now now = {.mine = o->owner};
    int64_t began_ms = clock_mono_ms(&clock_real);
    const struct sql_value owner = sql_text(str_of(o->owner));
    err e = outbox_query(o,
                         "SELECT format, epoch, CASE WHEN owner = $1 OR until_ms < ~ THEN 1 ELSE 0 "
                         "END, owner FROM @_relay WHERE id = 1",
                         &owner, 1, lease_look, &now);
    if (e == OK && now.format != OUTBOX_FORMAT) {
        snprintf(o->sql.text, sizeof o->sql.text,
                 "its tables are of format %lld, and this is a program for format %d",
                 (long long)now.format, OUTBOX_FORMAT);
        return ERR_UNSUPPORTED;
    }
    if (e == OK && !now.is_free && sql_is_postgres(&o->sql)) {
        bool is_held = true;
        e = lock_look(o, now.epoch, &is_held);
        now.is_gone = !is_held;
    }
    if (e != OK || !(now.is_free || now.is_gone)) {
        return e;
    }
    e = connection_prepare(o);
    e = e == OK ? outbox_transaction(o, take_body, &now) : e;
    o->relay->leased_ms = began_ms;
    return e;
}

/* ---- having ---- */

err relay_hold(struct rv_outbox *o)
{
    struct relay *r = o->relay;
    int64_t changed = 0;
    int64_t began_ms = clock_mono_ms(&clock_real);
    err e = OUTBOX_EXEC(o,
                        "UPDATE @_relay SET until_ms = ~ + $3 "
                        "WHERE id = 1 AND owner = $1 AND epoch = $2",
                        &changed, sql_text(str_of(o->owner)), sql_number(r->epoch),
                        sql_number(o->numbers[OUTBOX_LEASE_MS]));
    if (e == OK && changed != 1) {
        return ERR_STALE;
    }
    r->leased_ms = began_ms;
    return e;
}

void outbox_relay_release(struct rv_outbox *o)
{
    if (sql_in_transaction(&o->sql)) {
        return;
    }
    if (o->relay && o->relay->epoch >= 0) {
        /* Where it fails, the lease ends by itself. */
        OUTBOX_EXEC(o, "UPDATE @_relay SET until_ms = 0 WHERE id = 1 AND owner = $1 AND epoch = $2",
                    NULL, sql_text(str_of(o->owner)), sql_number(o->relay->epoch));
    }
    lock_drop(o); /* where that fails, the connection is lost, and has none */
}

/* Waiting for rows. PostgreSQL: the trigger of the table notifies, LISTEN is on the relay's
 * connection. SQLite: another connection's commit changes `PRAGMA data_version`, which costs no
 * read of the table. Either way the caller looks again after a while, for rows that nobody told of.
 */
#include "client/outbox/relay.h"

#include "base/clock.h"

enum { VERSION_MS = 20 }; /* between two looks at the number, which costs microseconds */

#ifdef RIVULET_POSTGRES

#include <libpq-fe.h>
#include <poll.h>

/* What has come is taken; true: something had. */
static bool notices_take(PGconn *conn)
{
    bool any = false;
    PGnotify *notice;
    while ((notice = PQnotifies(conn)) != NULL) {
        PQfreemem(notice);
        any = true;
    }
    return any;
}

static err notices_wait(struct rv_outbox *o, int timeout_ms)
{
    struct relay *r = o->relay;
    PGconn *conn = o->sql.connection;
    int64_t deadline_ms = clock_after_ms(&clock_real, timeout_ms);
    if (!r->listens) { /* whatever was committed before it is in force is looked for again */
        r->listens = true;
        return outbox_exec(o, "LISTEN @", NULL, 0, NULL);
    }
    for (;;) {
        int64_t left_ms = deadline_ms - clock_mono_ms(&clock_real);
        if (notices_take(conn) || left_ms <= 0) {
            return OK;
        }
        int next_ms = rv_timeout(r->client);
        struct pollfd fds[] = {
            {.fd = PQsocket(conn),   .events = POLLIN},
            {.fd = rv_fd(r->client), .events = POLLIN}
        };
        int wait_ms = next_ms >= 0 && next_ms < left_ms ? next_ms : (int)left_ms;
        if (poll(fds, 2, wait_ms) < 0) {
            return OK; /* a signal: the caller's program wants something else */
        }
        if (fds[0].revents && !PQconsumeInput(conn)) {
            return ERR_CLOSED;
        }
        rv_process(r->client, NULL); /* its troubles come up when it is needed */
    }
}

#else

static err notices_wait(struct rv_outbox *o, int timeout_ms)
{
    (void)o;
    (void)timeout_ms;
    return ERR_UNSUPPORTED; /* there is no such connection without it */
}

#endif

/* A short wait, and a look at the number. */
static err version_wait(struct rv_outbox *o, int timeout_ms)
{
    struct relay *r = o->relay;
    int64_t deadline_ms = clock_after_ms(&clock_real, timeout_ms);
    for (;;) {
        int64_t version = -1;
        err e = outbox_query(o, "PRAGMA data_version", NULL, 0, outbox_take_number, &version);
        bool changed = version != r->version;
        r->version = version;
        int64_t left_ms = deadline_ms - clock_mono_ms(&clock_real);
        if (e != OK || changed || left_ms <= 0) {
            return e;
        }
        rv_wait(r->client, left_ms < VERSION_MS ? (int)left_ms : VERSION_MS, NULL);
    }
}

err news_wait(struct rv_outbox *o, int timeout_ms)
{
    return sql_is_postgres(&o->sql) ? notices_wait(o, timeout_ms) : version_wait(o, timeout_ms);
}

#include "tests/kit/steps.h"

#include "base/check.h"

#include <dlfcn.h>
#include <signal.h>
#include <sys/socket.h>
#ifdef RIVULET_POSTGRES
#include <libpq-fe.h>
#endif
#ifdef RIVULET_SQLITE
#include <sqlite3.h>
#endif

static struct steps now;
static int64_t count;
static bool is_inside; /* of libpq's statement, which is a step itself */

void steps_begin(struct steps steps)
{
    now = steps;
    count = 0;
}

void steps_point(void)
{
    if (now.at > 0 && ++count == now.at) {
        raise(now.signal);
    }
}

static void *next(const char *name)
{
    void *p = dlsym(RTLD_NEXT, name);
    check(p);
    return p;
}

static void database_point(bool in_transaction)
{
    if (!in_transaction || now.in_transactions || now.signal != SIGSTOP) {
        steps_point();
    }
}

#ifdef RIVULET_SQLITE
int sqlite3_step(sqlite3_stmt *statement)
{
    int (*real)(sqlite3_stmt *);
    *(void **)&real = next("sqlite3_step");
    sqlite3 *db = sqlite3_db_handle(statement);
    database_point(sqlite3_txn_state(db, NULL) != SQLITE_TXN_NONE);
    int code = real(statement);
    database_point(sqlite3_txn_state(db, NULL) != SQLITE_TXN_NONE);
    return code;
}
#endif

#ifdef RIVULET_POSTGRES
/* Where nothing is counted nothing is written: other threads may be here then. */
static void statement_begins(PGconn *conn)
{
    database_point(PQtransactionStatus(conn) != PQTRANS_IDLE);
    if (now.at > 0) {
        is_inside = true;
    }
}

static void statement_ends(PGconn *conn)
{
    if (now.at > 0) {
        is_inside = false;
    }
    database_point(PQtransactionStatus(conn) != PQTRANS_IDLE);
}

PGresult *PQexec(PGconn *conn, const char *text)
{
    PGresult *(*real)(PGconn *, const char *);
    *(void **)&real = next("PQexec");
    statement_begins(conn);
    PGresult *result = real(conn, text);
    statement_ends(conn);
    return result;
}

PGresult *PQexecParams(PGconn *conn, const char *text, int param_count, const Oid *types,
                       const char *const *values, const int *sizes, const int *formats, int format)
{
    PGresult *(*real)(PGconn *, const char *, int, const Oid *, const char *const *, const int *,
                      const int *, int);
    *(void **)&real = next("PQexecParams");
    statement_begins(conn);
    PGresult *result = real(conn, text, param_count, types, values, sizes, formats, format);
    statement_ends(conn);
    return result;
}
#endif

ssize_t send(int fd, const void *p, size_t size, int flags)
{
    ssize_t (*real)(int, const void *, size_t, int);
    *(void **)&real = next("send");
    bool is_step = now.has_sends && !is_inside;
    if (is_step) {
        steps_point();
    }
    ssize_t n = real(fd, p, size, flags);
    if (is_step) {
        steps_point();
    }
    return n;
}

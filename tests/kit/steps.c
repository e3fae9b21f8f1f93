#include "tests/kit/steps.h"

#include "base/check.h"

#include <dlfcn.h>
#include <signal.h>
#ifdef RIVULET_POSTGRES
#include <libpq-fe.h>
#endif
#ifdef RIVULET_SQLITE
#include <sqlite3.h>
#endif

static int64_t steps, last;

void steps_kill_at(int64_t step)
{
    steps = 0;
    last = step;
}

void steps_point(void)
{
    if (++steps == last) {
        raise(SIGKILL);
    }
}

#ifdef RIVULET_SQLITE
int sqlite3_step(sqlite3_stmt *statement)
{
    int (*real)(sqlite3_stmt *);
    *(void **)&real = dlsym(RTLD_NEXT, "sqlite3_step");
    check(real);
    steps_point();
    int code = real(statement);
    steps_point();
    return code;
}
#endif

#ifdef RIVULET_POSTGRES
PGresult *PQexec(PGconn *conn, const char *text)
{
    PGresult *(*real)(PGconn *, const char *);
    *(void **)&real = dlsym(RTLD_NEXT, "PQexec");
    check(real);
    steps_point();
    PGresult *result = real(conn, text);
    steps_point();
    return result;
}

PGresult *PQexecParams(PGconn *conn, const char *text, int count, const Oid *types,
                       const char *const *values, const int *sizes, const int *formats, int format)
{
    PGresult *(*real)(PGconn *, const char *, int, const Oid *, const char *const *, const int *,
                      const int *, int);
    *(void **)&real = dlsym(RTLD_NEXT, "PQexecParams");
    check(real);
    steps_point();
    PGresult *result = real(conn, text, count, types, values, sizes, formats, format);
    steps_point();
    return result;
}
#endif

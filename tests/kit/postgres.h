/* postgres: a PostgreSQL server of the test's own, in a directory of its own, on a Unix socket in
 * there and on no port. fsync is on. Root may not run it: then it runs as the user postgres, or
 * nobody. It ends with the test's process, and is ended by its own pid. For the main thread of a
 * test; the process ends when a server cannot be made.
 */
#pragma once

#include "tests/kit/temp_dir.h"

#include <sys/types.h>

enum { POSTGRES_CONNINFO_SIZE = TEMP_DIR_SIZE + 64 };

struct postgres {
    char dir[TEMP_DIR_SIZE];               /* everything of it */
    pid_t pid;                             /* 0: it is not running */
    char conninfo[POSTGRES_CONNINFO_SIZE]; /* for PQconnectdb; a superuser */
};

struct postgres *postgres_create(void); /* returns when it takes connections */
/* An immediate stop, as a crash is: recovery at the next start. */
void postgres_crash(struct postgres *p);
void postgres_start(struct postgres *p);   /* again, on the same data */
void postgres_destroy(struct postgres *p); /* takes NULL */

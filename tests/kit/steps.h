/* steps: this process gets a signal at its n-th step, so that a test can end or stop it at every
 * one. A step is before and after each statement that is made on a database, by whoever in this
 * program, before and after each write to a socket where that is asked for (steps.c takes the place
 * of libpq's, SQLite's and the system's functions and calls them), and wherever the test says so. A
 * program that uses this is linked with what it takes for it by using it. For processes in which
 * one thread works. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct steps {
    int64_t at;           /* counted from steps_begin on, from 1; 0: never */
    int signal;           /* SIGKILL or SIGSTOP */
    bool in_transactions; /* SIGSTOP: also there, where the database's locks are held */
    bool has_sends;       /* writes to sockets are steps; not those of libpq within a statement */
};

void steps_begin(struct steps steps);
void steps_point(void); /* a step of the test's own */

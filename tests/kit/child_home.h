/* child_home: a local_home in a process of its own, where no allocation of the test's fails. A
 * group fixture of cmocka's. */
#pragma once

#include <sys/types.h>

enum { CHILD_ADDRESS_SIZE = 64 };

struct child_home {
    pid_t pid;
    int stop; /* closed: the broker stops */
    char address[CHILD_ADDRESS_SIZE];
};

int child_home_start(void **state); /* *state: a struct child_home, static; the broker serves */
int child_home_stop(void **state);  /* -1: the broker's process failed */

/* steps: this process ends by SIGKILL at its n-th step, so that a test can end it at every one. A
 * step is before and after each statement that is made on a database, by whoever in this program
 * (steps.c takes the place of libpq's and SQLite's functions and calls them), and wherever the test
 * says so. A program that uses this is linked with what it takes for it by using it. */
#pragma once

#include <stdint.h>

void steps_kill_at(int64_t step); /* counted from now on, from 1; 0: never */
void steps_point(void);           /* a step of the test's own */

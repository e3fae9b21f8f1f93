/* proc: what the system says about a daemon, from /proc. For cmocka tests. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

int64_t proc_rss_bytes(pid_t pid);
int64_t proc_address_space_bytes(pid_t pid);
int proc_open_files(pid_t pid);
int64_t proc_cpu_ticks(pid_t pid); /* of user and system time, of all its threads */
int64_t proc_switches(pid_t pid);  /* times that its threads slept or were made to wait */

/* Sanitizers keep memory for themselves: bounds on it are checked without them. */
bool proc_memory_counts(void);

/* local_broker: a whole broker inside of the test's process, on a thread of its own, on 127.0.0.1.
 * Calls come from the test's thread; the process ends when a broker cannot be started. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct server;

enum { LOCAL_SETS_MAX = 16 };

struct local_broker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    const char *sets[LOCAL_SETS_MAX]; /* "key=value" */
    int set_count;
    struct server *server; /* owned by the thread; server_stop is called from outside */
    uint16_t port;         /* where it listens */
    bool is_up;            /* under the lock */
    bool ended_well;       /* under the lock: everything was synced */
};

/* Starts one on the directory `dir` and `port` (0: a free one); `sets` are more settings, a NULL
 * ends them, and it may be NULL. Returns when it listens. */
void local_broker_start(struct local_broker *b, const char *dir, uint16_t port,
                        const char *const *sets);
void local_broker_stop(struct local_broker *b); /* gracefully; it may be started again */

/* thread: rv_lock, and the helper thread of rv_thread_start that keeps a client moving.
 *
 * Invariants:
 * 1. while the helper runs, nobody but it waits for the sockets: other threads wait for `turned`;
 * 2. a thread that waits has given the lock away, and no turn is under way;
 * 3. the helper sleeps until `wakes_at_ms` at most; who makes something due before that writes to
 *    wake_fd before it gives the lock away.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct rv_client;

struct helper {
    pthread_mutex_t lock;  /* guards the client and all below */
    pthread_cond_t turned; /* somebody made a turn; by the monotonic clock */
    pthread_t id;          /* while it runs */
    bool runs;
    bool stop;           /* it is to end */
    int wake_fd;         /* an eventfd; -1 while it does not run */
    int64_t wakes_at_ms; /* monotonic; INT64_MAX: only for a socket */
    int waiting;         /* threads that wait for `turned` */
};

int helper_init(struct helper *h);    /* an errno, or 0 */
void helper_finish(struct helper *h); /* the thread has ended */

/* For client_turn: waits in the place of epoll_wait, and tells the others of a turn. */
void helper_wait(struct rv_client *c, int timeout_ms);
void helper_told(struct rv_client *c);

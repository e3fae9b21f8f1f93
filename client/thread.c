#include "client/thread.h"

#include "base/check.h"
#include "client/client.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

int helper_init(struct helper *h)
{
    pthread_mutexattr_t of_lock;
    pthread_condattr_t of_turned;
    *h = (struct helper){.wake_fd = -1};
    int e = pthread_mutexattr_init(&of_lock);
    if (e) {
        return e;
    }
    e = pthread_mutexattr_settype(&of_lock, PTHREAD_MUTEX_ERRORCHECK);
    e = e ? e : pthread_mutex_init(&h->lock, &of_lock);
    pthread_mutexattr_destroy(&of_lock);
    if (e) {
        return e;
    }
    e = pthread_condattr_init(&of_turned);
    if (!e) {
        e = pthread_condattr_setclock(&of_turned, CLOCK_MONOTONIC);
        e = e ? e : pthread_cond_init(&h->turned, &of_turned);
        pthread_condattr_destroy(&of_turned);
    }
    if (e) {
        pthread_mutex_destroy(&h->lock);
    }
    return e;
}

/* Wakes the helper when something is due before it would wake by itself (invariant 3). */
static void helper_nudge(struct rv_client *c)
{
    struct helper *h = &c->helper;
    int64_t due = rv_timeout(c) == 0 ? INT64_MIN : timers_next_ms(&c->timers);
    if (h->runs && due < h->wakes_at_ms) {
        h->wakes_at_ms = due;
        uint64_t one = 1;
        ssize_t n = write(h->wake_fd, &one, sizeof one);
        check(n == sizeof one); /* the counter never gets near its limit */
    }
}

void rv_lock(struct rv_client *client)
{
    int e = pthread_mutex_lock(&client->helper.lock);
    check(e == 0); /* EDEADLK: this thread has it already */
}

void rv_unlock(struct rv_client *client)
{
    helper_nudge(client);
    int e = pthread_mutex_unlock(&client->helper.lock);
    check(e == 0); /* EPERM: this thread does not have it */
}

void helper_wait(struct rv_client *c, int timeout_ms)
{
    struct helper *h = &c->helper;
    helper_nudge(c);
    int64_t until_ms = client_now(c) + timeout_ms;
    struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};
    h->waiting++;
    int e = pthread_cond_timedwait(&h->turned, &h->lock, &until);
    check(e == 0 || e == ETIMEDOUT); /* EPERM: called without rv_lock */
    h->waiting--;
}

void helper_told(struct rv_client *c)
{
    if (c->helper.waiting) {
        pthread_cond_broadcast(&c->helper.turned);
    }
}

static void *helper_run(void *ctx)
{
    struct rv_client *c = ctx;
    struct helper *h = &c->helper;
    pthread_mutex_lock(&h->lock);
    while (!h->stop) {
        client_turn(c, 0);
        int timeout_ms = rv_timeout(c);
        h->wakes_at_ms = timeout_ms == 0 ? INT64_MIN : timers_next_ms(&c->timers);
        pthread_mutex_unlock(&h->lock);
        struct pollfd fds[] = {
            {.fd = c->epoll_fd, .events = POLLIN},
            {.fd = h->wake_fd,  .events = POLLIN}
        };
        int n = poll(fds, 2, timeout_ms);
        pthread_mutex_lock(&h->lock);
        uint64_t count;
        if (n > 0 && fds[1].revents && read(h->wake_fd, &count, sizeof count) < 0) {
            check(errno == EAGAIN);
        }
    }
    h->runs = false; /* who waits is to wait for the sockets from now on */
    helper_told(c);
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

int rv_thread_start(struct rv_client *client, struct rv_error *ret_error)
{
    struct helper *h = &client->helper;
    if (h->wake_fd >= 0) {
        return error_set(ret_error, RV_E_STATE, "thread_start: it runs already");
    }
    h->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (h->wake_fd < 0) {
        return error_set(ret_error, RV_E_MEMORY, "thread_start: eventfd: %s", strerror(errno));
    }
    sigset_t all, before; /* signals are for the program's own threads */
    sigfillset(&all);
    pthread_mutex_lock(&h->lock);
    h->stop = false;
    h->runs = true;
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int e = pthread_create(&h->id, NULL, helper_run, client);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    h->runs = e == 0;
    pthread_mutex_unlock(&h->lock);
    if (e) {
        close(h->wake_fd);
        h->wake_fd = -1;
        return error_set(ret_error, RV_E_MEMORY, "thread_start: %s", strerror(e));
    }
    return RV_OK;
}

void rv_thread_stop(struct rv_client *client)
{
    struct helper *h = &client->helper;
    if (h->wake_fd < 0) {
        return;
    }
    pthread_mutex_lock(&h->lock);
    h->stop = true;
    h->wakes_at_ms = INT64_MAX;
    client->again = true; /* due now, whatever the timers say */
    helper_nudge(client);
    pthread_mutex_unlock(&h->lock);
    pthread_join(h->id, NULL);
    close(h->wake_fd);
    h->wake_fd = -1;
}

void helper_finish(struct helper *h)
{
    check(h->wake_fd < 0);
    pthread_cond_destroy(&h->turned);
    pthread_mutex_destroy(&h->lock);
}

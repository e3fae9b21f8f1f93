#include "client/client.h"

#include "base/mem.h"
#include "protocol/error.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { EVENTS_A_TURN = 64, LOG_LINE_SIZE = 400, CONCURRENT_BACKOFF_MS = 20 };

void client_log(struct rv_client *c, enum rv_level level, const char *format, ...)
{
    if (!c->log) {
        return;
    }
    char line[LOG_LINE_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    c->log(c->log_ctx, level, line);
}

int32_t client_lane(struct rv_client *c)
{
    return c->next_lane++;
}

int64_t client_backoff(struct rv_client *c, int64_t base_ms, int64_t most_ms, int failures)
{
    int64_t ms = base_ms;
    for (int i = 0; i < failures && ms < most_ms; i++) {
        ms *= 2;
    }
    ms = ms < most_ms ? ms : most_ms;
    return ms - ms / 5 + (int64_t)rng_below(&c->rng, (uint64_t)(ms * 2 / 5 + 1));
}

int64_t error_backoff_ms(const struct rv_client *c, int code)
{
    int64_t ms = setting(c, OPT_RETRY_BACKOFF_MS);
    /* The markers of the transaction before are being written: a matter of milliseconds. */
    return code == KERR_CONCURRENT_TRANSACTIONS && ms > CONCURRENT_BACKOFF_MS
               ? CONCURRENT_BACKOFF_MS
               : ms;
}

/* ---- open and close ---- */

int rv_client_open(const struct rv_option *options, struct rv_client **ret_client,
                   struct rv_error *ret_error)
{
    struct rv_client *c = mem_zero(1, sizeof *c);
    if (!c) {
        return error_memory(ret_error);
    }
    int e = helper_init(&c->helper);
    if (e) {
        mem_free(c);
        return error_set(ret_error, RV_E_MEMORY, "no lock: %s", strerror(e));
    }
    c->epoll_fd = -1;
    c->clock = &clock_real;
    list_init(&c->conns);
    list_init(&c->dirty);
    list_init(&c->failed);
    list_init(&c->parts);
    timers_init(&c->timers);
    c->next_lane = LANE_CONTROL + 1;
    uint64_t seed;
    rand_system(&seed, sizeof seed);
    rng_init(&c->rng, seed);
    meta_init(&c->meta, c);
    c->features_epoch = -1;
    int code = settings_init(&c->settings, options, ret_error);
    if (code == RV_OK) {
        code = conns_init(c, ret_error);
    }
    if (code == RV_OK) {
        c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (c->epoll_fd < 0) {
            code = error_set(ret_error, RV_E_MEMORY, "epoll_create1: %s", strerror(errno));
        }
    }
    if (code != RV_OK) {
        rv_client_close(c);
        return code;
    }
    *ret_client = c;
    return RV_OK;
}

void rv_client_close(struct rv_client *client)
{
    if (!client) {
        return;
    }
    rv_thread_stop(client);
    meta_finish(&client->meta);
    conns_finish(client);
    timers_finish(&client->timers);
    if (client->epoll_fd >= 0) {
        close(client->epoll_fd);
    }
    settings_finish(&client->settings);
    helper_finish(&client->helper);
    mem_free(client);
}

void rv_client_on_log(struct rv_client *client,
                      void (*fn)(void *ctx, enum rv_level level, const char *text), void *ctx)
{
    client->log = fn;
    client->log_ctx = ctx;
}

/* ---- turns ---- */

static void client_pump(struct rv_client *c)
{
    meta_pump(&c->meta);
    list_each_safe(link, after, &c->parts)
    {
        struct part *part = list_entry(link, struct part, link);
        part->pump(part);
    }
    meta_pump(&c->meta); /* what the parts found out that they need */
}

void client_turn(struct rv_client *c, int timeout_ms)
{
    struct epoll_event events[EVENTS_A_TURN];
    c->in_turn = true;
    conns_flush(c); /* may end calls, so what is due is asked after it */
    int due_ms = rv_timeout(c);
    if (due_ms >= 0 && due_ms < timeout_ms) {
        timeout_ms = due_ms;
    }
    if (c->helper.runs && timeout_ms > 0) {
        c->in_turn = false;
        helper_wait(c, timeout_ms);
        c->in_turn = true;
        timeout_ms = 0;
    }
    int n = epoll_wait(c->epoll_fd, events, EVENTS_A_TURN, timeout_ms);
    for (int i = 0; i < n; i++) {
        conn_on_event(events[i].data.ptr, events[i].events);
    }
    timers_run(&c->timers, client_now(c));
    conns_end_failed(c);
    c->again = false; /* the pumps see all that has come so far */
    client_pump(c);
    conns_flush(c);
    c->in_turn = false;
    helper_told(c);
}

int rv_fd(const struct rv_client *client)
{
    return client->epoll_fd;
}

int rv_timeout(const struct rv_client *client)
{
    if (client->again || !list_empty(&client->dirty) || !list_empty(&client->failed)) {
        return 0;
    }
    int64_t next = timers_next_ms(&client->timers);
    if (next == INT64_MAX) {
        return -1;
    }
    int64_t left = next - client_now(client);
    return left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

int rv_wait(struct rv_client *client, int timeout_ms, struct rv_error *ret_error)
{
    if (client->in_turn) {
        return error_set(ret_error, RV_E_STATE, "not allowed in a callback");
    }
    int64_t deadline = client_deadline(client, timeout_ms);
    client_turn_until(client, deadline);
    return RV_OK;
}

int rv_process(struct rv_client *client, struct rv_error *ret_error)
{
    return rv_wait(client, 0, ret_error);
}

int64_t client_deadline(const struct rv_client *c, int timeout_ms)
{
    return client_now(c) + (timeout_ms < 0 ? setting(c, OPT_DEFAULT_API_TIMEOUT_MS) : timeout_ms);
}

bool client_turn_until(struct rv_client *c, int64_t deadline_ms)
{
    int64_t left = deadline_ms - client_now(c);
    client_turn(c, left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left);
    return client_now(c) < deadline_ms;
}

/* ---- connecting now ---- */

int rv_client_connect(struct rv_client *client, int timeout_ms, struct rv_error *ret_error)
{
    if (client->in_turn) {
        return error_set(ret_error, RV_E_STATE, "not allowed in a callback");
    }
    int64_t deadline = client_deadline(client, timeout_ms);
    uint64_t answers = client->meta.answers;
    client->meta.brokers_wanted = true;
    client->meta.call_failures = 0;
    client->next_bootstrap = 0;
    meta_refresh(&client->meta);
    while (client->meta.answers == answers) {
        bool time_left = client_turn_until(client, deadline);
        if (client->meta.call_failures >= client->bootstrap_count) {
            return error_copy(ret_error, &client->meta.last);
        }
        if (!time_left) {
            return client->meta.call_failures
                       ? error_copy(ret_error, &client->meta.last)
                       : error_set(ret_error, RV_E_TIMED_OUT, "no answer from %s in time",
                                   client->settings.texts[OPT_BOOTSTRAP_SERVERS]);
        }
    }
    return RV_OK;
}

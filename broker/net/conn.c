/* Reading: bytes into frames.
 *
 * Invariants:
 *
 * 1. head_have < 4; not both that and `in` (of which partial.c has its own).
 * 2. A paused or memory-starved connection does not poll for readability.
 * 3. After conn_close nothing is called for the connection but `closed`.
 */
#include "base/bytes.h"
#include "base/mem.h"
#include "broker/net/internal.h"

#include <stdio.h>
#include <unistd.h>

static void on_timer(struct timer *timer);
static void on_poll(uv_poll_t *poll, int status, int events);

static int64_t now_ms(const struct net *net)
{
    return clock_mono_ms(net->options.clock);
}

void conn_open(struct net *net, const struct listener *listener, int fd,
               const struct sockaddr_storage *peer)
{
    struct conn *c = mem_need_zero(1, sizeof *c);
    c->net = net;
    c->listener = listener;
    c->transport = &transport_plain;
    c->fd = fd;
    c->peer = *peer;
    socklen_t size = sizeof c->local;
    if (getsockname(fd, (struct sockaddr *)&c->local, &size) != 0 ||
        uv_poll_init(net->options.loop, &c->poll, fd) != 0) {
        close(fd); /* broken before we saw it */
        net_ip_release(net, peer);
        mem_free(c);
        return;
    }
    c->poll.data = c;
    net->handles++;
    net->count++;
    net->options.metrics->connections_opened++;
    list_init(&c->out);
    list_push(&net->conns, &c->link);
    timer_init(&c->timer, on_timer);
    c->activity_ms = now_ms(net);
    c->owner = net->options.events.opened(net->options.ctx, c);
    conn_update(c);
    conn_arm(c);
}

void conn_free(struct conn *c)
{
    mem_free(c);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    struct net *net = c->net;
    c->handle_closed = true;
    if (c->told) {
        conn_free(c);
    }
    net_released(net);
}

static void count_end(struct net *net, enum conn_end why)
{
    struct metrics *m = net->options.metrics;
    m->connections_broken += why == CONN_END_BROKEN;
    m->connections_stalled_closed += why == CONN_END_STALLED;
    m->connections_idle_closed += why == CONN_END_IDLE;
}

void conn_close(struct conn *c, enum conn_end why, const char *reason)
{
    struct net *net = c->net;
    if (c->closing) {
        return;
    }
    c->closing = true;
    count_end(net, why);
    char peer[NET_ADDRESS_SIZE];
    net_format_peer(&c->peer, peer);
    bool theirs = why == CONN_END_BROKEN || why == CONN_END_STALLED;
    char text[DIAG_QUOTED_SIZE];
    diag_log(net->options.diag, theirs ? DIAG_WARN : DIAG_DEBUG, "connection_closed",
             "peer=%s reason=%s", peer,
             diag_quote(reason, text)); /* whole: a limit's name is at its end */
    partial_forget(c);
    slab_unref(c->rest);
    c->rest = NULL;
    c->head_have = 0;
    if (why == CONN_END_BROKEN) {
        conn_send_last(c); /* the answers to what was asked before it broke */
    }
    conn_drop_output(c);
    timer_disarm(net->options.timers, &c->timer);
    list_remove(&c->waiting);
    list_remove(&c->dirty);
    list_remove(&c->link);
    list_push(&net->closed, &c->link);
    net->count--;
    net_ip_release(net, &c->peer);
    uv_close((uv_handle_t *)&c->poll, on_handle_closed);
    close(c->fd);
    c->fd = -1;
}

/* ---- what it waits for */

static bool may_read(const struct conn *c)
{
    return !c->paused && !c->finishing && !c->net->stop_reading &&
           !list_linked(&c->waiting); /* 2 */
}

void conn_update(struct conn *c)
{
    if (c->closing) {
        return;
    }
    int events = (may_read(c) || c->lingering ? UV_READABLE : 0) | (c->out_bytes ? UV_WRITABLE : 0);
    if (events == c->events) {
        return;
    }
    c->events = events;
    if (events) {
        check(uv_poll_start(&c->poll, events, on_poll) == 0);
    } else {
        check(uv_poll_stop(&c->poll) == 0);
    }
}

void conn_mark_dirty(struct conn *c)
{
    if (!c->closing && !list_linked(&c->dirty)) {
        list_push(&c->net->dirty, &c->dirty);
    }
}

/* When something must be done about it at the latest, and what. */
static int64_t deadline_of(const struct conn *c, enum conn_end *ret_why, const char **ret_reason)
{
    const struct net *net = c->net;
    const struct config *config = net->config;
    int64_t deadline = INT64_MAX;
    bool partial = c->in || c->head_have;
    if (c->lingering) {
        *ret_why = CONN_END_STOP;
        *ret_reason = "finished, and the client did not close (rivulet.linger.ms)";
        return c->linger_ms + config->linger_ms;
    }
    if (partial && may_read(c)) {
        deadline = c->progress_ms + config->frame_stall_ms;
        *ret_why = CONN_END_STALLED;
        *ret_reason = "the frame makes no progress (rivulet.frame.stall.ms)";
        if (c->in) {
            partial_deadline(c, &deadline, ret_reason);
        }
    } else if (c->in && c->paused && partial_spent_ms(net)) {
        deadline = later(c->begun_ms, partial_spent_ms(net)) + config->frame_stall_ms;
        *ret_why = CONN_END_STALLED;
        *ret_reason = "the frame waits for earlier requests while memory is spent "
                      "(rivulet.frame.stall.ms)";
    }
    if (c->out_bytes && c->out_ms + config->reply_stall_ms < deadline) {
        deadline = c->out_ms + config->reply_stall_ms;
        *ret_why = CONN_END_STALLED;
        *ret_reason = "the client takes none of its answer (rivulet.reply.stall.ms)";
    }
    if (c->out_bytes && net->spent_ms) { /* what it does not take is what others wait for */
        int64_t since = c->out_ms > net->spent_ms ? c->out_ms : net->spent_ms;
        if (since + config->memory_stall_ms < deadline) {
            deadline = since + config->memory_stall_ms;
            *ret_why = CONN_END_STALLED;
            *ret_reason = "the client takes none of its answer while memory is spent "
                          "(rivulet.memory.stall.ms)";
        }
    }
    if (!c->busy && !partial && !c->out_bytes &&
        config->connections_max_idle_ms < INT64_MAX - c->activity_ms &&
        c->activity_ms + config->connections_max_idle_ms < deadline) {
        deadline = c->activity_ms + config->connections_max_idle_ms;
        *ret_why = CONN_END_IDLE;
        *ret_reason = "idle (connections.max.idle.ms)";
    }
    return deadline;
}

void conn_arm(struct conn *c)
{
    if (c->closing) {
        return;
    }
    enum conn_end why;
    const char *reason;
    int64_t deadline = deadline_of(c, &why, &reason);
    if (deadline != INT64_MAX && (!timer_armed(&c->timer) || deadline < c->timer.deadline_ms)) {
        timer_arm(c->net->options.timers, &c->timer, deadline);
    }
}

static void on_timer(struct timer *timer)
{
    struct conn *c = list_entry(timer, struct conn, timer);
    enum conn_end why = CONN_END_IDLE;
    const char *reason = "";
    int64_t deadline = deadline_of(c, &why, &reason);
    if (deadline <= now_ms(c->net)) {
        conn_close(c, why, reason);
    } else if (deadline != INT64_MAX) {
        timer_arm(c->net->options.timers, &c->timer, deadline);
    }
}

/* ---- frames */

void conn_deliver(struct conn *c, struct slab *slab, const uint8_t *bytes, size_t size,
                  int64_t arrived_us)
{
    c->last_frame = size;
    c->net->options.events.frame(c->owner, slab, bytes, size, arrived_us);
}

/* Is it a size that we take? Closes the connection otherwise. */
static bool check_size(struct conn *c, int32_t size)
{
    const struct config *config = c->net->config;
    size_t half = c->net->options.budget->limit_bytes / 2;
    char reason[128];
    if (size < 0) {
        snprintf(reason, sizeof reason, "a frame of %d bytes: this is not Kafka's protocol", size);
    } else if (size > config->request_max_bytes) {
        snprintf(reason, sizeof reason, "a frame of %d bytes (socket.request.max.bytes)", size);
    } else if ((size_t)size > half) {
        snprintf(reason, sizeof reason, "a frame of %d bytes (half of rivulet.memory.max.bytes)",
                 size);
    } else {
        return true;
    }
    conn_close(c, CONN_END_BROKEN, reason);
    return false;
}

/* Cuts what was read into frames, until the owner pauses. */
static void parse_rest(struct conn *c, int64_t arrived_us)
{
    while (!c->closing && !c->paused && c->rest) {
        size_t left = (size_t)(c->rest_end - c->rest_at);
        if (left < FRAME_HEAD) {
            if (left) {
                memcpy(c->head, c->rest_at, left);
                c->progress_ms = now_ms(c->net);
            }
            c->head_have = (uint8_t)left;
            break;
        }
        int32_t size = (int32_t)get_be32(c->rest_at);
        if (!check_size(c, size)) {
            return;
        }
        const uint8_t *bytes = c->rest_at + FRAME_HEAD;
        left -= FRAME_HEAD;
        if (left < (size_t)size) {
            c->rest_at = c->rest_end;
            partial_begin(c, bytes, left, (size_t)size, arrived_us);
            break;
        }
        c->rest_at = bytes + size;
        conn_deliver(c, c->rest, bytes, (size_t)size, arrived_us);
    }
    if (!c->closing && c->rest && (!c->paused || c->rest_at == c->rest_end)) {
        slab_unref(c->rest);
        c->rest = NULL;
        conn_arm(c);
    }
}

/* Room in the slab that all connections share, behind what frames may still use. */
static struct slab *read_slab(struct net *net)
{
    if (net->read_slab && net->read_slab->refs == 1) {
        net->read_used = 0;
    }
    if (net->read_slab && net->read_slab->size - net->read_used < READ_SIZE_MIN) {
        slab_unref(net->read_slab);
        net->read_slab = NULL;
    }
    if (!net->read_slab) {
        net->read_slab = slab_create(net->options.budget, READ_SLAB_SIZE);
        net->read_used = 0;
    }
    return net->read_slab;
}

/* Bytes that were read; 0: none, or the connection is closed. */
static size_t read_some(struct conn *c, const struct iovec *parts, int count,
                        int64_t *ret_arrived_us)
{
    ssize_t n = c->transport->read(c->fd, parts, count);
    if (n == TRANSPORT_AGAIN) {
        return 0;
    }
    if (n <= 0) {
        conn_close(c, CONN_END_PEER, n == 0 ? "closed by the client" : "the socket broke");
        return 0;
    }
    *ret_arrived_us = clock_mono_us(c->net->options.clock);
    c->activity_ms = c->progress_ms = *ret_arrived_us / 1000;
    c->net->options.metrics->received_bytes += (uint64_t)n;
    return (size_t)n;
}

/* What of the partial frame nobody wants. */
static bool drop_some(struct conn *c, struct slab *shared)
{
    size_t room = shared->size - c->net->read_used;
    struct iovec part = {shared->data + c->net->read_used, room < c->in_drop ? room : c->in_drop};
    int64_t arrived_us;
    size_t got = read_some(c, &part, 1, &arrived_us);
    if (got) {
        c->in_drop -= got;
        partial_came(c, 0, arrived_us);
    }
    return false; /* the others are read first */
}

/* One read. False: nothing more for now. */
static bool read_once(struct conn *c)
{
    struct net *net = c->net;
    struct slab *shared = read_slab(net);
    if (c->in_drop) {
        return drop_some(c, shared);
    }
    struct iovec parts[2];
    int count = 0;
    size_t own = 0;
    size_t size = 0;
    if (c->in) {
        partial_grow(c);
        size = c->in->size;
        own = (size < c->in_need ? size : c->in_need) - c->in_have;
        parts[count++] = (struct iovec){c->in->data + c->in_have, own};
    }
    uint8_t *at = shared->data + net->read_used;
    size_t room = shared->size - net->read_used;
    if (!c->in || size >= c->in_need) {
        memcpy(at, c->head, c->head_have);
        bool tight = budget_tight(net->options.budget) || budget_tight(&net->partial_memory);
        size_t most = tight ? READ_SIZE_TIGHT : READ_SIZE_MAX;
        room = room > most ? most : room;
        parts[count++] = (struct iovec){at + c->head_have, room - c->head_have};
    }
    int64_t arrived_us;
    size_t got = read_some(c, parts, count, &arrived_us);
    if (got == 0) {
        return false;
    }
    bool filled = got == own;
    if (c->in) {
        size_t mine = got < own ? got : own;
        got -= mine;
        partial_came(c, mine, arrived_us);
    }
    if (got && !c->closing) {
        got += c->head_have;
        c->head_have = 0;
        net->read_used += (got + 15) & ~(size_t)15;
        net->read_used = net->read_used < shared->size ? net->read_used : shared->size;
        c->rest = slab_ref(shared);
        c->rest_at = at;
        c->rest_end = at + got;
        parse_rest(c, arrived_us);
    }
    return !c->closing && !c->paused && c->in && filled && size < c->in_need;
}

void conn_read_on(struct conn *c)
{
    if (c->rest) {
        parse_rest(c, clock_mono_us(c->net->options.clock));
    }
}

/* ---- lingering */

static void drop_input(struct conn *c)
{
    uint8_t bytes[LINGER_READ];
    const struct iovec part = {bytes, sizeof bytes};
    for (int i = 0; i < LINGER_BURST; i++) {
        ssize_t n = c->transport->read(c->fd, &part, 1);
        if (n == TRANSPORT_AGAIN) {
            return;
        }
        if (n <= 0) {
            conn_close(c, CONN_END_STOP, "finished");
            return;
        }
        c->net->options.metrics->received_bytes += (uint64_t)n;
    }
}

void conn_linger(struct conn *c)
{
    if (c->lingering) {
        return;
    }
    int64_t quiet_ms = now_ms(c->net) - c->activity_ms;
    bool unread = c->in || c->head_have || c->rest || c->transport->has_input(c->fd);
    if (!unread && quiet_ms >= c->net->config->linger_ms) {
        conn_close(c, CONN_END_STOP, "finished");
        return;
    }
    partial_forget(c);
    slab_unref(c->rest);
    c->rest = NULL;
    c->head_have = 0;
    list_remove(&c->waiting);
    c->transport->end(c->fd);
    c->lingering = true;
    c->linger_ms = now_ms(c->net);
    conn_update(c);
    conn_arm(c);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct conn *c = poll->data;
    if (c->closing) {
        return;
    }
    if (status < 0) {
        conn_close(c, CONN_END_PEER, "the socket broke");
        return;
    }
    if (c->lingering) {
        drop_input(c);
        return;
    }
    if (events & UV_WRITABLE) {
        conn_send(c);
    }
    if (!c->closing && (events & UV_READABLE) && may_read(c) && !partial_waits(c)) {
        while (read_once(c) && !partial_waits(c)) {
        }
        conn_update(c);
    }
}

/* ---- what the owner says */

void conn_pause(struct conn *c)
{
    c->paused = true;
    conn_update(c);
}

void conn_resume(struct conn *c)
{
    if (c->closing || !c->paused) {
        return;
    }
    c->paused = false;
    c->progress_ms = now_ms(c->net);
    conn_mark_dirty(c);
}

void conn_retry(struct conn *c)
{
    if (!c->closing && !c->busy && !c->out_bytes && list_linked(&c->waiting)) {
        list_remove(&c->waiting);
        conn_mark_dirty(c);
    }
}

void conn_set_busy(struct conn *c, bool busy)
{
    if (c->busy == busy) {
        return;
    }
    c->busy = busy;
    if (!busy) {
        conn_arm(c);
        conn_retry(c);
    }
}

void conn_finish(struct conn *c)
{
    if (c->closing) {
        return;
    }
    c->finishing = true;
    conn_update(c);
    conn_mark_dirty(c);
}

const struct sockaddr_storage *conn_peer(const struct conn *c)
{
    return &c->peer;
}

const struct sockaddr_storage *conn_local(const struct conn *c)
{
    return &c->local;
}

const struct listener *conn_listener(const struct conn *c)
{
    return c->listener;
}

/* Connections, requests out, answers in.
 *
 * A connection sends one frame at a time, and has at most load->in_flight of them unanswered; the
 * answers come in the order of the requests, so a ring of times tells how long each took.
 */
#include "tools/bench.h"

#include "base/clock.h"
#include "base/mem.h"
#include "protocol/frame.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum {
    EVENTS = 256,
    IN_SIZE_FIRST = 512,       /* bytes of a connection's first memory for answers */
    IN_SIZE_LIMIT = 256 << 20, /* bytes of one answer */
    READY_LIMIT_US = 30000000, /* for the first answers, after the warm-up */
    WATCH_US = 100000,         /* between looks of whoever watches */
    READY_STEP_US = 100000,    /* between looks whether they are there */
    UNANSWERED_BURST = 64,     /* requests without an answer that a connection sends in one go */
};

int64_t load_now_us(void)
{
    return clock_mono_us(&clock_real);
}

/* ---- latencies */

void latency_record(struct latency *l, int64_t us)
{
    us = us < 0 ? 0 : us;
    l->count++;
    l->max_us = us > l->max_us ? us : l->max_us;
    size_t at = (size_t)us;
    if (us >= LATENCY_LINEAR) {
        int octave = 63 - __builtin_clzll((unsigned long long)us);
        at = (size_t)(LATENCY_LINEAR + (octave - 6) * LATENCY_STEPS) +
             ((size_t)us >> (octave - 5) & (LATENCY_STEPS - 1));
    }
    l->buckets[at < LATENCY_BUCKETS ? at : LATENCY_BUCKETS - 1]++;
}

int64_t latency_quantile_us(const struct latency *l, double share)
{
    uint64_t want = (uint64_t)((double)l->count * share);
    uint64_t seen = 0;
    for (size_t i = 0; i < LATENCY_BUCKETS && l->count; i++) {
        seen += l->buckets[i];
        if (seen > want || seen == l->count) {
            if (i < LATENCY_LINEAR) {
                return (int64_t)i;
            }
            size_t octave = (i - LATENCY_LINEAR) / LATENCY_STEPS + 6;
            size_t step = (i - LATENCY_LINEAR) % LATENCY_STEPS + 1;
            int64_t top = (int64_t)((LATENCY_STEPS + step) << (octave - 5)) - 1;
            return top < l->max_us ? top : l->max_us;
        }
    }
    return l->max_us;
}

/* ---- connections */

void load_init(struct load *l, const struct load_options *o)
{
    *l = (struct load){.o = *o, .epoll = -1, .ticker = -1};
    arena_init(&l->arena, SIZE_MAX);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files); /* too few is found out, and said, by connecting */
    }
}

void load_finish(struct load *l)
{
    for (int i = 0; i < l->count; i++) {
        struct load_conn *c = &l->conns[i];
        if (c->fd >= 0) {
            close(c->fd);
        }
        writer_finish(&c->writer);
        mem_free(c->sent_us);
        mem_free(c->in);
    }
    mem_free(l->conns);
    for (int i = 0; l->prefixes && i < l->o.partitions; i++) {
        writer_finish(&l->prefixes[i]);
    }
    mem_free(l->prefixes);
    buf_finish(&l->batch);
    arena_finish(&l->arena);
    if (l->epoll >= 0) {
        close(l->epoll);
    }
    if (l->ticker >= 0) {
        close(l->ticker);
    }
}

static bool load_fail(struct load *l, const char *why)
{
    l->failed = l->failed ? l->failed : why;
    return false;
}

static bool conn_open(struct load_conn *c, const struct addrinfo *addresses)
{
    for (const struct addrinfo *a = addresses; a; a = a->ai_next) {
        c->fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (c->fd >= 0 && connect(c->fd, a->ai_addr, a->ai_addrlen) == 0) {
            break;
        }
        if (c->fd >= 0) {
            close(c->fd);
            c->fd = -1;
        }
    }
    if (c->fd < 0) {
        return load_fail(c->load, strerror(errno));
    }
    int one = 1;
    int async = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0 ||
        ioctl(c->fd, FIONBIO, &async) != 0 ||
        epoll_ctl(c->load->epoll, EPOLL_CTL_ADD, c->fd, &event) != 0) {
        return load_fail(c->load, strerror(errno));
    }
    return true;
}

static bool conn_init(struct load *l, struct load_conn *c, const struct load_kind *kind, int index)
{
    *c = (struct load_conn){.load = l, .kind = kind, .index = index, .fd = -1};
    writer_init(&c->writer, INT32_MAX);
    c->in_size = IN_SIZE_FIRST;
    c->in = mem_alloc(c->in_size);
    c->sent_us = mem_zero((size_t)l->o.in_flight, sizeof *c->sent_us);
    return c->in && c->sent_us ? true : load_fail(l, "out of memory");
}

bool load_connect(struct load *l, int count, const struct load_kind *kind)
{
    if (l->epoll < 0) {
        l->epoll = epoll_create1(EPOLL_CLOEXEC);
        /* all at once: events point to them */
        l->conns = mem_zero((size_t)l->o.connections + 1, sizeof *l->conns);
        if (l->epoll < 0 || !l->conns) {
            return load_fail(l, strerror(errno));
        }
    }
    struct addrinfo *addresses = NULL;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int e = getaddrinfo(l->o.host, l->o.port, &hints, &addresses);
    if (e) {
        return load_fail(l, gai_strerror(e));
    }
    bool ok = true;
    for (int i = 0; ok && i < count; i++) {
        struct load_conn *c = &l->conns[l->count++];
        ok = conn_init(l, c, kind, i) && conn_open(c, addresses);
    }
    freeaddrinfo(addresses);
    return ok;
}

/* ---- out */

static bool conn_watch(struct load_conn *c, bool write)
{
    if (c->wants_write == write) {
        return true;
    }
    c->wants_write = write;
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = c};
    return epoll_ctl(c->load->epoll, EPOLL_CTL_MOD, c->fd, &event) == 0
               ? true
               : load_fail(c->load, strerror(errno));
}

/* Sends what is left of the frame. */
static bool conn_flush(struct load_conn *c)
{
    while (c->out_count) {
        struct msghdr m = {.msg_iov = c->out, .msg_iovlen = (size_t)c->out_count};
        ssize_t n = sendmsg(c->fd, &m, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno == EAGAIN ? conn_watch(c, true) : load_fail(c->load, strerror(errno));
        }
        size_t sent = (size_t)n;
        int whole = 0;
        while (whole < c->out_count && sent >= c->out[whole].iov_len) {
            sent -= c->out[whole++].iov_len;
        }
        c->out_count -= whole;
        memmove(c->out, c->out + whole, (size_t)c->out_count * sizeof *c->out);
        if (sent) {
            c->out[0].iov_base = (char *)c->out[0].iov_base + sent;
            c->out[0].iov_len -= sent;
        }
    }
    return conn_watch(c, false);
}

static void count_request(struct load *l, const struct load_kind *kind, int64_t took_us)
{
    l->warm_requests += !l->measuring && !kind->uncounted;
    if (l->measuring && !kind->uncounted) {
        l->requests++;
        if (!kind->untimed && !kind->unanswered) {
            latency_record(&l->latency, took_us);
        }
    }
}

static void conn_pump(struct load_conn *c)
{
    struct load *l = c->load;
    int burst = 0;
    int most = c->kind->alone ? 1 : l->o.in_flight;
    while (!l->failed && !c->out_count && c->sent - c->answered < most &&
           burst < UNANSWERED_BURST && c->kind->next(c)) {
        c->sent_us[c->sent++ % l->o.in_flight] = load_now_us();
        conn_flush(c);
        if (c->kind->unanswered) {
            c->answered++;
            burst++;
            count_request(l, c->kind, 0);
        }
    }
    if (c->kind->unanswered && !l->failed && !c->out_count) {
        conn_watch(c, true); /* again when others have had their turn */
    }
}

/* ---- in */

static bool conn_reserve(struct load_conn *c, size_t size)
{
    if (size <= c->in_size) {
        return true;
    }
    uint8_t *grown = size <= IN_SIZE_LIMIT ? mem_resize(c->in, size) : NULL;
    if (!grown) {
        return load_fail(c->load, "an answer is too large, or memory is out");
    }
    c->in = grown;
    c->in_size = size;
    return true;
}

/* Takes the whole answers out of what has come. */
static bool conn_take(struct load_conn *c)
{
    struct load *l = c->load;
    size_t done = 0;
    while (c->in_have - done >= FRAME_SIZE_BYTES) {
        int32_t size;
        if (frame_size(c->in + done, IN_SIZE_LIMIT, &size) != OK) {
            return load_fail(l, "an answer has a size that makes no sense");
        }
        size_t whole = FRAME_SIZE_BYTES + (size_t)size;
        if (c->in_have - done < whole) {
            if (!conn_reserve(c, whole)) {
                return false;
            }
            break;
        }
        if (c->sent == c->answered) {
            return load_fail(l, "an answer that nobody asked for");
        }
        int64_t now_us = load_now_us();
        const char *wrong =
            c->kind->answer(c, c->in + done + FRAME_SIZE_BYTES, (size_t)size, now_us);
        if (wrong) {
            return load_fail(l, wrong);
        }
        count_request(l, c->kind, now_us - c->sent_us[c->answered++ % l->o.in_flight]);
        done += whole;
    }
    c->in_have -= done;
    memmove(c->in, c->in + done, c->in_have);
    return true;
}

static void conn_receive(struct load_conn *c)
{
    ssize_t n;
    do {
        n = recv(c->fd, c->in + c->in_have, c->in_size - c->in_have, 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) {
        return;
    }
    if (n <= 0) {
        load_fail(c->load, n == 0 ? "the broker closed a connection" : strerror(errno));
        return;
    }
    c->in_have += (size_t)n;
    if (conn_take(c)) {
        conn_pump(c);
    }
}

/* ---- the run */

static bool ticker_start(struct load *l)
{
    if (!l->o.rate) {
        return true;
    }
    int64_t ns = 1000000000 / l->o.rate;
    struct itimerspec every = {
        .it_interval = {ns / 1000000000, ns % 1000000000},
        .it_value = {ns / 1000000000, ns % 1000000000},
    };
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    l->ticker = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    l->ticks_from_us = load_now_us();
    if (l->ticker < 0 || timerfd_settime(l->ticker, 0, &every, NULL) != 0 ||
        epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->ticker, &event) != 0) {
        return load_fail(l, strerror(errno));
    }
    return true;
}

static void on_tick(struct load *l)
{
    uint64_t passed;
    if (read(l->ticker, &passed, sizeof passed) != sizeof passed) {
        return; /* EAGAIN: an event too many */
    }
    for (uint64_t i = 0; i < passed; i++) {
        struct load_conn *c = &l->conns[l->ticks++ % l->senders];
        conn_pump(c);
    }
}

static void serve(struct load *l, int timeout_ms)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(l->epoll, events, EVENTS, timeout_ms);
    if (n < 0 && errno != EINTR) {
        load_fail(l, strerror(errno));
    }
    for (int i = 0; i < n && !l->failed; i++) {
        struct load_conn *c = events[i].data.ptr;
        if (!c) {
            on_tick(l);
            continue;
        }
        if (events[i].events & EPOLLOUT) {
            if (conn_flush(c)) {
                conn_pump(c);
            }
        }
        if (!l->failed && (events[i].events & ~(uint32_t)EPOLLOUT)) {
            conn_receive(c);
        }
    }
}

static void measure_begin(struct load *l)
{
    l->measuring = true;
    l->measured_from_us = load_now_us();
    l->has_usage = l->o.pid && usage_read(l->o.pid, &l->broker_before);
    (void)usage_read(getpid(), &l->own_before); /* without /proc it stays 0 */
}

static void measure_end(struct load *l)
{
    l->measuring = false;
    l->measured_to_us = load_now_us();
    l->has_usage = l->has_usage && usage_read(l->o.pid, &l->broker_after);
    (void)usage_read(getpid(), &l->own_after);
}

/* Has every connection had an answer that counts? A new topic, or a coordinator's, may need a while
 * to be there. */
static bool is_ready(const struct load *l)
{
    for (int i = 0; i < l->count; i++) {
        const struct load_conn *c = &l->conns[i];
        if (!c->ready && !c->kind->unanswered && !c->kind->stamped) {
            return false;
        }
    }
    return true;
}

bool load_run(struct load *l)
{
    if (!ticker_start(l)) {
        return false;
    }
    int64_t begin_us = load_now_us() + (int64_t)(l->o.warm_seconds * 1e6);
    int64_t limit_us = begin_us + READY_LIMIT_US;
    int64_t watch_us = 0;
    for (int i = 0; i < l->count && !l->failed; i++) {
        conn_pump(&l->conns[i]);
    }
    while (!l->failed) {
        int64_t now_us = load_now_us();
        if (!l->measuring && now_us >= begin_us) {
            if (is_ready(l)) {
                measure_begin(l);
            } else if (now_us > limit_us) {
                load_fail(l, "not every connection gets an answer that counts");
            }
            begin_us = now_us + READY_STEP_US;
        }
        int64_t end_us = l->measured_from_us + (int64_t)(l->o.seconds * 1e6);
        if (l->measuring && now_us >= end_us) {
            break;
        }
        if (l->watch && now_us >= watch_us) {
            watch_us = now_us + WATCH_US;
            if (!l->watch(l->watch_ctx, l->measuring ? now_us - l->measured_from_us : 0)) {
                break;
            }
        }
        int64_t until_us = l->measuring ? end_us : begin_us;
        until_us = l->watch && watch_us < until_us ? watch_us : until_us;
        serve(l, (int)((until_us - now_us) / 1000) + 1);
    }
    if (l->measuring) {
        measure_end(l);
    }
    if (!l->failed && l->requests == 0) {
        return load_fail(l, "nothing was answered");
    }
    return !l->failed;
}

bool load_say_hello(struct load *l)
{
    int64_t deadline_us = load_now_us() + (int64_t)(l->o.seconds * 1e6);
    int answered = 0;
    for (int i = 0; i < l->count && !l->failed; i++) {
        conn_pump(&l->conns[i]);
    }
    while (!l->failed && answered < l->count) {
        int64_t left_us = deadline_us - load_now_us();
        if (left_us <= 0) {
            return load_fail(l, "not every connection was answered in time");
        }
        serve(l, (int)(left_us / 1000) + 1);
        answered = 0;
        for (int i = 0; i < l->count; i++) {
            answered += l->conns[i].answered > 0;
        }
    }
    return !l->failed;
}

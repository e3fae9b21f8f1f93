/* For each answer, uint8: what becomes of it, then what that needs:
 *
 *   0..127    nothing
 *   128..191  bytes change: uint8 count, and for each uint16 position, uint8 what is xor-ed
 *   192..207  another body: uint16 size, bytes
 *   208..223  another body, right for the API and the version: uint16 seed
 *   224..231  it ends early, with the connection: uint16 bytes that are left
 *   232..239  the connection ends before it
 *   240..255  it takes uint8 times 100 ms more
 */
#include "tests/fuzz/client_net.h"

#include "base/mem.h"
#include "protocol/frame.h"
#include "tests/kit/broker_kit.h"
#include "tests/kit/wire_random.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    FD_FIRST = 100000, /* of sockets; below are the process's own */
    FD_EPOLL = 99999,
    SOCKETS_MAX = 64,
    QUESTIONS_MAX = 64, /* on their way at once, a power of two */
    ANSWER_LIMIT = 1 << 24,
};

struct end { /* of a connection: the client's */
    bool open;
    bool closed;    /* by the other side, behind what is in `in` */
    bool watched;   /* by epoll */
    uint32_t want;  /* events */
    void *ctx;      /* epoll's */
    struct buf out; /* from the client: no whole frame */
    struct buf in;  /* to the client */
};

struct question { /* to the broker, which answers in order */
    int end;      /* index; -1: its connection is gone */
    uint32_t correlation_id;
    int16_t key, version;
};

struct net {
    struct broker_kit k;
    struct end ends[SOCKETS_MAX];
    int next_end;
    struct question questions[QUESTIONS_MAX];
    unsigned asked, answered;
    size_t read;      /* of the kit's out */
    struct input *in; /* borrowed */
    bool changed;     /* some answer was: what fails need not be wrong */
};

static struct net *net; /* the libc's functions have no context */

/* ---- answers ---- */

static void end_close(struct end *e)
{
    buf_finish(&e->out);
    buf_finish(&e->in);
    *e = (struct end){0};
}

static void broken(struct end *e)
{
    e->closed = true;
    for (unsigned i = net->answered; i != net->asked; i++) {
        struct question *q = &net->questions[i % QUESTIONS_MAX];
        q->end = q->end >= 0 && &net->ends[q->end] == e ? -1 : q->end;
    }
}

/* A body that the API may have in this version, with a header. */
static void random_body(const struct question *q, struct buf *frame)
{
    const struct wire_api *api = wire_api_find(q->key);
    struct arena a;
    struct rng rng;
    struct writer w;
    arena_init(&a, ANSWER_LIMIT);
    rng_init(&rng, input_short(net->in));
    writer_init(&w, SIZE_MAX);
    void *body = arena_zero(&a, 1, api->response->size ? api->response->size : 1);
    wire_random(api->response, q->version, &rng, &a, body);
    frame_begin_response(&w, api, q->version, (int32_t)q->correlation_id);
    check(wire_encode(api->response, q->version, &w, body) == OK && frame_end(&w) == OK);
    frame->len = 0;
    buf_add(frame, w.ptr, w.len);
    writer_finish(&w);
    arena_finish(&a);
}

/* `frame`: an answer with its size in front. */
static void deliver(const struct question *q, struct buf *frame)
{
    enum { HEAD = FRAME_SIZE_BYTES + 4 };
    struct end *e = &net->ends[q->end];
    uint8_t what = input_byte(net->in);
    size_t size = frame->len;
    net->changed = net->changed || what >= 128;
    if (what >= 128 && what < 192) {
        for (int n = input_byte(net->in) % 16; n >= 0; n--) {
            size_t at = input_short(net->in) % frame->len;
            frame->ptr[at] = (char)(frame->ptr[at] ^ (char)input_byte(net->in));
        }
    } else if (what >= 192 && what < 208) {
        struct bytes body = input_bytes(net->in, input_short(net->in));
        frame->len = HEAD;
        buf_add(frame, body.ptr, body.len);
        put_be32(frame->ptr, (uint32_t)(frame->len - FRAME_SIZE_BYTES));
        size = frame->len;
    } else if (what >= 208 && what < 224) {
        random_body(q, frame);
        size = frame->len;
    } else if (what >= 224 && what < 240) {
        size = what < 232 ? input_short(net->in) % frame->len : 0;
        broken(e);
    } else if (what >= 240) {
        broker_kit_advance(&net->k, 100 * (int64_t)input_byte(net->in));
    }
    buf_add(&e->in, frame->ptr, size);
}

static void take_answers(void)
{
    struct buf *out = &net->k.conn.out;
    while (out->len - net->read >= FRAME_SIZE_BYTES) {
        size_t size = FRAME_SIZE_BYTES + get_be32(out->ptr + net->read);
        struct buf frame = {0};
        check(size <= out->len - net->read && net->answered != net->asked);
        const struct question q = net->questions[net->answered++ % QUESTIONS_MAX];
        buf_add(&frame, out->ptr + net->read, size);
        net->read += size;
        put_be32(frame.ptr + FRAME_SIZE_BYTES, q.correlation_id);
        if (q.end >= 0 && !net->ends[q.end].closed) {
            deliver(&q, &frame);
        }
        buf_finish(&frame);
    }
}

/* ---- questions ---- */

static void ask_broker(int end, uint8_t *frame, size_t size)
{
    struct request_header h;
    struct reader r;
    reader_init(&r, frame, size);
    check(request_header_decode(&r, &h) == OK);
    struct question *q = &net->questions[net->asked % QUESTIONS_MAX];
    check(net->asked - net->answered < QUESTIONS_MAX);
    *q = (struct question){.end = end,
                           .correlation_id = get_be32(frame + 4),
                           .key = h.api_key,
                           .version = h.api_version};
    put_be32(frame + 4, net->asked); /* the broker knows one connection */
    net->asked++;
    if (!net->k.conn.session) {
        broker_kit_connect(&net->k);
    }
    broker_kit_send(&net->k, frame, size);
    if (!net->k.conn.session) { /* it had enough of it: of all of them */
        net->asked = net->answered = 0;
        net->read = net->k.conn.out.len;
        for (int i = 0; i < SOCKETS_MAX; i++) {
            net->ends[i].closed = true;
        }
    }
}

static void take_questions(int end)
{
    struct end *e = &net->ends[end];
    while (e->out.len >= FRAME_SIZE_BYTES) {
        size_t size = FRAME_SIZE_BYTES + get_be32(e->out.ptr);
        if (size > e->out.len) {
            return;
        }
        uint8_t *frame = mem_need_dup(e->out.ptr, size);
        memmove(e->out.ptr, e->out.ptr + size, e->out.len - size);
        e->out.len -= size;
        ask_broker(end, frame + FRAME_SIZE_BYTES, size - FRAME_SIZE_BYTES);
        mem_free(frame);
    }
}

/* ---- in the C library's place ---- */

int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **ret);
void __wrap_freeaddrinfo(struct addrinfo *a);
int __wrap_socket(int domain, int type, int protocol);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t size);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t size);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *size);
ssize_t __wrap_send(int fd, const void *p, size_t size, int flags);
ssize_t __wrap_recv(int fd, void *p, size_t size, int flags);
int __wrap_close(int fd);
int __wrap_epoll_create1(int flags);
int __wrap_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_wait(int epoll, struct epoll_event *events, int most, int timeout_ms);
int __real_close(int fd);

int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **ret)
{
    (void)host;
    (void)port;
    (void)hints;
    *ret = mem_need_zero(1, sizeof **ret);
    return 0;
}

void __wrap_freeaddrinfo(struct addrinfo *a)
{
    mem_free(a);
}

int __wrap_socket(int domain, int type, int protocol)
{
    (void)domain;
    (void)type;
    (void)protocol;
    for (int n = 0; n < SOCKETS_MAX; n++) {
        int i = net->next_end++ % SOCKETS_MAX;
        if (!net->ends[i].open) {
            net->ends[i].open = true;
            return FD_FIRST + i;
        }
    }
    errno = EMFILE;
    return -1;
}

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t size)
{
    (void)fd;
    (void)address;
    (void)size;
    return 0;
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
    (void)fd;
    (void)level;
    (void)name;
    (void)value;
    (void)size;
    return 0;
}

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
    (void)fd;
    (void)level;
    (void)name;
    memset(value, 0, *size);
    return 0;
}

ssize_t __wrap_send(int fd, const void *p, size_t size, int flags)
{
    struct end *e = &net->ends[fd - FD_FIRST];
    (void)flags;
    if (e->closed) {
        errno = EPIPE;
        return -1;
    }
    buf_add(&e->out, p, size);
    take_questions(fd - FD_FIRST);
    return (ssize_t)size;
}

ssize_t __wrap_recv(int fd, void *p, size_t size, int flags)
{
    struct end *e = &net->ends[fd - FD_FIRST];
    size_t n = e->in.len < size ? e->in.len : size;
    (void)flags;
    if (n == 0 && !e->closed) {
        errno = EAGAIN;
        return -1;
    }
    if (n) {
        memcpy(p, e->in.ptr, n);
        memmove(e->in.ptr, e->in.ptr + n, e->in.len - n);
        e->in.len -= n;
    }
    return (ssize_t)n;
}

int __wrap_close(int fd)
{
    if (fd < FD_EPOLL) {
        return __real_close(fd);
    }
    if (fd != FD_EPOLL) {
        broken(&net->ends[fd - FD_FIRST]);
        end_close(&net->ends[fd - FD_FIRST]);
    }
    return 0;
}

int __wrap_epoll_create1(int flags)
{
    (void)flags;
    return FD_EPOLL;
}

int __wrap_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    struct end *e = &net->ends[fd - FD_FIRST];
    check(epoll == FD_EPOLL && (operation == EPOLL_CTL_ADD) == !e->watched);
    e->watched = true;
    e->want = event->events;
    e->ctx = event->data.ptr;
    return 0;
}

/* Nothing is there: time passes. */
int __wrap_epoll_wait(int epoll, struct epoll_event *events, int most, int timeout_ms)
{
    int n = 0;
    check(epoll == FD_EPOLL);
    for (int round = 0; n == 0 && round < 2; round++) {
        if (round && timeout_ms) {
            broker_kit_advance(&net->k, timeout_ms > 0 && timeout_ms < 50 ? timeout_ms : 50);
        }
        take_answers();
        for (int i = 0; i < SOCKETS_MAX && n < most; i++) {
            struct end *e = &net->ends[i];
            uint32_t what = e->in.len || e->closed ? EPOLLIN | EPOLLOUT : EPOLLOUT;
            if (e->watched && (what & e->want)) {
                events[n++] = (struct epoll_event){.events = what & e->want, .data.ptr = e->ctx};
            }
        }
    }
    return n;
}

/* ---- begin and end ---- */

void client_net_start(struct input *in)
{
    static const char *const sets[] = {"offsets.topic.num.partitions=1",
                                       "group.initial.rebalance.delay.ms=0", NULL};
    net = mem_need_zero(1, sizeof *net);
    net->in = in;
    broker_kit_init(&net->k, 1, sets);
    check(broker_kit_start(&net->k, false) == OK);
}

void client_net_stop(void)
{
    for (int i = 0; i < SOCKETS_MAX; i++) {
        check(!net->ends[i].open);
    }
    broker_kit_finish(&net->k);
    mem_free(net);
    net = NULL;
}

const struct clock *client_net_clock(void)
{
    return &net->k.logs.clock.clock;
}

bool client_net_changed(void)
{
    return net->changed;
}

#include "tests/kit/proxy.h"

#include "base/check.h"
#include "base/mem.h"
#include "gen/produce.h"
#include "protocol/frame.h"
#include "tests/kit/proxy_answers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FRAME_LIMIT = 64 << 20, API_PRODUCE = 0, API_INIT_PRODUCER_ID = 22, BACKLOG = 64 };

struct passenger {
    struct proxy *proxy;
    int index; /* in fds and threads */
};

/* ---- sockets ---- */

static bool read_whole(int fd, void *p, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = recv(fd, (char *)p + at, size - at, 0);
        if (n == 0 || (n < 0 && errno != EINTR)) {
            return false;
        }
        at += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool write_whole(int fd, const void *p, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = send(fd, (const char *)p + at, size - at, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR) {
            return false;
        }
        at += n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* A frame with its size in front. */
static bool read_frame(int fd, struct buf *frame)
{
    uint8_t head[4];
    frame->len = 0;
    if (!read_whole(fd, head, sizeof head)) {
        return false;
    }
    uint32_t size = get_be32(head);
    check(size < FRAME_LIMIT && buf_reserve(frame, size + sizeof head));
    memcpy(frame->ptr, head, sizeof head);
    frame->len = size + sizeof head;
    return read_whole(fd, frame->ptr + sizeof head, size);
}

static int dial(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(fd >= 0);
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool write_answer(int fd, const struct request_header *h, const struct proxy_request *r,
                         struct arena *a)
{
    struct writer w;
    writer_init(&w, FRAME_LIMIT);
    proxy_answer(h, r, a, &w);
    bool ok = write_whole(fd, w.ptr, w.len);
    writer_finish(&w);
    return ok;
}

/* ---- a request ---- */

static enum proxy_action decide(struct proxy *p, const struct request_header *h, const void *body,
                                struct proxy_request *r)
{
    bool is_produce = h->api_key == API_PRODUCE;
    *r = (struct proxy_request){.api_key = h->api_key,
                                .version = h->api_version,
                                .produce = is_produce ? body : NULL,
                                .body = body};
    enum proxy_action action = PROXY_PASS;
    pthread_mutex_lock(&p->lock);
    check(h->api_key >= 0 && h->api_key < PROXY_API_KEYS);
    r->number = p->numbers[h->api_key]++;
    pthread_cond_broadcast(&p->changed);
    bool is_planned = body ? p->plans_all || is_produce || h->api_key == API_INIT_PRODUCER_ID
                           : h->api_key == p->plan_key;
    if (p->plan && is_planned) {
        action = p->plan(p->ctx, r);
    }
    if (action == PROXY_HOLD) {
        p->held++;
        pthread_cond_broadcast(&p->changed);
        while (!p->released && !p->closing) {
            pthread_cond_wait(&p->changed, &p->lock);
        }
        p->held--;
    }
    pthread_mutex_unlock(&p->lock);
    return action;
}

/* False: the connection is to be cut. */
static bool pass_one(struct proxy *p, int client, int broker, struct buf *frame)
{
    struct reader reader;
    struct request_header h;
    struct arena a;
    struct proxy_request r;
    if (!read_frame(client, frame)) {
        return false;
    }
    arena_init(&a, FRAME_LIMIT);
    reader_init(&reader, frame->ptr + 4, frame->len - 4);
    check(request_header_decode(&reader, &h) == OK);
    void *body = NULL;
    if (proxy_knows(h.api_key)) {
        const struct wire_api *api = wire_api_find(h.api_key);
        body = arena_zero(&a, 1, api->request->size);
        check(wire_decode(api->request, h.api_version, &reader, &a, body) == OK);
    }
    enum proxy_action action = decide(p, &h, body, &r);
    bool has_answer = !r.produce || r.produce->acks != 0;
    bool ok = action != PROXY_CUT_BEFORE && action != PROXY_HOLD;
    if (ok && action == PROXY_REFUSE) {
        ok = write_answer(client, &h, &r, &a);
    } else if (ok) {
        ok = write_whole(broker, frame->ptr, frame->len);
        if (ok && has_answer) {
            ok = read_frame(broker, frame) && action != PROXY_CUT_AFTER;
            if (ok && p->masks) {
                proxy_alter(h.api_key, h.api_version, p->port, p->transaction_version, frame);
            }
            ok = ok && write_whole(client, frame->ptr, frame->len);
        }
    }
    arena_finish(&a);
    return ok;
}

static void *passenger_run(void *ctx)
{
    struct passenger *me = ctx;
    struct proxy *p = me->proxy;
    pthread_mutex_lock(&p->lock);
    int client = p->fds[me->index];
    uint16_t port = p->broker_port;
    pthread_mutex_unlock(&p->lock);
    int broker = dial(port);
    struct buf frame = {0};
    while (broker >= 0 && pass_one(p, client, broker, &frame)) {
    }
    buf_finish(&frame);
    pthread_mutex_lock(&p->lock);
    p->fds[me->index] = -1;
    pthread_mutex_unlock(&p->lock);
    close(client);
    if (broker >= 0) {
        close(broker);
    }
    mem_free(me);
    return NULL;
}

static void *accept_all(void *ctx)
{
    struct proxy *p = ctx;
    for (;;) {
        int fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
        pthread_mutex_lock(&p->lock);
        if (fd < 0 || p->closing) {
            pthread_mutex_unlock(&p->lock);
            if (fd >= 0) {
                close(fd);
            }
            return NULL;
        }
        check(p->count < PROXY_CONNS_MAX);
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct passenger *one_more = mem_need_zero(1, sizeof *one_more);
        *one_more = (struct passenger){.proxy = p, .index = p->count};
        p->fds[p->count] = fd;
        check(pthread_create(&p->threads[p->count], NULL, passenger_run, one_more) == 0);
        p->count++;
        pthread_mutex_unlock(&p->lock);
    }
}

/* ---- the proxy ---- */

void proxy_start(struct proxy *p)
{
    *p = (struct proxy){0};
    check(pthread_mutex_init(&p->lock, NULL) == 0 && pthread_cond_init(&p->changed, NULL) == 0);
    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(p->listener >= 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    check(bind(p->listener, (struct sockaddr *)&at, size) == 0 &&
          listen(p->listener, BACKLOG) == 0 &&
          getsockname(p->listener, (struct sockaddr *)&at, &size) == 0);
    p->port = ntohs(at.sin_port);
    check(pthread_create(&p->acceptor, NULL, accept_all, p) == 0);
}

void proxy_broker_set(struct proxy *p, uint16_t port)
{
    pthread_mutex_lock(&p->lock);
    p->broker_port = port;
    pthread_mutex_unlock(&p->lock);
}

static void plan_set(struct proxy *p, proxy_plan *plan, void *ctx, bool all)
{
    pthread_mutex_lock(&p->lock);
    p->plans_all = all;
    p->plan = plan;
    p->ctx = ctx;
    p->released = false;
    memset(p->numbers, 0, sizeof p->numbers);
    pthread_mutex_unlock(&p->lock);
}

void proxy_plan_set(struct proxy *p, proxy_plan *plan, void *ctx)
{
    plan_set(p, plan, ctx, false);
}

void proxy_plan_all(struct proxy *p, proxy_plan *plan, void *ctx)
{
    plan_set(p, plan, ctx, true);
}

void proxy_mask(struct proxy *p, int transaction_version)
{
    pthread_mutex_lock(&p->lock);
    p->masks = true;
    p->transaction_version = transaction_version;
    pthread_mutex_unlock(&p->lock);
}

void proxy_release(struct proxy *p)
{
    pthread_mutex_lock(&p->lock);
    p->released = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

bool proxy_wait(struct proxy *p, int16_t api_key, int count, int timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += timeout_ms / 1000 + 1;
    int e = 0;
    pthread_mutex_lock(&p->lock);
    while (p->numbers[api_key] < count && e == 0) {
        e = pthread_cond_timedwait(&p->changed, &p->lock, &until);
    }
    bool came = p->numbers[api_key] >= count;
    pthread_mutex_unlock(&p->lock);
    return came;
}

int proxy_count(struct proxy *p, int16_t api_key)
{
    pthread_mutex_lock(&p->lock);
    int count = p->numbers[api_key];
    pthread_mutex_unlock(&p->lock);
    return count;
}

void proxy_stop(struct proxy *p)
{
    pthread_mutex_lock(&p->lock);
    p->closing = true;
    pthread_cond_broadcast(&p->changed);
    for (int i = 0; i < p->count; i++) {
        if (p->fds[i] >= 0) {
            shutdown(p->fds[i], SHUT_RDWR);
        }
    }
    pthread_mutex_unlock(&p->lock);
    shutdown(p->listener, SHUT_RDWR);
    check(pthread_join(p->acceptor, NULL) == 0);
    for (int i = 0; i < p->count; i++) { /* no more come */
        check(pthread_join(p->threads[i], NULL) == 0);
    }
    close(p->listener);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->changed);
}

#include "tests/kit/wire_client.h"

#include "base/check.h"
#include "base/mem.h"
#include "protocol/frame.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

enum { FRAME_LIMIT = 1 << 28 };

struct wire_client *wire_connect(const struct daemon *d)
{
    struct wire_client *c = mem_need_zero(1, sizeof *c);
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons(d->port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct timeval limit = {.tv_sec = WIRE_LIMIT_S};
    const int on = 1;
    arena_init(&c->arena, (size_t)1 << 31);
    c->client_id = STR("wire");
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(c->fd >= 0);
    check(setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    check(setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0);
    check(setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
    if (connect(c->fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        fail_msg("connect to port %u: %s", d->port, strerror(errno));
    }
    return c;
}

void wire_hang_up(struct wire_client *c)
{
    if (c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
    }
}

void wire_close(struct wire_client *c)
{
    if (c) {
        wire_hang_up(c);
        arena_finish(&c->arena);
        mem_free(c);
    }
}

void wire_forget(struct wire_client *c)
{
    arena_reset(&c->arena);
}

void *wire_room(struct wire_client *c, size_t count, size_t size)
{
    void *p = arena_zero(&c->arena, count, size);
    check(p);
    return p;
}

struct str wire_text(struct wire_client *c, const char *format, ...)
{
    char text[4096];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    check(n >= 0 && n < (int)sizeof text);
    char *copy = arena_dup(&c->arena, text, (size_t)n + 1);
    check(copy);
    return str_of(copy);
}

/* ---- bytes */

bool wire_try_send(struct wire_client *c, const void *p, size_t size)
{
    const char *next = p;
    while (size > 0) {
        ssize_t n = send(c->fd, next, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) {
            return false;
        }
        if (n <= 0) {
            fail_msg("send: %s", strerror(errno));
        }
        next += n;
        size -= (size_t)n;
    }
    return true;
}

void wire_send(struct wire_client *c, const void *p, size_t size)
{
    if (!wire_try_send(c, p, size)) {
        fail_msg("the daemon closed the connection while it was sent to");
    }
}

/* Bytes received: `size`, or fewer when the stream ended. */
static size_t receive_bytes(struct wire_client *c, uint8_t *p, size_t size)
{
    size_t had = 0;
    while (had < size) {
        ssize_t n = recv(c->fd, p + had, size - had, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n == 0 || (n < 0 && errno == ECONNRESET)) {
            break;
        }
        if (n < 0) {
            fail_msg("nothing came for %d s: %s", WIRE_LIMIT_S, strerror(errno));
        }
        had += (size_t)n;
    }
    return had;
}

struct bytes wire_receive(struct wire_client *c)
{
    uint8_t head[FRAME_SIZE_BYTES];
    int32_t size = 0;
    size_t n = receive_bytes(c, head, sizeof head);
    if (n != sizeof head) {
        fail_msg("the daemon closed the connection after %zu bytes of a frame's size", n);
    }
    assert_int_equal(frame_size(head, FRAME_LIMIT, &size), OK);
    uint8_t *p = wire_room(c, (size_t)size + 1, 1);
    n = receive_bytes(c, p, (size_t)size);
    if (n != (size_t)size) {
        fail_msg("the daemon closed the connection after %zu bytes of a frame of %d", n, size);
    }
    return (struct bytes){.ptr = p, .len = (size_t)size};
}

void wire_expect_close(struct wire_client *c)
{
    uint8_t byte;
    if (receive_bytes(c, &byte, 1) != 0) {
        fail_msg("an answer came where the connection was to be closed");
    }
    wire_hang_up(c);
}

/* ---- requests and answers */

static const struct wire_api *api_of(int16_t key)
{
    const struct wire_api *api = wire_api_find(key);
    if (!api) {
        fail_msg("there is no API with the key %d", key);
    }
    return api;
}

struct bytes wire_frame(struct wire_client *c, int16_t key, int16_t version, const void *request)
{
    const struct wire_api *api = api_of(key);
    struct writer w;
    writer_init(&w, FRAME_LIMIT);
    frame_begin_request(&w, api, version, ++c->correlation_id, c->client_id);
    err e = wire_encode(api->request, version, &w, request);
    if (!e) {
        e = frame_end(&w);
    }
    if (e) {
        const char *at = w.at ? w.at : "-";
        writer_finish(&w);
        fail_msg("%s v%d does not encode: %s at %s", api->name, version, err_text(e), at);
    }
    struct bytes frame = {.ptr = arena_dup(&c->arena, w.ptr, w.len), .len = w.len};
    writer_finish(&w);
    check(frame.ptr);
    return frame;
}

int32_t wire_request(struct wire_client *c, int16_t key, int16_t version, const void *request)
{
    struct bytes frame = wire_frame(c, key, version, request);
    wire_send(c, frame.ptr, frame.len);
    return c->correlation_id;
}

const void *wire_decode_answer(struct wire_client *c, int16_t key, int16_t version,
                               struct bytes frame, int32_t *ret_correlation_id)
{
    const struct wire_api *api = api_of(key);
    struct reader r;
    reader_init(&r, frame.ptr, frame.len);
    void *answer = wire_room(c, 1, api->response->size);
    assert_int_equal(response_header_decode(&r, api, version, ret_correlation_id), OK);
    err e = wire_decode(api->response, version, &r, &c->arena, answer);
    if (e || reader_left(&r)) {
        fail_msg("the answer of %s v%d does not decode: %s at %s, %zu bytes left", api->name,
                 version, err_text(e), r.at ? r.at : "-", reader_left(&r));
    }
    return answer;
}

const void *wire_answer(struct wire_client *c, int16_t key, int16_t version, int32_t correlation_id)
{
    int32_t id = 0;
    const void *answer = wire_decode_answer(c, key, version, wire_receive(c), &id);
    assert_int_equal(id, correlation_id);
    return answer;
}

const void *wire_ask(struct wire_client *c, int16_t key, int16_t version, const void *request)
{
    return wire_answer(c, key, version, wire_request(c, key, version, request));
}

/* Invariants:
 * 1. a call is in exactly one place: idle (conn NULL), a connection's waiting or sent list, or the
 * client's failed list;
 * 2. correlation ids of `sent` rise by one; the next answer belongs to the first of them;
 * 3. a sent call that its owner cancels leaves a deaf stand-in in its place, so that 2 holds;
 * 4. done runs from client_turn only, with the call idle, so that it may be submitted again in
 * there.
 */
#include "client/conn.h"

#include "base/check.h"
#include "base/mem.h"
#include "client/client.h"
#include "gen/api_versions.h"
#include "protocol/error.h"
#include "protocol/frame.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    OUT_LIMIT = 256 << 20, /* bytes queued on one connection; calls are bounded by their owners */
    OUT_KEEP_BYTES = 1 << 20, /* a larger buffer is given back when it has been written */
    ANSWERS_A_TURN = 64,      /* then others have their turn */
    CALL_ARENA_LIMIT = 256 << 20,
};

static void conn_connect(struct conn *k);

struct frame *frame_ref(struct frame *f)
{
    f->refs++;
    return f;
}

void frame_unref(struct frame *f)
{
    if (f && --f->refs == 0) {
        mem_free(f);
    }
}

/* ---- calls ---- */

static void call_idle(struct call *call)
{
    list_remove(&call->link);
    timer_disarm(&call->conn->client->timers, &call->timer);
    call->conn = NULL;
    call->sent = false;
}

static void call_end(struct call *call, int code)
{
    call->conn->client->again = true; /* also when this is after the pumps: see client_turn */
    call_idle(call);
    const struct answer a = {.code = code};
    call->done(call, &a);
}

/* Ends it in the next turn: for failures inside of call_submit (invariant 4). */
static void call_fail_later(struct call *call, int code)
{
    struct rv_client *c = call->conn->client;
    call->failed_code = code;
    list_remove(&call->link);
    list_push(&c->failed, &call->link);
    c->again = true;
}

void conns_end_failed(struct rv_client *client)
{
    size_t count = 0; /* what fails from now on waits for the next turn, so that this one ends */
    list_each(link, &client->failed)
    {
        count++;
    }
    struct list *node;
    while (count-- && (node = list_pop(&client->failed))) { /* a done may cancel others */
        struct call *call = list_entry(node, struct call, link);
        call_end(call, call->failed_code);
    }
}

static void deaf_done(struct call *call, const struct answer *answer)
{
    (void)answer;
    mem_free(call);
}

void call_cancel(struct call *call)
{
    if (!call->conn) {
        return;
    }
    struct conn *k = call->conn;
    if (call->sent) {
        struct call *deaf = mem_zero(1, sizeof *deaf);
        if (!deaf) {
            call_idle(call);
            conn_drop(k, RV_E_LOST, "out of memory");
            return;
        }
        deaf->api = call->api;
        deaf->version = call->version;
        deaf->correlation_id = call->correlation_id;
        deaf->done = deaf_done;
        deaf->conn = k;
        deaf->sent = true;
        timer_init(&deaf->timer, call->timer.fire);
        deaf->deadline_ms = call->deadline_ms;
        list_add_before(&deaf->link, &call->link);
        timer_arm(&k->client->timers, &deaf->timer, deaf->deadline_ms);
    }
    call_idle(call);
}

static void call_on_timer(struct timer *timer)
{
    struct call *call = (struct call *)(void *)((char *)timer - offsetof(struct call, timer));
    struct conn *k = call->conn;
    if (call->sent) {
        conn_drop(k, RV_E_LOST, "no answer within request.timeout.ms");
        return;
    }
    call_end(call, k->state == CONN_UP ? RV_E_TIMED_OUT : RV_E_CONNECT);
}

int16_t conn_version(const struct conn *conn, const struct call *call)
{
    int16_t key = call->api->key;
    if (conn->state != CONN_UP || key >= API_KEY_LIMIT) {
        return -1;
    }
    int16_t most = call->api->max_version;
    if (call->max_version && call->max_version < most) {
        most = call->max_version;
    }
    int16_t least = call->api->min_version;
    if (call->min_version > least) {
        least = call->min_version;
    }
    const struct api_range *served = &conn->apis[key];
    most = most < served->max ? most : served->max;
    least = least > served->min ? least : served->min;
    return most < least ? -1 : most;
}

static err encode_body(struct conn *k, struct call *call, struct arena *a, int *ret_code)
{
    struct writer *w = &k->out;
    if (call->raw) {
        writer_add(w, call->raw, call->raw_size);
        return w->error;
    }
    const void *request = call->request;
    if (!request) {
        void *fresh = arena_zero(a, 1, call->api->request->size ? call->api->request->size : 1);
        if (!fresh) {
            return ERR_MEMORY;
        }
        wire_defaults(call->api->request, fresh);
        *ret_code = call->fill(call, a, fresh);
        if (*ret_code != RV_OK) {
            return ERR_INVALID;
        }
        request = fresh;
    }
    return wire_encode(call->api->request, call->version, w, request);
}

/* Encodes a call behind what is to be written. A failure leaves nothing behind. */
static int call_encode(struct conn *k, struct call *call, int16_t version)
{
    struct writer *w = &k->out;
    size_t start = w->len;
    struct arena a;
    arena_init(&a, CALL_ARENA_LIMIT);
    call->version = version;
    int code = RV_OK;
    frame_begin_request(w, call->api, version, k->next_correlation,
                        str_of(k->client->settings.texts[OPT_CLIENT_ID]));
    err e = w->error != OK ? w->error : encode_body(k, call, &a, &code);
    arena_finish(&a);
    if (e != OK) {
        w->len = start;
        w->error = OK;
        return code != RV_OK ? code : e == ERR_INVALID ? RV_E_ARGUMENT : error_of(e);
    }
    writer_patch_int32(w, start, (int32_t)(w->len - start - FRAME_SIZE_BYTES));
    call->correlation_id = k->next_correlation;
    k->next_correlation = (k->next_correlation + 1) & INT32_MAX;
    if (!list_linked(&k->dirty)) {
        list_push(&k->client->dirty, &k->dirty);
    }
    return RV_OK;
}

static void call_send(struct conn *k, struct call *call, int16_t version)
{
    list_remove(&call->link);
    int code = version < 0 ? RV_E_VERSION : call_encode(k, call, version);
    if (code != RV_OK) {
        call_fail_later(call, code);
        return;
    }
    if (call->no_answer) { /* done when handed to the socket: see conn_write */
        call_fail_later(call, RV_OK);
        return;
    }
    call->sent = true;
    list_push(&k->sent, &call->link);
}

void call_submit(struct conn *conn, struct call *call, int64_t timeout_ms)
{
    struct rv_client *c = conn->client;
    call->conn = conn;
    call->sent = false;
    call->deadline_ms = client_now(c) + timeout_ms;
    timer_init(&call->timer, call_on_timer);
    timer_arm(&c->timers, &call->timer, call->deadline_ms);
    if (conn->state == CONN_UP) {
        call_send(conn, call, call->raw ? call->max_version : conn_version(conn, call));
        return;
    }
    list_push(&conn->waiting, &call->link);
    if (conn->state == CONN_DOWN && !timer_armed(&conn->timer)) {
        timer_arm(&c->timers, &conn->timer, conn->retry_at_ms);
    }
}

/* ---- down and up ---- */

static void conn_stop_socket(struct conn *k)
{
    if (k->fd >= 0) {
        close(k->fd); /* leaves epoll by itself */
        k->fd = -1;
    }
    if (k->addresses) {
        freeaddrinfo(k->addresses);
        k->addresses = k->address = NULL;
    }
    list_remove(&k->dirty);
    timer_disarm(&k->client->timers, &k->timer);
    k->want_write = false;
    writer_reset(&k->out);
    k->out_position = 0;
    frame_unref(k->frame);
    k->frame = NULL;
    k->frame_len = k->stage_len = 0;
    k->state = CONN_DOWN;
}

static void calls_end(struct list *calls, int code)
{
    struct list *node;
    while ((node = list_pop(calls))) {
        call_end(list_entry(node, struct call, link), code);
    }
}

void conn_drop(struct conn *k, int code, const char *why)
{
    struct rv_client *c = k->client;
    bool was_up = k->state == CONN_UP;
    bool was_idle = list_empty(&k->sent) && list_empty(&k->waiting);
    snprintf(k->why, sizeof k->why, "%s", why);
    conn_stop_socket(k);
    if (was_up && was_idle) {
        client_log(c, RV_DEBUG, "%s:%d closed the idle connection", k->host, (int)k->port);
        k->failures = 0;
    } else {
        client_log(c, RV_INFO, "connection to %s:%d: %s", k->host, (int)k->port, why);
        k->failures++;
    }
    k->retry_at_ms = client_now(c);
    if (k->failures) {
        k->retry_at_ms += client_backoff(c, setting(c, OPT_RECONNECT_BACKOFF_MS),
                                         setting(c, OPT_RECONNECT_BACKOFF_MAX_MS), k->failures - 1);
    }
    struct list sent, waiting;
    list_init(&sent);
    list_init(&waiting);
    list_splice(&sent, &k->sent);
    list_splice(&waiting, &k->waiting);
    list_remove(&k->hello.link);
    if (k->hello.conn) {
        call_idle(&k->hello);
    }
    calls_end(&sent, code);
    calls_end(&waiting, was_up ? RV_E_LOST : RV_E_CONNECT);
}

static void conn_watch(struct conn *k, bool want_write, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | (want_write ? EPOLLOUT : 0), .data.ptr = k};
    k->want_write = want_write;
    if (epoll_ctl(k->client->epoll_fd, operation, k->fd, &event) != 0) {
        conn_drop(k, RV_E_CONNECT, strerror(errno));
    }
}

/* Tries the addresses from k->address on. */
static void conn_try(struct conn *k)
{
    int error = 0;
    for (; k->address; k->address = k->address->ai_next) {
        k->fd = socket(k->address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (k->fd < 0) {
            error = errno;
            continue;
        }
        int one = 1;
        if (setsockopt(k->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0 &&
            (connect(k->fd, k->address->ai_addr, k->address->ai_addrlen) == 0 ||
             errno == EINPROGRESS)) {
            k->state = CONN_CONNECTING;
            conn_watch(k, true, EPOLL_CTL_ADD);
            return;
        }
        error = errno;
        close(k->fd);
        k->fd = -1;
    }
    conn_drop(k, RV_E_CONNECT, strerror(error));
}

static void conn_connect(struct conn *k)
{
    char port[16];
    snprintf(port, sizeof port, "%d", (int)k->port);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    int e = getaddrinfo(k->host, port, &hints, &k->addresses);
    if (e != 0) { /* AI_ADDRCONFIG hides loopback where there is no other network */
        const struct addrinfo plain = {.ai_socktype = SOCK_STREAM};
        e = getaddrinfo(k->host, port, &plain, &k->addresses);
    }
    if (e != 0) {
        k->addresses = NULL;
        conn_drop(k, RV_E_CONNECT, gai_strerror(e));
        return;
    }
    k->address = k->addresses;
    timer_arm(&k->client->timers, &k->timer,
              client_now(k->client) + setting(k->client, OPT_CONNECT_TIMEOUT_MS));
    conn_try(k);
}

static void conn_on_timer(struct timer *timer)
{
    struct conn *k = (struct conn *)(void *)((char *)timer - offsetof(struct conn, timer));
    if (k->state == CONN_DOWN) {
        if (!list_empty(&k->waiting)) {
            conn_connect(k);
        }
        return;
    }
    conn_drop(k, RV_E_CONNECT, "no answer within socket.connection.setup.timeout.ms");
}

static void hello_done(struct call *call, const struct answer *answer);

static void hello_send(struct conn *k, int16_t version)
{
    k->hello.conn = k;
    k->hello.max_version = version;
    k->hello.deadline_ms = INT64_MAX; /* the connection's own timer watches it */
    timer_init(&k->hello.timer, call_on_timer);
    if (call_encode(k, &k->hello, version) != RV_OK) {
        conn_drop(k, RV_E_MEMORY, "out of memory");
        return;
    }
    k->hello.sent = true;
    list_push(&k->sent, &k->hello.link);
}

static int hello_fill(struct call *call, struct arena *a, void *request)
{
    (void)call;
    (void)a;
    struct api_versions_request *r = request;
    r->client_software_name = STR("librivulet");
    r->client_software_version = STR("0.1");
    return RV_OK;
}

static void conn_connected(struct conn *k)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(k->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
        error = errno;
    }
    if (error) {
        close(k->fd);
        k->fd = -1;
        k->address = k->address->ai_next;
        if (k->address) {
            conn_try(k);
        } else {
            conn_drop(k, RV_E_CONNECT, strerror(error));
        }
        return;
    }
    k->state = CONN_HELLO;
    hello_send(k, k->hello.api->max_version);
}

static void waiting_send(struct conn *k)
{
    struct list waiting;
    list_init(&waiting);
    list_splice(&waiting, &k->waiting);
    struct list *node;
    while ((node = list_pop(&waiting))) {
        struct call *call = list_entry(node, struct call, link);
        call_send(k, call, call->raw ? call->max_version : conn_version(k, call));
    }
}

/* Features that the cluster has agreed on. */
static void features_take(struct rv_client *c, const struct api_versions_response *r)
{
    if (r->finalized_features_epoch < 0 || r->finalized_features_epoch < c->features_epoch) {
        return; /* nothing is said, or it is older than what we know */
    }
    c->features_epoch = r->finalized_features_epoch;
    c->transaction_version = 0; /* a level of 0 is left out */
    for (int32_t i = 0; i < r->finalized_features_count; i++) {
        if (str_eq(r->finalized_features[i].name, STR("transaction.version"))) {
            c->transaction_version = r->finalized_features[i].max_version_level;
        }
    }
}

static void hello_done(struct call *call, const struct answer *answer)
{
    struct conn *k = (struct conn *)(void *)((char *)call - offsetof(struct conn, hello));
    const struct api_versions_response *r = answer->body;
    if (answer->code != RV_OK) {
        conn_drop(k, RV_E_CONNECT, error_about(answer->code));
        return;
    }
    int16_t told = -1;
    for (size_t i = 0; i < API_KEY_LIMIT; i++) {
        k->apis[i] = (struct api_range){.min = 0, .max = -1};
    }
    for (int32_t i = 0; i < r->api_keys_count; i++) {
        int16_t key = r->api_keys[i].api_key;
        if (key >= 0 && key < API_KEY_LIMIT) {
            k->apis[key] = (struct api_range){.min = r->api_keys[i].min_version,
                                              .max = r->api_keys[i].max_version};
            told = key == API_VERSIONS_KEY ? r->api_keys[i].max_version : told;
        }
    }
    if (r->error_code == KERR_UNSUPPORTED_VERSION && call->version > 0) {
        hello_send(k, told >= 0 && told < call->version ? told : 0);
        return;
    }
    if (r->error_code != KERR_NONE) {
        conn_drop(k, RV_E_CONNECT, kafka_error_text(r->error_code));
        return;
    }
    features_take(k->client, r);
    timer_disarm(&k->client->timers, &k->timer);
    k->state = CONN_UP;
    k->failures = 0;
    waiting_send(k);
}

/* ---- bytes out ---- */

static void conn_write(struct conn *k)
{
    while (k->out_position < k->out.len) {
        ssize_t n =
            send(k->fd, k->out.ptr + k->out_position, k->out.len - k->out_position, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            if (errno != EAGAIN && errno != EWOULDBLOCK) {
                conn_drop(k, RV_E_LOST, strerror(errno));
                return;
            }
            if (!k->want_write) {
                conn_watch(k, true, EPOLL_CTL_MOD);
            }
            return;
        }
        k->out_position += (size_t)n;
    }
    k->out_position = 0;
    if (k->out.size > OUT_KEEP_BYTES) {
        writer_finish(&k->out);
        writer_init(&k->out, OUT_LIMIT);
    } else {
        writer_reset(&k->out);
    }
    if (k->want_write) {
        conn_watch(k, false, EPOLL_CTL_MOD);
    }
}

void conns_flush(struct rv_client *client)
{
    struct list *node;
    while ((node = list_pop(&client->dirty))) {
        struct conn *k = list_entry(node, struct conn, dirty);
        if (k->fd >= 0 && k->state != CONN_CONNECTING) {
            conn_write(k);
        }
    }
}

/* ---- bytes in ---- */

/* An answer that cannot be read: the call ends with RV_E_PROTOCOL, and so does the connection. */
static void answer_unreadable(struct conn *k, struct call *call, err e)
{
    char why[100];
    snprintf(why, sizeof why, "answer to %s version %d: %s", call->api->name, (int)call->version,
             err_text(e));
    if (call != &k->hello) {
        call_end(call, e == ERR_MEMORY ? RV_E_MEMORY : RV_E_PROTOCOL);
    } else {
        call_idle(call);
    }
    conn_drop(k, RV_E_LOST, why);
}

static void conn_on_answer(struct conn *k, struct frame *frame)
{
    if (list_empty(&k->sent)) {
        conn_drop(k, RV_E_LOST, "an answer that nobody asked for");
        return;
    }
    struct call *call = list_entry(k->sent.next, struct call, link);
    struct reader r;
    reader_init(&r, frame->data, frame->size);
    int32_t correlation_id = -1;
    err e = response_header_decode(&r, call->api, call->version, &correlation_id);
    if (e == OK && correlation_id != call->correlation_id) {
        e = ERR_ORDER;
    }
    if (e != OK) {
        answer_unreadable(k, call, e);
        return;
    }
    struct arena own;
    arena_init(&own, CALL_ARENA_LIMIT);
    struct arena *a = call->arena ? call->arena : &own;
    struct answer answer = {.code = RV_OK, .frame = frame};
    answer.body_position = (size_t)(r.next - frame->data);
    if (!call->raw && call->done != deaf_done) {
        int16_t version = call->version;
        void *body = arena_zero(a, 1, call->api->response->size ? call->api->response->size : 1);
        if (call == &k->hello && reader_left(&r) >= 2 && version > 0 &&
            get_be16(r.next) == KERR_UNSUPPORTED_VERSION) {
            version = 0; /* the answer to a version that is too high has the body of version 0 */
        }
        e = body ? wire_decode(call->api->response, version, &r, a, body) : arena_error(a);
        answer.body = body;
    }
    if (e != OK) {
        answer_unreadable(k, call, e);
    } else {
        call_idle(call);
        call->done(call, &answer);
    }
    arena_finish(&own);
}

/* Takes whole answers out of what has come. False: the connection is gone. */
static bool stage_take(struct conn *k)
{
    size_t position = 0;
    while (k->stage_len - position >= FRAME_SIZE_BYTES) {
        int32_t size;
        int64_t most = setting(k->client, OPT_RECEIVE_MAX_BYTES);
        if (frame_size(k->stage + position, (int32_t)most, &size) != OK || size < 4) {
            conn_drop(k, RV_E_LOST,
                      "not an answer of Kafka's protocol, or over receive.message.max.bytes");
            return false;
        }
        struct frame *f = mem_alloc(sizeof *f + (size_t)size);
        if (!f) {
            conn_drop(k, RV_E_LOST, "out of memory for an answer");
            return false;
        }
        position += FRAME_SIZE_BYTES;
        size_t have = k->stage_len - position;
        have = have < (size_t)size ? have : (size_t)size;
        *f = (struct frame){.refs = 1, .size = (size_t)size};
        memcpy(f->data, k->stage + position, have);
        position += have;
        if (have < (size_t)size) {
            k->frame = f;
            k->frame_len = have;
            break;
        }
        conn_on_answer(k, f);
        frame_unref(f);
        if (k->state == CONN_DOWN) {
            return false;
        }
    }
    memmove(k->stage, k->stage + position, k->stage_len - position);
    k->stage_len -= position;
    return true;
}

/* One read. False: there is no more for now. */
static bool conn_read_some(struct conn *k)
{
    bool in_frame = k->frame != NULL;
    uint8_t *to = in_frame ? k->frame->data + k->frame_len : k->stage + k->stage_len;
    size_t room = in_frame ? k->frame->size - k->frame_len : CONN_STAGE_SIZE - k->stage_len;
    ssize_t n = recv(k->fd, to, room, 0);
    if (n < 0) {
        if (errno == EINTR) {
            return true;
        }
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            conn_drop(k, RV_E_LOST, strerror(errno));
        }
        return false;
    }
    if (n == 0) {
        conn_drop(k, RV_E_LOST, "the broker closed the connection");
        return false;
    }
    if (!in_frame) {
        k->stage_len += (size_t)n;
        return stage_take(k) && (size_t)n == room;
    }
    k->frame_len += (size_t)n;
    if (k->frame_len == k->frame->size) {
        struct frame *f = k->frame;
        k->frame = NULL;
        k->frame_len = 0;
        conn_on_answer(k, f);
        frame_unref(f);
        return k->state != CONN_DOWN;
    }
    return (size_t)n == room;
}

void conn_on_event(struct conn *k, uint32_t epoll_events)
{
    if (k->state == CONN_CONNECTING) {
        if (epoll_events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
            conn_connected(k);
        }
        return;
    }
    if (k->fd >= 0 && (epoll_events & EPOLLOUT)) {
        conn_write(k);
    }
    if (k->fd >= 0 && (epoll_events & (EPOLLIN | EPOLLERR | EPOLLHUP))) {
        for (int i = 0; i < ANSWERS_A_TURN && conn_read_some(k); i++) {
        }
    }
}

/* ---- which connection ---- */

static struct conn *conn_create(struct rv_client *c, int32_t node, int32_t lane, const char *host,
                                int32_t port)
{
    struct conn *k = mem_zero(1, sizeof *k);
    if (!k) {
        return NULL;
    }
    k->client = c;
    k->node = node;
    k->lane = lane;
    snprintf(k->host, sizeof k->host, "%s", host);
    k->port = port;
    k->fd = -1;
    list_init(&k->waiting);
    list_init(&k->sent);
    timer_init(&k->timer, conn_on_timer);
    writer_init(&k->out, OUT_LIMIT);
    k->hello.api = wire_api_find(API_VERSIONS_KEY);
    k->hello.fill = hello_fill;
    k->hello.done = hello_done;
    list_push(&c->conns, &k->link);
    return k;
}

static struct conn *conn_find(struct rv_client *c, int32_t node, int32_t lane)
{
    list_each(link, &c->conns)
    {
        struct conn *k = list_entry(link, struct conn, link);
        if (k->node == node && k->lane == lane) {
            return k;
        }
    }
    return NULL;
}

struct conn *conn_get(struct rv_client *client, int32_t node, int32_t lane)
{
    const struct broker *b = meta_broker(&client->meta, node);
    struct conn *k = conn_find(client, node, lane);
    if (k && b &&
        (k->port != b->port || strcmp(k->host, b->host) != 0)) { /* the broker has moved */
        conn_drop(k, RV_E_LOST, "the broker has a new address");
        snprintf(k->host, sizeof k->host, "%s", b->host);
        k->port = b->port;
        k->failures = 0;
        k->retry_at_ms = client_now(client);
    }
    return k ? k : b ? conn_create(client, node, lane, b->host, b->port) : NULL;
}

struct conn *conn_bootstrap(struct rv_client *client, int index)
{
    const struct bootstrap *b = &client->bootstraps[index];
    struct conn *k = conn_find(client, -1 - index, LANE_CONTROL);
    return k ? k : conn_create(client, -1 - index, LANE_CONTROL, b->host, b->port);
}

struct conn *conn_any(struct rv_client *client, int32_t lane)
{
    struct conn *best = NULL; /* up; else the one that may be tried first */
    for (int32_t i = 0; i < client->meta.broker_count; i++) {
        struct conn *k = conn_get(client, client->meta.brokers[i].id, lane);
        if (k && k->state == CONN_UP) {
            return k;
        }
        if (k && k->failures == 0 && !best) {
            best = k;
        }
    }
    if (best) {
        return best;
    }
    list_each(link, &client->conns)
    {
        struct conn *k = list_entry(link, struct conn, link);
        if (k->state == CONN_UP && k->lane == lane) {
            return k;
        }
    }
    int i = client->next_bootstrap;
    client->next_bootstrap = (i + 1) % client->bootstrap_count;
    return conn_bootstrap(client, i);
}

/* Ends the calls on it that failed and were to end in the next turn. */
static void conn_end_failed(struct conn *k)
{
    struct list mine;
    list_init(&mine);
    list_each_safe(link, after, &k->client->failed)
    {
        struct call *call = list_entry(link, struct call, link);
        if (call->conn == k) {
            list_remove(link);
            list_push(&mine, link);
        }
    }
    struct list *node;
    while ((node = list_pop(&mine))) {
        struct call *call = list_entry(node, struct call, link);
        call_end(call, call->failed_code);
    }
}

static void conn_destroy(struct conn *k)
{
    conn_end_failed(k);
    check(list_empty(&k->waiting));
    conn_stop_socket(k);
    writer_finish(&k->out);
    list_remove(&k->link);
    mem_free(k);
}

void conn_close_lane(struct rv_client *client, int32_t lane)
{
    list_each_safe(link, after, &client->conns)
    {
        struct conn *k = list_entry(link, struct conn, link);
        if (k->lane == lane) {
            conn_drop(k, RV_E_STATE, "closed");
            conn_destroy(k);
        }
    }
}

/* "host", "host:port", "[v6]:port" */
static bool bootstrap_parse(const char *text, size_t size, struct bootstrap *ret)
{
    const char *colon = memrchr(text, ':', size);
    const char *bracket = memrchr(text, ']', size);
    int64_t port = 9092;
    size_t host_size = size;
    if (colon && colon > bracket) {
        struct str digits = {.ptr = colon + 1, .len = (size_t)(text + size - colon - 1)};
        if (str_to_int64(digits, &port) != OK || port < 1 || port > 65535) {
            return false;
        }
        host_size = (size_t)(colon - text);
    }
    if (host_size >= 2 && text[0] == '[' && text[host_size - 1] == ']') {
        text++;
        host_size -= 2;
    }
    if (host_size == 0 || host_size >= HOST_LIMIT) {
        return false;
    }
    memcpy(ret->host, text, host_size);
    ret->host[host_size] = 0;
    ret->port = (int32_t)port;
    return true;
}

int conns_init(struct rv_client *client, struct rv_error *ret_error)
{
    const char *text = client->settings.texts[OPT_BOOTSTRAP_SERVERS];
    size_t most = 1;
    for (const char *p = text; *p; p++) {
        most += *p == ',';
    }
    client->bootstraps = mem_zero(most, sizeof *client->bootstraps);
    if (!client->bootstraps) {
        return error_memory(ret_error);
    }
    for (const char *p = text; *p;) {
        p += strspn(p, " ,");
        size_t n = strcspn(p, " ,");
        if (n && !bootstrap_parse(p, n, &client->bootstraps[client->bootstrap_count++])) {
            return error_set(ret_error, RV_E_OPTION,
                             "option bootstrap.servers: '%.*s' is not HOST:PORT", (int)n, p);
        }
        p += n;
    }
    if (client->bootstrap_count == 0) {
        return error_set(ret_error, RV_E_OPTION,
                         "option bootstrap.servers is missing: HOST:PORT,...");
    }
    return RV_OK;
}

void conns_finish(struct rv_client *client)
{
    list_each_safe(link, after, &client->conns)
    {
        struct conn *k = list_entry(link, struct conn, link);
        conn_drop(k, RV_E_STATE, "closed");
        conn_destroy(k);
    }
    mem_free(client->bootstraps);
    client->bootstraps = NULL;
}

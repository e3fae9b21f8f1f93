/* Listening and accepting. */
#include "base/mem.h"
#include "broker/net/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <unistd.h>

static void on_accept(uv_poll_t *poll, int status, int events);

static void note_refusal(struct net *net, const char *limit)
{
    int64_t now_ms = clock_mono_ms(net->options.clock);
    net->options.metrics->connections_refused++;
    net->refused_unlogged++;
    if (net->refused_log_ms && now_ms - net->refused_log_ms < REFUSED_LOG_MS) {
        return;
    }
    diag_log(net->options.diag, DIAG_WARN, "connections_refused", "limit=\"%s\" count=%llu open=%d",
             limit, (unsigned long long)net->refused_unlogged, net->count);
    net->refused_log_ms = now_ms;
    net->refused_unlogged = 0;
}

static void adopt(struct listener *l, int fd, const struct sockaddr_storage *peer)
{
    struct net *net = l->net;
    if (net->count >= net->config->connections_max || net->count >= net->options.connections_max) {
        note_refusal(net, net->count >= net->config->connections_max ? "max.connections"
                                                                     : "open files (ulimit -n)");
        close(fd);
        return;
    }
    if (!net_ip_take(net, peer)) {
        note_refusal(net, "max.connections.per.ip");
        close(fd);
        return;
    }
    int yes = 1; /* that these fail harms nothing: the connection works without */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
    conn_open(net, l, fd, peer);
}

/* No descriptor is left: one that was kept for this lets the client be told at once. Otherwise it
 * would wait, and the loop would spin on a listener that stays readable. */
static void out_of_files(struct listener *l)
{
    struct net *net = l->net;
    net->options.metrics->accept_failures++;
    if (net->reserve_fd >= 0) {
        close(net->reserve_fd);
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            close(fd);
            note_refusal(net, "open files (ulimit -n)");
        }
        net->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    check(uv_poll_stop(&l->poll) == 0);
    timer_arm(net->options.timers, &l->again, clock_mono_ms(net->options.clock) + ACCEPT_AGAIN_MS);
}

static void on_again(struct timer *timer)
{
    struct listener *l = list_entry(timer, struct listener, again);
    check(uv_poll_start(&l->poll, UV_READABLE, on_accept) == 0);
}

static void on_accept(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct listener *l = poll->data;
    for (int i = 0; i < ACCEPT_BURST && status == 0; i++) {
        struct sockaddr_storage peer = {0};
        socklen_t size = sizeof peer;
        int fd = accept4(l->fd, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            adopt(l, fd, &peer);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            out_of_files(l);
            return;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } /* else: that one client's trouble (ECONNABORTED and its kin) */
    }
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct listener *l = handle->data;
    struct net *net = l->net;
    mem_free(l);
    net_released(net);
}

void listener_close(struct listener *l)
{
    timer_disarm(l->net->options.timers, &l->again);
    list_remove(&l->link);
    uv_close((uv_handle_t *)&l->poll, on_listener_closed);
    close(l->fd);
    l->fd = -1;
}

static err bind_error(int number)
{
    switch (number) {
    case EADDRINUSE: return ERR_BUSY;
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT: return ERR_NOT_FOUND;
    case EMFILE:
    case ENFILE: return ERR_NO_FILES;
    default: return ERR_IO;
    }
}

static err open_listening(const struct sockaddr *address, socklen_t size, int *ret_fd)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return bind_error(errno);
    }
    int yes = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        (address->sa_family == AF_INET6 &&
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes) != 0) ||
        bind(fd, address, size) != 0 || listen(fd, SOMAXCONN) != 0) {
        err e = bind_error(errno);
        close(fd);
        return e;
    }
    *ret_fd = fd;
    return OK;
}

err net_listen(struct net *net, const struct sockaddr *address, socklen_t size,
               struct listener **ret_listener, char ret_address[NET_ADDRESS_SIZE],
               uint16_t *ret_port)
{
    int fd = -1;
    err e = open_listening(address, size, &fd);
    if (e != OK) {
        return e;
    }
    struct listener *l = mem_need_zero(1, sizeof *l);
    struct sockaddr_storage bound = {0};
    socklen_t bound_size = sizeof bound;
    if (getsockname(fd, (struct sockaddr *)&bound, &bound_size) != 0 ||
        uv_poll_init(net->options.loop, &l->poll, fd) != 0) {
        mem_free(l);
        close(fd);
        return ERR_IO;
    }
    l->net = net;
    l->fd = fd;
    l->poll.data = l;
    timer_init(&l->again, on_again);
    list_push(&net->listeners, &l->link);
    net->handles++;
    check(uv_poll_start(&l->poll, UV_READABLE, on_accept) == 0);
    char host[NET_ADDRESS_SIZE];
    net_format_address(&bound, host, ret_port);
    net_format_peer(&bound, l->address);
    memcpy(ret_address, l->address, NET_ADDRESS_SIZE);
    *ret_listener = l;
    return OK;
}

void net_stop_listening(struct net *net)
{
    list_each_safe(link, after, &net->listeners)
    {
        listener_close(list_entry(link, struct listener, link));
    }
}

/* ---- addresses */

err net_resolve(const char *host, uint16_t port, struct sockaddr_storage *ret_addresses, int size,
                int *ret_count)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found;
    if (getaddrinfo(*host ? host : NULL, service, &hints, &found) != 0) {
        return ERR_NOT_FOUND;
    }
    int count = 0;
    for (struct addrinfo *a = found; a && count < size; a = a->ai_next) {
        if (a->ai_family == AF_INET || a->ai_family == AF_INET6) {
            memset(&ret_addresses[count], 0, sizeof ret_addresses[count]);
            memcpy(&ret_addresses[count++], a->ai_addr, a->ai_addrlen);
        }
    }
    freeaddrinfo(found);
    *ret_count = count;
    return count ? OK : ERR_NOT_FOUND;
}

bool net_is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET) {
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    }
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

void net_format_address(const struct sockaddr_storage *address, char host[NET_ADDRESS_SIZE],
                        uint16_t *ret_port)
{
    socklen_t size =
        address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (getnameinfo((const struct sockaddr *)address, size, host, NET_ADDRESS_SIZE, NULL, 0,
                    NI_NUMERICHOST) != 0) {
        snprintf(host, NET_ADDRESS_SIZE, "?");
    }
    *ret_port =
        ntohs(address->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)address)->sin6_port
                                             : ((const struct sockaddr_in *)address)->sin_port);
}

void net_format_peer(const struct sockaddr_storage *address, char text[NET_ADDRESS_SIZE])
{
    char host[NET_ADDRESS_SIZE];
    uint16_t port;
    net_format_address(address, host, &port);
    snprintf(text, NET_ADDRESS_SIZE, strchr(host, ':') ? "[%.50s]:%u" : "%.50s:%u", host, port);
}

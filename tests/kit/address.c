#include "tests/kit/address.h"

#include "base/check.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static socklen_t address_of(const char *host, uint16_t port, struct sockaddr_storage *ret_address)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    *ret_address = (struct sockaddr_storage){0};
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        memcpy(ret_address, &v4, sizeof v4);
        return sizeof v4;
    }
    check(inet_pton(AF_INET6, host, &v6.sin6_addr) == 1);
    memcpy(ret_address, &v6, sizeof v6);
    return sizeof v6;
}

bool has_ipv6(void)
{
    struct sockaddr_storage address;
    socklen_t size = address_of("::1", 0, &address);
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool has = fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return has;
}

struct wire_client *wire_dial(const char *host, uint16_t port)
{
    struct sockaddr_storage address;
    socklen_t size = address_of(host, port, &address);
    const struct timeval limit = {.tv_sec = WIRE_LIMIT_S};
    const int on = 1;
    struct wire_client *c = mem_need_zero(1, sizeof *c);
    arena_init(&c->arena, (size_t)1 << 31);
    c->client_id = STR("wire");
    c->fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(c->fd >= 0);
    check(setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    check(setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0);
    check(setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
    if (connect(c->fd, (struct sockaddr *)&address, size) != 0) {
        perror(host);
        check(false);
    }
    return c;
}

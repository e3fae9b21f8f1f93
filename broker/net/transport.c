#include "broker/net/transport.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

static ssize_t result(ssize_t n)
{
    if (n >= 0) {
        return n;
    }
    return errno == EAGAIN || errno == EWOULDBLOCK ? TRANSPORT_AGAIN : TRANSPORT_FAILED;
}

static ssize_t plain_read(int fd, const struct iovec *parts, int count)
{
    ssize_t n;
    do {
        n = count == 1 ? recv(fd, parts->iov_base, parts->iov_len, 0) : readv(fd, parts, count);
    } while (n < 0 && errno == EINTR);
    return result(n);
}

static ssize_t plain_write(int fd, const struct iovec *parts, int count, bool more)
{
    struct msghdr m = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)count};
    ssize_t n;
    do {
        n = sendmsg(fd, &m, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
    } while (n < 0 && errno == EINTR);
    return result(n);
}

static ssize_t plain_send_file(int fd, const struct extent *e, size_t skip)
{
    off_t position = (off_t)(e->position + (int64_t)skip);
    int from = e->store->ops->fd(e->file);
    ssize_t n;
    do {
        n = sendfile(fd, from, &position, e->size - skip);
    } while (n < 0 && errno == EINTR);
    if (n == 0) {
        return TRANSPORT_FAILED; /* the file is shorter than its extent: nothing right can follow */
    }
    return result(n);
}

static void plain_end(int fd)
{
    (void)shutdown(fd, SHUT_WR); /* where that fails, the next read says so */
}

static bool plain_has_input(int fd)
{
    int size = 0;
    return ioctl(fd, FIONREAD, &size) == 0 && size > 0;
}

const struct transport transport_plain = {.read = plain_read,
                                          .write = plain_write,
                                          .send_file = plain_send_file,
                                          .end = plain_end,
                                          .has_input = plain_has_input};

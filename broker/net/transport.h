/* transport: how bytes get through a connection's socket. A table of functions: plain TCP
 * (transport.c), TLS when its issue comes.
 *
 * Sockets are non-blocking. Results: > 0 bytes moved; 0 the other side has closed (reads alone);
 * TRANSPORT_AGAIN the socket is not ready; TRANSPORT_FAILED it is broken.
 */
#pragma once

#include "broker/store/extent.h"

#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

enum { TRANSPORT_AGAIN = -1, TRANSPORT_FAILED = -2 };

struct transport {
    ssize_t (*read)(int fd, const struct iovec *parts, int count);
    ssize_t (*write)(int fd, const struct iovec *parts, int count,
                     bool more); /* more: do not send a short packet yet */
    ssize_t (*send_file)(int fd, const struct extent *e,
                         size_t skip); /* bytes of the extent after the first `skip` */
    void (*end)(int fd);               /* nothing more will be written; reading goes on */
    bool (*has_input)(int fd);         /* something came that has not been read */
};

extern const struct transport transport_plain;

/* net: the listeners and connections of one shard, and nothing about what the bytes mean.
 *
 * A connection reads whole frames (an int32 size, then so many bytes) into slabs and hands each to
 * `frame`; what is written to it goes out at the end of the loop's turn, memory gathered by writev,
 * extents by sendfile. It closes itself for what only it can see: a size that is no size, no
 * progress, idleness, an error of the socket; `closed` is called for each connection that was
 * `opened`, exactly once, before its memory goes.
 *
 * Memory: bytes are charged to the budget as they arrive, never as announced. Frames that are not
 * all here have a part of it, rivulet.memory.partial.max.bytes, that they get along with, so that
 * they leave the rest to others; a connection that has nothing of a frame reads on. When either is
 * spent those that wait for it stop reading, but for the one whose partial frame is oldest, so that
 * something always completes; what that one has does not count for the others, or they would wait
 * for it.
 *
 * Large frames: of one of more than 4 MiB the owner is asked while it arrives (`partial`). It may
 * take away the front, and leave the beginning of a smaller frame; it may have a piece dropped that
 * nobody wants; it may close the connection. A front counts as a partial frame's memory as long as
 * anybody has it. Whoever cuts must pause the connection while much of what it cut is under way:
 * the oldest may go past the limit, but not with everything that its client has.
 *
 * One thread: the loop's. Callbacks may write to, pause and close any connection.
 */
#pragma once

#include "base/budget.h"
#include "base/clock.h"
#include "base/diag.h"
#include "base/slab.h"
#include "base/timer.h"
#include "broker/config.h"
#include "broker/metrics.h"
#include "broker/store/extent.h"

#include <stdbool.h>
#include <sys/socket.h>
#include <uv.h>

struct conn;
struct net;
struct listener;

enum { NET_ADDRESS_SIZE = 64 }; /* "[ipv6]:port" and a 0 */

/* Why a connection was closed. */
enum conn_end {
    CONN_END_PEER,    /* the client closed, or the socket broke */
    CONN_END_BROKEN,  /* what came on it makes no sense */
    CONN_END_STALLED, /* a frame or an answer made no progress */
    CONN_END_IDLE,    /* nothing happened on it */
    CONN_END_STOP,    /* we are going down */
};

struct net_events {
    /* A connection is there: gives what the owner keeps for it. */
    void *(*opened)(void *ctx, struct conn *c);
    /* One frame without its size. The bytes live in the slab: keep them with slab_ref. */
    void (*frame)(void *owner, struct slab *slab, const uint8_t *bytes, size_t size,
                  int64_t arrived_us);
    /* Of a frame without its size, so much is there. The slab's reference is the owner's until it
     * returns: it gives that one back, or another one's, with what is left and when to ask again. */
    void (*partial)(void *owner, struct slab_partial *p, int64_t arrived_us);
    /* All output that was waiting has gone, or has come below its bound. */
    void (*drained)(void *owner);
    void (*closed)(void *owner);
};

struct net_options {
    uv_loop_t *loop;             /* borrowed */
    const struct clock *clock;   /* borrowed */
    const struct diag *diag;     /* borrowed */
    struct timers *timers;       /* borrowed */
    struct budget *budget;       /* borrowed; its `freed` must call net_memory_freed */
    struct metrics *metrics;     /* borrowed */
    const struct config *config; /* borrowed; net_set_config swaps it */
    int64_t connections_max;     /* what descriptors allow; max.connections may be less */
    struct net_events events;
    void *ctx; /* for `opened` */
};

struct net *net_create(const struct net_options *options);
void net_set_config(struct net *net, const struct config *config);
void net_memory_freed(struct net *net); /* the budget came below its mark */
bool net_turn_end(struct net *net); /* before the loop blocks: sends what was written in this turn;
                                       true: it called back */
int net_connection_count(const struct net *net);
size_t net_partial_peak_bytes(const struct net *net); /* most that partial frames ever had */

/* Listens; port 0 picks one. ERR_BUSY: in use; ERR_NOT_FOUND: the address is not here; ERR_IO.
 * `ret_address` gets "host:port". */
err net_listen(struct net *net, const struct sockaddr *address, socklen_t size,
               struct listener **ret_listener, char ret_address[NET_ADDRESS_SIZE],
               uint16_t *ret_port);
void net_stop_listening(struct net *net);
void net_stop_reading(struct net *net); /* frames that are not complete yet will never be */
/* Closes all connections and listeners; `done` is called on the loop when no handle is left. Then
 * destroy. */
void net_close(struct net *net, void (*done)(void *ctx), void *ctx);
void net_destroy(struct net *net); /* takes NULL */

/* Resolves a host ("" is every address of the family) of the configuration; blocking, at the start
 * only. */
err net_resolve(const char *host, uint16_t port, struct sockaddr_storage *ret_addresses, int size,
                int *ret_count);
bool net_is_loopback(const struct sockaddr_storage *address);
void net_format_address(const struct sockaddr_storage *address, char host[NET_ADDRESS_SIZE],
                        uint16_t *ret_port);
void net_format_peer(const struct sockaddr_storage *address,
                     char text[NET_ADDRESS_SIZE]); /* with the port: 1.2.3.4:5, [::1]:5 */

/* ---- a connection */

void conn_write(struct conn *c, const void *p,
                size_t size); /* copies; goes out at the end of the turn */
void conn_write_extent(struct conn *c, struct extent *e); /* takes it over */
size_t conn_output_bytes(const struct conn *c);           /* waiting to be sent */
void conn_pause(struct conn *c);                          /* no more `frame` until conn_resume */
void conn_resume(struct conn *c);                         /* may call `frame` from net_turn_end */
void conn_set_busy(struct conn *c, bool busy);            /* busy ones are not idle */
void conn_close(struct conn *c, enum conn_end why,
                const char *reason); /* at once for the client; `closed` comes from net_turn_end */
/* When all output has gone the client is told that there will be no more, and what it still sends
 * is read and dropped until it closes too, for rivulet.linger.ms: a socket that is closed with
 * unread input resets the connection, and that may cost the client what it has not read yet. One on
 * which nothing happened for that long, and has no input, is closed at once. */
void conn_finish(struct conn *c);
const struct sockaddr_storage *conn_peer(const struct conn *c);
const struct sockaddr_storage *conn_local(
    const struct conn *c); /* the address that the client dialled */
const struct listener *conn_listener(const struct conn *c);

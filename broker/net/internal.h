/* What the files of net/ share. */
#pragma once

#include "base/list.h"
#include "base/map.h"
#include "broker/net/net.h"
#include "broker/net/transport.h"

enum {
    READ_SLAB_SIZE = 256 * 1024, /* bytes of the slab that connections read into by turns */
    READ_SIZE_MAX = 128 * 1024,  /* bytes of one read */
    READ_SIZE_TIGHT = 16 * 1024, /* bytes of one read while little memory is left */
    READ_SIZE_MIN = 32 * 1024,   /* a slab with less room is left */
    PARTIAL_SIZE_MIN = 512,      /* bytes of the first memory for a partial frame */
    PARTIAL_TRUST_MAX =
        1 << 20, /* a connection whose last frame was this large is given as much at once */
    PARTIAL_SMALL_MAX = 64 * 1024, /* the last eighth of the memory of partial frames is for frames
                                      of so many bytes */
    FRAME_LARGE = 4 << 20,         /* of larger frames the owner is asked while they arrive */
    OUT_BLOCK_SIZE = 4096,         /* bytes of a small block of output, header included */
    OUT_POOL_MAX = 64,             /* free ones that are kept */
    OUT_PARTS_MAX = 32,            /* pieces of one writev */
    SEND_BURST = 4 << 20,          /* bytes that one connection sends in one turn */
    ACCEPT_AGAIN_MS = 100,         /* pause after descriptors ran out */
    REFUSED_LOG_MS = 1000,         /* between two log lines about refusals */
    CROWDED_LOG_MS = 60000,        /* ... about the memory of partial frames */
    ACCEPT_BURST = 64,             /* connections that one listener accepts in one turn */
    FRAME_HEAD = 4,                /* bytes of a frame's size */
    LINGER_READ = 16384,           /* bytes that a lingering connection drops at once */
    LINGER_BURST = 16,             /* such reads in one turn */
};

/* Output, in order: memory, or an extent. */
struct out_piece {
    struct list link;     /* in conn.out */
    struct extent extent; /* owner not NULL: this is what is sent */
    size_t size;          /* bytes to send */
    size_t done;          /* of them sent */
    size_t capacity;      /* bytes of data */
    uint8_t data[];
};

/* A connection. Either `in` has the beginning of a frame, or `head` that of its size, or neither;
 * `rest` is what has been read and not been looked at, because the owner paused. */
struct conn {
    struct net *net;                   /* borrowed */
    const struct listener *listener;   /* borrowed */
    void *owner;                       /* the events' */
    const struct transport *transport; /* borrowed */
    uv_poll_t poll;
    int fd;     /* owned; -1 once closed */
    int events; /* what poll waits for: UV_READABLE | UV_WRITABLE */

    struct slab *in;   /* a partial frame's own memory, with its size field left out; NULL: none */
    size_t in_have;    /* bytes of it that are there */
    size_t in_need;    /* bytes of it in all */
    size_t in_drop;    /* bytes that come before the rest of it, and are dropped */
    size_t ask_at;     /* the owner is asked when it has so many; SIZE_MAX: not */
    size_t last_frame; /* bytes of the last whole frame */
    uint8_t head[FRAME_HEAD];
    uint8_t head_have; /* bytes of a frame's size that have come, < 4 */
    struct slab *rest; /* one reference; NULL: nothing is left */
    const uint8_t *rest_at;
    const uint8_t *rest_end;

    struct list out;  /* of out_piece */
    size_t out_bytes; /* waiting in them */

    struct timer timer;  /* idleness and stalls */
    int64_t activity_ms; /* last byte in or out */
    int64_t progress_ms; /* of the partial frame: last byte, or when reading was resumed */
    int64_t begun_ms;    /* when the partial frame began, or its front was taken away */
    int64_t linger_ms;   /* since when it lingers */
    int64_t out_ms;      /* of the output: last byte that went, or when it began to wait */

    struct list link;    /* in net.conns, or net.closed */
    struct list partial; /* in net.partials, oldest first */
    struct list waiting; /* in net.waiters: stopped for want of memory */
    struct list dirty;   /* in net.dirty: something to do at the end of the turn */
    bool paused;         /* by the owner */
    bool busy;           /* the owner has requests of it */
    bool finishing;      /* close when the output has gone */
    bool lingering;      /* the output has gone, the client has not closed */
    bool closing;        /* nothing happens any more */
    bool told;           /* `closed` was called */
    bool handle_closed;  /* libuv has let go of poll */
    bool drain_wanted;   /* output went above its bound: `drained` when it is below */
    struct sockaddr_storage peer;
    struct sockaddr_storage local;
};

struct listener {
    struct net *net; /* borrowed */
    uv_poll_t poll;
    int fd;             /* owned */
    struct timer again; /* accepting goes on after descriptors ran out */
    struct list link;   /* in net.listeners */
    char address[NET_ADDRESS_SIZE];
};

struct net {
    struct net_options options;
    const struct config *config; /* borrowed */
    struct list conns;           /* open ones */
    struct list closed;          /* closed ones whose owner has not been told */
    struct list listeners;
    struct list partials;   /* connections in the middle of a frame, oldest first */
    struct list waiters;    /* connections that wait for memory */
    struct list dirty;      /* connections with something to do at the end of the turn */
    struct slab *read_slab; /* one reference; NULL: none yet */
    size_t read_used;       /* bytes of it that may be in use */
    struct list out_pool;   /* free small blocks */
    int out_pool_count;
    int count;         /* open connections */
    int handles;       /* libuv handles that are not closed yet */
    int reserve_fd;    /* given up to refuse a connection when descriptors run out; -1: none */
    struct map per_ip; /* address -> struct ip_count; kept only while there is a limit */
    struct budget partial_memory; /* of partial frames, a part of the budget; a part of a frame
                                     that was cut off counts while anybody has it */
    bool memory_freed;            /* a budget came below its mark: waiters try again */
    int64_t spent_ms;             /* since when the budget is spent; 0: it is not */
    int64_t crowded_ms;           /* since when partial_memory is; 0: it is not */
    int64_t crowded_log_ms;       /* when that was logged last; 0: never */
    bool stop_reading;
    bool closing;
    int64_t refused_log_ms;    /* when a refusal was logged last */
    uint64_t refused_unlogged; /* refusals since then */
    void (*done)(void *ctx);   /* of net_close */
    void *done_ctx;
};

static inline int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

struct ip_count {
    int count; /* connections of this address */
};

/* conn.c */
void conn_open(struct net *net, const struct listener *listener, int fd,
               const struct sockaddr_storage *peer);
void conn_update(struct conn *c); /* what poll waits for */
void conn_arm(struct conn *c);    /* the timer, if something is due earlier than it is armed for */
void conn_mark_dirty(struct conn *c);
void conn_retry(struct conn *c);   /* it waited for memory, and needs less than it did */
void conn_read_on(struct conn *c); /* looks at what is left, then reads again */
void conn_free(struct conn *c);
void conn_deliver(struct conn *c, struct slab *slab, const uint8_t *bytes, size_t size,
                  int64_t arrived_us);
void conn_linger(struct conn *c); /* its output has gone: closes it, now or soon */

/* conn_out.c */
void conn_send(struct conn *c);
void conn_send_last(struct conn *c); /* before it is closed: what the socket takes at once */
void conn_drop_output(struct conn *c);

/* net.c */
void net_released(struct net *net); /* a handle is closed */
void net_ip_release(struct net *net, const struct sockaddr_storage *address);
bool net_ip_take(struct net *net,
                 const struct sockaddr_storage *address); /* false: max.connections.per.ip */
void net_note_spent(struct net *net);                     /* the budget is */
void net_arm_all(struct net *net);                        /* deadlines may have become earlier */

/* partial.c */
void partial_memory_init(struct net *net);
struct conn *partial_oldest(struct net *net); /* NULL: there is none */
int64_t partial_spent_ms(
    const struct net *net); /* since when they wait for memory; 0: they do not */
void partial_begin(struct conn *c, const uint8_t *p, size_t have, size_t need, int64_t arrived_us);
void partial_grow(struct conn *c);                                  /* makes room for more of it */
void partial_came(struct conn *c, size_t size, int64_t arrived_us); /* so many bytes more */
void partial_forget(struct conn *c);                                /* takes one without */
bool partial_waits(struct conn *c); /* it may not be read now, for want of memory */
/* What it has until when, while it is read. */
void partial_deadline(const struct conn *c, int64_t *deadline_ms, const char **reason);

/* listener.c */
void listener_close(struct listener *l);

/* conn: connections to brokers, and calls (one request and its answer) on them.
 *
 * A client has one connection for each (broker, lane): what waits at the broker (a fetch, a join)
 * blocks what comes behind it on the same connection, so each consumer and each group has lanes of
 * its own. Connections are made when a call needs them, agree on versions (ApiVersions) first, and
 * are made again with a growing, jittered pause after they failed. Calls are pipelined and answered
 * in order.
 *
 *   DOWN --call--> CONNECTING --> HELLO (ApiVersions) --> UP --error, timeout, end--> DOWN
 *
 * A call that was on its way when its connection broke ends with RV_E_LOST, one that was not sent
 * yet with RV_E_CONNECT; retrying is its owner's business. `done` is called once, from client_turn,
 * never from inside call_submit; not at all after call_cancel. One thread.
 */
#pragma once

#include "base/arena.h"
#include "base/list.h"
#include "base/timer.h"
#include "client/rivulet.h"
#include "protocol/wire.h"

struct rv_client;
struct addrinfo;

enum { LANE_CONTROL = 0 }; /* metadata and admin; client_lane gives others out */
enum { API_KEY_LIMIT = 100, CONN_STAGE_SIZE = 8192, HOST_LIMIT = 256 };

/* One answer as it came, without its size. Counted: records of a fetch are read where they lie. */
struct frame {
    uint32_t refs;  /* who holds it */
    size_t size;    /* bytes */
    uint8_t data[]; /* the answer, header included */
};
struct frame *frame_ref(struct frame *f);
void frame_unref(struct frame *f); /* takes NULL */

struct answer {
    int code; /* RV_OK, or why there is none; errors inside the body are the owner's to see */
    const void
        *body; /* decoded response struct; NULL on failure, for raw calls and without an answer */
    struct frame *frame;  /* what it borrows from; frame_ref to keep it. NULL when body is */
    size_t body_position; /* of the body in the frame, for raw calls */
};

struct call {
    /* set by the owner before call_submit */
    const struct wire_api *api;
    int16_t max_version; /* never above this; 0: what the schema has */
    int16_t min_version; /* never below this */
    bool no_answer;      /* produce with acks=0: done when written */
    const void *request; /* the request's struct, if it is there already; borrowed until done */
    /* else: fills one (already with defaults) when version and connection are known. A code other
     * than RV_OK ends the call with it. The arena lives until it is encoded. */
    int (*fill)(struct call *call, struct arena *a, void *request);
    const void *raw; /* else: the encoded body, in version max_version; borrowed until done */
    size_t raw_size; /* bytes */
    void (*done)(struct call *call, const struct answer *answer);
    struct arena *arena; /* the answer is decoded into this; NULL: into one that ends with done */

    /* the connection's */
    struct list link;  /* in its waiting or sent list, or among the client's failed; zeroed: idle */
    struct conn *conn; /* borrowed; where it was submitted */
    struct timer timer;     /* the answer is overdue */
    int64_t deadline_ms;    /* monotonic */
    int32_t correlation_id; /* when sent */
    int16_t version;        /* when sent */
    bool sent;              /* in the connection's sent list */
    int failed_code;        /* among the client's failed: the code to end with */
};

enum conn_state { CONN_DOWN, CONN_CONNECTING, CONN_HELLO, CONN_UP };

struct api_range {
    int16_t min, max; /* max < min: not served */
};

struct conn {
    struct list link;         /* in client->conns */
    struct list dirty;        /* in client->dirty: has bytes to write */
    struct rv_client *client; /* borrowed */
    int32_t node;             /* broker id; -1 - i: the i-th bootstrap server */
    int32_t lane;
    char host[HOST_LIMIT]; /* where to connect */
    int32_t port;
    enum conn_state state;
    int fd;                     /* -1: none */
    bool want_write;            /* epoll tells when it is writable */
    struct addrinfo *addresses; /* owned; of host */
    struct addrinfo *address;   /* the one being tried */
    int failures;               /* in a row */
    int64_t retry_at_ms;        /* DOWN: not before this */
    struct timer timer;         /* DOWN: connect again; CONNECTING, HELLO: overdue */
    char why[160];              /* of the last failure, for messages */
    struct list waiting;        /* calls not sent yet */
    struct list sent;           /* calls whose answers are to come, in order */
    struct call hello;          /* ApiVersions */
    int32_t next_correlation;
    struct writer out;                    /* bytes to write */
    size_t out_position;                  /* of them written */
    struct frame *frame;                  /* owned; the answer coming in, NULL between answers */
    size_t frame_len;                     /* bytes of it that have come */
    size_t stage_len;                     /* bytes in stage */
    struct api_range apis[API_KEY_LIMIT]; /* what the broker serves; valid in UP */
    uint8_t stage[CONN_STAGE_SIZE];       /* bytes in before they make a frame */
};

/* The connection to a broker on a lane; made (DOWN) when there is none. NULL: no memory, or no such
 * broker is known (then ask for metadata). */
struct conn *conn_get(struct rv_client *client, int32_t node, int32_t lane);
/* One that is up or may be soon, for questions that any broker answers. NULL: no memory. */
struct conn *conn_any(struct rv_client *client, int32_t lane);
struct conn *conn_bootstrap(struct rv_client *client, int index); /* NULL: no memory */

/* Queues a call, ends it at timeout_ms at the latest. */
void call_submit(struct conn *conn, struct call *call, int64_t timeout_ms);
void call_cancel(struct call *call); /* takes an idle one; its answer will be thrown away */
static inline bool call_busy(const struct call *call)
{
    return call->conn != NULL;
}

/* Version that would be used now; -1: not served, or the connection is not up. */
int16_t conn_version(const struct conn *conn, const struct call *call);

void conn_close_lane(struct rv_client *client, int32_t lane); /* its owner goes */
void conn_drop(struct conn *conn, int code,
               const char *why); /* breaks it: calls end, it may come back */

/* For the client: */
int conns_init(struct rv_client *client, struct rv_error *ret_error); /* bootstrap.servers */
void conns_finish(struct rv_client *client);
void conns_flush(struct rv_client *client);      /* writes what is to be written */
void conns_end_failed(struct rv_client *client); /* ends calls that failed in call_submit */
void conn_on_event(struct conn *conn, uint32_t epoll_events);

/* request: one request, from its frame to its answer. This is what handlers are written against.
 *
 *     err api_offset_fetch(struct request *req)
 *     {
 *         const struct offset_fetch_request *in = request_body(req);
 *         struct offset_fetch_response *out = request_reply(req);   wire defaults are set
 *         ...                              arrays: wire_array(&req->arena, &TABLE, count)
 *         reply(req, 0);
 *         return OK;
 *     }
 *
 * What a handler returns: OK means that it has replied, or that it parked the request and will
 * reply later. An error means that no answer can be given (usually arena_error: the request wants
 * more memory than it may have): the connection is closed, with a log line. After an error nothing
 * of the handler's may still point to the request, holds excepted. What a client did wrong is no
 * such error: it is an answer with an error code.
 *
 * Parking. Return OK without having replied; call reply() from a later callback on the loop.
 * Whatever will come back with a pointer to the request counts as a *hold*:
 *
 *     request_hold(req);                        before the submit (undo it if the submit was
 * refused) log_find_time(log, &q);
 *     ... in q.done: fill in the answer; if (last one) reply(req, 0); then request_release(req),
 * always, last.
 *
 * When the connection closes meanwhile, the request is *dropped*: `on_drop`, if the handler set it,
 * is called once, to take it out of what will not come back by itself (timers, watches, a
 * coordinator's tokens); then its memory (request, arena, frame) goes as soon as the last hold is
 * released. Until then completions find it whole; request_is_dropped tells; reply() to it does
 * nothing. A parked request that has neither holds nor an on_drop nor a timer of its own would
 * never be answered: that is the handler's bug.
 *
 * A graceful stop sets env->stopping and calls `on_stop` of each parked request that has it: what
 * waits for events (a fetch, a join) answers now, with what there is. It may reply from inside.
 * After the time of rivulet.stop.timeout.ms the connections of what is still parked are closed.
 *
 * Memory: `arena` lives as long as the request; strings, bytes and records of the body borrow from
 * the frame, which does too. Answers may borrow from both, and from the topic names of meta only
 * until the handler returns to the loop (copy them with request_copy): a reply may be encoded after
 * the call to reply(), when its turn in the connection's order has come.
 *
 * Shards. A handler begins at its connection's shard. What it wants of a partition is a message to
 * the shard that has it (partition.h). For what it wants of a group, or of the topics' owner, the
 * request goes there, whole: request_go, or a flag in apis.def; then handler, callbacks, holds and
 * on_drop are at that shard, and env is its. For what it wants of everybody it goes round:
 * request_visit. With one shard all of these are calls.
 *
 * One thread: the shard's that it is at.
 */
#pragma once

#include "base/arena.h"
#include "base/list.h"
#include "base/str.h"
#include "broker/api/env.h"
#include "protocol/error.h"
#include "protocol/frame.h"

struct api_row;
struct session;
struct log_read;
struct request_extents;
struct trip;

/* Where a client can reach this broker: what Metadata, FindCoordinator and the like answer. */
struct endpoint {
    struct str
        host; /* borrowed from the session: as advertised, or the address that the client dialled */
    int32_t port; /* 1..65535 */
};

enum request_state {
    REQUEST_QUEUED,   /* its turn has not come: not decoded yet */
    REQUEST_STARTED,  /* with its handler, or parked */
    REQUEST_ANSWERED, /* replied, waiting for its turn to be encoded */
    REQUEST_DROPPED,  /* the connection is gone; waits for its holds */
};

struct request {
    struct api_env *env;          /* borrowed; of the shard that it is at */
    const struct api_row *api;    /* its row of apis.def */
    struct request_header header; /* client_id borrows from the frame; may be null */
    struct session *session;      /* the connection; NULL once it is dropped */
    struct str principal;         /* "User:ANONYMOUS" until there is security; borrowed */
    struct str listener; /* name of the listener it came by; borrowed from the configuration */
    struct str
        peer; /* "127.0.0.1:50123" for log lines; borrowed from the session, empty once dropped */
    struct str peer_host; /* "/127.0.0.1", as Kafka shows a member's host; likewise */
    void *body;           /* decoded, in the arena: request_body */
    void *reply;          /* in the arena: request_reply */
    struct arena arena;   /* owned */
    void (*on_drop)(struct request *req); /* the handler's, or NULL; see above */
    void (*on_stop)(struct request *req); /* the handler's, or NULL; see above */
    void *handler;                     /* the handler's own, usually in the arena; NULL at first */
    struct request_extents *extents;   /* owned: what request_records took over */
    struct trip *trip;                 /* in the arena; it is at another shard; NULL: at home */
    err (*visit)(struct request *req); /* going round: at each shard; NULL: it is not */
    err (*visited)(struct request *req); /* at home, after that; NULL: the answer is complete */
    int32_t visit_next;                  /* shard to go to next, when it is not home */
    int64_t arrived_us;                  /* monotonic: its last byte was read */
    int64_t started_us;                  /* handed to the handler */
    int64_t submitted_us;                /* the handler's last append was submitted; 0: none */
    int64_t durable_us;                  /* its last append was durable; 0: none */
    int64_t answered_us;                 /* reply() was called */
    int64_t sent_us;                     /* its answer was handed to the connection */
    size_t charged_bytes;                /* what of the budget it has */
    enum request_state state;
    int32_t holds; /* completions that will come back; >= 0 */
    bool no_reply; /* nothing goes out for it (acks=0) */

    /* the session's */
    struct sessions *sessions; /* borrowed; outlives it */
    struct list link;          /* in the session's queue, or in sessions.spare */
    struct slab *slab;         /* one reference, or NULL when the bytes were copied to the arena */
    const uint8_t *bytes;      /* the frame without its size */
    size_t size;               /* of it */
    bool more;      /* a part of a produce: its results wait for the rest's (produce_parts.h) */
    bool shortened; /* of a produce: records may be the header of a batch that was dropped */
    bool joins;     /* the rest of one: its first topic is the last one of the part before it */
};

static inline const void *request_body(const struct request *req)
{
    return req->body;
}

static inline void *request_reply(struct request *req)
{
    return req->reply;
}

/* The answer is complete. Called once; the request may be gone when it returns, unless it is held.
 */
void reply(struct request *req, int32_t throttle_ms);
void reply_nothing(struct request *req); /* done, and nothing goes out (acks=0) */
void request_close(struct request *req,
                   const char *reason); /* no answer; its connection is closed, with a log line */

void request_hold(struct request *req);
void request_release(struct request *req); /* may free it */

static inline bool request_is_dropped(const struct request *req)
{
    return req->state == REQUEST_DROPPED;
}

/* Runs `run` at that shard: here, or after a trip. What it returns, what reply() and
 * request_close() do, comes home; it is the last thing that a handler does, and nothing may hold
 * the request. An error here is the arena's. */
err request_go(struct request *req, int32_t shard, err (*run)(struct request *req));

/* Runs `visit` at every shard, one after the other, beginning with this one; it fills in what is
 * that shard's and calls reply(), then or later, when nothing holds the request. After the last one
 * `then` is called, at home, or if NULL the request is answered. */
err request_visit(struct request *req, err (*visit)(struct request *req),
                  err (*then)(struct request *req));

struct str request_copy(struct request *req,
                        struct str s); /* into the arena; ptr NULL on failure (and for null) */

/* The extents of a read, as the value of a field of type records. They belong to the request from
 * then on. count 0 gives empty records, not null ones. ptr and extents both NULL and len 0 with
 * arena_error set: no memory, and the extents were released. */
struct wire_records request_records(struct request *req, struct log_read *read);

struct endpoint request_endpoint(const struct request *req);

/* ---- seams ---- */

enum acl_operation { /* Kafka's codes */
                     ACL_READ = 3,
                     ACL_WRITE = 4,
                     ACL_CREATE = 5,
                     ACL_DELETE = 6,
                     ACL_ALTER = 7,
                     ACL_DESCRIBE = 8,
                     ACL_CLUSTER_ACTION = 9,
                     ACL_DESCRIBE_CONFIGS = 10,
                     ACL_ALTER_CONFIGS = 11,
                     ACL_IDEMPOTENT_WRITE = 12,
};

enum acl_resource { /* Kafka's codes */
                    ACL_TOPIC = 2,
                    ACL_GROUP = 3,
                    ACL_CLUSTER = 4,
                    ACL_TRANSACTIONAL_ID = 5,
};

/* May the principal do it? Yes to everything until there is security. The name of the cluster is
 * "kafka-cluster". */
bool authorize(const struct request *req, enum acl_operation op, enum acl_resource type,
               struct str name);

/* For the fields *_authorized_operations: one bit (1 << code) for each operation that the resource
 * knows and the principal may do. */
int32_t authorized_operations(const struct request *req, enum acl_resource type, struct str name);

/* Is it the shard's that the request is at? */
bool owns_group(const struct request *req, struct str group_id);

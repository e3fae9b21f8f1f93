/* session: one connection, as the requests on it see it: their order, their answers in turn, their
 * end.
 *
 *   frame -> QUEUED -> STARTED -> ANSWERED -> encoded and written, in the order of arrival
 *                         \-> parked, until a callback replies
 *
 * Requests of a session start in order. One whose API is PIPELINED may start while earlier ones of
 * the same API have no answer yet; everything else starts when all earlier ones are answered and
 * encoded.
 *
 * Nothing runs from inside a callback: frames, replies and drained output only mark the session,
 * and sessions_run (once a loop turn, by the server) starts and encodes. So a handler is never
 * called from inside another one, or from inside the log.
 *
 * A large Produce may come as several frames, parts, each a request of its own here; all of them
 * have one answer. While much of them is under way the connection is paused.
 *
 * Memory: while little of the budget is left, a session whose answers wait to be sent starts
 * nothing more; when it is spent, one session after the other may, each until its answer has gone.
 *
 * What a session can do to its connection is a small table that the server fills from net; api and
 * net do not know each other. One thread: the shard's.
 */
#pragma once

#include "broker/api/request.h"

struct extent;
struct slab;
struct slab_partial;

/* A connection, as the server gives it. None of these calls back from inside. */
struct session_ops {
    void (*write)(void *conn, const void *p, size_t size); /* copies */
    void (*write_extent)(void *conn, struct extent *e);    /* takes it over */
    size_t (*output_bytes)(void *conn);                    /* that wait to be sent */
    void (*pause)(void *conn);                             /* no more session_frame until resume */
    void (*resume)(void *conn);
    void (*set_busy)(void *conn, bool busy);       /* a busy one is not idle */
    void (*close)(void *conn, const char *reason); /* for what came on it; session_closed follows */
    void (*finish)(void *conn); /* when its output has gone; session_closed follows */
};

/* All sessions of a shard. Init with the server, finish when the last session and the last hold are
 * gone. */
struct sessions {
    struct api_env *env;           /* borrowed */
    const struct session_ops *ops; /* borrowed */
    void (*wake)(void *ctx); /* something became ready; may be NULL where sessions_run is called
                                every turn */
    void *ctx;               /* for wake */
    struct list all;         /* of session */
    struct list ready;       /* sessions that sessions_run looks at */
    struct list starved;     /* sessions whose next request waits for memory */
    struct session *over; /* the one whose answer is on its way past a spent budget; NULL: none */
    bool memory_freed;    /* the starved try again */
    struct list spare;    /* requests without a use, for the next frames */
    int32_t spare_count;
    int32_t session_count; /* open sessions */
    int32_t request_count; /* requests that are not freed, dropped ones with holds included */
    struct writer *out;    /* owned; the answer that is being encoded */
    bool stopping;         /* sessions_stop was called */
};

void sessions_init(struct sessions *all, struct api_env *env, const struct session_ops *ops);
void sessions_finish(struct sessions *all);       /* none may be left; takes a zeroed one */
bool sessions_wait(const struct sessions *all);   /* sessions_run has something to do */
void sessions_memory_freed(struct sessions *all); /* the budget came below its mark */
bool sessions_run(struct sessions *all);  /* end of turn: starts and answers what is ready; true: it
                                             did something */
void sessions_stop(struct sessions *all); /* graceful stop: on_stop of what is parked; each session
                                             finishes when it is through */
void sessions_close(struct sessions *all, const char *reason); /* closes what is left of them */

struct session_options {
    void *conn;            /* borrowed; for the ops */
    const char *peer;      /* "127.0.0.1:50123"; copied */
    const char *peer_host; /* "127.0.0.1"; copied */
    const char *host;      /* what clients are to dial; copied */
    int32_t port;          /* likewise */
    const char *listener;  /* name; copied */
};

struct session *session_create(struct sessions *all, const struct session_options *options);

/* A frame without its size field. `bytes` lie in the slab: kept with a reference, or copied. */
void session_frame(struct session *s, struct slab *slab, const uint8_t *bytes, size_t size,
                   int64_t arrived_us);
/* So much of a large one is there: a Produce is begun with what there is (produce_parts.h). Sets
 * what is left of it, what of that comes first and is to be dropped, and when to ask again. The
 * slab's reference is the session's until it returns. */
void session_partial(struct session *s, struct slab_partial *p, int64_t arrived_us);
void session_drained(struct session *s); /* its output has gone, or came below its bound */
void session_closed(
    struct session *s); /* the connection is gone: drops what is parked, frees the session */

/* What session.c, request.c and dispatch.c share. */
#pragma once

#include "base/slab.h"
#include "broker/api/dispatch.h"
#include "broker/api/session.h"
#include "broker/config.h"
#include "broker/log/log.h"
#include "broker/metrics.h"
#include "broker/shard.h"

struct produce_held;

struct session {
    struct sessions *all; /* borrowed */
    void *conn;           /* borrowed */
    struct list link;     /* in sessions.all */
    struct list ready;    /* in sessions.ready */
    struct list starved;  /* in sessions.starved */
    struct list queue;    /* requests, in the order of arrival */
    int32_t queue_count;
    bool cut;          /* what arrives is the rest of a produce whose front was taken away */
    bool shortened;    /* of that frame, good records were dropped: their topic did not take them */
    size_t part_bytes; /* of parts of produces in the queue, but for the last ones */
    struct produce_held *held;    /* owned: results of parts that wait for the rest's; or NULL */
    struct request *first_queued; /* of the queue, the first that has not started; NULL: all have */
    bool paused;    /* the connection is not read: too many requests, or parts of one */
    bool closing;   /* close or finish was called: nothing is started or written any more */
    bool finishing; /* of these: finish */
    struct endpoint endpoint; /* host is in text */
    struct str peer;          /* in text */
    struct str peer_host;     /* in text, with a "/" before it */
    struct str listener;      /* in text */
    char text[];
};

struct request_extents {
    struct request_extents *next;            /* of the same request */
    struct extent extents[LOG_READ_EXTENTS]; /* zeroed when they have been handed on */
    int count;
};

/* A request away from home (trip.c). While it is away it is the other shard's, but for `session`
 * and what is said here to be home's. In its arena. */
struct trip {
    struct request *req;
    struct message go;    /* back when nothing at the other shard points to the request any more */
    struct message early; /* ahead of that: the answer is complete, and something still does */
    struct message drop;  /* behind `go`: the connection is gone */
    err (*run)(struct request *req); /* there */
    struct endpoint endpoint;        /* of the connection, which may go meanwhile */
    const char *refusal;             /* out: the connection is to be closed, for this */
    bool there;                      /* the other shard's: `go` is with it */
    bool ended;                      /* the other shard's: answered, refused or dropped */
    bool told;                       /* home's: `early` was here */
    int out;                         /* home's: messages that will be back */
};

void trip_replied(struct request *req);                    /* there: its answer is complete */
void trip_released(struct request *req);                   /* there: its last hold is */
void trip_refuse(struct request *req, const char *reason); /* there: instead of an answer */
void trip_dropped(struct request *req);                    /* home: its connection is gone */
bool visit_goes_on(struct request *req); /* home: it has gone to the next shard, or to its end */

void session_mark_ready(struct session *s);
void session_close(struct session *s, const char *reason); /* the connection logs it */

/* A part of a produce that is not the last one; takes a reference of its own. */
void session_add_part(struct session *s, struct slab *slab, size_t size, int64_t arrived_us);

/* It closes the connection for a frame of `size` bytes, of which `have` are there. */
bool session_refuses(struct session *s, const uint8_t *frame, size_t have, size_t size);

struct request *request_create(struct sessions *all);
void request_free(struct request *req);
void request_answered(struct request *req); /* at home: reply() was called, here or there */
void request_charge(struct request *req);   /* brings the budget up to what its arena has */

/* Takes it out of its session, answered or dropped; it is freed when nothing holds it. */
void request_detach(struct request *req, bool dropped);

/* The error code of the answer itself, where it has one; 0. */
int16_t dispatch_error_code(const struct request *req);

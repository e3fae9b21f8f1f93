/* What session.c, request.c and dispatch.c share. */
#pragma once

#include "base/slab.h"
#include "broker/api/dispatch.h"
#include "broker/api/session.h"
#include "broker/config.h"
#include "broker/log/log.h"
#include "broker/metrics.h"

struct session {
    struct sessions *all; /* borrowed */
    void *conn;           /* borrowed */
    struct list link;     /* in sessions.all */
    struct list ready;    /* in sessions.ready */
    struct list starved;  /* in sessions.starved */
    struct list queue;    /* requests, in the order of arrival */
    int32_t queue_count;
    struct request *first_queued; /* of the queue, the first that has not started; NULL: all have */
    bool paused;                  /* the connection is not read: too many requests */
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

void session_mark_ready(struct session *s);
void session_close(struct session *s, const char *reason); /* the connection logs it */

struct request *request_create(struct sessions *all);
void request_free(struct request *req);
void request_charge(struct request *req); /* brings the budget up to what its arena has */

/* Takes it out of its session, answered or dropped; it is freed when nothing holds it. */
void request_detach(struct request *req, bool dropped);

/* The error code of the answer itself, where it has one; 0. */
int16_t dispatch_error_code(const struct request *req);

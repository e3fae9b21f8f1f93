/* err: the one result type of fallible functions.
 *
 * A function that can fail returns `err`; what it produces leaves through `ret_` parameters, which
 * are untouched on failure. Kafka's wire error codes are another thing (protocol/error.h); api/
 * maps between the two.
 */
#pragma once

typedef enum err {
    OK = 0,
    ERR_MEMORY,      /* an allocation failed (protocol/ and client/ only; the broker aborts) */
    ERR_LIMIT,       /* a named limit was hit; nothing was done */
    ERR_CORRUPT,     /* bytes that fail their checksum or contradict themselves */
    ERR_TRUNCATED,   /* the bytes end too early */
    ERR_INVALID,     /* an argument or a value that makes no sense */
    ERR_UNSUPPORTED, /* a version, codec or option that is not known here */
    ERR_NOT_FOUND,   /* no such thing */
    ERR_EXISTS,      /* there already */
    ERR_IO,          /* the device said no; the outcome may be unknown */
    ERR_NO_SPACE,    /* the disk is full; nothing lasting was done */
    ERR_NO_FILES,    /* out of file descriptors */
    ERR_AGAIN,       /* cannot be done without blocking: hand it to a worker, then ask again */
    ERR_RANGE,       /* an offset or position outside of what there is */
    ERR_STALE,       /* an older epoch, generation or version than ours */
    ERR_BUSY,        /* in use, or locked by somebody else */
    ERR_CLOSED,      /* the other side, or the thing itself, is closing or gone */
    ERR_TIMED_OUT,   /* the deadline passed */
    ERR_ORDER,       /* a producer's sequence number has a gap */
    ERR_DUPLICATE,   /* seen before, older than what is remembered */
    ERR_FENCED,      /* a newer owner has taken over */
    ERR_DENIED,      /* the system does not permit it: permissions, or a read-only file system */
    ERR_COUNT
} err;

/* A short text for log lines and tests, e.g. "no space". Never NULL. */
const char *err_text(err e);

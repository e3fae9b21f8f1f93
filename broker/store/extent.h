/* extent: bytes that live in a file and can be sent from there. What is above log/ sees no path,
 * descriptor or file position, only extents; net/ alone asks for the descriptor, for sendfile.
 *
 * An extent keeps its file open and undeleted until it is released. Made and released on the loop's
 * thread.
 */
#pragma once

#include "broker/store/store.h"

struct extent_owner {
    void (*release)(struct extent_owner *owner); /* drops one reference */
};

struct extent {
    struct store *store;        /* borrowed */
    struct store_file *file;    /* borrowed from owner */
    struct extent_owner *owner; /* one reference is held by this extent */
    int64_t position;           /* of the first byte in the file */
    size_t size;                /* bytes, > 0 */
};

static inline void extent_release(struct extent *e)
{
    if (e->owner) {
        e->owner->release(e->owner);
        *e = (struct extent){0};
    }
}

/* budget: how many bytes of memory one shard has given to what comes from outside (frames,
 * requests, replies).
 *
 * Charging never refuses: who takes bytes asks budget_spent first and stops taking more. When it
 * was spent and comes back below seven eighths of its limit, `freed` is called once, from inside
 * budget_return: it may only note that. One thread.
 */
#pragma once

#include "base/check.h"

#include <stdbool.h>
#include <stddef.h>

struct budget {
    size_t used_bytes;        /* charged now */
    size_t limit_bytes;       /* rivulet.memory.max.bytes */
    size_t peak_bytes;        /* most that was ever charged */
    bool waiting;             /* somebody stopped because it was spent */
    void (*freed)(void *ctx); /* may be NULL */
    void *ctx;                /* for freed */
};

static inline void budget_charge(struct budget *b, size_t size)
{
    b->used_bytes += size;
    if (b->used_bytes > b->peak_bytes) {
        b->peak_bytes = b->used_bytes;
    }
}

static inline bool budget_spent(const struct budget *b)
{
    return b->used_bytes >= b->limit_bytes;
}

/* Little is left: who holds much already takes no more, so that others still can. */
static inline bool budget_tight(const struct budget *b)
{
    return b->used_bytes >= b->limit_bytes - b->limit_bytes / 8;
}

/* Says so, and asks for `freed`. */
static inline void budget_wait(struct budget *b)
{
    b->waiting = true;
}

static inline void budget_return(struct budget *b, size_t size)
{
    check(size <= b->used_bytes);
    b->used_bytes -= size;
    if (b->waiting && !budget_tight(b)) {
        b->waiting = false;
        if (b->freed) {
            b->freed(b->ctx);
        }
    }
}

/* budget: how many bytes of memory one shard has given to what comes from outside (frames,
 * requests, replies).
 *
 * Charging never refuses: who takes bytes asks budget_spent first and stops taking more. When it
 * was spent and comes back below seven eighths of its limit, `freed` is called once, from inside
 * budget_return or budget_set_aside: it may only note that. What one has who may go on whatever is
 * left, so that somebody gets to an end, is set aside: it is not what others wait for.
 *
 * A budget may be a part of another: what it is charged with counts in that one too. Each is asked
 * and waited for by itself. One thread.
 */
#pragma once

#include "base/check.h"

#include <stdbool.h>
#include <stddef.h>

struct budget {
    size_t used_bytes;        /* charged now */
    size_t limit_bytes;       /* rivulet.memory.max.bytes */
    size_t aside_bytes;       /* of used_bytes: of who may go past the limit; at most half of it */
    size_t peak_bytes;        /* most that was ever charged */
    struct budget *whole;     /* borrowed: what it is a part of; NULL: of none */
    bool waiting;             /* somebody stopped because it was spent */
    void (*freed)(void *ctx); /* may be NULL */
    void *ctx;                /* for freed */
};

static inline void budget_charge(struct budget *b, size_t size)
{
    for (; b; b = b->whole) {
        b->used_bytes += size;
        if (b->used_bytes > b->peak_bytes) {
            b->peak_bytes = b->used_bytes;
        }
    }
}

static inline bool budget_spent(const struct budget *b)
{
    return b->used_bytes - b->aside_bytes >= b->limit_bytes;
}

/* Little is left, or would be with `more`: who holds much already takes no more, so that others
 * still can. */
static inline bool budget_tight_with(const struct budget *b, size_t more)
{
    return b->used_bytes - b->aside_bytes + more >= b->limit_bytes - b->limit_bytes / 8;
}

static inline bool budget_tight(const struct budget *b)
{
    return budget_tight_with(b, 0);
}

/* Says so, and asks for `freed`. */
static inline void budget_wait(struct budget *b)
{
    b->waiting = true;
}

static inline void budget_tell_freed(struct budget *b)
{
    if (b->waiting && !budget_tight(b)) {
        b->waiting = false;
        if (b->freed) {
            b->freed(b->ctx);
        }
    }
}

static inline void budget_return_alone(struct budget *b, size_t size)
{
    check(size <= b->used_bytes - b->aside_bytes);
    b->used_bytes -= size;
    budget_tell_freed(b);
}

static inline void budget_return(struct budget *b, size_t size)
{
    for (; b; b = b->whole) {
        budget_return_alone(b, size);
    }
}

/* What the part was charged with is the whole's alone from now on. */
static inline struct budget *budget_hand_up(struct budget *b, size_t size)
{
    budget_return_alone(b, size);
    return b->whole;
}

/* Of the whole too: it has one such part. */
static inline void budget_set_aside(struct budget *b, size_t size)
{
    for (; b; b = b->whole) {
        check(size <= b->used_bytes);
        b->aside_bytes = size;
        budget_tell_freed(b);
    }
}

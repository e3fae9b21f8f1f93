/* A pairing heap. Invariants:
 * 1. no timer is before its parent, and the root is the earliest;
 * 2. an armed timer's prev is the sibling before it, or its parent when it is the first child, or
 * itself when it is the root; it is NULL when the timer is not armed.
 */
#include "base/timer.h"

#include "base/check.h"

#include <stddef.h>

void timers_init(struct timers *t)
{
    *t = (struct timers){.next_order = 1};
}

void timers_finish(struct timers *t)
{
    while (t->root) {
        timer_disarm(t, t->root);
    }
    *t = (struct timers){0};
}

void timer_init(struct timer *timer, void (*fire)(struct timer *timer))
{
    *timer = (struct timer){.fire = fire};
}

static bool before(const struct timer *a, const struct timer *b)
{
    return a->deadline_ms != b->deadline_ms ? a->deadline_ms < b->deadline_ms : a->order < b->order;
}

/* The later of two roots without siblings becomes the first child of the other. */
static struct timer *joined(struct timer *a, struct timer *b)
{
    if (before(b, a)) {
        struct timer *earlier = b;
        b = a;
        a = earlier;
    }
    b->prev = a;
    b->next = a->child;
    if (a->child) {
        a->child->prev = b;
    }
    a->child = b;
    return a;
}

/* One root out of siblings: joined in pairs from the front, the pairs then from the back. */
static struct timer *root_of(struct timer *siblings)
{
    struct timer *pairs = NULL;
    while (siblings) {
        struct timer *a = siblings;
        struct timer *b = a->next;
        siblings = b ? b->next : NULL;
        a->next = NULL;
        if (b) {
            b->next = NULL;
            a = joined(a, b);
        }
        a->next = pairs;
        pairs = a;
    }
    struct timer *root = NULL;
    while (pairs) {
        struct timer *pair = pairs;
        pairs = pair->next;
        pair->next = NULL;
        root = root ? joined(root, pair) : pair;
    }
    return root;
}

static void root_set(struct timers *t, struct timer *root)
{
    t->root = root;
    if (root) {
        root->prev = root;
        root->next = NULL;
    }
}

void timer_disarm(struct timers *t, struct timer *timer)
{
    if (!timer_armed(timer)) {
        return;
    }
    struct timer *below = root_of(timer->child);
    if (timer == t->root) {
        root_set(t, below);
    } else {
        check(timer->prev != timer); /* invariant 2: the root of another heap? */
        if (timer->prev->child == timer) {
            timer->prev->child = timer->next;
        } else {
            timer->prev->next = timer->next;
        }
        if (timer->next) {
            timer->next->prev = timer->prev;
        }
        if (below) {
            root_set(t, joined(t->root, below));
        }
    }
    timer->child = timer->next = timer->prev = NULL;
}

void timer_arm(struct timers *t, struct timer *timer, int64_t deadline_ms)
{
    timer_disarm(t, timer);
    timer->deadline_ms = deadline_ms;
    timer->order = t->next_order++;
    root_set(t, t->root ? joined(t->root, timer) : timer);
}

int64_t timers_next_ms(const struct timers *t)
{
    return t->root ? t->root->deadline_ms : INT64_MAX;
}

void timers_run(struct timers *t, int64_t now_ms)
{
    uint64_t stop = t->next_order;
    while (t->root && t->root->deadline_ms <= now_ms && t->root->order < stop) {
        struct timer *timer = t->root;
        timer_disarm(t, timer);
        timer->fire(timer);
    }
}

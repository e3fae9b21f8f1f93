/* Invariants: 1. heap[i]->place == i for 1 <= i <= count; 2. no timer is before its parent. */
#include "base/timer.h"

#include "base/check.h"
#include "base/mem.h"

void timers_init(struct timers *t)
{
    *t = (struct timers){.next_order = 1};
}

void timers_finish(struct timers *t)
{
    for (size_t i = 1; i <= t->count; i++) {
        t->heap[i]->place = 0;
    }
    mem_free(t->heap);
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

static void put(struct timers *t, size_t place, struct timer *timer)
{
    t->heap[place] = timer;
    timer->place = place;
}

static void sift_up(struct timers *t, size_t place)
{
    struct timer *timer = t->heap[place];
    while (place > 1 && before(timer, t->heap[place / 2])) {
        put(t, place, t->heap[place / 2]);
        place /= 2;
    }
    put(t, place, timer);
}

static void sift_down(struct timers *t, size_t place)
{
    struct timer *timer = t->heap[place];
    for (;;) {
        size_t child = place * 2;
        if (child > t->count) {
            break;
        }
        if (child < t->count && before(t->heap[child + 1], t->heap[child])) {
            child++;
        }
        if (!before(t->heap[child], timer)) {
            break;
        }
        put(t, place, t->heap[child]);
        place = child;
    }
    put(t, place, timer);
}

void timer_disarm(struct timers *t, struct timer *timer)
{
    size_t place = timer->place;
    if (!place) {
        return;
    }
    check(place <= t->count && t->heap[place] == timer); /* invariant 1 */
    struct timer *last = t->heap[t->count--];
    timer->place = 0;
    if (last != timer) {
        put(t, place, last);
        sift_up(t, place);
        sift_down(t, last->place);
    }
}

void timer_arm(struct timers *t, struct timer *timer, int64_t deadline_ms)
{
    timer_disarm(t, timer);
    if (t->count + 2 > t->size) {
        t->size = t->size ? t->size * 2 : 16;
        t->heap = mem_need_resize(t->heap, t->size * sizeof *t->heap);
    }
    timer->deadline_ms = deadline_ms;
    timer->order = t->next_order++;
    t->count++;
    put(t, t->count, timer);
    sift_up(t, t->count);
}

int64_t timers_next_ms(const struct timers *t)
{
    return t->count ? t->heap[1]->deadline_ms : INT64_MAX;
}

void timers_run(struct timers *t, int64_t now_ms)
{
    uint64_t stop = t->next_order;
    while (t->count && t->heap[1]->deadline_ms <= now_ms && t->heap[1]->order < stop) {
        struct timer *timer = t->heap[1];
        timer_disarm(t, timer);
        timer->fire(timer);
    }
}

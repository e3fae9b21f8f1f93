#include "base/mem.h"
#include "client/store/store.h"

#include <string.h>

static int place_compare(const char *topic, int32_t partition, const struct held *h)
{
    int order = strcmp(topic, h->topic);
    return order ? order : (partition > h->partition) - (partition < h->partition);
}

/* Where it is or belongs. */
static size_t held_place(const struct rv_store *s, const char *topic, int32_t partition,
                         bool *ret_there)
{
    size_t from = 0, to = s->count;
    *ret_there = false;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        int order = place_compare(topic, partition, &s->items[middle]);
        if (order == 0) {
            *ret_there = true;
            return middle;
        }
        if (order > 0) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from;
}

struct held *held_find(const struct rv_store *s, const char *topic, int32_t partition)
{
    bool there;
    size_t i = held_place(s, topic, partition, &there);
    return there ? &s->items[i] : NULL;
}

static int held_add(struct rv_store *s, const char *topic, int32_t partition,
                    struct held **ret_held)
{
    bool there;
    size_t i = held_place(s, topic, partition, &there);
    if (there) {
        *ret_held = &s->items[i];
        return RV_OK;
    }
    if (s->count == s->size) {
        size_t size = s->size ? 2 * s->size : 8;
        struct held *items = mem_resize(s->items, size * sizeof *items);
        if (!items) {
            return RV_E_MEMORY;
        }
        s->items = items;
        s->size = size;
    }
    char *copy = mem_dup(topic, strlen(topic) + 1);
    if (!copy) {
        return RV_E_MEMORY;
    }
    memmove(&s->items[i + 1], &s->items[i], (s->count - i) * sizeof *s->items);
    s->items[i] = (struct held){.topic = copy,
                                .partition = partition,
                                .stored = -1,
                                .stored_leader = -1,
                                .seen = -1,
                                .seen_leader = -1,
                                .first = -1,
                                .resume = HELD_NOWHERE,
                                .told = -1};
    s->count++;
    *ret_held = &s->items[i];
    return RV_OK;
}

void held_remove(struct rv_store *s, struct held *h)
{
    mem_free(h->topic);
    s->count--;
    memmove(h, h + 1, (size_t)(&s->items[s->count] - h) * sizeof *h);
}

int held_match(struct rv_store *s)
{
    const struct rv_partition *assigned;
    size_t count = rv_assignment(s->consumer, &assigned);
    int code = RV_OK;
    for (size_t i = 0; i < s->count; i++) {
        s->items[i].assigned = false;
    }
    for (size_t i = 0; i < count; i++) {
        struct held *h = NULL;
        if (held_add(s, assigned[i].topic, assigned[i].partition, &h) == RV_OK) {
            h->assigned = true;
        } else {
            code = RV_E_MEMORY;
        }
    }
    for (size_t i = s->count; i > 0; i--) {
        if (!s->items[i - 1].assigned) {
            held_remove(s, &s->items[i - 1]);
        }
    }
    return code;
}

/* Dealing.
 *
 * Sticky, in four steps: 1. everybody keeps what it owned in the latest generation that is claimed
 * for a partition (two claims of the same generation: neither); 2. what is left goes to the member
 * with the fewest, of those that subscribe; 3. while some member has two partitions more than
 * another that it can hand one to, directly or through others (each handing one on), that is done:
 * the shortest way, so that little moves, and when there is no such way the deal is as even as it
 * can be; 4. what changes its owner is taken out of the deal: its owner gives it up first, and the
 * next deal has it.
 */
#include "client/assign.h"

#include <stdlib.h>

const char *assignor_name(enum assignor a)
{
    static const char *const names[ASSIGN_COUNT] = {"range", "roundrobin", "cooperative-sticky"};
    return names[a];
}

bool assignor_find(struct str name, enum assignor *ret_assignor)
{
    for (int i = 0; i < ASSIGN_COUNT; i++) {
        if (str_eq(name, str_of(assignor_name((enum assignor)i)))) {
            *ret_assignor = (enum assignor)i;
            return true;
        }
    }
    return false;
}

/* ---- what all of them need ---- */

enum { NOBODY = -1 };

struct deal {
    const struct assign_topic *topics;
    int32_t topic_count;
    struct assign_member *members;
    int32_t count;                /* members */
    struct arena *arena;          /* borrowed */
    struct assign_member **order; /* members as they come first */
    int32_t **owner;              /* by topic and partition: place in `order`, or NOBODY */
    int32_t *load;                /* by place: partitions dealt */
};

static int member_cmp(const struct assign_member *a, const struct assign_member *b)
{
    bool a_static = a->instance_id.ptr != NULL;
    bool b_static = b->instance_id.ptr != NULL;
    if (a_static != b_static) {
        return a_static ? -1 : 1;
    }
    return a_static ? str_cmp(a->instance_id, b->instance_id) : str_cmp(a->id, b->id);
}

static int by_member(const void *a, const void *b)
{
    return member_cmp(*(struct assign_member *const *)a, *(struct assign_member *const *)b);
}

static bool subscribes(const struct assign_member *m, int32_t topic)
{
    int32_t low = 0, high = m->topic_count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (m->topics[middle] < topic) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < m->topic_count && m->topics[low] == topic;
}

static void give(struct deal *d, int32_t topic, int32_t partition, int32_t place)
{
    d->owner[topic][partition] = place;
    d->load[place]++;
}

static err deal_begin(struct deal *d)
{
    d->order = arena_alloc(d->arena, (size_t)d->count * sizeof(struct assign_member *));
    d->load = arena_zero(d->arena, (size_t)d->count, sizeof *d->load);
    d->owner = arena_alloc(d->arena, (size_t)d->topic_count * sizeof *d->owner);
    if (!d->order || !d->load || !d->owner) {
        return arena_error(d->arena);
    }
    for (int32_t i = 0; i < d->count; i++) {
        d->order[i] = &d->members[i];
    }
    if (d->count) {
        qsort(d->order, (size_t)d->count, sizeof *d->order, by_member);
    }
    for (int32_t t = 0; t < d->topic_count; t++) {
        d->owner[t] = arena_alloc(d->arena, (size_t)d->topics[t].count * sizeof *d->owner[t]);
        if (!d->owner[t]) {
            return arena_error(d->arena);
        }
        for (int32_t p = 0; p < d->topics[t].count; p++) {
            d->owner[t][p] = NOBODY;
        }
    }
    return OK;
}

/* From owners by partition to partitions by member. */
static err deal_end(struct deal *d)
{
    for (int32_t i = 0; i < d->count; i++) {
        struct assign_member *m = d->order[i];
        m->dealt = arena_alloc(d->arena, (size_t)d->load[i] * sizeof *m->dealt);
        m->dealt_count = 0;
        if (!m->dealt) {
            return arena_error(d->arena);
        }
    }
    for (int32_t t = 0; t < d->topic_count; t++) {
        for (int32_t p = 0; p < d->topics[t].count; p++) {
            if (d->owner[t][p] != NOBODY) {
                struct assign_member *m = d->order[d->owner[t][p]];
                m->dealt[m->dealt_count++] = (struct assign_pair){.topic = t, .partition = p};
            }
        }
    }
    return OK;
}

/* ---- range ---- */

static err deal_range(struct deal *d)
{
    for (int32_t t = 0; t < d->topic_count; t++) {
        int32_t readers = 0;
        for (int32_t i = 0; i < d->count; i++) {
            readers += subscribes(d->order[i], t);
        }
        int32_t next = 0, nth = 0;
        for (int32_t i = 0; i < d->count; i++) {
            if (!subscribes(d->order[i], t)) {
                continue;
            }
            int32_t share = d->topics[t].count / readers + (nth < d->topics[t].count % readers);
            nth++;
            for (int32_t k = 0; k < share; k++) {
                give(d, t, next++, i);
            }
        }
    }
    return OK;
}

/* ---- roundrobin ---- */

static err deal_roundrobin(struct deal *d)
{
    int32_t turn = 0;
    for (int32_t t = 0; t < d->topic_count; t++) {
        bool any = false;
        for (int32_t i = 0; i < d->count; i++) {
            any |= subscribes(d->order[i], t);
        }
        for (int32_t p = 0; any && p < d->topics[t].count; p++) {
            while (!subscribes(d->order[turn], t)) {
                turn = (turn + 1) % d->count;
            }
            give(d, t, p, turn);
            turn = (turn + 1) % d->count;
        }
    }
    return OK;
}

/* ---- sticky ---- */

static err sticky_keep(struct deal *d)
{
    int32_t **generation = arena_alloc(d->arena, (size_t)d->topic_count * sizeof *generation);
    if (!generation) {
        return arena_error(d->arena);
    }
    for (int32_t t = 0; t < d->topic_count; t++) {
        generation[t] = arena_alloc(d->arena, (size_t)d->topics[t].count * sizeof **generation);
        if (!generation[t]) {
            return arena_error(d->arena);
        }
        for (int32_t p = 0; p < d->topics[t].count; p++) {
            generation[t][p] = INT32_MIN;
        }
    }
    for (int32_t i = 0; i < d->count; i++) {
        const struct assign_member *m = d->order[i];
        for (int32_t k = 0; k < m->owned_count; k++) {
            int32_t *latest = &generation[m->owned[k].topic][m->owned[k].partition];
            int32_t *owner = &d->owner[m->owned[k].topic][m->owned[k].partition];
            if (!subscribes(m, m->owned[k].topic) || m->generation < *latest) {
                continue;
            }
            if (*owner != NOBODY) {
                d->load[*owner]--;
            }
            bool twice = m->generation == *latest && *owner != i;
            *owner = twice ? NOBODY : i;
            d->load[i] += !twice;
            *latest = m->generation;
        }
    }
    return OK;
}

static void sticky_fill(struct deal *d)
{
    for (int32_t t = 0; t < d->topic_count; t++) {
        for (int32_t p = 0; p < d->topics[t].count; p++) {
            int32_t least = NOBODY;
            for (int32_t i = 0; d->owner[t][p] == NOBODY && i < d->count; i++) {
                if (subscribes(d->order[i], t) &&
                    (least == NOBODY || d->load[i] < d->load[least])) {
                    least = i;
                }
            }
            if (least != NOBODY) {
                give(d, t, p, least);
            }
        }
    }
}

/* A search for the shortest way from members of one load to one that has at least two fewer. */
struct way {
    int32_t *from;  /* by place: whom it would get a partition from; itself: here it begins;
                       NOBODY: not reached */
    int32_t *topic; /* by place: of which topic */
    int32_t *queue; /* places to go on from */
    bool *open;     /* by topic: its subscribers are reached already */
};

static bool has_of(const struct deal *d, int32_t place, int32_t topic, int32_t *ret_partition)
{
    for (int32_t p = d->topics[topic].count - 1; p >= 0; p--) {
        if (d->owner[topic][p] == place) {
            *ret_partition = p;
            return true;
        }
    }
    return false;
}

/* Reaches all that read the topic. The least loaded of them that ends the search; NOBODY. */
static int32_t way_open(const struct deal *d, struct way *w, int32_t at, int32_t topic,
                        int32_t load, int32_t *tail)
{
    int32_t least = NOBODY;
    w->open[topic] = true;
    for (int32_t i = 0; i < d->count; i++) {
        if (w->from[i] != NOBODY || !subscribes(d->order[i], topic)) {
            continue;
        }
        w->from[i] = at;
        w->topic[i] = topic;
        w->queue[(*tail)++] = i;
        if (d->load[i] <= load - 2 && (least == NOBODY || d->load[i] < d->load[least])) {
            least = i;
        }
    }
    return least;
}

/* Where the way ends; NOBODY: there is none. */
static int32_t way_find(const struct deal *d, struct way *w, int32_t load)
{
    int32_t head = 0, tail = 0, ignored;
    for (int32_t i = 0; i < d->count; i++) {
        w->from[i] = d->load[i] == load ? i : NOBODY;
        if (d->load[i] == load) {
            w->queue[tail++] = i;
        }
    }
    memset(w->open, 0, (size_t)d->topic_count * sizeof *w->open);
    while (head < tail) {
        int32_t at = w->queue[head++];
        for (int32_t t = 0; t < d->topic_count; t++) {
            if (!w->open[t] && has_of(d, at, t, &ignored)) {
                int32_t end = way_open(d, w, at, t, load, &tail);
                if (end != NOBODY) {
                    return end;
                }
            }
        }
    }
    return NOBODY;
}

static void way_go(struct deal *d, const struct way *w, int32_t end)
{
    int32_t at = end;
    for (; w->from[at] != at; at = w->from[at]) {
        int32_t partition = 0;
        if (has_of(d, w->from[at], w->topic[at], &partition)) {
            d->owner[w->topic[at]][partition] = at;
        }
    }
    d->load[at]--;
    d->load[end]++;
}

/* The highest load below `limit`; 0: the deal is even down from there. */
static int32_t load_below(const struct deal *d, int32_t limit)
{
    int32_t most = 0;
    int32_t least = INT32_MAX;
    for (int32_t i = 0; i < d->count; i++) {
        least = d->load[i] < least ? d->load[i] : least;
        most = d->load[i] < limit && d->load[i] > most ? d->load[i] : most;
    }
    return most - 2 >= least ? most : 0;
}

static err sticky_even(struct deal *d)
{
    struct way w = {.from = arena_alloc(d->arena, (size_t)d->count * sizeof *w.from),
                    .topic = arena_alloc(d->arena, (size_t)d->count * sizeof *w.topic),
                    .queue = arena_alloc(d->arena, (size_t)d->count * sizeof *w.queue),
                    .open = arena_alloc(d->arena, (size_t)d->topic_count * sizeof *w.open)};
    if (!w.from || !w.topic || !w.queue || !w.open) {
        return arena_error(d->arena);
    }
    int32_t load = load_below(d, INT32_MAX);
    while (load) {
        int32_t end = way_find(d, &w, load);
        if (end != NOBODY) { /* ends: each makes the sum of the squares of the loads smaller */
            way_go(d, &w, end);
            load = INT32_MAX;
        }
        load = load_below(d, load);
    }
    return OK;
}

/* Step 4: who owns a partition now, by what it says, must give it up before another gets it. */
static void sticky_hold_back(struct deal *d)
{
    for (int32_t i = 0; i < d->count; i++) {
        const struct assign_member *m = d->order[i];
        for (int32_t k = 0; k < m->owned_count; k++) {
            int32_t *owner = &d->owner[m->owned[k].topic][m->owned[k].partition];
            if (*owner == NOBODY || *owner == i) {
                continue;
            }
            const struct assign_member *to = d->order[*owner];
            bool has_it = false;
            for (int32_t n = 0; n < to->owned_count && !has_it; n++) {
                has_it = to->owned[n].topic == m->owned[k].topic &&
                         to->owned[n].partition == m->owned[k].partition;
            }
            if (!has_it) {
                d->load[*owner]--;
                *owner = NOBODY;
            }
        }
    }
}

static err deal_sticky(struct deal *d)
{
    err e = sticky_keep(d);
    if (!e) {
        sticky_fill(d);
        e = sticky_even(d);
    }
    if (!e) {
        sticky_hold_back(d);
    }
    return e;
}

err assign_deal(enum assignor assignor, const struct assign_topic *topics, int32_t topic_count,
                struct assign_member *members, int32_t member_count, struct arena *a)
{
    static err (*const deals[ASSIGN_COUNT])(struct deal *) = {deal_range, deal_roundrobin,
                                                              deal_sticky};
    struct deal d = {.topics = topics,
                     .topic_count = topic_count,
                     .members = members,
                     .count = member_count,
                     .arena = a};
    err e = deal_begin(&d);
    if (!e) {
        e = deals[assignor](&d);
    }
    return e ? e : deal_end(&d);
}

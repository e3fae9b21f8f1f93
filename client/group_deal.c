/* What the leader of a group does between join and sync: it finds out how many partitions there
 * are of all that the members subscribe to, deals them, and watches those numbers from then on. */
#include "client/consumer.h"

#include "base/mem.h"
#include "gen/consumer_protocol_subscription.h"
#include "gen/join_group.h"
#include "gen/sync_group.h"
#include "protocol/error.h"

#include <stdlib.h>
#include <string.h>

struct dealing {
    struct rv_consumer *c;
    struct arena *arena;
    struct consumer_protocol_subscription *subscriptions; /* by member */
    struct assign_member *members;
    int32_t count;               /* of both */
    struct topic **known;        /* by name, each once */
    struct assign_topic *topics; /* the same */
    int32_t topic_count;
};

/* Partitions to be dealt: none of a topic that is gone. */
static int32_t partitions_of(const struct topic *t)
{
    return t->code == KERR_UNKNOWN_TOPIC_OR_PARTITION ? 0 : t->count;
}

static int by_name(const void *a, const void *b)
{
    const struct topic *x = *(struct topic *const *)a, *y = *(struct topic *const *)b;
    return str_cmp(str_of(x->name), str_of(y->name));
}

/* Index of a topic; -1: there is none. */
static int32_t topic_index(const struct dealing *d, struct str name)
{
    int32_t low = 0, high = d->topic_count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        int order = str_cmp(d->topics[middle].name, name);
        if (order == 0) {
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return -1;
}

static int subscriptions_take(struct dealing *d, const struct join_group_response *r)
{
    d->count = r->members_count > 0 ? r->members_count : 0;
    d->subscriptions = wire_array(d->arena, &consumer_protocol_subscription_table, d->count);
    d->members = arena_zero(d->arena, (size_t)d->count, sizeof *d->members);
    if (!d->subscriptions || !d->members) {
        return RV_E_MEMORY;
    }
    for (int32_t i = 0; i < d->count; i++) {
        int code = subscription_read(r->members[i].metadata, d->arena, &d->subscriptions[i]);
        if (code != RV_OK) {
            return code;
        }
        d->members[i].id = r->members[i].member_id;
        d->members[i].instance_id = r->members[i].group_instance_id;
        d->members[i].generation = d->subscriptions[i].generation_id;
    }
    return RV_OK;
}

/* All topics of all members, by name. *ret_known: the metadata knows each. */
static int topics_take(struct dealing *d, bool *ret_known)
{
    size_t most = 0, count = 0;
    for (int32_t i = 0; i < d->count; i++) {
        most += (size_t)d->subscriptions[i].topics_count;
    }
    d->known = arena_alloc(d->arena, most * sizeof(struct topic *));
    d->topics = arena_alloc(d->arena, most * sizeof *d->topics);
    if (!d->known || !d->topics) {
        return RV_E_MEMORY;
    }
    *ret_known = true;
    for (int32_t i = 0; i < d->count; i++) {
        for (int32_t j = 0; j < d->subscriptions[i].topics_count; j++) {
            struct str name = d->subscriptions[i].topics[j];
            char *text = arena_zero(d->arena, 1, name.len + 1);
            if (!text) {
                return RV_E_MEMORY;
            }
            memcpy(text, name.ptr, name.len);
            struct topic *t = meta_topic(&d->c->client->meta, text, false);
            if (!t) {
                return RV_E_MEMORY;
            }
            *ret_known &= t->known;
            d->known[count++] = t;
        }
    }
    if (count) {
        qsort(d->known, count, sizeof(struct topic *), by_name);
    }
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && d->known[i] == d->known[i - 1]) {
            continue;
        }
        d->known[d->topic_count] = d->known[i];
        d->topics[d->topic_count++] = (struct assign_topic){.name = str_of(d->known[i]->name),
                                                            .count = partitions_of(d->known[i])};
    }
    return RV_OK;
}

static int by_int32(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Names to indexes; what is owned and does not exist is left out. */
static int member_take(struct dealing *d, int32_t i)
{
    const struct consumer_protocol_subscription *s = &d->subscriptions[i];
    struct assign_member *m = &d->members[i];
    size_t owned = 0;
    for (int32_t j = 0; j < s->owned_partitions_count; j++) {
        owned += (size_t)(s->owned_partitions[j].partitions_count > 0
                              ? s->owned_partitions[j].partitions_count
                              : 0);
    }
    int32_t *indexes = arena_alloc(d->arena, (size_t)s->topics_count * sizeof *indexes);
    struct assign_pair *pairs = arena_alloc(d->arena, owned * sizeof *pairs);
    if (!indexes || !pairs) {
        return RV_E_MEMORY;
    }
    for (int32_t j = 0; j < s->topics_count; j++) {
        indexes[m->topic_count++] = topic_index(d, s->topics[j]);
    }
    if (m->topic_count) {
        qsort(indexes, (size_t)m->topic_count, sizeof *indexes, by_int32);
    }
    for (int32_t j = 0; j < s->owned_partitions_count; j++) {
        int32_t t = topic_index(d, s->owned_partitions[j].topic);
        for (int32_t k = 0; t >= 0 && k < s->owned_partitions[j].partitions_count; k++) {
            int32_t p = s->owned_partitions[j].partitions[k];
            if (p >= 0 && p < d->topics[t].count) {
                pairs[m->owned_count++] = (struct assign_pair){.topic = t, .partition = p};
            }
        }
    }
    m->topics = indexes;
    m->owned = pairs;
    return RV_OK;
}

/* What the deal depends on. */
static int watch_set(struct dealing *d)
{
    struct member *m = &d->c->member;
    struct watched *watch = mem_resize(m->watch, (size_t)d->topic_count * sizeof *watch);
    if (!watch) {
        return RV_E_MEMORY;
    }
    m->watch = watch;
    m->watch_count = (size_t)d->topic_count;
    for (int32_t i = 0; i < d->topic_count; i++) {
        watch[i] = (struct watched){.topic = d->known[i], .count = d->topics[i].count};
    }
    return RV_OK;
}

static int deal_out(struct dealing *d)
{
    struct member *m = &d->c->member;
    m->deal = wire_array(d->arena, &sync_group_request_assignment_table, d->count);
    if (!m->deal) {
        return RV_E_MEMORY;
    }
    for (int32_t i = 0; i < d->count; i++) {
        m->deal[i].member_id = d->members[i].id;
        int code = assignment_write(d->topics, &d->members[i], d->arena, &m->deal[i].assignment);
        if (code != RV_OK) {
            return code;
        }
    }
    m->deal_count = d->count;
    return RV_OK;
}

int deal_make(struct rv_consumer *c, bool *ret_done)
{
    struct member *m = &c->member;
    struct dealing d = {.c = c, .arena = &m->deal_arena};
    bool known = false;
    arena_reset(&m->deal_arena);
    *ret_done = false;
    m->deal_count = 0;
    int code = subscriptions_take(&d, m->joined);
    code = code == RV_OK ? topics_take(&d, &known) : code;
    if (code != RV_OK || !known) {
        return code;
    }
    for (int32_t i = 0; code == RV_OK && i < d.count; i++) {
        code = member_take(&d, i);
    }
    code = code == RV_OK ? watch_set(&d) : code;
    if (code != RV_OK) {
        return code;
    }
    if (!m->skip_deal) {
        err e = assign_deal(m->assignor, d.topics, d.topic_count, d.members, d.count, d.arena);
        code = e ? error_of(e) : deal_out(&d);
    }
    *ret_done = code == RV_OK;
    return code;
}

bool deal_is_stale(const struct rv_consumer *c)
{
    for (size_t i = 0; i < c->member.watch_count; i++) {
        const struct watched *w = &c->member.watch[i];
        if (partitions_of(w->topic) != w->count) {
            return true;
        }
    }
    return false;
}

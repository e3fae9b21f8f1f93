/* Which assignors fit, and which topics the members subscribe to.
 *
 * The metadata of protocol type "consumer" begins, in every version:
 *     int16 version, int32 count, count * (int16 length, bytes)      the topics
 * what follows is the assignors' own.
 */
#include "base/bytes.h"
#include "base/check.h"
#include "base/mem.h"
#include "broker/group/internal.h"

static bool member_has(const struct group_member *m, struct str protocol)
{
    for (size_t i = 0; i < m->protocol_count; i++) {
        if (str_eq(m->protocols[i].name, protocol)) {
            return true;
        }
    }
    return false;
}

/* Does every member know it: those of the group but `without`, and `with`? */
static bool all_have(const struct group *g, const struct group_member *without,
                     const struct group_member *with, struct str protocol)
{
    for (struct map_entry *e = map_first(&g->members); e; e = map_next(e)) {
        const struct group_member *m = map_value(e);
        if (m != without && !member_has(m, protocol)) {
            return false;
        }
    }
    return !with || member_has(with, protocol);
}

bool protocols_supported(const struct group *g, struct str type,
                         const struct group_protocol *protocols, size_t count)
{
    if (type.len == 0 || count == 0) {
        return false;
    }
    if (map_count(&g->members) == 0) {
        return true;
    }
    if (!str_eq(type, g->protocol_type)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (all_have(g, NULL, NULL, protocols[i].name)) {
            return true;
        }
    }
    return false;
}

/* One vote of m, for the first of its protocols that is among the candidates (those with votes >=
 * 0). */
static void vote(const struct group_member *m, const struct group_member *candidates,
                 int64_t *votes)
{
    for (size_t k = 0; k < m->protocol_count; k++) {
        for (size_t i = 0; i < candidates->protocol_count; i++) {
            if (votes[i] >= 0 && str_eq(candidates->protocols[i].name, m->protocols[k].name)) {
                votes[i]++;
                return;
            }
        }
    }
}

/* Each member votes for the first of its protocols that all know; most votes win, and among equals
 * the one that the earliest member likes best. What all know, the earliest knows: its protocols are
 * the candidates. */
struct str protocol_choose(const struct group *g, const struct group_member *without,
                           const struct group_member *with)
{
    const struct group_member *first = with;
    for (struct map_entry *e = map_first(&g->members); e; e = map_next(e)) {
        if (map_value(e) != without) {
            first = map_value(e);
            break;
        }
    }
    check(first != NULL);
    int64_t *votes = mem_need(first->protocol_count * sizeof *votes);
    for (size_t i = 0; i < first->protocol_count; i++) {
        votes[i] = all_have(g, without, with, first->protocols[i].name) ? 0 : -1;
    }
    for (struct map_entry *e = map_first(&g->members); e; e = map_next(e)) {
        if (map_value(e) != without) {
            vote(map_value(e), first, votes);
        }
    }
    if (with) {
        vote(with, first, votes);
    }
    struct str best = {0};
    int64_t best_votes = 0;
    for (size_t i = 0; i < first->protocol_count; i++) {
        if (votes[i] > best_votes) {
            best = first->protocols[i].name;
            best_votes = votes[i];
        }
    }
    mem_free(votes);
    return best;
}

bool subscription_each(struct bytes subscription, void (*each)(void *ctx, struct str topic),
                       void *ctx)
{
    const uint8_t *at = subscription.ptr;
    size_t left = subscription.len;
    if (left < 6) {
        return false;
    }
    int32_t count = (int32_t)get_be32(at + 2);
    at += 6;
    left -= 6;
    if (count < 0 || (size_t)count > left / 2) {
        return false;
    }
    for (int32_t i = 0; i < count; i++) {
        if (left < 2) {
            return false;
        }
        int16_t len = (int16_t)get_be16(at);
        at += 2;
        left -= 2;
        if (len < 0 || (size_t)len > left) {
            return false;
        }
        each(ctx, (struct str){.ptr = (const char *)at, .len = (size_t)len});
        at += len;
        left -= (size_t)len;
    }
    return true;
}

static void collect(void *ctx, struct str topic)
{
    static const char present[1];
    check(map_put_str(ctx, topic, (void *)(uintptr_t)present) == OK);
}

bool subscription_same_topics(const struct group *g, struct bytes a, struct bytes b)
{
    if (!str_eq(g->protocol_type, STR("consumer"))) {
        return true; /* opaque: only its owner could tell */
    }
    if (a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0)) {
        return true;
    }
    struct map in_a, in_b;
    map_init(&in_a, g->seed);
    map_init(&in_b, g->seed);
    bool same = subscription_each(a, collect, &in_a) && subscription_each(b, collect, &in_b) &&
                map_count(&in_a) == map_count(&in_b);
    for (struct map_entry *e = map_first(&in_a); same && e; e = map_next(e)) {
        struct bytes key = map_key(e);
        same = map_get(&in_b, key.ptr, key.len) != NULL;
    }
    map_finish(&in_a);
    map_finish(&in_b);
    return same;
}

void subscribed_clear(struct group *g)
{
    map_finish(&g->subscribed);
    map_init(&g->subscribed, g->seed);
    g->subscribed_known = false;
    g->weight -= g->subscribed_weight;
    g->subscribed_weight = 0;
}

/* Unreadable metadata make it unknown, and then nothing of the group expires. */
void subscribed_compute(struct group *g)
{
    subscribed_clear(g);
    if (map_count(&g->members) == 0) {
        g->subscribed_known = true;
        return;
    }
    if (!str_eq(g->protocol_type, STR("consumer")) || !g->protocol.ptr) {
        return;
    }
    for (struct map_entry *e = map_first(&g->members); e; e = map_next(e)) {
        if (!subscription_each(member_metadata(map_value(e), g->protocol), collect,
                               &g->subscribed)) {
            subscribed_clear(g);
            return;
        }
    }
    g->subscribed_known = true;
    g->subscribed_weight = weigh_subscribed(&g->subscribed);
    g->weight += g->subscribed_weight;
}

bool group_is_subscribed(const struct group *g, struct str topic)
{
    if (g->subscribed_known) {
        return map_get_str(&g->subscribed, topic) != NULL;
    }
    return str_eq(g->protocol_type, STR("consumer"));
}

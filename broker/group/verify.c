/* group_verify: the invariants of group.c, one after the other. */
#include "base/check.h"
#include "base/mem.h"
#include "broker/group/internal.h"

static void verify_member(const struct group *g, const struct group_member *m)
{
    check(!(m->join_token && m->sync_token));                                         /* 2 */
    check(!m->join_token || g->state == GROUP_PREPARING);                             /* 3 */
    check(!m->sync_token || g->state == GROUP_COMPLETING);                            /* 3 */
    check(!m->owes_sync || g->state == GROUP_COMPLETING || g->state == GROUP_STABLE); /* 3 */
    check(!m->instance_id.ptr || map_get_str(&g->instances, m->instance_id) == m);    /* 5 */
    check(!map_get_str(&g->pending, m->id));                                          /* 7 */
    bool parked = m->join_token || m->sync_token;
    check((parked && !m->is_new) || g->wake_ms <= m->deadline_ms); /* 10 */
}

static void verify_offsets(const struct group *g)
{
    size_t stored = 0;
    for (struct map_entry *e = map_first(&g->topics); e; e = map_next(e)) {
        const struct group_topic *t = map_value(e);
        check(t->count > 0);
        for (size_t i = 0; i < t->count; i++) {
            const struct group_offset *o = t->offsets[i];
            check(o->stored || o->inflight > 0); /* 11 */
            check(i == 0 || t->offsets[i - 1]->partition < o->partition);
            stored += o->stored;
        }
    }
    check(stored == g->offset_count); /* 11 */
}

/* The weight is what it adds up to. */
static void verify_weight(const struct group *g)
{
    size_t weight =
        weigh_group(g->id) + metadata_size(g->metadata) + weigh_subscribed(&g->subscribed);
    for (struct map_entry *e = map_first(&g->members); e; e = map_next(e)) {
        weight += weigh_member(map_value(e));
    }
    for (struct map_entry *e = map_first(&g->pending); e; e = map_next(e)) {
        weight += weigh_pending((struct str){(const char *)map_key(e).ptr, map_key(e).len});
    }
    for (struct map_entry *e = map_first(&g->topics); e; e = map_next(e)) {
        const struct group_topic *t = map_value(e);
        weight += weigh_topic(t->name);
        for (size_t i = 0; i < t->count; i++) {
            weight += weigh_offset(t->offsets[i]->metadata);
        }
    }
    check(weight == g->weight); /* 12 */
}

void group_verify(const struct group *g)
{
    size_t members = map_count(&g->members), joining = 0, owing = 0, instances = 0;
    check(g->state == GROUP_PREPARING || (g->state == GROUP_EMPTY) == (members == 0)); /* 1 */
    for (struct map_entry *e = map_first(&g->members); e; e = map_next(e)) {
        const struct group_member *m = map_value(e);
        verify_member(g, m);
        joining += m->join_token != 0;
        owing += m->owes_sync;
        instances += m->instance_id.ptr != NULL;
        if (g->state == GROUP_COMPLETING || g->state == GROUP_STABLE) {
            bool knows = false;
            for (size_t i = 0; i < m->protocol_count; i++) {
                knows = knows || str_eq(m->protocols[i].name, g->protocol);
            }
            check(knows); /* 6 */
        }
    }
    check(joining == g->joining_count && owing == g->owing_count);       /* 2 */
    check(instances == map_count(&g->instances));                        /* 5 */
    check(members ? member_find(g, g->leader) != NULL : !g->leader.ptr); /* 4 */
    check(members == 0 || protocol_choose(g, NULL, NULL).ptr != NULL);   /* 6 */
    check(!g->metadata || g->generation >= g->metadata->generation);     /* 8 */
    check(g->wake_ms <= g->phase_ms);                                    /* 10 */
    for (struct map_entry *e = map_first(&g->pending); e; e = map_next(e)) {
        check(g->wake_ms <= ((const struct group_pending *)map_value(e))->deadline_ms); /* 10 */
    }
    if (g->state == GROUP_STABLE && list_empty(&g->writes)) {
        struct arena arena;
        arena_init(&arena, SIZE_MAX);
        check(metadata_equal(g->metadata, metadata_live(g, NULL, NULL, &arena))); /* 9 */
        arena_finish(&arena);
    }
    verify_offsets(g);
    verify_weight(g);
}

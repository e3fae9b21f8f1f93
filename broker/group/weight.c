/* What a group takes of memory: counted as it changes, in g->weight, and asked before an event that
 * makes it more. Blocks and texts are counted to the byte, each entry of a map or list with what
 * that and malloc take of it, about; requests that wait and writes under way are not, which end.
 */
#include "broker/group/internal.h"

enum {
    ENTRY = 64,             /* of a map, beside what it stands for */
    MEMBER_ID_ADDED = 37,   /* behind a client's or instance's id */
    MEMBER_ID_PREFIX = 255, /* of that, at most */
    ASSIGNMENT_COPIES = 2,  /* the member's, and the lasting one */
};

size_t weigh_group(struct str id)
{
    return sizeof(struct group) + id.len + ENTRY;
}

size_t weigh_protocols(const struct group_protocol *protocols, size_t count)
{
    size_t size = count * sizeof *protocols;
    for (size_t i = 0; i < count; i++) {
        size += protocols[i].name.len + protocols[i].metadata.len;
    }
    return size;
}

/* A static member is in two maps. */
static size_t entries(struct str instance_id)
{
    return instance_id.ptr ? (size_t)2 * ENTRY : ENTRY;
}

size_t weigh_member(const struct group_member *m)
{
    return sizeof *m + m->id.len + m->instance_id.len + m->client_id.len + m->client_host.len +
           m->protocol_type.len + weigh_protocols(m->protocols, m->protocol_count) +
           m->assignment.len + entries(m->instance_id);
}

size_t weigh_pending(struct str id)
{
    return sizeof(struct group_pending) + id.len + ENTRY;
}

size_t weigh_topic(struct str name)
{
    return sizeof(struct group_topic) + name.len + ENTRY;
}

size_t weigh_offset(struct str metadata)
{
    return sizeof(struct group_offset) + 2 * sizeof(struct group_offset *) + metadata.len;
}

size_t weigh_subscribed(const struct map *subscribed)
{
    size_t size = 0;
    for (const struct map_entry *e = map_first(subscribed); e; e = map_next(e)) {
        size += map_key(e).len + ENTRY;
    }
    return size;
}

/* ---- what an event would add */

static size_t growth_of_join(const struct group *g, const struct group_join *j)
{
    const struct group_member *m = !g                   ? NULL
                                   : j->instance_id.ptr ? map_get_str(&g->instances, j->instance_id)
                                                        : member_find(g, j->member_id);
    size_t protocols = weigh_protocols(j->protocols, j->protocol_count);
    if (m) {
        size_t before = weigh_protocols(m->protocols, m->protocol_count);
        return protocols > before ? protocols - before : 0;
    }
    struct str prefix = j->instance_id.ptr ? j->instance_id : j->client_id;
    size_t added =
        (prefix.len < MEMBER_ID_PREFIX ? prefix.len : MEMBER_ID_PREFIX) + MEMBER_ID_ADDED;
    return sizeof *m + (j->member_id.len ? j->member_id.len : added) + j->instance_id.len +
           j->client_id.len + j->client_host.len + j->protocol_type.len + protocols +
           entries(j->instance_id);
}

static size_t growth_of_sync(const struct group *g, const struct group_sync *s)
{
    size_t before = 0;
    size_t after = 0;
    if (g->state != GROUP_COMPLETING || !str_eq(g->leader, s->member_id)) {
        return 0; /* nobody looks at what it brings */
    }
    for (size_t i = 0; i < s->assignment_count; i++) {
        const struct group_member *m = member_find(g, s->assignments[i].member_id);
        before += m ? m->assignment.len : 0;
        after += m ? s->assignments[i].assignment.len : 0;
    }
    return after > before ? ASSIGNMENT_COPIES * (after - before) : 0;
}

static size_t growth_of_commit(const struct group *g, const struct group_commit *c)
{
    size_t before = 0;
    size_t after = 0;
    for (size_t i = 0; i < c->offset_count; i++) {
        const struct group_commit_offset *o = &c->offsets[i];
        const struct group_topic *t = g ? map_get_str(&g->topics, o->topic) : NULL;
        const struct group_offset *there = g ? group_offset_find(g, o->topic, o->partition) : NULL;
        bool named = t || (i > 0 && str_eq(o->topic, c->offsets[i - 1].topic));
        before += there ? weigh_offset(there->metadata) : 0;
        after += weigh_offset(o->metadata) + (named ? 0 : weigh_topic(o->topic));
    }
    return after > before ? after - before : 0;
}

size_t group_growth(const struct group *g, struct str id, const struct group_event *event)
{
    size_t base = g ? 0 : weigh_group(id);
    switch (event->kind) {
    case GROUP_EVENT_JOIN: return base + growth_of_join(g, &event->join);
    case GROUP_EVENT_COMMIT: return base + growth_of_commit(g, &event->commit);
    case GROUP_EVENT_SYNC: return g ? growth_of_sync(g, &event->sync) : 0;
    default: return 0;
    }
}

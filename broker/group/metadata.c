#include "base/check.h"
#include "base/mem.h"
#include "broker/group/internal.h"

static struct str place(char **at, struct str s)
{
    if (!s.ptr) {
        return s;
    }
    char *p = *at;
    if (s.len) {
        memcpy(p, s.ptr, s.len);
    }
    *at += s.len;
    return (struct str){.ptr = p, .len = s.len};
}

static struct bytes place_bytes(char **at, struct bytes b)
{
    struct str s = place(at, (struct str){.ptr = b.ptr ? (const char *)b.ptr : "", .len = b.len});
    return (struct bytes){.ptr = (const uint8_t *)s.ptr, .len = s.len};
}

size_t metadata_size(const struct group_metadata *m)
{
    if (!m) {
        return 0;
    }
    size_t size = sizeof *m + m->member_count * sizeof *m->members + m->protocol_type.len +
                  m->protocol.len + m->leader.len;
    for (size_t i = 0; i < m->member_count; i++) {
        const struct group_member_record *r = &m->members[i];
        size += r->id.len + r->instance_id.len + r->client_id.len + r->client_host.len +
                r->subscription.len + r->assignment.len;
    }
    return size;
}

/* One block; from the arena, or from mem when that is NULL. */
static struct group_metadata *copy_in(const struct group_metadata *m, struct arena *arena)
{
    size_t size = metadata_size(m);
    struct group_metadata *copy = arena ? arena_alloc(arena, size) : mem_need(size);
    check(copy != NULL);
    struct group_member_record *members = (struct group_member_record *)(copy + 1);
    char *at = (char *)(members + m->member_count);
    *copy = *m;
    copy->protocol_type = place(&at, m->protocol_type);
    copy->protocol = place(&at, m->protocol);
    copy->leader = place(&at, m->leader);
    for (size_t i = 0; i < m->member_count; i++) {
        const struct group_member_record *r = &m->members[i];
        members[i] = *r;
        members[i].id = place(&at, r->id);
        members[i].instance_id = place(&at, r->instance_id);
        members[i].client_id = place(&at, r->client_id);
        members[i].client_host = place(&at, r->client_host);
        members[i].subscription = place_bytes(&at, r->subscription);
        members[i].assignment = place_bytes(&at, r->assignment);
    }
    copy->members = members;
    return copy;
}

struct group_metadata *metadata_copy(const struct group_metadata *m)
{
    return copy_in(m, NULL);
}

static bool same_bytes(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static bool same_or_null(struct str a, struct str b)
{
    return !a.ptr == !b.ptr && str_eq(a, b);
}

bool metadata_equal(const struct group_metadata *a, const struct group_metadata *b)
{
    if (!a || !b) {
        return a == b;
    }
    if (!str_eq(a->protocol_type, b->protocol_type) || a->generation != b->generation ||
        !same_or_null(a->protocol, b->protocol) || !same_or_null(a->leader, b->leader) ||
        a->member_count != b->member_count) {
        return false;
    }
    for (size_t i = 0; i < a->member_count; i++) {
        const struct group_member_record *x = &a->members[i], *y = &b->members[i];
        if (!str_eq(x->id, y->id) || !same_or_null(x->instance_id, y->instance_id) ||
            !str_eq(x->client_id, y->client_id) || !str_eq(x->client_host, y->client_host) ||
            x->rebalance_timeout_ms != y->rebalance_timeout_ms ||
            x->session_timeout_ms != y->session_timeout_ms ||
            !same_bytes(x->subscription, y->subscription) ||
            !same_bytes(x->assignment, y->assignment)) {
            return false;
        }
    }
    return true;
}

static struct group_member_record member_record(const struct group *g, const struct group_member *m,
                                                struct bytes assignment)
{
    return (struct group_member_record){
        .id = m->id,
        .instance_id = m->instance_id,
        .client_id = m->client_id,
        .client_host = m->client_host,
        .rebalance_timeout_ms = m->rebalance_timeout_ms,
        .session_timeout_ms = m->session_timeout_ms,
        .subscription = member_metadata(m, g->protocol),
        .assignment = assignment,
    };
}

struct group_metadata *metadata_live(const struct group *g, const struct group_member *without,
                                     const struct group_member *with, struct arena *arena)
{
    size_t count = map_count(&g->members);
    struct group_member_record *members = mem_need((count + 1) * sizeof *members);
    struct str leader = g->leader;
    size_t n = 0;
    for (struct map_entry *e = map_first(&g->members); e; e = map_next(e)) {
        const struct group_member *member = map_value(e);
        if (member != without) {
            members[n++] = member_record(g, member, member->assignment);
        }
    }
    if (with) {
        members[n++] = member_record(g, with, without->assignment);
        leader = str_eq(leader, without->id) ? with->id : leader;
    }
    struct group_metadata m = {
        .protocol_type = g->protocol_type.ptr ? g->protocol_type : STR(""),
        .generation = g->generation,
        .protocol = g->protocol,
        .leader = leader,
        .state_ms = g->state_ms,
        .members = members,
        .member_count = n,
    };
    struct group_metadata *copy =
        copy_in(&m, arena); /* the group may change before it is encoded */
    mem_free(members);
    return copy;
}

struct group_metadata *group_snapshot(const struct group *g, struct arena *arena)
{
    return metadata_live(g, NULL, NULL, arena);
}

static bool topic_equal(const struct group_topic *a, const struct group_topic *b)
{
    size_t i = 0, k = 0;
    for (;;) {
        while (i < a->count && !a->offsets[i]->stored) {
            i++;
        }
        while (k < b->count && !b->offsets[k]->stored) {
            k++;
        }
        if (i == a->count || k == b->count) {
            return i == a->count && k == b->count;
        }
        const struct group_offset *x = a->offsets[i++], *y = b->offsets[k++];
        if (x->partition != y->partition || x->offset != y->offset ||
            x->leader_epoch != y->leader_epoch || !str_eq(x->metadata, y->metadata) ||
            x->commit_ms != y->commit_ms || x->expire_ms != y->expire_ms ||
            !uuid_eq(x->topic_id, y->topic_id)) {
            return false;
        }
    }
}

bool group_lasting_equal(const struct group *a, const struct group *b)
{
    static const struct group_topic none;
    if (!metadata_equal(a->metadata, b->metadata) || a->offset_count != b->offset_count ||
        (a->metadata && a->metadata->state_ms != b->metadata->state_ms)) {
        return false;
    }
    for (struct map_entry *e = map_first(&a->topics); e; e = map_next(e)) {
        const struct group_topic *topic = map_value(e);
        const struct group_topic *other = map_get_str(&b->topics, topic->name);
        if (!topic_equal(topic, other ? other : &none)) {
            return false;
        }
    }
    return true; /* equal counts: b has no others */
}

#include "base/check.h"
#include "base/mem.h"
#include "broker/group/internal.h"

struct str str_own(struct str s)
{
    if (!s.ptr) {
        return s;
    }
    return (struct str){.ptr = mem_need_dup(s.ptr, s.len), .len = s.len};
}

void str_disown(struct str *s)
{
    mem_free((void *)(uintptr_t)s->ptr);
    *s = (struct str){0};
}

void str_replace(struct str *s, struct str by)
{
    struct str copy = str_own(by); /* first: `by` may be `*s` */
    str_disown(s);
    *s = copy;
}

struct group_member *member_create(const struct group_join *j, struct str id)
{
    struct group_member *m = mem_need_zero(1, sizeof *m);
    m->id = str_own(id);
    m->instance_id = str_own(j->instance_id);
    m->client_id = str_own(j->client_id);
    m->client_host = str_own(j->client_host);
    m->protocol_type = str_own(j->protocol_type);
    member_set_protocols(m, j->protocols, j->protocol_count);
    m->session_timeout_ms = j->session_timeout_ms;
    m->rebalance_timeout_ms =
        j->rebalance_timeout_ms > 0 ? j->rebalance_timeout_ms : j->session_timeout_ms;
    m->deadline_ms = NEVER_MS;
    m->skips_assignment = j->can_skip_assignment;
    return m;
}

void member_destroy(struct group_member *m)
{
    if (!m) {
        return;
    }
    str_disown(&m->id);
    str_disown(&m->instance_id);
    str_disown(&m->client_id);
    str_disown(&m->client_host);
    str_disown(&m->protocol_type);
    mem_free(m->protocols);
    mem_free((void *)(uintptr_t)m->assignment.ptr);
    mem_free(m);
}

void member_set_protocols(struct group_member *m, const struct group_protocol *protocols,
                          size_t count)
{
    struct group_protocol *copy = mem_need(weigh_protocols(protocols, count));
    char *at = (char *)(copy + count);
    for (size_t i = 0; i < count; i++) {
        const struct group_protocol *p = &protocols[i];
        copy[i].name = (struct str){.ptr = at, .len = p->name.len};
        if (p->name.len) {
            memcpy(at, p->name.ptr, p->name.len);
        }
        at += p->name.len;
        copy[i].metadata = (struct bytes){.ptr = (uint8_t *)at, .len = p->metadata.len};
        if (p->metadata.len) {
            memcpy(at, p->metadata.ptr, p->metadata.len);
        }
        at += p->metadata.len;
    }
    mem_free(m->protocols); /* last: `protocols` may be a part of it */
    m->protocols = copy;
    m->protocol_count = count;
}

void member_set_assignment(struct group_member *m, struct bytes assignment)
{
    void *copy = assignment.len ? mem_need_dup(assignment.ptr, assignment.len) : NULL;
    mem_free((void *)(uintptr_t)m->assignment.ptr);
    m->assignment = (struct bytes){.ptr = copy, .len = assignment.len};
}

static bool bytes_same(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

bool member_matches(const struct group_member *m, const struct group_protocol *protocols,
                    size_t count)
{
    if (m->protocol_count != count) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!str_eq(m->protocols[i].name, protocols[i].name) ||
            !bytes_same(m->protocols[i].metadata, protocols[i].metadata)) {
            return false;
        }
    }
    return true;
}

struct bytes member_metadata(const struct group_member *m, struct str protocol)
{
    for (size_t i = 0; i < m->protocol_count; i++) {
        if (str_eq(m->protocols[i].name, protocol)) {
            return m->protocols[i].metadata;
        }
    }
    return (struct bytes){.ptr = (const uint8_t *)"", .len = 0};
}

void member_touch(struct group *g, struct group_member *m, const struct group_env *env)
{
    m->deadline_ms = env->now_ms + m->session_timeout_ms;
    wake_at(g, m->deadline_ms);
}

/* A client that asks again has given up on its earlier request: that one is told to, too. */
void member_park_join(struct group *g, struct group_member *m, uint64_t token,
                      struct group_effects *fx)
{
    if (m->join_token) {
        fx_answer(fx, m->join_token, GROUP_REBALANCING);
        g->joining_count--;
    }
    m->join_token = token;
    g->joining_count++;
}

void member_park_sync(struct group_member *m, uint64_t token, struct group_effects *fx)
{
    fx_answer_if(fx, m->sync_token, GROUP_REBALANCING);
    m->sync_token = token;
}

void member_owes(struct group *g, struct group_member *m, bool owes)
{
    if (m->owes_sync != owes) {
        m->owes_sync = owes;
        g->owing_count += owes ? 1 : (size_t)-1;
    }
}

struct group_member *member_find(const struct group *g, struct str id)
{
    return map_get_str(&g->members, id);
}

static void put(struct map *m, struct str key, void *value)
{
    check(map_put_str(m, key, value) == OK);
}

void member_weigh(struct group *g, struct group_member *m)
{
    size_t weight = weigh_member(m);
    g->weight += weight - m->weight;
    m->weight = weight;
}

void member_add(struct group *g, struct group_member *m)
{
    check(!member_find(g, m->id));
    member_weigh(g, m);
    if (map_count(&g->members) == 0) {
        str_replace(&g->protocol_type, m->protocol_type);
    }
    put(&g->members, m->id, m);
    if (m->instance_id.ptr) {
        check(!map_get_str(&g->instances, m->instance_id));
        put(&g->instances, m->instance_id, m);
    }
    if (m->join_token) {
        g->joining_count++;
    }
    if (!g->leader.ptr) {
        str_replace(&g->leader, m->id);
    }
}

/* Out of the maps and counters; the struct stays. */
static void member_unlink(struct group *g, struct group_member *m)
{
    check(map_remove_str(&g->members, m->id) == m);
    if (m->instance_id.ptr) {
        check(map_remove_str(&g->instances, m->instance_id) == m);
    }
    if (m->join_token) {
        g->joining_count--;
    }
    member_owes(g, m, false);
    g->weight -= m->weight;
    m->weight = 0;
}

void member_remove(struct group *g, struct group_member *m, enum group_error error,
                   struct group_effects *fx)
{
    member_unlink(g, m);
    fx_answer_if(fx, m->join_token, error);
    fx_answer_if(fx, m->sync_token, error);
    if (str_eq(g->leader, m->id)) {
        struct map_entry *first = map_first(&g->members);
        struct group_member *heir = first ? map_value(first) : NULL;
        str_replace(&g->leader, heir ? heir->id : (struct str){0});
    }
    member_destroy(m);
}

void member_replace(struct group *g, struct group_member *old, struct group_member *m,
                    struct group_effects *fx)
{
    bool leads = str_eq(g->leader, old->id), owes = old->owes_sync;
    member_unlink(g, old);
    fx_answer_if(fx, old->join_token, GROUP_FENCED_INSTANCE);
    fx_answer_if(fx, old->sync_token, GROUP_FENCED_INSTANCE);
    member_set_assignment(m, old->assignment);
    m->is_new = false;
    if (leads) {
        str_replace(&g->leader, m->id);
    }
    member_add(g, m);
    member_owes(g, m, owes);
    member_destroy(old);
}

enum group_error member_validate(const struct group *g, struct str id, struct str instance_id,
                                 struct group_member **ret_member)
{
    struct group_member *m = member_find(g, id);
    if (instance_id.ptr) {
        const struct group_member *holder = map_get_str(&g->instances, instance_id);
        if (!holder) {
            return GROUP_UNKNOWN_MEMBER;
        }
        if (holder != m) {
            return GROUP_FENCED_INSTANCE;
        }
    } else if (!m) {
        return GROUP_UNKNOWN_MEMBER;
    }
    *ret_member = m;
    return GROUP_OK;
}

void pending_add(struct group *g, struct str id, int64_t deadline_ms)
{
    struct group_pending *p = mem_need(sizeof *p);
    p->deadline_ms = deadline_ms;
    put(&g->pending, id, p);
    g->weight += weigh_pending(id);
    wake_at(g, deadline_ms);
}

bool pending_remove(struct group *g, struct str id)
{
    size_t weight = weigh_pending(id); /* the id may be the map's */
    struct group_pending *p = map_remove_str(&g->pending, id);
    g->weight -= p ? weight : 0;
    mem_free(p);
    return p != NULL;
}

/* JoinGroup: who may come in, under which id, and whether that needs a rebalance. */
#include "base/check.h"
#include "base/mem.h"
#include "broker/group/internal.h"

/* What a join phase's end tells a member, or what a member is told again that has lost that answer.
 * The leader gets everybody's metadata. */
void answer_generation(struct group *g, struct group_member *m, uint64_t token,
                       struct group_effects *fx)
{
    struct group_answer *a = fx_answer(fx, token, GROUP_OK);
    a->member_id = fx_str(fx, m->id);
    a->generation = g->generation;
    a->protocol_type = fx_str(fx, g->protocol_type);
    a->protocol = fx_str(fx, g->protocol);
    a->leader = fx_str(fx, g->leader);
    if (!str_eq(g->leader, m->id)) {
        return;
    }
    struct group_answer_member *members = fx_alloc(fx, map_count(&g->members) * sizeof *members);
    size_t n = 0;
    for (struct map_entry *e = map_first(&g->members); e; e = map_next(e)) {
        const struct group_member *other = map_value(e);
        members[n++] = (struct group_answer_member){
            .member_id = fx_str(fx, other->id),
            .instance_id = fx_str(fx, other->instance_id),
            .metadata = fx_bytes(fx, member_metadata(other, g->protocol)),
        };
    }
    a->members = members;
    a->member_count = n;
}

static bool has_room(const struct group *g, const struct group_join *j,
                     const struct group_config *config)
{
    const struct group_member *m = member_find(g, j->member_id);
    if (g->state == GROUP_PREPARING ? m && m->join_token : m != NULL) {
        return true;
    }
    if (j->instance_id.ptr && map_get_str(&g->instances, j->instance_id)) {
        return true; /* takes the place of its former self */
    }
    size_t taken = g->state == GROUP_PREPARING ? g->joining_count : map_count(&g->members);
    taken += map_count(&g->pending);
    if (map_get_str(&g->pending, j->member_id)) {
        taken--; /* itself */
    }
    return taken < (size_t)config->max_size;
}

static bool is_too_large(const struct group_join *j, const struct group_config *config)
{
    size_t size = 0;
    for (size_t i = 0; i < j->protocol_count; i++) {
        size += j->protocols[i].name.len + j->protocols[i].metadata.len;
    }
    return size > (size_t)config->member_max_bytes;
}

static void add_member(struct group *g, struct group_member *m, const struct group_env *env,
                       struct group_effects *fx)
{
    m->is_new = true;
    m->deadline_ms = env->now_ms + env->config->new_member_join_timeout_ms;
    wake_at(g, m->deadline_ms);
    if (g->state == GROUP_PREPARING && g->initial) {
        g->member_added = true;
    }
    member_add(g, m);
    rebalance_prepare_or_complete(g, env, fx);
}

/* A static member came back in a stable group. Where it changes nothing for the others, they are
 * not disturbed: its new id only has to be lasting before it is told. A changed set of topics does
 * concern the others (what else is in the metadata, as the partitions it owned, differs after every
 * restart). */
static bool return_is_quiet(const struct group *g, const struct group_member *old,
                            const struct group_member *m)
{
    return str_eq(protocol_choose(g, old, m), g->protocol) &&
           subscription_same_topics(g, member_metadata(old, g->protocol),
                                    member_metadata(m, g->protocol));
}

static void static_write(struct group *g, struct group_member *old, struct group_member *m,
                         struct group_effects *fx)
{
    struct group_write *w;
    uint64_t token = m->join_token;
    if (g->static_writing) { /* two records made from one state would undo each other */
        w = mem_need_zero(1, sizeof *w);
        w->kind = WRITE_STATIC;
        w->token = token;
        list_push(&g->returns, &w->link);
        w->member = m;
        return;
    }
    struct group_record *r = fx_alloc(fx, sizeof *r);
    *r = (struct group_record){.kind = GROUP_RECORD_METADATA,
                               .metadata = metadata_live(g, old, m, &fx->arena)};
    w = fx_append(g, fx, WRITE_STATIC, token, r, 1);
    w->member = m;
    w->replaced_id = str_own(old->id);
    g->static_writing = true;
}

/* m: made from its join, owned; join_token set. */
static void static_join(struct group *g, struct group_member *m, const struct group_env *env,
                        struct group_effects *fx)
{
    struct group_member *old = map_get_str(&g->instances, m->instance_id);
    if (!old) {
        add_member(g, m, env, fx);
        return;
    }
    if (g->state == GROUP_STABLE && return_is_quiet(g, old, m)) {
        static_write(g, old, m, fx);
        return;
    }
    member_replace(g, old, m, fx);
    member_touch(g, m, env);
    rebalance_prepare_or_complete(g, env, fx);
}

/* The record of a static member's return is there, or was refused. While it was under way the group
 * may have gone on: then the join is looked at again as if it had come just now. */
static void static_return_finish(struct group *g, struct group_write *w, enum group_error error,
                                 const struct group_env *env, struct group_effects *fx)
{
    struct group_member *m = w->member;
    w->member = NULL;
    if (error) {
        fx_answer(fx, w->token, error);
        member_destroy(m);
        return;
    }
    struct group_member *old = map_get_str(&g->instances, m->instance_id);
    if (g->state != GROUP_STABLE || w->generation != g->generation || !old ||
        !str_eq(old->id, w->replaced_id)) {
        if (!protocols_supported(g, m->protocol_type, m->protocols, m->protocol_count)) {
            fx_answer(fx, w->token, GROUP_INCONSISTENT_PROTOCOL);
            member_destroy(m);
            return;
        }
        static_join(g, m, env, fx);
        return;
    }
    struct str leader_before = fx_str(fx, g->leader);
    m->join_token = 0;
    member_replace(g, old, m, fx);
    member_touch(g, m, env);
    subscribed_compute(g);
    bool leads = str_eq(g->leader, m->id);
    if (m->skips_assignment) {
        answer_generation(g, m, w->token, fx);
        fx->answers[fx->answer_count - 1].skip_assignment = leads;
        return;
    }
    struct group_answer *a =
        fx_answer(fx, w->token, GROUP_OK); /* before v9 a leader is led to believe it is none */
    a->member_id = fx_str(fx, m->id);
    a->generation = g->generation;
    a->protocol_type = fx_str(fx, g->protocol_type);
    a->protocol = fx_str(fx, g->protocol);
    a->leader = leader_before;
}

void static_return_ended(struct group *g, struct group_write *w, enum group_error error,
                         const struct group_env *env, struct group_effects *fx)
{
    g->static_writing = false;
    static_return_finish(g, w, error, env, fx);
    struct list waiting;
    list_init(&waiting);
    list_splice(&waiting, &g->returns);
    for (struct list *link; (link = list_pop(&waiting));) {
        struct group_write *next = list_entry(link, struct group_write, link);
        struct group_member *m = next->member;
        next->member = NULL;
        if (protocols_supported(g, m->protocol_type, m->protocols, m->protocol_count)) {
            static_join(g, m, env, fx);
        } else {
            fx_answer(fx, next->token, GROUP_INCONSISTENT_PROTOCOL);
            member_destroy(m);
        }
        write_destroy(next);
    }
}

static void join_new(struct group *g, const struct group_event *e, const struct group_env *env,
                     struct group_effects *fx)
{
    const struct group_join *j = &e->join;
    if (!j->instance_id.ptr && j->requires_known_member_id) {
        check(!member_find(g, j->new_member_id));
        pending_add(g, j->new_member_id, env->now_ms + j->session_timeout_ms);
        fx_answer(fx, e->token, GROUP_MEMBER_ID_REQUIRED)->member_id = fx_str(fx, j->new_member_id);
        return;
    }
    struct group_member *m = member_create(j, j->new_member_id);
    m->join_token = e->token;
    if (m->instance_id.ptr) {
        static_join(g, m, env, fx);
    } else {
        add_member(g, m, env, fx);
    }
}

static void update_and_rebalance(struct group *g, struct group_member *m,
                                 const struct group_event *e, const struct group_env *env,
                                 struct group_effects *fx)
{
    const struct group_join *j = &e->join;
    member_set_protocols(m, j->protocols, j->protocol_count);
    member_weigh(g, m);
    m->session_timeout_ms = j->session_timeout_ms;
    m->rebalance_timeout_ms =
        j->rebalance_timeout_ms > 0 ? j->rebalance_timeout_ms : j->session_timeout_ms;
    m->skips_assignment = j->can_skip_assignment;
    member_park_join(g, m, e->token, fx);
    rebalance_prepare_or_complete(g, env, fx);
}

static void join_known(struct group *g, const struct group_event *e, const struct group_env *env,
                       struct group_effects *fx)
{
    const struct group_join *j = &e->join;
    if (map_get_str(&g->pending, j->member_id)) {
        if (j->instance_id.ptr) { /* such ids are given to dynamic members only */
            fx_answer(fx, e->token, GROUP_UNKNOWN_MEMBER)->member_id = fx_str(fx, j->member_id);
            return;
        }
        pending_remove(g, j->member_id);
        struct group_member *m = member_create(j, j->member_id);
        m->join_token = e->token;
        add_member(g, m, env, fx);
        return;
    }
    struct group_member *m;
    enum group_error error = member_validate(g, j->member_id, j->instance_id, &m);
    if (error) {
        fx_answer(fx, e->token, error)->member_id = fx_str(fx, j->member_id);
        return;
    }
    bool same = member_matches(m, j->protocols, j->protocol_count);
    bool only_lost_answer = same && (g->state == GROUP_COMPLETING ||
                                     (g->state == GROUP_STABLE && !str_eq(g->leader, m->id)));
    if (only_lost_answer) {
        member_touch(g, m, env);
        answer_generation(g, m, e->token, fx);
        return;
    }
    update_and_rebalance(g, m, e, env, fx);
}

void step_join(struct group *g, const struct group_event *e, const struct group_env *env,
               struct group_effects *fx)
{
    const struct group_join *j = &e->join;
    enum group_error error = GROUP_OK;
    if (j->session_timeout_ms < env->config->min_session_timeout_ms ||
        j->session_timeout_ms > env->config->max_session_timeout_ms) {
        error = GROUP_BAD_SESSION_TIMEOUT;
    } else if (is_too_large(j, env->config)) {
        error = GROUP_TOO_LARGE;
    } else if (!has_room(g, j, env->config)) {
        error = GROUP_FULL;
    } else if (!protocols_supported(g, j->protocol_type, j->protocols, j->protocol_count)) {
        error = GROUP_INCONSISTENT_PROTOCOL;
    }
    if (error) {
        fx_answer(fx, e->token, error)->member_id = fx_str(fx, j->member_id);
    } else if (j->member_id.len == 0) {
        join_new(g, e, env, fx);
    } else {
        join_known(g, e, env, fx);
    }
}

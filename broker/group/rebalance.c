/* The two phases of a rebalance, and what time does to members. */
#include "base/check.h"
#include "base/mem.h"
#include "broker/group/internal.h"

void wake_at(struct group *g, int64_t ms)
{
    if (ms < g->wake_ms) {
        g->wake_ms = ms;
    }
}

static void set_state(struct group *g, enum group_state state, const struct group_env *env)
{
    g->state = state;
    g->state_ms = env->wall_ms;
}

static void set_phase_end(struct group *g, int64_t ms)
{
    g->phase_ms = ms;
    wake_at(g, ms);
}

static int32_t rebalance_timeout(const struct group *g)
{
    int32_t longest = 0;
    for (struct map_entry *e = map_first(&g->members); e; e = map_next(e)) {
        const struct group_member *m = map_value(e);
        longest = m->rebalance_timeout_ms > longest ? m->rebalance_timeout_ms : longest;
    }
    return longest;
}

void write_empty(struct group *g, struct group_effects *fx)
{
    struct group_record *r = fx_alloc(fx, sizeof *r);
    *r = (struct group_record){.kind = GROUP_RECORD_METADATA,
                               .metadata = metadata_live(g, NULL, NULL, &fx->arena)};
    fx_append(g, fx, WRITE_EMPTY, 0, r, 1);
}

/* ---- the join phase ---- */

/* A leader that did not come back is followed by one that did. False: nobody is there to lead. */
static bool elect_leader(struct group *g)
{
    const struct group_member *leader = member_find(g, g->leader);
    if (leader && leader->join_token) {
        return true;
    }
    for (struct map_entry *e = map_first(&g->members); e; e = map_next(e)) {
        const struct group_member *m = map_value(e);
        if (m->join_token) {
            str_replace(&g->leader, m->id);
            return true;
        }
    }
    return false;
}

static void begin_generation(struct group *g, const struct group_env *env, struct group_effects *fx)
{
    str_replace(&g->protocol, protocol_choose(g, NULL, NULL));
    check(g->protocol.ptr != NULL); /* invariant 6 */
    set_state(g, GROUP_COMPLETING, env);
    subscribed_compute(g);
    g->sync_writing = false;
    for (struct map_entry *e = map_first(&g->members); e; e = map_next(e)) {
        struct group_member *m = map_value(e);
        if (m->join_token) {
            answer_generation(g, m, m->join_token, fx);
            m->join_token = 0;
            g->joining_count--;
        }
        m->is_new = false;
        member_owes(g, m, true);
        member_touch(g, m, env);
    }
    set_phase_end(g, env->now_ms + rebalance_timeout(g));
}

static void become_empty(struct group *g, const struct group_env *env, struct group_effects *fx)
{
    str_disown(&g->protocol);
    str_disown(&g->leader);
    set_state(g, GROUP_EMPTY, env);
    subscribed_compute(g);
    g->sync_writing = false;
    g->phase_ms = NEVER_MS;
    write_empty(g, fx);
}

/* Static members that are away stay until their session times out; the others go. */
static void complete_join(struct group *g, const struct group_env *env, struct group_effects *fx)
{
    check(g->state == GROUP_PREPARING);
    struct map_entry *after;
    for (struct map_entry *e = map_first(&g->members); e; e = after) {
        after = map_next(e);
        struct group_member *m = map_value(e);
        if (!m->join_token && !m->instance_id.ptr) {
            member_remove(g, m, GROUP_UNKNOWN_MEMBER, fx);
        }
    }
    g->initial = false;
    bool anybody = map_count(&g->members) > 0;
    if (anybody && !elect_leader(g)) {
        set_phase_end(g, env->now_ms + rebalance_timeout(g));
        return;
    }
    g->generation = g->generation == INT32_MAX ? 1 : g->generation + 1;
    if (anybody) {
        begin_generation(g, env, fx);
    } else {
        become_empty(g, env, fx);
    }
}

static void maybe_complete_join(struct group *g, const struct group_env *env,
                                struct group_effects *fx)
{
    if (g->state == GROUP_PREPARING && !g->initial && g->joining_count == map_count(&g->members) &&
        map_count(&g->pending) == 0) {
        complete_join(g, env, fx);
    }
}

/* Everybody who waits for an assignment of this generation is told that there will be none. */
static void fail_syncs(struct group *g, enum group_error error, const struct group_env *env,
                       struct group_effects *fx)
{
    for (struct map_entry *e = map_first(&g->members); e; e = map_next(e)) {
        struct group_member *m = map_value(e);
        member_set_assignment(m, (struct bytes){0});
        member_weigh(g, m);
        if (m->sync_token) {
            fx_answer(fx, m->sync_token, error);
            m->sync_token = 0;
            member_touch(g, m, env);
        }
    }
}

void rebalance_prepare(struct group *g, const struct group_env *env, struct group_effects *fx)
{
    check(g->state != GROUP_PREPARING);
    if (g->state == GROUP_COMPLETING) {
        fail_syncs(g, GROUP_REBALANCING, env, fx);
    }
    for (struct map_entry *e = map_first(&g->members); e; e = map_next(e)) {
        member_owes(g, map_value(e), false);
    }
    g->initial = g->state == GROUP_EMPTY;
    set_state(g, GROUP_PREPARING, env);
    if (!g->initial) {
        set_phase_end(g, env->now_ms + rebalance_timeout(g));
        maybe_complete_join(g, env, fx);
        return;
    }
    int32_t delay = env->config->initial_rebalance_delay_ms;
    int32_t timeout = rebalance_timeout(g);
    g->initial_left_ms = timeout > delay ? timeout - delay : 0;
    g->member_added = false;
    if (delay <= 0) {
        complete_join(g, env, fx);
    } else {
        set_phase_end(g, env->now_ms + delay);
    }
}

/* The initial delay is over: once more, as long as members keep coming and the rebalance timeout
 * allows it. */
static void initial_delay_over(struct group *g, const struct group_env *env,
                               struct group_effects *fx)
{
    if (!g->member_added || g->initial_left_ms <= 0) {
        complete_join(g, env, fx);
        return;
    }
    int32_t delay = env->config->initial_rebalance_delay_ms;
    delay = delay < g->initial_left_ms ? delay : g->initial_left_ms;
    g->member_added = false;
    g->initial_left_ms -= delay;
    set_phase_end(g, env->now_ms + delay);
}

void rebalance_prepare_or_complete(struct group *g, const struct group_env *env,
                                   struct group_effects *fx)
{
    if (g->state == GROUP_PREPARING) {
        maybe_complete_join(g, env, fx);
    } else {
        rebalance_prepare(g, env, fx);
    }
}

void rebalance_after_removal(struct group *g, const struct group_env *env, struct group_effects *fx)
{
    if (g->state != GROUP_EMPTY) {
        rebalance_prepare_or_complete(g, env, fx);
    }
}

/* ---- the sync phase ---- */

static void answer_sync(struct group *g, const struct group_member *m, uint64_t token,
                        struct group_effects *fx)
{
    struct group_answer *a = fx_answer(fx, token, GROUP_OK);
    a->protocol_type = fx_str(fx, g->protocol_type);
    a->protocol = fx_str(fx, g->protocol);
    a->assignment = fx_bytes(fx, m->assignment);
}

static void settle_sync(struct group *g, struct group_member *m)
{
    member_owes(g, m, false);
    if (g->owing_count == 0) {
        g->phase_ms = NEVER_MS;
    }
}

/* The record that makes this generation lasting: the members as they are, with the leader's
 * assignments; who was given nothing gets empty bytes, assignments for strangers are dropped. */
static void write_assignments(struct group *g, const struct group_sync *s, struct group_effects *fx)
{
    struct group_metadata *metadata = metadata_live(g, NULL, NULL, &fx->arena);
    struct map given;
    map_init(&given, g->seed);
    for (size_t i = 0; i < s->assignment_count; i++) {
        check(map_put_str(&given, s->assignments[i].member_id,
                          (void *)(uintptr_t)&s->assignments[i]) == OK);
    }
    struct group_member_record *members = fx_alloc(fx, metadata->member_count * sizeof *members);
    for (size_t i = 0; i < metadata->member_count; i++) {
        const struct group_assignment *a = map_get_str(&given, metadata->members[i].id);
        members[i] = metadata->members[i];
        members[i].assignment =
            a ? fx_bytes(fx, a->assignment) : (struct bytes){.ptr = (const uint8_t *)"", .len = 0};
    }
    map_finish(&given);
    metadata->members = members;
    struct group_record *r = fx_alloc(fx, sizeof *r);
    *r = (struct group_record){.kind = GROUP_RECORD_METADATA, .metadata = metadata};
    fx_append(g, fx, WRITE_SYNC, 0, r, 1);
    g->sync_writing = true;
}

static enum group_error check_sync(const struct group *g, const struct group_sync *s,
                                   struct group_member **ret_member)
{
    enum group_error error = member_validate(g, s->member_id, s->instance_id, ret_member);
    if (error) {
        return error;
    }
    if (s->generation != g->generation) {
        return GROUP_ILLEGAL_GENERATION;
    }
    if (s->protocol_type.ptr && !str_eq(s->protocol_type, g->protocol_type)) {
        return GROUP_INCONSISTENT_PROTOCOL;
    }
    if (g->state == GROUP_PREPARING) {
        return GROUP_REBALANCING;
    }
    if (s->protocol.ptr && !str_eq(s->protocol, g->protocol)) {
        return GROUP_INCONSISTENT_PROTOCOL;
    }
    return GROUP_OK;
}

void step_sync(struct group *g, const struct group_event *e, const struct group_env *env,
               struct group_effects *fx)
{
    struct group_member *m;
    enum group_error error = check_sync(g, &e->sync, &m);
    if (error) {
        fx_answer(fx, e->token, error);
        return;
    }
    settle_sync(g, m);
    member_touch(g, m, env);
    if (g->state == GROUP_STABLE) {
        answer_sync(g, m, e->token, fx);
        return;
    }
    check(g->state == GROUP_COMPLETING); /* invariant 1: an empty group has no member to get here */
    member_park_sync(m, e->token, fx);
    if (str_eq(g->leader, m->id) && !g->sync_writing) {
        write_assignments(g, &e->sync, fx);
    }
}

void sync_ended(struct group *g, struct group_write *w, enum group_error error,
                const struct group_env *env, struct group_effects *fx)
{
    if (w->generation != g->generation || g->state != GROUP_COMPLETING) {
        return; /* overtaken by a rebalance: those who waited were told */
    }
    g->sync_writing = false;
    if (error) {
        fail_syncs(g, error, env, fx);
        rebalance_prepare(g, env, fx);
        return;
    }
    check(g->metadata && g->metadata->generation == g->generation);
    for (size_t i = 0; i < g->metadata->member_count; i++) {
        struct group_member *m = member_find(g, g->metadata->members[i].id);
        check(m != NULL); /* whoever comes or goes begins a rebalance */
        member_set_assignment(m, g->metadata->members[i].assignment);
        member_weigh(g, m);
    }
    set_state(g, GROUP_STABLE, env);
    for (struct map_entry *e = map_first(&g->members); e; e = map_next(e)) {
        struct group_member *m = map_value(e);
        if (m->sync_token) {
            answer_sync(g, m, m->sync_token, fx);
            m->sync_token = 0;
            member_touch(g, m, env);
        }
    }
}

/* ---- time ---- */

static bool can_expire(const struct group_member *m)
{
    return m->is_new || (!m->join_token && !m->sync_token);
}

static bool expire_members(struct group *g, int64_t now_ms, struct group_effects *fx)
{
    bool removed = false;
    struct map_entry *after;
    for (struct map_entry *e = map_first(&g->pending); e; e = after) {
        after = map_next(e);
        struct group_pending *p = map_value(e);
        if (p->deadline_ms <= now_ms) {
            struct bytes id = map_key(e);
            pending_remove(g, (struct str){.ptr = (const char *)id.ptr, .len = id.len});
            removed = true;
        }
    }
    bool only_pending = removed;
    for (struct map_entry *e = map_first(&g->members); e; e = after) {
        after = map_next(e);
        struct group_member *m = map_value(e);
        if (m->deadline_ms <= now_ms && can_expire(m)) {
            member_remove(g, m, GROUP_UNKNOWN_MEMBER, fx);
            removed = true;
            only_pending = false;
        }
    }
    /* a forgotten id holds up a running join phase, it does not begin one */
    return removed && !(only_pending && g->state != GROUP_PREPARING);
}

static void phase_over(struct group *g, const struct group_env *env, struct group_effects *fx)
{
    g->phase_ms = NEVER_MS;
    if (g->state == GROUP_PREPARING) {
        if (g->initial) {
            initial_delay_over(g, env, fx);
        } else {
            complete_join(g, env, fx);
        }
        return;
    }
    struct map_entry *after;
    for (struct map_entry *e = map_first(&g->members); e; e = after) {
        after = map_next(e);
        struct group_member *m = map_value(e);
        if (m->owes_sync) {
            member_remove(g, m, GROUP_UNKNOWN_MEMBER, fx);
        }
    }
    rebalance_prepare(g, env, fx);
}

/* Until then heartbeats only move deadlines away, so wake_ms may be too early, never too late; here
 * it is made exact. */
static void set_wake(struct group *g)
{
    g->wake_ms = g->phase_ms;
    for (struct map_entry *e = map_first(&g->pending); e; e = map_next(e)) {
        wake_at(g, ((const struct group_pending *)map_value(e))->deadline_ms);
    }
    for (struct map_entry *e = map_first(&g->members); e; e = map_next(e)) {
        const struct group_member *m = map_value(e);
        if (can_expire(m)) {
            wake_at(g, m->deadline_ms);
        }
    }
}

void step_tick(struct group *g, const struct group_env *env, struct group_effects *fx)
{
    if (env->now_ms < g->wake_ms) {
        return;
    }
    if (expire_members(g, env->now_ms, fx)) {
        rebalance_after_removal(g, env, fx);
    }
    while (g->phase_ms <=
           env->now_ms) { /* twice at most: then it is in the future, or the group is empty */
        phase_over(g, env, fx);
    }
    set_wake(g);
}

/* The consumer group's states:
 *
 *              first join                 all joined, or time is up
 *     EMPTY -----------------> PREPARING ---------------------------> COMPLETING
 *       ^                       ^     |                                |      |
 *       |    nobody is left     |     |          join, leave, expiry   |      | the leader's
 * assignments
 *       +-----------------------|-----+      <-------------------------+      | are durable
 *                               |                                             v
 *                               +----------- join, leave, expiry ---------- STABLE
 *
 * EMPTY -> PREPARING waits out the initial delay, whoever is there. PREPARING ends in COMPLETING
 * with a new generation, or in EMPTY (a new generation too). A refused append of the assignments
 * leads from COMPLETING back to PREPARING.
 *
 * Invariants (group_verify checks them; check() calls cite them):
 *  1. EMPTY has no members; COMPLETING and STABLE have some.
 *  2. joining_count members have a parked join, owing_count owe a sync; no member has both a join
 * and a sync parked.
 *  3. A join is parked only in PREPARING, a sync only in COMPLETING, and a sync is owed only in
 * COMPLETING and STABLE.
 *  4. The leader is a member, or there is none and no member either.
 *  5. Every static member is in `instances` under its group.instance.id, and nobody else is.
 *  6. Some protocol is known to all members, and in COMPLETING and STABLE the chosen one is.
 *  7. No pending id is a member.
 *  8. generation >= the lasting generation (but where it wrapped at INT32_MAX).
 *  9. In STABLE, with no append under way, the lasting metadata are what group_snapshot would
 * write, state_ms apart.
 * 10. wake_ms is not later than any deadline in force.
 * 11. An offset entry is stored or has commits under way; offset_count are stored.
 * 12. weight is what all of it adds up to.
 * 13. Only group_apply changes `metadata` and what is stored in `topics`.
 */
#include "broker/group/group.h"

#include "base/check.h"
#include "base/mem.h"
#include "broker/group/internal.h"

const char *group_state_name(enum group_state s)
{
    static const char *const names[GROUP_STATE_COUNT] = {
        [GROUP_EMPTY] = "Empty",
        [GROUP_PREPARING] = "PreparingRebalance",
        [GROUP_COMPLETING] = "CompletingRebalance",
        [GROUP_STABLE] = "Stable",
    };
    check(s < GROUP_STATE_COUNT);
    return names[s];
}

const char *group_error_text(enum group_error e)
{
    static const char *const texts[GROUP_ERROR_COUNT] = {
        [GROUP_OK] = "ok",
        [GROUP_UNKNOWN_MEMBER] = "unknown member",
        [GROUP_ILLEGAL_GENERATION] = "illegal generation",
        [GROUP_REBALANCING] = "rebalance in progress",
        [GROUP_INCONSISTENT_PROTOCOL] = "inconsistent protocol",
        [GROUP_FENCED_INSTANCE] = "fenced instance id",
        [GROUP_MEMBER_ID_REQUIRED] = "member id required",
        [GROUP_FULL] = "group is full",
        [GROUP_BAD_SESSION_TIMEOUT] = "session timeout out of bounds",
        [GROUP_NOT_EMPTY] = "group is not empty",
        [GROUP_NOT_AVAILABLE] = "append refused",
        [GROUP_TOO_LARGE] = "too large",
        [GROUP_NOT_FOUND] = "no such group",
        [GROUP_LOADING] = "loading",
        [GROUP_INVALID_ID] = "invalid group id",
        [GROUP_WRONG_COORDINATOR] = "not the coordinator",
    };
    check(e < GROUP_ERROR_COUNT);
    return texts[e];
}

struct group *group_create(struct str id, uint64_t seed)
{
    struct group *g = mem_need_zero(1, sizeof *g);
    g->id = str_own(id);
    g->seed = seed;
    g->weight = weigh_group(id);
    map_init(&g->topics, seed);
    map_init(&g->members, seed);
    map_init(&g->instances, seed);
    map_init(&g->pending, seed);
    map_init(&g->subscribed, seed);
    g->subscribed_known = true;
    list_init(&g->writes);
    list_init(&g->returns);
    g->next_write_id = 1;
    g->state_ms = -1;
    g->phase_ms = NEVER_MS;
    g->wake_ms = NEVER_MS;
    return g;
}

void group_destroy(struct group *g)
{
    if (!g) {
        return;
    }
    list_splice(&g->writes, &g->returns);
    for (struct list *link; (link = list_pop(&g->writes));) {
        write_destroy(list_entry(link, struct group_write, link));
    }
    for (struct map_entry *e = map_first(&g->members); e; e = map_next(e)) {
        member_destroy(map_value(e));
    }
    for (struct map_entry *e = map_first(&g->pending); e; e = map_next(e)) {
        mem_free(map_value(e));
    }
    offsets_finish(g);
    map_finish(&g->members);
    map_finish(&g->instances);
    map_finish(&g->pending);
    map_finish(&g->subscribed);
    mem_free(g->metadata);
    str_disown(&g->protocol_type);
    str_disown(&g->protocol);
    str_disown(&g->leader);
    str_disown(&g->id);
    mem_free(g);
}

void group_apply(struct group *g, const struct group_record *record)
{
    if (record->kind == GROUP_RECORD_OFFSET || record->kind == GROUP_RECORD_OFFSET_TOMBSTONE) {
        offset_apply(g, record);
        return;
    }
    struct group_metadata *before = g->metadata;
    g->metadata = record->kind == GROUP_RECORD_METADATA ? metadata_copy(record->metadata) : NULL;
    g->weight += metadata_size(g->metadata) - metadata_size(before);
    mem_free(before);
}

/* After the replay: the members of the log are taken to be alive until their session times out. */
static void step_loaded(struct group *g, const struct group_env *env)
{
    check(g->state == GROUP_EMPTY && map_count(&g->members) == 0);
    const struct group_metadata *metadata = g->metadata;
    if (!metadata) {
        return;
    }
    g->generation = metadata->generation;
    g->state_ms = metadata->state_ms;
    str_replace(&g->protocol_type, metadata->protocol_type);
    str_replace(&g->protocol, metadata->protocol);
    for (size_t i = 0; i < metadata->member_count; i++) {
        const struct group_member_record *r = &metadata->members[i];
        struct group_protocol protocol = {.name = metadata->protocol, .metadata = r->subscription};
        struct group_join j = {
            .instance_id = r->instance_id,
            .client_id = r->client_id,
            .client_host = r->client_host,
            .protocol_type = metadata->protocol_type,
            .protocols = &protocol,
            .protocol_count = 1,
            .session_timeout_ms = r->session_timeout_ms,
            .rebalance_timeout_ms = r->rebalance_timeout_ms,
        };
        struct group_member *m = member_create(&j, r->id);
        member_set_assignment(m, r->assignment);
        member_add(g, m);
        member_touch(g, m, env);
    }
    if (metadata->member_count) {
        str_replace(&g->leader, metadata->leader);
        g->state = GROUP_STABLE;
    }
    subscribed_compute(g);
}

static void step_heartbeat(struct group *g, const struct group_event *e,
                           const struct group_env *env, struct group_effects *fx)
{
    const struct group_heartbeat *h = &e->heartbeat;
    struct group_member *m;
    enum group_error error = member_validate(g, h->member_id, h->instance_id, &m);
    if (!error && h->generation != g->generation) {
        error = GROUP_ILLEGAL_GENERATION;
    }
    if (!error) {
        member_touch(g, m, env);
        error = g->state == GROUP_PREPARING ? GROUP_REBALANCING : GROUP_OK;
    }
    fx_answer(fx, e->token, error);
}

static enum group_error leave_one(struct group *g, const struct group_leaver *l,
                                  struct group_effects *fx)
{
    if (l->member_id.len && pending_remove(g, l->member_id)) {
        return GROUP_OK;
    }
    struct group_member *m = NULL;
    if (l->member_id.len == 0) {
        m = l->instance_id.ptr ? map_get_str(&g->instances, l->instance_id) : NULL;
        if (!m) {
            return GROUP_UNKNOWN_MEMBER;
        }
    } else {
        enum group_error error = member_validate(g, l->member_id, l->instance_id, &m);
        if (error) {
            return error;
        }
    }
    member_remove(g, m, GROUP_UNKNOWN_MEMBER, fx);
    return GROUP_OK;
}

static void answer_leave(struct group_effects *fx, uint64_t token, enum group_error error,
                         const enum group_error *errors, size_t count)
{
    enum group_error *copy = fx_alloc(fx, count * sizeof *copy);
    if (count) {
        memcpy(copy, errors, count * sizeof *copy);
    }
    struct group_answer *a = fx_answer(fx, token, error);
    a->leave_errors = copy;
    a->leave_count = count;
}

static void step_leave(struct group *g, const struct group_event *e, const struct group_env *env,
                       struct group_effects *fx)
{
    const struct group_leave *l = &e->leave;
    enum group_error *errors = fx_alloc(fx, l->leaver_count * sizeof *errors);
    size_t members_before = map_count(&g->members), pending_before = map_count(&g->pending);
    for (size_t i = 0; i < l->leaver_count; i++) {
        errors[i] = leave_one(g, &l->leavers[i], fx);
    }
    bool members_left = map_count(&g->members) != members_before;
    bool pending_left = map_count(&g->pending) != pending_before;
    uint64_t next_write_id = g->next_write_id;
    if (members_left || (pending_left && g->state == GROUP_PREPARING)) {
        rebalance_after_removal(g, env, fx);
    }
    struct group_write *w =
        list_empty(&g->writes) ? NULL : list_entry(g->writes.prev, struct group_write, link);
    if (w && w->id >= next_write_id && w->kind == WRITE_EMPTY) {
        /* Nobody is left: told when that is lasting, or a restart would wait for the departed. */
        w->token = e->token;
        w->leave_errors = mem_need_dup(errors, l->leaver_count * sizeof *errors);
        w->leave_count = l->leaver_count;
    } else {
        answer_leave(fx, e->token, GROUP_OK, errors, l->leaver_count);
    }
}

static void empty_ended(const struct group_write *w, enum group_error error,
                        struct group_effects *fx)
{
    if (w->token) {
        answer_leave(fx, w->token, error, w->leave_errors, w->leave_count);
    }
}

static void step_appended(struct group *g, const struct group_event *e, const struct group_env *env,
                          struct group_effects *fx)
{
    check(!list_empty(&g->writes));
    struct group_write *w = list_entry(g->writes.next, struct group_write, link);
    check(w->id == e->appended.write_id); /* they end in order */
    list_remove(&w->link);
    switch (w->kind) {
    case WRITE_COMMIT:
        commit_ended(g, w);
        fx_answer_if(fx, w->token, e->appended.error);
        break;
    case WRITE_SYNC: sync_ended(g, w, e->appended.error, env, fx); break;
    case WRITE_STATIC: static_return_ended(g, w, e->appended.error, env, fx); break;
    case WRITE_EMPTY: empty_ended(w, e->appended.error, fx); break;
    case WRITE_DELETE:
    case WRITE_EXPIRE: fx_answer_if(fx, w->token, e->appended.error); break;
    }
    write_destroy(w);
}

void group_step(struct group *g, const struct group_event *e, const struct group_env *env,
                struct group_effects *fx)
{
    switch (e->kind) {
    case GROUP_EVENT_LOADED: step_loaded(g, env); break;
    case GROUP_EVENT_JOIN: step_join(g, e, env, fx); break;
    case GROUP_EVENT_SYNC: step_sync(g, e, env, fx); break;
    case GROUP_EVENT_HEARTBEAT: step_heartbeat(g, e, env, fx); break;
    case GROUP_EVENT_LEAVE: step_leave(g, e, env, fx); break;
    case GROUP_EVENT_COMMIT: step_commit(g, e, env, fx); break;
    case GROUP_EVENT_DELETE_OFFSETS: step_delete_offsets(g, e, fx); break;
    case GROUP_EVENT_DELETE: step_delete(g, e, fx); break;
    case GROUP_EVENT_EXPIRE: step_expire(g, env, fx); break;
    case GROUP_EVENT_TICK: step_tick(g, env, fx); break;
    case GROUP_EVENT_APPENDED: step_appended(g, e, env, fx); break;
    case GROUP_EVENT_KIND_COUNT: check(e->kind != GROUP_EVENT_KIND_COUNT);
    }
}

bool group_is_forgettable(const struct group *g)
{
    return !g->metadata && g->offset_count == 0 && g->state == GROUP_EMPTY &&
           map_count(&g->members) == 0 && map_count(&g->pending) == 0 && list_empty(&g->writes) &&
           list_empty(&g->returns);
}

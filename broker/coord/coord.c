/* Calls, groups and their timers.
 *
 * A step of a group never calls back: its answers are copied to the calls that wait for them, and
 * those calls go to a list that is emptied at the end of the outermost coord_submit, timer or
 * completion. So a handler may submit again from its `done`, nothing is ever run inside of a step,
 * and the stack does not grow with the number of members.
 *
 * Invariants:
 *  1. A token is in `calls` from coord_submit until it is answered or forgotten.
 *  2. Appends of a group are told to it in the order they were asked for, each once, after its
 * records were applied.
 *  3. A group exists while something of it is lasting, live or under way, and no longer.
 */
#include "broker/coord/coord.h"

#include "broker/coord/internal.h"

#include <stdio.h>

enum { NEW_MEMBER_JOIN_TIMEOUT_MS = 5 * 60 * 1000, MEMBER_ID_PREFIX_MAX = 255 };

/* ---- life ---- */

void coord_set_config(struct coord *c, const struct config *config)
{
    if (c->config && c->config->offsets_retention_check_ms != config->offsets_retention_check_ms) {
        timer_disarm(c->timers, &c->expiry); /* and armed again below, where something can expire */
    }
    c->config = config;
    c->group_config = (struct group_config){
        .min_session_timeout_ms = (int32_t)config->group_min_session_timeout_ms,
        .max_session_timeout_ms = (int32_t)config->group_max_session_timeout_ms,
        .max_size = (int32_t)config->group_max_size,
        .initial_rebalance_delay_ms = (int32_t)config->group_initial_rebalance_delay_ms,
        .new_member_join_timeout_ms = NEW_MEMBER_JOIN_TIMEOUT_MS,
        .member_max_bytes = (int32_t)config->group_member_max_bytes,
        .offsets_retention_ms =
            config->offsets_retention_minutes < 0 ? -1 : config->offsets_retention_minutes * 60000,
    };
    list_each(link, &c->order)
    {
        coord_expiry_consider(list_entry(link, struct coord_group, link));
    }
}

struct coord *coord_create(const struct coord_options *options)
{
    struct coord *c = mem_need_zero(1, sizeof *c);
    c->meta = options->meta;
    c->shard = options->shard;
    c->clock = options->clock;
    c->timers = options->timers;
    c->diag = options->diag;
    rng_init(&c->rng, options->seed);
    c->seed = rng_next(&c->rng);
    map_init(&c->groups, c->seed);
    map_init(&c->calls, c->seed);
    list_init(&c->order);
    list_init(&c->waiting);
    list_init(&c->wanted);
    list_init(&c->answered);
    list_init(&c->settling);
    c->next_token = 1;
    group_effects_init(&c->fx);
    writer_init(&c->writer, SIZE_MAX);
    batch_builder_init(&c->builder);
    coord_expiry_init(c);
    coord_set_config(c, options->config);
    return c;
}

void coord_destroy(struct coord *c)
{
    if (!c) {
        return;
    }
    for (struct list *link; (link = list_pop(&c->order));) {
        coord_group_drop(list_entry(link, struct coord_group, link));
    }
    for (struct list *link; (link = list_pop(&c->waiting));) {
        struct coord_append *a = list_entry(link, struct coord_append, wait);
        buf_finish(&a->batch);
        mem_free(a);
    }
    timer_disarm(c->timers, &c->expiry);
    map_finish(&c->groups);
    map_finish(&c->calls);
    mem_free(c->refused);
    group_effects_finish(&c->fx);
    batch_builder_finish(&c->builder);
    batch_scratch_finish(&c->scratch);
    writer_finish(&c->writer);
    mem_free(c);
}

/* ---- groups ---- */

struct coord_group *coord_group_get(struct coord *c, struct str id)
{
    return map_get_str(&c->groups, id);
}

static void group_tick(struct timer *timer)
{
    struct coord_group *cg = list_entry(timer, struct coord_group, timer);
    struct coord *c = cg->coord;
    coord_run(cg, &(struct group_event){.kind = GROUP_EVENT_TICK});
    coord_drain(c);
}

struct coord_group *coord_group_make(struct coord *c, struct str id)
{
    struct coord_group *cg = mem_need_zero(1, sizeof *cg);
    cg->g = group_create(id, c->seed);
    cg->coord = c;
    list_init(&cg->appends);
    timer_init(&cg->timer, group_tick);
    list_push(&c->order, &cg->link);
    check(map_put_str(&c->groups, id, cg) == OK);
    coord_group_weigh(cg);
    return cg;
}

void coord_group_weigh(struct coord_group *cg)
{
    cg->coord->weight += cg->g->weight - cg->weight;
    cg->weight = cg->g->weight;
}

void coord_group_drop(struct coord_group *cg)
{
    struct coord *c = cg->coord;
    map_remove_str(&c->groups, cg->g->id);
    list_remove(&cg->link);
    list_remove(&cg->settle);
    timer_disarm(c->timers, &cg->timer);
    coord_appends_forget(cg);
    c->weight -= cg->weight;
    group_destroy(cg->g);
    mem_free(cg);
}

const struct group *coord_find(const struct coord *c, struct str group_id)
{
    const struct coord_group *cg = map_get_str(&c->groups, group_id);
    return cg ? cg->g : NULL;
}

size_t coord_group_count(const struct coord *c)
{
    return map_count(&c->groups);
}

size_t coord_weight(const struct coord *c)
{
    return c->weight;
}

static const struct group *group_at(const struct coord *c, const struct list *link)
{
    return link == &c->order ? NULL : list_entry(link, struct coord_group, link)->g;
}

const struct group *coord_group_first(const struct coord *c)
{
    return group_at(c, c->order.next);
}

const struct group *coord_group_next(const struct coord *c, const struct group *g)
{
    const struct coord_group *cg = map_get_str(&c->groups, g->id);
    check(cg && cg->g == g);
    return group_at(c, cg->link.next);
}

/* ---- answers ---- */

static bool copy_str(struct arena *a, struct str *s)
{
    if (!s->ptr) {
        return true;
    }
    s->ptr = arena_dup(a, s->ptr, s->len);
    return s->ptr != NULL;
}

static bool copy_bytes(struct arena *a, struct bytes *b)
{
    if (!b->ptr) {
        return true;
    }
    b->ptr = arena_dup(a, b->ptr, b->len);
    return b->ptr != NULL;
}

static bool copy_members(struct arena *a, struct group_answer *to)
{
    if (!to->member_count) {
        return true;
    }
    struct group_answer_member *members =
        arena_dup(a, to->members, to->member_count * sizeof *members);
    if (!members) {
        return false;
    }
    for (size_t i = 0; i < to->member_count; i++) {
        if (!copy_str(a, &members[i].member_id) || !copy_str(a, &members[i].instance_id) ||
            !copy_bytes(a, &members[i].metadata)) {
            return false;
        }
    }
    to->members = members;
    return true;
}

static bool copy_answer(struct arena *a, struct group_answer *to, const struct group_answer *from)
{
    *to = *from;
    if (to->leave_count) {
        to->leave_errors =
            arena_dup(a, to->leave_errors, to->leave_count * sizeof *to->leave_errors);
        if (!to->leave_errors) {
            return false;
        }
    }
    return copy_str(a, &to->member_id) && copy_str(a, &to->protocol_type) &&
           copy_str(a, &to->protocol) && copy_str(a, &to->leader) &&
           copy_bytes(a, &to->assignment) && copy_members(a, to);
}

/* Nobody may wait any more: then the answer goes nowhere. */
static void deliver(struct coord *c, const struct group_answer *answer)
{
    struct coord_call *call = map_remove(&c->calls, &answer->token, sizeof answer->token);
    if (!call) {
        return;
    }
    call->token = 0;
    call->error = copy_answer(call->arena, &call->answer, answer) ? OK : arena_error(call->arena);
    list_push(&c->answered, &call->link);
}

void coord_drain(struct coord *c)
{
    if (c->draining) {
        return;
    }
    c->draining = true;
    for (;;) {
        struct list *link;
        if ((link = list_pop(&c->settling))) {
            coord_settle(list_entry(link, struct coord_group, settle));
        } else if ((link = list_pop(&c->answered))) {
            struct coord_call *call = list_entry(link, struct coord_call, link);
            call->done(call);
        } else {
            break;
        }
    }
    c->draining = false;
}

/* ---- steps ---- */

static void arm(struct coord_group *cg)
{
    struct coord *c = cg->coord;
    if (c->stopping || cg->g->wake_ms == INT64_MAX) {
        timer_disarm(c->timers, &cg->timer);
    } else {
        timer_arm(c->timers, &cg->timer, cg->g->wake_ms);
    }
}

bool coord_run(struct coord_group *cg, const struct group_event *event)
{
    struct coord *c = cg->coord;
    struct group_env env = {
        .config = &c->group_config,
        .now_ms = clock_mono_ms(c->clock),
        .wall_ms = clock_wall_ms(c->clock),
    };
    group_step(cg->g, event, &env, &c->fx);
    coord_group_weigh(cg);
    for (size_t i = 0; i < c->fx.append_count; i++) {
        coord_append_submit(cg, &c->fx.appends[i]);
    }
    for (size_t i = 0; i < c->fx.answer_count; i++) {
        deliver(c, &c->fx.answers[i]);
    }
    group_effects_reset(&c->fx);
    if (group_is_forgettable(cg->g)) {
        coord_group_drop(cg);
        return false;
    }
    arm(cg);
    coord_expiry_consider(cg);
    return true;
}

/* ---- requests ---- */

int32_t coord_shard_of(const struct coord *c, struct str group_id)
{
    const struct shards *all = c->shard->all;
    int32_t count = c->partition_count ? c->partition_count /* or what it will be made with */
                                       : (int32_t)c->config->offsets_topic_partitions;
    return all->count == 1 ? 0 : shard_of_internal(all, coord_partition_of(group_id, count));
}

enum group_error coord_check(const struct coord *c, struct str group_id)
{
    if (!group_id.ptr) {
        return GROUP_INVALID_ID;
    }
    if (c->stopping) {
        return GROUP_WRONG_COORDINATOR;
    }
    if (c->refused_count && c->refused[coord_partition_of(group_id, c->partition_count)]) {
        return GROUP_LOADING;
    }
    return GROUP_OK;
}

/* "<prefix>-<random uuid>", as Kafka's; a very long client id is cut between two characters. */
static struct str make_member_id(struct coord *c, const struct group_join *join)
{
    struct str prefix = join->instance_id.ptr ? join->instance_id : join->client_id;
    size_t len = prefix.len;
    if (len > MEMBER_ID_PREFIX_MAX) {
        for (len = MEMBER_ID_PREFIX_MAX; len > 0 && ((uint8_t)prefix.ptr[len] & 0xc0) == 0x80;) {
            len--;
        }
    }
    uint8_t u[16];
    rng_bytes(&c->rng, u, sizeof u);
    u[6] = (uint8_t)(0x40 | (u[6] & 0x0f));
    u[8] = (uint8_t)(0x80 | (u[8] & 0x3f));
    char *id = arena_printf(
        &c->fx.arena, "%.*s-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
        (int)len, prefix.ptr ? prefix.ptr : "", u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7],
        u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
    check(id != NULL);
    return str_of(id);
}

/* What an event for a group that does not exist is answered; GROUP_OK: the event makes the group.
 */
static enum group_error without_group(const struct coord *c, const struct group_event *event)
{
    bool full = map_count(&c->groups) >= (size_t)c->config->groups_max;
    switch (event->kind) {
    case GROUP_EVENT_JOIN:
        return event->join.member_id.len ? GROUP_UNKNOWN_MEMBER
               : full                    ? GROUP_NOT_AVAILABLE
                                         : GROUP_OK;
    case GROUP_EVENT_COMMIT:
        return event->commit.generation >= 0 ? GROUP_ILLEGAL_GENERATION
               : full                        ? GROUP_NOT_AVAILABLE
                                             : GROUP_OK;
    case GROUP_EVENT_SYNC:
    case GROUP_EVENT_HEARTBEAT:
    case GROUP_EVENT_LEAVE: return GROUP_UNKNOWN_MEMBER;
    default: return GROUP_NOT_FOUND;
    }
}

/* Events that add nothing have room however much there is: members live on, offsets move. */
static enum group_error find_room(struct coord *c, const struct group *g, struct str id,
                                  const struct group_event *event)
{
    size_t limit = (size_t)c->config->groups_memory_max_bytes;
    size_t more = group_growth(g, id, event);
    if (more == 0) {
        return GROUP_OK;
    }
    if (c->weight <= limit && more <= limit - c->weight) {
        c->heavy = false;
        return GROUP_OK;
    }
    if (!c->heavy) {
        c->heavy = true;
        diag_log(c->diag, DIAG_WARN, "groups_memory_full",
                 "limit=rivulet.groups.memory.max.bytes bytes=%zu groups=%zu", c->weight,
                 map_count(&c->groups));
    }
    return event->kind == GROUP_EVENT_JOIN ? GROUP_FULL : GROUP_NOT_AVAILABLE;
}

static bool answer_now(struct coord_call *call, const struct group_event *event,
                       enum group_error error)
{
    call->answer = (struct group_answer){
        .error = error, .generation = -1, .member_id = STR(""), .leader = STR("")};
    if (event->kind == GROUP_EVENT_JOIN && event->join.member_id.ptr) {
        call->answer.member_id = event->join.member_id;
    }
    call->error = copy_str(call->arena, &call->answer.member_id) ? OK : arena_error(call->arena);
    return true;
}

bool coord_submit(struct coord *c, struct str group_id, struct group_event *event,
                  struct coord_call *call)
{
    call->token = 0;
    call->kind = event->kind;
    call->link = (struct list){0};
    enum group_error error = coord_check(c, group_id);
    if (error) {
        return answer_now(call, event, error);
    }
    struct coord_group *cg = coord_group_get(c, group_id);
    error = cg ? GROUP_OK : without_group(c, event);
    error = error ? error : find_room(c, cg ? cg->g : NULL, group_id, event);
    if (error) {
        return answer_now(call, event, error);
    }
    cg = cg ? cg : coord_group_make(c, group_id);
    call->token = event->token = c->next_token++;
    check(map_put(&c->calls, &call->token, sizeof call->token, call) == OK);
    if (event->kind == GROUP_EVENT_JOIN) {
        event->join.new_member_id = make_member_id(c, &event->join);
    }
    coord_run(cg, event);
    /* An append that was refused at once ends here, and may answer: that is no call of `done`. */
    for (struct list *link; !c->draining && (link = list_pop(&c->settling));) {
        coord_settle(list_entry(link, struct coord_group, settle));
    }
    bool answered = call->token == 0;
    if (answered) {
        list_remove(&call->link);
    }
    coord_drain(c);
    return answered;
}

void coord_forget(struct coord *c, struct coord_call *call)
{
    if (call->token) {
        check(map_remove(&c->calls, &call->token, sizeof call->token) == call);
        call->token = 0;
    }
    list_remove(&call->link);
}

void coord_stop(struct coord *c)
{
    c->stopping = true;
    timer_disarm(c->timers, &c->expiry);
    list_each(link, &c->order)
    {
        timer_disarm(c->timers, &list_entry(link, struct coord_group, link)->timer);
    }
    for (struct map_entry *e = map_first(&c->calls), *after; e; e = after) {
        after = map_next(e);
        struct coord_call *call = map_value(e);
        if (call->kind == GROUP_EVENT_JOIN || call->kind == GROUP_EVENT_SYNC) {
            deliver(c, &(struct group_answer){.token = call->token,
                                              .error = GROUP_WRONG_COORDINATOR,
                                              .generation = -1,
                                              .member_id = STR(""),
                                              .leader = STR("")});
        }
    }
    coord_drain(c);
}

/* The member of a consumer group.
 *
 *   OUT --rv_subscribe--> PREPARE --rv_poll--> JOIN --we lead--> DEAL --> SYNC --> DEALT
 *                            ^                   |--else------------------^          |
 *                            |                                                    rv_poll
 *                            +---- rebalance, or lost (then RV_LOST first) ---- IN <-+
 *
 * PREPARE and DEALT are where partitions go and come, with the user's callbacks: only rv_poll
 * leaves them. All else goes on in every call of the client, heartbeats too.
 *
 * Eager (some assignor is): everything is given up in PREPARE. Cooperative (all are): everything is
 * kept; in DEALT goes what others shall get, and then we join again so that they do.
 */
#include "client/consumer.h"

#include "base/mem.h"
#include "gen/consumer_protocol_assignment.h"
#include "gen/heartbeat.h"
#include "gen/join_group.h"
#include "gen/leave_group.h"
#include "gen/sync_group.h"
#include "protocol/error.h"

#include <stdio.h>
#include <string.h>

enum {
    JOIN_INSTANCE_SINCE = 5,
    SYNC_INSTANCE_SINCE = 3,
    SYNC_PROTOCOL_SINCE = 5,
    HEARTBEAT_INSTANCE_SINCE = 3,
    LEAVE_MEMBERS_SINCE = 3,
    REBALANCE_GRACE_MS = 5000, /* longer than the broker waits for the others */
    MEMBER_ARENA_LIMIT = 256 << 20,
};

static const char *group_of(const struct rv_consumer *c)
{
    return c->settings.texts[OPT_GROUP_ID];
}

static const char *instance_of(const struct rv_consumer *c)
{
    return c->settings.texts[OPT_GROUP_INSTANCE_ID];
}

static bool is_static(const struct rv_consumer *c)
{
    return instance_of(c)[0] != 0;
}

static void member_go(struct rv_consumer *c, enum member_state state)
{
    c->member.state = state;
    c->client->again = true;
}

/* ---- the end of a membership ---- */

static void calls_stop(struct member *m)
{
    call_cancel(&m->call);
    call_cancel(&m->heartbeat);
    frame_unref(m->frame);
    m->frame = NULL;
    m->joined = NULL;
    m->deal_count = 0;
}

static void member_forget(struct member *m, bool id_too)
{
    m->generation = -1;
    m->leads = false;
    m->rejoin = false;
    m->watch_count = 0;
    if (id_too) {
        mem_free(m->id);
        m->id = NULL;
    }
}

/* For good, until rv_subscribe. */
static void member_fail(struct rv_consumer *c, int code)
{
    struct member *m = &c->member;
    m->code = code;
    m->lost = true;
    calls_stop(m);
    member_forget(m, true);
    member_go(c, MEMBER_FAILED);
}

void member_lost(struct rv_consumer *c, int code, const char *why)
{
    struct member *m = &c->member;
    if (m->state == MEMBER_OUT || m->state == MEMBER_FAILED) {
        return;
    }
    client_log(c->client, RV_WARN, "group %s: not a member any more: %s: %s", group_of(c), why,
               error_about(code));
    if (code == KERR_FENCED_INSTANCE_ID) {
        member_fail(c, code);
        return;
    }
    m->lost = true;
    calls_stop(m);
    member_forget(m, code != KERR_ILLEGAL_GENERATION);
    member_go(c, MEMBER_PREPARE);
}

/* ---- leave ---- */

static int leave_fill(struct call *call, struct arena *a, void *request)
{
    struct rv_consumer *c = list_entry(call, struct rv_consumer, member.leave);
    struct leave_group_request *r = request;
    r->group_id = str_of(group_of(c));
    if (call->version < LEAVE_MEMBERS_SINCE) {
        r->member_id = str_of(c->member.leave_id);
        return RV_OK;
    }
    r->members = wire_array(a, &leave_group_request_member_table, 1);
    if (!r->members) {
        return RV_E_MEMORY;
    }
    r->members_count = 1;
    r->members[0].member_id = str_of(c->member.leave_id);
    r->members[0].reason = c->closing ? STR("the consumer closes")
                                      : STR("the consumer unsubscribed, or was not polled");
    return RV_OK;
}

static void leave_done(struct call *call, const struct answer *answer)
{
    struct rv_consumer *c = list_entry(call, struct rv_consumer, member.leave);
    const struct leave_group_response *r = answer->body;
    int code = answer->code != RV_OK ? answer->code : r->error_code;
    if (code != RV_OK) {
        client_log(c->client, RV_INFO, "group %s: leaving: %s", group_of(c), error_about(code));
    }
}

/* Says so if it can be said at once. Its own lane may be held up by a join: the control lane. */
static void leave_send(struct rv_consumer *c)
{
    struct member *m = &c->member;
    struct conn *k =
        m->id && !is_static(c) && !call_busy(&m->leave) ? coord_conn(c, LANE_CONTROL) : NULL;
    if (!k) {
        return;
    }
    mem_free(m->leave_id);
    m->leave_id = m->id;
    m->id = NULL;
    m->leave = (struct call){.api = wire_api_find(13), .fill = leave_fill, .done = leave_done};
    call_submit(k, &m->leave, setting(c->client, OPT_REQUEST_TIMEOUT_MS));
}

void member_leave(struct rv_consumer *c, int64_t deadline_ms)
{
    struct member *m = &c->member;
    calls_stop(m);
    leave_send(c);
    while (call_busy(&m->leave) && client_turn_until(c->client, deadline_ms)) {
    }
    call_cancel(&m->leave);
    member_forget(m, true);
    m->lost = false;
    m->state = MEMBER_OUT;
    timer_disarm(&c->client->timers, &m->poll_timer);
}

/* ---- max.poll.interval.ms ---- */

static void poll_overdue(struct timer *timer)
{
    struct rv_consumer *c = list_entry(timer, struct rv_consumer, member.poll_timer);
    struct member *m = &c->member;
    if (m->state == MEMBER_OUT || m->state == MEMBER_FAILED) {
        return;
    }
    leave_send(c);
    /* A static member is not said to leave: its session runs out, or it is back before. */
    member_lost(c, is_static(c) ? KERR_ILLEGAL_GENERATION : KERR_UNKNOWN_MEMBER_ID,
                "rv_poll was not called for max.poll.interval.ms");
}

void member_polled(struct rv_consumer *c)
{
    struct timer *timer = &c->member.poll_timer;
    int64_t now = client_now(c->client);
    if (!is_member(c)) {
        return;
    }
    if (timer_armed(timer) && timer->deadline_ms <= now) {
        timer_disarm(&c->client->timers, timer);
        poll_overdue(timer);
    }
    timer_arm(&c->client->timers, timer, now + option(c, OPT_MAX_POLL_INTERVAL_MS));
}

/* ---- heartbeat ---- */

static int heartbeat_fill(struct call *call, struct arena *a, void *request)
{
    struct rv_consumer *c = list_entry(call, struct rv_consumer, member.heartbeat);
    struct heartbeat_request *r = request;
    (void)a;
    r->group_id = str_of(group_of(c));
    r->generation_id = c->member.generation;
    r->member_id = str_of(c->member.id ? c->member.id : "");
    if (is_static(c) && call->version >= HEARTBEAT_INSTANCE_SINCE) {
        r->group_instance_id = str_of(instance_of(c));
    }
    return RV_OK;
}

static bool is_end_of_membership(int code)
{
    return code == KERR_UNKNOWN_MEMBER_ID || code == KERR_ILLEGAL_GENERATION ||
           code == KERR_FENCED_INSTANCE_ID;
}

static void heartbeat_done(struct call *call, const struct answer *answer)
{
    struct rv_consumer *c = list_entry(call, struct rv_consumer, member.heartbeat);
    struct member *m = &c->member;
    const struct heartbeat_response *r = answer->body;
    int code = answer->code != RV_OK ? answer->code : r->error_code;
    if (m->heartbeat_generation != m->generation || code == RV_OK) {
        return;
    }
    if (code == KERR_REBALANCE_IN_PROGRESS) {
        m->rejoin |= m->state == MEMBER_IN || m->state == MEMBER_DEALT;
        return;
    }
    if (is_end_of_membership(code)) {
        member_lost(c, code, "heartbeat");
        return;
    }
    if (error_is_coordinator(code)) {
        coord_lost(c);
    } else if (code != RV_E_MEMORY && !error_is_retriable(code)) {
        member_fail(c, code);
        return;
    }
    m->heartbeat_at_ms = consumer_backoff(c, 0);
}

static void heartbeat_pump(struct rv_consumer *c)
{
    struct member *m = &c->member;
    int64_t now = client_now(c->client);
    /* Behind a join or a sync it would wait as long as those; they count as one. */
    bool lives = m->generation >= 0 && m->id && !m->lost && m->state != MEMBER_JOIN &&
                 m->state != MEMBER_SYNC;
    if (!lives || call_busy(&m->heartbeat)) {
        return;
    }
    if (now < m->heartbeat_at_ms) {
        consumer_wake(c, m->heartbeat_at_ms);
        return;
    }
    struct conn *k = coord_conn(c, c->group_lane);
    if (k) {
        int64_t most = setting(c->client, OPT_REQUEST_TIMEOUT_MS);
        int64_t session = option(c, OPT_SESSION_TIMEOUT_MS);
        m->heartbeat =
            (struct call){.api = wire_api_find(12), .fill = heartbeat_fill, .done = heartbeat_done};
        m->heartbeat_generation = m->generation;
        m->heartbeat_at_ms = now + option(c, OPT_HEARTBEAT_INTERVAL_MS);
        call_submit(k, &m->heartbeat, session < most ? session : most);
    }
}

/* ---- join ---- */

static int join_fill(struct call *call, struct arena *a, void *request)
{
    struct rv_consumer *c = list_entry(call, struct rv_consumer, member.call);
    const struct member *m = &c->member;
    struct join_group_request *r = request;
    (void)call;
    r->group_id = str_of(group_of(c));
    r->session_timeout_ms = (int32_t)option(c, OPT_SESSION_TIMEOUT_MS);
    r->rebalance_timeout_ms = (int32_t)option(c, OPT_MAX_POLL_INTERVAL_MS);
    r->member_id = str_of(m->id ? m->id : "");
    if (is_static(c)) {
        r->group_instance_id = str_of(instance_of(c));
    }
    r->protocol_type = STR("consumer");
    r->protocols = wire_array(a, &join_group_request_protocol_table, m->assignor_count);
    if (!r->protocols) {
        return RV_E_MEMORY;
    }
    r->protocols_count = m->assignor_count;
    for (int i = 0; i < m->assignor_count; i++) {
        r->protocols[i].name = str_of(assignor_name(m->assignors[i]));
        int code = subscription_write(c, m->assignors[i], a, &r->protocols[i].metadata);
        if (code != RV_OK) {
            return code;
        }
    }
    return RV_OK;
}

static bool id_take(struct member *m, struct str id)
{
    char *copy = mem_zero(1, id.len + 1);
    if (!copy) {
        return false;
    }
    memcpy(copy, id.ptr, id.len);
    mem_free(m->id);
    m->id = copy;
    return true;
}

/* Neither taken in nor refused for good: again, after a pause. */
static void join_retry(struct rv_consumer *c, int code)
{
    struct member *m = &c->member;
    if (error_is_coordinator(code)) {
        coord_lost(c);
    }
    client_log(c->client, RV_INFO, "group %s: joining: %s", group_of(c), error_about(code));
    m->not_before_ms = consumer_backoff(c, m->failures++);
    member_go(c, MEMBER_JOIN);
}

static void join_refused(struct rv_consumer *c, int code)
{
    if (is_end_of_membership(code)) {
        member_lost(c, code, "join");
    } else if (code == KERR_REBALANCE_IN_PROGRESS || error_is_coordinator(code) ||
               error_is_retriable(code)) {
        join_retry(c, code);
    } else {
        member_fail(c, code);
    }
}

static void join_done(struct call *call, const struct answer *answer)
{
    struct rv_consumer *c = list_entry(call, struct rv_consumer, member.call);
    struct member *m = &c->member;
    const struct join_group_response *r = answer->body;
    int code = answer->code != RV_OK ? answer->code : r->error_code;
    if (code == KERR_MEMBER_ID_REQUIRED) {
        if (id_take(m, r->member_id)) {
            member_go(c, MEMBER_JOIN);
        } else {
            join_retry(c, RV_E_MEMORY);
        }
        return;
    }
    if (code != RV_OK) {
        join_refused(c, code);
        return;
    }
    if (!assignor_find(r->protocol_name, &m->assignor)) {
        member_fail(c, KERR_INCONSISTENT_GROUP_PROTOCOL);
        return;
    }
    if (!id_take(m, r->member_id)) {
        join_retry(c, RV_E_MEMORY);
        return;
    }
    m->generation = r->generation_id;
    m->leads = str_eq(r->leader, r->member_id);
    m->skip_deal = r->skip_assignment;
    m->failures = 0;
    m->watch_count = 0;
    m->joined = r;
    m->frame = frame_ref(answer->frame);
    m->heartbeat_at_ms = client_now(c->client) + option(c, OPT_HEARTBEAT_INTERVAL_MS);
    client_log(c->client, RV_DEBUG, "group %s: member %s of generation %d, %s%s", group_of(c),
               m->id, (int)m->generation, assignor_name(m->assignor), m->leads ? ", leads" : "");
    member_go(c, m->leads ? MEMBER_DEAL : MEMBER_SYNC);
}

static int64_t rebalance_timeout(const struct rv_consumer *c)
{
    int64_t most = option(c, OPT_MAX_POLL_INTERVAL_MS) + REBALANCE_GRACE_MS;
    int64_t least = setting(c->client, OPT_REQUEST_TIMEOUT_MS);
    return most > least ? most : least;
}

static void join_pump(struct rv_consumer *c)
{
    struct member *m = &c->member;
    if (call_busy(&m->call)) {
        return;
    }
    if (client_now(c->client) < m->not_before_ms) {
        consumer_wake(c, m->not_before_ms);
        return;
    }
    struct conn *k = coord_conn(c, c->group_lane);
    if (!k) {
        return;
    }
    calls_stop(m);
    arena_reset(&m->arena);
    m->rejoin = false; /* what is wanted from now on comes too late for this one */
    client_log(c->client, RV_DEBUG, "group %s: joins", group_of(c));
    m->call = (struct call){.api = wire_api_find(11),
                            .min_version = is_static(c) ? JOIN_INSTANCE_SINCE : 0,
                            .fill = join_fill,
                            .done = join_done,
                            .arena = &m->arena};
    call_submit(k, &m->call, rebalance_timeout(c));
}

/* ---- deal and sync ---- */

static void deal_pump(struct rv_consumer *c)
{
    bool done = false;
    int code = deal_make(c, &done);
    if (code == RV_E_MEMORY) {
        consumer_wake(c, consumer_backoff(c, 0));
    } else if (code != RV_OK) {
        member_fail(c, code);
    } else if (done) {
        member_go(c, MEMBER_SYNC);
    }
}

static int sync_fill(struct call *call, struct arena *a, void *request)
{
    struct rv_consumer *c = list_entry(call, struct rv_consumer, member.call);
    const struct member *m = &c->member;
    struct sync_group_request *r = request;
    (void)a;
    r->group_id = str_of(group_of(c));
    r->generation_id = m->generation;
    r->member_id = str_of(m->id);
    if (is_static(c) && call->version >= SYNC_INSTANCE_SINCE) {
        r->group_instance_id = str_of(instance_of(c));
    }
    if (call->version >= SYNC_PROTOCOL_SINCE) {
        r->protocol_type = STR("consumer");
        r->protocol_name = str_of(assignor_name(m->assignor));
    }
    r->assignments = m->deal;
    r->assignments_count = m->deal_count;
    return RV_OK;
}

static void sync_done(struct call *call, const struct answer *answer)
{
    struct rv_consumer *c = list_entry(call, struct rv_consumer, member.call);
    struct member *m = &c->member;
    const struct sync_group_response *r = answer->body;
    int code = answer->code != RV_OK ? answer->code : r->error_code;
    if (code != RV_OK) {
        join_refused(c, code);
        return;
    }
    frame_unref(m->frame);
    m->frame = frame_ref(answer->frame);
    m->joined = NULL;
    m->deal_count = 0;
    m->dealt = r->assignment;
    member_go(c, MEMBER_DEALT);
}

static void sync_pump(struct rv_consumer *c)
{
    struct member *m = &c->member;
    if (call_busy(&m->call)) {
        return;
    }
    struct conn *k = coord_conn(c, c->group_lane);
    if (k) {
        m->call = (struct call){
            .api = wire_api_find(14), .fill = sync_fill, .done = sync_done, .arena = &m->arena};
        call_submit(k, &m->call, rebalance_timeout(c));
    }
}

void member_pump(struct rv_consumer *c)
{
    struct member *m = &c->member;
    if (m->state == MEMBER_OUT || m->state == MEMBER_FAILED || c->closing) {
        return;
    }
    if (c->coord.code != RV_OK) {
        member_fail(c, c->coord.code);
        return;
    }
    if (m->state == MEMBER_IN && m->leads && !m->rejoin && deal_is_stale(c)) {
        client_log(c->client, RV_INFO, "group %s: the topics' partitions have changed",
                   group_of(c));
        m->rejoin = true;
        c->client->again = true;
    }
    heartbeat_pump(c);
    if (m->state == MEMBER_JOIN) {
        join_pump(c);
    }
    if (m->state == MEMBER_DEAL) {
        deal_pump(c);
    }
    if (m->state == MEMBER_SYNC) {
        sync_pump(c);
    }
}

int member_init(struct rv_consumer *c, struct rv_error *ret_error)
{
    struct member *m = &c->member;
    m->generation = -1;
    m->cooperative = true;
    arena_init(&m->arena, MEMBER_ARENA_LIMIT);
    arena_init(&m->deal_arena, MEMBER_ARENA_LIMIT);
    timer_init(&m->poll_timer, poll_overdue);
    const char *p = c->settings.texts[OPT_ASSIGNMENT_STRATEGY];
    while (*p) {
        size_t n = strcspn(p, ", ");
        enum assignor a;
        if (n && (!assignor_find((struct str){p, n}, &a) || m->assignor_count == ASSIGN_COUNT)) {
            return error_set(ret_error, RV_E_OPTION,
                             "option partition.assignment.strategy: '%.*s' is not one of range, "
                             "roundrobin, cooperative-sticky, each once",
                             (int)n, p);
        }
        if (n) {
            m->assignors[m->assignor_count++] = a;
            m->cooperative &= a == ASSIGN_COOPERATIVE_STICKY;
        }
        p += n + strspn(p + n, ", ");
    }
    if (m->assignor_count == 0) {
        return error_set(ret_error, RV_E_OPTION, "option partition.assignment.strategy is empty");
    }
    return RV_OK;
}

void member_finish(struct rv_consumer *c)
{
    struct member *m = &c->member;
    calls_stop(m);
    call_cancel(&m->leave);
    timer_disarm(&c->client->timers, &m->poll_timer);
    for (size_t i = 0; i < m->topic_count; i++) {
        mem_free(m->topics[i]);
    }
    mem_free(m->topics);
    mem_free(m->id);
    mem_free(m->leave_id);
    mem_free(m->watch);
    arena_finish(&m->arena);
    arena_finish(&m->deal_arena);
}

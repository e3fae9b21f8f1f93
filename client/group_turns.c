/* What a member does in the user's own calls: give partitions up, take them up, with callbacks. */
#include "client/consumer.h"

#include "base/mem.h"
#include "gen/consumer_protocol_assignment.h"
#include "protocol/error.h"

#include <string.h>

/* ---- giving up ---- */

/* How long partitions that are wanted elsewhere may be held up. */
static int64_t commit_deadline(const struct rv_consumer *c)
{
    int64_t most = option(c, OPT_SESSION_TIMEOUT_MS);
    int64_t api = setting(c->client, OPT_DEFAULT_API_TIMEOUT_MS);
    return client_now(c->client) + (most < api ? most : api);
}

/* Of delivery=at-least-once: before partitions go. A failure costs nothing but a second reading. */
static void commit_before(struct rv_consumer *c)
{
    struct rv_error e;
    if (option(c, OPT_DELIVERY) != DELIVERY_AT_LEAST_ONCE || c->member.lost || c->closing) {
        return;
    }
    if (commit_positions(c, commit_deadline(c), &e) != RV_OK) {
        client_log(c->client, RV_WARN, "%s", e.text);
    }
}

static void event_of(struct rv_consumer *c, enum rv_event_kind kind, size_t count, const char *text)
{
    const struct rv_event event = {
        .kind = kind, .partitions = c->named, .count = count, .from = -1, .to = -1, .text = text};
    if (count) {
        consumer_event(c, &event);
    }
}

static void name_claim(struct rv_consumer *c, size_t i, const struct claim *claim)
{
    c->named[i] = (struct rv_partition){.topic = claim->topic->name,
                                        .partition = claim->partition,
                                        .offset = claim->position,
                                        .leader_epoch = claim->position_epoch};
}

void member_revoke_all(struct rv_consumer *c, enum rv_event_kind kind, int64_t deadline_ms)
{
    if (c->claims.count == 0) {
        return;
    }
    if (kind == RV_REVOKED) {
        commit_before(c);
        if (c->member.lost) { /* the commit found out */
            kind = RV_LOST;
        }
    }
    for (size_t i = 0; i < c->claims.count; i++) {
        name_claim(c, i, c->claims.items[i]);
    }
    event_of(c, kind, c->claims.count,
             kind == RV_LOST ? "the group took us for gone: others may be at the partitions"
                             : "the partitions go back to the group");
    if (kind == RV_REVOKED) {
        commits_drain(c, deadline_ms);
    }
    claims_clear(c);
}

/* Revokes those claims whose `leaving` is set. */
static void revoke_leaving(struct rv_consumer *c)
{
    size_t count = 0;
    for (size_t i = 0; i < c->claims.count; i++) {
        count += c->claims.items[i]->leaving;
    }
    if (count == 0) {
        return;
    }
    commit_before(c);
    size_t named = 0;
    for (size_t i = 0; i < c->claims.count; i++) {
        if (c->claims.items[i]->leaving) {
            name_claim(c, named++, c->claims.items[i]);
        }
    }
    if (!c->member.lost) { /* else RV_LOST tells of all of them */
        event_of(c, RV_REVOKED, named, "the partitions go to other members");
        commits_drain(c, commit_deadline(c));
        for (size_t i = c->claims.count; i > 0; i--) {
            if (c->claims.items[i - 1]->leaving) {
                claims_remove(c, c->claims.items[i - 1]);
            }
        }
    }
}

static bool is_subscribed(const struct member *m, const char *topic)
{
    for (size_t i = 0; i < m->topic_count; i++) {
        if (strcmp(m->topics[i], topic) == 0) {
            return true;
        }
    }
    return false;
}

static void prepare(struct rv_consumer *c)
{
    if (!c->member.cooperative) {
        member_revoke_all(c, RV_REVOKED, commit_deadline(c));
        return;
    }
    for (size_t i = 0; i < c->claims.count; i++) {
        struct claim *claim = c->claims.items[i];
        claim->leaving = !is_subscribed(&c->member, claim->topic->name);
    }
    revoke_leaving(c);
}

/* ---- taking up ---- */

struct fresh {
    struct claim **items; /* in the member's arena; each owned until it is among the claims */
    size_t count;
};

static void fresh_drop(struct fresh *f)
{
    for (size_t i = 0; i < f->count; i++) {
        mem_free(f->items[i]);
    }
    f->count = 0;
}

/* Marks what stays, makes what is new. */
static int deal_compare(struct rv_consumer *c, const struct consumer_protocol_assignment *in,
                        struct fresh *f)
{
    size_t most = 0;
    for (int32_t i = 0; i < in->assigned_partitions_count; i++) {
        most += (size_t)(in->assigned_partitions[i].partitions_count);
    }
    f->items = arena_alloc(&c->member.arena, most * sizeof(struct claim *));
    if (!f->items || claims_reserve(c, c->claims.count + most) != RV_OK) {
        return RV_E_MEMORY;
    }
    for (size_t i = 0; i < c->claims.count; i++) {
        c->claims.items[i]->leaving = true;
    }
    for (int32_t i = 0; i < in->assigned_partitions_count; i++) {
        const struct consumer_protocol_assignment_assigned_partition *t =
            &in->assigned_partitions[i];
        char *name = arena_zero(&c->member.arena, 1, t->topic.len + 1);
        if (!name) {
            return RV_E_MEMORY;
        }
        memcpy(name, t->topic.ptr, t->topic.len);
        struct topic *topic = meta_topic(&c->client->meta, name, false);
        if (!topic) {
            return RV_E_MEMORY;
        }
        for (int32_t j = 0; j < t->partitions_count; j++) {
            struct claim *claim = claim_find(c, topic, t->partitions[j]);
            if (claim) {
                claim->leaving = false;
                continue;
            }
            claim = claim_create(c, topic, t->partitions[j]);
            if (!claim) {
                return RV_E_MEMORY;
            }
            f->items[f->count++] = claim;
        }
    }
    return RV_OK;
}

static bool is_dealt(const struct rv_consumer *c)
{
    return c->member.state == MEMBER_DEALT && !c->member.lost;
}

static int take_up(struct rv_consumer *c, struct rv_error *ret_error)
{
    struct member *m = &c->member;
    struct consumer_protocol_assignment in;
    struct fresh fresh = {0};
    int code = assignment_read(m->dealt, &m->arena, &in);
    if (code == RV_E_PROTOCOL) {
        client_log(c->client, RV_WARN, "group %s: the leader's assignment cannot be read",
                   c->settings.texts[OPT_GROUP_ID]);
        m->rejoin = true; /* all that we had goes; perhaps another leads then */
        consumer_protocol_assignment_init(&in);
        code = RV_OK;
    }
    code = code == RV_OK ? deal_compare(c, &in, &fresh) : code;
    if (code != RV_OK) {
        fresh_drop(&fresh);
        return error_memory(ret_error);
    }
    size_t before = c->claims.count;
    revoke_leaving(c);
    if (!is_dealt(c)) { /* lost while partitions were given up */
        fresh_drop(&fresh);
        return RV_OK;
    }
    m->rejoin |= c->claims.count < before;
    size_t named = 0;
    for (size_t i = 0; i < fresh.count; i++) {
        struct claim *claim = fresh.items[i];
        if (claim_find(c, claim->topic, claim->partition)) { /* dealt twice */
            mem_free(claim);
        } else {
            claims_add(c, claim);
            name_claim(c, named++, claim);
        }
    }
    m->state = MEMBER_IN;
    event_of(c, RV_ASSIGNED, named, "partitions came from the group");
    return RV_OK;
}

/* ---- rv_poll, rv_subscribe ---- */

int member_poll(struct rv_consumer *c, struct rv_error *ret_error)
{
    struct member *m = &c->member;
    for (;;) {
        if (m->lost) {
            member_revoke_all(c, RV_LOST, 0);
            m->lost = false;
        }
        switch (m->state) {
        case MEMBER_FAILED:
            return error_set(ret_error, m->code, "group %s: %s", c->settings.texts[OPT_GROUP_ID],
                             error_about(m->code));
        case MEMBER_PREPARE:
            prepare(c);
            if (m->state == MEMBER_PREPARE && !m->lost) {
                m->state = MEMBER_JOIN;
                c->client->again = true;
                return RV_OK;
            }
            break;
        case MEMBER_DEALT: {
            int code = take_up(c, ret_error);
            if (code != RV_OK) {
                return code;
            }
            break;
        }
        case MEMBER_IN:
            if (!m->rejoin) {
                return RV_OK;
            }
            m->state = MEMBER_PREPARE;
            break;
        default: return RV_OK;
        }
    }
}

static void topics_free(char **topics, size_t count)
{
    for (size_t i = 0; topics && i < count; i++) {
        mem_free(topics[i]);
    }
    mem_free(topics);
}

/* Copies, each name once. NULL: no memory. */
static char **topics_copy(struct rv_consumer *c, const char *const *topics, size_t count,
                          size_t *ret_count)
{
    char **copy = mem_zero(count, sizeof *copy);
    size_t made = 0;
    for (size_t i = 0; copy && i < count; i++) {
        bool twice = false;
        for (size_t j = 0; j < made && !twice; j++) {
            twice = strcmp(copy[j], topics[i]) == 0;
        }
        if (twice) {
            continue;
        }
        bool may_create = option(c, OPT_ALLOW_AUTO_CREATE_TOPICS) != 0;
        copy[made] = mem_dup(topics[i], strlen(topics[i]) + 1);
        if (!copy[made++] || !meta_topic(&c->client->meta, topics[i], may_create)) {
            topics_free(copy, made);
            return NULL;
        }
    }
    *ret_count = made;
    return copy;
}

static int unsubscribe(struct rv_consumer *c)
{
    if (is_member(c)) {
        member_revoke_all(c, c->member.lost ? RV_LOST : RV_REVOKED, commit_deadline(c));
        member_leave(c, client_deadline(c->client, -1));
    }
    return RV_OK;
}

static int may_subscribe(struct rv_consumer *c, const char *const *topics, size_t count,
                         struct rv_error *ret_error)
{
    if (c->client->in_turn || c->in_event) {
        return error_set(ret_error, RV_E_STATE, "subscribe: not allowed in a callback");
    }
    if (!c->has_group) {
        return error_set(ret_error, RV_E_STATE, "subscribe: the option group.id is not set");
    }
    if (!is_member(c) && c->claims.count) {
        return error_set(ret_error, RV_E_STATE,
                         "subscribe: rv_assign is in use; rv_assign of nothing ends it");
    }
    if (c->member.state == MEMBER_FAILED && (error_flags(c->member.code) & RV_FATAL)) {
        return error_set(ret_error, c->member.code, "group %s: %s", c->settings.texts[OPT_GROUP_ID],
                         error_about(c->member.code));
    }
    for (size_t i = 0; i < count; i++) {
        if (!topics[i] || !topics[i][0]) {
            return error_set(ret_error, RV_E_ARGUMENT, "subscribe: a topic without a name");
        }
    }
    return RV_OK;
}

int rv_subscribe(struct rv_consumer *consumer, const char *const *topics, size_t count,
                 struct rv_error *ret_error)
{
    struct rv_consumer *c = consumer;
    struct member *m = &c->member;
    int code = may_subscribe(c, topics, count, ret_error);
    if (code != RV_OK || count == 0) {
        return code != RV_OK ? code : unsubscribe(c);
    }
    size_t made = 0;
    char **copy = topics_copy(c, topics, count, &made);
    if (!copy) {
        return error_memory(ret_error);
    }
    topics_free(m->topics, m->topic_count);
    m->topics = copy;
    m->topic_count = made;
    if (m->state == MEMBER_OUT || m->state == MEMBER_FAILED) {
        m->state = MEMBER_PREPARE;
        m->code = RV_OK;
        c->coord.code = RV_OK;
        m->failures = 0;
        m->not_before_ms = 0;
    } else {
        m->rejoin = true;
    }
    member_polled(c);
    return RV_OK;
}

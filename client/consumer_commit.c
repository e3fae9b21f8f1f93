/* Commits: one on its way at a time, in the order of the calls, so that a retried one never takes
 * an offset back.
 *
 * A member commits only what it holds: each item remembers the claim it was made for, and when that
 * is gone (the partition may be another member's, who went on) the commit ends with
 * RV_E_LOST_MEMBER instead of being sent.
 */
#include "client/consumer.h"

#include "base/mem.h"
#include "gen/offset_commit.h"
#include "protocol/error.h"

#include <string.h>

enum { COMMIT_BY_NAME_MAX = 9, INSTANCE_SINCE = 7, COMMIT_ARENA_LIMIT = 64 << 20 };

struct commit_item {
    struct str topic; /* in the arena */
    int32_t partition;
    int64_t offset;
    int32_t leader_epoch;
    struct str metadata; /* in the arena */
    uint64_t born;       /* of the claim; 0: not of one */
};

struct commit {
    struct list link; /* in consumer->commits; unlinked: done */
    struct arena arena;
    struct commit_item *items; /* in the arena */
    size_t count;
    int64_t deadline_ms;
    int failures;
    int64_t not_before_ms;
    int32_t generation; /* that it was sent with */
    rv_commit_fn *fn;   /* async */
    void *ctx;
    bool sync;             /* its maker waits, and frees it */
    bool patient;          /* of our own: a rebalance in progress is waited for */
    struct rv_error error; /* of sync: how it ended */
};

static void commit_destroy(struct commit *k)
{
    arena_finish(&k->arena);
    mem_free(k);
}

/* ---- making ---- */

static struct commit *commit_create(size_t room, int64_t deadline_ms)
{
    struct commit *k = mem_zero(1, sizeof *k);
    if (!k) {
        return NULL;
    }
    arena_init(&k->arena, COMMIT_ARENA_LIMIT);
    k->items = arena_zero(&k->arena, room, sizeof *k->items);
    k->deadline_ms = deadline_ms;
    if (!k->items) {
        commit_destroy(k);
        return NULL;
    }
    return k;
}

static bool item_add(struct commit *k, const char *topic, const struct commit_item *item,
                     const char *metadata)
{
    struct commit_item *to = &k->items[k->count];
    size_t topic_size = strlen(topic), metadata_size = metadata ? strlen(metadata) : 0;
    const char *name = arena_dup(&k->arena, topic, topic_size + 1);
    const char *extra = arena_dup(&k->arena, metadata ? metadata : "", metadata_size + 1);
    if (!name || !extra) {
        return false;
    }
    *to = *item;
    to->topic = (struct str){name, topic_size};
    to->metadata = (struct str){extra, metadata_size};
    k->count++;
    return true;
}

/* Of the positions of all claims; `changed`: of those that differ from what is committed. NULL: no
 * memory. */
static struct commit *commit_of_claims(struct rv_consumer *c, bool changed, int64_t deadline_ms)
{
    struct commit *k = commit_create(c->claims.count, deadline_ms);
    for (size_t i = 0; k && i < c->claims.count; i++) {
        const struct claim *claim = c->claims.items[i];
        if (claim->position < 0 || (changed && claim->position == claim->committed)) {
            continue;
        }
        struct commit_item item = {.partition = claim->partition,
                                   .offset = claim->position,
                                   .leader_epoch = claim->position_epoch,
                                   .born = claim->born};
        if (!item_add(k, claim->topic->name, &item, NULL)) {
            commit_destroy(k);
            k = NULL;
        }
    }
    return k;
}

static const struct claim *claim_named(const struct rv_consumer *c, const char *topic,
                                       int32_t partition)
{
    const struct topic *t = map_get_str(&c->client->meta.topics, str_of(topic));
    return t ? claim_find(c, t, partition) : NULL;
}

bool consumer_holds(const struct rv_consumer *c, const char *topic, int32_t partition)
{
    return claim_named(c, topic, partition) != NULL;
}

static int commit_of_partitions(struct rv_consumer *c, const struct rv_partition *partitions,
                                size_t count, int64_t deadline_ms, struct commit **ret_commit,
                                struct rv_error *ret_error)
{
    struct commit *k = commit_create(count, deadline_ms);
    int code = k ? RV_OK : error_memory(ret_error);
    for (size_t i = 0; code == RV_OK && i < count; i++) {
        const struct rv_partition *p = &partitions[i];
        if (!p->topic || !p->topic[0] || p->partition < 0 || p->offset < 0) {
            code =
                error_set(ret_error, RV_E_ARGUMENT, "commit: topic %s partition %d offset %lld",
                          p->topic ? p->topic : "(none)", (int)p->partition, (long long)p->offset);
            break;
        }
        const struct claim *claim = claim_named(c, p->topic, p->partition);
        if (is_member(c) && !claim) {
            code = error_set(ret_error, RV_E_LOST_MEMBER,
                             "commit: topic %s partition %d is not assigned to us (any more)",
                             p->topic, (int)p->partition);
            break;
        }
        struct commit_item item = {.partition = p->partition,
                                   .offset = p->offset,
                                   .leader_epoch = p->leader_epoch > 0 ? p->leader_epoch : -1,
                                   .born = claim ? claim->born : 0};
        code = item_add(k, p->topic, &item, p->metadata) ? RV_OK : error_memory(ret_error);
    }
    if (code != RV_OK) {
        if (k) {
            commit_destroy(k);
        }
        return code;
    }
    *ret_commit = k;
    return RV_OK;
}

/* ---- ends ---- */

static void commit_end(struct rv_consumer *c, struct commit *k, const struct rv_error *error)
{
    list_remove(&k->link);
    if (k->sync) {
        k->error = *error;
        return;
    }
    if (error->code != RV_OK) {
        client_log(c->client, RV_INFO, "%s", error->text);
    }
    if (k->fn) {
        bool before = c->client->in_callback;
        c->client->in_callback = true;
        k->fn(k->ctx, error->code == RV_OK ? NULL : error);
        c->client->in_callback = before;
    }
    commit_destroy(k);
}

static void commit_end_code(struct rv_consumer *c, struct commit *k, int code)
{
    struct rv_error e = {0};
    if (code != RV_OK) {
        error_set(&e, code, "commit for group %s: %s", c->settings.texts[OPT_GROUP_ID],
                  error_about(code));
    }
    commit_end(c, k, &e);
}

/* Every item's claim lives, or is not needed. */
static bool commit_is_ours(const struct rv_consumer *c, const struct commit *k)
{
    for (size_t i = 0; is_member(c) && i < k->count; i++) {
        const struct claim *claim = claim_named(c, k->items[i].topic.ptr, k->items[i].partition);
        if (!claim || claim->born != k->items[i].born) {
            return false;
        }
    }
    return true;
}

static int commit_code(const struct offset_commit_response *r)
{
    for (int32_t i = 0; i < r->topics_count; i++) {
        for (int32_t j = 0; j < r->topics[i].partitions_count; j++) {
            if (r->topics[i].partitions[j].error_code) {
                return r->topics[i].partitions[j].error_code;
            }
        }
    }
    return RV_OK;
}

static void commit_good(struct rv_consumer *c, struct commit *k)
{
    for (size_t i = 0; i < k->count; i++) {
        const struct topic *t = map_get_str(&c->client->meta.topics, k->items[i].topic);
        struct claim *claim = t ? claim_find(c, t, k->items[i].partition) : NULL;
        if (claim && claim->born == k->items[i].born) {
            claim->committed = k->items[i].offset;
        }
    }
    commit_end_code(c, k, RV_OK);
}

static bool is_final(const struct commit *k, int code)
{
    if (code == KERR_REBALANCE_IN_PROGRESS) {
        return !k->patient;
    }
    return code == KERR_UNKNOWN_TOPIC_OR_PARTITION || !error_is_retriable(code);
}

/* A cooperative member holds its partitions while it joins: the broker may begin the generation
 * that it joins before a commit of the old one arrives. Nothing is lost by that. */
static bool is_overtaken(const struct rv_consumer *c, const struct commit *k)
{
    const struct member *m = &c->member;
    bool joins = m->state == MEMBER_JOIN && call_busy(&m->call);
    return m->generation >= 0 && !m->lost && (joins || k->generation != m->generation) &&
           commit_is_ours(c, k);
}

static void commit_done(struct call *call, const struct answer *answer)
{
    struct rv_consumer *c = list_entry(call, struct rv_consumer, commit_call);
    struct commit *k = list_entry(c->commits.next, struct commit, link);
    int code = answer->code != RV_OK ? answer->code : commit_code(answer->body);
    if (code == RV_OK) {
        commit_good(c, k);
        return;
    }
    if (error_is_coordinator(code)) {
        coord_lost(c);
    }
    if (code == KERR_ILLEGAL_GENERATION && is_overtaken(c, k)) {
        code = KERR_REBALANCE_IN_PROGRESS;
    }
    if (code == KERR_ILLEGAL_GENERATION || code == KERR_UNKNOWN_MEMBER_ID ||
        code == KERR_FENCED_INSTANCE_ID) {
        if (k->generation == c->member.generation) {
            member_lost(c, code, "a commit");
        }
        code = code == KERR_FENCED_INSTANCE_ID ? code : RV_E_LOST_MEMBER;
    }
    if (is_final(k, code)) {
        commit_end_code(c, k, code);
        return;
    }
    k->not_before_ms = consumer_backoff(c, k->failures++);
}

/* ---- sending ---- */

static int commit_fill(struct call *call, struct arena *a, void *request)
{
    struct rv_consumer *c = list_entry(call, struct rv_consumer, commit_call);
    const struct commit *k = list_entry(c->commits.next, struct commit, link);
    struct offset_commit_request *r = request;
    const char *instance = c->settings.texts[OPT_GROUP_INSTANCE_ID];
    r->group_id = str_of(c->settings.texts[OPT_GROUP_ID]);
    if (is_member(c)) {
        r->generation_id_or_member_epoch = k->generation;
        r->member_id = str_of(c->member.id ? c->member.id : "");
        if (instance[0] && call->version >= INSTANCE_SINCE) {
            r->group_instance_id = str_of(instance);
        }
    }
    r->topics = wire_array(a, &offset_commit_request_topic_table, (int32_t)k->count);
    r->topics_count = 0;
    if (!r->topics) {
        return RV_E_MEMORY;
    }
    for (size_t i = 0; i < k->count; i++) {
        const struct commit_item *item = &k->items[i];
        if (i == 0 || !str_eq(item->topic, k->items[i - 1].topic)) {
            struct offset_commit_request_topic *t = &r->topics[r->topics_count++];
            t->name = item->topic;
            t->partitions =
                wire_array(a, &offset_commit_request_partition_table, (int32_t)(k->count - i));
            t->partitions_count = 0;
            if (!t->partitions) {
                return RV_E_MEMORY;
            }
        }
        struct offset_commit_request_topic *t = &r->topics[r->topics_count - 1];
        struct offset_commit_request_partition *p = &t->partitions[t->partitions_count++];
        p->partition_index = item->partition;
        p->committed_offset = item->offset;
        p->committed_leader_epoch = item->leader_epoch;
        p->committed_metadata = item->metadata;
    }
    return RV_OK;
}

void commits_pump(struct rv_consumer *c)
{
    int64_t now = client_now(c->client);
    while (!list_empty(&c->commits) && !call_busy(&c->commit_call)) {
        struct commit *k = list_entry(c->commits.next, struct commit, link);
        if (k->count == 0 || !commit_is_ours(c, k)) {
            commit_end_code(c, k, k->count ? RV_E_LOST_MEMBER : RV_OK);
            continue;
        }
        if (now >= k->deadline_ms || c->coord.code != RV_OK) {
            commit_end_code(c, k, c->coord.code != RV_OK ? c->coord.code : RV_E_TIMED_OUT);
            continue;
        }
        consumer_wake(c, k->deadline_ms);
        if (now < k->not_before_ms) {
            consumer_wake(c, k->not_before_ms);
            return;
        }
        struct conn *conn = coord_conn(c, LANE_CONTROL);
        if (!conn) {
            return;
        }
        int64_t left = k->deadline_ms - now;
        int64_t most = setting(c->client, OPT_REQUEST_TIMEOUT_MS);
        c->commit_call = (struct call){.api = wire_api_find(8),
                                       .min_version = 2,
                                       .max_version = COMMIT_BY_NAME_MAX,
                                       .fill = commit_fill,
                                       .done = commit_done};
        k->generation = c->member.generation;
        call_submit(conn, &c->commit_call, left < most ? left : most);
    }
}

void commits_drain(struct rv_consumer *c, int64_t deadline_ms)
{
    while (!list_empty(&c->commits) && client_turn_until(c->client, deadline_ms)) {
    }
}

void commits_finish(struct rv_consumer *c)
{
    call_cancel(&c->commit_call);
    while (!list_empty(&c->commits)) {
        commit_end_code(c, list_entry(c->commits.next, struct commit, link), RV_E_STATE);
    }
}

/* ---- waiting ---- */

/* Takes k. */
static int commit_wait(struct rv_consumer *c, struct commit *k, struct rv_error *ret_error)
{
    k->sync = true;
    list_push(&c->commits, &k->link);
    c->client->again = true; /* the next turn's pump begins with it */
    while (list_linked(&k->link)) {
        client_turn_until(c->client, k->deadline_ms); /* the pump ends it when time is up */
        if (list_linked(&k->link) && client_now(c->client) >= k->deadline_ms) {
            if (c->commits.next == &k->link) {
                call_cancel(&c->commit_call);
            }
            commit_end_code(c, k, RV_E_TIMED_OUT);
        }
    }
    int code = k->error.code == RV_OK ? RV_OK : error_copy(ret_error, &k->error);
    commit_destroy(k);
    return code;
}

int commit_positions(struct rv_consumer *c, int64_t deadline_ms, struct rv_error *ret_error)
{
    struct commit *k = commit_of_claims(c, true, deadline_ms);
    if (!k) {
        return error_memory(ret_error);
    }
    k->patient = true;
    return commit_wait(c, k, ret_error);
}

static void auto_done(void *ctx, const struct rv_error *error)
{
    struct rv_consumer *c = ctx;
    (void)error; /* logged; the positions are committed again after the interval */
    c->auto_commit_busy = false;
}

void commits_auto(struct rv_consumer *c)
{
    int64_t now = client_now(c->client);
    if (c->auto_commit_busy || now < c->auto_commit_at_ms) {
        return;
    }
    struct commit *k = commit_of_claims(c, true, client_deadline(c->client, -1));
    if (!k) {
        return; /* no memory: the next poll tries again */
    }
    c->auto_commit_at_ms = now + option(c, OPT_AUTO_COMMIT_INTERVAL_MS);
    c->auto_commit_busy = true;
    k->fn = auto_done;
    k->ctx = c;
    list_push(&c->commits, &k->link);
}

/* ---- the calls ---- */

static int commit_make(struct rv_consumer *c, const struct rv_partition *partitions, size_t count,
                       struct commit **ret_commit, struct rv_error *ret_error)
{
    if (c->client->in_turn || (c->in_event && c->event != RV_REVOKED)) {
        return error_set(ret_error, RV_E_STATE, "commit: not allowed in this callback");
    }
    if (!c->has_group) {
        return error_set(ret_error, RV_E_STATE, "commit: the option group.id is not set");
    }
    int64_t deadline = client_deadline(c->client, -1);
    if (partitions) {
        return commit_of_partitions(c, partitions, count, deadline, ret_commit, ret_error);
    }
    struct commit *k = commit_of_claims(c, false, deadline);
    if (!k) {
        return error_memory(ret_error);
    }
    *ret_commit = k;
    return RV_OK;
}

int rv_commit(struct rv_consumer *consumer, const struct rv_partition *partitions, size_t count,
              struct rv_error *ret_error)
{
    struct commit *k = NULL;
    int code = commit_make(consumer, partitions, count, &k, ret_error);
    return code == RV_OK ? commit_wait(consumer, k, ret_error) : code;
}

int rv_commit_async(struct rv_consumer *consumer, const struct rv_partition *partitions,
                    size_t count, rv_commit_fn *fn, void *ctx, struct rv_error *ret_error)
{
    struct commit *k = NULL;
    if (!consumer->client->in_turn && !consumer->in_event) {
        client_turn(consumer->client, 0); /* it may be all that a busy program calls */
    }
    int code = commit_make(consumer, partitions, count, &k, ret_error);
    if (code == RV_OK) {
        k->fn = fn;
        k->ctx = ctx;
        list_push(&consumer->commits, &k->link);
        consumer->client->again = true;
    }
    return code;
}

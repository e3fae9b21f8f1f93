#include "client/consumer.h"

#include "base/mem.h"
#include "protocol/error.h"

#include <stdio.h>
#include <string.h>

enum { UNKNOWN_PATIENCE_MS = 3000 /* a topic that is being made is there soon */ };

/* ---- time ---- */

static void on_wake(struct timer *timer)
{
    (void)timer; /* the pump does the rest */
}

void consumer_wake(struct rv_consumer *c, int64_t at_ms)
{
    if (!timer_armed(&c->wake) || at_ms < c->wake.deadline_ms) {
        timer_arm(&c->client->timers, &c->wake, at_ms);
    }
}

int64_t consumer_backoff(struct rv_consumer *c, int failures)
{
    return client_now(c->client) +
           client_backoff(c->client, setting(c->client, OPT_RETRY_BACKOFF_MS),
                          setting(c->client, OPT_RETRY_BACKOFF_MAX_MS), failures);
}

/* ---- claims ---- */

static int claim_cmp(const struct claim *claim, const struct topic *t, int32_t partition)
{
    int order = claim->topic == t ? 0 : strcmp(claim->topic->name, t->name);
    return order ? order : (claim->partition > partition) - (claim->partition < partition);
}

/* Place of the first claim that is not before. */
static size_t claim_place(const struct rv_consumer *c, const struct topic *t, int32_t partition)
{
    size_t low = 0, high = c->claims.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (claim_cmp(c->claims.items[middle], t, partition) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct claim *claim_find(const struct rv_consumer *c, const struct topic *t, int32_t partition)
{
    size_t i = claim_place(c, t, partition);
    return i < c->claims.count && claim_cmp(c->claims.items[i], t, partition) == 0
               ? c->claims.items[i]
               : NULL;
}

struct claim *claim_of_item(const struct rv_consumer *c, const struct fetch_item *item)
{
    struct claim *claim = claim_find(c, item->topic, item->partition);
    return claim && claim->stamp == item->stamp ? claim : NULL;
}

int32_t claim_leader(const struct claim *claim)
{
    const struct topic *t = claim->topic;
    return claim->partition < t->count ? t->partitions[claim->partition].leader : -1;
}

int32_t claim_leader_epoch(const struct claim *claim)
{
    const struct topic *t = claim->topic;
    return claim->partition < t->count ? t->partitions[claim->partition].leader_epoch : -1;
}

struct claim *claim_create(struct rv_consumer *c, struct topic *t, int32_t partition)
{
    struct claim *claim = mem_zero(1, sizeof *claim);
    if (claim) {
        *claim = (struct claim){.topic = t,
                                .partition = partition,
                                .born = ++c->next_stamp,
                                .stamp = c->next_stamp,
                                .position = -1,
                                .position_epoch = -1,
                                .checked_epoch = -1,
                                .end = -1,
                                .committed = -1,
                                .given_from = -1,
                                .jump_from = -1};
    }
    return claim;
}

int claims_reserve(struct rv_consumer *c, size_t count)
{
    if (count > INT32_MAX) {
        return RV_E_MEMORY;
    }
    if (count > c->claims.size) {
        struct claim **items = mem_resize(c->claims.items, count * sizeof(struct claim *));
        if (!items) {
            return RV_E_MEMORY;
        }
        c->claims.items = items;
        c->claims.size = count;
    }
    if (count > c->view_size) {
        struct rv_partition *view = mem_resize(c->view, count * sizeof *view);
        if (!view) {
            return RV_E_MEMORY;
        }
        c->view = view;
        struct rv_partition *named = mem_resize(c->named, count * sizeof *named);
        if (!named) {
            return RV_E_MEMORY;
        }
        c->named = named;
        c->view_size = count;
    }
    return RV_OK;
}

void claims_add(struct rv_consumer *c, struct claim *claim)
{
    size_t at = claim_place(c, claim->topic, claim->partition);
    memmove(&c->claims.items[at + 1], &c->claims.items[at],
            (c->claims.count - at) * sizeof(struct claim *));
    c->claims.items[at] = claim;
    c->claims.count++;
    c->caught_up = false;
    c->client->again = true; /* the next turn asks about it at once */
}

void claims_remove(struct rv_consumer *c, struct claim *claim)
{
    size_t at = claim_place(c, claim->topic, claim->partition);
    chunks_drop(c, claim);
    c->claims.count--;
    memmove(&c->claims.items[at], &c->claims.items[at + 1],
            (c->claims.count - at) * sizeof(struct claim *));
    mem_free(claim);
    c->caught_up = false;
}

void claims_clear(struct rv_consumer *c)
{
    while (c->claims.count) {
        claims_remove(c, c->claims.items[c->claims.count - 1]);
    }
}

void claim_at(struct rv_consumer *c, struct claim *claim, int64_t offset, int32_t epoch)
{
    chunks_drop(c, claim);
    claim->stamp = ++c->next_stamp;
    claim->state = CLAIM_READY;
    claim->position = offset;
    claim->fetch_offset = offset;
    claim->position_epoch = epoch;
    claim->checked_epoch = claim_leader_epoch(claim);
    claim->topic_id = claim->topic->id;
    claim->failures = 0;
    claim->not_before_ms = 0;
    if (claim->jump_from >= 0) {
        claim->jump_ready = true;
        c->jumps = true;
    }
}

void claim_move(struct rv_consumer *c, struct claim *claim, int64_t place)
{
    claim->jump_from = -1;
    claim->jump_ready = false;
    claim->trouble = RV_OK;
    claim_at(c, claim, place >= 0 ? place : -1, -1);
    if (place < 0) {
        claim->state = place == RV_COMMITTED ? CLAIM_COMMITTED : CLAIM_PLACE;
        claim->place = place;
    }
}

void claim_fail(struct rv_consumer *c, struct claim *claim, int code)
{
    chunks_drop(c, claim);
    claim->stamp = ++c->next_stamp;
    claim->state = CLAIM_FAILED;
    claim->trouble = code;
    claim->jump_from = -1;
    c->trouble = true;
}

void claim_retry(struct rv_consumer *c, struct claim *claim)
{
    claim->not_before_ms = consumer_backoff(c, claim->failures++);
    consumer_wake(c, claim->not_before_ms);
}

void claim_jump(struct rv_consumer *c, struct claim *claim, const char *why)
{
    int64_t reset = option(c, OPT_AUTO_OFFSET_RESET);
    if (reset == RESET_NONE) {
        claim_fail(c, claim, RV_E_NO_OFFSET);
        return;
    }
    int64_t from = claim->position;
    claim_move(c, claim, reset == RESET_EARLIEST ? RV_START : RV_END);
    claim->jump_from = from;
    claim->jump_why = why;
}

/* ---- open ---- */

static void consumer_pump(struct part *part)
{
    struct rv_consumer *c = list_entry(part, struct rv_consumer, part);
    member_pump(c);
    commits_pump(c);
    places_pump(c);
    fetch_pump(c);
}

static void consumer_destroy(struct rv_consumer *c)
{
    if (c->client) {
        list_remove(&c->part.link);
        claims_clear(c);
        commits_finish(c);
        member_finish(c);
        coord_finish(c);
        places_finish(c);
        fetch_finish(c);
        for (int i = 0; i < FETCH_LANES; i++) {
            conn_close_lane(c->client, c->fetch_lanes[i]);
        }
        conn_close_lane(c->client, c->group_lane);
        timer_disarm(&c->client->timers, &c->wake);
        records_release(c);
    }
    mem_free(c->claims.items);
    mem_free(c->view);
    mem_free(c->named);
    mem_free(c->records);
    arena_finish(&c->poll_arena);
    batch_scratch_finish(&c->scratch);
    settings_finish(&c->settings);
    mem_free(c);
}

static int consumer_check(const struct rv_consumer *c, struct rv_error *ret_error)
{
    if (option(c, OPT_HEARTBEAT_INTERVAL_MS) >= option(c, OPT_SESSION_TIMEOUT_MS)) {
        return error_set(ret_error, RV_E_OPTION,
                         "option heartbeat.interval.ms must be below session.timeout.ms");
    }
    if (option(c, OPT_DELIVERY) != DELIVERY_MANUAL && !c->has_group) {
        return error_set(ret_error, RV_E_OPTION, "option delivery: commits need group.id");
    }
    return RV_OK;
}

int rv_consumer_open(struct rv_client *client, const struct rv_option *options,
                     struct rv_consumer **ret_consumer, struct rv_error *ret_error)
{
    if (client->in_turn) {
        return error_set(ret_error, RV_E_STATE, "open consumer: not allowed in a callback");
    }
    struct rv_consumer *c = mem_zero(1, sizeof *c);
    if (!c) {
        return error_memory(ret_error);
    }
    int code = settings_init(&c->settings, options, ret_error);
    if (code == RV_OK) {
        c->has_group = c->settings.texts[OPT_GROUP_ID][0] != 0;
        code = consumer_check(c, ret_error);
    }
    if (code == RV_OK) {
        code = member_init(c, ret_error);
    }
    if (code != RV_OK) {
        consumer_destroy(c);
        return code;
    }
    c->client = client;
    list_init(&c->fetchers);
    list_init(&c->chunks);
    list_init(&c->spent);
    list_init(&c->commits);
    timer_init(&c->wake, on_wake);
    for (int i = 0; i < FETCH_LANES; i++) {
        c->fetch_lanes[i] = client_lane(client);
    }
    c->group_lane = client_lane(client);
    c->part.pump = consumer_pump;
    records_release(c);
    coord_init(c);
    places_init(c);
    list_push(&client->parts, &c->part.link);
    *ret_consumer = c;
    return RV_OK;
}

int rv_consumer_close(struct rv_consumer *consumer, int timeout_ms, struct rv_error *ret_error)
{
    struct rv_consumer *c = consumer;
    if (!c) {
        return RV_OK;
    }
    if (c->client->in_turn || c->in_event) {
        return error_set(ret_error, RV_E_STATE, "close consumer: not allowed in a callback");
    }
    int64_t deadline = client_deadline(c->client, timeout_ms);
    int code = RV_OK;
    if (option(c, OPT_DELIVERY) == DELIVERY_AT_LEAST_ONCE && !c->member.lost) {
        code = commit_positions(c, deadline, ret_error);
    }
    c->closing = true;
    commits_drain(c, deadline);
    if (is_member(c)) {
        member_revoke_all(c, c->member.lost ? RV_LOST : RV_REVOKED, deadline);
        member_leave(c, deadline);
    }
    consumer_destroy(c);
    return code;
}

/* ---- assign ---- */

static int assign_check(struct rv_consumer *c, const struct rv_partition *partitions, size_t count,
                        struct rv_error *ret_error)
{
    if (c->client->in_turn || c->in_event) {
        return error_set(ret_error, RV_E_STATE, "assign: not allowed in a callback");
    }
    if (is_member(c)) {
        return error_set(ret_error, RV_E_STATE,
                         "assign: rv_subscribe is in use; rv_subscribe to nothing ends it");
    }
    for (size_t i = 0; i < count; i++) {
        const struct rv_partition *p = &partitions[i];
        if (!p->topic || !p->topic[0] || p->partition < 0 || p->offset < RV_COMMITTED) {
            return error_set(ret_error, RV_E_ARGUMENT, "assign: topic %s partition %d offset %lld",
                             p->topic ? p->topic : "(none)", (int)p->partition,
                             (long long)p->offset);
        }
    }
    return RV_OK;
}

/* Claims of all partitions, in `fresh`. A failure leaves nothing there. */
static int assign_create(struct rv_consumer *c, const struct rv_partition *partitions, size_t count,
                         struct claim **fresh)
{
    bool may_create = option(c, OPT_ALLOW_AUTO_CREATE_TOPICS) != 0;
    for (size_t i = 0; i < count; i++) {
        struct topic *t = meta_topic(&c->client->meta, partitions[i].topic, may_create);
        fresh[i] = t ? claim_create(c, t, partitions[i].partition) : NULL;
        if (!fresh[i]) {
            while (i > 0) {
                mem_free(fresh[--i]);
            }
            return RV_E_MEMORY;
        }
    }
    return RV_OK;
}

int rv_assign(struct rv_consumer *consumer, const struct rv_partition *partitions, size_t count,
              struct rv_error *ret_error)
{
    struct rv_consumer *c = consumer;
    int code = assign_check(c, partitions, count, ret_error);
    if (code != RV_OK) {
        return code;
    }
    struct claim **fresh = mem_alloc(count * sizeof(struct claim *));
    if (!fresh || claims_reserve(c, count) != RV_OK ||
        assign_create(c, partitions, count, fresh) != RV_OK) {
        mem_free(fresh);
        return error_memory(ret_error);
    }
    if (option(c, OPT_DELIVERY) == DELIVERY_AT_LEAST_ONCE) {
        c->auto_commit_at_ms = 0;
        c->auto_commit_busy = false;
        commits_auto(c);
    }
    claims_clear(c);
    c->coord.code = RV_OK;
    for (size_t i = 0; i < count; i++) {
        struct claim *same = claim_find(c, fresh[i]->topic, fresh[i]->partition);
        if (same) { /* named twice: the last one counts */
            claims_remove(c, same);
        }
        claims_add(c, fresh[i]);
        claim_move(c, fresh[i], partitions[i].offset);
        if (partitions[i].offset >= 0 && partitions[i].leader_epoch > 0) {
            fresh[i]->position_epoch = partitions[i].leader_epoch;
            fresh[i]->checked_epoch = -1;
        }
    }
    mem_free(fresh);
    c->client->again = true;
    return RV_OK;
}

/* ---- one partition ---- */

static int claim_named(struct rv_consumer *c, const char *what, const char *topic,
                       int32_t partition, struct claim **ret_claim, struct rv_error *ret_error)
{
    if (c->client->in_turn || (c->in_event && c->event != RV_ASSIGNED)) {
        return error_set(ret_error, RV_E_STATE, "%s: not allowed in this callback", what);
    }
    const struct topic *t = topic ? map_get_str(&c->client->meta.topics, str_of(topic)) : NULL;
    struct claim *claim = t ? claim_find(c, t, partition) : NULL;
    if (!claim) {
        return error_set(ret_error, RV_E_ABSENT, "%s: topic %s partition %d is not assigned", what,
                         topic ? topic : "(none)", (int)partition);
    }
    *ret_claim = claim;
    c->client->again = true;
    return RV_OK;
}

int rv_seek(struct rv_consumer *consumer, const char *topic, int32_t partition, int64_t offset,
            struct rv_error *ret_error)
{
    struct claim *claim;
    if (offset < RV_COMMITTED) {
        return error_set(ret_error, RV_E_ARGUMENT, "seek: offset %lld", (long long)offset);
    }
    int code = claim_named(consumer, "seek", topic, partition, &claim, ret_error);
    if (code == RV_OK) {
        claim_move(consumer, claim, offset);
    }
    return code;
}

int rv_seek_time(struct rv_consumer *consumer, const char *topic, int32_t partition,
                 int64_t timestamp_ms, struct rv_error *ret_error)
{
    struct claim *claim;
    if (timestamp_ms < 0) {
        return error_set(ret_error, RV_E_ARGUMENT, "seek: timestamp %lld", (long long)timestamp_ms);
    }
    int code = claim_named(consumer, "seek", topic, partition, &claim, ret_error);
    if (code == RV_OK) {
        claim_move(consumer, claim, RV_END);
        claim->place = timestamp_ms;
    }
    return code;
}

int rv_pause(struct rv_consumer *consumer, const char *topic, int32_t partition, bool paused,
             struct rv_error *ret_error)
{
    struct claim *claim;
    int code = claim_named(consumer, "pause", topic, partition, &claim, ret_error);
    if (code != RV_OK) {
        return code;
    }
    claim->paused = paused;
    if (paused && claim->state == CLAIM_READY) { /* what was fetched makes room for others' */
        chunks_drop(consumer, claim);
        claim->fetch_offset = claim->position;
        claim->stamp = ++consumer->next_stamp;
    }
    return RV_OK;
}

size_t rv_assignment(struct rv_consumer *consumer, const struct rv_partition **ret_partitions)
{
    for (size_t i = 0; i < consumer->claims.count; i++) {
        const struct claim *claim = consumer->claims.items[i];
        consumer->view[i] = (struct rv_partition){.topic = claim->topic->name,
                                                  .partition = claim->partition,
                                                  .offset = claim->position,
                                                  .leader_epoch = claim->position_epoch};
    }
    *ret_partitions = consumer->view;
    return consumer->claims.count;
}

static int64_t claim_lag(const struct claim *claim)
{
    if (claim->position < 0 || claim->end < 0) {
        return -1;
    }
    return claim->end > claim->position ? claim->end - claim->position : 0;
}

int64_t rv_lag(const struct rv_consumer *consumer, const char *topic, int32_t partition)
{
    const struct topic *t =
        topic ? map_get_str(&consumer->client->meta.topics, str_of(topic)) : NULL;
    const struct claim *claim = t ? claim_find(consumer, t, partition) : NULL;
    return claim ? claim_lag(claim) : -1;
}

/* ---- events ---- */

void rv_consumer_on_event(struct rv_consumer *consumer, rv_event_fn *fn, void *ctx)
{
    consumer->on_event = fn;
    consumer->event_ctx = ctx;
}

void consumer_event(struct rv_consumer *c, const struct rv_event *event)
{
    client_log(c->client, RV_INFO, "%zu partitions: %s", event->count, event->text);
    if (c->on_event) {
        c->in_event = true;
        c->event = event->kind;
        c->on_event(c->event_ctx, event);
        c->in_event = false;
    }
}

static void jumps_tell(struct rv_consumer *c)
{
    c->jumps = false;
    for (size_t i = 0; i < c->claims.count; i++) {
        struct claim *claim = c->claims.items[i];
        if (!claim->jump_ready) {
            continue;
        }
        char text[300];
        const struct rv_partition p = {.topic = claim->topic->name,
                                       .partition = claim->partition,
                                       .offset = claim->position,
                                       .leader_epoch = claim->position_epoch};
        const struct rv_event event = {.kind = RV_JUMPED,
                                       .partitions = &p,
                                       .count = 1,
                                       .from = claim->jump_from,
                                       .to = claim->position,
                                       .text = text};
        snprintf(text, sizeof text, "topic %s partition %d: from offset %lld to %lld: %s", p.topic,
                 (int)p.partition, (long long)event.from, (long long)event.to, claim->jump_why);
        claim->jump_from = -1;
        claim->jump_ready = false;
        consumer_event(c, &event);
    }
}

/* Caught up: everything that rv_poll gave before is done, and there was no more. */
static void progress_tell(struct rv_consumer *c)
{
    bool at_end = c->claims.count > 0;
    int64_t behind = 0;
    for (size_t i = 0; i < c->claims.count; i++) {
        const struct claim *claim = c->claims.items[i];
        int64_t lag = claim_lag(claim);
        at_end &= claim->state == CLAIM_READY && lag == 0;
        behind += lag > 0 ? lag : 0;
    }
    bool fell = c->caught_up && behind > option(c, OPT_MAX_POLL_RECORDS);
    if (!fell && (c->caught_up || !at_end)) {
        return;
    }
    c->caught_up = !fell;
    const struct rv_event event = {.kind = fell ? RV_FELL_BEHIND : RV_CAUGHT_UP,
                                   .from = -1,
                                   .to = -1,
                                   .text = fell ? "more came than one poll takes"
                                                : "everything has been read"};
    consumer_event(c, &event);
}

/* ---- trouble ---- */

/* Topics and partitions that are not there. */
void claims_look(struct rv_consumer *c)
{
    int64_t now = client_now(c->client);
    for (size_t i = 0; i < c->claims.count; i++) {
        struct claim *claim = c->claims.items[i];
        const struct topic *t = claim->topic;
        bool missing = t->known && (t->code == KERR_UNKNOWN_TOPIC_OR_PARTITION ||
                                    (t->code == RV_OK && claim->partition >= t->count));
        if (claim->state == CLAIM_FAILED) {
            continue;
        }
        if (t->known && t->code != RV_OK && !error_is_retriable(t->code)) {
            claim_fail(c, claim, t->code);
        } else if (!missing) {
            claim->unknown_since_ms = 0;
            claim->told = false;
        } else if (!claim->unknown_since_ms) {
            claim->unknown_since_ms = now;
            consumer_wake(c, now + UNKNOWN_PATIENCE_MS);
        } else if (!claim->told && now - claim->unknown_since_ms >= UNKNOWN_PATIENCE_MS) {
            claim->told = true;
            claim->trouble = KERR_UNKNOWN_TOPIC_OR_PARTITION;
            c->trouble = true;
        }
    }
}

static int trouble_take(struct rv_consumer *c, struct rv_error *ret_error)
{
    for (size_t i = 0; c->trouble && i < c->claims.count; i++) {
        struct claim *claim = c->claims.items[i];
        if (claim->trouble != RV_OK) {
            int code = claim->trouble;
            claim->trouble = RV_OK;
            return error_set(ret_error, code, "topic %s partition %d at offset %lld: %s",
                             claim->topic->name, (int)claim->partition, (long long)claim->position,
                             error_about(code));
        }
    }
    c->trouble = false;
    return RV_OK;
}

/* ---- poll ---- */

/* delivery=at-most-once: what is committed is given; when that fails, nothing is, and it is read
 * again. */
static int commit_first(struct rv_consumer *c, struct rv_error *ret_error)
{
    int code = commit_positions(c, client_deadline(c->client, -1), ret_error);
    if (code == RV_OK) {
        return RV_OK;
    }
    for (size_t i = 0; i < c->claims.count; i++) {
        struct claim *claim = c->claims.items[i];
        if (claim->given_from >= 0) {
            claim_at(c, claim, claim->given_from, claim->given_epoch);
        }
    }
    c->record_count = 0;
    return code;
}

/* One round: callbacks, trouble, records. */
static int poll_once(struct rv_consumer *c, struct rv_error *ret_error)
{
    int code = is_member(c) ? member_poll(c, ret_error) : RV_OK;
    if (code != RV_OK) {
        return code;
    }
    if (c->jumps) {
        jumps_tell(c);
    }
    progress_tell(c);
    for (;;) {
        code = trouble_take(c, ret_error);
        if (code == RV_OK) {
            code = records_collect(c, ret_error);
        }
        if (code != RV_OK || c->record_count || !c->trouble) {
            return code;
        }
    }
}

int rv_poll(struct rv_consumer *consumer, int timeout_ms, const struct rv_record **ret_records,
            size_t *ret_count, struct rv_error *ret_error)
{
    struct rv_consumer *c = consumer;
    if (c->client->in_turn || c->in_event) {
        return error_set(ret_error, RV_E_STATE, "poll: not allowed in a callback");
    }
    int64_t deadline = client_deadline(c->client, timeout_ms);
    *ret_records = NULL;
    *ret_count = 0;
    member_polled(c);
    records_release(c);
    if (option(c, OPT_DELIVERY) == DELIVERY_AT_LEAST_ONCE) {
        commits_auto(c);
    }
    client_turn(c->client, 0);
    int code = RV_OK;
    for (bool last = false;;) {
        code = poll_once(c, ret_error);
        if (code != RV_OK || c->record_count || last) {
            break;
        }
        last = !client_turn_until(c->client, deadline);
    }
    if (code == RV_OK && c->record_count && option(c, OPT_DELIVERY) == DELIVERY_AT_MOST_ONCE) {
        code = commit_first(c, ret_error);
    }
    if (code == RV_OK) {
        *ret_records = c->records;
        *ret_count = c->record_count;
    }
    return code;
}

#include "tests/kit/group_kit.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/mem.h"

#include <stdlib.h>

void kit_init(struct group_kit *k, bool at_once)
{
    *k = (struct group_kit){
        .config =
            {
                     .min_session_timeout_ms = 6000,
                     .max_session_timeout_ms = 1800000,
                     .max_size = 1000,
                     .initial_rebalance_delay_ms = 0,
                     .new_member_join_timeout_ms = 300000,
                     .member_max_bytes = 1 << 20,
                     .offsets_retention_ms = -1,
                     },
        .env = {.now_ms = 1000, .wall_ms = 1700000000000},
        .next_token = 1,
        .seed = 7,
        .at_once = at_once,
    };
    k->env.config = &k->config;
    group_effects_init(&k->fx);
    arena_init(&k->arena, SIZE_MAX);
    k->g = group_create(STR("g"), k->seed);
}

void kit_finish(struct group_kit *k)
{
    group_destroy(k->g);
    group_effects_finish(&k->fx);
    arena_finish(&k->arena);
    mem_free(k->log);
    mem_free(k->appends);
    mem_free(k->answers);
}

static struct str keep(struct group_kit *k, struct str s)
{
    return s.ptr ? (struct str){.ptr = arena_dup(&k->arena, s.ptr, s.len), .len = s.len} : s;
}

static struct bytes keep_bytes(struct group_kit *k, struct bytes b)
{
    return (struct bytes){.ptr = arena_dup(&k->arena, b.ptr ? b.ptr : (const uint8_t *)"", b.len),
                          .len = b.len};
}

static struct group_record keep_record(struct group_kit *k, const struct group_record *r)
{
    struct group_record copy = *r;
    copy.topic = keep(k, r->topic);
    copy.offset_metadata = keep(k, r->offset_metadata);
    if (r->metadata) {
        struct group_metadata *m = arena_dup(&k->arena, r->metadata, sizeof *m);
        m->protocol_type = keep(k, m->protocol_type);
        m->protocol = keep(k, m->protocol);
        m->leader = keep(k, m->leader);
        struct group_member_record *members =
            arena_dup(&k->arena, m->members, m->member_count * sizeof *members);
        for (size_t i = 0; i < m->member_count; i++) {
            members[i].id = keep(k, members[i].id);
            members[i].instance_id = keep(k, members[i].instance_id);
            members[i].client_id = keep(k, members[i].client_id);
            members[i].client_host = keep(k, members[i].client_host);
            members[i].subscription = keep_bytes(k, members[i].subscription);
            members[i].assignment = keep_bytes(k, members[i].assignment);
        }
        m->members = members;
        copy.metadata = m;
    }
    return copy;
}

static void keep_answer(struct group_kit *k, const struct group_answer *a)
{
    check(a->token < k->next_token);
    if (k->next_token > k->answer_size) {
        size_t size = (size_t)k->next_token * 2;
        k->answers = mem_need_resize(k->answers, size * sizeof(struct group_answer *));
        memset(k->answers + k->answer_size, 0,
               (size - k->answer_size) * sizeof(struct group_answer *));
        k->answer_size = size;
    }
    k->answered_twice += k->answers[a->token] != NULL;
    struct group_answer *copy = arena_dup(&k->arena, a, sizeof *a);
    copy->member_id = keep(k, a->member_id);
    copy->protocol_type = keep(k, a->protocol_type);
    copy->protocol = keep(k, a->protocol);
    copy->leader = keep(k, a->leader);
    copy->assignment = keep_bytes(k, a->assignment);
    struct group_answer_member *members =
        arena_dup(&k->arena, a->members, a->member_count * sizeof *members);
    for (size_t i = 0; i < a->member_count; i++) {
        members[i].member_id = keep(k, members[i].member_id);
        members[i].instance_id = keep(k, members[i].instance_id);
        members[i].metadata = keep_bytes(k, members[i].metadata);
    }
    copy->members = members;
    if (a->leave_errors) {
        copy->leave_errors =
            arena_dup(&k->arena, a->leave_errors, a->leave_count * sizeof *a->leave_errors);
    }
    k->answers[a->token] = copy;
}

static void keep_append(struct group_kit *k, const struct group_append *a)
{
    if (k->append_count == k->append_size) {
        k->append_size = k->append_size ? k->append_size * 2 : 8;
        k->appends = mem_need_resize(k->appends, k->append_size * sizeof *k->appends);
    }
    struct group_record *records = arena_alloc(&k->arena, a->record_count * sizeof *records);
    for (size_t i = 0; i < a->record_count; i++) {
        records[i] = keep_record(k, &a->records[i]);
    }
    k->appends[k->append_count++] = (struct kit_append){
        .write_id = a->write_id, .records = records, .record_count = a->record_count};
}

uint64_t kit_step(struct group_kit *k, struct group_event e)
{
    bool needs_token = e.kind >= GROUP_EVENT_JOIN && e.kind <= GROUP_EVENT_DELETE;
    if (e.token == 0 && needs_token) {
        e.token = k->next_token++;
    }
    group_step(k->g, &e, &k->env, &k->fx);
    group_verify(k->g);
    for (size_t i = 0; i < k->fx.answer_count; i++) {
        keep_answer(k, &k->fx.answers[i]);
    }
    for (size_t i = 0; i < k->fx.append_count; i++) {
        keep_append(k, &k->fx.appends[i]);
    }
    group_effects_reset(&k->fx);
    while (k->at_once && k->append_count) {
        kit_settle(k, GROUP_OK);
    }
    return e.token;
}

const struct group_answer *kit_answer(const struct group_kit *k, uint64_t token)
{
    check(token && token < k->next_token);
    return token < k->answer_size ? k->answers[token] : NULL;
}

static struct kit_append take_oldest(struct group_kit *k)
{
    check(k->append_count > 0);
    struct kit_append a = k->appends[0];
    k->append_count--;
    memmove(k->appends, k->appends + 1, k->append_count * sizeof a);
    return a;
}

static void log_add(struct group_kit *k, const struct kit_append *a)
{
    for (size_t i = 0; i < a->record_count; i++) {
        if (k->log_count == k->log_size) {
            k->log_size = k->log_size ? k->log_size * 2 : 64;
            k->log = mem_need_resize(k->log, k->log_size * sizeof *k->log);
        }
        k->log[k->log_count++] = a->records[i];
    }
}

void kit_settle(struct group_kit *k, enum group_error error)
{
    struct kit_append a = take_oldest(k);
    if (!error) {
        log_add(k, &a);
        for (size_t i = 0; i < a.record_count; i++) {
            group_apply(k->g, &a.records[i]);
        }
    }
    kit_step(
        k, (struct group_event){
               .kind = GROUP_EVENT_APPENDED, .appended = {.write_id = a.write_id, .error = error}
    });
}

void kit_advance(struct group_kit *k, int64_t ms)
{
    int64_t end = k->env.now_ms + ms;
    while (k->g->wake_ms <= end) {
        int64_t at = k->g->wake_ms > k->env.now_ms ? k->g->wake_ms : k->env.now_ms;
        k->env.wall_ms += at - k->env.now_ms;
        k->env.now_ms = at;
        kit_step(k, (struct group_event){.kind = GROUP_EVENT_TICK});
    }
    k->env.wall_ms += end - k->env.now_ms;
    k->env.now_ms = end;
}

static struct group *replay(const struct group_kit *k)
{
    struct group *g = group_create(STR("g"), k->seed + 1); /* nothing may depend on the seed */
    for (size_t i = 0; i < k->log_count; i++) {
        group_apply(g, &k->log[i]);
    }
    return g;
}

void kit_restart(struct group_kit *k, size_t landed)
{
    group_destroy(k->g);
    for (size_t i = 0; i < landed; i++) {
        struct kit_append a = take_oldest(k);
        log_add(k, &a);
    }
    k->append_count = 0;
    k->g = replay(k);
    kit_step(k, (struct group_event){.kind = GROUP_EVENT_LOADED});
}

bool kit_replay_agrees(const struct group_kit *k)
{
    struct group *g = replay(k);
    bool same = group_lasting_equal(g, k->g) && group_lasting_equal(k->g, g);
    group_destroy(g);
    return same;
}

struct bytes kit_bytes(const char *text)
{
    return (struct bytes){.ptr = (const uint8_t *)text, .len = strlen(text)};
}

struct bytes kit_subscription(struct group_kit *k, const char *topics)
{
    size_t size = strlen(topics), count = size ? 1 : 0;
    uint8_t *p = arena_alloc(&k->arena, 6 + 2 * size + 8), *at = p + 6;
    for (const char *t = topics; *t;) {
        size_t n = strcspn(t, ",");
        put_be16(at, (uint16_t)n);
        memcpy(at + 2, t, n);
        at += 2 + n;
        t += n;
        if (*t == ',') {
            count++;
            t++;
        }
    }
    put_be16(p, 1);
    put_be32(p + 2, (uint32_t)count);
    put_be32(at, UINT32_MAX); /* no user data */
    return (struct bytes){.ptr = p, .len = (size_t)(at + 4 - p)};
}

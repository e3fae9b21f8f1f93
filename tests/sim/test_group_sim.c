/* A group and its clients in a bad network, on virtual time: members join (in one step and two,
 * static ones too), leave, crash and come back; messages are late, lost or doubled; appends take
 * their time or are refused; the broker restarts and replays its log. All of it follows from one
 * seed.
 *
 * What must hold:
 *   - a partition has at most one owner in a generation, however often assignments are asked for
 * again
 *   - no member commits with an older generation than one that was told, nor a stranger at all
 *   - what is acknowledged is lasting; a replay of the log gives the same lasting state
 *   - every request is answered once at most, and the invariants of group.c hold after each step
 *   - once the network is kind again, every live member is assigned, in one generation, and every
 * partition has an owner
 *
 * SEED=n runs that seed alone; RUNS=n sets how many are run. A failure prints
 * its seed.
 */
#include "base/check.h"
#include "base/mem.h"
#include "base/rand.h"
#include "tests/kit/group_kit.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    CLIENTS = 7,
    PARTITIONS = 11,
    GENERATIONS = 4096, /* that a run can see */
    MESSAGES = 512,     /* under way at once */
    FAULTY_MS = 400000, /* virtual time with faults */
    KIND_MS = 200000,   /* then without */
    SESSION_MS = 10000,
    REBALANCE_MS = 15000,
    GIVE_UP_MS = 40000, /* a client that got no answer for so long asks again */
    TOLD = 64,          /* members told of one generation */
};

enum phase { OUT, IN_JOIN, IN_SYNC, MEMBER };

struct client {
    bool alive;
    bool gone; /* for good */
    bool lazy; /* sends heartbeats where a sync is due, until it is expelled */
    bool is_static;
    int incarnation;  /* of the process: late answers to an earlier one are nobody's */
    char instance[8]; /* of static ones */
    char id[40];      /* member id; "" unknown */
    enum phase phase;
    int32_t generation;
    uint32_t owned;                /* bit n: partition n */
    bool leads;                    /* must assign in its next sync */
    struct group_assignment *plan; /* as the leader; in the kit's arena */
    size_t plan_count;
    uint64_t waits_for;   /* request number; 0 none */
    int64_t since_ms;     /* of that request */
    int64_t act_ms;       /* next action of its own */
    int taste;            /* changes its metadata when it changes */
    bool two_step, skips; /* versions of its client */
};

struct message {
    int64_t at_ms;
    bool is_answer;
    int client, incarnation;
    uint64_t number;          /* of the request */
    struct group_event event; /* of a request; strings in the kit's arena */
    const struct group_answer *answer;
};

struct asked { /* by token */
    int client, incarnation;
    uint64_t number;
    enum group_event_kind kind;
    int32_t generation;
    struct str member_id, instance_id;
    bool must_fail; /* a commit that is too old already */
    int64_t offset; /* of a commit */
    int32_t partition;
    bool open; /* not answered yet */
};

struct world {
    struct group_kit kit;
    struct rng rng;
    bool kind; /* no more faults */
    struct client clients[CLIENTS];
    struct message messages[MESSAGES];
    size_t message_count;
    struct asked *asked; /* by token */
    size_t asked_size;
    uint64_t first_open; /* no older token is open */
    uint64_t next_number, next_id;
    int64_t settle_ms;                          /* when the oldest append ends */
    int32_t newest;                             /* generation that somebody was told of */
    struct str owners[GENERATIONS][PARTITIONS]; /* null: nobody yet */
    struct str told[GENERATIONS][TOLD];
    struct {
        int64_t wall_ms; /* of the acknowledgement */
        int64_t keep_ms; /* it must be there for so long after it */
        bool there;
    } acked[PARTITIONS]; /* commits that were acknowledged */
    uint64_t settles, synced, committed, refused, restarts,
        deleted;        /* what happened, for the curious */
    const char *broken; /* what does not hold; NULL */
};

static bool chance(struct world *w, uint64_t percent)
{
    return rng_below(&w->rng, 100) < percent;
}

static int64_t between(struct world *w, int64_t low, int64_t high)
{
    return low + (int64_t)rng_below(&w->rng, (uint64_t)(high - low + 1));
}

static void require(struct world *w, bool holds, const char *what)
{
    if (!holds && !w->broken) {
        w->broken = what;
    }
}

static struct str keep(struct world *w, const char *text)
{
    size_t n = strlen(text);
    return (struct str){.ptr = arena_dup(&w->kit.arena, text, n + 1), .len = n};
}

/* ---- the network ---- */

static struct group_assignment *rotated(struct world *w, const struct group_sync *s)
{
    struct group_assignment *r = arena_zero(&w->kit.arena, s->assignment_count, sizeof *r);
    for (size_t i = 0; i < s->assignment_count; i++) {
        r[i] = s->assignments[i];
        r[i].assignment = s->assignments[(i + 1) % s->assignment_count].assignment;
    }
    return r;
}

static void post(struct world *w, struct message m)
{
    if (!w->kind && chance(w, 4)) {
        return; /* lost */
    }
    int copies = !w->kind && !m.is_answer && chance(w, 5) ? 2 : 1;
    for (int i = 0; i < copies; i++) {
        m.at_ms = w->kit.env.now_ms +
                  (!w->kind && chance(w, 5) ? between(w, 1000, 20000) : between(w, 0, 30));
        check(w->message_count < MESSAGES);
        w->messages[w->message_count++] = m;
        if (m.event.kind == GROUP_EVENT_SYNC && m.event.sync.assignment_count > 1) {
            m.event.sync.assignments =
                rotated(w, &m.event.sync); /* a leader that changes its mind */
        }
    }
}

static void request(struct world *w, int n, struct group_event e)
{
    struct client *c = &w->clients[n];
    struct message m = {
        .client = n, .incarnation = c->incarnation, .number = ++w->next_number, .event = e};
    c->waits_for = m.number;
    c->since_ms = w->kit.env.now_ms;
    post(w, m);
}

/* ---- what clients send ---- */

static void send_join(struct world *w, int n)
{
    struct client *c = &w->clients[n];
    char text[48];
    struct group_protocol *p = arena_zero(&w->kit.arena, 2, sizeof *p);
    snprintf(text, sizeof text, "range-%d", c->taste);
    p[0] = (struct group_protocol){
        .name = STR("range"), .metadata = kit_subscription(&w->kit, c->taste % 2 ? "t,u" : "t")};
    p[1] = (struct group_protocol){.name = STR("sticky"), .metadata = kit_bytes(keep(w, text).ptr)};
    p[1].metadata.len = strlen(text);
    struct group_join j = {
        .member_id = keep(w, c->id),
        .instance_id = c->is_static ? keep(w, c->instance) : (struct str){0},
        .client_id = STR("sim"),
        .client_host = STR("/::1"),
        .protocol_type = STR("consumer"),
        .protocols = p,
        .protocol_count = 2,
        .session_timeout_ms = SESSION_MS,
        .rebalance_timeout_ms = REBALANCE_MS,
        .requires_known_member_id = c->two_step,
        .can_skip_assignment = c->skips,
    };
    c->phase = IN_JOIN;
    request(w, n, (struct group_event){.kind = GROUP_EVENT_JOIN, .join = j});
}

static struct str instance_of(struct world *w, const struct client *c)
{
    return c->is_static ? keep(w, c->instance) : (struct str){0};
}

static void send_sync(struct world *w, int n)
{
    struct client *c = &w->clients[n];
    c->phase = IN_SYNC;
    request(w, n,
            (struct group_event){
                .kind = GROUP_EVENT_SYNC,
                .sync = {.member_id = keep(w, c->id),
                         .instance_id = instance_of(w, c),
                         .generation = c->generation,
                         .assignments = c->leads ? c->plan : NULL,
                         .assignment_count = c->leads ? c->plan_count : 0}
    });
}

static void send_heartbeat(struct world *w, int n)
{
    struct client *c = &w->clients[n];
    request(w, n,
            (struct group_event){
                .kind = GROUP_EVENT_HEARTBEAT,
                .heartbeat = {.member_id = keep(w, c->id),
                              .instance_id = instance_of(w, c),
                              .generation = c->generation}
    });
}

/* Not waited for: consumers commit while they go on. */
static void send_commit(struct world *w, int n, bool as_member)
{
    struct client *c = &w->clients[n];
    struct group_commit_offset *o = arena_zero(&w->kit.arena, 1, sizeof *o);
    *o = (struct group_commit_offset){.topic = STR("t"),
                                      .partition = (int32_t)rng_below(&w->rng, PARTITIONS),
                                      .offset = (int64_t)++w->next_number,
                                      .leader_epoch = -1,
                                      .metadata = STR("m")};
    post(w, (struct message){
                .client = n,
                .incarnation = c->incarnation,
                .number = w->next_number,
                .event = {.kind = GROUP_EVENT_COMMIT,
                          .commit = {.member_id = as_member ? keep(w, c->id) : STR(""),
                                     .instance_id = as_member ? instance_of(w, c) : (struct str){0},
                                     .generation = as_member ? c->generation : -1,
                                     .retention_ms = chance(w, 5) ? 30000 : -1,
                                     .offsets = o,
                                     .offset_count = 1}}
    });
}

static void send_leave(struct world *w, int n)
{
    struct client *c = &w->clients[n];
    struct group_leaver *l = arena_zero(&w->kit.arena, 1, sizeof *l);
    l->member_id = c->is_static && chance(w, 50) ? STR("") : keep(w, c->id);
    l->instance_id = instance_of(w, c);
    request(w, n,
            (struct group_event){
                .kind = GROUP_EVENT_LEAVE, .leave = {.leavers = l, .leaver_count = 1}
    });
}

/* ---- what clients make of answers ---- */

static void forget_answers(struct client *c)
{
    c->waits_for = 0;
    c->incarnation++;
}

static void start(struct world *w, int n)
{
    struct client *c = &w->clients[n];
    forget_answers(c);
    c->alive = true;
    c->id[0] = '\0';
    c->phase = OUT;
    c->owned = 0;
    c->two_step = chance(w, 70);
    c->skips = chance(w, 50);
    c->act_ms = w->kit.env.now_ms + between(w, 0, 500);
}

static void stop(struct world *w, int n)
{
    struct client *c = &w->clients[n];
    forget_answers(c);
    c->alive = false;
    c->owned = 0;
    c->act_ms = w->kit.env.now_ms + between(w, 100, 30000); /* when it comes back */
}

static void out(struct world *w, int n, bool forget_id)
{
    struct client *c = &w->clients[n];
    if (forget_id) {
        c->id[0] = '\0';
        c->owned = 0;
    }
    c->phase = OUT;
    c->act_ms = w->kit.env.now_ms + between(w, 0, 200);
}

static void plan(struct world *w, struct client *c, const struct group_answer *a)
{
    struct group_assignment *given = arena_zero(&w->kit.arena, a->member_count, sizeof *given);
    for (size_t i = 0; i < a->member_count; i++) {
        uint8_t *mask = arena_zero(&w->kit.arena, 1, sizeof(uint32_t));
        uint32_t bits = 0;
        for (size_t p = i; p < PARTITIONS; p += a->member_count) {
            bits |= 1u << p;
        }
        memcpy(mask, &bits, sizeof bits);
        given[i] = (struct group_assignment){
            .member_id = a->members[i].member_id, .assignment = {.ptr = mask, .len = sizeof bits}
        };
    }
    c->leads = a->member_count > 0 && !a->skip_assignment;
    c->plan = given;
    c->plan_count = a->member_count;
}

static uint32_t owned_of(const struct group_answer *a)
{
    uint32_t bits = 0;
    if (a->assignment.len == sizeof bits) {
        memcpy(&bits, a->assignment.ptr, sizeof bits);
    }
    return bits;
}

static void on_refusal(struct world *w, int n, enum group_error error)
{
    if (error == GROUP_FENCED_INSTANCE) {
        stop(w, n);
        return;
    }
    out(w, n, error == GROUP_UNKNOWN_MEMBER || error == GROUP_ILLEGAL_GENERATION);
}

static void on_answer(struct world *w, const struct message *m)
{
    int n = m->client;
    struct client *c = &w->clients[n];
    if (m->incarnation != c->incarnation || m->number != c->waits_for || !c->alive) {
        return;
    }
    const struct group_answer *a = m->answer;
    c->waits_for = 0;
    if (c->phase == IN_JOIN && (a->error == GROUP_OK || a->error == GROUP_MEMBER_ID_REQUIRED)) {
        snprintf(c->id, sizeof c->id, "%.*s", STR_ARG(a->member_id));
        if (a->error == GROUP_MEMBER_ID_REQUIRED) {
            send_join(w, n);
            return;
        }
        c->generation = a->generation;
        plan(w, c, a);
        c->lazy = chance(w, 3);
        if (c->lazy) {
            c->phase = MEMBER;
            c->owned = 0;
        } else {
            send_sync(w, n);
        }
    } else if (a->error) {
        on_refusal(w, n, a->error);
    } else if (c->phase == IN_SYNC) {
        c->phase = MEMBER;
        c->owned = owned_of(a);
        c->act_ms = w->kit.env.now_ms + between(w, 100, 3000);
    } else {
        c->act_ms = w->kit.env.now_ms + between(w, 1000, 3000);
    }
}

static void act(struct world *w, int n)
{
    struct client *c = &w->clients[n];
    int64_t now = w->kit.env.now_ms;
    if (!c->alive) {
        start(w, n);
        return;
    }
    c->act_ms = now + 1000;
    if (!w->kind && chance(w, 2)) { /* a crash: no word to anybody */
        stop(w, n);
        return;
    }
    if (c->waits_for) {
        if (now - c->since_ms > GIVE_UP_MS) {
            c->waits_for = 0;
            out(w, n, false);
        }
        return;
    }
    if (c->phase != MEMBER) {
        send_join(w, n);
        return;
    }
    if (!w->kind && chance(w, 2)) {
        send_leave(w, n);
        stop(w, n);
        return;
    }
    if (!w->kind && chance(w, 3)) {
        c->taste++;
        send_join(w, n);
        return;
    }
    if (!c->lazy && chance(w, 40)) {
        send_commit(w, n, !chance(w, 5));
    }
    send_heartbeat(w, n);
}

/* ---- the broker's side, and what is checked there ---- */

static void check_sync(struct world *w, const struct asked *q, const struct group_answer *a)
{
    uint32_t bits = owned_of(a);
    struct str owner = q->instance_id.ptr ? q->instance_id : q->member_id;
    check(q->generation >= 0 && q->generation < GENERATIONS);
    w->synced++;
    for (int p = 0; p < PARTITIONS; p++) {
        if (!(bits & 1u << p)) {
            continue;
        }
        struct str *before = &w->owners[q->generation][p];
        require(w, !before->ptr || str_eq(*before, owner),
                "a partition has two owners in one generation");
        *before = owner;
    }
}

static bool was_told(const struct world *w, int32_t generation, struct str id)
{
    for (int i = 0; i < TOLD && w->told[generation][i].ptr; i++) {
        if (str_eq(w->told[generation][i], id)) {
            return true;
        }
    }
    return false;
}

static void tell(struct world *w, int32_t generation, struct str id)
{
    check(generation >= 0 && generation < GENERATIONS);
    for (int i = 0; i < TOLD; i++) {
        if (!w->told[generation][i].ptr) {
            w->told[generation][i] = id;
            break;
        }
    }
    w->newest = generation > w->newest ? generation : w->newest;
}

static void check_commit(struct world *w, const struct asked *q)
{
    require(w, !q->must_fail, "a member of an old generation committed");
    if (q->generation >= 0) {
        require(w, was_told(w, q->generation, q->member_id), "a stranger committed");
    }
    const struct group_offset *o = group_offset_find(w->kit.g, STR("t"), q->partition);
    require(w, o && o->offset == q->offset, "an acknowledged commit is not there");
    w->committed++;
    int64_t keep = w->kit.config.offsets_retention_ms;
    keep = o && o->expire_ms >= 0 ? o->expire_ms - o->commit_ms : keep < 0 ? INT64_MAX / 2 : keep;
    w->acked[q->partition].wall_ms = o ? o->commit_ms : 0;
    w->acked[q->partition].keep_ms = keep;
    w->acked[q->partition].there = true;
}

static void check_acked(struct world *w)
{
    for (int p = 0; p < PARTITIONS; p++) {
        if (w->acked[p].there && !group_offset_find(w->kit.g, STR("t"), p)) {
            require(w, w->kit.env.wall_ms - w->acked[p].wall_ms >= w->acked[p].keep_ms,
                    "an acknowledged commit was forgotten too early");
            w->acked[p].there = false;
        }
    }
}

/* Answers that the last step gave: checked, and sent off. */
static void collect(struct world *w)
{
    require(w, w->kit.answered_twice == 0, "a request was answered twice");
    for (uint64_t t = w->first_open; t < w->kit.next_token; t++) {
        struct asked *q = &w->asked[t];
        const struct group_answer *a = q->open ? kit_answer(&w->kit, t) : NULL;
        if (a) {
            q->open = false;
            if (q->kind == GROUP_EVENT_JOIN && !a->error) {
                tell(w, a->generation, a->member_id);
            } else if (q->kind == GROUP_EVENT_SYNC && !a->error) {
                check_sync(w, q, a);
            } else if (q->kind == GROUP_EVENT_COMMIT && !a->error) {
                check_commit(w, q);
            } else if (q->kind == GROUP_EVENT_DELETE && !a->error) {
                w->deleted++;
                memset(w->acked, 0, sizeof w->acked);
            }
            if (q->client >= 0) {
                post(w, (struct message){.is_answer = true,
                                         .client = q->client,
                                         .incarnation = q->incarnation,
                                         .number = q->number,
                                         .answer = a});
            }
        }
        if (!q->open && t == w->first_open) {
            w->first_open++;
        }
    }
    if (w->kit.append_count && w->settle_ms == INT64_MAX) {
        w->settle_ms = w->kit.env.now_ms + between(w, 0, chance(w, 10) ? 3000 : 10);
    }
}

static void arrive(struct world *w, const struct message *m, struct group_event e)
{
    if (e.kind == GROUP_EVENT_JOIN) { /* a new id for each arrival, of a doubled request too */
        char text[48];
        snprintf(text, sizeof text, "c%d-%llu", m->client, (unsigned long long)++w->next_id);
        e.join.new_member_id = keep(w, text);
    }
    uint64_t token = w->kit.next_token;
    if (token >= w->asked_size) {
        w->asked_size = (size_t)token * 2 + 64;
        w->asked = mem_need_resize(w->asked, w->asked_size * sizeof *w->asked);
    }
    struct asked q = {.client = m ? m->client : -1, .kind = e.kind, .open = true, .generation = -1};
    if (m) {
        q.incarnation = m->incarnation;
        q.number = m->number;
    }
    if (e.kind == GROUP_EVENT_SYNC) {
        q.generation = e.sync.generation;
        q.member_id = e.sync.member_id;
        q.instance_id = e.sync.instance_id;
    } else if (e.kind == GROUP_EVENT_COMMIT) {
        q.generation = e.commit.generation;
        q.member_id = e.commit.member_id;
        q.partition = e.commit.offsets[0].partition;
        q.offset = e.commit.offsets[0].offset;
        q.must_fail = q.generation >= 0 && q.generation < w->newest;
    }
    w->asked[token] = q;
    check(kit_step(&w->kit, e) == token);
    collect(w);
}

/* Nothing is left of the group: the next one begins at generation 0, and is another one. */
static void begin_anew(struct world *w)
{
    check(w->kit.g->generation == 0);
    memset(w->owners, 0, sizeof w->owners);
    memset(w->told, 0, sizeof w->told);
    w->newest = 0;
}

/* The owner forgets a group of which nothing is left. */
static void forget_if_gone(struct world *w)
{
    if (group_is_forgettable(w->kit.g) && w->kit.g->generation > 0) {
        kit_restart(&w->kit, 0);
        begin_anew(w);
    }
}

static void restart(struct world *w)
{
    w->restarts++;
    kit_restart(&w->kit, rng_below(&w->rng, w->kit.append_count + 1));
    w->message_count = 0; /* connections do not outlive the process */
    bool deleting = false;
    for (uint64_t t = w->first_open; t < w->kit.next_token; t++) {
        deleting |= w->asked[t].open && w->asked[t].kind == GROUP_EVENT_DELETE;
        w->asked[t].open = false;
    }
    w->settle_ms = INT64_MAX;
    if (group_is_forgettable(w->kit.g)) {
        begin_anew(w);
        if (deleting) { /* that landed, unanswered */
            memset(w->acked, 0, sizeof w->acked);
        }
    }
    w->newest = w->kit.g->generation; /* generations that never became lasting may be told again */
    for (int32_t g = w->newest + 1; g < GENERATIONS && w->told[g][0].ptr; g++) {
        memset(w->told[g], 0, sizeof w->told[g]);
        for (int p = 0; p < PARTITIONS; p++) {
            require(w, !w->owners[g][p].ptr, "an assignment was told that is not lasting");
        }
    }
    for (int n = 0; n < CLIENTS; n++) {
        struct client *c = &w->clients[n];
        if (c->alive && c->waits_for) {
            c->waits_for = 0;
            if (c->phase != MEMBER) {
                out(w, n, false);
            }
        }
    }
    require(w, kit_replay_agrees(&w->kit), "a replay gives another state");
}

static void settle(struct world *w)
{
    w->settle_ms = INT64_MAX;
    enum group_error error = GROUP_OK;
    if (!w->kind && chance(w, 8)) {
        error = chance(w, 50) ? GROUP_NOT_AVAILABLE : GROUP_TOO_LARGE;
        w->refused++;
    }
    kit_settle(&w->kit, error);
    collect(w);
    check_acked(w);
    if (w->settles++ % 64 == 0) {
        require(w, kit_replay_agrees(&w->kit), "a replay gives another state");
    }
}

static void administrate(struct world *w)
{
    if (!w->kind && chance(w, 4)) {
        restart(w);
    } else if (!w->kind && chance(w, 10)) { /* all static members are restarted at once */
        for (int n = 0; n < CLIENTS; n++) {
            if (w->clients[n].is_static && w->clients[n].alive) {
                start(w, n);
                w->clients[n].act_ms = w->kit.env.now_ms + between(w, 0, 5);
            }
        }
    } else if (!w->kind && chance(w, 10)) {
        arrive(w, NULL, (struct group_event){.kind = GROUP_EVENT_DELETE});
    } else {
        kit_step(&w->kit, (struct group_event){.kind = GROUP_EVENT_EXPIRE});
        collect(w);
    }
}

/* ---- one run ---- */

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void run_until(struct world *w, int64_t end_ms)
{
    int64_t admin_ms = w->kit.env.now_ms;
    while (!w->broken) {
        int64_t at = min64(min64(w->kit.g->wake_ms, w->settle_ms), admin_ms);
        size_t next = 0;
        for (size_t i = 0; i < w->message_count; i++) {
            next = w->messages[i].at_ms < w->messages[next].at_ms ? i : next;
        }
        int64_t mail_ms = w->message_count ? w->messages[next].at_ms : INT64_MAX;
        int actor = 0;
        for (int n = 0; n < CLIENTS; n++) {
            actor = w->clients[n].act_ms < w->clients[actor].act_ms ? n : actor;
        }
        at = min64(min64(at, mail_ms), w->clients[actor].act_ms);
        if (at > end_ms) {
            return;
        }
        if (at > w->kit.env.now_ms) {
            w->kit.env.wall_ms += at - w->kit.env.now_ms;
            w->kit.env.now_ms = at;
        }
        if (mail_ms <= at) {
            struct message m = w->messages[next];
            w->messages[next] = w->messages[--w->message_count];
            if (m.is_answer) {
                on_answer(w, &m);
            } else {
                arrive(w, &m, m.event);
            }
        } else if (w->settle_ms <= at) {
            settle(w);
        } else if (w->clients[actor].act_ms <= at) {
            act(w, actor);
        } else if (w->kit.g->wake_ms <= at) {
            kit_step(&w->kit, (struct group_event){.kind = GROUP_EVENT_TICK});
            collect(w);
        } else {
            administrate(w);
            admin_ms = at + between(w, 50, 5000);
        }
        forget_if_gone(w);
    }
}

static void check_all_assigned(struct world *w)
{
    uint32_t all = 0;
    for (int n = 0; n < CLIENTS; n++) {
        const struct client *c = &w->clients[n];
        if (c->gone) {
            continue;
        }
        require(w, c->alive && c->phase == MEMBER, "a live client is not a member");
        require(w, c->generation == w->kit.g->generation, "a member has stayed behind");
        require(w, (all & c->owned) == 0, "a partition has two owners");
        require(w, c->owned != 0, "a member has nothing to do");
        all |= c->owned;
    }
    require(w, all == (1u << PARTITIONS) - 1, "a partition has no owner");
    require(w, w->kit.g->state == GROUP_STABLE, "the group is not stable");
}

static const char *run(uint64_t seed, bool verbose)
{
    struct world *w = mem_need_zero(1, sizeof *w);
    kit_init(&w->kit, false);
    rng_init(&w->rng, seed);
    w->settle_ms = INT64_MAX;
    w->first_open = 1;
    w->kit.config.initial_rebalance_delay_ms = chance(w, 50) ? 0 : 3000;
    w->kit.config.offsets_retention_ms = chance(w, 50) ? -1 : 60000;
    for (int n = 0; n < CLIENTS; n++) {
        struct client *c = &w->clients[n];
        c->is_static = chance(w, 40);
        snprintf(c->instance, sizeof c->instance, "i%d", n);
        c->act_ms = w->kit.env.now_ms + between(w, 0, 5000);
    }
    run_until(w, w->kit.env.now_ms + FAULTY_MS);
    w->kind = true;
    for (int n = 1; n < CLIENTS; n++) { /* some crash once more, and never come back */
        if (chance(w, 20)) {
            stop(w, n);
            w->clients[n].gone = true;
            w->clients[n].act_ms = INT64_MAX;
        }
    }
    run_until(w, w->kit.env.now_ms + KIND_MS);
    if (!w->broken) {
        require(w, kit_replay_agrees(&w->kit), "a replay gives another state");
        check_all_assigned(w);
    }
    if (verbose) {
        fprintf(stderr,
                "seed=%llu generations=%d syncs=%llu commits=%llu refused=%llu restarts=%llu "
                "deletions=%llu log=%zu %s\n",
                (unsigned long long)seed, w->kit.g->generation, (unsigned long long)w->synced,
                (unsigned long long)w->committed, (unsigned long long)w->refused,
                (unsigned long long)w->restarts, (unsigned long long)w->deleted, w->kit.log_count,
                w->broken ? w->broken : "ok");
    }
    const char *broken = w->broken;
    kit_finish(&w->kit);
    mem_free(w->asked);
    mem_free(w);
    return broken;
}

/* In a child, so that a broken invariant (which ends the process) still tells its seed. */
static void a_group_survives_a_bad_network(void **state)
{
    (void)state;
    const char *one = getenv("SEED"), *many = getenv("RUNS"), *from = getenv("FIRST");
    uint64_t first = one ? strtoull(one, NULL, 10) : from ? strtoull(from, NULL, 10) : 1;
    uint64_t runs = one ? 1 : many ? strtoull(many, NULL, 10) : 2000;
    volatile uint64_t *current =
        mmap(NULL, sizeof *current, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal((void *)(uintptr_t)current, MAP_FAILED);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* the runner's time limit ends us both */
        for (uint64_t seed = first; seed < first + runs; seed++) {
            *current = seed;
            const char *broken = run(seed, one != NULL);
            if (broken) {
                fprintf(stderr, "%s\n", broken);
                _exit(1);
            }
        }
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (status != 0) {
        fail_msg("seed %llu fails: SEED=%llu runs it alone", (unsigned long long)*current,
                 (unsigned long long)*current);
    }
    munmap((void *)(uintptr_t)current, sizeof *current);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_group_survives_a_bad_network)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

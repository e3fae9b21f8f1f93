/* A group and any order of events: its invariants hold after each, every request is answered once
 * at most, what it appends can be written and read back, and a replay gives the same state.
 *
 *   events: uint8 kind, then bytes that choose from few members, instances, generations
 */
#include "base/mem.h"
#include "broker/coord/records.h"
#include "protocol/wire.h"
#include "tests/fuzz/fuzz.h"
#include "tests/kit/group_kit.h"

enum { EVENTS_MAX = 200 };

struct run {
    struct group_kit kit;
    struct input in;
    int ids;          /* given out */
    size_t log_count; /* records of the kit's log that were looked at */
};

static uint8_t choose(struct run *r, uint8_t count)
{
    return input_byte(&r->in) % count;
}

/* One of those that there are, or one that there is not. */
static struct str member(struct run *r)
{
    const struct group *g = r->kit.g;
    uint8_t n = choose(r, 10);
    const struct map *from = n & 1 ? &g->pending : &g->members;
    for (const struct map_entry *e = map_first(from); e; e = map_next(e)) {
        if (n < 2) {
            struct bytes key = map_key(e);
            return (struct str){arena_dup(&r->kit.arena, key.ptr, key.len), key.len};
        }
        n = (uint8_t)(n - 2);
    }
    return n & 1 ? STR("") : STR("stranger");
}

static struct str instance(struct run *r)
{
    static const char *const texts[] = {NULL, NULL, "i", "j"};
    return str_of(texts[choose(r, 4)]);
}

static int32_t generation(struct run *r)
{
    uint8_t n = choose(r, 5);
    return n < 3 ? r->kit.g->generation : n == 3 ? r->kit.g->generation - 1 : -1;
}

static void join(struct run *r)
{
    struct group_kit *k = &r->kit;
    static const char *const types[] = {"consumer", "consumer", "consumer", "connect", ""};
    static const char *const topics[] = {"t", "t,u", ""};
    struct group_protocol *p = arena_zero(&k->arena, 2, sizeof *p);
    p[0] = (struct group_protocol){.name = choose(r, 4) ? STR("range") : STR("sticky"),
                                   .metadata = kit_subscription(k, topics[choose(r, 3)])};
    p[1] = (struct group_protocol){.name = STR("both"), .metadata = input_bytes(&r->in, 3)};
    char *id = arena_printf(&k->arena, "m%d", r->ids++);
    uint8_t flags = input_byte(&r->in);
    struct group_join j = {.member_id = flags & 1 ? member(r) : STR(""),
                           .instance_id = instance(r),
                           .client_id = STR("c"),
                           .client_host = STR("/h"),
                           .protocol_type = str_of(types[choose(r, 5)]),
                           .protocols = p,
                           .protocol_count = flags & 6   ? 2
                                             : flags & 8 ? 1
                                                         : 0,
                           .session_timeout_ms = flags & 16 ? 10000 : 6000 + flags * 100,
                           .rebalance_timeout_ms = flags & 32 ? 5000 : 0,
                           .new_member_id = str_of(id),
                           .requires_known_member_id = flags & 64,
                           .can_skip_assignment = flags & 128};
    kit_step(k, (struct group_event){.kind = GROUP_EVENT_JOIN, .join = j});
}

static void sync(struct run *r)
{
    struct group_assignment a[2];
    for (int i = 0; i < 2; i++) {
        a[i].member_id = member(r);
        a[i].assignment = input_bytes(&r->in, choose(r, 4));
    }
    struct group_sync s = {.member_id = member(r),
                           .instance_id = instance(r),
                           .generation = generation(r),
                           .assignments = a,
                           .assignment_count = choose(r, 3)};
    kit_step(&r->kit, (struct group_event){.kind = GROUP_EVENT_SYNC, .sync = s});
}

static void heartbeat(struct run *r)
{
    struct group_heartbeat h = {
        .member_id = member(r), .instance_id = instance(r), .generation = generation(r)};
    kit_step(&r->kit, (struct group_event){.kind = GROUP_EVENT_HEARTBEAT, .heartbeat = h});
}

static void leave(struct run *r)
{
    struct group_leaver l[2];
    for (int i = 0; i < 2; i++) {
        l[i] = (struct group_leaver){.member_id = member(r), .instance_id = instance(r)};
    }
    kit_step(&r->kit,
             (struct group_event){
                 .kind = GROUP_EVENT_LEAVE, .leave = {.leavers = l, .leaver_count = choose(r, 3)}
    });
}

static void offsets(struct run *r, enum group_event_kind kind)
{
    static const char *const topics[] = {"t", "u"};
    struct group_commit_offset o[2];
    for (int i = 0; i < 2; i++) {
        o[i] = (struct group_commit_offset){.topic = str_of(topics[choose(r, 2)]),
                                            .partition = choose(r, 3),
                                            .offset = choose(r, 100),
                                            .leader_epoch = -1,
                                            .metadata = choose(r, 2) ? STR("m") : STR("")};
    }
    struct group_event e = {.kind = kind};
    if (kind == GROUP_EVENT_COMMIT) {
        bool simple = choose(r, 2);
        e.commit = (struct group_commit){.member_id = simple ? STR("") : member(r),
                                         .instance_id = simple ? (struct str){0} : instance(r),
                                         .generation = simple ? -1 : generation(r),
                                         .retention_ms = choose(r, 3) ? -1 : 1000,
                                         .offsets = o,
                                         .offset_count = choose(r, 3)};
    } else {
        e.delete_offsets =
            (struct group_delete_offsets){.offsets = o, .offset_count = choose(r, 3)};
    }
    kit_step(&r->kit, e);
}

static void simple(struct run *r, enum group_event_kind kind)
{
    kit_step(&r->kit, (struct group_event){.kind = kind});
}

/* What is in the log can be said in Kafka's format, and says the same there: coord/ stakes the
 * process on it. */
static void look_at_log(struct run *r)
{
    struct batch_builder b;
    struct writer w;
    batch_builder_init(&b);
    writer_init(&w, SIZE_MAX);
    for (; r->log_count < r->kit.log_count; r->log_count++) {
        struct arena a;
        struct batch_scratch scratch = {0};
        struct batch_iterator it;
        struct buf bytes = {0};
        struct record record;
        struct str id;
        struct group_record back;
        const struct group_record *in = &r->kit.log[r->log_count];
        arena_init(&a, SIZE_MAX);
        batch_builder_reset(&b);
        check(coord_record_add(&b, &w, STR("g"), in, 1) == OK);
        check(batch_builder_seal(&b, &batch_seal_plain, &bytes) == OK);
        check(batch_iterator_init(&it, bytes.ptr, bytes.len, SIZE_MAX, &scratch) == OK);
        check(batch_iterator_next(&it, &record) == OK);
        check(coord_record_read(&record, &a, &id, &back) == OK);
        check(str_eq(id, STR("g")) && back.kind == in->kind && back.offset == in->offset);
        check(!in->metadata || (back.metadata->member_count == in->metadata->member_count &&
                                back.metadata->generation == in->metadata->generation));
        batch_scratch_finish(&scratch);
        buf_finish(&bytes);
        arena_finish(&a);
    }
    batch_builder_finish(&b);
    writer_finish(&w);
}

static void step(struct run *r)
{
    struct group_kit *k = &r->kit;
    switch (choose(r, 16)) {
    case 0:
    case 1:
    case 2: join(r); break;
    case 3:
    case 4: sync(r); break;
    case 5: heartbeat(r); break;
    case 6: leave(r); break;
    case 7:
    case 8: offsets(r, GROUP_EVENT_COMMIT); break;
    case 9: offsets(r, GROUP_EVENT_DELETE_OFFSETS); break;
    case 10: simple(r, GROUP_EVENT_DELETE); break;
    case 11: simple(r, GROUP_EVENT_EXPIRE); break;
    case 12: kit_advance(k, 100 * (int64_t)input_byte(&r->in)); break;
    case 13:
    case 14:
        if (k->append_count) {
            static const enum group_error ends[] = {GROUP_OK, GROUP_OK, GROUP_NOT_AVAILABLE,
                                                    GROUP_TOO_LARGE};
            kit_settle(k, ends[choose(r, 4)]);
        }
        break;
    default: kit_restart(k, k->append_count ? choose(r, (uint8_t)(k->append_count % 9 + 1)) : 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    struct run *r = mem_need_zero(1, sizeof *r);
    r->in = (struct input){p, p + size};
    uint8_t how = input_byte(&r->in);
    kit_init(&r->kit, how & 1);
    r->kit.config.initial_rebalance_delay_ms = how & 2 ? 3000 : 0;
    r->kit.config.max_size = how & 4 ? 3 : 1000;
    r->kit.config.offsets_retention_ms = how & 8 ? 20000 : -1;
    for (int i = 0; i < EVENTS_MAX && input_left(&r->in) > 0; i++) {
        step(r);
        look_at_log(r);
    }
    while (r->kit.append_count) {
        kit_settle(&r->kit, GROUP_OK);
    }
    look_at_log(r);
    check(r->kit.answered_twice == 0);
    check(kit_replay_agrees(&r->kit));
    kit_finish(&r->kit);
    mem_free(r);
    return 0;
}

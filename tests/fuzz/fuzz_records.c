/* The records of __consumer_offsets, of the metadata log, and producer snapshots: what is read is
 * written as the same again, and replaying it breaks no invariant.
 *
 *   uint8 kind (0: offsets, 1: metadata, 2: snapshot) · uint16 size of the key · key · value
 */
#include "base/crc32c.h"
#include "base/mem.h"
#include "broker/coord/records.h"
#include "broker/log/producer_state.h"
#include "broker/meta/record.h"
#include "protocol/wire.h"
#include "tests/fuzz/fuzz.h"

/* The first record of the builder's batch. */
static void first_record(struct batch_builder *b, struct buf *bytes, struct batch_scratch *scratch,
                         struct record *ret)
{
    struct batch_iterator it;
    bytes->len = 0;
    check(batch_builder_seal(b, &batch_seal_plain, bytes) == OK);
    check(batch_iterator_init(&it, bytes->ptr, bytes->len, SIZE_MAX, scratch) == OK);
    check(batch_iterator_next(&it, ret) == OK);
}

static bool same(struct bytes a, struct bytes b)
{
    return !a.ptr == !b.ptr && a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static void replay(struct str group_id, const struct group_record *r)
{
    struct group *g = group_create(group_id, 1);
    struct group_config config = {.min_session_timeout_ms = 6000,
                                  .max_session_timeout_ms = 1800000,
                                  .max_size = 100,
                                  .member_max_bytes = 1 << 20,
                                  .offsets_retention_ms = -1};
    struct group_env env = {.config = &config, .now_ms = 1000, .wall_ms = 1700000000000};
    struct group_effects fx;
    group_effects_init(&fx);
    group_apply(g, r);
    group_apply(g, r);
    group_step(g, &(struct group_event){.kind = GROUP_EVENT_LOADED}, &env, &fx);
    group_verify(g);
    group_effects_finish(&fx);
    group_destroy(g);
}

static void offsets_record(const struct record *in)
{
    struct arena a;
    struct writer w;
    struct batch_builder b;
    struct batch_scratch scratch = {0};
    struct buf first = {0};
    struct buf second = {0};
    struct str group;
    struct group_record r;
    arena_init(&a, 1 << 24);
    writer_init(&w, SIZE_MAX);
    batch_builder_init(&b);
    if (!coord_record_read(in, &a, &group, &r)) {
        struct record x;
        struct record y;
        replay(group, &r);
        check(coord_record_add(&b, &w, group, &r, 5) == OK);
        first_record(&b, &first, &scratch, &x);
        check(coord_record_read(&x, &a, &group, &r) == OK);
        batch_builder_reset(&b);
        check(coord_record_add(&b, &w, group, &r, 5) == OK);
        first_record(&b, &second, &scratch, &y);
        check(same(x.key, y.key) && same(x.value, y.value));
    }
    buf_finish(&first);
    buf_finish(&second);
    batch_scratch_finish(&scratch);
    batch_builder_finish(&b);
    writer_finish(&w);
    arena_finish(&a);
}

static void meta_record(struct bytes key, struct bytes value)
{
    static struct config_pair pairs[META_OVERRIDES_MAX];
    struct meta_record r;
    char text[META_KEY_SIZE];
    size_t size;
    struct buf out = {0};
    if (meta_record_decode(key, value, pairs, &r)) {
        return;
    }
    for (int32_t i = 0; i < r.override_count; i++) {
        if (r.overrides[i].name.len > INT16_MAX || r.overrides[i].value.len > INT16_MAX) {
            return; /* more than a setting can have: not written by us, and not again */
        }
    }
    if (r.name.len > INT16_MAX) {
        return;
    }
    meta_record_encode(&r, text, &size, &out);
    check(same(key, (struct bytes){(const uint8_t *)text, size}));
    /* Any byte but 0 is read as true. */
    size_t flag = 2 + 2 + r.name.len + 8;
    for (size_t i = 0; i < out.len; i++) {
        bool is_flag = r.kind == META_RECORD_TOPIC && i == flag;
        check((uint8_t)out.ptr[i] == value.ptr[i] || (is_flag && value.ptr[i]));
    }
    check(out.len == (r.removed ? 0 : value.len));
    buf_finish(&out);
}

static void snapshot(struct bytes file)
{
    struct producer_state p;
    struct producer_state q;
    struct buf first = {0};
    struct buf second = {0};
    uint8_t *copy = mem_need_dup(file.ptr, file.len);
    if (file.len >= 10) {
        put_be16(copy, 1);
        put_be32(copy + 2, crc32c(copy + 6, file.len - 6));
    }
    producer_state_init(&p, 1);
    producer_state_init(&q, 2);
    if (!producer_state_decode(&p, copy, file.len)) {
        producer_state_encode(&p, &first);
        check(producer_state_decode(&q, first.ptr, first.len) == OK);
        check(producer_state_count(&p) == producer_state_count(&q));
        producer_state_encode(&q, &second);
        check(first.len == second.len && memcmp(first.ptr, second.ptr, first.len) == 0);
        producer_state_rollback(&q, 100);
        producer_state_expire(&q, 1000);
    }
    mem_free(copy);
    buf_finish(&first);
    buf_finish(&second);
    producer_state_finish(&p);
    producer_state_finish(&q);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    struct input in = {p, p + size};
    uint8_t kind = input_byte(&in);
    struct bytes key = input_bytes(&in, input_short(&in));
    bool has_value = input_left(&in) > 0;
    struct bytes value = has_value ? input_rest(&in) : (struct bytes){0};
    switch (kind % 3) {
    case 0: offsets_record(&(struct record){.key = key, .value = value}); break;
    case 1: meta_record(key, value); break;
    default: snapshot(has_value ? value : key); break;
    }
    return 0;
}

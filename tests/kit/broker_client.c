#include "tests/kit/broker_client.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "gen/apis.h"
#include "tests/kit/wire_random.h"

#include <string.h>

enum { NAMES = 6, ARENA_LIMIT = 1 << 24 };

void broker_client_init(struct broker_client *c, struct broker_kit *k, uint64_t seed)
{
    *c = (struct broker_client){.k = k};
    rng_init(&c->rng, seed);
}

void broker_client_finish(struct broker_client *c)
{
    mem_free(c->asked);
}

/* ---- what means something ---- */

static bool chance(struct broker_client *c, uint64_t percent)
{
    return rng_below(&c->rng, 100) < percent;
}

static struct str one_of(struct broker_client *c, const char *const *texts, size_t count)
{
    return str_of(texts[rng_below(&c->rng, count)]);
}

static struct str topic_name(struct broker_client *c)
{
    static const char *const names[NAMES] = {"t", "u", "t-x", "t.x", COORD_TOPIC, "no/name"};
    return one_of(c, names, NAMES);
}

static struct str group_name(struct broker_client *c)
{
    static const char *const names[] = {"g", "h", ""};
    return one_of(c, names, chance(c, 5) ? 3 : 2);
}

static struct uuid topic_id(struct broker_client *c)
{
    const struct topic *t = meta_find(c->k->meta, topic_name(c));
    struct uuid none = {0};
    return t ? t->id : none;
}

static const struct group *group_called(const struct broker_client *c, struct str id)
{
    return coord_find(broker_kit_coord(c->k, id), id);
}

static const struct group *some_group(struct broker_client *c)
{
    const struct group *g = group_called(c, STR("g"));
    return g && chance(c, 80) ? g : group_called(c, STR("h"));
}

/* Borrowed from the group until something happens to it: it is encoded at once. */
static struct str member_id(struct broker_client *c)
{
    const struct group *g = some_group(c);
    const struct map *from = g && map_count(&g->pending) && chance(c, 50) ? &g->pending
                             : g                                          ? &g->members
                                                                          : NULL;
    size_t count = from ? map_count(from) : 0;
    if (!count || chance(c, 15)) {
        return STR("");
    }
    const struct map_entry *e = map_first(from);
    for (uint64_t n = rng_below(&c->rng, count); n > 0; n--) {
        e = map_next(e);
    }
    struct bytes key = map_key(e);
    return (struct str){(const char *)key.ptr, key.len};
}

static struct str config_name(struct broker_client *c)
{
    static const char *const names[] = {
        "retention.ms",           "segment.ms",           "max.message.bytes",
        "message.timestamp.type", "compression.type",     "retention.bytes",
        "cleanup.policy",         "file.delete.delay.ms", "index.interval.bytes"};
    return one_of(c, names, sizeof names / sizeof *names);
}

static struct str config_value(struct broker_client *c)
{
    static const char *const values[] = {"1000", "9223372036854775807",
                                         "-1",   "LogAppendTime",
                                         "zstd", "CreateTime",
                                         "0",    "delete",
                                         "gzip", "producer",
                                         "lz4",  "65536"};
    return one_of(c, values, sizeof values / sizeof *values);
}

static struct wire_records batch(struct broker_client *c, struct arena *a)
{
    struct batch_builder b;
    struct buf out = {0};
    struct batch_seal seal = batch_seal_plain;
    static const char text[500] = "value";
    batch_builder_init(&b);
    uint64_t n = 1 + rng_below(&c->rng, 4);
    int64_t now_ms = c->k->logs.clock.wall_ms;
    for (uint64_t i = 0; i < n; i++) {
        struct record_header h = {
            .name = STR("name"), .value = {(const uint8_t *)"v", 1}
        };
        struct bytes value = {(const uint8_t *)text, rng_below(&c->rng, sizeof text)};
        int64_t time = now_ms - (int64_t)rng_below(&c->rng, 100000);
        check(!batch_builder_add(&b, time, chance(c, 50) ? value : (struct bytes){0}, value, &h,
                                 chance(c, 30)));
    }
    seal.codec = (enum codec)(chance(c, 50) ? CODEC_NONE : rng_below(&c->rng, CODEC_COUNT));
    if (chance(c, 40)) {
        seal.producer_id = (int64_t)rng_below(&c->rng, 3);
        seal.producer_epoch = (int16_t)rng_below(&c->rng, 2);
        seal.base_sequence = (int32_t)rng_below(&c->rng, 4);
    }
    check(!batch_builder_seal(&b, &seal, &out));
    batch_builder_finish(&b);
    if (chance(c, 10)) { /* nonsense with a good checksum, or with a bad one */
        uint8_t *p = (uint8_t *)out.ptr;
        p[12 + rng_below(&c->rng, out.len - 12)] ^= (uint8_t)(1 << rng_below(&c->rng, 8));
        if (chance(c, 70)) {
            put_be32(p + 17, crc32c(p + BATCH_CRC_FROM, out.len - BATCH_CRC_FROM));
        }
    }
    struct wire_records r = {.ptr = arena_dup(a, out.ptr, out.len), .len = out.len};
    check(r.ptr);
    buf_finish(&out);
    return r;
}

/* ---- a random request made plausible, field by field ---- */

struct patch {
    struct broker_client *c;
    struct arena *arena;
    const struct wire_api *api;
    int16_t version;
    const char *name; /* of the field that is being patched */
};

static bool named(const struct patch *p, const char *names) /* " a b c " */
{
    char word[64];
    size_t n = strlen(p->name);
    check(n + 2 < sizeof word);
    word[0] = ' ';
    memcpy(word + 1, p->name, n);
    word[n + 1] = ' ';
    word[n + 2] = 0;
    return strstr(names, word) != NULL;
}

static bool is_group_list(const struct patch *p)
{
    return p->api->key == API_DESCRIBE_GROUPS || p->api->key == API_DELETE_GROUPS;
}

static struct str text_for(struct patch *p, const struct wire_struct *t, struct str old)
{
    struct broker_client *c = p->c;
    if (named(p, " group_id group groups groups_names key coordinator_keys ") || is_group_list(p)) {
        return group_name(c);
    }
    if (named(p, " member_id leader ")) {
        return member_id(c);
    }
    if (named(p, " group_instance_id ")) {
        return chance(c, 60) ? (struct str){0} : chance(c, 50) ? STR("i") : STR("j");
    }
    if (named(p, " protocol_type ")) {
        return STR("consumer");
    }
    if (named(p, " transactional_id ")) {
        return (struct str){0};
    }
    if (strstr(t->name, "config") && named(p, " name configuration_keys ")) {
        return config_name(c);
    }
    if (named(p, " value ")) {
        return config_value(c);
    }
    if (strstr(t->name, "protocol") && named(p, " name ")) {
        return chance(c, 90) ? STR("range") : STR("sticky");
    }
    if (named(p, " name topic topics topic_name topic_names resource_name cursor ")) {
        return topic_name(c);
    }
    return old;
}

static int64_t number_for(struct patch *p, int64_t old)
{
    struct broker_client *c = p->c;
    int64_t little = (int64_t)rng_below(&c->rng, 4);
    if (named(p, " partition partition_index index partitions partition_indexes ")) {
        return little;
    }
    if (named(p, " num_partitions ")) {
        return little ? little : -1;
    }
    if (named(p, " replication_factor ")) {
        return chance(c, 50) ? 1 : -1;
    }
    if (named(p, " acks ")) {
        return little == 3 ? -1 : little - 1;
    }
    if (named(p, " generation_id generation_id_or_member_epoch ")) {
        const struct group *g = some_group(c);
        return g && chance(c, 80) ? g->generation : little - 1;
    }
    if (named(p, " session_timeout_ms ")) {
        return 10000;
    }
    if (named(p, " rebalance_timeout_ms max_wait_ms timeout_ms ")) {
        return 100 * little;
    }
    if (named(p, " fetch_offset offset committed_offset ")) {
        return little * 3;
    }
    if (named(p, " timestamp ")) {
        return little < 3 ? -little - 1 : c->k->logs.clock.wall_ms - 50000;
    }
    if (named(p, " min_bytes max_bytes partition_max_bytes ")) {
        return little * little * little * 1000;
    }
    if (named(p, " replica_id current_leader_epoch last_fetched_epoch ")) {
        return -1;
    }
    if (named(p, " resource_type ")) {
        return little ? 2 : 4;
    }
    if (named(p, " config_operation key_type isolation_level endpoint_type leader_epoch ")) {
        return little;
    }
    return old;
}

static int64_t number_get(uint8_t kind, const uint8_t *at)
{
    int64_t v = 0;
    switch (kind) {
    case WIRE_INT8: return (int8_t)*at;
    case WIRE_INT16: memcpy(&v, at, 2); return (int16_t)v;
    case WIRE_INT32: memcpy(&v, at, 4); return (int32_t)v;
    case WIRE_INT64: memcpy(&v, at, 8); return v;
    default: return 0;
    }
}

static void number_set(uint8_t kind, uint8_t *at, int64_t v)
{
    size_t size = kind == WIRE_INT8 ? 1 : kind == WIRE_INT16 ? 2 : kind == WIRE_INT32 ? 4 : 8;
    memcpy(at, &v, size); /* little-endian, as base/bytes.h demands */
}

static void patch_struct(struct patch *p, const struct wire_struct *t, uint8_t *at);

static size_t size_of(const struct wire_struct *t, const struct wire_field *f)
{
    switch (f->kind) {
    case WIRE_STRUCT: return wire_field_type(t, f)->size;
    case WIRE_STRING: return sizeof(struct str);
    case WIRE_UUID: return sizeof(struct uuid);
    case WIRE_INT8: return 1;
    case WIRE_INT16: return 2;
    case WIRE_INT32: return 4;
    case WIRE_INT64: return 8;
    default: return 0; /* no such arrays in requests */
    }
}

static void patch_value(struct patch *p, const struct wire_struct *t, const struct wire_field *f,
                        uint8_t *at)
{
    struct broker_client *c = p->c;
    bool is_text = f->kind == WIRE_STRING;
    bool nullable = p->version >= f->null_min && p->version <= f->null_max;
    if (f->kind == WIRE_STRUCT) {
        if (f->flags & WIRE_POINTER && !(f->flags & WIRE_ARRAY)) {
            uint8_t *to;
            memcpy(&to, at, sizeof to);
            at = to;
        }
        if (at) {
            patch_struct(p, wire_field_type(t, f), at);
        }
    } else if (chance(c, 3)) { /* stays as it is */
    } else if (is_text) {
        struct str *s = (struct str *)(void *)at;
        struct str fresh = text_for(p, t, *s);
        *s = fresh.ptr || (nullable && !(f->flags & WIRE_ARRAY)) ? fresh : STR("");
    } else if (f->kind == WIRE_UUID && named(p, " topic_id topic_ids ")) {
        *(struct uuid *)(void *)at = topic_id(c);
    } else if (f->kind == WIRE_RECORDS) {
        *(struct wire_records *)(void *)at = batch(c, p->arena);
    } else if (f->kind >= WIRE_INT8 && f->kind <= WIRE_INT64) {
        number_set(f->kind, at, number_for(p, number_get(f->kind, at)));
    }
}

static void patch_struct(struct patch *p, const struct wire_struct *t, uint8_t *at)
{
    for (int i = 0; i < t->field_count + t->tagged_count; i++) {
        const struct wire_field *f = &t->fields[i];
        if (p->version < f->min_version || p->version > f->max_version) {
            continue;
        }
        p->name = wire_field_name(t, f);
        if (!(f->flags & WIRE_ARRAY)) {
            patch_value(p, t, f, at + f->offset);
            continue;
        }
        uint8_t *array;
        int32_t count;
        memcpy(&array, at + f->offset, sizeof array);
        memcpy(&count, at + f->count_offset, sizeof count);
        for (int32_t n = 0; n < count && size_of(t, f); n++) {
            p->name = wire_field_name(t, f);
            patch_value(p, t, f, array + (size_t)n * size_of(t, f));
        }
    }
}

/* ---- asking ---- */

static int32_t ask(struct broker_client *c, const struct wire_api *api, int16_t version)
{
    if (c->asked_count == c->asked_size) {
        c->asked_size = c->asked_size ? c->asked_size * 2 : 64;
        c->asked = mem_need_resize(c->asked, c->asked_size * sizeof *c->asked);
    }
    c->asked[c->asked_count] =
        (struct broker_question){.api = api, .version = version, .open = true};
    return (int32_t)c->asked_count++;
}

static void connect_if_needed(struct broker_client *c)
{
    if (!c->k->conn.session) {
        c->k->conn.out.len = 0;
        c->read = 0;
        for (size_t i = 0; i < c->asked_count; i++) {
            c->asked[i].open = false; /* went with the connection */
        }
        broker_kit_connect(c->k);
    }
}

void broker_client_ask(struct broker_client *c, const struct api_row *row)
{
    const struct wire_api *api = wire_api_find(row->key);
    uint64_t versions = (uint64_t)row->max_version - (uint64_t)row->min_version + 1;
    int16_t version = (int16_t)(row->min_version + (int16_t)rng_below(&c->rng, versions));
    struct arena a;
    struct writer w;
    connect_if_needed(c);
    arena_init(&a, ARENA_LIMIT);
    writer_init(&w, INT32_MAX);
    uint8_t *body = arena_alloc(&a, api->request->size);
    check(body);
    wire_random(api->request, version, &c->rng, &a, body);
    struct patch p = {.c = c, .arena = &a, .api = api, .version = version};
    patch_struct(&p, api->request, body);
    frame_begin_request(&w, api, version, ask(c, api, version), STR("client"));
    check(wire_encode(api->request, version, &w, body) == OK);
    check(frame_end(&w) == OK);
    broker_kit_send(c->k, w.ptr + FRAME_SIZE_BYTES, w.len - FRAME_SIZE_BYTES);
    writer_finish(&w);
    arena_finish(&a);
    broker_client_look(c);
}

void broker_client_send(struct broker_client *c, const void *frame, size_t size)
{
    connect_if_needed(c);
    broker_client_look(c);
    broker_kit_send(c->k, frame, size);
    c->read = c->k->conn.out.len; /* may be anything */
}

/* ---- looking ---- */

static void look_at(struct broker_client *c, const uint8_t *p, size_t size)
{
    struct reader r;
    struct arena a;
    int32_t id;
    check(size >= 4);
    id = (int32_t)get_be32(p);
    check(id >= 0 && (size_t)id < c->asked_count && c->asked[id].open);
    struct broker_question *q = &c->asked[id];
    q->open = false;
    arena_init(&a, SIZE_MAX);
    reader_init(&r, p, size);
    check(response_header_decode(&r, q->api, q->version, &id) == OK);
    void *body = arena_alloc(&a, q->api->response->size);
    check(wire_decode(q->api->response, q->version, &r, &a, body) == OK);
    check(reader_left(&r) == 0);
    arena_finish(&a);
    c->answers++;
}

void broker_client_look(struct broker_client *c)
{
    const struct buf *out = &c->k->conn.out;
    while (out->len - c->read >= FRAME_SIZE_BYTES) {
        const uint8_t *p = (const uint8_t *)out->ptr + c->read;
        size_t size = get_be32(p);
        check(size <= out->len - c->read - FRAME_SIZE_BYTES); /* answers are written whole */
        look_at(c, p + FRAME_SIZE_BYTES, size);
        c->read += FRAME_SIZE_BYTES + size;
    }
    check(c->read == out->len);
}

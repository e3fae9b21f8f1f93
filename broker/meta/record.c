#include "broker/meta/record.h"

#include "base/bytes.h"
#include "base/check.h"

enum { RECORD_VERSION = 1 };

static const struct str topic_prefix = {.ptr = "topic:", .len = 6};
static const struct str producer_ids_key = {.ptr = "producer_ids", .len = 12};

static void put_int(struct buf *out, uint64_t value, size_t size)
{
    uint8_t bytes[8];
    put_be64(bytes, value);
    buf_add(out, bytes + (8 - size), size);
}

static void put_string(struct buf *out, struct str s)
{
    check(s.len <= INT16_MAX); /* names and values of settings are bounded at the door */
    put_int(out, s.len, 2);
    buf_add_str(out, s);
}

static void encode_topic(const struct meta_record *r, struct buf *value)
{
    put_int(value, RECORD_VERSION, 2);
    put_string(value, r->name);
    put_int(value, (uint32_t)r->partition_count, 4);
    put_int(value, (uint32_t)r->version, 4);
    put_int(value, r->internal, 1);
    put_int(value, (uint32_t)r->override_count, 4);
    for (int32_t i = 0; i < r->override_count; i++) {
        put_string(value, r->overrides[i].name);
        put_string(value, r->overrides[i].value);
    }
}

void meta_record_encode(const struct meta_record *r, char key[META_KEY_SIZE], size_t *ret_key_size,
                        struct buf *value)
{
    if (r->kind == META_RECORD_PRODUCER_IDS) {
        memcpy(key, producer_ids_key.ptr, producer_ids_key.len);
        *ret_key_size = producer_ids_key.len;
        put_int(value, RECORD_VERSION, 2);
        put_int(value, (uint64_t)r->next_producer_id, 8);
        return;
    }
    memcpy(key, topic_prefix.ptr, topic_prefix.len);
    uuid_to_text(r->topic_id, key + topic_prefix.len);
    *ret_key_size = topic_prefix.len + UUID_TEXT_SIZE - 1;
    if (!r->removed) {
        encode_topic(r, value);
    }
}

/* A sticky reader of one value: after the first lack of bytes everything reads as 0. */
struct cursor {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
};

static uint64_t take_int(struct cursor *c, size_t size)
{
    if (c->failed || (size_t)(c->end - c->at) < size) {
        c->failed = true;
        return 0;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++) {
        value = (value << 8) | c->at[i];
    }
    c->at += size;
    return value;
}

static struct str take_string(struct cursor *c)
{
    size_t len = (size_t)take_int(c, 2);
    if (c->failed || (size_t)(c->end - c->at) < len) {
        c->failed = true;
        return (struct str){0};
    }
    struct str s = {.ptr = (const char *)c->at, .len = len};
    c->at += len;
    return s;
}

static err decode_topic(struct cursor *c, struct config_pair *pairs, struct meta_record *r)
{
    r->name = take_string(c);
    r->partition_count = (int32_t)take_int(c, 4);
    r->version = (int32_t)take_int(c, 4);
    r->internal = take_int(c, 1) != 0;
    int32_t count = (int32_t)take_int(c, 4);
    if (c->failed || count < 0 || count > META_OVERRIDES_MAX || r->partition_count < 1) {
        return ERR_CORRUPT;
    }
    for (int32_t i = 0; i < count; i++) {
        pairs[i].name = take_string(c);
        pairs[i].value = take_string(c);
    }
    r->overrides = pairs;
    r->override_count = count;
    return c->failed || c->at != c->end ? ERR_CORRUPT : OK;
}

err meta_record_decode(struct bytes key, struct bytes value, struct config_pair *pairs,
                       struct meta_record *ret_record)
{
    struct meta_record r = {.removed = !value.ptr};
    struct str k = {.ptr = (const char *)key.ptr, .len = key.len};
    bool is_topic =
        k.len > topic_prefix.len && memcmp(k.ptr, topic_prefix.ptr, topic_prefix.len) == 0;
    struct cursor c = {.at = value.ptr, .end = value.ptr ? value.ptr + value.len : NULL};

    if (is_topic) {
        struct str id = {.ptr = k.ptr + topic_prefix.len, .len = k.len - topic_prefix.len};
        r.kind = META_RECORD_TOPIC;
        if (uuid_from_text(id, &r.topic_id) != OK) {
            return ERR_CORRUPT;
        }
        if (r.removed) {
            *ret_record = r;
            return OK;
        }
    } else if (str_eq(k, producer_ids_key) && !r.removed) {
        r.kind = META_RECORD_PRODUCER_IDS;
    } else {
        return ERR_UNSUPPORTED;
    }
    if (take_int(&c, 2) != RECORD_VERSION) {
        return c.failed ? ERR_CORRUPT : ERR_UNSUPPORTED;
    }
    err e = OK;
    if (is_topic) {
        e = decode_topic(&c, pairs, &r);
    } else {
        r.next_producer_id = (int64_t)take_int(&c, 8);
        e = c.failed || c.at != c.end || r.next_producer_id < 0 ? ERR_CORRUPT : OK;
    }
    if (e == OK) {
        *ret_record = r;
    }
    return e;
}

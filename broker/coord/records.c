#include "broker/coord/records.h"

#include "base/check.h"
#include "gen/group_metadata_key.h"
#include "gen/group_metadata_value.h"
#include "gen/offset_commit_key.h"
#include "gen/offset_commit_value.h"

enum {
    KEY_OFFSET_OLD = 0,
    KEY_OFFSET = 1,
    KEY_METADATA = 2,
    OFFSET_WITH_TOPIC_ID = 4,
    OFFSET_PLAIN = 3,
    OFFSET_WITH_EXPIRY = 1,
    METADATA_VERSION = 3,
};

/* ---- writing ---- */

static struct str not_null(struct str s)
{
    return s.ptr ? s : STR("");
}

static struct bytes bytes_not_null(struct bytes b)
{
    return b.ptr ? b : (struct bytes){.ptr = (const uint8_t *)"", .len = 0};
}

static err write_key(struct writer *w, struct str group_id, const struct group_record *record)
{
    if (record->kind == GROUP_RECORD_OFFSET || record->kind == GROUP_RECORD_OFFSET_TOMBSTONE) {
        struct offset_commit_key key = {
            .group = group_id, .topic = record->topic, .partition = record->partition};
        writer_int16(w, KEY_OFFSET);
        return wire_encode(&offset_commit_key_table, 0, w, &key);
    }
    struct group_metadata_key key = {.group = group_id};
    writer_int16(w, KEY_METADATA);
    return wire_encode(&group_metadata_key_table, 0, w, &key);
}

static err write_offset(struct writer *w, const struct group_record *r)
{
    struct offset_commit_value value = {
        .offset = r->offset,
        .leader_epoch = r->leader_epoch,
        .metadata = not_null(r->offset_metadata),
        .commit_timestamp = r->commit_ms,
        .expire_timestamp = r->expire_ms,
        .topic_id = r->topic_id,
    };
    int16_t version = r->expire_ms >= 0           ? OFFSET_WITH_EXPIRY
                      : uuid_is_zero(r->topic_id) ? OFFSET_PLAIN
                                                  : OFFSET_WITH_TOPIC_ID;
    writer_int16(w, version);
    return wire_encode(&offset_commit_value_table, version, w, &value);
}

static err write_metadata(struct writer *w, const struct group_metadata *m)
{
    struct arena arena;
    arena_init(&arena, SIZE_MAX); /* as large as the group, which has its limits */
    struct group_metadata_value value = {
        .protocol_type = not_null(m->protocol_type),
        .generation = m->generation,
        .protocol = m->protocol,
        .leader = m->leader,
        .current_state_timestamp = m->state_ms,
        .members_count = (int32_t)m->member_count,
    };
    value.members =
        wire_array(&arena, &group_metadata_value_member_metadata_table, value.members_count);
    check(value.members != NULL);
    for (size_t i = 0; i < m->member_count; i++) {
        const struct group_member_record *from = &m->members[i];
        value.members[i] = (struct group_metadata_value_member_metadata){
            .member_id = from->id,
            .group_instance_id = from->instance_id,
            .client_id = not_null(from->client_id),
            .client_host = not_null(from->client_host),
            .rebalance_timeout = from->rebalance_timeout_ms,
            .session_timeout = from->session_timeout_ms,
            .subscription = bytes_not_null(from->subscription),
            .assignment = bytes_not_null(from->assignment),
        };
    }
    writer_int16(w, METADATA_VERSION);
    err e = wire_encode(&group_metadata_value_table, METADATA_VERSION, w, &value);
    arena_finish(&arena);
    return e;
}

err coord_record_add(struct batch_builder *b, struct writer *scratch, struct str group_id,
                     const struct group_record *record, int64_t time_ms)
{
    writer_reset(scratch);
    err e = write_key(scratch, group_id, record);
    if (e) {
        return e;
    }
    size_t key_size = scratch->len;
    if (record->kind == GROUP_RECORD_OFFSET) {
        e = write_offset(scratch, record);
    } else if (record->kind == GROUP_RECORD_METADATA) {
        e = write_metadata(scratch, record->metadata);
    }
    if (e) {
        return e;
    }
    struct bytes key = {.ptr = scratch->ptr, .len = key_size};
    struct bytes value = {0};
    if (scratch->len > key_size) {
        value = (struct bytes){.ptr = scratch->ptr + key_size, .len = scratch->len - key_size};
    }
    return batch_builder_add(b, time_ms, key, value, NULL, 0);
}

/* ---- reading ---- */

/* Decodes one struct that has to fill its bytes; trailing bytes of a value are allowed, as Kafka
 * does. */
static err read_struct(const struct wire_struct *table, int16_t version, struct reader *r,
                       struct arena *arena, void *out)
{
    if (version < table->min_version || version > table->max_version) {
        return ERR_UNSUPPORTED;
    }
    err e = wire_decode(table, version, r, arena, out);
    return e == ERR_LIMIT || e == ERR_MEMORY || e == OK ? e : ERR_CORRUPT;
}

static err read_offset(struct reader *r, struct arena *arena, struct group_record *record)
{
    int16_t version = reader_int16(r);
    if (r->error) {
        return ERR_CORRUPT;
    }
    struct offset_commit_value value;
    err e = read_struct(&offset_commit_value_table, version, r, arena, &value);
    if (e) {
        return e;
    }
    record->offset = value.offset;
    record->leader_epoch = value.leader_epoch;
    record->offset_metadata = value.metadata;
    record->commit_ms = value.commit_timestamp;
    record->expire_ms = value.expire_timestamp;
    record->topic_id = value.topic_id;
    return OK;
}

/* Could these members be a group? Ids are there and unique, times are positive. */
static err check_members(const struct group_metadata *m)
{
    struct map seen;
    map_init(&seen, 0);
    struct map instances;
    map_init(&instances, 0);
    err e = OK;
    for (size_t i = 0; i < m->member_count && !e; i++) {
        const struct group_member_record *r = &m->members[i];
        if (r->id.len == 0 || map_get_str(&seen, r->id) || r->session_timeout_ms <= 0 ||
            r->rebalance_timeout_ms <= 0 ||
            (r->instance_id.ptr && map_get_str(&instances, r->instance_id))) {
            e = ERR_CORRUPT;
            break;
        }
        check(map_put_str(&seen, r->id, (void *)(uintptr_t)r) == OK);
        if (r->instance_id.ptr) {
            check(map_put_str(&instances, r->instance_id, (void *)(uintptr_t)r) == OK);
        }
    }
    if (!e && m->member_count > 0 &&
        (!m->protocol.ptr || m->protocol_type.len == 0 || !m->leader.ptr ||
         !map_get_str(&seen, m->leader))) {
        e = ERR_CORRUPT;
    }
    map_finish(&seen);
    map_finish(&instances);
    return e;
}

static err read_metadata(struct reader *r, struct arena *arena, struct group_record *record)
{
    int16_t version = reader_int16(r);
    if (r->error) {
        return ERR_CORRUPT;
    }
    struct group_metadata_value value;
    err e = read_struct(&group_metadata_value_table, version, r, arena, &value);
    if (e) {
        return e;
    }
    struct group_metadata *m = arena_zero(arena, 1, sizeof *m);
    struct group_member_record *members =
        arena_zero(arena, (size_t)value.members_count + 1, sizeof *members);
    if (!m || !members) {
        return arena_error(arena);
    }
    for (int32_t i = 0; i < value.members_count; i++) {
        const struct group_metadata_value_member_metadata *from = &value.members[i];
        members[i] = (struct group_member_record){
            .id = from->member_id,
            .instance_id = from->group_instance_id,
            .client_id = from->client_id,
            .client_host = from->client_host,
            .rebalance_timeout_ms =
                from->rebalance_timeout > 0 ? from->rebalance_timeout : from->session_timeout,
            .session_timeout_ms = from->session_timeout,
            .subscription = from->subscription,
            .assignment = from->assignment,
        };
    }
    *m = (struct group_metadata){
        .protocol_type = value.protocol_type,
        .generation = value.generation,
        .protocol = value.protocol,
        .leader = value.leader,
        .state_ms = value.current_state_timestamp,
        .members = members,
        .member_count = (size_t)value.members_count,
    };
    record->metadata = m;
    return m->generation < 0 ? ERR_CORRUPT : check_members(m);
}

static err read_key(struct bytes key, struct arena *arena, struct str *ret_group_id,
                    struct group_record *record)
{
    if (!key.ptr) {
        return ERR_CORRUPT;
    }
    struct reader r;
    reader_init(&r, key.ptr, key.len);
    int16_t version = reader_int16(&r);
    if (r.error) {
        return ERR_CORRUPT;
    }
    if (version == KEY_METADATA) {
        struct group_metadata_key k;
        err e = read_struct(&group_metadata_key_table, 0, &r, arena, &k);
        if (!e) {
            record->kind = GROUP_RECORD_METADATA;
            *ret_group_id = k.group;
        }
        return e;
    }
    if (version != KEY_OFFSET && version != KEY_OFFSET_OLD) {
        return ERR_UNSUPPORTED;
    }
    struct offset_commit_key k;
    err e = read_struct(&offset_commit_key_table, 0, &r, arena, &k);
    if (!e) {
        record->kind = GROUP_RECORD_OFFSET;
        record->topic = k.topic;
        record->partition = k.partition;
        *ret_group_id = k.group;
    }
    return e || record->partition >= 0 ? e : ERR_CORRUPT;
}

err coord_record_read(const struct record *in, struct arena *arena, struct str *ret_group_id,
                      struct group_record *ret_record)
{
    struct group_record record = {0};
    struct str group_id;
    err e = read_key(in->key, arena, &group_id, &record);
    if (e) {
        return e;
    }
    struct reader r;
    reader_init(&r, in->value.ptr, in->value.len);
    bool is_offset = record.kind == GROUP_RECORD_OFFSET;
    if (!in->value.ptr) {
        record.kind = is_offset ? GROUP_RECORD_OFFSET_TOMBSTONE : GROUP_RECORD_METADATA_TOMBSTONE;
    } else {
        e = is_offset ? read_offset(&r, arena, &record) : read_metadata(&r, arena, &record);
    }
    if (!e) {
        *ret_group_id = group_id;
        *ret_record = record;
    }
    return e;
}

int32_t coord_partition_of(struct str group_id, int32_t partition_count)
{
    int32_t hash = str_java_hash(group_id);
    hash = hash == INT32_MIN ? 0 : hash < 0 ? -hash : hash;
    return hash % partition_count;
}

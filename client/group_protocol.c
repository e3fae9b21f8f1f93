/* What members of a consumer group tell each other inside of join and sync: an int16 version, then
 * the fields. A newer version than we know is read as the newest that we know: fields are only
 * added. */
#include "client/consumer.h"

#include "base/bytes.h"
#include "gen/consumer_protocol_assignment.h"
#include "gen/consumer_protocol_subscription.h"

#include <string.h>

enum {
    SUBSCRIPTION_MAX = 3,
    ASSIGNMENT_MAX = 3,
    PROTOCOL_LIMIT = 64 << 20, /* bytes of one of them */
    STICKY_DATA_SIZE = 4, /* Java's user data: int32 generation, for leaders before version 2 */
};

static int protocol_write(const struct wire_struct *table, int16_t version, const void *in,
                          struct arena *a, struct bytes *ret_bytes)
{
    struct writer w;
    writer_init(&w, PROTOCOL_LIMIT);
    writer_int16(&w, version);
    err e = w.error == OK ? wire_encode(table, version, &w, in) : w.error;
    uint8_t *copy = e == OK ? arena_dup(a, w.ptr, w.len) : NULL;
    size_t size = w.len;
    writer_finish(&w);
    if (e != OK) {
        return error_of(e);
    }
    if (!copy) {
        return RV_E_MEMORY;
    }
    *ret_bytes = (struct bytes){copy, size};
    return RV_OK;
}

static err protocol_read(const struct wire_struct *table, int16_t most, struct bytes in,
                         struct arena *a, void *out)
{
    struct reader r;
    reader_init(&r, in.ptr, in.len);
    int16_t version = reader_int16(&r);
    if (r.error != OK || version < 0) {
        return ERR_TRUNCATED;
    }
    return wire_decode(table, version < most ? version : most, &r, a, out);
}

/* ---- subscription ---- */

/* What we hold, for cooperative rebalances; else nothing. */
static int owned_write(struct rv_consumer *c, struct arena *a,
                       struct consumer_protocol_subscription *s)
{
    size_t count = c->member.cooperative ? c->claims.count : 0;
    s->owned_partitions =
        wire_array(a, &consumer_protocol_subscription_owned_partition_table, (int32_t)count);
    s->owned_partitions_count = 0;
    if (!s->owned_partitions) {
        return RV_E_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        const struct claim *claim = c->claims.items[i];
        if (i == 0 || claim->topic != c->claims.items[i - 1]->topic) {
            struct consumer_protocol_subscription_owned_partition *t =
                &s->owned_partitions[s->owned_partitions_count++];
            t->topic = str_of(claim->topic->name);
            t->partitions_count = 0;
            t->partitions = arena_alloc(a, (count - i) * sizeof *t->partitions);
            if (!t->partitions) {
                return RV_E_MEMORY;
            }
        }
        struct consumer_protocol_subscription_owned_partition *t =
            &s->owned_partitions[s->owned_partitions_count - 1];
        t->partitions[t->partitions_count++] = claim->partition;
    }
    return RV_OK;
}

int subscription_write(struct rv_consumer *c, enum assignor assignor, struct arena *a,
                       struct bytes *ret_bytes)
{
    const struct member *m = &c->member;
    struct consumer_protocol_subscription s;
    uint8_t sticky_data[STICKY_DATA_SIZE];
    consumer_protocol_subscription_init(&s);
    s.topics = arena_alloc(a, m->topic_count * sizeof *s.topics);
    if (!s.topics || owned_write(c, a, &s) != RV_OK) {
        return RV_E_MEMORY;
    }
    for (size_t i = 0; i < m->topic_count; i++) {
        s.topics[i] = str_of(m->topics[i]);
    }
    s.topics_count = (int32_t)m->topic_count;
    s.generation_id = m->generation;
    if (assignor == ASSIGN_COOPERATIVE_STICKY) {
        put_be32(sticky_data, (uint32_t)m->generation);
        s.user_data = (struct bytes){sticky_data, sizeof sticky_data};
    }
    return protocol_write(&consumer_protocol_subscription_table, SUBSCRIPTION_MAX, &s, a,
                          ret_bytes);
}

int subscription_read(struct bytes in, struct arena *a,
                      struct consumer_protocol_subscription *ret_subscription)
{
    err e = protocol_read(&consumer_protocol_subscription_table, SUBSCRIPTION_MAX, in, a,
                          ret_subscription);
    if (e == ERR_MEMORY) {
        return RV_E_MEMORY;
    }
    if (e != OK) {
        consumer_protocol_subscription_init(ret_subscription);
    } else if (ret_subscription->generation_id < 0 &&
               ret_subscription->user_data.len == STICKY_DATA_SIZE) {
        ret_subscription->generation_id = (int32_t)get_be32(ret_subscription->user_data.ptr);
    }
    return RV_OK;
}

/* ---- assignment ---- */

int assignment_write(const struct assign_topic *topics, const struct assign_member *m,
                     struct arena *a, struct bytes *ret_bytes)
{
    struct consumer_protocol_assignment out;
    consumer_protocol_assignment_init(&out);
    out.assigned_partitions =
        wire_array(a, &consumer_protocol_assignment_assigned_partition_table, m->dealt_count);
    out.assigned_partitions_count = 0;
    if (!out.assigned_partitions) {
        return RV_E_MEMORY;
    }
    for (int32_t i = 0; i < m->dealt_count; i++) {
        if (i == 0 || m->dealt[i].topic != m->dealt[i - 1].topic) {
            struct consumer_protocol_assignment_assigned_partition *t =
                &out.assigned_partitions[out.assigned_partitions_count++];
            t->topic = topics[m->dealt[i].topic].name;
            t->partitions_count = 0;
            t->partitions = arena_alloc(a, (size_t)(m->dealt_count - i) * sizeof *t->partitions);
            if (!t->partitions) {
                return RV_E_MEMORY;
            }
        }
        struct consumer_protocol_assignment_assigned_partition *t =
            &out.assigned_partitions[out.assigned_partitions_count - 1];
        t->partitions[t->partitions_count++] = m->dealt[i].partition;
    }
    return protocol_write(&consumer_protocol_assignment_table, ASSIGNMENT_MAX, &out, a, ret_bytes);
}

static bool has_partitions_below_zero(const struct consumer_protocol_assignment *a)
{
    for (int32_t i = 0; i < a->assigned_partitions_count; i++) {
        const struct consumer_protocol_assignment_assigned_partition *t =
            &a->assigned_partitions[i];
        for (int32_t j = 0; j < t->partitions_count; j++) {
            if (t->partitions[j] < 0) {
                return true;
            }
        }
    }
    return false;
}

int assignment_read(struct bytes in, struct arena *a,
                    struct consumer_protocol_assignment *ret_assignment)
{
    if (in.len == 0) { /* nothing was dealt to us */
        consumer_protocol_assignment_init(ret_assignment);
        return RV_OK;
    }
    err e =
        protocol_read(&consumer_protocol_assignment_table, ASSIGNMENT_MAX, in, a, ret_assignment);
    if (e == OK && has_partitions_below_zero(ret_assignment)) { /* the leader may be anybody's */
        e = ERR_INVALID;
    }
    return e == OK ? RV_OK : e == ERR_MEMORY ? RV_E_MEMORY : RV_E_PROTOCOL;
}

/* Invariants:
 *
 * 1. Of a frame that decodes as a whole, the parts decode, and have its partitions in its order.
 * 2. A front has room for the two empty sections of tagged fields that end it, in bytes that belong
 *    to the rest and were copied there before.
 */
#include "broker/api/produce_cut.h"

#include "gen/apis.h"
#include "protocol/frame.h"

#include <string.h>

enum {
    SINCE_IDS = 13,
    HEAD_MAX = 256 * 1024, /* bytes in front of the topics: three texts fit, and some tags */
};

struct looker {
    struct reader r;
    const uint8_t *frame;
    size_t have;
    size_t need;
    int32_t array_max;
    int16_t version;
    bool broken;
    struct produce_cut *cut;
    struct cut_number topics;
};

static size_t position_of(const struct looker *l)
{
    return (size_t)(l->r.next - l->frame);
}

/* False: there is no more, or it is wrong. */
static bool goes_on(struct looker *l)
{
    l->broken = l->broken || (l->r.error != OK && l->r.error != ERR_TRUNCATED);
    return !l->broken && l->r.error == OK;
}

static int32_t read_number(struct looker *l, struct cut_number *ret_place)
{
    size_t position = position_of(l);
    int64_t number = l->cut->flexible ? (int64_t)reader_uvarint(&l->r) - 1 : reader_int32(&l->r);
    if (l->r.error == OK) {
        *ret_place = (struct cut_number){position, position_of(l) - position};
        l->broken = number < -1 || number > INT32_MAX;
    }
    return (int32_t)number;
}

static int32_t read_count(struct looker *l, struct cut_number *ret_place)
{
    int32_t count = read_number(l, ret_place);
    if (goes_on(l)) {
        l->broken = count < 0 || count > l->array_max || (size_t)count > l->need - position_of(l);
    }
    return count;
}

static void skip_tags(struct looker *l)
{
    if (l->cut->flexible) {
        reader_skip_tags(&l->r);
    }
}

/* True: all of it is here. */
static bool look_at_partition(struct looker *l)
{
    struct produce_cut *cut = l->cut;
    cut->index = reader_int32(&l->r);
    int32_t size = read_number(l, &cut->length);
    if (!goes_on(l)) {
        return false;
    }
    cut->records = position_of(l);
    cut->records_size = size > 0 ? (size_t)size : 0;
    if (cut->records_size > l->need - cut->records) {
        l->broken = true;
    } else if (cut->records_size > l->have - cut->records) {
        cut->open = true;
    } else {
        (void)reader_take(&l->r, cut->records_size);
        skip_tags(l);
    }
    return !cut->open && goes_on(l);
}

/* True: it can be cut here (2). */
static bool has_room(const struct looker *l)
{
    return !l->cut->flexible || l->have - position_of(l) >= 2;
}

/* True: all of it is here. */
static bool look_at_topic(struct looker *l, int32_t number, int32_t topic_count)
{
    struct produce_cut *cut = l->cut;
    size_t topic = position_of(l);
    struct cut_number partitions;
    if (l->version >= SINCE_IDS) {
        const uint8_t *id = reader_take(&l->r, sizeof cut->id);
        if (id) {
            memcpy(&cut->id, id, sizeof cut->id);
        }
    } else {
        cut->name = reader_string(&l->r, cut->flexible, false);
    }
    int32_t count = read_count(l, &partitions);
    for (int32_t i = 0; goes_on(l) && i < count && look_at_partition(l); i++) {
        if (has_room(l)) {
            cut->end = position_of(l);
            cut->topics = l->topics;
            cut->partitions = partitions;
            cut->topic = topic;
            cut->topics_done = number + 1;
            cut->topics_left = topic_count - number;
            cut->partitions_done = i + 1;
            cut->partitions_left = count - i - 1;
        }
    }
    if (goes_on(l) && !cut->open) {
        skip_tags(l);
    }
    return goes_on(l) && !cut->open;
}

bool produce_cut_find(const uint8_t *frame, size_t have, size_t need, int32_t array_max,
                      struct produce_cut *ret_cut)
{
    struct looker l = {
        .frame = frame, .have = have, .need = need, .array_max = array_max, .cut = ret_cut};
    struct request_header h = {0};
    *ret_cut = (struct produce_cut){0};
    reader_init(&l.r, frame, have);
    err e = request_header_decode(&l.r, &h);
    if (e == ERR_TRUNCATED) {
        return true;
    }
    if (e || h.api_key != API_PRODUCE) {
        return false;
    }
    l.version = h.api_version;
    ret_cut->flexible = api_is_flexible(h.api, h.api_version);
    (void)reader_string(&l.r, ret_cut->flexible, true);
    (void)reader_int16(&l.r);
    (void)reader_int32(&l.r);
    int32_t count = read_count(&l, &l.topics);
    if (goes_on(&l) && l.topics.position > HEAD_MAX) {
        return false;
    }
    for (int32_t i = 0; goes_on(&l) && i < count && look_at_topic(&l, i, count); i++) {
    }
    return !l.broken;
}

static void put_number(const struct produce_cut *cut, uint8_t *p, size_t size, int32_t number)
{
    if (!cut->flexible) {
        put_be32(p, (uint32_t)number);
        return;
    }
    uint32_t left = (uint32_t)number + 1;
    for (size_t i = 0; i < size; i++, left >>= 7) {
        p[i] = (uint8_t)((left & 0x7f) | (i + 1 < size ? 0x80 : 0));
    }
}

size_t produce_cut_head_size(const struct produce_cut *cut)
{
    size_t topics_end = cut->topics.position + cut->topics.size;
    size_t topic_end = cut->partitions.position + cut->partitions.size;
    return topics_end + topic_end - cut->topic;
}

size_t produce_cut_make(const struct produce_cut *cut, uint8_t *frame, size_t have, uint8_t *rest)
{
    size_t head_size = produce_cut_head_size(cut);
    size_t topics_end = cut->topics.position + cut->topics.size;
    size_t end = cut->end;
    memcpy(rest, frame, topics_end);
    memcpy(rest + topics_end, frame + cut->topic, head_size - topics_end);
    memcpy(rest + head_size, frame + end, have - end);
    put_number(cut, rest + cut->topics.position, cut->topics.size, cut->topics_left);
    put_number(cut, rest + head_size - cut->partitions.size, cut->partitions.size,
               cut->partitions_left);
    put_number(cut, frame + cut->topics.position, cut->topics.size, cut->topics_done);
    put_number(cut, frame + cut->partitions.position, cut->partitions.size, cut->partitions_done);
    if (cut->flexible) {
        memset(frame + end, 0, 2); /* 2 */
        end += 2;
    }
    return end;
}

void produce_cut_shorten(const struct produce_cut *cut, uint8_t *frame, size_t size)
{
    put_number(cut, frame + cut->length.position, cut->length.size, (int32_t)size);
}

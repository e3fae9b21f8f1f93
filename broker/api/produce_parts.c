#include "broker/api/produce_parts.h"

#include "base/mem.h"
#include "broker/api/internal.h"
#include "broker/api/partition.h"
#include "broker/api/produce_cut.h"
#include "gen/apis.h"
#include "gen/produce.h"
#include "protocol/batch.h"

#include <stdio.h>

enum {
    API_KEY_SIZE = 4,      /* bytes of API key and version, which a frame begins with */
    CUT_SIZE = 2 << 20,    /* bytes of a part, and the batch that it ends in */
    FRONT_MIN = 64 * 1024, /* bytes that a cut takes away at least */
    TAIL_MAX = 64 * 1024,  /* bytes that a cut copies, rather than wait for the batch's end */
    BEHIND_BATCH = 16,     /* bytes behind a batch that let it be cut off: empty tagged fields */
    DROP_MIN = 64 * 1024,  /* records of fewer bytes are collected whoever takes them */
    REASON_SIZE = 128,
};

/* ---- what a frame may have */

static bool is_produce(const uint8_t *frame, size_t have)
{
    const struct api_row *row = api_row_find(API_PRODUCE);
    int16_t version = have < API_KEY_SIZE ? -1 : (int16_t)get_be16(frame + 2);
    return have >= API_KEY_SIZE && get_be16(frame) == API_PRODUCE && version >= row->min_version &&
           version <= row->max_version;
}

bool session_refuses(struct session *s, const uint8_t *frame, size_t have, size_t size)
{
    char reason[REASON_SIZE];
    if (size <= (size_t)s->all->env->config->other_max_bytes || is_produce(frame, have)) {
        return false;
    }
    snprintf(reason, sizeof reason,
             "a frame of %zu bytes that is no Produce (rivulet.request.other.max.bytes)", size);
    session_close(s, reason);
    return true;
}

/* Records of more bytes are not taken. */
static size_t records_limit(const struct api_env *env, const struct produce_cut *cut)
{
    const struct topic *t =
        cut->name.ptr ? meta_find(env->meta, cut->name) : meta_find_id(env->meta, cut->id);
    bool there = t && check_partition(t, cut->index) == KERR_NONE;
    size_t limit = there ? (size_t)t->config->max_message_bytes : 0;
    return limit > DROP_MIN ? limit : DROP_MIN;
}

/* ---- taking parts away */

static void take_front(struct session *s, struct slab_partial *p, const struct produce_cut *cut,
                       int64_t arrived_us)
{
    struct budget *memory = p->slab->budget;
    struct slab *front = p->slab;
    size_t head_size = produce_cut_head_size(cut);
    size_t have = head_size + p->have - cut->end;
    size_t need = head_size + p->need - cut->end;
    size_t size = memory->used_bytes < memory->limit_bytes / 2 ? CUT_SIZE : 2 * have;
    size = size < have ? have : size;
    size = size > need ? need : size;
    struct slab *rest = slab_create(memory, size);
    size_t front_size = produce_cut_make(cut, front->data, p->have, rest->data);
    *p = (struct slab_partial){
        .slab = rest,
        .have = have,
        .need = need,
        .ask_at = have < CUT_SIZE ? CUT_SIZE : have + CUT_SIZE,
    };
    session_add_part(s, front, front_size, arrived_us);
    slab_unref(front);
}

/* The open records are for nobody: what came of them goes, but for the header of the batch. */
static void drop_records(struct session *s, struct slab_partial *p, const struct produce_cut *cut)
{
    size_t came = p->have - cut->records;
    struct batch_header h;
    if (came < BATCH_HEADER_SIZE) {
        p->ask_at = cut->records + BATCH_HEADER_SIZE;
        return;
    }
    s->shortened = s->shortened || (!batch_header_read(p->slab->data + cut->records, came, &h) &&
                                    h.size == cut->records_size);
    produce_cut_shorten(cut, p->slab->data, BATCH_HEADER_SIZE);
    p->drop = cut->records_size - came;
    p->have = cut->records + BATCH_HEADER_SIZE;
    p->need -= cut->records_size - BATCH_HEADER_SIZE;
    p->ask_at = p->have + FRONT_MIN / 2 > CUT_SIZE ? p->have + FRONT_MIN / 2 : CUT_SIZE;
    size_t size = p->have + FRONT_MIN < p->need ? p->have + FRONT_MIN : p->need;
    if (size < p->slab->size / 2) {
        p->slab = slab_resize(p->slab, size);
    }
}

static void cut_produce(struct session *s, struct slab_partial *p, int64_t arrived_us)
{
    const struct api_env *env = s->all->env;
    struct produce_cut cut;
    bool decodes =
        produce_cut_find(p->slab->data, p->have, p->need, (int32_t)env->config->array_max, &cut);
    bool worth = decodes && cut.end && cut.end >= produce_cut_head_size(&cut) + FRONT_MIN;
    if (decodes && cut.open && cut.records_size > records_limit(env, &cut)) {
        drop_records(s, p, &cut);
    } else if (worth && (!cut.open || p->have - cut.end <= TAIL_MAX)) {
        take_front(s, p, &cut, arrived_us);
    } else if (decodes && cut.open) {
        p->ask_at = cut.records + cut.records_size + BEHIND_BATCH;
    } else if (!decodes && s->cut) {
        session_close(s, "the rest of a large Produce does not decode");
    } else if (p->need > (size_t)env->config->other_max_bytes) {
        char reason[REASON_SIZE];
        snprintf(reason, sizeof reason,
                 "a Produce of %zu bytes that does not decode (rivulet.request.other.max.bytes)",
                 p->need);
        session_close(s, reason);
    }
}

void session_partial(struct session *s, struct slab_partial *p, int64_t arrived_us)
{
    p->ask_at = SIZE_MAX;
    if (s->closing) {
        return;
    }
    if (p->have < API_KEY_SIZE) {
        p->ask_at = API_KEY_SIZE;
    } else if (!session_refuses(s, p->slab->data, p->have, p->need) &&
               is_produce(p->slab->data, p->have)) {
        if (p->have < CUT_SIZE) {
            p->ask_at = CUT_SIZE;
        } else {
            cut_produce(s, p, arrived_us);
        }
    }
}

/* ---- one answer */

struct held_topic {
    struct str name; /* owned; may be null */
    struct uuid id;
    int32_t partition_count;
};

struct produce_held {
    struct budget *budget; /* borrowed */
    size_t charged_bytes;
    size_t name_bytes;
    struct held_topic *topics; /* owned, as many as topic_room */
    int32_t topic_count;
    int32_t topic_room;
    struct produce_response_partition *partitions; /* owned; of the topics, one after the other */
    int32_t partition_count;
    int32_t partition_room;
};

void produce_held_destroy(struct produce_held *held)
{
    if (!held) {
        return;
    }
    for (int32_t i = 0; i < held->topic_count; i++) {
        mem_free((void *)(uintptr_t)held->topics[i].name.ptr);
    }
    budget_return(held->budget, held->charged_bytes);
    mem_free(held->topics);
    mem_free(held->partitions);
    mem_free(held);
}

static int32_t room_for(int32_t room, int64_t count)
{
    int64_t more = count > room ? count + count / 2 : room;
    return more < INT32_MAX ? (int32_t)more : INT32_MAX;
}

/* Room for so many more, if that is within what a request may take. */
static err make_room(struct produce_held *held, int64_t topics, int64_t partitions, size_t names,
                     size_t limit)
{
    int32_t topic_room = room_for(held->topic_room, held->topic_count + topics);
    int32_t partition_room = room_for(held->partition_room, held->partition_count + partitions);
    size_t size = (size_t)topic_room * sizeof *held->topics +
                  (size_t)partition_room * sizeof *held->partitions + held->name_bytes + names;
    if (size > limit) {
        return ERR_LIMIT;
    }
    held->topics = mem_need_resize(held->topics, (size_t)topic_room * sizeof *held->topics);
    held->partitions =
        mem_need_resize(held->partitions, (size_t)partition_room * sizeof *held->partitions);
    held->topic_room = topic_room;
    held->partition_room = partition_room;
    held->name_bytes += names;
    budget_charge(held->budget, size - held->charged_bytes);
    held->charged_bytes = size;
    return OK;
}

static void hold_topic(struct produce_held *held, const struct produce_response_topic *from,
                       bool joins)
{
    if (!joins) {
        held->topics[held->topic_count++] = (struct held_topic){
            .name = {.ptr = from->name.ptr ? mem_need_dup(from->name.ptr, from->name.len) : NULL,
                     .len = from->name.len},
            .id = from->topic_id,
        };
    }
    if (from->partitions_count > 0) {
        memcpy(held->partitions + held->partition_count, from->partitions,
               (size_t)from->partitions_count * sizeof *from->partitions);
    }
    held->topics[held->topic_count - 1].partition_count += from->partitions_count;
    held->partition_count += from->partitions_count;
}

err produce_hold(struct produce_held **held, const struct request *req)
{
    const struct produce_response *part = req->reply;
    int64_t partitions = 0;
    size_t names = 0;
    for (int32_t i = 0; i < part->topics_count; i++) {
        partitions += part->topics[i].partitions_count;
        names += part->topics[i].name.len;
    }
    if (!*held) {
        *held = mem_need_zero(1, sizeof **held);
        (*held)->budget = req->env->budget;
    }
    err e = make_room(*held, part->topics_count, partitions, names,
                      (size_t)req->env->config->request_memory_max_bytes);
    for (int32_t i = 0; !e && i < part->topics_count; i++) {
        hold_topic(*held, &part->topics[i], req->joins && i == 0);
    }
    return e;
}

err produce_join(struct produce_held **held, struct request *req)
{
    err e = produce_hold(held, req);
    if (e) {
        return e;
    }
    const struct produce_held *all = *held;
    struct produce_response *out = req->reply;
    struct produce_response_partition *next = all->partitions;
    out->topics = wire_array(&req->arena, &produce_response_topic_table, all->topic_count);
    if (!out->topics) {
        return arena_error(&req->arena);
    }
    out->topics_count = all->topic_count;
    for (int32_t i = 0; i < all->topic_count; i++) {
        out->topics[i].name = all->topics[i].name;
        out->topics[i].topic_id = all->topics[i].id;
        out->topics[i].partitions = next;
        out->topics[i].partitions_count = all->topics[i].partition_count;
        next += all->topics[i].partition_count;
    }
    request_charge(req);
    return OK;
}

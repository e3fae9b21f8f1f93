/* The plan of a repair.
 *
 * A segment is walked as its lengths say. Where a batch is not right, the walk goes on at the next
 * place that only a broker can have named: where the batch's length says, if a right batch is
 * there, else where an entry of the offset index says. Nothing is searched for in the bytes: what a
 * client once put into a value may look like a batch.
 *
 *   walk  --right--> walk          next batch
 *     |--offset wrong, neighbours say which--> OFFSET
 *     `--else--> CUT up to the next place, or the end of the segment
 *
 * Invariants:
 *   P1  a batch whose checksum is right and whose offsets are in place is never cut
 *   P2  what is cut of a file does not overlap, and is in order
 *   P3  offsets below the recovery point, or below the durable end on disk, were told to readers: the
 *       log ends there or later
 */
#include "broker/log/repair.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "broker/log/internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { REPAIR_CHUNK = 1 << 20, INDEX_FILE_MAX = 1 << 28 };

struct names {
    int64_t *bases; /* owned */
    int32_t base_count;
    struct buf others; /* owned; names of other files, each with its 0 */
};

struct repair_segment {
    struct store *store;
    struct repair_plan *plan;
    char path[LOG_PATH_SIZE];
    struct store_file *file;
    uint8_t *chunk; /* REPAIR_CHUNK bytes */
    int64_t size;
    int64_t base_offset;
    int64_t end_offset;  /* base of the next segment; INT64_MAX: there is none */
    int64_t position;    /* of the walk */
    int64_t next_offset; /* the least that the next batch may have */
    int64_t max_timestamp;
    struct buf index; /* owned; the .index and .timeindex as they are */
    struct buf times;
    size_t index_at; /* entries that were met */
    size_t time_at;
    const char *index_wrong; /* what is wrong with them, if something is */
    const char *times_wrong;
    bool changed;
    bool overlaps; /* its batches go on behind end_offset */
};

/* ---- the plan */

const struct repair_step *repair_step(const struct repair_plan *plan, int index)
{
    return &((const struct repair_step *)(const void *)plan->steps.ptr)[index];
}

void repair_plan_finish(struct repair_plan *plan)
{
    buf_finish(&plan->steps);
    *plan = (struct repair_plan){0};
}

__attribute__((format(printf, 4, 5))) static struct repair_step *add_step(struct repair_plan *plan,
                                                                          enum repair_kind kind,
                                                                          const char *path,
                                                                          const char *why, ...)
{
    struct repair_step *step = mem_need_zero(1, sizeof *step);
    va_list args;
    va_start(args, why);
    vsnprintf(step->why, sizeof step->why, why, args);
    va_end(args);
    step->kind = kind;
    snprintf(step->path, sizeof step->path, "%s", path);
    buf_add(&plan->steps, step, sizeof *step);
    mem_free(step);
    check(!plan->steps.failed);
    plan->count++;
    return (struct repair_step *)(void *)plan->steps.ptr + plan->count - 1;
}

/* ---- batches */

enum look { LOOK_RIGHT, LOOK_MISPLACED, LOOK_CHECKSUM, LOOK_NO_BATCH };

static err read_at(struct repair_segment *s, void *p, size_t size, int64_t position)
{
    size_t got = 0;
    err e = s->store->ops->read(s->store->ctx, s->file, p, size, position, &got);
    return e ? e : got < size ? ERR_STALE : OK;
}

static err checksum(struct repair_segment *s, int64_t position, size_t size, uint32_t *ret_crc)
{
    uint32_t crc = 0;
    err e = OK;
    for (size_t at = BATCH_CRC_FROM; !e && at < size;) {
        size_t part = size - at < REPAIR_CHUNK ? size - at : REPAIR_CHUNK;
        e = read_at(s, s->chunk, part, position + (int64_t)at);
        crc = at == BATCH_CRC_FROM ? crc32c(s->chunk, part) : crc32c_more(crc, s->chunk, part);
        at += part;
    }
    *ret_crc = crc;
    return e;
}

/* What is at a position; the header counts unless it is LOOK_NO_BATCH. */
static err look_at(struct repair_segment *s, int64_t position, int64_t least, enum look *ret_look,
                   struct batch_header *h)
{
    uint8_t head[BATCH_HEADER_SIZE];
    uint32_t crc;
    *ret_look = LOOK_NO_BATCH;
    if (position < 0 || s->size - position < BATCH_HEADER_SIZE) {
        return OK;
    }
    err e = read_at(s, head, sizeof head, position);
    if (e || batch_header_read(head, sizeof head, h) || (int64_t)h->size > s->size - position) {
        return e;
    }
    e = checksum(s, position, h->size, &crc);
    if (e) {
        return e;
    }
    *ret_look = crc != h->crc || h->last_offset_delta < 0    ? LOOK_CHECKSUM
                : batch_is_in_place(h, least, s->end_offset) ? LOOK_RIGHT
                                                             : LOOK_MISPLACED;
    return OK;
}

/* ---- indexes, walked beside the batches */

static void meet_index(struct repair_segment *s, const struct batch_header *h)
{
    size_t count = s->index.len / INDEX_ENTRY_SIZE;
    int64_t last = h->base_offset + h->last_offset_delta - s->base_offset;
    while (!s->index_wrong && s->index_at < count) {
        const uint8_t *entry = (uint8_t *)s->index.ptr + s->index_at * INDEX_ENTRY_SIZE;
        int32_t position = (int32_t)get_be32(entry + 4);
        if (position > s->position) {
            return;
        }
        if (position < s->position || (int32_t)get_be32(entry) != last) {
            s->index_wrong = "an entry does not lead to a batch of its offset";
        }
        s->index_at++;
    }
}

static void meet_times(struct repair_segment *s, const struct batch_header *h)
{
    size_t count = s->times.len / TIME_ENTRY_SIZE;
    int64_t last = h->base_offset + h->last_offset_delta - s->base_offset;
    s->max_timestamp = h->max_timestamp > s->max_timestamp ? h->max_timestamp : s->max_timestamp;
    while (!s->times_wrong && s->time_at < count) {
        const uint8_t *entry = (uint8_t *)s->times.ptr + s->time_at * TIME_ENTRY_SIZE;
        int32_t offset = (int32_t)get_be32(entry + 8);
        if (offset > last) {
            return;
        }
        int64_t time = (int64_t)get_be64(entry);
        if (time > s->max_timestamp || (offset == last && time != s->max_timestamp)) {
            s->times_wrong = "an entry does not have the time of the records up to it";
        }
        s->time_at++;
    }
}

static bool is_filling(const struct buf *b, size_t from)
{
    for (size_t i = from; i < b->len; i++) {
        if (b->ptr[i]) {
            return false;
        }
    }
    return true;
}

static void end_indexes(struct repair_segment *s)
{
    size_t index_end = s->index_at * INDEX_ENTRY_SIZE;
    size_t times_end = s->time_at * TIME_ENTRY_SIZE;
    if (!s->index_wrong && index_end < s->index.len && !is_filling(&s->index, index_end)) {
        s->index_wrong = "an entry leads behind the last batch";
    }
    if (!s->times_wrong && times_end < s->times.len && !is_filling(&s->times, times_end)) {
        s->times_wrong = "an entry is of a record behind the last batch";
    }
}

static err read_index(struct repair_segment *s, const char *suffix, struct buf *out)
{
    char path[LOG_PATH_SIZE];
    snprintf(path, sizeof path, "%.*s%s", (int)strlen(s->path) - 4, s->path, suffix);
    err e = store_read_file(s->store, path, INDEX_FILE_MAX, out);
    return e == ERR_NOT_FOUND ? OK : e;
}

static void plan_index(struct repair_segment *s, const char *suffix, const struct buf *text,
                       const char *wrong)
{
    char path[LOG_PATH_SIZE];
    snprintf(path, sizeof path, "%.*s%s", (int)strlen(s->path) - 4, s->path, suffix);
    if (text->len && (wrong || s->changed)) {
        add_step(s->plan, REPAIR_REMOVE, path, "%s",
                 wrong ? wrong : "its segment changes; it is made again at the next start")
            ->file_size = (int64_t)text->len;
    }
}

/* ---- a segment */

static void cut(struct repair_segment *s, int64_t to, int64_t offset_to, const char *why)
{
    struct repair_step *step = add_step(s->plan, REPAIR_CUT, s->path, "%s", why);
    step->position = s->position;
    step->size = to - s->position;
    step->file_size = s->size;
    step->offset = s->next_offset;
    step->offset_to = offset_to;
    s->plan->bad_bytes += step->size;
    s->position = to;
    s->changed = true;
}

/* The next place behind a bad batch that leads to a right one; the end of the segment if there is
 * none. */
static err next_place(struct repair_segment *s, int64_t by_length, int64_t *ret_position,
                      int64_t *ret_offset)
{
    enum look look = LOOK_NO_BATCH;
    struct batch_header h;
    err e = OK;
    if (by_length > s->position) {
        e = look_at(s, by_length, s->next_offset, &look, &h);
        if (!e && look == LOOK_RIGHT) {
            *ret_position = by_length;
            *ret_offset = h.base_offset;
            return OK;
        }
    }
    size_t count = s->index.len / INDEX_ENTRY_SIZE;
    for (size_t i = 0; !e && i < count; i++) {
        int32_t position = (int32_t)get_be32(s->index.ptr + i * INDEX_ENTRY_SIZE + 4);
        if (position <= s->position) {
            continue;
        }
        e = look_at(s, position, s->next_offset, &look, &h);
        if (!e && look == LOOK_RIGHT) {
            *ret_position = position;
            *ret_offset = h.base_offset;
            return OK;
        }
    }
    *ret_position = s->size;
    *ret_offset = s->end_offset;
    return e;
}

static err plan_bad(struct repair_segment *s, enum look look, const struct batch_header *h)
{
    int64_t to;
    int64_t offset_to;
    bool has_length = look != LOOK_NO_BATCH;
    err e = next_place(s, has_length ? s->position + (int64_t)h->size : 0, &to, &offset_to);
    if (!e) {
        cut(s, to, offset_to,
            look == LOOK_CHECKSUM    ? "the checksum of a batch is wrong"
            : look == LOOK_MISPLACED ? "the offsets of a batch are not in place"
                                     : "there is no batch");
        s->next_offset = to < s->size ? offset_to : s->next_offset;
    }
    return e;
}

/* A batch that would be right if it began at the offset that is due: does what follows say so? */
static err should_be_due(struct repair_segment *s, const struct batch_header *h, bool *ret_yes)
{
    enum look look;
    struct batch_header next;
    int64_t behind = s->next_offset + h->last_offset_delta + 1;
    int64_t at = s->position + (int64_t)h->size;
    *ret_yes = at == s->size && behind == s->end_offset;
    err e = at == s->size ? OK : look_at(s, at, behind, &look, &next);
    if (!e && at < s->size) {
        *ret_yes = look == LOOK_RIGHT && next.base_offset == behind;
    }
    return e;
}

static err plan_batch(struct repair_segment *s)
{
    enum look look;
    struct batch_header h = {0};
    bool due = false;
    err e = look_at(s, s->position, s->next_offset, &look, &h);
    if (!e && (look == LOOK_MISPLACED || (look == LOOK_RIGHT && h.base_offset > s->next_offset))) {
        e = should_be_due(s, &h, &due);
    }
    if (e) {
        return e;
    }
    if (due) {
        struct repair_step *step =
            add_step(s->plan, REPAIR_OFFSET, s->path, "the base offset of a batch is wrong");
        step->position = s->position;
        step->offset = s->next_offset;
        step->offset_to = h.base_offset;
        step->file_size = s->size;
        h.base_offset = s->next_offset;
        s->changed = true;
    } else if (look == LOOK_MISPLACED && h.base_offset == s->next_offset) {
        s->overlaps = true; /* it is the next segment's name that is wrong */
    } else if (look != LOOK_RIGHT) {
        return plan_bad(s, look, &h);
    }
    meet_index(s, &h);
    meet_times(s, &h);
    s->next_offset = h.base_offset + h.last_offset_delta + 1;
    s->position += (int64_t)h.size;
    return OK;
}

/* A right batch at the beginning that belongs before this segment: it is the name that is wrong. */
static err is_misnamed(struct repair_segment *s, bool *ret_yes)
{
    enum look look;
    struct batch_header h;
    err e = look_at(s, 0, 0, &look, &h);
    *ret_yes = !e && (look == LOOK_RIGHT || look == LOOK_MISPLACED) && h.base_offset >= 0 &&
               (h.base_offset < s->base_offset || h.base_offset >= s->end_offset);
    if (*ret_yes && h.base_offset != s->base_offset) { /* or it is the batch's offset that rotted */
        bool due = false;
        e = should_be_due(s, &h, &due);
        *ret_yes = !due;
    }
    return e;
}

static err plan_segment(struct repair_segment *s)
{
    bool misnamed = false;
    int first = s->plan->count;
    int64_t bad_bytes = s->plan->bad_bytes;
    err e = s->store->ops->open(s->store->ctx, s->path, STORE_READ, &s->file);
    e = e ? e : s->store->ops->size(s->store->ctx, s->file, &s->size);
    e = e ? e : read_index(s, ".index", &s->index);
    e = e ? e : read_index(s, ".timeindex", &s->times);
    s->next_offset = s->base_offset;
    s->max_timestamp = -1;
    e = e ? e : is_misnamed(s, &misnamed);
    while (!e && !misnamed && s->position < s->size) {
        e = plan_batch(s);
    }
    if (!e && misnamed) {
        add_step(s->plan, REPAIR_LEFT_ALONE, s->path,
                 "it does not begin at the offset of its name");
        s->next_offset = s->end_offset == INT64_MAX ? s->base_offset : s->end_offset;
    } else if (!e) {
        end_indexes(s);
        plan_index(s, ".index", &s->index, s->index_wrong);
        plan_index(s, ".timeindex", &s->times, s->times_wrong);
    }
    if (e) {
        s->plan->count = first;
        s->plan->steps.len = (size_t)first * sizeof(struct repair_step);
        s->plan->bad_bytes = bad_bytes;
    }
    if (s->file) {
        s->store->ops->close(s->store->ctx, s->file);
    }
    buf_finish(&s->index);
    buf_finish(&s->times);
    return e;
}

/* ---- a partition */

static bool name_is(struct str name, const char *suffix, int64_t *ret_offset)
{
    size_t n = strlen(suffix);
    if (name.len != 20 + n || memcmp(name.ptr + 20, suffix, n) != 0) {
        return false;
    }
    return str_to_int64((struct str){name.ptr, 20}, ret_offset) == OK && *ret_offset >= 0;
}

static void each_name(void *arg, const struct store_entry *entry)
{
    struct names *n = arg;
    int64_t offset;
    if (!entry->is_dir && name_is(entry->name, ".log", &offset)) {
        n->bases = mem_need_resize(n->bases, sizeof *n->bases * (size_t)(n->base_count + 1));
        n->bases[n->base_count++] = offset; /* in the order of names, so of offsets */
    } else if (!entry->is_dir) {
        buf_add_str(&n->others, entry->name);
        buf_add(&n->others, "", 1);
    }
}

static bool has_base(const struct names *n, int64_t base)
{
    for (int32_t i = 0; i < n->base_count; i++) {
        if (n->bases[i] == base) {
            return true;
        }
    }
    return false;
}

static bool snapshot_is_right(const struct buf *text)
{
    struct producer_state p;
    producer_state_init(&p, 0);
    bool right = !producer_state_decode(&p, text->ptr, text->len);
    producer_state_finish(&p);
    return right;
}

/* What the next start takes away. */
static bool goes_at_start(struct str name)
{
    static const char *const ends[] = {".deleted", ".cleaned", ".swap", ".tmp"};
    for (int i = 0; i < 4; i++) {
        size_t n = strlen(ends[i]);
        if (name.len >= n && memcmp(name.ptr + name.len - n, ends[i], n) == 0) {
            return true;
        }
    }
    return false;
}

/* Everything that is no segment, nor an index of one. */
static err plan_other(struct store *store, const char *dir, const char *name,
                      const struct names *names, struct repair_plan *plan)
{
    char path[LOG_PATH_SIZE];
    struct buf text = {0};
    struct str s = str_of(name);
    int64_t offset;
    const char *why = NULL;
    bool ours = true;
    err e = OK;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (name_is(s, ".index", &offset) || name_is(s, ".timeindex", &offset) ||
        name_is(s, ".txnindex", &offset)) {
        why = has_base(names, offset) ? NULL : "there is no segment of its name";
    } else if (name_is(s, ".snapshot", &offset)) {
        e = store_read_file(store, path, INDEX_FILE_MAX, &text);
        why = e || snapshot_is_right(&text) ? NULL : "no snapshot of producers";
    } else if (str_eq(s, STR("leader-epoch-checkpoint"))) {
        struct log_epoch *epochs = NULL;
        int32_t count;
        e = epochs_read(store, dir, &epochs, &count);
        why = e == ERR_CORRUPT ? "no list of leader epochs" : NULL;
        e = e == ERR_CORRUPT ? OK : e;
        mem_free(epochs);
    } else if (!str_eq(s, STR("partition.metadata")) && !goes_at_start(s)) {
        ours = false;
        why = "not a file of a log";
    }
    if (!e && why) {
        struct repair_step *step =
            add_step(plan, ours ? REPAIR_REMOVE : REPAIR_LEFT_ALONE, path, "%s", why);
        struct store_file *file = NULL;
        e = store->ops->open(store->ctx, path, STORE_READ, &file);
        e = e ? e : store->ops->size(store->ctx, file, &step->file_size);
        if (file) {
            store->ops->close(store->ctx, file);
        }
    }
    buf_finish(&text);
    return e;
}

/* What the two files say. How far the log was durable is not guessed when that has rotted: the next
 * start finds it, and writes it anew. */
static err recovery_point_of(struct store *store, const char *dir, int64_t *ret_offset)
{
    struct map offsets;
    map_init(&offsets, 0);
    err e = offsets_file_read(store, "recovery-point-offset-checkpoint", &offsets);
    e = e == ERR_NOT_FOUND || e == ERR_CORRUPT ? OK : e;
    int64_t checkpointed = checkpoint_value(&offsets, dir, 0);
    map_finish(&offsets);
    map_init(&offsets, 0);
    e = e ? e : durable_offsets_read(store, "durable-offset-checkpoint", &offsets);
    e = e == ERR_NOT_FOUND ? OK : e;
    int64_t durable = checkpoint_value(&offsets, dir, 0);
    map_finish(&offsets);
    *ret_offset = checkpointed > durable ? checkpointed : durable;
    return e;
}

static err plan_segments(struct store *store, const char *dir, const struct names *names,
                         struct repair_plan *plan)
{
    uint8_t *chunk = mem_need(REPAIR_CHUNK);
    err e = OK;
    for (int32_t i = 0; !e && i < names->base_count; i++) {
        struct repair_segment s = {
            .store = store, .plan = plan, .chunk = chunk, .base_offset = names->bases[i]};
        s.end_offset = i + 1 < names->base_count ? names->bases[i + 1] : INT64_MAX;
        snprintf(s.path, sizeof s.path, "%s/%020" PRId64 ".log", dir, s.base_offset);
        e = plan_segment(&s);
        if (s.overlaps) {
            snprintf(s.path, sizeof s.path, "%s/%020" PRId64 ".log", dir, s.end_offset);
            add_step(plan, REPAIR_LEFT_ALONE, s.path,
                     "it begins before the end of the one before it");
        }
        plan->end_offset = s.next_offset;
    }
    mem_free(chunk);
    return e;
}

err repair_plan(struct store *store, const char *dir, struct repair_plan *ret_plan)
{
    struct repair_plan plan = {0};
    struct names names = {0};
    int64_t recovery_point = 0;
    err e = store->ops->list(store->ctx, dir, each_name, &names);
    e = e ? e : recovery_point_of(store, dir, &recovery_point);
    e = e ? e : plan_segments(store, dir, &names, &plan);
    for (size_t at = 0; !e && at < names.others.len; at += strlen(names.others.ptr + at) + 1) {
        e = plan_other(store, dir, names.others.ptr + at, &names, &plan);
    }
    if (!e && names.base_count && plan.end_offset < recovery_point) { /* P3 */
        char path[LOG_PATH_SIZE];
        snprintf(path, sizeof path, "%s/%020" PRId64 ".log", dir, recovery_point);
        add_step(&plan, REPAIR_END, path, "the log ended at its offset")->offset = recovery_point;
        plan.end_offset = recovery_point;
    }
    mem_free(names.bases);
    buf_finish(&names.others);
    if (e) {
        repair_plan_finish(&plan);
    } else {
        *ret_plan = plan;
    }
    return e;
}

/* Reading, handing over, committing.
 *
 *   P1  Every record that was given and not stored elsewhere, when it was failed, is in front of no
 *       committed offset: positions are committed only while no hand-over is open, and after each
 *       that failed the position went back to its record.
 *   P2  A record of a retry topic is given when it is due, not before: until then its partition is
 *       paused and stands at it. As all records of the topic wait equally long, none behind it is
 *       due.
 *   P3  What is held is known by the partition; it is forgotten when the partition goes or comes,
 *       as it is not paused then.
 *   P4  A record whose clock was ahead of ours, or from before ours was set back, waits for its
 *       delay from when it was read first, and no longer; those behind it count by the same
 *       clock. */
#include "client/park/park.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int park_fail(struct rv_error *ret_error, int code, const char *format, ...)
{
    va_list args;
    struct rv_error e = {.code = code, .flags = code == RV_E_MEMORY ? RV_RETRIABLE : 0};
    va_start(args, format);
    vsnprintf(e.text, sizeof e.text, format, args);
    va_end(args);
    if (ret_error) {
        *ret_error = e;
    }
    return code;
}

static const struct park_topic *topic_find(const struct rv_park *p, const char *name)
{
    for (size_t i = 0; i < p->topic_count; i++) {
        if (strcmp(p->topics[i].name, name) == 0) {
            return &p->topics[i];
        }
    }
    return NULL;
}

/* ---- positions ---- */

/* Reads the partition from `offset` on, unless it stands before that already. One that is not ours
 * any more is read by others from what is committed. */
static int position_back(struct rv_park *p, const char *topic, int32_t partition, int64_t offset,
                         struct rv_error *e)
{
    const struct rv_partition *list;
    size_t count = rv_assignment(p->consumer, &list);
    for (size_t i = 0; i < count; i++) {
        if (list[i].partition == partition && strcmp(list[i].topic, topic) == 0) {
            return list[i].offset > offset ? rv_seek(p->consumer, topic, partition, offset, e)
                                           : RV_OK;
        }
    }
    return RV_OK;
}

/* What could not be stored is read again (P1). */
static int rewind_all(struct rv_park *p, struct rv_error *e)
{
    while (!list_empty(&p->rewinds)) {
        struct handover *h = list_entry(p->rewinds.next, struct handover, link);
        int code = position_back(p, h->from->name, h->partition, h->offset, e);
        if (code != RV_OK) {
            return code;
        }
        list_remove(&h->link);
        mem_free(h);
    }
    return RV_OK;
}

/* ---- what waits in retry topics ---- */

static struct hold *hold_find(struct rv_park *p, const struct park_topic *topic, int32_t partition)
{
    for (size_t i = 0; i < p->hold_count; i++) {
        if (p->holds[i].topic == topic && p->holds[i].partition == partition) {
            return &p->holds[i];
        }
    }
    return NULL;
}

static void hold_forget(struct rv_park *p, const struct rv_partition *partition)
{
    const struct park_topic *topic = topic_find(p, partition->topic);
    struct hold *h = topic ? hold_find(p, topic, partition->partition) : NULL;
    if (h) {
        *h = p->holds[--p->hold_count];
    }
}

/* The partition stands at a record that is due later: it waits since `since_ms`. */
static int hold_add(struct rv_park *p, const struct park_topic *topic, const struct rv_record *r,
                    int64_t since_ms, struct rv_error *e)
{
    struct hold *h = hold_find(p, topic, r->partition);
    if (!h && p->hold_count == p->hold_slots) {
        size_t slots = p->hold_slots ? p->hold_slots * 2 : 16;
        struct hold *more = mem_resize(p->holds, slots * sizeof *more);
        if (!more) {
            return park_fail(e, RV_E_MEMORY, "out of memory");
        }
        p->holds = more;
        p->hold_slots = slots;
    }
    int code = rv_pause(p->consumer, topic->name, r->partition, true, e);
    code = code == RV_OK ? rv_seek(p->consumer, topic->name, r->partition, r->offset, e) : code;
    if (code == RV_OK) {
        h = h ? h : &p->holds[p->hold_count++];
        *h = (struct hold){.topic = topic,
                           .partition = r->partition,
                           .due_ms = since_ms + topic->delay_ms,
                           .ahead_ms = r->timestamp_ms - since_ms};
    }
    return code;
}

/* In milliseconds; 0: now. None waits longer than its delay: a clock that was set back since makes
 * no more of it, the record is looked at anew. */
static int64_t hold_left(const struct hold *h, int64_t now_ms)
{
    int64_t left = h->due_ms - now_ms;
    return left < 0 || left > h->topic->delay_ms ? 0 : left;
}

/* Those that are due go on. */
static int holds_release(struct rv_park *p, struct rv_error *e)
{
    int64_t now = clock_wall_ms(&clock_real);
    for (size_t i = 0; i < p->hold_count; i++) {
        struct hold *h = &p->holds[i];
        if (h->is_over || hold_left(h, now) > 0) {
            continue;
        }
        int code = rv_pause(p->consumer, h->topic->name, h->partition, false, e);
        if (code != RV_OK && code != RV_E_ABSENT) {
            return code;
        }
        h->is_over = true;
    }
    return RV_OK;
}

int rv_park_timeout(const struct rv_park *park)
{
    int64_t now = clock_wall_ms(&clock_real);
    int64_t least = INT64_MAX;
    for (size_t i = 0; i < park->hold_count; i++) {
        int64_t left = hold_left(&park->holds[i], now);
        least = !park->holds[i].is_over && left < least ? left : least;
    }
    return least == INT64_MAX ? -1 : least > INT32_MAX ? INT32_MAX : (int)least;
}

/* ---- partitions that go and come ---- */

void park_event(void *ctx, const struct rv_event *event)
{
    struct rv_park *p = ctx;
    bool moves = event->kind == RV_ASSIGNED || event->kind == RV_REVOKED || event->kind == RV_LOST;
    if (event->kind == RV_REVOKED && !p->closing && p->stats.pending == 0 &&
        list_empty(&p->rewinds)) {
        struct rv_error ignored; /* what is not committed comes again, to whoever has it then */
        rv_commit(p->consumer, NULL, 0, &ignored);
    }
    for (size_t i = 0; moves && i < event->count; i++) {
        hold_forget(p, &event->partitions[i]); /* P3 */
    }
    if (p->on_event) {
        p->on_event(p->event_ctx, event);
    }
}

/* ---- poll ---- */

static void record_give(struct rv_park *p, const struct rv_record *r, const char *origin,
                        const struct park_origin *o)
{
    struct rv_park_record *out = &p->records[p->record_count++];
    *out = (struct rv_park_record){.record = *r,
                                   .origin_topic = origin,
                                   .origin_partition = r->partition,
                                   .origin_offset = r->offset,
                                   .origin_timestamp_ms = r->timestamp_ms};
    if (o) {
        out->origin_partition = (int32_t)o->partition;
        out->origin_offset = o->offset;
        out->origin_timestamp_ms = o->timestamp_ms;
        out->tries = (int32_t)o->tries;
    }
}

/* A record of a retry topic: given, held, or passed over. */
static int retry_take(struct rv_park *p, const struct park_topic *topic, const struct rv_record *r,
                      struct rv_error *e)
{
    struct park_origin o;
    const struct hold *h = hold_find(p, topic, r->partition);
    if (h && !h->is_over) {
        return RV_OK; /* behind one that waits: it is read again */
    }
    if (!park_origin_read(r, &o) || !str_eq(o.group, str_of(p->group)) ||
        !str_eq(o.topic, str_of(topic->origin))) {
        p->stats.foreign++;
        return RV_OK;
    }
    int64_t now = clock_wall_ms(&clock_real);
    int64_t since = r->timestamp_ms;
    if (since > now) { /* P4 */
        since -= h ? h->ahead_ms : 0;
        since = since < now ? since : now;
    }
    if (now - since < topic->delay_ms) {
        return hold_add(p, topic, r, since, e);
    }
    record_give(p, r, topic->origin, &o);
    return RV_OK;
}

/* Sorts what rv_poll gave. */
static int records_take(struct rv_park *p, const struct rv_record *records, size_t count,
                        struct rv_error *e)
{
    if (count > p->record_slots) {
        struct rv_park_record *more = mem_resize(p->records, count * sizeof *more);
        if (!more) {
            return park_fail(e, RV_E_MEMORY, "out of memory");
        }
        p->records = more;
        p->record_slots = count;
    }
    int code = RV_OK;
    for (size_t i = 0; i < count && code == RV_OK; i++) {
        const struct park_topic *topic = topic_find(p, records[i].topic);
        if (!topic || topic->step == 0) {
            record_give(p, &records[i], records[i].topic, NULL);
        } else {
            code = retry_take(p, topic, &records[i], e);
        }
    }
    return code;
}

int rv_park_poll(struct rv_park *park, int timeout_ms, const struct rv_park_record **ret_records,
                 size_t *ret_count, struct rv_error *ret_error)
{
    struct rv_park *p = park;
    const struct rv_record *records;
    size_t count;
    *ret_records = NULL;
    *ret_count = 0;
    p->record_count = 0;
    int code = rewind_all(p, ret_error);
    code = code == RV_OK ? holds_release(p, ret_error) : code;
    int due = rv_park_timeout(p);
    int wait = due >= 0 && (timeout_ms < 0 || due < timeout_ms) ? due : timeout_ms;
    code = code == RV_OK ? rv_poll(p->consumer, wait, &records, &count, ret_error) : code;
    if (code != RV_OK) {
        return code;
    }
    int64_t foreign = p->stats.foreign;
    code = records_take(p, records, count, ret_error);
    if (code != RV_OK) { /* nothing is given, so nothing may be committed (P1) */
        struct rv_error ignored;
        for (size_t i = 0; i < count; i++) {
            position_back(p, records[i].topic, records[i].partition, records[i].offset, &ignored);
        }
        p->stats.foreign = foreign;
        return code;
    }
    *ret_records = p->records;
    *ret_count = p->record_count;
    return RV_OK;
}

/* ---- handing over ---- */

static void handed_over(void *ctx, const struct rv_delivery *delivery)
{
    struct handover *h = ctx;
    struct rv_park *p = h->park;
    p->stats.pending--;
    if (delivery->error && !p->closing) {
        p->stats.rewound++;
        if (p->rewind_why.code == RV_OK) {
            p->rewind_why = *delivery->error;
        }
        list_push(&p->rewinds, &h->link);
        return;
    }
    p->stats.parked += !delivery->error && h->parks;
    p->stats.retried += !delivery->error && !h->parks;
    mem_free(h);
}

static int hand_over(struct rv_park *p, const struct park_topic *from,
                     const struct rv_park_record *r, const char *reason, struct rv_error *e)
{
    const struct park_topic *to = from + 1;
    struct park_numbers numbers;
    struct handover *h = mem_zero(1, sizeof *h);
    struct rv_header *headers =
        mem_alloc((r->record.header_count + PARK_HEADERS) * sizeof *headers);
    int code = h && headers ? RV_OK : park_fail(e, RV_E_MEMORY, "out of memory");
    if (code == RV_OK) {
        *h = (struct handover){.park = p,
                               .from = from,
                               .partition = r->record.partition,
                               .offset = r->record.offset,
                               .parks = to->step > p->delay_count};
        const struct rv_message m = {.topic = to->name,
                                     .key = r->record.key,
                                     .value = r->record.value,
                                     .headers = headers,
                                     .header_count = park_headers(p, r, reason, &numbers, headers)};
        p->stats.pending++;
        code = rv_send(p->producer, &m, handed_over, h, e);
        p->stats.pending -= code != RV_OK;
    }
    if (code != RV_OK) {
        mem_free(h);
    }
    mem_free(headers);
    return code;
}

int rv_park_failed(struct rv_park *park, const struct rv_park_record *record, const char *reason,
                   struct rv_error *ret_error)
{
    const struct park_topic *from = topic_find(park, record->record.topic);
    if (!from || from->step > park->delay_count) {
        return park_fail(ret_error, RV_E_ARGUMENT, "topic %.100s is not one of the park's",
                         record->record.topic);
    }
    int code = hand_over(park, from, record, reason, ret_error);
    if (code != RV_OK) { /* P1; a failure of this one is a failure of the next commit, too */
        struct rv_error ignored;
        position_back(park, from->name, record->record.partition, record->record.offset, &ignored);
    }
    return code;
}

int rv_park_commit(struct rv_park *park, int timeout_ms, struct rv_error *ret_error)
{
    struct rv_park *p = park;
    int code = rv_flush(p->producer, timeout_ms, ret_error);
    if (p->stats.pending) {
        return code;
    }
    code = rewind_all(p, ret_error);
    code = code == RV_OK ? rv_commit(p->consumer, NULL, 0, ret_error) : code;
    if (code == RV_OK && p->rewind_why.code != RV_OK) {
        code = p->rewind_why.code;
        if (ret_error) {
            *ret_error = p->rewind_why;
            ret_error->flags |= RV_RETRIABLE;
        }
        p->rewind_why = (struct rv_error){0};
    }
    return code;
}

/* ---- the rest ---- */

void rv_park_on_event(struct rv_park *park, rv_event_fn *fn, void *ctx)
{
    park->on_event = fn;
    park->event_ctx = ctx;
}

void rv_park_stats(const struct rv_park *park, struct rv_park_stats *ret_stats)
{
    *ret_stats = park->stats;
    ret_stats->held = 0;
    for (size_t i = 0; i < park->hold_count; i++) {
        ret_stats->held += !park->holds[i].is_over;
    }
}

/* A view: a consumer of its own that reads all partitions of a topic into a storage.
 *
 *   BEGIN --the topic is known, the storage has begun anew--> READ
 *   READ  --what was read is not the topic's past any more--> BEGIN
 *
 * V1  Positions are saved in the transaction of the records before them, so that what is stored is
 *     always what reading up to there makes of it.
 * V2  A batch (what one rv_poll gave) is applied whole, or again from its first record; applying a
 *     record twice changes nothing. Nothing else is saved while one is open.
 * V3  It is complete when the positions have reached the ends that the topic had when the
 *     generation began, and a second look says that the topic is the same: it may have been made
 *     anew between the first look and the consumer's first answer.
 * V4  fresh_ms is the time before a look at the ends that the positions have reached since.
 * V5  A removal is read before the topic may forget it, or the generation ends: see away_check. */
#include "client/view/view.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdio.h>
#include <string.h>

enum {
    ASK_MS = 1000,  /* a look at the topic waits so long at most, inside of rv_view_poll */
    PAUSE_MS = 50,  /* between questions of one look */
    AGAIN_MS = 500, /* after one that failed */
};

/* ---- the topic ---- */

bool view_is_passing(const struct rv_error *e)
{
    return (e->flags & RV_RETRIABLE) != 0 && e->code != RV_E_MEMORY;
}

int view_topic_look(struct rv_view *v, int timeout_ms, struct rv_topics **ret_topics,
                    struct rv_error *e)
{
    int64_t deadline = clock_after_ms(&clock_real, timeout_ms);
    for (bool first = true;;) {
        int64_t left = deadline - clock_mono_ms(&clock_real);
        int64_t now = clock_wall_ms(&clock_real), mono = clock_mono_ms(&clock_real);
        int code = rv_topic_describe(v->client, v->topic, left > 0 ? (int)left : 0, ret_topics, e);
        if (code != RV_OK) {
            return code;
        }
        const struct rv_topic *t = (*ret_topics)->items;
        for (size_t i = 0; i < t->partition_count && code == RV_OK; i++) {
            if (t->partitions[i].end_offset < 0 || t->partitions[i].partition != (int32_t)i) {
                code = view_fail(e, RV_E_TIMED_OUT,
                                 "topic %s: the ends of partition %zu are not known", v->topic, i);
            }
        }
        if (code == RV_OK && t->partition_count == 0) {
            code = view_fail(e, RV_E_ABSENT, "topic %s has no partitions", v->topic);
        }
        if (code == RV_OK) {
            v->looked_ms = now;
            v->looked_mono_ms = mono;
            return RV_OK;
        }
        rv_free(*ret_topics);
        left = deadline - clock_mono_ms(&clock_real);
        if (left <= 0 || code != RV_E_TIMED_OUT) {
            return code;
        }
        /* What the client knows of the topic is old: this renews it. What fails here fails the
         * next question, too. */
        struct rv_error ignored;
        int again = left < PAUSE_MS ? (int)left : PAUSE_MS;
        if (rv_client_connect(v->client, (int)left, &ignored) != RV_OK || !first) {
            rv_wait(v->client, again, &ignored);
        }
        first = false;
    }
}

int view_partitions_take(struct rv_view *v, const struct rv_topic *t, struct rv_error *e)
{
    size_t count = t->partition_count;
    if (count > v->state.partition_count) {
        struct rv_view_position *positions =
            mem_resize(v->state.positions, count * sizeof *positions);
        v->state.positions = positions ? positions : v->state.positions;
        int64_t *ends = mem_resize(v->ends, count * sizeof *ends);
        v->ends = ends ? ends : v->ends;
        if (!positions || !ends) {
            return view_fail(e, RV_E_MEMORY, "out of memory");
        }
        for (size_t i = v->state.partition_count; i < count; i++) {
            positions[i] = (struct rv_view_position){(int32_t)i, -1, RV_START};
            ends[i] = 0;
        }
        v->state.partition_count = count;
        v->assigns = true;
    }
    return RV_OK;
}

void view_ends_take(struct rv_view *v, const struct rv_topic *t)
{
    for (size_t i = 0; i < t->partition_count; i++) {
        const struct rv_topic_partition *p = &t->partitions[i];
        v->ends[i] = p->end_offset > p->start_offset ? p->end_offset : 0; /* 0: there is nothing */
    }
    v->ends_ms = v->looked_ms;
    v->is_waiting = true;
}

/* Gives the consumer the positions. */
static int positions_assign(struct rv_view *v, struct rv_error *e)
{
    size_t count = v->state.partition_count;
    struct rv_partition *list = mem_zero(count, sizeof *list);
    if (!list) {
        return view_fail(e, RV_E_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        list[i] = (struct rv_partition){.topic = v->topic,
                                        .partition = (int32_t)i,
                                        .offset = v->state.positions[i].offset,
                                        .leader_epoch = v->state.positions[i].leader_epoch};
    }
    int code = rv_assign(v->consumer, list, count, e);
    mem_free(list);
    v->assigns = code != RV_OK;
    return code;
}

/* ---- transactions ---- */

static int failed(struct rv_view *v, int code)
{
    v->storage.rollback(v->storage.ctx);
    return code;
}

int view_generation_begin(struct rv_view *v, const struct rv_topic *t, struct rv_error *e)
{
    struct rv_view_state before = v->state;
    int code = view_partitions_take(v, t, e);
    if (code != RV_OK) {
        return code;
    }
    struct rv_view_state *s = &v->state;
    s->partition_count = t->partition_count; /* one that was made anew may have fewer */
    snprintf(s->topic_id, sizeof s->topic_id, "%s", t->id);
    s->rebuilds += s->generation > 0;
    s->generation++;
    s->fresh_ms = v->looked_ms;
    s->without_key = 0;
    s->is_complete = false;
    for (size_t i = 0; i < s->partition_count; i++) {
        s->positions[i] = (struct rv_view_position){(int32_t)i, -1, RV_START};
    }
    const struct rv_view_storage *st = &v->storage;
    code = st->begin(st->ctx, e);
    if (code == RV_OK) {
        code = st->save(st->ctx, v->topic, s, e);
        code = code == RV_OK ? st->commit(st->ctx, e) : code;
        code = code == RV_OK ? code : failed(v, code);
    }
    if (code != RV_OK) {
        s->generation = before.generation;
        s->rebuilds = before.rebuilds;
        return code; /* begins is still set */
    }
    view_ends_take(v, t);
    v->begins = false;
    v->confirm = CONFIRM_NOT_YET;
    v->record_count = 0;
    v->assigns = true;
    if (v->on_rebuild && s->generation > 1) {
        v->on_rebuild(v->rebuild_ctx, v->why);
    }
    return RV_OK;
}

void view_rebuild_need(struct rv_view *v, const char *why)
{
    snprintf(v->why, sizeof v->why, "%s", why);
    v->begins = true;
    v->check_at_ms = 0;
}

void view_event(void *ctx, const struct rv_event *event)
{
    if (event->kind == RV_JUMPED && event->from >= 0) { /* below: nothing has been read yet */
        view_rebuild_need(ctx, event->text);
    }
}

static bool is_reached(const struct rv_view *v)
{
    for (size_t i = 0; i < v->state.partition_count; i++) {
        if (v->state.positions[i].offset < v->ends[i]) {
            return false;
        }
    }
    return true;
}

/* Looks that did not come for a while, because nobody polled or no broker answered: what was
 * removed meanwhile may be forgotten, as when it was closed. So it is when it is complete and has
 * not reached the end since (V4). */
static int away_check(struct rv_view *v, int64_t before_ms, int64_t before_mono_ms, int timeout_ms,
                      struct rv_error *e)
{
    int64_t away_ms = v->looked_ms - before_ms;
    int64_t mono_ms = v->looked_mono_ms - before_mono_ms;
    int64_t since_ms = is_reached(v) ? v->ends_ms : v->state.fresh_ms;
    int64_t behind_ms = v->is_waiting && v->state.is_complete ? v->looked_ms - since_ms : 0;
    away_ms = away_ms > mono_ms ? away_ms : mono_ms;
    away_ms = away_ms > behind_ms ? away_ms : behind_ms;
    return away_ms / 2 > v->check_ms ? view_away_check(v, away_ms, timeout_ms, e) : RV_OK;
}

/* A look at the topic, and what follows from it. */
static int view_look(struct rv_view *v, int timeout_ms, struct rv_error *e)
{
    struct rv_topics *topics;
    int64_t before_ms = v->looked_ms, before_mono_ms = v->looked_mono_ms;
    int code = view_topic_look(v, timeout_ms, &topics, e);
    if (code != RV_OK) {
        return code;
    }
    code = v->begins ? RV_OK : away_check(v, before_ms, before_mono_ms, timeout_ms, e);
    if (code != RV_OK) {
        v->looked_ms = before_ms; /* the next look asks that, too */
        v->looked_mono_ms = before_mono_ms;
        rv_free(topics);
        return code;
    }
    const struct rv_topic *t = topics->items;
    if (!v->begins && strcmp(t->id, v->state.topic_id) != 0) {
        view_rebuild_need(v, "the topic was deleted and made again");
    }
    if (!v->begins && t->partition_count < v->state.partition_count) {
        view_rebuild_need(v, "the topic has fewer partitions than it had");
    }
    if (v->begins) {
        code = view_generation_begin(v, t, e);
    } else {
        code = view_partitions_take(v, t, e);
        if (code == RV_OK && !v->is_waiting) {
            view_ends_take(v, t);
        }
        if (code == RV_OK && v->confirm == CONFIRM_DUE) {
            v->confirm = CONFIRM_DONE;
        }
    }
    rv_free(topics);
    return code;
}

/* ---- completeness ---- */

static void entry_gone(void *ctx, const struct rv_view_entry *entry)
{
    struct rv_view *v = ctx;
    if (v->on_change) {
        v->on_change(v->change_ctx, entry, NULL);
    }
}

/* The ends were reached: it is as fresh as the look at them (V4), and complete (V3). */
static int reached(struct rv_view *v, struct rv_error *e)
{
    const struct rv_view_storage *st = &v->storage;
    struct rv_view_state *s = &v->state;
    bool was_complete = s->is_complete;
    int64_t before_ms = s->fresh_ms;
    int code = st->begin(st->ctx, e);
    if (code != RV_OK) {
        return code;
    }
    s->is_complete = true;
    s->fresh_ms = v->ends_ms;
    code = was_complete ? RV_OK : st->sweep(st->ctx, s->generation, entry_gone, v, e);
    code = code == RV_OK ? st->save(st->ctx, v->topic, s, e) : code;
    code = code == RV_OK ? st->commit(st->ctx, e) : code;
    if (code != RV_OK) {
        s->is_complete = was_complete;
        s->fresh_ms = before_ms;
        return failed(v, code);
    }
    v->is_waiting = false;
    return RV_OK;
}

/* ---- records ---- */

static bool bytes_eq(struct rv_bytes a, struct rv_bytes b)
{
    return a.size == b.size && !a.ptr == !b.ptr &&
           (a.size == 0 || memcmp(a.ptr, b.ptr, a.size) == 0);
}

static void change_tell(const struct rv_view *v, const struct rv_view_entry *old, bool is_old,
                        const struct rv_view_entry *now)
{
    bool had = old && old->value.ptr, has = now->value.ptr != NULL;
    bool same = is_old && had && has && bytes_eq(old->value, now->value);
    if (v->on_change && (had || has) && !same) {
        v->on_change(v->change_ctx, had ? old : NULL, has ? now : NULL);
    }
}

static int record_apply(struct rv_view *v, const struct rv_record *r, struct rv_error *e)
{
    const struct rv_view_storage *st = &v->storage;
    if (v->at_ms && r->timestamp_ms > v->at_ms) {
        return RV_OK;
    }
    if (!r->key.ptr) {
        v->state.without_key++;
        return RV_OK;
    }
    if (v->only.ptr && !bytes_eq(v->only, r->key)) {
        return RV_OK;
    }
    struct rv_view_entry now = {r->key, r->value, r->partition, r->offset, r->timestamp_ms};
    struct rv_view_entry old;
    int64_t generation;
    int code = st->get(st->ctx, r->key, &old, &generation, e);
    if (code != RV_OK) {
        return code;
    }
    bool is_old = generation != v->state.generation;
    if (generation && !is_old &&
        (old.partition == r->partition ? old.offset >= r->offset
                                       : old.timestamp_ms > r->timestamp_ms)) {
        return RV_OK;
    }
    change_tell(v, generation ? &old : NULL, is_old, &now);
    if (!r->value.ptr && v->state.is_complete) {
        return generation ? st->remove(st->ctx, r->key, e) : RV_OK;
    }
    return st->put(st->ctx, &now, v->state.generation, e);
}

static void positions_take(struct rv_view *v)
{
    const struct rv_partition *list;
    size_t count = rv_assignment(v->consumer, &list);
    for (size_t i = 0; i < count; i++) {
        struct rv_view_position *p = &v->state.positions[list[i].partition];
        if (list[i].offset >= 0) {
            p->offset = list[i].offset;
            p->leader_epoch = list[i].leader_epoch;
        }
    }
}

/* The batch, and the positions behind it, in one transaction (V1, V2). */
static int batch_apply(struct rv_view *v, struct rv_error *e)
{
    const struct rv_view_storage *st = &v->storage;
    int64_t without_key = v->state.without_key;
    int code = st->begin(st->ctx, e);
    if (code != RV_OK) {
        return code;
    }
    for (size_t i = 0; i < v->record_count && code == RV_OK; i++) {
        code = record_apply(v, &v->records[i], e);
    }
    if (code == RV_OK) {
        positions_take(v);
        code = st->save(st->ctx, v->topic, &v->state, e);
    }
    code = code == RV_OK ? st->commit(st->ctx, e) : code;
    if (code != RV_OK) {
        v->state.without_key = without_key;
        return failed(v, code);
    }
    v->applied += (int64_t)v->record_count;
    v->record_count = 0;
    return RV_OK;
}

/* ---- poll ---- */

/* The look that is due. One that cannot be had now is tried again; only what lasts is an error. */
static int look_due(struct rv_view *v, struct rv_error *e)
{
    int64_t now = clock_mono_ms(&clock_real);
    if (now < v->check_at_ms) {
        return RV_OK;
    }
    v->check_at_ms = now + AGAIN_MS;
    int code = view_look(v, ASK_MS, e);
    if (code == RV_OK) {
        v->check_at_ms = clock_after_ms(&clock_real, v->check_ms);
    }
    return code != RV_OK && view_is_passing(e) ? RV_OK : code;
}

static int poll_records(struct rv_view *v, int timeout_ms, struct rv_error *e)
{
    int64_t due = v->check_at_ms - clock_mono_ms(&clock_real);
    due = due < 0 ? 0 : due > INT32_MAX ? INT32_MAX : due;
    int wait = timeout_ms < 0 || timeout_ms > due ? (int)due : timeout_ms;
    int code = rv_poll(v->consumer, wait, &v->records, &v->record_count, e);
    if (code != RV_OK) {
        v->record_count = 0;
        v->assigns = !(e->flags & RV_RETRIABLE); /* what failed for good is tried from anew */
    }
    return code;
}

/* Takes what came, and where that leads to. */
static int batch_take(struct rv_view *v, struct rv_error *e)
{
    int code = v->record_count ? batch_apply(v, e) : RV_OK;
    if (code == RV_OK && v->is_waiting) {
        positions_take(v); /* they move over what is no record, too */
        if (is_reached(v) && !v->state.is_complete && v->confirm == CONFIRM_NOT_YET) {
            v->confirm = CONFIRM_DUE;
            v->check_at_ms = 0;
        }
    }
    return code;
}

int rv_view_poll(struct rv_view *view, int timeout_ms, struct rv_error *ret_error)
{
    struct rv_view *v = view;
    struct rv_error ignored;
    struct rv_error *e = ret_error ? ret_error : &ignored;
    int code = look_due(v, e);
    if (code == RV_OK && v->begins) { /* the topic could not be asked */
        int wait = timeout_ms < 0 || timeout_ms > AGAIN_MS ? AGAIN_MS : timeout_ms;
        return rv_wait(v->client, wait, e);
    }
    bool confirmed = v->state.is_complete || v->confirm == CONFIRM_DONE;
    if (code == RV_OK && v->record_count == 0 && v->is_waiting && confirmed && is_reached(v)) {
        return reached(v, e);
    }
    if (code == RV_OK && v->record_count == 0) {
        code = v->assigns ? positions_assign(v, e) : RV_OK;
        code = code == RV_OK ? poll_records(v, timeout_ms, e) : code;
    }
    return code == RV_OK && !v->begins ? batch_take(v, e) : code;
}

/* ---- looking ---- */

bool rv_view_is_complete(const struct rv_view *view)
{
    return view->state.is_complete;
}

int rv_view_get(struct rv_view *view, struct rv_bytes key, struct rv_view_entry *ret_entry,
                struct rv_error *ret_error)
{
    struct rv_view_entry entry;
    int64_t generation;
    int code = view->storage.get(view->storage.ctx, key, &entry, &generation, ret_error);
    if (code == RV_OK && (!generation || !entry.value.ptr)) {
        code = view_fail(ret_error, RV_E_ABSENT, "topic %s: there is no such key", view->topic);
    }
    if (code == RV_OK) {
        *ret_entry = entry;
    }
    return code;
}

int rv_view_next(struct rv_view *view, int64_t *cursor, struct rv_view_entry *ret_entry,
                 struct rv_error *ret_error)
{
    struct rv_view_entry entry;
    int code = view->storage.next(view->storage.ctx, cursor, &entry, ret_error);
    if (code == RV_OK && !entry.key.ptr) {
        code = view_fail(ret_error, RV_E_ABSENT, "topic %s: no more keys", view->topic);
    }
    if (code == RV_OK) {
        *ret_entry = entry;
    }
    return code;
}

int rv_view_stats(struct rv_view *view, struct rv_view_stats *ret_stats, struct rv_error *ret_error)
{
    const struct rv_view_state *s = &view->state;
    struct rv_view_stats stats = {.bytes = view->memory ? (int64_t)view->memory->table.bytes : -1,
                                  .records = view->applied,
                                  .without_key = s->without_key,
                                  .rebuilds = s->rebuilds,
                                  .partition_count = s->partition_count};
    for (size_t i = 0; i < s->partition_count && !s->is_complete; i++) {
        int64_t from = s->positions[i].offset < 0 ? 0 : s->positions[i].offset;
        stats.behind += view->ends[i] > from ? view->ends[i] - from : 0;
    }
    int code = view->storage.count(view->storage.ctx, &stats.count, ret_error);
    if (code == RV_OK) {
        *ret_stats = stats;
    }
    return code;
}

const char *rv_view_why(const struct rv_view *view)
{
    return view->why;
}

void rv_view_on_change(struct rv_view *view, rv_view_change_fn *fn, void *ctx)
{
    view->on_change = fn;
    view->change_ctx = ctx;
}

void rv_view_on_rebuild(struct rv_view *view, void (*fn)(void *ctx, const char *why), void *ctx)
{
    view->on_rebuild = fn;
    view->rebuild_ctx = ctx;
}

int rv_view_save(struct rv_view *view, struct rv_error *ret_error)
{
    if (!view->memory || !view->memory->path) {
        return view_fail(ret_error, RV_E_STATE, "the view of topic %s has no view.file",
                         view->topic);
    }
    return snapshot_save(view->memory, ret_error);
}

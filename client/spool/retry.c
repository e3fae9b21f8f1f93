/* What was set aside goes into the spool again.
 *
 * An event must be set aside or in the spool, never both and never neither, whenever the process
 * ends. So the file `refused` says first, in an entry of its own, which of its entries get which
 * numbers of the spool; that entry is synced, and then the events are appended. After a crash,
 * those of them whose numbers are not there yet follow.
 *
 * Invariants:
 *   A1  while a number that such an entry promised is not there, nothing else is appended, or it
 *       would be taken for the event that was meant (S6)
 *   A2  what goes again counts as done, durably: no plan knows it any more
 *   A3  before the entry is written, all numbers below the first that it promises are durable
 */
#include "client/spool/internal.h"

#include "base/mem.h"
#include "client/sealed/fail.h"

#include <string.h>

int aside_add(struct rv_spool *s, int64_t position, bool is_open, struct rv_error *ret_error)
{
    if (s->aside_count == s->aside_room) {
        size_t room = s->aside_room ? s->aside_room * 2 : 16;
        struct set_aside *more = mem_resize(s->asides, room * sizeof *more);
        if (!more) {
            return fail_memory(ret_error);
        }
        s->asides = more;
        s->aside_room = room;
    }
    s->asides[s->aside_count++] = (struct set_aside){position, is_open};
    s->aside_open += is_open;
    return RV_OK;
}

static int damaged(uint64_t entry, struct rv_error *ret_error)
{
    return fail_set(ret_error, RV_E_CORRUPT, "file refused: entry %llu makes no sense",
                    (unsigned long long)entry);
}

/* `entries` is taken over. */
static void again_set(struct rv_spool *s, uint64_t first, uint64_t *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        s->asides[entries[i] - s->refused.first].is_open = false;
    }
    s->aside_open -= count;
    mem_free(s->again);
    s->again = entries;
    s->again_count = count;
    s->again_first = first;
}

int again_take(struct rv_spool *s, const struct again *a, struct rv_error *ret_error)
{
    uint64_t *entries = mem_alloc((a->count ? a->count : 1) * sizeof *entries);
    if (!entries) {
        return fail_memory(ret_error);
    }
    for (uint32_t i = 0; i < a->count; i++) {
        entries[i] = get_be64(a->entries + i * sizeof *entries);
        uint64_t at = entries[i] - s->refused.first;
        bool is_later = i == 0 || entries[i] > entries[i - 1];
        if (at >= s->aside_count || !s->asides[at].is_open || !is_later) {
            mem_free(entries);
            return damaged(s->refused.first + s->aside_count, ret_error);
        }
    }
    again_set(s, a->first, entries, a->count);
    return RV_OK;
}

/* The refusal at an entry of `refused`; it borrows from *into. */
static int refusal_at(struct rv_spool *s, uint64_t entry, struct buf *into, struct refusal *ret_r,
                      struct event *ret_event, struct rv_error *ret_error)
{
    struct chain_entry e;
    int64_t position = s->asides[entry - s->refused.first].position;
    int code = chain_read(&s->refused, &position, entry, into, &e, ret_error);
    if (code == RV_OK &&
        (refusal_decode(e.body, ret_r) != OK || event_decode(ret_r->event, ret_event) != OK)) {
        code = damaged(entry, ret_error);
    }
    return code;
}

static int event_again(struct rv_spool *s, uint64_t entry, struct rv_error *ret_error)
{
    static const char room[CHAIN_HEAD_SIZE];
    struct buf from = {0}, to = {0};
    struct refusal r;
    struct event e;
    uint64_t number;
    int code = refusal_at(s, entry, &from, &r, &e, ret_error);
    if (code == RV_OK) {
        buf_add(&to, room, sizeof room);
        buf_add(&to, r.event.ptr, r.event.len);
        code = to.failed ? fail_memory(ret_error)
                         : spool_add_locked(s, &to, e.appended_ms, &number, ret_error);
    }
    buf_finish(&from);
    buf_finish(&to);
    return code;
}

int again_finish(struct rv_spool *s, struct rv_error *ret_error)
{
    if (!s->again) {
        return RV_OK;
    }
    int code = RV_OK;
    while (code == RV_OK && spool_next(s) < s->again_first + s->again_count) { /* A1 */
        if (spool_next(s) < s->again_first) {                                  /* A3 */
            return fail_set(ret_error, RV_E_CORRUPT,
                            "spool %s: events below number %llu are missing", s->settings.dir,
                            (unsigned long long)s->again_first);
        }
        code = event_again(s, s->again[spool_next(s) - s->again_first], ret_error);
    }
    code = code == RV_OK ? spool_sync_locked(s, ret_error) : code;
    if (code == RV_OK && s->aside_open == 0) {
        code = spool_refused_remove_locked(s, ret_error);
    }
    if (code == RV_OK) {
        mem_free(s->again);
        s->again = NULL;
        s->again_count = 0;
        pthread_cond_broadcast(&s->appended);
    }
    return code;
}

/* Which entries: *ret_entries is the caller's. */
static int choose(struct rv_spool *s, const char *topic, bool with_unsure, uint64_t **ret_entries,
                  size_t *ret_count, struct rv_error *ret_error)
{
    uint64_t *entries = mem_alloc((s->aside_open ? s->aside_open : 1) * sizeof *entries);
    struct buf into = {0};
    size_t count = 0;
    int code = entries ? RV_OK : fail_memory(ret_error);
    for (size_t i = 0; code == RV_OK && i < s->aside_count; i++) {
        struct refusal r;
        struct event e;
        if (!s->asides[i].is_open) {
            continue;
        }
        code = refusal_at(s, s->refused.first + i, &into, &r, &e, ret_error);
        if (code == RV_OK && r.number <= s->sending.delivered && /* A2 */
            (!r.is_unsure || with_unsure) && (!topic || str_eq(e.topic, str_of(topic)))) {
            entries[count++] = s->refused.first + i;
        }
    }
    buf_finish(&into);
    if (code != RV_OK) {
        mem_free(entries);
        return code;
    }
    *ret_entries = entries;
    *ret_count = count;
    return RV_OK;
}

/* Says in `refused` what goes again, durably. `entries` is taken over when it returns RV_OK. */
static int promise(struct rv_spool *s, uint64_t *entries, size_t count, struct rv_error *ret_error)
{
    static const char room[CHAIN_HEAD_SIZE];
    struct buf entry = {0};
    buf_add(&entry, room, sizeof room);
    again_encode(spool_next(s), entries, count, &entry);
    int code =
        entry.failed ? fail_memory(ret_error) : aside_add(s, s->refused.end, false, ret_error);
    if (code == RV_OK) {
        code = chain_append(&s->refused, &entry, ret_error);
        s->aside_count -= code != RV_OK;
        code = code == RV_OK ? chain_sync(&s->refused, ret_error) : code;
        s->last.failed |= s->refused.failed; /* A1: nobody knows whether it is promised */
    }
    if (code == RV_OK) {
        again_set(s, spool_next(s), entries, count);
    }
    buf_finish(&entry);
    return code;
}

int rv_spool_retry(struct rv_spool *spool, const char *topic, bool with_unsure, uint64_t *ret_count,
                   struct rv_error *ret_error)
{
    struct rv_spool *s = spool;
    uint64_t *entries = NULL;
    size_t count = 0;
    pthread_mutex_lock(&s->lock);
    int code = again_finish(s, ret_error);
    code = code == RV_OK ? spool_sync_locked(s, ret_error) : code;      /* A3 */
    code = code == RV_OK ? sending_sync(&s->sending, ret_error) : code; /* A2 */
    code = code == RV_OK ? choose(s, topic, with_unsure, &entries, &count, ret_error) : code;
    if (code == RV_OK && count) {
        code = promise(s, entries, count, ret_error);
        entries = code == RV_OK ? NULL : entries;
        code = code == RV_OK ? again_finish(s, ret_error) : code;
    }
    pthread_mutex_unlock(&s->lock);
    mem_free(entries);
    if (code == RV_OK && ret_count) {
        *ret_count = count;
    }
    return code;
}

/* The directory:
 *
 *   lock                   one process at a time
 *   sending.0, sending.1   how far sending has got, and the plan (sending.c)
 *   NUMBER.events          a segment: events from that number on (chain.c, event.c); the newest one
 *                          grows
 *   refused                what was set aside (chain.c, event.c); made when it is needed
 *
 * Events are numbered from 1, without a gap.
 *
 * Invariants:
 *   S1  a segment is whole on the medium, and so is the name of the next one, before anything is
 *       written into the next one
 *   S2  a segment is removed only when a later one is there by name, and that its events are done
 *       is on the medium: the newest one's head says what number comes next
 *   S3  what is sent was on the medium before (sender.c): a number is never given to another event
 *       after it was planned
 *   S4  an event that is set aside is on the medium in `refused` before it counts as done
 *   S5  while a segment may be there by name, no event that would be its first goes into another
 *   S6  what goes into the spool again is behind what `refused` says of it before anything else is
 *       appended (retry.c)
 */
#include "base/check.h"
#include "base/mem.h"
#include "client/sealed/fail.h"
#include "client/spool/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char lock_name[] = "lock";
static const char refused_name[] = "refused";
static const char suffix[] = ".events";

uint64_t spool_next(const struct rv_spool *s)
{
    return s->last.next;
}

/* ---- names ---- */

void segment_name(uint64_t first, char name[CHAIN_NAME_SIZE])
{
    snprintf(name, CHAIN_NAME_SIZE, "%0*" PRIu64 "%s", SEGMENT_DIGITS, first, suffix);
}

bool segment_number(const char *name, uint64_t *ret_first)
{
    int64_t first = 0;
    if (strlen(name) != SEGMENT_DIGITS + sizeof suffix - 1 ||
        strspn(name, "0123456789") != SEGMENT_DIGITS ||
        strcmp(name + SEGMENT_DIGITS, suffix) != 0 ||
        str_to_int64((struct str){name, SEGMENT_DIGITS}, &first) != OK || first < 1) {
        return false;
    }
    *ret_first = (uint64_t)first;
    return true;
}

/* ---- segments ---- */

static bool segment_add(struct rv_spool *s, uint64_t first)
{
    if (s->segment_count == s->segment_room) {
        size_t room = s->segment_room ? s->segment_room * 2 : 16;
        struct segment *more = mem_resize(s->segments, room * sizeof *more);
        if (!more) {
            return false;
        }
        s->segments = more;
        s->segment_room = room;
    }
    s->segments[s->segment_count++] = (struct segment){.first = first};
    return true;
}

static int names_sync(struct rv_spool *s, struct rv_error *ret_error)
{
    err e = s->disk.ops->sync_names(s->disk.ctx);
    return e == OK ? RV_OK
                   : fail_set(ret_error, RV_E_IO, "spool %s: syncing the directory: %s",
                              s->settings.dir, err_text(e));
}

static int file_remove(struct rv_spool *s, const char *name, struct rv_error *ret_error)
{
    err e = s->disk.ops->unlink(s->disk.ctx, name);
    return e == OK || e == ERR_NOT_FOUND
               ? RV_OK
               : fail_set(ret_error, RV_E_IO, "file %s: removing it: %s", name, err_text(e));
}

/* A new segment that begins with what comes next (S1). */
static int segment_begin(struct rv_spool *s, uint64_t first, struct rv_error *ret_error)
{
    char name[CHAIN_NAME_SIZE];
    struct chain fresh = {0};
    segment_name(first, name);
    if (!segment_add(s, first)) {
        return fail_memory(ret_error);
    }
    s->must_roll = true;                        /* S5 */
    int code = file_remove(s, name, ret_error); /* of an attempt that has failed */
    code = code == RV_OK ? chain_create(&s->disk, name, CHAIN_EVENTS, first, 0, &fresh, ret_error)
                         : code;
    code = code == RV_OK ? names_sync(s, ret_error) : code;
    if (code != RV_OK) {
        chain_close(&fresh);
        s->segment_count--;
        return code;
    }
    if (s->last.file) {
        s->segments[s->segment_count - 2].bytes = s->last.end;
        chain_close(&s->last);
    }
    s->last = fresh;
    s->must_roll = false;
    return RV_OK;
}

static int segment_roll(struct rv_spool *s, struct rv_error *ret_error)
{
    int code = chain_sync(&s->last, ret_error);
    return code == RV_OK ? segment_begin(s, spool_next(s), ret_error) : code;
}

/* Removes the segments all of whose events are done (S2). */
static int segments_drop(struct rv_spool *s, struct rv_error *ret_error)
{
    if (s->segment_count < 2 || s->segments[1].first > s->sending.delivered + 1) {
        return RV_OK;
    }
    int code = sending_sync(&s->sending, ret_error);
    while (code == RV_OK && s->segment_count > 1 &&
           s->segments[1].first <= s->sending.delivered + 1) {
        char name[CHAIN_NAME_SIZE];
        segment_name(s->segments[0].first, name);
        code = file_remove(s, name, ret_error);
        if (code == RV_OK) {
            s->segment_count--;
            memmove(s->segments, s->segments + 1, s->segment_count * sizeof *s->segments);
        }
    }
    return code;
}

static int64_t events_bytes(const struct rv_spool *s)
{
    int64_t bytes = s->last.end;
    for (size_t i = 0; i + 1 < s->segment_count; i++) {
        bytes += s->segments[i].bytes;
    }
    return bytes;
}

static int64_t refused_bytes(const struct rv_spool *s)
{
    return s->refused.file ? s->refused.end : 0;
}

/* ---- opening ---- */

struct names {
    struct rv_spool *spool;
    bool no_memory;
};

static void name_take(void *arg, const char *name)
{
    struct names *n = arg;
    uint64_t first;
    if (segment_number(name, &first) && !segment_add(n->spool, first)) {
        n->no_memory = true;
    }
}

static int by_first(const void *a, const void *b)
{
    uint64_t x = ((const struct segment *)a)->first, y = ((const struct segment *)b)->first;
    return x < y ? -1 : x > y;
}

/* Looks into each segment. One whose creation was cut short, or failed, is removed. */
static int segments_check(struct rv_spool *s, struct rv_error *ret_error)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->segment_count; i++) {
        struct segment g = s->segments[i];
        struct chain c = {0};
        char name[CHAIN_NAME_SIZE];
        segment_name(g.first, name);
        int code = chain_open(&s->disk, name, CHAIN_EVENTS, DISK_READ, &c, ret_error);
        if (code == RV_E_ABSENT) {
            code = file_remove(s, name, ret_error);
        } else if (code == RV_OK) {
            err e = s->disk.ops->size(s->disk.ctx, c.file, &g.bytes);
            code = e != OK
                       ? fail_set(ret_error, RV_E_IO, "file %s: its size: %s", name, err_text(e))
                   : c.first != g.first
                       ? fail_set(ret_error, RV_E_CORRUPT, "file %s: it is another one", name)
                       : RV_OK;
            s->segments[kept++] = g;
        }
        chain_close(&c);
        if (code != RV_OK) {
            return code;
        }
    }
    s->segment_count = kept;
    return RV_OK;
}

/* Opens the newest segment, finds its end, and goes on there. */
static int last_open(struct rv_spool *s, struct rv_error *ret_error)
{
    char name[CHAIN_NAME_SIZE];
    if (!s->segment_count) {
        return s->sending.vouched > 1
                   ? fail_set(ret_error, RV_E_CORRUPT, "spool %s: the files of events are missing",
                              s->settings.dir)
                   : segment_begin(s, 1, ret_error);
    }
    segment_name(s->segments[s->segment_count - 1].first, name);
    int code = chain_open(&s->disk, name, CHAIN_EVENTS, DISK_WRITE, &s->last, ret_error);
    code = code == RV_OK ? chain_scan(&s->last, s->sending.vouched, NULL, NULL, ret_error) : code;
    return code == RV_OK ? chain_repair(&s->last, ret_error) : code;
}

/* Events that were set aside and not counted as done before a crash. Their batch was refused, and
 * the others of it are to be planned anew; but of one that nobody knows anything about, the others
 * are to be set aside too. */
static int refusal_take(void *ctx, const struct chain_entry *entry, struct rv_error *ret_error)
{
    struct rv_spool *s = ctx;
    struct refusal r;
    struct again again;
    if (again_decode(entry->body, &again)) {
        int code = again_take(s, &again, ret_error);
        return code == RV_OK ? aside_add(s, entry->position, false, ret_error) : code;
    }
    if (refusal_decode(entry->body, &r) != OK) {
        return fail_set(ret_error, RV_E_CORRUPT, "file %s: entry %" PRIu64 " makes no sense",
                        refused_name, entry->number);
    }
    int code = aside_add(s, entry->position, true, ret_error);
    if (code != RV_OK) {
        return code;
    }
    struct plan *p = &s->plan;
    uint64_t first = s->sending.delivered + 1;
    if (r.number < first || r.number - first >= PLAN_EVENTS) {
        return RV_OK;
    }
    size_t i = (size_t)(r.number - first);
    s->is_aside[i] = true;
    if (i < p->event_count && !r.is_unsure) {
        if (p->of[i] >= PLAN_IN) {
            plan_settle(p, p->of[i] - PLAN_IN, PLAN_WAIT);
        }
        p->of[i] = PLAN_DONE;
    }
    return RV_OK;
}

static int refused_open(struct rv_spool *s, struct rv_error *ret_error)
{
    int code =
        chain_open(&s->disk, refused_name, CHAIN_REFUSED, DISK_WRITE, &s->refused, ret_error);
    if (code == RV_E_ABSENT) {
        return file_remove(s, refused_name, ret_error); /* its creation was cut short */
    }
    code = code == RV_OK ? chain_scan(&s->refused, 0, refusal_take, s, ret_error) : code;
    return code == RV_OK ? chain_repair(&s->refused, ret_error) : code;
}

/* Where the first event is that is not done. */
static int sender_place(struct rv_spool *s, struct rv_error *ret_error)
{
    struct chain c = {0};
    struct chain_entry entry;
    struct buf into = {0};
    char name[CHAIN_NAME_SIZE];
    uint64_t number = s->segments[0].first;
    s->from_first = number;
    s->from_position = CHAIN_FILE_HEAD_SIZE;
    segment_name(number, name);
    int code = chain_open(&s->disk, name, CHAIN_EVENTS, DISK_READ, &c, ret_error);
    for (; code == RV_OK && number <= s->sending.delivered; number++) {
        code = chain_read(&c, &s->from_position, number, &into, &entry, ret_error);
    }
    struct event e;
    int64_t position = s->from_position;
    if (code == RV_OK && number < spool_next(s)) {
        code = chain_read(&c, &position, number, &into, &entry, ret_error);
        if (code == RV_OK && event_decode(entry.body, &e) != OK) {
            code = fail_set(ret_error, RV_E_CORRUPT, "event %" PRIu64 " makes no sense", number);
        }
        s->oldest_ms = code == RV_OK ? e.appended_ms : -1;
    }
    chain_close(&c);
    buf_finish(&into);
    return code;
}

static int directory_read(struct rv_spool *s, struct rv_error *ret_error)
{
    struct names n = {.spool = s};
    err e = s->disk.ops->lock(s->disk.ctx, lock_name);
    if (e != OK) {
        return fail_set(ret_error, e == ERR_BUSY ? RV_E_STATE : RV_E_IO, "spool %s: %s",
                        s->settings.dir, e == ERR_BUSY ? "another one has it open" : err_text(e));
    }
    e = s->disk.ops->list(s->disk.ctx, name_take, &n);
    if (e != OK || n.no_memory) {
        return n.no_memory
                   ? fail_memory(ret_error)
                   : fail_set(ret_error, RV_E_IO, "spool %s: %s", s->settings.dir, err_text(e));
    }
    if (s->segment_count) {
        qsort(s->segments, s->segment_count, sizeof *s->segments, by_first);
    }
    int code = sending_open(&s->disk, DISK_WRITE, &s->sending, &s->plan, ret_error);
    if (code == RV_E_ABSENT) {
        code = s->segment_count ? fail_set(ret_error, RV_E_CORRUPT,
                                           "spool %s: there are events, but not how far sending "
                                           "has got (sending.0, sending.1)",
                                           s->settings.dir)
                                : sending_create(&s->disk, &s->sending, ret_error);
    }
    code = code == RV_OK ? segments_check(s, ret_error) : code;
    code = code == RV_OK ? names_sync(s, ret_error) : code; /* S1, S2, S5: of what is found */
    code = code == RV_OK ? last_open(s, ret_error) : code;
    if (code == RV_OK && s->segments[0].first > s->sending.delivered + 1) {
        code = fail_set(ret_error, RV_E_CORRUPT, "spool %s: event %" PRIu64 " is missing",
                        s->settings.dir, s->sending.delivered + 1);
    }
    code = code == RV_OK ? segments_drop(s, ret_error) : code;
    if (code == RV_OK) {
        code = sending_renew(&s->sending, s->plan.event_count ? &s->plan : NULL, ret_error);
    }
    code = code == RV_OK ? refused_open(s, ret_error) : code; /* changes the plan in memory */
    code = code == RV_OK ? sender_place(s, ret_error) : code;
    if (code != RV_OK) {
        return code;
    }
    code = again_finish(s, ret_error);
    return code == RV_E_FULL ? RV_OK : code; /* it comes first with what is appended next (A1) */
}

static void spool_free(struct rv_spool *s)
{
    sender_finish(s);
    chain_close(&s->last);
    chain_close(&s->refused);
    sending_close(&s->sending);
    s->disk.ops->finish(s->disk.ctx);
    mem_free(s->segments);
    mem_free(s->asides);
    mem_free(s->again);
    spool_settings_finish(&s->settings);
    pthread_cond_destroy(&s->appended);
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
}

static bool threads_init(struct rv_spool *s)
{
    pthread_condattr_t attributes;
    bool is_good = pthread_condattr_init(&attributes) == 0;
    if (is_good) {
        is_good = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0 &&
                  pthread_cond_init(&s->appended, &attributes) == 0;
        pthread_condattr_destroy(&attributes);
    }
    if (is_good && pthread_mutex_init(&s->lock, NULL) != 0) {
        pthread_cond_destroy(&s->appended);
        is_good = false;
    }
    return is_good;
}

int spool_open_on(struct disk disk, const struct clock *clock, const struct rv_option *options,
                  struct rv_spool **ret_spool, struct rv_error *ret_error)
{
    struct rv_spool *s = mem_zero(1, sizeof *s);
    if (!s || !threads_init(s)) {
        mem_free(s);
        disk.ops->finish(disk.ctx);
        return fail_memory(ret_error);
    }
    s->disk = disk;
    s->clock = clock;
    s->dirty_ms = s->oldest_ms = s->failing_ms = -1;
    sender_init(s);
    int code = spool_settings_init(&s->settings, options, ret_error);
    code = code == RV_OK ? directory_read(s, ret_error) : code;
    if (code != RV_OK) {
        spool_free(s);
        return code;
    }
    *ret_spool = s;
    return RV_OK;
}

int rv_spool_open(const struct rv_option *options, struct rv_spool **ret_spool,
                  struct rv_error *ret_error)
{
    struct spool_settings settings = {0};
    struct disk disk;
    int code = spool_settings_init(&settings, options, ret_error);
    if (code == RV_OK) {
        err e = disk_open_posix(settings.dir, true, &disk);
        if (e != OK) {
            code = fail_set(ret_error, e == ERR_MEMORY ? RV_E_MEMORY : RV_E_IO, "spool %s: %s",
                            settings.dir, err_text(e));
        }
    }
    spool_settings_finish(&settings);
    return code == RV_OK ? spool_open_on(disk, &clock_real, options, ret_spool, ret_error) : code;
}

int rv_spool_close(struct rv_spool *spool, struct rv_error *ret_error)
{
    if (!spool) {
        return RV_OK;
    }
    if (spool->is_sending) {
        return fail_set(ret_error, RV_E_STATE, "spool %s: another call is sending",
                        spool->settings.dir);
    }
    int code = spool_sync_locked(spool, ret_error);
    code = code == RV_OK ? sending_end(&spool->sending, spool_next(spool), ret_error) : code;
    spool_free(spool);
    return code;
}

/* ---- appending ---- */

int spool_sync_locked(struct rv_spool *s, struct rv_error *ret_error)
{
    int code = chain_sync(&s->last, ret_error);
    if (code == RV_OK) {
        s->dirty_ms = -1;
    }
    return code;
}

/* Syncs when it is due; *ret_due_ms: in so many milliseconds, -1 never. */
static int sync_due(struct rv_spool *s, int64_t *ret_due_ms, struct rv_error *ret_error)
{
    *ret_due_ms = -1;
    if (s->last.durable == s->last.next || s->settings.sync_ms < 0) {
        return RV_OK;
    }
    int64_t now_ms = clock_mono_ms(s->clock);
    s->dirty_ms = s->dirty_ms < 0 ? now_ms : s->dirty_ms;
    if (now_ms - s->dirty_ms >= s->settings.sync_ms) {
        return spool_sync_locked(s, ret_error);
    }
    *ret_due_ms = s->dirty_ms + s->settings.sync_ms - now_ms;
    return RV_OK;
}

int spool_add_locked(struct rv_spool *s, struct buf *entry, int64_t appended_ms,
                     uint64_t *ret_number, struct rv_error *ret_error)
{
    int64_t size = chain_entry_size(entry->len - CHAIN_HEAD_SIZE);
    int code = RV_OK;
    if (s->must_roll ||
        (s->last.next > s->last.first && s->last.end + size > s->settings.segment_bytes)) {
        code = segment_roll(s, ret_error);
    }
    uint64_t number = spool_next(s);
    code = code == RV_OK ? chain_append(&s->last, entry, ret_error) : code;
    if (code != RV_OK) {
        return code;
    }
    if (number == s->sending.delivered + 1) {
        s->oldest_ms = appended_ms;
    }
    *ret_number = number;
    return RV_OK;
}

static int append_locked(struct rv_spool *s, struct buf *entry, int64_t appended_ms,
                         uint64_t *ret_number, struct rv_error *ret_error)
{
    int64_t size = chain_entry_size(entry->len - CHAIN_HEAD_SIZE);
    int code = again_finish(s, ret_error);
    if (code != RV_OK) {
        return code;
    }
    if (events_bytes(s) + refused_bytes(s) + size > s->settings.max_bytes) {
        return fail_set(ret_error, RV_E_FULL,
                        "spool %s is full: spool.max.bytes=%" PRId64 ", %" PRIu64 " events wait",
                        s->settings.dir, s->settings.max_bytes,
                        spool_next(s) - 1 - s->sending.delivered);
    }
    uint64_t number = 0;
    code = spool_add_locked(s, entry, appended_ms, &number, ret_error);
    if (code != RV_OK) {
        return code;
    }
    int64_t due_ms;
    code = sync_due(s, &due_ms, ret_error);
    if (code == RV_OK) {
        pthread_cond_broadcast(&s->appended);
        if (ret_number) {
            *ret_number = number;
        }
    }
    return code;
}

int rv_spool_append(struct rv_spool *spool, const struct rv_message *message, uint64_t *ret_number,
                    struct rv_error *ret_error)
{
    static const char room[CHAIN_HEAD_SIZE];
    int code = event_check(message, ret_error);
    if (code != RV_OK) {
        return code;
    }
    int64_t now_ms = clock_wall_ms(spool->clock);
    struct buf entry = {0};
    buf_add(&entry, room, sizeof room);
    event_encode(message, now_ms, message->timestamp_ms ? message->timestamp_ms : now_ms, &entry);
    if (entry.failed) {
        code = fail_memory(ret_error);
    } else if (entry.len - sizeof room > CHAIN_BODY_LIMIT) {
        code = fail_set(ret_error, RV_E_TOO_LARGE, "topic %s: an event of %zu bytes",
                        message->topic, entry.len - sizeof room);
    } else {
        pthread_mutex_lock(&spool->lock);
        code = append_locked(spool, &entry, now_ms, ret_number, ret_error);
        pthread_mutex_unlock(&spool->lock);
    }
    buf_finish(&entry);
    return code;
}

int rv_spool_sync(struct rv_spool *spool, struct rv_error *ret_error)
{
    pthread_mutex_lock(&spool->lock);
    int code = spool_sync_locked(spool, ret_error);
    pthread_mutex_unlock(&spool->lock);
    return code;
}

int rv_spool_wait(struct rv_spool *spool, int timeout_ms, struct rv_error *ret_error)
{
    int64_t deadline_ms = clock_after_ms(spool->clock, timeout_ms < 0 ? INT64_MAX : timeout_ms);
    pthread_mutex_lock(&spool->lock);
    int code = RV_OK;
    while (code == RV_OK && spool_next(spool) == spool->sending.delivered + 1) {
        int64_t due_ms;
        code = sync_due(spool, &due_ms, ret_error);
        int64_t now_ms = clock_mono_ms(spool->clock);
        if (code != RV_OK || now_ms >= deadline_ms) {
            break;
        }
        int64_t until_ms =
            due_ms >= 0 && now_ms + due_ms < deadline_ms ? now_ms + due_ms : deadline_ms;
        until_ms = until_ms < INT64_MAX / 1000 ? until_ms : INT64_MAX / 1000;
        struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};
        int e = pthread_cond_timedwait(&spool->appended, &spool->lock, &until);
        check(e == 0 || e == ETIMEDOUT);
    }
    pthread_mutex_unlock(&spool->lock);
    return code;
}

/* ---- what is done ---- */

int spool_done_locked(struct rv_spool *s, uint64_t number, struct rv_error *ret_error)
{
    check(number < s->last.durable); /* S3 */
    int code = sending_done(&s->sending, number, ret_error);
    code = code == RV_OK ? segments_drop(s, ret_error) : code;
    if (code == RV_OK && number + 1 == spool_next(s) &&
        s->last.end > s->settings.segment_bytes / 4) {
        code = segment_roll(s, ret_error); /* so that the one that is done can go */
        code = code == RV_OK ? segments_drop(s, ret_error) : code;
    }
    return code;
}

int spool_refuse_locked(struct rv_spool *s, const struct refusal *r, struct rv_error *ret_error)
{
    static const char room[CHAIN_HEAD_SIZE];
    int code = RV_OK;
    if (!s->refused.file) {
        code = file_remove(s, refused_name, ret_error); /* of an attempt that has failed */
        code = code == RV_OK ? chain_create(&s->disk, refused_name, CHAIN_REFUSED, 1, 0,
                                            &s->refused, ret_error)
                             : code;
        code = code == RV_OK ? names_sync(s, ret_error) : code;
        if (code != RV_OK) {
            chain_close(&s->refused);
            return code;
        }
    }
    struct buf entry = {0};
    buf_add(&entry, room, sizeof room);
    refusal_encode(r, &entry);
    int64_t position = s->refused.end;
    code = aside_add(s, position, true, ret_error);
    if (code == RV_OK) {
        code = chain_append(&s->refused, &entry, ret_error);
        if (code != RV_OK) {
            s->aside_count--;
            s->aside_open--;
        }
    }
    buf_finish(&entry);
    return code;
}

int spool_refused_remove_locked(struct rv_spool *s, struct rv_error *ret_error)
{
    int code = file_remove(s, refused_name, ret_error);
    code = code == RV_OK ? names_sync(s, ret_error) : code;
    if (code == RV_OK) {
        chain_close(&s->refused);
        s->aside_count = 0;
    }
    return code;
}

/* ---- status ---- */

void rv_spool_on_refused(struct rv_spool *spool, rv_spool_event_fn *fn, void *ctx)
{
    pthread_mutex_lock(&spool->lock);
    spool->on_refused = fn;
    spool->on_refused_ctx = ctx;
    pthread_mutex_unlock(&spool->lock);
}

void rv_spool_status(struct rv_spool *spool, struct rv_spool_status *ret_status)
{
    pthread_mutex_lock(&spool->lock);
    uint64_t next = spool_next(spool);
    *ret_status = (struct rv_spool_status){
        .events = next - 1 - spool->sending.delivered,
        .next_number = next,
        .delivered = spool->sending.delivered,
        .refused = spool->aside_open,
        .bytes = events_bytes(spool) + refused_bytes(spool) + 2 * SENDING_FILE_SIZE,
        .limit_bytes = spool->settings.max_bytes,
        .oldest_ms = spool->oldest_ms,
        .failing_ms = spool->failing_ms,
        .last = spool->last_error,
    };
    pthread_mutex_unlock(&spool->lock);
}

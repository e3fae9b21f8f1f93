/* The scrub: sealed segments are read again and checked in the background, so that rot is found
 * before somebody needs the record, and is never given out as good.
 *
 * A pass goes over the sealed and durable segments of every log, in the order of their directories'
 * names and in pieces of SCRUB_PIECE bytes, one at a time on the reader; the timer between two of
 * them keeps to the rate. A pass begins at once after an unclean start, and else an interval after
 * the one before; between passes nothing wakes up.
 *
 * How far a pass is, is written down (scrub_place.c) every PLACE_MS, and at its end: a start goes
 * on from there, or a broker that is started anew every day would never get through a large log.
 * What a crash takes of that is checked twice.
 *
 *                    fire                      done, more
 *     resting -----------------> reading <-------------------- waiting
 *        ^   (an interval later)    |   ------------------------> ^
 *        +--------------------------+        (piece / rate later)
 *                 no segment left
 *
 * (S1) It takes the memory of one piece, however large a batch is: checksums go on over pieces.
 * (S2) Between two pieces it holds no file: retention and deletion do not wait for it.
 * (S3) It marks and says; it changes no file.
 *
 * What the page cache holds is read from there: that is what a reader would get.
 */
#include "broker/log/internal.h"

#include "base/check.h"
#include "base/crc32c.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

enum { SCRUB_PIECE = 1 << 20, PLACE_MS = 60000 };

struct scrub {
    struct work work; /* a piece */
    struct timer timer;
    struct log_manager *m;
    struct log **logs; /* owned, with a reference each: still to be done in this pass */
    size_t log_count;
    int64_t done_base; /* base offset of the last segment of logs[log_count - 1] that is done */
    struct segment *segment;  /* one reference; NULL: the next one is to be found */
    bool reading;             /* a piece is under way */
    struct scrub_place place; /* how far the pass is, as of the last segment that was left */
    int64_t placed_ms;        /* monotonic: when it was last written */
    struct buf note;          /* owned: to be written before the piece; empty: nothing is */

    /* the segment */
    struct file_use use;
    int64_t end;            /* position behind it */
    int64_t end_offset;     /* all of its offsets are below */
    int64_t at;             /* position of the next piece */
    int64_t next_offset;    /* the least that the next batch may have */
    int64_t good_from;      /* from here to batch_position all is right */
    int64_t batch_position; /* of the batch at `at` */
    int64_t behind_bad;     /* position behind the last bad batch, by its length; -1: none */
    struct batch_header batch;
    size_t left;  /* bytes of that batch, its header read already; 0: at a header */
    uint32_t crc; /* of what was read of it */

    /* out of a piece */
    err result;      /* OK, ERR_CORRUPT: a bad batch; else it could not be read */
    err note_result; /* of the note */
    bool lost;       /* no batch can be found behind the bad one */
    int64_t bytes;   /* read */

    /* of the pass; logged at its end */
    int64_t began_ms;
    int64_t all_segments;
    int64_t all_bytes;
    int64_t all_corrupt;
    int64_t all_failed; /* segments that could not be read */
};

/* ---- a piece, on the reader */

/* The header at p, of `size` bytes. ERR_AGAIN: its end is in the next piece. */
static err begin_batch(struct scrub *s, const uint8_t *p, size_t size)
{
    s->batch_position = s->at;
    if (size < BATCH_HEADER_SIZE) {
        s->lost = s->at + (int64_t)size >= s->end;
        return s->lost ? ERR_CORRUPT : ERR_AGAIN;
    }
    err e = batch_header_read(p, size, &s->batch);
    s->lost = e || (int64_t)s->batch.size > s->end - s->at;
    if (s->lost || !batch_is_in_place(&s->batch, s->next_offset, s->end_offset)) {
        s->left = s->lost ? 0 : s->batch.size;
        return ERR_CORRUPT;
    }
    s->next_offset = s->batch.base_offset + s->batch.last_offset_delta + 1;
    s->crc = crc32c(p + BATCH_CRC_FROM, BATCH_HEADER_SIZE - BATCH_CRC_FROM);
    s->left = s->batch.size - BATCH_HEADER_SIZE;
    s->at += BATCH_HEADER_SIZE;
    return s->left || s->crc == s->batch.crc ? OK : ERR_CORRUPT;
}

/* Checks what a piece has; stops at a batch that is bad, or whose header is cut. */
static err check_piece(struct scrub *s, const uint8_t *p, size_t size)
{
    err e = OK;
    for (size_t used = 0; !e && used < size;) {
        if (s->left == 0) {
            e = begin_batch(s, p + used, size - used);
            used += BATCH_HEADER_SIZE;
            continue;
        }
        size_t part = s->left < size - used ? s->left : size - used;
        s->crc = crc32c_more(s->crc, p + used, part);
        s->left -= part;
        s->at += (int64_t)part;
        used += part;
        e = s->left || s->crc == s->batch.crc ? OK : ERR_CORRUPT;
    }
    return e == ERR_AGAIN ? OK : e;
}

static void note_run(struct scrub *s)
{
    s->note_result = s->note.len ? scrub_place_write(s->m->o.store, &s->note) : OK;
}

static void piece_run(struct work *work)
{
    struct scrub *s = list_entry(work, struct scrub, work);
    struct store *store = s->m->o.store;
    note_run(s);
    int64_t want = s->end - s->at < SCRUB_PIECE ? s->end - s->at : SCRUB_PIECE;
    size_t got = 0;
    s->lost = false;
    s->bytes = 0;
    s->result = file_use_open(&s->use, store);
    if (s->result) {
        return;
    }
    uint8_t *p = mem_need((size_t)want);
    s->result = store->ops->read(store->ctx, s->use.file, p, (size_t)want, s->at, &got);
    if (!s->result) {
        s->bytes = (int64_t)got;
        s->result = check_piece(s, p, got);
    }
    if (!s->result && (int64_t)got < want) { /* the file is shorter than what was written */
        s->batch_position = s->left ? s->batch_position : s->at;
        s->lost = true;
        s->result = ERR_CORRUPT;
    }
    mem_free(p);
}

/* ---- a pass, on the loop */

static void scrub_arm(struct scrub *s, int64_t delay_ms)
{
    timer_arm(s->m->o.timers, &s->timer, clock_mono_ms(s->m->o.clock) + delay_ms);
}

static void leave_segment(struct scrub *s)
{
    s->done_base = s->segment->base_offset;
    s->place.base = s->done_base;
    snprintf(s->place.dir, sizeof s->place.dir, "%s", s->segment->log->dir);
    segment_unref(s->segment);
    s->segment = NULL;
}

static void drop_log(struct scrub *s)
{
    s->done_base = -1;
    log_unref(s->logs[--s->log_count]);
}

/* The first segment behind `done_base` that nothing is appended to any more, nor to be synced. */
static struct segment *next_segment(struct scrub *s)
{
    struct log *log = s->logs[s->log_count - 1];
    for (int32_t i = 0; !log->destroyed && i + 1 < log->segment_count; i++) {
        struct segment *g = log->segments[i];
        if (g->base_offset > s->done_base && g->sealed && g->written_size > 0 &&
            g->base_offset < log->durable.base_offset) {
            s->end_offset = log->segments[i + 1]->base_offset;
            return g;
        }
    }
    return NULL;
}

/* Until the next pass is due, by the wall's clock, which may have been set anew. */
static int64_t rest_ms(const struct scrub *s)
{
    const struct log_manager *m = s->m;
    int64_t since = clock_wall_ms(m->o.clock) - s->place.began_ms;
    return since < 0 || since > m->o.scrub_interval_ms ? 1 : m->o.scrub_interval_ms - since + 1;
}

static void pass_end(struct scrub *s)
{
    const struct log_manager *m = s->m;
    int64_t now = clock_mono_ms(m->o.clock);
    mem_free(s->logs);
    s->logs = NULL;
    if (s->all_segments) {
        diag_log(m->o.diag, s->all_corrupt + s->all_failed ? DIAG_WARN : DIAG_INFO, "scrubbed",
                 "segments=%lld bytes=%lld corrupt=%lld unread=%lld ms=%lld",
                 (long long)s->all_segments, (long long)s->all_bytes, (long long)s->all_corrupt,
                 (long long)s->all_failed, (long long)(now - s->began_ms));
    }
    scrub_arm(s, rest_ms(s));
}

/* ---- the place */

static void note_place(struct scrub *s)
{
    scrub_place_text(&s->place, &s->note);
    s->placed_ms = clock_mono_ms(s->m->o.clock);
}

/* A place that is not written costs that much again; whatever is wrong with the disk, others say.
 */
static void note_done(struct scrub *s)
{
    if (s->note_result) {
        diag_log(s->m->o.diag, DIAG_WARN, "scrub_place_failed", "error=\"%s\"",
                 err_text(s->note_result));
    }
    s->note.len = 0;
}

static void end_run(struct work *work)
{
    note_run(list_entry(work, struct scrub, work));
}

static void end_done(struct work *work)
{
    struct scrub *s = list_entry(work, struct scrub, work);
    struct log_manager *m = s->m;
    s->reading = false;
    note_done(s);
    if (m->stopping) {
        scrub_stop(s);
    } else {
        pass_end(s);
    }
    manager_work_done(m);
}

static void work_begin(struct scrub *s, void (*run)(struct work *), void (*done)(struct work *))
{
    s->reading = true;
    s->work.run = run;
    s->work.done = done;
    manager_work(s->m, s->m->o.reader, &s->work);
}

static void piece_begin(struct scrub *s);

static void piece_end(struct scrub *s)
{
    struct segment *g = s->segment;
    int64_t good_to = s->left || s->result ? s->batch_position : s->at;
    if (g->removed || g->log->destroyed) { /* or cleaned: what was opened may be the new file */
        leave_segment(s);
        return;
    }
    if (s->result && s->result != ERR_CORRUPT) {
        bool gone = g->removed || g->log->destroyed;
        if (!gone && s->all_failed++ == 0) { /* the others of this pass are counted */
            diag_log(s->m->o.diag, DIAG_WARN, "scrub_failed", "dir=%s base=%lld error=\"%s\"",
                     g->log->dir, (long long)g->base_offset, err_text(s->result));
        }
        leave_segment(s);
        return;
    }
    segment_add_verified(g, s->good_from, good_to);
    s->good_from = good_to;
    if (s->result == ERR_CORRUPT) {
        if (s->lost && s->batch_position == s->behind_bad) {
            segment_mark_bad(g, s->batch_position); /* the length of the bad one was what rotted */
        } else {
            s->all_corrupt++;
            segment_note_bad(g, s->batch_position, s->lost ? -1 : s->batch.base_offset);
        }
        s->at = s->good_from = s->lost ? s->end : s->batch_position + (int64_t)s->batch.size;
        s->behind_bad = s->at;
        s->left = 0;
    }
    if (s->at >= s->end) {
        leave_segment(s);
    }
}

static void piece_done(struct work *work)
{
    struct scrub *s = list_entry(work, struct scrub, work);
    struct log_manager *m = s->m;
    s->reading = false;
    s->all_bytes += s->bytes;
    note_done(s);
    piece_end(s);
    file_use_end(&s->use);
    if (m->stopping) {
        scrub_stop(s);
    } else {
        int64_t pause = s->bytes * 1000 / m->o.scrub_bytes_per_s;
        scrub_arm(s, pause > 0 ? pause : 1);
    }
    manager_work_done(m);
}

static void piece_begin(struct scrub *s)
{
    while (!s->segment && s->log_count) {
        s->segment = next_segment(s);
        if (!s->segment) {
            drop_log(s);
            continue;
        }
        segment_ref(s->segment);
        s->all_segments++;
        s->end = s->segment->written_size;
        s->at = s->good_from = s->batch_position = 0;
        s->behind_bad = -1;
        s->next_offset = s->segment->base_offset;
        s->left = 0;
    }
    if (!s->segment && s->place.base >= 0) { /* something was checked: that it is over is kept */
        s->place.base = -1;
        s->place.dir[0] = 0;
        note_place(s);
        work_begin(s, end_run, end_done);
        return;
    }
    if (!s->segment) {
        pass_end(s);
        return;
    }
    if (s->segment->removed || s->segment->log->destroyed) {
        leave_segment(s);
        piece_begin(s);
        return;
    }
    if (s->place.base >= 0 && clock_mono_ms(s->m->o.clock) - s->placed_ms >= PLACE_MS) {
        note_place(s);
    }
    file_use_begin(&s->use, s->segment, FILE_LOG, STORE_WRITE);
    work_begin(s, piece_run, piece_done);
}

static int last_first(const void *a, const void *b) /* logs are taken from the end */
{
    const struct log *const *x = a;
    const struct log *const *y = b;
    return strcmp((*y)->dir, (*x)->dir);
}

static void pass_begin(struct scrub *s)
{
    struct log_manager *m = s->m;
    s->began_ms = s->placed_ms = clock_mono_ms(m->o.clock);
    s->all_segments = s->all_bytes = s->all_corrupt = s->all_failed = 0;
    s->done_base = -1;
    s->logs = mem_need((map_count(&m->logs) + 1) * sizeof(struct log *));
    for (struct map_entry *e = map_first(&m->logs); e; e = map_next(e)) {
        struct log *log = map_value(e);
        if (log->segment_count > 1) {
            log_ref(log);
            s->logs[s->log_count++] = log;
        }
    }
    qsort(s->logs, s->log_count, sizeof(struct log *), last_first);
    if (s->place.base < 0) {
        s->place.began_ms = clock_wall_ms(m->o.clock);
        return;
    }
    while (s->log_count && strcmp(s->logs[s->log_count - 1]->dir, s->place.dir) < 0) {
        drop_log(s); /* done before the last stop */
    }
    if (s->log_count && strcmp(s->logs[s->log_count - 1]->dir, s->place.dir) == 0) {
        s->done_base = s->place.base;
    }
}

static void scrub_fire(struct timer *timer)
{
    struct scrub *s = list_entry(timer, struct scrub, timer);
    if (s->m->dead || s->m->stopping) {
        return;
    }
    if (!s->logs) {
        pass_begin(s);
    }
    piece_begin(s);
}

/* ---- the manager's */

struct scrub *scrub_create(struct log_manager *m)
{
    struct scrub *s = mem_need_zero(1, sizeof *s);
    s->m = m;
    s->place.base = -1;
    timer_init(&s->timer, scrub_fire);
    return s;
}

void scrub_stop(struct scrub *s)
{
    timer_disarm(s->m->o.timers, &s->timer);
    if (s->reading) {
        return; /* its end comes here again */
    }
    if (s->segment) { /* it is not done */
        segment_unref(s->segment);
        s->segment = NULL;
    }
    while (s->log_count) {
        drop_log(s);
    }
    mem_free(s->logs);
    s->logs = NULL;
}

void scrub_destroy(struct scrub *s)
{
    if (s) {
        check(!s->reading);
        scrub_stop(s);
        buf_finish(&s->note);
        mem_free(s);
    }
}

static bool has_sealed(const struct log_manager *m)
{
    for (struct map_entry *e = map_first(&m->logs); e; e = map_next(e)) {
        const struct log *log = map_value(e);
        if (log->segment_count > 1) {
            return true;
        }
    }
    return false;
}

void log_manager_start_scrub(struct log_manager *m)
{
    struct scrub *s = m->scrub;
    if (m->o.scrub_bytes_per_s == 0) {
        return;
    }
    err e = scrub_place_read(m->o.store, &s->place);
    if (e && e != ERR_NOT_FOUND) {
        diag_log(m->o.diag, DIAG_WARN, "scrub_place_unreadable", "error=\"%s\"", err_text(e));
    }
    bool now = m->unclean || s->place.base >= 0 || (e && has_sealed(m));
    scrub_arm(s, now ? 1 : e ? m->o.scrub_interval_ms : rest_ms(s));
}

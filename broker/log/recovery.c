/* Opening a log at the start, blocking: on any thread, beside others that are opened (open.c).
 *
 * After a clean stop nothing is scanned: the end is found by walking from the last index entry, the
 * producers come from their snapshot. Otherwise what comes from the recovery point on (or from the
 * newest good snapshot, if that is older) is read: each batch must be whole, fail no checksum, and
 * follow the one before. The first that does not ends the log. At or above the recovery point that
 * is a torn tail: cut there, later segments are removed. Below it is rot: what was durable is never
 * cut. Its length may still lead to the next batch; if it does not, the log is fenced: read up to
 * there, no more appends. What was scanned gets new index entries; those before were synced with
 * the checkpoint, and lead to the place where the scan begins.
 *
 * The journal knows better than the files, whose pages a failed sync may have lost while the cache
 * still shows them: a batch that it has at the next offset is written there again, whatever the
 * file seems to hold. What it has not, and what nothing says to be durable, is written again from
 * what was read, so that the sync behind it syncs it. Only after the walk is anything cut. What the
 * journal says to be durable, or what was said before files of it were cleared (O3), moves the place
 * where a torn tail may begin; when one of those has rotted nothing is cut: the log is fenced where
 * it ends.
 *
 * Where a segment ends before the next one begins, or in bytes that are no batch, and what is there
 * was durable, the walk goes on in the next segment: what the journal has for that must go back
 * before it is cleared. A segment that reaches the next one has all that is its: what is behind that
 * is of a batch that was refused, and cut off again, but not synced since; unless it was durable,
 * and the next segment, which somebody else put there perhaps, does not have it.
 *
 * Invariants:
 *   R1  nothing below the recovery point is ever removed
 *   R2  what is served after this is durable: scanned segments are synced before the high watermark
 * covers them R3  a crash in here at any place leaves something that this finds again: files are
 * cut before anything is recorded
 *   R4  the journal is recycled after all logs are recovered and synced, never before
 */
#include "broker/log/compact.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    RECOVER_CHUNK = 4 * 1024 * 1024,
    REPLAY_PARTS = 64, /* batches of the journal that are written at once */
};

struct listing {
    struct log *log;
    int64_t *bases; /* owned: of *.log, rising */
    int32_t base_count;
    int64_t *snapshots; /* owned: offsets, rising */
    int32_t snapshot_count;
    int64_t *swaps; /* owned: base offsets of *.log.swap */
    int32_t swap_count;
    struct buf others; /* owned: names that do not belong here, each with its 0 */
};

static bool parse_name(struct str name, const char *suffix, int64_t *ret_offset)
{
    size_t n = strlen(suffix);
    return name.len == 20 + n && memcmp(name.ptr + 20, suffix, n) == 0 &&
           !str_to_int64((struct str){name.ptr, 20}, ret_offset) && *ret_offset >= 0;
}

static void add_number(int64_t **array, int32_t *count, int64_t value)
{
    *array = mem_need_resize(*array, sizeof(int64_t) * ((size_t)*count + 1));
    (*array)[(*count)++] = value;
}

static bool ends_with(struct str s, const char *end)
{
    size_t n = strlen(end);
    return s.len >= n && memcmp(s.ptr + s.len - n, end, n) == 0;
}

static void each_entry(void *arg, const struct store_entry *entry)
{
    struct listing *l = arg;
    int64_t offset;
    if (entry->is_dir) {
        return;
    }
    if (parse_name(entry->name, ".log", &offset)) {
        add_number(&l->bases, &l->base_count, offset);
    } else if (parse_name(entry->name, ".snapshot", &offset)) {
        add_number(&l->snapshots, &l->snapshot_count, offset);
    } else if (parse_name(entry->name, ".log.swap", &offset)) {
        add_number(&l->swaps, &l->swap_count, offset);
    } else if (ends_with(entry->name, ".deleted") || ends_with(entry->name, ".cleaned") ||
               ends_with(entry->name, ".swap") || ends_with(entry->name, ".tmp")) {
        buf_add_str(&l->others, entry->name);
        buf_add(&l->others, "", 1);
    }
}

static void listing_finish(struct listing *l)
{
    mem_free(l->bases);
    mem_free(l->snapshots);
    mem_free(l->swaps);
    buf_finish(&l->others);
    *l = (struct listing){.log = l->log};
}

static err remove_file(struct log *log, const char *name)
{
    struct store *store = log->m->o.store;
    char path[LOG_PATH_SIZE];
    snprintf(path, sizeof path, "%s/%s", log->dir, name);
    err e = store->ops->unlink(store->ctx, path);
    return e == ERR_NOT_FOUND ? OK : e;
}

static err remove_segment_files(struct log *log, int64_t base_offset)
{
    static const char *const suffixes[] = {"log", "index", "timeindex", "txnindex"};
    char name[64];
    err e = OK;
    for (int i = 0; i < 4 && !e; i++) {
        snprintf(name, sizeof name, "%020" PRId64 ".%s", base_offset, suffixes[i]);
        e = remove_file(log, name);
    }
    return e;
}

/* Lists the directory, and ends what a crash left of the cleaner's swaps. */
static err list_files(struct listing *l)
{
    struct store *store = l->log->m->o.store;
    err e = store->ops->list(store->ctx, l->log->dir, each_entry, l);
    bool swaps = l->swap_count > 0;
    for (int32_t i = 0; i < l->swap_count && !e; i++) {
        e = swap_recover(l->log, l->swaps[i], l->bases, l->base_count);
    }
    if (!e && swaps) {
        listing_finish(l);
        e = store->ops->list(store->ctx, l->log->dir, each_entry, l);
    }
    return e;
}

/* All offsets of the segment at this index are below it. */
static int64_t next_base(const struct log *log, int32_t index)
{
    return index + 1 < log->segment_count ? log->segments[index + 1]->base_offset : INT64_MAX;
}

/* ---- scanning one segment whole */

struct scan {
    struct segment *s;
    struct store_file *file;
    int64_t size;         /* of the file */
    int64_t position;     /* up to here it is good */
    int64_t next_offset;  /* that must or may come */
    struct segment *next; /* the one behind; NULL: there is none */
    int64_t end_offset;   /* of the next segment: all in this one are below it */
    int64_t
        durable_from; /* what is below is durable: the recovery point, or what the journal says */
    int64_t rewrite_from; /* position: what nothing vouches for, to be written again; -1: none */
    const struct journal_log *journal; /* NULL: it knows nothing of this log */
    size_t journal_next;               /* index of the first batch that may be needed */
    int64_t replay_from;               /* producers know what is below */
    int64_t resume_from;               /* offset: what is below is durable, its indexes too */
    int32_t kept[FILE_KINDS];          /* entries of the segment's indexes that stay */
    struct buf index;                  /* owned */
    struct buf timeindex;              /* owned */
    bool stepped;                      /* over a bad batch below the recovery point */
    bool rotten; /* it stepped over something that only the journal tells from a torn tail */
    bool unsure; /* more may be durable than anything says that can be read: nothing is cut */
};

static void scan_time_entry(struct scan *c)
{
    struct segment_tail *t = &c->s->tail;
    uint8_t entry[TIME_ENTRY_SIZE];
    if (t->max_timestamp > t->last_time) {
        put_be64(entry, (uint64_t)t->max_timestamp);
        put_be32(entry + 8, (uint32_t)(t->max_timestamp_offset - c->s->base_offset));
        buf_add(&c->timeindex, entry, TIME_ENTRY_SIZE);
        t->last_time = t->max_timestamp;
        t->time_count++;
    }
}

static void scan_index(struct scan *c, const struct batch_header *h)
{
    struct segment *s = c->s;
    struct segment_tail *t = &s->tail;
    int64_t last_offset = h->base_offset + h->last_offset_delta;
    uint8_t entry[INDEX_ENTRY_SIZE];
    if (c->position == 0) {
        t->first_timestamp = h->max_timestamp;
    }
    if (h->max_timestamp > t->max_timestamp) {
        t->max_timestamp = h->max_timestamp;
        t->max_timestamp_offset = last_offset;
    }
    if (t->bytes_since_index > s->log->config.index_interval_bytes) {
        put_be32(entry, (uint32_t)(last_offset - s->base_offset));
        put_be32(entry + 4, (uint32_t)c->position);
        buf_add(&c->index, entry, INDEX_ENTRY_SIZE);
        t->index_count++;
        t->bytes_since_index = 0;
        scan_time_entry(c);
    }
    t->bytes_since_index += (int64_t)h->size;
}

static void scan_pass(struct scan *c, const struct batch_header *h)
{
    scan_index(c, h);
    c->position += (int64_t)h->size;
    c->next_offset = h->base_offset + h->last_offset_delta + 1;
}

/* ERR_CORRUPT: this batch is not what must be here. */
static err scan_batch(struct scan *c, const uint8_t *p, const struct batch_header *h)
{
    struct log *log = c->s->log;
    /* What is durable ends with a batch; where it was cleaned, with a gap perhaps. */
    bool durable = c->next_offset < c->durable_from && c->durable_from < c->end_offset &&
                   !(log->config.compact && h->base_offset >= c->durable_from);
    bool follows =
        batch_is_in_place(h, c->next_offset, durable ? c->durable_from : c->end_offset) &&
        h->base_offset + h->last_offset_delta - c->s->base_offset <= INT32_MAX;
    if (!follows || !batch_crc_is_right(p, h->size)) {
        if (!follows || h->base_offset >= c->durable_from) {
            return ERR_CORRUPT;
        }
        c->stepped = c->rotten = true; /* below what is known to be durable; reads will say so when
                                          they come to it */
        diag_log(log->m->o.diag, DIAG_ERROR, "batch_corrupt",
                 "dir=%s base=%lld position=%lld offset=%lld", log->dir,
                 (long long)c->s->base_offset, (long long)c->position, (long long)h->base_offset);
    } else {
        if (h->base_offset >= c->replay_from) {
            producer_state_replay(&log->producers, h, clock_wall_ms(log->m->o.clock));
        }
        if (h->leader_epoch >= 0) {
            log_note_epoch(log, h->leader_epoch, h->base_offset);
        }
    }
    scan_pass(c, h);
    return OK;
}

/* The journal's batch for the next offset, if it belongs into this segment. */
static const struct journal_batch *journalled_batch(struct scan *c)
{
    const struct journal_log *j = c->journal;
    while (j && c->journal_next < j->count && j->batches[c->journal_next].offset < c->next_offset) {
        c->journal_next++;
    }
    bool there = j && c->journal_next < j->count &&
                 j->batches[c->journal_next].offset == c->next_offset &&
                 c->next_offset < c->end_offset;
    return there ? &j->batches[c->journal_next] : NULL;
}

/* Writes all of the journal's batches that follow each other from here on, many at once. */
static err scan_journal(struct scan *c)
{
    struct store *store = c->s->log->m->o.store;
    struct iovec parts[REPLAY_PARTS];
    int count;
    err e = OK;
    do {
        const int64_t position = c->position;
        err bad = OK;
        count = 0;
        for (const struct journal_batch *b;
             !bad && count < REPLAY_PARTS && (b = journalled_batch(c));) {
            struct batch_header h;
            union {
                const uint8_t *from;
                void *base; /* as iovec has it, for reading and writing alike */
            } bytes = {.from = b->p};
            bad = batch_header_read(b->p, b->size, &h);
            bad = bad ? bad : scan_batch(c, b->p, &h);
            if (!bad) {
                parts[count++] = (struct iovec){bytes.base, b->size};
            }
        }
        if (count > 0) {
            e = store->ops->write(store->ctx, c->file, parts, count, position);
        }
        c->size = c->position > c->size ? c->position : c->size;
        e = e ? e : bad;
    } while (!e && count > 0);
    return e;
}

/* A batch of the file's, that is accepted: who says that it is on the disk? */
static void note_unvouched(struct scan *c, const struct batch_header *h)
{
    if (c->rewrite_from < 0 && h->base_offset >= c->durable_from) {
        c->rewrite_from = c->position;
    }
}

static err rewrite_unvouched(struct scan *c)
{
    struct store *store = c->s->log->m->o.store;
    uint8_t *chunk = c->rewrite_from < 0 ? NULL : mem_need(RECOVER_CHUNK);
    err e = OK;
    for (int64_t at = c->rewrite_from; chunk && !e && at < c->position;) {
        int64_t left = c->position - at;
        size_t got = 0;
        e = store->ops->read(store->ctx, c->file, chunk,
                             left < RECOVER_CHUNK ? (size_t)left : RECOVER_CHUNK, at, &got);
        const struct iovec v = {chunk, got};
        e = e || got ? e : ERR_IO;
        e = e ? e : store->ops->write(store->ctx, c->file, &v, 1, at);
        at += (int64_t)got;
    }
    mem_free(chunk);
    return e;
}

/* OK: all of the file is good. ERR_CORRUPT, ERR_TRUNCATED: it is up to c->position. */
static err scan_segment(struct scan *c)
{
    struct store *store = c->s->log->m->o.store;
    size_t room = RECOVER_CHUNK < c->size ? RECOVER_CHUNK : (size_t)c->size + 1;
    uint8_t *chunk = mem_need(room);
    err e = scan_journal(c);
    while (!e && c->position < c->size) {
        size_t got = 0;
        e = store->ops->read(store->ctx, c->file, chunk, room, c->position, &got);
        size_t at = 0;
        while (!e && at < got) {
            struct batch_header h;
            e = batch_header_read(chunk + at, got - at, &h);
            if (!e && h.size > got - at) {
                e = ERR_TRUNCATED;
            }
            if (e == ERR_TRUNCATED && c->position + (int64_t)(got - at) < c->size) {
                e = OK; /* cut by the chunk, not by the file */
                if (at == 0) {
                    size_t need = get_be32(chunk + 8) + (size_t)BATCH_PREFIX_SIZE;
                    if ((int64_t)need > c->size - c->position) {
                        e = ERR_TRUNCATED;
                    } else {
                        room = need;
                        chunk = mem_need_resize(chunk, room);
                    }
                }
                break;
            }
            if (!e) {
                note_unvouched(c, &h);
                e = scan_batch(c, chunk + at, &h);
            }
            at += e ? 0 : h.size;
            if (!e && journalled_batch(c)) {
                e = scan_journal(c);
                break;
            }
        }
        if (!e && got == 0) {
            e = ERR_TRUNCATED;
        }
    }
    mem_free(chunk);
    return e == ERR_UNSUPPORTED ? ERR_CORRUPT : e;
}

/* What may be durable is not there, or cannot be read: the next start knows that something was. */
static void hold_offset(struct scan *c)
{
    if (c->next_offset >= c->durable_from) {
        c->durable_from = c->next_offset + 1;
    }
    segment_mark_bad(c->s, c->position);
}

/* What is before it is served, and nothing appended. */
static void fence(struct scan *c)
{
    struct log *log = c->s->log;
    diag_log(log->m->o.diag, DIAG_ERROR, "log_fenced",
             "dir=%s base=%lld position=%lld offset=%lld recovery_point=%lld", log->dir,
             (long long)c->s->base_offset, (long long)c->position, (long long)c->next_offset,
             (long long)c->durable_from);
    hold_offset(c);
    log->fenced = true;
}

/* Likewise, and there are segments behind: reads say so when they come to it. */
static void step_over_rest(struct scan *c)
{
    const struct log *log = c->s->log;
    diag_log(log->m->o.diag, DIAG_ERROR, "segment_end_corrupt",
             "dir=%s base=%lld position=%lld offset=%lld next=%lld", log->dir,
             (long long)c->s->base_offset, (long long)c->position, (long long)c->next_offset,
             (long long)c->end_offset);
    hold_offset(c);
    c->rotten = true;
}

/* The file ends with a good batch, and more was durable: zeros say so to every later start, when
 * the journal does not any more. */
static err hold_place(struct scan *c)
{
    struct store *store = c->s->log->m->o.store;
    struct file_use use;
    file_use_begin(&use, c->s, FILE_LOG, STORE_WRITE);
    err e = file_use_open(&use, store);
    e = e ? e : store->ops->truncate(store->ctx, use.file, c->position + BATCH_HEADER_SIZE);
    e = e ? e : store->ops->sync(store->ctx, use.file);
    file_use_end(&use);
    return e;
}

/* Over the batches that end below c->resume_from, by their headers: they are durable, and whether
 * they are as they were is for reads and the scrub to see. What does not follow is the scan's. */
static void skip_durable(struct scan *c)
{
    struct segment *s = c->s;
    struct batch_header h;
    uint8_t *window = mem_need(SCAN_CHUNK);
    struct walk w = {.store = s->log->m->o.store,
                     .read = s->log->m->o.store->ops->read,
                     .file = c->file,
                     .end = c->size,
                     .window = window,
                     .window_size = SCAN_CHUNK};
    while (!walk_header(&w, c->position, &h) &&
           batch_is_in_place(&h, c->next_offset, c->resume_from)) {
        scan_pass(c, &h);
    }
    mem_free(window);
}

/* The scan of a segment begins at c->resume_from, or at a batch before. What is needed to get there
 * begins at the last batch below that has an index entry: both indexes know everything before.
 * Where they do not lead to it, the scan begins at the beginning. */
static err resume_scan(struct scan *c, const struct segment_tail *before)
{
    struct segment *s = c->s;
    struct store *store = s->log->m->o.store;
    struct file_use uses[FILE_KINDS] = {0};
    uint8_t last[FILE_KINDS][TIME_ENTRY_SIZE];
    uint8_t head[BATCH_HEADER_SIZE];
    int32_t kept[FILE_KINDS] = {0};
    struct batch_header h;
    size_t got = 0;
    int64_t delta = c->resume_from - 1 - s->base_offset;
    int64_t position = 0;
    err e = OK;
    for (enum file_kind k = FILE_INDEX; k <= FILE_TIMEINDEX && !e; k++) {
        int32_t count = k == FILE_INDEX ? s->index_written : s->time_written;
        file_use_begin(&uses[k], s, k, STORE_WRITE);
        e = file_use_open(&uses[k], store);
        e = e ? e : index_count_upto(store, k, uses[k].file, count, delta, last[k], &kept[k]);
        e = e || kept[k] > 0 ? e : ERR_NOT_FOUND;
        delta = e || k != FILE_INDEX ? delta : (int64_t)get_be32(last[k]);
    }
    if (!e) {
        position = (int64_t)get_be32(last[FILE_INDEX] + 4);
        e = store->ops->read(store->ctx, c->file, head, sizeof head, position, &got);
        e = e ? e : batch_header_read(head, got, &h);
        bool there = !e && batch_is_in_place(&h, s->base_offset, c->resume_from) &&
                     h.base_offset + h.last_offset_delta == s->base_offset + delta;
        e = e || there ? e : ERR_CORRUPT;
    }
    for (enum file_kind k = FILE_INDEX; k <= FILE_TIMEINDEX; k++) {
        file_use_end(&uses[k]);
    }
    if (e) {
        return e == ERR_IO || e == ERR_NO_FILES ? e : OK;
    }
    struct segment_tail *t = &s->tail;
    c->kept[FILE_INDEX] = t->index_count = kept[FILE_INDEX];
    c->kept[FILE_TIMEINDEX] = t->time_count = kept[FILE_TIMEINDEX];
    t->first_timestamp = before->first_timestamp;
    t->max_timestamp = t->last_time = (int64_t)get_be64(last[FILE_TIMEINDEX]);
    t->max_timestamp_offset = s->base_offset + (int64_t)get_be32(last[FILE_TIMEINDEX] + 8);
    c->position = position;
    c->next_offset = h.base_offset;
    skip_durable(c);
    return OK;
}

/* Does the next segment have what is behind the end of this one, as far as it was durable? */
static err next_goes_on(const struct scan *c, bool *ret_yes)
{
    if (c->next_offset >= c->durable_from && !c->unsure) {
        *ret_yes = true; /* nothing was */
        return OK;
    }
    int64_t upto = c->durable_from > c->end_offset ? c->durable_from : c->end_offset + 1;
    return recover_reaches(c->next, c->journal, upto, ret_yes);
}

/* The walk found no batch where it came to: `found` says why. *ret_whole false: the log ends. */
static err end_segment(struct scan *c, err found, bool *ret_whole)
{
    struct log *log = c->s->log;
    const struct store *store = log->m->o.store;
    bool complete = c->next && c->next_offset == c->end_offset;
    if (found != ERR_CORRUPT && found != ERR_TRUNCATED) {
        return found;
    }
    err e = complete ? next_goes_on(c, &complete) : OK;
    *ret_whole = complete;
    if (e) {
        return e;
    }
    if (!complete && (c->next_offset < c->durable_from || c->unsure)) { /* R1 */
        *ret_whole = c->next != NULL;
        (c->next ? step_over_rest : fence)(c);
        return OK;
    }
    diag_log(log->m->o.diag, DIAG_WARN, "tail_cut",
             "dir=%s base=%lld position=%lld bytes=%lld offset=%lld", log->dir,
             (long long)c->s->base_offset, (long long)c->position,
             (long long)(c->size - c->position), (long long)c->next_offset);
    return store->ops->truncate(store->ctx, c->file, c->position);
}

/* Scans a segment, cuts it if it may be cut, syncs it, and replaces its indexes. *ret_whole false:
 * it is the last one. */
static err recover_segment(struct scan *c, bool *ret_whole)
{
    struct segment *s = c->s;
    struct log *log = s->log;
    struct store *store = log->m->o.store;
    struct file_use use = {0};
    const struct segment_tail before = s->tail;
    s->tail = (struct segment_tail){.max_timestamp = -1,
                                    .max_timestamp_offset = s->base_offset,
                                    .first_timestamp = -1,
                                    .last_time = -1};
    s->times_known = true;
    file_use_begin(&use, s, FILE_LOG, STORE_WRITE);
    err e = file_use_open(&use, store);
    c->file = use.file;
    c->position = 0;
    c->rewrite_from = -1;
    c->stepped = false;
    c->kept[FILE_INDEX] = c->kept[FILE_TIMEINDEX] = 0;
    e = e ? e : store->ops->size(store->ctx, c->file, &c->size);
    if (!e && c->resume_from > s->base_offset) {
        e = resume_scan(c, &before);
    }
    const int64_t from = c->position;
    err found = e ? OK : scan_segment(c);
    *ret_whole = true;
    e = found ? end_segment(c, found, ret_whole) : e;
    e = e ? e : rewrite_unvouched(c);
    e = e ? e : store->ops->sync(store->ctx, c->file);
    file_use_end(&use);
    s->tail.size = s->written_size = c->position;
    s->own_from = c->stepped ? c->position : from;
    log->appended_bytes += c->position - from;
    if (s->sealed) { /* as its seal made it; harmless where the log turns out to end here */
        scan_time_entry(c);
    }
    e = e ? e
          : recover_index_put(s, FILE_INDEX, &c->index,
                              (int64_t)c->kept[FILE_INDEX] * INDEX_ENTRY_SIZE);
    e = e ? e
          : recover_index_put(s, FILE_TIMEINDEX, &c->timeindex,
                              (int64_t)c->kept[FILE_TIMEINDEX] * TIME_ENTRY_SIZE);
    s->index_written = s->tail.index_count;
    s->time_written = s->tail.time_count;
    c->index.len = c->timeindex.len = 0;
    return e;
}

/* ---- producers */

static int64_t load_snapshot(struct log *log, const struct listing *l, int64_t limit)
{
    char path[LOG_PATH_SIZE];
    for (int32_t i = l->snapshot_count - 1; i >= 0; i--) {
        struct buf bytes = {0};
        if (l->snapshots[i] > limit) {
            continue;
        }
        snprintf(path, sizeof path, "%s/%020" PRId64 ".snapshot", log->dir, l->snapshots[i]);
        err e = store_read_file(log->m->o.store, path, INT32_MAX, &bytes);
        e = e ? e : producer_state_decode(&log->producers, bytes.ptr, bytes.len);
        buf_finish(&bytes);
        if (!e) {
            return l->snapshots[i];
        }
        diag_log(log->m->o.diag, DIAG_WARN, "snapshot_unreadable", "file=%s error=\"%s\"", path,
                 err_text(e));
    }
    return -1;
}

static err remove_snapshots(struct log *log, const struct listing *l)
{
    char name[64];
    err e = OK;
    for (int32_t i = 0; i < l->snapshot_count && !e; i++) {
        if (l->snapshots[i] != log->snapshot_offset) {
            snprintf(name, sizeof name, "%020" PRId64 ".snapshot", l->snapshots[i]);
            e = remove_file(log, name);
        }
    }
    return e;
}

/* Walks the headers of one segment from `offset` on; to the end of what can be walked. */
static err walk_segment(struct segment *s, int64_t offset, int64_t replay_from,
                        int64_t *ret_position, int64_t *ret_next)
{
    struct log *log = s->log;
    struct store *store = log->m->o.store;
    struct file_use use = {0};
    struct file_use index = {0};
    struct batch_header h;
    uint8_t *window = mem_need(SCAN_CHUNK);
    int64_t position = 0;
    int64_t next = s->base_offset;
    int64_t end = next_base(log, log_segment_at(log, s->base_offset));
    file_use_begin(&use, s, FILE_LOG, STORE_WRITE);
    file_use_begin(&index, s, FILE_INDEX, STORE_WRITE);
    err e = file_use_open(&use, store);
    err no_index = file_use_open(&index, store);
    struct walk w = {.store = store,
                     .read = store->ops->read,
                     .file = use.file,
                     .end = s->written_size,
                     .window = window,
                     .window_size = SCAN_CHUNK};
    e = e ? e
          : scan_to_offset(&w, no_index ? NULL : index.file, s->index_written, s->base_offset,
                           offset, &position, &h);
    while (!e && !(e = batch_is_in_place(&h, next, end) ? OK : ERR_CORRUPT)) {
        if (h.base_offset >= replay_from) {
            producer_state_replay(&log->producers, &h, clock_wall_ms(log->m->o.clock));
        }
        if (h.leader_epoch >= 0) {
            log_note_epoch(log, h.leader_epoch, h.base_offset);
        }
        if (h.max_timestamp > s->tail.max_timestamp) {
            s->tail.max_timestamp = h.max_timestamp;
            s->tail.max_timestamp_offset = h.base_offset + h.last_offset_delta;
        }
        position += (int64_t)h.size;
        next = h.base_offset + h.last_offset_delta + 1;
        e = walk_header(&w, position, &h);
    }
    file_use_end(&use);
    file_use_end(&index);
    mem_free(window);
    *ret_position = position;
    *ret_next = next;
    return e == ERR_NOT_FOUND ? OK : e;
}

/* ---- the whole log */

static err load_segments(struct log *log, const struct listing *l, bool *ret_good)
{
    struct store *store = log->m->o.store;
    for (int32_t i = 0; i < l->base_count; i++) {
        struct segment *s = segment_create(log, l->bases[i]);
        struct file_use use = {0};
        int64_t size = 0;
        log_add_segment(log, s);
        s->sealed = i + 1 < l->base_count;
        file_use_begin(&use, s, FILE_LOG, STORE_WRITE);
        err e = file_use_open(&use, store);
        e = e ? e : store->ops->size(store->ctx, use.file, &size);
        if (!e && size >= BATCH_HEADER_SIZE) {
            uint8_t head[BATCH_HEADER_SIZE];
            size_t got = 0;
            struct batch_header h;
            e = store->ops->read(store->ctx, use.file, head, sizeof head, 0, &got);
            if (!e && !batch_header_read(head, got, &h)) {
                s->tail.first_timestamp = h.max_timestamp;
            }
        }
        file_use_end(&use);
        if (e) {
            return e;
        }
        s->tail.size = s->written_size = s->own_from = size;
        *ret_good = recover_indexes_take(s, size) && *ret_good;
    }
    return OK;
}

/* The last segment's end, by its index: what a clean stop left. ERR_CORRUPT: it is not what a clean
 * stop leaves. */
static err find_end(struct log *log, int64_t snapshot)
{
    struct segment *s = log_active(log);
    int64_t position = 0;
    int64_t next = s->base_offset;
    if (s->written_size > 0) {
        /* From where both indexes know everything before: an index entry is made together with
         * that of the largest timestamp so far, where there is a larger one. (Not from that one's
         * record: with a timestamp in the future, all that came later would be walked.) */
        int64_t from =
            s->last_indexed < 0 || s->tail.time_count == 0 ? s->base_offset : s->last_indexed;
        err e = walk_segment(s, from, INT64_MAX, &position, &next);
        if (e || position != s->written_size) {
            return e == ERR_IO ? e : ERR_CORRUPT;
        }
    }
    log->next_offset = next;
    for (int32_t i = log_segment_at(log, snapshot < 0 ? 0 : snapshot);
         snapshot < next && i < log->segment_count; i++) {
        int64_t ignored;
        err e =
            walk_segment(log->segments[i], snapshot < 0 ? log->segments[i]->base_offset : snapshot,
                         snapshot, &position, &ignored);
        if (e) {
            return e == ERR_IO ? e : ERR_CORRUPT;
        }
    }
    return OK;
}

static err drop_later(struct log *log, int32_t keep)
{
    err e = OK;
    for (int32_t i = keep; i < log->segment_count && !e; i++) {
        diag_log(log->m->o.diag, DIAG_WARN, "segment_removed",
                 "dir=%s base=%lld reason=\"behind the end of the log\"", log->dir,
                 (long long)log->segments[i]->base_offset);
        e = remove_segment_files(log, log->segments[i]->base_offset);
    }
    log_drop_segments_from(log, keep);
    return e;
}

/* All of it is good, and more than that was durable. An empty log that the checkpoint alone says
 * more of is new, and the checkpoint's word is of a former one of its name (O1). */
static bool ends_early(const struct scan *c)
{
    bool is_known = c->next_offset > 0 || (c->journal && c->journal->durable_end > 0);
    return is_known && c->next_offset < c->durable_from;
}

static bool is_unsure(const struct log_manager *m)
{
    return (m->journal.replay && m->journal.replay->rotten) || m->offset_files.ends_unknown;
}

/* From the checkpoint on; what is below `*recovery_point`, which the journal may have moved, is
 * durable. Out: the one to record. */
static err scan_log(struct log *log, int64_t snapshot, int64_t checkpointed,
                    int64_t *recovery_point)
{
    struct scan c = {.durable_from = *recovery_point,
                     .replay_from = snapshot < 0 ? 0 : snapshot,
                     .journal = journal_find(&log->m->journal, log_journal_id(log)),
                     .unsure = is_unsure(log->m)};
    const int64_t from = snapshot < checkpointed ? snapshot : checkpointed;
    c.resume_from = from;
    /* What is below the checkpoint is synced, and may have been cleaned since. */
    while (c.journal && c.journal_next < c.journal->count &&
           c.journal->batches[c.journal_next].offset < checkpointed) {
        c.journal_next++;
    }
    /* A checkpoint at the end of a full segment was before its seal: the last time entry, which the
     * next append made, is not synced. So from the last record below, not from the first above. */
    const int32_t first = from <= 0 ? 0 : log_segment_at(log, from - 1);
    int32_t i = first;
    /* What the checkpoint says of the last segment, it says of the directory's entries. */
    bool entries_durable = log_active(log)->base_offset < checkpointed;
    bool whole = true;
    err e = OK;
    c.next_offset = log->segments[i]->base_offset;
    for (; whole && !e && i < log->segment_count; i++) {
        c.s = log->segments[i];
        if (i > first && c.s->base_offset > c.next_offset) { /* the tail of the one before is
                                                                missing, or it was cleaned */
            if (c.next_offset >= c.durable_from && !c.unsure) {
                break;
            }
            c.rotten = c.rotten || c.next_offset >= checkpointed;
        }
        c.next_offset = c.s->base_offset > c.next_offset ? c.s->base_offset : c.next_offset;
        c.next = i + 1 < log->segment_count ? log->segments[i + 1] : NULL;
        c.end_offset = next_base(log, i);
        e = recover_segment(&c, &whole);
    }
    if (!e && !log->fenced && ends_early(&c)) { /* R1 */
        fence(&c);
        e = hold_place(&c);
    }
    if (!e && !log->fenced) {
        entries_durable = entries_durable && i == log->segment_count;
        e = drop_later(log, i);
    }
    buf_finish(&c.index);
    buf_finish(&c.timeindex);
    log->next_offset =
        log->fenced && c.next_offset < c.durable_from ? c.durable_from : c.next_offset;
    /* Rot and a fence are recorded: the journal, which says how far all was durable, is cleared,
     * and without its word the next start would take the rot for a torn tail. Else the checkpoint
     * stays where it is: indexes and producers were recorded with it alone. */
    bool records = log->fenced || c.rotten;
    *recovery_point = records ? c.durable_from : checkpointed;
    e = e || !records
            ? e
            : recover_indexes_sync(log, first, i < log->segment_count ? i : log->segment_count);
    entries_durable = entries_durable && !records && checkpointed <= log->next_offset;
    return e || entries_durable ? e
                                : log->m->o.store->ops->sync_dir(log->m->o.store->ctx, log->dir);
}

static void forget(struct log *log) /* what a first attempt found */
{
    uint64_t seed = log->producers.producers.seed;
    producer_state_finish(&log->producers);
    producer_state_init(&log->producers, seed);
}

static void load_epochs(struct log *log, bool *ret_good)
{
    mem_free(log->epochs);
    log->epochs = NULL;
    log->epoch_count = 0;
    err e = epochs_read(log->m->o.store, log->dir, &log->epochs, &log->epoch_count);
    if (e && log->segment_count > 0 &&
        (log->segment_count > 1 || log_active(log)->written_size > 0)) {
        *ret_good = false;
    }
    log->epochs_dirty = false;
}

static void trim_epochs(struct log *log)
{
    int32_t n = log->epoch_count;
    while (n > 0 && log->epochs[n - 1].start_offset >= log->next_offset) {
        n--;
    }
    log->epochs_dirty = log->epochs_dirty || n != log->epoch_count;
    log->epoch_count = n;
}

static err open_segments(struct log *log, const struct listing *l, bool clean)
{
    struct log_manager *m = log->m;
    const int64_t checkpointed = offset_files_take(m, OFFSETS_RECOVERY, log, INT64_MAX);
    const struct journal_log *journal = journal_find(&m->journal, log_journal_id(log));
    int64_t recovery_point = offset_files_take(m, OFFSETS_DURABLE, log, INT64_MAX);
    recovery_point = recovery_point > checkpointed ? recovery_point : checkpointed;
    recovery_point =
        journal && journal->durable_end > recovery_point ? journal->durable_end : recovery_point;
    log->saved_point = checkpointed;
    bool good = true;
    err e = load_segments(log, l, &good);
    if (e) {
        return e;
    }
    load_epochs(log, &good);
    int64_t snapshot = load_snapshot(log, l, INT64_MAX);
    /* Where the journal says that more was written, the end is for the scan to find. */
    const bool looks = good && (clean || recovery_point == checkpointed);
    err ended = looks ? find_end(log, snapshot) : ERR_CORRUPT;
    /* Something was written since the last checkpoint; or the log was rolled, and neither the seal
     * of the segment before nor the name of the new one need be durable. */
    bool rolled = log->segment_count > 1 && log_active(log)->written_size == 0;
    if (!ended && !clean && (log->next_offset != checkpointed || snapshot < 0 || rolled)) {
        ended = ERR_CORRUPT;
    }
    if (!ended && log->next_offset > 0 && log->next_offset < checkpointed) {
        ended = ERR_CORRUPT; /* a clean stop leaves no such thing */
    }
    if (ended == ERR_CORRUPT) {
        if (!good) { /* everything is needed again, from the beginning */
            forget(log);
            snapshot = -1;
        } else if (looks) {
            bool ignored;
            forget(log);
            load_epochs(log, &ignored);
            snapshot = load_snapshot(log, l, INT64_MAX);
        }
        ended = scan_log(log, snapshot, checkpointed, &recovery_point);
        if (!ended && snapshot > log->next_offset) { /* a snapshot of what is not there */
            forget(log);
            snapshot = -1;
            for (int32_t i = 0; i < log->segment_count && !ended; i++) {
                int64_t position;
                int64_t next;
                ended = walk_segment(log->segments[i], log->segments[i]->base_offset, 0, &position,
                                     &next);
            }
        }
    } else {
        recovery_point = log->next_offset;
        log_active(log)->cut = !clean; /* by who was killed, perhaps */
    }
    /* Where nothing of the active segment was durable, no sync of its directory entry need have
     * been, whatever stop there was: the next one makes it durable. */
    log->fresh = log->fresh || checkpointed <= log_active(log)->base_offset;
    log_active(log)->fresh = log->fresh;
    log->snapshot_offset = snapshot;
    log->recovery_point = recovery_point > log->next_offset ? log->next_offset : recovery_point;
    return ended;
}

/* A directory of that name that says it is another topic's: deleted ones are renamed, durably,
 * before their name is free, so somebody put it there. It is kept, out of the way. */
static err move_stranger(struct log *log, struct uuid id)
{
    struct store *store = log->m->o.store;
    char name[LOG_PATH_SIZE];
    char text[UUID_TEXT_SIZE];
    uuid_to_text(id, text);
    snprintf(name, sizeof name, "%.*s.%s-stray", 200, log->dir, text);
    diag_log(log->m->o.diag, DIAG_WARN, "stray_directory", "dir=%s moved=%s", log->dir, name);
    err e = store->ops->rename(store->ctx, log->dir, name);
    return e ? e : store->ops->sync_dir(store->ctx, "");
}

err log_recover(struct log *log, bool clean)
{
    struct log_manager *m = log->m;
    struct store *store = m->o.store;
    struct listing l = {.log = log};
    struct uuid id;
    err e = metadata_read(store, log->dir, &id);
    if (!e && !uuid_eq(id, log->id)) {
        e = move_stranger(log, id);
        e = e ? e : ERR_NOT_FOUND;
    }
    if (e == ERR_NOT_FOUND || e == ERR_CORRUPT) { /* new, or a crash took what was not synced */
        e = store->ops->make_dir(store->ctx, log->dir);
        e = e == ERR_EXISTS ? OK : e;
        e = e ? e : metadata_write(store, log->dir, log->id);
    }
    e = e ? e : list_files(&l);
    for (size_t at = 0; !e && at < l.others.len; at += strlen(l.others.ptr + at) + 1) {
        e = remove_file(log, l.others.ptr + at);
    }
    if (!e && l.base_count == 0) {
        e = log_make_files(store, log->dir, log->id, 0);
        add_number(&l.bases, &l.base_count, 0);
        log->fresh = true;
    }
    e = e ? e : open_segments(log, &l, clean);
    for (int32_t i = 0; i < log->segment_count; i++) { /* the descriptors are all logs' */
        segment_close_files(log->segments[i]);
    }
    if (!e) {
        (void)offset_files_take(m, OFFSETS_RECOVERY, log, log->next_offset); /* may be stale */
        (void)offset_files_take(m, OFFSETS_DURABLE, log, log->next_offset);
        int64_t start = offset_files_take(m, OFFSETS_START, log, log->next_offset);
        struct segment *active = log_active(log);
        active->sealed = false;
        active->fresh = active->fresh || log->fresh;
        log->start_offset = log->segments[0]->base_offset;
        log->start_offset = start > log->start_offset ? start : log->start_offset;
        trim_epochs(log);
        log->written = (struct mark){log->next_offset, active->base_offset, active->written_size};
        log->durable = log->written;
        log_add_hint(log);
        producer_state_expire(&log->producers,
                              clock_wall_ms(m->o.clock) - m->o.producer_id_expiration_ms);
        e = remove_snapshots(log, &l);
    }
    listing_finish(&l);
    return e;
}

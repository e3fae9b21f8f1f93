/* How a cleaned segment takes the place of the neighbours that it was made of, so that a crash at
 * any place leaves all of the old or all of the new. Names are Kafka's.
 *
 *     B.log.cleaned  B.index.cleaned  B.timeindex.cleaned      written and synced
 *     B.index.swap   B.timeindex.swap                          renamed; the directory synced
 *     B.log.swap                                               renamed; the directory synced:
 * COMMIT sources behind the first: .index .timeindex .log         unlinked B.index  B.timeindex
 * renamed over the first source's the directory synced B.log renamed over the first source's the
 * directory synced
 *
 * B is the base offset of the first source. A start that finds B.log.swap does all that is below
 * COMMIT again; without it, it removes *.cleaned and *.swap, and the sources are whole.
 *
 * Invariants:
 *   S1  a cleaned segment ends with the last batch of its last source, be it empty: its end says
 *       which segments it stands for, [B, end)
 *   S2  B.log.swap goes last: until all that it replaces is durably gone, a start finds it
 *   S3  a swap may be ended at any later time: its sources are sealed, what it says stays true
 */
#include "broker/log/compact.h"

#include "base/check.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const suffixes[] = {"log", "index", "timeindex", "txnindex"};

void swap_path(const char *dir, int64_t base_offset, enum file_kind kind, const char *end,
               char path[LOG_PATH_SIZE])
{
    snprintf(path, LOG_PATH_SIZE, "%.255s/%020" PRId64 ".%s%s", dir, base_offset, suffixes[kind],
             end);
}

static err rename_kind(struct store *store, const char *dir, int64_t base_offset,
                       enum file_kind kind, const char *from_end, const char *to_end)
{
    char from[LOG_PATH_SIZE];
    char to[LOG_PATH_SIZE];
    swap_path(dir, base_offset, kind, from_end, from);
    swap_path(dir, base_offset, kind, to_end, to);
    return store->ops->rename(store->ctx, from, to);
}

static err commit_indexes(struct cleaning *c)
{
    struct store *store = c->m->o.store;
    const char *dir = c->log->dir;
    err e = rename_kind(store, dir, c->out.base_offset, FILE_INDEX, ".cleaned", ".swap");
    e = e ? e : rename_kind(store, dir, c->out.base_offset, FILE_TIMEINDEX, ".cleaned", ".swap");
    return e ? e : store->ops->sync_dir(store->ctx, dir);
}

static err remove_segment(struct store *store, const char *dir, int64_t base_offset)
{
    char path[LOG_PATH_SIZE];
    for (int i = 3; i >= 0; i--) { /* the log file last: while it is there, the segment is */
        swap_path(dir, base_offset, (enum file_kind)i, "", path);
        err e = store->ops->unlink(store->ctx, path);
        if (e && e != ERR_NOT_FOUND) {
            return e;
        }
    }
    return OK;
}

/* Behind the commit; may be begun anew after any failure. */
static err finish(struct store *store, const char *dir, int64_t base_offset, const int64_t *bases,
                  int32_t count)
{
    char path[LOG_PATH_SIZE];
    err e = OK;
    for (int32_t i = 0; i < count && !e; i++) {
        e = bases[i] == base_offset ? OK : remove_segment(store, dir, bases[i]);
    }
    for (enum file_kind k = FILE_INDEX; k <= FILE_TIMEINDEX && !e; k++) {
        e = rename_kind(store, dir, base_offset, k, ".swap", "");
        e = e == ERR_NOT_FOUND ? OK : e; /* done already */
    }
    if (!e) { /* of transactions that are not served: of the old file, if Kafka wrote it */
        swap_path(dir, base_offset, (enum file_kind)3, "", path);
        e = store->ops->unlink(store->ctx, path);
        e = e == ERR_NOT_FOUND ? OK : e;
    }
    e = e ? e : store->ops->sync_dir(store->ctx, dir);
    e = e ? e : rename_kind(store, dir, base_offset, FILE_LOG, ".swap", ""); /* S2 */
    e = e == ERR_NOT_FOUND ? OK : e;
    return e ? e : store->ops->sync_dir(store->ctx, dir);
}

err swap_run(struct cleaning *c)
{
    struct store *store = c->m->o.store;
    err e = OK;
    if (c->stage == SWAP_BEGIN) {
        e = clean_finish_output(c);
        e = e ? e : commit_indexes(c);
        e = e ? e
              : rename_kind(store, c->log->dir, c->out.base_offset, FILE_LOG, ".cleaned", ".swap");
        c->stage = e ? c->stage : SWAP_RENAMED;
    }
    if (c->stage == SWAP_RENAMED) {
        e = store->ops->sync_dir(store->ctx, c->log->dir);
        c->stage = e ? c->stage : SWAP_COMMITTED;
    }
    if (c->stage == SWAP_COMMITTED) {
        e = finish(store, c->log->dir, c->out.base_offset, c->out.bases, c->out.count);
        c->stage = e ? c->stage : SWAP_DONE;
    }
    return e;
}

/* The offset behind the last batch of a segment, be it of B.log.swap: up to the first that is not
 * right, with ERR_CORRUPT or ERR_TRUNCATED. */
static err file_end(struct store *store, const char *path, int64_t base_offset, int64_t *ret_end)
{
    struct store_file *file;
    struct batch_header h;
    struct buf batch = {0};
    int64_t size = 0;
    int64_t position = 0;
    err e = store->ops->open(store->ctx, path, STORE_READ, &file);
    if (e) {
        return e;
    }
    uint8_t *window = mem_need(SCAN_CHUNK);
    e = store->ops->size(store->ctx, file, &size);
    struct walk w = {.store = store,
                     .read = store->ops->read,
                     .file = file,
                     .end = size,
                     .window = window,
                     .window_size = SCAN_CHUNK};
    *ret_end = base_offset;
    while (!e && !(e = walk_header(&w, position, &h))) {
        size_t got = 0;
        check(buf_reserve(&batch, h.size)); /* no more than the file has */
        e = store->ops->read(store->ctx, file, batch.ptr, h.size, position, &got);
        bool right = !e && got == h.size && batch_is_in_place(&h, *ret_end, INT64_MAX) &&
                     batch_crc_is_right(batch.ptr, h.size);
        e = e || right ? e : ERR_CORRUPT;
        if (!e) {
            *ret_end = h.base_offset + h.last_offset_delta + 1;
            position += (int64_t)h.size;
        }
    }
    store->ops->close(store->ctx, file);
    mem_free(window);
    buf_finish(&batch);
    return e == ERR_NOT_FOUND ? OK : e;
}

/* A base offset is not under its batch's checksum, and the last one says which segments go. (S1) No
 * source has anything behind the end, and all of them are below the recovery point on disk. */
static err check_end(struct log *log, int64_t end, int64_t last_source)
{
    struct store *store = log->m->o.store;
    char path[LOG_PATH_SIZE];
    int64_t source_end = 0;
    int64_t point = offset_files_take(log->m, OFFSETS_RECOVERY, log, INT64_MAX);
    if (end > point) {
        return ERR_CORRUPT;
    }
    swap_path(log->dir, last_source, FILE_LOG, "", path);
    err e = file_end(store, path, last_source, &source_end);
    e = e == ERR_CORRUPT || e == ERR_TRUNCATED ? OK : e; /* a source may rot, and goes */
    return e || source_end <= end ? e : ERR_CORRUPT;
}

err swap_recover(struct log *log, int64_t base_offset, const int64_t *bases, int32_t count)
{
    int64_t end = 0;
    int32_t first = 0;
    char path[LOG_PATH_SIZE];
    swap_path(log->dir, base_offset, FILE_LOG, ".swap", path);
    err e = file_end(log->m->o.store, path, base_offset, &end);
    while (first < count && bases[first] < base_offset) {
        first++;
    }
    int32_t behind = first;
    while (behind < count && bases[behind] < end) {
        behind++;
    }
    if (!e && end == base_offset) { /* S1 */
        e = ERR_CORRUPT;
    } else if (!e && behind > first) {
        e = check_end(log, end, bases[behind - 1]);
    }
    if (e) { /* it was synced before it had this name: it has rotted, and what it replaces is
                partly gone perhaps. Nothing is guessed, nothing is removed. */
        diag_log(log->m->o.diag, DIAG_ERROR, "swap_unreadable", "dir=%s base=%lld error=\"%s\"",
                 log->dir, (long long)base_offset, err_text(e));
        return e;
    }
    diag_log(log->m->o.diag, DIAG_INFO, "swap_ended", "dir=%s base=%lld end=%lld", log->dir,
             (long long)base_offset, (long long)end);
    return finish(log->m->o.store, log->dir, base_offset, bases + first, behind - first);
}

/* Both indexes of a segment, at a start: taken as they are, or made again by the scan (recovery.c).
 * Blocking.
 */
#include "broker/log/internal.h"

#include "base/bytes.h"

bool recover_indexes_take(struct segment *s, int64_t size)
{
    struct log *log = s->log;
    struct store *store = log->m->o.store;
    struct file_use use = {0};
    uint8_t last[TIME_ENTRY_SIZE];
    file_use_begin(&use, s, FILE_INDEX, STORE_WRITE);
    bool good = !file_use_open(&use, store);
    if (good) {
        int32_t n = index_used_entries(store, use.file, INDEX_ENTRY_SIZE, last);
        good = n == 0 || ((int32_t)get_be32(last) > 0 && (int32_t)get_be32(last + 4) > 0 &&
                          (int32_t)get_be32(last + 4) < size);
        s->tail.index_count = s->index_written = n;
        s->last_indexed = n > 0 && good ? s->base_offset + (int32_t)get_be32(last) : -1;
    }
    file_use_end(&use);

    file_use_begin(&use, s, FILE_TIMEINDEX, STORE_WRITE);
    bool there = !file_use_open(&use, store);
    good = good && there;
    s->times_known = true; /* of a sealed one: its last entry was made when it was sealed */
    if (there) {
        int32_t n = index_used_entries(store, use.file, TIME_ENTRY_SIZE, last);
        s->tail.time_count = s->time_written = n;
        if (n > 0) {
            int32_t delta = (int32_t)get_be32(last + 8);
            good = good && delta >= 0;
            s->tail.max_timestamp = s->tail.last_time = (int64_t)get_be64(last);
            s->tail.max_timestamp_offset = s->base_offset + delta;
        }
    }
    file_use_end(&use);
    if (!good) {
        diag_log(log->m->o.diag, DIAG_WARN, "index_rebuilt", "dir=%s base=%lld", log->dir,
                 (long long)s->base_offset);
    }
    return good;
}

err recover_index_put(struct segment *s, enum file_kind kind, const struct buf *entries,
                      int64_t position)
{
    struct store *store = s->log->m->o.store;
    struct file_use use = {0};
    const int64_t end = position + (int64_t)entries->len;
    int64_t size = 0;
    file_use_begin(&use, s, kind, STORE_CREATE);
    err e = file_use_open(&use, store);
    if (!e && entries->len) {
        struct iovec v = {entries->ptr, entries->len};
        e = store->ops->write(store->ctx, use.file, &v, 1, position);
    }
    e = e ? e : store->ops->size(store->ctx, use.file, &size);
    if (!e && size != end) { /* a truncation costs, though it changes nothing */
        e = store->ops->truncate(store->ctx, use.file, end);
    }
    file_use_end(&use);
    s->index_dirty = true;
    return e;
}

err recover_indexes_sync(struct log *log, int32_t from, int32_t to)
{
    struct store *store = log->m->o.store;
    err e = OK;
    for (int32_t i = from; i < to; i++) {
        for (int kind = FILE_INDEX; kind <= FILE_TIMEINDEX && !e; kind++) {
            struct file_use use = {0};
            file_use_begin(&use, log->segments[i], (enum file_kind)kind, STORE_WRITE);
            e = file_use_open(&use, store);
            e = e ? e : store->ops->sync(store->ctx, use.file);
            file_use_end(&use);
        }
    }
    return e;
}

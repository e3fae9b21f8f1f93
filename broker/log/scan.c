/* Walking the files of a segment. A position from an index is a hint: it is checked against the
 * batch that is there, so that a wrong index costs time, never a wrong answer.
 */
#include "broker/log/internal.h"

#include "base/bytes.h"

#include <string.h>

bool batch_is_in_place(const struct batch_header *h, int64_t from, int64_t end)
{
    return h->base_offset >= from && h->base_offset < end && h->last_offset_delta >= 0 &&
           h->last_offset_delta < end - h->base_offset;
}

enum { WALK_START = 4096 };

err walk_header(struct walk *w, int64_t position, struct batch_header *ret_header)
{
    w->asked = position;
    if (position + BATCH_HEADER_SIZE > w->end) {
        return position >= w->end ? ERR_NOT_FOUND : ERR_TRUNCATED;
    }
    if (position < w->at || position + BATCH_HEADER_SIZE > w->at + (int64_t)w->size) {
        /* Little where it begins or jumped: who looks for one batch needs no more. */
        bool goes_on = w->size > 0 && position - (w->at + (int64_t)w->size) < WALK_START;
        size_t want = goes_on && position > w->at ? w->window_size : WALK_START;
        want = want < w->window_size ? want : w->window_size;
        if ((int64_t)want > w->end - position) {
            want = (size_t)(w->end - position);
        }
        w->size = 0;
        err e = w->read(w->store->ctx, w->file, w->window, want, position, &w->size);
        w->at = position;
        if (e) {
            w->size = 0;
            return e;
        }
        if (w->size < BATCH_HEADER_SIZE) {
            return ERR_TRUNCATED;
        }
    }
    struct batch_header h;
    err e =
        batch_header_read(w->window + (position - w->at), w->size - (size_t)(position - w->at), &h);
    if (e) {
        return e == ERR_UNSUPPORTED ? ERR_CORRUPT : e;
    }
    if ((int64_t)h.size > w->end - position) {
        return ERR_TRUNCATED;
    }
    *ret_header = h;
    return OK;
}

enum { INDEX_WINDOW = 128 }; /* entries that are read at once */

err index_lookup(struct store *store, store_read_fn *read, struct store_file *index, int32_t count,
                 int64_t base_offset, int64_t offset, int64_t *ret_position)
{
    int32_t low = 0;
    int32_t high = count; /* entries below low are <= offset, from high on they are above it */
    int64_t position = 0;
    uint8_t window[INDEX_WINDOW * INDEX_ENTRY_SIZE];
    int32_t from = 0; /* entries [from, to) are in the window */
    int32_t to = 0;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (middle < from || middle >= to) { /* the last steps are one read */
            bool rest = high - low <= INDEX_WINDOW;
            size_t got = 0;
            from = rest ? low : middle;
            err e =
                read(store->ctx, index, window, (size_t)(rest ? high - low : 1) * INDEX_ENTRY_SIZE,
                     (int64_t)from * INDEX_ENTRY_SIZE, &got);
            if (e) {
                return e;
            }
            to = from + (int32_t)(got / INDEX_ENTRY_SIZE);
        }
        const uint8_t *entry = window + (size_t)(middle - from) * INDEX_ENTRY_SIZE;
        if (middle >= to) {
            high = middle; /* the file is shorter than it should be */
        } else if (base_offset + (int32_t)get_be32(entry) <= offset) {
            position = (int32_t)get_be32(entry + 4);
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *ret_position = position;
    return OK;
}

err scan_to_offset(struct walk *w, struct store_file *index, int32_t index_count,
                   int64_t base_offset, int64_t offset, int64_t *ret_position,
                   struct batch_header *ret_header)
{
    int64_t position = 0;
    if (index && index_count > 0) {
        err e = index_lookup(w->store, w->read, index, index_count, base_offset, offset, &position);
        if (e) {
            return e;
        }
        position = position > 0 ? position : 0; /* an index may say anything */
    }
    int64_t next = base_offset;
    for (bool from_index = position > 0;;) {
        struct batch_header h;
        err e = walk_header(w, position, &h);
        e = e || batch_is_in_place(&h, next, INT64_MAX) ? e : ERR_CORRUPT;
        if (from_index && e != ERR_AGAIN && e != ERR_IO && (e || h.base_offset > offset)) {
            from_index = false; /* it does not lead to a batch: look without it */
            position = 0;
            continue;
        }
        if (e) {
            return e;
        }
        from_index = false;
        next = h.base_offset + h.last_offset_delta + 1;
        if (h.base_offset + h.last_offset_delta >= offset) {
            *ret_position = position;
            *ret_header = h;
            return OK;
        }
        position += (int64_t)h.size;
    }
}

static err time_entry(struct store *store, struct store_file *timeindex, int32_t at,
                      int64_t *ret_timestamp, int64_t *ret_delta)
{
    uint8_t entry[TIME_ENTRY_SIZE];
    size_t got = 0;
    err e = store->ops->read(store->ctx, timeindex, entry, sizeof entry,
                             (int64_t)at * TIME_ENTRY_SIZE, &got);
    if (e) {
        return e;
    }
    if (got < sizeof entry) {
        return ERR_TRUNCATED;
    }
    *ret_timestamp = (int64_t)get_be64(entry);
    *ret_delta = (int32_t)get_be32(entry + 8);
    return OK;
}

err time_lookup(struct store *store, struct store_file *timeindex, int32_t count,
                int64_t base_offset, int64_t t, int64_t *ret_offset)
{
    int32_t low = 0;
    int32_t high = count;
    int64_t offset = base_offset;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        int64_t timestamp;
        int64_t delta;
        err e = time_entry(store, timeindex, middle, &timestamp, &delta);
        if (e == ERR_TRUNCATED) {
            high = middle;
        } else if (e) {
            return e;
        } else if (timestamp < t) {
            offset = base_offset + delta;
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *ret_offset = offset;
    return OK;
}

err time_last(struct store *store, struct store_file *timeindex, int32_t count,
              int64_t *ret_timestamp, int64_t *ret_offset_delta)
{
    return count > 0 ? time_entry(store, timeindex, count - 1, ret_timestamp, ret_offset_delta)
                     : ERR_NOT_FOUND;
}

int32_t index_used_entries(struct store *store, struct store_file *file, int entry_size,
                           uint8_t ret_last[TIME_ENTRY_SIZE])
{
    int64_t size = 0;
    uint8_t entry[TIME_ENTRY_SIZE];
    static const uint8_t zero[TIME_ENTRY_SIZE];
    if (store->ops->size(store->ctx, file, &size)) {
        return 0;
    }
    int64_t low = 0; /* entries below are used */
    int64_t high = size / entry_size;
    while (low < high) {
        size_t got = 0;
        int64_t middle = high == size / entry_size ? high - 1 : low + (high - low) / 2;
        if (store->ops->read(store->ctx, file, entry, (size_t)entry_size, middle * entry_size,
                             &got) ||
            got < (size_t)entry_size) {
            return 0;
        }
        if (memcmp(entry, zero, (size_t)entry_size) != 0) {
            memcpy(ret_last, entry, (size_t)entry_size);
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return (int32_t)low;
}

err index_count_upto(struct store *store, enum file_kind kind, struct store_file *index,
                     int32_t count, int64_t delta, uint8_t last[TIME_ENTRY_SIZE],
                     int32_t *ret_count)
{
    const bool is_time = kind == FILE_TIMEINDEX;
    const size_t size = is_time ? TIME_ENTRY_SIZE : INDEX_ENTRY_SIZE;
    const size_t key_size = is_time ? 8 : 4; /* what rises is first in an entry */
    uint8_t window[INDEX_WINDOW * TIME_ENTRY_SIZE];
    int32_t n = 0;
    bool more = true;
    while (more && n < count) {
        size_t want = (size_t)(count - n < INDEX_WINDOW ? count - n : INDEX_WINDOW) * size;
        size_t got = 0;
        err e = store->ops->read(store->ctx, index, window, want, (int64_t)n * (int64_t)size, &got);
        if (e) {
            return e;
        }
        more = got == want;
        for (size_t at = 0; at + size <= got; at += size) {
            const uint8_t *entry = window + at;
            if ((int64_t)get_be32(entry + (is_time ? 8 : 0)) > delta ||
                (n > 0 && memcmp(entry, last, key_size) <= 0)) {
                more = false;
                break;
            }
            memcpy(last, entry, size);
            n++;
        }
    }
    *ret_count = n;
    return OK;
}

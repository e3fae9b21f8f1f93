/* What the segment behind has, when a start must know it before it cuts the one at hand: the file is
 * read as the scan will read it, and nothing is changed. Blocking.
 */
#include "broker/log/internal.h"

#include "base/mem.h"

struct look {
    const struct segment *s;
    struct store_file *file;
    const struct journal_log *journal; /* NULL: it knows nothing of this log */
    size_t journal_next;               /* index of the first batch that may be needed */
    int64_t size;                      /* of the file */
    int64_t position;                  /* up to here it is good */
    int64_t next_offset;               /* that must or may come */
    int64_t end_offset;                /* all in the segment are below it */
};

/* The journal's batch for the next offset. */
static const struct journal_batch *journalled(struct look *l)
{
    const struct journal_log *j = l->journal;
    while (j && l->journal_next < j->count && j->batches[l->journal_next].offset < l->next_offset) {
        l->journal_next++;
    }
    bool there =
        j && l->journal_next < j->count && j->batches[l->journal_next].offset == l->next_offset;
    return there ? &j->batches[l->journal_next] : NULL;
}

static bool pass(struct look *l, const struct batch_header *h, const uint8_t *p)
{
    bool good =
        batch_is_in_place(h, l->next_offset, l->end_offset) && batch_crc_is_right(p, h->size);
    if (good) {
        l->position += (int64_t)h->size;
        l->next_offset = h->base_offset + h->last_offset_delta + 1;
    }
    return good;
}

/* One batch further. *ret_more false: there is none. */
static err look_further(struct look *l, bool *ret_more)
{
    const struct store *store = l->s->log->m->o.store;
    const struct journal_batch *b = journalled(l);
    uint8_t head[BATCH_HEADER_SIZE];
    struct batch_header h;
    size_t got = 0;
    *ret_more = false;
    if (b) {
        *ret_more = !batch_header_read(b->p, b->size, &h) && pass(l, &h, b->p);
        return OK;
    }
    err e = store->ops->read(store->ctx, l->file, head, sizeof head, l->position, &got);
    if (e || batch_header_read(head, got, &h) || (int64_t)h.size > l->size - l->position) {
        return e;
    }
    uint8_t *bytes = mem_need(h.size);
    e = store->ops->read(store->ctx, l->file, bytes, h.size, l->position, &got);
    *ret_more = !e && got == h.size && pass(l, &h, bytes);
    mem_free(bytes);
    return e;
}

err recover_reaches(const struct segment *s, const struct journal_log *journal, int64_t upto,
                    bool *ret_yes)
{
    const struct log *log = s->log;
    struct store *store = log->m->o.store;
    char path[LOG_PATH_SIZE];
    int32_t index = log_segment_at(log, s->base_offset);
    struct look l = {.s = s, .journal = journal, .next_offset = s->base_offset};
    l.end_offset =
        index + 1 < log->segment_count ? log->segments[index + 1]->base_offset : INT64_MAX;
    upto = upto < l.end_offset ? upto : l.end_offset;
    segment_path(s, FILE_LOG, path);
    err e = store->ops->open(store->ctx, path, STORE_READ, &l.file);
    if (e) {
        return e;
    }
    e = store->ops->size(store->ctx, l.file, &l.size);
    for (bool more = true; !e && more && l.next_offset < upto;) {
        e = look_further(&l, &more);
    }
    store->ops->close(store->ctx, l.file);
    if (!e) {
        *ret_yes = l.next_offset >= upto;
    }
    return e;
}

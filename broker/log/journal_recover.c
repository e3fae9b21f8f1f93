/* Reading the journal at a start. Files in the order of their uses, groups in the order of their
 * numbers; the first that is not valid ends it, unless a valid one comes behind (J2): then what
 * lies between has rotted, and what is valid counts all the same. A header is a sector, of zeros or
 * whole: one that is neither has rotted, and nobody knows what its file had.
 */
#include "broker/log/journal.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "protocol/batch.h"

#include <stddef.h>
#include <stdlib.h>

/* ---- what was found */

static void journal_key(const uint8_t topic[16], int32_t partition, uint8_t key[JOURNAL_KEY])
{
    memcpy(key, topic, 16);
    put_be32(key + 16, (uint32_t)partition);
}

static struct journal_log *log_of(struct journal_replay *r, const struct journal_record *record)
{
    uint8_t key[JOURNAL_KEY];
    journal_key(record->topic, record->partition, key);
    struct journal_log *log = map_get(&r->logs, key, sizeof key);
    if (!log) {
        log = mem_need_zero(1, sizeof *log);
        check(!map_put(&r->logs, key, sizeof key, log));
    }
    return log;
}

const struct journal_log *journal_find(const struct journal *j, struct journal_id id)
{
    uint8_t key[JOURNAL_KEY];
    journal_key(id.topic.b, id.partition, key);
    return j->replay ? map_get(&j->replay->logs, key, sizeof key) : NULL;
}

void journal_forget_replay(struct journal *j)
{
    struct journal_replay *r = j->replay;
    if (!r) {
        return;
    }
    for (struct map_entry *e = map_first(&r->logs); e; e = map_next(e)) {
        struct journal_log *log = map_value(e);
        mem_free(log->batches);
        mem_free(log);
    }
    map_finish(&r->logs);
    for (int i = 0; i < JOURNAL_FILES_MAX; i++) {
        mem_free(r->images[i]);
    }
    mem_free(r);
    j->replay = NULL;
}

/* ---- groups */

static bool group_is_valid(const struct journal_file *f, const uint8_t *p, int64_t left,
                           struct journal_group *ret_group)
{
    struct journal_group g;
    memcpy(&g, p, sizeof g);
    if (g.magic != JOURNAL_GROUP_MAGIC || g.size < sizeof g || g.size > left || g.blocks == 0 ||
        (int64_t)g.blocks * JOURNAL_BLOCK > left || g.size > (int64_t)g.blocks * JOURNAL_BLOCK ||
        g.crc != journal_crc(f->salt, p, g.size)) {
        return false;
    }
    *ret_group = g;
    return true;
}

static void add_batch(struct journal_log *log, const uint8_t *p, size_t size, int64_t end)
{
    struct batch_header h;
    if (batch_header_read(p, size, &h) || h.size != size || h.base_offset < 0 ||
        end <= h.base_offset || end - h.base_offset != (int64_t)h.last_offset_delta + 1) {
        return; /* a valid group says what nobody wrote: the log's walk will tell */
    }
    while (log->count && log->batches[log->count - 1].offset >= h.base_offset) {
        log->count--; /* a group that was written again */
    }
    if (log->count == log->slots) {
        log->slots = log->slots ? log->slots * 2 : 4;
        log->batches = mem_need_resize(log->batches, log->slots * sizeof *log->batches);
    }
    log->batches[log->count++] = (struct journal_batch){h.base_offset, end, p, size};
}

static void take_group(struct journal_replay *r, const uint8_t *p, const struct journal_group *g)
{
    size_t at = sizeof *g;
    for (uint32_t i = 0; i < g->count && g->size - at >= sizeof(struct journal_record); i++) {
        struct journal_record record;
        memcpy(&record, p + at, sizeof record);
        at += sizeof record;
        if (record.size > g->size - at) {
            break;
        }
        struct journal_log *log = log_of(r, &record);
        if (record.size) {
            add_batch(log, p + at, record.size, record.end);
        }
        log->durable_end = record.end > log->durable_end ? record.end : log->durable_end;
        at += record.size;
    }
    r->groups++;
}

/* The bytes behind the last group are its successor's beginning, which nobody was told of. */
static bool is_begun(const uint8_t *p, uint64_t sequence)
{
    struct journal_group g;
    memcpy(&g, p, sizeof g);
    return g.magic == JOURNAL_GROUP_MAGIC && g.sequence == sequence;
}

/* One file's groups. `*expected`: the number of the next one. */
static void take_file(struct journal *j, const struct journal_file *f, const uint8_t *image,
                      int64_t size, uint64_t *expected)
{
    struct journal_replay *r = j->replay;
    bool bad = f->sequence > *expected && *expected > 0;
    int64_t at = JOURNAL_BLOCK;
    int64_t end = at;
    *expected = f->sequence;
    while (size - at >= JOURNAL_BLOCK) {
        struct journal_group g;
        if (group_is_valid(f, image + at, size - at, &g) && g.sequence >= *expected &&
            g.sequence <= JOURNAL_NUMBER_MAX) {
            bad = bad || g.sequence > *expected;
            if (bad && !r->rot.position) {
                char path[JOURNAL_PATH_SIZE];
                journal_path(j, f->number, path);
                r->rotten = true;
                r->rot = (struct journal_spot){f->number, at};
                diag_log(j->diag, DIAG_ERROR, "journal_rotten",
                         "file=%s position=%lld sequence=%llu", path, (long long)at,
                         (unsigned long long)g.sequence);
            }
            take_group(r, image + at, &g);
            *expected = g.sequence + 1;
            at += (int64_t)g.blocks * JOURNAL_BLOCK;
            end = at;
        } else {
            at += JOURNAL_BLOCK; /* the end; or a valid one is behind it */
        }
    }
    bool begun = size - end >= JOURNAL_BLOCK && is_begun(image + end, *expected);
    r->torn = (struct journal_spot){f->number, begun ? end : 0};
}

/* ---- files */

static void each_entry(void *arg, const struct store_entry *entry)
{
    struct journal *j = arg;
    char first[JOURNAL_PATH_SIZE];
    int64_t number;
    journal_path(j, 0, first);
    size_t before = strlen(first) - 1; /* the number's characters are the last ones */
    if (!entry->is_dir && entry->name.len > before && memcmp(entry->name.ptr, first, before) == 0 &&
        !str_to_int64((struct str){entry->name.ptr + before, entry->name.len - before}, &number) &&
        number >= 0 && number < JOURNAL_FILES_MAX) {
        j->files[number].state = JOURNAL_MAKING; /* there, to be looked at */
    }
}

static bool is_zero(const uint8_t *p, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (p[i]) {
            return false;
        }
    }
    return true;
}

/* Opens a file that is there, and reads its header. */
static err look_at_file(struct journal *j, struct journal_file *f, int64_t *ret_size)
{
    struct store *store = j->store;
    struct journal_header h = {0};
    size_t got = 0;
    char path[JOURNAL_PATH_SIZE];
    journal_path(j, f->number, path);
    err e = store->ops->open(store->ctx, path, STORE_WRITE, &f->file);
    e = e ? e : store->ops->size(store->ctx, f->file, ret_size);
    e = e ? e : store->ops->read(store->ctx, f->file, &h, sizeof h, 0, &got);
    if (e) {
        return e;
    }
    f->use = 0;
    f->state = JOURNAL_FREE;
    if (got == sizeof h && h.magic == journal_file_magic && h.version == JOURNAL_VERSION &&
        h.use > 0 && h.use <= JOURNAL_NUMBER_MAX && h.sequence <= JOURNAL_NUMBER_MAX &&
        h.crc == crc32c(&h.use, sizeof h - offsetof(struct journal_header, use))) {
        f->state = JOURNAL_FULL;
        f->use = h.use;
        f->sequence = h.sequence;
        memcpy(f->salt, h.salt, sizeof f->salt);
        j->use = h.use > j->use ? h.use : j->use;
    } else if (!is_zero((const uint8_t *)&h, sizeof h)) {
        f->rotten = true;
        diag_log(j->diag, DIAG_ERROR, "journal_header_unreadable", "file=%s", path);
    }
    if (*ret_size != j->file_bytes && f->state == JOURNAL_FREE) {
        f->state = JOURNAL_NONE;
    }
    return OK;
}

static int compare_uses(const void *a, const void *b)
{
    const struct journal_file *x = *(struct journal_file *const *)a;
    const struct journal_file *y = *(struct journal_file *const *)b;
    return x->use < y->use ? -1 : x->use > y->use;
}

static err read_file(struct journal *j, const struct journal_file *f, int64_t size)
{
    uint8_t *image = mem_need_zero(1, (size_t)size + sizeof(struct journal_group));
    size_t got = 0;
    j->replay->images[f->number] = image;
    return j->store->ops->read(j->store->ctx, f->file, image, (size_t)size, 0, &got);
}

err journal_open(struct journal *j, bool clean)
{
    int64_t sizes[JOURNAL_FILES_MAX] = {0};
    struct journal_file *used[JOURNAL_FILES_MAX];
    size_t count = 0;
    uint64_t expected = 0;
    bool rotten = false;
    j->opened = true;
    err e = j->store->ops->list(j->store->ctx, "", each_entry, j);
    for (int i = 0; !e && i < JOURNAL_FILES_MAX; i++) {
        struct journal_file *f = &j->files[i];
        if (f->state == JOURNAL_MAKING) {
            e = look_at_file(j, f, &sizes[i]);
            if (!e && f->state == JOURNAL_FULL) {
                used[count++] = f;
            }
            rotten = rotten || f->rotten;
        }
    }
    if (e || clean || (count == 0 && !rotten)) {
        return e;
    }
    j->replay = mem_need_zero(1, sizeof *j->replay);
    map_init(&j->replay->logs, j->use);
    j->replay->rotten = rotten;
    if (count > 0) {
        qsort(used, count, sizeof *used, compare_uses);
    }
    for (size_t i = 0; !e && i < count; i++) {
        e = read_file(j, used[i], sizes[used[i]->number]);
        if (!e) {
            take_file(j, used[i], j->replay->images[used[i]->number], sizes[used[i]->number],
                      &expected);
        }
    }
    j->sequence = expected > j->sequence ? expected : j->sequence;
    diag_log(j->diag, DIAG_INFO, "journal_read", "files=%zu groups=%llu", count,
             (unsigned long long)j->replay->groups);
    return e;
}

err journal_recycle(struct journal *j, int file_count)
{
    struct store *store = j->store;
    bool removed = false;
    err e = OK;
    for (struct journal_file *f; !e && (f = journal_first(j, JOURNAL_FULL));) {
        e = journal_clear_file(j, f); /* the oldest first: those that are left have no gap */
        f->state = e ? JOURNAL_FULL : JOURNAL_FREE;
    }
    for (int i = 0; !e && i < JOURNAL_FILES_MAX; i++) {
        struct journal_file *f = &j->files[i];
        e = f->rotten ? journal_clear_file(j, f) : OK; /* or every later start meets the rot */
        f->rotten = f->rotten && e;
    }
    if (!e) { /* nothing is left that has a number: they begin anew, and never end (J5) */
        j->use = 0;
        j->sequence = 1;
    }
    for (int i = 0; !e && i < JOURNAL_FILES_MAX; i++) {
        struct journal_file *f = &j->files[i];
        int64_t size = 0;
        char path[JOURNAL_PATH_SIZE];
        if (!f->file) {
            continue;
        }
        e = store->ops->size(store->ctx, f->file, &size);
        if (!e && (i >= file_count || size != j->file_bytes)) {
            journal_path(j, i, path);
            store->ops->close(store->ctx, f->file);
            f->file = NULL;
            f->state = JOURNAL_NONE;
            e = store->ops->unlink(store->ctx, path);
            removed = true;
        }
    }
    e = e || !removed ? e : store->ops->sync_dir(store->ctx, "");
    journal_forget_replay(j);
    check(file_count <= JOURNAL_FILES_MAX);
    j->file_count = e ? 0 : file_count;
    return e;
}

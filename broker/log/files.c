/* Open files of segments: cached in the segment's slots, at most max_open_files of them, the least
 * recently used closed first. A file that an extent or a work item still uses stays open, outside
 * of the count, until the last of them lets go. Opening and closing is the workers'. While logs are
 * opened at a start, a log keeps its last segment's files alone, and closes them itself.
 */
#include "broker/log/internal.h"

#include "base/check.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const suffixes[FILE_KINDS] = {"log", "index", "timeindex"};

void segment_path(const struct segment *s, enum file_kind kind, char path[LOG_PATH_SIZE])
{
    snprintf(path, LOG_PATH_SIZE, "%s/%020" PRId64 ".%s", s->log->dir, s->base_offset,
             suffixes[kind]);
}

err log_make_files(struct store *store, const char *dir, struct uuid id, int64_t base_offset)
{
    char path[LOG_PATH_SIZE];
    err e = OK;
    for (int i = 0; !e && i < FILE_KINDS; i++) {
        struct store_file *file = NULL;
        snprintf(path, sizeof path, "%s/%020" PRId64 ".%s", dir, base_offset, suffixes[i]);
        e = store->ops->open(store->ctx, path, STORE_CREATE, &file);
        if (!e) {
            store->ops->close(store->ctx, file);
        }
    }
    return e ? e : metadata_write(store, dir, id);
}

static void close_run(struct work *work)
{
    struct seg_file *f = list_entry(work, struct seg_file, close);
    f->m->o.store->ops->close(f->m->o.store->ctx, f->file);
}

static void close_done(struct work *work)
{
    struct seg_file *f = list_entry(work, struct seg_file, close);
    struct log_manager *m = f->m;
    mem_free(f);
    m->closing--;
    commit_submit(m); /* it waits while many are still open */
    manager_work_done(m);
}

void seg_file_ref(struct seg_file *f)
{
    f->refs++;
}

void seg_file_unref(struct seg_file *f)
{
    if (!f) {
        return;
    }
    check(f->refs > 0);
    if (--f->refs > 0) {
        return;
    }
    if (!f->m->opened || f->m->destroying) {
        f->m->o.store->ops->close(f->m->o.store->ctx, f->file);
        mem_free(f);
    } else {
        f->close.run = close_run;
        f->close.done = close_done;
        f->m->closing++;
        manager_work(f->m, f->m->o.reader, &f->close);
    }
}

static void owner_release(struct extent_owner *owner)
{
    seg_file_unref(list_entry(owner, struct seg_file, owner));
}

static void uncount(struct seg_file *f)
{
    if (list_linked(&f->lru)) {
        list_remove(&f->lru);
        f->m->open_files--;
    }
}

static void uncache(struct seg_file *f)
{
    f->segment->files[f->kind] = NULL;
    f->segment = NULL;
    uncount(f);
    seg_file_unref(f);
}

/* While logs are opened, on several threads, the manager's list and its count are nobody's. */
static void touch(struct seg_file *f)
{
    if (f->m->opened) {
        uncount(f);
        list_push(&f->m->lru, &f->lru);
        f->m->open_files++;
    }
}

struct seg_file *seg_file_cached(struct segment *s, enum file_kind kind)
{
    struct seg_file *f = s->files[kind];
    if (f) {
        touch(f);
    }
    return f;
}

static void cache(struct segment *s, enum file_kind kind, struct store_file *file)
{
    struct log_manager *m = s->log->m;
    struct seg_file *f = mem_need_zero(1, sizeof *f);
    f->owner.release = owner_release;
    f->m = m;
    f->kind = kind;
    f->file = file;
    f->refs = 1;
    if (s->files[kind] || s->removed || s->log->destroyed || (!m->opened && s->sealed)) {
        seg_file_unref(f); /* another one was faster, or nobody wants it any more */
        return;
    }
    f->segment = s;
    s->files[kind] = f;
    touch(f);
    list_each_safe(node, after, &m->lru)
    {
        struct seg_file *old = list_entry(node, struct seg_file, lru);
        if (m->open_files <= m->o.max_open_files) {
            break;
        }
        if (old->refs == 1) {
            uncache(old);
        }
    }
}

void segment_close_files(struct segment *s)
{
    for (int kind = 0; kind < FILE_KINDS; kind++) {
        if (s->files[kind]) {
            uncache(s->files[kind]);
        }
    }
}

void file_use_begin(struct file_use *use, struct segment *s, enum file_kind kind,
                    enum store_open how)
{
    *use =
        (struct file_use){.segment = s, .kind = kind, .how = how, .ref = seg_file_cached(s, kind)};
    segment_ref(s);
    if (use->ref) {
        seg_file_ref(use->ref);
        use->file = use->ref->file;
    }
}

err file_use_open(struct file_use *use, struct store *store)
{
    char path[LOG_PATH_SIZE];
    if (use->file) {
        return OK;
    }
    segment_path(use->segment, use->kind, path);
    return store->ops->open(store->ctx, path, use->how, &use->file);
}

void file_use_end(struct file_use *use)
{
    struct segment *s = use->segment;
    if (!s) {
        return;
    }
    if (use->ref) {
        seg_file_unref(use->ref);
    } else if (use->file) {
        cache(s, use->kind, use->file);
    }
    *use = (struct file_use){0};
    segment_unref(s);
}

struct segment *segment_create(struct log *log, int64_t base_offset)
{
    struct segment *s = mem_need_zero(1, sizeof *s);
    s->log = log;
    s->base_offset = base_offset;
    s->tail = (struct segment_tail){.max_timestamp = -1,
                                    .max_timestamp_offset = base_offset,
                                    .first_timestamp = -1,
                                    .last_time = -1};
    s->last_indexed = -1;
    s->created_ms = clock_wall_ms(log->m->o.clock);
    s->refs = 1;
    s->times_known = true;
    log_ref(log);
    return s;
}

void segment_ref(struct segment *s)
{
    s->refs++;
}

void segment_unref(struct segment *s)
{
    check(s->refs > 0);
    if (--s->refs == 0) {
        struct log *log = s->log;
        segment_close_files(s);
        list_remove(&s->sync_link);
        list_remove(&s->record_link);
        buf_finish(&s->records);
        mem_free(s->spans);
        mem_free(s->bad);
        mem_free(s);
        log_unref(log);
    }
}

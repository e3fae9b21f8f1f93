/* A plan carried out. For each segment: a copy without what is to be cut is written, synced, and
 * renamed over it; then its indexes go (until then they are hints that lead nowhere, which readers
 * check). Then everything of the partition is synced, and the recovery point says so: what comes
 * behind a cut is no torn tail to the next start.
 */
#include "broker/log/internal.h"
#include "broker/log/repair.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>

enum { COPY_CHUNK = 1 << 20 };

struct copy {
    struct store *store;
    struct store_file *from;
    struct store_file *to;
    uint8_t *chunk;
    int64_t written;
};

static err copy_range(struct copy *c, int64_t from, int64_t to)
{
    err e = OK;
    while (!e && from < to) {
        size_t want = to - from < COPY_CHUNK ? (size_t)(to - from) : COPY_CHUNK;
        size_t got = 0;
        e = c->store->ops->read(c->store->ctx, c->from, c->chunk, want, from, &got);
        e = e ? e : got < want ? ERR_STALE : OK;
        struct iovec v = {c->chunk, want};
        e = e ? e : c->store->ops->write(c->store->ctx, c->to, &v, 1, c->written);
        c->written += (int64_t)want;
        from += (int64_t)want;
    }
    return e;
}

/* What the file must hold where a step is: else it is another file than the plan's. */
static err put_offset(struct copy *c, const struct repair_step *step)
{
    uint8_t bytes[8];
    size_t got = 0;
    err e = c->store->ops->read(c->store->ctx, c->from, bytes, sizeof bytes, step->position, &got);
    if (e || got < sizeof bytes || (int64_t)get_be64(bytes) != step->offset_to) {
        return e ? e : ERR_STALE;
    }
    put_be64(bytes, (uint64_t)step->offset);
    struct iovec v = {bytes, sizeof bytes};
    e = c->store->ops->write(c->store->ctx, c->to, &v, 1, c->written);
    c->written += (int64_t)sizeof bytes;
    return e;
}

static err copy_all(struct copy *c, const struct repair_step *steps, int count, int64_t size)
{
    int64_t at = 0;
    int64_t gone = 0;
    err e = OK;
    for (int i = 0; !e && i < count; i++) {
        if (steps[i].position < at || steps[i].position + steps[i].size > size) {
            return ERR_STALE;
        }
        e = copy_range(c, at, steps[i].position);
        at = steps[i].position;
        if (steps[i].kind == REPAIR_OFFSET) {
            e = e ? e : put_offset(c, &steps[i]);
            at += 8;
        } else {
            gone += steps[i].size;
            at += steps[i].size;
        }
    }
    e = e ? e : copy_range(c, at, size);
    check(e || c->written == size - gone); /* P2: no more than was said */
    return e;
}

static err remove_if_there(struct store *store, const char *path)
{
    err e = store->ops->unlink(store->ctx, path);
    return e == ERR_NOT_FOUND ? OK : e;
}

static err replace_segment(struct store *store, const char *dir, const struct repair_step *steps,
                           int count)
{
    static const char *const indexes[] = {".index", ".timeindex"};
    const char *path = steps[0].path;
    char other[LOG_PATH_SIZE];
    int64_t size = 0;
    struct copy c = {.store = store};
    err e = OK;
    snprintf(other, sizeof other, "%.*s.cleaned", (int)sizeof other - 9, path);
    e = e ? e : remove_if_there(store, other);
    e = e ? e : store->ops->open(store->ctx, path, STORE_READ, &c.from);
    e = e ? e : store->ops->size(store->ctx, c.from, &size);
    e = e || size == steps[0].file_size ? e : ERR_STALE;
    e = e ? e : store->ops->open(store->ctx, other, STORE_CREATE_NEW, &c.to);
    if (!e) {
        c.chunk = mem_need(COPY_CHUNK);
        e = copy_all(&c, steps, count, size);
        mem_free(c.chunk);
    }
    e = e ? e : store->ops->sync(store->ctx, c.to);
    if (c.to) {
        store->ops->close(store->ctx, c.to);
    }
    if (c.from) {
        store->ops->close(store->ctx, c.from);
    }
    if (e && c.to) {
        (void)store->ops->unlink(store->ctx, other); /* the error that counts is told */
    }
    e = e ? e : store->ops->rename(store->ctx, other, path);
    e = e ? e : store->ops->sync_dir(store->ctx, dir);
    for (int i = 0; !e && i < 2; i++) {
        snprintf(other, sizeof other, "%.*s%s", (int)strlen(path) - 4, path, indexes[i]);
        e = remove_if_there(store, other);
    }
    return e;
}

static err make_end(struct store *store, const char *path)
{
    static const char *const suffixes[] = {".index", ".timeindex", ".log"};
    char file_path[LOG_PATH_SIZE];
    err e = OK;
    for (int i = 0; !e && i < 3; i++) {
        struct store_file *file = NULL;
        snprintf(file_path, sizeof file_path, "%.*s%s", (int)strlen(path) - 4, path, suffixes[i]);
        e = store->ops->open(store->ctx, file_path, STORE_CREATE, &file);
        e = e ? e : store->ops->sync(store->ctx, file);
        if (file) {
            store->ops->close(store->ctx, file);
        }
    }
    return e;
}

/* ---- everything durable, and the recovery point says so */

struct files {
    struct buf names; /* each with its 0 */
};

static void each_file(void *arg, const struct store_entry *entry)
{
    struct files *f = arg;
    if (!entry->is_dir) {
        buf_add_str(&f->names, entry->name);
        buf_add(&f->names, "", 1);
    }
}

static err sync_all(struct store *store, const char *dir)
{
    struct files f = {0};
    char path[LOG_PATH_SIZE];
    err e = store->ops->list(store->ctx, dir, each_file, &f);
    for (size_t at = 0; !e && at < f.names.len; at += strlen(f.names.ptr + at) + 1) {
        struct store_file *file = NULL;
        snprintf(path, sizeof path, "%s/%s", dir, f.names.ptr + at);
        e = store->ops->open(store->ctx, path, STORE_WRITE, &file);
        e = e ? e : store->ops->sync(store->ctx, file);
        if (file) {
            store->ops->close(store->ctx, file);
        }
    }
    buf_finish(&f.names);
    return e ? e : store->ops->sync_dir(store->ctx, dir);
}

static void add_line(struct buf *text, struct str dir, int64_t offset)
{
    size_t dash = dir.len;
    while (dash > 0 && dir.ptr[dash - 1] != '-') {
        dash--;
    }
    if (dash > 1) {
        buf_printf(text, "%.*s %.*s %" PRId64 "\n", (int)dash - 1, dir.ptr, (int)(dir.len - dash),
                   dir.ptr + dash, offset);
    }
}

static err put_recovery_point(struct store *store, const char *dir, int64_t offset)
{
    static const char name[] = "recovery-point-offset-checkpoint";
    struct map offsets;
    struct buf text = {0};
    map_init(&offsets, 0);
    err e = offsets_file_read(store, name, &offsets);
    if (e == OK || e == ERR_NOT_FOUND || e == ERR_CORRUPT) {
        bool there = map_get_str(&offsets, str_of(dir)) != NULL;
        buf_printf(&text, "0\n%zu\n", map_count(&offsets) + (there ? 0 : 1));
        for (struct map_entry *at = map_first(&offsets); at; at = map_next(at)) {
            struct bytes name_of = map_key(at);
            struct str key = {(const char *)name_of.ptr, name_of.len};
            bool is_it = str_eq(key, str_of(dir));
            add_line(&text, key, is_it ? offset : (int64_t)(uintptr_t)map_value(at) - 1);
        }
        if (!there) {
            add_line(&text, str_of(dir), offset);
        }
        e = store_replace_file(store, name, text.ptr, text.len);
    }
    map_finish(&offsets);
    buf_finish(&text);
    return e;
}

err repair_apply(struct store *store, const char *dir, const struct repair_plan *plan)
{
    err e = OK;
    bool changed = false;
    for (int i = 0; !e && i < plan->count;) {
        const struct repair_step *step = repair_step(plan, i);
        int count = 1;
        switch (step->kind) {
        case REPAIR_CUT:
        case REPAIR_OFFSET:
            while (i + count < plan->count && repair_step(plan, i + count)->kind <= REPAIR_OFFSET &&
                   strcmp(repair_step(plan, i + count)->path, step->path) == 0) {
                count++;
            }
            e = replace_segment(store, dir, step, count);
            break;
        case REPAIR_REMOVE: e = remove_if_there(store, step->path); break;
        case REPAIR_END: e = make_end(store, step->path); break;
        case REPAIR_LEFT_ALONE: break;
        }
        changed = changed || step->kind != REPAIR_LEFT_ALONE;
        i += count;
    }
    e = e || !changed ? e : sync_all(store, dir);
    return e || !changed ? e : put_recovery_point(store, dir, plan->end_offset);
}

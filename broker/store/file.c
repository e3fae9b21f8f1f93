/* Whole small files, on whatever driver. */
#include "broker/store/store.h"

#include "base/check.h"
#include "base/mem.h"

#include <string.h>

err store_read_file(struct store *store, const char *path, size_t limit_bytes, struct buf *out)
{
    const struct store_ops *ops = store->ops;
    struct store_file *file;
    err e = ops->open(store->ctx, path, STORE_READ, &file);
    if (e) {
        return e;
    }
    int64_t size;
    e = ops->size(store->ctx, file, &size);
    if (e) {
        goto out;
    }
    if ((uint64_t)size > limit_bytes) {
        e = ERR_LIMIT;
        goto out;
    }
    check(buf_reserve(out, (size_t)size + 1)); /* the caller's limit is small; never no pointer */
    size_t n;
    e = ops->read(store->ctx, file, out->ptr + out->len, (size_t)size, 0, &n);
    if (!e) {
        out->len += n;
    }
out:
    ops->close(store->ctx, file);
    return e;
}

static err write_temporary(struct store *store, const char *path, const void *p, size_t size)
{
    const struct store_ops *ops = store->ops;
    struct store_file *file;
    err e = ops->open(store->ctx, path, STORE_CREATE, &file);
    if (e) {
        return e;
    }
    union {
        const void *from;
        void *base; /* as iovec has it, for reading and writing alike */
    } data = {.from = p};
    const struct iovec part = {.iov_base = data.base, .iov_len = size};
    e = ops->truncate(store->ctx, file, 0); /* what an earlier attempt left */
    if (!e) {
        e = ops->write(store->ctx, file, &part, 1, 0);
    }
    if (!e) {
        e = ops->sync(store->ctx, file);
    }
    ops->close(store->ctx, file);
    return e;
}

err store_replace_file(struct store *store, const char *path, const void *p, size_t size)
{
    const char *slash = strrchr(path, '/');
    size_t dir_size = slash ? (size_t)(slash - path) : 0;
    size_t path_size = strlen(path);
    char *temporary = mem_need(path_size + sizeof ".tmp");
    memcpy(temporary, path, path_size);
    memcpy(temporary + path_size, ".tmp", sizeof ".tmp");
    char *dir = mem_need_zero(1, dir_size + 1);
    memcpy(dir, path, dir_size);

    err e = write_temporary(store, temporary, p, size);
    if (!e) {
        e = store->ops->rename(store->ctx, temporary, path);
    }
    if (e) {
        /* It may not be there, or not go: the next attempt writes over it, and nothing reads it. */
        (void)store->ops->unlink(store->ctx, temporary);
    } else {
        e = store->ops->sync_dir(store->ctx, dir);
    }
    mem_free(temporary);
    mem_free(dir);
    return e;
}

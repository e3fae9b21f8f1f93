#include "broker/server/reserve.h"

static const char name[] = "reserve";

static err drop(struct store *store)
{
    err e = store->ops->unlink(store->ctx, name);
    if (e == ERR_NOT_FOUND) {
        return OK;
    }
    return e ? e : store->ops->sync_dir(store->ctx, "");
}

/* What a crash left half made has another size. */
static bool is_whole(struct store *store, int64_t size_bytes)
{
    struct store_file *file;
    int64_t size = -1;
    if (store->ops->open(store->ctx, name, STORE_READ, &file) != OK) {
        return false;
    }
    err e = store->ops->size(store->ctx, file, &size);
    store->ops->close(store->ctx, file);
    return e == OK && size == size_bytes;
}

err reserve_release(struct store *store, int64_t size_bytes, bool *ret_there)
{
    int64_t free_bytes;
    int64_t total_bytes;
    *ret_there = false;
    err e = store->ops->space(store->ctx, &free_bytes, &total_bytes);
    if (e) {
        return e;
    }
    if (size_bytes > 0 && free_bytes >= size_bytes && is_whole(store, size_bytes)) {
        *ret_there = true;
        return OK;
    }
    return drop(store);
}

static err allocate(struct store *store, int64_t size_bytes)
{
    struct store_file *file;
    err e = store->ops->open(store->ctx, name, STORE_CREATE, &file);
    if (e) {
        return e;
    }
    e = store->ops->allocate(store->ctx, file, size_bytes);
    e = e ? e : store->ops->truncate(store->ctx, file, size_bytes);
    e = e ? e : store->ops->sync(store->ctx, file);
    store->ops->close(store->ctx, file);
    return e ? e : store->ops->sync_dir(store->ctx, "");
}

err reserve_make(struct store *store, int64_t size_bytes, bool *ret_there, int64_t *ret_free)
{
    int64_t total_bytes;
    *ret_there = size_bytes > 0 && is_whole(store, size_bytes);
    err e = store->ops->space(store->ctx, ret_free, &total_bytes);
    if (e || *ret_there || size_bytes == 0 || *ret_free < size_bytes * 2) {
        return e;
    }
    e = allocate(store, size_bytes);
    *ret_there = e == OK;
    if (e) {
        err dropped = drop(store);
        return e == ERR_NO_SPACE ? dropped : e; /* others were faster: another time */
    }
    *ret_free -= size_bytes;
    return OK;
}

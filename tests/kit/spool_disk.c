#include "tests/kit/spool_disk.h"

static struct store *store_of(void *ctx)
{
    return sim_store_store(ctx);
}

static err sim_open(void *ctx, const char *name, enum disk_open how, struct disk_file **ret_file)
{
    static const enum store_open hows[] = {
        [DISK_READ] = STORE_READ,
        [DISK_WRITE] = STORE_WRITE,
        [DISK_CREATE] = STORE_CREATE_NEW,
    };
    struct store *s = store_of(ctx);
    return s->ops->open(s->ctx, name, hows[how], (struct store_file **)ret_file);
}

static err sim_close(void *ctx, struct disk_file *file)
{
    struct store *s = store_of(ctx);
    s->ops->close(s->ctx, (struct store_file *)file);
    return OK;
}

static err sim_read(void *ctx, struct disk_file *file, void *p, size_t size, int64_t position,
                    size_t *ret_read)
{
    struct store *s = store_of(ctx);
    return s->ops->read(s->ctx, (struct store_file *)file, p, size, position, ret_read);
}

static err sim_write(void *ctx, struct disk_file *file, const void *p, size_t size,
                     int64_t position)
{
    struct store *s = store_of(ctx);
    union {
        const void *from;
        void *base;
    } bytes = {.from = p};
    struct iovec part = {.iov_base = bytes.base, .iov_len = size};
    return s->ops->write(s->ctx, (struct store_file *)file, &part, 1, position);
}

static err sim_sync(void *ctx, struct disk_file *file)
{
    struct store *s = store_of(ctx);
    return s->ops->sync(s->ctx, (struct store_file *)file);
}

static err sim_truncate(void *ctx, struct disk_file *file, int64_t size)
{
    struct store *s = store_of(ctx);
    return s->ops->truncate(s->ctx, (struct store_file *)file, size);
}

static err sim_size(void *ctx, struct disk_file *file, int64_t *ret_size)
{
    struct store *s = store_of(ctx);
    return s->ops->size(s->ctx, (struct store_file *)file, ret_size);
}

static err sim_unlink(void *ctx, const char *name)
{
    struct store *s = store_of(ctx);
    return s->ops->unlink(s->ctx, name);
}

static err sim_sync_names(void *ctx)
{
    struct store *s = store_of(ctx);
    return s->ops->sync_dir(s->ctx, "");
}

struct listing {
    void (*each)(void *arg, const char *name);
    void *arg;
};

static void list_one(void *arg, const struct store_entry *entry)
{
    const struct listing *l = arg;
    l->each(l->arg, entry->name.ptr);
}

static err sim_list(void *ctx, void (*each)(void *arg, const char *name), void *arg)
{
    struct store *s = store_of(ctx);
    struct listing l = {each, arg};
    return s->ops->list(s->ctx, "", list_one, &l);
}

static err sim_lock(void *ctx, const char *name)
{
    struct store *s = store_of(ctx);
    return s->ops->lock(s->ctx, name);
}

static void sim_finish(void *ctx)
{
    (void)ctx;
}

static const struct disk_ops sim_ops = {
    .open = sim_open,
    .close = sim_close,
    .read = sim_read,
    .write = sim_write,
    .sync = sim_sync,
    .truncate = sim_truncate,
    .size = sim_size,
    .unlink = sim_unlink,
    .sync_names = sim_sync_names,
    .list = sim_list,
    .lock = sim_lock,
    .finish = sim_finish,
};

struct disk spool_disk(struct sim_store *store)
{
    return (struct disk){&sim_ops, store};
}

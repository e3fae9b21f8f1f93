/* The driver for real files. Everything goes by names below one directory's descriptor, and nothing
 * follows links out of it.
 */
#include "client/spool/disk.h"

#include "base/fileio.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

struct disk_file {
    int fd; /* owned */
};

struct directory {
    int fd;   /* owned */
    int lock; /* owned; -1: none */
};

static err posix_open(void *ctx, const char *name, enum disk_open how, struct disk_file **ret_file)
{
    static const int flags[] = {
        [DISK_READ] = O_RDONLY,
        [DISK_WRITE] = O_RDWR,
        [DISK_CREATE] = O_RDWR | O_CREAT | O_EXCL,
    };
    const struct directory *d = ctx;
    struct disk_file *file = mem_alloc(sizeof *file);
    if (!file) {
        return ERR_MEMORY;
    }
    err e = fileio_open_regular(d->fd, name, flags[how], &file->fd);
    if (e != OK) {
        mem_free(file);
        return e;
    }
    *ret_file = file;
    return OK;
}

static err posix_close(void *ctx, struct disk_file *file)
{
    (void)ctx;
    int number = fileio_close(file->fd);
    mem_free(file);
    return number ? fileio_error(number) : OK;
}

static err posix_read(void *ctx, struct disk_file *file, void *p, size_t size, int64_t position,
                      size_t *ret_read)
{
    (void)ctx;
    return fileio_read(file->fd, p, size, position, ret_read);
}

static err posix_write(void *ctx, struct disk_file *file, const void *p, size_t size,
                       int64_t position)
{
    (void)ctx;
    union {
        const void *from;
        void *base;
    } data = {.from = p};
    const struct iovec part = {data.base, size};
    return fileio_write(file->fd, &part, 1, position);
}

static err posix_sync(void *ctx, struct disk_file *file)
{
    (void)ctx;
    int number = fileio_sync_data(file->fd);
    return number ? fileio_error(number) : OK;
}

static err posix_truncate(void *ctx, struct disk_file *file, int64_t size)
{
    (void)ctx;
    return fileio_truncate(file->fd, size);
}

static err posix_size(void *ctx, struct disk_file *file, int64_t *ret_size)
{
    (void)ctx;
    return fileio_size(file->fd, ret_size);
}

static err posix_unlink(void *ctx, const char *name)
{
    const struct directory *d = ctx;
    return unlinkat(d->fd, name, 0) ? fileio_error(errno) : OK;
}

static err posix_sync_names(void *ctx)
{
    const struct directory *d = ctx;
    int number = fileio_sync(d->fd);
    return number ? fileio_error(number) : OK;
}

struct listing {
    void (*each)(void *arg, const char *name);
    void *arg;
};

static void list_one(void *arg, int fd, const struct dirent *entry)
{
    const struct listing *l = arg;
    (void)fd;
    l->each(l->arg, entry->d_name);
}

static err posix_list(void *ctx, void (*each)(void *arg, const char *name), void *arg)
{
    const struct directory *d = ctx;
    struct listing l = {each, arg};
    return fileio_list(d->fd, ".", list_one, &l);
}

static err posix_lock(void *ctx, const char *name)
{
    struct directory *d = ctx;
    return fileio_lock(d->fd, name, &d->lock);
}

static void posix_finish(void *ctx)
{
    struct directory *d = ctx;
    if (d->lock >= 0) {
        (void)close(d->lock); /* nothing was written */
    }
    (void)close(d->fd);
    mem_free(d);
}

static const struct disk_ops posix_ops = {
    .open = posix_open,
    .close = posix_close,
    .read = posix_read,
    .write = posix_write,
    .sync = posix_sync,
    .truncate = posix_truncate,
    .size = posix_size,
    .unlink = posix_unlink,
    .sync_names = posix_sync_names,
    .list = posix_list,
    .lock = posix_lock,
    .finish = posix_finish,
};

err disk_open_posix(const char *path, bool create, struct disk *ret_disk)
{
    err e = create ? fileio_make_dir(path) : OK;
    if (e != OK) {
        return e;
    }
    struct directory *d = mem_alloc(sizeof *d);
    if (!d) {
        return ERR_MEMORY;
    }
    do { /* the path may lead over links: it is what the user named */
        d->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    } while (d->fd < 0 && errno == EINTR);
    if (d->fd < 0) {
        e = fileio_error(errno);
        mem_free(d);
        return e;
    }
    d->lock = -1;
    *ret_disk = (struct disk){&posix_ops, d};
    return OK;
}

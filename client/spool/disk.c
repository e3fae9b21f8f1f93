/* The driver for real files. Everything goes by names below one directory's descriptor, and nothing
 * follows links out of it.
 */
#include "client/spool/disk.h"

#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct disk_file {
    int fd; /* owned */
};

struct directory {
    int fd;   /* owned */
    int lock; /* owned; -1: none */
};

static err err_of_errno(int number)
{
    switch (number) {
    case ENOENT:
    case ENOTDIR: return ERR_NOT_FOUND;
    case EEXIST: return ERR_EXISTS;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return ERR_NO_SPACE;
    case EACCES:
    case EPERM:
    case EROFS: return ERR_DENIED;
    case EMFILE:
    case ENFILE: return ERR_NO_FILES;
    case ENOMEM: return ERR_MEMORY;
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG: return ERR_INVALID;
    default: return ERR_IO;
    }
}

static int open_at(int dir, const char *name, int flags)
{
    int fd;
    do {
        fd = openat(dir, name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

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
    file->fd = open_at(d->fd, name, flags[how]);
    struct stat st;
    err e = file->fd < 0 || fstat(file->fd, &st) ? err_of_errno(errno)
            : S_ISREG(st.st_mode)                ? OK
                                                 : ERR_INVALID;
    if (e != OK) {
        if (file->fd >= 0) {
            (void)close(file->fd); /* nothing was written */
        }
        mem_free(file);
        return e;
    }
    *ret_file = file;
    return OK;
}

static err posix_close(void *ctx, struct disk_file *file)
{
    (void)ctx;
    /* EINTR: Linux has closed it all the same, and a second close would hit a stranger. */
    err e = close(file->fd) && errno != EINTR ? err_of_errno(errno) : OK;
    mem_free(file);
    return e;
}

static err posix_read(void *ctx, struct disk_file *file, void *p, size_t size, int64_t position,
                      size_t *ret_read)
{
    (void)ctx;
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(file->fd, (char *)p + done, size - done, position + (int64_t)done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return err_of_errno(errno);
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    *ret_read = done;
    return OK;
}

static err posix_write(void *ctx, struct disk_file *file, const void *p, size_t size,
                       int64_t position)
{
    (void)ctx;
    size_t done = 0;
    while (done < size) {
        ssize_t n = pwrite(file->fd, (const char *)p + done, size - done, position + (int64_t)done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? err_of_errno(errno) : ERR_IO;
        }
        done += (size_t)n;
    }
    return OK;
}

static err posix_sync(void *ctx, struct disk_file *file)
{
    (void)ctx;
    int failed;
    do {
        failed = fdatasync(file->fd);
    } while (failed && errno == EINTR); /* interrupted: not done, and nothing was dropped */
    return failed ? err_of_errno(errno) : OK;
}

static err posix_truncate(void *ctx, struct disk_file *file, int64_t size)
{
    (void)ctx;
    int failed;
    do {
        failed = ftruncate(file->fd, size);
    } while (failed && errno == EINTR);
    return failed ? err_of_errno(errno) : OK;
}

static err posix_size(void *ctx, struct disk_file *file, int64_t *ret_size)
{
    (void)ctx;
    struct stat st;
    if (fstat(file->fd, &st)) {
        return err_of_errno(errno);
    }
    *ret_size = st.st_size;
    return OK;
}

static err posix_unlink(void *ctx, const char *name)
{
    const struct directory *d = ctx;
    return unlinkat(d->fd, name, 0) ? err_of_errno(errno) : OK;
}

static err posix_sync_names(void *ctx)
{
    const struct directory *d = ctx;
    int failed;
    do {
        failed = fsync(d->fd);
    } while (failed && errno == EINTR);
    return failed ? err_of_errno(errno) : OK;
}

static err posix_list(void *ctx, void (*each)(void *arg, const char *name), void *arg)
{
    const struct directory *d = ctx;
    int fd = open_at(d->fd, ".", O_RDONLY | O_DIRECTORY);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        err e = err_of_errno(errno);
        if (fd >= 0) {
            (void)close(fd);
        }
        return e;
    }
    const struct dirent *entry;
    while (errno = 0, (entry = readdir(dir))) {
        each(arg, entry->d_name);
    }
    err e = errno ? err_of_errno(errno) : OK;
    (void)closedir(dir); /* nothing was written */
    return e;
}

/* A lock of the open file description: it keeps out other processes and other opens of this one,
 * and goes away with the process however that ends. */
static err posix_lock(void *ctx, const char *name)
{
    struct directory *d = ctx;
    int fd = open_at(d->fd, name, O_RDWR | O_CREAT);
    if (fd < 0) {
        return err_of_errno(errno);
    }
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &all)) {
        err e = errno == EAGAIN || errno == EACCES ? ERR_BUSY : err_of_errno(errno);
        (void)close(fd);
        return e;
    }
    d->lock = fd;
    return OK;
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

/* The name of a directory is durable when the directory above it is synced. */
static err parent_sync(const char *path)
{
    char *up = mem_alloc(strlen(path) + sizeof "/..");
    if (!up) {
        return ERR_MEMORY;
    }
    memcpy(up, path, strlen(path));
    memcpy(up + strlen(path), "/..", sizeof "/..");
    int fd = open_at(AT_FDCWD, up, O_RDONLY | O_DIRECTORY);
    err e = fd < 0 || fsync(fd) ? err_of_errno(errno) : OK;
    if (fd >= 0) {
        (void)close(fd);
    }
    mem_free(up);
    return e;
}

err disk_open_posix(const char *path, bool create, struct disk *ret_disk)
{
    err e = OK;
    if (create) {
        if (mkdir(path, 0700) == 0) {
            e = parent_sync(path);
        } else if (errno != EEXIST) {
            e = err_of_errno(errno);
        }
    }
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
        e = err_of_errno(errno);
        mem_free(d);
        return e;
    }
    d->lock = -1;
    *ret_disk = (struct disk){&posix_ops, d};
    return OK;
}

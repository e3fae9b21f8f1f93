/* The posix driver: every path goes through openat under the descriptor of the data directory.
 *
 * Invariants:
 *  1. A path that comes here was made by us (names from outside are checked before they become
 * one): relative, without "..".
 *  2. A sync or close of a written file that fails ends the process: Linux drops the dirty pages
 *     of a failed fsync, so a second one would lie.
 */
#include "broker/store/store.h"

#include "base/check.h"
#include "base/fileio.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h> /* renameat */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

struct store_file {
    int fd;         /* owned */
    bool written;   /* by us, through this descriptor: its close must succeed */
    bool no_nowait; /* the file system knows no RWF_NOWAIT; the thread of read_cached alone uses it
                     */
    char path[];    /* for the last words of storage_fatal */
};

struct posix_store {
    int root;       /* owned: the data directory */
    int *locks;     /* owned: descriptors that hold a lock */
    int lock_count; /* of locks */
};

/* ---- errors and paths */

static const char *checked_path(const char *path) /* "" is the data directory */
{
    check(path[0] != '/'); /* invariant 1 */
    for (const char *p = path; *p;) {
        size_t size = strcspn(p, "/");
        check(!(size == 2 && p[0] == '.' && p[1] == '.')); /* invariant 1 */
        p += size + (p[size] == '/');
    }
    return *path ? path : ".";
}

static int root_of(void *ctx)
{
    return ((struct posix_store *)ctx)->root;
}

/* ---- files */

static err posix_open(void *ctx, const char *path, enum store_open how,
                      struct store_file **ret_file)
{
    static const int flags[] = {
        [STORE_READ] = O_RDONLY,
        [STORE_WRITE] = O_RDWR,
        [STORE_CREATE] = O_RDWR | O_CREAT,
        [STORE_CREATE_NEW] = O_RDWR | O_CREAT | O_EXCL,
    };
    int fd;
    err e = fileio_open_regular(root_of(ctx), checked_path(path), flags[how], &fd);
    if (e) {
        return e;
    }
    size_t size = strlen(path) + 1;
    struct store_file *file = mem_need_zero(1, sizeof *file + size);
    file->fd = fd;
    memcpy(file->path, path, size);
    *ret_file = file;
    return OK;
}

static void posix_close(void *ctx, struct store_file *file)
{
    (void)ctx;
    int number = fileio_close(file->fd);
    if (number && file->written) {
        storage_fatal("close", file->path, number); /* invariant 2 */
    }
    mem_free(file);
}

static err posix_read(void *ctx, struct store_file *file, void *p, size_t size, int64_t position,
                      size_t *ret_read)
{
    (void)ctx;
    return fileio_read(file->fd, p, size, position, ret_read);
}

static err posix_size(void *ctx, struct store_file *file, int64_t *ret_size)
{
    (void)ctx;
    return fileio_size(file->fd, ret_size);
}

/* Where the file system cannot say whether it would wait (tmpfs before Linux 6.6, which never does;
 * overlayfs; some network ones), the plain read is the answer. */
static err posix_read_cached(void *ctx, struct store_file *file, void *p, size_t size,
                             int64_t position, size_t *ret_read)
{
    if (file->no_nowait) {
        return posix_read(ctx, file, p, size, position, ret_read);
    }
    struct iovec part = {.iov_base = p, .iov_len = size};
    ssize_t n;
    do {
        n = preadv2(file->fd, &part, 1, position, RWF_NOWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL)) {
        file->no_nowait = true;
        return posix_read(ctx, file, p, size, position, ret_read);
    }
    if (n < 0) {
        return errno == EAGAIN ? ERR_AGAIN : fileio_error(errno);
    }
    if ((size_t)n < size) { /* the end of the file, or of what is cached */
        int64_t end;
        err e = posix_size(ctx, file, &end);
        if (e) {
            return e;
        }
        if (position + n < end) {
            return ERR_AGAIN;
        }
    }
    *ret_read = (size_t)n;
    return OK;
}

static err posix_write(void *ctx, struct store_file *file, const struct iovec *parts, int count,
                       int64_t position)
{
    (void)ctx;
    file->written = true;
    return fileio_write(file->fd, parts, count, position);
}

/* What fails here fails in the sync behind it: the kernel keeps it for that. */
static void posix_start_sync(void *ctx, struct store_file *file)
{
    (void)ctx;
    (void)sync_file_range(file->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

static err posix_sync(void *ctx, struct store_file *file)
{
    (void)ctx;
    int number = fileio_sync_data(file->fd);
    if (number) {
        storage_fatal("fdatasync", file->path, number); /* invariant 2 */
    }
    return OK;
}

static err posix_truncate(void *ctx, struct store_file *file, int64_t size)
{
    (void)ctx;
    file->written = true;
    return fileio_truncate(file->fd, size);
}

static int posix_fd(struct store_file *file)
{
    return file->fd;
}

/* ---- directories */

static err posix_rename(void *ctx, const char *from, const char *to)
{
    int dir = root_of(ctx);
    return renameat(dir, checked_path(from), dir, checked_path(to)) ? fileio_error(errno) : OK;
}

static err posix_unlink(void *ctx, const char *path)
{
    return unlinkat(root_of(ctx), checked_path(path), 0) ? fileio_error(errno) : OK;
}

static err posix_make_dir(void *ctx, const char *path)
{
    return mkdirat(root_of(ctx), checked_path(path), 0700) ? fileio_error(errno) : OK;
}

static err posix_remove_dir(void *ctx, const char *path)
{
    return unlinkat(root_of(ctx), checked_path(path), AT_REMOVEDIR) ? fileio_error(errno) : OK;
}

/* fsync and close of an open directory; the descriptor is gone then. */
static void sync_dir_fd(int fd, const char *path)
{
    int number = fileio_sync(fd);
    if (number) {
        storage_fatal("fsync", path, number); /* invariant 2 */
    }
    (void)close(fd); /* nothing was written through it */
}

static err posix_sync_dir(void *ctx, const char *path)
{
    path = checked_path(path);
    int fd;
    err e = fileio_open(root_of(ctx), path, O_RDONLY | O_DIRECTORY, &fd);
    if (!e) {
        sync_dir_fd(fd, path);
    }
    return e;
}

struct listed {
    char *name; /* owned */
    bool is_dir;
};

static int listed_cmp(const void *a, const void *b)
{
    return strcmp(((const struct listed *)a)->name, ((const struct listed *)b)->name);
}

static bool entry_is_dir(int dir, const struct dirent *d)
{
    if (d->d_type != DT_UNKNOWN && d->d_type != DT_LNK) {
        return d->d_type == DT_DIR;
    }
    struct stat st;
    return fstatat(dir, d->d_name, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

struct listing {
    struct listed *all; /* owned */
    size_t count, room;
};

static void list_one(void *arg, int fd, const struct dirent *d)
{
    struct listing *l = arg;
    if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0) {
        return;
    }
    if (l->count == l->room) {
        l->room = l->room ? l->room * 2 : 64;
        l->all = mem_need_resize(l->all, l->room * sizeof *l->all);
    }
    l->all[l->count++] = (struct listed){
        .name = mem_need_dup(d->d_name, strlen(d->d_name) + 1),
        .is_dir = entry_is_dir(fd, d),
    };
}

static err posix_list(void *ctx, const char *path,
                      void (*each)(void *arg, const struct store_entry *entry), void *arg)
{
    struct listing l = {0};
    err e = fileio_list(root_of(ctx), checked_path(path), list_one, &l);
    if (l.count) {
        qsort(l.all, l.count, sizeof *l.all, listed_cmp);
    }
    for (size_t i = 0; i < l.count; i++) {
        if (!e) {
            each(arg, &(struct store_entry){str_of(l.all[i].name), l.all[i].is_dir});
        }
        mem_free(l.all[i].name);
    }
    mem_free(l.all);
    return e;
}

static err posix_lock(void *ctx, const char *path)
{
    struct posix_store *s = ctx;
    int fd;
    err e = fileio_lock(s->root, checked_path(path), &fd);
    if (!e) {
        s->locks = mem_need_resize(s->locks, (size_t)(s->lock_count + 1) * sizeof *s->locks);
        s->locks[s->lock_count++] = fd;
    }
    return e;
}

static err posix_space(void *ctx, int64_t *ret_free_bytes, int64_t *ret_total_bytes)
{
    struct statvfs v;
    if (fstatvfs(root_of(ctx), &v)) {
        return fileio_error(errno);
    }
    *ret_free_bytes = (int64_t)(v.f_bavail * v.f_frsize);
    *ret_total_bytes = (int64_t)(v.f_blocks * v.f_frsize);
    return OK;
}

/* Where the file system cannot promise blocks, zeros are written. */
static err allocate_by_writing(struct store_file *file, int64_t size)
{
    static const char zeros[65536];
    union {
        const void *from;
        void *base;
    } data = {.from = zeros};
    int64_t there;
    err e = posix_size(NULL, file, &there);
    while (!e && there < size) {
        int64_t left = size - there;
        const struct iovec part = {data.base,
                                   left < (int64_t)sizeof zeros ? (size_t)left : sizeof zeros};
        e = posix_write(NULL, file, &part, 1, there);
        there += (int64_t)part.iov_len;
    }
    return e;
}

static err posix_allocate(void *ctx, struct store_file *file, int64_t size)
{
    (void)ctx;
    int result;
    do {
        result = fallocate(file->fd, 0, 0, size);
    } while (result && errno == EINTR);
    if (!result) {
        file->written = true;
        return OK;
    }
    return errno == EOPNOTSUPP ? allocate_by_writing(file, size) : fileio_error(errno);
}

static const struct store_ops posix_ops = {
    .open = posix_open,
    .close = posix_close,
    .read = posix_read,
    .read_cached = posix_read_cached,
    .write = posix_write,
    .allocate = posix_allocate,
    .start_sync = posix_start_sync,
    .sync = posix_sync,
    .truncate = posix_truncate,
    .size = posix_size,
    .fd = posix_fd,
    .rename = posix_rename,
    .unlink = posix_unlink,
    .make_dir = posix_make_dir,
    .remove_dir = posix_remove_dir,
    .sync_dir = posix_sync_dir,
    .list = posix_list,
    .lock = posix_lock,
    .space = posix_space,
};

/* ---- the data directory */

/* Somebody else's directory, or one that others may write into, is refused. */
static err check_root(int fd)
{
    struct stat st;
    if (fstat(fd, &st)) {
        return fileio_error(errno);
    }
    return st.st_uid == geteuid() && !(st.st_mode & (S_IWGRP | S_IWOTH)) ? OK : ERR_INVALID;
}

err store_open_posix(const char *path, struct store *ret_store)
{
    err e = fileio_make_dir(path);
    if (e) {
        return e;
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOTDIR ? ERR_EXISTS : fileio_error(errno);
    }
    e = check_root(fd);
    if (e) {
        (void)close(fd);
        return e;
    }
    struct posix_store *s = mem_need_zero(1, sizeof *s);
    s->root = fd;
    *ret_store = (struct store){.ops = &posix_ops, .ctx = s};
    return OK;
}

void store_close_posix(struct store *store)
{
    struct posix_store *s = store->ctx;
    if (!s) {
        return;
    }
    for (int i = 0; i < s->lock_count; i++) {
        (void)close(s->locks[i]);
    }
    (void)close(s->root);
    mem_free(s->locks);
    mem_free(s);
    *store = (struct store){0};
}

#include "base/fileio.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

err fileio_error(int number)
{
    static const struct {
        int number;
        err e;
    } known[] = {
        {ENOENT,       ERR_NOT_FOUND},
        {ENOTDIR,      ERR_NOT_FOUND},
        {EEXIST,       ERR_EXISTS   },
        {ENOTEMPTY,    ERR_EXISTS   },
        {ENOSPC,       ERR_NO_SPACE },
        {EDQUOT,       ERR_NO_SPACE },
        {EFBIG,        ERR_NO_SPACE }, /* RLIMIT_FSIZE: full, as far as this process is concerned */
        {EACCES,       ERR_DENIED   },
        {EPERM,        ERR_DENIED   },
        {EROFS,        ERR_DENIED   },
        {EMFILE,       ERR_NO_FILES },
        {ENFILE,       ERR_NO_FILES },
        {ENOMEM,       ERR_MEMORY   },
        {EISDIR,       ERR_INVALID  },
        {ELOOP,        ERR_INVALID  },
        {ENAMETOOLONG, ERR_INVALID  },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].number == number) {
            return known[i].e;
        }
    }
    return ERR_IO;
}

/* ---- open and close ---- */

err fileio_open(int dir, const char *path, int flags, int *ret_fd)
{
    int fd;
    do {
        fd = openat(dir, path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        return fileio_error(errno);
    }
    *ret_fd = fd;
    return OK;
}

err fileio_open_regular(int dir, const char *path, int flags, int *ret_fd)
{
    int fd;
    err e = fileio_open(dir, path, flags, &fd);
    if (e != OK) {
        return e;
    }
    struct stat st;
    e = fstat(fd, &st) ? fileio_error(errno) : S_ISREG(st.st_mode) ? OK : ERR_INVALID;
    if (e != OK) {
        (void)close(fd); /* nothing was written */
        return e;
    }
    *ret_fd = fd;
    return OK;
}

int fileio_close(int fd)
{
    return close(fd) && errno != EINTR ? errno : 0;
}

/* ---- bytes ---- */

err fileio_read(int fd, void *p, size_t size, int64_t position, size_t *ret_read)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(fd, (char *)p + done, size - done, position + (int64_t)done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return fileio_error(errno);
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    *ret_read = done;
    return OK;
}

enum { PARTS_AT_ONCE = 64 }; /* <= IOV_MAX */

err fileio_write(int fd, const struct iovec *parts, int count, int64_t position)
{
    size_t skip = 0; /* bytes of parts[0] that are written */
    while (count > 0) {
        struct iovec some[PARTS_AT_ONCE];
        int some_count = count < PARTS_AT_ONCE ? count : PARTS_AT_ONCE;
        memcpy(some, parts, (size_t)some_count * sizeof *some);
        some[0].iov_base = (char *)some[0].iov_base + skip;
        some[0].iov_len -= skip;
        ssize_t n = pwritev(fd, some, some_count, position);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return fileio_error(errno);
        }
        size_t left = (size_t)n;
        position += n;
        bool advanced = n > 0;
        while (count > 0 && left >= parts->iov_len - skip) {
            left -= parts->iov_len - skip;
            skip = 0;
            parts++;
            count--;
            advanced = true; /* past an empty part */
        }
        skip += left;
        if (!advanced) {
            return ERR_IO;
        }
    }
    return OK;
}

err fileio_size(int fd, int64_t *ret_size)
{
    struct stat st;
    if (fstat(fd, &st)) {
        return fileio_error(errno);
    }
    *ret_size = st.st_size;
    return OK;
}

err fileio_truncate(int fd, int64_t size)
{
    int failed;
    do {
        failed = ftruncate(fd, size);
    } while (failed && errno == EINTR);
    return failed ? fileio_error(errno) : OK;
}

/* Interrupted: not done, and nothing was dropped. */
int fileio_sync_data(int fd)
{
    int failed;
    do {
        failed = fdatasync(fd);
    } while (failed && errno == EINTR);
    return failed ? errno : 0;
}

int fileio_sync(int fd)
{
    int failed;
    do {
        failed = fsync(fd);
    } while (failed && errno == EINTR);
    return failed ? errno : 0;
}

/* ---- directories ---- */

err fileio_list(int dir, const char *path, void (*each)(void *arg, int fd, const struct dirent *d),
                void *arg)
{
    int fd = -1;
    err e = fileio_open(dir, path, O_RDONLY | O_DIRECTORY, &fd);
    DIR *list = e == OK ? fdopendir(fd) : NULL;
    if (!list) {
        e = e == OK ? fileio_error(errno) : e;
        if (fd >= 0) {
            (void)close(fd);
        }
        return e;
    }
    const struct dirent *d;
    while (errno = 0, (d = readdir(list))) {
        each(arg, fd, d);
    }
    e = errno ? fileio_error(errno) : OK;
    (void)closedir(list); /* nothing was written */
    return e;
}

err fileio_lock(int dir, const char *path, int *ret_fd)
{
    int fd;
    err e = fileio_open(dir, path, O_RDWR | O_CREAT, &fd);
    if (e != OK) {
        return e;
    }
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &all)) {
        e = errno == EAGAIN || errno == EACCES ? ERR_BUSY : fileio_error(errno);
        (void)close(fd);
        return e;
    }
    *ret_fd = fd;
    return OK;
}

err fileio_sync_parent(const char *path)
{
    char parent[PATH_MAX];
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/') {
        size--;
    }
    while (size > 0 && path[size - 1] != '/') {
        size--;
    }
    if (size >= sizeof parent) {
        return fileio_error(ENAMETOOLONG); /* as the system would say */
    }
    snprintf(parent, sizeof parent, "%.*s", size ? (int)size : 1, size ? path : ".");
    int fd;
    do { /* the path may lead over links: it is what the user named */
        fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    int number = fd < 0 ? errno : fileio_sync(fd);
    if (fd >= 0) {
        (void)close(fd); /* nothing was written through it */
    }
    return number ? fileio_error(number) : OK;
}

err fileio_make_dir(const char *path)
{
    bool is_new = mkdir(path, 0700) == 0;
    if (!is_new && errno != EEXIST) {
        return fileio_error(errno);
    }
    err e = fileio_sync_parent(path);
    /* Who may not look into the directory above has not made this one. */
    return !is_new && e == ERR_DENIED ? OK : e;
}

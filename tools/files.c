#include "tools/files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_SIZE = 65536 };

bool file_read(const char *path, size_t limit, struct buf *to)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int error = fd < 0 ? errno : 0;
    size_t from = to->len;
    while (!error) {
        if (!buf_reserve(to, READ_SIZE)) {
            error = ENOMEM;
            break;
        }
        ssize_t n = read(fd, to->ptr + to->len, READ_SIZE);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            error = n < 0 ? errno : 0;
            break;
        }
        to->len += (size_t)n;
        error = to->len - from > limit ? EFBIG : 0;
    }
    if (fd >= 0) {
        close(fd);
    }
    errno = error;
    return error == 0;
}

int file_open(const char *path)
{
    return strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
}

FILE *file_create(const char *path, bool over)
{
    if (strcmp(path, "-") == 0) {
        return stdout;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (over ? O_TRUNC : O_EXCL), 0666);
    if (fd < 0 && errno == EEXIST && !over) {
        struct stat st;
        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd >= 0 && (fstat(fd, &st) != 0 || S_ISREG(st.st_mode))) {
            close(fd);
            errno = EEXIST;
            return NULL;
        }
    }
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!file && fd >= 0) {
        int error = errno;
        close(fd);
        errno = error;
    }
    return file;
}

bool file_close(FILE *file)
{
    bool is_output = file == stdout;
    errno = 0;
    bool failed = fflush(file) != 0 || ferror(file);
    int error = errno;
    if (!failed && !is_output && fsync(fileno(file)) != 0 && errno != EINVAL) { /* EINVAL: a pipe */
        failed = true;
        error = errno;
    }
    if (!is_output && fclose(file) != 0 && !failed) {
        failed = true;
        error = errno;
    }
    errno = failed && !error ? EIO : error;
    return !failed;
}

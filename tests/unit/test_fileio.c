/* base/fileio: what the drivers of files have in common. Their own promises: test_store_posix.c,
 * test_spool.c. */
#include "base/fileio.h"

#include "broker/store/store.h"
#include "client/spool/disk.h"
#include "tests/kit/temp_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- fsync, in the place of the C library's ---- */

static ino_t watched; /* how often this one is synced */
static int times;
static int interrupts; /* so many calls of fsync and fdatasync to come are interrupted */
static int sync_error; /* errno of the others; 0: they work */

static int sync_one(long call, int fd)
{
    struct stat st;
    if (interrupts > 0) {
        interrupts--;
        errno = EINTR;
        return -1;
    }
    if (sync_error) {
        errno = sync_error;
        return -1;
    }
    times += fstat(fd, &st) == 0 && st.st_ino == watched;
    return (int)syscall(call, fd);
}

int fsync(int fd)
{
    return sync_one(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return sync_one(SYS_fdatasync, fd);
}

/* ---- the tests ---- */

struct place {
    char dir[TEMP_DIR_SIZE];
    char inner[TEMP_DIR_SIZE + 16];
};

static void place_make(struct place *p, const char *inner)
{
    struct stat st;
    temp_dir_make(p->dir);
    int n = snprintf(p->inner, sizeof p->inner, "%s/%s", p->dir, inner);
    assert_in_range(n, 1, sizeof p->inner - 1);
    assert_int_equal(stat(p->dir, &st), 0);
    watched = st.st_ino;
    times = interrupts = sync_error = 0;
}

/* The one who made it may have died before it was durable. */
static void a_directory_that_is_there_is_made_durable_too(void **state)
{
    (void)state;
    static const char *const names[] = {"x", "x/", "x//"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct place p;
        place_make(&p, names[i]);
        assert_int_equal(fileio_make_dir(p.inner), OK);
        assert_int_equal(times, 1);
        assert_int_equal(fileio_make_dir(p.inner), OK);
        assert_int_equal(times, 2);
        sync_error = EIO;
        assert_int_equal(fileio_make_dir(p.inner), ERR_IO);
        sync_error = 0;
        temp_dir_remove(p.dir);
    }
}

static void a_spool_and_a_broker_make_theirs_durable(void **state)
{
    (void)state;
    struct place p;
    struct disk disk;
    struct store store;
    place_make(&p, "spool");
    assert_int_equal(mkdir(p.inner, 0700), 0);
    assert_int_equal(disk_open_posix(p.inner, true, &disk), OK);
    disk.ops->finish(disk.ctx);
    assert_int_equal(times, 1);
    temp_dir_remove(p.dir);
    place_make(&p, "data");
    assert_int_equal(mkdir(p.inner, 0700), 0);
    assert_int_equal(store_open_posix(p.inner, &store), OK);
    store_close_posix(&store);
    assert_int_equal(times, 1);
    temp_dir_remove(p.dir);
}

static void what_is_no_directory_or_cannot_be_made_is_said(void **state)
{
    (void)state;
    struct place p;
    place_make(&p, "x/y");
    assert_int_equal(fileio_make_dir(p.inner), ERR_NOT_FOUND);
    assert_int_equal(fileio_sync_parent(p.inner), ERR_NOT_FOUND);
    temp_dir_remove(p.dir);
}

static void an_interrupted_sync_is_done_again(void **state)
{
    (void)state;
    struct place p;
    int fd;
    place_make(&p, "f");
    assert_int_equal(fileio_open_regular(AT_FDCWD, p.inner, O_RDWR | O_CREAT, &fd), OK);
    interrupts = 3;
    assert_int_equal(fileio_sync_data(fd), 0);
    assert_int_equal(interrupts, 0);
    interrupts = 3;
    assert_int_equal(fileio_sync(fd), 0);
    assert_int_equal(interrupts, 0);
    sync_error = ENOSPC;
    assert_int_equal(fileio_sync_data(fd), ENOSPC);
    assert_int_equal(fileio_sync(fd), ENOSPC);
    assert_int_equal(fileio_close(fd), 0);
    assert_int_equal(fileio_close(fd), EBADF);
    temp_dir_remove(p.dir);
}

static void links_and_directories_are_no_files(void **state)
{
    (void)state;
    struct place p;
    int fd = -1;
    place_make(&p, "link");
    assert_int_equal(symlink("/dev/null", p.inner), 0);
    assert_int_equal(fileio_open_regular(AT_FDCWD, p.inner, O_RDONLY, &fd), ERR_INVALID);
    assert_int_equal(fileio_open_regular(AT_FDCWD, p.dir, O_RDONLY, &fd), ERR_INVALID);
    assert_int_equal(fileio_open_regular(AT_FDCWD, "/dev/null", O_RDONLY, &fd), ERR_INVALID);
    assert_int_equal(fd, -1);
    temp_dir_remove(p.dir);
}

static void errors_have_their_names(void **state)
{
    (void)state;
    assert_int_equal(fileio_error(ENOENT), ERR_NOT_FOUND);
    assert_int_equal(fileio_error(ENOTEMPTY), ERR_EXISTS);
    assert_int_equal(fileio_error(EDQUOT), ERR_NO_SPACE);
    assert_int_equal(fileio_error(EFBIG), ERR_NO_SPACE);
    assert_int_equal(fileio_error(EROFS), ERR_DENIED);
    assert_int_equal(fileio_error(ENFILE), ERR_NO_FILES);
    assert_int_equal(fileio_error(ENOMEM), ERR_MEMORY);
    assert_int_equal(fileio_error(EIO), ERR_IO);
    assert_int_equal(fileio_error(0), ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_directory_that_is_there_is_made_durable_too),
        cmocka_unit_test(a_spool_and_a_broker_make_theirs_durable),
        cmocka_unit_test(what_is_no_directory_or_cannot_be_made_is_said),
        cmocka_unit_test(an_interrupted_sync_is_done_again),
        cmocka_unit_test(links_and_directories_are_no_files),
        cmocka_unit_test(errors_have_their_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

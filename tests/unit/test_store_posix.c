/* What only the posix driver has: locks between processes, permissions, limits of the system, and
 * the end of the process. */
#include "base/check.h"
#include "tests/kit/store_dsl.h"
#include "tests/kit/temp_dir.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct fixture {
    char dir[TEMP_DIR_SIZE];      /* holds all of a test */
    char data[TEMP_DIR_SIZE + 8]; /* the data directory */
    struct store store;           /* on it */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    temp_dir_make(f->dir);
    snprintf(f->data, sizeof f->data, "%s/data", f->dir);
    assert_int_equal(store_open_posix(f->data, &f->store), OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    store_close_posix(&f->store);
    temp_dir_remove(f->dir);
    free(f);
    return 0;
}

static int mode_of(const struct fixture *f, const char *path)
{
    char full[600];
    struct stat st;
    snprintf(full, sizeof full, "%s/%s", f->data, path);
    assert_int_equal(stat(full, &st), 0);
    return st.st_mode & 07777;
}

/* Runs `what` in a child and gives its exit status. */
static int in_child(int (*what)(struct fixture *f), struct fixture *f)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGILL, SIG_DFL); /* cmocka's handler would go on with the tests */
        signal(SIGABRT, SIG_DFL);
        int quiet = open("/dev/null", O_WRONLY);
        dup2(quiet, STDERR_FILENO); /* last words are expected */
        _exit(what(f));
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

/* ---- locks */

static int lock_from_another_process(struct fixture *f)
{
    struct store other;
    if (store_open_posix(f->data, &other)) {
        return 99;
    }
    return (int)other.ops->lock(other.ctx, ".lock");
}

static void a_lock_keeps_other_processes_out_until_its_holder_is_gone(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(f->store.ops->lock(f->store.ctx, ".lock"), OK);
    int status = in_child(lock_from_another_process, f);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), ERR_BUSY);
    store_close_posix(&f->store);
    status = in_child(lock_from_another_process, f); /* whose lock goes with it, unclosed */
    assert_int_equal(WEXITSTATUS(status), OK);
    assert_int_equal(store_open_posix(f->data, &f->store), OK);
    assert_int_equal(f->store.ops->lock(f->store.ctx, ".lock"), OK);
}

static void a_lock_keeps_out_a_second_store_of_the_same_process(void **state)
{
    struct fixture *f = *state;
    struct store other;
    assert_int_equal(f->store.ops->lock(f->store.ctx, ".lock"), OK);
    assert_int_equal(store_open_posix(f->data, &other), OK);
    assert_int_equal(other.ops->lock(other.ctx, ".lock"), ERR_BUSY);
    store_close_posix(&other);
    assert_int_equal(f->store.ops->lock(f->store.ctx, ".lock"), ERR_BUSY); /* it is still held */
}

/* ---- permissions and paths */

static void what_is_made_is_for_its_owner_alone(void **state)
{
    struct fixture *f = *state;
    mode_t before = umask(0);
    put_file(&f->store, "a", "x");
    assert_int_equal(f->store.ops->make_dir(f->store.ctx, "d"), OK);
    assert_int_equal(f->store.ops->lock(f->store.ctx, "l"), OK);
    umask(before);
    assert_int_equal(mode_of(f, ""), 0700);
    assert_int_equal(mode_of(f, "a"), 0600);
    assert_int_equal(mode_of(f, "d"), 0700);
    assert_int_equal(mode_of(f, "l"), 0600);
}

static void a_directory_that_others_may_write_into_is_refused(void **state)
{
    struct fixture *f = *state;
    struct store other;
    assert_int_equal(chmod(f->data, 0720), 0);
    assert_int_equal(store_open_posix(f->data, &other), ERR_INVALID);
    assert_int_equal(chmod(f->data, 0702), 0);
    assert_int_equal(store_open_posix(f->data, &other), ERR_INVALID);
    assert_int_equal(chmod(f->data, 0755), 0); /* reading is the owner's choice */
    assert_int_equal(store_open_posix(f->data, &other), OK);
    store_close_posix(&other);
}

static void a_directory_of_another_user_is_refused(void **state)
{
    struct fixture *f = *state;
    struct store other;
    if (chown(f->data, geteuid() + 1, (gid_t)-1)) {
        skip(); /* only root can give a directory away */
    }
    assert_int_equal(store_open_posix(f->data, &other), ERR_INVALID);
    assert_int_equal(chown(f->data, geteuid(), (gid_t)-1), 0);
}

static void a_data_directory_is_made_but_not_its_parents(void **state)
{
    struct fixture *f = *state;
    struct store other;
    char path[TEMP_DIR_SIZE + 32];
    snprintf(path, sizeof path, "%s/a/b", f->dir);
    assert_int_equal(store_open_posix(path, &other), ERR_NOT_FOUND);
    snprintf(path, sizeof path, "%s/with-slashes///", f->dir);
    assert_int_equal(store_open_posix(path, &other), OK);
    store_close_posix(&other);
    put_file(&f->store, "file", "x");
    snprintf(path, sizeof path, "%s/file", f->data);
    assert_int_equal(store_open_posix(path, &other), ERR_EXISTS);
}

static void links_are_not_followed(void **state)
{
    struct fixture *f = *state;
    char path[TEMP_DIR_SIZE + 32];
    snprintf(path, sizeof path, "%s/link", f->data);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_int_equal(open_error(&f->store, "link", STORE_READ), ERR_INVALID);
    assert_int_equal(open_error(&f->store, "link", STORE_CREATE), ERR_INVALID);
    assert_int_equal(f->store.ops->lock(f->store.ctx, "link"), ERR_INVALID);
}

static void a_pipe_is_no_file(void **state)
{
    struct fixture *f = *state;
    char path[TEMP_DIR_SIZE + 32];
    snprintf(path, sizeof path, "%s/pipe", f->data);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(open_error(&f->store, "pipe", STORE_WRITE), ERR_INVALID);
}

static int climb_out(struct fixture *f)
{
    struct store_file *file;
    return (int)f->store.ops->open(f->store.ctx, "d/../../x", STORE_CREATE, &file);
}

static int leave_by_the_root(struct fixture *f)
{
    return (int)f->store.ops->unlink(f->store.ctx, "/etc/passwd-that-is-not-there");
}

static bool died_of_an_invariant(int status)
{
    return WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_INVARIANT);
}

static void a_path_out_of_the_directory_is_a_bug_of_ours(void **state)
{
    assert_true(died_of_an_invariant(in_child(climb_out, *state)));
    assert_true(died_of_an_invariant(in_child(leave_by_the_root, *state)));
}

/* ---- limits */

enum { FILE_LIMIT = 10000, WRITE_SIZE = 8192 };

static void set_limit(int which, rlim_t value, struct rlimit *ret_before)
{
    assert_int_equal(getrlimit(which, ret_before), 0);
    struct rlimit l = {.rlim_cur = value, .rlim_max = ret_before->rlim_max};
    assert_int_equal(setrlimit(which, &l), 0);
}

/* The second write is cut short by the system first, and refused where it goes on. */
static void a_full_device_is_an_error_with_everything_before_it_intact(void **state)
{
    struct fixture *f = *state;
    const struct store_ops *ops = f->store.ops;
    struct store_file *file = open_file(&f->store, "a", STORE_CREATE_NEW);
    char *bytes = malloc(WRITE_SIZE);
    assert_non_null(bytes);
    memset(bytes, 'x', WRITE_SIZE);
    const struct iovec part = {.iov_base = bytes, .iov_len = WRITE_SIZE};
    struct rlimit before;
    signal(SIGXFSZ, SIG_IGN);
    set_limit(RLIMIT_FSIZE, FILE_LIMIT, &before);
    err first = ops->write(f->store.ctx, file, &part, 1, 0);
    err second = ops->write(f->store.ctx, file, &part, 1, WRITE_SIZE);
    err third = ops->truncate(f->store.ctx, file, 2 * FILE_LIMIT);
    int64_t size = 0;
    (void)ops->size(f->store.ctx, file, &size);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(first, OK);
    assert_int_equal(second, ERR_NO_SPACE);
    assert_int_equal(third, ERR_NO_SPACE);
    assert_int_equal(size, FILE_LIMIT);
    size_t n;
    char *back = malloc(WRITE_SIZE);
    assert_int_equal(ops->read(f->store.ctx, file, back, WRITE_SIZE, 0, &n), OK);
    assert_memory_equal(back, bytes, WRITE_SIZE);
    assert_int_equal(ops->write(f->store.ctx, file, &part, 1, WRITE_SIZE), OK); /* room again */
    close_file(&f->store, file);
    free(bytes);
    free(back);
}

static void running_out_of_descriptors_is_an_error_of_its_own(void **state)
{
    struct fixture *f = *state;
    int lowest = dup(STDIN_FILENO); /* the next one would be the limit */
    assert_true(lowest >= 0);
    close(lowest);
    struct rlimit before;
    set_limit(RLIMIT_NOFILE, (rlim_t)lowest, &before);
    err opened = open_error(&f->store, "a", STORE_CREATE);
    err synced = f->store.ops->sync_dir(f->store.ctx, "");
    err listed = f->store.ops->list(f->store.ctx, "", append_name, NULL);
    err locked = f->store.ops->lock(f->store.ctx, ".lock");
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(opened, ERR_NO_FILES);
    assert_int_equal(synced, ERR_NO_FILES);
    assert_int_equal(listed, ERR_NO_FILES);
    assert_int_equal(locked, ERR_NO_FILES);
    assert_int_equal(open_error(&f->store, "a", STORE_CREATE), OK);
}

/* ---- the end of the process: the descriptor is closed behind the driver's back, so that the
 * system refuses it */

static int sync_that_fails(struct fixture *f)
{
    struct store_file *file;
    if (f->store.ops->open(f->store.ctx, "a", STORE_CREATE, &file)) {
        return 99;
    }
    close(f->store.ops->fd(file));
    (void)f->store.ops->sync(f->store.ctx, file);
    return 0;
}

static int close_that_fails(struct fixture *f)
{
    struct store_file *file;
    struct iovec part = {.iov_base = f->data, .iov_len = 1};
    if (f->store.ops->open(f->store.ctx, "a", STORE_CREATE, &file) ||
        f->store.ops->write(f->store.ctx, file, &part, 1, 0)) {
        return 99;
    }
    close(f->store.ops->fd(file));
    f->store.ops->close(f->store.ctx, file);
    return 0;
}

static int close_of_what_was_only_read_that_fails(struct fixture *f)
{
    struct store_file *file;
    if (f->store.ops->open(f->store.ctx, "a", STORE_READ, &file)) {
        return 99;
    }
    close(f->store.ops->fd(file));
    f->store.ops->close(f->store.ctx, file);
    return 0;
}

static void a_failed_sync_or_close_of_a_written_file_ends_the_process(void **state)
{
    int status = in_child(sync_that_fails, *state);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), EXIT_STORAGE);
    status = in_child(close_that_fails, *state);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), EXIT_STORAGE);
    status = in_child(close_of_what_was_only_read_that_fails, *state);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- the cache */

/* Whether the pages go when the system is asked is its business; the answer must be right either
 * way. */
static void what_is_not_in_memory_is_asked_for_again_after_a_read(void **state)
{
    enum { SIZE = 1 << 20 };
    struct fixture *f = *state;
    const struct store_ops *ops = f->store.ops;
    struct store_file *file = open_file(&f->store, "a", STORE_CREATE_NEW);
    char *bytes = malloc(SIZE), *back = calloc(1, SIZE);
    assert_true(bytes && back);
    for (size_t i = 0; i < SIZE; i++) {
        bytes[i] = (char)(i * 31 >> 5);
    }
    const struct iovec part = {.iov_base = bytes, .iov_len = SIZE};
    assert_int_equal(ops->write(f->store.ctx, file, &part, 1, 0), OK);
    assert_int_equal(ops->sync(f->store.ctx, file), OK);
    assert_int_equal(posix_fadvise(ops->fd(file), 4096, SIZE / 2, POSIX_FADV_DONTNEED), 0);
    size_t n = 0;
    err e = ops->read_cached(f->store.ctx, file, back, SIZE, 0, &n);
    assert_true(e == ERR_AGAIN || (e == OK && n == SIZE && memcmp(bytes, back, SIZE) == 0));
    assert_int_equal(ops->read(f->store.ctx, file, back, SIZE, 0, &n), OK);
    assert_int_equal(n, SIZE);
    assert_memory_equal(bytes, back, SIZE);
    close_file(&f->store, file);
    free(bytes);
    free(back);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_lock_keeps_other_processes_out_until_its_holder_is_gone),
        TEST(a_lock_keeps_out_a_second_store_of_the_same_process),
        TEST(what_is_made_is_for_its_owner_alone),
        TEST(a_directory_that_others_may_write_into_is_refused),
        TEST(a_directory_of_another_user_is_refused),
        TEST(a_data_directory_is_made_but_not_its_parents),
        TEST(links_are_not_followed),
        TEST(a_pipe_is_no_file),
        TEST(a_path_out_of_the_directory_is_a_bug_of_ours),
        TEST(a_full_device_is_an_error_with_everything_before_it_intact),
        TEST(running_out_of_descriptors_is_an_error_of_its_own),
        TEST(a_failed_sync_or_close_of_a_written_file_ends_the_process),
        TEST(what_is_not_in_memory_is_asked_for_again_after_a_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

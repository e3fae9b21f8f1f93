/* What system calls may do without failing: be interrupted before they did anything, and do only a
 * part of what was asked. Here every one of them does, of a whole broker in this process, over a
 * life with all kinds of requests and three starts; and nobody notices.
 *
 * The calls are ours: the linker takes a function of this file before the C library's.
 */
#undef _FORTIFY_SOURCE /* its inline functions have the names */
#include "base/check.h"
#include "gen/delete_records.h"
#include "gen/delete_topics.h"
#include "tests/kit/address.h"
#include "tests/kit/local_broker.h"
#include "tests/kit/temp_dir.h"
#include "tests/kit/wire_group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { PLAIN, INTERRUPTED, SHORT };

enum call { OPEN, READ, READ_CACHED, WRITE, FDATASYNC, FSYNC, TRUNCATE, ALLOCATE, CALLS };
static const char *const call_names[CALLS] = {"openat",    "pread", "preadv2",   "pwritev",
                                              "fdatasync", "fsync", "ftruncate", "fallocate"};

static _Atomic(enum mode) mode;
static atomic_ullong counts[CALLS]; /* of calls that were interrupted, or cut short */

/* Every call once; the next is the one that is made again. */
static bool interrupts(enum call call)
{
    static _Thread_local bool again;
    if (atomic_load(&mode) != INTERRUPTED) {
        return false;
    }
    again = !again;
    if (again) {
        atomic_fetch_add(&counts[call], 1);
        errno = EINTR;
    }
    return again;
}

static size_t part_of(enum call call, size_t size)
{
    if (atomic_load(&mode) != SHORT || size < 2) {
        return size;
    }
    atomic_fetch_add(&counts[call], 1);
    return size / 2;
}

/* The system's own. Written as they are, for the kernel's way of taking an offset. */
static long system_call(long number, int fd, long a, long b, long c, long d)
{
    return syscall(number, fd, a, b, c, d, 0L);
}

int openat(int dir, const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t rights = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return interrupts(OPEN) ? -1 : (int)syscall(SYS_openat, dir, path, flags, rights);
}

ssize_t pread(int fd, void *p, size_t size, off_t position)
{
    return interrupts(READ)
               ? -1
               : system_call(SYS_pread64, fd, (long)p, (long)part_of(READ, size), position, 0);
}

/* Only a part of it is in memory: now and then, as it is there when the rest was read. */
ssize_t preadv2(int fd, const struct iovec *parts, int count, off_t position, int flags)
{
    static _Thread_local unsigned n;
    struct iovec one = parts[0];
    check(count == 1);
    one.iov_len = n++ % 5 ? one.iov_len : part_of(READ_CACHED, one.iov_len);
    return interrupts(READ_CACHED)
               ? -1
               : syscall(SYS_preadv2, fd, &one, 1L, (long)position, 0L, (long)flags);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t position)
{
    if (interrupts(WRITE)) {
        return -1;
    }
    struct iovec first = parts[0]; /* of several parts the first one, or half of it */
    size_t size = part_of(WRITE, first.iov_len);
    if (count == 1 && size == first.iov_len) {
        return system_call(SYS_pwritev, fd, (long)parts, count, position, 0);
    }
    first.iov_len = size;
    return atomic_load(&mode) == SHORT
               ? system_call(SYS_pwritev, fd, (long)&first, 1, position, 0)
               : system_call(SYS_pwritev, fd, (long)parts, count, position, 0);
}

int fdatasync(int fd)
{
    return interrupts(FDATASYNC) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    return interrupts(FSYNC) ? -1 : (int)syscall(SYS_fsync, fd);
}

int ftruncate(int fd, off_t size)
{
    return interrupts(TRUNCATE) ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

int fallocate(int fd, int how, off_t position, off_t size)
{
    return interrupts(ALLOCATE) ? -1 : (int)system_call(SYS_fallocate, fd, how, position, size, 0);
}

/* ---- a life */

enum { LARGE = 500000, LARGE_COUNT = 5, SMALL_COUNT = 20 };

static struct wire_client *begin(struct local_broker *b, const char *data)
{
    local_broker_start(b, data, 0, NULL);
    return wire_dial("127.0.0.1", b->port);
}

static void stop(struct local_broker *b, struct wire_client *c)
{
    wire_close(c);
    local_broker_stop(b);
}

static void delete_records(struct wire_client *c, const char *topic, int64_t offset)
{
    struct delete_records_request *q = NEW(c, delete_records_request);
    q->timeout_ms = 60000;
    q->topics = NEW(c, delete_records_request_topic);
    q->topics_count = 1;
    q->topics->name = str_of(topic);
    q->topics->partitions = NEW(c, delete_records_request_partition);
    q->topics->partitions_count = 1;
    q->topics->partitions->offset = offset;
    const struct delete_records_response *a = wire_ask(c, API_DELETE_RECORDS, 2, q);
    assert_code(a->topics->partitions->error_code, KERR_NONE);
}

static void delete_topic(struct wire_client *c, const char *topic)
{
    struct delete_topics_request *q = NEW(c, delete_topics_request);
    q->topics = NEW(c, delete_topics_request_topic);
    q->topics_count = 1;
    q->topics->name = str_of(topic);
    const struct delete_topics_response *a = wire_ask(c, API_DELETE_TOPICS, 6, q);
    assert_code(a->responses->error_code, KERR_NONE);
}

static void write_all(struct wire_client *c)
{
    TOPIC(c, "t", 1, "segment.bytes=1048576");
    TOPIC(c, "u", 3);
    for (int i = 0; i < LARGE_COUNT; i++) {
        assert_int_equal(wire_put_good(c, "t", BATCH(c, .value_size = LARGE)), i);
    }
    for (int i = 0; i < SMALL_COUNT; i++) {
        assert_int_equal(wire_put_good(c, "t", BATCH(c, .count = 1)), LARGE_COUNT + i);
        wire_put_good(c, "u", BATCH(c, .count = 3));
    }
    assert_code(wire_commit(c, (struct commit){.group = "g", .topic = "t", .offset = 7}),
                KERR_NONE);
    delete_records(c, "t", 1);
    delete_topic(c, "u");
}

static void expect_all(struct wire_client *c)
{
    struct wire_records_read r = wire_read(c, "t", 0, 1);
    assert_int_equal(r.count, LARGE_COUNT + SMALL_COUNT - 1);
    assert_int_equal(r.records[0].value.len, LARGE);
    assert_int_equal(r.records[r.count - 1].offset, LARGE_COUNT + SMALL_COUNT - 1);
    assert_int_equal(wire_committed(c, "g", "t", 0), 7);
    assert_code(wire_topic_info(c, "u")->error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    wire_forget(c);
}

/* As after a crash that left nothing but the segments: all of them are walked. */
static void forget_the_stop(const char *data)
{
    static const char *const files[] = {".kafka_cleanshutdown", "recovery-point-offset-checkpoint",
                                        "t-0/00000000000000000000.index"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[TEMP_DIR_SIZE + 64];
        snprintf(path, sizeof path, "%s/%s", data, files[i]);
        assert_int_equal(unlink(path), 0);
    }
}

static void live(enum mode how, const char *name)
{
    char dir[TEMP_DIR_SIZE];
    char data[TEMP_DIR_SIZE + 16];
    struct local_broker b;
    temp_dir_make(dir);
    snprintf(data, sizeof data, "%s/data", dir);
    for (int i = 0; i < CALLS; i++) {
        atomic_store(&counts[i], 0);
    }
    atomic_store(&mode, how);
    struct wire_client *c = begin(&b, data);
    write_all(c);
    expect_all(c);
    stop(&b, c);
    forget_the_stop(data);
    for (int i = 0; i < 2; i++) {
        c = begin(&b, data);
        expect_all(c);
        stop(&b, c);
    }
    atomic_store(&mode, PLAIN);
    temp_dir_remove(dir);
    unsigned long long all = 0;
    for (int i = 0; i < CALLS; i++) {
        all += atomic_load(&counts[i]);
    }
    print_message("%llu calls %s:", all, name);
    for (int i = 0; i < CALLS; i++) {
        print_message(" %s %llu", call_names[i], (unsigned long long)atomic_load(&counts[i]));
    }
    print_message("\n");
}

static void every_system_call_may_be_interrupted(void **state)
{
    (void)state;
    live(INTERRUPTED, "interrupted");
    for (int i = 0; i < CALLS; i++) {
        assert_true(atomic_load(&counts[i]) > 0);
    }
}

static void every_read_and_write_may_do_half_of_it(void **state)
{
    (void)state;
    live(SHORT, "that do half of it");
    assert_true(atomic_load(&counts[READ]) > 0 && atomic_load(&counts[WRITE]) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_system_call_may_be_interrupted),
        cmocka_unit_test(every_read_and_write_may_do_half_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

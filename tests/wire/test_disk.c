/* A disk that is full, or that fails. The data directory is a small file system of its own where
 * the tests may mount one. */
#include "base/check.h"
#include "base/mem.h"
#include "gen/create_partitions.h"
#include "gen/heartbeat.h"
#include "tests/kit/address.h"
#include "tests/kit/logfmt.h"
#include "tests/kit/program.h"
#include "tests/kit/wire_group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { DISK_SIZE = 24 << 20, VALUE_SIZE = 500000 };

struct disk {
    char dir[TEMP_DIR_SIZE];
    char data[TEMP_DIR_SIZE + 16];
    struct program *p; /* NULL: it does not run */
    struct wire_client *c;
};

/* Takes `most` bytes of the disk, or what is left. */
static void take_room(const char *data, int64_t most)
{
    char path[TEMP_DIR_SIZE + 64];
    static const char zeros[65536];
    snprintf(path, sizeof path, "%s/ballast", data);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    check(fd >= 0);
    ssize_t n = 1;
    for (int64_t taken = 0; taken < most && n > 0; taken += n) {
        n = write(fd, zeros, sizeof zeros);
    }
    check(n > 0 || errno == ENOSPC);
    close(fd);
}

static void start(struct disk *k)
{
    const struct program_options o = {
        .name = "rivuletd",
        .arguments = (const char *const[]){"--data", k->data, "--listen", "127.0.0.1:0", "--set",
                                           "rivulet.reserve.bytes=262144", "--set",
                                           "rivulet.reserve.check.ms=10", "--set",
                                           /* a journal fits, and nothing but a full one makes a
                                           checkpoint */
                                           "rivulet.journal.file.bytes=65536", "--set",
                                           "log.flush.offset.checkpoint.interval.ms=3600000", NULL},
    };
    k->p = program_start(&o);
    k->c = wire_dial("127.0.0.1", program_port(k->p, "127.0.0.1"));
}

static int setup(void **state)
{
    static struct disk k;
    k = (struct disk){0};
    temp_dir_make(k.dir);
    snprintf(k.data, sizeof k.data, "%s/data", k.dir);
    check(mkdir(k.data, 0700) == 0);
    if (mount("none", k.data, "tmpfs", 0, "size=24m,mode=700") != 0) {
        print_message("skipped: no right to mount a small disk (%s)\n", strerror(errno));
        temp_dir_remove(k.dir);
        k.dir[0] = 0;
    } else {
        take_room(k.data, 1 << 20); /* make_room gives at least this */
        start(&k);
    }
    *state = &k;
    return 0;
}

static struct disk *disk_of(void **state)
{
    struct disk *k = *state;
    if (!k->dir[0]) {
        skip();
    }
    return k;
}

static int teardown(void **state)
{
    struct disk *k = *state;
    if (k->dir[0]) {
        wire_close(k->c);
        program_destroy(k->p);
        check(umount(k->data) == 0);
        temp_dir_remove(k->dir);
    }
    return 0;
}

static void fill_disk(struct disk *k)
{
    take_room(k->data, INT64_MAX);
}

static void make_room(struct disk *k)
{
    char path[TEMP_DIR_SIZE + 64];
    snprintf(path, sizeof path, "%s/ballast", k->data);
    assert_int_equal(unlink(path), 0);
}

/* Large batches until the disk says no; the count of those that were acknowledged. */
static int64_t put_until_full(struct disk *k, const char *topic)
{
    for (int64_t count = 0; count < 1000; count++) {
        const struct produce_response_partition *a =
            wire_put(k->c, topic, BATCH(k->c, .value_size = VALUE_SIZE));
        if (a->error_code != KERR_NONE) {
            assert_code(a->error_code, KERR_KAFKA_STORAGE_ERROR);
            return count;
        }
        assert_int_equal(a->base_offset, count);
        wire_forget(k->c);
    }
    fail_msg("the disk has no end");
    return 0;
}

static void expect_all_there(struct disk *k, const char *topic, int64_t count)
{
    assert_int_equal(wire_end_offset(k->c, topic, 0), count);
    for (int64_t offset = 0; offset < count; offset++) {
        const struct fetch_response_partition *f = wire_fetch(
            k->c, (struct wire_fetch){
                      .topic = topic, .offset = offset, .min_bytes = 1, .partition_max_bytes = 1});
        assert_code(f->error_code, KERR_NONE);
        struct wire_records_read r = wire_parse(k->c, f->records);
        assert_int_equal(r.count, 1);
        assert_int_equal(r.records[0].offset, offset);
        assert_int_equal(r.records[0].value.len, VALUE_SIZE);
        wire_forget(k->c);
    }
}

static void a_full_disk_refuses_produces_serves_the_rest_and_goes_on_by_itself(void **state)
{
    struct disk *k = disk_of(state);
    TOPIC(k->c, "t", 1);
    int64_t count = put_until_full(k, "t");
    assert_true(count > 10);
    fill_disk(k);
    for (int i = 0; i < 50; i++) {
        assert_code(wire_put(k->c, "t", BATCH(k->c, .value_size = VALUE_SIZE))->error_code,
                    KERR_KAFKA_STORAGE_ERROR);
        wire_forget(k->c);
    }
    program_await(k->p, "event=write_failed");
    expect_all_there(k, "t", count);
    assert_code(wire_topic_info(k->c, "t")->error_code, KERR_NONE);
    struct heartbeat_request *q = NEW(k->c, heartbeat_request);
    q->group_id = STR("nobody's");
    q->member_id = STR("m");
    const struct heartbeat_response *h = wire_ask(k->c, API_HEARTBEAT, 4, q);
    assert_code(h->error_code, KERR_UNKNOWN_MEMBER_ID);
    make_room(k);
    /* As if nothing had been: the next offset is the next. */
    assert_int_equal(wire_put_good(k->c, "t", BATCH(k->c, .value_size = 10000)), count);
    assert_int_equal(kill(k->p->pid, SIGTERM), 0);
    assert_int_equal(program_wait(k->p), 0);
    const char *said =
        strstr(buf_text(&k->p->errors), "event=write_failed"); /* once, not 51 times */
    assert_non_null(said);
    assert_null(strstr(said + 1, "event=write_failed"));
    assert_logfmt(buf_text(&k->p->errors));
}

static void what_was_acknowledged_before_the_disk_was_full_survives_kill_9(void **state)
{
    struct disk *k = disk_of(state);
    TOPIC(k->c, "t", 1);
    int64_t count = put_until_full(k, "t");
    fill_disk(k);
    assert_code(wire_put(k->c, "t", BATCH(k->c, .value_size = VALUE_SIZE))->error_code,
                KERR_KAFKA_STORAGE_ERROR);
    wire_close(k->c);
    program_destroy(k->p); /* kill -9 */
    k->c = NULL;
    k->p = NULL;
    make_room(k);
    start(k);
    expect_all_there(k, "t", count);
    assert_int_equal(wire_put_good(k->c, "t", BATCH(k->c, .value_size = 1000)), count);
}

static void kill_it(struct disk *k)
{
    wire_close(k->c);
    program_destroy(k->p); /* kill -9 */
    k->c = NULL;
    k->p = NULL;
}

static int16_t commit(struct disk *k, int64_t offset)
{
    return wire_commit(k->c, (struct commit){.group = "g", .topic = "t", .offset = offset});
}

static int16_t create_topic(struct disk *k, const char *name, int32_t partitions);

static int16_t add_partition(struct disk *k)
{
    struct create_partitions_request *q = NEW(k->c, create_partitions_request);
    q->topics = NEW(k->c, create_partitions_request_topic);
    q->topics_count = 1;
    q->topics->name = STR("t");
    q->topics->count = 2;
    q->topics->assignments_count = -1;
    const struct create_partitions_response *a = wire_ask(k->c, API_CREATE_PARTITIONS, 3, q);
    return a->results->error_code;
}

/* The reserve gives a start what it needs; what is left of it is for offsets, not for records. */
static void a_start_on_a_full_disk_serves_and_takes_commits_and_nothing_else_till_there_is_room(
    void **state)
{
    struct disk *k = disk_of(state);
    TOPIC(k->c, "t", 1);
    assert_code(commit(k, 1), KERR_NONE);
    int64_t count = put_until_full(k, "t");
    fill_disk(k);
    for (int64_t i = 0; i < 3; i++) {
        kill_it(k);
        start(k); /* again and again, and it stays full */
        program_await(k->p, "event=disk_full");
        expect_all_there(k, "t", count);
        for (int n = 0; n < 3; n++) {
            assert_code(wire_put(k->c, "t", BATCH(k->c, .count = 1))->error_code,
                        KERR_KAFKA_STORAGE_ERROR);
        }
        assert_code(create_topic(k, "u", 1), KERR_KAFKA_STORAGE_ERROR);
        assert_code(add_partition(k), KERR_KAFKA_STORAGE_ERROR);
        assert_int_equal(wire_committed(k->c, "g", "t", 0), 1 + i);
        assert_code(commit(k, 2 + i), KERR_NONE);
        assert_int_equal(wire_committed(k->c, "g", "t", 0), 2 + i);
    }
    make_room(k);
    program_await(k->p, "event=reserve_made");
    assert_int_equal(wire_put_good(k->c, "t", BATCH(k->c, .count = 1)), count);
    assert_code(create_topic(k, "u", 1), KERR_NONE);
    assert_code(add_partition(k), KERR_NONE);
    assert_int_equal(wire_committed(k->c, "g", "t", 0), 4);
    assert_logfmt(buf_text(&k->p->errors));
}

static const char FIRST_SEGMENT[] = "t-0/00000000000000000000.log";

static int64_t segment_size(struct disk *k)
{
    char path[TEMP_DIR_SIZE + 64];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", k->data, FIRST_SEGMENT);
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

static void cut_segment(struct disk *k, int64_t size)
{
    char path[TEMP_DIR_SIZE + 64];
    snprintf(path, sizeof path, "%s/%s", k->data, FIRST_SEGMENT);
    assert_int_equal(truncate(path, size), 0);
}

/* `count` of put_until_full, and behind them small ones. */
static void expect_small_there(struct disk *k, int64_t count, int32_t small)
{
    struct wire_records_read r = wire_read(k->c, "t", 0, count);
    assert_int_equal(r.count, small);
    for (int32_t i = 0; i < small; i++) {
        assert_int_equal(r.records[i].offset, count + i);
        assert_int_equal(r.records[i].value.len, 10 + (size_t)i);
    }
    wire_forget(k->c);
}

static void expect_full_disk_work(struct disk *k, int64_t committed)
{
    program_await(k->p, "event=disk_full");
    assert_code(wire_put(k->c, "t", BATCH(k->c, .count = 1))->error_code, KERR_KAFKA_STORAGE_ERROR);
    assert_int_equal(wire_committed(k->c, "g", "t", 0), committed);
    assert_code(commit(k, committed + 1), KERR_NONE);
}

/* The journal alone has what the segment lost, as after a power cut, and the place where it goes
 * has to come from the reserve. */
static void the_journal_is_replayed_on_a_full_disk(void **state)
{
    enum { SMALL = 11 }; /* no more than a file of the journal takes */
    struct disk *k = disk_of(state);
    TOPIC(k->c, "t", 1);
    assert_code(commit(k, 1), KERR_NONE);
    int64_t count = put_until_full(k, "t");
    make_room(k);
    kill_it(k);
    start(k); /* the journal begins anew; the first append is synced in its segment */
    int64_t size = 0;
    for (int i = 0; i < SMALL; i++) {
        assert_int_equal(wire_put_good(k->c, "t", BATCH(k->c, .value_size = 10 + (size_t)i)),
                         count + i);
        size = i ? size : segment_size(k);
    }
    kill_it(k);
    cut_segment(k, size + 1);
    fill_disk(k);
    start(k);
    program_await(k->p, "event=journal_read");
    expect_small_there(k, count, SMALL);
    expect_full_disk_work(k, 1);
    kill_it(k); /* and once more, with what that start wrote */
    start(k);
    expect_small_there(k, count, SMALL);
    expect_full_disk_work(k, 2);
    assert_int_equal(kill(k->p->pid, SIGTERM), 0);
    assert_int_equal(program_wait(k->p), 0);
    assert_non_null(strstr(buf_text(&k->p->errors), "event=stopped clean=true"));
    kill_it(k);
    start(k);
    expect_small_there(k, count, SMALL);
    expect_full_disk_work(k, 3);
    make_room(k);
    program_await(k->p, "event=reserve_made");
    assert_int_equal(wire_put_good(k->c, "t", BATCH(k->c, .count = 1)), count + SMALL);
    assert_int_equal(wire_committed(k->c, "g", "t", 0), 4);
    assert_logfmt(buf_text(&k->p->errors));
}

/* However many commits come, a start has room behind them. */
static void commits_on_a_full_disk_leave_room_for_the_next_start(void **state)
{
    struct disk *k = disk_of(state);
    TOPIC(k->c, "t", 1);
    assert_code(commit(k, 0), KERR_NONE);
    put_until_full(k, "t");
    fill_disk(k);
    int64_t committed = 0;
    for (int i = 0; i < 3; i++) {
        kill_it(k);
        start(k);
        program_await(k->p, "event=disk_full");
        assert_int_equal(wire_committed(k->c, "g", "t", 0), committed);
        int16_t code = KERR_NONE;
        for (int n = 0; code == KERR_NONE; n++) {
            assert_true(n < 100000);
            code = commit(k, committed + 1);
            committed += code == KERR_NONE;
            wire_forget(k->c);
        }
        assert_code(code, KERR_COORDINATOR_NOT_AVAILABLE); /* what Kafka says of it */
    }
    assert_true(committed > 100);
}

static void a_full_disk_is_left_by_a_clean_stop(void **state)
{
    struct disk *k = disk_of(state);
    TOPIC(k->c, "t", 1);
    int64_t count = put_until_full(k, "t");
    fill_disk(k);
    assert_int_equal(kill(k->p->pid, SIGTERM), 0);
    assert_int_equal(program_wait(k->p), 0);
    assert_non_null(strstr(buf_text(&k->p->errors), "event=stopped clean=true"));
    kill_it(k);
    start(k);
    expect_all_there(k, "t", count);
}

static int16_t create_topic(struct disk *k, const char *name, int32_t partitions)
{
    struct create_topics_request *q = NEW(k->c, create_topics_request);
    q->topics = NEWS(k->c, create_topics_request_topic, 1);
    q->topics_count = 1;
    q->timeout_ms = 60000;
    q->topics[0].name = str_of(name);
    q->topics[0].num_partitions = partitions;
    q->topics[0].replication_factor = -1;
    const struct create_topics_response *a = wire_ask(k->c, API_CREATE_TOPICS, 7, q);
    return a->topics[0].error_code;
}

static void a_topic_that_finds_no_room_is_not_made_and_can_be_made_later(void **state)
{
    struct disk *k = disk_of(state);
    TOPIC(k->c, "before", 1);
    wire_put_good(k->c, "before", BATCH(k->c, .count = 1));
    fill_disk(k);
    for (int i = 0; i < 3; i++) {
        assert_code(create_topic(k, "t", 5), KERR_KAFKA_STORAGE_ERROR);
    }
    assert_code(wire_topic_info(k->c, "t")->error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    assert_int_equal(wire_read(k->c, "before", 0, 0).count, 1);
    make_room(k);
    assert_code(create_topic(k, "t", 5), KERR_NONE);
    for (int32_t p = 0; p < 5; p++) {
        assert_int_equal(wire_end_offset(k->c, "t", p), 0);
    }
    wire_put_good(k->c, "t", BATCH(k->c, .count = 1));
    assert_int_equal(kill(k->p->pid, SIGTERM), 0);
    assert_int_equal(program_wait(k->p), 0);
}

/* With a little room, the topic is in the metadata log, and its logs do not all fit. */
static void a_topic_whose_logs_do_not_all_fit_is_taken_back(void **state)
{
    struct disk *k = disk_of(state);
    char path[TEMP_DIR_SIZE + 64];
    TOPIC(k->c, "before", 1);
    fill_disk(k);
    snprintf(path, sizeof path, "%s/ballast", k->data);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size - 5 * 4096), 0);
    int16_t code = create_topic(k, "t", 50);
    assert_code(code, KERR_KAFKA_STORAGE_ERROR);
    assert_code(wire_topic_info(k->c, "t")->error_code, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    make_room(k);
    assert_code(create_topic(k, "t", 50), KERR_NONE);
    wire_put_good(k->c, "t", BATCH(k->c, .count = 1));
    assert_int_equal(kill(k->p->pid, SIGTERM), 0);
    assert_int_equal(program_wait(k->p), 0);
}

/* ---- a device that fails: the process ends with a code of its own, and nothing was promised */

static void fail_fdatasync(void *ctx)
{
    (void)ctx;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fdatasync, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EIO),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        _exit(126);
    }
}

static void a_failed_sync_ends_the_process_with_74(void **state)
{
    (void)state;
    char dir[TEMP_DIR_SIZE];
    char data[TEMP_DIR_SIZE + 16];
    temp_dir_make(dir);
    snprintf(data, sizeof data, "%s/data", dir);
    const struct program_options o = {
        .name = "rivuletd",
        .arguments = (const char *const[]){"--data", data, "--listen", "127.0.0.1:0", NULL},
        .prepare = fail_fdatasync,
    };
    struct program *p = program_start(&o);
    program_wait(p); /* its first small file is synced already at the start */
    if (p->code == 126) {
        print_message("skipped: no right to filter system calls\n");
        program_destroy(p);
        temp_dir_remove(dir);
        skip();
    }
    assert_int_equal(p->code, 74);
    assert_non_null(strstr(buf_text(&p->errors), "level=fatal event=storage_failed what="));
    assert_non_null(strstr(buf_text(&p->errors), "error=\"Input/output error\""));
    program_destroy(p);
    temp_dir_remove(dir);
}

#define T(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    program_own_mounts();
    const struct CMUnitTest tests[] = {
        T(a_full_disk_refuses_produces_serves_the_rest_and_goes_on_by_itself),
        T(what_was_acknowledged_before_the_disk_was_full_survives_kill_9),
        T(a_start_on_a_full_disk_serves_and_takes_commits_and_nothing_else_till_there_is_room),
        T(the_journal_is_replayed_on_a_full_disk),
        T(commits_on_a_full_disk_leave_room_for_the_next_start),
        T(a_full_disk_is_left_by_a_clean_stop),
        T(a_topic_that_finds_no_room_is_not_made_and_can_be_made_later),
        T(a_topic_whose_logs_do_not_all_fit_is_taken_back),
        cmocka_unit_test(a_failed_sync_ends_the_process_with_74),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

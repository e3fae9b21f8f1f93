/* The offsets topic of the real daemon under many commits: it stays small, a start reads what is
 * left, and every offset is the one committed last, however the daemon ended.
 *
 *     COMMITS=100000 COMMIT_GROUPS=200 ROLL=65536 build/release/tests/wire/test_compact
 */
#include "tests/kit/wire_group.h"
#include "tests/kit/wire_kit.h"

#include "tests/kit/program.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

static long setting(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : otherwise;
}

/* Bytes of the files below a partition's directory of the offsets topic; *ret_left counts names
 * that only a cleaning under way has. */
static int64_t offsets_bytes(const struct daemon *d, int *ret_left)
{
    int64_t bytes = 0;
    *ret_left = 0;
    DIR *data = opendir(d->data);
    assert_non_null(data);
    for (const struct dirent *p; (p = readdir(data));) {
        char path[1024];
        if (strncmp(p->d_name, "__consumer_offsets-", 19) != 0) {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", d->data, p->d_name);
        DIR *dir = opendir(path);
        assert_non_null(dir);
        for (const struct dirent *f; (f = readdir(dir));) {
            struct stat st;
            char file[1400];
            snprintf(file, sizeof file, "%s/%s", path, f->d_name);
            assert_int_equal(stat(file, &st), 0);
            bytes += S_ISREG(st.st_mode) ? st.st_size : 0;
            *ret_left += strstr(f->d_name, ".cleaned") || strstr(f->d_name, ".swap");
        }
        closedir(dir);
    }
    closedir(data);
    return bytes;
}

static long replayed(struct daemon *d, long *ret_ms)
{
    long records = -1;
    for (const char *at = daemon_log(d); (at = strstr(at, "event=groups_loaded"));) {
        at = strstr(at, "records=");
        assert_non_null(at);
        records = strtol(at + 8, NULL, 10);
        at = strstr(at, "ms=");
        assert_non_null(at);
        *ret_ms = strtol(at + 3, NULL, 10);
    }
    return records;
}

static void expect_offsets(struct daemon *d, long commits, long groups)
{
    struct wire_client *c = wire_connect(d);
    for (long g = 0; g < groups; g++) {
        char group[32];
        long last = (commits - 1) / groups * groups + g;
        last = last >= commits ? last - groups : last;
        snprintf(group, sizeof group, "group-%ld", g);
        assert_int_equal(wire_committed(c, group, "orders", 0), last);
    }
    wire_close(c);
}

static void many_commits_leave_a_small_log_and_the_last_offsets(void **state)
{
    (void)state;
    const long commits = setting("COMMITS", 2500);
    const long groups = setting("COMMIT_GROUPS", 5);
    char roll[64];
    snprintf(roll, sizeof roll, "rivulet.log.compact.roll.bytes=%ld", setting("ROLL", 3000));
    const bool is_measure = getenv("COMMITS") != NULL;
    struct daemon *d =
        DAEMON("log.flush.offset.checkpoint.interval.ms=20", roll,
               is_measure ? "offsets.topic.num.partitions=50" : "offsets.topic.num.partitions=2");
    struct wire_client *c = wire_connect(d);
    TOPIC(c, "orders", 1);
    for (long i = 0; i < commits; i++) {
        char group[32];
        snprintf(group, sizeof group, "group-%ld", i % groups);
        assert_code(wire_commit(c, (struct commit){.group = group, .topic = "orders", .offset = i}),
                    KERR_NONE);
    }
    daemon_await_log(d, "event=log_cleaned dir=__consumer_offsets");
    expect_offsets(d, commits, groups);
    wire_close(c);
    daemon_kill(d);
    daemon_start(d);
    expect_offsets(d, commits, groups);
    long ms = -1;
    long killed = replayed(d, &ms);
    int left = 0;
    int64_t bytes = offsets_bytes(d, &left);
    print_message("%ld commits in %ld groups: %lld bytes, after kill -9 %ld records in %ld ms\n",
                  commits, groups, (long long)bytes, killed, ms);
    assert_true(killed > 0 && killed < commits / 2);
    assert_int_equal(left, 0);
    daemon_restart(d);
    expect_offsets(d, commits, groups);
    print_message("after a clean stop %ld records in %ld ms\n", replayed(d, &ms), ms);
    assert_true(bytes < commits * 75); /* a commit takes some 150 */
    daemon_stop(d);
    const char *const dump[] = {"log", "dump", "--records", d->data, NULL};
    struct program *p =
        program_start(&(struct program_options){.name = "rivulet", .arguments = dump});
    assert_int_equal(program_wait(p), 0); /* it finds nothing wrong with gaps */
    program_destroy(p);
    daemon_start(d);
    daemon_destroy(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_commits_leave_a_small_log_and_the_last_offsets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

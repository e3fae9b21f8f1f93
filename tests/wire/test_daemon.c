/* rivuletd as the person meets it who starts, configures and stops it: command line, exit codes,
 * doors, the data directory, signals. */
#include "base/bytes.h"
#include "base/check.h"
#include "base/mem.h"
#include "gen/describe_cluster.h"
#include "gen/find_coordinator.h"
#include "gen/join_group.h"
#include "tests/kit/address.h"
#include "tests/kit/logfmt.h"
#include "tests/kit/proc.h"
#include "tests/kit/program.h"
#include "tests/kit/wire_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct fixture {
    char dir[TEMP_DIR_SIZE];       /* of the test, removed at its end */
    char data[TEMP_DIR_SIZE + 16]; /* "dir/data", not made */
    char path[TEMP_DIR_SIZE + 16]; /* of write_file */
};

static int setup(void **state)
{
    static struct fixture f;
    f = (struct fixture){0};
    temp_dir_make(f.dir);
    snprintf(f.data, sizeof f.data, "%s/data", f.dir);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    temp_dir_remove(f->dir);
    return 0;
}

static const char *write_file(struct fixture *f, const char *name, const char *text)
{
    snprintf(f->path, sizeof f->path, "%s/%s", f->dir, name);
    FILE *file = fopen(f->path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    return f->path;
}

/* It ended with `code`, and said `part` on standard error. */
static void expect_end(struct program *p, int code, const char *part)
{
    if (p->code != code || !strstr(buf_text(&p->errors), part)) {
        fail_msg("exit code %d, standard error \"%s\"", p->code, buf_text(&p->errors));
    }
    program_destroy(p);
}

/* ---- the command line */

static void version_and_help_are_printed(void **state)
{
    (void)state;
    struct program *p = PROGRAM("--version");
    assert_int_equal(p->code, 0);
    assert_int_equal(strncmp(buf_text(&p->out), "rivuletd ", 9), 0);
    assert_string_equal(buf_text(&p->errors), "");
    program_destroy(p);
    p = PROGRAM("--help");
    assert_int_equal(p->code, 0);
    assert_non_null(strstr(buf_text(&p->out), "--listen HOST:PORT"));
    program_destroy(p);
}

static void what_is_wrong_with_the_command_line_ends_it_with_2(void **state)
{
    struct fixture *f = *state;
    expect_end(PROGRAM("--fast"), 2, "rivuletd: unknown argument --fast");
    expect_end(PROGRAM("--set", "x"), 2, "rivuletd: --set x: it must be KEY=VALUE");
    expect_end(PROGRAM("--set", "num.partition=1"), 2, "did you mean num.partitions?");
    expect_end(PROGRAM("--listen", "localhost"), 2, "'localhost' is not HOST:PORT");
    expect_end(PROGRAM("-c", f->data), 2, "cannot be read: not found");
    expect_end(PROGRAM("-c", f->dir), 2, "cannot be read: i/o error");
    assert_int_not_equal(access(f->data, F_OK), 0); /* and nothing was made */
}

static void a_configuration_is_checked_without_a_broker(void **state)
{
    struct fixture *f = *state;
    const char *file = write_file(f, "good", "num.partitions=3\nprocess.roles=broker\n");
    struct program *p = PROGRAM("--check-config", "-c", file, "--data", f->data);
    assert_string_equal(buf_text(&p->out), "the configuration is good\n");
    assert_int_equal(p->code, 0);
    program_destroy(p);
    assert_int_not_equal(access(f->data, F_OK), 0);
    file = write_file(f, "bad", "\nnum.partitions=0\n");
    expect_end(PROGRAM("--check-config", "-c", file), 2, "/bad:2: num.partitions=\"0\"");
}

static void settings_are_printed_with_where_they_came_from(void **state)
{
    struct fixture *f = *state;
    const char *file = write_file(f, "file", "# mine\nnum.partitions=3\n");
    const struct program_options o = {
        .name = "rivuletd",
        .arguments = (const char *const[]){"-c",     file,          "--print-config", "--set",
                                           "log.retention.hours=1", NULL},
        .environment = (const char *const[]){"RIVULET_MAX_CONNECTIONS=9", NULL},
    };
    struct program *p = program_start(&o);
    assert_int_equal(program_wait(p), 0);
    assert_non_null(strstr(buf_text(&p->out), "/file:2\n"));
    assert_non_null(strstr(buf_text(&p->out), "max.connections=9  # environment variable "
                                              "RIVULET_MAX_CONNECTIONS\n"));
    assert_non_null(strstr(buf_text(&p->out), "log.retention.ms=3600000  # --set\n"));
    assert_non_null(strstr(buf_text(&p->out), "node.id=1  # default\n"));
    program_destroy(p);
}

static void full_standard_output(void *ctx)
{
    (void)ctx;
    dup2(open("/dev/full", O_WRONLY), STDOUT_FILENO);
}

static void output_that_cannot_be_written_is_an_error(void **state)
{
    (void)state;
    const struct program_options o = {
        .name = "rivuletd",
        .arguments = (const char *const[]){"--print-config", NULL},
        .prepare = full_standard_output,
    };
    struct program *p = program_start(&o);
    program_wait(p);
    expect_end(p, 1, "rivuletd: standard output: No space left on device");
}

/* ---- doors */

static void expect_endpoint(struct wire_client *c, const char *host, int port)
{
    const struct metadata_response *m = wire_ask(c, API_METADATA, 12, NEW(c, metadata_request));
    assert_int_equal(m->brokers_count, 1);
    assert_str(m->brokers[0].host, host);
    assert_int_equal(m->brokers[0].port, port);
    const struct describe_cluster_response *d =
        wire_ask(c, API_DESCRIBE_CLUSTER, 1, NEW(c, describe_cluster_request));
    assert_int_equal(d->brokers_count, 1);
    assert_str(d->brokers[0].host, host);
    assert_int_equal(d->brokers[0].port, port);
    struct find_coordinator_request *q = NEW(c, find_coordinator_request);
    q->coordinator_keys = wire_room(c, 1, sizeof(struct str));
    q->coordinator_keys[0] = STR("a-group");
    q->coordinator_keys_count = 1;
    const struct find_coordinator_response *a = wire_ask(c, API_FIND_COORDINATOR, 6, q);
    assert_int_equal(a->coordinators_count, 1);
    assert_code(a->coordinators[0].error_code, KERR_NONE);
    assert_str(a->coordinators[0].host, host);
    assert_int_equal(a->coordinators[0].port, port);
}

static struct program *start_broker(const char *data, const char *const *more)
{
    const char *arguments[32] = {"--data", data};
    int count = 2;
    for (; *more; more++) {
        arguments[count++] = *more;
    }
    const struct program_options o = {.name = "rivuletd", .arguments = arguments};
    return program_start(&o);
}
#define BROKER(data, ...) start_broker(data, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static void expect_clean_stop(struct program *p)
{
    assert_int_equal(kill(p->pid, SIGTERM), 0);
    assert_int_equal(program_wait(p), 0);
    assert_logfmt(buf_text(&p->errors));
    expect_end(p, 0, "event=stopped clean=true");
}

static void with_port_0_both_families_get_one_port_and_clients_are_told_what_they_dialled(
    void **state)
{
    struct fixture *f = *state;
    if (!has_ipv6()) {
        print_message("skipped: this machine has no ::1\n");
        skip();
    }
    struct program *p = BROKER(f->data, "--listen", "127.0.0.1:0", "--listen", "[::1]:0");
    uint16_t port = program_port(p, "127.0.0.1");
    assert_int_equal(program_port(p, "[::1]"), port);
    struct wire_client *c = wire_dial("127.0.0.1", port);
    expect_endpoint(c, "127.0.0.1", port);
    wire_close(c);
    c = wire_dial("::1", port);
    expect_endpoint(c, "::1", port);
    wire_close(c);
    assert_null(strstr(buf_text(&p->errors), "event=open_listener"));
    expect_clean_stop(p);
}

static void clients_are_told_what_is_advertised(void **state)
{
    struct fixture *f = *state;
    struct program *p = BROKER(f->data, "--listen", "127.0.0.1:0", "--set",
                               "advertised.listeners=PLAINTEXT://log.example.org:4321");
    struct wire_client *c = wire_dial("127.0.0.1", program_port(p, "127.0.0.1"));
    expect_endpoint(c, "log.example.org", 4321);
    wire_close(c);
    expect_clean_stop(p);
    /* each listener has its own; port 0 is the listener's */
    p = BROKER(f->data, "--set", "listeners=PLAINTEXT://127.0.0.1:0, PLAINTEXT://[::1]:0", "--set",
               "advertised.listeners=PLAINTEXT://a.example.org:0,CONTROLLER://x:1");
    uint16_t port = program_port(p, "127.0.0.1");
    c = wire_dial("127.0.0.1", port);
    expect_endpoint(c, "a.example.org", port);
    wire_close(c);
    program_destroy(p);
}

static void a_door_to_the_world_is_warned_about_once(void **state)
{
    struct fixture *f = *state;
    struct program *p = BROKER(f->data, "--listen", ":0");
    uint16_t port = program_port(p, "0.0.0.0");
    assert_int_equal(
        strncmp(program_await(p, "level=warn event=open_listener addr=\""), "0.0.0.0:", 8), 0);
    struct wire_client *c = wire_dial("127.0.0.1", port);
    expect_endpoint(c, "127.0.0.1", port); /* not 0.0.0.0 */
    wire_close(c);
    const char *first = strstr(buf_text(&p->errors), "event=open_listener");
    assert_null(strstr(first + 1, "event=open_listener"));
    expect_clean_stop(p);
}

static void a_port_in_use_is_named(void **state)
{
    struct fixture *f = *state;
    struct daemon *d = DAEMON();
    char listen[32];
    snprintf(listen, sizeof listen, "127.0.0.1:%u", d->port);
    struct program *p = PROGRAM("--data", f->data, "--listen", listen);
    char line[128];
    snprintf(line, sizeof line,
             "event=listen_failed host=\"127.0.0.1\" port=%u reason=\"the port is "
             "in use\"",
             d->port);
    assert_logfmt(buf_text(&p->errors));
    expect_end(p, 1, line);
    expect_end(PROGRAM("--data", f->data, "--listen", "192.0.2.1:0"), 1,
               "reason=\"no such address on this machine\"");
    expect_end(PROGRAM("--data", f->data, "--listen", "no.such.host.invalid:0"), 1,
               "event=listen_failed host=\"no.such.host.invalid\"");
    daemon_destroy(d);
}

/* ---- the data directory */

static void a_data_directory_has_one_process(void **state)
{
    (void)state;
    struct daemon *d = DAEMON();
    struct program *p = PROGRAM("--data", d->data, "--listen", "127.0.0.1:0");
    assert_null(strstr(buf_text(&p->errors), "event=listening"));
    expect_end(p, 1, "another process uses this data directory");
    daemon_restart(d);
    daemon_destroy(d);
}

static void put_in_data(struct fixture *f, const char *name, const char *text)
{
    char path[64];
    assert_true(mkdir(f->data, 0700) == 0 || errno == EEXIST);
    snprintf(path, sizeof path, "data/%s", name);
    write_file(f, path, text);
}

static void formats_that_are_not_known_are_refused(void **state)
{
    struct fixture *f = *state;
    static const char *const formats[] = {"3\n", "0\n", "", "1", "one\n", "1\n1\n", "-1\n"};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        put_in_data(f, "rivulet.format", formats[i]);
        expect_end(PROGRAM("--data", f->data, "--listen", "127.0.0.1:0"), 1,
                   "file=rivulet.format reason=\"a format that this build does not know");
    }
}

static void another_brokers_directory_is_refused(void **state)
{
    struct fixture *f = *state;
    put_in_data(f, "meta.properties", "version=1\nnode.id=1\ncluster.id=abc\n");
    expect_end(PROGRAM("--data", f->data, "--listen", "127.0.0.1:0"), 1,
               "this is another broker's data directory");
    put_in_data(f, "rivulet.format", "1\n");
    put_in_data(f, "meta.properties", "version=1\nnode.id=2\ncluster.id=abc\n");
    expect_end(PROGRAM("--data", f->data, "--listen", "127.0.0.1:0"), 1,
               "it belongs to node.id=2, and this broker is node.id=1");
    put_in_data(f, "meta.properties", "version=1\n");
    expect_end(PROGRAM("--data", f->data, "--listen", "127.0.0.1:0"), 1,
               "node.id or cluster.id is missing");
    put_in_data(f, "meta.properties", "node.id=1\ncluster.id=abc\n");
    put_in_data(f, "start-number", "many\n");
    expect_end(PROGRAM("--data", f->data, "--listen", "127.0.0.1:0"), 1, "file=start-number");
}

static void another_users_directory_is_refused(void **state)
{
    struct fixture *f = *state;
    const char *data = "/"; /* root's, wherever the tests are not */
    if (geteuid() == 0) {
        assert_int_equal(mkdir(f->data, 0700), 0);
        assert_int_equal(chown(f->data, 4242, (gid_t)-1), 0);
        data = f->data;
    }
    expect_end(PROGRAM("--data", data, "--listen", "127.0.0.1:0"), 1,
               "reason=\"it is another user's, or others may write to it\"");
}

static void what_cannot_be_a_data_directory_is_refused_and_named(void **state)
{
    struct fixture *f = *state;
    char path[TEMP_DIR_SIZE + 64];
    struct program *p =
        PROGRAM("--data", write_file(f, "a \"file\"", ""), "--listen", "127.0.0.1:0");
    assert_logfmt(buf_text(&p->errors));
    expect_end(p, 1, "a \\\"file\\\"\" reason=\"it is not a directory\"");
    snprintf(path, sizeof path, "%s/no/where", f->dir);
    expect_end(PROGRAM("--data", path, "--listen", "127.0.0.1:0"), 1,
               "reason=\"the directory that it would be in is not there\"");
}

/* Root writes everywhere but on a file system that is read-only. */
static bool make_read_only(const char *dir)
{
    return geteuid() ? chmod(dir, 0500) == 0
                     : mount("none", dir, "tmpfs", MS_RDONLY, "size=64k,mode=700") == 0;
}

static void a_read_only_directory_is_refused(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mkdir(f->data, 0700), 0);
    if (!make_read_only(f->data)) {
        print_message("skipped: no right to mount\n");
        skip();
    }
    struct program *p = PROGRAM("--data", f->data, "--listen", "127.0.0.1:0");
    if (geteuid() == 0) {
        assert_int_equal(umount(f->data), 0);
    }
    expect_end(p, 1, "reason=\"not permitted, or a read-only file system\"");
}

static void close_standard_files(void *ctx)
{
    (void)ctx;
    for (int fd = 0; fd < 3; fd++) {
        close(fd);
    }
}

static bool has_text(const char *path, const char *text)
{
    char piece[4096];
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    size_t n = fread(piece, 1, sizeof piece - 1, file);
    piece[n] = 0;
    assert_int_equal(fclose(file), 0);
    return strstr(piece, text) != NULL;
}

/* Descriptor 2 would go to the first file that is opened, and log lines into it. */
static void closed_standard_files_do_not_become_files_of_data(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {".lock", "rivulet.format", "meta.properties",
                                        "start-number"};
    const struct program_options o = {
        .name = "rivuletd",
        .arguments = (const char *const[]){"--data", f->data, "--listen", "192.0.2.1:0", NULL},
        .prepare = close_standard_files,
    };
    struct program *p = program_start(&o);
    assert_int_equal(program_wait(p), 1);
    program_destroy(p);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[TEMP_DIR_SIZE + 64];
        snprintf(path, sizeof path, "%s/%s", f->data, names[i]);
        assert_false(has_text(path, "event="));
    }
}

/* ---- stopping */

static void expect_waiting_fetch_is_answered_by(int number)
{
    struct daemon *d = DAEMON();
    struct wire_client *c = wire_connect(d);
    char mark[DAEMON_DATA_SIZE + 32];
    snprintf(mark, sizeof mark, "%s/.kafka_cleanshutdown", d->data);
    TOPIC(c, "t", 1);
    wire_put_good(c, "t", BATCH(c, .count = 3));
    /* Of two requests in one write, the answer of the first tells that the second was read. */
    struct bytes first = wire_frame(c, API_METADATA, 12, NEW(c, metadata_request));
    int32_t first_id = c->correlation_id;
    struct bytes second = wire_frame(
        c, API_FETCH, 12,
        wire_fetch_request(
            c, &(struct wire_fetch){
                   .topic = "t", .offset = 3, .min_bytes = 1, .max_wait_ms = INT32_MAX}));
    int32_t second_id = c->correlation_id;
    uint8_t *both = wire_room(c, 1, first.len + second.len);
    memcpy(both, first.ptr, first.len);
    memcpy(both + first.len, second.ptr, second.len);
    wire_send(c, both, first.len + second.len);
    wire_answer(c, API_METADATA, 12, first_id);
    assert_int_not_equal(access(mark, F_OK), 0);
    daemon_signal(d, number);
    const struct fetch_response *a = wire_answer(c, API_FETCH, 12, second_id);
    assert_code(a->error_code, KERR_NONE);
    wire_expect_close(c);
    assert_int_equal(daemon_wait(d), 0);
    assert_int_equal(access(mark, F_OK), 0);
    assert_logfmt(daemon_log(d));
    daemon_start(d);
    assert_int_not_equal(access(mark, F_OK), 0); /* gone before anything is written */
    wire_close(c);
    c = wire_connect(d);
    assert_int_equal(wire_end_offset(c, "t", 0), 3);
    wire_close(c);
    daemon_destroy(d);
}

static void sigterm_and_sigint_answer_what_waits_and_leave_the_clean_mark(void **state)
{
    (void)state;
    expect_waiting_fetch_is_answered_by(SIGTERM);
    expect_waiting_fetch_is_answered_by(SIGINT);
}

/* Asks for more than its socket takes, and reads none of it; returns when the answer is under way.
 */
static struct wire_client *stuck_reader(struct daemon *d)
{
    struct wire_client *c = wire_connect(d);
    TOPIC(c, "t", 1);
    for (int i = 0; i < 16; i++) {
        wire_put_good(c, "t", BATCH(c, .value_size = 1000000));
    }
    int32_t id = wire_request(
        c, API_FETCH, 12,
        wire_fetch_request(
            c, &(struct wire_fetch){.topic = "t", .min_bytes = 1, .partition_max_bytes = 1 << 26}));
    (void)id;
    uint8_t byte;
    assert_int_equal(recv(c->fd, &byte, 1, MSG_PEEK), 1);
    return c;
}

static void a_second_signal_ends_it_at_once(void **state)
{
    (void)state;
    struct daemon *d = DAEMON("rivulet.stop.timeout.ms=2147483647");
    struct wire_client *c = stuck_reader(d);
    daemon_signal(d, SIGTERM);
    daemon_await_log(d, "event=stopping");
    daemon_signal(d, SIGTERM);
    assert_int_equal(daemon_wait(d), 1);
    assert_non_null(strstr(daemon_log(d), "event=stopped clean=false"));
    wire_close(c);
    daemon_start(d);
    c = wire_connect(d);
    assert_int_equal(wire_end_offset(c, "t", 0), 16);
    wire_close(c);
    daemon_destroy(d);
}

static void a_stop_does_not_wait_for_ever_for_who_takes_no_answer(void **state)
{
    (void)state;
    struct daemon *d = DAEMON("rivulet.stop.timeout.ms=50");
    struct wire_client *c = stuck_reader(d);
    assert_int_equal(daemon_stop(d), 0);
    assert_non_null(strstr(daemon_log(d), "event=stopped clean=true"));
    wire_close(c);
    daemon_destroy(d);
}

/* ---- reloading */

static int partitions_of_new_topic(struct wire_client *c, const char *name)
{
    struct metadata_request *q = NEW(c, metadata_request);
    q->topics = NEWS(c, metadata_request_topic, 1);
    q->topics_count = 1;
    q->topics[0].name = str_of(name);
    q->allow_auto_topic_creation = true;
    for (;;) {
        const struct metadata_response *m = wire_ask(c, API_METADATA, 12, q);
        if (m->topics[0].error_code == KERR_NONE) {
            return m->topics[0].partitions_count;
        }
        assert_true(m->topics[0].error_code == KERR_LEADER_NOT_AVAILABLE ||
                    m->topics[0].error_code == KERR_UNKNOWN_TOPIC_OR_PARTITION);
    }
}

static void sighup_takes_what_can_change_and_names_what_cannot(void **state)
{
    struct fixture *f = *state;
    const char *file = write_file(f, "file", "num.partitions=2\n");
    const char *const arguments[] = {"-c", file, NULL};
    struct daemon *d = daemon_create(NULL, arguments);
    struct wire_client *c = wire_connect(d);
    assert_int_equal(partitions_of_new_topic(c, "before"), 2);
    write_file(f, "file", "num.partitions=3\nnode.id=7\nlog.retention.check.interval.ms=5\n");
    daemon_signal(d, SIGHUP);
    daemon_await_log(d, "level=info event=configuration_reloaded needs_restart=\"node.id\"");
    assert_int_equal(partitions_of_new_topic(c, "after"), 3);
    /* a bad one is refused whole, and the broker goes on with the one it has */
    write_file(f, "file", "num.partitions=4\nnum.partition=5\n");
    daemon_signal(d, SIGHUP);
    daemon_await_log(d, "level=error event=configuration_refused");
    daemon_await_log(d, "level=warn event=configuration_kept");
    assert_int_equal(partitions_of_new_topic(c, "still"), 3);
    assert_int_equal(unlink(file), 0);
    daemon_signal(d, SIGHUP);
    daemon_await_log(d, "event=configuration_refused");
    daemon_await_log(d, "event=configuration_kept");
    assert_int_equal(partitions_of_new_topic(c, "yet"), 3);
    assert_logfmt(daemon_log(d));
    wire_close(c);
    daemon_destroy(d);
}

static void sighup_changes_the_settings_of_topics_that_have_none_of_their_own(void **state)
{
    struct fixture *f = *state;
    const char *file = write_file(f, "file", "");
    const char *const arguments[] = {"-c", file, NULL};
    struct daemon *d = daemon_create(NULL, arguments);
    struct wire_client *c = wire_connect(d);
    TOPIC(c, "plain", 1);
    TOPIC(c, "own", 1, "max.message.bytes=1000000");
    write_file(f, "file", "message.max.bytes=200\n");
    daemon_signal(d, SIGHUP);
    daemon_await_log(d, "event=configuration_reloaded needs_restart=\"\"");
    assert_code(wire_put(c, "plain", BATCH(c, .value_size = 1000))->error_code,
                KERR_MESSAGE_TOO_LARGE);
    wire_put_good(c, "plain", BATCH(c, .value_size = 10));
    wire_put_good(c, "own", BATCH(c, .value_size = 1000));
    wire_close(c);
    daemon_destroy(d);
}

/* ---- limits of the process */

static void lower_soft_limit(void *ctx)
{
    const struct rlimit *r = ctx;
    setrlimit(RLIMIT_NOFILE, r);
}

static void the_soft_limit_of_open_files_is_raised(void **state)
{
    struct fixture *f = *state;
    struct rlimit r;
    struct rlimit now;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &r), 0);
    if (r.rlim_max <= 256) {
        print_message("skipped: the hard limit is %llu\n", (unsigned long long)r.rlim_max);
        skip();
    }
    r.rlim_cur = 256;
    const struct program_options o = {
        .name = "rivuletd",
        .arguments = (const char *const[]){"--data", f->data, "--listen", "127.0.0.1:0", NULL},
        .prepare = lower_soft_limit,
        .ctx = &r,
    };
    struct program *p = program_start(&o);
    program_port(p, "127.0.0.1");
    assert_int_equal(prlimit(p->pid, RLIMIT_NOFILE, NULL, &now), 0);
    assert_int_equal(now.rlim_cur, r.rlim_max);
    expect_clean_stop(p);
}

/* One record in each, all at once, and they are read back. */
static void use_each_partition(struct wire_client *c, const char *topic, int32_t partitions)
{
    int32_t ids[200];
    assert_true(partitions <= 200);
    for (int32_t p = 0; p < partitions; p++) {
        struct bytes batch = BATCH(c, .count = 1);
        const struct wire_produce q = {.acks = 1, .topic = topic, .partition = p, .records = batch};
        ids[p] = wire_request(c, API_PRODUCE, 9, wire_produce_request(c, &q));
    }
    for (int32_t p = 0; p < partitions; p++) {
        const struct produce_response *a = wire_answer(c, API_PRODUCE, 9, ids[p]);
        assert_code(a->topics->partitions->error_code, KERR_NONE);
    }
    for (int32_t p = 0; p < partitions; p++) {
        const struct wire_fetch q = {
            .topic = topic, .partition = p, .min_bytes = 1, .max_wait_ms = 60000};
        assert_int_equal(wire_parse(c, wire_fetch(c, q)->records).count, 1);
    }
}

static void with_few_files_more_partitions_than_files_are_served(void **state)
{
    struct fixture *f = *state;
    struct rlimit r = {.rlim_cur = 120, .rlim_max = 120};
    const struct program_options o = {
        .name = "rivuletd",
        .arguments = (const char *const[]){"--data", f->data, "--listen", "127.0.0.1:0", NULL},
        .prepare = lower_soft_limit,
        .ctx = &r,
    };
    struct program *p = program_start(&o);
    uint16_t port = program_port(p, "127.0.0.1");
    struct wire_client *c = wire_dial("127.0.0.1", port);
    TOPIC(c, "t", 120);
    use_each_partition(c, "t", 120);
    struct wire_client *more[10];
    for (int i = 0; i < 10; i++) { /* and their files leave room for connections */
        more[i] = wire_dial("127.0.0.1", port);
        expect_endpoint(more[i], "127.0.0.1", port);
    }
    for (int i = 0; i < 10; i++) {
        wire_close(more[i]);
    }
    assert_non_null(strstr(buf_text(&p->errors), "level=warn event=few_files limit=120"));
    assert_null(strstr(buf_text(&p->errors), "connections_refused"));
    wire_close(c);
    expect_clean_stop(p);
}

/* Nothing wakes a broker up that has nothing to do, not even with connections and data. */
static void an_idle_broker_does_not_wake_up(void **state)
{
    (void)state;
#ifdef __SANITIZE_THREAD__
    print_message("skipped: the thread sanitizer has a thread that wakes up\n");
    skip();
#endif
    struct daemon *d = DAEMON();
    struct wire_client *c = wire_connect(d);
    TOPIC(c, "t", 1);
    wire_put_good(c, "t", BATCH(c, .count = 1));
    wire_request(c, API_FETCH, 12,
                 wire_fetch_request(
                     c, &(struct wire_fetch){
                            .topic = "t", .offset = 1, .min_bytes = 1, .max_wait_ms = INT32_MAX}));
    /* What it was asked for comes to its end; from then on it sleeps. */
    int64_t before = -1;
    int quiet = 0;
    for (int looks = 0; quiet < 10; looks++) {
        const struct timespec pause = {.tv_nsec = 100000000};
        int64_t now = proc_switches(d->pid);
        quiet = now == before ? quiet + 1 : 0;
        before = now;
        if (looks == 200) {
            fail_msg("it never sleeps for a second");
        }
        nanosleep(&pause, NULL); /* this is what is looked at */
    }
    wire_close(c);
    daemon_destroy(d);
}

static void an_allocation_below_every_limit_that_fails_ends_it_with_71(void **state)
{
    (void)state;
    enum { FRAME = 64 << 20, ROOM = 16 << 20 };
    if (!proc_memory_counts()) {
        print_message("skipped: sanitizers take all address space there is\n");
        skip();
    }
    struct daemon *d = DAEMON("rivulet.request.other.max.bytes=104857600");
    struct wire_client *c = wire_connect(d);
    rlim_t size = (rlim_t)proc_address_space_bytes(d->pid) + ROOM;
    const struct rlimit tight = {.rlim_cur = size, .rlim_max = size};
    assert_int_equal(prlimit(d->pid, RLIMIT_AS, &tight, NULL), 0);
    uint8_t *frame = mem_need_zero(1, FRAME);
    put_be32(frame, FRAME - 4);
    (void)wire_try_send(c, frame, FRAME);
    mem_free(frame);
    assert_int_equal(daemon_wait(d), 71);
    assert_non_null(strstr(daemon_log(d), "level=fatal event=out_of_memory size="));
    wire_close(c);
    daemon_destroy(d);
}

/* ---- what is logged */

static void data_from_outside_is_escaped_in_log_lines(void **state)
{
    (void)state;
    static const char evil[] = "g\"\n level=fatal event=forged x=\x1b[2J\xff\\";
    struct daemon *d = DAEMON("rivulet.group.member.max.bytes=1");
    struct wire_client *c = wire_connect(d);
    static const char name[] = "evil\"\n level=fatal event=forged";
    c->client_id = (struct str){.ptr = name, .len = sizeof name - 1};
    struct join_group_request *q = NEW(c, join_group_request);
    q->group_id = (struct str){.ptr = evil, .len = 32}; /* UTF-8 ends before \xff */
    q->session_timeout_ms = 10000;
    q->rebalance_timeout_ms = 10000;
    q->protocol_type = STR("consumer");
    q->protocols = NEWS(c, join_group_request_protocol, 1);
    q->protocols_count = 1;
    q->protocols[0].name = STR("range");
    q->protocols[0].metadata = (struct bytes){.ptr = (const uint8_t *)"xxxx", .len = 4};
    wire_ask(c, API_JOIN_GROUP, 3, q);
    daemon_await_log(d, "event=join_refused");
    assert_non_null(strstr(daemon_log(d), "group=\"g\\\"\\n level=fatal"));
    wire_send(c, "\x7f\xff\xff\xff", 4); /* and a line about the connection */
    wire_expect_close(c);
    daemon_await_log(d, "event=connection_closed");
    assert_logfmt(daemon_log(d));
    assert_null(strstr(daemon_log(d), "\nlevel="));
    assert_null(strstr(daemon_log(d), "\n level="));
    wire_close(c);
    daemon_destroy(d);
}

static void ignored_settings_are_listed_once_at_start(void **state)
{
    (void)state;
    struct daemon *d = DAEMON("process.roles=broker", "num.io.threads=8");
    const char *line = strstr(daemon_log(d), "level=info event=settings_ignored");
    assert_non_null(line);
    assert_non_null(strstr(line, "names=\"process.roles, num.io.threads\""));
    assert_null(strstr(strchr(line, '\n'), "settings_ignored"));
    daemon_destroy(d);
}

static void below_its_level_nothing_is_logged(void **state)
{
    struct fixture *f = *state;
    struct program *p =
        PROGRAM("--data", f->data, "--listen", "192.0.2.1:0", "--set", "rivulet.log.level=error");
    assert_int_equal(strncmp(buf_text(&p->errors), "ts=", 3), 0);
    assert_null(strstr(buf_text(&p->errors), "level=info"));
    expect_end(p, 1, "level=error event=listen_failed");
}

#define T(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    program_own_mounts();
    const struct CMUnitTest tests[] = {
        T(version_and_help_are_printed),
        T(what_is_wrong_with_the_command_line_ends_it_with_2),
        T(a_configuration_is_checked_without_a_broker),
        T(settings_are_printed_with_where_they_came_from),
        T(output_that_cannot_be_written_is_an_error),
        T(with_port_0_both_families_get_one_port_and_clients_are_told_what_they_dialled),
        T(clients_are_told_what_is_advertised),
        T(a_door_to_the_world_is_warned_about_once),
        T(a_port_in_use_is_named),
        T(a_data_directory_has_one_process),
        T(formats_that_are_not_known_are_refused),
        T(another_brokers_directory_is_refused),
        T(another_users_directory_is_refused),
        T(what_cannot_be_a_data_directory_is_refused_and_named),
        T(a_read_only_directory_is_refused),
        T(closed_standard_files_do_not_become_files_of_data),
        T(sigterm_and_sigint_answer_what_waits_and_leave_the_clean_mark),
        T(a_second_signal_ends_it_at_once),
        T(a_stop_does_not_wait_for_ever_for_who_takes_no_answer),
        T(sighup_takes_what_can_change_and_names_what_cannot),
        T(sighup_changes_the_settings_of_topics_that_have_none_of_their_own),
        T(the_soft_limit_of_open_files_is_raised),
        T(with_few_files_more_partitions_than_files_are_served),
        T(an_idle_broker_does_not_wake_up),
        T(an_allocation_below_every_limit_that_fails_ends_it_with_71),
        T(data_from_outside_is_escaped_in_log_lines),
        T(ignored_settings_are_listed_once_at_start),
        T(below_its_level_nothing_is_logged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Very many connections, and requests that ask for everything: what they cost is bounded, and every
 * request of a client that behaves is answered meanwhile. */
#include "base/bytes.h"
#include "base/check.h"
#include "base/mem.h"
#include "gen/api_versions.h"
#include "gen/list_offsets.h"
#include "tests/kit/logfmt.h"
#include "tests/kit/proc.h"
#include "tests/kit/program.h"
#include "tests/kit/wire_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    MIB = 1 << 20,
    MANY = 10000,        /* connections, if the limit of open files has room for them */
    FILES_BESIDE = 6000, /* of the daemon, for segments and itself */
    IDLE_MAX = 8192,     /* bytes of the daemon for each idle connection */
    RSS_SLACK = 12 * MIB,
    BURST = 100,
    INDEX_FILES = 4, /* of the log, opened meanwhile */
};

static int many(void)
{
    struct rlimit r;
    check(getrlimit(RLIMIT_NOFILE, &r) == 0);
    r.rlim_cur = r.rlim_max;
    check(setrlimit(RLIMIT_NOFILE, &r) == 0);
    int64_t room = r.rlim_cur > 1 << 20 ? 1 << 20 : (int64_t)r.rlim_cur;
    room = room - FILES_BESIDE;
    if (room < MANY) {
        print_message("%lld connections: ulimit -n is %lld\n", (long long)(room > 100 ? room : 100),
                      (long long)r.rlim_cur);
    }
    return room > MANY ? MANY : room > 100 ? (int)room : 100;
}

/* ---- the client that behaves */

struct good {
    struct daemon *d;
    struct wire_client *c;
    int64_t next;
    int answers;
};

static struct good good_create(struct daemon *d)
{
    struct good g = {.d = d, .c = wire_connect(d)};
    TOPIC(g.c, "good", 1);
    return g;
}

static void good_works(struct good *g)
{
    assert_code(wire_topic_info(g->c, "good")->error_code, KERR_NONE);
    assert_int_equal(wire_put_good(g->c, "good", BATCH(g->c, .count = 1)), g->next);
    assert_int_equal(wire_read(g->c, "good", 0, g->next).count, 1);
    g->next++;
    g->answers += 3;
    wire_forget(g->c);
}

static void good_ends(struct good *g)
{
    good_works(g);
    print_message("%d answers meanwhile\n", g->answers);
    wire_close(g->c);
    assert_logfmt(daemon_log(g->d));
    daemon_destroy(g->d);
}

/* ---- raw connections: a wire_client each would cost more than the daemon's side */

static int dial(const struct daemon *d)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons(d->port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    check(fd >= 0);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0 &&
        errno != EINPROGRESS && errno != EAGAIN) {
        fail_msg("connect: %s", strerror(errno));
    }
    return fd;
}

static void await(int fd, short what)
{
    struct pollfd p = {.fd = fd, .events = what};
    int n = poll(&p, 1, WIRE_LIMIT_S * 1000);
    if (n != 1) {
        fail_msg("a connection is not served");
    }
}

static struct bytes greeting(struct wire_client *c)
{
    return wire_frame(c, API_API_VERSIONS, 3, NEW(c, api_versions_request));
}

/* Asked, answered, and idle from then on. */
static void use_once(int fd, struct bytes frame)
{
    uint8_t answer[4096];
    size_t have = 0;
    await(fd, POLLOUT);
    assert_int_equal(send(fd, frame.ptr, frame.len, MSG_NOSIGNAL), frame.len);
    do {
        await(fd, POLLIN);
        ssize_t n = recv(fd, answer + have, sizeof answer - have, 0);
        if (n <= 0) {
            fail_msg("no answer: %s", n ? strerror(errno) : "closed");
        }
        have += (size_t)n;
    } while (have < 4 || have < 4 + get_be32(answer));
}

static void await_connections_gone(const struct daemon *d, int most)
{
    struct timespec pause = {.tv_nsec = 2000000};
    for (int i = 0; proc_open_files(d->pid) > most; i++) {
        if (i > 20000) {
            fail_msg("%d files are open, and %d were", proc_open_files(d->pid), most);
        }
        nanosleep(&pause, NULL); /* between two looks */
    }
}

static void idle_connections_cost_little_and_others_are_served(void **state)
{
    (void)state;
    int count = many();
    struct good g = good_create(DAEMON());
    int *fds = mem_need((size_t)count * sizeof *fds);
    good_works(&g);
    int files = proc_open_files(g.d->pid);
    int64_t before = proc_rss_bytes(g.d->pid);
    for (int i = 0; i < count; i++) {
        fds[i] = dial(g.d);
        use_once(fds[i], greeting(g.c));
        if (i % 500 == 0) {
            good_works(&g);
        }
        wire_forget(g.c);
    }
    assert_true(proc_open_files(g.d->pid) >= files + count);
    int64_t each = (proc_rss_bytes(g.d->pid) - before) / count;
    print_message("%d idle connections: %lld bytes each\n", count, (long long)each);
    assert_true(!proc_memory_counts() || each < IDLE_MAX);
    for (int i = 0; i < 20; i++) {
        good_works(&g);
    }
    for (int i = 0; i < count; i++) {
        close(fds[i]);
    }
    await_connections_gone(g.d, files + INDEX_FILES);
    mem_free(fds);
    good_ends(&g);
}

/* In bursts larger than a turn accepts; a third say nothing, a third half of a request and hang up
 * their side, a third reset. */
static void a_storm_of_connections_leaves_nothing_and_others_are_served(void **state)
{
    (void)state;
    struct good g = good_create(DAEMON());
    good_works(&g);
    int files = proc_open_files(g.d->pid);
    int64_t before = proc_rss_bytes(g.d->pid);
    for (int done = 0; done < MANY; done += BURST) {
        int fds[BURST];
        for (int i = 0; i < BURST; i++) {
            fds[i] = dial(g.d);
        }
        for (int i = 0; i < BURST; i++) {
            await(fds[i], POLLOUT);
            if (i % 3 == 1) {
                assert_int_equal(send(fds[i], "\0\0\1\0\0\3", 6, MSG_NOSIGNAL), 6);
                shutdown(fds[i], SHUT_WR);
            } else if (i % 3 == 2) {
                const struct linger reset = {.l_onoff = 1};
                check(setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &reset, sizeof reset) == 0);
            }
        }
        good_works(&g);
        for (int i = 0; i < BURST; i++) {
            close(fds[i]);
        }
    }
    await_connections_gone(g.d, files + INDEX_FILES);
    int64_t more = proc_rss_bytes(g.d->pid) - before;
    print_message("%lld KiB more after %d connections\n", (long long)more / 1024, MANY);
    assert_true(!proc_memory_counts() || more < RSS_SLACK);
    good_ends(&g);
}

static void lower_limit(void *ctx)
{
    if (setrlimit(RLIMIT_NOFILE, ctx) != 0) {
        _exit(126);
    }
}

/* As many as come: those beyond what descriptors allow are closed, and there are descriptors left
 * for the files of new topics. */
static void with_all_connections_taken_files_can_still_be_opened(void **state)
{
    (void)state;
    enum { COME = 400, NEW_TOPICS = 5 };
    char dir[TEMP_DIR_SIZE];
    char data[TEMP_DIR_SIZE + 16];
    int fds[COME];
    struct rlimit limit = {.rlim_cur = 300, .rlim_max = 300};
    temp_dir_make(dir);
    snprintf(data, sizeof data, "%s/data", dir);
    const struct program_options o = {
        .name = "rivuletd",
        .arguments = (const char *const[]){"--data", data, "--listen", "127.0.0.1:0", NULL},
        .prepare = lower_limit,
        .ctx = &limit,
    };
    struct program *p = program_start(&o);
    const struct daemon d = {.pid = p->pid, .port = program_port(p, "127.0.0.1")};
    struct wire_client *c = wire_connect(&d);
    TOPIC(c, "first", 1);
    for (int i = 0; i < COME; i++) {
        fds[i] = dial(&d);
    }
    int refused = 0;
    for (int i = COME - 1; i >= COME - 100; i--) { /* the last that came */
        uint8_t byte;
        await(fds[i], POLLIN);
        refused += recv(fds[i], &byte, 1, 0) <= 0;
    }
    assert_int_equal(refused, 100);
    for (int i = 0; i < NEW_TOPICS; i++) {
        struct str name = wire_text(c, "new-%d", i);
        TOPIC(c, name.ptr, 20);
        for (int32_t n = 0; n < 20; n++) {
            const struct wire_produce q = {
                .acks = -1, .topic = name.ptr, .partition = n, .records = BATCH(c, .count = 1)};
            assert_code(wire_produce(c, q)->error_code, KERR_NONE);
            assert_int_equal(wire_read(c, name.ptr, n, 0).count, 1);
        }
    }
    for (int i = 0; i < COME; i++) {
        close(fds[i]);
    }
    wire_close(c);
    assert_int_equal(kill(p->pid, SIGTERM), 0);
    assert_int_equal(program_wait(p), 0);
    assert_non_null(strstr(buf_text(&p->errors), "event=connections_refused"));
    program_destroy(p);
    temp_dir_remove(dir);
}

/* ---- everything at once */

enum { PARTITIONS = 500, ENTRIES = 10000, ASKERS = 16 };

static struct bytes ask_all(struct wire_client *c)
{
    struct metadata_request *q = NEW(c, metadata_request);
    q->topics_count = -1;
    return wire_frame(c, API_METADATA, 12, q);
}

static struct bytes fetch_all(struct wire_client *c)
{
    struct fetch_request *q = NEW(c, fetch_request);
    q->replica_id = -1;
    q->max_bytes = 50 * MIB;
    q->session_epoch = -1;
    q->topics = NEWS(c, fetch_request_topic, 1);
    q->topics_count = 1;
    q->topics[0].topic = STR("wide");
    q->topics[0].partitions = NEWS(c, fetch_request_partition, ENTRIES);
    q->topics[0].partitions_count = ENTRIES;
    for (int32_t i = 0; i < ENTRIES; i++) {
        struct fetch_request_partition *p = &q->topics[0].partitions[i];
        p->partition = i % PARTITIONS;
        p->current_leader_epoch = -1;
        p->last_fetched_epoch = -1;
        p->log_start_offset = -1;
        p->partition_max_bytes = MIB;
    }
    return wire_frame(c, API_FETCH, 12, q);
}

static struct bytes list_all(struct wire_client *c)
{
    struct list_offsets_request *q = NEW(c, list_offsets_request);
    q->replica_id = -1;
    q->topics = NEWS(c, list_offsets_request_topic, 1);
    q->topics_count = 1;
    q->topics[0].name = STR("wide");
    q->topics[0].partitions = NEWS(c, list_offsets_request_partition, ENTRIES);
    q->topics[0].partitions_count = ENTRIES;
    for (int32_t i = 0; i < ENTRIES; i++) {
        struct list_offsets_request_partition *p = &q->topics[0].partitions[i];
        p->partition_index = i % PARTITIONS;
        p->current_leader_epoch = -1;
        p->timestamp = i % 2 ? -1 : 1;
    }
    return wire_frame(c, API_LIST_OFFSETS, 7, q);
}

/* 16 clients ask for 10,000 partitions in a request (each of 500 several times), four times each
 * before they read. */
static void requests_for_every_partition_stay_within_the_memory(void **state)
{
    (void)state;
    enum { BUDGET = 64 * MIB, TIMES = 4 };
    static struct bytes (*const asks[])(struct wire_client * c) = {ask_all, fetch_all, list_all};
    static const int16_t keys[] = {API_METADATA, API_FETCH, API_LIST_OFFSETS};
    static const int16_t versions[] = {12, 12, 7};
    struct good g =
        good_create(DAEMON("rivulet.memory.max.bytes=67108864", "socket.request.max.bytes=16777216",
                           "rivulet.request.memory.max.bytes=16777216"));
    TOPIC(g.c, "wide", PARTITIONS);
    good_works(&g);
    int64_t before = proc_rss_bytes(g.d->pid);
    for (int kind = 0; kind < 3; kind++) {
        struct wire_client *c[ASKERS];
        int32_t first[ASKERS];
        for (int i = 0; i < ASKERS; i++) {
            c[i] = wire_connect(g.d);
            first[i] = c[i]->correlation_id + 1;
            for (int n = 0; n < TIMES; n++) {
                struct bytes frame = asks[kind](c[i]);
                wire_send(c[i], frame.ptr, frame.len);
            }
            good_works(&g);
        }
        for (int i = 0; i < ASKERS; i++) {
            for (int n = 0; n < TIMES; n++) {
                wire_answer(c[i], keys[kind], versions[kind], first[i] + n);
            }
            good_works(&g);
            wire_close(c[i]);
        }
    }
    int64_t more = proc_rss_bytes(g.d->pid) - before;
    print_message("%lld KiB more\n", (long long)more / 1024);
    assert_true(!proc_memory_counts() || more < BUDGET + RSS_SLACK);
    good_ends(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_connections_cost_little_and_others_are_served),
        cmocka_unit_test(a_storm_of_connections_leaves_nothing_and_others_are_served),
        cmocka_unit_test(with_all_connections_taken_files_can_still_be_opened),
        cmocka_unit_test(requests_for_every_partition_stay_within_the_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

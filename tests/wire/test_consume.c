/* rivulet consume against the real daemon: what it prints, where it begins and ends, what it
 * commits, its exit codes. */
#include "base/clock.h"
#include "tests/kit/daemon.h"
#include "tests/kit/feed.h"
#include "tests/kit/program.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATIENCE_MS = 60000, ARGUMENTS_MAX = 24 };

struct scene {
    struct daemon *daemon;
    struct rv_client *client;
    char brokers[32];
    struct rv_error error;
};

static void scene_open(struct scene *s)
{
    s->daemon = DAEMON("group.min.session.timeout.ms=100");
    snprintf(s->brokers, sizeof s->brokers, "127.0.0.1:%d", (int)s->daemon->port);
    assert_int_equal(
        rv_client_open(RV_OPTIONS({"bootstrap.servers", s->brokers}), &s->client, &s->error),
        RV_OK);
    assert_int_equal(rv_topic_create(s->client, "t", 1, NULL, PATIENCE_MS, &s->error), RV_OK);
}

static void scene_close(struct scene *s)
{
    rv_client_close(s->client);
    daemon_destroy(s->daemon);
}

/* rivulet consume t -b ... and these. */
static struct program *consume_start(const struct scene *s, const char *const *more)
{
    const char *arguments[ARGUMENTS_MAX] = {"consume", "t", "-b", s->brokers};
    int n = 4;
    for (; *more; more++) {
        arguments[n++] = *more;
    }
    const struct program_options o = {.name = "rivulet", .arguments = arguments};
    return program_start(&o);
}

#define START(s, ...) consume_start(s, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static void expect(struct program *p, int code, const char *out)
{
    if (program_wait(p) != code || (out && strcmp(buf_text(&p->out), out) != 0)) {
        fail_msg("exit code %d, expected %d\n%s%s", p->code, code, buf_text(&p->out),
                 buf_text(&p->errors));
    }
    program_destroy(p);
}

#define EXPECT(s, out, ...) expect(START(s, __VA_ARGS__), 0, out)

/* Lines of a program's output, which are the numbers 0 .. count - 1 in order. */
static int lines_in_order(const char *text)
{
    int n = 0;
    for (; *text; n++) {
        char *end;
        assert_int_equal(strtol(text, &end, 10), n);
        assert_int_equal(*end, '\n');
        text = end + 1;
    }
    return n;
}

static int64_t committed(struct scene *s, const char *group, size_t *ret_members)
{
    struct rv_group *g;
    int64_t offset = -1;
    assert_int_equal(rv_group_describe(s->client, group, PATIENCE_MS, &g, &s->error), RV_OK);
    for (size_t i = 0; i < g->partition_count; i++) {
        offset = g->partitions[i].committed_offset;
    }
    *ret_members = g->member_count;
    rv_free(g);
    return offset;
}

static void await_committed(struct scene *s, const char *group, int64_t offset)
{
    size_t members;
    int64_t until = clock_mono_ms(&clock_real) + PATIENCE_MS;
    while (committed(s, group, &members) < offset) {
        assert_true(clock_mono_ms(&clock_real) < until);
        rv_wait(s->client, 20, &s->error);
    }
}

/* ---- output ---- */

static void values_and_keys_are_printed_a_line_each(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s);
    const struct feed_record records[] = {
        {.key = "ada", .value = "1" },
        {.key = NULL,  .value = "2" },
        {.key = "bob", .value = NULL},
    };
    feed(s.client, "t", 0, CODEC_LZ4, records, 3);
    EXPECT(&s, "1\n2\n\n", "--until", "end");
    EXPECT(&s, "ada:1\n:2\nbob:\n", "--until", "end", "-k", ":");
    scene_close(&s);
}

static void json_is_one_whole_object_a_line(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s);
    const struct record_header headers[] = {
        {STR("h"), {(const uint8_t *)"v", 1}       },
        {STR("h"), {NULL, 0}                       },
        {STR(""),  {(const uint8_t *)"\xff\xfe", 2}},
    };
    const struct feed_record records[] = {
        {.key = "\xc3\xa4",
         .value = "a \"quoted\"\nline",
         .timestamp_ms = 1700000000123,
         .headers = headers,
         .header_count = 3},
        {.key = NULL,              .value = NULL,              .timestamp_ms = 1700000000124                        },
        {.key = "", .value = "\x80",.timestamp_ms = 1700000000125},
    };
    feed(s.client, "t", 0, CODEC_NONE, records, 3);
    EXPECT(&s,
           "{\"topic\":\"t\",\"partition\":0,\"offset\":0,\"timestamp_ms\":1700000000123,"
           "\"key\":\"\xc3\xa4\",\"value\":\"a \\\"quoted\\\"\\nline\","
           "\"headers\":[[\"h\",\"v\"],[\"h\",null],[\"\",{\"base64\":\"//4=\"}]]}\n"
           "{\"topic\":\"t\",\"partition\":0,\"offset\":1,\"timestamp_ms\":1700000000124,"
           "\"key\":null,\"value\":null,\"headers\":[]}\n"
           "{\"topic\":\"t\",\"partition\":0,\"offset\":2,\"timestamp_ms\":1700000000125,"
           "\"key\":\"\",\"value\":{\"base64\":\"gA==\"},\"headers\":[]}\n",
           "--until", "end", "--json");
    scene_close(&s);
}

/* ---- where it begins and ends ---- */

static void it_begins_and_ends_where_it_is_told(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s);
    EXPECT(&s, "", "--until", "end"); /* an empty topic has ended */
    feed_numbers(s.client, "t", 0, CODEC_ZSTD, 0, 10);
    EXPECT(&s, "0\n1\n2\n", "-n", "3");
    EXPECT(&s, "", "-n", "0");
    EXPECT(&s, "7\n8\n9\n", "-o", "7", "--until", "end");
    EXPECT(&s, "5\n6\n", "-o", "@1000005", "-n", "2");
    EXPECT(&s, "5\n6\n", "-o", "@1970-01-01T00:16:40.005Z", "-n", "2");
    EXPECT(&s, "", "-o", "@-1m", "--until", "end"); /* they are from 1970 */
    EXPECT(&s, "", "-o", "end", "--until", "end");
    EXPECT(&s, "0\n", "-o", "start", "-n", "1", "--partition", "0");
    struct program *p = START(&s, "-o", "99", "--until", "end");
    assert_int_equal(program_wait(p), 0);
    assert_non_null(strstr(buf_text(&p->errors), "offsets 0 to 10: reading begins at 10"));
    program_destroy(p);
    scene_close(&s);
}

static void what_makes_no_sense_is_said_with_its_exit_code(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s);
    expect(START(&s, "-o", "sometime"), 2, "");
    expect(START(&s, "-o", "-5"), 2, "");
    expect(START(&s, "-o", "@"), 2, "");
    expect(START(&s, "-n", "x"), 2, "");
    expect(START(&s, "--until", "never"), 2, "");
    expect(START(&s, "-g", "g", "-o", "5"), 2, "");
    expect(START(&s, "-g", "g", "--partition", "0"), 2, "");
    expect(START(&s, "--partition", "1"), 2, "");
    expect(START(&s, "-X", "no.such.option=1"), 2, "");
    expect(START(&s, "-b", "127.0.0.1:1", "--timeout", "5"), 3, "");
    const char *const absent[] = {"consume", "absent", "-b", s.brokers, NULL};
    const struct program_options o = {.name = "rivulet", .arguments = absent};
    struct program *p = program_start(&o);
    assert_int_equal(program_wait(p), 1);
    assert_non_null(strstr(buf_text(&p->errors), "rivulet topic create"));
    program_destroy(p);
    scene_close(&s);
}

/* ---- groups ---- */

static void a_group_goes_on_behind_what_was_printed(void **state)
{
    (void)state;
    struct scene s;
    size_t members;
    scene_open(&s);
    feed_numbers(s.client, "t", 0, CODEC_SNAPPY, 0, 10);
    EXPECT(&s, "0\n1\n2\n", "-g", "g", "-n", "3");
    assert_int_equal(committed(&s, "g", &members), 3); /* not what was fetched besides */
    assert_int_equal(members, 0);
    EXPECT(&s, "3\n4\n5\n6\n7\n8\n9\n", "-g", "g", "--until", "end");
    EXPECT(&s, "", "-g", "g", "--until", "end");
    EXPECT(&s, "", "-g", "new", "-o", "end", "--until", "end");
    assert_int_equal(committed(&s, "g", &members), 10);
    scene_close(&s);
}

static void a_signal_ends_it_cleanly(void **state)
{
    (void)state;
    static const int signals[] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) {
        struct scene s;
        size_t members;
        scene_open(&s);
        feed_numbers(s.client, "t", 0, CODEC_GZIP, 0, 50);
        struct program *p = START(&s, "-g", "g");
        await_committed(&s, "g", 50);
        feed_numbers(s.client, "t", 0, CODEC_GZIP, 50, 50);
        kill(p->pid, signals[i]);
        kill(p->pid, signals[i]); /* as `timeout` does it */
        assert_int_equal(program_wait(p), 0);
        int printed = lines_in_order(buf_text(&p->out));
        assert_true(printed >= 50);
        char said[200];
        snprintf(said, sizeof said,
                 "rivulet: stopped, and left the group: printed %d records; next are partition 0 "
                 "offset %d\n",
                 printed, printed);
        assert_string_equal(buf_text(&p->errors), said);
        assert_int_equal(committed(&s, "g", &members), printed);
        assert_int_equal(members, 0); /* it has left */
        program_destroy(p);
        scene_close(&s);
    }
}

static void a_killed_one_is_read_again_from_its_last_commit(void **state)
{
    (void)state;
    struct scene s;
    size_t members;
    scene_open(&s);
    feed_numbers(s.client, "t", 0, CODEC_NONE, 0, 50);
    struct program *p =
        START(&s, "-g", "g", "-X", "session.timeout.ms=500", "-X", "heartbeat.interval.ms=100");
    await_committed(&s, "g", 50);
    feed_numbers(s.client, "t", 0, CODEC_NONE, 50, 50);
    kill(p->pid, SIGKILL);
    assert_int_equal(program_wait(p), 128 + SIGKILL);
    int printed = lines_in_order(buf_text(&p->out));
    program_destroy(p);
    int64_t from = committed(&s, "g", &members);
    assert_true(from <= printed); /* nothing is committed that was not written out */
    p = START(&s, "-g", "g", "--until", "end");
    assert_int_equal(program_wait(p), 0);
    char first[24];
    snprintf(first, sizeof first, "%lld\n", (long long)from);
    if (from < 100) {
        assert_memory_equal(buf_text(&p->out), first, strlen(first));
    }
    assert_int_equal(committed(&s, "g", &members), 100);
    program_destroy(p);
    scene_close(&s);
}

static void a_closed_pipe_ends_it_quietly(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s);
    struct program *p = START(&s, "-g", "g");
    feed_numbers(s.client, "t", 0, CODEC_NONE, 0, 1);
    await_committed(&s, "g", 1);
    close(p->fds[0]); /* also while nothing comes */
    p->fds[0] = -1;
    assert_int_equal(program_wait(p), 0);
    assert_string_equal(buf_text(&p->errors), "");
    program_destroy(p);
    scene_close(&s);
}

static void it_outlives_a_kill_of_the_broker(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s);
    feed_numbers(s.client, "t", 0, CODEC_LZ4, 0, 50);
    struct program *p = START(&s, "-g", "g", "-n", "100");
    await_committed(&s, "g", 50);
    daemon_kill(s.daemon);
    daemon_start(s.daemon);
    feed_numbers(s.client, "t", 0, CODEC_LZ4, 50, 50);
    assert_int_equal(program_wait(p), 0);
    assert_int_equal(lines_in_order(buf_text(&p->out)), 100);
    program_destroy(p);
    scene_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_and_keys_are_printed_a_line_each),
        cmocka_unit_test(json_is_one_whole_object_a_line),
        cmocka_unit_test(it_begins_and_ends_where_it_is_told),
        cmocka_unit_test(what_makes_no_sense_is_said_with_its_exit_code),
        cmocka_unit_test(a_group_goes_on_behind_what_was_printed),
        cmocka_unit_test(a_signal_ends_it_cleanly),
        cmocka_unit_test(a_killed_one_is_read_again_from_its_last_commit),
        cmocka_unit_test(a_closed_pipe_ends_it_quietly),
        cmocka_unit_test(it_outlives_a_kill_of_the_broker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

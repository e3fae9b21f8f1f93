/* The last answers of a graceful stop arrive whole, whatever the client still sends and however
 * slowly it reads; and a client that does not close holds up no stop. */
#include "gen/api_versions.h"
#include "tests/kit/address.h"
#include "tests/kit/program.h"
#include "tests/kit/wire_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <signal.h>

/* More than the client's socket takes before it reads: the rest stays with the daemon's. */
enum { VALUE_SIZE = 900000, VALUES = 3 };

static void fill(struct daemon *d)
{
    struct wire_client *c = wire_connect(d);
    TOPIC(c, "t", 1);
    for (int i = 0; i < VALUES; i++) {
        wire_put_good(c, "t", BATCH(c, .value_size = VALUE_SIZE));
    }
    wire_close(c);
}

static int32_t send_fetch(struct wire_client *c) /* waits for more than there is */
{
    const struct wire_fetch f = {.topic = "t",
                                 .min_bytes = INT32_MAX,
                                 .max_wait_ms = INT32_MAX,
                                 .partition_max_bytes = VALUES * (VALUE_SIZE + 1000)};
    return wire_request(c, API_FETCH, 12, wire_fetch_request(c, &f));
}

static void send_small_request(struct wire_client *c)
{
    struct bytes q = wire_frame(c, API_API_VERSIONS, 0, NEW(c, api_versions_request));
    wire_send(c, q.ptr, q.len);
}

/* The fetch must be there before the stop: somebody else's request that came later is answered. */
static void let_it_arrive(struct daemon *d)
{
    struct wire_client *other = wire_connect(d);
    send_small_request(other);
    wire_receive(other);
    wire_close(other);
}

static void the_answer_to_a_waiting_fetch_arrives_whole_however_much_is_sent_meanwhile(void **state)
{
    (void)state;
    struct daemon *d = DAEMON("rivulet.linger.ms=60000");
    fill(d);
    struct wire_client *c = wire_connect(d);
    int32_t id = send_fetch(c);
    let_it_arrive(d);
    daemon_signal(d, SIGTERM);
    daemon_await_log(d, "event=stopping");
    for (int i = 0; i < 100; i++) { /* nobody will read these */
        send_small_request(c);
    }
    const struct fetch_response *a = wire_answer(c, API_FETCH, 12, id);
    assert_code(a->topics->partitions->error_code, KERR_NONE);
    struct wire_records_read r = wire_parse(c, a->topics->partitions->records);
    assert_int_equal(r.count, VALUES);
    wire_expect_close(c); /* in good order: the end of what was sent */
    wire_close(c);
    assert_int_equal(daemon_wait(d), 0);
    assert_non_null(strstr(daemon_log(d), "event=stopped clean=true"));
    daemon_destroy(d);
}

static void a_client_that_never_closes_is_not_waited_for(void **state)
{
    (void)state;
    struct daemon *d = DAEMON("rivulet.linger.ms=50", "rivulet.log.level=debug");
    fill(d);
    struct wire_client *c = wire_connect(d);
    int32_t id = send_fetch(c);
    let_it_arrive(d);
    daemon_signal(d, SIGTERM);
    daemon_await_log(d, "event=stopping");
    wire_answer(c, API_FETCH, 12, id);
    assert_int_equal(daemon_wait(d), 0); /* c is open all the time */
    assert_non_null(strstr(daemon_log(d), "the client did not close (rivulet.linger.ms)"));
    assert_non_null(strstr(daemon_log(d), "event=stopped clean=true"));
    wire_close(c);
    daemon_destroy(d);
}

/* Half of a frame is all that came: it will never be whole, and does not hold up the stop. */
static void a_partial_frame_does_not_hold_up_the_stop(void **state)
{
    (void)state;
    struct daemon *d = DAEMON("rivulet.linger.ms=50");
    struct wire_client *c = wire_connect(d);
    struct bytes q = wire_frame(c, API_API_VERSIONS, 0, NEW(c, api_versions_request));
    wire_send(c, q.ptr, q.len / 2);
    let_it_arrive(d);
    assert_int_equal(daemon_stop(d), 0);
    wire_expect_close(c);
    wire_close(c);
    daemon_destroy(d);
}

/* ---- whose connection it was */

static void peers_of_ipv6_stand_in_brackets_in_log_lines(void **state)
{
    (void)state;
    if (!has_ipv6()) {
        print_message("skipped: this machine has no ::1\n");
        skip();
    }
    char dir[TEMP_DIR_SIZE];
    temp_dir_make(dir);
    const struct program_options o = {
        .name = "rivuletd",
        .arguments = (const char *const[]){"--data", dir, "--listen", "[::1]:0", NULL}
    };
    struct program *p = program_start(&o);
    struct wire_client *c = wire_dial("::1", program_port(p, "[::1]"));
    wire_send(c, "\xff\xff\xff\xff", 4);
    wire_expect_close(c);
    wire_close(c);
    assert_int_equal(kill(p->pid, SIGTERM), 0);
    assert_int_equal(program_wait(p), 0);
    assert_non_null(strstr(buf_text(&p->errors), "event=connection_closed peer=[::1]:"));
    program_destroy(p);
    temp_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            the_answer_to_a_waiting_fetch_arrives_whole_however_much_is_sent_meanwhile),
        cmocka_unit_test(a_client_that_never_closes_is_not_waited_for),
        cmocka_unit_test(a_partial_frame_does_not_hold_up_the_stop),
        cmocka_unit_test(peers_of_ipv6_stand_in_brackets_in_log_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

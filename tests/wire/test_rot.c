/* Bytes that rot under a daemon that runs: the scrub finds them, says so once, and readers are told
 * at the batch, and nowhere else. */
#include "tests/kit/logfmt.h"
#include "tests/kit/wire_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BATCHES = 12, VALUE = 200000 }; /* five in a segment of a MiB */

static void flip(const struct daemon *d, const char *file, off_t position)
{
    char path[DAEMON_DATA_SIZE + 100];
    uint8_t byte;
    snprintf(path, sizeof path, "%s/%s", d->data, file);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, position), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, position), 1);
    close(fd);
}

static int16_t fetched(struct wire_client *c, int64_t offset, int64_t *ret_first)
{
    const struct fetch_response_partition *f = wire_fetch(
        c, (struct wire_fetch){
               .topic = "t", .offset = offset, .min_bytes = 1, .partition_max_bytes = 1});
    *ret_first = f->error_code ? -1 : wire_parse(c, f->records).records[0].offset;
    int16_t code = f->error_code;
    wire_forget(c);
    return code;
}

static int count_of(const char *text, const char *what)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)); at++) {
        n++;
    }
    return n;
}

static void rot_under_a_running_daemon_is_found_and_answered_at_its_batch(void **state)
{
    (void)state;
    struct daemon *d =
        DAEMON("rivulet.scrub.interval.ms=20", "rivulet.scrub.bytes.per.second=1000000000");
    struct wire_client *c = wire_connect(d);
    int64_t first;
    TOPIC(c, "t", 1, "segment.bytes=1048576");
    size_t size = 0;
    for (int i = 0; i < BATCHES; i++) {
        struct bytes batch = BATCH(c, .value_size = VALUE);
        size = batch.len;
        assert_int_equal(wire_put_good(c, "t", batch), i);
        wire_forget(c);
    }
    daemon_await_log(d, "event=scrubbed segments=2 ");
    for (int i = 0; i < BATCHES; i++) {
        assert_code(fetched(c, i, &first), KERR_NONE);
        assert_int_equal(first, i);
    }
    flip(d, "t-0/00000000000000000005.log", (off_t)size + 1000); /* in the batch of offset 6 */
    daemon_await_log(d, "level=error event=batch_corrupt dir=t-0 base=5 ");
    daemon_await_log(d, " corrupt=1 unread=0");
    daemon_await_log(d, " corrupt=1 unread=0"); /* and in the next pass */
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < BATCHES; i++) {
            assert_code(fetched(c, i, &first), i == 6 ? KERR_CORRUPT_MESSAGE : KERR_NONE);
            assert_int_equal(first, i == 6 ? -1 : i);
        }
    }
    assert_int_equal(wire_put_good(c, "t", BATCH(c, .count = 1)), BATCHES);
    assert_int_equal(count_of(daemon_log(d), "event=batch_corrupt"), 1);
    assert_logfmt(daemon_log(d));
    wire_close(c);
    daemon_destroy(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rot_under_a_running_daemon_is_found_and_answered_at_its_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

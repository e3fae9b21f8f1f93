/* Every allocation of a view fails in turn while it fills, follows, and is kept in a file: each
 * call that says RV_E_MEMORY works when it is made again, nothing is lost, and nothing leaks. The
 * broker is in a process of its own, where nothing fails. */
#include "base/clock.h"
#include "tests/kit/child_home.h"
#include "tests/kit/failing_mem.h"
#include "tests/kit/temp_dir.h"
#include "tests/kit/view_kit.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int64_t until;

static bool again(int code, const struct rv_error *e)
{
    if (code == RV_OK) {
        return false;
    }
    if (code != RV_E_MEMORY) {
        fail_msg("%s: %s", rv_error_name(code), e->text);
    }
    if (clock_mono_ms(&clock_real) > until) {
        fail_msg("out of memory for ever");
    }
    return true;
}

static struct feeding feeding;
static char path[TEMP_DIR_SIZE + 8];

static void keep(const char *address)
{
    struct rv_error e;
    struct rv_client *client = NULL;
    struct rv_view *v = NULL;
    while (
        again(rv_client_open(RV_OPTIONS({"bootstrap.servers", address}, {"retry.backoff.ms", "1"},
                                        {"retry.backoff.max.ms", "4"}),
                             &client, &e),
              &e)) {
    }
    unlink(path);
    for (int round = 0; round < 2; round++) {
        while (again(rv_view_open(client, "oom",
                                  RV_OPTIONS({"view.file", path}, {"fetch.max.wait.ms", "10"},
                                             {"max.poll.records", "15"}),
                                  NULL, FEED_MS, &v, &e),
                     &e)) {
            assert_null(v);
        }
        while (!rv_view_is_complete(v)) {
            again(rv_view_poll(v, 50, &e), &e);
        }
        assert_view(&feeding, v, NULL);
        while (again(rv_view_save(v, &e), &e)) {
        }
        rv_view_close(v);
        v = NULL;
    }
    rv_client_close(client);
}

static void a_view_is_right_whichever_allocation_fails(void **state)
{
    const struct child_home *broker = *state;
    char dir[TEMP_DIR_SIZE];
    uint64_t seed = 1;
    temp_dir_make(dir);
    snprintf(path, sizeof path, "%s/v", dir);
    feeding_open(&feeding, broker->address, "oom", 2, NULL);
    feed_random(&feeding, &seed, 60);
    long alive = mem_alive();
    for (long k = 0;; k++) {
        until = clock_mono_ms(&clock_real) + FEED_MS;
        mem_fail_at(k);
        keep(broker->address);
        bool was_hit = mem_asked() > k;
        mem_fail_at(-1);
        if (mem_alive() != alive) {
            fail_msg("allocation %ld failed: %ld blocks leaked", k, mem_alive() - alive);
        }
        if (!was_hit) {
            printf("%ld allocations\n", k);
            break;
        }
    }
    feeding_close(&feeding);
    temp_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_view_is_right_whichever_allocation_fails),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, child_home_start, child_home_stop);
}

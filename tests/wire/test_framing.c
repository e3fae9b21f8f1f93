/* Frames, headers, order and the end of connections. */
#include "gen/api_versions.h"
#include "tests/kit/wire_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int setup(void **state)
{
    *state = DAEMON();
    return 0;
}

static int teardown(void **state)
{
    daemon_destroy(*state);
    return 0;
}

static void the_first_request_is_answered(void **state)
{
    struct wire_client *c = wire_connect(*state);
    struct api_versions_request q;
    api_versions_request_init(&q);
    const struct api_versions_response *a = wire_ask(c, API_API_VERSIONS, 0, &q);
    assert_int_equal(a->error_code, 0);
    wire_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_request_is_answered),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

/* The command line of rivuletd. */
#include "broker/args.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define PARSE(args, why, ...)                                                                      \
    args_parse((int)(sizeof((const char *const[]){"rivuletd" __VA_OPT__(, ) __VA_ARGS__}) /        \
                     sizeof(char *)),                                                              \
               (const char *const[]){"rivuletd" __VA_OPT__(, ) __VA_ARGS__}, args, why)

static void no_arguments_run_the_broker(void **state)
{
    (void)state;
    struct args a = {0};
    struct buf why = {0};
    assert_int_equal(PARSE(&a, &why), OK);
    assert_int_equal(a.mode, ARGS_RUN);
    assert_null(a.file);
    assert_int_equal(a.set_count, 0);
    args_finish(&a);
}

static void options_become_settings_in_their_order(void **state)
{
    (void)state;
    struct args a = {0};
    struct buf why = {0};
    assert_int_equal(PARSE(&a, &why, "--set", "node.id=1", "--data", "/a", "--set=node.id=2=3",
                           "-c", "file", "--listen", "127.0.0.1:1", "--data=/b",
                           "--listen=[::1]:2"),
                     OK);
    assert_string_equal(a.file, "file");
    assert_int_equal(a.set_count, 5);
    assert_string_equal(a.sets[0], "node.id=1");
    assert_string_equal(a.sets[1], "log.dirs=/a");
    assert_string_equal(a.sets[2], "node.id=2=3");
    assert_string_equal(a.sets[3], "log.dirs=/b");
    /* several --listen are one setting */
    assert_string_equal(a.sets[4], "listeners=PLAINTEXT://127.0.0.1:1,PLAINTEXT://[::1]:2");
    args_finish(&a);
    assert_int_equal(PARSE(&a, &why, "--config=other"), OK);
    assert_string_equal(a.file, "other");
    args_finish(&a);
}

static void modes_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum args_mode mode;
    } cases[] = {
        {"--check-config",      ARGS_CHECK_CONFIG     },
        {"--print-config",      ARGS_PRINT_CONFIG     },
        {"--print-config-docs", ARGS_PRINT_CONFIG_DOCS},
        {"--version",           ARGS_VERSION          },
        {"--help",              ARGS_HELP             },
        {"-h",                  ARGS_HELP             },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct args a = {0};
        struct buf why = {0};
        assert_int_equal(PARSE(&a, &why, cases[i].name), OK);
        assert_int_equal(a.mode, cases[i].mode);
        args_finish(&a);
    }
}

static void assert_refused(const char *first, const char *second, const char *part)
{
    struct args a = {0};
    struct buf why = {0};
    err e = second ? PARSE(&a, &why, first, second) : PARSE(&a, &why, first);
    if (e != ERR_INVALID || !strstr(buf_text(&why), part)) {
        fail_msg("%s: error %d, \"%s\" lacks \"%s\"", first, (int)e, buf_text(&why), part);
    }
    assert_null(a.sets);
    buf_finish(&why);
}

static void what_is_not_understood_is_named(void **state)
{
    (void)state;
    assert_refused("--datta", NULL, "unknown argument --datta; rivuletd --help");
    assert_refused("config", NULL, "unknown argument config");
    assert_refused("--version=1", NULL, "unknown argument --version=1");
    assert_refused("-c=file", NULL, "unknown argument -c=file");
    assert_refused("", NULL, "unknown argument");
    assert_refused("-c", NULL, "-c needs a value");
    assert_refused("--data=/x", "--data", "--data needs a value");
    assert_refused("--listen", NULL, "--listen needs a value");
    assert_refused("--set", NULL, "--set needs a value");
    assert_refused("--set", "node.id", "--set node.id: it must be KEY=VALUE");
}

static void the_help_names_every_option(void **state)
{
    (void)state;
    static const char *const options[] = {"-c, --config", "--data",         "--listen",
                                          "--set",        "--check-config", "--print-config",
                                          "--version",    "--help",         "--print-config-docs"};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        assert_non_null(strstr(args_help, options[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_arguments_run_the_broker),
        cmocka_unit_test(options_become_settings_in_their_order),
        cmocka_unit_test(modes_are_named),
        cmocka_unit_test(what_is_not_understood_is_named),
        cmocka_unit_test(the_help_names_every_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Slices, numbers, ids and UTF-8 (base/str.h), and the growable buffer. */
#include "base/mem.h"
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static bool utf8(const char *text, size_t len)
{
    char *copy = mem_need_dup(text, len); /* its own block: asan sees a read behind it */
    bool good = str_is_utf8((struct str){copy, len});
    mem_free(copy);
    return good;
}

#define UTF8(literal) utf8(literal, sizeof(literal) - 1)

static void utf8_is_judged_as_unicode_has_it(void **state)
{
    (void)state;
    assert_true(UTF8(""));
    assert_true(UTF8("plain"));
    assert_true(UTF8("\xC2\x80"));          /* U+0080, the least of two */
    assert_true(UTF8("\xDF\xBF"));          /* U+07FF */
    assert_true(UTF8("\xE0\xA0\x80"));      /* U+0800 */
    assert_true(UTF8("\xED\x9F\xBF"));      /* U+D7FF, before the surrogates */
    assert_true(UTF8("\xEE\x80\x80"));      /* U+E000, behind them */
    assert_true(UTF8("\xF0\x90\x80\x80"));  /* U+10000 */
    assert_true(UTF8("\xF4\x8F\xBF\xBF"));  /* U+10FFFF, the last */
    assert_false(UTF8("\xF4\x90\x80\x80")); /* behind it */
    assert_false(UTF8("\xF5\x80\x80\x80"));
    assert_false(UTF8("\xC0\x80")); /* overlong */
    assert_false(UTF8("\xC1\xBF"));
    assert_false(UTF8("\xE0\x9F\xBF"));
    assert_false(UTF8("\xF0\x8F\xBF\xBF"));
    assert_false(UTF8("\xED\xA0\x80")); /* surrogates */
    assert_false(UTF8("\xED\xBF\xBF"));
    assert_false(UTF8("\x80"));     /* a continuation alone */
    assert_false(UTF8("\xE2\x82")); /* cut short */
    assert_false(UTF8("ab\xC3"));
    assert_false(UTF8("\xC3(\xA9"));
}

/* Found by fuzz_message: such a byte was taken for the first of ten, and a table read past its end.
 */
static void bytes_that_begin_nothing_are_no_utf8_whatever_follows(void **state)
{
    (void)state;
    for (int first = 0x80; first <= 0xFF; first++) {
        char text[13];
        memset(text, 0x80, sizeof text);
        text[0] = (char)first;
        assert_false(utf8(text, sizeof text));
    }
}

static void java_hashes_are_over_utf16(void **state)
{
    (void)state;
    assert_int_equal(str_java_hash(STR("")), 0);
    assert_int_equal(str_java_hash(STR("a")), 97);
    assert_int_equal(str_java_hash(STR("hello")), 99162322);
    assert_int_equal(str_java_hash(STR("polygenelubricants")), INT32_MIN);
    assert_int_equal(str_java_hash(STR("\xC3\xA9")), 0xE9);
    /* U+1F30A is the pair D83C DF0A: 0xD83C * 31 + 0xDF0A */
    assert_int_equal(str_java_hash(STR("\xF0\x9F\x8C\x8A")), 0xD83C * 31 + 0xDF0A);
}

static void numbers_are_read_whole_or_refused(void **state)
{
    (void)state;
    int64_t v = 7;
    assert_int_equal(str_to_int64(STR("0"), &v), OK);
    assert_int_equal(v, 0);
    assert_int_equal(str_to_int64(STR("-42"), &v), OK);
    assert_int_equal(v, -42);
    assert_int_equal(str_to_int64(STR("9223372036854775807"), &v), OK);
    assert_true(v == INT64_MAX);
    assert_int_equal(str_to_int64(STR("-9223372036854775808"), &v), OK);
    assert_true(v == INT64_MIN);
    v = 7;
    assert_int_equal(str_to_int64(STR("9223372036854775808"), &v), ERR_RANGE);
    assert_int_equal(str_to_int64(STR("-9223372036854775809"), &v), ERR_RANGE);
    assert_int_equal(str_to_int64(STR("99999999999999999999"), &v), ERR_RANGE);
    const struct str bad[] = {STR(""),   STR("-"),  STR("+"),  STR(" 1"),
                              STR("1 "), STR("1x"), STR("0x1")};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(str_to_int64(bad[i], &v), ERR_INVALID);
    }
    assert_true(v == 7); /* untouched on failure */
}

static void strings_are_ordered_by_bytes_and_then_by_length(void **state)
{
    (void)state;
    assert_true(str_cmp(STR("a"), STR("b")) < 0);
    assert_true(str_cmp(STR("a"), STR("ab")) < 0);
    assert_true(str_cmp(STR("ab"), STR("a")) > 0);
    assert_true(str_cmp(STR("\xFF"), STR("a")) > 0);
    assert_int_equal(str_cmp(STR("x"), STR("x")), 0);
    assert_int_equal(str_cmp(STR(""), (struct str){0}), 0);
    assert_true(str_eq_ignore_case(STR("LogAppendTime"), STR("logappendtime")));
    assert_false(str_eq_ignore_case(STR("a"), STR("ab")));
    assert_false(str_eq_ignore_case(STR("["), STR("{"))); /* only letters */
}

static void ids_come_back_from_their_text(void **state)
{
    (void)state;
    struct uuid id = {
        {0xfb, 0xef, 0xbe, 0xff, 0xff, 0xff, 0x40, 0, 0x80, 0, 1, 2, 3, 4, 5, 6}
    };
    struct uuid back = {{0}};
    char text[UUID_TEXT_SIZE];
    uuid_to_text(id, text);
    assert_string_equal(text, "----____QACAAAECAwQFBg");
    assert_int_equal(uuid_from_text(str_of(text), &back), OK);
    assert_true(uuid_eq(id, back));
    uuid_to_text((struct uuid){{0}}, text);
    assert_string_equal(text, "AAAAAAAAAAAAAAAAAAAAAA");
    const struct str bad[] = {
        STR(""),
        STR("AAAAAAAAAAAAAAAAAAAAA"),
        STR("AAAAAAAAAAAAAAAAAAAAAAA"),
        STR("AAAAAAAAAAAAAAAAAAAAA+"),
        STR("AAAAAAAAAAAAAAAAAAAAAB"), /* bits behind the 128th */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(uuid_from_text(bad[i], &back), ERR_INVALID);
    }
    assert_true(uuid_eq(id, back));
}

static void a_buffer_grows_and_is_terminated_on_demand(void **state)
{
    (void)state;
    struct buf b = {0};
    assert_string_equal(buf_text(&b), "");
    for (int i = 0; i < 1000; i++) {
        buf_printf(&b, "%d,", i);
    }
    assert_int_equal(b.len, 10 * 2 + 90 * 3 + 900 * 4);
    assert_int_equal(strlen(buf_text(&b)), b.len);
    buf_add_str(&b, STR("end"));
    assert_string_equal(buf_text(&b) + b.len - 3, "end");
    buf_add(&b, NULL, 0);
    assert_false(b.failed);
    buf_finish(&b);
    assert_null(b.ptr);
}

static void a_buffer_that_could_not_grow_stays_failed(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_add_str(&b, STR("kept"));
    assert_false(buf_reserve(&b, SIZE_MAX));
    assert_true(b.failed);
    buf_add_str(&b, STR("lost"));
    assert_int_equal(b.len, 4);
    assert_string_equal(buf_text(&b), "");
    buf_finish(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_is_judged_as_unicode_has_it),
        cmocka_unit_test(bytes_that_begin_nothing_are_no_utf8_whatever_follows),
        cmocka_unit_test(java_hashes_are_over_utf16),
        cmocka_unit_test(numbers_are_read_whole_or_refused),
        cmocka_unit_test(strings_are_ordered_by_bytes_and_then_by_length),
        cmocka_unit_test(ids_come_back_from_their_text),
        cmocka_unit_test(a_buffer_grows_and_is_terminated_on_demand),
        cmocka_unit_test(a_buffer_that_could_not_grow_stays_failed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

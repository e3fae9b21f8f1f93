/* Which lz4 frames get in: those that Java's reader reads. What it throws at, or stops before the
 * end of, must be refused, or the batch would stop every Java consumer. */
#include "base/str.h"
#include "protocol/compress.h"

#include <lz4frame.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { TEXT_SIZE = 200000 }; /* some blocks of 64 KiB */

static void add_frame(struct buf *out, const char *text, const LZ4F_preferences_t *how)
{
    size_t room = LZ4F_compressFrameBound(TEXT_SIZE, how);
    assert_true(buf_reserve(out, room));
    size_t n = LZ4F_compressFrame(out->ptr + out->len, room, text, TEXT_SIZE, how);
    assert_false(LZ4F_isError(n));
    out->len += n;
}

static err inflate_all(const struct buf *in, char *out, size_t *ret_size)
{
    struct inflate_stream *s = NULL;
    size_t n = 1;
    assert_int_equal(inflate_create(&s), OK);
    err e = inflate_begin(s, CODEC_LZ4, in->ptr, in->len);
    for (*ret_size = 0; !e && n > 0; *ret_size += n) {
        n = 0;
        e = inflate_read(s, out + *ret_size, 2 * TEXT_SIZE - *ret_size, &n);
    }
    inflate_destroy(s);
    return e;
}

static err frames(int count, const LZ4F_preferences_t *how, const void *before, size_t before_size)
{
    static char text[TEXT_SIZE];
    static char back[2 * TEXT_SIZE];
    struct buf in = {0};
    size_t n = 0;
    for (int i = 0; i < TEXT_SIZE; i++) {
        text[i] = (char)('a' + i * 7 % 23 + i / 1000 % 3);
    }
    buf_add(&in, before, before_size);
    for (int i = 0; i < count; i++) {
        add_frame(&in, text, how);
    }
    err e = inflate_all(&in, back, &n);
    if (!e) {
        assert_int_equal(n, TEXT_SIZE);
        assert_memory_equal(back, text, TEXT_SIZE);
    }
    buf_finish(&in);
    return e;
}

static void one_frame_of_independent_blocks_is_read_whatever_else_it_has(void **state)
{
    (void)state;
    LZ4F_preferences_t how = {.frameInfo = {.blockMode = LZ4F_blockIndependent}};
    assert_int_equal(frames(1, &how, "", 0), OK);
    how.frameInfo.blockChecksumFlag = LZ4F_blockChecksumEnabled;
    how.frameInfo.contentChecksumFlag = LZ4F_contentChecksumEnabled;
    how.frameInfo.contentSize = TEXT_SIZE;
    how.frameInfo.blockSizeID = LZ4F_max64KB;
    assert_int_equal(frames(1, &how, "", 0), OK);
}

static void blocks_that_depend_on_each_other_are_refused(void **state)
{
    (void)state;
    const LZ4F_preferences_t how = {
        .frameInfo = {.blockMode = LZ4F_blockLinked, .blockSizeID = LZ4F_max64KB}
    };
    assert_int_equal(frames(1, &how, "", 0), ERR_CORRUPT);
}

static void a_second_frame_is_refused(void **state)
{
    (void)state;
    const LZ4F_preferences_t how = {.frameInfo = {.blockMode = LZ4F_blockIndependent}};
    assert_int_equal(frames(2, &how, "", 0), ERR_CORRUPT);
}

static void a_skippable_frame_is_refused(void **state)
{
    (void)state;
    static const uint8_t skippable[] = {0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4};
    const LZ4F_preferences_t how = {.frameInfo = {.blockMode = LZ4F_blockIndependent}};
    assert_int_equal(frames(1, &how, skippable, sizeof skippable), ERR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_frame_of_independent_blocks_is_read_whatever_else_it_has),
        cmocka_unit_test(blocks_that_depend_on_each_other_are_refused),
        cmocka_unit_test(a_second_frame_is_refused),
        cmocka_unit_test(a_skippable_frame_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What of zstd's frames is taken, whatever the pieces that are asked for. */
#include "base/mem.h"
#include "protocol/compress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static err read_all(const uint8_t *p, size_t size, size_t piece, size_t *ret_size)
{
    static uint8_t out[65536];
    struct inflate_stream *s;
    assert_int_equal(inflate_create(&s), OK);
    err e = inflate_begin(s, CODEC_ZSTD, p, size);
    *ret_size = 0;
    for (size_t got = 1; !e && got > 0; *ret_size += e ? 0 : got) {
        e = inflate_read(s, out, piece, &got);
    }
    inflate_destroy(s);
    return e;
}

/* Its header says 58,919 bytes, its blocks have 2,464, and the last of them is empty: libzstd 1.5.4
 * takes that in pieces, and refuses it at once (fuzz_inflate). Readers would stop there. */
static void a_frame_that_promises_more_than_it_has_is_refused(void **state)
{
    static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x27, 0xe5,
                                    0x02, 0x4d, 0x00, 0x01, 0x01, 0x00, 0x00};
    size_t size;
    (void)state;
    assert_int_equal(read_all(frame, sizeof frame, 77, &size), ERR_CORRUPT);
    assert_int_equal(read_all(frame, sizeof frame, 65536, &size), ERR_CORRUPT);
}

static void frames_behind_each_other_are_read(void **state)
{
    struct buf packed = {0};
    char plain[5000];
    (void)state;
    memset(plain, 'z', sizeof plain);
    assert_int_equal(compress_bytes(CODEC_ZSTD, INT32_MIN, plain, sizeof plain, &packed), OK);
    struct buf two = {0};
    buf_add(&two, packed.ptr, packed.len);
    buf_add(&two, packed.ptr, packed.len);
    for (size_t piece = 77; piece <= 65536; piece = piece * 7) {
        size_t size;
        assert_int_equal(read_all((const uint8_t *)two.ptr, two.len, piece, &size), OK);
        assert_int_equal(size, 2 * sizeof plain);
    }
    buf_finish(&packed);
    buf_finish(&two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_that_promises_more_than_it_has_is_refused),
        cmocka_unit_test(frames_behind_each_other_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Decompression: whatever the pieces that are asked for, the same bytes and the same end; what was
 * compressed here comes back.
 *
 *   uint8 codec, +128: compress first · bytes
 */
#include "base/mem.h"
#include "protocol/compress.h"
#include "tests/fuzz/fuzz.h"

enum { OUTPUT_MAX = 1 << 20 };

/* All of it, in pieces of `piece` bytes, but no more than OUTPUT_MAX. */
static err inflate_all(struct inflate_stream *s, enum codec codec, struct bytes in, size_t piece,
                       struct buf *out)
{
    err e = inflate_begin(s, codec, in.ptr, in.len);
    for (size_t got = 1; !e && got > 0 && out->len < OUTPUT_MAX;) {
        size_t room = OUTPUT_MAX - out->len < piece ? OUTPUT_MAX - out->len : piece;
        check(buf_reserve(out, room));
        e = inflate_read(s, out->ptr + out->len, room, &got);
        check(e || got <= room);
        out->len += e ? 0 : got;
    }
    return e;
}

static void compare(enum codec codec, struct bytes in)
{
    struct inflate_stream *s;
    struct buf whole = {0};
    struct buf pieces = {0};
    check(inflate_create(&s) == OK);
    err a = inflate_all(s, codec, in, 65536, &whole);
    err b = inflate_all(s, codec, in, 77, &pieces); /* the stream is used again, too */
    check(a == b || whole.len == OUTPUT_MAX || pieces.len == OUTPUT_MAX);
    size_t both = whole.len < pieces.len ? whole.len : pieces.len;
    check(both == 0 || memcmp(whole.ptr, pieces.ptr, both) == 0);
    check(a || b || whole.len == pieces.len);
    buf_finish(&whole);
    buf_finish(&pieces);
    inflate_destroy(s);
}

static void round_trip(enum codec codec, struct bytes in)
{
    struct inflate_stream *s;
    struct buf packed = {0};
    struct buf plain = {0};
    check(inflate_create(&s) == OK);
    check(compress_bytes(codec, INT32_MIN, in.ptr, in.len, &packed) == OK);
    struct bytes p = {(const uint8_t *)buf_text(&packed), packed.len};
    check(inflate_all(s, codec, p, 1000, &plain) == OK);
    check(plain.len == in.len && (in.len == 0 || memcmp(plain.ptr, in.ptr, in.len) == 0));
    buf_finish(&packed);
    buf_finish(&plain);
    inflate_destroy(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    struct input in = {p, p + size};
    uint8_t how = input_byte(&in);
    enum codec codec = (enum codec)((how & 127) % CODEC_COUNT);
    struct bytes rest = input_rest(&in);
    if (how & 128) {
        round_trip(codec, rest);
    } else {
        compare(codec, rest);
    }
    return 0;
}

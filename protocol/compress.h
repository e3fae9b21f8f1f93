/* compress: gzip, snappy, lz4 and zstd as Kafka's clients use them, streaming and bounded.
 *
 * snappy: blocks in the framing of Java's xerial library (16-byte head with the magic, then blocks
 * behind an int32 size), and bare ones, which some clients send, are both read; framed ones are
 * written. lz4: the frame format. Memory: what a codec's own state and one block need, never more
 * than COMPRESS_BLOCK_LIMIT for a block that its input announces (ERR_LIMIT). Allocations may fail
 * (ERR_MEMORY). One thread an object.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#include <stddef.h>
#include <stdint.h>

enum codec {
    CODEC_NONE = 0,
    CODEC_GZIP = 1,
    CODEC_SNAPPY = 2,
    CODEC_LZ4 = 3,
    CODEC_ZSTD = 4,
    CODEC_COUNT
};

const char *codec_name(enum codec codec); /* "none", "gzip", ... */
err codec_from_name(struct str name,
                    enum codec *ret_codec); /* ERR_NOT_FOUND; "uncompressed" is none too */

enum { COMPRESS_BLOCK_LIMIT = 128 * 1024 * 1024 }; /* bytes of one decompressed block */

/* Decompression of one input that is whole in memory, piece by piece. A stream may be reset for
 * another input, which keeps its memory: decompressing many small batches allocates nothing after
 * the first. */
struct inflate_stream;

err inflate_create(struct inflate_stream **ret_stream);
void inflate_destroy(struct inflate_stream *s); /* takes NULL */
err inflate_begin(struct inflate_stream *s, enum codec codec, const void *p,
                  size_t size); /* borrows p until the end; ERR_UNSUPPORTED, ERR_CORRUPT */

/* Fills up to `size` bytes; *ret_size 0 at the end of the input. ERR_CORRUPT: not what the codec
 * says, or cut short, or bytes left over behind its end. */
err inflate_read(struct inflate_stream *s, void *p, size_t size, size_t *ret_size);

/* Appends the compressed form of p to `out`. level: the codec's own; INT32_MIN: its default.
 * ERR_MEMORY, ERR_UNSUPPORTED. */
err compress_bytes(enum codec codec, int32_t level, const void *p, size_t size, struct buf *out);

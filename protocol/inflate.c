/* Decompressing, piece by piece. Each codec has a row of functions; what they keep (a z_stream, a
 * context, a block) is reused for the next input. */
#include "protocol/compress.h"

#include "base/bytes.h"
#include "base/mem.h"
#include "protocol/snappy_frame.h"

#include <lz4frame.h>
#include <snappy-c.h>
#include <stdbool.h>
#include <zlib.h>
#include <zstd.h>

struct inflate_stream {
    enum codec codec;
    const uint8_t *in; /* borrowed: what is left of the input */
    size_t in_size;
    bool ended;  /* a whole frame, member or block has been read, and no other has begun */
    bool framed; /* snappy: with xerial's framing */
    bool gzip_ready;
    z_stream gzip;
    LZ4F_dctx *lz4;     /* owned; NULL until needed */
    ZSTD_DStream *zstd; /* owned; NULL until needed */
    bool zstd_within;   /* a frame of its has begun */
    uint64_t zstd_left; /* bytes that its header still promises, or ZSTD_CONTENTSIZE_UNKNOWN */
    struct buf block;   /* owned: snappy's current block, decompressed */
    size_t block_used;
};

err inflate_create(struct inflate_stream **ret_stream)
{
    struct inflate_stream *s = mem_zero(1, sizeof *s);
    if (!s) {
        return ERR_MEMORY;
    }
    *ret_stream = s;
    return OK;
}

void inflate_destroy(struct inflate_stream *s)
{
    if (!s) {
        return;
    }
    if (s->gzip_ready) {
        inflateEnd(&s->gzip);
    }
    LZ4F_freeDecompressionContext(s->lz4);
    ZSTD_freeDStream(s->zstd);
    buf_finish(&s->block);
    mem_free(s);
}

/* ---- gzip */

static err gzip_begin(struct inflate_stream *s)
{
    if (s->gzip_ready) {
        return inflateReset(&s->gzip) == Z_OK ? OK : ERR_MEMORY;
    }
    if (inflateInit2(&s->gzip, 15 + 16) != Z_OK) {
        return ERR_MEMORY;
    }
    s->gzip_ready = true;
    return OK;
}

static err gzip_read(struct inflate_stream *s, uint8_t *p, size_t size, size_t *ret_size)
{
    uInt room = size > 1u << 30 ? 1u << 30 : (uInt)size;
    s->gzip.next_out = p;
    s->gzip.avail_out = room;
    while (s->gzip.avail_out == room && s->in_size > 0) {
        if (s->ended) { /* another member follows */
            if (inflateReset(&s->gzip) != Z_OK) {
                return ERR_MEMORY;
            }
            s->ended = false;
        }
        uInt n = s->in_size > 1u << 30 ? 1u << 30 : (uInt)s->in_size;
        s->gzip.next_in = (Bytef *)(uintptr_t)s->in;
        s->gzip.avail_in = n;
        int result = inflate(&s->gzip, Z_NO_FLUSH);
        s->in += n - s->gzip.avail_in;
        s->in_size -= n - s->gzip.avail_in;
        if (result == Z_STREAM_END) {
            s->ended = true;
        } else if (result == Z_MEM_ERROR) {
            return ERR_MEMORY;
        } else if (result != Z_OK) {
            return ERR_CORRUPT;
        }
    }
    if (s->gzip.avail_out == room && !s->ended) {
        /* All input is in; what zlib still holds comes without any. */
        s->gzip.avail_in = 0;
        int result = inflate(&s->gzip, Z_NO_FLUSH);
        s->ended = result == Z_STREAM_END;
        if (s->gzip.avail_out == room && !s->ended) {
            return result == Z_MEM_ERROR ? ERR_MEMORY : ERR_CORRUPT;
        }
    }
    *ret_size = room - s->gzip.avail_out;
    return OK;
}

/* ---- snappy */

static err snappy_begin(struct inflate_stream *s)
{
    s->framed =
        s->in_size >= SNAPPY_HEAD_SIZE && memcmp(s->in, SNAPPY_MAGIC, SNAPPY_MAGIC_SIZE) == 0;
    if (s->framed) {
        s->in += SNAPPY_HEAD_SIZE;
        s->in_size -= SNAPPY_HEAD_SIZE;
    }
    s->block.len = 0;
    s->block_used = 0;
    s->ended = s->framed;
    return OK;
}

static err snappy_block(struct inflate_stream *s)
{
    size_t n = s->in_size;
    size_t size = 0;
    if (s->framed) {
        if (s->in_size < 4) {
            return ERR_CORRUPT;
        }
        n = get_be32(s->in);
        s->in += 4;
        s->in_size -= 4;
        if (n > s->in_size) {
            return ERR_CORRUPT;
        }
    }
    if (snappy_uncompressed_length((const char *)s->in, n, &size) != SNAPPY_OK || size / 32 > n) {
        return ERR_CORRUPT; /* no element gives more than 64 bytes for two */
    }
    if (size > COMPRESS_BLOCK_LIMIT) {
        return ERR_LIMIT;
    }
    s->block.len = 0;
    s->block.failed = false;
    if (!buf_reserve(&s->block, size + 1)) {
        return ERR_MEMORY;
    }
    if (snappy_uncompress((const char *)s->in, n, s->block.ptr, &size) != SNAPPY_OK) {
        return ERR_CORRUPT;
    }
    s->block.len = size;
    s->block_used = 0;
    s->in += n;
    s->in_size -= n;
    s->ended = true;
    return OK;
}

static err snappy_read(struct inflate_stream *s, uint8_t *p, size_t size, size_t *ret_size)
{
    while (s->block_used == s->block.len) {
        if (s->in_size == 0) {
            if (!s->ended) {
                return ERR_CORRUPT;
            }
            *ret_size = 0;
            return OK;
        }
        if (s->ended && !s->framed) {
            return ERR_CORRUPT;
        }
        err e = snappy_block(s);
        if (e) {
            return e;
        }
    }
    size_t n = s->block.len - s->block_used;
    n = n < size ? n : size;
    memcpy(p, s->block.ptr + s->block_used, n);
    s->block_used += n;
    *ret_size = n;
    return OK;
}

/* ---- lz4: one frame, as Java's reader takes it. It throws at skippable frames, dependent blocks
 * and dictionaries, and does not see a second frame: a batch like that would stop every Java
 * consumer. */

enum {
    LZ4_MAGIC_SIZE = 4,
    LZ4_FLAGS_SHOWN = 0xe1,  /* version, independent blocks, dictionary */
    LZ4_FLAGS_WANTED = 0x60, /* version 1, independent blocks, none */
};

static bool lz4_frame_is_for_all(const struct inflate_stream *s)
{
    static const uint8_t magic[LZ4_MAGIC_SIZE] = {0x04, 0x22, 0x4d, 0x18};
    return s->in_size > LZ4_MAGIC_SIZE && memcmp(s->in, magic, sizeof magic) == 0 &&
           (s->in[LZ4_MAGIC_SIZE] & LZ4_FLAGS_SHOWN) == LZ4_FLAGS_WANTED;
}

static err lz4_begin(struct inflate_stream *s)
{
    if (!lz4_frame_is_for_all(s)) {
        return ERR_CORRUPT;
    }
    if (s->lz4) {
        LZ4F_resetDecompressionContext(s->lz4);
        return OK;
    }
    return LZ4F_isError(LZ4F_createDecompressionContext(&s->lz4, LZ4F_VERSION)) ? ERR_MEMORY : OK;
}

static err lz4_read(struct inflate_stream *s, uint8_t *p, size_t size, size_t *ret_size)
{
    for (;;) {
        size_t out = size;
        size_t in = s->in_size;
        if (s->ended) {
            *ret_size = 0;
            return in > 0 ? ERR_CORRUPT : OK;
        }
        size_t left = LZ4F_decompress(s->lz4, p, &out, s->in, &in, NULL);
        if (LZ4F_isError(left)) {
            LZ4F_resetDecompressionContext(s->lz4);
            return strcmp(LZ4F_getErrorName(left), "ERROR_allocation_failed") == 0 ? ERR_MEMORY
                                                                                   : ERR_CORRUPT;
        }
        s->in += in;
        s->in_size -= in;
        s->ended = left == 0;
        if (out > 0) {
            *ret_size = out;
            return OK;
        }
        if (in == 0 && !s->ended) {
            return ERR_CORRUPT; /* cut short */
        }
    }
}

/* ---- zstd */

static err zstd_begin(struct inflate_stream *s)
{
    s->zstd_within = false;
    if (!s->zstd && !(s->zstd = ZSTD_createDStream())) {
        return ERR_MEMORY;
    }
    return ZSTD_isError(ZSTD_initDStream(s->zstd)) ? ERR_MEMORY : OK;
}

static err zstd_read(struct inflate_stream *s, uint8_t *p, size_t size, size_t *ret_size)
{
    for (;;) {
        ZSTD_outBuffer out = {p, size, 0};
        ZSTD_inBuffer in = {s->in, s->in_size, 0};
        if (s->in_size > 0) {
            s->ended = false;
        } else if (s->ended) {
            *ret_size = 0;
            return OK;
        }
        if (!s->zstd_within && s->in_size > 0) {
            uint64_t promised = ZSTD_getFrameContentSize(s->in, s->in_size);
            s->zstd_left = promised == ZSTD_CONTENTSIZE_ERROR ? ZSTD_CONTENTSIZE_UNKNOWN : promised;
            s->zstd_within = true;
        }
        size_t left = ZSTD_decompressStream(s->zstd, &out, &in);
        if (ZSTD_isError(left)) {
            return ERR_CORRUPT;
        }
        s->in += in.pos;
        s->in_size -= in.pos;
        s->ended = left == 0;
        s->zstd_within = left != 0;
        if (s->zstd_left != ZSTD_CONTENTSIZE_UNKNOWN) {
            /* libzstd looks at it whole frames alone, or not when the last block is empty. */
            if (out.pos > s->zstd_left || (s->ended && out.pos != s->zstd_left)) {
                return ERR_CORRUPT;
            }
            s->zstd_left -= out.pos;
        }
        if (out.pos > 0) {
            *ret_size = out.pos;
            return OK;
        }
        if (in.pos == 0 && !s->ended) {
            return ERR_CORRUPT; /* cut short */
        }
    }
}

/* ---- none */

static err none_begin(struct inflate_stream *s)
{
    s->ended = true;
    return OK;
}

static err none_read(struct inflate_stream *s, uint8_t *p, size_t size, size_t *ret_size)
{
    size_t n = s->in_size < size ? s->in_size : size;
    memcpy(p, s->in, n);
    s->in += n;
    s->in_size -= n;
    *ret_size = n;
    return OK;
}

static const struct {
    err (*begin)(struct inflate_stream *s);
    err (*read)(struct inflate_stream *s, uint8_t *p, size_t size, size_t *ret_size);
} rows[CODEC_COUNT] = {
    [CODEC_NONE] = {none_begin,   none_read  },
      [CODEC_GZIP] = {gzip_begin,   gzip_read  },
    [CODEC_SNAPPY] = {snappy_begin, snappy_read},
      [CODEC_LZ4] = {lz4_begin,    lz4_read   },
    [CODEC_ZSTD] = {zstd_begin,   zstd_read  },
};

err inflate_begin(struct inflate_stream *s, enum codec codec, const void *p, size_t size)
{
    if ((unsigned)codec >= CODEC_COUNT) {
        return ERR_UNSUPPORTED;
    }
    s->codec = codec;
    s->in = p;
    s->in_size = size;
    s->ended = false;
    return rows[codec].begin(s);
}

err inflate_read(struct inflate_stream *s, void *p, size_t size, size_t *ret_size)
{
    size_t n = 0;
    if (size == 0) {
        *ret_size = 0;
        return OK;
    }
    err e = rows[s->codec].read(s, p, size, &n);
    if (!e) {
        *ret_size = n;
    }
    return e;
}

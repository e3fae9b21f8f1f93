/* Compressing, whole inputs. Snappy in the framing of Java's xerial library: "\x82SNAPPY\0", int32
 * version 1, int32 least version 1, then blocks of int32 size and compressed bytes. */
#include "protocol/compress.h"

#include "base/bytes.h"
#include "protocol/snappy_frame.h"

#include <limits.h>
#include <lz4frame.h>
#include <snappy-c.h>
#include <zlib.h>
#include <zstd.h>

static const char *const names[CODEC_COUNT] = {"none", "gzip", "snappy", "lz4", "zstd"};

const char *codec_name(enum codec codec)
{
    return (unsigned)codec < CODEC_COUNT ? names[codec] : "unknown";
}

err codec_from_name(struct str name, enum codec *ret_codec)
{
    for (int i = 0; i < CODEC_COUNT; i++) {
        if (str_eq(name, str_of(names[i]))) {
            *ret_codec = (enum codec)i;
            return OK;
        }
    }
    if (str_eq(name, STR("uncompressed"))) {
        *ret_codec = CODEC_NONE;
        return OK;
    }
    return ERR_NOT_FOUND;
}

static err add_gzip(int32_t level, const void *p, size_t size, struct buf *out)
{
    z_stream z = {0};
    if (size > UINT_MAX / 2) {
        return ERR_LIMIT;
    }
    if (deflateInit2(&z, level == INT32_MIN ? Z_DEFAULT_COMPRESSION : level, Z_DEFLATED, 15 + 16, 8,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
        return ERR_MEMORY;
    }
    err e = ERR_MEMORY;
    uLong bound = deflateBound(&z, (uLong)size);
    if (buf_reserve(out, bound)) {
        z.next_in = (Bytef *)(uintptr_t)p;
        z.avail_in = (uInt)size;
        z.next_out = (Bytef *)out->ptr + out->len;
        z.avail_out = (uInt)bound;
        e = deflate(&z, Z_FINISH) == Z_STREAM_END ? OK : ERR_MEMORY;
        out->len += e ? 0 : z.total_out;
    }
    deflateEnd(&z);
    return e;
}

static err add_snappy(const void *p, size_t size, struct buf *out)
{
    const char *from = p;
    size_t start = out->len;
    buf_add(out, SNAPPY_MAGIC, SNAPPY_MAGIC_SIZE);
    uint8_t versions[8];
    put_be32(versions, 1);
    put_be32(versions + 4, 1);
    buf_add(out, versions, sizeof versions);
    for (size_t at = 0; at < size;) {
        size_t n = size - at < SNAPPY_BLOCK_SIZE ? size - at : SNAPPY_BLOCK_SIZE;
        size_t room = snappy_max_compressed_length(n);
        if (!buf_reserve(out, room + 4)) {
            break;
        }
        if (snappy_compress(from + at, n, out->ptr + out->len + 4, &room) != SNAPPY_OK) {
            out->len = start;
            return ERR_MEMORY;
        }
        put_be32(out->ptr + out->len, (uint32_t)room);
        out->len += 4 + room;
        at += n;
    }
    return out->failed ? ERR_MEMORY : OK;
}

static err add_lz4(int32_t level, const void *p, size_t size, struct buf *out)
{
    LZ4F_preferences_t how = {0};
    how.frameInfo.blockMode = LZ4F_blockIndependent;
    how.frameInfo.blockSizeID = LZ4F_max64KB;
    how.compressionLevel = level == INT32_MIN ? 0 : level;
    size_t room = LZ4F_compressFrameBound(size, &how);
    if (!buf_reserve(out, room)) {
        return ERR_MEMORY;
    }
    size_t n = LZ4F_compressFrame(out->ptr + out->len, room, p, size, &how);
    if (LZ4F_isError(n)) {
        return ERR_MEMORY;
    }
    out->len += n;
    return OK;
}

static err add_zstd(int32_t level, const void *p, size_t size, struct buf *out)
{
    size_t room = ZSTD_compressBound(size);
    if (!buf_reserve(out, room)) {
        return ERR_MEMORY;
    }
    size_t n = ZSTD_compress(out->ptr + out->len, room, p, size,
                             level == INT32_MIN ? ZSTD_CLEVEL_DEFAULT : level);
    if (ZSTD_isError(n)) {
        return ERR_MEMORY;
    }
    out->len += n;
    return OK;
}

err compress_bytes(enum codec codec, int32_t level, const void *p, size_t size, struct buf *out)
{
    switch (codec) {
    case CODEC_NONE: buf_add(out, p, size); return out->failed ? ERR_MEMORY : OK;
    case CODEC_GZIP: return add_gzip(level, p, size, out);
    case CODEC_SNAPPY: return add_snappy(p, size, out);
    case CODEC_LZ4: return add_lz4(level, p, size, out);
    case CODEC_ZSTD: return add_zstd(level, p, size, out);
    case CODEC_COUNT: break;
    }
    return ERR_UNSUPPORTED;
}

/* fuzz_log: what the targets share that open a log. */
#pragma once

#include "base/crc32c.h"
#include "broker/log/internal.h"
#include "tests/fuzz/fuzz.h"
#include "tests/kit/log_kit.h"

/* Sets the checksum of every batch right whose length is one. */
static inline void log_file_set_right(uint8_t *p, size_t size)
{
    while (size >= BATCH_HEADER_SIZE) {
        size_t n = (size_t)get_be32(p + 8) + BATCH_PREFIX_SIZE;
        if (n < BATCH_HEADER_SIZE || n > size) {
            return;
        }
        put_be32(p + 17, crc32c(p + BATCH_CRC_FROM, n - BATCH_CRC_FROM));
        p += n;
        size -= n;
    }
}

/* Reads from the start to the high watermark; nothing but good batches may come. False: there is
 * rot on the way, or a gap, which may be. */
static inline bool log_read_all(struct log_kit *k, int which)
{
    enum { READ_MAX = 1 << 20 };
    struct log *log = log_kit_log(k, which);
    int64_t next = log_start_offset(log);
    bool gaps = false;
    check(next <= log_high_watermark(log) && log_high_watermark(log) == log_end_offset(log));
    while (next < log_high_watermark(log)) {
        struct buf out = {0};
        struct batch_header h;
        int64_t before = next;
        err e = log_kit_read(k, which, next, READ_MAX, &out);
        check(!e || e == ERR_CORRUPT || e == ERR_RANGE);
        size_t at = 0;
        while (!e && at < out.len && !batch_header_read(out.ptr + at, out.len - at, &h) &&
               h.size <= out.len - at) {
            check(batch_crc_is_right(out.ptr + at, h.size));
            check(h.base_offset + h.last_offset_delta >= next);
            gaps = gaps || h.base_offset > next;
            next = h.base_offset + h.last_offset_delta + 1;
            at += h.size;
        }
        check(e || next > before); /* a read gets on, or says why not */
        buf_finish(&out);
        if (e) {
            return false;
        }
    }
    return !gaps;
}

/* The small files beside the segments.
 *
 *   leader-epoch-checkpoint: lines "0", the count, then "EPOCH START-OFFSET" each, both rising
 *   *-offset-checkpoint: lines "0", the count, then "TOPIC PARTITION OFFSET" each;
 *     durable-offset-checkpoint, which is not Kafka's, has "1" for "0" and ends with its checksum
 *   OFFSET.snapshot: int16 1, uint32 crc32c of what follows, int32 count, entries of 46 bytes
 */
#include "tools/log_dump.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "broker/log/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
    STATE_FILE_LIMIT = 64 * 1024 * 1024, /* bytes; a million producers */
    SNAPSHOT_HEAD = 10,
    SNAPSHOT_CRC_FROM = 6,
    SNAPSHOT_ENTRY = 46,
};

static bool read_whole(struct dump *d, const char *path, struct buf *out)
{
    FILE *f = fopen(path, "rbe");
    bool good = f != NULL;
    while (good) {
        if (!buf_reserve(out, 65536) || out->len > STATE_FILE_LIMIT) {
            errno = out->failed ? ENOMEM : EFBIG;
            good = false;
            break;
        }
        size_t n = fread(out->ptr + out->len, 1, 65536, f);
        out->len += n;
        if (n == 0) {
            good = !ferror(f);
            break;
        }
    }
    if (!good) {
        dump_problem(d, path, "cannot be read: %s", strerror(errno));
    }
    if (f) {
        fclose(f);
    }
    return good;
}

static void dump_epoch(struct dump *d, const char *path, int64_t epoch, int64_t start)
{
    if (d->t->json) {
        dump_json(d, json_pack("{s:s,s:o,s:I,s:I}", "kind", "leader_epoch", "file", json_text(path),
                               "epoch", (json_int_t)epoch, "start_offset", (json_int_t)start));
    } else {
        dump_print(d, "  leader epoch %" PRId64 " from offset %" PRId64 "\n", epoch, start);
    }
}

static bool line_numbers(struct str *rest, int count, int64_t values[2])
{
    const char *end = rest->len ? memchr(rest->ptr, '\n', rest->len) : NULL;
    if (!end) {
        return false;
    }
    struct str line = {rest->ptr, (size_t)(end - rest->ptr)};
    rest->ptr = end + 1;
    rest->len -= line.len + 1;
    const char *space = line.len ? memchr(line.ptr, ' ', line.len) : NULL;
    if ((count == 2) != (space != NULL)) {
        return false;
    }
    struct str first = {line.ptr, space ? (size_t)(space - line.ptr) : line.len};
    if (str_to_int64(first, &values[0]) != OK) {
        return false;
    }
    struct str second = {space ? space + 1 : NULL, space ? line.len - first.len - 1 : 0};
    return count == 1 || str_to_int64(second, &values[1]) == OK;
}

void dump_epochs(struct dump *d, const char *path)
{
    struct buf text = {0};
    int64_t v[2], count, last_epoch = -1, last_start = -1;
    dump_file(d, path);
    if (!read_whole(d, path, &text)) {
        goto out;
    }
    struct str rest = {text.ptr, text.len};
    if (!line_numbers(&rest, 1, v) || v[0] != 0) {
        dump_problem(d, path, "the first line is not version 0");
        goto out;
    }
    if (!line_numbers(&rest, 1, v) || v[0] < 0) {
        dump_problem(d, path, "the second line is no count");
        goto out;
    }
    count = v[0];
    for (int64_t i = 0; i < count; i++) {
        if (!line_numbers(&rest, 2, v)) {
            dump_problem(d, path, "entry %" PRId64 " of %" PRId64 " is missing or no entry", i,
                         count);
            goto out;
        }
        dump_epoch(d, path, v[0], v[1]);
        if (v[0] <= last_epoch || v[1] < last_start || v[0] > INT32_MAX) {
            dump_problem(d, path, "entry %" PRId64 " does not rise", i);
        }
        last_epoch = v[0];
        last_start = v[1];
    }
    if (rest.len > 0) {
        dump_problem(d, path, "%zu bytes behind the last entry", rest.len);
    }
out:
    buf_finish(&text);
}

/* "TOPIC PARTITION OFFSET", and what is behind it. */
static bool line_offset(struct str *rest, struct str *ret_partition, int64_t *ret_offset)
{
    const char *end = rest->len ? memchr(rest->ptr, '\n', rest->len) : NULL;
    if (!end) {
        return false;
    }
    struct str line = {rest->ptr, (size_t)(end - rest->ptr)};
    rest->ptr = end + 1;
    rest->len -= line.len + 1;
    const char *last = memrchr(line.ptr, ' ', line.len);
    const char *middle = last ? memrchr(line.ptr, ' ', (size_t)(last - line.ptr)) : NULL;
    int64_t partition;
    if (!middle || middle == line.ptr) {
        return false;
    }
    struct str number = {middle + 1, (size_t)(last - middle) - 1};
    struct str offset = {last + 1, (size_t)(end - last) - 1};
    *ret_partition = (struct str){line.ptr, (size_t)(last - line.ptr)};
    return str_to_int64(number, &partition) == OK && partition >= 0 && partition <= INT32_MAX &&
           str_to_int64(offset, ret_offset) == OK && *ret_offset >= 0;
}

void dump_offsets(struct dump *d, const char *path)
{
    struct buf text = {0};
    int64_t v[2], offset;
    struct str partition;
    const char *slash = strrchr(path, '/');
    bool is_sealed = strcmp(slash ? slash + 1 : path, "durable-offset-checkpoint") == 0;
    dump_file(d, path);
    if (!read_whole(d, path, &text) ||
        (text.len == 0 && !is_sealed)) { /* Kafka has empty ones until it knows any */
        goto out;
    }
    struct str rest = {text.ptr, text.len};
    is_sealed = is_sealed && text.len > 0 && text.ptr[0] != '0'; /* older builds wrote no sum */
    if (is_sealed && !offsets_text_unseal(&rest)) {
        dump_problem(d, path, "its checksum is wrong");
        goto out;
    }
    if (!line_numbers(&rest, 1, v) || v[0] != is_sealed) {
        dump_problem(d, path, "the first line is not version %d", is_sealed);
        goto out;
    }
    if (!line_numbers(&rest, 1, v) || v[0] < 0) {
        dump_problem(d, path, "the second line is no count");
        goto out;
    }
    for (int64_t i = 0; i < v[0] && !d->failed; i++) {
        if (!line_offset(&rest, &partition, &offset)) {
            dump_problem(d, path, "entry %" PRId64 " of %" PRId64 " is missing or no entry", i,
                         v[0]);
            goto out;
        }
        dump_print(d, "  %.*s: offset %" PRId64 "\n", STR_ARG(partition), offset);
        if (d->t->json) {
            dump_json(d, json_pack("{s:s,s:o,s:s#,s:I}", "kind", "checkpoint", "file",
                                   json_text(path), "partition", partition.ptr, (int)partition.len,
                                   "offset", (json_int_t)offset));
        }
    }
    if (rest.len > 0) {
        dump_problem(d, path, "%zu bytes behind the last entry", rest.len);
    }
out:
    buf_finish(&text);
}

static void dump_producer(struct dump *d, const char *path, const uint8_t *p)
{
    int64_t id = (int64_t)get_be64(p), offset = (int64_t)get_be64(p + 14);
    int64_t timestamp = (int64_t)get_be64(p + 26), open = (int64_t)get_be64(p + 38);
    int32_t sequence = (int32_t)get_be32(p + 10), delta = (int32_t)get_be32(p + 22);
    int32_t coordinator = (int32_t)get_be32(p + 34);
    int16_t epoch = (int16_t)get_be16(p + 8);
    if (d->t->json) {
        dump_json(d, json_pack("{s:s,s:o,s:I,s:i,s:i,s:I,s:i,s:I,s:i,s:o}", "kind", "producer",
                               "file", json_text(path), "producer_id", (json_int_t)id,
                               "producer_epoch", (int)epoch, "last_sequence", (int)sequence,
                               "last_offset", (json_int_t)offset, "offset_delta", (int)delta,
                               "timestamp", (json_int_t)timestamp, "coordinator_epoch",
                               (int)coordinator, "transaction_offset", json_offset(open)));
    } else {
        dump_print(d,
                   "  producer %" PRId64 " epoch %d last sequence %d last offset %" PRId64
                   " offset delta %d timestamp %" PRId64
                   " coordinator epoch %d transaction from %" PRId64 "\n",
                   id, epoch, sequence, offset, delta, timestamp, coordinator, open);
    }
    if (id < 0 || epoch < 0 || offset < -1 || delta < 0) {
        dump_problem(d, path, "producer %" PRId64 " contradicts itself", id);
    }
}

void dump_producers(struct dump *d, const char *path)
{
    struct buf file = {0};
    dump_file(d, path);
    if (!read_whole(d, path, &file)) {
        goto out;
    }
    const uint8_t *p = (const uint8_t *)file.ptr;
    if (file.len < SNAPSHOT_HEAD || get_be16(p) != 1) {
        dump_problem(d, path, "not a producer snapshot of version 1");
        goto out;
    }
    if (crc32c(p + SNAPSHOT_CRC_FROM, file.len - SNAPSHOT_CRC_FROM) != get_be32(p + 2)) {
        dump_problem(d, path, "its checksum is wrong");
        goto out;
    }
    uint32_t count = get_be32(p + SNAPSHOT_CRC_FROM);
    if (count * (uint64_t)SNAPSHOT_ENTRY != file.len - SNAPSHOT_HEAD) {
        dump_problem(d, path, "%u entries do not have %zu bytes", count, file.len - SNAPSHOT_HEAD);
        goto out;
    }
    for (uint32_t i = 0; i < count && !d->failed; i++) {
        dump_producer(d, path, p + SNAPSHOT_HEAD + i * (size_t)SNAPSHOT_ENTRY);
    }
out:
    buf_finish(&file);
}

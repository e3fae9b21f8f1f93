/* Small files beside the segments, in Kafka's text forms.
 *
 *   partition.metadata            version: 0 / topic_id: BASE64URL
 *   leader-epoch-checkpoint       0 / number of entries / EPOCH START_OFFSET, each
 *   *-offset-checkpoint           0 / number of entries / TOPIC PARTITION OFFSET, each; in the data
 *                                 directory
 *   durable-offset-checkpoint     likewise, but not Kafka's: 1 / number of entries / the entries /
 *                                 crc32c HEX, of all lines before. Older builds wrote 0 and no sum
 */
#include "broker/log/internal.h"

#include "base/check.h"
#include "base/crc32c.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>

enum { SMALL_FILE_MAX = 64 * 1024 * 1024 };

static bool next_line(struct str *text, struct str *ret_line)
{
    if (text->len == 0) {
        return false;
    }
    const char *end = memchr(text->ptr, '\n', text->len);
    size_t len = end ? (size_t)(end - text->ptr) : text->len;
    *ret_line = (struct str){text->ptr, len};
    size_t used = len + (end ? 1 : 0);
    *text = (struct str){text->ptr + used, text->len - used};
    return true;
}

static bool next_word(struct str *line, struct str *ret_word)
{
    size_t n = 0;
    while (n < line->len && line->ptr[n] != ' ') {
        n++;
    }
    *ret_word = (struct str){line->ptr, n};
    size_t used = n < line->len ? n + 1 : n;
    *line = (struct str){line->ptr + used, line->len - used};
    return n > 0;
}

static bool next_number(struct str *line, int64_t *ret_value)
{
    struct str word;
    return next_word(line, &word) && !str_to_int64(word, ret_value);
}

err metadata_read(struct store *store, const char *dir, struct uuid *ret_id)
{
    char path[LOG_PATH_SIZE];
    struct buf text = {0};
    struct str line;
    snprintf(path, sizeof path, "%s/partition.metadata", dir);
    err e = store_read_file(store, path, 4096, &text);
    struct str rest = {text.ptr, text.len};
    err found = e ? e : ERR_CORRUPT;
    while (!e && next_line(&rest, &line)) {
        struct str key;
        if (next_word(&line, &key) && str_eq(key, STR("topic_id:"))) {
            found = uuid_from_text(line, ret_id) ? ERR_CORRUPT : OK;
        }
    }
    buf_finish(&text);
    return found;
}

err metadata_write(struct store *store, const char *dir, struct uuid id)
{
    char path[LOG_PATH_SIZE];
    char text[UUID_TEXT_SIZE];
    char content[80];
    uuid_to_text(id, text);
    snprintf(path, sizeof path, "%s/partition.metadata", dir);
    int size = snprintf(content, sizeof content, "version: 0\ntopic_id: %s\n", text);
    /* It need not be synced: a start takes a directory without it for the log's of that name. */
    struct store_file *file = NULL;
    struct iovec v = {content, (size_t)size};
    err e = store->ops->open(store->ctx, path, STORE_CREATE, &file);
    if (!e) {
        e = store->ops->write(store->ctx, file, &v, 1, 0);
        e = e ? e : store->ops->truncate(store->ctx, file, size);
        store->ops->close(store->ctx, file);
    }
    return e;
}

err epochs_read(struct store *store, const char *dir, struct log_epoch **ret_epochs,
                int32_t *ret_count)
{
    char path[LOG_PATH_SIZE];
    struct buf text = {0};
    struct str line;
    int64_t version = -1;
    int64_t count = -1;
    struct log_epoch *epochs = NULL;
    int32_t n = 0;
    snprintf(path, sizeof path, "%s/leader-epoch-checkpoint", dir);
    err e = store_read_file(store, path, SMALL_FILE_MAX, &text);
    struct str rest = {text.ptr, text.len};
    if (!e && (!next_line(&rest, &line) || !next_number(&line, &version) || version != 0 ||
               !next_line(&rest, &line) || !next_number(&line, &count) || count < 0 ||
               (size_t)count > text.len)) {
        e = ERR_CORRUPT;
    }
    if (!e) {
        epochs = mem_need_zero((size_t)count + 1, sizeof *epochs);
    }
    while (!e && n < count) {
        int64_t epoch;
        int64_t start;
        if (!next_line(&rest, &line) || !next_number(&line, &epoch) ||
            !next_number(&line, &start) || epoch < 0 || epoch > INT32_MAX || start < 0 ||
            (n > 0 && epoch <= epochs[n - 1].epoch)) {
            e = ERR_CORRUPT;
        } else {
            epochs[n++] = (struct log_epoch){(int32_t)epoch, start};
        }
    }
    buf_finish(&text);
    if (e) {
        mem_free(epochs);
        return e;
    }
    *ret_epochs = epochs;
    *ret_count = n;
    return OK;
}

/* An entry of an offset checkpoint, with the name of its partition's directory as key. */
static err take_offset(struct str line, struct map *offsets)
{
    struct str topic;
    int64_t partition;
    int64_t offset;
    char key[LOG_PATH_SIZE];
    if (!next_word(&line, &topic) || topic.len > 249 || !next_number(&line, &partition) ||
        !next_number(&line, &offset) || offset < 0 || offset == INT64_MAX) {
        return ERR_CORRUPT;
    }
    int size = snprintf(key, sizeof key, "%.*s-%" PRId64, STR_ARG(topic), partition);
    check(!map_put(offsets, key, (size_t)size, (void *)(uintptr_t)(offset + 1)));
    return OK;
}

err offsets_file_read(struct store *store, const char *path, struct map *offsets)
{
    struct buf text = {0};
    struct str line;
    err e = store_read_file(store, path, SMALL_FILE_MAX, &text);
    struct str rest = {text.ptr, text.len};
    for (int n = 0; !e && next_line(&rest, &line); n++) {
        e = n < 2 ? OK : take_offset(line, offsets);
    }
    buf_finish(&text);
    return e;
}

/* ---- with a checksum */

enum { SEAL_SIZE = sizeof "crc32c 00000000\n" - 1 };

void offsets_text_seal(struct buf *text)
{
    buf_printf(text, "crc32c %08x\n", (unsigned)crc32c(text->ptr, text->len));
}

bool offsets_text_unseal(struct str *text)
{
    char seal[SEAL_SIZE + 1];
    if (text->len < SEAL_SIZE) {
        return false;
    }
    text->len -= SEAL_SIZE;
    snprintf(seal, sizeof seal, "crc32c %08x\n", (unsigned)crc32c(text->ptr, text->len));
    return memcmp(text->ptr + text->len, seal, SEAL_SIZE) == 0;
}

static err take_durable(struct str rest, struct map *offsets)
{
    struct str line;
    int64_t version;
    int64_t count;
    int64_t n = 0;
    bool sealed = rest.len > 0 && rest.ptr[0] == '1';
    if ((sealed && !offsets_text_unseal(&rest)) || !next_line(&rest, &line) ||
        !next_number(&line, &version) || version != sealed || !next_line(&rest, &line) ||
        !next_number(&line, &count)) {
        return ERR_CORRUPT;
    }
    for (; next_line(&rest, &line); n++) {
        err e = take_offset(line, offsets);
        if (e) {
            return e;
        }
    }
    return n == count ? OK : ERR_CORRUPT;
}

err durable_offsets_read(struct store *store, const char *path, struct map *offsets)
{
    struct buf text = {0};
    struct map found;
    map_init(&found, offsets->seed);
    err e = store_read_file(store, path, SMALL_FILE_MAX, &text);
    e = e ? e : take_durable((struct str){text.ptr, text.len}, &found);
    if (!e) {
        struct map before = *offsets;
        *offsets = found;
        found = before;
    }
    map_finish(&found);
    buf_finish(&text);
    return e;
}

int64_t checkpoint_value(const struct map *offsets, const char *dir, int64_t otherwise)
{
    uintptr_t v = (uintptr_t)map_get_str(offsets, str_of(dir));
    return v ? (int64_t)v - 1 : otherwise;
}

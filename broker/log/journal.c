/* The journal's files. All numbers little-endian, but for the batches, which are Kafka's.
 *
 * A file is a block with its header, then groups, each on a boundary of JOURNAL_BLOCK.
 *
 * The header: uint64 magic "RVJOURNL", uint32 version, uint32 crc32c, uint64 use, uint64 sequence
 * of the first group, 16 random bytes of salt, new for each use. Zeros there: the file holds
 * nothing; it is new, or was cleared.
 *
 * A group: uint32 magic "RJRG", uint32 crc32c (of the salt, then of the rest of the group), uint64
 * sequence, uint32 size, uint32 blocks, uint32 count, uint32 0, and `count` records.
 *
 * A record: 16 bytes topic id, int32 partition, uint32 size, int64 end, `size` bytes: a batch.
 *
 * A file's states:
 *
 *   NONE -> MAKING -> FREE -> ACTIVE -> FULL -> CLEARING -> FREE
 *
 * Invariants:
 *   J1  a group is whole or nothing: one CRC over all of it, salted, so that neither an older use's
 *       group nor bytes that a client made up can be taken for one
 *   J2  groups are numbered without a gap, over all files; a valid one behind a bad one is rot
 *   J3  a file is cleared, durably, before it is used again: no old group lies behind a new header
 *   J4  a batch is here only if all of it was written to its segment
 *   J5  uses and groups are counted from a start that left no file with any: the numbers of one
 *       process have no end that it could reach, and what a start reads is followed by nothing
 */
#include "broker/log/journal.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "base/rand.h"
#include "protocol/batch.h"

#include <stddef.h>
#include <stdio.h>

const uint64_t journal_file_magic = 0x4c4e52554f4a5652; /* "RVJOURNL" */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the structs are the file's bytes");
_Static_assert(sizeof(struct journal_header) == 48, "on disk");
_Static_assert(offsetof(struct journal_header, crc) == 12, "on disk");
_Static_assert(offsetof(struct journal_header, use) == 16, "on disk");
_Static_assert(offsetof(struct journal_header, sequence) == 24, "on disk");
_Static_assert(offsetof(struct journal_header, salt) == 32, "on disk");
_Static_assert(sizeof(struct journal_group) == 32, "on disk");
_Static_assert(offsetof(struct journal_group, sequence) == 8, "on disk");
_Static_assert(offsetof(struct journal_group, size) == 16, "on disk");
_Static_assert(offsetof(struct journal_group, blocks) == 20, "on disk");
_Static_assert(offsetof(struct journal_group, count) == 24, "on disk");
_Static_assert(sizeof(struct journal_record) == 32, "on disk");
_Static_assert(offsetof(struct journal_record, partition) == 16, "on disk");
_Static_assert(offsetof(struct journal_record, size) == 20, "on disk");
_Static_assert(offsetof(struct journal_record, end) == 24, "on disk");
_Static_assert(sizeof(struct journal_header) <= 512, "a sector: it is written whole or not");

enum {
    ZERO_CHUNK = 1 << 20,
    ROOM_FACTOR = 8, /* a file is made where so many of them would fit */
};

void journal_path(const struct journal *j, int number, char path[JOURNAL_PATH_SIZE])
{
    if (j->shard == 0) {
        snprintf(path, JOURNAL_PATH_SIZE, JOURNAL_NAME "%d", number);
    } else {
        snprintf(path, JOURNAL_PATH_SIZE, JOURNAL_NAME "%d.%d", j->shard, number);
    }
}

uint32_t journal_crc(const uint8_t salt[JOURNAL_SALT], const void *group, size_t size)
{
    const size_t from = offsetof(struct journal_group, sequence);
    return crc32c_more(crc32c(salt, JOURNAL_SALT), (const uint8_t *)group + from, size - from);
}

void journal_init(struct journal *j, struct store *store, const struct diag *diag, int32_t shard,
                  int64_t file_bytes)
{
    *j = (struct journal){
        .store = store,
        .diag = diag,
        .shard = shard,
        .file_bytes = file_bytes / JOURNAL_BLOCK * JOURNAL_BLOCK,
        .active = -1,
        .sequence = 1,
    };
    for (int i = 0; i < JOURNAL_FILES_MAX; i++) {
        j->files[i].number = i;
    }
}

void journal_finish(struct journal *j)
{
    for (int i = 0; i < JOURNAL_FILES_MAX; i++) {
        if (j->files[i].file) {
            j->store->ops->close(j->store->ctx, j->files[i].file);
            j->files[i].file = NULL;
        }
    }
    journal_forget_replay(j);
    mem_free(j->block);
    j->block = NULL;
}

/* ---- records */

size_t journal_batch_size(size_t batch_size)
{
    return sizeof(struct journal_record) + batch_size;
}

size_t journal_end_size(void)
{
    return sizeof(struct journal_record);
}

static void add_record(struct buf *records, struct journal_id id, uint32_t size, int64_t end)
{
    struct journal_record r = {.partition = id.partition, .size = size, .end = end};
    memcpy(r.topic, id.topic.b, sizeof r.topic);
    buf_add(records, &r, sizeof r);
}

void journal_add_batch(struct buf *records, struct journal_id id, const void *batch, size_t size)
{
    struct batch_header h;
    check(!batch_header_read(batch, size, &h) && h.size == size);
    check(buf_reserve(records, journal_batch_size(size)));
    add_record(records, id, (uint32_t)size, h.base_offset + h.last_offset_delta + 1);
    buf_add(records, batch, size);
    check(!records->failed);
}

void journal_add_end(struct buf *records, struct journal_id id, int64_t end)
{
    add_record(records, id, 0, end);
    check(!records->failed);
}

/* ---- states */

int journal_count(const struct journal *j, enum journal_state state)
{
    int n = 0;
    for (int i = 0; i < j->file_count; i++) {
        n += j->files[i].state == state;
    }
    return n;
}

bool journal_has_free(const struct journal *j)
{
    return journal_count(j, JOURNAL_FREE) > 0;
}

struct journal_file *journal_first(struct journal *j, enum journal_state state)
{
    struct journal_file *first = NULL;
    for (int i = 0; i < JOURNAL_FILES_MAX; i++) {
        struct journal_file *f = &j->files[i];
        if (f->state == state && (!first || f->use < first->use)) {
            first = f;
        }
    }
    return first;
}

/* ---- groups */

static bool take_file(struct journal *j)
{
    struct journal_file *f = journal_first(j, JOURNAL_FREE);
    if (!f) {
        return false;
    }
    if (j->active >= 0) {
        j->files[j->active].state = JOURNAL_FULL;
    }
    f->state = JOURNAL_ACTIVE;
    f->use = ++j->use;
    f->sequence = j->sequence;
    rand_system(f->salt, sizeof f->salt);
    j->active = (int)(f - j->files);
    j->position = JOURNAL_BLOCK;
    return true;
}

bool journal_reserve(struct journal *j, size_t size, struct journal_place *ret_place)
{
    int64_t bytes = (int64_t)(sizeof(struct journal_group) + size + JOURNAL_BLOCK - 1) /
                    JOURNAL_BLOCK * JOURNAL_BLOCK;
    if (bytes > j->file_bytes - JOURNAL_BLOCK) {
        return false;
    }
    if ((j->active < 0 || bytes > j->file_bytes - j->position) && !take_file(j)) {
        return false;
    }
    *ret_place = (struct journal_place){
        .file = &j->files[j->active],
        .first = j->position == JOURNAL_BLOCK,
        .position = j->position,
        .sequence = j->sequence++,
        .blocks = (uint32_t)(bytes / JOURNAL_BLOCK),
    };
    j->position += bytes;
    return true;
}

void journal_put_back(struct journal *j, const struct journal_place *place)
{
    check(&j->files[j->active] == place->file && j->sequence == place->sequence + 1);
    j->position = place->position;
    j->sequence = place->sequence; /* J2 */
}

void journal_abandon(struct journal *j, const struct journal_place *place)
{
    journal_put_back(j, place);
    j->position = j->file_bytes;
}

err journal_write(struct journal *j, const struct journal_place *place,
                  const struct buf *const *parts, int count, bool *ret_written)
{
    const struct journal_file *f = place->file;
    size_t head = place->first ? JOURNAL_BLOCK : 0;
    size_t room = head + (size_t)place->blocks * JOURNAL_BLOCK;
    size_t size = sizeof(struct journal_group);
    *ret_written = false;
    if (room > j->block_size) {
        j->block = mem_need_resize(j->block, room);
        j->block_size = room;
    }
    uint8_t *group = j->block + head;
    struct journal_group g = {
        .magic = JOURNAL_GROUP_MAGIC, .sequence = place->sequence, .blocks = place->blocks};
    for (int i = 0; i < count; i++) {
        check(size + parts[i]->len <= room - head);
        if (parts[i]->len) {
            memcpy(group + size, parts[i]->ptr, parts[i]->len);
        }
        size += parts[i]->len;
    }
    for (size_t at = sizeof g; at < size; g.count++) {
        struct journal_record r;
        memcpy(&r, group + at, sizeof r);
        at += sizeof r + r.size;
    }
    memset(group + size, 0, room - head - size);
    g.size = (uint32_t)size;
    memcpy(group, &g, sizeof g);
    g.crc = journal_crc(f->salt, group, size);
    memcpy(group, &g, sizeof g);
    if (place->first) {
        struct journal_header h = {.magic = journal_file_magic,
                                   .version = JOURNAL_VERSION,
                                   .use = f->use,
                                   .sequence = f->sequence};
        memcpy(h.salt, f->salt, sizeof h.salt);
        h.crc = crc32c(&h.use, sizeof h - offsetof(struct journal_header, use));
        memset(j->block, 0, JOURNAL_BLOCK);
        memcpy(j->block, &h, sizeof h);
    }
    const struct iovec all = {j->block, room};
    err e = j->store->ops->write(j->store->ctx, f->file, &all, 1, place->position - (int64_t)head);
    *ret_written = e == OK;
    return e ? e : j->store->ops->sync(j->store->ctx, f->file);
}

/* ---- files */

static err write_zeros(struct journal *j, struct store_file *file, int64_t size)
{
    uint8_t *zeros = mem_need_zero(1, ZERO_CHUNK);
    err e = OK;
    for (int64_t at = 0; !e && at < size; at += ZERO_CHUNK) {
        int64_t left = size - at;
        const struct iovec v = {zeros, left < ZERO_CHUNK ? (size_t)left : ZERO_CHUNK};
        e = j->store->ops->write(j->store->ctx, file, &v, 1, at);
    }
    mem_free(zeros);
    return e ? e : j->store->ops->sync(j->store->ctx, file);
}

err journal_make_file(struct journal *j, struct journal_file *f)
{
    char path[JOURNAL_PATH_SIZE];
    struct store *store = j->store;
    journal_path(j, f->number, path);
    int64_t free_bytes;
    int64_t total_bytes;
    check(!f->file);
    err e = store->ops->space(store->ctx, &free_bytes, &total_bytes);
    if (!e && free_bytes / ROOM_FACTOR < j->file_bytes) {
        e = ERR_NO_SPACE; /* what is left is for records */
    }
    if (e) {
        return e;
    }
    e = store->ops->open(store->ctx, path, STORE_CREATE, &f->file);
    e = e ? e : store->ops->truncate(store->ctx, f->file, 0);
    e = e ? e : write_zeros(j, f->file, j->file_bytes);
    e = e ? e : store->ops->sync_dir(store->ctx, "");
    if (e && f->file) {
        store->ops->close(store->ctx, f->file);
        f->file = NULL;
        (void)store->ops->unlink(store->ctx, path); /* a start or the next attempt makes it whole */
    }
    return e;
}

err journal_clear_file(struct journal *j, struct journal_file *f)
{
    return write_zeros(j, f->file, JOURNAL_BLOCK); /* J3 */
}

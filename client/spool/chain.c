/* The format; numbers are big-endian.
 *
 *   file    magic "RVSPOOL" (7), version "1" (1), salt (8), number of the first entry (8),
 *           kind (4), crc32c of the 28 bytes before (4), entries
 *   entry   crc32c (4) of the salt and of all that follows, size of the body (4), number (8),
 *           durable (8), body, zeros up to a multiple of 8
 *
 * `durable` says that all entries of this file with a lower number were on the medium when this one
 * was written. The salt is random and new for every file and every reset.
 *
 * Invariants:
 *   C1  entries are written behind each other; what is behind the last good one was never there
 *       whole, or nobody was told that it is safe
 *   C2  a bad entry that is vouched for, by a later entry's `durable` or by the caller, has rotted.
 *       What nothing vouches for (the last ones) cannot be told from what a crash tore
 *   C3  bytes of an older use of the file never pass: they have another salt
 *   C4  nothing is appended to what chain_scan found before chain_repair wrote it again and synced:
 *       after a sync that failed the page cache shows what the medium has not
 *   C5  the head of a file that grows is on the medium before anything follows it: a bad one has
 *       rotted, but for a file that holds nothing else
 */
#include "client/spool/chain.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "base/rand.h"
#include "client/sealed/fail.h"

#include <stdio.h>
#include <string.h>

enum {
    VERSION_AT = 7,
    SALT_AT = 8,
    FIRST_AT = 16,
    KIND_AT = 24,
    FILE_CRC_AT = 28,
    SIZE_AT = 4,
    NUMBER_AT = 8,
    DURABLE_AT = 16,
    CHUNK_SIZE = 65536, /* bytes that are read at once to search or to write again */
};

static const char magic[7] = "RVSPOOL";
static const uint8_t version = '1';

/* ---- errors ---- */

static int io_failed(const struct chain *c, const char *what, err e, struct rv_error *ret_error)
{
    int code = e == ERR_NO_SPACE    ? RV_E_FULL
               : e == ERR_MEMORY    ? RV_E_MEMORY
               : e == ERR_NOT_FOUND ? RV_E_ABSENT
                                    : RV_E_IO;
    return fail_set(ret_error, code, "file %s: %s: %s", c->name, what, err_text(e));
}

static int is_usable(const struct chain *c, struct rv_error *ret_error)
{
    if (!c->failed) {
        return RV_OK;
    }
    int code = fail_set(ret_error, RV_E_IO, "file %s: writing it has failed before: open it anew",
                        c->name);
    if (ret_error) {
        ret_error->flags |= RV_FATAL;
    }
    return code;
}

static int write_failed(struct chain *c, const char *what, err e, struct rv_error *ret_error)
{
    c->failed = true;
    int code = io_failed(c, what, e, ret_error);
    if (ret_error) {
        ret_error->flags |= RV_FATAL | RV_UNSURE;
    }
    return code;
}

/* ---- heads ---- */

static uint32_t entry_crc(const struct chain *c, const uint8_t *head, const void *body, size_t size)
{
    uint8_t salt[8];
    put_be64(salt, c->salt);
    uint32_t crc = crc32c(salt, sizeof salt);
    crc = crc32c_more(crc, head + SIZE_AT, CHAIN_HEAD_SIZE - SIZE_AT);
    return crc32c_more(crc, body, size);
}

static void file_head_put(const struct chain *c, uint8_t *head)
{
    memcpy(head, magic, sizeof magic);
    head[VERSION_AT] = version;
    put_be64(head + SALT_AT, c->salt);
    put_be64(head + FIRST_AT, c->first);
    put_be32(head + KIND_AT, (uint32_t)c->kind);
    put_be32(head + FILE_CRC_AT, crc32c(head, FILE_CRC_AT));
}

/* Fills the head of `entry` and pads it. */
static int entry_seal(const struct chain *c, uint64_t number, struct buf *entry,
                      struct rv_error *ret_error)
{
    if (entry->failed) {
        return fail_memory(ret_error);
    }
    check(entry->len >= CHAIN_HEAD_SIZE);
    size_t body_size = entry->len - CHAIN_HEAD_SIZE;
    if (body_size > CHAIN_BODY_LIMIT) {
        return fail_set(ret_error, RV_E_TOO_LARGE, "%zu bytes are more than one entry may have",
                        body_size);
    }
    static const char zeros[8];
    buf_add(entry, zeros, (size_t)chain_entry_size(body_size) - entry->len);
    if (entry->failed) {
        return fail_memory(ret_error);
    }
    uint8_t *head = (uint8_t *)entry->ptr;
    put_be32(head + SIZE_AT, (uint32_t)body_size);
    put_be64(head + NUMBER_AT, number);
    put_be64(head + DURABLE_AT, c->durable);
    put_be32(head, entry_crc(c, head, head + CHAIN_HEAD_SIZE, body_size));
    return RV_OK;
}

/* ---- create and open ---- */

static void chain_begin(struct chain *c, const struct disk *disk, const char *name,
                        enum chain_kind kind)
{
    *c = (struct chain){.disk = disk, .kind = kind, .end = CHAIN_FILE_HEAD_SIZE};
    snprintf(c->name, sizeof c->name, "%s", name);
}

static void salt_draw(struct chain *c, uint64_t first)
{
    rand_system(&c->salt, sizeof c->salt);
    c->first = c->next = c->durable = first;
    c->end = CHAIN_FILE_HEAD_SIZE;
}

static err zeros_write(const struct chain *c)
{
    uint8_t *zeros = mem_zero(1, CHUNK_SIZE);
    err e = zeros ? OK : ERR_MEMORY;
    for (int64_t at = 0; e == OK && at < c->size_bytes; at += CHUNK_SIZE) {
        int64_t left = c->size_bytes - at;
        e = c->disk->ops->write(c->disk->ctx, c->file, zeros,
                                left < CHUNK_SIZE ? (size_t)left : (size_t)CHUNK_SIZE, at);
    }
    mem_free(zeros);
    return e;
}

int chain_create(const struct disk *disk, const char *name, enum chain_kind kind, uint64_t first,
                 int64_t size_bytes, struct chain *ret_chain, struct rv_error *ret_error)
{
    struct chain c;
    chain_begin(&c, disk, name, kind);
    c.size_bytes = size_bytes;
    salt_draw(&c, first);
    err e = disk->ops->open(disk->ctx, name, DISK_CREATE, &c.file);
    if (e != OK) {
        return io_failed(&c, "creating it", e, ret_error);
    }
    uint8_t head[CHAIN_FILE_HEAD_SIZE];
    file_head_put(&c, head);
    e = size_bytes ? zeros_write(&c) : disk->ops->write(disk->ctx, c.file, head, sizeof head, 0);
    e = e == OK ? disk->ops->sync(disk->ctx, c.file) : e;
    if (e != OK) {
        int code = io_failed(&c, "creating it", e, ret_error);
        chain_close(&c);
        return code;
    }
    *ret_chain = c;
    return RV_OK;
}

/* The head of a file of `size` bytes. */
static int head_read(struct chain *c, int64_t size, struct rv_error *ret_error)
{
    static const uint8_t zeros[CHAIN_FILE_HEAD_SIZE];
    uint8_t head[CHAIN_FILE_HEAD_SIZE] = {0};
    size_t n = 0;
    err e = c->disk->ops->read(c->disk->ctx, c->file, head, sizeof head, 0, &n);
    if (e != OK) {
        return io_failed(c, "reading it", e, ret_error);
    }
    bool is_good = n == sizeof head && memcmp(head, magic, sizeof magic) == 0 &&
                   get_be32(head + FILE_CRC_AT) == crc32c(head, FILE_CRC_AT) &&
                   get_be32(head + KIND_AT) == (uint32_t)c->kind;
    if (is_good && head[VERSION_AT] != version) {
        return fail_set(ret_error, RV_E_VERSION, "file %s: its format %c is not known here",
                        c->name, head[VERSION_AT]);
    }
    if (is_good) {
        c->salt = get_be64(head + SALT_AT);
        c->first = c->next = c->durable = get_be64(head + FIRST_AT);
        return RV_OK;
    }
    bool is_void = c->kind == CHAIN_SENDING ? memcmp(head, zeros, sizeof zeros) == 0
                                            : size <= CHAIN_FILE_HEAD_SIZE; /* C5 */
    return is_void ? fail_set(ret_error, RV_E_ABSENT, "file %s: there is nothing in it", c->name)
                   : fail_set(ret_error, RV_E_CORRUPT, "file %s: its head is damaged", c->name);
}

int chain_open(const struct disk *disk, const char *name, enum chain_kind kind, enum disk_open how,
               struct chain *ret_chain, struct rv_error *ret_error)
{
    struct chain c;
    chain_begin(&c, disk, name, kind);
    err e = disk->ops->open(disk->ctx, name, how, &c.file);
    if (e != OK) {
        return io_failed(&c, "opening it", e, ret_error);
    }
    int64_t size = 0;
    e = disk->ops->size(disk->ctx, c.file, &size);
    int code = e != OK ? io_failed(&c, "its size", e, ret_error) : head_read(&c, size, ret_error);
    if (kind == CHAIN_SENDING) {
        c.size_bytes = size;
    }
    bool may_reset = kind == CHAIN_SENDING && (code == RV_E_ABSENT || code == RV_E_CORRUPT);
    if (code != RV_OK && !may_reset) {
        chain_close(&c);
        return code;
    }
    *ret_chain = c;
    return code;
}

void chain_close(struct chain *c)
{
    if (c->file) {
        /* What counts is synced; what is not, nobody was told to be safe. */
        (void)c->disk->ops->close(c->disk->ctx, c->file);
        c->file = NULL;
    }
}

/* ---- reading ---- */

/* The entry at `position`, of which nothing at or beyond `limit` is read. A bad one is none:
 * *ret_good false. Its number is whatever it says. */
static int entry_read(const struct chain *c, int64_t position, int64_t limit, struct buf *into,
                      struct chain_entry *ret_entry, uint64_t *ret_durable, bool *ret_good,
                      struct rv_error *ret_error)
{
    uint8_t head[CHAIN_HEAD_SIZE];
    size_t n = 0;
    *ret_good = false;
    if (position + CHAIN_HEAD_SIZE > limit) {
        return RV_OK;
    }
    err e = c->disk->ops->read(c->disk->ctx, c->file, head, sizeof head, position, &n);
    size_t size = get_be32(head + SIZE_AT);
    if (e == OK && (n < sizeof head || size > CHAIN_BODY_LIMIT ||
                    position + CHAIN_HEAD_SIZE + (int64_t)size > limit)) {
        return RV_OK;
    }
    into->len = 0;
    if (e == OK && !buf_reserve(into, size + 1)) {
        into->failed = false;
        return fail_memory(ret_error);
    }
    if (e == OK) {
        e = c->disk->ops->read(c->disk->ctx, c->file, into->ptr, size, position + CHAIN_HEAD_SIZE,
                               &n);
    }
    if (e != OK) {
        return io_failed(c, "reading it", e, ret_error);
    }
    *ret_good = n == size && get_be32(head) == entry_crc(c, head, into->ptr, size);
    *ret_entry = (struct chain_entry){
        .number = get_be64(head + NUMBER_AT),
        .body = {(const uint8_t *)into->ptr, size},
        .position = position,
    };
    *ret_durable = get_be64(head + DURABLE_AT);
    return RV_OK;
}

static int damaged(const struct chain *c, uint64_t number, int64_t position, const char *why,
                   struct rv_error *ret_error)
{
    return fail_set(ret_error, RV_E_CORRUPT, "file %s: entry %llu at position %lld is damaged%s",
                    c->name, (unsigned long long)number, (long long)position, why);
}

int chain_read(const struct chain *c, int64_t *position, uint64_t number, struct buf *into,
               struct chain_entry *ret_entry, struct rv_error *ret_error)
{
    struct chain_entry entry = {0};
    uint64_t durable = 0;
    int64_t size = 0;
    bool is_good = false;
    err e = c->disk->ops->size(c->disk->ctx, c->file, &size);
    if (e != OK) {
        return io_failed(c, "its size", e, ret_error);
    }
    int code = entry_read(c, *position, size, into, &entry, &durable, &is_good, ret_error);
    if (code == RV_OK && (!is_good || entry.number != number)) {
        code = damaged(c, number, *position, "", ret_error);
    }
    if (code == RV_OK) {
        *ret_entry = entry;
        *position += chain_entry_size(entry.body.len);
    }
    return code;
}

/* Whether an entry behind the bad one at `position` says that it was safe (C2). */
static int search(const struct chain *c, uint64_t number, int64_t position, int64_t size,
                  struct buf *into, bool *ret_found, struct rv_error *ret_error)
{
    uint8_t *chunk = mem_alloc(CHUNK_SIZE);
    if (!chunk) {
        return fail_memory(ret_error);
    }
    int code = RV_OK;
    *ret_found = false;
    for (int64_t at = position; code == RV_OK && !*ret_found && at + CHAIN_HEAD_SIZE <= size;
         at += CHUNK_SIZE - CHAIN_HEAD_SIZE) {
        size_t n = 0;
        err e = c->disk->ops->read(c->disk->ctx, c->file, chunk, CHUNK_SIZE, at, &n);
        code = e == OK ? RV_OK : io_failed(c, "reading it", e, ret_error);
        for (size_t i = 0; code == RV_OK && !*ret_found && i + CHAIN_HEAD_SIZE <= n; i += 8) {
            uint64_t found = get_be64(chunk + i + NUMBER_AT);
            uint64_t durable = get_be64(chunk + i + DURABLE_AT);
            if (durable > number && found >= durable) {
                struct chain_entry entry;
                code = entry_read(c, at + (int64_t)i, size, into, &entry, &durable, ret_found,
                                  ret_error);
            }
        }
    }
    mem_free(chunk);
    return code;
}

int chain_scan(struct chain *c, uint64_t vouched, chain_each *each, void *ctx,
               struct rv_error *ret_error)
{
    struct buf into = {0};
    int64_t size = 0;
    err e = c->disk->ops->size(c->disk->ctx, c->file, &size);
    int code = e == OK ? RV_OK : io_failed(c, "its size", e, ret_error);
    int64_t position = CHAIN_FILE_HEAD_SIZE;
    uint64_t number = c->first;
    bool is_good = true;
    while (code == RV_OK && is_good) {
        struct chain_entry entry = {0};
        uint64_t durable = 0;
        code = entry_read(c, position, size, &into, &entry, &durable, &is_good, ret_error);
        is_good = is_good && entry.number == number;
        if (code == RV_OK && is_good) {
            code = each ? each(ctx, &entry, ret_error) : RV_OK;
            number++;
            position += chain_entry_size(entry.body.len);
        }
    }
    if (code == RV_OK && number < vouched) {
        code = damaged(c, number, position, ", or is not there", ret_error);
    }
    bool is_found = false;
    if (code == RV_OK) {
        code = search(c, number, position, size, &into, &is_found, ret_error);
    }
    if (code == RV_OK && is_found) {
        code = damaged(c, number, position, ": later ones say that it was safe", ret_error);
    }
    if (code == RV_OK) {
        c->next = number;
        c->durable = c->first;
        c->end = position;
    }
    buf_finish(&into);
    return code;
}

/* ---- writing ---- */

static err write_again(const struct chain *c)
{
    uint8_t *chunk = mem_alloc(CHUNK_SIZE);
    err e = chunk ? OK : ERR_MEMORY;
    for (int64_t at = 0; e == OK && at < c->end; at += CHUNK_SIZE) {
        size_t size = c->end - at < CHUNK_SIZE ? (size_t)(c->end - at) : (size_t)CHUNK_SIZE;
        size_t n = 0;
        e = c->disk->ops->read(c->disk->ctx, c->file, chunk, size, at, &n);
        e = e == OK && n < size ? ERR_IO : e;
        e = e == OK ? c->disk->ops->write(c->disk->ctx, c->file, chunk, size, at) : e;
    }
    mem_free(chunk);
    return e;
}

int chain_repair(struct chain *c, struct rv_error *ret_error)
{
    check(!c->size_bytes);
    err e = c->disk->ops->truncate(c->disk->ctx, c->file, c->end);
    e = e == OK ? write_again(c) : e;
    e = e == OK ? c->disk->ops->sync(c->disk->ctx, c->file) : e;
    if (e != OK) {
        return write_failed(c, "writing it again", e, ret_error);
    }
    c->durable = c->next;
    return RV_OK;
}

int chain_append(struct chain *c, struct buf *entry, struct rv_error *ret_error)
{
    int code = is_usable(c, ret_error);
    code = code == RV_OK ? entry_seal(c, c->next, entry, ret_error) : code;
    if (code != RV_OK) {
        return code;
    }
    if (c->size_bytes && c->end + (int64_t)entry->len > c->size_bytes) {
        return fail_set(ret_error, RV_E_FULL, "file %s: no room", c->name);
    }
    err e = c->disk->ops->write(c->disk->ctx, c->file, entry->ptr, entry->len, c->end);
    if (e == ERR_NO_SPACE &&
        (c->size_bytes || c->disk->ops->truncate(c->disk->ctx, c->file, c->end) == OK)) {
        return fail_set(ret_error, RV_E_FULL, "file %s: the disk is full", c->name); /* C1 */
    }
    if (e != OK) {
        return write_failed(c, "writing it", e, ret_error);
    }
    c->next++;
    c->end += (int64_t)entry->len;
    return RV_OK;
}

int chain_reset(struct chain *c, uint64_t first, struct buf *entries, size_t count,
                struct rv_error *ret_error)
{
    check(c->size_bytes);
    struct chain fresh = *c;
    struct buf all = {0};
    uint8_t head[CHAIN_FILE_HEAD_SIZE];
    salt_draw(&fresh, first);
    file_head_put(&fresh, head);
    buf_add(&all, head, sizeof head);
    int code = is_usable(c, ret_error);
    for (size_t i = 0; code == RV_OK && i < count; i++) {
        code = entry_seal(&fresh, fresh.next++, &entries[i], ret_error);
        if (code == RV_OK) {
            buf_add(&all, entries[i].ptr, entries[i].len);
        }
    }
    if (code == RV_OK && all.failed) {
        code = fail_memory(ret_error);
    }
    if (code == RV_OK && (int64_t)all.len > c->size_bytes) {
        code = fail_set(ret_error, RV_E_FULL, "file %s: no room", c->name);
    }
    if (code == RV_OK) {
        err e = c->disk->ops->write(c->disk->ctx, c->file, all.ptr, all.len, 0);
        e = e == OK ? c->disk->ops->sync(c->disk->ctx, c->file) : e;
        code = e == OK ? RV_OK : write_failed(c, "beginning it anew", e, ret_error);
    }
    if (code == RV_OK) {
        fresh.durable = fresh.next;
        fresh.end = (int64_t)all.len;
        *c = fresh;
    }
    buf_finish(&all);
    return code;
}

int chain_sync(struct chain *c, struct rv_error *ret_error)
{
    int code = is_usable(c, ret_error);
    if (code != RV_OK || c->durable == c->next) {
        return code;
    }
    err e = c->disk->ops->sync(c->disk->ctx, c->file);
    if (e != OK) {
        return write_failed(c, "syncing it", e, ret_error);
    }
    c->durable = c->next;
    return RV_OK;
}

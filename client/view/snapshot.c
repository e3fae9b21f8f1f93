/* The file of a view that is kept in memory. Numbers are big-endian.
 *
 *   "RVVIEW" · u16 version (1)
 *   u16 size, topic · u8 size, topic id
 *   i64 generation · i64 fresh_ms · i64 without_key · i64 rebuilds · u8 is_complete
 *   u32 partitions, each: i32 partition · i32 leader epoch · i64 offset
 *   u64 entries, each: u32 key size · u32 value size (0xffffffff: null) · i32 partition ·
 *                      u8 of the generation before · i64 offset · i64 timestamp · key · value
 *   u32 CRC-32C of all of that
 *
 * It is written beside its place, synced, and renamed: a crash leaves the old one or the new one.
 * It is read twice, the first time for the checksum alone, so that nothing is believed before. */
#include "client/view/memory.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/fileio.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    VERSION = 1,
    PIECE_SIZE = 64 * 1024, /* bytes read or written at once */
    STATE_SIZE = 4 * 8 + 1,
    POSITION_SIZE = 16,
    ENTRY_SIZE = 4 + 4 + 4 + 1 + 8 + 8, /* before key and value */
    PARTITIONS_LIMIT = 1000000,
};

static const char magic[6] = {'R', 'V', 'V', 'I', 'E', 'W'};

static int io_fail(struct rv_error *e, const char *what, const char *path, int number)
{
    return view_fail(e, RV_E_IO, "cannot %s %s: %s", what, path, strerror(number));
}

/* ---- reading ---- */

struct reader {
    int fd;           /* -1: all of it is in `piece` */
    const char *path; /* for what is said */
    uint8_t *piece;   /* owned when there is a file */
    size_t size;      /* bytes there */
    size_t at, end;   /* what of it is still to be read */
    uint64_t left;    /* bytes behind `at`, without the checksum */
    int code;         /* the first error */
    struct rv_error *e;
};

static void reader_fail(struct reader *r, const char *why)
{
    if (r->code == RV_OK) {
        r->code = view_fail(r->e, RV_E_CORRUPT, "%s: %s", r->path, why);
    }
}

/* Reads until `size` bytes are in the piece from `at` on. */
static void reader_fill(struct reader *r, size_t size)
{
    if (size > r->size) {
        uint8_t *more = mem_resize(r->piece, size);
        if (!more) {
            r->code = view_fail(r->e, RV_E_MEMORY, "out of memory");
            return;
        }
        r->piece = more;
        r->size = size;
    }
    memmove(r->piece, r->piece + r->at, r->end - r->at);
    r->end -= r->at;
    r->at = 0;
    while (r->end < size && r->code == RV_OK) {
        ssize_t n = read(r->fd, r->piece + r->end, r->size - r->end);
        if (n > 0) {
            r->end += (size_t)n;
        } else if (n == 0) {
            reader_fail(r, "it ends too early");
        } else if (errno != EINTR) {
            r->code = io_fail(r->e, "read", r->path, errno);
        }
    }
}

/* The next `size` bytes, until the next call; NULL: an error. */
static const uint8_t *take(struct reader *r, uint64_t size)
{
    if (r->code == RV_OK && size > r->left) {
        reader_fail(r, "it contradicts itself");
    }
    if (r->code == RV_OK && r->end - r->at < size) {
        reader_fill(r, (size_t)size);
    }
    if (r->code != RV_OK) {
        return NULL;
    }
    const uint8_t *p = r->piece + r->at;
    r->at += (size_t)size;
    r->left -= size;
    return p;
}

static uint64_t take_number(struct reader *r, size_t size)
{
    const uint8_t *p = take(r, size);
    uint64_t n = 0;
    for (size_t i = 0; p && i < size; i++) {
        n = n << 8 | p[i];
    }
    return n;
}

static void read_head(struct view_memory *m, struct reader *r)
{
    const uint8_t *p = take(r, sizeof magic);
    if (!p || memcmp(p, magic, sizeof magic) != 0) {
        reader_fail(r, "it is not the file of a view");
        return;
    }
    if (take_number(r, 2) != VERSION) {
        reader_fail(r, "it is of another version");
        return;
    }
    size_t size = (size_t)take_number(r, 2);
    p = take(r, size);
    if (p && (size != strlen(m->topic) || memcmp(p, m->topic, size) != 0)) {
        reader_fail(r, "it is of another topic");
    }
    size = (size_t)take_number(r, 1);
    if (size >= sizeof m->state.topic_id) {
        reader_fail(r, "it contradicts itself");
    }
    p = take(r, size);
    if (p) {
        memcpy(m->state.topic_id, p, size);
    }
    m->state.generation = (int64_t)take_number(r, 8);
    m->state.fresh_ms = (int64_t)take_number(r, 8);
    m->state.without_key = (int64_t)take_number(r, 8);
    m->state.rebuilds = (int64_t)take_number(r, 8);
    m->state.is_complete = take_number(r, 1) != 0;
    if (m->state.generation < 1) {
        reader_fail(r, "it contradicts itself");
    }
}

static void read_positions(struct view_memory *m, struct reader *r)
{
    size_t count = (size_t)take_number(r, 4);
    if (r->code == RV_OK &&
        (count == 0 || count > PARTITIONS_LIMIT || count * POSITION_SIZE > r->left)) {
        reader_fail(r, "it contradicts itself");
    }
    if (r->code != RV_OK) {
        return;
    }
    m->state.positions = mem_zero(count, sizeof *m->state.positions);
    if (!m->state.positions) {
        r->code = view_fail(r->e, RV_E_MEMORY, "out of memory");
        return;
    }
    for (size_t i = 0; i < count && r->code == RV_OK; i++) {
        struct rv_view_position *p = &m->state.positions[i];
        p->partition = (int32_t)take_number(r, 4);
        p->leader_epoch = (int32_t)take_number(r, 4);
        p->offset = (int64_t)take_number(r, 8);
        if (p->partition != (int32_t)i || p->offset < RV_START || p->offset == RV_END) {
            reader_fail(r, "it contradicts itself");
        }
    }
    m->state.partition_count = count;
}

static void read_entry(struct view_memory *m, struct reader *r)
{
    const uint8_t *p = take(r, ENTRY_SIZE);
    if (!p) {
        return;
    }
    uint32_t key_size = get_be32(p), value_size = get_be32(p + 4);
    struct rv_view_entry entry = {.partition = (int32_t)get_be32(p + 8),
                                  .offset = (int64_t)get_be64(p + 13),
                                  .timestamp_ms = (int64_t)get_be64(p + 21)};
    bool is_old = p[12] != 0, has_value = value_size != KEYS_NULL;
    p = take(r, (uint64_t)key_size + (has_value ? value_size : 0));
    if (!p) {
        return;
    }
    entry.key = (struct rv_bytes){p, key_size};
    entry.value = (struct rv_bytes){has_value ? p + key_size : NULL, has_value ? value_size : 0};
    err e = keys_put(&m->table, &entry, is_old);
    if (e) {
        r->code = e == ERR_MEMORY
                      ? view_fail(r->e, RV_E_MEMORY, "out of memory")
                      : view_fail(r->e, RV_E_FULL, "%s: does not fit into view.max.bytes", r->path);
    }
}

/* All of it. After an error nothing is there. */
static int read_all(struct view_memory *m, struct reader *r)
{
    read_head(m, r);
    m->table.generation = r->code == RV_OK ? m->state.generation : 1;
    read_positions(m, r);
    uint64_t count = take_number(r, 8);
    for (uint64_t i = 0; i < count && r->code == RV_OK; i++) {
        read_entry(m, r);
    }
    if (r->left != 0) {
        reader_fail(r, "it contradicts itself");
    }
    if (r->code != RV_OK) {
        uint64_t seed = m->table.seed, limit = m->table.limit_bytes;
        keys_finish(&m->table);
        keys_init(&m->table, seed, limit);
        mem_free(m->state.positions);
        m->state = (struct rv_view_state){0};
    }
    return r->code;
}

/* Whether the file's checksum is right; its size. */
static int verify(int fd, const char *path, uint8_t *piece, uint64_t *ret_size, struct rv_error *e)
{
    uint32_t crc = 0;
    uint64_t size = 0;
    uint8_t last[4]; /* bytes that may be the checksum */
    for (size_t held = 0;;) {
        memcpy(piece, last, held);
        ssize_t n = read(fd, piece + held, PIECE_SIZE - held);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return io_fail(e, "read", path, errno);
        }
        if (n == 0) {
            bool good = held == sizeof last && get_be32(last) == crc;
            *ret_size = size;
            return good ? RV_OK : view_fail(e, RV_E_CORRUPT, "%s: damaged", path);
        }
        size_t have = held + (size_t)n;
        held = have < sizeof last ? have : sizeof last;
        crc = crc32c_more(crc, piece, have - held);
        size += have - held;
        memcpy(last, piece + have - held, held);
    }
}

int snapshot_load(struct view_memory *m, struct rv_error *ret_error)
{
    int fd = open(m->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? view_fail(ret_error, RV_E_ABSENT, "%s: there is none", m->path)
                               : io_fail(ret_error, "open", m->path, errno);
    }
    struct reader r = {.fd = fd, .path = m->path, .size = PIECE_SIZE, .e = ret_error};
    r.piece = mem_alloc(PIECE_SIZE);
    int code = r.piece ? verify(fd, m->path, r.piece, &r.left, ret_error)
                       : view_fail(ret_error, RV_E_MEMORY, "out of memory");
    if (code == RV_OK && lseek(fd, 0, SEEK_SET) < 0) {
        code = io_fail(ret_error, "read", m->path, errno);
    }
    code = code == RV_OK ? read_all(m, &r) : code;
    mem_free(r.piece);
    close(fd);
    return code;
}

int snapshot_read(struct view_memory *m, const void *bytes, size_t size, struct rv_error *ret_error)
{
    struct reader r = {.fd = -1, .path = "bytes", .piece = (uint8_t *)bytes, .e = ret_error};
    r.size = r.end = size;
    r.left = size < 4 ? 0 : size - 4;
    if (size < 4 || get_be32(r.piece + size - 4) != crc32c(bytes, size - 4)) {
        return view_fail(ret_error, RV_E_CORRUPT, "damaged");
    }
    return read_all(m, &r);
}

/* ---- writing ---- */

struct writer {
    int fd;
    uint8_t *piece; /* owned */
    size_t used;    /* bytes of it */
    uint32_t crc;
    int error_number; /* the first one; 0 */
};

static void write_out(struct writer *w)
{
    for (size_t at = 0; at < w->used && !w->error_number;) {
        ssize_t n = write(w->fd, w->piece + at, w->used - at);
        at += n > 0 ? (size_t)n : 0;
        w->error_number = n < 0 && errno != EINTR ? errno : 0;
    }
    w->used = 0;
}

static void put(struct writer *w, const void *bytes, size_t size)
{
    w->crc = crc32c_more(w->crc, bytes, size);
    while (size) {
        size_t n = size < PIECE_SIZE - w->used ? size : PIECE_SIZE - w->used;
        memcpy(w->piece + w->used, bytes, n);
        w->used += n;
        bytes = (const uint8_t *)bytes + n;
        size -= n;
        if (w->used == PIECE_SIZE) {
            write_out(w);
        }
    }
}

static void put_number(struct writer *w, uint64_t n, size_t size)
{
    uint8_t bytes[8];
    put_be64(bytes, n);
    put(w, bytes + sizeof bytes - size, size);
}

static void put_all(const struct view_memory *m, struct writer *w)
{
    const struct rv_view_state *s = &m->state;
    put(w, magic, sizeof magic);
    put_number(w, VERSION, 2);
    put_number(w, strlen(m->topic), 2);
    put(w, m->topic, strlen(m->topic));
    put_number(w, strlen(s->topic_id), 1);
    put(w, s->topic_id, strlen(s->topic_id));
    put_number(w, (uint64_t)s->generation, 8);
    put_number(w, (uint64_t)s->fresh_ms, 8);
    put_number(w, (uint64_t)s->without_key, 8);
    put_number(w, (uint64_t)s->rebuilds, 8);
    put_number(w, s->is_complete, 1);
    put_number(w, s->partition_count, 4);
    for (size_t i = 0; i < s->partition_count; i++) {
        put_number(w, (uint32_t)s->positions[i].partition, 4);
        put_number(w, (uint32_t)s->positions[i].leader_epoch, 4);
        put_number(w, (uint64_t)s->positions[i].offset, 8);
    }
    put_number(w, m->table.used, 8);
    uint64_t cursor = 0;
    for (const struct block *b; !w->error_number && (b = keys_next(&m->table, &cursor));) {
        put_number(w, b->key_size, 4);
        put_number(w, b->value_size, 4);
        put_number(w, (uint32_t)b->partition, 4);
        put_number(w, block_is_old(&m->table, b), 1);
        put_number(w, (uint64_t)b->offset, 8);
        put_number(w, (uint64_t)b->timestamp_ms, 8);
        put(w, b->bytes, b->key_size + (b->value_size == KEYS_NULL ? 0 : (size_t)b->value_size));
    }
    put_number(w, w->crc, 4);
    write_out(w);
}

int snapshot_save(struct view_memory *m, struct rv_error *ret_error)
{
    char beside[PATH_MAX];
    if (snprintf(beside, sizeof beside, "%s.tmp", m->path) >= (int)sizeof beside) {
        return view_fail(ret_error, RV_E_OPTION, "view.file: the name is too long");
    }
    struct writer w = {.piece = mem_alloc(PIECE_SIZE)};
    if (!w.piece) {
        return view_fail(ret_error, RV_E_MEMORY, "out of memory");
    }
    w.fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w.fd < 0) {
        int number = errno;
        mem_free(w.piece);
        return io_fail(ret_error, "open", beside, number);
    }
    put_all(m, &w);
    w.error_number = w.error_number ? w.error_number : fileio_sync(w.fd);
    int closed = fileio_close(w.fd);
    w.error_number = w.error_number ? w.error_number : closed;
    if (!w.error_number && rename(beside, m->path) < 0) {
        w.error_number = errno;
    }
    mem_free(w.piece);
    if (w.error_number) {
        unlink(beside);
        return io_fail(ret_error, "write", beside, w.error_number);
    }
    err e = fileio_sync_parent(m->path);
    return e == OK ? RV_OK
                   : view_fail(ret_error, RV_E_IO, "cannot sync the directory of %s: %s", m->path,
                               err_text(e));
}

/* One segment: its batches and records, and its indexes walked beside it.
 *
 *   .index      int32 last offset of a batch - base offset of the segment, int32 position of the
 * batch .timeindex  int64 largest timestamp so far, int32 last offset of its batch - base offset
 *
 * Both are ordered as the batches are, so one pass over the segment checks all three, in the memory
 * of one batch. A broker that runs or was killed leaves them filled up with zeros: the first zero
 * entry after entry 0 ends them.
 */
#include "tools/log_dump.h"

#include "base/bytes.h"

#include <errno.h>
#include <inttypes.h>

enum { INDEX_ENTRY = 8, TIME_ENTRY = 12 };

struct cursor {           /* over the entries of an index */
    struct buf path_text; /* owned */
    const char *path;     /* borrowed of path_text */
    FILE *file;           /* owned; NULL: not there */
    size_t entry_size;
    uint8_t entry[TIME_ENTRY]; /* the current one */
    int64_t count;             /* entries read */
    int64_t last[2];           /* what must be risen above */
    int64_t value[2];          /* of the current one: offset and position, or time and offset */
    bool there;                /* there is a current one */
};

struct segment_dump {
    struct dump *d;   /* borrowed */
    const char *path; /* borrowed */
    FILE *file;
    int64_t size;        /* bytes */
    int64_t base_offset; /* of its name */
    int64_t position;    /* of the batch that is looked at */
    int64_t next_offset; /* the least that it may have */
    int64_t batch_count;
    int64_t record_count;
    int64_t max_timestamp; /* so far; -1 */
    int64_t lacks_from;    /* offsets that the journal has and the file has not: [from, to) */
    int64_t lacks_to;
    struct cursor index;
    struct cursor times;
};

/* ---- indexes */

static bool is_zero(const struct cursor *c, const uint8_t *entry)
{
    static const uint8_t zeros[TIME_ENTRY];
    return memcmp(entry, zeros, c->entry_size) == 0;
}

/* The current entry is zeros: is it where the entries end? Entry 0 is one of its own (time 0, first
 * offset) unless zeros follow. */
static bool is_filling(struct cursor *c)
{
    uint8_t next[TIME_ENTRY];
    if (!is_zero(c, c->entry) || c->count > 0) {
        return is_zero(c, c->entry);
    }
    size_t n = fread(next, 1, c->entry_size, c->file);
    bool filling = n == c->entry_size && is_zero(c, next);
    return fseeko(c->file, (off_t)c->entry_size, SEEK_SET) == 0 && filling;
}

static void cursor_next(struct segment_dump *s, struct cursor *c)
{
    c->there = false;
    while (c->file) {
        size_t n = fread(c->entry, 1, c->entry_size, c->file);
        if (n != c->entry_size) {
            if (ferror(c->file)) {
                dump_problem(s->d, c->path, "cannot be read: %s", strerror(errno));
            } else if (n > 0) {
                dump_problem(s->d, c->path, "%zu bytes behind the last entry", n);
            }
            return;
        }
        if (is_filling(c)) {
            return;
        }
        bool is_time = c->entry_size == TIME_ENTRY;
        int64_t offset = s->base_offset + (int32_t)get_be32(c->entry + (is_time ? 8 : 0));
        c->value[0] = is_time ? (int64_t)get_be64(c->entry) : offset;
        c->value[1] = is_time ? offset : (int32_t)get_be32(c->entry + 4);
        c->count++;
        if (c->value[0] > c->last[0] && c->value[1] > c->last[1]) {
            memcpy(c->last, c->value, sizeof c->last);
            c->there = true;
            return;
        }
        dump_problem(s->d, c->path, "entry %" PRId64 " (%" PRId64 ", %" PRId64 ") does not rise",
                     c->count - 1, c->value[0], c->value[1]);
    }
}

static void cursor_open(struct segment_dump *s, struct cursor *c, const char *end,
                        size_t entry_size)
{
    c->entry_size = entry_size;
    c->last[0] = s->base_offset - 1;
    c->last[1] = 0; /* the first batch has no index entry */
    if (entry_size == TIME_ENTRY) {
        c->last[0] = -1;
        c->last[1] = s->base_offset - 1;
    }
    buf_printf(&c->path_text, "%.*s%s", (int)strlen(s->path) - 4, s->path, end);
    c->path = buf_text(&c->path_text);
    if (c->path_text.failed) {
        dump_problem(s->d, s->path, "out of memory");
        return;
    }
    c->file = fopen(c->path, "rbe");
    if (!c->file && errno != ENOENT) {
        dump_problem(s->d, c->path, "cannot be opened: %s", strerror(errno));
    }
    cursor_next(s, c);
}

static void cursor_close(struct cursor *c)
{
    if (c->file) {
        fclose(c->file);
    }
    buf_finish(&c->path_text);
}

static void check_index(struct segment_dump *s, int64_t last_offset)
{
    struct cursor *c = &s->index;
    while (c->there && c->value[1] <= s->position) {
        if (c->value[1] < s->position) {
            dump_problem(s->d, c->path, "entry %" PRId64 ": no batch begins at position %" PRId64,
                         c->count - 1, c->value[1]);
        } else if (c->value[0] != last_offset) {
            dump_problem(s->d, c->path,
                         "entry %" PRId64 ": says offset %" PRId64
                         ", the batch at position %" PRId64 " ends with %" PRId64,
                         c->count - 1, c->value[0], s->position, last_offset);
        }
        cursor_next(s, c);
    }
}

static void check_times(struct segment_dump *s, const struct batch_header *h, int64_t last_offset)
{
    struct cursor *c = &s->times;
    if (h->max_timestamp > s->max_timestamp) {
        s->max_timestamp = h->max_timestamp;
    }
    while (c->there && c->value[1] <= last_offset) {
        if (c->value[1] < last_offset) {
            dump_problem(s->d, c->path, "entry %" PRId64 ": no batch ends with offset %" PRId64,
                         c->count - 1, c->value[1]);
        } else if (c->value[0] != h->max_timestamp || c->value[0] < s->max_timestamp) {
            dump_problem(s->d, c->path,
                         "entry %" PRId64 ": says time %" PRId64 ", its batch has %" PRId64
                         ", the largest so far is %" PRId64,
                         c->count - 1, c->value[0], h->max_timestamp, s->max_timestamp);
        }
        cursor_next(s, c);
    }
}

static void cursor_drain(struct segment_dump *s, struct cursor *c)
{
    for (; c->there; cursor_next(s, c)) {
        dump_problem(s->d, c->path,
                     "entry %" PRId64 " (%" PRId64 ", %" PRId64
                     ") is behind the end of the segment",
                     c->count - 1, c->value[0], c->value[1]);
    }
}

/* ---- batches */

static const char *codec_text(int16_t attributes)
{
    enum codec codec = batch_codec(attributes);
    return codec < CODEC_COUNT ? codec_name(codec) : "unknown";
}

static void print_batch(struct segment_dump *s, const struct batch_header *h, bool crc)
{
    if (s->d->quiet) {
        return;
    }
    int64_t last = h->base_offset + h->last_offset_delta;
    bool transactional = h->attributes & BATCH_ATTRIBUTE_TRANSACTIONAL;
    bool control = h->attributes & BATCH_ATTRIBUTE_CONTROL;
    bool append = h->attributes & BATCH_ATTRIBUTE_APPEND_TIME;
    if (s->d->t->json) {
        dump_json(
            s->d,
            json_pack("{s:s,s:o,s:I,s:I,s:I,s:I,s:i,s:s,s:b,s:i,s:I,s:I,s:s,s:I,s:i,s:i,s:b,s:b}",
                      "kind", "batch", "file", json_text(s->path), "base_offset",
                      (json_int_t)h->base_offset, "last_offset", (json_int_t)last, "position",
                      (json_int_t)s->position, "size_bytes", (json_int_t)h->size, "count",
                      (int)h->count, "codec", codec_text(h->attributes), "crc_ok", (int)crc,
                      "leader_epoch", (int)h->leader_epoch, "base_timestamp",
                      (json_int_t)h->base_timestamp, "max_timestamp", (json_int_t)h->max_timestamp,
                      "timestamp_type", append ? "append" : "create", "producer_id",
                      (json_int_t)h->producer_id, "producer_epoch", (int)h->producer_epoch,
                      "base_sequence", (int)h->base_sequence, "transactional", (int)transactional,
                      "control", (int)control));
        return;
    }
    printf("  batch offsets %" PRId64 "..%" PRId64 " position %" PRId64
           " size %zu count %d codec %s "
           "crc %s epoch %d %s time %" PRId64 "..%" PRId64,
           h->base_offset, last, s->position, h->size, h->count, codec_text(h->attributes),
           crc ? "ok" : "WRONG", h->leader_epoch, append ? "append" : "create", h->base_timestamp,
           h->max_timestamp);
    if (h->producer_id >= 0) {
        printf(" producer %" PRId64 " epoch %d sequence %d", h->producer_id, h->producer_epoch,
               h->base_sequence);
    }
    printf("%s%s\n", transactional ? " transactional" : "", control ? " control" : "");
}

static struct rv_bytes rv_of(struct bytes b)
{
    return (struct rv_bytes){.ptr = (const void *)b.ptr, .size = b.len};
}

static void record_json(struct segment_dump *s, const struct record *r)
{
    const uint8_t *p = r->headers;
    size_t size = r->headers_size;
    int32_t count = r->header_count;
    struct record_header h;
    json_t *headers = json_array();
    while (record_header_next(&p, &size, &count, &h) == OK) {
        struct bytes name = {(const uint8_t *)h.name.ptr, h.name.len};
        json_array_append_new(headers, json_pack("{s:o,s:o}", "name", json_bytes(rv_of(name)),
                                                 "value", json_bytes(rv_of(h.value))));
    }
    dump_json(s->d, json_pack("{s:s,s:I,s:I,s:o,s:o,s:o}", "kind", "record", "offset",
                              (json_int_t)r->offset, "timestamp", (json_int_t)r->timestamp, "key",
                              json_bytes(rv_of(r->key)), "value", json_bytes(rv_of(r->value)),
                              "headers", headers));
}

static void print_record(struct segment_dump *s, const struct record *r)
{
    if (s->d->t->json) {
        record_json(s, r);
        return;
    }
    printf("    offset %" PRId64 " time %" PRId64 " key ", r->offset, r->timestamp);
    dump_bytes(r->key);
    fputs(" value ", stdout);
    dump_bytes(r->value);
    const uint8_t *p = r->headers;
    size_t size = r->headers_size;
    int32_t count = r->header_count;
    struct record_header h;
    while (record_header_next(&p, &size, &count, &h) == OK) {
        fputs(" header ", stdout);
        dump_bytes((struct bytes){(const uint8_t *)h.name.ptr, h.name.len});
        putchar('=');
        dump_bytes(h.value);
    }
    putchar('\n');
}

static void dump_records(struct segment_dump *s, const void *p, const struct batch_header *h)
{
    struct batch_iterator it;
    struct record r;
    int64_t last = h->base_offset - 1;
    err e = batch_iterator_init(&it, p, h->size, DUMP_RECORD_LIMIT, &s->d->scratch);
    while (!e && !s->d->failed && !(e = batch_iterator_next(&it, &r))) {
        if (r.offset <= last) {
            dump_problem(s->d, s->path, "batch at position %" PRId64 ": record %d does not rise",
                         s->position, it.given - 1);
        }
        if (!(h->attributes & BATCH_ATTRIBUTE_HORIZON) && r.timestamp > h->max_timestamp) {
            dump_problem(s->d, s->path, "offset %" PRId64 ": its time is above its batch's",
                         r.offset);
        }
        last = r.offset;
        s->record_count++;
        if (s->d->records) {
            print_record(s, &r);
        }
    }
    if (e && e != ERR_NOT_FOUND) {
        dump_problem(s->d, s->path, "batch at position %" PRId64 ": record %d: %s", s->position,
                     it.given, err_text(e));
    } else if (e && batch_codec(h->attributes) == CODEC_NONE && it.next != it.end) {
        dump_problem(s->d, s->path, "batch at position %" PRId64 ": bytes behind its records",
                     s->position);
    }
}

static void check_offsets(struct segment_dump *s, const struct batch_header *h)
{
    int64_t last = 0;
    if (h->last_offset_delta < 0 || h->base_offset < s->next_offset || h->count < 0 ||
        h->count > (int64_t)h->last_offset_delta + 1 ||
        __builtin_add_overflow(h->base_offset, (int64_t)h->last_offset_delta + 1, &last)) {
        dump_problem(s->d, s->path,
                     "batch at position %" PRId64 ": offset %" PRId64 " (%d records up to +%d), "
                     "where %" PRId64 " or more was due",
                     s->position, h->base_offset, h->count, h->last_offset_delta, s->next_offset);
    }
    s->next_offset = last > s->next_offset ? last : s->next_offset;
}

/* The whole batch is in d->batch. */
static void look_at_batch(struct segment_dump *s, const struct batch_header *h)
{
    const void *p = s->d->batch.ptr;
    bool crc = batch_crc_is_right(p, h->size);
    print_batch(s, h, crc);
    check_offsets(s, h);
    if (crc) {
        dump_records(s, p, h);
    } else {
        dump_problem(s->d, s->path, "batch at position %" PRId64 ": its checksum is wrong",
                     s->position);
    }
    int64_t last = h->base_offset + h->last_offset_delta;
    check_index(s, last);
    check_times(s, h, last);
    s->batch_count++;
}

static bool reserve_batch(struct segment_dump *s, size_t size)
{
    struct buf *b = &s->d->batch;
    b->len = 0;
    b->failed = false;
    if (!buf_reserve(b, size)) {
        dump_problem(s->d, s->path, "no memory for a batch of %zu bytes", size);
        return false;
    }
    return true;
}

/* ---- what the next start writes from the journal */

static void tell_lacking(struct segment_dump *s)
{
    if (s->lacks_to > s->lacks_from) {
        dump_journal_lacks(s->d, s->path, s->lacks_from, s->lacks_to);
    }
    s->lacks_from = s->lacks_to = 0;
}

static bool file_has(struct segment_dump *s, const struct journal_batch *b)
{
    return s->size - s->position >= (int64_t)b->size &&
           fseeko(s->file, s->position, SEEK_SET) == 0 &&
           fread(s->d->batch.ptr, 1, b->size, s->file) == b->size &&
           memcmp(s->d->batch.ptr, b->p, b->size) == 0;
}

/* Another segment of that name is there: the batch goes to it. */
static bool is_next_segments(struct segment_dump *s, int64_t offset)
{
    struct buf path = {0};
    const char *slash = strrchr(s->path, '/');
    buf_printf(&path, "%.*s%020" PRId64 ".log", slash ? (int)(slash - s->path) + 1 : 0, s->path,
               offset);
    FILE *f = offset > s->base_offset ? fopen(buf_text(&path), "rbe") : NULL;
    bool there = f != NULL;
    if (f) {
        fclose(f);
    }
    buf_finish(&path);
    return there;
}

/* What is due here is the journal's, whatever the file has: looked at as if it were written. False:
 * the journal has nothing, or the file has the same. */
static bool dump_from_journal(struct segment_dump *s)
{
    const struct journal_batch *b = dump_journal_at(s->d, s->next_offset);
    struct batch_header h;
    if (!b || !reserve_batch(s, b->size) || file_has(s, b) || is_next_segments(s, b->offset) ||
        batch_header_read(b->p, b->size, &h)) {
        return false;
    }
    if (s->lacks_to != b->offset) {
        tell_lacking(s);
        s->lacks_from = b->offset;
    }
    s->lacks_to = b->end;
    memcpy(s->d->batch.ptr, b->p, b->size);
    look_at_batch(s, &h);
    s->position += (int64_t)b->size;
    return true;
}

/* The batch at s->position. False: there is nothing to go on with. */
static bool dump_batch(struct segment_dump *s)
{
    struct batch_header h = {0};
    uint8_t head[BATCH_HEADER_SIZE];
    int64_t left = s->size - s->position;
    size_t n = left < BATCH_HEADER_SIZE ? (size_t)left : BATCH_HEADER_SIZE;
    if (fseeko(s->file, s->position, SEEK_SET) != 0 || fread(head, 1, n, s->file) != n) {
        dump_problem(s->d, s->path, "cannot be read: %s",
                     ferror(s->file) ? strerror(errno) : "it shrank");
        return false;
    }
    err e = batch_header_read(head, n, &h);
    if (e == ERR_UNSUPPORTED) {
        dump_problem(s->d, s->path, "batch at position %" PRId64 ": magic %d", s->position,
                     h.magic);
    } else if (e || h.size > (uint64_t)left) {
        dump_problem(s->d, s->path,
                     "no whole batch at position %" PRId64 ": %" PRId64 " bytes left", s->position,
                     left);
        return false;
    } else {
        if (!reserve_batch(s, h.size)) {
            return false;
        }
        memcpy(s->d->batch.ptr, head, n);
        if (fread(s->d->batch.ptr + n, 1, h.size - n, s->file) != h.size - n) {
            dump_problem(s->d, s->path, "cannot be read: %s",
                         ferror(s->file) ? strerror(errno) : "it shrank");
            return false;
        }
        look_at_batch(s, &h);
    }
    s->position += (int64_t)h.size;
    return s->position <= s->size;
}

static bool segment_begin(struct segment_dump *s)
{
    const char *slash = strrchr(s->path, '/');
    const char *name = slash ? slash + 1 : s->path;
    struct str number = {name, strlen(name) - 4};
    if (str_to_int64(number, &s->base_offset) != OK || s->base_offset < 0) {
        dump_problem(s->d, s->path, "its name is not OFFSET.log");
        return false;
    }
    s->next_offset = s->base_offset;
    s->file = fopen(s->path, "rbe");
    if (!s->file || fseeko(s->file, 0, SEEK_END) != 0 || (s->size = ftello(s->file)) < 0) {
        dump_problem(s->d, s->path, "cannot be read: %s", strerror(errno));
        return false;
    }
    return true;
}

void dump_segment(struct dump *d, const char *path)
{
    struct segment_dump s = {.d = d, .path = path, .max_timestamp = -1};
    dump_file(d, path);
    if (!segment_begin(&s)) {
        goto out;
    }
    cursor_open(&s, &s.index, ".index", INDEX_ENTRY);
    cursor_open(&s, &s.times, ".timeindex", TIME_ENTRY);
    if (d->next_offset > s.base_offset) {
        dump_problem(d, path, "begins before offset %" PRId64 ", where the segment before it ends",
                     d->next_offset);
    }
    while (!d->failed && (dump_from_journal(&s) || (s.position < s.size && dump_batch(&s)))) {
    }
    tell_lacking(&s);
    d->next_offset = s.next_offset;
    d->segment_count++;
    d->batch_count += s.batch_count;
    d->record_count += s.record_count;
    d->bytes += s.size;
    cursor_drain(&s, &s.index);
    cursor_drain(&s, &s.times);
    if (d->t->json) {
        dump_json(d, json_pack("{s:s,s:o,s:I,s:I,s:I,s:I,s:I}", "kind", "segment", "file",
                               json_text(path), "batches", (json_int_t)s.batch_count, "records",
                               (json_int_t)s.record_count, "next_offset", (json_int_t)s.next_offset,
                               "index_entries", (json_int_t)s.index.count, "time_entries",
                               (json_int_t)s.times.count));
    } else {
        dump_print(d,
                   "  %" PRId64 " batches, %" PRId64 " records, next offset %" PRId64 ", %" PRId64
                   " index entries, %" PRId64 " time index entries\n",
                   s.batch_count, s.record_count, s.next_offset, s.index.count, s.times.count);
    }
out:
    cursor_close(&s.index);
    cursor_close(&s.times);
    if (s.file) {
        fclose(s.file);
    }
}

/* The writer: one growing piece of memory, and marks (splices) where bytes from elsewhere belong.
 *
 * Invariants:
 *
 * 1. len <= size, and len + spliced <= limit: `size` is never more than limit - spliced, even if
 *    the memory is larger, so that the quick path needs one comparison.
 * 2. A tagged field is written first and its size put in front of it after: no splice can be inside
 *    (schemac refuses records there), so moving the bytes moves no splice.
 */
#include "base/check.h"
#include "base/mem.h"
#include "protocol/wire.h"

#include <string.h>

enum {
    FIRST_SIZE = 256, /* bytes of the first allocation */
    FIRST_SPLICES = 8,
};

struct encode {
    struct writer *w;
    int16_t version;
    bool flexible;
};

void writer_init(struct writer *w, size_t limit)
{
    *w = (struct writer){.limit = limit};
}

void writer_finish(struct writer *w)
{
    mem_free(w->ptr);
    mem_free(w->splices);
    *w = (struct writer){.limit = w->limit};
}

void writer_reset(struct writer *w)
{
    w->len = 0;
    w->spliced = 0;
    w->splice_count = 0;
    w->error = OK;
    w->at = NULL;
    w->at_table = NULL;
}

uint8_t *writer_take(struct writer *w, size_t *ret_len)
{
    uint8_t *p = w->ptr;
    *ret_len = w->len;
    w->ptr = NULL;
    w->size = 0;
    writer_reset(w);
    return p;
}

void writer_fail(struct writer *w, err e)
{
    if (w->error == OK) {
        w->error = e;
    }
}

uint8_t *writer_grow(struct writer *w, size_t size)
{
    if (w->error != OK) {
        return NULL;
    }
    size_t most = w->limit - w->spliced;
    if (size > most - w->len) {
        writer_fail(w, ERR_LIMIT);
        return NULL;
    }
    size_t wish = w->size < FIRST_SIZE / 2 ? FIRST_SIZE : w->size > most / 2 ? most : w->size * 2;
    if (wish < w->len + size) {
        wish = w->len + size;
    }
    if (wish > most) {
        wish = most;
    }
    uint8_t *p = mem_resize(w->ptr, wish);
    if (!p) {
        writer_fail(w, ERR_MEMORY);
        return NULL;
    }
    w->ptr = p;
    w->size = wish;
    p += w->len;
    w->len += size;
    return p;
}

void writer_uvarint(struct writer *w, uint32_t v)
{
    writer_uvarlong(w, v);
}

void writer_uvarlong(struct writer *w, uint64_t v)
{
    uint8_t *p = writer_add_space(w, uvarlong_size(v));
    if (p) {
        uvarlong_put(p, v);
    }
}

void writer_add(struct writer *w, const void *p, size_t size)
{
    if (size) {
        uint8_t *to = writer_add_space(w, size);
        if (to) {
            memcpy(to, p, size);
        }
    }
}

void writer_string(struct writer *w, bool flexible, struct str s)
{
    if (s.len > WIRE_STRING_LIMIT) {
        writer_fail(w, ERR_LIMIT);
        return;
    }
    if (flexible) {
        writer_uvarint(w, s.ptr ? (uint32_t)s.len + 1 : 0);
    } else {
        writer_int16(w, s.ptr ? (int16_t)s.len : -1);
    }
    if (s.ptr) {
        writer_add(w, s.ptr, s.len);
    }
}

void writer_splice(struct writer *w, void *extents, size_t len)
{
    if (!len || w->error != OK) {
        return;
    }
    if (len > w->limit - w->spliced - w->len) {
        writer_fail(w, ERR_LIMIT);
        return;
    }
    if (w->splice_count == w->splice_size) {
        size_t size = w->splice_size ? w->splice_size * 2 : FIRST_SPLICES;
        struct wire_splice *p = mem_resize(w->splices, size * sizeof *p);
        if (!p) {
            writer_fail(w, ERR_MEMORY);
            return;
        }
        w->splices = p;
        w->splice_size = size;
    }
    w->splices[w->splice_count++] =
        (struct wire_splice){.position = w->len, .len = len, .extents = extents};
    w->spliced += len;
    if (w->size > w->limit - w->spliced) {
        w->size = w->limit - w->spliced; /* invariant 1 */
    }
}

/* ---- the interpreter ---- */

static void encode_struct(const struct encode *e, const struct wire_struct *t, const uint8_t *in);

static const void *pointer_at(const uint8_t *in, size_t offset)
{
    const void *p;
    memcpy(&p, in + offset, sizeof p);
    return p;
}

static int32_t count_at(const uint8_t *in, const struct wire_field *f)
{
    int32_t count;
    memcpy(&count, in + f->count_offset, sizeof count);
    return count;
}

static bool may_be_null(const struct encode *e, const struct wire_field *f)
{
    return e->version >= f->null_min && e->version <= f->null_max;
}

static void encode_length(const struct encode *e, bool null, size_t len)
{
    if (len >= (size_t)INT32_MAX) {
        writer_fail(e->w, ERR_LIMIT);
    } else if (e->flexible) {
        writer_uvarint(e->w, null ? 0 : (uint32_t)len + 1);
    } else {
        writer_int32(e->w, null ? -1 : (int32_t)len);
    }
}

static void encode_bytes(const struct encode *e, bool nullable, const uint8_t *ptr, size_t len,
                         void *extents)
{
    bool null = !ptr && !extents;
    if (null && !nullable) {
        writer_fail(e->w, ERR_INVALID);
        return;
    }
    encode_length(e, null, len);
    if (extents) {
        writer_splice(e->w, extents, len);
    } else if (ptr) {
        writer_add(e->w, ptr, len);
    }
}

static void encode_scalar(const struct encode *e, uint8_t kind, bool nullable, const void *in)
{
    struct writer *w = e->w;
    switch ((enum wire_kind)kind) {
    case WIRE_BOOL: writer_int8(w, *(const bool *)in); break;
    case WIRE_INT8: writer_int8(w, *(const int8_t *)in); break;
    case WIRE_INT16: writer_int16(w, *(const int16_t *)in); break;
    case WIRE_UINT16: writer_int16(w, (int16_t) * (const uint16_t *)in); break;
    case WIRE_INT32: writer_int32(w, *(const int32_t *)in); break;
    case WIRE_UINT32: writer_int32(w, (int32_t) * (const uint32_t *)in); break;
    case WIRE_INT64: writer_int64(w, *(const int64_t *)in); break;
    case WIRE_FLOAT64: {
        int64_t bits;
        memcpy(&bits, in, sizeof bits);
        writer_int64(w, bits);
        break;
    }
    case WIRE_STRING: {
        const struct str *s = in;
        if (!s->ptr && !nullable) {
            writer_fail(w, ERR_INVALID);
        } else {
            writer_string(w, e->flexible, *s);
        }
        break;
    }
    case WIRE_BYTES: {
        const struct bytes *b = in;
        encode_bytes(e, nullable, b->ptr, b->len, NULL);
        break;
    }
    case WIRE_RECORDS: {
        const struct wire_records *b = in;
        encode_bytes(e, nullable, b->ptr, b->len, b->extents);
        break;
    }
    case WIRE_UUID: writer_add(w, in, sizeof(struct uuid)); break;
    case WIRE_STRUCT: break; /* not a scalar */
    }
}

/* Bytes in C, by enum wire_kind; a struct says its own. */
static const uint8_t scalar_sizes[] = {
    [WIRE_BOOL] = sizeof(bool),
    [WIRE_INT8] = sizeof(int8_t),
    [WIRE_INT16] = sizeof(int16_t),
    [WIRE_INT32] = sizeof(int32_t),
    [WIRE_INT64] = sizeof(int64_t),
    [WIRE_UINT16] = sizeof(uint16_t),
    [WIRE_UINT32] = sizeof(uint32_t),
    [WIRE_FLOAT64] = sizeof(double),
    [WIRE_STRING] = sizeof(struct str),
    [WIRE_BYTES] = sizeof(struct bytes),
    [WIRE_RECORDS] = sizeof(struct wire_records),
    [WIRE_UUID] = sizeof(struct uuid),
};

static void encode_array(const struct encode *e, const struct wire_field *f,
                         const struct wire_struct *type, const uint8_t *in)
{
    int32_t count = count_at(in, f);
    const uint8_t *element = pointer_at(in, f->offset);
    if (count < -1 || (count == -1 && !may_be_null(e, f)) || (count > 0 && !element)) {
        writer_fail(e->w, ERR_INVALID);
        return;
    }
    encode_length(e, count < 0, count < 0 ? 0 : (size_t)count);
    size_t size = type ? type->size : scalar_sizes[f->kind];
    for (int32_t i = 0; i < count && e->w->error == OK; i++, element += size) {
        if (type) {
            encode_struct(e, type, element);
        } else {
            encode_scalar(e, f->kind, false, element);
        }
    }
}

static void encode_pointer(const struct encode *e, const struct wire_field *f,
                           const struct wire_struct *type, const uint8_t *in)
{
    const uint8_t *p = pointer_at(in, f->offset);
    if (f->tag < 0) {
        if (may_be_null(e, f)) {
            writer_int8(e->w, p ? 1 : -1);
        } else if (!p) {
            writer_fail(e->w, ERR_INVALID);
        }
    }
    if (p) {
        encode_struct(e, type, p);
    }
}

static void encode_field(const struct encode *e, const struct wire_struct *t,
                         const struct wire_field *f, const uint8_t *in)
{
    const struct wire_struct *type = wire_field_type(t, f);
    if (f->flags & WIRE_ARRAY) {
        encode_array(e, f, type, in);
    } else if (!type) {
        encode_scalar(e, f->kind, may_be_null(e, f), in + f->offset);
    } else if (f->flags & WIRE_POINTER) {
        encode_pointer(e, f, type, in);
    } else {
        encode_struct(e, type, in + f->offset);
    }
}

static bool slices_equal(const void *a, size_t a_len, const void *b, size_t b_len)
{
    return !a == !b && a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

static bool is_default(const struct wire_struct *t, const struct wire_field *f, const uint8_t *in);

static bool is_default_struct(const struct wire_struct *t, const uint8_t *in)
{
    for (int i = 0; i < t->field_count + t->tagged_count; i++) {
        if (!is_default(t, &t->fields[i], in)) {
            return false;
        }
    }
    return true;
}

static bool is_default(const struct wire_struct *t, const struct wire_field *f, const uint8_t *in)
{
    if (f->flags & WIRE_ARRAY) {
        return count_at(in, f) == (f->fallback ? -1 : 0);
    }
    if (f->flags & WIRE_POINTER) { /* tagged: one with nothing but defaults is left out, too */
        const uint8_t *p = pointer_at(in, f->offset);
        return !p || (f->tag >= 0 && is_default_struct(wire_field_type(t, f), p));
    }
    switch ((enum wire_kind)f->kind) {
    case WIRE_STRUCT: return is_default_struct(wire_field_type(t, f), in + f->offset);
    case WIRE_STRING: {
        const struct str *a = (const void *)(in + f->offset);
        const struct str *b = wire_fallback(f);
        return slices_equal(a->ptr, a->len, b->ptr, b->len);
    }
    case WIRE_BYTES: {
        const struct bytes *a = (const void *)(in + f->offset);
        const struct bytes *b = wire_fallback(f);
        return slices_equal(a->ptr, a->len, b->ptr, b->len);
    }
    case WIRE_RECORDS: {
        const struct wire_records *a = (const void *)(in + f->offset);
        const struct wire_records *b = wire_fallback(f);
        return !a->extents && slices_equal(a->ptr, a->len, b->ptr, b->len);
    }
    default: return memcmp(in + f->offset, wire_fallback(f), scalar_sizes[f->kind]) == 0;
    }
}

static void encode_failed_at(const struct encode *e, const struct wire_struct *t,
                             const struct wire_field *f)
{
    if (!e->w->at) {
        e->w->at = wire_field_name(t, f);
        e->w->at_table = wire_struct_name(t);
    }
}

/* The version has no such field: fine if nothing is lost by it. */
static void check_absent(const struct encode *e, const struct wire_struct *t,
                         const struct wire_field *f, const uint8_t *in)
{
    if (!(f->flags & WIRE_IGNORABLE) && !is_default(t, f, in)) {
        writer_fail(e->w, ERR_INVALID);
        encode_failed_at(e, t, f);
    }
}

static void encode_tag(const struct encode *e, const struct wire_struct *t,
                       const struct wire_field *f, const uint8_t *in)
{
    struct writer *w = e->w;
    writer_uvarint(w, (uint32_t)f->tag);
    writer_int8(w, 0); /* the size, if it fits one byte */
    size_t start = w->len;
    encode_field(e, t, f, in);
    if (w->error != OK) {
        return;
    }
    size_t size = w->len - start;
    size_t more = uvarlong_size(size) - 1;
    if (more) {
        if (!writer_add_space(w, more)) {
            return;
        }
        memmove(w->ptr + start + more, w->ptr + start, size); /* invariant 2 */
    }
    uvarlong_put(w->ptr + start - 1, size);
}

static void encode_tags(const struct encode *e, const struct wire_struct *t, const uint8_t *in)
{
    const struct wire_field *first = t->fields + t->field_count;
    const struct wire_field *last = first + t->tagged_count;
    uint32_t count = 0;
    for (const struct wire_field *f = first; f < last; f++) {
        bool there = e->version >= f->min_version && e->version <= f->max_version;
        count += there && !is_default(t, f, in);
    }
    writer_uvarint(e->w, count);
    for (const struct wire_field *f = first; count && f < last; f++) {
        bool there = e->version >= f->min_version && e->version <= f->max_version;
        if (there && !is_default(t, f, in)) {
            encode_tag(e, t, f, in);
            if (e->w->error != OK) {
                encode_failed_at(e, t, f);
                return;
            }
        }
    }
}

static void encode_struct(const struct encode *e, const struct wire_struct *t, const uint8_t *in)
{
    const struct wire_field *last = t->fields + t->field_count;
    for (const struct wire_field *f = t->fields; f < last; f++) {
        if (e->version < f->min_version || e->version > f->max_version) {
            check_absent(e, t, f, in);
            continue;
        }
        encode_field(e, t, f, in);
        if (__builtin_expect(e->w->error != OK, 0)) {
            encode_failed_at(e, t, f);
            return;
        }
    }
    for (const struct wire_field *f = last; f < last + t->tagged_count; f++) {
        if (e->version < f->min_version || e->version > f->max_version) {
            check_absent(e, t, f, in);
        }
    }
    if (e->flexible) {
        encode_tags(e, t, in);
    }
}

err wire_encode(const struct wire_struct *table, int16_t version, struct writer *w, const void *in)
{
    if (version < table->min_version || version > table->max_version) {
        writer_fail(w, ERR_UNSUPPORTED);
        return w->error;
    }
    struct encode e = {.w = w, .version = version, .flexible = version >= table->flexible_from};
    if (w->error == OK) {
        encode_struct(&e, table, in);
    }
    return w->error;
}

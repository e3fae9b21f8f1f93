/* The reader. Invariants:
 *
 * 1. Nothing is read past r->end, and after the first error r->next == r->end.
 * 2. Memory is asked for only after the count was checked against the bytes that are left: an
 *    element takes at least `least` bytes, so a frame of n bytes can ask for at most
 *    n / least * sizeof(element); the arena's limit bounds the rest.
 * 3. The nesting is that of the schema (schemac refuses more than 8 levels): no input deepens it.
 */
#include "protocol/wire.h"

#include <string.h>

/* Least bytes on the wire and size in C, by enum wire_kind. */
static const struct kind {
    uint8_t least;         /* not flexible */
    uint8_t least_compact; /* flexible */
    uint8_t c_size;
} kinds[] = {
    [WIRE_BOOL] = {1,  1,  sizeof(bool)               },
    [WIRE_INT8] = {1,  1,  sizeof(int8_t)             },
    [WIRE_INT16] = {2,  2,  sizeof(int16_t)            },
    [WIRE_INT32] = {4,  4,  sizeof(int32_t)            },
    [WIRE_INT64] = {8,  8,  sizeof(int64_t)            },
    [WIRE_UINT16] = {2,  2,  sizeof(uint16_t)           },
    [WIRE_UINT32] = {4,  4,  sizeof(uint32_t)           },
    [WIRE_FLOAT64] = {8,  8,  sizeof(double)             },
    [WIRE_STRING] = {2,  1,  sizeof(struct str)         },
    [WIRE_BYTES] = {4,  1,  sizeof(struct bytes)       },
    [WIRE_RECORDS] = {4,  1,  sizeof(struct wire_records)},
    [WIRE_UUID] = {16, 16, sizeof(struct uuid)        },
};

/* What stays the same through one wire_decode. */
struct decode {
    struct reader *r;
    struct arena *a;
    int16_t version;
    bool flexible;
};

const struct wire_api *wire_api_find(int16_t key)
{
    int32_t low = 0;
    int32_t high = wire_api_count - 1;
    while (low <= high) {
        int32_t middle = (low + high) / 2;
        if (wire_apis[middle].key == key) {
            return &wire_apis[middle];
        }
        if (wire_apis[middle].key < key) {
            low = middle + 1;
        } else {
            high = middle - 1;
        }
    }
    return NULL;
}

const void *wire_fallback(const struct wire_field *f)
{
    static const int64_t numbers[] = {
        0,
#define X(number) number,
#include "protocol/fallback.def"
#undef X
    }; /* the first bytes of one are the smaller number */
    static const struct str texts[] = {
        {0        },
        { .ptr = "", .len = 0}
    };
    static const struct bytes bytes[] = {
        {0        },
        { .ptr = (const uint8_t *)"", .len = 0}
    };
    static const struct wire_records records[] = {{0}, {.ptr = (const uint8_t *)""}};
    static const struct uuid zero;
    switch ((enum wire_kind)f->kind) {
    case WIRE_STRING: return &texts[f->fallback];
    case WIRE_BYTES: return &bytes[f->fallback];
    case WIRE_RECORDS: return &records[f->fallback];
    case WIRE_UUID: return &zero;
    default: return &numbers[f->fallback];
    }
}

/* `out` is zeros. */
static void default_field(const struct wire_struct *t, const struct wire_field *f, uint8_t *out)
{
    if (f->kind == WIRE_STRUCT && !(f->flags & (WIRE_ARRAY | WIRE_POINTER))) {
        wire_defaults(wire_field_type(t, f), out + f->offset);
    } else if (!f->fallback) { /* is zeros */
    } else if (f->flags & WIRE_ARRAY) {
        static const int32_t null = -1;
        memcpy(out + f->count_offset, &null, sizeof null);
    } else {
        memcpy(out + f->offset, wire_fallback(f), kinds[f->kind].c_size);
    }
}

void wire_defaults(const struct wire_struct *table, void *out)
{
    memset(out, 0, table->size);
    const struct wire_field *last = table->fields + table->field_count + table->tagged_count;
    for (const struct wire_field *f = table->fields; f < last; f++) {
        default_field(table, f, out);
    }
}

void *wire_array(struct arena *a, const struct wire_struct *table, int32_t count)
{
    if (count < 0) {
        return NULL;
    }
    char *array = arena_alloc(a, (size_t)count * table->size);
    for (int32_t i = 0; array && i < count; i++) {
        wire_defaults(table, array + (size_t)i * table->size);
    }
    return array;
}

void reader_fail(struct reader *r, err e)
{
    if (r->error == OK) {
        r->error = e;
    }
    r->next = r->end;
}

uint32_t reader_uvarint_slow(struct reader *r)
{
    uint32_t v = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
        const uint8_t *p = reader_take(r, 1);
        if (!p) {
            return 0;
        }
        if (shift == 28 && *p > 0x0f) {
            break;
        }
        v |= (uint32_t)(*p & 0x7f) << shift;
        if (*p < 0x80) {
            return v;
        }
    }
    reader_fail(r, ERR_INVALID);
    return 0;
}

uint64_t reader_uvarlong(struct reader *r)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        const uint8_t *p = reader_take(r, 1);
        if (!p) {
            return 0;
        }
        if (shift == 63 && *p > 0x01) {
            break;
        }
        v |= (uint64_t)(*p & 0x7f) << shift;
        if (*p < 0x80) {
            return v;
        }
    }
    reader_fail(r, ERR_INVALID);
    return 0;
}

/* Lengths and counts come as `v + 1` in flexible versions; -1 is null. */
static int32_t read_compact_length(struct reader *r)
{
    uint32_t v = reader_uvarint(r);
    if (v > (uint32_t)INT32_MAX) {
        reader_fail(r, ERR_INVALID);
        return 0;
    }
    return (int32_t)v - 1;
}

int32_t reader_count(struct reader *r, bool flexible, size_t least_size)
{
    int32_t count = flexible ? read_compact_length(r) : reader_int32(r);
    if (r->error != OK) {
        return 0;
    }
    if (count < -1) {
        reader_fail(r, ERR_INVALID);
        return 0;
    }
    if (count > r->array_limit) {
        reader_fail(r, ERR_LIMIT);
        return 0;
    }
    if (count > 0 && (size_t)count > reader_left(r) / least_size) {
        reader_fail(r, ERR_TRUNCATED);
        return 0;
    }
    return count;
}

struct str reader_string(struct reader *r, bool flexible, bool nullable)
{
    int32_t len = flexible ? read_compact_length(r) : reader_int16(r);
    if (len < 0) {
        if (len < -1 || !nullable) {
            reader_fail(r, ERR_INVALID);
        }
        return (struct str){0};
    }
    if (len > WIRE_STRING_LIMIT) {
        reader_fail(r, ERR_LIMIT);
        return (struct str){0};
    }
    struct str s = {.ptr = (const char *)reader_take(r, (size_t)len), .len = (size_t)len};
    if (!s.ptr) {
        return (struct str){0};
    }
    if (!str_is_utf8(s)) {
        reader_fail(r, ERR_INVALID);
    }
    return s;
}

static struct bytes read_bytes(struct reader *r, bool flexible, bool nullable)
{
    int32_t len = flexible ? read_compact_length(r) : reader_int32(r);
    if (len < 0) {
        if (len < -1 || !nullable) {
            reader_fail(r, ERR_INVALID);
        }
        return (struct bytes){0};
    }
    struct bytes b = {.ptr = reader_take(r, (size_t)len), .len = (size_t)len};
    return b.ptr ? b : (struct bytes){0};
}

static void skip_tag(struct reader *r)
{
    uint32_t size = reader_uvarint(r);
    reader_take(r, size);
}

static uint32_t read_tag_count(struct reader *r)
{
    uint32_t count = reader_uvarint(r);
    if (count > WIRE_TAGS_LIMIT) {
        reader_fail(r, ERR_LIMIT);
        return 0;
    }
    return count;
}

void reader_skip_tags(struct reader *r)
{
    uint32_t count = read_tag_count(r);
    for (uint32_t i = 0; i < count && r->error == OK; i++) {
        reader_uvarint(r);
        skip_tag(r);
    }
}

static void decode_struct(const struct decode *d, const struct wire_struct *t, uint8_t *out);

static void decode_scalar(const struct decode *d, uint8_t kind, bool nullable, void *out)
{
    struct reader *r = d->r;
    switch ((enum wire_kind)kind) {
    case WIRE_BOOL: *(bool *)out = reader_int8(r) != 0; break;
    case WIRE_INT8: *(int8_t *)out = reader_int8(r); break;
    case WIRE_INT16: *(int16_t *)out = reader_int16(r); break;
    case WIRE_UINT16: *(uint16_t *)out = (uint16_t)reader_int16(r); break;
    case WIRE_INT32: *(int32_t *)out = reader_int32(r); break;
    case WIRE_UINT32: *(uint32_t *)out = (uint32_t)reader_int32(r); break;
    case WIRE_INT64: *(int64_t *)out = reader_int64(r); break;
    case WIRE_FLOAT64: {
        int64_t bits = reader_int64(r);
        memcpy(out, &bits, sizeof bits);
        break;
    }
    case WIRE_STRING: *(struct str *)out = reader_string(r, d->flexible, nullable); break;
    case WIRE_BYTES: *(struct bytes *)out = read_bytes(r, d->flexible, nullable); break;
    case WIRE_RECORDS: {
        struct bytes b = read_bytes(r, d->flexible, nullable);
        *(struct wire_records *)out = (struct wire_records){.ptr = b.ptr, .len = b.len};
        break;
    }
    case WIRE_UUID: {
        const uint8_t *p = reader_take(r, sizeof(struct uuid));
        if (p) {
            memcpy(out, p, sizeof(struct uuid));
        }
        break;
    }
    case WIRE_STRUCT: break; /* not a scalar */
    }
}

/* The least bytes that a struct takes in this version. */
static size_t least_of_struct(const struct decode *d, const struct wire_struct *t)
{
    size_t size = d->flexible ? 1 : 0;
    for (const struct wire_field *f = t->fields; f < t->fields + t->field_count; f++) {
        if (d->version < f->min_version || d->version > f->max_version) {
            continue;
        }
        if (f->flags & WIRE_ARRAY) {
            size += d->flexible ? 1 : sizeof(int32_t);
        } else if (f->kind != WIRE_STRUCT) {
            size += d->flexible ? kinds[f->kind].least_compact : kinds[f->kind].least;
        } else if (f->flags & WIRE_POINTER) {
            size += 1;
        } else {
            size += least_of_struct(d, wire_field_type(t, f));
        }
    }
    return size;
}

static size_t least_size(const struct decode *d, const struct wire_field *f,
                         const struct wire_struct *type)
{
    size_t least = type          ? least_of_struct(d, type)
                   : d->flexible ? kinds[f->kind].least_compact
                                 : kinds[f->kind].least;
    return least ? least : 1;
}

static bool may_be_null(const struct decode *d, const struct wire_field *f)
{
    return d->version >= f->null_min && d->version <= f->null_max;
}

static void decode_array(const struct decode *d, const struct wire_field *f,
                         const struct wire_struct *type, uint8_t *out)
{
    struct reader *r = d->r;
    int32_t count = reader_count(r, d->flexible, least_size(d, f, type));
    if (count < 0 && !may_be_null(d, f)) {
        reader_fail(r, ERR_INVALID);
        return;
    }
    uint8_t *array = NULL;
    if (count > 0) {
        size_t size = type ? type->size : kinds[f->kind].c_size;
        array = arena_alloc(d->a, (size_t)count * size);
        if (!array) {
            reader_fail(r, arena_error(d->a));
            return;
        }
        uint8_t *element = array;
        for (int32_t i = 0; i < count && r->error == OK; i++, element += size) {
            if (type) {
                decode_struct(d, type, element);
            } else {
                decode_scalar(d, f->kind, false, element);
            }
        }
    }
    memcpy(out + f->offset, &array, sizeof array);
    memcpy(out + f->count_offset, &count, sizeof count);
}

/* A struct that is a pointer in C: nullable (one byte says whether it is there) or tagged. */
static void decode_pointer(const struct decode *d, const struct wire_field *f,
                           const struct wire_struct *type, uint8_t *out)
{
    struct reader *r = d->r;
    uint8_t *p = NULL;
    bool there = true;
    if (f->tag < 0 && f->null_min <= f->null_max) {
        int8_t mark = may_be_null(d, f) ? reader_int8(r) : 1;
        there = mark == 1;
        if (mark != 1 && mark != -1) {
            reader_fail(r, ERR_INVALID);
        }
    }
    if (there && r->error == OK) {
        p = arena_alloc(d->a, type->size);
        if (p) {
            decode_struct(d, type, p);
        } else {
            reader_fail(r, arena_error(d->a));
        }
    }
    memcpy(out + f->offset, &p, sizeof p);
}

static void decode_field(const struct decode *d, const struct wire_struct *t,
                         const struct wire_field *f, uint8_t *out)
{
    const struct wire_struct *type = wire_field_type(t, f);
    if (f->flags & WIRE_ARRAY) {
        decode_array(d, f, type, out);
    } else if (!type) {
        decode_scalar(d, f->kind, may_be_null(d, f), out + f->offset);
    } else if (f->flags & WIRE_POINTER) {
        decode_pointer(d, f, type, out);
    } else {
        decode_struct(d, type, out + f->offset);
    }
}

static void decode_tags(const struct decode *d, const struct wire_struct *t, uint8_t *out)
{
    struct reader *r = d->r;
    uint32_t count = read_tag_count(r);
    for (uint32_t i = 0; i < count && r->error == OK; i++) {
        uint32_t tag = reader_uvarint(r);
        const struct wire_field *f = &t->fields[t->field_count];
        const struct wire_field *last = f + t->tagged_count;
        while (f < last && !((uint32_t)f->tag == tag && d->version >= f->min_version &&
                             d->version <= f->max_version)) {
            f++;
        }
        if (f == last) {
            skip_tag(r);
            continue;
        }
        uint32_t size = reader_uvarint(r);
        if (size > reader_left(r)) {
            reader_fail(r, ERR_TRUNCATED);
            break;
        }
        const uint8_t *end = r->end;
        r->end = r->next + size;
        decode_field(d, t, f, out);
        if (r->next != r->end) {
            reader_fail(r, ERR_INVALID);
        }
        r->end = end;
        if (r->error != OK && !r->at) {
            r->at = wire_field_name(t, f);
            r->at_table = wire_struct_name(t);
        }
    }
}

static void decode_struct(const struct decode *d, const struct wire_struct *t, uint8_t *out)
{
    memset(out, 0, t->size);
    const struct wire_field *last = t->fields + t->field_count;
    for (const struct wire_field *f = t->fields; f < last; f++) {
        if (d->version < f->min_version || d->version > f->max_version) {
            default_field(t, f, out);
            continue;
        }
        decode_field(d, t, f, out);
        if (__builtin_expect(d->r->error != OK, 0)) {
            if (!d->r->at) {
                d->r->at = wire_field_name(t, f);
                d->r->at_table = wire_struct_name(t);
            }
            return;
        }
    }
    for (const struct wire_field *f = last; f < last + t->tagged_count; f++) {
        default_field(t, f, out);
    }
    if (d->flexible) {
        decode_tags(d, t, out);
    }
}

err wire_decode(const struct wire_struct *table, int16_t version, struct reader *r, struct arena *a,
                void *out)
{
    if (version < table->min_version || version > table->max_version) {
        reader_fail(r, ERR_UNSUPPORTED);
        return r->error;
    }
    struct decode d = {
        .r = r, .a = a, .version = version, .flexible = version >= table->flexible_from};
    if (r->error == OK) {
        decode_struct(&d, table, out);
    }
    if (r->error != OK) {
        reader_fail(r, r->error); /* invariant 1: the end may have been another inside a tag */
    }
    return r->error;
}

/* wire: Kafka's wire format. One reader and one writer interpret the tables that schemac made of
 * protocol/schema/NAME.msg; the structs are in "gen/NAME.h".
 *
 *   message `offset_fetch`        struct offset_fetch_request, struct offset_fetch_response
 *   its struct `[topic]`          struct offset_fetch_request_topic
 *   record kind `group_metadata_value`   struct group_metadata_value
 *   table of struct S             S_table; S_init(&s) sets the defaults
 *
 * How a field looks in C:
 *
 *   bool int8 .. float64          bool int8_t .. double
 *   string / bytes / uuid         struct str / struct bytes / struct uuid (base/str.h)
 *   records                       struct wire_records
 *   array `topics`                T *topics; int32_t topics_count   (count -1 is null)
 *   nullable or tagged struct     pointer; NULL is null or absent
 *   other struct                  by value
 *
 * null is ptr NULL; an empty string has a pointer and len 0. So a struct must begin with its
 * defaults (S_init, wire_array), not with zeros: null where a field must not be null is refused by
 * the writer.
 *
 * What was decoded borrows from the input (strings, bytes, records) and from the arena (arrays,
 * structs). Nothing here keeps state outside of the caller's structs; any thread.
 */
#pragma once

#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- what schemac writes ---- */

enum wire_kind {
    WIRE_BOOL,
    WIRE_INT8,
    WIRE_INT16,
    WIRE_INT32,
    WIRE_INT64,
    WIRE_UINT16,
    WIRE_UINT32,
    WIRE_FLOAT64,
    WIRE_STRING,
    WIRE_BYTES,
    WIRE_RECORDS,
    WIRE_UUID,
    WIRE_STRUCT,
};

enum {
    WIRE_ARRAY = 1,     /* pointer and count */
    WIRE_POINTER = 2,   /* a struct behind a pointer: nullable or tagged */
    WIRE_IGNORABLE = 4, /* dropped without an error in a version that lacks it */
};

struct wire_struct;

struct wire_field {
    uint16_t offset;       /* in the C struct, bytes */
    uint16_t count_offset; /* of its count, if it is an array */
    int8_t min_version;    /* the field is there in these versions */
    int8_t max_version;    /* INT8_MAX: and all later ones */
    int8_t null_min;       /* it may be null in these versions; null_min > null_max is never */
    int8_t null_max;
    int8_t tag;       /* -1: not tagged */
    uint8_t kind;     /* enum wire_kind; of the elements, if it is an array */
    uint8_t flags;    /* WIRE_ARRAY ... */
    uint8_t type;     /* of WIRE_STRUCT: index into its owner's types */
    uint8_t fallback; /* what it begins with: 0 is zeros and null; an array: 1 is null; text and
                         bytes: 1 is empty; a number: its place in fallback.def */
};

struct wire_struct {
#ifndef RIVULET_CLIENT_ONLY         /* whose messages do not name fields */
    const char *name;               /* of the C struct */
    const char *const *field_names; /* snake_case, one a field */
#endif
    const struct wire_field *fields;        /* in wire order, the tagged ones last, by tag */
    const struct wire_struct *const *types; /* of its fields that are structs */
    uint16_t size;                          /* of the C struct, bytes */
    uint16_t field_count;                   /* fields that are not tagged */
    uint16_t tagged_count;                  /* fields that are */
    int16_t min_version;
    int16_t max_version;
    int16_t flexible_from; /* first flexible version; INT16_MAX: never */
};

#ifdef RIVULET_CLIENT_ONLY
#define WIRE_NAMED(struct_name, names)
#else
#define WIRE_NAMED(struct_name, names) .name = (struct_name), .field_names = (names),
#endif

/* For messages. NULL where names are left away. */
static inline const char *wire_struct_name(const struct wire_struct *t)
{
#ifdef RIVULET_CLIENT_ONLY
    (void)t;
    return NULL;
#else
    return t->name;
#endif
}

static inline const char *wire_field_name(const struct wire_struct *t, const struct wire_field *f)
{
#ifdef RIVULET_CLIENT_ONLY
    (void)t, (void)f;
    return NULL;
#else
    return t->field_names[f - t->fields];
#endif
}

/* The struct that a field is, or is an array of, or points to; NULL: it is none. */
static inline const struct wire_struct *wire_field_type(const struct wire_struct *t,
                                                        const struct wire_field *f)
{
    return f->kind == WIRE_STRUCT ? t->types[f->type] : NULL;
}

struct wire_api {
    int16_t key;
    int16_t min_version; /* what the schema covers; the broker may advertise another range */
    int16_t max_version;
    int16_t flexible_from; /* first flexible version; INT16_MAX: never */
    const char *name;      /* "OffsetFetch" */
    const struct wire_struct *request;
    const struct wire_struct *response;
};

extern const struct wire_api wire_apis[]; /* by key, ascending */
extern const int32_t wire_api_count;
extern const struct wire_struct *const wire_record_kinds[]; /* by name; NULL ends them */
extern const int32_t wire_record_kind_count;

const struct wire_api *wire_api_find(int16_t key); /* NULL: not known */

/* ---- a field of type records ---- */

/* Record batches: bytes in memory, or `len` bytes that the sender adds from somewhere else.
 * ptr and extents both NULL is null. */
struct wire_records {
    const uint8_t *ptr; /* borrowed */
    size_t len;         /* bytes */
    void *extents;      /* not NULL: only a mark of `len` bytes is made (struct wire_splice) */
};

/* ---- reading ---- */

enum {
    WIRE_STRING_LIMIT = 32767, /* bytes of a string, in every version */
    WIRE_TAGS_LIMIT = 1024,    /* tagged fields of one struct; beyond any schema */
};

/* After an error every further read gives 0 and the first error stays. */
struct reader {
    const uint8_t *next;  /* borrowed */
    const uint8_t *end;   /* one past the last byte */
    err error;            /* OK, ERR_TRUNCATED, ERR_INVALID, ERR_LIMIT, ERR_MEMORY */
    int32_t array_limit;  /* elements of one array; INT32_MAX unless set after reader_init */
    const char *at;       /* the field where wire_decode stopped, NULL if nowhere */
    const char *at_table; /* the struct that it is in */
};

static inline void reader_init(struct reader *r, const void *ptr, size_t size)
{
    const uint8_t *p = ptr;
    *r = (struct reader){.next = p, .end = size ? p + size : p, .array_limit = INT32_MAX};
}

static inline size_t reader_left(const struct reader *r)
{
    return (size_t)(r->end - r->next);
}

void reader_fail(struct reader *r, err e); /* keeps the first error */

/* `size` bytes, borrowed; NULL when there are fewer. */
static inline const uint8_t *reader_take(struct reader *r, size_t size)
{
    if (__builtin_expect(reader_left(r) < size, 0)) {
        reader_fail(r, ERR_TRUNCATED);
        return NULL;
    }
    const uint8_t *p = r->next;
    r->next += size;
    return p;
}

static inline int8_t reader_int8(struct reader *r)
{
    const uint8_t *p = reader_take(r, 1);
    return p ? (int8_t)*p : 0;
}

static inline int16_t reader_int16(struct reader *r)
{
    const uint8_t *p = reader_take(r, 2);
    return p ? (int16_t)get_be16(p) : 0;
}

static inline int32_t reader_int32(struct reader *r)
{
    const uint8_t *p = reader_take(r, 4);
    return p ? (int32_t)get_be32(p) : 0;
}

static inline int64_t reader_int64(struct reader *r)
{
    const uint8_t *p = reader_take(r, 8);
    return p ? (int64_t)get_be64(p) : 0;
}

/* Unsigned varints of at most 5 and 10 bytes; bits that do not fit are ERR_INVALID. */
uint32_t reader_uvarint_slow(struct reader *r);
uint64_t reader_uvarlong(struct reader *r);

static inline uint32_t reader_uvarint(struct reader *r)
{
    if (__builtin_expect(r->next < r->end && *r->next < 0x80, 1)) {
        return *r->next++;
    }
    return reader_uvarint_slow(r);
}

static inline int32_t zigzag_decode32(uint32_t v)
{
    return (int32_t)((v >> 1) ^ (0u - (v & 1)));
}

static inline int64_t zigzag_decode64(uint64_t v)
{
    return (int64_t)((v >> 1) ^ (0u - (v & 1)));
}

static inline uint32_t zigzag_encode32(int32_t v)
{
    return ((uint32_t)v << 1) ^ (0u - ((uint32_t)v >> 31));
}

static inline uint64_t zigzag_encode64(int64_t v)
{
    return ((uint64_t)v << 1) ^ (0u - ((uint64_t)v >> 63));
}

/* Signed (zigzag) varints, as in records. */
static inline int32_t reader_varint(struct reader *r)
{
    return zigzag_decode32(reader_uvarint(r));
}

static inline int64_t reader_varlong(struct reader *r)
{
    return zigzag_decode64(reader_uvarlong(r));
}

struct str reader_string(struct reader *r, bool flexible,
                         bool nullable); /* int16 or compact; UTF-8 is checked */
void reader_skip_tags(struct reader *r); /* a section of tagged fields, none of them known */
int32_t reader_count(struct reader *r, bool flexible,
                     size_t least_size); /* of an array; -1 is null; bounded by the bytes left */

/* Decodes one struct. `out` is set to the defaults first; it is not to be used after an error.
 * Bytes that are left stay in the reader: whether that is an error, the caller decides.
 * ERR_UNSUPPORTED is a version without schema, ERR_LIMIT and ERR_MEMORY come from the arena. */
err wire_decode(const struct wire_struct *table, int16_t version, struct reader *r, struct arena *a,
                void *out);

/* ---- defaults ---- */

void wire_defaults(const struct wire_struct *table, void *out);

/* Of a field that is no struct: what it begins with, in the form that it has in C. */
const void *wire_fallback(const struct wire_field *f);

/* `count` structs with their defaults. NULL on failure (arena_error); count 0 gives a pointer. */
void *wire_array(struct arena *a, const struct wire_struct *table, int32_t count);

/* ---- writing ---- */

/* `len` bytes that belong behind the first `position` bytes of the writer's own. */
struct wire_splice {
    size_t position; /* in the writer's bytes */
    size_t len;      /* bytes, > 0 */
    void *extents;   /* as given in struct wire_records */
};

/* One growing piece of memory. After an error nothing is added and the first error stays. */
struct writer {
    uint8_t *ptr;                /* owned; NULL while empty */
    size_t len;                  /* bytes written */
    size_t size;                 /* bytes there */
    size_t limit;                /* most bytes, splices included; past it is ERR_LIMIT */
    size_t spliced;              /* bytes of all splices */
    struct wire_splice *splices; /* owned; positions ascend */
    size_t splice_count;
    size_t splice_size;   /* room for so many */
    err error;            /* OK, ERR_MEMORY, ERR_LIMIT, ERR_INVALID */
    const char *at;       /* the field where wire_encode stopped, NULL if nowhere */
    const char *at_table; /* the struct that it is in */
};

void writer_init(struct writer *w, size_t limit);
void writer_finish(struct writer *w); /* takes a zeroed one */
void writer_reset(struct writer *w);  /* empty again, memory and limit stay */
void writer_fail(struct writer *w, err e);
uint8_t *writer_grow(struct writer *w, size_t size); /* the slow part of writer_add_space */

/* Hands the bytes over to the caller, who gives them to mem_free. The writer is empty then. */
uint8_t *writer_take(struct writer *w, size_t *ret_len);

/* All bytes, those of splices included. */
static inline size_t writer_total(const struct writer *w)
{
    return w->len + w->spliced;
}

/* `size` more bytes for the caller to fill at once; NULL after an error. */
static inline uint8_t *writer_add_space(struct writer *w, size_t size)
{
    if (__builtin_expect(w->size - w->len >= size && w->error == OK, 1)) {
        uint8_t *p = w->ptr + w->len;
        w->len += size;
        return p;
    }
    return writer_grow(w, size);
}

static inline void writer_int8(struct writer *w, int8_t v)
{
    uint8_t *p = writer_add_space(w, 1);
    if (p) {
        *p = (uint8_t)v;
    }
}

static inline void writer_int16(struct writer *w, int16_t v)
{
    uint8_t *p = writer_add_space(w, 2);
    if (p) {
        put_be16(p, (uint16_t)v);
    }
}

static inline void writer_int32(struct writer *w, int32_t v)
{
    uint8_t *p = writer_add_space(w, 4);
    if (p) {
        put_be32(p, (uint32_t)v);
    }
}

static inline void writer_int64(struct writer *w, int64_t v)
{
    uint8_t *p = writer_add_space(w, 8);
    if (p) {
        put_be64(p, (uint64_t)v);
    }
}

/* Puts v at `position`, which was written before. */
static inline void writer_patch_int32(struct writer *w, size_t position, int32_t v)
{
    if (w->error == OK) {
        put_be32(w->ptr + position, (uint32_t)v);
    }
}

/* Writes v at p, which has room for 10 bytes; how many were written. */
static inline size_t uvarlong_put(uint8_t *p, uint64_t v)
{
    size_t n = 0;
    while (v >= 0x80) {
        p[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    p[n++] = (uint8_t)v;
    return n;
}

/* Bytes that v takes as a varint. */
static inline size_t uvarlong_size(uint64_t v)
{
    return (size_t)(70 - __builtin_clzll(v | 1)) / 7;
}

void writer_uvarint(struct writer *w, uint32_t v);
void writer_uvarlong(struct writer *w, uint64_t v);

static inline void writer_varint(struct writer *w, int32_t v)
{
    writer_uvarint(w, zigzag_encode32(v));
}

static inline void writer_varlong(struct writer *w, int64_t v)
{
    writer_uvarlong(w, zigzag_encode64(v));
}

void writer_add(struct writer *w, const void *p, size_t size);
void writer_string(struct writer *w, bool flexible, struct str s); /* null is written as null */
void writer_splice(struct writer *w, void *extents, size_t len);   /* len 0 adds nothing */

/* Encodes one struct. What the version cannot carry (a field that is set and neither there nor
 * ignorable, a null where none may be) is the sender's bug: ERR_INVALID, and w->at names the
 * field. ERR_LIMIT is a string or an array that is too long, or the writer's limit. */
err wire_encode(const struct wire_struct *table, int16_t version, struct writer *w, const void *in);

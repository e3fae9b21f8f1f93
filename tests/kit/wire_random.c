#include "tests/kit/wire_random.h"

#include "base/check.h"

#include <string.h>

enum {
    MAX_ELEMENTS = 4, /* of an array, most of the time */
    MAX_TEXT = 24,    /* bytes of a string, most of the time */
    LONG_TEXT = 300,  /* sometimes, so that lengths take two bytes */
};

struct fill {
    struct rng *rng;
    struct arena *arena;
    int16_t version;
};

static const uint8_t sizes[] = {
    [WIRE_BOOL] = sizeof(bool),
    [WIRE_INT8] = 1,
    [WIRE_INT16] = 2,
    [WIRE_INT32] = 4,
    [WIRE_INT64] = 8,
    [WIRE_UINT16] = 2,
    [WIRE_UINT32] = 4,
    [WIRE_FLOAT64] = 8,
    [WIRE_STRING] = sizeof(struct str),
    [WIRE_BYTES] = sizeof(struct bytes),
    [WIRE_RECORDS] = sizeof(struct wire_records),
    [WIRE_UUID] = sizeof(struct uuid),
};

static size_t random_length(struct fill *f)
{
    return rng_below(f->rng, rng_below(f->rng, 16) == 0 ? LONG_TEXT : MAX_TEXT);
}

static struct str random_text(struct fill *f)
{
    static const char *const parts[] = {
        "a", "Z", "7", "-", ".", "_", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x8c\x8a"};
    size_t wish = random_length(f);
    char *text = arena_alloc(f->arena, wish + 8);
    check(text);
    size_t len = 0;
    while (len < wish) {
        const char *part = parts[rng_below(f->rng, sizeof parts / sizeof *parts)];
        memcpy(text + len, part, strlen(part));
        len += strlen(part);
    }
    return (struct str){.ptr = text, .len = len};
}

static struct bytes random_bytes(struct fill *f)
{
    size_t len = random_length(f);
    uint8_t *p = arena_alloc(f->arena, len);
    check(p);
    rng_bytes(f->rng, p, len);
    return (struct bytes){.ptr = p, .len = len};
}

static void fill_scalar(struct fill *f, uint8_t kind, bool nullable, void *out)
{
    bool null = nullable && rng_below(f->rng, 4) == 0;
    switch ((enum wire_kind)kind) {
    case WIRE_BOOL: *(bool *)out = rng_below(f->rng, 2) != 0; break;
    case WIRE_FLOAT64: *(double *)out = (double)(int32_t)rng_next(f->rng) / 16; break;
    case WIRE_STRING: *(struct str *)out = null ? (struct str){0} : random_text(f); break;
    case WIRE_BYTES: *(struct bytes *)out = null ? (struct bytes){0} : random_bytes(f); break;
    case WIRE_RECORDS: {
        struct bytes b = random_bytes(f);
        *(struct wire_records *)out =
            null ? (struct wire_records){0} : (struct wire_records){.ptr = b.ptr, .len = b.len};
        break;
    }
    default: rng_bytes(f->rng, out, sizes[kind]); break;
    }
}

static void fill_struct(struct fill *f, const struct wire_struct *t, uint8_t *out);

static void fill_array(struct fill *f, const struct wire_field *field,
                       const struct wire_struct *type, bool nullable, uint8_t *out)
{
    size_t size = type ? type->size : sizes[field->kind];
    int32_t count = (int32_t)rng_below(f->rng, MAX_ELEMENTS);
    uint8_t *array = arena_alloc(f->arena, (size_t)count * size);
    check(array);
    for (int32_t i = 0; i < count; i++) {
        if (type) {
            fill_struct(f, type, array + (size_t)i * size);
        } else {
            fill_scalar(f, field->kind, false, array + (size_t)i * size);
        }
    }
    if (nullable && rng_below(f->rng, 4) == 0) {
        count = -1;
    }
    memcpy(out + field->offset, &array, sizeof array);
    memcpy(out + field->count_offset, &count, sizeof count);
}

static void fill_struct(struct fill *f, const struct wire_struct *t, uint8_t *out)
{
    wire_defaults(t, out);
    for (int i = 0; i < t->field_count + t->tagged_count; i++) {
        const struct wire_field *field = &t->fields[i];
        if (f->version < field->min_version || f->version > field->max_version ||
            rng_below(f->rng, 8) == 0) {
            continue;
        }
        bool nullable = f->version >= field->null_min && f->version <= field->null_max;
        const struct wire_struct *type = wire_field_type(t, field);
        if (field->flags & WIRE_ARRAY) {
            fill_array(f, field, type, nullable, out);
        } else if (!type) {
            fill_scalar(f, field->kind, nullable, out + field->offset);
        } else if (field->flags & WIRE_POINTER) {
            uint8_t *p = arena_alloc(f->arena, type->size);
            check(p);
            fill_struct(f, type, p);
            memcpy(out + field->offset, &p, sizeof p);
        } else {
            fill_struct(f, type, out + field->offset);
        }
    }
}

void wire_random(const struct wire_struct *table, int16_t version, struct rng *rng,
                 struct arena *arena, void *out)
{
    struct fill f = {.rng = rng, .arena = arena, .version = version};
    fill_struct(&f, table, out);
}

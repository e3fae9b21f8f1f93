/* Every message and record kind in every version: what decodes, encodes; the second encoding is the
 * first.
 *
 *   uint8 kind (two for each API, then the record kinds) · uint8 version - least version · bytes
 */
#include "base/mem.h"
#include "protocol/wire.h"
#include "tests/fuzz/fuzz.h"

enum { ARENA_LIMIT = 1 << 22, ARRAY_LIMIT = 100000 };

static const struct wire_struct *table_of(uint8_t kind)
{
    int32_t index = kind % (2 * wire_api_count + wire_record_kind_count);
    if (index < 2 * wire_api_count) {
        return index % 2 ? wire_apis[index / 2].response : wire_apis[index / 2].request;
    }
    return wire_record_kinds[index - 2 * wire_api_count];
}

/* Decodes all of p and encodes it again. False: it does not decode. */
static bool again(const struct wire_struct *t, int16_t version, const uint8_t *p, size_t size,
                  struct writer *w)
{
    struct arena a;
    struct reader r;
    arena_init(&a, ARENA_LIMIT);
    reader_init(&r, p, size);
    r.array_limit = ARRAY_LIMIT;
    void *message = arena_alloc(&a, t->size);
    err e = wire_decode(t, version, &r, &a, message);
    check(a.used_bytes <= ARENA_LIMIT);
    check(r.next <= r.end);
    if (!e) {
        check(wire_encode(t, version, w, message) == OK);
    }
    arena_finish(&a);
    return !e;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    struct input in = {p, p + size};
    struct writer first;
    struct writer second;
    const struct wire_struct *t = table_of(input_byte(&in));
    int16_t version =
        (int16_t)(t->min_version + input_byte(&in) % (t->max_version - t->min_version + 1));
    struct bytes body = input_rest(&in);
    writer_init(&first, SIZE_MAX);
    writer_init(&second, SIZE_MAX);
    if (again(t, version, body.ptr, body.len, &first)) {
        check(again(t, version, first.ptr ? first.ptr : body.ptr, first.len, &second));
        check(first.len == second.len &&
              (first.len == 0 || memcmp(first.ptr, second.ptr, first.len) == 0));
    }
    writer_finish(&first);
    writer_finish(&second);
    return 0;
}

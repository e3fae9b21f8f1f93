/* fuzz: what the targets share. A target is one function of one input; what must hold is
 * check()ed, which aborts here. Nothing is kept from one input to the next.
 */
#pragma once

#include "base/bytes.h"
#include "base/check.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size);

/* An input, used up from the front; behind its end come zeros. */
struct input {
    const uint8_t *at;
    const uint8_t *end;
};

static inline size_t input_left(const struct input *in)
{
    return (size_t)(in->end - in->at);
}

static inline uint8_t input_byte(struct input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

static inline uint16_t input_short(struct input *in)
{
    uint16_t high = input_byte(in);
    return (uint16_t)(high << 8 | input_byte(in));
}

/* At most `size` bytes, fewer at the end; never a null pointer. */
static inline struct bytes input_bytes(struct input *in, size_t size)
{
    size_t n = input_left(in) < size ? input_left(in) : size;
    struct bytes b = {.ptr = n ? in->at : (const uint8_t *)"", .len = n};
    in->at += n;
    return b;
}

static inline struct bytes input_rest(struct input *in)
{
    return input_bytes(in, input_left(in));
}

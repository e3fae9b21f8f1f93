/* Produce frames that are cut while they arrive: the parts say what the whole says, whatever it is.
 *
 *   uint16 how many bytes are there · uint8 how many more come before the next cut · frame, without
 *   its size
 */
#include "tests/fuzz/fuzz.h"
#include "tests/kit/cut_kit.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    struct input in = {p, p + size};
    size_t have = input_short(&in);
    size_t step = input_byte(&in);
    struct bytes frame = input_rest(&in);
    (void)cut_check(frame.ptr, frame.len, frame.len ? have % frame.len : 0, step);
    return 0;
}

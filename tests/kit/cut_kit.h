/* cut_kit: what must hold of produce_cut, whatever the bytes: a frame and the parts that it is cut
 * into say the same. For the unit test and the fuzzer; what does not hold is check()ed.
 */
#pragma once

#include "base/str.h"
#include "broker/api/produce_cut.h"

/* Cuts the first `have` of `size` bytes off as produce_cut says, and compares; then the rest, when
 * so much of it is there as `have` leaves, and so on: `step` bytes more each time. How many times it
 * was cut. */
int cut_check(const uint8_t *frame, size_t size, size_t have, size_t step);

/* All that a Produce says, as text; topics and partitions in order. `joins`: its first topic goes on
 * with the last one of what `out` has. False: it does not decode. */
bool cut_describe(const uint8_t *frame, size_t size, bool joins, struct buf *out);

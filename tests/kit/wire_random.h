/* wire_random: a message with random contents, for any table and version. For tests. */
#pragma once

#include "base/rand.h"
#include "protocol/wire.h"

/* Fills `out`, which need not be set, with what the version can carry: nulls where they may be,
 * empty and full arrays, tagged fields there and not. Everything is in the arena. */
void wire_random(const struct wire_struct *table, int16_t version, struct rng *rng,
                 struct arena *arena, void *out);

/* golden: requests that real clients sent, as tests/peers/capture.py wrote them down. For cmocka
 * tests that run at the top of the tree. */
#pragma once

#include "base/arena.h"
#include "base/str.h"

#include <stdint.h>

struct golden_frame {
    int16_t key;
    int16_t version;
    struct bytes bytes; /* of the frame, its size included */
};

struct golden {
    struct golden_frame *frames; /* in the order in which they were sent */
    int32_t count;
};

extern const char *const golden_clients[]; /* names of the files; NULL ends them */

/* All of one client, in the arena. */
struct golden golden_read(struct arena *a, const char *client);

/* headers: the headers of a record as the text of a column: JSON, an array of pairs, as `rivulet
 * consume --json` prints them:
 *
 *   [["trace","7f"],["tries",null],["raw",{"base64":"AAE="}]]
 *
 * A name is a string; a value a string, null, or bytes that are not UTF-8. No state; any thread. */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "client/rivulet.h"
#include "protocol/batch.h"

/* Appends the text. ERR_INVALID: a name is not UTF-8. Out of memory shows in `out`. */
err headers_write(const struct rv_header *headers, size_t count, struct buf *out);

/* Reads the text; names and values are in the text or in the arena. ERR_INVALID: it is something
 * else. ERR_MEMORY, ERR_LIMIT. */
err headers_read(struct str text, struct arena *a, struct record_header **ret_headers,
                 int32_t *ret_count);

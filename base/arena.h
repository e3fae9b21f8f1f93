/* arena: memory that lives as long as one request (or one step), given back all at once.
 *
 * Owned by whoever inits it; one thread. Chunks grow geometrically; the total is bounded by
 * `limit_bytes`, and a request past it gives NULL, as does a failed allocation: callers in
 * protocol/ return ERR_LIMIT or ERR_MEMORY (arena_error says which).
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct arena_chunk;

struct arena {
    struct arena_chunk *chunks; /* newest first, owned */
    char *next;                 /* first free byte of the newest chunk */
    char *end;                  /* one past its last byte */
    size_t used_bytes;          /* bytes of all chunks */
    size_t limit_bytes;         /* never more than this in chunks */
    err error;                  /* why the last allocation gave NULL; OK if none did */
};

void arena_init(struct arena *a, size_t limit_bytes);
void arena_finish(struct arena *a); /* takes a zeroed one */
void arena_reset(struct arena *a);  /* everything given back but the first chunk */

void *arena_alloc(struct arena *a, size_t size); /* aligned for any type; NULL on failure */
void *arena_zero(struct arena *a, size_t count,
                 size_t size); /* zeroed; NULL on failure or overflow */
void *arena_dup(struct arena *a, const void *p, size_t size); /* a copy; NULL on failure */
char *arena_printf(struct arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
err arena_error(const struct arena *a); /* ERR_LIMIT or ERR_MEMORY after a NULL */

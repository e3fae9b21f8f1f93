/* reserve: a file of the data directory that holds blocks for the day when the disk has no others:
 * a start, or a clean stop, that finds less room than the reserve has gives it up, and so has at
 * least that much. It is made again when there is room.
 *
 * Blocking, through the store, with the directory's lock held: at the start, and on a worker.
 */
#pragma once

#include "base/err.h"
#include "broker/store/store.h"

/* Gives it up if the disk has less than size_bytes left. *ret_there: it was kept. A size of 0 is
 * no reserve: one that is there goes. */
err reserve_release(struct store *store, int64_t size_bytes, bool *ret_there);

/* Makes it if that leaves as much again. *ret_there: it is there, whole and durable. *ret_free:
 * what the disk has left besides. */
err reserve_make(struct store *store, int64_t size_bytes, bool *ret_there, int64_t *ret_free);

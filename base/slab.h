/* slab: a piece of memory that frames are read into and that lives as long as one of them does.
 *
 * Counted references, charged to a budget as a whole; one thread. Broker only: memory that the
 * budget allows must be there.
 */
#pragma once

#include "base/budget.h"

#include <stdint.h>

struct slab {
    struct budget *budget; /* borrowed */
    size_t size;           /* bytes of data */
    int32_t refs;          /* > 0; gone with the last one */
    uint8_t data[];
};

struct slab *slab_create(struct budget *budget, size_t size); /* with one reference */
struct slab *slab_resize(struct slab *slab, size_t size); /* may move; only with one reference */
void slab_unref(struct slab *slab);                       /* takes NULL */

/* Its budget is a part of another: from now on it is charged to that one alone. */
void slab_hand_up(struct slab *slab);

/* The beginning of something larger, from the first byte of a slab of its own, while it arrives. */
struct slab_partial {
    struct slab *slab; /* one reference */
    size_t have;       /* bytes that are there */
    size_t need;       /* bytes in all; > have */
    size_t drop;       /* bytes that come next and are wanted by nobody; not in `need` */
    size_t ask_at;     /* its owner is asked again when it has so many; SIZE_MAX: no more */
};

static inline struct slab *slab_ref(struct slab *slab)
{
    slab->refs++;
    return slab;
}

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

static inline struct slab *slab_ref(struct slab *slab)
{
    slab->refs++;
    return slab;
}

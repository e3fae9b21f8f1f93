#include "base/slab.h"

#include "base/mem.h"

struct slab *slab_create(struct budget *budget, size_t size)
{
    struct slab *slab = mem_need(sizeof *slab + size);
    slab->budget = budget;
    slab->size = size;
    slab->refs = 1;
    budget_charge(budget, size);
    return slab;
}

struct slab *slab_resize(struct slab *slab, size_t size)
{
    check(slab->refs == 1);
    size_t before = slab->size;
    slab = mem_need_resize(slab, sizeof *slab + size);
    slab->size = size;
    budget_charge(slab->budget, size);
    budget_return(slab->budget, before);
    return slab;
}

void slab_hand_up(struct slab *slab)
{
    slab->budget = budget_hand_up(slab->budget, slab->size);
}

void slab_unref(struct slab *slab)
{
    if (!slab) {
        return;
    }
    check(slab->refs > 0);
    if (--slab->refs == 0) {
        budget_return(slab->budget, slab->size);
        mem_free(slab);
    }
}

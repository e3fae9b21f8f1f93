/* spool_disk: the simulated store (sim_store) as the disk of a spool: every operation can fail, and
 * the power can go at each. One thread. */
#pragma once

#include "client/spool/disk.h"
#include "tests/kit/sim_store.h"

/* The disk of the store's top directory. Its finish leaves the store as it is. */
struct disk spool_disk(struct sim_store *store);

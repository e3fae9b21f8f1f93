/* offsets: ListOffsets for many partitions, shared by admin calls and consumers. */
#pragma once

#include "client/client.h"
#include "gen/list_offsets.h"

/* Puts one partition more into a request whose topics array has room; the arena gives its
 * partitions. Partitions of one topic must come one after the other. */
int offsets_add(struct list_offsets_request *r, struct arena *a, struct str topic, int32_t room,
                int32_t partition, int32_t leader_epoch, int64_t timestamp);

/* env: what a handler can reach besides its request. One for each shard, owned by the server,
 * filled before the loop runs; handlers borrow it.
 *
 * `config` is the snapshot of now: read it each time, keep no pointer into it past the call (SIGHUP
 * swaps it).
 */
#pragma once

#include "base/clock.h"
#include "base/diag.h"
#include "base/rand.h"
#include "base/str.h"
#include "base/timer.h"

struct batch_scratch;
struct budget;
struct config;
struct coord;
struct log_manager;
struct meta;
struct metrics;
struct shard;
struct store;
struct worker;

struct api_env {
    const struct config *config; /* borrowed; the live snapshot */
    struct meta *meta;           /* borrowed; topics and settings: to look at, but for shard 0 */
    struct shard *shard;         /* borrowed; whose env it is */
    struct log_manager *logs;    /* borrowed; the shard's partitions */
    struct coord *coord;         /* borrowed; the shard's groups */
    struct store *store;   /* borrowed; only for work items on `reader` (free space of the disk) */
    struct worker *reader; /* borrowed; for what blocks: see store/worker.h */
    const struct clock *clock;     /* borrowed */
    struct timers *timers;         /* borrowed; the shard's */
    struct rng *rng;               /* borrowed; seeded from the system, or by a test */
    const struct diag *diag;       /* borrowed */
    struct batch_scratch *scratch; /* borrowed; for checking batches, within one call */
    struct metrics *metrics;       /* borrowed; counters and histograms of every API */
    struct budget *budget; /* borrowed; what frames, replies and parked requests are charged to */
    struct str cluster_id; /* borrowed; of the data directory; never null */
    struct str data_path;  /* borrowed; the data directory, absolute, for DescribeLogDirs */
    int32_t node_id;       /* of the only broker; leader of everything */
    bool stopping; /* a graceful stop has begun: what waits for events answers with what there is */
};

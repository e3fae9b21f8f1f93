/* log_kit: a log manager on the simulated store, workers and clock, and batches to append.
 *
 * One thread. A kit outlives restarts: log_kit_stop or log_kit_crash, then log_kit_start.
 */
#pragma once

#include "broker/log/manager.h"
#include "tests/kit/sim_clock.h"
#include "tests/kit/sim_store.h"
#include "tests/kit/sim_worker.h"

enum { LOG_KIT_LOGS = 40 };

struct log_kit {
    struct sim_store *sim; /* owned */
    struct sim_clock clock;
    struct rng rng;
    struct timers timers;
    struct sim_worker writer;
    struct sim_worker syncer;
    struct sim_worker reader;
    struct diag diag;
    struct log_manager *m; /* NULL: stopped */
    struct log_config config;
    int64_t compact_memory_bytes;  /* the cleaner's */
    struct uuid ids[LOG_KIT_LOGS]; /* of topics "t0", "t1", ...; partition 0 */
    int64_t journal_file_bytes;    /* small: it wraps around soon */
    int journal_files;
    int32_t epoch;             /* start number */
    int64_t scrub_bytes_per_s; /* 0, as it begins: no scrub */
    int64_t scrub_interval_ms;
    bool printed;     /* log lines go to standard error */
    struct buf lines; /* owned; all of them, if it keeps them */
    bool keeps_lines;
    bool stopped_clean; /* the last log_kit_stop wrote everything */

    /* Sabotage, for tests that must notice it. */
    bool has_no_salt;    /* all uses of the journal's files have the same */
    bool clears_journal; /* a start clears the journal before what it has is in the logs */
};

void log_kit_init(struct log_kit *k, uint64_t seed);
void log_kit_finish(struct log_kit *k);

struct log_manager_options log_kit_options(struct log_kit *k); /* of its manager, of this start */
void log_kit_create(struct log_kit *k, bool clean); /* the manager alone, without a log */
void log_kit_work(struct log_kit *k);               /* until the workers are idle */
void log_kit_sabotage(struct log_kit *k); /* before a worker's step: what `has_no_salt` asks for */
err log_kit_start(struct log_kit *k, int logs,
                  bool clean); /* opens them; what is not there is made */
void log_kit_drain(struct log_kit *k);
/* Lets the time pass that a sync without a descriptor waits. False: none waits. */
bool log_kit_sync_again(struct log_kit *k); /* submits, and runs everything that is under way */
void log_kit_stop(struct log_kit *k);       /* gracefully */
void log_kit_crash(struct log_kit *k, enum sim_cut how); /* and the machine is there again */
struct log *log_kit_log(struct log_kit *k, int log);

/* A batch to append, with its memory, and what became of it. */
struct log_kit_append {
    struct log_append a;
    struct buf bytes; /* owned */
    int written;      /* times called */
    int durable;
    err written_result;
    err durable_result;
};
/* `count` records with values of value_size bytes made from `tag`, timestamps rising from
 * `timestamp`. producer_id -1: none. */
void log_kit_batch(struct log_kit_append *a, int32_t count, size_t value_size, uint64_t tag,
                   int64_t timestamp, int64_t producer_id, int16_t producer_epoch,
                   int32_t sequence);
void log_kit_append_finish(struct log_kit_append *a);
err log_kit_append_to(struct log *log, struct log_kit_append *a);
err log_kit_append(struct log_kit *k, int log, struct log_kit_append *a); /* submits */
err log_kit_append_durable(struct log_kit *k, int log,
                           struct log_kit_append *a); /* without `written`: the short way */

/* Reads from `offset` on as a fetch would (log_warm when it must), into `out`. */
err log_kit_read_log(struct log_kit *k, struct log *log, int64_t offset, size_t max_bytes,
                     struct buf *out);
err log_kit_read(struct log_kit *k, int log, int64_t offset, size_t max_bytes, struct buf *out);
err log_kit_find_time(struct log_kit *k, int log, int64_t timestamp, int64_t *ret_offset,
                      int64_t *ret_timestamp);
err log_kit_max_time(struct log_kit *k, int log, int64_t *ret_offset, int64_t *ret_timestamp);

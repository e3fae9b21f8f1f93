/* sim_store: a store in memory that knows what a power cut would take away.
 *
 * What is durable. A file's bytes are, once `sync` returned; a directory's entries (creations,
 * removals, renames in or out of it), once `sync_dir` of that directory returned. Nothing else is:
 * syncing a file does not keep its name, and no order holds between two operations that are not
 * synced. That is less than any file system gives, and all that POSIX promises.
 *
 * Operations are counted (close, size, space and fd are not). The k-th can fail with an error of
 * choice, or cut the power, or kill the process; after the latter two every operation fails with
 * ERR_IO until sim_store_restart. An operation that fails does nothing; but a write leaves some of
 * its bytes, and a sync or sync_dir, whose failure ends the process with the posix driver, stops
 * this one too (sim_store_is_down), having written back some pages and forgotten the others: they
 * stay in the cache, are clean, and go with the next power cut.
 *
 * One thread. Files left open over a restart stay valid for close; everything else fails on them.
 */
#pragma once

#include "base/rand.h"
#include "broker/store/store.h"

struct sim_store;

enum sim_cut {
    SIM_KILL,     /* the process ends, the machine lives: the page cache stays, still un-synced */
    SIM_CUT_LOSE, /* the power goes: everything that is un-synced is gone */
    SIM_CUT_TEAR, /* the power goes: of un-synced writes, each 512-byte sector is as it was after
                     any number of those that touched it; a file's size likewise; any subset of
                     un-synced directory operations has happened */
};

/* What an operation is, for faults by kind and for traces. */
enum sim_op {
    SIM_OPEN,
    SIM_READ,
    SIM_READ_CACHED,
    SIM_WRITE,
    SIM_SYNC,
    SIM_TRUNCATE,
    SIM_RENAME,
    SIM_UNLINK,
    SIM_MAKE_DIR,
    SIM_REMOVE_DIR,
    SIM_SYNC_DIR,
    SIM_LIST,
    SIM_LOCK,
    SIM_OP_COUNT
};

struct sim_store *sim_store_create(uint64_t seed);
void sim_store_seed(struct sim_store *s, uint64_t seed); /* another one from here on */
void sim_store_destroy(struct sim_store *s); /* takes NULL; files still open are closed with it */
struct store *sim_store_store(struct sim_store *s); /* to hand in; lives as long as s */

/* Faults. Operations are numbered from 0 since the creation or the last sim_store_count_from_zero.
 * A fault happens once. */
uint64_t sim_store_operations(const struct sim_store *s); /* counted so far */
void sim_store_count_from_zero(struct sim_store *s);      /* and no fault is set */
void sim_store_fail_at(struct sim_store *s, uint64_t operation, err e);
void sim_store_cut_at(struct sim_store *s, uint64_t operation,
                      enum sim_cut how); /* what it does is un-synced, or has not happened */
void sim_store_pause(struct sim_store *s,
                     bool paused); /* a test looks: nothing is counted, nothing fails */

bool sim_store_is_down(const struct sim_store *s);
enum sim_op sim_store_fault_op(
    const struct sim_store *s); /* of the last fault that happened; SIM_OP_COUNT: none has */
const char *sim_op_name(enum sim_op op);

/* Ends the process if it still runs, and makes the machine usable again with what survived. A cut
 * that happened at an operation decides how; otherwise `how` does. Locks are free, nothing is open.
 */
void sim_store_restart(struct sim_store *s, enum sim_cut how);

/* The device. */
void sim_store_set_limit(
    struct sim_store *s,
    int64_t bytes); /* of all files; -1: none. A write past it is cut short: ERR_NO_SPACE */
void sim_store_set_max_open(struct sim_store *s, int files); /* ERR_NO_FILES beyond; -1: none */
void sim_store_ignore_syncs(struct sim_store *s); /* sabotage: from here on syncing a file says that
                                                     it is done, and does nothing */
void sim_store_evict(
    struct sim_store *s); /* nothing is cached: read_cached gives ERR_AGAIN until a read */
void sim_store_flip(struct sim_store *s, const char *path, int64_t position,
                    uint8_t mask); /* bit rot, in cache and on disk */
int64_t sim_store_used(
    const struct sim_store *s); /* bytes of all files, as the limit counts them */
int sim_store_open_files(const struct sim_store *s); /* not closed yet, since the last restart */

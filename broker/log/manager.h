/* log_manager: all logs of one shard and what they share: the store, the three workers, the group
 * commit, recovery, retention, checkpoints. Lives on the shard's loop thread.
 *
 * Group commit: everything written since the last group, of every log and whatever acks it came
 * with, is made durable by one round of the syncer (one write and one fdatasync of the journal,
 * or fdatasync of the segments, whatever is cheaper), while the next group forms; then high
 * watermarks move and `durable` is called.
 */
#pragma once

#include "base/clock.h"
#include "base/diag.h"
#include "base/timer.h"
#include "broker/log/log.h"
#include "broker/store/worker.h"

struct log_manager;

struct log_manager_options {
    struct store *store;       /* borrowed; data directory, locked by the owner */
    const struct clock *clock; /* borrowed */
    const struct diag *diag;   /* borrowed */
    struct timers *timers;     /* borrowed; the shard's */
    struct worker *writer;     /* borrowed: segment writes, creation, deletion */
    struct worker *syncer;     /* borrowed: fdatasync */
    struct worker *reader;     /* borrowed: cold reads and look-ups */
    int32_t shard;        /* of the data directory's; the first one's own files have no number */
    int32_t leader_epoch; /* of every partition: the data directory's start number */
    int64_t journal_file_bytes; /* rivulet.journal.file.bytes */
    int journal_files;          /* rivulet.journal.files; 0: no journal, segments are synced */
    int max_open_files; /* segment files held open at once; least recently used are closed */
    int64_t producer_id_expiration_ms;   /* producer.id.expiration.ms */
    int64_t retention_check_interval_ms; /* log.retention.check.interval.ms */
    int64_t compact_memory_bytes;        /* log.cleaner.dedupe.buffer.size */
    int64_t checkpoint_interval_ms; /* log.flush.offset.checkpoint.interval.ms; armed only while
                                       something is dirty */
    int64_t scrub_bytes_per_s;      /* rivulet.scrub.bytes.per.second; 0: none */
    int64_t scrub_interval_ms;      /* rivulet.scrub.interval.ms */
    void (*unsubmitted)(
        void *ctx); /* something waits for log_manager_submit; called once until that is called */
    void *ctx;      /* for unsubmitted */
};

/* Is there a file of a shard behind the first in a data directory? "": none; else the first such
 * name. Who reads the directory for one shard alone takes what is in the others' journals for never
 * written. Blocking. */
enum { DIR_NAME_SIZE = 256 };
err log_dir_others(struct store *store, char ret_file[DIR_NAME_SIZE]);

struct log_manager *log_manager_create(const struct log_manager_options *options);
void log_manager_destroy(struct log_manager *m); /* after stop; takes NULL */

/* Start, synchronous, before the loop runs. `clean`: the last stop was clean (the caller found and
 * removed the mark): nothing is scanned. */
err log_manager_open_log(struct log_manager *m, struct str topic, struct uuid id, int32_t partition,
                         const struct log_config *config, bool clean);

/* The same for many, which the workers share: all that were expected since are opened. The first
 * error is returned, and all are logged; logs that could be opened stay. */
void log_manager_expect_log(struct log_manager *m, struct str topic, struct uuid id,
                            int32_t partition, const struct log_config *config);
err log_manager_open_expected(struct log_manager *m, bool clean);

/* Renames away and removes the directories of partitions that no opened log owns (topics deleted
 * before the stop). `all`: the managers of every shard of the data directory. */
err log_manager_remove_strays(struct log_manager *const *all, int32_t count);

/* Every log is open: the start ends. What the journal held is in the segments, and its files are
 * free again. Without this call there is no journal. */
err log_manager_opened(struct log_manager *m);

/* The start is over: sealed segments are checked in the background from here on, at once after an
 * unclean stop. */
void log_manager_start_scrub(struct log_manager *m);

/* Hands everything that was appended in this loop turn to the writer: the server calls it once a
 * turn. */
void log_manager_submit(struct log_manager *m);

struct log *log_manager_find(struct log_manager *m, struct uuid id, int32_t partition); /* NULL */

/* `done` is called on the loop, later. create: the directory and first segment are there, and the
 * log can be found; they are durable with its first sync (a start makes again what a crash took).
 * destroy: the log cannot be found any more at once; the rename is durable at done; bytes die when
 * the last reader has gone. */
void log_manager_create_log(struct log_manager *m, struct str topic, struct uuid id,
                            int32_t partition, const struct log_config *config,
                            void (*done)(void *ctx, err e), void *ctx);
void log_manager_destroy_log(struct log_manager *m, struct uuid id, int32_t partition,
                             void (*done)(void *ctx, err e), void *ctx);

/* log.retention.check.interval.ms has changed: the next look is that far from now. */
void log_manager_set_retention_check(struct log_manager *m, int64_t interval_ms);

/* Graceful stop: no more appends (ERR_CLOSED), everything under way is written and synced, producer
 * snapshots and checkpoints written; then `done`. The owner writes the clean-shutdown mark after
 * it, but only if all of that succeeded: a start that finds the mark looks at nothing else. */
void log_manager_stop(struct log_manager *m, void (*done)(void *ctx), void *ctx);
bool log_manager_stopped_clean(const struct log_manager *m); /* in `done` and behind it */

/* The disk is tight: there is no reserve. Appends are refused with ERR_NO_SPACE, but for logs that
 * may use what is left (log_config.uses_reserve): those get `bytes` of it in all. -1: it is not. */
void log_manager_set_room(struct log_manager *m, int64_t bytes);
bool log_manager_is_tight(const struct log_manager *m);

int32_t log_manager_leader_epoch(const struct log_manager *m); /* of every partition */
int64_t log_manager_total_bytes(const struct log_manager *m);

/* log: one partition, as appended batches in segment files of Kafka's format.
 *
 * A log lives on its shard's loop thread, which alone touches this struct. Files are written by the
 * shard's *writer* worker, made durable by its *syncer*, and read when cold by its *reader*: what
 * they need travels in work items, nothing is shared. So an append is submit and complete: the
 * offset is given at submit, `written` comes when the bytes are in the page cache, `durable` when
 * they are on stable storage.
 *
 *     start offset <= high watermark == durable end <= written end <= log end offset
 *
 * (the log end offset is the next one to give).
 *
 * Only what is below the high watermark is readable; so no offset that anybody read is ever given
 * to another record.
 */
#pragma once

#include "base/err.h"
#include "base/list.h"
#include "base/str.h"
#include "broker/store/extent.h"
#include "protocol/batch.h"

struct log;

enum log_timestamp_type { LOG_CREATE_TIME = 0, LOG_APPEND_TIME = 1 };

/* A topic's settings as its logs need them; plain values, filled by meta/ from the configuration.
 * -1 = no bound where it says so. */
struct log_config {
    int64_t segment_bytes;   /* roll before a segment would pass it */
    int64_t segment_ms;      /* roll at the first append this long after a segment's first record */
    int64_t retention_bytes; /* -1: none */
    int64_t retention_ms;    /* -1: for ever */
    int64_t file_delete_delay_ms;  /* between the rename to *.deleted and the unlink */
    int64_t index_interval_bytes;  /* at least so many bytes between two index entries */
    int64_t index_max_bytes;       /* roll when an index would pass it */
    int64_t flush_messages;        /* INT64_MAX: no stricter than the group commit */
    int64_t flush_ms;              /* likewise */
    bool delete_old;               /* cleanup.policy has `delete` */
    bool uses_reserve;             /* may be appended to while the disk is tight (manager.h) */
    bool compact;                  /* cleanup.policy has `compact` */
    int64_t compact_roll_bytes;    /* an active segment that large may be rolled to be cleaned */
    double min_cleanable_ratio;    /* of dirty bytes to all: 0 .. 1 */
    int64_t delete_retention_ms;   /* tombstones stay this long when they were cleaned first */
    int64_t min_compaction_lag_ms; /* younger segments are not cleaned */
};

/* One batch to append. Caller's memory, borrowed until the last of the callbacks that are set. */
struct log_append {
    uint8_t *batch; /* one whole batch, checked by batch_validate; base offset and epoch are patched
                       in place */
    size_t size;    /* bytes of it */
    struct batch_info
        info;            /* what batch_validate found: count, last delta, max timestamp, producer */
    int64_t base_offset; /* out, at submit: the first record's offset (of the original for a
                            duplicate) */
    int64_t append_time_ms; /* out, at submit: wall time given with LogAppendTime topics' batches,
                               else -1 */
    bool duplicate; /* out: a retry of one of the producer's last five batches; nothing is appended
                     */
    void (*written)(struct log_append *a,
                    err e); /* may be NULL; the batch memory is free after it */
    void (*durable)(struct log_append *a, err e); /* may be NULL; comes after written */
    struct log *log;                              /* the log's, while it is under way */
    struct list link;                             /* the log's, while it is under way */
    int64_t end_offset; /* the log's: durable once the high watermark reaches it */
};

/* Submits. OK: both callbacks will come, later, never from inside this call. Otherwise nothing was
 * done: ERR_ORDER      the producer's sequence has a gap            -> OUT_OF_ORDER_SEQUENCE_NUMBER
 *   ERR_FENCED     the producer's epoch is older than known     -> INVALID_PRODUCER_EPOCH
 *   ERR_DUPLICATE  older than the five remembered batches       -> DUPLICATE_SEQUENCE_NUMBER
 *   ERR_NO_SPACE   the disk is (or was just now) full           -> KAFKA_STORAGE_ERROR
 *   ERR_CLOSED     the log is being deleted                     -> UNKNOWN_TOPIC_OR_PARTITION
 * A `written` or `durable` with an error: the batch is not in the log, and never will be. */
err log_append(struct log *log, struct log_append *a);

/* What the log remembers of a producer. */
struct log_producer {
    int64_t id;
    int16_t epoch;
    int32_t last_sequence; /* -1: of no batch that counts */
    int64_t used_ms;       /* wall time of its last batch: what outlives a restart, and no client
                              can make up */
};
int32_t log_producer_count(const struct log *log);
void log_producers(const struct log *log, struct log_producer *ret); /* so many */

/* Offsets and sizes, as of now. */
int64_t log_start_offset(const struct log *log);
int64_t log_high_watermark(const struct log *log);
int64_t log_end_offset(const struct log *log);
int64_t log_size_bytes(const struct log *log);
int32_t log_leader_epoch(const struct log *log);

/* What a read found. Extents are whole batches, but for the last, which may be cut by max_bytes
 * (never the very first one when at_least_one is set). The first batch may begin below the asked
 * offset. */
enum { LOG_READ_EXTENTS = 4 };
struct log_read {
    struct extent extents[LOG_READ_EXTENTS]; /* in order; to be released by the caller */
    int count;                               /* of extents; 0 at the high watermark */
    size_t size;                             /* bytes of all extents */
};

/* Reads below the high watermark without blocking. ERR_RANGE: offset < start or > end. ERR_AGAIN:
 * not in memory; log_warm, then ask again. ERR_CORRUPT: the batch there fails its checksum.
 * ERR_CLOSED. */
err log_read(struct log *log, int64_t offset, size_t max_bytes, bool at_least_one,
             struct log_read *ret_read);

/* Bytes between offset and the high watermark, cheaply (an estimate from positions when both are
 * known, else what is cached); for Fetch's min_bytes. */
size_t log_bytes_available(const struct log *log, int64_t offset);

/* Asynchronous look-ups: memory of the caller, until `done`, which is called on the loop, never
 * from inside the call. */
struct log_query {
    int64_t offset; /* warm: from where; in/out of the time look-ups: out, -1 when there is no such
                       record */
    int64_t timestamp_ms; /* find_time: in; out of both: the found record's time, -1 when there is
                             none */
    size_t max_bytes;     /* warm: how much the reader is about to ask for */
    int32_t leader_epoch; /* out: epoch of the found record's batch; -1 */
    err result;           /* out */
    void (*done)(struct log_query *q);
    struct log *log; /* the log's, while it is under way */
};

void log_warm(
    struct log *log,
    struct log_query *q); /* brings [offset, +max_bytes) into memory, checksums verified */
void log_find_time(
    struct log *log,
    struct log_query *q); /* first record below the high watermark with timestamp >= timestamp_ms */
void log_max_time(struct log *log, struct log_query *q); /* the record with the largest timestamp
                                                            below the high watermark (KIP-734) */

/* The epoch that the record at `offset` was written in; -1 when none is known. */
int32_t log_epoch_at(const struct log *log, int64_t offset);

/* End offset of the largest epoch <= `epoch` that the log knows (KIP-320). When all that it knows
 * are larger, what was older is deleted: `epoch` itself, and the start of the first of them. -1/-1
 * for an epoch that is yet to come. */
void log_epoch_end(const struct log *log, int32_t epoch, int32_t *ret_epoch,
                   int64_t *ret_end_offset);

/* Called on the loop each time the high watermark or the start offset moves, and once with closed
 * set when the log goes away. A watcher may unwatch itself, or others, in it. */
struct log_watcher {
    void (*moved)(struct log_watcher *w, bool closed);
    struct list link; /* the log's, while it watches */
};
void log_watch(struct log *log, struct log_watcher *w);
void log_unwatch(struct log_watcher *w); /* takes one that does not watch */

/* A wait for the offset checkpoints; the log's. */
struct offset_files_wait {
    void (*done)(struct offset_files_wait *w, err e);
    unsigned files;   /* which of them */
    struct log *log;  /* whose start is to be in them; NULL: as it is */
    int64_t start;    /* that start */
    struct list link; /* while it waits */
};

/* Moves the start offset up to `offset`. Memory of the caller, until `done`, which is called on the
 * loop, never from inside the call. */
struct log_deletion {
    int64_t offset;       /* in */
    int64_t start_offset; /* out, with OK: the start now, which another deletion may have moved
                             further */
    err result;           /* out: OK: the new start is durable; otherwise it has not moved */
    void (*done)(struct log_deletion *d);
    struct offset_files_wait wait; /* the log's, while it is under way */
};

/* OK: `done` will come. Otherwise nothing was done: ERR_RANGE (below 0, or above the high
 * watermark), ERR_EXISTS (the start is there already, or further), ERR_CLOSED, ERR_IO. Whole
 * segments below the start go behind it, as with retention. */
err log_delete_records(struct log *log, struct log_deletion *d);

/* Start only, before the loop runs: reads whole batches from `offset` on into memory, blocking;
 * *ret_size 0 at the end. ERR_CORRUPT and ERR_RANGE as in log_read; ERR_LIMIT: the next batch alone
 * is larger than size. */
err log_read_blocking(struct log *log, int64_t offset, void *p, size_t size, size_t *ret_size);

void log_set_config(struct log *log, const struct log_config *config); /* from the next append on */

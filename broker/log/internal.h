/* The inside of broker/log: what log.h and manager.h keep from the rest of the house.
 *
 * Loop thread, but for functions that say "worker": those get what they need in their work item and
 * touch neither a struct log nor a manager; of a segment only what never changes (base_offset,
 * path).
 *
 * How an append travels:
 *
 *     log_append         pending      offset given, producer checked, batch patched
 *     log_manager_submit writing      placed in a segment; a write group is with the writer
 *     write group done   waiting      in the page cache: `written`; a sync group takes what is
 * there sync group done    -            high watermark moves, `durable`
 *
 * At most one write group and one sync group are under way; what comes meanwhile forms the next
 * one.
 */
#pragma once

#include "base/arena.h"
#include "base/map.h"
#include "broker/log/journal.h"
#include "broker/log/manager.h"
#include "broker/log/producer_state.h"

enum file_kind { FILE_LOG, FILE_INDEX, FILE_TIMEINDEX, FILE_KINDS };

enum {
    INDEX_ENTRY_SIZE =
        8, /* int32 last offset of a batch - base offset, int32 position of the batch */
    TIME_ENTRY_SIZE =
        12, /* int64 largest timestamp so far, int32 its batch's last offset - base offset */
    LOG_PATH_SIZE = 600, /* directory of at most 255 and a file's name */
    SPANS = 4,           /* verified ranges remembered of a segment */
    BAD_KNOWN = 16,      /* batches that fail their checksum, remembered of a segment */
    HINTS = 16,          /* former high watermarks remembered of a log, with their positions */
    WARM_MAX = 4194304, /* bytes verified for one log_warm, at most, but for a larger first batch */
    SCAN_CHUNK = 65536, /* bytes read at once when batches are walked */
    CHECKPOINT_GROWTH = 1048576, /* bytes a log must have grown to be worth a checkpoint in passing:
                                    less is quickly scanned */
    CHECKPOINT_BYTES = 1 << 30,  /* of all logs: what a start reads in a third of a second */
    NO_SPACE_SAY_MS = 60000,     /* between two lines about a full disk */
    OFFSET_NONE = -1,
};

struct log_manager;
struct segment;

/* An open file of a segment. The segment's slot holds one reference while it is cached, each extent
 * and work item another. */
struct seg_file {
    struct extent_owner owner; /* its release drops a reference; first member */
    struct log_manager *m;     /* borrowed */
    struct segment *segment;   /* borrowed; NULL once it is out of its slot */
    enum file_kind kind;
    struct store_file *file; /* owned */
    int refs;
    struct list lru;   /* in the manager's, while it is in its slot */
    struct work close; /* when the last reference has gone */
};

/* A file that a work item uses. */
struct file_use {
    struct seg_file *ref;    /* one reference, or NULL: the worker opens it by the segment's path */
    struct store_file *file; /* ref's, or what the worker opened */
    struct segment *segment; /* one reference */
    enum file_kind kind;
    enum store_open how; /* if the worker has to open it */
};

struct span {
    int64_t from; /* position */
    int64_t to;   /* position behind it; from == to: none */
};

/* What changes with each batch that is placed; saved before each part of a write, to go back to
 * when it fails. */
struct segment_tail {
    int64_t size;                 /* bytes, as placed */
    int64_t max_timestamp;        /* of its records; -1: none. Only with times_known */
    int64_t max_timestamp_offset; /* last offset of the batch that has it */
    int64_t first_timestamp;      /* max timestamp of the first batch; -1: empty or unknown */
    int64_t last_time;            /* timestamp of the last time index entry; -1: none */
    int32_t index_count;          /* entries, as placed */
    int32_t time_count;
    int64_t bytes_since_index;
};

struct segment {
    struct log *log;     /* borrowed; outlives it */
    int64_t base_offset; /* of its name; never changes */
    struct segment_tail tail;
    int64_t written_size;  /* bytes in the page cache */
    int32_t index_written; /* entries that can be read */
    int32_t time_written;
    int64_t last_indexed; /* offset of the last index entry there was at the start; -1: none */
    int64_t created_ms;   /* wall time; of the start for one that was there */
    int64_t own_from;     /* what lies from here on was written or verified by this process */
    struct span *spans;   /* owned; SPANS of them, or NULL: other verified ranges */
    int64_t *bad;  /* owned; positions of batches that fail their checksum, as they were found; the
                      last BAD_KNOWN, or NULL */
    int bad_count; /* found so far */
    struct seg_file *files[FILE_KINDS]; /* cached; NULL when closed */
    struct list sync_link;              /* in the manager's unsynced */
    struct buf records;                 /* owned: for the journal, since the last sync group */
    struct list record_link;            /* in the manager's recorded, while there are some */
    int refs;                           /* the log's, and work items' */
    bool times_known;                   /* max_timestamp of the tail is right */
    bool fresh;                         /* its directory entry is not durable yet */
    bool sealed;                        /* no more appends */
    bool index_dirty;                   /* index files were written since they were synced */
    bool journalled;                    /* the journal has what is not synced in the file */
    bool cut;      /* what was cut off its end may come back: not synced since */
    bool removed;  /* it was taken out of the log */
    bool replaced; /* likewise, for a cleaned one that has its name */
    bool cleaning; /* the cleaner reads it: it stays in the log until that ends */
};

/* A place in a log: positions of a record's batch. */
struct mark {
    int64_t offset;
    int64_t base_offset; /* of the segment */
    int64_t position;    /* in it, where the batch with `offset` begins or will begin */
};

struct log_epoch {
    int32_t epoch;
    int64_t start_offset;
};

struct log {
    struct log_manager *m; /* borrowed */
    struct str topic;      /* owned */
    struct uuid id;
    int32_t partition;
    char *dir; /* owned; "TOPIC-N" */
    struct log_config config;
    struct segment **segments; /* owned array, by base offset; never empty while it is open */
    int32_t segment_count;
    int32_t segment_slots;
    int64_t start_offset;
    int64_t asked_start; /* what log-start-offset-checkpoint will say when the write of it that is
                            under way is done, if that is more */
    int64_t next_offset;
    struct mark written;        /* end of what is in the page cache */
    struct mark durable;        /* the high watermark */
    int64_t recovery_point;     /* below it nothing has to be scanned after a crash */
    int64_t checkpointed_bytes; /* appended_bytes at the last checkpoint */
    int64_t appended_bytes;     /* since the start */
    struct log_epoch *epochs;   /* owned; by rising epoch */
    int32_t epoch_count;
    bool fresh;        /* its directory's entry is not durable yet */
    bool epochs_dirty; /* not in leader-epoch-checkpoint yet */
    struct producer_state producers;
    int64_t snapshot_offset; /* of the newest snapshot file; -1: none */
    struct list pending;     /* struct log_append */
    struct list writing;
    struct list waiting;
    struct list dirty_link;  /* in the manager's dirty, while something is pending */
    struct list synced_link; /* in the manager's written */
    struct list watchers;
    struct mark *hints; /* owned; HINTS of them, or NULL */
    int hint_next;
    int refs;       /* the manager's, and work items' */
    bool closed;    /* being deleted, or the manager stops */
    bool fenced;    /* rot below the recovery point that cannot be stepped over: no more appends */
    bool truncate;  /* a failed write may have left bytes behind the written end */
    bool destroyed; /* out of the manager */
    bool roll;      /* begin a new segment at the next submit: retention wants this one */
    bool renaming;  /* the first of `removals` is with the writer */
    struct list removals; /* struct removal: segments out of the log whose files are still there */
    bool stale;           /* offset checkpoints say of it what is not true: found by the start */
    bool journalled;      /* some segment is */
    bool carried;         /* the journal's next group says how far it is durable */
    bool direct;          /* a segment of it is in the sync group that is being formed */
    int under_way;        /* write and sync groups it is part of, and the cleaner's step */
    int64_t saved_point;  /* the recovery point that a start finds on disk */
    int64_t clean_end;    /* below it no key has two records; 0: nothing is known */
    bool uncleanable;     /* the cleaner met a batch that it cannot read */
    struct list clean_link; /* in the manager's to_clean, with a reference */
    void (*destroy_done)(void *ctx, err e);
    void *destroy_ctx;
};

struct write_group;
struct sync_group;

enum offset_file {
    OFFSETS_RECOVERY,
    OFFSETS_START,
    OFFSETS_REPLICATION,
    OFFSETS_DURABLE,
    OFFSET_FILES
};
enum {
    OFFSET_FILES_ALL = (1 << OFFSET_FILES) - 1,
    /* A checkpoint's; the last one is written when files of the journal are to be cleared. */
    OFFSET_FILES_CHECKPOINT = OFFSET_FILES_ALL & ~(1 << OFFSETS_DURABLE),
};

/* The offset checkpoints (offset_files.c). Maps: "TOPIC-N" -> int64 + 1 as pointer. */
struct offset_files {
    struct map there[OFFSET_FILES]; /* what may be in them */
    struct map next[OFFSET_FILES];  /* what the write under way puts there */
    struct buf text[OFFSET_FILES];  /* owned; of that write */
    unsigned files;                 /* it is of: bits 1 << enum offset_file */
    struct list waiting;            /* struct offset_files_wait */
    struct list writing;
    struct work work;
    err result;
    bool under_way;
    bool read;
    bool stale;        /* the start found something in them that is not true */
    bool ends_unknown; /* how far logs were durable has rotted: it may be further than all else
                          says (O4) */
};

struct expected_log {
    struct log *log; /* the manager's reference */
    err result;      /* of its recovery; ERR_CLOSED: it was not tried */
};

struct log_manager {
    struct log_manager_options o;
    struct map logs;           /* id and partition -> struct log (owned) */
    struct list dirty;         /* logs with pending appends */
    struct list written;       /* logs whose written end is past what the last sync group took */
    struct list unsynced;      /* segments written since, that are to be synced themselves */
    struct list recorded;      /* segments written since, that have records for the journal */
    size_t recorded_bytes;     /* of these records */
    struct list lru;           /* struct seg_file, oldest first */
    int open_files;            /* in slots */
    int closing;               /* files on their way to be closed: still open */
    struct write_group *write; /* under way; NULL */
    struct sync_group *sync;   /* under way; NULL */
    int64_t no_space_writes;   /* that failed for want of room */
    int64_t no_space_said_ms;  /* monotonic; when that was last logged; 0: never */
    int64_t room_bytes;        /* what appends may still take of a tight disk; -1: it is not */
    int64_t pending_bytes;     /* of the batches in dirty logs, since the last write group */
    bool pending_told;         /* one of them has `written` */
    struct offset_files offset_files;
    struct expected_log *expected; /* owned; to be opened together (open.c) */
    size_t expected_count;
    size_t expected_slots;
    bool said_unsubmitted;
    bool unclean;        /* some log was opened after a crash */
    int64_t grown_bytes; /* of all logs, since the last checkpoint began, or found by the start */
    bool checkpoint_due; /* some log has grown enough */
    bool dead;           /* a sync failed: the outcome of writes is unknown, nothing more is done */
    bool sync_delayed;   /* for want of a descriptor; logged once */
    struct timer retention;
    struct timer checkpoint;
    struct timer sync_again;          /* armed: the next sync waits for it */
    struct checkpoint *checkpointing; /* under way; NULL */
    bool checkpoint_failed;           /* the last one: something of it was not written */
    struct journal journal;
    int unsaid_groups;         /* sync groups since the journal said how far logs are durable */
    bool carry;                /* some log is `carried` */
    bool journal_wanted;       /* a group found no place in it */
    int journal_pause;         /* calls of journal_tend until that is tried again */
    bool journal_said;         /* that a file could not be made or cleared: once */
    struct journal_care *care; /* a file of it is being made or cleared; NULL */
    uint64_t sealed_use;       /* the checkpoint that is under way covers files up to this use */
    struct scrub *scrub;       /* owned */
    bool stopping;
    bool final_begun; /* the last checkpoint */
    bool final_done;
    bool final_failed;
    bool opened;     /* the start is over; before, files are closed at once */
    bool destroying; /* likewise, no worker is there any more */
    struct work stop_work;
    void (*stop_done)(void *ctx);
    void *stop_ctx;
    struct list
        removals; /* struct removal: renamed files and directories whose time has not come */
    int works;    /* work items under way */
    struct list to_clean;      /* struct log.clean_link: worth to be cleaned */
    struct cleaning *cleaning; /* under way, or waiting for its timer; NULL */
};

/* ---- files.c: open files of segments */

void segment_path(const struct segment *s, enum file_kind kind,
                  char path[LOG_PATH_SIZE]); /* worker too */
/* Worker: into its directory: partition.metadata, an empty first segment. Durable with the first
 * sync of the log: a crash before that makes them again. */
err log_make_files(struct store *store, const char *dir, struct uuid id, int64_t base_offset);
struct seg_file *seg_file_cached(struct segment *s,
                                 enum file_kind kind); /* NULL when it is closed; touches the LRU */
void seg_file_ref(struct seg_file *f);
void seg_file_unref(struct seg_file *f); /* takes NULL */
void file_use_begin(struct file_use *use, struct segment *s, enum file_kind kind,
                    enum store_open how);
err file_use_open(struct file_use *use, struct store *store); /* worker */
void file_use_end(
    struct file_use *use); /* caches what was opened, drops the references; takes a zeroed one */
struct segment *segment_create(struct log *log, int64_t base_offset);
void segment_ref(struct segment *s);
void segment_unref(struct segment *s);
void segment_close_files(struct segment *s); /* out of the cache */

/* ---- scan.c: walking files; blocking, or with `cached` never waiting (ERR_AGAIN) */

typedef err store_read_fn(void *ctx, struct store_file *file, void *p, size_t size,
                          int64_t position, size_t *ret_read);

struct walk { /* reads batch headers through a small window */
    struct store *store;
    store_read_fn *read;
    struct store_file *file;
    int64_t end;        /* nothing behind it is looked at */
    int64_t at;         /* position of the window */
    size_t size;        /* bytes in it */
    size_t window_size; /* bytes of it to use */
    uint8_t *window;
    int64_t asked; /* position of the last header that was asked for */
};
/* A batch's base offset lies outside of its checksum, and a checksum proves no sense: are all its
 * offsets in [from, end)? */
bool batch_is_in_place(const struct batch_header *h, int64_t from, int64_t end);
err walk_header(
    struct walk *w, int64_t position,
    struct batch_header *ret_header); /* ERR_NOT_FOUND at the end; ERR_TRUNCATED, ERR_CORRUPT */

/* Position of the batch that holds `offset` (or of the first one behind it, where there are gaps),
 * from the index entry before it. index may be NULL. */
err scan_to_offset(struct walk *w, struct store_file *index, int32_t index_count,
                   int64_t base_offset, int64_t offset, int64_t *ret_position,
                   struct batch_header *ret_header);
err index_lookup(struct store *store, store_read_fn *read, struct store_file *index, int32_t count,
                 int64_t base_offset, int64_t offset, int64_t *ret_position);
/* The last time entry with a timestamp < t: the offset from which to look; base offset when there
 * is none. */
err time_lookup(struct store *store, struct store_file *timeindex, int32_t count,
                int64_t base_offset, int64_t t, int64_t *ret_offset);
err time_last(struct store *store, struct store_file *timeindex, int32_t count,
              int64_t *ret_timestamp, int64_t *ret_offset_delta);
/* Entries that count: Kafka leaves zeros behind them when it is killed. */
int32_t index_used_entries(struct store *store, struct store_file *file, int entry_size,
                           uint8_t ret_last[TIME_ENTRY_SIZE]); /* the last of them, if any */
/* How many entries of an index of that kind are, one above the other, of offsets up to base offset
 * + delta; and the last of them. */
err index_count_upto(struct store *store, enum file_kind kind, struct store_file *index,
                     int32_t count, int64_t delta, uint8_t last[TIME_ENTRY_SIZE],
                     int32_t *ret_count);

/* ---- read.c */

int32_t log_segment_at(const struct log *log,
                       int64_t offset);                /* index of the segment that holds it */
int64_t segment_readable_end(const struct segment *s); /* position of the high watermark in it */
bool segment_is_verified(const struct segment *s, int64_t position, int64_t *ret_to);
void segment_add_verified(struct segment *s, int64_t from, int64_t to);
/* A batch that fails its checksum (offset -1: nobody knows whose): readers get ERR_CORRUPT there,
 * and what lies behind it in the segment is verified again before it is given out. Said once. */
void segment_note_bad(struct segment *s, int64_t position, int64_t offset);
void segment_mark_bad(struct segment *s, int64_t position); /* likewise; its finder has said it */
bool segment_is_bad(const struct segment *s, int64_t position);
void log_add_hint(struct log *log);
const struct mark *log_find_hint(const struct log *log, int64_t offset);

/* ---- log.c */

struct log *log_create(struct log_manager *m, struct str topic, struct uuid id, int32_t partition,
                       const struct log_config *config);
void log_ref(struct log *log);
void log_unref(struct log *log);
void log_add_segment(struct log *log, struct segment *s);
void log_drop_segments_from(struct log *log, int32_t index);
struct segment *log_active(const struct log *log);
void log_note_epoch(struct log *log, int32_t epoch, int64_t start_offset);
void log_complete_durable(struct log *log);    /* `durable` for all below the high watermark */
void log_fail(struct log *log, err e);         /* everything from the first of `writing` on */
void log_fail_pending(struct log *log, err e); /* what no write group has taken yet */
void log_notify(struct log *log, bool closed);
void log_close(struct log *log); /* no more appends; readers are told */

/* ---- commit.c: write groups and sync groups */

void manager_say_unsubmitted(struct log_manager *m);
void commit_submit(struct log_manager *m);
bool commit_is_idle(const struct log_manager *m);
void sync_again_fire(struct timer *timer);
void commit_forget(struct log_manager *m); /* what no sync group will take: one has failed */
void manager_work(struct log_manager *m, struct worker *worker,
                  struct work *work); /* counts it; manager_work_done in its done */
void manager_work_done(struct log_manager *m);
void manager_check_stopped(struct log_manager *m);

/* ---- manager.c */

void manager_add_log(struct log_manager *m, struct log *log); /* takes the reference */
void manager_free_log(struct log *log); /* likewise: it is not there any more */

/* ---- open.c */

void expected_forget(struct log_manager *m); /* what a start that failed has left */

/* ---- recover_index.c: at the start, blocking */

/* Takes a segment's indexes as they are, if they can be right. False: they must be made again. */
bool recover_indexes_take(struct segment *s, int64_t size);
/* From `position` on, whatever is there: it may be in the cache alone. */
err recover_index_put(struct segment *s, enum file_kind kind, const struct buf *entries,
                      int64_t position);
/* New indexes of the segments [from, to), which no checkpoint will sync. */
err recover_indexes_sync(struct log *log, int32_t from, int32_t to);

/* ---- recover_next.c: at the start, blocking */

/* Are there good batches in a segment, one behind the other, up to the offset `upto`, be it that the
 * journal has them, or up to the base of the segment behind it? */
err recover_reaches(const struct segment *s, const struct journal_log *journal, int64_t upto,
                    bool *ret_yes);

/* ---- recovery.c */

/* Start, blocking, any thread: touches the log, and of the manager only what does not change. */
err log_recover(struct log *log, bool clean);
struct journal_id log_journal_id(const struct log *log);

/* ---- text_files.c: small files in Kafka's text forms */

err metadata_read(struct store *store, const char *dir,
                  struct uuid *ret_id); /* ERR_NOT_FOUND, ERR_CORRUPT */
err metadata_write(struct store *store, const char *dir, struct uuid id);
err epochs_read(struct store *store, const char *dir, struct log_epoch **ret_epochs,
                int32_t *ret_count);
/* ERR_CORRUPT: what is before the line that is none is there all the same. */
err offsets_file_read(struct store *store, const char *path, struct map *offsets);
/* The one with a checksum, all of it or nothing: ERR_CORRUPT when that is not its own. */
err durable_offsets_read(struct store *store, const char *path, struct map *offsets);
void offsets_text_seal(struct buf *text); /* adds the checksum, as the last line */
bool offsets_text_unseal(
    struct str *text); /* takes it off; false: it is not of what is before it */
int64_t checkpoint_value(const struct map *offsets, const char *dir, int64_t otherwise);

/* ---- offset_files.c: the offset checkpoints */

void offset_files_init(struct log_manager *m);
void offset_files_finish(struct log_manager *m);
err offset_files_read(struct log_manager *m); /* start, blocking; once */
/* Start, any thread: what the file says of the log, which ends at `end_offset`; 0 when that makes no
 * sense. */
int64_t offset_files_take(const struct log_manager *m, enum offset_file file, struct log *log,
                          int64_t end_offset);
err offset_files_mend(struct log_manager *m); /* start, blocking: what made no sense is taken out */
unsigned offset_files_naming(const struct log_manager *m,
                             const char *dir); /* bits of those that do, or will */
/* Those of w->files, as things are when the write begins. `done` comes on the loop, later. */
void offset_files_write(struct log_manager *m, struct offset_files_wait *w);

/* ---- checkpoint.c: recovery points and snapshots */

void checkpoint_arm(struct log_manager *m);
enum checkpoint_kind {
    CHECKPOINT_PERIODIC, /* logs that have grown */
    CHECKPOINT_FINAL,    /* all */
    CHECKPOINT_JOURNAL,  /* segments alone, that the journal holds something of */
};
void checkpoint_start(struct log_manager *m, enum checkpoint_kind kind,
                      void (*done)(struct log_manager *m));
void checkpoint_fire(struct timer *timer);
void log_note_growth(struct log *log, int64_t bytes); /* a checkpoint saves the scan of it */
bool checkpoint_is_at(const struct log_manager *m,
                      const char *dir); /* the reader writes, or is about to write, into it */

/* ---- journal_keep.c */

void journal_carry(struct log_manager *m); /* the next group says again how far logs are durable */
void journal_tend(struct log_manager *m);  /* makes and frees files, when that is due */

/* ---- scrub.c */

struct scrub *scrub_create(struct log_manager *m);

struct scrub_place {         /* scrub_place.c: how far a pass is, kept over restarts */
    int64_t began_ms;        /* wall time */
    int64_t base;            /* of the last segment that is done; -1: the pass is over */
    char dir[LOG_PATH_SIZE]; /* of its log; "": likewise */
};
void scrub_place_text(const struct scrub_place *place, struct buf *out);
err scrub_place_write(struct store *store, const struct buf *text);       /* worker */
err scrub_place_read(struct store *store, struct scrub_place *ret_place); /* at the start */
void scrub_stop(struct scrub *s); /* what is under way ends by itself; may be called again */
void scrub_destroy(struct scrub *s);

/* ---- retention.c */

void retention_arm(struct log *log);        /* if it has a bound, or segments below its start */
void log_drop_below_start(struct log *log); /* segments that nobody reads any more */
void retention_fire(struct timer *timer);
void removal_begin(
    struct log *log,
    struct segment *s); /* of a segment, out of the log already; NULL: of the whole log */
void removal_name(const struct log *log, char name[LOG_PATH_SIZE]); /* of its directory, deleted */
void removals_forget(struct log_manager *m);            /* a start finds what they leave */
err remove_tree(struct store *store, const char *path); /* blocking: a directory of files */
void log_check_quiet(
    struct log *log); /* a destroyed log that nothing is under way for: its files go */

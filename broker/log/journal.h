/* journal: what makes the small appends of many partitions durable with one write and one
 * fdatasync: files `rivulet.journal.N` in the data directory, written with zeros and synced once,
 * then used over and over. (No topic's directory can have such a name: those end in -NUMBER.) Those
 * of a shard S behind the first are `rivulet.journal.S.N`. The format is at the head of journal.c.
 *
 * A *group* is what one sync makes durable: records of batches, each already written to its
 * segment, and of ends (`partition, durable end`) of partitions whose segments were synced
 * themselves. Groups are counted; each takes whole blocks of one file.
 *
 * The loop reserves places and keeps the files' states, the syncer writes, the reader makes and
 * clears files: a file is with one of them at a time. Segments hold everything too: what a file
 * holds is needed until its segments are synced, then the file is cleared and free again.
 */
#pragma once

#include "base/diag.h"
#include "base/map.h"
#include "base/str.h"
#include "broker/store/store.h"

#define JOURNAL_NAME "rivulet.journal."

enum {
    JOURNAL_BLOCK = 4096, /* groups begin at its multiples */
    JOURNAL_SALT = 16,    /* random bytes, of each use of a file */
    JOURNAL_FILES_MAX = 64,
    JOURNAL_KEY = 20, /* topic id and partition, as a map's key */
    JOURNAL_PATH_SIZE = 48,
};

enum journal_state {
    JOURNAL_NONE,   /* not there, or of another size */
    JOURNAL_MAKING, /* with the reader */
    JOURNAL_FREE,   /* zeros where its header goes */
    JOURNAL_ACTIVE, /* takes groups */
    JOURNAL_FULL,   /* takes no more; what it holds is not in its segments for sure */
    JOURNAL_CLEARING,
};

struct journal_file {
    int number; /* of its name */
    enum journal_state state;
    struct store_file *file; /* owned; NULL: none */
    uint64_t use;            /* of the files' uses, this is which; 0: never used or cleared */
    uint64_t sequence;       /* of its first group */
    bool rotten;             /* the start found its header neither whole nor zeros */
    uint8_t salt[JOURNAL_SALT];
};

struct journal {
    struct store *store;     /* borrowed */
    const struct diag *diag; /* borrowed */
    int32_t shard;           /* whose files they are */
    int64_t file_bytes;      /* of each file, a multiple of blocks */
    int file_count;          /* at most; 0: there is no journal, or not yet */
    struct journal_file files[JOURNAL_FILES_MAX];
    int active;                    /* index of the one that takes groups; -1 */
    int64_t position;              /* in it, of the next group */
    uint64_t use;                  /* the last one given */
    uint64_t sequence;             /* of the next group */
    uint8_t *block;                /* owned, the syncer's: a group as it is written */
    size_t block_size;             /* bytes there */
    struct journal_replay *replay; /* owned: at a start after a crash, until the logs are open */
    bool opened;
};

/* Where a group goes. */
struct journal_place {
    struct journal_file *file;
    bool first;        /* the file's header goes with it */
    int64_t position;  /* in the file */
    uint64_t sequence; /* the group's */
    uint32_t blocks;   /* that it takes */
};

void journal_init(struct journal *j, struct store *store, const struct diag *diag, int32_t shard,
                  int64_t file_bytes);
void journal_finish(struct journal *j); /* closes the files; takes a zeroed one */

/* ---- records; any thread */

struct journal_id { /* of a partition */
    struct uuid topic;
    int32_t partition;
};
size_t journal_batch_size(size_t batch_size); /* bytes of its record */
void journal_add_batch(struct buf *records, struct journal_id id, const void *batch, size_t size);
size_t journal_end_size(void);
void journal_add_end(struct buf *records, struct journal_id id, int64_t end);

/* ---- groups */

/* Loop: a place for records of `size` bytes. False: there is none now, or it is more than a file
 * takes. */
bool journal_reserve(struct journal *j, size_t size, struct journal_place *ret_place);
/* Loop: the place that was reserved last, with nothing written there, is given to the next group.
 */
void journal_put_back(struct journal *j, const struct journal_place *place);
/* Loop: a write failed there: the file takes no more groups, and the next one has its number. */
void journal_abandon(struct journal *j, const struct journal_place *place);
/* Worker: writes the group of all records in `parts` (bytes in total no more than was reserved) and
 * syncs it. *ret_written: it was the sync that failed, or nothing. */
err journal_write(struct journal *j, const struct journal_place *place,
                  const struct buf *const *parts, int count, bool *ret_written);

/* ---- files */

bool journal_has_free(const struct journal *j);
int journal_count(const struct journal *j, enum journal_state state);
struct journal_file *journal_first(struct journal *j, enum journal_state state); /* oldest; NULL */
err journal_make_file(struct journal *j, struct journal_file *f);  /* worker: zeros, synced */
err journal_clear_file(struct journal *j, struct journal_file *f); /* worker: no use any more */

/* ---- journal_recover.c: at the start, blocking */

struct journal_batch {
    int64_t offset;   /* of its first record */
    int64_t end;      /* behind its last */
    const uint8_t *p; /* in the replay's memory */
    size_t size;
};

struct journal_log {
    struct journal_batch *batches; /* owned; by rising offset */
    size_t count;
    size_t slots;
    int64_t durable_end; /* what was told durable reaches up to here, at least */
};

struct journal_spot {
    int file;         /* number of its name */
    int64_t position; /* in it; 0: there is no such spot */
};

struct journal_replay {
    struct map logs;                    /* JOURNAL_KEY -> struct journal_log (owned) */
    uint8_t *images[JOURNAL_FILES_MAX]; /* owned: files' bytes */
    uint64_t groups;
    bool rotten; /* a valid group behind a bad one, or a header that is none: what was durable is
                    not known for sure */
    struct journal_spot rot;  /* of the first valid one behind a bad one */
    struct journal_spot torn; /* of a group that was begun and is not whole, at the end */
};

/* Finds the files; after a crash (not clean) reads them into j->replay. ERR_IO and the like: the
 * start fails; bytes that make no sense are no error. */
err journal_open(struct journal *j, bool clean);
const struct journal_log *journal_find(const struct journal *j, struct journal_id id); /* NULL */
/* Everything is in its segments, and they are synced: files are free again, those that are too
 * many or of another size go. From here on groups may be written. */
err journal_recycle(struct journal *j, int file_count);
void journal_forget_replay(struct journal *j);

/* ---- for both files, and tests */

struct journal_header { /* of a file, at 0; little-endian */
    uint64_t magic;
    uint32_t version;
    uint32_t crc; /* CRC-32C of what follows */
    uint64_t use;
    uint64_t sequence;
    uint8_t salt[JOURNAL_SALT];
};

struct journal_group { /* of a group, at a block's begin */
    uint32_t magic;
    uint32_t crc; /* CRC-32C of the file's salt, then of what follows: `size` - 8 bytes */
    uint64_t sequence;
    uint32_t size;   /* bytes from `magic` to the last record's end */
    uint32_t blocks; /* to the next group */
    uint32_t count;  /* of records */
    uint32_t zero;
};

struct journal_record {
    uint8_t topic[16];
    int32_t partition;
    uint32_t size; /* of the batch behind it; 0: none */
    int64_t end;   /* durable with this group, up to here */
};

enum { JOURNAL_VERSION = 1 };
/* Of uses and sequences: what is above is rot. A start that has cleared all files counts from the
 * beginning (J5), so nobody who writes ever comes near. */
#define JOURNAL_NUMBER_MAX ((uint64_t)INT64_MAX)
extern const uint64_t journal_file_magic;
enum { JOURNAL_GROUP_MAGIC = 0x47524a52 }; /* "RJRG" */

uint32_t journal_crc(const uint8_t salt[JOURNAL_SALT], const void *group, size_t size);
void journal_path(const struct journal *j, int number, char path[JOURNAL_PATH_SIZE]);

/* chain: a file of checksummed entries with ascending numbers, written at its end. What a crash has
 * torn is told from what has rotted. The format is at the head of chain.c.
 *
 * Two kinds of files: one that grows (segments of events, what was refused), and one whose bytes
 * are there before they are needed, so that a full disk does not stop it (`size_bytes`). One thread
 * at a time, but for chain_read, which only reads.
 */
#pragma once

#include "base/str.h"
#include "client/rivulet.h"
#include "client/spool/disk.h"

enum {
    CHAIN_HEAD_SIZE = 24,        /* bytes in front of an entry's body */
    CHAIN_FILE_HEAD_SIZE = 32,   /* bytes in front of the first entry */
    CHAIN_NAME_SIZE = 32,        /* of a file, with its 0 */
    CHAIN_BODY_LIMIT = 64 << 20, /* bytes of one entry's body */
};

enum chain_kind { CHAIN_EVENTS = 1, CHAIN_SENDING = 2, CHAIN_REFUSED = 3 };

struct chain {
    const struct disk *disk; /* borrowed */
    struct disk_file *file;  /* owned; NULL: not open */
    char name[CHAIN_NAME_SIZE];
    enum chain_kind kind;
    uint64_t salt;      /* of every checksum */
    uint64_t first;     /* number of the first entry */
    uint64_t next;      /* number of the next entry */
    uint64_t durable;   /* entries below are on the medium */
    int64_t end;        /* position behind the last entry */
    int64_t size_bytes; /* of a file that does not grow; 0: it grows */
    bool failed;        /* a write or a sync failed: nobody knows what is there, open it anew */
};

struct chain_entry {
    uint64_t number;
    struct bytes body; /* borrowed from the buffer that it was read into */
    int64_t position;
};

/* Makes the file; it is synced, its name is not. One of fixed size is void until chain_reset. After
 * an error a file may be left, which chain_open calls absent. */
int chain_create(const struct disk *disk, const char *name, enum chain_kind kind, uint64_t first,
                 int64_t size_bytes, struct chain *ret_chain, struct rv_error *ret_error);

/* Opens one to read entries of; where it ends is not known then. RV_E_CORRUPT. RV_E_ABSENT: there
 * is none, or it is void, or its creation was cut short before anything was in it. One of fixed
 * size is open all the same after these two, if it is there, and may be reset. */
int chain_open(const struct disk *disk, const char *name, enum chain_kind kind, enum disk_open how,
               struct chain *ret_chain, struct rv_error *ret_error);

/* Not RV_OK ends the reading. */
typedef int chain_each(void *ctx, const struct chain_entry *entry, struct rv_error *ret_error);

/* Reads all entries and finds the end. What follows is the torn rest of a crash, or RV_E_CORRUPT,
 * with the place: an entry below `vouched`, or one that a later entry calls durable, is bad.
 * `each` may be NULL. */
int chain_scan(struct chain *c, uint64_t vouched, chain_each *each, void *ctx,
               struct rv_error *ret_error);

/* Before the first append after chain_scan: removes the torn rest, and makes sure that what was
 * found is on the medium and not only in memory. */
int chain_repair(struct chain *c, struct rv_error *ret_error);

/* Begins anew in a file of fixed size, whatever was in it: with these entries, from the number
 * `first` on, each as chain_append takes it. Written at once and synced. RV_E_FULL: no room,
 * nothing has changed. */
int chain_reset(struct chain *c, uint64_t first, struct buf *entries, size_t count,
                struct rv_error *ret_error);

/* One entry. `entry` holds CHAIN_HEAD_SIZE bytes of room and the body behind them. RV_E_FULL: no
 * room, on the device or in a file of fixed size; nothing has changed. RV_E_IO: c->failed. */
int chain_append(struct chain *c, struct buf *entry, struct rv_error *ret_error);
int chain_sync(struct chain *c, struct rv_error *ret_error);

/* The entry `number` at *position, which moves on. RV_E_CORRUPT: it is not there, or bad. */
int chain_read(const struct chain *c, int64_t *position, uint64_t number, struct buf *into,
               struct chain_entry *ret_entry, struct rv_error *ret_error);

void chain_close(struct chain *c); /* takes a zeroed one */

static inline int64_t chain_entry_size(size_t body_size) /* bytes in the file */
{
    return (int64_t)((CHAIN_HEAD_SIZE + body_size + 7) & ~(size_t)7);
}

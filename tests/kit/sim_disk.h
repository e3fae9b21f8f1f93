/* sim_disk: the medium under sim_store. Directories and files in memory, each as the cache has it
 * and as the medium has it, and the changes between the two. Knows nothing of faults or counting.
 */
#pragma once

#include "base/rand.h"
#include "base/str.h"

#include <stdint.h>

enum { SIM_SECTOR_SIZE = 512, SIM_PAGE_SIZE = 4096 };

struct sim_image {
    uint8_t *bytes; /* owned */
    int64_t size;   /* of the file */
    size_t room;    /* bytes there; those past size are zero */
};

struct sim_change {   /* one un-synced write or truncation */
    bool truncates;   /* to `position`; else writes */
    int64_t position; /* where, or the new size */
    size_t size;      /* bytes written */
    uint8_t *bytes;   /* owned */
};

struct sim_entry {
    char *name;            /* owned */
    struct sim_node *node; /* the disk's */
};

struct sim_names {
    struct sim_entry *entries; /* owned; by name */
    size_t count;              /* of entries */
};

struct sim_node {
    bool is_dir;
    int opens;                  /* open files on it */
    int links;                  /* entries in the cache that lead here */
    struct sim_image cached;    /* a file as reads see it */
    struct sim_image synced;    /* a file on the medium */
    struct sim_change *changes; /* owned: from synced to cached, in order */
    size_t change_count;        /* of changes */
    uint8_t *in_memory;         /* owned: one a page, 1 = read_cached finds it */
    size_t page_count;          /* of in_memory */
    struct sim_names now;       /* a directory as lookups see it */
    struct sim_names durable;   /* a directory on the medium */
    struct sim_node *next;      /* all of the disk's nodes */
};

struct sim_dir_op {        /* one un-synced change of entries: creates, removes or renames `node` */
    struct sim_node *from; /* NULL: it is new */
    char *from_name;       /* owned */
    struct sim_node *to;   /* NULL: it is gone */
    char *to_name;         /* owned */
    struct sim_node *node;
};

struct sim_disk {
    struct sim_node *root;  /* the data directory */
    struct sim_node *nodes; /* owned: all, until the disk goes */
    struct sim_dir_op *ops; /* owned: un-synced, in order */
    size_t op_count;        /* of ops */
};

void sim_disk_init(struct sim_disk *d);
void sim_disk_finish(struct sim_disk *d);

/* Look-ups. A path's parent: *ret_name is the last part of it, "" for the root; NULL when a
 * directory on the way is missing. */
struct sim_node *sim_disk_find(const struct sim_disk *d, const char *path);
struct sim_node *sim_disk_parent(const struct sim_disk *d, const char *path, const char **ret_name);
struct sim_node *sim_names_get(const struct sim_names *names, const char *name);

/* Changes, un-synced. */
struct sim_node *sim_disk_create(struct sim_disk *d, struct sim_node *dir, const char *name,
                                 bool is_dir);
void sim_disk_remove(struct sim_disk *d, struct sim_node *dir, const char *name);
void sim_disk_rename(struct sim_disk *d, struct sim_node *from, const char *from_name,
                     struct sim_node *to, const char *to_name);
void sim_node_write(struct sim_node *file, int64_t position, const void *p, size_t size);
void sim_node_truncate(struct sim_node *file, int64_t size);

void sim_node_sync(struct sim_node *file);
void sim_disk_sync_dir(struct sim_disk *d, struct sim_node *dir);

void sim_node_tear(
    struct sim_node *file,
    struct rng *rng); /* some changes reach the medium, the others are forgotten; the cache stays */
bool sim_node_in_memory(const struct sim_node *file, int64_t position, size_t size);
void sim_node_set_in_memory(struct sim_node *file, int64_t position, size_t size);
void sim_disk_evict(struct sim_disk *d);

int64_t sim_disk_used(const struct sim_disk *d); /* bytes of the files that are linked or open */

/* The power goes: the cache becomes what is on the medium, after none (rng NULL) or some of the
 * un-synced changes happened. */
void sim_disk_cut(struct sim_disk *d, struct rng *rng);

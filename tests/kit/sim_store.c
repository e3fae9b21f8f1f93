/* Each operation begins by being counted, which is where faults happen, and ends by cutting the
 * power when it was told to: what the operation did is un-synced then, so that the restart decides
 * whether it happened.
 */
#include "tests/kit/sim_store.h"

#include "base/check.h"
#include "base/list.h"
#include "base/mem.h"
#include "tests/kit/sim_disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOCK_LIMIT = 8 };
static const uint64_t NEVER = UINT64_MAX;

struct store_file {
    struct sim_node *node; /* the disk's */
    bool writable;
    bool stale;       /* opened before the last restart */
    struct list link; /* in files */
};

struct sim_store {
    struct store store; /* to hand out */
    struct sim_disk disk;
    struct rng rng;
    struct list files;       /* of struct store_file: not closed, stale ones too */
    int open_count;          /* of files, without the stale ones */
    int max_open;            /* -1: none */
    int64_t limit_bytes;     /* -1: none */
    bool ignores_syncs;      /* of files: they do nothing */
    char *locks[LOCK_LIMIT]; /* owned: paths */
    size_t lock_count;

    uint64_t count;       /* of operations so far */
    uint64_t fail_at;     /* NEVER: none */
    err fail_error;       /* what it fails with */
    uint64_t cut_at;      /* NEVER: none */
    enum sim_cut cut;     /* how, when the power is cut at an operation */
    bool cutting;         /* the operation that runs is the last one */
    bool down;            /* until the restart */
    bool was_cut;         /* `cut` says how the restart finds things */
    bool paused;          /* a test looks */
    bool trace;           /* SIM_TRACE is set: operations go to standard error */
    enum sim_op fault_op; /* SIM_OP_COUNT: none yet */
};

static const char *const op_names[SIM_OP_COUNT] = {
    [SIM_OPEN] = "open",
    [SIM_READ] = "read",
    [SIM_READ_CACHED] = "read_cached",
    [SIM_WRITE] = "write",
    [SIM_SYNC] = "sync",
    [SIM_TRUNCATE] = "truncate",
    [SIM_RENAME] = "rename",
    [SIM_UNLINK] = "unlink",
    [SIM_MAKE_DIR] = "make_dir",
    [SIM_REMOVE_DIR] = "remove_dir",
    [SIM_SYNC_DIR] = "sync_dir",
    [SIM_LIST] = "list",
    [SIM_LOCK] = "lock",
};

const char *sim_op_name(enum sim_op op)
{
    return op < SIM_OP_COUNT ? op_names[op] : "none";
}

/* ---- faults */

static err begin(struct sim_store *s, enum sim_op op, const char *what)
{
    s->cutting = false;
    if (s->paused) {
        return OK;
    }
    if (s->down) {
        return ERR_IO;
    }
    uint64_t n = s->count++;
    if (s->trace) {
        fprintf(stderr, "sim_store %llu %s %s%s\n", (unsigned long long)n, op_names[op], what,
                n == s->fail_at  ? " FAILS"
                : n == s->cut_at ? " CUT"
                                 : "");
    }
    if (n == s->fail_at) {
        s->fault_op = op;
        return s->fail_error;
    }
    if (n == s->cut_at) {
        s->fault_op = op;
        s->cutting = s->was_cut = true;
    }
    return OK;
}

static err finish(struct sim_store *s)
{
    if (s->cutting) {
        s->cutting = false;
        s->down = true;
        return ERR_IO;
    }
    return OK;
}

static const char *name_of(const struct sim_store *s, const struct sim_node *node, char text[64])
{
    for (const struct sim_node *dir = s->trace ? s->disk.nodes : NULL; dir; dir = dir->next) {
        for (size_t i = 0; i < dir->now.count; i++) {
            if (dir->now.entries[i].node == node) {
                return dir->now.entries[i].name;
            }
        }
    }
    snprintf(text, 64, "%s", "(unlinked)");
    return text;
}

static err begin_file(struct sim_store *s, enum sim_op op, struct store_file *file,
                      int64_t position, size_t size)
{
    char name[64], text[400] = "";
    if (s->trace) {
        snprintf(text, sizeof text, "%.300s @%lld +%zu", name_of(s, file->node, name),
                 (long long)position, size);
    }
    if (file->stale) {
        return ERR_IO;
    }
    return begin(s, op, text);
}

/* ---- files */

static err sim_open(void *ctx, const char *path, enum store_open how, struct store_file **ret_file)
{
    struct sim_store *s = ctx;
    err e = begin(s, SIM_OPEN, path);
    if (e) {
        return e;
    }
    const char *name;
    struct sim_node *dir = sim_disk_parent(&s->disk, path, &name);
    struct sim_node *node = dir ? *name ? sim_names_get(&dir->now, name) : dir : NULL;
    if (s->max_open >= 0 && s->open_count >= s->max_open) {
        return ERR_NO_FILES;
    }
    if (!dir || (!node && how < STORE_CREATE)) {
        e = ERR_NOT_FOUND;
    } else if (node && how == STORE_CREATE_NEW) {
        e = ERR_EXISTS;
    } else if (node && node->is_dir) {
        e = ERR_INVALID;
    } else if (!node) {
        node = sim_disk_create(&s->disk, dir, name, false);
    }
    if (s->cutting) {
        return finish(s);
    }
    if (e) {
        return e;
    }
    struct store_file *file = mem_need_zero(1, sizeof *file);
    file->node = node;
    file->writable = how != STORE_READ;
    node->opens++;
    s->open_count++;
    list_push(&s->files, &file->link);
    *ret_file = file;
    return OK;
}

static void sim_close(void *ctx, struct store_file *file)
{
    struct sim_store *s = ctx;
    if (!file->stale) {
        s->open_count--;
        file->node->opens--;
    }
    list_remove(&file->link);
    mem_free(file);
}

static size_t read_node(struct sim_node *node, void *p, size_t size, int64_t position)
{
    if (position >= node->cached.size) {
        return 0;
    }
    size_t there = (size_t)(node->cached.size - position);
    size_t n = size < there ? size : there;
    memcpy(p, node->cached.bytes + position, n);
    return n;
}

static err sim_read(void *ctx, struct store_file *file, void *p, size_t size, int64_t position,
                    size_t *ret_read)
{
    struct sim_store *s = ctx;
    err e = begin_file(s, SIM_READ, file, position, size);
    e = e ? e : finish(s);
    if (!e) {
        *ret_read = read_node(file->node, p, size, position);
        sim_node_set_in_memory(file->node, position, *ret_read);
    }
    return e;
}

static err sim_read_cached(void *ctx, struct store_file *file, void *p, size_t size,
                           int64_t position, size_t *ret_read)
{
    struct sim_store *s = ctx;
    err e = begin_file(s, SIM_READ_CACHED, file, position, size);
    e = e ? e : finish(s);
    if (!e && !sim_node_in_memory(file->node, position, size)) {
        e = ERR_AGAIN;
    }
    if (!e) {
        *ret_read = read_node(file->node, p, size, position);
    }
    return e;
}

/* How much of a write of `size` bytes at `position` still fits on the device. */
static size_t room_for(const struct sim_store *s, const struct sim_node *node, int64_t position,
                       size_t size)
{
    int64_t grows = position + (int64_t)size - node->cached.size;
    int64_t left = s->limit_bytes - sim_disk_used(&s->disk);
    if (s->limit_bytes < 0 || grows <= 0 || grows <= left) {
        return size;
    }
    int64_t over = grows - (left > 0 ? left : 0);
    return (int64_t)size > over ? size - (size_t)over : 0;
}

static err sim_write(void *ctx, struct store_file *file, const struct iovec *parts, int count,
                     int64_t position)
{
    struct sim_store *s = ctx;
    struct buf all = {0};
    for (int i = 0; i < count; i++) {
        buf_add(&all, parts[i].iov_base, parts[i].iov_len);
    }
    check(!all.failed && file->writable);
    err e = begin_file(s, SIM_WRITE, file, position, all.len);
    if (file->stale || s->down) {
        goto out;
    }
    size_t n = room_for(s, file->node, position, all.len);
    if (e) { /* the fault: some of it is there */
        size_t some = (size_t)rng_below(&s->rng, all.len + 1);
        n = some < n ? some : n;
    } else if (n < all.len) {
        e = ERR_NO_SPACE;
    }
    if (n > 0) {
        sim_node_write(file->node, position, all.ptr, n);
    }
    if (s->cutting) {
        e = finish(s);
    }
out:
    buf_finish(&all);
    return e;
}

/* What is un-synced may be on the disk or not, with it or without it. */
static void sim_start_sync(void *ctx, struct store_file *file)
{
    (void)ctx;
    (void)file;
}

static err sim_sync(void *ctx, struct store_file *file)
{
    struct sim_store *s = ctx;
    err e = begin_file(s, SIM_SYNC, file, 0, 0);
    if (s->cutting) {
        return finish(s);
    }
    if (!e && s->ignores_syncs) {
        return OK;
    }
    if (!e) {
        sim_node_sync(file->node);
    } else if (!file->stale && !s->down) {
        sim_node_tear(file->node, &s->rng);
        s->down = true; /* the posix driver's last words */
    }
    return e;
}

static err sim_truncate(void *ctx, struct store_file *file, int64_t size)
{
    struct sim_store *s = ctx;
    check(file->writable);
    err e = begin_file(s, SIM_TRUNCATE, file, size, 0);
    if (e) {
        return e;
    }
    sim_node_truncate(file->node, size);
    return finish(s);
}

static err sim_size(void *ctx, struct store_file *file, int64_t *ret_size)
{
    struct sim_store *s = ctx;
    if (file->stale || (s->down && !s->paused)) {
        return ERR_IO;
    }
    *ret_size = file->node->cached.size;
    return OK;
}

static int sim_fd(struct store_file *file)
{
    (void)file;
    return -1;
}

/* ---- directories */

static bool is_below(const struct sim_node *dir, const struct sim_node *node)
{
    for (size_t i = 0; i < dir->now.count; i++) {
        const struct sim_node *child = dir->now.entries[i].node;
        if (child == node || is_below(child, node)) {
            return true;
        }
    }
    return false;
}

static err rename_error(const struct sim_node *node, const struct sim_node *replaced,
                        const struct sim_node *to)
{
    if (!node || !to) {
        return ERR_NOT_FOUND;
    }
    check(!node->is_dir || (to != node && !is_below(node, to)));
    if (!replaced || replaced == node) {
        return OK;
    }
    if (node->is_dir != replaced->is_dir) {
        return replaced->is_dir ? ERR_INVALID : ERR_NOT_FOUND; /* EISDIR, ENOTDIR */
    }
    return replaced->now.count > 0 ? ERR_EXISTS : OK;
}

static err sim_rename(void *ctx, const char *from, const char *to)
{
    struct sim_store *s = ctx;
    char text[600];
    snprintf(text, sizeof text, "%.290s %.290s", from, to);
    err e = begin(s, SIM_RENAME, text);
    if (e) {
        return e;
    }
    const char *from_name, *to_name;
    struct sim_node *from_dir = sim_disk_parent(&s->disk, from, &from_name);
    struct sim_node *to_dir = sim_disk_parent(&s->disk, to, &to_name);
    struct sim_node *node = from_dir ? sim_names_get(&from_dir->now, from_name) : NULL;
    e = rename_error(node, to_dir ? sim_names_get(&to_dir->now, to_name) : NULL, to_dir);
    if (!e) {
        sim_disk_rename(&s->disk, from_dir, from_name, to_dir, to_name);
    }
    return s->cutting ? finish(s) : e;
}

static err remove_entry(struct sim_store *s, enum sim_op op, const char *path, bool is_dir)
{
    err e = begin(s, op, path);
    if (e) {
        return e;
    }
    const char *name;
    struct sim_node *dir = sim_disk_parent(&s->disk, path, &name);
    struct sim_node *node = dir ? sim_names_get(&dir->now, name) : NULL;
    if (!node) {
        e = ERR_NOT_FOUND;
    } else if (node->is_dir != is_dir) {
        e = is_dir ? ERR_NOT_FOUND : ERR_INVALID; /* ENOTDIR, EISDIR */
    } else if (node->now.count > 0) {
        e = ERR_EXISTS;
    } else {
        sim_disk_remove(&s->disk, dir, name);
    }
    return s->cutting ? finish(s) : e;
}

static err sim_unlink(void *ctx, const char *path)
{
    return remove_entry(ctx, SIM_UNLINK, path, false);
}

static err sim_remove_dir(void *ctx, const char *path)
{
    return remove_entry(ctx, SIM_REMOVE_DIR, path, true);
}

static err sim_make_dir(void *ctx, const char *path)
{
    struct sim_store *s = ctx;
    err e = begin(s, SIM_MAKE_DIR, path);
    if (e) {
        return e;
    }
    const char *name;
    struct sim_node *dir = sim_disk_parent(&s->disk, path, &name);
    if (!dir) {
        e = ERR_NOT_FOUND;
    } else if (!*name || sim_names_get(&dir->now, name)) {
        e = ERR_EXISTS;
    } else {
        sim_disk_create(&s->disk, dir, name, true);
    }
    return s->cutting ? finish(s) : e;
}

static err sim_sync_dir(void *ctx, const char *path)
{
    struct sim_store *s = ctx;
    err e = begin(s, SIM_SYNC_DIR, path);
    if (s->cutting) {
        return finish(s);
    }
    if (e == ERR_NO_FILES) {
        return e; /* the directory could not be opened: nothing was tried */
    }
    if (e) {
        s->down = true; /* the posix driver's last words */
        return e;
    }
    struct sim_node *dir = sim_disk_find(&s->disk, path);
    if (!dir || !dir->is_dir) {
        return ERR_NOT_FOUND;
    }
    sim_disk_sync_dir(&s->disk, dir);
    return OK;
}

static err sim_list(void *ctx, const char *path,
                    void (*each)(void *arg, const struct store_entry *entry), void *arg)
{
    struct sim_store *s = ctx;
    err e = begin(s, SIM_LIST, path);
    e = e ? e : finish(s);
    if (e) {
        return e;
    }
    const struct sim_node *dir = sim_disk_find(&s->disk, path);
    if (!dir || !dir->is_dir) {
        return ERR_NOT_FOUND;
    }
    /* A copy: the callback may change the directory. */
    size_t count = dir->now.count;
    struct listed {
        char *name;
        bool is_dir;
    } *all = mem_need_zero(count + 1, sizeof *all);
    for (size_t i = 0; i < count; i++) {
        const struct sim_entry *entry = &dir->now.entries[i];
        all[i] = (struct listed){mem_need_dup(entry->name, strlen(entry->name) + 1),
                                 entry->node->is_dir};
    }
    for (size_t i = 0; i < count; i++) {
        each(arg, &(struct store_entry){str_of(all[i].name), all[i].is_dir});
        mem_free(all[i].name);
    }
    mem_free(all);
    return OK;
}

static err sim_lock(void *ctx, const char *path)
{
    struct sim_store *s = ctx;
    err e = begin(s, SIM_LOCK, path);
    e = e ? e : finish(s);
    if (e) {
        return e;
    }
    for (size_t i = 0; i < s->lock_count; i++) {
        if (strcmp(s->locks[i], path) == 0) {
            return ERR_BUSY;
        }
    }
    const char *name;
    struct sim_node *dir = sim_disk_parent(&s->disk, path, &name);
    if (!dir) {
        return ERR_NOT_FOUND;
    }
    if (!sim_names_get(&dir->now, name)) {
        sim_disk_create(&s->disk, dir, name, false);
    }
    check(s->lock_count < LOCK_LIMIT);
    s->locks[s->lock_count++] = mem_need_dup(path, strlen(path) + 1);
    return OK;
}

static err sim_space(void *ctx, int64_t *ret_free_bytes, int64_t *ret_total_bytes)
{
    struct sim_store *s = ctx;
    int64_t total = s->limit_bytes >= 0 ? s->limit_bytes : (int64_t)1 << 40;
    int64_t used = sim_disk_used(&s->disk);
    *ret_free_bytes = used < total ? total - used : 0;
    *ret_total_bytes = total;
    return s->down && !s->paused ? ERR_IO : OK;
}

static err sim_allocate(void *ctx, struct store_file *file, int64_t size)
{
    int64_t there = file->node->cached.size;
    if (there >= size) {
        return OK;
    }
    struct iovec part = {mem_need_zero(1, (size_t)(size - there)), (size_t)(size - there)};
    err e = sim_write(ctx, file, &part, 1, there);
    mem_free(part.iov_base);
    return e;
}

static const struct store_ops sim_ops = {
    .open = sim_open,
    .close = sim_close,
    .read = sim_read,
    .read_cached = sim_read_cached,
    .write = sim_write,
    .allocate = sim_allocate,
    .start_sync = sim_start_sync,
    .sync = sim_sync,
    .truncate = sim_truncate,
    .size = sim_size,
    .fd = sim_fd,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .make_dir = sim_make_dir,
    .remove_dir = sim_remove_dir,
    .sync_dir = sim_sync_dir,
    .list = sim_list,
    .lock = sim_lock,
    .space = sim_space,
};

/* ---- the test's side */

struct sim_store *sim_store_create(uint64_t seed)
{
    struct sim_store *s = mem_need_zero(1, sizeof *s);
    s->store = (struct store){.ops = &sim_ops, .ctx = s};
    sim_disk_init(&s->disk);
    rng_init(&s->rng, seed);
    list_init(&s->files);
    s->max_open = -1;
    s->limit_bytes = -1;
    s->trace = getenv("SIM_TRACE") != NULL;
    sim_store_count_from_zero(s);
    return s;
}

void sim_store_seed(struct sim_store *s, uint64_t seed)
{
    rng_init(&s->rng, seed);
}

static void release_locks(struct sim_store *s)
{
    while (s->lock_count > 0) {
        mem_free(s->locks[--s->lock_count]);
    }
}

void sim_store_destroy(struct sim_store *s)
{
    if (!s) {
        return;
    }
    for (struct list *link; (link = list_pop(&s->files));) {
        mem_free(list_entry(link, struct store_file, link));
    }
    release_locks(s);
    sim_disk_finish(&s->disk);
    mem_free(s);
}

struct store *sim_store_store(struct sim_store *s)
{
    return &s->store;
}

uint64_t sim_store_operations(const struct sim_store *s)
{
    return s->count;
}

void sim_store_count_from_zero(struct sim_store *s)
{
    s->count = 0;
    s->fail_at = s->cut_at = NEVER;
    s->fault_op = SIM_OP_COUNT;
}

void sim_store_fail_at(struct sim_store *s, uint64_t operation, err e)
{
    check(e);
    s->fail_at = operation;
    s->fail_error = e;
}

void sim_store_cut_at(struct sim_store *s, uint64_t operation, enum sim_cut how)
{
    s->cut_at = operation;
    s->cut = how;
}

void sim_store_pause(struct sim_store *s, bool paused)
{
    s->paused = paused;
}

bool sim_store_is_down(const struct sim_store *s)
{
    return s->down;
}

enum sim_op sim_store_fault_op(const struct sim_store *s)
{
    return s->fault_op;
}

void sim_store_restart(struct sim_store *s, enum sim_cut how)
{
    how = s->was_cut ? s->cut : how;
    if (s->trace) {
        fprintf(stderr, "sim_store restart (%s)\n",
                how == SIM_KILL       ? "kill"
                : how == SIM_CUT_LOSE ? "lose"
                                      : "tear");
    }
    list_each(link, &s->files)
    {
        struct store_file *file = list_entry(link, struct store_file, link);
        file->node->opens -= !file->stale;
        file->stale = true;
    }
    s->open_count = 0;
    release_locks(s);
    if (how != SIM_KILL) {
        sim_disk_cut(&s->disk, how == SIM_CUT_TEAR ? &s->rng : NULL);
    }
    s->down = s->was_cut = s->cutting = false;
    s->fail_at = s->cut_at = NEVER;
}

void sim_store_set_limit(struct sim_store *s, int64_t bytes)
{
    s->limit_bytes = bytes;
}

void sim_store_set_max_open(struct sim_store *s, int files)
{
    s->max_open = files;
}

void sim_store_ignore_syncs(struct sim_store *s)
{
    s->ignores_syncs = true;
}

void sim_store_evict(struct sim_store *s)
{
    sim_disk_evict(&s->disk);
}

void sim_store_flip(struct sim_store *s, const char *path, int64_t position, uint8_t mask)
{
    struct sim_node *node = sim_disk_find(&s->disk, path);
    check(node && !node->is_dir && position < node->cached.size);
    node->cached.bytes[position] ^= mask;
    if (position < node->synced.size) {
        node->synced.bytes[position] ^= mask;
    }
}

int64_t sim_store_used(const struct sim_store *s)
{
    return sim_disk_used(&s->disk);
}

int sim_store_open_files(const struct sim_store *s)
{
    return s->open_count;
}

/* Invariants:
 *  1. cached is synced with all changes applied, in order; unless a failed sync has forgotten some
 * (sim_node_tear).
 *  2. A node lives until the disk goes: un-synced operations, open files and the medium's entries
 * may lead to it.
 */
#include "tests/kit/sim_disk.h"

#include "base/check.h"
#include "base/mem.h"

#include <string.h>

/* ---- images */

static void image_resize(struct sim_image *i, int64_t size)
{
    if ((size_t)size > i->room) {
        size_t room = (size_t)size + (size_t)size / 2 + SIM_SECTOR_SIZE;
        i->bytes = mem_need_resize(i->bytes, room);
        memset(i->bytes + i->room, 0, room - i->room);
        i->room = room;
    }
    if (size < i->size) {
        memset(i->bytes + size, 0, (size_t)(i->size - size));
    }
    i->size = size;
}

static void image_write(struct sim_image *i, int64_t position, const void *p, size_t size)
{
    if (size == 0) {
        return;
    }
    if (position + (int64_t)size > i->size) {
        image_resize(i, position + (int64_t)size);
    }
    memcpy(i->bytes + position, p, size);
}

static void image_copy(struct sim_image *to, const struct sim_image *from)
{
    image_resize(to, 0);
    image_write(to, 0, from->bytes, (size_t)from->size);
}

/* ---- entries of directories */

static size_t names_place(const struct sim_names *n,
                          const char *name) /* of it, or where it would be */
{
    size_t i = 0;
    while (i < n->count && strcmp(n->entries[i].name, name) < 0) {
        i++;
    }
    return i;
}

struct sim_node *sim_names_get(const struct sim_names *n, const char *name)
{
    size_t i = names_place(n, name);
    return i < n->count && strcmp(n->entries[i].name, name) == 0 ? n->entries[i].node : NULL;
}

static void names_remove_at(struct sim_names *n, size_t i)
{
    mem_free(n->entries[i].name);
    memmove(n->entries + i, n->entries + i + 1, (n->count - i - 1) * sizeof *n->entries);
    n->count--;
}

static void names_set(struct sim_names *n, const char *name, struct sim_node *node)
{
    size_t i = names_place(n, name);
    if (i < n->count && strcmp(n->entries[i].name, name) == 0) {
        n->entries[i].node = node;
        return;
    }
    n->entries = mem_need_resize(n->entries, (n->count + 1) * sizeof *n->entries);
    memmove(n->entries + i + 1, n->entries + i, (n->count - i) * sizeof *n->entries);
    n->entries[i] = (struct sim_entry){mem_need_dup(name, strlen(name) + 1), node};
    n->count++;
}

static void names_clear(struct sim_names *n)
{
    while (n->count > 0) {
        names_remove_at(n, n->count - 1);
    }
    mem_free(n->entries);
    n->entries = NULL;
}

/* ---- the disk */

static struct sim_node *node_create(struct sim_disk *d, bool is_dir)
{
    struct sim_node *node = mem_need_zero(1, sizeof *node);
    node->is_dir = is_dir;
    node->next = d->nodes;
    d->nodes = node;
    return node;
}

void sim_disk_init(struct sim_disk *d)
{
    *d = (struct sim_disk){0};
    d->root = node_create(d, true);
    d->root->links = 1;
}

static void forget_changes(struct sim_node *file)
{
    for (size_t i = 0; i < file->change_count; i++) {
        mem_free(file->changes[i].bytes);
    }
    mem_free(file->changes);
    file->changes = NULL;
    file->change_count = 0;
}

static void node_empty(struct sim_node *node)
{
    forget_changes(node);
    names_clear(&node->now);
    names_clear(&node->durable);
    mem_free(node->cached.bytes);
    mem_free(node->synced.bytes);
    mem_free(node->in_memory);
    node->cached = node->synced = (struct sim_image){0};
    node->in_memory = NULL;
    node->page_count = 0;
}

static void op_finish(struct sim_dir_op *op)
{
    mem_free(op->from_name);
    mem_free(op->to_name);
}

void sim_disk_finish(struct sim_disk *d)
{
    for (struct sim_node *node = d->nodes, *next; node; node = next) {
        next = node->next;
        node_empty(node);
        mem_free(node);
    }
    for (size_t i = 0; i < d->op_count; i++) {
        op_finish(&d->ops[i]);
    }
    mem_free(d->ops);
    *d = (struct sim_disk){0};
}

struct sim_node *sim_disk_parent(const struct sim_disk *d, const char *path, const char **ret_name)
{
    struct sim_node *dir = d->root;
    for (const char *slash; (slash = strchr(path, '/')); path = slash + 1) {
        char name[256];
        size_t size = (size_t)(slash - path);
        check(size > 0 && size < sizeof name);
        memcpy(name, path, size);
        name[size] = 0;
        dir = sim_names_get(&dir->now, name);
        if (!dir || !dir->is_dir) {
            return NULL;
        }
    }
    *ret_name = path;
    return dir;
}

struct sim_node *sim_disk_find(const struct sim_disk *d, const char *path)
{
    const char *name;
    struct sim_node *dir = sim_disk_parent(d, path, &name);
    return dir && *name ? sim_names_get(&dir->now, name) : dir;
}

static void add_op(struct sim_disk *d, struct sim_node *from, const char *from_name,
                   struct sim_node *to, const char *to_name, struct sim_node *node)
{
    d->ops = mem_need_resize(d->ops, (d->op_count + 1) * sizeof *d->ops);
    d->ops[d->op_count++] = (struct sim_dir_op){
        .from = from,
        .from_name = from ? mem_need_dup(from_name, strlen(from_name) + 1) : NULL,
        .to = to,
        .to_name = to ? mem_need_dup(to_name, strlen(to_name) + 1) : NULL,
        .node = node,
    };
}

struct sim_node *sim_disk_create(struct sim_disk *d, struct sim_node *dir, const char *name,
                                 bool is_dir)
{
    struct sim_node *node = node_create(d, is_dir);
    names_set(&dir->now, name, node);
    node->links = 1;
    add_op(d, NULL, NULL, dir, name, node);
    return node;
}

void sim_disk_remove(struct sim_disk *d, struct sim_node *dir, const char *name)
{
    struct sim_node *node = sim_names_get(&dir->now, name);
    add_op(d, dir, name, NULL, NULL, node);
    names_remove_at(&dir->now, names_place(&dir->now, name));
    node->links--;
}

void sim_disk_rename(struct sim_disk *d, struct sim_node *from, const char *from_name,
                     struct sim_node *to, const char *to_name)
{
    struct sim_node *node = sim_names_get(&from->now, from_name);
    struct sim_node *replaced = sim_names_get(&to->now, to_name);
    if (replaced == node) {
        return;
    }
    add_op(d, from, from_name, to, to_name, node);
    names_remove_at(&from->now, names_place(&from->now, from_name));
    names_set(&to->now, to_name, node);
    if (replaced) {
        replaced->links--;
    }
}

/* Makes `op` durable. Those before it may not be: the node is taken from wherever the medium has
 * it. */
static void apply_op(struct sim_disk *d, const struct sim_dir_op *op)
{
    for (struct sim_node *dir = d->nodes; dir; dir = dir->next) {
        for (size_t i = dir->durable.count; i-- > 0;) {
            if (dir->durable.entries[i].node == op->node) {
                names_remove_at(&dir->durable, i);
            }
        }
    }
    if (op->to) {
        names_set(&op->to->durable, op->to_name, op->node);
    }
}

void sim_disk_sync_dir(struct sim_disk *d, struct sim_node *dir)
{
    size_t kept = 0;
    for (size_t i = 0; i < d->op_count; i++) {
        if (d->ops[i].from == dir || d->ops[i].to == dir) {
            apply_op(d, &d->ops[i]);
            op_finish(&d->ops[i]);
        } else {
            d->ops[kept++] = d->ops[i];
        }
    }
    d->op_count = kept;
}

/* ---- the bytes of files */

static struct sim_change *add_change(struct sim_node *file)
{
    file->changes =
        mem_need_resize(file->changes, (file->change_count + 1) * sizeof *file->changes);
    return &file->changes[file->change_count++];
}

void sim_node_write(struct sim_node *file, int64_t position, const void *p, size_t size)
{
    *add_change(file) =
        (struct sim_change){.position = position, .size = size, .bytes = mem_need_dup(p, size)};
    image_write(&file->cached, position, p, size);
    sim_node_set_in_memory(file, position, size);
}

void sim_node_truncate(struct sim_node *file, int64_t size)
{
    *add_change(file) = (struct sim_change){.truncates = true, .position = size};
    image_resize(&file->cached, size);
}

void sim_node_sync(struct sim_node *file)
{
    for (size_t i = 0; i < file->change_count; i++) {
        const struct sim_change *c = &file->changes[i];
        if (c->truncates) {
            image_resize(&file->synced, c->position);
        } else {
            image_write(&file->synced, c->position, c->bytes, c->size);
        }
    }
    forget_changes(file);
}

/* How many of n changes happened: none, all, or some, each as likely. */
static size_t draw(struct rng *rng, size_t n)
{
    switch (rng_below(rng, 3)) {
    case 0: return 0;
    case 1: return n;
    default: return (size_t)rng_below(rng, n + 1);
    }
}

/* The part of sector `sector` in [from, to): false when there is none. */
static bool overlap(int64_t sector, int64_t from, int64_t to, int64_t *ret_from, int64_t *ret_to)
{
    int64_t begin = sector * SIM_SECTOR_SIZE, end = begin + SIM_SECTOR_SIZE;
    *ret_from = from > begin ? from : begin;
    *ret_to = to < end ? to : end;
    return *ret_from < *ret_to;
}

/* The sector as it is on the medium after the first `count` changes. `image` is large enough. */
static void tear_sector(struct sim_image *image, int64_t sector, const struct sim_change *changes,
                        size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct sim_change *c = &changes[i];
        int64_t from, to;
        int64_t end = c->truncates ? INT64_MAX : c->position + (int64_t)c->size;
        if (!overlap(sector, c->position, end, &from, &to)) {
            continue;
        }
        if (c->truncates) {
            memset(image->bytes + from, 0, (size_t)(to - from));
        } else {
            memcpy(image->bytes + from, c->bytes + (from - c->position), (size_t)(to - from));
        }
    }
}

void sim_node_tear(struct sim_node *file, struct rng *rng)
{
    size_t n = file->change_count;
    if (n == 0) {
        return;
    }
    int64_t size = file->synced.size, largest = size, chosen = size;
    size_t size_after = draw(rng, n); /* the size is that after so many changes */
    for (size_t i = 0; i < n; i++) {
        const struct sim_change *c = &file->changes[i];
        int64_t end = c->position + (int64_t)c->size;
        size = c->truncates || (c->size > 0 && end > size) ? end : size;
        largest = size > largest ? size : largest;
        chosen = i < size_after ? size : chosen;
    }
    bool torn = rng_below(rng, 3) > 0; /* else all sectors are of the same moment */
    int64_t sectors = (largest + SIM_SECTOR_SIZE - 1) / SIM_SECTOR_SIZE;
    image_resize(&file->synced, sectors * SIM_SECTOR_SIZE);
    for (int64_t i = 0; i < sectors; i++) {
        tear_sector(&file->synced, i, file->changes, torn ? draw(rng, n) : size_after);
    }
    image_resize(&file->synced, chosen);
    forget_changes(file);
}

/* ---- what is in memory */

bool sim_node_in_memory(const struct sim_node *file, int64_t position, size_t size)
{
    int64_t end = position + (int64_t)size;
    end = end < file->cached.size ? end : file->cached.size;
    for (int64_t p = position / SIM_PAGE_SIZE; p * SIM_PAGE_SIZE < end; p++) {
        if ((size_t)p >= file->page_count || !file->in_memory[p]) {
            return false;
        }
    }
    return true;
}

void sim_node_set_in_memory(struct sim_node *file, int64_t position, size_t size)
{
    if (size == 0) {
        return;
    }
    size_t first = (size_t)position / SIM_PAGE_SIZE;
    size_t end = ((size_t)position + size - 1) / SIM_PAGE_SIZE + 1;
    if (end > file->page_count) {
        file->in_memory = mem_need_resize(file->in_memory, end);
        memset(file->in_memory + file->page_count, 0, end - file->page_count);
        file->page_count = end;
    }
    memset(file->in_memory + first, 1, end - first);
}

void sim_disk_evict(struct sim_disk *d)
{
    for (struct sim_node *node = d->nodes; node; node = node->next) {
        if (node->page_count > 0) {
            memset(node->in_memory, 0, node->page_count);
        }
    }
}

int64_t sim_disk_used(const struct sim_disk *d)
{
    int64_t used = 0;
    for (const struct sim_node *node = d->nodes; node; node = node->next) {
        used += node->links > 0 || node->opens > 0 ? node->cached.size : 0;
    }
    return used;
}

/* ---- the power goes */

/* The whole tree under `dir` is as on the medium. */
static void reload(struct sim_node *dir)
{
    for (size_t i = 0; i < dir->durable.count; i++) {
        const struct sim_entry *e = &dir->durable.entries[i];
        names_set(&dir->now, e->name, e->node);
        e->node->links++;
        if (e->node->is_dir) {
            reload(e->node);
        }
    }
}

void sim_disk_cut(struct sim_disk *d, struct rng *rng)
{
    uint64_t mode = rng ? rng_below(rng, 4) : 0; /* none, all, the first few, any */
    size_t few = rng ? (size_t)rng_below(rng, d->op_count + 1) : 0;
    for (size_t i = 0; i < d->op_count; i++) {
        if (mode == 1 || (mode == 2 && i < few) || (mode == 3 && rng_below(rng, 2))) {
            apply_op(d, &d->ops[i]);
        }
        op_finish(&d->ops[i]);
    }
    d->op_count = 0;
    for (struct sim_node *node = d->nodes; node; node = node->next) {
        names_clear(&node->now);
        node->links = node == d->root;
        if (rng) {
            sim_node_tear(node, rng);
        }
        forget_changes(node);
        image_copy(&node->cached, &node->synced);
    }
    reload(d->root);
    for (struct sim_node *node = d->nodes; node; node = node->next) {
        if (node->links == 0) {
            node_empty(node); /* nothing leads to it any more */
        }
    }
    sim_disk_evict(d);
}

#include "client/view/memory.h"

#include "base/mem.h"
#include "base/rand.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int view_fail(struct rv_error *ret_error, int code, const char *format, ...)
{
    va_list args;
    bool passes = code == RV_E_MEMORY || code == RV_E_TIMED_OUT;
    struct rv_error e = {.code = code, .flags = passes ? RV_RETRIABLE : 0};
    va_start(args, format);
    vsnprintf(e.text, sizeof e.text, format, args);
    va_end(args);
    if (ret_error) {
        *ret_error = e;
    }
    return code;
}

static void memory_destroy(struct view_memory *m)
{
    keys_finish(&m->table);
    mem_free(m->state.positions);
    mem_free(m->topic);
    mem_free(m->path);
    mem_free(m);
}

int memory_create(const char *topic, const char *path, uint64_t limit_bytes,
                  struct view_memory **ret_memory, struct rv_error *ret_error)
{
    uint64_t seed;
    bool has_file = path && path[0];
    struct view_memory *m = mem_zero(1, sizeof *m);
    if (m) {
        rand_system(&seed, sizeof seed);
        keys_init(&m->table, seed, limit_bytes);
        m->topic = mem_dup(topic, strlen(topic) + 1);
        m->path = has_file ? mem_dup(path, strlen(path) + 1) : NULL;
    }
    if (!m || !m->topic || (has_file && !m->path)) {
        if (m) {
            memory_destroy(m);
        }
        return view_fail(ret_error, RV_E_MEMORY, "out of memory");
    }
    *ret_memory = m;
    return RV_OK;
}

/* ---- as a storage ---- */

static int memory_load(void *ctx, const char *topic, struct rv_view_state *ret_state,
                       struct rv_error *e)
{
    struct view_memory *m = ctx;
    (void)topic;
    int code = m->path ? snapshot_load(m, e) : RV_E_ABSENT;
    if (code == RV_OK || code == RV_E_ABSENT) {
        *ret_state = m->state;
        return RV_OK;
    }
    return code;
}

/* What was put before an error stays: putting it again changes nothing. */
static int memory_begin(void *ctx, struct rv_error *e)
{
    (void)ctx;
    (void)e;
    return RV_OK;
}

static void memory_rollback(void *ctx)
{
    (void)ctx;
}

static int memory_get(void *ctx, struct rv_bytes key, struct rv_view_entry *ret_entry,
                      int64_t *ret_generation, struct rv_error *e)
{
    const struct view_memory *m = ctx;
    const struct block *b = keys_find(&m->table, key);
    (void)e;
    *ret_generation = b ? m->table.generation - block_is_old(&m->table, b) : 0;
    if (b) {
        *ret_entry = block_entry(b);
    }
    return RV_OK;
}

static int memory_put(void *ctx, const struct rv_view_entry *entry, int64_t generation,
                      struct rv_error *e)
{
    struct view_memory *m = ctx;
    err code = keys_put(&m->table, entry, generation != m->table.generation);
    return code == OK          ? RV_OK
           : code == ERR_LIMIT ? view_fail(e, RV_E_FULL,
                                           "the view of topic %s is full: %llu bytes "
                                           "are in use, view.max.bytes is the limit",
                                           m->topic, (unsigned long long)m->table.bytes)
                               : view_fail(e, RV_E_MEMORY, "out of memory");
}

static int memory_remove(void *ctx, struct rv_bytes key, struct rv_error *e)
{
    struct view_memory *m = ctx;
    (void)e;
    keys_remove(&m->table, key);
    return RV_OK;
}

static int memory_sweep(void *ctx, int64_t generation,
                        void (*gone)(void *gone_ctx, const struct rv_view_entry *entry),
                        void *gone_ctx, struct rv_error *e)
{
    struct view_memory *m = ctx;
    uint64_t cursor = 0;
    (void)generation;
    (void)e;
    for (const struct block *b; (b = keys_next(&m->table, &cursor));) {
        struct rv_view_entry entry = block_entry(b);
        if (entry.value.ptr && !block_is_old(&m->table, b)) {
            continue;
        }
        if (entry.value.ptr) {
            gone(gone_ctx, &entry);
        }
        keys_remove(&m->table, entry.key);
        cursor--;
    }
    return RV_OK;
}

static int memory_save(void *ctx, const char *topic, const struct rv_view_state *state,
                       struct rv_error *e)
{
    struct view_memory *m = ctx;
    size_t size = state->partition_count * sizeof *state->positions;
    struct rv_view_position *positions = mem_resize(m->state.positions, size);
    (void)topic;
    if (!positions) {
        return view_fail(e, RV_E_MEMORY, "out of memory");
    }
    memcpy(positions, state->positions, size);
    m->state = *state;
    m->state.positions = positions;
    if (state->generation != m->table.generation) {
        keys_begin(&m->table, state->generation);
    }
    return RV_OK;
}

static int memory_next(void *ctx, int64_t *cursor, struct rv_view_entry *ret_entry,
                       struct rv_error *e)
{
    const struct view_memory *m = ctx;
    uint64_t at = (uint64_t)*cursor;
    const struct block *b;
    (void)e;
    do {
        b = keys_next(&m->table, &at);
    } while (b && b->value_size == KEYS_NULL);
    *cursor = (int64_t)at;
    *ret_entry = b ? block_entry(b) : (struct rv_view_entry){0};
    return RV_OK;
}

static int memory_count(void *ctx, int64_t *ret_count, struct rv_error *e)
{
    const struct view_memory *m = ctx;
    (void)e;
    *ret_count = (int64_t)(m->table.used - m->table.nulls);
    return RV_OK;
}

static void memory_close(void *ctx)
{
    memory_destroy(ctx);
}

struct rv_view_storage memory_storage(struct view_memory *m)
{
    return (struct rv_view_storage){.ctx = m,
                                    .load = memory_load,
                                    .begin = memory_begin,
                                    .commit = memory_begin,
                                    .rollback = memory_rollback,
                                    .get = memory_get,
                                    .put = memory_put,
                                    .remove = memory_remove,
                                    .sweep = memory_sweep,
                                    .save = memory_save,
                                    .next = memory_next,
                                    .count = memory_count,
                                    .close = memory_close};
}

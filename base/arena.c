#include "base/arena.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum {
    ALIGN = 16,
    FIRST_CHUNK_SIZE = 2048,
    MAX_CHUNK_SIZE =
        1 << 20, /* growth stops doubling here; larger single wishes get a chunk of their own */
};

struct arena_chunk {
    struct arena_chunk *older; /* NULL for the first */
    size_t size;               /* bytes, header included */
    _Alignas(ALIGN) char data[];
};

void arena_init(struct arena *a, size_t limit_bytes)
{
    *a = (struct arena){.limit_bytes = limit_bytes};
}

void arena_finish(struct arena *a)
{
    struct arena_chunk *c = a->chunks;
    while (c) {
        struct arena_chunk *older = c->older;
        mem_free(c);
        c = older;
    }
    *a = (struct arena){.limit_bytes = a->limit_bytes};
}

void arena_reset(struct arena *a)
{
    struct arena_chunk *c = a->chunks;
    if (!c) {
        a->error = OK;
        return;
    }
    while (c->older) {
        struct arena_chunk *older = c->older;
        mem_free(c);
        c = older;
    }
    a->chunks = c;
    a->used_bytes = c->size;
    a->next = c->data;
    a->end = (char *)c + c->size;
    a->error = OK;
}

static bool grow(struct arena *a, size_t size)
{
    size_t wish = a->chunks ? a->chunks->size * 2 : FIRST_CHUNK_SIZE;
    if (wish > MAX_CHUNK_SIZE) {
        wish = MAX_CHUNK_SIZE;
    }
    if (size > SIZE_MAX - sizeof(struct arena_chunk)) {
        a->error = ERR_LIMIT;
        return false;
    }
    size_t least = sizeof(struct arena_chunk) + size;
    size_t left = a->limit_bytes - a->used_bytes;
    if (wish < least) {
        wish = least;
    }
    if (wish > left) {
        wish = least;
    }
    if (wish > left) {
        a->error = ERR_LIMIT;
        return false;
    }
    struct arena_chunk *c = mem_alloc(wish);
    if (!c) {
        a->error = ERR_MEMORY;
        return false;
    }
    c->older = a->chunks;
    c->size = wish;
    a->chunks = c;
    a->used_bytes += wish;
    a->next = c->data;
    a->end = (char *)c + wish;
    return true;
}

void *arena_alloc(struct arena *a, size_t size)
{
    if (size > SIZE_MAX - ALIGN) {
        a->error = ERR_LIMIT;
        return NULL;
    }
    size = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if ((size_t)(a->end - a->next) < size || !a->next) {
        if (!grow(a, size)) {
            return NULL;
        }
    }
    void *p = a->next;
    a->next += size;
    return p;
}

void *arena_zero(struct arena *a, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) {
        a->error = ERR_LIMIT;
        return NULL;
    }
    void *p = arena_alloc(a, total);
    if (p) {
        memset(p, 0, total);
    }
    return p;
}

void *arena_dup(struct arena *a, const void *p, size_t size)
{
    void *copy = arena_alloc(a, size);
    if (copy && size) {
        memcpy(copy, p, size);
    }
    return copy;
}

char *arena_printf(struct arena *a, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = n < 0 ? NULL : arena_alloc(a, (size_t)n + 1);
    if (text) {
        vsnprintf(text, (size_t)n + 1, format, again);
    }
    va_end(again);
    return text;
}

err arena_error(const struct arena *a)
{
    return a->error == OK ? ERR_MEMORY : a->error;
}

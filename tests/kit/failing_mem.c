#include "tests/kit/failing_mem.h"

#include "base/check.h"
#include "base/mem.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static _Atomic long fail_at = -1;
static _Atomic long asked;
static _Atomic long alive;

void mem_fail_at(long index)
{
    fail_at = index;
    asked = 0;
}

long mem_asked(void)
{
    return asked;
}

long mem_alive(void)
{
    return alive;
}

static bool fails(void)
{
    return asked++ == fail_at;
}

static void *counted(void *p)
{
    alive += p != NULL;
    return p;
}

void *mem_alloc(size_t size)
{
    return fails() ? NULL : counted(malloc(size ? size : 1));
}

void *mem_zero(size_t count, size_t size)
{
    return fails() ? NULL : counted(calloc(count ? count : 1, size ? size : 1));
}

void *mem_resize(void *p, size_t size)
{
    if (fails()) {
        return NULL;
    }
    void *moved = realloc(p, size ? size : 1);
    alive += !p && moved;
    return moved;
}

void *mem_dup(const void *p, size_t size)
{
    void *copy = mem_alloc(size);
    if (copy && size) {
        memcpy(copy, p, size);
    }
    return copy;
}

void mem_free(void *p)
{
    alive -= p != NULL;
    free(p);
}

/* What must be there does not fail here: the sweep is for code that returns errors. */
static void *needed(void *p)
{
    check(p);
    return counted(p);
}

void *mem_need(size_t size)
{
    return needed(malloc(size ? size : 1));
}

void *mem_need_zero(size_t count, size_t size)
{
    return needed(calloc(count ? count : 1, size ? size : 1));
}

void *mem_need_resize(void *p, size_t size)
{
    void *moved = realloc(p, size ? size : 1);
    check(moved);
    alive += !p;
    return moved;
}

void *mem_need_dup(const void *p, size_t size)
{
    void *copy = mem_need(size);
    if (size) {
        memcpy(copy, p, size);
    }
    return copy;
}

#include "base/mem.h"

#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *mem_alloc(size_t size)
{
    return malloc(size ? size : 1);
}

void *mem_zero(size_t count, size_t size)
{
    return calloc(count ? count : 1, size ? size : 1);
}

void *mem_resize(void *p, size_t size)
{
    return realloc(p, size ? size : 1);
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
    free(p);
}

static void *needed(void *p, size_t size)
{
    if (p) {
        return p;
    }
    char text[128];
    int n = snprintf(text, sizeof text, "level=fatal event=out_of_memory size=%zu\n", size);
    ssize_t written = write(STDERR_FILENO, text, (size_t)n);
    (void)written;
    _exit(EXIT_MEMORY);
}

void *mem_need(size_t size)
{
    return needed(mem_alloc(size), size);
}

void *mem_need_zero(size_t count, size_t size)
{
    return needed(mem_zero(count, size), size);
}

void *mem_need_resize(void *p, size_t size)
{
    return needed(mem_resize(p, size), size);
}

void *mem_need_dup(const void *p, size_t size)
{
    return needed(mem_dup(p, size), size);
}

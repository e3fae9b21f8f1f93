/* mem: the only place that calls malloc.
 *
 * protocol/ and client/ use mem_alloc and friends and return ERR_MEMORY when they give NULL; tests
 * replace this file at link time (tests/kit/failing_mem.c) and fail every allocation in turn. The
 * broker refuses by its limits before it takes memory; what it then asks for with mem_need must be
 * there, or the process ends with EXIT_MEMORY.
 */
#pragma once

#include <stddef.h>

void *mem_alloc(size_t size); /* NULL when there is none; size 0 gives a valid pointer */
void *mem_zero(size_t count, size_t size); /* zeroed; NULL also when count * size overflows */
void *mem_resize(void *p, size_t size);    /* like realloc; p stays valid when NULL comes back */
void *mem_dup(const void *p, size_t size); /* a copy; NULL when there is no memory */
void mem_free(void *p);                    /* takes NULL */

void *mem_need(size_t size);                    /* never NULL */
void *mem_need_zero(size_t count, size_t size); /* never NULL, zeroed */
void *mem_need_resize(void *p, size_t size);    /* never NULL */
void *mem_need_dup(const void *p, size_t size); /* never NULL */

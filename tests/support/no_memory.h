/*
 * no_memory.h - memory that fails on demand.
 *
 * A test that includes this has this line in its first comment:
 *
 * wrap: malloc calloc realloc
 *
 * In a test of a host, Lua's memory fails as well: no_memory_alloc() is for
 * lua_newstate().
 */
#ifndef NO_MEMORY_H
#define NO_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

extern bool no_memory;       /* every allocation fails */
extern int good_mallocs;     /* allocations before one fails; -1: none fails */
extern bool no_memory_stays; /* after the one that fails, all fail */

/* A lua_Alloc. `ctx` is a size_t that counts the bytes in use. */
void *no_memory_alloc(void *ctx, void *block, size_t old_size, size_t size);

#endif

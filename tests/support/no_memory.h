/*
 * no_memory.h - memory that fails on demand.
 *
 * A test that includes this has this line in its first comment:
 *
 * wrap: malloc calloc realloc
 */
#ifndef NO_MEMORY_H
#define NO_MEMORY_H

#include <stdbool.h>

extern bool no_memory;   /* every allocation fails */
extern int good_mallocs; /* the next ones succeed, then one fails; -1: all do */

#endif

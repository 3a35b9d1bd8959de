#include "no_memory.h"

#include <stdlib.h>

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);

bool no_memory;
int good_mallocs = -1;
bool no_memory_stays;

static bool
fails(void)
{
	bool comes = good_mallocs >= 0 && good_mallocs-- == 0;

	no_memory = no_memory || (comes && no_memory_stays);
	return no_memory || comes;
}

void *
no_memory_alloc(void *ctx, void *block, size_t old_size, size_t size)
{
	size_t *used = ctx;
	void *p;

	if (block == NULL)
		old_size = 0; /* for a new object, Lua passes its type here */
	if (size == 0) {
		free(block);
		*used -= old_size;
		return NULL;
	}
	if (size > old_size && fails())
		return NULL;
	p = __real_realloc(block, size);
	if (p != NULL)
		*used += size - old_size;
	return p;
}

void *
__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *
__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

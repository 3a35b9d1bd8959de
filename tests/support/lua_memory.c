#include "lua_memory.h"

#include <stdlib.h>

static bool
fails(struct lua_memory *m, size_t size)
{
	bool too_big = m->most != 0 && size > m->most;

	if (m->left != 0 && !too_big) {
		if (m->left > 0)
			m->left--;
		return false;
	}
	if (m->left == 0 && m->once)
		m->left = -1;
	m->nfailed++;
	return true;
}

void *
lua_memory_allocate(void *ud, void *p, size_t old_size, size_t size)
{
	struct lua_memory *m = ud;
	void *q;

	if (p == NULL)
		old_size = 0; /* for a new object, Lua passes its type here */
	if (size == 0) {
		free(p);
		m->used -= old_size;
		return NULL;
	}
	if (size > old_size && fails(m, size))
		return NULL;
	q = realloc(p, size);
	if (q == NULL)
		return NULL;
	m->used += size - old_size;
	if (m->used > m->peak)
		m->peak = m->used;
	return q;
}

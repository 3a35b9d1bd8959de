/* lua_memory.h - the memory of a Lua state: counted, and failing on demand. */
#ifndef LUA_MEMORY_H
#define LUA_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

struct lua_memory {
	size_t used, peak; /* bytes in use now; their maximum so far */
	size_t most; /* bytes of the largest block that succeeds; 0: no limit */
	long left;   /* allocations until one fails; negative: none fails */
	bool once;   /* only one fails: Lua's second try succeeds */
	unsigned long nfailed;
};

/* For lua_newstate(); `ud` is a struct lua_memory. */
void *lua_memory_allocate(void *ud, void *p, size_t old_size, size_t size);

#endif

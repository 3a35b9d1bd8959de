#include "api/use.h"

#include <pthread.h>
#include <stddef.h>

enum { PLACE_BITS = 8 };

/*
 * Each place has the hash of a state and the number of its thread; 0: none. If
 * two states share a place, only the first one in use is watched.
 */
static _Atomic uint64_t places[1 << PLACE_BITS];

static uint64_t
hash(uint64_t n)
{
	n *= UINT64_C(0x9e3779b97f4a7c15);
	return n ^ n >> 29;
}

/*
 * A hash of the address of the state's registry. Nothing else of a state may be
 * read while another thread uses it.
 */
static uint64_t
hash_of_state(lua_State *L)
{
	return hash((uintptr_t)lua_topointer(L, LUA_REGISTRYINDEX));
}

static uint32_t
this_thread(void)
{
	return (uint32_t)((uintptr_t)pthread_self() >> 4) | 1;
}

bool
fzlua_begin_use(lua_State *L, struct fzlua_use *use)
{
	uint64_t state = hash_of_state(L), found = 0;
	uint64_t word = state << 32 | this_thread();
	_Atomic uint64_t *place = &places[state >> (64 - PLACE_BITS)];

	use->place = NULL;
	if (atomic_compare_exchange_strong_explicit(place, &found, word,
		memory_order_acquire, memory_order_relaxed)) {
		use->place = place;
		return true;
	}
	return found == word || found >> 32 != word >> 32;
}

int
fzlua_end_use(const struct fzlua_use *use, int status)
{
	if (use->place != NULL)
		atomic_store_explicit(use->place, 0, memory_order_release);
	return status;
}

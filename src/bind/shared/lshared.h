/* lshared.h - what the bindings of shared objects keep for one Lua state. */
#ifndef FZ_LSHARED_H
#define FZ_LSHARED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lua.h>

#include "bind/shared/lhandle.h"
#include "bind/shared/lheld.h"
#include "os/spin.h"
#include "shared/pipe.h"
#include "shared/queue.h"

/* Buffers of lchannel. */
struct fz_lshared_scratch {
	struct fz_lshared_buffer {
		unsigned char bytes[FZ_QUEUE_INLINE];
		bool busy;
	} put, take; /* of the message that is put, of the item that is taken */
};

struct fz_lshared {
	struct fz_membership *membership; /* of the engine */
	struct fz_lhandle_class classes[FZ_LHANDLE_NTYPES];
	struct fz_pipes pipes;
	struct fz_spin spin;                /* of all waits */
	struct fz_lshared_scratch *scratch; /* NULL: not used yet */
	struct fz_lhandle_stored *storing;  /* innermost recorder; NULL: none */
	struct fz_lheld held;               /* locks of tasks */
	bool has_sent; /* a handle, as a value; or an ancestor, before the fork
			*/
	uint64_t latest; /* upper bound of `forks` of all dropped objects */
	size_t enough;   /* bytes of shared memory after which to collect */
};

/*
 * That of L. If the value at index 1 is a handle, as in each method, there is
 * no look-up. [-0, +0, -]
 */
struct fz_lshared *fz_lshared(lua_State *L);

/* Push it as the userdata that it is. [-0, +1, -] */
void fz_lshared_push(lua_State *L);

/* The member that L is in the shared heap; 0: it has not joined. */
static inline uint32_t
fz_lshared_member(const struct fz_lshared *shared)
{
	return fz_heap_self(shared->membership);
}

/* The same; joins. Raises if it cannot. [-0, +0, e] */
uint32_t fz_lshared_join_now(lua_State *L, const struct fz_lshared *shared);
static inline uint32_t
fz_lshared_join(lua_State *L, const struct fz_lshared *shared)
{
	uint32_t self = fz_lshared_member(shared);

	return self != 0 ? self : fz_lshared_join_now(L, shared);
}

/* The buffers, allocated at first use. [-0, +0, m] */
struct fz_lshared_scratch *fz_lshared_new_scratch(
    lua_State *L, struct fz_lshared *shared);
static inline struct fz_lshared_scratch *
fz_lshared_scratch(lua_State *L, struct fz_lshared *shared)
{
	return shared->scratch != NULL ? shared->scratch
				       : fz_lshared_new_scratch(L, shared);
}

#endif

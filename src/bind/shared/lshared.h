/* lshared.h - the state of the bindings of shared objects in one Lua state. */
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

/* Scratch: two buffers for the messages of lchannel. */
struct fz_lshared_scratch {
	struct fz_lshared_buffer {
		unsigned char bytes[FZ_QUEUE_INLINE];
		bool busy;
		/* for a message to put; for a taken item */
	} put, take;
};

struct fz_lshared {
	struct fz_membership *membership; /* the membership of the engine */
	struct fz_lhandle_class classes[FZ_LHANDLE_NTYPES];
	struct fz_pipes pipes;
	/* spins of all waits of this state */
	struct fz_spin spin;
	/* scratch for messages; NULL until the first use */
	struct fz_lshared_scratch *scratch;
	/* handles of the innermost message that is being encoded; NULL: none */
	struct fz_lhandle_stored *storing;
	struct fz_lheld held; /* notes about the locks that tasks hold */
	/*
	 * whether this process, or an ancestor before the fork, has sent a
	 * handle as a value
	 */
	bool has_sent;
	uint64_t latest; /* upper bound of the `forks` of all dropped objects */
	/*
	 * twice the number of bytes of shared memory that were in use after the
	 * last collection; 0: no collection yet
	 */
	size_t enough;
};

/*
 * The shared state of L. If the value at index 1 is a handle, as in each
 * method, the state is found without a search in the registry. [-0, +0, -]
 */
struct fz_lshared *fz_lshared(lua_State *L);

/* Push the userdata that contains the shared state. [-0, +1, -] */
void fz_lshared_push(lua_State *L);

/* The number of L as a member of the shared heap, or 0 if L is not a member. */
static inline uint32_t
fz_lshared_member(const struct fz_lshared *shared)
{
	return fz_heap_self(shared->membership);
}

/*
 * The number of L as a member of the shared heap. Joins the heap if L is not a
 * member yet, and raises an error if that fails. [-0, +0, e]
 */
uint32_t fz_lshared_join_now(lua_State *L, const struct fz_lshared *shared);
static inline uint32_t
fz_lshared_join(lua_State *L, const struct fz_lshared *shared)
{
	uint32_t self = fz_lshared_member(shared);

	return self != 0 ? self : fz_lshared_join_now(L, shared);
}

/* The scratch, which is allocated at the first use. [-0, +0, m] */
struct fz_lshared_scratch *fz_lshared_new_scratch(
    lua_State *L, struct fz_lshared *shared);
static inline struct fz_lshared_scratch *
fz_lshared_scratch(lua_State *L, struct fz_lshared *shared)
{
	return shared->scratch != NULL ? shared->scratch
				       : fz_lshared_new_scratch(L, shared);
}

#endif

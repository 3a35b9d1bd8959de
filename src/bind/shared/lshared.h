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

/* Buffers of lchannel. */
struct fz_lshared_scratch {
	struct fz_lshared_buffer {
		unsigned char bytes[FZ_QUEUE_INLINE];
		bool busy;
		/* `put`: for the message to put; `take`: for the taken item */
	} put, take;
};

struct fz_lshared {
	struct fz_membership *membership; /* the membership of the engine */
	struct fz_lhandle_class classes[FZ_LHANDLE_NTYPES];
	struct fz_pipes pipes;
	/* shared by all waits of this state */
	struct fz_spin spin;
	/* buffer for one message; NULL: not used yet */
	struct fz_lshared_scratch *scratch;
	/* innermost message under construction; NULL: none */
	struct fz_lhandle_stored *storing;
	struct fz_lheld held; /* locks that tasks hold */
	/*
	 * this process, or an ancestor before the fork, has sent a handle as a
	 * value
	 */
	bool has_sent;
	uint64_t latest; /* upper bound of `forks` of all dropped objects */
	/*
	 * twice the bytes of shared memory that the last collection left in
	 * use; 0: no collection yet
	 */
	size_t enough;
};

/*
 * The fz_lshared of L. If the value at index 1 is a handle, as in each method,
 * no look-up is needed. [-0, +0, -]
 */
struct fz_lshared *fz_lshared(lua_State *L);

/* Push the userdata of fz_lshared(). [-0, +1, -] */
void fz_lshared_push(lua_State *L);

/* The number of L as a member of the shared heap; 0 if it has not joined. */
static inline uint32_t
fz_lshared_member(const struct fz_lshared *shared)
{
	return fz_heap_self(shared->membership);
}

/*
 * The number of L as a member. If L is no member yet, joins the shared heap.
 * Raises an error if that fails. [-0, +0, e]
 */
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

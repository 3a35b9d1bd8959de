/*
 * random.h - the state of math.random, which is set for each call.
 *
 * Lua keeps the state in an upvalue of math.random. If another library has
 * replaced math.random, the state is not found and is not set. In the command
 * it is set only when a call asks for its first number, because most calls ask
 * for none.
 */
#ifndef FZ_RANDOM_H
#define FZ_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lua.h>

#include "base/seed.h"

enum { FZ_RANDOM_WORDS = 4 };

/* A seed to set before the next number. */
struct fz_random_pending {
	bool set; /* the seed must be set */
	uint64_t seed;
};

struct fz_random {
	uint64_t *state; /* NULL: not found */
	struct fz_random_pending
	    *pending; /* NULL: math.random is not wrapped in this state */
	uint64_t saved[FZ_RANDOM_WORDS];
	struct fz_random_pending saved_pending;
};

/*
 * Make math.random and math.randomseed set a pending seed first. Call it before
 * other code keeps these functions. [-0, +0, e]
 */
void fz_random_wrap(lua_State *L);

/*
 * Find the state; its address is valid while the Lua state lives. [-0, +0, m]
 */
void fz_random_find(lua_State *L, struct fz_random *random);

/*
 * Make the next numbers depend on `seed` alone. Lua's generator, xoshiro256**,
 * computes its first number from state[1], the second from words 0 to 2, the
 * third from words 0, 1 and 3, so that similar words give similar numbers.
 */
static inline void
fz_random_set(uint64_t *state, uint64_t seed)
{
	uint64_t x, y;

	x = fz_seed_mix(seed, 0); /* each bit depends on all bits of the seed */
	y = x * UINT64_C(0xd1342543de82ef95);
	y = y << 32 | y >> 32; /* the high bits are the better ones */
	state[0] = UINT64_C(0x243f6a8885a308d3); /* the fraction of pi */
	state[1] = x;
	state[2] = y;
	state[3] = y * UINT64_C(0xbf58476d1ce4e5b9);
}

/* The same, at once or before the next number. */
static inline void
fz_random_seed(struct fz_random *random, uint64_t seed)
{
	if (random->pending != NULL)
		*random->pending = (struct fz_random_pending){ true, seed };
	else if (random->state != NULL)
		fz_random_set(random->state, seed);
}

/* Save the state, and restore it. */
void fz_random_save(struct fz_random *random);
void fz_random_restore(struct fz_random *random);

#endif

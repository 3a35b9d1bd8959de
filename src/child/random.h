/*
 * random.h - the state of math.random, which is set for each call.
 *
 * Lua keeps the state in an upvalue of math.random. If another library has
 * replaced math.random, the state is not found and is not set.
 */
#ifndef FZ_RANDOM_H
#define FZ_RANDOM_H

#include <stddef.h>
#include <stdint.h>

#include <lua.h>

#include "base/seed.h"

enum { FZ_RANDOM_WORDS = 4 };

struct fz_random {
	uint64_t *state; /* the state of math.random; NULL: not found */
	uint64_t saved[FZ_RANDOM_WORDS];
};

/* Find the state of math.random, valid while `L` is open. [-0, +0, m] */
void fz_random_find(lua_State *L, struct fz_random *random);

/*
 * Make the next numbers depend on `seed` alone. All words must differ strongly
 * for neighbouring seeds: Lua's generator, xoshiro256**, computes the first
 * number from state[1], the second from words 0 to 2, the third from 0, 1 and
 * 3.
 */
static inline void
fz_random_seed(const struct fz_random *random, uint64_t seed)
{
	uint64_t x, y, *state = random->state;

	if (state == NULL)
		return;
	x = fz_seed_mix(seed, 0); /* now each bit depends on the whole seed */
	y = x * UINT64_C(0xd1342543de82ef95);
	y = y << 32 | y >> 32; /* put the more random high bits below */
	state[0] = UINT64_C(0x243f6a8885a308d3); /* bits of pi */
	state[1] = x;
	state[2] = y;
	state[3] = y * UINT64_C(0xbf58476d1ce4e5b9);
}

/* Save the state of math.random, or restore the saved state. */
void fz_random_save(struct fz_random *random);
void fz_random_restore(struct fz_random *random);

#endif

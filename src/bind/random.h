/*
 * random.h - the state of math.random, which is set for each call.
 *
 * Lua keeps it in an upvalue of math.random. Where another library took its
 * place, there is none to be found, and nothing is set.
 */
#ifndef FZ_RANDOM_H
#define FZ_RANDOM_H

#include <stddef.h>
#include <stdint.h>

#include <lua.h>

enum { FZ_RANDOM_WORDS = 4 };

struct fz_random {
	uint64_t *state; /* NULL: none */
	uint64_t saved[FZ_RANDOM_WORDS];
};

/* Find the state; it stays where it is while the Lua state lives. [-0, +0, m]
 */
void fz_random_find(lua_State *L, struct fz_random *random);

/*
 * The seed of call number `n` of what was given `seed`: SplitMix64 of Steele,
 * Lea and Flood.
 */
static inline uint64_t
fz_random_mix(uint64_t seed, uint64_t n)
{
	uint64_t x = seed + (n + 1) * UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* The numbers that follow depend on `seed` alone. */
static inline void
fz_random_seed(struct fz_random *random, uint64_t seed)
{
	uint64_t *state = random->state;

	if (state == NULL)
		return;
	seed = fz_random_mix(seed, 0); /* each bit of it depends on all */
	state[0] = seed;
	state[1] = seed * UINT64_C(0xd1342543de82ef95);
	state[2] = ~seed;
	state[3] = (seed << 32 | seed >> 32) ^ UINT64_C(0x9e3779b97f4a7c15);
}

/* Keep the state, and set it to what was kept. */
void fz_random_save(struct fz_random *random);
void fz_random_restore(struct fz_random *random);

#endif

/*
 * random.h - the state of math.random, which is set for each call.
 *
 * Lua keeps it in an upvalue of math.random. Where another library took its
 * place, there is none to be found, and nothing is set. In the command it is
 * set when the first number is asked for: most calls ask for none.
 */
#ifndef FZ_RANDOM_H
#define FZ_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lua.h>

#include "base/seed.h"

enum { FZ_RANDOM_WORDS = 4 };

/* A seed that the next number is to follow from. */
struct fz_random_due {
	bool due;
	uint64_t seed;
};

struct fz_random {
	uint64_t *state;           /* NULL: none */
	struct fz_random_due *due; /* NULL: nobody would look there */
	uint64_t saved[FZ_RANDOM_WORDS];
	struct fz_random_due saved_due;
};

/*
 * Have math.random and math.randomseed look for a seed that is due. Only where
 * nobody has them yet, and for one state of a process. [-0, +0, e]
 */
void fz_random_wrap(lua_State *L);

/* Find the state; it stays where it is while the Lua state lives. [-0, +0, m]
 */
void fz_random_find(lua_State *L, struct fz_random *random);

/*
 * Have the numbers that follow depend on `seed` alone. Lua's generator,
 * xoshiro256**, makes its first number of state[1], the second of the words 0
 * to 2, the third of 0, 1 and 3: where the words are too much alike, so are
 * these numbers.
 */
static inline void
fz_random_set(uint64_t *state, uint64_t seed)
{
	uint64_t x, y;

	x = fz_seed_mix(seed, 0); /* each bit of it depends on all */
	y = x * UINT64_C(0xd1342543de82ef95);
	y = y << 32 | y >> 32; /* its high bits are the good ones */
	state[0] = UINT64_C(0x243f6a8885a308d3); /* the fraction of pi */
	state[1] = x;
	state[2] = y;
	state[3] = y * UINT64_C(0xbf58476d1ce4e5b9);
}

/* The same, now or when the next one is asked for. */
static inline void
fz_random_seed(struct fz_random *random, uint64_t seed)
{
	if (random->due != NULL)
		*random->due = (struct fz_random_due){ true, seed };
	else if (random->state != NULL)
		fz_random_set(random->state, seed);
}

/* Keep the state, and set it to what was kept. */
void fz_random_save(struct fz_random *random);
void fz_random_restore(struct fz_random *random);

#endif

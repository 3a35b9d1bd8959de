/*
 * random.h - the state of math.random, which is set for each call.
 *
 * Lua keeps it in an upvalue of math.random. Where another library took its
 * place, there is none to be found, and nothing is set.
 */
#ifndef FZ_RANDOM_H
#define FZ_RANDOM_H

#include <stdint.h>

#include <lua.h>

enum { FZ_RANDOM_WORDS = 4 };

struct fz_random {
	uint64_t *state; /* NULL: none */
	uint64_t saved[FZ_RANDOM_WORDS];
};

/* Find the state; it stays where it is while the Lua state lives. [-0, +0, m] */
void fz_random_find(lua_State *L, struct fz_random *random);

/* The seed of call number `n` of what was given `seed`. */
uint64_t fz_random_mix(uint64_t seed, uint64_t n);

/* The numbers that follow depend on `seed` alone. */
void fz_random_seed(struct fz_random *random, uint64_t seed);

/* Keep the state, and set it to what was kept. */
void fz_random_save(struct fz_random *random);
void fz_random_restore(struct fz_random *random);

#endif

/*
 * lnumber.h - one number in shared memory, of a type that string.pack() has.
 *
 * Reads and writes are atomic.
 */
#ifndef FZ_LNUMBER_H
#define FZ_LNUMBER_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

struct fz_number {
	char code; /* the code of the type: one of b B h H i I l L j J f d n */
	uint8_t kind;
	uint8_t size; /* bytes (1, 2, 4 or 8), and the alignment */
};

/*
 * The type whose code is the argument `idx`; raises if there is no such type.
 */
struct fz_number fz_number_type(lua_State *L, int idx);

/*
 * Get the bits of the Lua number at `idx` in that type. Returns NULL, or pushes
 * and returns the reason why it does not fit. Integers have the ranges of
 * string.pack(); a float is rounded. [-0, +0|1, m]
 */
const char *fz_number_bits(
    lua_State *L, int idx, struct fz_number type, uint64_t *bits);

/* Push the number with these bits. [-0, +1, -] */
void fz_number_push(lua_State *L, struct fz_number type, uint64_t bits);

uint64_t fz_number_load(struct fz_number type, const void *at);
void fz_number_store(struct fz_number type, void *at, uint64_t bits);

/* The term of an addition: an integer if the type is one. */
union fz_number_term {
	int64_t integer;
	double real;
};

/*
 * The term at `idx`. Returns NULL if it is a term, or pushes and returns the
 * reason why it is not. [-0, +0|1, m]
 */
const char *fz_number_term(
    lua_State *L, int idx, struct fz_number type, union fz_number_term *term);

/* Add to `bits`. False if the sum does not fit; then nothing is changed. */
bool fz_number_add(
    struct fz_number type, uint64_t *bits, union fz_number_term term);

#endif

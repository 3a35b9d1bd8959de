/* lguard.h - what is released when a scope ends. */
#ifndef FZ_LGUARD_H
#define FZ_LGUARD_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

/* A userdata with __close; releases once, and only in the process it is of. */
struct fz_lguard {
	void (*release)(struct fz_lguard *guard); /* NULL: nothing to do */
	void *of;                                 /* what it releases */
	uint32_t self;                            /* the member that acquired */
	uint32_t before; /* its class's: how it was before */
};

/*
 * What acquires for a guard and fills it; where it raises it has not. Returns
 * whether it was found abandoned.
 */
typedef bool (*fz_lguard_acquire)(
    lua_State *L, void *of, struct fz_lguard *guard);

/*
 * The method guard() of what is at index 1 -> guard, or guard, "abandoned". A
 * return value for a C function, "return fz_lguard_push()".
 */
int fz_lguard_push(lua_State *L, fz_lguard_acquire acquire, void *of);

/*
 * Push a guard that keeps the handle at index 1, has nothing to release yet,
 * and is closed when the C function that calls this ends, however. [-0, +1, e]
 */
struct fz_lguard *fz_lguard_enter(lua_State *L);

/*
 * The method with(f, ...): call what is at index 2 with what is above it while
 * it is acquired. Releases whatever f does; an error goes on as it was raised.
 * A return value for a C function, "return fz_lguard_with()".
 */
int fz_lguard_with(lua_State *L, fz_lguard_acquire acquire, void *of);

/* Open: the class of guards. [-0, +0, e] */
int fz_lguard_open(lua_State *L);

#endif

/* lguard.h - what is released when a scope ends. */
#ifndef FZ_LGUARD_H
#define FZ_LGUARD_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

/* A userdata with __close; releases once, and only in the process it is of. */
struct fz_lguard {
	void (*release)(struct fz_lguard *guard); /* NULL: nothing to do */
	void *of;                                 /* the object it releases */
	uint32_t self;                            /* the member that acquired */
	uint32_t before; /* set by the class: the state to return to */
	int top;         /* of the stack of the method that waits */
};

/* What follows once the object is acquired; returns as a C function does. */
typedef int (*fz_lguard_then)(
    lua_State *L, struct fz_lguard *guard, bool abandoned);

/*
 * Acquire the object of a guard, set its `release`, and end with a call of
 * `then`. May wait (lwait.h). Nothing is acquired if it raises.
 */
typedef int (*fz_lguard_acquire)(
    lua_State *L, struct fz_lguard *guard, fz_lguard_then then);

/*
 * The method guard() of what is at index 1 -> guard, or guard, "abandoned". A
 * return value for a C function, "return fz_lguard_push()".
 */
int fz_lguard_push(lua_State *L, fz_lguard_acquire acquire, void *of);

/*
 * Push a guard that keeps the handle at index 1, has nothing to release yet,
 * and is closed when the calling C function ends, by an error or not.
 * [-0, +1, e]
 */
struct fz_lguard *fz_lguard_enter(lua_State *L);

/*
 * The method with(f, ...): call the function at index 2 with what is above it
 * while the object is acquired. Releases it even if f raises; the error goes on
 * as it was raised. A return value for a C function, "return fz_lguard_with()".
 */
int fz_lguard_with(lua_State *L, fz_lguard_acquire acquire, void *of);

/* Open: the class of guards. [-0, +0, e] */
int fz_lguard_open(lua_State *L);

#endif

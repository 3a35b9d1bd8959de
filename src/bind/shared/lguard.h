/* lguard.h - releases an object at the end of a scope. */
#ifndef FZ_LGUARD_H
#define FZ_LGUARD_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

struct fz_lshared;

/*
 * A userdata with __close. It releases the object once, and only in the process
 * that has acquired it.
 */
struct fz_lguard {
	/* releases the object; NULL: nothing to do */
	void (*release)(struct fz_lguard *guard);
	void *of; /* the object to release */
	struct fz_lshared *shared;
	uint32_t self; /* the member that acquired the object */
	uint32_t task; /* the task that acquired the object */
	/* set by the class: the state that the release restores */
	uint32_t before;
	int top; /* stack top of with() before its wait */
};

/* Called after the object is acquired; returns as a C function does. */
typedef int (*fz_lguard_then)(
    lua_State *L, struct fz_lguard *guard, bool abandoned);

/*
 * Acquire the object of a guard, set its `release`, and end with a call of
 * `then`. May wait (lwait.h). Nothing is acquired if it raises.
 */
typedef int (*fz_lguard_acquire)(
    lua_State *L, struct fz_lguard *guard, fz_lguard_then then);

/*
 * The method guard() of the object at index 1 -> guard, or guard, "abandoned".
 * A return value for a C function, "return fz_lguard_push()".
 */
int fz_lguard_push(lua_State *L, fz_lguard_acquire acquire, void *of);

/*
 * Push a guard that keeps the handle at index 1 alive and has nothing to
 * release yet. It is closed when the calling C function returns or raises.
 * [-0, +1, e]
 */
struct fz_lguard *fz_lguard_enter(lua_State *L);

/*
 * The method with(f, ...): acquire the object, call the function at index 2
 * with the values above it, and release the object. An error of f is raised
 * again unchanged. A return value for a C function, "return fz_lguard_with()".
 */
int fz_lguard_with(lua_State *L, fz_lguard_acquire acquire, void *of);

#endif

/* lguard.h - releases an object at the end of a scope. */
#ifndef FZ_LGUARD_H
#define FZ_LGUARD_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

struct fz_lshared;

/*
 * A userdata with __close. It releases an object once, and only in the process
 * that has acquired the object.
 */
struct fz_lguard {
	/* function that releases the object; NULL: nothing is acquired */
	void (*release)(struct fz_lguard *guard);
	void *of; /* the object to release */
	struct fz_lshared *shared;
	uint32_t self; /* the member that acquired the object */
	uint32_t task; /* the task that acquired the object */
	/* set by the class of the object: the state that `release` restores */
	uint32_t before;
	int top; /* stack top of with() before the object is acquired */
};

/* Called when the object is acquired. Returns what a C function returns. */
typedef int (*fz_lguard_then)(
    lua_State *L, struct fz_lguard *guard, bool abandoned);

/*
 * Acquire the object of a guard, set guard->release, and end with `then`. May
 * wait (lwait.h). Nothing is acquired if this raises.
 */
typedef int (*fz_lguard_acquire)(
    lua_State *L, struct fz_lguard *guard, fz_lguard_then then);

/*
 * The method guard() of the object at index 1, which returns a guard, or a
 * guard and "abandoned". The caller returns the result of this function.
 */
int fz_lguard_push(lua_State *L, fz_lguard_acquire acquire, void *of);

/*
 * Push a guard that keeps the handle at index 1 alive, and has nothing to
 * release. The guard is closed when the calling C function returns or raises an
 * error. [-0, +1, e]
 */
struct fz_lguard *fz_lguard_enter(lua_State *L);

/*
 * The method with(f, ...) of the object at index 1: acquire the object, call
 * the function at index 2 with the values above it, and release the object. An
 * error of f is raised again unchanged. The caller returns the result.
 */
int fz_lguard_with(lua_State *L, fz_lguard_acquire acquire, void *of);

#endif

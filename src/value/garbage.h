/*
 * garbage.h - what the collector of a forked child does about inherited
 * objects.
 *
 * A collection of the whole heap marks, and so copies, everything that the
 * child inherited. In generational mode a collection of young objects leaves
 * the old ones alone. So the parent makes its objects old before it forks a
 * worker that it keeps, and the worker collects its own garbage, young
 * objects, often.
 */
#ifndef FZ_GARBAGE_H
#define FZ_GARBAGE_H

#include <stdbool.h>
#include <stddef.h>

#include <lua.h>

struct fz_garbage; /* of one Lua state */

/* The one of this state, which lives as long as the state. [-0, +0, e] */
struct fz_garbage *fz_garbage_open(lua_State *L);

/*
 * Before a fork: whether all objects are old, but for few. With `collect` they
 * are made old if there are many and the collector runs in generational mode;
 * never in a forked child, which would copy what it inherited. No finalizer
 * is called. [-0, +0, -]
 */
bool fz_garbage_age(struct fz_garbage *garbage, lua_State *L, bool collect);

/*
 * The collector rests while a big message is decoded, so that a state that only
 * receives would never collect. Before one: collect, if much was decoded since
 * the last time. Then count the message's `len` bytes. [-0, +0, e]
 */
void fz_garbage_before_message(lua_State *L, size_t len);

/*
 * Keep the collector from running, and with it finalizers, which must not come
 * where the engine is under way. It may run again after the next call of
 * fz_garbage_catch_up(). Its debt is kept: LUA_GCSTOP and LUA_GCRESTART forget
 * it, so that a loop of them would collect each time. [-0, +0, -]
 */
void fz_garbage_delay(struct fz_garbage *garbage, lua_State *L);
void fz_garbage_catch_up(struct fz_garbage *garbage, lua_State *L);

/* In a forked child. */
struct fz_garbage_child {
	int inherited; /* KiB of the heap at the fork */
	int kib;       /* KiB of the heap after the last collection */
	bool collects; /* a collection copies little of what it inherited */
};

/*
 * In a forked child: let it make much garbage before its first collection.
 * `aged` is what fz_garbage_age() said. [-0, +0, -]
 */
void fz_garbage_inherit(
    struct fz_garbage_child *child, lua_State *L, bool aged);

/*
 * After a job: collect young objects if the child has allocated much and a
 * collection copies little. Big blocks that become free so are those that the
 * next job allocates. [-0, +0, -]
 */
void fz_garbage_collect_young(struct fz_garbage_child *child, lua_State *L);

#endif

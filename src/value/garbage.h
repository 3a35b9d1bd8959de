/*
 * garbage.h - garbage collection in forked children.
 *
 * A collection of the whole heap marks, and so copies, every page that the
 * child inherited. In generational mode a collection of young objects does not
 * touch the old ones. So the parent makes its objects old before it forks a
 * worker that it keeps, and the worker often collects its own young objects.
 */
#ifndef FZ_GARBAGE_H
#define FZ_GARBAGE_H

#include <stdbool.h>
#include <stddef.h>

#include <lua.h>

struct fz_garbage; /* the collector's state in one Lua state */

/* The object for this state; it lives as long as the state. [-0, +0, e] */
struct fz_garbage *fz_garbage_open(lua_State *L);

/*
 * Before a fork: whether nearly all objects are old. First makes all objects
 * old if `collect` is set, many are young, and the collector is generational. A
 * forked child never does that: it would copy all inherited pages. Calls no
 * finalizer. [-0, +0, -]
 */
bool fz_garbage_age(struct fz_garbage *garbage, lua_State *L, bool collect);

/*
 * The collector is stopped while a big message is decoded, so a state that only
 * receives would never collect. Before such a message: collect if much was
 * decoded since the last collection. Then count the message's `len` bytes. [-0,
 * +0, e]
 */
void fz_garbage_before_message(lua_State *L, size_t len);

/*
 * Delay the collector, and with it finalizers, which must not run inside of the
 * engine. The next fz_garbage_catch_up() ends the delay. The collector's debt
 * is kept. LUA_GCSTOP and LUA_GCRESTART would clear it, so each such pair in a
 * loop would lead to a collection. [-0, +0, -]
 */
void fz_garbage_delay(struct fz_garbage *garbage, lua_State *L);
void fz_garbage_catch_up(struct fz_garbage *garbage, lua_State *L);

/* The state of the collector in a forked child. */
struct fz_garbage_child {
	int inherited; /* KiB of the heap at the fork */
	int kib;       /* KiB of the heap after the last collection */
	bool collects; /* collect after jobs, as that copies little */
};

/*
 * In a forked child: delay the first collection. `aged` is the result of
 * fz_garbage_age() before the fork. [-0, +0, -]
 */
void fz_garbage_inherit(
    struct fz_garbage_child *child, lua_State *L, bool aged);

/*
 * After a job: collect young objects if the child has allocated much and a
 * collection copies little. The next job then reuses the blocks that become
 * free. [-0, +0, -]
 */
void fz_garbage_collect_young(struct fz_garbage_child *child, lua_State *L);

#endif

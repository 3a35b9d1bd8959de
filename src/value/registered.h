/*
 * registered.h - classes and values that cross processes by a registered name.
 *
 * The functions that look something up call no Lua code and let the collector
 * make no step, so that the encoder may use them while it remembers objects by
 * address.
 */
#ifndef FZ_REGISTERED_H
#define FZ_REGISTERED_H

#include <stdbool.h>

#include <lua.h>

struct fz_refmap;

/* The names of fzlua's own classes begin with this. */
#define FZ_REGISTERED_OURS "fzlua."

/* Fields of a metatable that the codec reads. */
enum fz_registered_field {
	FZ_REGISTERED_PACK,  /* __fzpack; false: objects cannot be sent */
	FZ_REGISTERED_MODE,  /* __mode, of weak tables */
	FZ_REGISTERED_NAME,  /* __name */
	FZ_REGISTERED_INDEX, /* __index */
	FZ_REGISTERED_NFIELDS,
};

/*
 * Called before the other functions, at least once per state. [-0, +0, m]
 */
void fz_registered_open(lua_State *L);

/*
 * Register the metatable or value at the top under `name`. An object that had
 * the name before loses it. [-1, +0, m]
 */
void fz_registered_add_class(lua_State *L, const char *name);
void fz_registered_add_value(lua_State *L, const char *name);

/* Push { [name] = metatable } of all classes. [-0, +1, m] */
void fz_registered_classes(lua_State *L);

/*
 * The addresses of all registered metatables and values. Some of the objects
 * may not be registered any more. The map lives as long as the state.
 */
const struct fz_refmap *fz_registered_objects(lua_State *L);

/*
 * If the object at `idx` has a registered metatable, push that and its name and
 * return true. [-0, +(0|2), -]
 */
bool fz_registered_class(lua_State *L, int idx);

/*
 * fz_registered_metatable(): if the metatable at `idx` is registered, push its
 * name and return true. If a name is at `idx`, push the metatable of this name.
 * fz_registered_value(): the same for registered values. [-0, +(0|1), -]
 */
bool fz_registered_metatable(lua_State *L, int idx);
bool fz_registered_value(lua_State *L, int idx);

/* Push a raw field of the metatable at `mt`; returns its type. [-0, +1, -] */
int fz_registered_field(lua_State *L, int mt, enum fz_registered_field field);

/*
 * Note that objects crossed without the metatable at `idx`, or without the
 * class whose name is there. True the first time. [-0, +0, m]
 */
bool fz_registered_miss(lua_State *L, int idx);

/*
 * Whether fz_registered_miss() has noted the metatable or the class name at
 * `idx`. [-0, +0, -]
 */
bool fz_registered_is_missed(lua_State *L, int idx);

#endif

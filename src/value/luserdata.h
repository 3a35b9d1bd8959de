/* luserdata.h - classes of userdata, and userdata that the registry keeps. */
#ifndef FZ_LUSERDATA_H
#define FZ_LUSERDATA_H

#include <stdbool.h>

#include <lauxlib.h>
#include <lua.h>

/*
 * Push the metatable `name` as luaL_newmetatable() does, but store it in the
 * registry only at the end, so that no incomplete metatable stays there if
 * memory runs out. True: the metatable is new; fill it before
 * fz_luserdata_end(). [-0, +1, m]
 */
bool fz_luserdata_begin(lua_State *L, const char *name);
/* The metatable on top is complete: store it in the registry. [-0, +0, m] */
void fz_luserdata_end(lua_State *L, const char *name);

/* A class of userdata. Each table of functions may be NULL. */
struct fz_luserdata_class {
	const char *name;
	const luaL_Reg *methods, *metamethods;
	/* adds further methods to the table on top [-0, +0, m] */
	void (*add_methods)(lua_State *L);
};

/*
 * Set the metatable of the userdata on top. It is made for the first object of
 * the class, because most scripts use few classes. [-0, +0, m]
 */
void fz_luserdata_set(lua_State *L, const struct fz_luserdata_class *class);

/* Set a metatable for the object on top that has only this __gc. [-0, +0, m] */
void fz_luserdata_finalize(lua_State *L, lua_CFunction gc);

/* The userdata with that key in the registry; NULL: none. [-0, +0, -] */
static inline void *
fz_luserdata_kept(lua_State *L, const void *key)
{
	void *kept;

	lua_rawgetp(L, LUA_REGISTRYINDEX, key);
	kept = lua_touserdata(L, -1);
	lua_pop(L, 1);
	return kept;
}

#endif

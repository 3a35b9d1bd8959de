#include "value/registered.h"

#include <lauxlib.h>

#include "value/luserdata.h"
#include "value/refmap.h"

/*
 * The addresses of these variables are the registry keys of four objects: a
 * table {[name] = object, [object] = name} of the metatables, such a table of
 * the values, the set of missed classes, and the map of registered addresses.
 */
static const char classes_key, values_key, missed_key, objects_key;

/* The address of each element is the registry key of its name. */
static const char *const fields[FZ_REGISTERED_NFIELDS] = { "__fzpack", "__mode",
	"__name", "__index" };

static struct fz_refmap *
objects(lua_State *L)
{
	return fz_luserdata_kept(L, &objects_key);
}

static void
new_objects(lua_State *L)
{
	fz_refmap_push(L);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &objects_key);
}

/*
 * Make the set of missed classes, which is weak: it keeps no metatable alive.
 */
static void
new_missed(lua_State *L)
{
	lua_newtable(L);
	lua_createtable(L, 0, 1);
	lua_pushliteral(L, "k");
	lua_setfield(L, -2, "__mode");
	lua_setmetatable(L, -2);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &missed_key);
}

void
fz_registered_open(lua_State *L)
{
	if (objects(L) != NULL)
		return;
	for (int i = 0; i < FZ_REGISTERED_NFIELDS; i++) {
		lua_pushstring(L, fields[i]);
		lua_rawsetp(L, LUA_REGISTRYINDEX, &fields[i]);
	}
	lua_newtable(L);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &classes_key);
	lua_newtable(L);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &values_key);
	new_missed(L);
	new_objects(L);
}

const struct fz_refmap *
fz_registered_objects(lua_State *L)
{
	return objects(L);
}

static void
enter_object(lua_State *L, int idx)
{
	bool fresh;

	if (fz_refmap_enter(objects(L), L, lua_topointer(L, idx), 0, &fresh) ==
	    NULL)
		luaL_error(L, "not enough memory");
}

/*
 * Rebuild the map, because an object lost its name, and its address may be
 * reused.
 */
static void
reenter_objects(lua_State *L)
{
	const void *const keys[] = { &classes_key, &values_key };

	fz_refmap_clear(objects(L), L);
	for (int i = 0; i < 2; i++) {
		lua_rawgetp(L, LUA_REGISTRYINDEX, keys[i]);
		for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
			if (lua_type(L, -2) != LUA_TSTRING)
				enter_object(L, -2);
		}
		lua_pop(L, 1);
	}
}

/* Register the object at the top in the table of `key`. [-0] */
static void
add(lua_State *L, const void *key, const char *name)
{
	int object = lua_gettop(L);
	bool replaces;

	enter_object(L, object);
	lua_rawgetp(L, LUA_REGISTRYINDEX, key);
	lua_pushstring(L, name);
	replaces = lua_rawget(L, -2) != LUA_TNIL;
	if (replaces) {
		lua_pushnil(L);
		lua_rawset(L, -3);
	} else {
		lua_pop(L, 1);
	}
	lua_pushvalue(L, object);
	lua_pushstring(L, name);
	lua_rawset(L, -3);
	lua_pushstring(L, name);
	lua_pushvalue(L, object);
	lua_rawset(L, -3);
	if (replaces)
		reenter_objects(L);
	lua_settop(L, object);
}

void
fz_registered_add_class(lua_State *L, const char *name)
{
	add(L, &classes_key, name);
	lua_pop(L, 1);
}

void
fz_registered_add_value(lua_State *L, const char *name)
{
	add(L, &values_key, name);
	lua_pop(L, 1);
}

void
fz_registered_classes(lua_State *L)
{
	int all = lua_gettop(L) + 1;

	lua_newtable(L);
	lua_rawgetp(L, LUA_REGISTRYINDEX, &classes_key);
	for (lua_pushnil(L); lua_next(L, all + 1); lua_pop(L, 1)) {
		if (lua_type(L, -2) != LUA_TSTRING)
			continue;
		lua_pushvalue(L, -2);
		lua_pushvalue(L, -2);
		lua_rawset(L, all);
	}
	lua_pop(L, 1);
}

/*
 * Push the entry of the value at `idx` in the table of `key`. False if there is
 * none.
 */
static bool
look_up(lua_State *L, const void *key, int idx)
{
	idx = lua_absindex(L, idx);
	if (lua_rawgetp(L, LUA_REGISTRYINDEX, key) != LUA_TTABLE) {
		lua_pop(L, 1);
		return false;
	}
	lua_pushvalue(L, idx);
	if (lua_rawget(L, -2) == LUA_TNIL) {
		lua_pop(L, 2);
		return false;
	}
	lua_remove(L, -2);
	return true;
}

bool
fz_registered_class(lua_State *L, int idx)
{
	if (!lua_getmetatable(L, idx))
		return false;
	if (look_up(L, &classes_key, -1))
		return true;
	lua_pop(L, 1);
	return false;
}

bool
fz_registered_metatable(lua_State *L, int idx)
{
	return look_up(L, &classes_key, idx);
}

bool
fz_registered_value(lua_State *L, int idx)
{
	return look_up(L, &values_key, idx);
}

int
fz_registered_field(lua_State *L, int mt, enum fz_registered_field field)
{
	mt = lua_absindex(L, mt);
	lua_rawgetp(L, LUA_REGISTRYINDEX, &fields[field]);
	return lua_rawget(L, mt);
}

bool
fz_registered_is_missed(lua_State *L, int idx)
{
	if (!look_up(L, &missed_key, idx))
		return false;
	lua_pop(L, 1);
	return true;
}

bool
fz_registered_miss(lua_State *L, int idx)
{
	if (fz_registered_is_missed(L, idx))
		return false;
	idx = lua_absindex(L, idx);
	lua_rawgetp(L, LUA_REGISTRYINDEX, &missed_key);
	lua_pushvalue(L, idx);
	lua_pushboolean(L, 1);
	lua_rawset(L, -3);
	lua_pop(L, 1);
	return true;
}

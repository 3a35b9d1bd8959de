#include "codec/encode.h"

#include <string.h>

#include <lauxlib.h>

#include "codec/format.h"
#include "value/lerror.h"
#include "value/registered.h"

/* Raise the error on top for the __fzpack of the class named at `name`. */
static int
raise_packer(struct fz_encoder *e, int name, const struct fz_path *at)
{
	lua_State *L = e->L;
	int cause = lua_gettop(L);

	luaL_checkstack(L, 10, NULL);
	lua_pushfstring(L, "__fzpack of class '%s': %s", lua_tostring(L, name),
	    fz_lerror_text(L, cause));
	fz_path_push_error(L, FZ_ERR_ERROR, at);
	lua_pushinteger(L, e->value);
	lua_setfield(L, -2, "value");
	fz_lerror_set_cause(L, cause);
	fz_encode_release(e);
	return lua_error(L);
}

/* Call the packer of the object at `idx`; name and packer are on top. */
static void
put_packed(struct fz_encoder *e, int idx, const struct fz_path *at)
{
	lua_State *L = e->L;
	struct fz_path here = { at, FZ_PATH_PACKED, 0, 0, NULL };
	const void *p = lua_topointer(L, idx);
	struct fz_refmap_entry *entry = fz_refmap_find(&e->objects, p);
	uint32_t number = entry->number;
	int name = lua_gettop(L) - 1;
	lua_Integer mark = e->nlater;
	int rc;

	here.name = lua_tostring(L, name);
	fz_encode_enter(e, at);
	entry->number |= FZ_ENCODE_OPEN;
	lua_pushvalue(L, idx);
	rc = lua_pcall(L, 1, 1, 0);
	if (rc == LUA_ERRMEM)
		lua_error(L);
	if (rc != LUA_OK)
		raise_packer(e, name, at);
	fz_encode_u8(e, FZ_FORMAT_PACKED);
	fz_encode_string(e, name);
	fz_encode_value(e, name + 1, &here);
	fz_encode_later(e, mark);
	fz_refmap_find(&e->objects, p)->number = number;
	e->level--;
}

static bool
has_function(lua_State *L, int t)
{
	lua_pushnil(L);
	while (lua_next(L, t)) {
		if (lua_isfunction(L, -1)) {
			lua_pop(L, 2);
			return true;
		}
		lua_pop(L, 1);
	}
	return false;
}

/* Whether the metatable at `mt` has methods: functions in its __index. */
static bool
has_methods(lua_State *L, int mt)
{
	int top = lua_gettop(L);
	bool found =
	    fz_registered_field(L, mt, FZ_REGISTERED_INDEX) == LUA_TTABLE &&
	    has_function(L, top + 1);

	lua_settop(L, top);
	return found;
}

/* Push "an async result" for "fzlua.AsyncResult". */
static void
push_noun(lua_State *L, const char *class)
{
	const size_t ours = sizeof(FZ_REGISTERED_OURS) - 1;
	const char *noun = class;
	luaL_Buffer b;

	if (strncmp(class, FZ_REGISTERED_OURS, ours) == 0)
		noun += ours;
	luaL_buffinit(L, &b);
	luaL_addstring(&b, strchr("AEIOU", *noun) != NULL ? "an" : "a");
	for (const char *c = noun; *c != '\0'; c++) {
		bool upper = *c >= 'A' && *c <= 'Z';

		if (upper || c == noun)
			luaL_addchar(&b, ' ');
		luaL_addchar(&b, (char)(upper ? *c - 'A' + 'a' : *c));
	}
	luaL_pushresult(&b);
}

/* Raise if the metatable on top, which is not registered, forbids sending. */
static void
check_sendable(struct fz_encoder *e, const struct fz_path *at)
{
	lua_State *L = e->L;
	int mt = lua_gettop(L);

	if (fz_registered_field(L, mt, FZ_REGISTERED_PACK) == LUA_TBOOLEAN &&
	    fz_registered_field(L, mt, FZ_REGISTERED_NAME) == LUA_TSTRING) {
		fz_encode_need_full(e, FZ_ENCODE_CALLS);
		push_noun(L, lua_tostring(L, -1));
		fz_encode_refuse(e, lua_tostring(L, -1), at);
	}
	lua_settop(L, mt);
}

/*
 * Note a line for the log: a table loses the metatable on top. The metatable
 * seems to be that of a class, because it has a name or methods.
 */
static void
log_missed(struct fz_encoder *e)
{
	lua_State *L = e->L;
	int mt = lua_gettop(L);
	bool named =
	    fz_registered_field(L, mt, FZ_REGISTERED_NAME) == LUA_TSTRING;

	if (named || has_methods(L, mt)) {
		lua_pushfstring(L,
		    "a table of %s %s is sent without its metatable "
		    "(call fz.register_class to keep it; reported once "
		    "per class)",
		    named ? "class" : "a class without",
		    named ? lua_tostring(L, mt + 1) : "a name");
		lua_rawseti(L, e->kept, -e->nmissed++);
	}
	lua_settop(L, mt);
}

/*
 * Note that the table at `idx` loses its metatable, which is on top and not
 * registered. If the table itself has a name, writes the name and returns true.
 */
static bool
put_bare(struct fz_encoder *e, int idx, const struct fz_path *at)
{
	lua_State *L = e->L;
	int mt = lua_gettop(L);

	check_sendable(e, at);
	if (!fz_registered_is_missed(L, mt) ||
	    fz_registered_field(L, mt, FZ_REGISTERED_MODE) != LUA_TNIL)
		fz_encode_need_full(e, FZ_ENCODE_MODULES);
	lua_settop(L, mt);
	if (e->full) {
		if (fz_registered_miss(L, mt))
			log_missed(e);
		fz_encode_keep(e, mt);
	}
	fz_encode_need_modules(e);
	if (fz_encode_named(e, idx))
		return true;
	e->bare = lua_topointer(L, mt);
	return false;
}

/* Write the object by its class; its metatable and class name are on top. */
static bool
put_classed(struct fz_encoder *e, int idx, const struct fz_path *at)
{
	lua_State *L = e->L;
	int mt = lua_gettop(L) - 1;

	if (fz_registered_field(L, mt, FZ_REGISTERED_PACK) != LUA_TNIL) {
		fz_encode_need_full(e, FZ_ENCODE_CALLS);
		put_packed(e, idx, at);
		return true;
	}
	lua_pop(L, 1);
	if (!lua_istable(L, idx))
		return false;
	if (fz_registered_field(L, mt, FZ_REGISTERED_MODE) != LUA_TNIL)
		fz_encode_need_full(e, FZ_ENCODE_CALLS);
	lua_pop(L, 1);
	e->plain = lua_topointer(L, mt);
	fz_encode_plain(e, idx, true, at);
	return true;
}

bool
fz_encode_object(struct fz_encoder *e, int idx, const struct fz_path *at)
{
	lua_State *L = e->L;
	int top = lua_gettop(L);
	bool done = true;

	luaL_checkstack(L, 16, NULL);
	if (!fz_registered_class(L, idx)) {
		lua_getmetatable(L, idx);
		done = lua_istable(L, idx) && put_bare(e, idx, at);
	} else if (!e->full && lua_topointer(L, top + 1) == e->plain) {
		fz_encode_plain(e, idx, true, at);
	} else {
		done = put_classed(e, idx, at);
	}
	lua_settop(L, top);
	return done;
}

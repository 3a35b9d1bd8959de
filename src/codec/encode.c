#include "codec/encode.h"

#include <lauxlib.h>

#include "codec/format.h"
#include "value/byname.h"
#include "value/registered.h"

/*
 * If the message has the object at `p` already, write a reference to it and
 * return true.
 */
static inline bool
put_known(
    struct fz_encoder *e, int idx, const void *p, const struct fz_path *at)
{
	bool fresh = false;
	const struct fz_refmap_entry *entry =
	    fz_refmap_enter(&e->objects, e->L, p, e->nobjects, &fresh);

	if (entry == NULL || e->nobjects >= FZ_ENCODE_OPEN - 1)
		fz_encode_no_memory(e);
	if (fresh) {
		e->nobjects++;
		if (e->full)
			fz_encode_keep(e, idx);
		return false;
	}
	if (entry->number & FZ_ENCODE_OPEN)
		fz_encode_refuse(e, "an object inside its own __fzpack", at);
	e->flags |= FZ_FORMAT_HAS_REFS;
	fz_encode_u8(e, FZ_FORMAT_REF);
	fz_encode_varint(e, entry->number);
	return true;
}

bool
fz_encode_known(struct fz_encoder *e, int idx, const struct fz_path *at)
{
	return put_known(e, idx, lua_topointer(e->L, idx), at);
}

bool
fz_encode_named(struct fz_encoder *e, int idx)
{
	lua_State *L = e->L;

	if (!fz_encode_may_be_named(e, lua_topointer(L, idx)))
		return false;
	luaL_checkstack(L, 10, NULL);
	if (fz_registered_value(L, idx)) {
		fz_encode_here(e, FZ_FORMAT_HERE_VALUE);
	} else if (fz_registered_metatable(L, idx)) {
		fz_encode_here(e, FZ_FORMAT_HERE_METATABLE);
	} else if (fz_byname_module(L, idx)) {
		e->flags |= FZ_FORMAT_HAS_FUNCTIONS;
		fz_encode_u8(e, FZ_FORMAT_MODULE);
	} else {
		return false;
	}
	fz_encode_string(e, lua_gettop(L));
	lua_pop(L, 1);
	return true;
}

void
fz_encode_plain(
    struct fz_encoder *e, int t, bool classed, const struct fz_path *at)
{
	if (e->level >= FZ_FORMAT_DEPTH) {
		e->flags |= FZ_FORMAT_HAS_LATER;
		fz_encode_u8(e, FZ_FORMAT_LATER);
		luaL_checkstack(e->L, 8, NULL);
		e->listed = true;
		lua_pushvalue(e->L, t);
		lua_rawseti(e->L, e->list, ++e->nlater);
		return;
	}
	if (classed) {
		fz_encode_u8(e, FZ_FORMAT_CLASS);
		fz_encode_string(e, lua_gettop(e->L));
	}
	fz_encode_contents(e, t, at);
}

void
fz_encode_later(struct fz_encoder *e, lua_Integer mark)
{
	lua_State *L = e->L;
	struct fz_path deep = { NULL, FZ_PATH_DEEP, 0, 0, NULL };
	int top = lua_gettop(L);

	for (lua_Integer i = mark + 1; i <= e->nlater; i++) {
		luaL_checkstack(L, 16, "a table is too deep");
		lua_rawgeti(L, e->list, i);
		if (fz_registered_class(L, top + 1)) {
			fz_encode_u8(e, FZ_FORMAT_CLASS);
			fz_encode_string(e, lua_gettop(L));
		}
		fz_encode_contents(e, top + 1, &deep);
		lua_settop(L, top);
	}
	e->nlater = mark;
}

/* The address of the table of globals. */
static const void *
globals(struct fz_encoder *e)
{
	if (e->globals == NULL) {
		lua_rawgeti(e->L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
		e->globals = lua_topointer(e->L, -1);
		lua_pop(e->L, 1);
	}
	return e->globals;
}

static void
put_table(struct fz_encoder *e, int idx, const struct fz_path *at)
{
	const void *p = lua_topointer(e->L, idx);

	if (p == globals(e)) {
		e->flags |= FZ_FORMAT_HAS_FUNCTIONS;
		fz_encode_u8(e, FZ_FORMAT_GLOBALS);
		return;
	}
	if (e->snapshot != 0 && fz_encode_root(e, idx, at))
		return;
	if (put_known(e, idx, p, at))
		return;
	if (fz_encode_may_be_named(e, p) && fz_encode_named(e, idx))
		return;
	if (lua_getmetatable(e->L, idx)) {
		const void *mt = lua_topointer(e->L, -1);

		lua_pop(e->L, 1);
		if (mt != e->bare && fz_encode_object(e, idx, at))
			return;
	}
	if (e->level < FZ_FORMAT_DEPTH)
		fz_encode_contents(e, idx, at);
	else
		fz_encode_plain(e, idx, false, at);
}

static void
put_light(struct fz_encoder *e, int idx, const struct fz_path *at)
{
	if (fz_encode_named(e, idx)) {
		e->nobjects++;
		return;
	}
	if (lua_touserdata(e->L, idx) != NULL)
		fz_encode_refuse(e, "a light userdata", at);
	fz_encode_here(e, FZ_FORMAT_HERE_NULL);
}

void
fz_encode_large(
    struct fz_encoder *e, int idx, int type, const struct fz_path *at)
{
	switch (type) {
	case LUA_TNIL:
		fz_encode_u8(e, FZ_FORMAT_NIL);
		break;
	case LUA_TTABLE:
		put_table(e, idx, at);
		break;
	case LUA_TSTRING:
		fz_encode_string(e, idx);
		break;
	case LUA_TFUNCTION:
		fz_encode_function(e, idx, at);
		break;
	case LUA_TUSERDATA:
		fz_encode_userdata(e, idx, at);
		break;
	case LUA_TTHREAD:
		fz_encode_refuse(e, "a coroutine", at);
		break;
	default:
		put_light(e, idx, at);
	}
}

void
fz_encode_value(struct fz_encoder *e, int idx, const struct fz_path *at)
{
	fz_encode_at(e, fz_encode_room(e, FZ_ENCODE_SMALL), idx,
	    lua_type(e->L, idx), at);
}

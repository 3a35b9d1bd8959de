#include "bind/lfuncs.h"

#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "bind/codec.h"
#include "bind/lerror.h"
#include "engine/blob.h"
#include "engine/sched.h"

enum {
	DEPTH = 4,   /* functions in upvalues of functions are looked into */
	VALUES = 200 /* upvalues that are looked at */
};

/* In the table: function -> slot + 1; -(slot + 1) -> its upvalues then. */

void
fz_lfuncs_init(lua_State *L, struct fz_lfuncs *funcs)
{
	memset(funcs, 0, sizeof(*funcs));
	lua_createtable(L, 4, 4);
}

/* ---- what a function's upvalues are ------------------------------------- */

struct look {
	int seen; /* index of the list of upvalues */
	lua_Integer n;
	bool compare; /* with that list, else fill it */
};

/* Go over the upvalues of the function at `f`; false: one is another. */
static bool
look_at(lua_State *L, struct look *look, int f, int depth)
{
	bool same = true;

	luaL_checkstack(L, 6, NULL);
	for (int i = 1; same && look->n < VALUES; i++) {
		if (lua_getupvalue(L, f, i) == NULL)
			break;
		look->n++;
		if (look->compare) {
			lua_rawgeti(L, look->seen, look->n);
			same = lua_rawequal(L, -1, -2) &&
			       lua_type(L, -1) == lua_type(L, -2);
			lua_pop(L, 1);
		} else {
			lua_pushvalue(L, -1);
			lua_rawseti(L, look->seen, look->n);
		}
		if (same && depth > 0 && lua_isfunction(L, -1) &&
		    !lua_iscfunction(L, -1))
			same = look_at(L, look, lua_gettop(L), depth - 1);
		lua_pop(L, 1);
	}
	return same;
}

/* Whether the upvalues of the function at `f` are those noted for `slot`. */
static bool
is_same(lua_State *L, int tables, int slot, int f)
{
	struct look look = { .compare = true };
	bool same;

	if (lua_iscfunction(L, f))
		return true;
	lua_rawgeti(L, tables, -(lua_Integer)slot - 1);
	look.seen = lua_gettop(L);
	same = look_at(L, &look, f, DEPTH);
	lua_settop(L, look.seen - 1);
	return same;
}

static void
note(lua_State *L, int tables, int slot, int f)
{
	struct look look = { .compare = false };

	lua_newtable(L);
	look.seen = lua_gettop(L);
	look_at(L, &look, f, DEPTH);
	lua_rawseti(L, tables, -(lua_Integer)slot - 1);
}

/* ---- slots -------------------------------------------------------------- */

/* The slot that was not used for longest, -1 where all are pinned. */
static int
oldest(const struct fz_lfuncs *funcs)
{
	int best = -1;

	for (int i = 0; i < FZ_WORKER_FUNCS; i++) {
		if (funcs->pins[i] == 0 &&
		    (best == -1 || funcs->used[i] < funcs->used[best]))
			best = i;
	}
	return best;
}

static void
forget(lua_State *L, int tables, int list, int slot)
{
	int top = lua_gettop(L);

	if (lua_rawgeti(L, list, (lua_Integer)slot + 1) == LUA_TFUNCTION) {
		lua_pushvalue(L, -1);
		lua_rawget(L, tables);
		if (lua_tointeger(L, -1) == slot + 1) {
			lua_pushvalue(L, -2);
			lua_pushnil(L);
			lua_rawset(L, tables);
		}
	}
	lua_settop(L, top);
}

struct encoding {
	struct fz_buf out;
	struct fz_blob *blob;
};

/* Protected: so that the buffer is given back. */
static int
encode_body(lua_State *L)
{
	struct encoding *e = lua_touserdata(L, 2);
	struct fz_err err = { 0 };

	fz_codec_encode(L, 1, 1, &e->out);
	e->blob = fz_blob_new(e->out.data, e->out.len, &err);
	return e->blob != NULL ? 0 : fz_lerror_raise(L, &err);
}

/* Raise the error on top, which tells the way to a value in a function. */
static void
raise_unsendable(lua_State *L)
{
	if (fz_lerror_is(L, -1)) {
		lua_pushliteral(L, "the function: ");
		lua_getfield(L, -2, "message");
		lua_concat(L, 2);
		lua_setfield(L, -2, "message");
		lua_pushnil(L);
		lua_setfield(L, -2, "value");
	}
	lua_error(L);
}

static struct fz_blob *
encode(lua_State *L, int f)
{
	struct encoding e = { FZ_BUF_INIT, NULL };
	int status;

	lua_pushcfunction(L, encode_body);
	lua_pushvalue(L, f);
	lua_pushlightuserdata(L, &e);
	status = lua_pcall(L, 2, 0, 0);
	fz_buf_fini(&e.out);
	if (status != LUA_OK)
		raise_unsendable(L);
	return e.blob;
}

/* The slot that the function has already, -1: none that still holds. */
static int
known(lua_State *L, int tables, int f)
{
	int slot;

	lua_pushvalue(L, f);
	lua_rawget(L, tables);
	slot = (int)lua_tointeger(L, -1) - 1;
	lua_pop(L, 1);
	return slot != -1 && is_same(L, tables, slot, f) ? slot : -1;
}

int
fz_lfuncs_slot(lua_State *L, struct fz_lfuncs *funcs, int tables, int list,
    int f, struct fz_sched *sched, bool send)
{
	struct fz_blob *code = NULL;
	int slot = known(L, tables, f);

	if (slot == -1) {
		slot = oldest(funcs);
		if (slot == -1)
			return -1;
		if (send)
			code = encode(L, f);
		/* Should anything raise now, nobody has the slot. */
		forget(L, tables, list, slot);
		fz_sched_func(sched, (uint32_t)slot, code);
		lua_pushvalue(L, f);
		lua_rawseti(L, list, slot + 1);
		note(L, tables, slot, f);
		lua_pushvalue(L, f);
		lua_pushinteger(L, slot + 1);
		lua_rawset(L, tables);
	}
	funcs->pins[slot]++;
	funcs->used[slot] = ++funcs->now;
	return slot;
}

void
fz_lfuncs_unpin(struct fz_lfuncs *funcs, int slot)
{
	funcs->pins[slot]--;
}

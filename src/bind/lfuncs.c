#include "bind/lfuncs.h"

#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "bind/cells.h"
#include "bind/codec.h"
#include "bind/lerror.h"
#include "engine/blob.h"
#include "engine/sched.h"

/*
 * In the table: function -> slot + 1; -(slot + 1) -> its record, see cells.h;
 * 0 -> init, or its record. In the list: slot + 1 -> function; 0 -> the cells.
 */

void
fz_lfuncs_init(lua_State *L, struct fz_lfuncs *funcs, int init, bool compares)
{
	init = lua_absindex(L, init);
	memset(funcs->used, 0, sizeof(funcs->used));
	funcs->compares = compares;
	lua_createtable(L, 4, 4);
	lua_pushvalue(L, init);
	lua_rawseti(L, -2, 0);
	lua_createtable(L, 4, 1);
	if (!compares)
		return;
	fz_cells_new(L);
	lua_rawseti(L, -2, 0);
}

/* ---- what its upvalues are ---------------------------------------------- */

/* Push a record of the function at `f`. */
static void
note(lua_State *L, int list, int f, uint32_t version)
{
	lua_rawgeti(L, list, 0);
	fz_cells_note(L, lua_gettop(L), f, version);
	lua_remove(L, -2);
}

void
fz_lfuncs_note_init(lua_State *L, const struct fz_lfuncs *funcs, int tables,
    int list, struct fz_sched *sched)
{
	if (funcs->compares && lua_rawgeti(L, tables, 0) == LUA_TFUNCTION) {
		note(L, list, lua_gettop(L), fz_sched_version(sched));
		lua_rawseti(L, tables, 0);
		lua_pop(L, 1);
	} else if (funcs->compares) {
		lua_pop(L, 1);
	}
}

/* Whether the function in the slot is as it was noted. */
static bool
is_unchanged(lua_State *L, int tables, int list, int slot)
{
	bool same;

	lua_rawgeti(L, tables, -(lua_Integer)slot - 1);
	lua_rawgeti(L, list, 0);
	same = fz_cells_holds(L, lua_gettop(L), lua_gettop(L) - 1);
	lua_pop(L, 2);
	return same;
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
	if (lua_rawgeti(L, tables, -(lua_Integer)slot - 1) == LUA_TTABLE) {
		lua_rawgeti(L, list, 0);
		fz_cells_drop(L, lua_gettop(L), lua_gettop(L) - 1);
		lua_pushnil(L);
		lua_rawseti(L, tables, -(lua_Integer)slot - 1);
	}
	lua_settop(L, top);
}

struct encoding {
	struct fz_buf out;
	struct fz_blob *blob;
	uint32_t had; /* the version that all workers have */
};

/*
 * (encoding, cells, record, function): protected, so that the buffer is given
 * back. An upvalue that workers have is not looked into: what is new behind it
 * comes after the function, each by a function of its own.
 */
static int
encode_body(lua_State *L)
{
	struct encoding *e = lua_touserdata(L, 1);
	struct fz_err err = { 0 };
	int n = 1 + fz_cells_push_newer(L, 2, 3, e->had);

	fz_codec_encode_shared(L, 4, n, &e->out, 2, e->had);
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

/* The function at `f` for workers that have the version `had`. */
static struct fz_blob *
encode(lua_State *L, int list, int record, int f, uint32_t had)
{
	struct encoding e = { FZ_BUF_INIT, NULL, had };
	int status;

	lua_pushcfunction(L, encode_body);
	lua_pushlightuserdata(L, &e);
	lua_rawgeti(L, list, 0);
	lua_pushvalue(L, record);
	lua_pushvalue(L, f);
	status = lua_pcall(L, 4, 0, 0);
	fz_buf_fini(&e.out);
	if (status != LUA_OK)
		raise_unsendable(L);
	return e.blob;
}

/* The slot that the function has, -1: none. */
static int
known(lua_State *L, int tables, int f)
{
	int slot;

	lua_pushvalue(L, f);
	lua_rawget(L, tables);
	slot = (int)lua_tointeger(L, -1) - 1;
	lua_pop(L, 1);
	return slot;
}

/*
 * Put the function at `f` into a slot: the one it has where that is not pinned,
 * so that one that changes each time does not take those of all others.
 */
static int
fill_slot(lua_State *L, struct fz_lfuncs *funcs, int tables, int list, int f,
    struct fz_sched *sched, bool send)
{
	struct fz_blob *code = NULL;
	int slot = known(L, tables, f);
	int record;

	if (slot == -1 || funcs->pins[slot] != 0)
		slot = oldest(funcs);
	if (slot == -1)
		return -1;
	if (funcs->compares)
		note(L, list, f, fz_sched_version(sched));
	else
		lua_pushnil(L);
	record = lua_gettop(L);
	/*
	 * Should anything raise now, nobody has the slot. What was there goes
	 * last: upvalues that both have keep their numbers.
	 */
	forget(L, tables, list, slot);
	lua_pushvalue(L, record);
	lua_rawseti(L, tables, -(lua_Integer)slot - 1);
	lua_pushnil(L);
	lua_rawseti(L, list, slot + 1);
	funcs->bare[slot] = !funcs->compares || fz_cells_is_bare(L, record);
	if (send)
		code = encode(L, list, record, f, fz_sched_oldest(sched));
	fz_sched_func(sched, (uint32_t)slot, code);
	lua_pushvalue(L, f);
	lua_rawseti(L, list, slot + 1);
	lua_pushvalue(L, f);
	lua_pushinteger(L, slot + 1);
	lua_rawset(L, tables);
	lua_settop(L, record - 1);
	return slot;
}

int
fz_lfuncs_slot(lua_State *L, struct fz_lfuncs *funcs, int tables, int list,
    int f, struct fz_sched *sched, bool send)
{
	int slot = known(L, tables, f);

	luaL_checkstack(L, 12, NULL);
	if (slot == -1 ||
	    (!funcs->bare[slot] && !is_unchanged(L, tables, list, slot))) {
		if (!send)
			fz_lfuncs_note_init(L, funcs, tables, list, sched);
		slot = fill_slot(L, funcs, tables, list, f, sched, send);
	}
	if (slot == -1)
		return -1;
	funcs->pins[slot]++;
	funcs->used[slot] = ++funcs->now;
	return slot;
}

void
fz_lfuncs_unpin(struct fz_lfuncs *funcs, int slot)
{
	funcs->pins[slot]--;
}

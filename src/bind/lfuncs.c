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

/* Bytes that take less time to encode than the fork of a worker takes. */
enum { LFUNCS_SMALL = 64 << 10 };

/*
 * In the table: function -> slot + 1; 0 -> init, or its record. In the list:
 * slot + 1 -> function; -(slot + 1) -> its record, see cells.h; 0 -> the cells.
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
note(lua_State *L, int list, int f, struct fz_sched *sched)
{
	uint64_t version = fz_sched_version(sched);

	lua_rawgeti(L, list, 0);
	fz_cells_note(L, lua_gettop(L), f, version, fz_sched_oldest(sched));
	lua_remove(L, -2);
}

void
fz_lfuncs_note_init(lua_State *L, const struct fz_lfuncs *funcs, int tables,
    int list, struct fz_sched *sched)
{
	if (funcs->compares && lua_rawgeti(L, tables, 0) == LUA_TFUNCTION) {
		note(L, list, lua_gettop(L), sched);
		lua_rawseti(L, tables, 0);
		lua_pop(L, 1);
	} else if (funcs->compares) {
		lua_pop(L, 1);
	}
}

/* Whether the function in the slot is as it was noted. */
static bool
is_unchanged(lua_State *L, int list, int slot, bool look)
{
	bool same;

	if (lua_rawgeti(L, list, -(lua_Integer)slot - 1) != LUA_TTABLE)
		same = false; /* it was given up */
	else
		same = fz_cells_holds(L, lua_gettop(L), look);
	lua_pop(L, 1);
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
	if (lua_rawgeti(L, list, -(lua_Integer)slot - 1) == LUA_TTABLE) {
		fz_cells_drop(L, lua_gettop(L));
		lua_pushnil(L);
		lua_rawseti(L, list, -(lua_Integer)slot - 1);
	}
	lua_settop(L, top);
}

struct encoding {
	struct fz_buf out;
	struct fz_blob *blob;
	uint64_t had; /* all workers have the cells up to this version */
};

/*
 * (encoding, record | nil, function): protected, so that the buffer is given
 * back.
 */
static int
encode_body(lua_State *L)
{
	struct encoding *e = lua_touserdata(L, 1);
	struct fz_err err = { 0 };

	fz_codec_encode_shared(
	    L, 3, 1, &e->out, lua_isnil(L, 2) ? 0 : 2, e->had);
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

/*
 * The function at `f` for workers that have the cells up to `had`. With the
 * error on top and NULL if it cannot be sent.
 */
static struct fz_blob *
encode(lua_State *L, int record, int f, uint64_t had)
{
	struct encoding e = { FZ_BUF_INIT, NULL, had };
	int status;

	lua_pushcfunction(L, encode_body);
	lua_pushlightuserdata(L, &e);
	lua_pushvalue(L, record);
	lua_pushvalue(L, f);
	status = lua_pcall(L, 3, 0, 0);
	fz_buf_fini(&e.out);
	return status == LUA_OK ? e.blob : NULL;
}

/*
 * The code of the function at `f`. Without `send` there is no worker: one that
 * is forked later, when it may have changed, is to have it as it is now. That
 * is worth the time if it takes little; else, and if it cannot be sent, workers
 * inherit it as it is then.
 */
static struct fz_blob *
make_code(
    lua_State *L, int record, int f, const struct fz_sched *sched, bool send)
{
	int top = lua_gettop(L);
	struct fz_blob *code = NULL;

	if (send) {
		code = encode(L, record, f, fz_sched_oldest(sched));
		if (code == NULL)
			raise_unsendable(L);
	} else if (!lua_isnil(L, record) &&
		   fz_cells_size(L, record) <= LFUNCS_SMALL) {
		code = encode(L, record, f, 0);
		lua_settop(L, top);
	}
	return code;
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
 * Put the function at `f`, whose record or nil is on top, into a slot: the one
 * it has if that is not pinned, so that one that changes each time does not
 * take those of all others.
 */
static int
fill_slot(lua_State *L, struct fz_lfuncs *funcs, int tables, int list, int f,
    struct fz_sched *sched, bool send)
{
	struct fz_blob *code;
	int slot = known(L, tables, f);
	int record = lua_gettop(L);

	if (slot == -1 || funcs->pins[slot] != 0)
		slot = oldest(funcs);
	if (slot == -1)
		return -1;
	/*
	 * Should anything raise now, no function has the slot. What was there
	 * goes last: cells that both have keep their numbers.
	 */
	forget(L, tables, list, slot);
	lua_pushvalue(L, record);
	lua_rawseti(L, list, -(lua_Integer)slot - 1);
	lua_pushnil(L);
	lua_rawseti(L, list, slot + 1);
	funcs->bare[slot] = !funcs->compares || fz_cells_is_bare(L, record);
	code = make_code(L, record, f, sched, send);
	fz_sched_func(sched, (uint32_t)slot, code);
	lua_pushvalue(L, f);
	lua_rawseti(L, list, slot + 1);
	lua_pushvalue(L, f);
	lua_pushinteger(L, slot + 1);
	lua_rawset(L, tables);
	lua_pop(L, 1);
	return slot;
}

int
fz_lfuncs_slot(lua_State *L, struct fz_lfuncs *funcs, int tables, int list,
    int f, struct fz_sched *sched, bool send)
{
	int slot = known(L, tables, f);

	luaL_checkstack(L, 12, NULL);
	if (slot == -1 ||
	    (!funcs->bare[slot] && !is_unchanged(L, list, slot, true))) {
		if (!send)
			fz_lfuncs_note_init(L, funcs, tables, list, sched);
		if (funcs->compares)
			note(L, list, f, sched);
		else
			lua_pushnil(L);
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

/* ---- forks -------------------------------------------------------------- */

/* (list, version): protected */
static int
refresh_body(lua_State *L)
{
	lua_rawgeti(L, 1, 0);
	fz_cells_refresh(L, 3, *(const uint64_t *)lua_touserdata(L, 2));
	return 0;
}

/* The worker gets what was noted, and not what the function is now. */
static void
lose_changed(lua_State *L, const struct fz_lfuncs *funcs, int list,
    struct fz_sched *sched)
{
	for (int slot = 0; slot < FZ_WORKER_FUNCS; slot++) {
		if (funcs->used[slot] != 0 && !funcs->bare[slot] &&
		    !is_unchanged(L, list, slot, false))
			fz_sched_lose(sched, (uint32_t)slot);
	}
}

void
fz_lfuncs_before_fork(lua_State *L, const struct fz_lfuncs *funcs, int list,
    struct fz_sched *sched)
{
	uint64_t version;

	if (!funcs->compares || !lua_checkstack(L, 20))
		return;
	version = fz_sched_version(sched);
	list = lua_absindex(L, list);
	lua_pushcfunction(L, refresh_body);
	lua_pushvalue(L, list);
	lua_pushlightuserdata(L, &version);
	if (lua_pcall(L, 2, 0, 0) != LUA_OK) { /* no memory */
		lua_pop(L, 1);
		lua_rawgeti(L, list, 0);
		fz_cells_doubt(L, lua_gettop(L), version);
		lua_pop(L, 1);
	}
	lose_changed(L, funcs, list, sched);
}

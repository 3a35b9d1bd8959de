#include "bind/jobs/lfuncs.h"

#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "codec/codec.h"
#include "sched/batch_pool.h"
#include "value/cells.h"
#include "value/lerror.h"
#include "wire/blob.h"

/*
 * A function with at most this number of bytes is encoded even if no worker
 * exists, because this takes less time than the fork of a worker.
 */
enum { LFUNCS_SMALL = 64 << 10 };

/*
 * The two tables of a pool. A snapshot (cells.h) contains the state that a
 * function and its upvalues had when the function got its entry. If `compares`
 * is false, there are no snapshots.
 *
 *   table  key           value
 *   tables function      entry + 1
 *          0             init, or its snapshot once workers may be forked
 *          "lost"        { function without its entry -> snapshot, or true },
 *                        with weak keys
 *   list   entry + 1     function
 *          -(entry + 1)  snapshot of that function
 *          0             the cells of all snapshots
 *
 * pins[] counts the unfinished batches that use an entry. An entry with such
 * batches is not given to another function. again[] is set if the function of
 * an entry was called twice, or was in "lost" before. Only in this case the
 * snapshot is kept when the function loses the entry.
 */

static void
push_weak_keys(lua_State *L)
{
	lua_newtable(L);
	lua_createtable(L, 0, 1);
	lua_pushliteral(L, "k");
	lua_setfield(L, -2, "__mode");
	lua_setmetatable(L, -2);
}

void
fz_lfuncs_init(lua_State *L, struct fz_lfuncs *funcs, int init, bool compares)
{
	init = lua_absindex(L, init);
	memset(funcs->used, 0, sizeof(funcs->used));
	funcs->by_value = false;
	funcs->compares = compares;
	lua_createtable(L, 4, 4);
	lua_pushvalue(L, init);
	lua_rawseti(L, -2, 0);
	if (compares) {
		push_weak_keys(L);
		lua_setfield(L, -2, "lost");
	}
	lua_createtable(L, 4, 1);
	if (compares) {
		fz_cells_new(L);
		lua_rawseti(L, -2, 0);
	}
}

/* Push a new snapshot of the function at `f`. */
static void
note(lua_State *L, int list, int f, struct fz_batch_pool *batches)
{
	uint64_t version = fz_batch_pool_version(batches);

	lua_rawgeti(L, list, 0);
	fz_cells_note(L, lua_gettop(L), f, version);
	lua_remove(L, -2);
}

void
fz_lfuncs_note_init(lua_State *L, const struct fz_lfuncs *funcs, int tables,
    int list, struct fz_batch_pool *batches)
{
	if (funcs->compares && lua_rawgeti(L, tables, 0) == LUA_TFUNCTION) {
		note(L, list, lua_gettop(L), batches);
		lua_rawseti(L, tables, 0);
		lua_pop(L, 1);
	} else if (funcs->compares) {
		lua_pop(L, 1);
	}
}

/* Whether the function in the entry still has the state in its snapshot. */
static bool
is_unchanged(lua_State *L, int list, int entry, bool compare)
{
	bool same;

	if (lua_rawgeti(L, list, -(lua_Integer)entry - 1) != LUA_TTABLE)
		same = false; /* the snapshot was dropped */
	else
		same = fz_cells_holds(L, lua_gettop(L), compare);
	lua_pop(L, 1);
	return same;
}

/* The least recently used entry that is not pinned, or -1. */
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

/*
 * Called when the function at `f` loses its entry. The snapshot of the function
 * is on top, and the table "lost" below it; both are popped. If the function
 * was called again, "lost" keeps the snapshot as long as the script keeps the
 * function, and the snapshot keeps the cells that workers know. Otherwise the
 * snapshot is dropped at once. Many functions are called once and are then
 * garbage, which the collector may free late.
 */
static void
lose_entry(lua_State *L, const struct fz_lfuncs *funcs, int f, int entry)
{
	if (!funcs->again[entry] && lua_istable(L, -1)) {
		fz_cells_drop(L, lua_gettop(L));
		lua_pop(L, 1);
		lua_pushboolean(L, true);
	}
	lua_pushvalue(L, f);
	lua_insert(L, -2);
	lua_rawset(L, -3);
	lua_pop(L, 1);
}

/*
 * Whether the function at `f` has lost an entry before. If so, its old snapshot
 * is removed from "lost", because the function has a new snapshot.
 */
static bool
has_lost_entry(lua_State *L, int tables, int f)
{
	int top = lua_gettop(L);
	bool found = false;

	if (lua_getfield(L, tables, "lost") == LUA_TTABLE) {
		lua_pushvalue(L, f);
		found = lua_rawget(L, top + 1) != LUA_TNIL;
	}
	if (found) {
		lua_pushvalue(L, f);
		lua_pushboolean(L, true);
		lua_rawset(L, top + 1);
	}
	lua_settop(L, top);
	return found;
}

/* Remove the function from its entry, because another one will use it. */
static void
empty_entry(lua_State *L, const struct fz_lfuncs *funcs, int tables, int list,
    int entry)
{
	int top = lua_gettop(L);
	lua_Integer i = (lua_Integer)entry + 1;

	if (lua_rawgeti(L, list, i) == LUA_TFUNCTION) {
		lua_pushvalue(L, -1);
		lua_rawget(L, tables);
		if (lua_tointeger(L, -1) == i) {
			lua_pushvalue(L, top + 1);
			lua_pushnil(L);
			lua_rawset(L, tables);
		}
		if (lua_getfield(L, tables, "lost") == LUA_TTABLE) {
			lua_rawgeti(L, list, -i);
			lose_entry(L, funcs, top + 1, entry);
		}
	}
	lua_pushnil(L);
	lua_rawseti(L, list, i);
	lua_pushnil(L);
	lua_rawseti(L, list, -i);
	lua_settop(L, top);
}

struct encoding {
	struct fz_buf out;
	uint64_t had; /* all workers have the cells up to this version */
};

/* encode_body(encoding, snapshot | nil, function): protected */
static int
encode_body(lua_State *L)
{
	struct encoding *e = lua_touserdata(L, 1);

	fz_codec_encode_shared(
	    L, 3, 1, &e->out, lua_isnil(L, 2) ? 0 : 2, e->had);
	return 0;
}

/*
 * Raise the error on top. Its message begins with the path of a value inside
 * the function, so put "the function" before the path.
 */
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
 * Encode the function at `f`. Cells up to version e->had are not encoded,
 * because the workers have them. Returns false with an error on top if the
 * function cannot be sent. The caller frees the buffer.
 */
static bool
encode(lua_State *L, int snapshot, int f, struct encoding *e)
{
	lua_pushcfunction(L, encode_body);
	lua_pushlightuserdata(L, e);
	lua_pushvalue(L, snapshot);
	lua_pushvalue(L, f);
	return lua_pcall(L, 3, 0, 0) == LUA_OK;
}

/*
 * Encode the function at `f` to `*code`. With `send`, returns false with an
 * error on top if that fails. Without `send` no worker exists yet, and `*code`
 * is sent only if the function changes before the first fork. A function that
 * takes long to encode, or cannot be encoded, gets no code: workers inherit the
 * function as it is at the fork.
 */
static bool
make_code(lua_State *L, int snapshot, int f,
    const struct fz_batch_pool *batches, bool send, struct fz_blob **code)
{
	struct encoding e = { FZ_BUF_INIT, 0 };
	struct fz_err err = { 0 };
	bool encoded;

	*code = NULL;
	if (send)
		e.had = fz_batch_pool_oldest(batches);
	else if (lua_isnil(L, snapshot) ||
		 fz_cells_size(L, snapshot) > LFUNCS_SMALL)
		return true;
	encoded = encode(L, snapshot, f, &e);
	if (encoded)
		*code = fz_blob_new(e.out.data, e.out.len, &err);
	if (encoded && *code == NULL)
		fz_lerror_push(L, err.kind, err.text);
	fz_buf_fini(&e.out);
	if (*code != NULL || send)
		return *code != NULL;
	lua_pop(L, 1);
	return true;
}

void
fz_lfuncs_push_code(
    lua_State *L, int snapshot, int f, const struct fz_batch_pool *batches)
{
	struct encoding e = { FZ_BUF_INIT, fz_batch_pool_oldest(batches) };

	snapshot = lua_absindex(L, snapshot);
	if (!encode(L, snapshot, f, &e)) {
		fz_buf_fini(&e.out);
		raise_unsendable(L);
	}
	lua_pushlstring(L, (const char *)e.out.data, e.out.len);
	fz_buf_fini(&e.out);
}

/* The entry of the function at `f`; -1: no entry. */
static int
entry_of(lua_State *L, int tables, int f)
{
	int entry;

	lua_pushvalue(L, f);
	lua_rawget(L, tables);
	entry = (int)lua_tointeger(L, -1) - 1;
	lua_pop(L, 1);
	return entry;
}

/*
 * Put the function at `f` into an entry. On top is the snapshot of the
 * function, or nil. The present entry of the function is reused unless it is
 * pinned, so that a function that changes at each call does not use up the
 * entries of other functions. Pops the snapshot, unless all entries are pinned.
 */
static int
fill_entry(lua_State *L, struct fz_lfuncs *funcs, int tables, int list, int f,
    struct fz_batch_pool *batches, bool send)
{
	struct fz_blob *code;
	int entry = entry_of(L, tables, f);
	int snapshot = lua_gettop(L);

	if (entry == -1 || funcs->pins[entry] != 0)
		entry = oldest(funcs);
	if (entry == -1)
		return -1;
	/*
	 * Pin the entry first, because an __fzpack may call other functions of
	 * the pool.
	 */
	funcs->pins[entry]++;
	funcs->used[entry] = ++funcs->now;
	empty_entry(L, funcs, tables, list, entry);
	funcs->again[entry] = has_lost_entry(L, tables, f);
	lua_pushvalue(L, snapshot);
	lua_rawseti(L, list, -(lua_Integer)entry - 1);
	funcs->bare[entry] = !funcs->compares || fz_cells_is_bare(L, snapshot);
	if (!make_code(L, snapshot, f, batches, send, &code)) {
		funcs->pins[entry]--; /* the entry stays empty */
		raise_unsendable(L);
	}
	fz_batch_pool_func(batches, (uint32_t)entry, code);
	lua_pushvalue(L, f);
	lua_rawseti(L, list, entry + 1);
	lua_pushvalue(L, f);
	lua_pushinteger(L, entry + 1);
	lua_rawset(L, tables);
	lua_pop(L, 1);
	return entry;
}

/* Pin and return the entry of a known, unchanged function; else return -1. */
static int
pin_known(lua_State *L, struct fz_lfuncs *funcs, int tables, int list, int f)
{
	int entry = entry_of(L, tables, f);

	if (entry == -1)
		return -1;
	/* pin first, because a finalizer may call functions of the pool */
	funcs->pins[entry]++;
	if (!funcs->bare[entry] && !is_unchanged(L, list, entry, true)) {
		funcs->pins[entry]--;
		return -1;
	}
	funcs->again[entry] = true;
	funcs->used[entry] = ++funcs->now;
	return entry;
}

int
fz_lfuncs_entry(lua_State *L, struct fz_lfuncs *funcs, int tables, int list,
    int f, struct fz_batch_pool *batches, bool send)
{
	int entry;

	send = send || funcs->by_value;
	luaL_checkstack(L, 12, NULL);
	entry = pin_known(L, funcs, tables, list, f);
	if (entry != -1)
		return entry;
	if (!send)
		fz_lfuncs_note_init(L, funcs, tables, list, batches);
	if (funcs->compares)
		note(L, list, f, batches);
	else
		lua_pushnil(L);
	return fill_entry(L, funcs, tables, list, f, batches, send);
}

void
fz_lfuncs_unpin(struct fz_lfuncs *funcs, int entry)
{
	funcs->pins[entry]--;
}

/* refresh_body(list, version). Called protected. */
static int
refresh_body(lua_State *L)
{
	lua_rawgeti(L, 1, 0);
	fz_cells_refresh(L, 3, *(const uint64_t *)lua_touserdata(L, 2));
	return 0;
}

/*
 * Mark the entries whose functions have changed. A new worker inherits the
 * changed function, but waiting calls need the version before the change.
 */
static void
lose_changed(lua_State *L, const struct fz_lfuncs *funcs, int list,
    struct fz_batch_pool *batches)
{
	for (int entry = 0; entry < FZ_WORKER_FUNCS; entry++) {
		if (funcs->used[entry] != 0 && !funcs->bare[entry] &&
		    !is_unchanged(L, list, entry, false))
			fz_batch_pool_lose(batches, (uint32_t)entry);
	}
}

void
fz_lfuncs_before_fork(lua_State *L, const struct fz_lfuncs *funcs, int list,
    struct fz_batch_pool *batches)
{
	uint64_t version;

	if (!funcs->compares || !lua_checkstack(L, 20))
		return;
	version = fz_batch_pool_version(batches);
	list = lua_absindex(L, list);
	lua_pushcfunction(L, refresh_body);
	lua_pushvalue(L, list);
	lua_pushlightuserdata(L, &version);
	if (lua_pcall(L, 2, 0, 0) != LUA_OK) { /* out of memory */
		lua_pop(L, 1);
		lua_rawgeti(L, list, 0);
		fz_cells_doubt(L, lua_gettop(L), version);
		lua_pop(L, 1);
	}
	lose_changed(L, funcs, list, batches);
}

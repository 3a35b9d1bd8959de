#include "value/cells.h"

#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "base/vec.h"
#include "os/process.h"
#include "value/cells_state.h"
#include "value/lerror.h"
#include "value/luserdata.h"
#include "value/upvalue.h"

enum { CELLS_MAX = 1 << 24 }; /* maximum number of cells of a pool */

/*
 * The address of this variable is the registry key of the metatable of
 * snapshots.
 */
static const char snapshot_key;

static int
cells_gc(lua_State *L)
{
	struct fz_cells *c = fz_cells_to(L, 1);

	fz_contents_fini(&c->contents, L);
	free(c->list);
	free(c->visits.items);
	memset(c, 0, sizeof(*c));
	return 0;
}

void
fz_cells_new(lua_State *L)
{
	struct fz_cells *c = lua_newuserdatauv(L, sizeof(*c), FZ_CELLS_NUSER);

	memset(c, 0, sizeof(*c));
	c->generation = fz_process.generation;
	fz_contents_init(&c->contents);
	for (int i = 1; i <= FZ_CELLS_NUSER; i++) {
		lua_newtable(L);
		lua_setiuservalue(L, -2, i);
	}
	fz_luserdata_finalize(L, cells_gc);
}

/* Raises an error; the result is for return statements of callers. */
static void *
no_memory(lua_State *L)
{
	fz_lerror_fail(
	    L, FZ_ERR_MEMORY, "not enough memory for the upvalues of a pool");
	return NULL;
}

void *
fz_cells_append(lua_State *L, struct fz_cells_list *list, size_t size)
{
	void *items = list->n < CELLS_MAX ? fz_vec_room(list->items, &list->cap,
						list->n + 1, size)
					  : NULL;

	if (items == NULL)
		return no_memory(L);
	list->items = items;
	return (char *)items + size * list->n++;
}

/* The cell with this number, created if it does not exist. */
static struct fz_cell *
at_number(lua_State *L, struct fz_cells *c, uint32_t number)
{
	struct fz_cell *list =
	    number < CELLS_MAX
		? fz_vec_room(c->list, &c->cap, number + 1, sizeof(*list))
		: NULL;

	if (list == NULL)
		return no_memory(L);
	c->list = list;
	for (; c->n <= number; c->n++)
		memset(&c->list[c->n], 0, sizeof(*c->list));
	return &c->list[number];
}

int64_t
fz_cells_number(lua_State *L, int cells, const void *id)
{
	int64_t number;

	lua_getiuservalue(L, cells, FZ_CELLS_INDEX);
	lua_rawgetp(L, -1, id);
	number = (int64_t)lua_tointeger(L, -1) - 1;
	lua_pop(L, 2);
	return number;
}

/*
 * Store in the list of holders a function whose first upvalue is the cell of
 * upvalue `i` of the function at `f`.
 */
static void
set_holder(lua_State *L, int cells, lua_Integer key, int f, int i)
{
	lua_getiuservalue(L, cells, FZ_CELLS_HOLDERS);
	/* an empty chunk has one upvalue, which can hold the cell */
	if (luaL_loadbufferx(L, "", 0, "=cell", "t") != LUA_OK)
		lua_error(L);
	lua_upvaluejoin(L, -1, 1, f, i);
	lua_rawseti(L, -2, key);
	lua_pop(L, 1);
}

uint32_t
fz_cells_assign_number(lua_State *L, int cells, int f, int i)
{
	struct fz_cells *c = fz_cells_to(L, cells);
	uint32_t number = c->free != 0 ? c->free - 1 : c->n;
	const void *id = fz_upvalue_id(L, f, i);

	set_holder(L, cells, (lua_Integer)number + 1, f, i);
	lua_getiuservalue(L, cells, FZ_CELLS_INDEX);
	lua_pushinteger(L, (lua_Integer)number + 1);
	lua_rawsetp(L, -2, id);
	lua_pop(L, 1);
	at_number(L, c, number);
	if (c->free != 0)
		c->free = c->list[number].next;
	c->list[number] = (struct fz_cell){ .used = true, .id = id };
	return number;
}

void
fz_cells_drop_root(lua_State *L, int roots, int notes, uint32_t number)
{
	lua_Integer key = (lua_Integer)number + 1;

	if (lua_rawgeti(L, notes, key) == LUA_TTABLE) {
		lua_pushvalue(L, -1);
		lua_rawget(L, roots);
		if (lua_tointeger(L, -1) == key) {
			lua_pushvalue(L, -2);
			lua_pushnil(L);
			lua_rawset(L, roots);
		}
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
}

void
fz_cells_set_note(lua_State *L, int notes, lua_Integer key)
{
	bool changes = !lua_isnil(L, -1);

	if (!changes) {
		changes = lua_rawgeti(L, notes, key) != LUA_TNIL;
		lua_pop(L, 1);
	}
	if (changes)
		lua_rawseti(L, notes, key);
	else
		lua_pop(L, 1);
}

static void
release(lua_State *L, int cells, uint32_t number)
{
	struct fz_cells *c = fz_cells_to(L, cells);
	lua_Integer key = (lua_Integer)number + 1;

	lua_getiuservalue(L, cells, FZ_CELLS_INDEX);
	lua_pushnil(L);
	lua_rawsetp(L, -2, c->list[number].id);
	lua_getiuservalue(L, cells, FZ_CELLS_HOLDERS);
	lua_pushnil(L);
	lua_rawseti(L, -2, key);
	lua_getiuservalue(L, cells, FZ_CELLS_ROOTS);
	lua_getiuservalue(L, cells, FZ_CELLS_NOTES);
	fz_cells_drop_root(L, lua_gettop(L) - 1, lua_gettop(L), number);
	for (int sign = -1; sign <= 1; sign += 2) {
		lua_pushnil(L);
		fz_cells_set_note(L, lua_gettop(L) - 1, sign * key);
	}
	lua_pop(L, 4);
	c->list[number] = (struct fz_cell){ .next = c->free };
	c->free = number + 1;
}

static struct fz_cells_snapshot *
to_snapshot(lua_State *L, int snapshot)
{
	struct fz_cells_snapshot *r;

	lua_rawgeti(L, snapshot, 0);
	r = lua_touserdata(L, -1);
	lua_pop(L, 1);
	return r;
}

bool
fz_cells_is_bare(lua_State *L, int snapshot)
{
	return to_snapshot(L, snapshot)->nups == 0;
}

uint64_t
fz_cells_size(lua_State *L, int snapshot)
{
	return to_snapshot(L, snapshot)->size;
}

const struct fz_cells_use *
fz_cells_use_of(const struct fz_cells_snapshot *r, const void *id)
{
	uint32_t low = 0, high = r->nuses;

	while (low < high) {
		uint32_t at = low + (high - low) / 2;

		if (r->uses[at].id == id)
			return &r->uses[at];
		if ((uintptr_t)r->uses[at].id < (uintptr_t)id)
			low = at + 1;
		else
			high = at;
	}
	return NULL;
}

const struct fz_cells_use *
fz_cells_find(lua_State *L, int snapshot, const void *id)
{
	return fz_cells_use_of(to_snapshot(L, snapshot), id);
}

const struct fz_cells_use *
fz_cells_find_root(lua_State *L, int snapshot, int idx)
{
	const struct fz_cells_snapshot *r = to_snapshot(L, snapshot);
	const struct fz_cells_use *use = NULL;

	lua_pushvalue(L, idx);
	if (lua_rawget(L, snapshot) == LUA_TNUMBER)
		use = &r->uses[-lua_tointeger(L, -1) - 1];
	lua_pop(L, 1);
	return use;
}

void
fz_cells_push_holder(lua_State *L, int snapshot, const struct fz_cells_use *use)
{
	lua_rawgeti(L, snapshot, 0);
	lua_getiuservalue(L, -1, 1);
	lua_getiuservalue(L, -1, FZ_CELLS_HOLDERS);
	lua_rawgeti(L, -1, (lua_Integer)use->number + 1);
	lua_replace(L, -4);
	lua_pop(L, 2);
}

/*
 * Release the cells of the snapshot whose userdata is on top. Does nothing if
 * all cells were freed. Does nothing in a worker, whose parent may still use
 * the cells.
 */
static void
drop(lua_State *L)
{
	struct fz_cells_snapshot *r = lua_touserdata(L, -1);
	int cells = lua_gettop(L) + 1;
	struct fz_cells *c;

	luaL_checkstack(L, 10, NULL);
	lua_getiuservalue(L, -1, 1);
	c = fz_cells_to(L, cells);
	if (c->list != NULL && c->generation == fz_process.generation) {
		for (uint32_t i = 0; i < r->nuses; i++) {
			if (--c->list[r->uses[i].number].nsnapshots == 0)
				release(L, cells, r->uses[i].number);
		}
		r->nuses = 0;
	}
	lua_pop(L, 1);
}

static int
snapshot_gc(lua_State *L)
{
	lua_settop(L, 1);
	drop(L);
	return 0;
}

void
fz_cells_drop(lua_State *L, int snapshot)
{
	lua_rawgeti(L, snapshot, 0);
	drop(L);
	lua_pop(L, 1);
}

void
fz_cells_push_snapshot_class(lua_State *L)
{
	if (lua_rawgetp(L, LUA_REGISTRYINDEX, &snapshot_key) == LUA_TTABLE)
		return;
	lua_pop(L, 1);
	lua_createtable(L, 0, 1);
	lua_pushcfunction(L, snapshot_gc);
	lua_setfield(L, -2, "__gc");
	lua_pushvalue(L, -1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &snapshot_key);
}

bool
fz_cells_join(lua_State *L, int cells, int f, int i, uint32_t number,
    uint64_t version, bool inherited)
{
	const struct fz_cells *c = fz_cells_to(L, cells);
	const struct fz_cell *cell;
	lua_Integer key = (lua_Integer)number + 1;

	if (number >= c->n)
		return false;
	cell = &c->list[number];
	if (cell->later == version)
		key = -key;
	else if (!cell->used || (cell->version != version && !inherited))
		return false;
	luaL_checkstack(L, 4, NULL);
	lua_getiuservalue(L, cells, FZ_CELLS_HOLDERS);
	lua_rawgeti(L, -1, key);
	lua_upvaluejoin(L, f, i, -1, 1);
	lua_pop(L, 2);
	return true;
}

void
fz_cells_add(
    lua_State *L, int cells, int f, int i, uint32_t number, uint64_t version)
{
	struct fz_cell *cell = at_number(L, fz_cells_to(L, cells), number);

	if (cell->version >= version || cell->later >= version)
		return;
	luaL_checkstack(L, 6, NULL);
	set_holder(L, cells, -(lua_Integer)number - 1, f, i);
	cell->later = version;
}

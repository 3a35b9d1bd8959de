#include "value/cells.h"

#include <string.h>

#include <lauxlib.h>

#include "value/cells_state.h"
#include "value/contents.h"
#include "value/garbage.h"
#include "value/upvalue.h"

enum {
	SMALL_STRING = 256, /* maximum number of bytes of a small string */
	/* maximum number of words in the sum of a small table */
	SMALL_SIZE = 128,
};

/*
 * Whether two values are the same. Numbers are compared by their bits: NaN
 * equals NaN, and -0.0 differs from 0.
 */
static bool
is_same(lua_State *L, int a, int b)
{
	lua_Number x, y;

	if (lua_type(L, a) != LUA_TNUMBER)
		return lua_rawequal(L, a, b);
	if (lua_type(L, b) != LUA_TNUMBER ||
	    lua_isinteger(L, a) != lua_isinteger(L, b))
		return false;
	if (lua_isinteger(L, a))
		return lua_tointeger(L, a) == lua_tointeger(L, b);
	x = lua_tonumber(L, a);
	y = lua_tonumber(L, b);
	return memcmp(&x, &y, sizeof(x)) == 0;
}

/* Whether the value at `v` is the noted value of the cell. */
static bool
is_noted(lua_State *L, int notes, uint32_t number, int v)
{
	bool same;

	lua_rawgeti(L, notes, (lua_Integer)number + 1);
	same = is_same(L, -1, v);
	lua_pop(L, 1);
	return same;
}

static bool
is_sum(const struct fz_contents_sum *a, const struct fz_contents_sum *b)
{
	return a->certain && b->certain && a->hash == b->hash;
}

/* Whether the value on top is the noted one and has equal contents. [-1] */
static bool
is_unchanged(lua_State *L, struct fz_cells *c, int notes, uint32_t number)
{
	const struct fz_cell *cell = &c->list[number];
	struct fz_contents_sum sum;
	bool same = is_noted(L, notes, number, lua_gettop(L));

	if (same && cell->deep) {
		sum = fz_contents_sum(&c->contents, L, lua_gettop(L), 0);
		same = is_sum(&sum, &cell->sum);
	}
	lua_pop(L, 1);
	return same;
}

/*
 * Whether the value can be sent in few bytes; `sum` is the contents sum
 * (value/contents.h) of the value; used only for a table.
 */
static bool
is_small(lua_State *L, int v, const struct fz_contents_sum *sum)
{
	switch (lua_type(L, v)) {
	case LUA_TNIL:
	case LUA_TBOOLEAN:
	case LUA_TNUMBER:
		return true;
	case LUA_TSTRING:
		return lua_rawlen(L, v) <= SMALL_STRING;
	case LUA_TTABLE:
		return !sum->opaque && 0 < sum->size && sum->size <= SMALL_SIZE;
	default:
		return false;
	}
}

/* Record that the table below the top belongs to the cell. */
static void
set_root(const struct fz_cells_context *k, uint32_t number, bool deep)
{
	lua_State *L = k->L;

	fz_cells_drop_root(L, k->roots, k->notes, number);
	if (!deep || !lua_istable(L, -2))
		return;
	lua_pushvalue(L, -2);
	/* unless the table belongs to another cell */
	if (lua_rawget(L, k->roots) == LUA_TNIL) {
		lua_pushvalue(L, -3);
		lua_pushinteger(L, (lua_Integer)number + 1);
		lua_rawset(L, k->roots);
	}
	lua_pop(L, 1);
}

bool
fz_cells_note_value(const struct fz_cells_context *k, uint32_t number)
{
	lua_State *L = k->L;
	struct fz_cells *c = k->c;
	lua_Integer key = (lua_Integer)number + 1;
	struct fz_contents_sum sum = { .certain = true };
	struct fz_cell *cell;
	int v = lua_gettop(L);
	bool deep = fz_contents_has(&c->contents, L, v), fresh;

	/* at v + 1: the list of fz_contents_sum(); nil without contents */
	if (deep) {
		lua_newtable(L);
		sum = fz_contents_sum(&c->contents, L, v, v + 1);
	} else {
		lua_pushnil(L);
	}
	cell = &c->list[number];
	fresh = cell->version == 0 || cell->deep != deep ||
		!is_noted(L, k->notes, number, v) ||
		(deep && !is_sum(&sum, &cell->sum));
	if (fresh)
		set_root(k, number, deep);
	cell->deep = deep;
	cell->linked = fz_cells_is_function(L, v);
	cell->small = is_small(L, v, &sum);
	cell->sum = sum;
	lua_pushvalue(L, v + 1);
	fz_cells_set_note(L, k->notes, -key);
	lua_pushvalue(L, v);
	fz_cells_set_note(L, k->notes, key);
	lua_remove(L, v);
	return fresh;
}

static uint64_t
mix(uint64_t sum, uint64_t word)
{
	sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	return sum ^ sum >> 29;
}

/* Continue the sum with the cells of the function on top. */
static uint64_t
add_links(const struct fz_cells_context *k, uint64_t sum)
{
	lua_State *L = k->L;
	const void *id;

	for (int i = 1; (id = fz_upvalue_id(L, -1, i)) != NULL; i++) {
		int64_t number = fz_cells_number(L, k->cells, id);

		if (number <
		    /*
		     * the upvalue was joined after the last walk, and is not
		     * noted yet
		     */
		    0) {
			sum = mix(sum, (uintptr_t)id);
			continue;
		}
		sum = mix(sum, (uint64_t)number);
		sum = mix(sum, k->c->list[number].version);
	}
	return sum;
}

uint64_t
fz_cells_links(const struct fz_cells_context *k, uint32_t number)
{
	lua_State *L = k->L;
	lua_Integer key = (lua_Integer)number + 1;
	uint64_t sum = 1;

	lua_rawgeti(L, k->notes, key);
	if (fz_cells_is_function(L, -1))
		sum = add_links(k, sum);
	lua_pop(L, 1);
	if (lua_rawgeti(L, k->notes, -key) == LUA_TTABLE) {
		for (lua_Integer j = 1; lua_rawgeti(L, -1, j) != LUA_TNIL;
		     j++) {
			if (fz_cells_is_function(L, -1))
				sum = add_links(k, sum);
			lua_pop(L, 1);
		}
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	return sum;
}

struct check {
	struct fz_cells *c;
	struct fz_cells_snapshot *r;
	int notes;
	bool compare;
};

/* Whether upvalue `i` of the function at the top is unchanged. */
static bool
use_holds(
    lua_State *L, const struct check *k, const struct fz_cells_use *use, int i)
{
	struct fz_cell *cell = &k->c->list[use->number];

	if (cell->version != use->version)
		return false;
	if (!k->compare || cell->walk == k->c->walk)
		return true;
	cell->walk = k->c->walk;
	lua_getupvalue(L, -1, i);
	return is_unchanged(L, k->c, k->notes, use->number);
}

static bool
snapshot_holds(lua_State *L, int snapshot, const struct check *k)
{
	const uint32_t *ups = fz_cells_ups(k->r);
	uint32_t at = 0;
	bool same = true;

	k->c->walk++;
	for (lua_Integer j = 1; same && at < k->r->nups; j++) {
		const void *id;

		lua_rawgeti(L, snapshot, j);
		for (int i = 1; same && (id = fz_upvalue_id(L, -1, i)) != NULL;
		     i++) {
			const struct fz_cells_use *use = &k->r->uses[ups[at++]];

			same = use->id == id && use_holds(L, k, use, i);
		}
		lua_pop(L, 1);
	}
	return same;
}

bool
fz_cells_holds(lua_State *L, int snapshot, bool compare)
{
	struct check k = { .compare = compare };
	struct fz_garbage *garbage;
	int top = lua_gettop(L);
	bool same;

	luaL_checkstack(L, 10, NULL);
	lua_rawgeti(L, snapshot, 0);
	k.r = lua_touserdata(L, -1);
	lua_getiuservalue(L, -1, 1);
	k.c = lua_touserdata(L, -1);
	lua_getiuservalue(L, -1, FZ_CELLS_NOTES);
	k.notes = lua_gettop(L);
	/* without a comparison nothing is allocated */
	if (!k.r->deep || !compare) {
		same = snapshot_holds(L, snapshot, &k);
	} else {
		garbage = fz_garbage_open(L);
		fz_garbage_delay(garbage, L);
		same = snapshot_holds(L, snapshot, &k);
		fz_garbage_catch_up(garbage, L);
	}
	lua_settop(L, top);
	return same;
}

/* Refresh one cell with functions. Returns whether its version has changed. */
static bool
refresh_links(const struct fz_cells_context *k, uint32_t number)
{
	struct fz_cell *cell = &k->c->list[number];
	uint64_t links;

	if (!cell->linked)
		return false;
	links = fz_cells_links(k, number);
	if (links == cell->links)
		return false;
	cell->links = links;
	if (cell->version == k->version)
		return false;
	cell->version = k->version;
	return true;
}

/*
 * Visit the cells in both directions until none changes. A change mostly
 * spreads along the order of the numbers, or against it.
 */
static void
refresh_all_links(const struct fz_cells_context *k)
{
	bool changed;

	do {
		changed = false;
		for (uint32_t n = k->c->n; n-- > 0;)
			changed = refresh_links(k, n) || changed;
		for (uint32_t n = 0; changed && n < k->c->n; n++)
			refresh_links(k, n);
	} while (changed);
}

/* Refresh a cell whose value is on top. Leaves values on the stack. */
static void
refresh_value(const struct fz_cells_context *k, uint32_t number)
{
	lua_State *L = k->L;
	struct fz_cell *cell = &k->c->list[number];

	lua_pushvalue(L, -1);
	if (is_unchanged(L, k->c, k->notes, number))
		return;
	fz_cells_note_value(k, number);
	if (lua_istable(L, -1)) {
		for (lua_Integer j = 1; lua_rawgeti(L, -1, j) != LUA_TNIL;
		     j++) {
			cell->linked =
			    cell->linked || fz_cells_is_function(L, -1);
			lua_pop(L, 1);
		}
	}
	cell->version = k->version;
}

void
fz_cells_refresh(lua_State *L, int cells, uint64_t version)
{
	struct fz_cells *c = fz_cells_to(L, cells);
	struct fz_cells_context k = {
		.L = L, .cells = cells, .c = c, .version = version
	};
	int top = lua_gettop(L);

	luaL_checkstack(L, 20, NULL);
	fz_garbage_delay(fz_garbage_open(L), L);
	lua_getiuservalue(L, cells, FZ_CELLS_NOTES);
	k.notes = top + 1;
	lua_getiuservalue(L, cells, FZ_CELLS_ROOTS);
	k.roots = top + 2;
	lua_getiuservalue(L, cells, FZ_CELLS_HOLDERS);
	fz_contents_begin(&c->contents, L, NULL, NULL);
	for (uint32_t n = 0; n < c->n; n++) {
		if (!c->list[n].used)
			continue;
		/* cells that the first workers inherit are never freed */
		if (!c->forked)
			c->list[n].nsnapshots++;
		lua_rawgeti(L, top + 3, (lua_Integer)n + 1);
		lua_getupvalue(L, -1, 1);
		refresh_value(&k, n);
		lua_settop(L, top + 3);
	}
	c->forked = true;
	refresh_all_links(&k);
	lua_settop(L, top);
}

void
fz_cells_doubt(lua_State *L, int cells, uint64_t version)
{
	struct fz_cells *c = fz_cells_to(L, cells);

	for (uint32_t n = 0; n < c->n; n++)
		c->list[n].version = version;
}

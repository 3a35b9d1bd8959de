#include "value/cells.h"

#include <stdlib.h>

#include <lauxlib.h>

#include "value/cells_state.h"
#include "value/contents.h"
#include "value/garbage.h"
#include "value/upvalue.h"

/* The state of the walk that makes a snapshot. */
struct walk {
	struct fz_cells_context context;
	int snapshot;
	lua_Integer nfunctions;
	uint32_t nups;
	bool deep;
	uint64_t size;
	uint32_t at; /* number of the current cell */
};

static struct fz_cells_visit *
visit_at(const struct fz_cells *c, uint32_t i)
{
	return (struct fz_cells_visit *)c->visits.items + i;
}

/*
 * Set the version of the cell to the new one, because no worker has its value.
 */
static void
renew(const struct walk *w, uint32_t number)
{
	w->context.c->list[number].version = w->context.version;
}

/* Add the function at the top to the snapshot. */
static void
add_function(struct walk *w)
{
	lua_State *L = w->context.L;

	lua_pushvalue(L, -1);
	if (lua_rawget(L, w->snapshot) == LUA_TNIL) {
		lua_pushvalue(L, -2);
		lua_rawseti(L, w->snapshot, ++w->nfunctions);
		lua_pushvalue(L, -2);
		lua_pushinteger(L, w->nfunctions);
		lua_rawset(L, w->snapshot);
	}
	lua_pop(L, 1);
}

/* Add the functions in the list at the top, which may be nil. [-1] */
static void
add_functions(struct walk *w, struct fz_cell *cell)
{
	lua_State *L = w->context.L;

	if (lua_istable(L, -1)) {
		for (lua_Integer i = 1; lua_rawgeti(L, -1, i) != LUA_TNIL;
		     i++) {
			if (fz_cells_is_function(L, -1)) {
				cell->linked = true;
				add_function(w);
			}
			lua_pop(L, 1);
		}
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
}

/*
 * Called by fz_contents_sum() for each table: if it belongs to a cell, add a
 * function with that cell to the snapshot.
 */
static void
meet_table(lua_State *L, void *ctx)
{
	struct walk *w = ctx;
	lua_Integer key;

	lua_pushvalue(L, -1);
	lua_rawget(L, w->context.roots);
	key = lua_tointeger(L, -1);
	if (key != 0 && key != (lua_Integer)w->at + 1) {
		lua_getiuservalue(L, w->context.cells, FZ_CELLS_HOLDERS);
		lua_rawgeti(L, -1, key);
		add_function(w);
		lua_pop(L, 2);
	}
	lua_pop(L, 1);
}

/*
 * Add a cell when its first upvalue is met: upvalue `i` of the function at `f`.
 */
static void
add_cell(struct walk *w, uint32_t number, int f, int i)
{
	lua_State *L = w->context.L;
	struct fz_cells *c = w->context.c;
	struct fz_cells_visit *visit =
	    fz_cells_append(L, &c->visits, sizeof(*visit));
	struct fz_cell *cell = &c->list[number];

	*visit = (struct fz_cells_visit){ .number = number };
	cell->walk = c->walk;
	w->at = number;
	lua_getupvalue(L, f, i);
	if (fz_cells_is_function(L, -1))
		add_function(w);
	visit->fresh = fz_cells_note_value(&w->context, number);
	if (visit->fresh)
		renew(w, number);
	w->deep = w->deep || cell->deep;
	w->size += cell->sum.size * sizeof(uint64_t);
	add_functions(w, cell);
}

/* Add the cells of the function at the top. */
static void
add_upvalues(struct walk *w)
{
	lua_State *L = w->context.L;
	int f = lua_gettop(L), i = 1;
	const void *id;

	for (; (id = fz_upvalue_id(L, f, i)) != NULL; i++) {
		int64_t known = fz_cells_number(L, w->context.cells, id);
		uint32_t number = (uint32_t)known;

		if (known < 0)
			number =
			    fz_cells_assign_number(L, w->context.cells, f, i);
		if (w->context.c->list[number].walk != w->context.c->walk)
			add_cell(w, number, f, i);
	}
	w->nups += (uint32_t)i - 1;
}

/*
 * Give the cell of visit `i` the new version if its value has functions that
 * refer to a cell with the new version. Returns whether the cell has got it.
 */
static bool
follow_links(struct walk *w, uint32_t i)
{
	struct fz_cells *c = w->context.c;
	struct fz_cells_visit *visit = visit_at(c, i);

	if (!c->list[visit->number].linked || visit->fresh ||
	    fz_cells_links(&w->context, visit->number) ==
		c->list[visit->number].links)
		return false;
	renew(w, visit->number);
	visit->fresh = true;
	return true;
}

/*
 * Visit the cells in both directions until none changes. A change mostly
 * spreads along the order in which the cells were found, or against it.
 */
static void
follow_all_links(struct walk *w)
{
	uint32_t n = w->context.c->visits.n;
	bool changed;

	do {
		changed = false;
		for (uint32_t i = n; i-- > 0;)
			changed = follow_links(w, i) || changed;
		for (uint32_t i = 0; changed && i < n; i++)
			follow_links(w, i);
	} while (changed);
}

/*
 * For each cell of the walk: store the sum of its linked cells and increment
 * its number of snapshots.
 */
static void
count_snapshot(struct walk *w)
{
	struct fz_cells *c = w->context.c;

	for (uint32_t i = 0; i < c->visits.n; i++) {
		uint32_t number = visit_at(c, i)->number;
		struct fz_cell *cell = &c->list[number];

		if (cell->linked)
			cell->links = fz_cells_links(&w->context, number);
		cell->nsnapshots++;
	}
}

static int
by_id(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t)((const struct fz_cells_use *)a)->id;
	uintptr_t y = (uintptr_t)((const struct fz_cells_use *)b)->id;

	return x < y ? -1 : x > y;
}

static void
fill_uses(const struct walk *w, struct fz_cells_snapshot *r)
{
	const struct fz_cells *c = w->context.c;

	for (uint32_t i = 0; i < c->visits.n; i++) {
		uint32_t number = visit_at(c, i)->number;
		const struct fz_cell *cell = &c->list[number];

		r->uses[i] = (struct fz_cells_use){ .id = cell->id,
			.version = cell->version,
			.number = number,
			.small = cell->small };
	}
	r->nuses = c->visits.n;
	qsort(r->uses, r->nuses, sizeof(r->uses[0]), by_id);
}

static void
fill_ups(const struct walk *w, struct fz_cells_snapshot *r)
{
	lua_State *L = w->context.L;
	uint32_t *ups = fz_cells_ups(r);

	for (lua_Integer j = 1; j <= w->nfunctions; j++) {
		const void *id;

		lua_rawgeti(L, w->snapshot, j);
		for (int i = 1; (id = fz_upvalue_id(L, -1, i)) != NULL; i++)
			ups[r->nups++] =
			    (uint32_t)(fz_cells_use_of(r, id) - r->uses);
		lua_pop(L, 1);
	}
}

static void
fill_roots(const struct walk *w, const struct fz_cells_snapshot *r)
{
	lua_State *L = w->context.L;

	for (uint32_t i = 0; i < r->nuses; i++) {
		lua_Integer key = (lua_Integer)r->uses[i].number + 1;

		if (lua_rawgeti(L, w->context.notes, key) == LUA_TTABLE) {
			lua_pushvalue(L, -1);
			lua_rawget(L, w->context.roots);
			if (lua_tointeger(L, -1) == key) {
				lua_pushvalue(L, -2);
				lua_pushinteger(L, -(lua_Integer)i - 1);
				lua_rawset(L, w->snapshot);
			}
			lua_pop(L, 1);
		}
		lua_pop(L, 1);
	}
}

static void
keep_snapshot(struct walk *w)
{
	lua_State *L = w->context.L;
	uint32_t n = w->context.c->visits.n;
	struct fz_cells_snapshot *r = lua_newuserdatauv(L,
	    sizeof(*r) + n * sizeof(r->uses[0]) + w->nups * sizeof(uint32_t),
	    1);

	r->deep = w->deep;
	r->size = w->size;
	r->nups = r->nuses = 0;
	fz_cells_push_snapshot_class(L);
	lua_setmetatable(L, -2);
	lua_pushvalue(L, w->context.cells);
	lua_setiuservalue(L, -2, 1);
	count_snapshot(w);
	fill_uses(w, r);
	fill_ups(w, r);
	fill_roots(w, r);
	lua_rawseti(L, w->snapshot, 0);
}

void
fz_cells_note(lua_State *L, int cells, int f, uint64_t version)
{
	struct fz_cells *c = fz_cells_to(L, cells);
	struct fz_garbage *garbage = fz_garbage_open(L);
	struct walk w = { .context = { .L = L,
			      .cells = cells,
			      .c = c,
			      .version = version } };
	int top = lua_gettop(L);

	luaL_checkstack(L, 20, NULL);
	fz_garbage_delay(
	    /* delay the collector, because a finalizer might use the pool */
	    garbage, L);
	lua_newtable(L);
	w.snapshot = top + 1;
	lua_getiuservalue(L, cells, FZ_CELLS_NOTES);
	w.context.notes = top + 2;
	lua_getiuservalue(L, cells, FZ_CELLS_ROOTS);
	w.context.roots = top + 3;
	c->walk++;
	c->visits.n = 0;
	fz_contents_begin(&c->contents, L, meet_table, &w);
	lua_pushvalue(L, f);
	if (fz_cells_is_function(L, -1))
		add_function(&w);
	for (lua_Integer j = 1; j <= w.nfunctions; j++) {
		lua_settop(L, w.context.roots);
		lua_rawgeti(L, w.snapshot, j);
		add_upvalues(&w);
	}
	lua_settop(L, w.context.roots);
	follow_all_links(&w);
	keep_snapshot(&w);
	lua_settop(L, w.snapshot);
	fz_garbage_catch_up(garbage, L);
}

#include "bind/cells.h"

#include <stdlib.h>

#include <lauxlib.h>

#include "bind/cells_state.h"
#include "bind/contents.h"
#include "bind/garbage.h"

/* The making of one record. */
struct walk {
	struct fz_cells_look look;
	uint64_t had;
	int record;
	lua_Integer nfunctions;
	uint32_t nups;
	bool deep;
	uint64_t size;
};

static struct fz_cells_step *
step_at(const struct fz_cells *c, uint32_t i)
{
	return (struct fz_cells_step *)c->steps.items + i;
}

/* The cell has got a value that no worker has yet. */
static void
renew(const struct walk *w, uint32_t number)
{
	w->look.c->list[number].version = w->look.version;
}

/* ---- groups of copies --------------------------------------------------- */

/* The step that stands for the group of step `i`. */
static uint32_t
top_of(const struct fz_cells *c, uint32_t i)
{
	while (step_at(c, i)->up != i)
		i = step_at(c, i)->up;
	return i;
}

/* The cells of both steps go together. */
static void
join_groups(const struct fz_cells *c, uint32_t a, uint32_t b)
{
	step_at(c, top_of(c, a))->up = top_of(c, b);
}

/* ---- a record: what is reached ------------------------------------------ */

/* The function at the top belongs to the record. */
static void
add_function(struct walk *w)
{
	lua_State *L = w->look.L;

	lua_pushvalue(L, -1);
	if (lua_rawget(L, w->record) == LUA_TNIL) {
		lua_pushvalue(L, -2);
		lua_rawseti(L, w->record, ++w->nfunctions);
		lua_pushvalue(L, -2);
		lua_pushinteger(L, w->nfunctions);
		lua_rawset(L, w->record);
	}
	lua_pop(L, 1);
}

/* Those in the list at the top, or nil, belong to it; the list goes. */
static void
add_functions(struct walk *w, struct fz_cell *cell)
{
	lua_State *L = w->look.L;

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

/* For contents.h: the table that is walked was in the cell of that step. */
static void
note_pair(lua_State *L, void *ctx, uint32_t step)
{
	struct fz_cells *c = ctx;
	struct fz_cells_pair *pair = c->pairs.items;

	if (c->pairs.n != 0) {
		pair += c->pairs.n - 1;
		if (pair->a == step && pair->b == c->contents.owner)
			return;
	}
	pair = fz_cells_append(L, &c->pairs, sizeof(*pair));
	*pair = (struct fz_cells_pair){ step, c->contents.owner };
}

/* Upvalue `i` of the function at `f` is the first one of its cell. */
static void
add_cell(struct walk *w, uint32_t number, int f, int i)
{
	lua_State *L = w->look.L;
	struct fz_cells *c = w->look.c;
	struct fz_cells_step *step =
	    fz_cells_append(L, &c->steps, sizeof(*step));
	struct fz_cell *cell = &c->list[number];

	*step =
	    (struct fz_cells_step){ .number = number, .up = c->steps.n - 1 };
	cell->look = c->look;
	cell->step = c->contents.owner = c->steps.n - 1;
	lua_getupvalue(L, f, i);
	if (fz_cells_is_function(L, -1))
		add_function(w);
	step->fresh = fz_cells_note_value(&w->look, number);
	if (step->fresh)
		renew(w, number);
	w->deep = w->deep || cell->deep;
	w->size += cell->sum.size * sizeof(uint64_t);
	add_functions(w, cell);
}

/* Look at the upvalues of the function at the top. */
static void
add_upvalues(struct walk *w)
{
	lua_State *L = w->look.L;
	int f = lua_gettop(L), i = 1;
	const void *id;

	for (; (id = lua_upvalueid(L, f, i)) != NULL; i++) {
		int64_t known = fz_cells_number(L, w->look.cells, id);
		uint32_t number = (uint32_t)known;

		if (known < 0)
			number = fz_cells_take(L, w->look.cells, f, i, true);
		if (w->look.c->list[number].look != w->look.c->look)
			add_cell(w, number, f, i);
	}
	w->nups += (uint32_t)i - 1;
}

/* ---- a record: what has changed with it --------------------------------- */

/* What fz_cells_links() calls. */
struct linked {
	struct fz_cells *c;
	struct fz_cells_step *step;
};

/* A cell goes with the copies that a function in it refers to. */
static void
meet_link(void *ctx, uint32_t number)
{
	const struct linked *k = ctx;
	uint32_t other = k->c->list[number].step;

	if (!step_at(k->c, other)->copied)
		return;
	join_groups(k->c, k->c->list[k->step->number].step, other);
	k->step->copied = true;
}

/* A cell has changed, or is a copy, if a cell of a function in it is. */
static bool
follow_links(struct walk *w)
{
	struct fz_cells *c = w->look.c;
	bool changed = false;

	for (uint32_t i = c->steps.n; i-- > 0;) {
		struct fz_cells_step *step = step_at(c, i);
		struct linked linked = { c, step };
		bool copied = step->copied;
		uint64_t links;

		if (!c->list[step->number].linked)
			continue;
		links =
		    fz_cells_links(&w->look, step->number, meet_link, &linked);
		if (!step->fresh && links != c->list[step->number].links) {
			renew(w, step->number);
			step->fresh = changed = true;
		}
		changed = changed || step->copied != copied;
	}
	return changed;
}

/* Groups of cells with tables in common are copied, unless all inherit them. */
static bool
part_pairs(struct walk *w)
{
	struct fz_cells *c = w->look.c;
	bool changed = false;

	for (uint32_t i = 0; i < c->pairs.n; i++) {
		const struct fz_cells_pair *pair =
		    (struct fz_cells_pair *)c->pairs.items + i;
		struct fz_cells_step *a = step_at(c, pair->a);
		struct fz_cells_step *b = step_at(c, pair->b);

		if (!a->copied && !b->copied &&
		    c->list[a->number].version <= w->had &&
		    c->list[b->number].version <= w->had)
			continue;
		join_groups(c, pair->a, pair->b);
		changed = changed || !a->copied || !b->copied;
		a->copied = b->copied = true;
	}
	return changed;
}

/* All is known of the cells: count the record with them. */
static void
count_record(struct walk *w)
{
	struct fz_cells *c = w->look.c;

	for (uint32_t i = 0; i < c->steps.n; i++) {
		struct fz_cells_step *step = step_at(c, i);
		struct fz_cell *cell = &c->list[step->number];

		if (cell->linked)
			cell->links =
			    fz_cells_links(&w->look, step->number, NULL, NULL);
		cell->nrecords++;
		if (step->copied)
			step_at(c, top_of(c, i))->group += fz_cells_mix(
			    fz_cells_mix(1, step->number), cell->version);
	}
}

/* ---- a record: what is kept of it --------------------------------------- */

/* The number of the copy of a cell that goes with such a group. */
static uint32_t
copy_cell(struct walk *w, uint32_t number, uint64_t group)
{
	lua_State *L = w->look.L;
	struct fz_cells *c = w->look.c;
	struct fz_cell *copy;
	uint32_t i = c->list[number].copies;

	while (i != 0 && c->list[i - 1].group != group)
		i = c->list[i - 1].next;
	if (i != 0) {
		c->list[i - 1].nrecords++;
		return i - 1;
	}
	lua_getiuservalue(L, w->look.cells, FZ_CELLS_HOLDERS);
	lua_rawgeti(L, -1, (lua_Integer)number + 1);
	i = fz_cells_take(L, w->look.cells, lua_gettop(L), 1, false);
	lua_pop(L, 2);
	copy = &c->list[i];
	copy->version = w->look.version;
	copy->base = number + 1;
	copy->base_version = c->list[number].version;
	copy->group = group;
	copy->nrecords = 1;
	copy->next = c->list[number].copies;
	c->list[number].copies = i + 1;
	return i;
}

static int
by_id(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t)((const struct fz_cells_use *)a)->id;
	uintptr_t y = (uintptr_t)((const struct fz_cells_use *)b)->id;

	return x < y ? -1 : x > y;
}

/* The uses; the steps then have the index of each as their number. */
static void
fill_uses(struct walk *w, struct fz_cells_record *r)
{
	struct fz_cells *c = w->look.c;

	for (uint32_t i = 0; i < c->steps.n; i++) {
		const struct fz_cells_step *step = step_at(c, i);
		uint32_t number = step->number;

		if (step->copied)
			number = copy_cell(
			    w, number, step_at(c, top_of(c, i))->group);
		r->uses[i] = (struct fz_cells_use){
			.id = c->list[step->number].id,
			.version = c->list[number].version,
			.base_version = c->list[step->number].version,
			.number = number,
			.base = step->number,
			.small = c->list[step->number].small,
		};
	}
	r->nuses = c->steps.n;
	qsort(r->uses, r->nuses, sizeof(r->uses[0]), by_id);
	for (uint32_t i = 0; i < r->nuses; i++)
		step_at(c, c->list[r->uses[i].base].step)->number = i;
}

static void
fill_ups(struct walk *w, struct fz_cells_record *r)
{
	lua_State *L = w->look.L;
	const struct fz_cells *c = w->look.c;
	uint32_t *ups = fz_cells_ups(r);

	for (lua_Integer j = 1; j <= w->nfunctions; j++) {
		const void *id;

		lua_rawgeti(L, w->record, j);
		for (int i = 1; (id = lua_upvalueid(L, -1, i)) != NULL; i++) {
			int64_t number = fz_cells_number(L, w->look.cells, id);

			ups[r->nups++] =
			    step_at(c, c->list[number].step)->number;
		}
		lua_pop(L, 1);
	}
}

static void
keep_record(struct walk *w)
{
	lua_State *L = w->look.L;
	uint32_t n = w->look.c->steps.n;
	struct fz_cells_record *r = lua_newuserdatauv(L,
	    sizeof(*r) + n * sizeof(r->uses[0]) + w->nups * sizeof(uint32_t),
	    1);

	r->deep = w->deep;
	r->size = w->size;
	r->nups = r->nuses = 0;
	lua_pushvalue(L, w->look.cells);
	lua_setiuservalue(L, -2, 1);
	count_record(w);
	fill_uses(w, r);
	fill_ups(w, r);
	lua_rawseti(L, w->record, 0);
}

void
fz_cells_note(lua_State *L, int cells, int f, uint64_t version, uint64_t had)
{
	struct fz_cells *c = fz_cells_to(L, cells);
	struct fz_garbage *garbage = fz_garbage_open(L);
	struct walk w = { .look = { L, cells, c, 0, version }, .had = had };
	int top = lua_gettop(L);
	bool changed;

	luaL_checkstack(L, 20, NULL);
	fz_garbage_delay(garbage, L); /* a finalizer might use the pool */
	lua_newtable(L);
	w.record = top + 1;
	lua_getiuservalue(L, cells, FZ_CELLS_NOTES);
	w.look.notes = top + 2;
	c->look++;
	c->steps.n = c->pairs.n = 0;
	fz_contents_begin(&c->contents, L, note_pair, c);
	lua_pushvalue(L, f);
	if (fz_cells_is_function(L, -1))
		add_function(&w);
	for (lua_Integer j = 1; j <= w.nfunctions; j++) {
		lua_settop(L, w.look.notes);
		lua_rawgeti(L, w.record, j);
		add_upvalues(&w);
	}
	lua_settop(L, w.look.notes);
	do {
		changed = follow_links(&w);
		changed = part_pairs(&w) || changed;
	} while (changed);
	keep_record(&w);
	lua_settop(L, w.record);
	fz_garbage_catch_up(garbage, L);
}

#include "bind/cells.h"

#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "bind/cells_state.h"
#include "bind/contents.h"
#include "bind/garbage.h"

enum {
	SMALL_STRING = 256, /* bytes */
	SMALL_SIZE = 128,   /* words that a table and all in it takes */
};

/* What one look at the cells works with. */
struct walk {
	lua_State *L;
	int cells;
	struct fz_cells *c;
	int notes;
	uint64_t version, had;
	/* For a record: */
	int record;
	lua_Integer nfunctions;
	uint32_t nups;
	bool deep;
	uint64_t size;
};

static bool
is_lua_function(lua_State *L, int idx)
{
	return lua_isfunction(L, idx) && !lua_iscfunction(L, idx);
}

static struct fz_cells_step *
step_at(const struct fz_cells *c, uint32_t i)
{
	return (struct fz_cells_step *)c->steps.items + i;
}

/* ---- values ------------------------------------------------------------- */

/*
 * Whether two values are the same one. Numbers are by their bits: NaN is NaN,
 * and -0.0 is another one than 0.
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

/* Whether the value at `v` is the one that was noted. */
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

/* Whether the value on top, which goes, is as it was noted. */
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

/* Whether the value at `v` can be sent, in a few bytes; a table has the sum. */
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

/*
 * Note the value on top, which goes. True if it is another one than before.
 * What its sum knows by address is left there, as a list or nil.
 */
static bool
note_value(struct walk *w, uint32_t number)
{
	lua_State *L = w->L;
	struct fz_cells *c = w->c;
	lua_Integer key = (lua_Integer)number + 1;
	struct fz_contents_sum sum = { .certain = true };
	struct fz_cell *cell;
	int v = lua_gettop(L);
	bool deep = fz_contents_has(&c->contents, L, v), fresh;

	if (deep) {
		lua_newtable(L);
		sum = fz_contents_sum(&c->contents, L, v, v + 1);
	} else {
		lua_pushnil(L);
	}
	cell = &c->list[number];
	fresh = cell->version == 0 || cell->deep != deep ||
		!is_noted(L, w->notes, number, v) ||
		(deep && !is_sum(&sum, &cell->sum));
	cell->deep = deep;
	cell->linked = is_lua_function(L, v);
	cell->small = is_small(L, v, &sum);
	cell->sum = sum;
	lua_pushvalue(L, v + 1);
	lua_rawseti(L, w->notes, -key);
	lua_pushvalue(L, v);
	lua_rawseti(L, w->notes, key);
	lua_remove(L, v);
	return fresh;
}

/* The cell has got a value that no worker has yet. */
static void
renew(const struct walk *w, uint32_t number)
{
	w->c->list[number].version = w->version;
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

/* ---- functions in cells ------------------------------------------------- */

static uint64_t
mix(uint64_t sum, uint64_t word)
{
	sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	return sum ^ sum >> 29;
}

/*
 * The sum goes on with the cells of the function on top. In the walk of a
 * record `step`, if it is not NULL, joins the groups of those that are copied.
 */
static uint64_t
add_links(const struct walk *w, uint64_t sum, struct fz_cells_step *step)
{
	lua_State *L = w->L;
	const struct fz_cells *c = w->c;
	const void *id;

	for (int i = 1; (id = lua_upvalueid(L, -1, i)) != NULL; i++) {
		int64_t number = fz_cells_number(L, w->cells, id);
		const struct fz_cell *cell;

		if (number < 0) { /* it was joined since, and not noted yet */
			sum = mix(sum, (uintptr_t)id);
			continue;
		}
		cell = &c->list[number];
		sum = mix(mix(sum, (uint64_t)number), cell->version);
		if (step == NULL || !step_at(c, cell->step)->copied)
			continue;
		join_groups(c, c->list[step->number].step, cell->step);
		step->copied = true;
	}
	return sum;
}

/* Of all functions in the cell, which it has. */
static uint64_t
sum_links(const struct walk *w, uint32_t number, struct fz_cells_step *step)
{
	lua_State *L = w->L;
	lua_Integer key = (lua_Integer)number + 1;
	uint64_t sum = 1;

	lua_rawgeti(L, w->notes, key);
	if (is_lua_function(L, -1))
		sum = add_links(w, sum, step);
	lua_pop(L, 1);
	if (lua_rawgeti(L, w->notes, -key) == LUA_TTABLE) {
		for (lua_Integer j = 1; lua_rawgeti(L, -1, j) != LUA_TNIL;
		     j++) {
			if (is_lua_function(L, -1))
				sum = add_links(w, sum, step);
			lua_pop(L, 1);
		}
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	return sum;
}

/* ---- a record: what is reached ------------------------------------------ */

/* The function at the top belongs to the record. */
static void
add_function(struct walk *w)
{
	lua_State *L = w->L;

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
	lua_State *L = w->L;

	if (lua_istable(L, -1)) {
		for (lua_Integer i = 1; lua_rawgeti(L, -1, i) != LUA_TNIL;
		     i++) {
			if (is_lua_function(L, -1)) {
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
	lua_State *L = w->L;
	struct fz_cells *c = w->c;
	struct fz_cells_step *step =
	    fz_cells_append(L, &c->steps, sizeof(*step));
	struct fz_cell *cell = &c->list[number];

	*step = (struct fz_cells_step){ .number = number,
		.up = c->steps.n - 1 };
	cell->look = c->look;
	cell->step = c->contents.owner = c->steps.n - 1;
	lua_getupvalue(L, f, i);
	if (is_lua_function(L, -1))
		add_function(w);
	step->fresh = note_value(w, number);
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
	lua_State *L = w->L;
	int f = lua_gettop(L), i = 1;
	const void *id;

	for (; (id = lua_upvalueid(L, f, i)) != NULL; i++) {
		int64_t known = fz_cells_number(L, w->cells, id);
		uint32_t number = (uint32_t)known;

		if (known < 0)
			number = fz_cells_take(L, w->cells, f, i, true);
		if (w->c->list[number].look != w->c->look)
			add_cell(w, number, f, i);
	}
	w->nups += (uint32_t)i - 1;
}

/* ---- a record: what has changed with it --------------------------------- */

/* A cell has changed, or is a copy, if a cell of a function in it is. */
static bool
follow_links(struct walk *w)
{
	struct fz_cells *c = w->c;
	bool changed = false;

	for (uint32_t i = c->steps.n; i-- > 0;) {
		struct fz_cells_step *step = step_at(c, i);
		const struct fz_cell *cell = &c->list[step->number];
		bool copied = step->copied;
		uint64_t links;

		if (!cell->linked)
			continue;
		links = sum_links(w, step->number, step);
		if (!step->fresh && links != cell->links) {
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
	struct fz_cells *c = w->c;
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
	struct fz_cells *c = w->c;

	for (uint32_t i = 0; i < c->steps.n; i++) {
		struct fz_cells_step *step = step_at(c, i);
		struct fz_cell *cell = &c->list[step->number];

		if (cell->linked)
			cell->links = sum_links(w, step->number, NULL);
		cell->nrecords++;
		if (step->copied)
			step_at(c, top_of(c, i))->group +=
			    mix(mix(1, step->number), cell->version);
	}
}

/* ---- a record: what is kept of it --------------------------------------- */

/* The number of the copy of a cell that goes with such a group. */
static uint32_t
copy_cell(struct walk *w, uint32_t number, uint64_t group)
{
	lua_State *L = w->L;
	struct fz_cells *c = w->c;
	struct fz_cell *copy;
	uint32_t i = c->list[number].copies;

	while (i != 0 && c->list[i - 1].group != group)
		i = c->list[i - 1].next;
	if (i != 0) {
		c->list[i - 1].nrecords++;
		return i - 1;
	}
	lua_getiuservalue(L, w->cells, FZ_CELLS_HOLDERS);
	lua_rawgeti(L, -1, (lua_Integer)number + 1);
	i = fz_cells_take(L, w->cells, lua_gettop(L), 1, false);
	lua_pop(L, 2);
	copy = &c->list[i];
	copy->version = w->version;
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
	struct fz_cells *c = w->c;

	for (uint32_t i = 0; i < c->steps.n; i++) {
		const struct fz_cells_step *step = step_at(c, i);
		uint32_t number = step->number;

		if (step->copied)
			number = copy_cell(w, number,
			    step_at(c, top_of(c, i))->group);
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
	lua_State *L = w->L;
	const struct fz_cells *c = w->c;
	uint32_t *ups = fz_cells_ups(r);

	for (lua_Integer j = 1; j <= w->nfunctions; j++) {
		const void *id;

		lua_rawgeti(L, w->record, j);
		for (int i = 1; (id = lua_upvalueid(L, -1, i)) != NULL; i++) {
			int64_t number = fz_cells_number(L, w->cells, id);

			ups[r->nups++] =
			    step_at(c, c->list[number].step)->number;
		}
		lua_pop(L, 1);
	}
}

static void
keep_record(struct walk *w)
{
	lua_State *L = w->L;
	uint32_t n = w->c->steps.n;
	struct fz_cells_record *r = lua_newuserdatauv(L,
	    sizeof(*r) + n * sizeof(r->uses[0]) + w->nups * sizeof(uint32_t),
	    1);

	r->deep = w->deep;
	r->size = w->size;
	r->nups = r->nuses = 0;
	lua_pushvalue(L, w->cells);
	lua_setiuservalue(L, -2, 1);
	count_record(w);
	fill_uses(w, r);
	fill_ups(w, r);
	lua_rawseti(L, w->record, 0);
}

void
fz_cells_note(
    lua_State *L, int cells, int f, uint64_t version, uint64_t had)
{
	struct fz_cells *c = fz_cells_to(L, cells);
	struct fz_garbage *garbage = fz_garbage_open(L);
	struct walk w = { .L = L,
		.cells = cells,
		.c = c,
		.version = version,
		.had = had };
	int top = lua_gettop(L);
	bool changed;

	luaL_checkstack(L, 20, NULL);
	fz_garbage_delay(garbage, L); /* a finalizer might use the pool */
	lua_newtable(L);
	w.record = top + 1;
	lua_getiuservalue(L, cells, FZ_CELLS_NOTES);
	w.notes = top + 2;
	c->look++;
	c->steps.n = c->pairs.n = 0;
	fz_contents_begin(&c->contents, L, note_pair, c);
	lua_pushvalue(L, f);
	if (is_lua_function(L, -1))
		add_function(&w);
	for (lua_Integer j = 1; j <= w.nfunctions; j++) {
		lua_settop(L, w.notes);
		lua_rawgeti(L, w.record, j);
		add_upvalues(&w);
	}
	lua_settop(L, w.notes);
	do {
		changed = follow_links(&w);
		changed = part_pairs(&w) || changed;
	} while (changed);
	keep_record(&w);
	lua_settop(L, w.record);
	fz_garbage_catch_up(garbage, L);
}

/* ---- whether all is as it was ------------------------------------------- */

struct check {
	struct fz_cells *c;
	struct fz_cells_record *r;
	int notes;
	bool look;
};

/* Whether upvalue `i` of the function at the top is. */
static bool
use_holds(lua_State *L, const struct check *k, const struct fz_cells_use *use,
    int i)
{
	struct fz_cell *cell = &k->c->list[use->base];

	if (cell->version != use->base_version ||
	    k->c->list[use->number].version != use->version)
		return false;
	if (!k->look || cell->look == k->c->look)
		return true;
	cell->look = k->c->look;
	lua_getupvalue(L, -1, i);
	return is_unchanged(L, k->c, k->notes, use->base);
}

static bool
record_holds(lua_State *L, int record, const struct check *k)
{
	const uint32_t *ups = fz_cells_ups(k->r);
	uint32_t at = 0;
	bool same = true;

	k->c->look++;
	for (lua_Integer j = 1; same && at < k->r->nups; j++) {
		const void *id;

		lua_rawgeti(L, record, j);
		for (int i = 1; same && (id = lua_upvalueid(L, -1, i)) != NULL;
		     i++) {
			const struct fz_cells_use *use =
			    &k->r->uses[ups[at++]];

			same = use->id == id && use_holds(L, k, use, i);
		}
		lua_pop(L, 1);
	}
	return same;
}

bool
fz_cells_holds(lua_State *L, int record, bool look)
{
	struct check k = { .look = look };
	struct fz_garbage *garbage;
	int top = lua_gettop(L);
	bool same;

	luaL_checkstack(L, 10, NULL);
	lua_rawgeti(L, record, 0);
	k.r = lua_touserdata(L, -1);
	lua_getiuservalue(L, -1, 1);
	k.c = lua_touserdata(L, -1);
	lua_getiuservalue(L, -1, FZ_CELLS_NOTES);
	k.notes = lua_gettop(L);
	if (!k.r->deep || !look) { /* nothing is allocated */
		same = record_holds(L, record, &k);
	} else {
		garbage = fz_garbage_open(L);
		fz_garbage_delay(garbage, L);
		same = record_holds(L, record, &k);
		fz_garbage_catch_up(garbage, L);
	}
	lua_settop(L, top);
	return same;
}

/* ---- forks -------------------------------------------------------------- */

/* Of all cells with functions. */
static bool
refresh_links(struct walk *w)
{
	struct fz_cells *c = w->c;
	bool changed = false;

	for (uint32_t n = c->n; n-- > 0;) {
		struct fz_cell *cell = &c->list[n];
		uint64_t links;

		if (!cell->linked)
			continue;
		links = sum_links(w, n, NULL);
		if (links == cell->links)
			continue;
		cell->links = links;
		if (cell->version != w->version) {
			renew(w, n);
			changed = true;
		}
	}
	return changed;
}

/* A copy has changed with its base, and with it all that it goes with. */
static void
refresh_copies(struct walk *w)
{
	struct fz_cells *c = w->c;

	for (uint32_t n = 0; n < c->n; n++) {
		const struct fz_cell *copy = &c->list[n];

		if (copy->base == 0 || copy->version == w->version ||
		    c->list[copy->base - 1].version == copy->base_version)
			continue;
		for (uint32_t i = 0; i < c->n; i++) {
			if (c->list[i].base != 0 &&
			    c->list[i].group == copy->group)
				renew(w, i);
		}
	}
}

static void
refresh_value(struct walk *w, uint32_t number)
{
	lua_State *L = w->L;
	struct fz_cell *cell = &w->c->list[number];

	lua_pushvalue(L, -1);
	if (is_unchanged(L, w->c, w->notes, number)) {
		lua_pop(L, 1);
		return;
	}
	note_value(w, number);
	if (lua_istable(L, -1)) {
		for (lua_Integer j = 1; lua_rawgeti(L, -1, j) != LUA_TNIL; j++) {
			cell->linked = cell->linked || is_lua_function(L, -1);
			lua_pop(L, 1);
		}
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	renew(w, number);
}

void
fz_cells_refresh(lua_State *L, int cells, uint64_t version)
{
	struct fz_cells *c = fz_cells_to(L, cells);
	struct walk w = {
		.L = L, .cells = cells, .c = c, .version = version
	};
	int top = lua_gettop(L);

	luaL_checkstack(L, 20, NULL);
	fz_garbage_delay(fz_garbage_open(L), L);
	lua_getiuservalue(L, cells, FZ_CELLS_NOTES);
	w.notes = top + 1;
	lua_getiuservalue(L, cells, FZ_CELLS_HOLDERS);
	fz_contents_begin(&c->contents, L, NULL, NULL);
	for (uint32_t n = 0; n < c->n; n++) {
		if (!c->list[n].used || c->list[n].base != 0)
			continue;
		lua_rawgeti(L, top + 2, (lua_Integer)n + 1);
		lua_getupvalue(L, -1, 1);
		refresh_value(&w, n);
		lua_settop(L, top + 2);
	}
	while (refresh_links(&w))
		continue;
	refresh_copies(&w);
	lua_settop(L, top);
}

void
fz_cells_doubt(lua_State *L, int cells, uint64_t version)
{
	struct fz_cells *c = fz_cells_to(L, cells);

	for (uint32_t n = 0; n < c->n; n++)
		c->list[n].version = version;
}

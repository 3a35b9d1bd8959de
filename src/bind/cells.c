#include "bind/cells.h"

#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "base/err.h"
#include "bind/contents.h"
#include "bind/garbage.h"
#include "bind/lerror.h"

enum {
	CELLS_MAX = 1 << 24, /* numbers */
	CELLS_FIRST = 16,
};

/* User values of the userdata. */
enum {
	CELLS_HOLDERS = 1, /* number + 1 -> function whose 1st upvalue it is;
			      lua_upvalueid() -> number + 1 */
	CELLS_NOTES,       /* number + 1 -> its value; -(number + 1) -> list of
			      what its sum knows by address */
	CELLS_NUSER = CELLS_NOTES
};

struct cell {
	bool used;
	bool deep; /* `sum` is that of the value */
	uint32_t born;
	uint32_t version;
	uint32_t nrecords; /* that have it */
	uint32_t look;     /* the last one that came by */
	const void *id;
	struct fz_contents_sum sum;
};

struct cells {
	struct fz_contents contents;
	struct cell *list;
	uint32_t n, cap; /* numbers up to the highest that is used */
	uint32_t nfree;  /* below that */
	uint32_t look;
};

/*
 * A record is a table: the functions from 1 on, each one's place by itself, and
 * this userdata at 0.
 */
struct record {
	uint32_t version;
	bool deep; /* one of them is */
	uint32_t n;
	uint32_t numbers[]; /* of all upvalues of all functions, in order */
};

static struct cells *
to_cells(lua_State *L, int cells)
{
	return lua_touserdata(L, cells);
}

static int
cells_gc(lua_State *L)
{
	struct cells *c = to_cells(L, 1);

	fz_contents_fini(&c->contents, L);
	free(c->list);
	c->list = NULL;
	c->n = c->cap = 0;
	return 0;
}

void
fz_cells_new(lua_State *L)
{
	struct cells *c = lua_newuserdatauv(L, sizeof(*c), CELLS_NUSER);

	memset(c, 0, sizeof(*c));
	fz_contents_init(&c->contents);
	for (int i = 1; i <= CELLS_NUSER; i++) {
		lua_newtable(L);
		lua_setiuservalue(L, -2, i);
	}
	lua_createtable(L, 0, 1);
	lua_pushcfunction(L, cells_gc);
	lua_setfield(L, -2, "__gc");
	lua_setmetatable(L, -2);
}

static int
no_memory(lua_State *L)
{
	struct fz_err err;

	fz_err_nomem(&err, "the upvalues of a pool");
	return fz_lerror_raise(L, &err);
}

/* The one with that number, made if need be. */
static struct cell *
at_number(lua_State *L, struct cells *c, uint32_t number)
{
	uint32_t cap = c->cap != 0 ? c->cap : CELLS_FIRST;
	struct cell *list;

	if (number >= CELLS_MAX)
		no_memory(L);
	while (cap <= number)
		cap *= 2;
	if (cap != c->cap) {
		list = realloc(c->list, cap * sizeof(*list));
		if (list == NULL)
			no_memory(L);
		c->list = list;
		c->cap = cap;
	}
	for (; c->n <= number; c->n++) {
		memset(&c->list[c->n], 0, sizeof(*c->list));
		c->nfree++;
	}
	return &c->list[number];
}

static uint32_t
free_number(const struct cells *c)
{
	uint32_t i = c->n;

	if (c->nfree == 0)
		return i;
	while (c->list[--i].used)
		continue;
	return i;
}

/* Push a function whose only upvalue is number `i` of the one at `f`. */
static void
push_holder(lua_State *L, int f, int i)
{
	/* An empty chunk has one upvalue. */
	if (luaL_loadbufferx(L, "", 0, "=cell", "t") != LUA_OK)
		lua_error(L);
	lua_upvaluejoin(L, -1, 1, f, i);
}

/* Upvalue `i` of the function at `f` has the number from now on. */
static void
hold(lua_State *L, int cells, uint32_t number, int f, int i)
{
	struct cell *cell = &to_cells(L, cells)->list[number];

	lua_getiuservalue(L, cells, CELLS_HOLDERS);
	push_holder(L, f, i);
	lua_rawseti(L, -2, (lua_Integer)number + 1);
	if (cell->id != NULL) {
		lua_pushnil(L);
		lua_rawsetp(L, -2, cell->id);
	}
	cell->id = lua_upvalueid(L, f, i);
	lua_pushinteger(L, (lua_Integer)number + 1);
	lua_rawsetp(L, -2, cell->id);
	lua_pop(L, 1);
}

/* The number of an upvalue, or -1. */
static int64_t
find(lua_State *L, int cells, const void *id)
{
	int64_t number;

	lua_getiuservalue(L, cells, CELLS_HOLDERS);
	lua_rawgetp(L, -1, id);
	number = (int64_t)lua_tointeger(L, -1) - 1;
	lua_pop(L, 2);
	return number;
}

bool
fz_cells_find(
    lua_State *L, int cells, const void *id, struct fz_cells_name *name)
{
	int64_t number = find(L, cells, id);
	const struct cell *cell;

	if (number < 0)
		return false;
	cell = &to_cells(L, cells)->list[number];
	*name = (struct fz_cells_name){ (uint32_t)number, cell->born,
		cell->version };
	return true;
}

/* ---- records ------------------------------------------------------------ */

struct walk {
	lua_State *L;
	int cells;
	int record;
	lua_Integer nfunctions;
	uint32_t version;
	bool deep; /* an upvalue is */
};

static bool
is_lua_function(lua_State *L, int idx)
{
	return lua_isfunction(L, idx) && !lua_iscfunction(L, idx);
}

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

/* Those in the list at the top belong to it, too; the list goes. */
static void
add_functions(struct walk *w)
{
	lua_State *L = w->L;

	for (lua_Integer i = 1; lua_rawgeti(L, -1, i) != LUA_TNIL; i++) {
		if (is_lua_function(L, -1))
			add_function(w);
		lua_pop(L, 1);
	}
	lua_pop(L, 2);
}

/* The number of an upvalue, which it is given if need be. */
static uint32_t
number_of(struct walk *w, int f, int i)
{
	lua_State *L = w->L;
	int64_t known = find(L, w->cells, lua_upvalueid(L, f, i));
	struct cells *c = to_cells(L, w->cells);
	uint32_t number;
	struct cell *cell;

	if (known >= 0)
		return (uint32_t)known;
	number = free_number(c);
	cell = at_number(L, c, number);
	*cell = (struct cell){ .born = w->version };
	hold(L, w->cells, number, f, i);
	cell->used = true;
	c->nfree--;
	return number;
}

/* Note the value and what its sum found, which lie above the notes; all go. */
static void
note(lua_State *L, uint32_t number)
{
	lua_Integer key = (lua_Integer)number + 1;

	lua_rawseti(L, -3, -key);
	lua_rawseti(L, -2, key);
	lua_pop(L, 1);
}

/* Whether the value at `v` is the one that was noted in the table at `notes`.
 */
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

/* Look at an upvalue for the first time in this record. */
static void
note_cell(struct walk *w, uint32_t number, int f, int i)
{
	lua_State *L = w->L;
	struct cells *c = to_cells(L, w->cells);
	struct cell *cell = &c->list[number];
	struct fz_contents_sum sum = { 0, true };
	bool deep;
	int v;

	lua_getiuservalue(L, w->cells, CELLS_NOTES);
	lua_getupvalue(L, f, i);
	v = lua_gettop(L);
	deep = fz_contents_has(&c->contents, L, v);
	if (deep)
		lua_newtable(L);
	else
		lua_pushnil(L);
	if (deep)
		sum = fz_contents_sum(&c->contents, L, v, v + 1);
	if (cell->version == 0 || cell->deep != deep ||
	    !is_noted(L, v - 1, number, v) ||
	    (deep && !is_sum(&sum, &cell->sum)))
		cell->version = w->version;
	cell->deep = deep;
	w->deep = w->deep || deep;
	cell->sum = sum;
	if (is_lua_function(L, v)) {
		lua_pushvalue(L, v);
		add_function(w);
		lua_pop(L, 1);
	}
	if (deep) {
		lua_pushvalue(L, v + 1);
		add_functions(w);
	}
	note(L, number);
}

/* Look at the upvalues of the function at the top. Returns how many. */
static uint32_t
note_function(struct walk *w)
{
	lua_State *L = w->L;
	struct cells *c = to_cells(L, w->cells);
	int f = lua_gettop(L), i = 1;

	for (; lua_upvalueid(L, f, i) != NULL; i++) {
		uint32_t number = number_of(w, f, i);

		if (c->list[number].look == c->look)
			continue;
		c->list[number].look = c->look;
		c->list[number].nrecords++;
		note_cell(w, number, f, i);
	}
	return (uint32_t)i - 1;
}

/* The numbers of `n` upvalues go into the record. */
static void
note_numbers(struct walk *w, uint32_t n)
{
	lua_State *L = w->L;
	struct record *r =
	    lua_newuserdatauv(L, sizeof(*r) + n * sizeof(*r->numbers), 0);

	r->version = w->version;
	r->deep = w->deep;
	r->n = 0;
	for (lua_Integer j = 1; j <= w->nfunctions; j++) {
		const void *id;

		lua_rawgeti(L, w->record, j);
		for (int i = 1; (id = lua_upvalueid(L, -1, i)) != NULL; i++)
			r->numbers[r->n++] = (uint32_t)find(L, w->cells, id);
		lua_pop(L, 1);
	}
	lua_rawseti(L, w->record, 0);
}

void
fz_cells_note(lua_State *L, int cells, int f, uint32_t version)
{
	struct walk w = { .L = L, .cells = cells, .version = version };
	struct cells *c = to_cells(L, cells);
	struct fz_garbage *garbage = fz_garbage_open(L);
	uint32_t n = 0;

	luaL_checkstack(L, 20, NULL);
	lua_newtable(L);
	w.record = lua_gettop(L);
	if (lua_iscfunction(L, f)) {
		note_numbers(&w, 0);
		return;
	}
	fz_garbage_delay(garbage, L); /* a finalizer might use the pool */
	c->look++;
	fz_contents_begin(&c->contents, L);
	lua_pushvalue(L, f);
	add_function(&w);
	lua_settop(L, w.record);
	for (lua_Integer j = 1; j <= w.nfunctions; j++) {
		lua_rawgeti(L, w.record, j);
		n += note_function(&w);
		lua_settop(L, w.record);
	}
	note_numbers(&w, n);
	fz_garbage_catch_up(garbage, L);
}

static const struct record *
to_record(lua_State *L, int record)
{
	const struct record *r;

	lua_rawgeti(L, record, 0);
	r = lua_touserdata(L, -1);
	lua_pop(L, 1);
	return r;
}

/* Whether upvalue `i` of the function at the top is as it was noted. */
static bool
holds(lua_State *L, struct cells *c, int notes, uint32_t number, int i)
{
	const struct cell *cell = &c->list[number];
	struct fz_contents_sum sum;
	bool same;

	lua_getupvalue(L, -1, i);
	same = is_noted(L, notes, number, notes + 2);
	if (same && cell->deep) {
		sum = fz_contents_sum(&c->contents, L, notes + 2, 0);
		same = is_sum(&sum, &cell->sum);
	}
	lua_pop(L, 1);
	return same;
}

static bool
record_holds(lua_State *L, int cells, int record, const struct record *r)
{
	struct cells *c = to_cells(L, cells);
	uint32_t at = 0;
	bool same = true;
	int notes;

	c->look++;
	lua_getiuservalue(L, cells, CELLS_NOTES);
	notes = lua_gettop(L);
	for (lua_Integer j = 1; same && at < r->n; j++) {
		const void *id;

		lua_rawgeti(L, record, j);
		for (int i = 1; same && (id = lua_upvalueid(L, -1, i)) != NULL;
		     i++) {
			uint32_t number = r->numbers[at++];
			struct cell *cell = &c->list[number];

			same = cell->id == id && cell->version <= r->version &&
			       (cell->look == c->look ||
				   holds(L, c, notes, number, i));
			cell->look = c->look;
		}
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	return same;
}

bool
fz_cells_holds(lua_State *L, int cells, int record)
{
	const struct record *r = to_record(L, record);
	struct fz_garbage *garbage;
	bool same;

	if (r->n == 0)
		return true;
	luaL_checkstack(L, 8, NULL);
	if (!r->deep) /* nothing is allocated */
		return record_holds(L, cells, record, r);
	garbage = fz_garbage_open(L);
	fz_garbage_delay(garbage, L);
	same = record_holds(L, cells, record, r);
	fz_garbage_catch_up(garbage, L);
	return same;
}

/* No record has it: its number is free. */
static void
release(lua_State *L, int cells, uint32_t number)
{
	struct cells *c = to_cells(L, cells);
	struct cell *cell = &c->list[number];
	lua_Integer key = (lua_Integer)number + 1;

	lua_getiuservalue(L, cells, CELLS_HOLDERS);
	lua_pushnil(L);
	lua_rawsetp(L, -2, cell->id);
	lua_pushnil(L);
	lua_rawseti(L, -2, key);
	lua_getiuservalue(L, cells, CELLS_NOTES);
	lua_pushnil(L);
	lua_rawseti(L, -2, key);
	lua_pushnil(L);
	lua_rawseti(L, -2, -key);
	lua_pop(L, 2);
	memset(cell, 0, sizeof(*cell));
	c->nfree++;
}

void
fz_cells_drop(lua_State *L, int cells, int record)
{
	struct cells *c = to_cells(L, cells);
	const struct record *r = to_record(L, record);

	luaL_checkstack(L, 8, NULL);
	c->look++;
	for (uint32_t at = 0; at < r->n; at++) {
		struct cell *cell = &c->list[r->numbers[at]];

		if (cell->look == c->look || !cell->used)
			continue;
		cell->look = c->look;
		if (--cell->nrecords == 0)
			release(L, cells, r->numbers[at]);
	}
}

bool
fz_cells_is_bare(lua_State *L, int record)
{
	return to_record(L, record)->n == 0;
}

int
fz_cells_push_newer(lua_State *L, int cells, int record, uint32_t version)
{
	struct cells *c = to_cells(L, cells);
	const struct record *r = to_record(L, record);
	int n = 0;

	c->look++;
	lua_getiuservalue(L, cells, CELLS_HOLDERS);
	for (uint32_t at = 0; at < r->n; at++) {
		struct cell *cell = &c->list[r->numbers[at]];

		if (cell->look == c->look || cell->version <= version)
			continue;
		cell->look = c->look;
		luaL_checkstack(L, 4, "too many upvalues");
		lua_rawgeti(L, -1 - n, (lua_Integer)r->numbers[at] + 1);
		n++;
	}
	lua_remove(L, -1 - n);
	return n;
}

/* ---- in a worker -------------------------------------------------------- */

bool
fz_cells_join(
    lua_State *L, int cells, int f, int i, const struct fz_cells_name *name)
{
	struct cells *c = to_cells(L, cells);
	struct cell *cell = at_number(L, c, name->number);

	luaL_checkstack(L, 8, NULL);
	if (cell->used && cell->born == name->born) {
		lua_getiuservalue(L, cells, CELLS_HOLDERS);
		lua_rawgeti(L, -1, (lua_Integer)name->number + 1);
		lua_upvaluejoin(L, f, i, -1, 1);
		lua_pop(L, 2);
		return true;
	}
	hold(L, cells, name->number, f, i);
	if (!cell->used)
		c->nfree--;
	cell->used = true;
	cell->born = name->born;
	cell->version = 0;
	return false;
}

bool
fz_cells_update(lua_State *L, int cells, const struct fz_cells_name *name)
{
	struct cell *cell = &to_cells(L, cells)->list[name->number];

	if (cell->version >= name->version)
		return true;
	cell->version = name->version;
	return false;
}

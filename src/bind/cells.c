#include "bind/cells.h"

#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "base/err.h"
#include "bind/cells_state.h"
#include "bind/lerror.h"

enum {
	CELLS_MAX = 1 << 24, /* numbers */
	CELLS_FIRST = 16,
};

static int
cells_gc(lua_State *L)
{
	struct fz_cells *c = fz_cells_to(L, 1);

	fz_contents_fini(&c->contents, L);
	free(c->list);
	free(c->steps.items);
	free(c->pairs.items);
	memset(c, 0, sizeof(*c));
	return 0;
}

void
fz_cells_new(lua_State *L)
{
	struct fz_cells *c = lua_newuserdatauv(L, sizeof(*c), FZ_CELLS_NUSER);

	memset(c, 0, sizeof(*c));
	fz_contents_init(&c->contents);
	for (int i = 1; i <= FZ_CELLS_NUSER; i++) {
		lua_newtable(L);
		lua_setiuservalue(L, -2, i);
	}
	lua_createtable(L, 0, 1);
	lua_pushcfunction(L, cells_gc);
	lua_setfield(L, -2, "__gc");
	lua_setmetatable(L, -2);
}

int
fz_cells_no_memory(lua_State *L)
{
	struct fz_err err;

	fz_err_nomem(&err, "the upvalues of a pool");
	return fz_lerror_raise(L, &err);
}

void *
fz_cells_append(lua_State *L, struct fz_cells_list *list, size_t size)
{
	uint32_t cap = list->cap != 0 ? 2 * list->cap : CELLS_FIRST;
	void *items;

	if (list->n == list->cap) {
		items =
		    cap <= CELLS_MAX ? realloc(list->items, cap * size) : NULL;
		if (items == NULL)
			fz_cells_no_memory(L);
		list->items = items;
		list->cap = cap;
	}
	return (char *)list->items + size * list->n++;
}

/* ---- numbers ------------------------------------------------------------ */

/* The one with that number, made if need be. */
static struct fz_cell *
at_number(lua_State *L, struct fz_cells *c, uint32_t number)
{
	uint32_t cap = c->cap != 0 ? c->cap : CELLS_FIRST;
	struct fz_cell *list;

	if (number >= CELLS_MAX)
		fz_cells_no_memory(L);
	while (cap <= number)
		cap *= 2;
	if (cap != c->cap) {
		list = realloc(c->list, cap * sizeof(*list));
		if (list == NULL)
			fz_cells_no_memory(L);
		c->list = list;
		c->cap = cap;
	}
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

/* The function at `number` has upvalue `i` of the one at `f`. */
static void
hold(lua_State *L, int cells, uint32_t number, int f, int i)
{
	lua_getiuservalue(L, cells, FZ_CELLS_HOLDERS);
	/* An empty chunk has one upvalue. */
	if (luaL_loadbufferx(L, "", 0, "=cell", "t") != LUA_OK)
		lua_error(L);
	lua_upvaluejoin(L, -1, 1, f, i);
	lua_rawseti(L, -2, (lua_Integer)number + 1);
	lua_pop(L, 1);
}

uint32_t
fz_cells_take(lua_State *L, int cells, int f, int i, bool indexed)
{
	struct fz_cells *c = fz_cells_to(L, cells);
	uint32_t number = c->free != 0 ? c->free - 1 : c->n;
	const void *id = lua_upvalueid(L, f, i);

	f = lua_absindex(L, f);
	hold(L, cells, number, f, i);
	if (indexed) {
		lua_getiuservalue(L, cells, FZ_CELLS_INDEX);
		lua_pushinteger(L, (lua_Integer)number + 1);
		lua_rawsetp(L, -2, id);
		lua_pop(L, 1);
	}
	at_number(L, c, number);
	if (c->free != 0)
		c->free = c->list[number].next;
	c->list[number] = (struct fz_cell){ .used = true, .id = id };
	return number;
}

/* A copy is none of its base's any more. */
static void
unlink_copy(struct fz_cells *c, uint32_t number)
{
	const struct fz_cell *copy = &c->list[number];
	uint32_t *at = &c->list[copy->base - 1].copies;

	while (*at != number + 1)
		at = &c->list[*at - 1].next;
	*at = copy->next;
}

void
fz_cells_release(lua_State *L, int cells, uint32_t number)
{
	struct fz_cells *c = fz_cells_to(L, cells);
	lua_Integer key = (lua_Integer)number + 1;

	if (c->list[number].base != 0) {
		unlink_copy(c, number);
	} else {
		lua_getiuservalue(L, cells, FZ_CELLS_INDEX);
		lua_pushnil(L);
		lua_rawsetp(L, -2, c->list[number].id);
		lua_getiuservalue(L, cells, FZ_CELLS_NOTES);
		for (int sign = -1; sign <= 1; sign += 2) {
			lua_pushnil(L);
			lua_rawseti(L, -2, sign * key);
		}
		lua_pop(L, 2);
	}
	lua_getiuservalue(L, cells, FZ_CELLS_HOLDERS);
	lua_pushnil(L);
	lua_rawseti(L, -2, key);
	lua_pop(L, 1);
	c->list[number] = (struct fz_cell){ .next = c->free };
	c->free = number + 1;
}

/* ---- records ------------------------------------------------------------ */

static struct fz_cells_record *
to_record(lua_State *L, int record)
{
	struct fz_cells_record *r;

	lua_rawgeti(L, record, 0);
	r = lua_touserdata(L, -1);
	lua_pop(L, 1);
	return r;
}

bool
fz_cells_is_bare(lua_State *L, int record)
{
	return to_record(L, record)->nups == 0;
}

uint64_t
fz_cells_size(lua_State *L, int record)
{
	return to_record(L, record)->size;
}

const struct fz_cells_use *
fz_cells_find(lua_State *L, int record, const void *id)
{
	const struct fz_cells_record *r = to_record(L, record);
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

static void
leave(lua_State *L, int cells, uint32_t number)
{
	struct fz_cell *cell = &fz_cells_to(L, cells)->list[number];

	if (--cell->nrecords == 0)
		fz_cells_release(L, cells, number);
}

void
fz_cells_drop(lua_State *L, int record)
{
	struct fz_cells_record *r;
	int cells;

	luaL_checkstack(L, 8, NULL);
	lua_rawgeti(L, record, 0);
	r = lua_touserdata(L, -1);
	lua_getiuservalue(L, -1, 1);
	cells = lua_gettop(L);
	/* After the end of the cells there is nothing to leave. */
	for (uint32_t i = 0;
	     fz_cells_to(L, cells)->list != NULL && i < r->nuses; i++) {
		leave(L, cells, r->uses[i].number);
		if (r->uses[i].base != r->uses[i].number)
			leave(L, cells, r->uses[i].base);
	}
	r->nuses = 0;
	lua_pop(L, 2);
}

/* ---- in a worker -------------------------------------------------------- */

bool
fz_cells_join(
    lua_State *L, int cells, int f, int i, uint32_t number, uint64_t version)
{
	const struct fz_cells *c = fz_cells_to(L, cells);

	if (number >= c->n || !c->list[number].used ||
	    (version != 0 && c->list[number].version != version))
		return false;
	luaL_checkstack(L, 4, NULL);
	lua_getiuservalue(L, cells, FZ_CELLS_HOLDERS);
	lua_rawgeti(L, -1, (lua_Integer)number + 1);
	lua_upvaluejoin(L, f, i, -1, 1);
	lua_pop(L, 2);
	return true;
}

void
fz_cells_add(
    lua_State *L, int cells, int f, int i, uint32_t number, uint64_t version)
{
	struct fz_cell *cell = at_number(L, fz_cells_to(L, cells), number);

	if (cell->used && cell->version >= version)
		return;
	luaL_checkstack(L, 6, NULL);
	hold(L, cells, number, f, i);
	cell->used = true;
	cell->version = version;
}

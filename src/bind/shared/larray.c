#include "bind/open.h"

#include <limits.h>

#include <lauxlib.h>

#include "bind/shared/lhandle.h"
#include "bind/shared/llock.h"
#include "bind/shared/lnumber.h"
#include "shared/heap.h"

struct array {
	struct fz_object head;
	struct fz_llock lock; /* used only by array:with() */
	lua_Integer n;
	struct fz_number type;
	_Alignas(8) unsigned char numbers[];
};

static struct array *
check_array(lua_State *L, int idx)
{
	return fz_lhandle_check(L, idx, FZ_LHANDLE_ARRAY)->object;
}

/* The address of number `i`. Numbers are counted from 1. */
static void *
number_at(struct array *a, lua_Integer i)
{
	return a->numbers + (size_t)(i - 1) * a->type.size;
}

static void
push_at(lua_State *L, struct array *a, lua_Integer i)
{
	fz_number_push(L, a->type, fz_number_load(a->type, number_at(a, i)));
}

static void
fill_from_list(lua_State *L, struct array *a)
{
	for (lua_Integer i = 1; i <= a->n; i++) {
		const char *why;
		uint64_t bits;

		lua_geti(L, 2, i);
		why = fz_number_bits(L, -1, a->type, &bits);
		if (why != NULL)
			luaL_argerror(
			    L, 2, lua_pushfstring(L, "element %I: %s", i, why));
		fz_number_store(a->type, number_at(a, i), bits);
		lua_pop(L, 1);
	}
}

/* core.array(code, n | list) -> array */
static int
array_new(lua_State *L)
{
	struct fz_number type = fz_number_type(L, 1);
	bool listed = lua_type(L, 2) == LUA_TTABLE;
	lua_Integer n = listed ? luaL_len(L, 2) : luaL_checkinteger(L, 2);
	struct array *a;

	luaL_argcheck(L, n >= 0, 2, "must not be negative");
	luaL_argcheck(L,
	    (lua_Unsigned)n <= (PTRDIFF_MAX - sizeof(*a)) / type.size, 2,
	    "too many numbers");
	lua_settop(L, 2);
	a = fz_lhandle_new(
	    L, FZ_LHANDLE_ARRAY, sizeof(*a) + (size_t)n * type.size);
	a->lock.recursive = a->lock.brief = true;
	a->n = n;
	a->type = type;
	if (listed)
		fill_from_list(L, a);
	return 1;
}

static int
push_slice(lua_State *L, struct array *a, lua_Integer i, lua_Integer j)
{
	lua_Integer n = i <= j ? j - i + 1 : 0;

	luaL_argcheck(L, n <= INT_MAX, 1, "too many numbers for a table");
	lua_createtable(L, (int)n, 0);
	for (lua_Integer k = 1; k <= n; k++) {
		push_at(L, a, i + k - 1);
		lua_rawseti(L, -2, k);
	}
	return 1;
}

static int
array_totable(lua_State *L)
{
	struct array *a = check_array(L, 1);

	return push_slice(L, a, 1, a->n);
}

/* array:slice([i = 1 [, j = -1]]) -> list; i and j as in string.sub() */
static int
array_slice(lua_State *L)
{
	struct array *a = check_array(L, 1);
	lua_Integer i = luaL_optinteger(L, 2, 1);
	lua_Integer j = luaL_optinteger(L, 3, -1);

	if (i < 0)
		i = i < -a->n ? 1 : a->n + i + 1;
	if (i == 0)
		i = 1;
	if (j > a->n)
		j = a->n;
	else if (j < 0)
		j = j < -a->n ? 0 : a->n + j + 1;
	return push_slice(L, a, i, j);
}

/* array:fill(number): set all numbers of the array */
static int
array_fill(lua_State *L)
{
	struct array *a = check_array(L, 1);
	uint64_t bits;
	const char *why = fz_number_bits(L, 2, a->type, &bits);

	if (why != NULL)
		return luaL_argerror(L, 2, why);
	for (lua_Integer i = 1; i <= a->n; i++)
		fz_number_store(a->type, number_at(a, i), bits);
	return 0;
}

/* array:with(f) -> results of f(array) */
static int
array_with(lua_State *L)
{
	return fz_llock_with_object(L, &check_array(L, 1)->lock);
}

/* The integer at `idx` if it is an index of the array, else 0. */
static lua_Integer
index_at(lua_State *L, int idx, const struct array *a)
{
	int good;
	lua_Integer i = lua_tointegerx(L, idx, &good);

	return good && 1 <= i && i <= a->n ? i : 0;
}

/* array[i] or array.method. The upvalue is the table of methods. */
static int
array_index(lua_State *L)
{
	struct array *a = check_array(L, 1);
	lua_Integer i;

	if (lua_type(L, 2) != LUA_TNUMBER) {
		lua_settop(L, 2);
		lua_rawget(L, lua_upvalueindex(1));
		return 1;
	}
	i = index_at(L, 2, a);
	if (i == 0)
		lua_pushnil(L);
	else
		push_at(L, a, i);
	return 1;
}

static int
raise_index(lua_State *L, const struct array *a)
{
	if (lua_type(L, 2) != LUA_TNUMBER)
		return luaL_error(L, "an array's index is a number, not a %s",
		    luaL_typename(L, 2));
	lua_settop(L, 2);
	return luaL_error(
	    L, "index %s is outside an array of %I", lua_tostring(L, 2), a->n);
}

/* array[i] = number */
static int
array_newindex(lua_State *L)
{
	struct array *a = check_array(L, 1);
	lua_Integer i = 0;
	const char *why;
	uint64_t bits;

	if (lua_type(L, 2) == LUA_TNUMBER)
		i = index_at(L, 2, a);
	if (i == 0)
		return raise_index(L, a);
	why = fz_number_bits(L, 3, a->type, &bits);
	if (why != NULL)
		return luaL_error(L, "element %I: %s", i, why);
	fz_number_store(a->type, number_at(a, i), bits);
	return 0;
}

static int
array_len(lua_State *L)
{
	lua_pushinteger(L, check_array(L, 1)->n);
	return 1;
}

static const luaL_Reg methods[] = {
	{ "totable", array_totable },
	{ "slice", array_slice },
	{ "fill", array_fill },
	{ "with", array_with },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__index", array_index },
	{ "__newindex", array_newindex },
	{ "__len", array_len },
	{ NULL, NULL },
};

static const struct fz_lhandle_class class = {
	.name = "fzlua.Array", .methods = methods, .metamethods = metamethods
};

int
fz_larray_open(lua_State *L)
{
	fz_lhandle_class(L, FZ_LHANDLE_ARRAY, &class);
	lua_pushcfunction(L, array_new);
	lua_setfield(L, -2, "array");
	return 0;
}

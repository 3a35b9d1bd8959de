#include "bind/open.h"

#include <string.h>

#include <lauxlib.h>

#include "bind/shared/lhandle.h"
#include "bind/shared/llock.h"
#include "bind/shared/lnumber.h"
#include "shared/heap.h"

struct value {
	struct fz_object head;
	struct fz_llock lock; /* held during a change of the number */
	struct fz_number type;
	_Alignas(8) unsigned char number[8];
};

static struct value *
check_value(lua_State *L, int idx)
{
	return fz_lhandle_check(L, idx, FZ_LHANDLE_VALUE)->object;
}

/* core.value(code [, number = 0]) -> value */
static int
value_new(lua_State *L)
{
	struct fz_number type = fz_number_type(L, 1);
	const char *why = NULL;
	uint64_t bits = 0;
	struct value *value;

	if (!lua_isnoneornil(L, 2))
		why = fz_number_bits(L, 2, type, &bits);
	if (why != NULL)
		return luaL_argerror(L, 2, why);
	value = fz_lhandle_new(L, FZ_LHANDLE_VALUE, sizeof(*value));
	value->lock.recursive = value->lock.brief = true;
	value->type = type;
	fz_number_store(type, value->number, bits);
	return 1;
}

/* Add to the number. The caller holds the lock. */
static int
add(lua_State *L, struct value *value, union fz_number_term term)
{
	uint64_t bits = fz_number_load(value->type, value->number);
	bool fits = fz_number_add(value->type, &bits, term);

	if (fits)
		fz_number_store(value->type, value->number, bits);
	fz_llock_unhold(&value->lock);
	if (!fits)
		return luaL_error(
		    L, "the sum does not fit type '%c'", value->type.code);
	fz_number_push(L, value->type, bits);
	return 1;
}

static union fz_number_term
check_term(lua_State *L, const struct value *value)
{
	union fz_number_term term;
	const char *why = fz_number_term(L, 2, value->type, &term);

	if (why != NULL)
		luaL_argerror(L, 2, why);
	return term;
}

/*
 * Continuation of value_add() after a wait for the lock. The arguments have
 * been checked.
 */
static int
add_held(lua_State *L)
{
	struct value *value = check_value(L, 1);

	return add(L, value, check_term(L, value));
}

/* value:add(n) -> the new number */
static int
value_add(lua_State *L)
{
	struct value *value = check_value(L, 1);
	union fz_number_term term = check_term(L, value);

	if (fz_llock_hold(L, &value->lock))
		return add(L, value, term);
	return fz_llock_hold_late(L, &value->lock, add_held);
}

/* value:with(f) -> results of f(value) */
static int
value_with(lua_State *L)
{
	return fz_llock_with_object(L, &check_value(L, 1)->lock);
}

static bool
is_value(lua_State *L, int idx)
{
	return lua_type(L, idx) == LUA_TSTRING &&
	       strcmp(lua_tostring(L, idx), "value") == 0;
}

/* value.value or value.method. The upvalue is the table of methods. */
static int
value_index(lua_State *L)
{
	const struct value *value = check_value(L, 1);

	if (!is_value(L, 2)) {
		lua_settop(L, 2);
		lua_rawget(L, lua_upvalueindex(1));
		return 1;
	}
	fz_number_push(
	    L, value->type, fz_number_load(value->type, value->number));
	return 1;
}

static uint64_t
check_bits(lua_State *L, const struct value *value)
{
	uint64_t bits;
	const char *why = fz_number_bits(L, 3, value->type, &bits);

	if (why != NULL)
		luaL_error(L, "%s", why);
	return bits;
}

/* Set the number. The caller holds the lock. */
static int
set(struct value *value, uint64_t bits)
{
	fz_number_store(value->type, value->number, bits);
	fz_llock_unhold(&value->lock);
	return 0;
}

/*
 * Continuation of value_newindex() after a wait for the lock. The arguments
 * have been checked.
 */
static int
set_held(lua_State *L)
{
	struct value *value = check_value(L, 1);

	return set(value, check_bits(L, value));
}

/* value.value = number */
static int
value_newindex(lua_State *L)
{
	struct value *value = check_value(L, 1);
	uint64_t bits;

	if (!is_value(L, 2))
		return luaL_error(L, "a shared value has one field, 'value'");
	bits = check_bits(L, value);
	if (fz_llock_hold(L, &value->lock))
		return set(value, bits);
	return fz_llock_hold_late(L, &value->lock, set_held);
}

static const luaL_Reg methods[] = {
	{ "add", value_add },
	{ "with", value_with },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__index", value_index },
	{ "__newindex", value_newindex },
	{ NULL, NULL },
};

static const struct fz_lhandle_class class = {
	.name = "fzlua.Value", .methods = methods, .metamethods = metamethods
};

int
fz_lvalue_open(lua_State *L)
{
	fz_lhandle_class(L, FZ_LHANDLE_VALUE, &class);
	lua_pushcfunction(L, value_new);
	lua_setfield(L, -2, "value");
	return 0;
}

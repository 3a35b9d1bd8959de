#include "bind/jobs/lslots.h"

#include <lauxlib.h>

#include "base/err.h"
#include "bind/lloop.h"
#include "sched/slots.h"
#include "value/lerror.h"
#include "value/luserdata.h"

#define SLOTS_TYPE "fzlua.Slots"

static const struct fz_luserdata_class slots_class;
#define SLOTS_MAX 65536

struct lslots {
	struct fz_slots *slots; /* NULL: closed; pools may still use them */
};

struct fz_slots *
fz_lslots_check(lua_State *L, int idx)
{
	struct lslots *ls = luaL_checkudata(L, idx, SLOTS_TYPE);

	if (ls->slots == NULL)
		fz_lerror_fail(L, FZ_ERR_CLOSED,
		    "the slots that limit the jobs are closed");
	return ls->slots;
}

/* core.slots([n]) -> slots. If n is 0 or nil, the number is set later. */
static int
slots_new(lua_State *L)
{
	lua_Integer n = luaL_optinteger(L, 1, 0);
	struct lslots *ls = lua_newuserdatauv(L, sizeof(*ls), 0);
	struct fz_err err = { 0 };

	luaL_argcheck(L, 0 <= n && n <= SLOTS_MAX, 1, "out of range");
	ls->slots = NULL; /* so that __gc frees nothing if the creation fails */
	fz_luserdata_set(L, &slots_class);
	ls->slots = fz_slots_new(fz_lloop_engine(L), &err);
	if (ls->slots == NULL ||
	    (n != 0 && fz_slots_resize(ls->slots, (unsigned)n, &err) != 0))
		return fz_lerror_raise(L, &err);
	return 1;
}

/* slots:resize(n): while slots are in use, their number can only grow */
static int
slots_resize(lua_State *L)
{
	struct fz_slots *slots = fz_lslots_check(L, 1);
	lua_Integer n = luaL_checkinteger(L, 2);
	struct fz_err err = { 0 };

	luaL_argcheck(L, 1 <= n && n <= SLOTS_MAX, 2, "out of range");
	if (fz_slots_resize(slots, (unsigned)n, &err) != 0)
		return fz_lerror_raise(L, &err);
	return 0;
}

/* slots:close(): the slots still limit the pools that use them */
static int
slots_close(lua_State *L)
{
	struct lslots *ls = luaL_checkudata(L, 1, SLOTS_TYPE);

	fz_slots_unref(ls->slots);
	ls->slots = NULL;
	return 0;
}

static const luaL_Reg methods[] = {
	{ "resize", slots_resize },
	{ "close", slots_close },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", slots_close },
	{ "__close", slots_close },
	{ NULL, NULL },
};

static const struct fz_luserdata_class slots_class = {
	.name = SLOTS_TYPE, .methods = methods, .metamethods = metamethods
};

int
fz_lslots_open(lua_State *L)
{
	lua_pushcfunction(L, slots_new);
	lua_setfield(L, -2, "slots");
	return 0;
}

/* for getrandom, which is not in C11 */
#define _GNU_SOURCE
#include "bind/open.h"

#include <stdint.h>
#include <sys/random.h>

#include <lauxlib.h>

#include "base/clock.h"
#include "os/cpus.h"

struct machine {
	int ncpus; /* result of the last count; 0: not counted yet */
	int64_t counted_ns;
};

/* core.now() -> seconds of a clock that never goes back */
static int
machine_now(lua_State *L)
{
	lua_pushnumber(L, (double)fz_clock_ns() / (double)FZ_CLOCK_SECOND);
	return 1;
}

/* core.wall() -> seconds since 1970 */
static int
machine_wall(lua_State *L)
{
	lua_pushnumber(L, (double)fz_clock_wall_ns() / (double)FZ_CLOCK_SECOND);
	return 1;
}

/*
 * The number of processors. To count them reads many files, so the number is
 * kept for a second.
 */
static int
recent_cpus(struct machine *m)
{
	int64_t now_ns = fz_clock_ns();

	if (m->ncpus == 0 || now_ns - m->counted_ns >= FZ_CLOCK_SECOND) {
		m->ncpus = fz_cpus_count();
		m->counted_ns = now_ns;
	}
	return m->ncpus;
}

/*
 * core.cpu_count([physical]) -> n. Without an argument, the number may be a
 * second old.
 */
static int
machine_cpu_count(lua_State *L)
{
	if (lua_isnone(L, 1))
		lua_pushinteger(
		    L, recent_cpus(lua_touserdata(L, lua_upvalueindex(1))));
	else
		lua_pushinteger(L, lua_toboolean(L, 1) ? fz_cpus_count_cores()
						       : fz_cpus_count());
	return 1;
}

static int
machine_random_seed(lua_State *L)
{
	lua_Integer seed;

	if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		seed = fz_clock_ns();
	lua_pushinteger(L, seed);
	return 1;
}

static const luaL_Reg functions[] = {
	{ "now", machine_now },
	{ "wall", machine_wall },
	{ "cpu_count", machine_cpu_count },
	{ "random_seed", machine_random_seed },
	{ NULL, NULL },
};

int
fz_lmachine_open(lua_State *L)
{
	struct machine *m = lua_newuserdatauv(L, sizeof(*m), 0);

	*m = (struct machine){ 0 };
	luaL_setfuncs(L, functions, 1);
	return 0;
}

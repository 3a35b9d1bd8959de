#include "bind/open.h"

#include <lauxlib.h>

#include "bind/lloop.h"
#include "bind/shared/lguard.h"
#include "bind/shared/lshared.h"
#include "os/process.h"
#include "proc/proctree.h"
#include "shared/heap.h"
#include "worker/worker.h"

/* core.member() -> number of this process, which is unique in the run */
static int
member_self(lua_State *L)
{
	lua_pushinteger(L, fz_lshared_join(L, fz_lshared(L)));
	return 1;
}

static uint32_t
check_member(lua_State *L)
{
	lua_Integer member = luaL_checkinteger(L, 1);

	luaL_argcheck(L, 0 < member && member <= UINT32_MAX, 1, "out of range");
	return (uint32_t)member;
}

static int
member_alive(lua_State *L)
{
	lua_pushboolean(L, fz_heap_alive(check_member(L)));
	return 1;
}

static bool
rests(const void *engine, pid_t pid)
{
	return fz_worker_is_resting(engine, pid);
}

/*
 * Whether the parent of this process, or another child of the parent, may have
 * an object that this process uses, although it is not a member yet.
 */
static bool
parent_may_share(const struct fz_lshared *shared, uint32_t self)
{
	return fz_process.parent != 0 &&
	       (shared->has_sent || !fz_heap_is_only(self));
}

/*
 * core.is_alone() -> whether no other process is a member or may become a
 * member. A worker without a job is not counted, but the processes that it has
 * started are.
 */
static int
member_is_alone(lua_State *L)
{
	const struct fz_engine *engine = fz_lloop_engine(L);
	const struct fz_lshared *shared = fz_lshared(L);
	uint32_t self = fz_lshared_member(shared);

	lua_pushboolean(L, !parent_may_share(shared, self) &&
			       fz_heap_is_alone(self, rests, engine) &&
			       !fz_proctree_has_others(rests, engine));
	return 1;
}

enum { WORK_INSTRUCTIONS = 1000 }; /* Lua instructions between two checks */

/*
 * After its first error the hook raises at every instruction until the work
 * ends, so that a function that catches the error in a loop ends, too.
 */
static void
work_hook(lua_State *L, lua_Debug *ar)
{
	uint32_t works_for = *fz_lloop_works_for(L);

	(void)ar;
	if (works_for == 0) {
		lua_sethook(L, NULL, 0, 0);
		return;
	}
	/*
	 * Do not set the hook at each check, because lua_sethook() visits all
	 * calls of L.
	 */
	if (!fz_heap_alive(works_for))
		lua_sethook(L, work_hook, LUA_MASKCOUNT, 1);
	fz_lloop_check(L);
	if (lua_gethookcount(L) != WORK_INSTRUCTIONS)
		lua_sethook(L, work_hook, LUA_MASKCOUNT, WORK_INSTRUCTIONS);
}

static void
end_work(struct fz_lguard *guard)
{
	*(uint32_t *)guard->of = guard->before;
}

static int
begin_work(lua_State *L, struct fz_lguard *guard, fz_lguard_then then)
{
	uint32_t *works_for = guard->of;

	guard->before = *works_for;
	guard->release = end_work;
	*works_for = (uint32_t)lua_tointeger(L, 1);
	lua_sethook(L, work_hook, LUA_MASKCOUNT, WORK_INSTRUCTIONS);
	return then(L, guard, false);
}

/*
 * core.work_for(member, f, ...) -> results of f. If the process `member` dies,
 * an error ends f at its next instruction or wait.
 */
static int
member_work_for(lua_State *L)
{
	check_member(L);
	return fz_lguard_with(L, begin_work, fz_lloop_works_for(L));
}

static const luaL_Reg functions[] = {
	{ "member", member_self },
	{ "alive", member_alive },
	{ "is_alone", member_is_alone },
	{ "work_for", member_work_for },
	{ NULL, NULL },
};

int
fz_lmember_open(lua_State *L)
{
	luaL_setfuncs(L, functions, 0);
	return 0;
}

#include "bind/ltask.h"

#include <lauxlib.h>
#include <lualib.h>

#include "bind/linterrupt.h"
#include "bind/llimit.h"
#include "bind/lloop.h"
#include "shared/heap.h"
#include "value/lerror.h"
#include "value/luserdata.h"

#define PASSED_TYPE "fzlua.Passed"

static const struct fz_luserdata_class passed_class;

/*
 * A userdata on the stack of a function that has resumed a coroutine. It is
 * pushed before the function passes on the first wait of the coroutine. If the
 * task is closed during a wait, __close of the userdata closes the coroutine.
 */
struct passed {
	/* the coroutine, while a wait may suspend it; else NULL */
	lua_State *co;
};

/*
 * The address of this variable is the registry key of the set of coroutines
 * that are suspended by a wait.
 */
static const char passed_key;

/*
 * The tasks of this state. They are an upvalue, and not in the loop, because
 * finalizers may use them after the loop is freed.
 */
static struct fz_ltasks *
tasks_of(lua_State *L)
{
	return lua_touserdata(L, lua_upvalueindex(1));
}

bool
fz_ltask_is_running(lua_State *L)
{
	return fz_lloop_tasks(L)->yields == L && lua_isyieldable(L);
}

void
fz_ltask_wait(lua_State *L)
{
	fz_lloop_tasks(L)->waits = true;
}

/* Resume `co`, which has its arguments. Its waits may yield if `yields`. */
static inline int
run(struct fz_ltasks *tasks, lua_State *L, lua_State *co, int nargs, int *nres,
    bool yields)
{
	struct fz_linterrupt *interrupt = tasks->interrupt;
	lua_State *outer = fz_linterrupt_enter(&interrupt->coroutine, co);
	lua_State *yields_outside = tasks->yields;
	int status;

	tasks->yields = yields ? co : NULL;
	tasks->waits = false;
	status = lua_resume(co, L, nargs, nres);
	fz_linterrupt_leave(interrupt, &interrupt->coroutine, outer);
	tasks->yields = yields_outside;
	return status;
}

/*
 * Resume `co` with the `nargs` values on top of L, as the Lua library does.
 * Returns the number of results on top of L, or -1 if an error is on top of L.
 */
static inline int
resume(struct fz_ltasks *tasks, lua_State *L, lua_State *co, int nargs)
{
	int nres, status;

	if (nargs != 0 && !lua_checkstack(co, nargs)) {
		lua_pushliteral(L, "too many arguments to resume");
		return -1;
	}
	if (nargs != 0)
		lua_xmove(L, co, nargs);
	status = run(tasks, L, co, nargs, &nres,
	    tasks->yields == L && lua_isyieldable(L));
	if (status != LUA_OK && status != LUA_YIELD) {
		lua_xmove(co, L, 1);
		return -1;
	}
	if (nres == 0)
		return 0;
	if (!lua_checkstack(L, nres + 1)) {
		lua_pop(co, nres);
		lua_pushliteral(L, "too many results to resume");
		return -1;
	}
	lua_xmove(co, L, nres);
	return nres;
}

/* Close the variables of `co`. The releases of Lua 5.4 differ in this. */
static int
close_thread(lua_State *co, lua_State *from)
{
#if LUA_VERSION_RELEASE_NUM >= 50406
	return lua_closethread(co, from);
#elif LUA_VERSION_RELEASE_NUM == 50405
	return lua_resetthread(co, from);
#else
	(void)from;
	return lua_resetthread(co);
#endif
}

/*
 * Close the variables of `co`. Waits in their __close functions do not yield.
 */
static int
close_running(struct fz_ltasks *tasks, lua_State *L, lua_State *co)
{
	struct fz_linterrupt *interrupt = tasks->interrupt;
	lua_State *outer = fz_linterrupt_enter(&interrupt->coroutine, co);
	lua_State *yields_outside = tasks->yields;
	int status;

	tasks->yields = NULL;
	status = close_thread(co, L);
	fz_linterrupt_leave(interrupt, &interrupt->coroutine, outer);
	tasks->yields = yields_outside;
	return status;
}

/*
 * Close the variables of `co`, which ended with an error; the error is on top
 * of L and has `status`. An error in a __close replaces it. Before Lua 5.4.3
 * only an error in a __close is left in `co`; later versions leave either error
 * there. Returns the status of the error on top of L.
 */
static int
close_variables(lua_State *L, lua_State *co, int status)
{
	int closed = close_thread(co, L);

	if (closed == LUA_OK)
		return status;
	lua_xmove(co, L, 1);
	return closed;
}

/* Note whether `co` is suspended by a wait. */
static void
set_passed(lua_State *L, struct passed *passed, lua_State *co)
{
	struct fz_ltasks *tasks = fz_lloop_tasks(L);

	luaL_checkstack(L, 2, NULL);
	lua_rawgetp(L, LUA_REGISTRYINDEX, &passed_key);
	if (co == NULL)
		lua_pushnil(L);
	else
		lua_pushboolean(L, 1);
	lua_rawsetp(L, -2, co != NULL ? co : passed->co);
	lua_pop(L, 1);
	tasks->npassed += co != NULL;
	tasks->npassed -= passed->co != NULL;
	passed->co = co;
}

/* Whether a task waits in `co`. If so, no other task may resume `co`. */
static bool
is_passed(lua_State *L, const lua_State *co)
{
	bool found;

	luaL_checkstack(L, 2, NULL);
	lua_rawgetp(L, LUA_REGISTRYINDEX, &passed_key);
	found = lua_rawgetp(L, -1, co) != LUA_TNIL;
	lua_pop(L, 2);
	return found;
}

/* Finalizer of a struct passed: the task was dropped. */
static int
passed_gc(lua_State *L)
{
	struct passed *passed = luaL_checkudata(L, 1, PASSED_TYPE);

	if (passed->co != NULL)
		set_passed(L, passed, NULL);
	return 0;
}

static int
passed_close(lua_State *L)
{
	struct passed *passed = luaL_checkudata(L, 1, PASSED_TYPE);
	lua_State *co = passed->co;

	passed_gc(L);
	if (co == NULL || close_running(fz_lloop_tasks(L), L, co) == LUA_OK)
		return 0;
	lua_xmove(co, L, 1);
	return lua_error(L);
}

/*
 * Yield, because `co` has yielded in a wait. The value of that yield is on top
 * of L. `at` is the index of the struct passed; 0: not pushed yet.
 */
static int
pass_on(lua_State *L, lua_State *co, int at, lua_KFunction continued)
{
	struct passed *passed;

	if (at == 0) {
		luaL_checkstack(L, 3, NULL);
		passed = lua_newuserdatauv(L, sizeof(*passed), 0);
		passed->co = NULL;
		fz_luserdata_set(L, &passed_class);
		lua_toclose(L, -1);
		at = lua_gettop(L);
		lua_pushvalue(L, at - 1);
	}
	passed = lua_touserdata(L, at);
	set_passed(L, passed, co);
	return lua_yieldk(L, 1, at, continued);
}

/*
 * Resume `co`. Returns whether `co` waits. The caller must then pass on the
 * wait.
 */
static inline bool
waits_after(lua_State *L, lua_State *co, int nargs, int at, int *n)
{
	struct fz_ltasks *tasks = tasks_of(L);

	if (at != 0)
		set_passed(L, lua_touserdata(L, at), NULL);
	if (tasks->npassed != 0 && is_passed(L, co)) {
		lua_pushliteral(L, "cannot resume a coroutine in which another "
				   "task waits");
		*n = -1;
		return false;
	}
	*n = resume(tasks, L, co, nargs);
	return *n == 1 && tasks->waits;
}

static int resume_continued(lua_State *L, int status, lua_KContext ctx);

static int
resume_with(lua_State *L, int nargs, int at)
{
	lua_State *co = lua_tothread(L, 1);
	int n;

	if (waits_after(L, co, nargs, at, &n))
		return pass_on(L, co, at, resume_continued);
	lua_pushboolean(L, n >= 0);
	n = n >= 0 ? n : 1;
	lua_insert(L, -(n + 1));
	return n + 1;
}

/* After a wait that was passed on. The struct passed is at index `ctx`. */
static int
resume_continued(lua_State *L, int status, lua_KContext ctx)
{
	(void)status;
	return resume_with(L, lua_gettop(L) - (int)ctx, (int)ctx);
}

/* replaces coroutine.resume */
static int
coroutine_resume(lua_State *L)
{
	luaL_argexpected(L, lua_isthread(L, 1), 1, "thread");
	return resume_with(L, lua_gettop(L) - 1, 0);
}

/* Raise the error of `co`, which is on top of L, as coroutine.wrap does. */
static int
raise_wrapped(lua_State *L, lua_State *co)
{
	int status = lua_status(co);

	if (status != LUA_OK && status != LUA_YIELD)
		status = close_variables(L, co, status);
	if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
		luaL_where(L, 1);
		lua_insert(L, -2);
		lua_concat(L, 2);
	}
	return lua_error(L);
}

static int call_continued(lua_State *L, int status, lua_KContext ctx);

static int
call_with(lua_State *L, int nargs, int at)
{
	lua_State *co = lua_tothread(L, lua_upvalueindex(2));
	int n;

	if (waits_after(L, co, nargs, at, &n))
		return pass_on(L, co, at, call_continued);
	return n >= 0 ? n : raise_wrapped(L, co);
}

static int
call_continued(lua_State *L, int status, lua_KContext ctx)
{
	(void)status;
	return call_with(L, lua_gettop(L) - (int)ctx, (int)ctx);
}

/* The function that coroutine.wrap returns. Its upvalue 2 is the coroutine. */
static int
coroutine_call(lua_State *L)
{
	return call_with(L, lua_gettop(L), 0);
}

/* replaces coroutine.wrap */
static int
coroutine_wrap(lua_State *L)
{
	lua_State *co;

	luaL_checktype(L, 1, LUA_TFUNCTION);
	fz_llimit_refuse(L, tasks_of(L)->limit);
	lua_pushvalue(L, lua_upvalueindex(1));
	co = lua_newthread(L);
	lua_pushvalue(L, 1);
	lua_xmove(L, co, 1);
	lua_pushcclosure(L, coroutine_call, 2);
	return 1;
}

static const luaL_Reg replaced[] = {
	{ "resume", coroutine_resume },
	{ "wrap", coroutine_wrap },
	{ NULL, NULL },
};

void
fz_ltask_follow_coroutines(lua_State *L)
{
	luaL_checkstack(L, 3, NULL);
	if (lua_getglobal(L, LUA_COLIBNAME) == LUA_TTABLE) {
		lua_pushlightuserdata(L, fz_lloop_tasks(L));
		luaL_setfuncs(L, replaced, 1);
	}
	lua_pop(L, 1);
}

/* core.follow_coroutines(): let waits in the user's coroutines yield */
static int
follow_coroutines(lua_State *L)
{
	fz_ltask_follow_coroutines(L);
	return 0;
}

/* core.task_new(f, ...) -> a coroutine to call f(...), number of the task */
static int
task_new(lua_State *L)
{
	struct fz_ltasks *tasks = tasks_of(L);
	int n = lua_gettop(L);
	lua_State *co;

	/* In a child that the host has forked, drop the tasks of the parent. */
	fz_lloop_enter(L);
	co = lua_newthread(L);
	lua_insert(L, 1);
	if (!lua_checkstack(co, n))
		return luaL_error(L, "too many arguments");
	lua_xmove(L, co, n);
	tasks->live++;
	lua_pushinteger(L, ++tasks->last);
	return 2;
}

/* Push the error of a task whose coroutine has yielded outside of a wait. */
static int
push_misuse(lua_State *L)
{
	lua_pushboolean(L, 0);
	fz_lerror_push(L, FZ_ERR_ERROR,
	    "a task called coroutine.yield(), but not in a coroutine that it "
	    "resumes");
	return 2;
}

/*
 * `co` is suspended in a wait: push the object for which it waits. The `nres`
 * values that `co` has yielded are on top of its stack.
 */
static int
push_wait(lua_State *L, struct fz_ltasks *tasks, lua_State *co, int nres)
{
	bool waits = tasks->waits;

	tasks->waits = false;
	if (!waits) {
		tasks->advances++;
		lua_pop(co, nres);
		return push_misuse(L);
	}
	lua_pushnil(L);
	lua_xmove(co, L, 1);
	/*
	 * Do not count a resumption that ends in a wait in C, because the task
	 * has only begun a wait or tried it again.
	 */
	if (lua_type(L, -1) != LUA_TLIGHTUSERDATA)
		tasks->advances++;
	return 2;
}

/* Push an error, because a task has returned, but has exceeded a limit. */
static int
push_over(lua_State *L)
{
	lua_pushboolean(L, 0);
	lua_pushcfunction(L, fz_llimit_raise);
	lua_pcall(L, 0, 0, 0);
	return 2;
}

/*
 * core.task_run(coroutine, number) -> true | false, error | nil, object of the
 * wait. The object is a wait in C, or the argument of suspend(). After an error
 * the caller calls task_close().
 */
static int
task_run(lua_State *L)
{
	struct fz_ltasks *tasks = tasks_of(L);
	lua_State *co = lua_tothread(L, 1);
	uint32_t outer = tasks->own->task;
	int nargs = lua_status(co) == LUA_OK ? lua_gettop(co) - 1 : 0;
	struct fz_llimit_hook hook;
	int nres, status;

	tasks->own->task = (uint32_t)lua_tointeger(L, 2);
	fz_llimit_begin(tasks->limit, co, &hook);
	status = run(tasks, L, co, nargs, &nres, true);
	fz_llimit_end(tasks->limit, co, &hook);
	tasks->own->task = outer;
	if (status == LUA_YIELD)
		return push_wait(L, tasks, co, nres);
	tasks->advances++;
	if (status == LUA_OK && fz_llimit_was_over(tasks->limit, &hook))
		return push_over(L);
	lua_pushboolean(L, status == LUA_OK);
	if (status == LUA_OK) {
		tasks->live--;
		return 1;
	}
	lua_pushvalue(co, -1);
	lua_xmove(co, L, 1);
	return 2;
}

/* core.task_results(coroutine) -> the results of a task that has returned */
static int
task_results(lua_State *L)
{
	lua_State *co = lua_tothread(L, 1);
	int n = lua_gettop(co);

	luaL_checkstack(L, n, "too many results");
	lua_xmove(co, L, n);
	return n;
}

/*
 * core.task_close(coroutine, number) -> true | false, error. Ends a task that
 * has not ended or has failed, and closes its variables.
 */
static int
task_close(lua_State *L)
{
	struct fz_ltasks *tasks = tasks_of(L);
	lua_State *co = lua_tothread(L, 1);
	uint32_t outer = tasks->own->task;
	int status;

	tasks->live--;
	tasks->own->task = (uint32_t)lua_tointeger(L, 2);
	status = close_running(tasks, L, co);
	tasks->own->task = outer;
	lua_pushboolean(L, status == LUA_OK);
	if (status == LUA_OK)
		return 1;
	lua_xmove(co, L, 1);
	return 2;
}

/*
 * core.suspend([again]): suspend the running task. Returns nothing when the
 * scheduler has resumed the task, or false at once if waits of the caller do
 * not yield. `again` is true if the task stays ready.
 */
static int
suspend(lua_State *L)
{
	struct fz_ltasks *tasks = tasks_of(L);

	if (tasks->yields != L || !lua_isyieldable(L)) {
		lua_pushboolean(L, 0);
		return 1;
	}
	tasks->waits = true;
	lua_settop(L, 1);
	return lua_yield(L, 1);
}

static const luaL_Reg functions[] = {
	{ "task_new", task_new },
	{ "task_run", task_run },
	{ "task_results", task_results },
	{ "task_close", task_close },
	{ "suspend", suspend },
	{ "follow_coroutines", follow_coroutines },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__close", passed_close },
	{ "__gc", passed_gc },
	{ NULL, NULL },
};

static const struct fz_luserdata_class passed_class = { .name = PASSED_TYPE,
	.metamethods = metamethods };

int
fz_ltask_open(lua_State *L)
{
	lua_pushlightuserdata(L, fz_lloop_tasks(L));
	luaL_setfuncs(L, functions, 1);
	lua_newtable(L);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &passed_key);
	return 0;
}

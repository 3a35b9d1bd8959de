/* sigaction is POSIX, which -std=c11 hides. */
#define _GNU_SOURCE
#include "cli/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lualib.h>

#include "bind/lloop.h"
#include "cli/make.h"
#include "value/lerror.h"

/* State for the handler of SIGINT; a process has one command. */
static lua_State *main_state;
static volatile sig_atomic_t interrupted; /* set until the error is raised */
static int wake_fd = -1;
static lua_State *volatile *running_state;    /* it runs a call of jobs = 0 */
static lua_State *volatile running_coroutine; /* the innermost, or NULL */

static void
raise_interrupted(lua_State *L, lua_Debug *ar)
{
	(void)ar;
	lua_sethook(L, NULL, 0, 0);
	if (!interrupted)
		return; /* a wait has raised the error */
	interrupted = 0;
	fz_lerror_push(L, FZ_ERR_INTERRUPTED, "interrupted");
	lua_error(L);
}

/*
 * The first Ctrl-C raises an error in the Lua code that runs or waits; a second
 * one ends the process.
 */
static void
on_interrupt(int sig)
{
	const int mask =
	    LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT;
	lua_State *running = *running_state;
	lua_State *coroutine = running_coroutine;
	int saved = errno;

	fz_make_end_by_signal(sig);
	interrupted = 1;
	lua_sethook(main_state, raise_interrupted, mask, 1);
	if (running != NULL)
		lua_sethook(running, raise_interrupted, mask, 1);
	if (coroutine != NULL)
		lua_sethook(coroutine, raise_interrupted, mask, 1);
	if (wake_fd >= 0 && write(wake_fd, "", 1) < 0)
		errno = 0; /* a full pipe wakes the loop, too */
	errno = saved;
}

void
fz_interrupt_uncatch(void)
{
	struct sigaction action;

	if (sigaction(SIGINT, NULL, &action) != 0 ||
	    action.sa_handler != on_interrupt)
		return;
	action.sa_handler = fz_make_end_by_signal;
	action.sa_flags = SA_RESTART;
	sigaction(SIGINT, &action, NULL);
}

/* A finalizer: the state is about to be freed. */
static int
state_closes(lua_State *L)
{
	(void)L;
	fz_interrupt_uncatch();
	return 0;
}

/*
 * Call state_closes() when the state is closed. Finalizers run in the reverse
 * order of their creation: this one after those of the script, but before that
 * of the loop, whose descriptor the handler writes to.
 */
static void
watch_close(lua_State *L)
{
	lua_newtable(L);
	lua_createtable(L, 0, 1);
	lua_pushcfunction(L, state_closes);
	lua_setfield(L, -2, "__gc");
	lua_setmetatable(L, -2);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &main_state);
}

void
fz_interrupt_catch(lua_State *L)
{
	struct sigaction action;

	watch_close(L);
	main_state = L;
	wake_fd = fz_lloop_wake_fd(L);
	running_state = fz_lloop_running(L);
	fz_lloop_interrupt(L, &interrupted);
	if (sigaction(SIGINT, NULL, &action) != 0 ||
	    action.sa_handler == SIG_IGN)
		return;
	memset(&action, 0, sizeof(action));
	action.sa_handler = on_interrupt;
	sigaction(SIGINT, &action, NULL);
}

/*
 * Resume `co` with the `nargs` values on top of L, as the Lua library does, and
 * note that it runs. Returns how many results are on top of L, or -1 with the
 * error on top.
 */
static int
resume(lua_State *L, lua_State *co, int nargs)
{
	lua_State *outer = running_coroutine;
	int nres, status;

	if (!lua_checkstack(co, nargs)) {
		lua_pushliteral(L, "too many arguments to resume");
		return -1;
	}
	lua_xmove(L, co, nargs);
	running_coroutine = co;
	status = lua_resume(co, L, nargs, &nres);
	running_coroutine = outer;
	if (status != LUA_OK && status != LUA_YIELD) {
		lua_xmove(co, L, 1);
		return -1;
	}
	if (!lua_checkstack(L, nres + 1)) {
		lua_pop(co, nres);
		lua_pushliteral(L, "too many results to resume");
		return -1;
	}
	lua_xmove(co, L, nres);
	return nres;
}

/* coroutine.resume */
static int
coroutine_resume(lua_State *L)
{
	lua_State *co = lua_tothread(L, 1);
	int n;

	luaL_argexpected(L, co != NULL, 1, "thread");
	n = resume(L, co, lua_gettop(L) - 1);
	lua_pushboolean(L, n >= 0);
	n = n >= 0 ? n : 1;
	lua_insert(L, -(n + 1));
	return n + 1;
}

/* The name and the arguments of this function changed twice in Lua 5.4. */
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
 * Close the variables of `co`, which ended with an error; the error is on top
 * of L and has `status`. An error in a __close replaces it. Before Lua 5.4.3
 * only such an error is left in `co`, later versions leave either one there.
 * Returns the status of the error on top of L.
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

/* The function that coroutine.wrap returns; its upvalue is the coroutine. */
static int
coroutine_call(lua_State *L)
{
	lua_State *co = lua_tothread(L, lua_upvalueindex(1));
	int n = resume(L, co, lua_gettop(L));
	int status;

	if (n >= 0)
		return n;
	status = lua_status(co);
	if (status != LUA_OK && status != LUA_YIELD)
		status = close_variables(L, co, status);
	if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
		luaL_where(L, 1);
		lua_insert(L, -2);
		lua_concat(L, 2);
	}
	return lua_error(L);
}

/* coroutine.wrap */
static int
coroutine_wrap(lua_State *L)
{
	lua_State *co;

	luaL_checktype(L, 1, LUA_TFUNCTION);
	co = lua_newthread(L);
	lua_pushvalue(L, 1);
	lua_xmove(L, co, 1);
	lua_pushcclosure(L, coroutine_call, 1);
	return 1;
}

void
fz_interrupt_follow_coroutines(lua_State *L)
{
	lua_getglobal(L, LUA_COLIBNAME);
	lua_pushcfunction(L, coroutine_resume);
	lua_setfield(L, -2, "resume");
	lua_pushcfunction(L, coroutine_wrap);
	lua_setfield(L, -2, "wrap");
	lua_pop(L, 1);
}
